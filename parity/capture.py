"""Captures an old Keras model as a bundle: every call of a layer, losses, gradients and optimiser steps.

The bundle is a set as `compare` reads it: `inputs.npz`, `weights.npz`, `forward.npz`, `training.npz`, and a manifest
that lists the calls in the order of the graph, with each layer's configuration.
"""
from collections import OrderedDict
import contextlib
import os
import re
import tempfile
import warnings

import tf_session  # first: it fixes the import order
import tensorflow as tf
from keras import backend as K

from command_line import UserError, tell
from parity import (bundle, compare, environment, fitting, float64, forward, layer_calls, old_model, sample_inputs,
                    updates)
from storage.files import to_json, write_bytes
from storage.weights_file import array_hash

TOLERANCE = (1e-4, 1e-5)    # relative to each number, and to the largest of its array


# The bundle

def write_capture(folder, loaded, inputs, targets, steps, command, dropout=False, again=None, wide=None):
    """Writes the bundle of a model that is built and has its weights; returns the manifest.

    # Arguments
        loaded: `old_model.Loaded`. inputs: {name: array}, or a function of the calls that gives it.
        again: function that builds the same model without weights, compiled if it is called with True, for `float64`.
        wide: which `float64.PARTS` are recorded; None: those that are not large.
    """
    model = loaded.model
    weights = layer_calls.weight_names(model)
    calls, nested = layer_calls.find_calls(model)
    inputs = inputs(calls) if callable(inputs) else inputs
    pairs, entries, outputs = forward.describe_calls(model, calls, weights, nested)
    for call, entry in zip(calls, entries):
        if any(inner is layer for inner in layer_calls.all_layers(call.layer) for layer in loaded.cudnn):
            entry['cudnn_weights'] = True
    feed = dict(zip(model.inputs, inputs.values()))
    forward.feed_phase(feed, 0)
    files, folder = OrderedDict(), str(folder)
    os.makedirs(folder, exist_ok=True)

    def writer(name):
        files[name] = bundle.NpzWriter(os.path.join(folder, name), array_hash)
        return files[name]

    values = OrderedDict(('parameter/' + name, value) for (name, _), value in zip(
        weights, K.batch_get_value([one for _, one in weights])))
    with writer('weights.npz') as made:
        for name, value in values.items():
            made.write(name, value)
    model.reset_states()
    with writer('forward.npz') as made:
        forward.write_forward(made, pairs, feed)
        forward.write_second_call(made, model, inputs)
    wrong = forward.check_nested(nested, feed)
    if loaded.compiled and steps:
        shapes = K.get_session().run([tf.shape(x) for x in model.outputs], feed)
        targets = targets or sample_inputs.draw_targets(model, [tuple(shape) for shape in shapes])
    with writer('inputs.npz') as made:
        for prefix, arrays in (('input/', inputs), ('target/', targets or {})):
            for name, value in arrays.items():
                made.write(prefix + name, value)
    trained = (targets, steps, loaded.slots) if loaded.compiled and steps else None
    if trained:
        with writer('training.npz') as made:
            try:
                for name, value in updates.run(model, weights, inputs, *trained):
                    made.write(name, value)
            except updates.WrongSlots:
                raise
            except UserError as error:
                raise updates.NoTraining(str(error)) from error
    manifest = describe_bundle(model, steps if loaded.compiled else 0, entries, command)
    if again:
        sizes = {'forward': files['forward.npz'].size + files['weights.npz'].size}
        if trained and not dropout:     # which is random
            sizes['training'] = files['training.npz'].size
        parts = [part for part in sizes if (sizes[part] <= float64.LARGE if wide is None else part in wide)]
        if parts and not float64.write(writer(float64.FILE), again, values, inputs, trained, parts):
            del files[float64.FILE]
    manifest['files'] = OrderedDict((name, OrderedDict([
        ('kind', 'capture'), ('arrays', files[name].hashes), ('shapes', files[name].shapes),
        ('tolerance', list(TOLERANCE))])) for name in sorted(files))
    manifest['output_arrays'] = outputs
    trainable = [id(weight) for weight in model.trainable_weights]
    manifest['trainable'] = ['parameter/' + name for name, weight in weights if id(weight) in trainable]
    manifest['nested_calls_that_differ'] = wrong
    manifest['dropout'] = dropout
    return manifest


