"""Attention layers that compute in blocks: the values of `attention`, with less memory and time.

The additive score needs e = tanh(W_1 h_t + W_2 h_s) of every pair, (B, T, S, U) numbers. Here a loop computes one
target position at a time, whose numbers fit the cache of the processor, and its gradient computes them again. Local
attention computes the positions of its window alone. Letters as in `attention`; n positions of a window.
"""
from keras import backend as K
import tensorflow as tf
from tensorflow.python.ops import gen_array_ops

import attention
from fast_kernels import attach_gradient, scan

# Numbers of (B, T, S, U) above which a single step of a search computes in blocks too: 16 MB in float32.
LARGEST_STEP = 2 ** 22


def additive_step(query, keys, score_kernel):
    """Scores of one target position: s = e v with e = tanh(q + k).

    # Arguments
        query: q `(B, U)`. keys: k `(S, B, U)`. score_kernel: v `(U, 1)`.

    # Returns
        Scores `(S, B)` and e `(S B, U)`.
    """
    length, units = tf.shape(keys)[0], keys.shape[2].value
    # As a bias: the fastest way to add one row to S rows.
    e = tf.tanh(tf.nn.bias_add(tf.reshape(keys, tf.stack([length, -1])), tf.reshape(query, [-1])))
    e = tf.reshape(e, [-1, units])
    return tf.reshape(tf.matmul(e, score_kernel), tf.stack([length, -1])), e


def additive_step_gradient(d_scores, e, score_kernel, shape):
    """Gradients of one target position from those of its scores `(S, B)`.

        dv = e^T ds      dk = ds v^T (1 - e^2)      dq = sum_s dk_s

    Returns dq `(B, U)`, dk `(S, B, U)`, dv `(U, 1)`; `shape` is that of the keys.
    """
    d_scores = tf.reshape(d_scores, [-1, 1])
    d_keys = tf.matmul(d_scores, score_kernel, transpose_b=True) * (1. - tf.square(e))                  # (S B, U)
    d_keys = tf.reshape(d_keys, shape)
    return tf.reduce_sum(d_keys, 0), d_keys, tf.matmul(e, d_scores, transpose_a=True)


def additive_scores(query, keys, score_kernel):
    """The additive score, one target position at a time.

    # Arguments
        query: W_1 h_t `(B, T, U)`. keys: W_2 h_s `(B, S, U)`. score_kernel: v `(U, 1)`.

    # Returns
        Scores `(B, T, S)`.
    """
    query, keys = tf.transpose(query, [1, 0, 2]), tf.transpose(keys, [1, 0, 2])

    def step(states, slices):
        return [], [additive_step(slices[0], keys, score_kernel)[0]]

    _, (scores,) = scan(step, [], [query], 1)
    scores, = attach_gradient('AdditiveScores', [scores], [query, keys, score_kernel])
    scores.set_shape([None, None, None])
    return tf.transpose(scores, [2, 0, 1])                                                  # from (T, S, B)


@tf.RegisterGradient('AdditiveScores')
def additive_scores_gradient(op, d_scores, *_):
    """dq of each target position; dk and dv are sums over the target positions."""
    _, query, keys, score_kernel = op.inputs

    def step(states, slices):
        d_scores, query = slices
        _, e = additive_step(query, keys, score_kernel)
        d_query, d_keys, d_kernel = additive_step_gradient(d_scores, e, score_kernel, tf.shape(keys))
        return [states[0] + d_keys, states[1] + d_kernel], [d_query]

    (d_keys, d_kernel), (d_query,) = scan(
        step, [tf.zeros_like(keys), tf.zeros_like(score_kernel)], [d_scores, query], 1)
    return [None, d_query, d_keys, d_kernel]


