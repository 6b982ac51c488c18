"""The attention layers' duties as layers of Keras: masks, shapes, saving, regularisers, refusals."""
import json

import tf_session
import numpy as np
import pytest
import tensorflow as tf
from keras import backend as K
from keras import constraints, regularizers
from keras.layers import Concatenate, Dense, Embedding, Input, LSTM
from keras.models import Model, load_model, model_from_json
from keras.optimizers import SGD

from attention import GlobalAttention, LocalAttention, custom_objects
from test_attention import GLOBAL, LOCAL, LOCATION, make, name_of, named_weights

TRIPLES = ('kernel', 'memory_kernel', 'query_kernel', 'score_kernel')
LOCAL_TRIPLES = ('position_kernel', 'position_score_kernel')


def test_fresh_weights_leave_the_score_unscaled(session):
    layer = GlobalAttention('concat', units=4, normalize=True, scale=True)
    layer.build([(None, None, 3), (None, None, 2)])
    weights = named_weights(layer)
    assert {name: value.shape for name, value in weights.items()} == {
        'memory_kernel': (3, 4), 'query_kernel': (2, 4), 'score_kernel': (4, 1), 'norm': (), 'bias': (4,), 'factor': ()}
    assert weights['factor'] == 1 and weights['norm'] == .5 and (weights['bias'] == 0).all()


def test_additive_is_concat_and_width_defaults_to_the_decoders(session):
    layer = GlobalAttention('additive')
    layer.build([(None, None, 3), (None, 2)])
    assert layer.score == 'concat' and layer.get_config()['score'] == 'concat'
    assert [w.shape for w in layer.get_weights()] == [(3, 2), (2, 2), (2, 1)]


def every_option(local):
    """Options that differ from the defaults in every place, JSON's own types."""
    options = {'name': 'heed', 'trainable': False, 'units': 3, 'scale': True, 'normalize': True, 'score': 'concat'}
    if local:
        options.update(alignment='monotonic', window=4)
    else:
        options['max_source_length'] = None
    for index, kernel in enumerate(TRIPLES + (LOCAL_TRIPLES if local else ())):
        options[kernel + '_initializer'] = {'class_name': 'RandomUniform',
                                            'config': {'minval': -1. - index, 'maxval': 1., 'seed': index}}
        options[kernel + '_regularizer'] = {'class_name': 'L1L2', 'config': {'l1': 0., 'l2': .5 + index}}
        options[kernel + '_constraint'] = {'class_name': 'MaxNorm', 'config': {'max_value': 3 + index, 'axis': 0}}
    return options


@pytest.mark.parametrize('local', [False, True])
def test_every_option_survives_get_config_and_json(local):
    options = every_option(local)
    config = json.loads(json.dumps(make(options).get_config()))
    assert config == options
    assert make(config).get_config() == options
    assert GlobalAttention('location', max_source_length=8).get_config()['max_source_length'] == 8


@pytest.mark.parametrize('options', [GLOBAL[0], GLOBAL[10], LOCATION[0], LOCAL[4], LOCAL[8]], ids=name_of)
def test_a_model_survives_json(options, session):
    inputs = [Input((None, 3)), Input((None, 3))]
    model = Model(inputs, make(options)(inputs))
    again = model_from_json(model.to_json(), custom_objects=custom_objects)
    again.set_weights(model.get_weights())
    draw = np.random.RandomState(6)
    data = [draw.normal(size=(2, 5, 3)), draw.normal(size=(2, 4, 3))]
    for one, other in zip(model.predict(data), again.predict(data)):
        assert (one == other).all()


