"""Parallel text: pairs of source and target text from files of all formats, and which files a run names."""
import itertools
import math
import os

from command_line import UserError, require, system_path  # first: sets what NumPy reads when it is imported

import numpy as np

from settings import AUTO
from text import questions
from text.batches import seeded_random
from text.columns import read_columns
from text.readers import LAYOUTS, layout
from text.text_files import PACKED, read_lines, require_regular_file
from text.vocabulary import END, PAD


# ---- Which files ------------------------------------------------------------------------------------------------
def find_corpus(folder):
    """Finds the parts of a corpus in a folder.

    # Returns
        {'train': [path], 'val': [path], 'test': [path]} of `train.tsv`, `train.csv.gz` and so on; 'test' is optional.

    # Raises
        UserError: a part is missing, or exists twice.
    """
    parts = {}
    for part in ('train', 'val', 'test'):
        names = [part + ending + packed for ending in ['.tsv', *LAYOUTS] for packed in ['', *PACKED]]
        parts[part] = [path for path in (os.path.join(folder, name) for name in names) if os.path.exists(path)]
        if len(parts[part]) > 1:
            raise UserError('%s: there is %s too; remove one of them' % tuple(parts[part][:2]))
        if not parts[part] and part != 'test':
            raise UserError('%s: no such file, nor %s, nor packed as %s; for files of other names use --train' % (
                os.path.join(folder, part + '.tsv'), ', '.join(LAYOUTS), ', '.join(PACKED)))
    return {part: paths for part, paths in parts.items() if paths}


def corpus_paths(settings):
    """The text files of a run.

    # Arguments
        settings: object with the attributes `data`, `train`, `val`, `test` and `alignments`.

    # Returns
        {'train': [paths], 'val': [paths], 'test': [paths], 'alignments': [path]}, without the parts that the settings
        do not name.

    # Raises
        UserError: a file is missing, or is not a regular file.
    """
    if settings.train is None:
        parts = find_corpus(system_path(settings.data))
    else:
        files = (('train', settings.train), ('val', settings.val), ('test', settings.test))
        parts = {part: [system_path(path) for path in paths] for part, paths in files if paths}
    if settings.alignments not in (None, AUTO):
        parts['alignments'] = [system_path(settings.alignments)]
    for path in itertools.chain(*parts.values()):
        require_regular_file(path)
    return parts


# ---- Pairs ------------------------------------------------------------------------------------------------------
def read_pairs(paths, form='pairs', on_bad_utf8='error', columns=None):
    """Reads pairs of text, one at a time.

    # Arguments
        paths: list of paths. 'pairs': one table, or source files and then as many target files, in order, each of the
            length of its source file. 'babi' and 'qa': as `questions.read_questions`.
        form: format of the files: 'pairs', 'babi' or 'qa'.
        on_bad_utf8: as in `text_files.decode_lines`.
        columns: as for `columns.read_columns`.

    # Returns
        Generator of (source text, target text).

    # Raises
        UserError: unequal line counts, a line without a tab, an empty file; and as `text_files.read_lines`.
    """
    if form != 'pairs':
        return ((question.source, question.answer)
                for question in questions.read_questions(paths, form, on_bad_utf8, columns))
    if len(paths) == 1:
        return (tuple(cells) for _, cells in read_columns(paths[0], 'pairs', on_bad_utf8, columns))
    require(columns is None, '--columns chooses among the columns of one file, not of %d files: omit it', len(paths))
    half = len(paths) // 2
    if not paths or len(paths) % 2:
        raise UserError('give one tab-separated file, or source files and then as many target files, not %d files'
                        % len(paths))
    return itertools.chain.from_iterable(_parallel_pairs(*files, on_bad_utf8)
                                         for files in zip(paths[:half], paths[half:]))


def load(paths, form='pairs', on_bad_utf8='error', columns=None):
    """All pairs as a list. Arguments and errors as for `read_pairs`."""
    return list(read_pairs(paths, form, on_bad_utf8, columns))


