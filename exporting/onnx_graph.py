"""A trained model as two ONNX graphs: the encoder, and one step of the decoder. Needs `onnx` and NumPy only.

The graphs hold what `seq2seq_model.py` computes at inference; the search is a loop in `adapters/onnx_translate.py`.
Letters in shapes: B sentences, K hypotheses of each, S source length, D and Dm decoder and encoder state, V vocabulary.

    encoder.onnx  source (B, S) ids -> memory (B, S, Dm), keys (B, S, n), mask (B, S), state_0 ... (B, 1, D); a memory
                  network has memory (B, S, (H + 1) D) for H hops, and as keys the question (B, 1, D)
    step.onnx     tokens (B, K), time (1,), count (1,), memory, keys, mask, state_0 ... (B, K, D), with input feeding
                  attentional (B, K, D) -> logits (B, K, V), their logarithm of the sum of exponentials `normaliser`
                  (B, K, 1), top_values and top_ids (B, K, count), weights (B, K, S), switch (B, K, 1) with copying, new
                  states
"""
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from exporting import onnx_story

OPSET = 12          # onnxruntime 1.10 and all later versions load it
LOWEST = np.finfo('f').min
BLOCK = 128         # values that are added one after the other
UNK = 1


class Graph(object):
    """Collects nodes and constants. Each method returns the name of a tensor."""

    def __init__(self, weights):
        self.nodes, self.constants, self.weights = [], {}, weights

    def op(self, kind, *inputs, **attributes):
        """Adds a node; returns its output, or with `outputs=n` a list of n."""
        count = attributes.pop('outputs', 1)
        names = ['%s_%d_%d' % (kind.lower(), len(self.nodes), i) for i in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if count == 1 else names

    def constant(self, value, dtype='f'):
        array = np.asarray(value, dtype)
        name = 'constant_%d' % len(self.constants)
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name):
        """A weight of the run by its neutral name, once in the file."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(self.weights[name], 'f'), name)
        return name

    def rename(self, tensor, name):
        self.nodes.append(helper.make_node('Identity', [tensor], [name]))

    def model(self, inputs, outputs):
        """The finished model. inputs, outputs: {name: (type, shape)}, a shape with letters for what is open."""
        infos = [[helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in side.items()]
                 for side in (inputs, outputs)]
        graph = helper.make_graph(self.nodes, 'seq2seq', infos[0], infos[1], list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_operatorsetid('', OPSET)],
                                  producer_name='global-attention')
        model.ir_version = 7
        checker.check_model(model)
        return model


def tanh_dense(graph, x, name):
    x = graph.op('MatMul', x, graph.weight(name + '/kernel'))
    if name + '/bias' in graph.weights:
        x = graph.op('Add', x, graph.weight(name + '/bias'))
    return graph.op('Tanh', x)


# Encoder

def gates(array, cell, axis):
    """Keras' order of gates to ONNX': i, f, c, o to i, o, f, c; that of a GRU, z, r, h, is the same."""
    parts = np.split(array, 4 if cell == 'lstm' else 3, axis)
    return np.concatenate([parts[i] for i in ((0, 3, 1, 2) if cell == 'lstm' else (0, 1, 2))], axis)


def recurrent_layer(graph, settings, x, lengths, name):
    """One encoder layer on (S, B, in): outputs (S, B, n), last states (B, n) each. Padding gives zeros, which the mask
    hides."""
    directions = [name + '/forward', name + '/backward'] if settings['bidirectional'] else [name]
    w, r, b = [], [], []
    for direction in directions:
        kernel, recurrent, bias = [graph.weights[direction + '/' + part]
                                   for part in ('kernel', 'recurrent_kernel', 'bias')]
        w.append(gates(kernel, settings['cell'], 1).T)
        r.append(gates(recurrent, settings['cell'], 1).T)
        b.append(np.concatenate([gates(bias, settings['cell'], 0), np.zeros_like(bias)]))
    gate = 'HardSigmoid' if settings['recurrent_activation'] == 'hard_sigmoid' else 'Sigmoid'  # slope 0.2 by default
    lstm = settings['cell'] == 'lstm'
    kinds = {} if lstm else {'linear_before_reset': 0}
    outputs = graph.op(
        'LSTM' if lstm else 'GRU', x, *[graph.constant(np.stack(part)) for part in (w, r, b)], lengths,
        outputs=3 if lstm else 2, hidden_size=r[0].shape[1], activations=[gate, 'Tanh', 'Tanh'][:3 if lstm else 2] *
        len(directions), direction='bidirectional' if settings['bidirectional'] else 'forward', **kinds)
    x = graph.op('Transpose', outputs[0], perm=[0, 2, 1, 3])                        # (S, B, directions, units)
    x = graph.op('Reshape', x, graph.constant([0, 0, -1], 'int64'))
    states = [graph.op('Reshape', graph.op('Transpose', state, perm=[1, 0, 2]), graph.constant([0, -1], 'int64'))
              for state in outputs[1:]]
    return x, states


def encoder_layers(graph, settings, x, lengths):
    """All encoder layers on (S, B, E): outputs (S, B, Dm), and the last states (B, Dm) of each layer."""
    last = []
    for n in range(1, settings['encoder_layers'] + 1):
        below = x
        x, states = recurrent_layer(graph, settings, x, lengths, 'encoder_%d' % n)
        if settings['residual'] and n > 1:
            x = graph.op('Add', x, below)
        last.append(states)
    return x, last


def bridge(graph, settings, last, size):
    """First states (B, D) of the decoder's layers, from the last states of the encoder's."""
    first = []
    for n in range(1, settings['decoder_layers'] + 1):
        for kind, state in zip('hc', last[min(n, len(last)) - 1]):
            if settings['bidirectional'] or size != settings['units']:
                state = tanh_dense(graph, state, 'bridge_%d_%s' % (n, kind))
            first.append(state)
    return first


def memory_width(settings):
    """Dm, or M = (H + 1) D of a memory network."""
    if settings['encoder'] == 'memory':
        return (settings['hops'] + 1) * settings['units']
    return settings['encoder_units'] or settings['units']


def encoder(settings, weights, separators=None):
    """`encoder.onnx`, from a run's settings (dict), weights by neutral name, and `questions.Separators`."""
    graph, size = Graph(weights), settings['encoder_units'] or settings['units']
    valid = graph.op('Not', graph.op('Equal', 'source', graph.constant(0, 'int64')))
    if separators:
        memory, valid, first, asked = onnx_story.encode(graph, settings, valid, separators, recurrent_layer,
                                                        encoder_layers)
    else:
        lengths = graph.op('ReduceSum', graph.op('Cast', valid, to=TensorProto.INT32), axes=[1], keepdims=0)
        x = graph.op('Gather', graph.weight('source_embedding/embeddings'), 'source')
        x, last = encoder_layers(graph, settings, graph.op('Transpose', x, perm=[1, 0, 2]), lengths)
        memory = graph.op('Transpose', x, perm=[1, 0, 2])                           # (B, S, Dm)
        first = bridge(graph, settings, last, size)
    mask = graph.op('Cast', valid, to=TensorProto.FLOAT)
    keys, score, size = memory, settings['score'], memory_width(settings)
    key_shape = ['B', 'S', 'n']
    if settings['encoder'] == 'memory':
        keys, key_shape = asked, ['B', 1, 'n']
    elif score in ('concat', 'additive'):
        keys = graph.op('MatMul', memory, graph.weight('attention/memory_kernel'))
        if settings['attention_normalize']:
            keys = graph.op('Add', keys, graph.weight('attention/bias'))
    elif score == 'general':                                                        # h_t (W_a h_s)
        keys = graph.op('MatMul', memory, graph.constant(weights['attention/kernel'].T))
    first = [graph.op('Unsqueeze', state, axes=[1]) for state in first]
    real, outputs = TensorProto.FLOAT, {}
    named = [('memory', memory, ['B', 'S', size]), ('keys', keys, key_shape), ('mask', mask, ['B', 'S'])]
    named += [('state_%d' % i, state, ['B', 1, settings['units']]) for i, state in enumerate(first)]
    for name, tensor, shape in named:
        graph.rename(tensor, name)
        outputs[name] = (real, shape)
    return graph.model({'source': (TensorProto.INT64, ['B', 'S'])}, outputs)


