"""Introduces faults into the code, one at a time, and shows whether and at which stage `regress.py check` detects them.

    python tests/mutants.py                # all of them, as a table; `make mutants`
    python tests/mutants.py --only NAME    # some

Named mutants are mistakes that people make; generated mutants change an operator, an axis or a constant of a line that
the reference files run. Each is applied to a copy in memory, in a process that was forked before any TensorFlow session
existed. It computes the files whose graph runs the changed line, until one differs beyond its tolerance. Named mutants
of lines that no file runs have a test of `tests/` in place of a file, which must fail.
"""
import ast
import collections
import contextlib
import importlib.abc
import importlib.util
import io
import json
import os
import resource
import signal
import sys
import time
import tokenize
import types

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

# The parent imports TensorFlow and Keras, which saves each forked process seconds.
import tf_session  # noqa: E402, F401  the folder above must be on the path first
import keras.layers  # noqa: E402
import keras.optimizers  # noqa: E402, F401
import numpy as np  # noqa: E402

from command_line import CommandParser, run_command, tell  # noqa: E402
from parity import compare  # noqa: E402
from named_mutants import KERAS, NAMED, TEST, Mutant  # noqa: E402
from reports.progress import Progress  # noqa: E402

GENERATED = ('attention', 'decoder_cell', 'seq2seq_model', 'pointer_generator', 'beam_search')
# Gradients by hand are there: for a mutant of one of its modules, the gradients are compared too.
BY_HAND = 'kernels.'
SECONDS = 40        # limit of processor time, for mutants that do not end
# Files that together run all lines that the whole set runs; the first ones run most of them: local attention, blocked
# n-grams, input feeding, copies, depth, penalties.
VARIED = ('local-m-lstm', 'copy-gru', 'dot-gru', 'general-lstm', 'local-p-gru', 'concat-lstm', 'concat-gru',
          'none-lstm', 'scaled_dot-lstm', 'location-gru', 'dot-lstm', 'copy-lstm', 'train-adam')


# Generating

SWAPPED = {'+': '-', '-': '+', '*': '/', '/': '*', '//': '*', '<': '<=', '<=': '<', '>': '>=', '>=': '>', '==': '!=',
           '&': '|', '|': '&', 'and': 'or', 'or': 'and', 'is': 'is not', 'True': 'False', 'False': 'True',
           'logical_and': 'logical_or', 'reduce_max': 'reduce_min', 'reduce_any': 'reduce_all'}


def path_of(module):
    return os.path.join(ROOT, *module.split('.')) + '.py'


def source_of(module):
    path = importlib.import_module(module).__file__ if module == KERAS else path_of(module)
    with open(path, encoding='utf-8') as stream:
        return stream.read(), path


def changed_number(text):
    return repr(float(text) * 2. + (float(text) == 0)) if set(text) & set('.e') else str(int(text) + 1)


def checks(source):
    """Returns the lines of each `if` that only raises: a check of inputs has no outputs."""
    return {line for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise)
            for line in range(node.lineno, node.body[0].lineno)}


def generate(module, lines):
    """Returns every `Mutant` of an operator, an axis or a constant in the given lines of a module."""
    source, _ = source_of(module)
    lines, rows, mutants = set(lines) - checks(source), source.split('\n'), []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (number, start), (_, end) = token.start, token.end
        if number not in lines or token.type not in (tokenize.OP, tokenize.NAME, tokenize.NUMBER):
            continue
        row = rows[number - 1]
        if token.type == tokenize.NUMBER:
            new = changed_number(token.string)
        elif token.string in SWAPPED and not (token.string in '*' and not row[:start].rstrip()[-1:].isalnum()):
            new = SWAPPED[token.string]
        else:
            continue
        changed = row[:start] + new + row[end:]
        mutant = Mutant('%s:%d %s -> %s, column %d' % (module, number, token.string, new, start + 1), module, row,
                        changed, number, (), None)
        try:
            compile(mutated(mutant)[0], module, 'exec')
        except SyntaxError:
            continue
        mutants.append(mutant)
    return mutants


def mutated(mutant):
    """Returns the changed source of a mutant's module and the path of the module."""
    source, path = source_of(mutant.module)
    if mutant.line:
        rows = source.split('\n')
        assert rows[mutant.line - 1] == mutant.old
        rows[mutant.line - 1] = mutant.new
        return '\n'.join(rows), path
    assert source.count(mutant.old) == 1, '%s: %r occurs %d times' % (mutant.name, mutant.old, source.count(mutant.old))
    return source.replace(mutant.old, mutant.new), path


# Running

