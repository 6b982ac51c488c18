import json
import os
from unittest import mock
import zipfile

import tf_session  # noqa: F401  first: it fixes the import order
import keras
import numpy as np
import pytest
import tensorflow as tf

import old_models_here
import regress
from command_line import UserError
from parity import bundle, capture, compare, forward, layer_calls, old_model
from test_commands import ROOT
from test_fitting import damaged_set, one_process  # noqa: F401

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


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A whole model in a file, and its bundle."""
    folder = tmp_path_factory.mktemp('images')
    with tf_session.repeatable():
        model = old_models_here.images()
        model.train_on_batch(np.ones((2, 6, 6, 2)), np.eye(3)[:2])
        model.save(str(folder / 'old.h5'))
    arrays, manifest = captured(folder / 'bundle', folder / 'old.h5', ['--steps', '3'])
    return folder, arrays, manifest


def test_a_model_file_has_losses_gradients_and_steps_of_its_own_optimiser(images):
    _, arrays, manifest = images
    assert manifest['training']['optimizer'] == 'Adam' and manifest['training']['loss'] == 'categorical_crossentropy'
    assert arrays['losses'].shape == (3,) and arrays['optimizer_start/0'] == 1      # the update before saving
    x, y = arrays['input/conv_input'], arrays['target/out']
    assert y.shape == (5, 3) and (y.sum(axis=1) == 1).all()
    # The output layer's gradient, with the batch's own statistics and without dropout, in NumPy
    conv = arrays['layer/conv/output'].astype('f8')     # no random layer before it
    mean, variance = conv.mean(axis=(0, 1, 2)), conv.var(axis=(0, 1, 2))
    normed = (conv - mean) / np.sqrt(variance + 1e-3) * arrays['parameter/normed/gamma'] + arrays[
        'parameter/normed/beta']
    padded = np.pad(normed, ((0, 0), (0, 1), (0, 1), (0, 0)), 'constant', constant_values=-np.inf)
    pooled = padded.reshape(5, 2, 2, 2, 2, 3).max(axis=(2, 4)).reshape(5, -1)
    logits = pooled @ arrays['parameter/out/kernel'] + arrays['parameter/out/bias']
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert abs(arrays['losses'][0] + np.log(p[y > 0]).mean()) < 1e-5 and x.shape == (5, 6, 6, 2)
    assert np.allclose(arrays['gradient/out/kernel'], pooled.T @ (p - y) / 5, atol=1e-6)
    m = 0.9 * slot(arrays, 'm', 'out/kernel') + 0.1 * arrays['gradient/out/kernel']
    assert np.allclose(arrays['step_1/slot/out/kernel/m'], m, atol=1e-7)


def slot(arrays, kind, name):
    """The optimiser's weight before the first update: they have the order of the trainable weights."""
    start = [arrays['optimizer_start/%d' % number] for number in range(13)]
    names = ['conv/kernel', 'conv/bias', 'normed/gamma', 'normed/beta', 'out/kernel', 'out/bias']
    return start[1 + {'m': 0, 'v': 6}[kind] + names.index(name)]


def test_a_gradient_is_complete_before_any_weight_changes(images):
    arrays = images[1]
    for name in ('conv/kernel', 'conv/bias', 'normed/gamma', 'out/kernel'):
        m = 0.9 * slot(arrays, 'm', name) + 0.1 * arrays['gradient/' + name]
        assert np.allclose(arrays['step_1/slot/%s/m' % name], m, rtol=1e-5, atol=1e-8)


def training_is(**values):
    return lambda files, manifest: manifest['training'].update(values)


def array_is(file, name, value):
    return lambda files, manifest: files[file].update({name: value})


