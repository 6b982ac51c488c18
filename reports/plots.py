"""Pictures as PNG, SVG or PDF: alignments, training curves, scores by length.

Matplotlib is imported where it is used, so that importing this module is cheap. Only `Figure` and `FigureCanvasAgg` are
used: `pyplot`, with its global state and its choice of backend, is not touched. Sizes are in inches, font sizes in
points.
"""
import io
import math
import os
import re

from storage.output_files import write_output

import numpy as np
from reports.alignment_text import checked_weights, display_width, finite
from reports.label_fonts import check_direction, escape_dollars, label_font

DPI = 150
LONGEST_SIDE = 18.0  # of the heat map itself: 2,700 pixels, however long the sentence
CELL = 0.32          # side of a cell of a short sentence
LABEL_PITCH = 0.105  # minimum distance of two labels: 16 pixels, at which a Chinese character is still legible
LABEL_COLUMNS = 24   # longer tokens are cut, as one long address would leave no room for the map
AXIS_NAME = 0.22     # space for the name of an axis
COLOURS = 'Blues'    # white is 0, dark blue is 1
TRAIN_COLOUR, VALIDATION_COLOUR, UNKNOWN_COLOUR, COPIED_COLOUR = '#1f5fa8', '#c44e00', '#b3261e', '#0a7a3c'


def _frame(colour, line):
    return dict(color=colour, bbox=dict(boxstyle='square,pad=0.1', fc='none', ec=colour, ls=line, lw=0.8))


UNKNOWN_STYLE, COPIED_STYLE = _frame(UNKNOWN_COLOUR, ':'), _frame(COPIED_COLOUR, '-')


def plot_alignment(path, source_tokens, target_tokens, weights, title=None, unknown=(), copied=()):
    """Writes `alignment_figure` to the file `path`: as SVG or PDF if its name ends so, else as PNG.

    # Raises
        UserError: the file cannot be written, or a token has a right-to-left script.
        ValueError: `weights` is not (T, S), or not in [0, 1].
    """
    check_direction([*source_tokens, *target_tokens])
    figure = alignment_figure(source_tokens, target_tokens, weights, title, unknown, copied)
    write_output(path, _picture(figure, path))


def alignment_png(*args, **kwargs):
    """The bytes of a PNG file with `alignment_figure`, at most about 3,500 pixels a side."""
    return _picture(alignment_figure(*args, **kwargs))


