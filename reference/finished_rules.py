"""Other rules for the finished hypotheses of a beam, and sentences whose outputs tell the rules apart. NumPy only.

A port with another rule gives the same outputs for most sentences. A reference set therefore holds sentences for which
each of these rules gives other outputs than ours.
"""
from collections import OrderedDict
import itertools

import numpy as np

from reference.numpy_memories import model_of
from reference.numpy_search import beam, keep_place
from text.vocabulary import SPECIALS

DRAWS, SHORTEST, LONGEST = 60, 3, 8
MARGIN = 1e-3       # of two rankings: rounding must not exchange hypotheses


def refill(candidates, finished, beam_width):
    """As `keep_place`; a finished hypothesis leaves its place to a live one, so that K hypotheses are live."""
    live = [one for one in candidates if one.ranking is None][:beam_width]
    return live, finished + [one for one in candidates[:beam_width] if one.ranking is not None]


def compete(candidates, finished, beam_width):
    """As `keep_place`; a finished hypothesis competes with live ones by log p, which can push it out of the beam."""
    kept = sorted(candidates + finished, key=lambda one: -sum(one.log_probabilities))[:beam_width]
    return [one for one in kept if one.ranking is None], [one for one in kept if one.ranking is not None]


RULES = OrderedDict([('keeps its place', keep_place), ('is replaced', refill), ('competes', compete)])


def results_by_rule(entry, parameters, source, limits, copied=None):
    """Returns for each rule the hypotheses of each source `(B, S)`, as `numpy_search.beam` does.

    # Arguments
        entry: dict, the entry of a manifest. parameters: weights by neutral name.
        limits: maximum number of tokens of each output, `(B,)`. copied: as `NumpyModel.forward` takes it.
    """
    model = model_of(entry['model'], parameters, entry.get('separators'))
    return OrderedDict((name, beam(model, source, limits, copied=copied, next_beam=rule, **entry['beam']))
                       for name, rule in RULES.items())


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
