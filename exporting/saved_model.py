"""The SavedModel of a run: tokenisers, vocabularies, weights and search in one graph of TensorFlow's core ops.

`export.py` describes its inputs and outputs. Letters as there: B texts, N outputs for each, T and S tokens.
"""
import tf_session  # first: it fixes the import order
import tensorflow as tf

import beam_search
from command_line import tell
from decoding.loading import load_model_weights, read_vocabularies
from exporting.folders import new_folder
from reports.progress import Progress
from settings import with_defaults
from text import graph_text
from text.vocabulary import END, PAD


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
    settings = with_defaults(dict(vars(settings), dropout=0., word_dropout=0.))  # no dropout in the graph
    with tf_session.temporary() as session:
        model = load_model_weights(run, settings, *vocabularies, scope='')
        max_lengths = tf.placeholder(tf.int32, [None], 'max_lengths')
        result = beam_search.search(model.step, model.start(), max_lengths, options, model.memory.mask)
        graph = tf.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(),
                                                             [tensor.op.name for tensor in result])
        inputs = [model.source.name, max_lengths.name] + ([model.copied.name] if settings.copy else [])
        return graph, inputs, beam_search.Result(*[tensor.name for tensor in result])


def build(run, settings, search, tokens_only):
    """Builds the whole model in the current graph.

    # Arguments
        run: `RunDirectory`.
        settings: its settings.
        search: `search_options.Options`.
        tokens_only: Boolean, input and output are tokens even where the tokenisers have a graph form.

    # Returns
        Inputs and outputs of the signature, {name: tensor} each.
    """
    (source_tokenizer, source_vocabulary), (target_tokenizer, target_vocabulary) = read_vocabularies(
        run, settings)
    frozen, fed, names = frozen_search(run, settings, (source_vocabulary, target_vocabulary), search)
    without_form = [tokenizer.name for tokenizer in (source_tokenizer, target_tokenizer)
                    if not graph_text.has_graph_form(tokenizer)]
    if settings.copy and target_tokenizer.name != 'space':
        # The other graph forms read tables of the vocabulary, which does not have the words that are copied.
        without_form.append(target_tokenizer.name + ' of a run with --copy')
    takes_text = not tokens_only and not without_form
    if without_form:
        tell('the tokeniser %s has no graph form: the exported model reads and writes tokens, not text'
             % without_form[0])
    if takes_text:
        text = tf.placeholder(tf.string, [None], 'text')
        inputs, tokens = {'text': text}, graph_text.tokenize(source_tokenizer, text)
    else:
        tokens = tf.placeholder(tf.string, [None, None], 'tokens')
        inputs = {'tokens': tokens}
    if settings.long_sources == 'truncate':
        tokens = tokens[:, :settings.max_source_length]
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


def write_saved_model(folder, run, settings, search, tokens_only):
    """Writes the SavedModel. Returns its inputs and outputs, see `build`."""
    with new_folder(folder, 'saved_model', run) as hidden, tf.Graph().as_default(), \
            tf.Session() as session, Progress(3, 'steps: graph, weights, files') as progress:
        inputs, outputs = build(run, settings, search, tokens_only)
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
