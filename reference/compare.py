"""Compares two sets of arrays stage by stage and names the first stage that differs. NumPy alone, Python 3.6 or later.

A set is one `.npz` file or a folder of them; arrays are called `[batch/]stage[/...]`, as docs/porting.md lists. The
stages of the decoder are put in the order of time, then of the equations: with input feeding a wrong score at one step
makes wrong decoder states at the next, and the score is to be named.
"""
from collections import OrderedDict, namedtuple
import json

import numpy as np

from reference.bundle import (  # noqa: F401  what users of this module need too
    SetError, open_set, read_arrays, read_manifest, read_set, read_stage_map)

BATCHES = ('padded', 'single')
DECODER = ('decoder_states', 'scores', 'masked_scores', 'weights', 'context', 'attentional_states',
           'vocabulary_logits', 'p_gen', 'copy_distribution', 'logits')
INPUTS = ('source', 'copied', 'given', 'output', 'vocabulary')
STAGES = (('initial', 'input', 'parameter', 'encoder_states', 'initial_states') + DECODER +
          ('coverage_losses', 'token_losses', 'loss', 'gradient', 'losses', 'step_1', 'step_2', 'step_10', 'step_50',
           'greedy', 'beam', 'text'))
# (relative, absolute), where the manifest of a set gives no other
TOLERANCES = {'float32': (1e-6, 4e-6), 'float64': (1e-12, 1e-12)}
HIDDEN = -1e8       # a masked score or absent name, whatever a framework writes there: -inf, -1e9, the lowest number

Result = namedtuple('Result', 'file name stage problem absolute relative ulp index recorded found order')
Result.__doc__ = """How one array fared.

problem: '' where it is equal within the tolerance, else one word or more. absolute, relative, ulp: the worst of each
over the array. index: of the number that exceeds its tolerance most, with the two numbers `recorded` and `found` there.
order: sorts results by what comes first in the calculation.
"""

Tie = namedtuple('Tie', 'file name row step recorded found margin')
Tie.__doc__ = 'Two tokens that rounding may exchange: the later steps of that row are not compared.'


def mapped(name, stage_map):
    """Their name for our `name`, `None` where it was left out: the longest key that is the name or leads to it."""
    keys = [key for key in stage_map if name == key or name.startswith(key.rstrip('/') + '/')]
    if not keys:
        return name
    key = max(keys, key=len)
    return None if stage_map[key] is None else stage_map[key].rstrip('/') + name[len(key.rstrip('/')):]


def stage_of(name):
    """The stage in an array's name: `scores` of `padded/scores`, `gradient` of `padded/gradient/output/kernel`."""
    parts = name.split('/')
    stage = parts[1] if parts[0] in BATCHES and len(parts) > 1 else parts[0]
    return 'input' if stage in INPUTS else stage


# Differences

def ulps(one, other):
    """How many numbers of their common type lie between each pair; 0 for equal ones, -0. and 0. among them."""
    def ordered(x):
        bits = x.view('u%d' % x.itemsize).astype('u8')
        top = np.uint64(1 << (8 * x.itemsize - 1))
        return np.where(bits >= top, top - (bits - top), bits + top)
    with np.errstate(over='ignore'):    # in the branch that is not taken
        one, other = ordered(one), ordered(other)
        return np.where(one > other, one - other, other - one)


