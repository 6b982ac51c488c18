"""The attention layers as layers of Keras: masks, shapes, saving, regularizers, errors."""
import importlib.util
import json
import os
import shutil
import sys
import warnings

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

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONCAT_KERNELS = ('memory_kernel', 'query_kernel', 'score_kernel')
POSITION_KERNELS = ('position_kernel', 'position_score_kernel')


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
    options['kernel_initializer'] = {'class_name': 'RandomUniform',
                                     'config': {'minval': -2., 'maxval': 1., 'seed': 3}}
    options['kernel_regularizer'] = {'class_name': 'L1L2', 'config': {'l1': 0., 'l2': .5}}
    options['kernel_constraint'] = {'class_name': 'MaxNorm', 'config': {'max_value': 3, 'axis': 0}}
    return options


@pytest.mark.parametrize('local', [False, True])
def test_every_option_survives_get_config_and_json(local):
    options = every_option(local)
    config = json.loads(json.dumps(make(options).get_config()))
    assert config == options
    assert make(config).get_config() == options
    assert GlobalAttention('location', max_source_length=8).get_config()['max_source_length'] == 8


def earlier_config(layer, kernels, **options):
    """The configuration that earlier versions saved, an initializer, regularizer and constraint for each kernel."""
    config = layer.get_config()
    defaults = {name: config.pop(name) for name in ('kernel_initializer', 'kernel_regularizer', 'kernel_constraint')}
    for kernel in ('kernel',) + CONCAT_KERNELS + (POSITION_KERNELS if 'alignment' in config else ()):
        for name, default in defaults.items():
            value = options.get(name, default) if kernel in kernels else default
            config[kernel + name[len('kernel'):]] = value
    return config


@pytest.mark.parametrize('options, kernels', [
    (dict(score='general'), ('kernel',)), (dict(score='location', max_source_length=5), ('kernel',)),
    (dict(score='concat', units=2), CONCAT_KERNELS), (dict(score='dot'), ()),
    (dict(score='concat', alignment='monotonic'), CONCAT_KERNELS),
    (dict(score='general', alignment='predictive'), ('kernel',) + POSITION_KERNELS),
    (dict(score='dot', alignment='predictive'), POSITION_KERNELS)])
def test_a_configuration_of_an_earlier_version_loads_with_its_options(options, kernels, session):
    triple = {'kernel_initializer': {'class_name': 'Ones', 'config': {}},
              'kernel_regularizer': {'class_name': 'L1L2', 'config': {'l1': 0., 'l2': .25}},
              'kernel_constraint': {'class_name': 'MaxNorm', 'config': {'max_value': 3, 'axis': 0}}}
    inputs = [Input((5, 3)), Input((4, 3))]
    model = Model(inputs, make(dict(options, name='attention'))(inputs))
    saved = json.loads(model.to_json())
    layer, = [layer for layer in saved['config']['layers'] if layer['name'] == 'attention']
    layer['config'] = earlier_config(model.get_layer('attention'), kernels, **triple)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', 'The saved kernels')
        again = model_from_json(json.dumps(saved), custom_objects=custom_objects)
    expected = dict(model.get_layer('attention').get_config(), **(triple if kernels else {}))
    assert again.get_layer('attention').get_config() == expected
    assert [w.name for w in again.weights] == [w.name.replace('attention/', 'attention_1/') for w in model.weights]
    assert all((value == 1).all() for value in again.get_weights())
    draw = np.random.RandomState(6)
    data = [draw.normal(size=(2, 5, 3)), draw.normal(size=(2, 4, 3))]
    again.set_weights(model.get_weights())
    for one, other in zip(model.predict(data), again.predict(data)):
        assert (one == other).all()


def test_an_earlier_configuration_with_different_kernel_options_uses_the_first_with_a_warning():
    config = earlier_config(GlobalAttention('concat'), CONCAT_KERNELS[:1],
                            kernel_regularizer={'class_name': 'L1L2', 'config': {'l1': 0., 'l2': .25}})
    with pytest.warns(UserWarning, match='The saved kernels differ in their regularizer') as caught:
        layer = GlobalAttention.from_config(config)
    assert len(caught) == 1
    assert layer.get_config()['kernel_regularizer'] == config['memory_kernel_regularizer']