class GlobalAttention(attention.GlobalAttention):
    """`attention.GlobalAttention`, with the additive score in blocks."""

    one_step = False  # whether `attend` computes one step of a decoder

    def attend(self, query, memory, keys, source_mask=None, positions=None):
        self.one_step = positions is not None
        return super(GlobalAttention, self).attend(query, memory, keys, source_mask, positions)

    def scores(self, query, keys):
        plain = super(GlobalAttention, self).scores
        if self.score != 'concat':
            return plain(query, keys)
        if not self.one_step:
            return self.scores_in_blocks(query, keys)
        # The few target positions of one step are mostly too small for a loop of their own.
        return tf.cond(tf.size(keys) * tf.shape(query)[1] > LARGEST_STEP,
                       lambda: self.scores_in_blocks(query, keys), lambda: plain(query, keys))

    def scores_in_blocks(self, query, keys):
        """The additive scores `(B, T, S)` of eq. 7."""
        scores = additive_scores(K.dot(query, self.query_kernel), keys, self.score_vector())
        return self.factor * scores if self.scale else scores

    def product_keys(self, memory):
        """Keys k `(B, S, Dq)` with which every score but the additive one is the product h_t . k_s."""
        if self.score == 'location':    # eq. 8: column s of W_a, whatever the encoder states
            length = tf.shape(memory)[1]
            fits = tf.assert_less_equal(length, self.source_limit,
                                        message='Source longer than max_source_length of the location score.')
            with tf.control_dependencies([fits]):
                columns = tf.transpose(self.kernel)[:length]
            keys = tf.tile(columns[None], tf.stack([tf.shape(memory)[0], 1, 1]))
        elif self.score == 'general':   # h W_a m = h . (m W_a^T)
            keys = K.dot(memory, tf.transpose(self.kernel))
        else:
            keys = memory / self.memory_size ** 0.5 if self.score == 'scaled_dot' else memory
        return self.factor * keys if self.scale else keys

    def score_vector(self):
        """v `(U, 1)`, normalized where the layer asks for it."""
        v = self.score_kernel
        return self.norm * v / K.sqrt(K.sum(K.square(v))) if self.normalize else v


# Local attention

def windows_pay(window, length):
    """Whether windows of 2 W + 1 positions are less work than all S positions at once."""
    return length > 2 * (2 * window + 1)


def valid_order(source_mask, length):
    """The steps `(B, S)` with the valid ones first, each kind in its order."""
    return tf.nn.top_k((tf.cast(source_mask, tf.int32) + 1) * length - tf.range(length), length).indices


def to_dense(weights, places, length):
    """Weights of windows `(B, T, n)`, 0 where invalid, at source positions `places` `(B, T, n)`, as `(B, T, S)`."""
    shape = tf.shape(weights)
    rows, steps, _ = tf.meshgrid(tf.range(shape[0]), tf.range(shape[1]), tf.range(shape[2]), indexing='ij')
    return tf.scatter_nd(tf.stack([rows, steps, places], 3), weights, tf.stack([shape[0], shape[1], length]))


class LocalAttention(GlobalAttention, attention.LocalAttention):
    """`attention.LocalAttention` that computes the positions of its window alone where the source is longer.

    Cost and memory grow with T W and not with T S. The dense weights `(B, T, S)` and the scores that `attend` returns
    are computed only where something asks for them.
    """

    def attend(self, query, memory, keys, source_mask=None, positions=None):
        whole = super(LocalAttention, self).attend
        given = (query, memory, keys, source_mask, positions)
        length = tf.shape(memory)[1]
        context, weights = tf.cond(
            tf.convert_to_tensor(windows_pay(self.window, length)),
            lambda: self.attend_window(*given), lambda: list(whole(*given)[:2]))
        context.set_shape([None, None, self.memory_size])
        output = whole(*given)
        return output._replace(context=context, weights=weights)

    def attend_window(self, query, memory, keys, source_mask, positions):
        """Context and dense weights. Arguments as for `attend`."""
        length = tf.shape(memory)[1]
        order = tf.tile(tf.range(length)[None], [tf.shape(memory)[0], 1])                               # (B, S)
        counts = order[:, 0] + length
        if source_mask is not None:
            order, counts = valid_order(source_mask, length), tf.reduce_sum(tf.cast(source_mask, tf.int32), 1)
        projected, score_kernel = self.project(query)
        # Positions count the valid steps, so the arrays hold these in front.
        rows = tf.range(tf.shape(order)[0])[:, None]
        places = tf.stack([tf.zeros_like(order) + rows, order], 2)                                      # (B, S, 2)
        values = tf.gather_nd(memory, places) if source_mask is not None else memory
        own_keys = None
        if score_kernel is not None:
            own_keys = tf.gather_nd(keys, places) if source_mask is not None else keys
        if self.alignment == 'monotonic' and positions is None:
            context, weights, indices = banded(projected, own_keys, values, score_kernel, counts, self.window)
        else:
            context, weights, indices = self.gathered(query, projected, own_keys, values, score_kernel, counts,
                                                      source_mask, positions)
        rows = tf.zeros_like(indices) + tf.range(tf.shape(order)[0])[:, None, None]
        indices = tf.gather_nd(order, tf.stack([rows, indices], 3))                                     # (B, T, n)
        return [context, to_dense(weights, indices, length)]

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

    def gathered(self, query, projected, keys, values, score_kernel, counts, source_mask, positions):
        """Windows around any positions: those that eq. 9 predicts, or those that a decoder gives."""
        dtype, window = K.dtype(query), self.window
        if self.alignment == 'predictive':
            centre = self.predict_positions(query, values[:, None, :, 0], source_mask)                  # (B, T, 1)
        else:
            centre = K.expand_dims(K.cast(positions, dtype), -1)
        first = tf.cast(tf.ceil(tf.stop_gradient(centre) - window), tf.int32)
        indices = first + tf.range(2 * window + 1)                                                      # (B, T, n)
        distance = K.cast(indices, dtype) - centre
        inside = (indices >= 0) & (indices < counts[:, None, None]) & (K.abs(distance) <= window)
        gaussian = K.exp(-2. * K.square(distance / window)) if self.alignment == 'predictive' else (
            tf.ones_like(distance))                                                                     # eq. 10
        indices = tf.clip_by_value(indices, 0, tf.shape(values)[1] - 1)
        context, weights = attend_windows(projected, keys, values, score_kernel, gaussian, indices, inside)
        return context, weights, indices