@pytest.mark.filterwarnings('ignore:Layer .* non-serializable', 'ignore:No training configuration')
def test_a_masked_seq2seq_model_trains_and_survives_h5(session, tmp_path):
    tf_session.seed_weights(7)
    source, target = Input((None,)), Input((None,))
    # Not trained, for speed: their gradients take longer to build than all else here.
    encoder, decoder = (LSTM(4, return_sequences=True, return_state=True, trainable=False) for _ in range(2))
    encoder_states, *last = encoder(Embedding(7, 4, mask_zero=True, trainable=False)(source))
    decoder_states = decoder(Embedding(7, 4, mask_zero=True, trainable=False)(target), initial_state=last)[0]
    general = GlobalAttention('general', scale=True, kernel_regularizer='l2', kernel_constraint='max_norm',
                              name='general')
    context, weights = general([encoder_states, decoder_states])
    local = LocalAttention('concat', units=3, normalize=True, alignment='predictive', window=2, name='local')
    local_context, local_weights = local([encoder_states, decoder_states])
    state = Dense(4, activation='tanh', use_bias=False)(Concatenate()([context, local_context, decoder_states]))
    model = Model([source, target], [Dense(7, activation='softmax')(state), weights, local_weights])
    model.compile(SGD(.5), ['sparse_categorical_crossentropy', None, None])
    sources = np.array([[1, 2, 3, 4, 5], [4, 5, 6, 0, 0], [2, 0, 0, 0, 0]])
    targets = np.array([[1, 2, 3, 4], [3, 2, 0, 0], [5, 6, 1, 0]])
    wanted = np.array([[2, 3, 4, 6], [2, 1, 5, 5], [6, 1, 4, 5]])[:, :, None]

    predictions, *alignments = model.predict([sources, targets])
    for alignment in alignments:
        assert (alignment[np.broadcast_to(sources[:, None] == 0, alignment.shape)] == 0).all()
    likelihood = np.log(np.take_along_axis(predictions, wanted, axis=-1)[:, :, 0])
    expected = .01 * np.square(general.get_weights()[0]).sum() - likelihood[targets > 0].mean()
    losses = [model.train_on_batch([sources, targets], wanted)[0] for _ in range(20)]
    np.testing.assert_allclose(losses[0], expected, rtol=1e-5)
    assert losses[-1] < .9 * losses[0]

    path = str(tmp_path / 'model.h5')
    model.save(path, include_optimizer=False)
    again = load_model(path, custom_objects=custom_objects)
    for layer in (general, local):
        assert again.get_layer(layer.name).get_config() == layer.get_config()
    for one, other in zip(model.predict([sources, targets]), again.predict([sources, targets])):
        assert (one == other).all()


@pytest.mark.parametrize('memory, query', [
    ((None, None, 3), (None, None, 2)), ((None, 5, 3), (None, 4, 2)), ((2, None, 3), (2, 4, 2)),
    ((2, 5, 3), (2, None, 2)), ((None, None, 3), (None, 2)), ((2, 5, 3), (2, 2))])
def test_compute_output_shape_is_the_real_shape(memory, query, session):
    inputs = [Input(batch_shape=memory), Input(batch_shape=query)]
    feed = {inputs[0]: np.ones((2, 5, 3)), inputs[1]: np.ones((2, 4, 2)[:len(query) - 1] + (2,))}
    for options in (dict(score='location', max_source_length=5), dict(score='concat', alignment='predictive')):
        layer = make(options)
        outputs = layer(inputs)
        shapes = layer.compute_output_shape([memory, query])
        assert shapes == [query[:-1] + (3,), query[:-1] + (memory[1],)] == [K.int_shape(output) for output in outputs]
        for output, value, shape in zip(outputs, K.get_session().run(outputs, feed), shapes):
            assert value.shape == (2, 4)[:len(query) - 1] + (value.shape[-1],)
            assert [size or real for size, real in zip(shape, value.shape)] == list(value.shape)
            output.get_shape().assert_is_compatible_with(shape)


def test_compute_mask_hands_on_the_target_mask_alone(session):
    masks = [K.placeholder((None, None), dtype='bool') for _ in range(2)]
    for layer in (GlobalAttention(), LocalAttention()):
        assert layer.compute_mask([None, None], masks) == [masks[1], None]
        assert layer.compute_mask([None, None, None], masks + [None]) == [masks[1], None]
        assert layer.compute_mask([None, None], [masks[0], None]) == [None, None]
        assert layer.compute_mask([None, None]) == [None, None]


@pytest.mark.parametrize('score, local', [('general', False), ('location', False), ('concat', False), ('concat', True)])
def test_regularisers_and_constraints_of_each_kernel_take_effect(score, local, session):
    own = (('kernel',) if score != 'concat' else TRIPLES[1:]) + (LOCAL_TRIPLES if local else ())
    factors = {kernel: .01 * 2 ** index for index, kernel in enumerate(own)}
    bounds = {kernel: .1 * (1 + index) for index, kernel in enumerate(own)}
    options = {'score': score, 'alignment': 'predictive', 'window': 2} if local else {'score': score}
    for kernel in own:
        options[kernel + '_regularizer'] = regularizers.l2(factors[kernel])
        options[kernel + '_constraint'] = constraints.max_norm(bounds[kernel])
    inputs = [Input((5, 3)), Input((4, 3))]
    layer = make(options)
    model = Model(inputs, layer(inputs)[0])
    model.compile(SGD(1e-3), 'mse')
    draw = np.random.RandomState(8)
    layer.set_weights([draw.normal(size=value.shape) for value in layer.get_weights()])
    data, wanted = [draw.normal(size=(2, 5, 3)), draw.normal(size=(2, 4, 3))], draw.normal(size=(2, 4, 3))
    before = named_weights(layer)
    penalty = sum(factors[kernel] * np.square(before[kernel]).sum() for kernel in own)
    error = np.square(model.predict(data) - wanted).mean()
    # Not the loss that the update returns: the penalty may be read from weights that have moved.
    np.testing.assert_allclose(model.test_on_batch(data, wanted), error + penalty, rtol=1e-5)
    model.train_on_batch(data, wanted)
    for kernel, value in named_weights(layer).items():
        norms = np.sqrt(np.square(before[kernel]).sum(axis=0))
        assert (norms > bounds[kernel] * 1.1).any()    # or the constraint would have nothing to do
        np.testing.assert_allclose(np.sqrt(np.square(value).sum(axis=0)), np.minimum(norms, bounds[kernel]),
                                   rtol=.02, err_msg=kernel)
        assert (np.sqrt(np.square(value).sum(axis=0)) < bounds[kernel] * (1 + 1e-5)).all()


