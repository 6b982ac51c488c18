"""Compares words per second of training with other programs, in turns: medians of rounds, measured in one run.

    benchmarks/peers.py --train FILE FILE --nmt CHECKOUT --units 256 --bidirectional no --input-feeding --dropout 0.2

Peers:
- `fast` and `keras`: this project's training loop with either kind of kernels, with the settings given;
- `fit`: a model of the same sizes in plain Keras: `LSTM` layers, dot products with a dense layer for the
  score general, softmax over the vocabulary, sparse cross-entropy. Without input feeding, and one-way;
- `contrib`: `tf.contrib.seq2seq`, an `AttentionWrapper` with `LuongAttention` around a `BasicLSTMCell`, with input
  feeding, one-way;
- `nmt`: a checkout of tensorflow/nmt, scaled Luong attention with input feeding, one-way; it reads the files itself;
- `joeynmt`: with `--joeynmt PYTHON`, a Python that has JoeyNMT, see joeynmt_worker.py; it reads the files itself.

Each peer is a separate process, warmed up before the first round, and computes only while the others wait. Words are
those of source and target, including the ends of sentences, as each program counts them.
"""
import collections
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]

import train_step  # noqa: E402  it fixes the import order
from command_line import UserError, run_command  # noqa: E402
import settings  # noqa: E402

PEERS = ('fast', 'keras', 'fit', 'contrib')


# The workers

def serve(take):
    """Answers each line with a number of steps on standard input with `take(steps)`, a JSON line."""
    stdout = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # redirects the output of libraries to standard error
    print('ready', file=stdout, flush=True)
    for line in sys.stdin:
        print(json.dumps(take(int(line))), file=stdout, flush=True)


def ours(kernels, options, config):
    """The project's own training loop."""
    corpus, sizes = train_step.corpora(options, config)
    plan = corpus.plan(config.batch_size, config.seed, 0, shuffle=True)
    worker = train_step.Worker(settings.with_defaults(dict(vars(config), kernels=kernels)), corpus, sizes, plan)
    done = [0]

    def take(steps):
        words, seconds, _, _ = worker.take(done[0], steps)
        done[0] += steps
        return words, seconds
    serve(take)


def batches_of(options, config):
    """An endless iterator of batches, and the sizes of the vocabularies."""
    corpus, sizes = train_step.corpora(options, config)
    plan = corpus.plan(config.batch_size, config.seed, 0, shuffle=True)

    def endless():
        while True:
            for indices in plan:
                yield corpus.batch(indices)
    return endless(), sizes


def serve_steps(batches, step):
    def take(steps):
        ready = [next(batches) for _ in range(steps)]
        started = time.time()
        for (source, target), output in ready:
            step(source, target, output)
        return int(sum((source > 0).sum() + (output > 0).sum() for (source, _), output in ready)), time.time() - started
    serve(take)


def plain_keras(options, config):
    """A model in plain Keras; its attention includes the padding."""
    with train_step.tf_session.opened(train_step.tf_session.new_session(config.threads)):
        fit(options, config)


def fit(options, config):
    from keras.layers import LSTM, Activation, Concatenate, Dense, Dot, Dropout, Embedding, Input
    from keras.models import Model
    batches, sizes = batches_of(options, config)
    units = config.units
    source, target = Input((None,)), Input((None,))
    states, *last = LSTM(units, return_sequences=True, return_state=True)(
        Dropout(config.dropout)(Embedding(sizes[0], config.embedding, mask_zero=True)(source)))
    top = LSTM(units, return_sequences=True)(
        Dropout(config.dropout)(Embedding(sizes[1], config.embedding, mask_zero=True)(target)), initial_state=last)
    weights = Activation('softmax')(Dot(2)([Dense(units, use_bias=False)(top), states]))
    joined = Concatenate()([Dot((2, 1))([weights, states]), top])
    output = Dense(sizes[1], activation='softmax')(Dense(units, activation='tanh')(joined))
    model = Model([source, target], output)
    model.compile('adam', 'sparse_categorical_crossentropy', sample_weight_mode='temporal')
    serve_steps(batches, lambda source, target, output: model.train_on_batch(
        [source, target], output[:, :, None], sample_weight=(output > 0).astype('f')))


