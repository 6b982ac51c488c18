"""Progress of a loop on standard error: a bar on a terminal, a line every 30 seconds in a file."""
import os
import sys
import time

try:
    from tqdm import tqdm
except ImportError:  # `regress.py compare` needs NumPy only; a terminal then has plain lines too
    tqdm = None

from command_line import printable

SECONDS_BEFORE_BAR, SECONDS_BETWEEN_LINES = 2, 30


class Progress(object):
    """Counts the steps of a loop and shows how many are done; use it in a `with` statement.

    # Arguments
        total: number of steps, `None` if it is unknown.
        unit: name of the steps, in the plural.
        title: text before the bar, such as `epoch 3/14`.
        done: number of steps that were done before.
        on_terminal: Boolean, whether a terminal shows the bar.
    """

    def __init__(self, total, unit, title='', done=0, on_terminal=True):
        self.total, self.unit, self.title, self.done = total, unit, title, done
        self._first, self._start = done, time.monotonic()
        self._reported = self._start
        self._silent, self._bar = not on_terminal and sys.stderr.isatty(), None
        if tqdm and on_terminal and sys.stderr.isatty():
            bar_format = '{desc}' if total is None else '{desc}{percentage:3.0f}%|{bar}|{postfix}'
            self._bar = tqdm(total=total, initial=done, desc=title and title + ' ', leave=False, file=sys.stderr,
                             dynamic_ncols=True, delay=SECONDS_BEFORE_BAR, bar_format=bar_format)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()

    def advance(self, steps=1, parts=None):
        """Counts steps as done.

        # Arguments
            parts: texts such as `perplexity 5.21` to show, the most important first; by default the number of steps,
                the time left and the speed. The bar shows as many as leave it room.
        """
        self.done += steps
        if self._bar is not None:
            shown = fitting(self.default_parts() if parts is None else parts, columns() - len(self.title))
            show = self._bar.set_description_str if self.total is None else self._bar.set_postfix_str
            show(shown, refresh=False)
            self._bar.update(steps)
        elif not self._silent and time.monotonic() - self._reported >= SECONDS_BETWEEN_LINES:
            self._reported = time.monotonic()
            texts = self.default_parts() if parts is None else [self.count()] + parts
            print(printable(', '.join(([self.title] if self.title else []) + texts)), file=sys.stderr, flush=True)

    def count(self):
        """Such as `1,200 of 5,000 lines`."""
        count = format(self.done, ',')
        if self.total is not None:
            count += ' of ' + format(self.total, ',')
        return '%s %s' % (count, self.unit)

    def default_parts(self):
        """Such as `1,200 of 5,000 lines`, `0:12 left`, `300 a second`; the pace is that of this process."""
        rate = (self.done - self._first) / max(time.monotonic() - self._start, 1e-9)
        parts = [self.count()]
        if self.total is not None and rate:
            parts.append('%s left' % duration((self.total - self.done) / rate))
        return parts + ['%.*f a second' % (0 if rate >= 10 else 2, rate)]


def duration(seconds):
    """`83` as `1:23`, `3683` as `1:01:23`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return '%d:%02d:%02d' % (hours, minutes, seconds) if hours else '%d:%02d' % (minutes, seconds)


def shown(value, decimals=2):
    """`5.2071` as `5.21`, and as `1.01e+304` from ten million on: a training that diverges has such perplexities."""
    return '%.*f' % (decimals, value) if abs(value) < 1e7 else '%.2e' % value


def report(text):
    """Writes a line to standard error, above a progress bar if there is one."""
    if tqdm:
        tqdm.write(printable(text), file=sys.stderr)
        sys.stderr.flush()
    else:
        print(printable(text), file=sys.stderr, flush=True)


def columns():
    """The width of the terminal on standard error."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 80


def fitting(parts, width):
    """The first parts that fit into two thirds of `width` columns, at least one: a third is left for the bar."""
    while len(parts) > 1 and len(', '.join(parts)) + 9 > width * 2 // 3:
        parts = parts[:-1]
    return ', '.join(parts)
