"""A trained model put to work: text in, hypotheses with their alignments out."""
import collections
import threading

import session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K

import data
import search
from run_directory import RunDirectory
from seq2seq_model import Seq2Seq
from settings import UserError, check, namespace

Hypothesis = collections.namedtuple('Hypothesis', 'text tokens score log_probabilities alignment ended margins')
Hypothesis.__doc__ = """One output for one source text.

`tokens` without `</s>`; `score` the sum of `log_probabilities` (nats), one for each token and, where `ended`, one for
`</s>`; `alignment` `(T, S)` the attention weights, a row for each token, without that of `</s>`; `margins` the logit of
each token less the runner-up's.
"""


class Translator(object):
    """Texts to hypotheses with one model, loaded once. May be called from several threads.

    # Arguments
        model: a `Seq2Seq`. tf_session: the session that holds it.
        source, target: pairs of a tokeniser and a vocabulary.

    `Translator.load('runs/x')` makes one from a run directory.
    """

    def __init__(self, model, tf_session, source, target):
        self.model, self.session = model, tf_session
        self.source_tokenizer, self.source_vocabulary = source
        self.target_tokenizer, self.target_vocabulary = target
        self._lock = threading.Lock()
        self._found = None
        self._scored = None

    @classmethod
    def load(cls, path, threads=0):
        """Reads a run directory: its settings, vocabularies and best weights.

        # Raises
            UserError: the directory holds no trained run, or one that does not fit together.
        """
        run = RunDirectory.open(path)
        settings = namespace(run.read_config())
        check(settings)
        source, target = sides(settings, lambda name: data.Vocabulary.from_bytes(run.read_file(name), run.file(name)))
        tf_session = session.new_session(threads or settings.threads)
        with session.opened(tf_session):
            # Keras' orthogonal initialiser takes its memory while the graph is built; the file's header is read after.
            model = Seq2Seq(namespace(dict(vars(settings), init_scale=1.)), len(source[1]), len(target[1]))
            layers = [layer for layer in model.training_model.layers if layer.weights]
            expected = [(layer.name, [(weight.name, K.int_shape(weight), weight.dtype.base_dtype.as_numpy_dtype)
                                      for weight in layer.weights]) for layer in layers]
            arrays = dict(run.read_weights(expected))
            K.batch_set_value([(weight, value) for layer in layers
                               for weight, value in zip(layer.weights, arrays[layer.name])])
        translator = cls(model, tf_session, source, target)
        translator.settings, translator.run = settings, run
        return translator

    def encode(self, text):
        """Source tokens of a text."""
        return self.source_tokenizer.tokenize(text)

    def translate(self, texts, batch_size=32, max_length=None):
        """The best hypotheses for each text, a list of lists in the order of the texts.

        # Arguments
            texts: list of str; one without any token gives an empty hypothesis.
            batch_size: sentences decoded together, sorted by length.
            max_length: most tokens of an output; by default 2 S + 10 for a source of S tokens.
        """
        results = [[Hypothesis('', [], 0., [], np.zeros((0, 0), 'f'), True, [])] for _ in texts]
        sources = [self.encode(text) for text in texts]
        order = sorted((i for i, tokens in enumerate(sources) if tokens), key=lambda i: len(sources[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start:start + batch_size]
            ids = [self._source_ids(sources[i]) for i in chosen]
            limits = [max_length or 2 * len(row) + 10 for row in ids]
            found = self._search(data.pad(ids), np.array(limits, 'i'))
            for row, i in enumerate(chosen):
                results[i] = [self._hypothesis(found, row, len(sources[i]))]
        return results

    def _source_ids(self, tokens):
        longest = self.model.settings.max_source_length
        if self.model.settings.score == 'location' and len(tokens) > longest:
            raise UserError('a source of %d tokens is longer than the %d for which this model, with --score location, '
                            'was made: shorten it, or train with a larger --max-source-length' % (len(tokens), longest))
        return self.source_vocabulary.encode(tokens)

    def _search(self, source, limits):
        with self._lock:
            if self._found is None:
                with session.opened(self.session):
                    self._limits = tf.placeholder(tf.int32, [None], 'max_lengths')
                    self._found = search.greedy(self.model.step, self.model.start(), self._limits)
        return self.session.run(self._found, {self.model.source: source, self._limits: limits})

    def _hypothesis(self, found, row, source_length):
        length = int(found.lengths[row])
        ids = found.ids[row, :length].tolist()
        ended = data.END in ids
        words = ids[:-1] if ended else ids
        tokens = self.target_vocabulary.decode(words)
        log_probabilities = found.log_probabilities[row, :length].tolist()
        return Hypothesis(self.target_tokenizer.detokenize(tokens), tokens, sum(log_probabilities), log_probabilities,
                          found.weights[row, :len(words), :source_length], ended, found.margins[row, :length].tolist())

    def score(self, pairs, batch_size=32):
        """Forced decoding: how probable the model finds given targets.

        # Arguments
            pairs: list of (source text, target text).
            batch_size: pairs scored together, sorted by length.

        # Returns
            A `Hypothesis` for each pair, its tokens the given ones; `margins` tell by how much the logit of the
            given token exceeds the best other one, so a negative one is a token that greedy search would not choose.
        """
        source = [self._source_ids(self.encode(text) or ['']) for text, _ in pairs]
        tokens = [self.target_tokenizer.tokenize(text) for _, text in pairs]
        target = [self.target_vocabulary.encode(one) for one in tokens]
        results = [None] * len(pairs)
        plan = data.plan_batches([len(ids) for ids in source], [len(ids) for ids in target], batch_size, 0, 0, False)
        for chosen in plan:
            values = self._score(*data.make_batch(source, target, chosen))
            for row, i in enumerate(chosen):
                log_probabilities, margins = [value[row, :len(target[i]) + 1].tolist() for value in values[:2]]
                results[i] = Hypothesis(pairs[i][1], tokens[i], sum(log_probabilities), log_probabilities,
                                        values[2][row, :len(target[i]), :len(source[i])], True, margins)
        return results

    def _score(self, source, given, output):
        with self._lock:
            if self._scored is None:
                with session.opened(self.session):
                    self._scored = self._forced()
        return self.session.run(self._scored, {self.model.source: source, self.model.target: given,
                                               self._output: output})

    def _forced(self):
        """Tensors of forced decoding: log-probabilities `(B, T)`, margins `(B, T)`, weights `(B, T, S)`."""
        self._output = tf.placeholder(tf.int32, [None, None], 'output')
        if self.model.alignment_model is not None:
            logits, weights = self.model.alignment_model.outputs
        else:
            logits = self.model.training_model.output
            weights = tf.zeros(tf.concat([tf.shape(logits)[:2], tf.shape(self.model.source)[1:]], 0))
        given = -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self._output, logits=logits)
        best, ids = tf.nn.top_k(logits, 2)
        chosen = given + tf.reduce_logsumexp(logits, axis=-1)
        other = tf.where(tf.equal(ids[:, :, 0], self._output), best[:, :, 1], best[:, :, 0])
        return given, chosen - other, weights


def sides(settings, vocabulary):
    """The pairs (tokeniser, vocabulary) of source and target; `vocabulary` is called with each file's name."""
    return ((data.make_tokenizer(settings.source_tokenizer), vocabulary('vocab.source.txt')),
            (data.make_tokenizer(settings.target_tokenizer), vocabulary('vocab.target.txt')))
