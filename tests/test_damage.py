"""Every array of a set with each type, shape and damage: `compare` names it or refuses the file in one line."""
import io
import random
import struct
import time
import zipfile

import numpy as np
import pytest

from command_line import UserError
from parity import compare
import regress
from test_commands import ROOT

FILES = ['dot-gru.float64'] + [pytest.param(name, marks=pytest.mark.slow) for name in (
    'copy-lstm.float32', 'train-adam.float32')]
TYPES = ['f2', 'f4', 'f8', 'i1', 'i4', 'i8', 'u1', 'u8', '?', 'U3']
REFUSED = ['O', 'c8', 'c16', 'g', 'S3', 'M8[s]', 'm8[s]', 'V4', 'i4,f4']


def is_same_kind(one, other):
    """Whether `compare` may take one type for the other: integers of any width are compared by value."""
    return one == other or one.kind == other.kind != 'f'


def changed_shapes(array):
    """Yields (description, array) of the same numbers in other shapes."""
    yield 'one axis more', array[None]
    yield 'no axis', array.ravel()[:1].reshape(())
    yield 'flat and one longer', np.append(array.ravel(), array.ravel()[:1])
    yield 'no element', array.ravel()[:0]
    if array.ndim > 1:
        yield 'reversed axes', array.reshape(array.shape[::-1] if array.shape != array.shape[::-1] else (-1,))
        yield 'one row less', array[:-1]


def damages(array):
    """Yields (description, array) of the same shape with other numbers."""
    if not array.size:
        return
    at = np.unravel_index(array.size - 1, array.shape)
    if array.dtype.kind == 'f':
        for value in (np.nan, np.inf, array[at] + 1 if abs(array[at]) < 1e6 else 0.):
            made = array.copy()
            made[at] = value
            if array[at] != made[at]:  # a margin without a runner-up is infinite already
                yield repr(value), made
    elif array.dtype.kind in 'iu':
        made = array.copy()
        made[at] += 1
        yield 'another number', made
    elif array.dtype.kind == 'U':
        made = array.copy()
        made[at] = '' if made[at] else 'x'
        yield 'another text', made


@pytest.mark.parametrize('name', FILES)
def test_every_array_with_another_type_shape_or_number_is_named(name, summary):
    path = str(ROOT / 'reference' / (name + '.npz'))
    recorded, tried, differing = compare.read_arrays(path), 0, 0
    order, entry = compare.Order(), compare.read_manifest(str(ROOT / 'reference'))['files'][name + '.npz']
    for array_name, array in recorded.items():
        with np.errstate(all='ignore'):  # a large number has no half precision
            cases = [(kind, array.astype(kind), is_same_kind(array.dtype, np.dtype(kind))) for kind in TYPES
                     if array.dtype.kind != 'U' or kind == 'U3']
        cases += [(text, made, False) for text, made in changed_shapes(array) if made.shape != array.shape]
        cases += [(text, made, False) for text, made in damages(array)]
        for text, made, may_be_equal in cases:
            results, _ = compare.compare_files(name, {array_name: array}, {array_name: made}, None, None, entry, order)
            tried += 1
            wrong = compare.first_difference(results)
            assert wrong or may_be_equal, (array_name, array.shape, array.dtype, text)
            if wrong:
                differing += 1
                assert wrong.name == array_name and '\n' not in compare.place(wrong)
    summary('%s: %d arrays, %d changes tried, %d differ by name, the others are equal numbers of another width' % (
        name, len(recorded), tried, differing))


@pytest.mark.parametrize('name', FILES)
def test_every_array_of_a_type_that_has_no_place_in_a_set_is_refused(tmp_path, name, summary):
    recorded, tried = compare.read_arrays(str(ROOT / 'reference' / (name + '.npz'))), 0
    for array_name, array in recorded.items():
        for kind in REFUSED:
            np.savez(str(tmp_path / 'x.npz'), **{array_name: np.zeros(array.shape, kind)})
            with pytest.raises(compare.SetError) as error:
                compare.open_set(str(tmp_path / 'x.npz'))
            assert '\n' not in str(error.value)
            tried += 1
    summary('%s: %d arrays of types without a place in a set, all refused' % (name, tried))


# ---- Damaged files --------------------------------------------------------------------------------------------
HEADER = "{'descr': %s, 'fortran_order': %s, 'shape': %s}\n"
DESCRIPTIONS = ["'<f8'", "'>f8'", "'|O'", "'O'", "'<f16'", "'<c16'", "[('a','<f4')]", "'<U999999999'", "'<U0'", "'V0'",
                "'|S0'", "'foo'", "'M8'", '3', 'None', "'<f8,<f8'", "('<f8',(2,))", "('<f8',(10**9,))", "'<f3'", "''",
                "'>U3'", "'e'", "'?'", "'g'", "'<m8[ns]'"]
