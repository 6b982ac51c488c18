"""Signals at each stage of predict, evaluate, export and serve: nothing half made, and a pause changes nothing."""
import importlib.util
import os
import shutil
import signal
import subprocess
import sys

import pytest

from test_commands import ROOT, environment, trained  # noqa: F401

pytestmark = pytest.mark.slow
# Sends itself a signal where the command calls a function for the first time, or one written `name:2` for the second.
AT_A_STAGE = '''
import importlib, os, sys
command, place, number = sys.argv[1:4]
del sys.argv[1:4]
module = importlib.import_module(command)
place, _, calls = place.partition(':')
owner, name = place.rsplit('.', 1)
left = [int(calls or 1)]
owner = importlib.import_module(owner) if owner.startswith('exporting.') else eval(owner, {command: module, 'os': os})
original = getattr(owner, name)

def function(*arguments, **options):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), int(number))
    return original(*arguments, **options)

setattr(owner, name, function)
module.run_command(module.main, command + '.py')
'''
COMMANDS = {
    'predict': ['--run', 'run', '--input', 'in', '--output', 'out', '--html', 'page', '--threads', '1'],
    'evaluate': ['--run', 'run', '--output', 'out', '--by-length', '2', '--plot', 'page', '--bootstrap', '20',
                 '--threads', '1'],
    'export': ['run', 'out'],
    'predict --plot-dir': ['--run', 'run', '--input', 'in', '--output', 'out', '--plot-dir', 'pictures', '--threads',
                           '1'],
    'evaluate --html': ['--run', 'run', '--html', 'page', '--output', 'out', '--threads', '1'],
    'export --format onnx': ['--format', 'onnx', 'run', 'out'],
    'serve': ['--run', 'run', '--port', '0', '--threads', '1']}
ONNX = pytest.mark.skipif(not importlib.util.find_spec('onnx'), reason='onnx is not installed: make onnx')
SERVE = pytest.mark.skipif(not importlib.util.find_spec('waitress'),
                           reason='waitress is not installed: make serve-setup')
STAGES = [('predict', 'check_files'), ('predict', 'text_format'), ('predict', 'translate'),
          ('predict', 'output_formats.write_page'), ('predict', 'output_formats.OutputFile.close'),
          ('evaluate', 'read_pairs'), ('evaluate', 'best_hypotheses'), ('evaluate', 'scores.model_rows'),
          ('evaluate', 'scores.text_metrics'), ('evaluate', 'scores.confidence_intervals'),
          ('evaluate', 'scores.band_rows'), ('export', 'check'), ('export', 'exporting.saved_model.build'),
          ('export', 'exporting.saved_model.write_saved_model'), ('export', 'os.rename'),
          ('predict', 'output_formats.Page')]


# Stages of the commands that came later, and the files that may be left: whole ones.
NEWER = [('predict', 'output_formats.write_page', set()),
         ('predict --plot-dir', 'output_formats.plots.plot_alignment', {'pictures'}),
         ('predict --plot-dir', 'output_formats.plots.write_output:2', {'pictures'}),
         ('evaluate --html', 'write_page', set()), ('evaluate --html', 'write_output', {'page'}),
         pytest.param('export --format onnx', 'exporting.onnx_folder.onnx_files', set(), marks=ONNX),
         pytest.param('export --format onnx', 'exporting.onnx_folder.to_json', set(), marks=ONNX),
         pytest.param('export --format onnx', 'os.rename', set(), marks=ONNX),
         pytest.param('serve', 'listen', set(), marks=SERVE)]


