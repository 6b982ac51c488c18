"""Counts the lines of a text that a tokeniser's round trip changes, with and without spacing marks.

    python benchmarks/round_trip.py FILE --tokenizer word
    python benchmarks/round_trip.py FILE.tsv --tokenizer chinese --column 2 --show 5
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from command_line import run_command  # noqa: E402
from text.spacing_marks import MarkingTokenizer  # noqa: E402
from text.text_files import read_lines  # noqa: E402
from text.tokenizers import MARKED, make_tokenizer  # noqa: E402


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('file', help='text, plain or .gz')
    parser.add_argument('--tokenizer', choices=MARKED, default='word')
    parser.add_argument('--column', type=int, default=1, help='tab-separated column, from 1')
    parser.add_argument('--show', type=int, default=0, metavar='N', help='print the first N lines that change')
    options = parser.parse_args(argv)
    texts = [' '.join(line.split('\t')[options.column - 1].split()) for line in read_lines(options.file)]
    plain = make_tokenizer(options.tokenizer)
    marking = MarkingTokenizer(plain)
    for name, tokenizer in (('without marks', plain), ('with marks', marking)):
        changed = [(text, again) for text, again in (
            (text, tokenizer.detokenize(tokenizer.tokenize(text))) for text in texts) if text != again]
        print('%s: %d of %d lines differ' % (name, len(changed), len(texts)))
        for text, again in changed[:options.show]:
            print('  %s\n> %s' % (text, again))
    tokens = [(token, word) for text in texts for token, word in zip(marking.tokenize(text), plain.tokenize(text))]
    print('%d of %d tokens have a mark' % (sum(token != word for token, word in tokens), len(tokens)))


if __name__ == '__main__':
    run_command(main, 'round_trip.py')
