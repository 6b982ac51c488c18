"""The map of versions: what other versions of TensorFlow and Keras change, and by how much.

    benchmarks/version_map.py prepare --multi30k FOLDER --old-models FOLDER   # runs and bundles on the pinned versions
    benchmarks/version_map.py measure [ROW ...]     # what the JSON files of the rows in benchmarks/stacks lack
    benchmarks/version_map.py speed [ROW ...]       # words/s of training, in turns; nothing else may run
    benchmarks/version_map.py page                  # the tables of docs/versions.md from these files

A row is a stack whose environment `stacks.py` makes, or another module of one: `tf1.15.5-tf.keras`. A row whose Python
is missing is skipped with the reason. Prepared files are in the folder that MATERIAL names (default: runs/versions).
"""
import argparse
from collections import OrderedDict, namedtuple
import json
import os
import re
import statistics
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]

from command_line import UserError, positive_int, require, run_command, tell  # noqa: E402  the path is set now
import stacks  # noqa: E402
import version_measures as measures  # noqa: E402
import version_page  # noqa: E402
from version_measures import BUNDLES, OLD, material, run  # noqa: E402
from version_page import PINNED  # noqa: E402

KINDS = ('fast', 'keras')
MEASURES = ('check', 'bundles', 'served', 'defaults', 'flips', 'resumed', 'tests')
# Rows that are not a stack of their own: (its environment, the module or the backend of Keras 3).
MODULES = OrderedDict([('tf1.12.0-tf.keras', ('tf1.12.0-keras2.2.4', 'tf.keras')),
                       ('tf1.15.5-tf.keras', ('tf1.15.5-keras2.2.4', 'tf.keras')),
                       ('tf2.6.2-tf.keras', ('tf2.6.2', 'tf.keras')), ('tf2.15.1-tf.keras', ('tf2.15.1', 'tf.keras')),
                       ('keras3.15.1-plain', ('keras3.15.1', 'tensorflow')),
                       ('keras3.15.1-tensorflow', ('keras3.15.1', 'tensorflow')),
                       ('keras3.15.1-torch', ('keras3.15.1', 'torch')), ('keras3.15.1-jax', ('keras3.15.1', 'jax'))])

Row = namedtuple('Row', 'name stack module plain')
Row.__doc__ = """One row: its stack, the Keras that runs the bundles ('' where our own code runs them), and whether
Keras 3 builds the layers of the old configuration as they are, without the remedies of the table of traps."""


def rows():
    """{name: `Row`} of all rows."""
    found = OrderedDict()
    for name in stacks.names():
        if name in [stack for stack, _ in MODULES.values()] and '-keras' not in name:
            continue
        module = 'tf_keras' if 'tf_keras' in name else '' if ours(name) else 'keras'
        found[name] = Row(name, name, module, False)
    for name, (stack, module) in MODULES.items():
        found[name] = Row(name, stack, module, name.endswith('-plain'))
    return found


def ours(name):
    """Whether our own code runs in a stack: TensorFlow 1.12 to 1.15 and Keras 2.2 or 2.3."""
    return name.startswith(('tf1.12', 'tf1.13', 'tf1.14', 'tf1.15')) and '-keras2' in name


# What the pinned versions make

