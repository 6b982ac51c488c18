"""Small Keras layers of the model: noise, masks, slices, tied output.

Each is a class instead of a `Lambda`, which cannot be saved safely. Letters as in `seq2seq_model.py`.
"""
from keras import backend as K
from keras.engine import Layer
import tensorflow as tf
from tensorflow.python.ops.gen_stateless_random_ops import stateless_random_uniform
from text.vocabulary import END, PAD, UNK


class Noise(object):
    """Random numbers as a pure function of (seed, site, step, time), so that a resumed run draws the same numbers.

    The training loop sets the variable `step` before each batch. Each layer that draws has a number, its `site`.

    # Arguments
        seed: Integer, the seed of the run.
    """

    def __init__(self, seed):
        self.seed = seed
        self.step = K.variable(0, dtype='int64', name='micro_step')

    def uniform(self, shape, site, time=0):
        """Returns uniform numbers in [0, 1) of the given shape; `time` distinguishes the steps of a loop."""
        step_and_time = self.step * 65536 + tf.cast(time, tf.int64)
        seed = tf.stack([tf.constant(self.seed * 1000 + site, tf.int64), step_and_time])
        return K.cast(stateless_random_uniform(shape, seed), K.floatx())

    def dropout(self, x, rate, site, time=0):
        """In training sets a share `rate` of `x` to 0 and divides the rest by 1 - rate; otherwise returns `x`."""
        rate = rate * K.cast(K.learning_phase(), K.floatx())
        kept = K.cast(self.uniform(tf.shape(x), site, time) >= rate, K.floatx())
        dropped = x * (kept / (1. - rate))
        dropped._uses_learning_phase = True
        return dropped


class Dropout(Layer):
    """Dropout of `(B, T, E)` with the numbers of a `Noise`."""

    def __init__(self, rate, noise, site, **kwargs):
        super(Dropout, self).__init__(**kwargs)
        self.rate, self.noise, self.site = rate, noise, site
        self.supports_masking = True

    def call(self, inputs):
        return self.noise.dropout(inputs, self.rate, self.site)

    def get_config(self):
        return dict(super(Dropout, self).get_config(), rate=self.rate)


class WordDropout(Layer):
    """Replaces a share `rate` of the words in the ids `(B, T)` by `<unk>` in training."""

    def __init__(self, rate, noise, site, **kwargs):
        super(WordDropout, self).__init__(**kwargs)
        self.rate, self.noise, self.site = rate, noise, site

    def call(self, ids):
        rate = self.rate * K.cast(K.learning_phase(), K.floatx())
        replaced = tf.logical_and(self.noise.uniform(tf.shape(ids), self.site) < rate, ids > END)
        ids = tf.where(replaced, tf.fill(tf.shape(ids), UNK), ids)
        ids._uses_learning_phase = True
        return ids

    def get_config(self):
        return dict(super(WordDropout, self).get_config(), rate=self.rate)


class SourceMask(Layer):
    """Maps ids `(B, S)` to 1 for a token and 0 for padding: Keras' RNN does not pass the masks of its constants."""

    def call(self, ids):
        return K.cast(K.not_equal(ids, PAD), K.floatx())


class ZeroState(Layer):
    """Maps ids `(B, S)` to a state of zeros `(B, width)`."""

    def __init__(self, width, **kwargs):
        super(ZeroState, self).__init__(**kwargs)
        self.width = width

    def call(self, ids):
        return tf.zeros(tf.stack([tf.shape(ids)[0], self.width]), K.floatx())

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.width

    def get_config(self):
        return dict(super(ZeroState, self).get_config(), width=self.width)


def mean_of_hops(weights):
    """The alignment of several hops, a list of weights: their mean."""
    return weights[0] if len(weights) == 1 else tf.add_n(weights) / len(weights)


class Alignment(Layer):
    """Returns the weights `(B, T, S)` of an attention layer whose kernels belong to another layer of the model.

    Inputs are encoder states `(B, S, Dm)` and decoder states `(B, T, D)`. With several hops, `combine` is the layer
    that makes the query of the next hop.
    """

    def __init__(self, attention, combine=None, hops=1, **kwargs):
        super(Alignment, self).__init__(**kwargs)
        self.attention, self.combine, self.hops = attention, combine, hops
        self.supports_masking = True

    def call(self, inputs, mask=None):
        memory, query = inputs
        alignments = []
        for hop in range(self.hops):
            context, weights = self.attention.call([memory, query], mask)
            alignments.append(weights)
            if hop + 1 < self.hops:
                query = self.combine.call(K.concatenate([context, query]))
        return mean_of_hops(alignments)

    def compute_output_shape(self, input_shape):
        return self.attention.compute_output_shape(input_shape)[1]

    def compute_mask(self, inputs, mask=None):
        return None


class TiedOutput(Layer):
    """Logits x . E^T from the target embedding: maps `(B, T, E)` to `(B, T, V)`, or `(B, E)` to `(B, V)`."""

    def __init__(self, embedding, **kwargs):
        super(TiedOutput, self).__init__(**kwargs)
        self.embedding = embedding

    def build(self, input_shape):
        # The product of the few rows of one step is faster with the transposed matrix. Transposing it here keeps that
        # out of the loop over the steps.
        self.transposed_embeddings = tf.transpose(self.embedding.embeddings)                            # (E, V)
        super(TiedOutput, self).build(input_shape)

    def freeze_for_inference(self):
        """Caches the transposed embedding matrix; call once the weights of the current session are final."""
        self.transposed_embeddings = tf.Variable(self.transposed_embeddings, trainable=False, collections=[])
        K.get_session().run(self.transposed_embeddings.initializer)

    def call(self, inputs):
        if K.ndim(inputs) == 2:
            return tf.matmul(inputs, self.transposed_embeddings)
        rows = tf.matmul(tf.reshape(inputs, [-1, self.embedding.output_dim]), self.embedding.embeddings,
                         transpose_b=True)
        return tf.reshape(rows, tf.concat([tf.shape(inputs)[:-1], [self.embedding.input_dim]], 0))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[:-1]) + (self.embedding.input_dim,)

    def get_config(self):
        return dict(super(TiedOutput, self).get_config(), embedding=self.embedding.name)


class Slice(Layer):
    """Returns `[start:stop]` of the last axis of `(B, T, n)`."""

    def __init__(self, start, stop, **kwargs):
        super(Slice, self).__init__(**kwargs)
        self.start, self.stop = start, stop

    def call(self, inputs):
        return inputs[:, :, self.start:self.stop]

    def compute_output_shape(self, input_shape):
        return input_shape[0], input_shape[1], self.stop - self.start

    def get_config(self):
        return dict(super(Slice, self).get_config(), start=self.start, stop=self.stop)


class Unmasked(Layer):
    """Returns its input `(B, T, E)` without the mask."""

    def __init__(self, **kwargs):
        super(Unmasked, self).__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return tf.identity(inputs)

    def compute_mask(self, inputs, mask=None):
        return None
