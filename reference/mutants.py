"""Introduces faults into the code, one at a time, and shows whether and at which stage `regress.py check` detects them.

    python -m reference.mutants                # all of them, as a table; `make mutants`
    python -m reference.mutants --only NAME    # some

Named mutants are mistakes that people make; generated mutants change an operator, an axis or a constant of a line that
the reference files run. Each is applied to a copy in memory, in a process that was forked before any TensorFlow session
existed. It computes the files whose graph runs the changed line, until one differs beyond its tolerance.
"""
import ast
import collections
import importlib
import io
import json
import os
import resource
import signal
import sys
import time
import tokenize
import types

# The parent imports TensorFlow and Keras, which saves each forked process seconds.
import tf_session  # noqa: F401
import keras.layers
import keras.optimizers  # noqa: F401
import numpy as np

from command_line import CommandParser, run_command, tell
from reference import compare
from reports.progress import Progress

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GENERATED = ('attention', 'decoder_cell', 'seq2seq_model', 'pointer_generator', 'beam_search')
# Modules with gradients by hand: for a mutant in one of these, the gradients are compared too.
BY_HAND = ('fast_kernels', 'fused_loss', 'attention_blocks', 'attention_windows', 'fast_decoder')
SECONDS = 40        # limit of processor time, for mutants that do not end
KERAS = 'keras.layers.recurrent'
# Files that together run all lines that the whole set runs; the first ones run most of them: local attention, blocked
# n-grams, input feeding, copies, depth, penalties.
VARIED = ('local-m-lstm', 'copy-gru', 'dot-gru', 'general-lstm', 'local-p-gru', 'concat-lstm', 'concat-gru',
          'none-lstm', 'scaled_dot-lstm', 'location-gru', 'dot-lstm', 'copy-lstm', 'train-adam')

Mutant = collections.namedtuple('Mutant', 'name module old new line files stages')
Mutant.__doc__ = """One change: `old` to `new` in a module's source, where `old` occurs once, or in the given line.

files: reference files to compute, in this order. stages: the stages that may differ first, `None` for any.
"""


def named(name, module, old, new, files, *stages):
    return Mutant(name, module, old, new, None, tuple(file + '.float32.npz' for file in files.split()), stages)


