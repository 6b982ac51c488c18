"""Converts an old Keras model: captures it, has Keras 3 build it, and compares the saved file with the capture.

The second half runs in another Python, as the programs `adapters/keras3_*.py`. NumPy only here.
"""
from collections import OrderedDict
import contextlib
import json
import os
import shutil
import subprocess
import tempfile

import numpy as np

from command_line import UserError, tell
from parity import bundle, compare, convert_report, hypotheses, report
from storage.files import file_sha256, write_bytes

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OWN_PYTHON = os.path.join(ROOT, '.venv-keras3', 'bin', 'python')
EXIT_UNSUPPORTED = 3
STEPS = 2               # updates that the training is compared for
UPDATE_TOLERANCE = 1e-5
NOISE = 1e-6            # a gradient below this share of the largest is rounding: Adam makes a whole step of it
ONNX_TOLERANCE = (1e-4, 1e-5)
MADE = ('model.keras', 'model.onnx', 'model.differs.keras', 'model.differs.onnx', 'old_keras.py', 'report.html',
        'report.json', 'README.txt')
ENVIRONMENT = ('PYTHONPATH', 'PYTHONHOME', 'KERAS_HOME', 'KERAS_BACKEND', 'OPENBLAS_NUM_THREADS')


def find_python():
    """The Python with Keras 3: what KERAS3_PYTHON names, or that of `make keras3`."""
    named = os.environ.get('KERAS3_PYTHON')
    python = shutil.which(named) if named else OWN_PYTHON if os.path.exists(OWN_PYTHON) else None
    if python is None:
        raise UserError('convert needs a Python with Keras 3%s: call make keras3, or name one with KERAS3_PYTHON'
                        % (': KERAS3_PYTHON=%s is none' % named if named else ''))
    return python


