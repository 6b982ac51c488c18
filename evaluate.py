"""Scores a trained run on its validation or test text, or on any other text with known outputs.

    evaluate.py                                                 # the test part of the run trained last
    evaluate.py --run runs/x --split val
    evaluate.py --run runs/x --source a.de --target a.en --bleu-tokenize none
    evaluate.py --alignments samples/translate/test.align       # and how often the attention agrees with gold links
"""
import argparse
import json
import math
import time

import data
import metrics
import settings
from run_directory import RunDirectory, last_run
from settings import UserError, namespace, positive, thread_count


def parse(argv):
    parser = argparse.ArgumentParser(prog='evaluate.py', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--run', metavar='DIR', help='run directory (default: the one in runs/ trained last)')
    parser.add_argument('--split', choices=('val', 'test'), default='test',
                        help="which part of the run's own data (default: %(default)s)")
    parser.add_argument('--source', metavar='FILE', help='other source text, with --target')
    parser.add_argument('--target', metavar='FILE', help='the outputs known for --source')
    parser.add_argument('--alignments', metavar='FILE',
                        help='gold links of each pair, "i-j i-j": source token i to target token j, from 0')
    parser.add_argument('--bleu-tokenize', choices=('none', '13a', 'intl', 'zh', 'char'), default='13a',
                        help="sacreBLEU's tokeniser (default: %(default)s)")
    parser.add_argument('--by-length', metavar='N,N', type=edges,
                        help='also BLEU and perplexity by source length, bands that end at these numbers of tokens')
    parser.add_argument('--batch-size', type=positive, default=32, metavar='N', help='(default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='one JSON object in place of the table')
    parser.add_argument('--threads', type=thread_count, default=0, metavar='N', help="0: as in the run's settings")
    options = parser.parse_args(argv)
    if (options.source is None) != (options.target is None):
        parser.error('--source and --target go together')
    return options


def edges(text):
    numbers = [int(part) if part.isdigit() else 0 for part in text.split(',')]
    if sorted(set(numbers)) != numbers or numbers[0] < 1:
        raise argparse.ArgumentTypeError('%r: give rising numbers from 1, such as 10,20' % text)
    return numbers


def read_pairs(options, chosen):
    if options.source:
        return data.load_pairs([options.source, options.target])
    paths = data.corpus_paths(chosen)
    if options.split not in paths:
        raise UserError('the run has no %s text: name one with --source and --target, or choose another --split'
                        % options.split)
    return data.load_pairs(paths[options.split], chosen.on_bad_utf8)


def read_gold(options, pairs):
    gold = metrics.read_alignments(options.alignments)
    if len(gold) != len(pairs):
        raise UserError('%s: %d lines for %d pairs: give the links of just these pairs'
                        % (options.alignments, len(gold), len(pairs)))
    return gold


def scores(translator, pairs, gold, options):
    """List of (name, value, signature or unit) in the order in which they are shown."""
    started = time.time()
    hypotheses = [best for best, in translator.translate([source for source, _ in pairs], options.batch_size)]
    seconds = time.time() - started
    outputs, references = [one.text for one in hypotheses], [target for _, target in pairs]
    # A pair without source or target has no probability; the decoded metrics count it.
    scorable = [i for i, (source, target) in enumerate(pairs) if translator.encode(source) and target.strip()]
    forced = translator.score([pairs[i] for i in scorable], options.batch_size)
    values = [value for one in forced for value in one.log_probabilities]
    bleu = metrics.bleu(outputs, references, options.bleu_tokenize)
    rouge = metrics.rouge(outputs, references)
    rows = [('lines', len(pairs), ''),
            ('exact match', metrics.exact_match(outputs, references), ''),
            ('BLEU', bleu.score, bleu.signature),
            ('ROUGE-L', rouge['rougeL'], 'F1'),
            ('perplexity', metrics.perplexity(-math.fsum(values), len(values)), 'of the references, </s> included'),
            ('token accuracy', sum(margin > 0 for one in forced for margin in one.margins) / float(len(values)), ''),
            ('decoding', len(pairs) / max(seconds, 1e-9), 'lines/s, batches of %d' % options.batch_size)]
    if gold is not None:
        agreement = metrics.alignment_agreement([one.alignment for one in forced], [gold[i] for i in scorable])
        rows.append(('alignment agreement', agreement.share,
                     'of %d linked target tokens, forced decoding' % agreement.tokens))
    if options.by_length:
        nll = dict(zip(scorable, ((-math.fsum(one.log_probabilities), len(one.log_probabilities)) for one in forced)))
        for band in metrics.length_bands([len(translator.encode(source)) for source, _ in pairs], options.by_length):
            rows.append(('lines of %s' % band.label, len(band.indices), 'source tokens'))
            if len(band.indices):
                bleu = metrics.bleu([outputs[i] for i in band.indices], [references[i] for i in band.indices],
                                    options.bleu_tokenize)
                known = [nll[i] for i in band.indices if i in nll]
                rows.append(('BLEU of %s' % band.label, bleu.score, ''))
                if known:
                    rows.append(('perplexity of %s' % band.label, metrics.perplexity(*map(sum, zip(*known))), ''))
    return rows


def main(argv):
    options = parse(argv)
    path = options.run or last_run()
    # Whatever is wrong with the input is told before TensorFlow takes its seconds.
    pairs = read_pairs(options, namespace(RunDirectory.open(path).read_config()))
    if not any(source.strip() and target.strip() for source, target in pairs):
        raise UserError('%s: no pair has text on both sides: nothing can be scored' % (options.source or path))
    gold = read_gold(options, pairs) if options.alignments else None
    from translator import Translator
    rows = scores(Translator.load(path, options.threads), pairs, gold, options)
    if options.json:
        values = {name: value if math.isfinite(value) else None for name, value, _ in rows}
        print(json.dumps(dict(values, notes={name: note for name, _, note in rows if note})))
        return
    print(path)
    for name, value, note in rows:
        print(('%-20s %10s  %s' % (name, value if isinstance(value, int) else '%.4f' % value, note)).rstrip())


if __name__ == '__main__':
    settings.run_command(main, 'evaluate.py')
