import numpy as np
import pytest

import tf_session  # noqa: F401  first: it fixes the import order
from keras import backend as K
import tensorflow as tf

import attention
import attention_blocks

B, S, T, DM, DQ = 3, 9, 7, 4, 5
MASKS = {
    'none': None,
    'right': np.arange(S) < np.array([[9], [4], [1]]),
    'left': np.arange(S) >= np.array([[0], [5], [8]]),
    'holes and an empty row': np.array([[1, 0, 1, 1, 0, 0, 1, 1, 0], [0] * 9, [0, 1, 0, 0, 0, 0, 0, 0, 1]], bool),
}


def compare(session, kinds, mask, positions=None, query_size=DQ, tolerance=1e-12):
    """Context, weights and gradients of two layers with the same weights, in float64."""
    random = np.random.RandomState(1)
    memory, query = [tf.constant(random.normal(size=shape)) for shape in ((B, S, DM), (B, T, query_size))]
    found = []
    for layer in kinds:
        inputs = [memory, query] + ([] if positions is None else [tf.constant(positions, tf.float64)])
        layer.build([(None, None, DM), (None, None, query_size)])
        values = np.random.RandomState(2)
        layer.set_weights([values.uniform(-1, 1, weight.shape) + 0.5 for weight in layer.get_weights()])
        context, weights = layer.call(inputs, None if mask is None else [tf.constant(mask), None])
        total = tf.reduce_sum(tf.sin(7. * context)) + tf.reduce_sum(tf.square(weights))
        gradients = tf.gradients(total, [memory, query] + layer.trainable_weights)
        found.append(session.run([context, weights] + [tf.convert_to_tensor(one) for one in gradients]))
    for plain, fast in zip(*found):
        assert plain.shape == fast.shape
        assert np.max(np.abs(plain - fast)) <= tolerance * max(1., np.max(np.abs(plain)))


@pytest.mark.parametrize('options', [dict(), dict(normalize=True, scale=True, units=3)], ids=['plain', 'normalized'])
@pytest.mark.parametrize('mask', sorted(MASKS))
def test_the_additive_score_in_blocks_has_the_same_values_and_gradients(float64, session, options, mask):
    compare(session, [module.GlobalAttention('concat', **options) for module in (attention, attention_blocks)],
            MASKS[mask])


def test_a_large_step_of_a_search_computes_in_blocks_and_gives_the_same(session, monkeypatch):
    layer = attention_blocks.GlobalAttention('concat')
    layer.build([(None, None, DM), (None, None, DQ)])
    random = np.random.RandomState(1)
    memory, query = [tf.constant(random.normal(size=shape).astype('f')) for shape in ((B, S, DM), (B, 2, DQ))]
    found = []
    for limit in (10 ** 6, 1):
        monkeypatch.setattr(attention_blocks, 'LARGEST_STEP', limit)
        weights = layer.attend(query, memory, layer.keys(memory), None, tf.zeros([B, 2])).weights
        K.get_session()  # gives the kernels their values
        found.append(session.run(weights))
    assert np.allclose(*found, atol=1e-6)


@pytest.mark.parametrize('score', ['dot', 'general', 'concat'])
@pytest.mark.parametrize('alignment', ['monotonic', 'predictive'])
@pytest.mark.parametrize('mask', sorted(MASKS))
def test_local_attention_that_computes_its_window_has_the_same_values_and_gradients(
        float64, session, monkeypatch, alignment, mask, score):
    monkeypatch.setattr(attention_blocks, 'windows_pay', lambda window, length: True)
    compare(session, [module.LocalAttention(score, alignment, window=1, scale=True)
                      for module in (attention, attention_blocks)], MASKS[mask], query_size=DM)


@pytest.mark.parametrize('window', [2, 10])
def test_positions_that_a_decoder_gives_move_the_window_in_the_same_way(float64, session, monkeypatch, window):
    monkeypatch.setattr(attention_blocks, 'windows_pay', lambda window, length: True)
    positions = np.arange(B * T).reshape(B, T) % 12
    compare(session, [module.LocalAttention('general', 'monotonic', window=window)
                      for module in (attention, attention_blocks)], MASKS['left'], positions)


@pytest.mark.parametrize('alignment', ['monotonic', 'predictive'])
def test_whether_windows_pay_is_decided_by_the_length_and_changes_no_value(float64, session, alignment):
    for window in (1, 3):
        compare(session, [module.LocalAttention('dot', alignment, window=window)
                          for module in (attention, attention_blocks)], MASKS['right'], query_size=DM)
