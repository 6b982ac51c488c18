"""Luong's variants on equal terms: each score, global and local attention, with and without input feeding.

    benchmarks/variants.py --corpus M --work runs/variants --json docs/variants.jsonl --epochs 3  # three epochs a run
    benchmarks/variants.py --corpus M --work runs/variants --json new.jsonl --minutes 5           # the same time a run
    benchmarks/variants.py --corpus M --speed docs/variants_speed.jsonl                           # words per second

M is a folder with `train`, `val` and `test_2016_flickr`, each with the endings `.de` and `.en`. One line of JSON is
added for each finished run; a run that the file has is skipped and a run that was stopped is continued, so the same
command resumes. The main variants are trained with every seed, the others with the first. `variants_report.py` makes
the table and the plots from both files.
"""
import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
from command_line import non_negative_int, positive_int, require, run_command, tell  # noqa: E402
from settings import SETTINGS, resolve_settings, shown  # noqa: E402

TEST = 'test_2016_flickr'
BANDS = '8,11,14,18'  # source lengths; the test set has 172, 340, 258, 162 and 68 lines in them
# What all variants share. With a smaller init_scale, or an encoder that reads one way, attention is not learnt in one
# epoch of this corpus.
SHARED = dict(source_tokenizer='space', target_tokenizer='space', min_count=5, units=128, embedding=128, init_scale=.2,
              batch_size=32, dropout=.2, word_dropout=0., metric='bleu', threads=1)
WINDOW = 5  # the paper's 10 would cover most sentences of Multi30k, which have 12 tokens on average
UPDATES_BETWEEN = 227  # validations of the main variants: four an epoch of 907 updates
NO_LIMIT = 10 ** 6  # epochs, where --minutes ends the training


def variants():
    """{name: settings}, the main variants first. Without attention there is no attentional state to feed."""
    kinds = [(score, dict(score=score)) for score in ('none', 'dot', 'general', 'concat', 'scaled_dot', 'location')]
    kinds += [(kind, dict(score='general', attention=kind, window=WINDOW)) for kind in ('local-m', 'local-p')]
    by_name = collections.OrderedDict()
    for name, own in kinds:
        by_name[name] = own
        if name != 'none':
            by_name[name + ' + feeding'] = dict(own, input_feeding=True)
    names = list(MAIN) + [name for name in by_name if name not in MAIN]
    return collections.OrderedDict((name, by_name[name]) for name in names)


MAIN = ('none', 'general', 'general + feeding', 'dot', 'local-p', 'local-p + feeding')


def options_of(values):
    """The options of train.py for a dict of settings."""
    return [word for name, value in values.items()
            for word in (SETTINGS[name].option, str(shown(value) if isinstance(value, bool) else value))]


