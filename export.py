"""Writes a trained run as a TensorFlow SavedModel or as ONNX: text in; text, scores and alignments out.

    export.py runs/translate served/translate/1
    export.py --beam-width 5 --n-best 5 runs/translate served/translate/2
    export.py --format onnx runs/translate folder

Tokenising, vocabularies, weights and the search are all in the graph, made of TensorFlow's core ops alone, so that
TensorFlow Serving or any TensorFlow from 1.12 on runs it without this program. The signature is `serving_default`, for
B texts, N outputs of each (`--n-best`), best first, of at most T tokens, and S source tokens at most:

    in   text               string (B,)
    out  text               string (B, N)
         scores             float (B, N)        log-probability in nats, `</s>` included
         rankings           float (B, N)        what the outputs are ordered by: the score with its penalty
         tokens             string (B, N, T)    '' behind the last one
         log_probabilities  float (B, N, T + 1) of each token, and of `</s>` where the output came to its end
         alignment          float (B, N, T, S)  attention weights, 0 behind the last tokens
         source_tokens      string (B, S)       '' behind the last one

With `--tokens`, and where a tokeniser of the run has no graph form, `text` gives way to `tokens` on both sides: string
(B, S) in, '' behind the last one of each text, and all but `text` and `source_tokens` out. A text without tokens gives
an output without tokens. Where a search finds fewer than N outputs, the rest are empty, with rankings of -3.4e38.

With `--format onnx` the directory holds `encoder.onnx`, `step.onnx`, the vocabularies and tokenisers, and
`translate.py`, which needs onnxruntime and NumPy alone.
"""
import contextlib
import os
import shutil
import tempfile

from command_line import CommandParser, UserError, run_command, tell
import search_options
from storage.files import to_json, user_error
from storage.run_directory import RunDirectory
from settings import check, with_defaults


def parse(argv):
    parser = CommandParser(prog='export.py', description=__doc__.split('\n')[0],
                           epilog='The options of the search become constants of the exported model.')
    parser.add_argument('run', metavar='RUN', help='run directory')
    parser.add_argument('folder', metavar='DIR', help='new directory for the SavedModel; TensorFlow Serving wants its '
                        'name to be a number')
    parser.add_argument('--format', choices=('saved_model', 'onnx'), default='saved_model',
                        help='onnx: a folder for onnxruntime and NumPy; needs requirements-onnx.txt (default: '
                        '%(default)s)')
    search_options.add_options(parser, 'outputs returned for each text; needs --beam-width (default: 1)')
    parser.add_argument('--tokens', action='store_true', help='tokens in and out, in place of texts')
    options = parser.parse_args(argv)
    search_options.check_usage(options, parser.error)
    if options.format == 'onnx' and options.tokens:
        parser.error('--tokens is for --format saved_model')
    return options


def frozen_search(run, chosen, vocabularies, asked):
    """The graph of a run's search, by `search_options.Options`, with its weights as constants.

    # Returns
        `GraphDef`, the names of the tensors that it is fed with, source ids `(B, S)` and greatest lengths `(B,)`, and
        the names of the tensors of `beam_search.Result`.
    """
    import tf_session
    import tensorflow as tf
    import beam_search
    from translator import load_model_weights
    chosen = with_defaults(dict(vars(chosen), dropout=0., word_dropout=0.))  # no op of theirs in the graph
    with tf_session.opened(tf_session.new_session()) as opened:
        model = load_model_weights(run, chosen, *vocabularies, scope='')
        longest = tf.placeholder(tf.int32, [None], 'max_lengths')
        found = beam_search.search(model.step, model.start(), longest, asked, model.memory.mask)
        graph = tf.graph_util.convert_variables_to_constants(opened, opened.graph.as_graph_def(),
                                                             [tensor.op.name for tensor in found])
        opened.close()
        fed = [model.source.name, longest.name] + ([model.copied.name] if chosen.copy else [])
        return graph, fed, beam_search.Result(*[tensor.name for tensor in found])


