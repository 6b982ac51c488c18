"""The commands in separate processes, as users run them, in an ASCII locale, on a task that a small model learns."""
import argparse
import collections
import csv
import fcntl
import gzip
import hashlib
import io
import json
import os
import pathlib
import pickle
import random
import re
import shutil
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest
from text import corpus
from text.vocabulary import Vocabulary
from reports import metrics
import predict
import train
import search_options
import settings
from storage.config_file import check_config
from storage.run_directory import RunDirectory, last_run
from training.sample_outputs import SampleOutputs
import command_line
from command_line import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent
Result = collections.namedtuple('Result', 'code stdout stderr')
# Numbers in words, to be written backwards in Chinese digits.
WORDS = 'zero one two three four five six seven eight nine'.split()
DIGITS = '〇一二三四五六七八九'
SMALL = ['--units', '16', '--embedding', '16', '--threads', '1']
# Settings of the shared run; test_resume.py stops such a run and resumes it. Everything that a resumed run could get
# wrong is on: dropout, averaged weights, gradients gathered over two batches, a rate that depends on the update.
# An epoch of 150 pairs has 19 batches and 10 updates, the last of only one batch.
SETTINGS = ['--units', '32', '--embedding', '16', '--cell', 'gru', '--bidirectional', 'no', '--score', 'dot',
            '--threads', '1', '--epochs', '8', '--batch-size', '8', '--accumulate', '2', '--learning-rate', '0.03',
            '--decay', 'constant', '--warmup', '15', '--dropout', '0.1', '--word-dropout', '0.05', '--averaging', '0.2']
IMPORTED = 77  # exit code of a command that imports TensorFlow


# Running

def environment(**changes):
    """The environment of a command: ASCII locale, without inherited variables that change the behaviour of Python."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(('PYTHON', 'LC_', 'TF_', 'KERAS', 'OPENBLAS', 'OMP_'))}
    return dict(dict(kept, LANG='C', LC_ALL='C'), **changes)


def start(command, *arguments, cwd, stdin=subprocess.PIPE, **changes):
    return subprocess.Popen([sys.executable, str(ROOT / command)] + [str(argument) for argument in arguments],
                            cwd=str(cwd), env=environment(**changes), stdin=stdin, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def run(command, *arguments, cwd, text=b'', **changes):
    """Runs a command to its end. `stdout` stays bytes; `stderr` must be UTF-8 whatever the locale."""
    process = start(command, *arguments, cwd=cwd, **changes)
    out, err = process.communicate(text)
    return Result(process.returncode, out, err.decode('utf-8'))


@pytest.fixture(scope='session')
def no_tensorflow(tmp_path_factory):
    """Value of PYTHONPATH under which importing TensorFlow or Keras ends the process with `IMPORTED`."""
    folder = tmp_path_factory.mktemp('no_tensorflow')
    for name in ('tensorflow', 'keras'):
        (folder / (name + '.py')).write_text('import os\nos._exit(%d)\n' % IMPORTED)
    return str(folder)


@pytest.fixture
def cheap(no_tensorflow, tmp_path):
    """`run` in an empty directory, for errors that must be reported before TensorFlow is imported."""
    def call(command, *arguments, **options):
        return run(command, *arguments, cwd=options.pop('cwd', tmp_path), PYTHONPATH=no_tensorflow, **options)
    return call


def one_line(result, command, *parts):
    """Asserts that a mistake of the user gives one line on stderr, with all `parts`, and nothing else."""
    counts = ('training: ', 'validation: ', 'vocabularies: ', 'unknown tokens of ')
    lines = [line for line in result.stderr.splitlines() if not line.startswith(counts)]
    assert result.code == 1, result
    assert result.stdout == b''
    assert len(lines) == 1 and lines[0].startswith(command + ': '), result.stderr
    for part in parts:
        assert str(part) in lines[0]


# The shared run

def number_pairs(count, seed):
    chosen = random.Random(seed)
    for _ in range(count):
        number = [chosen.randrange(10) for _ in range(chosen.randint(1, 3))]
        yield ' '.join(WORDS[digit] for digit in number), ''.join(DIGITS[digit] for digit in reversed(number))


def write_pairs(path, pairs):
    path.write_bytes(''.join('%s\t%s\n' % pair for pair in pairs).encode('utf-8'))


def make_corpus(folder):
    folder.mkdir()
    for seed, (name, count) in enumerate((('train', 150), ('val', 20), ('test', 6))):
        write_pairs(folder / (name + '.tsv'), number_pairs(count, seed))
    return folder


Trained = collections.namedtuple('Trained', 'home data path result')
_trained = []


def shared_run(tmp_path_factory):
    """A run trained once for all files of tests: `home` holds `numbers`, the corpus, and `runs/numbers`."""
    if not _trained:
        base = tmp_path_factory.getbasetemp()
        if 'PYTEST_XDIST_WORKER' in os.environ:
            base = base.parent  # of all processes: one of them trains, each has a copy
        with open(str(base / 'lock'), 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (base / 'result').exists():
                home = base / 'first'
                home.mkdir()
                make_corpus(home / 'numbers')
                result = run('train.py', '--data', 'numbers', *SETTINGS, cwd=home)
                (base / 'result').write_bytes(pickle.dumps(tuple(result)))
        home = tmp_path_factory.mktemp('home') / 'copy'
        shutil.copytree(str(base / 'first'), str(home))
        result = Result(*pickle.loads((base / 'result').read_bytes()))
        _trained.append(Trained(home, home / 'numbers', home / 'runs' / 'numbers', result))
    return _trained[0]


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    one = shared_run(tmp_path_factory)
    assert one.result.code == 0, one.result.stderr
    return one


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the shared run that a test may damage."""
    shutil.copytree(str(trained.path), str(tmp_path / 'run'))
    return tmp_path / 'run'


def read_csv(path):
    with io.open(str(path), encoding='utf-8', newline='') as stream:
        return list(csv.DictReader(stream))


# Usage

@pytest.mark.parametrize('command, arguments, told', [
    ('train.py', ['--unit', '16'], '--unit'),  # an option has one spelling
    ('train.py', ['--no-such-option'], '--no-such-option'),
    ('train.py', ['file.tsv'], 'file.tsv'),
    ('train.py', ['--score', 'cosine'], "'cosine'"),
    ('train.py', ['--bidirectional', 'maybe'], "'maybe'"),
    ('train.py', ['--units', 'many'], "'many'"),
    ('train.py', ['--batch-size', '9' * 20], "--batch-size: '%s' is not a whole number from 1 to 65536" % ('9' * 20)),
    ('train.py', ['--dropout', 'nan'], "--dropout: 'nan' is not a number from 0 to 0.999999"),
    ('train.py', ['--no\x1b[31m'], r'--no\x1b[31m'),
    ('predict.py', ['--beam-width', '1000000'], "'1000000' is not a whole number from 1 to 1000"),
    ('predict.py', ['--min-length', 'x'], "'x' is not a whole number from 0 to 10000"),
    ('predict.py', ['--coverage-penalty', '1e308'], "'1e308' is not a number from 0 to 1000"),
    ('train.py', ['--resume', '--overwrite'], '--resume'),
    ('train.py', ['--resume', '--dry-run'], '--resume'),
    ('predict.py', ['--batch-size', '0'], "'0'"),
    ('predict.py', ['--threads', '-1'], "'-1'"),
    ('predict.py', ['--on-bad-utf8', 'ignore'], "'ignore'"),
    ('evaluate.py', ['--split', 'train'], "'train'"),
    ('evaluate.py', ['--source', 'a.txt'], '--target'),
    ('evaluate.py', ['--source', 'a.txt', '--target', 'b.txt', '--test', 'c.txt'], '--test'),
    ('evaluate.py', ['--format', 'qa'], '--test FILE'),
    ('evaluate.py', ['--columns', '2,1'], '--test FILE'),
    ('train.py', ['--format', 'csv'], "'pairs', 'babi', 'qa'"),
    ('predict.py', ['--score-pairs', '--input', 'a.txt', '--format', 'babi'], 'omit --format'),
])
def test_wrong_usage_ends_with_2_and_names_what_is_wrong(cheap, command, arguments, told):
    result = cheap(command, *arguments)
    assert (result.code, result.stdout) == (2, b'')
    assert result.stderr.startswith(command + ': error: ') and result.stderr.count('\n') == 1
    assert told in result.stderr


