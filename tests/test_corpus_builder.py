"""Text to corpora of ids, in memory and in files, compared with a plain implementation; and their cache."""
import collections
import hashlib
import os
import shutil
import subprocess
import sys

import pytest

from command_line import UserError
from settings import with_defaults
from text import corpus_builder, preparation, token_table, tokenizers
from text.corpus_builder import CorpusBuilder, encode_pairs
from text.tokenizers import make_tokenizer
from text.vocabulary import SPECIALS, UNK, Vocabulary

import numpy as np

WORDS = ['w%d' % i for i in range(60)] + list(SPECIALS) + ['<0x41>', 'é', '我', '\u2028x']


def random_pairs(count=700, seed=0):
    """Pairs of text in which tokens are unequally frequent, and some sides are empty or long."""
    random = np.random.RandomState(seed)

    def side():
        length = random.choice([0, 1, 2, 5, 9, 12])
        return ' '.join(WORDS[int(len(WORDS) * random.rand() ** 2)] for _ in range(length))

    return [(side(), side()) for _ in range(count)]


class Plain:
    """The corpus of a text by a plain implementation, with which the builder is compared."""

    def __init__(self, pairs, limit, sizes, min_count=1, share=False, copy=False):
        kept = [(line, *(text.split() for text in pair)) for line, pair in enumerate(pairs, 1)]
        kept = [row for row in kept if 1 <= len(row[1]) <= limit and 1 <= len(row[2]) <= limit]
        self.lines = [line for line, _, _ in kept]
        sides = [[row[1] for row in kept], [row[2] for row in kept]]
        texts = [sides[0] + sides[1]] * 2 if share else sides
        self.vocabularies = []
        for text, size in zip(texts, sizes):
            counts = collections.Counter(token for tokens in text for token in tokens if token not in SPECIALS)
            ranked = sorted((-count, token) for token, count in counts.items() if count >= min_count)
            self.vocabularies.append(list(SPECIALS) + [token for _, token in ranked[:size]])
        self.records = []
        for source, target in zip(*sides):
            known = [{token: i for i, token in enumerate(tokens) if i > 3} for tokens in self.vocabularies]
            extra = {}
            for token in source if copy else ():
                if token not in known[1]:
                    extra.setdefault(token, len(known[1]) + 4 + len(extra))
            written = dict(extra, **known[1])
            self.records.append(([known[0].get(token, UNK) for token in source],
                                 [written.get(token, UNK) for token in target],
                                 [written.get(token, UNK) for token in source] if copy else None))


def records_of(corpus):
    return [corpus.record(index) for index in range(len(corpus))]


def settings_of(**values):
    return with_defaults(dict(dict(source_tokenizer='space', target_tokenizer='space', max_source_length=9,
                                   max_target_length=9, source_vocabulary=40, target_vocabulary=30), **values))


def write(path, pairs):
    path.write_bytes(''.join('%s\t%s\n' % pair for pair in pairs).encode('utf-8'))
    return [str(path)]


def hashes(paths):
    return {part: [hashlib.sha256(open(path, 'rb').read()).hexdigest() for path in files]
            for part, files in paths.items()}


@pytest.fixture
def small_limits(monkeypatch):
    """Small limits, so that these texts use files as large texts do."""
    monkeypatch.setattr(corpus_builder, 'BLOCK', 200)
    monkeypatch.setattr(corpus_builder, 'IN_MEMORY', 500)
    monkeypatch.setattr(token_table, 'MAXIMUM_TOKENS', 20)


CASES = [dict(), dict(min_count=4), dict(share_vocabulary=True, source_vocabulary=9), dict(copy=True),
         dict(copy=True, share_vocabulary=True, target_vocabulary=9), dict(source_vocabulary=1, target_vocabulary=1)]


