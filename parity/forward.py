"""The forward call of a captured model: the tensors to fetch, their names, and each call's entry in the manifest."""
from collections import OrderedDict

import tf_session  # noqa: F401  first: it fixes the import order
import keras
import numpy as np
import tensorflow as tf
from keras import backend as K

from command_line import UserError, tell
from parity import lambda_graph, layer_calls, old_model
from reports.progress import Progress

GROUP_BYTES = 2 ** 28       # of arrays that one run of the graph returns
AGREE = 1e-5
OTHERS = 'give others with --inputs and --targets, or restore the bundle'


def describe_calls(model, calls, weights, nested=()):
    """The tensors to fetch with their names, and the entry of each call in the manifest.

    # Returns
        [(array name, tensor)] in the order of the graph, a list of dicts, and the names of the model's outputs.
    """
    names = {id(x): 'input/' + name for x, name in zip(model.inputs, model.input_names)}
    weight_names = {id(weight): 'parameter/' + name for name, weight in weights}
    fetched, entries = [], []

    def name_of(tensor, name):
        if tensor is None:
            return None
        if id(tensor) not in names:
            names[id(tensor)] = name
            fetched.append((name, tensor))
        return names[id(tensor)]

    for call in calls:
        def many(kind, tensors):
            return [name_of(x, 'layer/%s/%s%s' % (call.name, kind, '_%d' % number if number > 1 else ''))
                    for number, x in enumerate(tensors, 1)]

        inputs, input_masks = many('input', call.inputs), many('input_mask', call.input_masks)
        states = [('layer/%s/state_%d' % (call.name, number), x) for number, x in enumerate(call.states, 1)]
        fetched.extend(states)
        outputs = []
        for number, x in enumerate(call.outputs, 1):
            # Each call has its output under its own name, although a layer may return its input tensor.
            name = 'layer/%s/output%s' % (call.name, '_%d' % number if number > 1 else '')
            names.setdefault(id(x), name)
            fetched.append((name, x))
            outputs.append(name)
        entries.append(OrderedDict([
            ('name', call.name), ('layer', call.layer.name), ('class', type(call.layer).__name__),
            ('parent', call.parent), ('config', layer_calls.config_of(call.layer)), ('inputs', inputs),
            ('outputs', outputs), ('input_masks', input_masks), ('output_masks', many('mask', call.output_masks)),
            ('states', [name for name, _ in states]), ('arguments', layer_calls.plain(call.arguments)),
            ('weights', [weight_names[id(weight)] for weight in call.layer.weights if id(weight) in weight_names])]))
        if isinstance(call.layer, keras.layers.Lambda):
            entries[-1]['operations'] = lambda_graph.operations(call.inputs, call.outputs)
    inner = {(name, id(one)): id(other) for name, one, other in nested}
    for call, entry in zip(calls, entries):     # which inner calls give the outputs of a nested model
        inner_outputs = [names.get(inner.get((call.name, id(x)))) for x in call.outputs]
        entry['inner_outputs'] = inner_outputs if any(inner_outputs) else []
    return fetched, entries, [names[id(x)] for x in model.outputs]


def fixed_phase():
    """The learning phase that `K.set_learning_phase` fixed for the graph, or None."""
    phase = K.learning_phase()
    return None if isinstance(phase, tf.Tensor) else int(phase)


def feed_phase(feed, phase):
    """Adds the learning phase to what is fed, unless it is fixed."""
    if fixed_phase() is None:
        feed[K.learning_phase()] = phase


def in_groups(pairs, sizes):
    """Lists of (name, tensor) whose arrays have at most `GROUP_BYTES` together, or one array each."""
    group, total = [], 0
    for pair, size in zip(pairs, sizes):
        if group and total + size > GROUP_BYTES:
            yield group
            group, total = [], 0
        group.append(pair)
        total += size
    if group:
        yield group


def write_forward(writer, pairs, feed):
    """Runs the graph and writes its arrays, a group at a time."""
    session, shapes = K.get_session(), [tf.shape(x) for _, x in pairs]
    with old_model.refused('the inputs do not fit the model', tf.errors.InvalidArgumentError, OTHERS):
        shapes = session.run(shapes, feed)
    sizes = [np.prod(shape, dtype='f8') * x.dtype.base_dtype.size for shape, (_, x) in zip(shapes, pairs)]
    for (name, _), size in zip(pairs, sizes):
        if not size:
            raise UserError('%s: is empty for inputs of this length: give longer ones with --inputs' % name)
    with Progress(len(pairs), 'arrays') as progress:
        for group in in_groups(pairs, sizes):
            for (name, _), value in zip(group, session.run([x for _, x in group], feed)):
                if value.dtype.kind == 'f' and np.isnan(value).any():
                    tell('%s: contains NaN' % name)
                writer.write(name, value)
            progress.advance(len(group))


def check_nested(pairs, feed):
    """Reports the nested models whose layers, called again, give other outputs than in the model."""
    differences = K.get_session().run([tf.reduce_max(tf.abs(tf.cast(one, 'float64') - tf.cast(other, 'float64')))
                                       for _, one, other in pairs], feed)
    wrong = sorted({name for (name, _, _), value in zip(pairs, differences) if value > AGREE})
    for name in wrong:
        tell('%s: its own layers, called with its own inputs and masks, give other outputs than the model: Keras 2.2.4 '
             'keeps the masks of the first call of a nested model' % name)
    return wrong


def write_second_call(writer, model, inputs, prefix=''):
    """Writes the outputs of a stateful model called twice: its states pass from one call to the next."""
    if not model.stateful:
        return
    model.reset_states()
    model.predict_on_batch(list(inputs.values()))
    outputs = model.predict_on_batch(list(inputs.values()))
    model.reset_states()
    for name, value in zip(model.output_names, outputs if isinstance(outputs, list) else [outputs]):
        writer.write('%ssecond_call/%s' % (prefix, name), value)
