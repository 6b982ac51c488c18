"""The estimates of the memory of trainings and searches, compared with measured peaks; the refusal of large runs."""
import builtins
import io
import os
import subprocess
import sys
import types

import pytest
import tf_session  # noqa: F401  first: it fixes the import order
from decoding import ensemble
from search_options import Options
from text.corpus_builder import encode_pairs
from text.vocabulary import SPECIALS, Vocabulary
from storage import machine
from training import memory_estimate
from command_line import UserError
from settings import resolve_settings
from test_commands import ROOT, cheap, no_tensorflow, write_pairs  # noqa: F401  fixtures

GIB = 2. ** 30
# Settings, B, S, T, peak of benchmarks/long_inputs.py in GiB.
KERAS = [(dict(score='dot'), 16, 1000, 100, .73), (dict(score='general'), 16, 1000, 100, .74),
         (dict(score='scaled_dot'), 16, 1000, 100, .73), (dict(score='location'), 16, 1000, 100, .73),
         (dict(score='concat'), 16, 1000, 100, 2.17), (dict(score='concat'), 32, 300, 60, 1.10),
         (dict(attention='local-m'), 16, 1000, 100, 2.19), (dict(attention='local-p'), 16, 1000, 100, 2.19),
         (dict(score='dot'), 32, 300, 60, .66), (dict(score='concat', input_feeding=True), 16, 400, 60, .76)]
FAST = [(dict(score='concat'), 16, 1000, 100, .64), (dict(attention='local-m', score='general'), 16, 1000, 100, .65),
        (dict(attention='local-p', score='general'), 16, 1000, 100, .65)]
MEASURED = [(dict(given[0], kernels='keras'), *given[1:]) for given in KERAS] + FAST


@pytest.mark.parametrize('given, batch, source, target, measured', MEASURED)
def test_the_estimate_is_slightly_above_the_measured_peaks(given, batch, source, target, measured):
    found = memory_estimate.step_bytes(resolve_settings(given), 10004, 10004, batch, source, target) / GIB
    assert measured <= found < 1.6 * measured


# K, V, S, T, B, the n of no_repeat_ngram, the score, and the peak of benchmarks/search_memory.py in MB.
SEARCHES = [(1, 330, 500, 20, 256, 0, 'general', 574), (1, 330, 500, 20, 256, 0, 'concat', 588),
            (1, 30000, 20, 4, 2000, 0, 'general', 360), (1, 30000, 20, 4, 2000, 2, 'general', 885),
            (5, 330, 20, 50, 256, 0, 'general', 47), (10, 330, 500, 20, 32, 0, 'concat', 94),
            (10, 330, 500, 200, 32, 0, 'general', 532), (50, 330, 20, 50, 64, 0, 'general', 82),
            (50, 330, 500, 20, 32, 0, 'concat', 280), (50, 30000, 20, 4, 64, 0, 'general', 411),
            (50, 30000, 20, 4, 64, 2, 'general', 1230), (50, 30000, 20, 4, 64, 0, 'copy', 1145),
            (200, 330, 20, 50, 32, 0, 'general', 244)]


@pytest.mark.parametrize('width, words, source, target, batch, ngram, score, measured', SEARCHES)
def test_the_estimate_of_a_search_is_above_the_measured_peak(width, words, source, target, batch, ngram, score,
                                                             measured):
    config = resolve_settings({'copy': True} if score == 'copy' else {'score': score})
    model = types.SimpleNamespace(settings=config, cell=types.SimpleNamespace(state_size=4 * [config.units]))
    found = batch * ensemble.sentence_bytes(
        Options(beam_width=width, no_repeat_ngram=ngram), words, source, target, **ensemble.search_sizes(model))
    assert measured <= found / 2. ** 20 < 2 * measured


def test_each_side_and_each_size_counts():
    given = dict(score='concat', units=64, kernels='keras')
    least = memory_estimate.step_bytes(resolve_settings(given), 100, 100, 4, 50, 20)
    for more in (dict(units=128), dict(encoder_layers=2), dict(embedding=256), dict(attention_units=256)):
        assert memory_estimate.step_bytes(resolve_settings(dict(given, **more)), 100, 100, 4, 50, 20) > least
    for sizes in ((900, 100, 4, 50, 20), (100, 900, 4, 50, 20), (100, 100, 8, 50, 20), (100, 100, 4, 90, 20),
                  (100, 100, 4, 50, 40)):
        assert memory_estimate.step_bytes(resolve_settings(given), *sizes) > least
    assert memory_estimate.step_bytes(resolve_settings(dict(given, score='general')), 100, 100, 4, 50, 20) < least


def corpus(source, target):
    vocabulary = Vocabulary(SPECIALS)
    return encode_pairs([['a'] * n for n in source], [['b'] * n for n in target], vocabulary, vocabulary)


def test_the_largest_batch_decides_and_the_message_names_it():
    settings = resolve_settings(dict(score='concat', batch_size=2, memory_limit=2., kernels='keras'))
    memory_estimate.check(settings, 50, 50, corpus([3, 4, 5, 6], [9, 9, 9, 9]))
    with pytest.raises(UserError, match='takes about [0-9.]+ GiB of memory, for 2 sources of up to 9000 tokens and '
                       'targets of up to 400, and there are 2.0 GiB: lower --batch-size, choose --score general'):
        memory_estimate.check(settings, 50, 50, corpus([3, 4, 9000, 8999], [9, 9, 400, 9]))
    settings.memory_limit = 2000.
    memory_estimate.check(settings, 50, 50, corpus([3, 4, 9000, 8999], [9, 9, 400, 9]))


@pytest.mark.parametrize('files, expected', [
    ({'/proc/meminfo': 'MemTotal: 9 kB\nMemAvailable:   4 kB\n'}, 4096),
    ({'/proc/meminfo': 'MemAvailable:   4 kB\n', machine.LIMITS[0]: '3000\n'}, 3000),
    ({'/proc/meminfo': 'MemAvailable:   4 kB\n', machine.LIMITS[0]: 'max\n',
      machine.LIMITS[1]: '9000\n'}, 4096),
    ({}, None)])
def test_available_memory_is_the_minimum_of_machine_and_container(monkeypatch, files, expected):
    def opened(path):
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])
    monkeypatch.setattr(builtins, 'open', opened)
    try:
        found = machine.available_memory()
    finally:
        monkeypatch.undo()
    assert found == expected


def test_the_command_refuses_before_it_imports_tensorflow_or_writes(cheap, tmp_path):  # noqa: F811
    write_pairs(tmp_path / 'a', [('x ' * 90, 'y ' * 50)] * 40)
    result = cheap('train.py', '--train', 'a', '--memory-limit', '0.4', '--run', 'r')
    assert result.stderr.splitlines()[-1].startswith('train.py: training takes about ')
    assert result.code == 1 and not (tmp_path / 'r').exists()


@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='needs /proc')
def test_the_peak_of_a_program_is_its_own_and_not_that_of_the_one_that_started_it():
    peak = 'from storage.machine import peak_memory; print(peak_memory())'
    starts = 'import subprocess, sys; held = b"1" * 2 ** 28; subprocess.check_call([sys.executable, "-c", %r])' % peak
    inner = int(subprocess.check_output([sys.executable, '-c', starts], cwd=str(ROOT)))
    outer = int(subprocess.check_output([sys.executable, '-c', 'held = b"1" * 2 ** 28; ' + peak], cwd=str(ROOT)))
    assert 2 ** 20 < inner < 2 ** 27 < 2 ** 28 < outer
