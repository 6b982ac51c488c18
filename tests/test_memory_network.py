"""`--encoder memory`, compared with the NumPy model, and its linear start."""
import pytest

import tf_session  # noqa: F401  first: it fixes the import order
import numpy as np
from keras import backend as K
from command_line import UserError
from reference import numpy_memories, numpy_model
from settings import resolve_settings
from small_models import Batch, Small, padded, settings
from test_question_encoder import ASK, BAR, BATCH, SEPARATORS, STOP
from text.batches import make_batch
from training.optimizer import Adam

pytestmark = pytest.mark.usefixtures('session')
MARKS = SEPARATORS._replace(marks=(STOP, ASK))


def small(**values):
    return Small(separators=MARKS, **dict(dict(encoder='memory', score='dot', cell='gru', hops=3, units=6), **values))


@pytest.mark.parametrize('case', [
    {}, dict(cell='lstm', hops=2, kernels='fast', exact_match='flag'),
    dict(decoder_layers=2, tie_embeddings=True, share_vocabulary=True, hops=1, embedding=6)], ids=str)
def test_model_agrees_with_numpy(case):
    model = small(**case)
    whole, expected = model.whole(BATCH), model.numpy.forward(BATCH.source, BATCH.given)
    np.testing.assert_allclose(whole.encoder_states, expected['encoder_states'], atol=2e-6)
    np.testing.assert_allclose(whole.initial_states, expected['initial_states'], atol=2e-6)
    np.testing.assert_allclose(whole.weights, expected['weights'], atol=2e-6)
    np.testing.assert_allclose(whole.logits, expected['logits'], atol=5e-6)
    logits, weights = model.stepped(BATCH.source, BATCH.given[:, None])
    np.testing.assert_allclose(logits[:, 0], whole.logits, atol=5e-6)
    np.testing.assert_allclose(weights[:, 0], whole.weights, atol=2e-6)


def test_weights_are_at_the_ends_of_sentences_and_sum_to_one():
    weights = small().whole(BATCH).weights
    assert {(row, position) for row, _, position in np.argwhere(weights)} == {
        (0, 6), (0, 10), (1, 2), (1, 4), (3, 4), (3, 7), (4, 5), (5, 5), (5, 7), (6, 5)}
    has_story = [row for row in range(len(weights)) if row != 2]
    np.testing.assert_allclose(weights[has_story].sum(2), 1., atol=1e-6)


def test_padding_changes_nothing():
    model = small()
    whole, more = model.whole(BATCH), model.whole(padded(BATCH, 3, 2))
    np.testing.assert_allclose(more.logits[:, :-2], whole.logits, atol=2e-6)
    np.testing.assert_allclose(more.weights[:, :-2, :-3], whole.weights, atol=1e-6)
    single = Batch(*make_batch([BATCH.source[1][:5].tolist()], [[6, 7]], [0]))
    np.testing.assert_allclose(model.whole(single).logits[0, :3], whole.logits[1, :3], atol=2e-6)


def test_sums_tell_the_order_of_words_and_do_not_hear_marks():
    model = small().numpy
    assert np.abs(model.sum_of_words([7, 8, 9]) - model.sum_of_words([9, 8, 7])).max() > 1e-2
    np.testing.assert_array_equal(model.sum_of_words([7, 8, STOP]), model.sum_of_words([7, 8]))
    # One word of one: l_k = k/D, whatever the word.
    vector = model.weights['memory_embedding/embeddings'][7]
    np.testing.assert_allclose(model.sum_of_words([7]), np.tile(np.arange(1, 7) / 6., 4) * vector)


def test_old_sentences_share_one_age():
    stories = [[7, BAR] + [8, STOP] * 70]
    model = small()
    memories = K.get_session().run(model.model.encoder_model.outputs[0], {model.model.source: stories})[0, 1:]
    oldest, next_to = memories[:7], memories[7]
    np.testing.assert_allclose(oldest, np.tile(memories[:1], (7, 1)), atol=1e-6)
    assert np.abs(next_to - memories[0]).max() > 1e-2


