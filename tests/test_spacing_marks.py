"""Spacing marks of target tokens: exact round trips, few marks, and settings of runs from before them."""
import gzip
import os

import pytest
from hypothesis import given, strategies as st

from settings import ADDED, resolve_settings
from test_commands import ROOT
from test_tokenizers import MIXED
from text.spacing_marks import MarkingTokenizer, split_marks
from text.tokenizers import build_tokenizers, make_tokenizer

NAMES = ('word', 'chinese', 'jieba')
TOKENIZERS = {name: MarkingTokenizer(make_tokenizer(name)) for name in NAMES}
texts = st.text() | st.text(alphabet=st.sampled_from(MIXED + '‿▁‿▁研究生命'), max_size=40)


@pytest.mark.parametrize('name, text, tokens', [
    ('word', 'It is 9 p.m. (really).', ['It', 'is', '9', 'p', '.‿', 'm', '.', '(', 'really', ')', '.']),
    ('word', '"A." "B."', ['"', 'A', '.', '"', '▁"', 'B', '.', '"']),
    ('word', 'Limonade- und Bier', ['Limonade', '‿-', 'und', 'Bier']),
    ('word', 'die „BBQ“-Reklame', ['die', '„', 'BBQ', '“', '‿-‿', 'Reklame']),
    ('word', 'Il dit : « Oui ! »', ['Il', 'dit', '▁:', '«', 'Oui', '▁!', '»']),
    ('word', 'x@y.org, C++ / C#', ['x', '‿@‿', 'y', '.‿', 'org', ',', 'C', '‿+', '+', '▁/▁', 'C', '‿#']),
    ('chinese', '很大, 不是', ['很', '大', ',▁', '不', '是']),
    ('jieba', '昨天晚上 Tom来了', ['昨天晚上', '▁Tom', '来', '了']),
    ('word', 'a‿b ‿', ['a', '‿‿‿', 'b', '▁‿']),
    ('word', 'Plain text, as "always".', ['Plain', 'text', ',', 'as', '"', 'always', '"', '.'])])
def test_only_unusual_spacing_has_marks(name, text, tokens):
    assert TOKENIZERS[name].tokenize(text) == tokens
    assert TOKENIZERS[name].detokenize(tokens) == text


@pytest.mark.parametrize('text', [
    'S.C.U.B.A. in the U.S. Army', 'http://a.b/c?d=e&f', 'A&M and Q&A', '50 % off, $ 2.52, 5%', "I 'm in C.D's",
    'Papiertellern und -tassen', 'position( s ) .`', 'bib,girl', 'C++ / C#', "a` s", '- — -- --- …', 'a.b:c;d',
    'l’été : « oui », « non »…', '很大, 不是。Tom 来了', '你說德語嗎?" "不，我不說。', 'e\u0301 \u0301x', ''])
@pytest.mark.parametrize('name', NAMES)
def test_round_trip_is_exact(name, text):
    assert TOKENIZERS[name].detokenize(TOKENIZERS[name].tokenize(text)) == text


@pytest.mark.parametrize('name', NAMES)
@given(text=texts)
def test_round_trip_of_any_text_changes_white_space_only(name, text):
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer.tokenize(text)
    assert tokenizer.detokenize(tokens) == ' '.join(text.split())
    assert [split_marks(token).token for token in tokens] == tokenizer.unmarked.tokenize(text)
    assert tokenizer.tokenize(tokenizer.detokenize(tokens)) == tokens


@pytest.mark.parametrize('name', NAMES)
@given(drawn=st.lists(texts, max_size=8), random=st.randoms())
def test_tokens_in_any_order_give_text_without_marks(name, drawn, random):
    tokens = [token for text in drawn for token in TOKENIZERS[name].tokenize(text)]
    random.shuffle(tokens)
    text = TOKENIZERS[name].detokenize(tokens)
    assert ''.join(text.split()) == ''.join(split_marks(token).token for token in tokens)
    assert TOKENIZERS[name].detokenize(TOKENIZERS[name].tokenize(text)) == text


def test_mark_of_the_second_token_wins():
    assert TOKENIZERS['word'].detokenize(['a', '.‿', '▁b']) == 'a. b'
    assert TOKENIZERS['word'].detokenize(['a', '.▁', '‿b', '<unk>', '‿c']) == 'a.b <unk> c'
    assert TOKENIZERS['word'].detokenize(['<unk>', '▁.', '<unk>', '.']) == '<unk> . <unk>.'


def test_target_tokens_of_new_runs_have_marks_and_those_of_old_runs_have_none():
    for values, marked in (({}, True), (dict(spacing_marks=False), False), (ADDED, False)):
        source, target = build_tokenizers(resolve_settings(dict(values, target_tokenizer='word')), None)[0]
        assert source.tokenize('9 p.m.') == ['9', 'p', '.', 'm', '.']
        assert isinstance(target, MarkingTokenizer) == marked
    for name in ('space', 'char'):
        assert not isinstance(build_tokenizers(resolve_settings(dict(target_tokenizer=name)), None)[0][1],
                              MarkingTokenizer)


def test_samples_need_no_marks():
    """The vocabulary of the demonstration is unchanged."""
    for folder, name in (('translate', 'chinese'), ('summarise', 'word'), ('answer', 'word')):
        with open(str(ROOT / 'samples' / folder / 'val.tsv'), encoding='utf-8') as file:
            for line in file:
                text = line.rstrip('\n').split('\t')[1]
                assert TOKENIZERS[name].tokenize(text) == TOKENIZERS[name].unmarked.tokenize(text)


@pytest.mark.parametrize('name, file, column', [('word', 'multi30k.en.gz', 0), ('word', 'multi30k.de.gz', 0),
                                                ('word', 'tatoeba.en-zh.tsv', 0), ('jieba', 'tatoeba.en-zh.tsv', 1)])
def test_round_trip_of_real_text_is_exact(name, file, column):
    path = str(ROOT.parent / 'shared' / 'corpora' / 'raw' / file)
    if not os.path.exists(path):
        pytest.skip('%s is not there: real text is not part of the project' % path)
    with (gzip.open if path.endswith('.gz') else open)(path, 'rt', encoding='utf-8') as stream:
        texts = [line.rstrip('\n').split('\t')[column] for line in stream][:3000]
    tokens = list(map(TOKENIZERS[name].tokenize, texts))
    assert [TOKENIZERS[name].detokenize(row) for row in tokens] == [' '.join(text.split()) for text in texts]
    plain = TOKENIZERS[name].unmarked
    changed = sum(plain.detokenize(plain.tokenize(text)) != ' '.join(text.split()) for text in texts)
    assert 0 < changed < 40  # what the marks are for
