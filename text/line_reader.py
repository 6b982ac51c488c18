"""Lines of text as they come: a file's in portions of full size, a pipe's or a terminal's as soon as they are there."""
import collections
import os
import select
import time
from text.text_files import decode_lines, read_lines
from command_line import UserError

PATIENCE = 0.1  # seconds that a line waits for others to be worked on with it


class LineReader(object):
    """Text of a file, of a pipe, or of standard input.

    # Arguments
        path: `-` is standard input. A name ending in `.gz` is unpacked, unless it is that of a pipe.
        standard: file descriptor of standard input.
        on_bad_utf8: as in `text_files.decode_lines`.

    `name` stands for the path in messages.
    """

    def __init__(self, path, standard, on_bad_utf8):
        self.path, self.standard, self.on_bad_utf8 = path, standard, on_bad_utf8
        self.name = 'standard input' if path == '-' else path
        # What cannot be read twice: a pipe, a terminal, standard input whatever it is.
        self.passes = path == '-' or (os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path))

    def check(self):
        """Refuses a file that cannot be read; what comes once only is not touched."""
        if not self.passes:
            next(read_lines(self.path, self.on_bad_utf8), None)

    def is_terminal(self):
        return self.path == '-' and os.isatty(self.standard)

    def portions(self, size):
        """Lists of 1 to `size` lines: of a pipe, what has come within `PATIENCE` of the first one.

        # Raises
            UserError: as `text_files.read_lines`, after a last list of what precedes.
        """
        if self.passes:
            arriving = _Arriving(self._open(), self.name)
            lines, ready = decode_lines(arriving, self.name, self.on_bad_utf8), arriving.ready
        else:
            lines, ready = read_lines(self.path, self.on_bad_utf8), lambda deadline: True
        portion = []
        try:
            for line in lines:
                if not portion:
                    deadline = time.monotonic() + PATIENCE
                portion.append(line)
                if len(portion) == size or not ready(deadline):
                    yield portion
                    portion = []
        except UserError:
            if portion:
                yield portion
            raise
        if portion:
            yield portion

    def _open(self):
        try:
            return self.standard if self.path == '-' else os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise UserError('%s: %s' % (self.name, error.strerror))


class _Arriving(object):
    """Lines of a descriptor as bytes, with their line feeds. No thread: one that waits for input cannot be ended."""

    def __init__(self, descriptor, name):
        self.descriptor, self.name = descriptor, name
        self.lines, self.parts, self.ended = collections.deque(), [], False

    def __iter__(self):
        return self

    def __next__(self):
        self.ready(None)
        if not self.lines:
            raise StopIteration
        return self.lines.popleft()

    def ready(self, deadline):
        """Whether the next line, or the end, is there before this time of `time.monotonic`; None waits for ever."""
        while not self.lines and not self.ended:
            seconds = None if deadline is None else max(0, deadline - time.monotonic())
            try:
                if not select.select([self.descriptor], [], [], seconds)[0]:
                    return False
                self._take(os.read(self.descriptor, 2 ** 16))
            except OSError as error:
                raise UserError('%s: %s' % (self.name, error.strerror))
        return True

    def _take(self, block):
        first, *others = block.split(b'\n')
        self.parts.append(first)
        for part in others:
            self.lines.append(b''.join(self.parts) + b'\n')
            self.parts = [part]
        if not block:
            self.ended = True
            self.lines.extend(filter(None, [b''.join(self.parts)]))