class ChangedModule(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, and executes the given source in place of its file."""

    def __init__(self, name, source, path):
        self.name, self.source, self.path = name, source, path

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            return importlib.util.spec_from_file_location(name, self.path, loader=self)
        return None

    def exec_module(self, module):
        module.keras_layers = keras.layers      # for named mutants
        exec(compile(self.source, self.path, 'exec'), module.__dict__)


def install(mutant):
    """Makes later imports of the mutant's module return the changed module."""
    source, path = mutated(mutant)
    assert mutant.module == KERAS or mutant.module not in sys.modules, '%s is imported already' % mutant.module
    if mutant.module == KERAS:
        original, module = sys.modules[KERAS], types.ModuleType(KERAS)
        module.__file__, module.__package__ = path, 'keras.layers'
        exec(compile(source, path, 'exec'), module.__dict__)
        original.LSTMCell.call = module.LSTMCell.call
        return
    sys.meta_path.insert(0, ChangedModule(mutant.module, source, path))


def forked(function):
    """Runs `function()` in a forked process; returns its result or how it failed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            result = {'returned': function()}
        except BaseException as error:
            result = {'raised': type(error).__name__}
        with os.fdopen(writing, 'w') as stream:
            json.dump(result, stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(text) if text else {'raised': 'no end' if os.WTERMSIG(status) == signal.SIGXCPU else
                                          'signal %d' % os.WTERMSIG(status)}


def first_difference(file, recorded, manifest, searches, gradients=False):
    """Computes a file with the installed code; returns the first `compare.Result` that differs."""
    from reference import outputs
    entry, arrays, left_out = manifest['files'][file], recorded[file], {} if gradients else {'padded/gradient': None}
    if entry['kind'] == 'training':
        computed = outputs.training_outputs(entry, arrays, 'float32')
    else:
        computed = outputs.case_outputs(entry, arrays, 'float32', gradients=gradients, searches=searches)
    if not searches:
        left_out.update({'%s/%s' % (batch, name): None for batch in compare.BATCHES for name in ('greedy', 'beam')})
    return compare.first_difference(compare.compare_sets({file: arrays}, {file: computed}, manifest, None, left_out)[0])


def failing_test(test):
    """Runs a test with the installed code; returns `TEST` if it fails, '' if it passes."""
    import pytest
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = pytest.main(['-q', '-x', '-m', 'not slow', '-p', 'no:cacheprovider', os.path.join(ROOT, test)])
    if code > 1:
        raise RuntimeError('%s: %s' % (test, printed.getvalue()))
    return TEST if code else ''


def try_mutant(mutant, recorded, manifest):
    """Returns (stage that differs first or '', file, seconds) of a mutant."""
    started, file = time.time(), ''
    for file in mutant.files:
        def run():
            install(mutant)
            if '::' in file:
                return failing_test(file)
            # Most mutants show before any search, and the searches double the time.
            first = None if mutant.module == 'beam_search' else first_difference(
                file, recorded, manifest, False, mutant.module.startswith(BY_HAND))
            first = first or first_difference(file, recorded, manifest, True)
            return first.stage if first else ''
        outcome = forked(run)
        stage = outcome.get('returned', outcome.get('raised'))
        if stage:
            return stage if 'returned' in outcome else 'stops: ' + stage, file, time.time() - started
    return '', file, time.time() - started


def lines_run(file, recorded, manifest):
    """Returns {module: lines} of the functions in `GENERATED` modules that computing one file runs."""
    paths = {path_of(module): module for module in GENERATED}

    def run():
        seen = collections.defaultdict(set)

        def trace(frame, event, _):
            module = paths.get(frame.f_code.co_filename)
            # The body of a class runs the line of each `def`, with its defaults.
            name = frame.f_code.co_name
            if module is None or name in ('<module>', '__init__', 'get_config') or name[0].isupper():
                return None
            seen[module].add(frame.f_lineno)
            return trace
        sys.settrace(trace)
        first_difference(file, recorded, manifest, True)
        sys.settrace(None)
        return {module: sorted(lines) for module, lines in seen.items()}
    return forked(run)['returned']


def generated(recorded, manifest, number, files):
    """Yields `number` mutants of each module, evenly spread over all, each with the files that run its line."""
    runs = {}
    for file in files:
        runs[file] = lines_run(file, recorded, manifest)
        tell('lines of %s: %d' % (file, sum(map(len, runs[file].values()))))
    for module in GENERATED:
        mutants = generate(module, {line for run in runs.values() for line in run.get(module, ())})
        for mutant in (mutants[i] for i in np.unique(np.linspace(0, len(mutants) - 1, number).round().astype(int))):
            reached = [file for file in files if mutant.line in runs[file].get(module, ())]
            yield mutant._replace(files=tuple(reached))


def main(argv):
    parser = CommandParser(doc=__doc__.split('\n')[0])
    parser.add_argument('--only', metavar='NAME', nargs='+', default=(),
                        help='named mutants whose name contains one of these')
    parser.add_argument('--generated', metavar='N', type=int, default=18, help='of each module (default: %(default)s)')
    options = parser.parse_args(argv)
    recorded, manifest = compare.read_set(os.path.join(ROOT, 'reference'))
    mutants = [mutant for mutant in NAMED if not options.only or any(part in mutant.name for part in options.only)]
    if not options.only:
        mutants += generated(recorded, manifest, options.generated, [name + '.float32.npz' for name in VARIED])
    tried, missed, progress = 0, 0, Progress(len(mutants), 'changes tried')
    for mutant in mutants:
        stage, file, seconds = try_mutant(mutant, recorded, manifest)
        progress.advance()
        caught = bool(stage) and (mutant.stages is None or stage in mutant.stages)
        tried, missed = tried + 1, missed + (not caught)
        print('%-8s %-62s %-20s %-28s %4.0f s' % (
            'caught' if caught else 'MISSED', mutant.name, stage or '-', file, seconds), flush=True)
    print('%d of %d caught' % (tried - missed, tried))
    return 1 if missed and options.only else 0


if __name__ == '__main__':
    run_command(main, 'mutants.py')
