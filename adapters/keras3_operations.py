"""Follows the operations of a `Lambda` layer, which the capture found in TensorFlow's graph, in Keras 3."""
import functools

import keras
import numpy as np
from keras import ops


def reduced(function):
    return lambda x, axes, keep_dims: function(x, axis=axes_of(axes), keepdims=keep_dims)


def axes_of(value):
    """An axis or several, as Keras takes them."""
    return tuple(int(one) for one in np.ravel(value))


def sliced(x, begin, end, strides, begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask):
    """A part of a tensor, as TensorFlow writes `x[...]`."""
    parts = []
    for number, (first, last, stride) in enumerate(zip(begin, end, strides)):
        bit = 1 << number
        if ellipsis_mask & bit:
            parts.append(Ellipsis)
        elif new_axis_mask & bit:
            parts.append(None)
        elif shrink_axis_mask & bit:
            parts.append(int(first))
        else:
            parts.append(slice(None if begin_mask & bit else int(first), None if end_mask & bit else int(last),
                               int(stride)))
    return x[tuple(parts)]


def product(x, y, adj_x=False, adj_y=False):
    def turned(value):
        axes = list(range(len(value.shape)))
        return ops.transpose(value, axes[:-2] + [axes[-1], axes[-2]])
    return ops.matmul(turned(x) if adj_x else x, turned(y) if adj_y else y)


FUNCTIONS = {
    'Add': ops.add, 'Sub': ops.subtract, 'Mul': ops.multiply, 'RealDiv': ops.divide, 'Maximum': ops.maximum,
    'Minimum': ops.minimum, 'Pow': ops.power, 'SquaredDifference': lambda x, y: ops.square(x - y),
    'Greater': ops.greater, 'GreaterEqual': ops.greater_equal, 'Less': ops.less, 'LessEqual': ops.less_equal,
    'Equal': ops.equal, 'NotEqual': ops.not_equal, 'LogicalAnd': ops.logical_and, 'LogicalOr': ops.logical_or,
    'LogicalNot': ops.logical_not, 'Abs': ops.absolute, 'Neg': ops.negative, 'Square': ops.square, 'Sqrt': ops.sqrt,
    'Rsqrt': ops.rsqrt, 'Exp': ops.exp, 'Log': ops.log, 'Sigmoid': ops.sigmoid, 'Tanh': ops.tanh, 'Relu': ops.relu,
    'Elu': ops.elu, 'Softplus': ops.softplus, 'Softmax': ops.softmax, 'Sign': ops.sign, 'Floor': ops.floor,
    'Round': ops.round, 'Sin': ops.sin, 'Cos': ops.cos, 'Select': ops.where,
    'Identity': lambda x: keras.layers.Identity()(x) if isinstance(x, keras.KerasTensor) else x,
    'ExpandDims': lambda x, axis: ops.expand_dims(x, int(axis)), 'Reshape': lambda x, shape: ops.reshape(
        x, [int(size) for size in shape]),
    'Transpose': lambda x, axes: ops.transpose(x, axes_of(axes)), 'Tile': lambda x, times: ops.tile(x, axes_of(times)),
    'ReverseV2': lambda x, axes: ops.flip(x, axes_of(axes)),
    'ConcatV2': lambda *x: ops.concatenate(list(x[:-1]), axis=int(x[-1])),
    'Squeeze': lambda x, squeeze_dims: ops.squeeze(x, axis=tuple(squeeze_dims) or None),
    'Pack': lambda *x, axis: ops.stack(list(x), axis=axis), 'Cast': lambda x, DstT: ops.cast(x, DstT),
    'MatMul': lambda x, y, transpose_a, transpose_b: product(x, y, transpose_a, transpose_b), 'BatchMatMul': product,
    'StridedSlice': sliced, 'Sum': reduced(ops.sum), 'Mean': reduced(ops.mean), 'Max': reduced(ops.max),
    'Min': reduced(ops.min), 'Prod': reduced(ops.prod), 'All': reduced(ops.all), 'Any': reduced(ops.any)}


def follow(recorded, inputs):
    """The outputs of recorded operations for symbolic inputs.

    # Raises
        KeyError: an operation is not known here. Others: Keras 3 refuses the arguments.
    """
    values = list(inputs)
    for name, arguments, attributes in recorded['operations']:
        if name == 'Const':
            values.append(np.asarray(attributes['value'], attributes['dtype']))
        else:
            values.append(functools.partial(FUNCTIONS[name], **attributes)(*[values[number] for number in arguments]))
    return [values[number] for number in recorded['outputs']]
