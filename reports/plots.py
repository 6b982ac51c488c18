"""Pictures as PNG: alignments, training curves, scores by length.

Matplotlib is imported where it is used, so that importing this module is cheap, and it is used through
`Figure` and `FigureCanvasAgg` alone: `pyplot`, its global state and its choice of backend are not touched.
Sizes are in inches, font sizes in points.
"""
import io
import math

from storage.files import write_bytes

import numpy as np
from reports.alignment_text import checked_weights, display_width, finite
from reports.label_fonts import escape_dollars, label_font

DPI = 150
LONGEST_SIDE = 18.0  # of the heat map itself: 2,700 pixels, however long the sentence
CELL = 0.32          # side of a cell of a short sentence
LABEL_PITCH = 0.105  # minimum distance of two labels: 16 pixels, at which a Chinese character is still legible
LABEL_COLUMNS = 24   # longer tokens are cut, as one long address would leave no room for the map
COLOURS = 'Blues'    # white is 0, dark blue is 1


def plot_alignment(path, source_tokens, target_tokens, weights, title=None):
    """Writes `alignment_png` to the file `path`; `UserError` names the path if it cannot be written."""
    write_bytes(path, alignment_png(source_tokens, target_tokens, weights, title))


def alignment_png(source_tokens, target_tokens, weights, title=None):
    """An alignment as a heat map: source tokens on top, target tokens at the left, a darker cell is a larger weight.

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
    # Single characters, such as Chinese ones, stay upright.
    upright = all(display_width(token) <= 2 for token in source_tokens)
    label_angle = dict(rotation=0, ha='center') if upright else dict(rotation=60, ha='left', rotation_mode='anchor')

    axes.set_xlim(-0.5, max(1, len(source_tokens)) - 0.5)
    axes.set_ylim(max(1, len(target_tokens)) - 0.5, -0.5)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    source_labels = [axes.annotate(text, (s, 1), (0, 4), fontproperties=font, va='bottom',
                                   xycoords=axes.get_xaxis_transform(), textcoords='offset points', **label_angle)
                     for s, text, font in _labels(source_tokens, s_size, s_step)]
    target_labels = [axes.annotate(text, (0, t), (-5, 0), fontproperties=font, va='center', ha='right',
                                   xycoords=axes.get_yaxis_transform(), textcoords='offset points')
                     for t, text, font in _labels(target_tokens or ['(empty)'], t_size, t_step)]

    # Margins fit the labels, which are measured because their fonts differ.
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


def training_png(log_rows):
    """PNG bytes of the curves of a training: perplexities, accuracies, other validation scores, learning rate.

    # Arguments
        log_rows: dicts as in `log.csv`, values numbers or their text. A value that is absent, None, empty, NaN or
            infinite leaves a gap. The horizontal axis is `step`, else `epoch`, else the row's number.
    """
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator
    rows = list(log_rows)
    position = next((key for key in ('step', 'epoch') if any(finite(row.get(key)) is not None for row in rows)), None)
    panels = [('perplexity', ['train_perplexity', 'val_perplexity']), ('accuracy', ['train_accuracy', 'val_accuracy'])]
    named = {key for _, keys in panels for key in keys}
    others = sorted({key for row in rows for key in row if str(key).startswith('val_')} - named)
    panels += [(key[4:].replace('_', ' '), [key]) for key in others] + [('learning rate', ['learning_rate'])]

    drawn = []
    for name, keys in panels:
        curves = []
        for key in keys:
            points = [(finite(row.get(position)) if position else number, finite(row.get(key)))
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
            axes.plot(*zip(*points), marker='.', color=colour, linewidth=1.5,
                      label=escape_dollars(key.replace('_', ' ')))
        if name == 'perplexity':
            axes.set_yscale('log')
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FormatStrFormatter('%g'))
            axes.yaxis.set_minor_locator(NullLocator())
            _mark_best(axes, dict(curves).get('val_perplexity', []))
        axes.set_ylabel(escape_dollars(name))
        axes.grid(color='0.9')
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=9)
        if number == len(drawn):
            axes.set_xlabel(position or 'row of the log')
    if not drawn:
        figure.text(0.5, 0.5, 'nothing logged yet', ha='center', va='center')
    return _png(figure)


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
    write_bytes(path, _png(figure))


# Helpers of the pictures.

def _png(figure):
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.canvas.print_png(buffer)
    return buffer.getvalue()


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


def _mark_best(axes, points):
    points = [(y, x) for x, y in points if not math.isnan(y)]
    if points:
        y, x = min(points)
        axes.annotate('%.4g' % y, (x, y), (0, 7), textcoords='offset points', ha='center', fontsize=8, color='#c44e00')
        axes.plot([x], [y], marker='o', color='#c44e00', fillstyle='none', markersize=9)
