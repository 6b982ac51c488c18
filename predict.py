"""Translates lines of text with a trained run; without options, the sample sentences with the last run.

    predict.py                                            # samples/sentences.txt with the run trained last
    predict.py --run runs/x --input text.en --output text.zh
    echo 'where is the book ?' | predict.py --input - --show-attention
    predict.py --run runs/x --run runs/y --beam-width 5 --n-best 5 --json    # an ensemble of two runs
    predict.py --score-pairs --input pairs.tsv            # how probable the model finds given outputs
"""
import collections
import contextlib
import os
import sys
import time

from tqdm import tqdm

from command_line import CommandParser, UserError, require, non_negative_int, positive_int, run_command, tell
from reports import output_formats
import settings
from text.line_reader import LineReader
from storage.run_directory import RunDirectory, last_run

# Options that are arguments of `Translator.translate` under the same names.
SEARCH = settings.DECODING + ('max_length_ratio', 'n_best')


def parse(argv):
    parser = CommandParser(prog='predict.py', description=__doc__.split('\n')[0],
                           epilog='N lines in, N lines out, in order; an empty line gives an empty line. '
                           'Scores are natural logarithms of probabilities. A pipe is translated as its '
                           'lines arrive.')
    parser.add_argument('--run', metavar='DIR', action='append',
                        help='run directory (default: the one in runs/ trained last); given more than once: an '
                        'ensemble of runs with the same vocabularies, their probabilities averaged')
    parser.add_argument('--input', metavar='FILE|-',
                        help='text, a line a sentence, .gz too; - is standard input (default: samples/sentences.txt)')
    parser.add_argument('--output', metavar='FILE|-', default='-', help='where to write (default: standard output)')
    parser.add_argument('--batch-size', type=positive_int, default=32, metavar='N',
                        help='sentences decoded together (default: %(default)s)')
    parser.add_argument('--on-bad-utf8', choices=('error', 'replace'), default='error',
                        help='what to do with bytes that are not UTF-8 (default: %(default)s)')
    parser.add_argument('--threads', type=non_negative_int, default=0, metavar='N',
                        help="threads of TensorFlow; 0: as in the run's settings (default: %(default)s)")
    group = settings.add_search_options(parser)
    group.add_argument('--n-best', type=positive_int, metavar='N',
                       help='write the N best outputs of each line, a line each: "line<TAB>rank<TAB>text", both '
                       'numbers from 1; needs --beam-width')
    group.add_argument('--replace-unk', nargs='?', const='', metavar='FILE',
                       help='put the source word most attended to for each <unk>, or what FILE has for it, lines of '
                       '"source<TAB>target"')
    group.add_argument('--score-pairs', action='store_true',
                       help='the input has lines of "source<TAB>target": write the score of each target, </s> included')
    group = parser.add_argument_group('output')
    group.add_argument('--scores', action='store_true', help='put "score<TAB>" before each text')
    group.add_argument('--json', action='store_true',
                       help='write an object for each line, on a line of its own: source, source_tokens, hypotheses '
                       '(text, tokens, score, ranking, log_probabilities of the tokens and </s>, alignment)')
    group.add_argument('--html', metavar='FILE', help='write a page of alignments to look through, of the first %d '
                       'sentences' % output_formats.LARGEST_PAGE)
    group.add_argument('--plot-dir', metavar='DIR', help='write a picture of the alignment for each sentence, which '
                       'takes longer than the translation')
    group.add_argument('--show-attention', action='store_true', help='print the alignment as text to standard error')
    options = parser.parse_args(argv)
    refuse_contradictions(options, parser.error)
    return options


def refuse_contradictions(options, error):
    settings.refuse_search_contradictions(options, error)
    if options.json and options.scores:
        error('--json has the scores: leave --scores out')
    if options.score_pairs:
        unused = [name for name in SEARCH + ('replace_unk', 'scores') if getattr(options, name) not in (None, False)]
        if unused:
            error('--score-pairs searches for nothing and writes scores: leave --%s out' % unused[0].replace('_', '-'))
        if options.input is None:
            error('--score-pairs needs --input with lines of "source<TAB>target"')
    places = collections.Counter(os.path.realpath(path) for path in (options.output, options.html)
                                 if path not in (None, '-'))
    if places and max(places.values()) > 1:
        error('--output and --html name one file')


