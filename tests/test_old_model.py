"""Old models that Keras loads wrongly, or not at all: what is told, and what is recorded."""
import json
import re

import tf_session  # first: it fixes the import order
import h5py
import keras
import numpy as np
import pytest

import old_models_here
import regress
from command_line import UserError
from parity import bundle, capture, old_model
from test_capture import BUILDERS, captured
from test_fitting import one_process  # noqa: F401

# What Keras keeps of `lambda x: K.sum(x, axis=1)` (3.7: without the axis) of several Pythons, this one among them
CODE = {
    '2.7': 'YwEAAAABAAAABAAAAEMAAABzEwAAAHQAAGoBAHwAAGQBAGQCAIMBAVMoAwAAAE50BAAAAGF4aXNpAQAAACgCAAAAdAEAAABL'
           'dAMAAABzdW0oAQAAAHQBAAAAeCgAAAAAKAAAAABzBwAAADxzdGRpbj50CAAAADxsYW1iZGE+AgAAAHQAAAAA',
    '3.7': '4wEAAAAAAAAAAQAAAAMAAABDAAAAcwoAAAB0AKABfAChAVMAKQFOKQLaAUvaA3N1bSkB2gF4qQByBAAAANoIPHN0cmluZz7a'
           'CDxsYW1iZGE+AwAAAPMAAAAA',
    '3.8': '4wEAAAAAAAAAAAAAAAEAAAAEAAAAQwAAAHMOAAAAdABqAXwAZAFkAo0CUwApA07pAQAAACkB2gRheGlzKQLaAUvaA3N1bakB'
           '2gF4qQByBwAAAPoHPHN0ZGluPtoIPGxhbWJkYT4CAAAA8wAAAAA=',
    '3.11': '4wEAAAAAAAAAAAAAAAQAAAADAAAA8zoAAACXAHQAAAAAAAAAAAAAAKABAAAAAAAAAAAAAAAAAAAAAAAAAAB8AGQBrAKmAgAA'
           'qwIAAAAAAAAAAFMAKQNO6QEAAAApAdoEYXhpcykC2gFL2gNzdW2pAdoBeHMBAAAAIPoHPHN0ZGluPvoIPGxhbWJkYT5yCQAA'
           'AAIAAABzFgAAAIAAjWGPZYplkEGYQYhl0Q4e1A4egADzAAAAAA==',
    '3.6': '4wEAAAAAAAAAAQAAAAQAAABDAAAAcw4AAAB0AGoBfABkAWQCjQJTACkDTukBAAAAKQHaBGF4aXMpAtoBS9oDc3VtKQHaAXip'
           'AHIGAAAA+gc8c3RkaW4+2gg8bGFtYmRhPgIAAABzAAAAAA=='}


# Weights of cuDNN

def to_cudnn(group):
    """Writes the weights of one layer in the layout of cuDNN in place of that of Keras."""
    names = {name.split('/')[-1]: name for name in map(bytes.decode, group.attrs['weight_names'])}
    directions = sorted({name.rsplit('/', 1)[0] for name in map(bytes.decode, group.attrs['weight_names'])})
    for direction in directions:
        kernel, recurrent, bias = [group['%s/%s' % (direction, part)][()] for part in (
            'kernel:0', 'recurrent_kernel:0', 'bias:0')]
        gates = kernel.shape[1] // len(recurrent)
        kernel = np.hstack([one.T.reshape(one.shape) for one in np.hsplit(kernel, gates)])
        recurrent = np.hstack([one.T for one in np.hsplit(recurrent, gates)])
        bias = np.tile(0.5 * bias, 2) if bias.ndim == 1 else bias.ravel()
        for part, value in (('kernel:0', kernel), ('recurrent_kernel:0', recurrent), ('bias:0', bias)):
            del group['%s/%s' % (direction, part)]
            group['%s/%s' % (direction, part)] = value
    assert len(names) == 3


@pytest.fixture(scope='module')
def cudnn(tmp_path_factory):
    """A file with weights of cuDNN, and the outputs of the model with sigmoid gates for some inputs."""
    folder = tmp_path_factory.mktemp('cudnn')
    random = np.random.RandomState(0)
    x = random.normal(size=(2, 5, 3)).astype('f')
    with tf_session.repeatable():
        model = old_models_here.gated_sigmoid()
        model.set_weights([random.uniform(-1., 1., keras.backend.int_shape(one)) for one in model.weights])
        expected = model.predict(x)
        model.save_weights(str(folder / 'weights.h5'))
    with h5py.File(str(folder / 'weights.h5'), 'r+') as file:
        for name in ('plain', 'both'):
            to_cudnn(file[name])
    np.savez(str(folder / 'x.npz'), x=x)
    return folder, expected


