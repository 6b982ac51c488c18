"""Vocabularies: order, ids, special tokens, and files that are not vocabularies."""
import collections

import pytest
from hypothesis import given, settings, strategies as st

from command_line import UserError
from text.vocabulary import END, SPECIALS, START, UNK, Vocabulary

import numpy as np


def counts(*tokens):
    return collections.Counter(tokens).items()


def test_vocabulary_is_ordered_by_count_then_code_point():
    vocabulary = Vocabulary.build(counts('b', 'a', 'c', 'c', 'é', 'a', 'B', 'c'), size=10)
    assert vocabulary.tokens == ['<pad>', '<unk>', '<s>', '</s>', 'c', 'a', 'B', 'b', 'é']
    assert len(vocabulary) == 9
    assert [vocabulary.index[token] for token in vocabulary.tokens] == list(range(9))


def test_vocabulary_size_excludes_the_special_tokens_and_min_count_applies():
    text = counts(*'aaabbccd')
    assert Vocabulary.build(text, size=3).tokens[4:] == ['a', 'b', 'c']
    assert Vocabulary.build(text, size=1).tokens[4:] == ['a']
    assert len(Vocabulary.build(counts(*map(str, range(99))), size=10)) == 14
    assert Vocabulary.build(text, size=9, min_count=2).tokens[4:] == ['a', 'b', 'c']
    with pytest.raises(UserError, match='min-count'):
        Vocabulary.build(text, size=9, min_count=4)


def test_special_token_in_the_text_becomes_unk():
    text = ['<s>', 'a', '</s>', '<pad>', '<unk>', '<s>']
    vocabulary = Vocabulary.build(counts(*text), size=10)
    assert vocabulary.tokens == ['<pad>', '<unk>', '<s>', '</s>', 'a']
    assert vocabulary.encode(text + ['new']) == [1, 4, 1, 1, 1, 1, 1]


def test_encode_and_decode():
    vocabulary = Vocabulary(list(SPECIALS) + ['a', 'b'])
    assert vocabulary.encode(['b', 'x', 'a']) == [5, UNK, 4]
    assert vocabulary.decode([START, 5, 4, END]) == ['<s>', 'b', 'a', '</s>']
    assert vocabulary.decode(np.array([5, 1], 'int32')) == ['b', '<unk>']


tokens_of_lines = st.text(alphabet=st.characters(blacklist_categories=('Cs',), blacklist_characters='\n'), min_size=1)


@given(tokens=st.lists(tokens_of_lines | st.sampled_from(['\r', 'a\r', '\u2028', '\0', '\x85', '\x0b', '\ufeff', ' ']),
                       unique=True))
def test_vocabulary_bytes_round_trip(tokens):
    tokens = list(SPECIALS) + [token for token in tokens if token not in SPECIALS]
    vocabulary = Vocabulary(tokens)
    again = Vocabulary.from_bytes(vocabulary.to_bytes(), 'v')
    assert again.tokens == tokens and again.index == vocabulary.index
    assert vocabulary.to_bytes().count(b'\n') == len(tokens)


SPECIAL_LINES = b'<pad>\n<unk>\n<s>\n</s>\n'


@pytest.mark.parametrize('content, message', [
    (b'', 'v.txt: not a whole vocabulary'),
    (SPECIAL_LINES + b'a\nb', 'v.txt: not a whole vocabulary'),
    (b'a\n' + SPECIAL_LINES, 'v.txt: not a vocabulary: the first four tokens'),
    (b'\xef\xbb\xbf' + SPECIAL_LINES, 'the first four tokens'),
    (SPECIAL_LINES.replace(b'\n', b'\r\n'), 'the first four tokens'),
    (b'<pad>\n', 'the first four tokens'),
    (SPECIAL_LINES + b'a\nb\na\n', "line 7: 'a' is on line 5"),
    (SPECIAL_LINES + b'<s>\n', "line 5: '<s>' is on line 3"),
    (SPECIAL_LINES + b'a\n\nb\n', 'line 6: a token is empty'),
    (SPECIAL_LINES + b'a\xff\n', "v.txt: not a vocabulary: 'utf-8' codec can't decode byte 0xff"),
    (SPECIAL_LINES + b'\xed\xa0\x80\n', 'v.txt: not a vocabulary'),
])
def test_file_that_is_not_a_vocabulary_is_refused(content, message):
    with pytest.raises(UserError) as caught:
        Vocabulary.from_bytes(content, 'v.txt')
    assert message in str(caught.value) and '\n' not in str(caught.value)


@settings(max_examples=200)
@given(place=st.integers(0, 40), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_vocabulary_loads_whole_or_is_refused(place, byte, cut):
    content = SPECIAL_LINES + '我\nbc\n\u2028\n'.encode('utf-8')
    place %= len(content)
    damaged = content[:place] if cut else content[:place] + bytes([byte]) + content[place + 1:]
    try:
        assert Vocabulary.from_bytes(damaged, 'v').to_bytes() == damaged
    except UserError:
        pass


def test_vocabulary_that_could_not_be_saved_is_never_made():
    with pytest.raises(ValueError, match='line feed'):
        Vocabulary(list(SPECIALS) + ['a\nb'])
