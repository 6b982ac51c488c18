"""The model with `--kernels fast` against the same weights with `--kernels keras`: logits, losses, every gradient."""
import numpy as np
import pytest

import tf_session  # first: it fixes the import order
from hypothesis import assume, given, settings, strategies
from keras import backend as K
import tensorflow as tf

from kernels import attention_windows
from command_line import UserError
from small_models import Small, make_batch
from training.trainer import training_loss

BATCH = make_batch([7, 2, 1, 4, 0], [5, 5, 1, 0, 3])
TOLERANCE = {'float64': 1e-11, 'float32': 1e-6}


def stages(kernels, dtype, training, case):
    """Encoder states, logits, weights, losses, metrics and gradients of a small model."""
    K.set_floatx(dtype)
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    session = tf.Session(graph=tf.Graph(), config=config)
    try:
        with tf_session.opened(session):
            small = Small(kernels=kernels, **case)
            model = small.model.training_model
            model.compile('sgd', **losses(small))
            decoded = (small.model.alignment_model or model).outputs
            gradients = [tf.convert_to_tensor(one) for one in K.gradients(model.total_loss, model.trainable_weights)]
            feed = {small.model.source: BATCH.source, small.model.target: BATCH.given, K.learning_phase(): training,
                    model.targets[0]: BATCH.output[:, :, None], model.sample_weights[0]: BATCH.output != 0}
            if small.settings.copy:
                feed[small.model.copied] = BATCH.source
            found = session.run([small.model.encoder_model.outputs, decoded, model.total_loss, model.metrics_tensors,
                                 gradients], feed)
            names = [weight.name for weight in model.trainable_weights]
            return names, found[0] + found[1] + [found[2]] + found[3] + found[4]
    finally:
        tf_session.close(session)
        K.set_floatx('float32')


def losses(small):
    loss = training_loss(small.settings, small.model)
    return dict(loss=loss.loss, sample_weight_mode='temporal',
                weighted_metrics=[loss.negative_log_likelihood, loss.token_accuracy])


def compare(dtype, training=False, **case):
    """Asserts that both kinds of kernels give the same."""
    (names, plain), (fast_names, fast) = [stages(kernels, dtype, training, case) for kernels in ('keras', 'fast')]
    assert names == fast_names and len(plain) == len(fast)
    for one, other in zip(plain, fast):
        finite = np.isfinite(one)
        assert np.array_equal(finite, np.isfinite(other))
        difference = np.max(np.abs(one[finite] - other[finite])) / max(1., np.max(np.abs(one[finite])))
        assert difference <= TOLERANCE[dtype]


CASES = [
    dict(score='general', encoder_layers=2, decoder_layers=2, residual=True, label_smoothing=0.1, tie_embeddings=True),
    dict(score='concat', cell='gru', recurrent_activation='sigmoid', copy=True, coverage_loss=0.5),
]
FEEDING = [
    dict(score='general', attention='local-p', decoder_layers=3, encoder_layers=2, residual=True, attention_scale=True),
    dict(score='concat', cell='gru', decoder_layers=2, attention_normalize=True, attention_scale=True,
         recurrent_activation='sigmoid', bidirectional=False),
    dict(score='dot', attention='local-m', window=1, label_smoothing=0.1),
    dict(score='location', cell='gru', residual=True, decoder_layers=2, copy=True, coverage_loss=0.5),
    dict(score='scaled_dot', attention='local-p', cell='gru', window=3),
    dict(score='concat', attention='local-p', recurrent_activation='sigmoid', attention_units=7)]
ALL = CASES + [dict(case, input_feeding=True) for case in FEEDING]
FAST = (1, 4)  # both cells, without and with input feeding


def name(case):
    return '-'.join(str(value) for value in case.values())


@pytest.mark.parametrize('case', [pytest.param(case, id=name(case), marks=[] if number in FAST else pytest.mark.slow)
                                  for number, case in enumerate(ALL)])
def test_fast_kernels_equal_keras(case):
    compare('float64', training=True, **case)


@pytest.mark.slow
@pytest.mark.parametrize('case', ALL[:3], ids=name)
def test_fast_kernels_equal_keras_in_float32(case):
    compare('float32', **case)


@pytest.mark.parametrize('attention', ['local-m', 'local-p'])
def test_one_step_at_a_time_equals_the_whole_sequence_in_windows(session, monkeypatch, attention):
    monkeypatch.setattr(attention_windows, 'windows_pay', lambda window, length: True)
    small = Small(score='general', attention=attention, kernels='fast', bidirectional=False, window=1)
    whole = small.whole(BATCH)
    logits, weights = small.stepped(BATCH.source, BATCH.given[:, None])
    assert np.max(np.abs(logits[:, 0] - whole.logits)) < 1e-6 > np.max(np.abs(weights[:, 0] - whole.weights))


@pytest.mark.slow
@pytest.mark.parametrize('case', [case for case in FEEDING if 'attention' in case], ids=name)
def test_input_feeding_in_windows_gives_what_keras_gives(monkeypatch, case):
    monkeypatch.setattr(attention_windows, 'windows_pay', lambda window, length: True)
    for window in (1, 3):
        compare('float64', training=True, **dict(case, window=window, input_feeding=True))


SETTINGS = dict(
    cell=strategies.sampled_from(['lstm', 'gru']), recurrent_activation=strategies.sampled_from(
        ['hard_sigmoid', 'sigmoid']), bidirectional=strategies.booleans(), residual=strategies.booleans(),
    encoder_layers=strategies.integers(1, 3), decoder_layers=strategies.integers(1, 3),
    score=strategies.sampled_from(['dot', 'general', 'concat', 'scaled_dot', 'location', 'none']),
    attention=strategies.sampled_from(['global', 'local-m', 'local-p']), attention_scale=strategies.booleans(),
    attention_normalize=strategies.booleans(), input_feeding=strategies.booleans(),
    tie_embeddings=strategies.booleans(), label_smoothing=strategies.sampled_from([0., 0.1]),
    copy=strategies.booleans(), coverage_loss=strategies.sampled_from([0., 0.5]), window=strategies.integers(1, 4))


@pytest.mark.slow
@settings(max_examples=15)
@given(case=strategies.fixed_dictionaries(SETTINGS), training=strategies.booleans())
def test_fast_kernels_equal_keras_for_random_settings(case, training):
    if case['attention_normalize'] and case['score'] != 'concat':
        case['attention_normalize'] = False
    if case['residual'] and max(case['encoder_layers'], case['decoder_layers']) == 1:
        case['residual'] = False
    try:
        compare('float64', training, **case)
    except UserError:  # settings that do not go together
        assume(False)
