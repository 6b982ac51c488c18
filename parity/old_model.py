"""Loads an old Keras model: from a model file, or from the function that builds it and a weights file.

A model file can contain code (`Lambda` layers), so a file that is not trusted is refused. Dropout is replaced while the
model is built: other frameworks cannot repeat its random masks.
"""
from collections import namedtuple
import contextlib
import inspect
import re
from unittest import mock
import warnings

import tf_session  # noqa: F401  first: it fixes the import order
import h5py
import keras
from keras import backend as K
from keras.engine import saving
import numpy as np
import tensorflow as tf

from command_line import UserError, tell
from parity import keras1_config, lambda_code, own_run, tf_keras_config, trap_tests
from parity.bundle import MAXIMUM_JSON, one_line
from parity.user_code import build, custom_objects
from storage.files import load_json, open_regular
from storage.run_directory import is_run

MODELS = ('Model', 'Sequential')
CODE = ('Lambda',)                  # classes whose configuration holds a program
SCRIPT_NAMES = {'tf': tf, 'np': np, 'keras': keras}     # that this program uses, as its script imported them
# What Keras raises where the configuration or the file of a stranger makes no sense, of which it checks little. Caught
# only around calls of Keras.
REFUSALS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, NameError, OSError,
            RuntimeError, TypeError, ValueError, tf.errors.OpError)
CUDNN = {'CuDNNLSTM': ('LSTM', dict(recurrent_activation='sigmoid')),
         'CuDNNGRU': ('GRU', dict(recurrent_activation='sigmoid', reset_after=True))}
BUILD = 'put it into a file with a function that builds the model, and give --build FILE.py:FUNCTION --weights FILE'
THEANO = ('python -c "import h5py; f = h5py.File(\'%s\', \'r+\'); [g.attrs.create(\'backend\', b\'theano\') '
          'for g in (f, f.get(\'model_weights\', f))]"')

Loaded = namedtuple('Loaded', 'model compiled slots cudnn')
Loaded.__doc__ = """A model that `load` gives.

compiled: whether it has a loss. slots: (file, weights of its optimiser) or None. cudnn: the layers whose weights
were those of a layer of cuDNN and have been converted.
"""


# What a configuration names

def known_classes():
    modules = (keras.layers, keras.initializers, keras.regularizers, keras.constraints, keras.optimizers)
    names = {name for module in modules for name, value in vars(module).items() if inspect.isclass(value)}
    return names | set(MODELS) | {'InputLayer', 'L1L2'}


def classes_in(config, name=''):
    """(class name, name of its layer) of all objects in a configuration."""
    if isinstance(config, dict):
        if isinstance(config.get('class_name'), str) and 'config' in config:
            inner = config['config']
            name = inner.get('name', name) if isinstance(inner, dict) else name
            yield config['class_name'], name
        for value in config.values():
            for pair in classes_in(value, name):
                yield pair
    elif isinstance(config, list):
        for value in config:
            for pair in classes_in(value, name):
                yield pair


def require_known(path, config, custom, trust, built=''):
    """UserError: the configuration names unknown classes, or holds code that is not trusted or of another Python.

    `built`: the function that built the model when it was captured, or ''.
    """
    classes = list(classes_in(config))
    known = known_classes() | set(custom)
    unknown = sorted({'%s (layer %s)' % pair for pair in classes if pair[0] not in known})
    if unknown:
        raise UserError('%s: unknown classes: %s: %s' % (
            path, ', '.join(unknown), again(built) or 'name the file that defines them with --custom'))
    code = sorted({name for kind, name in classes if kind in CODE})
    if code and not trust:
        raise UserError('%s: Lambda layers contain code, which runs on loading: %s: give --trust if you trust this file'
                        % (path, ', '.join(code)))
    lambda_code.require_readable(path, config, again(built) or BUILD)


def again(built):
    """The remedy for a bundle whose model a function has built, or ''."""
    return built and 'it was captured with --build %s: give this again' % built


