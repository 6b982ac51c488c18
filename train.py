"""Trains a sequence-to-sequence model with attention; without options, on the sample translations.

    train.py                                      # samples/translate into runs/translate
    train.py --task answer                        # questions: samples/answer into runs/answer
    train.py --train a.de a.en --val b.de b.en    # your own text, two files each or one tab-separated
    train.py --train part-*.de.gz part-*.en.gz    # several source files, then as many target files
"""
import argparse
import contextlib
import os
import platform
import shlex
import time
from text import preparation, questions
from text.corpus import corpus_paths, read_vectors
from training import memory_estimate
import settings
from storage.config_file import config_bytes, read_config_file
from storage.files import file_sha256
from storage.run_directory import RunDirectory
from command_line import CommandParser, UserError, run_command, tell

SHOWN = 4  # sentences translated after each validation, always the same ones


def parse(argv):
    parser = CommandParser(prog='train.py', description=__doc__.split('\n')[0],
                           formatter_class=argparse.RawDescriptionHelpFormatter,
                           epilog=settings.presets_text())
    parser.add_argument('--run', metavar='DIR', help='run directory (default: runs/ and the name of the data folder)')
    parser.add_argument('--config', metavar='FILE', help='settings as JSON, such as another config.json; options win')
    parser.add_argument('--preset', choices=settings.CORPORA, help='other defaults for a well-known corpus, see below')
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument('--resume', action='store_true', help='go on with the run that lies there')
    ways.add_argument('--overwrite', action='store_true', help='replace the run that lies there')
    ways.add_argument('--dry-run', action='store_true',
                      help='check the data, build the model, tell time and memory from a few steps; write nothing')
    ways.add_argument('--print-config', action='store_true',
                      help='print all settings as JSON: a --config that makes the same run; do nothing else')
    parser.add_argument('--corpus-cache', metavar='DIR',
                        help='directory that keeps the ids of a large text, so that the next start does not read the '
                        'text again (default: corpus-cache beside the run directory)')
    settings.add_options(parser)
    given = vars(parser.parse_args(argv))
    options = argparse.Namespace(**{name: given.pop(name) for name in (
        'run', 'config', 'preset', 'resume', 'overwrite', 'dry_run', 'print_config', 'corpus_cache')})
    options.given = dict(read_config_file(options.config), **given) if options.config else given
    return options


def run_path(options, chosen):
    if options.run:
        return options.run
    folder = chosen.data if chosen.train is None else os.path.dirname(os.path.abspath(chosen.train[0]))
    return os.path.join('runs', os.path.basename(os.path.abspath(folder)))


def cache_path(options, path):
    """The directory of encoded corpora: that of `--corpus-cache`, or one beside the run directory `path`."""
    return options.corpus_cache or os.path.join(os.path.dirname(os.path.abspath(path)), 'corpus-cache')


def about(argv, hashes):
    """What the manifest tells beside the files' hashes."""
    import h5py
    import keras
    import numpy
    import tensorflow
    return {'command': ' '.join(map(shlex.quote, ['train.py'] + argv)), 'data': hashes,
            'versions': {'python': platform.python_version(), 'keras': keras.__version__,
                         'tensorflow': tensorflow.__version__, 'numpy': numpy.__version__, 'h5py': h5py.__version__}}


# A resumed run may differ in these: when to stop, what memory to take, what to show, and where the data lie (their
# hashes must be the same).
FREE_ON_RESUME = ('epochs', 'max_minutes', 'patience', 'memory_limit', 'tensorboard', 'data', 'train', 'val', 'test')


def resumed_settings(options, kept, path):
    """The settings of the run in `path` with those that may change; refuses the others by name."""
    for name, value in options.given.items():
        if name not in FREE_ON_RESUME and value != kept[name]:
            raise UserError('%s: the run was trained with %s %s, not %s: leave the option out, or train another run '
                            'with --run' % (path, settings.SETTINGS[name].option, kept[name], value))
    if 'data' in options.given:
        kept = dict(kept, train=None, val=None, test=None)
    return dict(kept, **options.given)


def train(options, argv):
    """Trains as the options tell; returns the run's path, or `None` where none was made."""
    if options.resume:
        path = options.run or run_path(options, settings.resolve_settings(options.given, options.preset))
        with RunDirectory.open(path, lock=True) as run:
            chosen = settings.with_defaults(resumed_settings(options, run.read_config(), path))
            settings.check(chosen)
            paths = corpus_paths(chosen)
            hashes = data_hashes(paths)
            recorded = run.manifest().get('data')
            recorded = recorded if isinstance(recorded, dict) else {}
            for part in sorted(set(hashes) | set(recorded)):
                if hashes.get(part) != recorded.get(part):
                    raise UserError('%s: the %s text is not the one the run began with (%s): give that text back, or '
                                    'train another run with --run' % (path, part, ' '.join(paths.get(part, ['none']))))
            run.write_config(vars(chosen))
            text = preparation.prepare(chosen, paths, hashes, run, cache_path(options, path))
            fit(run, chosen, text, resume=True)
        return path
    chosen = settings.resolve_settings(options.given, options.preset)
    settings.check(chosen)
    if options.print_config:
        print(config_bytes(vars(chosen)).decode('ascii'), end='')
        return None
    if options.dry_run:
        fit(None, chosen, preparation.prepare(chosen, corpus_paths(chosen)))
        return None
    path = run_path(options, chosen)
    RunDirectory.check_new(path, options.overwrite)
    paths = corpus_paths(chosen)
    hashes = data_hashes(paths)
    text = preparation.prepare(chosen, paths, hashes, cache=cache_path(options, path))
    fit(lambda files: RunDirectory.create(path, vars(chosen), files, about(argv, hashes), options.overwrite),
        chosen, text)
    return path


