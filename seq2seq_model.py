"""The sequence-to-sequence model: encoder, bridge, decoder with attention, output and loss.

The training graph, the encoder graph and the decoder's single step share one set of layers. Letters: B batch, S and T
source and target length, Dm and D sizes of encoder and decoder states, E embedding size, V vocabulary, K hypotheses of
a sentence, N = B K rows of a step; X names that a source contains (`pointer_generator.py`).
"""
from keras import backend as K
from keras import initializers
from keras.engine import Input, Model
from keras.layers import Add, Average, Bidirectional, Concatenate, Dense, Embedding, GRUCell, LSTMCell
import tensorflow as tf
from tensorflow.python.util import nest

from decoder_cell import DecoderCell, Memory
import kernels
from model_layers import Alignment, Dropout, Noise, Slice, SourceMask, TiedOutput, Unmasked, WordDropout, ZeroState
from pointer_generator import KnownIds, PointerGenerator
from stories.memory_network import MemoryNetwork, encode_memories
from stories.question_encoder import SentenceEnds, fuse_sentences, read_parts
from text.vocabulary import PAD


class Seq2Seq(object):
    """Encoder, bridge, decoder and output, built once in the current graph.

    # Arguments
        settings: object with the attributes of `settings.SETTINGS` (groups model, attention and training).
        source_size, target_size: sizes V of the vocabularies.
        separators: `questions.Separators` of the source vocabulary, which the encoders of stories need.

    # Attributes
        training_model: Keras model, source ids `(B, S)` and decoder input ids `(B, T)` to logits `(B, T, V)`. With
            `copy` there is a third input, the id that copying each source position outputs, `(B, S)`, and the logits
            are those of a `PointerGenerator`, `(B, T, V + X)`.
        copied: the third input; `None` without `copy`.
        gold: with `guided_alignment` the last input, which only the loss reads: 1 for aligned tokens, `(B, T, S)`.
        alignment_model: the same inputs, without `gold`, to logits and weights `(B, T, S)`; `None` without attention.
        encoder_model: source ids to encoder states `(B, S, Dm)` and the initial states of the decoder's cells `(B, D)`.
        memory: the `Memory` of the source ids.
        decoder_states: the top states h_t of the decoder, `(B, T, D)`.
        attentional_states: eq. 5, `(B, T, D)`; the decoder states without attention.
        output_states: what the last product multiplies, `(B, T, D)`, or `(B, T, E)` with tied embeddings.
        pointer_inputs: with `copy`, the inputs of the `PointerGenerator`.
        noise: the `Noise` whose step the training loop sets.
        linear: variable, 1 during the linear start of a memory network; the training loop sets it.
        kit: the `kernels.Kit` of its settings.
    """

    def __init__(self, settings, source_size, target_size, separators=None):
        self.settings, self.target_size, self.separators = settings, target_size, separators
        self.kit = kernels.kit(settings)
        self.noise = Noise(settings.seed)
        self.linear = K.variable(0, dtype='int32', name='linear')
        self._noise_sites = 0

        source_ids, target_ids = self._build_inputs()
        self._build_embeddings(source_size)
        memory = self._build_encoder(source_ids)
        embedded = self._embed_target(target_ids)                                                       # (B, T, E)
        self.attentional_states, self.decoder_states, weights = self._decode(memory, embedded)
        self._build_output(target_size)
        self.output_states, logits = self._output(self._drop(self.attentional_states))
        if settings.copy:
            self.pointer = PointerGenerator(self._kernel_initializer(), name='pointer_generator')
            self.pointer_inputs = [logits, weights, memory, self.decoder_states, embedded, self.copied]
            logits = self.pointer(self.pointer_inputs)                                              # (B, T, V + X)

        inputs = [self.source, self.target] + ([self.copied] if settings.copy else [])
        self.encoder_model = Model(self.source, [memory] + self.initial_states)
        self.training_model = Model(inputs + ([self.gold] if settings.guided_alignment else []), logits)
        self.alignment_model = None if weights is None else Model(inputs, [logits, weights])
        # What a decoder step reads, for the search
        keys = None if self.attention is None else self.attention.step_keys(memory)
        mask = K.not_equal(self.source, PAD) if settings.encoder == 'recurrent' else self._sentence_ends > .5
        self.memory = Memory(memory, mask, keys)

    # Parts of the graph

    def _build_inputs(self):
        """Builds the inputs; returns the source and target ids that the embeddings look up."""
        settings = self.settings
        self.source = Input((None,), dtype='int32', name='source')                                      # (B, S)
        self.target = Input((None,), dtype='int32', name='target')                                      # (B, T)
        self.copied = Input((None,), dtype='int32', name='copied') if settings.copy else None           # (B, S)
        self.gold = Input((None, None), name='gold_alignment') if settings.guided_alignment else None   # (B, T, S)
        source_ids, target_ids = self.source, self.target
        if settings.copy:
            target_ids = KnownIds(self.target_size)(target_ids)
        if settings.word_dropout:
            source_ids = WordDropout(settings.word_dropout, self.noise, self._next_site())(source_ids)
            target_ids = WordDropout(settings.word_dropout, self.noise, self._next_site())(target_ids)
        return source_ids, target_ids

    def _build_embeddings(self, source_size):
        # Only the encoder has a mask: padded target steps come last and have no weight in the loss.
        self.source_embedding = self.target_embedding = self._embedding('source_embedding', source_size, mask_zero=True)
        if not self.settings.share_vocabulary:
            self.target_embedding = self._embedding('target_embedding', self.target_size)

    def _build_encoder(self, source_ids):
        """Returns the encoder states `(B, S, Dm)`; `initial_states` are those of the decoder."""
        settings = self.settings
        if settings.encoder == 'recurrent':
            memory, last_states = self._encode(self.source_embedding(source_ids))
            self.initial_states = self._bridge(last_states)
            return memory
        self._sentence_ends = SentenceEnds(self.separators)(self.source)                                # (B, S)
        parts = read_parts(self.source, source_ids, self.separators, self.source_embedding, self._drop, self._recurrent,
                           (settings.encoder_units or settings.units, settings.units), settings.exact_match)
        self.initial_states = parts.question_states * settings.decoder_layers
        if settings.encoder == 'memory':
            return encode_memories(parts, self._sentence_ends, self.separators, self.source_embedding.input_dim,
                                   settings.units, settings.hops, self._kernel_initializer())        # (B, 1 + N, M)
        return fuse_sentences(parts.sentence_state, self._sentence_ends, lambda sentences: self._encode(sentences)[0])

    def _next_site(self):
        self._noise_sites += 1
        return self._noise_sites

    def _drop(self, x):
        return Dropout(self.settings.dropout, self.noise, self._next_site())(x) if self.settings.dropout else x

    def _kernel_initializer(self, default='glorot_uniform'):
        scale = self.settings.init_scale
        return initializers.RandomUniform(-scale, scale) if scale else default

    def _embedding(self, name, size, mask_zero=False):
        return Embedding(size, self.settings.embedding, mask_zero=mask_zero, name=name,
                         embeddings_initializer=self._kernel_initializer('uniform'))

    def _embed_target(self, ids):
        if not self.settings.share_vocabulary:
            return self.target_embedding(ids)
        # The shared embedding has a mask, for the encoder; the decoder has none.
        return Unmasked()(self.target_embedding(ids))

    def _recurrent(self, units, **kwargs):
        """A Keras cell, or a layer if `kwargs` ask for sequences. `implementation=2`: one product for all gates."""
        cells = {'lstm': LSTMCell, 'gru': GRUCell}
        layer = (self.kit.recurrent_layers if 'return_sequences' in kwargs else cells)[self.settings.cell]
        return layer(units, implementation=2, recurrent_activation=self.settings.recurrent_activation,
                     kernel_initializer=self._kernel_initializer(),
                     recurrent_initializer=self._kernel_initializer('orthogonal'), **kwargs)

    def _encode(self, x):
        """Maps the embedded source `(B, S, E)` to encoder states `(B, S, Dm)` and the last states of each layer."""
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
        """Returns the initial states `(B, D)` of the decoder's layers: layer n starts from encoder layer n, or the top.

        A dense layer maps two directions, or another size, to D; otherwise the states are used unchanged.
        """
        settings, initial = self.settings, []
        for number in range(1, settings.decoder_layers + 1):
            states = last_states[min(number, len(last_states)) - 1]
            if settings.bidirectional or (settings.encoder_units or settings.units) != settings.units:
                states = [Dense(settings.units, activation='tanh', name='bridge_%d_%s' % (number, kind),
                                kernel_initializer=self._kernel_initializer())(state)
                          for kind, state in zip('hc', states)]
            initial += states
        return initial

    def _build_attention(self):
        """Returns the attention layer and the `Dense` layer of eq. 5; `None` twice without attention.

        A memory network is both: its last hop is the attentional state.
        """
        settings = self.settings
        if settings.score == 'none':
            return None, None
        if settings.encoder == 'memory':
            linear = tf.logical_and(K.cast(K.learning_phase(), tf.bool), self.linear > 0)
            return MemoryNetwork(settings.hops, linear if settings.linear_start else None, name='memory_network'), None
        options = {'score': settings.score, 'scale': settings.attention_scale,
                   'normalize': settings.attention_normalize, 'name': 'attention',
                   'kernel_initializer': self._kernel_initializer()}
        if settings.attention_units:
            options['units'] = settings.attention_units
        if settings.score == 'location':
            options['max_source_length'] = settings.max_source_length
        layer = self.kit.global_attention
        if settings.attention != 'global':
            layer = self.kit.local_attention
            options.update(alignment={'local-m': 'monotonic', 'local-p': 'predictive'}[settings.attention],
                           window=settings.window)
        # Eq. 5: tanh(W_c [c; h]), without bias, the context first.
        combine = Dense(settings.units, activation='tanh', use_bias=False, name='attentional_state',
                        kernel_initializer=self._kernel_initializer())
        return layer(**options), combine

    def _decode(self, memory, x):
        """Maps the embedded target `(B, T, E)` to attentional states, top states `(B, T, D)`, weights `(B, T, S)`."""
        settings, units = self.settings, self.settings.units
        self.attention, combine = self._build_attention()
        if settings.input_feeding:
            cells = [self._recurrent(units) for _ in range(settings.decoder_layers)]
            self.cell = DecoderCell(cells, self.attention, combine, True, settings.residual, settings.dropout,
                                    self.noise, [self._next_site() for _ in cells], settings.hops, name='decoder_cell')
            initial = [ZeroState(2 * units)(self.source)] + self.initial_states + [ZeroState(1)(self.source)]
            mask = SourceMask()(self.source) if settings.encoder == 'recurrent' else self._sentence_ends
            decoder = self.kit.decoder_loop(self.cell, return_sequences=True, name='decoder')
            outputs = decoder(x, initial_state=initial, constants=[memory, mask])                       # (B, T, 2D)
            attentional, top = Slice(0, units)(outputs), Slice(units, 2 * units)(outputs)
            # The cell has one output, so the weights come from one attention call over all its states.
            return attentional, top, Alignment(self.attention, combine, settings.hops)([memory, top])
        layers, states_per_layer = [], len(self.initial_states) // settings.decoder_layers
        for number in range(1, settings.decoder_layers + 1):
            below, first = x, (number - 1) * states_per_layer
            layers.append(self._recurrent(units, return_sequences=True, name='decoder_%d' % number))
            x = layers[-1](self._drop(x), initial_state=self.initial_states[first:first + states_per_layer])
            if settings.residual and number > 1:
                x = Add()([x, below])
        self.cell = DecoderCell([layer.cell for layer in layers], self.attention, combine, False, settings.residual,
                                hops=settings.hops)
        if self.attention is None:
            return x, x, None
        if combine is None:
            attentional, weights = self.attention([memory, x, self._sentence_ends])
            return attentional, x, weights
        attentional, alignments = x, []
        for _ in range(settings.hops):
            context, weights = self.attention([memory, attentional])
            attentional = combine(Concatenate()([context, attentional]))
            alignments.append(weights)
        return attentional, x, Average()(alignments) if settings.hops > 1 else weights

    def _build_output(self, target_size):
        """Builds eq. 6 without its softmax: logits W_s h, without bias."""
        settings, self._output_layers = self.settings, []
        if not settings.tie_embeddings:
            self._output_layers = [Dense(target_size, use_bias=False, name='output',
                                         kernel_initializer=self._kernel_initializer())]
            return
        if settings.embedding != settings.units:
            self._output_layers = [Dense(settings.embedding, use_bias=False, name='output_projection',
                                         kernel_initializer=self._kernel_initializer())]
        self._output_layers.append(TiedOutput(self.target_embedding, name='output'))

    def _output(self, x):
        """What the last output layer multiplies, and the logits `(B, T, V)`."""
        for layer in self._output_layers:
            states, x = x, layer(x)
        return states, x

    @property
    def output_kernel(self):
        """The kernel that multiplies `output_states`: `(D, V)`, or with tied embeddings `(V, E)`."""
        layer = self._output_layers[-1]
        return layer.embedding.embeddings if self.settings.tie_embeddings else layer.kernel

    # One step, for the search

    def freeze_for_inference(self):
        """Computes what depends on the weights only; call once the weights of the current session are final."""
        if self.settings.tie_embeddings:
            self._output_layers[-1].freeze_for_inference()

    def start(self):
        """Returns the states of the decoder before its first step, a list of tensors `(B, 1, width)`."""
        rows = tf.shape(self.source)[0]
        zeros = [tf.zeros(tf.stack([rows, 1, width]), K.floatx()) for width in (2 * self.settings.units, 1)]
        return zeros[:1] + [tf.expand_dims(state, 1) for state in self.initial_states] + zeros[1:]

    def step(self, tokens, states, rows=None):
        """Runs one decoder step for K hypotheses of each sentence, on the layers of the training graph.

        # Arguments
            tokens: the last token of each hypothesis, ids `(B, K)`.
            states: list of tensors `(B, K, width)`.
            rows: indices `(B,)` of these sentences in the batch; all of them by default.

        # Returns
            logits `(B, K, V)`, or with `copy` `(B, K, V + X)`; new states; weights `(B, K, S)`, zeros
            without attention.
        """
        shape, memory, copied = tf.shape(tokens), self.memory, self.copied
        if rows is not None:
            encoder_states, keys = tf.gather(memory.states, rows), memory.keys
            if keys is memory.states:
                keys = encoder_states
            elif keys is not None:
                keys = nest.map_structure(lambda one: tf.gather(one, rows), keys)
            memory = Memory(encoder_states, tf.gather(memory.mask, rows), keys)
            copied = None if copied is None else tf.gather(copied, rows)
        if self.settings.copy:
            tokens = KnownIds(self.target_size).call(tokens)
        embedded = tf.reshape(self.target_embedding.call(tokens), [-1, self.settings.embedding])        # (N, E)
        states = [tf.reshape(state, [-1, width]) for state, width in zip(states, self.cell.state_size)]
        output, states, weights = self.cell.step(embedded, states, memory, training=False)              # (N, 2D)
        logits = output[:, :self.settings.units]                                                        # (N, D)
        for layer in self._output_layers:
            logits = layer.call(logits)                                                                 # (N, V)
        if weights is None:
            weights = tf.zeros(tf.stack([shape[0] * shape[1], tf.shape(self.source)[1]]), K.floatx())

        def per_sentence(x, width):
            return tf.reshape(x, tf.concat([shape, [width]], 0))                                        # (B, K, width)
        logits, weights = per_sentence(logits, logits.shape[-1].value), per_sentence(weights, tf.shape(weights)[1])
        if self.settings.copy:
            top = per_sentence(output[:, self.settings.units:], self.settings.units)                    # (B, K, D)
            embedded = per_sentence(embedded, self.settings.embedding)                                  # (B, K, E)
            logits = self.pointer.call([logits, weights, memory.states, top, embedded, copied])
        return logits, [per_sentence(state, width) for state, width in zip(states, self.cell.state_size)], weights
