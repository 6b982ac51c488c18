"""Measures the cost of a large corpus: memory, pairs/s, the seconds until training starts, batches/s.

    python benchmarks/generate_corpus.py --pairs 5000000 big
    python benchmarks/generate_corpus.py --pairs 1000 --seed 2 val
    python benchmarks/large_corpus.py big val --work DIR           # only the text, without TensorFlow
    python benchmarks/large_corpus.py big val --work DIR --train   # train.py until its first update, and --resume

DIR gets the cache and the run; remove it to measure again.
"""
import argparse
import os
import resource
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from settings import with_defaults  # noqa: E402
from storage.files import file_sha256  # noqa: E402
from storage.machine import peak_memory  # noqa: E402
from text import preparation  # noqa: E402

VALUES = dict(source_tokenizer='space', target_tokenizer='space', source_vocabulary=50000, target_vocabulary=50000,
              batch_size=64)


def report(what, started, count=None):
    seconds = time.time() - started
    peak = peak_memory() / 2. ** 20
    print('%-28s %8.2f s %9s  peak %4.0f MB' % (what, seconds, '%.0f/s' % (count / seconds) if count else '', peak),
          flush=True)


def measure_text(options, settings):
    """Reads the text (twice: the second time from the cache), makes a plan and batches; prints each part's cost."""
    paths = {'train': [options.train_text + '.source', options.train_text + '.target'],
             'val': [options.validation_text + '.source', options.validation_text + '.target']}
    for what in ('read and encode', 'open again'):
        started = time.time()
        hashes = {part: [file_sha256(path) for path in files] for part, files in paths.items()}
        report('hash the files', started)
        text = preparation.prepare(settings, paths, hashes, cache=os.path.join(options.work, 'corpus-cache'))
        report(what + ', hashes included', started, len(text.train))
    started = time.time()
    plan = text.train.plan(settings.batch_size, 1, 0, shuffle=True)
    report('plan of an epoch', started)
    started, count = time.time(), min(5000, len(plan))
    for indices in plan[:count]:
        text.train.batch(indices)
    report('%d batches' % count, started, count)


def measure_training(options):
    """Starts train.py and stops it after its first update; then the same with `--resume`."""
    arguments = ['--run', os.path.join(options.work, 'run'), '--train', options.train_text + '.source',
                 options.train_text + '.target', '--val', options.validation_text + '.source',
                 options.validation_text + '.target']
    settings = [text for name, value in VALUES.items() for text in ('--' + name.replace('_', '-'), str(value))]
    # The time limit ends the first start after one update; the second one is stopped when it says where it resumes.
    for name, extra in (('train.py', settings + ['--max-minutes', '0.0001']),
                        ('train.py --resume', ['--resume', '--max-minutes', '9999'])):
        started = time.time()
        process = subprocess.Popen([sys.executable, os.path.join(ROOT, 'train.py')] + arguments + extra,
                                   stderr=subprocess.PIPE, universal_newlines=True)
        for line in process.stderr:
            sys.stderr.write(line)
            if line.startswith(('model: ', 'resuming ')):
                report(name + ': ' + line.split()[0], started)
            if line.startswith('resuming '):
                process.send_signal(signal.SIGINT)
        process.wait()
        report(name + ': one update, end', started)
        print('peak of the processes: %.0f MB' % (resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024.))


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('train_text', help='beginning of the two file names of the training text')
    parser.add_argument('validation_text', help='the same of the validation text')
    parser.add_argument('--work', required=True, metavar='DIR', help='directory for the cache and the run')
    parser.add_argument('--train', action='store_true', help='measure train.py instead of only the text')
    options = parser.parse_args(argv)
    if options.train:
        measure_training(options)
    else:
        measure_text(options, with_defaults(VALUES))


if __name__ == '__main__':
    main(sys.argv[1:])
