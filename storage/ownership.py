"""Which files of a directory a run wrote: the names that it may use, and the files that `--overwrite` may remove."""
import contextlib
import errno
import os
import re

from command_line import UserError
from storage.files import open_regular, stream_sha256, user_error

# Names that a run writes, in the order in which `--overwrite` removes them, besides checkpoints and TensorBoard's.
FILES = ('config.json', 'checkpoint/last', 'weights.h5', 'vocab.source.txt', 'vocab.target.txt',
         'tokenizer.source.model', 'tokenizer.target.model', 'alignments.txt', 'log.csv', 'curves.png')
CHECKPOINT = re.compile(r'[0-9]{1,18}(\.[0-9]{1,9})?\.h5')
EVENTS = re.compile(r'events\.out\.tfevents\.[0-9]{10,18}')
TEMPORARY = re.compile(r'\.(.+)\.[0-9a-f]{8}\.tmp')
SHA256 = re.compile(r'[0-9a-f]{64}')


def is_sha256(value):
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def is_listed(name):
    """Whether a manifest may list this name."""
    folder, _, last = name.rpartition('/')
    patterns = {'checkpoint': CHECKPOINT, 'tensorboard': EVENTS}
    return name in FILES or (folder in patterns and patterns[folder].fullmatch(last) is not None)


def is_leftover(name, folder=''):
    """Whether `write_bytes`, cut short, may have left this name in the folder."""
    match = TEMPORARY.fullmatch(name)
    return match is not None and (is_listed(folder + match.group(1)) or folder + match.group(1) == 'manifest.json')


def files_to_remove(run):
    """Names of the files in a run's directory that the run wrote, in the order in which to remove them.

    A file is the run's if its hash is in the manifest; the pointer checkpoint/last, if it has the form of one. Other
    files in `checkpoint` and `tensorboard` stay. Changes nothing.

    # Raises
        UserError: a file that the next run would replace is not this run's, or the files cannot be removed.
    """
    manifest = run.manifest()
    listed = {}
    for key in ('files', 'previous'):
        for name, value in manifest[key].items():
            listed.setdefault(name, set()).add(value)
    unlisted = _unlisted(run) if 'program' not in manifest else set()
    names = []
    for name in FILES + tuple(sorted((set(listed) | unlisted) - set(FILES))):
        if not os.path.lexists(run.file(name)):
            continue
        if name == 'checkpoint/last':
            run.last_checkpoint()
        elif _sha256(run.file(name)) not in listed.get(name, ()) and name not in unlisted:
            if name in FILES:
                raise UserError('%s: is not the file that the manifest of this run lists: move it away, or choose '
                                'another directory' % run.file(name))
            continue
        names.append(name)
    for folder in sorted({run.file(os.path.dirname(name)) for name in names}):
        error = _refusal(folder)
        if error:
            raise user_error(folder, 'its files cannot be removed', error)
    return names


def check_parent(path):
    """Refuses a new directory that cannot be created, before any work is done for it.

    # Raises
        UserError: its nearest existing parent is not a directory, or cannot be written to.
    """
    if os.path.islink(path):
        raise UserError('%s: is a symbolic link to a directory that does not exist: create that directory, or choose '
                        'another one' % path)
    parent = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    error = _refusal(parent)
    if error:
        refusal = user_error(path, 'cannot be created in %s' % parent, error)
        hint = '; if docker run -v created that folder, it belongs to root: create it yourself with mkdir before'
        raise UserError(str(refusal) + (hint if error.errno == errno.EACCES else ''))


def _refusal(folder):
    """The `OSError` with which the system would refuse a change of the names in a folder; `None` if it would not."""
    if not os.path.isdir(folder):
        number = errno.ENOTDIR
    elif os.access(folder, os.W_OK | os.X_OK):
        return None
    else:
        number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
    return OSError(number, os.strerror(number))


def _sha256(path):
    """Hash of a regular file; None for anything else."""
    try:
        with open_regular(path) as stream:
            return stream_sha256(stream)
    except UserError:
        return None
    except OSError as error:
        if os.path.islink(path):
            return None
        raise user_error(path, 'cannot be read', error) from error


def _unlisted(run):
    """Names of the run's files that its manifest does not list, as version 1 of this program wrote manifests.

    Such a manifest has no `program`. If its last checkpoint matches its hash, the run was trained, and the names that
    only this program uses are the run's: log.csv, curves.png, checkpoints by number, TensorBoard's files by number.
    """
    with contextlib.suppress(UserError):
        last = run.last_checkpoint()
        if last is not None and _sha256(run.file('checkpoint/' + last['file'])) == last['sha256']:
            names = {folder + name for folder in ('checkpoint/', 'tensorboard/')
                     for name in (os.listdir(run.file(folder)) if os.path.isdir(run.file(folder)) else ())}
            return {name for name in names if is_listed(name) and name not in FILES} | {'log.csv', 'curves.png'}
    return set()
