"""The model in Keras 3, on any backend, without TensorFlow 1.12: read it beside the paper.

The backend is JAX if the variable KERAS_BACKEND names no other.

    from model import load
    model, bundle = load('bundle')                       # a folder made by `regress.py export RUN bundle`
    stages = model.forward(bundle['source'], bundle['given'])

Equation numbers are those of Luong, Pham and Manning (2015), and for copying those of See, Liu and Manning (2017).
Letters in shapes: B batch, S and T source and target length, E embedding, D and Dm decoder and encoder state, U width
of the concat score, V vocabulary, X names that only the sources have, N rows of one decoder step.
"""
import json
import os

os.environ.setdefault('KERAS_BACKEND', 'jax')
import keras  # noqa: E402
from keras import layers, ops  # noqa: E402
import numpy as np  # noqa: E402

from story import encode_story  # noqa: E402

PAD, UNK, START, END = range(4)
TINY = 1e-37            # the minimum attention to a word of the source in eq. 9


def hard_sigmoid(x):
    """The gate of Keras 2: slope 0.2. `keras.activations.hard_sigmoid` of Keras 3 has slope 1/6."""
    return ops.clip(0.2 * x + 0.5, 0., 1.)


def tanh(x):
    """`ops.tanh` of the JAX backend returns float32 for float64."""
    return ops.tanh(x) if keras.config.floatx() == 'float32' else 2. * ops.sigmoid(2. * x) - 1.


def masked_softmax(scores, valid):
    """Softmax over the last axis where `valid`; exactly 0 elsewhere, and everywhere if nothing is valid."""
    weights = ops.softmax(ops.where(valid, scores, float(np.finfo(keras.config.floatx()).min)), axis=-1)
    return ops.where(valid, weights, 0.)


class Attention(layers.Layer):
    """Scores, alignment weights and context for one decoder state per row."""

    def __init__(self, settings, size, **kwargs):
        super().__init__(name='attention', **kwargs)
        self.settings, self.score = settings, {'additive': 'concat'}.get(settings['score'], settings['score'])
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
        self.built = True

    def scores(self, h, memory):
        """Eq. 7 and 8: decoder states (N, D) and encoder states (N, S, Dm) to scores (N, S)."""
        if self.score in ('dot', 'scaled_dot'):                                     # h_t . h_s
            scores = ops.einsum('nd,nsd->ns', h, memory)
            scores = scores / memory.shape[-1] ** 0.5 if self.score == 'scaled_dot' else scores
        elif self.score == 'general':                                               # h_t W_a h_s
            scores = ops.einsum('nd,nsd->ns', h @ self.w['kernel'], memory)
        elif self.score == 'concat':                                                # v_a . tanh(W_a [h_t; h_s])
            keys, v = memory @ self.w['memory_kernel'], self.w['score_kernel'][:, 0]
            if self.settings['attention_normalize']:
                keys, v = keys + self.w['bias'], self.w['norm'] * v / ops.sqrt(ops.sum(v * v))
            scores = ops.sum(tanh((h @ self.w['query_kernel'])[:, None] + keys) * v, axis=-1)
        else:                                                                       # W_a h_t
            scores = (h @ self.w['kernel'])[:, :memory.shape[1]]
        return self.w['factor'] * scores if self.settings['attention_scale'] else scores

    def call(self, h, memory, valid, t):
        """Stages by name: scores, masked_scores, weights (N, S), context (N, Dm). `t`: the target position, from 0."""
        scores = self.scores(h, memory)
        if self.settings['attention'] != 'global':
            window, centre = float(self.settings['window']), float(t)               # local-m: p_t = t
            if self.settings['attention'] == 'local-p':                             # eq. 9; S counts valid positions
                inner = tanh(h @ self.w['position_kernel']) @ self.w['position_score_kernel']
                centre = ops.sigmoid(inner) * ops.cast(ops.sum(valid, axis=1, keepdims=True), h.dtype)
            distance = ops.cumsum(ops.cast(valid, h.dtype), axis=1) - 1. - centre   # valid positions count
            valid = ops.logical_and(valid, ops.abs(distance) <= window)
        weights = masked_softmax(scores, valid)
        if self.settings['attention'] == 'local-p':                                 # eq. 10, sigma = W / 2
            weights = weights * ops.exp(-2. * (distance / window) ** 2)
        return {'scores': scores, 'masked_scores': ops.where(valid, scores, -np.inf), 'weights': weights,
                'context': ops.einsum('ns,nsd->nd', weights, memory)}


