"""The tables of docs/versions.md, from the JSON files that `version_map.py` writes."""
from collections import OrderedDict
import glob
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from parity import compare, version_traps  # noqa: E402  the checkout is on the path now

PAGE = os.path.join(os.path.dirname(HERE), 'docs', 'versions.md')
BEGIN, END = '<!-- %s: written by benchmarks/version_map.py page -->', '<!-- end of %s -->'
NOT_MEASURED = '-'
STAGES = ('encoder_states', 'decoder_states', 'logits', 'gradient', 'step_50')
ANSWERS = SAFE, ROUNDING, CHANGES, STOPS = (
    'safe: bit for bit', 'safe within rounding', '**changes results**', 'does not run')
PINNED = 'tf1.12.0-keras2.2.4'
MODELS = ('masked', 'masked_loss', 'started', 'twice', 'nested', 'adam', 'clipped', 'decayed', 'frozen', 'normed',
          'phased')
OLD_MODELS = ('chars2vec', 'deepcut')
CHANGED = dict({trap.model: trap.short for trap in version_traps.VERSION_TRAPS}, adam='Adam')     # by a model
KERAS3 = '`hard_sigmoid`, which has another slope, and more: [traps.md](traps.md)'


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
    """A row's name for people: 'Keras 2.3.1 on TensorFlow 1.15.5'."""
    return together([name])


def together(names):
    """Rows in words, those that differ in one version as one: 'Keras 2.2.4 on TensorFlow 1.14.0 and 1.15.5'."""
    groups = OrderedDict()
    for name in names:
        tensorflow, kind, version, more = re.match(
            r'(?:tf([0-9.]+))?-?(tf[._]keras|keras)([0-9.]*)(?:-(\w+))?$', name).groups()
        if kind == 'tf.keras':
            group, version = '`tf.keras` of TensorFlow %s', tensorflow
        elif kind == 'tf_keras':
            group, version = '`tf_keras` %s', version
        elif more == 'plain':
            group = 'Keras %s'
        elif more:
            group, version = 'Keras %s with the [remedies](traps.md), on %%s' % version, more
        else:
            group, version = 'Keras %s on TensorFlow %%s' % version, tensorflow
        groups.setdefault(group, []).append(version)
    return '; '.join(group % ' and '.join(filter(None, [', '.join(found[:-1]), found[-1]]))
                     for group, found in groups.items())


def changed(row, base):
    """What a row changes, in words; the traps are those of versions after the pinned ones."""
    older = row['stack'].startswith('tf') and order(row['stack'])[1:] < order(PINNED)[1:]
    found = []
    if not row['module'] and row['check'].get('first'):
        found += [CHANGED['masked_loss'], "this project's own training"] if row['check']['first'] == 'loss' else [
            'our outputs at `%s`' % row['check']['first']]
    places = {name: place for place, name in enumerate(MODELS + OLD_MODELS)}
    for name, one in sorted(row.get('bundles', {}).items(), key=lambda model: places.get(model[0], len(places))):
        if one.get('first'):
            found.append(KERAS3 if row.get('plain') else CHANGED[name] if name in CHANGED and not older else
                         '`%s` at `%s`' % (name, one['first']))
        elif 'error' in one:
            found.append(CHANGED['nested'] if 'does not support masking' in one['error'] else
                         '`%s` is refused' % name)
    if other_defaults(row, base):
        found.append(CHANGED['chars2vec'])
    return list(OrderedDict.fromkeys(found))


def answer(row, base):
    """(one of the four answers, what changes) of a row; `base`: the defaults of the pinned versions."""
    if not row['module'] and 'error' in row['check']:
        return STOPS, row['check']['error'].replace('regress.py: ', '').split(': install')[0]
    different = changed(row, base)
    if different:
        return CHANGES, '; '.join(different)
    if any(one['stages'] for one in row.get('bundles', {}).values()):
        return ROUNDING, 'the last bits'
    if not row['module'] and row['check']['stages']:
        return ROUNDING, "the last bits of this project's model, not of the [models](#models)"
    return SAFE, 'nothing'


def line(*cells):
    return '| %s |' % ' | '.join(str(cell).replace('|', '\\|') for cell in cells)


def answers(rows):
    """The rows with the same answer and the same changes together, the safe ones first."""
    base, groups = base_defaults(rows), OrderedDict()
    for name, row in rows.items():
        own = {} if row['module'] else row.get('check')
        if own is not None and (row.get('bundles') or 'error' in own):     # else an answer would be early
            groups.setdefault(answer(row, base), []).append(name)
    lines = [line('answer', 'instead of Keras 2.2.4 on TensorFlow 1.12.0', 'what changes'), '|---|---|---|']
    return lines + [line(said, together(names) + (', installed again' if PINNED in names else ''), what)
                    for (said, what), names in sorted(
        groups.items(), key=lambda group: ANSWERS.index(group[0][0]))]


