"""Greedy and beam search as one graph loop over a decoder step.

Letters in shapes: B sentences, A of them still active, K beam width, N hypotheses returned for each sentence, M
candidates for each hypothesis, V vocabulary, S and T source and output length.
"""
import collections

import numpy as np
import tensorflow as tf
from tensorflow.python.util import nest

from text.vocabulary import END, PAD, START
from search_options import Options

Result = collections.namedtuple('Result', 'ids lengths log_probabilities weights margins rankings')
Result.__doc__ = """Tensors that a search returns: sentences in the order of the batch, best hypothesis first.

ids `(B, N, T)` without `<s>`, `<pad>` after `</s>`; lengths `(B, N)` with `</s>`; log_probabilities `(B, N, T)` of the
tokens in nats, normalised over the whole vocabulary, excluded tokens included; weights `(B, N, T, S)` of the attention;
margins `(B, N, T)`, the logit of the token minus the highest logit among the other allowed tokens; rankings `(B, N)`,
the scores with their penalties, minus infinity where the beam has no further hypothesis.
"""

Finished = collections.namedtuple('Finished', 'rankings lengths places')
Finished.__doc__ = """The best finished hypotheses of each sentence, `(A, K)` each, best first.

rankings: minus infinity where there is none. lengths: number of tokens. places: place in the beam of the last token.
"""


def max_lengths(source_lengths, options, ops=np):
    """Maximum number of output tokens, `</s>` included, for sources of these lengths: int32 `(B,)`, at least 1.

    # Arguments
        source_lengths: `(B,)`.
        options: `Options`.
        ops: NumPy, or TensorFlow for a tensor.
    """
    lengths = np.asarray(source_lengths, 'd') if ops is np else tf.to_double(source_lengths)  # exact up to 2^53
    largest = np.iinfo('i').max
    fixed = float(min(options.max_length or largest, largest))
    if options.max_length is None and options.max_length_ratio is None:
        limits = 2. * lengths + 10.
    else:
        limits = 0. * lengths + fixed
    if options.max_length_ratio is not None:
        # The product 0.29 * 100 is slightly below 29.
        limits = ops.minimum(limits, ops.maximum(ops.floor(options.max_length_ratio * lengths + 1e-6), 1.))
    if options.min_length:
        limits = ops.maximum(limits, options.min_length + 1.)  # one more token for `</s>`
    limits = ops.minimum(limits, fixed)
    return limits.astype('i') if ops is np else tf.to_int32(limits)


def search(step, states, max_lengths, options=Options(), source_mask=None, deadline=None):
    """Searches the best outputs of a decoder step: `greedy`, or `beam` for a `beam_width` above 1.

    # Arguments
        step: function of tokens `(A, K)`, states (list of `(A, K, width)`) and rows `(A,)`, the indices of the active
            sentences in the batch; returns logits `(A, K, V)`, new states and weights `(A, K, S)`.
        states: list of tensors `(B, 1, width)`.
        max_lengths: maximum number of tokens of each output, `</s>` included, int32 `(B,)`, at least one above 0.
        options: `Options`; its maximum lengths are ignored here. Its numbers may be tensors, so that one graph serves
            all their values; `length_penalty` is then two tensors: 1 for `'average'`, else 0, and the exponent.
        source_mask: booleans `(B, S)`, true on the source tokens; the coverage penalty needs it.
        deadline: time since 1970 in seconds, float64, after which the search takes no further step. Its outputs then
            end where they are: the caller discards them.

    # Returns
        `Result`.
    """
    return (greedy if options.beam_width == 1 else beam)(step, states, max_lengths, options, source_mask, deadline)


def is_on(value):
    """Whether an option has an effect: a tensor stands for any value."""
    return isinstance(value, tf.Tensor) or bool(value)