def compare_array(file, name, recorded, found, rtol, atol):
    """`Result` of one pair of arrays; `found` is `None` where it is missing."""
    stage = stage_of(name)

    def result(problem, absolute=0., relative=0., ulp=0, index=(), values=(None, None), step=0):
        known = STAGES.index(stage) if stage in STAGES else len(STAGES)
        first = STAGES.index(DECODER[0])
        order = (first, step, known) if stage in DECODER else (known, 0, 0)
        return Result(file, name, stage, problem, absolute, relative, ulp, tuple(int(i) for i in index), values[0],
                      values[1], order)

    if found is None:
        return result('missing')
    if recorded.shape != found.shape:
        return result('shape %s in place of %s' % (found.shape, recorded.shape))
    if recorded.dtype.kind != found.dtype.kind or recorded.dtype.kind == 'f' and recorded.dtype != found.dtype:
        return result('type %s in place of %s' % (found.dtype, recorded.dtype))
    if recorded.dtype.kind != 'f':
        wrong = recorded != found
        absolute = np.zeros(wrong.shape) if recorded.dtype.kind in 'Ub' else np.abs(
            recorded.astype('f8') - found.astype('f8'))
        relative = ulp = np.zeros(wrong.shape)
        excess = wrong.astype('f8')
    else:
        if stage in ('masked_scores', 'logits'):
            recorded, found = [np.where(x < HIDDEN, x.dtype.type(-np.inf), x) for x in (recorded, found)]
        same = (recorded == found) | (np.isnan(recorded) & np.isnan(found))
        with np.errstate(all='ignore'):
            absolute = np.where(same, 0., np.abs(recorded.astype('f8') - found.astype('f8')))
            relative = np.where(same, 0., absolute / np.abs(recorded.astype('f8')))
            excess = np.where(same, 0., absolute - (atol + rtol * np.abs(recorded.astype('f8'))))
        excess = np.where(np.isfinite(excess), excess, np.inf)
        wrong, ulp = excess > 0, np.where(same, np.uint64(0), ulps(recorded, found))
    if not absolute.size:
        return result('')
    at = np.unravel_index(np.argmax(excess if wrong.any() else absolute), wrong.shape)
    step = int(np.argmax(wrong.reshape(wrong.shape[0], wrong.shape[1], -1).any(axis=(0, 2)))) if wrong.ndim > 1 else 0
    return result('differs' if wrong.any() else '', float(np.max(absolute)), float(np.max(relative)), int(np.max(ulp)),
                  at, (recorded[at].item(), found[at].item()), step)


def compare_files(file, recorded, found, tolerances=None, stage_map=None):
    """Results and ties for the arrays of one file.

    # Arguments
        tolerances: (relative, absolute) for every array, or `None` for those of each array's type.
        stage_map: names in `found`, see `mapped`.
    """
    def tolerance(array):
        return tolerances or TOLERANCES.get(array.dtype.name, (0., 0.))

    names = [(name, mapped(name, stage_map or {})) for name in recorded]
    found = {name: found.get(theirs) for name, theirs in names if theirs is not None}
    ties = []
    largest = max([np.max(np.abs(array[array > HIDDEN])) for name, array in recorded.items()
                   if stage_of(name) == 'logits'] or [0.])
    for name in list(found):
        if not name.endswith('/ids') or found[name] is None or name[:-3] + 'runner_up' not in recorded:
            continue
        group = {other: found[other] for other in found if other.startswith(name[:-3])}
        rtol, atol = tolerance(recorded[name[:-3] + 'margins'])
        recorded = dict(recorded)
        ties += _skip_ties(file, name, recorded, group, 2. * (atol + rtol * float(largest)))
        found.update(group)
    # A runner-up is there for the rule about ties; a port need not tell its own.
    compared = [name for name, _ in names if name in found and not (
        name.endswith('/runner_up') and found[name] is None)]
    return [compare_array(file, name, recorded[name], found[name], *tolerance(recorded[name]))
            for name in compared], ties


def _skip_ties(file, name, recorded, found, limit):
    """Makes what follows a tie equal in `found`, and both as long; returns the ties."""
    ids, rank, ties = found[name], recorded[name].ndim - 1, []
    if ids.shape[:-1] != recorded[name].shape[:-1] or ids.dtype.kind not in 'iu' or recorded[name].ndim != ids.ndim:
        return ties
    lengths = recorded[name].shape[-1], ids.shape[-1]
    for arrays, length in ((recorded, lengths[0]), (found, lengths[1])):
        for other in found:
            array = arrays[other]
            if array is not None and array.ndim > rank and array.shape[rank] == length:
                more = [(0, max(lengths) - length if axis == rank else 0) for axis in range(array.ndim)]
                arrays[other] = np.pad(array, more, 'constant')
    wanted, ids = recorded[name], found[name]
    runner_up, margins = [recorded[name[:-3] + part] for part in ('runner_up', 'margins')]
    for row in np.ndindex(*ids.shape[:-1]):
        steps = np.flatnonzero(wanted[row] != ids[row])
        if not len(steps) or ids[row][steps[0]] != runner_up[row][steps[0]] or not margins[row][steps[0]] <= limit:
            continue
        step = steps[0]
        ties.append(Tie(file, name, tuple(int(i) for i in row), int(step), int(wanted[row][step]), int(ids[row][step]),
                        float(margins[row][step])))
        for other, array in found.items():
            if array is None or array.shape != recorded[other].shape:
                continue
            found[other] = array = array.copy()
            if array.ndim > rank:
                array[row][step:] = recorded[other][row][step:]
            else:
                array[row] = recorded[other][row]
    return ties


