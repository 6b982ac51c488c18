"""The pointer-generator: probabilities, gradients, search, training, text, compared with the NumPy model and loops."""
import itertools

import tf_session  # first: it fixes the import order
import numpy as np
import pytest
import tensorflow as tf
from keras import backend as K
from text.batches import pad
from text.corpus_builder import encode_pairs
from text.vocabulary import END, PAD, SPECIALS, START, UNK, Vocabulary
import pointer_generator
import beam_search
import small_models
from storage.run_directory import RunDirectory
from training.schedule import first_state
from token_loss import TokenLoss
from command_line import UserError
from settings import defaults, with_defaults
from reference import numpy_losses, numpy_model, numpy_search
from small_models import VOCABULARY, Batch, Small
from training.trainer import Trainer
from translator import Translator

CASES = [
    dict(score='concat', input_feeding=True, encoder_units=8),
    dict(score='general', cell='gru', bidirectional=False, share_vocabulary=True, tie_embeddings=True),
]
# What a copy of each source position writes: rows with two names, with none, with one alone; repeats of names and
# words; a source shorter than the others.
SOURCE = np.array([[5, 1, 7, 1, 6, 5, 1], [9, 8, 4, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]])
COPIED = np.array([[5, 13, 7, 14, 13, 5, 13], [9, 9, 4, 0, 0, 0, 0], [13, 0, 0, 0, 0, 0, 0]])
TARGET = [[13, 5, 14, 6], [9, 8], [13, 4, 13]]
BATCH = Batch(SOURCE, pad([[START] + row for row in TARGET]), pad([row + [END] for row in TARGET]))


def copying(seed=0, **values):
    """A small model that copies `COPIED`."""
    made = Small(seed, copy=True, **values)
    made.fed = {made.model.copied: COPIED}
    return made


PARAMETERS = [pytest.param(case, id=case['score'], marks=marks) for case, marks in zip(CASES, ([], pytest.mark.slow))]


