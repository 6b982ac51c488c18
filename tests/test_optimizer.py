import tf_session  # noqa: F401  first: it fixes the import order
import keras
import numpy as np
import pytest
from keras import backend as K
from text.corpus_builder import encode_pairs
from text.vocabulary import Vocabulary
from training.optimizer import SGD, Adam, RMSprop
from small_models import settings
from training.trainer import Trainer

SHAPES = [(3, 4), (4,), (2, 2, 3)]


def gradients(steps, scale=1., seed=0):
    """A list of gradients for each step: some rows 0, as those of an embedding are."""
    random = np.random.RandomState(seed)
    made = [[random.normal(0, scale, shape).astype('f') for shape in SHAPES] for _ in range(steps)]
    for step in made[1::2]:
        step[0][1] = 0
    return made


class Updated(object):
    """Weights that an optimiser updates with given gradients."""

    def __init__(self, optimizer):
        random = np.random.RandomState(1)
        self.optimizer = optimizer
        self.start = [random.normal(size=shape).astype('f') for shape in SHAPES]
        self.weights = [K.variable(value, name='w%d' % number) for number, value in enumerate(self.start)]
        fed = [K.placeholder(shape) for shape in SHAPES]
        # The gradient of sum(w g) is g.
        loss = sum(K.sum(weight * gradient) for weight, gradient in zip(self.weights, fed))
        self._update = K.function(fed, [loss], updates=optimizer.get_updates(loss, self.weights))

    def by(self, steps):
        """The weights after these gradients."""
        for step in steps:
            self._update(step)
        return K.batch_get_value(self.weights)


def numpy_adam(weights, steps, lr=1e-3, clip_norm=0., weight_decay=0., averaging=0.):
    """Kingma and Ba with Keras' defaults, in float64: weights and averages after the steps."""
    weights = [weight.astype('f8') for weight in weights]
    m, v, average = [[np.zeros(weight.shape) for weight in weights] for _ in range(3)]
    for t, step in enumerate(steps, 1):
        norm = np.sqrt(sum(np.sum(gradient.astype('f8') ** 2) for gradient in step))
        factor = clip_norm / norm if clip_norm and norm > clip_norm else 1.
        rate = lr * np.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t)
        decay = min(averaging, (t - 1.) / (t + 8.))
        for i, gradient in enumerate(step):
            gradient = factor * gradient.astype('f8')
            m[i] = 0.9 * m[i] + 0.1 * gradient
            v[i] = 0.999 * v[i] + 0.001 * gradient ** 2
            if weights[i].ndim > 1:
                weights[i] = weights[i] * (1. - lr * weight_decay)
            weights[i] = weights[i] - rate * m[i] / (np.sqrt(v[i]) + 1e-7)
            average[i] = decay * average[i] + (1. - decay) * weights[i]
    return weights, average


def assert_close(actual, expected, tolerance=1e-6):
    for one, other in zip(actual, expected):
        assert one.shape == other.shape and np.max(np.abs(one - other)) <= tolerance, np.max(np.abs(one - other))


@pytest.mark.parametrize('clip', [0., 0.5])
def test_ten_steps_are_those_of_the_adam_of_keras(session, clip):
    steps = gradients(10)
    ours = Updated(Adam(lr=0.01, clip_norm=clip))
    theirs = Updated(keras.optimizers.Adam(lr=0.01, **({'clipnorm': clip} if clip else {})))
    ended = ours.by(steps)
    assert_close(ended, theirs.by(steps))
    assert_close(ended, numpy_adam(ours.start, steps, 0.01, clip)[0])
    assert_close(K.batch_get_value(ours.optimizer.weights[1:7]), K.batch_get_value(theirs.optimizer.weights[1:7]))
    assert min(np.max(np.abs(end - start)) for end, start in zip(ended, ours.start)) > 0.01


