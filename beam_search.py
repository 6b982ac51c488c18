"""Greedy and beam search as one graph loop over a decoder step.

Letters in shapes: B sentences, K beam width, N hypotheses returned of each, V vocabulary, S and T source and output
length.
"""
import collections
import numbers

import numpy as np
import tensorflow as tf
from tensorflow.python.util import nest

from text.vocabulary import END, PAD, START
from command_line import UserError

Options = collections.namedtuple('Options', 'beam_width n_best length_penalty coverage_penalty min_length max_length '
                                 'max_length_ratio no_repeat_ngram')
Options.__new__.__defaults__ = (1, 1, 0., 0., 0, None, None, 0)
Options.__doc__ = """What the search is asked for.

beam_width: hypotheses K kept of each sentence; 1 is greedy search. n_best: most hypotheses returned, up to K.
length_penalty, coverage_penalty: a hypothesis Y of L tokens, `</s>` counted, is ranked by
log p(Y) / ((5 + L) / 6)^length_penalty + coverage_penalty * sum_s log(min(sum_t a_ts, 1)), eq. 14 of Wu et al. (2016),
https://arxiv.org/abs/1609.08144, s over the tokens of the source; length_penalty `'average'` ranks by log p(Y) / L.
min_length: tokens before which no `</s>` is chosen. max_length, max_length_ratio: most tokens of an output, `</s>`
counted, and the same as a multiple of the source's tokens; the smaller holds, and 2 S + 10 where both are `None`.
no_repeat_ngram: no n-gram of this length comes twice in an output; 0: any may.
"""

Found = collections.namedtuple('Found', 'ids lengths log_probabilities weights margins rankings')
Found.__doc__ = """What a search returns, as tensors: sentences in the order of the batch, hypotheses best first.

ids `(B, N, T)` without `<s>`, `<pad>` behind `</s>`; lengths `(B, N)` with `</s>`; log_probabilities `(B, N, T)` of
each token in nats, the model's own, whatever is not allowed; weights `(B, N, T, S)` of the attention; margins
`(B, N, T)`, the logit of the token less that of the best other one that is allowed; rankings `(B, N)`, the scores with
their penalties, minus infinity where a beam found no more hypotheses.
"""


def check(options):
    """Refuses `Options` that cannot be met.

    # Raises
        UserError
    """
    def refuse(unless, text, *values):
        if not unless:
            raise UserError(text % values)

    def number(value, least, whole=False):
        kind = numbers.Integral if whole else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool) and least <= value < float('inf')

    for name, least in (('beam_width', 1), ('n_best', 1), ('min_length', 0), ('max_length', 1), ('no_repeat_ngram', 0)):
        value = getattr(options, name)
        refuse(number(value, least, True) or name == 'max_length' and value is None,
               '%s must be a whole number from %d, not %r', name, least, value)
    refuse(options.n_best <= options.beam_width, 'n_best %d is more than a beam of width %d finds: widen the beam',
           options.n_best, options.beam_width)
    refuse(options.length_penalty == 'average' or number(options.length_penalty, 0),
           "length_penalty must be a number from 0 or 'average', not %r", options.length_penalty)
    refuse(number(options.coverage_penalty, 0), 'coverage_penalty must be a number from 0, not %r',
           options.coverage_penalty)
    ratio = options.max_length_ratio
    refuse(ratio is None or number(ratio, 0) and ratio > 0, 'max_length_ratio must be a number above 0, not %r', ratio)
    refuse(options.max_length is None or options.min_length <= options.max_length,
           'min_length %s is more than max_length %s: lower the one or raise the other', options.min_length,
           options.max_length)


