"""Values and gradients of the attention layers against tests/oracle.py."""
import tf_session
import numpy as np
import pytest
import tensorflow as tf
from keras import backend as K

import oracle
from attention import GlobalAttention, LocalAttention

TOLERANCE = {'float32': 1e-6, 'float64': 1e-12}
GLOBAL = [dict(score='dot'), dict(score='scaled_dot'), dict(score='general'), dict(score='concat'),
          dict(score='additive', units=5), dict(score='dot', scale=True), dict(score='scaled_dot', scale=True),
          dict(score='general', scale=True), dict(score='concat', scale=True), dict(score='concat', normalize=True),
          dict(score='concat', normalize=True, scale=True, units=2)]
LOCATION = [dict(score='location', max_source_length=9), dict(score='location', max_source_length=9, scale=True)]
LOCAL = [dict(alignment=alignment, window=window, **options)
         for alignment, window in (('monotonic', 1), ('predictive', 2))
         for options in (dict(score='dot'), dict(score='scaled_dot'), dict(score='general', scale=True),
                         dict(score='concat', units=2), dict(score='concat', normalize=True))]


def name_of(value):
    if isinstance(value, dict):
        return '-'.join('%s=%s' % item if item[0] in ('units', 'window') else
                        str(item[0] if item[1] is True else item[1])
                        for item in sorted(value.items()) if item[0] != 'max_source_length')
    return str(value)


def make(options):
    return (LocalAttention if 'alignment' in options else GlobalAttention)(**options)


def named_weights(layer):
    """A built layer's weights by the names the oracle knows."""
    return dict(zip([weight.op.name.split('/')[-1] for weight in layer.weights], layer.get_weights()))


class Built:
    """One layer in a graph of its own with open axes, so that many data sets share the building."""

    def __init__(self, options, floatx):
        self.options, self.floatx, self.tolerance = options, floatx, TOLERANCE[floatx]
        self.size, self.query_size = (3 if options['score'] in ('dot', 'scaled_dot') else 2), 3
        self.session = tf_session.new_session(threads=1)
        self.fetches = {}
        K.set_floatx(floatx)
        try:
            with tf_session.opened(self.session):
                self.build()
        finally:
            K.set_floatx('float32')

    def build(self):
        self.memory = K.placeholder((None, None, self.size))
        self.query = K.placeholder((None, None, self.query_size))
        self.state = K.placeholder((None, self.query_size))
        self.mask = K.placeholder((None, None), dtype='bool')
        self.positions = K.placeholder((None, None), dtype='int32')
        self.layer = make(self.options)
        self.layer.build([K.int_shape(self.memory), K.int_shape(self.query)])
        draw = np.random.RandomState(1)
        for weight in self.layer.weights:
            weight.load(draw.normal(size=weight.shape.as_list()), self.session)
        self.weights = named_weights(self.layer)
        self.apply('sequence', self.query)
        self.apply('single', self.state)
        if 'alignment' in self.options:
            self.apply('sequence at', self.query, self.positions)
            self.apply('single at', self.state, self.positions)

    def apply(self, name, *rest):
        inputs = [self.memory] + list(rest)
        self.fetches[name, False] = self.layer.call(inputs)
        self.fetches[name, True] = self.layer.call(inputs, mask=[self.mask] + [None] * len(rest))

    def run(self, memory, query, mask=None, positions=None):
        name = ('sequence' if np.ndim(query) == 3 else 'single') + (' at' if positions is not None else '')
        feed = {self.memory: memory, (self.query if np.ndim(query) == 3 else self.state): query}
        if mask is not None:
            feed[self.mask] = mask
        if positions is not None:
            feed[self.positions] = positions
        context, weights = self.session.run(self.fetches[name, mask is not None], feed)
        assert context.dtype == weights.dtype == self.floatx
        return context, weights

    def expected(self, memory, query, mask=None, positions=None):
        return oracle.attention(self.options['score'], memory, query, self.weights, mask, positions,
                                self.options.get('alignment'), self.options.get('window'))

    def data(self, batch=5, source=6, target=4, seed=2):
        draw = np.random.RandomState(seed)
        return (draw.normal(size=(batch, source, self.size)).astype(self.floatx),
                draw.normal(size=(batch, target, self.query_size)).astype(self.floatx))


