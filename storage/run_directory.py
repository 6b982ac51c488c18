"""A run's directory: all that a run writes and reads, so that every crash leaves a valid state.

    config.json                       every setting, and the version of their meaning
    vocab.source.txt vocab.target.txt one token a line, the order is the id
    weights.h5                        the best weights, in Keras' own layout (weights_file.py)
    checkpoint/<step>.h5              all that resuming needs; never changed once written
    checkpoint/last                   the pointer: file, sha256 and step of the last good checkpoint
    log.csv curves.png                written anew from the checkpoint's state
    tensorboard/                      a file for each validation
    manifest.json                     sha256 of the files above but the checkpoints; versions, command line, data
    lock                              held (flock) by the process that trains, until it ends in whatever way

What holds after `kill -9`, a power cut or a full disk at any instant:

- Every byte passes `write_bytes`: a file has its old or its new content whole, at most a temporary file is left
  beside it, which the next owner of the lock removes.
- A new run writes manifest, vocabularies, then config.json. Without config.json there is no run yet, and the next start
  clears the rest away. `overwrite` removes config.json first; the manifest, which marks the place as ours, stays.
- A checkpoint gets a name that nothing refers to, and the pointer moves to it when it lies on the disk; only then are
  older ones removed. So the pointer, old or new, names a whole file. Without a pointer nothing is trained yet, and
  resuming begins at the first step. A pointer or checkpoint that does not fit is no crash's doing and is refused: among
  other files there is no telling which belongs to which weights.
- A file in the manifest that changes (weights.h5; config.json when a resumed run is told to stop later) is announced:
  first the manifest gets the new hash beside the `previous` one, then the file is replaced, then the latter is dropped.
- Write weights.h5 before the checkpoint that knows of them. Cut between the two, a resumed run arrives at the same
  weights again, since training repeats bit for bit, and writes them again; the other way round they would be lost.

Hostile directories: symbolic links are never followed inside the directory, names that it holds are matched against
fixed patterns, hashes are compared before an array file is parsed, JSON is read strictly, nothing read can name code.
"""
import collections
import contextlib
import csv
import fcntl
import io
import hashlib
import json
import os
import re

from command_line import UserError  # first: sets what NumPy reads when it is imported
from storage.config_file import check_config, config_bytes
from storage.files import parse_json, read_bytes, show, sync_folder, to_json, user_error, write_bytes
from storage.weights_file import (WeightsReader, array_hash, hash_arrays, pack_weights,  # noqa: F401  for callers
                                  unpack_weights)

import numpy as np

FORMAT = 'run directory of a global-attention sequence-to-sequence model'
# Any of these makes a directory a run that only `overwrite` may replace.
PROOF = ('config.json', 'checkpoint/last', 'weights.h5')
# What `overwrite` may remove, in this order, besides checkpoints and TensorBoard's files. Nothing else is ever touched.
FILES = PROOF + ('vocab.source.txt', 'vocab.target.txt', 'tokenizer.source.model', 'tokenizer.target.model',
                 'log.csv', 'curves.png')
CHECKPOINT = re.compile(r'[0-9]{1,18}(\.[0-9]{1,9})?\.h5')
TEMPORARY = re.compile(r'\.(.+)\.[0-9a-f]{8}\.tmp')
EVENTS = re.compile(r'events\.out\.tfevents\..+')
SHA256 = re.compile(r'[0-9a-f]{64}')


def last_run(folder='runs'):
    """The run directory in `folder` whose weights are the newest."""
    runs = [os.path.join(folder, name) for name in (os.listdir(folder) if os.path.isdir(folder) else [])]
    runs = [(os.path.getmtime(os.path.join(run, 'weights.h5')), run) for run in runs
            if os.path.isfile(os.path.join(run, 'weights.h5'))]
    if not runs:
        raise UserError('%s: no trained run there: run train.py first, or name one with --run' % folder)
    return max(runs)[1]


