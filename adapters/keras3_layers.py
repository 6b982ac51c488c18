"""One layer of Keras 2.2.4 as a Keras 3 layer that can be saved: its configuration, its weights."""
import inspect

import keras
import numpy as np
import old_keras
from parity.bundle import one_line
from parity.numpy_layers import epsilon_used

SCALE = 1.2                 # (1/6) 1.2 x = 0.2 x: slope 0.2 of Keras 2's hard_sigmoid with Keras 3's slope 1/6
GATES = {'LSTM': (4, (0, 1, 3)), 'ConvLSTM2D': (4, (0, 1, 3)), 'GRU': (3, (0, 1))}
RECURRENT = tuple(GATES) + ('SimpleRNN',)
ONE_PRODUCT = ('Dense', 'Conv1D', 'Conv2D', 'Conv3D', 'Conv2DTranspose', 'Conv3DTranspose', 'DepthwiseConv2D',
               'SeparableConv1D', 'SeparableConv2D', 'SimpleRNN', 'LocallyConnected1D', 'LocallyConnected2D')
CELLS = ('LSTMCell', 'GRUCell', 'SimpleRNNCell')
LOOP_KEYS = ('return_sequences', 'return_state', 'go_backwards', 'stateful', 'unroll')
LOST_KEYS = ('batch_input_shape', 'batch_size', 'implementation', 'input_length', 'input_dtype', 'num_constants',
             'input_dim', 'input_shape', 'dtype', 'name')
OBJECTS = {'_regularizer': keras.regularizers, '_constraint': keras.constraints}


class Unsupported(Exception):
    """A layer that cannot be converted, with the reason in one line."""


class Made(object):
    """A Keras 3 layer and how its weights follow from the old ones.

    # Attributes
        layer: the Keras 3 layer, not built.
        scales: function of the old weights that returns, for each, the factor of its numbers: an array, or 1.
        classes: names in old_keras.py that it needs. inner: `Made` of the layer inside of a wrapper, or None.
        is_scaled: Boolean.
    """

    def __init__(self, layer, scales=None, classes=(), inner=None):
        self.layer, self.inner = layer, inner
        self.is_scaled = scales is not None or bool(inner and inner.is_scaled)
        self.scales = scales or (inner.scales if inner else lambda weights: [1.] * len(weights))
        self.classes = set(classes) | set(inner.classes if inner else ())


def gate_scales(kind, candidate):
    """The factors by which kernels and biases become those of gates with slope 1/6.

    # Arguments
        candidate: Boolean, whether the new state of a GRU, its last third, is a hard_sigmoid too.
    """
    count, gates = GATES[kind]
    gates += (2,) if candidate else ()

    def scales(weights):
        made = []
        for weight in weights:
            scale, width = np.ones(weight.shape[-1], weight.dtype), weight.shape[-1] // count
            for gate in gates:
                scale[gate * width:(gate + 1) * width] = SCALE
            made.append(scale)
        return made
    return scales


def product_scales(kind):
    """The same where the whole layer is one product; of a separable convolution the first kernel stays."""
    kept = 1 if kind.startswith('Separable') else 0
    return lambda weights: [1.] * kept + [SCALE] * (len(weights) - kept)


def scaling_of(kind, config):
    """(keys whose hard_sigmoid becomes Keras 3's, function of the scales), or ((), None)."""
    own = [key for key in ('activation', 'recurrent_activation') if config.get(key) == 'hard_sigmoid']
    if any(config.get(key) for key in config if key.endswith(tuple(OBJECTS))):
        return (), None             # they act on the weights themselves
    if kind in ONE_PRODUCT and own:
        return own, product_scales(kind)
    if kind in GATES and 'recurrent_activation' in own and (kind == 'GRU' or 'activation' not in own):
        return own, gate_scales(kind, 'activation' in own)
    if kind in GATES and 'recurrent_activation' in own:
        return ['recurrent_activation'], gate_scales(kind, False)
    return (), None


def activation(name, own, classes):
    """The activation of Keras 3 for the name of an old one."""
    if name == 'hard_sigmoid':
        classes.add('old_hard_sigmoid')
        return old_keras.old_hard_sigmoid
    if not isinstance(name, str):
        raise Unsupported('its activation %s is no function of Keras' % (name,))
    if name in own and inspect.isfunction(own[name]):
        return own[name]
    try:
        keras.activations.get(name)
    except ValueError:
        raise Unsupported('the activation %s is unknown to Keras 3: define it as a function of this name' % name)
    return name


def added_object(key, value):
    """A regulariser or constraint of Keras 3 for the configuration of an old one."""
    module = next(module for end, module in OBJECTS.items() if key.endswith(end))
    if isinstance(value, str):
        return module.get(value)
    found = getattr(module, value.get('class_name', ''), None) if isinstance(value, dict) else None
    if found is None:
        raise Unsupported('%s %s is unknown to Keras 3' % (key, value))
    return found(**value['config'])


