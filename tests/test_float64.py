"""Outputs of an old model in float64: which differences of a port are rounding of the old stack itself."""
import json
from unittest import mock

import tf_session  # noqa: F401  first: it fixes the import order
import numpy as np
import pytest

import regress
from parity import bundle as bundles, float64
from test_capture import BUILDERS, captured
from test_fitting import one_process  # noqa: F401


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    """The folder and the arrays of a model whose output has few digits in float32."""
    folder = tmp_path_factory.mktemp('float64') / 'bundle'
    return folder, captured(folder, '--build', BUILDERS + ':cancelling', [])[0]


def port(arrays, bias=0.):
    """The outputs of both layers in NumPy's float32, each sum from its last number on."""
    first = np.tanh(arrays['input/x'] @ arrays['parameter/first/kernel'] + arrays['parameter/first/bias'])
    last = np.zeros((len(first), 1), 'f')
    for unit in range(64)[::-1]:
        last += first[:, unit, None] * arrays['parameter/last/kernel'][unit]
    return {'layer/first/output': first, 'layer/last/output': last + np.float32(bias)}


def report(folder, found, ported, capsys, *more, file='forward.npz'):
    """Exit code and text of `compare` for the arrays `found` of a port."""
    with bundles.NpzWriter(str(ported / file)) as writer:
        for name, value in found.items():
            writer.write(name, value)
    capsys.readouterr()
    code = regress.main(['compare', str(folder), str(ported), '--files', file] + list(more))
    return code, capsys.readouterr().out


def test_the_outputs_in_float64_are_those_of_numpy(bundle):
    arrays = bundle[1]
    wide = {name: value.astype('f8') for name, value in arrays.items()}
    first = np.tanh(wide['input/x'] @ wide['parameter/first/kernel'] + wide['parameter/first/bias'])
    last = first @ wide['parameter/last/kernel'] + wide['parameter/last/bias']
    assert np.abs(arrays['float64/layer/first/output'] - first).max() < 1e-14
    assert np.abs(arrays['float64/layer/last/output'] - last).max() < 1e-9
    assert np.abs(arrays['layer/last/output'] - last).max() > 1e-4      # in float32


def test_a_right_port_is_not_called_wrong_where_the_record_itself_is_far_from_float64(bundle, tmp_path, capsys):
    folder, arrays = bundle
    found = port(arrays)
    one, other = arrays['layer/last/output'], found['layer/last/output']
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()     # far beyond the tolerance
    code, text = report(folder, found, tmp_path, capsys)
    assert code == 0 and text.startswith('no stage differs: 2 arrays\n  forward.npz layer/last/output[')
    assert 'ill-conditioned here: both are as far from float64 (' in text and '\nrounding last ' in text
    away = np.abs(one - arrays['float64/layer/last/output']).max()
    assert '(%.2g recorded, ' % away in text
    with mock.patch('parity.compare.EXACT', ('none.npz', '')):     # as a bundle that was recorded before
        assert report(folder, found, tmp_path, capsys)[0] == 1
    code, text = report(folder, found, tmp_path, capsys, '--json')
    arrays = {one['name']: one for one in json.loads(text)['arrays']}
    assert json.loads(text)['equal'] and arrays['layer/last/output']['where'].startswith('ill-conditioned')


def test_a_wrong_port_is_called_wrong_there_too(bundle, tmp_path, capsys):
    folder, arrays = bundle
    away = np.abs(arrays['layer/last/output'] - arrays['float64/layer/last/output']).max()
    code, text = report(folder, port(arrays, bias=10. * away), tmp_path, capsys)
    assert code == 1 and 'first stage that differs: last' in text
    assert ' from float64, the record %.2g' % away in text


def test_a_right_port_is_not_called_wrong_where_the_recorded_gradient_is_far_from_float64(tmp_path, capsys):
    arrays, _ = captured(tmp_path / 'bundle', '--build', BUILDERS + ':cancelling_trained', ['--steps', '1'])
    x, y, outputs = arrays['input/x'], arrays['target/last'], port(arrays)
    first, error = outputs['layer/first/output'], outputs['layer/last/output'] - y
    d_last = np.float32(2. / error.size) * error
    d_first = d_last @ arrays['parameter/last/kernel'].T * (1 - first ** 2)
    found = {'losses': np.mean(error ** 2, keepdims=True).ravel(), 'gradient/last/kernel': first.T @ d_last,
             'gradient/last/bias': d_last.sum(axis=0), 'gradient/first/kernel': x.T @ d_first,
             'gradient/first/bias': d_first.sum(axis=0)}
    for name, value in found.items():
        one, exact = arrays[name], arrays['float64/' + name]
        assert value.shape == one.shape and value.dtype == 'f4' and exact.dtype == 'f8'
        assert np.abs(one - exact).max() > 2e-4 * np.abs(exact).max(), name       # beyond the tolerance
        assert np.abs(value - one).max() > 2e-4 * np.abs(one).max(), name
    found.update((name, arrays[name]) for name in arrays if name.startswith('step_1/'))
    (tmp_path / 'port').mkdir()
    code, text = report(tmp_path / 'bundle', found, tmp_path / 'port', capsys, file='training.npz')
    assert code == 0 and '\nrounding gradient ' in text and '\nrounding losses ' in text, text
    with mock.patch('parity.compare.EXACT', ('none.npz', '')):     # as a bundle that was recorded before
        assert report(tmp_path / 'bundle', found, tmp_path / 'port', capsys, file='training.npz')[0] == 1
    found['gradient/first/kernel'] = 1.1 * found['gradient/first/kernel']
    code, text = report(tmp_path / 'bundle', found, tmp_path / 'port', capsys, file='training.npz')
    assert code == 1 and 'first stage that differs: gradient' in text and ' from float64, the record ' in text


