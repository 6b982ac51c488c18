"""Two processes on one file: the second one uses it or ends with a message, and the file is complete.

Beside these: a run directory (`test_resume.py`, `test_run_directory.py`) and entries of the corpus cache
(`test_corpus_cache.py`).
"""
import multiprocessing
import os

import pytest

from exporting import folders
from command_line import UserError
from exporting.manifest import Folder
from parity.bundle import NpzWriter
from storage.files import write_bytes
from storage.output_files import write_output
from test_corpus_builder import hashes, random_pairs, records_of, settings_of, small_limits, write  # noqa: F401
from test_exported_damage import Run
from text import preparation

TURNS = 15


def work(function, path, barrier, results, number):
    for turn in range(TURNS):
        barrier.wait()
        try:
            results.put((turn, function('%s%d' % (path, turn), number)))
        except UserError as error:
            results.put((turn, str(error)))
        except Exception as error:
            results.put((turn, error))


def in_pairs(function, path):
    """What `function(path, number)` returned in two processes (0 and 1) at the same moment, or the text of its
    `UserError`, for each of `TURNS` paths: a list of lists."""
    context = multiprocessing.get_context('fork')
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=work, args=(function, str(path), barrier, results, number))
                 for number in range(2)]
    for process in processes:
        process.start()
    found = [[] for _ in range(TURNS)]
    for _ in range(2 * TURNS):
        turn, result = results.get(timeout=120)
        assert not isinstance(result, Exception), repr(result)
        found[turn].append(result)
    for process in processes:
        process.join()
    return found


@pytest.mark.parametrize('function', [write_bytes, write_output])
def test_of_two_writers_of_a_file_one_is_there_whole(tmp_path, function):
    in_pairs(lambda path, number: function(path, b'%d' % number * 100000), tmp_path / 'file')
    assert sorted(os.listdir(str(tmp_path))) == sorted('file%d' % turn for turn in range(TURNS))
    for path in tmp_path.iterdir():
        assert path.read_bytes() in (b'0' * 100000, b'1' * 100000)


def test_of_two_exports_into_one_folder_one_is_there_whole_and_the_other_is_told(tmp_path):
    def make(path, number):
        with folders.new_folder(path, 'web', Run()) as hidden:
            os.mkdir(hidden)
            for name in ('one', 'two'):
                write_bytes(os.path.join(hidden, name), b'%d' % number * 1000)
        return number

    for turn, found in enumerate(in_pairs(make, tmp_path / 'folder')):
        numbers, told = [[one for one in found if isinstance(one, kind)] for kind in (int, str)]
        folder = Folder(str(tmp_path / ('folder%d' % turn)), UserError)
        assert len(numbers) == len(told) == 1 and folder.check() == 2
        assert folder.read_file('one') == folder.read_file('two') == b'%d' % numbers[0] * 1000
        assert 'another process has made it: name another directory' in told[0]
    assert len(os.listdir(str(tmp_path))) == TURNS


def test_of_two_bundles_in_one_file_one_is_there_whole(tmp_path):
    import numpy as np

    def make(path, number):
        with NpzWriter(path + '.npz') as made:
            for name in 'abc':
                made.write(name, np.full(1000, number))

    in_pairs(make, tmp_path / 'bundle')
    assert len(os.listdir(str(tmp_path))) == TURNS
    for path in tmp_path.iterdir():
        with np.load(str(path), allow_pickle=False) as arrays:
            assert len({int(arrays[name][i]) for name in 'abc' for i in (0, -1)}) == 1


def test_two_trainings_at_once_prepare_one_large_text(tmp_path, small_limits):  # noqa: F811
    paths = {'train': write(tmp_path / 'a', random_pairs())}

    def prepare(cache, number):
        text = preparation.prepare(settings_of(), paths, hashes(paths), cache=cache)
        again = preparation.prepare(settings_of(), paths, hashes(paths), cache=cache)
        return hash(str(records_of(text.train))), hash(str(records_of(again.train)))

    found = in_pairs(prepare, tmp_path / 'cache')
    assert len({value for pair in found for values in pair for value in values}) == 1
    assert all(len(os.listdir(str(tmp_path / ('cache%d' % turn)))) == 1 for turn in range(TURNS))