def max_lengths(source_lengths, options):
    """Most tokens of each output, `</s>` counted, for sources of these lengths: int32 `(B,)`, at least 1."""
    source_lengths = np.asarray(source_lengths)
    limits = 2 * source_lengths + 10
    if options.max_length is not None or options.max_length_ratio is not None:
        limits = np.full(len(source_lengths), options.max_length or np.iinfo('i').max)
    if options.max_length_ratio is not None:
        # A product such as 0.29 * 100 falls just short of the whole number that is meant.
        relative = np.floor(options.max_length_ratio * source_lengths + 1e-6)
        limits = np.minimum(limits, np.maximum(relative, 1))
    return np.minimum(limits, np.iinfo('i').max).astype('i')


def search(step, states, max_lengths, options=Options(), source_mask=None):
    """The best outputs that a decoder step gives: by `greedy` search, or by `beam` search for a `beam_width` above 1.

    # Arguments
        step: function of tokens `(A, K)`, states (list of `(A, K, width)`) and rows `(A,)`, the sentences of the batch
            that still go on, to logits `(A, K, V)`, new states and weights `(A, K, S)`.
        states: list of tensors `(B, 1, width)`.
        max_lengths: most tokens of each output, `</s>` counted, int32 `(B,)`, not all 0.
        options: `Options`; what it says of the greatest length is not looked at here.
        source_mask: booleans `(B, S)`, true on the tokens of the source; the coverage penalty needs it.

    # Returns
        `Found`.
    """
    return (greedy if options.beam_width == 1 else beam)(step, states, max_lengths, options, source_mask)


def greedy(step, states, max_lengths, options=Options(), source_mask=None):
    """Takes the most probable allowed token at each step until every sentence has ended. Arguments as for `search`."""
    batch, real = tf.shape(max_lengths)[0], states[0].dtype

    def advance(time, rows, limits, token, states, history):
        logits, states, weights = step(token, states, rows)
        best, ids = [x[:, 0] for x in candidates(logits, time, history, options, 2)]                    # (A, 2)
        given = best[:, :1] - tf.reduce_logsumexp(logits, axis=2)
        token = ids[:, :1]
        if options.no_repeat_ngram:
            history = tf.concat([history, token[:, :, None]], 2)
        going = tf.not_equal(token[:, 0], END) & (time + 1 < limits)
        return going, [limits, token, states, history], [token, given, best[:, :1] - best[:, 1:], weights]

    steps, (ids, given, margins, weights) = over_steps(
        advance, max_lengths > 0,
        [max_lengths, tf.fill([batch, 1], START), states,
         tf.fill([batch, 1, 1], START) if options.no_repeat_ngram else ()],
        [(tf.int32, [1]), (real, [1]), (real, [1]), (real, [1, None])])
    lengths = steps[:, None]                                                                            # (B, 1)
    ids, given, margins, weights = [by_sentence(x, lengths) for x in (ids, given, margins, weights)]
    rankings = penalised(tf.reduce_sum(given, 2), lengths, tf.reduce_sum(weights, 2), options, source_mask)
    return Found(ids, lengths, given, weights, margins, rankings)


