"""The pointer-generator: an output that generates words of its vocabulary or copies words of the source.

After See, Liu and Manning 2017, "Get To The Point", https://arxiv.org/abs/1704.04368; equation numbers are theirs. A
name is a word of the source that the target vocabulary does not contain. Each row numbers its names from V on
(`text.vocabulary.Vocabulary.names`), so the output of a batch has V + X ids: X is the maximum number of names in a row.
Other letters as in `seq2seq_model.py`.

The coverage vector is part of the loss (eq. 12 and 13), not of the score (eq. 11): attention covers all target steps in
one call, so a step knows past attention through its state only, and with input feeding through its input.
"""
from keras import backend as K
from keras import initializers
from keras.engine import Layer
import tensorflow as tf
from text.vocabulary import PAD, UNK

TINY = 1e-37  # replaces the probability 0 in a logarithm; the smallest normal float32 is 1.2e-38


class KnownIds(Layer):
    """Replaces ids of `size` or more by `<unk>`: names have no embedding."""

    def __init__(self, size, **kwargs):
        super(KnownIds, self).__init__(**kwargs)
        self.size = size

    def call(self, ids):
        return tf.where(ids < self.size, ids, tf.fill(tf.shape(ids), UNK))

    def get_config(self):
        return dict(super(KnownIds, self).get_config(), size=self.size)


class PointerGenerator(Layer):
    """Logits of generating or copying each word: their softmax is eq. 9.

    # Arguments
        kernel_initializer: for the one kernel that holds w_h*, w_s and w_x of eq. 8, in this order.

    # Input shape
        Logits `(B, T, V)`, attention weights `(B, T, S)`, encoder states `(B, S, Dm)`, decoder states `(B, T, D)`,
        decoder inputs `(B, T, E)`, and the id that copying each source position outputs, `(B, S)`, below V + X.

    # Output shape
        Logits `(B, T, V + X)`, minus infinity for names that the row does not have.
    """

    def __init__(self, kernel_initializer='glorot_uniform', **kwargs):
        super(PointerGenerator, self).__init__(**kwargs)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        width = sum(shape[-1] for shape in input_shape[2:5])
        self.kernel = self.add_weight(shape=(width, 1), name='kernel', initializer=self.kernel_initializer)
        self.bias = self.add_weight(shape=(1,), name='bias', initializer='zeros')
        super(PointerGenerator, self).build(input_shape)

    def switch(self, context, states, embedded):
        """Eq. 8 without its sigmoid, that is log(p_gen / (1 - p_gen)): w_h* . c + w_s . h + w_x . x + b."""
        inputs = K.concatenate([context, states, embedded])                                         # (B, T, Dm + D + E)
        return K.bias_add(K.dot(inputs, self.kernel), self.bias)                                        # (B, T, 1)

    def attention_to_words(self, weights, same):
        """The sum of eq. 9: for each source position the attention `(B, T, S)` to all positions of its word.

        # Arguments
            weights: attention weights `(B, T, S)`.
            same: `same_words` of the source.
        """
        return tf.matmul(weights, same)

    def call(self, inputs):
        logits, weights, memory, states, embedded, copied_ids = inputs
        size = K.int_shape(logits)[-1]
        switch = self.switch(tf.matmul(weights, memory), states, embedded)
        # Eq. 9 times Z / p_gen with Z = sum_v e^z_v: e^z_w + Z (1 - p_gen) / p_gen times the attention to word w.
        same = same_words(copied_ids, K.dtype(weights))                                                 # (B, S, S)
        copy_logits = tf.log(tf.maximum(self.attention_to_words(weights, same), TINY))                  # (B, T, S)
        copy_logits += tf.reduce_logsumexp(logits, axis=2, keepdims=True) - switch
        # In logarithms, log(e^x + e^y) = x + log(1 + e^(y - x)): only the logits of the source's words change.
        row, step, ids = tf.meshgrid(*map(tf.range, tf.unstack(tf.shape(weights))), indexing='ij')
        ids = tf.zeros_like(ids) + copied_ids[:, None]                                                  # (B, T, S)
        word_logits = tf.gather_nd(logits, tf.stack([row, step, tf.minimum(ids, size - 1)], axis=3))    # (B, T, S)
        added = tf.where(ids < size, tf.nn.softplus(copy_logits - word_logits), copy_logits)
        # A repeated word is added once, at its first position.
        first = tf.equal(tf.reduce_sum(tf.matrix_band_part(same, -1, 0), axis=2), 1.)                   # (B, S)
        added *= K.cast(tf.logical_and(first, tf.not_equal(copied_ids, PAD)), K.dtype(added))[:, None]
        names = size + tf.range(tf.maximum(tf.reduce_max(copied_ids) + 1 - size, 0))                    # (X,)
        present = tf.reduce_any(tf.equal(copied_ids[:, :, None], names), axis=1)                        # (B, X)
        name_logits = tf.log(K.cast(present, K.dtype(logits)))                                  # 0 or minus infinity
        logits = tf.concat([logits, name_logits[:, None] + tf.zeros_like(logits[:, :, :1])], axis=2)    # (B, T, V + X)
        return logits + tf.scatter_nd(tf.stack([row, step, ids], axis=3), added, tf.shape(logits))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0][:-1]) + (None,)

    def compute_mask(self, inputs, mask=None):
        return None


def same_words(copied_ids, dtype):
    """Returns 1 for each pair of source positions with the same id in `(B, S)`, else 0: `(B, S, S)`."""
    return K.cast(tf.equal(copied_ids[:, :, None], copied_ids[:, None]), dtype)


def coverage_loss(weights):
    """Repeated attention: sum_s min(a_ts, c_ts), with c_t the sum of the weights before t (eq. 10 and 12).

    # Arguments
        weights: attention weights `(B, T, S)`.

    # Returns
        `(B, T)`, from 0 to 1.
    """
    return tf.reduce_sum(tf.minimum(weights, tf.cumsum(weights, axis=1, exclusive=True)), axis=2)
