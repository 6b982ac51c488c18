"""Gradients of gradients: those of the kernels are right, or they raise with the reason; never `None` or wrong."""
import os
import re

import numpy as np
import pytest

import tf_session  # noqa: F401  first: it fixes the import order
from conftest import ROOT
from keras import backend as K
import tensorflow as tf

import attention
from kernels import attention_bands, attention_blocks, attention_windows, fused_loss, recurrent
from kernels import sampled_softmax
from small_models import Small

B, S, T, D, V = 2, 9, 4, 3, 7
MASK = np.array([[1, 0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0, 0, 0]], bool)
REFUSED = 'has no second-order gradient'


def number(*shape):
    """Numbers from 0.2 to 1 that a test may change by feeding."""
    return tf.constant(np.random.RandomState(sum(shape)).uniform(.2, 1., shape))


def score(x):
    """A sum that depends on each number of `x` in another way, with derivatives of every order."""
    return tf.reduce_sum(tf.sin(2. * x) * tf.reshape(tf.cos(tf.cast(tf.range(tf.size(x)), x.dtype)), tf.shape(x)))


def weights_of(layer):
    random = np.random.RandomState(5)
    K.batch_set_value([(weight, random.uniform(.3, 1., K.int_shape(weight))) for weight in layer.weights])
    return layer.weights


# Each case returns a number, and what it depends on.

def add_bias():
    x, bias = number(T, B, D), number(D)
    return score(recurrent.add_bias(x, bias)), [x, bias]


def swap():
    x = number(B, S, D)
    return score(recurrent.swap(x)), [x]


def slots():
    x = number(B, T, D)
    made = attention_bands.Slots(tf.constant([[1, 0, 1, 1], [0, 0, 2, 1]]), tf.constant(3))
    return score(made.read(tf.square(made.fill(x)))), [x]


def bands():
    x = number(B, S, D)
    made = attention_bands.Bands(attention_bands.Ranks(tf.constant(MASK), B, S), 1, 1)
    there = tf.cast(made.there, x.dtype)[:, :, None]  # the other rows of a band have no weight in any window
    chosen = made.take(tf.square(x), tf.constant([1, 0, 1]))
    return score(there * tf.square(made.take(x))) + score(tf.gather(there, [1, 0, 1]) * chosen), [x]


def additive_scores():
    given = number(B, T, D), number(B, S, D), number(D, 1)
    return score(attention_blocks.additive_scores(*given)), given


def additive_windows():
    query, keys, values = number(B, T, D), number(B, S, D), number(B, S, D + 1)
    score_kernel, gaussian = number(D, 1), number(B, T, 2)
    places = tf.constant([[[3, 4], [0, 1], [8, 7], [3, 2]], [[9, 10], [17, 16], [9, 10], [12, 13]]])
    inside = tf.constant(np.arange(B * T * 2).reshape(B, T, 2) % 5 > 0)
    context, weights = attention_windows.additive_windows(query, keys, values, score_kernel, gaussian, places, inside)
    return score(context) + score(weights), [query, keys, values, score_kernel, gaussian]


def attended(layer, positions=None):
    memory, query = number(B, S, D), number(B, T, D)
    layer.build([(None, None, D), (None, None, D)])
    context, weights = layer.call([memory, query] + ([] if positions is None else [tf.constant(positions)]),
                                  [tf.constant(MASK), None])
    return score(context) + score(weights), [memory, query] + weights_of(layer)


def scores_in_blocks():
    return attended(attention_blocks.GlobalAttention('concat', normalize=True, scale=True))


def windows(score, alignment, positions=None):
    return lambda: attended(attention_windows.LocalAttention(score, alignment, window=1), positions)


POSITIONS = [[0., 3., 1., 5.], [1., 0., 2., 2.]]


def output(tied, sampled):
    def build():
        states, kernel = number(5, D), number(*((V, D) if tied else (D, V)))
        targets, part, sample = tf.constant([1, 4, 4, 0, 6]), kernel, None
        if sampled:
            sample = sampled_softmax.draw(tf.constant([.1, .5, .4], tf.float64), targets, V)
            targets, part = sample.targets, sampled_softmax.take(kernel, sample.ids, 0 if tied else 1)
        made = fused_loss.output(states, part, targets, tied, 0. if sampled else .1, sample)
        return score(made.normalizer) + score(made.score), [states, kernel]
    return build


RIGHT = {
    'AddBias': [add_bias], 'Swap': [swap], 'FillSlots': [slots], 'ReadSlots': [slots],
    'TakeBands': [bands, windows('dot', 'monotonic'), windows('general', 'predictive')],
    'AdditiveScores': [additive_scores, scores_in_blocks, windows('concat', 'monotonic')],
    'AdditiveWindows': [additive_windows, windows('concat', 'predictive'), windows('concat', 'monotonic', POSITIONS)],
    'FusedOutput': [output(False, False), output(True, False)],
    'TakeOnce': [output(False, True), output(True, True)],
}
REFUSING = {'FastLSTM', 'FastGRU', 'FeedingDecoder'}


def test_every_gradient_by_hand_has_its_test_here():
    """And `kernels/gradients.py` is the only place where there are any."""
    found, elsewhere = set(), []
    for folder, _, names in os.walk(ROOT):
        for path in [os.path.join(folder, name) for name in names if name.endswith('.py')]:
            place = os.path.relpath(path, ROOT)
            if place.startswith(('.', 'runs', 'tests')):
                continue
            with open(path, encoding='utf-8') as file:
                text = file.read()
            if place != os.path.join('kernels', 'gradients.py'):
                found.update(re.findall(r"attach_gradient\(\s*'(\w+)", text))
                found.update(re.findall(r"^\s+name = '(\w+)/%s'", text, re.M))
                elsewhere += [place] * bool(re.search('RegisterGradient|gradient_override_map|custom_gradient', text))
    assert found == set(RIGHT) | REFUSING and not elsewhere


