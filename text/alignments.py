"""Gold alignments: which source tokens belong to a target token. They train attention (`token_loss.py`) or
measure it (`reports/metrics.py`)."""
import re

from command_line import UserError, require, system_path
from text import corpus, questions
from text.text_files import read_lines

_LINK = re.compile('([0-9]+)-([0-9]+)$')


def read_alignments(path):
    """Reads gold alignments in the Pharaoh format: one line for each sentence.

    A link `i-j` joins source token i and target token j, counted from 0.

    # Returns
        A list of (i, j) for each line; an empty line has no link.

    # Raises
        UserError: an item is not a link (names file and line); and as `text_files.read_lines`.
    """
    alignments = []
    for number, line in enumerate(read_lines(path), 1):
        matches = [(item, _LINK.match(item)) for item in line.split()]
        for item, match in matches:
            if not match:
                raise UserError('%s, line %d: %r is not a link: write source and target token, counted from 0, as 3-5'
                                % (path, number, item))
        alignments.append([(int(match.group(1)), int(match.group(2))) for _, match in matches])
    return alignments


def training_alignments(settings, paths, pairs, tokenize):
    """The gold alignments of a training corpus for guided alignment.

    # Arguments
        settings: object with the attributes of `settings.SETTINGS`.
        paths: the run's files, as from `corpus.corpus_paths`.
        pairs: the `EncodedCorpus`; its `lines` are numbers of pairs in the training text.
        tokenize: function that returns the tokens of a source.

    # Returns
        A list of (i, j) for each pair of the corpus: source token i belongs to target token j. Of bAbI questions, all
        tokens of the supporting statements belong to each token of the answer.

    # Raises
        UserError: alignments that do not fit the pairs, or a bAbI file without supporting facts.
    """
    if settings.format == 'babi':
        return _of_facts(settings, paths['train'], pairs, tokenize)
    path = system_path(settings.alignments)
    links = read_alignments(path)
    count = sum(1 for _ in corpus.pairs_of_run(settings, paths['train']))
    require(len(links) == count, '%s: %d lines for the %d pairs of %s: give the links of just these pairs', path,
            len(links), count, ' '.join(paths['train']))
    for line, source_length, target_length in zip(pairs.lines.tolist(), *pairs.lengths.tolist()):
        for i, j in links[line - 1]:
            require(i < source_length and j < target_length, '%s, line %d: %d-%d is outside of %d source and %d target '
                    'tokens: count the tokens of --source-tokenizer %s and --target-tokenizer %s from 0', path, line,
                    i, j, source_length, target_length, settings.source_tokenizer, settings.target_tokenizer)
    return [links[line - 1] for line in pairs.lines.tolist()]


def _of_facts(settings, paths, pairs, tokenize):
    asked = list(questions.read_questions(paths, 'babi', settings.on_bad_utf8))
    lines = pairs.lines.tolist()
    require(any(asked[line - 1].supporting for line in lines), '%s: no question has supporting facts, which '
            '--guided-alignment needs: omit it', ' '.join(paths))
    lengths = {}  # tokens of each statement, which occurs in many stories
    return [[(position, j) for j in range(target_length)
             for position in questions.supporting_positions(asked[line - 1], tokenize, lengths)]
            for line, target_length in zip(lines, pairs.lengths[1].tolist())]
