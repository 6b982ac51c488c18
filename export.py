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
import contextlib
import os
import shutil
import tempfile

from command_line import VERSION, CommandParser, UserError, require, run_command, tell
from exporting.manifest import write_manifest
import search_options
from reports.progress import Progress
from storage.files import to_json, user_error
from storage.ownership import check_parent
from storage.run_directory import RunDirectory
from settings import check, with_defaults


def parse(argv):
    parser = CommandParser(prog='export.py', doc=__doc__,
                           notes='The exported model has the options of the search as constants.')
    parser.add_argument('run', metavar='RUN', help='run directory')
    parser.add_argument('folder', metavar='DIR', help='new directory for the SavedModel; TensorFlow Serving needs '
                        'a number as its name')
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


def frozen_search(run, settings, vocabularies, options):
    """The graph of a run's search with its weights as constants.

    # Arguments
        run: `RunDirectory`.
        settings: its settings.
        vocabularies: `Vocabulary` of source and target.
        options: `search_options.Options`.

    # Returns
        `GraphDef`, the names of its input tensors: source ids `(B, S)`, maximum lengths `(B,)` and for a copying run
        the ids that copying writes `(B, S)`, and the names of the tensors of `beam_search.Result`.
    """
    import tf_session
    import tensorflow as tf
    import beam_search
    from decoding.loading import load_model_weights
    settings = with_defaults(dict(vars(settings), dropout=0., word_dropout=0.))  # no dropout in the graph
    with tf_session.temporary() as session:
        model = load_model_weights(run, settings, *vocabularies, scope='')
        max_lengths = tf.placeholder(tf.int32, [None], 'max_lengths')
        result = beam_search.search(model.step, model.start(), max_lengths, options, model.memory.mask)
        graph = tf.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(),
                                                             [tensor.op.name for tensor in result])
        inputs = [model.source.name, max_lengths.name] + ([model.copied.name] if settings.copy else [])
        return graph, inputs, beam_search.Result(*[tensor.name for tensor in result])


