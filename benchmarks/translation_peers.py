"""Trains another program on the tokens of a run for the same minutes, and writes its translations of the test text.

    python benchmarks/translation_peers.py RUN nmt CHECKOUT MINUTES > OUTPUT
    python benchmarks/translation_peers.py RUN joeynmt-rnn PYTHON MINUTES > OUTPUT
    python benchmarks/translation_peers.py RUN joeynmt-transformer PYTHON MINUTES > OUTPUT
    python evaluate.py --run RUN --hypotheses OUTPUT

The pairs, the tokens and the vocabulary are those of RUN. CHECKOUT is a checkout of tensorflow/nmt, which runs in this
Python. PYTHON is a Python that has JoeyNMT (`pip install joeynmt importlib_metadata`). The minutes count from the first
update, validations included, on one thread; RUN's own log says how many it took. Beam 5, length penalty 1, the weights
that were best on the validation text.
"""
import io
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.abspath(__file__)
SIDES, PARTS = ('source', 'target'), ('train', 'val', 'test')


def opened(path, mode='r'):
    return io.open(path, mode, encoding='utf-8')


def is_shared(folder):
    """Whether both sides have one vocabulary; the other programs then tie its embeddings as well."""
    source, target = [opened(os.path.join(folder, 'vocab.' + side)).read() for side in SIDES]
    return source == target


# The tokens of the run

