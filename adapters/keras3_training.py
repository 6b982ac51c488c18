"""Compiles a converted model as the old one was: loss, optimiser, the optimiser's own weights."""
import inspect

import keras
import numpy as np
import old_keras
from parity.bundle import one_line

LOSSES = {'mse': 'mean_squared_error', 'mae': 'mean_absolute_error', 'mape': 'mean_absolute_percentage_error',
          'msle': 'mean_squared_logarithmic_error', 'kld': 'kl_divergence', 'logcosh': 'log_cosh',
          'kullback_leibler_divergence': 'kl_divergence', 'cosine': 'cosine_similarity',
          'cosine_proximity': 'cosine_similarity'}
CLIPPED = ('categorical_crossentropy', 'sparse_categorical_crossentropy', 'binary_crossentropy')
METRICS = dict(LOSSES, acc='accuracy')
OPTIONS = {'lr': 'learning_rate', 'clipnorm': 'global_clipnorm'}
# Of each optimiser: whether its weights begin with the number of updates, and the lists that hold the others here.
SLOTS = {'SGD': (True, ('momentums',)), 'RMSprop': (False, ('_velocities',)), 'Adagrad': (False, ('_accumulators',)),
         'Adadelta': (False, ('_accumulated_grads', '_accumulated_delta_vars')),
         'Adam': (True, ('_momentums', '_velocities', '_velocity_hats')), 'Adamax': (True, ('_m', '_u')),
         'Nadam': (True, ('_momentums', '_velocities'))}


def make_optimizer(kind, config, graph, notes):
    """The Keras 3 optimiser for one of Keras 2.2.4; None, with a note, where there is none."""
    cls = getattr(keras.optimizers, kind, None)
    if kind not in SLOTS or cls is None:
        notes.append('optimizer %s: Keras 3 has none of this name; the model is not compiled' % kind)
        return None
    options = {OPTIONS.get(key, key): value for key, value in config.items()}
    decay = options.pop('decay', 0.)
    if decay:
        options['learning_rate'] = keras.optimizers.schedules.InverseTimeDecay(options['learning_rate'], 1, decay)
    if kind in ('RMSprop', 'Adagrad') and graph.maker.keep_weights:
        cls = getattr(old_keras, 'Old' + kind)
        graph.classes.add(cls.__name__)
    elif kind in ('RMSprop', 'Adagrad'):    # sqrt(v + e^2) is nearest to sqrt(v) + e
        options['epsilon'] = options.get('epsilon', 1e-7) ** 2
        notes.append('optimizer %s: epsilon is inside of the root in Keras 3, so that weights of small gradients '
                     'move by another share; --keep-weights continues exactly' % kind)
    if kind == 'Adagrad':
        options['initial_accumulator_value'] = 0.
    if kind == 'Nadam':
        notes.append('optimizer Nadam: the momentum follows another schedule in Keras 3')
        options.pop('schedule_decay', None)
    known = inspect.signature(cls.__init__).parameters
    for key in sorted(set(options) - set(known)):
        notes.append('optimizer %s: Keras 3 has no option %s' % (kind, key))
        options.pop(key)
    return cls(**options)


def loss_of(name, graph, notes):
    """The loss of Keras 3 for a name of Keras 2, or None."""
    if graph.maker.keep_weights and name in CLIPPED:
        graph.classes.add('old_' + name)
        return getattr(old_keras, 'old_' + name)
    made = LOSSES.get(name, name)
    try:
        keras.losses.get(made)
        return made
    except (ValueError, TypeError):
        notes.append('loss %s: Keras 3 has none of this name; the model is not compiled' % (name,))
        return None


def listed(value, outputs):
    """A value for each output: of a dictionary, a list, or one for all."""
    if isinstance(value, dict):
        return [value.get(name) for name in outputs]
    return value if isinstance(value, list) else [value] * len(outputs)


