"""Deliberate mistakes of a port, each in one layer: `compare` names the layer and the cause.

The port is the old model itself in Keras 2.2.4 with one mistake, so that nothing of `parity.hypotheses` makes its
numbers. Its inputs of the layer have other rounding than the record: the cause is computed from them.
"""
import json

import tf_session  # first: it fixes the import order
import keras
import numpy as np
import pytest
from keras import backend as K
from keras import layers

import regress
from parity import bundle as bundles, layer_calls
from test_capture import captured


class Total(layers.Layer):
    """An own layer: the sum of all steps, or their mean."""

    def __init__(self, mean=False, **kwargs):
        self.mean = mean
        super(Total, self).__init__(**kwargs)

    def call(self, x):
        return K.mean(x, axis=1) if self.mean else K.sum(x, axis=1)

    def compute_output_shape(self, shape):
        return shape[0], shape[2]


def softmax(axis):
    def over_axis(x):
        e = K.exp(x - K.max(x, axis=axis, keepdims=True))
        return e / K.sum(e, axis=axis, keepdims=True)
    return over_axis


def build(lstm=(), both='ave', axis=-1, epsilon=1e-3, mean=False, masked=False):
    """A model of many kinds of layers, with the arguments that a mistake changes."""
    x = layers.Input((6, 3), name='x')
    y = layers.Masking(name='first')(x) if masked else layers.Activation('linear', name='first')(x)
    y = layers.LSTM(4, return_sequences=True, name='lstm', **dict(lstm))(y)
    y = layers.GRU(4, return_sequences=True, reset_after=True, recurrent_activation='sigmoid', name='gru')(y)
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode=both, name='both')(y)
    y = NoMask(name='open')(y)
    y = layers.BatchNormalization(axis=1, epsilon=epsilon, name='normed')(y)
    y = layers.Conv1D(5, 3, padding='same', name='conv')(y)
    y = layers.Dense(4, activation=softmax(axis) if axis != -1 else 'softmax', name='soft')(y)
    return keras.models.Model(x, layers.Dense(2, name='out')(Total(mean, name='total')(y)))


class NoMask(layers.Layer):
    def __init__(self, **kwargs):
        super(NoMask, self).__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, inputs, mask=None):
        return None


def times(name, factor):
    return lambda w: w.update({name: factor * w[name]})


def without(name, part):
    def change(w):
        w[name] = w[name].copy()
        w[name][part] = 0.
    return change


# the layer that must be named; a part of the cause; arguments of `build` and a change of the weights
MISTAKES = [
    ('lstm', 'the bias is missing', {}, times('lstm/bias', 0.)),
    ('lstm', 'the bias is halved', {}, times('lstm/bias', 0.5)),
    ('lstm', 'the bias is doubled', {}, times('lstm/bias', 2.)),
    ('lstm', 'the second half of the bias is missing', {}, without('lstm/bias', slice(8, None))),
    ('lstm', '1 is missing in the forget bias', {}, lambda w: w['lstm/bias'].__isub__(np.repeat([0., 1., 0., 0.], 4))),
    ('lstm', 'recurrent_activation is sigmoid', {'lstm': {'recurrent_activation': 'sigmoid'}}, None),
    ('lstm', 'a mask is added', {'masked': True}, None),
    ('gru', 'the second half of the bias is missing', {}, without('gru/bias', 1)),
    ('gru', 'the first half of the bias is missing', {}, without('gru/bias', 0)),
    ('both', 'merge_mode is sum', {'both': 'sum'}, None),
    ('normed', 'epsilon is 1e-05', {'epsilon': 1e-5}, None),
    ('normed', 'beta is missing', {}, times('normed/beta', 0.)),
    ('conv', 'the bias is halved', {}, times('conv/bias', 0.5)),
    ('soft', 'activation is softmax over axis 1', {'axis': 1}, None),
    ('soft', 'the bias is missing', {}, times('soft/bias', 0.)),
    ('total', 'a mean in place of a sum, of 6 numbers', {'mean': True}, None),
    ('out', 'the bias is doubled', {}, times('out/bias', 2.))]


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """The bundle of the model, its inputs and its weights by name."""
    folder, random = tmp_path_factory.mktemp('causes'), np.random.RandomState(0)
    x = random.normal(size=(4, 6, 3)).astype('f')
    x[1, 4:] = x[2, 1:] = 0.
    with tf_session.repeatable():
        model = build()
        K.batch_set_value([(one, random.uniform(-0.8, 0.8, K.int_shape(one)) + ('variance' in one.name))
                           for one in model.weights])
        model.save_weights(str(folder / 'weights.h5'))
        values = {name: K.get_value(weight) for name, weight in layer_calls.weight_names(model)}
    np.savez(str(folder / 'x.npz'), x=x)
    captured(folder / 'bundle', '--build', '%s:build' % __file__, '--weights', folder / 'weights.h5',
             ['--inputs', folder / 'x.npz'])
    return folder / 'bundle', x, values


def report(recorded, ported, arguments, change, capsys):
    folder, x, values = recorded
    values = {name: value.copy() for name, value in values.items()}
    if change:
        change(values)
    with tf_session.repeatable('float64'):      # other rounding than that of the record
        model = build(**arguments)
        K.batch_set_value([(weight, values[name]) for name, weight in layer_calls.weight_names(model)])
        inner = [layer for layer in model.layers if layer.name != 'x']
        found = K.get_session().run([layer.output for layer in inner], {model.inputs[0]: x, K.learning_phase(): 0})
    ported.mkdir()
    with bundles.NpzWriter(str(ported / 'forward.npz')) as writer:
        for layer, value in zip(inner, found):
            writer.write('layer/%s/output' % layer.name, value.astype('f'))
    capsys.readouterr()
    code = regress.main(['compare', str(folder), str(ported), '--files', 'forward.npz', '--json'])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_port_without_a_mistake_differs_nowhere(recorded, tmp_path, capsys):
    code, found = report(recorded, tmp_path / 'port', {}, None, capsys)
    assert code == 0 and found['causes'] == []


@pytest.mark.slow
@pytest.mark.parametrize('layer, cause, arguments, change', MISTAKES, ids=['%s: %s' % one[:2] for one in MISTAKES])
def test_each_deliberate_mistake_is_named_with_its_layer(recorded, tmp_path, capsys, layer, cause, arguments, change):
    code, found = report(recorded, tmp_path / 'port', arguments, change, capsys)
    assert code == 1 and found['first']['stage'] == layer
    assert any(one.startswith('likely cause: ' + cause) for one in found['causes']), found['causes']


@pytest.mark.slow
def test_a_small_mistake_is_named_beside_the_rounding_of_the_ports_own_inputs(recorded, tmp_path, capsys):
    folder, x, values = recorded
    name = 'conv/bias'
    small = (folder, x, dict(values))

    def change(w):
        w[name] = w[name] * 0.9995      # no mistake that is known: 2e-4 of the output
    code, found = report(small, tmp_path / 'port', {}, change, capsys)
    assert code == 1 and found['first']['stage'] == 'conv'
    assert not any(one.startswith('likely cause') for one in found['causes'])
