"""Parallel text: files of pairs, and a `Corpus` of their tokens."""
import codecs
import gzip
import hashlib
import itertools
import os
import zlib

from command_line import UserError, system_path  # first: sets what NumPy reads when it is imported

import numpy as np

from text.batches import seeded_random
from text.tokenizers import CHARACTERS_PER_TOKEN
from text.vocabulary import END


# ---- Files ----------------------------------------------------------------------------------------------------
def decode_lines(stream, name, on_bad_utf8='error'):
    """Lines of a binary stream as str, split on line feeds alone, without a trailing '\\r' or a leading BOM. On bad
    UTF-8, 'error' raises a UserError that tells `name`, line and byte; 'replace' puts U+FFFD in place."""
    errors = {'error': 'strict', 'replace': 'replace'}[on_bad_utf8]
    for number, raw in enumerate(stream, 1):
        if number == 1 and raw.startswith(codecs.BOM_UTF8):
            raw = raw[len(codecs.BOM_UTF8):]
            if not raw:  # nothing but a BOM is an empty file
                return
        for ending in (b'\n', b'\r'):
            raw = raw[:-1] if raw.endswith(ending) else raw
        try:
            yield raw.decode('utf-8', errors)
        except UnicodeDecodeError as error:
            raise UserError('{}: line {}, byte {}: 0x{:02X} is not valid UTF-8 here; convert the file to UTF-8 or use '
                            '--on-bad-utf8 replace'.format(name, number, error.start + 1, raw[error.start])) from None


def read_lines(path, on_bad_utf8='error'):
    """Lines of the text file `path`, as `decode_lines` gives them; unpacked if the name ends in '.gz'. UserError, at
    the line where it is met, for a file that cannot be read, damaged gzip data and a bad byte."""
    number = 0
    try:
        with (gzip.open if path.endswith('.gz') else open)(path, 'rb') as stream:
            for number, line in enumerate(decode_lines(stream, path, on_bad_utf8), 1):
                yield line
    except EOFError:
        raise UserError('{}: gzip data cut short after line {}; fetch the file again'.format(path, number)) from None
    except (OSError, zlib.error) as error:
        raise _cannot_read(path, error) from None


def _cannot_read(path, error):
    system = getattr(error, 'strerror', None)  # 'Is a directory' and so on; None if gzip or zlib complains
    return UserError('{}: {}'.format(path, system or 'damaged gzip data, or none at all: {}'.format(error)))


def file_sha256(path):
    """sha256 of the bytes of a file, in hexadecimal. UserError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, 'rb') as stream:
            for block in iter(lambda: stream.read(1 << 20), b''):
                digest.update(block)
    except OSError as error:
        raise _cannot_read(path, error) from None
    return digest.hexdigest()


def load_pairs(paths, on_bad_utf8='error'):
    """[(source text, target text)], one for each line, from one tab-separated file (columns after the second are
    ignored) or two files. UserError for unequal line counts, a missing column, an empty file, and as `read_lines`."""
    if len(paths) == 1:
        pairs = [tuple(line.split('\t', 2)[:2]) for line in read_lines(paths[0], on_bad_utf8)]
        for number, pair in enumerate(pairs, 1):
            if len(pair) < 2:
                raise UserError('{}: line {}: no tab between source and target'.format(paths[0], number))
        counts = [len(pairs)]
    elif len(paths) == 2:
        pairs = list(itertools.zip_longest(*(read_lines(path, on_bad_utf8) for path in paths)))
        counts = [sum(pair[side] is not None for pair in pairs) for side in (0, 1)]
    else:
        raise UserError('give one tab-separated file or two files of equal length, not {} files'.format(len(paths)))
    for path, count in zip(paths, counts):
        if not count:
            raise UserError('{}: the file is empty'.format(path))
    if counts[0] != counts[-1]:
        raise UserError('{} has {} lines but {} has {}: line n of one must belong to line n of the other'
                        .format(paths[0], counts[0], paths[1], counts[1]))
    return pairs


def find_corpus(folder):
    """{'train': [path], 'val': [path], 'test': [path]} of folder/train.tsv or .tsv.gz and so on; test may be absent."""
    found = {}
    for part in ('train', 'val', 'test'):
        plain = os.path.join(folder, part + '.tsv')
        found[part] = [path for path in (plain, plain + '.gz') if os.path.exists(path)]
        if len(found[part]) == 2:
            raise UserError('{0}: there is {0}.gz too; remove one of them'.format(plain))
        if not found[part] and part != 'test':
            raise UserError('{}: no such file, nor .gz; for files of other names use --train'.format(plain))
    return {part: paths for part, paths in found.items() if paths}


def corpus_paths(settings):
    """{'train': [paths], 'val': ..., 'test': ...} by a run's settings: the files they name, or those of the folder."""
    if settings.train is None:
        return find_corpus(system_path(settings.data))
    files = (('train', settings.train), ('val', settings.val), ('test', settings.test))
    return {part: [system_path(path) for path in paths] for part, paths in files if paths}