def penalty(total, given):
    """A sum over the gradients of `total`, which are dense and depend on everything that is `given`."""
    return sum(score(tf.convert_to_tensor(one)) for one in tf.gradients(total, given))


def check(case, session):
    total, given = case()
    value = penalty(total, given)
    slopes = [tf.zeros_like(x) if one is None else tf.convert_to_tensor(one)
              for x, one in zip(given, tf.gradients(value, given))]
    at, slopes = session.run([list(given), slopes])
    run = session.make_callable(value, list(given))
    for place, slope in enumerate(slopes):
        way, sides = np.random.RandomState(6).normal(size=slope.shape), []
        for step in (1e-5, -1e-5):
            sides.append(run(*at[:place], at[place] + step * way, *at[place + 1:]))
        found = np.sum(slope * way)
        assert abs(found - (sides[0] - sides[1]) / 2e-5) < 1e-6 * max(1., abs(found))


def all_cases():
    seen = []
    for name in sorted(RIGHT):
        for number, case in enumerate(RIGHT[name]):
            if case not in seen:
                seen.append(case)
                yield pytest.param(case, id='%s-%d' % (name, number), marks=pytest.mark.slow if number else [])


@pytest.mark.filterwarnings('ignore:Converting sparse IndexedSlices')
@pytest.mark.parametrize('case', all_cases())
def test_second_order_gradients_are_those_of_finite_differences(float64, session, monkeypatch, case):
    monkeypatch.setattr(attention_windows, 'windows_pay', lambda window, length: True)
    check(case, session)


def test_hessians_of_the_additive_score_are_those_of_its_equation(float64, session):
    query, keys, kernel = number(1, 2, D), number(1, 3, D), number(D, 1)
    plain = tf.tensordot(tf.tanh(query[:, :, None] + keys[:, None]), kernel, 1)[..., 0]
    scores = attention_blocks.additive_scores(query, keys, kernel)
    expected, found = session.run([tf.hessians(score(one), kernel)[0] for one in (plain, scores)])
    assert np.max(np.abs(found - expected)) < 1e-14 < np.max(np.abs(expected))


@pytest.mark.slow
def test_gradients_of_the_fourth_order_are_those_of_plain_attention(float64, session):
    found = []
    for module in (attention, attention_blocks):
        total, given = attended(module.GlobalAttention('concat'))
        for _ in range(3):
            total = penalty(total, given)
        found.append(session.run(tf.gradients(total, given)))
    for one, other in zip(*found):
        assert np.max(np.abs(one - other)) < 1e-11 * max(1., np.max(np.abs(one)))


@pytest.mark.parametrize('kind, gate, masked', [
    ('LSTM', 'hard_sigmoid', True), pytest.param('LSTM', 'sigmoid', False, marks=pytest.mark.slow),
    ('GRU', 'sigmoid', False), pytest.param('GRU', 'hard_sigmoid', True, marks=pytest.mark.slow)])
def test_a_recurrent_layer_refuses_a_second_order_gradient_of_anything(session, kind, gate, masked):
    layer = getattr(recurrent, kind)(D, recurrent_activation=gate, return_sequences=True)
    layer.build((None, None, D))
    x, first = tf.ones([B, S, D]), [tf.ones([B, D]) for _ in layer.states]
    with tf.name_scope('reader'):
        output = layer.call([x] + first, tf.constant(MASK) if masked else None)
    given = [x] + first + weights_of(layer)
    slopes = tf.gradients(score(output), given)
    for place, slope in enumerate(slopes):
        for one in (given[place], given[place - 1]):  # mixed ones too
            with pytest.raises(LookupError, match='reader.*' + REFUSED + '.*unroll=True'):
                tf.gradients(score(slope), one)
    # A stop between the two is an answer, and so is a derivative that does not go through the layer again.
    assert tf.gradients(score(tf.stop_gradient(slopes[0])), given) == [None] * len(given)
    factor = tf.ones([])
    assert np.isclose(*session.run([tf.gradients(factor * tf.reduce_sum(slopes[0]), factor)[0],
                                    tf.reduce_sum(slopes[0])]))


@pytest.mark.slow
@pytest.mark.parametrize('kind', [recurrent.LSTM, recurrent.GRU])
def test_an_unrolled_layer_has_a_second_order_gradient(float64, session, kind):
    def case():
        layer, x = kind(2, unroll=True), number(B, 3, D)
        layer.build((None, 3, D))
        return score(layer.call(x)), [x] + weights_of(layer)
    check(case, session)


FEEDING = [dict(score='general'), dict(score='concat', attention='local-p', cell='gru', window=1)]


@pytest.mark.parametrize('case', [FEEDING[0], pytest.param(FEEDING[1], marks=pytest.mark.slow)], ids=['lstm', 'gru'])
def test_the_decoder_with_input_feeding_refuses_a_second_order_gradient(session, case):
    small = Small(kernels='fast', input_feeding=True, bidirectional=False, **case)
    given = [weight for weight in small.model.training_model.trainable_weights if 'decoder' in weight.name]
    slopes = tf.gradients(score(small.model.training_model.outputs[0]), given)
    for slope, weight in zip(slopes, reversed(given)):
        with pytest.raises(LookupError, match='decoder.*' + REFUSED):
            tf.gradients(score(tf.convert_to_tensor(slope)), weight)
