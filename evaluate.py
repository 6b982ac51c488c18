"""Scores a trained run on its validation or test text, or on any other text with known outputs.

    evaluate.py                                                 # the test text of the run trained last
    evaluate.py --run runs/x --split val                       # or the lines that training held out
    evaluate.py --run runs/x --test other.txt                   # another file in the run's format
    evaluate.py --run runs/x --source a.de --target a.en --bleu-tokenize none
    evaluate.py --alignments samples/translate/test.align       # also the agreement of attention and gold alignment
    evaluate.py --run runs/x --bootstrap 1000 --compare runs/y  # confidence intervals, significance of the difference
    evaluate.py --hypotheses a.out --target a.en                # outputs of any system, without a model
"""
import argparse
import collections
import itertools
import json
import math
import os
import time
from command_line import CommandParser, positive_int, require, run_command
from text import corpus
from text.alignments import check_range, check_tokens, read_alignments
from text.scored_text import chosen, scored_text
from text.text_files import read_lines, require_regular_file
from reports import metrics, scores
from reports.progress import Progress, shown
from text import questions
import search_options
from storage.output_files import check_outputs, write_output
from storage.run_directory import RunDirectory, last_run
from settings import SETTINGS, with_defaults
from text.tokenizers import make_tokenizer, read_tokenizers

MAXIMUM_RESAMPLINGS = 100000


