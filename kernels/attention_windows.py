"""Local attention that computes only the positions of its windows: the values of `attention.LocalAttention`.

Cost and memory grow with T W and not with T S. Positions of a window count the valid source positions of a row, from
0: the rank r of a source position s is the number of valid positions before it. Letters as in `attention`; n positions
of a window, R target positions of a block, C source positions that a block sees, m chunks of Q slots.
"""
from keras import backend as K
import tensorflow as tf
from tensorflow.python.ops import gen_array_ops

import attention
from kernels.attention_bands import Bands, Ranks, Slots, block_size
from kernels.attention_blocks import GlobalAttention, StepKeys, additive_scores, additive_step, additive_step_gradient
from kernels.gradients import attach_gradient, register, scan

# Numbers (B, R, n, D) of the source that one step of a loop over any windows reads: 1 MB in float32.
NUMBERS_OF_A_STEP = 2 ** 18


def windows_pay(window, length):
    """Whether windows of 2 W + 1 positions are less work than all S positions at once."""
    return length > 2 * (2 * window + 1)


class LocalAttention(GlobalAttention, attention.LocalAttention):
    """`attention.LocalAttention` that computes only the positions of its window where the source is longer.

    The dense weights `(B, T, S)` and the scores that `attend` returns are computed only where something asks for them.
    """

    def attend(self, query, memory, keys, source_mask=None, positions=None):
        arguments = (query, memory, keys, source_mask, positions)
        whole = super(LocalAttention, self).attend(*arguments)
        shape = tf.shape(memory)
        pay = tf.convert_to_tensor(windows_pay(self.window, shape[1]))
        ranks_of_positions = Ranks(source_mask, shape[0], shape[1])

        def all_positions():
            output = super(LocalAttention, self).attend(*arguments)
            return [output.context, tf.zeros([1, 1, 1], output.weights.dtype), tf.zeros([1, 1, 1], tf.int32),
                    output.weights]

        def windows():
            return self.attend_window(query, memory, keys, ranks_of_positions, positions) + [
                tf.zeros([1, 1, 1], query.dtype)]

        # Two outputs for the weights: TensorFlow's optimizer takes the shape of one branch for that of the other.
        context, weights, ranks, all_weights = tf.cond(pay, windows, all_positions)
        context.set_shape([None, None, self.memory_size])
        weights = tf.cond(pay, lambda: ranks_of_positions.to_dense(weights, ranks), lambda: all_weights)
        return whole._replace(context=context, weights=weights)

    def attend_window(self, query, memory, keys, ranks, positions):
        """Context, weights `(B, T, n)` and their ranks, int32 `(B, T, n)`. Arguments as for `attend`."""
        projected, score_kernel = self.project(query)
        if score_kernel is None:
            keys = None
        elif isinstance(keys, StepKeys):
            keys = keys.tensor
        if self.alignment == 'monotonic' and positions is None:
            return banded(projected, keys, memory, score_kernel, ranks, self.window)
        centre = self.centres(query, ranks, positions)                                                  # (B, T, 1)
        if score_kernel is None:
            return sorted_windows(projected, memory, centre, self.alignment == 'predictive', ranks, self.window)
        first = tf.cast(tf.ceil(tf.stop_gradient(centre) - self.window), tf.int32)
        window = first + tf.range(2 * self.window + 1)                                                  # (B, T, n)
        distance = K.cast(window, K.dtype(query)) - centre
        inside = (window >= 0) & (window < ranks.counts[:, None, None]) & (K.abs(distance) <= self.window)
        gaussian = tf.ones_like(distance)
        if self.alignment == 'predictive':
            gaussian = attention.gaussian_factors(distance, self.window)
        return additive_windows(
            projected, keys, memory, score_kernel, gaussian, ranks.look_up(window), inside) + [window]

    def project(self, query):
        """What a score takes of `(B, T, Dq)`: the product with the states of the encoder, or with v after the tanh."""
        if self.score == 'concat':
            v = self.score_vector()
            return K.dot(query, self.query_kernel), self.factor * v if self.scale else v
        if self.score == 'scaled_dot':
            query /= self.memory_size ** 0.5
        elif self.score == 'general':
            query = K.dot(query, self.kernel)
        return self.factor * query if self.scale else query, None

    def centres(self, query, ranks, positions):
        """p_t `(B, T, 1)`: those that eq. 9 predicts, or those that a decoder gives."""
        if self.alignment == 'monotonic':
            return K.expand_dims(K.cast(positions, K.dtype(query)), -1)
        hidden = K.tanh(K.dot(query, self.position_kernel))
        return K.cast(ranks.counts[:, None, None], K.dtype(query)) * tf.sigmoid(
            K.dot(hidden, self.position_score_kernel))


