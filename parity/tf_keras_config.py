"""Model files of tf.keras (TensorFlow 1.12 to 2.x) and of Keras 2.3, as configurations that Keras 2.2.4 reads."""
import inspect
import re

import tf_session  # noqa: F401  first: it fixes the import order
import keras
import numpy as np

from command_line import UserError, tell

CLASSES = {'Functional': 'Model', 'BatchNormalizationV1': 'BatchNormalization',
           'BatchNormalizationV2': 'BatchNormalization', 'UnifiedLSTM': 'LSTM', 'UnifiedGRU': 'GRU',
           'LSTMV1': 'LSTM', 'LSTMV2': 'LSTM', 'GRUV1': 'GRU', 'GRUV2': 'GRU'}
INITIALIZERS = {'GlorotUniform': 'glorot_uniform', 'GlorotNormal': 'glorot_normal', 'HeNormal': 'he_normal',
                'HeUniform': 'he_uniform', 'LecunNormal': 'lecun_normal', 'LecunUniform': 'lecun_uniform'}
REGULARIZERS = {'L1': 'L1L2', 'L2': 'L1L2'}
OF_ANY_LAYER = ('name', 'trainable', 'dtype', 'batch_input_shape', 'input_shape', 'batch_size', 'input_dtype',
                'weights')
NOT_OF_INPUTS = ('ragged', 'type_spec', 'trainable', 'optional')
NEUTRAL = (None, False, 1, 0, 'float32', [], {}, '')   # of an option that Keras 2.2.4 lacks: as if it were not there
WITHOUT_MEANING = ('build_config', 'module', 'registered_name', 'shared_object_id', 'seed', 'autocast', 'name')
OPTIMIZER_KEYS = {'learning_rate': 'lr'}


def parameters(cls):
    """The names of the arguments of a layer's class, under the interface of Keras 1 that wraps it."""
    names = set(OF_ANY_LAYER)
    for base in cls.__mro__:
        function = base.__dict__.get('__init__')
        if function is not None and base is not object:
            names |= set(inspect.signature(getattr(function, '_original_function', function)).parameters)
    return names


def short_type(value):
    """The name of a type, which newer files give as a policy."""
    name = value.get('config', {}).get('name', 'float32') if isinstance(value, dict) else value
    return name.replace('mixed_', '') if isinstance(name, str) else name


def layer_config(path, kind, config):
    """The configuration of a layer with the options that Keras 2.2.4 has."""
    known, made = parameters(getattr(keras.layers, kind)), {}
    for key, value in config.items():
        if key == 'dtype':
            made[key] = short_type(value)
        elif key.endswith('_initializer') and isinstance(value, dict):
            made[key] = initializer(value)
        elif key == 'axis' and kind == 'BatchNormalization' and isinstance(value, list) and len(value) == 1:
            made[key] = value[0]
        elif key in known:
            made[key] = value
        elif value not in NEUTRAL and key not in WITHOUT_MEANING:
            raise UserError('%s: layer %s (%s): Keras 2.2.4 has no option %s=%s: this model is newer than the stack '
                            'that runs it here' % (path, config.get('name'), kind, key, value))
    return made


def initializer(value):
    """An initialiser that Keras 2.2.4 has; the weights come from the file."""
    kind, config = value.get('class_name'), dict(value.get('config') or {})
    if kind in INITIALIZERS:
        return INITIALIZERS[kind]
    config.pop('dtype', None)
    is_known = inspect.isclass(getattr(keras.initializers, str(kind), None))
    return {'class_name': kind, 'config': config} if is_known else 'zeros'


