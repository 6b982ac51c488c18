"""The map of versions: what other versions of TensorFlow and Keras change, and by how much.

    benchmarks/version_map.py prepare --multi30k FOLDER --old-models FOLDER   # runs and bundles on the pinned versions
    benchmarks/version_map.py measure [ROW ...]     # one JSON file a row, in benchmarks/stacks, if it is missing
    benchmarks/version_map.py speed [ROW ...]       # words/s of training, in turns; nothing else may run
    benchmarks/version_map.py page                  # the tables of docs/versions.md from these files

A row is a stack whose environment `stacks.py` makes, or another module of one: `tf1.15.5-tf.keras`. A row whose Python
is missing is skipped with the reason. Prepared files are in the folder that MATERIAL names (default: runs/versions).
"""
import argparse
import contextlib
from collections import OrderedDict, namedtuple
import glob
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]

from command_line import UserError, positive_int, run_command, tell  # noqa: E402  the checkout is on the path now
import h5py  # noqa: E402
import numpy as np  # noqa: E402
import regress  # noqa: E402
import stacks  # noqa: E402
import version_page  # noqa: E402

ROOT = stacks.ROOT
BUNDLES = OrderedDict((name, 'benchmarks/version_models.py:' + name) for name in (
    'masked', 'masked_loss', 'nested', 'adam', 'clipped', 'decayed', 'frozen'))
OLD = OrderedDict([('chars2vec', 'chars2vec_eng_50.weights.h5'), ('deepcut', 'deepcut_cnn.weights.h5')])
PART = ('dot-lstm*', 'copy-gru.float32*', 'train-adam*', 'sample.npz')
TESTS = ('attention', 'attention_layer', 'model', 'recurrent', 'beam', 'optimizer', 'fused_loss')
# Rows that are not a stack of their own: (its environment, the module or the backend of Keras 3).
MODULES = OrderedDict([('tf1.12.0-tf.keras', ('tf1.12.0-keras2.2.4', 'tf.keras')),
                       ('tf1.15.5-tf.keras', ('tf1.15.5-keras2.2.4', 'tf.keras')),
                       ('tf2.6.2-tf.keras', ('tf2.6.2', 'tf.keras')), ('tf2.15.1-tf.keras', ('tf2.15.1', 'tf.keras')),
                       ('keras3.15.1-tensorflow', ('keras3.15.1', 'tensorflow')),
                       ('keras3.15.1-torch', ('keras3.15.1', 'torch')), ('keras3.15.1-jax', ('keras3.15.1', 'jax'))])

Row = namedtuple('Row', 'name stack module')
Row.__doc__ = """One row: its stack, and the Keras that runs the bundles; '' where our own code runs them."""


def rows():
    """{name: `Row`} of all rows."""
    found = OrderedDict()
    for name in stacks.names():
        if name in [stack for stack, _ in MODULES.values()] and '-keras' not in name:
            continue
        module = 'tf_keras' if 'tf_keras' in name else '' if ours(name) else 'keras'
        found[name] = Row(name, name, module)
    for name, (stack, module) in MODULES.items():
        found[name] = Row(name, stack, module)
    return found


def ours(name):
    """Whether our own code runs in a stack: TensorFlow 1.12 to 1.15 and Keras 2.2 or 2.3."""
    return name.startswith(('tf1.12', 'tf1.13', 'tf1.14', 'tf1.15')) and '-keras2' in name


def material(*names):
    return os.path.join(os.environ.get('MATERIAL') or os.path.join(ROOT, 'runs', 'versions'), *names)


