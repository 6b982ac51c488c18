"""The attention of one step of `decoder`, forward and backward, over all positions or over a window alone.

`kind` and `inputs` are the `Kind` and `Inputs` of `decoder`. Letters as there; n source positions that a step
sees: all S, or with `kind.windowed` the 2 W + 1 of a window.
"""
import collections

import tensorflow as tf

from attention import gaussian_factors, masked_softmax
from kernels.attention_blocks import additive_step, additive_step_gradient
from kernels.attention_windows import add_rows

Seen = collections.namedtuple('Seen', 'memory keys inside distance places')
Seen.__doc__ = """What one step sees.

memory: encoder states `(B, n, Dm)`. keys: `(B, n, D)`, or `(n, B, U)` of the additive score. inside: which positions
count, booleans `(B, n)`. distance: s - p_t `(B, n)`, `None` where global. places: of a window, positions in the rows of
`(B S, D)`, int32 `(B, n)`, else `None`.
"""


def seen_by(kind, inputs, time, centre):
    """The `Seen` of the step at `time`; `centre` is the p_t `(B, 1)` of eq. 9, or `None`."""
    if not kind.windowed:
        inside, distance = inputs.valid > 0.5, None
        if kind.alignment != 'global':
            distance = tf.cumsum(inputs.valid, axis=1) - 1. - (time if centre is None else centre)
            inside &= tf.abs(distance) <= kind.window
        return Seen(inputs.memory, inputs.keys, inside, distance, None)
    order, counts = inputs.order
    batch, length = tf.shape(order)[0], tf.shape(order)[1]
    if centre is None:
        centre = tf.fill(tf.stack([batch, 1]), time)
    ranks = tf.cast(tf.ceil(centre - kind.window), tf.int32) + tf.range(2 * kind.window + 1)            # (B, n)
    distance = tf.cast(ranks, centre.dtype) - centre
    inside = (ranks >= 0) & (ranks < counts) & (tf.abs(distance) <= kind.window)
    ranks = tf.clip_by_value(ranks, 0, length - 1) + length * tf.range(batch)[:, None]
    places = tf.gather(tf.reshape(order, [-1]), ranks)
    memory, keys = [tf.reshape(x, [-1, x.shape[2].value]) for x in (inputs.memory, inputs.keys)]
    keys = tf.gather(keys, tf.transpose(places) if kind.additive else places)
    return Seen(tf.gather(memory, places), keys, inside, distance, places)


def centre_of(inputs, sigmoid):
    """Eq. 9: p_t `(B, 1)` from its sigmoid."""
    return tf.reduce_sum(inputs.valid, 1, keepdims=True) * sigmoid


def attention_step(kind, inputs, query, time):
    """Returns the context `(B, Dm)`, and what the gradient needs: softmax `(B, S)`, and for eq. 9 its sigmoid."""
    kept, centre = [], None
    if kind.alignment == 'predictive':
        hidden = tf.tanh(tf.matmul(query, inputs.position_kernel[0]))
        kept = [tf.sigmoid(tf.matmul(hidden, inputs.position_score_kernel[0]))]                         # (B, 1)
        centre = centre_of(inputs, kept[0])
    seen = seen_by(kind, inputs, time, centre)
    if kind.additive:
        projected = tf.matmul(query, inputs.query_kernel[0])
        scores = tf.transpose(additive_step(projected, seen.keys, inputs.score_kernel[0])[0])
    else:
        scores = tf.matmul(seen.keys, query[:, :, None])[:, :, 0]
    softmax = weights = masked_softmax(scores, seen.inside)[0]
    if kept:
        weights = softmax * gaussian_factors(seen.distance, kind.window)
    return tf.matmul(weights[:, None], seen.memory)[:, 0], [softmax] + kept


def first_sums(kind, inputs):
    """Zeros, for what the gradient adds up over the steps: of keys and v of the additive score; in windows, keys too,
    and encoder states. All other gradients of keys and encoder states are products after the loop."""
    sums = [tf.zeros_like(inputs.keys)] if kind.additive or kind.windowed else []
    sums += [tf.zeros_like(inputs.score_kernel[0])] if kind.additive else []
    sums += [tf.zeros_like(inputs.memory)] if kind.windowed else []
    return [tf.reshape(x, [-1, x.shape[2].value]) if kind.windowed and len(x.shape) == 3 else x for x in sums]


def attention_step_gradient(kind, inputs, d_context, slices, sums, query, time):
    """One step back, with c = sum_s w_s m_s, w = a g, a the softmax of the scores and g the Gaussian of eq. 10:

        dw_s = dc m_s      da = g dw      ds = a (da - sum_s a_s da_s)      dp = sum_s dw_s w_s 4 (s - p) / W^2

    and from ds to the query through h . k or `additive_step_gradient`, from dp through eq. 9.

    # Arguments
        slices: softmax, projected query of the additive score, sigmoid and hidden layer of eq. 9; those that exist.
        sums: those of `first_sums` so far.
        query: the query of the step `(B, D)`. time: its t.

    # Returns
        Gradient of the query, the sums, and what the kernels' gradients need of the step.
    """
    softmax, slices = slices[0], slices[1:]
    projected, slices = (slices[0], slices[1:]) if kind.additive else (None, slices)
    seen = seen_by(kind, inputs, time, centre_of(inputs, slices[0]) if kind.alignment == 'predictive' else None)
    d_softmax = tf.matmul(seen.memory, d_context[:, :, None])[:, :, 0]                                  # (B, n)
    d_query, weights, needed = 0., softmax, []
    if kind.alignment == 'predictive':
        sigmoid, hidden = slices
        gaussian = gaussian_factors(seen.distance, kind.window)
        weights = softmax * gaussian
        d_centre = tf.reduce_sum(d_softmax * weights * seen.distance, 1, keepdims=True) * (4. / kind.window ** 2)
        d_score = d_centre * centre_of(inputs, sigmoid) * (1. - sigmoid)                                # (B, 1)
        d_hidden = tf.matmul(d_score, inputs.position_score_kernel[0], transpose_b=True) * (1. - tf.square(hidden))
        d_query = tf.matmul(d_hidden, inputs.position_kernel[0], transpose_b=True)
        d_softmax, needed = d_softmax * gaussian, [d_score, d_hidden]
    d_scores = softmax * (d_softmax - tf.reduce_sum(softmax * d_softmax, 1, keepdims=True))
    sums = list(sums)
    if kind.windowed:
        sums[-1] = add_rows(sums[-1], seen.places, weights[:, :, None] * d_context[:, None])
    if not kind.additive:
        d_query += tf.matmul(d_scores[:, None], seen.keys)[:, 0]
        if kind.windowed:
            sums[0] = add_rows(sums[0], seen.places, d_scores[:, :, None] * query[:, None])
        return d_query, sums, [weights, d_scores] + needed
    _, e = additive_step(projected, seen.keys, inputs.score_kernel[0])
    d_projected, d_keys, d_kernel = additive_step_gradient(
        tf.transpose(d_scores), e, inputs.score_kernel[0], tf.shape(seen.keys))
    d_query += tf.matmul(d_projected, inputs.query_kernel[0], transpose_b=True)
    sums[0] = add_rows(sums[0], tf.transpose(seen.places), d_keys) if kind.windowed else sums[0] + d_keys
    sums[1] += d_kernel
    return d_query, sums, [weights, d_projected] + needed
