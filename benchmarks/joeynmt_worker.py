"""JoeyNMT as a worker of peers.py: its model, batches and loss, in a Python that has it (`pip install joeynmt`).

    PYTHON benchmarks/joeynmt_worker.py SOURCE TARGET MIN_COUNT UNITS EMBEDDING DROPOUT BATCH_SIZE THREADS

The model is one recurrent layer a side, LSTM, read both ways, `luong` attention with input feeding: encoder states
have 2 UNITS numbers. As JoeyNMT does by itself, batches are drawn at random and sorted by source length inside.
"""
import collections
import json
import logging
import os
import random
import sys
import time
from types import SimpleNamespace

from joeynmt.batch import Batch
from joeynmt.model import build_model
from joeynmt.vocabulary import Vocabulary
import torch

UNK, PAD, BOS, EOS = range(4)
SYMBOLS = SimpleNamespace(unk_token='<unk>', pad_token='<pad>', bos_token='<s>', eos_token='</s>', sep_token=None,
                          unk_id=UNK, pad_id=PAD, bos_id=BOS, eos_id=EOS, sep_id=None, lang_tags=[])


def read(path, min_count):
    """The vocabulary of a file, and its lines as ids."""
    with open(path, encoding='utf-8') as stream:
        lines = [line.split() for line in stream.read().split('\n')[:-1]]
    counts = collections.Counter(word for line in lines for word in line)
    vocabulary = Vocabulary([word for word, count in counts.most_common() if count >= min_count], SYMBOLS)
    ids = {vocabulary.lookup(number): number for number in range(len(vocabulary))}
    return vocabulary, [[ids.get(word, UNK) for word in line] for line in lines]


def padded(rows):
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])                      # (B, S)


def side(units, embedding, dropout, **more):
    return dict(type='recurrent', rnn_type='lstm', hidden_size=units, num_layers=1, dropout=dropout, freeze=False,
                embeddings=dict(embedding_dim=embedding, scale=False, freeze=False), **more)


def main(source, target, min_count, units, embedding, dropout, batch_size, threads):
    stdout = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    (source_vocabulary, sources), (target_vocabulary, targets) = [read(path, min_count) for path in (source, target)]
    pairs = [pair for pair in zip(sources, targets) if all(pair)]
    model = build_model(dict(
        initializer='xavier_uniform', bias_initializer='zeros', embed_initializer='normal', embed_init_weight=.1,
        encoder=side(units, embedding, dropout, bidirectional=True),
        decoder=side(units, embedding, dropout, hidden_dropout=dropout, input_feeding=True, init_hidden='bridge',
                     attention='luong')), source_vocabulary, target_vocabulary)
    model.loss_function = ('crossentropy', 0.)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=.001)
    order = random.Random(1)

    def step():
        """One update; returns the words of both sides, ends of sentences included."""
        rows = order.sample(pairs, batch_size)
        inputs = [row + [EOS] for row, _ in rows]
        outputs = [[BOS] + row + [EOS] for _, row in rows]
        batch = Batch(padded(inputs), torch.tensor([len(row) for row in inputs]), None, padded(outputs), None,
                      torch.arange(batch_size), torch.device('cpu'), PAD, EOS, True)
        batch.sort_by_src_length()
        loss = model(return_type='loss', **vars(batch))[0]
        batch.normalize(loss, 'batch', 0, 1).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.)
        optimizer.step()
        model.zero_grad()
        return sum(map(len, inputs)) + sum(len(row) - 1 for row in outputs)

    print('ready', file=stdout, flush=True)
    for line in sys.stdin:
        started = time.time()
        words = sum(step() for _ in range(int(line)))
        print(json.dumps([words, time.time() - started]), file=stdout, flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:3], *map(int, sys.argv[3:6]), float(sys.argv[6]), *map(int, sys.argv[7:9]))