def pairs_of_run(settings, paths):
    """`read_pairs` of files of a run, by its settings."""
    return read_pairs(paths, settings.format, settings.on_bad_utf8, settings.columns)


def _parallel_pairs(source_path, target_path, on_bad_utf8):
    for path in (source_path, target_path):
        require(layout(path) == 'text', '%s: has source and target in one file: give it alone', path)
    counts = [0, 0]
    for pair in itertools.zip_longest(read_lines(source_path, on_bad_utf8), read_lines(target_path, on_bad_utf8)):
        counts = [count + (text is not None) for count, text in zip(counts, pair)]
        if counts[0] == counts[1]:  # else one file has ended: count the lines of the other to its end
            yield pair
    for path, count in zip((source_path, target_path), counts):
        _check_count(path, count)
    if counts[0] != counts[1]:
        raise UserError('%s has %d lines but %s has %d: line n of one must belong to line n of the other'
                        % (source_path, counts[0], target_path, counts[1]))


def _check_count(path, count):
    """Refuses a file without lines."""
    if not count:
        raise UserError('%s: the file is empty' % path)


def hold_out(count, seed):
    """Chooses the validation part of a text.

    # Arguments
        count: pairs of the text.
        seed: decides which pairs are held out.

    # Returns
        Ascending list of their indices from 0: 5 %, at least 1 and at most 1,000 pairs.

    # Raises
        UserError: fewer than 2 pairs.
    """
    if count < 2:
        raise UserError('too little text to hold out a validation part: give more, or --val')
    size = min(1000, max(1, count // 20))
    return np.sort(seeded_random(seed, 1).permutation(count)[:size]).tolist()


# ---- Pretrained vectors -----------------------------------------------------------------------------------------
def read_vectors(path, vocabulary, size):
    """Reads pretrained vectors in the text format of word2vec (line 1 has their count and size) or GloVe (without it).

    # Arguments
        path: the file; each line is a token and its numbers.
        vocabulary: `Vocabulary`; tokens that it does not have, and special tokens, are skipped.
        size: numbers in a vector.

    # Returns
        List of n ids, and their vectors, float32 (n, size).

    # Raises
        UserError: a line that is not a token and `size` finite numbers, vectors of another size, or no vector for any
            token; and as `text_files.read_lines`.
    """
    ids, rows, number, first = [], [], 0, 1
    for number, line in enumerate(read_lines(path), 1):
        fields = line.rstrip(' ').split(' ')
        if number == 1 and len(fields) == 2 and all(map(str.isdecimal, fields)):
            _check_size(path, int(fields[1]), size)
            first = 2
            continue
        if number == first and _is_number(fields[-1]):
            _check_size(path, sum(1 for _ in itertools.takewhile(_is_number, reversed(fields[1:]))), size)
        token, *numbers = line.rstrip(' ').rsplit(' ', size)  # from the right: a token may contain spaces
        try:
            row = np.array(numbers, dtype='f')
        except ValueError:
            row = ()
        if len(row) != size or not np.isfinite(row).all():
            raise UserError('%s: line %d: not a token and %d numbers; see --embedding for their count'
                            % (path, number, size))
        if vocabulary.index.get(token, PAD) > END:
            ids.append(vocabulary.index[token])
            rows.append(row)
    if not ids:
        raise UserError('%s: has no vector for any of the %d tokens of the vocabulary (%d lines read): give vectors of '
                        'that language, and the tokeniser that they were made with'
                        % (path, len(vocabulary) - END - 1, number))
    return ids, np.array(rows, dtype='f')


def _check_size(path, found, size):
    """Refuses vectors of another size than the model's."""
    if found != size:
        raise UserError('%s: has vectors of %d numbers, not %d; give --embedding %d' % (path, found, size, found))


def _is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
