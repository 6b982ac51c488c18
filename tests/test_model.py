import itertools

import pytest

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K
from keras.engine import Input, Model
from keras.layers import Activation
from text.vocabulary import PAD, UNK
from model_layers import Noise, WordDropout
from seq2seq_model import Seq2Seq
from token_loss import TokenLoss
from reference import numpy_losses, numpy_model
from small_models import VOCABULARY, Batch, Small, make_batch, padded, settings

# Each value of a setting stands beside each value of every other at least once, as a test below checks.
CASES = [
    dict(score='dot', attention_scale=True, encoder_layers=2, decoder_layers=2, tie_embeddings=True),
    dict(score='dot', attention='local-m', bidirectional=False, input_feeding=True, share_vocabulary=True),
    dict(score='dot', attention='local-p', cell='gru', bidirectional=False, input_feeding=True, encoder_layers=3,
         decoder_layers=2, residual=True),
    dict(score='general', attention='local-p', bidirectional=False, share_vocabulary=True, attention_scale=True,
         encoder_units=8),
    dict(score='general', attention='local-m', input_feeding=True, encoder_layers=2, decoder_layers=3, residual=True,
         tie_embeddings=True, share_vocabulary=True, recurrent_activation='sigmoid'),
    dict(score='general', cell='gru', input_feeding=True, tie_embeddings=True, embedding=6, attention_scale=True,
         encoder_units=8),
    dict(score='concat', attention='local-p', cell='gru', input_feeding=True, encoder_layers=2, decoder_layers=2,
         residual=True, tie_embeddings=True, attention_normalize=True, attention_units=7),
    dict(score='additive', attention='local-m', cell='gru', bidirectional=False, tie_embeddings=True,
         attention_scale=True, encoder_units=4),
    dict(score='concat', bidirectional=False, encoder_layers=1, decoder_layers=2, share_vocabulary=True,
         attention_normalize=True),
    dict(score='scaled_dot', attention='local-m', cell='gru', bidirectional=False, input_feeding=True,
         encoder_layers=2, decoder_layers=1, residual=True, share_vocabulary=True),
    dict(score='scaled_dot', attention='local-p', attention_scale=True, recurrent_activation='sigmoid'),
    dict(score='scaled_dot', cell='gru', bidirectional=False, encoder_layers=2, decoder_layers=2, residual=True,
         tie_embeddings=True, share_vocabulary=True, embedding=6),
    dict(score='location', cell='gru', input_feeding=True, share_vocabulary=True),
    dict(score='location', bidirectional=False, encoder_layers=2, decoder_layers=2, residual=True,
         tie_embeddings=True, attention_scale=True, encoder_units=8),
    dict(score='none', encoder_layers=2, decoder_layers=2, residual=True, tie_embeddings=True, share_vocabulary=True,
         encoder_units=8),
    dict(score='none', cell='gru', bidirectional=False),
]
# One token, an output far behind the end of its source (local-m sees nothing there), an empty output.
BATCH = make_batch([7, 2, 1, 4], [5, 5, 1, 0])


def name(case):
    return '-'.join(key if value is True else str(value) for key, value in case.items() if value is not False)


def token_weights(batch):
    return (batch.output != PAD).astype(K.floatx())


