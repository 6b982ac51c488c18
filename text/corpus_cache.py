"""Encoded corpora of large texts on disk, so that a second run or `--resume` does not read the text again.

An entry is a directory named by its key, the hash of everything that the corpus depends on. It is built in a directory
beside it, its files are flushed to the disk, the manifest with their hashes comes last, and one rename makes it an
entry. Where two processes build one entry, the second uses its own files and leaves those of the first in place. An
entry that is damaged, or was made by another version, is built again.

The directory may be shared. Each user has their own entries, which nobody else may change: whoever can write an entry
can write its manifest too.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
import unicodedata

from command_line import UserError, tell
from storage.files import file_sha256, parse_json, read_bytes, sync_folder, to_json, user_error

VERSION = 1  # of the entries: raise it whenever equal text and settings give another corpus
MANIFEST, CONTENT = 'manifest.json', 'content.json'
KEPT = 8  # entries in the directory: beyond that, those that were not used for the longest time are removed
MAXIMUM_BYTES = 2 ** 30  # of a JSON file
_ENTRY = re.compile('[0-9a-f]{32}')
_TEMPORARY = re.compile(r'\.[0-9a-f]{32}\.[0-9a-f]{8}\.tmp')


def cache_key(parts):
    """The name of an entry: a hash of `parts`, a JSON value, of the user, the version of the entries and Unicode's."""
    parts = [VERSION, os.geteuid(), sys.version_info[:2], unicodedata.unidata_version, parts]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode('ascii')).hexdigest()[:32]


class CacheEntry(object):
    """One entry, which may not exist yet.

    # Arguments
        folder: directory of the cache.
        key: the entry's name, from `cache_key`.
    """

    def __init__(self, folder, key):
        self._folder, self._key = folder, key
        self._refused = None  # device and inode of an entry that `read` refused
        self.path = os.path.join(folder, key)

    def read(self, open_files=lambda content: content):
        """Reads and checks the entry.

        # Arguments
            open_files: function of the dict that `commit` wrote; it raises a `UserError` if the files do not fit.

        # Returns
            What `open_files` returns; `None` if there is no valid entry, with one line on stderr if it is damaged.
        """
        self._refused = _identity(self.path)
        if self._refused is None:
            return None
        try:
            _check_owner(self.path, stat.S_ISDIR)
            name = os.path.join(self.path, MANIFEST)
            _check_owner(name, stat.S_ISREG)
            manifest = parse_json(read_bytes(name, limit=MAXIMUM_BYTES), name)
            files = manifest.get('files')
            if (manifest.get('key') != self._key or not isinstance(files, dict)
                    or set(files) != set(os.listdir(self.path)) - {MANIFEST}):
                raise UserError('%s: is not the manifest of this corpus' % name)
            for file, sha256 in files.items():
                path = os.path.join(self.path, file)
                _check_owner(path, stat.S_ISREG)
                if file_sha256(path) != sha256:
                    raise UserError('%s: does not have the hash of the manifest' % path)
            with contextlib.suppress(OSError):  # a directory of another user
                os.utime(self.path)  # the time of the last use
            name = os.path.join(self.path, CONTENT)
            return open_files(parse_json(read_bytes(name, limit=MAXIMUM_BYTES), name))
        except (UserError, FileNotFoundError) as error:  # another process may have removed it
            tell('%s; the corpus is built again from its text' % error)
            return None

    @contextlib.contextmanager
    def building(self):
        """A new directory for the entry's files; it is removed unless `commit` made it the entry."""
        path, stack = self._temporary_path(), contextlib.ExitStack()
        try:
            os.makedirs(self._folder, exist_ok=True)
            with _locked(self._folder):
                self._remove_abandoned()
                os.mkdir(path, 0o700)
                # The lock tells other processes that the directory is in use. It ends with this process.
                stack.enter_context(_locked(path))
        except OSError as error:
            raise user_error(self._folder, 'cannot hold the encoded corpus', error) from error
        try:
            with stack:
                yield path
        except OSError as error:
            raise user_error(path, 'cannot be written', error) from error
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _temporary_path(self):
        return os.path.join(self._folder, '.%s.%s.tmp' % (self._key, secrets.token_hex(4)))

    def _remove_abandoned(self):
        """Removes the directories of processes that ended while they built."""
        for name in filter(_TEMPORARY.fullmatch, os.listdir(self._folder)):
            path = os.path.join(self._folder, name)
            with contextlib.suppress(OSError), _locked(path, fcntl.LOCK_NB):
                shutil.rmtree(path)

    def commit(self, path, content):
        """Makes a directory from `building`, whose files are on the disk, the entry.

        If another process has made the entry since `read`, that one stays.

        # Arguments
            path: the directory.
            content: a JSON object that `read` returns.
        """
        _write(os.path.join(path, CONTENT), content)
        files = {name: file_sha256(os.path.join(path, name)) for name in sorted(os.listdir(path))}
        _write(os.path.join(path, MANIFEST), {'key': self._key, 'files': files})
        for name in os.listdir(path):
            os.chmod(os.path.join(path, name), 0o600)
        sync_folder(path)
        with _locked(self._folder):
            found = _identity(self.path)
            if found is not None and found == self._refused:
                try:
                    self._remove(self.path)
                except OSError as error:  # it belongs to somebody else
                    tell('%s: cannot be removed (%s), so that the encoded corpus is not kept: choose another '
                         '--corpus-cache' % (self.path, error.strerror))
            if _identity(self.path) is None:
                os.rename(path, self.path)
                sync_folder(self._folder)
            self._remove_unused()

    def _remove(self, path):
        """Removes an entry, or what is in its place; at once: an entry is whole or absent."""
        removed = os.path.join(self._folder, '.%s.%s.tmp' % (os.path.basename(path), secrets.token_hex(4)))
        os.rename(path, removed)
        if os.path.isdir(removed) and not os.path.islink(removed):
            shutil.rmtree(removed, ignore_errors=True)
        else:
            os.unlink(removed)

    def _remove_unused(self):
        """Removes entries beyond `KEPT`. A process that has one of them open keeps its files until it ends."""
        with contextlib.suppress(OSError):
            entries = [os.path.join(self._folder, name) for name in os.listdir(self._folder) if _ENTRY.fullmatch(name)]
            entries = [path for path in entries if os.lstat(path).st_uid == os.geteuid()]
            for path in sorted(entries, key=os.path.getmtime)[:-KEPT]:
                tell('%s: removing an encoded corpus that was last used on %s; the last %d are kept' % (
                    path, time.strftime('%Y-%m-%d', time.localtime(os.path.getmtime(path))), KEPT))
                self._remove(path)


def _identity(path):
    """Device and inode of what is at a path; `None` if nothing is."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check_owner(path, is_kind):
    """UserError unless what is at a path is of this kind, belongs to this user, and nobody else may change it."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise user_error(path, 'cannot be read', error) from error
    if not is_kind(status.st_mode):
        raise UserError('%s: is not a %s' % (path, 'folder' if is_kind is stat.S_ISDIR else 'regular file'))
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UserError('%s: others may have changed it: it must belong to you, and nobody else may write to it' % path)


@contextlib.contextmanager
def _locked(folder, flags=0):
    """Holds the exclusive lock of a directory."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(descriptor)


def _write(path, value):
    with open(path, 'wb') as stream:
        stream.write(to_json(value))
        stream.flush()
        os.fsync(stream.fileno())