def build(run, chosen, options):
    """Puts the whole model into the current graph. Returns its inputs and its outputs by name."""
    import tensorflow as tf
    from text.vocabulary import END, PAD, Vocabulary
    from text import graph_text
    import beam_search
    from text.tokenizers import read_tokenizers
    from translator import with_vocabularies
    asked = search_options.merge(chosen, options)
    (source_tokenizer, source_vocabulary), (target_tokenizer, target_vocabulary) = with_vocabularies(
        read_tokenizers(run, chosen), lambda name: Vocabulary.from_bytes(run.read_file(name), run.file(name)))
    frozen, fed, names = frozen_search(run, chosen, (source_vocabulary, target_vocabulary), asked)
    formless = [one.name for one in (source_tokenizer, target_tokenizer) if not graph_text.has_form(one)]
    if chosen.copy and target_tokenizer.name != 'space':
        formless.append(target_tokenizer.name + ' of a run with --copy')  # its rules are tables of the vocabulary
    whole = not options.tokens and not formless
    if formless:
        tell('the tokeniser %s has no graph form: the model takes and gives tokens, not text' % formless[0])
    if whole:
        text = tf.placeholder(tf.string, [None], 'text')
        inputs, tokens = {'text': text}, graph_text.tokenize(source_tokenizer, text)
    else:
        tokens = tf.placeholder(tf.string, [None, None], 'tokens')
        inputs = {'tokens': tokens}
    # At least one row and one column, of padding: TensorFlow 1.12 ends the process where it reverses or concatenates a
    # batch without rows, and the encoder needs a step. The outputs are cut to the rows given.
    rows_given, columns_given = tf.shape(tokens)[0], tf.shape(tokens)[1]
    tokens = tf.pad(tokens, [[0, tf.maximum(1 - rows_given, 0)], [0, tf.maximum(1 - columns_given, 0)]])
    source = graph_text.encode(source_vocabulary, tokens)                                               # (B, S)
    source_lengths = tf.reduce_sum(tf.to_int32(tf.not_equal(source, PAD)), axis=1)                 # (B,)
    longest = beam_search.max_lengths(source_lengths, asked, tf)
    copied = graph_text.encode_copies(target_vocabulary, tokens)
    found = beam_search.Result(*tf.import_graph_def(
        frozen, dict(zip(fed, (source, longest, copied))), list(names), name='model'))

    # The search's result for a text without tokens is thrown away.
    shape = tf.shape(found.ids)
    nothing = tf.fill(shape[:2], False) | tf.equal(source_lengths, 0)[:, None]                          # (B, N)
    ended = tf.reduce_any(tf.equal(found.ids, END), axis=2)
    lengths = tf.where(nothing, tf.zeros_like(found.lengths), found.lengths - tf.to_int32(ended))
    steps = tf.range(shape[2])
    counted = (steps < tf.where(nothing, lengths, found.lengths)[:, :, None])                           # (B, N, T + 1)
    log_probabilities = tf.where(counted, found.log_probabilities, tf.zeros_like(found.log_probabilities))
    within = tf.to_float(steps < lengths[:, :, None])
    width = tf.reduce_max(lengths)
    rankings = tf.maximum(found.rankings, found.rankings.dtype.min)
    rows = [tf.reshape(found.ids, [-1, shape[2]]), tf.reshape(lengths, [-1])]
    # The source tokens of each hypothesis: an id from V on is a copy of one of them.
    sources = tf.gather(tokens, tf.range(shape[0] * shape[1]) // shape[1])
    words = graph_text.decode(target_vocabulary, *rows, sources=sources)
    outputs = {
        'scores': tf.reduce_sum(log_probabilities, axis=2),
        'rankings': tf.where(nothing, tf.where(tf.range(shape[1]) > tf.zeros_like(lengths),
                                               tf.fill(shape[:2], rankings.dtype.min), tf.zeros_like(rankings)),
                             rankings),
        'tokens': tf.reshape(words, shape)[:, :, :width],
        'log_probabilities': log_probabilities[:, :, :width + 1],
        'alignment': (found.weights * within[:, :, :, None])[:, :, :width]}
    for name, tensor in outputs.items():
        outputs[name] = tensor = tensor[:rows_given]
        tensor.set_shape([None, asked.n_best] + [None] * {'scores': 0, 'rankings': 0, 'alignment': 2}.get(name, 1))
    if whole:
        if chosen.copy:
            texts = graph_text.join_with_spaces(words, rows[1])
        else:
            texts = graph_text.detokenize(target_tokenizer, target_vocabulary, *rows)
        outputs['text'] = tf.reshape(texts, shape[:2])[:rows_given]
        outputs['source_tokens'] = tokens[:rows_given]
    return inputs, outputs


@contextlib.contextmanager
def new_folder(path):
    """A hidden folder beside `path`, renamed to it at the end, so that what is at `path` is complete."""
    parent = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(parent, exist_ok=True)
        hidden = tempfile.mkdtemp(prefix='.export.', dir=parent)
    except OSError as error:
        raise user_error(path, 'cannot be created', error)
    try:
        inside = os.path.join(hidden, 'model')
        yield inside
        os.rename(inside, path)
    except OSError as error:
        raise user_error(path, 'cannot be written', error)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def write(run, chosen, options):
    """Writes the SavedModel."""
    import tensorflow as tf
    with new_folder(options.folder) as hidden, tf.Graph().as_default(), tf.Session() as session:
        inputs, outputs = build(run, chosen, options)
        builder = tf.saved_model.builder.SavedModelBuilder(hidden)
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.tag_constants.SERVING], clear_devices=True,
            signature_def_map={'serving_default': tf.saved_model.predict_signature_def(inputs, outputs)},
            main_op=tf.tables_initializer())
        builder.save()
    return inputs, outputs


