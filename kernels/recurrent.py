"""Keras' LSTM and GRU with loops of our own: the same weights, names, configuration and values, in less time.

Only the product with the recurrent kernel stays inside the loop. The product with the inputs runs before it, over all
steps at once. The gradients are written by hand, each beside the equation of its forward pass: the weight gradients
and every factor that does not depend on a later step are computed after the loop, over all steps at once.

Masks never enter a loop. A masked step repeats the state before it, so the loop runs over the valid steps of each row
only, moved to the front (`Steps`), and the outputs are read back by position. Letters: B batch, S steps, N steps of
the loop (the maximum count of valid steps in a row), E input size, D units.
"""
import collections
import functools

from keras import activations, layers
from keras import backend as K
import tensorflow as tf

from kernels.gradients import attach_gradient, register, scan


def hard_sigmoid_gradient(x, y):
    """Derivative of `K.hard_sigmoid` at `x`: 0.2 where 0 <= 0.2 x + 0.5 <= 1, which is where that line is the value."""
    return 0.2 * tf.cast(tf.equal(0.2 * x + 0.5, y), x.dtype)


def sigmoid_gradient(x, y):
    """Derivative of the logistic function from its value `y`."""
    return y * (1. - y)


Gate = collections.namedtuple('Gate', 'value gradient')
Gate.__doc__ = 'A gate activation: its function of x, and its derivative as a function of x and of the value at x.'
GATES = {'hard_sigmoid': Gate(K.hard_sigmoid, hard_sigmoid_gradient), 'sigmoid': Gate(tf.sigmoid, sigmoid_gradient)}


def product(x, kernel):
    """`(N, B, m)` times `(m, n)`, as one matrix product."""
    width, shape = kernel.shape[1].value, tf.shape(x)
    flat = tf.matmul(tf.reshape(x, [-1, kernel.shape[0].value]), kernel)
    return tf.reshape(flat, tf.stack([shape[0], shape[1], width]))


def add_bias(x, bias):
    """`(N, B, m)` plus `(m,)`, whose gradient is a product with a row of ones: TensorFlow's own sum is far slower."""
    return attach_gradient('AddBias', [tf.nn.bias_add(x, bias)], [x, bias])[0]


def add_bias_gradient(op, gradient, *_):
    """dx = d, db = sum over all rows of d."""
    flat = tf.reshape(gradient, [-1, op.inputs[2].shape[0].value])
    return [None, gradient, tf.matmul(tf.ones_like(flat[:, :1]), flat, transpose_a=True)[0]]


register('AddBias', add_bias_gradient)


def swap(x):
    """`(B, S, E)` to `(S, B, E)`, or back: a gather of rows, which is faster than `tf.transpose`."""
    shape, width = tf.shape(x), x.shape[2].value
    places = tf.range(shape[1])[:, None] + shape[1] * tf.range(shape[0])                                # (S, B)
    return attach_gradient('Swap', [tf.gather(tf.reshape(x, [-1, width]), places)], [x])[0]


def swap_gradient(op, gradient, *_):
    """The same rows back."""
    gradient = tf.convert_to_tensor(gradient)  # of a layer that returns its last output, it is `IndexedSlices`
    gradient.set_shape([None, None, op.inputs[1].shape[2].value])
    return [None, swap(gradient)]


register('Swap', swap_gradient)


def kernel_gradient(x, gradient):
    """Gradient of a kernel `(m, n)` from all its inputs `(N, B, m)` and the gradients of its outputs `(N, B, n)`."""
    return tf.matmul(tf.reshape(x, [-1, x.shape[2].value]), tf.reshape(gradient, [-1, gradient.shape[2].value]),
                     transpose_a=True)


def previous(first, states):
    """The states before each step: `first` `(B, D)`, then all of `states` `(N, B, D)` but the last."""
    return tf.concat([first[None], states[:-1]], 0)


# The LSTM

def lstm_step(gate, z, c):
    """One step from the gates' inputs z = [z_i, z_f, z_g, z_o] `(B, 4D)` and the cell state c `(B, D)`.

        i, f, o = gate(z_i), gate(z_f), gate(z_o)      c' = f c + i tanh(z_g)      h' = o tanh(c')

    # Returns
        h', c'.
    """
    units = c.shape[1].value
    input_and_forget, candidate, output = tf.split(z, [2 * units, units, units], 1)
    i, f = tf.split(gate.value(input_and_forget), 2, 1)
    c = f * c + i * tf.tanh(candidate)
    return gate.value(output) * tf.tanh(c), c