@pytest.mark.parametrize('name', [row.name for row in settings.SETTINGS.values() if row.kind in (int, float)])
def test_each_number_has_bounds_and_values_outside_are_refused_by_name(name):
    row = settings.SETTINGS[name]
    for value in (row.minimum, row.maximum):
        assert row.accepts(value) and row.parse(str(value)) == value
    beyond = [row.minimum - 1, row.maximum * 2 + 1, -1] + [float('inf'), float('nan')] * (row.kind is float)
    for value in beyond:
        assert not row.accepts(value)
        with pytest.raises(UserError, match=row.option + ' must be a .*number from %s to ' % row.minimum):
            settings.check(settings_with(**{name: value}))
        with pytest.raises(UserError, match='c.json: setting %r must be a .*number from' % name):
            check_config({name: value}, 'c.json', complete=False)
        with pytest.raises(argparse.ArgumentTypeError, match='is not a .*number from'):
            row.parse(str(value))
    assert not row.accepts(True) and not row.accepts('1')


@pytest.mark.parametrize('command', ['train.py', 'predict.py', 'evaluate.py', 'export.py', 'regress.py'])
def test_every_command_shows_the_version(cheap, command):
    result = cheap(command, '--version')
    assert (result.code, result.stderr) == (0, '')
    assert result.stdout.decode('ascii') == '%s %s\n' % (command, command_line.VERSION)


def test_control_characters_do_not_reach_the_terminal(cheap):
    one_line(cheap('train.py', '--data', 'a\x1b[2J\x07b'), 'train.py', r'a\x1b[2J\x07b')
    assert command_line.printable('a\tb\n语\x9b\r') == 'a\tb\n语\\x9b\\x0d'


def test_keras_json_of_the_user_is_not_read(tmp_path):
    (tmp_path / '.keras').mkdir()
    (tmp_path / '.keras' / 'keras.json').write_text('{"floatx": "float99", "epsilon": "x"}')
    code = 'import tf_session; from keras import backend as K; print(K.floatx(), K.epsilon())'
    done = subprocess.run([sys.executable, '-c', code], env=environment(HOME=str(tmp_path), PYTHONPATH=str(ROOT)),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b'float32 1e-07\n', b'')


