"""Global and local attention for Keras 2.2.4, after Luong, Pham and Manning (2015).

The file can be read beside the paper: a score (eq. 7 and 8), a masked softmax, a context vector.
Letters in shapes: B batch, S source length, T target length, Dm and Dq sizes of the encoder's
and the decoder's states, U width of the additive score, W half-width of a local window.
"""
from keras import backend as K
from keras import constraints, initializers, regularizers
from keras.engine import InputSpec, Layer
import tensorflow as tf

SCORES = ('dot', 'general', 'concat', 'location', 'scaled_dot')
ALIASES = {'additive': 'concat'}
KERNELS = {'dot': (), 'scaled_dot': (), 'general': ('kernel',), 'location': ('kernel',),
           'concat': ('memory_kernel', 'query_kernel', 'score_kernel')}


def check_score(score):
    """Returns the score's own name for `score`; raises `ValueError` listing the known ones."""
    name = ALIASES.get(score, score)
    if name not in SCORES:
        raise ValueError('Unknown attention score %r; known are %s.' % (score, ', '.join(SCORES + tuple(ALIASES))))
    return name


class GlobalAttention(Layer):
    """Attention of every decoder state to all encoder states.

    A score between a decoder state h_t and each encoder state h_s (eq. 7, 8), a softmax over the valid source
    positions into alignment weights a_t, and the context c_t, their weighted sum of encoder states:

        context, weights = GlobalAttention('general')([encoder_states, decoder_states])

    # Arguments
        score: `'dot'` h_t . h_s; `'general'` h_t W_a h_s; `'concat'` (alias `'additive'`)
            v_a . tanh(W_a [h_t; h_s]); `'location'` W_a h_t; `'scaled_dot'` h_t . h_s / sqrt(Dm).
        units: Integer, width U of the `'concat'` score. By default Dq.
        scale: Boolean, multiply the score by a trainable scalar, 1 at first.
        normalize: Boolean, for `'concat'`: g v_a / |v_a| in place of v_a, and a bias inside the tanh.
        max_source_length: Integer, the largest S; `'location'` needs it where the input's S is `None`.
        kernel_initializer, kernel_regularizer, kernel_constraint: for `'general'` and `'location'`.
        memory_kernel_*, query_kernel_*, score_kernel_*: the same triples for the kernels of `'concat'`: the part
            of W_a that meets encoder states, the part that meets decoder states, and v_a.

    # Input shape
        List of encoder states `(B, S, Dm)` and decoder states `(B, T, Dq)`, or one decoder state `(B, Dq)`.
        Masks: `(B, S)` over encoder states and `(B, T)` over decoder states (which the outputs carry on).

    # Output shape
        List of context `(B, T, Dm)` and weights `(B, T, S)`, or `(B, Dm)` and `(B, S)` for one decoder state.
        Weights on masked source positions are exactly 0; a row with no valid source position has weights 0 and
        context 0.

    # Raises
        ValueError: unknown score, sizes that do not fit it, options that it does not have.

    # References
        - [Effective Approaches to Attention-based Neural Machine Translation](https://arxiv.org/abs/1508.04025)
        - [Neural Machine Translation by Jointly Learning to Align and Translate](https://arxiv.org/abs/1409.0473)
        - [Weight Normalization](https://arxiv.org/abs/1602.07868), for `normalize`
    """

    def __init__(self, score='dot', units=None, scale=False, normalize=False, max_source_length=None,
                 kernel_initializer='glorot_uniform', kernel_regularizer=None, kernel_constraint=None,
                 memory_kernel_initializer='glorot_uniform', memory_kernel_regularizer=None,
                 memory_kernel_constraint=None,
                 query_kernel_initializer='glorot_uniform', query_kernel_regularizer=None,
                 query_kernel_constraint=None,
                 score_kernel_initializer='glorot_uniform', score_kernel_regularizer=None,
                 score_kernel_constraint=None, **kwargs):
        super(GlobalAttention, self).__init__(**kwargs)
        self.score = check_score(score)
        if normalize and self.score != 'concat':
            raise ValueError('normalize=True belongs to the concat score, not to %r.' % score)
        if units is not None and (self.score != 'concat' or units < 1):
            raise ValueError('units=%r: a width of at least 1, for the concat score (here: %r).' % (units, score))
        if max_source_length is not None and self.score != 'location':
            raise ValueError('max_source_length belongs to the location score, not to %r.' % score)
        self.units = units
        self.scale = scale
        self.normalize = normalize
        self.max_source_length = max_source_length
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.memory_kernel_initializer = initializers.get(memory_kernel_initializer)
        self.memory_kernel_regularizer = regularizers.get(memory_kernel_regularizer)
        self.memory_kernel_constraint = constraints.get(memory_kernel_constraint)
        self.query_kernel_initializer = initializers.get(query_kernel_initializer)
        self.query_kernel_regularizer = regularizers.get(query_kernel_regularizer)
        self.query_kernel_constraint = constraints.get(query_kernel_constraint)
        self.score_kernel_initializer = initializers.get(score_kernel_initializer)
        self.score_kernel_regularizer = regularizers.get(score_kernel_regularizer)
        self.score_kernel_constraint = constraints.get(score_kernel_constraint)
        self.supports_masking = True

    # Weights

    def build(self, input_shape):
        if not isinstance(input_shape, list) or not 2 <= len(input_shape) <= 3:
            raise ValueError('Attention takes a list of encoder states and decoder states, got %s.' % (input_shape,))
        memory, query = input_shape[:2]
        if len(input_shape) == 3 and len(input_shape[2]) != 2:
            raise ValueError('Attention takes positions (B, T), got %s.' % (input_shape[2],))
        if len(memory) != 3 or len(query) not in (2, 3):
            raise ValueError('Attention takes encoder states (B, S, Dm) and decoder states (B, T, Dq) or (B, Dq), '
                             'got %s and %s.' % (memory, query))
        size, query_size = memory[-1], query[-1]
        if size is None or query_size is None:
            raise ValueError('The last axes of encoder and decoder states must be known, got %s and %s.'
                             % (memory, query))
        if self.score in ('dot', 'scaled_dot') and size != query_size:
            raise ValueError('The %s score needs encoder and decoder states of one size, got %d and %d; '
                             'the general score takes any.' % (self.score, size, query_size))
        self.size = size
        if self.score == 'general':
            self.kernel = self._kernel('kernel', (query_size, size))                                    # (Dq, Dm)
        elif self.score == 'location':
            longest = memory[1] if self.max_source_length is None else self.max_source_length
            if longest is None:
                raise ValueError('The location score fixes the largest source length when built: '
                                 'give max_source_length, or an input with a known S.')
            if memory[1] is not None and memory[1] > longest:
                raise ValueError('Source length %d exceeds max_source_length=%d of the location score.'
                                 % (memory[1], longest))
            self.longest = longest
            self.kernel = self._kernel('kernel', (query_size, longest))                                 # (Dq, max S)
        elif self.score == 'concat':
            units = self.units or query_size
            self.memory_kernel = self._kernel('memory_kernel', (size, units))                           # (Dm, U)
            self.query_kernel = self._kernel('query_kernel', (query_size, units))                       # (Dq, U)
            self.score_kernel = self._kernel('score_kernel', (units, 1))                                # (U, 1)
            if self.normalize:
                self.norm = self.add_weight(shape=(), name='norm',
                                            initializer=initializers.Constant(units ** -0.5))
                self.bias = self.add_weight(shape=(units,), name='bias', initializer='zeros')           # (U,)
        if self.scale:
            self.factor = self.add_weight(shape=(), name='factor', initializer='ones')
        self._build_alignment(query_size)
        self.input_spec = [InputSpec(ndim=3, axes={-1: size}), InputSpec(min_ndim=2, max_ndim=3, axes={-1: query_size})]
        super(GlobalAttention, self).build(input_shape)

    def _kernel(self, name, shape):
        return self.add_weight(shape=shape, name=name, initializer=getattr(self, name + '_initializer'),
                               regularizer=getattr(self, name + '_regularizer'),
                               constraint=getattr(self, name + '_constraint'))

    def _build_alignment(self, query_size):
        """Weights of the alignment itself: none where attention is global."""

    def assert_input_compatibility(self, inputs):
        # A layer may be called on sequences and, to decode, on one step with its position: a third input has no spec.
        super(GlobalAttention, self).assert_input_compatibility(inputs[:2] if isinstance(inputs, list) else inputs)

    # Arithmetic

    def call(self, inputs, mask=None):
        memory, query = inputs[:2]
        positions = inputs[2] if len(inputs) == 3 else None
        single = K.ndim(query) == 2
        if single:
            query = K.expand_dims(query, 1)                                                             # (B, 1, Dq)
        source_mask = mask[0] if isinstance(mask, list) else mask
        context, weights = self.attend(query, memory, self.keys(memory), source_mask, positions)
        if single:
            return [K.squeeze(context, 1), K.squeeze(weights, 1)]
        return [context, weights]

    def keys(self, memory):
        """The part of the score that knows encoder states only, made once for all decoder steps.

        # Arguments
            memory: encoder states `(B, S, Dm)`.

        # Returns
            `(B, S, U)` for `concat`, the encoder states `(B, S, Dm)` for all others.
        """
        if self.score != 'concat':
            return memory
        keys = K.dot(memory, self.memory_kernel)
        return K.bias_add(keys, self.bias) if self.normalize else keys

    def attend(self, query, memory, keys, source_mask=None, positions=None):
        """One call's arithmetic on prepared keys: what a decoder runs at each step.

        # Arguments
            query: decoder states `(B, T, Dq)`.
            memory: encoder states `(B, S, Dm)`.
            keys: `self.keys(memory)`.
            source_mask: booleans `(B, S)`, or `None` for all valid.
            positions: target positions `(B, T)` counted from 0, or `None` for 0 ... T-1.

        # Returns
            context `(B, T, Dm)` and weights `(B, T, S)`.
        """
        scores = self.scores(query, keys)                                                               # (B, T, S)
        weights = self.align(scores, query, source_mask, positions)                                     # (B, T, S)
        return tf.matmul(weights, memory), weights

    def scores(self, query, keys):
        """Scores before the mask, eq. 7 and 8.

        # Arguments
            query: decoder states `(B, T, Dq)`.
            keys: `self.keys(memory)`.

        # Returns
            Tensor `(B, T, S)`.
        """
        score = getattr(self, '_' + self.score)(query, keys)
        return self.factor * score if self.scale else score

    def _dot(self, query, keys):
        """Eq. 7, first line: h_t . h_s."""
        return tf.matmul(query, keys, transpose_b=True)

    def _scaled_dot(self, query, keys):
        """h_t . h_s / sqrt(D): the dot product, its variance independent of the state size."""
        return tf.matmul(query, keys, transpose_b=True) / self.size ** 0.5

    def _general(self, query, keys):
        """Eq. 7, second line: h_t W_a h_s."""
        return tf.matmul(K.dot(query, self.kernel), keys, transpose_b=True)

    def _concat(self, query, keys):
        """Eq. 7, third line: v_a . tanh(W_a [h_t; h_s]), as the sum of two products so that no pair is joined."""
        v = self.score_kernel                                                                           # (U, 1)
        if self.normalize:
            v = self.norm * v / K.sqrt(K.sum(K.square(v)))
        pairs = K.expand_dims(K.dot(query, self.query_kernel), 2) + K.expand_dims(keys, 1)              # (B, T, S, U)
        return K.squeeze(K.dot(K.tanh(pairs), v), -1)

    def _location(self, query, keys):
        """Eq. 8: W_a h_t, one score for each source position whatever stands there."""
        length = K.shape(keys)[1]
        fits = tf.Assert(length <= self.longest, ['source length, and the largest for the location score:',
                                                  length, self.longest])
        with tf.control_dependencies([fits]):
            return K.dot(query, self.kernel)[:, :, :length]

    def align(self, scores, query, source_mask=None, positions=None):
        """Alignment weights a_t: a softmax over the valid source positions.

        # Arguments
            scores: `(B, T, S)`.
            query: decoder states `(B, T, Dq)`, for alignments that look at them.
            source_mask: booleans `(B, S)` or `None`.
            positions: target positions `(B, T)` or `None`.

        # Returns
            Weights `(B, T, S)`: exactly 0 where masked, rows summing to 1, or to 0 where nothing is valid.
        """
        return masked_softmax(scores, None if source_mask is None else K.expand_dims(source_mask, 1))

    # The rest a Keras layer has

    def compute_output_shape(self, input_shape):
        memory, query = input_shape[:2]
        return [tuple(query[:-1]) + (memory[-1],), tuple(query[:-1]) + (memory[1],)]

    def compute_mask(self, inputs, mask=None):
        query_mask = mask[1] if isinstance(mask, list) else None
        return [query_mask, None]

    def get_config(self):
        config = {'score': self.score, 'units': self.units, 'scale': self.scale, 'normalize': self.normalize,
                  'max_source_length': self.max_source_length}
        for kernel in ('kernel', 'memory_kernel', 'query_kernel', 'score_kernel'):
            config[kernel + '_initializer'] = initializers.serialize(getattr(self, kernel + '_initializer'))
            config[kernel + '_regularizer'] = regularizers.serialize(getattr(self, kernel + '_regularizer'))
            config[kernel + '_constraint'] = constraints.serialize(getattr(self, kernel + '_constraint'))
        base_config = super(GlobalAttention, self).get_config()
        return dict(list(base_config.items()) + list(config.items()))


