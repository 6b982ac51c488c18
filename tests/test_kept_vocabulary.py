"""A run that continues another one keeps its ids, tokenisers and weights, or warns of the tokens that it loses."""
import pytest

from command_line import UserError
from settings import check, with_defaults
from storage.run_directory import RunDirectory
from test_corpus_builder import settings_of, write
from text import preparation
from text.vocabulary import FILES, SPECIALS, Vocabulary
from training import initial_weights
from training.start import SharedFiles

OLD = [Vocabulary(list(SPECIALS) + words) for words in (['old', 'both', 'x'], ['alt', 'beide'])]
PAIRS = [('new both', 'neu beide'), ('new new', 'neu')] * 5


@pytest.fixture
def old_run(tmp_path):
    config = vars(settings_of())
    files = {name: vocabulary.to_bytes() for name, vocabulary in zip(FILES, OLD)}
    RunDirectory.create(str(tmp_path / 'old'), config, files, {}).close()
    return str(tmp_path / 'old')


def prepared(tmp_path, run=None, **values):
    paths = {'train': write(tmp_path / 'a', PAIRS), 'val': write(tmp_path / 'v', PAIRS[:2])}
    return preparation.prepare(settings_of(**values), paths, {'train': ['x']}, run, str(tmp_path / 'cache'))


@pytest.mark.parametrize('kind, source, target, record', [
    ('no', ['new', 'both'], ['neu', 'beide'], ([4, 5], [4, 5], None)),
    ('old', ['old', 'both', 'x'], ['alt', 'beide'], ([1, 5], [1, 5], None)),
    ('joined', ['old', 'both', 'x', 'new'], ['alt', 'beide', 'neu'], ([7, 5], [6, 5], None))])
def test_old_tokens_keep_their_ids(tmp_path, old_run, kind, source, target, record):
    text = prepared(tmp_path, init_from=old_run, keep_vocabulary=kind)
    assert [vocabulary.tokens[4:] for vocabulary in text.vocabularies] == [source, target]
    assert text.train.record(0) == text.validation.record(0) == record
    # When it is resumed, the run itself has the vocabularies, and the old one may be gone.
    files = {name: vocabulary.to_bytes() for name, vocabulary in zip(FILES, text.vocabularies)}
    config = vars(settings_of())
    shared = SharedFiles({name: content.decode('latin-1') for name, content in files.items()})  # of a worker
    with RunDirectory.create(str(tmp_path / 'new'), config, files, {}) as run:
        for again in (prepared(tmp_path, one, init_from='gone', keep_vocabulary=kind) for one in (run, shared)):
            assert [vocabulary.tokens for vocabulary in again.vocabularies] == [
                vocabulary.tokens for vocabulary in text.vocabularies]
            assert again.train.record(0) == record


def test_subwords_of_the_old_run_divide_the_new_text(tmp_path):
    pytest.importorskip('sentencepiece', reason='sentencepiece is not installed')
    pairs = [('the lower %d' % i, 'das tiefere %d' % i) for i in range(40)]
    kinds = dict(source_tokenizer='bpe', target_tokenizer='bpe', source_vocabulary=290, target_vocabulary=290)
    paths = {'train': write(tmp_path / 'b', pairs), 'val': write(tmp_path / 'c', pairs[:2])}
    first = preparation.prepare(settings_of(**kinds), paths)
    files = dict(first.models, **{name: vocabulary.to_bytes() for name, vocabulary in zip(
        FILES, first.vocabularies)})
    RunDirectory.create(str(tmp_path / 'old'), vars(settings_of(**kinds)), files, {}).close()
    for kind in ('old', 'joined'):
        text = prepared(tmp_path, init_from=str(tmp_path / 'old'), keep_vocabulary=kind, **kinds)
        assert text.models == first.models
        assert [one.tokens for one in text.vocabularies] == [one.tokens for one in first.vocabularies]
        assert text.tokenizers[0].tokenize('lower') == first.tokenizers[0].tokenize('lower')


@pytest.mark.parametrize('values, told', [
    (dict(source_tokenizer='word'), 'source-tokenizer space: give that too'),
    (dict(share_vocabulary=True), '--share-vocabulary no: give that too'),
    (dict(spacing_marks=True), '--spacing-marks no: give that too'), (dict(init_from='gone'), 'gone: ')])
def test_a_run_that_divides_its_text_otherwise_is_refused(tmp_path, old_run, values, told):
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, **dict(dict(init_from=old_run, keep_vocabulary='old'), **values))
    assert told in str(caught.value) and '\n' not in str(caught.value)


def test_a_kept_vocabulary_needs_a_run():
    with pytest.raises(UserError, match='give --init-from DIR too'):
        check(with_defaults(dict(keep_vocabulary='joined')))


@pytest.mark.parametrize('kind, count', [('no', 2), ('joined', 0)])
def test_lost_tokens_are_told_with_their_share(tmp_path, old_run, capfd, kind, count):
    text = prepared(tmp_path, init_from=old_run, keep_vocabulary=kind)
    previous = initial_weights.Previous(old_run, '', {}, dict(zip(FILES, OLD)))
    capfd.readouterr()
    initial_weights.warn_of_lost(settings_of(keep_vocabulary=kind), previous, dict(zip(
        FILES, text.vocabularies)))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == count
    if lines:
        assert lines[0] == ('warning: 29 % of the source tokens of ' + old_run + ' are unknown to the new run, which '
                            'forgets them: to keep them, give --keep-vocabulary joined')
