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
from parity import bundle as bundles, float64, layer_calls
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


class Padded(layers.Layer):
    """Pooling over padding of zeros, as frameworks do that pad first."""

    def __init__(self, mode, **kwargs):
        self.mode = mode
        super(Padded, self).__init__(**kwargs)

    def call(self, x):
        return K.pool2d(K.spatial_2d_padding(x, ((0, 1), (0, 1))), (2, 2), (2, 2), 'valid', pool_mode=self.mode)

    def compute_output_shape(self, shape):
        return shape[0], (shape[1] + 1) // 2, (shape[2] + 1) // 2, shape[3]


def pictures(mean=None, largest=None, alpha=1., top=0.5, axis=-1, summed=False, gate='linear'):
    """Layers of pictures."""
    x = layers.Input((5, 5, 3), name='x')
    y = layers.SeparableConv2D(4, 3, depth_multiplier=2, padding='same', activation=gate, name='separable')(x)
    y = layers.DepthwiseConv2D(3, padding='same', name='depthwise')(y)
    y = layers.ELU(alpha, name='elu')(layers.Conv2DTranspose(4, 3, padding='same', name='transposed')(y))
    y = (mean or layers.AveragePooling2D(2, padding='same', name='mean'))(y)
    y = layers.ReLU(top, name='relu')(layers.Conv2D(4, 1, name='conv')(y))
    y = layers.BatchNormalization(name='normed')(y)
    y = (largest or layers.MaxPooling2D(2, padding='same', name='largest'))(y)
    y = Total2D(name='average')(y) if summed else layers.GlobalAveragePooling2D(name='average')(y)
    return keras.models.Model(x, layers.Activation(softmax(axis), name='soft')(y) if axis != -1 else (
        layers.Softmax(name='soft')(y)))


class Total2D(layers.GlobalAveragePooling2D):
    def call(self, x):
        return K.sum(x, axis=(1, 2))


def steps(masked=False, back=False, inner='tanh', each='tanh', axis=-1):
    """Recurrent layers of other kinds, and a Lambda layer."""
    x = layers.Input((6, 3), name='x')
    y = layers.Masking(name='first')(x) if masked else layers.Activation('linear', name='first')(x)
    y = NoMask(name='open')(layers.SimpleRNN(4, return_sequences=True, go_backwards=back, name='simple')(y))
    y = layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True, activation=inner, name='s'), name='both')(y)
    y = layers.Bidirectional(layers.GRU(4, return_sequences=True, reset_after=True, recurrent_activation='sigmoid',
                                        name='g'), name='gates')(y)
    y = layers.TimeDistributed(layers.Dense(4, activation=each, name='d'), name='each')(y)
    return keras.models.Model(x, layers.Lambda(softmax(axis), name='weights')(y))


def times(name, factor):
    return lambda w: w.update({name: factor * w[name]})


def without(name, part):
    def change(w):
        w[name] = w[name].copy()
        w[name][part] = 0.
    return change


