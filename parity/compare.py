"""Compares two sets of arrays stage by stage and names the first stage that differs. NumPy only, Python 3.6 or later.

A set is one `.npz` file or a folder of them; arrays are called `[batch/]stage[/...]`, as docs/bundles.md lists. The
stages of the decoder are put in the order of time, then of the equations: with input feeding a wrong score at one step
makes wrong decoder states at the next, and the report must name the score. The stages of a captured model are the calls
of its layers, in the order of its manifest.
"""
from collections import ChainMap, OrderedDict, namedtuple
import fnmatch

import numpy as np

from parity.bundle import (  # noqa: F401  for users of this module
    SetError, open_set, printable, read_arrays, read_manifest, read_set, read_stage_map)
from parity.where import describe_difference

BATCHES = ('padded', 'single')
DECODER = ('decoder_states', 'scores', 'masked_scores', 'weights', 'context', 'attentional_states',
           'vocabulary_logits', 'p_gen', 'copy_distribution', 'logits')
INPUTS = ('source', 'copied', 'alignments', 'given', 'output', 'vocabulary', 'tokenizer')
STAGES = (('initial', 'input', 'parameter', 'encoder_states', 'initial_states') + DECODER +
          ('coverage_losses', 'guided_losses', 'token_losses', 'loss', 'gradient', 'losses', 'step_1', 'step_2',
           'step_10', 'step_50', 'greedy', 'beam', 'text'))
# (relative, absolute), where the manifest of a set gives no other
TOLERANCES = {'float32': (1e-6, 4e-6), 'float64': (1e-12, 1e-12)}
# The first updates of a training, before rounding grows: weight decay moves a weight by 1e-4 of itself.
FIRST_UPDATES, FIRST_TOLERANCE = ('step_1', 'step_2'), (1e-6, 1e-6)
EXACT = 'float64.npz', 'float64/'   # file and prefix of the outputs of a captured model in float64
ROUNDING = 3.       # times the distance of the record from float64, within which a difference is rounding
HIDDEN = -1e8       # masked scores and absent names are below it in every framework: -inf, -1e9, the lowest number

Result = namedtuple('Result', 'file name stage problem absolute relative ulp index recorded found order where')
Result.__doc__ = """The result of the comparison of one array.

problem: '' where it is equal within the tolerance, else one word or more. absolute, relative, ulp: the maxima
over the array. index: of the number that exceeds its tolerance most, with the two numbers `recorded` and `found` there.
order: sorts results by what comes first in the calculation. where: in which elements it differs, in words; of an
array without a problem: why its differences are rounding.
"""

Tie = namedtuple('Tie', 'file name row step recorded found margin')
Tie.__doc__ = 'Two tokens that rounding may exchange. The later steps of that row are not compared.'


class Order(object):
    """The stages of a set and their order.

    # Arguments
        manifest: of the set; that of a captured model lists its calls.
    """

    def __init__(self, manifest=None):
        self.calls = OrderedDict((call['name'], call) for call in (manifest or {}).get('calls', ()))
        self.captured = (manifest or {}).get('kind') == 'capture'
        self.outputs = set((manifest or {}).get('output_arrays', ()))
        self.stages = STAGES
        if self.captured:
            steps = sorted({int(name.split('/')[0][5:]) for entry in manifest['files'].values()
                            for name in entry['arrays'] if name.startswith('step_')})
            self.stages = (('input', 'target', 'parameter') + tuple(self.calls) + ('second_call', 'gradient', 'losses')
                           + tuple('step_%d' % step for step in steps))

    def stage_of(self, name):
        """The stage in an array's name: `scores` of `padded/scores`, a call of `layer/CALL/output`."""
        if self.captured and name.startswith('layer/'):
            return name[len('layer/'):].rsplit('/', 1)[0]
        return stage_of(name)

    def part_of(self, name):
        """0 for the states of a layer, which come before its output, else 1."""
        return 0 if name.rsplit('/', 1)[-1].startswith('state_') else 1

    def position(self, stage):
        return self.stages.index(stage) if stage in self.stages else len(self.stages)

    def key(self, name, step):
        """The sort key of a result; `step` is the first that differs in the array."""
        stage = self.stage_of(name)
        if stage in DECODER and not self.captured:
            return self.position(DECODER[0]), step, self.position(stage)
        updates = [int(one[5:]) for one in self.stages if one.startswith('step_') and int(one[5:]) <= step]
        if stage == 'losses' and updates:   # loss number t, from 0, comes after t updates
            return self.position('step_%d' % max(updates)), 2, step
        return self.position(stage), self.part_of(name), 0

    def optional(self, name):
        """Whether a port may omit this array: inner calls, states and masks, but not the outputs of the model."""
        if name.endswith('/runner_up') or name.startswith('tokenizer/'):
            return True     # the one is there for the rule about ties, the other for the text
        return self.captured and name not in self.outputs and name.startswith(
            ('layer/', 'optimizer_start/', 'second_call/'))