class Seq2Seq(object):
    """Encoder, bridge, decoder with attention, output.

    # Arguments
        settings: dict, the `model` settings of a bundle.
        source_size, target_size: sizes of the vocabularies. separators: those of the bundle, for `--encoder dmn`.
    """

    def __init__(self, settings, source_size, target_size, separators=None):
        self.settings, self.separators, self.layers = settings, separators, {}
        units, size = settings['units'], settings['encoder_units'] or settings['units']
        self.bridged = not separators and (settings['bidirectional'] or size != units)
        width = settings['embedding']
        self.source_embedding = self._add('source_embedding', layers.Embedding(source_size, width), (1,))
        self.target_embedding = self.source_embedding
        if not settings['share_vocabulary']:
            self.target_embedding = self._add('target_embedding', layers.Embedding(target_size, width), (1,))
        if separators:
            self._cell('question_encoder', units, width)
            self._cell('sentence_encoder', size, width + units + 1)
            width = size
        for n in range(1, settings['encoder_layers'] + 1):
            for direction in ('/forward', '/backward') if settings['bidirectional'] else ('',):
                self._cell('encoder_%d%s' % (n, direction), size // (2 if direction else 1), width)
            width = size
        width = settings['embedding'] + (units if settings['input_feeding'] else 0)
        for n in range(1, settings['decoder_layers'] + 1):
            self._cell('decoder_%d' % n, units, width)
            width = units
            for kind in 'hc' if self.bridged and settings['cell'] == 'lstm' else 'h' if self.bridged else '':
                self._add('bridge_%d_%s' % (n, kind), layers.Dense(units, activation=tanh), (1, size))
        if settings['score'] != 'none':
            self.attention = self.layers['attention'] = Attention(settings, size)
            self._add('attentional_state', layers.Dense(units, activation=tanh, use_bias=False), (1, size + units))
        if not settings['tie_embeddings']:
            self._add('output', layers.Dense(target_size, use_bias=False), (1, units))
        elif settings['embedding'] != units:
            self._add('output_projection', layers.Dense(settings['embedding'], use_bias=False), (1, units))
        if settings['copy']:
            self._add('pointer_generator', layers.Dense(1), (1, size + units + settings['embedding']))

    def _add(self, name, layer, shape):
        layer.build(shape)
        self.layers[name] = layer
        return layer

    def _cell(self, name, units, width):
        gate = hard_sigmoid if self.settings['recurrent_activation'] == 'hard_sigmoid' else ops.sigmoid
        if self.settings['cell'] == 'lstm':                                         # gates i, f, c, o
            cell = layers.LSTMCell(units, activation=tanh, recurrent_activation=gate)
        else:                                                                       # gates z, r, h
            cell = layers.GRUCell(units, activation=tanh, recurrent_activation=gate, reset_after=False)
        return self._add(name, cell, (1, width))

    def load_parameters(self, parameters):
        """Assigns arrays by the bundle's names, such as `encoder_1/forward/kernel`; each weight exactly once."""
        weights = {'%s/%s' % (name, weight.name): weight
                   for name, layer in self.layers.items() for weight in layer.weights}
        if set(weights) != set(parameters):
            raise ValueError('parameters that differ: %s' % ' '.join(sorted(set(weights) ^ set(parameters))))
        for name, value in parameters.items():
            weights[name].assign(value)

    # Encoder

    def read(self, name, x, valid, backwards=False):
        """One direction of one layer: outputs (B, S, units) and last states. A masked step repeats the output before it
        (`keras.layers.Bidirectional` would put zeros there)."""
        if backwards:
            x, valid = ops.flip(x, axis=1), ops.flip(valid, axis=1)
        # unroll: JAX would compile a loop anew at each call.
        rnn = layers.RNN(self.layers[name], return_sequences=True, return_state=True, unroll=True)
        outputs, *states = rnn(x, mask=valid)
        return ops.flip(outputs, axis=1) if backwards else outputs, states

    def read_both_ways(self, x, valid):
        """All encoder layers: vectors (B, S, E) to encoder states (B, S, Dm) and the last states of each layer."""
        settings, last = self.settings, []
        for n in range(1, settings['encoder_layers'] + 1):
            below, name = x, 'encoder_%d' % n
            if settings['bidirectional']:
                forward, forward_states = self.read(name + '/forward', x, valid)
                backward, backward_states = self.read(name + '/backward', x, valid, backwards=True)
                x = ops.concatenate([forward, backward], axis=-1)
                states = [ops.concatenate(pair, axis=-1) for pair in zip(forward_states, backward_states)]
            else:
                x, states = self.read(name, x, valid)
            if settings['residual'] and n > 1:
                x = x + below
            last.append(states)
        return x, last

    def encode(self, source):
        """Ids (B, S) to encoder states (B, S, Dm), their mask (B, S), and the first states (B, D) of each layer."""
        if self.separators:
            memory, valid, states = encode_story(self, np.asarray(source))
            return memory, valid, [states] * self.settings['decoder_layers']
        valid, first = ops.not_equal(source, PAD), []
        memory, last = self.read_both_ways(self.source_embedding(source), valid)
        for n in range(1, self.settings['decoder_layers'] + 1):
            states = last[min(n, len(last)) - 1]
            if self.bridged:
                states = [self.layers['bridge_%d_%s' % (n, kind)](state) for kind, state in zip('hc', states)]
            first.append(states)
        return memory, valid, first

    # Decoder

    def start(self, source, copied=None):
        """What all steps look at, and the states before the first step: layers' states and h~_0 = 0 (N, D)."""
        memory, valid, first = self.encode(source)
        zeros = ops.zeros((len(source), self.settings['units']), memory.dtype)
        return (memory, valid, copied), (first, zeros)

    def step(self, tokens, states, look, t):
        """One decoder step for N rows: stages by name, and the states after it."""
        settings, (memory, valid, copied), (cells, attentional) = self.settings, look, states
        size = self.target_embedding.input_dim
        x = embedded = self.target_embedding(ops.where(tokens < size, tokens, UNK))  # a name is fed as <unk>
        if settings['input_feeding']:
            x = ops.concatenate([x, attentional], axis=-1)                          # section 3.3: [embedding; h~_{t-1}]
        new_cells = []
        for n, state in enumerate(cells, 1):
            below = x
            x, new = self.layers['decoder_%d' % n](x, state)
            new_cells.append(new)
            if settings['residual'] and n > 1:
                x = x + below
        stages, attentional = {'decoder_states': x}, x
        if settings['score'] != 'none':
            each_hop = []
            for _ in range(settings.get('hops', 1)):                                # the query is the last result
                stages.update(self.attention(attentional, memory, valid, t=t))
                each_hop.append(stages['weights'])
                joined = ops.concatenate([stages['context'], attentional], axis=-1)
                attentional = stages['attentional_states'] = self.layers['attentional_state'](joined)   # eq. 5
            stages['weights'] = sum(each_hop) / len(each_hop)
        stages['logits'] = self.logits(attentional)                                 # eq. 6
        if settings['copy']:
            stages['vocabulary_logits'] = stages['logits']
            context = ops.einsum('ns,nsd->nd', stages['weights'], memory)
            joined = ops.concatenate([context, x, embedded], axis=-1)
            switch = self.layers['pointer_generator'](joined)                       # eq. 8
            stages['p_gen'] = ops.sigmoid(switch)
            stages['copy_distribution'], stages['logits'] = self.mixture(stages['logits'], switch, stages['weights'],
                                                                         copied)
        return stages, (new_cells, attentional)

    def logits(self, x):
        if not self.settings['tie_embeddings']:
            return self.layers['output'](x)
        if 'output_projection' in self.layers:
            x = self.layers['output_projection'](x)
        return x @ ops.transpose(self.target_embedding.embeddings)

    def mixture(self, logits, switch, weights, copied):
        """Copy distribution and eq. 9 as logarithms, both (N, V + X): p_gen P_vocab + (1 - p_gen) sum of attention."""
        size = max(logits.shape[1], int(ops.max(copied)) + 1)
        places = ops.one_hot(copied, size, dtype=logits.dtype)                      # (N, S, V + X)
        copies = ops.einsum('ns,nsv->nv', weights, places)
        there = ops.any(places > 0., axis=1) & (ops.arange(size) != PAD)
        p_gen = ops.where(ops.any(there, axis=1, keepdims=True), ops.sigmoid(switch), 1.)
        p = ops.pad(p_gen * ops.softmax(logits, axis=-1), [(0, 0), (0, size - logits.shape[1])])
        # 1 - p_gen as the sigmoid of the negated sum, which keeps its digits where p_gen is near 1.
        p = p + ops.where(there, ops.sigmoid(-switch) * ops.maximum(copies, TINY), 0.)
        return copies, ops.log(p)

    def forward(self, source, given, copied=None):
        """All stages of a batch with the target fed: arrays by the names of docs/porting.md, (B, T, ...) per step."""
        look, states = self.start(source, copied)
        stages, steps = {'encoder_states': look[0], 'initial_states': ops.stack(
            [state for layer in states[0] for state in layer], axis=1)}, []
        for t in range(given.shape[1]):
            step, states = self.step(given[:, t], states, look, t)
            steps.append(step)
        stages.update({name: ops.stack([step[name] for step in steps], axis=1) for name in steps[0]})
        return stages


def build(entry, arrays):
    """A `Seq2Seq` with the weights among the arrays of one file of a bundle, in their type. entry: the manifest's."""
    real = arrays['parameter/source_embedding/embeddings'].dtype.name
    keras.config.set_floatx(real)
    keras.config.set_dtype_policy(real)
    parameters = {name[10:]: value for name, value in arrays.items() if name.startswith('parameter/')}
    source = len(parameters['source_embedding/embeddings'])
    target = len(parameters.get('target_embedding/embeddings', parameters['source_embedding/embeddings']))
    model = Seq2Seq(entry['model'], source, target, entry.get('separators'))
    model.load_parameters(parameters)
    return model


def load(folder, name='run.npz'):
    """The model of a bundle and its arrays by name."""
    with open(os.path.join(folder, 'MANIFEST.json'), encoding='utf-8') as stream:
        entry = json.load(stream)['files'][name]
    with np.load(os.path.join(folder, name), allow_pickle=False) as arrays:
        arrays = dict(arrays)
    return build(entry, arrays), arrays
