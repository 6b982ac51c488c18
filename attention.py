"""Global and local attention for Keras 2.2.4, after Luong, Pham and Manning (2015).

Read it beside the paper: a score (eq. 7 and 8), a masked softmax, a context vector. The file needs Keras and TensorFlow
only and can be copied into another project.

Letters in shapes: B batch, S source length, T target length, Dm and Dq sizes of the encoder's and the decoder's states,
U width of the concat score, W half-width of a local window.
"""
import collections
import warnings

from keras import backend as K
from keras import constraints, initializers, regularizers
from keras.engine import InputSpec, Layer
import tensorflow as tf

SCORES = ('dot', 'general', 'concat', 'location', 'scaled_dot')
ALIASES = {'additive': 'concat'}
# Prefixes of options in configurations of earlier versions, which had an initializer and so on for each kernel.
EARLIER = ('memory_kernel_', 'query_kernel_', 'score_kernel_', 'position_kernel_', 'position_score_kernel_')

AttentionOutput = collections.namedtuple('AttentionOutput', 'context weights scores masked_scores')
AttentionOutput.__doc__ = """Context (B, T, Dm), weights (B, T, S), scores (B, T, S) before the mask, and masked scores
(B, T, S), which the softmax takes: the lowest float at positions without weight."""


class GlobalAttention(Layer):
    """Attention of every decoder state to all encoder states.

    The layer scores each pair of a decoder state h_t and an encoder state h_s (eq. 7, 8), turns the scores into
    alignment weights a_t by a softmax over the valid source positions, and sums the encoder states with these weights
    to the context c_t:

        context, weights = GlobalAttention('general')([encoder_states, decoder_states])

    # Arguments
        score: `'dot'` h_t . h_s; `'general'` h_t W_a h_s; `'concat'` (alias `'additive'`)
            v_a . tanh(W_a [h_t; h_s]); `'location'` W_a h_t; `'scaled_dot'` h_t . h_s / sqrt(Dm).
        units: Integer, width U of the `'concat'` score. Dq by default.
        scale: Boolean, multiply the score by a trainable scalar, initially 1.
        normalize: Boolean, for `'concat'`: use g v_a / |v_a| instead of v_a, and add a bias inside the tanh.
        max_source_length: Integer, the maximum S; `'location'` requires it if the S of the input is `None`.
        kernel_initializer, kernel_regularizer, kernel_constraint: for every kernel of the layer.

    # Input shape
        List of encoder states `(B, S, Dm)` and decoder states `(B, T, Dq)`, or one decoder state `(B, Dq)`.
        Masks: `(B, S)` for encoder states and `(B, T)` for decoder states; the context keeps the latter.

    # Output shape
        List of context `(B, T, Dm)` and weights `(B, T, S)`, or `(B, Dm)` and `(B, S)` for one decoder state.
        Weights of masked positions are exactly 0; a row without a valid position has weights 0 and context 0.

    # Raises
        ValueError: unknown score, options that the score does not have, inputs that do not fit.

    # References
        - [Effective Approaches to Attention-based Neural Machine Translation](https://arxiv.org/abs/1508.04025)
        - [Neural Machine Translation by Jointly Learning to Align and Translate](https://arxiv.org/abs/1409.0473)
        - [Weight Normalization](https://arxiv.org/abs/1602.07868), for `normalize`
    """

    def __init__(self, score='dot', units=None, scale=False, normalize=False, max_source_length=None,
                 kernel_initializer='glorot_uniform', kernel_regularizer=None, kernel_constraint=None, **kwargs):
        super(GlobalAttention, self).__init__(**kwargs)
        self.score = ALIASES.get(score, score)
        if self.score not in SCORES:
            raise ValueError('Unknown attention score %r; known are %s.' % (score, ', '.join(SCORES + tuple(ALIASES))))
        if normalize and self.score != 'concat':
            raise ValueError('normalize=True belongs to the concat score, not to %r.' % score)
        if units is not None and (self.score != 'concat' or units < 1):
            raise ValueError('units=%r: a width of at least 1, for the concat score (here: %r).' % (units, score))
        if max_source_length is not None and (self.score != 'location' or max_source_length < 1):
            raise ValueError('max_source_length=%r: at least 1, for the location score (here: %r).' % (
                max_source_length, score))
        self.units = units
        self.scale = scale
        self.normalize = normalize
        self.max_source_length = self.source_limit = max_source_length
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.supports_masking = True

    # Inputs and weights

    def assert_input_compatibility(self, inputs):
        if not isinstance(inputs, list):
            raise ValueError('Attention takes a list of encoder states and decoder states, not a %s: call the layer '
                             'with [encoder_states, decoder_states].' % type(inputs).__name__)
        for tensor in inputs:
            if not isinstance(getattr(tensor, '_keras_history', [self])[0], Layer):
                raise ValueError('%s comes from tf.keras: use keras, not tf.keras, for all layers.' % tensor.name)
        # Without the third input: the same layer takes sequences without positions and single steps with them.
        super(GlobalAttention, self).assert_input_compatibility(inputs[:2])
        if self.built:
            self.check_shapes([K.int_shape(tensor) for tensor in inputs])

    def check_shapes(self, input_shape):
        """Raises `ValueError` for shapes that do not fit the score."""
        if not isinstance(input_shape, list) or not 2 <= len(input_shape) <= 3:
            raise ValueError('Attention takes a list of encoder states and decoder states, got %s.' % (input_shape,))
        memory, query = input_shape[:2]
        if len(memory) != 3 or len(query) not in (2, 3):
            raise ValueError('Attention takes encoder states (B, S, Dm) and decoder states (B, T, Dq) or (B, Dq), '
                             'got %s and %s.' % (memory, query))
        if len(input_shape) == 3 and len(input_shape[2]) != 2:
            raise ValueError('Attention takes positions (B, T), got %s.' % (input_shape[2],))
        if memory[-1] is None or query[-1] is None:
            raise ValueError('The last axes of the states must be known, got %s and %s.' % (memory, query))
        if self.score in ('dot', 'scaled_dot') and memory[-1] != query[-1]:
            raise ValueError('The %s score needs encoder and decoder states of one size, got %d and %d; '
                             'the general score takes any.' % (self.score, memory[-1], query[-1]))
        if self.score == 'location' and self.source_limit is None and memory[1] is None:
            raise ValueError('The location score fixes the maximum source length when built: '
                             'give max_source_length, or an input with a known S.')
        if None not in (self.source_limit, memory[1]) and memory[1] > self.source_limit:
            raise ValueError('Source length %d exceeds %d, the maximum of this location score: '
                             'give max_source_length=%d or more.' % (memory[1], self.source_limit, memory[1]))

    def build(self, input_shape):
        self.check_shapes(input_shape)
        (_, source_length, self.memory_size), query_size = input_shape[0], input_shape[1][-1]
        if self.score == 'general':
            self.kernel = self.add_kernel('kernel', (query_size, self.memory_size))                     # (Dq, Dm)
        elif self.score == 'location':
            self.source_limit = self.max_source_length or source_length
            self.kernel = self.add_kernel('kernel', (query_size, self.source_limit))                    # (Dq, max S)
        elif self.score == 'concat':
            units = self.units or query_size
            self.memory_kernel = self.add_kernel('memory_kernel', (self.memory_size, units))            # (Dm, U)
            self.query_kernel = self.add_kernel('query_kernel', (query_size, units))                    # (Dq, U)
            self.score_kernel = self.add_kernel('score_kernel', (units, 1))                             # (U, 1)
            if self.normalize:
                self.norm = self.add_weight(shape=(), name='norm', initializer=initializers.Constant(units ** -0.5))
                self.bias = self.add_weight(shape=(units,), name='bias', initializer='zeros')           # (U,)
        if self.scale:
            self.factor = self.add_weight(shape=(), name='factor', initializer='ones')
        self.build_alignment(query_size)
        self.input_spec = [InputSpec(ndim=3, axes={-1: self.memory_size}),
                           InputSpec(min_ndim=2, max_ndim=3, axes={-1: query_size})]
        super(GlobalAttention, self).build(input_shape)

    def build_alignment(self, query_size):
        """Adds the weights of the alignment: none for global attention."""

    def add_kernel(self, name, shape):
        """Adds a weight with the initializer, regularizer and constraint that all kernels of the layer share."""
        return self.add_weight(shape=shape, name=name, initializer=self.kernel_initializer,
                               regularizer=self.kernel_regularizer, constraint=self.kernel_constraint)

    # Arithmetic

    def call(self, inputs, mask=None):
        memory, query = inputs[:2]
        positions = inputs[2] if len(inputs) == 3 else None
        single = K.ndim(query) == 2
        if single:
            query = K.expand_dims(query, 1)                                                             # (B, 1, Dq)
        source_mask = mask[0] if isinstance(mask, list) else mask
        output = self.attend(query, memory, self.keys(memory), source_mask, positions)
        if single:
            return [K.squeeze(output.context, 1), K.squeeze(output.weights, 1)]
        return [output.context, output.weights]

    def keys(self, memory):
        """The part of the score that depends on encoder states `(B, S, Dm)` only, the same for all decoder steps.

        Returns `(B, S, U)` for `concat`, the encoder states themselves for the other scores.
        """
        if self.score != 'concat':
            return memory
        keys = K.dot(memory, self.memory_kernel)
        return K.bias_add(keys, self.bias) if self.normalize else keys

    def step_keys(self, memory):
        """The keys for a decoder that calls `attend` at each step; a subclass may prepare more of the score."""
        return self.keys(memory)

    def attend(self, query, memory, keys, source_mask=None, positions=None):
        """Scores, weights and context from prepared keys; a decoder calls this at each step.

        # Arguments
            query: decoder states `(B, T, Dq)`.
            memory: encoder states `(B, S, Dm)`.
            keys: `self.keys(memory)`, or `self.step_keys(memory)`.
            source_mask: booleans `(B, S)`, or `None` if all positions are valid.
            positions: target positions `(B, T)` counted from 0, or `None` for 0 ... T-1.

        # Returns
            `AttentionOutput`.
        """
        scores = self.scores(query, keys)                                                               # (B, T, S)
        weights, masked_scores = self.align(scores, query, source_mask, positions)                      # (B, T, S)
        return AttentionOutput(tf.matmul(weights, memory), weights, scores, masked_scores)

    def scores(self, query, keys):
        """Scores `(B, T, S)` before the mask, eq. 7 and 8, of decoder states `(B, T, Dq)` and keys as for `attend`."""
        if self.score == 'dot':                                                     # eq. 7: h_t . h_s
            scores = tf.matmul(query, keys, transpose_b=True)
        elif self.score == 'scaled_dot':                                            # h_t . h_s / sqrt(Dm)
            scores = tf.matmul(query, keys, transpose_b=True) / self.memory_size ** 0.5
        elif self.score == 'general':                                               # eq. 7: h_t W_a h_s
            scores = tf.matmul(K.dot(query, self.kernel), keys, transpose_b=True)
        elif self.score == 'concat':                                                # eq. 7: v_a . tanh(W_a [h_t; h_s])
            # W_a [h_t; h_s] is a sum of two products: nothing of size (B, T, S, Dq + Dm) is needed.
            pairs = K.expand_dims(K.dot(query, self.query_kernel), 2) + K.expand_dims(keys, 1)          # (B, T, S, U)
            scores = K.squeeze(K.dot(K.tanh(pairs), self.score_vector()), -1)
        else:                                                                       # eq. 8: W_a h_t, column s
            length = K.shape(keys)[1]
            with tf.control_dependencies([self.check_length(length)]):
                scores = K.dot(query, self.kernel)[:, :, :length]
        return self.factor * scores if self.scale else scores

    def score_vector(self):
        """v_a `(U, 1)` of the `concat` score, normalized where the layer asks for it."""
        v = self.score_kernel
        return self.norm * v / K.sqrt(K.sum(K.square(v))) if self.normalize else v

    def check_length(self, length):
        """An operation that fails if the location score has fewer columns than `length`, an int32 scalar."""
        return tf.assert_less_equal(length, self.source_limit,
                                    message='Source longer than max_source_length of the location score.')

    def align(self, scores, query, source_mask=None, positions=None):
        """Weights a_t and masked scores `(B, T, S)`: a softmax over the valid positions. Arguments as for `attend`."""
        return masked_softmax(scores, None if source_mask is None else K.expand_dims(source_mask, 1))

    # Keras

    def compute_output_shape(self, input_shape):
        memory, query = input_shape[:2]
        return [tuple(query[:-1]) + (memory[-1],), tuple(query[:-1]) + (memory[1],)]

    def compute_mask(self, inputs, mask=None):
        return [mask[1] if isinstance(mask, list) else None, None]

    def get_config(self):
        config = super(GlobalAttention, self).get_config()
        config.update(score=self.score, units=self.units, scale=self.scale, normalize=self.normalize,
                      max_source_length=self.max_source_length,
                      kernel_initializer=initializers.serialize(self.kernel_initializer),
                      kernel_regularizer=regularizers.serialize(self.kernel_regularizer),
                      kernel_constraint=constraints.serialize(self.kernel_constraint))
        return config

    @classmethod
    def from_config(cls, config):
        """Also reads configurations of earlier versions, which had three options for each kernel.

        Where these differ, all kernels take the options of the first one in use, with a warning.
        """
        used = {'concat': EARLIER[:3], 'general': ('kernel_',), 'location': ('kernel_',)}.get(config['score'], ())
        used += EARLIER[3:] if config.get('alignment') == 'predictive' else ()
        saved, config = config, {key: value for key, value in config.items() if not key.startswith(EARLIER)}
        for option in ('initializer', 'regularizer', 'constraint'):
            values = [saved[prefix + option] for prefix in used if prefix + option in saved]
            if values:
                config['kernel_' + option] = values[0]
            if values != values[:1] * len(values):
                warnings.warn('The saved kernels differ in their %s; all take %s.' % (option, values[0]))
        return cls(**config)