def lstm_factors(gate, z, c, first_c):
    """What the gradient of each step multiplies by, of all steps at once.

    With dh' and dc' the gradients of h' and c':

        dc' += dh' o (1 - tanh(c')^2)       dc = dc' f
        dz = [dc' tanh(z_g) i', dc' c f', dc' i (1 - tanh(z_g)^2), dh' tanh(c') o']     with i' = gate'(z_i), ...

    # Arguments
        z: `(N, B, 4D)`. c: the cell states after each step `(N, B, D)`. first_c: that before the first `(B, D)`.

    # Returns
        The factors of [dc', dc', dc', dh'] in dz `(N, B, 4D)`, of dh' in dc', and of dc' in dc, `(N, B, D)` each.
    """
    z_i, z_f, z_g, z_o = tf.split(z, 4, 2)
    i, f, o = gate.value(z_i), gate.value(z_f), gate.value(z_o)
    g, tanh_c = tf.tanh(z_g), tf.tanh(c)
    to_z = tf.concat([g * gate.gradient(z_i, i), previous(first_c, c) * gate.gradient(z_f, f),
                      i * (1. - tf.square(g)), tanh_c * gate.gradient(z_o, o)], 2)
    return to_z, o * (1. - tf.square(tanh_c)), f


def lstm(gate_name, inputs, recurrent_kernel, first_h, first_c, counts=None):
    """The loop of an LSTM: z_t = inputs_t + h_(t-1) U.

    # Arguments
        gate_name: a key of `GATES`.
        inputs: x W + b of every step, `(N, B, 4D)`, in Keras' order i, f, c, o.
        recurrent_kernel: U `(D, 4D)`.
        first_h, first_c: `(B, D)`.
        counts: how many of the N steps are valid in each row, int32 `(B,)`, or `None` for all.

    # Returns
        h after each step `(N, B, D)`, and c after the last valid step `(B, D)`.
    """
    gate = GATES[gate_name]

    def step(states, slices):
        z = slices[0] + tf.matmul(states[0], recurrent_kernel)
        h, c = lstm_step(gate, z, states[1])
        return [h, c], [h, c, z]

    _, (h, c, z) = scan(step, [first_h, first_c], [inputs], 3)
    last_c = c[-1] if counts is None else at_last(c, first_c, counts)
    others = [c, z] + ([] if counts is None else [counts])
    return attach_gradient('FastLSTM/' + gate_name, [h, last_c] + others,
                           [inputs, recurrent_kernel, first_h, first_c])[:2]


def lstm_gradient(gate_name, op, dh_all, last_dc, *_):
    """dz_t from the last step to the first, with dh_(t-1) = dz_t U^T; then dU = sum_t h_(t-1)^T dz_t."""
    h, _, c, z = op.inputs[:4]
    recurrent_kernel, first_h, first_c = op.inputs[-3:]
    to_z, to_c, forget = lstm_factors(GATES[gate_name], z, c, first_c)
    if len(op.inputs) == 9:  # steps after the last valid one hand dc on as it is, and give nothing to z
        valid = tf.cast(tf.sequence_mask(op.inputs[4], tf.shape(h)[0]), h.dtype)
        valid = tf.transpose(valid)[:, :, None]                                                         # (N, B, 1)
        to_z, forget = to_z * valid, forget * valid + (1. - valid)
    transposed = tf.transpose(recurrent_kernel)

    def step(states, slices):
        dh, dc = states
        d_output, to_z, to_c, forget = slices
        dh += d_output
        dc += dh * to_c
        dz = tf.concat([dc, dc, dc, dh], 1) * to_z
        return [tf.matmul(dz, transposed), dc * forget], [dz]

    (first_dh, first_dc), (dz,) = scan(step, [tf.zeros_like(first_h), last_dc], [dh_all, to_z, to_c, forget], 1,
                                       reverse=True)
    dz.set_shape(z.shape)
    du = kernel_gradient(previous(first_h, h), dz)
    return [None] * (len(op.inputs) - 4) + [dz, du, first_dh, first_dc]


# The GRU

def gru_step(gate, gates, candidate, candidate_kernel, h):
    """One step from [a_z, a_r] = `gates` `(B, 2D)`, the input's part a_h = `candidate` `(B, D)`, and h `(B, D)`.

        z, r = gate(a_z), gate(a_r)      g = tanh(a_h + (r h) U_h)      h' = z h + (1 - z) g

    # Returns
        h', and the whole input of the tanh.
    """
    z, r = tf.split(gate.value(gates), 2, 1)
    candidate += tf.matmul(r * h, candidate_kernel)
    return z * h + (1. - z) * tf.tanh(candidate), candidate


