"""What a capture records of old models, and the models that it refuses."""
import os
from unittest import mock

import tf_session  # noqa: F401  first: it fixes the import order
import keras
import numpy as np
import pytest
import tensorflow as tf

import old_layers
import old_models_here
import regress
from command_line import UserError
from parity import bundle, capture, forward, layer_calls, old_model, sample_inputs, updates
from test_commands import ROOT

BUILDERS = str(ROOT / 'tests' / 'old_models_here.py')


def captured(folder, *options):
    assert regress.main(['capture'] + list(map(str, options[:-1])) + [str(folder)] + list(map(str, options[-1]))) == 0
    return read(folder)


def read(folder):
    files, manifest = bundle.read_set(str(folder))
    return {name: value for arrays in files.values() for name, value in arrays.items()}, manifest


def sigmoid(x):
    return 1. / (1. + np.exp(-x))


def hard_sigmoid(x):
    return np.clip(0.2 * x + 0.5, 0., 1.)


def lstm_states(x, mask, kernel, recurrent, bias):
    """h and c after each step, (B, T, D); a masked step keeps both."""
    h = c = np.zeros((len(x), recurrent.shape[0]))
    found = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        new_c = hard_sigmoid(f) * c + hard_sigmoid(i) * np.tanh(g)
        new_h = hard_sigmoid(o) * np.tanh(new_c)
        valid = mask[:, t, None]
        h, c = np.where(valid, new_h, h), np.where(valid, new_c, c)
        found.append((h, c))
    return [np.stack(one, axis=1) for one in zip(*found)]


@pytest.fixture(scope='module')
def recurrent(tmp_path_factory):
    return captured(tmp_path_factory.mktemp('recurrent') / 'bundle', '--build', BUILDERS + ':recurrent', [])


def test_drawn_ids_are_in_the_embeddings_range_with_rows_of_padding(recurrent):
    ids = recurrent[0]['input/ids']
    assert ids.shape == (5, 7) and 0 < ids.max() < 11 and (ids[0] > 0).all() and not ids[-1].any()
    lengths = (ids > 0).sum(axis=1)
    assert lengths[1] == 1 and all((row[:n] > 0).all() for row, n in zip(ids, lengths)) and len(set(lengths)) > 3


def test_inputs_too_short_for_the_model_are_named(tmp_path):
    keras.backend.clear_session()
    keras.models.Sequential([keras.layers.Cropping1D(50, input_shape=(None, 2), name='crop')]).save(
        str(tmp_path / 'old.h5'))
    with pytest.raises(UserError, match='layer/crop/output: is empty for inputs of this length: .*--inputs'):
        regress.main(['capture', str(tmp_path / 'old.h5'), str(tmp_path / 'bundle')])


@pytest.mark.slow
def test_ids_are_found_inside_of_time_distributed_and_two_inputs_have_unequal_masks():
    keras.backend.clear_session()
    drawn = [sample_inputs.draw_inputs(model, layer_calls.find_calls(model)[0])
             for model in (old_layers.documents(), old_layers.unequal_masks())]
    ids = drawn[0]['document']
    assert ids.shape == (5, 4, 6) and ids.min() >= 0 and 6 < ids.max() < 12
    lengths = [(drawn[1][name] > 0).sum(axis=1).tolist() for name in 'ab']
    assert [sorted(one) for one in lengths] == [[0, 1, 1, 3, 5]] * 2 and lengths[0] != lengths[1]


