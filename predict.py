"""Translates lines of text with a trained run; without options, the sample sentences with the last run.

    predict.py                                            # samples/sentences.txt with the run trained last
    predict.py --run runs/x --input text.en --output text.zh
    echo 'where is the book ?' | predict.py --input - --show-attention
    predict.py --run runs/x --run runs/y --beam-width 5 --n-best 5 --json    # an ensemble of two runs
    predict.py --score-pairs --input pairs.tsv            # how probable the model finds given outputs
"""
import argparse
import contextlib
import re
import shlex
import sys
import time

from command_line import CommandParser, UserError, require, run_command, sample_file, tell
from reports import output_formats
from reports.progress import Progress
import search_options
from text.line_reader import LineReader
from text.readers import layout
from storage.output_files import check_output_directory, check_outputs
from storage.run_directory import RunDirectory, last_run
from settings import SETTINGS, with_defaults
from text.questions import SourceReader

MAXIMUM_COUNTED = 2 ** 29  # bytes; the lines of larger files are not counted, so there is no time left


def parse(argv):
    parser = CommandParser(prog='predict.py', doc=__doc__,
                           notes='N input lines give N output lines, in order; an empty line gives an empty line.\n'
                           'For bAbI stories, each question gives one line. Scores are natural logarithms of\n'
                           'probabilities. Lines of a pipe are translated as they arrive.')
    parser.add_argument('--run', metavar='DIR', action='append',
                        help='run directory (default: the one in runs/ trained last); given more than once: an '
                        'ensemble of runs with the same vocabularies, their probabilities averaged')
    parser.add_argument('--input', metavar='FILE|-',
                        help='text with one sentence per line, or .gz, .bz2, .xz; - is standard input (default: '
                        'samples/sentences.txt)')
    parser.add_argument('--format', choices=SETTINGS['format'].choices,
                        help='format of the input: one source per line (pairs); bAbI stories, with an output for each '
                        'question; context and question separated by a tab (qa) (default: as the run was trained)')
    parser.add_argument('--output', metavar='FILE|-', default='-',
                        help='file to write, at the end for an input file, line by line for a pipe (default: standard '
                        'output)')
    parser.add_argument('--batch-size', type=SETTINGS['batch_size'].parse, default=32, metavar='N',
                        help='maximum number of sentences decoded together (default: %(default)s)')
    parser.add_argument('--shard', type=shard, metavar='I/N',
                        help='translate only part I of N of the input file, in chunks of 16 times --batch-size lines; '
                        'the outputs of all parts in order are the whole output')
    parser.add_argument('--on-bad-utf8', choices=('error', 'replace'), default='error',
                        help='whether bytes that are not UTF-8 are an error or replaced (default: %(default)s)')
    parser.add_argument('--threads', type=SETTINGS['threads'].parse, default=0, metavar='N',
                        help='threads of TensorFlow; 0: the setting of the run (default: %(default)s)')
    group = search_options.add_options(parser, 'write the N best outputs of each line, one per line: '
                                       '"line<TAB>rank<TAB>text", both numbers from 1; needs a beam of that width')
    group.add_argument('--replace-unk', nargs='?', const='', metavar='FILE',
                       help='replace each <unk> by the source word with the largest attention weight, or by its '
                       'translation in FILE, which has lines "source<TAB>target"')
    group.add_argument('--score-pairs', action='store_true',
                       help='the input has lines "source<TAB>target": write the score of each target, </s> included')
    group = parser.add_argument_group('output')
    group.add_argument('--scores', action='store_true', help='write "score<TAB>" before each text')
    group.add_argument('--json', action='store_true',
                       help='write one JSON object per line: source, source_tokens, hypotheses (text, tokens, score, '
                       'ranking, log_probabilities of the tokens and </s>, alignment)')
    group.add_argument('--html', metavar='FILE', help='write a page that shows the alignments of the first %d '
                       'sentences' % output_formats.MAXIMUM_SENTENCES)
    group.add_argument('--plot-dir', metavar='DIR', help='write a picture of the alignment of each sentence; this '
                       'takes longer than the translation')
    group.add_argument('--plot-format', choices=('png', 'svg', 'pdf'), default='png',
                       help='format of these pictures (default: %(default)s)')
    group.add_argument('--show-attention', action='store_true', help='print the alignment as text to standard error')
    options = parser.parse_args(argv)
    check_usage(options, parser.error)
    return options


