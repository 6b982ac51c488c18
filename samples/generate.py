#!/usr/bin/env python3
"""Writes the three sample corpora, or checks that the files in this folder are those that it writes.

    python samples/generate.py [DIR]      write all files into DIR (default: the folder of this script)
    python samples/generate.py --check    exit 1 and name the first file that differs
    python samples/generate.py --train-alignments FILE      write only the gold alignments of translate/train.tsv

Standard library only, Python 3.6 or later. The output is the same on every machine.
"""
import argparse
import collections
import os
import sys

import grammar_answer
import grammar_summarise
import grammar_translate

HERE = os.path.dirname(os.path.abspath(__file__))


def lines(rows):
    return ''.join(row + '\n' for row in rows)


def alignments(sentences):
    """Gold alignments in Pharaoh format, a line for each sentence."""
    return lines(' '.join('%d-%d' % link for link in sentence.alignment) for sentence in sentences)


def files():
    """{path inside the folder: text} of every generated file."""
    texts = collections.OrderedDict()
    translate = grammar_translate.parts()
    for part in ('train', 'val', 'test'):
        texts['translate/%s.tsv' % part] = lines(
            '%s\t%s' % (sentence.source, sentence.target) for sentence in translate[part])
    texts['translate/test.align'] = alignments(translate['test'])
    texts['sentences.txt'] = lines(grammar_translate.README_SENTENCES)
    for name, grammar in (('summarise', grammar_summarise), ('answer', grammar_answer)):
        corpus = grammar.parts()
        for part in ('train', 'val', 'test'):
            texts['%s/%s.tsv' % (name, part)] = lines('%s\t%s' % pair[:2] for pair in corpus[part])
    return texts


def main(arguments=None):
    parser = argparse.ArgumentParser(description='Writes the three sample corpora.')
    parser.add_argument('folder', nargs='?', default=HERE, metavar='DIR',
                        help='folder to write to (default: %(default)s)')
    parser.add_argument('--check', action='store_true',
                        help='write nothing; exit 1 and name the first file that differs')
    parser.add_argument('--train-alignments', metavar='FILE',
                        help='write only the gold alignments of translate/train.tsv, for train.py --alignments')
    options = parser.parse_args(arguments)
    if options.train_alignments:
        with open(options.train_alignments, 'w') as file:
            file.write(alignments(grammar_translate.parts()['train']))
        return 0
    for name, text in files().items():
        path = os.path.join(options.folder, *name.split('/'))
        data = text.encode('utf-8')
        if options.check:
            try:
                with open(path, 'rb') as file:
                    same = file.read() == data
            except FileNotFoundError:
                same = False
            if not same:
                print('%s differs from what this script writes: run python samples/generate.py' % path, file=sys.stderr)
                return 1
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'wb') as file:
                file.write(data)
    return 0


if __name__ == '__main__':
    sys.exit(main())
