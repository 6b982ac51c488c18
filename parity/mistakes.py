"""The usual mistakes of a port, layer by layer: the layers of `numpy_layers` with one thing wrong. NumPy only."""
import itertools

import numpy as np

from parity.numpy_layers import (
    ACTIVATIONS, activation, batch_norm, both_directions, convolution, dense, depthwise, each_step, elu, embedding,
    flatten, identity, leaky_relu, merge, pooling, recurrent, rectified, separable, softmax_layer, transposed, window,
    zero_padding)

LOST = 32           # steps before which a loss of the states is tried
RECURRENT = ('LSTM', 'GRU', 'SimpleRNN')


# (what is wrong, key of the trap or None, function) for each class

def with_config(layer, **changes):
    return lambda config, inputs, mask, weights: layer(dict(config, **changes), inputs, mask, weights)


def with_weights(layer, change):
    return lambda config, inputs, mask, weights: layer(config, inputs, mask, change(list(weights)))


def options(layer, **changes):
    return lambda config, inputs, mask, weights: layer(config, inputs, mask, weights, **changes)


def blocks(weights, order, count):
    """Weights of gates in another order."""
    return [np.concatenate([np.split(weight, count, axis=-1)[i] for i in order], axis=-1) for weight in weights]


def with_forget(weights, by):
    bias = weights[2].copy()
    quarter = len(bias) // 4
    bias[quarter:2 * quarter] += by
    return weights[:2] + [bias]


def part_missing(weight, part):
    """A vector with its first or second half, or a matrix with one of its rows, 0."""
    weight = weight.copy()
    if weight.ndim == 2:
        weight[part] = 0.
    else:
        half = len(weight) // 2
        weight[part * half:(part + 1) * half or None] = 0.
    return weight


def bias_changes():
    """(what is wrong, key of the trap, function of the bias)."""
    for factor, text in ((0., 'missing'), (0.5, 'halved'), (2., 'doubled')):
        yield 'the bias is %s' % text, 'one_bias', lambda bias, factor=factor: factor * bias
    for part, text in enumerate(('first', 'second')):
        yield 'the %s half of the bias is missing' % text, 'two_biases', (
            lambda bias, part=part: part_missing(bias, part))


def bias_mistakes(layer, place, gated=False):
    """Of a layer whose weight number `place` is its bias; `gated`: that of a recurrent layer, which has traps."""
    for text, key, change in bias_changes():
        yield text, key if gated else None, with_weights(
            layer, lambda w, change=change: w[:place] + [change(w[place])] + w[place + 1:])


def wrong_activations(layer, key='activation'):
    for name in sorted(ACTIVATIONS):
        yield '%s is %s' % (key, name), ('hard_sigmoid' if key == 'recurrent_activation' else None), with_config(
            layer, **{key: name})


def recurrent_mistakes(kind):
    layer, letters = options(recurrent, kind=kind), {'LSTM': 'ifco', 'GRU': 'zrh', 'SimpleRNN': 'h'}[kind]
    count = len(letters)
    yield 'masked steps output zeros', 'masked_steps', options(recurrent, kind=kind, masked='zeros')
    yield 'the mask is not used', 'masked_steps', options(recurrent, kind=kind, masked='none')
    for mistake in wrong_activations(layer, 'recurrent_activation') if kind != 'SimpleRNN' else ():
        yield mistake
    if kind == 'GRU':
        yield 'the reset comes after the product', 'reset_after', options(recurrent, kind=kind, reset_after=True)
        yield 'the reset comes before the product', 'reset_after', options(recurrent, kind=kind, reset_after=False)
        yield 'z and 1 - z are exchanged', None, options(recurrent, kind=kind, swap=True)
    elif kind == 'LSTM':
        yield '1 is added to the forget bias', 'forget_bias', with_weights(layer, lambda w: with_forget(w, 1.))
        yield '1 is missing in the forget bias', 'forget_bias', with_weights(layer, lambda w: with_forget(w, -1.))
    for mistake in wrong_activations(layer):
        yield mistake
    for order in itertools.permutations(range(count)):
        text = 'the gates are in the order %s' % ', '.join(letters[i] for i in order)
        yield text, 'gate_order', with_weights(layer, lambda w, order=order: blocks(w, order, count))
    for mistake in bias_mistakes(layer, 2, gated=True):
        yield mistake
    yield 'the recurrent kernel of each gate is transposed', 'gate_order', with_weights(layer, lambda w: [
        w[0], np.concatenate([part.T for part in np.split(w[1], count, axis=1)], axis=1)] + w[2:])
    yield 'the states are 0 at each step', None, options(recurrent, kind=kind, lost=range(10 ** 6))
    for t in range(1, LOST):
        yield 'the states are lost before step %d' % t, None, options(recurrent, kind=kind, lost=(t,))
    for back in (True, False):
        yield 'the input is read %s' % ('backwards' if back else 'forwards'), 'go_backwards', with_config(
            layer, go_backwards=back)
    yield 'the output is reversed in time', 'go_backwards', lambda *all_: np.flip(layer(*all_), 1)