def assert_close(actual, expected, tolerance=1e-6):
    """Equal, minus infinity included, to `tolerance` of the largest finite number, or of 1."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    assert np.array_equal(actual[~finite], expected[~finite])
    worst = np.max(np.abs(actual[finite] - expected[finite])) / max(1., np.max(np.abs(expected[finite])))
    assert worst <= tolerance, 'off by %g' % worst


@pytest.fixture(scope='module', params=PARAMETERS)
def small(request):
    with tf_session.temporary(threads=1):
        made = copying(**request.param)
        made.logits, made.alignment, *_ = made.whole(BATCH)
        made.log_p = numpy_model.log_softmax(made.logits)
        yield made


# Values

def test_log_probabilities_are_those_of_the_numpy_model_and_sum_to_one(small):
    expected = small.numpy.forward(SOURCE, BATCH.given, COPIED)
    assert_close(small.log_p, expected['logits'])
    assert_close(small.alignment, expected['weights'])
    assert small.logits.shape[2] == VOCABULARY + 2
    assert np.max(np.abs(np.exp(expected['logits']).sum(axis=2) - 1)) < 1e-12
    assert np.all(0.02 < expected['p_gen']) and np.all(expected['p_gen'] < 0.98)  # both ways count


def test_attention_to_all_occurrences_of_a_word_is_summed_without_padding(small):
    vocabulary = small.numpy.forward(SOURCE, BATCH.given, COPIED)
    for row, step, word in itertools.product(range(3), range(BATCH.given.shape[1]), range(VOCABULARY + 2)):
        p_gen = vocabulary['p_gen'][row, step, 0]
        logits = vocabulary['vocabulary_logits'][row, step]
        p = p_gen * np.exp(logits[word]) / np.sum(np.exp(logits)) if word < VOCABULARY else 0.
        for position, written in enumerate(COPIED[row]):
            if written == word and SOURCE[row, position] != PAD:
                p += (1. - p_gen) * small.alignment[row, step, position]
        assert abs(np.exp(small.log_p[row, step, word]) - p) < 1e-6, (row, step, word)
    assert np.all(small.logits[1, :, VOCABULARY:] == -np.inf)  # that source has no name
    assert np.all(small.logits[2, :, VOCABULARY + 1] == -np.inf)


def test_a_word_of_tiny_probability_has_a_finite_logarithm(session):
    layer = pointer_generator.PointerGenerator()
    layer.build([(None, None, 3), (None, None, 2), (None, 2, 1), (None, None, 1), (None, None, 1)])
    inputs = [[[[0., 200., -200.]]], [[[1., 0.]]], [[[0.], [0.]]], [[[0.]]], [[[0.]]]]
    inputs = [tf.constant(np.array(one, 'f')) for one in inputs]
    outputs = layer.call(inputs + [tf.constant([[3, 4]])])
    found, gradient = K.get_session().run([outputs, tf.gradients(tf.nn.log_softmax(outputs), inputs[:2])])
    log_p = numpy_model.log_softmax(found[0, 0])
    assert_close(log_p[[1, 3]], np.log([.5, .5]))
    assert_close(log_p[[0, 2]], np.log(.5) - [200, 400])
    assert -90 < log_p[4] < -80  # 1e-37 in place of no attention at all
    assert np.all(np.isfinite(gradient[0])) and np.all(np.isfinite(gradient[1]))


def test_one_step_at_a_time_equals_the_whole_sequence_names_fed_as_unknown(small):
    logits, weights = small.stepped(SOURCE, BATCH.given[:, None])
    assert_close(logits[:, 0], small.logits)
    assert_close(weights[:, 0], small.alignment)
    unknown = np.where(BATCH.given < VOCABULARY, BATCH.given, UNK)
    assert_close(small.whole(BATCH._replace(given=unknown)).logits, small.logits)


def test_a_sentence_alone_equals_itself_in_a_batch(small):
    batch, small.fed = small.fed, {}
    for row in range(3):
        length, steps = np.count_nonzero(SOURCE[row]), np.count_nonzero(BATCH.given[row])
        small.fed = {small.model.copied: COPIED[row:row + 1, :length]}
        logits = small.whole(Batch(SOURCE[row:row + 1, :length], BATCH.given[row:row + 1, :steps], None)).logits
        assert logits.shape[2] == max(VOCABULARY, COPIED[row].max() + 1)
        assert_close(logits[0], small.logits[row, :steps, :logits.shape[2]])
    small.fed = batch


def test_no_weight_is_trained_or_written_twice(small):
    names = [weight.name for weight in small.model.training_model.weights]
    assert len(names) == len(set(names)) and 'pointer_generator/kernel:0' in names


# Losses and gradients

@pytest.mark.slow
@pytest.mark.parametrize('case', CASES, ids=[case['score'] for case in CASES])
def test_in_float64_losses_and_gradients_are_those_of_the_numpy_model(float64, session, case):
    small = copying(recurrent_activation='sigmoid', **case)
    rate, valid, model = 0.7, BATCH.output != PAD, small.model.training_model

    def expected():
        stages = small.numpy.forward(SOURCE, BATCH.given, COPIED)
        nll = numpy_losses.loss(stages['logits'], BATCH.output)
        return stages, nll + rate * numpy_losses.coverage_loss(stages['weights'], BATCH.output), nll

    stages, *losses = expected()
    assert losses[0] > losses[1] + 0.01
    loss = TokenLoss(attention_loss=rate * pointer_generator.coverage_loss(small.model.alignment_model.outputs[1]))
    model.compile('sgd', loss.loss, sample_weight_mode='temporal',
                  weighted_metrics=[loss.negative_log_likelihood, loss.token_accuracy])
    accuracy = np.mean(np.argmax(stages['logits'], -1)[valid] == BATCH.output[valid])
    weights = valid.astype(K.floatx())
    assert_close(model.test_on_batch([SOURCE, BATCH.given, COPIED], BATCH.output[:, :, None], weights),
                 losses + [accuracy], 1e-12)
    gradients = session.run(
        [tf.convert_to_tensor(one) for one in K.gradients(model.total_loss, model.trainable_weights)],
        {**small.fed, small.model.source: SOURCE, small.model.target: BATCH.given, K.learning_phase(): 0,
         model.targets[0]: BATCH.output[:, :, None], model.sample_weights[0]: weights})
    step = 1e-5
    for weight, gradient in zip(model.trainable_weights, gradients):
        value = small.numpy.weights[numpy_model.neutral(weight.name)]
        assert np.all(np.isfinite(gradient))
        largest = np.unravel_index(np.argmax(np.abs(gradient)), value.shape)
        kept, around = value[largest], []
        for sign in (1, -1):
            value[largest] = kept + sign * step
            around.append(expected()[1])
        value[largest] = kept
        difference = (around[0] - around[1]) / (2 * step)
        assert abs(gradient[largest] - difference) <= 1e-8 + 1e-6 * abs(difference), weight.name


def test_the_coverage_loss_measures_repeated_attention(session):
    weights = np.array([[[.5, .5, 0.], [.25, .75, 0.], [0., 0., 1.]], [[1., 0., 0.]] * 3])
    found = K.get_session().run(pointer_generator.coverage_loss(tf.constant(weights)))
    assert_close(found, [[0., .25 + .5, 0.], [0., 1., 1.]], 1e-12)
    target = np.array([[5, 6, 3], [7, 3, 0]])
    assert_close(numpy_losses.coverage_losses(weights, target), [[0., .75, 0.], [0., 1., 0.]], 1e-12)
    assert abs(numpy_losses.coverage_loss(weights, target) - (.75 + 1.) / 5) < 1e-12


def test_an_empty_source_gives_the_vocabulary_distribution_and_an_unattended_name_a_finite_logarithm(small):
    source, copied = np.array([[5, 1], [0, 0]]), np.array([[5, 13], [0, 0]])
    found = small.numpy.forward(source, BATCH.given[:2], copied)
    expected = numpy_model.log_softmax(found['vocabulary_logits'])
    assert_close(found['logits'][1], np.pad(expected[1], [(0, 0), (0, 1)], 'constant', constant_values=-np.inf), 1e-12)
    logits = small.numpy.mixture(np.zeros((1, VOCABULARY)), np.array([[.5]]), np.eye(VOCABULARY + 1)[5:6], copied[:1])
    assert_close(logits[0, [4, 5, 13]], np.log([.5 / 13, .5 / 13 + .5, .5e-37]), 1e-12)


# Search

def test_greedy_search_is_that_of_the_numpy_model(small):
    limits = np.array([7, 7, 7], 'i')
    found = K.get_session().run(beam_search.greedy(small.model.step, small.model.start(), tf.constant(limits)),
                                {small.model.source: SOURCE, **small.fed})
    expected = numpy_search.greedy(small.numpy, SOURCE, limits, COPIED)
    assert np.array_equal(found.ids[:, 0], expected.ids) and np.any(expected.ids >= VOCABULARY)
    for field in ('log_probabilities', 'weights', 'margins'):
        assert_close(getattr(found, field)[:, 0], getattr(expected, field), 1e-5)


def test_beam_search_is_that_of_the_numpy_model(small):
    limits = np.array([6, 4, 6], 'i')
    options = beam_search.Options(beam_width=3, n_best=2, no_repeat_ngram=1, length_penalty=1.)
    found = K.get_session().run(beam_search.beam(small.model.step, small.model.start(), tf.constant(limits), options,
                                                 None),
                                {small.model.source: SOURCE, **small.fed})
    expected = numpy_search.beam(small.numpy, SOURCE, limits, 3, 2, length_penalty=1., no_repeat_ngram=1, copied=COPIED)
    for row, hypotheses in enumerate(expected):
        for number, one in enumerate(hypotheses):
            length = found.lengths[row, number]
            assert found.ids[row, number, :length].tolist() == one.ids
            assert_close(found.log_probabilities[row, number, :length], one.log_probabilities, 1e-5)
            assert abs(found.rankings[row, number] - one.ranking) < 1e-5
    assert any(word >= VOCABULARY for hypotheses in expected for one in hypotheses for word in one.ids)


# From text to text

KNOWN = 'my name is he likes her'.split()
FORMS = ['my name is %s', 'he likes %s', '%s likes her']
NAMES = [first + second for first in ('ka', 'mo', 'ri', 'su', 'te') for second in ('ba', 'do', 'lu', 'ny', 'xi')]
UNSEEN = ['my name is zorro', 'he likes quark', 'yoyo likes her', 'zorro likes zorro']


def folder(path, **values):
    """A locked run directory with vocabularies of `KNOWN` only, and its settings."""
    config = dict(defaults(), **dict(
        small_models.SMALL, units=16, embedding=12, score='general', dropout=0., clip_norm=5., learning_rate=2e-2,
        cell='gru', batch_size=25, copy=True, source_tokenizer='space', target_tokenizer='space', **values))
    vocabulary = Vocabulary(list(SPECIALS) + KNOWN)
    files = {'vocab.%s.txt' % side: vocabulary.to_bytes() for side in ('source', 'target')}
    return RunDirectory.create(str(path), config, files, {}), with_defaults(config), vocabulary


def corpus(vocabulary):
    """Sentences in reverse order: 'he likes kaba' to 'kaba likes he'. No name is in the vocabulary."""
    sources = [(form % one).split() for form in FORMS for one in NAMES]
    return encode_pairs(sources, [one[::-1] for one in sources], vocabulary, vocabulary, copy=True)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A run that has learnt to reverse sentences, as a `Translator`."""
    path = tmp_path_factory.mktemp('run') / 'copied'
    run, chosen, vocabulary = folder(path, epochs=25, coverage_loss=0.2)
    with run, tf_session.temporary(threads=1):
        encoded = corpus(vocabulary)
        trainer = Trainer(chosen, len(vocabulary), len(vocabulary), encoded, encoded, run)
        trainer.fit()
        assert trainer.state.log[-1]['val_accuracy'] > 0.99
    return Translator.load(str(path))


