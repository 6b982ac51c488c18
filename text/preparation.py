"""Everything that training needs of the text: corpora, vocabularies, tokenisers, by a run's settings."""
import collections
import contextlib
import hashlib
import os
import shutil
import tempfile
import time

from command_line import UserError, require, tell
from settings import AUTO
from storage.files import read_bytes, show, user_error, write_bytes
from text import alignments, corpus, kept_vocabulary, subwords, word_aligner
from text.corpus_builder import COUNTS, CorpusBuilder, open_corpus, record_types
from text.corpus_cache import CacheEntry, cache_key
from text.encoded_corpus import is_valid
from text.readers import layout
from text.tokenizers import build_tokenizers, read_tokenizers
from text.vocabulary import SPECIALS, UNK, Vocabulary, read_vocabularies

SIDES = ('source', 'target')
MANY = .05  # share of over-long pairs above which a warning appears

PreparedText = collections.namedtuple('PreparedText', 'train validation texts tokenizers models vocabularies')
PreparedText.__doc__ = """The text of a run.

`train` and `validation` are `EncodedCorpus`; `texts` are the pairs of text of the validation corpus; `tokenizers` and
`vocabularies` have one item for the source and one for the target; `models` is {file name: bytes} of what was learnt
here: subword models, and the links of `--alignments auto`.
"""


class _Text(object):
    """The training and validation text of a run, as numbered pairs: (line number, (source, target))."""

    def __init__(self, settings, paths):
        self._read = lambda part: enumerate(corpus.pairs_of_run(settings, paths[part]), 1)
        self._seed, self._has_validation, self.held_out = settings.seed, 'val' in paths, None
        self.validation = list(self._read('val')) if self._has_validation else []

    def training(self):
        """Generator of the training pairs. Without a validation text, the held-out pairs go to `validation`."""
        if self._has_validation:
            yield from self._read('train')
            return
        if self.held_out is None:
            count = sum(1 for _ in self._read('train'))
            self.held_out = {index + 1 for index in corpus.hold_out(count, self._seed)}
        self.validation = []
        for line, pair in self._read('train'):
            if line in self.held_out:
                self.validation.append((line, pair))
            else:
                yield line, pair


def prepare(settings, paths, hashes=None, run=None, cache=None, keep=True):
    """Reads the text of a run.

    # Arguments
        settings: the run's settings.
        paths: {'train': [paths], 'val': [paths]} from `corpus.corpus_paths`; without 'val', a part of 'train' is held
            out.
        hashes: {'train': [sha256]} of the files.
        run: `RunDirectory` that has the tokenisers already; `None` for a new run.
        cache: directory where the encoded corpus of a large text is kept; `None` keeps nothing.
        keep: Boolean; false only reads the cache.

    # Returns
        A `PreparedText`.

    # Raises
        UserError: text that cannot be used.
    """
    limits = (settings.max_source_length, settings.max_target_length)
    text = _Text(settings, paths)
    tokenizers, models, kept = _from_run(settings, run, text)
    # Of the vocabulary of another run: its hash would have to be in the key.
    cache = cache if kept is None else None
    key = _key(settings, paths, hashes, tokenizers) if cache else None
    entry = CacheEntry(cache, key) if cache else None
    missing = run is not None and entry is not None and not os.path.lexists(entry.path)
    found = entry.read(lambda content: _open_entry(entry.path, content, settings, limits)) if entry else None
    if found is None:
        train, vocabularies, counts = _build(settings, text, tokenizers, limits, ' '.join(paths['train']),
                                             entry if keep else None, kept)
        if missing and os.path.lexists(entry.path):  # a small corpus has no entry
            tell('%s: was missing; the corpus was built again from its text' % entry.path)
    else:
        train, vocabularies, counts, held_out = found
        text.validation = text.validation or held_out
    name = ' '.join(paths.get('val', paths['train']))
    with _at_first_use(_temporary_folder) as folder:
        builder = CorpusBuilder(tokenizers, limits, folder, settings.long_sources == 'truncate')
        builder.read(text.validation, name)
        validation = builder.finish(*vocabularies, settings.copy)
    for part, size, files, numbers in (('training', len(train), ' '.join(paths['train']), counts),
                                       ('validation', len(validation), name, builder.counts)):
        _tell_counts(settings, part, files, size, numbers)
    if settings.guided_alignment:
        links = None
        if settings.alignments == AUTO:
            if run is None:
                entry = CacheEntry(cache, cache_key(['links', key])) if cache else None
                models[word_aligner.LINKS_FILE] = _links(settings, paths, train, vocabularies, entry)
            links = models.get(word_aligner.LINKS_FILE) or run.read_file(word_aligner.LINKS_FILE)
        train.alignments = alignments.training_alignments(settings, paths, train, tokenizers[0].tokenize, links)
        validation.alignments = [()] * len(validation)
    pairs = dict(text.validation)
    return PreparedText(train, validation, [pairs[line] for line in validation.lines.tolist()], tokenizers, models,
                        vocabularies)


