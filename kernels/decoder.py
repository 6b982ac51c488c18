"""The decoder with input feeding as one loop with a gradient by hand: the values of `decoder_cell.InputFeedingRNN`.

A step needs the step before it, so cells, attention and attentional state stay in the loop. What does not depend on the
previous step is outside: the product of the first cell with its inputs, the keys of the attention, and in the gradient
all kernels and the encoder states. Letters as in `decoder_cell`; T target length, U width of the additive score.
"""
import collections
import functools

from keras import backend as K
import tensorflow as tf

from kernels.attention_bands import Ranks
from kernels import attention_windows
from decoder_cell import InputFeedingRNN
from kernels.decoder_attention import attention_step, attention_step_gradient, first_sums
from kernels.gradients import attach_gradient, register, scan
from kernels.recurrent import (GATES, add_bias, gru_factors, gru_step, gru_step_gradient, kernel_gradient,
                               lstm_factors, lstm_step, previous, product, swap)

Kind = collections.namedtuple('Kind', 'cell gate layers residual dropout additive alignment window windowed')
Kind.__doc__ = """What distinguishes one loop from another.

cell: 'lstm' or 'gru'. gate: a key of `GATES`. layers: number of cells. residual, dropout: Booleans. additive: Boolean,
whether the score is v . tanh(h W + k), else it is h . k. alignment: 'global', 'monotonic' or 'predictive'. window: W.
windowed: Boolean, whether a step computes the positions of its window alone.
"""

Inputs = collections.namedtuple(
    'Inputs', 'projected kernels states attentional kept memory keys combine valid times order query_kernel '
    'score_kernel position_kernel position_score_kernel')
Inputs.__doc__ = """What the loop reads.

projected: what the gates of each cell take from outside the loop, `(T, B, 4D)` or `(T, B, 3D)`. kernels: of each cell
[W; U], of the input from inside and of the state: `(2D, 4D)`, or of a GRU `(2D, 2D)` and `(2D, D)`. states: the
cells' first states. attentional: the first attentional state `(B, D)`. kept: dropout factors of each cell's input from
inside the loop, `(T, B, D)`, or nothing. memory: encoder states `(B, S, Dm)`. keys: `(B, S, D)`, or `(S, B, U)` of the
additive score without windows. combine: W_c `(Dm + D, D)`. valid: 1 for a source token, else 0, `(B, S)`. times: 0 ...
T - 1. order: of windows, `places` and `counts` `(B, 1)` of the `Ranks`, or empty. The last four are lists of one
kernel, or empty.
"""


# The cells. `u` is the input from inside the loop: the previous attentional state, or the cell below.

class _LSTM(object):
    states, kept = 2, 3  # number of states, and of tensors that a step keeps for the gradient

    @staticmethod
    def step(gate, projected, u, states, kernels):
        """z = projected + [u; h] [W; U], then `lstm_step`. Returns the states, and what the gradient needs."""
        z = projected + tf.matmul(tf.concat([u, states[0]], 1), kernels[0])
        h, c = lstm_step(gate, z, states[1])
        return [h, c], [h, c, z]

    @staticmethod
    def factors(gate, kept, states):
        _, c, z = kept
        return list(lstm_factors(gate, z, c, states[1]))

    @staticmethod
    def gradient(d_states, factors, transposed):
        """One step back. Returns du, the gradients of the states before, and [dz]."""
        (dh, dc), (to_z, to_c, forget) = d_states, factors
        dc += dh * to_c
        dz = tf.concat([dc, dc, dc, dh], 1) * to_z
        du, dh = tf.split(tf.matmul(dz, transposed[0]), 2, 1)
        return du, [dh, dc * forget], [dz]

    @staticmethod
    def kernels(u, before, factors, d_kept):
        return [kernel_gradient(tf.concat([u, before], 2), d_kept[0])]