def prepare(multi30k, old_models):
    """Trains the runs, captures the bundles, writes the outputs that rows are compared with; what is there stays."""
    python = sys.executable
    os.makedirs(material('bundles'), exist_ok=True)
    train = ['train.py', '--threads', '1', '--run']
    with open(os.path.join(stacks.ROOT, 'samples', 'translate', 'train.tsv'), encoding='utf-8') as stream:
        write(material('part.tsv'), ''.join(stream.readlines()[:1600]))
    with open(os.path.join(stacks.ROOT, 'samples', 'translate', 'test.tsv'), encoding='utf-8') as stream:
        write(material('sample.txt'), ''.join(line.split('\t')[0] + '\n' for line in stream))
    if not os.path.isdir(material('sample')):
        run(python, *train + [material('sample')])
    if multi30k and not os.path.isdir(material('multi30k')):
        def files(part):
            return [os.path.join(multi30k, '%s.%s' % (part, language)) for language in ('de', 'en')]
        run(python, *train + [material('multi30k'), '--train'] + files('train') + ['--val'] + files('val') + [
            '--target-tokenizer', 'word', '--units', 256, '--embedding', 256, '--batch-size', 64, '--epochs', 2])
    if multi30k:
        with open(os.path.join(multi30k, 'test_2016_flickr.de'), encoding='utf-8') as stream:
            write(material('multi30k.txt'), ''.join(stream.readlines()[:1000]))
    if not os.path.isdir(material('half')):
        run(python, *train + [material('half'), '--train', material('part.tsv'), '--val',
                              'samples/translate/val.tsv', '--units', 64, '--embedding', 64, '--batch-size', 64,
                              '--epochs', 1, '--kernels', 'keras'])
    if not os.path.isdir(material('saved_model')):
        run(python, 'export.py', material('sample'), material('saved_model'))
    for name, build in BUNDLES.items():
        if not os.path.isdir(material('bundles', name)):
            run(python, 'regress.py', 'capture', '--build', build, material('bundles', name))
    for name, weights in OLD.items() if old_models else ():
        if not os.path.isdir(material('bundles', name)):
            run(python, 'regress.py', 'capture', '--build', 'docs/old_models/build.py:' + name, '--weights',
                os.path.join(old_models, weights), material('bundles', name), '--steps', 0)
    if not os.path.isfile(material('expected.json')) or multi30k and 'multi30k' not in read_expected()['outputs']:
        write(material('expected.json'), json.dumps({
            'outputs': measures.outputs(python), 'served': measures.served(python),
            'resumed': measures.resumed(python, material('resumed'))}))


def write(path, text):
    with open(path, 'w', encoding='utf-8') as stream:
        stream.write(text)


# Measures

def parts(row, part=False):
    """{name in the row's file: its measure} of the measures that a row can have."""
    found = [('check', measures.part_of_check if part or row.module else measures.whole_check),
             ('bundles', measures.bundles)]
    if not row.stack.startswith('keras3'):
        found += [('served', measures.exported), ('defaults', measures.defaults)]
    if not row.module:
        found += [('flips', measures.flipped), ('resumed', measures.resumption), ('tests', measures.core_tests)]
    return OrderedDict(found)


def read_expected():
    """What the pinned versions give, as `prepare` wrote it."""
    path = material('expected.json')
    require(os.path.isfile(path), '%s: is missing: run benchmarks/version_map.py prepare first', path)
    with open(path, encoding='utf-8') as stream:
        return json.load(stream)


def read_row(row):
    """What has been measured of a row."""
    path = stacks.path_of(row.name, '.json')
    if not os.path.isfile(path):
        return OrderedDict([('stack', row.stack), ('module', row.module)] + [('plain', True)] * row.plain)
    with open(path, encoding='utf-8') as stream:
        return json.load(stream, object_pairs_hook=OrderedDict)


def measure(row, expected, only, part):
    """Measures what a row's file lacks; each measure is written when it is done, so that the next call goes on.

    # Arguments
        expected: what the pinned versions give.
        only: names of measures; none for all.
        part: whether a part of the reference outputs is enough.
    """
    python, found = None, read_row(row)
    several = {'bundles': [name for name in list(BUNDLES) + list(OLD) if os.path.isdir(material('bundles', name))],
               'flips': list(expected['outputs'])}
    for name, function in parts(row, part).items():
        if only and name not in only or not row.module and 'error' in found.get('check', ()):
            continue        # where our own check stops, nothing else runs
        lacking = [one for one in several.get(name, ()) if one not in found.get(name, ())]
        if name in found and not lacking and (name != 'check' or part or not found[name].get('part') or row.module):
            continue
        python = python or stacks.make(row.stack)
        tell('%s: %s' % (row.name, ' '.join([name] + lacking)))
        made = function(python, row, expected, *[lacking] * (name in several))
        found = read_row(row)       # another process may have measured something else of it
        found[name] = OrderedDict(found.get(name, ()), **made) if name in several else made
        write(stacks.path_of(row.name, '.json'), as_json(found))


