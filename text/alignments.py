"""Gold alignments: which source tokens belong to a target token. They train attention (`token_loss.py`) or
measure it (`reports/metrics.py`)."""
import collections
import re

from command_line import UserError, require, system_path, tell
from text import corpus, questions, word_aligner
from text.text_files import decode_lines, read_lines
from text.tokenizers import make_tokenizer

# `-` or, in gold alignments made by hand, `?` or `p`: a possible link (Och and Ney 2003).
_LINK = re.compile('([0-9]{1,9})([-?p])([0-9]{1,9})')
# Links between larger tokens than the run's do not reach the end of a line, where some token has one.
SAMPLED = 2000  # lines that are looked at
ENOUGH = 20     # lines that tell something
END = 4         # tokens at the end of a line: the full stop, particles and others may have no link
REACHING = .5   # share of the lines with a link there, below which a warning appears
LONGER = .05    # share of the lines with links after the last word, below which the links are between words

Gold = collections.namedtuple('Gold', 'sure possible')
Gold.__doc__ = """The gold links of a pair, lists of (i, j): those that are `sure`, and the `possible` others."""


def read_alignments(path):
    """Reads gold alignments in the Pharaoh format: one line for each sentence.

    A link `i-j` joins source token i and target token j, counted from 0; `i?j` and `ipj` are possible links.

    # Returns
        A `Gold` for each line; an empty line has no link.

    # Raises
        UserError: an item is not a link (names file and line); and as `text_files.read_lines`.
    """
    return _parse(read_lines(path), path)


def _parse(lines, name):
    alignments = []
    for number, line in enumerate(lines, 1):
        gold = Gold([], [])
        for item in line.split():
            match = _LINK.fullmatch(item)
            if not match:
                raise UserError('%s, line %d: %s is not a link: write source and target token, counted from 0, as 3-5, '
                                'or as 3?5 if it is possible but not sure' % (name, number, repr(item)[:40]))
            source, kind, target = match.groups()
            (gold.sure if kind == '-' else gold.possible).append((int(source), int(target)))
        alignments.append(gold)
    return alignments


