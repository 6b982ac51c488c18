"""What a training shows while it runs: room for the bar on a terminal, plain lines elsewhere."""
import io
import re
import time

import pytest

from training import progress
from training.progress import Progress, duration, fitting

PARTS = ['perplexity 1234.56', '12:34:56 left', '12345 words/s', 'accuracy 45.6 %']


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_durations():
    assert [duration(seconds) for seconds in (0, 83.9, 3683)] == ['0:00', '1:23', '1:01:23']


@pytest.mark.parametrize('columns', [60, 80, 110, 200])
def test_the_bar_has_room_at_every_width_and_no_part_is_cut(monkeypatch, columns):
    stream = Terminal()
    monkeypatch.setattr('sys.stderr', stream)
    monkeypatch.setattr(progress, 'columns', lambda: columns)
    with Progress('epoch 12/14', 1000, 499) as shown:
        shown._bar.ncols, shown._bar.dynamic_ncols = columns, None
        shown._bar.mininterval = shown._bar.miniters = 0
        shown.advance(1, PARTS)
    line = [text for text in stream.getvalue().split('\r') if 'perplexity' in text][-1]
    assert line.startswith('epoch 12/14  50%|')
    bar, postfix = re.fullmatch(r'epoch 12/14  50%\|(.*)\|, (.*?) *', line).groups()
    assert len(bar) >= columns // 5 and len(line.rstrip()) <= columns
    assert postfix == ', '.join(PARTS[:{60: 1, 80: 2, 110: 3, 200: 4}[columns]])


def test_the_most_important_part_is_always_shown():
    assert fitting(PARTS, 10) == PARTS[0] and fitting(PARTS, 500) == ', '.join(PARTS)


def test_without_a_terminal_a_line_appears_every_30_seconds_however_the_clock_is_set(monkeypatch, capsys):
    clock = [1000.]
    monkeypatch.setattr(time, 'monotonic', lambda: clock[0])
    monkeypatch.setattr(time, 'time', lambda: -5.)  # set back
    with Progress('epoch 1/2', 100, 10) as shown:
        for _ in range(7):
            clock[0] += 10
            shown.advance(2, PARTS[:1])
    assert capsys.readouterr().err.splitlines() == [
        'epoch 1/2, batch %d of 100: perplexity 1234.56' % batch for batch in (16, 22)]
