"""Pictures: alignments as PNG, as one HTML page and as text for a terminal; training curves as PNG.

Matplotlib is imported where it is used, so that importing this module is cheap, and it is used through
`Figure` and `FigureCanvasAgg` alone: `pyplot`, its global state and its choice of backend are not touched.
Sizes are in inches, font sizes in points.
"""
import base64
import functools
import io
import json
import math
import os
import re
import sys
import unicodedata

from storage.files import write_bytes

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
BUNDLED_FONT = os.path.join(HERE, 'fonts', 'NotoSansSC-Subset.ttf')
HTML_TEMPLATE = os.path.join(HERE, 'alignment_page.html')

DPI = 150
LONGEST_SIDE = 18.0  # of the heat map itself: 2,700 pixels, however long the sentence
CELL = 0.32          # side of a cell of a short sentence
LABEL_PITCH = 0.105  # nearest that two labels come: 16 pixels, at which a Chinese character can still be read
LABEL_COLUMNS = 24   # longer tokens are cut, as one long address would leave no room for the map
COLOURS = 'Blues'    # white is 0, dark blue is 1

SHOWN_WEIGHT = 0.05  # weights below this are left out of the text form
SHOWN_WORDS = 3

BOX = '\u25a1'  # stands for what cannot be shown; unlike U+FFFD, Chinese fonts have it


def plot_alignment(path, source_tokens, target_tokens, weights, title=None):
    """Writes `alignment_png` to the file `path`; `UserError` names the path if it cannot be written."""
    write_bytes(path, alignment_png(source_tokens, target_tokens, weights, title))


def alignment_png(source_tokens, target_tokens, weights, title=None):
    """An alignment as a heat map: source tokens on top, target tokens at the left, darker is heavier.

    # Arguments
        source_tokens, target_tokens: lists of S and T strings. Either may be empty.
        weights: (T, S), each in [0, 1].
        title: a line above the picture, cut at its width.

    # Returns
        The bytes of a PNG file, at most about 3,500 pixels a side.

    # Raises
        ValueError: `weights` is not (T, S), or not in [0, 1].
    """
    buffer = io.BytesIO()
    alignment_figure(source_tokens, target_tokens, weights, title).canvas.print_png(buffer)
    return buffer.getvalue()


