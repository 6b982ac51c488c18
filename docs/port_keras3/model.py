"""The model in Keras 3, on any backend, without TensorFlow 1.12: read it beside the paper.

The backend is JAX if the variable KERAS_BACKEND names no other.

    from model import load
    model, bundle = load('bundle')                       # a folder made by `regress.py export RUN bundle`
    stages = model.forward(bundle['source'], bundle['given'])

Equation numbers are those of Luong, Pham and Manning (2015), and for copying those of See, Liu and Manning (2017).
Letters in shapes: B batch, S and T source and target length, E embedding, D and Dm decoder and encoder state, U width
of the concat score, V vocabulary, X names that only the sources have.
"""
from functools import partial
import json
import os

os.environ.setdefault('KERAS_BACKEND', 'jax')
import keras  # noqa: E402
from keras import layers, ops, tree  # noqa: E402
import numpy as np  # noqa: E402

from story import Ages, encode_memories, encode_story, hops  # noqa: E402

PAD, UNK, START, END = range(4)


def hard_sigmoid(x):
    """The gate of Keras 2: slope 0.2. `keras.activations.hard_sigmoid` of Keras 3 has slope 1/6."""
    return ops.clip(0.2 * x + 0.5, 0., 1.)


def tanh(x):
    """`ops.tanh` of the JAX backend is wrong by up to 4.5 ULP in float32, and gives float32 for float64."""
    return 2. * ops.sigmoid(2. * x) - 1.


class Attention(layers.Layer):
    """Scores, alignment weights and context for one decoder state per row."""

    def __init__(self, settings, size):
        super().__init__()
        self.settings, self.score = settings, settings['score'].replace('additive', 'concat')
        queries, units = settings['units'], settings['attention_units'] or settings['units']
        shapes = {'general': {'kernel': (queries, size)},
                  'location': {'kernel': (queries, settings['max_source_length'])},
                  'concat': {'query_kernel': (queries, units), 'memory_kernel': (size, units),
                             'score_kernel': (units, 1)}}.get(self.score, {})
        if settings['attention_normalize']:
            shapes.update(norm=(), bias=(units,))
        if settings['attention_scale']:
            shapes.update(factor=())
        if settings['attention'] == 'local-p':
            shapes.update(position_kernel=(queries, queries), position_score_kernel=(queries, 1))
        self.w = {name: self.add_weight(name=name, shape=shape) for name, shape in shapes.items()}

    def scores(self, h, memory):
        """Eq. 7 and 8: decoder states (B, D) and encoder states (B, S, Dm) to scores (B, S)."""
        if self.score == 'concat':                                                  # v_a . tanh(W_a [h_t; h_s])
            keys, v = memory @ self.w['memory_kernel'], self.w['score_kernel'][:, 0]
            if self.settings['attention_normalize']:
                keys, v = keys + self.w['bias'], self.w['norm'] * v / ops.sum(v * v) ** 0.5
            scores = tanh((h @ self.w['query_kernel'])[:, None] + keys) @ v
        elif self.score == 'location':                                              # W_a h_t
            scores = (h @ self.w['kernel'])[:, :memory.shape[1]]
        else:                                                                       # h_t . h_s, h_t W_a h_s
            query = h @ self.w['kernel'] if self.score == 'general' else h
            scores = ops.einsum('bd,bsd->bs', query, memory)
            scores = scores / memory.shape[-1] ** 0.5 if self.score == 'scaled_dot' else scores
        return self.w['factor'] * scores if self.settings['attention_scale'] else scores

    def call(self, h, memory, valid, t):
        """Stages by name: scores, masked_scores, weights (B, S), context (B, Dm). `t`: the target position, from 0."""
        scores = self.scores(h, memory)
        if self.settings['attention'] != 'global':
            window, centre = float(self.settings['window']), float(t)               # local-m: p_t = t
            if self.settings['attention'] == 'local-p':                             # eq. 9; S counts valid positions
                inner = tanh(h @ self.w['position_kernel']) @ self.w['position_score_kernel']
                centre = ops.sigmoid(inner) * ops.cast(ops.sum(valid, axis=1, keepdims=True), h.dtype)
            distance = ops.cumsum(ops.cast(valid, h.dtype), axis=1) - 1. - centre   # valid positions count
            valid = ops.logical_and(valid, ops.abs(distance) <= window)
        masked = ops.where(valid, scores, -1e9)
        weights = ops.where(valid, ops.softmax(masked, axis=-1), 0.)                # 0 if no position is valid
        if self.settings['attention'] == 'local-p':                                 # eq. 10, sigma = W / 2
            weights = weights * ops.exp(-2. * (distance / window) ** 2)
        return {'scores': scores, 'masked_scores': masked, 'weights': weights,
                'context': ops.einsum('bs,bsd->bd', weights, memory)}


