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
import os
import platform
import textwrap

from command_line import CommandParser, Stopped, command, require, run_command, tell
from settings import (AUTO, COMMON, CORPORA, GUIDED, PRESETS, SETTINGS, add_options, check, resolve_settings,
                      shown)
from storage.config_file import config_bytes, read_config_file
from storage.files import file_sha256
from storage.run_directory import RunDirectory
from text import corpus, preparation, questions, unknown_tokens, word_aligner
from text.vocabulary import FILES as VOCABULARY_FILES
from training import initial_weights, memory_estimate, start
from training.workers import WorkerEnded, check_group, connect


# ---- The command ----------------------------------------------------------------------------------------------
def parse(argv):
    parser = CommandParser(prog='train.py', doc=__doc__, notes=presets_text(), common=COMMON + (
        'run', 'preset', 'resume', 'overwrite', 'dry_run'))
    parser.add_argument('--run', metavar='DIR', help='run directory (default: the name of the data folder, in runs/)')
    parser.add_argument('--config', metavar='FILE',
                        help='settings as JSON, such as the config.json of another run; options override them')
    parser.add_argument('--preset', choices=CORPORA,
                        help='other defaults for a well-known corpus (--help-all lists them)')
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument('--resume', action='store_true', help='continue the run in the run directory')
    modes.add_argument('--overwrite', action='store_true', help='replace the run in the run directory')
    modes.add_argument('--dry-run', action='store_true',
                       help='check the data, build the model, estimate time and memory from a few steps; write nothing')
    modes.add_argument('--print-config', action='store_true',
                       help='print all settings as JSON, a --config file for the same run, and exit')
    modes.add_argument('--print-tokens', action='store_true',
                       help='print the tokens of each training pair as "source ||| target", which word aligners read, '
                       'and exit')
    parser.add_argument('--corpus-cache', metavar='DIR',
                        help='directory that stores the ids of a large text, so that the next start does not read the '
                        'text again (default: corpus-cache beside the run directory)')
    add_options(parser)
    values = vars(parser.parse_args(argv))
    options = argparse.Namespace(**{name: values.pop(name) for name in (
        'run', 'config', 'preset', 'resume', 'overwrite', 'dry_run', 'print_config', 'print_tokens',
        'corpus_cache')})
    # Settings that the user gave, on the command line or in the file.
    options.given = dict(read_config_file(options.config), **values) if options.config else values
    return options


def presets_text():
    """The presets and tasks with the options that they set, for `--help`."""
    lines = ['config.json of the run directory records every setting. These change defaults; options override them:']
    for name, values in PRESETS.items():
        words = ['%s %s' % (SETTINGS[key].option, shown(value)) for key, value in values.items()]
        lines += ['', '--%s %s' % ('preset' if name in CORPORA else 'task', name)]
        lines += textwrap.wrap(' '.join(words) or 'the defaults above', 110, initial_indent='    ',
                               subsequent_indent='    ', break_on_hyphens=False)
        if name in GUIDED:
            lines.append('    ' + word_aligner.of_preset(name))
    return '\n'.join(lines)


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
    options.guided = options.preset in GUIDED and not options.resume and guide(settings, options)
    path, run = options.run or run_path(settings), None
    if options.resume:
        run = stack.enter_context(RunDirectory.open(path, lock=workers.is_first))
        settings = start.resumed_settings(options.given, run)
    check(settings)
    require(options.preset not in CORPORA or settings.train or 'data' in options.given,
            '--preset %s needs the files of its corpus: name them with --train, --val and --test', options.preset)
    require(workers.size == 1 or not options.dry_run, '--dry-run estimates one process: run it without horovodrun')
    check_group(settings, workers)
    workers.threads = settings.threads
    return options, settings, path, run


def guide(settings, options):
    """Adds what a preset does where the aligner is installed, if the other settings allow it; returns whether."""
    free = not {'alignments', 'guided_alignment'} & set(options.given)
    plain = settings.score != 'none' and settings.long_sources == 'drop' and settings.format == 'pairs'
    if not (free and plain and word_aligner.installed_program()):
        return False
    settings.alignments, settings.guided_alignment = AUTO, GUIDED[options.preset]
    return True


def run_path(settings):
    """The default run directory: the name of the data folder, in runs/."""
    folder = settings.data if settings.train is None else os.path.dirname(os.path.abspath(settings.train[0]))
    return os.path.join('runs', os.path.basename(os.path.abspath(folder)))


