"""Builds two old models that other people trained, for `regress.py capture --build`; the weights are in their packages.

chars2vec (PyPI, 0.1.7, `eng_50`, Keras 2.2.0) and deepcut (PyPI, 0.6.1.0, Keras 2.0.2).
"""
from keras import layers, models


def chars2vec():
    """Words as one-hot letters (B, T, 59) to vectors (B, 50)."""
    letters = layers.Input((None, 59), name='letters')
    x = layers.LSTM(50, return_sequences=True, name='lstm_1')(letters)
    return models.Model(letters, layers.LSTM(50, name='lstm_2')(x))


def deepcut():
    """Ids of 21 characters and of their kinds to the probability that a word starts at the middle one."""
    characters, kinds = layers.Input((21,), name='characters'), layers.Input((21,), name='kinds')
    x = layers.Embedding(178, 32, name='embedding_1')(characters)
    x = layers.SpatialDropout1D(0.15, name='spatial_dropout1d_1')(x)
    x = layers.BatchNormalization(name='batch_normalization_1')(x)
    windows = []
    for n in range(1, 13):
        y = layers.Conv1D(200 if n <= 8 else 150 if n <= 11 else 100, n, activation='relu', name='conv1d_%d' % n)(x)
        y = layers.TimeDistributed(layers.Dense(5), name='time_distributed_%d' % n)(y)
        windows.append(layers.ZeroPadding1D((0, n - 1), name='zero_padding1d_%d' % n)(y))
    y = layers.Maximum(name='maximum_1')(windows)
    z = layers.Embedding(12, 12, name='embedding_2')(kinds)
    z = layers.SpatialDropout1D(0.15, name='spatial_dropout1d_2')(z)
    z = layers.Concatenate(name='concatenate_1')([x, y, z])
    z = layers.Flatten(name='flatten_1')(layers.BatchNormalization(name='batch_normalization_2')(z))
    z = layers.Dense(100, activation='relu', name='dense_13')(z)
    model = models.Model([characters, kinds], layers.Dense(1, activation='sigmoid', name='dense_14')(z))
    model.compile('adam', 'binary_crossentropy')
    return model