@pytest.mark.parametrize('values', CASES)
@pytest.mark.parametrize('large', [False, True])
def test_corpus_and_vocabularies_are_those_of_a_plain_implementation(request, tmp_path, values, large):
    if large:
        request.getfixturevalue('small_limits')
    settings, pairs = settings_of(**values), random_pairs()
    paths = {'train': write(tmp_path / 'a', pairs), 'val': write(tmp_path / 'v', pairs[:99])}
    text = preparation.prepare(settings, paths, hashes(paths), cache=str(tmp_path / 'cache'))
    sizes = settings.source_vocabulary, settings.target_vocabulary
    plain = Plain(pairs, 9, sizes[:1] * 2 if settings.share_vocabulary else sizes, settings.min_count,
                  settings.share_vocabulary, settings.copy)
    assert [vocabulary.tokens for vocabulary in text.vocabularies] == plain.vocabularies
    assert records_of(text.train) == plain.records and text.train.lines.tolist() == plain.lines
    assert text.train.lengths.tolist() == [[len(row[side]) for row in plain.records] for side in (0, 1)]
    held = len(text.validation)
    assert records_of(text.validation) == plain.records[:held] and text.validation.lines.tolist() == plain.lines[:held]
    assert text.texts == [pairs[line - 1] for line in plain.lines[:held]] and plain.lines[held] > 99
    assert (tmp_path / 'cache').exists() == large
    if large:
        assert text.train.records.size == sum(sum(map(len, filter(None, row))) for row in plain.records)
        again = preparation.prepare(settings, paths, hashes(paths), cache=str(tmp_path / 'cache'))
        assert records_of(again.train) == plain.records and again.train.lines.tolist() == plain.lines
        assert [vocabulary.tokens for vocabulary in again.vocabularies] == plain.vocabularies


def test_batches_have_padding_and_special_tokens_in_their_places(tmp_path, small_limits):
    settings = settings_of(copy=True)
    paths = {'train': write(tmp_path / 'a', random_pairs()), 'val': write(tmp_path / 'v', random_pairs(20))}
    corpus = preparation.prepare(settings, paths).train
    plan = corpus.plan(32, seed=5, epoch=2, shuffle=True)
    assert sorted(index for batch in plan for index in batch) == list(range(len(corpus)))
    for indices in plan[:5]:
        (source, given, copied), output = corpus.batch(indices)
        for row, index in enumerate(indices):
            record = corpus.record(index)
            assert [ids for ids in source[row].tolist() if ids] == record[0]
            assert [ids for ids in copied[row].tolist() if ids] == record[2]
            assert [ids for ids in given[row].tolist() if ids] == [2] + record[1]
            assert [ids for ids in output[row].tolist() if ids] == record[1] + [3]
        assert given.shape == output.shape == (len(indices), max(corpus.lengths[1][indices]) + 1)


@pytest.mark.parametrize('large', [False, True])
def test_held_out_pairs_are_in_one_part_only_and_come_from_the_cache_again(request, tmp_path, large, monkeypatch):
    if large:
        request.getfixturevalue('small_limits')
    pairs = random_pairs()
    paths = {'train': write(tmp_path / 'a', pairs)}
    made = [preparation.prepare(settings_of(), paths, hashes(paths), cache=str(tmp_path / 'cache')) for _ in range(2)]
    for text in made:
        assert not set(text.train.lines.tolist()) & set(text.validation.lines.tolist())
        kept = sorted(text.train.lines.tolist() + text.validation.lines.tolist())
        assert kept == Plain(pairs, 9, (9, 9)).lines and 10 < len(text.validation) <= 35
        assert text.texts == [pairs[line - 1] for line in text.validation.lines.tolist()]
    assert records_of(made[0].train) == records_of(made[1].train)
    assert records_of(made[0].validation) == records_of(made[1].validation)
    other = preparation.prepare(settings_of(seed=9), paths, hashes(paths), cache=str(tmp_path / 'cache'))
    assert other.validation.lines.tolist() != made[0].validation.lines.tolist()


def damage_bytes(entry):
    data = bytearray((entry / 'records').read_bytes())
    data[7] ^= 1
    (entry / 'records').write_bytes(bytes(data))


