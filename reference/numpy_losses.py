"""The losses of the model in plain NumPy, from the stages of `numpy_model.NumpyModel.forward`.

Equation numbers are those of See, Liu and Manning (2017), https://arxiv.org/abs/1704.04368; letters in shapes as in
`numpy_model.py`.
"""
import numpy as np

from reference.numpy_model import PAD, log_softmax

MINIMUM_WEIGHT = 1e-7  # of attention in the logarithm of guided alignment


def token_losses(logits, target, smoothing=0.):
    """(1 - e)(-log p_y) + e mean_v(-log p_v) of each valid target token in nats, `(B, T)`; 0 on padding.

    # Arguments
        logits: `(B, T, V)`.
        target: decoder output ids `(B, T)`: the tokens of the target and </s>, then 0.
        smoothing: e, the share of the probability spread evenly over the vocabulary.
    """
    log_p, target = log_softmax(logits), np.asarray(target, np.int64)
    target_log_p = np.take_along_axis(log_p, target[:, :, None], -1)[:, :, 0]
    each = -(1. - smoothing) * target_log_p                                                             # (B, T)
    if smoothing:
        each = each - smoothing * np.mean(log_p, axis=-1)
    return np.where(target != PAD, each, 0.)


def loss(logits, target, smoothing=0.):
    """Mean of `token_losses` over the valid tokens of the batch, in nats."""
    return np.sum(token_losses(logits, target, smoothing)) / np.count_nonzero(target)


def coverage_losses(weights, target):
    """sum_s min(a_ts, c_ts) of each valid target token, c_t the sum of the weights before t (eq. 10 and 12), `(B, T)`.

    Weights `(B, T, S)`, target as for `token_losses`; 0 on padding.
    """
    losses, before = np.zeros(weights.shape[:2]), np.zeros(weights[:, 0].shape)
    for t in range(weights.shape[1]):
        losses[:, t] = np.minimum(weights[:, t], before).sum(axis=-1)
        before = before + weights[:, t]
    return np.where(np.asarray(target) != PAD, losses, 0.)


def coverage_loss(weights, target):
    """Mean of `coverage_losses` over the valid tokens of the batch."""
    return np.sum(coverage_losses(weights, target)) / np.count_nonzero(target)


def guided_alignment_losses(weights, gold, valid, target):
    """-sum_s A_ts log a_ts of each valid target token, `(B, T)`; 0 on padding and without gold alignment.

    # Arguments
        weights: attention weights `(B, T, S)`. target: as for `token_losses`.
        gold: 1 for aligned tokens and 0 elsewhere, `(B, T, S)`; A is gold over its sum at the valid positions.
        valid: the positions that attention covers, `(B, S)`.
    """
    losses = np.zeros(weights.shape[:2])
    for row, step in zip(*np.nonzero(target)):
        linked = np.flatnonzero(gold[row, step] * valid[row])
        if len(linked):
            losses[row, step] = -np.mean(np.log(np.maximum(weights[row, step, linked], MINIMUM_WEIGHT)))
    return losses
