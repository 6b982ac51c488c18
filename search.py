"""Greedy and beam search as one graph loop over a decoder step."""
import collections

import tensorflow as tf

from data import END, PAD, START

Found = collections.namedtuple('Found', 'ids lengths log_probabilities weights margins')
Found.__doc__ = """What a search returns, as tensors; all in the order of the batch.

ids `(B, T)` without `<s>`, `<pad>` behind `</s>`; lengths `(B,)` with `</s>`; log_probabilities `(B, T)` of each token
in nats; weights `(B, T, S)` of the attention; margins `(B, T)`, the logit of the token less that of the runner-up.
"""


def greedy(step, states, max_lengths):
    """Takes the most probable token at each step until every sentence has ended.

    # Arguments
        step: function of tokens `(B, 1)` and states (list of `(B, 1, width)`) to logits `(B, 1, V)`, new states and
            weights `(B, 1, S)`.
        states: list of tensors `(B, 1, width)`.
        max_lengths: most tokens of each output, `</s>` included, int32 `(B,)`.

    # Returns
        `Found`.
    """
    rows, real = tf.shape(max_lengths)[0], states[0].dtype

    def array(dtype, shape):
        return tf.TensorArray(dtype, size=0, dynamic_size=True, element_shape=shape)

    arrays = [array(tf.int32, [None]), array(real, [None]), array(real, [None, None]), array(real, [None])]

    def body(time, token, ended, lengths, states, arrays):
        logits, states, weights = step(token, states)
        logits = logits[:, 0]                                                                           # (B, V)
        best, ids = tf.nn.top_k(logits, 2)                                                              # (B, 2)
        token = tf.where(ended, tf.fill([rows], PAD), ids[:, 0])
        log_probability = best[:, 0] - tf.reduce_logsumexp(logits, axis=1)
        values = [token, log_probability, weights[:, 0], best[:, 0] - best[:, 1]]
        arrays = [one.write(time, value) for one, value in zip(arrays, values)]
        lengths = lengths + tf.cast(tf.logical_not(ended), tf.int32)
        ended = ended | tf.equal(token, END) | (time + 1 >= max_lengths)
        return time + 1, token[:, None], ended, lengths, states, arrays

    def unfinished(time, token, ended, *_):
        return tf.logical_not(tf.reduce_all(ended))

    loop = tf.while_loop(unfinished, body,
                         [tf.constant(0), tf.fill([rows, 1], START), max_lengths < 1, tf.zeros([rows], tf.int32),
                          states, arrays],
                         shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 1]), tf.TensorShape([None]),
                                           tf.TensorShape([None]),
                                           [tf.TensorShape([None, None, state.shape[-1].value]) for state in states],
                                           [tf.TensorShape(None)] * len(arrays)],
                         back_prop=False, parallel_iterations=1)
    lengths, arrays = loop[3], loop[5]
    ids, log_probabilities, weights, margins = [
        tf.transpose(one.stack(), [1, 0] + list(range(2, rank))) for one, rank in zip(arrays, (2, 2, 3, 2))]
    valid = tf.sequence_mask(lengths, tf.shape(ids)[1])
    return Found(ids, lengths, tf.where(valid, log_probabilities, tf.zeros_like(log_probabilities)),
                 weights * tf.cast(valid, real)[:, :, None],
                 tf.where(valid, margins, tf.zeros_like(margins)))
