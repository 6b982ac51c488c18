"""The exported model: its tokenisers against those of Python, and its outputs, in a process without this program."""
import json
import os
import random
import re
import shutil
import subprocess
import sys

import tf_session  # noqa: F401  first: it fixes the import order
import numpy as np
import pytest
import tensorflow as tf
from text.batches import pad
from text.vocabulary import PAD, SPECIALS, Vocabulary
import export
from text import graph_text
import beam_search
from test_commands import DIGITS, ROOT, cheap, environment, no_tensorflow, one_line, run, trained  # noqa: F401
from test_docs import python_blocks
from test_predict import location, random_run  # noqa: F401
from text.spacing_marks import MarkingTokenizer
from text.tokenizers import make_tokenizer

# What is hard to tokenise: digits and their marks, accents apart, joiners, quotes, scripts without blanks, blanks of
# all kinds, characters beyond the first plane.
HARD = ["don't", 'a-b', '1,234.5', '.5', '5.', '1:2:3a', 'a.b', '"', "'", '„', '“', '‚', '‘', '”', '’', '(', ')',
        '。', '，', '我', '爱', 'Python', '３', '٣.٤', 'e\u0301', '\u0301', 'हिन्दी', 'ไทย', '😀', '👩\u200d👩',
        '\u3000', '\xa0', '\x1c', '\x85', '\t', '  ', '…', '—', '--', '-', '▁', '▁▁', '<unk>', '<s>', '_', '²', 'Ⅷ',
        '\x00', '\ufeff', '\u2028', '$5', '/', '%', '\U00020000', 'ａ', '·', "''", "rock'n'roll", '1-2.3',
        'x1.2y', '一', '①']
SENTENCES = (ROOT / 'samples' / 'sentences.txt').read_text(encoding='utf-8').split('\n')[:-1] + [
    '', '  \t', 'one two three', 'three,two;one!', '"one" (two)', '我 one爱two', 'unheard-of words', '😀 one',
    'nine ' * 9]


def texts(seed, count):
    chosen = random.Random(seed)
    blocks = (0x20, 0x7f), (0xa0, 0x3000), (0x3000, 0xd800), (0xe000, 0x20000)
    for _ in range(count):
        if chosen.random() < 0.3:
            yield ''.join(chr(chosen.randrange(*chosen.choice(blocks))) for _ in range(chosen.randrange(12)))
        else:
            yield ''.join(chosen.choice(HARD) + ' ' * (chosen.random() < 0.3) for _ in range(chosen.randrange(10)))


@pytest.mark.parametrize('name, marks', [('space', False), ('char', False), ('word', False), ('chinese', False),
                                         ('word', True), ('chinese', True)])
def test_text_in_the_graph_equals_text_in_python(name, marks):
    chosen, tokenizer = random.Random(name), make_tokenizer(name)
    given = list(texts(len(name), 500)) + ['']
    tokens = [tokenizer.tokenize(text) for text in given]
    source_tokenizer = tokenizer
    if marks:  # which only target tokens have
        tokenizer = MarkingTokenizer(tokenizer)
        tokens = [tokenizer.tokenize(text) for text in given]
    known = {token for row in tokens for token in row if chosen.random() < 0.95} - set(SPECIALS)
    vocabulary = Vocabulary(list(SPECIALS) + sorted(known))
    # To be put together: what was taken apart, words at random, and marks that ask for care.
    quotes = [vocabulary.index[mark] for mark in '"\'„“‚‘_' if mark in vocabulary.index] + [5, 6]
    ids = [vocabulary.encode(row) for row in tokens]
    ids += [[chosen.randrange(1, len(vocabulary)) for _ in range(chosen.randrange(1, 12))] for _ in range(300)]
    ids += [[chosen.choice(quotes) for _ in range(chosen.randrange(1, 12))] for _ in range(200)]
    with tf.Graph().as_default(), tf.Session() as one:
        found = graph_text.tokenize(source_tokenizer, tf.constant(given))
        lengths = list(map(len, ids))
        fetched = [found, graph_text.encode(vocabulary, found),
                   graph_text.detokenize(tokenizer, vocabulary, tf.constant(pad(ids)), tf.constant(lengths)),
                   graph_text.decode(vocabulary, tf.constant(pad(ids)), tf.constant(lengths))]
        one.run(tf.tables_initializer())
        rows, encoded, together, decoded = one.run(fetched)
    for text, expected, row, codes in zip(given, tokens, rows, encoded):
        expected = source_tokenizer.tokenize(text)
        assert [token.decode('utf-8') for token in row] == expected + [''] * (len(row) - len(expected)), repr(text)
        assert codes.tolist() == vocabulary.encode(expected) + [PAD] * (len(row) - len(expected))
    for row, text, words in zip(ids, together, decoded):
        assert text.decode('utf-8') == tokenizer.detokenize(vocabulary.decode(row)), vocabulary.decode(row)
        assert [word.decode('utf-8') for word in words] == vocabulary.decode(row) + [''] * (len(words) - len(row))


