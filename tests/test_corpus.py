"""Text files, pairs, vectors: no line lost or shifted, nothing invalid accepted silently."""
import gzip
import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

from command_line import UserError
from settings import with_defaults
from text import text_files
from text.corpus import corpus_paths, find_corpus, hold_out, load, read_vectors
from storage.files import file_sha256
from text.text_files import read_lines
from text.vocabulary import Vocabulary

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


# ---- Files

def write(tmpdir, name, content):
    path = str(tmpdir.join(name))
    with open(path, 'wb') as stream:
        stream.write(content)
    return path


def message_of(function, *arguments):
    with pytest.raises(UserError) as caught:
        list(function(*arguments))
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('content, lines', [
    (b'a\nb\n', ['a', 'b']),
    (b'a\nb', ['a', 'b']),
    (b'a\r\nb\r\n\r\n', ['a', 'b', '']),
    (b'a\rb\r\r\n', ['a\rb\r']),
    (b'\xef\xbb\xbfa\n\xef\xbb\xbfb\n', ['a', '\ufeffb']),
    ('a\u2028b\0c\x0bd\x85e\x0cf\x1cg\u2029h\ni\n'.encode('utf-8'), ['a\u2028b\0c\x0bd\x85e\x0cf\x1cg\u2029h', 'i']),
    (b'\n\n', ['', '']),
    (b'', []),
    (b'\xef\xbb\xbf', []),
    (b'\xef\xbb\xbf\n', ['']),
    ('我\n'.encode('utf-8'), ['我']),
])
def test_lines_end_at_line_feeds_only(tmpdir, content, lines):
    assert list(read_lines(write(tmpdir, 'plain', content))) == lines
    assert list(read_lines(write(tmpdir, 'packed.gz', gzip.compress(content)))) == lines


@pytest.mark.parametrize('content, place, byte', [
    (b'good\nb\xe9d\n', 'line 2, byte 2', '0xE9'),
    (b'\xed\xa0\x80\n', 'line 1, byte 1', '0xED'),       # a lone surrogate
    (b'a\nbc\xe6\x88\nd\n', 'line 2, byte 3', '0xE6'),   # a character cut by the line's end
    (b'\xc0\xaf\n', 'line 1, byte 1', '0xC0'),           # an over-long form of '/'
    (b'\xef\xbb\xbfab\xff', 'line 1, byte 3', '0xFF'),
])
def test_bad_byte_is_refused_by_file_line_and_byte_or_replaced(tmpdir, content, place, byte):
    path = write(tmpdir, 'bad.txt', content)
    message = message_of(read_lines, path)
    assert message.startswith('{}: {}: {} is not valid UTF-8'.format(path, place, byte))
    assert '--on-bad-utf8 replace' in message
    replaced = list(read_lines(path, 'replace'))
    assert len(replaced) == len(content.rstrip(b'\n').split(b'\n')) and any('\ufffd' in line for line in replaced)


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-be', 'utf-16-le'])
def test_utf16_is_named_and_not_offered_a_replacement(tmpdir, encoding):
    text = '\ufeffschön und gut\n' if encoding == 'utf-16-be' else 'schön und gut\n'
    message = message_of(read_lines, write(tmpdir, 'x', text.encode(encoding)))
    assert 'is UTF-16 or binary: convert a text with iconv' in message and 'replace' not in message


@pytest.mark.parametrize('content, told', [
    ('nine\n'.encode('utf-16-le')[:-1], 'is UTF-16'), (gzip.compress(b'nine\n'), 'is gzip data: unpack it with zcat'),
    ('nine\n'.encode('utf-16'), 'is UTF-16')], ids=['UTF-16 without a mark', 'gzip', 'UTF-16'])
def test_data_that_are_no_utf8_text_are_named_even_where_bytes_may_be_replaced(tmpdir, content, told):
    path = write(tmpdir, 'x', content)
    for mode in ('error', 'replace'):
        assert message_of(read_lines, path, mode).startswith('%s: %s' % (path, told))