def cache_folder(options, path):
    """The directory of encoded corpora; `None` for --dry-run."""
    return None if options.dry_run else options.corpus_cache or os.path.join(
        os.path.dirname(os.path.abspath(path)), 'corpus-cache')


def lead(argv, workers):
    """Trains as the only process, or as worker 0 of several."""
    with contextlib.ExitStack() as stack:
        with workers.agreeing():
            options, settings, path, run = choose(argv, workers, stack)
            if options.print_config:
                print(config_bytes(vars(settings)).decode('ascii'), end='')
                return
            if options.print_tokens:
                for pair in preparation.token_pairs(settings, corpus.corpus_paths(settings)):
                    print(' ||| '.join(map(word_aligner.token_line, pair)))
                return
            if settings.alignments == AUTO and not options.resume:
                word_aligner.find_program()  # before the text is read
            data = read_data(options, settings, path, run, workers)
            if options.guided:
                tell('--preset %s: --alignments %s --guided-alignment %s, since %s is installed; without: '
                     '--guided-alignment 0' % (options.preset, AUTO, settings.guided_alignment, word_aligner.PROGRAM))
        workers.share({'hashes': data.hashes, 'vocabularies': start.vocabulary_hashes(data.text),
                       'models': {name: model.decode('latin-1') for name, model in files_of(data).items()}})
        with workers.agreeing():
            pass  # the others read the text
        if options.resume:
            continue_run(run, settings, data)
        elif not options.dry_run:
            run = stack.enter_context(create_run(argv, options, settings, path, data))
        if run is not None:
            workers.watch_run(run.path)
        trainer = build(settings, data, run, workers, stack)
        del data  # its checkpoint takes as much memory as the model and the optimiser's slots
        if options.dry_run:
            from training import dry_run
            dry_run.estimate(trainer)
            return
        trainer.synchronise()
        fit(trainer, run, options.resume)


Data = collections.namedtuple('Data', 'text hashes vocabularies separators checkpoint previous vectors')
Data.__doc__ = """What a training reads before its model is built.

text: `PreparedText`. hashes: {part: [sha256 of a file]}. vocabularies: {file name: `Vocabulary`}. separators: of
stories, for their encoders. The weights start from checkpoint: that of `--resume`, or from previous: the run of
`--init-from`, and from vectors: `initial_weights.read_vectors`.
"""


def read_data(options, settings, path, run, workers):
    """The `Data` of a training; everything that can be wrong with it is refused before a model is built."""
    if run is None and not options.dry_run:
        RunDirectory.check_new(path, options.overwrite)
    paths = corpus.corpus_paths(settings)
    hashes = hashes_of(paths)
    if options.resume:
        start.check_same_data(run, hashes, paths)
    text = preparation.prepare(settings, paths, hashes, run, cache_folder(options, path))
    vocabularies = collections.OrderedDict(zip(VOCABULARY_FILES, text.vocabularies))
    sizes = [len(vocabulary) for vocabulary in text.vocabularies]
    tell('vocabularies: %s source and %s target tokens' % tuple(format(size, ',') for size in sizes))
    unknown_tokens.tell_shares(settings, text, paths)
    unknown_tokens.tell_divided(settings, text.texts)
    unknown_tokens.tell_swapped(settings, text.texts)
    memory_estimate.check(settings, *sizes, text.train, workers.here)
    separators = questions.separators(settings, text.vocabularies[0])
    checkpoint, previous, vectors = run.read_checkpoint() if options.resume else None, None, []
    if checkpoint is None:
        if settings.init_from:
            previous = initial_weights.read_run(settings.init_from)
            initial_weights.warn_of_lost(settings, previous, vocabularies)
        vectors = initial_weights.read_vectors(settings, vocabularies)
    return Data(text, hashes, vocabularies, separators, checkpoint, previous, vectors)


def hashes_of(paths):
    return {part: [file_sha256(file) for file in files] for part, files in paths.items()}


def continue_run(run, settings, data):
    """Writes the settings of `--resume` into its run, whose files must belong to the text and weights."""
    if data.previous is not None:
        require(run.manifest().get('init_from') == start.describe_previous(data.previous),
                '%s: its weights are not those that this run started from: restore them, or train another run with '
                '--run', data.previous.path)
    for name, vocabulary in data.vocabularies.items():
        require(run.read_file(name) == vocabulary.to_bytes(), '%s: is not the vocabulary of the training text: train '
                'again with --overwrite', run.file(name))
    run.write_config(vars(settings))


def files_of(data):
    """{file name: bytes} of the files of a run that its text decides."""
    return dict(data.text.models, **{name: vocabulary.to_bytes() for name, vocabulary in data.vocabularies.items()})