@pytest.mark.slow
def test_names_never_seen_are_copied_after_training(trained):
    greedy = [one.text for one, in trained.translate(UNSEEN, batch_size=2)]
    assert greedy == [' '.join(text.split()[::-1]) for text in UNSEEN]
    beams = trained.translate(UNSEEN + [''], beam_width=3, n_best=3, no_repeat_ngram=2)
    assert [hypotheses[0].text for hypotheses in beams] == greedy + ['']
    assert all(len(hypotheses) == 3 for hypotheses in beams[:-1])


@pytest.mark.slow
def test_the_score_of_a_beams_hypothesis_is_that_of_the_training_graph(trained):
    pairs, made = [], []
    for text, hypotheses in zip(UNSEEN, trained.translate(UNSEEN, beam_width=4, n_best=4)):
        for one in hypotheses:
            if one.ended and one.tokens and '<unk>' not in one.tokens:
                pairs.append((text, one.text))
                made.append(one)
    assert len(made) > 6 and sum('zorro' in one.tokens for one in made) >= 2
    for one, scored in zip(made, trained.score(pairs, batch_size=3)):
        assert abs(one.score - scored.score) < 1e-5
        assert np.max(np.abs(np.subtract(one.log_probabilities, scored.log_probabilities))) < 1e-5