def build(run, settings, options):
    """Builds the whole model in the current graph.

    # Arguments
        run: `RunDirectory`.
        settings: its settings.
        options: those of the command line.

    # Returns
        Inputs and outputs of the signature, {name: tensor} each.
    """
    import tensorflow as tf
    from text.vocabulary import END, PAD, Vocabulary
    from text import graph_text
    import beam_search
    from text.tokenizers import read_tokenizers
    from decoding.loading import with_vocabularies
    search = search_options.merge(settings, options)
    (source_tokenizer, source_vocabulary), (target_tokenizer, target_vocabulary) = with_vocabularies(
        read_tokenizers(run, settings), lambda name: Vocabulary.from_bytes(run.read_file(name), run.file(name)))
    frozen, fed, names = frozen_search(run, settings, (source_vocabulary, target_vocabulary), search)
    without_form = [tokenizer.name for tokenizer in (source_tokenizer, target_tokenizer)
                    if not graph_text.has_graph_form(tokenizer)]
    if settings.copy and target_tokenizer.name != 'space':
        # The other graph forms read tables of the vocabulary, which does not have the words that are copied.
        without_form.append(target_tokenizer.name + ' of a run with --copy')
    takes_text = not options.tokens and not without_form
    if without_form:
        tell('the tokeniser %s has no graph form: the exported model reads and writes tokens, not text'
             % without_form[0])
    if takes_text:
        text = tf.placeholder(tf.string, [None], 'text')
        inputs, tokens = {'text': text}, graph_text.tokenize(source_tokenizer, text)
    else:
        tokens = tf.placeholder(tf.string, [None, None], 'tokens')
        inputs = {'tokens': tokens}
    # Pad to at least one row and one column: TensorFlow 1.12 crashes where it reverses or concatenates a batch without
    # rows, and the encoder needs one step. The outputs are cut to the rows of the input.
    input_rows, input_columns = tf.shape(tokens)[0], tf.shape(tokens)[1]
    tokens = tf.pad(tokens, [[0, tf.maximum(1 - input_rows, 0)], [0, tf.maximum(1 - input_columns, 0)]])
    source = graph_text.encode(source_vocabulary, tokens)                                               # (B, S)
    source_lengths = tf.reduce_sum(tf.to_int32(tf.not_equal(source, PAD)), axis=1)                 # (B,)
    max_lengths = beam_search.max_lengths(source_lengths, search, tf)
    copied = graph_text.encode_copies(target_vocabulary, tokens)
    result = beam_search.Result(*tf.import_graph_def(
        frozen, dict(zip(fed, (source, max_lengths, copied))), list(names), name='model'))

    # The result of the search for a text without tokens is replaced by an empty output.
    shape = tf.shape(result.ids)
    no_tokens = tf.fill(shape[:2], False) | tf.equal(source_lengths, 0)[:, None]                          # (B, N)
    ended = tf.reduce_any(tf.equal(result.ids, END), axis=2)
    lengths = tf.where(no_tokens, tf.zeros_like(result.lengths), result.lengths - tf.to_int32(ended))
    steps = tf.range(shape[2])
    counted = (steps < tf.where(no_tokens, lengths, result.lengths)[:, :, None])                    # (B, N, T + 1)
    log_probabilities = tf.where(counted, result.log_probabilities, tf.zeros_like(result.log_probabilities))
    within = tf.to_float(steps < lengths[:, :, None])
    width = tf.reduce_max(lengths)
    rankings = tf.maximum(result.rankings, result.rankings.dtype.min)
    rows = [tf.reshape(result.ids, [-1, shape[2]]), tf.reshape(lengths, [-1])]
    # The source tokens of each hypothesis: an id from V on is a copy of one of them.
    sources = tf.gather(tokens, tf.range(shape[0] * shape[1]) // shape[1])
    words = graph_text.decode(target_vocabulary, *rows, sources=sources)
    outputs = {
        'scores': tf.reduce_sum(log_probabilities, axis=2),
        'rankings': tf.where(no_tokens, tf.where(tf.range(shape[1]) > tf.zeros_like(lengths),
                                                 tf.fill(shape[:2], rankings.dtype.min), tf.zeros_like(rankings)),
                             rankings),
        'tokens': tf.reshape(words, shape)[:, :, :width],
        'log_probabilities': log_probabilities[:, :, :width + 1],
        'alignment': (result.weights * within[:, :, :, None])[:, :, :width]}
    for name, tensor in outputs.items():
        outputs[name] = tensor = tensor[:input_rows]
        tensor.set_shape([None, search.n_best] + [None] * {'scores': 0, 'rankings': 0, 'alignment': 2}.get(name, 1))
    if takes_text:
        if settings.copy:
            texts = graph_text.join_with_spaces(words, rows[1])
        else:
            texts = graph_text.detokenize(target_tokenizer, target_vocabulary, *rows)
        outputs['text'] = tf.reshape(texts, shape[:2])[:input_rows]
        outputs['source_tokens'] = tokens[:input_rows]
    return inputs, outputs


@contextlib.contextmanager
def new_folder(path, kind, run):
    """A hidden directory beside `path`; at the end it gets its manifest and this name: what is at `path` is complete.

    # Arguments
        path: a new directory.
        kind: value of `--format`.
        run: `RunDirectory` that is exported.
    """
    parent = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(parent, exist_ok=True)
        hidden = tempfile.mkdtemp(prefix='.export.', dir=parent)
    except OSError as error:
        raise user_error(path, 'cannot be created', error)
    try:
        model = os.path.join(hidden, 'model')
        yield model
        write_manifest(model, kind, version=VERSION, weights=run.manifest()['files']['weights.h5'])
        try:
            os.rename(model, path)
        except OSError:
            require(not os.path.lexists(path), '%s: another process has made it: name another directory', path)
            raise
    except OSError as error:
        raise user_error(path, 'cannot be written', error)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def write_saved_model(run, settings, options):
    """Writes the SavedModel. Returns its inputs and outputs, see `build`."""
    import tensorflow as tf
    with new_folder(options.folder, options.format, run) as hidden, tf.Graph().as_default(), \
            tf.Session() as session, Progress(3, 'steps: graph, weights, files') as progress:
        inputs, outputs = build(run, settings, options)
        progress.advance()
        builder = tf.saved_model.builder.SavedModelBuilder(hidden)
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.tag_constants.SERVING], clear_devices=True,
            signature_def_map={'serving_default': tf.saved_model.predict_signature_def(inputs, outputs)},
            main_op=tf.tables_initializer())
        progress.advance()
        builder.save()
        progress.advance()
    return inputs, outputs