# What an ONNX folder holds besides the graphs: files of the run, and of this checkout under their new names.
RUN_FILES = ('vocab.source.txt', 'vocab.target.txt', 'tokenizer.source.model', 'tokenizer.target.model')
PROGRAM_FILES = (('adapters/onnx_translate.py', 'translate.py'), ('command_line.py', 'command_line.py')) + tuple(
    ('text/' + name, 'text/' + name) for name in ('__init__.py', 'tokenizers.py', 'spacing_marks.py', 'subwords.py',
                                                  'vocabulary.py'))


def onnx_files(run, chosen, options):
    """{name: bytes} of a folder that translates with onnxruntime and NumPy alone."""
    try:
        import onnx_graph
    except ImportError:
        raise UserError('--format onnx needs the package onnx: .venv/bin/python -m pip install --require-hashes '
                        '-r requirements-onnx.txt')
    import tf_session
    from reference.numpy_model import neutral
    from keras import backend as K
    from text.vocabulary import Vocabulary
    from translator import load_model_weights
    asked = search_options.merge(chosen, options)
    vocabularies = [Vocabulary.from_bytes(run.read_file(name), run.file(name)) for name in RUN_FILES[:2]]
    with tf_session.opened(tf_session.new_session()) as session:
        weights = load_model_weights(run, chosen, *vocabularies, scope='').training_model.weights
        arrays = {neutral(weight.name): value for weight, value in zip(weights, K.batch_get_value(weights))}
        session.close()
    kept = vars(chosen)
    files = {'encoder.onnx': onnx_graph.encoder(kept, arrays).SerializeToString(),
             'step.onnx': onnx_graph.step(kept, arrays).SerializeToString(),
             'config.json': to_json({'settings': kept, 'search': asked._asdict()})}
    files.update((name, run.read_file(name)) for name in RUN_FILES if os.path.exists(run.file(name)))
    here = os.path.dirname(os.path.abspath(__file__))
    for source, name in PROGRAM_FILES:
        with open(os.path.join(here, source), 'rb') as stream:
            files[name] = stream.read()
    return files


def write_onnx(run, chosen, options):
    """Writes the folder beside its place first, then renames it. Returns the names of its files."""
    files = onnx_files(run, chosen, options)
    with new_folder(options.folder) as hidden:
        for name, data in files.items():
            os.makedirs(os.path.dirname(os.path.join(hidden, name)), exist_ok=True)
            with open(os.path.join(hidden, name), 'wb') as stream:
                stream.write(data)
    return sorted(files)


def main(argv):
    options = parse(argv)
    if os.path.lexists(options.folder):
        raise UserError('%s: is there already: name a new directory' % options.folder)
    run = RunDirectory.open(options.run)
    chosen = with_defaults(run.read_config())
    check(chosen)
    if chosen.score == 'none' and search_options.merge(chosen, options).coverage_penalty:
        raise UserError('%s: this run has no attention (--score none): leave --coverage-penalty out' % options.run)
    if options.format == 'onnx':
        if chosen.encoder != 'recurrent' or chosen.hops > 1:
            raise UserError('%s: was trained with --encoder %s --hops %d, which have no ONNX form here: use --format '
                            'saved_model or predict.py' % (options.run, chosen.encoder, chosen.hops))
        tell('%s: %s' % (options.folder, ' '.join(write_onnx(run, chosen, options))))
        return
    inputs, outputs = write(run, chosen, options)
    tell('%s: %s in; %s out' % (options.folder, ', '.join(inputs), ', '.join(sorted(outputs))))


if __name__ == '__main__':
    run_command(main, 'export.py')