@pytest.mark.slow
def test_a_word_of_neither_source_nor_vocabulary_is_scored_as_unknown(trained):
    known, unknown, other = trained.score([('he likes quark', 'quark likes he'), ('he likes quark', 'zorro likes he'),
                                           ('he likes quark', 'nemo likes he')])
    assert known.score > unknown.score + 5 and unknown.score == other.score


@pytest.mark.slow
def test_an_ensemble_of_a_run_with_itself_is_the_run_and_one_that_does_not_copy_is_refused(trained, tmp_path):
    twice = Translator.load([trained.run.path] * 2)
    for one, other in zip(twice.translate(UNSEEN), trained.translate(UNSEEN)):
        assert one[0].text == other[0].text and abs(one[0].score - other[0].score) < 1e-5
    run, _, _ = folder(tmp_path / 'plain')
    run.write_config(dict(run.read_config(), copy=False))
    run.close()
    with pytest.raises(UserError, match='plain/config.json: copy is False, and True in .*copied/config.json'):
        Translator.load([trained.run.path, str(tmp_path / 'plain')])


def test_names_are_numbered_for_each_source_and_words_like_special_tokens_are_names():
    vocabulary = Vocabulary(list(SPECIALS) + ['a', 'b'])
    names = vocabulary.names('x a <s> x y'.split())
    assert names == ['x', '<s>', 'y']
    assert vocabulary.encode('x a <s> x y'.split(), names) == [6, 4, 7, 6, 8]
    assert vocabulary.encode('y b z <unk>'.split(), names) == [8, 5, UNK, UNK]
    assert vocabulary.decode([8, 5, 7, UNK], names) == ['y', 'b', '<s>', '<unk>']
    made = encode_pairs([['x', 'a'], ['y', 'x', 'a']], [['x'], ['a', 'x']], vocabulary, vocabulary, copy=True)
    (source, given, copied), output = made.batch([0, 1])
    assert source.tolist() == [[1, 4, 0], [1, 1, 4]] and copied.tolist() == [[6, 4, 0], [6, 7, 4]]
    assert given.tolist() == [[2, 6, 0], [2, 4, 7]] and output.tolist() == [[6, 3, 0], [4, 7, 3]]