def test_every_call_is_recorded_in_the_order_of_the_graph_under_its_own_name(recurrent):
    names = [call['name'] for call in recurrent[1]['calls']]
    assert set(names) == {
        'table', 'both', 'both/forward_lstm_1', 'both/backward_lstm_1', 'inner', 'inner/each', 'inner/gru', 'inner#2',
        'inner#2/each', 'inner#2/gru', 'drop', 'shared', 'shared#2', 'wide', 'joined', 'mean', 'out', 'means'}
    for before, after in (('table', 'both/forward_lstm_1'), ('both/backward_lstm_1', 'both'), ('both', 'inner/each'),
                          ('inner/each', 'inner/gru'), ('inner/gru', 'inner'), ('inner', 'shared'), ('joined', 'out')):
        assert names.index(before) < names.index(after)
    calls = {call['name']: call for call in recurrent[1]['calls']}
    assert calls['inner#2/gru']['parent'] == 'inner#2' and calls['shared#2']['weights'] == calls['shared']['weights']
    assert calls['wide']['inputs'] == ['input/numbers'] and calls['both']['inputs'] == ['layer/table/output']
    assert calls['both']['input_masks'] == ['layer/table/mask']
    assert calls['mean']['outputs'] == ['layer/mean/output', 'layer/mean/output_2']
    assert calls['both']['config']['merge_mode'] == 'concat'


def test_the_states_of_a_masked_lstm_are_those_of_numpy_at_each_step(recurrent):
    arrays = recurrent[0]
    x, mask = arrays['layer/table/output'], arrays['layer/table/mask']
    assert (mask == (arrays['input/ids'] > 0)).all()
    for way, go in (('forward', slice(None)), ('backward', slice(None, None, -1))):
        name = 'both/%s_lstm_1' % way
        weights = [arrays['parameter/%s/%s' % (name, one)] for one in ('kernel', 'recurrent_kernel', 'bias')]
        h, c = lstm_states(x[:, go], mask[:, go], *weights)
        assert np.allclose(arrays['layer/%s/state_1' % name], h, atol=1e-6)
        assert np.allclose(arrays['layer/%s/state_2' % name], c, atol=1e-6)
    assert np.allclose(arrays['layer/both/output'][..., 2:], h[:, ::-1], atol=1e-6)


def test_nested_and_shared_calls_have_their_own_outputs(recurrent):
    arrays = recurrent[0]
    assert recurrent[1]['nested_calls_that_differ'] == []
    for number in ('', '#2'):
        inner = 'layer/inner%s' % number
        x = arrays['layer/both/output']
        each = np.tanh(x @ arrays['parameter/inner/each/dense_1/kernel'] + arrays['parameter/inner/each/dense_1/bias'])
        assert np.allclose(arrays[inner + '/each/output'], each, atol=1e-6)
        assert (arrays[inner + '/output'] == arrays[inner + '/gru/output']).all()
        shared = arrays[inner + '/output'] @ arrays['parameter/shared/kernel'] + arrays['parameter/shared/bias']
        assert np.allclose(arrays['layer/shared%s/output' % number], shared, atol=1e-6)
    count = (arrays['input/ids'] > 0).sum(axis=1)
    assert (arrays['layer/mean/output_2'][:, 0] == count).all()


def test_the_outputs_are_those_of_predict(recurrent):
    arrays = recurrent[0]
    with tf_session.repeatable():
        model = old_models_here.recurrent()
        weights = layer_calls.weight_names(model)
        keras.backend.batch_set_value([(weight, arrays['parameter/' + name]) for name, weight in weights])
        found = model.predict([arrays['input/ids'], arrays['input/numbers']])
    assert np.allclose(found[0], arrays['layer/out/output'], atol=1e-6)
    assert np.allclose(found[1], arrays['layer/means/output'], atol=1e-6)


def test_a_stateful_model_keeps_its_states_from_call_to_call(tmp_path):
    arrays, manifest = captured(tmp_path / 'bundle', '--build', BUILDERS + ':stateful', [])
    assert np.abs(arrays['second_call/back'] - arrays['layer/back/output']).max() > 1e-4
    x, weights = arrays['input/x'], [arrays['parameter/kept/' + one] for one in ('kernel', 'recurrent_kernel', 'bias')]
    once = lstm_states(x, np.ones((2, 4), bool), *weights)[0]
    assert np.allclose(arrays['layer/kept/output'], once, atol=1e-6)
    assert np.allclose(arrays['layer/kept/state_1'], once, atol=1e-6)
    assert np.allclose(arrays['layer/back/state_1'][:, -1], arrays['layer/back/output'], atol=1e-6)


