"""Every option of every command with extreme values."""
import argparse
import contextlib
import importlib
import io
import re
from unittest import mock

import pytest

COMMANDS = ('train', 'predict', 'evaluate', 'export', 'regress', 'serve')
TEXTS = ['', ' ', '-', '--', '0', '-0', '-1', '1', '1e308', '-1e308', 'nan', 'inf', '-inf', '9' * 20, '9' * 5000,
         '0x10', '1_000', '1.5', '٣', '½', '1,000', 'x' * 10000, '\x1b[31m\x07', 'a\nb', '%s%n%d', '\udcff',
         '../../x', '中文',
         '1/0', '999999/999999', '10,20', '0,0', 'yes', 'true', 'None', 'average']


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