def read_vectors(path, vocabulary, size):
    """Pretrained vectors in the text format of word2vec (first a line of their count and size) or GloVe (without), each
    a token and its numbers. Returns ([ids], float32 (n, size)) of tokens in `vocabulary`, its specials apart."""
    ids, rows = [], []
    for number, line in enumerate(read_lines(path), 1):
        token, *numbers = line.rstrip(' ').rsplit(' ', size)  # from the right: tokens may have blanks inside
        if number == 1 and line.split()[1:] == numbers[-1:] and line.replace(' ', '').isdigit():
            if int(numbers[0]) != size:
                raise UserError('{}: has vectors of {} numbers, not {}; give --embedding {}'
                                .format(path, numbers[0], size, numbers[0]))
            continue
        try:
            row = np.array(numbers, dtype='f')
        except ValueError:
            row = ()
        if len(row) != size or not np.isfinite(row).all():
            raise UserError('{}: line {}: not a token and {} numbers; see --embedding for their count'
                            .format(path, number, size))
        if vocabulary.index.get(token, 0) > END:
            ids.append(vocabulary.index[token])
            rows.append(row)
    return ids, np.array(rows, dtype='f').reshape(-1, size)


# ---- Corpus ---------------------------------------------------------------------------------------------------
class Corpus:
    """Tokenised pairs: `source` and `target` are lists of token lists, `lines` the line of each in its file, from 1;
    `counts` says how many pairs were read, kept, and dropped as empty or over_long."""

    def __init__(self, source, target, lines, counts):
        self.source, self.target, self.lines, self.counts = source, target, lines, counts

    def __len__(self):
        return len(self.lines)

    def take(self, indices):
        """The corpus of these pairs alone; `counts['kept']` is their number, the other counts stay."""
        return Corpus([self.source[i] for i in indices], [self.target[i] for i in indices],
                      [self.lines[i] for i in indices], dict(self.counts, kept=len(indices)))


def prepare(pairs, source_tokenizer, target_tokenizer, max_source_length, max_target_length, name):
    """Tokenise `pairs` into a Corpus, without those that have an empty (or blank) or an over-long side.

    Lengths are in tokens, START and END not counted. UserError, naming `name`, if no pair is left.
    """
    sides = ((source_tokenizer, max_source_length), (target_tokenizer, max_target_length))
    corpus = Corpus([], [], [], dict(read=len(pairs), kept=0, empty=0, over_long=0))
    known = {}  # one str object for each different token: a million pairs would not fit otherwise
    for line, pair in enumerate(pairs, 1):
        if not all(text.strip() for text in pair):
            corpus.counts['empty'] += 1
            continue
        kept = []
        for text, (tokenizer, limit) in zip(pair, sides):
            if len(text) <= limit * CHARACTERS_PER_TOKEN:
                tokens = tokenizer.tokenize(text)
                if len(tokens) <= limit:
                    kept.append([known.setdefault(token, token) for token in tokens])
        if len(kept) < 2:
            corpus.counts['over_long'] += 1
            continue
        corpus.source.append(kept[0])
        corpus.target.append(kept[1])
        corpus.lines.append(line)
    corpus.counts['kept'] = len(corpus)
    if not len(corpus):
        raise UserError('{}: none of {read} pairs can be used: {empty} have an empty side, {over_long} are longer than '
                        '--max-source-length {} or --max-target-length {}'
                        .format(name, max_source_length, max_target_length, **corpus.counts))
    return corpus


def hold_out(n, seed):
    """([training indices], [validation indices]) of n pairs, both ascending, the same for equal arguments: 5 % for
    validation, at least 1 and at most 1,000. UserError if n < 2."""
    if n < 2:
        raise UserError('too little text to hold out a validation part: give more, or --val')
    order = seeded_random(seed, 1).permutation(n)
    size = min(1000, max(1, n // 20))
    return np.sort(order[size:]).tolist(), np.sort(order[:size]).tolist()
