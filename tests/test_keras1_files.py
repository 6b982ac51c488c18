"""Model files of Keras 1, written by Keras 1.2.2 itself (`tests/keras1/make.py`)."""
import copy
import gzip
import json
import os

import tf_session  # noqa: F401  first: it fixes the import order
import h5py
import numpy as np
import pytest

from command_line import UserError
from parity import keras1_config
from test_capture import captured
from test_commands import ROOT
from test_convert import converted, python  # noqa: F401

I = np.arange(32.)  # noqa: E741
INPUTS = {'branches': {'conv_input': np.sin(I).reshape(2, 4, 4, 1),
                       'table_input': np.array([[1, 2, 3, 4, 5], [6, 5, 0, 0, 0]])},
          'merged': {'a': np.sin(I[:8]).reshape(2, 4), 'b': np.cos(I[:8]).reshape(2, 4)}}
# What Keras 1.2.2 predicted for these inputs
OUTPUTS = {'branches': {'out': [0.044063, 0.660079, 0.295858, 0.037949, 0.707251, 0.2548]}, 'merged': {
    'sum': [0.164103, 1.212242, 0.532099, -0.667203, -1.630098, -0.537978],
    'mul': [-0.129572, 0.256365, 0.05627, 0.085537, 0.656383, 0.059197],
    'ave': [0.082052, 0.606121, 0.26605, -0.333601, -0.815049, -0.268989],
    'max': [0.451246, 0.939315, 0.386516, -0.173125, -0.726046, -0.154282],
    'concat': [-0.287143, 0.272927, 0.145583, 0.451246, 0.939315, 0.386516, -0.173125, -0.904052, -0.383696,
               -0.494077, -0.726046, -0.154282],
    'dot': [0.183063, 0.801118], 'cos': [0.390242, 0.900935]}}


@pytest.fixture
def old_file(tmp_path):
    """Function of a name in `tests/keras1` that gives the path of the file, and of its inputs."""
    def unpack(name):
        with gzip.open(str(ROOT / 'tests' / 'keras1' / (name + '.h5.gz'))) as packed:
            (tmp_path / (name + '.h5')).write_bytes(packed.read())
        np.savez(str(tmp_path / 'inputs.npz'), **INPUTS[name])
        return tmp_path / (name + '.h5'), tmp_path / 'inputs.npz'
    return unpack


@pytest.mark.parametrize('name', ['merged', pytest.param('branches', marks=pytest.mark.slow)])
def test_a_file_of_keras_1_gives_the_outputs_that_keras_1_gave(old_file, tmp_path, name):
    path, inputs = old_file(name)
    arrays, manifest = captured(tmp_path / 'bundle', path, ['--inputs', inputs, '--steps', '0'])
    assert manifest['inputs'] == sorted(INPUTS[name])
    for layer, expected in OUTPUTS[name].items():
        found = arrays['layer/%s/output' % layer]
        assert np.allclose(found.ravel(), expected, rtol=0, atol=2e-6), layer
    assert 'float64/layer/%s/output' % layer in arrays


@pytest.mark.slow
def test_weights_of_keras_1_go_with_the_json_of_its_model(old_file, tmp_path):
    path, inputs = old_file('branches')
    with h5py.File(str(path), 'r') as file:
        config = json.loads(file.attrs['model_config'].decode('utf-8'))
        with h5py.File(str(tmp_path / 'weights.h5'), 'w') as weights:
            for name in file['model_weights']:
                file.copy('model_weights/' + name, weights)
            weights.attrs['layer_names'] = file['model_weights'].attrs['layer_names']
    (tmp_path / 'model.json').write_text(json.dumps(dict(config, keras_version='1.2.2')))
    arrays, _ = captured(tmp_path / 'bundle', tmp_path / 'model.json', '--weights', tmp_path / 'weights.h5',
                         ['--inputs', inputs])
    assert np.allclose(arrays['layer/out/output'].ravel(), OUTPUTS['branches']['out'], rtol=0, atol=2e-6)


def with_layer(config, **changes):
    """The configuration of 'branches' with other options of the BatchNormalization."""
    config = copy.deepcopy(config)
    config['config'][0]['config']['layers'][0]['config'][1]['config'].update(changes)
    return config


