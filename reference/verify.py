"""Compares a file of the reference set with the NumPy model; a file that differs is not recorded. Needs NumPy only.

Forward stages, losses and both searches are computed again. A gradient is compared with the difference of the loss
along one random direction of each weight; a training with the arithmetic of its optimizer.
"""
from collections import OrderedDict

import numpy as np

from parity import compare
from reference import numpy_search
from reference.cases import LIMIT
from reference.numpy_losses import coverage_losses, guided_alignment_losses, loss, token_losses
from reference.numpy_memories import model_of
from reference.numpy_model import END, PAD, START, NumpyModel

# (relative, absolute) tolerances of float32 and float64 graphs against float64 NumPy
AGREEMENT = {'float32': (2e-5, 2e-5), 'float64': (1e-10, 1e-10)}
# tolerance of a gradient, which the rounding of the loss's difference limits
SLOPE = {'float32': 2e-3, 'float64': 1e-5}
ADAM = dict(beta_1=0.9, beta_2=0.999, epsilon=1e-7)


def parameters_of(arrays, prefix='parameter/'):
    """Returns the arrays whose names have the prefix, without it."""
    return OrderedDict((name[len(prefix):], value) for name, value in arrays.items() if name.startswith(prefix))


def numpy_model_of(entry, arrays):
    return model_of(entry['model'], parameters_of(arrays), entry.get('separators'))


def guide_of(model, arrays, prefix):
    """Gold alignments of a batch and the positions that attention covers; `None` without guided alignment."""
    if prefix + 'alignments' not in arrays:
        return None
    return arrays[prefix + 'alignments'], model.start(arrays[prefix + 'source'])[0].mask


def disagreements(file, entry, arrays):
    """Returns a `compare.Result` for each array of a file with which the NumPy model disagrees.

    # Arguments
        file: name of the file.
        entry: dict, its entry of the manifest.
        arrays: its arrays by name.
    """
    check = {'case': _case, 'run': _run, 'training': _training}[entry['kind']]
    expected = OrderedDict()
    for name, value in check(entry, arrays):
        if name not in arrays:
            raise AssertionError('%s has no %s' % (file, name))
        expected[name] = np.asarray(value).astype(arrays[name].dtype)
    dtype = next(value.dtype.name for value in arrays.values() if value.dtype.kind == 'f')
    results, _ = compare.compare_files(file, expected, arrays, AGREEMENT[dtype])
    return [result for result in results if result.problem]


def forward(model, entry, arrays, prefix):
    """Yields (name, value) of the teacher-forced stages of a batch."""
    source, given, output = [arrays[prefix + name] for name in ('source', 'given', 'output')]
    stages = model.forward(source, given, arrays.get(prefix + 'copied'))
    stages.update(losses(entry['model'], stages, output, guide_of(model, arrays, prefix)))
    for name, value in stages.items():
        yield prefix + name, value


def losses(settings, stages, output, guide=None):
    """Returns token_losses and loss by name, and the losses of attention that they contain.

    These are coverage_losses (eq. 13) and guided_losses, whose gold alignments and valid positions are in `guide`.
    """
    arrays, each = OrderedDict(), token_losses(stages['logits'], output, settings['label_smoothing'])
    rate = settings.get('coverage_loss')        # a set that is older than this setting does not have it
    if rate:
        arrays['coverage_losses'] = coverage_losses(stages['weights'], output)
        each = each + rate * arrays['coverage_losses']
    if guide:
        arrays['guided_losses'] = guided_alignment_losses(stages['weights'], *guide, target=output)
        each = each + settings['guided_alignment'] * arrays['guided_losses']
    arrays['token_losses'], arrays['loss'] = each, np.sum(each) / np.count_nonzero(output)
    return arrays


def searches(model, entry, arrays, prefix, limits):
    """Yields (name, value) of greedy and beam search of a batch."""
    source, options = arrays[prefix + 'source'], dict(entry['beam'], copied=arrays.get(prefix + 'copied'))
    greedy = numpy_search.greedy(model, source, limits, options['copied'])
    for name in greedy._fields:
        yield prefix + 'greedy/' + name, getattr(greedy, name)
    hypotheses = numpy_search.beam(model, source, limits, **options)
    shape = arrays[prefix + 'beam/ids'].shape
    arrays_of = {name: np.zeros(shape + (source.shape[1],) * (name == 'weights'))
                 for name in ('ids', 'log_probabilities', 'weights', 'token_margins')}
    lengths, rankings = np.zeros(shape[:2]), np.full(shape[:2], -np.inf)
    for row, best in enumerate(hypotheses):
        for rank, hypothesis in enumerate(best):
            length = lengths[row, rank] = len(hypothesis.ids)
            rankings[row, rank] = hypothesis.ranking
            for name, field in (('ids', 'ids'), ('log_probabilities', 'log_probabilities'), ('weights', 'weights'),
                                ('token_margins', 'margins')):
                arrays_of[name][row, rank, :length] = getattr(hypothesis, field)
    for name, value in list(arrays_of.items()) + [('lengths', lengths), ('rankings', rankings)]:
        yield prefix + 'beam/' + name, value


