"""Warnings about the text of a run: many tokens without an id, columns in the other order, Chinese that has words."""
import collections
import itertools
import re

from command_line import UserError, tell
from text import corpus
from text.corpus_builder import encode_pairs
from text.vocabulary import UNK

SAMPLED = 2000  # pairs of a part whose share of <unk> is measured
MANY = .2       # share of <unk> among the source or target tokens above which a warning appears

MOST = .5       # share of <unk> on both sides of another part above which a warning appears

DIVIDED = .2    # share of Chinese characters before a space, among those before another one, of text divided by spaces
FEW = 20        # neighbours among Chinese characters that tell nothing yet
HAN = '[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]'
NEIGHBOURS = re.compile('%s(?=( ?)%s)' % (HAN, HAN))


def tell_divided(settings, pairs):
    """Warns of Chinese text that spaces divide into words already, if its tokeniser divides it again.

    # Arguments
        pairs: (source text, target text) of some lines.
    """
    for side, texts in zip(('source', 'target'), zip(*pairs[:SAMPLED])):
        name = getattr(settings, side + '_tokenizer')
        spaces = [space for text in texts for space in NEIGHBOURS.findall(text)]
        share = spaces.count(' ') / float(max(FEW, len(spaces)))
        if name in ('chinese', 'jieba') and share > DIVIDED:
            tell('warning: the %s text is divided by spaces already (%.0f %% of its Chinese characters have one before '
                 'the next), and %s divides it again: keep its words with --%s-tokenizer space, or remove the spaces'
                 % (side, 100. * share, name, side))


def tell_shares(settings, text, paths):
    """Tells the shares of <unk> in each part of the text, estimated from a sample; warns if training has many."""
    corpora = collections.OrderedDict([('training', text.train), ('validation', text.validation)])
    if 'test' in paths:
        try:
            pairs = list(itertools.islice(corpus.pairs_of_run(settings, paths['test']), SAMPLED))
        except UserError as error:      # training does not need it
            tell('warning: the test text cannot be read: %s' % error)
            pairs = []
        tokens = [[tokenizer.tokenize(pair[side]) for pair in pairs] for side, tokenizer in enumerate(text.tokenizers)]
        corpora['test'] = encode_pairs(*tokens, *text.vocabularies, settings.copy)
    shares = collections.OrderedDict()
    for part, pairs in corpora.items():
        sample = [pairs.record(index) for index in range(0, len(pairs), max(1, len(pairs) // SAMPLED))]
        if sample:
            shares[part] = [share_of(sequences) for sequences in list(zip(*sample))[:2]]
    tell('unknown tokens of source and target: %s' % ', '.join(
        '%s %.1f %% and %.1f %%' % (part, 100. * source, 100. * target) for part, (source, target) in shares.items()))
    for side, share in zip(('source', 'target'), shares['training']):
        if share > MANY:
            tell('warning: %.1f %% of the %s tokens are <unk>: check --%s-tokenizer, --%s-vocabulary and --min-count'
                 % (100 * share, side, side, side))
    for part in ('validation', 'test'):
        if min(shares.get(part, [0.])) > MOST and max(shares['training']) < MANY:
            tell('warning: %.1f %% and %.1f %% of the tokens of the %s text are <unk>, but few of the training text: '
                 'are source and target in the other order there, or is it another language?'
                 % (100. * shares[part][0], 100. * shares[part][1], part))


def tell_swapped(settings, pairs):
    """Warns of Chinese sources with targets of another script, if the tokenisers expect the opposite."""
    source, target = [sum(bool(re.search(HAN, text)) for text in texts) / float(len(texts))
                      for texts in zip(*pairs[:SAMPLED])]
    if (source > .9 and target < .1 and settings.target_tokenizer in ('chinese', 'jieba')
            and settings.source_tokenizer in ('space', 'word')):
        tell('warning: the source text is Chinese and the target text is not: --columns 2,1 swaps the columns of a '
             'table; to translate from Chinese, give --source-tokenizer chinese --target-tokenizer word')


def share_of(sequences):
    """The share of <unk> in lists of ids."""
    ids = [i for sequence in sequences for i in sequence]
    return ids.count(UNK) / float(max(1, len(ids)))