def test_what_keras_2_does_not_have_is_refused_in_one_line(old_file, capsys):
    path, _ = old_file('branches')
    with h5py.File(str(path), 'r') as file:
        config = json.loads(file.attrs['model_config'].decode('utf-8'))
    with pytest.raises(UserError, match='old.h5: layer normed: BatchNormalization with mode=1, which Keras 2 does not'):
        keras1_config.translated('old.h5', with_layer(config, mode=1))
    keras1_config.translated('old.h5', with_layer(config, gamma_regularizer={'name': 'EigenvalueRegularizer'}))
    assert 'gamma_regularizer EigenvalueRegularizer is unknown to Keras 2 and left out' in capsys.readouterr().err
    for entry in ({'class_name': 'Merge'}, {'class_name': 'Merge', 'config': {'layers': [3]}}, 3, []):
        with pytest.raises(UserError, match='old.h5: cannot be read as a model of Keras 1: .*: restore the file'):
            keras1_config.translated('old.h5', {'class_name': 'Sequential', 'config': [entry]})
    config['config'][0]['config']['mode'] = 'outer'
    with pytest.raises(UserError, match='old.h5: layer joined: Merge with the mode outer, which Keras 2 does not have'):
        keras1_config.translated('old.h5', config)


def test_kernels_of_theano_are_flipped_after_the_line_that_capture_prints(tmp_path, capsys):
    """A file of channels first, with the one convolution whose kernel is `W`, (filters, channels, rows, columns)."""
    W = np.arange(8.).reshape(1, 2, 2, 2)
    options = {'nb_filter': 1, 'nb_row': 2, 'nb_col': 2, 'init': 'glorot_uniform', 'activation': 'linear',
               'border_mode': 'valid', 'subsample': [1, 1], 'dim_ordering': 'th', 'bias': False, 'W_regularizer': None,
               'b_regularizer': None, 'activity_regularizer': None, 'W_constraint': None, 'b_constraint': None}
    layers = [('Convolution2D', dict(options, name='conv', batch_input_shape=[None, 2, 2, 2], input_dtype='float32')),
              ('ZeroPadding2D', {'name': 'pad', 'padding': [1, 0]})]
    config = {'class_name': 'Sequential', 'config': [dict(class_name=kind, config=one) for kind, one in layers]}
    path = str(tmp_path / 'old.h5')
    with h5py.File(path, 'w') as file:
        file.attrs['keras_version'], file.attrs['model_config'] = b'1.2.2', json.dumps(config).encode('utf-8')
        group = file.create_group('model_weights')
        group.attrs['layer_names'] = [b'conv', b'pad']
        for name, weights in (('conv', [b'conv_W:0']), ('pad', [])):
            group.create_group(name).attrs['weight_names'] = weights
        group['conv']['conv_W:0'] = W
    x = np.random.RandomState(0).normal(size=(3, 2, 2, 2))
    np.savez(str(tmp_path / 'x.npz'), x=x)
    for folder, kernel in (('tensorflow', W[0]), ('theano', W[0, :, ::-1, ::-1])):
        arrays, _ = captured(tmp_path / folder, path, ['--inputs', tmp_path / 'x.npz'])
        assert np.allclose(arrays['layer/conv/output'].ravel(), (x * kernel).sum(axis=(1, 2, 3)), atol=1e-5)
        assert arrays['layer/pad/output'].shape == (3, 1, 3, 1)     # rows, although the file does not name its axes
        line = capsys.readouterr().err.split('python -c "')[1].split('"\n')[0]
        exec(line)      # as the message says


@pytest.mark.slow
def test_a_file_of_keras_1_converts_to_keras_3(python, old_file, tmp_path, capsys):  # noqa: F811
    path, inputs = old_file('branches')
    out, report = converted(capsys, tmp_path / 'new', path, '--inputs', inputs, '--keep-weights')
    assert out.startswith('converted: 13 stages agree')
    assert len(report['training']['agrees']) >= 2 and not report['training']['differs']
    assert os.path.exists(str(tmp_path / 'new' / 'model.keras'))