DAMAGES = [damage_bytes, lambda entry: (entry / 'lines').unlink(),
           lambda entry: (entry / 'source.lengths').write_bytes(b''),
           lambda entry: (entry / 'manifest.json').write_bytes(b'{"key": "x", "files": {}}'),
           lambda entry: (entry / 'manifest.json').write_bytes(b'no JSON'),
           lambda entry: (entry / 'manifest.json').unlink(),
           lambda entry: (entry / 'content.json').write_bytes(b'{}'),
           lambda entry: (shutil.rmtree(str(entry)), entry.write_bytes(b'a file'))]


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_cache_is_built_again_with_one_line(tmp_path, small_limits, capfd, damage):
    settings, paths = settings_of(), {'train': write(tmp_path / 'a', random_pairs())}

    def prepare():
        text = preparation.prepare(settings, paths, hashes(paths), cache=str(tmp_path / 'cache'))
        return records_of(text.train), [line for line in capfd.readouterr().err.splitlines() if 'again' in line]

    records, lines = prepare()
    entry, = (tmp_path / 'cache').iterdir()
    assert lines == []
    damage(entry)
    again, lines = prepare()
    assert again == records and len(lines) == 1 and 'the corpus is built again from its text' in lines[0]
    assert prepare() == (records, []) and [path.name for path in (tmp_path / 'cache').iterdir()] == [entry.name]


@pytest.mark.parametrize('large', [False, True])
def test_a_resumed_run_tells_that_its_large_corpus_was_missing_in_the_cache(request, tmp_path, capfd, large):
    if large:
        request.getfixturevalue('small_limits')
    settings, paths, cache = settings_of(), {'train': write(tmp_path / 'a', random_pairs())}, tmp_path / 'cache'
    for run, remove, expected in ((None, False, 0), (object(), True, int(large)), (object(), False, 0)):
        if remove:
            shutil.rmtree(str(cache), ignore_errors=True)
        preparation.prepare(settings, paths, hashes(paths), run, cache=str(cache))
        lines = [line for line in capfd.readouterr().err.splitlines() if 'again' in line]
        assert len(lines) == expected and all('was missing; the corpus was built again' in line for line in lines)


def test_each_setting_that_a_corpus_depends_on_changes_the_entry(tmp_path, small_limits, monkeypatch):
    monkeypatch.setattr('text.corpus_cache.KEPT', 99)
    paths = {'train': write(tmp_path / 'a', random_pairs()), 'val': write(tmp_path / 'v', random_pairs(20))}
    other = {'train': write(tmp_path / 'b', random_pairs(seed=1)), 'val': paths['val']}
    cases = [(settings_of(), paths), (settings_of(), other), (settings_of(max_source_length=5), paths),
             (settings_of(source_vocabulary=7), paths), (settings_of(min_count=2), paths),
             (settings_of(copy=True), paths), (settings_of(share_vocabulary=True), paths),
             (settings_of(target_tokenizer='word'), paths),
             (settings_of(long_sources='truncate'), paths), (settings_of(), {'train': paths['train']})]
    for number, (settings, files) in enumerate(cases, 1):
        preparation.prepare(settings, files, hashes(files), cache=str(tmp_path / 'cache'))
        assert len(list((tmp_path / 'cache').iterdir())) == number
    preparation.prepare(settings_of(epochs=99, units=3, seed=7), paths, hashes(paths), cache=str(tmp_path / 'cache'))
    assert len(list((tmp_path / 'cache').iterdir())) == len(cases)


def test_the_cache_keeps_the_entries_that_were_used_last(tmp_path, small_limits, monkeypatch, capfd):
    monkeypatch.setattr('text.corpus_cache.KEPT', 2)
    paths, names, cache = {'train': write(tmp_path / 'a', random_pairs())}, [], tmp_path / 'cache'

    def prepare(min_count):
        capfd.readouterr()
        preparation.prepare(settings_of(min_count=min_count), paths, hashes(paths), cache=str(cache))
        return [line for line in capfd.readouterr().err.splitlines() if 'removing' in line]

    for number in (1, 2):
        assert prepare(number) == []
        names += sorted({path.name for path in cache.iterdir()} - set(names))
        os.utime(str(cache / names[-1]), (1000 * number, 1000 * number))
    assert prepare(1) == []  # now the second entry is the older one
    (cache / 'other').mkdir()
    line, = prepare(3)
    assert names[1] in line and 'last used on 1970-01-01; the last 2 are kept' in line
    left = {path.name for path in cache.iterdir()}
    assert names[0] in left and names[1] not in left and 'other' in left and len(left) == 3