def beam(step, states, max_lengths, options, source_mask=None):
    """Goes on with the K most probable continuations of all live hypotheses. Arguments as for `search`.

    A hypothesis that takes `</s>`, or comes to its limit, is finished: it is ranked and keeps its place, so that there
    is a live one less from then on, and width 1 is greedy search. A sentence is done when no hypothesis is alive, or
    none that is can come among its n best any more. The first step has one hypothesis of each sentence.
    """
    width, batch, real = options.beam_width, tf.shape(max_lengths)[0], states[0].dtype

    def advance(time, rows, limits, live, tokens, states, history, coverage, finished):
        sentences, places = grid(tf.shape(rows)[0], width)                                              # (A, K)
        nothing = tf.fill(tf.shape(places), tf.constant(-np.inf, real))                                 # (A, K)
        logits, states, weights = step(tokens, states, rows)
        count = tf.minimum(max(width, 2), tf.shape(logits)[2])  # two at least: the margin needs the runner-up
        values, ids = candidates(logits, time, history, options, count)                                 # (A, K, M)
        given = values - tf.reduce_logsumexp(logits, axis=2, keepdims=True)
        scores, chosen = tf.nn.top_k(tf.concat(
            [tf.reshape(live[:, :, None] + given, [tf.size(rows), -1]), nothing], 1), width)            # (A, K)
        # The first step of a wide beam over few words has fewer than K: dead ones, which may stand anywhere.
        chosen = tf.minimum(chosen, tf.shape(live)[1] * count - 1)
        parents = chosen // count                                                                       # (A, K)
        parent, candidate = tf.stack([sentences, parents], 2), tf.stack([sentences, parents, chosen % count], 2)
        tokens, given, value = [tf.gather_nd(x, candidate) for x in (ids, given, values)]               # (A, K)
        best = tf.gather_nd(values[:, :, :2], parent)                                                   # (A, K, 2)
        margins = value - tf.where(value < best[:, :, 0], best[:, :, 0], best[:, :, 1])
        states, weights = [tf.gather_nd(state, parent) for state in states], tf.gather_nd(weights, parent)
        if options.no_repeat_ngram:
            history = tf.concat([tf.gather_nd(history, parent), tokens[:, :, None]], 2)
        mask = None
        if options.coverage_penalty:
            coverage, mask = tf.gather_nd(coverage, parent) + weights, tf.gather(source_mask, rows)
        held = tf.reduce_sum(tf.cast(finished[0] > -np.inf, tf.int32), axis=1, keepdims=True)           # (A, 1)
        live = tf.where(places < width - held, scores, nothing)
        ending = tf.equal(tokens, END) | (time + 1 >= limits)[:, None]
        rankings = tf.where(ending, penalised(live, time + 1, coverage, options, mask), nothing)
        rankings, order = tf.nn.top_k(tf.concat([finished[0], rankings], 1), width)
        order, ends = tf.stack([sentences, order], 2), tf.fill(tf.shape(places), time + 1)
        finished = [rankings] + [tf.gather_nd(tf.concat([old, new], 1), order)
                                 for old, new in zip(finished[1:], (ends, places))]
        live = tf.where(ending, nothing, live)
        # A score only falls, it weighs least at the greatest length, and coverage adds nothing to it.
        heaviest = length_divisor(limits, options.length_penalty, real)
        done = rankings[:, options.n_best - 1] >= tf.reduce_max(live, axis=1) / heaviest
        live = tf.where(done, nothing, live)
        going = tf.reduce_any(live > -np.inf, axis=1)
        return (going, [limits, live, tokens, states, history, coverage, finished],
                [tokens, given, margins, weights, parents] + finished)

    places, nothing = grid(batch, width)[1], tf.fill([batch, width], tf.constant(-np.inf, real))        # (B, K)
    steps, (ids, given, margins, weights, parents, *finished) = over_steps(
        advance, max_lengths > 0,
        [max_lengths, tf.zeros([batch, 1], real), tf.fill([batch, 1], START), states,
         tf.fill([batch, 1, 1], START) if options.no_repeat_ngram else (),
         tf.zeros([batch, 1, tf.shape(source_mask)[1]], real) if options.coverage_penalty else (),
         [nothing, tf.zeros_like(places), tf.zeros_like(places)]],
        [(tf.int32, [width]), (real, [width]), (real, [width]), (real, [width, None]), (tf.int32, [width]),
         (real, [width]), (tf.int32, [width]), (tf.int32, [width])])
    final = tf.stack([tf.maximum(steps - 1, 0), tf.range(batch)], 1)
    rankings, lengths, last = [tf.gather_nd(x, final)[:, :options.n_best] for x in finished]
    rankings = tf.where(lengths > 0, rankings, nothing[:, :options.n_best])
    path = backtrace(parents, lengths, last)
    ids, given, margins, weights = [by_sentence(tf.gather_nd(x, path), lengths) for x in (ids, given, margins, weights)]
    return Found(ids, lengths, given, weights, margins, rankings)