def test_convolutional_recurrent_layers_and_given_states_are_captured(tmp_path):
    arrays, _ = captured(tmp_path / 'conv', '--build', BUILDERS + ':pictures_in_time', [])
    assert arrays['layer/conv/state_1'].shape == (5, 3, 4, 4, 2)
    assert (arrays['layer/conv/state_1'][:, -1] == arrays['layer/conv/output']).all()
    arrays, manifest = captured(tmp_path / 'decoder', '--build', BUILDERS + ':decoder', [])
    calls = {call['name']: call for call in manifest['calls']}
    assert calls['decoder']['inputs'] == ['input/y', 'layer/encoder/output_2', 'layer/encoder/output_3']
    assert np.allclose(arrays['layer/decoder/state_1'], arrays['layer/decoder/output'], atol=1e-6)
    z = arrays['layer/decoder/output'] @ arrays['parameter/steps/each/dense/kernel']
    assert np.allclose(arrays['layer/steps/output'], z, atol=1e-6)
    assert arrays['layer/steps/each/dense/output'].shape == (35, 2)


def test_a_cell_of_ones_own_with_a_state_and_a_constant_is_captured(tmp_path):
    arrays, _ = captured(tmp_path / 'bundle', '--build', BUILDERS + ':attentive', [])
    memory, h = arrays['layer/encoder/output'], arrays['layer/encoder/output_2']
    W, U = arrays['parameter/decoder/W'], arrays['parameter/decoder/U']
    for t in range(arrays['input/y'].shape[1]):
        scores = np.exp(np.einsum('bsd,bd->bs', memory, h))
        context = np.einsum('bs,bsd->bd', scores / scores.sum(axis=1, keepdims=True), memory)
        new = np.tanh(arrays['input/y'][:, t] @ W + context @ U)
        h = np.where(arrays['layer/masked/mask'][:, t, None], new, h)
        assert np.allclose(arrays['layer/decoder/state_1'][:, t], h, atol=1e-6)


def test_a_lambda_layer_may_use_tensorflow_by_its_usual_name(tmp_path):
    with tf_session.repeatable():
        old_models_here.with_tensorflow().save(str(tmp_path / 'old.h5'))
    arrays, _ = captured(tmp_path / 'bundle', tmp_path / 'old.h5', ['--trust'])
    assert (arrays['layer/code/output'] == arrays['input/code_input'] ** 2).all()


def test_a_name_that_a_lambda_layer_lacks_is_named_with_the_remedy(tmp_path):
    with tf_session.repeatable():
        model = old_models_here.with_tensorflow()
    config = {'class_name': 'Sequential', 'config': model.get_config()}
    assert 'tf' in old_model.SCRIPT_NAMES
    with mock.patch.dict(old_model.SCRIPT_NAMES, clear=True):
        told = "'tf' is not defined: a Lambda layer uses this name"
        with tf_session.repeatable(), pytest.raises(UserError, match=told):
            old_model.from_config('old.h5', config, {}, True)


# Refusals

@pytest.mark.parametrize('function, told', [
    ('no_model', 'returns int, not a Keras model'), ('fails', r'line \d+: NameError'), ('absent', 'has no function'),
    ('Subclassed', 'is a subclassed model')])
def test_a_function_that_builds_no_graph_is_refused_in_one_line(tmp_path, function, told):
    with pytest.raises(UserError, match=told) as refused:
        regress.main(['capture', '--build', '%s:%s' % (BUILDERS, function), str(tmp_path / 'bundle')])
    assert '\n' not in str(refused.value) and not os.path.exists(str(tmp_path / 'bundle'))