def test_weights_that_adam_moves_by_rounding_alone_are_called_ill_conditioned(tmp_path, capsys):
    """The port is the same model on the rows of the batch in another order: another rounding of the same updates."""
    arrays, _ = captured(tmp_path / 'bundle', '--build', BUILDERS + ':shifted', ['--steps', '2'])
    for name in ('input/x', 'target/last'):
        folder, _, own = name.partition('/')
        np.savez(str(tmp_path / (folder + '.npz')), **{own: arrays[name][::-1]})
    found, _ = captured(tmp_path / 'again', '--build', BUILDERS + ':shifted',
                        ['--steps', '2', '--inputs', tmp_path / 'input.npz', '--targets', tmp_path / 'target.npz'])
    found = {name: found[name] for name in found if name in arrays and not name.startswith('float64/') and
             name.startswith(('gradient/', 'losses', 'step_'))}
    name = 'step_1/parameter/first/bias'
    assert np.abs(arrays['float64/gradient/first/bias']).max() < 1e-13
    assert np.abs(arrays[name] - found[name]).max() > 1e-4 * np.abs(arrays[name]).max() + 1e-5
    (tmp_path / 'port').mkdir()
    code, text = report(tmp_path / 'bundle', found, tmp_path / 'port', capsys, file='training.npz')
    assert code == 0 and '\nrounding step_1 ' in text and '\nrounding step_2 ' in text, text
    found[name] = found[name] + np.float32(0.01)
    code, text = report(tmp_path / 'bundle', found, tmp_path / 'port', capsys, file='training.npz')
    assert code == 1 and 'first stage that differs: step_1' in text


def test_float64_agrees_with_the_layers_whose_kernels_have_32_bits_alone(tmp_path):
    arrays, _ = captured(tmp_path / 'bundle', '--build', BUILDERS + ':images', ['--steps', '1'])
    names = [name for name in arrays if name.startswith(('layer/', 'step_1/parameter/normed/')) and
             arrays[name].dtype.kind == 'f']
    assert {'layer/normed/output', 'step_1/parameter/normed/moving_variance'} <= set(names)
    for name in names:
        exact = arrays['float64/' + name]
        assert exact.dtype == 'f8' and np.allclose(arrays[name], exact, rtol=1e-5, atol=1e-6)
        assert (arrays[name] != exact).any() or name.endswith(('pool/output', 'flat/output', 'drop/output'))


def test_large_models_have_no_outputs_in_float64_unless_they_are_asked_for(tmp_path, one_process):  # noqa: F811
    with mock.patch.object(float64, 'LARGE', 100):
        assert not any(name.startswith('float64/') for name in captured(
            tmp_path / 'a', '--build', BUILDERS + ':small', [])[0])
        assert 'float64/layer/two/output' in captured(tmp_path / 'b', '--build', BUILDERS + ':small', ['--float64'])[0]
        for name in 'ab':
            assert regress.main(['check', str(tmp_path / name)]) == 0


def test_a_model_that_knows_float32_only_is_captured_without_float64(tmp_path, capsys):
    (tmp_path / 'build.py').write_text('''
import keras
import tensorflow as tf


class Own(keras.layers.Layer):
    def call(self, x):
        return x + tf.constant(1., tf.float32)


def model():
    x = keras.layers.Input((3,))
    return keras.models.Model(x, Own(name='own')(x))
''')
    arrays, _ = captured(tmp_path / 'bundle', '--build', '%s:model' % (tmp_path / 'build.py'), [])
    assert 'layer/own/output' in arrays and not any(name.startswith('float64/') for name in arrays)
    told, = [line for line in capsys.readouterr().err.splitlines() if 'float64' in line]
    assert told.startswith('no outputs in float64, so compare cannot tell rounding from a difference: ')


def test_a_model_whose_outputs_are_random_is_captured_without_float64(tmp_path, capsys):
    (tmp_path / 'build.py').write_text('''
import keras
from keras import backend as K


class Noise(keras.layers.Layer):
    def call(self, x):
        return x + K.random_normal(K.shape(x))


def model():
    x = keras.layers.Input((3,))
    return keras.models.Model(x, Noise(name='noise')(x))
''')
    arrays, _ = captured(tmp_path / 'bundle', '--build', '%s:model' % (tmp_path / 'build.py'), [])
    assert 'layer/noise/output' in arrays and not any(name.startswith('float64/') for name in arrays)
    assert 'its outputs are random' in capsys.readouterr().err


def test_a_stateful_model_has_its_second_call_in_float64_too(tmp_path):
    arrays, _ = captured(tmp_path / 'bundle', '--build', BUILDERS + ':stateful', [])
    assert np.allclose(arrays['float64/second_call/back'], arrays['second_call/back'], atol=1e-6)
    assert arrays['float64/layer/kept/state_2'].dtype == 'f8'