def _from_run(settings, run, text):
    """Tokenisers, {file name: bytes} of new subword models, and the vocabularies that stay as they are or grow."""
    if run is not None:
        vocabularies = read_vocabularies(run) if settings.keep_vocabulary != 'no' else None
        return read_tokenizers(run, settings), {}, vocabularies
    if settings.keep_vocabulary != 'no':
        return kept_vocabulary.kept(settings)
    return build_tokenizers(settings, lambda: (pair for _, pair in text.training())) + (None,)


def _tell_counts(settings, part, files, size, counts):
    """Tells how many pairs a part has, and warns if many are dropped as over-long."""
    truncated = counts['long_sources'] if settings.long_sources == 'truncate' else 0
    tell('%s: %s pairs of %s (%d read; dropped: %d with an empty side, %d over-long%s)' % (
        part, format(size, ','), files, counts['read'], counts['empty'], counts['over_long'],
        '; %d sources truncated' % truncated if truncated else ''))
    if counts['over_long'] > MANY * counts['read']:
        sources = 0 if truncated else counts['long_sources']
        tell('warning: %.1f %% of the %s pairs are dropped, %d with more than %d source tokens and %d with more than '
             '%d target tokens: raise --max-source-length or --max-target-length%s' % (
                 100. * counts['over_long'] / counts['read'], part, sources, settings.max_source_length,
                 counts['over_long'] - sources, settings.max_target_length,
                 ', or give --long-sources truncate' if sources else ''))


def _key(settings, paths, hashes, tokenizers):
    names = ('format', 'columns', 'on_bad_utf8', 'max_source_length', 'max_target_length', 'source_tokenizer',
             'target_tokenizer', 'source_vocabulary', 'target_vocabulary', 'min_count', 'share_vocabulary', 'copy',
             'spacing_marks', 'long_sources')
    pieces = [hashlib.sha256(repr(tokenizer.scores).encode('utf-8')).hexdigest()
              if tokenizer.name in subwords.KINDS else None for tokenizer in tokenizers]
    return cache_key([[getattr(settings, name) for name in names], None if 'val' in paths else settings.seed,
                      hashes['train'], list(map(layout, paths['train'])), pieces])


@contextlib.contextmanager
def _temporary_folder():
    """A new directory that is removed at the end."""
    path = tempfile.mkdtemp(prefix='corpus-')
    try:
        yield path
    except OSError as error:
        raise user_error(path, 'cannot be written', error) from error
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _at_first_use(context):
    """A function that enters a context at its first call, and returns the context's value; the end leaves it."""
    values = []
    with contextlib.ExitStack() as stack:
        def value():
            if not values:
                values.append(stack.enter_context(context()))
            return values[0]

        yield value


def _build(settings, text, tokenizers, limits, name, entry, kept):
    """The training corpus, the vocabularies, and the counts of pairs."""
    with _at_first_use(entry.building if entry else _temporary_folder) as folder:
        builder = CorpusBuilder(tokenizers, limits, folder, settings.long_sources == 'truncate')
        builder.read(text.training(), name)
        vocabularies = _vocabularies(settings, tokenizers, builder.table, kept)
        train = builder.finish(*vocabularies, settings.copy)
        if entry and builder.uses_files:
            # The corpus has its files open already, whatever other processes do with the entry.
            entry.commit(folder(), {
                'vocabularies': {side: vocabulary.to_bytes().decode('utf-8')
                                 for side, vocabulary in zip(SIDES, vocabularies)},
                'counts': builder.counts, 'held_out': text.validation if text.held_out else []})
    return train, vocabularies, builder.counts


