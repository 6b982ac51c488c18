"""Holds a file of the reference set against the NumPy model: what does not agree is not recorded. NumPy alone.

Forward stages, losses and both searches are calculated again. A gradient is held against the difference of the loss
along one direction through all numbers of each weight; a training against the arithmetic of its optimiser.
"""
from collections import OrderedDict

import numpy as np

from reference import compare
from reference.cases import LIMIT
from reference.numpy_model import (
    PAD, NumpyModel, coverage_losses, guided_alignment_losses, loss, token_losses)

# (relative, absolute): float32 graphs against float64 NumPy, and rounding of differences
AGREEMENT = {'float32': (2e-5, 2e-5), 'float64': (1e-10, 1e-10)}
SLOPE = {'float32': 2e-3, 'float64': 1e-5}
ADAM = dict(beta_1=0.9, beta_2=0.999, epsilon=1e-7)


def parameters_of(arrays, prefix='parameter/'):
    return OrderedDict((name[len(prefix):], value) for name, value in arrays.items() if name.startswith(prefix))


def numpy_model_of(entry, arrays):
    return NumpyModel(entry['model'], parameters_of(arrays), entry.get('separators'))


def guide_of(model, arrays, prefix):
    """Gold alignments of a batch and the positions that attention covers; `None` without guided alignment."""
    if prefix + 'alignments' not in arrays:
        return None
    return arrays[prefix + 'alignments'], model.start(arrays[prefix + 'source'])[0].mask


def disagreements(file, entry, arrays):
    """`compare.Result`s of all that the NumPy model finds otherwise in the arrays of one file."""
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
    """(name, value) of the teacher-forced stages of a batch."""
    source, given, output = [arrays[prefix + name] for name in ('source', 'given', 'output')]
    stages = model.forward(source, given, arrays.get(prefix + 'copied'))
    stages.update(losses(entry['model'], stages, output, guide_of(model, arrays, prefix)))
    for name, value in stages.items():
        yield prefix + name, value


def losses(settings, stages, output, guide=None):
    """OrderedDict: token_losses and loss, and the losses of attention that they contain: coverage_losses (eq. 13) and
    guided_losses, whose gold alignments and valid positions are in `guide`."""
    found, each = OrderedDict(), token_losses(stages['logits'], output, settings['label_smoothing'])
    rate = settings.get('coverage_loss')        # a set that is older than this setting has not got it
    if rate:
        found['coverage_losses'] = coverage_losses(stages['weights'], output)
        each = each + rate * found['coverage_losses']
    if guide:
        found['guided_losses'] = guided_alignment_losses(stages['weights'], *guide, target=output)
        each = each + settings['guided_alignment'] * found['guided_losses']
    found['token_losses'], found['loss'] = each, np.sum(each) / np.count_nonzero(output)
    return found


def searches(model, entry, arrays, prefix, limits):
    """(name, value) of greedy and beam search of a batch."""
    source, options = arrays[prefix + 'source'], dict(entry['beam'], copied=arrays.get(prefix + 'copied'))
    found = model.greedy(source, limits, options['copied'])
    for name in found._fields:
        yield prefix + 'greedy/' + name, getattr(found, name)
    hypotheses = model.beam(source, limits, **options)
    shape = arrays[prefix + 'beam/ids'].shape
    arrays_of = {name: np.zeros(shape + (source.shape[1],) * (name == 'weights'))
                 for name in ('ids', 'log_probabilities', 'weights', 'token_margins')}
    lengths, rankings = np.zeros(shape[:2]), np.full(shape[:2], -np.inf)
    for row, best in enumerate(hypotheses):
        for rank, one in enumerate(best):
            lengths[row, rank], rankings[row, rank] = len(one.ids), one.ranking
            for name, field in zip(('ids', 'log_probabilities', 'weights', 'token_margins'),
                                   (one.ids, one.log_probabilities, one.weights, one.margins)):
                arrays_of[name][row, rank, :len(one.ids)] = field
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
    source, given, output = [arrays['padded/' + name] for name in ('source', 'given', 'output')]
    random, step, guide = np.random.RandomState(0), 1e-6, guide_of(model, arrays, 'padded/')
    for name, value in parameters_of(arrays).items():
        gradient = arrays['padded/gradient/' + name].astype('f8')
        direction, around = random.uniform(-1., 1., value.shape), []
        for sign in (1., -1.):
            model.weights[name] = value.astype('f8') + sign * step * direction
            stages = model.forward(source, given, arrays.get('padded/copied'))
            around.append(losses(entry['model'], stages, output, guide)['loss'])
        model.weights[name] = value.astype('f8')
        slope, found = (around[0] - around[1]) / (2. * step), np.sum(gradient * direction)
        if not abs(slope - found) <= SLOPE[gradient_type(arrays)] * max(1., np.sqrt(np.sum(gradient ** 2))):
            yield 'padded/gradient/' + name, np.full(value.shape, np.nan)


def gradient_type(arrays):
    return arrays['padded/loss'].dtype.name


def _run(entry, arrays):
    model, source = numpy_model_of(entry, arrays), arrays['source']
    for pair in forward(model, entry, arrays, ''):
        yield pair
    for pair in searches(model, entry, arrays, '', 2 * np.count_nonzero(source, axis=1) + 10):
        yield pair


def _training(entry, arrays):
    """Adam's arithmetic from the recorded moments, averages, and the loss after the last step, dropout off."""
    settings = entry['model']
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
                kept = value * (1. - rate * settings['weight_decay'] * (value.ndim > 1))
                after[name] = kept - factor * m / (np.sqrt(v) + ADAM['epsilon'])
                yield prefix + 'parameter/' + name, after[name]
                if update == 1:     # m = (1 - b1) g and v = (1 - b2) g^2
                    gradient = m / (1. - ADAM['beta_1'])
                    yield prefix + 'slot/%s_v' % name, (1. - ADAM['beta_2']) * gradient ** 2
            averages[name] = decay * averages[name] + (1. - decay) * after[name]
            yield prefix + 'slot/%s_average' % name, averages[name]
        before = after
    model = NumpyModel(settings, parameters_of(arrays, 'step_50/parameter/'))
    source = arrays['input/source']
    target = arrays['input/target']
    given = np.concatenate([np.full((len(target), 1), 2), target], axis=1)
    output = np.concatenate([target, np.zeros((len(target), 1), target.dtype)], axis=1)
    output[np.arange(len(target)), np.count_nonzero(target, axis=1)] = 3
    valid, logits = output != PAD, model.forward(source, given)['logits']
    yield 'step_50/evaluated', np.array([loss(logits, output), np.mean(np.argmax(logits, -1)[valid] == output[valid])])
