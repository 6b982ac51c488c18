"""`regress.py convert`: the fast tests need no Keras 3; the slow ones run in the environment of `make keras3`."""
import json
import os
import subprocess

import tf_session  # noqa: F401  first: it fixes the import order
import h5py
import numpy as np
import pytest

import old_models_here
import regress
from command_line import UserError
from parity import convert
from test_capture import BUILDERS, captured
from test_commands import ROOT


@pytest.fixture(scope='module')
def python():
    try:
        return convert.find_python()
    except UserError as error:
        pytest.skip(str(error))


def converted(capsys, folder, source, *options):
    """(stdout, content of report.json) of a conversion that is done."""
    capsys.readouterr()
    assert regress.main(['convert', str(source), str(folder)] + list(map(str, options))) == 0
    return capsys.readouterr().out, report_of(folder)


def report_of(folder):
    return json.loads((folder / 'report.json').read_text(encoding='utf-8'))


def run_readme(python, folder, bundle):
    """Runs the lines of README.txt in a fresh process on the inputs of a bundle; the largest difference of output 1."""
    text = (folder / 'README.txt').read_text(encoding='utf-8')
    lines = [line[4:] for line in text.split('\n') if line.startswith('    ')]
    names = lines[[line.startswith('outputs') for line in lines].index(True)].split('(')[1].rstrip(')').strip('[]')
    arrays, manifest = dict(np.load(str(bundle / 'inputs.npz'))), json.loads((bundle / 'MANIFEST.json').read_text())
    np.savez(str(folder / 'fed.npz'), **{name: arrays['input/' + old] for name, old in
                                         zip(names.split(', '), manifest['inputs'])})
    script = ("import os, numpy\nos.environ['KERAS_BACKEND'] = 'tensorflow'\nlocals().update(numpy.load('fed.npz'))\n" +
              '\n'.join(lines) + "\nnumpy.save('found.npy', outputs[0] if isinstance(outputs, list) else outputs)\n")
    subprocess.check_call([python, '-c', script], cwd=str(folder), stderr=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL)
    recorded = np.load(str(bundle / 'forward.npz'))[manifest['output_arrays'][0]]
    return np.abs(np.load(str(folder / 'found.npy')) - recorded).max()


def test_without_keras_3_one_line_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / 'old.h5').write_bytes(b'')
    monkeypatch.setenv('KERAS3_PYTHON', str(tmp_path / 'none'))
    with pytest.raises(UserError, match='make keras3'):
        regress.main(['convert', str(tmp_path / 'old.h5'), str(tmp_path / 'new')])
    assert os.listdir(str(tmp_path)) == ['old.h5']


def test_a_folder_with_files_of_the_user_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv('KERAS3_PYTHON', 'python3')
    (tmp_path / 'old.h5').write_bytes(b'')
    (tmp_path / 'new').mkdir()
    (tmp_path / 'new' / 'thesis.txt').write_text('mine')
    with pytest.raises(UserError, match='is not empty'):
        regress.main(['convert', str(tmp_path / 'old.h5'), str(tmp_path / 'new')])
    assert os.listdir(str(tmp_path / 'new')) == ['thesis.txt']


def captured_for_convert(monkeypatch, folder, *options):
    """The manifest of the bundle that `convert` makes before Keras 3 takes over."""
    def stopped(_, source, folder, make_bundle):
        make_bundle(folder)
        raise UserError('no Keras 3')

    monkeypatch.setattr(convert, 'convert', stopped)
    with pytest.raises(UserError, match='no Keras 3'):
        regress.main(['convert'] + list(map(str, options)) + [str(folder)])
    return json.loads((folder / 'MANIFEST.json').read_text(encoding='utf-8'))


def test_what_hinders_the_training_of_an_old_file_does_not_hinder_its_conversion(tmp_path, monkeypatch):
    old = old_models_here.images()
    old.train_on_batch(np.ones((2, 6, 6, 2)), np.eye(3)[:2])
    old.save(str(tmp_path / 'old.h5'))
    manifest = captured_for_convert(monkeypatch, tmp_path / 'whole', tmp_path / 'old.h5')
    assert manifest['training']['steps'] == 2 and manifest['training_lost'] == ''
    with h5py.File(str(tmp_path / 'old.h5'), 'r+') as file:     # an order of Keras 2.0
        names = file['optimizer_weights'].attrs['weight_names']
        file['optimizer_weights'].attrs['weight_names'] = np.concatenate([names[:1], names[:0:-1]])
    manifest = captured_for_convert(monkeypatch, tmp_path / 'anew', tmp_path / 'old.h5')
    assert manifest['training']['steps'] == 2 and 'the optimiser starts anew' in manifest['training_lost']
    manifest = captured_for_convert(monkeypatch, tmp_path / 'none', '--loss', 'mse', '--build', BUILDERS + ':constant')
    assert not manifest['training'] and 'without its training' in manifest['training_lost']


