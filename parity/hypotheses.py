"""Names the cause of a difference in a captured layer: computes the layer with each usual mistake and compares.

The layers are written in NumPy, in float64, each with the usual mistakes of a port. A mistake is a likely cause if the
layer with it gives the output of the port, and the layer without it the recorded output. NumPy only.
"""
from collections import OrderedDict
import itertools

import numpy as np

from parity import compare, traps

CLOSE = 2e-4        # of the largest number of the array
LOST = 32           # steps before which a loss of the states is tried
MAXIMUM = 2 ** 22   # numbers in a layer's input or output, above which nothing is computed


def sigmoid(x):
    return 1. / (1. + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


ACTIVATIONS = {
    'linear': lambda x: x, 'relu': lambda x: np.maximum(x, 0.), 'tanh': np.tanh, 'sigmoid': sigmoid,
    'softmax': softmax, 'hard_sigmoid': lambda x: np.clip(0.2 * x + 0.5, 0., 1.), 'exponential': np.exp,
    'hard_sigmoid with slope 1/6': lambda x: np.clip(x / 6. + 0.5, 0., 1.),
    'elu': lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1.), 'softplus': lambda x: np.log1p(np.exp(x)),
    'softsign': lambda x: x / (1. + np.abs(x)), 'leaky relu': lambda x: np.where(x > 0, x, 0.01 * x),
    'softmax over the rows': lambda x: softmax(x, 0)}


# Layers. Each takes its configuration, inputs, mask and weights, and returns the output.

def recurrent(config, inputs, mask, weights, kind='LSTM', masked='repeat', reset_after=None, swap=False, lost=()):
    """LSTM or GRU. `masked`: a masked step outputs the one before it (repeat), zeros, or that of a valid step."""
    x, kernel, inner = inputs[0], weights[0], weights[1]
    bias = weights[2] if len(weights) > 2 else np.zeros(kernel.shape[1])
    gate, activation = ACTIVATIONS[config['recurrent_activation']], ACTIVATIONS[config['activation']]
    after = config.get('reset_after') if reset_after is None else reset_after
    states = list(inputs[1:]) or [np.zeros((len(x), inner.shape[0]))] * (2 if kind == 'LSTM' else 1)
    valid = np.ones(x.shape[:2], bool) if mask is None else mask.astype(bool)
    if config.get('go_backwards'):
        x, valid = x[:, ::-1], valid[:, ::-1]
    output, outputs = np.zeros_like(states[0]), []
    for t in range(x.shape[1]):
        states = [np.zeros_like(old) for old in states] if t in lost else states
        h = states[0]
        if kind == 'LSTM':
            i, f, g, o = np.split(x[:, t] @ kernel + h @ inner + bias, 4, axis=1)
            c = gate(f) * states[1] + gate(i) * activation(g)
            new = [gate(o) * activation(c), c]
        else:
            outer, own = (bias[0], bias[1]) if bias.ndim == 2 else (bias, np.zeros_like(bias))
            d = inner.shape[0]
            xz, xr, xh = np.split(x[:, t] @ kernel + outer, 3, axis=1)
            hz, hr = np.split(h @ inner[:, :2 * d] + own[:2 * d], 2, axis=1)
            z, r = gate(xz + hz), gate(xr + hr)
            rest = r * (h @ inner[:, 2 * d:] + own[2 * d:]) if after else (r * h) @ inner[:, 2 * d:]
            candidate = activation(xh + rest)
            new = [(1. - z) * h + z * candidate if swap else z * h + (1. - z) * candidate]
        step = valid[:, t, None] if masked != 'none' else np.ones((len(x), 1), bool)
        output = np.where(step, new[0], output if masked == 'repeat' else 0.)
        states = [np.where(step, one, old) for one, old in zip(new, states)]
        outputs.append(output)
    return np.stack(outputs, axis=1) if config.get('return_sequences') else output


def batch_norm(config, inputs, mask, weights, epsilon=None, own=False, scale=True, center=True, order=None):
    x, names = inputs[0], [name for name in ('scale', 'center') if config.get(name, True)]
    gamma, beta = [weights[names.index(name)] if name in names else float(name == 'scale')
                   for name in ('scale', 'center')]
    mean, variance = weights[-2:][::order or 1]
    if own:
        mean, variance = x.mean(axis=tuple(range(x.ndim - 1))), x.var(axis=tuple(range(x.ndim - 1)))
    epsilon = config.get('epsilon', 1e-3) if epsilon is None else epsilon
    y = (x - mean) / np.sqrt(np.maximum(variance, 0.) + epsilon)
    return y * (gamma if scale else 1.) + (beta if center else 0.)


def dense(config, inputs, mask, weights):
    y = inputs[0] @ weights[0] + (weights[1] if len(weights) > 1 else 0.)
    return ACTIVATIONS[config['activation']](y)