def test_one_layer_takes_sequences_then_steps_with_positions(session):
    layer = LocalAttention('dot', 'monotonic', window=1)
    memory, query, state = Input((None, 3)), Input((None, 3)), Input((3,))
    positions = Input((1,), dtype='int32')
    draw = np.random.RandomState(9)
    states, queries = draw.normal(size=(2, 5, 3)), draw.normal(size=(2, 4, 3))
    whole = Model([memory, query], layer([memory, query])).predict([states, queries])
    step = Model([memory, state, positions], layer([memory, state, positions]))
    for t in range(4):
        for one, other in zip(step.predict([states, queries[:, t], np.full((2, 1), t)]), whole):
            np.testing.assert_allclose(one, other[:, t], atol=1e-6)


# Refusals

@pytest.mark.parametrize('options, message', [
    (dict(score='cosine'), r"'cosine'.*dot, general, concat, location, scaled_dot, additive"),
    (dict(score=None), 'known are dot'),
    (dict(score='general', units=3), 'units=3.*concat'), (dict(score='concat', units=0), 'units=0'),
    (dict(score='dot', normalize=True), "normalize.*concat.*'dot'"),
    (dict(score='concat', max_source_length=4), "max_source_length.*location.*'concat'"),
    (dict(score='location', alignment='monotonic'), 'location.*global'),
    (dict(alignment='sideways'), "'sideways'.*predictive, monotonic"),
    (dict(alignment='monotonic', window=0), 'window=0')])
def test_options_a_layer_does_not_have_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(options)


@pytest.mark.parametrize('options, shapes, message', [
    (dict(score='dot'), [(None, 5, 3), (None, 4, 2)], 'dot .*3 and 2.*general'),
    (dict(score='scaled_dot'), [(None, 5, 3), (None, 4)], 'scaled_dot .*3 and 4'),
    (dict(score='location'), [(None, None, 3), (None, 4, 2)], 'give max_source_length'),
    (dict(score='location', max_source_length=4), [(None, 5, 3), (None, 4, 2)], 'length 5 exceeds max_source_length=4'),
    (dict(score='dot'), [(None, 3), (None, 4, 3)], r'\(B, S, Dm\)'),
    (dict(score='dot'), [(None, 5, 3), (None, 2, 4, 3)], r'\(B, T, Dq\)'),
    (dict(score='dot'), [(None, 5, None), (None, 4, 3)], 'must be known'),
    (dict(score='dot'), [(None, 5, 3)], 'list of encoder states and decoder states'),
    (dict(score='dot'), [(None, 5, 3)] * 4, 'list of encoder states and decoder states'),
    (dict(score='dot', alignment='monotonic'), [(None, 5, 3), (None, 4, 3), (None, 4, 1)], r'positions \(B, T\)')])
def test_inputs_that_do_not_fit_are_refused(options, shapes, message, session):
    inputs = [K.placeholder(shape) for shape in shapes]
    with pytest.raises(ValueError, match=message):
        make(options)(inputs if len(inputs) > 1 else inputs[0])


def test_a_built_layer_refuses_other_sizes(session):
    layer = GlobalAttention('general')
    layer([K.placeholder((None, 5, 3)), K.placeholder((None, 4, 2))])
    for shapes in ([(None, 5, 2), (None, 4, 2)], [(None, 5, 3), (None, 4, 3)], [(None, 5), (None, 4, 2)]):
        with pytest.raises(ValueError, match='incompatible with layer'):
            layer([K.placeholder(shape) for shape in shapes])


def test_location_refuses_a_longer_source_when_run(session):
    memory, query = K.placeholder((None, None, 2)), K.placeholder((None, 2))
    context, weights = GlobalAttention('location', max_source_length=4)([memory, query])
    K.get_session().run(tf.global_variables_initializer())
    assert session.run(weights, {memory: np.ones((1, 4, 2)), query: np.ones((1, 2))}).shape == (1, 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match='largest for the location score'):
        session.run(weights, {memory: np.ones((1, 5, 2)), query: np.ones((1, 2))})