def without_cudnn(config):
    """The configuration with layers that run on any processor in place of cuDNN's, and their names."""
    names = []

    def replaced(value):
        if isinstance(value, list):
            return [replaced(item) for item in value]
        if not isinstance(value, dict):
            return value
        value = {key: replaced(item) for key, item in value.items()}
        if value.get('class_name') in tuple(CUDNN) and isinstance(value.get('config'), dict):
            kind, more = CUDNN[value['class_name']]
            names.append(str(value['config'].get('name')))
            value = dict(value, class_name=kind, config=dict(value['config'], **more))
        return value

    return replaced(config), names


def in_floatx(config, types=('float32',)):
    """The configuration with layers of the type of floats that Keras has now: it names that of its first layer.

    Keras 2.0 gives an `Embedding` the type of its ids, which is no type for a table.
    """
    if isinstance(config, list):
        return [in_floatx(item) for item in config]
    if not isinstance(config, dict):
        return config
    inner = ('float32', 'int32', 'int64') if config.get('class_name') == 'Embedding' else ('float32',)
    return {key: K.floatx() if key == 'dtype' and value in types else
            in_floatx(value, inner if key == 'config' else ('float32',)) for key, value in config.items()}


# Loading

@contextlib.contextmanager
def refused(what, kinds, remedy):
    """Turns the exceptions by which Keras or TensorFlow refuse a stranger's model or arrays into a `UserError`.

    # Arguments
        what: the mistake, in words. kinds: exception class or tuple of them. remedy: what the user can do.
    """
    try:
        yield
    except kinds as error:
        raise UserError('%s: %s: %s' % (what, one_line(getattr(error, 'message', error)), remedy)) from error


@contextlib.contextmanager
def dropout_off(off=True):
    """Builds models without random layers inside the `with` block: dropout and noise return their input."""
    if not off:
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(K, 'dropout', lambda x, *rest, **options: x))
        for name in ('GaussianNoise', 'GaussianDropout', 'AlphaDropout'):
            stack.enter_context(mock.patch.object(getattr(keras.layers, name), 'call',
                                                  lambda self, inputs, training=None: inputs))
        yield


def from_config(path, config, custom, trust, built=''):
    """The Keras model of a configuration, checked before anything of it is made. `built`: as `require_known` has it."""
    try:
        require_known(path, config, custom, trust, built)
        config, names = (config, []) if tf.test.is_gpu_available() else without_cudnn(config)
    except RecursionError:
        raise UserError('%s: the configuration of the model is nested too deeply: restore the file' % path)
    if names:
        tell('layers of cuDNN run as LSTM and GRU with sigmoid gates: %s' % ', '.join(names))
    known = dict(SCRIPT_NAMES, **custom)
    try:
        with keras.utils.CustomObjectScope(known), warnings.catch_warnings():
            warnings.simplefilter('ignore')     # that a file has the arguments of Keras 1
            return keras.models.model_from_config(in_floatx(config), custom_objects=known)
    except REFUSALS as error:
        remedy = again(built) or unknown_name(error) or 'name the function that builds the model with --build'
        if isinstance(error, NameError) and re.search("'(.*)'", str(error)):
            remedy = 'a Lambda layer uses this name: define it in the dictionary custom_objects of a file for --custom'
        raise UserError('%s: the model cannot be created: %s: %s: %s'
                        % (path, type(error).__name__, ' '.join(str(error).split()), remedy))


def unknown_name(error):
    """The remedy for an error of Keras about a name that it does not know, or ''."""
    found = re.match(r'Unknown ([a-z ]+): ?(\w+)$', ' '.join(str(error).split()))
    return found and 'define %s in a file and name it with --custom' % found.group(2)


def read_json(path):
    """The configuration in a JSON file of `model.to_json()`, or None if the file is of another kind."""
    try:
        with open_regular(path, links=True) as stream:
            if stream.read(64).lstrip()[:1] != b'{':
                return None
            stream.seek(0)
            config = load_json(stream.read(MAXIMUM_JSON).decode('utf-8'), finite=False)
        if not isinstance(config.get('class_name'), str) or 'config' not in config:
            raise ValueError('no class_name and config')
        return from_newer(path, str(config.get('keras_version', '')), config, None)[0]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError('%s: cannot be read as the JSON of a model: %s' % (path, one_line(error)))


