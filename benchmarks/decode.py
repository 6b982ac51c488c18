"""Compares the time of decoding with other methods: ratios of medians, all measured in one run of this program.

    benchmarks/decode.py runs/multi30k test_2016_flickr.de

The methods take turns, so that other work of the machine affects all of them; it affects processor time, of all
threads together, less. They have the same layers, weights and number of threads; building the graphs is not counted.
The methods are:

- greedy and beam search as `Translator.translate` does it, from texts to texts and alignments: batches
  sorted by length, several at a time, each by one thread;
- the Keras idiom, from token ids to token ids: an encoder model, a decoder model, and a Python loop with one `predict`
  for each token. Without batches it is measured on some sentences, evenly spread, and scaled by their number. Batches
  are in the order of the text, as in most code, and also sorted by length;
- `tf.contrib.seq2seq.BeamSearchDecoder` over an `AttentionWrapper` with `LuongAttention` or `BahdanauAttention`, their
  memory tiled, as `tensorflow/nmt` does it, on batches sorted by length, from ids to ids without alignments.

Our methods and the others run in two processes, since TensorFlow creates its threads once for a process.

What greedy and beam search need at least is measured too: their matrix products alone, each shape on one thread, with
the lengths of the outputs that were found. A sentence counts until its best hypothesis ends, a batch pads its sources.

For runs whose decoder contrib can build: global attention with the score general or concat, no input feeding.
"""
import argparse
import collections
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import tf_session  # noqa: E402  first: it fixes the import order
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras.engine import Input, Layer, Model  # noqa: E402
from keras.layers import Activation, Concatenate  # noqa: E402
from tensorflow.contrib import seq2seq  # noqa: E402
from text.batches import pad  # noqa: E402
from text.text_files import read_lines  # noqa: E402
from text.vocabulary import END, PAD, START  # noqa: E402
import beam_search  # noqa: E402
from matrix_products import Alone, decoder_products, output_products, source_products  # noqa: E402
import settings  # noqa: E402
from storage.run_directory import RunDirectory  # noqa: E402
from command_line import UserError, non_negative_int, positive_int, run_command, tell  # noqa: E402
from translator import Translator  # noqa: E402


