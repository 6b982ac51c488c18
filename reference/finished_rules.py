"""Other rules for the finished hypotheses of a beam, and sentences whose outputs tell the rules apart. NumPy alone.

A port with another rule gives the same outputs for most sentences. A reference set therefore holds sentences for which
each of these rules gives other outputs than ours.
"""
from collections import OrderedDict
import itertools

import numpy as np

from reference.numpy_model import NumpyModel
from text.vocabulary import SPECIALS

DRAWS, SHORTEST, LONGEST = 60, 3, 8
MARGIN = 1e-3       # of two rankings: rounding must not exchange hypotheses


class Refilled(NumpyModel):
    """A finished hypothesis leaves its place to a live one: the beam always has K live hypotheses."""

    def next_beam(self, candidates, finished, beam_width):
        live = [one for one in candidates if one.ranking is None][:beam_width]
        return live, finished + [one for one in candidates[:beam_width] if one.ranking is not None]


class Competing(NumpyModel):
    """A finished hypothesis competes with live ones by log p, and they can push it out of the beam."""

    def next_beam(self, candidates, finished, beam_width):
        kept = sorted(candidates + finished, key=lambda one: -sum(one.log_probabilities))[:beam_width]
        return [one for one in kept if one.ranking is None], [one for one in kept if one.ranking is not None]


RULES = OrderedDict([('keeps its place', NumpyModel), ('is replaced', Refilled), ('competes', Competing)])


def results_by_rule(entry, parameters, source, limits, copied=None):
    """Returns for each rule the hypotheses of each source `(B, S)`, as `NumpyModel.beam` does.

    # Arguments
        entry: dict, the entry of a manifest. parameters: weights by neutral name.
        limits: maximum number of tokens of each output, `(B,)`. copied: as `NumpyModel.forward` takes it.
    """
    return OrderedDict((name, kind(entry['model'], parameters, entry.get('separators')).beam(
        source, limits, copied=copied, **entry['beam'])) for name, kind in RULES.items())


def pairs_told_apart(results):
    """Returns the pairs of rules that give other outputs for a sentence, with clear margins, as a set of two names.

    `results`: for each rule the hypotheses of the sentence.
    """
    for best in results.values():
        rankings = [one.ranking for one in best]
        if len(rankings) > 1 and min(-np.diff(rankings)) < MARGIN:
            return set()
    ids = OrderedDict((name, [one.ids for one in best]) for name, best in results.items())
    return {(one, other) for one, other in itertools.combinations(ids, 2) if ids[one] != ids[other]}


def draw_texts(vocabulary, detokenize, count=DRAWS, seed=0):
    """Yields texts of random words of a source vocabulary."""
    words, random = [token for token in vocabulary if token not in SPECIALS], np.random.RandomState(seed)
    for _ in range(count if words else 0):
        length = random.randint(SHORTEST, LONGEST + 1)
        yield detokenize([words[i] for i in random.randint(0, len(words), length)])


def telling_texts(texts, results_of):
    """Returns the first texts that together tell each pair of rules apart, and the pairs that no text does.

    # Arguments
        texts: iterable of strings. results_of: function of a text that returns its hypotheses by rule.
    """
    pairs, chosen, told = list(itertools.combinations(RULES, 2)), [], set()
    for text in texts:
        more = pairs_told_apart(results_of(text)) - told
        if more:
            chosen.append(text)
            told |= more
        if len(told) == len(pairs):
            break
    return chosen, [pair for pair in pairs if pair not in told]