def check_usage(options, error):
    """Calls `error`, the parser's, for options that contradict each other."""
    search_options.check_usage(options, error)
    if options.json and options.scores:
        error('--json includes the scores: omit --scores')
    if options.score_pairs:
        if options.format not in (None, 'pairs'):
            error('--score-pairs reads lines of "source<TAB>target": omit --format')
        unused = [name for name in search_options.Options._fields + ('replace_unk', 'scores')
                  if getattr(options, name) not in (None, False)]
        if unused:
            error('--score-pairs writes scores and does not search: omit %s' % search_options.option_name(unused[0]))
        if options.input is None:
            error('--score-pairs needs --input with lines of "source<TAB>target"')


def answer_lines(answer, lines, place, first):
    """Yields (line, hypotheses) for all lines.

    # Arguments
        answer: function of a list of lines that returns the hypotheses of each.
        lines: list of text.
        place, first: the name of the input and the number of the first line, for messages.

    # Raises
        UserError: a line cannot be answered (names its number), after the lines before it.
    """
    try:
        hypotheses = answer(lines)
    except UserError as error:
        if len(lines) == 1:
            raise UserError('%s: line %d: %s' % (place, first, error))
        for i, line in enumerate(lines):
            yield from answer_lines(answer, [line], place, first + i)
    else:
        yield from zip(lines, hypotheses)


def read_sources(reader, size, source_reader, part):
    """Yields (whether to answer, sources) for each chunk of lines up to the end of `part`, the lines to answer.

    After a line that cannot be read, the sources before it come first.
    """
    for chunk in reader.chunks(size):
        if source_reader.count >= part.stop:
            return
        answered, sources = source_reader.count >= part.start, []
        try:
            for source in source_reader.sources(chunk):
                sources.append(source)
        except UserError:
            yield answered, sources
            raise
        yield answered, sources


def score_pairs(translator, lines, options):
    """Scores lines "source<TAB>target" by forced decoding: a list of one hypothesis for each."""
    pairs = [tuple(line.split('\t', 2)[:2]) for line in lines]
    require(all(len(pair) == 2 for pair in pairs), 'no tab between source and target')
    return [[hypothesis] for hypothesis in translator.score(pairs, options.batch_size)]


def translate(translator, lines, options, unknown_words):
    """Translates lines: a list of hypotheses for each."""
    search = search_options.merge(translator.settings, options)
    results = translator.translate(lines, options.batch_size, **search._asdict())
    if unknown_words is None:
        return results
    return [[unknown_words.replace(hypothesis, translator.source_tokenizer, translator.target_tokenizer)
             for hypothesis in hypotheses] for hypotheses in results]


def shard(text):
    """(number, count) of the text `I/N` of an option, for argparse."""
    match = re.fullmatch('([0-9]{1,6})/([0-9]{1,6})', text)
    if not match or not 1 <= int(match.group(1)) <= int(match.group(2)):
        raise argparse.ArgumentTypeError('%r is not I/N with I from 1 to N' % text[:40])
    return int(match.group(1)), int(match.group(2))


