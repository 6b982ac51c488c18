"""Translators from run directories: hypotheses, ensembles, threads, several in one process."""
import collections
import concurrent.futures
import gc
import math
import os
import re
import subprocess
import sys
import threading
import time
from unittest import mock
import urllib.request

import pytest

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K
from text.questions import separators
from text.vocabulary import END, PAD, START, Vocabulary
from storage.run_directory import RunDirectory
from seq2seq_model import Seq2Seq
from command_line import UserError
from decoding import search_graph
from search_options import Options
from settings import defaults, with_defaults
from reference import numpy_model
from small_models import set_weights
from test_commands import ROOT, environment, run, trained  # noqa: F401
from test_docs import python_blocks
import translator
from translator import Translator

WORDS = 'we like the coat that your grandmother bought'.split()
TEXTS = ['we like the coat', 'grandmother bought that coat', '', 'the', 'your coat that we like', 'we that bought']

Run = collections.namedtuple('Run', 'path numpy')


def make_folder(path, words=WORDS, **values):
    """A locked run directory before its training, and its settings."""
    config = dict(defaults(), units=6, embedding=5, threads=1, source_tokenizer='space', target_tokenizer='space')
    config.update(values)
    vocabulary = Vocabulary(['<pad>', '<unk>', '<s>', '</s>'] + words).to_bytes()
    files = {'vocab.%s.txt' % side: vocabulary for side in ('source', 'target')}
    return RunDirectory.create(path, config, files, {}), config


def make_run(path, seed, words=WORDS, **values):
    """A run directory with known weights, all but the training, and the NumPy model that has the same."""
    run, config = make_folder(path, words, **values)
    size = len(words) + 4
    ends = separators(with_defaults(config), Vocabulary(['<pad>', '<unk>', '<s>', '</s>'] + words))
    with run, tf_session.temporary(threads=1):
        model = Seq2Seq(with_defaults(config), size, size, ends)
        weights = set_weights(model, seed=seed, scale=3.)
        run.write_weights([(layer.name, [(weight.name, value) for weight, value in
                                         zip(layer.weights, K.batch_get_value(layer.weights))])
                           for layer in model.training_model.layers if layer.weights])
    return Run(path, numpy_model.NumpyModel(config, weights, ends))


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    return {'a': make_run(str(folder / 'a'), 54, score='general'),
            'b': make_run(str(folder / 'b'), 34, score='concat', cell='gru', input_feeding=True),
            'none': make_run(str(folder / 'none'), 4, score='none', bidirectional=False)}


@pytest.fixture(scope='module')
def a(runs):
    return Translator.load(runs['a'].path)


@pytest.fixture(scope='module')
def unattended(runs):
    return Translator.load(runs['none'].path)


@pytest.fixture(scope='module')
def ensemble(runs):
    return Translator.load([runs['a'].path, runs['b'].path])


def assert_same(some, others, tolerance=1e-5):
    assert len(some) == len(others)
    for one, other in zip(some, others):
        assert one.text == other.text and one.tokens == other.tokens and one.ended == other.ended
        assert one.alignment.shape == other.alignment.shape
        for field in ('score', 'ranking', 'log_probabilities', 'alignment', 'margins'):
            difference = np.abs(np.subtract(getattr(one, field), getattr(other, field)))
            assert np.all(difference <= tolerance), field


def flat(hypotheses):
    return [one for each in hypotheses for one in each]


# Hypotheses

