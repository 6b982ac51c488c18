"""Text to an `EncodedCorpus` in one pass and bounded memory.

The pass writes provisional ids, in blocks. When the vocabularies are known, each block gets its final ids. Up to
`IN_MEMORY` tokens the blocks, and the corpus made of them, are arrays in memory; beyond that they are files.
"""
import array
import collections
import os
import time

from command_line import UserError, tell  # first: sets what NumPy reads when it is imported

import numpy as np

from text.encoded_corpus import EncodedCorpus, RecordFile
from text.token_table import TokenTable
from text.tokenizers import CHARACTERS_PER_TOKEN
from text.vocabulary import UNK

BLOCK = 2 ** 20  # tokens that are numbered and written at a time
IN_MEMORY = 2 ** 22  # tokens of a corpus that stays in memory
PROGRESS_SECONDS = 10
COUNTS = ('read', 'kept', 'empty', 'over_long', 'long_sources')

# ids: provisional ids of source and target, pair after pair. generation: that of the `TokenTable`.
Block = collections.namedtuple('Block', 'generation ids lengths lines')


class CorpusBuilder(object):
    """Reads text, then makes a corpus of it.

    # Arguments
        tokenizers: those of source and target.
        limits: maximum lengths of source and target in tokens, without START and END.
        folder: function without arguments that returns a directory for files; it is called if the text is large.
        truncate: Boolean, a longer source ends at its limit; otherwise the pair is dropped.

    `counts` has the numbers of pairs `read`, `kept`, and dropped as `empty` or `over_long`, and those with
    `long_sources`, dropped or truncated; `table` the tokens.
    """

    def __init__(self, tokenizers, limits, folder, truncate=False):
        self._tokenizers, self._limits, self._folder, self._truncate = tokenizers, limits, folder, truncate
        self.counts = collections.OrderedDict.fromkeys(COUNTS, 0)
        self.table = TokenTable(folder)
        self._blocks = []   # in memory
        self._spilled = []  # (generation, tokens, pairs) of blocks in the file
        self._tokens = 0

    @property
    def uses_files(self):
        """Whether the text is too large for the memory, and the corpus consists of files."""
        return bool(self._spilled)

    def read(self, numbered_pairs, name):
        """Reads the text. Drops pairs with an empty or over-long side.

        # Arguments
            numbered_pairs: iterable of (line number, (source text, target text)).
            name: the name of the text in messages.

        # Raises
            UserError: no pair is left.
        """
        tokenize_source, tokenize_target = [tokenizer.tokenize for tokenizer in self._tokenizers]
        source_limit, target_limit = self._limits
        empty = over_long = long_sources = number = 0
        begun = told = time.time()
        ids, lengths, lines = array.array('i'), array.array('i'), array.array('q')
        number_of = self.table.numbers.__getitem__
        for number, (line, (source, target)) in enumerate(numbered_pairs, 1):
            if number % 4096 == 0 and time.time() - told > PROGRESS_SECONDS:
                told = time.time()
                tell('%s: %s pairs read, %.0f pairs/s' % (name, format(number, ','), number / (told - begun)))
            if not (source.strip() and target.strip()):
                empty += 1
                continue
            # A huge text is not divided into tokens only to be dropped.
            source_is_long, target_is_long = [len(text) > limit * CHARACTERS_PER_TOKEN for text, limit in zip(
                (source, target), self._limits)]
            if not source_is_long or self._truncate:
                source = tokenize_source(source[:source_limit * CHARACTERS_PER_TOKEN])
                source_is_long = source_is_long or len(source) > source_limit
            long_sources += source_is_long
            if source_is_long and not self._truncate or target_is_long:
                over_long += 1
                continue
            target = tokenize_target(target)
            if len(target) > target_limit:
                over_long += 1
                continue
            source = source[:source_limit]
            ids.extend(map(number_of, source))
            ids.extend(map(number_of, target))
            lengths.extend((len(source), len(target)))
            lines.append(line)
            if len(ids) >= BLOCK:
                self._end_block(ids, lengths, lines)
                ids, lengths, lines = array.array('i'), array.array('i'), array.array('q')
                number_of = self.table.numbers.__getitem__
        if lines:
            self._end_block(ids, lengths, lines)
        self.counts.update(read=number, empty=empty, over_long=over_long, kept=number - empty - over_long,
                           long_sources=long_sources)
        if not self.counts['kept']:
            raise UserError('%s: none of %d pairs can be used: %d have an empty side, %d are longer than '
                            '--max-source-length %d or --max-target-length %d%s'
                            % (name, number, empty, over_long, source_limit, target_limit,
                               ': --long-sources truncate keeps them' if long_sources and not self._truncate else ''))

    def _end_block(self, ids, lengths, lines):
        block = Block(self.table.generation, np.array(ids), np.array(lengths).reshape(-1, 2).T, np.array(lines))
        is_source = _sides(block.lengths) == 0
        self.table.count(block.ids[is_source], block.ids[~is_source])
        self._blocks.append(block)
        self._tokens += len(ids)
        if self._tokens > IN_MEMORY:
            with open(os.path.join(self._folder(), 'blocks'), 'ab') as stream:
                for block in self._blocks:
                    for values in block[1:]:
                        stream.write(np.ascontiguousarray(values).tobytes())
                    self._spilled.append((block.generation, len(block.ids), len(block.lines)))
            self._blocks = []
        self.table.end_generation_if_full()

    def _all_blocks(self):
        if self._spilled:
            with open(os.path.join(self._folder(), 'blocks'), 'rb') as stream:
                for generation, tokens, pairs in self._spilled:
                    yield Block(generation, np.fromfile(stream, 'i4', tokens),
                                np.fromfile(stream, 'i4', 2 * pairs).reshape(2, pairs),
                                np.fromfile(stream, 'i8', pairs))
        yield from self._blocks

    def finish(self, source_vocabulary, target_vocabulary, copy=False):
        """Makes the corpus.

        # Arguments
            source_vocabulary, target_vocabulary: `Vocabulary`.
            copy: see `EncodedCorpus`.

        # Returns
            An `EncodedCorpus`. That of a large text reads from the files of `FILES` in `folder()`; the other files
            there have been removed.
        """
        writer = open_files(self._folder()) if self._spilled else [[] for _ in FILES]
        types = record_types(self._limits, source_vocabulary, target_vocabulary, copy)
        generation = None
        for block in self._all_blocks():
            if block.generation != generation:
                generation = block.generation
                source_ids, target_ids = [self.table.final_ids(generation, vocabulary)
                                          for vocabulary in (source_vocabulary, target_vocabulary)]
            columns = (_records(block, source_ids, target_ids, len(target_vocabulary), copy), *block.lengths,
                       block.lines)
            for output, values, dtype in zip(writer, columns, types):
                if self._spilled:
                    output.write(values.astype(dtype).tobytes())
                else:
                    output.append(values.astype(dtype))
        if not self._spilled:
            records, *lengths, lines = map(np.concatenate, writer)
            return EncodedCorpus(records, np.array(lengths), lines, copy)
        for stream in writer:
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
        for name in os.listdir(self._folder()):
            if name not in FILES:
                os.unlink(os.path.join(self._folder(), name))
        return open_corpus(self._folder(), types, copy)


