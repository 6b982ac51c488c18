import pytest

import tf_session  # first: it fixes the import order
from hypothesis import example, given, settings, strategies
from keras import backend as K
from keras import layers
from keras.engine import Input, Model
import numpy as np
import tensorflow as tf

from kernels import recurrent

UNITS, WIDTH = 5, 4
LAYERS = {'lstm': (layers.LSTM, recurrent.LSTM), 'gru': (layers.GRU, recurrent.GRU)}
MASKS = {
    'none': None,
    'right': [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]],
    'left': [[0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]],
    'holes': [[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]],
    'empty': [[0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
    'all empty': np.zeros((3, 6)),
}


def values_and_gradients(layer, inputs, mask, states):
    """Outputs of a layer, and the gradients of one weighted sum of them, in the current graph."""
    x = tf.constant(inputs)
    states = [tf.constant(state) for state in states]
    layer.build((None, None, WIDTH))
    random = np.random.RandomState(3)
    layer.set_weights([random.uniform(-1.5, 1.5, weight.shape) for weight in layer.weights])
    given = dict(mask=None if mask is None else tf.constant(np.array(mask, bool)))
    if states:
        given['initial_state'] = states
    found = layer.call([x] + states if states else x, **given)
    found = found if isinstance(found, list) else [found]
    run = K.get_session().run
    values = run(found)
    total = sum(tf.reduce_sum(one * random.normal(size=value.shape)) for one, value in zip(found, values))
    gradients = tf.gradients(total, [x] + states + layer.trainable_weights)
    return values + run([tf.convert_to_tensor(one) for one in gradients])


def compare(options, mask, with_states, dtype, steps=6):
    """Differences between Keras' layer and ours, relative to the largest number of each array or 1."""
    K.set_floatx(dtype)
    try:
        with tf_session.opened(tf.Session(graph=tf.Graph(), config=tf.ConfigProto(
                intra_op_parallelism_threads=1, inter_op_parallelism_threads=1))) as session:
            random = np.random.RandomState(7)
            mask = None if mask is None else np.array(mask)[:, :steps]
            cell, bidirectional = options.pop('cell'), options.pop('bidirectional')
            inputs = random.normal(size=(3, steps, WIDTH))
            count = (2 if cell == 'lstm' else 1) * (1 + bidirectional)
            states = [random.normal(size=(3, UNITS)) for _ in range(count * with_states)]
            found = []
            for kind in LAYERS[cell]:
                layer = kind(UNITS, implementation=2, **options)
                if bidirectional:
                    layer = layers.Bidirectional(layer)
                found.append(values_and_gradients(layer, inputs.astype(dtype), mask,
                                                  [state.astype(dtype) for state in states]))
            tf_session.close(session)
    finally:
        K.set_floatx('float32')
    assert len(found[0]) == len(found[1])
    return max(np.max(np.abs(one - other)) / max(1., np.max(np.abs(one))) for one, other in zip(*found))


SETTINGS = dict(
    cell=strategies.sampled_from(['lstm', 'gru']), recurrent_activation=strategies.sampled_from(
        ['hard_sigmoid', 'sigmoid']), use_bias=strategies.booleans(), return_sequences=strategies.booleans(),
    return_state=strategies.booleans(), go_backwards=strategies.booleans(), bidirectional=strategies.booleans())


LAST_OUTPUT = dict(cell='lstm', recurrent_activation='sigmoid', use_bias=True, return_sequences=False,
                   return_state=False, go_backwards=False, bidirectional=True)


@settings(max_examples=4)
@example(options=LAST_OUTPUT, mask='none', with_states=False, steps=6)  # its gradient is IndexedSlices
@given(options=strategies.fixed_dictionaries(SETTINGS), mask=strategies.sampled_from(sorted(MASKS)),
       with_states=strategies.booleans(), steps=strategies.sampled_from([1, 6]))
def test_outputs_and_gradients_are_those_of_keras_in_float64(options, mask, with_states, steps):
    assert compare(options, MASKS[mask], with_states, 'float64', steps) < 1e-13


@pytest.mark.slow
@settings(max_examples=40)
@given(options=strategies.fixed_dictionaries(SETTINGS), mask=strategies.sampled_from(sorted(MASKS)),
       with_states=strategies.booleans(), dtype=strategies.sampled_from(['float32', 'float64']))
def test_outputs_and_gradients_are_those_of_keras_over_many_settings(options, mask, with_states, dtype):
    assert compare(options, MASKS[mask], with_states, dtype) < (1e-6 if dtype == 'float32' else 1e-13)


def test_the_derivative_of_the_hard_sigmoid_is_that_of_keras_also_at_its_kinks(session):
    x = tf.constant([-2.5, 2.5, -2.5000004, 2.4999998, 2.5000002, -3., 3., 0., 1.])
    kernel = recurrent.GATES['hard_sigmoid']
    y = kernel.value(x)
    expected, found = session.run([tf.gradients(y, x)[0], kernel.gradient(x, y)])
    assert np.array_equal(found, expected) and set(expected) == {np.float32(0.), np.float32(0.2)}


def test_a_saved_layer_is_one_of_keras(session):
    """The saved configuration names Keras' class, and its weights are Keras' own."""
    inputs = Input((None, WIDTH))
    both_ways = layers.Bidirectional(recurrent.LSTM(UNITS, return_sequences=True, name='lstm'), name='encoder')
    model = Model(inputs, recurrent.GRU(UNITS)(both_ways(inputs)))
    restored = Model.from_config(model.get_config())
    assert [type(one) for one in (restored.layers[1].forward_layer, restored.layers[2])] == [layers.LSTM, layers.GRU]
    assert [weight.shape for weight in restored.get_weights()] == [weight.shape for weight in model.get_weights()]
    restored.set_weights(model.get_weights())
    x = np.random.RandomState(0).normal(size=(2, 4, WIDTH)).astype('f')
    assert np.allclose(model.predict(x), restored.predict(x), atol=1e-6)


@pytest.mark.parametrize('option', [dict(activation='relu'), dict(recurrent_activation='tanh'), dict(dropout=0.5),
                                    dict(unroll=True)])
def test_configurations_that_the_loop_does_not_cover_run_as_in_keras(session, option):
    x = np.random.RandomState(0).normal(size=(2, 3, WIDTH)).astype('f')
    ours, theirs = [kind(UNITS, **option) for kind in LAYERS['lstm']]
    values = []
    for layer in (ours, theirs):
        layer.build((None, 3, WIDTH))
        layer.set_weights([np.ones(weight.shape, 'f') / 9 for weight in layer.get_weights()])
        output = layer.call(tf.constant(x))
        values.append(session.run(output, {K.learning_phase(): 0}))
    assert np.array_equal(*values)