def results(work, lines, place, first):
    """Yields (line, hypotheses) for all lines. If a line is refused, those before it come first, then a `UserError`
    with its number."""
    try:
        hypotheses = work(lines)
    except UserError as error:
        if len(lines) == 1:
            raise UserError('%s: line %d: %s' % (place, first, error))
        for i, line in enumerate(lines):
            yield from results(work, [line], place, first + i)
    else:
        yield from zip(lines, hypotheses)


def score_pairs(translator, lines, options):
    """Scores lines "source<TAB>target" by forced decoding: a list of one hypothesis for each."""
    pairs = [tuple(line.split('\t', 2)[:2]) for line in lines]
    require(all(len(pair) == 2 for pair in pairs), 'no tab between source and target')
    return [[hypothesis] for hypothesis in translator.score(pairs, options.batch_size)]


def translate(translator, lines, options, unknown_words):
    """Translates lines: a list of hypotheses for each."""
    results = translator.translate(lines, options.batch_size, **settings.decoding(
        translator.settings, {name: getattr(options, name) for name in SEARCH}))
    if unknown_words is None:
        return results
    return [[unknown_words.replace(one, translator.source_tokenizer, translator.target_tokenizer)
             for one in hypotheses] for hypotheses in results]


def check_places(options, reader):
    """Refuses an input that cannot be read and an output that would destroy it, before any work and any writing."""
    reader.check()
    for option, path in (('--output', options.output), ('--html', options.html)):
        if not reader.read_once and path and os.path.exists(path) and os.path.samefile(options.input, path):
            raise UserError('%s: is the input too: name another file for %s' % (path, option))


def check_attention(options):
    """Refuses options that look at the attention of a run without."""
    wanted = [option for option, given in (
        ('--replace-unk', options.replace_unk is not None), ('--coverage-penalty', options.coverage_penalty),
        ('--plot-dir', options.plot_dir), ('--show-attention', options.show_attention)) if given]
    if wanted:
        raise UserError('%s: this run has no attention (--score none): leave %s out' % (options.run[0], wanted[0]))


def text_format(options):
    """The function that makes the text of a line's hypotheses."""
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
    options.input = options.input or 'samples/sentences.txt'
    standard = sys.stdin.fileno() if options.input == '-' else None
    reader = LineReader(options.input, standard, options.on_bad_utf8)
    # What is wrong with text or run is told before TensorFlow takes its seconds.
    check_places(options, reader)
    attention = any([RunDirectory.open(path).read_config()['score'] != 'none' for path in options.run])
    if not attention:
        check_attention(options)
    unknown_words = None if options.replace_unk is None else output_formats.UnknownWords(options.replace_unk)
    formats = [kind(value) for kind, value in ((output_formats.Pictures, options.plot_dir),
                                               (output_formats.Page, options.html)) if value]
    if options.show_attention:
        formats.append(output_formats.AlignmentPrinter())
    if reader.is_terminal():
        tell('a sentence and Enter translates it; Ctrl-D ends')
    from translator import Translator
    translator = Translator.load(options.run if len(options.run) > 1 else options.run[0], options.threads)
    stream = output_formats.Stream(options.output, sys.stdout, text_format(options))
    formats.insert(0, stream)

    def work(lines):
        if options.score_pairs:
            return score_pairs(translator, lines, options)
        return translate(translator, lines, options, unknown_words)

    # A chunk of several batches has more sentences of similar length; at a terminal each line is answered at once.
    size = 1 if reader.is_terminal() else 16 * options.batch_size
    count, started = 0, time.time()
    shown = sys.stderr.isatty() and not reader.is_terminal() and not (options.output == '-' and sys.stdout.isatty())
    with contextlib.ExitStack() as stack:
        for one in formats:
            stack.callback(one.close)
        bar = stack.enter_context(tqdm(unit=' lines', leave=False, file=sys.stderr, disable=not shown))
        for chunk in reader.chunks(size):
            for line, hypotheses in results(work, chunk, reader.name, count + 1):
                count += 1
                if not attention:
                    hypotheses = [one._replace(alignment=None) for one in hypotheses]
                source = line.split('\t')[0] if options.score_pairs else line
                for one in formats:
                    one.write(count, source, hypotheses)
                bar.update()
            stream.flush()
    seconds = time.time() - started
    tell('%s: %d lines in %.1f s, %.0f lines/s' % (' + '.join(options.run), count, seconds,
                                                   count / max(seconds, 1e-9)))


if __name__ == '__main__':
    run_command(main, 'predict.py')
