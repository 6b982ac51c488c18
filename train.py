"""Trains a sequence-to-sequence model with attention; without options, on the sample translations.

    train.py                                      # samples/translate into runs/translate
    train.py --task answer                        # questions: samples/answer into runs/answer
    train.py --train a.de a.en --val b.de b.en    # your own text, two files each or one tab-separated
    train.py --train part-*.de.gz part-*.en.gz    # several source files, then as many target files
    horovodrun -np 2 -H localhost:2 --gloo train.py --accumulate 2     # two workers: docs/scaling.md
"""
import argparse
import collections
import contextlib
import itertools
import hashlib
import os
import platform
import shlex
import time

from command_line import VERSION, CommandParser, UserError, Stopped, command, require, run_command, tell
import search_options
from settings import (
    COMMON, CORPORA, NEED_FILES, SETTINGS, add_options, check, presets_text, resolve_settings, with_defaults)
from storage.config_file import config_bytes, read_config_file
from storage.files import file_sha256
from storage.run_directory import RunDirectory
from text import corpus, preparation, questions
from text.corpus_builder import encode_pairs
from text.vocabulary import UNK
from training import initial_weights, memory_estimate
from training.workers import WorkerEnded, check_group, connect

SHOWN = 4  # validation sentences whose outputs are printed after each validation, always the same
SAMPLED = 2000  # training pairs whose share of <unk> is measured
MANY_UNKNOWN = .2  # share of <unk> among the source or target tokens above which a warning appears
# Settings that `--resume` may change: when to stop and to save, the memory, what to show, and the paths of the data,
# whose hashes must be the same.
FREE_ON_RESUME = ('epochs', 'max_minutes', 'patience', 'checkpoint_minutes', 'memory_limit', 'tensorboard', 'data',
                  'train', 'val', 'test', 'alignments')


# ---- The command ----------------------------------------------------------------------------------------------
def parse(argv):
    parser = CommandParser(prog='train.py', doc=__doc__, notes=presets_text(), common=COMMON + (
        'run', 'preset', 'resume', 'overwrite', 'dry_run'))
    parser.add_argument('--run', metavar='DIR', help='run directory (default: the name of the data folder, in runs/)')
    parser.add_argument('--config', metavar='FILE',
                        help='settings as JSON, such as the config.json of another run; options override them')
    parser.add_argument('--preset', choices=CORPORA, help='other defaults for a well-known corpus, see below')
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument('--resume', action='store_true', help='continue the run in the run directory')
    modes.add_argument('--overwrite', action='store_true', help='replace the run in the run directory')
    modes.add_argument('--dry-run', action='store_true',
                       help='check the data, build the model, estimate time and memory from a few steps; write nothing')
    modes.add_argument('--print-config', action='store_true',
                       help='print all settings as JSON, a --config file for the same run, and exit')
    parser.add_argument('--corpus-cache', metavar='DIR',
                        help='directory that stores the ids of a large text, so that the next start does not read the '
                        'text again (default: corpus-cache beside the run directory)')
    add_options(parser)
    values = vars(parser.parse_args(argv))
    options = argparse.Namespace(**{name: values.pop(name) for name in (
        'run', 'config', 'preset', 'resume', 'overwrite', 'dry_run', 'print_config', 'corpus_cache')})
    # Settings that the user gave, on the command line or in the file.
    options.given = dict(read_config_file(options.config), **values) if options.config else values
    return options


def main(argv):
    workers = connect()
    try:
        with workers.joined():
            if workers.is_first:
                lead(argv, workers)
            else:
                # Worker 0 reports for all. An error that only this worker has is an exception, and not silenced.
                with open(os.devnull, 'w') as silent, contextlib.redirect_stdout(silent), \
                        contextlib.redirect_stderr(silent):
                    follow(argv, workers)
    except WorkerEnded:
        return 1
    except Stopped as error:
        if workers.is_first:
            raise
        workers.wait_for_first()
        return 128 + error.signum


def choose(argv, workers, stack):
    """Options, settings, path and, with --resume, the run, which closes with `stack`."""
    options = parse(argv)
    settings = resolve_settings(options.given, options.preset)
    path, run = options.run or run_path(settings), None
    if options.resume:
        run = stack.enter_context(RunDirectory.open(path, lock=workers.is_first))
        settings = resumed_settings(options.given, run)
    check(settings)
    require(options.preset not in NEED_FILES or settings.train or 'data' in options.given,
            '--preset %s needs the files of its corpus: name them with --train, --val and --test', options.preset)
    require(workers.size == 1 or not options.dry_run, '--dry-run estimates one process: run it without horovodrun')
    check_group(settings, workers)
    workers.threads = settings.threads
    return options, settings, path, run


