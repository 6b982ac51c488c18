"""A trained model put to work: text in, hypotheses with their alignments out."""
import collections
from concurrent.futures import ThreadPoolExecutor
import threading

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K
from text.batches import pad, plan_batches
from text.vocabulary import END, START, Vocabulary
import beam_search
from storage.run_directory import RunDirectory
from seq2seq_model import Seq2Seq
from command_line import UserError
from settings import check, with_defaults
from text.tokenizers import read_tokenizers

Hypothesis = collections.namedtuple('Hypothesis', 'text tokens score log_probabilities alignment ended margins '
                                    'ranking')
Hypothesis.__doc__ = """One output for one source text.

`tokens` without `</s>`; `score` the sum of `log_probabilities` (nats), one for each token and, where `ended`, one for
`</s>`; `alignment` `(T, S)` the attention weights, a row for each token, without that of `</s>`; `margins` the logit of
each token less the runner-up's; `ranking` what hypotheses of one text are ordered by: the score, with the penalties.
"""


class Translator(object):
    """Texts to hypotheses with one model, or with several as one, loaded once. May be called from several threads.

    # Arguments
        models: a `Seq2Seq`, or a list of them in one graph: an ensemble, which averages their probabilities (and their
            attention weights) at each step.
        tf_session: the session that holds them.
        source, target: pairs of a tokeniser and a vocabulary.
        workers: batches worked on at a time.

    `Translator.load('runs/x')` makes one from a run directory.
    """

    def __init__(self, models, session, source, target, workers=1):
        self.models = models if isinstance(models, list) else [models]
        self.session = session
        self.source_tokenizer, self.source_vocabulary = source
        self.target_tokenizer, self.target_vocabulary = target
        self.workers = workers
        self._lock = threading.Lock()
        self._made = {}

    @classmethod
    def load(cls, paths, threads=0):
        """Reads run directories: their settings, vocabularies and best weights.

        # Arguments
            paths: one run directory, or a list of several that have the same vocabularies: an ensemble.
            threads: batches worked on at a time, each on one core; 0: as in the (first) run's settings.

        # Raises
            UserError: a directory holds no trained run, or one that does not fit together, or not to the others.
        """
        runs = [RunDirectory.open(path) for path in (paths if isinstance(paths, (list, tuple)) else [paths])]
        configs = [with_defaults(run.read_config()) for run in runs]
        for run, settings in zip(runs, configs):
            check(settings)
            check_same(runs[0], configs[0], run, settings)
        source, target = sides(read_tokenizers(runs[0], configs[0]), lambda name: Vocabulary.from_bytes(
            runs[0].read_file(name), runs[0].file(name)))
        threads = threads or configs[0].threads or tf_session.available_cores()
        session = tf_session.new_session(threads, runs_at_once=True)
        with tf_session.opened(session):
            models = [restored(run, settings, len(source[1]), len(target[1]),
                               'member_%d/' % number if len(runs) > 1 else '')
                      for number, (run, settings) in enumerate(zip(runs, configs), 1)]
            for model in models:
                model.finish()
        translator = cls(models, session, source, target, threads)
        translator.settings, translator.run = configs[0], runs[0]
        return translator

    def encode(self, text):
        """Source tokens of a text."""
        return self.source_tokenizer.tokenize(text)

    def translate(self, texts, batch_size=32, max_length=None, **options):
        """The best hypotheses for each text, a list of lists in the order of the texts.

        # Arguments
            texts: list of str; one without any token gives one empty hypothesis.
            batch_size: most sentences decoded together, sorted by length; few sentences are divided among the threads.
            max_length: most tokens of an output; by default 2 S + 10 for a source of S tokens.
            options: `beam_width`, `n_best` and the others of `search.Options`. What is asked for the first time takes
                about a second more, and memory, for its graph.

        # Raises
            UserError: options that cannot be met.
        """
        options = beam_search.Options(max_length=max_length, **options)
        beam_search.check(options)
        results = [[Hypothesis('', [], 0., [], np.zeros((0, 0), 'f'), True, [], 0.)] for _ in texts]
        sources = [self.encode(text) for text in texts]
        # Longest first, so that what is left when a thread runs out of batches is short.
        order = sorted((i for i, tokens in enumerate(sources) if tokens), key=lambda i: -len(sources[i]))
        size = max(1, min(batch_size, -(-len(order) // self.workers)))
        batches = [order[start:start + size] for start in range(0, len(order), size)]

        def found(chosen):
            limits = beam_search.max_lengths([len(sources[i]) for i in chosen], options)
            return self._search([sources[i] for i in chosen], limits, options)

        for chosen, values in zip(batches, self.at_once(found, batches)):
            for row, i in enumerate(chosen):
                results[i] = [self._hypothesis(values, row, n, sources[i], options)
                              for n in range(options.n_best) if values.rankings[row, n] > -np.inf]
        return results

    def at_once(self, function, batches):
        """The function's value for each batch, several of them worked on at a time."""
        if self.workers == 1 or len(batches) < 2:
            yield from map(function, batches)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(function, batches)

    def _source_ids(self, tokens):
        for settings in (model.settings for model in self.models):
            longest = settings.max_source_length
            if settings.score == 'location' and len(tokens) > longest:
                raise UserError('a source of %d tokens is longer than the %d for which this model, with --score '
                                'location, was made: shorten it, or train with a larger --max-source-length'
                                % (len(tokens), longest))
        return self.source_vocabulary.encode(tokens)

    def _names(self, tokens):
        """The words of a source that have no id in the target vocabulary, where the models may copy them."""
        return self.target_vocabulary.names(tokens) if self.models[0].copied is not None else ()

    def _run(self, key, build, sources, feeds):
        """Values of the tensors that `build` makes, once for each `key`; it returns placeholders and tensors.

        # Arguments
            sources: token lists of a batch. feeds: values of the placeholders.
        """
        source = pad([self._source_ids(tokens) for tokens in sources])
        with self._lock:
            if key not in self._made:
                # No other thread's run may hand a loop that is half built to the runtime.
                with tf_session.opened(self.session), self.session.graph._mutation_lock():
                    self._made[key] = build()
            placeholders, tensors = self._made[key]
        feed = dict(zip(placeholders, feeds))
        feed.update((model.source, source) for model in self.models)
        if self.models[0].copied is not None:
            copied = pad([self.target_vocabulary.encode(tokens, self._names(tokens)) for tokens in sources])
            feed.update((model.copied, copied) for model in self.models)
        return self.session.run(tensors, feed)

    def _search(self, sources, limits, options):
        def build():
            placeholder = tf.placeholder(tf.int32, [None], 'max_lengths')
            step, states = together(self.models)
            return [placeholder], beam_search.search(step, states, placeholder, options, self.models[0].memory.mask)

        if options.coverage_penalty and not any(map(attends, self.models)):
            raise UserError('coverage_penalty needs attention, which a model with --score none has not: leave it out')
        return self._run(options._replace(max_length=None, max_length_ratio=None), build, sources, [limits])

    def _hypothesis(self, found, row, n, source, options):
        length = int(found.lengths[row, n])
        ids = found.ids[row, n, :length].tolist()
        ended = END in ids
        words = ids[:-1] if ended else ids
        tokens = self.target_vocabulary.decode(words, self._names(source))
        log_probabilities, margins = [x[row, n, :length].tolist() for x in (found.log_probabilities, found.margins)]
        score = sum(log_probabilities)
        penalised = options.length_penalty or options.coverage_penalty
        return Hypothesis(self.target_tokenizer.detokenize(tokens), tokens, score, log_probabilities,
                          found.weights[row, n, :len(words), :len(source)], ended, margins,
                          float(found.rankings[row, n]) if penalised else score)

    def score(self, pairs, batch_size=32):
        """Forced decoding: how probable the model finds given targets.

        # Arguments
            pairs: list of (source text, target text).
            batch_size: pairs scored together, sorted by length.

        # Returns
            A `Hypothesis` for each pair, its tokens the given ones; `margins` tell by how much the logit of the
            given token exceeds that of the best other one but `<pad>` and `<s>`, so a negative one is a token that
            greedy search would not choose.
        """
        source = [self.encode(text) or [''] for text, _ in pairs]
        tokens = [self.target_tokenizer.tokenize(text) for _, text in pairs]
        target = [self.target_vocabulary.encode(one, self._names(words)) for one, words in zip(tokens, source)]
        results = [None] * len(pairs)
        plan = plan_batches([len(ids) for ids in source], [len(ids) for ids in target], batch_size, 0, 0, False)

        def forced(chosen):
            given, output = [pad([before + target[i] + after for i in chosen])
                             for before, after in (([START], []), ([], [END]))]
            return self._run('score', self._forced, [source[i] for i in chosen],
                             [output] + [given] * len(self.models))

        for chosen, values in zip(plan, self.at_once(forced, plan)):
            for row, i in enumerate(chosen):
                log_probabilities, margins = [value[row, :len(target[i]) + 1].tolist() for value in values[:2]]
                score = sum(log_probabilities)
                results[i] = Hypothesis(pairs[i][1], tokens[i], score, log_probabilities,
                                        values[2][row, :len(target[i]), :len(source[i])], True, margins, score)
        return results

    def _forced(self):
        """Placeholders and tensors of forced decoding: log-probabilities and margins `(B, T)`, weights `(B, T, S)`."""
        output = tf.placeholder(tf.int32, [None, None], 'output')                                       # (B, T)
        logits, weights = [], []
        for model in self.models:
            logits.append(model.training_model.output)
            if model.alignment_model is not None:
                weights.append(model.alignment_model.outputs[1])
        logits = mean_probabilities(logits)
        if not weights:
            weights.append(tf.zeros(tf.concat([tf.shape(logits)[:2], tf.shape(self.models[0].source)[1:]], 0)))
        given = -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=output, logits=logits)
        best, ids = beam_search.candidates(logits, 0, None, beam_search.Options(), 2)
        chosen = given + tf.reduce_logsumexp(logits, axis=-1)
        other = tf.where(tf.equal(ids[:, :, 0], output), best[:, :, 1], best[:, :, 0])
        return [output] + [model.target for model in self.models], [given, chosen - other, mean(weights)]


# ---- Ensembles ------------------------------------------------------------------------------------------------
def attends(model):
    return model.attention is not None


def mean(tensors):
    return tensors[0] if len(tensors) == 1 else tf.add_n(tensors) / len(tensors)


def mean_probabilities(logits):
    """Logits of the mean of several models' probabilities: its logarithm. One model's logits stay as they are."""
    if len(logits) == 1:
        return logits[0]
    return tf.reduce_logsumexp(tf.stack([tf.nn.log_softmax(one) for one in logits]), axis=0) - np.log(len(logits))


def together(models):
    """The step, as `search.search` takes one, and the first states of several models as of one."""
    starts = [model.start() for model in models]

    def step(tokens, states, rows):
        logits, new_states, weights = [], [], []
        for model, start in zip(models, starts):
            taken = len(new_states)
            one = model.step(tokens, states[taken:taken + len(start)], rows)
            logits.append(one[0])
            new_states += one[1]
            if attends(model) or not any(map(attends, models)):
                weights.append(one[2])
        return mean_probabilities(logits), new_states, mean(weights)

    return step, [state for start in starts for state in start]


def check_same(first, first_settings, run, settings):
    """Refuses a run whose tokenisers, vocabularies or way to copy are not those of the first one."""
    for name in ('source_tokenizer', 'target_tokenizer', 'copy'):
        if getattr(settings, name) != getattr(first_settings, name):
            raise UserError('%s: %s is %s, and %s in %s: an ensemble needs runs that agree in this'
                            % (run.file('config.json'), name, getattr(settings, name), getattr(first_settings, name),
                               first.file('config.json')))
    files, first_files = run.manifest()['files'], first.manifest()['files']
    for name in ('tokenizer.source.model', 'tokenizer.target.model', 'vocab.source.txt', 'vocab.target.txt'):
        if files.get(name) != first_files.get(name):
            raise UserError('%s: differs from %s: an ensemble needs runs with the same vocabularies and tokenisers'
                            % (run.file(name), first.file(name)))


def restored(run, settings, source_size, target_size, scope):
    """A run's model with its best weights, built under the name scope `scope` of the current graph."""
    with tf.name_scope(scope or None):
        # Keras' orthogonal initialiser takes its memory while the graph is built; the file's header is read after.
        model = Seq2Seq(with_defaults(dict(vars(settings), init_scale=1.)), source_size, target_size)
    layers = [layer for layer in model.training_model.layers if layer.weights]
    expected = [(layer.name, [(weight.name[len(scope):], K.int_shape(weight), weight.dtype.base_dtype.as_numpy_dtype)
                              for weight in layer.weights]) for layer in layers]
    arrays = dict(run.read_weights(expected))
    K.batch_set_value([(weight, value) for layer in layers
                       for weight, value in zip(layer.weights, arrays[layer.name])])
    return model


def sides(tokenizers, vocabulary):
    """The pairs (tokeniser, vocabulary) of source and target; `vocabulary` is called with each file's name."""
    return tuple(zip(tokenizers, (vocabulary('vocab.source.txt'), vocabulary('vocab.target.txt'))))
