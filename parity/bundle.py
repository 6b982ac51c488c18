"""Sets of arrays on disk: `.npz` files and MANIFEST.json, read lazily and strictly, written as a stream. NumPy only.

Python 3.6 or later; `adapters/` use this module in other environments. Nothing is ever unpickled. A file of a stranger
is opened only if it is a regular file, and an array is loaded only if its declared size is one that its reader expects.
"""
from collections import OrderedDict
import errno
import io
import json
import os
import stat
import zipfile

import numpy as np

MANIFEST = 'MANIFEST.json'
NUMBERS = 'biuf'            # kinds of types: booleans, numbers
KINDS = NUMBERS + 'U'       # and text
CALL_ARRAYS = ('inputs', 'outputs', 'input_masks', 'output_masks', 'states', 'weights')
MAXIMUM_BYTES = 2 ** 28     # of an array whose size no manifest declares
MAXIMUM_JSON = 2 ** 26
MAXIMUM_HEADER = 2 ** 12    # of an array; NumPy writes about 80 characters
MAXIMUM_REASON = 300        # characters of a message that comes from NumPy or zipfile
FIXED_TIME = (1980, 1, 1, 0, 0, 0)


class SetError(Exception):
    """A set that cannot be read or compared, described in one line."""


def printable(text):
    """The text with control characters escaped, for a message or a report."""
    return ''.join(char if char.isprintable() else char.encode('unicode_escape').decode('ascii') for char in str(text))


def one_line(error):
    """The message of an error, or its type; a stranger's file can make it as long as a name in an archive."""
    text = printable(' '.join(str(error).split()) or type(error).__name__)
    return text if len(text) <= MAXIMUM_REASON else text[:MAXIMUM_REASON] + ' ...'


def open_regular(path):
    """Opens a regular file for reading; a pipe or a device could block or never end."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, 'not a regular file')
    return os.fdopen(descriptor, 'rb')


# Reading

class ArrayFile(object):
    """The arrays of one `.npz` file by name, each loaded on access.

    # Arguments
        path: file.
        entry: its entry in the manifest, whose `shapes` bound what is loaded.

    # Raises
        SetError: no `.npz` file of plain arrays.
    """

    def __init__(self, path, entry=None):
        self.path, self.shapes = path, (entry or {}).get('shapes') or {}
        self.headers = OrderedDict()
        try:
            self.stream = open_regular(path)
            self.archive = zipfile.ZipFile(self.stream)
            for member in self.archive.infolist():
                name = member.filename[:-4]
                if not member.filename.endswith('.npy') or name in self.headers:
                    raise ValueError('%s is no array' % member.filename)
                with self.archive.open(member) as stream:
                    self.headers[name] = read_header(stream)
                shape, dtype = self.headers[name]
                if dtype.kind not in KINDS or dtype.itemsize > 8 and dtype.kind == 'f':
                    raise ValueError('%s holds neither numbers of at most 64 bits nor text' % name)
                if self.nbytes(name) + 10 ** 6 < member.file_size:
                    raise ValueError('%s is longer than its header says' % name)
        except Exception as error:      # NumPy's and zipfile's readers raise many kinds for a stranger's file
            raise self.error(error)

    def error(self, error):
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        return SetError('%s: cannot be read as an .npz file of plain arrays: %s' % (printable(self.path), reason))

    def nbytes(self, name):
        shape, dtype = self.headers[name]
        size = dtype.itemsize
        for length in shape:
            size *= length
        return size

    def __getitem__(self, name):
        shape, dtype = self.headers[name]
        declared = self.shapes.get(name)
        if declared is not None and list(declared) != list(shape):
            raise SetError('%s: %s has the shape %s, and %s in %s' % (
                printable(self.path), printable(name), list(shape), declared, MANIFEST))
        if declared is None and self.nbytes(name) > MAXIMUM_BYTES:
            raise SetError('%s: %s has %d bytes, and %s declares no such size' % (
                printable(self.path), printable(name), self.nbytes(name), MANIFEST))
        try:
            with self.archive.open(name + '.npy') as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except Exception as error:
            raise self.error(error)

    def get(self, name, default=None):
        return self[name] if name in self.headers else default

    def __iter__(self):
        return iter(self.headers)

    def __len__(self):
        return len(self.headers)

    def __contains__(self, name):
        return name in self.headers

    def keys(self):
        return self.headers.keys()

    def items(self):
        for name in self.headers:
            yield name, self[name]


def read_header(stream):
    """(shape, type) of an array in NumPy's own format, without its numbers."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): (2, np.lib.format.read_array_header_1_0), (2, 0): (4, np.lib.format.read_array_header_2_0)}
    if version not in readers:
        raise ValueError('version %s of the format' % (version,))
    size, read = readers[version]
    prefix = stream.read(size)
    length = int.from_bytes(prefix, 'little')
    header = stream.read(min(length, MAXIMUM_HEADER))
    # Python's parser, which NumPy asks, writes to stderr where too many brackets or signs are nested.
    if length > MAXIMUM_HEADER or sum(header.count(sign) for sign in (b'(', b'[', b'{', b'-', b'+', b'~')) > 20:
        raise ValueError('a header that no array of plain numbers has')
    shape, _, dtype = read(io.BytesIO(prefix + header))
    if dtype.hasobject:
        raise ValueError('Object arrays cannot be loaded')
    return tuple(int(length) for length in shape), dtype


