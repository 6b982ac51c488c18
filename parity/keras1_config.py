"""Configurations of Keras 1 as Keras 2.2.4 reads them: what its own translation of old arguments leaves out."""
import inspect

import tf_session  # noqa: F401  first: it fixes the import order
import keras

from command_line import UserError, tell
from parity.bundle import one_line

MERGES = {'sum': 'Add', 'mul': 'Multiply', 'ave': 'Average', 'max': 'Maximum', 'concat': 'Concatenate', 'dot': 'Dot',
          'cos': 'Dot'}
RENAMED = {'AtrousConvolution1D': 'Conv1D', 'AtrousConvolution2D': 'Conv2D', 'TimeDistributedDense': 'Dense'}
REGULARIZERS = ('L1L2Regularizer', 'WeightRegularizer', 'ActivityRegularizer')
ARGUMENTS = {'m': 'max_value', 'low': 'min_value', 'high': 'max_value'}     # of constraints
CHANNELS = {'th': 'channels_first', 'tf': 'channels_last'}
WITHOUT_ORDER = ('UpSampling2D', 'UpSampling3D', 'ZeroPadding2D', 'ZeroPadding3D', 'SpatialDropout2D',
                 'SpatialDropout3D')    # their files do not hold it


def is_keras_1(version):
    return not version or version.startswith(('0', '1'))


def translated(path, config):
    """A configuration of a model, `{class_name, config}`, as Keras 2.2.4 reads it. UserError: it cannot."""
    try:
        return layer(path, config, CHANNELS['th' if is_channels_first(config) else 'tf'])
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise UserError('%s: cannot be read as a model of Keras 1: %s: %s: restore the file'
                        % (path, type(error).__name__, one_line(error)))


def is_channels_first(config):
    return set(values_of(config, 'dim_ordering')) == {'th'}