def alignment_figure(source_tokens, target_tokens, weights, title=None):
    """The Matplotlib figure of `alignment_png`; its first axes are the heat map: a cell's centre is (s, t)."""
    weights = checked_weights(source_tokens, target_tokens, weights)
    figure = _figure()
    axes = figure.add_axes([0, 0, 1, 1])
    s_pitch, s_size, s_step = _pitch(len(source_tokens))
    t_pitch, t_size, t_step = _pitch(len(target_tokens))
    width, height = s_pitch * max(1, len(source_tokens)), t_pitch * max(1, len(target_tokens))
    # Single characters, as of Chinese, are read upright.
    upright = all(display_width(token) <= 2 for token in source_tokens)
    turned = dict(rotation=0, ha='center') if upright else dict(rotation=60, ha='left', rotation_mode='anchor')

    axes.set_xlim(-0.5, max(1, len(source_tokens)) - 0.5)
    axes.set_ylim(max(1, len(target_tokens)) - 0.5, -0.5)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    source_labels = [axes.annotate(text, (s, 1), (0, 4), fontproperties=font, va='bottom',
                                   xycoords=axes.get_xaxis_transform(), textcoords='offset points', **turned)
                     for s, text, font in _labels(source_tokens, s_size, s_step)]
    target_labels = [axes.annotate(text, (0, t), (-5, 0), fontproperties=font, va='center', ha='right',
                                   xycoords=axes.get_yaxis_transform(), textcoords='offset points')
                     for t, text, font in _labels(target_tokens or ['(empty)'], t_size, t_step)]

    # Margins as the labels need them: measured, since the labels' fonts differ.
    renderer = figure.canvas.get_renderer()
    boxes = [(label.xy[0], label.get_window_extent(renderer)) for label in source_labels]
    top = 0.15 + max([box.height / DPI for _, box in boxes], default=0)
    overhang = max([(s + 0.5) * s_pitch + box.width / DPI for s, box in boxes], default=0) - width
    left = 0.2 + max(label.get_window_extent(renderer).width / DPI for label in target_labels)
    if title:
        top += 0.3
    bar_height = min(max(height, 1.2), 3.0) if weights.size else 0
    right = max(1.0 if weights.size else 0.1, overhang + 0.1)
    full_width, full_height = left + width + right, top + max(height, bar_height) + 0.15
    figure.set_size_inches(full_width, full_height)
    axes.set_position([left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height])
    if title:
        label = figure.text(0.1 / full_width, 1 - 0.1 / full_height, '', va='top', ha='left')
        for columns in range(int(full_width / 0.05), 2, -1):
            text, font = label_font(_cut(title, columns), 11)
            label.update(dict(text=text, fontproperties=font))
            if label.get_window_extent(renderer).width / DPI < full_width - 0.2:
                break
    if weights.size:
        image = axes.imshow(weights, cmap=COLOURS, vmin=0, vmax=1, aspect='auto', interpolation='antialiased')
        if min(s_pitch, t_pitch) > LABEL_PITCH:
            axes.set_xticks(np.arange(0.5, len(source_tokens) - 1), minor=True)
            axes.set_yticks(np.arange(0.5, len(target_tokens) - 1), minor=True)
            axes.grid(which='minor', color='0.85', linewidth=0.5)
            axes.tick_params(which='minor', length=0)
        bar = figure.add_axes([(left + width + 0.2) / full_width, 1 - (top + bar_height) / full_height,
                               0.15 / full_width, bar_height / full_height])
        figure.colorbar(image, cax=bar, ticks=[0, 0.5, 1]).ax.tick_params(labelsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    return figure


def plot_training(path, log_rows):
    """Writes the curves of a training as PNG: perplexities, accuracies, other validation scores, learning rate.

    # Arguments
        path: file to write; `UserError` names it if that fails.
        log_rows: dicts as in `log.csv`, values numbers or their text. What is absent, None, empty, NaN or infinite
            leaves a gap. The horizontal axis is `step`, else `epoch`, else the row's number.
    """
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator
    rows = list(log_rows)
    position = next((key for key in ('step', 'epoch') if any(_finite(row.get(key)) is not None for row in rows)), None)
    panels = [('perplexity', ['train_perplexity', 'val_perplexity']), ('accuracy', ['train_accuracy', 'val_accuracy'])]
    named = {key for _, keys in panels for key in keys}
    others = sorted({key for row in rows for key in row if str(key).startswith('val_')} - named)
    panels += [(key[4:].replace('_', ' '), [key]) for key in others] + [('learning rate', ['learning_rate'])]

    drawn = []
    for name, keys in panels:
        curves = []
        for key in keys:
            points = [(_finite(row.get(position)) if position else number, _finite(row.get(key)))
                      for number, row in enumerate(rows, 1)]
            if name == 'perplexity':  # drawn on a logarithmic axis
                points = [(x, y if y is not None and y > 0 else None) for x, y in points]
            points = [(x, math.nan if y is None else y) for x, y in points if x is not None]
            if any(not math.isnan(y) for _, y in points):
                curves.append((key, points))
        if curves:
            drawn.append((name, curves))

    figure = _figure(7.5, 1.0 + 2.0 * max(1, len(drawn)))
    for number, (name, curves) in enumerate(drawn, 1):
        axes = figure.add_subplot(len(drawn), 1, number, sharex=figure.axes[0] if figure.axes else None)
        for key, points in curves:
            colour = '#c44e00' if key.startswith('val_') else '#1f5fa8'
            axes.plot(*zip(*points), marker='.', color=colour, linewidth=1.5, label=_dollars(key.replace('_', ' ')))
        if name == 'perplexity':
            axes.set_yscale('log')
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FormatStrFormatter('%g'))
            axes.yaxis.set_minor_locator(NullLocator())
            _mark_best(axes, dict(curves).get('val_perplexity', []))
        axes.set_ylabel(_dollars(name))
        axes.grid(color='0.9')
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=9)
        if number == len(drawn):
            axes.set_xlabel(position or 'row of the log')
    if not drawn:
        figure.text(0.5, 0.5, 'nothing logged yet', ha='center', va='center')
    _write_png(path, figure)