# What a server does: no module of ours is in reach, nor Keras, nor contrib. Outputs go out as JSON.
SERVER = '''
import json, os, sys
import tensorflow as tf
version, path, name = int(tf.__version__.split('.')[0]), sys.argv[1], sys.argv[2]
given = json.loads(sys.stdin.read())
if version == 1:
    with tf.Session(graph=tf.Graph()) as session:
        signature = tf.saved_model.loader.load(session, ['serve'], path).signature_def['serving_default']
        outputs = {key: value.name for key, value in signature.outputs.items()}
        values = session.run(outputs, {signature.inputs[name].name: given})
    assert not [module for module in sys.modules if (module + '.').startswith(('keras.', 'tensorflow.contrib.'))]
else:
    model = tf.saved_model.load(path)
    values = {key: value.numpy() for key, value in model.signatures['serving_default'](
        **{name: tf.constant(given)}).items()}
def plain(value):
    return [plain(one) for one in value] if isinstance(value, list) else (
        value.decode('utf-8') if isinstance(value, bytes) else value)
assert not [module for module in ('data', 'search', 'graph_text') if module in sys.modules]
print(json.dumps({key: plain(value.tolist()) for key, value in values.items()}))
'''


def serve(path, given, tmp_path, name='text', python=sys.executable):
    (tmp_path / 'elsewhere').mkdir(exist_ok=True)
    (tmp_path / 'elsewhere' / 'serve.py').write_text(SERVER)
    process = subprocess.run([python, 'serve.py', str(path), name], input=json.dumps(given).encode('ascii'),
                             cwd=str(tmp_path / 'elsewhere'), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment(CUDA_VISIBLE_DEVICES='-1'))
    assert process.returncode == 0, process.stderr.decode('utf-8')[-2000:]
    return json.loads(process.stdout.decode('ascii').splitlines()[-1])


SEARCH = ['--beam-width', '4', '--n-best', '3', '--length-penalty', '0.6', '--max-length', '12']


@pytest.fixture(scope='session')
def exported(trained, tmp_path_factory):  # noqa: F811
    """A model exported by the command, and what predict.py gives for `SENTENCES`."""
    folder = tmp_path_factory.mktemp('exported')
    result = run('export.py', *SEARCH, trained.path, 'served/translate/1', cwd=folder)
    assert (result.code, result.stdout) == (0, b''), result.stderr
    assert os.listdir(str(folder / 'served' / 'translate')) == ['1']
    result = run('predict.py', '--run', trained.path, '--input', '-', '--json', *SEARCH, cwd=folder,
                 text='\n'.join(SENTENCES + ['']).encode('utf-8'))
    assert result.code == 0, result.stderr
    objects = [json.loads(line) for line in result.stdout.decode('utf-8').splitlines()]
    return folder / 'served' / 'translate' / '1', objects


