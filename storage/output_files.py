"""Output files that the user names: whether a command may write there, and how it does.

A device or a FIFO is written to, never replaced. A symbolic link is followed. A regular file is
replaced at the end, or keeps its old content: a command that is stopped leaves no incomplete file.
"""
import contextlib
import os
import secrets
import stat

from command_line import require
from storage.files import sync_folder, user_error

STREAMS = ('/dev', '/dev/fd', '/proc/self/fd')  # files there are opened as they are


def check_outputs(outputs, inputs=(), folders=()):
    """Checks, before any work, that each output of a command may be written where it is named.

    # Arguments
        outputs: pairs (option, path) of output files; `None` is no output, `-` is standard output.
        inputs: paths and file descriptors that the command reads; `None` and `-` are skipped.
        folders: directories that the command reads, such as run directories.

    # Raises
        UserError: an output is a directory or a socket, has no directory or no permission to be written, is a file
            that the command reads, or is the file of another output.
    """
    names = {}
    for source in inputs:
        if source not in (None, '-'):
            names.setdefault(_identity(source), 'the input')
    for folder in folders:
        for path in _files(folder):
            names.setdefault(_identity(path), 'a file of %s' % folder)
    names.pop(None, None)
    for option, path in outputs:
        if path is None:
            continue
        if path == '-':
            identity, path = _identity(1), 'standard output'
        else:
            identity = _check_node(option, path)
        require(identity not in names, '%s: is %s too: name another file for %s', path, names.get(identity), option)
        if identity is not None:
            names[identity] = 'the file of ' + option


def check_output_directory(option, path):
    """Checks that a command may write files into the directory `path`, which it makes if it is missing.

    # Raises
        UserError
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise user_error(path, 'cannot be created for ' + option, error)
    require(os.access(path, os.W_OK | os.X_OK), '%s: cannot be written: check its permissions, or choose another '
            'directory for %s', path, option)


def _check_node(option, path):
    """Checks one output path; returns its identity, `None` for a device."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        real = os.path.realpath(path)
        folder = os.path.dirname(real)
        require(os.path.isdir(folder), '%s: its directory does not exist: create it, or choose another path for %s',
                path, option)
        require(os.access(folder, os.W_OK | os.X_OK), '%s: cannot be written: check the permissions of its '
                'directory, or choose another path for %s', path, option)
        return real
    except OSError as error:
        raise user_error(path, 'cannot be written', error)
    require(not stat.S_ISDIR(kind), '%s: is a directory: name a file for %s', path, option)
    require(not stat.S_ISSOCK(kind), '%s: is a socket: name a file for %s', path, option)
    require(os.access(path, os.W_OK), '%s: cannot be written: check its permissions, or choose another path for %s',
            path, option)
    return _identity(path)


def _files(folder, depth=1):
    """Paths of the files in a directory and in its directories, as those of a run; none where it cannot be read."""
    with contextlib.suppress(OSError):  # what is wrong with an input has messages of its own
        for entry in os.scandir(folder):
            if not entry.is_dir(follow_symlinks=False):
                yield entry.path
            elif depth:
                yield from _files(entry.path, depth - 1)


def _identity(file):
    """A value that is equal for two names of one regular file or FIFO; `None` for devices and what does not exist."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode) else None


class OutputFile(object):
    """A file that a command writes piece by piece; `close` puts it in its place, `discard` leaves nothing behind.

    # Arguments
        path: the name that the user gave.
        at_once: Boolean, write to the file itself from the first piece on, for results of an input without end.
            Devices, FIFOs, and files in a directory that cannot be written are always written so.

    # Raises
        UserError: the system cannot write it; nothing is left then. A `BrokenPipeError` is raised as it is.
    """

    def __init__(self, path, at_once=False):
        self.path, self.real = path, os.path.realpath(path)
        folder, name = os.path.split(self.real)
        self.descriptor = self.temporary = None
        if os.path.exists(path) and (not os.path.isfile(path) or os.path.dirname(path) in STREAMS):
            self.real, at_once = path, True  # /dev/stdout leads to a pipe without a real path
        self.at_once = at_once or not os.access(folder, os.W_OK)
        if not self.at_once:
            self.temporary = os.path.join(folder, '.%s.%s.tmp' % (name[:200], secrets.token_hex(4)))
            try:
                with self._user_errors():
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                    self.descriptor = os.open(self.temporary, flags, 0o666)
                    if os.path.exists(self.real):
                        os.fchmod(self.descriptor, stat.S_IMODE(os.stat(self.real).st_mode))
            except BaseException:  # a signal: nobody has this object yet who could discard it
                self.discard()
                raise

    @contextlib.contextmanager
    def _user_errors(self):
        try:
            yield
        except OSError as error:
            self.discard()
            if isinstance(error, BrokenPipeError):
                raise
            raise user_error(self.path, 'cannot be written', error) from error

    def write(self, data):
        """Writes bytes; after an error, and after `close` or `discard`, `UserError`."""
        with self._user_errors():
            if self.descriptor is None:
                require(self.at_once, '%s: cannot be written any more', self.path)
                self.descriptor = os.open(self.real, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self.descriptor, rest):]

    def close(self):
        """Puts the whole file in its place."""
        if self.at_once and self.descriptor is None:
            self.write(b'')  # no piece at all: an empty file
        if self.descriptor is None:
            return
        with self._user_errors():
            if self.temporary is not None:
                os.fsync(self.descriptor)
                os.replace(self.temporary, self.real)
                self.temporary = None
                sync_folder(os.path.dirname(self.real))
            descriptor, self.descriptor = self.descriptor, None
            os.close(descriptor)

    def discard(self):
        """Removes the pieces; what was written at once stays."""
        if self.descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self.descriptor)
        if self.temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.temporary)
        self.descriptor = self.temporary = None
        self.at_once = False


def write_output(path, data):
    """Writes bytes to the file that the user named, whole or not at all; into a device or FIFO.

    # Raises
        UserError
    """
    output = OutputFile(path)
    try:
        output.write(data)
        output.close()
    except BaseException as error:
        output.discard()
        if isinstance(error, BrokenPipeError):
            raise user_error(path, 'cannot be written', error) from error
        raise
