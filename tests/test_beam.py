"""Beam search against slow loops over the NumPy model, exhaustive enumeration and TensorFlow 1.12's own decoder."""
import time

import pytest

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K
from tensorflow.contrib import seq2seq
from tensorflow.nn.rnn_cell import RNNCell
from text.vocabulary import END, PAD, START, UNK
import beam_search
import search_options
from decoding import search_graph
from search_options import Options
from command_line import UserError
from reference import numpy_model
from small_models import VOCABULARY, Small, make_batch

SOURCE = make_batch([7, 2, 1, 4, 5, 3], [1] * 6).source
LIMITS = np.array([9, 9, 8, 2, 7, 1])
WORDS = [UNK] + list(range(END, VOCABULARY))  # all that may be chosen


class Searched(Small):
    """A small model and the searches over it, each graph made once."""

    def __init__(self, **values):
        super(Searched, self).__init__(**values)
        self.limits = tf.placeholder(tf.int32, [None])
        self.made = {}

    def find(self, options, source=SOURCE, limits=LIMITS, function=beam_search.search):
        key = options, function
        if key not in self.made:
            self.made[key] = function(self.model.step, self.model.start(), self.limits, options,
                                      self.model.memory.mask)
        return K.get_session().run(self.made[key], {self.model.source: source, self.limits: limits})


@pytest.fixture(scope='module')
def searched():
    with tf_session.temporary(threads=1):
        yield Searched(score='general', seed=1, scale=3.)


# The other side: one sentence, one hypothesis at a time

class Hypothesis(object):
    def __init__(self, states, ids=(), log_probabilities=(), weights=(), margins=()):
        self.states, self.ids, self.log_probabilities = states, list(ids), list(log_probabilities)
        self.weights, self.margins, self.score = list(weights), list(margins), sum(log_probabilities)

    def ranking(self, options):
        length = float(len(self.ids))
        value = self.score / (length if options.length_penalty == 'average'
                              else ((5. + length) / (5. + 1.)) ** options.length_penalty)
        if options.coverage_penalty:
            for attention in np.sum(self.weights, axis=0):
                value += options.coverage_penalty * np.log(min(max(attention, 1e-7), 1.))
        return value

    def may_take(self, token, options):
        if token == END:
            return len(self.ids) >= options.min_length
        n, ids = options.no_repeat_ngram, self.ids + [token]
        return not n or ids[-n:] not in [ids[i:i + n] for i in range(len(ids) - n)]

    def continuations(self, numpy, memory, options):
        last = self.ids[-1] if self.ids else START
        stages, states = numpy.step(np.array([last]), self.states, memory)
        logits, weights = stages['logits'][0], stages.get('weights', np.zeros(memory.mask.shape))[0]
        free = [token for token in WORDS if self.may_take(token, options)]
        for token in free:
            runner_up = max(logits[other] for other in free if other != token)
            yield Hypothesis(states, self.ids + [token],
                             self.log_probabilities + [numpy_model.log_softmax(logits)[token]],
                             self.weights + [weights], self.margins + [logits[token] - runner_up])


def beam_by_hand(numpy, source, limit, options):
    """Hypotheses for one sentence `(S,)`, best first. It does not stop early."""
    memory, states = numpy.start(source[None])
    live, finished = [Hypothesis(states)], []
    while live:
        found = [one for hypothesis in live for one in hypothesis.continuations(numpy, memory, options)]
        found.sort(key=lambda one: -one.score)
        found, live = found[:options.beam_width - len(finished)], []
        for one in found:
            (finished if one.ids[-1] == END or len(one.ids) == limit else live).append(one)
    return sorted(finished, key=lambda one: -one.ranking(options))[:options.n_best]