def linear_logits(model):
    """The logits of the NumPy model with scores in place of weights."""
    softmax, numpy_memories.masked_softmax = numpy_memories.masked_softmax, lambda scores, exists: scores
    try:
        return model.numpy.forward(BATCH.source, BATCH.given)['logits']
    finally:
        numpy_memories.masked_softmax = softmax


def test_linear_start_has_scores_for_weights_in_training_only():
    model = small(linear_start=5, dropout=0.)
    expected, linear = model.numpy.forward(BATCH.source, BATCH.given)['logits'], linear_logits(model)
    assert np.abs(linear - expected).max() > .1
    for value, training, wanted in ((1, True, linear), (1, False, expected), (0, True, expected)):
        K.set_value(model.model.linear, value)
        np.testing.assert_allclose(model.whole(BATCH, training).logits, wanted, atol=1e-4, rtol=1e-5)
    K.set_value(model.model.linear, 1)
    np.testing.assert_allclose(model.stepped(BATCH.source, BATCH.given[:, None])[0][:, 0], expected, atol=5e-6)


@pytest.mark.parametrize('linear', [0, 1])
def test_gradient_is_the_slope_of_the_loss(linear):
    model = small(linear_start=5, dropout=0.)
    K.set_value(model.model.linear, linear)
    weights = [weight for weight in model.model.training_model.trainable_weights if 'memor' in weight.name]
    assert len(weights) == 3
    loss, session = K.sum(K.square(model.model.training_model.output)), K.get_session()
    gradients = [K.tf.convert_to_tensor(gradient) for gradient in K.gradients(loss, weights)]
    feed = {model.model.source: BATCH.source, model.model.target: BATCH.given, K.learning_phase(): 1}
    for weight, gradient in zip(weights, session.run(gradients, feed)):
        name, given = numpy_model.neutral(weight.name), model.numpy.weights
        direction, losses = np.random.RandomState(3).uniform(-1, 1, gradient.shape), []
        for step in (1e-6, -1e-6):
            model.numpy.weights = dict(given, **{name: given[name] + step * direction})
            logits = linear_logits(model) if linear else model.numpy.forward(BATCH.source, BATCH.given)['logits']
            losses.append(np.sum(logits ** 2))
        model.numpy.weights = given
        np.testing.assert_allclose(np.sum(gradient * direction), (losses[0] - losses[1]) / 2e-6, rtol=5e-4, atol=1e-3)


def test_an_optimizer_begins_again():
    weight = K.variable([1., 2.])
    optimizer = Adam(.1, averaging=.9)
    update = K.function([], [], updates=optimizer.get_updates(K.sum(K.square(weight)), [weight]))
    update([])
    after_one = K.get_value(weight)
    for _ in range(3):
        update([])
    optimizer.restart()
    assert all(not np.any(value) for value in K.batch_get_value(optimizer.weights))
    K.set_value(weight, [1., 2.])
    update([])
    np.testing.assert_array_equal(K.get_value(weight), after_one)
    np.testing.assert_array_equal(K.get_value(optimizer.averages[0]), after_one)


@pytest.mark.parametrize('values, message', [
    (dict(score='general'), '--score dot'), (dict(input_feeding=True), '--input-feeding'), (dict(copy=True), '--copy'),
    (dict(attention='local-m'), '--attention global'), (dict(attention_scale=True), '--attention-scale'),
    (dict(encoder='dmn', linear_start=3), '--linear-start'),
    (dict(linear_start=9, epochs=9), 'more --epochs')], ids=str)
def test_settings_that_do_not_fit(values, message):
    with pytest.raises(UserError, match=message):
        settings(**dict(dict(encoder='memory', score='dot'), **values))


@pytest.mark.parametrize('given, linear', [
    ({}, 15), (dict(epochs=32), 15), (dict(epochs=9), 4), (dict(epochs=1), 0), (dict(encoder='dmn'), 0),
    (dict(epochs=9, linear_start=7), 7)], ids=str)
def test_the_linear_start_of_stories_leaves_as_many_epochs_to_the_softmax(given, linear):
    assert resolve_settings(dict(given, task='answer', format='babi')).linear_start == linear
