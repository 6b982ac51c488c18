"""Weights that a training starts from: those of another run (`--init-from`), and pretrained vectors of words."""
import collections
import hashlib

from command_line import UserError, tell  # first: sets what NumPy reads when it is imported
from storage.files import show
from storage.run_directory import RunDirectory
from storage.weights_file import WeightsReader
from text import corpus
from text.kept_vocabulary import lost
from text.vocabulary import FILES, SPECIALS, read_vocabularies

MANY = .05  # share of lost tokens above which a warning appears

Previous = collections.namedtuple('Previous', 'path sha256 arrays vocabularies')
Previous.__doc__ = """A run to start from: its path, the sha256 of its weights.h5, {'layer/weight': array}, and
{file name: `Vocabulary`}."""

# Layers with a row or column for each token: the file of their vocabulary, and the axis.
TOKEN_AXES = {'source_embedding': ('vocab.source.txt', 0), 'target_embedding': ('vocab.target.txt', 0),
              'output': ('vocab.target.txt', -1)}


def read_run(path):
    """Reads the weights and vocabularies of a run.

    # Raises
        UserError: not a run, or a file of it is missing or damaged.
    """
    run = RunDirectory.open(path)
    data = run.read_file('weights.h5')
    reader = WeightsReader(data, run.file('weights.h5'))
    vocabularies = dict(zip(FILES, read_vocabularies(run)))
    return Previous(path, hashlib.sha256(data).hexdigest(), {name: reader.read(name) for name in reader.arrays},
                    vocabularies)


def warn_of_lost(settings, previous, vocabularies):
    """Warns of tokens of the run to start from that the new vocabularies do not have."""
    for name, old in previous.vocabularies.items():
        share = lost(old, vocabularies[name])
        if share > MANY and settings.keep_vocabulary == 'no':
            tell('warning: %.0f %% of the %s tokens of %s are unknown to the new run, which forgets them: to keep '
                 'them, give --keep-vocabulary joined' % (100. * share, name.split('.')[1], previous.path))


def matching(previous, layers, vocabularies):
    """The weights of a model with those of another run in their place.

    A weight is replaced if the run has one of its name and shape. Where a layer has a row or column for each token,
    those of the tokens in both vocabularies are replaced.

    # Arguments
        previous: `Previous`.
        layers: [(layer name, [(weight name, array), ...]), ...] of the new model, as `Trainer.layers` returns them.
        vocabularies: {file name: `Vocabulary`} of the new model.

    # Returns
        {weight name: array} of the weights that change, and one line of text with the counts.

    # Raises
        UserError: no weight matches.
    """
    values, total = {}, 0
    for layer, weights in layers:
        file, axis = TOKEN_AXES.get(layer, (None, None))
        for name, initial in weights:
            total += 1
            array = previous.arrays.get('%s/%s' % (layer, name))
            if array is None or array.dtype != initial.dtype or array.ndim != initial.ndim:
                continue
            if file is None:
                if array.shape == initial.shape:
                    values[name] = array
                continue
            new, old = vocabularies[file], previous.vocabularies[file]
            shared = [token for token in new.tokens if token in old.index]
            rows, old_rows = initial.copy().swapaxes(0, axis), array.swapaxes(0, axis)
            if rows.shape[1:] == old_rows.shape[1:] and len(rows) == len(new) and len(old_rows) == len(old):
                rows[[new.index[token] for token in shared]] = old_rows[[old.index[token] for token in shared]]
                values[name] = rows.swapaxes(0, axis)
    if not values:
        raise UserError('%s: no weight has the name and shape of one of the new model: choose the same --units, '
                        '--embedding and --cell' % previous.path)
    counts = ['%d of %d %s tokens' % (sum(token in previous.vocabularies[file].index for token in new.tokens),
                                      len(new), file.split('.')[1]) for file, new in sorted(vocabularies.items())]
    missing = sorted({layer for layer, weights in layers for name, _ in weights if name not in values})
    text = '%s: starts from %d of %d weights; its vocabularies have %s' % (
        previous.path, len(values), total, ' and '.join(counts))
    return values, text + ('; new: %s' % show(', '.join(missing)) if missing else '')


def read_vectors(settings, vocabularies):
    """List of (side, ids, vectors) of the pretrained embeddings that the settings name."""
    vectors = []
    for side in ('source', 'target'):
        path = getattr(settings, side + '_embeddings')
        if path:
            vocabulary = vocabularies['vocab.%s.txt' % side]
            ids, rows = corpus.read_vectors(path, vocabulary, settings.embedding)
            count, size = len(set(ids)), len(vocabulary) - len(SPECIALS)
            tell('%s: vectors for %d of %d %s tokens (%.1f %%)%s' % (
                path, count, size, side, 100. * count / size,
                '' if 2 * count > size else ': few: check upper case and --%s-tokenizer' % side))
            vectors.append((side, ids, rows))
    return vectors
