"""Text to tokens and back: spaces, words, characters, Chinese, subwords. No TensorFlow.

Each tokeniser has `name`, `tokenize(text) -> [str]` and `detokenize([str]) -> str`; no token is empty. For every text
x, tokenize(detokenize(tokenize(x))) == tokenize(x): a round trip changes white space only. `jieba` joins Chinese words
without spaces, and guarantees this only for texts without spaces between them.
"""
import collections
import functools
import itertools
from random import Random
import re
import unicodedata

from text import subwords
from text.spacing_marks import MarkingTokenizer
from text.vocabulary import SPECIALS, UNK
from command_line import UserError

# A text with more characters than this for each allowed token is over-long, and is not tokenised: a line of 10 MB costs
# no time, and is dropped even if it is a single "word".
CHARACTERS_PER_TOKEN = 100
SAMPLE = 200000  # pairs that a subword model learns from: sentencepiece keeps them in memory
MODEL_FILE = 'tokenizer.%s.model'  # of source or target, in a run directory


class SpaceTokenizer(object):
    """Splits at white space and joins with one space: for text that is tokenised already."""
    name = 'space'

    def tokenize(self, text):
        return text.split()

    def detokenize(self, tokens):
        return ' '.join(tokens)


class CharTokenizer(object):
    """Each character (code point) is a token; detokenize(tokenize(x)) == x for every text.
    A space is the token '▁'; a '▁' of the text itself becomes '▁▁'."""
    name = 'char'
    _escapes = {' ': '▁', '▁': '▁▁'}
    _characters = {token: character for character, token in _escapes.items()}

    def tokenize(self, text):
        return [self._escapes.get(character, character) for character in text]

    def detokenize(self, tokens):
        return ''.join(self._characters.get(token, token) for token in tokens)


def combining():
    """The content of a regular-expression set: combining marks, which \\w lacks, and the zero-width joiners.

    Without them, decomposed accents and the vowel signs of Hindi or Thai would divide words.
    """
    points = [point for point in range(0x300, 0x1F000) if unicodedata.category(chr(point))[0] == 'M']
    runs = [list(run) for _, run in itertools.groupby(enumerate(points), lambda item: item[1] - item[0])]
    return ''.join(chr(run[0][1]) + '-' + chr(run[-1][1]) for run in runs) + '\u200c\u200d\U000e0100-\U000e01ef'


# Content of a set: Han (radicals, unified with extension A, compatibility, planes 2 and 3 with extensions B to G),
# CJK punctuation, vertical and full-width forms. The ideographic space U+3000 is white space, hence not here.
WIDE = ('\u2e80-\u2fff\u3001-\u303f\u31c0-\u31ef\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff'
        '\ufe10-\ufe1f\ufe30-\ufe4f\uff01-\uff60\uffe0-\uffe6\U00020000-\U0003ffff')


def _token_pattern(not_in_words=''):
    """A word with its inner apostrophes, hyphens and (between digits) `.`, `,`, `:`; else one character. Combining
    marks stay with their character.

    A match does not depend on the text before it: a token alone is the same token again. No joiner attaches to both of
    its neighbours, so `detokenize` compares two tokens at a time. Each repeat of a pattern costs memory, so the number
    of repeats is limited.
    """
    letters, marks = '[^\\W%s]' % not_in_words, '[%s]' % combining()
    run = '%s+(?:%s%s*){0,999}' % (letters, marks, letters)
    joiner = "(?:['’‐‑-]|(?<=\\d)[.,:](?=\\d))"
    return re.compile('%s(?:%s%s){0,99}|\\S%s*' % (run, joiner, run, marks))


