"""What other versions of Keras 2 change in a captured model, one row each, with its test on configuration and arrays.

`regress.py explain` lists the rows that a model meets; `benchmarks/version_map.py page` writes the table of
docs/versions.md. Each was measured with the model of `benchmarks/version_models.py` that it names. NumPy only.
"""
from collections import namedtuple
import re

import numpy as np

from parity import trap_tests
from parity.trap_tests import array, has_padding, number_in, optimizer

VersionTrap = namedtuple('VersionTrap', 'key short title versions applies instead model')
VersionTrap.__doc__ = """One change between versions.

short: what it concerns. versions: where results are others than in Keras 2.2.4. applies: function of the manifest and
the arrays that returns [(name of a call or '', why it matters there)]. instead: what to write there. model: whose
results show it.
"""


def masked_outputs(manifest, arrays):
    """A loss over an output with padding."""
    if not manifest.get('training'):
        return []
    ends = set(manifest['output_arrays'])
    found = []
    for call in manifest['calls']:
        mask = array(arrays, call['output_masks'])
        if ends.intersection(call['outputs']) and mask is not None and not mask.all():
            found.append((call['name'], 'the mask hides %d of %d steps of its loss'
                          % (np.count_nonzero(~mask.astype(bool)), mask.size)))
    return found


def both_directions(manifest, arrays):
    return [(call['name'], 'its input has padding') for call in manifest['calls']
            if call['class'] == 'Bidirectional' and has_padding(call, arrays)
            and (call['config'].get('layer') or {}).get('config', {}).get('return_sequences')]


def clipped_gradients(manifest, arrays):
    """A limit that the norm of all gradients together exceeds: a limit for each one alone gives another update."""
    limit = number_in(optimizer(manifest)[1], 'clipnorm', 0.)
    names = [call['weights'] for call in manifest['calls']]
    gradients = [arrays.get('gradient/' + name[len('parameter/'):]) for name in sorted({
        name for group in names for name in group})]
    gradients = [np.asarray(value, 'f8') for value in gradients if value is not None and value.dtype.kind == 'f']
    norm = np.sqrt(sum(np.sum(value ** 2) for value in gradients))
    if not limit or len(gradients) < 2 or norm <= limit:
        return []
    return [('', 'the norm of all gradients is %.3g, and clipnorm is %g' % (norm, limit))]


def frozen_norms(manifest, arrays):
    if not manifest.get('training') or phase_of(manifest) == 0:
        return []
    return [(call['name'], 'trainable is False') for call in manifest['calls']
            if call['class'] == 'BatchNormalization' and call['config'].get('trainable') is False]


def fixed_phase(manifest, arrays):
    """Layers with averages that predict with the batch (phase 1), or that are trained with their averages (phase 0)."""
    found, phase = [], phase_of(manifest)
    for call in manifest['calls'] if phase == 1 or phase == 0 and manifest.get('training') else ():
        if call['class'] != 'BatchNormalization' or phase == 0 and call['config'].get('trainable') is False:
            continue
        x, axis = array(arrays, call['inputs']), int(number_in(call['config'], 'axis', -1))
        average = array(arrays, call['weights'][-2:])
        if x is not None and average is not None and -x.ndim <= axis < x.ndim and average.shape == (x.shape[axis],):
            mean = np.moveaxis(np.asarray(x, 'f8'), axis, -1).reshape(-1, len(average)).mean(0)
            if not np.allclose(mean, average):
                found.append((call['name'], 'the means of the batch and its averages differ by up to %.3g'
                              % np.abs(mean - average).max()))
    return found


def first_averages(manifest, arrays):
    """Layers whose averages the first update changes."""
    found = []
    for call in manifest['calls']:
        name = call['weights'][-2] if call['weights'][1:] else ''
        before, after = arrays.get(name), arrays.get('step_1/' + name)
        if call['class'] == 'BatchNormalization' and before is not None and after is not None and (
                before.shape == after.shape and np.abs(after - before).max() > 1e-6):
            found.append((call['name'], 'its averages change by up to %.3g' % np.abs(after - before).max()))
    return found


