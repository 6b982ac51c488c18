"""Names the cause of a difference in a captured layer: computes the layer with each usual mistake and compares.

A mistake is a likely cause if the layer with it gives the output of the port from the inputs of the port, and the layer
without it the recorded output from the recorded inputs. NumPy only.
"""
from collections import OrderedDict
import itertools

import numpy as np

from parity import compare, traps
from parity.mistakes import layer_of

CLOSE = 2e-4        # of the largest number of the array
ROUNDING = 1e-6     # of the largest number: less is no difference
EXPLAINED = 0.1     # of the difference: what may be left of it with the mistake
MASKED = ('LSTM', 'GRU', 'SimpleRNN', 'Bidirectional', 'GlobalAveragePooling1D')    # what a mask changes
MAXIMUM = 2 ** 22   # numbers in a layer's input or output, above which nothing is computed


def close(one, other):
    if one is None or one.shape != other.shape or not np.isfinite(one).all():
        return False
    return float(np.max(np.abs(one - other))) <= CLOSE * max(float(np.max(np.abs(other))), 1e-30)


def attempt(layer, arguments):
    """The output of a layer, or None if it cannot process these arguments."""
    try:
        with np.errstate(all='ignore'):
            return layer(*arguments)
    except (ValueError, IndexError, KeyError, TypeError):
        return None


def added_masks(call, layer, inputs, masks):
    """The mistakes of a mask that the old layer does not have: each of the model's, and that of steps of zeros."""
    if call['class'] not in MASKED or inputs[0].ndim != 3:
        return
    seen = [inputs[0].any(axis=-1)] + [one for one in masks if one.shape == inputs[0].shape[:2]]
    for mask in seen:
        if not mask.all():
            yield 'a mask is added', 'masked_steps', lambda config, inputs, _, weights, mask=mask: layer(
                config, inputs, mask, weights)
            if call['class'] in MASKED[:4]:
                yield 'a mask is added, and masked steps output zeros', 'masked_steps', (
                    lambda config, inputs, _, weights, mask=mask: layer(config, inputs, mask, weights, masked='zeros'))


def of_any_layer(inputs, recorded, found):
    """The mistakes that show without the layer, for those that are not written here too.

    A mean for a sum, or a sum for a mean, over an axis of an input; a softmax over another axis.
    """
    for size in sorted({length for one in inputs for length in one.shape[1:] if length > 1}):
        for text, factor in (('a mean in place of a sum', 1. / size), ('a sum in place of a mean', float(size))):
            if close(factor * recorded, found):
                return [('%s, of %d numbers' % (text, size), None)]
    axes = [[axis for axis in range(one.ndim) if one.shape[axis] > 1 and one.min() >= 0. and
             np.allclose(one.sum(axis=axis), 1., atol=1e-4)] for one in (recorded, found)]
    if axes[0] and axes[1] and not set(axes[0]) & set(axes[1]):
        return [('softmax is over axis %d in place of %d' % (axes[1][0], axes[0][0]), None)]
    return []


