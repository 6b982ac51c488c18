"""Layers of Keras 2.2.4 in NumPy, in float64, with the changes that make the usual mistakes of a port. NumPy only.

Each function takes the configuration of a layer, its inputs, its mask and its weights, and returns the output.
"""
import numpy as np

SMALLEST_EPSILON = 1.001e-5     # of the fused kernel for BatchNormalization: TensorFlow 1.12 raises a smaller one


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
for _axis in (1, 2, 3):
    ACTIVATIONS['softmax over axis %d' % _axis] = lambda x, axis=_axis: softmax(x, axis)


# Layers

def recurrent(config, inputs, mask, weights, kind='LSTM', masked='repeat', reset_after=None, swap=False, lost=()):
    """LSTM, GRU or SimpleRNN. `masked`: a masked step outputs the one before it (repeat), zeros, or its own (none)."""
    x, kernel, inner = inputs[0], weights[0], weights[1]
    bias = weights[2] if len(weights) > 2 else np.zeros(kernel.shape[1])
    gate, activation = [ACTIVATIONS[config.get(key, 'linear')] for key in ('recurrent_activation', 'activation')]
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
        elif kind == 'SimpleRNN':
            new = [activation(x[:, t] @ kernel + h @ inner + bias)]
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


def is_fused(rank, axis):
    """Whether TensorFlow's fused kernel normalises inputs with `rank` axes: (B, rows, columns, channels)."""
    return rank == 4 and axis in (-1, 3, [-1], [3])


def epsilon_used(epsilon, rank, axis):
    """The epsilon with which TensorFlow computes a `BatchNormalization` of this configured one."""
    return max(epsilon, SMALLEST_EPSILON) if is_fused(rank, axis) else epsilon


def batch_norm(config, inputs, mask, weights, epsilon=None, own=False, scale=True, center=1., order=None):
    x, names = inputs[0], [name for name in ('scale', 'center') if config.get(name, True)]
    gamma, beta = [weights[names.index(name)] if name in names else float(name == 'scale')
                   for name in ('scale', 'center')]
    mean, variance = weights[-2:][::order or 1]
    axis = config.get('axis', -1)
    axis = axis[0] if isinstance(axis, list) else axis
    if epsilon is None:
        epsilon = epsilon_used(config.get('epsilon', 1e-3), x.ndim, axis)
    x = np.moveaxis(x, axis, -1)
    if own:
        mean, variance = x.mean(axis=tuple(range(x.ndim - 1))), x.var(axis=tuple(range(x.ndim - 1)))
    y = (x - mean) / np.sqrt(np.maximum(variance, 0.) + epsilon)
    y = y * (gamma if scale else 1.) + center * beta
    return np.moveaxis(y, -1, axis)


def dense(config, inputs, mask, weights):
    y = inputs[0] @ weights[0] + (weights[1] if len(weights) > 1 else 0.)
    return ACTIVATIONS[config['activation']](y)


def channels_last(layer):
    """A layer that is written for (B, ..., channels), for both data formats."""
    def run(config, inputs, mask, weights, **changes):
        if config.get('data_format') != 'channels_first':
            return layer(config, inputs, mask, weights, **changes)
        y = layer(dict(config, data_format='channels_last'), [np.moveaxis(x, 1, -1) for x in inputs], mask, weights,
                  **changes)
        return np.moveaxis(y, -1, 1)
    return run


