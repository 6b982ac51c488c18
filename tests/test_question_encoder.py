"""The encoder of questions and stories, and several attention hops, compared with the NumPy model."""
import pytest

import tf_session  # noqa: F401  first: it fixes the import order
import numpy as np
from keras import backend as K
from command_line import UserError
from stories.question_encoder import find_layout
from reference import numpy_model
from small_models import Batch, Small, settings
from text.batches import make_batch
from text.questions import Separators, separators
from text.vocabulary import SPECIALS, UNK, Vocabulary

pytestmark = pytest.mark.usefixtures('session')
BAR, STOP, ASK = 4, 5, 6
SEPARATORS = Separators(BAR, (STOP, ASK))
# Question and story; no question; no story; two sentence ends in succession, the last sentence without one; a second
# bar; the words <unk> in question and story; a word twice in the question.
SOURCES = [[7, 8, ASK, BAR, 9, 7, STOP, 10, 8, 11, STOP], [9, 7, STOP, 10, STOP], [7, ASK, BAR],
           [8, BAR, 8, STOP, ASK, 9, 10, 11], [7, BAR, 9, BAR, 7, STOP], [UNK, ASK, BAR, UNK, 12, STOP, 7, STOP],
           [7, 8, 7, BAR, 7, STOP]]
TARGETS = [[5], [6, 7], [8], [9, 10, 4], [], [12], [7]]
BATCH = Batch(*make_batch(SOURCES, TARGETS, range(len(SOURCES))))


def small(**values):
    return Small(separators=SEPARATORS, encoder='dmn', **dict({'exact_match': 'state'}, **values))


def test_layout_of_a_source():
    ids = K.placeholder((None, None), dtype='int32')
    layout = K.get_session().run(find_layout(ids, SEPARATORS), {ids: BATCH.source})
    assert layout.question.sum(axis=1).tolist() == [3, 0, 2, 1, 1, 2, 3]
    ends = [np.flatnonzero(row).tolist() for row in layout.ends]
    assert ends == [[6, 10], [2, 4], [], [4, 7], [5], [5, 7], [5]]
    assert layout.offset[0, 4:11].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert layout.sentence[3, 2:8].tolist() == [0, 0, 0, 1, 1, 1]
    # A row without padding: its last sentence begins at 0 too.
    row = K.get_session().run(find_layout(ids, SEPARATORS), {ids: BATCH.source[:1]})
    assert row.offset[0, 4:].tolist() == [0, 1, 2, 0, 1, 2, 3]


@pytest.mark.parametrize('case', [
    dict(cell='gru', hops=3), dict(exact_match='flag', score='concat', attention='local-p', kernels='fast')] + [
        pytest.param(case, marks=pytest.mark.slow) for case in (
            dict(score='concat', input_feeding=True, hops=2, encoder_layers=2, decoder_layers=2),
            dict(score='dot', bidirectional=False, share_vocabulary=True, tie_embeddings=True, embedding=6),
            dict(score='general', attention='local-p', cell='gru', hops=2, encoder_units=8))], ids=str)
def test_model_agrees_with_numpy(case):
    model = small(**case)
    whole = model.whole(BATCH)
    expected = model.numpy.forward(BATCH.source, BATCH.given)
    np.testing.assert_allclose(whole.logits, expected['logits'], atol=2e-6)
    np.testing.assert_allclose(whole.encoder_states, expected['encoder_states'], atol=2e-6)
    np.testing.assert_allclose(whole.initial_states, expected['initial_states'], atol=2e-6)
    np.testing.assert_allclose(whole.weights, expected['weights'], atol=2e-6)
    ends = np.zeros(BATCH.source.shape, bool)
    for row, column in ((0, 6), (0, 10), (1, 2), (1, 4), (3, 4), (3, 7), (4, 5), (5, 5), (5, 7), (6, 5)):
        ends[row, column] = True
    assert not whole.weights[np.broadcast_to(~ends[:, None], whole.weights.shape)].any()
    logits, weights = model.stepped(BATCH.source, BATCH.given[:, None])
    np.testing.assert_allclose(logits[:, 0], whole.logits, atol=2e-6)
    np.testing.assert_allclose(weights[:, 0], whole.weights, atol=2e-6)


@pytest.mark.parametrize('case', [dict(hops=3), dict(hops=2, input_feeding=True, score='concat'),
                                  dict(hops=2, attention='local-m')], ids=str)
