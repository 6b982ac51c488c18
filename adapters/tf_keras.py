"""Builds a captured model with another Keras 2, with its weights; writes the output of each layer, and its updates.

    python adapters/tf_keras.py BUNDLE OUT                          # tf.keras of the TensorFlow that is installed
    python adapters/tf_keras.py BUNDLE OUT --module tf_keras        # legacy Keras for TensorFlow 2.16 and later
    python adapters/tf_keras.py BUNDLE OUT --module keras           # Keras 2 of another version
    python regress.py compare BUNDLE OUT --stage-map OUT/stage_map.json
    python adapters/tf_keras.py --defaults                          # the defaults of its layers and optimisers, as JSON

The model comes from the configuration in the bundle, as `model_from_json` would build it, so that `compare` shows what
this version changes. For the model's own layers, `--custom own.py` has classes with their names. Layers inside a layer
are not recorded. Updates are run if the optimiser of the bundle starts without slots and its dropout is off.
`stage_map.json` names what the adapter omits, which is each gradient and slot.
"""
from collections import Counter, OrderedDict
import importlib
import inspect
import json
import os
import sys

import bundles
import numpy as np

RANDOM = {'Dropout': 'rate', 'SpatialDropout1D': 'rate', 'SpatialDropout2D': 'rate', 'SpatialDropout3D': 'rate',
          'GaussianDropout': 'rate', 'AlphaDropout': 'rate', 'GaussianNoise': 'stddev'}
# Arguments that came with a version of Keras 2, with the value that stands for how it was before.
LATER = (('Conv1D', 'data_format', 'channels_last'), ('Flatten', 'data_format', 'channels_last'),
         ('GRU', 'reset_after', False), ('Adam', 'amsgrad', False))
DEFAULTS = {'layers': (('LSTM', [2]), ('GRU', [2]), ('SimpleRNN', [2]), ('Dense', [2]), ('Conv1D', [2, 3]),
                       ('Embedding', [3, 2]), ('BatchNormalization', []), ('LeakyReLU', []), ('Dropout', [0.5])),
            'optimizers': tuple((name, []) for name in ('Adam', 'SGD', 'RMSprop', 'Adagrad', 'Adadelta', 'Nadam'))}


def import_keras(name):
    """The module of this name, with one thread."""
    import tensorflow as tf
    version = tuple(int(part) for part in tf.__version__.split('.')[:2])
    if version >= (2, 0):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if name == 'tf_keras':      # this file has the same name as the package
        here = os.path.dirname(os.path.abspath(__file__))
        sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != here]
        if getattr(sys.modules.get(name), '__file__', '') == __file__:
            del sys.modules[name]
    module = tf.keras if name == 'tf.keras' else importlib.import_module(name)
    found = getattr(module, '__version__', tf.__version__)
    if found.startswith('3'):
        sys.exit('tf_keras.py: %s is Keras %s here: keras3.py runs a bundle in Keras 3' % (name, found))
    module.backend.clear_session()      # and the learning phase that a model before this one has fixed
    if version < (2, 0):
        config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        module.backend.set_session(tf.Session(config=config))
        if name == 'keras':
            module.backend.gradients = complete_gradients
    return module


def complete_gradients(loss, variables):
    """Gradients that are complete before any weight changes, as in a capture: Keras' own updates race with them."""
    import tensorflow as tf
    found = tf.gradients(loss, variables, colocate_gradients_with_ops=True, gate_gradients=True)
    with tf.control_dependencies([loss]):
        return [None if one is None else tf.identity(tf.convert_to_tensor(one)) for one in found]


