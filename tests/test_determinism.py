"""A training with one thread gives the same bits on a busy machine, in processes of train.py."""
import os
import shutil
import subprocess
import sys

import pytest

from test_commands import ROOT, environment, make_corpus
from test_resume import outcome

# Dropout, word dropout, averages, warm-up; several epochs with shuffled batches
SETTINGS = ['--units', '24', '--embedding', '16', '--score', 'general', '--input-feeding', '--epochs', '3',
            '--batch-size', '8', '--learning-rate', '0.02', '--dropout', '0.2', '--word-dropout', '0.1']


def train(home, name, prefix=(), **changes):
    """The outcome of a training into the run directory `name`: hashes of all arrays, the log without times."""
    command = [sys.executable, str(ROOT / 'train.py'), '--data', 'numbers', '--run', name, '--threads', '1']
    done = subprocess.run(list(prefix) + command + SETTINGS, cwd=str(home), env=environment(**changes),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode('utf-8')
    return outcome(home / name)


@pytest.mark.slow
def test_one_thread_gives_the_same_bits_on_one_core_under_any_hash_seed_and_on_a_loaded_machine(tmp_path):
    make_corpus(tmp_path / 'numbers')
    expected = train(tmp_path, 'alone', PYTHONHASHSEED='0')
    assert len(expected['checkpoint']) > 40 and len(expected['log']) == 3
    busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(os.cpu_count())]
    try:
        assert train(tmp_path, 'loaded', PYTHONHASHSEED='1') == expected
    finally:
        for process in busy:
            process.kill()
            process.wait()
    if shutil.which('taskset'):
        assert train(tmp_path, 'pinned', prefix=('taskset', '-c', '0'), PYTHONHASHSEED='random') == expected
