"""Question answering: both file formats, malformed files, and attention on the supporting statements."""
import json
import os
import re
import shlex
import textwrap

import evaluate
from text import corpus, questions
import train
from command_line import UserError
from settings import defaults
from storage.config_file import config_bytes
from test_commands import ROOT, one_line, run
from text.tokenizers import make_tokenizer

import numpy as np
import pytest

BABI = """1 Mary moved to the hall.
2 John took the red milk.
3 Where is Mary? \thall\t1
4 John went to the garden.
5 What does John carry?\tmilk,apple\t2 4
1 Sandra sat.
2 Who sat?\tSandra
"""


def write(path, text):
    path.write_bytes(text.encode('utf-8'))
    return [str(path)]


def test_babi_stories_accumulate_statements_until_number_1(tmp_path):
    found = list(questions.read_questions(write(tmp_path / 'a', BABI), 'babi'))
    assert [one.source for one in found] == [
        'Where is Mary? | Mary moved to the hall. John took the red milk.',
        'What does John carry? | Mary moved to the hall. John took the red milk. John went to the garden.',
        'Who sat? | Sandra sat.']
    assert [one.answer for one in found] == ['hall', 'milk, apple', 'Sandra']
    assert [one.supporting for one in found] == [[0], [1, 2], []]  # statement 4 of the file is the third of the story
    assert corpus.load([str(tmp_path / 'a')], 'babi') == [(one.source, one.answer) for one in found]
    words = make_tokenizer('word')
    assert words.detokenize(words.tokenize('milk, apple')) == 'milk, apple'


def test_a_table_of_context_question_answer_gives_question_and_context(tmp_path):
    paths = write(tmp_path / 'a', 'Rain fell. All day.\tWhat fell?\tcold rain\n')
    assert corpus.load(paths, 'qa') == [('What fell? | Rain fell. All day.', 'cold rain')]
    assert corpus.load(write(tmp_path / 'b', 'x\ty\n')) == [('x', 'y')]


@pytest.mark.parametrize('form, text, told', [
    ('babi', 'Mary moved.\n', 'line 1: does not begin with a number and a space, as bAbI stories do$'),
    ('babi', '\u00b2 Mary moved.\n', 'line 1: does not begin'),  # isdigit() is true, but int() cannot read it
    ('babi', 'a\tb\n', 'line 1: .*; is this a file of source and target[?] --format pairs$'),
    ('babi', 'a\tb\tc\n', 'line 1: .*; is this a file of context, question and answer[?] --format qa$'),
    ('babi', '1 Mary moved.\n3 John sat.\n', 'line 2: has number 3 after 1'),
    ('babi', '2 Mary moved.\n', 'line 1: has number 2 after 0'),
    ('babi', '1 Mary moved.\n2 Where?\thall\t2\n', 'line 2: supporting fact 2'),
    ('babi', '1 Mary moved.\n2 Where?\thall\tx\n', 'line 2: supporting fact x'),
    ('babi', '1 A.\n2 Where?\thall\t1\n3 Where?\thall\t2\n', 'line 3: supporting fact 2'),  # that was a question
    ('babi', '1 Where?\thall\n', 'line 1: a question before'),
    ('babi', '1 A.\n2 Where?\t\t1\n', 'line 2: not question, answer'),
    ('babi', '1 A.\n2 Where?\ta\t1\tb\n', 'line 2: not question, answer'),
    ('babi', '1 \n', 'line 1: has no text'),
    ('babi', '1 A.\n', 'has no question'),
    ('babi', '', 'has no question'),
    ('qa', 'a\tb\n', 'line 1: not context.*; is this a file of source and target[?] --format pairs$'),
    ('qa', '1 Mary moved.\n', 'line 1: not context.*; is this a bAbI file[?] --format babi$'),
    ('qa', 'a\tb\tc\nd\n', 'line 2: not context, question and answer with a tab between them$'),
    ('pairs', '1 Mary moved.\n', 'line 1: no tab.*; is this a bAbI file[?] --format babi$'),
    ('pairs', 'Mary moved.\n', 'line 1: no tab between source and target$'),
    ('qa', 'a\tb\tc\n\n', 'line 2: not context'),
    ('qa', 'a\t \tc\n', 'line 1: not context'),
])
def test_malformed_lines_are_refused_with_file_and_line(tmp_path, form, text, told):
    with pytest.raises(UserError, match='^%s: %s' % (tmp_path / 'a', told)):
        corpus.load(write(tmp_path / 'a', text), form)


def test_the_questions_of_several_files_come_in_order(tmp_path):
    paths = write(tmp_path / 'a', 'a\tb\tc\n') + write(tmp_path / 'b', 'd\te\tf\n')
    assert corpus.load(paths, 'qa') == [('b | a', 'c'), ('e | d', 'f')]


@pytest.mark.parametrize('name', ['word', 'char'])
def test_attention_on_the_supporting_statements_is_counted_by_their_tokens(tmp_path, name):
    tokenize = make_tokenizer(name).tokenize
    found = list(questions.read_questions(write(tmp_path / 'a', BABI), 'babi'))
    alignments, shares, even = [], [], []
    for one in found[:2]:
        tokens = tokenize(one.source)
        weights = np.random.RandomState(len(tokens)).dirichlet(np.ones(len(tokens)), 3)
        # Independent: character offsets of the statements; a blank before a statement counts as its own.
        inside, at = [], 0
        for i, token in enumerate(tokens):
            start = at if name == 'char' else one.source.index(token, at)
            at = start + (1 if name == 'char' else len(token))
            ends = [one.source.index(one.sentences[place]) + len(one.sentences[place]) for place in one.supporting]
            if any(end - len(one.sentences[place]) - (name == 'char') <= start < end
                   for place, end in zip(one.supporting, ends)):
                inside.append(i)
        alignments.append(weights)
        shares.append(weights[:, inside].sum() / 3)
        even.append(len(inside) / len(tokens))
    result = questions.attention_on_support(found, alignments + [np.ones((1, 4))], tokenize)
    assert result == pytest.approx((np.mean(shares), np.mean(even), 2))
    assert 0 < result.even < 1