def test_too_long_line_is_refused_with_its_number_before_it_fills_the_memory(tmpdir, monkeypatch):
    monkeypatch.setattr(text_files, 'LONGEST_LINE', 10)
    for name, pack in (('x', bytes), ('x.gz', gzip.compress)):
        path = write(tmpdir, name, pack(b'123456789\n' + b'a' * 1000))
        lines = read_lines(path)
        assert next(lines) == '123456789'
        assert message_of(lambda: lines).startswith(path + ': line 2 has more than 10 bytes')


def test_pipe_is_refused_without_being_opened(tmpdir):
    fifo = str(tmpdir.join('fifo'))
    os.mkfifo(fifo)
    for function in (lambda: [file_sha256(fifo)], lambda: corpus_paths(with_defaults(dict(train=[fifo])))):
        assert message_of(function).startswith(fifo + ': is not a regular file')


def test_lines_before_a_bad_one_are_delivered(tmpdir):
    lines = read_lines(write(tmpdir, 'bad.txt', b'good\n\xff\n'))
    assert next(lines) == 'good'
    with pytest.raises(UserError):
        next(lines)


def test_unknown_treatment_of_bad_bytes_is_a_key_error(tmpdir):
    with pytest.raises(KeyError):
        list(read_lines(write(tmpdir, 'x', b'a\n'), 'ignore'))


NO_FILE = ': cannot be read (No such file or directory): check the path'


def test_file_that_cannot_be_read_is_refused(tmpdir):
    missing = str(tmpdir.join('missing.txt'))
    assert message_of(read_lines, missing) == missing + NO_FILE
    assert message_of(read_lines, missing + '.gz') == missing + '.gz' + NO_FILE
    assert message_of(read_lines, str(tmpdir)).endswith(': cannot be read (Is a directory): name a file, not a folder')


