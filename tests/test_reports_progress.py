"""Progress on standard error: what it says, when, and where."""
import io
import sys

import pytest

from reports import progress


class Stream(io.StringIO):
    terminal = True

    def isatty(self):
        return self.terminal


@pytest.fixture
def clock(monkeypatch):
    now = [100.]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    return now


@pytest.mark.parametrize('total, done, seconds, text', [
    (5000, 1200, 4, '1,200 of 5,000 lines, 300 a second, 0:12 left'), (None, 7, 14, '7 lines, 0.50 a second'),
    (10 ** 6, 100, 100, '100 of 1,000,000 lines, 1.00 a second, 277:45:00 left'),
    (9, 0, 5, '0 of 9 lines, 0.00 a second'),
    (200, 100, 100, '100 of 200 lines, 1.00 a second, 1:40 left')])
def test_the_text_of_a_command_has_speed_and_time_left(clock, total, done, seconds, text):
    one = progress.Progress(total, 'lines')
    one.done = done
    assert one.text(clock[0] + seconds) == text


def test_a_terminal_sees_one_line_after_two_seconds_and_a_file_a_line_each_30(clock, monkeypatch):
    for terminal, shown, expected in ((True, True, '\r2 of 9 steps, 0.67 a second, 0:10 left\x1b[K\r\x1b[K'),
                                      (True, False, ''),
                                      (False, True, '3 of 9 steps, 0.09 a second, 1:06 left\n')):
        stream = Stream()
        stream.terminal = terminal
        monkeypatch.setattr(sys, 'stderr', stream)
        with progress.Progress(9, 'steps', shown) as one:
            clock[0] += 1
            one.advance()
            clock[0] += 2
            one.advance()
            if not terminal:
                clock[0] += 30
                one.advance()
                one.advance()
        assert stream.getvalue() == expected
