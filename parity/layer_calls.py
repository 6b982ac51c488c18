"""The calls of a Keras model's layers, in the order of its graph, with the tensors that go in and come out.

Keras keeps the tensors of the calls that the model itself made. The inner layers of nested models, of
`Bidirectional` and of `TimeDistributed` are called again here, on the same tensors and weights, to record them.
"""
import collections
import contextlib
import inspect
from unittest import mock

import tf_session  # noqa: F401  first: it fixes the import order
import keras
import tensorflow as tf
from keras import backend as K
from keras.engine.network import Network
from keras.layers.wrappers import Wrapper     # Keras 2.3 has it nowhere else
from keras.utils.generic_utils import has_arg, to_list

BEFORE_2_2_4 = tuple(int(number) for number in keras.__version__.split('.')[:3]) < (2, 2, 4)
Call = collections.namedtuple('Call', 'name layer inputs outputs input_masks output_masks states parent arguments')
Call.__doc__ = """One call of a layer.

name: path of the layer, with '#2' for its second call. inputs, outputs: lists of tensors; input_masks, output_masks:
lists of tensors or None. states: of a recurrent layer the states after each step, (B, T, ...) each, in the order in
which it takes the steps. parent: name of the call inside of which this one runs, or ''. arguments: the call's other
arguments that are numbers or text.
"""


def nodes_in_order(network):
    """The nodes of a network, inputs first."""
    for depth in sorted(network._nodes_by_depth, reverse=True):
        for node in network._nodes_by_depth[depth]:
            yield node


def is_input(layer):
    return isinstance(layer, keras.layers.InputLayer)


def inner_layers(layer):
    """The layers inside a model, a wrapper or a recurrent layer."""
    found = list(layer.layers) if isinstance(layer, Network) else []
    for name in ('forward_layer', 'backward_layer', 'layer', 'cell'):
        inner = getattr(layer, name, None)
        if isinstance(inner, keras.layers.Layer):
            found.append(inner)
    return found


def all_layers(layer):
    """A layer and all layers inside it, each once."""
    layers, waiting = [], [layer]
    while waiting:
        layer = waiting.pop(0)
        if not any(layer is other for other in layers):
            layers.append(layer)
            waiting += inner_layers(layer)
    return layers


@contextlib.contextmanager
def updates_kept(model):
    """Undoes what calls inside the `with` block add to the model's updates and losses."""
    names = ('_updates', '_losses', '_per_input_updates', '_per_input_losses')
    before = [(layer, name, type(getattr(layer, name))(getattr(layer, name)))
              for layer in all_layers(model) for name in names if hasattr(layer, name)]
    try:
        yield
    finally:
        for layer, name, value in before:
            setattr(layer, name, value)


def scan_states(step, inputs, initial_states, go_backwards=False, mask=None, constants=None, **_):
    """The states after each step, as `K.rnn` computes them: list of (B, T, ...)."""
    axes = [1, 0] + list(range(2, K.ndim(inputs)))
    x = tf.transpose(inputs, axes)
    x = tf.reverse(x, [0]) if go_backwards else x
    if mask is not None:
        mask = tf.cast(mask, tf.bool)
        while K.ndim(mask) > 2:
            mask = tf.squeeze(mask, -1)
        mask = tf.transpose(mask)
        mask = tf.reverse(mask, [0]) if go_backwards else mask
    length = tf.shape(x)[0]
    arrays = [tf.TensorArray(state.dtype, length) for state in initial_states]

    def body(time, arrays, states):
        _, new = step(tf.gather(x, time), tuple(states) + tuple(constants or ()))
        if mask is not None:
            new = [tf.where(mask[time], one, state) for one, state in zip(new, states)]
        for one, state in zip(new, states):
            one.set_shape(state.get_shape())
        return time + 1, [array.write(time, one) for array, one in zip(arrays, new)], list(new)

    _, arrays, _ = tf.while_loop(lambda time, *_: time < length, body, [tf.constant(0), arrays, list(initial_states)])
    stacked = [array.stack() for array in arrays]
    return [tf.transpose(one, [1, 0] + list(range(2, K.ndim(state) + 1)))
            for one, state in zip(stacked, initial_states)]


