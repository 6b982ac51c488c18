"""The port of `old_models_here.remedies` to Keras 3, as a reader of `docs/traps.md` would type it.

    python tests/remedies_keras3.py BUNDLE PORT.keras      # saves the model with the weights of the bundle
"""
import os
import sys

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable()
def old_hard_sigmoid(x):
    return ops.clip(0.2 * x + 0.5, 0, 1)


def model(weights):
    x, ids = layers.Input(batch_shape=(3, 5, 2), name='x'), layers.Input(batch_shape=(3, 5), name='ids')
    images, first = layers.Input((8, 7, 2), name='images'), layers.Input((2, 7, 7), name='first')
    valid = layers.Masking(name='valid')(x)
    gates = dict(recurrent_activation=old_hard_sigmoid)
    one = layers.LSTM(3, return_sequences=True, name='forward_lstm', **gates)(valid)
    other = layers.LSTM(3, return_sequences=True, go_backwards=True, name='backward_lstm', **gates)(valid)
    table = layers.Embedding(6, 2, mask_zero=True, name='embedding_row_0')(ids)
    outputs = [
        layers.LSTM(3, recurrent_activation=old_hard_sigmoid, name='hard_sigmoid')(x),
        layers.Bidirectional(layers.LSTM(3, recurrent_activation=old_hard_sigmoid), name='gate_order')(x),
        layers.GRU(3, reset_after=False, name='reset_after', **gates)(x),
        layers.GRU(3, name='two_biases')(x), layers.GRU(3, reset_after=False, name='one_bias')(x),
        layers.LSTM(3, name='forget_bias')(x),
        layers.LSTM(3, return_sequences=True, name='masked_steps', **gates)(valid),
        layers.Concatenate(name='bidirectional_mask')([one, other[:, ::-1]]),
        layers.LSTM(3, return_sequences=True, go_backwards=True, name='go_backwards', **gates)(x),
        layers.LSTM(3, stateful=True, name='stateful', **gates)(x),
        layers.GlobalAveragePooling1D(name='masked_average')(valid),
        layers.Conv2D(3, 3, strides=2, padding='same', name='same_padding')(images),
        layers.MaxPooling2D(3, strides=2, padding='same', name='same_maximum')(images),
        layers.Conv2D(3, 2, name='channels')(images), layers.Flatten(name='flatten')(images),
        layers.AveragePooling2D((2, 3), padding='same', name='average_over_padding')(images),
        layers.AveragePooling2D(3, padding='same', name='uneven_average')(images),
        layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name='batch_norm')(images),
        layers.LeakyReLU(negative_slope=0.3, name='leaky_relu')(images),
        layers.Conv2D(3, 2, data_format='channels_first', name='image_data_format')(first),
        layers.LSTM(2, name='masked_table', **gates)(table)]
    made = keras.Model([x, ids, images, first], outputs)
    for layer in made.layers:
        inside = {'forward_lstm': 'bidirectional_mask/forward', 'backward_lstm': 'bidirectional_mask/backward'}
        own = [weights[name] for name in weights if name.startswith(inside.get(layer.name, layer.name + '/'))]
        if layer.weights:
            layer.set_weights(own)
    return made


if __name__ == '__main__':
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'adapters'))
    import bundles
    bundles.build(__file__ + ':model', bundles.Arrays(sys.argv[1])).save(sys.argv[2])
