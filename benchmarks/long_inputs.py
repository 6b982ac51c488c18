"""Measures time and memory of a training step and of decoding for long sources, each in a separate process.

    python benchmarks/long_inputs.py                            # S 1000, T 100, B 16, the default sizes of the model
    python benchmarks/long_inputs.py concat local-m --kernels keras fast --source-length 200 400 800
    python benchmarks/long_inputs.py general --batch-size 1 --source-length 5000 --decode-only
    python benchmarks/long_inputs.py general local-m concat --source-length 250 500 1000 --plot long.png
    python benchmarks/long_inputs.py --layer --units 256 --target-length 0 --source-length 400 800 --kernels keras fast

Kinds are scores, and local attention, `local-m` and `local-p`, with `--local-score`. `--target-length 0`: T = S.
"""
import argparse
import json
import multiprocessing
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from command_line import non_negative_int, positive_int  # noqa: E402  the checkout is on the path now
import settings  # noqa: E402
from storage.machine import peak_memory  # noqa: E402

LOCAL = ('local-m', 'local-p')
KINDS = ('dot', 'general', 'scaled_dot', 'location', 'concat') + LOCAL
VOCABULARY = 10000


def measure(kind, kernels, length, options, queue):
    """Puts a dict: seconds of a training step and of decoding, and the peak of resident memory after each, in GiB."""
    import tf_session
    import numpy as np
    from text.corpus_builder import encode_pairs
    from text.tokenizers import make_tokenizer
    from text.vocabulary import SPECIALS, Vocabulary
    from training.trainer import Trainer
    from translator import Translator
    random, steps = np.random.RandomState(1), options.target_length or length
    words = ['w%d' % i for i in range(options.words)]
    sides = [[[words[i] for i in random.randint(0, len(words), count)] for _ in range(options.batch_size)]
             for count in (length, steps)]
    given = dict(attention=kind, score=options.local_score) if kind in LOCAL else dict(score=kind)
    config = settings.resolve_settings(dict(
        given, batch_size=options.batch_size, threads=options.threads, max_source_length=length, kernels=kernels,
        input_feeding=options.input_feeding, units=options.units, embedding=options.units))
    settings.check(config)
    vocabulary, found = Vocabulary(list(SPECIALS) + words), dict(kind=kind, kernels=kernels, source_length=length)
    corpus = encode_pairs(*sides, vocabulary, vocabulary)
    opened = tf_session.new_session(config.threads)
    with tf_session.opened(opened):
        trainer = Trainer(config, len(vocabulary), len(vocabulary), corpus, corpus, None)
        if not options.decode_only:
            trainer.update([range(options.batch_size)])
            started, processor = time.time(), time.process_time()
            trainer.update([range(options.batch_size)])
            found.update(step=time.time() - started, step_cpu=time.process_time() - processor, step_peak=peak())
        if not options.train_only:
            side = make_tokenizer('space'), vocabulary
            translator = Translator(trainer.model, opened, side, side)
            started, processor = time.time(), time.process_time()
            translator.translate([' '.join(line) for line in sides[0]], options.batch_size, beam_width=5,
                                 min_length=steps, max_length=steps)
            found.update(decoding=time.time() - started, decoding_cpu=time.process_time() - processor,
                         decoding_peak=peak())
    queue.put(found)


def measure_layer(kind, kernels, length, options, queue):
    """As `measure`, for one call of the attention layer only, forward and backward."""
    import tf_session
    from keras import backend as K
    import numpy as np
    import tensorflow as tf
    import attention
    from kernels import attention_blocks, attention_windows
    fast = kernels == 'fast'
    if kind in LOCAL:
        layer = (attention_windows if fast else attention).LocalAttention(
            options.local_score, {'local-m': 'monotonic', 'local-p': 'predictive'}[kind])
    else:
        layer = (attention_blocks if fast else attention).GlobalAttention(
            kind, max_source_length=length if kind == 'location' else None)
    found, steps = dict(kind=kind, kernels=kernels, source_length=length), options.target_length or length
    with tf_session.opened(tf_session.new_session(options.threads)):
        random = np.random.RandomState(1)
        inputs = [tf.Variable(random.normal(size=(options.batch_size, count, options.units)).astype('f'))
                  for count in (length, steps)]
        layer.build([(None, None, options.units)] * 2)
        mask = tf.ones([options.batch_size, length], tf.bool)
        context = layer.call([tf.identity(x) for x in inputs], [mask, None])[0]
        gradients = tf.gradients(tf.reduce_sum(tf.square(context)), inputs + layer.trainable_weights)
        # A sum that is fetched: TensorFlow removes operations whose values are not fetched.
        run = tf.add_n([tf.reduce_sum(tf.convert_to_tensor(one)) for one in gradients])
        session = K.get_session()
        session.run(tf.variables_initializer(inputs))
        session.run(run)
        times = []
        for _ in range(3):
            started, processor = time.time(), time.process_time()
            session.run(run)
            times.append((time.process_time() - processor, time.time() - started))
    found.update(step=min(times)[1], step_cpu=min(times)[0], step_peak=peak())
    queue.put(found)


