"""Attention layers that compute in blocks: the values of `attention`, with less memory and time.

The additive score needs e = tanh(W_1 h_t + W_2 h_s) of every pair, (B, T, S, U) numbers. Here a loop computes one
target position at a time, whose numbers fit the cache of the processor, and its gradient computes them again. Letters
as in `attention`.
"""
import collections

from keras import backend as K
import tensorflow as tf

import attention
from kernels.gradients import attach_gradient, register, scan

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


def plain_additive_scores(query, keys, score_kernel):
    """What the loop of `additive_scores` computes, from numbers (T, S, B, U): `(T, S, B)`."""
    return [tf.reduce_sum(tf.tanh(query[:, None] + keys) * score_kernel[:, 0], 3)]


register('AdditiveScores', additive_scores_gradient, plain_additive_scores)


StepKeys = collections.namedtuple('StepKeys', 'tensor')
StepKeys.__doc__ = """Keys `(B, S, D)` for the few target positions of one step, where they differ from `keys`."""


class GlobalAttention(attention.GlobalAttention):
    """`attention.GlobalAttention`, with the additive score in blocks, and keys of its own for the steps of a search."""

    def scores(self, query, keys):
        if isinstance(keys, StepKeys):
            return self.step_scores(query, keys.tensor)
        if self.score == 'concat':
            return self.scores_in_blocks(query, keys)
        return super(GlobalAttention, self).scores(query, keys)

    def step_keys(self, memory):
        """Keys for `attend` at each step: those of the score general hold its kernel.

        h_t (W_a h_s) in place of (h_t W_a) h_s: one product a sentence in place of one a step.
        """
        if self.score == 'general':
            return StepKeys(self.product_keys(memory))
        keys = self.keys(memory)
        return StepKeys(keys) if self.score == 'concat' else keys

    def step_scores(self, query, keys):
        """Scores `(B, T, S)` from the tensor of `step_keys`."""
        if self.score == 'general':
            return tf.matmul(query, keys, transpose_b=True)
        # The few target positions of one step are mostly too small for a loop of their own.
        plain = super(GlobalAttention, self).scores
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
            with tf.control_dependencies([self.check_length(length)]):
                columns = tf.transpose(self.kernel)[:length]
            keys = tf.tile(columns[None], tf.stack([tf.shape(memory)[0], 1, 1]))
        elif self.score == 'general':   # h W_a m = h . (m W_a^T)
            keys = K.dot(memory, tf.transpose(self.kernel))
        else:
            keys = memory / self.memory_size ** 0.5 if self.score == 'scaled_dot' else memory
        return self.factor * keys if self.scale else keys
