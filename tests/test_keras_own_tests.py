"""Keras 2.2.4's own tests of its recurrent layers and wrappers, run with `kernels.LSTM` and `kernels.GRU`."""
import os
import re
import subprocess
import sys
import tarfile

import pytest

from conftest import ROOT

FILES = {'recurrent_test.py': 52, 'wrappers_test.py': 22}  # and how many of their tests are not about `SimpleRNN`
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Keras' files of tests, from its source package."""
    made = tmp_path_factory.mktemp('keras')
    fetched = subprocess.run(
        [sys.executable, '-m', 'pip', 'download', '-q', '--no-binary', ':all:', '--no-deps', '--no-build-isolation',
         'keras==2.2.4'], cwd=str(made), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    packages = [name for name in os.listdir(str(made)) if name.endswith('.tar.gz')]
    if fetched.returncode or not packages:
        pytest.skip('no source package of Keras 2.2.4: ' + fetched.stdout.decode('utf-8', 'replace')[-200:])
    with tarfile.open(str(made / packages[0])) as package:
        for name in FILES:
            (made / name).write_bytes(package.extractfile('Keras-2.2.4/tests/keras/layers/' + name).read())
    return made


@pytest.mark.parametrize('name', sorted(FILES))
def test_keras_own_tests_pass_with_the_fast_layers(folder, name):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([os.path.join(ROOT, 'tests'), ROOT]))
    run = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'fast_layers', '--forked', '-n', '0', '-p', 'no:cacheprovider',
         '-k', 'not SimpleRNN', name], cwd=str(folder), env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, universal_newlines=True)
    assert re.search(r'^%d passed(, \d+ deselected)? in' % FILES[name], run.stdout, re.M), run.stdout[-4000:]
