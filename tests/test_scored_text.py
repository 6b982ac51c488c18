"""The text of a run that evaluate.py scores: which one, from where, and the held-out lines."""
import json
import os
import re

import pytest

from command_line import UserError
from settings import with_defaults
from storage.files import file_sha256
from test_commands import one_line, read_csv, run
from text import corpus
from text.scored_text import chosen, scored_text


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A current directory with texts of one run: `train`, `val` and `test` have 60, 3 and 2 pairs."""
    monkeypatch.chdir(str(tmp_path))
    for name, count in (('train', 60), ('val', 3), ('test', 2)):
        (tmp_path / name).write_text(''.join('%s %d\tx %d\n' % (name, number, number) for number in range(count)))
    return tmp_path


def settings_of(*parts, folder='.'):
    return with_defaults({part: [os.path.join(folder, part)] if part in parts else None
                          for part in ('train', 'val', 'test')})


def recorded(*parts, folder='.'):
    return {part: [file_sha256(os.path.join(folder, part))] for part in parts}


@pytest.mark.parametrize('parts, split, first, count, note', [
    (['train', 'val', 'test'], None, 'test 0', 2, ''), (['train', 'val', 'test'], 'val', 'val 0', 3, 'validation text'),
    (['train', 'val'], None, 'val 0', 3, 'of the validation text'), (['train', 'test'], None, 'test 0', 2, ''),
    (['train', 'test'], 'val', 'train', 3, 'that training held out'), (['train'], None, 'train', 3, 'held out')])
def test_the_test_text_comes_first_then_the_validation_text_then_the_lines_held_out(home, parts, split, first, count,
                                                                                    note):
    text = scored_text(settings_of(*parts), recorded(*parts), split)
    pairs = chosen(text, corpus.read_pairs(text.paths))
    assert len(pairs) == count and pairs[0][0].startswith(first) and note in text.note
    assert text.files == [os.path.join('.', part) for part in parts]
    if first == 'train':
        assert pairs == [('train %d' % index, 'x %d' % index) for index in corpus.hold_out(60, settings_of().seed)]


def test_a_test_text_that_is_asked_for_must_be_there(home):
    with pytest.raises(UserError, match='has no test text: score its validation text with --split val, or name'):
        scored_text(settings_of('train'), recorded('train'), 'test')


@pytest.mark.parametrize('trusted', [False, True])
def test_held_out_lines_of_another_training_text_are_unknown(home, trusted):
    before = recorded('train')
    (home / 'train').write_text((home / 'train').read_text() + 'one more\ty\n')
    for hashes in (before, {}, None, {'train': 'x'}):
        with pytest.raises(UserError, match='train: is not the text that the run was trained on.*restore it'):
            scored_text(settings_of('train'), hashes, trusted=trusted)


def test_a_text_elsewhere_is_read_if_its_hash_is_recorded_or_the_run_is_trusted(home, monkeypatch):
    (home / 'here').mkdir()
    monkeypatch.chdir(str(home / 'here'))
    settings, hashes = settings_of('train', 'val', 'test', folder=str(home)), recorded('val', folder=str(home))
    assert scored_text(settings, hashes, 'val').paths == [str(home / 'val')]
    with pytest.raises(UserError, match='%s, which is outside .* is not the text that the run recorded: add --trust-run'
                       % (home / 'test')):
        scored_text(settings, hashes)
    assert scored_text(settings, hashes, trusted=True).paths == [str(home / 'test')]
    (home / 'here' / 'val').symlink_to(home / 'test')
    with pytest.raises(UserError, match='outside the current directory'):
        scored_text(with_defaults({'train': [str(home / 'train')], 'val': ['val']}), hashes, 'val')


@pytest.mark.parametrize('name', ['/proc/self/environ', '/dev/zero', '/sys/power/state', '/dev/../proc/kcore', '/proc'])
def test_system_files_that_a_strangers_run_names_are_not_even_opened(home, name, monkeypatch):
    def opened(*_):
        raise AssertionError('opened')

    monkeypatch.setattr('text.scored_text.corpus_paths', opened)
    with pytest.raises(UserError, match='the run names its text as %s' % re.escape(name)):
        scored_text(with_defaults({'train': ['train'], 'val': [name]}), {'val': ['0' * 64]}, 'val')


@pytest.mark.slow
def test_the_documented_summaries_are_scored_on_the_lines_held_out(tmp_path):
    words = 'the cat saw a dog and the dog saw no cat in the house today'.split()
    (tmp_path / 'docs.tsv').write_text(''.join('%s\t%s %s\n' % (
        ' '.join(words[number % 5:] + [str(number)]), words[number % 7], number) for number in range(60)))
    done = run('train.py', '--task', 'summarise', '--train', 'docs.tsv', '--run', 'runs/docs', '--units', '8',
               '--embedding', '8', '--epochs', '2', '--threads', '1', cwd=tmp_path)
    assert done.code == 0, done.stderr
    done = run('evaluate.py', '--run', 'runs/docs', '--bootstrap', '1000', cwd=tmp_path)
    table = done.stdout.decode('utf-8')
    assert done.code == 0 and re.search('^lines +3  that training held out$', table, re.MULTILINE), done.stderr
    assert re.search(r'^ROUGE-1 .*\[', table, re.MULTILINE)
    values = json.loads(run('evaluate.py', '--run', 'runs/docs', '--split', 'val', '--json',
                            cwd=tmp_path).stdout.decode())
    best = max(read_csv(tmp_path / 'runs' / 'docs' / 'log.csv'), key=lambda row: float(row['val_rouge_l']))
    assert values['lines'] == 3 and values['perplexity'] == pytest.approx(float(best['val_perplexity']), rel=1e-4)
    one_line(run('evaluate.py', '--run', 'runs/docs', '--split', 'test', cwd=tmp_path), 'evaluate.py', '--split val')