def cache_folder(options, path):
    """The directory of encoded corpora; `None` for --dry-run."""
    return None if options.dry_run else options.corpus_cache or os.path.join(
        os.path.dirname(os.path.abspath(path)), 'corpus-cache')


def lead(argv, workers):
    """Trains as the only process, or as worker 0 of several."""
    with contextlib.ExitStack() as stack:
        with workers.agreeing():
            # Settings: from the command line, or from the run to resume.
            options, settings, path, run = choose(argv, workers, stack)
            if options.print_config:
                print(config_bytes(vars(settings)).decode('ascii'), end='')
                return
            if not options.resume and not options.dry_run:
                RunDirectory.check_new(path, options.overwrite)

            # Data: hashes, tokens, vocabularies; and the checkpoint, run or vectors from which the weights start.
            paths = corpus.corpus_paths(settings)
            hashes = {part: [file_sha256(file) for file in files] for part, files in paths.items()}
            if options.resume:
                check_same_data(run, hashes, paths)
            text = preparation.prepare(settings, paths, hashes, run, cache_folder(options, path))
            vocabularies = collections.OrderedDict(zip(('vocab.source.txt', 'vocab.target.txt'), text.vocabularies))
            sizes = [len(vocabulary) for vocabulary in text.vocabularies]
            tell('vocabularies: %s source and %s target tokens' % tuple(format(size, ',') for size in sizes))
            tell_unknown_tokens(settings, text, paths)
            separators = questions.separators(settings, text.vocabularies[0])
            memory_estimate.check(settings, *sizes, text.train, workers.here)
            checkpoint = run.read_checkpoint() if options.resume else None
            previous = None
            if settings.init_from and checkpoint is None:
                previous = initial_weights.read_run(settings.init_from)
            vectors = read_vectors(settings, vocabularies) if checkpoint is None else []
        workers.share({'hashes': hashes, 'vocabularies': vocabulary_hashes(text),
                       'models': {name: model.decode('latin-1') for name, model in text.models.items()}})
        with workers.agreeing():
            pass  # the others read the text

        # The run directory.
        if options.resume:
            if previous is not None:
                require(run.manifest().get('init_from') == describe_previous(previous),
                        '%s: its weights are not those that this run started from: restore them, or train another '
                        'run with --run', previous.path)
            for name, vocabulary in vocabularies.items():
                require(run.read_file(name) == vocabulary.to_bytes(), '%s: is not the vocabulary of the training text: '
                        'train again with --overwrite', run.file(name))
            run.write_config(vars(settings))
        elif not options.dry_run:
            files = dict(text.models, **{name: vocabulary.to_bytes() for name, vocabulary in vocabularies.items()})
            about = describe_command(argv, hashes)
            if previous is not None:
                about['init_from'] = describe_previous(previous)
            run = stack.enter_context(RunDirectory.create(path, vars(settings), files, about, options.overwrite))
        if run is not None:
            workers.watch_run(run.path)

        # The model.
        import tf_session
        from training.trainer import Trainer
        from translator import Translator
        session = tf_session.new_session(settings.threads)
        stack.enter_context(tf_session.opened(session))
        trainer = Trainer(settings, *sizes, text.train, text.validation, run, checkpoint=checkpoint,
                          separators=separators, workers=workers)
        del checkpoint  # frees as much memory as the model and the optimiser's slots take
        translator = Translator(trainer.model, session, *zip(text.tokenizers, text.vocabularies))
        trainer.show = lambda row: show(run, settings, translator, row, text.texts[:SHOWN])
        trainer.decoded_score = lambda: score(settings, translator, text.texts)
        tell('model: %s parameters, %s%d threads' % (
            format(trainer.keras_model.count_params(), ','),
            '%d workers of ' % workers.size if workers.size > 1 else '',
            settings.threads or tf_session.available_cores()))
        if previous is not None:
            values, counts = initial_weights.matching(previous, trainer.layers(), vocabularies)
            trainer.start_from(values)
            tell(counts)
        for side, ids, rows in vectors:
            trainer.start_from_vectors(side, ids, rows)

        # Training.
        if options.dry_run:
            from training import dry_run
            dry_run.estimate(trainer)
            return
        trainer.synchronise()
        fit(trainer, run, options.resume)