# What loses an exception: a package that catches all, Python in destructors and callbacks, a function in C.
LOST = {'a bare except': """
try:
    stop()
except:
    pass
""", 'a destructor': """
class Thing:
    def __del__(self):
        stop()
Thing()
""", 'a callback of the import system': """
exec(compile('def cb(_): stop()', '<frozen importlib._bootstrap>', 'exec'))
thing = type('Thing', (), {})()
reference = weakref.ref(thing, cb)
del thing
""", 'an error of C': """
try:
    stop()
except BaseException:
    pass
raise AttributeError('keys')
"""}
LOSES = """
import os, time, weakref
from command_line import run_command
def stop():
    os.kill(os.getpid(), %d)
    time.sleep(.01)
def main(_):
    try:
        exec(%r, dict(globals()))
        time.sleep(60)
    finally:
        time.sleep(.5)
        print('cleaned')
run_command(main, 'x.py')
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['int', 'term'])
@pytest.mark.parametrize('kind', sorted(LOST))
def test_a_lost_exception_of_a_signal_is_raised_again_and_what_cleans_up_ends(kind, number):
    done = subprocess.run([sys.executable, '-c', LOSES % (number, LOST[kind])], cwd=str(ROOT), env=environment(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=50)
    assert (done.returncode, done.stdout, done.stderr.decode('utf-8')) == (
        128 + number, b'cleaned\n', 'x.py: stopped by %s\n' % number.name)


def start_at(command, stage, number, folder, trained):  # noqa: F811
    folder.mkdir()
    (folder / 'run').symlink_to(trained.path)
    shutil.copytree(str(trained.data), str(folder / 'numbers'))
    (folder / 'in').write_bytes(b'nine five\ntwo\n')
    name = command.split()[0]
    place = stage if stage.startswith(('os.', 'exporting.')) else '%s.%s' % (name, stage)
    return subprocess.Popen([sys.executable, '-c', AT_A_STAGE, name, place, str(int(number))] + COMMANDS[command],
                            cwd=str(folder), env=environment(PYTHONPATH=str(ROOT)), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize('command, stage', STAGES)
def test_a_command_stopped_at_any_stage_leaves_nothing_half_made(trained, tmp_path, command, stage):  # noqa: F811
    process = start_at(command, stage, signal.SIGTERM, tmp_path / 'home', trained)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err.decode('utf-8')) == (143, '%s.py: stopped by SIGTERM\n' % command)
    left = set(os.listdir(str(tmp_path / 'home'))) - {'run', 'numbers', 'in'}
    # evaluate.py writes the whole outputs before it computes metrics; nothing is ever half made.
    assert left <= ({'out'} if command == 'evaluate' else set())
    if left:
        assert (tmp_path / 'home' / 'out').read_bytes().count(b'\n') == 6


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['int', 'term'])
@pytest.mark.parametrize('command, stage, left', NEWER)
def test_a_newer_command_stopped_at_any_stage_leaves_whole_files(trained, tmp_path, command, stage, left,  # noqa: F811
                                                                 number):
    process = start_at(command, stage, number, tmp_path / 'home', trained)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err.decode('utf-8'), out) == (
        128 + number, '%s.py: stopped by %s\n' % (command.split()[0], number.name), b'')
    home = tmp_path / 'home'
    assert set(os.listdir(str(home))) - {'run', 'numbers', 'in'} == left
    if 'page' in left:
        assert (home / 'page').read_bytes().rstrip().endswith(b'</html>')
    if 'pictures' in left:
        pictures = {path.name: path.read_bytes()[-8:-4] for path in (home / 'pictures').iterdir()}
        assert pictures == ({'0001.png': b'IEND'} if stage.endswith(':2') else {})


@SERVE
@pytest.mark.parametrize('number, code', [(signal.SIGINT, 130), (signal.SIGTERM, 0)], ids=['int', 'term'])
def test_a_server_that_serves_finishes_and_says_so(trained, tmp_path, number, code):  # noqa: F811
    process = start_at('serve', 'tell', number, tmp_path / 'home', trained)
    out, err = process.communicate(timeout=300)
    lines = err.decode('utf-8').splitlines()
    assert (process.returncode, out, lines[1:]) == (code, b'', ['finished the requests that had begun'])
    assert lines[0].startswith('serving run at http://127.0.0.1:')


@pytest.mark.parametrize('command, stage', [
    STAGES[2], STAGES[7], STAGES[12], NEWER[1][:2], NEWER[3][:2],
    pytest.param('export --format onnx', 'exporting.onnx_folder.onnx_files', marks=ONNX)])
def test_a_pause_at_any_stage_changes_nothing(trained, tmp_path, command, stage):  # noqa: F811
    process = start_at(command, stage, signal.SIGSTOP, tmp_path / 'home', trained)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=300)
    assert process.returncode == 0
    home = tmp_path / 'home'
    name, option = (command + ' ').split(' ', 1)
    if name == 'export':
        assert (home / 'out' / ('step.onnx' if option else 'saved_model.pb')).stat().st_size > 1000
    else:
        assert (home / 'out').read_bytes().count(b'\n') == {'predict': 2, 'evaluate': 6}[name]
        assert (home / ('pictures/0002.png' if 'plot' in option else 'page')).stat().st_size > 1000
    assert not [name for name in os.listdir(str(home)) if name.startswith('.')]