# ---- The directory --------------------------------------------------------------------------------------------
class RunDirectory:
    """One run's files. `create` and `open` make one; use it in a `with` statement, or `close` it, to let the lock go.

    # Arguments
        path: the directory, as the user named it. `create` and `open(path, lock=True)` hold the lock and may write;
            `open(path)` reads, at any time, while another process trains too.
    """

    def __init__(self, path):
        self.path = path
        self._lock = None

    @classmethod
    def create(cls, path, config, files, about, overwrite=False):
        """A new run, locked, with all that is known before the first step. Call it when the data have been checked.

        # Arguments
            config: dict of every setting.
            files: {'vocab.source.txt': bytes, ...}, names of `FILES`.
            about: what else the manifest tells: versions, command line, hashes of the data (JSON).
            overwrite: a run that lies here goes first: its own files, no others.
        """
        run = cls(path)
        run.check_new(path, overwrite)
        data = collections.OrderedDict(files)
        data['config.json'] = config_bytes(config, run.file('config.json'))  # the last to be written
        made, owned = not os.path.isdir(path), False
        try:
            os.makedirs(path, exist_ok=True)
            with contextlib.suppress(OSError):  # a parent that we may not read
                sync_folder(os.path.dirname(os.path.abspath(path)))
            run._take_lock()
            run.check_new(path, overwrite)  # again: another process may have been quicker
            owned = True
            run._clear()
            hashes = collections.OrderedDict((name, _sha256(data[name])) for name in data)
            run._write_manifest(collections.OrderedDict([('format', FORMAT), *about.items(), ('files', hashes)]))
            for name in data:
                write_bytes(run.file(name), data[name])
        except (OSError, UserError) as error:
            if made and owned:  # nothing of a run that was refused stays behind
                with contextlib.suppress(OSError, UserError):
                    run._clear()
                    run._remove(['manifest.json', 'lock'])
                    os.rmdir(run.file('checkpoint'))
                    os.rmdir(path)
            run.close()
            if isinstance(error, OSError):
                raise user_error(path, 'cannot be made', error) from error
            raise
        return run

    @staticmethod
    def check_new(path, overwrite=False):
        """UserError unless `create` may use `path`. Touches nothing: ask it before the data are read."""
        run = RunDirectory(path)
        try:
            names = set(os.listdir(path))
        except FileNotFoundError:
            return
        except OSError as error:
            raise user_error(path, 'is no directory that can be used', error) from error
        run._refuse_links()
        names = {name for name in names - {'lock'} if not _is_leftover(name)}
        if names <= {'checkpoint'} and not run._list('checkpoint'):
            return  # nothing, or a start cut short before its first file
        try:
            run.manifest()
        except UserError as error:
            raise UserError(f'{path}: holds files, and no manifest.json that shows them to be a run: choose another '
                            f'directory or remove them yourself ({error})') from error
        if not overwrite and any(os.path.lexists(run.file(name)) for name in PROOF):
            raise UserError(f'{path}: a run lies here already: go on with it by --resume, replace it by --overwrite, '
                            'or choose another directory')

    @classmethod
    def open(cls, path, lock=False):
        """A run that lies there: to read it, or with `lock` to go on with it."""
        run = cls(path)
        if not os.path.isdir(path):
            raise UserError(f'{path}: no such run directory: train one first, or name another')
        run._refuse_links()
        if not os.path.lexists(run.file('config.json')):
            raise UserError(f'{path}: no run lies here (no config.json): train one first, or name another')
        run.manifest()
        if lock:
            try:
                run._take_lock()
            except UserError:
                run.close()
                raise
        return run

    def close(self):
        """Lets the lock go. The file stays: removing it would let two processes hold a lock each."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def file(self, name):
        return os.path.join(self.path, name)

    # -- what the run is ----------------------------------------------------------------------------------------
    def manifest(self):
        """manifest.json as a dict, checked."""
        path = self.file('manifest.json')
        manifest = parse_json(self._read('manifest.json', limit=2 ** 24), path)
        if manifest.get('format') != FORMAT:
            raise UserError(f'{path}: is not the manifest of a run of this program: choose another directory')
        for key in ('files', 'previous'):
            hashes = manifest.setdefault(key, {})
            for name, value in hashes.items() if isinstance(hashes, dict) else [('', hashes)]:
                if name not in FILES or not _is_sha256(value):
                    raise UserError(f'{path}: {show(name)}: {show(value)} is no hash of a file of a run: '
                                    'restore the file or train again')
        return manifest

    def update_manifest(self, **about):
        """Puts further entries into the manifest, such as the command line of a resumed run."""
        manifest = self.manifest()
        manifest.update(about)
        self._write_manifest(manifest)

    def read_config(self):
        """OrderedDict of every setting. What is wrong in the file is told before that it was changed at all."""
        config = parse_json(self._read('config.json', limit=2 ** 20), self.file('config.json'))
        config = check_config(config, self.file('config.json'))
        self.read_file('config.json')
        return config

    def write_config(self, config):
        """Replaces the settings, for a resumed run that is told to stop elsewhere."""
        self._replace('config.json', config_bytes(config, self.file('config.json')))

    def read_file(self, name):
        """The bytes of a file of `FILES` whose hash is in the manifest, such as a vocabulary."""
        def lookup():
            manifest = self.manifest()
            hashes = _hashes(manifest, name)
            if not hashes:
                raise UserError(f'{self.file("manifest.json")}: has no hash of {name}: '
                                'the run has not come to write it yet, or the manifest is damaged')
            return name, hashes
        return self._verified(lookup, 'manifest.json')

    # -- weights, checkpoints, log ------------------------------------------------------------------------------
    def write_weights(self, layers):
        """weights.h5 from [(layer name, [(weight name, array), ...]), ...]; before the checkpoint that knows of it."""
        self._replace('weights.h5', pack_weights(layers))

    def read_weights(self, expected):
        """[(layer name, [array, ...]), ...]; `expected` as in `weights_file.unpack_weights`."""
        return unpack_weights(self.read_file('weights.h5'), expected, self.file('weights.h5'))

    def write_checkpoint(self, step, arrays, state, keep=()):
        """Writes a checkpoint, moves the pointer to it, removes older ones.

        # Arguments
            step: whole number from 0.
            arrays: dict of name -> array (no NaN; names may hold `/`).
            state: JSON-able dict, without NaN and infinity (None does for "no best score yet").
            keep: names of older checkpoint files not to remove.

        # Returns
            the pointer, {'file', 'sha256', 'step'}: what `read_checkpoint` takes to read a kept one.
        """
        content = json.dumps({'arrays': list(arrays), 'state': state}, allow_nan=False).encode('ascii')
        data = pack_weights([('arrays', list(arrays.items())), ('state', [('json', np.frombuffer(content, 'u1'))])])
        last = self._pointer()
        taken = {*keep, last['file']} if last else set(keep)
        # Two checkpoints at one step, before and after a validation: the second has a name of its own.
        names = [f'{step}.h5'] + [f'{step}.{number}.h5' for number in range(1, len(taken) + 1)]
        name = next(name for name in names if name not in taken)
        pointer = collections.OrderedDict(file=name, sha256=_sha256(data), step=step)
        self._prune(taken)  # room on a disk that was full last time
        write_bytes(self.file('checkpoint/' + name), data)
        write_bytes(self.file('checkpoint/last'), to_json(pointer))
        self._prune({*keep, name})
        return pointer

    def read_checkpoint(self, pointer=None):
        """(arrays, state) of the last checkpoint, or of the one that `pointer` tells; None before the first."""
        def lookup():
            found = self._pointer() if pointer is None else _check_pointer(pointer, self.path)
            return found and ('checkpoint/' + found['file'], [found['sha256']])
        found = lookup()
        if found is None:
            return None
        reader = WeightsReader(self._verified(lookup, 'checkpoint/last'), self.file(found[0]))
        content = parse_json(reader.read('state/json', dtype=np.dtype('u1')).tobytes(), reader.name)
        names, state = content.get('arrays'), content.get('state')
        found = sorted(path for path in reader.arrays if path != 'state/json')
        if (not isinstance(names, list) or not isinstance(state, dict)
                or sorted(f'arrays/{name}' for name in names if isinstance(name, str)) != found):
            reader.refuse('is no checkpoint, or another version wrote it')
        return collections.OrderedDict((name, reader.read(f'arrays/{name}')) for name in names), state

    def last_checkpoint(self):
        """The pointer to the last checkpoint, as `write_checkpoint` returned it; None before the first."""
        return self._pointer()

    def prune_checkpoints(self, keep):
        """Removes all checkpoints but the last and those whose files are named."""
        last = self._pointer()
        self._prune({*keep, last['file']} if last else set(keep))

    def write_events(self, step, data):
        """A file for TensorBoard with what was found at this step; written again it replaces the one before."""
        try:
            os.makedirs(self.file('tensorboard'), exist_ok=True)
        except OSError as error:
            raise user_error(self.file('tensorboard'), 'cannot be made', error) from error
        # TensorBoard reads the files of a folder in the order of their names.
        write_bytes(self.file('tensorboard/events.out.tfevents.%010d' % step), data)

    def write_log(self, rows):
        """log.csv from a list of dicts; a column for each key, in the order in which keys first come."""
        columns = collections.OrderedDict((key, None) for row in rows for key in row)
        stream = io.StringIO()
        writer = csv.DictWriter(stream, columns, restval='', lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(self.file('log.csv'), stream.getvalue().encode('utf-8'))

    # -- how ----------------------------------------------------------------------------------------------------
    def _write_manifest(self, manifest):
        write_bytes(self.file('manifest.json'), to_json(manifest))

    def _replace(self, name, data):
        """Replaces a file of the manifest: at each instant the manifest has the hash of what lies there."""
        manifest = self.manifest()
        current = self._read(name, _hashes(manifest, name))
        manifest['files'][name] = _sha256(data)
        if current is not None:
            manifest['previous'][name] = _sha256(current)
        self._write_manifest(manifest)
        write_bytes(self.file(name), data)
        if manifest['previous'].pop(name, None):
            self._write_manifest(manifest)

    def _prune(self, kept):
        self._remove('checkpoint/' + name for name in self._list('checkpoint')
                     if CHECKPOINT.fullmatch(name) and name not in kept)

    def _pointer(self):
        """The content of checkpoint/last, or None before the first checkpoint."""
        name = 'checkpoint/last'
        if not os.path.lexists(self.file(name)):
            return None
        return _check_pointer(parse_json(self._read(name, limit=2 ** 12), self.file(name)), self.file(name))

    def _verified(self, lookup, record):
        """The bytes of a file whose hash fits; `lookup` tells its name and hashes, out of the file `record`.

        While another process trains, record and file may change between the two looks: then we look again.
        """
        found = lookup()
        while True:
            data = self._read(*found)
            if data is not None:
                return data
            before, found = found, lookup()
            if found in (before, None):
                path = self.file(before[0])
                if not os.path.lexists(path):
                    raise UserError(f'{path}: is missing: training has not come to write it yet, or it was removed')
                raise UserError(f'{path}: does not fit its hash in {record}: damaged or changed by hand: '
                                'restore it or train again')

    def _read(self, name, hashes=None, limit=None):
        return read_bytes(self.file(name), hashes, limit)

    def _take_lock(self):
        try:
            self._lock = os.open(self.file('lock'), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.makedirs(self.file('checkpoint'), exist_ok=True)
        except BlockingIOError:
            raise UserError(f'{self.path}: another process is training in this directory: '
                            'wait until it ends or choose another directory')
        except OSError as error:
            raise user_error(self.file('lock'), 'cannot be locked', error) from error
        for folder in ('', 'checkpoint/', 'tensorboard/'):
            self._remove(folder + name for name in self._list(folder) if _is_leftover(name, folder))

    def _clear(self):
        """Removes a run's files, config.json first: from then on no run lies here. The manifest stays."""
        self._remove(FILES)
        self._remove('checkpoint/' + name for name in self._list('checkpoint') if _is_ours('checkpoint/' + name))
        for folder, _, names in os.walk(self.file('tensorboard'), topdown=False):
            inside = os.path.relpath(folder, self.path)
            self._remove(os.path.join(inside, name) for name in names if EVENTS.fullmatch(name))
            with contextlib.suppress(OSError):  # holds other files
                os.rmdir(folder)

    def _list(self, folder):
        try:
            return os.listdir(self.file(folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise user_error(self.file(folder), 'cannot be read', error) from error

    def _remove(self, names):
        for name in names:
            try:
                os.unlink(self.file(name))
            except FileNotFoundError:
                pass
            except OSError as error:
                raise user_error(self.file(name), 'cannot be removed', error) from error

    def _refuse_links(self):
        for name in ('checkpoint', 'tensorboard'):
            if os.path.islink(self.file(name)):
                raise UserError(f'{self.file(name)}: is a symbolic link: put the folder itself there')


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def _is_sha256(value):
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def _is_ours(name):
    folder, _, last = name.rpartition('/')
    patterns = {'checkpoint': CHECKPOINT, 'tensorboard': EVENTS}
    return name in FILES + ('manifest.json',) or (folder in patterns and patterns[folder].fullmatch(last) is not None)


def _is_leftover(name, folder=''):
    """Whether `write_bytes`, cut short, may have left this in the folder."""
    match = TEMPORARY.fullmatch(name)
    return match is not None and _is_ours(folder + match.group(1))


def _hashes(manifest, name):
    return [manifest[key][name] for key in ('files', 'previous') if name in manifest[key]]


def _check_pointer(pointer, name):
    """UserError unless `pointer` is what `write_checkpoint` returns: its file a plain name of a checkpoint."""
    if (set(pointer) != {'file', 'sha256', 'step'} or type(pointer['step']) is not int
            or not isinstance(pointer['file'], str) or not CHECKPOINT.fullmatch(pointer['file'])
            or not _is_sha256(pointer['sha256'])):
        raise UserError(f'{name}: does not name a checkpoint: restore it or train again')
    return pointer