def test_interrupted_build_leaves_no_entry_and_the_next_one_removes_its_files(tmp_path, small_limits, monkeypatch):
    paths = {'train': write(tmp_path / 'a', random_pairs())}
    cache = tmp_path / 'cache'
    abandoned = cache / ('.%s.%s.tmp' % ('0' * 32, '1' * 8))
    abandoned.mkdir(parents=True)
    (abandoned / 'records').write_bytes(b'x')
    (cache / 'mine').mkdir()

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CorpusBuilder, 'finish', fail)
        with pytest.raises(KeyboardInterrupt):
            preparation.prepare(settings_of(), paths, hashes(paths), cache=str(cache))
    assert [path.name for path in cache.iterdir()] == ['mine']


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, small_limits, monkeypatch):
    paths = {'train': write(tmp_path / 'a', random_pairs())}

    def full(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(UserError, match='No space left on device.*: free some space'):
        preparation.prepare(settings_of(), paths, hashes(paths), cache=str(tmp_path / 'cache'))
    assert list((tmp_path / 'cache').iterdir()) == []


def test_record_file_that_becomes_shorter_is_refused(tmp_path, small_limits):
    paths = {'train': write(tmp_path / 'a', random_pairs())}
    train = preparation.prepare(settings_of(), paths, hashes(paths), cache=str(tmp_path / 'cache')).train
    entry, = (tmp_path / 'cache').iterdir()
    os.truncate(str(entry / 'records'), 10)
    with pytest.raises(UserError, match='records: has become shorter.*--resume'):
        train.batch([len(train) - 1])


# ---- What is kept and dropped

def prepared(pairs, source='word', target='chinese', most_source=3, most_target=2, truncate=False):
    tokenizers = make_tokenizer(source), make_tokenizer(target)
    builder = CorpusBuilder(tokenizers, (most_source, most_target), None, truncate)
    builder.read(enumerate(pairs, 1), 'x.tsv')
    vocabularies = [Vocabulary.build(builder.table.totals([side]), 99) for side in ('source', 'target')]
    return builder, builder.finish(*vocabularies)


def test_pair_with_an_empty_or_over_long_side_is_dropped_as_a_pair():
    builder, corpus = prepared([('a b c', '我们'), ('', '我'), ('a', '\u3000 '), ('a b c d', '我'), ('a', '我们的'),
                                ('e', 'f'), ('', '我们的')])
    assert corpus.lines.tolist() == [1, 6] and corpus.lengths.tolist() == [[3, 1], [2, 1]]
    assert builder.counts == {'read': 7, 'kept': 2, 'empty': 3, 'over_long': 2, 'long_sources': 1}


def test_side_of_spaces_only_counts_as_empty_for_characters_too():
    assert prepared([('  ', 'x'), ('a', 'b')], 'char', 'char')[0].counts['empty'] == 1


def test_huge_line_is_dropped_without_being_tokenised():
    class Word:
        def tokenize(self, text):
            assert len(text) < 1000, 'tokenised a line that is too long anyway'
            return text.split()

    builder = CorpusBuilder((Word(), Word()), (5, 5), None)
    builder.read(enumerate([('a ' * 5000000, 'b'), ('a', 'b' * 10000000), ('a', 'b')], 1), 'x')
    assert builder.counts == {'read': 3, 'kept': 1, 'empty': 0, 'over_long': 2, 'long_sources': 1}


def test_a_long_source_ends_at_its_limit_and_a_long_target_is_dropped():
    builder, corpus = prepared([('a b c d e', '我们'), ('a b', '我'), ('a b c d', '我们的'), ('x ' * 10 ** 6, '们')],
                               truncate=True)
    assert corpus.lines.tolist() == [1, 2, 4] and corpus.lengths.tolist() == [[3, 2, 3], [2, 1, 1]]
    assert 'd' not in builder.table.numbers
    assert builder.counts == {'read': 4, 'kept': 3, 'empty': 0, 'over_long': 1, 'long_sources': 3}


@pytest.mark.parametrize('kind, told', [
    ('drop', 'warning: 50.0 % of the training pairs are dropped, 2 with more than 9 source tokens and 3 with more '
     'than 9 target tokens: raise --max-source-length or --max-target-length, or give --long-sources truncate'),
    ('truncate', 'warning: 30.0 % of the training pairs are dropped, 0 with more than 9 source tokens and 3 with '
     'more than 9 target tokens: raise --max-source-length or --max-target-length')])
def test_many_dropped_pairs_cause_a_warning_with_their_share(tmp_path, capfd, kind, told):
    pairs = [('a b', 'c')] * 5 + [('a ' * 10, 'c')] * 2 + [('a', 'c ' * 10)] * 3
    paths = {'train': write(tmp_path / 'a', pairs), 'val': write(tmp_path / 'v', pairs[:5])}
    preparation.prepare(settings_of(max_target_length=9, long_sources=kind), paths)
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if 'warning' in line] == [told]
    assert any('; 2 sources truncated)' in line for line in lines) == (kind == 'truncate')
    few = write(tmp_path / 'b', pairs[:5] * 9 + pairs[5:6])
    preparation.prepare(settings_of(long_sources=kind), dict(paths, train=few))
    assert 'warning' not in capfd.readouterr().err


