"""Parallel text on its way to the model: files, tokenisers, vocabularies, batches. No TensorFlow.

From the outside in: `load_pairs` reads text, `prepare` makes a `Corpus` of tokens, a `Vocabulary` turns
tokens into ids, `plan_batches` says which pairs go together and `make_batch` pads them.
"""
import codecs
import collections
import functools
import gzip
import hashlib
import itertools
import os
import re
import unicodedata
import zlib

from settings import UserError, system_path  # first: sets what NumPy reads when it is imported

import numpy as np

import subwords

SPECIALS = ('<pad>', '<unk>', '<s>', '</s>')
PAD, UNK, START, END = range(4)
# A text of more characters than this for each token allowed is over-long without being tokenised: a line of 10 MB
# costs nothing, and is dropped even if it is a single "word".
CHARACTERS_PER_TOKEN = 100
# plan_batches sorts by length within pools of so many batches: little padding, and new neighbours each epoch.
POOL = 100
MODEL_FILE = 'tokenizer.%s.model'  # of source or target, in a run directory


# ---- Tokenisers -----------------------------------------------------------------------------------------------
# All have `name`, `tokenize(text) -> [str]` and `detokenize([str]) -> str`, and none makes an empty token. For
# every text x, tokenize(detokenize(tokenize(x))) == tokenize(x): nothing but blanks is ever changed. `jieba` writes
# Chinese words without the blanks that may have parted them, and so promises it where there were none.
class SpaceTokenizer:
    """Splits on white space and joins with one blank: for text that is tokenised already."""
    name = 'space'

    def tokenize(self, text):
        return text.split()

    def detokenize(self, tokens):
        return ' '.join(tokens)


class CharTokenizer:
    """Each character (code point) a token, a blank '▁'; detokenize(tokenize(x)) == x for every text.
    A '▁' of the text itself is doubled, to tell it from a blank."""
    name = 'char'
    _escapes = {' ': '▁', '▁': '▁▁'}
    _characters = {token: character for character, token in _escapes.items()}

    def tokenize(self, text):
        return [self._escapes.get(character, character) for character in text]

    def detokenize(self, tokens):
        return ''.join(self._characters.get(token, token) for token in tokens)


def _marks():
    # Inside of a regular-expression set: combining marks, which \w lacks, and the zero-width joiners. Without them,
    # decomposed accents and the vowel signs of Hindi or Thai would break words into pieces.
    points = [point for point in range(0x300, 0x1F000) if unicodedata.category(chr(point))[0] == 'M']
    runs = [list(run) for _, run in itertools.groupby(enumerate(points), lambda item: item[1] - item[0])]
    return ''.join(chr(run[0][1]) + '-' + chr(run[-1][1]) for run in runs) + '\u200c\u200d\U000e0100-\U000e01ef'


# Inside of a set: Han (radicals, unified with extension A, compatibility, planes 2 and 3 with extensions B to G),
# CJK punctuation, vertical and full-width forms. The ideographic space U+3000 is white space, hence not here.
_WIDE = ('\u2e80-\u2fff\u3001-\u303f\u31c0-\u31ef\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff'
         '\ufe10-\ufe1f\ufe30-\ufe4f\uff01-\uff60\uffe0-\uffe6\U00020000-\U0003ffff')


def _token_pattern(not_in_words=''):
    """A word, with inner apostrophes and hyphens and inner . , : between digits; else one character. Marks stay on.

    A match never looks before its start, so that a token alone is the same token again. No joiner leans on both of its
    neighbours, on which `detokenize` counts: looking at two tokens at a time is enough. Each repeat costs memory, so
    their number is limited.
    """
    letters, marks = '[^\\W{}]'.format(not_in_words), '[{}]'.format(_marks())
    run = '{0}+(?:{1}{0}*){{0,999}}'.format(letters, marks)
    joiner = "(?:['’‐‑-]|(?<=\\d)[.,:](?=\\d))"
    return re.compile('{run}(?:{joiner}{run}){{0,99}}|\\S{marks}*'.format(run=run, joiner=joiner, marks=marks))


class WordTokenizer:
    """Words, and each punctuation mark or symbol by itself; the case is kept. Detokenising glues punctuation to the
    word it belongs to; where the glued text would be tokenised differently, the blank stays."""
    name = 'word'
    _not_in_words = ''
    _lean_left = frozenset('.,!?;:)]}%…”’/"\'')
    _lean_right = frozenset('([{“‘„‚¿¡$£#/')
    # A straight quote opens if it is closed later. German closes „ with “ and ‚ with ‘.
    _closed_by = {'"': '"', "'": "'", '„': '“', '‚': '‘'}

    def __init__(self):
        self.tokenize = _token_pattern(self._not_in_words).findall

    def detokenize(self, tokens):
        if not tokens:
            return ''
        sides, parts = self._sides(tokens), [tokens[0]]
        for left, right, left_sides, right_sides in zip(tokens, tokens[1:], sides, sides[1:]):
            glue = left_sides[1] or right_sides[0] or self._joined(left, right)
            parts.append(right if glue and self.tokenize(left + right) == [left, right] else ' ' + right)
        return ''.join(parts)

    def _sides(self, tokens):
        """For each token: (leans on its left neighbour, leans on its right neighbour)."""
        sides, later = [], collections.Counter(tokens)
        awaited = set()  # the marks that close the quotes now open
        for token in tokens:
            later[token] -= 1
            if token in awaited:
                awaited.remove(token)
                sides.append((True, False))
            elif later[self._closed_by.get(token)]:
                awaited.add(self._closed_by[token])
                sides.append((False, True))
            else:
                sides.append((token in self._lean_left, token in self._lean_right))
        return sides

    def _joined(self, left, right):
        return left == right and not left[:1].isalnum()  # -- and the like


