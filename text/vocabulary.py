"""Vocabularies: tokens to ids and back, and their files."""
import collections
import heapq
import itertools

from command_line import UserError

SPECIALS = ('<pad>', '<unk>', '<s>', '</s>')
PAD, UNK, START, END = range(4)
FILES = ('vocab.source.txt', 'vocab.target.txt')  # of a run


class Vocabulary(object):
    """Tokens and their ids.

    # Arguments
        tokens: list of str in the order of their ids; the four `SPECIALS` come first.

    # Raises
        ValueError: a token is empty, contains a line feed or occurs twice, or the special tokens are missing.

    `tokens` is the list, `index` a dict from tokens to ids.
    """

    def __init__(self, tokens):
        self.tokens = list(tokens)
        self.index = {}
        if tuple(self.tokens[:len(SPECIALS)]) != SPECIALS:
            raise ValueError('the first four tokens must be %s' % ' '.join(SPECIALS))
        for i, token in enumerate(self.tokens):
            if not token or '\n' in token:
                raise ValueError('line %d: a token is empty or contains a line feed' % (i + 1))
            if self.index.setdefault(token, i) != i:
                raise ValueError('line %d: %r is on line %d already' % (i + 1, token, self.index[token] + 1))

    def __len__(self):
        return len(self.tokens)

    @classmethod
    def build(cls, counts, size, min_count=1):
        """Makes the vocabulary of a text.

        # Arguments
            counts: iterable of (token, number of occurrences).
            size: maximum number of tokens, without the special ones; the most frequent ones are kept.
            min_count: minimum number of occurrences of a token.

        # Returns
            A `Vocabulary`, ordered by frequency, then by code points: the order of the text does not matter.

        # Raises
            UserError: no token is left.
        """
        ranked = heapq.nsmallest(size, ((-count, token) for token, count in counts
                                        if count >= min_count and token not in SPECIALS))
        if not ranked:
            raise UserError('no token of the text is in its vocabulary: lower --min-count (%d)' % min_count)
        return cls(list(SPECIALS) + [token for _, token in ranked])

    def encode(self, tokens, names=()):
        """Ids of tokens.

        # Arguments
            tokens: list of str.
            names: tokens without an id here that get the ids from `len(self)` on.

        # Returns
            List of ids; UNK for unknown tokens, and for a '<s>' and the like in the text: it never becomes special.
        """
        extra = dict(zip(names, itertools.count(len(self))))
        ids = (self.index.get(token, UNK) for token in tokens)
        return [i if i > END else extra.get(token, UNK) for i, token in zip(ids, tokens)]

    def names(self, tokens):
        """The distinct tokens of a source that have no id here, in order: an output may copy them."""
        return [token for token in collections.OrderedDict.fromkeys(tokens) if self.index.get(token, UNK) <= END]

    def decode(self, ids, names=()):
        """Tokens of ids, special tokens included; ids from `len(self)` on are those of `names`."""
        return [self.tokens[i] if i < len(self) else names[i - len(self)] for i in ids]

    def to_bytes(self):
        """One token a line, UTF-8; a line feed only ends each line (a token may contain a carriage return)."""
        return ''.join(token + '\n' for token in self.tokens).encode('utf-8')

    @classmethod
    def from_bytes(cls, data, name):
        """The inverse of `to_bytes`.

        # Arguments
            data: bytes.
            name: the file's name in messages.

        # Raises
            UserError: the bytes are not a vocabulary.
        """
        if not data.endswith(b'\n'):
            raise UserError('%s: not a whole vocabulary, the last line does not end' % name)
        try:
            return cls(data[:-1].decode('utf-8').split('\n'))
        except ValueError as error:  # UnicodeDecodeError too
            raise UserError('%s: not a vocabulary: %s' % (name, error)) from None


def read_vocabularies(run):
    """The vocabularies of source and target in a `RunDirectory`."""
    return [Vocabulary.from_bytes(run.read_file(name), run.file(name)) for name in FILES]
