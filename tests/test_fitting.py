"""`regress.py check` on sets whose parts do not fit together, though all hashes do; and on a bug of its own."""
import json
import shutil
from unittest import mock

import numpy as np
import pytest

import regress
from command_line import UserError
from parity import bundle
from parity.fitting import check_environment
from reference import fitting
from storage.weights_file import array_hash
from test_commands import ROOT

CASE, COPY, GUIDED, QUESTIONS = 'dot-lstm', 'copy-lstm', 'guided-lstm', 'dmn-gru'
PLACES, TRAINING, RUN = 'location-gru', 'train-plain', 'sample-finished'


def damaged_set(source, made, change):
    """A copy of a set, changed by a function of its arrays and manifest, with fitting hashes."""
    files, manifest = bundle.read_set(str(source))
    change(files, manifest)
    made.mkdir()
    for name, arrays in files.items():
        np.savez(str(made / name), **arrays)
        manifest['files'][name].update(arrays={key: array_hash(key, value) for key, value in arrays.items()})
        if 'shapes' in manifest['files'][name]:
            manifest['files'][name]['shapes'] = {key: list(value.shape) for key, value in arrays.items()}
    (made / 'MANIFEST.json').write_text(json.dumps(manifest))
    return str(made)


@pytest.fixture(scope='module')
def sets_of_one(tmp_path_factory):
    """Function of a name: a folder with this file of the reference set."""
    folder, manifest = tmp_path_factory.mktemp('one'), bundle.read_manifest(str(ROOT / 'reference'))

    def make(name):
        file = '%s.npz' % name if name == RUN else '%s.float32.npz' % name
        if not (folder / name).exists():
            (folder / name).mkdir()
            shutil.copy(str(ROOT / 'reference' / file), str(folder / name / file))
            (folder / name / 'MANIFEST.json').write_text(json.dumps(dict(manifest, files={
                file: manifest['files'][file]})))
        return folder / name

    return make


@pytest.fixture
def one_process(monkeypatch):
    from parity import environment
    monkeypatch.setattr(environment, 'in_processes', lambda function, jobs, *_: [function(job) for job in jobs])
    return environment


def put(name, value):
    def change(arrays, entry, manifest):
        arrays[name] = value(arrays[name]) if callable(value) else value
    return change


def drop(name):
    return lambda arrays, entry, manifest: arrays.pop(name)


def setting(**values):
    return lambda arrays, entry, manifest: entry['model'].update(values)


def entry_is(**values):
    return lambda arrays, entry, manifest: entry.update(values)


def manifest_is(**values):
    return lambda arrays, entry, manifest: manifest.update(values)