@pytest.mark.slow
def test_a_run_on_babi_files_reports_its_attention_on_the_facts(tmp_path):
    write(tmp_path / 'a', BABI)
    result = run('train.py', '--task', 'answer', '--train', 'a', '--val', 'a', '--test', 'a', '--format', 'babi',
                 '--run', 'r', '--epochs', '2', '--units', '8', '--embedding', '8', '--threads', '1', cwd=tmp_path)
    assert result.code == 0, result.stderr
    result = run('evaluate.py', '--run', 'r', '--json', cwd=tmp_path)
    values = json.loads(result.stdout.decode('utf-8'))
    assert values['lines'] == 3 and 0 <= values['attention on facts'] <= 1
    assert 'BLEU' not in values and {'exact match', 'SQuAD exact match', 'token F1'} <= set(values)
    write(tmp_path / 'q', '1 Ann went home.\n2 Where is Ann?\n3 Ben left.\n\n4 Who left?\tBen\n')
    for form, lines in (([], 2), (['--format', 'pairs'], 5)):
        result = run('predict.py', '--run', 'r', '--input', 'q', *form, cwd=tmp_path)
        assert (result.code, result.stdout.count(b'\n')) == (0, lines)
    whole = [one.source for one in questions.read_questions(write(tmp_path / 'b', BABI), 'babi')]
    write(tmp_path / 'lines', ''.join(source + '\n' for source in whole))
    outputs = [run('predict.py', '--run', 'r', *arguments, cwd=tmp_path).stdout
               for arguments in (['--input', 'b'], ['--input', 'lines', '--format', 'pairs'])]
    assert outputs[0] == outputs[1]
    result = run('evaluate.py', '--run', 'r', '--test', 'b', '--output', 'out', '--json', cwd=tmp_path)
    assert json.loads(result.stdout.decode('utf-8'))['attention on facts'] == values['attention on facts']
    assert (tmp_path / 'out').read_bytes() == outputs[0]
    one_line(run('predict.py', '--run', 'r', '--input', 'lines', cwd=tmp_path), 'predict.py', 'lines: line 1',
             '--format pairs')
    write(tmp_path / 'a', BABI.replace('4 John', '9 John'))
    one_line(run('evaluate.py', '--run', 'r', cwd=tmp_path), 'evaluate.py', 'a: line 4', 'number 9')


def test_sources_of_other_formats_need_no_answers():
    reader = questions.SourceReader('qa', 'a')
    assert list(reader.sources(['It rained.\tWhat fell?', '', 'Sun.\tWhat shone?\tsun'])) == [
        'What fell? | It rained.', '', 'What shone? | Sun.']
    with pytest.raises(UserError, match='a: line 4: not context and question .*pairs, for bAbI stories --format '
                       'babi$'):
        list(reader.sources(['no tab']))
    reader = questions.SourceReader('babi', 'a')
    assert list(reader.sources(['1 Ann went home.', '2 Is it so?'])) == ['Is it so? | Ann went home.']
    assert list(reader.sources(['3 Ben left.', '4 Who\tBen\t3'])) == ['Who | Ann went home. Ben left.']
    with pytest.raises(UserError, match='a: line 5: has number 9 after 4'):
        list(reader.sources(['9 Ann left.']))
    with pytest.raises(UserError, match='a: line 6: does not begin .*pairs, for context and question --format qa$'):
        list(reader.sources(['Ann left.']))


def test_the_page_of_applications_shows_options_and_formats_that_work(tmp_path, monkeypatch):
    with open(os.path.join(str(ROOT), 'docs', 'applications.md'), encoding='utf-8', newline='\n') as file:
        page = file.read()
    lines = page.replace('\\\n', '')
    commands = re.findall(r'^    \.venv/bin/python (train|evaluate)\.py(.*?)(?: +#.*)?$', lines, re.MULTILINE)
    for name in ('plain', 'old'):
        (tmp_path / 'runs' / name).mkdir(parents=True)
        (tmp_path / 'runs' / name / 'config.json').write_bytes(config_bytes(defaults()))
    monkeypatch.chdir(str(tmp_path))
    for name, arguments in commands:
        {'train': train, 'evaluate': evaluate}[name].parse(shlex.split(arguments))
    blocks = re.findall(r'(?:^ {4,}.*\t.*\n|^ {6}\d .*\n)+', page, re.MULTILINE)
    blocks = [textwrap.dedent(block) for block in blocks]
    forms = ['pairs', 'pairs', 'pairs', 'babi', 'qa']
    assert (len(commands), [block.count('\n') for block in blocks]) == (30, [3] * 5)
    found = [corpus.load(write(tmp_path / 'a', block), form) for form, block in zip(forms, blocks)]
    assert found[3] == [('Where is Ann? | Ann walked to the kitchen. Ben took the lamp.', 'kitchen')]
    assert found[4][0] == ('When did the museum open? | The museum opened on Monday. It is free.', 'on Monday')