def mistakes_that_fit(call, arrays, found, own=None, masks=()):
    """(what is wrong, key of a trap or None) of each mistake with which a layer gives `found`, the best first.

    # Arguments
        call: of the manifest. arrays: recorded, by name. found: the output of the port.
        own: the arrays of the port by name, whose inputs of the layer count; the recorded ones where it has none.
        masks: all masks of the model.
    """
    names = call['inputs'] + call['weights'] + call['outputs'][:1]
    if found.size > MAXIMUM or found.dtype.kind != 'f' or any(arrays.get(name) is None for name in names):
        return []
    recorded, found = np.asarray(arrays[call['outputs'][0]], 'f8'), np.asarray(found, 'f8')
    inputs = [np.asarray(arrays[name], 'f8') for name in call['inputs']]
    theirs = [(own or {}).get(name) for name in call['inputs']]
    theirs = [one if other is None or other.shape != one.shape else np.asarray(other, 'f8')
              for one, other in zip(inputs, theirs)]
    if recorded.shape != found.shape or sum(x.size for x in inputs) > MAXIMUM:
        return []
    mask = next((arrays[name] for name in call['input_masks'] if name), None)
    weights = [np.asarray(arrays[name], 'f8') for name in call['weights']]
    kept, known = np.isfinite(recorded), layer_of(call)      # a masked average of a row of padding is 0 / 0

    def output(layer, arguments):
        value = attempt(layer, arguments)
        return None if value is None or value.shape != kept.shape else value[kept]

    whole = (inputs, recorded, found)
    recorded, found = recorded[kept], found[kept]
    if not found.size or not np.isfinite(found).all():
        return []
    if known is None or not close(output(known[0], (call['config'], inputs, mask, weights)), recorded):
        return of_any_layer(*whole) if kept.all() else []
    layer, mistakes = known
    arguments = (call['config'], theirs, mask, weights)
    right, scale, fitting = output(layer, arguments), max(float(np.max(np.abs(found))), 1e-30), OrderedDict()
    left = 0. if right is None else float(np.max(np.abs(right - found)))
    if left <= ROUNDING * scale:        # the layer is right: its inputs differ
        return []
    tried = itertools.chain(mistakes(), added_masks(call, layer, theirs, masks) if mask is None else ())
    for text, key, wrong in tried:
        value = output(wrong, arguments)
        if value is None or not np.isfinite(value).all():
            continue
        rest = float(np.max(np.abs(value - found)))
        if rest <= min(CLOSE * scale, EXPLAINED * left):
            fitting.setdefault(text, (rest > 1e-5 * scale, key))
    return [(text, key) for text, (_, key) in sorted(fitting.items(), key=lambda item: item[1][0])]


class AllFiles(object):
    """The arrays of all files of a set by name."""

    def __init__(self, files):
        self.files = files

    def get(self, name):
        return next((file[name] for file in self.files.values() if name in file), None)

    def __getitem__(self, name):
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value


def causes(results, recorded, found, manifest, stage_map=None):
    """The likely and usual causes of the first difference, as lines.

    # Arguments
        results: of `compare_sets`. recorded, found: {file name: arrays}. manifest: of the reference.
    """
    first = compare.first_difference(results)
    if first is None:
        return []
    order = compare.Order(manifest)
    if not order.captured:
        return ['usual cause: ' + trap.title.replace('`', '') for trap in traps.MODEL_TRAPS
                if first.stage in trap.stages]
    call = order.calls.get(first.stage)
    if call is None:
        keys = ('adam', 'clipnorm', 'decay', 'regularizer', 'cross_entropy')
        return ['usual cause: ' + trap.title.replace('`', '') for trap, _ in traps.find_traps(
            manifest, AllFiles(recorded)) if trap.key in keys]
    arrays, theirs = AllFiles(recorded), AllFiles(found)
    lines = []
    output = theirs.get(compare.mapped(call['outputs'][0], stage_map or {}) or '')
    port = {name: theirs.get(compare.mapped(name, stage_map or {}) or '') for name in call['inputs']}
    masks = [arrays[name] for one in manifest['calls'] for name in one['input_masks'] + one['output_masks']
             if name and arrays.get(name) is not None]
    for text, key in mistakes_that_fit(call, arrays, output, port, masks) if output is not None else ():
        key = 'cudnn_gates' if key == 'hard_sigmoid' and traps.tests.cudnn_gates(call, arrays) else key
        trap = traps.by_key(key) if key else None
        lines.append('likely cause: %s%s' % (text, '; ' + trap.title.replace('`', '') if trap else ''))
    for trap in () if lines else traps.TRAPS:
        if call['class'] in trap.classes:
            why = trap.applies(call, arrays)
            if why:
                lines.append('usual cause: %s (%s)' % (trap.title.replace('`', ''), why))
    return lines