def test_hops_without_a_story(case):
    model = Small(**case)
    whole, expected = model.whole(BATCH), model.numpy.forward(BATCH.source, BATCH.given)
    one_hop = numpy_model.NumpyModel(dict(vars(model.settings), hops=1), model.weights)
    assert np.abs(one_hop.forward(BATCH.source, BATCH.given)['logits'] - whole.logits).max() > 1e-3
    np.testing.assert_allclose(whole.logits, expected['logits'], atol=2e-6)
    np.testing.assert_allclose(whole.weights, expected['weights'], atol=2e-6)
    np.testing.assert_allclose(model.stepped(BATCH.source, BATCH.given[:, None])[0][:, 0], whole.logits, atol=2e-6)


def test_a_sentence_knows_which_part_of_the_question_it_is_about():
    batch = Batch(*make_batch([[7, 9, 8, BAR, 7, STOP], [7, 9, 8, BAR, 8, STOP]], [[5], [5]], range(2)))

    def difference(exact_match):
        """Of the two stories, if the embeddings do not tell the two words of the question apart."""
        model = small(cell='gru', exact_match=exact_match).model
        embeddings = K.get_value(model.source_embedding.embeddings)
        embeddings[8] = embeddings[7]
        K.set_value(model.source_embedding.embeddings, embeddings)
        states = K.get_session().run(model.encoder_model.outputs[0], {model.source: batch.source})
        return np.abs(states[0] - states[1]).max()

    assert difference('flag') < 1e-6 and difference('state') > 1e-3


def test_padding_changes_nothing():
    model = small(cell='gru', hops=2)
    more = Batch(*[np.pad(ids, [(0, 0), (0, 2)], 'constant') for ids in BATCH])
    whole, padded = model.whole(BATCH), model.whole(more)
    np.testing.assert_allclose(padded.logits[:, :-2], whole.logits, atol=1e-6)
    np.testing.assert_allclose(padded.weights[:, :-2, :-2], whole.weights, atol=1e-6)
    single = Batch(*make_batch(SOURCES, TARGETS, [3]))
    np.testing.assert_allclose(model.whole(single).logits[0], whole.logits[3, :4], atol=1e-6)


def test_gradient_is_the_slope_of_the_loss():
    model = small(cell='gru', hops=2)
    weights = [weight for weight in model.model.training_model.trainable_weights
               if weight.name.startswith(('question_encoder', 'sentence_encoder', 'source_embedding', 'attention'))]
    logits, session = model.model.training_model.output, K.get_session()
    loss = K.sum(K.square(logits))
    gradients = [K.tf.convert_to_tensor(gradient) for gradient in K.gradients(loss, weights)]
    feed = {model.model.source: BATCH.source, model.model.target: BATCH.given, K.learning_phase(): 0}
    for weight, gradient in zip(weights, session.run(gradients, feed)):
        name = numpy_model.neutral(weight.name)
        direction = np.random.RandomState(3).uniform(-1, 1, gradient.shape)
        losses = []
        for step in (1e-6, -1e-6):
            changed = dict(model.numpy.weights)
            changed[name] = changed[name] + step * direction
            oracle = numpy_model.NumpyModel(vars(model.settings), changed, SEPARATORS)
            losses.append(np.sum(oracle.forward(BATCH.source, BATCH.given)['logits'] ** 2))
        np.testing.assert_allclose(np.sum(gradient * direction), (losses[0] - losses[1]) / 2e-6, rtol=2e-4, atol=1e-4)


def test_separators_of_a_vocabulary():
    vocabulary = Vocabulary(list(SPECIALS) + ['Ann', '\u2581|', '.', 'end.', '\u3002'])
    assert separators(settings(), vocabulary) is None
    assert separators(settings(encoder='dmn'), vocabulary) == Separators(5, (6, 7, 8), (6, 8))
    with pytest.raises(UserError, match='question | story'):
        separators(settings(encoder='dmn'), Vocabulary(list(SPECIALS) + ['Ann', '.']))


@pytest.mark.parametrize('values, message', [
    (dict(encoder='dmn', copy=True), '--copy'), (dict(hops=2, score='none'), '--hops'),
    (dict(encoder='dmn', score='none'), '--encoder dmn'), (dict(hops=0), '--hops')])
def test_settings_that_contradict(values, message):
    with pytest.raises(UserError, match=message):
        settings(**values)
