"""Guided alignment: the loss, its gradient, its data and its settings."""
import pytest

import tf_session  # noqa: F401  first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K
from command_line import UserError
from token_loss import guided_alignment_loss
from settings import check, resolve_settings
from reference import numpy_losses, numpy_model
from small_models import Small, make_batch, settings
from text import preparation, questions
from text.alignments import training_alignments
from text.corpus import corpus_paths
from text.tokenizers import make_tokenizer
from training.trainer import training_loss

pytestmark = pytest.mark.usefixtures('session')
BATCH = make_batch([5, 2, 3], [3, 1, 4])
GOLD = np.asarray(np.random.RandomState(2).uniform(size=BATCH.output.shape + BATCH.source.shape[1:]) < .4, 'f')
GOLD[0, 1] = 0.  # a token without gold alignment


def guided(**values):
    return Small(guided_alignment=.7, format='babi', **values)


def oracle(model, weights=None):
    numpy = numpy_model.NumpyModel(vars(model.settings), weights or model.weights)
    stages, valid = numpy.forward(BATCH.source, BATCH.given), BATCH.source != 0
    each = numpy_losses.token_losses(stages['logits'], BATCH.output) + .7 * numpy_losses.guided_alignment_losses(
        stages['weights'], GOLD, valid, BATCH.output)
    return each, each.sum() / np.count_nonzero(BATCH.output)


@pytest.mark.parametrize('case', [dict(score='location', kernels='fast')] + [
    pytest.param(case, marks=pytest.mark.slow) for case in (
        dict(score='concat', input_feeding=True, cell='gru'), dict(score='dot', kernels='keras'),
        dict(score='general', input_feeding=True), dict(score='scaled_dot', hops=2),
        dict(score='concat', attention='local-p'), dict(score='general', attention='local-m', kernels='fast'))],
    ids=str)
def test_loss_and_gradient_agree_with_numpy(case):
    model = guided(**case)
    keras_model, loss = model.model.training_model, training_loss(model.settings, model.model)
    keras_model.compile('sgd', loss.loss, sample_weight_mode='temporal')
    weights = keras_model.trainable_weights
    each = loss.loss(keras_model.targets[0], keras_model.outputs[0])
    gradients = [tf.convert_to_tensor(gradient) for gradient in K.gradients(keras_model.total_loss, weights)]
    feed = {model.model.source: BATCH.source, model.model.target: BATCH.given, model.model.gold: GOLD,
            keras_model.targets[0]: BATCH.output[:, :, None], K.learning_phase(): 0,
            keras_model.sample_weights[0]: (BATCH.output != 0).astype('f')}
    losses, total, slopes = K.get_session().run([each, keras_model.total_loss, gradients], feed)
    expected, expected_total = oracle(model)
    np.testing.assert_allclose(np.where(BATCH.output != 0, losses, 0.), expected, atol=3e-6)
    np.testing.assert_allclose(total, expected_total, rtol=3e-6)
    for weight, gradient in zip(weights, slopes):
        if weight.name.startswith(('attention', 'decoder_cell/attention', 'decoder/attention', 'encoder_1')):
            direction, around = np.random.RandomState(3).uniform(-1, 1, gradient.shape), []
            for step in (1e-6, -1e-6):
                changed = dict(model.weights)
                changed[weight.name] = np.asarray(changed[weight.name], 'f8') + step * direction
                around.append(oracle(model, changed)[1])
            np.testing.assert_allclose(np.sum(gradient * direction), (around[0] - around[1]) / 2e-6, rtol=3e-4,
                                       atol=3e-5)


def test_loss_of_known_numbers():
    weights = tf.constant([[[.5, .25, .25, 0.], [0., 1., 0., 0.]]])
    gold = tf.constant([[[1., 1., 0., 1.], [0., 0., 0., 1.]]])
    valid = tf.constant([[True, True, True, False]])
    losses = K.get_session().run(guided_alignment_loss(weights, gold, valid))
    np.testing.assert_allclose(losses, [[-(np.log(.5) + np.log(.25)) / 2., 0.]], rtol=1e-6)