# Windows around p_t = t

def banded(query, keys, values, score_kernel, ranks, window):
    """Attention of a block of R target positions at a time to the C = R + 2 W source positions that they see.

    # Arguments
        query: projected decoder states `(B, T, D)`.
        keys: `(B, S, U)`, or `None` where the score is a product with `values`.
        values: encoder states `(B, S, Dm)`.
        score_kernel: v `(U, 1)` of the additive score, or `None`.
        ranks: `Ranks`.
        window: Integer W.

    # Returns
        context `(B, T, Dm)`, weights `(B, T, C)`, and the rank of each weight, int32 `(B, T, C)`.
    """
    size = block_size(window)
    batch, steps, width = tf.shape(query)[0], tf.shape(query)[1], query.shape[2].value
    blocks = (steps + size - 1) // size
    bands = Bands(ranks, window, blocks)
    query = tf.pad(query, [[0, 0], [0, blocks * size - steps], [0, 0]])
    query = tf.reshape(query, tf.stack([batch * blocks, size, width]))
    values = bands.take(values)                                                             # (B blocks, C, Dm)
    if score_kernel is None:
        scores = tf.matmul(query, values, transpose_b=True)                                 # (B blocks, R, C)
    else:
        scores = additive_scores(query, bands.take(keys), score_kernel)
    seen = size + 2 * window
    band = tf.range(seen) - tf.range(size)[:, None]                                                     # (R, C)
    weights, _ = attention.masked_softmax(scores, bands.there[:, None] & (band >= 0) & (band <= 2 * window))
    positions = tf.tile(bands.positions[:, :, None], tf.stack([1, 1, size, 1]))

    def by_step(x, last):
        # The gradient of this slice pads; that of [:, :steps] is slow.
        return tf.slice(tf.reshape(x, tf.stack([batch, blocks * size, last])), [0, 0, 0], tf.stack([-1, steps, -1]))
    return [by_step(tf.matmul(weights, values), values.shape[2].value), by_step(weights, seen),
            by_step(positions, seen)]


# Windows around any p_t, a score that is a product

