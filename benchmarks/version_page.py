"""The tables of docs/versions.md, from the JSON files that `version_map.py` writes."""
from collections import OrderedDict
import glob
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from parity import version_traps  # noqa: E402  the checkout is on the path now

PAGE = os.path.join(os.path.dirname(HERE), 'docs', 'versions.md')
BEGIN, END = '<!-- %s: written by benchmarks/version_map.py page -->', '<!-- end of %s -->'
STAGES = ('encoder_states', 'decoder_states', 'logits', 'gradient', 'step_50')
SAFE, ROUNDING, CHANGES, STOPS = ('safe: bit for bit', 'safe within rounding', '**changes results**', 'does not run')


def order(name):
    """Rows by kind, then by the numbers of their versions."""
    kind = 2 if name.startswith('keras3') else 1 if 'tf.keras' in name or 'tf_keras' in name else 0
    return [kind] + [int(number) for number in re.findall('[0-9]+', name)]


def read_rows():
    """{name: what was measured} of all rows that have a file, in the order of the page."""
    found = {}
    for path in glob.glob(os.path.join(HERE, 'stacks', '*.json')):
        with open(path, encoding='utf-8') as stream:
            found[os.path.basename(path)[:-len('.json')]] = json.load(stream, object_pairs_hook=OrderedDict)
    return OrderedDict((name, found[name]) for name in sorted(found, key=order))


def title(name):
    """A row's name for people: 'TensorFlow 1.15.5, Keras 2.3.1'."""
    parts = re.match(r'(?:tf([0-9.]+))?-?(tf[._]keras|keras)([0-9.]*)(?:-(\w+))?$', name)
    tensorflow, kind, version, backend = parts.groups()
    keras = '%s %s' % (kind if '_' in kind or '.' in kind else 'Keras', version)
    return ', '.join(filter(None, [tensorflow and 'TensorFlow ' + tensorflow, keras.strip(),
                                   backend and 'on ' + backend]))


def changed(row):
    """[(model, first stage that differs)] of the models of a row whose results are others, and [(model, error)]."""
    models = [(name, one) for name, one in row['bundles'].items()]
    if not row['module']:
        models.insert(0, ('ours', row['check']))
    return ([(name, one['first']) for name, one in models if one.get('first')],
            [(name, one['error']) for name, one in models if 'error' in one])


def answer(row):
    """(one of the four answers, what changes) of a row."""
    if not row['module'] and 'error' in row['check']:
        return STOPS, row['check']['error'].replace('regress.py: ', '').split(': install')[0]
    different, errors = changed(row)
    told = ['%s at `%s`' % pair for pair in different] + ['%s is refused' % name for name, _ in errors]
    if told:
        return CHANGES, '; '.join(told)
    measured = ([] if row['module'] else [row['check']]) + list(row['bundles'].values())
    stages = [stage for one in measured for stage in one['stages']]
    return (ROUNDING, 'at most the last bits of %s' % listed(stages)) if stages else (SAFE, '')


def listed(stages):
    """The first stages of a list, in words."""
    names = ['`%s`' % stage for stage in stages[:3]]
    return ', '.join(names) + (' and later ones' if len(stages) > 3 else '')


def line(*cells):
    return '| %s |' % ' | '.join(str(cell).replace('|', '\\|') for cell in cells)


def answers(rows):
    lines = [line('instead of TensorFlow 1.12.0, Keras 2.2.4', 'answer', 'what changes first'), '|---|---|---|']
    return lines + [line(title(name), *answer(row)) for name, row in rows.items()]


def largest(stages, name):
    figures = stages.get(name)
    return '%s (%s)' % (figures[2], figures[1]) if figures else '0'


def figures(rows):
    """ULP and relative differences of the reference outputs, flips, runs, exported models."""
    lines = [line(*('stack', 'compared') + tuple('`%s`' % name for name in STAGES) + (
        'flips, samples', 'flips, Multi30k', 'resumed run', 'words/s beside 1.12')), '|---' * (6 + len(STAGES)) + '|']
    for name, row in rows.items():
        if row['module'] or 'error' in row['check']:
            continue
        check = row['check']
        cells = [title(name), '%s arrays%s' % (check['arrays'], ', a part' if check.get('part') else '')]
        cells += [largest(check['stages'], stage) for stage in STAGES]
        cells += ['%s of %s' % tuple(row['flips'][run]) if run in row['flips'] else 'not measured'
                  for run in ('sample', 'multi30k')]
        resumed = row['resumed']
        cells.append(resumed.get('error') or ('same bits' if float(resumed['difference']) == 0 else
                                              'within %s' % resumed['difference']))
        lines.append(line(*cells + [row.get('speed', {}).get('beside_pinned', 'not measured')]))
    return lines


def models(rows):
    """First stage that differs of each small model, with its largest ULP where none does."""
    names = []
    for row in rows.values():
        names += [name for name in row['bundles'] if name not in names]
    lines = [line('stack', *['`%s`' % name for name in names]), '|---' * (1 + len(names)) + '|']
    for name, row in rows.items():
        if not row['module'] and 'error' in row['check']:
            continue
        cells = []
        for model in names:
            one = row['bundles'].get(model)
            stages = one and one.get('stages') or {}
            cells.append('-' if one is None else 'refused' if 'error' in one else '**%s**' % one['first']
                         if one['first'] else '%d ULP' % max(figures[2] for figures in stages.values())
                         if stages else 'same bits')
        lines.append(line(title(name), *cells))
    return lines


def served(rows):
    lines = [line('stack', 'outputs that differ', 'largest difference of scores'), '|---|---|---|']
    for name, row in rows.items():
        one = row.get('served')
        if one:
            lines.append(line(title(name), *(['not loaded: ' + one['error'], ''] if 'error' in one else
                                             ['%s of %s' % (one['flips'], one['of']), one['scores']])))
    return lines


def defaults(rows):
    """Defaults of layers and optimisers that differ from those of the pinned versions."""
    base = next((row['defaults'] for name, row in rows.items() if name == 'tf1.12.0-keras2.2.4'), {})
    found = OrderedDict()
    for name, row in rows.items():
        for kind, config in row.get('defaults', {}).items():
            for key, value in (config.items() if isinstance(config, dict) else ()):
                known = base.get(kind, {})
                if key in known and known[key] != value and not key.endswith('initializer') and key != 'dtype':
                    found.setdefault((kind, key, json.dumps(known[key]), json.dumps(value)), []).append(title(name))
    lines = [line('class', 'argument', 'Keras 2.2.4', 'there', 'where'), '|---|---|---|---|---|']
    return lines + [line(kind, '`%s`' % key, old, new, '; '.join(names)) for (kind, key, old, new), names
                    in sorted(found.items())]


TABLES = (('answers', answers), ('figures', figures), ('models', models), ('traps', lambda rows: version_traps.table()),
          ('served', served), ('defaults', defaults))


def page_with_tables(text, rows):
    """The page with its generated tables generated again."""
    for name, table in TABLES:
        begin, end = BEGIN % name, END % name
        head, _, rest = text.partition(begin)
        text = head + begin + '\n' + '\n'.join(table(rows)) + '\n' + end + rest.partition(end)[2]
    return text


def write():
    with open(PAGE, encoding='utf-8') as stream:
        text = stream.read()
    with open(PAGE, 'w', encoding='utf-8') as stream:
        stream.write(page_with_tables(text, read_rows()))
