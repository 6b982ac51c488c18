"""Subword tokenisers: pieces that sentencepiece finds in the training text, applied by the same rules in plain Python.

A model is a text file: the first line is the kind, then comes a line "piece<TAB>score" for each piece. No native code
reads it, so a damaged file is refused and does no other harm. A character without a piece is spelt as its UTF-8 bytes,
pieces such as <0xE4>: nothing is unknown. A '▁' at the beginning of a word's first piece marks the space before it.
"""
import functools
import io
import math
import re

from command_line import UserError

KINDS = ('bpe', 'unigram')
SPACE = '▁'
BYTES = tuple('<0x%02X>' % value for value in range(256))
_VALUE = {piece: value for value, piece in enumerate(BYTES)}
# Subtracted from the lowest score, as in sentencepiece: bytes are used only where no piece fits.
_UNKNOWN_PENALTY = 10.


def train(texts, kind, size):
    """Trains a model.

    # Arguments
        texts: list of str; equal texts give an equal model.
        kind: 'bpe' (Sennrich et al. 2016) or 'unigram' (Kudo 2018).
        size: maximum number of pieces, the 256 bytes included; a small text may have fewer.

    # Returns
        The bytes of the model.

    # Raises
        UserError: `size` is less than the number of the text's characters and bytes.
    """
    import sentencepiece
    lines = [' '.join(text.replace(SPACE, ' ').split()) for text in texts]
    characters = len(set(''.join(lines))) + 1 + len(BYTES)
    if size < characters:
        raise UserError('a %s vocabulary of %d pieces is too small for the %d characters and bytes of the text: raise '
                        '--source-vocabulary or --target-vocabulary' % (kind, size, characters))
    while True:
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_writer=model, model_type=kind, vocab_size=size + 1,
                character_coverage=1., byte_fallback=True, normalization_rule_name='identity', num_threads=1,
                hard_vocab_limit=False, unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, max_sentence_length=2 ** 20,
                minloglevel=2)
            break
        except RuntimeError as error:
            maximum = re.search('value <= ([0-9]+)', str(error))
            if not maximum or int(maximum.group(1)) > size:
                raise UserError('sentencepiece finds no %s pieces in the text: %s'
                                % (kind, ' '.join(str(error).split())))
            size = int(maximum.group(1)) - 1
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    rows = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(len(trained))
            if not (trained.is_unknown(i) or trained.is_byte(i) or trained.is_unused(i))]
    return ''.join([kind + '\n'] + ['%s\t%r\n' % row for row in rows if not _special(row[0])]).encode('utf-8')


def _special(piece):
    """Whether a piece of the text has another meaning in a vocabulary."""
    return piece in _VALUE or piece in ('<pad>', '<unk>', '<s>', '</s>')


class SubwordTokenizer(object):
    """Applies a subword model.

    # Arguments
        kind: 'bpe' or 'unigram'.
        scores: ordered dict from pieces to their scores.
    """

    def __init__(self, kind, scores):
        self.name, self.scores = kind, scores
        self._longest = max(map(len, scores))
        self._unknown = min(scores.values()) - _UNKNOWN_PENALTY
        self._word = functools.lru_cache(2 ** 16)(self._merged if kind == 'bpe' else self._most_probable)

    @classmethod
    def from_bytes(cls, data, name):
        """Reads the bytes that `train` returns.

        # Arguments
            data: bytes.
            name: the file's name in messages.

        # Raises
            UserError: the bytes are not a model.
        """
        try:
            kind, *lines, end = data.decode('utf-8').split('\n')
        except ValueError:
            raise UserError('%s: not a subword model: not UTF-8 text of whole lines' % name) from None
        if kind not in KINDS or end or not lines:
            raise UserError('%s: not a whole subword model of kind %s' % (name, ' or '.join(KINDS)))
        scores = {}
        for number, line in enumerate(lines, 2):
            piece, _, score = line.partition('\t')
            try:
                value = float(score)
            except ValueError:
                value = math.nan
            if piece.split() != [piece] or piece in scores or _special(piece) or not math.isfinite(value):
                raise UserError('%s: line %d: not a new piece, a tab and its score' % (name, number))
            scores[piece] = value
        return cls(kind, scores)

    @property
    def pieces(self):
        """All tokens that `tokenize` can return, in the order of the vocabulary."""
        return BYTES + tuple(self.scores)

    def tokenize(self, text):
        return [piece for word in text.split() for piece in self._word(word)]

    def detokenize(self, tokens):
        parts, pending = [], []
        for token in list(tokens) + ['']:
            if token in _VALUE:
                pending.append(_VALUE[token])
                continue
            parts += [bytes(pending).decode('utf-8', 'replace'), token.replace(SPACE, ' ')]
            pending = []
        return ' '.join(''.join(parts).split())  # bytes may spell a line feed: an output is one line

    def _symbols(self, word):
        """The space mark and the characters of a word; a character without a piece is a tuple of byte pieces."""
        def spelt(character):
            return tuple(BYTES[value] for value in character.encode('utf-8', 'replace'))
        # A '▁' of the text itself is not a space.
        return [SPACE if SPACE in self.scores else spelt(SPACE)] + [
            character if character in self.scores and character != SPACE else spelt(character) for character in word]

    def _merged(self, word):
        """Joins the neighbours whose piece has the maximum score, the first of equals, until no two have a piece."""
        symbols = self._symbols(word)
        while True:
            pairs = [(-self.scores[left + right], i) for i, (left, right) in enumerate(zip(symbols, symbols[1:]))
                     if isinstance(left, str) and isinstance(right, str) and left + right in self.scores]
            if not pairs:
                return _flat(symbols)
            i = min(pairs)[1]
            symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]

    def _most_probable(self, word):
        """The pieces with the maximum sum of scores."""
        symbols = self._symbols(word)
        best = [(0., 0)] + [None] * len(symbols)  # of each prefix: the score, and where its last piece begins
        for end in range(1, len(symbols) + 1):
            symbol = symbols[end - 1]
            own = self._unknown if isinstance(symbol, tuple) else self.scores[symbol]
            best[end] = best[end - 1][0] + own, end - 1
            for begin in range(end - 2, max(0, end - self._longest) - 1, -1):
                if isinstance(symbols[begin], tuple) or isinstance(symbol, tuple):
                    break
                score = self.scores.get(''.join(symbols[begin:end]))
                if score is not None and best[begin][0] + score > best[end][0]:
                    best[end] = best[begin][0] + score, begin
        pieces, end = [], len(symbols)
        while end:
            begin = best[end][1]
            pieces.append(symbols[begin] if end - begin == 1 else ''.join(symbols[begin:end]))
            end = begin
        return _flat(pieces[::-1])


def _flat(symbols):
    return [piece for symbol in symbols for piece in ((symbol,) if isinstance(symbol, str) else symbol)]
