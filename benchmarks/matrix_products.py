"""The matrix products of a model, as the fast kernels compute them: what training or a search needs at least.

Local attention counts with all source positions, and the score location as dot. Letters as in `seq2seq_model`.
"""
import collections
import time

import tensorflow as tf

from attention import ALIASES

Product = collections.namedtuple('Product', 'count batch rows inner columns')
Product.__doc__ = """`batch` pairs of matrices, `(rows, inner)` times `(inner, columns)`.

count: how many times, once for each step of a loop.
"""


def source_products(config, batch, length, searching=False):
    """Those that a batch needs once: encoder, bridge, and the keys of the attention."""
    memory, units = config.encoder_units or config.units, config.units
    gates, directions = gates_of(config), 1 + config.bidirectional
    own, below, found = memory // directions, config.embedding, []
    for _ in range(config.encoder_layers):
        found += [Product(1, 1, batch * length, below, gates * own), Product(length, 1, batch, own, gates * own)
                  ] * directions
        below = memory
    if config.bidirectional or memory != units:
        states = config.decoder_layers * (2 if config.cell == 'lstm' else 1)
        found += [Product(1, 1, batch, memory, units)] * states
    if score_of(config) == 'concat':
        found.append(Product(1, 1, batch * length, memory, config.attention_units or units))
    elif config.score == 'general' and (searching or config.input_feeding):
        found.append(Product(1, 1, batch * length, memory, units))
    return [one for one in found if one.inner]


def decoder_products(config, length, steps, sentences, hypotheses=1, searching=False):
    """Those of `steps` decoder steps, without the output.

    # Arguments
        config: settings of the model.
        length: S. sentences: B. hypotheses: K.
        searching: Boolean, a step knows its input only when the step before it is done. Training knows all inputs but
            the attentional state that input feeding adds.
    """
    memory, units, gates = config.encoder_units or config.units, config.units, gates_of(config)
    rows, below, found = sentences * hypotheses, config.embedding, []
    for number in range(config.decoder_layers):
        width = below + units * (config.input_feeding and number == 0)
        # How much of its input a cell learns inside the loop, and how much is known before it.
        inside = width if searching or config.input_feeding and number else width - below
        found += [Product(1, 1, steps * rows, width - inside, gates * units),
                  Product(steps, 1, rows, inside + units, gates * units)]
        below = units
    if config.score != 'none':
        # Without input feeding, training attends once for all steps.
        stepwise = searching or config.input_feeding
        count, targets = (steps, hypotheses) if stepwise else (1, steps * hypotheses)
        rows = sentences * targets
        if score_of(config) == 'concat':
            score = config.attention_units or units
            found += [Product(count, 1, rows, units, score), Product(count, 1, rows * length, score, 1)]
        elif config.score == 'general' and not stepwise:
            found += [Product(1, 1, rows, units, memory), Product(1, sentences, targets, memory, length)]
        else:
            found.append(Product(count, sentences, targets, units, length))
        found += [Product(count, sentences, targets, length, memory), Product(count, 1, rows, memory + units, units)]
    return [one for one in found if one.inner]


def output_products(config, words, count, rows):
    """The logits of `words` words: `count` times `rows` rows."""
    last, found = config.embedding if config.tie_embeddings else config.units, []
    if last != config.units:
        found.append(Product(count, 1, rows, config.units, last))
    return found + [Product(count, 1, rows, last, words)]


def gates_of(config):
    return 4 if config.cell == 'lstm' else 3


def score_of(config):
    return ALIASES.get(config.score, config.score)


def with_gradients(found):
    """Each product and the two of its gradient; after a loop, one product is that of the right matrix for all steps."""
    return [product for one in found for product in (
        one, one._replace(inner=one.columns, columns=one.inner),
        Product(1, one.batch, one.inner, one.count * one.rows, one.columns))]


def operations(found):
    """Floating-point operations of products."""
    return sum(2 * one.count * one.batch * one.rows * one.inner * one.columns for one in found)


class Alone(object):
    """Measures products alone, each shape once, on one thread."""

    def __init__(self):
        config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        # Equal products stay apart, and those that nobody reads stay at all.
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        config.graph_options.optimizer_options.opt_level = -1
        self.session, self.seconds = tf.Session(graph=tf.Graph(), config=config), {}

    def seconds_of(self, found):
        """Processor seconds of products one after another."""
        return sum(one.count * self._measured(one[1:]) for one in found)

    def _measured(self, shape):
        if shape not in self.seconds:
            batch, rows, inner, columns = shape
            with self.session.graph.as_default():
                x, y = [tf.zeros([batch] * (batch > 1) + sides) for sides in ([rows, inner], [inner, columns])]
                x, y = [tf.Variable(array, collections=[]) for array in (x, y)]
                run = tf.group(*[tf.matmul(x, y).op for _ in range(4)])
            self.session.run([x.initializer, y.initializer])
            times = []
            for _ in range(4):  # the first one warms the processor's cache
                started = time.process_time()
                self.session.run(run)
                times.append((time.process_time() - started) / 4)
            self.seconds[shape] = min(times)
        return self.seconds[shape]
