"""Trains a sequence-to-sequence model with attention; without options, on the sample translations.

    train.py                                      # samples/translate into runs/translate
    train.py --data samples/answer                # another sample, into runs/answer
    train.py --train a.de a.en --val b.de b.en    # your own text, two files each or one tab-separated
"""
import argparse
import os
import platform
import shlex

import data
import settings
from settings import UserError, tell

SHOWN = 4  # sentences translated after each epoch, always the same ones


def parse(argv):
    parser = argparse.ArgumentParser(prog='train.py', description=__doc__.split('\n')[0], allow_abbrev=False,
                                     epilog='Every setting is kept in config.json of the run directory.')
    parser.add_argument('--run', metavar='DIR', help='run directory (default: runs/ and the name of the data folder)')
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument('--resume', action='store_true', help='go on with the run that lies there')
    existing.add_argument('--overwrite', action='store_true', help='replace the run that lies there')
    settings.add_options(parser)
    given = vars(parser.parse_args(argv))
    options = argparse.Namespace(**{name: given.pop(name) for name in ('run', 'resume', 'overwrite')})
    options.given = given
    return options


def run_path(options, chosen):
    if options.run:
        return options.run
    folder = chosen.data if chosen.train is None else os.path.dirname(os.path.abspath(chosen.train[0]))
    return os.path.join('runs', os.path.basename(os.path.abspath(folder)))


def read_corpora(chosen, paths):
    """Tokenised training and validation corpora, with the lines of `SHOWN` validation pairs for show."""
    tokenizers = [data.make_tokenizer(name) for name in (chosen.source_tokenizer, chosen.target_tokenizer)]
    limits = (chosen.max_source_length, chosen.max_target_length)
    pairs = data.load_pairs(paths['train'], chosen.on_bad_utf8)
    if 'val' in paths:
        held_out = data.load_pairs(paths['val'], chosen.on_bad_utf8)
        parts = {'training': (pairs, paths['train']), 'validation': (held_out, paths['val'])}
    else:
        kept = data.hold_out(len(pairs), chosen.seed)
        parts = {name: ([pairs[i] for i in indices], paths['train'])
                 for name, indices in zip(('training', 'validation'), kept)}
    corpora = {}
    for name, (part, files) in parts.items():
        corpora[name] = data.prepare(part, *tokenizers, *limits, ' '.join(files))
        tell('%s: %s pairs of %s (%d read; dropped: %d with an empty side, %d over-long)' % (
            name, format(len(corpora[name]), ','), ' '.join(files), *(
                corpora[name].counts[key] for key in ('read', 'empty', 'over_long'))))
    shown = [parts['validation'][0][line - 1] for line in corpora['validation'].lines[:SHOWN]]
    return corpora['training'], corpora['validation'], shown


def build_vocabularies(chosen, corpus):
    if chosen.share_vocabulary:
        both = data.Vocabulary.build(corpus.source + corpus.target, chosen.source_vocabulary, chosen.min_count)
        return both, both
    return (data.Vocabulary.build(corpus.source, chosen.source_vocabulary, chosen.min_count),
            data.Vocabulary.build(corpus.target, chosen.target_vocabulary, chosen.min_count))


def about(argv, hashes):
    """What the manifest tells beside the files' hashes."""
    import h5py
    import keras
    import numpy
    import tensorflow
    return {'command': ' '.join(map(shlex.quote, ['train.py'] + argv)), 'data': hashes,
            'versions': {'python': platform.python_version(), 'keras': keras.__version__,
                         'tensorflow': tensorflow.__version__, 'numpy': numpy.__version__, 'h5py': h5py.__version__}}


# A resumed run may differ in these: when to stop, and where the data lie (their hashes must be the same).
FREE_ON_RESUME = ('epochs', 'max_minutes', 'data', 'train', 'val', 'test')


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
    from run_directory import RunDirectory
    if options.resume:
        path = options.run or run_path(options, settings.namespace(options.given))
        with RunDirectory.open(path, lock=True) as run:
            chosen = settings.namespace(resumed_settings(options, run.read_config(), path))
            settings.check(chosen)
            paths = data.corpus_paths(chosen)
            hashes = data_hashes(paths)
            recorded = run.manifest().get('data')
            recorded = recorded if isinstance(recorded, dict) else {}
            for part in sorted(set(hashes) | set(recorded)):
                if hashes.get(part) != recorded.get(part):
                    raise UserError('%s: the %s text is not the one the run began with (%s): give that text back, or '
                                    'train another run with --run' % (path, part, ' '.join(paths.get(part, ['none']))))
            run.write_config(vars(chosen))
            fit(run, chosen, paths, resume=True)
        return path
    chosen = settings.namespace(options.given)
    settings.check(chosen)
    path = run_path(options, chosen)
    RunDirectory.check_new(path, options.overwrite)
    paths = data.corpus_paths(chosen)
    hashes = data_hashes(paths)
    fit(lambda files: RunDirectory.create(path, vars(chosen), files, about(argv, hashes), options.overwrite),
        chosen, paths)
    return path


def data_hashes(paths):
    return {part: [data.file_sha256(path) for path in files] for part, files in paths.items()}


def fit(run, chosen, paths, resume=False):
    """Trains; `run` is the locked directory, or makes it from the vocabularies' bytes once the data have been read."""
    train_corpus, validation_corpus, shown = read_corpora(chosen, paths)
    source, target = build_vocabularies(chosen, train_corpus)
    tell('vocabularies: %s source and %s target tokens' % (format(len(source), ','), format(len(target), ',')))
    vocabularies, vectors = {'vocab.source.txt': source, 'vocab.target.txt': target}, []
    for side in ('source', 'target'):
        path = getattr(chosen, side + '_embeddings')
        if path and not resume:
            vocabulary = vocabularies['vocab.%s.txt' % side]
            vectors.append((side, *data.read_vectors(path, vocabulary, chosen.embedding)))
            tell('%s: vectors for %d of %d %s tokens' % (path, len(set(vectors[-1][1])), len(vocabulary), side))
    if resume:
        for name, vocabulary in vocabularies.items():
            if run.read_file(name) != vocabulary.to_bytes():
                raise UserError('%s: is not the vocabulary of the training text: train again with --overwrite'
                                % run.file(name))
    import session
    import training
    from translator import Translator, sides
    if not resume:
        run = run({name: vocabulary.to_bytes() for name, vocabulary in vocabularies.items()})
    tf_session = session.new_session(chosen.threads)
    with run, session.opened(tf_session):
        def show():
            for (text, reference), hypotheses in zip(shown, translator.translate([text for text, _ in shown])):
                tell('    %s\n  = %s\n  > %s' % (text, reference, hypotheses[0].text))

        trainer = training.Trainer(chosen, len(source), len(target),
                                   training.Encoded(train_corpus, source, target),
                                   training.Encoded(validation_corpus, source, target), run, show)
        translator = Translator(trainer.model, tf_session, *sides(chosen, vocabularies.get))
        tell('model: %s parameters, %d threads' % (format(trainer.keras_model.count_params(), ','),
                                                   chosen.threads or session.available_cores()))
        for side, ids, rows in vectors:
            trainer.start_from_vectors(side, ids, rows)
        if resume:
            trainer.restore()
            tell('resuming at epoch %d, batch %d' % (trainer.state.epoch + 1, trainer.state.position + 1))
        trainer.fit()
    return run


def main(argv):
    path = train(parse(argv), argv)
    tell('the best weights are in %s; try: predict.py --run %s' % (path, shlex.quote(path)))


if __name__ == '__main__':
    settings.run_command(main, 'train.py')