def peak():
    return peak_memory() / 2. ** 30


def plot(rows, path):
    """Time of a training step and of decoding, and peak, over the length of the source: a line for each kind."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot, ticker
    rows = [dict(row, peak=max(row.get(key, 0) for key in ('step_peak', 'decoding_peak'))) for row in rows]
    shown = [(key, label) for key, label in (
        ('step_cpu', 'processor seconds of a training step'), ('decoding_cpu', 'processor seconds of beam search'),
        ('peak', 'peak of the process in GiB')) if any(key in row for row in rows)]
    figure, all_axes = pyplot.subplots(1, len(shown), figsize=(5 * len(shown), 4), squeeze=False)
    for (key, label), axes in zip(shown, all_axes[0]):
        for name in sorted({(row['kind'], row['kernels']) for row in rows}):
            line = [row for row in rows if (row['kind'], row['kernels']) == name and key in row]
            axes.plot([row['source_length'] for row in line], [row[key] for row in line], 'o-' if name[1] == 'fast'
                      else 's--', label='%s, --kernels %s' % name)
        axes.set(xlabel='source tokens', title=label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter('{x:,.0f}'))
        axes.grid(color='0.9')
    all_axes[0][-1].legend()
    figure.tight_layout()
    figure.savefig(path)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('kinds', nargs='*', default=KINDS, metavar='KIND')
    parser.add_argument('--kernels', nargs='+', default=['fast'], choices=('fast', 'keras'))
    parser.add_argument('--source-length', nargs='+', type=positive_int, default=[1000], metavar='S')
    parser.add_argument('--target-length', type=non_negative_int, default=100, metavar='T')
    parser.add_argument('--batch-size', type=positive_int, default=16, metavar='B')
    parser.add_argument('--units', type=positive_int, default=128, metavar='D')
    parser.add_argument('--words', type=positive_int, default=VOCABULARY, metavar='V')
    parser.add_argument('--local-score', default='general', choices=('dot', 'general', 'scaled_dot', 'concat'),
                        help='score of local-m and local-p')
    parser.add_argument('--input-feeding', action='store_true')
    parser.add_argument('--train-only', action='store_true')
    parser.add_argument('--layer', action='store_true', help='one call of the attention layer, forward and backward')
    parser.add_argument('--decode-only', action='store_true')
    parser.add_argument('--threads', type=non_negative_int, default=0)
    parser.add_argument('--json', metavar='FILE')
    parser.add_argument('--plot', metavar='FILE')
    options = parser.parse_args(argv)
    columns = (('step', '%8.2f s'), ('step_cpu', '%6.2f cpu s'), ('step_peak', '%7.2f GiB'), ('decoding', '%8.1f s'),
               ('decoding_cpu', '%6.1f cpu s'), ('decoding_peak', '%7.2f GiB'))
    print('%-12s %-6s %6s   a training step: time, processor, peak   beam 5: time, processor, peak' % ('kind', '', 'S'))
    rows, context = [], multiprocessing.get_context('spawn')
    for length in options.source_length:
        for kind in options.kinds:
            for kernels in options.kernels:
                queue = context.SimpleQueue()
                target = measure_layer if options.layer else measure
                process = context.Process(target=target, args=(kind, kernels, length, options, queue))
                process.start()
                process.join()
                if process.exitcode:
                    print('%-12s %-6s %6d   ended with %d' % (kind, kernels, length, process.exitcode), flush=True)
                    continue
                rows.append(queue.get())
                print('%-12s %-6s %6d   %s' % (kind, kernels, length, ' '.join(
                    text % rows[-1][name] for name, text in columns if name in rows[-1])), flush=True)
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as stream:
            json.dump(rows, stream, indent=1)
    if options.plot:
        plot(rows, options.plot)


if __name__ == '__main__':
    main(sys.argv[1:])
