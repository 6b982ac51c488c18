"""Vocabularies: tokens to ids and back, and their files."""
import collections
import itertools

from command_line import UserError

SPECIALS = ('<pad>', '<unk>', '<s>', '</s>')
PAD, UNK, START, END = range(4)


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
