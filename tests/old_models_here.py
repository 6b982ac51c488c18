"""Functions that build small models in the style of Keras 2.2.4, with custom layers, for tests of capturing."""
import keras
from keras import backend as K
from keras import layers
import numpy as np
import tensorflow as tf

from old_layers import drawn


class MaskedMean(keras.layers.Layer):
    """Mean over the valid steps, and their number: a layer with masks and two outputs."""

    def __init__(self, **kwargs):
        super(MaskedMean, self).__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        valid = K.expand_dims(K.cast(mask, K.floatx()))
        count = K.sum(valid, axis=1)
        return [K.sum(inputs * valid, axis=1) / K.maximum(count, 1.), count]

    def compute_mask(self, inputs, mask=None):
        return [None, None]

    def compute_output_shape(self, input_shape):
        return [(input_shape[0], input_shape[2]), (input_shape[0], 1)]


def recurrent():
    """Masks, both directions, two inputs and outputs, a nested model called twice, a shared layer, an own layer."""
    ids, numbers = layers.Input((None,), name='ids'), layers.Input((6,), name='numbers')
    x = layers.Embedding(11, 4, mask_zero=True, name='table')(ids)
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name='both')(x)
    inner_input = layers.Input((None, 4))
    y = layers.TimeDistributed(layers.Dense(3, activation='tanh'), name='each')(inner_input)
    inner = keras.models.Model(inner_input, layers.GRU(3, name='gru')(y), name='inner')
    first, second = inner(x), inner(layers.Dropout(0.5, name='drop')(x))
    shared = layers.Dense(3, name='shared')
    joined = layers.add([shared(first), shared(second), layers.Dense(3, name='wide')(numbers)], name='joined')
    mean, count = MaskedMean(name='mean')(x)
    return keras.models.Model([ids, numbers], [layers.Dense(2, activation='softmax', name='out')(joined),
                                               layers.concatenate([mean, count], name='means')])


def images():
    """A Sequential model with BatchNormalization, dropout and padding, compiled."""
    model = keras.models.Sequential([
        layers.Conv2D(3, 3, padding='same', strides=2, activation='relu', input_shape=(6, 6, 2), name='conv'),
        layers.BatchNormalization(name='normed'), layers.MaxPooling2D(2, padding='same', name='pool'),
        layers.Flatten(name='flat'), layers.Dropout(0.5, name='drop'),
        layers.Dense(3, activation='softmax', name='out')])
    model.compile('adam', 'categorical_crossentropy', metrics=['accuracy'])
    return model


def stateful():
    x = layers.Input(batch_shape=(2, 4, 3), name='x')
    y = layers.LSTM(3, stateful=True, return_sequences=True, name='kept')(x)
    return keras.models.Model(x, layers.GRU(2, go_backwards=True, reset_after=True, name='back')(y))


def running():
    """The sum of all steps of all calls."""
    x = layers.Input(batch_shape=(2, 4, 3), name='x')
    model = keras.models.Model(x, layers.SimpleRNN(3, activation='linear', stateful=True, name='sum')(x))
    model.set_weights([np.eye(3), np.eye(3), np.zeros(3)])
    return model


def cells_in_a_row():
    x = layers.Input(batch_shape=(2, 3, 2), name='x')
    cells = [layers.LSTMCell(2, recurrent_activation='sigmoid'), layers.GRUCell(3, recurrent_activation='sigmoid')]
    return keras.models.Model(x, layers.RNN(cells, stateful=True, name='a/cells')(x))


def masked_twice(is_nested=True):
    """A layer with masks and first states, called twice; inside of a model, Keras 2.2.4 keeps the first mask."""
    a, b, state = layers.Input((5,), name='a'), layers.Input((5,), name='b'), layers.Input((3,), name='state')
    table, x, h = layers.Embedding(9, 3, mask_zero=True, name='table'), layers.Input((None, 3)), layers.Input((3,))
    gru = layers.GRU(3, name='gru', recurrent_activation='sigmoid')
    inner = keras.models.Model([x, h], gru(x, initial_state=h), name='inner')
    outputs = [inner([table(ids), state]) if is_nested else gru(table(ids), initial_state=state) for ids in (a, b)]
    return keras.models.Model([a, b, state], outputs)


def masked_twice_without_a_model():
    return masked_twice(False)


def masked_once_in_a_model():
    model = masked_twice()
    return keras.models.Model([model.inputs[0], model.inputs[2]], model.outputs[0])


