"""Names the cause of a difference in a captured layer: computes the layer with each usual mistake and compares.

A mistake is a likely cause if the layer with it gives the output of the port from the inputs of the port, and the layer
without it the recorded output from the recorded inputs. NumPy only.
"""
from collections import OrderedDict
import itertools

import numpy as np

from parity import compare, traps
from parity.numpy_layers import (
    ACTIVATIONS, activation, batch_norm, both_directions, convolution, dense, each_step, embedding, flatten, identity,
    leaky_relu, merge, pooling, recurrent, zero_padding)

CLOSE = 2e-4        # of the largest number of the array
ROUNDING = 1e-6     # of the largest number: less is no difference
EXPLAINED = 0.1     # of the difference: what may be left of it with the mistake
LOST = 32           # steps before which a loss of the states is tried
MAXIMUM = 2 ** 22   # numbers in a layer's input or output, above which nothing is computed


# Mistakes: (what is wrong, key of the trap or None, function) for each class

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


def bias_mistakes(layer, place, missing=True):
    """Of a layer whose weight number `place` is its bias."""
    def change(one):
        return with_weights(layer, lambda w: w[:place] + [one(w[place])] + w[place + 1:])

    if missing:
        yield 'the bias is missing', 'one_bias', with_weights(layer, lambda w: w[:place])
    for factor, text in ((0.5, 'halved'), (2., 'doubled')):
        yield 'the bias is %s' % text, 'one_bias', change(lambda bias, factor=factor: factor * bias)
    for part, text in enumerate(('first', 'second')):
        yield 'the %s half of the bias is missing' % text, 'two_biases', change(
            lambda bias, part=part: part_missing(bias, part))


def wrong_activations(layer, key='activation'):
    for name in sorted(ACTIVATIONS):
        yield '%s is %s' % (key, name), ('hard_sigmoid' if key == 'recurrent_activation' else None), with_config(
            layer, **{key: name})


def recurrent_mistakes(kind):
    layer, count = options(recurrent, kind=kind), 4 if kind == 'LSTM' else 3
    letters = 'ifco' if kind == 'LSTM' else 'zrh'
    yield 'masked steps output zeros', 'masked_steps', options(recurrent, kind=kind, masked='zeros')
    yield 'the mask is not used', 'masked_steps', options(recurrent, kind=kind, masked='none')
    for mistake in wrong_activations(layer, 'recurrent_activation'):
        yield mistake
    if kind == 'GRU':
        yield 'the reset comes after the product', 'reset_after', options(recurrent, kind=kind, reset_after=True)
        yield 'the reset comes before the product', 'reset_after', options(recurrent, kind=kind, reset_after=False)
        yield 'z and 1 - z are exchanged', None, options(recurrent, kind=kind, swap=True)
    else:
        yield '1 is added to the forget bias', 'forget_bias', with_weights(layer, lambda w: with_forget(w, 1.))
        yield '1 is missing in the forget bias', 'forget_bias', with_weights(layer, lambda w: with_forget(w, -1.))
    for mistake in wrong_activations(layer):
        yield mistake
    for order in itertools.permutations(range(count)):
        text = 'the gates are in the order %s' % ', '.join(letters[i] for i in order)
        yield text, 'gate_order', with_weights(layer, lambda w, order=order: blocks(w, order, count))
    for mistake in bias_mistakes(layer, 2):
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
    yield 'beta is missing', None, options(batch_norm, center=False)
    yield 'mean and variance are exchanged', None, options(batch_norm, order=-1)


def kernel_mistakes(layer):
    """Of dense and convolutional layers."""
    for mistake in wrong_activations(layer):
        yield mistake
    for text, _, wrong in bias_mistakes(layer, 1):
        yield text, None, wrong
    yield 'the kernel is transposed', 'channels', with_weights(
        layer, lambda w: [np.swapaxes(w[0], -1, -2)] + w[1:])


def convolution_mistakes():
    for mistake in kernel_mistakes(convolution):
        yield mistake
    yield 'the padding is on the other side', 'same_padding', options(convolution, other_side=True)
    for count in (1, 2):
        yield 'the kernel is flipped', 'channels', with_weights(convolution, lambda w, count=count: [
            np.flip(w[0], tuple(range(count))) if w[0].ndim == count + 2 else w[0]] + w[1:])


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
    yield 'the backward output is in the order in which it read', 'go_backwards', options(
        both_directions, kind=kind, turned=False)
    yield 'the directions are exchanged', None, options(both_directions, kind=kind, mode='exchanged')
    for mode in ('sum', 'ave', 'mul'):
        yield 'merge_mode is %s' % mode, None, options(both_directions, kind=kind, mode=mode)
    for text, factor in (('missing', 0.), ('halved', 0.5), ('doubled', 2.)):
        yield 'the bias is %s' % text, 'one_bias', with_weights(layer, lambda w, factor=factor: [
            factor * one if number % 3 == 2 else one for number, one in enumerate(w)])