def test_the_file_works_alone_in_another_folder(session, tmp_path, monkeypatch):
    shutil.copy(os.path.join(ROOT, 'attention.py'), str(tmp_path / 'copied_attention.py'))
    monkeypatch.setattr(sys, 'path', [path for path in sys.path
                                      if os.path.abspath(path) not in (ROOT, os.path.dirname(__file__))])
    for name, module in list(sys.modules.items()):     # nothing of this project can be imported
        if os.path.dirname(getattr(module, '__file__', None) or '').startswith(ROOT) and '.venv' not in str(module):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError):
        importlib.import_module('seq2seq_model')
    spec = importlib.util.spec_from_file_location('copied_attention', str(tmp_path / 'copied_attention.py'))
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    inputs = [Input((None, 3)), Input((None, 3))]
    context, weights = copied.LocalAttention('concat')(inputs)
    values = Model(inputs, [context, weights]).predict([np.ones((2, 5, 3)), np.ones((2, 4, 3))])
    assert [value.shape for value in values] == [(2, 4, 3), (2, 4, 5)]


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
    # Not the loss that an update returns: it may be read from weights that have moved.
    first = model.test_on_batch([sources, targets], wanted)[0]
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    for _ in range(20):
        model.train_on_batch([sources, targets], wanted)
    assert model.test_on_batch([sources, targets], wanted)[0] < .9 * first

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


def test_compute_mask_returns_the_target_mask_only(session):
    masks = [K.placeholder((None, None), dtype='bool') for _ in range(2)]
    for layer in (GlobalAttention(), LocalAttention()):
        assert layer.compute_mask([None, None], masks) == [masks[1], None]
        assert layer.compute_mask([None, None, None], masks + [None]) == [masks[1], None]
        assert layer.compute_mask([None, None], [masks[0], None]) == [None, None]
        assert layer.compute_mask([None, None]) == [None, None]


@pytest.mark.parametrize('score, local', [('general', False), ('location', False), ('concat', False), ('concat', True)])
def test_regularizer_and_constraint_take_effect_on_every_kernel(score, local, session):
    own = (('kernel',) if score != 'concat' else CONCAT_KERNELS) + (POSITION_KERNELS if local else ())
    bound, options = .2, {'score': score, 'alignment': 'predictive', 'window': 2} if local else {'score': score}
    inputs = [Input((5, 3)), Input((4, 3))]
    layer = make(dict(options, kernel_initializer='ones', kernel_regularizer=regularizers.l2(.01),
                      kernel_constraint=constraints.max_norm(bound)))
    model = Model(inputs, layer(inputs)[0])
    assert sorted(named_weights(layer)) == sorted(own)
    assert all((value == 1).all() for value in layer.get_weights())
    model.compile(SGD(1e-3), 'mse')
    draw = np.random.RandomState(8)
    layer.set_weights([draw.normal(size=value.shape) for value in layer.get_weights()])
    data, wanted = [draw.normal(size=(2, 5, 3)), draw.normal(size=(2, 4, 3))], draw.normal(size=(2, 4, 3))
    before = named_weights(layer)
    penalty = .01 * sum(np.square(value).sum() for value in before.values())
    error = np.square(model.predict(data) - wanted).mean()
    # Not the loss that the update returns: the penalty may be read from weights that have moved.
    np.testing.assert_allclose(model.test_on_batch(data, wanted), error + penalty, rtol=1e-5)
    model.train_on_batch(data, wanted)
    for kernel, value in named_weights(layer).items():
        norms = np.sqrt(np.square(before[kernel]).sum(axis=0))
        assert (norms > bound * 1.1).any()    # or the constraint would have nothing to do
        np.testing.assert_allclose(np.sqrt(np.square(value).sum(axis=0)), np.minimum(norms, bound),
                                   rtol=.02, err_msg=kernel)
        assert (np.sqrt(np.square(value).sum(axis=0)) < bound * (1 + 1e-5)).all()


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


# Errors