@pytest.mark.parametrize('kind, rate', [(SGD, 0.1), (RMSprop, 0.01)])
def test_ten_steps_of_sgd_and_rmsprop_are_those_of_keras(session, kind, rate):
    steps = gradients(10)
    ours = Updated(kind(lr=rate, clip_norm=0.5))
    theirs = Updated(getattr(keras.optimizers, kind.__name__)(lr=rate, clipnorm=0.5))
    ended = ours.by(steps)
    assert_close(ended, theirs.by(steps))
    weights, s = [weight.astype('f8') for weight in ours.start], [np.zeros(shape) for shape in SHAPES]
    for step in steps:
        factor = min(1., 0.5 / np.sqrt(sum(np.sum(gradient.astype('f8') ** 2) for gradient in step)))
        for i, gradient in enumerate(step):
            gradient = factor * gradient.astype('f8')
            s[i] = 0.9 * s[i] + 0.1 * gradient ** 2
            weights[i] -= rate * gradient / (1. if kind is SGD else np.sqrt(s[i]) + 1e-7)
    assert_close(ended, weights)
    assert min(np.max(np.abs(end - start)) for end, start in zip(ended, ours.start)) > 0.01


@pytest.mark.parametrize('kind', [SGD, RMSprop])
def test_every_optimiser_accumulates_decays_and_averages(session, kind):
    added = Updated(kind(lr=0.01, clip_norm=1., weight_decay=0.1, averaging=0.9, accumulate=True))
    at_once = Updated(kind(lr=0.01, clip_norm=1., weight_decay=0.1, averaging=0.9))
    plain = Updated(kind(lr=0.01, clip_norm=1.))
    steps = gradients(7, seed=2)
    for group in (steps[:3], steps[3:]):
        K.set_value(added.optimizer.apply, 0)
        added.by(group[:-1])
        K.set_value(added.optimizer.apply, 1)
        total = [[sum(parts) for parts in zip(*group)]]
        assert_close(added.by(group[-1:]), at_once.by(total))
        plain.by(total)
    assert_close(K.batch_get_value(added.optimizer.averages), K.batch_get_value(at_once.optimizer.averages))
    moved, spared = K.batch_get_value(at_once.weights), K.batch_get_value(plain.weights)
    if kind is SGD:  # w (1 - lr d) - lr g twice, and the averages of both, d = 0 and 1/10
        first = Updated(kind(lr=0.01, clip_norm=1., weight_decay=0.1)).by([[sum(parts) for parts in zip(*steps[:3])]])
        average = K.batch_get_value(at_once.optimizer.averages)
        assert_close(average, [0.1 * a + 0.9 * b for a, b in zip(first, moved)])
    assert np.max(np.abs(moved[0] - spared[0])) > 1e-3 > np.max(np.abs(moved[1] - spared[1]))


def test_a_gradient_below_the_limit_is_not_clipped_and_one_above_it_gets_that_norm(session):
    ours = Updated(Adam(clip_norm=2.))
    below, above = gradients(1, 0.05)[0], gradients(1, 5., seed=3)[0]
    for step in (below, above):
        assert_close(K.batch_get_value(ours.optimizer.weights[1:4]), [np.zeros(shape) for shape in SHAPES])
        ours.by([step])
        norm = np.sqrt(sum(np.sum(m ** 2) for m in K.batch_get_value(ours.optimizer.weights[1:4]))) / 0.1
        expected = np.sqrt(sum(np.sum(gradient ** 2) for gradient in step))
        assert abs(norm - min(expected, 2.)) < 1e-5
        K.batch_set_value([(m, np.zeros(K.int_shape(m))) for m in ours.optimizer.weights[1:4]])
    assert expected > 2.


def test_weight_decay_excludes_vectors_and_averages_forget_the_start(session):
    steps = gradients(12, seed=5)
    ours = Updated(Adam(lr=0.01, weight_decay=0.3, averaging=0.6, clip_norm=3.))
    ended = ours.by(steps)
    weights, averages = numpy_adam(ours.start, steps, 0.01, 3., 0.3, 0.6)
    assert_close(ended, weights)
    assert_close(K.batch_get_value(ours.optimizer.averages), averages)


