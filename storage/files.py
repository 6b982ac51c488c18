"""Files and JSON where a crash or a stranger may have had a hand in them: written whole, read strictly.

Every file of a run, and every other file that a command makes, passes `write_bytes`; a test of crash safety cuts there.
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
    errno.ENOSPC: 'free some space on this disk',
    errno.EDQUOT: 'free some of your quota on this disk',
    errno.EROFS: 'choose a place that is not read-only',
    errno.EACCES: 'check the rights on it and on its directory, or choose another place',
    errno.EPERM: 'check the rights on it and on its directory, or choose another place',
}


def write_bytes(path, data):
    """Puts `data` at `path`, whole or not at all: written beside it, fsync, os.replace, fsync of the directory.

    Every file of a run passes here. UserError where the system refuses; the target is then unchanged, or new and whole.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f'.{name}.{secrets.token_hex(4)}.tmp')
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
    """Makes names that came or went in the directory last."""
    descriptor = os.open(folder or '.', os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know no fsync of a directory
            raise
    finally:
        os.close(descriptor)


def user_error(path, what, error):
    """The `UserError` that tells of an `OSError`."""
    remedy = REMEDIES.get(error.errno, 'check the path and the disk')
    return UserError(f'{path}: {what} ({error.strerror}): {remedy}')


def read_bytes(path, hashes=None, limit=None):
    """The bytes of a regular file: no symbolic link, pipe or device is ever opened.

    # Arguments
        hashes: hexadecimal sha256s; None comes back if the file is missing or has another one.
        limit: most bytes that such a file can have.

    # Raises
        UserError: missing (without `hashes`), a link, no regular file, over the limit, or the system refuses.
    """
    try:
        # Without O_NONBLOCK a pipe in a file's place would hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, 'rb') as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f'{path}: is no regular file: restore it or train again')
            if limit is not None and status.st_size > limit:
                raise UserError(f'{path}: has {status.st_size} bytes, and no such file has more than {limit}: '
                                'restore it or train again')
            if hashes is not None:  # first the hash, block by block; memory only for a file that fits
                digest = hashlib.sha256()
                for block in iter(lambda: stream.read(2 ** 20), b''):
                    digest.update(block)
                if digest.hexdigest() not in hashes:
                    return None
                stream.seek(0)
            return stream.read()
    except FileNotFoundError:
        if hashes is not None:
            return None
        raise UserError(f'{path}: is missing: restore it or train again')
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f'{path}: is a symbolic link: put the file itself there')
        raise user_error(path, 'cannot be read', error) from error


def parse_json(data, name):
    """The object in these UTF-8 bytes. UserError: no JSON object, a key twice, NaN, infinite or endless numbers."""
    def pairs(items):
        result = collections.OrderedDict(items)
        if len(result) != len(items):
            keys = [key for key, _ in items]
            raise ValueError(f'the key {show(next(key for key in keys if keys.count(key) > 1))} stands twice')
        return result

    def number(kind, text):
        if len(text) > 40 or not math.isfinite(kind(text)):
            raise ValueError(f'{show(text)} is no number that can be used here')
        return kind(text)

    try:
        result = json.loads(data.decode('utf-8-sig'), object_pairs_hook=pairs,
                            parse_int=functools.partial(number, int), parse_float=functools.partial(number, float),
                            parse_constant=functools.partial(number, float))
    except (ValueError, RecursionError) as error:
        raise UserError(f'{name}: not valid JSON: {" ".join(str(error).split())}') from error
    if not isinstance(result, dict):
        raise UserError(f'{name}: a JSON object in braces is needed, not {show(result)}')
    return result


def to_json(value):
    """JSON for people to read, as bytes; ASCII, since a path may hold what UTF-8 cannot."""
    return (json.dumps(value, indent=1, allow_nan=False) + '\n').encode('ascii')


def show(value):
    """A value from a file as it may stand in a message: one line, not too long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'