def backtrace(parents, lengths, last):
    """Follows finished hypotheses from their last token back to their first.

    # Arguments
        parents: at each step the place that each token comes from, `(T, B, K)`.
        lengths, last: of each hypothesis, and the place of its last token, `(B, N)`.

    # Returns
        Indices `(T, B, N, 3)` into `(T, B, K)`: where each token stands.
    """
    size = tf.shape(parents)
    times, sentences, _ = tf.meshgrid(tf.range(size[0]), tf.range(size[1]), tf.range(last.shape[1].value),
                                      indexing='ij')                                                    # (T, B, N)

    def back(time, place, array):
        place = tf.where(tf.equal(lengths, time + 1), last, place)
        parent = tf.gather_nd(parents[time], tf.stack([sentences[0], place], 2))
        return time - 1, parent, array.write(time, place)

    places = tf.while_loop(lambda time, *_: time >= 0, back, [
        size[0] - 1, tf.zeros_like(last), tf.TensorArray(tf.int32, size[0])], back_prop=False, parallel_iterations=1)[2]
    return tf.stack([times, sentences, places.stack()], 3)


# ---- What both are made of ------------------------------------------------------------------------------------
def over_steps(advance, going, variables, kinds):
    """Repeats a step for the sentences that go on, until none does.

    # Arguments
        advance: function of the time, the places `(A,)` in the batch of those that go on, and their variables
            `(A, ...)`; returns which of them still go on, booleans `(A,)`, their variables anew, and what it gives.
        going: which sentences begin, booleans `(B,)`.
        variables: tensors `(B, ...)`, in lists.
        kinds: of each thing that a step gives, `(A, ...)`, the type and what its shape has behind A.

    # Returns
        How many steps each sentence went, `(B,)`, and what the steps gave, `(T, B, ...)` each, 0 behind the end.
    """
    batch, shape = tf.size(going), tf.TensorShape
    arrays = [tf.TensorArray(dtype, size=0, dynamic_size=True, element_shape=[None] + rest, infer_shape=False)
              for dtype, rest in [(tf.int32, [])] * 2 + kinds]

    def those(going, variables):
        places = tf.where(going)[:, 0]
        return nest.map_structure(lambda x: tf.gather(x, places), variables)

    def body(time, variables, arrays):
        rows = variables[0]
        going, variables, given = advance(time, rows, *variables[1:])
        given = [tf.fill(tf.shape(rows), time), rows] + given
        arrays = [array.write(time, x) for array, x in zip(arrays, given)]
        return [time + 1, those(going, [rows] + variables), arrays]

    variables = those(going, [tf.range(batch)] + variables)
    open_shapes = nest.map_structure(lambda x: shape([None] * x.shape.ndims), variables)
    time, _, arrays = tf.while_loop(
        lambda time, variables, arrays: tf.size(variables[0]) > 0, body, [tf.constant(0), variables, arrays],
        [shape([]), open_shapes, [shape(None)] * len(arrays)], back_prop=False, parallel_iterations=1)
    times, rows, *given = [array.concat() for array in arrays]
    at, steps = tf.stack([times, rows], 1), tf.unsorted_segment_sum(tf.ones_like(rows), rows, batch)
    return steps, [tf.scatter_nd(at, x, tf.concat([[time, batch], tf.shape(x)[1:]], 0)) for x in given]


def grid(rows, width):
    """The sentence and the place in the beam of each hypothesis, two of `(B, K)`."""
    return tf.meshgrid(tf.range(rows), tf.range(width), indexing='ij')


def by_sentence(x, lengths):
    """`(T, B, N, ...)` as `(B, N, T, ...)`, as long as the longest hypothesis and 0 behind each one's end."""
    longest = tf.reduce_max(lengths)
    x = tf.transpose(x[:longest], [1, 2, 0] + list(range(3, x.shape.ndims)))
    valid = tf.sequence_mask(lengths, longest)                                                          # (B, N, T)
    if x.shape.ndims == 4:
        return x * tf.cast(valid, x.dtype)[:, :, :, None]
    return tf.where(valid, x, tf.zeros_like(x))