class _GRU(object):
    states, kept = 1, 3

    @staticmethod
    def step(gate, projected, u, states, kernels):
        """[a_z, a_r] = projected + [u; h] [W; U], a_h = projected + [u; r h] [W_h; U_h] as in `gru_step`."""
        units = u.shape[1].value
        gates, candidate = tf.split(projected, [2 * units, units], 1)
        own, recurrent = tf.split(kernels[1], 2, 0)
        gates += tf.matmul(tf.concat([u, states[0]], 1), kernels[0])
        h, candidate = gru_step(gate, gates, candidate + tf.matmul(u, own), recurrent, states[0])
        return [h], [h, gates, candidate]

    @staticmethod
    def factors(gate, kept, states):
        h, gates, candidate = kept
        return gru_factors(gate, gates, candidate, previous(states[0], h))

    @staticmethod
    def gradient(d_states, factors, transposed):
        gates_own, gates_recurrent = tf.split(transposed[0], 2, 1)
        own, recurrent = tf.split(transposed[1], 2, 1)
        dh, d_gates, da_h = gru_step_gradient(d_states[0], factors, gates_recurrent, recurrent)
        return tf.matmul(d_gates, gates_own) + tf.matmul(da_h, own), [dh], [tf.concat([d_gates, da_h], 1)]

    @staticmethod
    def kernels(u, before, factors, d_kept):
        units = u.shape[2].value
        d_gates, da_h = tf.split(d_kept[0], [2 * units, units], 2)
        return [kernel_gradient(tf.concat([u, before], 2), d_gates),
                kernel_gradient(tf.concat([u, factors[-1] * before], 2), da_h)]


CELLS = {'lstm': _LSTM, 'gru': _GRU}


# The loop

def flatten(inputs):
    """The tensors of `Inputs` in one list."""
    return [x for field in inputs for x in (field if isinstance(field, list) else [field])]


def unflatten(kind, tensors):
    """`Inputs` from such a list."""
    cell, tensors = CELLS[kind.cell], list(tensors)

    def take(count):
        head = tensors[:count]
        del tensors[:count]
        return head
    predictive = kind.alignment == 'predictive'
    return Inputs(take(kind.layers), take(kind.layers * (1 if cell is _LSTM else 2)), take(kind.layers * cell.states),
                  *take(1), take(kind.layers * kind.dropout), *take(5), take(2 * kind.windowed), take(kind.additive),
                  take(kind.additive), take(predictive), take(predictive))


def by_layer(kind, values):
    """A list of equally many values of each cell, cut into one list a cell."""
    count = len(values) // kind.layers
    return [list(values[number * count:(number + 1) * count]) for number in range(kind.layers)]


def decode(kind, inputs):
    """Attentional states (eq. 5) and top states `(T, B, D)`; the gradient is `decode_gradient`."""
    cell, gate, layers = CELLS[kind.cell], GATES[kind.gate], range(kind.layers)
    kernels = by_layer(kind, inputs.kernels)

    def step(states, slices):
        attentional, states = states[0], by_layer(kind, states[1:])
        projected, kept, time = slices[:kind.layers], slices[kind.layers:-1], slices[-1]
        after, saved, inside = [], [], attentional
        for number in layers:
            below = inside
            u = inside * kept[number] if kind.dropout else inside
            changed, needed = cell.step(gate, projected[number], u, states[number], kernels[number])
            after, saved, inside = after + changed, saved + needed, changed[0]
            if kind.residual and number:
                inside = inside + below
        context, needed = attention_step(kind, inputs, inside, time)
        attentional = tf.tanh(tf.matmul(tf.concat([context, inside], 1), inputs.combine))               # eq. 5
        return [attentional] + after, [attentional, inside, context] + needed + saved

    predictive = kind.alignment == 'predictive'
    _, results = scan(step, [inputs.attentional] + inputs.states, inputs.projected + inputs.kept + [inputs.times],
                      4 + predictive + kind.layers * cell.kept)
    units = inputs.attentional.shape[1].value
    for result in results[:2] + results[4 + predictive:]:
        if result.shape[2].value is None:
            result.set_shape([None, None, units])
    name = 'FeedingDecoder/%s' % (tuple(kind),)
    if name not in REGISTERED:
        register(name, functools.partial(decode_gradient, kind))
        REGISTERED.add(name)
    return attach_gradient(name, results, flatten(inputs))[:2]


REGISTERED = set()


