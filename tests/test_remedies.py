"""What the table of traps tells a porter to write, in Keras 3, PyTorch and ONNX: typed, saved, loaded and compared."""
import json
import re
import subprocess

import numpy as np
import pytest

from parity import traps
from test_adapters import adapt, compare, find_python
from test_capture import BUILDERS, captured
from test_commands import ROOT

OF_TRAINING = {'regularizer', 'cross_entropy', 'adam', 'clipnorm', 'decay'}
# Traps of the whole model, of its training, or with nothing to type
NOT_A_LAYER = OF_TRAINING | {'moving_averages', 'cudnn_gates', 'own_class', 'race', 'nested_masks', 'float64'}
LAYERS = {trap.key for trap in traps.TRAPS} - NOT_A_LAYER
NOT_TO_USE = {'pack_padded_sequence', 'padding_idx'}    # what the PyTorch column warns of
PORTS = {'keras3': "name='%s'", 'torch': 'self.%s', 'onnx': "'%s"}


def read(name):
    return (ROOT / 'tests' / name).read_text(encoding='utf-8')


def words(text):
    return set(re.findall('[A-Za-z_]+', text))


@pytest.mark.parametrize('framework', sorted(PORTS))
def test_every_remedy_for_a_layer_has_a_layer_in_the_port_as_it_is_printed(framework):
    text = read('remedies_%s.py' % framework)
    for key in LAYERS:
        assert PORTS[framework] % key in text, key
        for code in re.findall('`([^`]+)`', getattr(traps.by_key(key), framework.replace('torch', 'pytorch'))):
            assert words(code) - NOT_TO_USE <= words(text), (key, code)
            if framework == 'keras3' and ('=' in code or code.startswith('@')):
                flat = ' '.join(text.split())
                assert code.rstrip(')').replace('`', '') in flat or re.sub(r'.*[(]', '', code).rstrip(')') in flat, code


@pytest.mark.parametrize('port, framework', [('training_keras3.py', 'keras3'), ('training_torch.py', 'pytorch')])
def test_every_remedy_of_the_training_is_in_the_port_as_it_is_printed(port, framework):
    for key in OF_TRAINING | {'float64', 'moving_averages'}:
        for code in re.findall('`([^`]+)`', getattr(traps.by_key(key), framework)):
            assert words(code) <= words(read(port)), (key, code)


@pytest.fixture(scope='module')
def layers(tmp_path_factory):
    """(folder of the bundle with a layer for each trap, its arrays)."""
    folder, random = tmp_path_factory.mktemp('remedies'), np.random.RandomState(0)
    x = random.normal(size=(3, 5, 2)).astype('f')
    x[1, 3:] = x[2, 1:] = 0.
    np.savez(str(folder / 'x.npz'), x=x, ids=(x[:, :, 0] != 0) * random.randint(1, 6, (3, 5)),
             images=random.normal(size=(3, 8, 7, 2)), first=random.normal(size=(3, 2, 7, 7)))
    arrays, manifest = captured(folder / 'bundle', '--build', BUILDERS + ':remedies',
                                ['--inputs', folder / 'x.npz', '--steps', '0'])
    met = {trap.key for trap, _ in traps.find_traps(manifest, arrays)}
    assert LAYERS <= met, LAYERS - met
    return folder / 'bundle', arrays


@pytest.mark.slow
@pytest.mark.parametrize('framework', sorted(PORTS))
def test_every_remedy_agrees_when_it_is_saved_and_loaded_in_another_process(layers, framework, tmp_path, capsys,
                                                                            monkeypatch):
    variable, program, saved = {
        'keras3': ('KERAS3_PYTHON', 'keras3.py', 'port.keras'), 'torch': ('TORCH_PYTHON', 'torch_hooks.py', 'port.pt'),
        'onnx': ('ONNX_PYTHON', 'onnx_outputs.py', 'port.onnx')}[framework]
    find_python(variable)
    (bundle, arrays), port = layers, ROOT / 'tests' / ('remedies_%s.py' % framework)
    adapt(variable, port, bundle, tmp_path / saved)
    monkeypatch.setenv('PORT', str(tmp_path / saved))       # for `saved` of the port
    options = {'keras3': ['--model', tmp_path / saved, '--custom', port], 'torch': ['--build', '%s:saved' % port],
               'onnx': ['--model', tmp_path / saved]}[framework]
    adapt(variable, program, bundle, tmp_path / 'ported', *options)
    code, report = compare(capsys, bundle, tmp_path / 'ported')
    assert code == 0, report['first']
    assert LAYERS <= {one['stage'] for one in report['arrays']}
    second = next(one for one in report['arrays'] if one['name'] == 'second_call/stateful')
    assert second['problem'] == '' and (arrays['second_call/stateful'] != arrays['layer/stateful/output']).any()


