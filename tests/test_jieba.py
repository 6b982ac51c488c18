"""Chinese words of the dictionary, their detokenisation, a run with them; nothing is loaded from shared directories."""
import functools
import itertools
import json
import marshal
import math
import os
import re
import subprocess
import sys

import pkg_resources
import pytest
from hypothesis import given, strategies as st

from test_commands import ROOT, environment, run, write_pairs
from text.tokenizers import make_tokenizer
from test_tokenizers import MIXED

JIEBA = make_tokenizer('jieba')
# Words that share characters, among all that tokenisers treat differently.
texts = st.text() | st.text(alphabet=st.sampled_from('研究生命起源北京大学生年用昨天晚上' * 3 + MIXED), max_size=40)
SENTENCES = [
    '研究生命起源', '北京大学生前来应聘', '乒乓球拍卖完了', '那个女人每天去市场', '大卫昨天晚上把桌子放在房间里',
    '他来到了网易杭研大厦', '小明硕士毕业于中国科学院', '长春市长春节讲话', '他说的确实在理', '鿕鿕龘靐齉']


@pytest.mark.parametrize('text, tokens', [
    ('大卫昨天晚上把桌子放在房间里了吗？', ['大卫', '昨天晚上', '把', '桌子', '放在', '房间', '里', '了', '吗', '？']),
    ('我爱Python 3.6，OK？', ['我', '爱', 'Python', '3.6', '，', 'OK', '？']),
    ('约翰·史密斯在2018年用AI-技术', ['约翰', '·', '史密斯', '在', '2018', '年', '用', 'AI', '-', '技术']),
    ("it's \U00020000北京豈", ["it's", '\U00020000', '北京', '豈']),
    ('北\u0301京', ['北\u0301', '京']),
    ('研究生 命\u3000研究\n生命', ['研究生', '命', '研究', '生命']),  # a blank is a border
    (' ', []), ('', []),
])
def test_text_is_divided_into_exactly_these_words(text, tokens):
    assert JIEBA.tokenize(text) == tokens


@functools.lru_cache(None)
def dictionary():
    lines = pkg_resources.resource_string('jieba', 'dict.txt').decode('utf-8').splitlines()
    return {word: int(count) for word, count, *_ in map(str.split, lines)}


def best_cut(text):
    """Of all ways to divide the text, the one whose words have the maximum product of relative frequencies."""
    counts, total = dictionary(), sum(dictionary().values())
    found = []
    for borders in itertools.product([False, True], repeat=len(text) - 1):
        at = [0] + [i for i, border in enumerate(borders, 1) if border] + [len(text)]
        words = [text[i:j] for i, j in zip(at, at[1:])]
        if all(len(word) == 1 or counts.get(word) for word in words):
            found.append((math.fsum(math.log((counts.get(word) or 1) / total) for word in words), words))
    return max(found)[1]


@pytest.mark.parametrize('text', SENTENCES)
def test_words_are_the_most_probable_by_the_dictionary_only(text):
    assert JIEBA.tokenize(text) == best_cut(text)


@pytest.mark.parametrize('text', SENTENCES + [
    '他说：“你好，Hello World！”——好……吗？（对）', '约翰·史密斯在2018年用Python 3.6。', 'Only English, it\'s "fine" (here).'])
def test_detokenised_text_reads_as_it_was_written(text):
    assert JIEBA.detokenize(JIEBA.tokenize(text)) == text


def test_an_unknown_word_stays_separate_and_words_are_joined_although_jieba_would_divide_them_differently():
    assert JIEBA.detokenize(['他', '<unk>', '昨天晚上', 'Python', '好', '。']) == '他<unk>昨天晚上Python好。'
    assert JIEBA.detokenize(['研究生', '命']) == '研究生命'


@given(text=texts)
def test_words_survive_detokenising_of_any_text_without_spaces_between_them(text):
    text = re.sub(r'(?<=[\u4e00-\u9fd5])\s+(?=[\u4e00-\u9fd5])', '', text)
    tokens = JIEBA.tokenize(text)
    assert JIEBA.tokenize(JIEBA.detokenize(tokens)) == tokens
    assert all(JIEBA.tokenize(token) == [token] for token in tokens)


@given(drawn=st.lists(texts, max_size=8), random=st.randoms())
def test_characters_and_their_text_survive_in_any_order_of_words(drawn, random):
    tokens = [token for text in drawn for token in JIEBA.tokenize(text)]
    assert ''.join(tokens) == ''.join(''.join(drawn).split())
    random.shuffle(tokens)
    text = JIEBA.detokenize(tokens)
    assert text.replace(' ', '') == ''.join(tokens) == ''.join(JIEBA.tokenize(text))
    assert JIEBA.detokenize(JIEBA.tokenize(text)) == text


def test_nothing_is_read_from_or_written_to_the_temporary_directory_or_printed(tmp_path):
    """What jieba itself would do: load this cache, in which 昨天晚上 is no word."""
    poison = marshal.dumps(({'昨': 9, '昨天': 9}, 18))
    (tmp_path / 'jieba.cache').write_bytes(poison)
    code = ('import sys\nfrom text.tokenizers import make_tokenizer\n'
            'other = make_tokenizer("chinese")\nassert "jieba" not in sys.modules\n'
            'print(ascii(make_tokenizer("jieba").tokenize("\\u6628\\u5929\\u665a\\u4e0a")))')
    done = subprocess.run([sys.executable, '-c', code], cwd=str(ROOT), env=environment(TMPDIR=str(tmp_path)),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.stdout, done.stderr) == (ascii(['昨天晚上']).encode() + b'\n', b'')
    assert os.listdir(str(tmp_path)) == ['jieba.cache'] and (tmp_path / 'jieba.cache').read_bytes() == poison


@pytest.mark.slow
def test_a_run_has_words_for_its_vocabulary_and_is_exported_with_tokens_in_and_out(tmp_path):
    from test_export import assert_same, serve
    write_pairs(tmp_path / 'a', [('研究生命', '昨天晚上，Python好'), ('北京大学生', '那个女人'), ('大卫去市场', '好')] * 4)
    result = run('train.py', '--train', 'a', '--val', 'a', '--test', 'a', '--run', 'r', '--epochs', '2', '--units', '8',
                 '--embedding', '8', '--threads', '1', '--source-tokenizer', 'jieba', '--target-tokenizer', 'jieba',
                 '--metric', 'bleu', cwd=tmp_path)
    assert result.code == 0, result.stderr
    assert 'prefix dict' not in result.stderr
    vocabulary = (tmp_path / 'r' / 'vocab.target.txt').read_bytes().decode('utf-8').split('\n')
    assert vocabulary[4:-1] == ['好', 'Python', '女人', '昨天晚上', '那个', '，']  # by count, then by code point
    sources = ['研究生命。', '', '北京大学生前来Python']
    result = run('predict.py', '--run', 'r', '--input', '-', '--json', cwd=tmp_path,
                 text='\n'.join(sources + ['']).encode('utf-8'))
    assert result.code == 0, result.stderr
    objects = [json.loads(line) for line in result.stdout.decode('utf-8').splitlines()]
    assert [one['source_tokens'] for one in objects] == list(map(JIEBA.tokenize, sources))
    result = run('export.py', 'r', 'e', cwd=tmp_path)
    assert result.code == 0 and 'jieba has no graph form: the exported model reads and writes tokens' in result.stderr
    longest = max(len(one['source_tokens']) for one in objects)
    given = [one['source_tokens'] + [''] * (longest - len(one['source_tokens'])) for one in objects]
    assert_same(serve(tmp_path / 'e', given, tmp_path, name='tokens'), objects)
