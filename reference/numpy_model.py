"""The whole model in plain NumPy and float64: an independent check of the Keras model, and its equations for porters.

This file, `numpy_search.py` and `numpy_losses.py` share no code with the Keras model and need Python 3.6 or later and
NumPy only; this one can be copied alone. It computes what Keras 2.2.4 computes at inference with its old defaults
(`hard_sigmoid` gates, a GRU that resets before the product). Equation numbers are those of Luong, Pham and Manning
(2015), https://arxiv.org/abs/1508.04025, and for copying those of See, Liu and Manning (2017),
https://arxiv.org/abs/1704.04368.

Letters in shapes: B sentences, S and T source and target length, D decoder state, Dm encoder state, E embedding,
U width of the concat score, V vocabulary, X maximum number of names in a source of the batch, N rows of one decoder
step (B rows, or more in a search).

Weights are arrays under the names below; the names of `weights.h5` are accepted too, see `neutral`.

    source_embedding/embeddings (V, E)      target_embedding/embeddings (V, E), none with a shared vocabulary
    encoder_n/kernel (in, G)                encoder_n/recurrent_kernel (units, G)            encoder_n/bias (G,)
    encoder_n/forward/..., encoder_n/backward/...: the same three for each direction
    bridge_n_h/kernel (Dm, D), bridge_n_h/bias (D,), and bridge_n_c/... for an LSTM's cell state
    decoder_n/...                           as encoder_n; with input feeding `in` is E + D for decoder_1
    question_encoder/..., sentence_encoder/...  as encoder_n, with `encoder` 'dmn'; no bridge
    attention/kernel                        general (D, Dm); location (D, largest S)
    attention/memory_kernel (Dm, U), attention/query_kernel (D, U), attention/score_kernel (U, 1)    concat
    attention/norm (), attention/bias (U,)  concat, normalised;      attention/factor ()    scaled scores
    attention/position_kernel (D, D), attention/position_score_kernel (D, 1)                local-p
    attentional_state/kernel (Dm + D, D)    the context's rows first
    output/kernel (D, V)                    without tied embeddings
    output_projection/kernel (D, E)         with tied embeddings where E and D differ
    pointer_generator/kernel (Dm + D + E, 1), pointer_generator/bias (1,)    with copy; context, state, input

G is 4 units in the order i, f, c, o for an LSTM and 3 units in the order z, r, h for a GRU. All products are
row vector times matrix.
"""
from collections import OrderedDict, namedtuple
import re

import numpy as np

PAD, UNK, START, END = 0, 1, 2, 3
TINY = 1e-37  # minimum attention to a word of the source in eq. 9: its logarithm is finite in float32 too

Memory = namedtuple('Memory', 'states mask copied')
Memory.__doc__ = """What every decoder step reads.

states: encoder states (N, S, Dm). mask: their valid positions (N, S). copied: with copy, the id that copying each
position outputs (N, S); ids from V on are the names of that row.
"""

Story = namedtuple('Story', 'question question_states sentences ends states')
Story.__doc__ = """A source in parts.

question: ids. question_states: the last states of its recurrent layer, each (1, D). sentences: their ids. ends:
positions of their last tokens. states: their last states, each (Dm,).
"""

States = namedtuple('States', 'attentional cells position')
States.__doc__ = """What one decoder step passes to the next.

attentional: h~_{t-1} (N, D), which input feeding needs. cells: for each layer, the lowest first, [h, c] of an LSTM or
[h] of a GRU, each (N, D). position: t, counted from 0.
"""


# Activations

def sigmoid(x):
    """1 / (1 + e^-x) without overflow."""
    return 0.5 * (1. + np.tanh(0.5 * x))


def hard_sigmoid(x):
    """Keras' piecewise linear sigmoid of slope 0.2: 0 below -2.5 and 1 above 2.5."""
    return np.clip(0.2 * x + 0.5, 0., 1.)


def masked_softmax(scores, valid):
    """Softmax over the last axis where `valid`, exactly 0 elsewhere; all 0 where nothing is valid."""
    scores = np.where(valid, scores, -np.inf)
    highest = np.max(scores, axis=-1, keepdims=True)
    exponentials = np.exp(scores - np.where(np.isfinite(highest), highest, 0.))
    total = np.sum(exponentials, axis=-1, keepdims=True)
    return exponentials / np.where(total > 0., total, 1.)


def log_softmax(logits):
    """Logarithm of the softmax over the last axis, in nats."""
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


