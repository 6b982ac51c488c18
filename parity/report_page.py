"""The report of a comparison as one page of HTML, with heat maps of the differences. NumPy only.

The page is self-contained: no script, no font and no picture comes from elsewhere.
"""
import html

import numpy as np

from parity import bundle, compare, report
from storage.output_files import write_output

MAPS, ROWS, COLUMNS = 12, 64, 96      # heat maps, and the cells of one
STYLE = '''
body { font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222; background: #fff; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2em .7em; border-bottom: 1px solid #ddd; }
td.n { text-align: right; font-variant-numeric: tabular-nums; } .DIFFERS { color: #b00020; font-weight: bold; }
.same, .close, .rounding { color: #226622; }
.map { margin: 1em 0 2em; } .cells { display: grid; gap: 0; width: max-content;
max-width: 100%; border: 1px solid #999; } .cells i { display: block; min-width: 5px; height: 9px; }
code { background: #f3f3f3; padding: 0 .2em; overflow-wrap: anywhere; } .scroll { overflow-x: auto; }
'''


def escape(text):
    return html.escape(compare.printable(text))


def two_axes(array):
    """An array (rows, columns) for a map: all axes but the last two joined to the rows, each averaged to a cell."""
    array = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)
    for axis, cells in ((0, ROWS), (1, COLUMNS)):
        if array.shape[axis] > cells:
            edges = np.linspace(0, array.shape[axis], cells + 1).astype(int)[:-1]
            array = np.maximum.reduceat(array, edges, axis=axis)
    return array


def heat_map(recorded, found):
    """The absolute difference of two arrays as a grid of coloured cells; white is equal, dark red the largest."""
    with np.errstate(all='ignore'):
        difference = np.abs(recorded.astype('f8') - found.astype('f8'))
    difference[(recorded == found) | (np.isnan(recorded) & np.isnan(found))] = 0.
    finite = difference[np.isfinite(difference)]
    largest = float(finite.max()) if finite.size else 0.
    cells = two_axes(np.where(np.isfinite(difference), difference, largest or 1.))
    scale = largest or 1.
    parts = []
    for row in cells:
        for value in row:
            share = min(1., value / scale) ** 0.5       # small differences stay visible
            parts.append('<i style="background:#%02x%02x%02x" title="%.3g"></i>' % (
                255 - int(80 * share), 255 - int(235 * share), 255 - int(225 * share), value))
    return '<div class="cells" style="grid-template-columns:repeat(%d,1fr)">%s</div>' % (cells.shape[1], ''.join(parts))


def maps(compared, recorded, found, stage_map):
    """Heat maps of the first arrays that differ, in the order of the calculation."""
    wrong = sorted((array for array in compared.results if array.problem == 'differs'), key=lambda array: array.order)
    for result in wrong[:MAPS]:
        array = recorded[result.file][result.name]
        other = found[result.file].get(compare.mapped(result.name, stage_map))
        if array.dtype.kind not in bundle.NUMBERS or not array.size or other is None or other.shape != array.shape:
            continue
        yield ('<div class="map"><h3><code>%s</code></h3><p>shape %s; %s; worst at %s: %.9g recorded, %.9g here; '
               'largest difference %.3g</p><div class="scroll">%s</div></div>') % (
            escape(result.file + ' ' + result.name), array.shape, escape(result.where), list(result.index),
            result.recorded, result.found, result.absolute, heat_map(array, other))


def page(compared, recorded, found, stage_map):
    """The page as a string.

    # Arguments
        compared: `report.Comparison`. recorded, found: {file name: arrays}. stage_map: as `compare.mapped` takes it.
    """
    found = compare.pair_files(recorded, found)
    head = report.headline(compared)
    rows = []
    for stage, group in report.stages_in_order(compared).items():
        word, figures, worst = report.summary(group)
        numbers = ['-'] * 3 if worst.problem not in ('', 'differs') else [
            '%.2g' % figures[0], '%.2g' % figures[1], '%d' % figures[2]]
        rows.append('<tr><td class="%s">%s</td><td><code>%s</code></td><td class="n">%d</td>%s<td><code>%s</code></td>'
                    '</tr>' % (word, word, escape(stage), len(group),
                               ''.join('<td class="n">%s</td>' % number for number in numbers),
                               escape(report.reason(worst))))
    lines = ''.join('<li>%s</li>' % escape(line.strip()) for line in head[1:] + report.notes(compared))
    parts = ['<h1>%s</h1>' % escape(head[0]), '<ul>%s</ul>' % lines,
             '<h2>Stages, in the order of the calculation</h2><div class="scroll"><table><tr><th></th><th>stage</th>'
             '<th>arrays</th><th>absolute</th><th>relative</th><th>ULP</th><th>worst at</th></tr>%s</table></div>'
             % ''.join(rows)]
    pictures = list(maps(compared, recorded, found, stage_map))
    if pictures:
        parts.append('<h2>Differences</h2><p>Each cell is the largest difference of its numbers; the last axis runs '
                     'to the right, all others down.</p>' + ''.join(pictures))
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>regress.py compare</title>'
            '<meta name="viewport" content="width=device-width"><style>%s</style></head><body>%s</body></html>\n'
            % (STYLE, '\n'.join(parts)))


def write(path, compared, recorded, found, stage_map):
    """Writes the page. UserError: the system refuses."""
    write_output(path, page(compared, recorded, found, stage_map).encode('utf-8'))
