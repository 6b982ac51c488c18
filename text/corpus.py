"""Parallel text on its way to the model: files, vocabularies, batches. No TensorFlow.

From the outside in: `load_pairs` reads text, `prepare` makes a `Corpus` of tokens, a `Vocabulary` turns
tokens into ids, `plan_batches` says which pairs go together and `make_batch` pads them.
"""
import codecs
import collections
import gzip
import hashlib
import itertools
import os
import zlib

from settings import UserError, system_path  # first: sets what NumPy reads when it is imported

import numpy as np

from text.tokenizers import CHARACTERS_PER_TOKEN

SPECIALS = ('<pad>', '<unk>', '<s>', '</s>')
PAD, UNK, START, END = range(4)
# plan_batches sorts by length within pools of so many batches: little padding, and new neighbours each epoch.
POOL = 100


# ---- Vocabulary -----------------------------------------------------------------------------------------------
class Vocabulary:
    """`tokens` in the order of their ids, the four special ones first; `index` gives the id of each.
    ValueError for tokens that cannot make a vocabulary."""

    def __init__(self, tokens):
        self.tokens = list(tokens)
        self.index = {}
        if tuple(self.tokens[:len(SPECIALS)]) != SPECIALS:
            raise ValueError('the first four tokens must be {}'.format(' '.join(SPECIALS)))
        for i, token in enumerate(self.tokens):
            if not token or '\n' in token:
                raise ValueError('line {}: a token is empty or holds a line feed'.format(i + 1))
            if self.index.setdefault(token, i) != i:
                raise ValueError('line {}: {!r} stands on line {} already'.format(i + 1, token, self.index[token] + 1))

    def __len__(self):
        return len(self.tokens)

    @classmethod
    def build(cls, sequences, size, min_count=1):
        """The `size` most frequent tokens of the token lists, if seen `min_count` times, after the special ones. Ties
        are broken by code points, so that the order of the text does not matter. UserError if no token is left."""
        counts = collections.Counter(itertools.chain.from_iterable(sequences))
        for special in SPECIALS:
            counts.pop(special, None)
        ranked = sorted((-count, token) for token, count in counts.items() if count >= min_count)
        if not ranked:
            raise UserError('no token of the text is in its vocabulary: lower --min-count ({})'.format(min_count))
        return cls(list(SPECIALS) + [token for _, token in ranked[:size]])

    def encode(self, tokens, names=()):
        """Ids of the tokens, those of `names` counted from len(self) on; UNK for unknown ones and for a '<s>' or the
        like of the text: it never becomes special."""
        extra = dict(zip(names, itertools.count(len(self))))
        ids = (self.index.get(token, UNK) for token in tokens)
        return [i if i > END else extra.get(token, UNK) for i, token in zip(ids, tokens)]

    def names(self, tokens):
        """The different ones of a source's tokens that have no id here, and that an output may copy."""
        return [token for token in collections.OrderedDict.fromkeys(tokens) if self.index.get(token, UNK) <= END]

    def decode(self, ids, names=()):
        """Tokens of the ids, special ones included; ids from len(self) on are `names`."""
        return [self.tokens[i] if i < len(self) else names[i - len(self)] for i in ids]

    def to_bytes(self):
        """One token a line, UTF-8, each line ended by a line feed alone (a token may hold a carriage return)."""
        return ''.join(token + '\n' for token in self.tokens).encode('utf-8')

    @classmethod
    def from_bytes(cls, data, name):
        """The inverse of `to_bytes`; `name` is the file named in the UserError for anything that is no vocabulary."""
        if not data.endswith(b'\n'):
            raise UserError('{}: not a whole vocabulary, the last line does not end'.format(name))
        try:
            return cls(data[:-1].decode('utf-8').split('\n'))
        except ValueError as error:  # UnicodeDecodeError too
            raise UserError('{}: not a vocabulary: {}'.format(name, error)) from None


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
    order = _random(seed, 1).permutation(n)
    size = min(1000, max(1, n // 20))
    return np.sort(order[size:]).tolist(), np.sort(order[:size]).tolist()


# ---- Batches --------------------------------------------------------------------------------------------------
def _random(seed, *purpose):
    # The numbers seed the generator as they are: a hash could differ between processes.
    return np.random.RandomState([seed % 2 ** 32, seed // 2 ** 32 % 2 ** 32] + list(purpose))


def plan_batches(source_lengths, target_lengths, batch_size, seed, epoch, shuffle=True):
    """Lists of pair indices, each a batch of similar lengths; together every pair exactly once.

    A pure function of its arguments. Always ceil(n / batch_size) batches, of which one at most is not full.
    `shuffle=False`: sorted from short to long, for evaluation (`seed` and `epoch` do not matter).
    """
    source_lengths, target_lengths = np.asarray(source_lengths), np.asarray(target_lengths)
    n = len(source_lengths)
    if len(target_lengths) != n or batch_size < 1:
        raise ValueError('{} sources, {} targets, batch size {}'.format(n, len(target_lengths), batch_size))
    random = _random(seed, 0, epoch)
    order = random.permutation(n) if shuffle else np.arange(n)
    pool = POOL * batch_size if shuffle else max(n, 1)
    batches = []
    for start in range(0, n, pool):
        chosen = order[start:start + pool]
        # lexsort is stable, its last key weighs most; pairs of equal lengths stay in random order.
        chosen = chosen[np.lexsort((target_lengths[chosen], source_lengths[chosen]))].tolist()
        batches += [chosen[i:i + batch_size] for i in range(0, len(chosen), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))] if shuffle else batches


def pad(sequences):
    """Sequences of ids -> int32 (B, S), each row filled up with PAD at its end."""
    batch = np.full((len(sequences), max(map(len, sequences), default=0)), PAD, dtype='int32')
    for row, sequence in zip(batch, sequences):
        row[:len(sequence)] = sequence
    return batch


def make_batch(source_ids, target_ids, indices):
    """Pairs `indices` -> source (B, S), decoder input (B, T) after START, decoder output (B, T) before END; int32.

    The ids come from `Vocabulary.encode`, without START and END; T is the longest target plus one.
    """
    targets = [target_ids[i] for i in indices]
    return (pad([source_ids[i] for i in indices]),
            pad([[START] + target for target in targets]),
            pad([target + [END] for target in targets]))