def as_json(found):
    """JSON with each innermost list or object on one line."""
    text = re.sub(r'\[\s+([^][{}]*?)\s+\]', lambda match: '[%s]' % ' '.join(match.group(1).split()),
                  json.dumps(found, indent=1))
    return re.sub(r'\{\s+([^{}]*?)\s+\}', lambda match: '{%s}' % ' '.join(match.group(1).split()), text) + '\n'


# Speed

def speed(chosen, rounds, steps):
    """Words/s of training with both kinds of kernels, the medians of rounds in turns, beside the pinned versions."""
    names = [PINNED] + [row.name for row in chosen if not row.module and row.name != PINNED]
    pythons = {name: stacks.make(name) for name in names}
    rates = OrderedDict((name, []) for name in names)
    for _ in range(rounds):
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                out = os.path.join(folder, 'figures.json')
                run(pythons[name], 'benchmarks/train_step.py', '--rounds', 1, '--steps', steps, '--threads', 1,
                    '--json', out)
                with open(out, encoding='utf-8') as stream:
                    found = json.load(stream)
                rates[name].append([found[kind]['words_per_second'] for kind in KINDS])
    medians = {name: [statistics.median(one) for one in zip(*rates[name])] for name in names}
    for name in names:
        found = read_row(rows()[name])
        found['speed'] = OrderedDict((kind, [round(rate), '%.2f' % (rate / base)]) for kind, rate, base in zip(
            KINDS, medians[name], medians[PINNED]))
        write(stacks.path_of(name, '.json'), as_json(found))
        print('%-22s %s' % (name, '   '.join('%s %d words/s, %s of the pinned versions' % ((kind,) + tuple(one))
                                             for kind, one in found['speed'].items())))


def main(argv):
    parser = argparse.ArgumentParser(prog='version_map.py', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('action', choices=['prepare', 'measure', 'speed', 'page'])
    parser.add_argument('rows', metavar='ROW', nargs='*', help='rows of the map (default: all)')
    parser.add_argument('--multi30k', metavar='FOLDER', help='Multi30k, tokenised, for the second run')
    parser.add_argument('--old-models', metavar='FOLDER', help='weights of chars2vec and deepcut, see docs/porting.md')
    parser.add_argument('--only', nargs='+', metavar='MEASURE', choices=MEASURES, default=(), help='of %(choices)s')
    parser.add_argument('--part', action='store_true', help='check a part of the reference outputs')
    parser.add_argument('--rounds', type=positive_int, default=5, metavar='N', help='of speed (default: %(default)s)')
    parser.add_argument('--steps', type=positive_int, default=20, metavar='N', help='of speed (default: %(default)s)')
    options = parser.parse_args(argv)
    known = rows()
    for name in options.rows:
        if name not in known:
            raise UserError('%s: no such row; the rows are %s' % (name, ', '.join(known)))
    chosen = [known[name] for name in options.rows or known]
    if options.action == 'prepare':
        return prepare(options.multi30k, options.old_models)
    if options.action == 'speed':
        speed(chosen, options.rounds, options.steps)
    expected = read_expected() if options.action == 'measure' else None
    for row in chosen if expected else ():
        try:
            measure(row, expected, options.only, options.part)
        except UserError as error:
            tell('skipped: %s%s' % ('' if row.stack in str(error) else row.name + ': ', error))
    version_page.write()


if __name__ == '__main__':
    run_command(main, 'version_map.py')