def sorted_windows(query, values, centre, gaussian, ranks, window):
    """Attention of each target position to a window around its p_t, those of neighbouring windows at a time.

    # Arguments
        query, values, ranks, window: as for `banded`.
        centre: p_t `(B, T, 1)`.
        gaussian: Boolean, multiply the weights by eq. 10.

    # Returns
        As `banded`.
    """
    size = block_size(window)
    blocks = ranks.length // size + 1
    bands = Bands(ranks, window, blocks)
    block = tf.clip_by_value(tf.cast(centre[..., 0], tf.int32) // size, 0, blocks - 1)                  # (B, T)
    slots = Slots(block, blocks)
    values, query, centre = bands.take(values, slots.bands), slots.fill(query), slots.fill(centre)
    scores = tf.matmul(query, values, transpose_b=True)                                                 # (m, Q, C)
    # A rank that does not exist is far from all windows.
    far = tf.fill(tf.shape(bands.places), 10 ** 9)
    positions = tf.where(bands.there, tf.reshape(bands.positions, tf.shape(far)), far)
    distance = tf.cast(tf.gather(positions, slots.bands), K.dtype(query))[:, None] - centre             # (m, Q, C)
    weights, _ = attention.masked_softmax(scores, tf.abs(distance) <= window)
    if gaussian:
        weights *= attention.gaussian_factors(distance, window)
    window_ranks = (size * block - window)[:, :, None] + tf.range(size + 2 * window)
    return [slots.read(tf.matmul(weights, values)), slots.read(weights), window_ranks]


# Windows around any p_t, the additive score

def additive_windows(query, keys, values, score_kernel, gaussian, places, inside):
    """Attention to the source positions of any windows, R target positions at a time, whose numbers fit the cache.

    # Arguments
        query, keys, values, score_kernel: as for `banded`.
        gaussian: factor of each weight after the softmax `(B, T, n)`.
        places: the positions of each window in the rows of `(B S, D)`, int32 `(B, T, n)`.
        inside: which of them count, booleans `(B, T, n)`.

    # Returns
        context `(B, T, Dm)` and weights `(B, T, n)`.
    """
    batch, steps, size = tf.shape(places)[0], tf.shape(places)[1], tf.shape(places)[2]
    width = values.shape[2].value
    block = tf.clip_by_value(NUMBERS_OF_A_STEP // (batch * size * width), 1, tf.maximum(steps, 1))      # R
    blocks = (steps + block - 1) // block

    def cut(x):
        """`(B, T, m)` to `(blocks, B, R, m)`."""
        x = tf.pad(x, [[0, 0], [0, blocks * block - steps], [0, 0]])
        x = tf.reshape(x, tf.stack([batch, blocks, block, tf.shape(x)[2]]))
        return tf.transpose(x, [1, 0, 2, 3])

    def join(x):
        x = tf.reshape(tf.transpose(x, [1, 0, 2, 3]), tf.stack([batch, blocks * block, tf.shape(x)[3]]))
        return tf.slice(x, [0, 0, 0], tf.stack([-1, steps, -1]))

    last = query.shape[2].value
    query, gaussian, places, inside = [cut(x) for x in (query, gaussian, places, inside)]
    query.set_shape([None, None, None, last])
    values, keys = [tf.reshape(x, [-1, x.shape[2].value]) for x in (values, keys)]                      # (B S, ...)

    def step(states, slices):
        return [], additive_block(*slices, values, keys, score_kernel)

    inputs = [query, gaussian, places, inside]
    _, results = scan(step, [], inputs, 2)
    context, softmax = attach_gradient('AdditiveWindows', results, inputs + [values, keys, score_kernel])
    return [join(context), join(softmax * gaussian)]


def additive_block(query, gaussian, places, inside, values, keys, score_kernel):
    """Context `(B, R, Dm)` and softmax `(B, R, n)` of the target positions of one step of the loop."""
    near = tf.gather(values, places)                                                                    # (B, R, n, Dm)
    scores = additive_window(query, tf.gather(keys, by_window(places)), score_kernel)[0]
    softmax, _ = attention.masked_softmax(tf.reshape(tf.transpose(scores), tf.shape(places)), inside)   # (B, R, n)
    return [tf.matmul((softmax * gaussian)[:, :, None], near)[:, :, 0], softmax]


def by_window(places):
    """`(B, R, n)` to `(n, B R)`."""
    return tf.transpose(tf.reshape(places, tf.stack([-1, tf.shape(places)[2]])))


def additive_window(query, near, score_kernel):
    """`additive_step` of queries `(B, R, U)` and keys of their windows `(n, B R, U)`."""
    return additive_step(tf.reshape(query, tf.stack([-1, near.shape[2].value])), near, score_kernel)


def additive_windows_gradient(op, d_context, d_softmax, *_):
    """R target positions at a time, with c = sum_s a_s g_s m_s, a the softmax, g the Gaussian, m the states:

        dw_s = dc m_s       da = da + g dw       dg = a dw       ds = a (da - sum_s a_s da_s)       dm_s = a_s g_s dc

    and from ds through `additive_step_gradient`. What a position contributes to the states and keys of its window is
    added there in place.
    """
    _, softmax, query, gaussian, places, _, values, keys, score_kernel = op.inputs

    def step(states, slices):
        d_context, d_softmax, softmax, query, gaussian, places = slices
        near = tf.gather(values, places)                                                                # (B, R, n, Dm)
        d_weights = tf.matmul(near, d_context[..., None])[..., 0]                                       # (B, R, n)
        d_softmax += gaussian * d_weights
        d_scores = softmax * (d_softmax - tf.reduce_sum(softmax * d_softmax, 2, keepdims=True))
        weights, columns = softmax * gaussian, by_window(places)
        near_keys = tf.gather(keys, columns)
        _, e = additive_window(query, near_keys, score_kernel)
        d_query, d_keys, d_kernel = additive_step_gradient(by_window(d_scores), e, score_kernel, tf.shape(near_keys))
        states = [add_rows(states[0], places, weights[..., None] * d_context[:, :, None]),
                  add_rows(states[1], columns, d_keys), states[2] + d_kernel]
        return states, [tf.reshape(d_query, tf.shape(query)), softmax * d_weights]

    states, (d_query, d_gaussian) = scan(step, [tf.zeros_like(x) for x in (values, keys, score_kernel)],
                                         [d_context, d_softmax, softmax, query, gaussian, places], 2)
    return [None, None, d_query, d_gaussian, None, None] + states


def plain_additive_windows(query, gaussian, places, inside, values, keys, score_kernel):
    """What the loop of `additive_windows` computes, all target positions in one step."""
    shape = tf.shape(places)                                                                    # (blocks, B, R, n)
    sequences = [tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0)) for x in (query, gaussian, places, inside)]
    results = additive_block(*sequences, values, keys, score_kernel)
    return [tf.reshape(x, tf.concat([shape[:3], tf.shape(x)[2:]], 0)) for x in results]


register('AdditiveWindows', additive_windows_gradient, plain_additive_windows)


def add_rows(total, places, rows):
    """Adds `rows` `(..., D)` to the rows of `total` `(n, D)` at `places` `(...)`, in place where possible."""
    width = total.shape[1].value
    return gen_array_ops.scatter_nd_non_aliasing_add(
        total, tf.reshape(places, [-1, 1]), tf.reshape(rows, [-1, width]))