# Decoder

def cell(graph, settings, x, states, name):
    """One step of a decoder layer on (B, K, in): the new states, of which the first is the output."""
    gate = 'HardSigmoid' if settings['recurrent_activation'] == 'hard_sigmoid' else 'Sigmoid'
    inner = graph.op('Add', graph.op('MatMul', x, graph.weight(name + '/kernel')), graph.weight(name + '/bias'))
    if settings['cell'] == 'lstm':
        h, c = states
        inner = graph.op('Add', inner, graph.op('MatMul', h, graph.weight(name + '/recurrent_kernel')))
        i, f, candidate, o = graph.op('Split', inner, axis=-1, outputs=4)
        c = graph.op('Add', graph.op('Mul', graph.op(gate, f), c),
                     graph.op('Mul', graph.op(gate, i), graph.op('Tanh', candidate)))
        return [graph.op('Mul', graph.op(gate, o), graph.op('Tanh', c)), c]
    h, = states
    x_z, x_r, x_h = graph.op('Split', inner, axis=-1, outputs=3)
    u_z, u_r, u_h = [graph.constant(part) for part in np.split(graph.weights[name + '/recurrent_kernel'], 3, axis=1)]
    z = graph.op(gate, graph.op('Add', x_z, graph.op('MatMul', h, u_z)))
    r = graph.op(gate, graph.op('Add', x_r, graph.op('MatMul', h, u_r)))
    candidate = graph.op('Tanh', graph.op('Add', x_h, graph.op('MatMul', graph.op('Mul', r, h), u_h)))
    kept = graph.op('Sub', graph.constant(1.), z)
    return [graph.op('Add', graph.op('Mul', z, h), graph.op('Mul', kept, candidate))]


