"""Losses and metrics of target tokens: cross-entropy from logits, and guided alignment."""
from keras import backend as K
import tensorflow as tf

from text.vocabulary import UNK

TINY = 1e-7  # the minimum of a weight in the logarithm: the attention of a window is exactly 0 outside it


class TokenLoss(object):
    """Loss and metrics of target tokens from logits, since Keras' losses clip probabilities at 1e-7.

    `loss`, `negative_log_likelihood` and `token_accuracy` take ids `(B, T, 1)` as floats, which is what Keras feeds,
    and logits `(B, T, V)`, and return `(B, T)`. Temporal sample weights make the mean over valid tokens: Keras divides
    by the number of weights that are not 0.

    # Arguments
        smoothing: e, the share of the probability that the loss spreads evenly over the vocabulary:
            (1 - e) (-log p_y) + e mean_v(-log p_v).
        attention_loss: loss of the attention of each token, a tensor `(B, T)`, or `None`.

    # References
        - [Rethinking the Inception Architecture](https://arxiv.org/abs/1512.00567), section 7
    """

    def __init__(self, smoothing=0., attention_loss=None):
        self.smoothing, self.attention_loss = smoothing, attention_loss
        self._cross_entropies = {}

    def loss(self, ids, logits):
        """The smoothed cross-entropy plus the loss of the attention, in nats."""
        loss = self._cross_entropy(ids, logits)
        return loss if self.attention_loss is None else loss + self.attention_loss

    def _cross_entropy(self, ids, logits):
        # Loss and metric share this tensor: only the matrix products of the graph take longer.
        if (ids, logits) not in self._cross_entropies:
            targets, size = tf.cast(ids[:, :, 0], tf.int32), tf.shape(logits)[2]
            if self.smoothing:
                share = self.smoothing / K.cast(size, K.floatx())
                spread = tf.one_hot(targets, size, share + (1. - self.smoothing), share, dtype=logits.dtype)
                loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.stop_gradient(spread), logits=logits)
            else:
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
            self._cross_entropies[ids, logits] = loss
        return self._cross_entropies[ids, logits]

    def negative_log_likelihood(self, ids, logits):
        """-log p_y without smoothing, in nats: the cross-entropy minus e (logit_y - mean_v logit_v)."""
        loss = self._cross_entropy(ids, logits)
        if not self.smoothing:
            return loss
        flat = tf.reshape(logits, [-1, tf.shape(logits)[2]])
        targets = tf.reshape(tf.cast(ids, tf.int32), [-1])
        target_logits = tf.gather_nd(flat, tf.stack([tf.range(tf.shape(flat)[0]), targets], axis=1))
        return loss - self.smoothing * (tf.reshape(target_logits, tf.shape(loss)) - K.mean(logits, axis=-1))

    def token_accuracy(self, ids, logits):
        """1 where the most probable token is the target and not <unk>, which may stand for any word; 0 elsewhere."""
        targets = tf.cast(ids[:, :, 0], tf.int64)
        right = tf.logical_and(K.equal(targets, tf.argmax(logits, axis=-1)), K.not_equal(targets, UNK))
        return K.cast(right, K.floatx())


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
