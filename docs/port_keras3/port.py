"""Writes what the Keras 3 model makes of a reference set or bundle, for `regress.py compare`.

    KERAS_BACKEND=jax python docs/port_keras3/port.py reference ported [FILE ...]
    python regress.py compare reference ported --stage-map docs/port_keras3/stage_map.json

float64 needs the backend JAX: in Keras 3.15, `ops.matmul` of the backends torch and numpy returns float32 for float64.
"""
import json
import os
import sys

from model import END, PAD, build   # before Keras: chooses the backend
from search import search
import keras
from keras import ops
import numpy as np

LIMIT = 9               # tokens of an output in the small cases
LEAST_WEIGHT = 1e-7     # the minimum of a weight in the logarithm of guided alignment

if keras.config.backend() == 'jax':
    import jax
    jax.config.update('jax_enable_x64', True)


def losses(stages, output, settings, gold):
    """Losses of each valid target token (B, T), 0 on padding: `token_losses` in nats, and what they contain.

    # Arguments
        gold: for guided alignment, 1 for aligned tokens at valid positions of the source (B, T, S); else `None`.
    """
    log_p, e = ops.log_softmax(stages['logits'], axis=-1), settings['label_smoothing']
    each = -(1. - e) * ops.take_along_axis(log_p, ops.expand_dims(output, -1), axis=-1)[:, :, 0]
    each = each - e * ops.sum(log_p, axis=-1) / log_p.shape[-1] if e else each
    weights, valid, parts = stages.get('weights'), ops.not_equal(output, PAD), {}
    if settings['coverage_loss']:                                                   # See et al. (2017), eq. 12 and 13
        before = ops.cumsum(weights, axis=1) - weights
        parts['coverage_losses'] = ops.where(valid, ops.sum(ops.minimum(weights, before), axis=-1), 0.)
        each = each + settings['coverage_loss'] * parts['coverage_losses']
    if gold is not None:                                                            # Chen et al. (2016), eq. 5
        gold = ops.cast(gold, weights.dtype)
        gold = gold / ops.maximum(ops.sum(gold, axis=2, keepdims=True), 1.)
        guided = -ops.sum(gold * ops.log(ops.maximum(weights, LEAST_WEIGHT)), axis=2)
        parts['guided_losses'] = ops.where(valid, guided, 0.)
        each = each + settings['guided_alignment'] * parts['guided_losses']
    return dict(parts, token_losses=ops.where(valid, each, 0.))


def searched(model, source, copied, limits, options):
    """Arrays of a search (B, N, T), padded with 0, as docs/bundles.md names them."""
    found = [search(model, row, limit, copied=None if copied is None else copied[number], **options)
             for number, (row, limit) in enumerate(zip(source, limits))]
    count, longest = options.get('n_best', 1), max(len(one.ids) for row in found for one in row)
    shape, real = (len(source), count, longest), np.dtype(keras.config.floatx())
    arrays = {'ids': np.zeros(shape, 'int32'), 'lengths': np.zeros(shape[:2], 'int32'),
              'log_probabilities': np.zeros(shape, real), 'weights': np.zeros(shape + source.shape[1:], real),
              'token_margins': np.zeros(shape, real), 'rankings': np.full(shape[:2], -np.inf, real)}
    for b, row in enumerate(found):
        for n, one in enumerate(row):
            t = len(one.ids)
            arrays['ids'][b, n, :t], arrays['lengths'][b, n], arrays['rankings'][b, n] = one.ids, t, one.ranking
            arrays['log_probabilities'][b, n, :t] = one.log_probabilities
            arrays['token_margins'][b, n, :t] = one.margins
            arrays['weights'][b, n, :t] = one.weights
    return arrays


def port(entry, arrays):
    """Our arrays of one file from its weights and inputs."""
    model = build(entry, arrays)
    made = {name: value for name, value in arrays.items() if name.startswith('parameter/')}
    for prefix in ('padded/', 'single/') if entry['kind'] == 'case' else ('',):
        inputs = {name: arrays[prefix + name] for name in ('source', 'given', 'output', 'copied', 'alignments')
                  if prefix + name in arrays}
        stages = model.forward(inputs['source'], inputs['given'], inputs.get('copied'))
        gold = inputs.get('alignments')
        if gold is not None:
            gold = gold * ops.convert_to_numpy(model.start(inputs['source'])[0][1])[:, None]
        stages.update(losses(stages, inputs['output'], model.settings, gold))
        stages = {name: ops.convert_to_numpy(value) for name, value in stages.items()}
        each = stages['token_losses']
        stages['loss'] = (each.sum() / np.count_nonzero(inputs['output'])).astype(each.dtype)
        source = inputs['source']
        limits = np.full(len(source), LIMIT) if entry['kind'] == 'case' else 2 * np.count_nonzero(source, axis=1) + 10
        greedy = searched(model, source, inputs.get('copied'), limits, {})
        greedy['margins'] = greedy.pop('token_margins')
        stages.update(('greedy/' + name, value[:, 0]) for name, value in greedy.items() if name != 'rankings')
        beam = searched(model, source, inputs.get('copied'), limits, entry['beam'])
        stages.update(('beam/' + name, value) for name, value in beam.items())
        made.update((prefix + name, value) for name, value in dict(inputs, **stages).items())
    if entry['kind'] == 'run':
        made['text/source'], words = arrays['text/source'], arrays['vocabulary/target']
        for kind, ids in (('greedy', made['greedy/ids']), ('beam', made['beam/ids'][:, 0])):
            made['text/' + kind] = np.array([''.join(words[i] for i in row if i not in (PAD, END)) for row in ids])
    return made


def main(reference, folder, *files):
    with open(os.path.join(reference, 'MANIFEST.json'), encoding='utf-8') as stream:
        manifest = json.load(stream)
    os.makedirs(folder, exist_ok=True)
    for name, entry in manifest['files'].items():
        if entry['kind'] != 'training' and (not files or name in files):
            with np.load(os.path.join(reference, name), allow_pickle=False) as arrays:
                np.savez(os.path.join(folder, name), **port(entry, dict(arrays)))


if __name__ == '__main__':
    main(*sys.argv[1:])