def scores(graph, settings, h):
    """Eq. 7 and 8: (B, K, S)."""
    score = {'additive': 'concat'}.get(settings['score'], settings['score'])
    keys = graph.op('Transpose', 'keys', perm=[0, 2, 1])                            # (B, n, S)
    if score == 'concat':
        v = graph.weights['attention/score_kernel']
        if settings['attention_normalize']:
            v = graph.weights['attention/norm'] * v / np.sqrt(np.sum(np.square(v)))
        query = graph.op('MatMul', h, graph.weight('attention/query_kernel'))
        pairs = graph.op('Add', graph.op('Unsqueeze', query, axes=[2]), graph.op('Unsqueeze', 'keys', axes=[1]))
        scores = graph.op('Squeeze', graph.op('MatMul', graph.op('Tanh', pairs), graph.constant(v)), axes=[3])
    elif score == 'location':
        scores = graph.op('MatMul', h, graph.weight('attention/kernel'))
        length = graph.op('Slice', graph.op('Shape', 'mask'), *[graph.constant([i], 'int64') for i in (1, 2)])
        scores = graph.op('Slice', scores, graph.constant([0], 'int64'), length, graph.constant([2], 'int64'))
    else:
        scores = graph.op('MatMul', h, keys)
        if score == 'scaled_dot':
            scores = graph.op('Div', scores, graph.constant(settings['units'] ** 0.5))
    return graph.op('Mul', scores, graph.weight('attention/factor')) if settings['attention_scale'] else scores


def align(graph, settings, scores, h):
    """Weights (B, K, S): softmax over valid positions, and with local attention over those in the window."""
    mask = graph.op('Unsqueeze', 'mask', axes=[1])                                  # (B, 1, S)
    if settings['attention'] != 'global':
        centre = 'time'                                                             # local-m: p_t = t
        if settings['attention'] == 'local-p':                                      # eq. 9
            inner = graph.op('Tanh', graph.op('MatMul', h, graph.weight('attention/position_kernel')))
            inner = graph.op('Sigmoid', graph.op('MatMul', inner, graph.weight('attention/position_score_kernel')))
            centre = graph.op('Mul', inner, graph.op('ReduceSum', mask, axes=[2]))  # (B, K, 1)
        positions = graph.op('CumSum', mask, graph.constant(2, 'int32'))            # from 1, valid ones count
        distance = graph.op('Sub', graph.op('Sub', positions, graph.constant(1.)), centre)
        window = float(settings['window'])
        outside = graph.op('Greater', graph.op('Abs', distance), graph.constant(window))
        mask = graph.op('Mul', mask, graph.op('Cast', graph.op('Not', outside), to=TensorProto.FLOAT))
    hidden = graph.op('Equal', mask, graph.constant(0.))
    weights = graph.op('Softmax', graph.op('Where', hidden, graph.constant(LOWEST), scores), axis=2)
    weights = graph.op('Mul', weights, mask)
    if settings['attention'] == 'local-p':                                          # eq. 10, sigma = W / 2
        ratio = graph.op('Div', distance, graph.constant(window))
        power = graph.op('Mul', graph.constant(-2.), graph.op('Mul', ratio, ratio))
        weights = graph.op('Mul', weights, graph.op('Exp', power))
    return weights


def hops_of_memory(graph, settings, x):
    """The hops of a memory network from the decoder's state x (B, K, D): u_H; names the alignment 'weights'."""
    blocks = graph.op('Split', 'memory', axis=-1, outputs=settings['hops'] + 1)     # each (B, S, D)
    u, each_hop = graph.op('Add', x, 'keys'), []                                    # u_0 = q + h_t
    for keys, values in zip(blocks, blocks[1:]):
        scores = graph.op('MatMul', u, graph.op('Transpose', keys, perm=[0, 2, 1]))
        each_hop.append(align(graph, settings, scores, u))
        u = graph.op('Add', u, graph.op('MatMul', each_hop[-1], values))
    graph.rename(graph.op('Mean', *each_hop), 'weights')
    return u


