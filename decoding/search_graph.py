"""The graph of a search whose options are fed: one graph serves all values of the options.

The number of graphs is bounded: what adds a part to the graph, and nothing else, chooses between them. A graph is never
freed before its session is closed, so their number may not depend on what a client sends.
"""
import tensorflow as tf
from keras import backend as K

import beam_search
from decoding.ensemble import ensemble_step
from search_options import Options


def kind(options):
    """What distinguishes the graph of these `Options`: at most eight values."""
    return options.beam_width == 1, bool(options.coverage_penalty), bool(options.no_repeat_ngram)


def build(models, options):
    """Builds the graph of a search with options of the same kind.

    # Returns
        Its placeholders in the order of `values`, and the `beam_search.Result`.
    """
    greedy, has_coverage, has_ngram = kind(options)
    counts = [tf.placeholder(tf.int32, [], name) for name in ('beam_width', 'n_best', 'min_length', 'no_repeat_ngram')]
    numbers = [tf.placeholder(K.floatx(), [], name) for name in ('average', 'exponent', 'coverage_penalty')]
    limits, deadline = tf.placeholder(tf.int32, [None], 'max_lengths'), tf.placeholder(tf.float64, [], 'deadline')
    (width, n_best, min_length, ngram), (average, exponent, coverage) = counts, numbers
    fed = Options(beam_width=1 if greedy else width, n_best=1 if greedy else n_best, length_penalty=(average, exponent),
                  coverage_penalty=coverage if has_coverage else 0., min_length=min_length,
                  no_repeat_ngram=ngram if has_ngram else 0)
    step, states = ensemble_step(models)
    return counts + numbers + [limits, deadline], beam_search.search(step, states, limits, fed, models[0].memory.mask,
                                                                     deadline)


def values(options, limits, deadline):
    """Values of the placeholders: of the options, the maximum lengths of the outputs, and the end of the search."""
    average = options.length_penalty == 'average'
    return [options.beam_width, options.n_best, options.min_length, options.no_repeat_ngram,
            float(average), 0. if average else options.length_penalty, options.coverage_penalty, limits, deadline]