def _case(entry, arrays):
    model = numpy_model_of(entry, arrays)
    for batch in compare.BATCHES:
        prefix = batch + '/'
        for pair in forward(model, entry, arrays, prefix):
            yield pair
        for pair in searches(model, entry, arrays, prefix, np.full(len(arrays[prefix + 'source']), LIMIT)):
            yield pair
    for pair in slopes(model, entry, arrays, 'padded/'):
        yield pair


def slopes(model, entry, arrays, prefix):
    """Yields (name, NaN) of each gradient that is not the slope of the loss along a random direction."""
    source, given, output = [arrays[prefix + name] for name in ('source', 'given', 'output')]
    random, step, guide = np.random.RandomState(0), 1e-6, guide_of(model, arrays, prefix)
    for name, value in parameters_of(arrays).items():
        gradient = arrays[prefix + 'gradient/' + name].astype('f8')
        direction, side_losses = random.uniform(-1., 1., value.shape), []
        for sign in (1., -1.):
            model.weights[name] = value.astype('f8') + sign * step * direction
            stages = model.forward(source, given, arrays.get(prefix + 'copied'))
            side_losses.append(losses(entry['model'], stages, output, guide)['loss'])
        model.weights[name] = value.astype('f8')
        slope, recorded = (side_losses[0] - side_losses[1]) / (2. * step), np.sum(gradient * direction)
        tolerance = SLOPE[arrays[prefix + 'loss'].dtype.name] * max(1., np.sqrt(np.sum(gradient ** 2)))
        if not abs(slope - recorded) <= tolerance:
            yield prefix + 'gradient/' + name, np.full(value.shape, np.nan)


def _run(entry, arrays):
    model, source = numpy_model_of(entry, arrays), arrays['source']
    for pair in forward(model, entry, arrays, ''):
        yield pair
    for pair in searches(model, entry, arrays, '', 2 * np.count_nonzero(source, axis=1) + 10):
        yield pair
    if entry.get('gradients'):
        for pair in slopes(model, entry, arrays, ''):
            yield pair


def training_batch(arrays, rows):
    """Returns source, given and output ids of some rows of a training's sentences."""
    source, target = arrays['input/source'][rows], arrays['input/target'][rows]
    given = np.concatenate([np.full((len(target), 1), START), target], axis=1)
    output = np.concatenate([target, np.full((len(target), 1), PAD, target.dtype)], axis=1)
    output[np.arange(len(target)), np.count_nonzero(target, axis=1)] = END
    return source, given, output


def losses_of_updates(settings, arrays):
    """Returns the recorded losses, with those of the updates after recorded weights computed here."""
    found = arrays['losses'].astype('f8')
    for update, prefix in ((0, ''), (1, 'step_1/'), (2, 'step_2/'), (10, 'step_10/')):
        source, given, output = training_batch(arrays, arrays['input/batches'][update])
        logits = NumpyModel(settings, parameters_of(arrays, prefix + 'parameter/')).forward(source, given)['logits']
        found[update] = loss(logits, output, settings['label_smoothing'])
    return found


def _training(entry, arrays):
    """Yields Adam's weights from the recorded moments, the averages, and the loss after the last step.

    If the rows of each batch are recorded, also the loss at the recorded weights.
    """
    settings = entry['model']
    if 'input/batches' in arrays:
        yield 'losses', losses_of_updates(settings, arrays)
    before = parameters_of(arrays)
    averages = {name: np.zeros(value.shape) for name, value in before.items()}
    for update in (1, 2):
        prefix = 'step_%d/' % update
        rate = settings['learning_rate'] * (1. - (update - 1) / 50. if settings['decay'] == 'linear' else 1.)
        factor = rate * np.sqrt(1. - ADAM['beta_2'] ** update) / (1. - ADAM['beta_1'] ** update)
        after, decay = OrderedDict(), min(settings['averaging'], (update - 1.) / (update + 8.))
        for name, value in before.items():
            after[name] = arrays[prefix + 'parameter/' + name].astype('f8')
            if settings['optimizer'] == 'adam':
                m, v = [arrays[prefix + 'slot/%s_%s' % (name, slot)].astype('f8') for slot in 'mv']
                decayed = value * (1. - rate * settings['weight_decay'] * (value.ndim > 1))
                after[name] = decayed - factor * m / (np.sqrt(v) + ADAM['epsilon'])
                yield prefix + 'parameter/' + name, after[name]
                if update == 1:     # m = (1 - b1) g and v = (1 - b2) g^2
                    gradient = m / (1. - ADAM['beta_1'])
                    yield prefix + 'slot/%s_v' % name, (1. - ADAM['beta_2']) * gradient ** 2
            averages[name] = decay * averages[name] + (1. - decay) * after[name]
            yield prefix + 'slot/%s_average' % name, averages[name]
        before = after
    model = NumpyModel(settings, parameters_of(arrays, 'step_50/parameter/'))
    source, given, output = training_batch(arrays, slice(None))
    valid, logits = output != PAD, model.forward(source, given)['logits']
    yield 'step_50/evaluated', np.array([loss(logits, output), np.mean(np.argmax(logits, -1)[valid] == output[valid])])