def layer_config(kind, config, own, classes, keep):
    """The arguments of the Keras 3 layer. keep: keys whose hard_sigmoid is Keras 3's own."""
    made = {}
    for key, value in config.items():
        if key in LOST_KEYS and (kind, key) != ('Embedding', 'input_dim') or key.endswith('_initializer'):
            continue
        if key in ('activation', 'recurrent_activation') and value is not None:
            value = value if key in keep else activation(value, own, classes)
        elif key.endswith(tuple(OBJECTS)) and value is not None:
            value = added_object(key, value)
        made[key] = value
    if kind == 'LeakyReLU':
        made['negative_slope'] = float(made.pop('alpha'))
    if kind == 'BatchNormalization' and isinstance(made.get('axis'), list):
        made['axis'] = made['axis'][0]
    if kind == 'Flatten' or kind == 'Embedding':
        made.pop('activity_regularizer', None)
    return made


def with_raised_epsilon(kind, config, rank):
    """The configuration of a layer as TensorFlow computes it on inputs of this rank."""
    if kind != 'BatchNormalization':
        return config
    return dict(config, epsilon=epsilon_used(config.get('epsilon', 1e-3), rank, config.get('axis', -1)))


def construct(cls, config, name):
    """A layer of a class from those parts of a configuration that it knows."""
    known = inspect.signature(cls.__init__).parameters
    if not any(one.kind == one.VAR_KEYWORD for one in known.values()):
        config = {key: value for key, value in config.items() if key in known}
    try:
        return cls(name=name, **config)
    except (TypeError, ValueError, KeyError) as error:
        raise Unsupported('Keras 3 refuses its configuration: %s' % one_line(error))


