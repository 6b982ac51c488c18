"""Reads lines of text in chunks: full chunks of a file, and from a pipe or terminal the lines that have arrived."""
import collections
import itertools
import os
import select
import time
from text.text_files import LONGEST_LINE, READ_ERRORS, decode_lines, open_packed, read_lines
from storage.files import user_error
from command_line import UserError

PATIENCE = 0.1  # seconds that a line waits for others of its chunk
HEAD = 100  # lines that tell what an input is
LARGEST_CHUNK = 2 ** 22  # characters, so that a chunk of long lines does not fill the memory


class LineReader(object):
    """The lines of a file, a pipe or standard input.

    # Arguments
        path: `-` is standard input. A file whose name ends in `.gz`, `.bz2` or `.xz` is unpacked.
        standard: file descriptor of standard input.
        on_bad_utf8: as in `text_files.decode_lines`.

    `name` is the path as messages show it.
    """

    def __init__(self, path, standard, on_bad_utf8):
        self.path, self.standard, self.on_bad_utf8 = path, standard, on_bad_utf8
        self.name = 'standard input' if path == '-' else path
        # What can be read once only: a pipe, a terminal, and standard input whatever it is.
        self.read_once = path == '-' or (os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path))

    def head(self):
        """The first lines of a file; none of what can be read once only. UserError: the first line cannot be read."""
        lines = []
        if not self.read_once:
            try:
                lines.extend(itertools.islice(read_lines(self.path, self.on_bad_utf8), HEAD))
            except UserError:
                if not lines:
                    raise  # else `chunks` does, after the lines before
        return lines

    def count(self, largest=None):
        """Number of lines of a file. `None` for a pipe, damaged data, and a file of more than `largest` bytes.
        """
        if self.read_once:
            return None
        try:
            if largest is not None and os.path.getsize(self.path) > largest:
                return None
            with open_packed(self.path) as stream:
                lines, last = 0, b'\n'
                for block in iter(lambda: stream.read(2 ** 20), b''):
                    lines, last = lines + block.count(b'\n'), block[-1:]
            return lines + (last != b'\n')
        except READ_ERRORS:
            return None  # `chunks` names the line where the data is damaged

    def is_terminal(self):
        return self.path == '-' and os.isatty(self.standard)

    def chunks(self, size):
        """Yields lists of up to `size` lines; of a pipe, those that arrive within `PATIENCE` of the first one.

        # Raises
            UserError: as `text_files.read_lines`, after a last list with the lines before.
        """
        if self.read_once:
            arriving = _Arriving(self._open(), self.name)
            lines, ready = decode_lines(arriving, self.name, self.on_bad_utf8), arriving.ready
        else:
            lines, ready = read_lines(self.path, self.on_bad_utf8), lambda deadline: True
        chunk, characters = [], 0
        try:
            for line in lines:
                if not chunk:
                    deadline, characters = time.monotonic() + PATIENCE, 0
                chunk.append(line)
                characters += len(line)
                if len(chunk) == size or characters > LARGEST_CHUNK or not ready(deadline):
                    yield chunk
                    chunk = []
        except UserError:
            if chunk:
                yield chunk
            raise
        if chunk:
            yield chunk

    def _open(self):
        try:
            return self.standard if self.path == '-' else os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise user_error(self.name, 'cannot be read', error)


class _Arriving(object):
    """Lines of a descriptor as bytes, with their line feeds. No thread: nothing can end one that waits for input."""

    def __init__(self, descriptor, name):
        self.descriptor, self.name = descriptor, name
        self.lines, self.parts, self.size, self.ended = collections.deque(), [], 0, False

    def __iter__(self):
        return self

    def __next__(self):
        self.ready(None)
        if not self.lines:
            raise StopIteration
        return self.lines.popleft()

    def ready(self, deadline):
        """Whether the next line, or the end, arrives before this time of `time.monotonic`; `None`: no limit."""
        while not self.lines and not self.ended:
            seconds = None if deadline is None else max(0, deadline - time.monotonic())
            try:
                if not select.select([self.descriptor], [], [], seconds)[0]:
                    return False
                self._take(os.read(self.descriptor, 2 ** 16))
            except OSError as error:
                raise user_error(self.name, 'cannot be read', error)
        return True

    def _take(self, block):
        first, *others = block.split(b'\n')
        self.parts.append(first)
        self.size += len(first)
        for part in others:
            self.lines.append(b''.join(self.parts) + b'\n')
            self.parts, self.size = [part], len(part)
        if not block or self.size > LONGEST_LINE:  # `decode_lines` refuses a longer line by its number
            self.ended = True
            self.lines.extend(filter(None, [b''.join(self.parts)]))
