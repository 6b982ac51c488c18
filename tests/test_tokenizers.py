"""Tokenisers: exact tokens, exact texts, and properties of every text."""
import sys
import unicodedata

import pytest
from hypothesis import given, strategies as st

from command_line import UserError
from text.tokenizers import make_tokenizer

NAMES = ('space', 'word', 'char', 'chinese')
TOKENIZERS = {name: make_tokenizer(name) for name in NAMES}

# Plain random text seldom combines the characters that interact, so half of it is drawn from a few characters of each
# kind that the tokenisers treat differently.
MIXED = ('aB_1٣ .,:;!?%/#$-‐—…\'"’‘“”„‚()[]<>▁\t\r\x0b\x85\u2028\u3000\0\u0301\u093f\u200d\ufe0f\ufeff\ufffd'
         '我𠀀豈，。：「」（！１Ａ々あ가é❤😀\u302a')
texts = st.text() | st.text(alphabet=st.sampled_from(MIXED), max_size=40)


@pytest.mark.parametrize('name, text, tokens', [
    ('space', ' a  b.\tc\u2028d ', ['a', 'b.', 'c', 'd']),
    ('word', 'He said: "It\'s well-known!"', ['He', 'said', ':', '"', "It's", 'well-known', '!', '"']),
    ('word', 'l’été -- (3.50, 1,000 at 10:30).',
     ['l’été', '-', '-', '(', '3.50', ',', '1,000', 'at', '10:30', ')', '.']),
    ('word', "'tis the dogs' x-", ["'", 'tis', 'the', 'dogs', "'", 'x', '-']),
    ('word', 'a.b a:b 1.b a_b', ['a', '.', 'b', 'a', ':', 'b', '1', '.', 'b', 'a_b']),
    ('word', 'e\u0301te\u0301 हिन्दी می\u200cخواهم ❤\ufe0f!',
     ['e\u0301te\u0301', 'हिन्दी', 'می\u200cخواهم', '❤\ufe0f', '!']),
    ('word', 'a\0b\ufeffc', ['a', '\0', 'b', '\ufeff', 'c']),
    ('char', 'a b\u3000▁', ['a', '▁', 'b', '\u3000', '▁▁']),
    ('chinese', '我爱Python 3.6，OK？', ['我', '爱', 'Python', '3.6', '，', 'OK', '？']),
    ('chinese', '\U00020000\U0002a700\U00030000豈㐀々〇', list('\U00020000\U0002a700\U00030000豈㐀々〇')),
    ('chinese', 'Ａ１ AI-技术 it\'s', ['Ａ', '１', 'AI', '-', '技', '术', "it's"]),
    ('chinese', '「好」\u3000——……', ['「', '好', '」', '—', '—', '…', '…']),
])
def test_text_is_divided_into_exactly_these_tokens(name, text, tokens):
    assert TOKENIZERS[name].tokenize(text) == tokens


@pytest.mark.parametrize('name, text', [
    ('space', 'a b. c'),
    ('word', 'He said: "It\'s well-known!" (Really?) Yes; 3.50, 5%, $5... no -- and/or [x].'),
    ('word', '“Quoted,” ‘single’ and „deutsch“, ¿sí?'),
    ('word', '"Hi," he said, "no."'),
    ('word', "He 'quoted' that."),
    ('word', "the dogs' bones, 5\" long"),
    ('char', '  two  blanks ▁ and \u3000 '),
    ('chinese', '他说：“你好，Hello World！”——好……吗？（对）'),
    ('chinese', '约翰·史密斯在2018年用Python 3.6。'),
    ('chinese', '\U00030000\U0003134a豈\U00020000\U0002a6d6'),
    ('chinese', 'Only English, it\'s "fine" (here).'),
])
def test_detokenised_text_reads_as_it_was_written(name, text):
    tokenizer = TOKENIZERS[name]
    assert tokenizer.detokenize(tokenizer.tokenize(text)) == text


@pytest.mark.parametrize('tokens, text', [
    (['a', '/', '\u0301', 'x'], 'a/ \u0301 x'),  # joined, the accent would join the token before it
    (['_', '_'], '_ _'),  # joined, one word
    (['3', '.', '5'], '3. 5'),  # joined, one number
    (['a', '#', 'b'], 'a #b'),
    (["'", 'a', "'", "'", 'b'], "'a'' b"),
    ([], ''),
])
def test_space_stays_where_joining_would_change_the_tokens(tokens, text):
    assert TOKENIZERS['word'].detokenize(tokens) == text
    assert TOKENIZERS['word'].tokenize(text) == tokens


@pytest.mark.parametrize('name', NAMES)
@given(text=texts)
def test_tokens_survive_detokenising_of_any_text(name, text):
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer.tokenize(text)
    assert tokenizer.tokenize(tokenizer.detokenize(tokens)) == tokens
    assert all(tokens)


@pytest.mark.parametrize('name', NAMES)
@given(drawn=st.lists(texts, max_size=8), random=st.randoms())
def test_tokens_survive_detokenising_in_any_order(name, drawn, random):
    # A model writes token sequences that no text has.
    tokenizer = TOKENIZERS[name]
    tokens = [token for text in drawn for token in tokenizer.tokenize(text)]
    random.shuffle(tokens)
    assert tokenizer.tokenize(tokenizer.detokenize(tokens)) == tokens


@pytest.mark.parametrize('name', ['space', 'word', 'chinese'])
@given(text=texts)
def test_only_white_space_is_lost(name, text):
    tokens = TOKENIZERS[name].tokenize(text)
    assert ''.join(tokens) == ''.join(text.split())
    assert TOKENIZERS[name].detokenize(tokens).replace(' ', '') == ''.join(tokens)


@given(text=texts)
def test_char_round_trip_is_exact(text):
    char = TOKENIZERS['char']
    assert char.detokenize(char.tokenize(text)) == text
    assert len(char.tokenize(text)) == len(text)


def test_every_han_character_is_a_token_of_its_own():
    blocks = [(0x3400, 0x4db6), (0x4e00, 0x9fd6), (0xf900, 0xfa6e), (0x20000, 0x2a6d7),
              (0x2b740, 0x2b81e), (0x30000, 0x3134b)]
    for first, end in blocks:
        text = ''.join(map(chr, range(first, end)))
        assert TOKENIZERS['chinese'].tokenize(text) == list(text)


def test_all_combining_marks_stay_with_their_letter():
    marks = [chr(point) for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point))[0] == 'M']
    assert len(marks) > 2000
    assert [mark for mark in marks if TOKENIZERS['word'].tokenize('a' + mark + 'b') != ['a' + mark + 'b']] == []


@pytest.mark.parametrize('unit', ['a-', 'a\u0301', '1.', '.', "''"])
def test_endless_word_is_divided_and_still_stable(unit):
    word = TOKENIZERS['word']
    tokens = word.tokenize(unit * 3000)
    assert ''.join(tokens) == unit * 3000
    assert word.tokenize(word.detokenize(tokens)) == tokens


def test_an_unknown_word_has_the_spaces_of_a_word():
    assert TOKENIZERS['word'].detokenize(['un', '(', '<unk>', ')', '<unk>', '<unk>', '.']) == 'un (<unk>) <unk> <unk>.'
    assert TOKENIZERS['chinese'].detokenize(['看', '<unk>', '。', '<unk>', 'a']) == '看<unk>。<unk> a'


def test_unknown_tokenizer_is_refused_with_the_known_names():
    with pytest.raises(UserError, match="unknown tokenizer 'bpe': known are space, word, char, chinese, jieba"):
        make_tokenizer('bpe')
