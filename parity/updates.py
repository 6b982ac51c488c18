"""The updates of an old model: losses, gradients, and the weights and the optimiser's slots after some of them."""
from collections import OrderedDict
from unittest import mock

import tf_session  # noqa: F401  first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K

from command_line import UserError, tell
from parity import bundle, forward, old_model, tf_keras_config
from reports.progress import Progress
from storage.files import show

KEPT = (1, 2, 10, 50)       # steps after which weights and slots are recorded
SLOTS = {'Adam': ('m', 'v', 'vhat'), 'AMSGrad': ('m', 'v', 'vhat'), 'Nadam': ('m', 'v'), 'Adamax': ('m', 'u'),
         'SGD': ('moment',), 'RMSprop': ('accumulator',), 'Adagrad': ('accumulator',),
         'Adadelta': ('accumulator', 'delta')}


class NoTraining(UserError):
    """The model has a loss, and cannot be trained with it."""


class WrongSlots(NoTraining):
    """What the optimiser kept is not that of the model's weights."""


def make_train_function(model):
    """Makes the function of one update, whose gradients, loss and metrics are complete before any weight changes.

    Updates of Keras race with them: the gradient for a layer's input, or the penalty of a regularizer, can read a
    kernel that the same update has already changed. Neither a port nor a second run in another graph can repeat that.
    """
    def gradients(loss, variables):
        found = tf.gradients(loss, variables, colocate_gradients_with_ops=True, gate_gradients=True)
        with tf.control_dependencies([loss] + getattr(model, 'metrics_tensors', [])):   # Keras 2.3 has no such list
            return [None if one is None else tf.identity(tf.convert_to_tensor(one)) for one in found]

    with mock.patch.object(K, 'gradients', gradients), old_model.refused(
            'the model cannot be trained', ValueError, 'name a loss of all its weights with --loss, or give --steps 0'):
        model._make_train_function()


def slot_arrays(optimizer, names):
    """{slot/NAME/m: value} of an optimiser."""
    values = [value for value in K.batch_get_value(optimizer.weights)]
    kinds = SLOTS.get(type(optimizer).__name__, ())
    if len(values) % max(1, len(names)):
        values = values[1:]     # the number of updates
    slots = OrderedDict()
    for number, value in enumerate(values):
        kind, name = number // len(names), names[number % len(names)]
        kind = kinds[kind] if kind < len(kinds) else str(kind + 1)
        if kind != 'vhat' or value.shape not in ((), (1,)):     # zeros, without amsgrad
            slots['slot/%s/%s' % (name, kind)] = value
    return slots


def set_slots(optimizer, path, values):
    """Sets the weights of an optimiser to the arrays of a file. UserError: they are not those of this optimiser."""
    shapes = [K.int_shape(weight) for weight in optimizer.weights]
    values = tf_keras_config.slots_as_before(optimizer, values) or values
    if [value.shape for value in values] != shapes or any(value.dtype.kind not in bundle.NUMBERS for value in values):
        raise WrongSlots('%s: the weights of the optimiser have the shapes %s, and %s needs %s: restore the file' % (
            path, show([value.shape for value in values]), type(optimizer).__name__, show(shapes)))
    optimizer.set_weights(values)


def run(model, weights, inputs, targets, steps, slots, quiet=False):
    """Trains a model and yields (name, array): gradients and the optimiser's weights before the first update, weights
    and slots after some updates, losses.

    # Arguments
        weights: as `layer_calls.weight_names` gives them. inputs, targets: {name: array}, the batch of every update.
        slots: (path, values) of the optimiser, or None. quiet: Boolean, tell nothing.
    """
    x, y = list(inputs.values()), list(targets.values())
    trainable = [(name, weight) for name, weight in weights
                 if any(weight is one for one in model._collected_trainable_weights)]
    # In the optimiser's own order
    order = [id(weight) for weight in model._collected_trainable_weights]
    trainable.sort(key=lambda pair: order.index(id(pair[1])))
    with old_model.refused('the targets do not fit the model', ValueError, forward.OTHERS):
        _, _, sample_weights = model._standardize_user_data(x, y)
    feed = dict(zip(model._feed_inputs + model._feed_targets + model._feed_sample_weights, x + y + sample_weights))
    forward.feed_phase(feed, 1)
    with old_model.refused('the loss has no gradient', LookupError, 'give --steps 0'):
        gradients = K.gradients(model.total_loss, [weight for _, weight in trainable])
    known = [(name, tf.convert_to_tensor(one)) for (name, _), one in zip(trainable, gradients) if one is not None]
    model.reset_states()
    with old_model.refused('the targets do not fit the model', tf.errors.InvalidArgumentError, forward.OTHERS):
        gradients = K.get_session().run([one for _, one in known], feed)
    for (name, _), value in zip(known, gradients):
        yield 'gradient/' + name, value
    make_train_function(model)
    if slots:
        set_slots(model.optimizer, *slots)
    for number, value in enumerate(K.batch_get_value(model.optimizer.weights)):
        yield 'optimizer_start/%d' % number, value
    losses = []
    with Progress(steps, 'updates') as progress:
        for step in range(1, steps + 1):
            model.reset_states()
            losses.append(np.ravel(model.train_on_batch(x, y)))
            if step in KEPT or step == steps:
                prefix = 'step_%d/' % step
                for name, value in zip([name for name, _ in weights], K.batch_get_value([one for _, one in weights])):
                    yield prefix + 'parameter/' + name, value
                for name, value in slot_arrays(model.optimizer, [name for name, _ in trainable]).items():
                    yield prefix + name, value
            progress.advance()
    losses = np.array(losses, K.floatx()).reshape(steps, -1)
    if not quiet and not np.isfinite(losses).all():
        tell('some losses are not finite: give --inputs and --targets')
    for number, name in enumerate(model.metrics_names[:losses.shape[1]]):
        yield 'losses' if number == 0 else 'losses/' + name, losses[:, number]