def follow(argv, workers):
    """Trains as a worker other than the first: reads the same text, gets the rest from worker 0, writes nothing."""
    with contextlib.ExitStack() as stack:
        with workers.agreeing():
            options, settings, path, run = choose(argv, workers, stack)
            if options.print_config:
                return
        shared = workers.share(None)
        with workers.agreeing():
            paths = corpus.corpus_paths(settings)
            hashes = {part: [file_sha256(file) for file in files] for part, files in paths.items()}
            for part in sorted(set(hashes) | set(shared['hashes'])):
                require(hashes.get(part) == shared['hashes'].get(part),
                        '%s: the %s text on %s is not that of worker 0: copy that text to all machines',
                        ' '.join(paths.get(part, ['no file'])), part, platform.node())
            text = preparation.prepare(settings, paths, hashes, run or SharedFiles(shared['models']),
                                       cache_folder(options, path), keep=False)
            require(vocabulary_hashes(text) == shared['vocabularies'], 'on %s the same text gives other vocabularies '
                    'than on the machine of worker 0: install the same versions on all machines', platform.node())
            sizes = [len(vocabulary) for vocabulary in text.vocabularies]
            memory_estimate.check(settings, *sizes, text.train, workers.here)
        import tf_session
        from training.trainer import Trainer
        stack.enter_context(tf_session.opened(tf_session.new_session(settings.threads)))
        trainer = Trainer(settings, *sizes, text.train, text.validation, None,
                          separators=questions.separators(settings, text.vocabularies[0]), workers=workers)
        trainer.synchronise()
        trainer.fit()


class SharedFiles(dict):
    """Files that worker 0 sent, {name: text in latin-1}, with the methods of `RunDirectory` that tokenisers need."""

    file = staticmethod(str)

    def read_file(self, name):
        return self[name].encode('latin-1')


def vocabulary_hashes(text):
    return [hashlib.sha256(vocabulary.to_bytes()).hexdigest() for vocabulary in text.vocabularies]


def fit(trainer, run, resumed):
    """Trains to the end and reports how the training ended."""
    from reports import plots
    from training import schedule
    state, reason = trainer.state, schedule.reason_to_stop(trainer.settings, trainer.state)
    if reason:
        tell('nothing is left to train: %s; to train longer, raise that option' % reason)
    elif resumed:
        tell('resuming at epoch %d, batch %d' % (state.epoch + 1, state.position + 1))
    trainer.fit()
    run.write_file('curves.png', plots.training_png(trainer.state.log))
    state = trainer.state
    if state.epoch < trainer.settings.epochs and not reason:
        tell('stopped in epoch %d after batch %d of %d: %s; continue it with --resume and a larger value' % (
            state.epoch + (state.position > 0), state.position or trainer.batches, trainer.batches,
            schedule.reason_to_stop(trainer.settings, state)))
    if state.best is None:
        tell('no validation was reached: %s has no weights yet' % run.path)
    else:
        tell('the best weights are in %s; try: %s' % (run.path, command('predict.py', '--run', run.path)))


# ---- Settings and the run -------------------------------------------------------------------------------------
def run_path(settings):
    """The default run directory: the name of the data folder, in runs/."""
    folder = settings.data if settings.train is None else os.path.dirname(os.path.abspath(settings.train[0]))
    return os.path.join('runs', os.path.basename(os.path.abspath(folder)))


def resumed_settings(given, run):
    """The settings of a run, changed by the dict `given`; raises `UserError` for settings that must not change."""
    recorded = run.read_config()
    for name, value in given.items():
        require(name in FREE_ON_RESUME or value == recorded[name],
                '%s: the run was trained with %s %s, not %s: omit the option, or train another run with --run',
                run.path, SETTINGS[name].option, recorded[name], value)
    if 'data' in given:
        recorded = dict(recorded, train=None, val=None, test=None)
    return with_defaults(dict(recorded, **given))


def check_same_data(run, hashes, paths):
    """Raises `UserError` unless the texts have the hashes that the run recorded."""
    recorded = run.manifest().get('data')
    recorded = recorded if isinstance(recorded, dict) else {}
    for part in sorted(set(hashes) | set(recorded)):
        require(hashes.get(part) == recorded.get(part),
                '%s: the %s text is not the one that the run started with (%s): restore that text, or train another '
                'run with --run', run.path, part, ' '.join(paths.get(part, ['none'])))


def describe_command(argv, hashes):
    """What the manifest records besides the hashes of the files: command line, hashes of the data, versions."""
    import tf_session  # noqa: F401  first: it fixes the import order
    import h5py
    import keras
    import numpy
    import tensorflow
    return collections.OrderedDict([
        ('command', ' '.join(map(shlex.quote, ['train.py'] + argv))), ('data', hashes),
        ('versions', {'global-attention': VERSION, 'python': platform.python_version(), 'keras': keras.__version__,
                      'tensorflow': tensorflow.__version__, 'numpy': numpy.__version__, 'h5py': h5py.__version__})])


