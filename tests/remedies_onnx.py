"""The port of `old_models_here.remedies` to ONNX, as a reader of `docs/traps.md` would type it.

    python tests/remedies_onnx.py BUNDLE PORT.onnx            # saves the graph with the weights of the bundle
    python tests/remedies_onnx.py BUNDLE PORT.onnx double     # the port of `old_models_here.trained`, in float64
"""
import os
import re
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph(object):
    """Nodes and constants; a value has the name of the layer of the bundle that it is."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def node(self, kind, inputs, name, more=(), **attributes):
        """Adds a node; returns the name of its first output."""
        self.nodes.append(helper.make_node(kind, inputs, [name] + list(more), **attributes))
        return name

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def ints(self, *values):
        return self.constant('ints_%d' % len(self.constants), np.array(values, 'int64'))

    def save(self, path, inputs, outputs):
        """inputs, outputs: {name: shape}, or {name: (type, shape)}."""
        def described(values):
            return [helper.make_tensor_value_info(name, *(one if isinstance(one, tuple) else (TensorProto.FLOAT, one)))
                    for name, one in values.items()]

        graph = helper.make_graph(self.nodes, 'port', described(inputs), described(outputs), self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
        onnx.checker.check_model(made)
        onnx.save(made, path)


def in_order(weight, order):
    """The gates of a kernel or bias in another order."""
    parts = np.split(weight, len(order), axis=-1)
    return np.concatenate([parts[i] for i in order], axis=-1)


class Port(Graph):
    """Layers of Keras 2.2.4 as nodes."""

    def __init__(self, weights):
        super(Port, self).__init__()
        # 'both/forward/kernel' for 'both/forward_lstm_1/kernel'
        self.weights = {re.sub('/(forward|backward)_[^/]*/', r'/\1/', name): value for name, value in weights.items()}

    def recurrent(self, kind, inside, value, lengths='', states=(), hard=True, sequences=False, name=None, **options):
        """LSTM or GRU with the weights under the names `inside`, one for each direction; returns its last output.

        With `sequences` it returns the outputs of all steps (B, T, D), in the order of the input.
        """
        name, order = name or inside[0], (0, 3, 1, 2) if kind == 'LSTM' else (0, 1, 2)     # LSTM: i, o, f, c
        parts = [[in_order(self.weights['%s/%s' % (one, part)], order)
                  for part in ('kernel', 'recurrent_kernel', 'bias')] for one in inside]
        both = [one[2] if one[2].ndim == 2 else np.stack([one[2], 0 * one[2]]) for one in parts]    # Wb, and 0 for Rb
        given = [self.constant(name + '_W', np.stack([one[0].T for one in parts])),
                 self.constant(name + '_R', np.stack([one[1].T for one in parts])),
                 self.constant(name + '_B', np.stack([one.ravel() for one in both]))]
        if hard:
            gates = ["HardSigmoid", "Tanh", "Tanh"] if kind == 'LSTM' else ["HardSigmoid", "Tanh"]
            options.update(activations=gates * len(inside), activation_alpha=[0.2] * len(inside),
                           activation_beta=[0.5] * len(inside))
        size = len(self.weights[inside[0] + '/recurrent_kernel'])
        outputs = [name + '_Y', name + '_h'] + (['new_%s_c' % name] if kind == 'LSTM' else [])
        steps = self.node('Transpose', [value], name + '_x', perm=[1, 0, 2])
        self.node(kind, [steps] + given + [lengths] + list(states), outputs[0], outputs[1:], hidden_size=size,
                  **options)
        if sequences:       # (T, 1, B, D)
            flat = self.node('Squeeze', [outputs[0], self.ints(1)], name + '_steps')
            return self.node('Transpose', [flat], name + '_all', perm=[1, 0, 2])
        if len(inside) == 1:
            return self.node('Squeeze', [outputs[1], self.ints(0)], name)
        turned = self.node('Transpose', [outputs[1]], name + '_turned', perm=[1, 0, 2])
        return self.node('Reshape', [turned, self.ints(0, -1)], name)

    def filled(self, name, mask, output):
        """The outputs of a layer with `sequence_lens`: each masked step, at the end, repeats the last one."""
        last = self.node('Transpose', [name + '_h'], name + '_last', perm=[1, 0, 2])
        return self.node('Where', [mask, name + '_all', last], output)

    def on_pictures(self, kind, name, constants=(), **options):
        """A layer whose channels are first, on `images_first`; the output has its channels last."""
        value = self.node(kind, ['images_first'] + list(constants), name + '_first', **options)
        return self.node('Transpose', [value], name, perm=[0, 2, 3, 1])

    def kernel_and_bias(self, name):
        return [self.constant(name + '_W', self.weights[name + '/kernel'].transpose(3, 2, 0, 1)),
                self.constant(name + '_B', self.weights[name + '/bias'])]


def build(weights, path):
    g, zero, LSTM = Port(weights), np.zeros((), 'f'), dict(kind='LSTM', value='x')
    # masks, as arrays (B, T, 1) and as numbers of steps
    g.node('ReduceMax', [g.node('Abs', ['x'], 'x_size')], 'x_largest', axes=[2])
    g.node('Greater', ['x_largest', g.constant('zero', zero)], 'mask')
    g.node('Cast', ['mask'], 'mask_numbers', to=TensorProto.FLOAT)
    for name, mask in (('lengths', 'mask_numbers'), ('id_lengths', 'ids_mask')):
        if mask == 'ids_mask':
            g.node('Greater', ['ids', 'zero'], 'ids_valid')
            g.node('Unsqueeze', [g.node('Cast', ['ids_valid'], 'ids_flat', to=TensorProto.FLOAT), g.ints(2)], mask)
        g.node('Cast', [g.node('ReduceSum', [mask, g.ints(1, 2)], name + '_number', keepdims=0)], name,
               to=TensorProto.INT32)
    outputs = [
        g.recurrent(inside=['hard_sigmoid'], **LSTM),
        g.recurrent(inside=['gate_order/forward', 'gate_order/backward'], name='gate_order', direction='bidirectional',
                    **LSTM),
        g.recurrent('GRU', ['reset_after'], 'x', linear_before_reset=0),
        g.recurrent('GRU', ['two_biases'], 'x', linear_before_reset=1, hard=False),
        g.recurrent('GRU', ['one_bias'], 'x', linear_before_reset=0, hard=False),
        g.recurrent(inside=['forget_bias'], hard=False, **LSTM)]
    g.recurrent(inside=['masked_steps'], lengths='lengths', sequences=True, **LSTM)
    outputs.append(g.filled('masked_steps', 'mask', 'masked_steps'))
    g.recurrent(inside=['bidirectional_mask/forward'], lengths='lengths', sequences=True, name='one', **LSTM)
    g.recurrent(inside=['bidirectional_mask/backward'], lengths='lengths', sequences=True, name='other',
                direction="reverse", **LSTM)
    outputs.append(g.node('Concat', [g.filled('one', 'mask', 'one_filled'), 'other_all'], 'bidirectional_mask', axis=2))
    g.recurrent(inside=['go_backwards'], sequences=True, direction="reverse", **LSTM)      # in the order of the input
    outputs.append(g.node('Slice', ['go_backwards_all', g.ints(-1), g.ints(-100), g.ints(1), g.ints(-1)],
                          'go_backwards'))
    outputs.append(g.recurrent(inside=['stateful'], states=['stateful_h0', 'stateful_c0'], **LSTM))
    total = g.node('ReduceSum', [g.node('Mul', ['x', 'mask_numbers'], 'x_valid'), g.ints(1)], 'x_sum', keepdims=0)
    outputs.append(g.node('Div', [total, g.node('ReduceSum', ['mask_numbers', g.ints(1)], 'steps', keepdims=0)],
                          'masked_average'))
    g.node('Transpose', ['images'], 'images_first', perm=[0, 3, 1, 2])
    outputs += [
        g.on_pictures('Conv', 'same_padding', g.kernel_and_bias('same_padding'), strides=[2, 2], auto_pad="SAME_UPPER"),
        g.on_pictures('MaxPool', 'same_maximum', kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        g.on_pictures('Conv', 'channels', g.kernel_and_bias('channels')),
        g.node('Flatten', [g.node('Transpose', ['images_first'], 'images_last', perm=[0, 2, 3, 1])], 'flatten'),
        g.on_pictures('AveragePool', 'average_over_padding', kernel_shape=[2, 3], strides=[2, 3],
                      auto_pad="SAME_UPPER", count_include_pad=0),
        g.on_pictures('AveragePool', 'uneven_average', kernel_shape=[3, 3], strides=[3, 3], auto_pad="SAME_UPPER",
                      count_include_pad=0),
        g.on_pictures('BatchNormalization', 'batch_norm', [g.constant(one, weights['batch_norm/' + one]) for one in (
            'gamma', 'beta', 'moving_mean', 'moving_variance')], epsilon=1e-3, momentum=0.99),
        g.on_pictures('LeakyRelu', 'leaky_relu', alpha=0.3),
        g.node('Conv', ['first'] + g.kernel_and_bias('image_data_format'), 'image_data_format')]
    ids = g.node('Cast', ['ids'], 'whole_ids', to=TensorProto.INT64)
    g.node('Gather', [g.constant('table', weights['embedding_row_0/embeddings']), ids], 'embedding_row_0')
    outputs.append(g.recurrent('LSTM', ['masked_table'], 'embedding_row_0', lengths='id_lengths'))
    inputs = {'x': [3, 5, 2], 'ids': [3, 5], 'images': [3, 8, 7, 2], 'first': [3, 2, 7, 7]}
    # The states, as inputs and outputs: those of the layer start at 0.
    states = [dict.fromkeys(names, [1, 3, 3]) for names in (('stateful_h0', 'stateful_c0'),
                                                            ('stateful_h', 'new_stateful_c'))]
    ranks = {'masked_steps': 3, 'bidirectional_mask': 3, 'go_backwards': 3, 'same_padding': 4, 'same_maximum': 4,
             'channels': 4, 'average_over_padding': 4, 'uneven_average': 4, 'batch_norm': 4, 'leaky_relu': 4,
             'image_data_format': 4}
    g.save(path, dict(inputs, **states[0]), dict({name: [None] * ranks.get(name, 2) for name in outputs}, **states[1]))


def build_double(weights, path):
    """A model whose type is `double` throughout."""
    g = Graph()
    given = [g.constant('normed_' + part, weights['normed/' + part].astype('f8'))
             for part in ('gamma', 'beta', 'moving_mean', 'moving_variance')]
    g.node('BatchNormalization', ['x'] + given, 'normed', epsilon=1e-3)
    for layer, value, function in (('first', 'normed', 'Tanh'), ('last', 'first', 'Softmax')):
        given = [g.constant('%s_%s' % (layer, part), weights['%s/%s' % (layer, part)].astype('f8'))
                 for part in ('kernel', 'bias')]
        g.node(function, [g.node('Gemm', [value] + given, layer + '_sum')], layer)
    g.save(path, {'x': (TensorProto.DOUBLE, [None, 4])}, {'last': (TensorProto.DOUBLE, [None, 3])})


if __name__ == '__main__':
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'adapters'))
    import bundles
    arrays = bundles.Arrays(sys.argv[1])
    values = {name[len('parameter/'):]: arrays[name] for name in arrays.files['weights.npz']}
    (build_double if sys.argv[3:] == ['double'] else build)(values, sys.argv[2])
