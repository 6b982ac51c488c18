"""Counts the outputs that change with the size of the batch in which their sentence is decoded, and prints each.

    benchmarks/flips.py runs/x test.de --batch-sizes 1 7 32
    benchmarks/flips.py runs/x test.de --beam-width 5
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from text.text_files import read_lines  # noqa: E402  the checkout is on the path now
from command_line import non_negative_int, positive_int, run_command  # noqa: E402


def parse(argv):
    parser = argparse.ArgumentParser(prog='flips.py', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('run', metavar='RUN', help='run directory')
    parser.add_argument('file', metavar='FILE', help='source text, a line a sentence')
    parser.add_argument('--batch-sizes', type=positive_int, nargs='+', default=[1, 7, 32], metavar='N',
                        help='the first one is what the others are compared with (default: 1 7 32)')
    parser.add_argument('--beam-width', type=positive_int, default=1, metavar='K', help='(default: %(default)s)')
    parser.add_argument('--threads', type=non_negative_int, default=0, metavar='N',
                        help="0: as in the run's settings")
    return parser.parse_args(argv)


def flips(some, others, greedy):
    """[(number of the text, token, margin)] of the texts whose best hypotheses differ, both counted from 1.

    For greedy search the margin is that of the first token that differs, the smaller one of the two outputs. For beam
    search it is the difference of the two rankings, since the margins of tokens do not decide there.
    """
    different = []
    for number, (one, other) in enumerate(zip(some, others), 1):
        if one.tokens != other.tokens:
            pairs = zip(one.tokens + ['</s>'], other.tokens + ['</s>'])
            step = next(t for t, (first, second) in enumerate(pairs) if first != second)
            margin = min(one.margins[step], other.margins[step]) if greedy else abs(one.ranking - other.ranking)
            different.append((number, step + 1, margin))
    return different


def main(argv):
    options = parse(argv)
    texts = list(read_lines(options.file))
    from translator import Translator
    translator = Translator.load(options.run, options.threads)
    outputs = {size: [best for best, in translator.translate(texts, size, beam_width=options.beam_width)]
               for size in options.batch_sizes}
    first, *rest = options.batch_sizes
    for size in rest:
        found = flips(outputs[first], outputs[size], options.beam_width == 1)
        print('%d of %d outputs differ between batches of %d and %d' % (len(found), len(texts), first, size))
        for number, token, margin in found:
            print('line %d, token %d, margin %.2g' % (number, token, margin))
            print('  %s\n  %s' % (outputs[first][number - 1].text, outputs[size][number - 1].text))


if __name__ == '__main__':
    run_command(main, 'flips.py')