# Recurrent cells: x (N, in), states (N, units) each, to the new states, of which the first is the output

def lstm_step(x, states, kernel, recurrent_kernel, bias, gate):
    """Keras' LSTM: gates in the order input, forget, candidate, output."""
    h, c = states
    i, f, candidate, o = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
    c = gate(f) * c + gate(i) * np.tanh(candidate)
    return [gate(o) * np.tanh(c), c]


def gru_step(x, states, kernel, recurrent_kernel, bias, gate):
    """Keras' GRU (`reset_after=False`): gates in the order update, reset, candidate; z keeps the old state."""
    h, = states
    x_z, x_r, x_h = np.split(x @ kernel + bias, 3, axis=-1)
    u_z, u_r, u_h = np.split(recurrent_kernel, 3, axis=-1)
    z, r = gate(x_z + h @ u_z), gate(x_r + h @ u_r)
    return [z * h + (1. - z) * np.tanh(x_h + (r * h) @ u_h)]


class NumpyModel(object):
    """Encoder, bridge, decoder with attention, output.

    # Arguments
        settings: dict, the settings of a run as in its `config.json`.
        weights: dict of arrays by name, see the docstring of the module.
        separators: with `encoder` 'dmn', the source id that ends a question, and a list of those that end a sentence.
    """

    def __init__(self, settings, weights, separators=None):
        self.settings, self.separators = settings, separators
        self.weights = {neutral(name): np.asarray(value, np.float64) for name, value in weights.items()}
        self.gate = {'sigmoid': sigmoid, 'hard_sigmoid': hard_sigmoid}[settings['recurrent_activation']]
        self.cell_step, self.cell_states = {'lstm': (lstm_step, 2), 'gru': (gru_step, 1)}[settings['cell']]
        self.score = {'additive': 'concat'}.get(settings['score'], settings['score'])

    def _cell(self, name, x, states):
        kernel, recurrent_kernel, bias = [self.weights[name + '/' + part]
                                          for part in ('kernel', 'recurrent_kernel', 'bias')]
        return self.cell_step(x, states, kernel, recurrent_kernel, bias, self.gate)

    def _target_table(self):
        side = 'source' if self.settings['share_vocabulary'] else 'target'
        return self.weights[side + '_embedding/embeddings']                                             # (V, E)

    # Encoder

    def _layer(self, name, x, mask, backwards=False):
        """Runs one direction of a recurrent layer from zero states: `(B, S, in)` to `(B, S, units)` and last states.

        A padded step keeps the states and outputs them unchanged. The backward direction reads padding first.
        """
        rows, length = mask.shape
        states = [np.zeros((rows, len(self.weights[name + '/recurrent_kernel'])))] * self.cell_states
        outputs = [None] * length
        for s in range(length - 1, -1, -1) if backwards else range(length):
            stepped = self._cell(name, x[:, s], states)
            states = [np.where(mask[:, s, None], new, old) for new, old in zip(stepped, states)]
            outputs[s] = states[0]
        return np.stack(outputs, axis=1), states

    def encode(self, source):
        """Maps source ids `(B, S)` to encoder states `(B, S, Dm)` and the last states `(B, Dm)` of each layer."""
        return self.encode_vectors(self.weights['source_embedding/embeddings'][source], source != PAD)

    def encode_vectors(self, x, mask):
        """Does the same for vectors `(B, S, E)` and their mask `(B, S)`."""
        settings, last_states = self.settings, []
        for number in range(1, settings['encoder_layers'] + 1):
            below, name = x, 'encoder_%d' % number
            if settings['bidirectional']:
                # The last state of the backward direction is the one at the first word.
                forward, forward_states = self._layer(name + '/forward', x, mask)
                backward, backward_states = self._layer(name + '/backward', x, mask, True)
                x = np.concatenate([forward, backward], axis=-1)
                states = [np.concatenate(pair, axis=-1) for pair in zip(forward_states, backward_states)]
            else:
                x, states = self._layer(name, x, mask)
            if settings['residual'] and number > 1:
                x = x + below
            last_states.append(states)
        return x, last_states

    def encode_story(self, source):
        """The encoder of a dynamic memory network: sources `question | story`, ids `(B, S)`.

        The question's last states are the first states of every decoder layer. The inputs of a sentence's words are
        embedding, the question's last state, and the sum of its states at the places of the word, or with `exact_match`
        'flag' 1 where the question has the word. The encoder's layers read the sentences' last states in order, with a
        residual connection; the state of a sentence is at its last token, where alone the mask is true.

        # Returns
            Encoder states `(B, S, Dm)`, their mask `(B, S)`, and the first states of the decoder's layers.
        """
        stories = self.read_stories(source)
        counts = [len(story.ends) for story in stories]
        mask = np.arange(max(max(counts), 1)) < np.array(counts)[:, None]                               # (B, N)
        x = np.zeros(mask.shape + (self.settings['encoder_units'] or self.settings['units'],))
        x[mask] = np.reshape([state for story in stories for state in story.states], (-1, x.shape[-1]))
        fused = self.encode_vectors(x, mask)[0] + x                                                     # (B, N, Dm)
        memory, valid = np.zeros(source.shape + fused.shape[-1:]), np.zeros(source.shape, bool)
        for row, story in enumerate(stories):
            memory[row, story.ends], valid[row, story.ends] = fused[row, :len(story.ends)], True
        return memory, valid, self.first_states(stories)

    def first_states(self, stories):
        """The first states of the decoder's layers: the last ones of the questions."""
        states = [np.concatenate(layer_states) for layer_states in zip(*[story.question_states for story in stories])]
        return [states] * self.settings['decoder_layers']

    def read_stories(self, source):
        """Reads the question and each sentence of sources, ids `(B, S)`: a list of `Story`."""
        table, flag = self.weights['source_embedding/embeddings'], self.settings.get('exact_match', 'flag') == 'flag'
        stories = []
        for row in source:
            question, sentences = self.split(row[row != PAD].tolist())
            ids, states = np.array([question or [PAD]]), []
            outputs, question_states = self._layer('question_encoder', table[ids], ids != PAD)
            for _, words in sentences:
                match = np.array([[float(word > END and word == other) for other in ids[0]] for word in words])
                match = match.max(axis=1, keepdims=True) if flag else match @ outputs[0]
                asked = np.repeat(question_states[0], len(words), axis=0)
                joined = np.concatenate([table[words], asked, match], axis=1)
                states.append(self._layer('sentence_encoder', joined[None], np.ones((1, len(words)), bool))[1][0][0])
            ends, sentences = zip(*sentences) if sentences else ([], [])
            stories.append(Story(question, question_states, sentences, list(ends), states))
        return stories

    def split(self, ids):
        """One source without padding: the question's ids, and (position of its last token, ids) of each sentence."""
        question_end, sentence_ends = self.separators[:2]
        first = ids.index(question_end) + 1 if question_end in ids else 0
        sentences, words = [], []
        for position in range(first, len(ids)):
            words.append(ids[position])
            more = position + 1 < len(ids)
            if not more or words[-1] in sentence_ends and ids[position + 1] not in sentence_ends:
                sentences.append((position, words))
                words = []
        return ids[:max(first - 1, 0)], sentences

    def bridge(self, last_states):
        """Maps the last states of the encoder's layers to the first states of the decoder's layers, each `(B, D)`.

        Decoder layer n starts from encoder layer n, or from the top layer if the encoder has fewer. The states pass
        unchanged, or through tanh(W state + b) after two directions or between different sizes.
        """
        settings, first_states = self.settings, []
        dense = settings['bidirectional'] or (settings['encoder_units'] or settings['units']) != settings['units']
        for number in range(1, settings['decoder_layers'] + 1):
            states = last_states[min(number, settings['encoder_layers']) - 1]
            if dense:
                names = ['bridge_%d_%s' % (number, kind) for kind in 'hc']
                states = [np.tanh(state @ self.weights[name + '/kernel'] + self.weights[name + '/bias'])
                          for name, state in zip(names, states)]
            first_states.append(states)
        return first_states

    def start(self, source, copied=None):
        """Maps source ids `(B, S)` to the `Memory` and the `States` before the decoder's first step."""
        attentional = np.zeros((len(source), self.settings['units']))
        if self.settings.get('encoder') == 'dmn':
            encoder_states, mask, first_states = self.encode_story(source)
            return Memory(encoder_states, mask, copied), States(attentional, first_states, 0)
        encoder_states, last_states = self.encode(source)
        return Memory(encoder_states, source != PAD, copied), States(attentional, self.bridge(last_states), 0)

    # Attention

    def scores(self, h, encoder_states):
        """Returns the scores `(N, S)` of decoder states `(N, D)` and encoder states `(N, S, Dm)` before the mask."""
        def weight(name):
            return self.weights['attention/' + name]

        if self.score in ('dot', 'scaled_dot'):                                     # eq. 7: h_t . h_s
            scores = np.einsum('nd,nsd->ns', h, encoder_states)
            if self.score == 'scaled_dot':
                scores = scores / np.sqrt(encoder_states.shape[-1])
        elif self.score == 'general':                                               # eq. 7: h_t W_a h_s
            scores = np.einsum('nd,nsd->ns', h @ weight('kernel'), encoder_states)
        elif self.score == 'concat':                                                # eq. 7: v_a . tanh(W_a [h_t; h_s])
            pairs = (h @ weight('query_kernel'))[:, None] + encoder_states @ weight('memory_kernel')    # (N, S, U)
            v = weight('score_kernel')[:, 0]                                                            # (U,)
            if self.settings['attention_normalize']:
                pairs = pairs + weight('bias')
                v = weight('norm') * v / np.linalg.norm(v)
            scores = np.tanh(pairs) @ v
        else:                                                                       # eq. 8: W_a h_t
            scores = (h @ weight('kernel'))[:, :encoder_states.shape[1]]
        return scores * weight('factor') if self.settings['attention_scale'] else scores

    def align(self, scores, h, mask, position):
        """Maps scores `(N, S)` to scores after mask and window (-inf at excluded positions) and weights `(N, S)`."""
        if self.settings['attention'] == 'global':
            return np.where(mask, scores, -np.inf), masked_softmax(scores, mask)
        window, source = float(self.settings['window']), np.cumsum(mask, axis=1) - 1        # valid positions count
        if self.settings['attention'] == 'local-m':
            centre = np.full((len(h), 1), float(position))                          # p_t = t
        else:                                                                       # eq. 9: S sigmoid(v_p tanh W_p h_t)
            inner = np.tanh(h @ self.weights['attention/position_kernel'])
            centre = sigmoid(inner @ self.weights['attention/position_score_kernel'])
            centre = centre * mask.sum(axis=1, keepdims=True)                                           # (N, 1)
        valid = mask & (np.abs(source - centre) <= window)
        weights = masked_softmax(scores, valid)
        if self.settings['attention'] == 'local-p':                                 # eq. 10, sigma = W / 2
            weights = weights * np.exp(-(source - centre) ** 2 / (2. * (window / 2.) ** 2))
        return np.where(valid, scores, -np.inf), weights

    # Decoder

    def step(self, tokens, states, memory):
        """Runs one decoder step.

        # Arguments
            tokens: ids `(N,)`, the last token of each row.
            states: `States`. memory: `Memory`.

        # Returns
            Stages of the step as an OrderedDict of arrays with N rows, and the new `States`. The stages are
            decoder_states, logits and, with attention, scores, masked_scores, weights, context, attentional_states,
            and with copy vocabulary_logits, p_gen, copy_distribution.
        """
        settings, stages = self.settings, OrderedDict()
        table = self._target_table()
        embedded = x = table[np.where(tokens < len(table), tokens, UNK)]            # a name is fed as <unk>    (N, E)
        if settings['input_feeding']:
            x = np.concatenate([x, states.attentional], axis=-1)                    # section 3.3
        cells = []
        for number, cell in enumerate(states.cells, 1):
            below = x
            cells.append(self._cell('decoder_%d' % number, x, cell))
            x = cells[-1][0]
            if settings['residual'] and number > 1:
                x = x + below
        attentional = stages['decoder_states'] = x                                                      # (N, D)
        if self.score != 'none':
            attentional = self.attend(stages, memory, states.position)
        logits = self.logits(attentional)                                                               # (N, V)
        if settings.get('copy'):
            # Eq. 8: sigmoid(w_h* . c_t + w_s . h_t + w_x . x_t + b), the three vectors concatenated.
            context = np.einsum('ns,nsd->nd', stages['weights'], memory.states)
            joined = np.concatenate([context, stages['decoder_states'], embedded], axis=-1)
            stages['vocabulary_logits'] = logits
            stages['p_gen'] = sigmoid(joined @ self.weights['pointer_generator/kernel']
                                      + self.weights['pointer_generator/bias'])                         # (N, 1)
            stages['copy_distribution'] = self.copy_distribution(stages['weights'], memory.copied, logits.shape[1])
            logits = self.mixture(logits, stages['p_gen'], stages['copy_distribution'], memory.copied)  # (N, V + X)
        stages['logits'] = logits
        return stages, States(attentional, cells, states.position + 1)

    def attend(self, stages, memory, position):
        """Adds the stages of the attention to those of a step; returns the attentional state `(N, D)`."""
        attentional, each_hop = stages['decoder_states'], []
        for _ in range(self.settings.get('hops', 1)):
            query = attentional                                                     # the result of the last hop
            stages['scores'] = self.scores(query, memory.states)                                        # (N, S)
            stages['masked_scores'], stages['weights'] = self.align(stages['scores'], query, memory.mask, position)
            each_hop.append(stages['weights'])
            stages['context'] = np.einsum('ns,nsd->nd', stages['weights'], memory.states)               # (N, Dm)
            joined = np.concatenate([stages['context'], query], axis=-1)            # eq. 5: tanh(W_c [c_t; h_t])
            attentional = np.tanh(joined @ self.weights['attentional_state/kernel'])
        stages['weights'] = np.mean(each_hop, axis=0)                               # the alignment: mean of all hops
        stages['attentional_states'] = attentional
        return attentional

    def logits(self, attentional):
        """Eq. 6 without its softmax: W_s h~_t, `(N, D)` to `(N, V)`."""
        if not self.settings['tie_embeddings']:
            return attentional @ self.weights['output/kernel']
        if self.settings['embedding'] != self.settings['units']:
            attentional = attentional @ self.weights['output_projection/kernel']
        return attentional @ self._target_table().T

    def copy_distribution(self, weights, copied, size):
        """Sums attention `(N, S)` by words, sum_{s: w_s = w} a_s of eq. 9: `(N, V + X)` for V words and X names."""
        summed = np.zeros((len(copied), max(size, copied.max() + 1)))
        for row, ids in enumerate(copied):
            for s, word in enumerate(ids):
                summed[row, word] += weights[row, s]
        return summed

    def mixture(self, logits, p_gen, copy_distribution, copied):
        """Eq. 9: log(p_gen P_vocab(w) + (1 - p_gen) sum_{s: w_s = w} a_s), `(N, V + X)`.

        Minus infinity for names that a row does not have. A row without any word has nothing to copy: P_vocab alone.
        """
        present = np.zeros(copy_distribution.shape, bool)
        for row, ids in enumerate(copied):
            present[row, ids[ids != PAD]] = True
        p_gen = np.where(present.any(axis=1, keepdims=True), p_gen, 1.)
        p = (1. - p_gen) * np.where(present, np.maximum(copy_distribution, TINY), 0.)
        p[:, :logits.shape[1]] += p_gen * np.exp(log_softmax(logits))
        with np.errstate(divide='ignore'):
            return np.log(p)

    # Whole sequences

    def forward(self, source, target, copied=None):
        """Computes every stage of a batch.

        # Arguments
            source: ids `(B, S)`, 0 after the end.
            target: decoder input ids `(B, T)`: <s> and the tokens of the target.
            copied: with copy, the id that copying each source position outputs, `(B, S)`.

        # Returns
            OrderedDict: encoder_states `(B, S, Dm)`, initial_states `(B, number of states, D)`, then the stages of
            `step` over all steps: decoder_states `(B, T, D)`, scores, masked_scores, weights `(B, T, S)`, context
            `(B, T, Dm)`, attentional_states `(B, T, D)`, logits `(B, T, V)`. With copy vocabulary_logits `(B, T, V)`,
            p_gen `(B, T, 1)` and copy_distribution `(B, T, V + X)` precede the logits, and these are
            log-probabilities `(B, T, V + X)`.
        """
        source, target = np.asarray(source, np.int64), np.asarray(target, np.int64)
        memory, states = self.start(source, copied)
        stages = OrderedDict([('encoder_states', memory.states),
                              ('initial_states', np.stack([state for cell in states.cells for state in cell], axis=1))])
        steps = []
        for t in range(target.shape[1]):
            step, states = self.step(target[:, t], states, memory)
            steps.append(step)
        stages.update((name, np.stack([step[name] for step in steps], axis=1)) for name in steps[0])
        return stages


def neutral(name):
    """Returns the name of a weight of `weights.h5` in this file: `decoder_1/kernel` for `decoder/cell_1/kernel:0`."""
    name = re.sub(r'^decoder/cell_', 'decoder_', name.split(':')[0])
    return re.sub(r'/(forward|backward)_(lstm|gru)/', r'/\1/', re.sub('^decoder/', '', name))
