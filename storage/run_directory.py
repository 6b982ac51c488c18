"""A run's directory: all that a run writes and reads, so that every crash leaves a valid state.

    config.json                       every setting, and the version of their meaning
    vocab.source.txt vocab.target.txt one token a line, the order is the id
    weights.h5                        the best weights, in Keras' own layout (weights_file.py)
    checkpoint/<step>.h5              all that resuming needs; never changed once written
    checkpoint/last                   the pointer: file, sha256 and step of the last good checkpoint
    log.csv curves.png                rewritten from the checkpoint's state
    tensorboard/                      a file for each validation
    manifest.json                     sha256 of all files above but the pointer; versions, command line, data
    lock                              held (flock) by the process that trains, until it ends in whatever way

What holds after `kill -9`, a power cut or a full disk at any instant:

- Every byte passes `write_bytes`: a file has its old or its new content whole. At most a temporary file is left beside
  it, which the next owner of the lock removes.
- A new run writes manifest, vocabularies, then config.json. Without config.json there is no run yet, and the next start
  clears the rest away. `overwrite` removes config.json first; the manifest stays, which marks the directory as a run's.
- The pointer moves to a checkpoint when its file is on the disk, and only then are older ones removed. So the pointer,
  old or new, names a whole file. Without a pointer nothing is trained yet, and resuming begins at the first step. A
  pointer or checkpoint that does not match its hash is not the result of a crash and is refused: no other file can
  tell which checkpoint belongs to which weights.
- Each write is announced: first the manifest gets the new hash, beside the `previous` one of a file that changes, then
  the file is written, then the previous hash is dropped. So a file that matches no hash of the manifest is not the
  run's, and `overwrite` removes only files that match (`ownership.py`).
- weights.h5 is written before the checkpoint that knows of it. Cut between the two, a resumed run arrives at the same
  weights again, since training repeats bit for bit, and writes them again; in the other order they would be lost.

Hostile directories: symbolic links are never followed inside the directory, the names in it are matched against fixed
patterns, hashes are compared before an array file is parsed, JSON is read strictly, nothing that is read can name code.
"""
import collections
import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os

from command_line import VERSION, UserError, command  # first: sets what NumPy reads when it is imported
from storage import ownership
from storage.config_file import check_config, config_bytes
from storage.files import parse_json, read_bytes, show, sync_folder, to_json, user_error, write_bytes
from storage.ownership import CHECKPOINT, FILES, is_leftover, is_sha256
from storage.weights_file import (WeightsReader, array_hash, hash_arrays, pack_weights,  # noqa: F401  for callers
                                  unpack_weights)

import numpy as np

FORMAT = 'run directory of a global-attention sequence-to-sequence model'
# Either of these makes a directory a trained run that only `overwrite` may replace.
TRAINED = ('checkpoint/last', 'weights.h5')


def is_run(folder):
    return os.path.isfile(os.path.join(folder, 'config.json'))


def last_run(folder='runs'):
    """The run directory in `folder` with the newest weights."""
    runs = [os.path.join(folder, name) for name in (os.listdir(folder) if os.path.isdir(folder) else [])]
    runs = [(os.path.getmtime(os.path.join(run, 'weights.h5')), run) for run in runs
            if os.path.isfile(os.path.join(run, 'weights.h5'))]
    if not runs:
        raise UserError('%s: has no trained run: train one with %s, or name one with --run'
                        % (folder, command('train.py')))
    return max(runs)[1]