def contrib(options, config):
    """The model of `tf.contrib.seq2seq`."""
    import tensorflow as tf
    from tensorflow.contrib import rnn, seq2seq
    batches, sizes = batches_of(options, config)
    units = config.units
    session = train_step.tf_session.new_session(config.threads)
    with session.graph.as_default():
        source, target, wanted = [tf.placeholder(tf.int32, [None, None]) for _ in range(3)]
        lengths, steps = [tf.count_nonzero(ids, 1, dtype=tf.int32) for ids in (source, wanted)]

        def cell():
            return rnn.DropoutWrapper(rnn.BasicLSTMCell(units), 1. - config.dropout)
        embedded = [tf.nn.embedding_lookup(tf.get_variable('embedding_%d' % side, [sizes[side], config.embedding]), ids)
                    for side, ids in enumerate((source, target))]
        states, last = tf.nn.dynamic_rnn(cell(), embedded[0], lengths, dtype=tf.float32, scope='encoder')
        attention = seq2seq.LuongAttention(units, states, lengths, scale=True)
        decoder = seq2seq.AttentionWrapper(cell(), attention, units, output_attention=True)
        first = decoder.zero_state(tf.shape(source)[0], tf.float32).clone(cell_state=last)
        helper = seq2seq.TrainingHelper(embedded[1], steps)
        outputs = seq2seq.dynamic_decode(seq2seq.BasicDecoder(decoder, helper, first))[0].rnn_output
        logits = tf.layers.dense(outputs, sizes[1], use_bias=False)
        loss = seq2seq.sequence_loss(logits, wanted, tf.sequence_mask(steps, dtype=tf.float32))
        variables = tf.trainable_variables()
        gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), 5.)
        update = tf.train.AdamOptimizer().apply_gradients(zip(gradients, variables))
        session.run(tf.global_variables_initializer())
    serve_steps(batches, lambda *arrays: session.run([loss, update], dict(zip((source, target, wanted), arrays))))


def nmt(options, config, checkout):
    """A checkout of tensorflow/nmt: its own program, stopped after each group of updates."""
    import tensorflow as tf
    sys.path.insert(0, checkout)
    from nmt import model, nmt as program, train
    folder = tempfile.mkdtemp()
    for side, path in zip(('src', 'tgt'), config.train):
        with open(path, encoding='utf-8') as stream:
            lines = stream.read().split('\n')[:-1]
        counts = collections.Counter(word for line in lines for word in line.split())
        kept = [word for word, count in counts.most_common() if count >= config.min_count]
        for name, text in (('vocab', ['<unk>', '<s>', '</s>'] + kept), ('train', lines), ('dev', lines[:64])):
            with open(os.path.join(folder, '%s.%s' % (name, side)), 'w', encoding='utf-8') as stream:
                stream.write('\n'.join(text) + '\n')
    train.run_full_eval = lambda *_, **__: (None, 0, None)
    pending, plain = [], model.BaseModel.train

    def updates(count):
        """Counts the words of the program's updates, and requests more updates."""
        pending[:] = [count, 0, time.time()]

    stdout = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)

    def counted(self, session):
        if not pending or pending[0] == 0:
            answer = json.dumps(pending[1:2] + [time.time() - pending[2]]) if pending else 'ready'
            print(answer, file=stdout, flush=True)
            line = sys.stdin.readline()
            if not line:
                shutil.rmtree(folder, ignore_errors=True)
                os._exit(0)
            updates(int(line))
        result = plain(self, session)
        pending[0] -= 1
        pending[1] += int(result[1].word_count)
        return result

    model.BaseModel.train = counted
    names = ['vocab', 'train', 'dev']
    arguments = ['--src=src', '--tgt=tgt', '--out_dir=' + os.path.join(folder, 'out')]
    arguments += ['--%s_prefix=%s' % (name, os.path.join(folder, name)) for name in names]
    arguments += ['--num_units=%d' % config.units, '--num_layers=1', '--encoder_type=uni', '--attention=scaled_luong',
                  '--optimizer=adam', '--learning_rate=0.001', '--dropout=%s' % config.dropout,
                  '--batch_size=%d' % config.batch_size, '--num_train_steps=1000000', '--steps_per_stats=1000000',
                  '--num_inter_threads=%d' % config.threads, '--num_intra_threads=%d' % config.threads]
    import argparse
    parser = argparse.ArgumentParser()
    program.add_arguments(parser)
    program.FLAGS, _ = parser.parse_known_args(arguments)
    tf.app.run(main=program.main, argv=sys.argv[:1])