def compare_training(capsys, bundle, ported, *left_out):
    """Exit code and report of `compare` for losses and weights after updates."""
    names = ['gradient', 'optimizer_start'] + list(left_out) + [
        'step_%d/%s' % (step, part) for step in (1, 2, 10) for part in ('slot',) + left_out]
    (ported / 'map.json').write_text(json.dumps(dict.fromkeys(names)))
    return compare(capsys, bundle, ported / 'training.npz', '--stage-map', ported / 'map.json', file='training.npz')


@pytest.fixture(scope='module')
def training(tmp_path_factory):
    """(folder of the bundle whose training meets the traps, its arrays)."""
    folder = tmp_path_factory.mktemp('training') / 'bundle'
    arrays, manifest = captured(folder, '--build', BUILDERS + ':trained', ['--steps', '10'])
    assert OF_TRAINING | {'moving_averages'} <= {trap.key for trap, _ in traps.find_traps(manifest, arrays)}
    return folder, arrays


@pytest.mark.slow
@pytest.mark.parametrize('variable, port, left_out', [
    ('KERAS3_PYTHON', 'training_keras3.py', ['parameter/normed/moving_mean', 'parameter/normed/moving_variance']),
    ('TORCH_PYTHON', 'training_torch.py', [])])
def test_every_remedy_of_the_training_agrees_and_none_can_be_left_out(training, variable, port, left_out, tmp_path,
                                                                      capsys):
    find_python(variable)
    (bundle, arrays), port = training, ROOT / 'tests' / port
    adapt(variable, port, bundle, tmp_path / 'port.keras')
    adapt(variable, port, bundle, tmp_path / 'port.keras', tmp_path)
    code, report = compare_training(capsys, bundle, tmp_path / 'remedies', *left_out)
    assert code == 0 and {'losses', 'step_1', 'step_2', 'step_10'} == {one['stage'] for one in report['arrays']}
    assert 'step_10/parameter/last/bias' in {one['name'] for one in report['arrays']}
    for name in sorted(OF_TRAINING | ({'moving_averages'} if not left_out else set())):
        assert compare_training(capsys, bundle, tmp_path / name, *left_out)[0] == 1, name
    adapt(variable, port, bundle, 'float64', tmp_path / 'float64')
    found = np.load(str(tmp_path / 'float64' / 'float64.npz'))['float64/layer/last/output']
    assert np.abs(found - arrays['float64/layer/last/output']).max() < 1e-14


@pytest.mark.slow
def test_weight_decay_of_sgd_is_a_penalty_of_half_of_it(tmp_path, capsys):
    find_python('TORCH_PYTHON')
    captured(tmp_path / 'bundle', '--build', BUILDERS + ':trained', ['--optimizer', 'sgd'])
    adapt('TORCH_PYTHON', ROOT / 'tests' / 'training_torch.py', tmp_path / 'bundle', 'sgd', tmp_path / 'port')
    code, report = compare_training(capsys, tmp_path / 'bundle', tmp_path / 'port', 'losses')
    assert code == 0 and 'step_10/parameter/last/kernel' in {one['name'] for one in report['arrays']}


@pytest.mark.slow
def test_onnx_computes_in_float64_where_the_type_is_double_throughout(training, tmp_path):
    python, _ = find_python('ONNX_PYTHON')
    bundle, arrays = training
    adapt('ONNX_PYTHON', ROOT / 'tests' / 'remedies_onnx.py', bundle, tmp_path / 'port.onnx', 'double')
    np.save(str(tmp_path / 'x.npy'), arrays['input/x'].astype('f8'))
    code = ('import numpy, onnxruntime; session = onnxruntime.InferenceSession("port.onnx"); '
            'numpy.save("found.npy", session.run(None, {"x": numpy.load("x.npy")})[0])')
    subprocess.check_call([python, '-c', code], cwd=str(tmp_path))
    found = np.load(str(tmp_path / 'found.npy'))
    assert found.dtype == 'f8' and np.abs(found - arrays['float64/layer/last/output']).max() < 1e-14