def parse(argv):
    parser = argparse.ArgumentParser(prog='decode.py', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('run', metavar='RUN', help='run directory')
    parser.add_argument('sentences', metavar='SENTENCES', help='source text, a sentence a line')
    parser.add_argument('--lines', type=positive_int, metavar='N', help='the first N sentences (default: all)')
    parser.add_argument('--one-by-one', type=positive_int, default=100, metavar='N',
                        help='sentences for the Keras idiom sentence by sentence (default: %(default)s)')
    parser.add_argument('--batch-size', type=positive_int, default=32, metavar='N', help='(default: %(default)s)')
    parser.add_argument('--beam-width', type=positive_int, default=5, metavar='N', help='(default: %(default)s)')
    parser.add_argument('--repeats', type=positive_int, default=3, metavar='N',
                        help='times that each way is measured (default: %(default)s)')
    parser.add_argument('--threads', type=non_negative_int, default=0, metavar='N', help="0: as in the run's settings")
    return parser.parse_args(argv)


def limits(rows):
    return beam_search.max_lengths([len(row) for row in rows], beam_search.Options())


# contrib's search

class KerasCell(tf.nn.rnn_cell.RNNCell):
    """A Keras cell with the interface of contrib."""

    def __init__(self, cell):
        super(KerasCell, self).__init__()
        self.cell = cell

    @property
    def state_size(self):
        sizes = self.cell.state_size
        return tuple(sizes) if isinstance(sizes, (list, tuple)) else (sizes,)

    @property
    def output_size(self):
        return self.cell.units

    def call(self, inputs, state):
        output, states = self.cell.call(inputs, list(state))
        return output, tuple(states)


class Wrapped(tf.layers.Layer):
    """Keras layers with the interface of a layer of contrib: a function of `(N, ...)` to `(N, size)`."""

    def __init__(self, function, size):
        super(Wrapped, self).__init__()
        self.function, self.size = function, size

    def call(self, inputs):
        return self.function(inputs)

    def compute_output_shape(self, input_shape):
        return tf.TensorShape(input_shape[:-1]).concatenate(self.size)


def contrib(model, width):
    """Function of a list of id rows to the output ids of each, by contrib's beam search over its attention."""
    units, longest, attention = model.settings.units, tf.placeholder(tf.int32, []), model.attention
    memory = seq2seq.tile_batch(model.memory.states, width)
    lengths = seq2seq.tile_batch(tf.count_nonzero(model.source, 1, dtype=tf.int32), width)
    if attention.score == 'general':
        mechanism, copied = seq2seq.LuongAttention, {'memory_layer/kernel': tf.transpose(attention.kernel)}
    else:
        mechanism, copied = seq2seq.BahdanauAttention, {'memory_layer/kernel': attention.memory_kernel,
                                                        'query_layer/kernel': attention.query_kernel,
                                                        'attention_v': attention.score_kernel[:, 0]}
    cells = [KerasCell(cell) for cell in model.cell.cells]
    first, states = [], list(model.initial_states)
    for cell in cells:
        first.append(tuple(seq2seq.tile_batch(state, width) for state in states[:len(cell.state_size)]))
        states = states[len(cell.state_size):]

    def attentional_state(joined):  # of [h; c], where ours is of [c; h]
        return model.cell.combine.call(tf.concat([joined[:, units:], joined[:, :units]], 1))

    def logits(x):
        for layer in model._output_layers:
            x = layer.call(x)
        return x

    def decoder_input(inputs, last):  # no input feeding
        return inputs

    with tf.variable_scope('contrib'):
        wrapper = seq2seq.AttentionWrapper(
            tf.nn.rnn_cell.MultiRNNCell(cells), mechanism(attention.units or units, memory, lengths),
            cell_input_fn=decoder_input, attention_layer=Wrapped(attentional_state, units))
        state = wrapper.zero_state(tf.shape(memory)[0], tf.float32).clone(cell_state=tuple(first))
        decoder = seq2seq.BeamSearchDecoder(
            wrapper, model.target_embedding.call, tf.fill([tf.shape(model.source)[0]], START), END, state,
            width, Wrapped(logits, model.target_size))
        outputs, _, _ = seq2seq.dynamic_decode(decoder, maximum_iterations=longest)
    for end, value in copied.items():
        variable, = [one for one in tf.global_variables('contrib/') if one.op.name.endswith(end)]
        variable.load(value.eval(), tf.get_default_session())

    def decode(rows):
        found = tf.get_default_session().run(outputs.predicted_ids, {model.source: pad(rows),
                                                                     longest: max(limits(rows))})
        return [upto_end(ids) for ids in found[:, :, 0].tolist()]
    return decode


def upto_end(ids):
    return ids[:ids.index(END) + 1] if END in ids else [i for i in ids if i > PAD]


# The Keras idiom

class WithMask(Layer):
    """Encoder states with a mask that is an input: masks do not pass from one Keras model to another."""

    def call(self, inputs):
        return tf.identity(inputs[0])

    def compute_mask(self, inputs, mask=None):
        return inputs[1] > 0.5

    def compute_output_shape(self, input_shape):
        return input_shape[0]


def decoder_model(model):
    """Keras model: token `(B, 1)`, encoder states, mask and decoder states to probabilities, states and weights."""
    token, mask = Input((1,), dtype='int32'), Input((None,))
    states = Input((None, model.encoder_model.output_shape[0][-1]))
    x, first, last, copies = model._embed_target(token), [], [], []
    for number in range(1, model.settings.decoder_layers + 1):
        layer = model.training_model.get_layer('decoder_%d' % number)
        copies.append((layer, layer.__class__.from_config(dict(layer.get_config(), return_state=True))))
        given = [Input((model.settings.units,)) for _ in range(len(model.initial_states)
                                                               // model.settings.decoder_layers)]
        x, *new = copies[-1][1](x, initial_state=given)
        first, last = first + given, last + new
    context, weights = model.attention([WithMask()([states, mask]), x])
    probabilities = Activation('softmax')(model._output(model.cell.combine(Concatenate()([context, x])))[1])
    made = Model([token, states, mask] + first, [probabilities] + last + [weights])
    for layer, copy in copies:
        copy.set_weights(layer.get_weights())
    return made


def keras_idiom(model):
    """Function of a list of id rows to the output ids of each, with one `predict` for each token."""
    decoder = decoder_model(model)

    def decode(rows):
        source = pad(rows)
        encoded, *states = model.encoder_model.predict(source, batch_size=len(rows))
        mask = (source != PAD).astype('f')
        tokens, found, ended = np.full((len(rows), 1), START), [[] for _ in rows], limits(rows)
        while any(len(ids) < longest for ids, longest in zip(found, ended)):
            probabilities, *states, weights = decoder.predict([tokens, encoded, mask] + states, batch_size=len(rows))
            tokens = np.argmax(probabilities[:, 0], axis=1)[:, None]
            for row, token in enumerate(tokens[:, 0].tolist()):
                if len(found[row]) < ended[row]:
                    found[row].append(token)
                    if token == END:
                        ended[row] = len(found[row])
        return found
    return decode


# The products alone

def products(config, words, lengths, steps, width):
    """The matrix products of the search for a batch.

    # Arguments
        config: settings of the run. words: size of the target vocabulary.
        lengths, steps: of each sentence the tokens of its source, and of its best hypothesis with `</s>`.
        width: hypotheses of a sentence.
    """
    length = max(lengths)
    found = source_products(config, len(lengths), length, searching=True)
    for sentences, count in collections.Counter(
            sum(step < one for one in steps) for step in range(max(steps))).items():
        found += decoder_products(config, length, count, sentences, width, searching=True)
        found += output_products(config, words, count, sentences * width)
    return found


def seconds_of_products(config, words, lengths, outputs, width, size):
    """Processor seconds of the products alone, in batches of `size` sentences sorted by the length of the source."""
    alone, order = Alone(), sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches = [order[start:start + size] for start in range(0, len(order), size)]
    return sum(alone.seconds_of(products(config, words, [lengths[i] for i in batch],
                                         [len(outputs[i]) + 1 for i in batch], width)) for batch in batches)


# Measuring

def in_batches(decode, rows, size):
    """Output ids of each row, in the order of the rows."""
    return [ids for start in range(0, len(rows), size) for ids in decode(rows[start:start + size])]


def by_length(decode, rows, size):
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found = dict(zip(order, in_batches(decode, [rows[i] for i in order], size)))
    return [found[i] for i in range(len(rows))]


def ours(translator, lines, options):
    """The methods of this project: name to a function that returns the target tokens of each line."""
    def way(width):
        return lambda: [best.tokens for best, in translator.translate(lines, options.batch_size, beam_width=width)]
    return {'greedy': way(1), 'beam': way(options.beam_width)}


def spread(lines, options):
    """Indices of the sentences that are decoded one by one."""
    return np.linspace(0, len(lines) - 1, min(options.one_by_one, len(lines))).astype(int).tolist()


def theirs(translator, lines, options):
    """The other methods, likewise."""
    model, size = translator.models[0], options.batch_size
    rows = [translator.source_vocabulary.encode(translator.encode(line)) for line in lines]
    by_keras, by_contrib = keras_idiom(model), contrib(model, options.beam_width)

    def way(function, *arguments):
        return lambda: [translator.target_vocabulary.decode([i for i in ids if i != END])
                        for ids in function(*arguments)]
    return {'one': way(in_batches, by_keras, [rows[i] for i in spread(lines, options)], 1),
            'batches': way(in_batches, by_keras, rows, size), 'sorted': way(by_length, by_keras, rows, size),
            'contrib': way(by_length, by_contrib, rows, size)}


def serve(make_ways, parallel_runs, lines, options, pipe):
    """A process that measures: for each name it receives, it answers seconds, processor seconds and the outputs.

    Its first message has its threads, the size of the target vocabulary, the tokens of each line, and the names that
    it knows.
    """
    # The usual configuration of a session; ours differs.
    make = tf_session.new_session
    tf_session.new_session = lambda threads, **_: make(threads, parallel_runs)
    translator = Translator.load(options.run, options.threads)
    with tf_session.opened(translator.session):
        ways = make_ways(translator, lines, options)
        pipe.send((translator.workers, len(translator.target_vocabulary),
                   [len(translator.encode(line)) for line in lines], list(ways)))
        for name in iter(pipe.recv, None):
            started, used = time.time(), time.process_time()
            outputs = ways[name]()
            pipe.send((time.time() - started, time.process_time() - used, outputs))


def first_translation(options):
    """Seconds from the start of predict.py to its first line."""
    started = time.time()
    command = [sys.executable, os.path.join(ROOT, 'predict.py'), '--run', options.run, '--input', options.sentences,
               '--batch-size', '1', '--threads', str(options.threads)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.readline()
    seconds = time.time() - started
    process.stdout.close()
    process.wait()
    return seconds


def check(options):
    """The settings of the run. Refuses a run whose decoder contrib cannot build."""
    config = settings.with_defaults(RunDirectory.open(options.run).read_config())
    if (config.attention != 'global' or config.score not in ('general', 'concat', 'additive') or config.input_feeding
            or config.attention_scale or config.attention_normalize or config.residual or config.copy
            or config.encoder == 'dmn'):
        raise UserError('%s: contrib cannot build its decoder: choose a run with --score general or concat, without '
                        'input feeding and similar extensions' % options.run)
    return config


def main(argv):
    options = parse(argv)
    config = check(options)
    lines = [line for line in read_lines(options.sentences) if line.strip()][:options.lines]
    if not lines:
        raise UserError('%s: has no text' % options.sentences)
    chosen, size = spread(lines, options), options.batch_size
    ways = [  # name, title, sentences, and which of ours it is compared with
        ('greedy', 'greedy, batches of %d' % size, len(lines), 'greedy'),
        ('one', 'Keras idiom, one by one, %d sentences' % len(chosen), len(chosen), 'greedy'),
        ('batches', 'Keras idiom, batches of %d' % size, len(lines), 'greedy'),
        ('sorted', 'Keras idiom, sorted by length', len(lines), 'greedy'),
        ('beam', 'beam %d, batches of %d' % (options.beam_width, size), len(lines), 'beam'),
        ('contrib', 'contrib beam %d, sorted by length' % options.beam_width, len(lines), 'beam')]
    context, pipes = multiprocessing.get_context('spawn'), {}
    for make_ways, parallel_runs in ((ours, True), (theirs, False)):
        pipe, end = context.Pipe()
        context.Process(target=serve, args=(make_ways, parallel_runs, lines, options, end), daemon=True).start()
        threads, words, lengths, names = pipe.recv()
        pipes.update((name, pipe) for name in names)

    def run(name):
        pipes[name].send(name)
        return pipes[name].recv()

    for name, *_ in ways:
        run(name)  # the first call is not counted
    seconds, processor, outputs, starts = {}, {}, {}, []
    for repeat in range(options.repeats):
        for name, _, count, _ in ways:
            wall, used, outputs[name] = run(name)
            seconds.setdefault(name, []).append(wall * 1000 / count)
            processor.setdefault(name, []).append(used * 1000 / count)
        starts.append(first_translation(options))
        tell('round %d of %d' % (repeat + 1, options.repeats))
    for pipe in set(pipes.values()):
        pipe.send(None)
    print('%s, %d sentences of %s, %d threads; medians of %d rounds, seconds for 1,000 sentences' % (
        options.run, len(lines), options.sentences, threads, options.repeats))
    print('%-40s %10s %7s %10s %7s  %s' % ('', 'wall', 'ratio', 'processor', 'ratio', 'same outputs'))
    for name, title, count, other in ways:
        compared = [outputs[other][i] for i in chosen] if name == 'one' else outputs[other]
        same = sum(one == two for one, two in zip(outputs[name], compared))
        times = [statistics.median(times[way]) for times in (seconds, processor) for way in (name, other)]
        print('%-40s %10.2f %7.1f %10.2f %7.1f  %d of %d' % (title, times[0], times[0] / times[1], times[2],
                                                             times[2] / times[3], same, count))
    for name, width in (('greedy', 1), ('beam', options.beam_width)):
        alone = seconds_of_products(config, words, lengths, outputs[name], width, size) * 1000 / len(lines)
        print('%-40s %18s %10.2f %7s  %.0f %% of its processor time; the idiom, one by one: %.1f times' % (
            'products of %s alone' % name, '', alone, '', 100 * alone / statistics.median(processor[name]),
            statistics.median(processor['one']) / alone))
    print('%-40s %10.2f' % ('process start to first translation', statistics.median(starts)))


if __name__ == '__main__':
    run_command(main, 'decode.py')
