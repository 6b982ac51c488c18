import pytest

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K
from text.vocabulary import END, PAD, START, UNK, Vocabulary
import beam_search
from reference import numpy_model, numpy_search
from small_models import Batch, Small, make_batch
from text.tokenizers import make_tokenizer
from translator import Translator

# Weights large enough for outputs of many lengths; seeds chosen so that some rows end and some are cut.
CASES = [dict(score='general', seed=1, scale=3.),
         dict(score='dot', cell='gru', attention='local-m', input_feeding=True, tie_embeddings=True,
              bidirectional=False, seed=18, scale=2.)]
SOURCE = make_batch([7, 2, 1, 4, 5, 3], [1] * 6).source
LIMITS = np.array([9, 9, 9, 2, 7, 0])


class Searched(Small):
    """A small model with the graph of its greedy search."""

    def __init__(self, **values):
        super(Searched, self).__init__(**values)
        self.limits = tf.placeholder(tf.int32, [None])
        self.found = beam_search.greedy(self.model.step, self.model.start(), self.limits)

    def greedy(self, source, limits):
        """The result without rankings and without the axis of hypotheses, of which there is one."""
        found = K.get_session().run(self.found, {self.model.source: source, self.limits: limits})
        return numpy_search.GreedyResult(*[value[:, 0] for value in found[:5]])


@pytest.fixture(scope='module', params=CASES, ids=lambda case: case['score'])
def searched(request):
    with tf_session.temporary(threads=1):
        yield Searched(**request.param)


def assert_same(found, expected, tolerance=1e-5):
    assert found.ids.tolist() == expected.ids.tolist() and found.lengths.tolist() == expected.lengths.tolist()
    for field in ('log_probabilities', 'weights', 'margins'):
        one, other = getattr(found, field), getattr(expected, field)
        assert one.shape == other.shape and np.max(np.abs(one - other)) <= tolerance, field


@pytest.mark.parametrize('limits', [np.full(6, 9), LIMITS], ids=['equal', 'unequal'])
def test_greedy_search_equals_a_slow_loop_over_the_numpy_model(searched, limits):
    found, expected = searched.greedy(SOURCE, limits), numpy_search.greedy(searched.numpy, SOURCE, limits)
    assert_same(found, expected)
    # The example must be able to show a fault: ends of its own, cut ones, and no tie that rounding could turn.
    assert len(set(expected.lengths)) >= 3 and np.max(expected.lengths) == 9
    assert np.min(expected.margins[np.arange(expected.ids.shape[1]) < expected.lengths[:, None]]) > 0.01


def test_outputs_end_at_their_first_end_or_at_their_limit_and_padding_follows(searched):
    found = searched.greedy(SOURCE, LIMITS)
    assert found.ids.shape[1] == max(found.lengths)
    for ids, length, limit, log_probabilities, weights, margins in zip(
            found.ids, found.lengths, LIMITS, found.log_probabilities, found.weights, found.margins):
        assert length <= limit and END not in ids[:length - 1]
        assert length == limit or ids[length - 1] == END
        assert np.all(ids[length:] == PAD)
        assert not np.any(log_probabilities[length:]) and not np.any(margins[length:]) and not np.any(weights[length:])
        assert np.all(log_probabilities[:length] < 0) and np.all(margins[:length] > 0)


def test_each_token_is_the_best_of_the_training_graph_fed_with_the_tokens_before_it_but_pad_and_start(searched):
    found = searched.greedy(SOURCE, np.full(6, 9))
    given = np.concatenate([np.full((6, 1), START), found.ids[:, :-1]], axis=1)
    whole, alignment = searched.whole(Batch(SOURCE, given, None))[:2]
    logits = whole.copy()
    logits[:, :, [PAD, START]] = -np.inf
    valid = np.arange(found.ids.shape[1]) < found.lengths[:, None]
    assert np.array_equal(np.argmax(logits, -1)[valid], found.ids[valid])
    best = np.sort(logits, axis=-1)
    assert np.max(np.abs((best[:, :, -1] - best[:, :, -2] - found.margins)[valid])) < 1e-5
    expected = np.take_along_axis(numpy_model.log_softmax(whole), found.ids[:, :, None].astype(int), -1)[:, :, 0]
    assert np.max(np.abs((expected - found.log_probabilities)[valid])) < 1e-5
    assert np.max(np.abs((alignment - found.weights)[valid])) < 1e-5


def test_a_sentence_alone_has_the_output_that_it_has_in_a_batch(searched):
    found = searched.greedy(SOURCE, np.full(6, 9))
    for row, length in enumerate(found.lengths):
        source = SOURCE[row:row + 1, :np.count_nonzero(SOURCE[row])]
        alone = searched.greedy(source, np.array([9]))
        expected = [found.ids[row, :length], found.lengths[row], found.log_probabilities[row, :length],
                    found.weights[row, :length, :source.shape[1]], found.margins[row, :length]]
        assert_same(alone, numpy_search.GreedyResult(*[value[None] for value in expected]))


def test_forced_decoding_of_an_output_gives_its_log_probabilities_margins_and_alignment(searched):
    words = ['<pad>', '<unk>', '<s>', '</s>'] + list('abcdefghi')
    # As text, the special tokens would not come back as what they are.
    sides = make_tokenizer('space'), Vocabulary(words)
    translator = Translator(searched.model, tf.get_default_session(), sides, sides)
    texts = [' '.join(words[i] for i in ids if i > 3) for ids in SOURCE if np.all(ids != UNK)]
    made = [hypotheses[0] for hypotheses in translator.translate(texts, batch_size=3, max_length=9)]
    chosen = [i for i, one in enumerate(made) if one.ended and not set(one.tokens) & set(words[:4])]
    assert chosen
    scored = translator.score([(texts[i], made[i].text) for i in chosen], batch_size=2)
    for i, given in zip(chosen, scored):
        assert given.tokens == made[i].tokens and abs(given.score - made[i].score) < 1e-5
        assert np.allclose(given.log_probabilities, made[i].log_probabilities, atol=1e-5)
        assert np.allclose(given.margins, made[i].margins, atol=1e-5)
        assert given.alignment.shape == made[i].alignment.shape
        assert np.allclose(given.alignment, made[i].alignment, atol=1e-5)
    # A target that the model would not choose: NumPy tells its probability, and its margin is negative.
    given, = translator.score([('a b c', 'd a')])
    logits = searched.numpy.forward([[4, 5, 6]], [[START, 7, 4]])['logits'][0]
    for t, token in enumerate((7, 4, END)):
        assert abs(given.log_probabilities[t] - numpy_model.log_softmax(logits[t])[token]) < 1e-5
        others = np.delete(logits[t], [PAD, START, token])
        assert abs(given.margins[t] - (logits[t, token] - np.max(others))) < 1e-5
    assert min(given.margins) < 0


def test_search_runs_in_float64(float64, session):
    searched = Searched(score='none', cell='gru', bidirectional=False, seed=1, scale=3.)
    assert_same(searched.greedy(SOURCE, LIMITS), numpy_search.greedy(searched.numpy, SOURCE, LIMITS), 1e-12)
