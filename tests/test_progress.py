"""Progress on standard error: room for the bar on a terminal, plain lines in a file."""
import io
import re
import subprocess
import sys
import time

import pytest

from reports import progress
from reports.progress import Progress, duration, fitting, shown
from test_commands import ROOT

PARTS = ['perplexity 1234.56', '12:34:56 left', '12345 words/s', 'accuracy 45.6 %']


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [1000.]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    return now


def test_durations():
    assert [duration(seconds) for seconds in (0, 83.9, 3683)] == ['0:00', '1:23', '1:01:23']


def test_numbers_of_a_training_that_diverges_are_short():
    assert [shown(value) for value in (5.2071, 9999999., 1e7, 1e304)] == ['5.21', '9999999.00', '1.00e+07', '1.00e+304']
    assert [shown(value, 4) for value in (5.2071, -1e300)] == ['5.2071', '-1.00e+300']


def terminal_output(monkeypatch, columns, *args, **options):
    """What a terminal of this width receives for one step of a `Progress`."""
    stream = Terminal()
    monkeypatch.setattr('sys.stderr', stream)
    monkeypatch.setattr(progress, 'columns', lambda: columns)
    monkeypatch.setattr(progress, 'SECONDS_BEFORE_BAR', 0)
    parts = options.pop('parts', None)
    with Progress(*args, **options) as shown:
        if shown._bar is not None:
            shown._bar.ncols, shown._bar.dynamic_ncols = columns, None
            shown._bar.mininterval = shown._bar.miniters = 0
        shown.advance(1, parts)
    return stream.getvalue()


@pytest.mark.parametrize('columns', [60, 80, 110, 200])
def test_the_bar_has_room_at_every_width_and_no_part_is_cut(monkeypatch, columns):
    seen = terminal_output(monkeypatch, columns, 1000, 'batches', 'epoch 12/14', 499, parts=PARTS)
    line = [text for text in seen.split('\r') if 'perplexity' in text][-1]
    bar, postfix = re.fullmatch(r'epoch 12/14  50%\|(.*)\|, (.*?) *', line).groups()
    assert len(bar) >= columns // 5 and len(line.rstrip()) <= columns
    assert postfix == ', '.join(PARTS[:{60: 1, 80: 2, 110: 3, 200: 4}[columns]])


def test_a_command_shows_count_time_left_and_speed(monkeypatch):
    assert '1 of 9 lines, ' in terminal_output(monkeypatch, 120, 9, 'lines')
    assert re.search('\r1 lines, [0-9.]+ a second', terminal_output(monkeypatch, 120, None, 'lines'))
    assert terminal_output(monkeypatch, 120, 9, 'lines', on_terminal=False) == ''


def test_no_bar_appears_in_the_first_two_seconds(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr('sys.stderr', stream)
    with Progress(9, 'lines') as shown:
        shown.advance()
    assert '%' not in stream.getvalue()


def test_the_most_important_part_is_always_shown():
    assert fitting(PARTS, 10) == PARTS[0] and fitting(PARTS, 500) == ', '.join(PARTS)


@pytest.mark.parametrize('total, done, seconds, parts', [
    (5000, 1200, 4, ['1,200 of 5,000 lines', '0:12 left', '300 a second']),
    (None, 7, 14, ['7 lines', '0.50 a second']),
    (10 ** 6, 100, 100, ['100 of 1,000,000 lines', '277:45:00 left', '1.00 a second']),
    (9, 0, 5, ['0 of 9 lines', '0.00 a second'])])
def test_the_parts_of_a_command(clock, total, done, seconds, parts):
    shown = Progress(total, 'lines')
    shown.done = done
    clock[0] += seconds
    assert shown.default_parts() == parts


def test_without_a_terminal_a_line_appears_every_30_seconds_however_the_clock_is_set(clock, monkeypatch, capsys):
    monkeypatch.setattr(time, 'time', lambda: -5.)  # set back
    with Progress(100, 'batches', 'epoch 1/2', 10) as training, Progress(9, 'lines') as command:
        for _ in range(7):
            clock[0] += 10
            training.advance(2, PARTS[:1])
            command.advance()
    assert capsys.readouterr().err.splitlines() == [
        'epoch 1/2, 16 of 100 batches, perplexity 1234.56', '3 of 9 lines, 1:00 left, 0.10 a second',
        'epoch 1/2, 22 of 100 batches, perplexity 1234.56', '6 of 9 lines, 0:30 left, 0.10 a second']


def test_progress_needs_no_library():
    """`regress.py compare` needs NumPy only."""
    code = "import sys; sys.modules['tqdm'] = None; from reports.progress import Progress, report; report('x')"
    done = subprocess.run([sys.executable, '-c', code], cwd=str(ROOT), stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b'x\n')