BABI = '1 Ann went home.\n2 Ben is in.\n3 Where is Ann?\thome\t1\n4 Ann left.\n5 Where is Ben?\tin, up\t2 4\n'


def babi_settings(path, **given):
    return resolve_settings(dict(task='answer', format='babi', train=[str(path)], val=[str(path)], **given))


def test_supporting_facts_are_alignments(tmp_path):
    (tmp_path / 'a.txt').write_text(BABI)
    chosen = babi_settings(tmp_path / 'a.txt', guided_alignment=1.)
    check(chosen)
    text = preparation.prepare(chosen, corpus_paths(chosen))
    # Where is Ann ? | Ann went home . Ben is in .       Where is Ben ? | Ann went home . Ben is in . Ann left .
    assert text.train.alignments == [[(i, 0) for i in (5, 6, 7, 8)],
                                     [(i, j) for j in (0, 1, 2) for i in (9, 10, 11, 12, 13, 14, 15)]]
    inputs, output = text.train.batch([0, 1])
    assert inputs[-1].shape == output.shape + inputs[0].shape[1:] and inputs[-1].sum() == 4 + 21
    assert inputs[-1][0, 0, 5:9].tolist() == [1.] * 4
    assert not text.validation.batch([0, 1])[0][-1].any()


@pytest.mark.parametrize('name', ['word', 'space', 'char', 'chinese'])
def test_statements_are_where_their_tokens_are(tmp_path, name):
    (tmp_path / 'a.txt').write_text(BABI)
    tokenize = make_tokenizer(name).tokenize
    for question in questions.read_questions([str(tmp_path / 'a.txt')], 'babi'):
        tokens, lengths = tokenize(question.source), {}
        for index, sentence in enumerate(question.sentences):
            positions = questions.supporting_positions(question._replace(supporting=[index]), tokenize, lengths)
            assert [token for token in (tokens[i] for i in positions) if token != '\u2581'] == [
                token for token in tokenize(sentence) if token != '\u2581']


def test_pharaoh_alignments(tmp_path):
    (tmp_path / 'a.tsv').write_text('a b\tx y\nc d e\tz\n')
    (tmp_path / 'a.align').write_text('0-0 1-1\n2-0\n')
    chosen = resolve_settings(dict(train=[str(tmp_path / 'a.tsv')], val=[str(tmp_path / 'a.tsv')],
                                   target_tokenizer='word', guided_alignment=.1,
                                   alignments=str(tmp_path / 'a.align')))
    check(chosen)
    paths = corpus_paths(chosen)
    text = preparation.prepare(chosen, paths)
    assert text.train.alignments == [[(0, 0), (1, 1)], [(2, 0)]]
    for content, message in (('0-0\n', '1 lines for the 2 pairs'), ('0-0\n0-1\n', 'line 2: 0-1 is outside'),
                             ('0-0\n0:0\n', "'0:0' is not a link")):
        (tmp_path / 'a.align').write_text(content)
        with pytest.raises(UserError, match=message):
            training_alignments(chosen, paths, text.train, None)


def test_a_file_without_facts_is_refused(tmp_path):
    (tmp_path / 'a.txt').write_text('1 Ann went home.\n2 Where is Ann?\thome\n')
    chosen = babi_settings(tmp_path / 'a.txt', guided_alignment=1.)
    with pytest.raises(UserError, match='no question has supporting facts'):
        preparation.prepare(chosen, corpus_paths(chosen))


@pytest.mark.parametrize('values, message', [
    (dict(guided_alignment=1.), '--alignments auto or FILE'), (dict(alignments='a'), '--guided-alignment WEIGHT'),
    (dict(guided_alignment=1., format='babi', alignments='a'), '--format pairs'),
    (dict(guided_alignment=1., format='babi', score='none'), 'needs attention')])
def test_settings_that_contradict(values, message):
    with pytest.raises(UserError, match=message):
        settings(**values)