def both_ways():
    """Bidirectional layers without a mask."""
    x = layers.Input((4, 3), name='x')
    y = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name='first')(x)
    y = layers.Bidirectional(layers.GRU(2, return_sequences=True, go_backwards=True), merge_mode='ave', name='ave')(y)
    return keras.models.Model(x, layers.Bidirectional(layers.SimpleRNN(3), merge_mode='sum', name='last')(y))


def kept_states():
    """Stateful layers of other kinds: both directions, and of pictures."""
    x, y = layers.Input(batch_shape=(2, 4, 3), name='x'), layers.Input(batch_shape=(2, 3, 4, 4, 1), name='y')
    both = layers.Bidirectional(layers.LSTM(2, stateful=True), name='both')(x)
    return keras.models.Model([x, y], [both, layers.ConvLSTM2D(2, 3, stateful=True, name='conv')(y)])


def remedies():
    """A layer for each trap of a layer, named as the trap; its ports are `tests/remedies_*.py`."""
    x, ids = layers.Input(batch_shape=(3, 5, 2), name='x'), layers.Input(batch_shape=(3, 5), name='ids')
    images, first = layers.Input((8, 7, 2), name='images'), layers.Input((2, 7, 7), name='first')
    valid = layers.Masking(name='valid')(x)
    table = layers.Embedding(6, 2, mask_zero=True, name='embedding_row_0')(ids)
    outputs = [
        layers.LSTM(3, name='hard_sigmoid')(x), layers.Bidirectional(layers.LSTM(3), name='gate_order')(x),
        layers.GRU(3, name='reset_after')(x),
        layers.GRU(3, reset_after=True, recurrent_activation='sigmoid', name='two_biases')(x),
        layers.GRU(3, recurrent_activation='sigmoid', name='one_bias')(x),
        layers.LSTM(3, recurrent_activation='sigmoid', name='forget_bias')(x),
        layers.LSTM(3, return_sequences=True, name='masked_steps')(valid),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True), name='bidirectional_mask')(valid),
        layers.LSTM(3, return_sequences=True, go_backwards=True, name='go_backwards')(x),
        layers.LSTM(3, stateful=True, name='stateful')(x), layers.GlobalAveragePooling1D(name='masked_average')(valid),
        layers.Conv2D(3, 3, strides=2, padding='same', name='same_padding')(images),
        layers.MaxPooling2D(3, strides=2, padding='same', name='same_maximum')(images),
        layers.Conv2D(3, 2, name='channels')(images), layers.Flatten(name='flatten')(images),
        layers.AveragePooling2D((2, 3), padding='same', name='average_over_padding')(images),
        layers.AveragePooling2D(3, padding='same', name='uneven_average')(images),
        layers.BatchNormalization(name='batch_norm')(images), layers.LeakyReLU(name='leaky_relu')(images),
        layers.Conv2D(3, 2, data_format='channels_first', name='image_data_format')(first),
        layers.LSTM(2, name='masked_table')(table)]
    return drawn(keras.models.Model([x, ids, images, first], outputs))


def trained():
    """A model whose training meets the traps, clipped probabilities too; its ports are `tests/training_*.py`."""
    x = layers.Input((4,), name='x')
    y = layers.Dense(5, activation='tanh', name='first')(layers.BatchNormalization(momentum=0.9, name='normed')(x))
    y = layers.Dense(3, activation='softmax', kernel_regularizer=keras.regularizers.l2(0.1), name='last')(y)
    model, random = keras.models.Model(x, y), np.random.RandomState(0)
    model.compile(keras.optimizers.Adam(lr=0.01, clipnorm=0.5, decay=0.5), 'categorical_crossentropy')
    model.set_weights([np.ones(4), np.zeros(4), np.full(4, 0.3), np.full(4, 2.)] + [
        random.normal(size=shape) * scale for shape, scale in (((4, 5), 1.), ((5,), 1.), ((5, 3), 12.), ((3,), 1.))])
    return model


def pictures_in_time():
    x = layers.Input((3, 4, 4, 1), name='x')
    return keras.models.Model(x, layers.ConvLSTM2D(2, 3, padding='same', name='conv')(x))


def decoder():
    """A decoder that starts from an encoder's states, and a nested model inside of TimeDistributed."""
    x, y = layers.Input((None, 3), name='x'), layers.Input((None, 3), name='y')
    _, h, c = layers.LSTM(4, return_state=True, name='encoder')(layers.Masking(name='masked')(x))
    z = layers.LSTM(4, return_sequences=True, name='decoder')(y, initial_state=[h, c])
    step = layers.Input((4,))
    each = keras.models.Model(step, layers.Dense(2, name='dense')(step), name='each')
    return keras.models.Model([x, y], layers.TimeDistributed(each, name='steps')(z))