@pytest.mark.parametrize('command', ['train.py', 'predict.py', 'tests/mutants.py'])
def test_an_interrupt_during_imports_is_reported_in_one_line(tmp_path, command):
    (tmp_path / 'numpy.py').write_text('import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n')
    done = subprocess.run([sys.executable, command], cwd=str(ROOT), env=environment(PYTHONPATH=str(tmp_path)),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (130, b''), done.stderr
    assert done.stderr == ('%s: stopped by SIGINT\n' % os.path.basename(command)).encode('ascii')


def test_a_preset_of_a_corpus_needs_its_files(cheap):
    one_line(cheap('train.py', '--preset', 'multi30k', '--dry-run'), 'train.py', '--preset multi30k needs the files',
             '--train')


@pytest.mark.parametrize('options, told', [
    ([], ['target']), (['--source-tokenizer', 'chinese'], ['source', 'target']),
    (['--target-tokenizer', 'space'], []), (['--target-tokenizer', 'char', '--source-tokenizer', 'jieba'], ['source'])])
def test_chinese_text_that_is_divided_by_spaces_causes_a_warning_with_the_remedy(cheap, tmp_path, options, told):
    if 'jieba' in options:
        pytest.importorskip('jieba', reason='jieba is not installed')
    divided, whole = '我 昨天 晚上 在 图书馆 看 了 一 本 书 。', '我昨天晚上在图书馆看了一本书。 好 Python 课'
    for name, text in (('a', divided), ('b', whole)):
        (tmp_path / name).write_bytes('\n'.join(['%s\t%s' % (text, text)] * 9 + ['']).encode('utf-8'))
    result = cheap('train.py', '--train', 'a', '--val', 'a', '--dry-run', *options)
    lines = [line for line in result.stderr.splitlines() if 'warning' in line]
    assert result.code == IMPORTED and len(lines) == len(told), result.stderr
    for line, side in zip(lines, told):
        assert line.startswith('warning: the %s text is divided by spaces already (69 %% of' % side)
        assert 'keep its words with --%s-tokenizer space, or remove the spaces' % side in line
    result = cheap('train.py', '--train', 'b', '--val', 'b', '--dry-run', *options)
    assert result.code == IMPORTED and 'warning' not in result.stderr


def test_many_unknown_tokens_cause_a_warning(cheap, tmp_path):
    (tmp_path / 'a').write_text(''.join('w%d\tx y\n' % number for number in range(40)))
    result = cheap('train.py', '--train', 'a', '--val', 'a', '--min-count', '2', '--source-tokenizer', 'char',
                   '--target-tokenizer', 'space', '--dry-run')
    assert result.code == IMPORTED and 'warning' not in result.stderr  # each character often enough
    (tmp_path / 'b').write_text(''.join('x y\tw%d %s\n' % (number, 'z') for number in range(40)))
    result = cheap('train.py', '--train', 'b', '--val', 'b', '--min-count', '2', '--target-tokenizer', 'space',
                   '--dry-run')
    assert 'warning: 50.0 % of the target tokens are <unk>: check --target-tokenizer' in result.stderr
    assert ('unknown tokens of source and target: training 0.0 % and 50.0 %, validation 0.0 % and 50.0 %\n'
            in result.stderr)
    (tmp_path / 'c').write_text('x y\tz\nx v\tz\n')
    result = cheap('train.py', '--train', 'b', '--val', 'b', '--test', 'c', '--min-count', '2', '--target-tokenizer',
                   'space', '--dry-run')
    assert ', test 25.0 % and 0.0 %\n' in result.stderr
    (tmp_path / 'c').write_text('no tab\n')
    result = cheap('train.py', '--train', 'b', '--val', 'b', '--test', 'c', '--min-count', '2', '--target-tokenizer',
                   'space', '--dry-run')
    assert result.code == IMPORTED and 'warning: the test text cannot be read: c: line 1: no tab' in result.stderr


def test_columns_in_the_other_order_cause_a_warning(cheap, tmp_path):
    for name, line in (('a', 'two men are here\tzwei Männer sind hier\n'), ('b', 'zwei Männer hier\ttwo men here\n'),
                       ('c', '你好\thello there\n'), ('d', 'hello there\t你好\n')):
        (tmp_path / name).write_bytes((line * 9).encode('utf-8'))
    options = ['--dry-run', '--target-tokenizer', 'word']
    for val, test, part in (('b', 'a', 'validation'), ('a', 'b', 'test'), ('a', 'a', None)):
        told = cheap('train.py', '--train', 'a', '--val', val, '--test', test, *options).stderr
        assert told.count('warning') == (part is not None)
        assert part is None or 'warning: 100.0 %% and 100.0 %% of the tokens of the %s text are <unk>' % part in told
    for name, options, count in (('c', [], 1), ('d', [], 0), ('c', ['--source-tokenizer', 'chinese'], 0), ('a', [], 0)):
        told = cheap('train.py', '--train', name, '--val', name, '--dry-run', *options).stderr
        assert told.count('warning: the source text is Chinese and the target text is not') == count


def test_a_page_of_outputs_without_a_model_is_refused(cheap):
    result = cheap('evaluate.py', '--hypotheses', 'a', '--target', 'b', '--html', 'page.html')
    assert result.code == 2 and '--html shows the attention of a run' in result.stderr


# Settings that contradict one another

def settings_with(**changes):
    return settings.with_defaults(changes)


CONTRADICTIONS = [
    (dict(units=0), '--units'),
    (dict(batch_size=0), '--batch-size'),
    (dict(epochs=-1), '--epochs'),
    (dict(accumulate=0), '--accumulate'),
    (dict(window=0), '--window'),
    (dict(min_count=0), '--min-count'),
    (dict(dropout=1.), '--dropout'),
    (dict(dropout=-.1), '--dropout'),
    (dict(word_dropout=float('nan')), '--word-dropout'),
    (dict(label_smoothing=2.), '--label-smoothing'),
    (dict(averaging=1.), '--averaging'),
    (dict(encoder_layers=5), '--encoder-layers'),
    (dict(decoder_layers=0), '--decoder-layers'),
    (dict(learning_rate=0.), '--learning-rate'),
    (dict(learning_rate=float('inf')), '--learning-rate'),
    (dict(clip_norm=-1.), '--clip-norm'),
    (dict(clip_norm=float('nan')), '--clip-norm'),
    (dict(weight_decay=-1.), '--weight-decay'),
    (dict(init_scale=float('nan')), '--init-scale'),
    (dict(max_minutes=-1.), '--max-minutes'),
    (dict(warmup=-1), '--warmup'),
    (dict(decay_factor=0.), '--decay-factor'),
    (dict(decay_every=0), '--decay-every'),
    (dict(decay_patience=0), '--decay-patience'),
    (dict(validate_every=-1), '--validate-every'),
    (dict(patience=-1), '--patience'),
    (dict(keep=-1), '--keep'),
    (dict(average=-1), '--average'),
    (dict(encoder_units=-2), '--encoder-units'),
    (dict(threads=-1), '--threads'),
    (dict(seed=2 ** 31), '--seed'),
    (dict(train=['a', 'b', 'c']), '--train'),
    (dict(train=['a'], val=['a', 'b', 'c']), '--val'),
    (dict(val=['a']), '--val', '--train', '--data'),
    (dict(test=['a']), '--test', '--train', '--data'),
    (dict(units=15), '--encoder-units', '--bidirectional no'),
    (dict(encoder_units=15), '15', '--encoder-units', '--bidirectional no'),
    (dict(score='dot', encoder_units=64, units=128), '--score dot', '--encoder-units 64', '--units 128',
     '--score general'),
    (dict(score='scaled_dot', encoder_units=64, units=128), '--score scaled_dot', '--encoder-units 64', '--units 128'),
    (dict(score='location', attention='local-p'), '--score location', '--attention local-p', '--attention global'),
    (dict(score='none', attention='local-m'), '--attention local-m', '--score none'),
    (dict(score='none', attention_scale=True), '--attention-scale', '--score none'),
    (dict(score='none', input_feeding=True), '--input-feeding', '--score none'),
    (dict(score='general', attention_normalize=True), '--attention-normalize', '--score concat', '--score general'),
    (dict(score='general', attention_units=8), '--attention-units', '--score concat', '--score general'),
    (dict(score='concat', attention_units=0), '--attention-units'),
    (dict(embedding=2 ** 16 + 1), '--embedding', '65536'),
    (dict(residual=True), '--residual', '--encoder-layers', '--decoder-layers'),
    (dict(share_vocabulary=True, source_tokenizer='word', target_tokenizer='chinese'), '--share-vocabulary',
     '--source-tokenizer word', '--target-tokenizer chinese'),
    (dict(share_vocabulary=True, source_tokenizer='word', target_tokenizer='word', target_embeddings='x'),
     '--target-embeddings', '--share-vocabulary', '--source-embeddings'),
    (dict(beam_width=0), '--beam-width'),
    (dict(min_length=5, max_length=4), '--max-length', '--min-length 5'),
    (dict(beam_width=101, max_length=10000), '--beam-width 101', '10000 tokens', '--max-length'),
    (dict(beam_width=1000, min_length=1001), '--beam-width 1000', '1001 tokens', '--min-length'),
    (dict(coverage_penalty=.1, score='none'), '--coverage-penalty', '--score none'),
]


@pytest.mark.parametrize('changes, parts', [(row[0], row[1:]) for row in CONTRADICTIONS],
                         ids=[' '.join(map(str, row[0].items())) for row in CONTRADICTIONS])
def test_settings_that_contradict_or_make_no_sense_are_refused_by_name(changes, parts):
    with pytest.raises(UserError) as error:
        settings.check(settings_with(**changes))
    for part in parts:
        assert part in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('changes', [
    {}, dict(score='additive', attention_normalize=True, attention_units=8), dict(units=15, bidirectional=False),
    dict(score='location'), dict(score='none'), dict(attention='local-p', score='dot'), dict(seed=2 ** 31 - 1),
    dict(score='concat', attention='local-m', attention_scale=True), dict(residual=True, decoder_layers=2),
    dict(share_vocabulary=True, source_tokenizer='chinese', tie_embeddings=True), dict(encoder_units=64),
    dict(beam_width=1000, min_length=1000), dict(beam_width=100, max_length=10000),
    dict(train=['a'], val=['b', 'c'], test=['d']), dict(score='dot', encoder_units=128, units=128)])
def test_settings_that_make_sense_are_accepted(changes):
    settings.check(settings_with(**changes))


def test_the_command_refuses_settings_that_make_no_sense_before_it_reads_anything(cheap, tmp_path):
    result = cheap('train.py', '--data', 'missing', '--score', 'dot', '--encoder-units', '64', '--units', '128')
    one_line(result, 'train.py', '--score dot', '--encoder-units 64', '--units 128', '--score general')
    assert os.listdir(str(tmp_path)) == []


# Tasks and presets

def test_a_task_changes_defaults_and_options_override_it(cheap, tmp_path):
    (tmp_path / 'c.json').write_text('{"epochs": 3}')
    result = cheap('train.py', '--task', 'summarise', '--dropout', '0.4', '--config', 'c.json', '--print-config')
    printed = json.loads(result.stdout.decode('ascii'))
    expected = dict(settings.defaults(), version=settings.CONFIG_VERSION, task='summarise')
    expected.update(settings.PRESETS['summarise'], dropout=.4, epochs=3)
    assert printed == expected
    assert expected['no_repeat_ngram'] == 3 and expected['data'] == 'samples/summarise'


@pytest.mark.parametrize('name', list(settings.PRESETS))
def test_a_preset_has_valid_settings(name):
    given = {'task': name} if name in settings.TASKS else {}
    chosen = settings.resolve_settings(given, name)
    settings.check(chosen)
    assert dict(check_config(vars(chosen), name, complete=False)) == vars(chosen)
    text = train.presets_text()
    for key, value in settings.PRESETS[name].items():
        assert getattr(chosen, key) == value != settings.SETTINGS[key].default
        assert '%s %s' % (settings.SETTINGS[key].option, settings.shown(value)) in ' '.join(text.split())


def test_options_of_the_search_override_the_run_without_contradiction():
    kept = settings_with(min_length=4, no_repeat_ngram=3, beam_width=2, max_length=9)

    def merged(**given):
        return search_options.merge(kept, argparse.Namespace(**given))
    assert merged(beam_width=5, n_best=2, max_length=None) == search_options.Options(
        beam_width=5, n_best=2, min_length=4, max_length=9, no_repeat_ngram=3)
    assert merged(n_best=2).n_best == 2  # within the beam of the run
    assert merged(max_length=2).min_length == 2
    assert merged(min_length=12).max_length == 12
    with pytest.raises(UserError, match='--n-best 3 is more than a beam of width 2 finds: give a --beam-width'):
        merged(n_best=3)
    with pytest.raises(UserError, match='--min-length 5 is above --max-length 3: lower'):
        merged(min_length=5, max_length=3)


def test_predict_and_validation_use_the_search_settings_of_the_run():
    calls = []

    class Fake:
        settings = settings_with(min_length=4, no_repeat_ngram=3)

        def translate(self, texts, batch_size, **options):
            calls.append(options)
            return [['best']] * len(texts)
    options = predict.parse(['--beam-width', '3', '--min-length', '0'])
    assert predict.translate(Fake(), ['a'], options, None) == [['best']]
    assert SampleOutputs(Fake.settings, Fake(), [('a', 'b')], None).decode([('a', 'b')]) == ['best']
    expected = dict(search_options.Options()._asdict(), no_repeat_ngram=3, min_length=4)
    assert calls == [dict(expected, beam_width=3, min_length=0), expected]


def test_the_help_shows_a_number_as_a_number(cheap):
    text = ' '.join(cheap('train.py', '--help-all').stdout.decode('utf-8').split())
    assert 'seen fewer times than this in the training text (default: 1)' in text
    assert 'bidirectional encoder (each direction Dm/2 wide) (default: yes)' in text
    assert '--task summarise --data samples/summarise' in text


# Settings out of a file

def test_options_override_a_config_and_the_printed_config_gives_the_same_run(cheap, tmp_path):
    (tmp_path / 'c.json').write_text('{"units": 32, "dropout": 0, "train": ["a", "b"], "cell": "gru"}')
    result = cheap('train.py', '--config', 'c.json', '--print-config', '--units', '64', '--bidirectional', 'no')
    assert (result.code, result.stderr) == (0, '')
    printed = json.loads(result.stdout.decode('ascii'))
    assert printed == dict(settings.defaults(), version=settings.CONFIG_VERSION, units=64, dropout=0., cell='gru',
                           train=['a', 'b'], bidirectional=False)
    (tmp_path / 'd.json').write_bytes(result.stdout)
    assert cheap('train.py', '--config', 'd.json', '--print-config').stdout == result.stdout
    assert sorted(os.listdir(str(tmp_path))) == ['c.json', 'd.json']


@pytest.mark.parametrize('content, told', [
    (b'{"batchsize": 3}', ["'batchsize'", "'batch_size'"]),
    pytest.param(b'{"units": "3"}', ["'units'", 'whole number'], marks=pytest.mark.slow),
    pytest.param(b'{"units": 0}', ["'units' must be a whole number from 1 to 65536, not 0"], marks=pytest.mark.slow),
    pytest.param(b'{"version": 99}', ['version 99', 'newer'], marks=pytest.mark.slow),
    pytest.param(b'{"units": 3, "units": 4}', ['twice'], marks=pytest.mark.slow),
    pytest.param(b'units: 3', ['not valid JSON'], marks=pytest.mark.slow),
    (None, ['No such file']),
])
def test_an_invalid_config_is_refused_in_one_line(cheap, tmp_path, content, told):
    if content is not None:
        (tmp_path / 'c.json').write_bytes(content)
    one_line(cheap('train.py', '--config', 'c.json', '--dry-run'), 'train.py', *told)


@pytest.mark.slow
def test_a_dry_run_reports_time_and_memory_and_writes_nothing(trained, tmp_path):
    result = run('train.py', '--dry-run', '--data', trained.data, *SETTINGS, cwd=tmp_path)
    assert (result.code, result.stdout) == (0, b''), result.stderr
    lines = result.stderr.splitlines()
    assert lines[:3] == [line.replace('numbers/', '%s/' % trained.data) for line in
                         trained.result.stderr.splitlines()[:3]]
    assert re.fullmatch('dry run: 8 updates timed; an epoch of 10 updates takes about [0-9:]+, a validation [0-9:]+',
                        lines[-2])
    told = re.fullmatch('dry run: 8 epochs take about [0-9:]+ in all, ([0-9]+) MB of memory and ([0-9]+) MB for each '
                        'checkpoint; nothing was written', lines[-1])
    assert 50 < int(told.group(1)) < 2000
    size = (trained.path / 'checkpoint' / '152.h5').stat().st_size
    assert abs(int(told.group(2)) - size / 1e6) < 1
    assert os.listdir(str(tmp_path)) == []


# Corpora that are refused, and those that are taken

GOOD = b'one two\t\xe4\xba\x8c\xe4\xb8\x80\nthree\t\xe4\xb8\x89\n'
LONG = (' '.join(['one'] * 101) + '\t一\n').encode('utf-8')
REFUSED = [
    ('unequal line counts', {'a': b'1\n2\n3\n', 'b': b'1\n2\n'}, ['--train', 'a', 'b'], ['a has 3', 'b has 2']),
    ('bad byte', {'a': b'x\ty\nx \xff\ty\n'}, ['--train', 'a'], ['a: line 2, byte 3: 0xFF', '--on-bad-utf8 replace']),
    ('lone surrogate', {'a': b'x\ty\n\xed\xa0\x80\ty\n'}, ['--train', 'a'], ['a: line 2, byte 1', 'UTF-8']),
    ('empty file', {'a': b''}, ['--train', 'a'], ['a: ', 'empty']),
    ('nothing but a BOM', {'a': b'\xef\xbb\xbf'}, ['--train', 'a'], ['a: ', 'empty']),
    ('one empty file of two', {'a': b'1\n', 'b': b''}, ['--train', 'a', 'b'], ['b: ', 'empty']),
    ('blank lines alone', {'a': b' \t \n\t\n'}, ['--train', 'a', '--val', 'a'], ['a: ', '2 have an empty side']),
    ('directory', {}, ['--train', '.'], ['.: is not a regular file']),
    ('missing file', {}, ['--train', 'a'], ['a: cannot be read (No such file']),
    ('missing folder', {}, ['--data', 'a'], ['a/train.tsv', '--train']),
    ('folder without val', {'train.tsv': GOOD}, ['--data', '.'], ['val.tsv']),
    ('plain and packed', {'train.tsv': GOOD, 'train.tsv.gz': b''}, ['--data', '.'], ['train.tsv.gz', 'remove']),
    ('gz cut short', {'a.gz': gzip.compress(GOOD * 999)[:-30]}, ['--train', 'a.gz'], ['a.gz: ', 'cut short']),
    ('gz that is none', {'a.gz': GOOD}, ['--train', 'a.gz'], ['a.gz: ', 'gzip']),
    ('one column', {'a': b'x\ty\nonly one\n'}, ['--train', 'a'], ['a: line 2', 'no tab']),
    ('bAbI as pairs', {'a': b'1 Ann went home.\n2 Where is Ann?\thome\t1\n'}, ['--train', 'a'],
     ['a: line 1', 'no tab', 'is this a bAbI file? --format babi']),
    ('all over-long', {'a': LONG * 5}, ['--train', 'a', '--val', 'a'], ['a: ', '5 are longer', '--max-source-length']),
    ('one pair, nothing held out', {'a': b'x\ty\n'}, ['--train', 'a'], ['too little', '--val']),
    ('bad byte in val', {'a': GOOD, 'b': b'\xfe\ty\n'}, ['--train', 'a', '--val', 'b'], ['b: line 1, byte 1: 0xFE']),
    ('missing test', {'a': GOOD}, ['--train', 'a', '--val', 'a', '--test', 'b'], ['b: cannot be read (No such file']),
    ('no token often enough', {'a': GOOD}, ['--train', 'a', '--val', 'a', '--min-count', '9'], ['--min-count']),
    ('missing vectors', {'a': GOOD}, ['--train', 'a', '--val', 'a', '--source-embeddings', 'b'],
     ['b: cannot be read (No such file']),
]


@pytest.mark.parametrize('files, arguments, told', [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_corpus_is_refused_in_one_line_and_no_run_is_left(cheap, tmp_path, files, arguments, told):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    result = cheap('train.py', '--run', 'new', *arguments)
    one_line(result, 'train.py', *told)
    assert sorted(os.listdir(str(tmp_path))) == sorted(files)


SMALL_LIMITS = ['--max-source-length', '3']
TAKEN = [  # bytes, arguments, (kept, read, empty, over-long), source and target tokens without the special ones
    ('CRLF', b'a b\tx\r\nb\ty\r\n', [], (2, 2, 0, 0), 'ab', 'xy'),
    ('BOM', b'\xef\xbb\xbfa\tx\nb\ty\n', [], (2, 2, 0, 0), 'ab', 'xy'),
    ('U+2028 and NUL do not end a line', 'a\u2028b\tx\nc\0d\ty\n'.encode(), [], (2, 2, 0, 0), 'abcd\0', 'xy'),
    ('no final newline', b'a\tx\nb\ty', [], (2, 2, 0, 0), 'ab', 'xy'),
    ('lone carriage return inside', b'a\rb\tx\n', [], (1, 1, 0, 0), 'ab', 'x'),
    ('third column', b'a\tx\tCC-BY\nb\ty\tCC-BY\n', [], (2, 2, 0, 0), 'ab', 'xy'),
    ('empty side', b'a\tx\nb\t\n\ty\n', [], (1, 3, 2, 0), 'a', 'x'),
    ('10 MB line', b'a\tx\n' + b'b ' * 5000000 + b'\ty\nc\tz\n', [], (2, 3, 0, 1), 'ac', 'xz'),
    ('10 MB word', b'a\tx\n' + b'b' * 10000000 + b'\ty\nc\tz\n', [], (2, 3, 0, 1), 'ac', 'xz'),
    ('over-long', b'a a a a\tx\nb b b\ty\n', SMALL_LIMITS, (1, 2, 0, 1), 'b', 'y'),
    ('bad byte replaced', b'a \xff\tx\n', ['--on-bad-utf8', 'replace'], (1, 1, 0, 0), 'a\ufffd', 'x'),
]


@pytest.mark.parametrize('content, arguments, counts, source, target', [row[1:] for row in TAKEN],
                         ids=[row[0] for row in TAKEN])
def test_a_corpus_is_accepted_with_these_counts(cheap, tmp_path, content, arguments, counts, source, target):
    (tmp_path / 'a').write_bytes(content)
    (tmp_path / 'v').write_bytes(GOOD)
    result = cheap('train.py', '--run', 'new', '--train', 'a', '--val', 'v', *arguments)
    assert result.code == IMPORTED, result.stderr
    # The warnings are right: many pairs are dropped, and the validation text has other words.
    training, _, vocabularies, unknown = [line for line in result.stderr.splitlines() if 'warning: ' not in line]
    assert unknown.startswith('unknown tokens of source and target: training 0.0 % and 0.0 %, validation ')
    assert training == 'training: %d pairs of a (%d read; dropped: %d with an empty side, %d over-long)' % counts
    assert vocabularies == 'vocabularies: %d source and %d target tokens' % (4 + len(source), 4 + len(target))


@pytest.mark.slow
def test_odd_lines_are_trained_on_as_they_are(tmp_path):
    odd = '\ufeffa b\tx\r\nc\u2028d\ty\ne\0f\tz\n'.encode('utf-8') + b'g ' * 5000000 + b'\tw\nh\tv'
    (tmp_path / 'a').write_bytes(odd)
    result = run('train.py', '--train', 'a', '--val', 'a', '--run', 'new', '--epochs', '1', *SMALL, cwd=tmp_path)
    assert result.code == 0, result.stderr
    with RunDirectory.open(str(tmp_path / 'new')) as one:
        tokens = {side: Vocabulary.from_bytes(one.read_file('vocab.%s.txt' % side), side).tokens[4:]
                  for side in ('source', 'target')}
    assert tokens == {'source': sorted('abcdefh\0'), 'target': sorted('xyzv')}


# What train.py leaves behind

LINES = [
    r'training: 150 pairs of numbers/train\.tsv \(150 read; dropped: 0 with an empty side, 0 over-long\)',
    r'validation: 20 pairs of numbers/val\.tsv \(20 read; dropped: 0 with an empty side, 0 over-long\)',
    r'vocabularies: 14 source and 14 target tokens',
    r'unknown tokens of source and target: training 0\.0 % and 0\.0 %, validation [0-9.]+ % and [0-9.]+ %, '
    r'test [0-9.]+ % and [0-9.]+ %',
    r'model: [0-9,]+ parameters, 1 threads',
    r'the first weights for predict\.py come with the first validation, after 10 updates',
    r'epoch [1-8]: train perplexity [0-9.]+, accuracy [0-9.]+ %; validation perplexity [0-9.]+, accuracy [0-9.]+ %'
    r'( \(best\))?; [0-9]+ words/s, [0-9:]+ in all, [0-9:]+ left',
    r'    [a-z ]+', r'  = [%s]+' % DIGITS, r'  > [%s]*' % DIGITS,
    r'the best weights are in runs/numbers; try: \S+ %s/predict\.py --run runs/numbers' % re.escape(str(ROOT)),
]


def test_train_reports_on_stderr_and_no_library_prints_anything(trained):
    assert trained.result.stdout == b''
    lines = trained.result.stderr.splitlines()
    for line in lines:  # no warning of TensorFlow, Keras, NumPy or Python, no progress bar off a terminal
        assert any(re.fullmatch(pattern, line) for pattern in LINES), line
    for pattern in LINES:
        assert any(re.fullmatch(pattern, line) for line in lines), pattern
    assert len([line for line in lines if line.startswith('epoch ')]) == 8
    assert len([line for line in lines if line.startswith('  > ')]) == 8 * 4


def test_train_writes_a_complete_run_directory(trained):
    names = set(os.listdir(str(trained.path)))
    assert names == {'config.json', 'vocab.source.txt', 'vocab.target.txt', 'weights.h5', 'checkpoint', 'log.csv',
                     'curves.png', 'manifest.json', 'lock'}
    config = json.loads((trained.path / 'config.json').read_text(encoding='utf-8'))
    expected = dict(settings.defaults(), version=settings.CONFIG_VERSION, data='numbers', units=32, embedding=16,
                    cell='gru', bidirectional=False, score='dot', threads=1, epochs=8, batch_size=8, accumulate=2,
                    learning_rate=.03, decay='constant', warmup=15, dropout=.1, word_dropout=.05, averaging=.2)
    assert config == expected
    manifest = json.loads((trained.path / 'manifest.json').read_text(encoding='utf-8'))
    for name in ('config.json', 'vocab.source.txt', 'vocab.target.txt', 'weights.h5'):
        assert manifest['files'][name] == hashlib.sha256((trained.path / name).read_bytes()).hexdigest(), name
    for part in ('train', 'val', 'test'):
        content = (trained.data / (part + '.tsv')).read_bytes()
        assert manifest['data'][part] == [hashlib.sha256(content).hexdigest()]
    assert manifest['command'] == 'train.py --data numbers ' + ' '.join(SETTINGS)
    assert (manifest['versions']['keras'], manifest['versions']['tensorflow']) == ('2.2.4', '1.12.0')
    assert sorted(os.listdir(str(trained.path / 'checkpoint'))) == ['152.h5', 'last']
    log = read_csv(trained.path / 'log.csv')
    assert [(row['epoch'], row['step']) for row in log] == [(str(n), str(10 * n)) for n in range(1, 9)]
    tokens = (trained.path / 'vocab.target.txt').read_text(encoding='utf-8').split('\n')
    assert (tokens[:4], sorted(tokens[4:-1])) == (['<pad>', '<unk>', '<s>', '</s>'], sorted(DIGITS))


def test_the_shared_run_has_learnt_enough_for_the_other_tests(trained):
    log = read_csv(trained.path / 'log.csv')
    assert float(log[-1]['val_accuracy']) > .6


# A run directory in use

def test_train_does_not_change_an_existing_run(cheap, trained):
    before = {name: (trained.path / name).read_bytes() for name in ('manifest.json', 'weights.h5', 'log.csv')}
    result = cheap('train.py', '--data', 'numbers', cwd=trained.home)
    one_line(result, 'train.py', 'runs/numbers', '--resume', '--overwrite')
    assert result.stderr.count('\n') == 1  # told before the data are read
    assert {name: (trained.path / name).read_bytes() for name in before} == before


def test_overwrite_keeps_the_old_run_if_the_new_data_are_refused(cheap, copied, tmp_path):
    before = sorted(os.listdir(str(copied)))
    (tmp_path / 'a').write_bytes(b'no tab\n')
    one_line(cheap('train.py', '--run', 'run', '--overwrite', '--train', 'a'), 'train.py', 'a: line 1')
    assert sorted(os.listdir(str(copied))) == before


def test_overwrite_does_not_change_a_directory_that_is_not_a_run(cheap, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.tex').write_bytes(b'precious')
    one_line(cheap('train.py', '--run', 'mine', '--overwrite', '--data', 'missing'), 'train.py', 'mine')
    assert os.listdir(str(tmp_path / 'mine')) == ['thesis.tex']


@pytest.mark.slow
def test_overwrite_replaces_a_run(copied, trained, tmp_path):
    old = json.loads((copied / 'manifest.json').read_text())['files']
    (copied / 'notes.txt').write_bytes(b'mine')
    result = run('train.py', '--data', trained.data, '--run', 'run', '--overwrite', '--epochs', '1', '--units', '8',
                 '--embedding', '8', '--batch-size', '64', cwd=tmp_path)
    assert result.code == 0, result.stderr
    assert json.loads((copied / 'config.json').read_text())['units'] == 8
    assert len(read_csv(copied / 'log.csv')) == 1
    assert json.loads((copied / 'manifest.json').read_text())['files']['weights.h5'] != old['weights.h5']
    assert sorted(os.listdir(str(copied / 'checkpoint'))) == ['3.h5', 'last']
    assert (copied / 'notes.txt').read_bytes() == b'mine'


# predict.py

# Lines that a pipe may bring; those that must give an empty line, counted from 0.
HARD = ['one two three', '', '   ', 'unheard words', 'four', '\t', 'five\0six', 'seven\u2028eight', '中文', 'a\rb',
        ' '.join(WORDS * 8), 'nine ' * 7]
EMPTY = [1, 2, 5]


def input_bytes(trained):
    sources = [line.split('\t')[0] for line in (trained.data / 'val.tsv').read_text(encoding='utf-8').splitlines()]
    return '\n'.join(sources + HARD).encode('utf-8')  # without a final newline


@pytest.fixture(scope='session')
def predicted(trained, tmp_path_factory):
    """Output lines for the sources of val.tsv and `HARD`, read from a packed file, in one batch."""
    folder = tmp_path_factory.mktemp('predicted')
    (folder / 'in.gz').write_bytes(gzip.compress(b'\xef\xbb\xbf' + input_bytes(trained).replace(b'\n', b'\r\n')))
    result = run('predict.py', '--input', folder / 'in.gz', '--output', folder / 'out', cwd=trained.home)
    assert (result.code, result.stdout) == (0, b'')
    assert re.fullmatch(r'runs/numbers: 32 lines in [0-9.]+ s, [0-9.]+ lines/s\n', result.stderr)
    return (folder / 'out').read_bytes().decode('utf-8')


def test_predict_gives_a_line_for_each_line_and_an_empty_one_for_each_empty_one(predicted):
    assert predicted.count('\n') == 32 and predicted.endswith('\n')
    lines = predicted.split('\n')[:-1]
    assert [n for n, line in enumerate(lines[20:]) if not line] == EMPTY
    assert len(set(lines)) > 12
    for line in lines:  # no special token, no blank
        assert re.fullmatch('[%s]*' % DIGITS, line), line


@pytest.mark.parametrize('size', [1, pytest.param(7, marks=pytest.mark.slow)])
def test_predict_gives_the_same_through_a_pipe_and_in_batches_of_any_size(trained, predicted, size):
    result = run('predict.py', '--input', '-', '--batch-size', size, cwd=trained.home, text=input_bytes(trained))
    assert (result.code, result.stdout.decode('utf-8')) == (0, predicted)


@pytest.mark.slow
def test_predict_loses_no_line_of_a_pipe_that_has_a_name(trained, predicted):
    result = run('predict.py', '--input', '/dev/stdin', cwd=trained.home, text=input_bytes(trained))
    assert (result.code, result.stdout.decode('utf-8')) == (0, predicted)


def test_predict_writes_the_lines_before_a_bad_byte_and_names_its_line(trained, predicted):
    text = input_bytes(trained).split(b'\n')
    result = run('predict.py', '--input', '-', cwd=trained.home, text=b'\n'.join(text[:4] + [b'one \xff', b'two']))
    assert result.code == 1
    assert result.stdout.decode('utf-8').split('\n') == predicted.split('\n')[:4] + ['']
    assert re.fullmatch('predict.py: standard input: line 5, byte 5: 0xFF .*--on-bad-utf8 replace\n', result.stderr)


@pytest.mark.slow
def test_predict_replaces_bad_bytes_on_request(trained):
    results = [run('predict.py', '--input', '-', '--on-bad-utf8', 'replace', cwd=trained.home, text=text)
               for text in (b'two \xff\none\n', 'two \ufffd\none\n'.encode('utf-8'))]
    assert [result.code for result in results] == [0, 0]
    assert results[0].stdout == results[1].stdout != b''


def test_pictures_and_alignments_write_nothing_to_standard_output(trained, predicted, tmp_path):
    result = run('predict.py', '--input', '-', '--show-attention', '--plot-dir', tmp_path / 'a' / 'b',
                 cwd=trained.home, text=input_bytes(trained).split(b'\n')[0] + b'\n\nunheard words\n')
    assert result.code == 0
    lines = result.stdout.decode('utf-8').split('\n')
    assert (lines[0], lines[1], len(lines)) == (predicted.split('\n')[0], '', 4)
    shown = result.stderr.splitlines()
    source = input_bytes(trained).split(b'\n')[0].decode('utf-8')
    assert shown[0] == source and 'unheard words' in shown
    for token, row in zip(lines[0], shown[1:]):
        assert row.split()[0] == token and row.split()[1] in source.split()
    assert sorted(os.listdir(str(tmp_path / 'a' / 'b'))) == ['0001.png', '0003.png']
    for name in ('0001.png', '0003.png'):
        assert (tmp_path / 'a' / 'b' / name).read_bytes().startswith(b'\x89PNG\r\n\x1a\n')


def test_predict_ends_quietly_when_its_reader_closes_the_pipe(trained, tmp_path):
    (tmp_path / 'in').write_bytes(b'one two\n' * 200)
    process = start('predict.py', '--input', tmp_path / 'in', '--batch-size', '1', cwd=trained.home,
                    stdin=subprocess.DEVNULL)
    assert process.stdout.readline().endswith(b'\n')
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b'', 0)


@pytest.mark.slow
def test_predict_loses_nothing_to_a_slow_reader(trained):
    """More than a pipe holds: predict.py has to wait again and again for a slow reader that begins late."""
    lines = 40000
    process = start('predict.py', '--input', '-', '--batch-size', '512', cwd=trained.home)
    threading.Thread(target=lambda: [process.stdin.write(b'one two\nthree\n' * (lines // 2)),
                                     process.stdin.close()]).start()
    time.sleep(5)
    parts = [os.read(process.stdout.fileno(), 4)]
    while parts[-1]:
        time.sleep(.001)
        parts.append(os.read(process.stdout.fileno(), 2000))
    out = b''.join(parts).decode('utf-8').split('\n')
    assert process.wait() == 0
    assert len(b''.join(parts)) > 3 * 65536 and out == out[:2] * (lines // 2) + ['']


def test_predict_without_a_run_says_how_to_get_one(cheap):
    one_line(cheap('predict.py'), 'predict.py', 'runs', 'train.py', '--run')


def test_the_run_trained_last_is_chosen(trained, tmp_path):
    for name, age in (('b', 2), ('c', 1), ('a', 3)):
        shutil.copytree(str(trained.path), str(tmp_path / name))
        os.utime(str(tmp_path / name / 'weights.h5'), (1e9 - age, 1e9 - age))
    (tmp_path / 'begun').mkdir()  # newer, without weights
    assert last_run(str(tmp_path)) == str(tmp_path / 'c')


@pytest.mark.parametrize('name, arguments, told', [
    ('missing input', ['--input', 'missing'], 'missing: cannot be read (No such file'),
    ('missing run', ['--run', 'missing', '--input', '-'], 'missing'),
])
def test_predict_refuses_before_it_loads_tensorflow(cheap, trained, name, arguments, told):
    one_line(cheap('predict.py', *arguments, cwd=trained.home), 'predict.py', told)


def test_predict_does_not_change_the_output_file_if_the_input_cannot_be_read(trained, tmp_path):
    (tmp_path / 'out').write_bytes(b'precious')
    result = run('predict.py', '--input', 'missing', '--output', tmp_path / 'out', cwd=trained.home)
    one_line(result, 'predict.py', 'missing')
    assert (tmp_path / 'out').read_bytes() == b'precious'


def test_predict_does_not_write_over_its_own_input(trained, tmp_path):
    (tmp_path / 'text').write_bytes(b'one\ntwo\n')
    result = run('predict.py', '--input', tmp_path / 'text', '--output', tmp_path / 'text', cwd=trained.home)
    assert (result.code, (tmp_path / 'text').read_bytes()) == (1, b'one\ntwo\n')
    one_line(result, 'predict.py', '--output')


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_predict_reports_a_full_disk_in_one_line(trained):
    result = run('predict.py', '--input', '-', '--output', '/dev/full', cwd=trained.home, text=b'one\n')
    one_line(result, 'predict.py', '/dev/full', 'No space left')
    with open('/dev/full', 'wb') as full:
        process = subprocess.Popen([sys.executable, str(ROOT / 'predict.py'), '--input', '-'], cwd=str(trained.home),
                                   env=environment(), stdin=subprocess.PIPE, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(b'one\n')
    assert process.returncode == 1
    assert re.fullmatch(b'predict.py: [^\n]*No space left[^\n]*\n', err)


@pytest.mark.slow
def test_closed_standard_streams_cause_no_traceback(trained, tmp_path):
    script = 'exec "$@" <&- >&-'
    for command in (['predict.py', '--input', '-'], ['evaluate.py']):
        line = [sys.executable, str(ROOT / command[0])] + command[1:]
        process = subprocess.Popen(['sh', '-c', script, 'sh'] + line, cwd=str(trained.home), env=environment(),
                                   stderr=subprocess.PIPE)
        _, err = process.communicate()
        assert (process.returncode, b'Traceback' in err) == (0, False), err


def damage_weights(path):
    content = bytearray((path / 'weights.h5').read_bytes())
    content[len(content) // 2] ^= 1
    (path / 'weights.h5').write_bytes(content)


def cut_weights(path):
    (path / 'weights.h5').write_bytes((path / 'weights.h5').read_bytes()[:-100])


def add_setting(path):
    config = json.loads((path / 'config.json').read_text(encoding='utf-8'))
    (path / 'config.json').write_text(json.dumps(dict(config, unitz=5)), encoding='utf-8')


def remove_token(path):
    lines = (path / 'vocab.source.txt').read_bytes().split(b'\n')
    (path / 'vocab.source.txt').write_bytes(b'\n'.join(lines[:-2] + lines[-1:]))


@pytest.mark.parametrize('damage, told', [
    (damage_weights, ['weights.h5', 'hash']),
    pytest.param(cut_weights, ['weights.h5', 'hash'], marks=pytest.mark.slow),
    pytest.param(add_setting, ["'unitz'", "'units'"], marks=pytest.mark.slow),
    pytest.param(remove_token, ['vocab.source.txt', 'hash'], marks=pytest.mark.slow),
])
def test_a_damaged_run_is_refused_in_one_line(copied, tmp_path, damage, told):
    damage(copied)
    one_line(run('predict.py', '--run', 'run', '--input', '-', cwd=tmp_path), 'predict.py', *told)


@pytest.mark.slow
@pytest.mark.parametrize('changes, told', [
    (dict(units=31, bidirectional=True), ['--bidirectional no']),  # what train.py refuses, load refuses
    (dict(units=48), ['weights.h5', '144']),
    (dict(units=2 ** 16), ['weights.h5']),  # before memory for its weights is taken
    (dict(units=2 ** 16, init_scale=0.), ['weights.h5']),  # nor for drawing any that the file will replace
    (dict(units=2 ** 52), ['units', '65536']),
    (dict(cell='lstm'), ['weights.h5']),
])
def test_a_config_that_does_not_fit_the_weights_is_refused_though_its_hash_is_right(copied, tmp_path, changes, told):
    config = json.loads((copied / 'config.json').read_text(encoding='utf-8'))
    content = json.dumps(dict(config, **changes)).encode('ascii')
    (copied / 'config.json').write_bytes(content)
    manifest = json.loads((copied / 'manifest.json').read_text(encoding='utf-8'))
    manifest['files']['config.json'] = hashlib.sha256(content).hexdigest()
    (copied / 'manifest.json').write_text(json.dumps(manifest), encoding='utf-8')
    one_line(run('predict.py', '--run', 'run', '--input', '-', cwd=tmp_path), 'predict.py', *told)


# evaluate.py

@pytest.fixture(scope='session')
def gold(tmp_path_factory, trained):
    """Gold links of val.tsv: target digit j comes from source word n - 1 - j."""
    path = tmp_path_factory.mktemp('gold') / 'val.align'
    rows = []
    for source, target in corpus.load([str(trained.data / 'val.tsv')]):
        rows.append(' '.join('%d-%d' % (len(target) - 1 - j, j) for j in range(len(target))))
    path.write_text('\n'.join(rows) + '\n')
    return path


def test_evaluate_agrees_with_predict_and_with_the_log(trained, predicted, gold):
    result = run('evaluate.py', '--split', 'val', '--json', '--bleu-tokenize', 'char', '--all-metrics',
                 '--alignments', gold,
                 cwd=trained.home)
    assert (result.code, result.stderr) == (0, '')
    values = json.loads(result.stdout.decode('utf-8'))
    outputs = predicted.split('\n')[:20]
    references = [target for _, target in corpus.load([str(trained.data / 'val.tsv')])]
    assert values['lines'] == 20
    assert values['exact match'] == metrics.exact_match(outputs, references)
    bleu = metrics.bleu(outputs, references, 'char')
    assert values['BLEU'] == bleu.score
    assert bleu.signature in result.stdout.decode('utf-8')  # no score without it
    assert values['ROUGE-L'] == metrics.rouge(outputs, references)['rougeL']
    best = min(read_csv(trained.path / 'log.csv'), key=lambda row: float(row['val_perplexity']))
    assert values['perplexity'] == pytest.approx(float(best['val_perplexity']), rel=1e-4)
    assert values['token accuracy'] == pytest.approx(float(best['val_accuracy']), abs=1e-6)
    assert 0 <= values['alignment agreement'] <= 1


@pytest.mark.slow
def test_evaluate_shows_a_table_with_the_signature(trained):
    result = run('evaluate.py', cwd=trained.home)
    assert (result.code, result.stderr) == (0, '')
    lines = result.stdout.decode('utf-8').splitlines()
    assert lines[0] == 'runs/numbers'
    assert [re.split('  +', line)[0] for line in lines[1:]] == [
        'lines', 'exact match', 'BLEU', 'chrF', 'TER', 'perplexity', 'token accuracy', 'decoding']
    assert re.split('  +', lines[1])[1] == '6'
    assert 'tok:zh' in lines[3] or 'tok.zh' in lines[3]  # the targets are Chinese


@pytest.mark.slow
def test_evaluate_scores_other_text_too(trained, tmp_path):
    (tmp_path / 's').write_bytes(b'one two\n\nthree\n')
    (tmp_path / 't').write_bytes('二一\n三\n\n'.encode('utf-8'))
    result = run('evaluate.py', '--source', tmp_path / 's', '--target', tmp_path / 't', '--json', cwd=trained.home)
    assert (result.code, result.stderr) == (0, '')
    assert json.loads(result.stdout.decode('utf-8'))['lines'] == 3


@pytest.mark.slow
def test_evaluate_by_length_accepts_bands_without_lines_to_score(trained, tmp_path):
    (tmp_path / 's').write_bytes(b'one\ntwo three\n')
    (tmp_path / 't').write_bytes('一\n\n'.encode('utf-8'))
    result = run('evaluate.py', '--source', tmp_path / 's', '--target', tmp_path / 't', '--by-length', '1',
                 cwd=trained.home)
    assert (result.code, result.stderr) == (0, '')


@pytest.mark.slow
def test_evaluate_treats_bad_bytes_as_the_run_did(trained, tmp_path):
    home = tmp_path / 'home'
    shutil.copytree(str(trained.home), str(home))
    path = home / 'runs' / 'numbers'
    with RunDirectory.open(str(path), lock=True) as one:
        one.write_config(dict(one.read_config(), on_bad_utf8='replace'))
    with (home / 'numbers' / 'test.tsv').open('ab') as stream:
        stream.write(b'one \xff\t\xe4\xb8\x80\n')
    result = run('evaluate.py', '--json', cwd=home)
    assert (result.code, result.stderr) == (0, '')
    assert json.loads(result.stdout.decode('utf-8'))['lines'] == 7


@pytest.mark.parametrize('arguments, told', [
    (['--split', 'val', '--alignments', 'a'], ['a: 3 lines for 20 pairs']),
    (['--source', 'b', '--target', 'b', '--alignments', 'f'], ['f, line 2: 0-99 is outside of']),
    pytest.param(['--source', 'b', '--target', 'c'], ['b has 2', 'c has 3'], marks=pytest.mark.slow),
    pytest.param(['--source', 'b', '--target', 'e'], ['e: ', 'empty'], marks=pytest.mark.slow),
    pytest.param(['--source', 'b', '--target', 'd'], ['d'], marks=pytest.mark.slow),
])
def test_evaluate_refuses_what_does_not_fit_together(cheap, trained, tmp_path, arguments, told):
    for name, content in (('a', b'0-0\n0-0\n0-0\n'), ('b', b'one\ntwo\n'), ('c', b'1\n2\n3\n'), ('d', b'\n\n'),
                          ('e', b''), ('f', b'0-0\n0-99\n')):
        (tmp_path / name).write_bytes(content)
    arguments = [str(tmp_path / argument) if len(argument) == 1 else argument for argument in arguments]
    one_line(run('evaluate.py', *arguments, cwd=trained.home), 'evaluate.py', *told)


@pytest.mark.slow
def test_evaluate_refuses_a_part_that_the_run_does_not_have(trained, tmp_path):
    shutil.copytree(str(trained.home), str(tmp_path / 'home'))
    (tmp_path / 'home' / 'numbers' / 'test.tsv').unlink()
    one_line(run('evaluate.py', '--split', 'test', cwd=tmp_path / 'home'), 'evaluate.py', 'test', '--source', '--split')


# evaluate.py without a model

OUTPUTS = ['the cat sat on the mat .', 'a dog', 'Paris', 'it rains in the old town', '']
WANTED = ['the cat sat on a mat .', 'a dog barks', 'paris.', 'it rained in the old town', 'nothing']


def evaluated(cheap, tmp_path, *arguments, outputs=OUTPUTS):
    for name, lines in (('out', outputs), ('ref', WANTED), ('src', ['w ' * n for n in (3, 9, 1, 12, 2)])):
        (tmp_path / name).write_bytes(''.join(line + '\n' for line in lines).encode('utf-8'))
    return cheap('evaluate.py', '--hypotheses', 'out', '--target', 'ref', *arguments)


def test_outputs_are_scored_without_a_model_as_the_libraries_score_them(cheap, tmp_path):
    result = evaluated(cheap, tmp_path, '--json', '--bleu-tokenize', 'char')
    assert (result.code, result.stderr) == (0, '')
    values, rouge = json.loads(result.stdout.decode('utf-8')), metrics.rouge(OUTPUTS, WANTED)
    for name, (score, signature) in (('BLEU', metrics.bleu(OUTPUTS, WANTED, 'char')),
                                     ('chrF', metrics.chrf(OUTPUTS, WANTED)), ('TER', metrics.ter(OUTPUTS, WANTED))):
        assert (values[name], values['notes'][name]) == (score, signature)
    assert [values['ROUGE-' + kind] for kind in '12L'] == [rouge['rouge' + kind] for kind in '12L']
    assert (values['exact match'], values['SQuAD exact match']) == (0, .4)  # no articles, no case
    assert values['token F1'] == metrics.token_f1(OUTPUTS, WANTED)
    assert 'perplexity' not in values
    command = subprocess.check_output([sys.executable, '-m', 'sacrebleu', 'ref', '-i', 'out', '-m', 'bleu', 'chrf',
                                       'ter', '-tok', 'char', '-w', '4'], cwd=str(tmp_path), env=environment())
    printed = [float(line.split(' = ')[1].split()[0]) for line in command.decode('utf-8').strip().split('\n')]
    assert printed == pytest.approx([values['BLEU'], values['chrF'], values['TER']], abs=5.1e-5)


def test_intervals_and_comparison_are_those_of_the_bootstrap(cheap, tmp_path):
    better = ['the cat sat on a mat .', 'a dog barks', 'paris', 'it rained in town', 'x']
    (tmp_path / 'b').write_text(''.join(line + '\n' for line in better))
    arguments = ['--bootstrap', '50', '--compare', 'b']
    values = json.loads(evaluated(cheap, tmp_path, '--json', *arguments).stdout.decode('utf-8'))
    first, second = metrics.token_f1_lines(OUTPUTS, WANTED), metrics.token_f1_lines(better, WANTED)
    assert values['intervals']['token F1'] == list(metrics.bootstrap(first, 5, 50))
    assert values['compare']['token F1'] == {'score': second(), 'p': metrics.paired_bootstrap(first, second, 5, 50)}
    table = evaluated(cheap, tmp_path, *arguments).stdout.decode('utf-8')
    low, high = values['intervals']['BLEU']
    assert re.search(r'^BLEU +%.4f  \[%.4f, %.4f\]  BLEU\+' % (values['BLEU'], low, high), table, re.MULTILINE)
    assert 'p = %.4f' % values['compare']['token F1']['p'] in table.split('\n\n')[1]


def test_bleu_by_source_length_is_printed_and_plotted(cheap, tmp_path):
    result = evaluated(cheap, tmp_path, '--source', 'src', '--by-length', '2,9', '--plot', 'bands.png', '--json')
    assert (result.code, result.stderr) == (0, '')
    values = json.loads(result.stdout.decode('utf-8'))
    assert [values['lines of ' + band] for band in ('up to 2', '3-9', 'over 9')] == [2, 2, 1]
    assert values['BLEU of 3-9'] == metrics.bleu(OUTPUTS[:2], WANTED[:2], '13a').score
    assert (tmp_path / 'bands.png').read_bytes().startswith(b'\x89PNG')


def test_outputs_that_do_not_fit_are_refused(cheap, tmp_path):
    one_line(evaluated(cheap, tmp_path, outputs=OUTPUTS[1:]), 'evaluate.py', 'out has 4 lines', 'ref has 5')
    one_line(evaluated(cheap, tmp_path, '--source', 'src', outputs=OUTPUTS[1:]), 'evaluate.py', 'out: 4 lines',
             '5 pairs')
    one_line(evaluated(cheap, tmp_path, '--compare', 'none'), 'evaluate.py', 'none', 'No such file')
    for arguments, told in ((['--alignments', 'a'], '--alignments'), (['--by-length', '3'], '--source'),
                            (['--source', 'src', '--by-length', '\u00b2'], 'give increasing numbers from 1'),
                            (['--source', 'src', '--plot', 'x'], '--by-length')):
        result = evaluated(cheap, tmp_path, *arguments)
        assert result.code == 2 and told in result.stderr


@pytest.mark.slow
def test_a_run_is_compared_with_itself_and_decodes_with_a_beam(trained, tmp_path):
    result = run('evaluate.py', '--json', '--beam-width', '2', '--compare', trained.path, '--bootstrap', '20',
                 cwd=trained.home)
    assert (result.code, result.stderr) == (0, '')
    values = json.loads(result.stdout.decode('utf-8'))
    assert values['compare']['BLEU'] == {'score': values['BLEU'], 'p': 1.}


# Names in other scripts

@pytest.mark.slow
def test_a_path_in_another_script_works_in_any_locale(trained, tmp_path):
    """Python 3.6 encodes paths in ASCII in an ASCII locale; the path in config.json must still be found."""
    folder = os.fsdecode('数字'.encode('utf-8'))  # also where the tests run in such a locale
    shutil.copytree(str(trained.data), str(tmp_path / folder))
    result = run('train.py', '--data', folder, '--run', 'r', '--epochs', '1', *SMALL, cwd=tmp_path, LC_ALL='C.UTF-8')
    assert result.code == 0, result.stderr
    result = run('evaluate.py', '--run', 'r', '--json', cwd=tmp_path)
    assert (result.code, result.stderr) == (0, '')
    assert json.loads(result.stdout.decode('utf-8'))['lines'] == 6


@pytest.mark.slow
def test_pretrained_vectors_are_counted_and_training_starts_from_them(tmp_path):
    write_pairs(tmp_path / 'a', number_pairs(20, 1))
    (tmp_path / 'in.vec').write_bytes(b'2 3\nseven 1 2 3\nelephant 4 5 6\n')
    (tmp_path / 'out.vec').write_bytes('七 .1 .2 .3\n三 .4 .5 .6\n'.encode('utf-8'))
    result = run('train.py', '--run', 'r', '--train', 'a', '--val', 'a', '--units', '4', '--embedding', '3',
                 '--threads', '1', '--epochs', '1', '--learning-rate', '1e-12', '--source-embeddings', 'in.vec',
                 '--target-embeddings', 'out.vec', cwd=tmp_path)
    assert result.code == 0, result.stderr
    assert 'in.vec: vectors for 1 of 10 source tokens (10.0 %)' in result.stderr
    assert 'out.vec: vectors for 2 of 10 target tokens (20.0 %)' in result.stderr
    directory = RunDirectory.open(str(tmp_path / 'r'))
    with h5py.File(directory.file('weights.h5'), 'r') as weights:
        for side, rows in (('source', {'seven': [1, 2, 3]}), ('target', {'七': [.1, .2, .3], '三': [.4, .5, .6]})):
            name = 'vocab.%s.txt' % side
            vocabulary = Vocabulary.from_bytes(directory.read_file(name), name)
            table = weights['%s_embedding' % side]['%s_embedding/embeddings:0' % side][()]
            for token, row in rows.items():
                assert np.abs(table[vocabulary.index[token]] - row).max() < 1e-6
