"""Builds the Keras 3 model of a captured bundle from the calls of its layers, not from a configuration of the graph.

The calls have the same form whatever wrote the old file, and tell for each tensor where it comes from.
"""
import functools
import inspect
import re

import keras
import keras3_operations
import numpy as np
from keras3_layers import Maker, Unsupported, assign, with_raised_epsilon
from parity.bundle import one_line

MODELS = ('Model', 'Sequential', 'Functional')
# As layers of Keras 3 they replace masked steps.
MERGES = {'Multiply': keras.ops.multiply, 'Maximum': keras.ops.maximum, 'Minimum': keras.ops.minimum}
RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional, keras.layers.ConvLSTM2D)


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


def turned(call, x, output):
    """Axes by which a convolution with channels first becomes one with channels last and back, or (None, None).

    Keras 3.15 on TensorFlow adds the bias along the last axis where that has as many places as there are filters.
    """
    config, axes = call['config'], len(x[0].shape)
    if not ('Conv' in call['class'] and call['class'] != 'ConvLSTM2D' and config.get('use_bias') and
            config.get('data_format') == 'channels_first' and (None in x[0].shape[2:] or
                                                               output.shape[1] == output.shape[-1])):
        return None, None
    return tuple(range(2, axes)) + (1,), (axes - 1,) + tuple(range(1, axes - 1))


def given_states(layer, x, count):
    """The arguments of a recurrent layer for the tensors after its sequence, the last `count` of which are constants.

    The mask is one too: beside other arguments, Keras 3.15 does not take it from the sequence.
    """
    states, constants = x[1:len(x) - count], x[len(x) - count:]
    if states and isinstance(getattr(layer, 'cell', None), keras.layers.StackedRNNCells):
        states = keras.tree.pack_sequence_as(layer.cell.state_size, states)
    options = {key: value for key, value in (('initial_state', states), ('constants', constants)) if value}
    mask = getattr(x[0], '_keras_mask', None)
    return options if mask is None else dict(options, mask=mask)


def within(place, name):
    """The path of a model inside of another one."""
    return place + '/' + name if place else name


def without_numbers(path):
    """The path of a layer from that of a call: `inner/gru` of `inner#2/gru`."""
    return '/'.join(part.partition('#')[0] for part in path.split('/'))


def input_shapes(kind, config):
    """The shapes of a nested model's inputs from its configuration, or None where it does not tell."""
    try:
        if kind == 'Sequential':
            first = (config['layers'] if isinstance(config, dict) else config)[0]
            own = first['config'].get('batch_input_shape') if isinstance(first['config'], dict) else None
            return [own] if own else input_shapes(first['class_name'], first['config'])
        layers = {layer['config']['name']: layer['config'] for layer in config['layers']}
        return [layers[entry[0]]['batch_input_shape'] for entry in config['input_layers']]
    except (KeyError, TypeError, IndexError):
        return None


def key_of(call):
    """What the calls of one layer have in common, or None for a layer without weights."""
    name = call['config'].get('name') if isinstance(call['config'], dict) else None
    return (tuple(call['weights']), call['class'], name) if call['weights'] else None


def dissolved(calls):
    """Keys of the nested models whose layers stand in the graph around them, and of layers where that is impossible.

    Keras 3.15 cannot load a file in which two models, or a model and the graph around it, share a layer.
    """
    found, keys = set(), {call['name']: key_of(call) for call in calls}
    outer = {call['name']: call['parent'] for call in calls}
    models = {key_of(call) for call in calls if call['class'] in MODELS}
    while True:
        parents = {}
        for call in calls:
            parent = call['parent']
            while keys.get(parent) in found:
                parent = outer[parent]
            if key_of(call):
                parents.setdefault(key_of(call), set()).add(keys.get(parent))
        shared = {key: group for key, group in parents.items() if len(group) > 1}
        more = {parent for group in shared.values() for parent in group if parent in models} - found
        if not more:
            return found, set(shared)
        found |= more


def node_of(tensor):
    """(operation, node) that made a symbolic tensor."""
    operation, index, _ = tensor._keras_history
    return operation, operation._inbound_nodes[index]


def nodes_in(functional, operation):
    """The nodes of an operation that belong to a functional model, in the order in which the file keeps them."""
    own = {id(node) for nodes in functional._nodes_by_depth.values() for node in nodes}
    return [node for node in operation._inbound_nodes if id(node) in own]