def test_weights_of_cudnn_give_the_outputs_of_sigmoid_gates_without_a_warning(cudnn, tmp_path, capsys):
    folder, expected = cudnn
    arrays, manifest = captured(tmp_path / 'right', '--build', BUILDERS + ':gated_sigmoid', '--weights',
                                folder / 'weights.h5', ['--inputs', folder / 'x.npz'])
    assert np.allclose(arrays['layer/both/output'], expected, atol=1e-6)
    assert [call['name'] for call in manifest['calls'] if call.get('cudnn_weights')] == [
        'plain', 'both/forward_gru_1', 'both/backward_gru_1', 'both']
    assert 'cuDNN layers' not in capsys.readouterr().err
    regress.main(['explain', str(tmp_path / 'right')])
    assert 'cudnn_gates' not in capsys.readouterr().out


@pytest.mark.parametrize('more', [[], ['--by-name']])
def test_weights_of_cudnn_under_other_gates_are_told_recorded_and_explained(cudnn, tmp_path, capsys, more):
    folder, expected = cudnn
    arrays, manifest = captured(tmp_path / 'wrong', '--build', BUILDERS + ':gated', '--weights', folder / 'weights.h5',
                                ['--inputs', folder / 'x.npz'] + more)
    told, = [line for line in capsys.readouterr().err.splitlines() if 'cuDNN layers' in line]
    assert 'plain (recurrent_activation is hard_sigmoid), forward_gru_1 (' in told and 'backward_gru_1' in told
    assert np.abs(arrays['layer/both/output'] - expected).max() > 1e-3      # why it matters
    regress.main(['explain', str(tmp_path / 'wrong')])
    out = capsys.readouterr().out
    assert out.startswith('cudnn_gates: ') and '    plain: recurrent_activation is hard_sigmoid' in out
    assert 'both/forward_gru_1: recurrent_activation is hard_sigmoid' in out
    assert "in Keras 3: capture again with recurrent_activation='sigmoid'" in out
    assert not re.search('^hard_sigmoid:', out, re.MULTILINE)       # not the advice to keep it


# Lambda layers of other Pythons

def lambda_model(path, code, old=False):
    """Saves a model whose Lambda layer has this code; `old`: in the form of Keras before 2.1.2."""
    with tf_session.repeatable():
        model = keras.models.Sequential([keras.layers.Lambda(lambda x: x, input_shape=(3,), name='code')])
        model.save(str(path))
    with h5py.File(str(path), 'r+') as file:
        config = json.loads(file.attrs['model_config'].decode())
        config['config']['layers'][0]['config']['function'] = [code, None, None]
        file.attrs['model_config'] = json.dumps(config).encode()


@pytest.mark.parametrize('version', sorted(set(CODE) - {'3.6'}))
def test_a_lambda_of_another_python_is_one_line_with_the_remedy(tmp_path, version):
    lambda_model(tmp_path / 'old.h5', CODE[version])
    with pytest.raises(UserError, match='Lambda layer code was written by another Python than 3.6.*--build') as told:
        regress.main(['capture', str(tmp_path / 'old.h5'), str(tmp_path / 'bundle'), '--trust'])
    assert '\n' not in str(told.value) and not (tmp_path / 'bundle').exists()


@pytest.mark.parametrize('code', ['', 'x', '4w==', CODE['3.6'][:40], CODE['3.6'][:-20]])
def test_damaged_code_of_a_lambda_is_one_line(tmp_path, code):
    lambda_model(tmp_path / 'old.h5', code)
    with pytest.raises(UserError, match='Lambda layer code was written by another Python'):
        regress.main(['capture', str(tmp_path / 'old.h5'), str(tmp_path / 'bundle'), '--trust'])


def test_a_lambda_of_this_python_runs(tmp_path):
    lambda_model(tmp_path / 'old.h5', CODE['3.6'])
    arrays, _ = captured(tmp_path / 'bundle', tmp_path / 'old.h5', ['--trust'])
    assert np.allclose(arrays['layer/code/output'], arrays['input/code_input'].sum(axis=1), atol=1e-6)


# Hints

def relu6(x):
    return keras.backend.relu(x, max_value=6.)


@pytest.fixture(scope='module')
def own_function(tmp_path_factory):
    """A model file with an activation and a loss that only a file for --custom has."""
    folder = tmp_path_factory.mktemp('own')
    with tf_session.repeatable():
        model = keras.models.Sequential([keras.layers.Dense(2, activation=relu6, input_shape=(3,), name='one')])
        model.compile('sgd', 'mse')
        model.save(str(folder / 'old.h5'))
    with h5py.File(str(folder / 'old.h5'), 'r+') as file:
        config = json.loads(file.attrs['training_config'].decode())
        config['loss'] = 'halved'
        file.attrs['training_config'] = json.dumps(config).encode()
    (folder / 'own.py').write_text('from keras import backend as K\n\n\ndef relu6(x):\n    return K.relu(x, '
                                   'max_value=6.)\n\n\ndef halved(y, p):\n    return K.mean(K.square(y - p)) / 2\n')
    (folder / 'half.py').write_text('from keras import backend as K\n\n\ndef relu6(x):\n    return K.relu(x)\n')
    return folder