def _open_entry(path, content, settings, limits):
    """The training corpus, vocabularies, counts and held-out pairs of an entry of the cache.

    # Raises
        UserError: they cannot be those of a text with these settings.
    """
    held_out, counts, texts = [content.get(name) for name in ('held_out', 'counts', 'vocabularies')]
    require(isinstance(texts, dict) and isinstance(counts, dict) and isinstance(held_out, list)
            and all(isinstance(texts.get(side), str) for side in SIDES)
            and all(type(counts.get(name)) is int for name in COUNTS),
            '%s: is not the content of an encoded corpus', path)
    vocabularies = [Vocabulary.from_bytes(texts[side].encode('utf-8', 'surrogatepass'), path) for side in SIDES]
    for pair in held_out:
        require(isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int and isinstance(pair[1], list)
                and list(map(type, pair[1])) == [str, str], '%s: %s is no held-out pair', path, show(pair))
    try:
        train = open_corpus(path, record_types(limits, *vocabularies, settings.copy), settings.copy)
        fits = is_valid(train, limits, list(map(len, vocabularies)))
    except (OSError, ValueError) as error:
        raise UserError('%s: cannot be read: %s' % (path, error)) from error
    require(fits and len(train) == counts['kept'] and train.lines[-1] <= counts['read'] + len(held_out),
            '%s: its lengths or ids are out of range', path)
    return train, vocabularies, counts, [(line, tuple(pair)) for line, pair in held_out]


def _links(settings, paths, train, vocabularies, entry):
    """The content of `LINKS_FILE` for a corpus: from the cache's entry, or from the aligner."""
    def open_entry(content):
        return read_bytes(os.path.join(entry.path, word_aligner.LINKS_FILE))

    links = entry.read(open_entry) if entry else None
    if links is not None:
        tell('alignments: links of %s pairs, from %s' % (format(len(train), ','), entry.path))
        return links
    started = time.time()
    tokens = [vocabulary.tokens for vocabulary in vocabularies]
    # With copying, larger ids stand for tokens of the source that the vocabulary lacks.
    pairs = [[[known[i] if i < len(known) else known[UNK] for i in ids] for known, ids in zip(tokens, train.record(n))]
             for n in range(len(train))]
    found = word_aligner.align(pairs, settings.threads)
    count = sum(1 for _ in corpus.pairs_of_run(settings, paths['train']))
    links = alignments.link_lines(train.lines.tolist(), count, found)
    tell('alignments: %s aligned %s pairs in %.0f s, %s links' % (
        word_aligner.PROGRAM, format(len(train), ','), time.time() - started, format(sum(map(len, found)), ',')))
    if entry:
        with entry.building() as folder:
            write_bytes(os.path.join(folder, word_aligner.LINKS_FILE), links)
            entry.commit(folder, {})
    return links


def token_pairs(settings, paths):
    """Generator of the tokens that a new run has for each pair of its training text: (source, target) lists."""
    tokenizers, _, _ = _from_run(settings, None, _Text(settings, paths))
    for pair in corpus.pairs_of_run(settings, paths['train']):
        yield tuple(tokenizer.tokenize(side) for tokenizer, side in zip(tokenizers, pair))


def _vocabularies(settings, tokenizers, table, kept):
    if settings.keep_vocabulary == 'old':
        return kept

    def build(side, sides):
        tokenizer = tokenizers[SIDES.index(side)]
        if tokenizer.name in subwords.KINDS:
            return Vocabulary(SPECIALS + tokenizer.pieces)
        return Vocabulary.build(table.totals(sides), getattr(settings, side + '_vocabulary'), settings.min_count)

    if settings.share_vocabulary:
        vocabularies = [build('source', SIDES)] * 2
    else:
        vocabularies = [build(side, [side]) for side in SIDES]
    # Of a resumed run, the kept vocabularies have the new tokens already.
    return vocabularies if kept is None else [kept_vocabulary.joined(*pair) for pair in zip(kept, vocabularies)]
