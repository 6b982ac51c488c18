"""Fonts of the pictures: each label in a font that covers its characters.

Matplotlib 3.3 draws a label in one font, without fallback. Matplotlib is imported where it is used.
"""
import functools
import os
import re

from command_line import require, tell
from reports.alignment_text import BOX, printable

BUNDLED_FONT = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fonts', 'NotoSansSC-Subset.ttf')
REPORTED = 20  # maximum number of characters without a glyph that are named
RIGHT_TO_LEFT = re.compile('[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]')  # Hebrew, Arabic and their like


def check_direction(tokens):
    """Raises `UserError` for tokens of a right-to-left script: Matplotlib neither shapes nor orders their letters."""
    for token in tokens:
        require(not RIGHT_TO_LEFT.search(token), 'a picture cannot show the right-to-left text %r: write a page with '
                '--html instead', token)


def label_font(text, size):
    """Makes `text` safe to draw and chooses a font for it.

    DejaVu Sans (part of Matplotlib) where it covers the text, else the bundled part of Noto Sans SC, else a Chinese
    font of the system. A box replaces a character that no font has, and one message on stderr names it.

    # Returns
        The text, and the `FontProperties` to draw it in.
    """
    from matplotlib.font_manager import FontProperties
    text = RIGHT_TO_LEFT.sub(BOX, printable(text))
    path = next((path for path in _fonts() if _missing(path, text) == 0), None)
    if path is None:
        path = min(_fonts(), key=lambda path: _missing(path, text))
        _report_missing(text, path)
        known = glyph_ids(path)
        box = BOX if ord(BOX) in known else '?'
        text = ''.join(character if ord(character) in known else box for character in text)
    return escape_dollars(text), FontProperties(fname=path, size=size)


def escape_dollars(text):
    # Matplotlib reads text between two dollars as a formula; escaped dollars are drawn. Nothing else is special.
    return text.replace('$', '\\$')


def _missing(path, text):
    return sum(ord(character) not in glyph_ids(path) for character in text)


def _fonts():
    """Paths of the fonts to try, best first. The system's fonts are searched for only when needed."""
    import matplotlib
    yield os.path.join(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    yield BUNDLED_FONT
    for path in _system_fonts():
        yield path


@functools.lru_cache(maxsize=None)
def _system_fonts():
    from matplotlib.font_manager import fontManager
    chinese = re.compile('CJK|Noto Sans SC|Source Han|WenQuanYi|PingFang|Hiragino Sans GB|Heiti|Songti|STHeiti|YaHei|'
                         'SimHei|SimSun|Droid Sans Fallback|Arial Unicode|AR PL')
    paths = {entry.fname for entry in fontManager.ttflist if chinese.search(entry.name)}
    return sorted(paths, key=lambda path: (bool(re.search('Bold|Black|Light|Thin', os.path.basename(path))), path))


@functools.lru_cache(maxsize=None)
def glyph_ids(path):
    """The glyph of each code point that a font has, as a dict; empty if the file is missing or not a font."""
    from matplotlib.ft2font import FT2Font
    try:
        return FT2Font(path).get_charmap()
    except (OSError, RuntimeError):
        return {}


_reported = set()


def _report_missing(text, path):
    missing = sorted({character for character in text if ord(character) not in glyph_ids(path)} - _reported)
    if missing and len(_reported) < REPORTED:
        _reported.update(missing)
        tell('no font has %s: a box is drawn; install a font such as fonts-noto-cjk'
             % ', '.join('%s (U+%04X)' % (character, ord(character)) for character in missing))
