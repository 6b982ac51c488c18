"""Our decoder with input feeding against TensorFlow 1.12's own: `AttentionWrapper` under `dynamic_decode`.

Contrib's decoder stands on our encoder's states, with copies of our decoder's weights.
"""
import tf_session  # noqa: F401  first: it fixes the import order
import numpy as np
import pytest
import tensorflow as tf
from keras import backend as K
from keras.layers import Dense, Input, LSTMCell
from tensorflow.contrib import seq2seq
from tensorflow.nn.rnn_cell import BasicLSTMCell, LSTMStateTuple, RNNCell

from attention import GlobalAttention
from decoder_cell import DecoderCell, InputFeedingRNN
from small_models import VOCABULARY, Small, make_batch, padded

UNITS = 6


class KerasCell(RNNCell):
    """A Keras LSTM cell with the interface of TensorFlow's decoder."""

    def __init__(self, cell):
        super(KerasCell, self).__init__()
        self.keras_cell = cell

    state_size, output_size = (UNITS, UNITS), UNITS

    def call(self, inputs, state):
        output, states = self.keras_cell.call(inputs, list(state))
        return output, tuple(states)


def keras_cell(kernel, recurrent_kernel, bias):
    """A new LSTMCell of Keras with these weights, and how its state is made of [h, c]."""
    cell = LSTMCell(UNITS)
    cell.build((None, len(kernel)))
    cell.set_weights([kernel, recurrent_kernel, bias])
    return KerasCell(cell), tuple


def basic_lstm_cell(kernel, recurrent_kernel, bias):
    """The same of TensorFlow's own LSTM: gates i, j, f, o where Keras has i, f, c, o; state (c, h)."""
    def reordered(x):
        i, f, c, o = np.split(x, 4, axis=-1)
        return np.concatenate([i, c, f, o], axis=-1)

    cell = BasicLSTMCell(UNITS, forget_bias=0., dtype=K.floatx())
    cell.build(tf.TensorShape([None, len(kernel)]))
    for variable, value in zip(cell.variables, [np.concatenate([kernel, recurrent_kernel]), bias]):
        variable.load(reordered(value), K.get_session())
    return cell, lambda states: LSTMStateTuple(states[1], states[0])


def contrib_decoder(memory, lengths, first_states, x, cell, mechanism, copies, output_layer=None, **options):
    """Output `(B, T, n)` and weights `(B, T, S)` of `dynamic_decode` for embedded target tokens `x` `(B, T, E)`.

    `lengths` are those of source and target; `cell` comes from one of the two functions above; `mechanism` is a class
    and its options; `copies` are weights by the ends of their names; `options` are those of `AttentionWrapper`.
    """
    with tf.variable_scope('contrib'):
        made = mechanism[0](UNITS, memory, lengths[0], dtype=memory.dtype, **mechanism[1])
        wrapper = seq2seq.AttentionWrapper(cell[0], made, alignment_history=True, **options)
        start = wrapper.zero_state(tf.shape(memory)[0], memory.dtype).clone(cell_state=cell[1](first_states))
        decoder = seq2seq.BasicDecoder(wrapper, seq2seq.TrainingHelper(x, lengths[1]), start, output_layer)
        outputs, state, _ = seq2seq.dynamic_decode(decoder, impute_finished=True)
    variables = tf.global_variables('contrib/')
    assert len(variables) == len(copies)
    for end, value in copies.items():
        variable, = [one for one in variables if one.op.name.endswith(end)]
        variable.load(value, K.get_session())
    return outputs.rnn_output, tf.transpose(state.alignment_history.stack(), [1, 0, 2])


def context_last(kernel):
    """W_c for [c; h] as it is for contrib's [h; c], where Dm = D."""
    return np.concatenate([kernel[UNITS:], kernel[:UNITS]])


CASES = {
    'general': (dict(score='general', attention_scale=True), keras_cell, (seq2seq.LuongAttention, dict(scale=True)),
                {'memory_layer/kernel': lambda w: w('kernel').T, 'attention_g': lambda w: w('factor')}),
    'concat': (dict(score='concat', attention_normalize=True, recurrent_activation='sigmoid', share_vocabulary=True),
               basic_lstm_cell, (seq2seq.BahdanauAttention, dict(normalize=True)),
               {'memory_layer/kernel': lambda w: w('memory_kernel'), 'query_layer/kernel': lambda w: w('query_kernel'),
                'attention_v': lambda w: w('score_kernel')[:, 0], 'attention_g': lambda w: w('norm'),
                'attention_b': lambda w: w('bias')}),
}