def write_manifest(folder, manifest):
    write_bytes(os.path.join(folder, bundle.MANIFEST), to_json(manifest))


def describe_bundle(model, steps, entries, command):
    """The manifest of a captured model."""
    trained = {}
    if steps:
        trained = OrderedDict([
            ('optimizer', type(model.optimizer).__name__), ('config', layer_calls.plain(model.optimizer.get_config())),
            ('loss', layer_calls.plain(model.loss)), ('loss_weights', layer_calls.plain(model.loss_weights)),
            ('sample_weight_mode', layer_calls.plain(model.sample_weight_mode)), ('steps', steps),
            ('metrics', list(model.metrics_names))])
        for name in ('clipnorm', 'clipvalue'):
            if hasattr(model.optimizer, name):
                trained['config'][name] = getattr(model.optimizer, name)
    try:
        with warnings.catch_warnings():     # that tensors among a call's arguments are not kept: the calls have them
            warnings.simplefilter('ignore')
            config = layer_calls.plain(model.get_config())
    except old_model.REFUSALS as error:     # a custom layer without get_config
        config = None
        tell('the configuration of the model cannot be saved (%s): check needs --build' % error)
    manifest = OrderedDict([
        ('format', 1), ('kind', 'capture'), ('command', command), ('commit', environment.commit()),
        ('environment', environment.describe()), ('arithmetic', environment.arithmetic(())),
        ('keras', OrderedDict([('floatx', K.floatx()), ('epsilon', K.epsilon()),
                               ('image_data_format', K.image_data_format()),
                               ('learning_phase', forward.fixed_phase())])),
        ('model', OrderedDict([('name', model.name), ('class_name', type(model).__name__), ('config', config)])),
        ('inputs', list(model.input_names)),
        ('input_shapes', [list(K.int_shape(x)) for x in model.inputs]),
        ('outputs', list(model.output_names)), ('training', trained),
        ('calls', entries), ('files', OrderedDict())])
    return manifest


@contextlib.contextmanager
def whole_or_nothing(folder):
    """Removes from a folder, which was empty, the parts of a bundle whose writing fails or is stopped."""
    is_new = not os.path.isdir(folder)
    try:
        yield
    except BaseException:
        for name in fitting.FILES + (fitting.TRAINING, float64.FILE, bundle.MANIFEST):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))
        if is_new:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        raise


def capture(options, folder, command):
    """Captures the model that a command's options name.

    # Arguments
        options: as `old_model.load` takes them, with `inputs`, `targets`, `steps`.
        folder: of the bundle.

    # Raises
        UserError: the model cannot be loaded, or the inputs do not fit it.
    """
    with tf_session.repeatable():
        loaded = old_model.load(options)
        model = loaded.model
        if options.targets and not loaded.compiled:
            raise UserError('--targets: the model has no loss: name one with --loss and --optimizer')

        def inputs(calls):
            if options.inputs:
                return sample_inputs.read_inputs(options.inputs, model, calls)
            return sample_inputs.draw_inputs(model, calls)

        targets = options.targets and sample_inputs.read_named(options.targets, model.output_names, 'target')
        with old_model.dropout_off(not options.dropout), whole_or_nothing(folder):
            manifest = write_capture(folder, loaded, inputs, targets, options.steps, command, options.dropout,
                                     lambda trained: old_model.make_again(options, trained),
                                     float64.PARTS if options.float64 else None)
            manifest['build'] = options.build or ''
            manifest['training_lost'] = getattr(options, 'lost', '')
            write_manifest(folder, manifest)
            return manifest


# Running a bundle again

def check(folder, options, chosen=()):
    """Runs a captured model again and compares. Returns results, ties, and the differences of the environments.

    # Arguments
        options: with `custom`, `build`, `trust`, for code that the bundle does not hold.

    # Raises
        UserError: the bundle is damaged, or its parts or the model do not fit together.
    """
    recorded, manifest = fitting.read_recorded(folder, chosen)
    fitting.check_environment(folder, manifest)
    fitting.check_capture(folder, manifest)
    other = environment.differences(manifest)
    with tempfile.TemporaryDirectory() as made:
        with tf_session.repeatable():
            run_again(folder, manifest, options, made)
        found, _ = bundle.open_set(made)
        found = OrderedDict((name, file) for name, file in found.items() if name in recorded)
        results, ties = compare.compare_sets(recorded, found, manifest, None if other else (0., 0.),
                                             exact=recorded.get(float64.FILE) if other else None)
    return results, ties, other


