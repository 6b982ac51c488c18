"""The outputs and updates of a captured model in float64: which differences are rounding of the old stack itself."""
import contextlib
from unittest import mock

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K
from keras.backend import tensorflow_backend

from command_line import UserError, tell
from parity import forward, layer_calls, old_model, updates
from parity.bundle import one_line
from parity.compare import EXACT
from parity.numpy_layers import epsilon_used, is_fused

FILE, PREFIX = EXACT
PARTS = 'forward', 'training'
LARGE = 2 ** 26     # bytes of a part (outputs and weights, or updates), above which it is recorded on request alone


def batch_normalization(x, mean, var, beta, gamma, axis=-1, epsilon=1e-3):
    """`K.batch_normalization` for floats of 64 bits: TensorFlow's fused one has 32."""
    shape = [1] * K.ndim(x)
    shape[axis] = -1
    mean, var, beta, gamma = [one if one is None else tf.reshape(one, shape) for one in (mean, var, beta, gamma)]
    return tf.nn.batch_normalization(x, mean, var, beta, gamma, epsilon_used(epsilon, K.ndim(x), axis))


def in_training(x, gamma, beta, reduction_axes, epsilon=1e-3):
    """`K.normalize_batch_in_training` for floats of 64 bits."""
    if sorted(reduction_axes) != list(range(K.ndim(x)))[:-1]:
        return tensorflow_backend._broadcast_normalize_batch_in_training(x, gamma, beta, reduction_axes, epsilon)
    normed, mean, var = tensorflow_backend._regular_normalize_batch_in_training(
        x, gamma, beta, reduction_axes, epsilon_used(epsilon, K.ndim(x), -1))
    if is_fused(K.ndim(x), -1):     # its variance is that of the population, n / (n - 1) of the batch's
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), x.dtype)
        var *= count / (count - 1.)
    return normed, mean, var


@contextlib.contextmanager
def allowed():
    """Replaces, inside the `with` block, the functions of Keras that know floats of 32 bits only."""
    with mock.patch.object(K, 'batch_normalization', batch_normalization), mock.patch.object(
            K, 'normalize_batch_in_training', in_training):
        yield


def is_random(model, feed):
    """Whether the outputs of a second call differ: then no other arithmetic can be told from another random number."""
    one, other = [K.get_session().run(model.outputs, feed) for _ in range(2)]
    return any(((a != b) & (a == a)).any() for a, b in zip(one, other))      # NaN is unlike itself


def parts(names):
    """Which of `PARTS` a file with these arrays has."""
    return [part for part, there in zip(PARTS, (bool(names), PREFIX + 'losses' in names)) if there]


def write(writer, make, values, inputs, trained, wanted):
    """Writes the floating-point arrays of a bundle as `float64/NAME`; returns whether there are any.

    # Arguments
        writer: of the file. make: function that builds the model, without weights; with True: compiled.
        values: {array name: weight}. inputs: {name: array}. trained: targets, steps and slots, as `updates.run` takes
        them, or None. wanted: which of `PARTS`.
    """
    try:
        with writer, tf_session.repeatable('float64'), allowed():
            model = make('training' in wanted)
            weights = layer_calls.weight_names(model)
            K.batch_set_value([(weight, values['parameter/' + name]) for name, weight in weights])
            if 'forward' in wanted:
                write_forward(writer, model, weights, inputs)
            if 'training' in wanted:
                write_training(writer, model, weights, inputs, trained)
    except (UserError,) + old_model.REFUSALS as error:
        tell('no outputs in float64, so compare cannot tell rounding from a difference: %s' % one_line(error))
        return False
    return True


def write_forward(writer, model, weights, inputs):
    calls, nested = layer_calls.find_calls(model)
    pairs, _, _ = forward.describe_calls(model, calls, weights, nested)
    feed = {x: np.asarray(value, K.dtype(x)) for x, value in zip(model.inputs, inputs.values())}
    forward.feed_phase(feed, 0)
    model.reset_states()
    if is_random(model, feed):
        raise UserError('its outputs are random')
    pairs = [(PREFIX + name, x) for name, x in pairs if K.dtype(x) == 'float64']
    forward.write_forward(writer, pairs, feed)
    forward.write_second_call(writer, model, inputs, PREFIX)


def write_training(writer, model, weights, inputs, trained):
    try:
        arrays = list(updates.run(model, weights, inputs, *trained, quiet=True))
    except (UserError,) + old_model.REFUSALS as error:
        tell('no updates in float64, so compare cannot tell rounding from a difference there: %s' % one_line(error))
        return
    for name, value in arrays:
        if value.dtype == 'float64' and not name.startswith('optimizer_start/'):
            writer.write(PREFIX + name, value)
