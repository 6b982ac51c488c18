"""Tokenisers and vocabularies as graphs of TensorFlow's core ops, for exported models.

Each function computes for a batch what the method of that name in `tokenizers.py` computes for one text, and reads the
private attributes of those classes. The graph's regular expressions are RE2, without look-around, Python's Unicode
classes, and counted repeats of this size. So the patterns here differ from Python's, and list the characters of each
class. One thing is not the same: Python's tokenisers end a word after 99 inner joiners or 999 runs of combining marks.
"""
import re

import tensorflow as tf
from tensorflow.python.ops import gen_string_ops, lookup_ops
from text.vocabulary import SPECIALS
from text.vocabulary import PAD, UNK
from text.tokenizers import combining
from text.spacing_marks import JOIN, SPACE, MarkedToken, MarkingTokenizer, split_marks

_EVERY = ''.join(map(chr, range(0x110000)))


def _class(python_set):
    """The content of an RE2 set with the characters of a set of Python's `re`."""
    runs = [match.span() for match in re.finditer('[%s]+' % python_set, _EVERY)]
    return ''.join('\\x{%x}-\\x{%x}' % (start, end - 1) for start, end in runs)


_SPACE = _class('\\s')


def _words(tokenizer):
    """The pattern of `tokenizers._token_pattern` without look-around.

    There `.`, `,` and `:` join runs between digits. Here a whole number such as 1,234.5 is one unit, `number`, which
    the pattern tries before a single letter, so that a digit never matches without the rest of its number.
    """
    letters, digits = ['[%s]' % _class(kind + tokenizer._not_in_words) for kind in ('^\\W', '^\\D')]
    marks = '[%s]' % combining()
    number = '%s+(?:[.,:]%s+)*' % (digits, digits)
    start = '(?:%s|%s)' % (number, letters)
    return '%s(?:%s|%s|[\'’‐‑-]%s)*|[^%s]%s*' % (start, start, marks, start, _SPACE, marks)


def _replace(texts, pattern, rewrite):
    # As an attribute of the op, not an input, the pattern is compiled once.
    return gen_string_ops.static_regex_replace(texts, pattern, rewrite)


def _spaces_between(tokenizer, texts):
    """Texts with a space on each side of each token and none inside: `tokenize` without its last step."""
    if tokenizer.name == 'char':
        # A space before each character: two spaces in succession then stand for a space of the text.
        spaced = _replace(_replace(texts, '(?s)(.)', ' \\1'), '▁', '▁▁')
        return _replace(spaced, '((?: [^ ]+)*)  ', '\\1 ▁')
    texts = _replace(texts, '[%s]+' % _SPACE, ' ')
    return texts if tokenizer.name == 'space' else _replace(texts, '(%s)' % _words(tokenizer), ' \\1 ')


def has_graph_form(tokenizer):
    """Whether this module can express a tokeniser as a graph."""
    return tokenizer.name in ('space', 'word', 'char', 'chinese')


def tokenize(tokenizer, texts):
    """Tokens `(B, S)` of UTF-8 texts `(B,)`, with '' after the last token of each text."""
    return tf.sparse_tensor_to_dense(tf.string_split(_spaces_between(tokenizer, texts), ' '), default_value='')


def encode(vocabulary, tokens):
    """Ids `(B, S)` of tokens `(B, S)`: PAD for '', UNK for tokens that the vocabulary does not have."""
    words = vocabulary.tokens[len(SPECIALS):]
    table = lookup_ops.HashTable(lookup_ops.KeyValueTensorInitializer(
        tf.constant(words), tf.range(len(SPECIALS), len(vocabulary), dtype=tf.int64)), UNK)
    return tf.where(tf.equal(tokens, ''), tf.fill(tf.shape(tokens), PAD), tf.to_int32(table.lookup(tokens)))


def encode_copies(vocabulary, tokens):
    """The ids `(B, S)` that copying each source token writes: its target id, or V plus the first position of a token
    without one; PAD for ''."""
    ids = encode(vocabulary, tokens)
    first = tf.argmax(tf.to_int32(tf.equal(tokens[:, :, None], tokens[:, None])), axis=2, output_type=tf.int32)
    return tf.where(tf.equal(ids, UNK), len(vocabulary) + first, ids)


def decode(vocabulary, ids, lengths, sources=None):
    """Tokens of ids `(N, T)`, '' from the position `lengths` `(N,)` on.

    # Arguments
        sources: tokens `(N, S)`; id V + s is a copy of token s. `None`: there are no such ids.
    """
    size = len(vocabulary)
    tokens = tf.gather(tf.constant(vocabulary.tokens), tf.minimum(ids, size - 1))
    if sources is not None:
        copies = tf.batch_gather(sources, tf.clip_by_value(ids - size, 0, tf.shape(sources)[1] - 1))
        tokens = tf.where(ids < size, tokens, copies)
    return tf.where(tf.sequence_mask(lengths, tf.shape(ids)[1]), tokens, tf.fill(tf.shape(ids), ''))