def greedy(step, states, max_lengths, options=Options(), source_mask=None, deadline=None):
    """Chooses the most probable allowed token at each step, until all sentences end. Arguments as for `search`."""
    batch, dtype = tf.shape(max_lengths)[0], states[0].dtype

    def advance(time, rows, limits, token, states, history):
        logits, states, weights = step(token, states, rows)
        values, ids = [x[:, 0] for x in allowed_top_k(logits, time, history, options, 2)]               # (A, 2)
        log_probability = values[:, :1] - tf.reduce_logsumexp(logits, axis=2)
        token = ids[:, :1]
        if is_on(options.no_repeat_ngram):
            history = tf.concat([history, token[:, :, None]], 2)
        active = tf.not_equal(token[:, 0], END) & (time + 1 < limits)
        margin = values[:, :1] - values[:, 1:]
        return active, [limits, token, states, history], [token, log_probability, margin, weights]

    steps, (ids, log_probabilities, margins, weights) = decode_loop(
        advance, max_lengths > 0,
        [max_lengths, tf.fill([batch, 1], START), states,
         tf.fill([batch, 1, 1], START) if is_on(options.no_repeat_ngram) else ()],
        [(tf.int32, [1]), (dtype, [1]), (dtype, [1]), (dtype, [1, None])], deadline)
    lengths = steps[:, None]                                                                            # (B, 1)
    ids, log_probabilities, margins, weights = [by_sentence(x, lengths)
                                                for x in (ids, log_probabilities, margins, weights)]
    rankings = rescore(tf.reduce_sum(log_probabilities, 2), lengths, tf.reduce_sum(weights, 2), options, source_mask)
    return Result(ids, lengths, log_probabilities, weights, margins, rankings)


# ---- Beam search ----------------------------------------------------------------------------------------------
def beam(step, states, max_lengths, options=Options(), source_mask=None, deadline=None):
    """Extends the live hypotheses by their K most probable continuations. Arguments as for `search`.

    A hypothesis that ends with `</s>` or reaches its limit is finished: it is ranked and keeps its place, so that the
    beam has one live hypothesis fewer, and width 1 is greedy search. A sentence ends when it has no live
    hypothesis, or none that can still enter its n best. The first step has one hypothesis for each sentence.
    """
    width, batch, dtype = options.beam_width, tf.shape(max_lengths)[0], states[0].dtype
    places = None if isinstance(width, tf.Tensor) else width  # what is known of K while the graph is built

    def advance(time, rows, limits, scores, tokens, states, history, coverage, finished):
        # Candidates: the best K tokens of one hypothesis are enough, since only K continuations of the whole sentence
        # are kept. Width 1 has two as well: the margin needs the runner-up.
        logits, states, weights = step(tokens, states, rows)
        count = tf.minimum(tf.maximum(width, 2), tf.shape(logits)[2])
        values, ids = allowed_top_k(logits, time, history, options, count)                              # (A, K, M)
        log_probabilities = values - tf.reduce_logsumexp(logits, axis=2, keepdims=True)

        # Expand: the K best continuations of all hypotheses of a sentence compete with each other.
        scores, parents, candidates = expand(scores, log_probabilities, width)
        tokens, log_probabilities = tf.gather_nd(ids, candidates), tf.gather_nd(log_probabilities, candidates)
        margins = margins_to_runner_up(values, parents, candidates)

        # Reorder: a hypothesis may have several continuations or none, so each new one copies what its parent has.
        states, weights = [tf.gather_nd(state, parents) for state in states], tf.gather_nd(weights, parents)
        if is_on(options.no_repeat_ngram):
            history = tf.concat([tf.gather_nd(history, parents), tokens[:, :, None]], 2)
        mask = None
        if is_on(options.coverage_penalty):
            coverage, mask = tf.gather_nd(coverage, parents) + weights, tf.gather(source_mask, rows)

        # Shrink the beam: finished hypotheses keep their places, so that fewer new ones stay alive.
        scores = within_free_places(scores, finished, width)

        # Finish: only complete hypotheses are ranked, since penalties make no sense for a part of an output.
        ended = tf.equal(tokens, END) | (time + 1 >= limits)[:, None]
        rankings = exclude(tf.logical_not(ended), rescore(scores, time + 1, coverage, options, mask))
        finished = finish(finished, rankings, time + 1, width)
        scores = exclude(ended, scores)

        # Stop early: a sentence whose live hypotheses cannot enter its n best takes no further step.
        scores = exclude(cannot_improve(finished, scores, limits, options), scores)
        active = tf.reduce_any(scores > -np.inf, axis=1)
        return (active, [limits, scores, tokens, states, history, coverage, finished],
                [tokens, log_probabilities, margins, weights, parents[:, :, 1]] + list(finished))

    none, zeros = tf.fill([batch, width], tf.constant(-np.inf, dtype)), tf.zeros([batch, width], tf.int32)
    steps, (ids, log_probabilities, margins, weights, parents, *finished) = decode_loop(
        advance, max_lengths > 0,
        [max_lengths, tf.zeros([batch, 1], dtype), tf.fill([batch, 1], START), states,
         tf.fill([batch, 1, 1], START) if is_on(options.no_repeat_ngram) else (),
         tf.zeros([batch, 1, tf.shape(source_mask)[1]], dtype) if is_on(options.coverage_penalty) else (),
         Finished(none, zeros, zeros)],
        [(tf.int32, [places]), (dtype, [places]), (dtype, [places]), (dtype, [places, None]), (tf.int32, [places]),
         (dtype, [places]), (tf.int32, [places]), (tf.int32, [places])], deadline)
    # The finished hypotheses of a sentence are those of its own last step.
    last_steps = tf.stack([tf.maximum(steps - 1, 0), tf.range(batch)], 1)
    rankings, lengths, last_places = [tf.gather_nd(x, last_steps)[:, :options.n_best] for x in finished]
    rankings = tf.where(lengths > 0, rankings, none[:, :options.n_best])
    path = backtrace(parents, lengths, last_places)
    ids, log_probabilities, margins, weights = [by_sentence(tf.gather_nd(x, path), lengths)
                                                for x in (ids, log_probabilities, margins, weights)]
    return Result(ids, lengths, log_probabilities, weights, margins, rankings)


