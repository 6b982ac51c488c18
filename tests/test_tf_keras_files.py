"""Model files of tf.keras load into Keras 2.2.4: those of TensorFlow 1.12, and the forms that newer ones write."""
import json

import tf_session  # noqa: F401  first: it fixes the import order
import h5py
import numpy as np
import pytest
import tensorflow as tf

from command_line import UserError
from parity import tf_keras_config
from test_capture import captured


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    """(path, inputs, what tf.keras of TensorFlow 1.12 predicts)."""
    path = str(tmp_path_factory.mktemp('tf') / 'old.h5')
    layers = tf.keras.layers
    with tf.Graph().as_default(), tf.Session().as_default():
        model = tf.keras.Sequential([layers.Dense(3, activation='tanh', input_shape=(4,), name='one'),
                                     layers.BatchNormalization(name='normed'), layers.Dense(2, name='two')])
        model.compile('adam', 'mse')
        x = np.random.RandomState(0).normal(size=(5, 4)).astype('f')
        model.train_on_batch(x, np.ones((5, 2)))
        model.save(path)
        return path, x, model.predict(x)


def test_a_file_of_tf_keras_is_captured_with_its_training(file, tmp_path):
    path, x, expected = file
    np.savez(str(tmp_path / 'x.npz'), x=x)
    arrays, manifest = captured(tmp_path / 'bundle', path, ['--steps', '1', '--inputs', tmp_path / 'x.npz'])
    assert np.allclose(arrays[manifest['output_arrays'][0]], expected, atol=1e-6)
    assert manifest['training']['optimizer'] == 'Adam' and arrays['optimizer_start/0'] == 1
    assert np.abs(arrays['optimizer_start/1']).max() > 0


def test_what_tensorflow_2_writes_is_what_keras_2_2_4_reads():
    config = {'class_name': 'Functional', 'config': {'name': 'm', 'layers': [
        {'class_name': 'GRU', 'inbound_nodes': [[['x', 0, 0, {'mask': None}]]], 'config': {
            'name': 'g', 'units': 3, 'dtype': {'class_name': 'Policy', 'config': {'name': 'float32'}},
            'time_major': False,
            'kernel_initializer': {'class_name': 'GlorotUniform', 'config': {'seed': None}}, 'reset_after': True}}]}}
    made = tf_keras_config.translated('old.h5', config)
    assert made['class_name'] == 'Model'
    layer = made['config']['layers'][0]
    assert layer['config'] == {'name': 'g', 'units': 3, 'dtype': 'float32', 'kernel_initializer': 'glorot_uniform',
                               'reset_after': True}
    assert layer['inbound_nodes'] == [[['x', 0, 0, {}]]]


def test_an_option_that_keras_2_2_4_lacks_is_named():
    config = {'class_name': 'Conv2D', 'config': {'name': 'c', 'filters': 2, 'kernel_size': 3, 'groups': 2}}
    with pytest.raises(UserError, match=r'layer c \(Conv2D\): Keras 2.2.4 has no option groups=2'):
        tf_keras_config.translated('old.h5', config)
    assert 'groups' not in tf_keras_config.translated(
        'old.h5', {'class_name': 'Conv2D', 'config': dict(config['config'], groups=1)})['config']


def test_a_loss_from_logits_is_not_taken_for_one_from_probabilities(capsys):
    training = {'optimizer_config': {'class_name': 'Adam', 'config': {'learning_rate': 0.01, 'name': 'Adam'}}, 'loss': {
        'class_name': 'SparseCategoricalCrossentropy', 'config': {'from_logits': True}}}
    assert tf_keras_config.training_config('old.h5', training) is None and 'logits' in capsys.readouterr().err
    training['loss']['config']['from_logits'] = False
    made = tf_keras_config.training_config('old.h5', training)
    assert made['loss'] == 'sparse_categorical_crossentropy' and made['optimizer_config']['config'] == {'lr': 0.01}


def test_files_of_keras_2_2_are_left_as_they_are(file):
    assert not tf_keras_config.is_newer('2.2.4') and not tf_keras_config.is_newer('')
    assert tf_keras_config.is_newer('2.2.4-tf') and tf_keras_config.is_newer('2.3.1')
    with h5py.File(file[0], 'r') as stored:
        assert 'GlorotUniform' in json.dumps(json.loads(stored.attrs['model_config'].decode('utf-8')))