def log_sum_exp(graph, x, size):
    """The logarithm of the sum of exponentials over the last axis (B, K, V) -> (B, K, 1), by blocks.

    onnxruntime adds one float32 after the other: next to a probability near 1, the small ones of a large vocabulary
    would be lost, 1e-4 in all.
    """
    padding = graph.constant([0, 0, 0, 0, 0, -size % BLOCK], 'int64')
    x = graph.op('Pad', x, padding, graph.constant(LOWEST))
    x = graph.op('Reshape', x, graph.constant([0, 0, -1, BLOCK], 'int64'))
    x = graph.op('ReduceLogSumExp', x, axes=[3], keepdims=0)
    return graph.op('ReduceLogSumExp', x, axes=[2])


def step(settings, weights):
    """`step.onnx`, from a run's settings (dict) and weights by neutral name."""
    graph, units = Graph(weights), settings['units']
    table = 'source_embedding/embeddings' if settings['share_vocabulary'] else 'target_embedding/embeddings'
    size = len(weights[table])
    known = graph.op('Less', 'tokens', graph.constant(size, 'int64'))
    tokens = graph.op('Where', known, 'tokens', graph.constant(UNK, 'int64'))       # a name is fed as <unk>
    x = embedded = graph.op('Gather', graph.weight(table), tokens)
    if settings['input_feeding']:
        x = graph.op('Concat', x, 'attentional', axis=-1)                           # section 3.3
    width, new = 2 if settings['cell'] == 'lstm' else 1, []
    for n in range(settings['decoder_layers']):
        below, states = x, ['state_%d' % i for i in range(n * width, (n + 1) * width)]
        new += cell(graph, settings, x, states, 'decoder_%d' % (n + 1))
        x = new[-width]
        if settings['residual'] and n:
            x = graph.op('Add', x, below)
    real, outputs, attentional = TensorProto.FLOAT, {}, x
    open_shape = ['B', 'K', units]
    if settings['encoder'] == 'memory':
        attentional, outputs['weights'] = hops_of_memory(graph, settings, x), (real, ['B', 'K', 'S'])
    elif settings['score'] != 'none':
        each_hop = []
        for _ in range(settings['hops']):                                           # the query is the last result
            each_hop.append(align(graph, settings, scores(graph, settings, attentional), attentional))
            context = graph.op('MatMul', each_hop[-1], 'memory')                    # (B, K, Dm)
            joined = graph.op('Concat', context, attentional, axis=-1)
            attentional = tanh_dense(graph, joined, 'attentional_state')            # eq. 5
        attention = graph.op('Mean', *each_hop)
        graph.rename(attention, 'weights')
        outputs['weights'] = (real, ['B', 'K', 'S'])
    logits = attentional
    if 'output_projection/kernel' in weights:
        logits = graph.op('MatMul', logits, graph.weight('output_projection/kernel'))
    logits = graph.op('MatMul', logits, graph.constant(weights[table].T) if settings['tie_embeddings']
                      else graph.weight('output/kernel'))                           # eq. 6
    graph.rename(logits, 'logits')
    graph.rename(log_sum_exp(graph, logits, size), 'normaliser')
    values, ids = graph.op('TopK', logits, 'count', axis=2, outputs=2)
    graph.rename(values, 'top_values')
    graph.rename(ids, 'top_ids')
    outputs.update(logits=(real, ['B', 'K', size if settings['tie_embeddings'] else 'V']),
                   normaliser=(real, ['B', 'K', 1]), top_values=(real, ['B', 'K', 'N']),
                   top_ids=(TensorProto.INT64, ['B', 'K', 'N']))
    if settings['copy']:                                                            # See et al. (2017), eq. 8
        context = graph.op('MatMul', attention, 'memory')
        joined = graph.op('Concat', context, x, embedded, axis=-1)
        switch = graph.op('Add', graph.op('MatMul', joined, graph.weight('pointer_generator/kernel')),
                          graph.weight('pointer_generator/bias'))
        graph.rename(switch, 'switch')
        outputs['switch'] = (real, ['B', 'K', 1])
    inputs = {'tokens': (TensorProto.INT64, ['B', 'K']), 'time': (real, [1]), 'count': (TensorProto.INT64, [1]),
              'memory': (real, ['B', 'S', memory_width(settings)]), 'mask': (real, ['B', 'S']),
              'keys': (real, ['B', 1 if settings['encoder'] == 'memory' else 'S', 'n'])}
    if settings['input_feeding']:
        inputs['attentional'] = (real, open_shape)
        graph.rename(attentional, 'new_attentional')
        outputs['new_attentional'] = (real, open_shape)
    for i, state in enumerate(new):
        graph.rename(state, 'new_state_%d' % i)
        inputs['state_%d' % i] = outputs['new_state_%d' % i] = (real, open_shape)
    return graph.model(inputs, outputs)
