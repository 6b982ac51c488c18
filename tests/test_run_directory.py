import collections
import csv
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

from storage import run_directory
from storage.config_file import check_config
from storage.run_directory import RunDirectory, hash_arrays, pack_weights
from command_line import VERSION, UserError, command
from settings import ADDED, CONFIG_VERSION, SETTINGS

CONFIG = collections.OrderedDict((name, row.default) for name, row in SETTINGS.items())
VOCABULARIES = {'vocab.source.txt': '<pad>\n<unk>\n<s>\n</s>\nthe\n'.encode('utf-8'),
                'vocab.target.txt': '<pad>\n<unk>\n<s>\n</s>\n中\n'.encode('utf-8')}
ABOUT = {'versions': {'numpy': np.__version__}, 'command': ['train.py'], 'data': {'train.tsv': 64 * '0'}}
LAST = 2


# ---- A training of two steps, in small --------------------------------------------------------------------------
def make_weights(step):
    return [('source', []), ('encoder', [('kernel:0', np.full((2, 3), step, 'f4')), ('bias:0', np.zeros(2, 'f4'))])]


EXPECTED = [('source', []), ('encoder', [('kernel:0', (2, 3), 'f4'), ('bias:0', (2,), 'f4')])]


def make_arrays(step):
    return collections.OrderedDict([('weights/kernel:0', np.full((2, 3), step, 'f4')),
                                    ('adam/m/kernel:0', np.full((2, 3), step / 7, 'f4')),
                                    ('adam/iterations', np.int64(step)), ('random', np.arange(4, dtype='u4') + step)])


def make_state(step):
    log = [{'step': number, 'loss': 1 / number} for number in range(1, step + 1)]
    return {'step': step, 'best': 0.1 * step if step else None, 'log': log}


def start(path, overwrite=False):
    with RunDirectory.create(path, CONFIG, VOCABULARIES, ABOUT, overwrite) as run:
        go_on(run)


def resume(path):
    with RunDirectory.open(path, lock=True) as run:
        go_on(run)


def go_on(run):
    state = (run.read_checkpoint() or (None, make_state(0)))[1]
    run.write_log(state['log'])  # the run may have ended between a checkpoint and its log
    for step in range(state['step'] + 1, LAST + 1):
        run.write_events(step, b'scores')
        run.write_weights(make_weights(step))
        kept = [run.last_checkpoint()['file']] if run.last_checkpoint() else []  # until the next one stands
        run.write_checkpoint(step, make_arrays(step), make_state(step), kept)
        run.prune_checkpoints([])
        run.write_log(make_state(step)['log'])
    if run.read_config()['epochs'] != 12:
        run.write_config(dict(CONFIG, epochs=12))


def fingerprint(path):
    """The content of a run directory; UserError if it cannot be read."""
    run, older = RunDirectory.open(path), {f'checkpoint/{step}.h5' for step in range(LAST)}
    arrays, state = run.read_checkpoint()
    weights = run.read_weights(EXPECTED)[1][1]
    manifest = run.manifest()
    del manifest['previous']  # may stay after a cut: either hash is one of a whole file
    # An older checkpoint may still be listed, until the next one is written.
    manifest['files'] = {name: value for name, value in manifest['files'].items() if name not in older}
    names = {os.path.relpath(os.path.join(folder, name), path) for folder, _, names in os.walk(path) for name in names}
    # One older checkpoint may be left until the next is written: cut between the pointer's move and its removal.
    names -= older
    return (list(run.read_config().items()), [run.read_file(name) for name in VOCABULARIES], list(arrays),
            hash_arrays(arrays), state, hash_arrays(enumerate(weights)), run._read('log.csv'), manifest, names)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    path = str(tmp_path_factory.mktemp('finished') / 'run')
    start(path)
    return path


@pytest.fixture
def path(finished, tmp_path):
    """A finished run."""
    return shutil.copytree(finished, str(tmp_path / 'run'))


@pytest.fixture
def memory():
    """A directory for thousands of small files, in memory if the system has one."""
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.access('/dev/shm', os.W_OK) else None) as path:
        yield path


def forge(path, name, data):
    """Puts a file with a matching hash into a run, as an attacker would."""
    target = os.path.join(path, name)
    with open(target, 'wb') as stream:
        stream.write(data)
    record, key = (('checkpoint/last', 'sha256') if name.startswith('checkpoint/') else ('manifest.json', 'files'))
    with open(os.path.join(path, record), 'rb') as stream:
        content = json.loads(stream.read().decode('utf-8'))
    sha256 = hashlib.sha256(data).hexdigest()
    content[key] = sha256 if key == 'sha256' else dict(content[key], **{name: sha256})
    with open(os.path.join(path, record), 'wb') as stream:
        stream.write(json.dumps(content).encode('utf-8'))


def refused(action, *args):
    with pytest.raises(UserError) as caught:
        action(*args)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---- Round trips ----------------------------------------------------------------------------------------------
