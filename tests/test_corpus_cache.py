"""The cache of encoded corpora: forged entries, other users, and several processes at a time."""
import json
import multiprocessing
import os
import random
import shutil

import command_line  # noqa: F401  first: sets what NumPy reads when it is imported

import numpy as np
import pytest

from storage.files import file_sha256
from test_corpus_builder import hashes, random_pairs, records_of, settings_of, small_limits, write  # noqa: F401
from text import preparation
from text.corpus_cache import CacheEntry, cache_key


@pytest.fixture
def cached(tmp_path, small_limits, capfd):  # noqa: F811
    """A function that prepares the text again: its records, and the lines on stderr about the entry; and the entry."""
    paths = {'train': write(tmp_path / 'a', random_pairs())}

    def prepare():
        capfd.readouterr()
        text = preparation.prepare(settings_of(), paths, hashes(paths), cache=str(tmp_path / 'cache'))
        sizes = list(map(len, text.vocabularies))
        assert all(max(record[side]) < sizes[side] for record in records_of(text.train) for side in (0, 1))
        lines = [line for line in capfd.readouterr().err.splitlines()
                 if not line.startswith(('training: ', 'valid', 'warning: '))]
        return records_of(text.train), lines

    records, lines = prepare()
    assert lines == []
    entry, = (tmp_path / 'cache').iterdir()
    return prepare, entry, records


def rehash(entry):
    """Makes the hashes of the manifest those of the files, as somebody does who forges an entry."""
    manifest = json.loads((entry / 'manifest.json').read_text())
    manifest['files'] = {path.name: file_sha256(str(path)) for path in entry.iterdir() if path.name != 'manifest.json'}
    (entry / 'manifest.json').write_text(json.dumps(manifest))


def array(name, dtype, change):
    """A forgery that changes the integers of a file in place, or returns others."""
    def forge(entry):
        values = np.fromfile(str(entry / name), dtype)
        changed = change(values)
        (entry / name).write_bytes((values if changed is None else changed).tobytes())
    return forge


def put(position, value):
    def change(values):
        values[position] = value
    return change


def content(change):
    """A forgery that changes the object in content.json in place."""
    def forge(entry):
        value = json.loads((entry / 'content.json').read_text())
        change(value)
        (entry / 'content.json').write_text(json.dumps(value))
    return forge


def both_lengths(change):
    return lambda entry: [array(name, '<u2', change)(entry) for name in ('source.lengths', 'target.lengths')]


FORGERIES = {
    'a source id too large': array('records', '<u2', put(0, 60000)),
    'an id of padding': array('records', '<u2', put(5, 0)),
    'the last id too large': array('records', '<u2', put(-1, 99)),
    'records cut': array('records', '<u2', lambda x: x[:-1]),
    'records longer': array('records', '<u2', lambda x: np.append(x, x[:1])),
    'no records': array('records', '<u2', lambda x: x[:0]),
    'a length of 0': array('source.lengths', '<u2', put(3, 0)),
    'a long source': array('source.lengths', '<u2', put(3, 50)),
    'lengths cut': array('target.lengths', '<u2', lambda x: x[:-1]),
    'no lengths': both_lengths(lambda x: x[:0]),
    'both lengths cut': both_lengths(lambda x: x[:-1]),
    'lines that repeat': array('lines', '<u4', put(1, 1)),
    'a line 0': array('lines', '<u4', put(0, 0)),
    'a line too far': array('lines', '<u4', put(-1, 10 ** 6)),
    'lines cut': array('lines', '<u4', lambda x: x[:-1]),
    'half a line': array('lines', 'u1', lambda x: x[:-2]),
    'no lines': array('lines', '<u4', lambda x: x[:0]),
    'content of a number': lambda entry: (entry / 'content.json').write_text('1'),
    'no vocabularies': content(lambda x: x.pop('vocabularies')),
    'one vocabulary': content(lambda x: x['vocabularies'].pop('target')),
    'a vocabulary of numbers': content(lambda x: x['vocabularies'].update(source=[1])),
    'a short vocabulary': content(lambda x: x['vocabularies'].update(source='<pad>\n<unk>\n<s>\n</s>\n')),
    'an empty vocabulary': content(lambda x: x['vocabularies'].update(target='')),
    'a lone surrogate': content(lambda x: x['vocabularies'].update(target='<pad>\n<unk>\n<s>\n</s>\n\ud800\n')),
    'no counts': content(lambda x: x.pop('counts')),
    'counts as text': content(lambda x: x['counts'].update(kept='1')),
    'other counts': content(lambda x: x['counts'].update(kept=1)),
    'a count less': content(lambda x: x['counts'].pop('empty')),
    'no held-out pairs': content(lambda x: x.pop('held_out')),
    'held out as text': content(lambda x: x.update(held_out='x')),
    'a held-out number': content(lambda x: x['held_out'].append(1)),
    'a held-out pair of one': content(lambda x: x['held_out'].append([1, ['a']])),
    'a held-out pair without a line': content(lambda x: x['held_out'].append(['a', ['a', 'b']])),
    'a file more': lambda entry: (entry / 'more').mkdir()}