def test_hypotheses_come_best_first_with_their_scores_and_an_empty_text_gives_an_empty_one(a):
    found = a.translate(TEXTS, batch_size=2, beam_width=4, n_best=3, length_penalty=1., max_length=7)
    assert len(found) == len(TEXTS)
    for text, hypotheses in zip(TEXTS, found):
        if not text:
            assert [one[:3] + one[5:] for one in hypotheses] == [('', [], 0., True, [], 0., [], (), ())]
            continue
        assert len(hypotheses) == len({one.text for one in hypotheses}) == 3
        rankings = [one.ranking for one in hypotheses]
        assert rankings == sorted(rankings, reverse=True)
        for one in hypotheses:
            count = len(one.tokens) + one.ended
            assert count <= 7 and (one.ended or count == 7)
            assert one.source_tokens == text.split()
            assert one.text == ' '.join(one.tokens) and len(one.log_probabilities) == len(one.margins) == count
            assert one.score == sum(one.log_probabilities) and min(one.log_probabilities) > -50
            assert abs(one.ranking - one.score * 6. / (5. + count)) < 1e-5
            assert one.alignment.shape == (len(one.tokens), len(text.split()))
            assert np.allclose(np.sum(one.alignment, axis=1), 1., atol=1e-5)
    assert any(one.ended for one in flat(found)) and not all(one.ended for one in flat(found))


def test_without_penalties_the_ranking_is_the_score_itself(a):
    for one in flat(a.translate(TEXTS) + a.translate(TEXTS, beam_width=3, n_best=3, no_repeat_ngram=2)):
        assert one.ranking == one.score


@pytest.mark.parametrize('name', ['a', pytest.param('ensemble', marks=pytest.mark.slow)])
def test_the_score_of_a_beams_hypothesis_is_that_of_the_training_graph(name, request):
    translator, pairs, made = request.getfixturevalue(name), [], []
    for text, hypotheses in zip(TEXTS, translator.translate(TEXTS, beam_width=3, n_best=3, no_repeat_ngram=2)):
        for one in hypotheses:
            if text and one.ended and '<unk>' not in one.tokens:
                pairs.append((text, one.text))
                made.append(one)
    assert len(made) >= 2
    for one, scored in zip(made, translator.score(pairs, batch_size=3)):
        assert abs(one.score - scored.score) < 1e-5 and scored.ranking == scored.score
        assert np.max(np.abs(np.subtract(one.log_probabilities, scored.log_probabilities))) < 1e-5
        assert np.all(np.abs(one.alignment - scored.alignment) < 1e-5)