class WordTokenizer(object):
    """Words, and each punctuation mark or symbol as a token of its own; case is kept. Detokenising attaches punctuation
    to the word it belongs to, except where the joined text would be tokenised differently."""
    name = 'word'
    _not_in_words = ''
    _lean_left = frozenset('.,!?;:)]}%…”’/"\'')
    _lean_right = frozenset('([{“‘„‚¿¡$£#/')
    # A straight quote opens a quotation if another one follows. German closes „ with “ and ‚ with ‘.
    _closed_by = {'"': '"', "'": "'", '„': '“', '‚': '‘'}

    def __init__(self):
        self.tokenize = _token_pattern(self._not_in_words).findall
        self.can_join = functools.lru_cache(2 ** 15)(self._can_join)

    def detokenize(self, tokens):
        return ''.join(itertools.chain(tokens[:1], *(
            [token] if joined else [' ', token] for token, joined in zip(tokens[1:], self.joined(tokens)))))

    def joined(self, tokens):
        """For each token but the last, whether the next one follows without a space."""
        sides = self._sides(tokens)
        return [(left_sides[1] or right_sides[0] or self._attract(left, right)) and self.can_join(left, right)
                for left, right, left_sides, right_sides in zip(tokens, tokens[1:], sides, sides[1:])]

    def _can_join(self, left, right):
        """Whether two tokens without a space between them are the same two tokens; `<unk>` stands for a word."""
        left, right = ['x' if token == SPECIALS[UNK] else token for token in (left, right)]
        return self.tokenize(left + right) == [left, right]

    def _sides(self, tokens):
        """For each token: (attaches to the token before it, attaches to the token after it)."""
        sides, later = [], collections.Counter(tokens)
        awaited = set()  # marks that close an open quotation
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

    def _attract(self, left, right):
        return left == right and not left[:1].isalnum()  # such as --


class ChineseTokenizer(WordTokenizer):
    """Each Han character, CJK punctuation mark and full-width form is a token; everything else as in `word`.
    Detokenising joins them to all their neighbours without a space: 我爱Python。"""
    name = 'chinese'
    _not_in_words = WIDE
    _wide = re.compile('[%s]' % WIDE)
    _both_scripts = frozenset('“”‘’—…·')  # Chinese shares these marks with Latin text

    def _attract(self, left, right):
        return bool(self._wide.match(left) or self._wide.match(right) or {left, right} <= self._both_scripts
                    or super()._attract(left, right))


@functools.lru_cache(None)
def _jieba_words():
    """The function that divides a run of Han characters into words.

    It is shared, and made when the first text is divided: its dictionary takes seconds and 90 MB, and joining words
    does not need it.

    By default jieba marshals that dictionary into the shared temporary directory, and loads what anybody put there.
    Read like this, it writes no file, reads only its own, and prints nothing on stderr.
    """
    try:
        import jieba
    except ImportError:
        raise UserError('the tokenizer jieba needs the package jieba: python -m pip install jieba==0.42.1')
    cutter = jieba.Tokenizer()
    cutter.FREQ, cutter.total = cutter.gen_pfdict(cutter.get_dict_file())
    cutter.initialized = True
    # The dictionary only. The hidden Markov model (HMM) makes words that the dictionary lacks, often across a word
    # boundary (年用 of 2018年用) and mostly too rare for a vocabulary, in time quadratic in the length of a run. Without
    # it they are single characters, which a vocabulary has, and each word alone is the same word again.
    return functools.partial(cutter.lcut, HMM=False)


class JiebaTokenizer(object):
    """Chinese words of jieba's dictionary with the maximum product of frequencies; everything else as in `chinese`.
    Detokenising joins words without a space, also where jieba would divide the joined text elsewhere."""
    name = 'jieba'
    _han = re.compile('[\u4e00-\u9fd5]+')  # the characters of jieba's words

    def __init__(self):
        self._characters = ChineseTokenizer()

    def tokenize(self, text):
        words = []
        for part in text.split():
            for han, run in itertools.groupby(self._characters.tokenize(part), self._is_han):
                words += _jieba_words()(''.join(run)) if han else run
        return words

    def detokenize(self, tokens):
        return self._characters.detokenize([piece for token in tokens for piece in self._pieces(token)])

    def joined(self, tokens):
        """As in `WordTokenizer`; between two Chinese words, as between two Chinese characters."""
        pieces = list(map(self._pieces, tokens))
        joined = self._characters.joined(list(itertools.chain(*pieces)))
        ends = itertools.accumulate(map(len, pieces))
        return [joined[end - 1] for end in ends if end <= len(joined)]

    def can_join(self, left, right):
        """Whether two tokens without a space between them are the same tokens, or other Chinese words."""
        return self._characters.can_join(self._pieces(left)[-1], self._pieces(right)[0])

    def _pieces(self, token):
        return token if self._is_han(token) else [token]

    def _is_han(self, token):
        return self._han.fullmatch(token) is not None


