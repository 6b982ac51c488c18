"""Attention from the equations of the papers, one pair of states at a time: what the attention tests compare with.

Nothing is shared with attention.py, and nothing is vectorised over batch, target or source. A masked row is not
masked here: its sentence is taken out of the padding, computed alone, and put back. Equation numbers are those of
Luong, Pham and Manning (2015), arXiv:1508.04025.
"""
import math

import numpy as np


def score(name, h_t, h_s, s, weights):
    """Eq. 7 and 8 for one decoder state `(Dq,)` and one encoder state `(Dm,)` at index s; `weights` by name."""
    if name == 'dot':
        value = np.dot(h_t, h_s)
    elif name == 'scaled_dot':
        value = np.dot(h_t, h_s) / math.sqrt(len(h_s))
    elif name == 'general':
        value = sum(h_t[i] * weights['kernel'][i, j] * h_s[j] for i in range(len(h_t)) for j in range(len(h_s)))
    elif name == 'location':
        value = np.dot(weights['kernel'][:, s], h_t)
    elif name in ('concat', 'additive'):
        v_a = weights['score_kernel'][:, 0]
        w_a = np.concatenate([weights['query_kernel'], weights['memory_kernel']]).T         # (U, Dq + Dm)
        inside = np.dot(w_a, np.concatenate([h_t, h_s]))
        if 'norm' in weights:
            v_a = weights['norm'] * v_a / math.sqrt(sum(x * x for x in v_a))
            inside = inside + weights['bias']
        value = np.dot(v_a, np.tanh(inside))
    return weights.get('factor', 1.) * value


def predicted_position(h_t, length, weights):
    """Eq. 9 for one decoder state and a sentence of `length` words."""
    hidden = np.tanh(np.dot(weights['position_kernel'].T, h_t))
    return length / (1. + math.exp(-np.dot(weights['position_score_kernel'][:, 0], hidden)))


def attention(name, memory, query, weights, mask=None, positions=None, alignment=None, window=None):
    """Context `(B, T, Dm)` and weights `(B, T, S)` of encoder states `(B, S, Dm)` and decoder states `(B, T, Dq)`.

    `mask` `(B, S)`; `positions` `(B, T)`; `alignment` is `None` (global), `'monotonic'` or `'predictive'`.
    """
    memory, query = np.asarray(memory, 'f8'), np.asarray(query, 'f8')
    weights = {key: np.asarray(value, 'f8') for key, value in weights.items()}
    alignments = np.zeros((len(memory), query.shape[1], memory.shape[1]))
    contexts = np.zeros((len(memory), query.shape[1], memory.shape[2]))
    for b in range(len(memory)):
        sentence = [s for s in range(memory.shape[1]) if mask is None or mask[b][s]]
        for t in range(query.shape[1]):
            h_t = query[b, t]
            if alignment == 'predictive':
                p_t = predicted_position(h_t, len(sentence), weights)
            elif alignment == 'monotonic':
                p_t = t if positions is None else positions[b][t]
            seen = [(word, s) for word, s in enumerate(sentence)
                    if alignment is None or p_t - window <= word <= p_t + window]
            scores = [score(name, h_t, memory[b, s], s, weights) for word, s in seen]
            powers = [math.exp(x - max(scores)) for x in scores]
            for (word, s), power in zip(seen, powers):
                a_ts = power / sum(powers)
                if alignment == 'predictive':
                    sigma = window / 2.
                    a_ts *= math.exp(-(word - p_t) ** 2 / (2. * sigma ** 2))                # eq. 10
                alignments[b, t, s] = a_ts
                contexts[b, t] += a_ts * memory[b, s]
    return contexts, alignments