def test_a_run_is_read_as_it_was_written(finished):
    run = RunDirectory.open(finished)
    assert run.read_config() == dict(CONFIG, epochs=12) and list(run.read_config()) == list(CONFIG)
    assert {name: run.read_file(name) for name in VOCABULARIES} == VOCABULARIES
    arrays, state = run.read_checkpoint()
    assert state == make_state(LAST) and list(arrays) == list(make_arrays(LAST))
    assert hash_arrays(arrays) == hash_arrays(make_arrays(LAST)) and arrays['adam/iterations'].shape == ()
    weights = run.read_weights(EXPECTED)
    assert [layer for layer, _ in weights] == ['source', 'encoder'] and weights[0][1] == []
    assert np.array_equal(weights[1][1][0], np.full((2, 3), LAST)) and weights[1][1][1].shape == (2,)
    with open(os.path.join(finished, 'log.csv'), encoding='utf-8', newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert [(int(row['step']), float(row['loss'])) for row in rows] == [(1, 1.0), (2, 1 / 2)]
    manifest = run.manifest()
    assert {name: manifest[name] for name in ABOUT} == ABOUT and manifest['previous'] == {}
    files = {name: hashlib.sha256(data).hexdigest() for name, data in snapshot(finished).items()}
    listed = {os.path.join(finished, name): sha256 for name, sha256 in manifest['files'].items()}
    assert set(files) - set(listed) == {os.path.join(finished, name) for name in (
        'checkpoint/last', 'manifest.json', 'lock')}
    assert {name: files[name] for name in listed} == listed and manifest['program'] == VERSION
    assert sorted(os.listdir(os.path.join(finished, 'checkpoint'))) == ['2.h5', 'last']


def test_log_rows_with_other_columns_and_none_keep_their_places(path):
    run = RunDirectory.open(path)
    run.write_log([{'step': 1, 'loss': 0.1 + 0.2}, {'step': 2, 'loss': None, 'note': 'a,"b"\nc'}])
    assert run._read('log.csv') == b'step,loss,note\n1,0.30000000000000004,\n2,,"a,""b""\nc"\n'


def test_a_run_without_checkpoint_or_weights_gives_a_clear_error(tmp_path):
    path = str(tmp_path / 'deep' / 'run')
    with RunDirectory.create(path, CONFIG, VOCABULARIES, ABOUT) as run:
        assert run.read_checkpoint() is None
        assert 'has no hash of weights.h5' in refused(run.read_weights, EXPECTED)


def test_a_second_checkpoint_at_the_same_step_never_changes_the_first(path):
    run = RunDirectory.open(path)
    written = []
    for number in range(4):
        before = run.last_checkpoint()['file']
        written.append(run.write_checkpoint(2, make_arrays(number), {'number': number})['file'])
        assert written[-1] != before and run.read_checkpoint()[1] == {'number': number}
    assert written == ['2.1.h5', '2.h5', '2.1.h5', '2.h5']


def test_kept_checkpoints_stay_and_can_be_read_by_their_pointer(path):
    run = RunDirectory.open(path)
    kept = []
    for step in 4, 5, 6:
        kept.append(run.write_checkpoint(step, make_arrays(step), {}, keep=['2.h5', '4.h5'][:step - 3]))
    assert sorted(os.listdir(os.path.join(path, 'checkpoint'))) == ['2.h5', '4.h5', '6.h5', 'last']
    assert run.read_checkpoint(kept[0])[0]['adam/iterations'] == 4
    assert 'is missing' in refused(run.read_checkpoint, kept[1])
    again = run.write_checkpoint(4, make_arrays(9), {}, keep=['4.h5'])
    assert again['file'] == '4.1.h5' and run.read_checkpoint(kept[0])[0]['adam/iterations'] == 4


def test_a_checkpoint_with_nan_is_refused_and_the_last_good_one_stays(path):
    run = RunDirectory.open(path)
    before = fingerprint(path)
    assert 'NaN' in refused(run.write_checkpoint, 4, {'m': np.array([np.nan])}, {})
    assert 'NaN' in refused(run.write_weights, [('encoder', [('kernel:0', np.array([np.inf]))])])
    with pytest.raises(ValueError):
        run.write_checkpoint(4, {}, {'best': float('nan')})
    assert fingerprint(path) == before


def test_an_incomplete_checkpoint_is_removed_before_the_next(path, monkeypatch):
    run, original = RunDirectory.open(path), run_directory.write_bytes

    def cut(target, data):
        if target.endswith('last'):
            raise UserError('full')
        if target.endswith('5.h5'):
            assert sorted(os.listdir(os.path.join(path, 'checkpoint'))) == ['2.h5', 'last']
        original(target, data)
    monkeypatch.setattr(run_directory, 'write_bytes', cut)
    for step in 4, 5:
        assert refused(run.write_checkpoint, step, make_arrays(step), {}) == 'full'
        assert run.read_checkpoint()[1] == make_state(LAST)


# ---- Settings of version 1 -----------------------------------------------------------------------------------
FIRST_SETTINGS = """
    task data train val test format source_tokenizer target_tokenizer source_vocabulary target_vocabulary
    min_count share_vocabulary on_bad_utf8 max_source_length max_target_length attention score
    attention_units attention_scale attention_normalize window input_feeding cell units encoder_units
    embedding encoder_layers decoder_layers bidirectional residual recurrent_activation init_scale
    tie_embeddings copy source_embeddings target_embeddings epochs max_minutes batch_size accumulate
    optimizer learning_rate warmup decay decay_factor decay_start decay_every decay_patience clip_norm
    dropout word_dropout label_smoothing coverage_loss weight_decay averaging validate_every metric
    patience keep average average_of seed beam_width length_penalty coverage_penalty min_length max_length
    no_repeat_ngram threads memory_limit tensorboard
""".split()


def test_the_config_of_a_run_from_before_a_setting_existed_loads_with_the_value_it_was_trained_with():
    values = {name: SETTINGS[name].default for name in FIRST_SETTINGS}
    config = check_config(dict(values, version=1), 'x')
    assert {name: config[name] for name in FIRST_SETTINGS} == values
    assert config['kernels'] == 'keras' and config['checkpoint_minutes'] == 0 and config['init_from'] is None
    assert set(config) == set(SETTINGS)  # add a new setting to settings.ADDED


# ---- Settings -------------------------------------------------------------------------------------------------
BAD_SETTINGS = [
    ({'batchsize': 3}, "unknown setting 'batchsize': did you mean 'batch_size'?"),
    ({'zzzz' * 999: 3}, 'see train.py --help-all'), ({'version': CONFIG_VERSION + 1}, 'newer program'),
    ({'version': '1'}, '"version"'), ({'version': True}, '"version"'), ({'version': 0}, '"version"'),
    ({'units': 128.0}, "'units' must be a whole number"), ({'units': True}, 'whole number'), ({'units': '1'}, 'whole'),
    ({'units': -1}, 'whole number from 1 to 65536'), ({'units': 2 ** 60}, 'whole number'), ({'units': None}, 'whole'),
    ({'dropout': 'x'}, "'dropout' must be a number"), ({'dropout': False}, 'a number'), ({'dropout': -0.1}, 'a number'),
    ({'bidirectional': 1}, 'true or false'), ({'bidirectional': 'no'}, 'true or false'), ({'data': None}, 'a path'),
    ({'data': 'a\0b'}, 'a path'), ({'data': '\ud800'}, 'a path'), ({'data': ['a']}, 'a path'),
    ({'cell': 'rnn'}, 'lstm, gru'), ({'cell': ['lstm']}, 'lstm, gru'),
    ({'train': 'a.tsv'}, 'a list of paths'), ({'train': []}, 'a list of paths'),
    ({'train': ['a', 3]}, 'a list of paths')]


@pytest.mark.parametrize('change, message', BAD_SETTINGS, ids=range(len(BAD_SETTINGS)))
def test_settings_that_are_unknown_or_of_a_wrong_kind_are_refused_by_name(path, change, message):
    data = json.dumps(dict(CONFIG, **{'version': CONFIG_VERSION, **change})).encode('ascii')
    forge(path, 'config.json', data)
    told = refused(RunDirectory.open(path).read_config)
    assert message in told and told.startswith(os.path.join(path, 'config.json')) and len(told) < len(path) + 250
    assert message in refused(check_config, change, 'x', False)


def test_a_missing_setting_is_refused_in_a_run_and_not_in_a_config_of_the_user(path):
    for name in ['version', *CONFIG]:
        config = dict(CONFIG, version=CONFIG_VERSION)
        del config[name]
        if name in ADDED:  # the run is older than the setting
            assert check_config(config, 'x')[name] == ADDED[name]
        else:
            assert name in refused(check_config, config, 'x')
        assert name == 'version' or name not in check_config(config, 'x', complete=False)
    assert check_config({'dropout': 0, 'train': ['a', 'ü\udcc3'], 'seed': 3}, 'x', complete=False) == {
        'train': ['a', 'ü\udcc3'], 'dropout': 0.0, 'seed': 3}
    assert type(check_config({'dropout': 0}, 'x', complete=False)['dropout']) is float


def test_an_invalid_config_is_never_written(path, tmp_path):
    assert 'batchsize' in refused(RunDirectory.open(path).write_config, dict(CONFIG, batchsize=3))
    assert 'units' in refused(RunDirectory.create, str(tmp_path / 'new'), dict(CONFIG, units='3'), {}, {})
    assert not (tmp_path / 'new').exists()


# ---- Directories that are damaged or hostile ------------------------------------------------------------------
def read_all(path):
    run = RunDirectory.open(path)
    return (run.read_config(), [run.read_file(name) for name in VOCABULARIES],
            [(layer, [a.tolist() for a in arrays]) for layer, arrays in run.read_weights(EXPECTED)],
            hash_arrays((run.read_checkpoint() or ({},))[0]))


@pytest.mark.parametrize('name', ['config.json', 'weights.h5', 'checkpoint/2.h5', *VOCABULARIES])
@pytest.mark.parametrize('change', [lambda data: data + b'\n', lambda data: data[:-1], lambda data: b'',
                                    lambda data: data[:9] + bytes([data[9] ^ 1]) + data[10:]])
def test_a_file_that_is_not_the_one_that_was_written_is_refused(path, name, change):
    target = os.path.join(path, name)
    with open(target, 'rb+') as stream:
        data = change(stream.read())
        stream.seek(0)
        stream.truncate()
        stream.write(data)
    assert refused(read_all, path).startswith(target)


@pytest.mark.parametrize('name', ['config.json', 'weights.h5', 'checkpoint/2.h5', 'checkpoint/last', 'manifest.json',
                                  *VOCABULARIES])
def test_links_pipes_folders_and_gaps_in_place_of_a_file_are_refused(path, name, tmp_path):
    target, outside = os.path.join(path, name), str(tmp_path / 'outside')
    os.rename(target, outside)
    if name != 'checkpoint/last':  # without a pointer there is no checkpoint yet
        refused(read_all, path)
    relative = os.path.relpath(outside, os.path.dirname(target))
    for make in (lambda: os.symlink(outside, target), lambda: os.symlink(relative, target), lambda: os.mkfifo(target),
                 lambda: os.symlink('/dev/zero', target), lambda: os.mkdir(target)):
        make()
        assert name in refused(read_all, path)
        if not os.path.isdir(target):
            os.unlink(target)


@pytest.mark.parametrize('name', ['checkpoint', 'tensorboard'])
def test_a_folder_that_leads_out_of_the_directory_is_refused_and_nothing_written_there(path, name, tmp_path):
    outside = tmp_path / 'outside'
    outside.mkdir()
    (outside / '7.h5').write_bytes(b'')
    (outside / 'events.out.tfevents.1').write_bytes(b'')
    shutil.rmtree(os.path.join(path, name), ignore_errors=True)
    os.symlink(str(outside), os.path.join(path, name))
    assert 'symbolic link' in refused(RunDirectory.open, path)
    assert 'symbolic link' in refused(RunDirectory.open, path, True)
    assert 'symbolic link' in refused(start, path, True)
    assert sorted(os.listdir(str(outside))) == ['7.h5', 'events.out.tfevents.1']


@pytest.mark.parametrize('change', [
    {'file': '../2.h5'}, {'file': '/etc/passwd'}, {'file': '2.h5/../../config.json'}, {'file': 'last'}, {'file': ''},
    {'file': '2.h5\n'}, {'file': '٣.h5'}, {'file': 3}, {'file': None}, {'sha256': 'x' * 64}, {'sha256': ''},
    {'sha256': None}, {'sha256': '0' * 64}, {'step': '3'}, {'step': True}, {'more': 1}, {'file': '4.h5'}])
def test_a_pointer_to_anything_but_a_checkpoint_is_refused(path, change):
    target = os.path.join(path, 'checkpoint', 'last')
    with open(target, 'rb+') as stream:
        pointer = dict(json.loads(stream.read().decode('utf-8')), **change)
        stream.seek(0)
        stream.truncate()
        stream.write(json.dumps(pointer).encode('utf-8'))
    told = refused(RunDirectory.open(path).read_checkpoint)
    if change not in ({'sha256': '0' * 64}, {'file': '4.h5'}):  # those do name one, and it does not fit
        assert 'does not name a checkpoint' in told


@pytest.mark.parametrize('change', [
    {'format': 'other'}, {'files': {'../config.json': '0' * 64}}, {'files': {'/etc/passwd': '0' * 64}}, {'files': []},
    {'files': {'config.json': 3}}, {'files': {'config.json': '0' * 64}}, {'previous': 'x'}, {'files': {}}])
def test_a_manifest_that_does_not_fit_is_refused(path, change):
    target = os.path.join(path, 'manifest.json')
    with open(target, 'rb+') as stream:
        manifest = dict(json.loads(stream.read().decode('utf-8')), **change)
        stream.seek(0)
        stream.truncate()
        stream.write(json.dumps(manifest).encode('utf-8'))
    told = refused(read_all, path)
    assert 'manifest.json' in told
    assert 'is not the hash of a file of a run' in told or change.get('files') in ({}, {'config.json': '0' * 64}, None)


@pytest.mark.parametrize('state, message', [
    (b'{"arrays": ["b"], "state": {}}', 'is not a checkpoint'),
    (b'{"arrays": [["a"]], "state": {}}', 'is not a checkpoint'),
    (b'{"arrays": {"a": 1}, "state": {}}', 'is not a checkpoint'),
    (b'{"arrays": ["a"], "state": 3}', 'is not a checkpoint'),
    (b'{"arrays": ["a", "a"], "state": {}}', 'is not a checkpoint'), (b'{"arrays": ["a"]', 'not valid JSON'),
    (b'', 'not valid JSON'), (None, "has no 'state/json'"), (1.5, 'type float64')], ids=range(9))
def test_a_checkpoint_made_by_a_stranger_is_refused(path, state, message):
    state = [] if state is None else [('json', np.frombuffer(state, 'u1') if isinstance(state, bytes) else np.ones(3))]
    forge(path, 'checkpoint/2.h5', pack_weights([('arrays', [('a', np.ones(2))]), ('state', state)]))
    assert message in refused(RunDirectory.open(path).read_checkpoint)


@pytest.mark.parametrize('data', [b'\x80\x03cposix\nsystem\n.', b'!!python/object/apply:os.system ["x"]', b'\x93NUMPY'])
def test_pickles_arrays_with_pickles_and_yaml_are_refused_even_with_a_hash_that_fits(path, data):
    for name in 'weights.h5', 'checkpoint/2.h5', 'config.json':
        copy = shutil.copytree(path, path + name.replace('/', ''))
        forge(copy, name, data)
        assert name in refused(read_all, copy)


def test_weights_of_another_model_are_refused_before_they_are_read(path):
    forge(path, 'weights.h5', pack_weights([('encoder', [('kernel:0', np.ones((10 ** 5, 3), 'f4'))])]))
    assert 'has shape (100000, 3), the model needs (2, 3)' in refused(RunDirectory.open(path).read_weights, EXPECTED)


def test_any_changed_byte_in_a_run_loads_unchanged_or_raises_user_error(finished, memory, summary):
    rng, good, tried, failed = random.Random(1), read_all(finished), 1200, 0
    names = ['config.json', 'weights.h5', 'checkpoint/2.h5', 'checkpoint/last', 'manifest.json', *VOCABULARIES]
    path = shutil.copytree(finished, os.path.join(memory, 'run'))
    originals = {name: RunDirectory.open(path)._read(name) for name in names}
    for case in range(tried):
        name = rng.choice(names)
        data = bytearray(originals[name])
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(len(data))
            if rng.random() < 0.1:
                data = data[:place + 1] + data[place + rng.choice((2, 9, 10 ** 6)):]
            else:
                data[place] = rng.choice((rng.randrange(256), data[place] ^ 1 << rng.randrange(8), 0x22, 0x7d, 0x2c))
        forged = name[-3:] == '.h5' and rng.random() < 0.7  # so that most get past the hash
        if forged:
            forge(path, name, bytes(data))
        else:
            with open(os.path.join(path, name), 'wb') as stream:
                stream.write(data)
        try:
            loaded = read_all(path)
            assert forged or loaded == good
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            failed += 1
        for other in {name, 'manifest.json', 'checkpoint/last'}:
            with open(os.path.join(path, other), 'wb') as stream:
                stream.write(originals[other])
    summary(f'mutated run directories: {tried} tried, {failed} refused, {tried - failed} loaded')
    assert read_all(path) == good and 0 < failed < tried


# ---- Whose directory it is ------------------------------------------------------------------------------------
def snapshot(path):
    return {os.path.join(folder, name): open(os.path.join(folder, name), 'rb').read()
            for folder, _, names in os.walk(path) for name in names}


def test_a_run_is_replaced_only_with_overwrite(path):
    before = snapshot(path)
    assert '--overwrite' in refused(start, path) and '--resume' in refused(RunDirectory.check_new, path)
    assert snapshot(path) == before
    RunDirectory.check_new(path, overwrite=True)
    start(path, overwrite=True)
    assert read_all(path)


def put(path, name, data=b'mine'):
    os.makedirs(os.path.dirname(os.path.join(path, name)), exist_ok=True)
    with open(os.path.join(path, name), 'wb') as stream:
        stream.write(data)


# What a user, or another program, may keep in a run's directory.
THEIRS = ['notes.txt', 'checkpoint/mine.h5', 'checkpoint/1.h5', 'checkpoint/2.h5.bak', 'tensorboard/notes',
          'tensorboard/events.out.tfevents.1543000000.host', 'tensorboard/mine/events.out.tfevents.0000000001',
          'tensorboard/events.out.tfevents.0000000007', '.x.01234567.tmp', 'src/lock']


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(path):
    RunDirectory.open(path).write_file('curves.png', b'png')
    listed = sorted(RunDirectory.open(path).manifest()['files'])
    for name in THEIRS + ['tensorboard/.events.out.tfevents.0000000003.01234567.tmp', '.weights.h5.01234567.tmp',
                          'checkpoint/.last.89abcdef.tmp', 'checkpoint/.7.h5.01234567.tmp']:
        put(path, name)
    before = snapshot(path)
    with RunDirectory.create(path, CONFIG, VOCABULARIES, ABOUT, overwrite=True) as run:
        assert set(snapshot(path)) == {run.file(name) for name in THEIRS + [
            'lock', 'manifest.json', 'config.json', *VOCABULARIES]}
        go_on(run)
    assert 'curves.png' in listed and 'tensorboard/events.out.tfevents.0000000002' in listed
    assert {name: snapshot(path)[os.path.join(path, name)] for name in THEIRS} == {name: b'mine' for name in THEIRS}
    assert len(before) == len(listed) + 3 + len(THEIRS) + 4 and read_all(path)


@pytest.mark.parametrize('name', ['config.json', 'weights.h5', 'vocab.source.txt', 'log.csv', 'curves.png',
                                  'checkpoint/last'])
@pytest.mark.parametrize('overwrite', [False, True])
def test_a_file_of_the_user_in_the_place_of_one_of_the_run_is_refused_before_anything_is_removed(path, name, overwrite):
    if not overwrite:  # a folder with a manifest alone is a start that was cut short
        for other in snapshot(path):
            if not other.endswith('manifest.json'):
                os.unlink(other)
    put(path, name)
    before = snapshot(path)
    if name in ('weights.h5', 'checkpoint/last') and not overwrite:
        assert 'holds a run already' in refused(RunDirectory.check_new, path)
    told = refused(RunDirectory.check_new, path, True)
    assert told.startswith(os.path.join(path, name)), told
    refused(start, path, overwrite)
    assert snapshot(path) == before
    if name != 'checkpoint/last':  # a folder or a link is no file of a run either
        os.unlink(os.path.join(path, name))
        os.symlink('/dev/null', os.path.join(path, name))
        assert 'is not the file that the manifest of this run lists' in refused(start, path, True)
        assert os.path.islink(os.path.join(path, name))


def test_a_run_whose_manifest_lists_neither_log_nor_checkpoints_is_replaced_if_it_was_trained(path):
    """As version 1 wrote them."""
    RunDirectory.open(path).write_file('curves.png', b'png')
    manifest = RunDirectory.open(path).manifest()
    del manifest['program'], manifest['previous']
    manifest['files'] = {name: value for name, value in manifest['files'].items()
                         if name in ('config.json', 'weights.h5', *VOCABULARIES)}
    put(path, 'manifest.json', json.dumps(manifest).encode('ascii'))
    put(path, 'tensorboard/events.out.tfevents.1543000000.host')
    other = shutil.copytree(path, path + '2')
    assert read_all(path)
    start(path, overwrite=True)
    assert read_all(path) and 'log.csv' in RunDirectory.open(path).manifest()['files']
    assert not os.path.exists(os.path.join(path, 'curves.png'))
    assert os.path.exists(os.path.join(path, 'tensorboard/events.out.tfevents.1543000000.host'))
    put(other, 'checkpoint/2.h5', b'another')
    before = snapshot(other)
    assert 'log.csv' in refused(start, other, True) and snapshot(other) == before


def test_a_start_that_was_stopped_before_its_first_checkpoint_starts_again(tmp_path):
    path = str(tmp_path / 'run')
    RunDirectory.create(path, CONFIG, VOCABULARIES, ABOUT).close()  # as after kill -9
    start(path)
    assert read_all(path)
    with pytest.raises(KeyboardInterrupt):
        with RunDirectory.create(path + '2', CONFIG, VOCABULARIES, ABOUT):
            raise KeyboardInterrupt
    assert os.listdir(str(tmp_path)) == ['run']
    with pytest.raises(KeyboardInterrupt):  # with a checkpoint it stays
        with RunDirectory.create(path + '3', CONFIG, VOCABULARIES, ABOUT) as run:
            run.write_checkpoint(1, make_arrays(1), make_state(1))
            raise KeyboardInterrupt
    assert refused(RunDirectory.open(path + '3').read_weights, EXPECTED).endswith(
        'continue it with ' + command('train.py', '--run', path + '3', '--resume'))


@pytest.mark.parametrize('overwrite', [False, True])
@pytest.mark.parametrize('files', [{'a': b''}, {'config.json': b'{}'}, {'config.json': b'{}', 'manifest.json': b'{}'},
                                   {'manifest.json': b'{"format": "mine"}'}, {'weights.h5': b'', 'log.csv': b''},
                                   {'.a.01234567.tmp': b''}, {'checkpoint/2.h5': b''}])
def test_a_directory_that_no_run_wrote_is_never_changed(tmp_path, files, overwrite):
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    before = snapshot(str(tmp_path))
    assert 'choose another directory' in refused(RunDirectory.check_new, str(tmp_path), overwrite)
    assert 'choose another directory' in refused(start, str(tmp_path), overwrite)
    refused(RunDirectory.open, str(tmp_path), True)
    assert snapshot(str(tmp_path)) == before


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / 'a').write_bytes(b'x')
    for path in str(tmp_path / 'a'), str(tmp_path / 'a' / 'b'):
        refused(start, path)
        refused(RunDirectory.open, path)
    refused(RunDirectory.open, str(tmp_path / 'none'))
    assert 'no config.json' in refused(RunDirectory.open, str(tmp_path))
    assert (tmp_path / 'a').read_bytes() == b'x' and os.listdir(str(tmp_path)) == ['a']


