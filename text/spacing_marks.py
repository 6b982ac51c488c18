"""Marks on target tokens for spacing that detokenising would not restore.

A tokeniser such as `word` joins punctuation to words by rules. Where a text does not follow them, as in `p.m.`,
`„BBQ“-Reklame` or the French `dit :`, one of the two tokens gets a mark: `‿` where the text has no space between them,
`▁` where it has one. Detokenising removes the marks and follows them, so a round trip is exact, and a model learns the
spacing of its training text. Marks go to punctuation where possible, so that a word keeps one form: p .‿ m .

Between two tokens the mark at the beginning of the second wins over the mark at the end of the first.
"""
import collections

JOIN, SPACE = '‿', '▁'
MARKS = (JOIN, SPACE)

MarkedToken = collections.namedtuple('MarkedToken', 'before token after')
MarkedToken.__doc__ = """A token with the marks before and after it, '' where it has none."""


def split_marks(text):
    """The `MarkedToken` of a token of the text `text`. The inverse of joining its three parts."""
    before = text[0] if len(text) > 1 and text[0] in MARKS else ''
    token = text[len(before):]
    after = token[-1] if len(token) > 1 and token[-1] in MARKS else ''
    return MarkedToken(before, token[:len(token) - len(after)], after)


class MarkingTokenizer(object):
    """A tokeniser with exact round trips: detokenize(tokenize(x)) == ' '.join(x.split()).

    # Arguments
        unmarked: `WordTokenizer`, `ChineseTokenizer` or `JiebaTokenizer`.
    """

    def __init__(self, unmarked):
        self.unmarked = unmarked
        self.name = unmarked.name

    def tokenize(self, text):
        tokens = self.unmarked.tokenize(text)
        marked = [['', token, ''] for token in tokens]
        spaces = _spaces(text, tokens)
        for i, (space, joined) in enumerate(zip(spaces, self.unmarked.joined(tokens))):
            mark = SPACE if space else JOIN
            # A text of its own that begins with a mark always has one more, so that `split_marks` removes that.
            if tokens[i + 1][0] in MARKS:
                marked[i + 1][0] = mark
            elif space == joined:
                if _is_word(tokens[i + 1]) and not _is_word(tokens[i]):
                    marked[i][2] = mark
                else:
                    marked[i + 1][0] = mark
        if tokens and tokens[0][0] in MARKS:
            marked[0][0] = SPACE
        return [''.join(parts) for parts in marked]

    def detokenize(self, tokens):
        marked = [split_marks(token) for token in tokens]
        tokens = [parts.token for parts in marked]
        pieces = tokens[:1]
        for left, right, joined in zip(marked, marked[1:], self.unmarked.joined(tokens)):
            mark = right.before or left.after
            if mark:
                joined = mark == JOIN and self.unmarked.can_join(left.token, right.token)
            pieces += [right.token] if joined else [' ', right.token]
        return ''.join(pieces)


def _is_word(token):
    return token[0].isalnum() or token[0] == '_'


def _spaces(text, tokens):
    """Whether the text has white space between each token and the next one."""
    spaces, rest = [], [len(chunk) for chunk in text.split()][::-1]
    for token in tokens:
        rest[-1] -= len(token)
        spaces.append(not rest[-1])
        if not rest[-1]:
            rest.pop()
    return spaces[:-1]