def assert_same(served, objects, tolerance=1e-4):
    """Asserts that a server's outputs are those of predict.py; `served` without texts are compared by tokens."""
    assert len(served['scores']) == len(objects)
    for row, one in enumerate(objects):
        tokens = one['source_tokens']
        if 'source_tokens' in served:
            assert [token for token in served['source_tokens'][row] if token] == tokens
        for rank, scores in enumerate(served['scores'][row]):
            ranking = served['rankings'][row][rank]
            if rank >= len(one['hypotheses']):
                assert ranking < -3e38 and not any(served['tokens'][row][rank])
                continue
            expected = one['hypotheses'][rank]
            count = len(expected['tokens'])
            assert served['tokens'][row][rank][:count] == expected['tokens']
            assert not any(served['tokens'][row][rank][count:])
            if 'text' in served:
                assert served['text'][row][rank] == expected['text']
            assert abs(scores - expected['score']) < tolerance and abs(ranking - expected['ranking']) < tolerance
            values = served['log_probabilities'][row][rank]
            assert np.allclose(values[:len(expected['log_probabilities'])], expected['log_probabilities'],
                               atol=tolerance)
            assert not any(values[len(expected['log_probabilities']):])
            if not served['tokens'][row][rank]:
                assert not served['alignment'][row][rank] and not count
                continue
            alignment = np.array(served['alignment'][row][rank])
            assert np.allclose(alignment[:count, :len(tokens)], np.reshape(expected['alignment'], (count, len(tokens))),
                               atol=tolerance)
            assert not alignment[count:].any() and not alignment[:, len(tokens):].any()


@pytest.mark.slow
def test_an_exported_model_gives_the_outputs_of_predict_without_this_program(exported, tmp_path):
    path, objects = exported
    served = serve(path, SENTENCES, tmp_path)
    assert sorted(served) == ['alignment', 'log_probabilities', 'rankings', 'scores', 'source_tokens', 'text', 'tokens']
    assert_same(served, objects)
    assert len({one['hypotheses'][0]['text'] for one in objects}) > 8


@pytest.mark.slow
def test_texts_without_any_token_give_empty_outputs_in_a_batch_of_their_own(exported, tmp_path):
    path, objects = exported
    assert_same(serve(path, ['', ' \t'], tmp_path), [objects[SENTENCES.index('')]] * 2)


SHAPES = '''
import sys
import numpy as np
import tensorflow as tf
with tf.Session(graph=tf.Graph()) as session:
    signature = tf.saved_model.loader.load(session, ['serve'], 'model').signature_def['serving_default']
    (name, given), = signature.inputs.items()
    for shape in [(0,)] if name == 'text' else [(0, 0), (0, 5)]:
        values = session.run({key: value.name for key, value in signature.outputs.items()},
                             {given.name: np.zeros(shape, object)})
        print(*['%s %s' % (key, values[key].shape) for key in sorted(values)], sep='; ')
'''


@pytest.mark.slow
@pytest.mark.parametrize('arguments, expected', [
    ([], ['alignment (0, 1, 0, 1); log_probabilities (0, 1, 1); rankings (0, 1); scores (0, 1); source_tokens (0, 1); '
          'text (0, 1); tokens (0, 1, 0)']),
    (['--beam-width', '3', '--n-best', '2', '--tokens'], [
        'alignment (0, 2, 0, %d); log_probabilities (0, 2, 1); rankings (0, 2); scores (0, 2); tokens (0, 2, 0)' % size
        for size in (1, 5)])], ids=['text', 'tokens'])
def test_a_batch_without_rows_gives_outputs_without_rows(tmp_path, arguments, expected):
    """TensorFlow 1.12 ends the process (SIGFPE) where a bidirectional encoder reverses a batch without rows."""
    random_run(tmp_path / 'run', score='concat', bidirectional=True)
    assert run('export.py', *arguments, 'run', 'model', cwd=tmp_path).code == 0
    done = subprocess.run([sys.executable, '-c', SHAPES], cwd=str(tmp_path), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment())
    assert done.returncode == 0, done.stderr.decode('utf-8')[-1000:]
    assert done.stdout.decode('utf-8').splitlines() == expected


