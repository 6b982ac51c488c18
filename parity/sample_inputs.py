"""Inputs and targets for a captured model: read from a file, or drawn from the model's own shapes and layers."""
from collections import OrderedDict

import tf_session  # noqa: F401  first: it fixes the import order
import keras
import numpy as np
from keras import backend as K

from command_line import UserError
from parity import bundle

ROWS, STEPS, PIXELS = 5, 7, 32      # for sizes that a model leaves open
SAME_NUMBERS = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Permute, keras.layers.RepeatVector)
LARGE = 50000                       # numbers in a row, above which two rows are enough


def inner_layer(layer):
    """The layer in a `TimeDistributed`, or the layer itself."""
    while isinstance(layer, keras.layers.TimeDistributed):
        layer = layer.layer
    return layer


def readers(calls, tensor):
    """The layers that read the numbers of a tensor: directly, inside of `TimeDistributed`, or in another shape."""
    found = []
    for call in calls:
        if any(one is tensor for one in call.inputs):
            found.append(inner_layer(call.layer))
            # A layer that makes integers of integers passes ids on.
            passes = isinstance(call.layer, SAME_NUMBERS) or all(
                K.dtype(one).startswith('int') for one in [tensor] + list(call.outputs))
            same = list(call.outputs) if passes else []
            if isinstance(call.layer, keras.layers.TimeDistributed):
                same += [one.inputs[0] for one in calls if one.parent == call.name]
            for other in same:
                found += readers(calls, other)
    return found


def shape_of(tensor, rows):
    """The shape of a drawn input; its batch has `rows` rows unless the model fixes it."""
    shape = list(K.int_shape(tensor))
    shape[0] = shape[0] or rows
    free = STEPS if len(shape) <= 3 else PIXELS
    return [length or (free if axis == 1 or len(shape) > 3 else 1) for axis, length in enumerate(shape)]


def draw_inputs(model, calls, seed=0):
    """Draws inputs: ids within each `Embedding`'s range, normal numbers elsewhere; rows of padding where a layer masks.

    # Returns
        {name of the input: array}; where a layer masks, a row is of length 1, the last one all padding, others between.
        The rows of another input have these lengths in another order, so that their masks differ.
    """
    random, arrays = np.random.RandomState(seed), OrderedDict()
    for number, (name, tensor) in enumerate(zip(model.input_names, model.inputs)):
        large = np.prod([length or 1 for length in K.int_shape(tensor)[1:]]) > LARGE
        shape = shape_of(tensor, 2 if large else ROWS)
        layers = readers(calls, tensor)
        embeddings = [layer for layer in layers if isinstance(layer, keras.layers.Embedding)]
        padding = next((0 for layer in embeddings if layer.mask_zero), None)
        padding = next((layer.mask_value for layer in layers if isinstance(layer, keras.layers.Masking)), padding)
        if embeddings:
            size = min(layer.input_dim for layer in embeddings)
            values = random.randint(1 if padding is not None and size > 1 else 0, size, shape)
        else:
            values = random.normal(size=shape)
        values = values.astype(K.dtype(tensor))
        if padding is not None and len(shape) > 1:
            middle = max(1, shape[0] - 2)       # rows that are neither whole nor all padding
            for row in range(1, shape[0]):
                length = shape[1] * ((row - 1 + number) % middle) // middle
                length = 0 if row == shape[0] - 1 and row > 1 else min(max(1, length), shape[1])
                values[row, length:] = padding
        arrays[name] = values
    return arrays


def read_named(path, names, what):
    """{name: array} for these names from an `.npz` file, with or without a prefix such as `input/`.

    # Raises
        UserError: a name is missing, or one is unknown.
    """
    try:
        arrays = bundle.read_arrays(path)
    except bundle.SetError as error:
        raise UserError(str(error))
    found = OrderedDict((name[len(what) + 1:] if name.startswith(what + '/') else name, value)
                        for name, value in arrays.items())
    for name, value in found.items():
        if value.dtype.kind not in bundle.NUMBERS:
            raise UserError('%s: %s is of the type %s, not numbers: give others'
                            % (path, bundle.printable(name), value.dtype))
    if len(names) == len(found) == 1:
        return OrderedDict(zip(names, found.values()))
    for name in names:
        if name not in found:
            raise UserError('%s: has no array %s: the model\'s are %s' % (path, name, ', '.join(names)))
    for name in found:
        if name not in names:
            raise UserError('%s: %s is no %s of the model: they are %s'
                            % (path, bundle.printable(name), what, ', '.join(names)))
    return OrderedDict((name, found[name]) for name in names)


def read_inputs(path, model, calls):
    """Inputs from a file, in each input's type. UserError: they do not fit the model."""
    return fitted(path, read_named(path, model.input_names, 'input'), model, calls)


def fitted(path, arrays, model, calls):
    """Inputs {name: array} in each input's type. UserError: names, shapes, kinds or ids do not fit the model."""
    for name, tensor in zip(model.input_names, model.inputs):
        value, shape = arrays[name], K.int_shape(tensor)
        if value.dtype.kind not in bundle.NUMBERS or value.ndim != len(shape) or any(
                known not in (None, length) for known, length in zip(shape, value.shape)):
            raise UserError('%s: %s has the type %s and shape %s, and the model needs %s and %s' % (
                path, name, value.dtype, value.shape, K.dtype(tensor), shape))
        arrays[name] = value = value.astype(K.dtype(tensor))
        sizes = [layer.input_dim for layer in readers(calls, tensor) if isinstance(layer, keras.layers.Embedding)]
        ids = value.astype('i8')
        if sizes and value.size and not (0 <= ids.min() and ids.max() < min(sizes)):
            raise UserError('%s: %s has ids from %d to %d, and the table of its Embedding has rows from 0 to %d: give '
                            'others' % (path, name, ids.min(), ids.max(), min(sizes) - 1))
    if len({len(value) for value in arrays.values()}) > 1:
        raise UserError('%s: the inputs have unequal numbers of rows' % path)
    if not all(value.size for value in arrays.values()):
        raise UserError('%s: an input is empty: give at least one row' % path)
    return arrays


def draw_targets(model, shapes, seed=1):
    """Draws a target for each output, of the kind that its loss needs.

    # Arguments
        shapes: of the outputs' arrays, in order.
    """
    random, found = np.random.RandomState(seed), OrderedDict()
    for name, shape, loss in zip(model.output_names, shapes, model.loss_functions):
        kind = getattr(loss, '__name__', str(loss))
        if 'sparse' in kind:
            value = random.randint(0, shape[-1], tuple(shape[:-1]) + (1,))
        elif 'categorical' in kind or 'kullback' in kind:
            value = np.eye(shape[-1])[random.randint(0, shape[-1], shape[:-1])]
        elif 'binary' in kind:
            value = random.randint(0, 2, shape)
        elif 'hinge' in kind:
            value = 2 * random.randint(0, 2, shape) - 1
        else:
            value = random.uniform(0.1, 1., shape)
        found[name] = np.asarray(value, K.floatx())
    return found
