"""Search, formats and streams of predict.py: real processes on a task that a small model learns, and their parts."""
import bz2
import collections
import gzip
import json
import math
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from text.vocabulary import SPECIALS, Vocabulary
from text import line_reader, questions
from reports import output_formats
import predict
from storage.run_directory import RunDirectory
from command_line import UserError
from settings import defaults
from test_commands import (HARD, ROOT, Result, cheap, environment, no_tensorflow, one_line, run,  # noqa: F401
                           start, trained)
from text.tokenizers import make_tokenizer


# Usage

@pytest.mark.parametrize('arguments, told', [
    (['--n-best', '3', '--beam-width', '2'], '--beam-width'),
    (['--beam-width', '0'], "'0'"),
    (['--length-penalty', 'mean'], "'mean'"),
    (['--length-penalty', '-1'], "'-1'"),
    (['--coverage-penalty', 'nan'], "'nan'"),
    (['--max-length-ratio', '0'], '--max-length-ratio'),
    (['--min-length', '5', '--max-length', '4'], '--max-length 4'),
    (['--json', '--scores'], '--scores'),
    (['--score-pairs'], '--input'),
    (['--score-pairs', '--input', '-', '--beam-width', '1'], '--beam-width'),
    (['--score-pairs', '--input', '-', '--replace-unk'], '--replace-unk'),
    (['--coverage-penalty', '1e308'], "'1e308' is not a number from 0 to"),
    (['--beam-width', '1000000'], 'to 1000'), (['--threads', '1000000000'], 'to 512'),
    (['--min-length', '1000000'], 'to 10000'), (['--min-length', 'x'], 'from 0 to'),
    (['--batch-size', '1' + '0' * 20], 'to 65536'), (['--no-repeat-ngram', str(2 ** 52)], 'to 100'),
    (['--no-repeat-ngram', '2.5'], "'2.5'"),
])
def test_options_that_contradict_one_another_are_wrong_usage(capsys, arguments, told):
    with pytest.raises(SystemExit) as ended:
        predict.parse(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == '' and told in err.splitlines()[-1]


def test_the_command_ends_with_2_where_options_contradict_one_another(cheap):  # noqa: F811
    result = cheap('predict.py', '--n-best', '3', '--beam-width', '2')
    assert (result.code, result.stdout) == (2, b'') and result.stderr.startswith('predict.py: error: ')


def untrained(path, **config):
    """A run directory that is complete except for its weights."""
    RunDirectory.create(str(path), dict(defaults(), **config), {}, {}).close()


@pytest.mark.parametrize('arguments, told', [
    (['--replace-unk'], ['none', '--replace-unk']),
    (['--plot-dir', 'p', '--coverage-penalty', '0.1'], ['none', '--coverage-penalty']),
    (['--html', 'no/such/folder/page.html'], ['no/such/folder/page.html']),
    (['--html', 'text'], ['text', '--html']),
    (['--output', 'a', '--html', './a'], ['./a', '--output', '--html']),
])
def test_impossible_requests_are_refused_before_tensorflow_is_loaded(cheap, tmp_path, arguments, told):  # noqa: F811
    untrained(tmp_path / 'r', score='none')
    (tmp_path / 'text').write_bytes(b'one\n')
    one_line(cheap('predict.py', '--run', 'r', '--input', 'text', *arguments), 'predict.py', *told)
    assert (tmp_path / 'text').read_bytes() == b'one\n'


@pytest.mark.parametrize('content, told', [
    (b'one\tI\ntwo\n', ['words: line 2', 'no tab']),
    (b'one\t\xff\n', ['words: line 1, byte 5: 0xFF']),
    (b'', ['words: ', 'empty'])])
def test_an_invalid_dictionary_is_refused_with_its_line(cheap, tmp_path, content, told):  # noqa: F811
    untrained(tmp_path / 'r')
    (tmp_path / 'words').write_bytes(content)
    one_line(cheap('predict.py', '--run', 'r', '--input', '-', '--replace-unk', 'words'), 'predict.py', *told)


TABLE = b'one two\tI II\n\nthree\tIII\n'


@pytest.mark.parametrize('name, content, told', [
    ('a.tsv', TABLE, ['a.tsv: each line has a tab', 'cut -f1', '--score-pairs', '--format pairs']),
    ('a.tsv.bz2', bz2.compress(TABLE), ['each line has a tab']),
    ('a.jsonl', b'{}\n', ['a.jsonl', 'evaluate.py --test a.jsonl --output FILE']), ('a.csv', b'one\n', ['a.csv']),
    ('a b.tmx', b'<tmx/>\n', ["evaluate.py --test 'a b.tmx'"])])
def test_a_table_is_refused_before_tensorflow_is_loaded(cheap, tmp_path, name, content, told):  # noqa: F811
    untrained(tmp_path / 'r')
    (tmp_path / name).write_bytes(content)
    one_line(cheap('predict.py', '--run', 'r', '--input', name), 'predict.py', *told)


def test_only_the_lines_of_a_table_are_refused_as_sources():
    lines = TABLE.decode('utf-8').split('\n')
    for given in (lines[:1], lines):
        with pytest.raises(UserError, match='^x: each line has a tab'):
            list(questions.SourceReader('pairs', 'x').sources(given))
        assert list(questions.SourceReader('pairs', 'x', as_it_is=True).sources(given)) == given
    for given in ([''], ['\t', 'a\t'], lines + ['no tab']):
        reader = questions.SourceReader('pairs', 'x')
        assert list(reader.sources(given)) == given and list(reader.sources(lines)) == lines


# Formats

TEXT = '\n'.join(HARD).encode('utf-8') + b'\n'


@pytest.fixture(scope='session')
def objects(trained, tmp_path_factory):  # noqa: F811
    """The output of --json for `HARD`, and the page."""
    page = tmp_path_factory.mktemp('page') / 'page.html'
    result = run('predict.py', '--input', '-', '--beam-width', '4', '--n-best', '3', '--length-penalty', 'average',
                 '--json', '--html', page, cwd=trained.home, text=TEXT)
    assert result.code == 0, result.stderr
    lines = result.stdout.decode('utf-8').split('\n')
    assert len(lines) == len(HARD) + 1 and lines[-1] == ''

    def refuse(name):
        raise AssertionError('%s is not JSON' % name)
    return [json.loads(line, parse_constant=refuse) for line in lines[:-1]], page.read_bytes().decode('utf-8')


def test_json_has_all_of_each_hypothesis_best_first(objects):
    words, target = make_tokenizer('word'), make_tokenizer('chinese')
    several = 0
    for source, one in zip(HARD, objects[0]):
        assert list(one) == ['source', 'source_tokens', 'hypotheses']
        assert (one['source'], one['source_tokens']) == (source, words.tokenize(source))
        several += len(one['hypotheses']) == 3
        rankings = [hypothesis['ranking'] for hypothesis in one['hypotheses']]
        assert rankings == sorted(rankings, reverse=True)
        for hypothesis in one['hypotheses']:
            tokens, values = hypothesis['tokens'], hypothesis['log_probabilities']
            assert hypothesis['text'] == target.detokenize(tokens)
            assert len(values) - len(tokens) in (0, 1) and all(value <= 0 for value in values)
            assert abs(math.fsum(values) - hypothesis['score']) < 1e-4
            if values:
                assert abs(hypothesis['score'] / len(values) - hypothesis['ranking']) < 1e-4
            alignment = hypothesis['alignment']
            assert [len(row) for row in alignment] == [len(one['source_tokens'])] * len(tokens)
            assert all(abs(sum(row) - 1) < 1e-3 for row in alignment)
    assert several > len(HARD) / 2
    assert objects[0][1]['hypotheses'] == [dict(text='', tokens=[], score=0, ranking=0, log_probabilities=[],
                                                alignment=[])]


def test_the_page_has_the_sentences_and_hypotheses_of_the_json(objects):
    shown = json.loads(re.search('id="data">(.*?)</script>', objects[1], re.DOTALL).group(1))['sentences']
    assert [one['source'] for one in shown] == HARD
    for page, one in zip(shown, objects[0]):
        assert [(each['text'], each['tokens']) for each in page['hypotheses']] == [
            (each['text'], each['tokens']) for each in one['hypotheses']]
        for each, other in zip(page['hypotheses'], one['hypotheses']):
            assert np.allclose(np.array(each['weights']) / 1000, other['alignment'], atol=6e-4)


@pytest.mark.slow
def test_numbered_lines_have_line_rank_score_and_text_of_the_same_hypotheses(trained, objects):  # noqa: F811
    result = run('predict.py', '--input', '-', '--beam-width', '4', '--n-best', '3', '--length-penalty', 'average',
                 '--scores', cwd=trained.home, text=TEXT)
    rows = [line.split('\t') for line in result.stdout.decode('utf-8').split('\n')[:-1]]
    expected = [(number, rank, each) for number, one in enumerate(objects[0], 1)
                for rank, each in enumerate(one['hypotheses'], 1)]
    assert [(int(number), int(rank), text) for number, rank, _, text in rows] == [
        (number, rank, each['text'].replace('\n', ' ')) for number, rank, each in expected]
    assert all(abs(float(row[2]) - each['score']) < 2e-4 for row, (_, _, each) in zip(rows, expected))


def test_pairs_get_the_scores_that_the_search_gave_them_up_to_the_first_bad_line(trained, objects,  # noqa: F811
                                                                                 tmp_path):
    # Text of the target that gives its tokens again, and an output that came to its end.
    pairs = [(one['source'], each) for one in objects[0] for each in one['hypotheses']
             if '\t' not in one['source'] and len(each['log_probabilities']) > len(each['tokens']) > 0
             and '<unk>' not in each['tokens']]
    assert len(pairs) > 8
    text = ''.join('%s\t%s\tthird column\n' % (source, each['text']) for source, each in pairs)
    result = run('predict.py', '--score-pairs', '--input', '-', '--html', tmp_path / 'page.html', cwd=trained.home,
                 text=(text + '\t一\n\t\nno tab\none\tx\n').encode('utf-8'))
    values = [float(line) for line in result.stdout.decode('ascii').split('\n')[:-1]]
    assert np.allclose(values[:-2], [each['score'] for _, each in pairs], atol=2e-4)
    assert len(values) == len(pairs) + 2 and max(values[-2:]) < 0  # sides without text have a score, too
    assert result.code == 1
    assert result.stderr == ('predict.py: standard input: line %d: no tab between source and target\n'
                             % (len(pairs) + 3))
    assert pairs[-1][1]['text'].encode('utf-8') in (tmp_path / 'page.html').read_bytes()


Hypothesis = collections.namedtuple('Hypothesis', 'text tokens score log_probabilities alignment ranking '
                                    'source_tokens unknown copied')


def hypothesis(tokens, alignment, text='', source_tokens=()):
    return Hypothesis(text, tokens, 0., [], np.array(alignment, 'f'), 0., list(source_tokens), (), ())


def test_each_text_format_has_its_columns():
    best, other = [hypothesis([], [], text)._replace(score=score) for text, score in (('a\nb', -.25), ('c', -1.5))]
    assert [make(7, 's', [best, other]) for make in (
        output_formats.best_line, output_formats.scored_line, output_formats.score_line,
        output_formats.numbered_lines, output_formats.scored_numbered_lines)] == [
            'a b', '-0.2500\ta b', '-0.2500', '7\t1\ta b\n7\t2\tc', '7\t1\t-0.2500\ta b\n7\t2\t-1.5000\tc']


def test_unknown_words_are_replaced_by_the_dictionary_or_the_source_word_with_most_attention(tmp_path):
    (tmp_path / 'words').write_bytes('Anna\t安娜\nYork\tNew York\nAnna\t安\n'.encode('utf-8'))
    word, chinese = make_tokenizer('word'), make_tokenizer('chinese')
    source = ['Anna', 'saw', 'York']
    given = hypothesis(['<unk>', '看', '<unk>', '。', '<unk>'],
                       [[.5, .3, .2], [0, 1, 0], [0, .4, .6], [0, 0, 1], [.1, .8, .1]], '', source)
    made = output_formats.UnknownWords(str(tmp_path / 'words')).replace(given, word, chinese)
    assert made.tokens == ['安娜', '看', 'New York', '。', 'saw'] and made.text == '安娜看New York。saw'
    made = output_formats.UnknownWords('').replace(given, word, chinese)
    assert made.tokens == ['Anna', '看', 'York', '。', 'saw'] and made.text == 'Anna看York。saw'
    known = hypothesis(['a'], [[1, 0, 0]], 'kept', source)
    assert output_formats.UnknownWords('').replace(known, word, word) is known
    space = hypothesis(['x', '<unk>'], [[1, 0], [0, 1]], '', ['a', '▁'])
    assert output_formats.UnknownWords('').replace(space, make_tokenizer('char'), word).text == 'x'


def test_a_page_has_the_first_sentences_and_a_message_names_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(output_formats, 'MAXIMUM_SENTENCES', 3)
    page = output_formats.Page(str(tmp_path / 'page.html'))
    for n in range(1, 6):
        page.write(n, 'text %d' % n, [hypothesis(['b'], [[1]], '', ['a'])])
    page.close()
    text = (tmp_path / 'page.html').read_bytes().decode('utf-8')
    assert 'text 3' in text and 'text 4' not in text
    assert 'first 3 sentences and omits the other 2' in capsys.readouterr().err


def test_infinity_and_nan_are_null_in_json():
    one = hypothesis(['b'], [[1]])._replace(score=-np.inf, ranking=float('nan'), log_probabilities=[-1e-9])
    made = json.loads(output_formats.json_line(1, 'a', [one]))['hypotheses'][0]
    assert (made['score'], made['ranking'], made['log_probabilities']) == (None, None, [0])
    made = json.loads(output_formats.json_line(1, 'a', [one._replace(alignment=None)]))['hypotheses'][0]
    assert made['alignment'] is None


# Streams

@pytest.fixture
def pipe():
    """A pipe: the reader of its lines, and a function that writes to it (None closes it)."""
    out, into = os.pipe()

    def write(content):
        if content is None:
            os.close(into)
        else:
            os.write(into, content)
    yield line_reader.LineReader('-', out, 'error'), write
    os.close(out)


def test_a_pipe_gives_the_lines_that_have_arrived_without_waiting_for_a_full_chunk(pipe):
    reader, write = pipe
    chunks = reader.chunks(3)
    write('\ufeffone\r\n二\nth'.encode('utf-8'))
    assert next(chunks) == ['one', '二']
    write('ree\n4\n5\n6\n七'.encode('utf-8')[:-2])
    assert next(chunks) == ['three', '4', '5']
    assert next(chunks) == ['6']
    write('七'.encode('utf-8')[1:])
    write(None)
    assert next(chunks) == ['七'] and next(chunks, None) is None


def test_a_bad_byte_in_a_pipe_comes_after_the_lines_before_it(pipe):
    reader, write = pipe
    write(b'one\ntwo\nthr\xff\nfour\n')
    chunks = reader.chunks(8)
    assert next(chunks) == ['one', 'two']
    with pytest.raises(UserError, match='standard input: line 3, byte 4: 0xFF'):
        next(chunks)


def test_lines_longer_than_a_block_are_joined(tmp_path):
    lines = ['x' * 5000000, '', 'y' * 200000, 'z']
    (tmp_path / 'text').write_bytes('\n'.join(lines).encode())
    with open(str(tmp_path / 'text'), 'rb') as file:
        reader = line_reader.LineReader('-', file.fileno(), 'error')
        assert [line for chunk in reader.chunks(2) for line in chunk] == lines


def test_a_directory_as_standard_input_is_a_user_error(tmp_path):
    descriptor = os.open(str(tmp_path), os.O_RDONLY)
    with pytest.raises(UserError, match='standard input: cannot be read .Is a directory.'):
        next(line_reader.LineReader('-', descriptor, 'error').chunks(1))
    os.close(descriptor)


def test_each_line_is_answered_while_the_pipe_stays_open(trained):  # noqa: F811
    process = start('predict.py', '--input', '-', cwd=trained.home)
    answers = []
    for part in (b'one two\nthree\n', b'\nfo', b'ur\n'):
        process.stdin.write(part)
        process.stdin.flush()
        answers += [process.stdout.readline() for _ in range(part.count(b'\n'))]
    out, err = process.communicate(b'\xff\n')
    assert (process.returncode, out) == (1, b'')
    assert answers[2] == b'\n' and all(answers[n].strip() for n in (0, 1, 3))
    assert err.decode('utf-8').startswith('predict.py: standard input: line 5, byte 1: 0xFF')


def random_run(path, words=('one', 'two', 'three'), **changes):
    """A run with random weights whose outputs have `<unk>`. words: of both vocabularies."""
    import tf_session
    from keras import backend as K
    from seq2seq_model import Seq2Seq
    from settings import with_defaults
    from small_models import set_weights
    from text.questions import separators
    stories = changes.get('encoder') in ('dmn', 'memory')
    words = Vocabulary(list(SPECIALS) + list(words) + ['|', '.', '?'] * stories)
    config = dict(defaults(), **dict(dict(units=4, embedding=4, threads=1, target_tokenizer='word'), **changes))
    vocabularies = {'vocab.%s.txt' % side: words.to_bytes() for side in ('source', 'target')}
    with RunDirectory.create(str(path), config, vocabularies, {}) as directory, tf_session.temporary(threads=1):
        model = Seq2Seq(with_defaults(config), len(words), len(words), separators(with_defaults(config), words))
        set_weights(model, seed=3, scale=3.)
        directory.write_weights([(layer.name, [(weight.name, value) for weight, value in
                                               zip(layer.weights, K.batch_get_value(layer.weights))])
                                 for layer in model.training_model.layers if layer.weights])
    return path


@pytest.fixture(scope='session')
def location(tmp_path_factory):
    """A run, with random weights, for sources of three tokens at most."""
    return random_run(tmp_path_factory.mktemp('location') / 'run', score='location', max_source_length=3)


@pytest.mark.slow
def test_a_line_too_long_for_the_model_is_named_after_the_output_of_those_above_it(location, tmp_path):
    (tmp_path / 'text').write_bytes(b'one two\n\nthree blah\none one one one\ntwo\n')
    (tmp_path / 'words').write_bytes(b'blah\tBlah-blah!\none\t1\n')
    result = run('predict.py', '--run', location, '--input', 'text', '--json', '--min-length', '4', '--replace-unk',
                 'words', '--html', 'page.html', cwd=tmp_path)
    assert result.code == 1
    assert re.fullmatch('predict.py: text: line 4: a source of 4 tokens is longer than the 3 .*\n', result.stderr)
    made = [json.loads(line) for line in result.stdout.decode('utf-8').splitlines()]
    assert [one['source'] for one in made] == ['one two', '', 'three blah']
    put = {'one': '1', 'two': 'two', 'three': 'three', 'blah': 'Blah-blah!'}
    replaced = 0
    for one in made:
        for token, row in zip(one['hypotheses'][0]['tokens'], one['hypotheses'][0]['alignment']):
            if token not in ('one', 'two', 'three'):
                assert token == put[one['source_tokens'][int(np.argmax(row))]]
                replaced += 1
    assert replaced
    assert b'three blah' in (tmp_path / 'page.html').read_bytes()  # written in spite of the mistake


# The slow ones

@pytest.mark.slow
def test_an_ensemble_of_a_run_with_itself_gives_the_outputs_of_the_run(trained, objects):  # noqa: F811
    result = run('predict.py', '--run', 'runs/numbers', '--run', trained.path, '--input', '-', '--beam-width', '4',
                 '--length-penalty', 'average', '--scores', cwd=trained.home, text=TEXT)
    rows = [line.split('\t', 1) for line in result.stdout.decode('utf-8').split('\n')[:-1]]
    best = [one['hypotheses'][0] for one in objects[0]]
    assert [text for _, text in rows] == [one['text'].replace('\n', ' ') for one in best]
    assert all(abs(float(score) - one['score']) < 2e-4 for (score, _), one in zip(rows, best))
    assert result.stderr.startswith('runs/numbers + %s: ' % trained.path)


def read_for(descriptor, pattern, seconds=60):
    """The output of a terminal until it contains the pattern."""
    seen, deadline = b'', time.time() + seconds
    while not re.search(pattern, seen):
        assert select.select([descriptor], [], [], max(0, deadline - time.time()))[0], seen
        seen += os.read(descriptor, 4096)
    return seen


@pytest.mark.slow
def test_at_a_terminal_each_line_is_answered_and_control_d_ends(trained):  # noqa: F811
    master, terminal = pty.openpty()
    process = subprocess.Popen([sys.executable, str(ROOT / 'predict.py'), '--input', '-'], cwd=str(trained.home),
                               env=environment(), stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    read_for(master, b'Ctrl-D ends')
    os.write(master, b'one two three\n')
    seen = read_for(master, b'\xe4[^\r]*\r\n')  # Chinese digits
    assert b'lines' not in seen  # no progress bar between the answers
    os.write(master, b'\x04')
    read_for(master, b'1 line in ')
    assert process.wait() == 0
    os.close(master)


@pytest.mark.slow
def test_control_c_at_a_terminal_ends_with_130(trained):  # noqa: F811
    process = start('predict.py', '--input', '-', cwd=trained.home)
    process.stdin.write(b'one\n')
    process.stdin.flush()
    assert process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert process.stderr.read() == b'predict.py: stopped by SIGINT\n'


@pytest.mark.slow
def test_a_terminal_sees_progress_where_the_output_goes_to_a_file(trained, tmp_path):  # noqa: F811
    master, terminal = pty.openpty()
    (tmp_path / 'in').write_bytes(b'one two\n' * 20000)
    # A fast machine is done before progress is first shown: here it is shown at once.
    at_once = ('import predict, reports.progress; reports.progress.SECONDS_BEFORE_BAR = 0; '
               'predict.run_command(predict.main, "predict.py")')
    process = subprocess.Popen([sys.executable, '-c', at_once, '--input', str(tmp_path / 'in'), '--output',
                                str(tmp_path / 'out')], cwd=str(trained.home),
                               env=dict(environment(), PYTHONPATH=str(ROOT)), stderr=terminal)
    os.close(terminal)
    seen = read_for(master, b'20000 lines in ')
    assert process.wait() == 0
    assert re.search(b'[0-9]+%[^\r]*[0-9,]+ of 20,000 lines', seen)
    os.close(master)


def peak_memory(pid):
    with open('/proc/%d/status' % pid) as lines:
        return int(re.search('VmHWM:\\s+([0-9]+) kB', lines.read()).group(1)) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='needs /proc')
def test_a_hundred_thousand_lines_come_out_in_order_and_take_no_more_memory_than_the_first(trained, tmp_path):  # noqa: F811,E501
    words = 'zero one two three four five six seven eight nine'.split()
    lines = [words[n % 10] for n in range(100000)]
    (tmp_path / 'in').write_bytes('\n'.join(lines).encode())
    with open(str(tmp_path / 'in'), 'rb') as file:
        process = start('predict.py', '--input', '-', '--batch-size', '256', '--json', '--html', tmp_path / 'page.html',
                        cwd=trained.home, stdin=file)
    answers, memory = [], []
    for n in range(100000):
        answers.append(json.loads(process.stdout.readline().decode('utf-8'))['hypotheses'][0]['text'])
        if n in (20000, 99990):
            memory.append(peak_memory(process.pid))
    assert process.stdout.read() == b'' and process.wait() == 0
    assert answers == [answers[n % 10] for n in range(100000)] and len(set(answers[:10])) == 10
    assert memory[1] - memory[0] < 16, memory


# Shards

@pytest.mark.slow
@pytest.mark.parametrize('count, name', [(3, 'in'), (7, 'in.gz')])
def test_the_outputs_of_all_shards_in_order_are_the_output_of_one_process(trained, tmp_path, count, name):  # noqa: F811
    text = ''.join('%s\n' % line for line in HARD * 20).encode('utf-8')[:-1]
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith('.gz') else text)
    options = ['--run', trained.path, '--input', name, '--batch-size', '2', '--beam-width', '3', '--n-best', '2']
    for kind in [[], ['--json']]:
        whole = run('predict.py', *options, *kind, cwd=tmp_path)
        parts = [run('predict.py', *options, *kind, '--shard', '%d/%d' % (i, count), cwd=tmp_path)
                 for i in range(1, count + 1)]
        assert [part.code for part in parts] == [0] * count and all(part.stdout for part in parts)
        assert b''.join(part.stdout for part in parts) == whole.stdout and whole.stdout