@pytest.mark.slow
def test_a_resumed_training_ends_as_one_never_stopped(session, tmp_path):
    run, chosen, vocabulary = folder(tmp_path / 'run', epochs=1, coverage_loss=0.5, decay='constant')
    chosen.dropout = chosen.word_dropout = 0.2
    encoded = corpus(vocabulary)
    trainer = Trainer(chosen, len(vocabulary), len(vocabulary), encoded, encoded, run)
    trainer.fit()
    checkpoint = run.read_checkpoint()
    chosen.epochs = 2
    trainer.fit()
    whole = trainer.arrays()
    trainer._set_weights([np.zeros(K.int_shape(weight)) for weight in trainer.weights])
    trainer.state = first_state()
    trainer._restore(*checkpoint)
    assert any(not np.array_equal(value, whole[key]) for key, value in trainer.arrays().items())
    trainer.fit()
    resumed = trainer.arrays()
    assert list(resumed) == list(whole) and any('pointer_generator/kernel' in key for key in whole)
    assert all(np.array_equal(resumed[key], value) for key, value in whole.items())


# What does not go together

@pytest.mark.parametrize('values, told', [
    (dict(score='none', copy=True), '--copy needs attention, which --score none does not have'),
    (dict(score='none', coverage_loss=1.), '--coverage-loss needs attention, which'),
    (dict(coverage_loss=-1.), '--coverage-loss must be a number from 0'),
    (dict(copy=True, attention='local-p'), 'weights that sum to 1, and those of --attention local-p do not'),
    (dict(copy=True, target_tokenizer='chinese'), 'not --source-tokenizer word and --target-tokenizer chinese'),
    (dict(copy=True, source_tokenizer='bpe', target_tokenizer='bpe'), 'add --share-vocabulary'),
    (dict(copy=True, label_smoothing=0.1), '--label-smoothing would give probability')])
def test_settings_that_contradict_copying_are_refused(values, told):
    with pytest.raises(UserError, match=told):
        small_models.settings(**values)