@pytest.mark.parametrize('told, change', [
    # The manifest
    ("float64.npz: its kind in MANIFEST.json is 'capture'", lambda files, manifest: manifest.pop('kind')),
    ("its kind in MANIFEST.json is 'capture'", lambda files, manifest: manifest.update(kind=[])),
    ('MANIFEST.json: model is not an object', lambda files, manifest: manifest.update(model=None)),
    ('MANIFEST.json: model is not an object', lambda files, manifest: manifest['model'].pop('config')),
    ('MANIFEST.json: training is not an object', lambda files, manifest: manifest.pop('training')),
    ('MANIFEST.json: training has no optimizer', lambda files, manifest: manifest['training'].pop('loss')),
    ('MANIFEST.json: steps of the training is not', training_is(steps='3')),
    ('losses has the shape .3,.* shape .1000000000,', training_is(steps=10 ** 9)),
    ('cannot be compiled: .*Unknown optimizer|cannot be compiled', training_is(optimizer='None')),
    ('cannot be compiled', training_is(config={'rate': []})),
    ('cannot be compiled', training_is(loss={'x': 3})),
    ('MANIFEST.json: environment is not an object', lambda files, manifest: manifest.pop('environment')),
    ('MANIFEST.json: environment is not an object', lambda files, manifest: manifest.update(environment=3)),
    ('MANIFEST.json: arithmetic is not a hash', lambda files, manifest: manifest.pop('arithmetic')),
    ('MANIFEST.json: cannot be read as the manifest', lambda files, manifest: manifest.update(output_arrays=3)),
    ('MANIFEST.json: cannot be read as the manifest', lambda files, manifest: manifest.pop('outputs')),
    ('MANIFEST.json: cannot be read as the manifest', lambda files, manifest: manifest.update(keras=[3])),
    ('MANIFEST.json: cannot be read as the manifest', lambda files, manifest: manifest.update(training=[3])),
    ('MANIFEST.json: cannot be read as the manifest',
     lambda files, manifest: manifest.update(nested_calls_that_differ=3)),
    ('MANIFEST.json: cannot be read as the manifest', lambda files, manifest: manifest['calls'][0].pop('inputs')),
    ('MANIFEST.json: cannot be read as the manifest', lambda files, manifest: manifest['calls'][0].update(
        output_masks=[{}])),
    ('bad: has no inputs.npz', lambda files, manifest: (files.pop('inputs.npz'), manifest['files'].pop('inputs.npz'))),
    # The model
    ('the model cannot be created: ', lambda files, manifest: manifest['model'].update(config=3)),
    ('the model cannot be created: ',
     lambda files, manifest: manifest['model']['config']['layers'][0]['config'].clear()),
    ('unknown classes: Nothing', lambda files, manifest: manifest['model'].update(class_name='Nothing')),
    # The arrays
    ('inputs.npz: input/conv_input has the shape .1, 2.', array_is('inputs.npz', 'input/conv_input', np.zeros((1, 2)))),
    ('inputs.npz: input/conv_input has .* type <U1',
     array_is('inputs.npz', 'input/conv_input', np.full((5, 6, 6, 2), 'a'))),
    ('inputs.npz: has no array input/conv_input', lambda files, manifest: files['inputs.npz'].pop('input/conv_input')),
    ('inputs.npz: an input is empty', array_is('inputs.npz', 'input/conv_input', np.zeros((0, 6, 6, 2)))),
    ('inputs.npz: has no array target/out', lambda files, manifest: files['inputs.npz'].pop('target/out')),
    ('the targets do not fit the model', array_is('inputs.npz', 'target/out', np.zeros((5, 4)))),
    ('inputs.npz: target/out has .* type <U1', array_is('inputs.npz', 'target/out', np.full((5, 3), 'a'))),
    ('weights.npz: does not fit the model, which needs parameter/out/bias',
     lambda files, manifest: files['weights.npz'].pop('parameter/out/bias')),
    ('weights.npz: does not fit the model, which has no parameter/x',
     array_is('weights.npz', 'parameter/x', np.zeros(9))),
    ('weights.npz: parameter/out/bias has the shape .9,', array_is('weights.npz', 'parameter/out/bias', np.zeros(9))),
    ('weights.npz: parameter/out/bias has .* type <U1', array_is('weights.npz', 'parameter/out/bias', np.full(3, 'a'))),
    ('training.npz: the weights of the optimiser have', array_is('training.npz', 'optimizer_start/3', np.zeros(9))),
    ('training.npz: the weights of the optimiser have',
     lambda files, manifest: files['training.npz'].pop('optimizer_start/12'))])
def test_check_refuses_a_bundle_whose_parts_do_not_fit_in_one_line(
        images, tmp_path, one_process, told, change):  # noqa: F811
    with pytest.raises(UserError, match=told) as refused:
        regress.main(['check', damaged_set(images[0] / 'bundle', tmp_path / 'bad', change)])
    assert '\n' not in str(refused.value) and len(str(refused.value)) < 1000


@pytest.mark.parametrize('where', ['parity.layer_calls.find_calls', 'parity.forward.write_forward',
                                   'parity.old_model.require_known', 'parity.fitting.check_capture'])