def gru_factors(gate, gates, candidate, h):
    """What the gradient of each step multiplies by, of all steps at once.

    With dh' the gradient of h':

        da_h = dh' (1 - z) (1 - g^2)      da_z = dh' (h - g) z'      da_r = (da_h U_h^T) h r'
        dh = dh' z + (da_h U_h^T) r + [da_z, da_r] [U_z, U_r]^T           with z' = gate'(a_z), r' = gate'(a_r)

    # Arguments
        gates, candidate: the inputs of the gates `(N, B, 2D)` and of the tanh `(N, B, D)`. h: before each step.

    # Returns
        The factors `(N, B, D)` in da_h, da_z, da_r, and of dh' and da_h U_h^T in dh: the gates z and r.
    """
    a_z, a_r = tf.split(gates, 2, 2)
    z, r, g = gate.value(a_z), gate.value(a_r), tf.tanh(candidate)
    return [(1. - z) * (1. - tf.square(g)), (h - g) * gate.gradient(a_z, z), h * gate.gradient(a_r, r), z, r]


def gru_step_gradient(dh, factors, gates_kernel, candidate_kernel):
    """One step back, the kernels transposed. Returns dh before the step, [da_z, da_r], da_h."""
    to_candidate, to_z, to_r, z, r = factors
    da_h = dh * to_candidate
    d_reset = tf.matmul(da_h, candidate_kernel)
    d_gates = tf.concat([dh * to_z, d_reset * to_r], 1)
    return dh * z + d_reset * r + tf.matmul(d_gates, gates_kernel), d_gates, da_h


def gru(gate_name, inputs, recurrent_kernel, first_h):
    """The loop of a GRU, the reset gate before the product: [a_z, a_r]_t = inputs_t + h_(t-1) [U_z, U_r].

    # Arguments
        gate_name: a key of `GATES`.
        inputs: x W + b of every step, `(N, B, 3D)`, in Keras' order z, r, h.
        recurrent_kernel: U `(D, 3D)`.
        first_h: `(B, D)`.

    # Returns
        h after each step `(N, B, D)`.
    """
    gate, units = GATES[gate_name], recurrent_kernel.shape[0].value
    gates_kernel, candidate_kernel = tf.split(recurrent_kernel, [2 * units, units], 1)

    def step(states, slices):
        gates, candidate = tf.split(slices[0], [2 * units, units], 1)
        gates += tf.matmul(states[0], gates_kernel)
        h, candidate = gru_step(gate, gates, candidate, candidate_kernel, states[0])
        return [h], [h, gates, candidate]

    _, (h, gates, candidate) = scan(step, [first_h], [inputs], 3)
    return attach_gradient('FastGRU/' + gate_name, [h, gates, candidate], [inputs, recurrent_kernel, first_h])[0]


def gru_gradient(gate_name, op, dh_all, *_):
    """[da_z, da_r, da_h]_t from the last step to the first; then dU from all steps at once."""
    h, gates, candidate, _, recurrent_kernel, first_h = op.inputs
    units, before = recurrent_kernel.shape[0].value, previous(first_h, h)
    factors = gru_factors(GATES[gate_name], gates, candidate, before)
    gates_kernel, candidate_kernel = tf.split(tf.transpose(recurrent_kernel), [2 * units, units], 0)

    def step(states, slices):
        dh, d_gates, da_h = gru_step_gradient(states[0] + slices[0], slices[1:], gates_kernel, candidate_kernel)
        return [dh], [tf.concat([d_gates, da_h], 1)]

    (first_dh,), (d_inputs,) = scan(step, [tf.zeros_like(first_h)], [dh_all] + factors, 1, reverse=True)
    d_inputs.set_shape([None, None, 3 * units])
    d_gates, da_h = tf.split(d_inputs, [2 * units, units], 2)
    du = tf.concat([kernel_gradient(before, d_gates), kernel_gradient(factors[-1] * before, da_h)], 1)
    return [None] * 3 + [d_inputs, du, first_dh]


def _register():
    for name in GATES:
        for kind, gradient in (('FastLSTM/', lstm_gradient), ('FastGRU/', gru_gradient)):
            register(kind + name, functools.partial(gradient, name))


_register()


# Which steps a row has

def at_last(states, first, counts):
    """The states `(B, D)` after `counts` steps of each row, of all `states` `(N, B, D)`; `first` where that is 0."""
    last = tf.gather_nd(states, tf.stack([tf.maximum(counts - 1, 0), tf.range(tf.shape(counts)[0])], 1))
    return tf.where(counts > 0, last, first)


