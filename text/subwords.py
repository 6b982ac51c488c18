"""Subword tokenisers: pieces that sentencepiece finds in the training text, applied by the same rules in plain Python.

A model is a text file, its first line the kind, then a line "piece<TAB>score" for each piece. Nothing native reads it,
so that the worst a damaged file can do is to be refused. A character that no piece has is spelt in its UTF-8 bytes,
pieces such as <0xE4>: nothing is unknown. Blanks are told by '▁' at the beginning of a word's first piece.
"""
import functools
import io
import math
import re

from command_line import UserError

KINDS = ('bpe', 'unigram')
BLANK = '▁'
BYTES = tuple('<0x%02X>' % value for value in range(256))
_VALUE = {piece: value for value, piece in enumerate(BYTES)}
# Below the worst piece, as in sentencepiece: a character is spelt in bytes where there is no other way alone.
_UNKNOWN_PENALTY = 10.


def train(texts, kind, size):
    """The bytes of a model.

    # Arguments
        texts: list of str; equal ones give an equal model.
        kind: 'bpe' (Sennrich et al. 2016) or 'unigram' (Kudo 2018).
        size: most pieces, the 256 bytes counted; there are fewer where the text does not have so many.

    # Raises
        UserError: a size that does not hold the text's characters.
    """
    import sentencepiece
    lines = [' '.join(text.replace(BLANK, ' ').split()) for text in texts]
    characters = len(set(''.join(lines))) + 1 + len(BYTES)
    if size < characters:
        raise UserError('a %s vocabulary of %d pieces does not hold the %d characters and bytes of the text: raise '
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
            fewer = re.search('value <= ([0-9]+)', str(error))
            if not fewer or int(fewer.group(1)) > size:
                raise UserError('sentencepiece finds no %s pieces in the text: %s'
                                % (kind, ' '.join(str(error).split())))
            size = int(fewer.group(1)) - 1
    found = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    rows = [(found.id_to_piece(i), found.get_score(i)) for i in range(len(found))
            if not (found.is_unknown(i) or found.is_byte(i) or found.is_unused(i))]
    return ''.join([kind + '\n'] + ['%s\t%r\n' % row for row in rows if not _special(row[0])]).encode('utf-8')


def _special(piece):
    """Whether text has a piece that means something else in a vocabulary."""
    return piece in _VALUE or piece in ('<pad>', '<unk>', '<s>', '</s>')


class SubwordTokenizer:
    """`kind` is 'bpe' or 'unigram', `scores` an ordered dict from pieces to their scores."""

    def __init__(self, kind, scores):
        self.name, self.scores = kind, scores
        self._longest = max(map(len, scores))
        self._unknown = min(scores.values()) - _UNKNOWN_PENALTY
        self._word = functools.lru_cache(2 ** 16)(self._merged if kind == 'bpe' else self._most_probable)

    @classmethod
    def from_bytes(cls, data, name):
        """The inverse of `train`; `name` is the file named in the UserError for anything that is no model."""
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
        """All tokens that `tokenize` can give, the order of the vocabulary."""
        return BYTES + tuple(self.scores)

    def tokenize(self, text):
        return [piece for word in text.split() for piece in self._word(word)]

    def detokenize(self, tokens):
        parts, pending = [], []
        for token in list(tokens) + ['']:
            if token in _VALUE:
                pending.append(_VALUE[token])
                continue
            parts += [bytes(pending).decode('utf-8', 'replace'), token.replace(BLANK, ' ')]
            pending = []
        return ' '.join(''.join(parts).split())  # bytes may tell a line feed, which an output has not

    def _symbols(self, word):
        """The characters of a word after its blank; one that is no piece comes as a tuple of bytes."""
        def spelt(character):
            return tuple(BYTES[value] for value in character.encode('utf-8', 'replace'))
        # A '▁' of the text itself is no blank.
        return [BLANK if BLANK in self.scores else spelt(BLANK)] + [
            one if one in self.scores and one != BLANK else spelt(one) for one in word]

    def _merged(self, word):
        """Joins the neighbours whose piece has the highest score, the left ones first, until no two have a piece."""
        symbols = self._symbols(word)
        while True:
            pairs = [(-self.scores[left + right], i) for i, (left, right) in enumerate(zip(symbols, symbols[1:]))
                     if isinstance(left, str) and isinstance(right, str) and left + right in self.scores]
            if not pairs:
                return _flat(symbols)
            i = min(pairs)[1]
            symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]

    def _most_probable(self, word):
        """The pieces with the greatest sum of scores."""
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
    return [piece for one in symbols for piece in ((one,) if isinstance(one, str) else one)]