class LocalAttention(GlobalAttention):
    """Attention to a window of the source around a position p_t, section 3.2 of the paper.

    Monotonic (local-m): p_t = t. Predictive (local-p): p_t = S sigmoid(v_p . tanh(W_p h_t)) (eq. 9), and the
    weights inside the window are multiplied by a Gaussian around p_t with sigma = W/2 (eq. 10), not renormalised.
    S is the number of valid source positions of the row. The softmax runs over |s - p_t| <= W only.

    # Arguments
        score: as for `GlobalAttention`, all but `'location'`.
        alignment: `'predictive'` or `'monotonic'`.
        window: Integer, half-width W in source positions.
        position_kernel_*: initialiser, regulariser and constraint of W_p `(Dq, Dq)`; position_score_kernel_*: of v_p.
        The other arguments are those of `GlobalAttention`.

    # Input shape
        As for `GlobalAttention`, and optionally a third input, the positions t of the decoder states `(B, T)` (or
        `(B, 1)` for one decoder state), counted from 0: a call that sees one step alone cannot know its t.

    # Output shape
        As for `GlobalAttention`; weights outside the window are exactly 0, and where the window holds no valid
        position (local-m, t beyond the source by more than W) weights and context are 0.

    # Raises
        ValueError: as `GlobalAttention`, and for an unknown alignment or a window below 1.

    # References
        - [Effective Approaches to Attention-based Neural Machine Translation](https://arxiv.org/abs/1508.04025)
    """

    def __init__(self, score='dot', alignment='predictive', window=10,
                 position_kernel_initializer='glorot_uniform', position_kernel_regularizer=None,
                 position_kernel_constraint=None,
                 position_score_kernel_initializer='glorot_uniform', position_score_kernel_regularizer=None,
                 position_score_kernel_constraint=None, **kwargs):
        super(LocalAttention, self).__init__(score, **kwargs)
        if self.score == 'location':
            raise ValueError('The location score fits global attention only: it does not know the window.')
        if alignment not in ('predictive', 'monotonic'):
            raise ValueError('Unknown alignment %r; known are predictive, monotonic.' % (alignment,))
        if window < 1:
            raise ValueError('window=%r: a half-width of at least 1.' % (window,))
        self.alignment = alignment
        self.window = window
        self.position_kernel_initializer = initializers.get(position_kernel_initializer)
        self.position_kernel_regularizer = regularizers.get(position_kernel_regularizer)
        self.position_kernel_constraint = constraints.get(position_kernel_constraint)
        self.position_score_kernel_initializer = initializers.get(position_score_kernel_initializer)
        self.position_score_kernel_regularizer = regularizers.get(position_score_kernel_regularizer)
        self.position_score_kernel_constraint = constraints.get(position_score_kernel_constraint)

    def _build_alignment(self, query_size):
        if self.alignment == 'predictive':
            self.position_kernel = self._kernel('position_kernel', (query_size, query_size))            # (Dq, Dq)
            self.position_score_kernel = self._kernel('position_score_kernel', (query_size, 1))         # (Dq, 1)

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
        weights = masked_softmax(scores, inside)
        if self.alignment == 'predictive':
            weights *= K.exp(-2. * K.square(distance / self.window))    # eq. 10: sigma = W/2, so 2 sigma^2 = W^2/2
        return weights

    def predict_positions(self, query, scores, source_mask=None):
        """Eq. 9: p_t = S sigmoid(v_p . tanh(W_p h_t)), a real number in (0, S).

        # Arguments
            query: decoder states `(B, T, Dq)`.
            scores: `(B, T, S)`, for S where nothing is masked.
            source_mask: booleans `(B, S)` or `None`.

        # Returns
            Tensor `(B, T, 1)`.
        """
        if source_mask is None:
            length = K.cast(K.shape(scores)[2], K.dtype(scores))
        else:
            length = K.sum(K.cast(source_mask, K.dtype(scores)), axis=1)[:, None, None]                 # (B, 1, 1)
        return length * tf.sigmoid(K.dot(K.tanh(K.dot(query, self.position_kernel)), self.position_score_kernel))

    def get_config(self):
        config = {'alignment': self.alignment, 'window': self.window}
        for kernel in ('position_kernel', 'position_score_kernel'):
            config[kernel + '_initializer'] = initializers.serialize(getattr(self, kernel + '_initializer'))
            config[kernel + '_regularizer'] = regularizers.serialize(getattr(self, kernel + '_regularizer'))
            config[kernel + '_constraint'] = constraints.serialize(getattr(self, kernel + '_constraint'))
        base_config = super(LocalAttention, self).get_config()
        del base_config['max_source_length']
        return dict(list(base_config.items()) + list(config.items()))


def masked_softmax(scores, valid=None):
    """Softmax over the last axis of `scores` where `valid`, exactly 0 elsewhere.

    Scores are replaced before the softmax; the second replacement only matters in a row with nothing valid, where
    the softmax of equal scores would be uniform.

    # Arguments
        scores: `(B, T, S)`.
        valid: booleans that broadcast to `(B, T, S)`, or `None` for all.

    # Returns
        Tensor `(B, T, S)`; rows sum to 1, or to 0 where nothing is valid.
    """
    if valid is None:
        return tf.nn.softmax(scores)
    valid = tf.logical_and(valid, tf.ones_like(scores, dtype=tf.bool))
    weights = tf.nn.softmax(tf.where(valid, scores, tf.fill(tf.shape(scores), scores.dtype.min)))
    return tf.where(valid, weights, tf.zeros_like(weights))


custom_objects = {'GlobalAttention': GlobalAttention, 'LocalAttention': LocalAttention}