def test_limits_of_the_output_reach_the_search(a):
    assert [len(one.log_probabilities) for one in flat(a.translate(TEXTS, max_length=3, min_length=3))] == \
        [3, 3, 0, 3, 3, 3]
    for text, (one,) in zip(TEXTS, a.translate(TEXTS, max_length_ratio=0.5)):
        assert len(one.log_probabilities) <= max(1, len(text.split()) // 2)


def test_a_wrong_option_is_refused_before_any_work(a, unattended):
    with pytest.raises(UserError, match='n_best 2 is more than a beam of width 1 finds'):
        a.translate(TEXTS, n_best=2)
    with pytest.raises(UserError, match='coverage_penalty needs attention'):
        unattended.translate(TEXTS, beam_width=2, coverage_penalty=0.1)


# Ensembles

def test_any_values_of_the_options_share_graphs_of_a_bounded_number(a):
    def operations():
        return len(a.session.graph.get_operations())

    a.translate(TEXTS, beam_width=2)
    first = a.translate(TEXTS[:1], beam_width=4, length_penalty=0.5)
    a.candidates(first[0])
    before = operations()
    for n in range(1, 41):
        found = a.translate(TEXTS[:1], beam_width=1 + n % 7 + 1, n_best=1 + n % 3 % 2, min_length=n % 5,
                            length_penalty='average' if n % 9 == 0 else n / 7., max_length=6 + n % 4)
        a.candidates(found[0], 1 + n % 9)
    assert operations() == before
    assert flat(a.translate(TEXTS[:1], beam_width=4, length_penalty=0.5))[0].ranking == first[0][0].ranking
    kinds = {search_graph.kind(Options(width, 1, penalty, coverage, minimum, maximum, ratio, ngram))
             for width in (1, 2, 16) for penalty in (0., 2., 'average') for coverage in (0., .1, 3.)
             for minimum in (0, 9) for maximum in (None, 10) for ratio in (None, 2.) for ngram in (0, 1, 100)}
    assert len(kinds) == 8


def test_a_deadline_ends_a_search_with_an_error_and_changes_nothing_before_it(a):
    with mock.patch.object(a, '_run', side_effect=AssertionError('work after the deadline')), pytest.raises(
            TimeoutError, match='time limit'):
        a.translate(TEXTS, deadline=time.time() - 1.)
    with mock.patch.object(a, '_run', side_effect=AssertionError('work after the deadline')), pytest.raises(
            TimeoutError, match='time limit'):
        a.score([('we like', 'the coat')], deadline=time.time() - 1.)
    assert_same(flat(a.translate(TEXTS, deadline=time.time() + 1e4)), flat(a.translate(TEXTS)), 0.)
    sizes = []
    with mock.patch.object(translator, 'TIMED_TOKENS', 30):  # the encoder cannot be ended: little padding
        for deadline in (np.inf, time.time() + 1e4):
            a.translate(['the ' * 10] + TEXTS[:1] * 5, deadline=deadline, max_length=2, progress=sizes.append)
    assert sizes == [6, 3, 3]


@pytest.mark.parametrize('options', [{}, dict(beam_width=3, n_best=2, length_penalty=1., coverage_penalty=0.1)],
                         ids=['greedy', 'beam'])
@pytest.mark.slow
def test_an_ensemble_of_a_run_with_itself_is_the_run(a, runs, options):
    twice = Translator.load([runs['a'].path] * 2)
    some, others = [flat(one.translate(TEXTS, **options)) for one in (twice, a)]
    # The ensemble's logits are log-probabilities: the same margins.
    assert_same(some, others, 2e-5)
    pairs = [('we like', 'the coat'), ('bought', 'we we that')]
    assert_same(twice.score(pairs), a.score(pairs), 2e-5)


def averaged(runs, source, target):
    """Log of the mean probability `(T, V)` and mean weights `(T, S)` of models for one pair of id lists."""
    forward = [run.numpy.forward([source], [[START] + target]) for run in runs]
    probabilities = np.mean([np.exp(numpy_model.log_softmax(one['logits'][0])) for one in forward], axis=0)
    return np.log(probabilities), np.mean([one['weights'][0] for one in forward if 'weights' in one], axis=0)


@pytest.mark.parametrize('names', [('a', 'b'), pytest.param(('none', 'b', 'a'), marks=pytest.mark.slow)])
def test_an_ensemble_averages_probabilities_and_the_alignments_of_those_that_attend(runs, names, ensemble):
    members = [runs[name] for name in names]
    translator = ensemble if names == ('a', 'b') else Translator.load([run.path for run in members])
    check_averages(members, translator, WORDS, TEXTS, [('we like the coat', 'the coat that'),
                                                       ('bought', 'your grandmother')])


@pytest.mark.slow
def test_an_ensemble_of_runs_with_stories_and_hops(tmp_path):
    words = '| . we like the coat'.split()
    members = [make_run(str(tmp_path / 'a'), 54, words, encoder='dmn', hops=3, cell='gru', score='general'),
               make_run(str(tmp_path / 'b'), 34, words, encoder='dmn', score='dot', input_feeding=True),
               make_run(str(tmp_path / 'c'), 4, words, hops=2)]
    texts = ['we like | the coat . we like the . coat .', 'the | coat . like', '']
    check_averages(members, Translator.load([run.path for run in members]), words, texts, [(texts[0], 'the coat')])


def check_averages(members, translator, words, texts, pairs):
    """Compares greedy and beam search and scores of an ensemble with the mean of the NumPy models."""
    vocabulary = ['<pad>', '<unk>', '<s>', '</s>'] + words
    greedy, beam = [translator.translate(texts, max_length=8, **options)
                    for options in ({}, dict(beam_width=3, n_best=3, no_repeat_ngram=2))]
    scored = [(text, [one]) for (text, _), one in zip(pairs, translator.score(pairs))]
    for kind, cases in (('greedy', zip(texts, greedy)), ('beam', zip(texts, beam)), ('score', scored)):
        for text, (one, *_) in cases:
            if not text:
                continue
            source, target = [[vocabulary.index(word) for word in words] for words in (text.split(), one.tokens)]
            log_p, weights = averaged(members, source, target)
            ids = np.array(target + [END] * one.ended)
            steps = np.arange(len(ids))
            assert np.max(np.abs(log_p[steps, ids] - one.log_probabilities)) < 2e-5
            assert one.alignment.size == 0 or np.max(np.abs(weights[:len(target)] - one.alignment)) < 1e-5
            log_p[:, [PAD, START]] = -np.inf
            if kind == 'greedy':
                assert np.array_equal(np.argmax(log_p[:len(ids)], axis=1), ids)
            if kind != 'beam':  # whose blocked tokens are no runners-up
                others = log_p[:len(ids)].copy()
                others[steps, ids] = -np.inf
                assert np.max(np.abs(log_p[steps, ids] - np.max(others, axis=1) - one.margins)) < 2e-5


def test_runs_of_different_vocabularies_or_tokenisers_cannot_form_an_ensemble(runs, tmp_path):
    paths = [str(tmp_path / name) for name in ('words', 'tokens')]
    make_folder(paths[0], WORDS[:-1] + ['sold'])[0].close()
    make_folder(paths[1], target_tokenizer='word')[0].close()
    with pytest.raises(UserError) as caught:
        Translator.load([runs['a'].path, paths[0]])
    message = str(caught.value)
    assert message.startswith(paths[0] + '/vocab.source.txt: differs from ' + runs['a'].path) and '\n' not in message
    with pytest.raises(UserError, match='tokens/config.json: target_tokenizer is word, and space in .*/a/config.json'):
        Translator.load([runs['a'].path, paths[1]])


# Threads and processes

@pytest.mark.parametrize('options', [{}, pytest.param(dict(beam_width=2, n_best=2), marks=pytest.mark.slow)],
                         ids=['greedy', 'beam'])
def test_parallel_batches_give_the_results_of_sequential_ones_in_the_order_of_the_texts(a, runs, options):
    texts = TEXTS * 4
    with_three = Translator.load(runs['a'].path, threads=3)
    assert_same(flat(with_three.translate(texts, batch_size=2, **options)),
                flat(a.translate(texts, batch_size=2, **options)))
    # Less than a batch for each thread is divided among them.
    assert_same(flat(with_three.translate(TEXTS, batch_size=64, **options)), flat(a.translate(TEXTS, **options)))
    pairs = [(text, 'the coat') for text in texts]
    assert_same(with_three.score(pairs, batch_size=2), a.score(pairs, batch_size=2))
    barrier = threading.Barrier(3, timeout=60)  # breaks where fewer than three wait at it
    assert sorted(with_three.map_parallel(lambda batch: barrier.wait(), [[0], [1], [2]])) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        list(with_three.map_parallel(lambda batch: 1 // batch, [1, 0, 2]))


@pytest.mark.slow
def test_threads_with_different_searches_get_the_results_of_single_calls(a, runs):
    asked = [{}, dict(beam_width=2), dict(beam_width=3, n_best=3, length_penalty=1.), dict(no_repeat_ngram=1)]
    shared, results, errors = Translator.load(runs['a'].path), {}, []

    def work(number):
        try:
            for turn in range(3):
                results[number, turn] = shared.translate(TEXTS, batch_size=2, **asked[(number + turn) % len(asked)])
            results[number, 'score'] = shared.score([('we like', 'the coat')])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    alone = [a.translate(TEXTS, batch_size=2, **options) for options in asked]
    for number in range(4):
        for turn in range(3):
            assert_same(flat(results[number, turn]), flat(alone[(number + turn) % len(asked)]))
        assert_same(results[number, 'score'], a.score([('we like', 'the coat')]))


def test_several_translators_in_one_process_have_their_own_weights(a, unattended):
    before, other = flat(a.translate(TEXTS)), unattended
    assert other.session.graph is not a.session.graph
    theirs = flat(other.translate(TEXTS))
    assert_same(flat(a.translate(TEXTS)), before, 0.)
    assert_same(flat(other.translate(TEXTS)), theirs, 0.)
    assert [one.text for one in theirs] != [one.text for one in before]


def graphs():
    """The graphs of TensorFlow in this process."""
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, tf.Graph)]


def test_a_closed_translator_frees_its_graph_and_tells_a_later_caller(runs, a):
    before = len(graphs())
    with Translator.load(runs['a'].path) as closed:
        closed.translate(TEXTS, beam_width=2)
        assert len(graphs()) == before + 1
    assert len(graphs()) == before
    closed.close()  # once more does nothing
    for call in (lambda: closed.translate(TEXTS), lambda: closed.score([('we', 'the')]),
                 lambda: closed.candidates(a.translate(['we'])[0])):
        with pytest.raises(UserError, match='this Translator is closed: load the run again'):
            call()


def test_a_run_that_cannot_be_loaded_leaves_no_graph(runs, tmp_path):
    run, _ = make_folder(str(tmp_path / 'run'), units=8)
    run.write_weights([('encoder', [('kernel', np.zeros((2, 2), 'f'))])])
    run.close()
    before = len(graphs())
    with pytest.raises(UserError, match='weights.h5'):
        Translator.load(run.path)
    assert len(graphs()) == before


# What cannot work

@pytest.mark.parametrize('texts, told', [
    ('we like the coat', r'not one string: put it in a list, \[text\]'), (b'we', 'not one string'),
    (['we', None], 'item 1 is of type NoneType'), ([b'we'], 'item 0 is of type bytes')])
def test_texts_other_than_a_list_of_strings_are_refused(a, texts, told):
    with pytest.raises(UserError, match=told):
        a.translate(texts)


def test_pairs_other_than_a_list_of_two_strings_are_refused(a):
    for pairs in ('we', ['we'], [('we', 'like', 'the')], [('we', None)]):
        with pytest.raises(UserError, match='pairs must be a list of'):
            a.score(pairs)
    assert a.score([]) == [] and a.translate([]) == []
    assert_same(flat(a.translate(iter(['we']))), flat(a.translate(['we'])))


FORKED = '''
import os, signal, sys
from command_line import UserError
from translator import Translator
if sys.argv[2] == 'before':
    translator = Translator.load(sys.argv[1])
child = os.fork()
if not child:
    signal.alarm(60)
    try:
        translator.translate(['we like the coat'])
    except (UserError, NameError) as error:
        print(error)
    try:
        print(len(Translator.load(sys.argv[1]).translate(['we like the coat'])))
    except UserError as error:
        print(error)
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
'''


@pytest.mark.slow
def test_a_translator_from_before_a_fork_raises_an_error_and_one_loaded_after_it_works(runs):
    def told(when):
        done = subprocess.run([sys.executable, '-c', FORKED, runs['a'].path, when], cwd=str(ROOT),
                              stdout=subprocess.PIPE, env=environment())
        assert done.returncode == 0
        return done.stdout.decode('utf-8').splitlines()
    first, second = told('before')
    assert 'loaded before the process was forked' in first and 'load it in each worker process' in first
    assert 'in the process that forked this one' in second and "get_context('spawn')" in second
    assert told('after') == ["name 'translator' is not defined", '1']


@pytest.mark.slow
def test_the_example_of_workers_on_the_page_on_serving_works(trained, tmp_path):  # noqa: F811
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs' / 'translate').symlink_to(trained.path)
    (tmp_path / 'workers.py').write_text(python_blocks('docs/serving.md')[0])
    done = subprocess.run([sys.executable, 'workers.py'], cwd=str(tmp_path), stdout=subprocess.PIPE, timeout=300,
                          env=environment(PYTHONPATH=str(ROOT), PYTHONIOENCODING='utf-8'))
    assert done.returncode == 0
    assert done.stdout == run('predict.py', '--run', trained.path, '--input', '-', cwd=tmp_path,
                              text=b'where is the book ?\nthe book is here .\n').stdout


@pytest.mark.slow
@pytest.mark.parametrize('preload', [[], ['--preload']], ids=['', 'preload'])
def test_the_application_for_gunicorn_on_the_page_on_serving_works(trained, tmp_path, preload):  # noqa: F811
    gunicorn = pytest.importorskip('gunicorn', reason='needs gunicorn, see docs/serving.md')
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs' / 'translate').symlink_to(trained.path)
    for name, block in zip(('application.py', 'gunicorn.conf.py'), python_blocks('docs/serving.md')[1:3]):
        (tmp_path / name).write_text(block)
    packages = os.path.dirname(os.path.dirname(gunicorn.__file__))
    process = subprocess.Popen(
        [sys.executable, '-m', 'gunicorn', *preload, '--workers', '2', '--timeout', '120', '--bind', '127.0.0.1:0',
         'application:application'], cwd=str(tmp_path), stderr=subprocess.PIPE, universal_newlines=True,
        env=environment(PYTHONPATH=os.pathsep.join([str(ROOT), packages])))
    try:
        port = next(match.group(1) for match in (re.search('Listening at: http://127.0.0.1:([0-9]+)', line)
                                                 for line in process.stderr) if match)
        texts = ['nine', 'five two', 'one two three'] * 3
        with concurrent.futures.ThreadPoolExecutor(3) as pool:  # so that both workers answer
            answers = list(pool.map(lambda text: urllib.request.urlopen(
                'http://127.0.0.1:%s/' % port, text.encode('utf-8'), timeout=120).read(), texts))
    finally:
        process.terminate()
        errors = process.communicate(timeout=60)[1]
    assert 'Traceback' not in errors
    assert b''.join(answer + b'\n' for answer in answers) == run(
        'predict.py', '--run', trained.path, '--input', '-', cwd=tmp_path, text='\n'.join(texts).encode('utf-8')).stdout


def test_the_memory_of_a_search_is_estimated_before_it_begins(a, monkeypatch):
    monkeypatch.setattr(translator, 'MINIMUM_MEMORY', 1)  # below that, nothing is asked of the system
    monkeypatch.setattr(translator, 'available_memory', lambda: 2 ** 24)
    with pytest.raises(UserError, match='with beam_width 1000 over 12 tokens, for a source of 5 tokens and outputs '
                       'of up to 1000, takes about [0-9.]+ GiB of memory, and there are 0.0 GiB: lower beam_width'):
        a.translate(TEXTS, beam_width=1000, max_length=1000)
    # Fewer sentences at a time where that is enough.
    monkeypatch.setattr(translator, 'available_memory', lambda: 2 ** 30)
    sizes = []
    monkeypatch.setattr(a, '_search', lambda sources, *_: sizes.append(len(sources)) or 1 // 0)
    with pytest.raises(ZeroDivisionError):
        a.translate(TEXTS * 20, 100, beam_width=100, max_length=10000)
    assert 1 <= sizes[0] < 10


@pytest.mark.parametrize('name', ['a', 'ensemble', 'unattended'])
def test_the_candidates_of_a_step_have_the_probabilities_of_the_search(request, name):
    translator = request.getfixturevalue(name)
    outputs = [best for best, in translator.translate(TEXTS, max_length=5)]
    found = translator.candidates(outputs, count=3, batch_size=2)
    assert [len(steps) for steps in found] == [len(one.tokens) for one in outputs] and max(map(len, found)) > 1
    for steps, one in zip(found, outputs):
        for step, token, log_probability in zip(steps, one.tokens, one.log_probabilities):
            probabilities = [probability for _, probability in step]
            assert step[0][0] == token and abs(step[0][1] - math.exp(log_probability)) < 1e-5
            assert len(step) == 3 and probabilities == sorted(probabilities, reverse=True)
            assert sum(probabilities) <= 1. + 1e-5 and not {'<pad>', '<s>'} & {other for other, _ in step}