def read_attributes(path):
    """(model's configuration, training's configuration or None, weights of the optimiser or None) of a model file."""
    def parsed(value):
        return load_json(value.decode('utf-8') if isinstance(value, bytes) else value, finite=False)

    try:
        with open_regular(path, links=True) as stream:
            start = stream.read(4)
        if start == b'PK\3\4':
            raise UserError('%s: is a zip archive, such as a .keras file of Keras 3, not an HDF5 file of Keras 2: name '
                            'the .h5 file' % path)
        with h5py.File(path, 'r') as file:
            if 'model_config' not in file.attrs:
                raise UserError('%s: has weights only: name the function that builds the model with --build, or '
                                'its JSON, and this file with --weights' % path)
            training = file.attrs.get('training_config')
            slots = None
            if 'optimizer_weights' in file:
                group = file['optimizer_weights']
                slots = [group[name][()] for name in group.attrs['weight_names']]
            version = file.attrs.get('keras_version', b'')
            version = version.decode('utf-8', 'replace') if isinstance(version, bytes) else str(version)
            config, training = parsed(file.attrs['model_config']), training and parsed(training)
        return from_newer(path, version, config, training) + (slots,)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError('%s: cannot be read as a model file, HDF5 of Keras 2: %s'
                        % (path, ' '.join(str(error).split())))


def from_newer(path, version, config, training):
    """The configurations of model and training of a file of another version as Keras 2.2.4 reads them."""
    if keras1_config.is_keras_1(version):
        if keras1_config.is_channels_first(config):
            tell('%s: has channels first; if Theano trained it, its kernels are flipped, which the file does not tell: '
                 'write that into it first: %s' % (path, THEANO % path))
        return keras1_config.translated(path, config), training
    if not tf_keras_config.is_newer(version):
        return config, training
    if 'tf' in version:
        tf_keras_config.note_differences(path, config)
    return tf_keras_config.translated(path, config), training and tf_keras_config.training_config(path, training)


@contextlib.contextmanager
def conversions():
    """Yields a list of the layers whose weights Keras converts from those of cuDNN, inside the `with` block."""
    found, original = [], saving._convert_rnn_weights

    def convert(layer, weights):
        kind, bias = type(layer).__name__, np.shape(weights[2]) if len(weights) == 3 else ()
        # cuDNN has two biases for each gate, one after the other
        if {'LSTM': 8, 'GRU': 6}.get(kind) and bias == ({'LSTM': 8, 'GRU': 6}[kind] * len(weights[1]),):
            found.append(layer)
        return original(layer, weights)

    with mock.patch.object(saving, '_convert_rnn_weights', convert):
        yield found


def file_layers(path):
    """The names of the layers in a weights file, and whether Keras 1 wrote it."""
    with h5py.File(path, 'r') as file:
        group = file['model_weights'] if 'layer_names' not in file.attrs else file
        is_keras_1 = keras1_config.is_keras_1(group.attrs.get('keras_version', b'').decode('utf-8'))
        return {name.decode('utf-8') for name in group.attrs['layer_names']}, is_keras_1


def load_weights(model, path, by_name=False):
    """Loads a weights file, by position or by name; reports the layers for which a file by name has no weights.

    # Returns
        The layers whose weights have been converted from those of cuDNN.
    """
    try:
        open_regular(path, links=True).close()
        names, is_keras_1 = file_layers(path)
        left = [layer.name for layer in model.layers if layer.weights and layer.name not in names]
        with conversions() as converted:    # layers that were a Merge have changed the order of Keras 1
            model.load_weights(path, by_name=by_name or is_keras_1 and not left)
        unlike = [(layer.name, trap_tests.unlike_cudnn(layer.get_config())) for layer in converted]
        wrong = ['%s (%s)' % (name, why) for name, why in unlike if why]
        if wrong:
            tell('%s: has weights of cuDNN layers, whose gates are sigmoid, for layers with other functions, so that '
                 'the model is probably not the one that was trained: %s: build them with '
                 'recurrent_activation=\'sigmoid\''
                 % (path, ', '.join(wrong)))
        if by_name and left:
            tell('%s: has no weights for: %s' % (path, ', '.join(left)))
        return converted
    except UserError:
        raise
    except REFUSALS as error:
        raise UserError('%s: these weights do not fit the model: %s' % (path, ' '.join(str(error).split())))