def assert_found(found, row, expected, options, length):
    """The hypotheses of one row are the expected ones."""
    assert np.sum(found.rankings[row] > -np.inf) == len(expected)
    for n, one in enumerate(expected):
        count = len(one.ids)
        assert found.lengths[row, n] == count
        assert found.ids[row, n].tolist() == one.ids + [PAD] * (found.ids.shape[2] - count)
        assert abs(found.rankings[row, n] - one.ranking(options)) < 2e-5
        for field in ('log_probabilities', 'margins'):
            values = getattr(found, field)[row, n]
            assert np.max(np.abs(values[:count] - getattr(one, field))) < 2e-5 and not np.any(values[count:]), field
        weights = found.weights[row, n]
        assert np.max(np.abs(weights[:count, :length] - one.weights)) < 1e-5
        assert not np.any(weights[count:]) and not np.any(weights[:, length:])


# Weights large enough for varied outputs; the seeds keep rankings apart by more than rounding.
KINDS = [
    (dict(score='general', seed=1, scale=3.), Options(4, 4, 0.6, 0.2)),
    pytest.param(dict(score='dot', cell='gru', attention='local-m', input_feeding=True, tie_embeddings=True,
                      bidirectional=False, seed=18, scale=2.), Options(3, 2, 'average', 0.1, min_length=3),
                 marks=pytest.mark.slow),
    (dict(score='concat', attention='local-p', encoder_layers=2, decoder_layers=2, residual=True, input_feeding=True,
          attention_normalize=True, seed=3, scale=2.), Options(5, 5, 1., no_repeat_ngram=2)),
    pytest.param(dict(score='none', cell='gru', decoder_layers=2, seed=4, scale=3.),
                 Options(3, 3, min_length=2, no_repeat_ngram=1), marks=pytest.mark.slow),
    pytest.param(dict(score='location', attention_scale=True, share_vocabulary=True, recurrent_activation='sigmoid',
                      seed=5, scale=3.), Options(2, 1, 1.5, 0.4, no_repeat_ngram=3), marks=pytest.mark.slow),
]


@pytest.mark.parametrize('values, options', KINDS, ids=lambda case: case.get('score') if isinstance(case, dict) else '')
def test_beam_search_equals_a_slow_loop_over_the_numpy_model_for_every_kind_of_model(values, options, session):
    searched = Searched(**values)
    found = searched.find(options)
    lengths = []
    for row, (source, limit) in enumerate(zip(SOURCE, LIMITS)):
        length = np.count_nonzero(source)
        expected = beam_by_hand(searched.numpy, source[:length], limit, options)
        assert_found(found, row, expected, options, length)
        lengths += [len(one.ids) for one in expected]
    assert len(set(lengths)) >= 4  # ends of their own, and cut ones


@pytest.mark.parametrize('values', [
    [Options(4, 4, 0.6, 0.2, no_repeat_ngram=2), Options(2, 1, 'average', 0.4, 3, no_repeat_ngram=1),
     Options(3, 3, 1.5, 0.1, 2, no_repeat_ngram=4)],
    pytest.param([Options(4, 4, 0.6), Options(3, 2, 'average', 0., 3), Options(5, 5, 1.5)], marks=pytest.mark.slow),
    pytest.param([Options(), Options(1, 1, 1., 0., 4)], marks=pytest.mark.slow)], ids=['all', 'beam', 'greedy'])
def test_one_graph_with_fed_options_finds_what_the_slow_loop_finds_for_each_of_their_values(values, searched):
    assert len(set(map(search_graph.kind, values))) == 1
    placeholders, result = search_graph.build([searched.model], values[0])
    for options in values:
        feeds = dict(zip(placeholders, search_graph.values(options, LIMITS, np.inf)))
        feeds[searched.model.source] = SOURCE
        found = K.get_session().run(result, feeds)
        for row, (source, limit) in enumerate(zip(SOURCE, LIMITS)):
            length = np.count_nonzero(source)
            assert_found(found, row, beam_by_hand(searched.numpy, source[:length], limit, options), options, length)


