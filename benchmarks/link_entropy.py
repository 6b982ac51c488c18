"""How much of the target the source tells, token by token: compares tokenisers of a text without any training.

    python benchmarks/link_entropy.py --train my.en my.zh --source-tokenizer word --target-tokenizer chinese

The options are those of train.py. eflomal aligns the tokens of the run (make align). Entropies are in nats: of a target
token, and of a target token whose linked source token is known.
"""
import collections
import math
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import train  # noqa: E402
from command_line import run_command  # noqa: E402
from settings import AUTO, check, resolve_settings  # noqa: E402
from text import corpus, preparation  # noqa: E402
from text.vocabulary import UNK  # noqa: E402


def entropy(counts, totals):
    """The mean of -log(count / total), each weighted by its count."""
    return -sum(count * math.log(count / float(total)) for count, total in zip(counts, totals)) / sum(counts)


def main(argv):
    options = train.parse(argv)
    settings = resolve_settings(options.given, options.preset)
    settings.alignments, settings.guided_alignment = AUTO, 1.
    check(settings)
    text = preparation.prepare(settings, corpus.corpus_paths(settings)).train
    targets, sources, links = collections.Counter(), collections.Counter(), collections.Counter()
    for index in range(len(text)):
        source, target = text.record(index)[:2]
        targets.update(target)
        links.update((source[i], target[j]) for i, j in text.alignments[index])
        sources.update(source[i] for i, _ in text.alignments[index])
    tokens = sum(targets.values())
    print('%.1f target tokens a line, %.1f %% unknown; entropy of a token %.2f, given its source token %.2f' % (
        tokens / float(len(text)), 100. * targets[UNK] / tokens,
        entropy(targets.values(), [tokens] * len(targets)),
        entropy(links.values(), [sources[source] for source, _ in links])))


if __name__ == '__main__':
    run_command(main, 'link_entropy.py')
