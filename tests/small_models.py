"""Small models with known weights and the independent NumPy model, for several test files."""
import collections

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K
from reference import numpy_memories
from text import batches
from text.vocabulary import UNK
from seq2seq_model import Seq2Seq
from settings import check, with_defaults

VOCABULARY = 13

Batch = collections.namedtuple('Batch', 'source given output')  # ids (B, S), decoder input (B, T), its target (B, T)

Whole = collections.namedtuple('Whole', 'logits weights encoder_states initial_states')


def make_batch(source_lengths, target_lengths, seed=0):
    """Random sentences of the given lengths, the targets' without <s> and </s>; <unk> among them."""
    random = np.random.RandomState(seed)
    source, target = [[[UNK] * (n == 1) or random.randint(4, VOCABULARY, n).tolist() for n in lengths]
                      for lengths in (source_lengths, target_lengths)]
    return Batch(*batches.make_batch(source, target, range(len(source))))


def padded(batch, source=3, target=2):
    """The same batch with that many more columns of padding."""
    return Batch(*[np.pad(ids, [(0, 0), (0, more)], 'constant') for ids, more in zip(batch, (source, target, target))])


# Written out, so that no test depends on the defaults. Sizes differ where possible, so that a confusion of two fails.
SMALL = dict(
    units=6, embedding=5, encoder_units=None, cell='lstm', encoder_layers=1, decoder_layers=1, bidirectional=True,
    residual=False, recurrent_activation='hard_sigmoid', tie_embeddings=False, share_vocabulary=False, copy=False,
    score='general', attention='global', attention_units=None, attention_scale=False, attention_normalize=False,
    window=2, input_feeding=False, max_source_length=12, source_tokenizer='word', target_tokenizer='word',
    dropout=0.2, word_dropout=0., label_smoothing=0., coverage_loss=0., weight_decay=0., averaging=0., clip_norm=5.,
    accumulate=1, optimizer='adam', learning_rate=2e-3, warmup=0, decay='constant', seed=1, threads=1)


def settings(**values):
    """Settings of a small model: `SMALL` with these values."""
    made = with_defaults(dict(SMALL, **values))
    check(made)
    return made


def set_weights(model, seed=0, scale=1.):
    """Sets every weight, also scalars and biases, to values that no initializer gives. Returns them by name."""
    random, values = np.random.RandomState(seed), collections.OrderedDict()
    for weight in model.training_model.weights:
        value = random.uniform(-0.8, 0.8, K.int_shape(weight))
        if weight.name.endswith(('factor:0', 'norm:0')):
            value = value + 1.5
        values[weight.name] = np.asarray(scale * value, K.floatx())
    K.batch_set_value(list(zip(model.training_model.weights, values.values())))
    return values


class Small(object):
    """A small model in the current session, its weights, and the NumPy model that has the same."""

    def __init__(self, seed=0, scale=1., separators=None, **values):
        self.settings = settings(**values)
        tf_session.seed_weights(self.settings.seed)
        self.model = Seq2Seq(self.settings, VOCABULARY, VOCABULARY, separators)
        self.weights = set_weights(self.model, seed, scale)
        self.numpy = numpy_memories.model_of(vars(self.settings), self.weights, separators)
        self._one_step, self.fed = None, {}  # `fed`: what else the model takes

    def whole(self, batch, training=False):
        """`Whole` of the whole-sequence graph; one set of tensors for all, as each new one costs TensorFlow time."""
        decoded = (self.model.alignment_model or self.model.training_model).outputs
        found = K.get_session().run([decoded, self.model.encoder_model.outputs],
                                    {self.model.source: batch.source, self.model.target: batch.given,
                                     K.learning_phase(): training, **self.fed})
        return Whole(found[0][0], found[0][1] if len(decoded) == 2 else None,
                     found[1][0], np.stack(found[1][1:], axis=1))

    def stepped(self, source, given):
        """The same by one step at a time for K decoder inputs `(B, K, T)`: `(B, K, T, V)` and `(B, K, T, S)`."""
        if self._one_step is None:
            start = self.model.start()
            tokens = tf.placeholder(tf.int32, [None, None])
            states = [tf.placeholder(K.floatx(), [None, None, state.shape[-1].value]) for state in start]
            self._one_step = start, tokens, states, self.model.step(tokens, states)
        start, tokens, states, fetched = self._one_step
        run = K.get_session().run
        values = [np.repeat(value, given.shape[1], axis=1) for value in run(start, {self.model.source: source})]
        steps = []
        for t in range(given.shape[2]):
            feed = dict(zip(states, values))
            feed.update({**self.fed, self.model.source: source, tokens: given[:, :, t]})
            logits, values, weights = run(fetched, feed)
            steps.append((logits, weights))
        return [np.stack(arrays, axis=2) for arrays in zip(*steps)]