def compile_as_before(model, graph, manifest, own, notes):
    """Compiles a model as the bundle's was. Returns whether it is compiled; adds what could not go along to `notes`."""
    trained, outputs = manifest['training'], manifest['outputs']
    losses = [own[name] if callable(own.get(name)) else loss_of(name, graph, notes) if name else None
              for name in listed(trained['loss'], outputs)]
    optimizer = make_optimizer(trained['optimizer'], dict(trained['config']), graph, notes)
    if optimizer is None or not any(losses) or any(
            name and not loss for name, loss in zip(listed(trained['loss'], outputs), losses)):
        return False
    weights = trained.get('loss_weights')
    if weights is not None:
        weights = [1. if one is None else one for one in listed(weights, outputs)]
    if trained.get('sample_weight_mode'):
        notes.append('sample_weight_mode: Keras 3 has none, and takes sample weights of each step as they are')
    options = {}
    metrics = metrics_of(trained.get('compiled_metrics'), notes)
    if metrics and len(outputs) == 1:
        options['metrics'] = metrics
    elif metrics:
        notes.append('metrics: of several outputs they are not carried over')
    single = len(outputs) == 1
    model.compile(optimizer, loss=losses[0] if single else losses, loss_weights=weights and (
        weights[0] if single else weights), **options)
    return True


def metrics_of(names, notes):
    """The metrics that Keras 3 has too."""
    found = []
    for name in names if isinstance(names, list) else []:
        try:
            keras.metrics.get(METRICS.get(name, name))
            found.append(METRICS.get(name, name))
        except (ValueError, TypeError):
            notes.append('metric %s: Keras 3 has none of this name' % (name,))
    return found


def restore_slots(model, graph, arrays, notes):
    """Gives the optimiser the weights that the old one had."""
    names = [name for name in (arrays.files['training.npz'] if 'training.npz' in arrays.files else ())]
    trainable = [name[len('gradient/'):] for name in names if name.startswith('gradient/')]
    start = [arrays[name] for name in sorted((name for name in names if name.startswith('optimizer_start/')),
                                             key=lambda name: int(name.split('/')[1]))]
    optimizer, kind = model.optimizer, arrays.manifest['training']['optimizer']
    has_count, lists = SLOTS[kind]
    optimizer.build(model.trainable_variables)
    if has_count and start:
        optimizer.iterations.assign(int(start.pop(0)))
    names_of = {id(variable): (name[len('parameter/'):], scale) for name, variable, scale in graph.variables}
    if not any(value.any() for value in start):
        return
    for number, attribute in enumerate(lists):
        slots = getattr(optimizer, attribute, None) or []
        for variable, slot in zip(model.trainable_variables, slots):
            name, scale = names_of.get(id(variable), (None, 1.))
            at = number * len(trainable) + trainable.index(name) if name in trainable else len(start)
            if at >= len(start) or start[at].size != np.prod(slot.shape):
                notes.append('optimizer %s: what it kept of %s is lost' % (kind, name or variable.path))
                continue
            power = 2 if attribute in ('_velocities', '_accumulators', '_accumulated_grads', '_velocity_hats') else 1
            slot.assign(start[at].reshape(slot.shape) / np.asarray(scale, start[at].dtype) ** power)


def compiled(model, graph, arrays, own):
    """Compiles the model where the bundle has a training; returns (whether it is compiled, what could not go along)."""
    notes = []
    if not arrays.manifest.get('training'):
        return False, notes
    try:
        if not compile_as_before(model, graph, arrays.manifest, own, notes):
            return False, notes
        restore_slots(model, graph, arrays, notes)
    except Exception as error:          # what Keras 3 raises for the settings of a stranger's model
        notes.append('the model is not compiled: %s' % one_line(error))
        return False, notes
    if graph.scaled:
        notes.append('the weights of %s are 1.2 times the old ones, so that an update moves them by another share; '
                     '--keep-weights continues the training exactly' % ', '.join(graph.scaled))
    return True, notes