def compare_sets(recorded, found, manifest=None, tolerances=None, stage_map=None):
    """Results and ties of two sets, as `read_set` gives them.

    Tolerances are the given ones, else those of each file in the manifest, else those of the type. Two sets of one
    file each are compared whatever the files are called.
    """
    if len(recorded) == len(found) == 1:
        found = dict(zip(recorded, found.values()))
    unknown = sorted(set(found) - set(recorded))
    if unknown:
        raise SetError('%s: the reference set has no such file' % unknown[0])
    results, ties = [], []
    for file, arrays in recorded.items():
        if file not in found and (stage_map or {}).get(file, '') is None:
            continue
        if file not in found:
            results.append(Result(file, '', 'input', 'file missing', 0., 0., 0, (), None, None, (-1, 0, 0)))
            continue
        entry = (manifest or {}).get('files', {}).get(file, {})
        own = tolerances or (tuple(entry['tolerance']) if 'tolerance' in entry else None)
        one, other = compare_files(file, arrays, found[file], own, stage_map)
        results, ties = results + one, ties + other
    return results, ties


# Reports

def first_difference(results):
    """The `Result` that differs and comes first in the calculation, or `None`."""
    wrong = [result for result in results if result.problem]
    return min(wrong, key=lambda result: result.order) if wrong else None


def place(result):
    at = '[%s]' % ', '.join(map(str, result.index)) if result.index else ''
    return '%s %s%s' % (result.file, result.name, at)


def report(results, ties):
    """Lines for people: the first stage that differs, then one line a stage with its worst array."""
    lines, first = [], first_difference(results)
    if first:
        values = '' if first.recorded is None else ': %r recorded, %r here' % (first.recorded, first.found)
        lines.append('first stage that differs: %s, at %s, %s%s' % (first.stage, place(first), first.problem, values))
    else:
        lines.append('no stage differs: %d arrays' % len(results))
    lines.append('%-8s %-18s %6s %9s %9s %12s  %s' % ('', 'stage', 'arrays', 'absolute', 'relative', 'ULP', 'worst at'))
    stages = OrderedDict()
    for result in results:
        stages.setdefault(result.stage, []).append(result)
    for stage in sorted(stages, key=lambda stage: STAGES.index(stage) if stage in STAGES else len(STAGES)):
        group = stages[stage]
        worst = max(group, key=lambda result: (bool(result.problem), result.absolute))
        absolute, relative, ulp = [max(getattr(result, field) for result in group)
                                   for field in ('absolute', 'relative', 'ulp')]
        lines.append('%-8s %-18s %6d %9.2g %9.2g %12d  %s' % (
            'DIFFERS' if worst.problem else 'same' if absolute == 0 else 'close', stage, len(group), absolute,
            relative, ulp, place(worst) if worst.problem or absolute else ''))
    lines += ['tie: %s %s, step %d: %d recorded, %d here, margin %.2g' % (
        tie.file, tie.name + str(list(tie.row)), tie.step, tie.recorded, tie.found, tie.margin) for tie in ties]
    return lines


def as_json(results, ties):
    """The same for a program: `equal`, `first`, every array and every tie, as a string."""
    def plain(result):
        values = result._asdict()
        values.pop('order')
        # JSON knows no infinity
        return {key: str(value) if isinstance(value, float) and not np.isfinite(value) else value
                for key, value in values.items()}
    first = first_difference(results)
    return json.dumps({'equal': first is None, 'first': plain(first) if first else None,
                       'arrays': [plain(result) for result in results], 'ties': [tie._asdict() for tie in ties]},
                      indent=1, allow_nan=False)