def with_configs(value, change):
    """A configuration whose layers' own configurations `change(class, config)` has changed, inner ones too."""
    if isinstance(value, list):
        return [with_configs(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: with_configs(item, change) for key, item in value.items()}
    if isinstance(value.get('config'), dict):
        change(value.get('class_name'), value['config'])
    return value


def without_dropout(kind, config):
    """Random layers return their input, as in a capture."""
    for key in (RANDOM.get(kind), 'recurrent_dropout', 'dropout'):
        if key in config:
            config[key] = 0.


def without_later(module, kind, config):
    """Without the arguments that an older version does not know, if they stand for what it does."""
    for later, key, value in LATER:
        if kind == later and config.get(key) == value and key not in inspect.signature(
                getattr(module, kind).__init__).parameters:
            del config[key]


def rebuild(keras, arrays, custom):
    """The model of a bundle, with its weights."""
    manifest = arrays.manifest
    if manifest['model']['config'] is None:
        sys.exit('tf_keras.py: the bundle holds no configuration of the model')

    config = with_configs(manifest['model']['config'], lambda *one: without_later(keras.layers, *one))
    config = config if manifest.get('dropout') else with_configs(config, without_dropout)
    model = getattr(keras.models, manifest['model']['class_name']).from_config(config, custom_objects=custom)
    for call in arrays.calls:
        if not call['parent'] and call['weights'] and '#' not in call['name']:
            model.get_layer(call['layer']).set_weights(arrays.weights(call))
    return model


def top_nodes(model):
    """(name of the call, its output tensors) of each call in the model's own graph, inputs left out."""
    by_depth = getattr(model, '_nodes_by_depth', None) or model.nodes_by_depth
    count = Counter()
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            layer = node.outbound_layer
            if type(layer).__name__ == 'InputLayer':
                continue
            count[layer.name] += 1
            name = layer.name + ('#%d' % count[layer.name] if count[layer.name] > 1 else '')
            outputs = node.output_tensors
            yield name, list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def forward(keras, model, arrays):
    """{name in the bundle: array} of each call's outputs."""
    names, tensors = [], []
    calls = {call['name']: call for call in arrays.calls}
    for name, outputs in top_nodes(model):
        if name in calls:
            names += calls[name]['outputs'][:len(outputs)]
            tensors += outputs
    found = keras.models.Model(model.inputs, tensors).predict_on_batch(
        [arrays['input/' + name] for name in arrays.manifest['inputs']])
    found = list(found) if len(tensors) > 1 else [found]
    return OrderedDict(zip(names, [np.asarray(value) for value in found]))


def training(keras, model, arrays):
    """Losses and weights of the bundle's updates, or nothing where they cannot be repeated."""
    trained, manifest = arrays.manifest['training'], arrays.manifest
    if not trained or manifest.get('dropout') or any(
            np.any(arrays[name]) for file in arrays.files.values() for name in file
            if name.startswith('optimizer_start/')):
        return {}
    config = {key: value for key, value in trained['config'].items() if value is not None}
    without_later(keras.optimizers, trained['optimizer'], config)
    model.compile(keras.optimizers.deserialize({'class_name': trained['optimizer'], 'config': config}), trained['loss'])
    x = [arrays['input/' + name] for name in manifest['inputs']]
    y = [arrays['target/' + name] for name in manifest['outputs']]
    recorded = {name.split('/')[0] for name in arrays.files['training.npz'] if name.startswith('step_')}
    found, losses = OrderedDict(), []
    for step in range(1, trained['steps'] + 1):
        losses.append(np.ravel(model.train_on_batch(x, y))[0])
        if 'step_%d' % step in recorded:
            for call in arrays.calls:
                if not call['parent'] and call['weights'] and '#' not in call['name']:
                    values = model.get_layer(call['layer']).get_weights()
                    found.update(zip(['step_%d/%s' % (step, name) for name in call['weights']], values))
    found['losses'] = np.array(losses, arrays['losses'].dtype)
    return found


def defaults(keras):
    """{class: its configuration with defaults only}."""
    found = OrderedDict()
    for module, classes in DEFAULTS.items():
        for name, arguments in classes:
            config = getattr(getattr(keras, module), name)(*arguments).get_config()
            # Numbers as float32, in which the optimisers hold them; initialisers by their class.
            found[name] = {key: float('%.6g' % value) if isinstance(value, (float, np.floating))
                           else value.get('class_name') if isinstance(value, dict) else value
                           for key, value in sorted(config.items()) if key != 'name'}
    return found


def main(argv):
    parser = bundles.parser(__doc__)
    for action in parser._actions:
        action.nargs = '?' if action.dest in ('bundle', 'out') else action.nargs
    parser.add_argument('--module', default='tf.keras', metavar='NAME', help='tf.keras, tf_keras or keras (default: '
                        '%(default)s)')
    parser.add_argument('--custom', metavar='FILE.py', help="classes of the model's own layers")
    parser.add_argument('--defaults', action='store_true', help='print the defaults of layers and optimisers')
    options = parser.parse_args(argv)
    if not options.defaults and not options.out:
        parser.error('give a bundle and a folder')
    keras = import_keras(options.module)
    if options.defaults:
        print(json.dumps(defaults(keras)))
        return
    arrays = bundles.Arrays(options.bundle)
    backend, settings = keras.backend, arrays.manifest['keras']
    backend.set_floatx(settings['floatx'])
    backend.set_epsilon(settings['epsilon'])
    backend.set_image_data_format(settings['image_data_format'])
    if settings.get('learning_phase') is not None:
        backend.set_learning_phase(settings['learning_phase'])
    custom = vars(bundles.run_file(options.custom)) if options.custom else {}
    model = rebuild(keras, arrays, custom)
    made = {'forward.npz': forward(keras, model, arrays), 'training.npz': training(keras, model, arrays)}
    for name, found in made.items():
        if found:
            bundles.write(options.out, found, name)
    omitted = {name: None for name in arrays.files.get('training.npz', ()) if name not in made['training.npz']}
    with open(os.path.join(options.out, 'stage_map.json'), 'w', encoding='utf-8') as stream:
        json.dump(omitted, stream)


if __name__ == '__main__':
    main(sys.argv[1:])