class ChineseTokenizer(WordTokenizer):
    """Each Han character, CJK punctuation mark and full-width form by itself; everything else as in `word`.
    Detokenising joins these to all their neighbours without a blank: 我爱Python。"""
    name = 'chinese'
    _not_in_words = _WIDE
    _wide = re.compile('[{}]'.format(_WIDE))
    _both_scripts = frozenset('“”‘’—…·')  # Chinese shares these marks with Latin text

    def _joined(self, left, right):
        return bool(self._wide.match(left) or self._wide.match(right) or {left, right} <= self._both_scripts
                    or super()._joined(left, right))


@functools.lru_cache(None)
def _jieba_words():
    """The function that cuts a run of Han characters into words: one for all, its dictionary takes seconds and 90 MB.

    jieba would keep that dictionary marshalled in the shared temporary directory, and load what anybody put there; read
    like this it writes no file, reads none but its own, and tells nothing on stderr.
    """
    import jieba
    cutter = jieba.Tokenizer()
    cutter.FREQ, cutter.total = cutter.gen_pfdict(cutter.get_dict_file())
    cutter.initialized = True
    # By the dictionary alone. The hidden Markov model (HMM) makes words of what the dictionary lacks, often across a
    # word's border (年用 of 2018年用) and mostly too rare for a vocabulary, in the square of a run's length. Without it
    # these are single characters, which a vocabulary has, and every word by itself is that word again.
    return functools.partial(cutter.lcut, HMM=False)


class JiebaTokenizer:
    """Chinese words, those of jieba's dictionary with the greatest product of frequencies; everything else as in
    `chinese`. Detokenising joins words without a blank, also where jieba would cut the joined text elsewhere."""
    name = 'jieba'
    _han = re.compile('[\u4e00-\u9fd5]+')  # what jieba has words of

    def __init__(self):
        self._characters, self._words = ChineseTokenizer(), _jieba_words()

    def tokenize(self, text):
        words = []
        for part in text.split():
            for han, run in itertools.groupby(self._characters.tokenize(part), self._is_han):
                words += self._words(''.join(run)) if han else run
        return words

    def detokenize(self, tokens):
        return self._characters.detokenize(
            [piece for token in tokens for piece in (token if self._is_han(token) else [token])])

    def _is_han(self, token):
        return self._han.fullmatch(token) is not None


_TOKENIZERS = {kind.name: kind for kind in (SpaceTokenizer, WordTokenizer, CharTokenizer, ChineseTokenizer,
                                            JiebaTokenizer)}


def make_tokenizer(name):
    """The tokeniser called `name`: 'space', 'word', 'char', 'chinese' or 'jieba'. UserError if there is none.

    A subword tokeniser is made of a model: see `build_tokenizers` and `read_tokenizers`.
    """
    if name not in _TOKENIZERS:
        raise UserError('unknown tokenizer {!r}: known are {}'.format(name, ', '.join(_TOKENIZERS)))
    return _TOKENIZERS[name]()


def build_tokenizers(settings, pairs):
    """The tokenisers of source and target by a run's settings, and {file name: bytes} of the models that those for
    subwords learn from the pairs of text."""
    texts = [[text for text in side if len(text) <= limit * CHARACTERS_PER_TOKEN] for side, limit in zip(
        zip(*pairs), (settings.max_source_length, settings.max_target_length))]
    if settings.share_vocabulary:
        texts = [texts[0] + texts[1]] * 2
    made, models = [], collections.OrderedDict()
    for side, lines in zip(('source', 'target'), texts):
        name = getattr(settings, side + '_tokenizer')
        if name in subwords.KINDS:
            size = settings.source_vocabulary if settings.share_vocabulary else getattr(settings, side + '_vocabulary')
            model = models[MODEL_FILE % side] = subwords.train(lines, name, size)
            made.append(subwords.SubwordTokenizer.from_bytes(model, MODEL_FILE % side))
        else:
            made.append(make_tokenizer(name))
    return made, models


def read_tokenizers(run, settings):
    """The tokenisers of source and target of a run directory."""
    made = []
    for side in ('source', 'target'):
        name, file = getattr(settings, side + '_tokenizer'), MODEL_FILE % side
        if name in subwords.KINDS:
            made.append(subwords.SubwordTokenizer.from_bytes(run.read_file(file), run.file(file)))
            if made[-1].name != name:
                raise UserError('%s: is a model of kind %s, not %s' % (run.file(file), made[-1].name, name))
        else:
            made.append(make_tokenizer(name))
    return made


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