def banded(query, keys, values, score_kernel, counts, window):
    """Windows around p_t = t, a block of 2 W target positions at a time, which together see 4 W source positions.

    # Arguments
        query: projected decoder states `(B, T, D)`.
        keys: `(B, S, U)`, or `None` where the score is a product with `values`.
        values: encoder states `(B, S, Dm)`.
        score_kernel: v `(U, 1)` of the additive score, or `None`.
        counts: number of valid positions, which come first, int32 `(B,)`.
        window: Integer W.

    # Returns
        context `(B, T, Dm)`, weights `(B, T, 4 W)`, and the position of each weight, int32 of the same shape.
    """
    size = 2 * window
    batch, steps = tf.shape(query)[0], tf.shape(query)[1]
    blocks = (steps + size - 1) // size

    def by_block(x):
        """`(B, S, m)` to `(B blocks, 4 W, m)`: block n has the positions from 2 W n - W."""
        x = x[:, :blocks * size + window]
        after = (blocks + 1) * size - window - tf.shape(x)[1]
        x = tf.pad(x, [[0, 0], [window, after], [0, 0]])
        x = tf.reshape(x, tf.stack([batch, blocks + 1, size, x.shape[2].value]))
        x = tf.concat([x[:, :-1], x[:, 1:]], 2)
        return tf.reshape(x, tf.stack([batch * blocks, 2 * size, x.shape[3].value]))

    width = query.shape[2].value
    query = tf.pad(query, [[0, 0], [0, blocks * size - steps], [0, 0]])
    query = tf.reshape(query, tf.stack([batch * blocks, size, width]))
    values = by_block(values)
    if score_kernel is None:
        scores = tf.matmul(query, values, transpose_b=True)                                 # (B blocks, 2 W, 4 W)
    else:
        scores = additive_scores(query, by_block(keys), score_kernel)
    band = tf.range(2 * size) - tf.range(size)[:, None]                                                 # (2 W, 4 W)
    positions = (size * tf.range(blocks) - window)[:, None] + tf.range(2 * size)                        # (blocks, 4 W)
    there = (positions >= 0) & (positions < counts[:, None, None])                          # (B, blocks, 4 W)
    there = tf.reshape(there, tf.stack([batch * blocks, 1, 2 * size]))
    weights, _ = attention.masked_softmax(scores, there & (band >= 0) & (band <= size))
    context = tf.matmul(weights, values)
    positions = tf.zeros_like(weights, tf.int32) + tf.reshape(
        tf.tile(tf.maximum(positions, 0), tf.stack([batch, 1])), tf.stack([batch * blocks, 1, 2 * size]))

    def by_step(x, last):
        return tf.reshape(x, tf.stack([batch, blocks * size, last]))[:, :steps]
    return by_step(context, values.shape[2].value), by_step(weights, 2 * size), by_step(positions, 2 * size)


