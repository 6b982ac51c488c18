"""What a run records when it starts, and what must be the same when it is resumed or has several workers."""
import collections
import hashlib
import os
import platform
import shlex

from command_line import VERSION, require
from settings import SETTINGS, with_defaults

# Settings that `--resume` may change: when to stop and to save, the memory, what to show, and the paths of the data,
# whose hashes must be the same.
FREE_ON_RESUME = ('epochs', 'max_minutes', 'patience', 'checkpoint_minutes', 'memory_limit', 'tensorboard', 'data',
                  'train', 'val', 'test', 'alignments')


def resumed_settings(given, run):
    """The settings of a run, changed by the dict `given`; raises `UserError` for settings that must not change."""
    recorded = run.read_config()
    for name, value in given.items():
        require(name in FREE_ON_RESUME or value == recorded[name],
                '%s: the run was trained with %s %s, not %s: omit the option, or train another run with --run',
                run.path, SETTINGS[name].option, recorded[name], value)
    if 'data' in given:
        recorded = dict(recorded, train=None, val=None, test=None)
    return with_defaults(dict(recorded, **given))


def check_same_data(run, hashes, paths):
    """Raises `UserError` unless the texts have the hashes that the run recorded."""
    recorded = run.manifest().get('data')
    recorded = recorded if isinstance(recorded, dict) else {}
    for part in sorted(set(hashes) | set(recorded)):
        require(hashes.get(part) == recorded.get(part),
                '%s: the %s text is not the one that the run started with (%s): restore that text, or train another '
                'run with --run', run.path, part, ' '.join(paths.get(part, ['none'])))


def describe_command(argv, hashes):
    """What the manifest records besides the hashes of the files: command line, hashes of the data, versions."""
    import tf_session  # noqa: F401  first: it fixes the import order
    import h5py
    import keras
    import numpy
    import tensorflow
    return collections.OrderedDict([
        ('command', ' '.join(map(shlex.quote, ['train.py'] + argv))), ('data', hashes),
        ('versions', {'global-attention': VERSION, 'python': platform.python_version(), 'keras': keras.__version__,
                      'tensorflow': tensorflow.__version__, 'numpy': numpy.__version__, 'h5py': h5py.__version__})])


def describe_previous(previous):
    """What the manifest records about the run of `--init-from`."""
    return {'run': os.path.abspath(previous.path), 'sha256': previous.sha256}


class SharedFiles(dict):
    """Files that worker 0 sent, {name: text in latin-1}, with the methods of `RunDirectory` that tokenisers need."""

    file = staticmethod(str)

    def read_file(self, name):
        return self[name].encode('latin-1')


def vocabulary_hashes(text):
    return [hashlib.sha256(vocabulary.to_bytes()).hexdigest() for vocabulary in text.vocabularies]