@pytest.fixture(scope='module')
def built(request):
    one = Built(*request.param)
    yield one
    tf_session.close(one.session)


# pytest groups the tests of a module's fixture by the place of its parameter in each list: as all lists here are the
# first so many of one list, each graph is built once.
CASES = [(options, floatx) for floatx in ('float64', 'float32') for options in LOCAL + GLOBAL + LOCATION]


def for_first(count):
    cases = [pytest.param(case, id='%s-%s' % (name_of(case[0]), case[1]),
                          marks=pytest.mark.slow if case[1] == 'float32' and (case[0] in LOCAL or 'scale' in case[0])
                          else []) for case in CASES[:count]]
    return pytest.mark.parametrize('built', cases, indirect=True)


every_layer = for_first(len(CASES))
every_layer64 = for_first(len(CASES) // 2)
every_local64 = for_first(len(LOCAL))


def assert_equal(results, expected, tolerance):
    for result, value in zip(results, expected):
        assert result.shape == value.shape
        np.testing.assert_allclose(result, value, rtol=0, atol=tolerance)


def right_padded(lengths, source):
    return np.arange(source) < np.array(lengths)[:, None]


def any_mask(batch, source, first=0):
    """Rows with a right-padded sentence, no padding, nothing valid, a left-padded sentence, a gap, in this order."""
    index = np.arange(source)
    rows = [index < (source + 1) // 2, index >= 0, index < 0, index >= source // 3, index % 2 == 0]
    return np.array([rows[(first + b) % len(rows)] for b in range(batch)])


# Values

@every_layer
@pytest.mark.parametrize('batch, source, target', [(5, 6, 4), (1, 6, 4), (5, 1, 4), (5, 6, 1), (1, 1, 1), (3, 4, 9)])
def test_context_and_weights_are_the_papers(built, batch, source, target):
    memory, query = built.data(batch, source, target)
    masks = [None]
    if 'alignment' in built.options:
        masks.append(right_padded(np.arange(batch) * 2 % (source + 1), source))
    else:
        masks += [any_mask(batch, source, first) for first in ((0,) if batch > 1 else (0, 2, 3))]
    for mask in masks:
        results, expected = built.run(memory, query, mask), built.expected(memory, query, mask)
        assert_equal(results, expected, built.tolerance)
        assert ((results[1] == 0) == (expected[1] == 0)).all()
        assert_equal(built.run(memory, query[:, 0], mask),
                     [value[:, 0] for value in built.expected(memory, query[:, :1], mask)], built.tolerance)


@every_layer
def test_masked_weights_are_exactly_zero_and_the_others_sum_to_one(built):
    memory, query = built.data()
    mask = any_mask(5, 6)
    context, weights = built.run(memory, query, mask)
    assert (weights.swapaxes(1, 2)[~mask] == 0).all()
    assert (weights[~mask.any(axis=1)] == 0).all() and (context[~mask.any(axis=1)] == 0).all()
    if 'alignment' not in built.options:
        assert (weights.swapaxes(1, 2)[mask] > 0).all()
        np.testing.assert_allclose(weights.sum(-1)[mask.any(axis=1)], 1, rtol=0, atol=built.tolerance)


@every_local64
def test_weights_outside_the_window_are_exactly_zero(built):
    memory, query = built.data(source=9, target=14)
    mask = right_padded([9, 5, 1, 0, 7], 9)
    weights = built.run(memory, query, mask)[1]
    expected = built.expected(memory, query, mask)[1]
    assert (weights[expected == 0] == 0).all() and (weights[expected != 0] > 0).all()
    assert (expected[0] == 0).sum() > expected[0].size / 3    # or the window would hide nothing
    if built.options['alignment'] == 'monotonic':
        np.testing.assert_allclose(weights.sum(-1), (expected > 0).any(-1), rtol=0, atol=1e-12)


@every_local64
def test_positions_make_steps_equal_the_whole_sequence(built):
    memory, query = built.data()
    mask = right_padded([6, 3, 1, 0, 5], 6)
    for mask in (None, mask):
        whole = built.run(memory, query, mask)
        for t in range(query.shape[1]):
            at = np.full((5, 1), t)
            assert_equal(built.run(memory, query[:, t], mask, at), [value[:, t] for value in whole], built.tolerance)
            assert_equal(built.run(memory, query[:, t:t + 1], mask, at), [value[:, t:t + 1] for value in whole],
                         built.tolerance)
        odd = np.array([[3, 0, 9, 1], [0, 1, 2, 3], [2, 2, 2, 2], [5, 4, 3, 2], [0, 0, 1, 1]])
        assert_equal(built.run(memory, query, mask, odd), built.expected(memory, query, mask, odd), built.tolerance)


@every_layer64
def test_padding_and_other_rows_of_the_batch_change_nothing(built):
    memory, query = built.data()
    lengths = [6, 3, 1, 5, 2]
    context, weights = built.run(memory, query, right_padded(lengths, 6))
    loud = np.concatenate([memory, np.full((5, 3, built.size), 1e3, built.floatx)], axis=1)
    more_context, more_weights = built.run(loud, query, right_padded(lengths, 9))
    assert_equal([more_context, more_weights[:, :, :6]], [context, weights], built.tolerance)
    assert (more_weights[:, :, 6:] == 0).all()
    for b, length in enumerate(lengths):
        assert_equal(built.run(memory[b:b + 1, :length], query[b:b + 1]),
                     [context[b:b + 1], weights[b:b + 1, :, :length]], built.tolerance)


@every_layer64
def test_attend_returns_the_scores_before_and_after_the_mask(built):
    memory, query = built.data()
    mask = right_padded([6, 3, 1, 0, 5], 6)
    with tf_session.opened(built.session):
        output = built.layer.attend(built.query, built.memory, built.layer.keys(built.memory), built.mask)
        output = type(output)(*built.session.run(list(output), {built.memory: memory, built.query: query,
                                                                built.mask: mask}))
    expected = built.expected(memory, query, mask)
    assert_equal([output.context, output.weights], expected, built.tolerance)
    scores = np.array([[[oracle.score(built.options['score'], h_t, h_s, s, built.weights)
                         for s, h_s in enumerate(memory[b])] for h_t in query[b]] for b in range(len(memory))])
    hidden = np.finfo(built.floatx).min
    assert_equal([output.scores, output.masked_scores],
                 [scores, np.where(expected[1] > 0, scores, hidden)], built.tolerance)


# Not the location score: it knows an index, not a word.
@for_first(len(LOCAL + GLOBAL))
def test_left_padding_equals_right_padding(built):
    memory, query = built.data()
    lengths = [6, 3, 1, 5, 2]
    left = np.stack([np.roll(row, 6 - length, axis=0) for row, length in zip(memory, lengths)])
    context, weights = built.run(memory, query, right_padded(lengths, 6))
    left_context, left_weights = built.run(left, query, right_padded(lengths, 6)[:, ::-1])
    shifted = [np.roll(row, 6 - length, axis=1) for row, length in zip(weights, lengths)]
    assert_equal([left_context, left_weights], [context, np.stack(shifted)], 1e-12)


@pytest.mark.parametrize('options', [dict(score='dot'), dict(score='dot', alignment='monotonic', window=9)],
                         ids=name_of)
@pytest.mark.parametrize('valid, padded', [(-40., 0.), (-1e4, 1e4), (-2., -1.)])
def test_scores_of_padding_are_replaced_not_multiplied(options, valid, padded, session):
    # Multiplied by the mask, a padded score is 0, above every valid one here, and takes their weight away.
    memory, state = K.placeholder((None, None, 1)), K.placeholder((None, 1))
    mask = K.placeholder((None, None), dtype='bool')
    outputs = make(options)([memory, state], mask=[mask, None])
    context, weights = session.run(outputs, {memory: [[[valid], [padded], [valid], [padded]]], state: [[1.]],
                                             mask: [[True, False, True, False]]})
    assert weights.tolist() == [[.5, 0., .5, 0.]] and context.tolist() == [[valid]]


@pytest.mark.parametrize('options', GLOBAL[:5] + LOCATION[:1] + LOCAL[::3], ids=name_of)
def test_huge_scores_give_finite_weights_and_gradients(options, session):
    memory, query = K.placeholder((None, None, 3)), K.placeholder((None, None, 3))
    mask = K.placeholder((None, None), dtype='bool')
    layer = make(options)
    context, weights = layer([memory, query], mask=[mask, None])
    tensors = [memory, query] + layer.trainable_weights
    gradients = tf.gradients([K.sum(K.square(context)), K.sum(K.square(weights))], tensors)
    gradients = [gradient for gradient in gradients if gradient is not None]    # monotonic: none
    draw = np.random.RandomState(3)
    # Scores of 1e4 come from one large weight, or from inputs of 200 where there is none.
    weights_by_name = {name: draw.normal(size=value.shape) for name, value in named_weights(layer).items()}
    scorer = [name for name in ('kernel', 'norm', 'score_kernel') if name in weights_by_name][:1]
    for name in scorer:
        weights_by_name[name] *= 5e4
    large = 1. if scorer else 200.
    layer.set_weights(list(weights_by_name.values()))
    rows = any_mask(5, 6)
    weights, scores, gradients = session.run(
        [weights, layer.scores(query, layer.keys(memory)), gradients],
        {memory: draw.normal(size=(5, 6, 3)) * large, query: draw.normal(size=(5, 4, 3)) * large, mask: rows})
    assert np.abs(scores).max() > 1e4 and np.isfinite(weights).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if 'alignment' not in options:
        np.testing.assert_allclose(weights.sum(-1)[rows.any(1)], 1, atol=1e-6)


# Gradients

@every_layer64
def test_gradients_are_finite_differences(built):
    one, step = built, 1e-5
    memory, query = one.data(batch=3, source=5, target=2, seed=4)
    mask = right_padded([5, 3, 0], 5)
    if one.options.get('alignment') == 'predictive':    # no step may carry a position over an edge of its window
        edges = [abs(abs(s - oracle.predicted_position(h_t, mask[b].sum(), one.weights)) - one.options['window'])
                 for b in range(2) for h_t in query[b] for s in range(5)]
        assert min(edges) > 1e-3
    with tf_session.opened(one.session):
        draw = np.random.RandomState(5)
        loss = sum(tf.reduce_sum(output * draw.normal(size=value.shape)) for output, value in
                   zip(one.fetches['sequence', True], one.expected(memory, query, mask)))
        variables = [weight for weight in one.layer.trainable_weights]
        tensors = [one.memory, one.query] + variables
        values = [memory, query] + one.session.run(variables)
        gradients = tf.gradients(loss, tensors)
        run = one.session.make_callable(loss, [one.mask] + tensors)
        slopes = one.session.run([gradient for gradient in gradients if gradient is not None],
                                 {one.memory: memory, one.query: query, one.mask: mask})
    assert [g is None for g in gradients] == [False] * len(tensors)
    for index, slope in enumerate(slopes):
        assert np.isfinite(slope).all() and slope.shape == values[index].shape and np.abs(slope).max() > 1e-4
        differences = np.zeros(slope.shape)
        for place in np.ndindex(*slope.shape):
            sides = []
            for sign in (1, -1):
                moved = [np.array(value) for value in values]
                moved[index][place] += sign * step
                sides.append(run(mask, *moved))
            differences[place] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(slope, differences, rtol=1e-6, atol=1e-8, err_msg=tensors[index].name)
    assert (slopes[0][2] == 0).all() and (slopes[1][2] == 0).all()    # the row with nothing valid
