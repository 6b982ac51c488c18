import numpy as np
import pytest

import tf_session  # noqa: F401  first: it fixes the import order
from keras import backend as K
import tensorflow as tf

from hypothesis import given, settings, strategies

import attention
from kernels import attention_bands, attention_blocks, attention_windows

B, S, T, DM, DQ = 3, 9, 7, 4, 5
RIGHT = np.arange(S) < np.array([[9], [4], [1]])
LEFT = np.arange(S) >= np.array([[0], [5], [8]])
HOLES_AND_AN_EMPTY_ROW = np.array([[1, 0, 1, 1, 0, 0, 1, 1, 0], [0] * 9, [0, 1, 0, 0, 0, 0, 0, 0, 1]], bool)
either_mask = pytest.mark.parametrize('masks', [None, (RIGHT, LEFT, HOLES_AND_AN_EMPTY_ROW)], ids=['no mask', 'masks'])


def compare(session, kinds, masks, positions=None, query_size=DQ, tolerance=1e-12, shape=(B, S, T)):
    """Context, weights and gradients of two layers with the same weights, in float64, one graph for all masks."""
    random = np.random.RandomState(1)
    batch, length, steps = shape
    memory = tf.constant(random.normal(size=(batch, length, DM)))
    query = tf.constant(random.normal(size=(batch, steps, query_size)))
    fetches, mask = [], None if masks is None else tf.placeholder(tf.bool, (batch, length))
    for layer in kinds:
        inputs = [memory, query] + ([] if positions is None else [tf.constant(positions, tf.float64)])
        layer.build([(None, None, DM), (None, None, query_size)])
        values = np.random.RandomState(2)
        layer.set_weights([values.uniform(-1, 1, weight.shape) + 0.5 for weight in layer.get_weights()])
        context, weights = layer.call(inputs, None if mask is None else [mask, None])
        total = tf.reduce_sum(tf.sin(7. * context)) + tf.reduce_sum(tf.square(weights))
        gradients = tf.gradients(total, [memory, query] + layer.trainable_weights)
        fetches.append([context, weights] + [tf.convert_to_tensor(one) for one in gradients])
    for feed in [{}] if masks is None else [{mask: values} for values in masks]:
        for plain, fast in zip(*session.run(fetches, feed)):
            assert plain.shape == fast.shape
            assert np.max(np.abs(plain - fast)) <= tolerance * max(1., np.max(np.abs(plain)))


@pytest.mark.parametrize('options', [dict(), dict(normalize=True, scale=True, units=3)], ids=['plain', 'normalized'])
@either_mask
def test_the_additive_score_in_blocks_has_the_same_values_and_gradients(float64, session, options, masks):
    compare(session, [module.GlobalAttention('concat', **options) for module in (attention, attention_blocks)], masks)


def test_a_large_step_of_a_search_computes_in_blocks_and_gives_the_same(session, monkeypatch):
    layer = attention_blocks.GlobalAttention('concat')
    layer.build([(None, None, DM), (None, None, DQ)])
    random = np.random.RandomState(1)
    memory, query = [tf.constant(random.normal(size=shape).astype('f')) for shape in ((B, S, DM), (B, 2, DQ))]
    found = []
    for limit in (10 ** 6, 1):
        monkeypatch.setattr(attention_blocks, 'LARGEST_STEP', limit)
        weights = layer.attend(query, memory, layer.step_keys(memory), None, tf.zeros([B, 2])).weights
        K.get_session()  # gives the kernels their values
        found.append(session.run(weights))
    assert np.allclose(*found, atol=1e-6)


@pytest.mark.parametrize('score', ['dot', 'general', 'concat'])
@pytest.mark.parametrize('alignment', ['monotonic', 'predictive'])
@either_mask
def test_local_attention_that_computes_its_window_has_the_same_values_and_gradients(
        float64, session, monkeypatch, alignment, masks, score):
    monkeypatch.setattr(attention_windows, 'windows_pay', lambda window, length: True)
    compare(session, [module.LocalAttention(score, alignment, window=1, scale=True)
                      for module in (attention, attention_windows)], masks, query_size=DM)


@pytest.mark.parametrize('score', ['dot', 'concat'])
def test_bands_of_several_blocks_have_the_same_values_and_gradients(float64, session, monkeypatch, score):
    monkeypatch.setattr(attention_windows, 'windows_pay', lambda window, length: True)
    length = 2 * attention_bands.BLOCK + 7
    mask = np.random.RandomState(5).uniform(size=(2, length)) < .9
    compare(session, [module.LocalAttention(score, 'monotonic', window=2) for module in (attention, attention_windows)],
            [mask], query_size=DM, shape=(2, length, length - 3))