def read_arrays(path, entry=None):
    """The arrays of one `.npz` file in their order, all in memory. SetError: see `ArrayFile`."""
    return OrderedDict(ArrayFile(path, entry).items())


def open_set(path):
    """OrderedDict {file name: `ArrayFile`} of a folder or of one file, and the manifest or {}.

    # Raises
        SetError: the set is empty or malformed.
    """
    if not os.path.isdir(path):
        manifest = read_manifest(os.path.dirname(path))
        name = os.path.basename(path)
        return OrderedDict([(name, ArrayFile(path, manifest.get('files', {}).get(name)))]), manifest
    names = sorted(name for name in os.listdir(path) if name.endswith('.npz'))
    if not names:
        raise SetError('%s: contains no .npz file' % printable(path))
    manifest = read_manifest(path)
    entries = manifest.get('files', {})
    return OrderedDict((name, ArrayFile(os.path.join(path, name), entries.get(name))) for name in names), manifest


def read_set(path):
    """`open_set` with all arrays in memory."""
    files, manifest = open_set(path)
    return OrderedDict((name, OrderedDict(file.items())) for name, file in files.items()), manifest


def _short_int(text):
    if len(text) > 40:  # millions of digits would take minutes
        raise ValueError('a number of %d digits is not one that can be used here' % len(text))
    return int(text)


def read_json(path, what):
    """The value in a JSON file. SetError: it cannot be read; `what` describes the file."""
    try:
        with open_regular(path) as stream:
            data = stream.read(MAXIMUM_JSON + 1)
        if len(data) > MAXIMUM_JSON:
            raise ValueError('has more than %d bytes' % MAXIMUM_JSON)
        return json.loads(data.decode('utf-8-sig'), parse_int=_short_int)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise SetError('%s: cannot be read as %s: %s' % (printable(path), what, reason))