def describe_previous(previous):
    """What the manifest records about the run of `--init-from`."""
    return {'run': os.path.abspath(previous.path), 'sha256': previous.sha256}


# ---- Data -----------------------------------------------------------------------------------------------------
def tell_unknown_tokens(settings, text, paths):
    """Tells the shares of <unk> in each part of the text, estimated from a sample; warns if training has many."""
    corpora = collections.OrderedDict([('training', text.train), ('validation', text.validation)])
    if 'test' in paths:
        try:
            pairs = list(itertools.islice(corpus.read_pairs(paths['test'], settings.format, settings.on_bad_utf8),
                                          SAMPLED))
        except UserError as error:      # training does not need it
            tell('warning: the test text cannot be read: %s' % error)
            pairs = []
        tokens = [[tokenizer.tokenize(pair[side]) for pair in pairs] for side, tokenizer in enumerate(text.tokenizers)]
        corpora['test'] = encode_pairs(*tokens, *text.vocabularies, settings.copy)
    shares = collections.OrderedDict()
    for part, pairs in corpora.items():
        sample = [pairs.record(index) for index in range(0, len(pairs), max(1, len(pairs) // SAMPLED))]
        if sample:
            shares[part] = [unknown_share(sequences) for sequences in list(zip(*sample))[:2]]
    tell('unknown tokens of source and target: %s' % ', '.join(
        '%s %.1f %% and %.1f %%' % (part, 100. * source, 100. * target) for part, (source, target) in shares.items()))
    for side, share in zip(('source', 'target'), shares['training']):
        if share > MANY_UNKNOWN:
            tell('warning: %.1f %% of the %s tokens are <unk>: check --%s-tokenizer, --%s-vocabulary and --min-count'
                 % (100 * share, side, side, side))


def unknown_share(sequences):
    """The share of <unk> in lists of ids."""
    ids = [i for sequence in sequences for i in sequence]
    return ids.count(UNK) / float(max(1, len(ids)))


def read_vectors(settings, vocabularies):
    """List of (side, ids, vectors) of the pretrained embeddings that the settings name."""
    vectors = []
    for side in ('source', 'target'):
        path = getattr(settings, side + '_embeddings')
        if path:
            vocabulary = vocabularies['vocab.%s.txt' % side]
            ids, rows = corpus.read_vectors(path, vocabulary, settings.embedding)
            tell('%s: vectors for %d of %d %s tokens' % (path, len(set(ids)), len(vocabulary), side))
            vectors.append((side, ids, rows))
    return vectors


# ---- Validation -----------------------------------------------------------------------------------------------
def outputs(settings, translator, pairs):
    """The best hypothesis for the source of each pair of texts."""
    results = translator.translate([source for source, _ in pairs], settings.batch_size,
                                   **search_options.merge(settings)._asdict())
    return [hypotheses[0] for hypotheses in results]


def score(settings, translator, pairs):
    """`settings.metric` of the outputs for pairs of texts."""
    from reports import metrics
    texts = [hypothesis.text for hypothesis in outputs(settings, translator, pairs)]
    references = [target for _, target in pairs]
    if settings.metric == 'bleu':
        tokenize = metrics.bleu_tokenizer(settings.target_tokenizer)
        return metrics.bleu(texts, references, tokenize).score
    if settings.metric == 'rouge-l':
        return metrics.rouge(texts, references)['rougeL']
    return metrics.exact_match(texts, references)


def show(run, settings, translator, row, pairs):
    """Prints the outputs for a few validation pairs, and writes them and the scores of `row` for TensorBoard."""
    hypotheses = outputs(settings, translator, pairs)
    for (source, reference), best in zip(pairs, hypotheses):
        tell('    %s\n  = %s\n  > %s' % (source, reference, best.text))
    if settings.tensorboard:
        from reports import plots
        from reports import tensorboard_events
        samples = ['| source | reference | output |', '|---|---|---|'] + [
            '| %s |' % ' | '.join(text.replace('|', '\\|') for text in (*pair, best.text))
            for pair, best in zip(pairs, hypotheses)]
        pictures = [] if settings.score == 'none' else [
            plots.alignment_png(translator.encode(source), best.tokens, best.alignment)
            for (source, _), best in zip(pairs, hypotheses)]
        run.write_events(row['step'], tensorboard_events.pack_events(
            row['step'], time.time(), {name: value for name, value in row.items() if name not in ('epoch', 'step')},
            {'samples': '\n'.join(samples)},
            {'alignment/%d' % number: png for number, png in enumerate(pictures, 1)}))


if __name__ == '__main__':
    run_command(main, 'train.py')
