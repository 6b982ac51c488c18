"""Measures words per second of training with both kinds of kernels, and the share of the processor's limit.

    benchmarks/train_step.py --train FILE FILE                      # the default model on the pairs of two files
    benchmarks/train_step.py --train FILE FILE --preset multi30k    # any setting of train.py may follow
    benchmarks/train_step.py --words 32000 --units 1024             # without --train: sentences of random words

Both kinds train the same model on the same batches in one process and take turns; the figures are medians of the
rounds. The ceiling is the speed of matrix products of 1024 x 1024 numbers, measured between the rounds. The share of
the ceiling counts the operations of the matrix products only, with those on padding where a kind computes them. What
they could reach is measured too: each product of a step alone, on one thread, divided by the number of threads.
"""
import argparse
import collections
import json
import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import tf_session  # noqa: E402  first: it fixes the import order
from keras import backend as K  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from command_line import positive_int, run_command  # noqa: E402
from matrix_products import (  # noqa: E402
    Alone, decoder_products, operations, output_products, source_products, with_gradients)
import settings  # noqa: E402
from text.corpus_builder import encode_pairs  # noqa: E402
from text.text_files import read_lines  # noqa: E402
from text.vocabulary import PAD, SPECIALS, Vocabulary  # noqa: E402
from training.trainer import Trainer  # noqa: E402

KINDS = ('keras', 'fast')
SIDE = 1024  # of the matrices whose product is the ceiling
LIMIT_BATCHES = 6  # batches whose products are measured alone
# Groups of operations by what the names of TensorFlow's operations contain, the first that fits.
GROUPS = (('output and loss', ('loss/', 'output', 'FusedOutput', 'metrics/', 'softmax')),
          ('attention', ('attention', 'alignment')), ('encoder', ('encoder', 'bridge')), ('decoder', ('decoder',)),
          ('embeddings', ('embedding',)), ('optimizer', ('training/',)))


def parse(argv):
    parser = argparse.ArgumentParser(prog='train_step.py', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--words', type=positive_int, default=8000, metavar='N',
                        help='words of each side without --train (default: %(default)s)')
    parser.add_argument('--steps', type=positive_int, default=10, metavar='N',
                        help='updates of a round (default: %(default)s)')
    parser.add_argument('--rounds', type=positive_int, default=5, metavar='N', help='(default: %(default)s)')
    parser.add_argument('--preset', choices=list(settings.PRESETS))
    parser.add_argument('--json', metavar='FILE', help='write all figures to this file')
    settings.add_options(parser)
    options = parser.parse_args(argv)
    names = ('words', 'steps', 'rounds', 'preset', 'json')
    options_of_settings = {name: value for name, value in vars(options).items() if name not in names}
    return options, settings.resolve_settings(options_of_settings, options.preset)


def corpora(options, config):
    """The pairs to train on, as ids, and the sizes of both vocabularies."""
    if config.train:
        sides = [[line.split()[:config.max_source_length] for line in read_lines(path)] for path in config.train]
        sides = list(zip(*[pair for pair in zip(*sides) if all(pair)]))
        vocabularies = []
        for texts in [sides] if config.share_vocabulary else [[side] for side in sides]:
            counts = collections.Counter(word for side in texts for line in side for word in line)
            kept = [word for word, count in counts.most_common() if count >= max(config.min_count, 1)]
            vocabularies += [Vocabulary(list(SPECIALS) + kept[:options.words])] * len(texts)
    else:
        random = np.random.RandomState(1)
        lengths = np.clip(random.normal(13, 4, (64 * 200, 2)), 4, 40).astype(int)
        words = ['w%d' % number for number in range(options.words)]
        sides = [[[words[i] for i in random.randint(0, options.words, length)] for length in side]
                 for side in lengths.T]
        vocabularies = [Vocabulary(list(SPECIALS) + words)] * 2
    corpus = encode_pairs(*[list(side) for side in sides], *vocabularies)
    return corpus, [len(vocabulary) for vocabulary in vocabularies]


def products(config, sizes, inputs, output):
    """The matrix products of a step, forward and backward."""
    (batch, length), steps = inputs[0].shape, output.shape[1]
    rows = np.count_nonzero(output != PAD) if config.kernels == 'fast' else output.size
    return with_gradients(source_products(config, batch, length) + decoder_products(config, length, steps, batch)
                          + output_products(config, min(config.sampled_softmax or sizes[1], sizes[1]), 1, rows))


