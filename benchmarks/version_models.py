"""Small models whose results a version of Keras is known to change, one kind of change each, for `version_map.py`.

    regress.py capture --build benchmarks/version_models.py:masked BUNDLE
"""
from keras import backend, layers, models, optimizers


def masked():
    """Both directions over masks."""
    ids = layers.Input((7,), name='ids')
    x = layers.Embedding(11, 4, mask_zero=True, name='table')(ids)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name='both')(x)
    x = layers.LSTM(3, name='last')(x)
    return models.Model(ids, layers.Dense(2, activation='softmax', name='out')(x))


def masked_loss():
    """A loss over sequences with masked steps."""
    ids = layers.Input((7,), name='ids')
    x = layers.Embedding(11, 4, mask_zero=True, name='table')(ids)
    x = layers.LSTM(3, return_sequences=True, name='lstm')(x)
    model = models.Model(ids, layers.TimeDistributed(layers.Dense(2, activation='softmax'), name='out')(x))
    model.compile(optimizers.SGD(0.1), 'categorical_crossentropy')
    return model


def nested():
    """A nested model that is called twice, with masks of its own each time."""
    first, second = layers.Input((7,), name='first'), layers.Input((7,), name='second')
    table = layers.Embedding(11, 4, mask_zero=True, name='table')
    steps = layers.Input((7, 4), name='steps')
    inner = models.Model(steps, layers.GRU(3, name='gru')(steps), name='inner')
    x = layers.Concatenate(name='joined')([inner(table(first)), inner(table(second))])
    return models.Model([first, second], layers.Dense(2, activation='softmax', name='out')(x))


def started():
    """A layer that starts from a state, over masks that hide every step of one row."""
    ids, numbers = layers.Input((7,), name='ids'), layers.Input((5,), name='numbers')
    x = layers.Embedding(11, 4, mask_zero=True, name='table')(ids)
    x = layers.GRU(3, return_sequences=True, name='gru')(x, initial_state=layers.Dense(3, name='state')(numbers))
    return models.Model([ids, numbers], layers.LSTM(3, name='last')(x))


def twice():
    """A nested model with a layer that starts from a state, here zeros, called with a mask and then without one."""
    first, second = layers.Input((7,), name='first'), layers.Input((7,), name='second')
    steps, start = layers.Input((7, 4), name='steps'), layers.Input((3,), name='start')
    inner = models.Model([steps, start], layers.GRU(3, name='gru')(steps, initial_state=start), name='inner')
    masked = layers.Embedding(11, 4, mask_zero=True, name='masked')(first)
    x = layers.Embedding(11, 4, name='table')(second)
    zeros = layers.Dense(3, kernel_initializer='zeros', name='zeros')(layers.Flatten(name='flat')(x))
    x = layers.Concatenate(name='joined')([inner([masked, zeros]), inner([x, zeros])])
    return models.Model([first, second], layers.Dense(2, activation='softmax', name='out')(x))


def numbers():
    """Layers over numbers without a mask."""
    x = layers.Input((6, 8), name='numbers')
    y = layers.Conv1D(5, 3, padding='same', strides=2, activation='relu', name='conv')(x)
    y = layers.LSTM(4, return_sequences=True, name='lstm')(y)
    y = layers.GRU(4, name='gru')(y)
    return models.Model(x, layers.Dense(3, activation='softmax', name='out')(y))


def adam():
    """Adam with its defaults."""
    model = numbers()
    model.compile('adam', 'categorical_crossentropy')
    return model


def clipped():
    """Gradients clipped by their norm."""
    model = numbers()
    model.compile(optimizers.SGD(0.1, clipnorm=0.01), 'categorical_crossentropy')
    return model


def decayed():
    """A learning rate that falls, with momentum."""
    model = numbers()
    model.compile(optimizers.SGD(0.1, momentum=0.9, decay=0.1), 'categorical_crossentropy')
    return model


def frozen():
    """A BatchNormalization that is not trained; a bias before it would have no gradient but rounding."""
    return normed(trainable=False)


def normed(**options):
    """A BatchNormalization that is trained."""
    x = layers.Input((8,), name='numbers')
    y = layers.Dense(5, use_bias=False, name='one')(x)
    y = layers.BatchNormalization(name='normed', **options)(y)
    model = models.Model(x, layers.Dense(3, activation='softmax', name='out')(y))
    model.compile(optimizers.SGD(0.1), 'categorical_crossentropy')
    return model


def phased():
    """A BatchNormalization, built while the learning phase is fixed to that of training: it predicts with the batch."""
    backend.set_learning_phase(1)
    x = layers.Input((8,), name='numbers')
    y = layers.BatchNormalization(name='normed')(layers.Dense(5, name='one')(x))
    return models.Model(x, layers.Dense(3, activation='softmax', name='out')(y))