def test_a_directory_that_cannot_be_created_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: path != str(tmp_path))  # root may write anywhere
    told = refused(RunDirectory.check_new, str(tmp_path / 'runs' / 'x'))
    assert told.startswith(str(tmp_path / 'runs' / 'x') + ': cannot be created in %s (Permission denied): ' % tmp_path)
    assert 'docker run -v' in told and os.listdir(str(tmp_path)) == []


def test_a_start_that_fails_leaves_no_directory_behind(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(os, 'write', refuse)
    assert 'free some space' in refused(start, str(tmp_path / 'run'))
    assert os.listdir(str(tmp_path)) == []


HOLDER = '''import sys, time
sys.path.insert(0, sys.argv[1])
from storage.run_directory import RunDirectory
run = RunDirectory.open(sys.argv[2], lock=True)
print('locked', flush=True)
time.sleep(60)
'''


def test_a_second_process_is_refused_until_the_first_ends_even_by_kill_9(path):
    root = os.path.dirname(os.path.dirname(os.path.abspath(run_directory.__file__)))
    holder = subprocess.Popen([sys.executable, '-c', HOLDER, root, path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b'locked\n'
        before = snapshot(path)
        for action in (RunDirectory.open, path, True), (start, path, True):
            assert 'another process is training' in refused(*action)
        assert snapshot(path) == before
        assert read_all(path)  # reading needs no lock
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    start(path, overwrite=True)


def test_a_lock_is_held_until_close(path):
    with RunDirectory.open(path, lock=True):
        assert 'another process' in refused(RunDirectory.open, path, True)
    RunDirectory.open(path, lock=True).close()


def test_the_loser_of_two_starts_does_not_change_the_run_of_the_winner(tmp_path, monkeypatch):
    path, original = str(tmp_path / 'run'), RunDirectory._take_lock

    def late(run):
        monkeypatch.setattr(RunDirectory, '_take_lock', original)
        start(path)
        original(run)
    monkeypatch.setattr(RunDirectory, '_take_lock', late)
    assert '--overwrite' in refused(start, path)
    assert read_all(path)


# ---- Faults ---------------------------------------------------------------------------------------------------
CALLS = ('write', 'fsync', 'replace', 'unlink')


def count_and_cut(cut):
    """Puts `cut(number, name, call)` in place of each of CALLS, `call` being the real one; fsync does nothing."""
    numbers = iter(range(10 ** 9))
    originals = {name: getattr(os, name) for name in CALLS}
    originals['fsync'] = lambda descriptor: None
    return {name: lambda *args, name=name, **options: cut(
        next(numbers), name, lambda: originals[name](*args, **options), args) for name in CALLS}


def in_child(action, cut):
    """Runs `action` in a process of its own with `cut`; its exit code."""
    child = os.fork()
    if child == 0:
        try:
            for name, call in count_and_cut(cut).items():
                setattr(os, name, call)
            action()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1])


def killed_at(number, moment):
    """Ends the process without cleaning up, before or after the call of that number, or in the middle of that write."""
    writes = iter(range(10 ** 9))

    def cut(this, name, call, args):
        if moment == 'amid':
            if name != 'write' or next(writes) != number:
                return call()
            os.pwrite(args[0], bytes(args[1])[:len(args[1]) // 2], 0)
        elif this != number:
            return call()
        elif moment == 'after':
            call()
        os._exit(9)
    return cut


def check_between(path):
    """What a reader sees at any moment: one valid state, the weights at most one step ahead."""
    state = (RunDirectory.open(path).read_checkpoint() or (None, make_state(0)))[1]
    assert state == make_state(state['step'])
    assert RunDirectory.open(path).read_config() in (CONFIG, dict(CONFIG, epochs=12))
    try:
        step = RunDirectory.open(path).read_weights(EXPECTED)[1][1][0][0, 0]
    except UserError as error:
        assert state['step'] == 0 and ('has no hash' in str(error) or 'is missing' in str(error))
    else:
        assert step in (state['step'], state['step'] + 1)


def no_sync(monkeypatch):
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)


@pytest.mark.slow
@pytest.mark.parametrize('overwrite', [False, True])
def test_a_run_killed_at_any_call_continues_to_the_same_end(finished, memory, monkeypatch, summary, overwrite):
    no_sync(monkeypatch)
    # What lies there before: nothing, or another run with a user's own note beside it.
    old = os.path.join(memory, 'old')
    files = dict(VOCABULARIES, **{'vocab.source.txt': b'old\n'})
    with RunDirectory.create(old, dict(CONFIG, units=7), files, {}) as run:
        run.write_weights(make_weights(8))
        run.write_checkpoint(8, make_arrays(8), make_state(8))
    with open(os.path.join(old, 'notes.txt'), 'w'):
        pass
    good, tried = fingerprint(finished), 0
    for moment in 'before', 'amid', 'after':
        for number in range(1000):
            path = os.path.join(memory, f'{moment}{number}')
            if overwrite:
                shutil.copytree(old, path)
            code = in_child(lambda: start(path, overwrite), killed_at(number, moment))
            assert code in (0, 9)
            if code == 0:
                break
            tried += 1
            try:
                with RunDirectory.open(path) as run:
                    config = run.read_config()
            except UserError as error:
                assert 'is not a run' in str(error) or 'no such' in str(error)
                start(path, overwrite)  # the same command again
            else:
                if config['units'] == 7:  # not yet begun
                    assert run.read_checkpoint()[1] == make_state(8) and run.read_file('vocab.source.txt') == b'old\n'
                    start(path, overwrite)
                else:
                    check_between(path)
                    resume(path)
            result = fingerprint(path)
            assert result[:-1] == good[:-1] and result[-1] - {'notes.txt'} == good[-1]
            assert os.path.exists(os.path.join(path, 'notes.txt')) == overwrite
            shutil.rmtree(path)
    summary(f'killed while {"overwriting" if overwrite else "training"}: {tried} tried, {tried} survived')
    assert tried > 100


@pytest.mark.parametrize('stays', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_refused_by_the_system_at_any_call_continues_to_the_same_end(
        finished, memory, monkeypatch, summary, stays):
    no_sync(monkeypatch)
    good, tried, told = fingerprint(finished), 0, 0
    for number in range(1000):
        path, seen = os.path.join(memory, str(number)), []

        def cut(this, name, call, args):
            seen.append(this)
            if this == number or (stays and this > number and name != 'unlink'):  # a full disk lets files go
                raise OSError(errno.ENOSPC, 'No space left on device')
            return call()
        with monkeypatch.context() as patch:
            for name, call in count_and_cut(cut).items():
                patch.setattr(os, name, call)
            try:
                start(path)
            except UserError as error:
                assert 'No space left on device' in str(error) and len(str(error).splitlines()) == 1
                told += 1
        if max(seen) < number:
            break
        tried += 1
        assert not [name for name in snapshot(path) if name.endswith('.tmp')]
        if os.path.exists(os.path.join(path, 'config.json')):
            check_between(path)
            resume(path)
        else:
            start(path)
        assert fingerprint(path) == good
        shutil.rmtree(path)
    moment = 'from a call on' if stays else 'at one call'
    summary(f'full disk {moment}: {tried} tried, {tried} survived, {told} told')
    assert tried > 50 and told > tried - 5


# In a mount namespace of its own: a disk of each of many sizes, made larger when the training has filled it.
SMALL_DISKS = """
import os, subprocess, sys
sys.path[:0] = sys.argv[1:3]
import test_run_directory as here
finished, place = sys.argv[3:]
mount = lambda *arguments: subprocess.check_call(['mount'] + list(arguments))
good, path = here.fingerprint(finished), os.path.join(place, 'run')
tried = told = 0
for size in range(8, 120, 8):
    mount('-t', 'tmpfs', '-o', 'size=%dk' % size, 'none', place)
    tried += 1
    try:
        here.start(path)
    except here.UserError as error:
        assert 'No space left' in str(error) and 'free some space' in str(error), error
        told += 1
    assert not [name for name in here.snapshot(path) if name.endswith('.tmp')]
    mount('-o', 'remount,size=9m', place)
    if os.path.exists(os.path.join(path, 'config.json')):
        here.check_between(path)
        here.resume(path)
    else:
        here.start(path)
    assert here.fingerprint(path) == good
    mount('-o', 'remount,ro', place)
    for action in (here.resume, path), (here.start, path, True), (here.start, os.path.join(place, 'new')):
        told_so = here.refused(*action)
        assert 'Read-only file system' in told_so and 'not read-only' in told_so, told_so
    assert here.fingerprint(path) == good  # reading needs no writing
    subprocess.check_call(['umount', place])
print(tried, told)
"""


@pytest.fixture
def own_mounts():
    """The command that runs another one with its own mounts; skips if the system does not allow it."""
    command = ['unshare', '--mount']
    try:
        subprocess.run(command + ['mount', '-t', 'tmpfs', 'none', '/mnt'], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('no rights to mount a small disk')
    return command


def test_a_disk_that_is_small_or_read_only_leaves_a_run_that_continues(
        finished, tmp_path, own_mounts, summary):
    root = os.path.dirname(os.path.dirname(os.path.abspath(run_directory.__file__)))
    result = subprocess.run(
        own_mounts + [sys.executable, '-c', SMALL_DISKS, root, os.path.join(root, 'tests'), finished, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert result.returncode == 0, result.stderr.decode()
    tried, told = map(int, result.stdout.split())
    summary(f'small disks: {tried} sizes tried, {told} were full, {tried} survived; as many read-only')
    assert 5 < told < tried


def test_the_pointer_moves_last_and_the_weights_come_first(path, monkeypatch):
    names, original = [], os.replace
    monkeypatch.setattr(os, 'replace', lambda a, b: (names.append(os.path.relpath(b, path)), original(a, b)))
    run = RunDirectory.open(path)
    run.write_weights(make_weights(4))
    assert names == ['manifest.json', 'weights.h5', 'manifest.json']
    del names[:]
    run.write_checkpoint(4, make_arrays(4), make_state(4))
    assert names == ['manifest.json', 'checkpoint/4.h5', 'checkpoint/last']


def test_a_reader_always_finds_a_complete_run_while_another_process_trains(path):
    child = os.fork()
    if child == 0:
        try:
            with RunDirectory.open(path, lock=True) as run:
                for step in range(4, 10 ** 6):
                    run.write_weights(make_weights(step))
                    run.write_checkpoint(step, make_arrays(step), make_state(0))
        finally:
            os._exit(1)
    try:
        steps, end = set(), time.time() + 1.5
        while time.time() < end or len(steps) < 4 and time.time() < end + 60:  # on a busy machine the other is slow
            run = RunDirectory.open(path)
            run.read_config()
            arrays, _ = run.read_checkpoint()
            assert arrays['weights/kernel:0'][0, 0] == arrays['adam/iterations']
            steps.add(run.read_weights(EXPECTED)[1][1][0][0, 0])
        assert len(steps) > 3
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert read_all(path)