def translated(path, value):
    """A configuration, with all that is inside of it, as Keras 2.2.4 reads it. UserError: it lacks an option."""
    if isinstance(value, list):
        return [translated(path, item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: translated(path, item) for key, item in value.items()}
    kind, config = value.get('class_name'), value.get('config')
    if not isinstance(kind, str) or not isinstance(config, dict):
        return value
    kind = re.sub('^[a-z_.]+>', '', CLASSES.get(kind, kind))
    if kind in REGULARIZERS and set(config) <= {'l1', 'l2'}:
        kind = REGULARIZERS[kind]
    if kind in ('Bidirectional', 'TimeDistributed'):
        config = {key: item for key, item in config.items() if key in ('name', 'trainable', 'layer', 'merge_mode')}
    elif kind in ('Model', 'Sequential', 'InputLayer'):
        config = dict(config, dtype=short_type(config['dtype'])) if 'dtype' in config else config
        config = {key: item for key, item in config.items() if key not in NOT_OF_INPUTS}
        if kind in ('Model', 'Sequential'):
            config.pop('dtype', None)
            for layer in config.get('layers', ()):
                if isinstance(layer, dict) and isinstance(layer.get('inbound_nodes'), list):
                    layer['inbound_nodes'] = [[without_none(one) for one in node] for node in layer['inbound_nodes']
                                              if isinstance(node, list)]
    elif inspect.isclass(getattr(keras.layers, kind, None)) and 'name' in config:
        config = layer_config(path, kind, config)
    return dict(value, class_name=kind, config=config)


def without_none(connection):
    """A connection [layer, node, tensor, arguments] without arguments that are None."""
    if not isinstance(connection, list) or len(connection) < 4 or not isinstance(connection[3], dict):
        return connection
    return connection[:3] + [{key: item for key, item in connection[3].items() if item is not None}]


def is_newer(version):
    """Whether a file's version of Keras is that of tf.keras, or after 2.2."""
    found = re.match(r'(\d+)\.(\d+)', version or '')
    return bool(version) and ('tf' in version or bool(found) and tuple(map(int, found.groups())) > (2, 2))


def snake(name):
    return re.sub('(?<=[a-z])(?=[A-Z])', '_', name).lower()


def training_config(path, training):
    """The configuration of the training as Keras 2.2.4 reads it, or None, with a message, where it cannot."""
    try:
        return _training_config(dict(training))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        tell('%s: the training is not carried over: %s' % (path, error))
        return None


def _training_config(training):
    entry = training['optimizer_config']
    kind, config = re.sub('^.*>', '', entry['class_name']), dict(entry['config'])
    cls = getattr(keras.optimizers, kind, None) or getattr(keras.optimizers, kind.capitalize(), None)
    if not inspect.isclass(cls):
        raise ValueError('Keras 2.2.4 has no optimiser %s' % kind)
    made, known = {}, set(inspect.signature(getattr(cls.__init__, '_original_function', cls.__init__)).parameters)
    for key, value in config.items():
        key = OPTIMIZER_KEYS.get(key, key)
        if isinstance(value, dict):
            raise ValueError('%s of the optimiser is a schedule' % key)
        if key in known and key != 'self' or key in ('clipnorm', 'clipvalue') and value is not None:
            made[key] = value
    training['optimizer_config'] = {'class_name': cls.__name__, 'config': made}
    training['loss'] = loss(training['loss'])
    return training


def loss(value):
    """Names of losses for the objects that newer files hold."""
    if isinstance(value, list):
        return [loss(one) for one in value]
    if not isinstance(value, dict):
        return value
    if 'class_name' not in value:
        return {key: loss(one) for key, one in value.items()}
    config = value.get('config')
    if isinstance(config, str):
        return config
    if config.get('from_logits') or config.get('label_smoothing'):
        raise ValueError('Keras 2.2.4 has no loss %s from logits or with smoothed labels' % value['class_name'])
    return snake(value['class_name'])


def slots_as_before(optimizer, values):
    """The weights of an optimiser in the order of Keras 2.2.4, or None where they are not those of this optimiser."""
    shapes = [tuple(keras.backend.int_shape(weight)) for weight in optimizer.weights]
    for guess in (values, values[1:], values + [np.zeros(shape, 'f') for shape in shapes[len(values):]]):
        if [np.shape(value) for value in guess] == shapes:
            return guess
    return None


def note_differences(path, config):
    """Tells what tf.keras computes in another way than Keras 2.2.4, which runs the model here."""
    def masks(value):
        if isinstance(value, dict):
            own = value.get('mask_zero') is True or value.get('class_name') == 'Masking'
            return own or any(map(masks, value.values()))
        return isinstance(value, list) and any(map(masks, value))

    def both(value):
        if isinstance(value, dict):
            inner = value.get('config')
            own = value.get('class_name') == 'Bidirectional' and isinstance(inner, dict) and (
                inner.get('layer', {}).get('config', {}).get('return_sequences'))
            return own or any(map(both, value.values()))
        return isinstance(value, list) and any(map(both, value))

    if masks(config) and both(config):
        tell('%s: is of tf.keras, whose Bidirectional writes zeros on masked steps since TensorFlow 1.13; Keras 2.2.4, '
             'which runs it here, repeats the last output there' % path)