def states_of(layer, inputs, masks, arguments):
    """States after each step of one call of a recurrent layer."""
    seen, original = [], K.rnn

    def rnn(step, inputs, initial_states, *rest, **options):
        # First Keras' own loop: it makes the cell's dropout masks outside of any loop.
        found = original(step, inputs, initial_states, *rest, **options)
        seen.extend(scan_states(step, inputs, initial_states, *rest, **options))
        return found

    with mock.patch.object(K, 'rnn', rnn):
        call_layer(layer, inputs, masks, arguments)
    return seen


def call_layer(layer, inputs, masks, arguments):
    """Calls a layer as a Keras network does; lists of outputs and of their masks."""
    arguments = {key: value for key, value in arguments.items() if key != 'mask'}
    if len(inputs) > 1 and not isinstance(layer, keras.layers.Bidirectional):
        # The list holds them; the arguments of a nested layer are those of another call.
        arguments = {key: value for key, value in arguments.items() if key not in ('initial_state', 'constants')}
        count = getattr(layer, '_num_constants', None) or 0
        if count:       # a recurrent layer reads the states from the list, but not the constants
            arguments['constants'] = list(inputs[-count:])
        if BEFORE_2_2_4 and isinstance(layer, keras.layers.RNN) and len(inputs) - count > 1:    # nor the states
            arguments['initial_state'] = list(inputs[1:len(inputs) - count])
    x, mask = (inputs[0], masks[0]) if len(inputs) == 1 else (list(inputs), list(masks))
    mask_argument = {'mask': mask} if has_arg(layer.call, 'mask') and any(one is not None for one in masks) else {}
    outputs = to_list(layer.call(x, **dict(arguments, **mask_argument)))
    out_masks = layer.compute_mask(x, mask)
    out_masks = to_list(out_masks) if out_masks is not None else []
    return outputs, (out_masks + [None] * len(outputs))[:len(outputs)]


