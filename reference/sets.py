"""A reference set as a folder: computes it, writes it with its manifest, computes it again to compare.

Several processes build the graphs of different files, since building takes most of the time; each process runs
TensorFlow with one thread.
"""
from collections import OrderedDict
import io
import os

import tf_session  # first: it fixes the import order
import numpy as np
from text.text_files import read_lines
import translator
from reports.progress import Progress
from storage.files import to_json, write_bytes
from parity import compare, environment
from parity.fitting import check_environment, read_recorded
from reference import cases, finished_rules, fitting, outputs, verify
from command_line import UserError, tell
from settings import SETTINGS, with_defaults
from storage.weights_file import array_hash

DTYPES = ('float32', 'float64')
SAMPLE, SAMPLE_TEXTS = 'sample.npz', 'samples/sentences.txt'
FINISHED = 'sample-finished.npz'    # the same model on sentences that tell rules of finished hypotheses apart
SAMPLE_BEAM = dict(beam_width=4, n_best=4, length_penalty=1.)
RUN = 'run.npz'
RUN_TOLERANCE = (1e-4, 1e-5)


# Computing files

def make(job):
    """Returns (file, arrays) of one job: (file, manifest's entry, recorded arrays)."""
    file, entry, recorded = job
    dtype = 'float64' if '.float64.' in file else 'float32'
    try:
        if entry['kind'] == 'run':
            return file, outputs.run_outputs(entry, recorded)
        return file, {'case': outputs.case_outputs, 'training': outputs.training_outputs}[entry['kind']](
            entry, recorded, dtype)
    except UserError as error:
        raise UserError('%s: %s' % (file, error)) from error


def shapes_of(name):
    """Returns the (parameter, shape) pairs of a case, from a model built for this purpose."""
    entry = cases.describe(name)
    with tf_session.repeatable():
        model = outputs.Seq2Seq(with_defaults(entry['model']), *entry['vocabulary'],
                                separators=outputs.separators_of(entry))
        return [(parameter, value.shape) for parameter, value in outputs.get_parameters(model).items()]


def draw_job(name):
    return cases.draw(name, OrderedDict(shapes_of(name)))


def file_jobs():
    """Returns the jobs of all small cases and trainings, with newly drawn weights and sentences."""
    names = list(cases.CASES) + list(cases.TRAININGS)
    drawn = dict(zip(names, environment.in_processes(draw_job, names)))
    return [('%s.%s.npz' % (name, dtype), cases.describe(name), drawn[name])
            for name in names for dtype in (DTYPES if name in cases.CASES else DTYPES[:1])]


def run_job(job):
    """Returns (manifest's entry, arrays) of a job: (run directory, sentences, options of the beam, whether to export).

    An export has gradients too, and after the sentences those that tell rules of finished hypotheses apart.
    """
    run, texts, beam, exported = job
    loaded = translator.Translator.load(run, threads=1)
    model = OrderedDict((name, value) for name, value in loaded.run.read_config().items() if name in SETTINGS)
    entry = OrderedDict([('kind', 'run'), ('model', model), ('beam', beam), ('tolerance', list(RUN_TOLERANCE)),
                         ('run', loaded.run.manifest().get('command', ''))])
    model['guided_alignment'] = 0.  # sentences have no gold alignments
    separators = loaded.models[0].separators
    if separators:
        entry['separators'] = cases.recorded_separators(loaded.settings.encoder, *separators)
    sides = ((loaded.source_tokenizer, loaded.source_vocabulary), (loaded.target_tokenizer, loaded.target_vocabulary))
    recorded = outputs.subword_models(loaded.run, loaded.settings)
    recorded.update(('vocabulary/' + side, np.array(vocabulary.tokens))
                    for side, (_, vocabulary) in zip(outputs.SIDES, sides))
    with tf_session.opened(loaded.session):
        recorded.update(outputs.with_prefix('parameter/', outputs.get_parameters(loaded.models[0])))
    if exported:
        more, untold = telling_texts(entry, recorded, sides)
        for pair in untold:
            tell('no sentence was found that tells two rules of finished hypotheses apart: one %s, one %s' % pair)
        entry.update([('gradients', True), ('sentences', [len(texts), len(more)])])
        texts = texts + more
    recorded['text/source'] = np.array(texts)
    return entry, outputs.run_outputs(entry, recorded, sides)


def telling_texts(entry, recorded, sides):
    """Sentences of random words that tell rules of finished hypotheses apart: see `finished_rules.telling_texts`.

    # Arguments
        entry, recorded, sides: as for `outputs.run_outputs`.
    """
    (tokenizer, vocabulary), (_, target_vocabulary) = sides
    parameters, longest = verify.parameters_of(recorded), entry['model']['max_source_length']

    def results_of(text):
        tokens = tokenizer.tokenize(text)
        copied = None
        if entry['model'].get('copy'):
            copied = np.array([target_vocabulary.encode(tokens, target_vocabulary.names(tokens))])
        results = finished_rules.results_by_rule(entry, parameters, np.array([vocabulary.encode(tokens)]),
                                                 [2 * len(tokens) + 10], copied)
        return OrderedDict((rule, of_texts[0]) for rule, of_texts in results.items())

    drawn = finished_rules.draw_texts(vocabulary.tokens, tokenizer.detokenize)
    return finished_rules.telling_texts((text for text in drawn if 0 < len(tokenizer.tokenize(text)) <= longest),
                                        results_of)


