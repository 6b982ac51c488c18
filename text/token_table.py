"""Provisional ids and counts of tokens in bounded memory, for vocabularies of texts with any number of distinct tokens.

A token gets its final id when all text has been read. Until then it has a provisional one: the number of distinct
tokens before it. When `MAXIMUM_TOKENS` are in memory, they form a generation, which is written to a file, sorted; the
numbers begin again at 0. The counts of a vocabulary are those of all generations, merged in the order of the tokens.
"""
import collections
import heapq
import itertools
import operator
import os

import command_line  # noqa: F401  first: sets what NumPy reads when it is imported
import numpy as np

from text.vocabulary import END, UNK

MAXIMUM_TOKENS = 2 ** 19  # distinct tokens in memory: about 90 MB


class _Numbers(dict):
    """Numbers keys in the order in which they are first looked up."""

    def __missing__(self, token):
        self[token] = number = len(self)
        return number


Row = collections.namedtuple('Row', 'token number source_count target_count')


class TokenTable(object):
    """Numbers and counts the tokens of a text.

    # Arguments
        folder: function without arguments that returns a directory for files of this object.

    `numbers` is a dict from tokens of the current generation to their provisional ids; looking up a new token adds it.
    `generation` is the number of the current one.
    """

    def __init__(self, folder):
        self._folder = folder
        self._files, self._sizes = [], []  # of the generations before the current one
        self._begin()

    @property
    def generation(self):
        return len(self._files)

    def _begin(self):
        self.numbers = _Numbers()
        self._counts = np.zeros((2, 0), 'i8')

    def count(self, source, target):
        """Counts occurrences: arrays of provisional ids of the current generation."""
        missing = len(self.numbers) - self._counts.shape[1]
        self._counts = np.pad(self._counts, ((0, 0), (0, missing)), 'constant')
        self._counts += [np.bincount(ids, minlength=len(self.numbers)) for ids in (source, target)]

    def end_generation_if_full(self):
        """Writes the current generation to a file if it has `MAXIMUM_TOKENS`. Call after `count`."""
        if len(self.numbers) < MAXIMUM_TOKENS:
            return
        path = os.path.join(self._folder(), 'tokens.%d' % self.generation)
        with open(path, 'w', encoding='utf-8', newline='\n') as stream:
            for row in self._rows(self.generation):
                stream.write('%d %d %d %s\n' % (row.number, row.source_count, row.target_count, row.token))
        self._files.append(path)
        self._sizes.append(len(self.numbers))
        self._begin()

    def _rows(self, generation):
        """`Row`s of a generation, sorted by token."""
        if generation == self.generation:
            source_counts, target_counts = self._counts.tolist()
            for token, number in sorted(self.numbers.items()):
                yield Row(token, number, source_counts[number], target_counts[number])
            return
        with open(self._files[generation], encoding='utf-8', newline='\n') as stream:
            for line in stream:
                number, source_count, target_count, token = line[:-1].split(' ', 3)
                yield Row(token, int(number), int(source_count), int(target_count))

    def totals(self, sides):
        """The counts over all generations.

        # Arguments
            sides: which counts are added: 'source', 'target' or both, as a list.

        # Returns
            Generator of (token, count), sorted by token, without tokens that do not occur.
        """
        counted = [operator.attrgetter(side + '_count') for side in sides]
        rows = heapq.merge(*map(self._rows, range(self.generation + 1)))
        for token, group in itertools.groupby(rows, operator.attrgetter('token')):
            total = sum(count(row) for row in group for count in counted)
            if total:
                yield token, total

    def final_ids(self, generation, vocabulary):
        """An int32 array: for each provisional id of a generation the id in a `Vocabulary`, UNK if it has none."""
        if generation == self.generation:
            size, numbered = len(self.numbers), self.numbers.items()
        else:
            size, numbered = self._sizes[generation], (row[:2] for row in self._rows(generation))
        ids = np.full(size, UNK, 'i4')
        for token, number in numbered:
            known = vocabulary.index.get(token, UNK)
            if known > END:  # a '<s>' of the text is unknown, never special
                ids[number] = known
        return ids