def decode_gradient(kind, op, d_attentional, d_top, *_):
    """From the last step to the first: eq. 5, attention, the cells from the top down; then all kernels at once."""
    cell, gate, predictive = CELLS[kind.cell], GATES[kind.gate], kind.alignment == 'predictive'
    count = 4 + predictive + kind.layers * cell.kept
    results, inputs = list(op.inputs[:count]), unflatten(kind, op.inputs[count:])
    attentional, top, context, softmax = results[:4]
    saved, first = by_layer(kind, results[4 + predictive:]), by_layer(kind, inputs.states)
    factors = [cell.factors(gate, *both) for both in zip(saved, first)]
    kernels = by_layer(kind, [tf.transpose(kernel) for kernel in inputs.kernels])
    combine, size = tf.transpose(inputs.combine), inputs.memory.shape[2].value
    aligned = [softmax]
    if kind.additive:
        aligned.append(product(top, inputs.query_kernel[0]))
    if predictive:
        aligned += [results[4], tf.tanh(product(top, inputs.position_kernel[0]))]
    sums = first_sums(kind, inputs)
    sequences = [d_attentional, d_top, 1. - tf.square(attentional), top, inputs.times] + aligned + inputs.kept
    flat = [x for layer in factors for x in layer]

    def step(states, slices):
        d_attentional, states = states[0], states[1:]
        (d_output, d_inside, slope, query, time), slices = slices[:5], slices[5:]
        aligned_slices, slices = slices[:len(aligned)], slices[len(aligned):]
        kept, factors = slices[:len(inputs.kept)], by_layer(kind, slices[len(inputs.kept):])
        d_sum = (d_attentional + d_output) * slope
        joined = tf.matmul(d_sum, combine)
        d_context, from_sum = tf.split(joined, [size, -1], 1)
        d_inside += from_sum
        d_query, added, needed = attention_step_gradient(kind, inputs, d_context, aligned_slices,
                                                         states[:len(sums)], query, time)
        d_inside += d_query
        d_states, d_saved = by_layer(kind, states[len(sums):]), []
        for number in reversed(range(kind.layers)):
            d_states[number][0] += d_inside
            du, d_states[number], d_kept = cell.gradient(d_states[number], factors[number], kernels[number])
            if kind.dropout:
                du *= kept[number]
            d_inside = du + d_inside if kind.residual and number else du
            d_saved = d_kept + d_saved
        after = [d_inside] + added + [x for layer in d_states for x in layer]
        return after, [d_sum, d_context] + needed + d_saved

    zeros = [tf.zeros_like(x) for x in inputs.states]
    states, by_step = scan(step, [tf.zeros_like(inputs.attentional)] + sums + zeros, sequences + flat,
                           4 + 2 * predictive + kind.layers, reverse=True)
    d_sum, d_context, weights, d_scores = by_step[:4]
    d_projected = by_step[4 + 2 * predictive:]
    width = inputs.projected[0].shape[2].value
    for x, last in [(d_sum, top.shape[2].value), (d_context, size)] + [(gradient, width) for gradient in d_projected]:
        x.set_shape([None, None, last])
    d_kernels, inside = [], previous(inputs.attentional, attentional)
    for number in range(kind.layers):
        u = inside * inputs.kept[number] if kind.dropout else inside
        before = previous(first[number][0], saved[number][0])
        d_kernels += cell.kernels(u, before, factors[number], [d_projected[number]])
        inside = saved[number][0] + inside if kind.residual and number else saved[number][0]
    if kind.windowed:
        d_memory = tf.reshape(states[len(sums)], tf.shape(inputs.memory))
    else:
        d_memory = tf.matmul(tf.transpose(weights, [1, 2, 0]), tf.transpose(d_context, [1, 0, 2]))
    d_attention = []
    if kind.additive:
        d_scores.set_shape([None, None, inputs.keys.shape[2].value])
        d_attention = [kernel_gradient(top, d_scores), states[2]]
    if sums:
        d_keys = tf.reshape(states[1], tf.shape(inputs.keys))
    else:
        d_keys = tf.matmul(tf.transpose(d_scores, [1, 2, 0]), tf.transpose(top, [1, 0, 2]))
    if predictive:
        d_score, d_hidden = by_step[4:6]
        d_score.set_shape([None, None, 1])
        d_hidden.set_shape(top.shape)
        d_attention += [kernel_gradient(top, d_hidden), kernel_gradient(aligned[-1], d_score)]
    d_combine = kernel_gradient(tf.concat([context, top], 2), d_sum)
    return ([None] * count + d_projected + d_kernels + states[1 + len(sums):] + states[:1]
            + [None] * len(inputs.kept) + [d_memory, d_keys, d_combine, None, None] + [None] * len(inputs.order)
            + d_attention)


def windowed(kind, inputs):
    """`Inputs` for steps that compute the positions of their windows alone."""
    shape = tf.shape(inputs.memory)
    ranks = Ranks(inputs.valid > 0.5, shape[0], shape[1])
    keys = tf.transpose(inputs.keys, [1, 0, 2]) if kind.additive else inputs.keys                       # (B, S, U)
    return inputs._replace(keys=keys, order=[ranks.places, ranks.counts[:, None]])