@pytest.mark.slow
@pytest.mark.parametrize('number', [0, 1], ids=['TensorFlow 1.12', 'TensorFlow 2'])
def test_the_examples_of_the_page_on_serving_work(exported, number):
    python = newer_python() if number else sys.executable
    if not python:
        pytest.skip('no Python with TensorFlow 2 found: name one in TENSORFLOW2_PYTHON')
    block = python_blocks('docs/serving.md')[3 + number]
    process = subprocess.run([python, '-c', block], cwd=str(exported[0].parents[2]),
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             env=environment(PYTHONIOENCODING='utf-8'))
    assert process.returncode == 0 and re.match('[%s]+ -[0-9.]+\n' % DIGITS, process.stdout.decode('utf-8'))


@pytest.mark.slow
def test_a_model_for_tokens_gives_the_outputs_of_predict(exported, trained, tmp_path):  # noqa: F811
    result = run('export.py', *SEARCH, '--tokens', trained.path, 'tokens', cwd=tmp_path)
    assert result.code == 0 and 'tokens in;' in result.stderr
    objects = exported[1]
    longest = max(len(one['source_tokens']) for one in objects)
    given = [one['source_tokens'] + [''] * (longest - len(one['source_tokens'])) for one in objects]
    served = serve(tmp_path / 'tokens', given, tmp_path, name='tokens')
    assert sorted(served) == ['alignment', 'log_probabilities', 'rankings', 'scores', 'tokens']
    assert_same(served, objects)


def newer_python():
    """A Python with TensorFlow 2, and the reason if there is none."""
    for python in filter(None, [os.environ.get('TENSORFLOW2_PYTHON'), shutil.which('python3'), '/usr/bin/python3']):
        found = subprocess.run([python, '-c', 'import tensorflow; print(tensorflow.__version__)'], cwd='/',
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment())
        if re.match(b'2[.]', found.stdout.strip().split(b'\n')[-1]):
            return python
    return None


@pytest.mark.slow
def test_a_current_tensorflow_serves_the_exported_model(exported, tmp_path):
    python = newer_python()
    if not python:
        pytest.skip('no Python with TensorFlow 2 found: name one in TENSORFLOW2_PYTHON')
    path, objects = exported
    assert_same(serve(path, SENTENCES, tmp_path, python=python), objects)


@pytest.mark.slow
def test_other_kinds_of_model_are_exported_whole(location, tmp_path):  # noqa: F811
    """Greedy search, the score by location, random weights, words out."""
    sources = ['one two', '', 'three blah', 'two']
    result = run('predict.py', '--run', location, '--input', '-', '--json', cwd=tmp_path,
                 text='\n'.join(sources + ['']).encode())
    assert run('export.py', location, 'model', cwd=tmp_path).code == 0
    assert_same(serve(tmp_path / 'model', sources, tmp_path),
                [json.loads(line) for line in result.stdout.decode('utf-8').splitlines()])


@pytest.mark.parametrize('asked', [
    {}, {'max_length': 7}, {'max_length': 2 ** 40}, {'max_length_ratio': .29}, {'max_length_ratio': 1e9},
    {'max_length_ratio': 1.5, 'max_length': 4}, {'min_length': 40}, {'min_length': 4, 'max_length_ratio': .5},
    {'min_length': 4, 'max_length': 4}])
def test_maximum_lengths_in_the_graph_are_those_in_numpy(asked):
    asked, lengths = beam_search.Options(**asked), [1, 2, 3, 7, 100]
    with tf.Graph().as_default(), tf.Session() as one:
        found = one.run(beam_search.max_lengths(tf.constant(lengths), asked, tf))
    assert found.tolist() == beam_search.max_lengths(lengths, asked).tolist()


@pytest.mark.slow
def test_the_search_has_the_settings_of_the_run_and_options_override_them(tmp_path):
    random_run(tmp_path / 'run', beam_width=3, length_penalty=.6, coverage_penalty=.3, min_length=4, max_length=6,
               no_repeat_ngram=2, long_sources='truncate', max_source_length=3)
    sources = ['one two', '', 'three blah two one', 'two']
    lengths = []
    for name, given in (('own', []), ('given', ['--beam-width', '2', '--n-best', '2', '--min-length', '0',
                                                '--max-length-ratio', '1.5', '--coverage-penalty', '0'])):
        result = run('predict.py', '--run', 'run', '--input', '-', '--json', *given, cwd=tmp_path,
                     text='\n'.join(sources + ['']).encode())
        assert run('export.py', *given, 'run', name, cwd=tmp_path).code == 0
        objects = [json.loads(line) for line in result.stdout.decode('utf-8').splitlines()]
        assert_same(serve(tmp_path / name, sources, tmp_path), objects)
        lengths.append([len(one['hypotheses'][0]['tokens']) for one in objects if one['source_tokens']])
    assert [len(one['source_tokens']) for one in objects] == [2, 0, 3, 1]
    assert all(4 <= length <= 6 for length in lengths[0]) and lengths[0] != lengths[1]