def test_a_corpus_without_usable_pairs_is_refused_with_the_counts():
    with pytest.raises(UserError) as caught:
        prepared([('a b c d', '我'), ('', 'x')])
    assert str(caught.value) == ('x.tsv: none of 2 pairs can be used: 1 have an empty side, 1 are longer than '
                                 '--max-source-length 3 or --max-target-length 2: --long-sources truncate keeps them')


def test_pairs_of_tokens_are_encoded_with_known_vocabularies():
    vocabulary = Vocabulary(list(SPECIALS) + ['a', 'b'])
    corpus = encode_pairs([['a', 'x', '<s>', 'x'], []], [['b', '<s>', 'z'], ['a']], vocabulary, vocabulary, copy=True)
    assert records_of(corpus) == [([4, UNK, UNK, UNK], [5, 7, UNK], [4, 6, 7, 6]), ([], [4], [])]
    assert corpus.lines.tolist() == [1, 2] and corpus.memory() > corpus.records.nbytes


# ---- Subword samples

def test_subword_models_learn_from_an_even_sample_in_order(monkeypatch):
    pairs = [(str(i), 'x' * 999 if i == 3 else str(-i)) for i in range(2000)]
    assert tokenizers._sample(pairs[:9], (9, 9)) == [list('012345678'), [str(-i) for i in range(9) if i != 3]]
    monkeypatch.setattr(tokenizers, 'SAMPLE', 500)
    numbers = [int(text) for text in tokenizers._sample(pairs, (9, 9))[0]]
    assert len(numbers) == 500 and numbers == sorted(set(numbers))
    assert abs(np.mean(numbers) - 999.5) < 80 and numbers[-1] > 1900
    assert numbers == [int(text) for text in tokenizers._sample(iter(pairs), (9, 9))[0]]


# ---- Memory

MEASURE = """
import sys
sys.path.insert(0, 'benchmarks')
import generate_corpus
from settings import with_defaults
from storage.files import file_sha256
from storage.machine import peak_memory
from text import preparation
count, folder = int(sys.argv[1]), sys.argv[2]
generate_corpus.main(['--pairs', str(count), folder + '/t'])
paths = {part: [folder + '/t.source', folder + '/t.target'] for part in ('train',)}
hashes = {'train': [file_sha256(path) for path in paths['train']]}
text = preparation.prepare(with_defaults(dict(source_tokenizer='space', target_tokenizer='space')), paths, hashes,
                           cache=folder + '/cache')
plan = text.train.plan(64, 1, 0, shuffle=True)
assert len(text.train) == count - 1000 and len(plan) > 100
for indices in plan[:100]:
    text.train.batch(indices)
print(peak_memory() // 2 ** 20)
"""


@pytest.mark.slow
def test_a_million_pairs_take_little_memory(tmp_path):
    """In lists of str and int they would take a gigabyte; docs/scaling.md has 5 million pairs."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    peak = subprocess.check_output([sys.executable, '-c', MEASURE, '1000000', str(tmp_path)], cwd=root,
                                   stderr=subprocess.DEVNULL)
    assert int(peak) < 300