def norm_mistakes():
    for epsilon in (1e-5, 1e-3, 1e-6, 1e-12, 0.):
        yield 'epsilon is %g' % epsilon, 'batch_norm', options(batch_norm, epsilon=epsilon)
    yield "the batch's own statistics are used", 'batch_norm', options(batch_norm, own=True)
    yield 'gamma is missing', None, options(batch_norm, scale=False)
    for factor, text in ((0., 'missing'), (0.5, 'halved'), (2., 'doubled')):
        yield 'beta is %s' % text, None, options(batch_norm, center=factor)
    yield 'mean and variance are exchanged', None, options(batch_norm, order=-1)


def kernel_mistakes(layer, place=1):
    """Of dense and convolutional layers, whose weight number `place` is the bias."""
    for mistake in itertools.chain(wrong_activations(layer), bias_mistakes(layer, place)):
        yield mistake
    yield 'the kernel is transposed', 'channels', with_weights(
        layer, lambda w: [np.swapaxes(w[0], -1, -2)] + w[1:])


def convolution_mistakes(layer=convolution, place=1):
    for mistake in kernel_mistakes(layer, place):
        yield mistake
    yield 'the padding is on the other side', 'same_padding', options(layer, other_side=True)
    for count in (1, 2):
        yield 'the kernel is flipped', 'channels', with_weights(layer, lambda w, count=count: [
            np.flip(w[0], tuple(range(count))) if w[0].ndim == count + 2 else w[0]] + w[1:])


def window_mistakes(kind):
    for other in ('mean', 'maximum'):
        yield 'it is the %s' % other, None, options(window, kind=other)
    yield 'the padding is on the other side', 'same_padding', options(window, kind=kind, other_side=True)
    yield 'the mean counts the padding', 'average_over_padding', options(window, kind=kind, counted=True)
    yield 'the padding is 0 in place of minus infinity', 'same_padding', options(window, kind=kind, padding=0.)


def softmax_mistakes():
    for axis in (0, 1, 2, 3, -1):
        yield 'softmax is over axis %d' % axis, None, with_config(softmax_layer, axis=axis)
    yield 'it is the sigmoid', None, with_config(activation, activation='sigmoid')


def rectified_mistakes():
    yield 'the maximum is not used', None, with_config(rectified, max_value=None)
    yield 'the negative slope is not used', 'leaky_relu', with_config(rectified, negative_slope=0.)
    yield 'the threshold is not used', None, with_config(rectified, threshold=0.)


def step_mistakes():
    """Of `TimeDistributed` of a Dense layer."""
    for text, _, wrong in bias_mistakes(each_step, 1):
        yield text, None, wrong
    for name in sorted(ACTIVATIONS):
        yield 'activation is %s' % name, None, lambda config, *rest, name=name: each_step(
            {'layer': {'config': dict(config['layer']['config'], activation=name)}}, *rest)


def embedding_mistakes():
    yield 'row 0 of the table is zeros', 'embedding_row_0', with_weights(embedding, lambda w: [
        np.concatenate([np.zeros_like(w[0][:1]), w[0][1:]])])
    for shift in (1, -1):
        yield 'ids are shifted by %d' % shift, None, options(embedding, shift=shift)


def merge_mistakes(kind):
    for other in ('Add', 'Average', 'Maximum', 'Minimum', 'Multiply'):
        yield 'it is %s' % other, None, options(merge, kind=other)
    if kind == 'Concatenate':
        for count in (2, 3, 4):
            for order in itertools.permutations(range(count)):
                yield 'its inputs come in the order %s' % ', '.join(map(str, order)), None, options(
                    merge, kind=kind, order=order)


def pooling_mistakes():
    for kind in ('mean', 'sum', 'maximum'):
        yield 'it is the %s' % kind, None, options(pooling, kind=kind)
    yield 'the mask is not used', 'masked_average', lambda config, inputs, mask, weights: pooling(
        config, inputs, None, weights)