def part_of_lines(shard, lines, size, reader):
    """The indices of the lines that this process answers.

    A shard consists of whole chunks of `size` lines, so that its lines are decoded in the same batches as without
    shards, and the output is the same, byte for byte.
    """
    if shard is None:
        return range(sys.maxsize)
    require(lines is not None, '%s: --shard needs a file whose lines can be counted: write the text to a file',
            reader.name)
    chunks, (number, count) = -(-lines // size), shard
    return range(size * ((number - 1) * chunks // count), min(lines, size * (number * chunks // count)))


def check_files(options, reader):
    """Raises `UserError`, before any work, if the input cannot be read or an output must not be written.

    Returns the first lines of the input, if it can be read twice.
    """
    head = reader.head()
    require(layout(options.input) == 'text' or options.format == 'pairs', '%s: predict.py reads text with one source a '
            'line; evaluate.py --test %s --output FILE translates the sources of this file, or with --format pairs '
            'predict.py translates its lines as they are', reader.name, shlex.quote(options.input))
    check_outputs([('--output', options.output), ('--html', options.html)],
                  [reader.standard if options.input == '-' else options.input, options.replace_unk or None],
                  options.run)
    if options.plot_dir is not None:
        check_output_directory('--plot-dir', options.plot_dir)
    return head


def check_attention(options):
    """Raises `UserError` for options that need attention; call it for a run without attention."""
    for option, is_set in (('--replace-unk', options.replace_unk is not None),
                           ('--coverage-penalty', options.coverage_penalty), ('--plot-dir', options.plot_dir),
                           ('--show-attention', options.show_attention)):
        require(not is_set, '%s: this run has no attention (--score none): omit %s', options.run[0], option)


def text_format(options):
    """The function that formats the hypotheses of a line as text."""
    if options.json:
        return output_formats.json_line
    if options.score_pairs:
        return output_formats.score_line
    if options.n_best:
        return output_formats.scored_numbered_lines if options.scores else output_formats.numbered_lines
    return output_formats.scored_line if options.scores else output_formats.best_line


def main(argv):
    options = parse(argv)
    options.run = options.run or [last_run()]
    default_input = options.input is None
    options.input = options.input or sample_file('sentences.txt')
    standard = sys.stdin.fileno() if options.input == '-' else None
    reader = LineReader(options.input, standard, options.on_bad_utf8)
    # Check the text, the outputs and the run before TensorFlow is loaded, which takes seconds.
    head = check_files(options, reader)
    configs = [RunDirectory.open(path).read_config() for path in options.run]
    if not options.score_pairs:
        search_options.merge(with_defaults(configs[0]), options)
    attention = any(config['score'] != 'none' for config in configs)
    # The sample sentences and the pairs of --score-pairs are sources already.
    as_it_is = options.score_pairs or default_input or options.format == 'pairs'
    form = 'pairs' if options.score_pairs or default_input else options.format or configs[0].get('format', 'pairs')
    source_reader = SourceReader(form, reader.name, as_it_is)
    source_reader.refuse_table(head)
    if not attention:
        check_attention(options)
    unknown_words = None if options.replace_unk is None else output_formats.UnknownWords(options.replace_unk)
    # Chunks of several batches have more sentences of similar length. At a terminal, each line is answered at once.
    size = 1 if reader.is_terminal() else 16 * options.batch_size
    lines = reader.count(None if options.shard else MAXIMUM_COUNTED)
    part = part_of_lines(options.shard, lines, size, reader)
    if reader.is_terminal():
        tell('type a sentence and press Enter to translate it; Ctrl-D ends')
    from translator import Translator
    translator = Translator.load(options.run if len(options.run) > 1 else options.run[0], options.threads)
    stream = output_formats.Stream(text_format(options), sys.stdout) if options.output == '-' else \
        output_formats.FileStream(text_format(options), options.output, reader.read_once)
    formats = [stream]
    if options.plot_dir:
        formats.append(output_formats.Pictures(options.plot_dir, options.plot_format))
    if options.html:
        # A replaced <unk> is no token of the model.
        formats.append(output_formats.Page(options.html, None if unknown_words else translator.candidates))
    if options.show_attention:
        formats.append(output_formats.AlignmentPrinter())

    def answer(lines):
        if options.score_pairs:
            return score_pairs(translator, lines, options)
        return translate(translator, lines, options, unknown_words)

    count, started = 0, time.time()
    shown = sys.stderr.isatty() and not reader.is_terminal() and not (options.output == '-' and sys.stdout.isatty())
    with contextlib.ExitStack() as stack:
        for output in formats:
            stack.enter_context(output)
        total = lines if options.shard is None else len(part)
        progress = stack.enter_context(Progress(total if form == 'pairs' else None, 'lines', on_terminal=shown))
        number = 0
        for answered, sources in read_sources(reader, size, source_reader, part):
            if not answered:
                number += len(sources)
                continue
            for line, hypotheses in answer_lines(answer, sources, reader.name, number + 1):
                number, count = number + 1, count + 1
                if not attention:
                    hypotheses = [hypothesis._replace(alignment=None) for hypothesis in hypotheses]
                source = line.split('\t')[0] if options.score_pairs else line
                for output in formats:
                    output.write(number, source, hypotheses)
                progress.advance()
            stream.flush()
    seconds = time.time() - started
    tell('%s: %s in %.1f s, %s' % (' + '.join(options.run), output_formats.line_count(count), seconds,
                                   output_formats.line_rate(count, seconds)))


if __name__ == '__main__':
    run_command(main, 'predict.py')
