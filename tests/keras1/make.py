"""Wrote the files beside this one, with Keras 1.2.2 on TensorFlow 1.12: `python make.py`, and `gzip -9n *.h5`."""
import keras
from keras import backend as K
from keras import layers as L
from keras.constraints import maxnorm
from keras.models import Model, Sequential
from keras.regularizers import l2
import numpy as np


def drawn(model):
    random = np.random.RandomState(3)
    for weight in model.weights:
        low = 0.3 if 'std' in weight.name else -0.7
        K.set_value(weight, random.uniform(low, 1., K.get_value(weight).shape).round(2))
    return model


def branches():
    """Pictures and words, joined by a `Merge` as the first layer of a `Sequential`."""
    pictures = Sequential()
    pictures.add(L.Convolution2D(2, 2, 2, border_mode='same', activation='relu', input_shape=(4, 4, 1),
                                 dim_ordering='tf', name='conv'))
    pictures.add(L.BatchNormalization(mode=0, name='normed'))
    pictures.add(L.ZeroPadding2D((1, 1), dim_ordering='tf', name='pad'))
    pictures.add(L.AtrousConvolution2D(2, 2, 2, atrous_rate=(2, 2), dim_ordering='tf', name='holes'))
    pictures.add(L.MaxPooling2D((2, 2), dim_ordering='tf', name='pool'))
    pictures.add(L.Flatten(name='flat'))
    words = Sequential()
    words.add(L.Embedding(7, 3, input_length=5, mask_zero=True, dropout=0.1, name='table'))
    words.add(L.LSTM(2, return_sequences=True, dropout_W=0.2, name='lstm'))
    words.add(L.Bidirectional(L.GRU(2, consume_less='gpu', name='gru'), name='both'))
    model = Sequential()
    model.add(L.Merge([pictures, words], mode='concat', name='joined'))
    model.add(L.Dense(3, init='he_normal', W_regularizer=l2(0.01), W_constraint=maxnorm(2), activation='softmax',
                      name='out'))
    model.compile('adam', 'categorical_crossentropy', metrics=['accuracy'])
    return model


def merged():
    """Each mode of `merge`, of the outputs of one layer that is called twice."""
    a, b = L.Input((4,), name='a'), L.Input((4,), name='b')
    shared = L.Dense(3, activation='tanh', bias=False, name='shared')
    x, y = shared(a), shared(b)
    outputs = [L.merge([x, y], mode=mode, name=mode) for mode in ('sum', 'mul', 'ave', 'max', 'concat')]
    return Model([a, b], outputs + [L.merge([x, y], mode=mode, dot_axes=1, name=mode) for mode in ('dot', 'cos')])


if __name__ == '__main__':
    assert keras.__version__ == '1.2.2'
    i = np.arange(32.)
    inputs = {branches: [np.sin(i).reshape(2, 4, 4, 1), np.array([[1, 2, 3, 4, 5], [6, 5, 0, 0, 0]])],
              merged: [np.sin(i[:8]).reshape(2, 4), np.cos(i[:8]).reshape(2, 4)]}
    for build, x in inputs.items():
        found = drawn(build())
        found.save(build.__name__ + '.h5')
        outputs = found.predict(x)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        print(build.__name__, [[round(float(one), 6) for one in y.ravel()] for y in outputs])
