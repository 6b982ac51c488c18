"""A captured model file: its training, `regress.py check` on its bundle, and files that do not fit."""
import json
import os
import subprocess
import sys
from unittest import mock
import zipfile

import tf_session  # first: it fixes the import order
import numpy as np
import pytest

import old_models_here
import regress
from command_line import UserError
from parity import compare
from test_capture import BUILDERS, captured
from test_commands import ROOT
from test_fitting import damaged_set, one_process  # noqa: F401


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


MODELS = str(ROOT / 'benchmarks' / 'version_models.py')


def test_a_model_keeps_the_learning_phase_in_which_it_was_built(tmp_path, one_process, capsys):  # noqa: F811
    folder = tmp_path / 'bundle'
    arrays, manifest = captured(folder, '--build', MODELS + ':phased', [])
    assert manifest['keras']['learning_phase'] == 1
    x = arrays['layer/one/output'].astype('f8')
    normed = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3) * arrays['parameter/normed/gamma'] + arrays[
        'parameter/normed/beta']
    assert np.allclose(arrays['layer/normed/output'], normed, atol=1e-5)
    capsys.readouterr()
    assert regress.main(['check', str(folder)]) == 0 and 'byte for byte' in capsys.readouterr().err
    assert regress.main(['explain', str(folder)]) == 0
    assert 'normed: the means of the batch and its averages differ by up to' in capsys.readouterr().out
    for wrong in (2, 'x', []):
        damaged = damaged_set(folder, tmp_path / str(wrong), lambda files, manifest: manifest['keras'].update(
            learning_phase=wrong))
        with pytest.raises(UserError, match='learning_phase of keras is none of null, 0 and 1'):
            regress.main(['check', damaged])


def test_averages_have_the_momentum_that_the_table_of_traps_names(tmp_path, capsys):
    arrays, _ = captured(tmp_path / 'bundle', '--build', MODELS + ':normed', [])
    kernels = [arrays['parameter/one/kernel'], arrays['step_1/parameter/one/kernel']]
    average, momentum = arrays['parameter/normed/moving_mean'], 0.99
    for update, kernel in enumerate(kernels, 1):
        own = momentum * (1 - momentum ** (update - 1)) / (1 - momentum ** update)
        average = own * average + (1 - own) * (arrays['input/numbers'] @ kernel).mean(0)
        assert np.allclose(arrays['step_%d/parameter/normed/moving_mean' % update], average, atol=1e-5), update
    capsys.readouterr()
    assert regress.main(['explain', str(tmp_path / 'bundle')]) == 0
    assert 'normed: its averages change by up to' in capsys.readouterr().out


def test_weights_load_by_name_and_a_loss_can_be_named(images, tmp_path, capsys):
    arrays, manifest = captured(tmp_path / 'bundle', '--build', BUILDERS + ':images', '--weights',
                                images[0] / 'old.h5', '--by-name', '--loss', 'mse', '--optimizer', 'sgd',
                                ['--steps', '1'])
    assert (arrays['parameter/out/kernel'] == images[1]['parameter/out/kernel']).all()
    assert manifest['training']['loss'] == 'mse' and manifest['training']['optimizer'] == 'SGD'
    update = arrays['parameter/out/bias'] - np.float32(0.01) * arrays['gradient/out/bias']
    assert np.allclose(arrays['step_1/parameter/out/bias'], update, atol=1e-8)


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
def test_check_runs_twice_in_a_process_where_tensorflow_has_run(tmp_path):
    """Without a guard `if __name__`: the processes of `check` must not run the program again."""
    (tmp_path / 'twice.py').write_text('import regress\nfolder = %r\n'
                                       'print(regress.main(["capture", "--build", %r, folder]))\n'
                                       'print([regress.main(["check", folder]) for _ in "ab"])'
                                       % (str(tmp_path / 'bundle'), BUILDERS + ':small'))
    done = subprocess.run([sys.executable, str(tmp_path / 'twice.py')], env=dict(os.environ, PYTHONPATH=str(ROOT)),
                          cwd=str(tmp_path), stdout=subprocess.PIPE, timeout=300)
    lines = done.stdout.decode('utf-8').splitlines()
    assert done.returncode == 0 and lines[0] == '0' and lines[-1] == '[0, 0]'