def plot_bands(path, bands, name):
    """Writes bars of a score over bands of lines, such as lengths, as PNG.

    # Arguments
        path: file to write; `UserError` names it if that fails.
        bands: list of (label, number of lines, score).
        name: of the score.
    """
    figure = _figure(max(3., 1. + 1.1 * len(bands)), 3.)
    axes = figure.add_subplot(1, 1, 1)
    axes.bar(range(len(bands)), [score for _, _, score in bands], color='#1f5fa8', width=0.6)
    axes.set_xticks(range(len(bands)))
    axes.set_xticklabels(['%s\n%d lines' % (label, count) for label, count, _ in bands], fontsize=8)
    axes.set_xlabel('source tokens')
    axes.set_ylabel(name)
    axes.grid(axis='y', color='0.9')
    axes.set_axisbelow(True)
    _write_png(path, figure)


def write_html(path, sentences):
    """Writes one page, needing no network, on which to look through alignments with mouse or keyboard.

    # Arguments
        path: file to write; `UserError` names it if that fails.
        sentences: dicts of `source` (text), `source_tokens` (S strings) and `hypotheses`, best first: dicts of
            `text`, `tokens` (T strings), `score` (a number or None) and `weights` (T, S) in [0, 1], or None from
            a model without attention.
    """
    data = []
    for sentence in sentences:
        source_tokens = list(sentence['source_tokens'])
        hypotheses = []
        for hypothesis in sentence['hypotheses']:
            weights = hypothesis['weights']
            if weights is not None:  # thousandths, for a smaller page
                weights = checked_weights(source_tokens, hypothesis['tokens'], weights)
                weights = np.rint(weights * 1000).astype(int).tolist()
            hypotheses.append({'text': hypothesis['text'], 'tokens': list(hypothesis['tokens']),
                               'score': _finite(hypothesis.get('score')), 'weights': weights})
        data.append({'source': sentence['source'], 'source_tokens': source_tokens, 'hypotheses': hypotheses})
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(',', ':'))
    with open(HTML_TEMPLATE, encoding='utf-8', newline='\n') as lines:
        template = lines.read()
    font = ''
    if re.search('[\u2e80-\u9fff\uff00-\uffef]', text):  # a machine without a Chinese font shows Chinese, too
        with open(BUNDLED_FONT, 'rb') as lines:
            font = ('@font-face { font-family: "Bundled"; src: url(data:font/ttf;base64,%s) }'
                    % base64.b64encode(lines.read()).decode('ascii'))
    parts = re.split('/\\*FONT\\*/|"DATA"', template)
    page = parts[0] + font + parts[1] + html_safe(text) + parts[2]
    # A lone surrogate has no UTF-8; its backslash escape means the same to JSON.
    write_bytes(path, page.encode('utf-8', 'backslashreplace'))


def html_safe(json_text):
    """The same JSON without a character that HTML would read as markup, so that no text can end the script element."""
    return re.sub('[<>&\u2028\u2029]', lambda found: '\\u%04x' % ord(found.group()), json_text)


def format_alignment(source_tokens, target_tokens, weights):
    """The alignment as text: a line for each target token with the source tokens it attends to most.

    Up to three are shown, heaviest first (equal ones in source order), from a weight of 0.05 on, and the heaviest in
    any case if it is not 0. Columns are aligned, East Asian characters counting as two cells.

    # Arguments
        source_tokens, target_tokens: lists of S and T strings.
        weights: (T, S), each in [0, 1].

    # Raises
        ValueError: `weights` is not (T, S), or not in [0, 1].
    """
    weights = checked_weights(source_tokens, target_tokens, weights)
    rows = []
    for token, row in zip(target_tokens, weights):
        best = [s for s in np.argsort(-row, kind='stable')[:SHOWN_WORDS] if row[s] > 0]
        shown = [s for s in best[1:] if row[s] >= SHOWN_WEIGHT]
        rows.append([printable(token)] + ['%s %.2f' % (printable(source_tokens[s]), row[s]) for s in best[:1] + shown])
    widths = [max(display_width(row[n]) for row in rows if len(row) > n) for n in range(max(map(len, rows), default=0))]
    return '\n'.join('  '.join(cell + ' ' * (width - display_width(cell)) for cell, width in zip(row, widths)).rstrip()
                     for row in rows)