@pytest.mark.slow
def test_a_model_with_a_training_goes_on_in_keras_3_and_runs_as_onnx(python, tmp_path, capsys):
    captured(tmp_path / 'bundle', '--build', BUILDERS + ':images', ['--steps', '2'])
    out, report = converted(capsys, tmp_path / 'new', tmp_path / 'bundle', '--to', 'keras3', 'onnx')
    assert sorted(os.listdir(str(tmp_path / 'new'))) == ['README.txt', 'model.keras', 'model.onnx', 'report.html',
                                                         'report.json']
    assert out.startswith('converted: 6 stages agree') and report['done'] and report['training']['compiled']
    assert len(report['training']['agrees']) >= 2 and not report['training']['differs']
    assert [row['name'] for row in report['layers']] == ['conv', 'normed', 'pool', 'flat', 'drop', 'out']
    assert report['onnx']['problem'] == '' and report['onnx']['absolute'] < 1e-6
    assert run_readme(python, tmp_path / 'new', tmp_path / 'bundle') < 1e-6


MEAN = '''
import keras
from keras import ops


class MaskedMean(keras.layers.Layer):
    def call(self, inputs, mask=None):
        valid = ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
        count = ops.sum(valid, axis=1)
        return [ops.sum(inputs * valid, axis=1) / ops.maximum(count, 1.), count]
'''


@pytest.mark.slow
def test_an_own_layer_stops_with_a_stub_and_the_conversion_goes_on_with_its_port(python, tmp_path, capsys):
    with pytest.raises(UserError, match=r'not converted: mean \(MaskedMean\)'):
        regress.main(['convert', '--build', BUILDERS + ':recurrent', str(tmp_path / 'new')])
    stub, report = (tmp_path / 'new' / 'new_layers.py'), report_of(tmp_path / 'new')
    assert 'class MaskedMean(keras.layers.Layer)' in stub.read_text() and not report['done']
    assert report['not_converted'][0]['inputs'] == ['layer/both/output']
    with pytest.raises(UserError, match='NotImplementedError: MaskedMean'):
        regress.main(['convert', str(tmp_path / 'new' / 'bundle'), str(tmp_path / 'new'), '--custom3', str(stub)])
    stub.write_text(MEAN.replace('ops.maximum(count, 1.)', '7.'))
    with pytest.raises(UserError, match='model.differs.keras: first stage that differs: mean'):
        regress.main(['convert', str(tmp_path / 'new' / 'bundle'), str(tmp_path / 'new'), '--custom3', str(stub)])
    assert not (tmp_path / 'new' / 'model.keras').exists() and (tmp_path / 'new' / 'model.differs.keras').exists()
    stub.write_text(MEAN)
    out, report = converted(capsys, tmp_path / 'new', tmp_path / 'new' / 'bundle', '--custom3', stub)
    assert {'both/forward_lstm_1', 'inner#2/gru', 'joined', 'means'} <= {row['name'] for row in report['layers']}
    assert report['old_keras'] == ['OldBidirectional'] and report['weights_times_1.2'] == ['both', 'inner/gru']
    assert run_readme(python, tmp_path / 'new', tmp_path / 'new' / 'bundle') < 1e-6


@pytest.mark.slow
def test_gates_of_hard_sigmoid_train_on_where_the_weights_are_kept(python, tmp_path, capsys):
    captured(tmp_path / 'bundle', '--build', BUILDERS + ':decoder',
             ['--steps', '2', '--loss', 'mse', '--optimizer', 'rmsprop'])
    _, report = converted(capsys, tmp_path / 'scaled', tmp_path / 'bundle')
    assert report['weights_times_1.2'] == ['encoder', 'decoder']
    assert any('1.2 times' in line for line in report['training']['not_carried_over'])
    _, report = converted(capsys, tmp_path / 'kept', tmp_path / 'bundle', '--keep-weights')
    assert report['old_keras'] == ['OldRMSprop', 'OldTimeDistributed', 'old_hard_sigmoid']
    assert not report['weights_times_1.2']
    assert report['training']['agrees'] and not report['training']['differs']
    text = (tmp_path / 'kept' / 'old_keras.py').read_text(encoding='utf-8')
    assert 'class OldRMSprop' in text and 'LocallyConnected' not in text