@pytest.mark.parametrize('options, message', [
    (dict(score='cosine'), r"'cosine'.*dot, general, concat, location, scaled_dot, additive"),
    (dict(score=None), 'known are dot'),
    (dict(score='general', units=3), 'units=3.*concat'), (dict(score='concat', units=0), 'units=0'),
    (dict(score='dot', normalize=True), "normalize.*concat.*'dot'"),
    (dict(score='concat', max_source_length=4), "max_source_length.*location.*'concat'"),
    (dict(score='location', max_source_length=0), 'max_source_length=0: at least 1'),
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
    (dict(score='location', max_source_length=4), [(None, 5, 3), (None, 4, 2)], 'exceeds 4.*give max_source_length=5'),
    (dict(score='dot'), [(None, 3), (None, 4, 3)], r'\(B, S, Dm\)'),
    (dict(score='dot'), [(None, 5, 3), (None, 2, 4, 3)], r'\(B, T, Dq\)'),
    (dict(score='dot'), [(None, 5, None), (None, 4, 3)], 'must be known'),
    (dict(score='dot'), [(None, 5, 3)], 'list of encoder states and decoder states, not a Tensor: call the layer'),
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


def test_a_tuple_is_refused_with_the_list_to_use(session):
    with pytest.raises(ValueError, match=r'not a tuple: call the layer with \[encoder_states, decoder_states\]'):
        GlobalAttention()((Input((5, 3)), Input((4, 3))))


def test_tensors_of_tf_keras_are_refused_by_name(session):
    encoder_states, decoder_states = tf.keras.layers.Input((5, 3), name='states'), Input((4, 3))
    for inputs in ([encoder_states, decoder_states], [decoder_states, encoder_states]):
        with pytest.raises(ValueError, match='^states:0 comes from tf.keras: use keras, not tf.keras, for all layers'):
            GlobalAttention()(inputs)


def test_a_shared_location_layer_refuses_a_longer_source(session):
    fixed, given = GlobalAttention('location'), GlobalAttention('location', max_source_length=6)
    for layer, limit in ((fixed, 5), (given, 6)):
        layer([Input((5, 3)), Input((4, 3))])
        layer([Input((2, 3)), Input((4, 3))])
        layer([Input((None, 3)), Input((4, 3))])
        with pytest.raises(ValueError, match='length 7 exceeds %d, .*give max_source_length=7 or more' % limit):
            layer([Input((7, 3)), Input((4, 3))])


def test_location_refuses_a_longer_source_when_run(session):
    memory, query = K.placeholder((None, None, 2)), K.placeholder((None, 2))
    context, weights = GlobalAttention('location', max_source_length=4)([memory, query])
    K.get_session().run(tf.global_variables_initializer())
    assert session.run(weights, {memory: np.ones((1, 4, 2)), query: np.ones((1, 2))}).shape == (1, 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match='longer than max_source_length of the location score'):
        session.run(weights, {memory: np.ones((1, 5, 2)), query: np.ones((1, 2))})


def test_the_weights_of_a_row_add_up_to_what_the_alignment_page_says(session):
    """Global 1; local-m 1, or 0 past the end of the source; local-p 1 at most."""
    with open(os.path.join(ROOT, 'reports', 'alignment_page.html'), encoding='utf-8') as file:
        text = ' '.join(file.read().replace("' +", '').replace("\n  '", ' ').split())  # JavaScript joins its lines
    assert ('weights of a row add up to 1 with global attention; with local-m to 1 too, or to 0 where the window is '
            'past the end of the source; with local-p to 1 at most.') in text
    random = np.random.RandomState(1)
    memory, query = [tf.constant(random.normal(size=(2, steps, 4)).astype('f')) for steps in (6, 9)]
    sums = []
    for layer in (GlobalAttention(), LocalAttention(alignment='monotonic', window=1), LocalAttention(window=2)):
        layer.build([(None, None, 4), (None, None, 4)])
        K.batch_set_value([(weight, random.normal(size=K.int_shape(weight))) for weight in layer.weights])
        sums.append(session.run(tf.reduce_sum(layer.call([memory, query])[1], 2)))
    assert np.allclose(sums[0], 1.) and np.allclose(sums[1][:, :7], 1.) and not sums[1][:, 7:].any()
    assert np.all(sums[2] <= 1.) and np.any(sums[2] < .9) and np.all(sums[2] > 0.)