def mapped(name, stage_map):
    """The name in the other set for `name`, `None` if omitted: by the longest key that is a prefix of `name`."""
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
    """How many numbers of their common type are between each pair; 0 for equal ones, also for -0. and 0."""
    def ordered(x):
        bits = x.view('u%d' % x.itemsize).astype('u8')
        top = np.uint64(1 << (8 * x.itemsize - 1))
        return np.where(bits >= top, top - (bits - top), bits + top)
    with np.errstate(over='ignore'):    # in the branch that is not taken
        one, other = ordered(one), ordered(other)
        return np.where(one > other, one - other, other - one)


def header_of(arrays, name):
    """(shape, type) of an array, without loading it from its file; None if it is missing."""
    if hasattr(arrays, 'headers'):
        return arrays.headers.get(name)
    array = arrays.get(name)
    return None if array is None else (array.shape, array.dtype)


def mismatch(recorded, found):
    """Why two arrays with these headers cannot be compared number by number, or ''."""
    if found is None:
        return 'missing'
    (shape, dtype), (found_shape, found_dtype) = recorded, found
    if shape != found_shape:
        turned = ': transposed' if shape == found_shape[::-1] else ''
        return 'shape %s in place of %s%s' % (found_shape, shape, turned)
    if dtype.kind != found_dtype.kind or dtype.kind == 'f' and dtype != found_dtype:
        return 'type %s in place of %s' % (found_dtype, dtype)
    return ''


def distances(recorded, found, exact):
    """Compares two arrays of floats with the same in float64.

    # Returns
        Whether the differences are rounding: `found` is about as near to the exact numbers as the record itself. A
        phrase about the distances.
    """
    def sizes(one, other):
        with np.errstate(all='ignore'):
            away = np.abs(one.astype('f8') - other.astype('f8'))
        return np.array([np.max(away), np.sqrt(np.mean(away ** 2))])
    old, new = sizes(recorded, exact), sizes(found, exact)
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        return False, ''
    if (new <= ROUNDING * old).all():
        return True, ('ill-conditioned here: both are as far from float64 (%.2g recorded, %.2g here) as from each '
                      'other (%.2g)' % (old[0], new[0], sizes(recorded, found)[0]))
    return False, '%.2g from float64, the record %.2g' % (new[0], old[0])


def compare_array(file, name, recorded, found, rtol, atol, order=None, padding=None, scaled=False, exact=None):
    """`Result` of one pair of arrays with the same shape and kind.

    # Arguments
        padding: Boolean array over the first axes, or None: which positions are padding.
        exact: the same array in float64, or None.
        scaled: Boolean, `atol` is a share of the largest recorded number.
    """
    order = order or Order()
    stage = order.stage_of(name)
    if recorded.dtype.kind != 'f':
        wrong = recorded != found
        absolute = np.zeros(wrong.shape) if recorded.dtype.kind in 'Ub' else np.abs(
            recorded.astype('f8') - found.astype('f8'))
        relative = ulp = np.zeros(wrong.shape)
        excess = wrong.astype('f8')
    else:
        if stage in ('masked_scores', 'logits') and not order.captured:
            recorded, found = [np.where(x < HIDDEN, x.dtype.type(-np.inf), x) for x in (recorded, found)]
        if scaled and recorded.size:
            finite = recorded[np.isfinite(recorded)]
            atol = atol * float(np.max(np.abs(finite))) if finite.size else atol
        same = (recorded == found) | (np.isnan(recorded) & np.isnan(found))
        with np.errstate(all='ignore'):
            absolute = np.where(same, 0., np.abs(recorded.astype('f8') - found.astype('f8')))
            relative = np.where(same, 0., absolute / np.abs(recorded.astype('f8')))
            excess = np.where(same, 0., absolute - (atol + rtol * np.abs(recorded.astype('f8'))))
        excess = np.where(np.isfinite(excess), excess, np.inf)
        wrong, ulp = excess > 0, np.where(same, np.uint64(0), ulps(recorded, found))
    if not absolute.size:
        return Result(file, name, stage, '', 0., 0., 0, (), None, None, order.key(name, 0), '')
    at = np.unravel_index(np.argmax(excess if wrong.any() else absolute), wrong.shape)
    step = int(np.argmax(wrong.reshape(wrong.shape[0], wrong.shape[1], -1).any(axis=(0, 2)))) if wrong.ndim > 1 else (
        int(np.argmax(wrong)) if wrong.ndim else 0)
    problem, where = '', ''
    if wrong.any():
        rounding, why = (False, '') if exact is None or exact.shape != recorded.shape else distances(
            recorded, found, exact)
        problem = '' if rounding else 'differs'
        where = why if rounding else '; '.join(filter(None, (
            describe_difference(recorded, found, wrong, padding, order.captured), why)))
    return Result(file, name, stage, problem, float(np.max(absolute)),
                  float(np.max(relative)), int(np.max(ulp)), tuple(int(i) for i in at), recorded[at].item(),
                  found[at].item(), order.key(name, step), where)