SHAPES = ['()', '(0,)', '(-1,)', '(3,-2)', '(1000000000,)', '(99999999999,99999999999)', '(1.5,)', "('a',)", '3', '[3]',
          '(True,)', 'None', '(3,)*40', '(%s)' % ('1,' * 33), '(0,%s)' % ('99999999999,' * 3), '(%s,)' % ('9' * 5000)]
OTHERS = ['', '{}', '[]', '{', 'x' * 60000, '(' * 5000, '{' * 200, '-' * 3000 + '1', '\0' * 10, '[' * 90 + ']' * 90,
          "{'descr': '<f8', 'fortran_order': False}", HEADER[:-2] % ("'<f8'", 'False', '(3,)') + ", 'x': 1}",
          '__import__("os").abort()'] + [HEADER % ("'<f8'", order, '(3,)') for order in ('True', '1', 'None', "'x'")]
HEADERS = [HEADER % (one, 'False', '(3,)') for one in DESCRIPTIONS] + [
    HEADER % ("'<f8'", 'False', shape) for shape in SHAPES] + OTHERS


def npy(header, body=b'', version=(1, 0), size=None):
    header = header.encode('latin-1')
    return b'\x93NUMPY' + bytes(version) + struct.pack(
        '<H' if version == (1, 0) else '<I', len(header) if size is None else size) + header + body


def archive(content, name='scores', method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', method) as made:
        made.writestr(name + '.npy', content)
    return file.getvalue()


def changed_files(data):
    """Yields (description, bytes) of a set's file, each damaged in another way; `data` is one that is valid."""
    drawn = random.Random(0)
    for end in range(0, len(data), len(data) // 100):
        yield 'cut', data[:end]
    for count in [1, 1, 3, 20] * 100:
        made = bytearray(data)
        for _ in range(count):
            made[drawn.randrange(len(made))] = drawn.randrange(256)
        yield 'bytes', bytes(made)
    for at in list(range(80)) + list(range(data.index(b'PK\x01\x02'), len(data))):
        for value in (0, 255, data[at] ^ 1):
            yield 'zip', data[:at] + bytes([value]) + data[at + 1:]
    for header in HEADERS:
        for version in ((1, 0), (2, 0), (3, 0)):
            for body in (b'', b'\0' * 24, b'\0' * 23, b'\xff' * 24, b'\0' * 4096):
                yield 'header', archive(npy(header, body, version))
    good = npy(HEADERS[0], b'\0' * 24)
    for size, version in ((0, (1, 0)), (1, (1, 0)), (65535, (1, 0)), (2 ** 32 - 1, (2, 0))):
        yield 'header', archive(npy(HEADERS[0], b'\0' * 24, version, size))
    yield 'longer than its header says', archive(npy(HEADERS[0], b'\0' * 2 ** 28), method=zipfile.ZIP_DEFLATED)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield 'method', archive(good, method=method)
    for name in ('../x', '/etc/x', '\x1b[2Jx', 'a' * 60000, '', 'x/', '\u202e', 'step_\u00b2/x'):
        yield 'name', archive(good, name)
    yield 'zip', b'PK\x05\x06' + b'\0' * 18
    for made in (b'x' * 1000 + data, data + b'x' * 1000, data + b'x' * 100000, data + data):
        yield 'zip', made


@pytest.mark.slow
def test_a_damaged_file_is_compared_or_refused_in_one_line(tmp_path, capfd, summary):
    names = ['initial/encoder_1/bias', 'parameter/source_embedding/embeddings', 'parameter/encoder_1/kernel']
    arrays = compare.read_arrays(str(ROOT / 'reference' / 'dot-gru.float64.npz'))
    good, bad = tmp_path / 'good.npz', tmp_path / 'bad.npz'
    np.savez(str(good), scores=np.zeros(3), **{name: arrays[name] for name in names})
    ends = {'refused': 0, 0: 0, 1: 0}
    for what, content in changed_files(good.read_bytes()):
        bad.write_bytes(content)
        started = time.process_time()
        try:
            end = regress.main(['compare', str(good), str(bad)])
        except UserError as error:
            end = 'refused'
            assert '\n' not in str(error) and str(error).isprintable() and len(str(error)) < 1000
        ends[end] += 1  # any other end is an exception that the test shows
        out, err = capfd.readouterr()
        assert err == '' and '\x1b' not in out and time.process_time() - started < 5, what
    tried = sum(ends.values())
    assert ends['refused'] > tried // 2
    summary('%d damaged files tried: %d refused in one line, %d compared' % (tried, ends['refused'], ends[0] + ends[1]))