def test_damaged_gzip_data_is_refused(tmpdir):
    packed = gzip.compress(''.join('line {}\n'.format(i * i) for i in range(20000)).encode())
    message = message_of(read_lines, write(tmpdir, 'cut.gz', packed[:len(packed) // 2]))
    assert message.startswith(str(tmpdir.join('cut.gz')) + ': gzip data cut short after line ')
    assert int(message.split('line ')[1].split(';')[0]) > 5000
    for name, content in [('end.gz', packed[:-3]), ('head.gz', packed[:5]), ('one.gz', packed[:1]),
                          ('text.gz', b'text\n'),
                          ('type.gz', packed[:10] + b'\xff' + packed[11:]),
                          ('flip.gz', packed[:3000] + bytes([packed[3000] ^ 255]) + packed[3001:]),
                          ('sum.gz', packed[:-8] + b'\0' * 8)]:
        message = message_of(read_lines, write(tmpdir, name, content))
        assert name + ': ' in message and 'gzip data' in message


def test_sha256_is_that_of_the_bytes(tmpdir):
    content = os.urandom(3 << 20)
    assert file_sha256(write(tmpdir, 'x', content)) == hashlib.sha256(content).hexdigest()
    with pytest.raises(UserError, match='is not a regular file'):
        file_sha256(str(tmpdir))


# ---- Pairs

def test_pairs_from_two_files(tmpdir):
    paths = [write(tmpdir, 'a', b'a\t1\n\nb'), write(tmpdir, 'b.gz', gzip.compress(b'x\ny\nz\n'))]
    assert load(paths) == [('a\t1', 'x'), ('', 'y'), ('b', 'z')]


def test_pairs_from_a_tab_separated_file_ignore_further_columns(tmpdir):
    path = write(tmpdir, 'a.tsv', '\ufeffGo.\t走。\tCC-BY\t#1\r\n\tx\na \t b'.encode('utf-8'))
    assert load([path]) == [('Go.', '走。'), ('', 'x'), ('a ', ' b')]


def test_unequal_line_counts_are_counted_to_the_end(tmpdir):
    short, long = write(tmpdir, 's', b'a\n' * 3), write(tmpdir, 'l', b'b\n' * 5000)
    assert message_of(load, [short, long]).startswith('{} has 3 lines but {} has 5000'.format(short, long))
    assert message_of(load, [long, short]).startswith('{} has 5000 lines but {} has 3'.format(long, short))


def test_bad_byte_after_the_shorter_file_ends_is_still_found(tmpdir):
    assert 'line 3' in message_of(load, [write(tmpdir, 'a', b'a\n'), write(tmpdir, 'b', b'a\nb\n\xff\n')])
    assert 'line 2' in message_of(load, [write(tmpdir, 't', b'a\tb\n\xff\tc\n')])
    assert load([write(tmpdir, 't', b'a\tb\n\xff\tc\n')], on_bad_utf8='replace') == [('a', 'b'), ('\ufffd', 'c')]


def test_line_without_a_tab_is_refused(tmpdir):
    for content in (b'a\tb\nc d\n', b'a\tb\n\nc\td\n'):
        path = write(tmpdir, 'a.tsv', content)
        assert message_of(load, [path]) == path + ': line 2: no tab between source and target'


def test_line_ends_of_carriage_returns_only_are_named(tmpdir):
    table = write(tmpdir, 'a.tsv', b'a\tb\rc\td\r')
    source, target = write(tmpdir, 'a', b'a\rc'), write(tmpdir, 'b', b'b\rd\r')
    for paths in ([table], [source, target]):
        assert message_of(load, paths).startswith(paths[0] + ': its line ends are carriage returns only')
    assert load([write(tmpdir, 'd.tsv', b'a\rx\tb\r\n')]) == [('a\rx', 'b')]


def test_empty_file_is_refused(tmpdir):
    empty, full = write(tmpdir, 'empty', b''), write(tmpdir, 'full', b'a\n')
    for paths in ([empty], [empty, full], [full, empty], [empty, empty],
                  [write(tmpdir, 'empty.gz', gzip.compress(b'')), full]):
        assert message_of(load, paths).endswith('the file is empty')
        assert 'empty' in message_of(load, paths).split(':')[0]


def test_source_files_and_as_many_target_files_are_read_in_order(tmpdir):
    paths = [write(tmpdir, 'a1', b'a\n'), write(tmpdir, 'a2.gz', gzip.compress(b'b\nc\n')),
             write(tmpdir, 'b1', b'x\n'), write(tmpdir, 'b2', b'y\nz\n')]
    assert load(paths) == [('a', 'x'), ('b', 'y'), ('c', 'z')]
    assert message_of(load, [paths[0], paths[1], paths[3], paths[2]]).startswith(
        '%s has 1 lines but %s has 2' % (paths[0], paths[3]))


def test_three_files_are_refused():
    for paths in ([], ['a', 'b', 'c']):
        assert 'not %d files' % len(paths) in message_of(load, paths)


def test_corpus_folder_is_found_plain_or_packed(tmpdir):
    train, val = write(tmpdir, 'train.tsv', b'a\tb\n'), write(tmpdir, 'val.tsv.gz', gzip.compress(b'a\tb\n'))
    assert find_corpus(str(tmpdir)) == {'train': [train], 'val': [val]}
    test = write(tmpdir, 'test.tsv', b'a\tb\n')
    assert find_corpus(str(tmpdir)) == {'train': [train], 'val': [val], 'test': [test]}
    write(tmpdir, 'train.tsv.gz', gzip.compress(b'a\tb\n'))
    assert message_of(find_corpus, str(tmpdir)) == '{0}: there is {0}.gz too; remove one of them'.format(train)


def test_corpus_folder_without_its_files_is_refused(tmpdir):
    assert 'train.tsv: no such file' in message_of(find_corpus, str(tmpdir.join('nowhere')))
    write(tmpdir, 'train.tsv', b'a\tb\n')
    assert 'val.tsv: no such file' in message_of(find_corpus, str(tmpdir))


# ---- Held-out pairs

@given(n=st.integers(2, 3000), seed=st.integers(0, 2 ** 32))
def test_held_out_pairs_are_distinct_and_repeat(n, seed):
    indices = hold_out(n, seed)
    assert sorted(set(indices)) == indices and 0 <= indices[0] and indices[-1] < n
    assert len(indices) == max(1, n // 20)
    assert hold_out(n, seed) == indices


def test_held_out_part_is_limited_and_seeded():
    assert len(hold_out(10 ** 6, 1)) == 1000
    assert hold_out(1000, 1) != hold_out(1000, 2)
    assert hold_out(60, 1) == [36, 53, 59]  # a stored run's validation text must stay what it was
    with pytest.raises(UserError, match='too little text'):
        hold_out(1, 1)


def test_corpus_needs_neither_tensorflow_nor_a_utf8_locale(tmpdir):
    path = write(tmpdir, 'a.tsv', '我\tü\n'.encode('utf-8'))
    code = ('import sys; from text import corpus\n'
            'assert corpus.load(sys.argv[1:]) == [(chr(0x6211), chr(0xfc))]\n'
            'assert not {"tensorflow", "keras"} & set(sys.modules)\n')
    subprocess.check_call([sys.executable, '-c', code, path], cwd=ROOT, env=dict(os.environ, LC_ALL='C'))


# ---- Pretrained vectors

VOCABULARY = Vocabulary(['<pad>', '<unk>', '<s>', '</s>', 'cat', 'New York', '3', '猫'])


@pytest.mark.parametrize('text', ['5 2\ncat 1 -2\n<unk> 7 7\ndog 3 4\n猫 .5 1e1\nNew York 0 1\n',  # word2vec
                                  'cat 1 -2\n<unk> 7 7\ndog 3 4\n猫 .5 1e1 \r\nNew York 0 1'])      # GloVe
def test_vectors_of_both_formats_go_to_the_rows_of_their_tokens_and_never_to_a_special(tmp_path, text):
    path = tmp_path / 'vectors.txt'
    path.write_bytes(text.encode('utf-8'))
    ids, rows = read_vectors(str(path), VOCABULARY, 2)
    assert ids == [4, 7, 5] and rows.dtype == np.float32
    assert rows.tolist() == [[1, -2], [.5, 10], [0, 1]]


def test_a_glove_file_that_begins_with_a_number_loses_no_line(tmp_path):
    path = tmp_path / 'vectors.txt'
    path.write_bytes(b'3 1 2\ncat 3 4\n')
    ids, rows = read_vectors(str(path), VOCABULARY, 2)
    assert ids == [6, 4] and rows.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize('text, parts', [('4 3\ncat 1 2 3\n', ('numbers, not 2', '--embedding 3')),
                                         ('cat 1 2 3\n', ('has vectors of 3 numbers, not 2; give --embedding 3',)),
                                         ('9 2\ncat 1 2 3\n', ('has vectors of 3 numbers, not 2',)),
                                         ('cat 1\n', ('has vectors of 1 numbers, not 2; give --embedding 1',)),
                                         ('Cat 1 2\n<unk> 3 4\n', ('no vector for any of the 4 tokens', '2 lines')),
                                         ('', ('no vector for any of the 4 tokens',)), ('1 2\n', ('no vector',)),
                                         ('3 \u00b2\n', ('line 1', '--embedding')),  # int() cannot read it
                                         ('cat 1 2\ndog 1\n', ('line 2', '--embedding')),
                                         ('cat 1 2\ndog 1 two\n', ('line 2',)),
                                         ('cat 1 nan\n', ('line 1',)),
                                         ('cat 1 1e99\n', ('line 1',))])
def test_vectors_that_do_not_fit_are_refused_with_their_line(tmp_path, text, parts):
    path = tmp_path / 'vectors.txt'
    path.write_bytes(text.encode('utf-8'))
    with pytest.raises(UserError) as refused:
        read_vectors(str(path), VOCABULARY, 2)
    for part in ('vectors.txt',) + parts:
        assert part in str(refused.value)