def largest(stages, name):
    figures = stages.get(name)
    return '%s (%s)' % (figures[2] if figures[2] < 1e6 else '%.0e' % figures[2], figures[1]) if figures else '0'


def first_difference(check):
    """The first stage that differs, and in bold the first one beyond the tolerances."""
    beyond, first = check['first'], min(check['stages'], key=compare.STAGES.index, default=None)
    names = ['`%s`' % first] if first not in (None, beyond) else []
    names += ['**%s**' % beyond] if beyond else []
    return ', '.join(names) or 'none'


def figures(rows):
    """ULP and relative differences of the reference outputs, flips, runs, tests, speed."""
    lines = [line(*('stack', 'arrays', 'first difference') + tuple('`%s`' % name for name in STAGES) + (
        'flips, samples', 'flips, Multi30k', 'resumed run', 'core tests', 'speed')), '|---' * (8 + len(STAGES)) + '|']
    for name, row in rows.items():
        check = row.get('check', {})
        if row['module'] or 'arrays' not in check:
            continue
        cells = [title(name), '%s%s' % (check['arrays'], ', a part' if check.get('part') else ''),
                 first_difference(check)]
        cells += [largest(check['stages'], stage) for stage in STAGES]
        cells += ['%s of %s' % tuple(row['flips'][run]) if run in row.get('flips', ()) else NOT_MEASURED
                  for run in ('sample', 'multi30k')]
        resumed = row.get('resumed', {'error': NOT_MEASURED})
        cells.append(resumed.get('error') or ('same bits' if float(resumed['difference']) == 0 else
                                              'within %s' % resumed['difference']))
        cells.append(passed(row['tests']['result']) if 'tests' in row else NOT_MEASURED)
        lines.append(line(*cells + [', '.join('%s %s' % (one[1], kind) for kind, one in row.get('speed', {}).items())
                                    or NOT_MEASURED]))
    return lines


def passed(result):
    """'530 of 531' from the last line of pytest."""
    counts = {word: int(count) for count, word in re.findall('([0-9]+) (passed|failed|error)', result)}
    return '%d of %d' % (counts.get('passed', 0), sum(counts.values())) if counts else result


def models(rows):
    """First stage that differs of each small model, with its largest ULP where none does."""
    names = MODELS + OLD_MODELS
    lines = [line('stack', *['`%s`' % name for name in names]), '|---' * (1 + len(names)) + '|']
    for name, row in rows.items():
        if not row.get('bundles'):
            continue
        cells = []
        for model in names:
            one = row.get('bundles', {}).get(model)
            stages = one and one.get('stages') or {}
            cells.append(NOT_MEASURED if one is None else 'refused' if 'error' in one else '**%s**' % one['first']
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


def base_defaults(rows):
    """The defaults of the pinned versions; Adagrad had no first value of its sums, which was 0."""
    found = rows[PINNED]['defaults'] if PINNED in rows else {}
    if 'Adagrad' in found:
        found['Adagrad'].setdefault('initial_accumulator_value', 0.)
    return found


def other_defaults(row, base):
    """{(class, argument): (in the pinned versions, there)} of the defaults that change results."""
    found = OrderedDict()
    for kind, config in row.get('defaults', {}).items():
        for key, value in (config.items() if isinstance(config, dict) else ()):
            key = 'lr' if key == 'learning_rate' else key
            known = base.get(kind, {})
            if key in known and known[key] != value and not key.endswith('initializer') and key not in (
                    'dtype', 'implementation'):
                found[kind, key] = json.dumps(known[key]), json.dumps(value)
    return found


def defaults(rows):
    """Defaults of layers and optimisers that differ from those of the pinned versions."""
    base, found = base_defaults(rows), OrderedDict()
    for name, row in rows.items():
        for place, values in other_defaults(row, base).items():
            found.setdefault(place + values, []).append(name)
    lines = [line('class', 'argument', 'Keras 2.2.4', 'there', 'where'), '|---|---|---|---|---|']
    return lines + [line(kind, '`%s`' % ('learning_rate' if key == 'lr' else key), old, new, together(names))
                    for (kind, key, old, new), names in sorted(found.items())]


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
    text = page_with_tables(text, read_rows())
    with open(PAGE, 'w', encoding='utf-8') as stream:
        stream.write(text)
