"""A corpus of ids, in memory or in files, with the batches that training takes from it.

The ids of a pair are one record: source, target and, with copying, the ids that copying writes. Records of a large
corpus stay in a file and are read by position. They are not memory-mapped: pages of a map count as memory of this
process, and a map of a file that somebody shortens ends the process without a message.
"""
import os

from command_line import UserError  # first: sets what NumPy reads when it is imported

import numpy as np

from text.batches import make_batch, pad, plan_batches
from text.vocabulary import UNK

CHECKED = 2 ** 16  # pairs whose ids are checked at a time
STRIDE = 64  # the positions of every 64th record are kept; the others follow from the lengths


class EncodedCorpus(object):
    """n pairs as ids.

    # Arguments
        records: the ids of all pairs one after another, an integer array or a `RecordFile`.
        lengths: integer array (2, n): lengths of sources and targets, without START and END.
        lines: integer array (n,): the line of each pair in its file, from 1.
        copy: a record ends with the ids that copying the source writes: ids from the size of the target vocabulary on
            stand for tokens of the source that it lacks.

    `alignments` is `None`, or for guided alignment a list of (source token, target token) for each pair.
    """

    def __init__(self, records, lengths, lines, copy=False):
        self.records, self.lengths, self.lines, self.copy, self.alignments = records, lengths, lines, copy, None
        widths = self._widths(slice(None))
        starts = np.add.reduceat(widths, np.arange(0, len(self), STRIDE), dtype='i8')
        self._starts = np.cumsum(starts) - starts
        self.size = int(starts.sum())

    def _widths(self, indices):
        """Lengths of the records of these pairs."""
        source, target = self.lengths[:, indices].astype('i4')
        return source * (2 if self.copy else 1) + target

    def __len__(self):
        return self.lengths.shape[1]

    def memory(self):
        """Bytes of main memory that the corpus and its plan of batches take at most."""
        records = self.records.nbytes if isinstance(self.records, np.ndarray) else 0
        return records + self.lengths.nbytes + self._starts.nbytes + 16 * len(self)

    def record(self, index):
        """Lists of ids of one pair: source, target and what copying writes (`None` without copying)."""
        block = index // STRIDE
        start = int(self._starts[block]) + int(self._widths(slice(block * STRIDE, index)).sum())
        source, target = map(int, self.lengths[:, index])
        ids = self.records[start:start + source * (2 if self.copy else 1) + target].tolist()
        return ids[:source], ids[source:source + target], ids[source + target:] if self.copy else None

    def plan(self, batch_size, seed=0, epoch=0, shuffle=False, group=1):
        """The batches of an epoch: see `batches.plan_batches`."""
        return plan_batches(self.lengths[0], self.lengths[1], batch_size, seed, epoch, shuffle, group)

    def batch(self, indices):
        """The arrays of a batch.

        # Returns
            The model's inputs: source `(B, S)`, decoder input `(B, T)` and, with `copy`, the ids that copying writes
            `(B, S)`, with alignments, 1 for aligned tokens and 0 elsewhere, `(B, T, S)`; and the decoder output
            `(B, T)`.
        """
        source, target, copied = zip(*map(self.record, indices))
        source, decoder_input, decoder_output = make_batch(source, target, range(len(source)))
        inputs = [source, decoder_input] + ([pad(copied)] if self.copy else [])
        if self.alignments is not None:
            inputs.append(np.zeros(decoder_output.shape + source.shape[1:], 'float32'))
            for row, index in enumerate(indices):
                for i, j in self.alignments[index]:
                    inputs[-1][row, j, i] = 1.
        return inputs, decoder_output


def is_valid(corpus, limits, sizes):
    """Whether the lengths, lines and ids of a corpus from a file can be those of a text.

    # Arguments
        limits: maximum lengths of source and target.
        sizes: sizes of the source and the target vocabulary.
    """
    lengths, lines, count = corpus.lengths, corpus.lines, len(corpus)
    if not (count and lines.shape == (count,) and lengths.min() > 0 and np.all(lengths.max(1) <= limits)
            and corpus.size == corpus.records.size and lines[0] > 0 and np.all(lines[1:] > lines[:-1])):
        return False
    start = 0
    for pairs in (slice(first, first + CHECKED) for first in range(0, count, CHECKED)):
        rows = lengths[:, pairs].astype('i8')
        widths = (np.array([*rows, rows[0]]) if corpus.copy else rows).T                            # (pairs, 2 or 3)
        end = start + int(widths.sum())
        ids, starts = corpus.records[start:end], (np.cumsum(widths) - widths.ravel())
        start = end
        # A copied token has an id from the size of the target vocabulary on.
        bounds = [sizes[0]] + [sizes[1] + (rows[0] if corpus.copy else 0)] * (widths.shape[1] - 1)
        if ids.min() < UNK or not all(np.all(largest < bound) for largest, bound in zip(
                np.maximum.reduceat(ids, starts).reshape(widths.shape).T, bounds)):
            return False
    return True


class RecordFile(object):
    """Integers in a file: a slice reads its part.

    # Arguments
        path: the file; it may be removed once this object exists.
        dtype: type of the integers.
    """

    def __init__(self, path, dtype):
        self._path, self._dtype = path, np.dtype(dtype)
        self._stream = open(path, 'rb', buffering=0)
        self.size = os.fstat(self._stream.fileno()).st_size // self._dtype.itemsize

    def __getitem__(self, part):
        length = (part.stop - part.start) * self._dtype.itemsize
        data = os.pread(self._stream.fileno(), length, part.start * self._dtype.itemsize)
        if len(data) < length:
            raise UserError('%s: has become shorter while it was in use: start again with --resume' % self._path)
        return np.frombuffer(data, self._dtype)
