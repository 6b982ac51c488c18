"""Output product, loss and metrics in one kernel, at the valid target positions only.

The same values as `token_loss.TokenLoss` on the logits of the model, without the logits of padding, without a
one-hot matrix, and with a gradient by hand. Letters: N valid target tokens of a batch, D size of the states that the
output multiplies, V vocabulary; B, T and S as in `seq2seq_model`.
"""
import collections
import functools

from keras import backend as K
import tensorflow as tf
from tensorflow.python.ops import gen_array_ops

from kernels.gradients import attach_gradient, register
from pointer_generator import TINY
from kernels import sampled_softmax
from text.vocabulary import PAD, UNK

Output = collections.namedtuple('Output', 'normalizer score logits target maximum')
Output.__doc__ = """What a loss takes of N rows of logits x = h W, never of the logits of padding.

normalizer `(N,)`: log sum_v e^(x_v). score `(N,)`: (1 - e) x_y + e mean_v x_v, with e the label smoothing. Both have
gradients; the rest has none: logits `(N, V)`, the target's logit `(N,)`, the maximum logit `(N,)`.
"""


def output(states, kernel, targets, tied=False, smoothing=0., sample=None):
    """Logits of each row, and what a cross-entropy takes of them.

    # Arguments
        states: h `(N, D)`.
        kernel: W `(D, V)`, or where `tied` an embedding `(V, D)`.
        targets: y, int32 `(N,)`, below V.
        smoothing: e.
        sample: `sampled_softmax.Sample` where V words of a larger vocabulary stand for all, or `None`.

    # Returns
        `Output`. The smoothed loss is normalizer - score, and -log p_y is normalizer - target.
    """
    logits = tf.matmul(states, kernel, transpose_b=tied)                                                # (N, V)
    places = tf.stack([tf.range(tf.shape(targets)[0]), targets], 1)                                     # (N, 2)
    if sample is not None:
        logits += sample.correction
    maximum = tf.reduce_max(logits, 1, keepdims=True)
    exponentials = tf.exp(logits - maximum)
    if sample is not None:  # a target that was not drawn counts in its own row alone
        own = tf.gather_nd(exponentials, places) * (1. - tf.gather(sample.drawn, targets))
        exponentials = gen_array_ops.scatter_nd_non_aliasing_add(exponentials * sample.drawn, places, own)
    total = tf.reduce_sum(exponentials, 1)
    normalizer = tf.log(total) + maximum[:, 0]
    target = tf.gather_nd(logits, places)
    score = target
    if smoothing:
        score = (1. - smoothing) * target + smoothing * tf.reduce_mean(logits, 1)
    normalizer, score = attach_gradient(
        'FusedOutput/tied' if tied else 'FusedOutput', [normalizer, score, exponentials, total, places],
        [states, kernel, tf.constant(smoothing, states.dtype)])[:2]
    return Output(normalizer, score, logits, target, maximum[:, 0])


def output_gradient(tied, op, d_normalizer, d_score, *_):
    """dx_v = d_normalizer p_v + d_score ((1 - e) [v = y] + e / V); then dh = dx W^T and dW = h^T dx."""
    _, _, exponentials, total, places, states, kernel, smoothing = op.inputs
    size = tf.cast(tf.shape(exponentials)[1], states.dtype)
    d_logits = exponentials * (d_normalizer / total)[:, None] + (smoothing / size * d_score)[:, None]
    # In place: N numbers change, where a one-hot matrix would have N V.
    d_logits = gen_array_ops.scatter_nd_non_aliasing_add(d_logits, places, (1. - smoothing) * d_score)
    d_states = tf.matmul(d_logits, kernel, transpose_b=not tied)
    if tied:
        d_kernel = tf.matmul(d_logits, states, transpose_a=True)
    else:
        d_kernel = tf.matmul(states, d_logits, transpose_a=True)
    return [None] * 5 + [d_states, d_kernel, None]


register('FusedOutput', functools.partial(output_gradient, False))
register('FusedOutput/tied', functools.partial(output_gradient, True))


def losses_and_accuracy(result):
    """Loss, -log p_y and accuracy `(N,)` of an `Output`."""
    right = tf.cast(result.target >= result.maximum, result.target.dtype)
    return [result.normalizer - result.score, result.normalizer - result.target, right]


def add_logarithms(x, y):
    """log(e^x + e^y)."""
    return x + tf.nn.softplus(y - x)