def phase_of(manifest):
    """The learning phase that was fixed when the model was built, or None."""
    return (manifest.get('keras') or {}).get('learning_phase')


def counted_rates(manifest, arrays):
    """Optimisers whose rate depends on the number of the update."""
    name, config = optimizer(manifest)
    value = number_in(config, 'decay', 0.)
    found = [('', 'decay is %g' % value)] if value else []
    return found + ([('', '%s corrects its averages by that number' % name)] if name in ('Adam', 'Adamax') else [])


def masked_models(manifest, arrays):
    """Nested models that get a mask."""
    nested = {call['parent'] for call in manifest['calls']}
    return [(call['name'], 'it gets a mask') for call in manifest['calls']
            if call['name'] in nested and call['class'] in ('Model', 'Sequential') and has_padding(call, arrays)]


def masked_starts(manifest, arrays):
    """Layers with a first state, and rows whose output is that state since no step before was valid."""
    found = []
    for call in manifest['calls']:
        mask, state = array(arrays, call['input_masks']), array(arrays, call['inputs'], 1)
        if call['class'] in ('LSTM', 'GRU', 'SimpleRNN') and mask is not None and state is not None and mask.ndim == 2:
            first = mask[:, -1 if call['config'].get('go_backwards') is True else 0].astype(bool)
            hidden = ~(first if call['config'].get('return_sequences') is True else mask.astype(bool).any(1))
            rows = np.count_nonzero(hidden & (state.reshape(len(state), -1) != 0).any(1))
            if rows:
                found.append((call['name'], 'the mask hides the steps before the first valid one of %d rows' % rows))
    return found


def old_defaults(manifest, arrays):
    """Values that are the defaults of Keras 2.2.4, and no longer."""
    found = []
    for call in manifest['calls']:
        kind, config, inner = call['class'], call['config'], call['config'].get('layer')
        if isinstance(inner, dict) and isinstance(inner.get('config'), dict):
            kind, config = inner.get('class_name'), inner['config']
        if kind in ('LSTM', 'GRU'):
            if config.get('recurrent_activation') == 'hard_sigmoid':
                found.append((call['name'], 'recurrent_activation is hard_sigmoid'))
            if kind == 'GRU' and config.get('reset_after') is False:
                found.append((call['name'], 'reset_after is False'))
    name, config = optimizer(manifest)
    rate = {'Adagrad': 0.01, 'Adadelta': 1., 'Nadam': 0.002}.get(name)
    if rate is not None and abs(number_in(config, 'lr', 0.) - rate) < 1e-6:
        found.append(('', 'the rate of %s is %g' % (name, rate)))
    return found


TF_KERAS = '`tf.keras` of TensorFlow 1.15 and later, Keras 2.4'
FROM_2_2_5 = 'Keras 2.2.5 to 2.4, `tf.keras` of TensorFlow 1.15 and later'