def run_again(folder, manifest, options, made):
    """Writes the outputs of the model of a bundle, computed here, into the folder `made`."""
    trained, dropout = manifest['training'], bool(manifest.get('dropout'))

    def stored(name):
        return bundle.ArrayFile(os.path.join(folder, name), manifest['files'][name])

    with old_model.dropout_off(not dropout):
        model = model_of_bundle(folder, manifest, options)
    weights, arrays = layer_calls.weight_names(model), stored('weights.npz')
    expected = OrderedDict(('parameter/' + name, (K.int_shape(weight), bundle.NUMBERS)) for name, weight in weights)
    fitting.check_same_names(arrays.path, arrays, expected)
    fitting.check_arrays(arrays.path, arrays, expected)
    K.batch_set_value([(weight, arrays[name]) for name, (_, weight) in zip(expected, weights)])
    arrays, targets, slots = stored('inputs.npz'), OrderedDict(), None
    fitting.check_arrays(arrays.path, arrays, OrderedDict(
        ('input/' + name, (K.int_shape(x), bundle.NUMBERS)) for name, x in zip(model.input_names, model.inputs)))
    inputs = OrderedDict((name, arrays['input/' + name]) for name in model.input_names)
    if trained:
        for name in model.output_names:
            shape, _ = arrays.headers.get('target/' + name, ((), None))     # of any shape here: the loss decides
            fitting.check_arrays(arrays.path, arrays, {'target/' + name: (shape, bundle.NUMBERS)})
            targets[name] = arrays['target/' + name]
        training = stored('training.npz')
        fitting.check_arrays(training.path, training, {'losses': ((trained['steps'],), 'f')})
        names = ['optimizer_start/%d' % number for number in range(len(training))]
        slots = training.path, [training[name] for name in names if name in training]
    with old_model.dropout_off(not dropout):
        wide = float64.parts(manifest['files'].get(float64.FILE, {}).get('arrays', ()))
        write_manifest(made, write_capture(
            made, old_model.Loaded(model, bool(trained), slots, ()),
            lambda calls: sample_inputs.fitted(arrays.path, inputs, model, calls), targets, trained.get('steps', 0), '',
            dropout, lambda trained: model_of_bundle(folder, manifest, options, not trained), wide))


def built_by(manifest):
    """The `--build` of the capture, or ''. Older bundles have it in their command alone."""
    words = re.search('--build[ =]([^ ]+)', str(manifest.get('command')))
    return bundle.printable(manifest.get('build') or (words.group(1) if words else ''))


def model_of_bundle(folder, manifest, options, forward_only=False):
    """The model of a bundle, from its configuration or from `options.build`.

    It is compiled if the bundle has a training, unless `forward_only`.
    """
    path, custom = os.path.join(folder, bundle.MANIFEST), old_model.custom_objects(options.custom)
    trained, own = manifest['training'], manifest['model']
    phase = (manifest.get('keras') or {}).get('learning_phase')
    if phase is not None:
        K.set_learning_phase(phase)
    if options.build:
        model = old_model.build(options.build)
    elif own['config'] is None:
        raise UserError('%s: holds no configuration of the model: name the function that builds it with --build'
                        % path)
    else:
        model = old_model.from_config(path, {'class_name': own['class_name'], 'config': own['config']}, custom,
                                      options.trust, built_by(manifest))
    old_model.require_graph(model, options.build or path)
    if trained and not forward_only:
        training = {'optimizer_config': {'class_name': trained['optimizer'], 'config': trained['config']},
                    'loss': trained['loss'], 'loss_weights': trained.get('loss_weights'),
                    'sample_weight_mode': trained.get('sample_weight_mode')}
        old_model.compile_model(model, training, custom=custom)
    return model