def alignment_figure(source_tokens, target_tokens, weights, title=None, unknown=(), copied=()):
    """An alignment as a heat map: source tokens on top, target tokens at the left, a darker cell is a larger weight.

    # Arguments
        source_tokens, target_tokens: lists of S and T strings. Either may be empty.
        weights: (T, S), each in [0, 1].
        title: a line above the picture, cut at its width.
        unknown: positions of source tokens without an id; their labels are red in a dotted frame.
        copied: positions of copied target tokens; their labels are green in a frame.

    # Returns
        The Matplotlib figure; its first axes are the heat map: a cell's centre is (s, t).

    # Raises
        ValueError: `weights` is not (T, S), or not in [0, 1].
    """
    weights = checked_weights(source_tokens, target_tokens, weights)
    figure = _figure()
    axes = figure.add_axes([0, 0, 1, 1])
    s_pitch, s_size, s_step = _pitch(len(source_tokens))
    t_pitch, t_size, t_step = _pitch(len(target_tokens))
    width, height = s_pitch * max(1, len(source_tokens)), t_pitch * max(1, len(target_tokens))
    # Single characters, such as Chinese ones, stay upright.
    upright = all(display_width(token) <= 2 for token in source_tokens)
    angle = dict(rotation=0, ha='center') if upright else dict(rotation=60, ha='left', rotation_mode='anchor')

    axes.set_xlim(-0.5, max(1, len(source_tokens)) - 0.5)
    axes.set_ylim(max(1, len(target_tokens)) - 0.5, -0.5)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    source_labels = [axes.annotate(text, (s, 1), (0, 4), fontproperties=font, va='bottom',
                                   xycoords=axes.get_xaxis_transform(), textcoords='offset points', **angle,
                                   **(UNKNOWN_STYLE if s in unknown else {}))
                     for s, text, font in _labels(source_tokens, s_size, s_step)]
    target_labels = [axes.annotate(text, (0, t), (-5, 0), fontproperties=font, va='center', ha='right',
                                   xycoords=axes.get_yaxis_transform(), textcoords='offset points',
                                   **(COPIED_STYLE if t in copied else {}))
                     for t, text, font in _labels(target_tokens or ['(empty)'], t_size, t_step)]

    # Margins fit the labels, which are measured because their fonts differ. Lengths are whole pixels, so that the cells
    # lie exactly on the grid.
    renderer = figure.canvas.get_renderer()
    boxes = [(label.xy[0], label.get_window_extent(renderer)) for label in source_labels]
    labels_height = 0.15 + max([box.height / DPI for _, box in boxes], default=0)
    labels_width = 0.2 + max(label.get_window_extent(renderer).width / DPI for label in target_labels)
    overhang = max([(s + 0.5) * s_pitch + box.width / DPI for s, box in boxes], default=0) - width
    top = _whole_pixels(labels_height + AXIS_NAME + (0.3 if title else 0))
    left = _whole_pixels(labels_width + AXIS_NAME)
    legend_height = 0.25 if len(unknown) or len(copied) else 0
    bar_height = _whole_pixels(min(max(height, 1.2), 3.0)) if weights.size else 0
    right = max(1.1 if weights.size else 0.1, overhang + 0.1)
    full_width = _whole_pixels(left + width + right)
    full_height = _whole_pixels(top + max(height, bar_height, 1.0) + 0.15 + legend_height)
    figure.set_size_inches(full_width, full_height)

    def place(x, y, w=0, h=0):
        """A rectangle in inches, from the top left corner, as Matplotlib takes it."""
        return [x / full_width, 1 - (y + h) / full_height, w / full_width, h / full_height]

    axes.set_position(place(left, top, width, height))
    names = dict(fontsize=9, color='0.3', va='bottom')
    figure.text(*place(left, top - labels_height - 0.02)[:2], 'source \u2192', ha='left', **names)
    figure.text(*place(left - labels_width - 0.02, top)[:2], '\u2190 output', ha='right', rotation=90,
                **dict(names, va='top'))
    if title:
        _title(figure, title)
    x = 0.15
    for name, positions, style in (('unknown', unknown, UNKNOWN_STYLE), ('copied', copied, COPIED_STYLE)):
        if len(positions):
            figure.text(*place(x, full_height - 0.1)[:2], name, va='bottom', ha='left', fontsize=8, **style)
            x += 0.75
    if weights.size:
        image = axes.imshow(weights, cmap=COLOURS, vmin=0, vmax=1, aspect='auto', interpolation='nearest')
        if min(s_pitch, t_pitch) > LABEL_PITCH:
            axes.set_xticks(np.arange(0.5, len(source_tokens) - 1), minor=True)
            axes.set_yticks(np.arange(0.5, len(target_tokens) - 1), minor=True)
            axes.grid(which='minor', color='0.85', linewidth=0.5)
            axes.tick_params(which='minor', length=0)
        bar = figure.colorbar(image, cax=figure.add_axes(place(left + width + 0.2, top, 0.15, bar_height)),
                              ticks=[0, 0.5, 1])
        bar.ax.tick_params(labelsize=8)
        bar.set_label('attention weight', fontsize=8)
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
            colour = VALIDATION_COLOUR if key.startswith('val_') else TRAIN_COLOUR
            label = re.sub('^val_', 'validation ', key).replace('_', ' ')
            axes.plot(*zip(*points), marker='.', color=colour, linewidth=1.5, label=escape_dollars(label))
        if name == 'perplexity':
            axes.set_yscale('log')
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FormatStrFormatter('%g'))
            axes.yaxis.set_minor_locator(NullLocator())
            _mark_best(axes, dict(curves).get('val_perplexity', []))
        axes.set_ylabel(escape_dollars(name))
        axes.grid(color='0.9')
        axes.legend(frameon=False, fontsize=9)
        if number == len(drawn):
            axes.set_xlabel({'step': 'update', 'epoch': 'epoch', None: 'row of the log'}[position])
    if drawn:
        figure.axes[0].set_title('Training curves, %d validations' % len(rows), fontsize=11)
    else:
        figure.text(0.5, 0.5, 'nothing logged yet', ha='center', va='center')
    figure.tight_layout()
    return _picture(figure)