def dropout_mistakes():
    for rate in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5):
        yield 'values are scaled by 1 / (1 - %g)' % rate, None, options(identity, factor=1. / (1. - rate))
        yield 'values are scaled by 1 - %g' % rate, None, options(identity, factor=1. - rate)


LAYERS = {
    'LSTM': (options(recurrent, kind='LSTM'), lambda: recurrent_mistakes('LSTM')),
    'GRU': (options(recurrent, kind='GRU'), lambda: recurrent_mistakes('GRU')),
    'BatchNormalization': (batch_norm, norm_mistakes), 'Dense': (dense, lambda: kernel_mistakes(dense)),
    'TimeDistributed': (each_step, lambda: [
        (text, None, wrong) for text, _, wrong in bias_mistakes(each_step, 1)]),
    'Conv1D': (convolution, convolution_mistakes), 'Conv2D': (convolution, convolution_mistakes),
    'Embedding': (embedding, embedding_mistakes),
    'ZeroPadding1D': (zero_padding, lambda: [('the padding is on the other side', None,
                                              options(zero_padding, swapped=True))]),
    'Flatten': (flatten, lambda: [('it reads the channels first', 'flatten', options(flatten, first=True))]),
    'Activation': (activation, lambda: wrong_activations(activation)),
    'LeakyReLU': (leaky_relu, lambda: [('the slope is 0.01', 'leaky_relu', options(leaky_relu, alpha=0.01))])}
LAYERS['ZeroPadding2D'] = LAYERS['ZeroPadding1D']
for _name in ('GlobalAveragePooling1D', 'GlobalAveragePooling2D', 'GlobalAveragePooling3D'):
    LAYERS[_name] = (pooling, pooling_mistakes)
for _name in ('GlobalMaxPooling1D', 'GlobalMaxPooling2D', 'GlobalMaxPooling3D'):
    LAYERS[_name] = (options(pooling, kind='maximum'), pooling_mistakes)
MASKED = ('LSTM', 'GRU', 'Bidirectional', 'GlobalAveragePooling1D')    # what a mask changes
for _name in ('Add', 'Average', 'Maximum', 'Minimum', 'Multiply', 'Subtract', 'Concatenate'):
    LAYERS[_name] = (options(merge, kind=_name), lambda name=_name: merge_mistakes(name))
for _name in ('Dropout', 'SpatialDropout1D', 'SpatialDropout2D', 'GaussianDropout', 'GaussianNoise'):
    LAYERS[_name] = (identity, dropout_mistakes)


# Finding the cause

def close(one, other):
    if one is None or one.shape != other.shape or not np.isfinite(one).all():
        return False
    return float(np.max(np.abs(one - other))) <= CLOSE * max(float(np.max(np.abs(other))), 1e-30)


def attempt(layer, arguments):
    """The output of a layer, or None if it cannot process these arguments."""
    try:
        with np.errstate(all='ignore'):
            return layer(*arguments)
    except (ValueError, IndexError, KeyError, TypeError):
        return None


def layer_of(call):
    """(function of the layer, its mistakes) of a call, or None where the layer is not written here."""
    if call['class'] != 'Bidirectional':
        return LAYERS.get(call['class'])
    inner = call['config'].get('layer')
    kind = inner.get('class_name') if isinstance(inner, dict) else None
    return (options(both_directions, kind=kind), lambda: both_mistakes(kind)) if kind in ('LSTM', 'GRU') else None


def added_masks(call, layer, inputs, masks):
    """The mistakes of a mask that the old layer does not have: each of the model's, and that of steps of zeros."""
    if call['class'] not in MASKED or inputs[0].ndim != 3:
        return
    seen = [inputs[0].any(axis=-1)] + [one for one in masks if one.shape == inputs[0].shape[:2]]
    for mask in seen:
        if not mask.all():
            yield 'a mask is added', 'masked_steps', lambda config, inputs, _, weights, mask=mask: layer(
                config, inputs, mask, weights)
            if call['class'] in MASKED[:3]:
                yield 'a mask is added, and masked steps output zeros', 'masked_steps', (
                    lambda config, inputs, _, weights, mask=mask: layer(config, inputs, mask, weights, masked='zeros'))


def sums_and_means(inputs, recorded, found):
    """A mean for a sum, or a sum for a mean, over an axis of an input: for layers that are not written here too."""
    for size in sorted({length for one in inputs for length in one.shape[1:] if length > 1}):
        for text, factor in (('a mean in place of a sum', 1. / size), ('a sum in place of a mean', float(size))):
            if close(factor * recorded, found):
                return [('%s, of %d numbers' % (text, size), None)]
    return []


