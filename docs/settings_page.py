"""Writes docs/settings.md, the page of all settings, from the table in settings.py.

    .venv/bin/python docs/settings_page.py
"""
import itertools
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import settings  # noqa: E402  the checkout is on the path now
from text.word_aligner import of_preset  # noqa: E402

PATH = os.path.join(HERE, 'settings.md')
HEAD = '''# Settings

Every setting of `train.py`. `make settings-page` generates this page from the table in `settings.py`; a test
compares the two. A run stores all settings in its `config.json`. `train.py --config FILE` reads such a file;
options on the command line override it.
'''


def kind(row):
    """What an option takes: its choices, or a kind of value with its range."""
    if row.choices:
        return ', '.join('`%s`' % choice for choice in row.choices)
    if row.kind is bool:
        return 'yes, no'
    name = {int: 'integer', float: 'number', str: 'text'}.get(row.kind, row.kind)
    limits = [text % settings.shown(value) for text, value in (
        ('from %s', getattr(row, 'minimum', None)), ('to %s', getattr(row, 'maximum', None))) if value is not None]
    return ' '.join([name] + limits)


def page():
    """The page as text."""
    lines = [HEAD]
    for group, rows in itertools.groupby(settings.SETTINGS.values(), lambda row: row.group):
        lines += ['## %s' % group.capitalize(), '', '| option | default | takes | meaning |', '|---|---|---|---|']
        lines += ['| `%s` | %s | %s | %s |' % (row.option, settings.shown(row.default), kind(row),
                                               row.help.replace('|', '\\|')) for row in rows]
        lines.append('')
    lines += ['## Tasks and presets', '', 'A task or preset replaces these defaults; options override them.', '']
    for name, values in settings.PRESETS.items():
        option = '--preset' if name in settings.CORPORA else '--task'
        words = ' '.join('%s %s' % (settings.SETTINGS[key].option, settings.shown(value))
                         for key, value in values.items())
        more = '; ' + of_preset(name) if name in settings.GUIDED else ''
        lines.append('- `%s %s`: %s%s' % (option, name, '`%s`' % words if words else 'the defaults above', more))
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    with open(PATH, 'w', encoding='utf-8', newline='\n') as stream:
        stream.write(page())
