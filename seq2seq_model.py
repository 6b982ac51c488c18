"""The sequence-to-sequence model: encoder, bridge, decoder with attention, output and loss.

One set of layers serves the training graph, the encoder graph and the decoder's single step. Read `Seq2Seq` first,
then `DecoderCell`, which is the one step in the notation of Luong et al. (2015). Letters: B batch, S and T source and
target length, Dm and D sizes of encoder and decoder states, E embedding size, V vocabulary, K hypotheses a sentence.
"""
import collections

from keras import backend as K
from keras import initializers
from keras.engine import Input, Layer, Model
from keras.layers import GRU, LSTM, RNN, Add, Bidirectional, Concatenate, Dense, Embedding, GRUCell, LSTMCell
import tensorflow as tf

from attention import GlobalAttention, LocalAttention
from model_layers import Alignment, Dropout, Noise, Slice, SourceMask, TiedOutput, Unmasked, WordDropout, ZeroState
from pointer_generator import KnownIds, PointerGenerator

Memory = collections.namedtuple('Memory', 'states mask keys')
Memory.__doc__ = 'What every decoder step looks at: encoder states (B, S, Dm), their mask (B, S), attention keys.'


class DecoderCell(Layer):
    """One decoder step: recurrent cells, attention, attentional state.

    # Arguments
        cells: Keras cells from the lowest up.
        attention: a `GlobalAttention` or `LocalAttention`, or `None` for the baseline without.
        combine: the `Dense` layer of eq. 5, or `None` with `attention=None`.
        input_feeding: Boolean, join the last attentional state to the input (section 3.3).
        residual: Boolean, add its input to the output of each cell from the second on.
        dropout, noise, sites: rate, `Noise`, and one site for each cell.

    States: [attentional state; top state] `(N, 2D)`, then the cells' own states, then the position t `(N, 1)`. Keras'
    RNN emits `states[0]` on masked steps and returns one output, so both parts of the output stand together there.
    Rows are N = B K: K hypotheses of one sentence stand together and share its memory, which is never repeated.
    Constants: encoder states `(B, S, Dm)` and source mask `(B, S)`.
    """

    def __init__(self, cells, attention, combine, input_feeding, residual, dropout=0., noise=None, sites=(), **kwargs):
        super(DecoderCell, self).__init__(**kwargs)
        self.cells, self.attention, self.combine = cells, attention, combine
        self.input_feeding, self.residual = input_feeding, residual
        self.dropout, self.noise, self.sites = dropout, noise, sites
        self.units = cells[0].units
        self.keys = None

    @property
    def state_size(self):
        sizes = [2 * self.units]
        for cell in self.cells:
            sizes += cell.state_size if isinstance(cell.state_size, (list, tuple)) else [cell.state_size]
        return tuple(sizes + [1])

    def build(self, input_shape):
        step, memory = input_shape[0], input_shape[1]
        width = step[-1] + (self.units if self.input_feeding else 0)
        for number, cell in enumerate(self.cells, 1):
            with K.name_scope('cell_%d' % number):
                cell.build((None, width))
            width = self.units
        with K.name_scope('attention'):
            self.attention.build([memory, (None, None, self.units)])
        with K.name_scope('attentional_state'):
            self.combine.build((None, memory[-1] + self.units))
        super(DecoderCell, self).build(input_shape)

    def _parts(self):
        return self.cells + [part for part in (self.attention, self.combine) if part is not None]

    @property
    def trainable_weights(self):
        return [weight for part in self._parts() for weight in part.trainable_weights]

    def call(self, inputs, states, constants, training=None):
        memory, mask = constants
        output, states, _ = self.step(inputs, states, Memory(memory, mask > 0.5, self.keys), training)
        return output, states

    def step(self, inputs, states, memory, training=None):
        """Runs one step.

        # Arguments
            inputs: embedded tokens `(N, E)`.
            states: list of tensors as told above.
            memory: `Memory`.
            training: `False` leaves dropout out of the graph.

        # Returns
            [attentional state; top state] `(N, 2D)`, new states, weights `(N, S)` (`None` without attention).
        """
        units, last, position = self.units, states[0], states[-1]
        if self.input_feeding:
            inputs = K.concatenate([inputs, last[:, :units]])                                           # (N, E + D)
        new_states, left = [], list(states[1:-1])
        for number, cell in enumerate(self.cells):
            below = inputs
            if self.dropout and training is not False:
                inputs = self.noise.dropout(inputs, self.dropout, self.sites[number], K.max(position))
            taken = len(self.state_size[1:-1]) // len(self.cells)
            inputs, changed = cell.call(inputs, left[:taken])                                           # (N, D)
            new_states, left = new_states + list(changed), left[taken:]
            if self.residual and number:
                inputs = inputs + below
        attentional, weights = inputs, None
        if self.attention is not None:
            sentences = tf.shape(memory.states)[0]
            query = tf.reshape(inputs, tf.stack([sentences, -1, units]))                                # (B, K, D)
            attended = self.attention.attend(query, memory.states, memory.keys, memory.mask,
                                             tf.reshape(position, tf.stack([sentences, -1])))
            context = tf.reshape(attended.context, [-1, self.attention.memory_size])                    # (N, Dm)
            source_length = tf.shape(memory.states)[1]
            weights = tf.reshape(attended.weights, tf.stack([tf.shape(inputs)[0], source_length]))      # (N, S)
            attentional = self.combine.call(K.concatenate([context, inputs]))                           # (N, D)
        output = K.concatenate([attentional, inputs])                                                   # (N, 2D)
        if self.dropout and training is not False:
            output._uses_learning_phase = True
        return output, [output] + new_states + [position + 1], weights