@pytest.mark.parametrize('width', [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_search_takes_one_step_where_its_deadline_has_passed_and_all_where_time_is_left(width, searched):
    options = Options(width, min_length=8)
    placeholders, result = search_graph.build([searched.model], options)
    for deadline, steps in ((0., 1), (time.time() + 1e4, 9)):
        feeds = dict(zip(placeholders, search_graph.values(options, [9] * len(SOURCE), deadline)))
        feeds[searched.model.source] = SOURCE
        found = K.get_session().run(result, feeds)
        # No hypothesis of a beam is finished after one step.
        assert np.all(found.lengths == (steps if width == 1 or steps == 9 else 0))


# Exhaustive enumeration

def every_sequence(numpy, source, limit):
    """(ids, log p, coverage) of all outputs of one sentence up to `limit` tokens, `</s>` counted."""
    memory, states = numpy.start(source[None])
    level, found = [Hypothesis(states)], []
    for t in range(limit):
        following = [one for hypothesis in level for one in hypothesis.continuations(numpy, memory, Options())]
        found += [one for one in following if t == limit - 1 or one.ids[-1] == END]
        level = [one for one in following if one.ids[-1] != END]
    assert len(found) == sum(10 ** t for t in range(limit)) + 10 ** limit
    return found


def test_a_full_width_beam_finds_the_true_best_output_and_all_others_in_order(searched):
    source, limit = SOURCE[:1], 3
    found = every_sequence(searched.numpy, source[0], limit)
    everything, best = len(found), set()
    for options in (Options(everything), Options(everything, everything, 1.5, 0.3)):
        ordered = sorted(found, key=lambda one: -one.ranking(options))
        assert ordered[0].ranking(options) - ordered[1].ranking(options) > 1e-4
        beam = searched.find(options, source, [limit])
        ids = [tuple(ids[:length]) for ids, length in zip(beam.ids[0].tolist(), beam.lengths[0])]
        assert ids[0] == tuple(ordered[0].ids)
        best.add(ids[0])
        rankings = [one.ranking(options) for one in ordered[:options.n_best]]
        assert np.max(np.abs(beam.rankings[0] - rankings)) < 2e-5
        # Equal rankings but for rounding may change places; each output stands there once.
        assert len(ids) == options.n_best and len(set(ids)) == len(ids)
        by_ids = {tuple(one.ids): one.ranking(options) for one in found}
        assert np.max(np.abs(beam.rankings[0] - [by_ids[one] for one in ids])) < 2e-5
        assert np.all(np.diff(beam.rankings[0]) <= 0)
    assert len(best) >= 2  # or the penalties would not matter here


# Width 1

STRICT = Options(1, 1, 1., 0.3, min_length=4, no_repeat_ngram=1)


@pytest.mark.parametrize('options', [pytest.param(Options(), marks=pytest.mark.slow), STRICT], ids=['plain', 'strict'])
def test_a_beam_of_width_1_equals_greedy_search_bit_for_bit(searched, options):
    greedy, beam = [searched.find(options, function=function) for function in (beam_search.greedy, beam_search.beam)]
    for name in ('ids', 'lengths', 'log_probabilities', 'weights', 'margins'):
        assert np.array_equal(getattr(greedy, name), getattr(beam, name)), name
    assert np.max(np.abs(greedy.rankings - beam.rankings)) < 2e-6  # the sum of a row, taken in another order
    assert len(set(greedy.lengths[:, 0])) >= 3


def test_greedy_search_and_beam_search_have_the_same_limits(searched):
    found = searched.find(STRICT)
    for row, (source, limit) in enumerate(zip(SOURCE, LIMITS)):
        length = np.count_nonzero(source)
        assert_found(found, row, beam_by_hand(searched.numpy, source[:length], limit, STRICT), STRICT, length)


# What may not be chosen

def outputs(found):
    return [ids[:length].tolist() for row in zip(found.ids, found.lengths) for ids, length in zip(*row) if length]


def ngrams(ids, n):
    return [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]


@pytest.mark.slow
def test_no_output_repeats_an_ngram_and_outputs_without_repetition_are_unchanged(searched):
    limits, changed, kept = np.full(6, 12), 0, 0
    free = searched.find(Options(), limits=limits)
    for n in (1, 2):
        blocked = searched.find(Options(no_repeat_ngram=n), limits=limits)
        for ids, (before,), row in zip(blocked.ids[:, 0].tolist(), free.ids.tolist(), range(6)):
            ids, before = ids[:blocked.lengths[row, 0]], before[:free.lengths[row, 0]]
            assert len(set(ngrams(ids, n))) == len(ngrams(ids, n))
            repeats = len(set(ngrams(before, n))) < len(ngrams(before, n))
            assert (ids != before) == repeats
            changed, kept = changed + repeats, kept + (not repeats)
    assert changed >= 3 and kept >= 3
    found = outputs(searched.find(Options(4, 4, no_repeat_ngram=2), limits=limits))
    assert len(found) == 6 * 4
    for ids in found:
        assert len(set(ngrams(ids, 2))) == len(ngrams(ids, 2))


def test_an_output_ends_if_no_token_is_allowed(searched):
    found = outputs(searched.find(Options(3, 3, min_length=15, no_repeat_ngram=1), limits=np.full(6, 20)))
    assert len(found) == 6 * 3
    for ids in found:
        assert sorted(ids[:-1]) == sorted(set(WORDS) - {END}) and ids[-1] == END


def test_neither_pad_nor_start_is_ever_chosen_however_probable():
    with tf_session.temporary(threads=1) as one:
        def step(tokens, states, rows):
            logits = tf.constant([9., 1., 8., 0.5, 0.9, 7.5, 1.1]) + tf.zeros(tf.concat([tf.shape(tokens), [7]], 0))
            return logits, states, tf.zeros(tf.concat([tf.shape(tokens), [3]], 0))

        for width in (1, 2, 6):
            found = one.run(beam_search.search(step, [tf.zeros([2, 1, 1])], tf.constant([3, 4]), Options(width, width)))
            assert set(np.unique(found.ids)) <= {0, 1, 3, 4, 5, 6}
            assert all(PAD not in ids for ids in outputs(found))
            assert found.ids[1, 0].tolist() == [5, 5, 5, 5]
            # Margins are over what may be chosen, log-probabilities over everything.
            assert np.allclose(found.margins[1, 0], 7.5 - 1.1)
            assert np.allclose(found.log_probabilities[1, 0], 7.5 - np.log(np.sum(np.exp([9, 1, 8, .5, .9, 7.5, 1.1]))))


@pytest.mark.parametrize('penalty', [1., 'average'])
def test_a_short_output_does_not_end_the_search_while_a_longer_one_may_rank_higher(penalty):
    with tf_session.temporary(threads=1) as one:
        def step(tokens, states, rows):
            logits = tf.log([1e-9, 1e-9, 1e-9, .4, .6]) + tf.zeros(tf.concat([tf.shape(tokens), [5]], 0))
            return logits, states, tf.zeros(tf.concat([tf.shape(tokens), [3]], 0))

        found = one.run(beam_search.search(step, [tf.zeros([1, 1, 1])], tf.constant([9]), Options(2, 1, penalty)))
        lengths = np.arange(1, 10)  # all words but the last are 4; the last is </s>, and at the limit 4 too
        scores = (lengths - 1) * np.log(.6) + np.where(lengths < 9, np.log(.4), np.log(.6))
        rankings = scores / (lengths if penalty == 'average' else (5 + lengths) / 6)
        assert np.argmax(rankings) == found.lengths[0, 0] - 1 and abs(found.rankings[0, 0] - max(rankings)) < 1e-5


def test_no_output_is_shorter_than_its_minimum_or_longer_than_its_maximum_length(searched):
    found = searched.find(Options(4, 4, min_length=5))
    for row, limit in enumerate(LIMITS):
        for ids, length in zip(found.ids[row].tolist(), found.lengths[row]):
            assert END not in ids[:5] and length <= limit
            assert length == limit or ids[length - 1] == END
    assert END in found.ids[:, :, 5:]  # it is allowed then, and taken


def test_maximum_lengths_follow_from_the_source():
    def limits(**options):
        return beam_search.max_lengths([1, 7, 100], Options(**options)).tolist()

    assert limits() == [12, 24, 210]
    assert limits(max_length=30) == [30, 30, 30]
    assert limits(max_length_ratio=0.29) == [1, 2, 29]
    assert limits(max_length_ratio=1.5, max_length=12) == [1, 10, 12]
    assert limits(max_length=10 ** 12) == [2 ** 31 - 1] * 3
    # A minimum length, and a place for `</s>` after it, raises the limits that depend on the source.
    assert limits(min_length=100) == [101, 101, 210]
    assert limits(min_length=3, max_length_ratio=0.29) == [4, 4, 29]
    assert limits(min_length=9, max_length=9) == [9, 9, 9]


@pytest.mark.parametrize('options, message', [
    (dict(beam_width=0), 'beam_width must be a whole number from 1 to 1000, not 0'),
    (dict(beam_width=2.), 'beam_width'), (dict(n_best=-1), 'n_best'), (dict(beam_width=True), 'beam_width'),
    (dict(beam_width=2, n_best=3),
     'n_best 3 is more than a beam of width 2 finds: give a beam_width of at least as many'),
    (dict(length_penalty=-0.5), "length_penalty must be a number from 0 to 100 or 'average', not -0.5"),
    (dict(length_penalty='mean'), "'mean'"), (dict(coverage_penalty=float('nan')), 'coverage_penalty'),
    (dict(min_length=-1), 'min_length'), (dict(max_length=0), 'max_length'), (dict(max_length_ratio=0), 'above 0'),
    (dict(min_length=6, max_length=5), 'min_length 6 is above max_length 5: lower the one or raise the other'),
    (dict(no_repeat_ngram=1.5), 'no_repeat_ngram'), (dict(beam_width=2 ** 40), 'to 1000'),
    (dict(coverage_penalty=1e308), 'coverage_penalty must be a number from 0 to'),
    (dict(no_repeat_ngram=2 ** 52), 'to 100,'), (dict(min_length=10 ** 8), 'to 10000,'),
    (dict(max_length=2 ** 63), 'max_length'), (dict(max_length_ratio=1e4), '1000')], ids=str)
def test_contradicting_options_are_refused_in_one_line(options, message):
    with pytest.raises(UserError) as caught:
        search_options.check(Options(**options))
    assert message in str(caught.value) and '\n' not in str(caught.value)
    search_options.check(Options(4, 4, 'average', 0.2, 2, 9, 1.5, 3))
    search_options.check(Options(np.int64(4), np.int32(1), np.float32(.5), max_length_ratio=np.float64(2)))


# Batches

@pytest.mark.parametrize('options', [Options(), Options(4, 3, 1., 0.1)], ids=['greedy', 'beam'])
def test_an_output_does_not_depend_on_the_other_sentences_of_the_batch(searched, options):
    sentences = make_batch(np.random.RandomState(7).randint(2, 9, 32).tolist(), [1] * 32, seed=2).source
    # Neighbours longer than all of them, which end late.
    others = make_batch([12] * 6, [1] * 6, seed=3).source
    limits = {len(batch): np.full(len(batch), 9) for batch in (sentences, sentences[:1], sentences[:7])}
    together, compared = searched.find(options, sentences, limits[32]), 0
    for row in range(0, 32, 4):
        source = sentences[row:row + 1, :np.count_nonzero(sentences[row])]
        alone = searched.find(options, source, limits[1])
        wide = np.pad(source, [(0, 0), (0, 12 - source.shape[1])], 'constant')
        mixed = searched.find(options, np.concatenate([others[:3], wide, others[3:]]), limits[7])
        rankings = np.sort(alone.rankings[0])[::-1]
        for found, place in ((together, row), (mixed, 3)):
            assert np.max(np.abs(found.rankings[place] - rankings)) < 1e-5
            count = np.argmax(np.append(np.diff(rankings) > -1e-5, True)) + 1  # the first that are clearly apart
            for n in range(min(count, len(rankings))):
                length = alone.lengths[0, n]
                assert found.lengths[place, n] == length
                assert found.ids[place, n, :length].tolist() == alone.ids[0, n, :length].tolist()
                compared += 1
    assert compared > 40 * (options.n_best > 1)


# TensorFlow's own

class StepCell(RNNCell):
    """Our decoder's step as a cell of TensorFlow: tokens `(B K, 1)` in, logits `(B K, V)` out."""

    def __init__(self, step, states, size, width):
        super(StepCell, self).__init__()
        self.step, self.width = step, width
        self.sizes, self.output_size = tuple(state.shape[2].value for state in states), size

    state_size = property(lambda self: self.sizes)
    output_size = None

    def call(self, inputs, state):
        tokens = tf.cast(tf.reshape(inputs, [-1, self.width]), tf.int32)
        split = [tf.reshape(part, [-1, self.width, size]) for part, size in zip(state, self.sizes)]
        logits, split, _ = self.step(tokens, split)
        return tf.reshape(logits, [-1, self.output_size]), tuple(
            tf.reshape(part, [-1, size]) for part, size in zip(split, self.sizes))


def contrib_beam(step, states, rows, size, width, steps, penalty):
    """ids `(B, K, T)` of `BeamSearchDecoder`, and the scores `(B, K)` by which it orders them."""
    first = tuple(seq2seq.tile_batch(state[:, 0], width) for state in states)
    decoder = seq2seq.BeamSearchDecoder(
        StepCell(step, states, size, width), lambda ids: tf.cast(ids[..., None], K.floatx()),
        tf.fill([rows], START), END, first, width, length_penalty_weight=penalty)
    outputs, state, _ = seq2seq.dynamic_decode(decoder, maximum_iterations=steps)
    return tf.transpose(outputs.predicted_ids, [0, 2, 1]), outputs.beam_search_decoder_output.scores[:, -1]


@pytest.mark.parametrize('ends, penalty', [
    (True, 0.), pytest.param(True, 1., marks=pytest.mark.slow), pytest.param(False, 1., marks=pytest.mark.slow)])
def test_beam_search_decoder_of_contrib_gives_the_same_beams(ends, penalty, searched):
    """Its finished hypotheses stay in the beam until live ones with higher scores replace them; ours keep their places.
    So beams are equal unless that happens, and then ours has a better hypothesis that the other does not have."""
    width, steps, size = 4, 6, VOCABULARY
    # It has no word against <pad> and <s>: here they are improbable for both, as is </s> where no output is to end.
    unlikely = np.zeros(size, 'f')
    unlikely[[PAD, START] + [END] * (not ends)] = -60.

    def step(tokens, states, rows=None):
        logits, states, weights = searched.model.step(tokens, states, rows)
        return logits + unlikely, states, weights

    theirs = contrib_beam(step, searched.model.start(), len(SOURCE), size, width, steps, penalty)
    ours = beam_search.beam(step, searched.model.start(), tf.fill([len(SOURCE)], steps), Options(width, width, penalty))
    (their_ids, their_scores), found = K.get_session().run([theirs, ours], {searched.model.source: SOURCE})
    equal = 0
    for row in range(len(SOURCE)):
        their = [ids[:ids.index(END) + 1] if END in ids else ids for ids in their_ids[row].tolist()]
        our = [ids[:length] for ids, length in zip(found.ids[row].tolist(), found.lengths[row])]
        assert our[0] == their[0] and abs(found.rankings[row, 0] - their_scores[row, 0]) < 1e-5
        equal += our == their
        if our == their:
            assert np.max(np.abs(found.rankings[row] - their_scores[row])) < 1e-5
        else:
            missing = [ranking for ids, ranking in zip(our, found.rankings[row]) if ids not in their]
            assert ends and max(missing) > their_scores[row, -1]
    assert equal >= (4 if ends else 6)
    assert any(END in ids for ids in their_ids.reshape(-1, their_ids.shape[2]).tolist()) == ends
