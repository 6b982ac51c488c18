"""Greedy and beam search for `model.Seq2Seq`, as NumPy loops over its decoder step.

    from search import translate
    print(translate(model, bundle, ['where', 'is', 'the', 'book', '?'], beam_width=5)[0].tokens)

The formulas are those of docs/bundles.md: what is never chosen, limits, penalties, margins.
"""
from collections import namedtuple

from model import END, PAD, START, UNK     # before Keras: chooses the backend
from keras import ops, tree
import numpy as np

Hypothesis = namedtuple('Hypothesis', 'ids log_probabilities weights margins ranking')
Hypothesis.__doc__ = """Lists with one entry per token, `</s>` included: ids, log-probabilities in nats, attention
weights (S,), the logit of the token minus that of the best other allowed token. `ranking` orders hypotheses."""


def forbidden(ids, min_length, ngram):
    """Ids that are excluded after `ids`: `<pad>`, `<s>`, `</s>` before min_length, and what would repeat an n-gram."""
    excluded = {PAD, START} | ({END} if len(ids) < min_length else set())
    if ngram:
        excluded |= {ids[i + ngram - 1] for i in range(len(ids) - ngram + 1)
                     if ids[i:i + ngram - 1] == ids[len(ids) - ngram + 1:]}
    return sorted(excluded)


def length_divisor(length, penalty):
    """Wu et al. (2016), eq. 14: ((5 + L) / 6)^alpha; or L itself for the penalty 'average'."""
    return length if penalty == 'average' else ((5. + length) / 6.) ** penalty


def rank(hypothesis, valid, length_penalty, coverage_penalty):
    """log p(Y) / lp(Y) + beta sum_s log(min(sum_t a_ts, 1)); a source token without attention counts as 1e-7."""
    value = sum(hypothesis.log_probabilities) / length_divisor(len(hypothesis.ids), length_penalty)
    if coverage_penalty:
        value += coverage_penalty * np.log(np.clip(np.sum(hypothesis.weights, axis=0), 1e-7, 1.))[valid].sum()
    return value


def search(model, source, limit, beam_width=1, n_best=1, length_penalty=0., coverage_penalty=0., min_length=0,
           no_repeat_ngram=0, copied=None):
    """The best hypotheses for one source.

    # Arguments
        source: ids (S,). limit: the maximum number of tokens, `</s>` included. copied: ids (S,) of a model that copies.

    # Returns
        List of at most `n_best` `Hypothesis`, best first.
    """
    source = np.asarray(source)[None]
    # All steps have beam_width rows, of which the first are live: JAX compiles again for each new shape.
    look, states = model.start(np.repeat(source, beam_width, axis=0),
                               None if copied is None else np.repeat(np.asarray(copied)[None], beam_width, axis=0))
    live, finished = [Hypothesis([], [], [], [], None)] if limit > 0 else [], []
    while live:
        tokens = [(one.ids or [START])[-1] for one in live]
        stages, states = model.step(np.array(tokens + [PAD] * (beam_width - len(live))), states, look, len(live[0].ids))
        logits = ops.convert_to_numpy(stages['logits'])                             # (N, V) or (N, V + X)
        weights = (ops.convert_to_numpy(stages['weights']) if 'weights' in stages
                   else np.zeros((beam_width, source.size)))
        log_p = ops.convert_to_numpy(ops.log_softmax(stages['logits'], axis=-1))
        # Expand: every allowed continuation of every live hypothesis.
        candidates = []
        for row, one in enumerate(live):
            values = logits[row].copy()
            values[forbidden(one.ids, min_length, no_repeat_ngram)] = -np.inf
            if not np.isfinite(values).any():                                       # nothing is left: the sentence ends
                values[END] = logits[row, END]
            best = np.argsort(-values, kind='stable')[:max(beam_width, 2)]
            for token in best[values[best] > -np.inf][:beam_width]:
                margin = values[token] - values[best[1 if token == best[0] else 0]]
                candidates.append((row, Hypothesis(
                    one.ids + [int(token)], one.log_probabilities + [log_p[row, token]], one.weights + [weights[row]],
                    one.margins + [margin], None)))
        # A finished hypothesis keeps its place, so the beam has one live hypothesis less from then on.
        candidates.sort(key=lambda one: -sum(one[1].log_probabilities))
        kept, live, rows = candidates[:beam_width - len(finished)], [], []
        for row, one in kept:
            if one.ids[-1] == END or len(one.ids) >= limit:
                finished.append(one._replace(ranking=rank(one, source[0] != PAD, length_penalty, coverage_penalty)))
            else:
                live.append(one)
                rows.append(row)
        finished.sort(key=lambda one: -one.ranking)
        # Stop when no live hypothesis can rank among the n best: its probability only falls.
        hope = [sum(one.log_probabilities) / length_divisor(limit, length_penalty) for one in live]
        if len(finished) >= n_best and hope and finished[n_best - 1].ranking >= max(hope):
            break
        rows = np.array(rows + [0] * (beam_width - len(rows)), 'int32')
        states = tree.map_structure(lambda state: ops.take(state, rows, axis=0), states)
    return finished[:n_best]


Translation = namedtuple('Translation', 'tokens score alignment')


def translate(model, arrays, tokens, **options):
    """The best outputs for the tokens of one source.

    # Arguments
        arrays: those of the bundle, with its vocabularies. tokens: list of str, as the tokeniser of the run gives them.
        options: as for `search`; without `limit`, 2 S + 10 tokens.

    # Returns
        List of `Translation`: tokens without `</s>`, log-probability, alignment (T, S).
    """
    source, target = [arrays['vocabulary/' + side].tolist() for side in ('source', 'target')]
    index, known = {word: i for i, word in enumerate(source)}, {word: i for i, word in enumerate(target)}
    if model.settings['copy']:                                                      # names take the ids from V on
        names = [word for word in dict.fromkeys(tokens) if known.get(word, UNK) <= END]
        options['copied'] = [known.get(word, UNK) if known.get(word, UNK) > END else len(target) + names.index(word)
                             for word in tokens]
        target = target + names
    ids = [index.get(word, UNK) if index.get(word, UNK) > END else UNK for word in tokens]
    found = search(model, ids, options.pop('limit', 2 * len(ids) + 10), **options)
    results = []
    for one in found:
        words = [target[i] for i in one.ids if i != END]
        results.append(Translation(words, float(sum(one.log_probabilities)), np.array(one.weights)[:len(words)]))
    return results
