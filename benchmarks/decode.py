"""How long decoding takes, beside the ways that others go: ratios of medians, all measured in one run of this program.

    benchmarks/decode.py runs/multi30k test_2016_flickr.de

The ways take turns, so that what else the machine does falls on all of them; processor time, of all threads together,
suffers less from it. All start from token ids and end with token ids, on the same layers and weights, batches sorted by
length; making the graphs is not counted. The ways are:

- greedy and beam search of `search.py`, one call of `session.run` for each batch;
- the Keras idiom: an encoder model, a decoder model, and a Python loop with one `predict` for each token. Sentence by
  sentence it is measured on the first few sentences and scaled by their number;
- `tf.contrib.seq2seq.BeamSearchDecoder` over an `AttentionWrapper` with `LuongAttention` or `BahdanauAttention`, their
  memory tiled, as `tensorflow/nmt` does it. It brings no alignments, ours does.

For runs whose decoder contrib can build: global attention with the score general or concat, no input feeding.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import session  # noqa: E402  first: it fixes the import order
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras.engine import Input, Layer, Model  # noqa: E402
from keras.layers import Activation, Concatenate  # noqa: E402
from tensorflow.contrib import seq2seq  # noqa: E402

import data  # noqa: E402
import search  # noqa: E402
import settings  # noqa: E402
from settings import UserError, positive, tell, thread_count  # noqa: E402
from translator import Translator  # noqa: E402


def parse(argv):
    parser = argparse.ArgumentParser(prog='decode.py', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('run', metavar='RUN', help='run directory')
    parser.add_argument('sentences', metavar='SENTENCES', help='source text, a sentence a line')
    parser.add_argument('--lines', type=positive, metavar='N', help='the first N sentences (default: all)')
    parser.add_argument('--one-by-one', type=positive, default=50, metavar='N',
                        help='sentences for the Keras idiom sentence by sentence (default: %(default)s)')
    parser.add_argument('--batch-size', type=positive, default=32, metavar='N', help='(default: %(default)s)')
    parser.add_argument('--beam-width', type=positive, default=5, metavar='N', help='(default: %(default)s)')
    parser.add_argument('--repeats', type=positive, default=3, metavar='N',
                        help='times that each way is measured (default: %(default)s)')
    parser.add_argument('--threads', type=thread_count, default=0, metavar='N', help="0: as in the run's settings")
    return parser.parse_args(argv)


def limits(rows):
    return search.max_lengths([len(row) for row in rows], search.Options())


# Our search, and contrib's

def ours(model, options):
    """Function of a list of id rows to the ids found for each, by `search.search`."""
    longest = tf.placeholder(tf.int32, [None])
    found = search.search(model.step, model.start(), longest, options, model.memory.mask)

    def decode(rows):
        values = tf.get_default_session().run(found, {model.source: data.pad(rows), longest: limits(rows)})
        return [ids[0][ids[0] != data.PAD].tolist() for ids in values.ids]
    return decode


class KerasCell(tf.nn.rnn_cell.RNNCell):
    """A Keras cell as contrib takes one."""

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
    """Layers of Keras as contrib takes one: a function of `(N, ...)` to `(N, size)`."""

    def __init__(self, function, size):
        super(Wrapped, self).__init__()
        self.function, self.size = function, size

    def call(self, inputs):
        return self.function(inputs)

    def compute_output_shape(self, input_shape):
        return tf.TensorShape(input_shape[:-1]).concatenate(self.size)


def contrib(model, width):
    """Function of a list of id rows to the ids found for each, by contrib's beam search over its attention."""
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
            wrapper, model.target_embedding.call, tf.fill([tf.shape(model.source)[0]], data.START), data.END, state,
            width, Wrapped(logits, model.target_size))
        outputs, _, _ = seq2seq.dynamic_decode(decoder, maximum_iterations=longest)
    for end, value in copied.items():
        variable, = [one for one in tf.global_variables('contrib/') if one.op.name.endswith(end)]
        variable.load(value.eval(), tf.get_default_session())

    def decode(rows):
        found = tf.get_default_session().run(outputs.predicted_ids, {model.source: data.pad(rows),
                                                                     longest: max(limits(rows))})
        return [upto_end(ids) for ids in found[:, :, 0].tolist()]
    return decode


def upto_end(ids):
    return ids[:ids.index(data.END) + 1] if data.END in ids else [i for i in ids if i > data.PAD]


# The Keras idiom

class WithMask(Layer):
    """Encoder states with a mask that comes as an input: masks do not pass from one Keras model to another."""

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
    probabilities = Activation('softmax')(model._logits(model.cell.combine(Concatenate()([context, x]))))
    made = Model([token, states, mask] + first, [probabilities] + last + [weights])
    for layer, copy in copies:
        copy.set_weights(layer.get_weights())
    return made


