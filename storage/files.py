"""Writes files completely or not at all, and reads files and JSON strictly, since they may be damaged or forged.

`write_bytes` writes every file of a run and every other file that a command creates. The tests of crash safety stop
the program there.
"""
import collections
import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import secrets
import stat

from command_line import UserError

REMEDIES = {
    errno.ENOENT: 'check the path',
    errno.EISDIR: 'name a file, not a folder',
    errno.ENOTDIR: 'choose a path whose parts are folders',
    errno.ENOSPC: 'free some space on this disk',
    errno.EDQUOT: 'free some of your quota on this disk',
    errno.EROFS: 'choose a place that is not read-only',
    errno.EACCES: 'check its permissions and those of its directory, or choose another place',
    errno.EPERM: 'check its permissions and those of its directory, or choose another place',
}


def user_error(path, what, error):
    """The `UserError` for an `OSError`: the path, what failed, the system's reason and the remedy."""
    remedy = REMEDIES.get(error.errno, 'check the path and the disk')
    return UserError('%s: %s (%s): %s' % (path, what, error.strerror, remedy))


# ---- Bytes ----------------------------------------------------------------------------------------------------
def write_bytes(path, data):
    """Writes `data` to `path`, whole or not at all: a temporary file, fsync, os.replace, fsync of the directory.

    # Raises
        UserError: the system refuses; the file at `path` is then the old one, or new and whole.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, '.%s.%s.tmp' % (name, secrets.token_hex(4)))
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest):]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        sync_folder(folder)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise user_error(path, 'cannot be written', error) from error
        raise


def sync_folder(folder):
    """Makes the creation and removal of names in a directory durable."""
    descriptor = os.open(folder or '.', os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no fsync of a directory
            raise
    finally:
        os.close(descriptor)


def open_regular(path, links=False, remedy='name a file, not a pipe, a device or a folder'):
    """A regular file as a binary stream: a pipe could block for ever, a device could have no end.

    # Arguments
        links: Boolean, whether a symbolic link is followed.
        remedy: for the message.

    # Raises
        UserError: not a regular file. OSError: the system refuses.
    """
    # Without O_NONBLOCK opening a pipe waits for its writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError('%s: is not a regular file: %s' % (path, remedy))
    return os.fdopen(descriptor, 'rb')


def stream_sha256(stream):
    """Hexadecimal sha256 of the rest of a binary stream, read block by block."""
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(2 ** 20), b''):
        digest.update(block)
    return digest.hexdigest()


def file_sha256(path):
    """Hexadecimal sha256 of a regular file of the user.

    # Raises
        UserError: not a regular file, or the system refuses.
    """
    try:
        with open_regular(path, links=True) as stream:
            return stream_sha256(stream)
    except OSError as error:
        raise user_error(path, 'cannot be read', error) from error


def read_bytes(path, hashes=None, limit=None):
    """The bytes of a regular file of a run: no symbolic link, pipe or device is ever read.

    # Arguments
        hashes: hexadecimal sha256s; the result is None if the file is missing or has another one.
        limit: maximum number of bytes of such a file.

    # Raises
        UserError: missing (without `hashes`), a link, not a regular file, over the limit, or the system refuses.
    """
    remedy = 'restore it or train again'
    try:
        with open_regular(path, remedy=remedy) as stream:
            size = os.fstat(stream.fileno()).st_size
            if limit is not None and size > limit:
                raise UserError('%s: has %d bytes, and the maximum for such a file is %d: %s'
                                % (path, size, limit, remedy))
            if hashes is not None:  # first the hash, block by block: only a file that matches takes memory
                if stream_sha256(stream) not in hashes:
                    return None
                stream.seek(0)
            return stream.read()
    except FileNotFoundError:
        if hashes is not None:
            return None
        raise UserError('%s: is missing: %s' % (path, remedy))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError('%s: is a symbolic link: put the file itself there' % path)
        raise user_error(path, 'cannot be read', error) from error


# ---- JSON -----------------------------------------------------------------------------------------------------
def load_json(text, finite=True):
    """The value of JSON text: every key once, and no number that takes long to read.

    # Arguments
        finite: Boolean, NaN and infinite numbers are refused.

    # Raises
        ValueError, RecursionError
    """
    def pairs(items):
        result = collections.OrderedDict(items)
        if len(result) != len(items):
            counts = collections.Counter(key for key, _ in items)
            raise ValueError('the key %s occurs twice' % show(counts.most_common(1)[0][0]))
        return result

    def number(kind, text):
        if len(text) > 40 or finite and not math.isfinite(kind(text)):
            raise ValueError('%s is not a number that can be used here' % show(text))
        return kind(text)

    return json.loads(text, object_pairs_hook=pairs, **{
        'parse_' + name: functools.partial(number, kind)
        for name, kind in (('int', int), ('float', float), ('constant', float))})


def parse_json(data, name):
    """The JSON object in these UTF-8 bytes, as `load_json` reads it.

    # Raises
        UserError: not a JSON object, a key that occurs twice, NaN, or a number that is infinite or too long.
    """
    try:
        result = load_json(data.decode('utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise UserError('%s: not valid JSON: %s' % (name, ' '.join(str(error).split()))) from error
    if not isinstance(result, dict):
        raise UserError('%s: a JSON object in braces is needed, not %s' % (name, show(result)))
    return result


def to_json(value):
    """JSON for people to read, as bytes; ASCII, since a path may hold what UTF-8 cannot encode."""
    return (json.dumps(value, indent=1, allow_nan=False) + '\n').encode('ascii')


def show(value):
    """A value from a file in the form of messages: one line of limited length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'