def problem_result(file, name, problem, order):
    return Result(file, name, order.stage_of(name), problem, 0., 0., 0, (), None, None, order.key(name, 0), '')


def padding_of(name, recorded, order):
    """Which positions of an array are padding, a Boolean array over its first axes, or None."""
    if order.captured:
        call = order.calls.get(order.stage_of(name), {})
        mask = next((one for one in list(call.get('output_masks', ())) + list(call.get('input_masks', ()))
                     if one and header_of(recorded, one)), None)
        return ~recorded[mask].astype(bool) if mask and len(header_of(recorded, mask)[0]) == 2 else None
    stage, prefix = stage_of(name), name.split('/')[0] + '/' if name.split('/')[0] in BATCHES else ''

    def padded(side):
        ids = recorded.get(prefix + side)
        return None if ids is None or ids.ndim != 2 else ids == 0

    source, output = padded('source'), padded('output')
    if stage == 'encoder_states':
        return source
    if stage in ('scores', 'masked_scores', 'weights') and source is not None and output is not None:
        return output[:, :, None] | source[:, None]
    return output if stage in DECODER or stage in ('token_losses', 'coverage_losses') else None


def tolerance_of(name, dtype, given, entry, order):
    """(relative, absolute) of an array: `given`, else those of its stage or file, else those of its type."""
    if given is not None:
        return given
    entry = entry or {}
    if entry.get('kind') == 'training' and order.stage_of(name) in FIRST_UPDATES:
        return FIRST_TOLERANCE
    if 'tolerance' in entry:
        return tuple(entry['tolerance'])
    return TOLERANCES.get(dtype.name, (0., 0.))


def largest_logit(recorded, order):
    """The largest finite logit of a file, for the limit of a tie; 0 where there is none."""
    largest = [0.]
    for name in recorded:
        header = header_of(recorded, name)
        if order.stage_of(name) == 'logits' and header[1].kind == 'f':
            values = recorded[name]
            values = values[np.isfinite(values) & (values > HIDDEN)]
            largest.append(float(np.max(np.abs(values))) if values.size else 0.)
    return max(largest)


