import errno
import os
import random
import resource
import stat

import pytest

from storage.files import parse_json, read_bytes, to_json, write_bytes
from command_line import UserError


def test_bytes_are_synced_before_the_rename_and_the_directory_after_it(tmp_path, monkeypatch):
    path, calls = str(tmp_path / 'a.h5'), []

    def record(name, kind):
        original = getattr(os, name)

        def call(*args):
            calls.append((name, kind(args[0])))
            return original(*args)
        monkeypatch.setattr(os, name, call)

    def kind(descriptor):
        return 'folder' if stat.S_ISDIR(os.fstat(descriptor).st_mode) else 'file'
    record('write', kind)
    record('fsync', kind)
    record('replace', lambda source: os.path.dirname(source) == str(tmp_path))
    write_bytes(path, b'abc')
    assert calls == [('write', 'file'), ('fsync', 'file'), ('replace', True), ('fsync', 'folder')]


def test_partial_writes_are_continued_to_the_end(tmp_path, monkeypatch):
    original, rng, data = os.write, random.Random(1), bytes(range(256)) * 9
    monkeypatch.setattr(os, 'write', lambda descriptor, view: original(descriptor, view[:rng.randrange(1, 99)]))
    write_bytes(str(tmp_path / 'a'), data)
    write_bytes(str(tmp_path / 'b'), b'')
    assert (tmp_path / 'a').read_bytes() == data
    assert (tmp_path / 'b').read_bytes() == b''


def test_a_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(str(tmp_path / 'a'), b'')
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'a').stat().st_mode) == 0o640


@pytest.mark.parametrize('number, remedy', [(errno.ENOSPC, 'free some space'), (errno.EROFS, 'choose a place'),
                                            (errno.EACCES, 'check its permissions'), (errno.EIO, 'check the path')])
@pytest.mark.parametrize('name', ['open', 'write', 'fsync', 'replace'])
def test_system_errors_are_reported_with_path_and_remedy_and_keep_the_old_file(
        tmp_path, monkeypatch, name, number, remedy):
    path = tmp_path / 'a'
    path.write_bytes(b'old')

    def refuse(*_):
        raise OSError(number, os.strerror(number))
    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        with pytest.raises(UserError) as caught:
            write_bytes(str(path), b'new')
    assert str(caught.value).startswith(f'{path}: cannot be written ({os.strerror(number)}): {remedy}')
    assert path.read_bytes() == b'old'
    assert os.listdir(str(tmp_path)) == ['a']


def test_a_disk_that_is_full_in_the_middle_of_a_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a'
    path.write_bytes(b'old')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # the kernel cuts the write there
    try:
        with pytest.raises(UserError, match='cannot be written'):
            write_bytes(str(path), bytes(9000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b'old'
    assert os.listdir(str(tmp_path)) == ['a']


def test_missing_folder_and_folder_in_place_of_a_file_are_user_errors(tmp_path):
    (tmp_path / 'folder').mkdir()
    for name in 'none/a', 'folder', 'x' * 300:
        with pytest.raises(UserError):
            write_bytes(str(tmp_path / name), b'')
    assert os.listdir(str(tmp_path)) == ['folder']


def test_only_regular_files_within_the_limit_are_read(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    (tmp_path / 'link').symlink_to('a')
    os.mkfifo(str(tmp_path / 'pipe'))
    sha256 = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    path = str(tmp_path / 'a')
    assert read_bytes(path) == b'abc'
    assert read_bytes(path, [sha256[::-1], sha256], 3) == b'abc'
    assert read_bytes(path, [sha256[::-1]]) is None
    assert read_bytes(str(tmp_path / 'none'), [sha256]) is None
    for name, message in [('link', 'symbolic link'), ('pipe', 'is not a regular file'), ('none', 'is missing'),
                          ('.', 'is not a regular file'), ('a/b', 'cannot be read')]:
        with pytest.raises(UserError, match=message):
            read_bytes(str(tmp_path / name))
    with pytest.raises(UserError, match='has 3 bytes'):
        read_bytes(path, limit=2)


def test_json_round_trip():
    value = {'a': [1, 0.1, None, True, 'ü\udcff'], 'b': {'c': -3e-300}}
    assert parse_json(to_json(value), 'x') == value
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', 'x') == {'a': 1}


BAD_JSON = [
    (b'', 'Expecting value'), (b'{"a": 1', 'delimiter'), (b'{"a": 1}}', 'Extra data'), (b'[1]', 'in braces'),
    (b'3', 'in braces'), (b'{"a": 1, "b": 2, "a": 1}', "the key 'a' occurs twice"), (b'{"a": NaN}', 'is not a number'),
    (b'{"a": -Infinity}', 'is not a number'), (b'{"a": 1e999}', 'is not a number'),
    (b'{"a": ' + b'9' * 10 ** 6 + b'}', 'is not a number'),
    (('{%s, "x": 1, "x": 1}' % ', '.join('"a%d": 1' % n for n in range(50000))).encode('ascii'), "key 'x' occurs"),
    (b'{"a": ' + b'[' * 10 ** 5, 'recursion'), (b'\xff', 'utf-8'),
    (b'a: !!python/object/apply:os.system ["x"]\n', 'Expecting value'),
    (b"{'a': 1}", 'double quotes'), (b'{"a": "\n\n"}', 'control character')]


@pytest.mark.parametrize('data, message', BAD_JSON, ids=range(len(BAD_JSON)))
def test_json_with_duplicate_keys_or_infinite_numbers_is_refused_in_one_line(data, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_json(data, 'x.json')
    assert str(caught.value).startswith('x.json: ')
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 200
