"""Guided alignment: a loss that trains attention on given alignments, after Chen, Matusov, Khadivi and Peter (2016).

# References
    - [Guided Alignment Training for Topic-Aware Neural Machine Translation](https://arxiv.org/abs/1607.01628)
"""
import tensorflow as tf

TINY = 1e-7  # the minimum of a weight in the logarithm: the attention of a window is exactly 0 outside it


def guided_alignment_loss(weights, gold, valid):
    """Cross-entropy between gold alignments and attention: -sum_s A_ts log a_ts (their eq. 5, one target token).

    Each row of A is divided by its sum over the valid positions. A target token without gold alignment has loss 0.

    # Arguments
        weights: attention weights `(B, T, S)`.
        gold: 1 for a pair of aligned tokens and 0 elsewhere, `(B, T, S)`.
        valid: booleans `(B, S)`, the positions that attention covers.

    # Returns
        `(B, T)`, in nats.
    """
    gold *= tf.cast(valid, gold.dtype)[:, None]
    total = tf.reduce_sum(gold, axis=2, keepdims=True)                                                  # (B, T, 1)
    gold /= tf.where(total > 0., total, tf.ones_like(total))
    return -tf.reduce_sum(gold * tf.log(tf.maximum(weights, TINY)), axis=2)
