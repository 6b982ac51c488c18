"""The share of tokens without an id in each part of a run's text: many mean another tokeniser or vocabulary."""
import collections
import itertools

from command_line import UserError, tell
from text import corpus
from text.corpus_builder import encode_pairs
from text.vocabulary import UNK

SAMPLED = 2000  # pairs of a part whose share of <unk> is measured
MANY = .2       # share of <unk> among the source or target tokens above which a warning appears


def tell_shares(settings, text, paths):
    """Tells the shares of <unk> in each part of the text, estimated from a sample; warns if training has many."""
    corpora = collections.OrderedDict([('training', text.train), ('validation', text.validation)])
    if 'test' in paths:
        try:
            pairs = list(itertools.islice(corpus.read_pairs(paths['test'], settings.format, settings.on_bad_utf8),
                                          SAMPLED))
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


def share_of(sequences):
    """The share of <unk> in lists of ids."""
    ids = [i for sequence in sequences for i in sequence]
    return ids.count(UNK) / float(max(1, len(ids)))