@pytest.mark.parametrize('name, told, change', [
    # The manifest
    (CASE, 'environment is not an object', manifest_is(environment=3)),
    (CASE, 'arithmetic is not a hash', manifest_is(arithmetic=None)),
    (CASE, 'its kind in MANIFEST.json is .*case, training, run', entry_is(kind='capture')),
    (CASE, 'its kind in MANIFEST.json is', entry_is(kind=[])),
    (CASE, 'has no settings of a model', entry_is(model=None)),
    (CASE, "unknown setting 'unit': did you mean 'units'", setting(unit=6)),
    (CASE, "setting 'units' must be a whole number", setting(units='6')),
    (CASE, "setting 'cell' must be one of", setting(cell=['lstm'])),
    (CASE, 'needs encoder and decoder states of one size', setting(encoder_units=4)),
    (CASE, 'vocabulary in MANIFEST.json is not two sizes', entry_is(vocabulary=[12])),
    (CASE, 'vocabulary in MANIFEST.json is not two sizes', entry_is(vocabulary=[12, True])),
    (CASE, r'source_embedding/embeddings has the shape \(12, 5\) .* shape \(13, 5\)', entry_is(vocabulary=[13, 11])),
    (CASE, 'recurrent_kernel has the shape', setting(units=8)),
    (CASE, 'share_vocabulary has vocabularies of 12 and 11 tokens', setting(share_vocabulary=True)),
    (CASE, 'the recorded model: has no array parameter/bridge_2_h', setting(decoder_layers=2)),
    (CASE, 'beam in MANIFEST.json is not options', entry_is(beam=3)),
    (CASE, 'beam in MANIFEST.json is not options', entry_is(beam={'width': 3})),
    (CASE, 'beam_width must be a whole number', entry_is(beam={'beam_width': '3'})),
    (CASE, 'n_best 4 is more than', entry_is(beam={'beam_width': 3, 'n_best': 4})),
    (QUESTIONS, 'separators in MANIFEST.json are not ids', entry_is(separators=[4])),
    (QUESTIONS, 'separators in MANIFEST.json are not ids', entry_is(separators=[4, [99]])),
    # The arrays
    (CASE, 'has no array padded/source', drop('padded/source')),
    (CASE, 'has no array single/output', drop('single/output')),
    (CASE, 'padded/source has the shape', put('padded/source', lambda x: x[0])),
    (CASE, 'padded/source has the shape .* type float32', put('padded/source', lambda x: x.astype('f'))),
    (CASE, 'padded/source has the shape .* type <U1', put('padded/source', lambda x: np.full(x.shape, 'a'))),
    (CASE, 'padded/source has the id 12, which is not from 1 to 11',
     put('padded/source', lambda x: np.where(x, 12, 0))),
    (CASE, 'padded/source has the id 429496730., which', put('padded/source', lambda x: x.astype('i8') + 2 ** 32)),
    (CASE, 'padded/source has the id -1', put('padded/source', lambda x: -(x > 0).astype('i'))),
    (CASE, 'padded/source is empty, or not padded', put('padded/source', lambda x: x[:, ::-1])),
    (CASE, 'padded/source is empty', put('padded/source', lambda x: x[:0])),
    (CASE, 'padded/source is empty', put('padded/source', lambda x: x[:, :0])),
    (CASE, 'rows of padded/output are not those of padded/source',
     put('padded/output', lambda x: x[[0, 1, 2, 3, 4, 0]])),
    (CASE, 'rows of padded/output are not those .* with </s>', put('padded/output', lambda x: np.where(x == 3, 5, x))),
    (CASE, 'has no array parameter/output/kernel', drop('parameter/output/kernel')),
    (CASE, r'parameter/output/kernel has the shape \(6, 10\)', put('parameter/output/kernel', lambda x: x[:, :10])),
    (CASE, 'parameter/output/kernel has .* type <U', put('parameter/output/kernel', lambda x: x.astype('U'))),
    (COPY, 'has no array padded/copied', drop('padded/copied')),
    (COPY, 'rows of padded/copied are not those', put('padded/copied', lambda x: x[:2])),
    (COPY, 'padded/copied has the id 99', put('padded/copied', lambda x: np.where(x, 99, 0))),
    (GUIDED, 'padded/alignments and guided_alignment belong together', drop('padded/alignments')),
    (GUIDED, 'padded/alignments has the shape', put('padded/alignments', lambda x: x[:, :-1])),
    (CASE, 'alignments and guided_alignment belong together', put('padded/alignments', np.zeros((5, 6, 7), 'f'))),
    (PLACES, 'padded/source has more than 6 tokens', setting(max_source_length=6)),
    # A training
    (TRAINING, 'input/source has the id 3, which is not from 4', put('input/source', lambda x: np.where(x == 5, 3, x))),
    (TRAINING, 'not the same number of whole batches of 4', put('input/target', lambda x: x[:16])),
    (TRAINING, 'not the same number of whole batches of 3', setting(batch_size=3)),
    (TRAINING, 'input/source is empty', put('input/source', lambda x: x[:0])),
    (TRAINING, 'have neither copy nor', setting(guided_alignment=.5)),
    (TRAINING, 'has no array parameter/attention/kernel', drop('parameter/attention/kernel')),
    # A run
    (RUN, 'vocabulary/source is no vocabulary: the first four', put('vocabulary/source', lambda x: x[1:])),
    (RUN, 'vocabulary/source has the shape .* type float64', put('vocabulary/source', np.zeros(9))),
    (RUN, 'has no array text/source', drop('text/source')),
    (RUN, 'text/source has no sentence, or an empty one', put('text/source', np.array(['a', ' ']))),
    (RUN, 'target_embedding/embeddings has the shape', put('vocabulary/target', lambda x: x[:-1])),
    (RUN, 'has no array parameter/encoder_1/forward/bias', drop('parameter/encoder_1/forward/bias'))])
def test_check_refuses_a_set_whose_parts_do_not_fit_in_one_line(sets_of_one, one_process, tmp_path, name, told, change):
    def damage(files, manifest):
        file, = files
        change(files[file], manifest['files'][file], manifest)

    path = damaged_set(sets_of_one(name), tmp_path / 'bad', damage)
    with pytest.raises(UserError, match=told) as refused:
        regress.main(['check', path])
    message = str(refused.value)
    assert '\n' not in message and len(message) < 600 and ('.npz: ' in message or 'MANIFEST.json: ' in message)
    assert 'restore the set' in message or 'setting' in message


def test_every_file_of_the_reference_set_fits():
    files, manifest = bundle.read_set(str(ROOT / 'reference'))
    check_environment('reference', manifest)
    for name, arrays in files.items():
        fitting.check_file(name, manifest['files'][name], arrays)


def test_a_part_of_the_environment_that_is_unknown_or_of_another_kind_differs(one_process, monkeypatch):
    monkeypatch.setattr(one_process, 'arithmetic', lambda _: 'this processor')
    manifest = {'environment': dict(one_process.describe(), threads={'of': 1}, versions=3, new={'a': 1}),
                'arithmetic': 'this processor'}
    assert sorted(one_process.differences(manifest)) == ['new', 'threads', 'versions']


@pytest.mark.parametrize('where', ['reference.outputs.case_outputs', 'parity.compare.compare_sets',
                                   'parity.environment.describe'])
def test_a_bug_of_ours_shows_its_traceback(sets_of_one, one_process, where):
    with mock.patch(where, side_effect=KeyError('a bug')), pytest.raises(KeyError, match='a bug'):
        regress.main(['check', str(sets_of_one(CASE))])


def test_a_set_of_our_own_is_checked_without_the_code_for_captured_models(sets_of_one, one_process):
    with mock.patch.dict('sys.modules', {'parity.capture': None}):   # None: importing it raises ImportError
        assert regress.main(['check', str(sets_of_one(CASE))]) == 0