@pytest.fixture(ids='-'.join, params=[pytest.param(('general', 'float32'), marks=pytest.mark.slow),
                                      ('concat', 'float64')])
def case(request):
    K.set_floatx(request.param[1])
    yield CASES[request.param[0]]
    K.set_floatx('float32')


def test_attention_wrapper_of_contrib_is_our_decoder_with_input_feeding(case, session):
    values, make_cell, mechanism, copies = case
    small = Small(input_feeding=True, scale=2., **values)
    model, batch = small.model, padded(make_batch([5, 2, 1], [5, 2, 0]))

    def weight(name):
        return small.weights['decoder/%s:0' % name]

    copies = {end: copy(lambda name: weight('attention/' + name)) for end, copy in copies.items()}
    copies['attention_layer/kernel'] = context_last(weight('attentional_state/kernel'))
    copies['output_layer/kernel'] = small.weights['output/kernel:0']
    lengths = [tf.count_nonzero(ids, 1, dtype=tf.int32) for ids in (model.source, model.target)]
    contrib = contrib_decoder(
        model.memory.states, lengths, model.initial_states, model.target_embedding.call(model.target),
        make_cell(*[weight('cell_1/' + part) for part in ('kernel', 'recurrent_kernel', 'bias')]), mechanism, copies,
        output_layer=tf.layers.Dense(VOCABULARY, use_bias=False, name='output_layer'),
        attention_layer=tf.layers.Dense(UNITS, tf.tanh, use_bias=False, name='attention_layer'))
    logits, weights = session.run(contrib, {model.source: batch.source, model.target: batch.given})
    expected = small.whole(batch)
    valid = (batch.given > 0)[:, :logits.shape[1]]
    assert logits.shape == (3, 6, VOCABULARY) and logits.dtype == K.floatx() and valid.sum() == 6 + 3 + 1
    for one, other in ((logits, expected.logits), (weights, expected.weights)):
        assert np.max(np.abs(one - other[:, :6])[valid]) <= {'float32': 1e-6, 'float64': 1e-12}[K.floatx()]
    assert np.ptp(weights[0][:, :5]) > 0.1  # or any weights would agree


def test_attention_layer_of_contrib_is_ours_without_tanh_and_with_swapped_rows(float64, session):
    def draw(*shape):
        return random.normal(size=shape)

    random = np.random.RandomState(0)
    memory, x, h, c = K.constant(draw(2, 4, UNITS)), K.constant(draw(2, 3, 5)), *map(K.constant, draw(2, 2, UNITS))
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], 'i')
    cell_weights = [draw(5 + UNITS, 4 * UNITS), draw(UNITS, 4 * UNITS), draw(4 * UNITS)]
    attention_kernel, combine_kernel = draw(UNITS, UNITS), draw(2 * UNITS, UNITS)

    def decoded_by_us(activation):
        cell = DecoderCell([LSTMCell(UNITS)], GlobalAttention('general'),
                           Dense(UNITS, activation=activation, use_bias=False), True, False)
        fed = [x, K.zeros((2, 2 * UNITS)), h, c, K.zeros((2, 1)), memory, K.constant(mask)]
        x_in, *fed = [Input(tensor=tensor) for tensor in fed]
        joined = InputFeedingRNN(cell, return_sequences=True)(x_in, initial_state=fed[:4], constants=fed[4:])
        K.batch_set_value(list(zip(cell.trainable_weights, cell_weights + [attention_kernel, combine_kernel])))
        return K.get_session().run(joined)[:, :, :UNITS]

    contrib, _ = contrib_decoder(
        memory, [mask.sum(axis=1).astype('i'), np.array([3, 3], 'i')], [h, c], x, keras_cell(*cell_weights),
        (seq2seq.LuongAttention, {}), {'memory_layer/kernel': attention_kernel.T,
                                       'attention_layer/kernel': context_last(combine_kernel)},
        attention_layer_size=UNITS)
    theirs = session.run(contrib)
    assert np.max(np.abs(theirs - decoded_by_us(None))) <= 1e-12
    assert np.max(np.abs(theirs - decoded_by_us('tanh'))) > 0.1
    layer, = [one for one in tf.global_variables('contrib/') if one.op.name.endswith('attention_layer/kernel')]
    layer.load(combine_kernel, session)
    assert np.max(np.abs(session.run(contrib) - decoded_by_us(None))) > 0.1
