"""SIGTERM and SIGSTOP at each stage of predict, evaluate and export: nothing half made, and a pause changes nothing."""
import os
import shutil
import signal
import subprocess
import sys

import pytest

from test_commands import ROOT, environment, trained  # noqa: F401

pytestmark = pytest.mark.slow
# Sends itself a signal where the command first calls a function, then calls it.
AT_A_STAGE = '''
import importlib, os, sys
command, place, number = sys.argv[1:4]
del sys.argv[1:4]
module = importlib.import_module(command)
owner, name = place.rsplit('.', 1)
owner = eval(owner, {command: module, 'os': os})
original = getattr(owner, name)

def function(*arguments, **options):
    setattr(owner, name, original)
    os.kill(os.getpid(), int(number))
    return original(*arguments, **options)

setattr(owner, name, function)
module.run_command(module.main, command + '.py')
'''
COMMANDS = {
    'predict': ['--run', 'run', '--input', 'in', '--output', 'out', '--html', 'page', '--threads', '1'],
    'evaluate': ['--run', 'run', '--output', 'out', '--by-length', '2', '--plot', 'page', '--bootstrap', '20',
                 '--threads', '1'],
    'export': ['run', 'out']}
STAGES = [('predict', 'check_files'), ('predict', 'text_format'), ('predict', 'translate'),
          ('predict', 'output_formats.write_page'), ('predict', 'output_formats.OutputFile.close'),
          ('evaluate', 'read_pairs'), ('evaluate', 'best_hypotheses'), ('evaluate', 'model_rows'),
          ('evaluate', 'text_metrics'), ('evaluate', 'confidence_intervals'), ('evaluate', 'band_rows'),
          ('export', 'check'), ('export', 'build'), ('export', 'write_saved_model'), ('export', 'os.rename')]


def start_at(command, stage, number, folder, trained):  # noqa: F811
    folder.mkdir()
    (folder / 'run').symlink_to(trained.path)
    shutil.copytree(str(trained.data), str(folder / 'numbers'))
    (folder / 'in').write_bytes(b'nine five\ntwo\n')
    place = stage if stage.startswith('os.') else '%s.%s' % (command, stage)
    return subprocess.Popen([sys.executable, '-c', AT_A_STAGE, command, place, str(int(number))] + COMMANDS[command],
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


@pytest.mark.parametrize('command, stage', [STAGES[2], STAGES[7], STAGES[12]])
def test_a_pause_at_any_stage_changes_nothing(trained, tmp_path, command, stage):  # noqa: F811
    process = start_at(command, stage, signal.SIGSTOP, tmp_path / 'home', trained)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=300)
    assert process.returncode == 0
    home = tmp_path / 'home'
    if command == 'export':
        assert (home / 'out' / 'saved_model.pb').stat().st_size > 1000
    else:
        assert (home / 'out').read_bytes().count(b'\n') == {'predict': 2, 'evaluate': 6}[command]
        assert (home / 'page').stat().st_size > 1000
    assert not [name for name in os.listdir(str(home)) if name.startswith('.')]
