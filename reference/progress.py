"""Progress of a command that takes longer than two seconds: one line on a terminal, a line each 30 s in a file."""
import sys
import time

FIRST, EACH = 2., 30.


class Progress(object):
    """Counts steps of a known number and shows "n of N" on standard error.

    # Arguments
        total: number of steps.
        what: what is counted, in the plural.
    """

    def __init__(self, total, what):
        self.total, self.what, self.done = total, what, 0
        self.start = self.shown = time.monotonic()
        self.line = False

    def advance(self, by=1):
        self.done += by
        now = time.monotonic()
        text = '%d of %d %s' % (self.done, self.total, self.what)
        if sys.stderr.isatty():
            if now - self.start > FIRST:
                sys.stderr.write('\r%s\x1b[K' % text)
                sys.stderr.flush()
                self.line = True
        elif now - self.shown > EACH:
            self.shown = now
            print(text, file=sys.stderr, flush=True)

    def close(self):
        if self.line:
            sys.stderr.write('\r\x1b[K')
            sys.stderr.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