def read_manifest(folder):
    """The manifest of a set, or {} where there is none. SetError: it is malformed."""
    path = os.path.join(folder, MANIFEST)
    if not os.path.lexists(path):
        return {}
    what = 'the manifest of a set'
    manifest = read_json(path, what)
    try:
        for name, entry in manifest['files'].items():
            if not isinstance(entry['arrays'], dict):
                raise ValueError('no list of arrays')
            if 'tolerance' in entry and not is_tolerance(entry['tolerance']):
                raise ValueError('the tolerance of %s is not two numbers from 0' % name)
            if not all(is_list_of(int, shape) for shape in entry.get('shapes', {}).values()):
                raise ValueError('the shapes of %s are not lists of numbers' % name)
            if not all(array[5:].split('/')[0].isdecimal() for array in entry['arrays'] if array.startswith('step_')):
                raise ValueError('a step without a number in %s' % name)
        captured = manifest.get('kind') == 'capture'
        absent = None if captured else []
        if captured and not is_list_of(str, manifest.get('outputs')):
            raise ValueError('outputs is not a list of names')
        if not all(isinstance(manifest.get(key) or {}, dict) for key in ('training', 'keras')):
            raise ValueError('training or keras is no object')
        for call in manifest.get('calls', ()):
            if not all(isinstance(call[key], str) for key in ('name', 'class')) or not isinstance(call['config'], dict):
                raise ValueError('a call without name, class and config')
            if not all(is_list_of((str, type(None)), call.get(key, absent)) for key in CALL_ARRAYS):
                raise ValueError('the arrays of the call %s are not lists of names' % call['name'])
        for key in ('output_arrays', 'nested_calls_that_differ'):
            if not is_list_of(str, manifest.get(key, [])):
                raise ValueError('%s is not a list of names' % key)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SetError('%s: cannot be read as %s: %s' % (printable(path), what, one_line(error)))
    return manifest


def is_list_of(kinds, value):
    """Whether a value is a list of values of these types."""
    return isinstance(value, list) and all(isinstance(one, kinds) for one in value)


def is_tolerance(value):
    """Whether a value is [relative, absolute], finite numbers from 0."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(
        isinstance(one, (int, float)) and not isinstance(one, bool) and 0 <= one < float('inf') for one in value)


def read_stage_map(path):
    """{our name or its beginning: their name, or None for what was left out; a file: None} from a JSON file."""
    names = read_json(path, 'a stage map')
    if not isinstance(names, dict) or not all(value is None or isinstance(value, str) for value in names.values()):
        raise SetError('%s: cannot be read as a stage map: an object of strings or nulls is needed' % printable(path))
    return names


# Writing

class NpzWriter(object):
    """Writes an `.npz` file array by array, so that no more than one has to be in memory; equal arrays, equal bytes.

    The file appears under its name when it is complete. Use it as a context manager.

    # Arguments
        hash_array: function of name and array, whose results `hashes` keeps, for the manifest.

    # Attributes
        hashes, shapes: of each array by name. size: of all arrays together, in bytes.
    """

    def __init__(self, path, hash_array=None):
        self.path, self.hash_array = path, hash_array
        self.hashes, self.shapes, self.size = OrderedDict(), OrderedDict(), 0
        self.temporary = os.path.join(os.path.dirname(path), '.%s.%d.tmp' % (os.path.basename(path), os.getpid()))
        self.stream = open(self.temporary, 'wb')
        self.archive = zipfile.ZipFile(self.stream, 'w', zipfile.ZIP_DEFLATED, allowZip64=True)

    def write(self, name, array):
        """Adds an array. ValueError: not plain numbers or text, or the name is in the file already."""
        array = np.asarray(array)
        if array.dtype.kind not in KINDS:
            raise ValueError('%s: type %s is neither numbers nor text' % (name, array.dtype))
        if name in self.shapes:
            raise ValueError('%s: is in the file already' % name)
        member = zipfile.ZipInfo(name + '.npy', FIXED_TIME)
        member.compress_type = zipfile.ZIP_DEFLATED
        with self.archive.open(member, 'w', force_zip64=True) as stream:
            np.lib.format.write_array(stream, array, allow_pickle=False)
        if self.hash_array:
            self.hashes[name] = self.hash_array(name, array)
        self.shapes[name] = list(array.shape)
        self.size += array.nbytes

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.archive.close()
        if kind is None:
            self.stream.flush()
            os.fsync(self.stream.fileno())
        self.stream.close()
        if kind is None:
            os.replace(self.temporary, self.path)
        else:
            os.unlink(self.temporary)
