"""Exports a trained run as a TensorFlow SavedModel, as ONNX or as a web page: text in; text and alignments out.

    export.py runs/translate served/translate/1
    export.py --beam-width 5 --n-best 5 runs/translate served/translate/2
    export.py --format onnx runs/translate folder
    export.py --format web runs/translate page

The graph of a SavedModel contains tokenisers, vocabularies, weights and the search, and has TensorFlow's core ops only:
TensorFlow Serving or any TensorFlow from 1.12 on runs it without this program. Its signature is `serving_default`.
Letters in shapes: B texts, N outputs for each (`--n-best`, best first), at most T output tokens and S source tokens.

    in   text               string (B,)
    out  text               string (B, N)
         scores             float (B, N)        log-probability in nats, `</s>` included
         rankings           float (B, N)        the score with its penalties, by which the outputs are sorted
         tokens             string (B, N, T)    '' after the last one
         log_probabilities  float (B, N, T + 1) of each token, and of `</s>` where the search chose it
         alignment          float (B, N, T, S)  attention weights, 0 after the last tokens
         source_tokens      string (B, S)       '' after the last one

With `--tokens`, and where a tokeniser of the run has no graph form, the input is `tokens`, string (B, S), with '' after
the last token of each text, and the outputs are all of the above but `text` and `source_tokens`. A text without tokens
gives an output without tokens. Where a search finds fewer than N outputs, the rest are empty, with rankings of -3.4e38.

With `--format onnx` the directory holds `encoder.onnx`, `step.onnx`, the vocabularies and tokenisers, and
`translate.py`, which needs onnxruntime and NumPy only. With `--format web` it is a page, and the browser computes all.
Every exported directory has a `manifest.json` with the SHA-256 of its files, which `translate.py` and the page check;
`python3 exporting/manifest.py DIR` checks any directory.
"""
import os

from command_line import CommandParser, UserError, run_command, tell
import search_options
from storage.ownership import check_parent
from storage.run_directory import RunDirectory
from settings import check, with_defaults


def parse(argv):
    parser = CommandParser(prog='export.py', doc=__doc__,
                           notes='The exported model has the options of the search as constants.')
    parser.add_argument('run', metavar='RUN', help='run directory')
    parser.add_argument('folder', metavar='DIR', help='new directory; for TensorFlow Serving its name must be a '
                        'number')
    parser.add_argument('--format', choices=('saved_model', 'onnx', 'web'), default='saved_model',
                        help='onnx: a directory for onnxruntime and NumPy; web: a page that translates in the browser, '
                        'for any web server; `make onnx` and `make web` install what they need (default: %(default)s)')
    parser.add_argument('--examples', metavar='FILE', help='with --format web: texts to try, one a line; they become '
                        'public with the page (default: for the samples, some of their test part)')
    search_options.add_options(parser, 'outputs returned for each text; needs --beam-width (default: 1)')
    parser.add_argument('--tokens', action='store_true', help='input and output are tokens, not text')
    options = parser.parse_args(argv)
    search_options.check_usage(options, parser.error)
    if options.format != 'saved_model' and options.tokens:
        parser.error('--tokens belongs to --format saved_model')
    if options.format != 'web' and options.examples:
        parser.error('--examples belongs to --format web')
    return options


def page_files(run, settings, search, options):
    """{name: bytes} of a directory that translates in a web page."""
    from exporting import onnx_folder, web_folder, web_runtime
    from reports.page_about import about_run, read_examples, sample_examples
    web_folder.check_run(settings, options.run)
    web_runtime.runtime_files()  # before the work of the export
    examples = read_examples(options.examples) if options.examples else sample_examples(run.manifest())
    name = os.path.basename(os.path.abspath(options.run))
    return web_folder.web_files(onnx_folder.onnx_files(run, settings, search), about_run(
        name, settings, onnx_folder.vocabularies_of(run), examples))


def main(argv):
    options = parse(argv)
    if os.path.lexists(options.folder):
        raise UserError('%s: exists already: name a new directory' % options.folder)
    check_parent(options.folder)
    run = RunDirectory.open(options.run)
    settings = with_defaults(run.read_config())
    check(settings)
    search = search_options.merge(settings, options)
    if settings.score == 'none' and search.coverage_penalty:
        raise UserError('%s: this run has no attention (--score none): omit --coverage-penalty' % options.run)
    if options.format != 'saved_model':
        from exporting import onnx_folder
        from exporting.folders import write_files
        files = page_files(run, settings, search, options) if options.format == 'web' else dict(
            onnx_folder.onnx_files(run, settings, search), **onnx_folder.program_files())
        write_files(options.folder, options.format, run, files)
        tell('%s: %s' % (options.folder, ' '.join(sorted(files))))
        return
    from exporting.saved_model import write_saved_model
    inputs, outputs = write_saved_model(options.folder, run, settings, search, options.tokens)
    tell('%s: %s in; %s out' % (options.folder, ', '.join(inputs), ', '.join(sorted(outputs))))


if __name__ == '__main__':
    run_command(main, 'export.py')
