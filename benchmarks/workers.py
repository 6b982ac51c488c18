"""Two workers with one thread each beside one process with two threads, and what the order of batches costs workers.

    python benchmarks/workers.py [--rounds 3] [--epochs 2]    # nothing else runs; needs make distributed

Both train samples/translate with --accumulate 2, in turns. The figure of a run is that of its last epoch in log.csv.
"""
import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import command_line  # noqa: E402,F401  first: sets what NumPy reads when it is imported
import settings  # noqa: E402
from text import corpus, preparation  # noqa: E402
from text.batches import plan_batches, seeded_random  # noqa: E402

HOROVODRUN = os.path.join(os.path.dirname(sys.executable), 'horovodrun')
WAYS = (('1 process x 2 threads', [], ['--threads', '2']),
        ('2 workers x 1 thread', [HOROVODRUN, '-np', '2', '-H', 'localhost:2', '--gloo'], ['--threads', '1']))
WORKERS = (2, 8, 64, 512)
PAIRS = 10 ** 6  # whose lengths are drawn from samples/translate, for the order of batches


def loopback_bytes():
    """Bytes that this machine has sent to itself."""
    with open('/proc/net/dev') as stream:
        return next(int(line.split(':')[1].split()[8]) for line in stream if line.strip().startswith('lo:'))


def measure(run, launcher, options, epochs):
    """Words/s of the last epoch, and loopback bytes an update, of one training."""
    command = launcher + [sys.executable, os.path.join(ROOT, 'train.py'), '--run', run, '--accumulate', '2',
                          '--epochs', str(epochs)] + options
    before = loopback_bytes()
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with open(os.path.join(run, 'log.csv')) as stream:
        row = list(csv.DictReader(stream))[-1]
    return float(row['words_per_second']), (loopback_bytes() - before) / float(row['step'])


def order_efficiency(lengths, batch_size, workers, group):
    """Mean batch over longest batch, summed over the groups of an epoch: 1 if no worker waits for another."""
    pairs, source, target = plan_batches(*lengths, batch_size, 1, 0, group=group).shapes(lengths)
    cells = (pairs * (source + target + 2))[:len(pairs) - len(pairs) % workers].reshape(-1, workers)
    return float(cells.mean(1).sum() / cells.max(1).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--epochs', type=int, default=2)
    options = parser.parse_args()
    chosen = settings.resolve_settings({})
    train = preparation.prepare(chosen, corpus.corpus_paths(chosen)).train
    lengths = train.lengths[:, seeded_random(1).randint(len(train), size=PAIRS)]
    for workers in WORKERS:
        print('%3d workers, share of the time without waiting: single batches %.2f, --group-by-length %.2f' % (
            workers, order_efficiency(lengths, chosen.batch_size, workers, 1),
            order_efficiency(lengths, chosen.batch_size, workers, workers)), flush=True)
    if not options.rounds:
        return
    results = {name: [] for name, _, _ in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for name, launcher, more in WAYS:
                words, sent = measure(os.path.join(folder, '%d%s' % (number, name[0])), launcher, more, options.epochs)
                results[name].append(words)
                print('%s: %.0f words/s, %.2f MB over loopback an update' % (name, words, sent / 1e6), flush=True)
    medians = [statistics.median(results[name]) for name, _, _ in WAYS]
    print('medians: %s; ratio %.2f' % (', '.join('%s %.0f words/s' % (name, value) for (name, _, _), value in zip(
        WAYS, medians)), medians[1] / medians[0]))


if __name__ == '__main__':
    main()