FILES = ('records', 'source.lengths', 'target.lengths', 'lines')


def open_files(folder):
    return [open(os.path.join(folder, name), 'wb') for name in FILES]


def record_types(limits, source_vocabulary, target_vocabulary, copy):
    """The types of integers of `FILES`: the smallest that hold every value."""
    largest = max(len(source_vocabulary), len(target_vocabulary) + (limits[0] if copy else 0))
    length = '<u2' if max(limits) < 2 ** 16 else '<i4'
    return '<u2' if largest <= 2 ** 16 else '<i4', length, length, '<u4'


def open_corpus(folder, types, copy):
    """An `EncodedCorpus` that reads from the files of a folder."""
    paths = [os.path.join(folder, name) for name in FILES]
    lengths = [np.fromfile(path, dtype) for path, dtype in zip(paths[1:3], types[1:3])]
    if len(lengths[0]) != len(lengths[1]):
        raise UserError('%s: has %d lengths of sources and %d of targets' % (folder, *map(len, lengths)))
    return EncodedCorpus(RecordFile(paths[0], types[0]), np.array(lengths), np.memmap(paths[3], types[3], 'r'), copy)


def _sides(lengths):
    """0 for each token of a source, 1 for each of a target, of pairs with lengths (2, n) one after another."""
    return np.repeat(np.tile([0, 1], lengths.shape[1]), lengths.T.ravel())


def _records(block, source_ids, target_ids, target_size, copy):
    """The records of a block; `source_ids` and `target_ids` are the final ids of its provisional ones."""
    sides = _sides(block.lengths)
    if not copy:
        return np.where(sides == 0, source_ids[block.ids], target_ids[block.ids])
    source, target = block.ids[sides == 0], block.ids[sides == 1]
    copied, written = target_ids[source], target_ids[target]
    starts = [np.cumsum(lengths) - lengths for lengths in block.lengths]
    for pair in np.unique(np.searchsorted(starts[0], np.flatnonzero(copied == UNK), 'right') - 1):
        parts = [slice(start[pair], start[pair] + length[pair]) for start, length in zip(starts, block.lengths)]
        # Tokens that the vocabulary lacks get ids from its size on, in the order of the source.
        extra = collections.OrderedDict()
        for token in source[parts[0]][copied[parts[0]] == UNK].tolist():
            extra.setdefault(token, target_size + len(extra))
        for ids, tokens, part in ((copied, source, parts[0]), (written, target, parts[1])):
            ids[part] = [extra.get(token, UNK) if known == UNK else known
                         for token, known in zip(tokens[part].tolist(), ids[part].tolist())]
    lengths = np.array([block.lengths[0], block.lengths[1], block.lengths[0]])
    places = np.repeat(np.tile([0, 1, 2], lengths.shape[1]), lengths.T.ravel())
    records = np.empty(len(places), 'i4')
    for place, values in enumerate((source_ids[source], written, copied)):
        records[places == place] = values
    return records


def encode_pairs(source, target, source_vocabulary, target_vocabulary, copy=False, lines=None):
    """An `EncodedCorpus` in memory, of token lists with known vocabularies.

    # Arguments
        source, target: lists of token lists.
        source_vocabulary, target_vocabulary: `Vocabulary`.
        copy: see `EncodedCorpus`.
        lines: the line of each pair; by default 1, 2, 3 and so on.
    """
    table = TokenTable(None)
    ids = [table.numbers[token] for pair in zip(source, target) for side in pair for token in side]
    lengths = np.array([list(map(len, side)) for side in (source, target)], 'i4')
    lines = np.arange(1, len(source) + 1) if lines is None else np.array(lines)
    block = Block(table.generation, np.array(ids, 'i4'), lengths, lines)
    records = _records(block, *(table.final_ids(table.generation, vocabulary)
                                for vocabulary in (source_vocabulary, target_vocabulary)),
                       len(target_vocabulary), copy)
    return EncodedCorpus(records, lengths, lines, copy)