def parse(argv):
    parser = CommandParser(prog='evaluate.py', doc=__doc__)
    parser.add_argument('--run', metavar='DIR', help='run directory (default: the one in runs/ trained last)')
    parser.add_argument('--trust-run', action='store_true',
                        help='read the text that the run names even if it is outside the current directory and has '
                        'changed')
    parser.add_argument('--split', choices=('val', 'test'), help='part of the data of the run; val without a '
                        'validation text: the lines that training held out (default: test if the run has it)')
    parser.add_argument('--test', metavar='FILE', help="score this file in place of the run's own data")
    parser.add_argument('--format', choices=SETTINGS['format'].choices,
                        help='format of --test (default: as the run was trained)')
    parser.add_argument('--columns', metavar='NAME,NAME',
                        help='columns, fields or languages of --test (default: as the run was trained)')
    parser.add_argument('--source', metavar='FILE', help='other source text, with --target')
    parser.add_argument('--target', metavar='FILE', help='the reference outputs for --source or --hypotheses')
    parser.add_argument('--hypotheses', metavar='FILE',
                        help='score these outputs, one per line, without a model, against --target or the text of '
                        '--run')
    parser.add_argument('--compare', metavar='DIR|FILE',
                        help='a second run, or a file of outputs: its scores, and the probability of such a '
                        'difference by chance')
    parser.add_argument('--output', metavar='FILE', help='write the scored outputs, one per line')
    parser.add_argument('--all-metrics', action='store_true',
                        help='compute all metrics, not only those that fit the task of the run')
    parser.add_argument('--bootstrap', type=resamplings, metavar='N',
                        help='95 %% confidence intervals from N resamplings of the lines (for --compare too, else '
                        '1000)')
    parser.add_argument('--alignments', metavar='FILE',
                        help='gold links of each pair, "i-j i?j": source token i to target token j, from 0; ? or p: '
                        'possible')
    parser.add_argument('--bleu-tokenize', choices=metrics.BLEU_TOKENIZERS,
                        help="sacreBLEU's tokeniser; with zh TER counts characters too (default: zh for Chinese "
                        'targets, none for --target-tokenizer space, char for char, else 13a)')
    parser.add_argument('--by-length', metavar='N,N', type=length_bounds,
                        help='also BLEU and perplexity by source length, bands that end at these numbers of tokens')
    parser.add_argument('--plot', metavar='FILE', help='draw the BLEU of --by-length as PNG')
    parser.add_argument('--html', metavar='FILE', help='write a page of the alignments, with the references and the '
                        'most probable tokens of each step')
    parser.add_argument('--batch-size', type=SETTINGS['batch_size'].parse, default=32, metavar='N',
                        help='maximum number of sentences decoded together (default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='one JSON object in place of the table')
    parser.add_argument('--threads', type=SETTINGS['threads'].parse, default=0, metavar='N',
                        help='threads of TensorFlow; 0: the setting of the run (default: %(default)s)')
    search_options.add_options(parser)
    options = parser.parse_args(argv)
    search_options.check_usage(options, parser.error)
    if options.source is not None and options.target is None or (
            options.target is not None and options.source is None and options.hypotheses is None):
        parser.error('--source and --target belong together')
    if options.test and (options.source or options.target):
        parser.error('--test and --source both name other text: give one of them')
    for name in ('format', 'columns'):
        if getattr(options, name) is not None and not options.test:
            parser.error('--%s belongs to --test FILE: give that too' % name)
    if options.plot and not options.by_length:
        parser.error('--plot draws the bands of --by-length N,N: give that too')
    if options.hypotheses:
        if options.html:
            parser.error('--html shows the attention of a run: omit --hypotheses')
        if options.alignments:
            parser.error('--alignments needs the attention of a run: omit --hypotheses')
        if options.by_length and options.target and not options.source:
            parser.error('--by-length needs the source: give --source too')
    return options


def resamplings(text):
    """The number of resamplings in the text of an option, for argparse."""
    if positive_int(text) > MAXIMUM_RESAMPLINGS:
        raise argparse.ArgumentTypeError('%r is more than %d' % (text, MAXIMUM_RESAMPLINGS))
    return int(text)


def length_bounds(text):
    """The upper bounds of the bands of source lengths in the text of an option, for argparse."""
    numbers = [int(part) if part.isdecimal() else 0 for part in text.split(',')]
    if sorted(set(numbers)) != numbers or numbers[0] < 1:
        raise argparse.ArgumentTypeError('%r: give increasing numbers from 1, such as 10,20' % text[:60])
    return numbers


def read_pairs(options, settings, text):
    """Reads source and target texts; the sources are empty for --hypotheses without --source.

    # Arguments
        text: the `ScoredText` of the run; `None` where the options name another text.
    """
    if options.source:
        return corpus.load([options.source, options.target])
    if options.target:
        return corpus.load([options.hypotheses, options.target])
    if options.test:
        require_regular_file(options.test)
        return corpus.load([options.test], options.format or settings.format, settings.on_bad_utf8,
                           settings.columns if options.columns is None else options.columns)
    return chosen(text, corpus.pairs_of_run(settings, text.paths))


def read_outputs(path, pairs):
    """The lines of a file of outputs, one for each pair."""
    require_regular_file(path)
    lines = list(read_lines(path))
    require(len(lines) == len(pairs), '%s: %d lines for %d pairs: give one output for each', path, len(lines),
            len(pairs))
    return lines


def read_gold(options, pairs, settings, tokenizers):
    """The `Gold` links of each pair.

    # Raises
        UserError: the file cannot be read, has another number of lines than there are pairs, or links of other tokens.
    """
    require_regular_file(options.alignments)
    gold = read_alignments(options.alignments)
    require(len(gold) == len(pairs), '%s: %d lines for %d pairs: give the links of these pairs only',
            options.alignments, len(gold), len(pairs))
    lengths = [tuple(len(tokenizer.tokenize(side)) for tokenizer, side in zip(tokenizers, pair)) for pair in pairs]
    links = [sure + possible for sure, possible in gold]
    check_range(settings, options.alignments, range(1, len(pairs) + 1), lengths, links)
    check_tokens(settings, options.alignments, lengths, links, pairs)
    return gold


def best_hypotheses(translator, pairs, options):
    """The best output for the source of each pair, as a `Hypothesis`."""
    search = search_options.merge(translator.settings, options)
    with Progress(len(pairs), 'lines decoded') as progress:
        hypotheses = translator.translate([source for source, _ in pairs], options.batch_size,
                                          progress=progress.advance, **search._asdict())
    return [best for best, in hypotheses]


def write_page(path, translator, pairs, hypotheses):
    """Writes the page of alignments with references."""
    from reports import output_formats
    attention = translator.settings.score != 'none'
    with output_formats.Page(path, translator.candidates) as page:
        for number, ((source, target), best) in enumerate(zip(pairs, hypotheses), 1):
            page.write(number, source, [best if attention else best._replace(alignment=None)], target)


def metric_names(options, settings, path):
    """Names of the metrics that suit the task of the run at `path`; all metrics without a run."""
    all_names = list(collections.OrderedDict.fromkeys(itertools.chain(*metrics.TASK_METRICS.values())))
    if path is None or options.all_metrics:
        return all_names
    task = 'answer' if settings.format in ('babi', 'qa') else settings.task
    return metrics.TASK_METRICS[task] + (('BLEU',) if options.by_length and task != 'translate' else ())


def show(place, rows, intervals, compare, options):
    """Prints the scores of the outputs of `place`, a run or a file."""
    if options.json:
        def finite(value):
            return value if math.isfinite(value) else None
        result = {row.name: finite(row.value) for row in rows}
        result['notes'] = {row.name: row.note for row in rows if row.note}
        if intervals:
            result['intervals'] = intervals
        if compare:
            result['compare'] = {name: {'score': score, 'p': p} for name, (score, p) in compare.items()}
        print(json.dumps(result))
        return
    print(place)
    for name, value, note in rows:
        middle = '  [%.4f, %.4f]' % tuple(intervals[name]) if name in intervals else ''
        value = value if isinstance(value, int) else shown(value, 4)
        print(('%-20s %10s%s  %s' % (name, value, middle, note)).rstrip())
    if compare:
        print('\n%s in comparison; p: probability of such a difference by chance (paired bootstrap)' % options.compare)
        for name, (score, p) in compare.items():
            print('%-20s %10.4f  p = %.4f' % (name, score, p))


def check_files(options, path, is_run, text):
    """Refuses outputs that would replace what is read."""
    check_outputs([('--plot', options.plot), ('--output', options.output), ('--html', options.html)],
                  [options.source, options.target, options.hypotheses, options.alignments, options.test,
                   None if is_run else options.compare, *(text.files if text else ())],
                  ([path] if path else []) + ([options.compare] if is_run else []))


def read_other(options, path, is_run, pairs):
    """The outputs of --compare, or `None` if a run has to decode them."""
    if not is_run:
        return read_outputs(options.compare, pairs) if options.compare else None
    RunDirectory.open(options.compare).read_config()
    require(path is not None or options.source, '%s: a run needs text to decode: give --source too', options.compare)
    return None


def decode(path, pairs, gold, options, settings, text):
    """Decodes the sources of `pairs`; returns the outputs, the rows of the model's scores and the likelihoods."""
    from translator import Translator
    translator = Translator.load(path, options.threads)
    started = time.time()
    hypotheses = best_hypotheses(translator, pairs, options)
    seconds = time.time() - started
    if options.html:
        write_page(options.html, translator, pairs, hypotheses)
    story_questions, form = None, options.format or settings.format
    if form == 'babi' and settings.score != 'none' and not options.source:
        story_questions = list(questions.read_questions([options.test] if options.test else text.paths, 'babi',
                                                        settings.on_bad_utf8))
        story_questions = chosen(text, story_questions) if text else story_questions
    rows, likelihoods = scores.model_rows(translator, pairs, gold, story_questions, options.batch_size)
    rows.append(scores.Row('decoding', len(pairs) / max(seconds, 1e-9),
                           'lines/s, batches of %d' % options.batch_size))
    return [best.text for best in hypotheses], rows, likelihoods


def main(argv):
    options = parse(argv)
    # Everything that can be wrong with the input is checked before TensorFlow loads.
    path = None if options.hypotheses and options.target else options.run or last_run()
    is_run = options.compare is not None and os.path.isdir(options.compare)
    settings = with_defaults(RunDirectory.open(path).read_config() if path else {})
    text = None if options.source or options.target or options.test else scored_text(
        settings, RunDirectory.open(path).manifest().get('data'), options.split, options.trust_run)
    check_files(options, path, is_run, text)
    pairs = read_pairs(options, settings, text)
    outputs = read_outputs(options.hypotheses, pairs) if options.hypotheses else None
    other = read_other(options, path, is_run, pairs)
    require(outputs is not None or any(source.strip() and target.strip() for source, target in pairs),
            '%s: no pair has text on both sides: nothing can be scored', options.source or path)
    tokenizers = read_tokenizers(RunDirectory.open(path), settings) if path else [make_tokenizer('word')]
    gold = read_gold(options, pairs, settings, tokenizers) if options.alignments else None

    model_scores, likelihoods = [], {}
    if outputs is None:
        outputs, model_scores, likelihoods = decode(path, pairs, gold, options, settings, text)
    if options.compare and other is None:
        from translator import Translator
        with Translator.load(options.compare, options.threads) as second:
            other = [best.text for best in best_hypotheses(second, pairs, options)]
    if options.output:
        write_output(options.output, ''.join(text + '\n' for text in outputs).encode('utf-8'))

    names = metric_names(options, settings, path)
    bleu_tokenize = options.bleu_tokenize or metrics.bleu_tokenizer(
        settings.target_tokenizer if path else None, [target for _, target in pairs])
    statistics = scores.text_metrics(outputs, pairs, names, bleu_tokenize)
    rows = [scores.Row('lines', len(pairs), text.note if text else '')] + [
        scores.Row(name, lines(), note) for name, (lines, note) in statistics.items()] + model_scores
    intervals = scores.confidence_intervals(statistics, options.bootstrap) if options.bootstrap else {}
    if options.by_length:
        lengths = [len(tokenizers[0].tokenize(source)) for source, _ in pairs]
        bands, drawn = scores.band_rows(lengths, options.by_length, statistics['BLEU'][0], likelihoods,
                                        options.bootstrap)
        rows += bands
        if options.plot:
            from reports import plots
            plots.plot_bands(options.plot, drawn, 'BLEU')
    comparison = None
    if options.compare:
        comparison = scores.compare_systems(statistics, scores.text_metrics(other, pairs, names, bleu_tokenize),
                                            options.bootstrap or 1000)
    show(options.hypotheses or path, rows, intervals, comparison, options)


if __name__ == '__main__':
    run_command(main, 'evaluate.py')
