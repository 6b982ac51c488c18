"""Tokenisers and vocabularies in graph form, from TensorFlow's core ops alone: what an exported model has inside.

Each function does what the class of its name in `tokenizers.py` does to one text, to a whole batch, and knows those
classes from inside. RE2, the graph's regular expressions, has no look-around, neither Python's Unicode classes nor
counted repeats of use here: patterns are written anew, with the characters of each class listed. Two things differ:
Python's tokenisers end a word after 99 inner joiners or 999 runs of combining marks, these do not.
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
    """The characters of a set of Python's `re`, as the inside of a set of RE2's."""
    runs = [found.span() for found in re.finditer('[%s]+' % python_set, _EVERY)]
    return ''.join('\\x{%x}-\\x{%x}' % (start, end - 1) for start, end in runs)


_SPACE = _class('\\s')


def _words(tokenizer):
    """The pattern of `tokenizers._token_pattern` without look-around.

    There `.`, `,` and `:` join runs where a digit stands on either side. Here a whole number such as 1,234.5 is one
    unit, `number`, which is tried before a single letter, so that no digit is ever taken without what follows it.
    """
    letters, digits = ['[%s]' % _class(kind + tokenizer._not_in_words) for kind in ('^\\W', '^\\D')]
    marks = '[%s]' % combining()
    number = '{0}+(?:[.,:]{0}+)*'.format(digits)
    start = '(?:%s|%s)' % (number, letters)
    return '{start}(?:{start}|{marks}|[\'’‐‑-]{start})*|[^{space}]{marks}*'.format(
        start=start, marks=marks, space=_SPACE)


def _replace(texts, pattern, rewrite):
    # The pattern is an attribute here, not an input, and hence compiled once, not at each call.
    return gen_string_ops.static_regex_replace(texts, pattern, rewrite)


def _blanks_between(tokenizer, texts):
    """Texts with a blank on each side of each token, none inside: `tokenize` without its last step."""
    if tokenizer.name == 'char':
        # A blank before each character; a pair of blanks is then a blank of the text.
        spaced = _replace(_replace(texts, '(?s)(.)', ' \\1'), '▁', '▁▁')
        return _replace(spaced, '((?: [^ ]+)*)  ', '\\1 ▁')
    texts = _replace(texts, '[%s]+' % _SPACE, ' ')
    return texts if tokenizer.name == 'space' else _replace(texts, '(%s)' % _words(tokenizer), ' \\1 ')


def has_form(tokenizer):
    """Whether there is a graph form of this tokeniser."""
    return tokenizer.name in ('space', 'word', 'char', 'chinese')


def tokenize(tokenizer, texts):
    """Tokens of texts `(B,)`, a tensor `(B, S)` of strings with '' behind the last one of each. UTF-8 throughout."""
    return tf.sparse_tensor_to_dense(tf.string_split(_blanks_between(tokenizer, texts), ' '), default_value='')


def encode(vocabulary, tokens):
    """Ids `(B, S)` of tokens `(B, S)`: PAD for '', UNK for what the vocabulary does not hold."""
    words = vocabulary.tokens[len(SPECIALS):]
    table = lookup_ops.HashTable(lookup_ops.KeyValueTensorInitializer(
        tf.constant(words), tf.range(len(SPECIALS), len(vocabulary), dtype=tf.int64)), UNK)
    return tf.where(tf.equal(tokens, ''), tf.fill(tf.shape(tokens), PAD), tf.to_int32(table.lookup(tokens)))


def encode_copies(vocabulary, tokens):
    """What a copy of each source token writes, ids `(B, S)`: its target id, or V plus the first position of a token
    that has none; PAD for ''."""
    ids = encode(vocabulary, tokens)
    first = tf.argmax(tf.to_int32(tf.equal(tokens[:, :, None], tokens[:, None])), axis=2, output_type=tf.int32)
    return tf.where(tf.equal(ids, UNK), len(vocabulary) + first, ids)


def decode(vocabulary, ids, lengths, sources=None):
    """Tokens of ids `(N, T)`, '' from the position `lengths` `(N,)` on.

    # Arguments
        sources: tokens `(N, S)`; an id from V on is a copy of the one at that position. `None`: no such ids.
    """
    size = len(vocabulary)
    tokens = tf.gather(tf.constant(vocabulary.tokens), tf.minimum(ids, size - 1))
    if sources is not None:
        copies = tf.batch_gather(sources, tf.clip_by_value(ids - size, 0, tf.shape(sources)[1] - 1))
        tokens = tf.where(ids < size, tokens, copies)
    return tf.where(tf.sequence_mask(lengths, tf.shape(ids)[1]), tokens, tf.fill(tf.shape(ids), ''))


def join_with_spaces(tokens, lengths):
    """Texts `(N,)` of tokens `(N, T)`, of which `lengths` `(N,)` count: what the tokeniser `space` does."""
    positions = tf.zeros_like(tokens, tf.int32) + tf.range(tf.shape(tokens)[1])
    spaced = tf.where((positions > 0) & (positions < lengths[:, None]), ' ' + tokens, tokens)
    return tf.reduce_join(spaced, axis=1)


def detokenize(tokenizer, vocabulary, ids, lengths):
    """Texts `(N,)` of ids `(N, T)`, of which `lengths` `(N,)` count."""
    ids = tf.pad(ids, [[0, 0], [0, 1]])                                             # a loop of no step has no output
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

    def having(values):
        return tf.gather(tf.constant(list(values)), ids)

    marks = list(tokenizer._closed_by.items())
    shown = valid[:, :, None]                                                                           # (N, T, 1)
    opens = having([token == opening for opening, _ in marks] for token in tokens) & shown              # (N, T, 4)
    closes = having([token == closing for _, closing in marks] for token in tokens) & shown
    later = tf.cumsum(tf.to_int32(closes), axis=1, exclusive=True, reverse=True) > 0

    def one_token(state, token):
        awaited, (opens, closes, later) = state[0], token
        closing = closes & awaited
        opening = opens & later & tf.logical_not(closing)
        return (awaited & tf.logical_not(closing)) | opening, opening, closing

    nothing = tf.zeros_like(opens[:, 0])
    _, opening, closing = tf.scan(one_token, [tf.transpose(one, [1, 0, 2]) for one in (opens, closes, later)],
                                  (nothing, nothing, nothing), back_prop=False)
    opening, closing = [tf.transpose(tf.reduce_any(one, axis=2)) for one in (opening, closing)]         # (N, T)
    leans_left = closing | having(token in tokenizer._lean_left for token in tokens) & tf.logical_not(opening)
    leans_right = opening | having(token in tokenizer._lean_right for token in tokens) & tf.logical_not(closing)
    wide = having(tokenizer._attract(token, 'a') for token in tokens)
    shared = having(token in getattr(tokenizer, '_both_scripts', ()) for token in tokens)
    left, right = words[:, :-1], words[:, 1:]
    joined = wide[:, :-1] | wide[:, 1:] | shared[:, :-1] & shared[:, 1:] | tf.equal(left, right)
    # Where the glued text would be tokenised differently, the blank stays: a token that is none by itself, such as
    # <unk>, and one that would go on with the token before it, which is a word or a single character with its marks.
    tokenize = tokenizer.tokenize
    whole = having(tokenize(token) == [token] for token in tokens)
    is_word = having(tokenize(token + 'a') == [token + 'a'] for token in tokens)
    after_word, after_mark = [having(tokenize(one + token) == [one, token] for token in tokens) for one in 'a#']
    stays = whole[:, :-1] & tf.where(is_word[:, :-1], after_word[:, 1:], after_mark[:, 1:])
    glued = leans_right[:, :-1] | leans_left[:, 1:] | joined
    for mark_of, part in ((lambda part: part.after, slice(None, -1)), (lambda part: part.before, slice(1, None))):
        joins, parts_them = [having(mark_of(one) == mark for one in parts)[:, part] for mark in (JOIN, SPACE)]
        glued = joins | glued & tf.logical_not(parts_them)
    glued &= stays
    return tf.pad(glued, [[0, 0], [1, 0]])