def convolution(config, inputs, mask, weights, other_side=False):
    """One-dimensional and two-dimensional convolutions."""
    x, kernel, count = inputs[0], weights[0], inputs[0].ndim - 2
    strides, spread = config['strides'], config.get('dilation_rate', [1] * count)
    pads, lengths = [], []
    for axis in range(count):
        length, size = x.shape[1 + axis], (kernel.shape[axis] - 1) * spread[axis] + 1
        total = 0
        if config['padding'] == 'same':
            total = max((-(-length // strides[axis]) - 1) * strides[axis] + size - length, 0)
        elif config['padding'] == 'causal':
            total = size - 1
        before = total if config['padding'] == 'causal' else total // 2
        pads.append((total - before, before) if other_side else (before, total - before))
        lengths.append((length + total - size) // strides[axis] + 1)
    x = np.pad(x, [(0, 0)] + pads + [(0, 0)], 'constant')
    y = np.zeros((len(x),) + tuple(lengths) + (kernel.shape[-1],))
    for at in np.ndindex(*kernel.shape[:count]):
        window = tuple(slice(at[axis] * spread[axis], at[axis] * spread[axis] + (lengths[axis] - 1) * strides[axis] + 1,
                             strides[axis]) for axis in range(count))
        y += x[(slice(None),) + window] @ kernel[at]
    return ACTIVATIONS[config['activation']](y + (weights[1] if len(weights) > 1 else 0.))


def embedding(config, inputs, mask, weights, shift=0):
    return weights[0][np.clip(inputs[0].astype(int) + shift, 0, len(weights[0]) - 1)]


def zero_padding(config, inputs, mask, weights, swapped=False):
    pads = config['padding'] if isinstance(config['padding'][0], list) else [config['padding']]
    pads = [tuple(pair[::-1] if swapped else pair) for pair in pads]
    return np.pad(inputs[0], [(0, 0)] + pads + [(0, 0)], 'constant')


def flatten(config, inputs, mask, weights, first=False):
    x = inputs[0]
    return (np.moveaxis(x, -1, 1) if first else x).reshape(len(x), -1)


def merge(config, inputs, mask, weights, kind='Add', order=None):
    inputs = [inputs[i] for i in order] if order else inputs
    if kind == 'Concatenate':
        return np.concatenate(inputs, axis=config.get('axis', -1))
    return {'Add': sum, 'Average': lambda x: sum(x) / len(x), 'Maximum': lambda x: np.max(x, axis=0),
            'Minimum': lambda x: np.min(x, axis=0), 'Multiply': lambda x: np.prod(x, axis=0),
            'Subtract': lambda x: x[0] - x[1]}[kind](inputs)


def activation(config, inputs, mask, weights):
    return ACTIVATIONS[config['activation']](inputs[0])


def identity(config, inputs, mask, weights, factor=1.):
    return inputs[0] * factor


def leaky_relu(config, inputs, mask, weights, alpha=None):
    alpha = np.asarray(config['alpha'] if alpha is None else alpha)
    return np.where(inputs[0] > 0, inputs[0], alpha * inputs[0])


def each_step(config, inputs, mask, weights):
    """`TimeDistributed` of a Dense layer."""
    return dense(config['layer']['config'], inputs, mask, weights)


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
    yield 'the bias is missing', 'one_bias', with_weights(layer, lambda w: w[:2])
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
    yield 'the bias is missing', None, with_weights(layer, lambda w: w[:1])
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


def dropout_mistakes():
    for rate in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5):
        yield 'values are scaled by 1 / (1 - %g)' % rate, None, options(identity, factor=1. / (1. - rate))
        yield 'values are scaled by 1 - %g' % rate, None, options(identity, factor=1. - rate)


LAYERS = {
    'LSTM': (options(recurrent, kind='LSTM'), lambda: recurrent_mistakes('LSTM')),
    'GRU': (options(recurrent, kind='GRU'), lambda: recurrent_mistakes('GRU')),
    'BatchNormalization': (batch_norm, norm_mistakes), 'Dense': (dense, lambda: kernel_mistakes(dense)),
    'TimeDistributed': (each_step, lambda: [
        ('the bias is missing', None, with_weights(each_step, lambda w: w[:1]))]),
    'Conv1D': (convolution, convolution_mistakes), 'Conv2D': (convolution, convolution_mistakes),
    'Embedding': (embedding, embedding_mistakes),
    'ZeroPadding1D': (zero_padding, lambda: [('the padding is on the other side', None,
                                              options(zero_padding, swapped=True))]),
    'Flatten': (flatten, lambda: [('it reads the channels first', 'flatten', options(flatten, first=True))]),
    'Activation': (activation, lambda: wrong_activations(activation)),
    'LeakyReLU': (leaky_relu, lambda: [('the slope is 0.01', 'leaky_relu', options(leaky_relu, alpha=0.01))])}
LAYERS['ZeroPadding2D'] = LAYERS['ZeroPadding1D']
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


def mistakes_that_fit(call, arrays, found):
    """(what is wrong, key of a trap or None) of each mistake with which a layer gives `found`."""
    if call['class'] not in LAYERS or found.size > MAXIMUM:
        return []
    layer, mistakes = LAYERS[call['class']]
    if any(arrays.get(name) is None for name in call['inputs'] + call['weights'] + call['outputs'][:1]):
        return []
    inputs = [np.asarray(arrays[name], 'f8') for name in call['inputs']]
    mask = next((arrays[name] for name in call['input_masks'] if name), None)
    arguments = (call['config'], inputs, mask, [np.asarray(arrays[name], 'f8') for name in call['weights']])
    recorded, found = np.asarray(arrays[call['outputs'][0]], 'f8'), np.asarray(found, 'f8')
    if sum(x.size for x in inputs) > MAXIMUM or not close(attempt(layer, arguments), recorded):
        return []
    fitting = OrderedDict()
    for text, key, wrong in mistakes():
        value = attempt(wrong, arguments)
        if close(value, found) and not close(value, recorded):
            fitting.setdefault(text, key)
    return list(fitting.items())


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
    for text, key in mistakes_that_fit(call, arrays, output) if output is not None else ():
        trap = traps.by_key(key) if key else None
        lines.append('likely cause: %s%s' % (text, '; ' + trap.title.replace('`', '') if trap else ''))
    for trap in () if lines else traps.TRAPS:
        if call['class'] in trap.classes:
            why = trap.applies(call, arrays)
            if why:
                lines.append('usual cause: %s (%s)' % (trap.title.replace('`', ''), why))
    return lines