@pytest.mark.slow
def test_the_readme_resets_stateful_cells_where_keras_3_cannot(python, tmp_path, capsys):
    captured(tmp_path / 'bundle', '--build', BUILDERS + ':cells_in_a_row', [])
    _, report = converted(capsys, tmp_path / 'new', tmp_path / 'bundle')
    assert report['old_keras'] == []
    text = (tmp_path / 'new' / 'README.txt').read_text(encoding='utf-8')
    lines = [line[4:] for line in text.split('\n') if line.startswith('    ')]
    start = [line.startswith('for layer') for line in lines].index(True)
    assert "model.get_layer('a_cells')" in lines[start]
    again = ["assert (model.predict(x) != outputs).any()", "try:", "    model.layers[-1].reset_state()",
             "except AttributeError:", "    pass", "else:", "    raise AssertionError('reset_state works now')"]
    script = '\n'.join(["import os, numpy", "os.environ['KERAS_BACKEND'] = 'tensorflow'", "x = numpy.ones((2, 3, 2))"] +
                       lines[:start] + again + lines[start:] + ["assert (model.predict(x) == outputs).all()"])
    subprocess.check_call([python, '-c', script], cwd=str(tmp_path / 'new'), stderr=subprocess.DEVNULL)
    captured(tmp_path / 'one', '--build', BUILDERS + ':stateful', [])
    converted(capsys, tmp_path / 'other', tmp_path / 'one')
    assert 'reset_state' not in (tmp_path / 'other' / 'README.txt').read_text(encoding='utf-8')


CELL = '''
import keras
from keras import ops


@keras.saving.register_keras_serializable()
class Attention(keras.layers.Layer):
    state_size = 4

    def build(self, shapes):                        # of a step, and of each constant
        self.W = self.add_weight(shape=(shapes[0][-1], 4))
        self.U = self.add_weight(shape=(shapes[1][-1], 4))

    def call(self, inputs, states, constants):
        weights = ops.softmax(ops.einsum('bsd,bd->bs', constants[0], states[0]))
        context = ops.einsum('bs,bsd->bd', weights, constants[0])
        h = ops.tanh(ops.matmul(inputs, self.W) + ops.matmul(context, self.U))
        return h, [h]
'''


def test_the_cell_of_the_page_is_the_one_of_the_test():
    text = (ROOT / 'docs' / 'convert.md').read_text(encoding='utf-8')
    assert CELL.split('()\n')[1].strip() in '\n'.join(line[4:] for line in text.split('\n'))


@pytest.mark.slow
def test_a_cell_of_ones_own_with_constants_goes_on_with_its_port(python, tmp_path, capsys):
    captured(tmp_path / 'bundle', '--build', BUILDERS + ':attentive', ['--steps', '2', '--loss', 'mse'])
    new = str(tmp_path / 'new')
    with pytest.raises(UserError, match=r'decoder \(RNN\): its cell Attention is no cell of Keras: define this class'):
        regress.main(['convert', str(tmp_path / 'bundle'), new])
    stub = tmp_path / 'new' / 'new_layers.py'
    text = stub.read_text(encoding='utf-8')
    assert 'def call(self, inputs, states, constants):' in text and 'self.state_size = [4]' in text
    stub.write_text(CELL.replace('ops.softmax', 'ops.sigmoid'), encoding='utf-8')
    with pytest.raises(UserError, match='model.differs.keras: first stage that differs: decoder'):
        regress.main(['convert', str(tmp_path / 'bundle'), new, '--custom3', str(stub)])
    stub.write_text(CELL, encoding='utf-8')
    _, report = converted(capsys, tmp_path / 'new', tmp_path / 'bundle', '--custom3', stub, '--keep-weights')
    assert report['old_keras'] == ['OldRNN', 'old_hard_sigmoid'] and not report['training']['differs']
    assert len(report['training']['agrees']) >= 2
    assert run_readme(python, tmp_path / 'new', tmp_path / 'bundle') < 1e-5


@pytest.mark.slow
def test_a_nested_model_that_kept_its_first_mask_is_refused_with_what_to_build(python, tmp_path, capsys):
    with pytest.raises(UserError, match='Keras 2.2.4 ran it with the masks of its first call: give --build'):
        regress.main(['convert', '--build', BUILDERS + ':masked_twice', str(tmp_path / 'refused')])
    for name in ('masked_twice_without_a_model', 'masked_once_in_a_model'):
        captured(tmp_path / name, '--build', BUILDERS + ':' + name, [])
        _, report = converted(capsys, tmp_path / ('new_' + name), tmp_path / name)
        assert report['old_keras'] == ['OldRNN']