@pytest.mark.parametrize('slots', [3, 40])
def test_windows_in_several_chunks_have_the_same_values_and_gradients(float64, session, monkeypatch, slots):
    monkeypatch.setattr(attention_windows, 'windows_pay', lambda window, length: True)
    monkeypatch.setattr(attention_bands, 'SLOTS', slots)
    length = 2 * attention_bands.BLOCK + 7
    mask = np.random.RandomState(5).uniform(size=(2, length)) < .9
    compare(session, [module.LocalAttention('dot', 'predictive', 2) for module in (attention, attention_windows)],
            [mask], query_size=DM, shape=(2, length, length - 3))


@pytest.mark.parametrize('window', [2, 10])
def test_positions_that_a_decoder_gives_move_the_window_in_the_same_way(float64, session, monkeypatch, window):
    monkeypatch.setattr(attention_windows, 'windows_pay', lambda window, length: True)
    positions = np.arange(B * T).reshape(B, T) % 12
    compare(session, [module.LocalAttention('general', 'monotonic', window=window)
                      for module in (attention, attention_windows)], [LEFT], positions)


def test_a_step_leaves_the_keys_of_whole_sequences_as_they_are(float64, session):
    layer = attention_blocks.GlobalAttention('general', scale=True)
    layer.build([(None, None, DM), (None, None, DQ)])
    random = np.random.RandomState(1)
    memory, query = [tf.constant(random.normal(size=shape)) for shape in ((B, S, DM), (B, 2, DQ))]
    step = layer.attend(query, memory, layer.step_keys(memory), None, tf.zeros([B, 2], tf.float64)).context
    whole = layer.attend(query, memory, layer.keys(memory)).context
    K.get_session()  # gives the kernels their values
    assert np.allclose(*session.run([step, whole]), atol=1e-12)


@pytest.mark.parametrize('local', [False, True])
def test_the_keys_of_one_step_hold_the_kernel_of_the_score_general(float64, session, local):
    positions = np.arange(B * T).reshape(B, T) % 12
    if local:
        kinds = [one.LocalAttention('general', 'monotonic', 3, scale=True) for one in (attention, attention_windows)]
    else:
        kinds = [one.GlobalAttention('general', scale=True) for one in (attention, attention_blocks)]
    compare(session, kinds, [LEFT], positions)


@pytest.mark.parametrize('alignment', ['monotonic', 'predictive'])
def test_the_length_decides_whether_windows_are_used_without_changing_a_value(float64, session, alignment):
    for window in (1, 3):
        compare(session, [module.LocalAttention('dot', alignment, window=window)
                          for module in (attention, attention_windows)], [RIGHT], query_size=DM)


@pytest.mark.parametrize('alignment', ['monotonic', 'predictive'])
def test_without_a_reader_of_the_weights_no_array_has_a_number_for_each_pair(session, alignment):
    length, width = 400, 2
    layer = attention_windows.LocalAttention('general', alignment, window=1)
    layer.build([(None, None, width)] * 2)
    inputs = [tf.zeros([1, length, width]), tf.zeros([1, length, width])]
    context = layer.call(inputs, [tf.ones([1, length], tf.bool), None])[0]
    run = tf.gradients(context, inputs + layer.trainable_weights)
    K.get_session()
    trace = tf.RunMetadata()
    session.run([one for one in run if one is not None], run_metadata=trace,
                options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE))
    sizes = [int(np.prod([side.size for side in output.tensor_description.shape.dim], dtype='i8'))
             for device in trace.step_stats.dev_stats for node in device.node_stats for output in node.output]
    assert length * width <= max(sizes) < length * length / 4


SHAPES = dict(
    score=strategies.sampled_from(['dot', 'general', 'scaled_dot', 'concat']), scale=strategies.booleans(),
    alignment=strategies.sampled_from(['monotonic', 'predictive']), window=strategies.integers(1, 12),
    batch=strategies.integers(1, 3), length=strategies.integers(1, 70), steps=strategies.integers(1, 70),
    share=strategies.sampled_from([0., 0.3, 0.9, 1.]), seed=strategies.integers(0, 99))


@pytest.mark.slow
@settings(max_examples=40)
@given(case=strategies.fixed_dictionaries(SHAPES))
def test_windows_give_what_all_pairs_give_whatever_the_shapes(case):
    pay, attention_windows.windows_pay = attention_windows.windows_pay, lambda window, length: True
    random = np.random.RandomState(case['seed'])
    mask = random.uniform(size=(case['batch'], case['length'])) < case['share']
    try:
        # Without TensorFlow's rewriting of graphs, which for some of these ends the process by a segmentation fault.
        with tf_session.repeatable('float64') as opened:
            compare(opened, [module.LocalAttention(case['score'], case['alignment'], case['window'],
                                                   scale=case['scale']) for module in (attention, attention_windows)],
                    [mask], query_size=DM, shape=(case['batch'], case['length'], case['steps']))
    finally:
        attention_windows.windows_pay = pay
