"""Reports of a comparison, for people and for programs. NumPy only."""
from collections import OrderedDict, namedtuple
import json

import numpy as np

from parity.bundle import printable
from parity.compare import Order, first_difference, place

LISTED = 6      # names in a note

Comparison = namedtuple('Comparison', 'results ties order files missing unknown causes')
Comparison.__doc__ = """The content of a report.

results, ties: as `compare_sets` gives them. order: `Order`. files, missing, unknown: as `not_compared` gives them.
causes: strings, the usual causes of the first difference, the most likely first.
"""


def comparison(results, ties, order=None, files=(), missing=(), unknown=(), causes=()):
    """A `Comparison`; all but results and ties may be left out."""
    return Comparison(results, ties, order or Order(), list(files), list(missing), list(unknown), list(causes))


def listed(names):
    return printable(', '.join(names[:LISTED])) + (', and %d more' % (len(names) - LISTED) if len(names) > LISTED else
                                                   '')


def stages_in_order(compared):
    """OrderedDict {stage: its results}, in the order of the calculation."""
    stages = OrderedDict()
    for result in compared.results:
        stages.setdefault(result.stage, []).append(result)
    return OrderedDict((stage, stages[stage]) for stage in sorted(stages, key=compared.order.position))


def summary(group):
    """(word, largest absolute, relative and ULP difference, worst `Result`) of the results of one stage."""
    worst = max(group, key=lambda result: (bool(result.problem), result.problem != 'differs', result.absolute))
    figures = [max(getattr(result, field) for result in group) for field in ('absolute', 'relative', 'ulp')]
    word = 'rounding' if any(result.where for result in group) else 'same' if figures[0] == 0 else 'close'
    return 'DIFFERS' if worst.problem else word, figures, worst


def reason(result):
    """Where a stage differs, in one phrase; for a missing array or another type the reason is the problem itself."""
    if not result.problem:
        return place(result) if result.absolute else ''
    return place(result) + ('' if result.problem == 'differs' else ': ' + result.problem)


def rounded(compared):
    """The first `Result`s whose differences are rounding, in the order of the calculation."""
    found = [result for result in compared.results if result.where and not result.problem]
    return sorted(found, key=lambda result: result.order)[:LISTED]


def headline(compared):
    """The first stage that differs, where, and why; lines."""
    first = first_difference(compared.results)
    if first is None:
        return ['no stage differs: %d arrays' % len(compared.results)] + [
            '  %s: %s' % (place(result), result.where) for result in rounded(compared)]
    values = '' if first.recorded is None else ': %r recorded, %r here' % (first.recorded, first.found)
    lines = ['first stage that differs: %s, at %s, %s%s'
             % (printable(first.stage), place(first), first.problem, printable(values))]
    if first.where:
        lines.append('  where: %s' % first.where)
    return lines + ['  ' + cause for cause in compared.causes]


def notes(compared):
    """Lines about what only one of the two sets has."""
    texts = ((compared.files, 'not compared, files missing: %s'), (compared.missing, 'not compared, not there: %s'),
             (compared.unknown, 'not in the reference: %s'))
    return [text % listed(names) for names, text in texts if names]


def report(compared):
    """Lines for people: the first stage that differs, then one line a stage with its worst array."""
    lines = headline(compared)
    stages = stages_in_order(compared)
    width = max([18] + [len(printable(stage)) for stage in stages])
    row = '%%-8s %%-%ds %%6s %%s  %%s' % width
    lines.append(row % ('', 'stage', 'arrays', '%9s %9s %12s' % ('absolute', 'relative', 'ULP'), 'worst at'))
    for stage, group in stages.items():
        word, figures, worst = summary(group)
        if worst.problem not in ('', 'differs'):    # no number was compared
            columns = '%9s %9s %12s' % ('-', '-', '-')
        else:
            columns = '%9.2g %9.2g %12d' % tuple(figures)
        lines.append(row % (word, printable(stage), len(group), columns, reason(worst)))
    lines += ['tie: %s %s, step %d: %d recorded, %d here, margin %.2g' % (
        tie.file, printable(tie.name) + str(list(tie.row)), tie.step, tie.recorded, tie.found, tie.margin)
        for tie in compared.ties]
    return lines + notes(compared)


def as_json(compared):
    """The same for a program, as a string: `equal`, `first`, `causes`, every array, every tie, what is not compared."""
    def plain(result):
        values = result._asdict()
        values.pop('order')
        # JSON knows no infinity
        return {key: str(value) if isinstance(value, float) and not np.isfinite(value) else value
                for key, value in values.items()}
    first = first_difference(compared.results)
    return json.dumps({'equal': first is None, 'first': plain(first) if first else None, 'causes': compared.causes,
                       'arrays': [plain(result) for result in compared.results],
                       'ties': [tie._asdict() for tie in compared.ties], 'files_missing': compared.files,
                       'not_compared': compared.missing, 'not_in_the_reference': compared.unknown},
                      indent=1, allow_nan=False)