# ---- The directory --------------------------------------------------------------------------------------------
class RunDirectory(object):
    """One run's files, from `create` or `open`. Use it in a `with` statement, or `close` it, to release the lock.

    # Arguments
        path: the directory, as the user named it. `create` and `open(path, lock=True)` hold the lock and may write;
            `open(path)` reads, at any time, while another process trains too.
    """

    def __init__(self, path):
        self.path = path
        self._lock = None
        self._is_new = False

    @classmethod
    def create(cls, path, config, files, about, overwrite=False):
        """A new run, locked, with all that is known before the first step. Call it when the data have been checked.

        # Arguments
            config: dict of every setting.
            files: {'vocab.source.txt': bytes, ...}, names of `FILES`.
            about: what else the manifest records: versions, command line, hashes of the data (JSON).
            overwrite: Boolean, whether to remove the files of a run in this directory first.

        # Raises
            UserError: the directory cannot be used; nothing in it has changed, and none has been made.
        """
        run = cls(path)
        cls.check_new(path, overwrite)
        data = collections.OrderedDict(files)
        data['config.json'] = config_bytes(config, run.file('config.json'))  # the last to be written
        is_new_folder, is_ours = not os.path.isdir(path), False
        try:
            os.makedirs(path, exist_ok=True)
            with contextlib.suppress(OSError):  # a parent that cannot be read
                sync_folder(os.path.dirname(os.path.abspath(path)))
            run._take_lock()
            cls.check_new(path, overwrite)  # again: another process may have been faster
            is_ours = True
            run._clear()
            hashes = collections.OrderedDict((name, _sha256(data[name])) for name in data)
            run._write_manifest(collections.OrderedDict([
                ('format', FORMAT), ('program', VERSION), *about.items(), ('files', hashes)]))
            for name in data:
                write_bytes(run.file(name), data[name])
        except (OSError, UserError, KeyboardInterrupt) as error:
            if is_new_folder and is_ours:
                run._discard()
            run.close()
            if isinstance(error, OSError):
                raise user_error(path, 'cannot be created', error) from error
            raise
        run._is_new = True
        return run

    @staticmethod
    def check_new(path, overwrite=False):
        """UserError unless `create` may use `path`. Changes nothing: call it before the data are read."""
        run = RunDirectory(path)
        try:
            names = set(os.listdir(path))
        except FileNotFoundError:
            ownership.check_parent(path)
            return
        except OSError as error:
            raise user_error(path, 'is not a directory that can be used', error) from error
        run._refuse_links()
        names = {name for name in names - {'lock'} if not is_leftover(name)}
        if names <= {'checkpoint'} and not run._list('checkpoint'):
            return  # nothing, or a start cut short before its first file
        try:
            run.manifest()
        except UserError as error:
            raise UserError('%s: holds files, and no manifest.json that shows them to be a run: choose another '
                            'directory or remove them yourself (%s)' % (path, error)) from error
        if not overwrite and any(os.path.lexists(run.file(name)) for name in TRAINED):
            raise UserError('%s: holds a run already: continue it with --resume, replace it with --overwrite, or '
                            'choose another directory' % path)
        ownership.files_to_remove(run)

    @classmethod
    def open(cls, path, lock=False):
        """A run that exists: to read it, or with `lock` to continue it."""
        run = cls(path)
        if not os.path.isdir(path):
            raise UserError('%s: no such run directory: train one first, or name another' % path)
        run._refuse_links()
        if not os.path.lexists(run.file('config.json')):
            raise UserError('%s: is not a run (no config.json): train one first, or name another' % path)
        run.manifest()
        if lock:
            try:
                run._take_lock()
            except UserError:
                run.close()
                raise
        return run

    def close(self):
        """Releases the lock. The file stays: if it were removed, two processes could hold a lock each."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is KeyboardInterrupt and self._is_new and not os.path.lexists(self.file('checkpoint/last')):
            self._discard()  # stopped before its first checkpoint: no half-made run
        self.close()

    def file(self, name):
        return os.path.join(self.path, name)

    # -- what the run is ----------------------------------------------------------------------------------------
    def manifest(self):
        """manifest.json as a dict, checked."""
        path = self.file('manifest.json')
        manifest = parse_json(self._read('manifest.json', limit=2 ** 24), path)
        if manifest.get('format') != FORMAT:
            raise UserError('%s: is not the manifest of a run of this program: choose another directory' % path)
        for key in ('files', 'previous'):
            hashes = manifest.setdefault(key, {})
            for name, value in hashes.items() if isinstance(hashes, dict) else [('', hashes)]:
                if not ownership.is_listed(name) or not is_sha256(value):
                    raise UserError('%s: %s: %s is not the hash of a file of a run: restore the file or train again'
                                    % (path, show(name), show(value)))
        return manifest

    def read_config(self):
        """OrderedDict of every setting. A mistake in the file is reported before a hash that does not match."""
        config = parse_json(self._read('config.json', limit=2 ** 20), self.file('config.json'))
        config = check_config(config, self.file('config.json'))
        self.read_file('config.json')
        return config

    def write_config(self, config):
        """Replaces the settings, for a resumed run that is to stop elsewhere."""
        self.write_file('config.json', config_bytes(config, self.file('config.json')))

    def read_file(self, name):
        """The bytes of a file of `FILES` whose hash is in the manifest, such as a vocabulary."""
        def lookup():
            hashes = _hashes(self.manifest(), name)
            if not hashes and name == 'weights.h5' and os.path.lexists(self.file('checkpoint/last')):
                raise UserError('%s: has no weights yet, since its training stopped before the first validation: '
                                'continue it with %s' % (self.path, command('train.py', '--run', self.path,
                                                                            '--resume')))
            if not hashes:
                raise UserError('%s: has no hash of %s: the training has not written it yet, or the manifest is damaged'
                                % (self.file('manifest.json'), name))
            return name, hashes
        return self._verified(lookup, 'manifest.json')

    def write_file(self, name, data):
        """Writes a file of the manifest: at each instant the manifest has the hash of the file as it is."""
        manifest = self.manifest()
        current = self._read(name, _hashes(manifest, name))
        # Checkpoints that were removed need no hash any more.
        for gone in [other for other in manifest['files']
                     if other not in FILES and not os.path.lexists(self.file(other))]:
            del manifest['files'][gone]
        manifest['files'][name] = _sha256(data)
        if current is not None:
            manifest['previous'][name] = _sha256(current)
        self._write_manifest(manifest)
        write_bytes(self.file(name), data)
        if manifest['previous'].pop(name, None):
            self._write_manifest(manifest)

    # -- weights, checkpoints, log ------------------------------------------------------------------------------
    def write_weights(self, layers):
        """weights.h5 from [(layer name, [(weight name, array), ...]), ...]; before the checkpoint that knows of it."""
        self.write_file('weights.h5', pack_weights(layers))

    def read_weights(self, expected):
        """[(layer name, [array, ...]), ...]; `expected` as in `weights_file.unpack_weights`."""
        return unpack_weights(self.read_file('weights.h5'), expected, self.file('weights.h5'))

    def write_checkpoint(self, step, arrays, state, keep=()):
        """Writes a checkpoint, moves the pointer to it, removes the run's older ones.

        # Arguments
            step: whole number from 0.
            arrays: dict of name -> array (no NaN; names may hold `/`).
            state: dict for JSON, without NaN and infinity (None for "no best score yet").
            keep: names of older checkpoint files not to remove.

        # Returns
            The pointer, {'file', 'sha256', 'step'}, with which `read_checkpoint` reads a kept one.
        """
        content = json.dumps({'arrays': list(arrays), 'state': state}, allow_nan=False).encode('ascii')
        data = pack_weights([('arrays', list(arrays.items())), ('state', [('json', np.frombuffer(content, 'u1'))])])
        last = self.last_checkpoint()
        self._prune({*keep, last['file']} if last else set(keep))  # room on a disk that was full last time
        # Two checkpoints at one step, before and after a validation: the second has a name of its own.
        existing = self._list('checkpoint')
        names = ['%d.h5' % step] + ['%d.%d.h5' % (step, number) for number in range(1, len(existing) + 1)]
        name = next(name for name in names if name not in existing)
        pointer = collections.OrderedDict([('file', name), ('sha256', _sha256(data)), ('step', step)])
        self.write_file('checkpoint/' + name, data)
        write_bytes(self.file('checkpoint/last'), to_json(pointer))
        self._prune({*keep, name})
        return pointer

    def read_checkpoint(self, pointer=None):
        """(arrays, state) of the last checkpoint, or of that of `pointer`; None before the first."""
        def lookup():
            current = self.last_checkpoint() if pointer is None else _check_pointer(pointer, self.path)
            return current and ('checkpoint/' + current['file'], [current['sha256']])
        place = lookup()
        if place is None:
            return None
        reader = WeightsReader(self._verified(lookup, 'checkpoint/last'), self.file(place[0]))
        content = parse_json(reader.read('state/json', dtype=np.dtype('u1')).tobytes(), reader.name)
        names, state = content.get('arrays'), content.get('state')
        stored = sorted(path for path in reader.arrays if path != 'state/json')
        if (not isinstance(names, list) or not isinstance(state, dict)
                or sorted('arrays/%s' % name for name in names if isinstance(name, str)) != stored):
            reader.refuse('is not a checkpoint, or another version wrote it')
        return collections.OrderedDict((name, reader.read('arrays/' + name)) for name in names), state

    def last_checkpoint(self):
        """The pointer to the last checkpoint, as `write_checkpoint` returned it; None before the first."""
        name = 'checkpoint/last'
        if not os.path.lexists(self.file(name)):
            return None
        return _check_pointer(parse_json(self._read(name, limit=2 ** 12), self.file(name)), self.file(name))

    def prune_checkpoints(self, keep):
        """Removes all checkpoints of the run but the last and those whose files are named."""
        last = self.last_checkpoint()
        self._prune({*keep, last['file']} if last else set(keep))

    def write_events(self, step, data):
        """A file for TensorBoard with the results at this step; written again it replaces the one before."""
        try:
            os.makedirs(self.file('tensorboard'), exist_ok=True)
        except OSError as error:
            raise user_error(self.file('tensorboard'), 'cannot be created', error) from error
        # TensorBoard reads the files of a folder in the order of their names.
        self.write_file('tensorboard/events.out.tfevents.%010d' % step, data)

    def write_log(self, rows):
        """log.csv from a list of dicts; a column for each key, in the order in which keys first occur."""
        columns = collections.OrderedDict((key, None) for row in rows for key in row)
        stream = io.StringIO()
        writer = csv.DictWriter(stream, columns, restval='', lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
        self.write_file('log.csv', stream.getvalue().encode('utf-8'))

    # -- how ----------------------------------------------------------------------------------------------------
    def _write_manifest(self, manifest):
        write_bytes(self.file('manifest.json'), to_json(manifest))

    def _prune(self, kept):
        manifest = self.manifest()
        self._remove('checkpoint/' + file for file in self._list('checkpoint') if file not in kept and (
            'checkpoint/' + file in manifest['files'] or 'program' not in manifest and CHECKPOINT.fullmatch(file)))

    def _verified(self, lookup, record):
        """The bytes of a file with a matching hash; `lookup` returns its name and hashes, from the file `record`.

        While another process trains, record and file may change between the two reads: then both are read again.
        """
        place = lookup()
        while True:
            data = self._read(*place)
            if data is not None:
                return data
            before, place = place, lookup()
            if place in (before, None):
                path = self.file(before[0])
                if not os.path.lexists(path):
                    raise UserError('%s: is missing: the training has not written it yet, or it was removed' % path)
                raise UserError('%s: does not match its hash in %s: damaged or changed by hand: restore it or train '
                                'again' % (path, record))

    def _read(self, name, hashes=None, limit=None):
        return read_bytes(self.file(name), hashes, limit)

    def _take_lock(self):
        try:
            self._lock = os.open(self.file('lock'), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.makedirs(self.file('checkpoint'), exist_ok=True)
        except BlockingIOError:
            raise UserError('%s: another process is training in this directory: wait until it ends or choose another '
                            'directory' % self.path)
        except OSError as error:
            raise user_error(self.file('lock'), 'cannot be locked', error) from error
        for folder in ('', 'checkpoint/', 'tensorboard/'):
            self._remove(folder + name for name in self._list(folder) if is_leftover(name, folder))

    def _clear(self):
        """Removes a run's files, config.json first: after that the directory is not a run. The manifest stays."""
        if os.path.lexists(self.file('manifest.json')):
            self._remove(ownership.files_to_remove(self))
        with contextlib.suppress(OSError):  # absent, or it holds other files
            os.rmdir(self.file('tensorboard'))

    def _discard(self):
        """Removes a new run with its directory, as far as the system allows."""
        with contextlib.suppress(OSError, UserError):
            self._clear()
            self._remove(['manifest.json', 'lock'])
            os.rmdir(self.file('checkpoint'))
            os.rmdir(self.path)

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
                raise UserError('%s: is a symbolic link: put the folder itself there' % self.file(name))


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def _hashes(manifest, name):
    return [manifest[key][name] for key in ('files', 'previous') if name in manifest[key]]


def _check_pointer(pointer, name):
    """UserError unless `pointer` is what `write_checkpoint` returns: its file a plain name of a checkpoint."""
    if (set(pointer) != {'file', 'sha256', 'step'} or type(pointer['step']) is not int
            or not isinstance(pointer['file'], str) or not CHECKPOINT.fullmatch(pointer['file'])
            or not is_sha256(pointer['sha256'])):
        raise UserError('%s: does not name a checkpoint: restore it or train again' % name)
    return pointer