# The driver

def parse(argv):
    """Splits off the options of this program; the rest are those of train_step.py."""
    own, rest = {'--nmt': None, '--joeynmt': None, '--peers': ','.join(PEERS), '--worker': None}, []
    arguments = iter(argv)
    for argument in arguments:
        if argument in own:
            own[argument] = next(arguments, None)
        else:
            rest.append(argument)
    return own, rest


def ask(process, steps):
    process.stdin.write('%d\n' % steps)
    process.stdin.flush()
    answer = process.stdout.readline()
    return json.loads(answer) if answer else None


def main(argv):
    own, rest = parse(argv)
    options, config = train_step.parse(rest)
    if own['--worker']:
        name = own['--worker']
        workers = {'fit': plain_keras, 'contrib': contrib, 'nmt': lambda *both: nmt(*both, own['--nmt'])}
        workers.get(name, lambda *both: ours(name, *both))(options, config)
        return 0
    readers = [name for name in ('nmt', 'joeynmt') if own['--' + name]]
    if readers and not config.train:
        raise UserError('--%s reads files: give --train FILE FILE' % readers[0])
    processes = collections.OrderedDict()
    for name in own['--peers'].split(',') + readers:
        command = [sys.executable, os.path.abspath(__file__)] + argv + ['--worker', name]
        if name == 'joeynmt':
            names = ('min_count', 'units', 'embedding', 'dropout', 'batch_size', 'threads')
            command = [own['--joeynmt'], os.path.join(HERE, 'joeynmt_worker.py')] + list(config.train)
            command += [str(getattr(config, name)) for name in names]
        # A thread of OpenMP that waits would otherwise take the processor from the worker whose turn it is.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   universal_newlines=True, env=dict(os.environ, OMP_WAIT_POLICY='PASSIVE'))
        if process.stdout.readline().strip() != 'ready' or ask(process, options.steps) is None:
            print('%-8s did not start: run the command with --worker %s to see why' % (name, name), flush=True)
            process.kill()
            continue
        processes[name] = process
    rounds = [{name: ask(process, options.steps) for name, process in processes.items()}
              for _ in range(options.rounds)]
    for process in processes.values():
        process.stdin.close()
        process.wait()
    figures = collections.OrderedDict()
    for name in processes:
        rates = [words / seconds for words, seconds in (one[name] for one in rounds)]
        figures[name] = dict(words_per_second=statistics.median(rates), minimum=min(rates), maximum=max(rates))
    slowest = min(figure['words_per_second'] for figure in figures.values())
    print('%-8s %9s %15s %7s' % ('', 'words/s', 'range', 'ratio'))
    for name, figure in figures.items():
        print('%-8s %9.0f %7.0f - %5.0f %7.2f' % (name, figure['words_per_second'], figure['minimum'],
                                                  figure['maximum'], figure['words_per_second'] / slowest))
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as stream:
            json.dump(dict(command=' '.join(argv), peers=figures), stream, indent=1)
    return 0


if __name__ == '__main__':
    run_command(main, 'peers.py')
