"""The measures of one row of the map of versions: each returns what the row's JSON file holds under its name."""
import contextlib
from collections import OrderedDict
import glob
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]

from command_line import UserError  # noqa: E402  the checkout is on the path now
import h5py  # noqa: E402
import numpy as np  # noqa: E402
import regress  # noqa: E402
from stacks import ROOT  # noqa: E402
from version_page import MODELS, OLD_MODELS  # noqa: E402

BUNDLES = OrderedDict((name, 'benchmarks/version_models.py:' + name) for name in MODELS)
OLD = OrderedDict(zip(OLD_MODELS, ('chars2vec_eng_50.weights.h5', 'deepcut_cnn.weights.h5')))
PART = ('dot-lstm*', 'copy-gru.float32*', 'train-adam*', 'sample.npz')
TESTS = ('attention', 'attention_layer', 'model', 'recurrent', 'beam', 'optimizer', 'fused_loss')


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


def difference(report):
    """The summary of a report of `compare` or `check`: arrays, the first stage that differs, figures of each stage."""
    stages = OrderedDict()
    for one in report['arrays']:
        if one['problem'] not in ('', 'differs'):
            continue
        old = stages.get(one['stage'], [0., 0., 0])
        stages[one['stage']] = [max(float(one[key]), before) for key, before in
                                zip(('absolute', 'relative', 'ulp'), old)]
    first = report['first']
    return OrderedDict([
        ('arrays', len(report['arrays'])), ('first', first and first['stage']),
        ('where', first and first['where'] or ''), ('ties', len(report['ties'])),
        ('stages', OrderedDict((stage, ['%.2g' % figures[0], '%.2g' % figures[1], int(figures[2])])
                               for stage, figures in stages.items() if figures[0]))])


def check(python, *jobs):
    """[the summary of `regress.py check` with these arguments, or the line in which it ends] of each job."""
    code, stdout, told = run(python, 'benchmarks/check_all.py', json.dumps(jobs), check=False)
    reports = [{'error': told}] * len(jobs) if code else json.loads(stdout.splitlines()[-1])
    return [{'error': one['error'].replace(material() + os.sep, '').replace(ROOT + os.sep, '')[:300]}
            if 'error' in one else difference(one) for one in reports]


def adapted(python, row, names):
    """{bundle: its summary} where an adapter runs them, or the error in which one ends."""
    keras3, found = row.stack.startswith('keras3'), OrderedDict()
    if keras3:
        run(python, '-c', 'import ' + row.module)       # torch is not in the lock file
    with tempfile.TemporaryDirectory() as folder:
        more = (['--plain'] if row.plain else []) if keras3 else ['--module', row.module]
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


def outputs(python, names=('sample', 'multi30k')):
    """{run: its outputs} of these runs."""
    found = OrderedDict()
    for name in names:
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


# Measures of a row by the name in its file: functions of its Python, the row and what the pinned versions gave.

def whole_check(python, row, expected):
    return check(python, [])[0]


def part_of_check(python, row, expected):
    return dict(check(python, ('--files',) + PART)[0], part=True)


def bundles(python, row, expected, names):
    """{captured model: its summary}."""
    if row.module:
        return adapted(python, row, names)
    return OrderedDict(zip(names, check(python, *[[material('bundles', name)] + old_build(name) for name in names])))


def exported(python, row, expected):
    """What the exported model gives there."""
    result, wanted = served(python), expected['served']
    return result if 'error' in result else OrderedDict([
        ('flips', flips(result['text'], wanted['text'])), ('of', len(result['text'])),
        ('scores', '%.2g' % max(abs(one - other) for one, other in zip(result['scores'], wanted['scores'])))])


def defaults(python, row, expected):
    """{class: its defaults}."""
    code, stdout, line = run(python, 'adapters/tf_keras.py', '--defaults', '--module', row.module or 'keras',
                             check=False)
    return {'error': line} if code else json.loads(stdout.splitlines()[-1], object_pairs_hook=OrderedDict)


def flipped(python, row, expected, names):
    """{run: [outputs that differ, outputs]}."""
    return OrderedDict((name, [flips(lines, expected['outputs'][name]), len(lines)])
                       for name, lines in outputs(python, names).items())


def flips(some, others):
    return sum(one != other for one, other in zip(some, others))


def resumption(python, row, expected):
    """The largest difference of a run that went on there."""
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.join(folder, 'run')
        return resumed(python, folder) or {'difference': '%.2g' % weights_difference(
            checkpoint(material('resumed')), checkpoint(folder))}


def core_tests(python, row, expected):
    """How many of the core tests pass, and which fail."""
    _, stdout, told = run(python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-m', 'not slow',
                          *['tests/test_%s.py' % name for name in TESTS], check=False)
    lines = stdout.splitlines()
    failed = sorted({line.split(' ')[1].split('[')[0] for line in lines if line.startswith(('FAILED', 'ERROR'))})
    return OrderedDict([('result', lines[-1].split(' in ')[0].strip('= ') if lines else told), ('failed', failed)])
