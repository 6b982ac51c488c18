"""The sampled softmax against NumPy in float64, its resumption, and what validation reports."""
import math

import pytest

import tf_session  # noqa: F401  first: it fixes the import order
from keras import backend as K
import numpy as np
import tensorflow as tf

from command_line import UserError
from kernels.fused_loss import output
from kernels import sampled_softmax
import settings as settings_module
from small_models import Small, make_batch
from training.trainer import training_loss

V, D, M = 50, 4, 12
TARGETS = np.array([3, 49, 3, 7, 0, 21], 'i4')


def expected(states, kernel, numbers, targets):
    """Losses and gradients by the definition, one row at a time."""
    drawn = {int(math.exp(number * math.log(V + 1))) - 1 for number in numbers}
    losses, d_states, d_kernel = [], np.zeros_like(states), np.zeros_like(kernel)

    def log_probability(k):
        q = math.log((k + 2.) / (k + 1.)) / math.log(V + 1)
        return math.log(1 - (1 - q) ** len(numbers))
    for row, (state, target) in enumerate(zip(states, targets)):
        words = sorted(drawn | {target})
        logits = np.array([state @ kernel[:, k] - log_probability(k) for k in words])
        probabilities = np.exp(logits) / np.exp(logits).sum()
        losses.append(-math.log(probabilities[words.index(target)]))
        for k, slope in zip(words, probabilities - (np.array(words) == target)):
            d_states[row] += slope * kernel[:, k] * (row + 1)
            d_kernel[:, k] += slope * state * (row + 1)
    return np.array(losses), d_states, d_kernel


@pytest.mark.parametrize('tied', [False, True])
def test_losses_and_gradients_are_those_of_the_definition(float64, session, tied):
    random = np.random.RandomState(3)
    states, kernel, numbers = random.normal(size=(6, D)), random.normal(size=(D, V)), random.uniform(size=M)
    given = tf.constant(states), tf.constant(kernel.T if tied else kernel)
    sample = sampled_softmax.draw(tf.constant(numbers), tf.constant(TARGETS), V)
    part = sampled_softmax.take(given[1], sample.ids, 0 if tied else 1)
    made = output(given[0], part, sample.targets, tied, sample=sample)
    losses = made.normalizer - made.score
    slopes = tf.gradients(tf.reduce_sum(losses * np.arange(1., 7.)), given)
    found = session.run([losses] + slopes)
    if tied:
        found[2] = found[2].T
    for one, other in zip(found, expected(states, kernel, numbers, TARGETS)):
        assert np.max(np.abs(one - other)) < 1e-12


def test_words_are_drawn_log_uniformly_up_to_the_ends(session):
    numbers = np.concatenate([np.random.RandomState(1).uniform(size=200000), [0., 1. - 2. ** -24]]).astype('f')
    drawn = session.run(tf.clip_by_value(tf.cast(tf.exp(numbers * math.log(V + 1.)), tf.int32) - 1, 0, V - 1))
    sample = session.run(sampled_softmax.draw(tf.constant(numbers), tf.constant(TARGETS), V))
    assert sorted(sample.ids) == list(range(V)) and np.all(sample.drawn == 1) and np.max(sample.correction) < 1e-6
    shares = np.bincount(drawn, minlength=V) / float(len(numbers))
    k = np.arange(V)
    assert np.max(np.abs(shares - np.log((k + 2.) / (k + 1.)) / np.log(V + 1.))) < 4e-3


def test_training_draws_anew_at_each_step_and_validation_takes_all_words(session):
    batch = make_batch([6, 2, 1], [4, 5, 2])
    small = Small(sampled_softmax=5, kernels='fast', dropout=0., word_dropout=0.)
    model, noise = small.model.training_model, small.model.noise
    loss = training_loss(small.settings, small.model)
    model.compile('sgd', loss.loss, sample_weight_mode='temporal', weighted_metrics=[loss.negative_log_likelihood])
    assert model.uses_learning_phase
    feed = {small.model.source: batch.source, small.model.target: batch.given,
            model.targets[0]: batch.output[:, :, None], model.sample_weights[0]: batch.output != 0}

    def total(step, training):
        K.set_value(noise.step, step)
        return session.run(model.total_loss, {**feed, K.learning_phase(): training})
    K.get_session()  # gives the kernels their values
    first, second = total(1, True), total(2, True)
    assert first == total(1, True) != second
    logits = small.whole(batch).logits.astype('f8')
    target = np.take_along_axis(logits, batch.output[:, :, None], 2)[:, :, 0]
    nll = np.log(np.exp(logits).sum(2)) - target
    assert abs(total(1, False) - nll[batch.output != 0].mean()) < 1e-6
    assert total(2, False) == total(1, False)


@pytest.mark.parametrize('other', [dict(copy=True, source_tokenizer='word', target_tokenizer='word'),
                                   dict(label_smoothing=0.1), dict(kernels='keras')])
def test_settings_that_need_all_words_are_refused(other):
    with pytest.raises(UserError, match='sampled-softmax'):
        settings_module.check(settings_module.resolve_settings(dict(other, sampled_softmax=100)))