def test_a_shard_has_whole_chunks_and_every_line_is_in_one():
    for lines in (0, 1, 31, 32, 33, 1000):
        for count in (1, 3, 7, 50):
            reader = line_reader.LineReader('-', 0, 'error')
            parts = [predict.part_of_lines((i, count), lines, 16, reader) for i in range(1, count + 1)]
            assert [i for part in parts for i in part] == list(range(lines))
            assert all(part.start % 16 == 0 for part in parts)


def test_a_shard_of_a_pipe_is_refused(cheap, tmp_path):  # noqa: F811
    for text in ('0/3', '4/3', '1', '1/0', 'a/b', '1/10000000'):
        result = cheap('predict.py', '--shard', text)
        assert result.code == 2 and 'is not I/N with I from 1 to N' in result.stderr
    untrained(tmp_path / 'r')
    one_line(cheap('predict.py', '--run', 'r', '--input', '-', '--shard', '1/3'), 'predict.py', 'standard input',
             '--shard needs a file')
    for name, text, expected in (('a', b'', 0), ('b', b'x', 1), ('c', b'x\n\ny\n', 3),
                                 ('d.gz', gzip.compress(b'x\ny'), 2),
                                 ('e.gz', b'no gzip', None)):
        (tmp_path / name).write_bytes(text)
        assert line_reader.LineReader(str(tmp_path / name), None, 'error').count() == expected
    assert line_reader.LineReader(str(tmp_path / 'c'), None, 'error').count(largest=3) is None


