"""Links between tokens: their files, what does not fit a run, their scores, and the aligner of `--alignments auto`."""
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

from hypothesis import given, strategies
import pytest

import command_line  # noqa: F401  first: sets what NumPy reads when it is imported

import numpy as np

from command_line import UserError
from reports.alignment_scores import alignment_scores
from settings import check, resolve_settings
from storage.files import file_sha256
from test_commands import ROOT, cheap, no_tensorflow, one_line, run  # noqa: F401
from text import preparation, word_aligner
from text.alignments import Gold, read_alignments
from text.corpus import corpus_paths
from training.start import SharedFiles

FAKE = '''#!%s -S
"""Aligns token k with token k. With FAIL it fails, with BAD its links are out of range, with HANG it never ends."""
import os, subprocess, sys
option = dict(zip(sys.argv[1::2], sys.argv[2::2])) if sys.argv.pop(1) == '--overwrite' else None
with open(os.path.join(os.path.dirname(sys.argv[0]), 'calls'), 'a') as calls:
    calls.write('%%s %%s\\n' %% (os.environ.get('OMP_NUM_THREADS'), os.environ.get('PYTHONPATH')))
if 'HANG' in os.environ:
    subprocess.call(['sh', '-c', 'echo $$ > "$HANG"; exec sleep 600 > /dev/null 2>&1'])
if 'FAIL' in os.environ:
    sys.exit('first line\\nout of memory')
with open(option['-s'], encoding='utf-8') as source, open(option['-t'], encoding='utf-8') as target:
    sizes = [tuple(len(line.split(' ')) for line in pair) for pair in zip(source, target)]
for name in '-f', '-r':
    with open(option[name], 'w') as output:
        for pair in sizes:
            count = min(pair) + (5 if 'BAD' in os.environ else 0)
            output.write(' '.join('%%d-%%d' %% (k, k) for k in range(count)) + '\\n')
'''


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder with a small aligner, which EFLOMAL names, and a text."""
    program = tmp_path / 'aligner'
    program.write_text(FAKE % sys.executable)
    program.chmod(0o700)
    monkeypatch.setenv('EFLOMAL', str(program))
    (tmp_path / 'a.tsv').write_text('a b c\tx y\n\tz\nc a\u00a0b\tz x y\n', encoding='utf-8')
    return tmp_path


def chosen_settings(folder, **values):
    return resolve_settings(dict(dict(train=[str(folder / 'a.tsv')], val=[str(folder / 'a.tsv')],
                                      source_tokenizer='char', target_tokenizer='word', guided_alignment=.1,
                                      alignments='auto'), **values))


def prepared(folder, run=None, cache=None, **values):
    settings = chosen_settings(folder, **values)
    check(settings)
    paths = corpus_paths(settings)
    hashes = {part: [file_sha256(path) for path in files] for part, files in paths.items()}
    return preparation.prepare(settings, paths, hashes, run, cache)


# ---- Files ------------------------------------------------------------------------------------------------------
def written(path, *lines):
    path.write_text(''.join(line + '\n' for line in lines))
    return str(path)


def test_alignments_are_read_with_empty_lines_and_possible_links(tmp_path):
    path = written(tmp_path / 'gold', '0-0 10-2  3-2', '', '4-1 0?17 2p3')
    assert read_alignments(path) == [([(0, 0), (10, 2), (3, 2)], []), ([], []), ([(4, 1)], [(0, 17), (2, 3)])]


@pytest.mark.parametrize('bad', ['1:2', '1-', '-1-2', '1-2-3', '1-2,3-4', 'a-b', '\u0663-1', '1??2', '1P2', '?1',
                                 '1-9999999999'])
def test_a_malformed_link_is_refused_with_file_and_line(tmp_path, bad):
    (tmp_path / 'gold').write_text('0-0\n1-1 %s 2-2\n' % bad, encoding='utf-8')
    with pytest.raises(UserError) as error:
        read_alignments(str(tmp_path / 'gold'))
    assert '%s, line 2: %r is not a link' % (tmp_path / 'gold', bad) in str(error.value)
    assert '\n' not in str(error.value)


WORDS = ['the %s of my house .' % ' '.join('w%02d' % (k * k % 97) for k in range(n)) for n in range(3, 63)]


def identity(texts, divide=str.split):
    return [' '.join('%d-%d' % (k, k) for k in range(len(divide(text)))) for text in texts]


def guided_by(folder, links, texts=WORDS, **values):
    """The training corpus of pairs of equal texts with these lines of links."""
    (folder / 'a.tsv').write_text(''.join('%s\t%s\n' % (text, text) for text in texts))
    return prepared(folder, alignments=written(folder / 'links', *links), **dict(dict(
        source_tokenizer='space', target_tokenizer='space', max_target_length=1000, max_source_length=1000), **values))


def test_links_between_words_are_refused_where_tokens_are_smaller(tmp_path, capsys):
    guided_by(tmp_path, identity(WORDS))
    assert 'warning' not in capsys.readouterr().err
    with pytest.raises(UserError, match='links are between words, and tokens of --source-tokenizer char'):
        guided_by(tmp_path, identity(WORDS), source_tokenizer='char', target_tokenizer='char')
    with pytest.raises(UserError, match='--target-tokenizer char are smaller: 0 of 60 lines'):
        guided_by(tmp_path, identity(WORDS), target_tokenizer='char')
    guided_by(tmp_path, identity(WORDS, list), source_tokenizer='char', target_tokenizer='char')
    assert 'warning' not in capsys.readouterr().err


def test_links_that_end_before_the_text_give_a_warning(tmp_path, capsys):
    halves = [' '.join(line.split()[:len(line.split()) // 2]) for line in identity(WORDS)]
    guided_by(tmp_path, halves)
    told = [line for line in capsys.readouterr().err.splitlines() if 'warning' in line]
    assert len(told) == 2 and 'last 4 source tokens' in told[0] and '--print-tokens' in told[0]
    guided_by(tmp_path, [' '.join(line.split()[:-2]) for line in identity(WORDS)])   # 'house .' have none
    assert 'warning' not in capsys.readouterr().err


def test_links_in_the_other_direction_are_told_as_that(tmp_path):
    (tmp_path / 'a.tsv').write_text('a b c d e\tx y\n' * 30)
    options = dict(source_tokenizer='space', target_tokenizer='space')
    prepared(tmp_path, alignments=written(tmp_path / 'links', *['4-1 0-0'] * 30), **options)
    with pytest.raises(UserError, match='line 1: 1-4 is outside of 5 source and 2 target tokens. So are links in 30 '
                                        'of 30 lines, and in 0 with source and target exchanged: .*other direction'):
        prepared(tmp_path, alignments=written(tmp_path / 'links', *['1-4 0-0'] * 30), **options)
    with pytest.raises(UserError, match='line 30: 4-2 is outside of 5 source and 2 target tokens: count the tokens'):
        prepared(tmp_path, alignments=written(tmp_path / 'links', *['4-1 0-0'] * 29 + ['4-2']), **options)


# ---- Scores -----------------------------------------------------------------------------------------------------
ATTENTION = [np.array([[.7, .2, .1], [.1, .2, .7], [.1, .8, .1], [0, 0, 1]]),  # most attended: 0 2 1 2
             np.array([[.4, .6, .0], [.9, .1, .0]])]                          # 1 0


def test_agreement_counts_linked_tokens_only():
    gold = [Gold([(0, 0), (1, 1)], [(2, 1), (0, 2)]), Gold([(1, 0), (2, 0), (1, 1)], [])]
    # Sentence 1: token 0 yes, token 1 (two links) yes, token 2 no, token 3 without link. Sentence 2: yes (two), no.
    found = alignment_scores(ATTENTION, gold)
    assert (found.agreement, found.linked, found.links) == (3 / 5, 5, 6)


def test_alignment_error_rate_by_hand():
    # A: 0-0 2-1 1-2 2-3, 1-0 0-1. S: 0-0 1-1, 1-0 2-0 1-1. P: also 2-1 and 0-2. A and S: 2. A and P: 3. |A| 6, |S| 5.
    gold = [Gold([(0, 0), (1, 1)], [(2, 1), (0, 2)]), Gold([(1, 0), (2, 0), (1, 1)], [(1, 0)])]
    assert alignment_scores(ATTENTION, gold).error_rate == pytest.approx(1 - 5 / 11)
    perfect = [Gold([(0, 0), (2, 1), (1, 2), (2, 3)], []), Gold([(1, 0)], [(0, 1)])]
    assert alignment_scores(ATTENTION, perfect).error_rate == 0
    assert alignment_scores(ATTENTION, [Gold([], [])] * 2).error_rate == 1
    assert math.isnan(alignment_scores(ATTENTION, [Gold([], [])] * 2).agreement)
    assert math.isnan(alignment_scores([], []).error_rate)


def test_alignments_of_another_text_or_tokenisation_are_refused():
    with pytest.raises(UserError, match='2 sentences with attention, but 1 alignments'):
        alignment_scores(ATTENTION, [Gold([(0, 0)], [])])
    with pytest.raises(UserError, match='sentence 2: link 3-0 lies outside its 3 source and 2 target tokens'):
        alignment_scores(ATTENTION, [Gold([], []), Gold([], [(3, 0)])])
    with pytest.raises(UserError, match='sentence 2: link 0-2 lies outside'):
        alignment_scores(ATTENTION, [Gold([], []), Gold([(0, 2)], [])])


# ---- Symmetrisation ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize('forward, reverse, expected', [
    ([], [], []),
    ([(0, 0), (1, 1)], [(0, 0)], [(0, 0), (1, 1)]),                    # grown from 0-0 along the diagonal
    ([(0, 0), (0, 1)], [(0, 0)], [(0, 0), (0, 1)]),                    # target 1 has no link yet
    ([(0, 0), (0, 1)], [(0, 0), (1, 1)], [(0, 0), (0, 1), (1, 1)]),    # then source 1 has none
    ([(0, 0), (3, 3)], [(0, 0)], [(0, 0), (3, 3)]),                    # final: both sides free
    ([(0, 0), (0, 3)], [(0, 0)], [(0, 0)]),                            # far, and source 0 is linked
    ([(0, 0)], [(1, 0)], [(0, 0)]),                                    # no intersection: final takes the forward one
    ([(0, 0), (1, 1)], [(0, 0), (1, 1), (0, 1)], [(0, 0), (1, 1)])])   # near, but both sides are linked
def test_symmetrisation_of_known_links(forward, reverse, expected):
    assert word_aligner.symmetrise(forward, reverse) == expected


LINKS = strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.integers(0, 5)), max_size=12)


@given(LINKS, LINKS)
def test_symmetrised_links_are_closed(forward, reverse):
    found, union = set(word_aligner.symmetrise(forward, reverse)), set(forward) | set(reverse)
    assert set(forward) & set(reverse) <= found <= union
    sources, targets = {i for i, _ in found}, {j for _, j in found}

    def beside(i, j):
        return {(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)}

    grown = set(forward) & set(reverse)
    while any(beside(*link) & found - grown for link in grown):
        grown |= {near for link in grown for near in beside(*link) & found}
    for i, j in union - found:
        assert i in sources or j in targets
        assert not beside(i, j) & grown or i in sources and j in targets


# ---- The aligner ------------------------------------------------------------------------------------------------
def test_auto_aligns_the_tokens_of_the_run_once(fake, capsys, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', 'x')
    cache = str(fake / 'cache')
    text = prepared(fake, cache=cache, threads=3)
    # char: 'a', a space's sign, 'b', ...; word: words. The second pair has no source.
    links = [[(0, 0), (1, 1)], [(0, 0), (1, 1), (2, 2)]]
    assert text.train.alignments == links
    assert text.models['alignments.txt'] == b'0-0 1-1\n\n0-0 1-1 2-2\n'
    assert (fake / 'calls').read_text() == '3 None\n'
    assert 'aligned 2 pairs in 0 s, 5 links' in capsys.readouterr().err
    assert prepared(fake, cache=cache).train.alignments == links
    assert 'links of 2 pairs, from %s' % cache in capsys.readouterr().err
    assert len((fake / 'calls').read_text().splitlines()) == 1
    prepared(fake, cache=cache, source_tokenizer='word')                # other tokens
    assert len((fake / 'calls').read_text().splitlines()) == 2
    damaged, = [path for path in (fake / 'cache').glob('*/alignments.txt') if b'2-2' in path.read_bytes()][:1]
    damaged.write_bytes(b'0-1 1-0\n\n0-0\n')
    assert prepared(fake, cache=cache).train.alignments == links


def test_resuming_and_other_workers_use_the_links_of_the_run(fake):
    files = SharedFiles({'alignments.txt': '2-0\n\n1-2\n'})
    assert prepared(fake, run=files).train.alignments == [[(2, 0)], [(1, 2)]]
    assert not (fake / 'calls').exists()


@pytest.mark.parametrize('how, told', [('FAIL', 'exit code 1 .out of memory.: call make align'),
                                       ('BAD', 'links that do not fit the 2 pairs')])
def test_a_failure_of_the_aligner_is_one_line(fake, monkeypatch, how, told):
    monkeypatch.setenv(how, '1')
    with pytest.raises(UserError, match=told):
        prepared(fake)


def test_a_signal_ends_the_aligner_and_its_child(fake, monkeypatch):
    monkeypatch.setenv('HANG', str(fake / 'pid'))

    def stop(*_):
        if (fake / 'pid').exists() and (fake / 'pid').read_text():
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, .05)

    previous = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, .05)
        with pytest.raises(KeyboardInterrupt):
            prepared(fake)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    pid = (fake / 'pid').read_text().strip()
    end = time.monotonic() + 30      # the system ends a killed process that nobody waits for when it next has a core
    while runs(pid) and time.monotonic() < end:
        time.sleep(.01)
    assert not runs(pid)


def runs(pid):
    """Whether a process is there that is no zombie."""
    try:
        return pathlib.Path('/proc', pid, 'stat').read_text().rsplit(')')[-1].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_who_asks_for_an_aligner_that_is_not_there_is_told_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.delenv('EFLOMAL', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr(word_aligner, 'OWN_PROGRAM', str(tmp_path / 'none'))
    with pytest.raises(UserError, match='--alignments auto needs eflomal-align: call make align'):
        word_aligner.find_program()
    (tmp_path / 'eflomal-align').write_text('#!/bin/sh\n')
    (tmp_path / 'eflomal-align').chmod(0o700)
    assert word_aligner.find_program() == str(tmp_path / 'eflomal-align')
    monkeypatch.setattr(word_aligner, 'OWN_PROGRAM', str(tmp_path / 'eflomal-align'))
    monkeypatch.setenv('PATH', '')
    assert word_aligner.find_program() == str(tmp_path / 'eflomal-align')
    monkeypatch.setenv('EFLOMAL', str(tmp_path / 'none'))
    with pytest.raises(UserError, match='EFLOMAL=.*none is no program: call make align'):
        word_aligner.find_program()


def test_tokens_are_printed_as_aligners_read_them(fake):
    result = run('train.py', '--train', 'a.tsv', '--source-tokenizer', 'char', '--target-tokenizer', 'space',
                 '--print-tokens', cwd=fake)
    assert (result.code, result.stderr) == (0, '')
    assert result.stdout.decode('utf-8') == 'a \u2581 b \u2581 c ||| x y\n- ||| z\nc \u2581 a _ b ||| z x y\n'
    assert not (fake / 'runs').exists()


@pytest.mark.slow
def test_a_guided_run_is_resumed_with_its_links(fake):
    options = ['--train', 'a.tsv', '--val', 'a.tsv', '--units', '8', '--embedding', '8', '--threads', '1',
               '--guided-alignment', '1', '--alignments', 'auto']
    assert run('train.py', *options, '--epochs', '1', '--run', 'r', cwd=fake).code == 0
    assert (fake / 'r' / 'alignments.txt').exists()
    (fake / 'aligner').unlink()
    assert run('train.py', '--run', 'r', '--resume', '--epochs', '2', cwd=fake).code == 0
    one_line(run('train.py', *options, '--run', 'other', cwd=fake), 'train.py', 'EFLOMAL', 'make align')
    assert run('train.py', '--run', 'r', '--overwrite', '--train', 'a.tsv', '--epochs', '1', cwd=fake).code == 0
    assert not (fake / 'r' / 'alignments.txt').exists()


def test_the_preset_is_guided_where_the_aligner_is_installed(fake, cheap, monkeypatch):  # noqa: F811
    def printed(*options):
        done = cheap('train.py', '--preset', 'multi30k', '--train', str(fake / 'a.tsv'), *options + ('--print-config',))
        config = json.loads(done.stdout.decode('utf-8'))
        return config['guided_alignment'], config['alignments']

    assert printed() == (.1, 'auto')
    assert printed('--guided-alignment', '0') == (0, None)
    assert printed('--score', 'none') == printed('--long-sources', 'truncate') == printed('--format', 'qa') == (0, None)
    # A mistake gives one line with the aligner too.
    one_line(cheap('train.py', '--preset', 'multi30k'), 'train.py', '--preset multi30k needs the files')
    monkeypatch.setenv('EFLOMAL', str(fake / 'none'))
    assert printed() == (0, None)


@pytest.mark.slow
def test_a_guided_preset_says_so(fake):
    done = run('train.py', '--preset', 'multi30k', '--train', 'a.tsv', '--val', 'a.tsv', '--units', '8', '--embedding',
               '8', '--encoder-units', '8', '--source-tokenizer', 'char', '--target-tokenizer', 'char', '--epochs', '1',
               '--run', 'r', cwd=fake)
    assert done.code == 0, done.stderr
    assert '--alignments auto --guided-alignment 0.1, since eflomal-align is installed' in done.stderr
    assert (fake / 'r' / 'alignments.txt').exists()


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists(word_aligner.OWN_PROGRAM), reason='make align installs eflomal')
def test_eflomal_finds_the_links_of_the_samples(tmp_path, monkeypatch):
    monkeypatch.delenv('EFLOMAL', raising=False)
    subprocess.check_call([sys.executable, os.path.join(str(ROOT), 'samples', 'generate.py'), '--train-alignments',
                           str(tmp_path / 'gold')])
    links = [preparation.prepare(settings, corpus_paths(settings)).train.alignments for settings in (
        resolve_settings(dict(data=os.path.join(str(ROOT), 'samples', 'translate'), guided_alignment=1.,
                              alignments=alignments)) for alignments in (str(tmp_path / 'gold'), 'auto'))]
    # The gold links are those of content words.
    shared = sum(len(set(gold) & set(found)) for gold, found in zip(*links))
    assert shared > .8 * sum(map(len, links[0]))
