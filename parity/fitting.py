"""Whether the manifest and the arrays of a set fit together, before anything is computed from them. No TensorFlow.

`compare` reads any arrays with names; `check` builds a model from the manifest and feeds it the arrays, so it needs
more: each function raises a `UserError` of one line that names the file, the part that does not fit and the remedy.
After these checks, any other exception while a set is computed is a bug, and shows its traceback.
"""
from collections import OrderedDict
import fnmatch
import os

from command_line import UserError, require
from parity import compare
from parity.bundle import MANIFEST, printable
from storage.weights_file import array_hash

REMEDY = 'restore the set'
FILES, TRAINING = ('forward.npz', 'inputs.npz', 'weights.npz'), 'training.npz'      # of a captured model


def read_recorded(folder, patterns=()):
    """Returns the `ArrayFile`s and the manifest of a set after checking the hash of each array.

    # Arguments
        folder: folder of the set.
        patterns: patterns of file names; all files without them.

    # Raises
        UserError: the set is damaged, or no file fits the patterns.
    """
    files, manifest = compare.open_set(folder)
    if not isinstance(manifest.get('files'), dict) or sorted(manifest['files']) != sorted(files):
        raise UserError('%s: MANIFEST.json does not list the files that are there: restore the set' % folder)
    for name, arrays in files.items():
        hashes = manifest['files'][name]['arrays']
        for key, array in arrays.items():
            if hashes.get(key) != array_hash(key, array):
                raise UserError('%s: %s differs from its hash in the manifest: restore the set'
                                % (os.path.join(folder, name), key))
        if len(hashes) != len(arrays):
            raise UserError('%s: arrays are missing: restore the set' % os.path.join(folder, name))
    names = [name for name in files if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if not names:
        raise UserError('%s: no file is called %s' % (folder, ' or '.join(patterns)))
    return OrderedDict((name, files[name]) for name in names), manifest


def check_environment(folder, manifest):
    """The recorded environment, which decides whether results must be equal."""
    path = os.path.join(folder, MANIFEST)
    require(isinstance(manifest.get('environment'), dict), '%s: environment is not an object: %s', path, REMEDY)
    require(isinstance(manifest.get('arithmetic'), str), '%s: arithmetic is not a hash: %s', path, REMEDY)


def check_arrays(path, arrays, expected, remedy=REMEDY):
    """Arrays by name, against the (shape, kinds of types) that a model needs of each.

    # Arguments
        arrays: {name: array} or an `ArrayFile`, of which nothing is loaded. Others than those expected may be there.
        expected: {name: (shape, kinds)}; `None` in a shape is any length.
    """
    for name, (shape, kinds) in expected.items():
        header = compare.header_of(arrays, name)
        require(header, '%s: has no array %s: %s', path, name, remedy)
        found, dtype = header
        require(len(found) == len(shape) and all(wanted in (None, length) for wanted, length in zip(shape, found)) and
                dtype.kind in kinds, '%s: %s has the shape %s and the type %s, which do not fit the model\'s shape %s: '
                '%s', path, name, tuple(found), dtype, tuple(shape), remedy)


# Captured models

def check_capture(folder, manifest):
    """The parts of the manifest of a captured model that it is built from."""
    path = os.path.join(folder, MANIFEST)
    model, training = manifest.get('model'), manifest.get('training')
    require(isinstance(model, dict) and isinstance(model.get('class_name'), str) and 'config' in model,
            '%s: model is not an object with class_name and config: %s', path, REMEDY)
    require(isinstance(training, dict), '%s: training is not an object: %s', path, REMEDY)
    require((manifest.get('keras') or {}).get('learning_phase') in (None, 0, 1),
            '%s: learning_phase of keras is none of null, 0 and 1: %s', path, REMEDY)
    if training:
        require(isinstance(training.get('optimizer'), str) and isinstance(training.get('config'), dict) and
                'loss' in training, '%s: training has no optimizer, config and loss: %s', path, REMEDY)
        require(type(training.get('steps')) is int and training['steps'] > 0,
                '%s: steps of the training is not a whole number from 1: %s', path, REMEDY)
    for name in FILES + ((TRAINING,) if training else ()):
        require(name in manifest['files'], '%s: has no %s: %s', folder, name, REMEDY)


def check_same_names(path, found, expected):
    """The names of arrays that must be exactly those of a model."""
    lacking, unknown = [sorted(set(one) - set(other)) for one, other in ((expected, found), (found, expected))]
    require(not lacking and not unknown, '%s: does not fit the model, which %s %s: %s', path,
            'needs' if lacking else 'has no', printable((lacking or unknown or [''])[0]), REMEDY)