@pytest.mark.parametrize('forgery', sorted(FORGERIES))
def test_a_forged_entry_with_the_right_hashes_is_built_again_with_one_line(cached, forgery):
    prepare, entry, records = cached
    FORGERIES[forgery](entry)
    if forgery != 'a file more':
        rehash(entry)
    again, lines = prepare()
    assert again == records and len(lines) == 1 and lines[0].endswith('the corpus is built again from its text'), lines
    assert lines[0].startswith(str(entry))
    assert prepare() == (records, [])


def test_random_forgeries_give_one_line_or_a_corpus_within_its_bounds(cached, summary):
    prepare, entry, records = cached
    whole, choose, refused = str(entry) + '.whole', random.Random(4), 0
    shutil.copytree(str(entry), whole)
    for number in range(40):
        name = choose.choice(sorted(path.name for path in entry.iterdir() if path.name != 'manifest.json'))
        data = bytearray((entry / name).read_bytes())
        for _ in range(choose.randint(1, 3)):
            data[choose.randrange(len(data))] = choose.choice([0, 1, 34, 255, choose.randrange(256)])
        (entry / name).write_bytes(bytes(data[:choose.choice([None, None, choose.randrange(len(data))])]))
        rehash(entry)
        found, lines = prepare()
        refused += len(lines)
        assert len(lines) <= 1 and len(found) == len(records)  # within the bounds: see `prepare`
        shutil.rmtree(str(entry))
        shutil.copytree(whole, str(entry))
    summary('encoded corpora: %d of 40 random forgeries refused, the others within their bounds' % refused)
    assert refused > 20


@pytest.mark.parametrize('name', ['', 'records', 'content.json', 'manifest.json'])
def test_an_entry_that_others_may_write_is_not_believed(cached, name):
    prepare, entry, records = cached
    (entry / name).chmod(0o775 if not name else 0o664)
    again, line = prepare()
    assert again == records and 'others may have changed it' in line[0] and str(entry / name) in line[0]
    assert prepare() == (records, [])


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a file to somebody else')
def test_an_entry_of_another_user_is_not_believed(cached):
    prepare, entry, records = cached
    for name in ('', 'lines', 'manifest.json'):
        os.chown(str(entry / name), 12345, -1)
        again, line = prepare()
        assert again == records and 'it must belong to you' in line[0] and str(entry / name) in line[0]
    assert prepare() == (records, [])


def test_a_link_in_the_place_of_an_entry_is_not_followed(cached, tmp_path):
    prepare, entry, records = cached
    entry.rename(tmp_path / 'elsewhere')
    entry.symlink_to(tmp_path / 'elsewhere')
    again, line = prepare()
    assert again == records and 'is not a folder' in line[0]
    assert prepare() == (records, []) and not entry.is_symlink() and (tmp_path / 'elsewhere' / 'records').exists()


def test_a_umask_for_a_group_leaves_entries_to_their_owner(tmp_path, small_limits, capfd):  # noqa: F811
    paths, before = {'train': write(tmp_path / 'a', random_pairs())}, os.umask(0)
    try:
        for _ in range(2):
            preparation.prepare(settings_of(), paths, hashes(paths), cache=str(tmp_path / 'cache'))
    finally:
        os.umask(before)
    assert 'again' not in capfd.readouterr().err


def test_an_entry_that_cannot_be_replaced_costs_a_line_and_no_training(cached, monkeypatch):
    prepare, entry, records = cached
    (entry / 'lines').unlink()

    def refuse(self, path):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(CacheEntry, '_remove', refuse)
    again, lines = prepare()
    assert again == records and len(lines) == 2 and 'choose another --corpus-cache' in lines[1]


def build_entries(folder, barrier, results, count):
    """Builds entries at the same time as another process, and opens each of their files."""
    for number in range(count):
        entry = CacheEntry(folder, cache_key(number))
        barrier.wait()
        try:
            if entry.read() is None:
                with entry.building() as path:
                    for name in ('records', 'lines'):
                        with open(os.path.join(path, name), 'wb') as stream:
                            stream.write(b'x' * 1000)
                    entry.commit(path, {'number': number})
            results.put(entry.read()['number'] - number)
        except Exception as error:
            results.put(repr(error))


def test_processes_that_build_one_entry_at_the_same_time_all_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr('text.corpus_cache.KEPT', 3)
    context, count = multiprocessing.get_context('fork'), 40
    barrier, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=build_entries, args=(str(tmp_path / 'cache'), barrier, results, count))
                 for _ in range(3)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in range(3 * count)] == [0] * 3 * count
    for process in processes:
        process.join()
    assert sorted(os.listdir(str(tmp_path / 'cache'))) == sorted(cache_key(number) for number in range(count)[-3:])


def test_an_entry_that_appears_during_the_building_stays(tmp_path):
    one, other = [CacheEntry(str(tmp_path), cache_key(1)) for _ in range(2)]
    assert one.read() is None and other.read() is None
    for entry, number in ((one, 1), (other, 2)):
        with entry.building() as path:
            entry.commit(path, {'number': number})
    assert one.read() == other.read() == {'number': 1}