# the layer that must be named; a part of the cause; arguments of `build` and a change of the weights; other builders
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
    ('out', 'the bias is doubled', {}, times('out/bias', 2.)),
    ('separable', 'the bias is missing', {}, times('separable/bias', 0.), pictures),
    ('separable', 'activation is relu', {'gate': 'relu'}, None, pictures),
    ('depthwise', 'the bias is halved', {}, times('depthwise/bias', 0.5), pictures),
    ('transposed', 'the second half of the bias is missing', {}, without('transposed/bias', slice(2, None)), pictures),
    ('elu', 'alpha is 0.5', {'alpha': 0.5}, None, pictures),
    ('mean', 'the mean counts the padding', {'mean': Padded('avg', name='mean')}, None, pictures),
    ('relu', 'the maximum is not used', {'top': None}, None, pictures),
    ('normed', 'beta is halved', {}, times('normed/beta', 0.5), pictures),
    ('largest', 'the padding is 0', {'largest': Padded('max', name='largest')}, None, pictures),
    ('average', 'it is the sum', {'summed': True}, None, pictures),
    ('soft', 'softmax is over axis 0', {'axis': 0}, None, pictures),
    ('simple', 'a mask is added', {'masked': True}, None, steps),
    ('simple', 'the input is read backwards', {'back': True}, None, steps),
    ('simple', 'the bias is missing', {}, times('simple/bias', 0.), steps),
    ('both', 'activation is relu', {'inner': 'relu'}, None, steps),
    ('both', 'the bias is halved in the forward direction', {}, times('both/forward_s/bias', 0.5), steps),
    ('gates', 'the second half of the bias is missing in the backward direction', {},
     without('gates/backward_g/bias', 1), steps),
    ('each', 'activation is relu', {'each': 'relu'}, None, steps),
    ('each', 'the first half of the bias is missing', {}, without('each/d/bias', slice(2)), steps),
    ('weights', 'softmax is over axis 1 in place of 2', {'axis': 1}, None, steps)]


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """Function of a builder: the bundle of its model, its inputs and its weights by name."""
    made = {}

    def record(builder):
        if builder in made:
            return made[builder]
        folder, random = tmp_path_factory.mktemp('causes'), np.random.RandomState(0)
        with tf_session.repeatable():
            model = builder()
            x = random.normal(size=(4,) + K.int_shape(model.inputs[0])[1:]).astype('f')
            if x.ndim == 3:
                x[1, 4:] = x[2, 1:] = 0.
            K.batch_set_value([(one, random.uniform(-0.8, 0.8, K.int_shape(one)) + ('variance' in one.name))
                               for one in model.weights])
            model.save_weights(str(folder / 'weights.h5'))
            values = {name: K.get_value(weight) for name, weight in layer_calls.weight_names(model)}
        np.savez(str(folder / 'x.npz'), x=x)
        captured(folder / 'bundle', '--build', '%s:%s' % (__file__, builder.__name__), '--weights',
                 folder / 'weights.h5', ['--inputs', folder / 'x.npz'])
        made[builder] = folder / 'bundle', x, values
        return made[builder]

    return record


def report(recorded, ported, arguments, change, capsys, builder=build):
    folder, x, values = recorded(builder)
    values = {name: value.copy() for name, value in values.items()}
    if change:
        change(values)
    with tf_session.repeatable('float64'), float64.allowed():       # other rounding than that of the record
        model = builder(**arguments)
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
@pytest.mark.parametrize('builder', [build, pictures, steps])
def test_a_port_without_a_mistake_differs_nowhere(recorded, tmp_path, capsys, builder):
    code, found = report(recorded, tmp_path / 'port', {}, None, capsys, builder)
    assert code == 0 and found['causes'] == []


@pytest.mark.slow
@pytest.mark.parametrize('layer, cause, arguments, change, builder', [(one + (build,))[:5] for one in MISTAKES],
                         ids=['%s: %s' % one[:2] for one in MISTAKES])
def test_each_deliberate_mistake_is_named_with_its_layer(recorded, tmp_path, capsys, layer, cause, arguments, change,
                                                         builder):
    code, found = report(recorded, tmp_path / 'port', arguments, change, capsys, builder)
    assert code == 1 and found['first']['stage'] == layer
    assert any(one.startswith('likely cause: ' + cause) for one in found['causes']), found['causes']


@pytest.mark.slow
def test_a_small_mistake_is_named_beside_the_rounding_of_the_ports_own_inputs(recorded, tmp_path, capsys):
    def change(w):
        w['conv/bias'] = w['conv/bias'] * 0.9995      # no mistake that is known: 2e-4 of the output
    code, found = report(recorded, tmp_path / 'port', {}, change, capsys)
    assert code == 1 and found['first']['stage'] == 'conv'
    assert not any(one.startswith('likely cause') for one in found['causes'])
