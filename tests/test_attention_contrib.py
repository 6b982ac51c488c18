"""The attention layers against TensorFlow 1.12's own, `tf.contrib.seq2seq`, with copied weights and a padded batch."""
import tf_session  # noqa: F401  fixes the import order
import numpy as np
import pytest
import tensorflow as tf
from keras import backend as K

from attention import GlobalAttention

TOLERANCE = {'float32': 1e-6, 'float64': 1e-12}
LENGTHS = np.array([5, 3, 1])

# Our weight: contrib's weight, and how the one is made of the other. Contrib's general kernel acts on encoder states.
GENERAL = {'kernel': ('memory_layer/kernel', np.transpose)}
FACTOR = {'factor': ('attention_g', np.array)}
CONCAT = {'memory_kernel': ('memory_layer/kernel', np.array), 'query_kernel': ('query_layer/kernel', np.array),
          'score_kernel': ('attention_v', lambda v: v[:, None])}
NORMED = {'norm': ('attention_g', np.array), 'bias': ('attention_b', np.array)}


@pytest.fixture(params=sorted(TOLERANCE))
def floatx(request):
    K.set_floatx(request.param)
    yield request.param
    K.set_floatx('float32')


def run_both(layer, mechanism, units, copies, session, size=3, kernel=None, lengths=LENGTHS):
    """Context and weights of our layer, then of contrib's mechanism, whose random weights both have.

    The mechanism takes one decoder state a sentence: each sentence stands in its batch once for each of T steps.
    """
    draw = np.random.RandomState(1)
    states, queries = draw.normal(size=(3, 5, size)), draw.normal(size=(3, 4, 4))
    memory, query = K.constant(states), K.constant(queries)
    context, weights = layer([memory, query], mask=[tf.sequence_mask(lengths, 5), None])
    mechanism = mechanism(units, K.constant(np.repeat(states, 4, axis=0)), np.repeat(lengths, 4), dtype=memory.dtype)
    alignments, _ = mechanism(tf.reshape(query, [12, 4]), mechanism.initial_state(12, memory.dtype))
    contrib_context = tf.matmul(tf.expand_dims(alignments, 1), mechanism.values)    # as contrib's wrapper does

    variables = {variable.op.name: variable for variable in tf.global_variables() if variable not in layer.weights}
    values = {name: draw.normal(size=variable.shape.as_list()) if kernel is None else kernel
              for name, variable in sorted(variables.items())}
    for name, variable in variables.items():
        variable.load(values[name], session)
    ours = []
    for weight in layer.weights:
        theirs, convert = copies[weight.op.name.split('/')[-1]]
        ours.append(convert([value for name, value in values.items() if name.endswith(theirs)][0]))
    assert len(ours) == len(values) or kernel is not None    # all of contrib's weights are in use
    layer.set_weights(ours)
    return session.run([context, weights, tf.reshape(contrib_context, [3, 4, size]),
                        tf.reshape(alignments, [3, 4, 5])])


def assert_agree(results, tolerance):
    context, weights, contrib_context, contrib_weights = results
    assert np.ptp(weights[0]) > .1    # or any weights would agree
    np.testing.assert_allclose(weights, contrib_weights, rtol=0, atol=tolerance)
    np.testing.assert_allclose(context, contrib_context, rtol=0, atol=tolerance)
    padding = np.broadcast_to(np.arange(5) >= LENGTHS[:, None, None], weights.shape)
    assert (weights[padding] == 0).all() and (contrib_weights[padding] == 0).all()


@pytest.mark.parametrize('scale', [False, True])
def test_luong_attention_is_our_general_score(scale, floatx, session):
    def mechanism(*args, **kwargs):
        return tf.contrib.seq2seq.LuongAttention(*args, scale=scale, **kwargs)
    copies = dict(GENERAL, **FACTOR) if scale else GENERAL
    assert_agree(run_both(GlobalAttention('general', scale=scale), mechanism, 4, copies, session), TOLERANCE[floatx])


@pytest.mark.parametrize('normalize', [False, True])
def test_bahdanau_attention_is_our_concat_score(normalize, floatx, session):
    def mechanism(*args, **kwargs):
        return tf.contrib.seq2seq.BahdanauAttention(*args, normalize=normalize, **kwargs)
    copies = dict(CONCAT, **NORMED) if normalize else CONCAT
    assert_agree(run_both(GlobalAttention('concat', units=6, normalize=normalize), mechanism, 6, copies, session),
                 TOLERANCE[floatx])


def test_luong_attention_is_the_papers_dot_only_with_a_unit_kernel(floatx, session):
    results = run_both(GlobalAttention('dot'), tf.contrib.seq2seq.LuongAttention, 4, {}, session, size=4,
                       kernel=np.eye(4))
    assert_agree(results, TOLERANCE[floatx])


def test_contrib_refuses_an_empty_source_where_ours_gives_zeros(session):
    lengths = np.array([5, 0, 1])
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match='must greater than zero'):
        run_both(GlobalAttention('general'), tf.contrib.seq2seq.LuongAttention, 4, GENERAL, session, lengths=lengths)
    layer = GlobalAttention('general')
    outputs = layer([K.ones((3, 5, 3)), K.ones((3, 4, 4))], mask=[tf.sequence_mask(lengths, 5), None])
    layer.set_weights(layer.get_weights())
    for value in session.run(outputs):
        assert (value[1] == 0).all() and np.isfinite(value).all() and value[0].any()


def test_contrib_has_the_same_initial_scalars(session):
    memory, query = K.ones((1, 2, 3)), K.ones((1, 4))
    mechanisms = [tf.contrib.seq2seq.LuongAttention(4, memory, scale=True),
                  tf.contrib.seq2seq.BahdanauAttention(6, memory, normalize=True)]
    layers = [GlobalAttention('general', scale=True), GlobalAttention('concat', units=6, normalize=True)]
    for mechanism, layer, copies in zip(mechanisms, layers, (FACTOR, NORMED)):
        before = set(tf.global_variables())
        mechanism(query, mechanism.initial_state(1, tf.float32))
        layer([memory, query])
        session.run(tf.variables_initializer(tf.global_variables()))
        fresh = {variable.op.name.split('/')[-1]: session.run(variable)
                 for variable in tf.global_variables() if variable not in before}
        for ours, (theirs, _) in copies.items():
            assert (fresh[ours] == fresh[theirs]).all()