class Worker(object):
    """A `Trainer` in a session of its own, which takes updates when asked."""

    def __init__(self, config, corpus, sizes, plan):
        self.config, self.corpus, self.sizes, self.plan, self.rates = config, corpus, sizes, plan, []
        self.session = tf_session.new_session(config.threads)
        with tf_session.opened(self.session):
            self.trainer = Trainer(config, *sizes, train=corpus, validation=corpus, run=None)

    def take(self, first, steps):
        """Words, seconds, processor seconds and operations of some updates."""
        groups = [self.plan[number % len(self.plan)] for number in range(first, first + steps)]
        batches = [self.corpus.batch(group) for group in groups]
        words = sum(np.count_nonzero(inputs[0]) + np.count_nonzero(output) for inputs, output in batches)
        count = sum(operations(products(self.config, self.sizes, *batch)) for batch in batches)
        with tf_session.opened(self.session):
            started, processor = time.time(), time.process_time()
            for group in groups:
                self.trainer.update([group])
            return words, time.time() - started, time.process_time() - processor, count

    def groups(self, group):
        """Seconds that the operations of each group take in one traced update, all threads together."""
        options, metadata = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), tf.RunMetadata()
        inputs, output = self.corpus.batch(group)
        model = self.trainer.keras_model
        with tf_session.opened(self.session):
            feed = dict(zip(model.inputs, inputs))
            feed.update({model.targets[0]: output[:, :, None], model.sample_weights[0]: output != PAD,
                         K.learning_phase(): 1})
            fetches = [model.total_loss] + list(self.trainer.optimizer.updates)
            self.session.run(fetches, feed, options, metadata)
        found = collections.OrderedDict((name, 0.) for name, _ in GROUPS + (('other', ()),))
        for device in metadata.step_stats.dev_stats:
            for node in device.node_stats:
                name = node.timeline_label + ' ' + node.node_name
                group = next((group for group, parts in GROUPS if any(part in name for part in parts)), 'other')
                found[group] += node.op_end_rel_micros * 1e-6
        return found


def ceiling(session, product):
    """Floating-point operations a second of the matrix products."""
    started = time.time()
    session.run(product)
    return 8 * 2. * SIDE ** 3 / (time.time() - started)


def main(argv):
    options, config = parse(argv)
    corpus, sizes = corpora(options, config)
    plan = corpus.plan(config.batch_size, config.seed, 0, shuffle=True)
    workers = collections.OrderedDict(
        (kind, Worker(settings.with_defaults(dict(vars(config), kernels=kind)), corpus, sizes, plan)) for kind in KINDS)
    session = tf_session.new_session(config.threads)
    with session.graph.as_default():
        matrix = tf.Variable(np.random.RandomState(0).normal(size=(SIDE, SIDE)).astype('f'))
        product = tf.add_n([tf.reduce_sum(tf.matmul(matrix * (i + 1.), matrix)) for i in range(8)])
    session.run(matrix.initializer)
    limits, found = [], collections.OrderedDict((kind, []) for kind in KINDS)
    for worker in workers.values():
        worker.take(0, options.steps)
    for number in range(options.rounds):
        limits.append(ceiling(session, product))
        for kind, worker in workers.items():
            found[kind].append(worker.take((number + 1) * options.steps, options.steps))
    limit = statistics.median(limits)
    figures = collections.OrderedDict([('command', ' '.join(argv)), ('vocabulary', sizes),
                                       ('gflops_ceiling', limit / 1e9)])
    print('%d source and %d target words; products of %d: median %.0f GFLOP/s' % (*sizes, SIDE, limit / 1e9))
    print('%-6s %10s %14s %12s %11s %13s' % ('', 'words/s', 'range', 'ms a step', 'of ceiling', 'cpu/wall'))
    for kind, rounds in found.items():
        rates = [words / seconds for words, seconds, _, _ in rounds]
        share = statistics.median(count / seconds for _, seconds, _, count in rounds) / limit
        step = statistics.median(seconds for _, seconds, _, _ in rounds) / options.steps
        busy = statistics.median(processor / seconds for _, seconds, processor, _ in rounds)
        figures[kind] = dict(words_per_second=statistics.median(rates), minimum=min(rates), maximum=max(rates),
                             seconds_per_step=step, share_of_ceiling=share, groups=workers[kind].groups(plan[0]))
        print('%-6s %10.0f %6.0f - %5.0f %12.1f %10.0f %% %13.2f' % (
            kind, statistics.median(rates), min(rates), max(rates), 1000 * step, 100 * share, busy))
    shapes = [products(workers['fast'].config, sizes, *corpus.batch(plan[number])) for number in range(LIMIT_BATCHES)]
    alone = Alone()
    seconds = sum(alone.seconds_of(one) for one in shapes) / (config.threads or os.cpu_count())
    figures['limit'] = dict(share_of_ceiling=sum(operations(one) for one in shapes) / seconds / limit,
                            seconds_per_step=seconds / LIMIT_BATCHES)
    print('the products of a step alone, perfectly divided between the threads: %.1f ms, %.0f %% of the ceiling' % (
        1000 * seconds / LIMIT_BATCHES, 100 * figures['limit']['share_of_ceiling']))
    print('ratio %.2f' % (figures['fast']['words_per_second'] / figures['keras']['words_per_second']))
    print('processor milliseconds of the operations of one step, by group:')
    for group in figures['fast']['groups']:
        print('%-16s %8.1f %8.1f' % (group, *[1000 * figures[kind]['groups'][group] for kind in KINDS]))
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as stream:
            json.dump(figures, stream, indent=1)
    return 0


if __name__ == '__main__':
    run_command(main, 'train_step.py')