def compare_files(file, recorded, found, tolerances=None, stage_map=None, entry=None, order=None, exact=None):
    """Results and ties for the arrays of one file.

    # Arguments
        recorded, found: {name: array}, or `ArrayFile`s, of which one array at a time is loaded.
        tolerances: (relative, absolute) for every array, or `None` for those of the file, stage or type.
        stage_map: names in `found`, see `mapped`.
        entry: of the file in the manifest. order: `Order`.
        exact: the arrays of a captured model in float64, or None.
    """
    order, ties, skipped = order or Order(), [], {}
    names = [(name, mapped(name, stage_map or {})) for name in recorded]
    theirs = {name: other for name, other in names if other is not None}

    def tolerance(name):
        return tolerance_of(name, header_of(recorded, name)[1], tolerances, entry, order)

    original = recorded
    for name in theirs:
        group = [other for other in theirs if other.startswith(name[:-3])] if name.endswith('/ids') else []
        if name[:-3] + 'runner_up' not in group or name[:-3] + 'margins' not in group or (
                header_of(found, theirs[name]) is None):
            continue
        rtol, atol = tolerance(name[:-3] + 'margins')
        values = {other: found.get(theirs[other]) for other in group}
        recorded = ChainMap({}, recorded)
        ties += _skip_ties(file, name, recorded, values, 2. * (atol + rtol * largest_logit(original, order)))
        skipped.update(values)
    results = []
    for name, other in theirs.items():
        header = header_of(recorded, name) if name not in skipped else (recorded[name].shape, recorded[name].dtype)
        their_header = header_of(found, other) if skipped.get(name) is None else (
            skipped[name].shape, skipped[name].dtype)
        if their_header is None and order.optional(name):
            continue
        problem = mismatch(header, their_header)
        if problem:
            results.append(problem_result(file, name, problem, order))
            continue
        results.append(compare_array(
            file, name, recorded[name], found[other] if skipped.get(name) is None else skipped[name], *tolerance(name),
            order=order, padding=padding_of(name, original, order), scaled=order.captured and tolerances is None,
            exact=exact.get(EXACT[1] + name) if exact and header[1].kind == 'f' else None))
    return results, ties


def _skip_ties(file, name, recorded, found, limit):
    """Copies the recorded values after a tie into `found`, pads both to one length, and returns the ties."""
    ids, rank, ties = found[name], recorded[name].ndim - 1, []
    parts = [recorded[name[:-3] + part] for part in ('runner_up', 'margins')]
    if rank < 0 or any(part.shape != recorded[name].shape for part in parts) or (
            ids.shape[:-1] != recorded[name].shape[:-1] or ids.dtype.kind not in 'iu' or recorded[name].ndim != ids.ndim
            or recorded[name].dtype.kind not in 'iu'):
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


def pair_files(recorded, found):
    """`found` with the file names of `recorded`: two sets of one file each are compared under any names."""
    return OrderedDict(zip(recorded, found.values())) if len(recorded) == len(found) == 1 else found


def compare_sets(recorded, found, manifest=None, tolerances=None, stage_map=None, progress=None, exact=None):
    """Results and ties of two sets, as `read_set` or `open_set` gives them.

    Tolerances are the given ones, else those of each file in the manifest, else those of the type. `exact`: the arrays
    of a captured model in float64, or None.
    `not_compared` lists the files that `found` does not have.
    """
    found, order = pair_files(recorded, found), Order(manifest)
    results, ties = [], []
    for file, arrays in recorded.items():
        if file in found:
            entry = (manifest or {}).get('files', {}).get(file, {})
            one, other = compare_files(file, arrays, found[file], tolerances, stage_map, entry, order,
                                       exact)
            results, ties = results + one, ties + other
        if progress:
            progress.advance()
    return results, ties


def not_compared(recorded, found, stage_map=None, order=None):
    """What only one of two sets has.

    # Returns
        Files missing in `found`, arrays missing there that a port need not have, and files and arrays that the
        reference lacks, as three lists of names.
    """
    order, stage_map, found = order or Order(), stage_map or {}, pair_files(recorded, found)
    files = [file for file in recorded if file not in found and stage_map.get(file, '') is not None]
    missing, unknown = [], [file for file in found if file not in recorded]
    for file in recorded:
        if file in found:
            theirs = {mapped(name, stage_map): name for name in recorded[file]}
            missing += ['%s %s' % (file, name) for other, name in theirs.items() if other is not None and
                        other not in found[file] and order.optional(name) and not name.endswith('runner_up')]
            unknown += ['%s %s' % (file, name) for name in found[file] if name not in theirs]
    return files, missing, unknown


def choose_files(files, patterns):
    """The files whose names fit one of the patterns; all without patterns."""
    return OrderedDict((name, file) for name, file in files.items()
                       if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns))


def first_difference(results):
    """The `Result` that differs and comes first in the calculation, or `None`."""
    wrong = [result for result in results if result.problem]
    return min(wrong, key=lambda result: result.order) if wrong else None


def place(result):
    at = '[%s]' % ', '.join(map(str, result.index)) if result.index else ''
    return printable('%s %s%s' % (result.file, result.name, at))