class LocalAttention(GlobalAttention):
    """Attention to a window of the source around a position p_t, section 3.2 of the paper.

    Monotonic (local-m): p_t = t. Predictive (local-p): p_t = S sigmoid(v_p . tanh(W_p h_t)) (eq. 9), and the weights
    inside the window are multiplied by a Gaussian around p_t with sigma = W/2 (eq. 10), without normalizing again.
    S is the number of valid source positions of the row. The softmax covers |s - p_t| <= W only.

    # Arguments
        score: as for `GlobalAttention`, without `'location'`.
        alignment: `'predictive'` or `'monotonic'`.
        window: Integer, half-width W in source positions.
        The other arguments are those of `GlobalAttention`.

    # Input shape
        As for `GlobalAttention`, and an optional third input, the positions t of the decoder states `(B, T)` (or
        `(B, 1)` for one decoder state), counted from 0: a call on a single step does not know its t.

    # Output shape
        As for `GlobalAttention`; weights outside the window are exactly 0. If the window holds no valid position
        (local-m, t more than W after the end of the source), weights and context are 0.

    # Raises
        ValueError: as `GlobalAttention`, and for an unknown alignment or a window below 1.
    """

    def __init__(self, score='dot', alignment='predictive', window=10, **kwargs):
        super(LocalAttention, self).__init__(score, **kwargs)
        if self.score == 'location':
            raise ValueError('The location score fits global attention only: its columns are absolute positions.')
        if alignment not in ('predictive', 'monotonic'):
            raise ValueError('Unknown alignment %r; known are predictive, monotonic.' % (alignment,))
        if window < 1:
            raise ValueError('window=%r: a half-width of at least 1.' % (window,))
        self.alignment = alignment
        self.window = window

    def build_alignment(self, query_size):
        if self.alignment == 'predictive':
            self.position_kernel = self.add_kernel('position_kernel', (query_size, query_size))         # (Dq, Dq)
            self.position_score_kernel = self.add_kernel('position_score_kernel', (query_size, 1))      # (Dq, 1)

    def align(self, scores, query, source_mask=None, positions=None):
        if source_mask is None:
            source = K.cast(tf.range(K.shape(scores)[2]), K.dtype(scores))[None, None, :]               # (1, 1, S)
        else:   # counted from the first valid position, so that padding on the left moves no window
            source = K.expand_dims(K.cumsum(K.cast(source_mask, K.dtype(scores)), axis=1) - 1., 1)      # (B, 1, S)
        if self.alignment == 'predictive':
            centre = self.predict_positions(query, scores, source_mask)                                 # (B, T, 1)
        elif positions is None:
            centre = K.cast(tf.range(K.shape(scores)[1]), K.dtype(scores))[None, :, None]               # (1, T, 1)
        else:
            centre = K.expand_dims(K.cast(positions, K.dtype(scores)), -1)                              # (B, T, 1)
        distance = source - centre                                                                      # (B, T, S)
        inside = K.abs(distance) <= self.window
        if source_mask is not None:
            inside = tf.logical_and(inside, K.expand_dims(source_mask, 1))
        weights, masked_scores = masked_softmax(scores, inside)
        if self.alignment == 'predictive':
            weights *= gaussian_factors(distance, self.window)                                          # eq. 10
        return weights, masked_scores

    def predict_positions(self, query, scores, source_mask=None):
        """Eq. 9: p_t = S sigmoid(v_p . tanh(W_p h_t)), real numbers `(B, T, 1)`. Arguments as for `align`."""
        if source_mask is None:
            length = K.cast(K.shape(scores)[2], K.dtype(scores))
        else:
            length = K.sum(K.cast(source_mask, K.dtype(scores)), axis=1)[:, None, None]                 # (B, 1, 1)
        return length * tf.sigmoid(K.dot(K.tanh(K.dot(query, self.position_kernel)), self.position_score_kernel))

    def get_config(self):
        config = super(LocalAttention, self).get_config()
        del config['max_source_length']
        config.update(alignment=self.alignment, window=self.window)
        return config


def masked_softmax(scores, valid=None):
    """Softmax over the last axis of `scores` where `valid`, exactly 0 elsewhere.

    # Arguments
        scores: `(B, T, S)`.
        valid: booleans that broadcast to `(B, T, S)`, or `None` if all are valid.

    # Returns
        Weights `(B, T, S)`, whose rows sum to 1, or to 0 where nothing is valid; and the masked scores `(B, T, S)`.
    """
    if valid is None:
        return tf.nn.softmax(scores), scores
    valid = tf.logical_and(valid, tf.ones_like(scores, dtype=tf.bool))
    masked_scores = tf.where(valid, scores, tf.fill(tf.shape(scores), scores.dtype.min))
    weights = tf.nn.softmax(masked_scores)
    # A row without a valid position has equal scores, and its softmax would be uniform.
    return tf.where(valid, weights, tf.zeros_like(weights)), masked_scores


def gaussian_factors(distance, window):
    """Eq. 10: exp(-(s - p_t)^2 / (2 sigma^2)) of distances s - p_t; sigma = W/2, so 2 sigma^2 = W^2/2."""
    return tf.exp(-2. * tf.square(distance / window))


custom_objects = {'GlobalAttention': GlobalAttention, 'LocalAttention': LocalAttention}