def training_alignments(settings, paths, pairs, tokenize, links=None):
    """The gold alignments of a training corpus for guided alignment. A possible link counts as any other.

    # Arguments
        settings: object with the attributes of `settings.SETTINGS`.
        paths: the run's files, as from `corpus.corpus_paths`.
        pairs: the `EncodedCorpus`; its `lines` are numbers of pairs in the training text.
        tokenize: function that returns the tokens of a source.
        links: bytes of the links of `--alignments auto`; `None` reads the file of `--alignments`.

    # Returns
        A list of (i, j) for each pair of the corpus: source token i belongs to target token j. Of bAbI questions, all
        tokens of the supporting statements belong to each token of the answer.

    # Raises
        UserError: alignments that do not fit the pairs, or a bAbI file without supporting facts.
    """
    if settings.format == 'babi':
        return _of_facts(settings, paths['train'], pairs, tokenize)
    path = word_aligner.LINKS_FILE if links is not None else system_path(settings.alignments)
    gold = read_alignments(path) if links is None else _parse(decode_lines(links.splitlines(True), path), path)
    lines, lengths = pairs.lines.tolist(), list(zip(*pairs.lengths.tolist()))
    sample = range(0, len(lines), max(1, len(lines) // SAMPLED))
    texts, count = {lines[index]: None for index in sample}, 0
    for count, pair in enumerate(corpus.pairs_of_run(settings, paths['train']), 1):
        if count in texts:
            texts[count] = pair
    require(len(gold) == count, '%s: %d lines for the %d pairs of %s: give the links of just these pairs', path,
            len(gold), count, ' '.join(paths['train']))
    chosen = [gold[line - 1].sure + gold[line - 1].possible for line in lines]
    check_range(settings, path, lines, lengths, chosen)
    if links is None:
        check_tokens(settings, path, *zip(*[(lengths[index], chosen[index], texts[lines[index]]) for index in sample]))
    return chosen


def _fits(links, source_length, target_length):
    return all(i < source_length and j < target_length for i, j in links)


def check_range(settings, path, lines, lengths, gold):
    """Refuses links outside of their pair. If they fit the other way round, that is the mistake.

    # Arguments
        settings: those of the run. path: the file of links. lines: the line of each pair in it. lengths: source and
            target tokens of each pair. gold: links of each pair.
    """
    outside = [index for index, links in enumerate(gold) if not _fits(links, *lengths[index])]
    if not outside:
        return
    swapped = sum(not _fits([(i, j) for j, i in links], *sizes) for links, sizes in zip(gold, lengths))
    index = outside[0]
    i, j = next(link for link in gold[index] if not _fits([link], *lengths[index]))
    place = (path, lines[index], i, j) + lengths[index]
    require(10 * swapped > len(outside), '%s, line %d: %d-%d is outside of %d source and %d target tokens. So are '
            'links in %d of %d lines, and in %d with source and target exchanged: the links have the other direction; '
            'write the source token first', *place, len(outside), len(gold), swapped)
    raise UserError('%s, line %d: %d-%d is outside of %d source and %d target tokens: count the tokens of '
                    '--source-tokenizer %s and --target-tokenizer %s from 0, which train.py --print-tokens prints'
                    % (place + (settings.source_tokenizer, settings.target_tokenizer)))


def check_tokens(settings, path, lengths, gold, texts):
    """Refuses links between words where the run has more tokens, and warns of links between unknown other tokens.

    Such links are in range, and wrong: in a line of n words, no link is after token n. Arguments as for `check_range`;
    `texts` are the pairs of text.
    """
    for side, name in enumerate(('source', 'target')):
        tokenizer = getattr(settings, name + '_tokenizer')
        rows = [(max(link[side] for link in links), sizes[side], pair[side])
                for links, sizes, pair in zip(gold, lengths, texts) if links]
        for divide in (str.split, make_tokenizer('word').tokenize):
            counted = [(last, len(divide(text)), size) for last, size, text in rows]
            divided = [last >= words for last, words, size in counted if 1 < words <= size - END]
            beyond = sum(divided)
            require(len(divided) < ENOUGH or beyond > LONGER * len(divided), '%s: its links are between words, and '
                    'tokens of --%s-tokenizer %s are smaller: %d of %d lines have a link beyond the number of their '
                    'words; align the tokens that train.py --print-tokens prints, or give --alignments auto', path,
                    name, tokenizer, beyond, len(divided))
        reaching = sum(last >= size - END for last, size, _ in rows)
        if len(rows) >= ENOUGH and reaching < REACHING * len(rows):
            tell('warning: %s: only %.0f %% of the lines have a link at one of their last %d %s tokens: are these the '
                 'tokens of --%s-tokenizer %s? train.py --print-tokens prints them'
                 % (path, 100. * reaching / len(rows), END, name, name, tokenizer))


def _of_facts(settings, paths, pairs, tokenize):
    asked = list(questions.read_questions(paths, 'babi', settings.on_bad_utf8))
    lines = pairs.lines.tolist()
    require(any(asked[line - 1].supporting for line in lines), '%s: no question has supporting facts, which '
            '--guided-alignment needs: omit it', ' '.join(paths))
    lengths = {}  # tokens of each statement, which occurs in many stories
    return [[(position, j) for j in range(target_length)
             for position in questions.supporting_positions(asked[line - 1], tokenize, lengths)]
            for line, target_length in zip(lines, pairs.lengths[1].tolist())]


def link_lines(corpus_lines, count, alignments):
    """The bytes of Pharaoh lines for a text of `count` pairs: those with numbers `corpus_lines` have `alignments`."""
    links = dict(zip(corpus_lines, alignments))
    return ''.join(' '.join('%d-%d' % link for link in links.get(line, ())) + '\n'
                   for line in range(1, count + 1)).encode('ascii')