def candidates(logits, time, history, options, count):
    """The most probable tokens that may come next, logits and ids `(B, K, count)`; minus infinity where none is left.

    What may not come is `<pad>`, `<s>`, `</s>` before `min_length`, and what would repeat an n-gram. Where this leaves
    nothing, `</s>` may come.

    # Arguments
        logits: `(B, K, V)`.
        time: how many tokens the hypotheses have.
        history: as for `repeating`, looked at for `no_repeat_ngram`.
        options: `Options`.
        count: how many are asked for, at most V.
    """
    def without(values, which):
        return tf.where(which, tf.fill(tf.shape(values), tf.constant(-np.inf, values.dtype)), values)

    size = tf.shape(logits)[2]  # of words that are copied too, and hence another one for each batch
    values = logits
    if options.no_repeat_ngram:
        values = without(logits, repeating(history, size, options.no_repeat_ngram))
    # Three at most are forbidden by name: they are struck off a short list, not off the whole vocabulary.
    values, ids = tf.nn.top_k(values, tf.minimum(count + 3, size))
    forbidden = tf.equal(ids, PAD) | tf.equal(ids, START)
    if options.min_length:
        forbidden |= tf.equal(ids, END) & (time < options.min_length)
    values, places = tf.nn.top_k(without(values, forbidden), count)
    ids = tf.batch_gather(ids, places)
    if options.no_repeat_ngram:
        stuck = tf.equal(values, -np.inf) & tf.equal(tf.range(count), 0)
        values = tf.where(stuck, logits[:, :, END:END + 1] + tf.zeros_like(values), values)
        ids = tf.where(stuck, tf.fill(tf.shape(ids), END), ids)
    return values, ids


def repeating(history, size, n):
    """Which tokens would complete an n-gram that a hypothesis has already: booleans `(B, K, V)`.

    history: `<s>` and the tokens so far, ids `(B, K, t)`. size: V.
    """
    rows, width, length = tf.unstack(tf.shape(history))
    count = tf.maximum(length - n + 1, 0)  # n-grams so far
    same = tf.ones(tf.stack([rows, width, count]), tf.bool)  # which of them begin with the last n - 1 tokens
    for i in range(n - 1):
        last = length - n + 1 + i
        same &= tf.equal(history[:, :, i:i + count], history[:, :, last:last + 1])
    ends = history[:, :, length - count:]
    ends = tf.where(same, ends, tf.fill(tf.shape(ends), PAD))  # which may not come anyway
    places = ends + size * tf.reshape(tf.range(rows * width), [rows, width, 1])
    times = tf.scatter_nd(places[:, :, :, None], tf.ones_like(ends), [rows * width * size])
    return tf.reshape(times, [rows, width, size]) > 0


def penalised(scores, length, coverage, options, source_mask):
    """The ranking of hypotheses, `(B, K)`.

    # Arguments
        scores: log p(Y) `(B, K)`.
        length: |Y|, one for all or `(B, K)`.
        coverage: the sum of all their attention weights `(B, K, S)`, looked at for a coverage penalty. A source token
            without any, as a window may leave one, counts as if it had 1e-7.
    """
    rankings = scores / length_divisor(length, options.length_penalty, scores.dtype)
    if options.coverage_penalty:
        logarithms = tf.log(tf.clip_by_value(coverage, 1e-7, 1.)) * tf.cast(source_mask, scores.dtype)[:, None, :]
        rankings += options.coverage_penalty * tf.reduce_sum(logarithms, axis=2)
    return rankings


def length_divisor(length, penalty, dtype):
    """What log p(Y) of a hypothesis of `length` tokens is divided by: lp(Y) of Wu et al. (2016), or the length."""
    length = tf.cast(length, dtype)
    return length if penalty == 'average' else ((5. + length) / 6.) ** penalty
