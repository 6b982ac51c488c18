"""A reference set as a folder: computes it, writes it with its manifest, computes it again to compare.

Several processes build the graphs of different files, since building takes most of the time; each process runs
TensorFlow with one thread.
"""
from collections import OrderedDict
import fnmatch
import hashlib
import io
import json
import multiprocessing
import os
import platform
import signal
import subprocess

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
import pkg_resources
from text.text_files import read_lines
import translator
from reports.progress import Progress
from storage.files import to_json, write_bytes
from reference import cases, compare, finished_rules, fitting, outputs, verify
from command_line import UserError, tell
from settings import SETTINGS, with_defaults
from storage.weights_file import array_hash

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = ('tensorflow', 'keras', 'numpy', 'h5py')
DTYPES = ('float32', 'float64')
SAMPLE, SAMPLE_TEXTS = 'sample.npz', 'samples/sentences.txt'
FINISHED = 'sample-finished.npz'    # the same model on sentences that tell rules of finished hypotheses apart
SAMPLE_BEAM = dict(beam_width=4, n_best=4, length_penalty=1.)
RUN = 'run.npz'
RUN_TOLERANCE = (1e-4, 1e-5)


# What determines the numbers

def environment():
    """Returns versions, wheels, processor and threads; if all are equal, results are compared byte for byte."""
    versions = OrderedDict([('python', platform.python_version())])
    wheels = OrderedDict()
    for name in PACKAGES:
        package = pkg_resources.get_distribution(name)
        versions[name] = package.version
        # The wheel's list of files with their hashes, without the lines that the installer adds.
        lines = sorted(line for line in package.get_metadata_lines('RECORD')
                       if 'sha256=' in line and not line.endswith('.pyc') and '.dist-info/' not in line
                       and not line.startswith('..'))
        wheels[name] = hashlib.sha256('\n'.join(lines).encode('utf-8')).hexdigest()
    processor = OrderedDict()
    with open('/proc/cpuinfo', encoding='utf-8') as stream:
        for line in stream:
            key, _, value = line.partition(':')
            if key.strip() in ('model name', 'flags'):
                processor.setdefault(key.strip(), ' '.join(sorted(value.split())) if key.startswith('flags')
                                     else value.strip())
    return OrderedDict([('versions', versions), ('wheels', wheels), ('processor', processor), ('threads', 1)])


def arithmetic(_):
    """Returns the sha256 of results that differ between processors: square roots, matrix products of some inner sizes.

    /proc/cpuinfo of an emulator shows the processor of its host, so it cannot distinguish the two.
    """
    random = np.random.RandomState(0)
    pairs = [(random.rand(4, size).astype('f'), random.rand(size, 4).astype('f')) for size in (500, 512, 1024, 2000)]
    x = np.linspace(1e-3, 1e3, 4096).astype('f')
    with outputs.opened_session() as session:
        tensors = [tf.sqrt(tf.constant(x)), tf.rsqrt(tf.constant(x))]
        tensors += [tf.matmul(tf.constant(left), tf.constant(right)) for left, right in pairs]
        values = session.run(tensors)
    return hashlib.sha256(b''.join(value.tobytes() for value in values)).hexdigest()


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


def in_processes(function, jobs, unit='jobs'):
    """Returns `function(job)` of all jobs in their order, computed by as many processes as there are cores.

    `unit`: name of the jobs in the progress, in the plural.
    """
    processes = min(len(jobs), tf_session.available_cores())
    # The pool ends its processes by SIGTERM, for which `run_command` has a handler that raises.
    with multiprocessing.get_context('fork').Pool(processes, initializer=signal.signal,
                                                  initargs=(signal.SIGTERM, signal.SIG_DFL),
                                                  maxtasksperchild=8) as pool, Progress(
                                                      len(jobs), unit, on_terminal=len(jobs) > 1) as progress:
        results = []
        for result in pool.imap(function, jobs, chunksize=1):
            results.append(result)
            progress.advance()
        return results


def shapes_of(name):
    """Returns the (parameter, shape) pairs of a case, from a model built for this purpose."""
    entry = cases.describe(name)
    with outputs.opened_session():
        model = outputs.Seq2Seq(with_defaults(entry['model']), *entry['vocabulary'],
                                separators=outputs.separators_of(entry))
        return [(parameter, value.shape) for parameter, value in outputs.get_parameters(model).items()]


def draw_job(name):
    return cases.draw(name, OrderedDict(shapes_of(name)))


def file_jobs():
    """Returns the jobs of all small cases and trainings, with newly drawn weights and sentences."""
    names = list(cases.CASES) + list(cases.TRAININGS)
    drawn = dict(zip(names, in_processes(draw_job, names)))
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
        entry['separators'] = [separators.question_end, list(separators.sentence_ends)]
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


