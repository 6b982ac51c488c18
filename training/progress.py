"""What a training shows on stderr while it runs: a bar on a terminal, elsewhere a plain line from time to time."""
import os
import sys
import time

from tqdm import tqdm

from command_line import printable

EVERY = 30  # seconds between plain lines, at most


def duration(seconds):
    """`83` as `1:23`, `3683` as `1:01:23`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return '%d:%02d:%02d' % (hours, minutes, seconds) if hours else '%d:%02d' % (minutes, seconds)


def report(text):
    """Writes a line to stderr, above the progress bar if there is one."""
    tqdm.write(printable(text), file=sys.stderr)
    sys.stderr.flush()


def columns():
    """The width of the terminal on stderr."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 80


class Progress(object):
    """The progress of one epoch; use it in a `with` statement.

    # Arguments
        title: such as `epoch 3/14`.
        total, done: batches of the epoch, and those that were done before.
    """

    def __init__(self, title, total, done):
        self.title, self.total, self.done = title, total, done
        self._bar = tqdm(total=total, initial=done, leave=False, file=sys.stderr, disable=not sys.stderr.isatty(),
                         dynamic_ncols=True, desc=title, bar_format='{desc} {percentage:3.0f}%|{bar}|{postfix}')
        self._reported = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def advance(self, batches, parts):
        """Counts batches as done.

        # Arguments
            parts: texts such as `perplexity 5.21`, the most important first. The bar shows as many as leave it room.
        """
        self.done += batches
        if not self._bar.disable:
            self._bar.set_postfix_str(fitting(parts, columns() - len(self.title)), refresh=False)
            self._bar.update(batches)
        elif time.monotonic() - self._reported >= EVERY:
            self._reported = time.monotonic()
            report('%s, batch %d of %d: %s' % (self.title, self.done, self.total, ', '.join(parts)))


def fitting(parts, room):
    """The first of the parts that fit into this many columns beside a percentage and a bar of a third of them."""
    while len(parts) > 1 and len(', '.join(parts)) + 9 > room * 2 // 3:
        parts = parts[:-1]
    return ', '.join(parts)