_TOKENIZERS = {kind.name: kind for kind in (SpaceTokenizer, WordTokenizer, CharTokenizer, ChineseTokenizer,
                                            JiebaTokenizer)}


MARKED = ('word', 'chinese', 'jieba')  # tokenisers that join punctuation to words by rules


def make_tokenizer(name):
    """Makes a tokeniser that needs no model; for subwords see `build_tokenizers` and `read_tokenizers`.

    # Arguments
        name: 'space', 'word', 'char', 'chinese' or 'jieba'.

    # Raises
        UserError: another name.
    """
    if name not in _TOKENIZERS:
        raise UserError('unknown tokenizer %r: known are %s' % (name, ', '.join(_TOKENIZERS)))
    return _TOKENIZERS[name]()


def _make_side(settings, side):
    """The tokeniser of a side that needs no model. Source text is never detokenised: its tokens need no marks."""
    tokenizer = make_tokenizer(getattr(settings, side + '_tokenizer'))
    if side == 'target' and settings.spacing_marks and tokenizer.name in MARKED:
        return MarkingTokenizer(tokenizer)
    return tokenizer


def _sample(pairs, limits):
    """Source texts and target texts of at most `SAMPLE` pairs, drawn evenly, in order; over-long texts are left out."""
    random, sample = Random(0).random, []
    for number, pair in enumerate(pairs):
        place = number if number < SAMPLE else int(random() * (number + 1))
        if place < SAMPLE:
            texts = [text if len(text) <= limit * CHARACTERS_PER_TOKEN else None for text, limit in zip(pair, limits)]
            sample[place:place + 1] = [(number, texts)]
    sample = [texts for _, texts in sorted(sample)]
    return [[texts[side] for texts in sample if texts[side] is not None] for side in (0, 1)]


def build_tokenizers(settings, read_pairs):
    """Makes the tokenisers of a new run.

    # Arguments
        settings: a run's settings.
        read_pairs: function without arguments that returns an iterable of the training text's pairs. Subword models
            learn from at most `SAMPLE` of them; without such models it is not called.

    # Returns
        [source tokeniser, target tokeniser], and {file name: bytes} of their subword models.
    """
    names = [settings.source_tokenizer, settings.target_tokenizer]
    tokenizers, models = [], collections.OrderedDict()
    texts = [(), ()]
    if set(names) & set(subwords.KINDS):
        texts = _sample(read_pairs(), (settings.max_source_length, settings.max_target_length))
    if settings.share_vocabulary:
        texts = [texts[0] + texts[1]] * 2
    for side, name, lines in zip(('source', 'target'), names, texts):
        if name in subwords.KINDS:
            size = settings.source_vocabulary if settings.share_vocabulary else getattr(settings, side + '_vocabulary')
            model = models[MODEL_FILE % side] = subwords.train(lines, name, size)
            tokenizers.append(subwords.SubwordTokenizer.from_bytes(model, MODEL_FILE % side))
        else:
            tokenizers.append(_make_side(settings, side))
    return tokenizers, models


def read_tokenizers(run, settings):
    """Reads the tokenisers of a run.

    # Arguments
        run: `RunDirectory`.
        settings: its settings.

    # Returns
        [source tokeniser, target tokeniser].

    # Raises
        UserError: a subword model is missing, damaged or of another kind.
    """
    tokenizers = []
    for side in ('source', 'target'):
        name, file = getattr(settings, side + '_tokenizer'), MODEL_FILE % side
        if name in subwords.KINDS:
            tokenizers.append(subwords.SubwordTokenizer.from_bytes(run.read_file(file), run.file(file)))
            if tokenizers[-1].name != name:
                raise UserError('%s: is a model of kind %s, not %s' % (run.file(file), tokenizers[-1].name, name))
        else:
            tokenizers.append(_make_side(settings, side))
    return tokenizers
