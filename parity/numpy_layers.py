"""Layers of Keras 2.2.4 in NumPy, in float64, with the changes that make the usual mistakes of a port. NumPy only.

Each function takes the configuration of a layer, its inputs, its mask and its weights, and returns the output.
"""
import numpy as np

SMALLEST_EPSILON = 1.001e-5     # TensorFlow 1.12 raises that of BatchNormalization over (B, rows, columns, channels)


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
    axis = config.get('axis', -1)
    axis = axis[0] if isinstance(axis, list) else axis
    if epsilon is None:
        epsilon = config.get('epsilon', 1e-3)
        epsilon = max(epsilon, SMALLEST_EPSILON) if x.ndim == 4 and axis in (3, -1) else epsilon
    x = np.moveaxis(x, axis, -1)
    if own:
        mean, variance = x.mean(axis=tuple(range(x.ndim - 1))), x.var(axis=tuple(range(x.ndim - 1)))
    y = (x - mean) / np.sqrt(np.maximum(variance, 0.) + epsilon)
    y = y * (gamma if scale else 1.) + (beta if center else 0.)
    return np.moveaxis(y, -1, axis)


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
    """`Bidirectional` of LSTM or GRU; `turned`: the output of the second direction is put back in order."""
    inner, half = config['layer']['config'], len(weights) // 2
    back = dict(inner, go_backwards=not inner.get('go_backwards'))
    one, other = [recurrent(part, inputs[:1], mask, own, kind=kind, **options)
                  for part, own in ((inner, weights[:half]), (back, weights[half:]))]
    other = other[:, ::-1] if turned and inner.get('return_sequences') else other
    mode = mode or config.get('merge_mode')
    return {'concat': lambda: np.concatenate([one, other], axis=-1), 'sum': lambda: one + other,
            'ave': lambda: (one + other) / 2., 'mul': lambda: one * other,
            'exchanged': lambda: np.concatenate([other, one], axis=-1)}[mode]()