def both_mistakes(kind):
    """Of `Bidirectional`: in both directions alike, and of their order."""
    layer = options(both_directions, kind=kind)

    def inside(**changes):
        return lambda config, *rest: layer(dict(config, layer=dict(config['layer'], config=dict(
            config['layer']['config'], **changes))), *rest)

    yield 'masked steps output zeros', 'bidirectional_mask', options(both_directions, kind=kind, masked='zeros')
    yield 'the mask is not used', 'bidirectional_mask', options(both_directions, kind=kind, masked='none')
    for name in sorted(ACTIVATIONS):
        yield 'recurrent_activation is %s' % name, 'hard_sigmoid', inside(recurrent_activation=name)
        yield 'activation is %s' % name, None, inside(activation=name)
    yield 'the backward output is in the order in which it read', 'go_backwards', options(
        both_directions, kind=kind, turned=False)
    yield 'the directions are exchanged', None, options(both_directions, kind=kind, mode='exchanged')
    for mode in ('sum', 'ave', 'mul'):
        yield 'merge_mode is %s' % mode, None, options(both_directions, kind=kind, mode=mode)
    for places, where in (((2, 5), ''), ((2,), ' in the forward direction'), ((5,), ' in the backward direction')):
        for text, key, change in bias_changes():
            yield text + where, key, with_weights(layer, lambda w, places=places, change=change: [
                change(one) if number in places else one for number, one in enumerate(w)])


def dropout_mistakes():
    for rate in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5):
        yield 'values are scaled by 1 / (1 - %g)' % rate, None, options(identity, factor=1. / (1. - rate))
        yield 'values are scaled by 1 - %g' % rate, None, options(identity, factor=1. - rate)


LAYERS = {
    'LSTM': (options(recurrent, kind='LSTM'), lambda: recurrent_mistakes('LSTM')),
    'GRU': (options(recurrent, kind='GRU'), lambda: recurrent_mistakes('GRU')),
    'BatchNormalization': (batch_norm, norm_mistakes), 'Dense': (dense, lambda: kernel_mistakes(dense)),
    'SimpleRNN': (options(recurrent, kind='SimpleRNN'), lambda: recurrent_mistakes('SimpleRNN')),
    'TimeDistributed': (each_step, step_mistakes),
    'Conv1D': (convolution, convolution_mistakes), 'Conv2D': (convolution, convolution_mistakes),
    'DepthwiseConv2D': (depthwise, lambda: convolution_mistakes(depthwise)),
    'SeparableConv1D': (separable, lambda: convolution_mistakes(separable, 2)),
    'SeparableConv2D': (separable, lambda: convolution_mistakes(separable, 2)),
    'Conv2DTranspose': (transposed, lambda: convolution_mistakes(transposed)),
    'Softmax': (softmax_layer, softmax_mistakes), 'ReLU': (rectified, rectified_mistakes),
    'ELU': (elu, lambda: [('alpha is %g' % alpha, None, with_config(elu, alpha=alpha)) for alpha in (1., 0.5, 0.)]),
    'Embedding': (embedding, embedding_mistakes),
    'ZeroPadding1D': (zero_padding, lambda: [('the padding is on the other side', None,
                                              options(zero_padding, swapped=True))]),
    'Flatten': (flatten, lambda: [('it reads the channels first', 'flatten', options(flatten, first=True))]),
    'Activation': (activation, lambda: wrong_activations(activation)),
    'LeakyReLU': (leaky_relu, lambda: [('the slope is 0.01', 'leaky_relu', options(leaky_relu, alpha=0.01))])}
LAYERS['ZeroPadding2D'] = LAYERS['ZeroPadding1D']
for _name, _kind in (('Average', 'mean'), ('Max', 'maximum')):
    for _axes in '12':
        LAYERS['%sPooling%sD' % (_name, _axes)] = (options(window, kind=_kind),
                                                   lambda kind=_kind: window_mistakes(kind))
for _name in ('GlobalAveragePooling1D', 'GlobalAveragePooling2D', 'GlobalAveragePooling3D'):
    LAYERS[_name] = (pooling, pooling_mistakes)
for _name in ('GlobalMaxPooling1D', 'GlobalMaxPooling2D', 'GlobalMaxPooling3D'):
    LAYERS[_name] = (options(pooling, kind='maximum'), pooling_mistakes)
for _name in ('Add', 'Average', 'Maximum', 'Minimum', 'Multiply', 'Subtract', 'Concatenate'):
    LAYERS[_name] = (options(merge, kind=_name), lambda name=_name: merge_mistakes(name))
for _name in ('Dropout', 'SpatialDropout1D', 'SpatialDropout2D', 'GaussianDropout', 'GaussianNoise'):
    LAYERS[_name] = (identity, dropout_mistakes)


def layer_of(call):
    """(function of the layer, its mistakes) of a call, or None where the layer is not written here."""
    if call['class'] != 'Bidirectional':
        return LAYERS.get(call['class'])
    inner = call['config'].get('layer')
    kind = inner.get('class_name') if isinstance(inner, dict) else None
    return (options(both_directions, kind=kind), lambda: both_mistakes(kind)) if kind in RECURRENT else None
