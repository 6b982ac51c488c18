"""Gradients by hand, of the first and of the second order, and loops that have none of TensorFlow's own."""
import inspect

import tensorflow as tf


def attach_gradient(name, results, inputs):
    """Gives `results` the gradient that was registered as `name` in place of TensorFlow's own.

    # Arguments
        name: String, the name given to `register`.
        results: list of tensors, computed from `inputs`. What the gradient needs of the forward pass is among them.
        inputs: list of tensors.

    # Returns
        List of tensors with the values of `results`.
    """
    # `tf.custom_gradient` would register a function, with its whole graph, at each call, and keep it forever.
    with tf.get_default_graph().gradient_override_map({'IdentityN': name}):
        return tf.identity_n(results + inputs)[:len(results)]


def register(name, gradient, plain=None):
    """Registers a gradient by hand for `attach_gradient`.

    Its second-order gradient is that of TensorFlow for the operations of `gradient`. It raises where such a gradient
    would have to go through a loop of `scan`, unless there is a `plain` function to differentiate instead.

    # Arguments
        name: String.
        gradient: function of an operation, whose inputs are the results and then the inputs of the kernel, and of the
            gradients of its outputs. It returns `None` for each of the results, and a gradient or `None` for each of
            the inputs.
        plain: function of the inputs of the kernel, one parameter each, that computes the results with TensorFlow's
            operations alone, for a kernel with a gradient for each of its inputs that are real numbers. It may take
            more memory than the kernel: nothing calls it before somebody asks for a second-order gradient.
    """
    if plain is None:
        tf.RegisterGradient(name)(gradient)
        return
    count = len(inspect.signature(plain).parameters)

    def first_order(op, *d_outputs):
        found = gradient(op, *d_outputs)
        results = len(found) - count
        d_inputs = attach_gradient(name + '/again', [one for one in found if one is not None],
                                   list(d_outputs[:results]) + list(op.inputs[results:]))
        return [None if one is None else d_inputs.pop(0) for one in found]

    def second_order(op, *slopes):
        given = list(op.inputs)
        # Copies: the gradients of the results depend on the inputs, which may depend on each other.
        inputs = [tf.identity(x) for x in given[-count:]]
        real = [x for x in inputs if x.dtype.is_floating]
        d_results = [tf.identity(x) for x in given[len(real):-count]]
        d_inputs = tf.gradients(plain(*inputs), real, d_results)
        d_inputs = [tf.convert_to_tensor(x) for x in d_inputs]  # of rows that were gathered, it is `IndexedSlices`
        found = tf.gradients(d_inputs, d_results + real, list(slopes[:len(real)]))
        found = dict(zip(d_results + real, found))
        return [None] * len(real) + [found.get(x) for x in d_results + inputs]

    tf.RegisterGradient(name)(first_order)
    tf.RegisterGradient(name + '/again')(second_order)


@tf.RegisterGradient('FirstOrderOnly')
def no_gradient(op, *_):
    raise LookupError(
        "'%s' has no second-order gradient: the gradient of this loop is written by hand, and Keras' own loops have no "
        'second order either. Use a recurrent layer of Keras with unroll=True.' % op.name)


def scan(step, states, inputs, kept, reverse=False):
    """Runs a step over the first axis of its inputs. The results have no gradient: asking for one raises.

    # Arguments
        step: function of the states and of a list with one slice of each input; returns new states, and a list of
            `kept` tensors to keep.
        states: list of tensors.
        inputs: list of tensors `(N, B, ...)` of one type, N >= 1.
        kept: Integer, the number of tensors that a step keeps.
        reverse: Boolean, run from the last slice to the first.

    # Returns
        The last states, and a list of the kept tensors of all steps, `(N, B, ...)` each, in the order of the inputs.
    """
    length = tf.shape(inputs[0])[0]
    arrays = [tf.TensorArray(inputs[0].dtype, length) for _ in range(kept)]

    def body(time, states, arrays):
        place = length - 1 - time if reverse else time
        # A slice of the first axis shares the memory of its array where a TensorArray would copy all slices first.
        begin = tf.reshape(place, [1])
        slices = [tf.strided_slice(x, begin, begin + 1, shrink_axis_mask=1) for x in inputs]
        after, values = step(states, slices)
        for old, new in zip(states, after):
            new.set_shape(old.shape)
        return time + 1, after, [array.write(place, value) for array, value in zip(arrays, values)]

    graph = tf.get_default_graph()
    before = len(graph.get_operations())
    _, states, arrays = tf.while_loop(lambda time, *_: time < length, body, [tf.constant(0), list(states), arrays],
                                      parallel_iterations=1, back_prop=False)
    read = [op.inputs[0] for op in graph.get_operations()[before:] if op.type == 'Enter']
    results = [hidden(x) for x in states + [array.stack() for array in arrays]]
    # With `back_prop=False` TensorFlow would silently leave out what goes through the loop.
    results = attach_gradient('FirstOrderOnly', results, [x for x in read if x.dtype.is_floating])
    return results[:len(states)], results[len(states):]


def hidden(x):
    """`x` without a path for gradients: one to a loop, even if nothing goes along it, fails in `tf.hessians`."""
    return tf.bitcast(tf.bitcast(x, {4: tf.int32, 8: tf.int64}[x.dtype.size]), x.dtype)
