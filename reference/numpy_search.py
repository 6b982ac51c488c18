"""Greedy and beam search over a `numpy_model.NumpyModel`: the outputs that the search in the graph must find.

Letters in shapes as in `numpy_model.py`.
"""
from collections import namedtuple

import numpy as np

from reference.numpy_model import END, PAD, START, log_softmax

GreedyResult = namedtuple('GreedyResult', 'ids lengths log_probabilities weights margins')
GreedyResult.__doc__ = """What `greedy` returns.

ids (B, T) without <s>, <pad> after </s>; lengths (B,) with </s>; log_probabilities (B, T) of each token in nats;
weights (B, T, S); margins (B, T), the logit of the token minus that of the runner-up. All are 0 after the end.
"""

Hypothesis = namedtuple('Hypothesis', 'ids log_probabilities weights margins ranking states')
Hypothesis.__doc__ = """What `beam` returns.

Lists with one entry for each token: ids without <s>; log_probabilities in nats; weights `(S,)`; margins, the logit of
the token minus that of the best other allowed token. `ranking` sorts hypotheses; `states` follow the last token.
"""


def greedy(model, source, max_lengths, copied=None):
    """Takes the most probable token at each step until </s> or `max_lengths` `(B,)` tokens; a `GreedyResult`."""
    source, max_lengths = np.asarray(source, np.int64), np.asarray(max_lengths)
    memory, states = model.start(source, copied)
    tokens, lengths, steps = np.full(len(source), START), np.zeros(len(source), np.int64), []
    running = max_lengths > 0
    while running.any():
        stages, states = model.step(tokens, states, memory)
        logits = stages['logits'].copy()
        logits[:, [PAD, START]] = -np.inf                                       # never an output
        order = np.argsort(-logits, axis=-1, kind='mergesort')                  # stable: the lower id wins a tie
        best, second = [np.take_along_axis(logits, order[:, rank:rank + 1], -1)[:, 0] for rank in (0, 1)]
        log_probabilities = np.take_along_axis(log_softmax(stages['logits']), order[:, :1], -1)[:, 0]
        tokens = np.where(running, order[:, 0], PAD)
        weights = stages.get('weights', np.zeros(source.shape))
        steps.append((tokens, running * log_probabilities, running[:, None] * weights, running * (best - second)))
        lengths = lengths + running
        running = running & (tokens != END) & (lengths < max_lengths)
    ids, log_probabilities, weights, margins = [np.stack(values, axis=1) for values in zip(*steps)]
    return GreedyResult(ids, lengths, log_probabilities, weights, margins)


def keep_place(candidates, finished, beam_width):
    """Returns the live and the finished hypotheses after a step; a finished one keeps its place, and the beam shrinks.

    `candidates` are the continuations, most probable first; those that end have a ranking.
    """
    kept = candidates[:beam_width - len(finished)]
    return [one for one in kept if one.ranking is None], finished + [one for one in kept if one.ranking is not None]


def beam(model, source, max_lengths, beam_width, n_best=1, length_penalty=0., coverage_penalty=0., min_length=0,
         no_repeat_ngram=0, copied=None, next_beam=keep_place):
    """Beam search, one source sentence after the other.

    Each step keeps the most probable continuations of all live hypotheses: the beam width minus the number of
    hypotheses that have finished, by </s> or at their limit. The search ends when no hypothesis is alive, or when
    no live one can rank among the `n_best` any more.

    # Arguments
        source: ids `(B, S)`. max_lengths: maximum number of tokens of each output with </s>, `(B,)`.
        length_penalty, coverage_penalty: see `ranking`. min_length: number of tokens before </s> is allowed.
        no_repeat_ngram: no n-gram of this length occurs twice in an output; 0 allows all. copied: as `forward`.
        next_beam: function such as `keep_place`; `finished_rules` has others.

    # Returns
        For each sentence a list of at most `n_best` `Hypothesis`, best first.
    """
    results, source = [], np.asarray(source, np.int64)
    for number, (row, limit) in enumerate(zip(source, max_lengths)):
        memory, states = model.start(row[None], None if copied is None else copied[number:number + 1])
        live, finished = [Hypothesis([], [], [], [], None, states)] if limit > 0 else [], []
        while live:
            candidates = []
            for prefix in live:
                stages, states = model.step(np.array(prefix.ids[-1:] or [START]), prefix.states, memory)
                weights = stages['weights'][0] if 'weights' in stages else np.zeros(len(row))
                log_p, logits = log_softmax(stages['logits'][0]), stages['logits'][0].copy()
                logits[forbidden(prefix.ids, min_length, no_repeat_ngram)] = -np.inf
                if no_repeat_ngram and np.all(logits == -np.inf):
                    logits[END] = stages['logits'][0, END]
                highest = np.sort(logits)[::-1]
                for token in np.argsort(-logits, kind='mergesort')[:2 * beam_width]:    # no rule keeps more of them
                    if logits[token] == -np.inf:
                        break
                    margin = logits[token] - highest[1 if logits[token] == highest[0] else 0]
                    candidates.append(Hypothesis(
                        prefix.ids + [int(token)], prefix.log_probabilities + [log_p[token]],
                        prefix.weights + [weights], prefix.margins + [margin], None, states))
            candidates.sort(key=lambda candidate: -sum(candidate.log_probabilities))
            candidates = [candidate._replace(ranking=ranking(
                candidate, memory.mask[0], length_penalty, coverage_penalty)) if candidate.ids[-1] == END or len(
                    candidate.ids) >= limit else candidate for candidate in candidates]
            live, finished = next_beam(candidates, finished, beam_width)
            finished.sort(key=lambda hypothesis: -hypothesis.ranking)
            # The probability of a live hypothesis can only fall, and the divisor of its limit is the largest.
            bounds = [sum(prefix.log_probabilities) / length_divisor(limit, length_penalty) for prefix in live]
            if len(finished) >= n_best and bounds and finished[n_best - 1].ranking >= max(bounds):
                break
        results.append(finished[:n_best])
    return results


def forbidden(ids, min_length=0, no_repeat_ngram=0):
    """Returns the ids that must not follow `ids`: <pad>, <s>, an early </s>, and tokens that would repeat an n-gram."""
    excluded, n = {PAD, START}, no_repeat_ngram
    if len(ids) < min_length:
        excluded.add(END)
    if n:
        excluded.update(ids[i + n - 1] for i in range(len(ids) - n + 1) if ids[i:i + n - 1] == ids[len(ids) - n + 1:])
    return sorted(excluded)


def length_divisor(length, length_penalty):
    """Returns the divisor of log p for an output of `length` tokens with </s>: eq. 14 of Wu et al. (2016), or L."""
    return length if length_penalty == 'average' else ((5. + length) / 6.) ** length_penalty


def ranking(hypothesis, valid, length_penalty=0., coverage_penalty=0.):
    """Returns the sort key of hypotheses: log p(Y) / lp(Y) + coverage_penalty sum_s log(min(sum_t a_ts, 1)).

    `length_penalty` is a number alpha, lp = ((5 + L) / 6)^alpha, or `'average'`, lp = L. `valid` `(S,)` marks the
    tokens of the source. A token without attention counts as one with 1e-7.
    """
    value = sum(hypothesis.log_probabilities) / length_divisor(len(hypothesis.ids), length_penalty)
    if coverage_penalty:
        covered = np.clip(np.sum(hypothesis.weights, axis=0), 1e-7, 1.)                                 # (S,)
        value = value + coverage_penalty * np.sum(np.log(covered[valid]))
    return value