def run(python, *arguments, stdin='', check=True, backend=None):
    """Exit code, standard output and last line of standard error of a program in a stack."""
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(('PYTHON', 'KERAS', 'TF_', 'OPENBLAS'))}
    environment.update(CUDA_VISIBLE_DEVICES='-1', TF_CPP_MIN_LOG_LEVEL='3')
    if backend:
        environment['KERAS_BACKEND'] = backend
    done = subprocess.run([python] + [str(argument) for argument in arguments], cwd=ROOT, env=environment,
                          input=stdin.encode('utf-8'), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = [line for line in done.stderr.decode('utf-8', 'replace').splitlines() if line.strip()]
    if check and done.returncode:
        raise UserError('%s: %s' % (' '.join(map(str, arguments[:3])), lines[-1] if lines else 'failed'))
    return done.returncode, done.stdout.decode('utf-8'), lines[-1] if lines else ''


# What the pinned versions make

def prepare(multi30k, old_models):
    """Trains the runs, captures the bundles, writes the outputs that rows are compared with; what is there stays."""
    python = sys.executable
    os.makedirs(material('bundles'), exist_ok=True)
    train = ['train.py', '--threads', '1', '--run']
    with open(os.path.join(ROOT, 'samples', 'translate', 'train.tsv'), encoding='utf-8') as stream:
        write(material('part.tsv'), ''.join(stream.readlines()[:1600]))
    with open(os.path.join(ROOT, 'samples', 'translate', 'test.tsv'), encoding='utf-8') as stream:
        write(material('sample.txt'), ''.join(line.split('\t')[0] + '\n' for line in stream))
    if not os.path.isdir(material('sample')):
        run(python, *train + [material('sample')])
    if multi30k and not os.path.isdir(material('multi30k')):
        def files(part):
            return [os.path.join(multi30k, '%s.%s' % (part, language)) for language in ('de', 'en')]
        run(python, *train + [material('multi30k'), '--train'] + files('train') + ['--val'] + files('val') + [
            '--source-tokenizer', 'space', '--target-tokenizer', 'space', '--min-count', 3, '--score', 'general',
            '--units', 128, '--embedding', 128, '--tie-embeddings', '--batch-size', 64, '--epochs', 4,
            '--learning-rate', '4e-3', '--dropout', '0.2'])
    if multi30k:
        with open(os.path.join(multi30k, 'test_2016_flickr.de'), encoding='utf-8') as stream:
            write(material('multi30k.txt'), ''.join(stream.readlines()[:1000]))
    if not os.path.isdir(material('half')):
        run(python, *train + [material('half'), '--train', material('part.tsv'), '--val',
                              'samples/translate/val.tsv', '--units', 64, '--embedding', 64, '--batch-size', 64,
                              '--epochs', 1, '--kernels', 'keras'])
    if not os.path.isdir(material('saved_model')):
        run(python, 'export.py', material('sample'), material('saved_model'))
    for name, build in BUNDLES.items():
        if not os.path.isdir(material('bundles', name)):
            run(python, 'regress.py', 'capture', '--build', build, material('bundles', name))
    for name, weights in OLD.items() if old_models else ():
        if not os.path.isdir(material('bundles', name)):
            run(python, 'regress.py', 'capture', '--build', 'docs/old_models/build.py:' + name, '--weights',
                os.path.join(old_models, weights), material('bundles', name), '--steps', 0)
    if not os.path.isfile(material('expected.json')):
        write(material('expected.json'), json.dumps({'outputs': outputs(python), 'served': served(python),
                                                     'resumed': resumed(python, material('resumed'))}))


def write(path, text):
    with open(path, 'w', encoding='utf-8') as stream:
        stream.write(text)


# Measures

def difference(report, files=()):
    """The summary of a report of `compare` or `check`: arrays, the first stage that differs, figures of each stage."""
    stages = OrderedDict()
    for one in report['arrays']:
        if one['problem'] not in ('', 'differs'):
            continue
        old = stages.get(one['stage'], [0., 0., 0])
        stages[one['stage']] = [max(float(one[key]), before) for key, before in
                                zip(('absolute', 'relative', 'ulp'), old)]
    first = report['first']
    found = OrderedDict([
        ('arrays', len(report['arrays'])), ('first', first and first['stage']),
        ('where', first and first['where'] or ''), ('ties', len(report['ties'])),
        ('stages', OrderedDict((stage, ['%.2g' % figures[0], '%.2g' % figures[1], int(figures[2])])
                               for stage, figures in stages.items() if figures[0]))])
    if files:
        found['files'] = ' '.join(files)
    return found


def check(python, *arguments):
    """The summary of `regress.py check`, or the line in which it ends."""
    code, stdout, told = run(python, 'regress.py', 'check', '--json', *arguments, check=False)
    if not stdout.startswith('{'):
        return {'error': told.replace(material() + os.sep, '')}
    return difference(json.loads(stdout))


def adapted(python, row, names):
    """{bundle: its summary} where an adapter runs them, or the error in which one ends."""
    keras3, found = row.stack.startswith('keras3'), OrderedDict()
    with tempfile.TemporaryDirectory() as folder:
        more = [] if keras3 else ['--module', row.module]
        jobs = [[material('bundles', name), os.path.join(folder, name)] + more for name in names]
        _, stdout, _ = run(python, 'benchmarks/adapt_all.py', 'keras3' if keras3 else 'tf_keras', json.dumps(jobs),
                           backend=row.module if keras3 else None)
        errors = json.loads(stdout.splitlines()[-1])
        for name, (bundle, made) in zip(names, [job[:2] for job in jobs]):
            if bundle in errors:
                found[name] = {'error': errors[bundle].replace(ROOT + os.sep, '')[:300]}
                continue
            options, stage_map = [], os.path.join(made, 'stage_map.json')
            if not os.path.isfile(os.path.join(made, 'training.npz')):
                options += ['--files', 'forward.npz']
            if os.path.isfile(stage_map):
                options += ['--stage-map', stage_map]
            found[name] = difference(json.loads(report_of(['compare', bundle, made, '--json'] + options)))
    return found


def report_of(arguments):
    """Standard output of `regress.py compare`, which needs NumPy only."""
    with io.StringIO() as stream, contextlib.redirect_stdout(stream):
        regress.main(arguments)
        return stream.getvalue()


def old_build(name):
    """The options with which `check` builds a model whose bundle needs it."""
    return ['--build', 'docs/old_models/build.py:' + name] if name in OLD else []


def outputs(python):
    """{text: outputs of the run of this name} of greedy search and of the search of the run."""
    found = OrderedDict()
    for name in ('sample', 'multi30k'):
        if os.path.isdir(material(name)):
            _, stdout, _ = run(python, 'predict.py', '--run', material(name), '--input', material(name + '.txt'),
                               '--threads', 1)
            found[name] = stdout.splitlines()
    return found


def served(python):
    """The outputs of the exported model for the sample sentences, without our code, or the line in which it ends."""
    with open(material('sample.txt'), encoding='utf-8') as stream:
        texts = stream.read().splitlines()
    with tempfile.TemporaryDirectory() as folder:
        program = shutil.copy(os.path.join(HERE, 'serve_once.py'), folder)
        code, stdout, told = run(python, program, material('saved_model'), stdin=json.dumps(texts), check=False)
    return {'error': told[:300]} if code else json.loads(stdout.splitlines()[-1])


def resumed(python, folder):
    """Resumes the run of the pinned versions after its 25 updates for 25 more; copies it to `folder` before."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(material('half'), folder)
    code, _, told = run(python, 'train.py', '--run', folder, '--resume', '--epochs', 2, check=False)
    return {'error': told} if code else {}


def as_json(found):
    """JSON with each list of figures on one line."""
    return re.sub(r'\[\s+([^][{}]*?)\s+\]', lambda match: '[%s]' % ' '.join(match.group(1).split()),
                  json.dumps(found, indent=1)) + '\n'


def flips(some, others):
    return sum(one != other for one, other in zip(some, others))


def weights_difference(one, other):
    """The largest difference of two checkpoints, relative to the largest number of each array; 0 for equal bits."""
    largest = [0.]

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and item.dtype.kind == 'f' and item.size:
            mine = theirs[name][()]
            scale = max(float(np.max(np.abs(item[()]))), 1e-30)
            largest[0] = max(largest[0], float(np.max(np.abs(item[()] - mine))) / scale)

    with h5py.File(one, 'r') as ours_, h5py.File(other, 'r') as theirs:
        ours_.visititems(visit)
    return largest[0]


def checkpoint(folder):
    return max(glob.glob(os.path.join(folder, 'checkpoint', '*.h5')), key=lambda path: int(
        os.path.basename(path)[:-len('.h5')]))


def core_tests(python):
    """How many of the core tests pass and fail."""
    _, stdout, told = run(python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-m', 'not slow',
                          *['tests/test_%s.py' % name for name in TESTS], check=False)
    lines = stdout.splitlines()
    failed = sorted(line.split(' ')[1].split('[')[0] for line in lines if line.startswith('FAILED'))
    return OrderedDict([('result', lines[-1].split(' in ')[0].strip('= ') if lines else told), ('failed', failed)])


def versions(python):
    """{package: version} of what decides the numbers."""
    _, stdout, _ = run(python, '-c', 'import pkg_resources as p, platform, json; print(json.dumps(dict([("python", '
                       'platform.python_version())] + [(d.key, d.version) for d in p.working_set if d.key in ('
                       '"tensorflow", "tensorflow-cpu", "keras", "tf-keras", "numpy", "h5py", "jax", "torch")])))',
                       check=False)
    return json.loads(stdout, object_pairs_hook=OrderedDict) if stdout else {}


def measure(row, whole, tests, chosen=None):
    """All measures of a row, as its JSON file holds them."""
    python = stacks.make(row.stack)
    with open(material('expected.json'), encoding='utf-8') as stream:
        expected = json.load(stream)
    found = OrderedDict([('row', row.name), ('stack', row.stack), ('module', row.module),
                         ('versions', versions(python))])

    def told(name):
        tell('%s: %s' % (row.name, name))

    told('check')
    found['check'] = check(python, *[] if whole and not row.module else ('--files',) + PART)
    found['whole'] = bool(whole and not row.module)
    names = [name for name in list(BUNDLES) + list(OLD)
             if os.path.isdir(material('bundles', name)) and (not chosen or name in chosen)]
    told('captured models')
    found['bundles'] = adapted(python, row, names) if row.module else OrderedDict(
        (name, check(python, material('bundles', name), *old_build(name))) for name in names)
    if not row.stack.startswith('keras3'):
        told('SavedModel')
        result = served(python)
        found['served'] = result if 'error' in result else {
            'flips': flips(result['text'], expected['served']['text']), 'of': len(result['text']),
            'scores': '%.2g' % max(abs(one - other) for one, other in zip(result['scores'],
                                                                          expected['served']['scores']))}
        command = ['adapters/tf_keras.py', '--defaults', '--module', row.module or 'keras']
        code, stdout, line = run(python, *command, check=False)
        found['defaults'] = {'error': line} if code else json.loads(stdout.splitlines()[-1])
    if not row.module:
        told('flips')
        result = outputs(python)
        found['flips'] = OrderedDict((name, [flips(lines, expected['outputs'][name]), len(lines)])
                                     for name, lines in result.items())
        told('resume')
        with tempfile.TemporaryDirectory() as folder:
            folder = os.path.join(folder, 'run')
            found['resumed'] = resumed(python, folder) or {'difference': '%.2g' % weights_difference(
                checkpoint(material('resumed')), checkpoint(folder))}
        if tests:
            told('tests')
            found['tests'] = core_tests(python)
    return found


# Speed

def speed(chosen, rounds, steps):
    """Words/s of training of each row, median of rounds in turns, beside the pinned versions."""
    names = ['tf1.12.0-keras2.2.4'] + [row.name for row in chosen if not row.module
                                       and row.name != 'tf1.12.0-keras2.2.4']
    rates = OrderedDict((name, []) for name in names)
    for number in range(rounds + 1):    # the first one warms up
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                out = os.path.join(folder, 'figures.json')
                run(stacks.make(name), 'benchmarks/train_step.py', '--rounds', 1, '--steps', steps, '--threads', 1,
                    '--json', out)
                with open(out, encoding='utf-8') as stream:
                    if number:
                        rates[name].append(json.load(stream)['fast']['words_per_second'])
    for name in names:
        path = stacks.path_of(name, '.json')
        if os.path.isfile(path):
            with open(path, encoding='utf-8') as stream:
                found = json.load(stream, object_pairs_hook=OrderedDict)
            found['speed'] = {'words_per_second': round(statistics.median(rates[name])),
                              'beside_pinned': '%.2f' % (statistics.median(rates[name]) / statistics.median(
                                  rates[names[0]]))}
            write(path, as_json(found))
        print('%-24s %8.0f words/s' % (name, statistics.median(rates[name])))


def main(argv):
    parser = argparse.ArgumentParser(prog='version_map.py', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('action', choices=['prepare', 'measure', 'speed', 'page'])
    parser.add_argument('rows', metavar='ROW', nargs='*', help='rows of the map (default: all)')
    parser.add_argument('--multi30k', metavar='FOLDER', help='Multi30k, tokenised, for the second run')
    parser.add_argument('--old-models', metavar='FOLDER', help='weights of chars2vec and deepcut, see docs/porting.md')
    parser.add_argument('--again', action='store_true', help='measure rows that have a file')
    parser.add_argument('--part', action='store_true', help='check a part of the reference outputs')
    parser.add_argument('--bundles', nargs='+', metavar='NAME', help='only these captured models')
    parser.add_argument('--no-tests', action='store_true', help='without the core tests')
    parser.add_argument('--rounds', type=positive_int, default=5, metavar='N', help='of speed (default: %(default)s)')
    parser.add_argument('--steps', type=positive_int, default=20, metavar='N', help='of speed (default: %(default)s)')
    options = parser.parse_args(argv)
    known = rows()
    for name in options.rows:
        if name not in known:
            raise UserError('%s: no such row; the rows are %s' % (name, ', '.join(known)))
    chosen = [known[name] for name in options.rows or known]
    if options.action == 'prepare':
        prepare(options.multi30k, options.old_models)
    elif options.action == 'speed':
        speed(chosen, options.rounds, options.steps)
    elif options.action == 'measure':
        for row in chosen:
            path = stacks.path_of(row.name, '.json')
            if os.path.isfile(path) and not options.again:
                continue
            try:
                write(path, as_json(measure(row, not options.part, not options.no_tests, options.bundles)))
            except UserError as error:
                tell('skipped %s: %s' % (row.name, error))
    if options.action in ('measure', 'page', 'speed'):
        version_page.write()


if __name__ == '__main__':
    run_command(main, 'version_map.py')