def mistakes_that_fit(call, arrays, found, own=None, masks=()):
    """(what is wrong, key of a trap or None) of each mistake with which a layer gives `found`, the best first.

    # Arguments
        call: of the manifest. arrays: recorded, by name. found: the output of the port.
        own: the arrays of the port by name, whose inputs of the layer count; the recorded ones where it has none.
        masks: all masks of the model.
    """
    names = call['inputs'] + call['weights'] + call['outputs'][:1]
    if found.size > MAXIMUM or found.dtype.kind != 'f' or any(arrays.get(name) is None for name in names):
        return []
    recorded, found = np.asarray(arrays[call['outputs'][0]], 'f8'), np.asarray(found, 'f8')
    inputs = [np.asarray(arrays[name], 'f8') for name in call['inputs']]
    theirs = [(own or {}).get(name) for name in call['inputs']]
    theirs = [one if other is None or other.shape != one.shape else np.asarray(other, 'f8')
              for one, other in zip(inputs, theirs)]
    if recorded.shape != found.shape or sum(x.size for x in inputs) > MAXIMUM:
        return []
    mask = next((arrays[name] for name in call['input_masks'] if name), None)
    weights = [np.asarray(arrays[name], 'f8') for name in call['weights']]
    kept, known = np.isfinite(recorded), layer_of(call)      # a masked average of a row of padding is 0 / 0

    def output(layer, arguments):
        value = attempt(layer, arguments)
        return None if value is None or value.shape != kept.shape else value[kept]

    recorded, found = recorded[kept], found[kept]
    if not found.size or not np.isfinite(found).all():
        return []
    if known is None or not close(output(known[0], (call['config'], inputs, mask, weights)), recorded):
        return sums_and_means(inputs, recorded, found)
    layer, mistakes = known
    arguments = (call['config'], theirs, mask, weights)
    right, scale, fitting = output(layer, arguments), max(float(np.max(np.abs(found))), 1e-30), OrderedDict()
    left = 0. if right is None else float(np.max(np.abs(right - found)))
    if left <= ROUNDING * scale:        # the layer is right: its inputs differ
        return []
    tried = itertools.chain(mistakes(), added_masks(call, layer, theirs, masks) if mask is None else ())
    for text, key, wrong in tried:
        value = output(wrong, arguments)
        if value is None or not np.isfinite(value).all():
            continue
        rest = float(np.max(np.abs(value - found)))
        if rest <= min(CLOSE * scale, EXPLAINED * left):
            fitting.setdefault(text, (rest > 1e-5 * scale, key))
    return [(text, key) for text, (_, key) in sorted(fitting.items(), key=lambda item: item[1][0])]


class AllFiles(object):
    """The arrays of all files of a set by name."""

    def __init__(self, files):
        self.files = files

    def get(self, name):
        return next((file[name] for file in self.files.values() if name in file), None)

    def __getitem__(self, name):
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value


def causes(results, recorded, found, manifest, stage_map=None):
    """The likely and usual causes of the first difference, as lines.

    # Arguments
        results: of `compare_sets`. recorded, found: {file name: arrays}. manifest: of the reference.
    """
    first = compare.first_difference(results)
    if first is None:
        return []
    order = compare.Order(manifest)
    if not order.captured:
        return ['usual cause: ' + trap.title.replace('`', '') for trap in traps.MODEL_TRAPS
                if first.stage in trap.stages]
    call = order.calls.get(first.stage)
    if call is None:
        keys = ('adam', 'clipnorm', 'decay', 'regularizer', 'cross_entropy')
        return ['usual cause: ' + trap.title.replace('`', '') for trap, _ in traps.find_traps(
            manifest, AllFiles(recorded)) if trap.key in keys]
    arrays, theirs = AllFiles(recorded), AllFiles(found)
    lines = []
    output = theirs.get(compare.mapped(call['outputs'][0], stage_map or {}) or '')
    port = {name: theirs.get(compare.mapped(name, stage_map or {}) or '') for name in call['inputs']}
    masks = [arrays[name] for one in manifest['calls'] for name in one['input_masks'] + one['output_masks']
             if name and arrays.get(name) is not None]
    for text, key in mistakes_that_fit(call, arrays, output, port, masks) if output is not None else ():
        key = 'cudnn_gates' if key == 'hard_sigmoid' and traps.tests.cudnn_gates(call, arrays) else key
        trap = traps.by_key(key) if key else None
        lines.append('likely cause: %s%s' % (text, '; ' + trap.title.replace('`', '') if trap else ''))
    for trap in () if lines else traps.TRAPS:
        if call['class'] in trap.classes:
            why = trap.applies(call, arrays)
            if why:
                lines.append('usual cause: %s (%s)' % (trap.title.replace('`', ''), why))
    return lines
