"""The operations that a `Lambda` layer put into TensorFlow's graph, as values that another framework can follow."""
import tf_session  # noqa: F401  first: it fixes the import order
import numpy as np
from tensorflow.python.framework import tensor_util

from parity import layer_calls

LARGEST = 10000         # numbers in a constant
# Of each operation that `adapters/keras3_operations.py` has: the attributes that decide what it computes.
KNOWN = {name: () for name in (
    'Add', 'Sub', 'Mul', 'RealDiv', 'Maximum', 'Minimum', 'Pow', 'SquaredDifference', 'Greater', 'GreaterEqual', 'Less',
    'LessEqual', 'Equal', 'NotEqual', 'LogicalAnd', 'LogicalOr', 'LogicalNot', 'Abs', 'Neg', 'Square', 'Sqrt', 'Rsqrt',
    'Exp', 'Log', 'Sigmoid', 'Tanh', 'Relu', 'Elu', 'Softplus', 'Softmax', 'Sign', 'Floor', 'Round', 'Sin', 'Cos',
    'Identity', 'ExpandDims', 'Reshape', 'Transpose', 'ReverseV2', 'ConcatV2', 'Tile', 'Select')}
KNOWN.update({name: ('keep_dims',) for name in ('Sum', 'Mean', 'Max', 'Min', 'Prod', 'All', 'Any')})
KNOWN.update({'Squeeze': ('squeeze_dims',), 'Pack': ('axis',), 'Cast': ('DstT',),
              'MatMul': ('transpose_a', 'transpose_b'), 'BatchMatMul': ('adj_x', 'adj_y'),
              'StridedSlice': ('begin_mask', 'end_mask', 'ellipsis_mask', 'new_axis_mask', 'shrink_axis_mask')})


class _Unknown(Exception):
    """An operation that is not followed."""


def operations(inputs, outputs):
    """What leads from some tensors to others.

    # Returns
        {'operations': [[name, [numbers of the arguments], {attribute: value}]], 'outputs': [number]}: the inputs are
        numbered first, then the operations; a constant is the operation `Const`. Or {'unknown': name of the first
        operation that is not followed}.
    """
    numbers, made = {id(x): number for number, x in enumerate(inputs)}, []

    def add(name, arguments, attributes):
        made.append([name, arguments, attributes])
        return len(inputs) + len(made) - 1

    def visit(tensor):
        if id(tensor) not in numbers:
            numbers[id(tensor)] = constant(tensor) if is_constant(tensor) else operation(tensor)
        return numbers[id(tensor)]

    def constant(tensor):
        value = tensor_util.constant_value(tensor)
        if value.size > LARGEST:
            raise _Unknown('a constant of %d numbers' % value.size)
        return add('Const', [], {'value': layer_calls.plain(value), 'dtype': value.dtype.name})

    def operation(tensor):
        op = tensor.op
        if op.type not in KNOWN or len(op.outputs) != 1:
            raise _Unknown(op.type)
        attributes = {name: plain(op.get_attr(name)) for name in KNOWN[op.type]}
        if op.type != 'Reshape':
            return add(op.type, [visit(x) for x in op.inputs], attributes)
        shape = tensor_util.constant_value_as_shape(op.inputs[1])
        shape = [-1 if size is None else size for size in (shape.as_list() if shape.ndims is not None else [None] * 2)]
        if shape.count(-1) > 1:
            raise _Unknown('Reshape to a shape that is computed')
        x = visit(op.inputs[0])
        return add('Reshape', [x, add('Const', [], {'value': shape, 'dtype': 'int32'})], {})

    try:
        ends = [visit(x) for x in outputs]
    except (_Unknown, RecursionError) as error:
        return {'unknown': str(error)}
    return {'operations': made, 'outputs': ends}


def is_constant(tensor):
    value = tensor_util.constant_value(tensor)
    return value is not None and value.dtype.kind in 'fiub'


def plain(value):
    """An attribute as a value of JSON."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return np.dtype(value.as_numpy_dtype).name