class FusedLoss(object):
    """Loss and metrics over target tokens for `Model.compile`, with the methods of `token_loss.TokenLoss`.

    They take ids `(B, T, 1)` in floats and the model's own output. They ignore that output, so nothing computes it.
    They return `(B, T)`, 0 on padding. If two tokens are equally probable, `token_accuracy` counts either as the best.

    # Arguments
        model: `Seq2Seq`.
        smoothing: e, the share of the probability that the loss spreads evenly over the vocabulary.
        attention_loss: loss of the attention of each token, a tensor `(B, T)`, or `None`.
    """

    def __init__(self, model, smoothing=0., attention_loss=None):
        self.model, self.smoothing, self.attention_loss = model, smoothing, attention_loss
        self._made = {}
        if model.settings.sampled_softmax:
            # Keras tells a model whether it trains only where an output has this mark.
            model.training_model.outputs[0]._uses_learning_phase = True

    def loss(self, ids, logits):
        """The smoothed cross-entropy plus the loss of the attention, in nats."""
        losses = self._parts(ids)[0]
        return losses if self.attention_loss is None else losses + self.attention_loss

    def negative_log_likelihood(self, ids, logits):
        """-log p_y without smoothing, in nats."""
        return self._parts(ids)[1]

    def token_accuracy(self, ids, logits):
        """1 where the most probable token is the target and not <unk>, which may stand for any word; 0 elsewhere."""
        return self._parts(ids)[2] * K.cast(K.not_equal(ids[:, :, 0], UNK), K.floatx())

    def _parts(self, ids):
        if ids not in self._made:
            settings = self.model.settings
            targets = tf.cast(ids[:, :, 0], tf.int32)                                                   # (B, T)
            valid = tf.cast(tf.where(tf.not_equal(targets, PAD)), tf.int32)                             # (N, 2)
            rows = valid, tf.gather_nd(targets, valid)
            function = self._of_copies if settings.copy else self._of_vocabulary
            if settings.sampled_softmax:
                parts = tf.cond(K.learning_phase(), lambda: self._of_sample(*rows), lambda: function(*rows))
            else:
                parts = function(*rows)
            self._made[ids] = [tf.scatter_nd(valid, part, tf.shape(targets)) for part in parts]
        return self._made[ids]

    def _output(self, valid, targets):
        model = self.model
        return output(tf.gather_nd(model.output_states, valid), model.output_kernel, targets,
                      model.settings.tie_embeddings, self.smoothing)

    def _of_vocabulary(self, valid, targets):
        """Loss, -log p_y and accuracy `(N,)`."""
        return losses_and_accuracy(self._output(valid, targets))

    def _of_sample(self, valid, targets):
        """The same among the words of a sampled softmax."""
        model = self.model
        numbers = model.noise.uniform([model.settings.sampled_softmax], sampled_softmax.SITE)
        tied, states = model.settings.tie_embeddings, tf.gather_nd(model.output_states, valid)
        sample = sampled_softmax.draw(numbers, targets, model.target_size)
        kernel = sampled_softmax.take(model.output_kernel, sample.ids, 0 if tied else 1)
        return losses_and_accuracy(output(states, kernel, sample.targets, tied, sample=sample))

    def _of_copies(self, valid, targets):
        """The same of eq. 9 of See et al., p_gen p(y) + (1 - p_gen) a(y), times Z / p_gen with Z = sum_v e^(x_v).

        a(y) is the attention to all positions that have the word y, and Z (1 - p_gen) / p_gen the weight of a copy.
        """
        model, pointer = self.model, self.model.pointer
        _, weights, memory, states, embedded, copied_ids = model.pointer_inputs
        size = model.target_size
        switch = tf.gather_nd(pointer.switch(tf.matmul(weights, memory), states, embedded)[:, :, 0], valid)
        output = self._output(valid, tf.minimum(targets, size - 1))
        attention, copied = tf.gather_nd(weights, valid), tf.gather(copied_ids, valid[:, 0])            # (N, S)
        copy_weight = output.normalizer - switch

        def copies(mass):
            return tf.log(tf.maximum(mass, TINY)) + copy_weight

        def total(where):
            return tf.reduce_sum(attention * tf.cast(where, attention.dtype), 1)

        there = tf.not_equal(copied, PAD)
        same = tf.equal(copied, targets[:, None])
        copied_target = copies(total(same))
        target = tf.where(targets < size, add_logarithms(output.score, copied_target), copied_target)
        losses = add_logarithms(output.normalizer, copies(total(there))) - target
        # The best word of the source, and whether any other word is better.
        pairs = K.cast(tf.equal(copied_ids[:, :, None], copied_ids[:, None]), K.dtype(weights))         # (B, S, S)
        mass = tf.gather_nd(pointer.attention_to_words(weights, pairs), valid)                          # (N, S)
        copied_logits = tf.log(tf.maximum(mass, TINY)) + copy_weight[:, None]
        rows = tf.zeros_like(copied) + tf.range(tf.shape(copied)[0])[:, None]
        written = tf.gather_nd(output.logits, tf.stack([rows, tf.minimum(copied, size - 1)], 2))
        all_logits = tf.where(copied < size, add_logarithms(written, copied_logits), copied_logits)
        all_logits = tf.where(there, all_logits, tf.fill(tf.shape(all_logits), all_logits.dtype.min))
        best = tf.argmax(all_logits, 1, output_type=tf.int32)
        best_copy = tf.gather_nd(copied, tf.stack([rows[:, 0], best], 1))
        right = tf.where(tf.reduce_max(all_logits, 1) >= output.maximum, tf.equal(best_copy, targets),
                         (output.target >= output.maximum) & (targets < size))
        return losses, losses, tf.cast(right, K.floatx())