def padding_of(config, lengths, sizes, strides, other_side=False):
    """(pads before and after, length of the output) of each axis, for windows of these sizes."""
    pads, found = [], []
    for length, size, stride in zip(lengths, sizes, strides):
        total = {'same': max((-(-length // stride) - 1) * stride + size - length, 0),
                 'causal': size - 1}.get(config['padding'], 0)
        before = total if config['padding'] == 'causal' else total // 2
        pads.append((total - before, before) if other_side else (before, total - before))
        found.append((length + total - size) // stride + 1)
    return pads, found


def places(at, lengths, strides):
    """The index of the numbers that position `at` of each window has."""
    return (slice(None),) + tuple(slice(first, first + (length - 1) * stride + 1, stride)
                                  for first, length, stride in zip(at, lengths, strides))


@channels_last
def convolution(config, inputs, mask, weights, other_side=False):
    """One-dimensional and two-dimensional convolutions."""
    x, kernel, count = inputs[0], weights[0], inputs[0].ndim - 2
    strides, spread = config['strides'], config.get('dilation_rate', [1] * count)
    sizes = [(size - 1) * step + 1 for size, step in zip(kernel.shape, spread)]
    pads, lengths = padding_of(config, x.shape[1:-1], sizes, strides, other_side)
    x = np.pad(x, [(0, 0)] + pads + [(0, 0)], 'constant')
    y = np.zeros((len(x),) + tuple(lengths) + (kernel.shape[-1],))
    for at in np.ndindex(*kernel.shape[:count]):
        y += x[places([one * step for one, step in zip(at, spread)], lengths, strides)] @ kernel[at]
    return ACTIVATIONS[config['activation']](y + (weights[1] if len(weights) > 1 else 0.))


def depthwise(config, inputs, mask, weights, **changes):
    """`DepthwiseConv2D` as a convolution whose kernel joins each channel with its own outputs only."""
    kernel = weights[0]
    count, more = kernel.shape[-2:]
    joined = np.zeros(kernel.shape[:-1] + (count * more,))
    for channel in range(count):
        joined[..., channel, channel * more:(channel + 1) * more] = kernel[..., channel, :]
    return convolution(config, inputs, mask, [joined] + weights[1:], **changes)


def separable(config, inputs, mask, weights, **changes):
    """`SeparableConv1D` and `SeparableConv2D` as one convolution."""
    points = weights[1].reshape(weights[0].shape[-2:] + (-1,))
    return convolution(config, inputs, mask, [np.einsum('...cm,cmo->...co', weights[0], points)] + weights[2:],
                       **changes)


@channels_last
def transposed(config, inputs, mask, weights, other_side=False):
    """`Conv2DTranspose`, without output padding and dilation."""
    x, kernel, strides = inputs[0], weights[0], config['strides']
    if config.get('output_padding') or any(one != 1 for one in config.get('dilation_rate', ())):
        raise ValueError('not written here')
    sizes = kernel.shape[:2]
    lengths = [length * stride + (max(size - stride, 0) if config['padding'] == 'valid' else 0)
               for length, size, stride in zip(x.shape[1:3], sizes, strides)]
    whole = [(length - 1) * stride + size for length, size, stride in zip(x.shape[1:3], sizes, strides)]
    y = np.zeros((len(x),) + tuple(max(pair) for pair in zip(lengths, whole)) + (kernel.shape[2],))
    for at in np.ndindex(*sizes):
        y[places(at, x.shape[1:3], strides)] += x @ kernel[at].T
    cut = [max(size - length, 0) for size, length in zip(whole, lengths)]
    first = [one - one // 2 if other_side else one // 2 for one in cut]
    y = y[(slice(None),) + tuple(slice(start, start + length) for start, length in zip(first, lengths))]
    return ACTIVATIONS[config['activation']](y + (weights[1] if len(weights) > 1 else 0.))


@channels_last
def window(config, inputs, mask, weights, kind='mean', counted=False, padding=-np.inf, other_side=False):
    """`AveragePooling` and `MaxPooling`. `counted`: the mean counts the padding; `padding`: its value in a maximum."""
    x, sizes = inputs[0], config['pool_size']
    strides = config.get('strides') or sizes
    pads, lengths = padding_of(config, x.shape[1:-1], sizes, strides, other_side)
    pads = [(0, 0)] + pads + [(0, 0)]
    real = np.pad(np.ones_like(x), pads, 'constant', constant_values=float(counted))
    x = np.pad(x, pads, 'constant', constant_values=padding if kind == 'maximum' else 0.)
    parts = [(x[place], real[place]) for place in (places(at, lengths, strides) for at in np.ndindex(*sizes))]
    if kind == 'maximum':
        return np.max([one for one, _ in parts], axis=0)
    return sum(one for one, _ in parts) / sum(one for _, one in parts)


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


def softmax_layer(config, inputs, mask, weights):
    return softmax(inputs[0], config.get('axis', -1))


def rectified(config, inputs, mask, weights):
    """`ReLU`."""
    x, threshold = inputs[0], config.get('threshold') or 0.
    y = np.where(x >= threshold, x, (config.get('negative_slope') or 0.) * (x - threshold))
    return y if config.get('max_value') is None else np.minimum(y, config['max_value'])


def elu(config, inputs, mask, weights):
    return np.where(inputs[0] > 0, inputs[0], np.asarray(config['alpha']) * np.expm1(np.minimum(inputs[0], 0.)))


def leaky_relu(config, inputs, mask, weights, alpha=None):
    alpha = np.asarray(config['alpha'] if alpha is None else alpha)
    return np.where(inputs[0] > 0, inputs[0], alpha * inputs[0])


def each_step(config, inputs, mask, weights):
    """`TimeDistributed` of a Dense layer."""
    return dense(config['layer']['config'], inputs, mask, weights)


def pooling(config, inputs, mask, weights, kind='mean'):
    """Over all steps or pixels, of the valid steps where the layer has a mask."""
    x = inputs[0]
    if config.get('data_format') == 'channels_first':
        x = np.moveaxis(x, 1, -1)
    axes = tuple(range(1, x.ndim - 1))
    if kind == 'maximum':
        return x.max(axis=axes)
    valid = np.ones(x.shape[:2]) if mask is None else mask.astype('f8')
    valid = valid.reshape(valid.shape + (1,) * (x.ndim - 2))
    total = (x * valid).sum(axis=axes)
    if kind == 'sum':
        return total
    with np.errstate(all='ignore'):     # 0 / 0 for a row of padding
        return total / np.broadcast_to(valid, x.shape[:-1] + (1,)).sum(axis=axes)


def both_directions(config, inputs, mask, weights, kind='LSTM', mode=None, turned=True, **options):
    """`Bidirectional`; `turned`: the output of the second direction is put back in order."""
    inner, half = config['layer']['config'], len(weights) // 2
    back = dict(inner, go_backwards=not inner.get('go_backwards'))
    one, other = [recurrent(part, inputs[:1], mask, own, kind=kind, **options)
                  for part, own in ((inner, weights[:half]), (back, weights[half:]))]
    other = other[:, ::-1] if turned and inner.get('return_sequences') else other
    mode = mode or config.get('merge_mode')
    return {'concat': lambda: np.concatenate([one, other], axis=-1), 'sum': lambda: one + other,
            'ave': lambda: (one + other) / 2., 'mul': lambda: one * other,
            'exchanged': lambda: np.concatenate([other, one], axis=-1)}[mode]()