def test_code_and_unknown_classes_in_a_model_file_are_refused_by_name(tmp_path):
    with tf_session.repeatable():
        old_models_here.with_lambda().save(str(tmp_path / 'code.h5'))
        old_models_here.recurrent().save(str(tmp_path / 'own.h5'))
    file, folder = str(tmp_path / 'code.h5'), str(tmp_path / 'bundle')
    with pytest.raises(UserError, match='Lambda layers contain code.*: code: give --trust'):
        regress.main(['capture', file, folder])
    assert regress.main(['capture', file, folder, '--trust']) == 0
    with pytest.raises(UserError, match='Lambda layers contain code'):
        capture.run_again(folder, bundle.read_manifest(folder), regress.parse(['check', folder]), str(tmp_path / 'x'))
    file, folder = str(tmp_path / 'own.h5'), str(tmp_path / 'own')
    with pytest.raises(UserError, match=r'unknown classes: MaskedMean \(layer mean\): name the file'):
        regress.main(['capture', file, folder, '--trust'])
    assert regress.main(['capture', file, folder, '--custom', BUILDERS]) == 0


def test_cudnn_layers_become_lstm_and_gru():
    layer = {'class_name': 'CuDNNGRU', 'config': {'name': 'fast', 'units': 3}}
    found, names = old_model.without_cudnn({'class_name': 'Sequential', 'config': {'layers': [layer]}})
    changed, = found['config']['layers']
    assert names == ['fast'] and changed['class_name'] == 'GRU'
    assert changed['config'] == {'name': 'fast', 'units': 3, 'recurrent_activation': 'sigmoid', 'reset_after': True}


# Files

def test_equal_arrays_give_equal_bytes_one_at_a_time_and_a_failure_leaves_nothing(tmp_path):
    data = []
    for name in ('a.npz', 'b.npz'):
        with bundle.NpzWriter(str(tmp_path / name)) as writer:
            for number in range(3):
                writer.write('layer/x/output_%d' % number, np.full((2, 3), number, 'f'))
        data.append((tmp_path / name).read_bytes())
    assert data[0] == data[1]
    with np.load(str(tmp_path / 'a.npz'), allow_pickle=False) as arrays:
        assert (arrays['layer/x/output_2'] == 2).all() and len(arrays.files) == 3
    with pytest.raises(ValueError):
        with bundle.NpzWriter(str(tmp_path / 'c.npz')) as writer:
            writer.write('x', np.array([None]))
    assert sorted(os.listdir(str(tmp_path))) == ['a.npz', 'b.npz']


def test_arrays_are_fetched_in_groups_of_a_bounded_size():
    pairs = [('a', 0), ('b', 1), ('c', 2), ('d', 3)]
    sizes = [forward.GROUP_BYTES // 2] * 3 + [forward.GROUP_BYTES * 2]
    assert [[name for name, _ in group] for group in forward.in_groups(pairs, sizes)] == [['a', 'b'], ['c'], ['d']]


@pytest.mark.slow
@pytest.mark.parametrize('name', ['MobileNetV2', 'DenseNet121', 'NASNetMobile'])
def test_the_applications_of_keras_are_captured(tmp_path, name):
    build = tmp_path / 'build.py'
    build.write_text('import keras\n\n\ndef model():\n    return keras.applications.%s(weights=None)\n' % name)
    assert regress.main(['capture', '--build', '%s:model' % build, str(tmp_path / 'bundle')]) == 0
    manifest = bundle.read_manifest(str(tmp_path / 'bundle'))
    with tf_session.repeatable():
        model = getattr(keras.applications, name)(weights=None)
        assert len(manifest['calls']) == len(model.layers) - 1


def test_an_update_waits_for_all_gradients_the_loss_and_the_metrics(session):
    """A penalty is part of no gradient's path: it could read a kernel that the update has changed."""
    model = keras.models.Sequential([keras.layers.Dense(3, kernel_regularizer='l2', input_shape=(4,)),
                                     keras.layers.Dense(2, name='out')])
    model.compile('adam', 'mse', metrics=['mae'])
    updates.make_train_function(model)
    operations = tf.get_default_graph().get_operations()
    # Whatever writes a weight, with all that must have run before.
    for weight in model.trainable_weights:
        write, = [op for op in operations if op.type.startswith('Assign') and op.inputs[0] is weight._ref()
                  and 'training' in op.name]
        before, open_ops = set(), [write]
        while open_ops:
            op = open_ops.pop()
            if op not in before:
                before.add(op)
                open_ops += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
        assert before >= {model.total_loss.op} | {metric.op for metric in model.metrics_tensors}