@pytest.mark.parametrize('more, told', [
    ([], 'Unknown activation function:relu6: define relu6 in a file and name it with --custom'),
    (['--custom', 'half.py'], 'Unknown loss function:halved: define halved in a file and name it with --custom')])
def test_an_unknown_function_is_a_case_for_custom(own_function, tmp_path, more, told):
    more = [str(own_function / one) if one.endswith('.py') else one for one in more]
    with pytest.raises(UserError, match=told):
        regress.main(['capture', str(own_function / 'old.h5'), str(tmp_path / 'bundle')] + more)
    arrays, _ = captured(tmp_path / 'bundle', own_function / 'old.h5',
                         ['--custom', own_function / 'own.py', '--steps', '1'])
    loss = np.mean((arrays['target/one'] - arrays['layer/one/output']) ** 2) / 2
    assert abs(arrays['losses'][0] - loss) < 1e-6


def test_check_of_a_bundle_of_a_function_asks_for_the_function(tmp_path, one_process):  # noqa: F811
    folder, built = str(tmp_path / 'bundle'), BUILDERS + ':averaged'
    captured(folder, '--build', built, [])
    with pytest.raises(UserError, match='MaskedMean .*: it was captured with --build %s: give this' % built):
        regress.main(['check', folder])
    assert regress.main(['check', folder, '--build', built]) == 0
    manifest = bundle.read_manifest(folder)
    del manifest['build']       # as in older bundles
    assert capture.built_by(manifest) == built
    for command in (None, 3, '', '--build', 'regress.py capture old.h5 bundle'):
        assert capture.built_by({'command': command}) == ''


def test_no_steps_and_no_loss_are_told_apart(own_function, tmp_path, capsys):
    captured(tmp_path / 'a', own_function / 'old.h5', ['--custom', own_function / 'own.py', '--steps', '0'])
    assert 'no losses or gradients: --steps is 0' in capsys.readouterr().err
    captured(tmp_path / 'b', '--build', BUILDERS + ':small', [])
    assert 'no losses or gradients: the model has no loss, see --loss' in capsys.readouterr().err


def test_options_may_stand_between_the_paths(capsys):
    for words in ('old.h5 --trust bundle', '--trust old.h5 bundle', 'old.h5 bundle --trust', 'old.h5 --steps 3 bundle'):
        options = regress.parse(['capture'] + words.split())
        assert (options.model, options.dir) == ('old.h5', 'bundle')
    assert regress.parse('capture --build a.py:b bundle --steps 3'.split()).dir is None
    for words in ('capture old.h5 --nothing bundle', 'explain bundle more', 'compare a b c'):
        with pytest.raises(SystemExit):
            regress.parse(words.split())
        assert 'unrecognized arguments: ' in capsys.readouterr().err


def test_the_json_of_a_model_is_built_with_its_weights(tmp_path):
    with tf_session.repeatable():
        model = old_models_here.images()
        (tmp_path / 'model.json').write_text(model.to_json())
        model.save_weights(str(tmp_path / 'weights.h5'))
        x = np.random.RandomState(0).normal(size=(2, 6, 6, 2))
        expected = model.predict(x)
    np.savez(str(tmp_path / 'x.npz'), x=x)
    file, folder = str(tmp_path / 'model.json'), str(tmp_path / 'bundle')
    arrays, _ = captured(folder, file, '--weights', tmp_path / 'weights.h5', ['--inputs', tmp_path / 'x.npz'])
    assert np.allclose(arrays['layer/out/output'], expected, atol=1e-6)
    (tmp_path / 'bad.json').write_text('{"class_name": 3}')
    (tmp_path / 'new.keras').write_bytes(b'PK\3\4' + bytes(30))
    for name, more, told in (
            ('model.json', [], 'is the JSON of a model, without weights: name their file with --weights'),
            ('bad.json', [], 'cannot be read as the JSON of a model: no class_name and config'),
            ('new.keras', [], 'is a zip archive, such as a .keras file of Keras 3'),
            ('weights.h5', ['--weights', str(tmp_path / 'weights.h5')], '--weights: a model file has its own weights')):
        with pytest.raises(UserError, match=told):
            regress.main(['capture', str(tmp_path / name), str(tmp_path / 'x')] + more)


def test_layers_in_a_configuration_take_the_floats_of_keras():
    config = {'dtype': 'float32', 'layers': [{'dtype': 'int32'}, {'dtype': 'float32'}]}
    assert old_model.in_floatx(config) == config
    table = old_model.in_floatx({'class_name': 'Embedding', 'config': {'dtype': 'int32'}})      # Keras 2.0
    assert table['config']['dtype'] == 'float32'
    with tf_session.repeatable('float64'):
        assert old_model.in_floatx(config) == {'dtype': 'float64', 'layers': [{'dtype': 'int32'}, {'dtype': 'float64'}]}
