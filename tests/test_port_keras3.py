"""The port to Keras 3 against the reference set, on the backends that a newer Python here has."""
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from test_commands import ROOT

FOLDER = os.path.join(str(ROOT), 'docs', 'port_keras3')
PYTHONS = (os.environ.get('KERAS3_PYTHON', ''), 'python3.13', 'python3.12', 'python3.11', 'python3.10', 'python3')
FILES = {'torch': ['general-lstm.float32.npz', 'concat-gru.float32.npz', 'local-p-gru.float32.npz', 'sample.npz',
                   'location-lstm.float32.npz', 'none-lstm.float32.npz', 'copy-gru.float32.npz',
                   'guided-lstm.float32.npz', 'dmn-gru.float32.npz', 'dmn-state-gru.float32.npz',
                   'memory-gru.float32.npz'],
         'jax': ['concat-lstm.float64.npz', 'local-m-lstm.float64.npz', 'copy-lstm.float64.npz', 'dmn-gru.float64.npz',
                 'memory-gru.float64.npz', 'sample-finished.npz']}


def find_python(backend):
    """A Python with Keras 3 and this backend, or skips the test."""
    code = 'import keras; assert keras.__version__[0] == "3"'
    for python in filter(None, map(shutil.which, PYTHONS)):
        if subprocess.call([python, '-c', code], env=dict(os.environ, KERAS_BACKEND=backend),
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            return python
    pytest.skip('no Python with Keras 3 on the backend %s: KERAS3_PYTHON can name one' % backend)


def compared(python, backend, tmp_path, files, folder=FOLDER):
    """Exit code and output of `regress.py compare` for the arrays that the port in `folder` makes of some files."""
    reference, ported = str(tmp_path / 'reference'), str(tmp_path / 'ported')
    os.mkdir(reference)
    with open(os.path.join(str(ROOT), 'reference', 'MANIFEST.json'), encoding='utf-8') as stream:
        manifest = json.load(stream)
    manifest['files'] = {name: manifest['files'][name] for name in files}
    with open(os.path.join(reference, 'MANIFEST.json'), 'w', encoding='utf-8') as stream:
        json.dump(manifest, stream)
    for name in files:
        shutil.copy(os.path.join(str(ROOT), 'reference', name), reference)
    subprocess.run([python, os.path.join(folder, 'port.py'), reference, ported], check=True, stderr=subprocess.PIPE,
                   env=dict(os.environ, KERAS_BACKEND=backend, OMP_NUM_THREADS='1'))
    done = subprocess.run([sys.executable, 'regress.py', 'compare', reference, ported, '--stage-map',
                           os.path.join(FOLDER, 'stage_map.json')], cwd=str(ROOT), stdout=subprocess.PIPE)
    return done.returncode, done.stdout.decode('utf-8').split('\n')[0]


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['torch', 'jax'])
def test_the_port_to_keras_3_passes_compare(backend, tmp_path):
    code, first = compared(find_python(backend), backend, tmp_path, FILES[backend])
    assert code == 0 and first.startswith('no stage differs')


@pytest.mark.slow
def test_the_gates_of_keras_3_differ_at_the_encoder(tmp_path):
    python, folder = find_python('torch'), tmp_path / 'port'
    shutil.copytree(FOLDER, str(folder))
    text = (folder / 'model.py').read_text(encoding='utf-8')
    (folder / 'model.py').write_text(text.replace('0.2 * x + 0.5', 'x / 6. + 0.5'), encoding='utf-8')
    code, first = compared(python, 'torch', tmp_path, FILES['torch'][:1], str(folder))
    assert code == 1 and first.startswith('first stage that differs: encoder_states')


@pytest.mark.slow
def test_a_bundle_translates_in_keras_3(tmp_path):
    """The sample's sentences, token by token, with a beam; the outputs are those recorded."""
    python, code = find_python('torch'), ('import sys; sys.path.insert(0, sys.argv[1])\n'
                                          'from model import load\nfrom search import translate\n'
                                          'model, arrays = load("reference", "sample.npz")\n'
                                          'for row in arrays["source"][:3]:\n'
                                          '    tokens = [str(arrays["vocabulary/source"][i]) for i in row if i]\n'
                                          '    best, *_ = translate(model, arrays, tokens, beam_width=4, n_best=4,\n'
                                          '                         length_penalty=1.)\n'
                                          '    assert best.alignment.shape == (len(best.tokens), len(tokens))\n'
                                          '    print("".join(best.tokens))\n')
    done = subprocess.run([python, '-c', code, FOLDER], cwd=str(ROOT), stdout=subprocess.PIPE, check=True,
                          env=dict(os.environ, KERAS_BACKEND='torch', PYTHONIOENCODING='utf-8'))
    with np.load(os.path.join(str(ROOT), 'reference', 'sample.npz'), allow_pickle=False) as arrays:
        assert done.stdout.decode('utf-8').split() == arrays['text/beam'][:3].tolist()