def commit():
    """Returns the commit of this checkout, or '' without git."""
    try:
        completed = subprocess.run(['git', '-C', ROOT, 'describe', '--always', '--dirty', '--abbrev=40'],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ''
    return completed.stdout.decode('ascii', 'replace').strip()


def write_set(folder, entries, files, command):
    """Writes the files and, last, the manifest."""
    os.makedirs(folder, exist_ok=True)
    manifest = OrderedDict([('format', 1), ('command', command), ('commit', commit()), ('environment', environment()),
                            ('arithmetic', in_processes(arithmetic, [()])[0]), ('files', OrderedDict())])
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
    texts = read_texts(os.path.join(ROOT, SAMPLE_TEXTS))
    sample, = in_processes(run_job, [(run, texts, SAMPLE_BEAM, False)])
    jobs = file_jobs()
    entries = OrderedDict((file, entry) for file, entry, _ in jobs)
    files = OrderedDict(in_processes(make, jobs, 'files computed'))
    entries[SAMPLE], files[SAMPLE] = sample
    entries[FINISHED], files[FINISHED] = in_processes(finished_file, [sample])[0]
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
    made, entries = OrderedDict(in_processes(make, jobs)), OrderedDict((file, entry) for file, entry, _ in jobs)
    if FINISHED not in files:
        entries[FINISHED], made[FINISHED] = in_processes(finished_file, [(manifest['files'][SAMPLE], files[SAMPLE])])[0]
    _refuse_disagreement(entries, made)
    for file, entry in entries.items():
        hashes = OrderedDict((key, array_hash(key, value)) for key, value in made[file].items())
        added = OrderedDict([('added', command), ('commit', commit())] + list(entry.items()) + [('arrays', hashes)])
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
        (entry, arrays), = in_processes(run_job, [(run, texts, beam, True)])
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


def read_recorded(folder, patterns=()):
    """Returns the `ArrayFile`s and the manifest of a set after checking the hash of each array.

    # Arguments
        folder: folder of the set.
        patterns: patterns of file names; all files without them.

    # Raises
        UserError: the set is damaged, or no file fits the patterns.
    """
    files, manifest = compare.open_set(folder)
    if not isinstance(manifest.get('files'), dict) or sorted(manifest['files']) != sorted(files):
        raise UserError('%s: MANIFEST.json does not list the files that are there: restore the set' % folder)
    for name, arrays in files.items():
        hashes = manifest['files'][name]['arrays']
        for key, array in arrays.items():
            if hashes.get(key) != array_hash(key, array):
                raise UserError('%s: %s differs from its hash in the manifest: restore the set'
                                % (os.path.join(folder, name), key))
        if len(hashes) != len(arrays):
            raise UserError('%s: arrays are missing: restore the set' % os.path.join(folder, name))
    names = [name for name in files if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if not names:
        raise UserError('%s: no file is called %s' % (folder, ' or '.join(patterns)))
    return OrderedDict((name, files[name]) for name in names), manifest


def differences_of_environment(manifest):
    """Returns the parts of this environment that differ from the recorded one; without any, results must be equal."""
    here, different = json.loads(json.dumps(environment())), []
    for part, recorded in manifest['environment'].items():
        mine = here.get(part)
        if part == 'processor':
            continue    # 'arithmetic' shows what matters, also on an emulator
        if isinstance(recorded, dict) and isinstance(mine, dict):
            different += ['%s %s' % (part[:-1], name) for name in recorded if mine.get(name) != recorded[name]]
        elif mine != recorded:
            different.append(part)
    if in_processes(arithmetic, [()])[0] != manifest['arithmetic']:
        different.append('arithmetic of the processor')
    return different


def check(folder, patterns=()):
    """Computes a set again; returns the results and ties of the comparison and the differences of the environments.

    # Raises
        UserError: the set is damaged, or its manifest and arrays do not fit together.
    """
    recorded, manifest = read_recorded(folder, patterns)
    fitting.check_environment(folder, manifest)
    recorded = OrderedDict((name, OrderedDict(file.items())) for name, file in recorded.items())
    for file, arrays in recorded.items():
        fitting.check_file(os.path.join(folder, file), manifest['files'][file], arrays)
    jobs = [(file, manifest['files'][file], arrays) for file, arrays in recorded.items()]
    differences = differences_of_environment(manifest)
    computed = OrderedDict(in_processes(make, jobs, 'files computed'))
    results, ties = compare.compare_sets(recorded, computed, manifest, None if differences else (0., 0.))
    return results, ties, differences