def assert_close(actual, expected, tolerance=1e-6):
    """Equal to `tolerance` of the largest number, or of 1."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    worst = np.max(np.abs(actual - expected)) / max(1., np.max(np.abs(expected)))
    assert worst <= tolerance, 'off by %g' % worst


# Every value stands in one of these; the other pairs take longer.
FAST = (0, 1, 5, 6, 9, 10, 13, 14)


@pytest.fixture(scope='module', ids=name, params=[
    pytest.param(case, marks=[] if number in FAST else pytest.mark.slow) for number, case in enumerate(CASES)])
def small(request):
    """One graph for all checks of a case, since building it takes most of the time."""
    with tf_session.temporary(threads=1):
        made = Small(**request.param)
        made.logits, made.alignment, made.encoder_states, made.initial_states = made.whole(BATCH)
        yield made


def test_every_pair_of_settings_is_covered_and_every_value_among_the_fast():
    def depth(made):
        return max(made.encoder_layers, made.decoder_layers) > 1

    keys = [lambda made: made.score.replace('additive', 'concat'), lambda made: made.attention, lambda made: made.cell,
            lambda made: made.bidirectional, lambda made: made.input_feeding, depth, lambda made: made.residual,
            lambda made: made.tie_embeddings, lambda made: made.share_vocabulary, lambda made: made.attention_scale]
    rows = [[key(settings(**case)) for key in keys] for case in CASES]
    impossible = {frozenset(pair) for pair in (
        [(0, 'none'), (1, 'local-m')], [(0, 'none'), (1, 'local-p')], [(0, 'none'), (4, True)],
        [(0, 'none'), (9, True)],
        [(0, 'location'), (1, 'local-m')], [(0, 'location'), (1, 'local-p')],
        [(5, False), (6, True)])}
    values = [sorted({row[column] for row in rows}, key=str) for column in range(len(keys))]
    assert values[0] == ['concat', 'dot', 'general', 'location', 'none', 'scaled_dot']
    assert [sorted({rows[number][column] for number in FAST}, key=str) for column in range(len(keys))] == values
    for one, other in itertools.combinations(range(len(keys)), 2):
        for pair in itertools.product(values[one], values[other]):
            if frozenset([(one, pair[0]), (other, pair[1])]) not in impossible:
                assert any((row[one], row[other]) == pair for row in rows), (one, other, pair)


# The arithmetic, beside the NumPy model

def test_every_stage_is_that_of_the_numpy_model(small):
    expected = small.numpy.forward(BATCH.source, BATCH.given)
    assert_close(small.encoder_states, expected['encoder_states'])
    assert_close(small.initial_states, expected['initial_states'])
    assert_close(small.logits, expected['logits'])
    if small.settings.score == 'none':
        assert 'weights' not in expected and small.alignment is None
    else:
        assert_close(small.alignment, expected['weights'])


def test_the_numpy_model_uses_every_weight(small):
    class Noted(dict):
        def __getitem__(self, key):
            used.add(key)
            return dict.__getitem__(self, key)

    used, model = set(), numpy_model.NumpyModel(vars(small.settings), small.weights)
    model.weights = Noted(model.weights)
    model.forward(BATCH.source, BATCH.given)
    assert used == set(model.weights)


def test_one_step_at_a_time_equals_the_whole_sequence(small):
    logits, weights = small.stepped(BATCH.source, BATCH.given[:, None])
    assert_close(logits[:, 0], small.logits)
    assert_close(weights[:, 0], np.zeros(weights[:, 0].shape) if small.alignment is None else small.alignment)


def test_three_hypotheses_of_a_sentence_do_not_influence_each_other(small):
    hypotheses = [BATCH.given] + [make_batch([1] * 4, [5] * 4, seed).given for seed in (1, 2)]
    logits, weights = small.stepped(BATCH.source, np.stack(hypotheses, axis=1))
    for number, given in enumerate(hypotheses):
        expected = small.whole(BATCH._replace(given=given))
        assert_close(logits[:, number], expected.logits)
        if expected.weights is not None:
            assert_close(weights[:, number], expected.weights)


def test_init_scale_bounds_every_kernel(session):
    for options in (dict(score='concat', attention='local-p'), dict(score='general', copy=True),
                    dict(score='location')):
        made = Seq2Seq(settings(init_scale=0.05, **options), VOCABULARY, VOCABULARY)
        for weight, value in zip(made.training_model.weights, K.batch_get_value(made.training_model.weights)):
            if value.ndim == 2:
                assert 0.02 < np.abs(value).max() <= 0.05, weight.name


# Padding

def test_more_padding_on_both_sides_changes_neither_weights_nor_logits(small):
    more = padded(BATCH)
    rows, steps, positions = BATCH.given.shape + BATCH.source.shape[1:]
    logits, weights = small.whole(more)[:2]
    assert_close(logits[:, :steps], small.logits)
    if weights is not None:
        assert_close(weights[:, :steps, :positions], small.alignment)
        assert np.all(weights[np.broadcast_to(more.source[:, None] == 0, weights.shape)] == 0)


def test_a_sentence_alone_equals_itself_in_a_batch(small):
    for row in range(len(BATCH.source)):
        source, given = BATCH.source[row:row + 1], BATCH.given[row:row + 1]
        source, given = source[:, :np.count_nonzero(source)], given[:, :np.count_nonzero(given)]
        logits, weights = small.whole(Batch(source, given, None))[:2]
        assert_close(logits[0], small.logits[row, :given.shape[1]])
        if weights is not None:
            assert_close(weights[0], small.alignment[row, :given.shape[1], :source.shape[1]])


def test_an_empty_source_gives_finite_values_and_does_not_change_other_rows(small):
    source = BATCH.source.copy()
    source[2] = 0
    logits, weights = small.whole(BATCH._replace(source=source))[:2]
    assert np.all(np.isfinite(logits))
    assert_close(np.delete(logits, 2, 0), np.delete(small.logits, 2, 0))
    assert_close(logits, small.numpy.forward(source, BATCH.given)['logits'])
    if weights is not None:
        assert np.all(weights[2] == 0)


# float64: rounding hides nothing any more, and gradients can be checked by differences (sigmoid has no kinks)

DOUBLE = [
    dict(score='general', attention='local-p', input_feeding=True, bidirectional=False, encoder_units=8,
         decoder_layers=2, residual=True, tie_embeddings=True, recurrent_activation='sigmoid'),
    dict(score='concat', cell='gru', attention_normalize=True, attention_scale=True, share_vocabulary=True,
         tie_embeddings=True, recurrent_activation='sigmoid'),
    dict(score='location', bidirectional=False, encoder_layers=2, residual=True, recurrent_activation='sigmoid'),
]


@pytest.mark.parametrize('case', DOUBLE[:1] + [pytest.param(case, marks=pytest.mark.slow) for case in DOUBLE[1:]],
                         ids=name)
def test_in_float64_values_losses_and_gradients_are_those_of_the_numpy_model(float64, session, case):
    small = Small(**case)
    # An empty source too: its gradient must not be NaN.
    batch = make_batch([6, 2, 0, 1], [4, 5, 2, 0])
    expected = small.numpy.forward(batch.source, batch.given)
    logits, alignment = small.whole(batch)[:2]
    assert logits.dtype == np.float64
    assert_close(logits, expected['logits'], 1e-12)
    assert_close(alignment, expected['weights'], 1e-12)
    assert_close(small.stepped(batch.source, batch.given[:, None])[0][:, 0], expected['logits'], 1e-12)
    loss, valid, model = TokenLoss(0.1), batch.output != PAD, small.model.training_model
    model.compile('sgd', loss.loss, sample_weight_mode='temporal',
                  weighted_metrics=[loss.negative_log_likelihood, loss.token_accuracy])
    reported = [numpy_losses.loss(expected['logits'], batch.output, 0.1),
                numpy_losses.loss(expected['logits'], batch.output),
                np.mean(np.argmax(expected['logits'], -1)[valid] == batch.output[valid])]
    for one in (batch, padded(batch)):
        assert_close(model.test_on_batch([one.source, one.given], one.output[:, :, None], token_weights(one)),
                     reported, 1e-12)
    gradients = session.run(
        [tf.convert_to_tensor(one) for one in K.gradients(model.total_loss, model.trainable_weights)],
        {small.model.source: batch.source, small.model.target: batch.given, K.learning_phase(): 0,
         model.targets[0]: batch.output[:, :, None], model.sample_weights[0]: token_weights(batch)})
    random, step = np.random.RandomState(0), 1e-5
    for weight, gradient in zip(model.trainable_weights, gradients):
        value = small.numpy.weights[numpy_model.neutral(weight.name)]
        assert np.all(np.isfinite(gradient))
        largest = np.unravel_index(np.argmax(np.abs(gradient)), value.shape)
        for index in {largest, tuple(random.randint(size) for size in value.shape)}:
            around = []
            for sign in (1, -1):
                kept = value[index]
                value[index] = kept + sign * step
                around.append(numpy_losses.loss(small.numpy.forward(batch.source, batch.given)['logits'],
                                                batch.output, 0.1))
                value[index] = kept
            difference = (around[0] - around[1]) / (2 * step)
            assert abs(gradient[index] - difference) <= 1e-8 + 1e-6 * abs(difference), (weight.name, index)


# Dropout

def test_dropout_is_a_function_of_the_step_while_training_and_absent_in_inference(small):
    def logits(step, training):
        K.set_value(small.model.noise.step, step)
        return small.whole(BATCH, training).logits

    first = logits(5, True)
    other = logits(6, True)
    assert np.max(np.abs(first - other)) > 1e-3
    assert np.array_equal(logits(5, True), first)
    assert np.array_equal(logits(6, False), small.logits) and np.array_equal(logits(7, False), small.logits)
    assert np.max(np.abs(first - small.logits)) > 1e-3


def test_every_dropout_layer_draws_its_own_numbers(small):
    sites = [layer.site for layer in small.model.training_model.layers if hasattr(layer, 'site')]
    sites += list(small.model.cell.sites)
    made = small.settings
    assert len(sites) == len(set(sites)) == made.encoder_layers + made.decoder_layers + 1


def test_dropout_inside_the_input_feeding_loop_draws_again_at_each_step(session):
    small = Small(score='general', cell='gru', input_feeding=True, dropout=0.5)
    cell, = small.model.cell.cells
    # A cell that forgets: z = 0 and no recurrence, so that equal inputs can only differ by their masks.
    values = [small.weights['decoder/cell_1/kernel:0'], np.zeros((6, 18)), np.repeat([-9., 0., 0.], 6)]
    values[0][:, :6] = 0
    values[0][5:] = 0
    K.batch_set_value(list(zip([cell.kernel, cell.recurrent_kernel, cell.bias], values)))
    batch = Batch(BATCH.source[:1], np.full((1, 6), 5), None)
    still = small.whole(batch).weights[0]
    assert_close(still, np.repeat(still[:1], 6, axis=0))
    drawn = small.whole(batch, training=True).weights[0]
    assert len({row.tobytes() for row in drawn}) > 3


def test_noise_is_a_pure_function_of_seed_site_step_and_time(session):
    def draw(seed=1, step=0, site=1, time=0):
        noise = Noise(seed)
        drawn = noise.uniform([2000], site, time)
        K.set_value(noise.step, step)
        return K.eval(drawn)

    first = draw()
    assert np.array_equal(draw(), first)
    others = [draw(seed=2), draw(step=1), draw(site=2), draw(time=1), draw(seed=2, step=1)]
    for one, other in itertools.combinations([first] + others, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
    assert 0 <= first.min() < 0.01 and 0.99 < first.max() < 1 and abs(first.mean() - 0.5) < 0.02


def test_dropout_sets_its_share_to_zero_and_keeps_the_mean(session):
    dropped = Noise(1).dropout(tf.ones([100, 100]), 0.3, 1)
    K.get_session()
    value = session.run(dropped, {K.learning_phase(): 1})
    assert abs(np.mean(value == 0) - 0.3) < 0.02
    assert_close(np.unique(value), [0., 1. / 0.7])
    assert np.all(session.run(dropped, {K.learning_phase(): 0}) == 1)


def test_word_dropout_keeps_padding_and_special_tokens(session):
    ids = np.tile(np.arange(40, dtype='i'), (200, 1))
    given = tf.constant(ids)
    replaced = WordDropout(0.25, Noise(1), 1).call(given)
    K.get_session()
    value = session.run(replaced, {K.learning_phase(): 1})
    assert np.array_equal(value[:, :4], ids[:, :4])
    changed = value[:, 4:] != ids[:, 4:]
    assert np.all(value[:, 4:][changed] == UNK) and abs(changed.mean() - 0.25) < 0.02
    assert np.array_equal(session.run(replaced, {K.learning_phase(): 0}), ids)


def test_word_dropout_affects_source_and_target_in_training_only(session):
    small = Small(score='dot', dropout=0., word_dropout=0.9, bidirectional=False)
    plain = small.whole(BATCH).logits
    trained = small.whole(BATCH, training=True).logits
    assert_close(plain, small.numpy.forward(BATCH.source, BATCH.given)['logits'])
    assert np.max(np.abs(trained - plain)) > 1e-3
    # With 9 of 10 replaced, some step of the longest row has lost its word on either side.
    all_unknown = [np.where(ids > 3, UNK, ids) for ids in (BATCH.source, BATCH.given)]
    nearest = min(np.max(np.abs(trained - small.numpy.forward(source, given)['logits']))
                  for source, given in [(all_unknown[0], BATCH.given), (BATCH.source, all_unknown[1])])
    assert nearest > 1e-3


# Loss

@pytest.fixture
def scores(session):
    """Logits `(B, T, V)`, targets `(B, T)` with padding, and a Keras model that returns its input as logits."""
    random = np.random.RandomState(3)
    logits = random.normal(size=(3, 4, 7)).astype('f') * 2
    output = np.array([[4, 5, 6, 3], [6, 3, 0, 0], [3, 0, 0, 0]])
    inputs = Input((None, 7))
    return logits, output, Model(inputs, Activation('linear')(inputs))


@pytest.mark.parametrize('smoothing', [0., 0.2])
def test_loss_is_the_smoothed_mean_over_valid_tokens_and_the_reported_figures_are_unsmoothed(scores, smoothing):
    logits, output, model = scores
    loss = TokenLoss(smoothing)
    model.compile('sgd', loss.loss, sample_weight_mode='temporal',
                  weighted_metrics=[loss.negative_log_likelihood, loss.token_accuracy])
    valid = output != 0

    def report(logits):
        return model.test_on_batch(logits, output[:, :, None], sample_weight=valid.astype('f'))

    p = np.exp(logits.astype('f8')) / np.sum(np.exp(logits.astype('f8')), axis=-1, keepdims=True)
    nll = -np.log(np.take_along_axis(p, output[:, :, None], -1))[:, :, 0]
    smoothed = (1 - smoothing) * nll + smoothing * np.mean(-np.log(p), axis=-1)
    expected = [np.mean(smoothed[valid]), np.mean(nll[valid]), np.mean(np.argmax(p, -1)[valid] == output[valid])]
    assert_close(report(logits), expected)
    assert_close(numpy_losses.loss(logits, output, smoothing), expected[0])
    assert 0 < expected[2] < 1
    elsewhere = logits.copy()
    elsewhere[~valid] = np.random.RandomState(4).normal(size=(np.sum(~valid), 7)) * 50
    assert_close(report(elsewhere), expected)


def test_an_improbable_token_costs_its_logits_not_the_clipped_probability_of_keras(scores):
    logits, output, model = scores
    logits = np.zeros_like(logits)
    logits[:, :, 1] = 40.
    model.compile('sgd', TokenLoss().loss, sample_weight_mode='temporal')
    assert_close(model.test_on_batch(logits, output[:, :, None], sample_weight=(output != 0).astype('f')), 40.)
