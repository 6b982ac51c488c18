"""Describes where two arrays differ: on padding, from a step on, by a factor, in another order. NumPy only."""
import numpy as np

MAXIMUM = 2 ** 22       # elements, above which no reordering is tried
CLOSE = 1e-4            # of the largest number: two arrays are the same in another order


def describe_difference(recorded, found, wrong, padding=None, captured=False):
    """Where and how two arrays of one shape differ.

    # Arguments
        wrong: Boolean array, which elements differ beyond their tolerance; at least one does.
        padding: Boolean array over the first axes, or None.
        captured: Boolean, the arrays are those of a captured layer: axis 1 is time only for arrays (B, T, D).

    # Returns
        String: phrases joined by '; '.
    """
    phrases = ['in %d of %d elements' % (np.count_nonzero(wrong), wrong.size)]
    if padding is not None and wrong.shape[:padding.ndim] == padding.shape and padding.any():
        at = wrong.reshape(padding.shape + (-1,)).any(axis=-1)
        if not (at & ~padding).any():
            phrases.append('only on padding')
        elif not (at & padding).any():
            phrases.append('only outside of padding')
    phrases += along_axes(wrong)
    if recorded.dtype.kind == 'f' and recorded.size <= MAXIMUM:
        phrases += how(recorded.astype('f8'), found.astype('f8'))
    return '; '.join(phrases)


def along_axes(wrong):
    """Phrases about rows and time steps."""
    found = []
    if wrong.ndim > 1 and wrong.shape[0] > 1:
        rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
        if len(rows) < len(wrong):
            found.append('in rows %s' % ', '.join(map(str, rows[:8])) + (', ...' if len(rows) > 8 else ''))
    if wrong.ndim == 3 and wrong.shape[1] > 1:
        steps = wrong.any(axis=(0, 2))
        first, last = int(np.argmax(steps)), len(steps) - 1 - int(np.argmax(steps[::-1]))
        if first == last:
            found.append('at time step %d only' % first)
        elif first:
            found.append('from time step %d on' % first)
        elif last < len(steps) - 1:
            found.append('up to time step %d' % last)
    return found


def how(recorded, found):
    """Phrases about values: a factor, an offset, an order, zeros."""
    if not (np.isfinite(recorded).all() and np.isfinite(found).all()):
        bad = np.count_nonzero(~np.isfinite(found) & np.isfinite(recorded))
        return ['%d values are not finite' % bad] if bad else []
    scale = float(np.max(np.abs(recorded)))
    if not scale or not recorded.ndim:
        return []
    if not found.any():
        return ['all zeros']

    def same(one, other):
        return one.shape == other.shape and bool(np.max(np.abs(one - other)) <= CLOSE * scale)

    large = np.abs(recorded) > 1e-3 * scale
    factor = float(np.median(found[large] / recorded[large]))
    if recorded.size > 1 and abs(factor - 1.) > CLOSE and same(factor * recorded, found):
        return ['a constant factor, %.6g' % factor]
    offset = float(np.median(found - recorded))
    if recorded.size > 1 and abs(offset) > CLOSE * scale and same(recorded + offset, found):
        return ['a constant offset, %.6g' % offset]
    if recorded.ndim >= 2 and recorded.shape[-1] == recorded.shape[-2] and same(np.swapaxes(recorded, -1, -2), found):
        return ['transposed']
    for axis in range(recorded.ndim):
        if recorded.shape[axis] > 1 and same(np.flip(recorded, axis), found):
            return ['reversed along axis %d' % axis]
    for axis in range(recorded.ndim):
        if recorded.shape[axis] > 1 and permuted(recorded, found, axis, scale):
            return ['rows permuted' if axis == 0 else 'permuted along axis %d' % axis]
    return []


def permuted(recorded, found, axis, scale):
    """Whether one array is the other with its slices along an axis in another order."""
    one, other = [np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in (recorded, found)]
    direction = np.random.RandomState(0).normal(size=one.shape[1])
    one, other = [x[np.argsort(x.dot(direction), kind='mergesort')] for x in (one, other)]
    return bool(np.max(np.abs(one - other)) <= CLOSE * scale)