def attend_windows(query, keys, values, score_kernel, gaussian, indices, inside):
    """Attention to the source positions of any windows, one target position at a time.

    # Arguments
        query, keys, values, score_kernel: as for `banded`.
        gaussian: factor of each weight after the softmax `(B, T, n)`.
        indices: positions of the window, int32 `(B, T, n)`, below S.
        inside: which of them count, booleans `(B, T, n)`.

    # Returns
        context `(B, T, Dm)` and weights `(B, T, n)`.
    """
    batch, length = tf.shape(values)[0], tf.shape(values)[1]
    places = indices + length * tf.range(batch)[:, None, None]
    query, gaussian, places, inside = [tf.transpose(x, [1, 0, 2]) for x in (query, gaussian, places, inside)]
    values, *keys = [tf.reshape(x, [-1, x.shape[2].value]) for x in (values, keys) if x is not None]    # (B S, ...)
    kernels = [] if score_kernel is None else [score_kernel]

    def step(states, slices):
        query, gaussian, places, inside = slices
        near = tf.gather(values, places)                                                                # (B, n, Dm)
        if kernels:
            scores = tf.transpose(additive_step(query, tf.gather(keys[0], tf.transpose(places)), score_kernel)[0])
        else:
            scores = tf.matmul(near, query[:, :, None])[:, :, 0]
        softmax, _ = attention.masked_softmax(scores, inside)                                           # (B, n)
        return [], [tf.matmul((softmax * gaussian)[:, None], near)[:, 0], softmax]

    _, (context, softmax) = scan(step, [], [query, gaussian, places, inside], 2)
    context, softmax = attach_gradient('AttendWindows', [context, softmax],
                                       [query, gaussian, places, values] + keys + kernels)
    return tf.transpose(context, [1, 0, 2]), tf.transpose(softmax * gaussian, [1, 0, 2])


@tf.RegisterGradient('AttendWindows')
def attend_windows_gradient(op, d_context, d_softmax, *_):
    """One target position at a time, with c = sum_s a_s g_s m_s, a the softmax, g the Gaussian, m the states:

        dw_s = dc m_s       da = da + g dw       dg = a dw       ds = a (da - sum_s a_s da_s)
        dm_s = a_s g_s dc + ds_s q       dq = sum_s ds_s m_s       or those of `additive_step_gradient`

    What a position contributes to the states and keys of its window is added there in place.
    """
    _, softmax, query, gaussian, places, values = op.inputs[:6]
    keys_and_kernel = list(op.inputs[6:])

    def step(states, slices):
        d_context, d_softmax, softmax, query, gaussian, places = slices
        near = tf.gather(values, places)
        d_weights = tf.matmul(near, d_context[:, :, None])[:, :, 0]                                     # (B, n)
        d_softmax += gaussian * d_weights
        d_scores = softmax * (d_softmax - tf.reduce_sum(softmax * d_softmax, 1, keepdims=True))
        weights = softmax * gaussian
        if keys_and_kernel:
            keys, score_kernel = keys_and_kernel
            columns = tf.transpose(places)                                                              # (n, B)
            near_keys = tf.gather(keys, columns)
            _, e = additive_step(query, near_keys, score_kernel)
            d_query, d_keys, d_kernel = additive_step_gradient(
                tf.transpose(d_scores), e, score_kernel, tf.shape(near_keys))
            d_near = weights[:, :, None] * d_context[:, None]
            more = [add_rows(states[1], columns, d_keys), states[2] + d_kernel]
        else:
            d_query, more = tf.matmul(d_scores[:, None], near)[:, 0], []
            d_near = tf.matmul(tf.stack([weights, d_scores], 2), tf.stack([d_context, query], 1))
        return [add_rows(states[0], places, d_near)] + more, [d_query, softmax * d_weights]

    states, (d_query, d_gaussian) = scan(step, [tf.zeros_like(x) for x in [values] + keys_and_kernel],
                                         [d_context, d_softmax, softmax, query, gaussian, places], 2)
    return [None, None, d_query, d_gaussian, None] + states


def add_rows(total, places, rows):
    """Adds `rows` `(..., D)` to the rows of `total` `(n, D)` at `places` `(...)`, in place where possible."""
    width = total.shape[1].value
    return gen_array_ops.scatter_nd_non_aliasing_add(
        total, tf.reshape(places, [-1, 1]), tf.reshape(rows, [-1, width]))