def plot_bands(path, bands, name, maximum=100.):
    """Writes bars of a score, and of the perplexity where it is known, over bands of source lengths.

    The width of a bar shows its share of the lines; the axis of the score ends at its maximum.

    # Arguments
        path: file to write, SVG or PDF if its name ends so, else PNG; `UserError` names it if that fails.
        bands: list of dicts of `label`, `lines` (their number) and `score`; `interval`, (low, high) of the score, and
            `perplexity` may be absent or None.
        name: of the score.
        maximum: the largest value that the score can have.
    """
    most = max(band['lines'] for band in bands)
    panels = [('score', name)] + [('perplexity', 'perplexity')] * any(band.get('perplexity') for band in bands)
    figure = _figure(max(4., 1. + 1.3 * len(bands)), 0.4 + 2.6 * len(panels))
    for number, (key, label) in enumerate(panels, 1):
        axes = figure.add_subplot(len(panels), 1, number)
        for x, band in enumerate(bands):
            value, interval = finite(band.get(key)), band.get('interval') if key == 'score' else None
            if value is None:
                continue
            errors = [[max(0, value - interval[0])], [max(0, interval[1] - value)]] if interval else None
            axes.bar(x, value, yerr=errors, color=TRAIN_COLOUR, width=max(0.03, 0.8 * band['lines'] / most),
                     ecolor='0.3', capsize=4)
            text = '%.4g' % value + ('\n[%.4g, %.4g]' % tuple(interval) if interval else '')
            axes.annotate(text, (x, max(value, interval[1]) if interval else value), (0, 3), ha='center', fontsize=8,
                          textcoords='offset points')
        axes.set_xticks(range(len(bands)))
        axes.set_xticklabels(['%s\n%d line%s' % (band['label'], band['lines'], 's' * (band['lines'] != 1))
                              for band in bands], fontsize=8)
        axes.set_xlim(-0.6, len(bands) - 0.4)
        axes.margins(y=0.3)
        top = axes.get_ylim()[1]
        if key == 'score' and top > maximum:  # the labels of the bars are above the axis
            axes.set_yticks([tick for tick in axes.get_yticks() if tick <= maximum])
            axes.set_ylim(0, top)
            axes.spines['left'].set_bounds(0, maximum)
            axes.spines['right'].set_visible(False)
            axes.spines['top'].set_visible(False)
        axes.set_ylabel(escape_dollars(label))
        axes.grid(axis='y', color='0.9')
        axes.set_axisbelow(True)
    if any(band.get('interval') for band in bands):
        figure.axes[0].set_title('with 95 % confidence intervals', fontsize=9)
    figure.axes[-1].set_xlabel('source tokens; the width of a bar is its share of the lines')
    figure.tight_layout()
    write_output(path, _picture(figure, path))


# Helpers of the pictures.

def _picture(figure, path='.png'):
    """The bytes of a figure as the kind of file that a path names: PNG, if it is neither SVG nor PDF. No date."""
    kind = os.path.splitext(path)[1].lower()[1:]
    kind = kind if kind in ('svg', 'pdf') else 'png'
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, facecolor='white',
                   metadata={'svg': {'Date': None}, 'pdf': {'CreationDate': None}, 'png': None}[kind])
    return buffer.getvalue()


def _whole_pixels(inches):
    """The length rounded up to whole pixels."""
    return math.ceil(inches * DPI - 1e-6) / DPI


def _title(figure, title):
    """Writes the title at the top left, cut at the width of the figure."""
    width, height = figure.get_size_inches()
    label = figure.text(0.1 / width, 1 - 0.1 / height, '', va='top', ha='left')
    for columns in range(int(width / 0.05), 2, -1):
        text, font = label_font(_cut(title, columns), 11)
        label.update(dict(text=text, fontproperties=font))
        if label.get_window_extent(figure.canvas.get_renderer()).width / DPI < width - 0.2:
            return


def _figure(width=4.0, height=4.0):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    return figure


def _pitch(count):
    """Distance of `count` cells, the font size of their labels, and the step from one label to the next."""
    pixels = min(CELL, LONGEST_SIDE / max(1, count)) * DPI
    pitch = (math.floor(pixels + 1e-6) if pixels >= 1 else pixels) / DPI
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
        axes.annotate('lowest: %.4g' % y, (x, y), (0, 7), textcoords='offset points', fontsize=8,
                      ha='right' if x == points[-1][1] else 'center', color=VALIDATION_COLOUR)    # within the axes
        axes.plot([x], [y], marker='o', color=VALIDATION_COLOUR, fillstyle='none', markersize=9)