def test_accumulated_gradients_make_one_update_when_apply_is_set(session):
    added = Updated(Adam(lr=0.01, clip_norm=1., weight_decay=0.1, averaging=0.9, accumulate=True))
    at_once = Updated(Adam(lr=0.01, clip_norm=1., weight_decay=0.1, averaging=0.9))
    steps = gradients(7, seed=2)
    for group in (steps[:3], steps[3:4], steps[4:]):
        before = K.batch_get_value(added.weights)
        K.set_value(added.optimizer.apply, 0)
        assert_close(added.by(group[:-1]), before, 0.)
        K.set_value(added.optimizer.apply, 1)
        assert_close(added.by(group[-1:]), at_once.by([[sum(parts) for parts in zip(*group)]]))
    assert K.get_value(added.optimizer.iterations) == 3
    assert_close(K.batch_get_value(added.optimizer.averages), K.batch_get_value(at_once.optimizer.averages))


def test_updates_run_in_float64(float64, session):
    steps = gradients(10)
    ours = Updated(Adam(lr=0.01, clip_norm=0.5))
    assert_close(ours.by(steps), numpy_adam(ours.start, steps, 0.01, 0.5)[0], 1e-12)


@pytest.mark.slow
def test_accumulated_batches_update_a_model_as_one_large_batch_and_report_the_same(session):
    vocabulary = Vocabulary(['<pad>', '<unk>', '<s>', '</s>'] + list('abcdefghi'))
    random = np.random.RandomState(0)
    source, target = [[random.choice(list('abcdefghi'), length).tolist() for length in lengths]
                      for lengths in ([1, 5, 3, 2, 6, 4, 2], [2, 6, 1, 3, 9, 1, 4])]
    encoded = encode_pairs(source, target, vocabulary, vocabulary)
    values = settings(score='dot', bidirectional=False, dropout=0., label_smoothing=0.1, clip_norm=0.5, accumulate=3,
                      averaging=0.9, warmup=3)
    made = Trainer(values, len(vocabulary), len(vocabulary), encoded, None, None)
    made.updates = 10
    K.get_session()
    variables = made.weights + made.optimizer.weights
    start, first_state, ends = K.batch_get_value(variables), made.state, []
    # Batches of unlike numbers of tokens, so that a mean over batches would be another one.
    for updates in ([[[0, 1, 2, 3, 4, 5]], [[6, 1, 4]]],
                    [[[0, 1], [2, 3], [4, 5]], [[6], [1, 4]]]):
        K.batch_set_value(list(zip(variables, start)))
        made.state = first_state
        for group in updates:
            made.update(group)
        assert made.state.update == 2 and made.state.micro_step == sum(map(len, updates))
        ends.append((K.batch_get_value(variables), made.state.sums))
    assert max(np.max(np.abs(end - first)) for end, first in zip(ends[0][0], start)) > 1e-4
    assert_close(ends[1][0], ends[0][0])
    assert ends[1][1][2:] == ends[0][1][2:] == [28. + 22., 28. + 22. + 21. + 13.]
    assert np.allclose(ends[1][1][:2], ends[0][1][:2], rtol=1e-6)

    # What training adds up over the batches of an epoch is what evaluation reports for the same weights.
    K.batch_set_value(list(zip(variables, start)))
    made.state = first_state
    made.update([[0, 1, 2], [3, 4], [5, 6]])
    K.batch_set_value(list(zip(variables, start)))
    nll, accuracy = made.evaluate(encoded)
    tokens = made.state.sums[2]
    assert tokens == 26 + 7 and abs(made.state.sums[0] / tokens - nll) < 1e-6
    assert abs(made.state.sums[1] / tokens - accuracy) < 1e-6