NAMED = [
    named('mask dropped', 'attention', 'if valid is None:', 'if True:', 'dot-lstm', 'masked_scores'),
    named('mask multiplied', 'attention', 'tf.where(valid, scores, tf.fill(tf.shape(scores), scores.dtype.min))',
          'scores * tf.cast(valid, scores.dtype)', 'general-gru', 'masked_scores'),
    named('softmax on the wrong axis', 'attention', 'tf.nn.softmax(masked_scores)',
          'tf.nn.softmax(masked_scores, axis=1)', 'dot-lstm', 'weights'),
    named('[h; c] for [c; h]', 'seq2seq_model', 'Concatenate()([context, attentional])',
          'Concatenate()([attentional, context])',
          'dot-lstm', 'attentional_states'),
    named('[h; c] for [c; h], input feeding', 'decoder_cell', 'K.concatenate([context, attentional])',
          'K.concatenate([attentional, context])', 'dot-gru', 'attentional_states'),
    named('tanh missing', 'seq2seq_model', "Dense(settings.units, activation='tanh', use_bias",
          'Dense(settings.units, activation=None, use_bias', 'dot-lstm', 'attentional_states'),
    named("encoder's first state for its last", 'seq2seq_model', 'last_states.append(states)',
          'last_states.append([keras_layers.Lambda(lambda y: y[:, 0])(x) for _ in states])', 'dot-lstm',
          'initial_states'),
    named('gate order', KERAS, 'z0 = z[:, :self.units]\n            z1 = z[:, self.units: 2 * self.units]',
          'z1 = z[:, :self.units]\n            z0 = z[:, self.units: 2 * self.units]', 'scaled_dot-lstm',
          'encoder_states'),
    named('forget bias 0', 'seq2seq_model', 'return layer(units, implementation=2,',
          "kwargs.update({'unit_forget_bias': False} if self.settings.cell == 'lstm' else {})\n"
          '        return layer(units, implementation=2,', 'scaled_dot-lstm', 'initial'),
    named('hard_sigmoid swapped', 'seq2seq_model', 'recurrent_activation=self.settings.recurrent_activation',
          "recurrent_activation='sigmoid'", 'dot-lstm', 'encoder_states'),
    named('loss over padding', 'training.trainer', 'sample_weight=share * (output != PAD))',
          'sample_weight=share * np.ones(output.shape))', 'train-adam', 'losses'),
    named('mean per batch instead of per token', 'training.trainer', 'sample_weight=share * (output != PAD))',
          'sample_weight=share * (output != PAD) * counts[number] / len(output))', 'train-adam', 'losses'),
    named('window off by one', 'attention', 'K.abs(distance) <= self.window', 'K.abs(distance) < self.window',
          'local-m-gru', 'masked_scores'),
    named('Gaussian without its factor', 'attention', 'K.exp(-2. *', 'K.exp(-1. *', 'local-p-lstm', 'weights'),
    named('beam without length normalisation', 'beam_search',
          'rankings = scores / length_divisor(length, options.length_penalty, scores.dtype)', 'rankings = scores',
          'dot-gru', 'beam'),
    named('p_gen and 1 - p_gen swapped', 'pointer_generator', 'keepdims=True) - switch', 'keepdims=True) + switch',
          'copy-lstm', 'logits'),
    named('every hop with the decoder state', 'seq2seq_model', 'Concatenate()([context, attentional])',
          'Concatenate()([context, x])', 'dmn-gru', 'scores', 'weights'),
    named("<unk> matches <unk>", 'question_encoder', 'tf.logical_and(match, ids > END)', 'match', 'dmn-gru',
          'encoder_states'),
    named('guided by all positions', 'guided_alignment', 'gold *= tf.cast(valid, gold.dtype)[:, None]', 'gold *= 1.',
          'dmn-gru guided-lstm', 'guided_losses'),
    named('gold alignments not divided by their sum', 'guided_alignment',
          'gold /= tf.where(total > 0., total, tf.ones_like(total))', 'gold /= 1.', 'guided-lstm', 'guided_losses'),
    named("[h; c; x] for [c; h; x], the switch's", 'pointer_generator', 'K.concatenate([context, states, embedded])',
          'K.concatenate([states, context, embedded])', 'copy-gru', 'p_gen'),
    named('copies of a repeated word not summed', 'pointer_generator', 'return tf.matmul(weights, same)',
          'return weights', 'copy-lstm', 'copy_distribution'),
    named('a repeated word counted at each place', 'pointer_generator',
          'tf.logical_and(first, tf.not_equal(copied_ids, PAD))', 'tf.not_equal(copied_ids, PAD)',
          'copy-gru', 'logits'),
    named('a name fed as another word', 'pointer_generator', 'tf.fill(tf.shape(ids), UNK)',
          'tf.fill(tf.shape(ids), PAD)', 'copy-lstm', 'decoder_states'),
    named('coverage of the step itself', 'pointer_generator', 'exclusive=True', 'exclusive=False', 'copy-lstm',
          'coverage_losses'),
    named('coverage loss without its weight', 'training.trainer', 'settings.coverage_loss * coverage_loss(',
          'coverage_loss(', 'copy-lstm', 'token_losses'),
    named('no weight decay', 'training.optimizer', 'self.lr * self.weight_decay * weight', '0. * weight', 'train-adam',
          'step_1'),
    named('decay on biases', 'training.optimizer', 'if self.weight_decay and K.ndim(weight) > 1:',
          'if self.weight_decay:', 'train-adam', 'step_1'),
    named('average not started at the weights', 'training.optimizer',
          'K.minimum(K.constant(self.averaging), (t - 1.) / (t + 8.))', 'K.constant(self.averaging)', 'train-adam',
          'step_1'),
    named('decoder input off by one', 'text.batches', 'pad([[START] + target for target in targets])',
          'pad([target + [END] for target in targets])', 'dot-lstm', 'input'),
    named('fast LSTM: the forget gate from the wrong cell state', 'fast_kernels',
          'previous(first_c, c) * gate.gradient(z_f, f)', 'c * gate.gradient(z_f, f)', 'fast-copy-lstm', 'gradient'),
    named('fast LSTM: no gradient through tanh(c)', 'fast_kernels', 'o * (1. - tf.square(tanh_c)), f', 'o, f',
          'fast-copy-lstm', 'gradient'),
    named('fast GRU: the reset gate without its slope', 'fast_kernels', 'h * gate.gradient(a_r, r), z, r]',
          'h, z, r]', 'fast-concat-gru', 'gradient'),
    named('fast loops: a padded step repeats one step less', 'fast_kernels', 'self.read = tf.cumsum(mask, axis=1)',
          'self.read = tf.cumsum(mask, axis=1, exclusive=True)', 'fast-concat-gru', 'encoder_states'),
    named('fused loss: smoothing of the target only', 'fused_loss', '+ (smoothing / size * d_score)[:, None]', '',
          'fast-feeding-lstm', 'gradient'),
    named('fused copies: the switch of the other sign', 'fused_loss', 'output.normalizer - switch',
          'output.normalizer + switch', 'fast-copy-lstm', 'token_losses'),
    named('additive score in blocks: no slope of the tanh', 'attention_blocks',
          'transpose_b=True) * (1. - tf.square(e))', 'transpose_b=True)', 'fast-concat-gru', 'gradient'),
    named('fast decoder: no gradient through the fed state', 'fast_decoder', '(d_attentional + d_output) * slope',
          'd_output * slope', 'fast-feeding-lstm', 'gradient'),
    named('fast decoder: the residual without its gradient', 'fast_decoder',
          'du + d_inside if kind.residual and number else du', 'du', 'fast-feeding-lstm', 'gradient'),
]


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

def install(mutant):
    """Makes later imports of the mutant's module return the changed module."""
    source, path = mutated(mutant)
    module = types.ModuleType(mutant.module)
    module.__file__ = path
    if mutant.module == KERAS:
        original = sys.modules[KERAS]
        module.__package__ = 'keras.layers'
        exec(compile(source, path, 'exec'), module.__dict__)
        original.LSTMCell.call = module.LSTMCell.call
        return
    module.keras_layers = keras.layers
    sys.modules[mutant.module] = module
    package, _, name = mutant.module.rpartition('.')
    if package:
        setattr(importlib.import_module(package), name, module)
    exec(compile(source, path, 'exec'), module.__dict__)


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


def try_mutant(mutant, recorded, manifest):
    """Returns (stage that differs first or '', file, seconds) of a mutant."""
    started, file = time.time(), ''
    for file in mutant.files:
        def run():
            install(mutant)
            # Most mutants show before any search, and the searches double the time.
            first = None if mutant.module == 'beam_search' else first_difference(
                file, recorded, manifest, False, mutant.module in BY_HAND)
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
    parser = CommandParser(prog='reference.mutants', description=__doc__.split('\n')[0])
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
    run_command(main, 'reference.mutants')