def run_program(python, program, *arguments):
    """Runs a program of `adapters/` in the other Python. Returns its exit code, and the last lines of its stderr."""
    environment = {key: value for key, value in os.environ.items() if key not in ENVIRONMENT}
    environment['PYTHONIOENCODING'] = 'utf-8'
    done = subprocess.run([python, '-W', 'ignore', os.path.join(ROOT, 'adapters', program)] + list(arguments),
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, done.stderr.decode('utf-8', 'replace').strip()


def finished(python, program, what, *arguments, expected=(0,)):
    """The exit code of a program, which must be an expected one.

    # Raises
        UserError: it ended otherwise; the line tells its last message. The traceback goes to stderr, as of any bug.
    """
    code, text = run_program(python, program, *arguments)
    if code not in expected:
        tell(text)
        lines = text.splitlines() or ['no message']
        if 'ModuleNotFoundError' in text or 'ImportError' in lines[-1]:
            raise UserError('%s: cannot run Keras 3 (%s): call make keras3, or name another Python with KERAS3_PYTHON'
                            % (python, lines[-1]))
        raise UserError('%s: %s failed in Keras 3, see above: %s' % (
            what, program, 'ended by signal %d' % -code if code < 0 else lines[-1]))
    return code


def require_free(folder):
    """UserError: the folder holds something other than a conversion that failed, or cannot be created."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError('%s: is not a folder: name another one' % folder)
    if os.path.isdir(folder) and os.listdir(folder):
        before = os.path.join(folder, 'report.json')
        try:
            failed = os.path.exists(before) and bundle.read_json(before, 'a report')['done'] is False
        except (bundle.SetError, KeyError, TypeError):
            failed = False
        if not failed:
            raise UserError('%s: is not empty: name another folder' % folder)


# The proof

def read_facts(folder, name):
    with open(os.path.join(folder, name), encoding='utf-8') as stream:
        return json.load(stream, object_pairs_hook=OrderedDict)


def compare_forward(folder, stages):
    """`report.Comparison` of the forward pass of a bundle and of the saved file."""
    files, manifest = bundle.open_set(folder)
    recorded = compare.choose_files(files, ['forward.npz'])
    found, _ = bundle.open_set(os.path.join(stages, 'forward.npz'))
    order = compare.Order(manifest)
    results, ties = compare.compare_sets(recorded, found, manifest, exact=files.get(compare.EXACT[0]))
    lost = [name for call in manifest['calls'] if not call['parent'] for name in call['outputs']
            if name not in found['forward.npz']]
    results += [compare.problem_result('forward.npz', name, 'missing', order) for name in lost
                if not any(one.name == name for one in results)]
    missing, unknown = compare.not_compared(recorded, found, {}, order)[1:]
    causes = hypotheses.causes(results, files, found, manifest, {}) if compare.first_difference(results) else []
    return report.comparison(results, ties, order, [], missing, unknown, causes)


def compare_training(folder, stages, facts, trained):
    """Sentences about the first updates: whether they continue as before, and what differs."""
    path = os.path.join(stages, 'training.npz')
    if not os.path.exists(path):
        return [], []
    recorded, found = [bundle.ArrayFile(os.path.join(one, 'training.npz')) for one in (folder, stages)]
    good, wrong, left, total = [], [], 0, 0
    for step in range(1, STEPS + 1):
        largest, at = 0., ''
        for name in recorded:
            if not name.startswith('step_%d/parameter/' % step) or name not in found:
                continue
            own = name.split('/', 2)[2]
            if own.endswith(('/moving_mean', '/moving_variance')):
                continue        # Keras 3 updates them otherwise, as the report says
            one, other = recorded[name].astype('f8'), found[name].astype('f8').reshape(recorded[name].shape)
            difference = np.abs(one - other)
            gradient = recorded.get('gradient/' + own)
            total += difference.size
            if gradient is not None:
                noise = np.abs(gradient) <= NOISE * max(np.abs(gradient).max(), NOISE)
                left += int((noise & (difference > UPDATE_TOLERANCE)).sum())
                difference = np.where(noise, 0., difference)
            if difference.size and not difference.max() <= largest:
                largest, at = float(difference.max()), own
        if not largest <= UPDATE_TOLERANCE:
            why = (': Keras 3 on TensorFlow moves only the rows of an Embedding that the batch holds; --keep-weights '
                   'moves all'
                   if at.endswith('/embeddings') else '')
            wrong.append('after update %d %s differs by %.2g%s' % (step, at, largest, why))
        else:
            good.append('after update %d all weights agree to %.2g' % (step, largest))
    if left:
        good.append('%d of %d numbers apart, whose gradient is rounding' % (left, total))
    losses = [np.ravel(file['losses'])[:STEPS] for file in (recorded, found)]
    difference = np.abs(losses[0][:len(losses[1])] - losses[1])
    if difference.size and not difference[0] <= 1e-4 * max(1., abs(losses[0][0])):
        why = (': Keras 3 on TensorFlow takes the logits, Keras 2 clips probabilities; --keep-weights clips'
               if 'crossentropy' in str(trained['loss']) else '')
        wrong.append('the loss before the first update is %.6g, and was %.6g%s' % (losses[1][0], losses[0][0], why))
    return good, wrong


# The conversion

class Conversion(object):
    """One conversion: what was found, for the report.

    # Attributes
        source: what the user named. bundle: folder. folder: of the results. facts: of conversion.json.
        compared: `report.Comparison` or None. training: (good, wrong), as `compare_training` gives them.
        onnx: dict, or None where no ONNX file was asked for. seconds: of each part.
    """

    def __init__(self, source, bundle_folder, folder):
        self.source, self.bundle, self.folder = source, bundle_folder, folder
        self.manifest = bundle.read_manifest(bundle_folder)
        self.facts, self.compared, self.training, self.onnx = OrderedDict(), None, ([], []), None
        self.seconds, self.files = OrderedDict(), OrderedDict()

    @property
    def problems(self):
        return self.facts.get('problems', [])

    @property
    def first(self):
        return compare.first_difference(self.compared.results) if self.compared else None

    @property
    def done(self):
        return bool(self.compared) and self.first is None and not (self.onnx and self.onnx['problem'])


def build(conversion, python, work, options):
    """Has Keras 3 build the model into the folder `work`, and prove it."""
    more = (['--custom3', options.custom3] if options.custom3 else [])
    name = conversion.source
    code = finished(python, 'keras3_convert.py', name, conversion.bundle, work,
                    *(more + (['--keep-weights'] if options.keep_weights else [])), expected=(0, EXIT_UNSUPPORTED))
    conversion.facts = read_facts(work, 'conversion.json')
    if code == EXIT_UNSUPPORTED:
        return
    stages = os.path.join(work, 'stages')
    finished(python, 'keras3_check.py', name, conversion.bundle, work, stages, *more)
    conversion.compared = compare_forward(conversion.bundle, stages)
    conversion.facts['not_carried'] += filter(None, [read_facts(stages, 'check.json')['training']])
    if not conversion.facts['scaled']:
        conversion.training = compare_training(conversion.bundle, stages, conversion.facts,
                                               conversion.manifest['training'])
    if 'onnx' in options.to and conversion.first is None:
        finished(python, 'keras3_onnx.py', name, conversion.bundle, work, stages, *more)
        conversion.onnx = compare_onnx(conversion, stages)


def compare_onnx(conversion, stages):
    """What onnxruntime computed from the exported file, beside the capture: problem or '', largest difference."""
    found = read_facts(stages, 'onnx.json')
    largest = 0.
    if not found['problem']:
        recorded = bundle.ArrayFile(os.path.join(conversion.bundle, 'forward.npz'))
        inputs = bundle.ArrayFile(os.path.join(conversion.bundle, 'inputs.npz'))
        made = bundle.ArrayFile(os.path.join(stages, 'onnx.npz'))
        for number, name in enumerate(conversion.manifest['output_arrays']):
            whole = recorded[name] if name in recorded else inputs[name]
            for kind, array in (('all', whole), ('first', whole[:1])):
                other = made.get('%s/%d' % (kind, number))
                if other is None:
                    continue
                if other.shape != array.shape:
                    found['problem'] = 'output %s has the shape %s in place of %s' % (name, other.shape, array.shape)
                    break
                difference = np.abs(array.astype('f8') - other.astype('f8'))
                limit = ONNX_TOLERANCE[1] * np.abs(array).max() + ONNX_TOLERANCE[0] * np.abs(array)
                largest = max(largest, float(difference.max()) if difference.size else 0.)
                if not (difference <= limit).all() and not found['problem']:
                    found['problem'] = 'output %s differs by %.2g' % (name, difference.max())
    return OrderedDict(problem=found['problem'], absolute=largest, opset=found.get('opset'))


def take(conversion, work, options):
    """Moves the results of `work` into the folder, the report last."""
    folder, done = conversion.folder, conversion.done
    for name in MADE:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    for name in ('old_keras.py', 'model.keras', 'model.onnx'):
        path = os.path.join(work, name)
        if not os.path.exists(path) or name == 'model.onnx' and conversion.onnx is None:
            continue
        wrong = conversion.onnx['problem'] if name == 'model.onnx' else conversion.first
        made = name.replace('model.', 'model.differs.') if wrong and name != 'old_keras.py' else name
        os.replace(path, os.path.join(folder, made))
        conversion.files[made] = OrderedDict(sha256=file_sha256(os.path.join(folder, made)),
                                             bytes=os.path.getsize(os.path.join(folder, made)))
    own = os.path.join(folder, 'new_layers.py')
    if options.custom3 and conversion.compared and os.path.abspath(options.custom3) != os.path.abspath(own):
        with open(options.custom3, 'rb') as stream:
            write_bytes(own, stream.read())
    if conversion.problems and not os.path.exists(own):
        write_bytes(own, convert_report.stub(conversion).encode('utf-8'))
    if done:
        write_bytes(os.path.join(folder, 'README.txt'), convert_report.readme(conversion).encode('utf-8'))
    write_bytes(os.path.join(folder, 'report.html'), convert_report.page(conversion).encode('utf-8'))
    write_bytes(os.path.join(folder, 'report.json'), convert_report.as_json(conversion).encode('utf-8'))


def convert(options, source, folder, make_bundle):
    """Converts a bundle, or what `make_bundle` captures.

    # Arguments
        options: with `to`, `custom3`, `keep_weights`.
        source: what the user named. folder: for the results.
        make_bundle: function of the folder for a new bundle; None: `source` is a bundle.

    # Returns
        `Conversion`, which is done.

    # Raises
        UserError: a layer could not be converted, or a stage differs; the folder has the report.
    """
    python = find_python()
    require_free(folder)
    if options.custom3 and not os.path.isfile(options.custom3):
        raise UserError('%s: no such file' % options.custom3)
    is_new = not os.path.isdir(folder)
    os.makedirs(folder, exist_ok=True)
    captured, work = os.path.join(folder, 'bundle'), tempfile.mkdtemp(prefix='.work-', dir=folder)
    keep = False
    try:
        if make_bundle:
            shutil.rmtree(captured, ignore_errors=True)
            make_bundle(captured)
        conversion = Conversion(source, captured if make_bundle else source, folder)
        if conversion.manifest.get('kind') != 'capture':
            raise UserError('%s: is not a captured model: record one with capture' % source)
        tell('captured: %d calls of layers; Keras 3 builds and checks the model' % len(conversion.manifest['calls']))
        build(conversion, python, work, options)
        take(conversion, work, options)
        keep = not conversion.done
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if make_bundle and not keep:
            shutil.rmtree(captured, ignore_errors=True)
        if is_new and not os.listdir(folder):
            os.rmdir(folder)
    if not conversion.done:
        raise UserError(convert_report.failure(conversion, options))
    return conversion