def test_a_bug_of_ours_shows_its_traceback(images, one_process, where):  # noqa: F811
    with mock.patch(where, side_effect=TypeError('a bug')), pytest.raises(TypeError, match='a bug'):
        regress.main(['check', str(images[0] / 'bundle')])


def test_check_runs_a_bundle_again_byte_for_byte(images, monkeypatch, capsys):
    from parity import environment
    monkeypatch.setattr(environment, 'in_processes', lambda function, jobs, *_: [function(job) for job in jobs])
    folder = images[0]
    assert regress.main(['check', str(folder / 'bundle')]) == 0
    assert 'byte for byte' in capsys.readouterr().err
    data = dict(np.load(str(folder / 'bundle' / 'inputs.npz')))
    np.savez(str(folder / 'mine.npz'), conv_input=data['input/conv_input'])
    arrays, _ = captured(folder / 'again', folder / 'old.h5', ['--inputs', folder / 'mine.npz', '--steps', '0'])
    assert (arrays['layer/out/output'] == images[1]['layer/out/output']).all() and 'losses' not in arrays


def test_weights_load_by_name_and_a_loss_can_be_named(images, tmp_path, capsys):
    arrays, manifest = captured(tmp_path / 'bundle', '--build', BUILDERS + ':images', '--weights',
                                images[0] / 'old.h5', '--by-name', '--loss', 'mse', '--optimizer', 'sgd',
                                ['--steps', '1'])
    assert (arrays['parameter/out/kernel'] == images[1]['parameter/out/kernel']).all()
    assert manifest['training']['loss'] == 'mse' and manifest['training']['optimizer'] == 'SGD'
    update = arrays['parameter/out/bias'] - np.float32(0.01) * arrays['gradient/out/bias']
    assert np.allclose(arrays['step_1/parameter/out/bias'], update, atol=1e-8)


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


def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path, images):
    old, folder = str(images[0] / 'old.h5'), str(tmp_path / 'bundle')
    with tf_session.repeatable():
        old_models_here.images().save_weights(str(tmp_path / 'weights.h5'))
    (tmp_path / 'empty.h5').write_bytes(b'')
    np.savez(str(tmp_path / 'x.npz'), conv_input=np.zeros((2, 5, 6, 2)))
    np.savez(str(tmp_path / 'empty.npz'), conv_input=np.zeros((0, 6, 6, 2)))
    np.savez(str(tmp_path / 'text.npz'), out=np.full((5, 3), 'a'))
    np.savez(str(tmp_path / 'wide.npz'), out=np.zeros((5, 4)))
    np.savez(str(tmp_path / 'ids.npz'), ids=np.full((2, 3), 99), numbers=np.zeros((2, 6)))
    for arguments, told in (
            ([str(tmp_path / 'weights.h5')], 'has weights only'), ([str(tmp_path / 'empty.h5')], 'cannot be read'),
            ([str(tmp_path / 'none.h5')], 'cannot be read'), (['--inputs', str(tmp_path / 'x.npz'), old], 'needs'),
            (['--inputs', str(tmp_path / 'empty.npz'), old], 'an input is empty'),
            (['--targets', str(tmp_path / 'text.npz'), old], 'text.npz: out is of the type <U1, not numbers'),
            (['--targets', str(tmp_path / 'wide.npz'), old], 'the targets do not fit the model'),
            (['--inputs', str(tmp_path / 'ids.npz'), '--build', BUILDERS + ':recurrent'], 'has ids from 99 to 99, and'),
            (['--build', BUILDERS + ':recurrent', '--weights', old], 'do not fit the model'),
            (['--build', BUILDERS + ':images', '--loss', 'mse', '--optimizer', 'none'], 'cannot be compiled')):
        with pytest.raises(UserError, match=told) as refused:
            regress.main(['capture'] + arguments + [folder])
        assert '\n' not in str(refused.value) and not os.path.exists(folder)


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


def test_a_bundle_contains_plain_arrays_and_json_only(images):
    folder = images[0] / 'bundle'
    assert sorted(os.listdir(str(folder))) == ['MANIFEST.json', 'float64.npz', 'forward.npz', 'inputs.npz',
                                               'training.npz', 'weights.npz']
    manifest = json.loads((folder / 'MANIFEST.json').read_text())
    for name, entry in manifest['files'].items():
        with zipfile.ZipFile(str(folder / name)) as archive:
            assert archive.namelist() == [array + '.npy' for array in entry['arrays']]
    assert compare.first_difference(compare.compare_sets(*[compare.read_set(str(folder))[0]] * 2)[0]) is None


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
    capture.make_train_function(model)
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
