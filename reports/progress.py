"""Progress of a command that takes longer than two seconds: one line on a terminal, a line each 30 s in a file."""
import sys
import time

FIRST, EACH = 2., 30.  # seconds: before anything is shown, between lines in a file


class Progress(object):
    """Counts steps and shows "n of N" on standard error, with speed and the time left.

    # Arguments
        total: number of steps; `None` if it is not known.
        what: what is counted, in the plural.
        shown: Boolean, whether a terminal shows it.
    """

    def __init__(self, total, what, shown=True):
        self.total, self.what, self.shown, self.done = total, what, shown, 0
        self.start = self.reported = time.monotonic()
        self.line = False

    def advance(self, by=1):
        self.done += by
        now = time.monotonic()
        if sys.stderr.isatty():
            if self.shown and now - self.start > FIRST and (not self.line or now - self.reported > .1):
                sys.stderr.write('\r%s\x1b[K' % self.text(now))
                sys.stderr.flush()
                self.line, self.reported = True, now
        elif now - self.reported > EACH:
            self.reported = now
            print(self.text(now), file=sys.stderr, flush=True)

    def text(self, now):
        """Such as '1,200 of 5,000 lines, 300 a second, 0:12 left'."""
        rate = self.done / max(now - self.start, 1e-9)
        counted = '{:,}'.format(self.done) if self.total is None else '{:,} of {:,}'.format(self.done, self.total)
        text = '%s %s, %.*f a second' % (counted, self.what, 0 if rate >= 10 else 2, rate)
        if self.total and self.done:
            left = int((self.total - self.done) / rate)
            minutes = '%d:%02d' % divmod(left // 60, 60) if left >= 3600 else '%d' % (left // 60)
            text += ', %s:%02d left' % (minutes, left % 60)
        return text

    def close(self):
        if self.line:
            sys.stderr.write('\r\x1b[K')
            sys.stderr.flush()
            self.line = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