def expand(scores, log_probabilities, width):
    """Selects the K best continuations of all live hypotheses of a sentence.

    # Arguments
        scores: log p of the live hypotheses `(A, K)`, minus infinity in places without one; `(A, 1)` at the first step.
        log_probabilities: of the candidates for the next token `(A, K, M)`.
        width: K.

    # Returns
        log p of the new hypotheses `(A, K)`; the indices `(A, K, 2)` of the hypothesis that each one continues, and
        those `(A, K, 3)` of the candidate that it adds.
    """
    rows, places, count = tf.shape(scores)[0], tf.shape(scores)[1], tf.shape(log_probabilities)[2]
    scores = tf.reshape(scores[:, :, None] + log_probabilities, [rows, -1])                             # (A, K M)
    # A wide beam over a small vocabulary has fewer than K continuations at the first step. Places with minus infinity
    # fill it; their index, which is past the end, may be any valid one.
    filling = tf.fill([rows, width], tf.constant(-np.inf, scores.dtype))
    scores, best = tf.nn.top_k(tf.concat([scores, filling], 1), width)
    best = tf.minimum(best, places * count - 1)
    sentences = grid(rows, width)[0]
    return scores, tf.stack([sentences, best // count], 2), tf.stack([sentences, best // count, best % count], 2)


def margins_to_runner_up(values, parents, candidates):
    """Logit of each new token minus that of the best other candidate of its hypothesis, `(A, K)`.

    # Arguments
        values: logits of the candidates in descending order `(A, K, M)`.
        parents, candidates: as `expand` returns them.
    """
    logits, best = tf.gather_nd(values, candidates), tf.gather_nd(values[:, :, :2], parents)
    return logits - tf.where(logits < best[:, :, 0], best[:, :, 0], best[:, :, 1])


def within_free_places(scores, finished, width):
    """Removes the worst hypotheses, as many as are finished: a finished hypothesis keeps its place in the beam."""
    count = tf.reduce_sum(tf.cast(finished.rankings > -np.inf, tf.int32), axis=1, keepdims=True)        # (A, 1)
    places = grid(tf.shape(scores)[0], width)[1]
    return exclude(places >= width - count, scores)


def finish(finished, rankings, length, width):
    """Merges the hypotheses that end at this step into the finished ones, best first.

    # Arguments
        finished: `Finished`.
        rankings: those of the hypotheses that end at this step `(A, K)`, minus infinity for the others.
        length: number of their tokens.
        width: K.
    """
    sentences, places = grid(tf.shape(rankings)[0], width)
    rankings, order = tf.nn.top_k(tf.concat([finished.rankings, rankings], 1), width)
    order = tf.stack([sentences, order], 2)
    lengths = tf.concat([finished.lengths, tf.fill(tf.shape(places), length)], 1)
    return Finished(rankings, tf.gather_nd(lengths, order),
                    tf.gather_nd(tf.concat([finished.places, places], 1), order))


def cannot_improve(finished, scores, limits, options):
    """Whether no live hypothesis of a sentence can still enter its n best, booleans `(A,)`.

    A continuation never raises log p, the divisor of the length penalty is largest at the maximum length, and the
    coverage penalty is at most 0: log p over that divisor is an upper bound of every later ranking.
    """
    largest_divisor = length_divisor(limits, options.length_penalty, scores.dtype)
    return finished.rankings[:, options.n_best - 1] >= tf.reduce_max(scores, axis=1) / largest_divisor


def backtrace(parents, lengths, places):
    """Follows finished hypotheses from their last token back to their first.

    # Arguments
        parents: at each step the place of the hypothesis that each token continues, `(T, B, K)`.
        lengths, places: length of each hypothesis, and place of its last token, `(B, N)`.

    # Returns
        Indices `(T, B, N, 3)` of the tokens into `(T, B, K)`.
    """
    size, count = tf.shape(parents), tf.shape(places)[1]
    times, sentences, _ = tf.meshgrid(tf.range(size[0]), tf.range(size[1]), tf.range(count),
                                      indexing='ij')                                                    # (T, B, N)

    def back(time, place, array):
        place = tf.where(tf.equal(lengths, time + 1), places, place)
        parent = tf.gather_nd(parents[time], tf.stack([sentences[0], place], 2))
        return time - 1, parent, array.write(time, place)

    path = tf.while_loop(lambda time, *_: time >= 0, back, [
        size[0] - 1, tf.zeros_like(places), tf.TensorArray(tf.int32, size[0])], back_prop=False,
        parallel_iterations=1)[2]
    return tf.stack([times, sentences, path.stack()], 3)


# ---- Shared by both searches ----------------------------------------------------------------------------------
def decode_loop(advance, active, variables, kinds, deadline=None):
    """Repeats a decoding step for the active sentences until none is left.

    # Arguments
        advance: function of the time, the indices `(A,)` of the active sentences in the batch, and their variables
            `(A, ...)`; returns which of them stay active, booleans `(A,)`, their new variables, and the step's outputs.
        active: which sentences are active at the start, booleans `(B,)`.
        variables: tensors `(B, ...)`, in lists.
        kinds: for each output of a step, `(A, ...)`, its type and its shape without A.
        deadline: as for `search`.

    # Returns
        Number of steps of each sentence `(B,)`, and the outputs of the steps `(T, B, ...)`, 0 after a sentence's end.
    """
    batch, shape = tf.size(active), tf.TensorShape
    arrays = [tf.TensorArray(dtype, size=0, dynamic_size=True, element_shape=[None] + rest, infer_shape=False)
              for dtype, rest in [(tf.int32, [])] * 2 + kinds]

    def keep(active, variables):
        rows = tf.where(active)[:, 0]
        return nest.map_structure(lambda x: tf.gather(x, rows), variables)

    def body(time, variables, arrays):
        rows = variables[0]
        active, variables, outputs = advance(time, rows, *variables[1:])
        outputs = [tf.fill(tf.shape(rows), time), rows] + outputs
        arrays = [array.write(time, x) for array, x in zip(arrays, outputs)]
        return [time + 1, keep(active, [rows] + variables), arrays]

    def goes_on(time, variables, arrays):
        left = tf.size(variables[0]) > 0
        # The first step is always taken: without any output the arrays would have no shape.
        return left if deadline is None else left & (tf.equal(time, 0) | (tf.timestamp() < deadline))

    variables = keep(active, [tf.range(batch)] + variables)
    open_shapes = nest.map_structure(lambda x: shape([None] * x.shape.ndims), variables)
    time, _, arrays = tf.while_loop(
        goes_on, body, [tf.constant(0), variables, arrays],
        [shape([]), open_shapes, [shape(None)] * len(arrays)], back_prop=False, parallel_iterations=1)
    times, rows, *outputs = [array.concat() for array in arrays]
    at, steps = tf.stack([times, rows], 1), tf.unsorted_segment_sum(tf.ones_like(rows), rows, batch)
    return steps, [tf.scatter_nd(at, x, tf.concat([[time, batch], tf.shape(x)[1:]], 0)) for x in outputs]


def grid(rows, width):
    """Index of the sentence and place in the beam of each hypothesis, two tensors `(rows, width)`."""
    return tf.meshgrid(tf.range(rows), tf.range(width), indexing='ij')


def exclude(condition, values):
    """`values` with minus infinity where a condition of their shape, or one for each row, holds."""
    return tf.where(condition, tf.fill(tf.shape(values), tf.constant(-np.inf, values.dtype)), values)


def by_sentence(x, lengths):
    """Transposes `(T, B, N, ...)` to `(B, N, T, ...)`, T the length of the longest hypothesis, 0 after each end."""
    longest = tf.reduce_max(lengths)
    x = tf.transpose(x[:longest], [1, 2, 0] + list(range(3, x.shape.ndims)))
    valid = tf.sequence_mask(lengths, longest)                                                          # (B, N, T)
    if x.shape.ndims == 4:
        return x * tf.cast(valid, x.dtype)[:, :, :, None]
    return tf.where(valid, x, tf.zeros_like(x))


def allowed_top_k(logits, time, history, options, count):
    """The most probable allowed tokens, logits and ids `(B, K, count)`; minus infinity where too few are allowed.

    `<pad>` and `<s>` are excluded, `</s>` before `min_length`, and tokens that would repeat an n-gram. If this leaves
    no token, `</s>` is allowed.

    # Arguments
        logits: `(B, K, V)`.
        time: number of tokens of the hypotheses.
        history: as for `repeated_ngram_mask`; used for `no_repeat_ngram` only.
        options: `Options`.
        count: number of tokens returned, at most V.
    """
    size = tf.shape(logits)[2]  # differs between batches where words are copied
    values = logits
    if is_on(options.no_repeat_ngram):
        values = exclude(repeated_ngram_mask(history, size, options.no_repeat_ngram), values)
    # At most three tokens are excluded by their ids. Excluding them from a list with three spare places is cheaper than
    # from the whole vocabulary.
    values, ids = tf.nn.top_k(values, tf.minimum(count + 3, size))
    excluded = tf.equal(ids, PAD) | tf.equal(ids, START)
    if is_on(options.min_length):
        excluded |= tf.equal(ids, END) & (time < options.min_length)
    values, places = tf.nn.top_k(exclude(excluded, values), count)
    ids = tf.batch_gather(ids, places)
    if is_on(options.no_repeat_ngram):
        none_allowed = tf.equal(values, -np.inf) & tf.equal(tf.range(count), 0)
        values = tf.where(none_allowed, logits[:, :, END:END + 1] + tf.zeros_like(values), values)
        ids = tf.where(none_allowed, tf.fill(tf.shape(ids), END), ids)
    return values, ids


def repeated_ngram_mask(history, size, n):
    """Tokens that would complete an n-gram that the hypothesis already has: booleans `(B, K, V)`.

    # Arguments
        history: `<s>` and the tokens so far, ids `(B, K, t)`.
        size: V.
        n: length of the n-grams, a number or a tensor.
    """
    rows, width, length = tf.unstack(tf.shape(history))
    count = tf.maximum(length - n + 1, 0)  # n-grams so far

    def compare(i, same):
        last = length - n + 1 + i
        return i + 1, same & tf.equal(history[:, :, i:i + count], history[:, :, last:last + 1])

    # Which of them begin with the last n - 1 tokens.
    same = tf.while_loop(lambda i, same: i < n - 1, compare, [
        tf.constant(0), tf.ones(tf.stack([rows, width, count]), tf.bool)], back_prop=False, parallel_iterations=1)[1]
    ends = history[:, :, length - count:]
    ends = tf.where(same, ends, tf.fill(tf.shape(ends), PAD))  # PAD is excluded anyway
    places = ends + size * tf.reshape(tf.range(rows * width), [rows, width, 1])
    times = tf.scatter_nd(places[:, :, :, None], tf.ones_like(ends), [rows * width * size])
    return tf.reshape(times, [rows, width, size]) > 0


def rescore(scores, length, coverage, options, source_mask):
    """Adds the penalties to the scores of hypotheses: their rankings, `(B, K)`.

    # Arguments
        scores: log p(Y) `(B, K)`.
        length: number of tokens |Y|, a scalar or `(B, K)`.
        coverage: sum of the attention weights of all steps `(B, K, S)`; used for a coverage penalty only. A source
            token without attention, which local attention allows, counts as if it had 1e-7.
        options: `Options`.
        source_mask: as for `search`.
    """
    rankings = scores / length_divisor(length, options.length_penalty, scores.dtype)
    if is_on(options.coverage_penalty):
        logarithms = tf.log(tf.clip_by_value(coverage, 1e-7, 1.)) * tf.cast(source_mask, scores.dtype)[:, None, :]
        rankings += options.coverage_penalty * tf.reduce_sum(logarithms, axis=2)
    return rankings


def length_divisor(length, penalty, dtype):
    """Divisor of log p(Y) for `length` tokens: lp(Y) of Wu et al. (2016), or the length itself."""
    length = tf.cast(length, dtype)
    if penalty == 'average':
        return length
    share, exponent = penalty if isinstance(penalty, tuple) else (None, penalty)
    divisor = ((5. + length) / 6.) ** exponent
    return divisor if share is None else share * length + (1. - share) * divisor