class InputFeedingRNN(RNN):
    """The decoder's loop with input feeding: prepares the attention keys once, then runs its `DecoderCell`."""

    def call(self, inputs, mask=None, training=None, initial_state=None, constants=None):
        self.cell.keys = self.cell.attention.keys(inputs[-self._num_constants])
        return super(InputFeedingRNN, self).call(inputs, mask, training, initial_state, constants)


class Seq2Seq(object):
    """Encoder, bridge, decoder and output, built once in the current graph.

    # Arguments
        settings: object with the attributes of `settings.SETTINGS` (groups model, attention and training).
        source_size, target_size: sizes V of the vocabularies.

    # Attributes
        training_model: Keras model, source ids `(B, S)` and decoder input ids `(B, T)` to logits `(B, T, V)`. With
            `copy` a third input tells what a copy of each source position writes, ids `(B, S)`, and the logits are
            those of a `PointerGenerator`, `(B, T, V + X)`.
        copied: that third input; `None` without `copy`.
        alignment_model: the same inputs to logits and weights `(B, T, S)`; `None` without attention.
        encoder_model: source ids to encoder states `(B, S, Dm)` and the decoder's initial cell states `(B, D)`.
        noise: the `Noise` whose step the training loop sets.
    """

    def __init__(self, settings, source_size, target_size):
        self.settings, self.target_size = settings, target_size
        self.noise = Noise(settings.seed)
        self._sites = 0
        self.source = Input((None,), dtype='int32', name='source')                                      # (B, S)
        self.target = Input((None,), dtype='int32', name='target')                                      # (B, T)
        self.copied = Input((None,), dtype='int32', name='copied') if settings.copy else None           # (B, S)
        inputs = [self.source, self.target] + [self.copied] * settings.copy
        source_ids, target_ids = self.source, self.target
        if settings.copy:
            target_ids = KnownIds(target_size)(target_ids)
        if settings.word_dropout:
            source_ids = WordDropout(settings.word_dropout, self.noise, self._site())(source_ids)
            target_ids = WordDropout(settings.word_dropout, self.noise, self._site())(target_ids)
        # Only the encoder sees a mask: padded target steps come last and carry no weight in the loss.
        self.source_embedding = self.target_embedding = self._embedding('source_embedding', source_size, mask_zero=True)
        if not settings.share_vocabulary:
            self.target_embedding = self._embedding('target_embedding', target_size)
        memory, last_states = self._encode(self.source_embedding(source_ids))
        self.initial_states = self._bridge(last_states)
        self.encoder_model = Model(self.source, [memory] + self.initial_states)
        embedded = self._embed_target(target_ids)                                                       # (B, T, E)
        attentional, states, weights = self._decode(memory, embedded)
        self._build_output(target_size)
        logits = self._logits(self._drop(attentional))                                                  # (B, T, V)
        if settings.copy:
            self.pointer = PointerGenerator(self._initializer('glorot_uniform'), name='pointer_generator')
            logits = self.pointer([logits, weights, memory, states, embedded, self.copied])         # (B, T, V + X)
        self.training_model = Model(inputs, logits)
        self.alignment_model = None
        if weights is not None:
            self.alignment_model = Model(inputs, [logits, weights])
        self.memory = self._prepare(memory)

    # Building

    def _site(self):
        self._sites += 1
        return self._sites

    def _drop(self, x):
        return Dropout(self.settings.dropout, self.noise, self._site())(x) if self.settings.dropout else x

    def _initializer(self, default):
        scale = self.settings.init_scale
        return initializers.RandomUniform(-scale, scale) if scale else default

    def _embedding(self, name, size, mask_zero=False):
        return Embedding(size, self.settings.embedding, mask_zero=mask_zero, name=name,
                         embeddings_initializer=self._initializer('uniform'))

    def _embed_target(self, ids):
        if not self.settings.share_vocabulary:
            return self.target_embedding(ids)
        # The shared embedding masks 0 for the encoder; on the decoder's side that mask is dropped again.
        return Unmasked()(self.target_embedding(ids))

    def _recurrent(self, units, **kwargs):
        """Keras' own cell, or layer where `kwargs` ask for sequences; `implementation=2`: one product for all gates."""
        layer = {'lstm': (LSTMCell, LSTM), 'gru': (GRUCell, GRU)}[self.settings.cell]['return_sequences' in kwargs]
        return layer(units, implementation=2, recurrent_activation=self.settings.recurrent_activation,
                     kernel_initializer=self._initializer('glorot_uniform'),
                     recurrent_initializer=self._initializer('orthogonal'), **kwargs)

    def _encode(self, x):
        """Embedded source `(B, S, E)` to encoder states `(B, S, Dm)` and the last states of each layer."""
        settings, last_states = self.settings, []
        width = settings.encoder_units or settings.units
        for number in range(1, settings.encoder_layers + 1):
            below, name = x, 'encoder_%d' % number
            x = self._drop(x)
            if settings.bidirectional:
                layer = self._recurrent(width // 2, return_sequences=True, return_state=True, name=settings.cell)
                x, *states = Bidirectional(layer, name=name)(x)
                half = len(states) // 2
                states = [Concatenate()([forward, backward])
                          for forward, backward in zip(states[:half], states[half:])]
            else:
                x, *states = self._recurrent(width, return_sequences=True, return_state=True, name=name)(x)
            if settings.residual and number > 1:
                x = Add()([x, below])
            last_states.append(states)
        return x, last_states

    def _bridge(self, last_states):
        """Initial states `(B, D)` of the decoder's layers: decoder layer n starts from encoder layer n, or the top one.

        A dense layer joins the two directions or changes the size; without need for either the states pass as they are.
        """
        settings, initial = self.settings, []
        for number in range(1, settings.decoder_layers + 1):
            states = last_states[min(number, len(last_states)) - 1]
            if settings.bidirectional or (settings.encoder_units or settings.units) != settings.units:
                states = [Dense(settings.units, activation='tanh', name='bridge_%d_%s' % (number, kind),
                                kernel_initializer=self._initializer('glorot_uniform'))(state)
                          for kind, state in zip('hc', states)]
            initial += states
        return initial

    def _attention(self):
        settings = self.settings
        if settings.score == 'none':
            return None, None
        options = {'score': settings.score, 'scale': settings.attention_scale,
                   'normalize': settings.attention_normalize, 'name': 'attention',
                   'kernel_initializer': self._initializer('glorot_uniform')}
        if settings.attention_units:
            options['units'] = settings.attention_units
        if settings.score == 'location':
            options['max_source_length'] = settings.max_source_length
        if settings.attention == 'global':
            attention = GlobalAttention(**options)
        else:
            attention = LocalAttention(alignment={'local-m': 'monotonic', 'local-p': 'predictive'}[settings.attention],
                                       window=settings.window, **options)
        # Eq. 5: tanh(W_c [c; h]), no bias, context first.
        combine = Dense(settings.units, activation='tanh', use_bias=False, name='attentional_state',
                        kernel_initializer=self._initializer('glorot_uniform'))
        return attention, combine

    def _decode(self, memory, x):
        """Embedded target `(B, T, E)` to attentional states, top states `(B, T, D)` and weights `(B, T, S)`."""
        settings, units = self.settings, self.settings.units
        self.attention, combine = self._attention()
        if settings.input_feeding:
            cells = [self._recurrent(units) for _ in range(settings.decoder_layers)]
            self.cell = DecoderCell(cells, self.attention, combine, True, settings.residual, settings.dropout,
                                    self.noise, [self._site() for _ in cells], name='decoder_cell')
            initial = [ZeroState(2 * units)(self.source)] + self.initial_states + [ZeroState(1)(self.source)]
            decoder = InputFeedingRNN(self.cell, return_sequences=True, name='decoder')
            joined = decoder(x, initial_state=initial, constants=[memory, SourceMask()(self.source)])   # (B, T, 2D)
            attentional, top = Slice(0, units)(joined), Slice(units, 2 * units)(joined)
            # The cell has one output, so the weights come from one attention call over all its states.
            return attentional, top, Alignment(self.attention)([memory, top])
        layers, states = [], list(self.initial_states)
        for number in range(1, settings.decoder_layers + 1):
            below = x
            layers.append(self._recurrent(units, return_sequences=True, name='decoder_%d' % number))
            taken = len(self.initial_states) // settings.decoder_layers
            x, states = layers[-1](self._drop(x), initial_state=states[:taken]), states[taken:]
            if settings.residual and number > 1:
                x = Add()([x, below])
        self.cell = DecoderCell([layer.cell for layer in layers], self.attention, combine, False, settings.residual)
        if self.attention is None:
            return x, x, None
        context, weights = self.attention([memory, x])
        return combine(Concatenate()([context, x])), x, weights

    def _build_output(self, target_size):
        """Eq. 6 without its softmax: logits W_s h, no bias."""
        settings, self._output_layers = self.settings, []
        if not settings.tie_embeddings:
            self._output_layers = [Dense(target_size, use_bias=False, name='output',
                                         kernel_initializer=self._initializer('glorot_uniform'))]
            return
        if settings.embedding != settings.units:
            self._output_layers = [Dense(settings.embedding, use_bias=False, name='output_projection',
                                         kernel_initializer=self._initializer('glorot_uniform'))]
        self._output_layers.append(TiedOutput(self.target_embedding, name='output'))

    def _logits(self, x):
        for layer in self._output_layers:
            x = layer(x)
        return x

    def _prepare(self, memory):
        keys = None if self.attention is None else self.attention.keys(memory)
        return Memory(memory, K.not_equal(self.source, 0), keys)

    # One step, for the search

    def finish(self):
        """Computes once what the steps need of the weights alone; to be called when these will change no more."""
        if self.settings.tie_embeddings:
            self._output_layers[-1].keep_turned()

    def start(self):
        """States of the decoder before its first step, a list of tensors `(B, 1, width)`."""
        rows = tf.shape(self.source)[0]
        zeros = [tf.zeros(tf.stack([rows, 1, width]), K.floatx()) for width in (2 * self.settings.units, 1)]
        return zeros[:1] + [tf.expand_dims(state, 1) for state in self.initial_states] + zeros[1:]

    def step(self, tokens, states, rows=None):
        """One decoder step for K hypotheses of each sentence, on the layers of the training graph.

        # Arguments
            tokens: the last token of each hypothesis, ids `(B, K)`.
            states: list of tensors `(B, K, width)`.
            rows: which sentences of the batch these are, ids `(B,)`; all of them by default.

        # Returns
            logits `(B, K, V)`, or with `copy` `(B, K, V + X)`; new states; weights `(B, K, S)`, zeros
            without attention.
        """
        shape, memory, copied = tf.shape(tokens), self.memory, self.copied
        if rows is not None:
            kept = tf.gather(memory.states, rows)
            keys = kept if memory.keys is memory.states else memory.keys if memory.keys is None else tf.gather(
                memory.keys, rows)
            memory = Memory(kept, tf.gather(memory.mask, rows), keys)
            copied = copied if copied is None else tf.gather(copied, rows)
        if self.settings.copy:
            tokens = KnownIds(self.target_size).call(tokens)
        embedded = tf.reshape(self.target_embedding.call(tokens), [-1, self.settings.embedding])        # (N, E)
        flat = [tf.reshape(state, [-1, width]) for state, width in zip(states, self.cell.state_size)]
        output, flat, weights = self.cell.step(embedded, flat, memory, training=False)
        logits = output[:, :self.settings.units]
        for layer in self._output_layers:
            logits = layer.call(logits)                                                                 # (N, V)
        if weights is None:
            weights = tf.zeros(tf.stack([shape[0] * shape[1], tf.shape(self.source)[1]]), K.floatx())

        def by_sentence(x, width):
            return tf.reshape(x, tf.concat([shape, [width]], 0))
        logits, weights = by_sentence(logits, logits.shape[-1].value), by_sentence(weights, tf.shape(weights)[1])
        if self.settings.copy:
            top = by_sentence(output[:, self.settings.units:], self.settings.units)                     # (B, K, D)
            embedded = by_sentence(embedded, self.settings.embedding)                                   # (B, K, E)
            logits = self.pointer.call([logits, weights, memory.states, top, embedded, copied])
        return logits, [by_sentence(state, width) for state, width in zip(flat, self.cell.state_size)], weights


class TokenLoss(object):
    """Loss and metrics over target tokens, from logits: probabilities would be clipped at 1e-7.

    `loss`, `negative_log_likelihood` and `token_accuracy` take ids `(B, T, 1)` in floats, as Keras feeds them, and
    logits `(B, T, V)`, and return `(B, T)`. The mean over valid tokens comes from temporal sample weights: Keras
    divides by the number of weights that are not 0.

    # Arguments
        smoothing: e, the share of the probability that the loss spreads evenly over the vocabulary:
            (1 - e) (-log p_y) + e mean_v(-log p_v).
        coverage: what the loss of each token has besides, a tensor `(B, T)`, or `None`.

    # References
        - [Rethinking the Inception Architecture](https://arxiv.org/abs/1512.00567), section 7
    """

    def __init__(self, smoothing=0., coverage=None):
        self.smoothing, self.coverage = smoothing, coverage
        self._made = {}

    def loss(self, ids, logits):
        """Cross-entropy, smoothed, in nats, and the coverage loss."""
        loss = self._cross_entropy(ids, logits)
        return loss if self.coverage is None else loss + self.coverage

    def _cross_entropy(self, ids, logits):
        # Loss and metric share this tensor: it is the most expensive one of the graph after the products.
        if (ids, logits) not in self._made:
            targets, size = tf.cast(ids[:, :, 0], tf.int32), tf.shape(logits)[2]
            if self.smoothing:
                low = self.smoothing / K.cast(size, K.floatx())
                spread = tf.one_hot(targets, size, low + (1. - self.smoothing), low, dtype=logits.dtype)
                self._made[ids, logits] = tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.stop_gradient(spread),
                                                                                     logits=logits)
            else:
                self._made[ids, logits] = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
        return self._made[ids, logits]

    def negative_log_likelihood(self, ids, logits):
        """-log p_y without smoothing, in nats: the cross-entropy less e (logit_y - mean_v logit_v)."""
        loss = self._cross_entropy(ids, logits)
        if not self.smoothing:
            return loss
        flat = tf.reshape(logits, [-1, tf.shape(logits)[2]])
        targets = tf.reshape(tf.cast(ids, tf.int32), [-1])
        chosen = tf.gather_nd(flat, tf.stack([tf.range(tf.shape(flat)[0]), targets], axis=1))
        return loss - self.smoothing * (tf.reshape(chosen, tf.shape(loss)) - K.mean(logits, axis=-1))

    def token_accuracy(self, ids, logits):
        """1 where the most probable token is the target's, else 0."""
        return K.cast(K.equal(tf.cast(ids[:, :, 0], tf.int64), tf.argmax(logits, axis=-1)), K.floatx())
