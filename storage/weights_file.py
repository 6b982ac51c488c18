"""Arrays to bytes and back: Keras' own HDF5 weight layout, and the hash that defines "identical".

`pack_weights` writes with h5py what `model.save_weights` of Keras 2.2.4 writes, without the time stamps: the same
arrays give the same bytes, and `model.load_weights` reads them. `unpack_weights` uses a strict reader of its own,
because libhdf5 1.10.4 ends in a segmentation fault on a file with a few bytes changed, which no `except` can catch.
The reader knows what Keras writes (version 0 of the format: symbol tables, contiguous data) and nothing else. There
is no code that follows soft or external links, references, strings, compressed, chunked, virtual or external data.
"""
import hashlib
import io
import json
import struct

from command_line import UserError  # first: sets what NumPy reads when it is imported

import h5py
import numpy as np

# Types of header messages (format specification, IV.A.2), and of those that are read
DATASPACE, DATATYPE, LAYOUT, CONTINUATION, SYMBOL_TABLE = 0x01, 0x03, 0x08, 0x10, 0x11
READ = (DATASPACE, DATATYPE, LAYOUT, CONTINUATION, SYMBOL_TABLE)
# No file of ours comes near; a damaged one is not followed further. HDF5's own nodes hold 8 and 32 members.
MAX_DEPTH, MAX_MEMBERS = 32, 64
# Types that may be stored: their description in the file -> dtype. H5Tencode puts two bytes before the description.
DTYPES = {h5py.h5t.py_create(np.dtype(code)).encode()[2:]: np.dtype(code)
          for code in ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8')}


def array_hash(name, array):
    """Hexadecimal sha256 over an array's name, type, shape and bytes: equal exactly where the arrays are identical."""
    array = np.asarray(array)
    if array.dtype.hasobject:
        raise TypeError('%s: an array of Python objects has no bytes to hash' % name)
    header = json.dumps([name, array.dtype.str, list(array.shape)]) + '\n'
    return hashlib.sha256(header.encode('utf-8') + array.tobytes()).hexdigest()


def hash_arrays(arrays):
    """One sha256 for many arrays, given as a mapping or as (name, array) pairs; their order does not matter."""
    pairs = arrays.items() if hasattr(arrays, 'items') else arrays
    hashes = sorted(array_hash(name, array) for name, array in pairs)
    return hashlib.sha256(''.join(hashes).encode('ascii')).hexdigest()


def pack_weights(layers):
    """The bytes of a weight file of Keras 2.2.4.

    # Arguments
        layers: list of (layer name, [(weight name, array), ...]), in the order of `model.layers`; layers without
            weights may be listed or left out. Names are ASCII, as TensorFlow's are, and may hold `/`.

    # Raises
        UserError: a weight is NaN or infinite. A file that could not be read again is never written.
    """
    stream = io.BytesIO()
    with h5py.File(stream, 'w') as root:
        root.attrs['layer_names'] = [layer.encode('ascii') for layer, _ in layers]
        root.attrs['backend'] = b'tensorflow'
        root.attrs['keras_version'] = b'2.2.4'
        for layer, weights in layers:
            group = root.create_group(layer)
            group.attrs['weight_names'] = [name.encode('ascii') for name, _ in weights]
            for name, array in weights:
                array = np.asarray(array)
                if array.dtype not in DTYPES.values():
                    raise TypeError('%s/%s: type %s is not stored in a weight file' % (layer, name, array.dtype))
                _check_finite(array, '%s/%s' % (layer, name))
                group.create_dataset(name, data=array, track_times=False)
    return stream.getvalue()


def unpack_weights(data, expected, name='weights.h5'):
    """Reads what `pack_weights` or Keras' `save_weights` wrote, and takes memory only for arrays that match.

    # Arguments
        data: the file's bytes.
        expected: list of (layer name, [(weight name, shape, dtype), ...]). Layers without weights may be missing on
            either side, as in Keras' own loader; everything else must be equal.
        name: the file's name for messages.

    # Returns
        list of (layer name, [array, ...]) in the order of `expected`.

    # Raises
        UserError: truncated or damaged, not such a file, other layers, names, shapes or types than expected, NaN or
            infinite weights.
    """
    reader = WeightsReader(data, name)
    needed = {'%s/%s' % (layer, weight) for layer, weights in expected for weight, _, _ in weights}
    for stored in reader.arrays:
        if stored not in needed:
            reader.refuse('holds %s, which the model does not have' % _short(stored))
    return [(layer, [reader.read('%s/%s' % (layer, weight), tuple(shape), np.dtype(dtype))
                     for weight, shape, dtype in weights])
            for layer, weights in expected]


class WeightsReader(object):
    """Reads arrays by name out of the bytes of an HDF5 file; every offset is checked before it is followed.

    Written from the "HDF5 File Format Specification, Version 2.0": superblock version 0 (II.A), version 1 B-trees of
    groups (III.A.1), symbol tables (III.B, III.C), local heaps (III.D), version 1 object headers (IV.A.1.a).
    `arrays` maps 'group/.../name' to the messages of the array's header. UserError where the file differs from this.
    """

    def __init__(self, data, name):
        self.data = data
        self.name = name
        self.arrays = {}
        signature, versions, sizes, base, end, root = self._fields('8s5s2s9xQ8xQ16xQ24x', 0)
        if signature != b'\x89HDF\r\n\x1a\n' or versions != bytes(5) or sizes != b'\x08\x08' or base != 0:
            self.refuse('is not a weight file in the HDF5 layout that Keras 2.2.4 writes')
        if end != len(data):
            self.refuse('is truncated or damaged (%d bytes in place of %d)' % (len(data), end))
        groups, seen = [('', self._messages(root))], {root}
        for prefix, messages in groups:
            for member, address in self._members(messages):
                # Each object has one place, or a few bytes could stand for more memory than there is.
                if address in seen or prefix.count('/') > MAX_DEPTH:
                    self.refuse('is damaged: an object is found in two places')
                seen.add(address)
                messages = self._messages(address)
                if SYMBOL_TABLE in messages:
                    groups.append((prefix + member + '/', messages))
                elif DATATYPE in messages:
                    self.arrays[prefix + member] = messages
                else:
                    self.refuse('%s is neither a group nor an array as Keras writes them' % _short(prefix + member))
        self._unread = len(data)

    def refuse(self, what):
        raise UserError('%s: %s' % (self.name, what))

    def read(self, path, shape=None, dtype=None):
        """The array at `path`, which must have this shape and type where they are given."""
        label = _short(path)
        if path not in self.arrays:
            self.refuse('has no %s, which the model needs' % label)
        messages = self.arrays[path]
        if not {DATASPACE, DATATYPE, LAYOUT} <= set(messages):
            self.refuse('%s is not an array' % label)
        stored_shape = self._shape(messages[DATASPACE], label)
        stored_dtype = self._dtype(messages[DATATYPE], label)
        if shape is not None and stored_shape != shape:
            self.refuse('%s has shape %s, the model needs %s' % (label, stored_shape, shape))
        if dtype is not None and stored_dtype != dtype:
            self.refuse('%s has type %s, the model needs %s' % (label, stored_dtype, dtype))
        count = 1
        for length in stored_shape:
            count *= length
        version, layout, address, size = self._fields('BBQQ', messages[LAYOUT][0])
        if (version, layout) != (3, 1) or size != count * stored_dtype.itemsize:
            self.refuse('%s is not stored as one plain block of numbers' % label)
        if not count:
            return np.zeros(stored_shape, stored_dtype)
        # Data never written has an address beyond any file: 10 ** 9 rows of a fill value end here.
        if address + size > len(self.data) or size > self._unread:
            self.refuse('%s has no data of its own in the file' % label)
        self._unread -= size
        array = np.frombuffer(self.data, stored_dtype, count, address).reshape(stored_shape).copy()
        _check_finite(array, '%s: %s' % (self.name, label))
        return array

    def _fields(self, layout, offset):
        """Little-endian fields at `offset`."""
        if offset + struct.calcsize('<' + layout) > len(self.data):
            self.refuse('is truncated or damaged')
        return struct.unpack_from('<' + layout, self.data, offset)

    def _messages(self, address):
        """{type: (offset, size)} of the messages in the object header at `address`."""
        version, size = self._fields('B7xI4x', address)
        messages, blocks = {}, [(address + 16, size)]
        for start, length in blocks:
            offset, end = start, start + length
            if version != 1 or end > len(self.data) or len(blocks) > MAX_DEPTH:
                self.refuse('is damaged, or has an object of a kind that Keras does not write')
            while offset + 8 <= end:
                kind, size, flags = self._fields('HHB3x', offset)
                offset += 8
                if offset + size > end or (flags & 2 and kind in READ):
                    self.refuse('is damaged, or has a header of a kind that Keras does not write')
                if kind == CONTINUATION:
                    blocks.append(self._fields('QQ', offset))
                elif kind in READ:
                    messages[kind] = (offset, size)
                offset += size
        return messages

    def _members(self, messages):
        """(name, address of the header) of each object in the group with these messages."""
        if SYMBOL_TABLE not in messages:
            self.refuse('has something else where a group should be')
        tree, heap = self._fields('QQ', messages[SYMBOL_TABLE][0])
        signature, length, names = self._fields('4s4xQ8xQ', heap)
        if signature != b'HEAP':
            self.refuse('is damaged: a group has no names')
        nodes = [tree]
        for node in nodes:
            signature, count = self._fields('4s2xH', node)
            if count > MAX_MEMBERS or len(nodes) > len(self.data) // 24:
                self.refuse('is damaged: a group has too many members')
            if signature == b'TREE':
                nodes.extend(self._fields('8xQ', node + 24 + 16 * number)[0] for number in range(count))
            elif signature == b'SNOD':
                for number in range(count):
                    name, address, cache = self._fields('QQI20x', node + 8 + 40 * number)
                    name = self._text(names + name, names + length)
                    if cache > 1:
                        self.refuse('has a link in place of %s: links are not followed' % _short(name))
                    yield name, address
            else:
                self.refuse('is damaged: a group has no list of members')

    def _text(self, start, end):
        stop = self.data.find(b'\0', start, min(end, start + 1000))
        if stop < 0:
            self.refuse('is damaged: a name has no end')
        return self.data[start:stop].decode('utf-8', 'replace')

    def _shape(self, message, label):
        offset, size = message
        version, rank = self._fields('BB6x', offset)
        shape = self._fields('%dQ' % rank, offset + 8)
        if version != 1 or rank > 32 or 8 + 8 * rank > size or max(shape, default=0) >= 2 ** 31:
            self.refuse('%s has no shape that Keras would write, or more than 2 ** 31 rows' % label)
        return shape

    def _dtype(self, message, label):
        description = self.data[message[0]:sum(message)]
        for known, dtype in DTYPES.items():
            if description.startswith(known):
                return dtype
        self.refuse('%s does not hold plain numbers' % label)


def _check_finite(array, label):
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
        raise UserError('%s holds NaN or infinite values: the training diverged or the file is damaged' % label)


def _short(name):
    """A name from a file in the form of messages: one line of limited length."""
    return repr(name if len(name) <= 80 else name[:77] + '...')