def join_with_spaces(tokens, lengths):
    """Texts `(N,)` of the first `lengths` `(N,)` tokens of `(N, T)`, with one space between two."""
    positions = tf.zeros_like(tokens, tf.int32) + tf.range(tf.shape(tokens)[1])
    spaced = tf.where((positions > 0) & (positions < lengths[:, None]), ' ' + tokens, tokens)
    return tf.reduce_join(spaced, axis=1)


def detokenize(tokenizer, vocabulary, ids, lengths):
    """Texts `(N,)` of the first `lengths` `(N,)` ids of `(N, T)`: the method `detokenize` of the tokeniser."""
    ids = tf.pad(ids, [[0, 0], [0, 1]])                                             # `scan` needs at least one step
    valid = tf.sequence_mask(lengths, tf.shape(ids)[1])
    if tokenizer.name == 'char':
        pieces = tf.gather(tf.constant([tokenizer.detokenize([token]) for token in vocabulary.tokens]), ids)
    else:
        marked = isinstance(tokenizer, MarkingTokenizer)
        parts = [split_marks(token) if marked else MarkedToken('', token, '') for token in vocabulary.tokens]
        pieces = tf.gather(tf.constant([part.token for part in parts]), ids)
        glued = tf.zeros_like(valid)
        if tokenizer.name != 'space':
            glued = _glued(tokenizer.unmarked if marked else tokenizer, parts, ids, valid, pieces)
        first = tf.equal(tf.range(tf.shape(ids)[1]), tf.zeros_like(ids))
        pieces = tf.where(glued | first, pieces, ' ' + pieces)
    return tf.reduce_join(tf.where(valid, pieces, tf.fill(tf.shape(ids), '')), axis=1)


def _glued(tokenizer, parts, ids, valid, words):
    """Booleans `(N, T)`: whether a token follows the one before it without a space, as in `WordTokenizer.joined`.

    `parts` has a `MarkedToken` for each id; its marks win over the rules, as in `MarkingTokenizer.detokenize`.
    """
    tokens = [part.token for part in parts]

    def of_ids(values):
        """The value of each token of `ids`, from values in the order of the vocabulary."""
        return tf.gather(tf.constant(list(values)), ids)

    marks = list(tokenizer._closed_by.items())
    is_token = valid[:, :, None]                                                                        # (N, T, 1)
    opens = of_ids([token == opening for opening, _ in marks] for token in tokens) & is_token           # (N, T, 4)
    closes = of_ids([token == closing for _, closing in marks] for token in tokens) & is_token
    later = tf.cumsum(tf.to_int32(closes), axis=1, exclusive=True, reverse=True) > 0

    def next_token(state, token):
        is_open, (opens, closes, later) = state[0], token
        closing = closes & is_open
        opening = opens & later & tf.logical_not(closing)
        return (is_open & tf.logical_not(closing)) | opening, opening, closing

    nothing = tf.zeros_like(opens[:, 0])
    _, opening, closing = tf.scan(next_token, [tf.transpose(x, [1, 0, 2]) for x in (opens, closes, later)],
                                  (nothing, nothing, nothing), back_prop=False)
    opening, closing = [tf.transpose(tf.reduce_any(x, axis=2)) for x in (opening, closing)]             # (N, T)
    attaches_left = closing | of_ids(token in tokenizer._lean_left for token in tokens) & tf.logical_not(opening)
    attaches_right = opening | of_ids(token in tokenizer._lean_right for token in tokens) & tf.logical_not(closing)
    wide = of_ids(tokenizer._attract(token, 'a') for token in tokens)
    shared = of_ids(token in getattr(tokenizer, '_both_scripts', ()) for token in tokens)
    left, right = words[:, :-1], words[:, 1:]
    attract = wide[:, :-1] | wide[:, 1:] | shared[:, :-1] & shared[:, 1:] | tf.equal(left, right)
    # Where the text without a space would be tokenised differently, the space stays: `can_join` of two tokens. The left
    # one must be a token by itself, and the right one must not continue it, be it a word, as <unk> is, or a mark.
    tokenize, tokens = tokenizer.tokenize, ['x' if token == SPECIALS[UNK] else token for token in tokens]
    whole = of_ids(tokenize(token) == [token] for token in tokens)
    is_word = of_ids(tokenize(token + 'a') == [token + 'a'] for token in tokens)
    after_word, after_mark = [of_ids(tokenize(left + token) == [left, token] for token in tokens) for left in 'a#']
    can_join = whole[:, :-1] & tf.where(is_word[:, :-1], after_word[:, 1:], after_mark[:, 1:])
    glued = attaches_right[:, :-1] | attaches_left[:, 1:] | attract
    for mark_of, part in ((lambda part: part.after, slice(None, -1)), (lambda part: part.before, slice(1, None))):
        has_join, has_space = [of_ids(mark_of(token) == mark for token in parts)[:, part] for mark in (JOIN, SPACE)]
        glued = has_join | glued & tf.logical_not(has_space)
    glued &= can_join
    return tf.pad(glued, [[0, 0], [1, 0]])