VERSION_TRAPS = (
    VersionTrap('masked_loss', 'losses with masks or sample weights',
                'The loss of an output with a mask, or with sample weights, is divided by the number of all steps, '
                'not of the valid ones', 'Keras 2.3 and 2.4, `tf.keras` of TensorFlow 1.15 to 2.6; not 2.15',
                masked_outputs, 'multiply the loss by all steps / valid steps, or compute the mean in the model',
                'masked_loss'),
    VersionTrap('bidirectional_zeros', '`Bidirectional` at masked steps',
                'A masked step of `Bidirectional` gives zeros, and does not repeat the output before it', TF_KERAS,
                both_directions,
                'two layers and `Concatenate`, the second with `go_backwards=True` and its output reversed', 'masked'),
    VersionTrap('masked_start', 'initial states at masked steps',
                'A recurrent layer with `initial_state` gives zeros at masked steps before the first valid one, not '
                'that state', FROM_2_2_5, masked_starts, '`tf.where(mask, output, state)` for these steps', 'started'),
    VersionTrap('own_masks', 'nested models called twice',
                'The second call of a nested model has its own mask, not that of the first call', FROM_2_2_5,
                trap_tests.nested_masks, 'give the second call the mask of the first', 'twice'),
    VersionTrap('masked_model', 'nested models with a mask are refused',
                'A nested model that gets a mask is refused', 'Keras before 2.2.4, `tf.keras` of TensorFlow 1.12',
                masked_models, 'call the layers of the nested model without it', 'nested'),
    VersionTrap('clipnorm_each', '`clipnorm`', '`clipnorm` clips the norm of each gradient alone',
                '`tf.keras` of TensorFlow 1.12 and later, Keras 2.4', clipped_gradients,
                '`global_clipnorm=` (TensorFlow 2.4 and later); before, clip in a training step of your own',
                'clipped'),
    VersionTrap('frozen_norm', 'training with a frozen `BatchNormalization`',
                'A `BatchNormalization` with `trainable=False` uses its averages in training too, not the statistics '
                'of the batch', '`tf.keras` of TensorFlow 2, Keras 2.4', frozen_norms,
                '`trainable=True`, and leave its weights out of the optimiser', 'frozen'),
    VersionTrap('first_averages', 'averages of `BatchNormalization` in training',
                'The averages of `BatchNormalization` move from their stored values, 0 and 1 in a new layer; in Keras '
                '2.1 and 2.2 the first update replaces them by those of its batch',
                'Keras 2.0, 2.3, 2.4 and 3, `tf.keras` of each version', first_averages,
                'for the same averages, the momentum m (1 - m^(t-1)) / (1 - m^t) at the update t = 1, 2, ...',
                'normed'),
    VersionTrap('fixed_phase', 'a fixed learning phase',
                '`K.set_learning_phase` before a model is built has no effect: `BatchNormalization` predicts with its '
                'averages and is trained with the batch', '`tf.keras` of TensorFlow 2, Keras 2.4 and 3', fixed_phase,
                'call these layers with `training=True` or `training=False`', 'phased'),
    VersionTrap('early_count', 'rates that decay',
                'An update counts itself before it computes its rate, an order that Keras leaves open: the first one '
                'has the rate of the second',
                'Keras 2.3: rates that decay on TensorFlow 1.13, 1.14, 2.0 and 2.1, Adam on 1.13 and 2.0; Keras 2.2 on '
                'TensorFlow 1.13 and 1.14: Adam in one of two graphs', counted_rates,
                'a version of Keras 2.4 or later', 'decayed'),
    VersionTrap('other_defaults', '[defaults](#defaults) of layers built by code',
                'A layer or an optimiser that is built by code has [other defaults](#defaults): gates, `reset_after`, '
                'rates', 'Keras 2.3 and 2.4, `tf.keras` of TensorFlow 2', old_defaults,
                'build it from the old configuration, or write the old values', 'chars2vec'))


def plain(text):
    """Markdown without its marks."""
    return re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', text).replace('`', '')


def explain(manifest, arrays):
    """Lines for people: what a move to another Keras 2 changes in this model."""
    lines = []
    for trap in VERSION_TRAPS:
        places = trap.applies(manifest, arrays)
        if places:
            lines.append('other versions, %s: %s' % (trap.key, plain(trap.title)))
            lines += ['    %s%s' % (name + ': ' if name else '', why) for name, why in places]
            lines += ['    where: %s' % plain(trap.versions), '    there: %s' % plain(trap.instead)]
    return lines


def table():
    """Lines of the table of docs/versions.md."""
    lines = ['| change | where | what to write there | seen with |', '|---|---|---|---|']
    return lines + ['| %s | %s | %s | `%s` |' % (trap.title, trap.versions, trap.instead, trap.model)
                    for trap in VERSION_TRAPS]