def write_tokens(path, folder):
    """Writes the tokens of a run's text; returns the tokeniser of the target side."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))
    from settings import with_defaults
    from storage.run_directory import RunDirectory
    from text import corpus
    from text.tokenizers import read_tokenizers
    from text.word_aligner import token_line
    run = RunDirectory.open(path)
    settings = with_defaults(run.read_config())
    tokenizers = read_tokenizers(run, settings)
    paths = corpus.corpus_paths(settings)
    for part in PARTS:
        with opened(os.path.join(folder, part + '.source'), 'w') as source, \
                opened(os.path.join(folder, part + '.target'), 'w') as target:
            for pair in corpus.pairs_of_run(settings, paths[part]):
                tokens = [tokenizer.tokenize(text) for tokenizer, text in zip(tokenizers, pair)]
                limits = settings.max_source_length, settings.max_target_length
                if part != 'train' or all(0 < len(side) <= limit for side, limit in zip(tokens, limits)):
                    source.write(token_line(tokens[0]) + '\n')
                    target.write(token_line(tokens[1]) + '\n')
    for side in SIDES:
        with opened(run.file('vocab.%s.txt' % side)) as stream:
            words = stream.read().split('\n')[4:-1]
        for name, special in (('vocab', ['<unk>', '<s>', '</s>']), ('joey', ['<unk>', '<pad>', '<s>', '</s>'])):
            with opened(os.path.join(folder, '%s.%s' % (name, side)), 'w') as stream:
                stream.write('\n'.join(special + words) + '\n')
    return tokenizers[1]


# tensorflow/nmt: two-layer decoder, one two-way layer of encoder, the schedule of its iwslt15.json with Adam

def nmt(folder, checkout, minutes):
    import argparse
    import tensorflow as tf
    sys.path.insert(0, checkout)
    from nmt import model, nmt as program, train
    plain, evaluate, clock = model.BaseModel.train, train.run_full_eval, {}

    def timed(self, session):
        clock.setdefault('started', time.time())
        _, result = plain(self, session)
        clock['updates'] += 1
        over = time.time() - clock['started'] > 60 * clock['minutes']
        return None, result._replace(global_step=10 ** 9) if over else result

    def full_eval(*args, **options):
        """Not before the first update, nor in the trial."""
        return evaluate(*args, **options) if 'started' in clock and clock['evaluates'] else ('', 0, None)

    model.BaseModel.train, train.run_full_eval = timed, full_eval
    epoch = sum(1 for _ in opened(os.path.join(folder, 'train.source'))) // 64
    shared = str(is_shared(folder)).lower()

    def run(name, updates, *more):
        options = ['--src=source', '--tgt=target', '--share_vocab=' + shared, '--out_dir=' + os.path.join(folder, name),
                   '--encoder_type=bi', '--num_layers=2', '--num_units=256', '--attention=scaled_luong',
                   '--optimizer=adam', '--learning_rate=0.001', '--decay_scheme=luong234', '--dropout=0.3',
                   '--batch_size=64', '--src_max_len=100', '--tgt_max_len=60', '--num_train_steps=%d' % updates,
                   '--steps_per_stats=%d' % (epoch // 10), '--steps_per_external_eval=1000000', '--metrics=bleu',
                   '--num_inter_threads=1', '--num_intra_threads=1', '--random_seed=1'] + list(more)
        options += ['--%s_prefix=%s' % (name, os.path.join(folder, part))
                    for name, part in (('vocab', 'vocab'), ('train', 'train'), ('dev', 'val'))]
        parser = argparse.ArgumentParser()
        program.add_arguments(parser)
        program.FLAGS = parser.parse_args(options)
        program.main([])

    trial = min(.5, minutes)
    clock.update(updates=0, minutes=trial, evaluates=False)
    run('trial', 10 ** 6)
    updates = clock['updates'] * minutes / trial  # its learning rate falls in their last third
    clock.clear()
    clock.update(updates=0, minutes=minutes, evaluates=True)
    run('nmt', updates)
    print('%d updates of %d, %.1f minutes with the last validation' % (
        clock['updates'], updates, (time.time() - clock['started']) / 60))
    best = tf.train.latest_checkpoint(os.path.join(folder, 'nmt', 'best_bleu'))
    run('nmt', updates, '--beam_width=5', '--length_penalty_weight=1', '--infer_batch_size=32',
        '--ckpt=' + (best or tf.train.latest_checkpoint(os.path.join(folder, 'nmt'))),
        '--inference_input_file=' + os.path.join(folder, 'test.source'),
        '--inference_output_file=' + os.path.join(folder, 'output'))


# JoeyNMT

def layer(dropout, **more):
    return dict(embeddings=dict(embedding_dim=256, scale='num_heads' in more, dropout=0.), hidden_size=256,
                dropout=dropout, **more)


def joeynmt_config(kind, folder):
    """The model of its rnn_small.yaml or iwslt14_deen_bpe.yaml, in sizes for 24,000 pairs."""
    if kind == 'rnn':
        encoder = layer(.3, type='recurrent', rnn_type='lstm', num_layers=1, bidirectional=True)
        decoder = layer(.3, type='recurrent', rnn_type='lstm', num_layers=1, hidden_dropout=.3, input_feeding=True,
                        init_hidden='bridge', attention='luong')
        training = dict(learning_rate=5e-3, learning_rate_warmup=100, batch_size=64, batch_type='sentence')
    else:
        encoder = layer(.3, type='transformer', num_layers=3, num_heads=4, ff_size=1024, layer_norm='pre')
        decoder = dict(encoder)
        training = dict(learning_rate=1e-3, learning_rate_warmup=400, batch_size=1024, batch_type='token')
    epoch = sum(1 for _ in opened(os.path.join(folder, 'train.source'))) // 64
    data = {short: dict(lang=side, level='word', max_length=limit, voc_file=os.path.join(folder, 'joey.' + side))
            for short, side, limit in (('src', 'source', 101), ('trg', 'target', 61))}
    data.update({name: os.path.join(folder, part) for name, part in (('train', 'train'), ('dev', 'val'))},
                dataset_type='plain')
    training.update(
        optimizer='adamw', adam_betas=[.9, .999], scheduling='warmupinversesquareroot', clip_grad_norm=1.,
        loss='crossentropy', normalization='tokens', label_smoothing=.1, epochs=1000, logging_freq=epoch // 10,
        validation_freq=epoch // 10 * 10 ** 6, early_stopping_metric='ppl', keep_best_ckpts=1, print_valid_sents=[0, 1])
    return dict(
        name=kind, joeynmt_version='2.3.0', model_dir=os.path.join(folder, 'joeynmt'), use_cuda=False, fp16=False,
        random_seed=1, data=data, training=training,
        testing=dict(beam_size=5, beam_alpha=1., batch_size=32, batch_type='sentence', max_output_length=60,
                     eval_metrics=[]),
        model=dict(initializer='xavier_uniform', bias_initializer='zeros', embed_initializer='xavier_uniform',
                   tied_embeddings=is_shared(folder), tied_softmax=True, encoder=encoder, decoder=decoder))


def joeynmt(folder, minutes):
    """Runs in a Python that has JoeyNMT."""
    import torch
    from joeynmt import prediction, training
    from joeynmt.config import load_config
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    path = os.path.join(folder, 'joeynmt.yaml')
    plain, started = training.TrainManager._train_step, []

    def timed(self, batch):
        started.append(time.time())
        result = plain(self, batch)
        if time.time() - started[0] > 60 * minutes:
            self.args = self.args._replace(max_updates=0, validation_freq=1)  # a last validation, and the end
        return result

    training.TrainManager._train_step = timed
    training.train(rank=0, world_size=None, cfg=load_config(path), skip_test=True)
    print('%d updates, %.1f minutes with the last validation' % (len(started), (time.time() - started[0]) / 60))
    config = load_config(path)
    config['data'].pop('dev')
    config['data']['test'] = os.path.join(folder, 'test')
    prediction.test(config, os.path.join(folder, 'output'))
    os.rename(os.path.join(folder, 'output.test'), os.path.join(folder, 'output'))


def main(argv):
    if argv[0] == '--worker':
        return nmt(argv[2], argv[3], float(argv[4])) if argv[1] == 'nmt' else joeynmt(argv[2], float(argv[4]))
    path, peer, program, minutes = argv
    kind, _, model = peer.partition('-')
    with tempfile.TemporaryDirectory() as folder:
        target = write_tokens(path, folder)
        if model:
            os.mkdir(os.path.join(folder, 'joeynmt'))
            with opened(os.path.join(folder, 'joeynmt.yaml'), 'w') as stream:  # JSON is YAML too
                stream.write(json.dumps(joeynmt_config(model, folder), indent=1))
        subprocess.check_call([program if model else sys.executable, HERE, '--worker', kind, folder, program, minutes],
                              stdout=2, env=dict(os.environ, OMP_WAIT_POLICY='PASSIVE', OMP_NUM_THREADS='1'))
        with opened(os.path.join(folder, 'output')) as stream:
            lines = stream.read().split('\n')[:-1]
        output = io.open(sys.stdout.fileno(), 'w', encoding='utf-8')
        output.write(''.join(target.detokenize(line.split(' ')) + '\n' for line in lines))
        output.flush()
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
