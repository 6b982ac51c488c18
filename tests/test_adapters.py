"""The adapters, each in a newer Python with its framework, if there is one; two old models from PyPI."""
import functools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import regress
from parity.convert import OWN_PYTHON
from test_capture import BUILDERS, captured
from test_commands import ROOT

PYTHONS = ('python3.13', 'python3.12', 'python3.11', 'python3.10', 'python3')
OLD = os.path.join(os.path.dirname(str(ROOT)), 'shared', 'old_models')
NEEDS = {'KERAS3_PYTHON': 'keras', 'TORCH_PYTHON': 'torch', 'ONNX_PYTHON': 'onnx, onnxruntime'}
BACKENDS = ('jax', 'torch', 'tensorflow')      # of Keras 3


@functools.lru_cache(maxsize=None)
def imports(python, names, backend):
    return subprocess.call([python, '-c', 'import ' + names], env=dict(os.environ, KERAS_BACKEND=backend),
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def find_python(variable):
    """(a Python with a framework, which an environment variable can name; backend of Keras 3), or skips the test."""
    known = [os.environ.get(variable), os.environ.get('PORT_PYTHON'), OWN_PYTHON] + list(PYTHONS)
    for python in filter(None, map(shutil.which, filter(None, known))):
        for backend in BACKENDS:
            if imports(python, NEEDS[variable], backend):
                return python, backend
    pytest.skip('no Python with %s: %s can name one' % (NEEDS[variable], variable))


def adapt(variable, program, *arguments):
    """Runs an adapter, or another program by its path; returns what it tells."""
    python, backend = find_python(variable)
    done = subprocess.run([python, str(ROOT / 'adapters' / program)] + list(map(str, arguments)),
                          env=dict(os.environ, KERAS_BACKEND=backend), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
    return done.stderr.decode()


def compare(capsys, bundle, ported, *more, file='forward.npz'):
    """Exit code and report of `compare`."""
    capsys.readouterr()
    code = regress.main(['compare', str(bundle), str(ported), '--files', file, '--json'] + list(map(str, more)))
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp('adapters') / 'bundle'
    captured(folder, '--build', BUILDERS + ':recurrent', [])
    return folder


OWN = '''
import keras
from keras import ops


class decoder(keras.layers.Layer):
    def build(self, shapes):
        self.W = self.add_weight(shape=(shapes[0][-1], shapes[1][-1]))
        self.U = self.add_weight(shape=(shapes[2][-1], shapes[1][-1]))

    def call(self, inputs, mask=None):
        x, h, memory = inputs
        outputs = []
        for t in range(x.shape[1]):
            weights = ops.softmax(ops.sum(memory * h[:, None], axis=-1))
            context = ops.sum(weights[:, :, None] * memory, axis=1)
            new = ops.tanh(ops.matmul(x[:, t], self.W) + ops.matmul(context, self.U))
            h = ops.where(mask[0][:, t, None], new, h)
            outputs.append(h)       # a masked step puts out the state, in Keras 2.2.4
        return ops.stack(outputs, axis=1)


def total(x):
    return ops.sum(x, axis=1)
'''


@pytest.mark.slow
def test_layers_of_ones_own_are_left_out_or_run_by_their_ports_in_keras_3(tmp_path, capsys):
    captured(tmp_path / 'bundle', '--build', BUILDERS + ':attentive', [])
    told = adapt('KERAS3_PYTHON', 'keras3.py', tmp_path / 'bundle', tmp_path / 'without')
    assert 'decoder: RNN has no counterpart here' in told and 'total: Lambda has no counterpart here' in told
    (tmp_path / 'own.py').write_text(OWN)
    adapt('KERAS3_PYTHON', 'keras3.py', tmp_path / 'bundle', tmp_path / 'ported', '--custom', tmp_path / 'own.py')
    code, report = compare(capsys, tmp_path / 'bundle', tmp_path / 'ported')
    assert code == 0 and {'encoder', 'decoder', 'total'} <= {one['stage'] for one in report['arrays']}
    (tmp_path / 'own.py').write_text(OWN.replace('ops.softmax', 'ops.sigmoid'))
    adapt('KERAS3_PYTHON', 'keras3.py', tmp_path / 'bundle', tmp_path / 'wrong', '--custom', tmp_path / 'own.py')
    code, report = compare(capsys, tmp_path / 'bundle', tmp_path / 'wrong')
    assert code == 1 and report['first']['stage'] == 'decoder'


@pytest.mark.slow
def test_keras_3_agrees_layer_by_layer_with_the_remedies_and_not_without(bundle, tmp_path, capsys):
    told = adapt('KERAS3_PYTHON', 'keras3.py', bundle, tmp_path / 'ported')
    assert 'mean: MaskedMean has no counterpart here' in told
    code, report = compare(capsys, bundle, tmp_path / 'ported')
    assert code == 0 and {'table', 'both', 'inner/gru', 'inner#2', 'joined', 'out'} <= {
        one['stage'] for one in report['arrays']}
    assert 'layer/both/forward_lstm_1/state_2' in {one['name'] for one in report['arrays']}
    adapt('KERAS3_PYTHON', 'keras3.py', bundle, tmp_path / 'plain', '--plain')
    code, report = compare(capsys, bundle, tmp_path / 'plain')
    assert code == 1 and report['first']['stage'] == 'both/forward_lstm_1'
    assert 'hard_sigmoid with slope 1/6' in report['causes'][0]
    both = next(one for one in report['arrays'] if one['name'] == 'layer/both/output')
    assert both['problem'] == 'differs'


@pytest.mark.slow
@pytest.mark.parametrize('function', ['images', 'stateful', 'pictures_in_time', 'decoder', 'both_ways', 'kept_states'])
def test_keras_3_agrees_for_other_kinds_of_models(tmp_path, capsys, function):
    find_python('KERAS3_PYTHON')
    captured(tmp_path / 'bundle', '--build', '%s:%s' % (BUILDERS, function), ['--steps', '0'])
    adapt('KERAS3_PYTHON', 'keras3.py', tmp_path / 'bundle', tmp_path / 'ported')
    code, report = compare(capsys, tmp_path / 'bundle', tmp_path / 'ported')
    assert code == 0 and report['arrays'], report['first']
    second = [one['name'] for one in report['arrays'] if one['stage'] == 'second_call']
    assert second == {'stateful': ['second_call/back'], 'kept_states': ['second_call/both', 'second_call/conv']}.get(
        function, [])


@pytest.mark.slow
def test_a_port_that_forgets_its_states_differs_at_the_second_call(tmp_path, capsys):
    find_python('KERAS3_PYTHON')
    captured(tmp_path / 'bundle', '--build', BUILDERS + ':stateful', ['--steps', '0'])
    text = '''
import keras
from keras import layers
from adapters_functions import old_hard_sigmoid


def model(weights):
    x = layers.Input(batch_shape=(2, 4, 3))
    y = layers.LSTM(3, stateful=True, return_sequences=True, recurrent_activation=old_hard_sigmoid, name='kept')(x)
    made = keras.Model(x, layers.GRU(2, go_backwards=True, recurrent_activation=old_hard_sigmoid, name='back')(y))
    for layer in made.layers[1:]:
        layer.set_weights([weights['%s/%s' % (layer.name, one)] for one in ('kernel', 'recurrent_kernel', 'bias')])
    return made
'''
    (tmp_path / 'adapters_functions.py').write_text(
        'from keras import ops\n\n\ndef old_hard_sigmoid(x):\n    return ops.clip(0.2 * x + 0.5, 0, 1)\n')
    for name, change, expected in (('right', '', 0), ('forgets', ' stateful=True,', 1)):
        (tmp_path / (name + '.py')).write_text(text.replace(change, '') if change else text)
        adapt('KERAS3_PYTHON', 'keras3.py', tmp_path / 'bundle', tmp_path / name, '--build',
              '%s:model' % (tmp_path / (name + '.py')))
        code, report = compare(capsys, tmp_path / 'bundle', tmp_path / name)
        assert code == expected, report['first']
        if code == 0:
            assert 'second_call/back' in {one['name'] for one in report['arrays']}


@pytest.mark.slow
def test_a_port_in_keras_3_of_your_own_is_compared_by_the_names_of_its_layers(tmp_path, capsys):
    find_python('KERAS3_PYTHON')
    captured(tmp_path / 'bundle', '--build', BUILDERS + ':images', ['--steps', '0'])
    (tmp_path / 'port.py').write_text('''
import keras
from keras import layers


def model(weights):
    x = layers.Input((6, 6, 2))
    y = layers.Conv2D(3, 3, padding='same', strides=2, activation='relu', name='first')(x)
    y = layers.BatchNormalization(epsilon=1e-5, name='normed')(y)
    y = layers.Flatten(name='flat')(layers.MaxPooling2D(2, padding='same', name='pool')(y))
    made = keras.Model(x, layers.Dense(3, activation='softmax', name='out')(y))
    for layer in made.layers:
        name = 'conv' if layer.name == 'first' else layer.name
        layer.set_weights([weights[key] for key in weights if key.startswith(name + '/')])
    return made
''')
    (tmp_path / 'names.json').write_text('{"conv": "first"}')
    adapt('KERAS3_PYTHON', 'keras3.py', tmp_path / 'bundle', tmp_path / 'ported', '--build',
          '%s:model' % (tmp_path / 'port.py'), '--names', tmp_path / 'names.json')
    code, report = compare(capsys, tmp_path / 'bundle', tmp_path / 'ported')
    assert code == 1 and report['first']['stage'] == 'normed' and 'epsilon is 1e-05' in report['causes'][0]
    assert next(one for one in report['arrays'] if one['stage'] == 'conv')['problem'] == ''


@pytest.mark.slow
def test_an_onnx_model_shows_its_intermediate_values(tmp_path, capsys):
    find_python('ONNX_PYTHON')
    arrays, _ = captured(tmp_path / 'bundle', '--build', BUILDERS + ':small', ['--steps', '0'])
    np.savez(str(tmp_path / 'weights.npz'), **{key.replace('/', '.'): value for key, value in arrays.items()})
    (tmp_path / 'make.py').write_text('''
import sys
import numpy as np
import onnx
from onnx import helper, numpy_helper
w = np.load(sys.argv[1])
names = ['parameter.%s.%s' % (layer, part) for layer in ('one', 'two') for part in ('kernel', 'bias')]
nodes = [helper.make_node('Gemm', ['x', names[0], names[1]], ['a']), helper.make_node(sys.argv[3], ['a'], ['one']),
         helper.make_node('Gemm', ['one', names[2], names[3]], ['two'])]
info = helper.make_tensor_value_info
graph = helper.make_graph(nodes, 'g', [info('x', 1, [None, 4])], [info('two', 1, [None, 2])],
                          [numpy_helper.from_array(w[name], name) for name in names])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), sys.argv[2])
''')
    for operator, expected in (('Tanh', 0), ('Relu', 1)):
        subprocess.check_call([find_python('ONNX_PYTHON')[0], str(tmp_path / 'make.py'), str(tmp_path / 'weights.npz'),
                               str(tmp_path / 'port.onnx'), operator])
        adapt('ONNX_PYTHON', 'onnx_outputs.py', tmp_path / 'bundle', tmp_path / operator, '--model',
              tmp_path / 'port.onnx')
        code, report = compare(capsys, tmp_path / 'bundle', tmp_path / operator)
        assert code == expected and {one['stage'] for one in report['arrays']} == {'one', 'two'}
    assert report['first']['stage'] == 'one' and 'activation is relu' in report['causes'][0]


TORCH_SUM = '''
from collections import OrderedDict
from torch import nn


class Sum(nn.Module):
    def __init__(self, keep):
        super().__init__()
        self.before, self.keep = 0., keep

    def forward(self, x):
        total = self.before + x.sum(1)
        self.before = total if self.keep else 0.
        return total


def kept(weights):
    return nn.Sequential(OrderedDict(sum=Sum(True)))


def forgotten(weights):
    return nn.Sequential(OrderedDict(sum=Sum(False)))
'''
ONNX_SUM = '''
import sys
import onnx
from onnx import helper, numpy_helper
import numpy as np

def described(*names):
    return [helper.make_tensor_value_info(name, 1, shapes[name]) for name in names]

shapes = {'x': [2, 4, 3], 'sum': [2, 3], 'before': [2, 3], 'after': [2, 3]}
nodes = [helper.make_node('ReduceSum', ['x', 'axis'], ['steps'], keepdims=0),
         helper.make_node('Add', ['steps', 'before'], ['sum']), helper.make_node('Identity', ['sum'], ['after'])]
inputs, outputs = ['x', 'before'], ['sum', 'after']
if sys.argv[1].endswith('forgotten'):
    nodes, inputs, outputs = [nodes[0], helper.make_node('Identity', ['steps'], ['sum'])], ['x'], ['sum']
elif sys.argv[1].endswith('without_output'):
    outputs = ['sum']
graph = helper.make_graph(nodes, 'g', described(*inputs), described(*outputs),
                          [numpy_helper.from_array(np.array([1]), 'axis')])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), sys.argv[1])
'''


@pytest.mark.slow
@pytest.mark.parametrize('variable', ['TORCH_PYTHON', 'ONNX_PYTHON'])
def test_a_module_and_a_graph_that_forget_their_states_differ_at_the_second_call(tmp_path, capsys, variable):
    python, _ = find_python(variable)
    captured(tmp_path / 'bundle', '--build', BUILDERS + ':running', ['--steps', '0'])
    torch, port = variable == 'TORCH_PYTHON', tmp_path / 'port.py'
    port.write_text(TORCH_SUM if torch else ONNX_SUM)
    for name, expected in (('kept', 0), ('forgotten', 1)):
        if torch:
            adapt(variable, 'torch_hooks.py', tmp_path / 'bundle', tmp_path / name, '--build', '%s:%s' % (port, name))
        else:
            subprocess.check_call([python, str(port), str(tmp_path / ('port_' + name))])
            adapt(variable, 'onnx_outputs.py', tmp_path / 'bundle', tmp_path / name, '--model',
                  tmp_path / ('port_' + name))
        code, report = compare(capsys, tmp_path / 'bundle', tmp_path / name)
        assert code == expected and {'sum', 'second_call'} == {one['stage'] for one in report['arrays']}
    assert report['first']['stage'] == 'second_call'
    if not torch:
        subprocess.check_call([python, str(port), str(tmp_path / 'without_output')])
        done = subprocess.run([python, str(ROOT / 'adapters' / 'onnx_outputs.py'), str(tmp_path / 'bundle'),
                               str(tmp_path / 'none'), '--model', str(tmp_path / 'without_output')],
                              stderr=subprocess.PIPE)
        assert done.returncode == 1 and not (tmp_path / 'none').exists()
        assert done.stderr.decode().startswith(
            '%s: has the inputs before beside the 1 of the bundle' % (tmp_path / 'without_output'))


# Old models that were not made here

@pytest.fixture(scope='module')
def old_bundles(tmp_path_factory):
    """Folders of the bundles of chars2vec and deepcut."""
    if not os.path.isdir(OLD):
        pytest.skip('no %s with the weights of two old models' % OLD)
    folder = tmp_path_factory.mktemp('old')
    words = np.zeros((3, 8, 59), 'f')
    for row, length in enumerate((8, 5, 1)):
        words[row, np.arange(length), np.random.RandomState(row).randint(0, 59, length)] = 1
    np.savez(str(folder / 'words.npz'), letters=words)
    build = str(ROOT / 'docs' / 'old_models' / 'build.py')
    captured(folder / 'chars2vec', '--build', build + ':chars2vec', '--weights',
             os.path.join(OLD, 'chars2vec_eng_50.weights.h5'), ['--inputs', folder / 'words.npz'])
    captured(folder / 'deepcut', '--build', build + ':deepcut', '--weights',
             os.path.join(OLD, 'deepcut_cnn.weights.h5'), ['--steps', '0'])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('name, plain', [('chars2vec', 'lstm_1'), ('deepcut', None)])
def test_old_models_agree_in_keras_3(old_bundles, tmp_path, capsys, name, plain):
    adapt('KERAS3_PYTHON', 'keras3.py', old_bundles / name, tmp_path / 'ported')
    assert compare(capsys, old_bundles / name, tmp_path / 'ported')[0] == 0
    adapt('KERAS3_PYTHON', 'keras3.py', old_bundles / name, tmp_path / 'plain', '--plain')
    first = compare(capsys, old_bundles / name, tmp_path / 'plain')[1]['first']
    assert (first and first['stage']) == plain


@pytest.mark.slow
def test_each_deliberate_fault_is_named_at_its_layer_step_and_cause(old_bundles):
    environment = dict(os.environ, TORCH_PYTHON=find_python('TORCH_PYTHON')[0])
    done = subprocess.run([sys.executable, str(ROOT / 'docs' / 'old_models' / 'faults.py'),
                           str(old_bundles / 'chars2vec'), str(old_bundles / 'deepcut')],
                          env=environment, stdout=subprocess.PIPE)
    assert done.returncode == 0 and done.stdout.decode().count('| yes |') == 13, done.stdout.decode()