class Attention(keras.layers.Layer):
    """A cell that attends: h = tanh(x W + c U), c the mean of the constant by the weights softmax(m . h)."""

    def __init__(self, units, **kwargs):
        self.units = self.state_size = units
        super(Attention, self).__init__(**kwargs)

    def build(self, input_shape):
        (_, size), memory_shape = input_shape
        self.W = self.add_weight('W', (size, self.units), initializer='glorot_uniform')
        self.U = self.add_weight('U', (memory_shape[-1], self.units), initializer='glorot_uniform')
        super(Attention, self).build(input_shape)

    def call(self, inputs, states, constants):
        weights = K.softmax(K.batch_dot(constants[0], states[0], axes=(2, 1)))
        h = K.tanh(K.dot(inputs, self.W) + K.dot(K.batch_dot(weights, constants[0], axes=(1, 1)), self.U))
        return h, [h]


def attentive():
    """An own cell with a first state and a constant, under a name that Keras 3 has too; a Lambda layer."""
    x, y = layers.Input((None, 4), name='x'), layers.Input((None, 3), name='y')
    memory, state = layers.GRU(4, return_sequences=True, return_state=True, name='encoder')(x)
    masked = layers.Masking(name='masked')(y)
    z = layers.RNN(Attention(4), return_sequences=True, name='decoder')(masked, initial_state=state, constants=memory)
    return keras.models.Model([x, y], layers.Lambda(lambda z: K.sum(z, axis=1), name='total')(z))


def with_tensorflow():
    return keras.models.Sequential([layers.Lambda(lambda x: tf.square(x), input_shape=(2,), name='code')])


def with_lambda():
    return keras.models.Sequential([layers.Lambda(lambda x: x + 1, input_shape=(2,), name='code')])


class Subclassed(keras.models.Model):
    def __init__(self):
        super(Subclassed, self).__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def no_model():
    return 3


def fails():
    return undefined_name       # noqa: F821  on purpose


def averaged():
    x = layers.Input((3, 2), name='x')
    return keras.models.Model(x, MaskedMean(name='mean')(layers.Masking(name='masked')(x)))


def cancelling():
    """Sums of large numbers that cancel each other: float32 has few digits of the result."""
    x = layers.Input((32,), name='x')
    model = keras.models.Model(x, layers.Dense(1, name='last')(layers.Dense(64, activation='tanh', name='first')(x)))
    model.set_weights([np.full((32, 64), 0.01) + np.linspace(0, 1e-6, 64), np.zeros(64),
                       1e4 * (-1.) ** np.arange(64)[:, None], np.zeros(1)])
    return model


def cancelling_trained():
    model = cancelling()
    model.compile(keras.optimizers.SGD(1e-12), 'mse')
    return model


def shifted():
    """The gradient for a bias before BatchNormalization is 0: float32 has none of its digits, and Adam needs them."""
    x = layers.Input((3,), name='x')
    y = layers.BatchNormalization(name='normed')(layers.Dense(4, name='first')(x))
    model = drawn(keras.models.Model(x, layers.Dense(2, name='last')(layers.Activation('tanh', name='tanh')(y))))
    model.set_weights(model.get_weights()[:-2] + [30. * one for one in model.get_weights()[-2:]])
    model.compile('adam', 'mse')
    return model


def gated(gate='hard_sigmoid'):
    """Layers that weights of cuDNN fit, one of them nested."""
    x = layers.Input((None, 3), name='x')
    y = layers.LSTM(4, recurrent_activation=gate, return_sequences=True, name='plain')(x)
    inner = layers.GRU(2, recurrent_activation=gate, reset_after=True, return_sequences=True)
    return keras.models.Model(x, layers.Bidirectional(inner, name='both')(y))


def gated_sigmoid():
    return gated('sigmoid')


def largest(z):
    return K.cast(K.argmax(z), K.floatx())


def constant():
    """A model whose loss has no gradient."""
    x = layers.Input((4,), name='x')
    return keras.models.Model(x, layers.Lambda(largest, name='largest')(layers.Dense(2, name='dense')(x)))


def small():
    x = layers.Input((4,), name='x')
    return keras.models.Model(x, layers.Dense(2, name='two')(layers.Dense(3, activation='tanh', name='one')(x)))