def checked_weights(source_tokens, target_tokens, weights):
    """`weights` as a float64 array (T, S); `ValueError` if it is not that, or not in [0, 1]."""
    weights = np.asarray(weights, dtype=np.float64)
    wanted = (len(target_tokens), len(source_tokens))
    if weights.shape == (0,) and not wanted[0]:
        weights = weights.reshape(wanted)
    if weights.shape != wanted:
        raise ValueError('alignment weights have shape %s, but %d target and %d source tokens need %s'
                         % (weights.shape, wanted[0], wanted[1], wanted))
    # Sums in float32 exceed 1 by a few units of the last place.
    if weights.size and not (weights.min() >= -1e-4 and weights.max() <= 1 + 1e-4):
        raise ValueError('alignment weights must lie in [0, 1], not reach from %g to %g'
                         % (weights.min(), weights.max()))
    return weights.clip(0, 1)


def display_width(text):
    """Cells that `text` takes in a terminal: two for wide East Asian characters, none for combining ones."""
    return sum(0 if unicodedata.category(character) in ('Mn', 'Me', 'Cf')
               else 2 if unicodedata.east_asian_width(character) in 'WF' else 1 for character in text)


def printable(text):
    """`text` with control characters, lone surrogates and the like replaced: they would act on a terminal."""
    return ''.join(character if character.isprintable() else BOX for character in text)


# Fonts. Matplotlib 3.3 draws a label in one font without fallback, so each label is given one that covers it.

def label_font(text, size):
    """`text` made safe to draw, and the `FontProperties` to draw it in.

    DejaVu Sans (part of Matplotlib) where it covers the text, else the bundled part of Noto Sans SC, else a Chinese
    font of the system. Characters that none has are replaced, and told once on stderr.
    """
    from matplotlib.font_manager import FontProperties
    text = printable(text)
    path = next((path for path in _fonts() if _missing(path, text) == 0), None)
    if path is None:
        path = min(_fonts(), key=lambda path: _missing(path, text))
        _tell_missing(text, path)
        known = _characters(path)
        box = BOX if ord(BOX) in known else '?'
        text = ''.join(character if ord(character) in known else box for character in text)
    return _dollars(text), FontProperties(fname=path, size=size)


def _dollars(text):
    # Two dollars make a formula; each escaped one is drawn as it stands. Nothing else is special outside a formula.
    return text.replace('$', '\\$')


def _missing(path, text):
    return sum(ord(character) not in _characters(path) for character in text)


def _fonts():
    """Paths of the fonts to try, best first. The search for the system's fonts is put off until it is needed."""
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
def _characters(path):
    """Code points that a font has glyphs for; none if the file is missing or not a font."""
    from matplotlib.ft2font import FT2Font
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


_told = []


def _tell_missing(text, path):
    if not _told:
        missing = next(character for character in text if ord(character) not in _characters(path))
        print('plots: no font found for U+%04X and perhaps others; they are drawn as a box. '
              'Install a font such as fonts-noto-cjk.' % ord(missing), file=sys.stderr)
        _told.append(missing)


# Helpers of the pictures.

def _write_png(path, figure):
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.canvas.print_png(buffer)
    write_bytes(path, buffer.getvalue())


def _figure(width=4.0, height=4.0):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    return figure


def _pitch(count):
    """Distance of `count` cells, the font size of their labels, and the step from one label to the next."""
    pitch = min(CELL, LONGEST_SIDE / max(1, count))
    step = int(math.ceil(LABEL_PITCH / pitch))
    return pitch, min(11.0, max(pitch, LABEL_PITCH) * 72 * 0.8), step


def _labels(tokens, size, step):
    return [(n,) + label_font(_cut(tokens[n], LABEL_COLUMNS), size) for n in range(0, len(tokens), step)]


def _cut(text, columns):
    if display_width(text) <= columns:
        return text
    while display_width(text) >= columns:
        text = text[:-max(1, len(text) - columns)]
    return text + '\u2026'


def _finite(value):
    """A finite float, or None."""
    if value is None or value == '':
        return None
    value = float(value)
    return value if math.isfinite(value) else None


def _mark_best(axes, points):
    points = [(y, x) for x, y in points if not math.isnan(y)]
    if points:
        y, x = min(points)
        axes.annotate('%.4g' % y, (x, y), (0, 7), textcoords='offset points', ha='center', fontsize=8, color='#c44e00')
        axes.plot([x], [y], marker='o', color='#c44e00', fillstyle='none', markersize=9)