class Seq2Seq(object):
    """Encoder, bridge, decoder with attention, output.

    # Arguments
        settings: dict, the `model` settings of a bundle.
        parameters: arrays by the bundle's names, such as `encoder_1/forward/kernel`; each becomes one weight.
        separators: those of the bundle, for the encoders of stories.
    """

    def __init__(self, settings, parameters, separators=None):
        self.settings, self.separators = settings, separators
        units, size = settings['units'], settings['encoder_units'] or settings['units']
        is_lstm = settings['cell'] == 'lstm'
        gate = hard_sigmoid if settings['recurrent_activation'] == 'hard_sigmoid' else ops.sigmoid

        def cell(units):
            if is_lstm:                                                             # gates i, f, c, o
                return layers.LSTMCell(units, activation=tanh, recurrent_activation=gate)
            return layers.GRUCell(units, activation=tanh, recurrent_activation=gate, reset_after=False)     # z, r, h

        self.directions = ['/forward', '/backward'] if settings['bidirectional'] else ['']
        self.layers = {name[:-11]: layers.Embedding(*value.shape)
                       for name, value in parameters.items() if name.endswith('/embeddings')}
        self.source_embedding = self.layers['source_embedding']
        self.target_embedding = self.layers.get('target_embedding', self.source_embedding)
        if separators:
            self.layers.update(question_encoder=cell(units), sentence_encoder=cell(size))
        for n in range(1, settings['encoder_layers'] + 1):
            for direction in self.directions:
                self.layers['encoder_%d%s' % (n, direction)] = cell(size // len(self.directions))
        bridged = not separators and (settings['bidirectional'] or size != units)
        for n in range(1, settings['decoder_layers'] + 1):
            self.layers['decoder_%d' % n] = cell(units)
            for state in 'hc' if is_lstm else 'h':
                self.layers['bridge_%d_%s' % (n, state)] = (
                    layers.Dense(units, activation=tanh) if bridged else layers.Identity())
        self.is_memory_network = settings.get('encoder') == 'memory'
        if self.is_memory_network:
            count, width = parameters['memories/ages'].shape
            self.layers.update(memories=Ages(count, width), memory_state=layers.Dense(width, use_bias=False))
        elif settings['score'] != 'none':
            self.layers['attention'] = Attention(settings, size)
            self.layers['attentional_state'] = layers.Dense(units, activation=tanh, use_bias=False)
        if not settings['tie_embeddings']:
            self.layers['output'] = layers.Dense(self.target_embedding.input_dim, use_bias=False)
        elif settings['embedding'] != units:
            self.layers['output_projection'] = layers.Dense(settings['embedding'], use_bias=False)
        if settings['copy']:
            self.layers['pointer_generator'] = layers.Dense(1)
        self.forward(*np.zeros((3, 1, 2), 'int32'))                                 # gives each layer its shapes
        weights = {'%s/%s' % (name, weight.name): weight for name, layer in self.layers.items()
                   for weight in layer.weights}
        if set(weights) != set(parameters):
            raise ValueError('parameters that differ: %s' % ' '.join(sorted(set(weights) ^ set(parameters))))
        for name, value in parameters.items():
            weights[name].assign(value)

    def read(self, name, x, valid):
        """One direction of one layer: outputs (B, S, units), then its last states. A masked step repeats the output
        before it (`keras.layers.Bidirectional` would put zeros there)."""
        flip = partial(ops.flip, axis=1) if name.endswith('/backward') else ops.convert_to_tensor
        # unroll: JAX would compile a loop again at each call.
        rnn = layers.RNN(self.layers[name], return_sequences=True, return_state=True, unroll=True)
        outputs, *states = rnn(flip(x), mask=flip(valid))
        return [flip(outputs), *states]

    def encode(self, x, valid):
        """All encoder layers: vectors (B, S, E) to encoder states (B, S, Dm) and the last states of each layer."""
        last = []
        for n in range(1, self.settings['encoder_layers'] + 1):
            both = [self.read('encoder_%d%s' % (n, direction), x, valid) for direction in self.directions]
            outputs, *states = [ops.concatenate(pair, axis=-1) for pair in zip(*both)]
            x = outputs + x if self.settings['residual'] and n > 1 else outputs
            last.append(states)
        return x, last

    def start(self, source, copied=None):
        """What all steps look at: encoder states (B, S, Dm), their mask (B, S), `copied`; and the states before the
        first step: those of each layer, and h~_0 = 0 (B, D)."""
        if self.separators:
            encode = encode_memories if self.is_memory_network else encode_story
            memory, valid, last = encode(self, np.asarray(source))
        else:
            valid = ops.not_equal(source, PAD)
            memory, last = self.encode(self.source_embedding(source), valid)
        first = [[self.layers['bridge_%d_%s' % (n, name)](state)
                  for name, state in zip('hc', last[min(n, len(last)) - 1])]
                 for n in range(1, self.settings['decoder_layers'] + 1)]
        return (memory, valid, copied), (first, ops.zeros((len(source), self.settings['units']), memory.dtype))

    def step(self, tokens, states, look, t):
        """One decoder step, tokens (B,): stages by name, and the states after it."""
        settings, (memory, valid, copied), (cells, attentional) = self.settings, look, states
        known = tokens < self.target_embedding.input_dim
        x = embedded = self.target_embedding(ops.where(known, tokens, UNK))         # a name is fed as <unk>
        if settings['input_feeding']:
            x = ops.concatenate([x, attentional], axis=-1)                          # section 3.3: [embedding; h~_{t-1}]
        new_cells = []
        for n, state in enumerate(cells, 1):
            output, new = self.layers['decoder_%d' % n](x, state)
            x = output + x if settings['residual'] and n > 1 else output
            new_cells.append(new)
        stages, attentional = {'decoder_states': x}, x
        if self.is_memory_network:
            stages.update(hops(x, memory, valid, settings['hops']))
            attentional = stages['attentional_states']
        elif settings['score'] != 'none':
            each_hop = []
            for _ in range(settings.get('hops', 1)):                                # the query is the last result
                stages.update(self.layers['attention'](attentional, memory, valid, t=t))
                each_hop.append(stages['weights'])
                joined = ops.concatenate([stages['context'], attentional], axis=-1)
                attentional = stages['attentional_states'] = self.layers['attentional_state'](joined)   # eq. 5
            stages['weights'] = sum(each_hop) / len(each_hop)
        logits = attentional                                                        # eq. 6
        for name in ('output_projection', 'output'):
            logits = self.layers[name](logits) if name in self.layers else logits
        if settings['tie_embeddings']:
            logits = logits @ ops.transpose(self.target_embedding.embeddings)
        stages['logits'] = logits
        if settings['copy']:
            context = ops.einsum('bs,bsd->bd', stages['weights'], memory)
            switch = self.layers['pointer_generator'](ops.concatenate([context, x, embedded], axis=-1))
            stages.update(mixture(logits, switch, stages['weights'], copied))
        return stages, (new_cells, attentional)

    def forward(self, source, given, copied=None):
        """All stages of a batch with the target fed: arrays by the names of docs/bundles.md, (B, T, ...) per step."""
        look, states = self.start(source, copied)
        stages, steps = {'encoder_states': look[0], 'initial_states': ops.stack(tree.flatten(states[0]), axis=1)}, []
        for t in range(given.shape[1]):
            step, states = self.step(given[:, t], states, look, t)
            steps.append(step)
        return dict(stages, **tree.map_structure(lambda *each: ops.stack(each, axis=1), *steps))


def mixture(logits, switch, weights, copied):
    """Stages of copying: eq. 8, 9 as logarithms (B, V + X): p_gen P_vocab + (1 - p_gen) sum of attention."""
    size = max(logits.shape[1], int(ops.max(copied)) + 1)
    places = ops.one_hot(copied, size, dtype=logits.dtype)                          # (B, S, V + X)
    copies = ops.einsum('bs,bsv->bv', weights, places)
    there = ops.any(places > 0., axis=1) & (ops.arange(size) != PAD)
    p_gen = ops.where(ops.any(there, axis=1, keepdims=True), ops.sigmoid(switch), 1.)
    p = ops.pad(p_gen * ops.softmax(logits, axis=-1), [(0, 0), (0, size - logits.shape[1])])
    # 1 - p_gen as the sigmoid of the negated sum keeps its digits near 1; 1e-37 keeps the logarithm finite.
    p = p + ops.where(there, ops.sigmoid(-switch) * ops.maximum(copies, 1e-37), 0.)
    return {'vocabulary_logits': logits, 'p_gen': ops.sigmoid(switch), 'copy_distribution': copies,
            'logits': ops.log(p)}


def build(entry, arrays):
    """A `Seq2Seq` with the weights among the arrays of one file of a bundle, in their type. entry: the manifest's."""
    parameters = {name[10:]: value for name, value in arrays.items() if name.startswith('parameter/')}
    real = parameters['source_embedding/embeddings'].dtype.name
    keras.config.set_floatx(real)
    keras.config.set_dtype_policy(real)
    return Seq2Seq(entry['model'], parameters, entry.get('separators'))


def load(folder, name='run.npz'):
    """The model of a bundle and its arrays by name."""
    with open(os.path.join(folder, 'MANIFEST.json'), encoding='utf-8') as stream:
        entry = json.load(stream)['files'][name]
    with np.load(os.path.join(folder, name), allow_pickle=False) as arrays:
        arrays = dict(arrays)
    return build(entry, arrays), arrays