class Graph(object):
    """The Keras 3 model of a bundle.

    # Arguments
        arrays: `bundles.Arrays`. own: {name: class or function of the user}.
        keep_weights: Boolean, scale no weights of gates.

    # Attributes
        model: the functional model, with its weights. problems: [(call, reason)] of layers that were not converted.
        places: {path of a functional model: [[operation, index of its node, tensor, call, number of the output]]}.
        renamed: {old name: new name}. scaled: names of layers. classes: names in old_keras.py.
        variables: [(name of the array, variable, scale)].
    """

    def __init__(self, arrays, own=None, keep_weights=False):
        self.arrays, self.own = arrays, own or {}
        self.maker = Maker(self.own, keep_weights, keep_weights and bool(arrays.manifest.get('training')))
        self.calls = {call['name']: call for call in arrays.calls}
        self.children = {}
        for call in arrays.calls:
            self.children.setdefault(call['parent'], []).append(call)
        self.layers, self.problems, self.places, self.renamed = {}, [], {}, {}
        self.scaled, self.classes, self.variables, self.filled = [], set(), [], set()
        self.dissolved, self.split = dissolved(arrays.calls)
        self.model = self.whole()

    # Names

    def name_of(self, name, level):
        """A name that Keras 3 takes, once in each level."""
        made = name.replace('/', '_')
        while made in level:
            made += '_'
        level.add(made)
        if made != name:
            self.renamed[name] = made
        return made

    # Models

    def whole(self):
        manifest, tensors, level = self.arrays.manifest, {}, set()
        shapes = manifest.get('input_shapes') or input_shapes(
            manifest['model']['class_name'], manifest['model']['config'])
        inputs = []
        for number, name in enumerate(manifest['inputs']):
            array = self.arrays['input/' + name]
            shape = shapes[number] if shapes and len(shapes) == len(manifest['inputs']) else (None,) + array.shape[1:]
            made = keras.Input(batch_shape=tuple(shape), dtype=array.dtype.name, name=self.name_of(name, level))
            tensors['input/' + name] = made
            inputs.append(made)
        name = (manifest['model'].get('name') or 'model').replace('/', '_')
        return self.level('', '', inputs, tensors, manifest['output_arrays'], name, level)

    def nested(self, call, place, own_name, outer):
        """A nested model from the calls inside of its first call.

        # Arguments
            outer: symbolic inputs of this call.
        """
        if not call.get('inner_outputs') or None in call['inner_outputs']:
            raise Unsupported('the bundle has no calls of the layers of this nested model: capture it again')
        shapes, level, tensors, inputs = input_shapes(call['class'], call['config']), set(), {}, []
        for number, (name, tensor) in enumerate(zip(call['inputs'], outer)):
            shape = tuple(tensor.shape)
            if shapes and len(shapes) == len(outer) and len(shapes[number]) == len(shape):
                shape = tuple(shapes[number])
            made = keras.Input(batch_shape=shape, dtype=tensor.dtype, name=self.name_of(
                'input_%d' % (number + 1), level))
            tensors[name] = made
            inputs.append(made)
        return self.level(call['name'], place, inputs, tensors, call['inner_outputs'], own_name, level)

    def level(self, parent, path, inputs, tensors, outputs, name, level):
        """A functional model of the calls that run directly inside of a call, or at the top."""
        made, masks = [], {}
        for call in self.calls_of(parent):
            if key_of(call) in self.dissolved:      # its layers have run
                tensors.update((name, tensors[inner]) for name, inner in zip(call['outputs'], call['inner_outputs']))
                continue
            x = [tensors[name] if name in tensors else self.standing(name) for name in call['inputs']]
            try:
                y = self.call(call, x, path, level)
            except Unsupported as error:
                self.problems.append((call, str(error)))
                y = [self.standing(name) for name in call['outputs']]
            else:
                y = [keras.ops.copy(one) if name is None and getattr(one, '_keras_mask', None) is not None else one
                     for one, name in zip(y, call['output_masks'])]     # an operation hands on no mask
                made.append((call, y))
                self.set_masks(call, y, masks)
            tensors.update(zip(call['outputs'], y))
        y = [tensors[name] for name in outputs]
        if self.problems:
            return None
        model = keras.Model(inputs if len(inputs) > 1 else inputs[0], y if len(y) > 1 else y[0], name=name)
        self.places[path] = []
        for call, results in made:
            leaf = call['name'][len(parent) + 1 if parent else 0:]
            for number, tensor in enumerate(results):
                operation, node = node_of(tensor)
                nodes = nodes_in(model, operation)
                at = [id(one) for one in nodes].index(id(node)) if any(one is node for one in nodes) else None
                if at is not None:      # an output that nothing uses is no part of the model
                    self.places[path].append([operation.name, at, tensor._keras_history[2], leaf, number])
        return model

    def calls_of(self, parent):
        """The calls directly inside of a call, and those inside of a dissolved model in its place."""
        for call in self.children.get(parent, ()):
            if key_of(call) in self.dissolved:
                yield from self.calls_of(call['name'])
            yield call

    def set_masks(self, call, outputs, masks):
        """Gives symbolic outputs the masks that they had. A layer that takes one has it as an argument in the file.

        # Arguments
            masks: {name of the array: symbolic mask} of this level, which grows.
        """
        for tensor, name in zip(outputs, call['output_masks']):
            if name is None:
                continue
            if name not in masks:
                masks[name] = self.mask_of(tensor, name, call, masks)
            if masks[name] is None:
                del masks[name]
            else:
                tensor._keras_mask = masks[name]

    def mask_of(self, tensor, name, call, masks):
        """The symbolic mask of an output: the masks of the inputs joined by `and`, one of them, or the layer's own."""
        array = self.arrays[name]
        given = {one: masks[one] for one in call['input_masks'] if one in masks}
        recorded = [self.arrays[one] for one in given]
        if len({id(mask) for mask in given.values()}) > 1 and all(one.shape == array.shape for one in recorded) and (
                np.array_equal(np.logical_and.reduce(recorded), array)):    # Keras 3 joins them by `or`
            return functools.reduce(keras.ops.logical_and, given.values())
        for known in (given, masks):
            for one, mask in known.items():
                if np.array_equal(self.arrays[one], array):
                    return mask
        return getattr(tensor, '_keras_mask', None)

    def standing(self, name):
        """A new input in place of an output that is not there, so that the other layers are tried too."""
        array = self.arrays[name]
        return keras.Input((array.shape[1:]), dtype=array.dtype.name)

    # Calls

    def call(self, call, x, path, level):
        """Symbolic outputs of one call. Unsupported: with the reason."""
        if key_of(call) in self.split:
            raise Unsupported('it runs in TimeDistributed and elsewhere, which no file of Keras 3 can hold')
        if call['name'] in self.arrays.manifest.get('nested_calls_that_differ', ()):
            raise Unsupported('Keras 2.2.4 ran it with the masks of its first call: give --build a model that calls '
                              'its layers, not it')
        own = self.own.get(call['layer'], self.own.get(call['class']))
        if own is not None and not inspect.isclass(own):
            return self.from_function(own, call, x)
        if call['class'] in MERGES and any(call['input_masks']):
            return self.fitting(call, [functools.reduce(MERGES[call['class']], x)])
        if call['class'] == 'Lambda':
            return self.operations(call, x)
        full, config = without_numbers(call['name']), call['config']
        forth, back = turned(call, x, self.arrays[call['outputs'][0]])
        if forth:
            x, config = [keras.layers.Permute(forth)(x[0])], dict(config, data_format='channels_last')
        made = self.layer(call['class'], config, full, tuple(call['weights']), call, x, level, path)
        layer, options = made.layer, {}
        arguments = call.get('arguments') or {}
        if 'training' in arguments and getattr(layer, '_call_has_training_arg', False):
            options['training'] = arguments['training']
        if isinstance(layer, RECURRENT) and len(x) > 1 and own is None:
            y = self.tried(layer, x[0], **options, **given_states(layer, x, config.get('num_constants') or 0))
        else:
            y = self.tried(layer, x if len(x) > 1 else x[0], **options)
        y = self.fitting(call, [keras.layers.Permute(back)(y)] if back else keras.tree.flatten(y))
        self.fill(made, call)
        return y

    def from_function(self, own, call, x):
        """The outputs of a function of the user, which may also take `config` and `layers`."""
        self.maker.used.add(own.__name__)
        more = {'config': call['config'], 'layers': {made.layer.name: made.layer for made in self.layers.values()}}
        more = {key: more[key] for key in set(more) & set(inspect.signature(own).parameters)}
        try:
            return self.fitting(call, as_list(own(*x, **more)))
        except Exception as error:      # the user's code
            raise Unsupported('your function %s: %s: %s' % (own.__name__, type(error).__name__, one_line(error)))

    def operations(self, call, x):
        """The outputs of a `Lambda` layer, from the operations that it put into the old graph."""
        recorded = call.get('operations') or {'unknown': 'what an older capture did not record'}
        if 'unknown' in recorded:
            raise Unsupported('nothing says how to compute %s' % recorded['unknown'])
        try:
            return self.fitting(call, keras3_operations.follow(recorded, x))
        except (Unsupported, KeyError, TypeError, ValueError) as error:
            raise Unsupported('its operations cannot be followed: %s' % one_line(error))

    @staticmethod
    def tried(layer, *arguments, **options):
        try:
            return layer(*arguments, **options)
        except Exception as error:          # what Keras 3 raises where a stranger's model makes no sense to it
            raise Unsupported('Keras 3 cannot call it: %s' % reason(error))

    def fitting(self, call, outputs):
        """The outputs, if they have the recorded number of axes."""
        recorded = [self.arrays[name] for name in call['outputs']]
        if len(outputs) != len(recorded):
            raise Unsupported('it has %d outputs here, and had %d' % (len(outputs), len(recorded)))
        for one, array in zip(outputs, recorded):
            if not hasattr(one, '_keras_history') or len(one.shape) != array.ndim or any(
                    size not in (None, length) for size, length in zip(one.shape, array.shape)):
                raise Unsupported('an output has the shape %s here, and had %s'
                                  % (tuple(getattr(one, 'shape', ())), array.shape))
        return outputs

    # Layers

    def layer(self, kind, config, path, weights, call, x, level, place):
        """`Made` of a layer, one for all of its calls. Layers that share their weights are the same layer.

        # Arguments
            path: in the bundle. place: path here, in `places`, of the model that holds the layer.
        """
        key = (weights, kind, config.get('name') if isinstance(config, dict) else None) if weights else path
        if key not in self.layers:
            name = config.get('name') if isinstance(config, dict) else None
            made = self.make(kind, config, path, call, x, self.name_of(name or path.split('/')[-1], level), place)
            self.layers[key] = made
            self.classes |= made.classes
            if made.is_scaled:
                self.scaled.append(path)
        return self.layers[key]

    def make(self, kind, config, path, call, x, name, place):
        own = self.own.get(call['layer'], self.own.get(kind))
        if inspect.isclass(own):
            return self.maker.from_class(own, config, name)
        if kind in MODELS:
            return self.made_model(call, place, name, x)
        masked = any(call['input_masks'])
        if kind == 'TimeDistributed':
            inside = self.children.get(call['name'], ())
            if inside:
                inner = self.layer(inside[0]['class'], inside[0]['config'], path + '/' + inside[0]['layer'],
                                   tuple(inside[0]['weights']), inside[0], [flat(x[0])], set(), within(place, name))
                return self.maker.time_distributed(inner, name, masked)
            if config['layer']['class_name'] in MODELS:
                raise Unsupported('the bundle has no calls of the layers of this model: the batch has a fixed size')
        started = len(call['inputs']) > 1 or bool(isinstance(config, dict) and config.get('stateful'))
        return self.maker.make(kind, with_raised_epsilon(kind, config, len(x[0].shape)), name, masked, started)

    def made_model(self, call, place, name, x):
        before = len(self.problems)
        model = self.nested(call, within(place, name), name, x)
        if model is None or len(self.problems) > before:
            raise Unsupported('a layer inside of it was not converted')
        return ModelMade(model)

    def fill(self, made, call):
        """Gives the weights of a call to a layer that has been called, once."""
        if isinstance(made, ModelMade) or isinstance(made.inner, ModelMade) or id(made) in self.filled:
            return
        self.filled.add(id(made))
        values = self.arrays.weights(call)
        scales = made.scales(values)
        found = assign(made.layer, values, scales)
        trained = self.arrays.manifest.get('trainable')
        if trained is not None and call['weights'] and not set(call['weights']) & set(trained):
            made.layer.trainable = False
        self.variables += list(zip(call['weights'], found, scales))


class ModelMade(object):
    """A nested model in place of a `keras3_layers.Made`: its layers have their own weights."""

    is_scaled, classes, inner = False, frozenset(), None

    def __init__(self, model):
        self.layer = model

    def scales(self, weights):
        return [1.] * len(weights)


def reason(error):
    """The message of an error of Keras 3, which hides the one of the layer in others."""
    text = re.sub('\x1b\\[[0-9]*m', '', str(error))
    for head in ('Error encountered:', 'Exception encountered when calling'):
        text = text.split(head, 1)[-1]
    text = re.sub(r'^ \S+[.]call[(][)][.]', '', text.split('Arguments received by')[0])
    return one_line('%s: %s' % (type(error).__name__, text.strip() or 'no message'))


def flat(tensor):
    """A symbolic tensor with the shape of (B T, ...) for one of (B, T, ...)."""
    return keras.KerasTensor((None,) + tuple(tensor.shape[2:]), dtype=tensor.dtype)