def parse(argv):
    parser = argparse.ArgumentParser(prog='variants.py', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--corpus', required=True, metavar='DIR')
    parser.add_argument('--work', default='runs/variants', metavar='DIR', help='runs (default: %(default)s)')
    parser.add_argument('--json', metavar='FILE', help='add one line a run to this file')
    parser.add_argument('--epochs', type=positive_int, default=1, metavar='N',
                        help='budget of a run: passes over the training text (default: %(default)s)')
    parser.add_argument('--minutes', type=positive_int, metavar='N',
                        help='budget of a run in place of --epochs, at a constant learning rate')
    parser.add_argument('--seeds', type=non_negative_int, nargs='+', default=[1, 2], metavar='N',
                        help='of the main variants; the others take the first (default: 1 2)')
    parser.add_argument('--variants', nargs='+', choices=list(variants()), metavar='NAME', help='default: all')
    parser.add_argument('--speed', metavar='FILE', help='only measure words per second and write them to this file')
    parser.add_argument('--steps', type=positive_int, default=4, help='updates of a turn for --speed (default: 4)')
    parser.add_argument('--rounds', type=positive_int, default=5, help='turns of a variant for --speed (default: 5)')
    options = parser.parse_args(argv)
    if (options.json is None) == (options.speed is None):
        parser.error('give --json FILE to train, or --speed FILE to measure the speed')
    options.variants = options.variants or list(variants())
    return options


def training_files(options, part):
    return [os.path.join(options.corpus, '%s.%s' % (part, side)) for side in ('de', 'en')]


# Training and scores ------------------------------------------------------------------------------------------------

def run_child(command, output=None):
    """Runs a command of this project; returns the peak of its resident memory in GiB.

    # Raises
        UserError: it failed.
    """
    process = subprocess.Popen([sys.executable] + command, cwd=ROOT, stdout=output or subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    require(status == 0, '%s ended with status %d: run the same command again to continue', command[0], status)
    return usage.ru_maxrss / 2. ** 20


def train(name, seed, options):
    """Trains one variant, or continues it. Returns its run directory and the peak memory of the training in GiB."""
    path = os.path.abspath(os.path.join(options.work, '%s-%d' % (name.replace(' + ', '-'), seed)))
    command = ['train.py', '--run', path]
    if os.path.exists(os.path.join(path, 'log.csv')):  # written together with the first checkpoint
        command.append('--resume')
    else:
        values = dict(SHARED, seed=seed, epochs=options.epochs, **variants()[name])
        if options.minutes:
            values.update(epochs=NO_LIMIT, max_minutes=options.minutes, decay='constant')
        elif name in MAIN:
            values.update(validate_every=UPDATES_BETWEEN)
        command += ['--overwrite'] + options_of(values)
        for option, part in (('--train', 'train'), ('--val', 'val'), ('--test', TEST)):
            command += [option] + [os.path.abspath(file) for file in training_files(options, part)]
    peak, record_of_peak = run_child(command), os.path.join(path, 'peak.txt')
    if os.path.exists(record_of_peak):  # of an earlier part of the training
        with open(record_of_peak) as stream:
            peak = max(peak, float(stream.read()))
    with open(record_of_peak, 'w') as stream:
        stream.write('%r' % peak)
    return path, peak


def scores(path):
    """What evaluate.py says about the test set, greedy search, as a dict; the outputs are kept in the run."""
    outputs = os.path.join(path, 'test.out')
    with open(os.path.join(path, 'test.json'), 'wb+') as stream:
        run_child(['evaluate.py', '--run', path, '--trust-run', '--bleu-tokenize', 'none', '--by-length', BANDS,
                   '--output', outputs, '--json'], stream)
        stream.seek(0)
        return json.loads(stream.read().decode('utf-8')), outputs


def bleu_lines(outputs, options):
    """BLEU of the lines of a file of outputs, to resample."""
    from reports import metrics
    from text.text_files import read_lines
    return metrics.bleu_lines(list(read_lines(outputs)), list(read_lines(training_files(options, TEST)[1])), 'none')


def parameters(path):
    """Number of weights in a run's `weights.h5`."""
    import h5py
    counts = []
    with h5py.File(os.path.join(path, 'weights.h5'), 'r') as stream:
        stream.visititems(lambda _, item: counts.append(item.size) if isinstance(item, h5py.Dataset) else None)
    return int(sum(counts))


def record(name, seed, path, peak, options):
    """The figures of a finished run, as the line of JSON holds them."""
    import csv
    from reports import metrics
    report, outputs = scores(path)
    with open(os.path.join(path, 'log.csv'), encoding='utf-8', newline='') as stream:
        rows = list(csv.DictReader(stream))
    best = max(rows, key=lambda row: float(row['val_bleu']))
    lines = bleu_lines(outputs, options)
    line = collections.OrderedDict([
        ('variant', name), ('seed', seed), ('budget', budget(options)), ('updates', int(rows[-1]['step'])),
        ('parameters', parameters(path)), ('peak_gib', peak), ('val_perplexity', float(best['val_perplexity'])),
        ('val_bleu', float(best['val_bleu'])), ('test_perplexity', report['perplexity']), ('bleu', report['BLEU']),
        ('signature', report['notes']['BLEU']), ('interval', metrics.bootstrap(lines, len(lines))),
        ('bands', bands(report)), ('seconds', float(rows[-1]['seconds'])),
        ('curve', [[int(row['step']), float(row['val_bleu']), float(row['seconds'])] for row in rows])])
    first = os.path.join(os.path.dirname(path), '%s-%d' % (name.replace(' + ', '-'), options.seeds[0]), 'test.out')
    if seed != options.seeds[0]:
        line['p_first_seed'] = metrics.paired_bootstrap(bleu_lines(first, options), lines, len(lines))
    return line


def budget(options):
    return '%d minutes' % options.minutes if options.minutes else '%d epochs' % options.epochs


def bands(report):
    """[{label, lines, bleu, perplexity}] of the rows of evaluate.py by source length."""
    labels = [name[len('lines of '):] for name in report if name.startswith('lines of ')]
    return [collections.OrderedDict([('label', label), ('lines', report['lines of ' + label]),
                                     ('bleu', report.get('BLEU of ' + label)),
                                     ('perplexity', report.get('perplexity of ' + label))]) for label in labels]


def read(path):
    """The lines of a file of JSON; none if it does not exist."""
    if not os.path.exists(path):
        return []
    with open(path, encoding='utf-8') as stream:
        return [json.loads(line, object_pairs_hook=collections.OrderedDict) for line in stream]


def train_all(options):
    plan = [(name, seed) for seed in options.seeds for name in options.variants
            if seed == options.seeds[0] or name in MAIN]
    for number, (name, seed) in enumerate(plan, 1):
        if any((line['variant'], line['seed'], line['budget']) == (name, seed, budget(options))
               for line in read(options.json)):
            continue
        tell('run %d of %d: %s, seed %d' % (number, len(plan), name, seed))
        path, peak = train(name, seed, options)
        line = json.dumps(record(name, seed, path, peak, options))
        with open(options.json, 'a', encoding='utf-8') as stream:
            stream.write(line + '\n')


# Speed --------------------------------------------------------------------------------------------------------------

def measure_speed(options):
    """Words, source and target, per second of processor time in training; all variants take turns in one process.

    With one thread this is the speed of an idle core, also on a machine that has other work.
    """
    from train_step import Worker, corpora
    workers = collections.OrderedDict()
    for name in options.variants:
        settings = resolve_settings(dict(SHARED, train=training_files(options, 'train'), **variants()[name]))
        if not workers:
            corpus, sizes = corpora(argparse.Namespace(words=settings.source_vocabulary), settings)
            plan = corpus.plan(settings.batch_size, settings.seed, 0, shuffle=True)
        workers[name] = Worker(settings, corpus, sizes, plan)
        workers[name].take(0, 1)  # builds the graph's kernels
    rounds = {name: [] for name in workers}
    for number in range(options.rounds):
        for name, worker in workers.items():
            rounds[name].append(worker.take(number * options.steps, options.steps))
    with open(options.speed, 'w', encoding='utf-8') as stream:
        for name, turns in rounds.items():
            rates = [words / processor for words, _, processor, _ in turns]
            line = collections.OrderedDict([
                ('variant', name), ('words_per_second', statistics.median(rates)), ('minimum', min(rates)),
                ('maximum', max(rates)), ('seconds_per_update', statistics.median(
                    processor / options.steps for _, _, processor, _ in turns)),
                ('processor_share', statistics.median(processor / seconds for _, seconds, processor, _ in turns))])
            stream.write(json.dumps(line) + '\n')
            print('%-20s %8.0f words/s  %8.0f - %.0f' % (name, statistics.median(rates), min(rates), max(rates)))


def main(argv):
    options = parse(argv)
    os.makedirs(options.work, exist_ok=True)
    started = time.time()
    measure_speed(options) if options.speed else train_all(options)
    tell('%.0f seconds' % (time.time() - started))


if __name__ == '__main__':
    run_command(main, 'variants.py')