class Steps(object):
    """The order in which a recurrent layer reads a batch: only the valid steps of each row, at the front.

    # Arguments
        inputs: `(B, S, E)`.
        mask: booleans `(B, S)`, or `None` for all valid.
        backwards: Boolean, read each row from its end.
    """

    def __init__(self, inputs, mask, backwards):
        self.batch, length = tf.shape(inputs)[0], tf.shape(inputs)[1]
        self.counts, steps = None, tf.range(length)                                                     # (S,)
        if backwards:
            steps = length - 1 - steps
        self.order, self.steps = None, steps if backwards else None
        if mask is not None:
            mask = tf.cast(tf.gather(mask, steps, axis=1) if backwards else mask, tf.int32)             # (B, S)
            self.read = tf.cumsum(mask, axis=1)  # how many valid steps each step of the output has seen
            self.counts = self.read[:, -1]                                                              # (B,)
            # Valid steps first, each kind in its order: the keys of a row differ.
            keys = (mask + 1) * length - tf.range(length)
            order = tf.nn.top_k(keys, length).indices[:, :tf.maximum(tf.reduce_max(self.counts), 1)]    # (B, N)
            self.order = tf.transpose(tf.gather(steps, order))                                          # (N, B)

    def gather(self, x):
        """`(B, S, E)` to `(N, B, E)`."""
        if self.order is None:
            x = swap(x)
            return x if self.steps is None else tf.gather(x, self.steps)
        rows = tf.zeros_like(self.order) + tf.range(self.batch)
        return tf.gather_nd(x, tf.stack([rows, self.order], 2))

    def last(self, states, first):
        """The states `(B, D)` after the last valid step, of all `states` `(N, B, D)`."""
        return states[-1] if self.counts is None else at_last(states, first, self.counts)

    def outputs(self, states, first):
        """`(N, B, D)` to `(B, S, D)`: every step of the output has the state after the valid steps up to it."""
        if self.counts is None:
            return swap(states)
        rows = tf.zeros_like(self.read) + tf.range(self.batch)[:, None]
        return tf.gather_nd(tf.concat([first[None], states], 0), tf.stack([self.read, rows], 2))


# The layers

class _Fast(object):
    """What both layers share: everything of Keras' layer but the loop."""

    def call(self, inputs, mask=None, training=None, initial_state=None):
        if not self._has_kernel():
            return super(_Fast, self).call(inputs, mask, training, initial_state)
        if isinstance(inputs, list):
            inputs, initial_state = inputs[0], inputs[1:] or None
        mask = mask[0] if isinstance(mask, list) else mask
        if initial_state is None:
            zeros = tf.zeros(tf.stack([tf.shape(inputs)[0], self.units]), inputs.dtype)
            initial_state = [zeros] * len(self.states)
        steps = Steps(inputs, mask, self.go_backwards)
        projected = product(steps.gather(inputs), self.cell.kernel)
        if self.use_bias:
            projected = add_bias(projected, self.cell.bias)
        states, last = self._loop(projected, initial_state, steps)
        output = steps.outputs(states, initial_state[0]) if self.return_sequences else last[0]
        output.set_shape([None] * (1 + self.return_sequences) + [self.units])
        for state in last:
            state.set_shape([None, self.units])
        return [output] + last if self.return_state else output

    def _has_kernel(self):
        """Whether the loop covers this configuration; Keras' own loop runs all others."""
        gates = [getattr(activations, name) for name in GATES]
        return (self.activation is activations.tanh and self.recurrent_activation in gates
                and not (self.stateful or self.unroll or self.dropout or self.recurrent_dropout))


class LSTM(_Fast, layers.LSTM):
    """`keras.layers.LSTM` with the loop `lstm`. It has the name of Keras' layer so that saved models are the same."""

    def _loop(self, inputs, initial_state, steps):
        h, c = lstm(self.recurrent_activation.__name__, inputs, self.cell.recurrent_kernel, *initial_state,
                    counts=steps.counts)
        return h, [steps.last(h, initial_state[0]), c]


class GRU(_Fast, layers.GRU):
    """`keras.layers.GRU` with the loop `gru`. It has the name of Keras' layer so that saved models are the same."""

    def _has_kernel(self):
        return super(GRU, self)._has_kernel() and not self.reset_after

    def _loop(self, inputs, initial_state, steps):
        h = gru(self.recurrent_activation.__name__, inputs, self.cell.recurrent_kernel, *initial_state)
        return h, [steps.last(h, initial_state[0])]
