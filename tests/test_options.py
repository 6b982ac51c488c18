"""Every option of every command with extreme values: parsed here, and run against limits of time and memory."""
import argparse
import collections
import concurrent.futures
import contextlib
import importlib
import io
import re
import shutil
import subprocess
import sys
import time
from unittest import mock

import pytest

import settings
from test_commands import ROOT, environment, trained  # noqa: F401

COMMANDS = ('train', 'predict', 'evaluate', 'export', 'regress', 'serve')
TEXTS = ['', ' ', '-', '--', '0', '-0', '-1', '1', '1e308', '-1e308', 'nan', 'inf', '-inf', '9' * 20, '9' * 5000,
         '0x10', '1_000', '1.5', '٣', '½', '1,000', 'x' * 10000, '\x1b[31m\x07', 'a\nb', '%s%n%d', '\udcff',
         '../../x', '中文',
         '1/0', '999999/999999', '10,20', '0,0', 'yes', 'true', 'None', 'average']
# Of a command, and of its address space, which has the stacks of 512 threads.
SECONDS, BYTES = 600, 24 * 2 ** 30
LIMITED = ['sh', '-c', 'ulimit -v %d; exec "$@"' % (BYTES // 1024), 'sh']


class Captured(Exception):
    """Carries the parser of a command."""


def parser_of(command):
    """The parser that a command makes."""
    def capture(self, *arguments, **options):
        raise Captured(self)

    with mock.patch.object(argparse.ArgumentParser, 'parse_args', capture):
        try:
            importlib.import_module(command).parse([])
        except Captured as found:
            return found.args[0]


def parsers(parser, prefix=()):
    """Yields (arguments, parser) of a parser and of those of its subcommands."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield prefix, parser
    for group in groups:
        for name, inner in group.choices.items():
            yield from parsers(inner, prefix + (name,))


def options_of(command):
    """[(arguments, parser, action)] of the options of a command that take a value, and of its positional arguments."""
    return [(prefix, parser, action) for prefix, parser in parsers(parser_of(command))
            for action in parser._actions if action.nargs != 0]


@pytest.mark.parametrize('command', COMMANDS)
def test_any_text_for_any_option_is_parsed_or_is_wrong_usage(command, summary):
    tried = refused = 0
    found = options_of(command)
    assert len(found) > 8
    for prefix, parser, action in found:
        for text in TEXTS:
            arguments = [text if other is action else 'x' for other in parser._actions if not other.option_strings]
            if action.option_strings:
                arguments.append('%s=%s' % (action.option_strings[-1], text))
            told = io.StringIO()
            tried += 1
            with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
                try:
                    parser.parse_args(arguments)
                except SystemExit as error:
                    refused += 1
                    assert error.code == 2, (arguments, error.code)
                    last = told.getvalue().rstrip('\n').split('\n')[-1]
                    assert not re.search('[\0-\x08\x0b-\x1f\x7f]', told.getvalue()), (prefix, text)
                    assert len(last) < 1200, (prefix, action.dest, len(last))
    summary('%s.py: %d options x %d texts: %d tried, %d refused as wrong usage, no other end' % (
        command, len(found), len(TEXTS), tried, refused))
    assert tried / 10 < refused < tried


TRAIN = ['train.py', '--data', 'numbers', '--dry-run', '--units', '8', '--embedding', '8', '--threads', '1']
PREDICT = ['predict.py', '--run', 'run', '--input', 'in', '--threads', '1']
EVALUATE = ['evaluate.py', '--run', 'run', '--threads', '1']
EXPORT = ['export.py', 'run', 'new/%d']
OTHERS = [
    PREDICT + ['--beam-width', '1000', '--n-best', '1000', '--json'],
    PREDICT + ['--beam-width', '1000', '--min-length', '999'],
    PREDICT + ['--beam-width', '1000', '--min-length', '10000'],
    PREDICT + ['--beam-width', '1000', '--batch-size', '65536', '--no-repeat-ngram', '100'],
    PREDICT + ['--max-length-ratio', '1000'], PREDICT + ['--max-length-ratio', '1e-300'],
    PREDICT + ['--beam-width', '9', '--length-penalty', '100', '--coverage-penalty', '1000'],
    PREDICT + ['--shard', '999999/999999'], PREDICT + ['--replace-unk', '/dev/zero'],
    PREDICT + ['--html', 'x' * 5000], PREDICT + ['--plot-dir', 'x' * 5000], PREDICT + ['--output', ''],
    PREDICT + ['--plot-dir', ''], PREDICT + ['--html', ''], PREDICT + ['--input', ''], PREDICT + ['--run', ''],
    PREDICT + ['--run', 'run'] * 20,
    EVALUATE + ['--bootstrap', '100000'], EVALUATE + ['--by-length', ','.join(map(str, range(1, 3000)))],
    EVALUATE + ['--by-length', '9' * 4000], EVALUATE + ['--alignments', '/dev/zero'], EVALUATE + ['--output', ''],
    EVALUATE + ['--hypotheses', '/dev/zero'], EVALUATE + ['--test', '/dev/zero'], EVALUATE + ['--run', '/dev/zero'],
    EXPORT + ['--beam-width', '1000', '--n-best', '1000'], EXPORT + ['--format', 'onnx', '--beam-width', '1000'],
    ['export.py', 'run', ''], ['export.py', '', 'new/x'], ['export.py', '/dev/zero', 'new/x'],
    ['regress.py', 'export', 'run', 'new/%d', '--beam-width', '1000000000'],
    ['regress.py', 'export', 'run', 'new/%d', '--input', '/dev/zero'], ['regress.py', 'export', '', ''],
    ['regress.py', 'compare', 'run', 'run', '--rtol', '1e9', '--atol', '1e9'], ['regress.py', 'compare', '', ''],
    ['regress.py', 'compare', 'set', 'set', '--rtol', '0', '--atol', '1e-300', '--files', '*' * 99],
    ['regress.py', 'capture', '/dev/zero', 'new/%d'], ['regress.py', 'capture', '--build', 'in:f', 'new/%d'],
    ['regress.py', 'explain', '/dev/zero'], ['regress.py', 'check', '/dev/zero'], ['regress.py', 'record', ''],
    ['serve.py', '--run', 'run', '--port', '99999999'], ['serve.py', '--run', 'run', '--host', 'x' * 5000],
    ['serve.py', '--run', '/dev/zero'], ['serve.py', '--run', 'run', '--wait', '1e308'],
    TRAIN + ['--train', ''], TRAIN + ['--train', 'in', '/dev/zero'], TRAIN + ['--data', 'x' * 5000],
    TRAIN + ['--config', '/dev/zero'], TRAIN + ['--source-embeddings', '/dev/zero'],
    TRAIN + ['--init-from', '/dev/zero'], TRAIN + ['--init-from', ''], TRAIN + ['--run', 'x' * 5000],
    TRAIN + ['--corpus-cache', 'x' * 5000],
    TRAIN + ['--format', 'babi'], TRAIN + ['--format', 'qa'],
    TRAIN + ['--alignments', '/dev/zero', '--guided-alignment', '1000']]


ALONE = ('batch_size', 'accumulate', 'learning_rate', 'weight_decay', 'coverage_loss', 'init_scale')
FIXED = ('units', 'embedding', 'encoder_units', 'attention_units', 'max_source_length', 'max_target_length',
         'max_length', 'memory_limit', 'guided_alignment', 'hops')


def number_cases():
    """Commands with each number of the table of settings at the end of its range.

    Most numbers of the group `training` change no size and no speed: one command has all of them.
    """
    numbers = [row for row in settings.SETTINGS.values() if row.kind in (int, float)]
    many = [row for row in numbers if row.group == 'training' and row.name not in ALONE + FIXED]
    yield TRAIN + [text for row in many for text in (row.option, str(row.maximum))]
    yield TRAIN + [text for row in numbers if row.name not in FIXED for text in (row.option, str(row.minimum))]
    for row in numbers:
        if row not in many:
            yield TRAIN + [row.option, str(row.maximum)]
    for command in (PREDICT, EVALUATE, EXPORT):
        for name in settings.DECODING + (('batch_size', 'threads') if command is not EXPORT else ()):
            row = settings.SETTINGS[name]
            yield command + [row.option, str(row.maximum)]


def run_limited(arguments, folder, name):
    """(exit code, standard error, seconds) of a command, which is killed after `SECONDS`."""
    command = LIMITED + [sys.executable, str(ROOT / arguments[0])]
    command += [text.replace('%d', name) for text in arguments[1:]]
    with open(str(folder / (name + '.err')), 'w+b') as errors:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=str(folder), env=environment(), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=errors)
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        errors.seek(0)
        return code, errors.read().decode('utf-8'), time.monotonic() - started


@pytest.mark.slow
def test_extreme_values_end_within_limits_of_time_and_memory(trained, tmp_path, summary):  # noqa: F811
    shutil.copytree(str(trained.path), str(tmp_path / 'run'))
    shutil.copytree(str(trained.data), str(tmp_path / 'numbers'))
    (tmp_path / 'in').write_bytes(b'nine five\ntwo\n')
    (tmp_path / 'set').mkdir()
    shutil.copy(str(ROOT / 'reference' / 'dot-gru.float64.npz'), str(tmp_path / 'set'))
    before = {path: path.read_bytes() for path in tmp_path.glob('*/*') if path.is_file()}
    cases = list(number_cases()) + OTHERS
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda case: run_limited(case[1], tmp_path, 'case%d' % case[0]), enumerate(cases)))
    codes = collections.Counter()
    for arguments, (code, told, seconds) in zip(cases, found):
        place = ([text[:60] for text in arguments], code, told[-2000:])
        assert code in (0, 1, 2), place
        assert 'Traceback' not in told and not re.search('[\0-\x08\x0b-\x0c\x0e-\x1f\x7f]', told), place
        if code == 1:
            lines = told.rstrip('\n').split('\n')
            assert lines[-1].startswith(arguments[0] + ': ') and len(lines[-1]) < 7000, place
        codes[code] += 1
    assert {path: path.read_bytes() for path in before} == before
    slowest = max(zip(found, cases), key=lambda pair: pair[0][2])
    summary('extreme values: %d commands tried, %d ended well, %d refused in one line, %d wrong usage; the slowest '
            '%.0f s (%s)' % (len(cases), codes[0], codes[1], codes[2], slowest[0][2], ' '.join(slowest[1])[:80]))