def values_of(value, key):
    """All values of a key in a configuration that are text."""
    if isinstance(value, list):
        for item in value:
            yield from values_of(item, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == key and isinstance(item, str):
                yield item
            yield from values_of(item, key)


def layer(path, entry, channels):
    """The entry of a layer or a model, with what is inside of it."""
    kind, config = entry.get('class_name'), entry.get('config')
    if kind == 'Sequential' and isinstance(config, list):
        if config and config[0].get('class_name') == 'Merge':
            graph = Graph(path, channels)
            graph.outputs.append(graph.chain(config))
            return {'class_name': 'Model', 'config': {'name': 'merged', 'layers': graph.layers, 'input_layers': [
                [name, 0, 0] for name in graph.inputs], 'output_layers': graph.outputs}}
        return dict(entry, config=[layer(path, item, channels) for item in config])
    if not isinstance(config, dict):
        return entry
    if 'layers' in config and kind != 'Merge':
        layers = []
        for item in config['layers']:
            layers += with_shape(layer(path, item, channels))
        return dict(entry, config=dict(config, layers=layers))
    if kind == 'Merge':
        return dict(entry, **merge(path, config))
    config = {key: value(path, key, item, channels) for key, item in config.items()}
    if kind != 'InputLayer' or config.get('input_dtype') == 'float32':
        config.pop('input_dtype', None)     # Keras 2 takes that of an Embedding for the type of its table
    if kind == 'BatchNormalization' and config.get('mode'):
        raise UserError('%s: layer %s: BatchNormalization with mode=%s, which Keras 2 does not have: build the model '
                        'without it and give --build' % (path, config.get('name'), config['mode']))
    if 'atrous_rate' in config:
        config['dilation_rate'] = config.pop('atrous_rate')
    if kind in WITHOUT_ORDER:
        config.setdefault('dim_ordering', {'channels_first': 'th', 'channels_last': 'tf'}[channels])
    if kind == 'TimeDistributedDense':
        config = {key: item for key, item in config.items() if key not in ('input_dim', 'input_length')}
    return dict(entry, class_name=RENAMED.get(kind, kind), config=config)


def value(path, key, item, channels):
    """The value of an option: another layer, a regularizer, a constraint, an initialiser."""
    if isinstance(item, dict) and 'class_name' in item:
        return layer(path, item, channels)
    if isinstance(item, dict) and key.endswith(('_regularizer', '_constraint')):
        kind = item.get('name')
        if kind in REGULARIZERS:
            return {'class_name': 'L1L2', 'config': {'l1': item.get('l1', 0.), 'l2': item.get('l2', 0.)}}
        if inspect.isclass(getattr(keras.constraints, str(kind), None)):
            return {'class_name': kind, 'config': {ARGUMENTS.get(name, name): number for name, number in item.items()
                                                   if name != 'name'}}
        tell('%s: %s %s is unknown to Keras 2 and left out; it acts in training only' % (path, key, kind))
        return None
    if key in ('init', 'inner_init') or key.endswith('_init') and isinstance(item, str):
        known = isinstance(item, str) and (item == 'one' or getattr(keras.initializers, item, None))
        return item if known else 'zero'    # the weights come from the file
    return item


def merge(path, config):
    """`{class_name, config}` in place of a `Merge`."""
    name, mode = config.get('name'), config.get('mode')
    if config.get('mode_type', 'raw') != 'raw':
        more = {key: config[key] for key in ('output_shape', 'output_shape_type', 'arguments') if key in config}
        return {'class_name': 'Lambda', 'config': dict(more, name=name, function=mode,
                                                       function_type=config['mode_type'])}
    if mode not in MERGES:
        raise UserError('%s: layer %s: Merge with the mode %s, which Keras 2 does not have: build the model and give '
                        '--build' % (path, name, mode))
    made = {'name': name}
    if mode == 'concat':
        made['axis'] = config.get('concat_axis', -1)
    elif mode in ('dot', 'cos'):
        made.update(axes=config.get('dot_axes', -1), normalize=mode == 'cos')
    return {'class_name': MERGES[mode], 'config': made, 'mode': mode}


def with_shape(entry):
    """The entries of a functional model for one: the mode 'cos' gives (B, 1, 1), and `Dot` (B, 1)."""
    mode = entry.pop('mode', None)
    if mode != 'cos':
        return [entry]
    name, nodes = entry['name'], entry['inbound_nodes']
    dot = dict(entry, name=name + '_dot', config=dict(entry['config'], name=name + '_dot'))
    return [dot, {'name': name, 'class_name': 'Reshape', 'config': {
        'name': name, 'target_shape': [1, 1]}, 'inbound_nodes': [[[name + '_dot', at, 0]] for at in range(len(nodes))]}]


class Graph(object):
    """The layers of a `Sequential` that begins with a `Merge` of other models, as a functional model.

    Its file has the weights of all these layers one after the other, so that none of the models stays a layer.

    # Attributes
        layers: entries of the functional model. inputs: names of its inputs. outputs: [[name, 0, 0]].
    """

    def __init__(self, path, channels):
        self.path, self.channels = path, channels
        self.layers, self.inputs, self.outputs = [], [], []

    def add(self, entry, sources):
        """Adds a layer that reads from `sources`, lists [name, node, tensor]; returns what it gives."""
        name = entry['config']['name']
        known = next((one for one in self.layers if one['name'] == name), None)
        if known:       # two branches share it
            known['inbound_nodes'].append(sources)
            return [name, len(known['inbound_nodes']) - 1, 0]
        self.layers += with_shape(dict(layer(self.path, entry, self.channels), name=name, inbound_nodes=[sources]))
        return [name, 0, 0]

    def chain(self, entries):
        """Adds the layers of a `Sequential`; returns what the last one gives."""
        first = entries[0]
        if first['class_name'] == 'Merge':
            output = self.add(first, [self.branch(one) for one in first['config']['layers']])
        else:
            shape = first['config'].get('batch_input_shape') if isinstance(first['config'], dict) else None
            if not shape:
                raise UserError('%s: a branch of Merge begins with a model: build the model and give --build'
                                % self.path)
            name = first['config']['name'] + '_input'
            self.layers.append({'name': name, 'class_name': 'InputLayer', 'inbound_nodes': [], 'config': {
                'name': name, 'batch_input_shape': shape}})
            self.inputs.append(name)
            output = self.add(first, [[name, 0, 0]])
        for entry in entries[1:]:
            output = self.add(entry, [output])
        return output

    def branch(self, entry):
        """Adds a branch of a `Merge`; returns what it gives."""
        if entry['class_name'] == 'Sequential':
            return self.chain(entry['config'])
        if entry['class_name'] == 'Model':
            inner = layer(self.path, entry, self.channels)['config']
            self.layers += inner['layers']
            self.inputs += [one[0] for one in inner['input_layers']]
            return list(inner['output_layers'][0])
        return self.chain([entry])
