"""Several models in one graph as one: their step, their probabilities, the graphs of forced decoding.

Letters: B batch, S and T source and target length, V vocabulary. One model alone keeps every bit of its outputs.
"""
import numpy as np
import tensorflow as tf

import beam_search
from search_options import Options
from settings import attends_in_blocks


def attends(model):
    """Whether a model has attention."""
    return model.attention is not None


def sentence_bytes(options, vocabulary, source, target, state, token, score=0, copies=False):
    """Estimates the peak memory of the search for one sentence, its encoder included, in bytes.

    Rounded up from the peaks that `benchmarks/search_memory.py` measures.

    # Arguments
        options: `Options`.
        vocabulary, source, target: number of tokens of the vocabulary, the source, and the longest output.
        state: number of values in the decoder's state.
        token: number of values that the encoder and the attention's score compute for a source token.
        score: number of values that the score computes for a source token and a hypothesis at the same time.
        copies: Boolean, the model copies words of the source.
    """
    width = options.beam_width
    logits = vocabulary * (2 + 2 * bool(options.no_repeat_ngram) + 2 * copies)
    step = logits + 4 * state + source * (4 + 2 * score) + 8 * (width + 4) + 2 * target
    return 4 * (width * (step + 5 * target * (source + 8)) + source * token)


def search_sizes(model):
    """The sizes of a model that `sentence_bytes` takes, a dict."""
    sizes, in_blocks = model.settings, attends_in_blocks(model.settings)  # additive scores one hypothesis at a time
    additive = (sizes.attention_units or sizes.units) if sizes.score in ('concat', 'additive') else 0
    return dict(state=sum(model.cell.state_size), score=0 if in_blocks else additive, copies=sizes.copy,
                token=5 * ((sizes.encoder_units or sizes.units) + sizes.embedding) + 3 * in_blocks * additive)


def mean(tensors):
    """The mean of several tensors of one shape."""
    return tensors[0] if len(tensors) == 1 else tf.add_n(tensors) / len(tensors)


def mean_probabilities(logits):
    """The logarithm of the mean of several models' probabilities; the logits of a single model stay as they are."""
    if len(logits) == 1:
        return logits[0]
    return tf.reduce_logsumexp(tf.stack(list(map(tf.nn.log_softmax, logits))), axis=0) - np.log(len(logits))


def ensemble_step(models):
    """The step of several models as one, for `beam_search.search`, and their first states in one list."""
    starts = [model.start() for model in models]

    def step(tokens, states, rows):
        logits, new_states, weights = [], [], []
        for model, start in zip(models, starts):
            first = len(new_states)  # index of the first state of this model
            model_logits, model_states, model_weights = model.step(tokens, states[first:first + len(start)], rows)
            logits.append(model_logits)
            new_states += model_states
            # A model without attention has weights 0, which would halve the mean.
            if attends(model) or not any(map(attends, models)):
                weights.append(model_weights)
        return mean_probabilities(logits), new_states, mean(weights)

    return step, [state for start in starts for state in start]


def forced_inputs(models):
    """Placeholders of forced decoding, for output ids `(B, T)` and each model's input; logits `(B, T, V)`."""
    output = tf.placeholder(tf.int32, [None, None], 'output')                                           # (B, T)
    return ([output] + [model.target for model in models],
            mean_probabilities([model.training_model.output for model in models]))


def forced_graph(models):
    """Placeholders and tensors of forced decoding: log-probabilities and margins `(B, T)`, weights `(B, T, S)`."""
    placeholders, logits = forced_inputs(models)
    output = placeholders[0]
    weights = [model.alignment_model.outputs[1] for model in models if model.alignment_model is not None]
    if not weights:
        weights.append(tf.zeros(tf.concat([tf.shape(logits)[:2], tf.shape(models[0].source)[1:]], 0)))
    log_probabilities = -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=output, logits=logits)
    target_logits = log_probabilities + tf.reduce_logsumexp(logits, axis=-1)
    values, ids = beam_search.allowed_top_k(logits, 0, None, Options(), 2)
    best_other = tf.where(tf.equal(ids[:, :, 0], output), values[:, :, 1], values[:, :, 0])
    return placeholders, [log_probabilities, target_logits - best_other, mean(weights)]


def candidates_graph(models):
    """Placeholders and tensors of the most probable tokens of each step: probabilities and ids `(B, T, count)`.

    The last placeholder is `count`.
    """
    placeholders, logits = forced_inputs(models)
    count = tf.placeholder(tf.int32, [], 'count')
    values, ids = beam_search.allowed_top_k(logits, 0, None, Options(), count)
    return placeholders + [count], [tf.exp(values - tf.reduce_logsumexp(logits, axis=-1, keepdims=True)), ids]