def finished_file(sample):
    """Returns the (manifest's entry, arrays) of the sample run on sentences that tell the rules apart.

    `sample`: the (entry, arrays) of the sample run.
    """
    entry, arrays = sample
    entry = OrderedDict((key, value) for key, value in entry.items() if key != 'arrays')
    recorded = OrderedDict((name, value) for name, value in arrays.items()
                           if name.startswith(('parameter/', 'vocabulary/', 'tokenizer/')))
    sides = outputs.sides_of(entry, recorded)
    recorded['text/source'] = np.array(telling_texts(entry, recorded, sides)[0])
    return entry, outputs.run_outputs(entry, recorded, sides)


# The folder

def npz_bytes(arrays):
    """Returns the bytes of an `.npz` file; equal arrays give equal bytes."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def write_set(folder, entries, files, command):
    """Writes the files and, last, the manifest."""
    os.makedirs(folder, exist_ok=True)
    manifest = OrderedDict([
        ('format', 1), ('command', command), ('commit', environment.commit()), ('environment', environment.describe()),
        ('arithmetic', environment.in_processes(environment.arithmetic, [()])[0]), ('files', OrderedDict())])
    for name, arrays in files.items():
        write_bytes(os.path.join(folder, name), npz_bytes(arrays))
        hashes = OrderedDict((key, array_hash(key, value)) for key, value in arrays.items())
        manifest['files'][name] = OrderedDict(list(entries[name].items()) + [('arrays', hashes)])
    write_bytes(os.path.join(folder, 'MANIFEST.json'), to_json(manifest))


def read_texts(path):
    """Returns the lines of a file that are not empty."""
    return [line for line in read_lines(path) if line.strip()]


def record(folder, run, command):
    """Computes the reference set of all cases and of the run; writes it if the folder has none.

    # Arguments
        folder: folder of the set. run: run directory. command: command line, for the manifest.

    # Returns
        The `compare` results and ties against the existing set with tolerance 0, or `None` if there was none.

    # Raises
        UserError: the NumPy model does not agree.
    """
    old = compare.read_set(folder)[0] if os.path.exists(os.path.join(folder, 'MANIFEST.json')) else None
    texts = read_texts(os.path.join(environment.ROOT, SAMPLE_TEXTS))
    sample, = environment.in_processes(run_job, [(run, texts, SAMPLE_BEAM, False)])
    jobs = file_jobs()
    entries = OrderedDict((file, entry) for file, entry, _ in jobs)
    files = OrderedDict(environment.in_processes(make, jobs, 'files computed'))
    entries[SAMPLE], files[SAMPLE] = sample
    entries[FINISHED], files[FINISHED] = environment.in_processes(finished_file, [sample])[0]
    _refuse_disagreement(entries, files)
    if old:
        return compare.compare_sets(old, files, tolerances=(0., 0.))
    write_set(folder, entries, files, command)
    return None


def extend(folder, command):
    """Adds the files of cases that a set does not have; no file of the set changes.

    # Returns
        The names of the new files.

    # Raises
        UserError: the NumPy model does not agree.
    """
    files, manifest = compare.read_set(folder)
    jobs = [job for job in file_jobs() if job[0] not in files]
    made = OrderedDict(environment.in_processes(make, jobs))
    entries = OrderedDict((file, entry) for file, entry, _ in jobs)
    if FINISHED not in files:
        sample = manifest['files'][SAMPLE], files[SAMPLE]
        entries[FINISHED], made[FINISHED] = environment.in_processes(finished_file, [sample])[0]
    _refuse_disagreement(entries, made)
    for file, entry in entries.items():
        hashes = OrderedDict((key, array_hash(key, value)) for key, value in made[file].items())
        added = OrderedDict([('added', command), ('commit', environment.commit())] + list(entry.items()))
        added['arrays'] = hashes
        write_bytes(os.path.join(folder, file), npz_bytes(made[file]))
        manifest['files'][file] = added
    write_bytes(os.path.join(folder, 'MANIFEST.json'), to_json(manifest))
    return list(made)


def export(run, folder, texts, beam_width, command):
    """Writes the bundle of a trained run and sentences.

    # Raises
        UserError: the NumPy model does not agree.
    """
    beam = dict(beam_width=beam_width, n_best=beam_width, length_penalty=1.)
    with Progress(2, 'steps: compute, verify') as progress:
        (entry, arrays), = environment.in_processes(run_job, [(run, texts, beam, True)])
        progress.advance()
        _refuse_disagreement({RUN: entry}, {RUN: arrays})
        progress.advance()
    write_set(folder, {RUN: entry}, {RUN: arrays}, command)


def _refuse_disagreement(entries, files):
    for file, arrays in files.items():
        first = compare.first_difference(verify.disagreements(file, entries[file], arrays))
        if first:
            raise UserError('nothing is written, because the NumPy model does not agree: at %s it has %r instead of %r'
                            % (compare.place(first), first.recorded, first.found))


def check(folder, patterns=()):
    """Computes a set again; returns the results and ties of the comparison and the differences of the environments.

    # Raises
        UserError: the set is damaged, or its manifest and arrays do not fit together.
    """
    recorded, manifest = read_recorded(folder, patterns)
    check_environment(folder, manifest)
    recorded = OrderedDict((name, OrderedDict(file.items())) for name, file in recorded.items())
    for file, arrays in recorded.items():
        fitting.check_file(os.path.join(folder, file), manifest['files'][file], arrays)
    jobs = [(file, manifest['files'][file], arrays) for file, arrays in recorded.items()]
    differences = environment.differences(manifest)
    computed = OrderedDict(environment.in_processes(make, jobs, 'files computed'))
    results, ties = compare.compare_sets(recorded, computed, manifest, None if differences else (0., 0.))
    return results, ties, differences