@pytest.mark.slow
def test_a_tokeniser_without_graph_form_gives_a_model_for_tokens_and_a_message(
        location, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(graph_text, 'has_graph_form', lambda tokenizer: False)
    export.main([str(location), str(tmp_path / 'model')])
    told = capsys.readouterr().err
    assert 'word has no graph form: the exported model reads and writes tokens' in told and 'tokens in;' in told
    with tf.Session(graph=tf.Graph()) as one:
        signature = tf.saved_model.loader.load(one, ['serve'], str(tmp_path / 'model')).signature_def['serving_default']
    assert sorted(signature.inputs) == ['tokens'] and 'text' not in signature.outputs


def test_export_refuses_before_it_loads_tensorflow(cheap, tmp_path):  # noqa: F811
    (tmp_path / 'there').mkdir()
    one_line(cheap('export.py', 'missing', 'there'), 'export.py', 'there', 'new directory')
    one_line(cheap('export.py', 'missing', 'new'), 'export.py', 'missing')
    result = cheap('export.py', '--n-best', '2', '--beam-width', '1', 'missing', 'new')
    assert result.code == 2 and '--beam-width' in result.stderr
    result = cheap('export.py', '--min-length', '3', '--max-length', '2', 'missing', 'new')
    assert result.code == 2 and '--max-length 2' in result.stderr
    assert os.listdir(str(tmp_path)) == ['there']


@pytest.mark.slow
def test_a_run_with_stories_and_hops_is_exported(tmp_path):
    random_run(tmp_path / 'run', encoder='dmn', hops=3, cell='gru', score='general')
    lines = ['one two ? | two three . one three two . three .', 'three | one . ? two', '', 'two ? |', 'one two']
    (tmp_path / 'text').write_text('\n'.join(lines) + '\n')
    result = run('predict.py', '--run', 'run', '--input', 'text', '--json', *SEARCH, cwd=tmp_path)
    assert run('export.py', *SEARCH, 'run', 'model', cwd=tmp_path).code == 0
    assert_same(serve(tmp_path / 'model', lines, tmp_path),
                [json.loads(line) for line in result.stdout.decode('utf-8').splitlines()])


@pytest.mark.slow
@pytest.mark.parametrize('tokenizer, given', [('space', 'text'), ('word', 'tokens')])
def test_a_copying_run_is_exported(tokenizer, given, tmp_path):
    """Names without an id are copied, from their first position and from others."""
    random_run(tmp_path / 'run', copy=True, source_tokenizer=tokenizer, target_tokenizer=tokenizer)
    lines = ['one Oakham two Oakham Brockley', 'Brockley three Norwick', '', 'one two', 'Oakham']
    (tmp_path / 'text').write_text('\n'.join(lines) + '\n')
    result = run('predict.py', '--run', 'run', '--input', 'text', '--json', *SEARCH, cwd=tmp_path)
    objects = [json.loads(line) for line in result.stdout.decode('utf-8').splitlines()]
    done = run('export.py', *SEARCH, 'run', 'model', cwd=tmp_path)
    assert done.code == 0 and (given == 'text') == ('no graph form' not in done.stderr), done.stderr
    rows = [line.split() for line in lines]
    texts = lines if given == 'text' else [row + [''] * (5 - len(row)) for row in rows]
    assert_same(serve(tmp_path / 'model', texts, tmp_path, given), objects)
    words = {token for one in objects for hypothesis in one['hypotheses'] for token in hypothesis['tokens']}
    assert words & {'Oakham', 'Brockley', 'Norwick'}