class FeedingDecoder(InputFeedingRNN):
    """`InputFeedingRNN` with the loop `decode`: the same weights, names and values."""

    def call(self, inputs, mask=None, training=None, initial_state=None, constants=None):
        x, attentional, states = inputs[0], inputs[1], list(inputs[2:-3])
        memory, valid = inputs[-2:]
        cell, units = self.cell, self.cell.units
        x = swap(x)                                                                                     # (T, B, E)
        kept = self.dropout_factors(x)
        first = cell.cells[0]
        width = x.shape[2].value
        if kept:
            x, kept[0] = x * kept[0][:, :, :width], kept[0][:, :, width:]
        size = first.kernel.shape[1].value
        from_outside, from_inside = tf.split(first.kernel, [width, units], 0)
        projected = [add_bias(product(x, from_outside), first.bias)]
        projected += [tf.zeros_like(projected[0]) + layer.bias for layer in cell.cells[1:]]
        kernels = []
        own_kernels = [from_inside] + [layer.kernel for layer in cell.cells[1:]]
        for layer, own in zip(cell.cells, own_kernels):
            joined = tf.concat([own, layer.recurrent_kernel], 0)                                        # (2D, 4D or 3D)
            kernels += [joined] if size == 4 * units else tf.split(joined, [2 * units, units], 1)
        kind, keys, prepared = self.attention_inputs(memory)
        kind = kind._replace(
            cell='lstm' if size == 4 * units else 'gru', gate=first.recurrent_activation.__name__,
            layers=len(cell.cells), residual=bool(cell.residual), dropout=bool(kept))
        times = K.cast(tf.range(tf.shape(x)[0]), K.dtype(x))
        arrays = Inputs(projected, kernels, states, attentional[:, :units], kept, memory, keys, cell.combine.kernel,
                        valid, times, [], *prepared)
        if kind.alignment == 'global':
            attentional, top = decode(kind, arrays)
        else:
            attentional, top = tf.cond(
                tf.convert_to_tensor(attention_windows.windows_pay(kind.window, tf.shape(memory)[1])),
                lambda: decode(kind._replace(windowed=True), windowed(kind, arrays)), lambda: decode(kind, arrays))
        output = tf.concat([attentional, top], 2)                                                       # (T, B, 2D)
        output.set_shape([None, None, 2 * units])
        output = swap(output)                                                                           # (B, T, 2D)
        output.set_shape([None, None, 2 * units])
        if kept:
            output._uses_learning_phase = True
        return output

    def attention_inputs(self, memory):
        """The `Kind` of the attention, its keys, and the last four fields of `Inputs`."""
        attention = self.cell.attention
        additive, alignment = attention.score == 'concat', getattr(attention, 'alignment', 'global')
        keys, prepared = attention.keys(memory), [[], []]
        if additive:
            v = attention.score_vector()
            prepared = [[attention.query_kernel], [attention.factor * v if attention.scale else v]]
            keys = tf.transpose(keys, [1, 0, 2])                                                        # (S, B, U)
        else:  # every other score is the product of the decoder state with some key
            keys = attention.product_keys(memory)
        prepared += [[attention.position_kernel], [attention.position_score_kernel]] if alignment == 'predictive' else (
            [[], []])
        kind = Kind(None, None, 0, False, False, additive, alignment, getattr(attention, 'window', 0), False)
        return kind, keys, prepared

    def dropout_factors(self, x):
        """For each cell what multiplies its inputs, `(T, B, width)`: the numbers that its steps would draw."""
        cell, units = self.cell, self.cell.units
        if not cell.dropout:
            return []
        widths = [x.shape[2].value + units] + [units] * (len(cell.cells) - 1)
        cell_factors = []
        for width, site in zip(widths, cell.sites):
            ones = tf.ones(tf.stack([tf.shape(x)[1], width]), x.dtype)

            def step(states, slices, ones=ones, site=site):
                return [], [cell.noise.dropout(ones, cell.dropout, site, slices[0])]
            (factors,) = scan(step, [], [K.cast(tf.range(tf.shape(x)[0]), K.dtype(x))], 1)[1]
            factors.set_shape([None, None, width])
            cell_factors.append(factors)
        return cell_factors