def create_run(argv, options, settings, path, data):
    """A new `RunDirectory` with the files that do not change."""
    about = start.describe_command(argv, data.hashes)
    if data.previous is not None:
        about['init_from'] = start.describe_previous(data.previous)
    return RunDirectory.create(path, vars(settings), files_of(data), about, options.overwrite)


def build(settings, data, run, workers, stack):
    """The `Trainer` with its first weights, in a session that closes with `stack`."""
    import tf_session
    from training.sample_outputs import SampleOutputs
    from training.trainer import Trainer
    from translator import Translator
    text, session = data.text, tf_session.new_session(settings.threads)
    stack.enter_context(tf_session.opened(session))
    trainer = Trainer(settings, *map(len, text.vocabularies), text.train, text.validation, run,
                      checkpoint=data.checkpoint, separators=data.separators, workers=workers)
    translator = Translator(trainer.model, session, *zip(text.tokenizers, text.vocabularies))
    samples = SampleOutputs(settings, translator, text.texts, run)
    trainer.show, trainer.decoded_score = samples.show, samples.score
    tell('model: %s parameters, %s%d threads' % (
        format(trainer.keras_model.count_params(), ','),
        '%d workers of ' % workers.size if workers.size > 1 else '',
        settings.threads or tf_session.available_cores()))
    if data.previous is not None:
        values, counts = initial_weights.matching(data.previous, trainer.layers(), data.vocabularies)
        trainer.start_from(values)
        tell(counts)
    for side, ids, rows in data.vectors:
        trainer.start_from_vectors(side, ids, rows)
    return trainer


def follow(argv, workers):
    """Trains as a worker other than the first: reads the same text, gets the rest from worker 0, writes nothing."""
    with contextlib.ExitStack() as stack:
        with workers.agreeing():
            options, settings, path, run = choose(argv, workers, stack)
            if options.print_config or options.print_tokens:
                return
        shared = workers.share(None)
        with workers.agreeing():
            paths = corpus.corpus_paths(settings)
            hashes = hashes_of(paths)
            for part in sorted(set(hashes) | set(shared['hashes'])):
                require(hashes.get(part) == shared['hashes'].get(part),
                        '%s: the %s text on %s is not that of worker 0: copy that text to all machines',
                        ' '.join(paths.get(part, ['no file'])), part, platform.node())
            text = preparation.prepare(settings, paths, hashes, run or start.SharedFiles(shared['models']),
                                       cache_folder(options, path), keep=False)
            require(start.vocabulary_hashes(text) == shared['vocabularies'], 'on %s the same text gives other '
                    'vocabularies than on the machine of worker 0: install the same versions on all machines',
                    platform.node())
            sizes = [len(vocabulary) for vocabulary in text.vocabularies]
            memory_estimate.check(settings, *sizes, text.train, workers.here)
        import tf_session
        from training.trainer import Trainer
        stack.enter_context(tf_session.opened(tf_session.new_session(settings.threads)))
        trainer = Trainer(settings, *sizes, text.train, text.validation, None,
                          separators=questions.separators(settings, text.vocabularies[0]), workers=workers)
        trainer.synchronise()
        trainer.fit()


def fit(trainer, run, resumed):
    """Trains to the end and reports how the training ended."""
    from reports import plots
    from training import schedule
    state, reason = trainer.state, schedule.reason_to_stop(trainer.settings, trainer.state)
    if reason:
        tell('nothing is left to train: %s; to train longer, raise that option' % reason)
    elif resumed:
        tell('resuming at epoch %d, batch %d' % (state.epoch + 1, state.position + 1))
    if state.best is None and not reason:
        updates = trainer.updates_per_epoch
        updates = min(updates, trainer.settings.validate_every or updates)
        tell('the first weights for predict.py come with the first validation, after %s updates%s' % (
            format(updates, ','), ', or when --max-minutes ends' if trainer.settings.max_minutes else ''))
    trainer.fit()
    run.write_file('curves.png', plots.training_png(trainer.state.log))
    state = trainer.state
    if state.epoch < trainer.settings.epochs and not reason:
        tell('stopped in epoch %d after batch %d of %d: %s; continue it with --resume and a larger value' % (
            state.epoch + (state.position > 0), state.position or trainer.batches, trainer.batches,
            schedule.reason_to_stop(trainer.settings, state)))
    tell('the best weights are in %s; try: %s' % (run.path, command('predict.py', '--run', run.path)))


if __name__ == '__main__':
    run_command(main, 'train.py')