def keras_idiom(model):
    """Function of a list of id rows to the ids found for each, with one `predict` for each token."""
    decoder = decoder_model(model)

    def decode(rows):
        source = data.pad(rows)
        encoded, *states = model.encoder_model.predict(source, batch_size=len(rows))
        mask = (source != data.PAD).astype('f')
        tokens, found, ended = np.full((len(rows), 1), data.START), [[] for _ in rows], limits(rows)
        while any(len(ids) < longest for ids, longest in zip(found, ended)):
            probabilities, *states, weights = decoder.predict([tokens, encoded, mask] + states, batch_size=len(rows))
            tokens = np.argmax(probabilities[:, 0], axis=1)[:, None]
            for row, token in enumerate(tokens[:, 0].tolist()):
                if len(found[row]) < ended[row]:
                    found[row].append(token)
                    if token == data.END:
                        ended[row] = len(found[row])
        return found
    return decode


# Measuring

def in_batches(decode, rows, size):
    found = [decode(rows[start:start + size]) for start in range(0, len(rows), size)]
    return [ids for batch in found for ids in batch]


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


def main(argv):
    options = parse(argv)
    translator = Translator.load(options.run, options.threads)
    lines = [line for line in data.read_lines(options.sentences) if line.strip()][:options.lines]
    if not lines:
        raise UserError('%s: has no text' % options.sentences)
    chosen = translator.settings
    if (chosen.attention != 'global' or chosen.score not in ('general', 'concat', 'additive') or chosen.input_feeding
            or chosen.attention_scale or chosen.attention_normalize or chosen.residual):
        raise UserError('%s: is of a kind that cannot be built otherwise: choose a run with --score general or concat, '
                        'without input feeding and the like' % options.run)
    every = [translator.source_vocabulary.encode(translator.encode(line)) for line in lines]
    rows, few = sorted(every, key=len), sorted(every[:options.one_by_one], key=len)
    beam, size = 'beam %d' % options.beam_width, options.batch_size
    with session.opened(translator.session):
        model = translator.models[0]
        greedy, by_keras = ours(model, search.Options()), keras_idiom(model)
        ways = [  # name, what decodes, sentences, how many at a time, and which row it is compared with
            ('greedy, batches of %d' % size, greedy, rows, size, 0),
            ('Keras idiom, one by one, %d sentences' % len(few), by_keras, few, 1, 0),
            ('Keras idiom, batches of %d' % size, by_keras, rows, size, 0),
            ('%s, batches of %d' % (beam, size), ours(model, search.Options(beam_width=options.beam_width)), rows,
             size, 3),
            ('contrib %s, batches of %d' % (beam, size), contrib(model, options.beam_width), rows, size, 3)]
        for _, decode, given, at_once, _ in ways:
            in_batches(decode, given[-at_once:], at_once)  # what a first call does is not counted
        seconds, processor, outputs, starts = [[] for _ in ways], [[] for _ in ways], {}, []
        for repeat in range(options.repeats):
            for number, (name, decode, given, at_once, _) in enumerate(ways):
                started, used = time.time(), time.process_time()
                outputs[number] = in_batches(decode, given, at_once)
                seconds[number].append((time.time() - started) * 1000 / len(given))
                processor[number].append((time.process_time() - used) * 1000 / len(given))
            starts.append(first_translation(options))
            tell('round %d of %d' % (repeat + 1, options.repeats))
    seconds, processor = [list(map(statistics.median, times)) for times in (seconds, processor)]
    print('%s, %d sentences of %s, %d threads; medians of %d rounds, seconds for 1,000 sentences' % (
        options.run, len(rows), options.sentences, options.threads or chosen.threads or session.available_cores(),
        options.repeats))
    print('%-40s %10s %7s %10s %7s  %s' % ('', 'wall', 'ratio', 'processor', 'ratio', 'same outputs'))
    for number, (name, _, given, _, other) in enumerate(ways):
        found = dict(zip(map(tuple, rows), outputs[other]))
        same = sum(ids == found[tuple(row)] for row, ids in zip(given, outputs[number]))
        print('%-40s %10.2f %7.1f %10.2f %7.1f  %d of %d' % (
            name, seconds[number], seconds[number] / seconds[other], processor[number],
            processor[number] / processor[other], same, len(given)))
    print('%-40s %10.2f' % ('process start to first translation', statistics.median(starts)))


if __name__ == '__main__':
    settings.run_command(main, 'decode.py')
