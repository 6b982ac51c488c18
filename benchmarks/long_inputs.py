"""Memory that long sources take: one training step and one decoding for each score, each in a process of its own.

Local attention, `local-m` and `local-p`, has the default score.

    python benchmarks/long_inputs.py                    # S 1000, T 100, B 16, the default sizes of the model
    python benchmarks/long_inputs.py concat local-m --batch-size 32
"""
import argparse
import multiprocessing
import os
import resource
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from command_line import non_negative_int, positive_int  # noqa: E402  the checkout is on the path now
import settings  # noqa: E402

LOCAL = ('local-m', 'local-p')
KINDS = ('dot', 'general', 'scaled_dot', 'location', 'concat') + LOCAL
VOCABULARY = 10000


def measure(kind, options):
    """Prints the peak of resident memory of this process after a training step, and after decoding.

    kind: a score, or a local attention.
    """
    import tf_session
    import numpy as np
    from text.corpus_builder import encode_pairs
    from text.vocabulary import SPECIALS, Vocabulary
    from training.trainer import Trainer
    from text.tokenizers import make_tokenizer
    from translator import Translator
    random = np.random.RandomState(1)
    words = ['w%d' % i for i in range(VOCABULARY)]
    sides = [[[words[i] for i in random.randint(0, VOCABULARY, length)] for _ in range(options.batch_size)]
             for length in (options.source_length, options.target_length)]
    given = dict(attention=kind) if kind in LOCAL else dict(score=kind)
    chosen = settings.resolve_settings(dict(
        given, batch_size=options.batch_size, threads=options.threads, max_source_length=options.source_length,
        input_feeding=options.input_feeding))
    settings.check(chosen)
    vocabulary = Vocabulary(list(SPECIALS) + words)
    corpus = encode_pairs(*sides, vocabulary, vocabulary)
    opened = tf_session.new_session(chosen.threads)
    with tf_session.opened(opened):
        trainer = Trainer(chosen, len(vocabulary), len(vocabulary), corpus, corpus, None)
        trainer.update([range(options.batch_size)])
        started = time.time()
        trainer.update([range(options.batch_size)])
        step, trained = time.time() - started, peak()
        side = make_tokenizer('space'), vocabulary
        translator = Translator(trainer.model, opened, side, side)
        started = time.time()
        translator.translate([' '.join(line) for line in sides[0]], options.batch_size, beam_width=5,
                             min_length=options.target_length, max_length=options.target_length)
        print('%-12s %10.2f GiB %8.1f s %14.2f GiB %8.1f s' % (kind, trained, step, peak(), time.time() - started),
              flush=True)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2. ** 20


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('kinds', nargs='*', default=KINDS, metavar='KIND')
    parser.add_argument('--source-length', type=positive_int, default=1000, metavar='S')
    parser.add_argument('--target-length', type=positive_int, default=100, metavar='T')
    parser.add_argument('--batch-size', type=positive_int, default=16, metavar='B')
    parser.add_argument('--input-feeding', action='store_true')
    parser.add_argument('--threads', type=non_negative_int, default=0)
    options = parser.parse_args(argv)
    print('%-12s %14s %10s %18s %10s' % ('attention', 'training', 'a step', 'and beam 5', 'decoding'), flush=True)
    for kind in options.kinds:
        process = multiprocessing.get_context('spawn').Process(target=measure, args=(kind, options))
        process.start()
        process.join()
        if process.exitcode:
            print('%-12s ended with %d' % (kind, process.exitcode), flush=True)


if __name__ == '__main__':
    main(sys.argv[1:])