def data_hashes(paths):
    return {part: [file_sha256(path) for path in files] for part, files in paths.items()}


def fit(run, chosen, text, resume=False):
    """Trains; `run` is the locked directory, or makes it from the vocabularies' bytes once the data have been read, or
    is `None`: then nothing is written, and what training would need is told."""
    source, target = text.vocabularies
    tell('vocabularies: %s source and %s target tokens' % (format(len(source), ','), format(len(target), ',')))
    separators = questions.separators(chosen, source)
    memory_estimate.check(chosen, len(source), len(target), text.train)
    vocabularies, vectors = {'vocab.source.txt': source, 'vocab.target.txt': target}, []
    checkpoint = run.read_checkpoint() if resume else None
    for side in ('source', 'target'):
        path = getattr(chosen, side + '_embeddings')
        if path and checkpoint is None:
            vocabulary = vocabularies['vocab.%s.txt' % side]
            vectors.append((side, *read_vectors(path, vocabulary, chosen.embedding)))
            tell('%s: vectors for %d of %d %s tokens' % (path, len(set(vectors[-1][1])), len(vocabulary), side))
    if resume:
        for name, vocabulary in vocabularies.items():
            if run.read_file(name) != vocabulary.to_bytes():
                raise UserError('%s: is not the vocabulary of the training text: train again with --overwrite'
                                % run.file(name))
    import tf_session
    from training.trainer import Trainer
    from translator import Translator, with_vocabularies
    if run is not None and not resume:
        run = run(dict(text.models, **{name: vocabulary.to_bytes() for name, vocabulary in vocabularies.items()}))
    session = tf_session.new_session(chosen.threads)
    with run or contextlib.ExitStack(), tf_session.opened(session):
        trainer = Trainer(chosen, len(source), len(target), text.train, text.validation, run,
                          lambda row: show(run, chosen, translator, row, text.texts[:SHOWN]),
                          lambda: score(chosen, translator, text.texts), checkpoint, separators)
        del checkpoint  # as large as the model and the optimiser's slots together
        translator = Translator(trainer.model, session, *with_vocabularies(text.tokenizers, vocabularies.get))
        tell('model: %s parameters, %d threads' % (format(trainer.keras_model.count_params(), ','),
                                                   chosen.threads or tf_session.available_cores()))
        for side, ids, rows in vectors:
            trainer.start_from_vectors(side, ids, rows)
        if run is None:
            from training.dry_run import estimate
            estimate(trainer)
            return
        if resume:
            tell('resuming at epoch %d, batch %d' % (trainer.state.epoch + 1, trainer.state.position + 1))
        trainer.fit()
        from reports import plots
        run.write_file('curves.png', plots.training_png(trainer.state.log))


def outputs(chosen, translator, pairs):
    found = translator.translate([source for source, _ in pairs], chosen.batch_size, **settings.decoding(chosen, {}))
    return [hypotheses[0] for hypotheses in found]


def score(chosen, translator, pairs):
    """`chosen.metric` of the outputs for pairs of text."""
    from reports import metrics
    texts, references = [one.text for one in outputs(chosen, translator, pairs)], [target for _, target in pairs]
    if chosen.metric == 'bleu':
        tokenize = {'chinese': 'zh', 'jieba': 'zh', 'char': 'char', 'space': 'none'}.get(chosen.target_tokenizer, '13a')
        return metrics.bleu(texts, references, tokenize).score
    if chosen.metric == 'rouge-l':
        return metrics.rouge(texts, references)['rougeL']
    return metrics.exact_match(texts, references)


def show(run, chosen, translator, row, pairs):
    """Tells the outputs for a few validation pairs; for TensorBoard, if that is asked, with the log's row of scores."""
    found = outputs(chosen, translator, pairs)
    for (source, reference), best in zip(pairs, found):
        tell('    %s\n  = %s\n  > %s' % (source, reference, best.text))
    if chosen.tensorboard:
        from reports import plots
        from reports import tensorboard_events
        samples = ['| source | reference | output |', '|---|---|---|'] + [
            '| %s |' % ' | '.join(text.replace('|', '\\|') for text in (*pair, best.text))
            for pair, best in zip(pairs, found)]
        pictures = [] if chosen.score == 'none' else [
            plots.alignment_png(translator.encode(source), best.tokens, best.alignment)
            for (source, _), best in zip(pairs, found)]
        run.write_events(row['step'], tensorboard_events.pack_events(
            row['step'], time.time(), {name: value for name, value in row.items() if name not in ('epoch', 'step')},
            {'samples': '\n'.join(samples)},
            {'alignment/%d' % number: png for number, png in enumerate(pictures, 1)}))


def main(argv):
    path = train(parse(argv), argv)
    if path is None:
        return
    tell('the best weights are in %s; try: predict.py --run %s' % (path, shlex.quote(path)))


if __name__ == '__main__':
    run_command(main, 'train.py')
