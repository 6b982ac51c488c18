"""Writes a parallel text of any size, to measure the cost of a large corpus.

    python benchmarks/generate_corpus.py --pairs 5000000 big      # big.source and big.target, 0.6 GB

The words are numbers in letters. Their frequencies follow Zipf's law over a vocabulary that keeps growing, as in real
text; a source has 3 to 20 words, its target the same words, mapped one to one and reversed in groups of three. The same
arguments give the same bytes.
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import command_line  # noqa: E402,F401  first: sets what NumPy reads when it is imported
import numpy as np  # noqa: E402

CHUNK = 20000  # pairs written at a time
SYLLABLES = [consonant + vowel for consonant in 'bdfgklmnprstvz' for vowel in 'aeiou']


def word(number, ending):
    """The number written in base 70 with syllables as digits."""
    syllables = []
    while number or not syllables:
        number, digit = divmod(number, len(SYLLABLES))
        syllables.append(SYLLABLES[digit])
    return ''.join(syllables) + ending


def pairs(count, seed):
    """Generator of (source, target) lines."""
    random = np.random.RandomState(seed)
    for start in range(0, count, CHUNK):
        lengths = random.randint(3, 21, min(CHUNK, count - start))
        # P(rank > x) = x ^ -0.5 in the tail: new words appear throughout the text.
        ranks = np.minimum(random.pareto(.5, lengths.sum()) * 10, 1e9).astype('i8').tolist()
        begin = 0
        for length in lengths.tolist():
            numbers = ranks[begin:begin + length]
            begin += length
            turned = [number for i in range(0, length, 3) for number in numbers[i:i + 3][::-1]]
            yield ' '.join(word(number, '') for number in numbers), ' '.join(word(number, 'n') for number in turned)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('path', help='beginning of the two file names')
    parser.add_argument('--pairs', type=int, default=1000000)
    parser.add_argument('--seed', type=int, default=1)
    options = parser.parse_args(argv)
    names = [options.path + ending for ending in ('.source', '.target')]
    with open(names[0], 'w', encoding='ascii') as source_file, open(names[1], 'w', encoding='ascii') as target_file:
        for source, target in pairs(options.pairs, options.seed):
            source_file.write(source + '\n')
            target_file.write(target + '\n')


if __name__ == '__main__':
    main(sys.argv[1:])