# Files of an ONNX directory besides the graphs: those of the run, and those of this checkout with their new names.
RUN_FILES = ('vocab.source.txt', 'vocab.target.txt', 'tokenizer.source.model', 'tokenizer.target.model')
PROGRAM_FILES = (('adapters/onnx_translate.py', 'translate.py'),) + tuple(
    (name, name) for name in ('command_line.py', 'search_options.py', 'settings.py', 'exporting/__init__.py',
                              'exporting/manifest.py', 'text/__init__.py', 'text/tokenizers.py',
                              'text/spacing_marks.py', 'text/subwords.py', 'text/vocabulary.py'))


def onnx_files(run, settings, options):
    """{name: bytes} of the graphs, and of the files of the run that whoever runs them reads."""
    try:
        from exporting import onnx_graph
    except ImportError:
        raise UserError('--format %s needs the package onnx: make onnx installs it' % options.format)
    import tf_session
    from reference.numpy_model import neutral
    from keras import backend as K
    from text.questions import separators
    from text.vocabulary import Vocabulary
    from decoding.loading import load_model_weights
    search = search_options.merge(settings, options)
    vocabularies = [Vocabulary.from_bytes(run.read_file(name), run.file(name)) for name in RUN_FILES[:2]]
    progress = Progress(3, 'steps: weights, encoder, decoder')
    with tf_session.temporary():
        weights = load_model_weights(run, settings, *vocabularies, scope='').training_model.weights
        arrays = {neutral(weight.name): value for weight, value in zip(weights, K.batch_get_value(weights))}
    values = vars(settings)
    separated = separators(settings, vocabularies[0])
    with progress:
        progress.advance()
        files = {'encoder.onnx': onnx_graph.encoder(values, arrays, separated).SerializeToString()}
        progress.advance()
        files['step.onnx'] = onnx_graph.step(values, arrays).SerializeToString()
        progress.advance()
    files['config.json'] = to_json({'settings': values, 'search': search._asdict()})
    files.update((name, run.read_file(name)) for name in RUN_FILES if os.path.exists(run.file(name)))
    return files


def program_files():
    """{name: bytes} of the programs in an ONNX directory."""
    files, here = {}, os.path.dirname(os.path.abspath(__file__))
    for source, name in PROGRAM_FILES:
        with open(os.path.join(here, source), 'rb') as stream:
            files[name] = stream.read()
    return files


def page_files(run, settings, options):
    """{name: bytes} of a directory that translates in a web page."""
    from exporting import web_folder, web_runtime
    from reports.page_about import about_run, read_examples, sample_examples
    from text.vocabulary import Vocabulary
    web_folder.check_run(settings, options.run)
    web_runtime.runtime_files()  # before the work of the export
    examples = read_examples(options.examples) if options.examples else sample_examples(run.manifest())
    vocabularies = [Vocabulary.from_bytes(run.read_file(name), run.file(name)) for name in RUN_FILES[:2]]
    name = os.path.basename(os.path.abspath(options.run))
    return web_folder.web_files(onnx_files(run, settings, options), about_run(name, settings, vocabularies, examples))


def write_files(run, settings, options):
    """Writes the directory of `--format onnx` or `web`. Returns the names of its files."""
    files = page_files(run, settings, options) if options.format == 'web' else dict(
        onnx_files(run, settings, options), **program_files())
    with new_folder(options.folder, options.format, run) as hidden:
        for name, data in files.items():
            os.makedirs(os.path.dirname(os.path.join(hidden, name)), exist_ok=True)
            with open(os.path.join(hidden, name), 'wb') as stream:
                stream.write(data)
    return sorted(files)


def main(argv):
    options = parse(argv)
    if os.path.lexists(options.folder):
        raise UserError('%s: exists already: name a new directory' % options.folder)
    check_parent(options.folder)
    run = RunDirectory.open(options.run)
    settings = with_defaults(run.read_config())
    check(settings)
    if settings.score == 'none' and search_options.merge(settings, options).coverage_penalty:
        raise UserError('%s: this run has no attention (--score none): omit --coverage-penalty' % options.run)
    if options.format != 'saved_model':
        tell('%s: %s' % (options.folder, ' '.join(write_files(run, settings, options))))
        return
    inputs, outputs = write_saved_model(run, settings, options)
    tell('%s: %s in; %s out' % (options.folder, ', '.join(inputs), ', '.join(sorted(outputs))))


if __name__ == '__main__':
    run_command(main, 'export.py')
