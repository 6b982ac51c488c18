"""The words of a sampled softmax, after Jean, Cho, Memisevic and Bengio (2015), for training with a large vocabulary.

The softmax of a training step covers the targets of the batch and a sample of the vocabulary instead of all V words.
Letters: M draws, N target tokens of a batch, V vocabulary, D size of the states that the output multiplies, n words
that the batch uses.

# References
    - [On Using Very Large Target Vocabulary for Neural Machine Translation](https://arxiv.org/abs/1412.2007)
"""
import collections
import functools
import math

import tensorflow as tf

from kernels.gradients import attach_gradient, register

SITE = 0  # of the random numbers: those of the layers count from 1

Sample = collections.namedtuple('Sample', 'ids targets drawn correction')
Sample.__doc__ = """The words that a batch uses.

ids: int32 `(n,)`, each once. targets: the position of each target among them, int32 `(N,)`. drawn: 1 for a word that
was drawn, 0 for one that is only a target, `(n,)`. correction: what to add to the logit of each word `(n,)`.
"""


def draw(numbers, targets, size):
    """Draws words with the probability of their ids, Q(k) = log((k + 2) / (k + 1)) / log(V + 1).

    The ids of a vocabulary count from the most frequent word, and this log-uniform distribution is near Zipf's law. A
    word is in the sample with the probability P(k) = 1 - (1 - Q(k))^M. The correction is -log P(k), so that the sum of
    e^x over the sample estimates that over all words.

    # Arguments
        numbers: uniform in [0, 1), `(M,)`.
        targets: ids, int32 `(N,)`.
        size: V.

    # Returns
        `Sample`.
    """
    draws, dtype = tf.shape(numbers)[0], numbers.dtype
    drawn = tf.cast(tf.exp(numbers * math.log(size + 1.)), tf.int32) - 1
    drawn = tf.clip_by_value(drawn, 0, size - 1)
    ids, places = tf.unique(tf.concat([drawn, targets], 0))     # in the order of their first place: drawn words first
    q = tf.log1p(1. / (tf.cast(ids, dtype) + 1.)) / math.log(size + 1.)
    correction = -tf.log(-tf.expm1(tf.cast(draws, dtype) * tf.log1p(-q)))
    count = tf.reduce_max(places[:draws]) + 1
    return Sample(ids, places[draws:], tf.cast(tf.range(tf.shape(ids)[0]) < count, dtype), correction)


def take(kernel, ids, axis):
    """Rows (`axis` 0) or columns (1) `ids` of a kernel; each comes once, so the gradient is a gather too."""
    rows = tf.gather(kernel, ids, axis=axis)
    return attach_gradient('TakeOnce/%d' % axis, [rows], [kernel, ids])[0]


def take_gradient(axis, op, gradient, *_):
    """The gradient of each row or column that was taken, and 0 for all others."""
    _, kernel, ids = op.inputs
    order = tf.scatter_nd(ids[:, None], tf.range(1, tf.shape(ids)[0] + 1), tf.shape(kernel)[axis:axis + 1])
    padded = tf.pad(gradient, [[1 - axis, 0], [axis, 0]])
    return [None, tf.gather(padded, order, axis=axis), None]


register('TakeOnce/0', functools.partial(take_gradient, 0))
register('TakeOnce/1', functools.partial(take_gradient, 1))