# Input that is no text

def test_input_that_is_no_text_or_has_no_end_is_refused_in_one_line(no_tensorflow, tmp_path):  # noqa: F811
    untrained(tmp_path / 'r')
    with gzip.open(str(tmp_path / 'bomb.gz'), 'wb', compresslevel=1) as stream:
        for _ in range(256):
            stream.write(b'x' * 2 ** 20)
    (tmp_path / 'cr').write_bytes(b'nine\rfive\r')
    (tmp_path / 'utf16').write_bytes('nine\n'.encode('utf-16'))
    assert (tmp_path / 'bomb.gz').stat().st_size < 2 ** 22
    limited = ['sh', '-c', 'ulimit -v 1000000; exec "$@"', 'sh', sys.executable, str(ROOT / 'predict.py')]
    for name, told in (('bomb.gz', 'line 1 has more than 16777216 bytes'),
                       ('cr', 'line ends are carriage returns only'),
                       ('utf16', 'is UTF-16')):
        done = subprocess.run(limited + ['--run', 'r', '--input', name], cwd=str(tmp_path), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=environment(PYTHONPATH=no_tensorflow))
        one_line(Result(done.returncode, done.stdout, done.stderr.decode('utf-8')), 'predict.py', name, told)


@pytest.mark.slow
def test_a_device_without_an_end_is_refused_before_it_fills_the_memory(trained, tmp_path):  # noqa: F811
    done = subprocess.run(['sh', '-c', 'ulimit -v 8000000; exec "$@"', 'sh', sys.executable, str(ROOT / 'predict.py'),
                           '--run', str(trained.path), '--input', '/dev/zero'], cwd=str(tmp_path),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    one_line(Result(done.returncode, done.stdout, done.stderr.decode('utf-8')), 'predict.py',
             '/dev/zero: line 1 has more than 16777216 bytes')


@pytest.mark.parametrize('content, told', [
    (b'nine\rfive\r', 'carriage returns only'), (gzip.compress(b'nine\n' * 99), 'is gzip data'),
    ('nine\n'.encode('utf-16'), 'is UTF-16'), (b'a' * (2 ** 24 + 1), 'line 1 has more than 16777216 bytes')],
                         ids=['CR', 'gzip', 'UTF-16', 'no line end'])
def test_a_pipe_that_is_no_text_is_refused(tmp_path, content, told):
    (tmp_path / 'text').write_bytes(content)
    with open(str(tmp_path / 'text'), 'rb') as stream:
        with pytest.raises(UserError, match=told):
            next(line_reader.LineReader('-', stream.fileno(), 'error').chunks(1))


def test_json_escapes_what_other_programs_take_for_a_line_end_and_what_a_terminal_obeys():
    text = 'a\u2028b\u2029c\x85d\x7fe\x1bf\n\x9bg'
    line = output_formats.json_line(1, text, [hypothesis([text], [[1]], text, [text])])
    assert len(line.splitlines()) == 1 and all(' ' <= one <= '~' for one in line)
    made = json.loads(line)
    assert made['source'] == made['hypotheses'][0]['text'] == made['source_tokens'][0] == text
    assert made['hypotheses'][0]['tokens'] == [text]
