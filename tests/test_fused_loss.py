import pytest

import tf_session  # noqa: F401  first: it fixes the import order
from keras import backend as K
import numpy as np
import tensorflow as tf

from kernels.fused_loss import FusedLoss, output
from pointer_generator import coverage_loss
from token_loss import TokenLoss
from test_copy import BATCH, COPIED
from text.vocabulary import PAD
from reference import numpy_losses
from small_models import Small, make_batch

CASES = {
    'kernel': dict(), 'tied': dict(tie_embeddings=True, embedding=6),
    'tied through a projection, smoothed': dict(tie_embeddings=True, label_smoothing=0.1),
    'smoothed': dict(label_smoothing=0.2, input_feeding=True),
    'copy': dict(copy=True, cell='gru', bidirectional=False),
    'copy, coverage, tied': dict(copy=True, input_feeding=True, coverage_loss=0.7, tie_embeddings=True),
}


@pytest.mark.parametrize('case', [
    pytest.param(case, id=name, marks=[] if name == 'kernel' else pytest.mark.slow)
    for name, case in CASES.items()])
def test_losses_metrics_and_gradients_are_those_of_the_logits(float64, session, case):
    small = Small(dropout=0., **case)
    settings, model = small.settings, small.model
    coverage = None
    if settings.coverage_loss:
        coverage = settings.coverage_loss * coverage_loss(model.alignment_model.outputs[1])
    batch = make_batch([6, 2, 0, 1], [4, 5, 2, 0])
    feed = {model.source: batch.source, model.target: batch.given, K.learning_phase(): 0}
    if settings.copy:
        batch, feed[model.copied], feed[model.source], feed[model.target] = BATCH, COPIED, BATCH.source, BATCH.given
    ids = tf.placeholder(K.floatx(), [None, None, 1])
    feed[ids], weights = batch.output[:, :, None], batch.output != PAD
    found = []
    for loss in (TokenLoss(settings.label_smoothing, coverage), FusedLoss(model, settings.label_smoothing, coverage)):
        logits = model.training_model.outputs[0]
        parts = [weights * part(ids, logits) for part in (loss.loss, loss.negative_log_likelihood, loss.token_accuracy)]
        trained = model.training_model.trainable_weights
        slopes = tf.gradients(tf.reduce_sum(np.cos(np.arange(weights.size).reshape(weights.shape)) * parts[0]), trained)
        found.append(session.run(parts + [tf.convert_to_tensor(one) for one in slopes], feed))
    assert 0 < np.sum(found[0][2]) < np.sum(weights)
    for plain, fused in zip(*found):
        assert np.max(np.abs(plain - fused)) <= 1e-12 * max(1., np.max(np.abs(plain)))


@pytest.mark.parametrize('tied', [False, True])
def test_the_reported_likelihood_is_exact_with_smoothing_over_a_large_vocabulary(session, tied):
    random = np.random.RandomState(0)
    states, kernel = random.normal(size=(200, 64)).astype('f'), random.normal(size=(64, 6000)).astype('f') / 8
    targets = random.randint(0, 6000, 200).astype('i')
    made = output(tf.constant(states), tf.constant(kernel.T if tied else kernel), tf.constant(targets), tied, 0.1)
    found = session.run(made.normalizer - made.target)
    logits = (states.astype('f8') @ kernel.astype('f8'))[None]
    expected = np.log(np.exp(logits[0]).sum(1)) - logits[0, range(200), targets]
    assert abs(np.mean(found, dtype='f8') - np.mean(expected)) < 3e-7
    assert abs(np.mean(expected) - numpy_losses.loss(logits, targets[None])) < 1e-12