def compile_model(model, training=None, loss=None, optimizer=None, custom=None):
    """Compiles with the training configuration or the given names; without metrics, which can fail on sequences.

    # Arguments
        training: as `read_attributes` gives it.
        loss, optimizer: names, which replace the file's.

    # Returns
        Boolean, whether the model has a loss.
    """
    own = model if getattr(model, 'optimizer', None) is not None else None
    if not (loss or optimizer or training) and own is None:
        return False
    try:
        with keras.utils.CustomObjectScope(custom or {}):
            # A name alone means the defaults of its class: get() on the file's own dict keeps its settings.
            optimizer_object = keras.optimizers.get(optimizer) if optimizer else keras.optimizers.deserialize(
                training['optimizer_config']) if training else own.optimizer if own else keras.optimizers.get('sgd')
            options = {}
            if training and not loss:
                options = dict(loss=training['loss'], loss_weights=training.get('loss_weights'),
                               sample_weight_mode=training.get('sample_weight_mode'))
            elif own and not loss:
                options = dict(loss=own.loss, loss_weights=own.loss_weights,
                               sample_weight_mode=own.sample_weight_mode)
            else:
                options = dict(loss=loss)
            if not options['loss']:
                raise UserError('no loss: name one with --loss')
            model.compile(optimizer_object, **options)
    except UserError:
        raise
    except REFUSALS as error:
        raise UserError('the model cannot be compiled: %s: %s: %s' % (
            type(error).__name__, ' '.join(str(error).split()), unknown_name(error) or
            'name another loss or optimiser with --loss and --optimizer'))
    return True


def require_graph(model, what):
    """UserError: the model has no graph of layers."""
    if not getattr(model, '_is_graph_network', False):
        if isinstance(model, keras.models.Sequential):
            raise UserError('%s: has no input shape: give its first layer one' % what)
        raise UserError('%s: is a subclassed model (%s), which has no graph of layers to record: build it with '
                        'the functional API' % (what, type(model).__name__))


def make(options, custom):
    """The model that a command's options name, without its weights.

    # Returns
        The Keras model, its name, the file of its weights or None, and training and slots as `read_attributes` gives
        them.
    """
    if options.build:
        model, what = build(options.build), options.build
        require_graph(model, what)
        if any(type(layer).__name__ in CUDNN for layer in model.layers) and not tf.test.is_gpu_available():
            config = {'class_name': type(model).__name__, 'config': model.get_config()}
            model = from_config(what, config, custom, True)
        return model, what, options.weights, None, None
    if is_run(options.model):
        model, weights = own_run.build(options.model)
        return model, options.model, weights, None, None
    what, config = options.model, read_json(options.model)
    if config and not options.weights:
        raise UserError('%s: is the JSON of a model, without weights: name their file with --weights' % what)
    if options.weights and not config:
        raise UserError('--weights: a model file has its own weights; they go with --build or the JSON of a model')
    config, training, slots = (config, None, None) if config else read_attributes(what)
    model = from_config(what, config, custom, options.trust)
    require_graph(model, what)
    return model, what, options.weights or what, training, slots


def load(options):
    """The model that a command's options name, built, with weights, compiled where a loss is known.

    # Arguments
        options: with `model`, `build`, `weights`, `by_name`, `custom`, `trust`, `loss`, `optimizer`, `dropout`, and
            `slots`: False, if what the file's optimiser kept is left out.

    # Returns
        `Loaded`.
    """
    custom = custom_objects(options.custom)
    with dropout_off(not options.dropout):
        model, what, weights, training, slots = make(options, custom)
        converted = load_weights(model, weights, options.by_name) if weights else []
        compiled = compile_model(model, training, options.loss, options.optimizer, custom)
    with_slots = slots and not options.optimizer and getattr(options, 'slots', True)
    return Loaded(model, compiled, (what, slots) if with_slots else None, converted)


def make_again(options, compiled=False):
    """The same model once more, without weights and messages, in the type of floats that Keras has."""
    custom = custom_objects(options.custom)
    with mock.patch.dict(globals(), tell=lambda text: None), dropout_off(not options.dropout):
        model, _, _, training, _ = make(options, custom)
        if compiled:
            compile_model(model, training, options.loss, options.optimizer, custom)
        return model