class Maker(object):
    """Makes layers.

    # Arguments
        own: {name: class or function of the user}. keep_weights: Boolean, scale no weights.
        whole_tables: Boolean, updates move all rows of an `Embedding`.

    # Attributes
        used: names in `own` that the file needs when it is loaded.
    """

    def __init__(self, own, keep_weights, whole_tables=False):
        self.own, self.keep_weights, self.whole_tables = own, keep_weights, whole_tables
        self.used = set()

    def make(self, kind, config, name, masked=False, started=False):
        """`Made` of a layer that is neither a model nor a wrapper of one.

        # Arguments
            masked: Boolean, whether a mask comes in.
            started: Boolean, whether a recurrent layer starts from states that are given, or kept from the last call.

        # Raises
            Unsupported
        """
        classes = set()
        if kind == 'Bidirectional':
            return self.bidirectional(config, name, masked)
        if kind == 'TimeDistributed':
            inner = self.inner(config)
            return self.time_distributed(inner, name, masked)
        if 'cell' in config and not inspect.isclass(self.own.get(kind)):
            return self.loop(config, name, masked, started, config['cell'], classes)
        if kind + 'Cell' in CELLS and masked and started:
            cell = {key: value for key, value in config.items() if key not in LOOP_KEYS + ('activity_regularizer',)}
            return self.loop(config, name, True, True, {'class_name': kind + 'Cell', 'config': cell}, classes)
        if kind in ('LocallyConnected1D', 'LocallyConnected2D'):
            return self.locally_connected(kind, config, name)
        keep, scales = ((), None) if self.keep_weights else scaling_of(kind, config)
        if kind == 'UpSampling2D' and config.get('interpolation') == 'bilinear':
            return Made(old_keras.OldUpSampling2D(config['size'], config['data_format'], name=name),
                        classes={'OldUpSampling2D'})
        if kind == 'ThresholdedReLU':
            return Made(keras.layers.ReLU(threshold=float(config['theta']), name=name))
        if kind == 'Lambda' or not inspect.isclass(getattr(keras.layers, kind, None)):
            raise Unsupported('Keras 3 has no layer that computes the same')
        cls = getattr(keras.layers, kind)
        if kind == 'Embedding' and self.whole_tables:
            cls = old_keras.OldEmbedding
            classes.add('OldEmbedding')
        made = construct(cls, layer_config(kind, config, self.own, classes, keep), name)
        return Made(made, scales, classes)

    def loop(self, config, name, masked, started, cell, classes):
        """`Made` of an `RNN` of a cell, whose configuration is `cell`."""
        is_stacked = cell['class_name'] == 'StackedRNNCells'
        is_old = bool(config.get('num_constants')) or masked and (started or is_stacked)
        keep, scales = ((), None) if self.keep_weights or is_stacked else scaling_of(
            cell['class_name'].replace('Cell', ''), cell['config'])
        made = self.cell(cell, keep, classes)
        arguments = {key: config[key] for key in LOOP_KEYS if key in config}
        if is_old:
            classes.add('OldRNN')
        return Made((old_keras.OldRNN if is_old else keras.layers.RNN)(made, name=name, **arguments), scales, classes)

    def cell(self, entry, keep, classes):
        """The cell of an `RNN` layer."""
        kind, config = entry['class_name'], entry['config']
        if inspect.isclass(self.own.get(kind)):
            return self.from_class(self.own[kind], config, config.get('name') or kind.lower()).layer
        if kind == 'StackedRNNCells':
            return keras.layers.StackedRNNCells([self.cell(one, keep, classes) for one in config['cells']])
        if kind not in CELLS:
            raise Unsupported('its cell %s is no cell of Keras: define this class' % kind)
        return construct(getattr(keras.layers, kind), layer_config(kind, config, self.own, classes, keep),
                         config.get('name'))

    def inner(self, config):
        """`Made` of the layer inside of a wrapper."""
        layer = config['layer']
        return self.make(layer['class_name'], layer['config'], layer['config']['name'].replace('/', '_'))

    def bidirectional(self, config, name, masked):
        part = dict(config['layer']['config'], stateful=False)      # Keras 2.2.4 keeps no states here
        inner = self.inner({'layer': dict(config['layer'], config=part)})
        repeats = masked and config['layer']['config'].get('return_sequences')
        cls = old_keras.OldBidirectional if repeats else keras.layers.Bidirectional
        layer = cls(inner.layer, merge_mode=config['merge_mode'], name=name)

        def scales(weights):
            half = len(weights) // 2
            return inner.scales(weights[:half]) + inner.scales(weights[half:])
        return Made(layer, scales if inner.is_scaled else None,
                    inner.classes | ({'OldBidirectional'} if repeats else set()))

    def time_distributed(self, inner, name, masked):
        """A wrapper of a `Made`; Keras 3's own hands a mask, step by step, to layers that take one."""
        takes_mask = isinstance(inner.layer, (keras.Model, keras.layers.RNN, keras.layers.Bidirectional,
                                              keras.layers.TimeDistributed, old_keras.OldTimeDistributed))
        if takes_mask:
            layer = old_keras.OldTimeDistributed(inner.layer, name=name)
            return Made(layer, classes={'OldTimeDistributed'}, inner=inner)
        return Made(keras.layers.TimeDistributed(inner.layer, name=name), inner=inner)

    def locally_connected(self, kind, config, name):
        if config.get('data_format') == 'channels_first' or config.get('padding', 'valid') != 'valid':
            raise Unsupported('only channels last and padding valid')
        classes = {'LocallyConnected'}
        keep, scales = ((), None) if self.keep_weights else scaling_of(kind, config)
        arguments = layer_config(kind, config, self.own, classes, keep)
        arguments = {key: arguments[key] for key in ('filters', 'kernel_size', 'strides', 'activation', 'use_bias',
                                                     'kernel_regularizer', 'trainable') if key in arguments}
        return Made(old_keras.LocallyConnected(name=name, **arguments), scales, classes)

    def from_class(self, cls, config, name):
        """A layer, or a cell, of a class of the user."""
        self.used.add(cls.__name__)
        known = inspect.signature(cls.__init__).parameters
        arguments = {key: value for key, value in config.items() if key in known and key != 'self'}
        if 'name' in known or any(one.kind == one.VAR_KEYWORD for one in known.values()):
            arguments['name'] = name
        try:
            layer = cls(**arguments)
        except Exception as error:      # the user's code
            raise Unsupported('your class %s: %s: %s' % (cls.__name__, type(error).__name__, one_line(error)))
        layer.name = name
        config = getattr(getattr(layer, '_auto_config', None), 'config', None)
        if config is not None:      # a class without get_config: Keras 3 saves its arguments, and no name
            config['name'] = name
        return Made(layer)


def assign(layer, values, scales):
    """Sets the weights of a built layer; returns its variables in the order of the old ones.

    # Raises
        Unsupported: number or shapes do not fit.
    """
    found = [one for one in layer.weights if not one.path.endswith(('/state', 'seed_generator_state'))]
    if len(found) > len(values) and all('state' in one.path for one in found[len(values):]):
        found = found[:len(values)]     # the states of a stateful layer
    if len(found) != len(values):
        raise Unsupported('it has %d weights here, and had %d' % (len(found), len(values)))
    for variable, value, scale in zip(found, values, scales):
        value = value * np.asarray(scale, value.dtype)
        if tuple(variable.shape) != value.shape:
            if variable.shape and np.prod(variable.shape) == value.size:
                value = value.reshape(variable.shape)
            else:
                raise Unsupported('a weight has the shape %s here, and had %s' % (tuple(variable.shape), value.shape))
        variable.assign(value)
    return found