class _Walk(object):
    """Collects calls; `pairs` are tensors that must agree: of the model's own call, and of the call made here."""

    def __init__(self):
        self.calls, self.pairs = [], []

    def network(self, network, prefix, inputs, masks):
        """Calls the layers of a nested network on new tensors; lists of its outputs and masks."""
        values = {id(x): pair for x, pair in zip(network.inputs, zip(inputs, masks))}
        count = collections.Counter()
        for node in nodes_in_order(network):
            if is_input(node.outbound_layer) or not all(id(x) in values for x in node.input_tensors):
                continue
            pairs = [values[id(x)] for x in node.input_tensors]
            outputs, out_masks = self.again(
                self.call_name(prefix, node.outbound_layer, count), node.outbound_layer, [one for one, _ in pairs],
                [mask for _, mask in pairs], node.arguments or {}, prefix)
            values.update((id(x), pair) for x, pair in zip(node.output_tensors, zip(outputs, out_masks)))
        return zip(*[values[id(x)] for x in network.outputs])

    @staticmethod
    def call_name(prefix, layer, count):
        count[layer.name] += 1
        number = '#%d' % count[layer.name] if count[layer.name] > 1 else ''
        return (prefix + '/' if prefix else '') + layer.name + number

    def again(self, name, layer, inputs, masks, arguments, parent):
        """Calls a layer once more and records it."""
        outputs, out_masks = call_layer(layer, inputs, masks, arguments)
        self.record(name, layer, inputs, masks, outputs, out_masks, arguments, parent)
        return outputs, out_masks

    def record(self, name, layer, inputs, masks, outputs, out_masks, arguments, parent):
        """Adds a call, what runs inside of it before it."""
        states = []
        if isinstance(layer, Network):
            found, _ = self.network(layer, name, inputs, masks)
            self.pairs += [(name, one, other) for one, other in zip(outputs, found)]
        elif isinstance(layer, keras.layers.Bidirectional):
            self.both_directions(name, layer, inputs, masks, arguments)
        elif isinstance(layer, keras.layers.TimeDistributed):
            self.each_step(name, layer, inputs, masks)
        elif isinstance(layer, keras.layers.RNN):
            states = states_of(layer, inputs, masks, arguments)
        known = {key: value for key, value in arguments.items() if isinstance(value, (bool, int, float, str))}
        self.calls.append(Call(name, layer, list(inputs), list(outputs), list(masks), list(out_masks), states, parent,
                               known))

    def both_directions(self, name, layer, inputs, masks, arguments):
        constants = layer._num_constants or 0
        middle = 1 + (len(inputs) - 1 - constants) // 2
        last = len(inputs) - constants
        for part, states in ((layer.forward_layer, inputs[1:middle]), (layer.backward_layer, inputs[middle:last])):
            self.again('%s/%s' % (name, part.name), part, inputs[:1] + states + inputs[last:],
                       masks[:1] + [None] * (len(states) + constants), {}, name)

    def each_step(self, name, layer, inputs, masks):
        inner, x, mask = layer.layer, inputs[0], masks[0]
        if K.int_shape(x)[0] or not isinstance(inner, (Network, keras.layers.RNN, Wrapper)):
            return      # with a fixed batch size Keras runs a loop of its own
        shape = layer._get_shape_tuple((-1,), x, 2)
        if mask is not None and K.ndim(mask) > 2:
            mask = K.reshape(mask, layer._get_shape_tuple((-1,), mask, 2))
        else:
            mask = None
        self.again('%s/%s' % (name, inner.name), inner, [K.reshape(x, shape)], [mask], {}, name)


def find_calls(model):
    """The `Call`s of a model, and (name, tensor, tensor) of what must agree for the nested ones to be true."""
    walk, count = _Walk(), collections.Counter()
    with updates_kept(model):
        for node in nodes_in_order(model):
            if is_input(node.outbound_layer):
                continue
            walk.record(walk.call_name('', node.outbound_layer, count), node.outbound_layer,
                        list(node.input_tensors), list(node.input_masks), list(node.output_tensors),
                        list(node.output_masks), node.arguments or {}, '')
    return walk.calls, walk.pairs


def weight_names(model):
    """[(array name, weight)] of all weights: path of the layer that owns it, and its own name."""
    named, seen, names = [], set(), collections.Counter()

    def visit(layer, path):
        for inner in inner_layers(layer):
            own_path = path + ('' if inner is getattr(layer, 'cell', None) else inner.name + '/')
            if isinstance(layer, keras.layers.Bidirectional) and inner is layer.layer:
                continue
            visit(inner, own_path)
        for weight in layer.weights:
            if id(weight) in seen:
                continue
            seen.add(id(weight))
            name = path + weight.op.name.split('/')[-1]
            names[name] += 1
            named.append((name + ('#%d' % names[name] if names[name] > 1 else ''), weight))

    visit(model, '')
    order = {id(weight): number for number, weight in enumerate(model.weights)}
    return sorted(named, key=lambda pair: order.get(id(pair[1]), len(order)))


def config_of(layer):
    """A layer's configuration as plain JSON values, or the reason why it has none."""
    try:
        return plain(layer.get_config())
    except Exception as error:      # a custom layer's own code
        return {'name': layer.name, 'get_config': '%s: %s' % (type(error).__name__, error)}


def plain(value):
    """Converts the values of a configuration to JSON types."""
    if isinstance(value, dict):
        return collections.OrderedDict((str(key), plain(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, 'tolist'):
        return plain(value.tolist())
    if isinstance(value, float) and value != value or value in (float('inf'), float('-inf')):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, '__name__', None) or (type(value).__name__ if inspect.isclass(type(value)) else str(value))
