"""Run directories of a stranger, with matching hashes: predict.py refuses each in one line, runs no code of theirs and
allocates no memory for them."""
import io
import json
import os
import pickle
import resource
import shutil

import tf_session
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies
from keras import backend as K
from text.vocabulary import Vocabulary
import predict
from storage.config_file import check_config, config_bytes
from storage.files import parse_json
from storage.run_directory import RunDirectory
from seq2seq_model import Seq2Seq
from command_line import UserError
from settings import CONFIG_VERSION, SETTINGS, check, defaults, with_defaults
from small_models import set_weights
from test_run_directory import forge
from storage.weights_file import pack_weights

WORDS = Vocabulary(['<pad>', '<unk>', '<s>', '</s>'] + 'we like the coat'.split())
CONFIG = dict(defaults(), units=6, embedding=5, cell='gru', bidirectional=False, score='dot', threads=1)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A valid run, and its weights as [(layer, [(weight, array), ...]), ...]."""
    path = str(tmp_path_factory.mktemp('hostile') / 'run')
    vocabularies = {'vocab.%s.txt' % side: WORDS.to_bytes() for side in ('source', 'target')}
    with RunDirectory.create(path, CONFIG, vocabularies, {}) as run, tf_session.temporary(threads=1):
        model = Seq2Seq(with_defaults(CONFIG), len(WORDS), len(WORDS))
        set_weights(model)
        layers = [(layer.name, [(weight.name, value) for weight, value in
                                zip(layer.weights, K.batch_get_value(layer.weights))])
                  for layer in model.training_model.layers if layer.weights]
        run.write_weights(layers)
    return path, layers


@pytest.fixture
def path(made, tmp_path, monkeypatch):
    """A copy that a test may change; the working directory is where a sentinel would appear."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'in').write_bytes(b'we like the coat\n')
    return shutil.copytree(made[0], str(tmp_path / 'run'))


def refused(path, *parts):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        predict.main(['--run', path, '--input', 'in'])
    told = str(caught.value)
    assert '\n' not in told and len(told) < 400 + len(path)
    for part in parts:
        assert part in told
    assert not os.path.exists('sentinel')
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # kB; a graph alone takes some


@pytest.mark.slow
def test_the_run_that_these_tests_change_works(path, capsys):
    predict.main(['--run', path, '--input', 'in'])
    assert capsys.readouterr().out.count('\n') == 1


# What is refused before a model is made

def changed_config(**changes):
    config = dict(CONFIG, **dict({'version': CONFIG_VERSION}, **changes))
    return json.dumps({key: value for key, value in config.items() if value != 'missing'}).encode('ascii')


class Sentinel(object):
    def __reduce__(self):
        return os.system, ('touch sentinel',)


def pickled():
    stream = io.BytesIO()
    np.save(stream, np.array([Sentinel()], dtype=object), allow_pickle=True)
    return stream.getvalue()


YAML = b'!!python/object/apply:os.system ["touch sentinel"]\n'


@pytest.mark.parametrize('name, content, told', [
    ('config.json', changed_config(unitz=3), ["'unitz'", "'units'"]),
    ('config.json', changed_config(units='missing'), ["'units' is missing"]),
    ('config.json', changed_config(version=CONFIG_VERSION + 1), ['newer']),
    ('config.json', changed_config(units=2 ** 52), ["'units'", '65536']),
    ('config.json', changed_config(threads=100000), ["'threads'", '512']),
    ('config.json', changed_config(beam_width=2 ** 40), ["'beam_width'", '1000']),
    ('config.json', changed_config(no_repeat_ngram=2 ** 52), ["'no_repeat_ngram'"]),
    ('config.json', changed_config(min_length=10 ** 8), ["'min_length'"]),
    ('config.json', YAML, ['config.json', 'not valid JSON']),
    ('config.json', pickled(), ['config.json', 'not valid JSON']),
    ('config.json', pickle.dumps(Sentinel()), ['config.json', 'not valid JSON']),
    ('vocab.source.txt', WORDS.to_bytes() + b'coat\n', ['vocab.source.txt', 'line 9', 'line 8']),
    ('vocab.target.txt', WORDS.to_bytes()[1:], ['vocab.target.txt']),
    ('vocab.target.txt', WORDS.to_bytes()[:-1], ['vocab.target.txt', 'does not end']),
    ('vocab.target.txt', YAML, ['vocab.target.txt']),
], ids=range(15))
def test_settings_and_vocabularies_are_refused(path, name, content, told):
    forge(path, name, content)
    refused(path, *told)


@pytest.mark.parametrize('files', [
    {'../run/config.json': '0' * 64}, {'/etc/passwd': '0' * 64}, {'config.json': '0' * 64}, {'config.json': 3}])
def test_a_manifest_that_leads_elsewhere_or_does_not_fit_is_refused(path, files):
    target = os.path.join(path, 'manifest.json')
    with open(target, 'rb') as stream:
        manifest = json.loads(stream.read().decode('ascii'))
    manifest['files'].update(files)
    with open(target, 'wb') as stream:
        stream.write(json.dumps(manifest).encode('ascii'))
    refused(path, 'manifest.json')


@pytest.mark.parametrize('name', ['config.json', 'vocab.source.txt', 'manifest.json'])
def test_a_link_out_of_the_directory_is_refused(path, name):
    target = os.path.join(path, name)
    os.rename(target, 'outside')
    for source in ('../outside', os.path.abspath('outside')):
        os.symlink(source, target)
        refused(path, name, 'symbolic link')
        os.unlink(target)


# What is refused by the file of weights, when the model stands

def changed_weights(layers, change):
    """The bytes of weights.h5 after `change` of the open file."""
    stream = io.BytesIO(pack_weights(layers))
    with h5py.File(stream, 'r+') as root:
        change(root)
    return stream.getvalue()


def first(root):
    """The group and the name of some array in the file."""
    found = []
    root.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found[0].parent, found[0].name.rpartition('/')[2]


def replaced(**options):
    def change(root):
        group, name = first(root)
        del group[name]
        group.create_dataset(name, **options)
    return change


def linked(root):
    group, name = first(root)
    del group[name]
    group[name] = h5py.ExternalLink('/etc/passwd', '/x')


def ruined(root):
    group, name = first(root)
    group[name][...] = np.nan


def flipped(layers):
    content = bytearray(pack_weights(layers))
    content[9] ^= 1  # of the superblock; one in a weight's own bytes would make other weights
    return bytes(content)


def with_lambda(_):
    """A whole Keras model whose Lambda writes the sentinel when it is loaded, as `load_model` would do."""
    import keras
    with tf_session.temporary(threads=1):
        source = keras.layers.Input((2,))
        model = keras.models.Model(source, keras.layers.Lambda(lambda x: [open('sentinel', 'w'), x][1])(source))
        model.save('lambda.h5')
    os.unlink('sentinel')
    with open('lambda.h5', 'rb') as stream:
        return stream.read()


WEIGHTS = [
    ('cut short', lambda layers: pack_weights(layers)[:-99]),
    ('a bit flipped', flipped),
    ('another shape', lambda layers: changed_weights(layers, replaced(data=np.ones((2, 2), 'f')))),
    ('10 ** 9 rows', lambda layers: changed_weights(layers, replaced(shape=(10 ** 9, 6), dtype='f4'))),
    ('10 ** 9 rows in chunks', lambda layers: changed_weights(
        layers, replaced(shape=(10 ** 9, 6), dtype='f4', chunks=(2 ** 20, 1), fillvalue=1))),
    ('NaN', lambda layers: changed_weights(layers, ruined)),
    ('an external link', lambda layers: changed_weights(layers, linked)),
    ('a layer too many', lambda layers: pack_weights(layers + [('more', [('kernel:0', np.ones(3, 'f'))])])),
    ('a layer too few', lambda layers: pack_weights(layers[1:])),
    ('a model with a Lambda', with_lambda),
    ('a pickled array', lambda _: pickled()),
    ('a pickle', lambda _: pickle.dumps(Sentinel())),
    ('YAML', lambda _: YAML),
]


@pytest.mark.slow
@pytest.mark.parametrize('make', [row[1] for row in WEIGHTS], ids=[row[0] for row in WEIGHTS])
def test_weights_are_refused_though_their_hash_is_right(made, path, make):
    forge(path, 'weights.h5', make(made[1]))
    refused(path, 'weights.h5')


@pytest.mark.slow
@pytest.mark.parametrize('changes', [dict(units=2 ** 16, init_scale=0.), dict(embedding=2 ** 16, cell='lstm'),
                                     dict(units=2 ** 16, encoder_layers=4, init_scale=0., residual=True)])
def test_huge_sizes_in_the_settings_use_no_memory(path, changes):
    forge(path, 'config.json', changed_config(**changes))
    refused(path, 'weights.h5')


@pytest.mark.slow
@pytest.mark.parametrize('side', ['source', 'target'])
def test_a_vocabulary_with_a_missing_line_does_not_fit_the_weights(path, side):
    forge(path, 'vocab.%s.txt' % side, Vocabulary(WORDS.tokens[:-1]).to_bytes())
    refused(path, 'weights.h5', 'has shape')


# Settings by the thousand

SHORT = strategies.text(max_size=4)
SCALARS = (strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats()
           | SHORT | strategies.sampled_from(sorted({
               choice for row in SETTINGS.values() for choice in row.choices or ()})))
VALUES = SCALARS | strategies.lists(SCALARS, max_size=3) | strategies.dictionaries(strategies.text(max_size=2), SCALARS)
OF_KIND = {int: strategies.integers(0, 2 ** 21), float: strategies.floats(0, 2), bool: strategies.booleans(),
           str: SHORT, 'file': SHORT, 'folder': SHORT,
           'files': strategies.lists(SHORT, min_size=1, max_size=2)}


@strategies.composite
def one_setting(draw):
    """A name and a value, mostly of the right kind, so that some settings are accepted."""
    if draw(strategies.integers(0, 9)) == 0:
        return draw(strategies.text(max_size=8) | strategies.just('version')), draw(VALUES)
    row = SETTINGS[draw(strategies.sampled_from(sorted(SETTINGS)))]
    right = strategies.sampled_from(row.choices) if row.choices else OF_KIND[row.kind]
    return row.name, draw(VALUES if draw(strategies.integers(0, 9)) == 0 else right)


def told_in_one_line(action, *arguments):
    """What the action returns; None if it raises `UserError`."""
    try:
        return action(*arguments)
    except UserError as error:
        assert '\n' not in str(error)
        return None


def test_any_settings_are_accepted_or_refused_in_one_line(summary):
    tried, taken = [], []

    @given(strategies.lists(one_setting(), max_size=4).map(dict))
    @hypothesis_settings(max_examples=200)
    def any_object(values):
        tried.append(1)
        found = told_in_one_line(check_config, values, 'x', False)
        if found is not None:
            told_in_one_line(check, with_defaults(found))  # whether together they make sense
            assert check_config(parse_json(config_bytes(dict(defaults(), **found)), 'x'), 'x') == dict(
                defaults(), **found)
            taken.append(1)

    @given(strategies.binary(max_size=40) | strategies.text('{}[]":,0123456789.eE-+NaInfity\\u \n', max_size=40).map(
        lambda text: text.encode('utf-8')))
    @hypothesis_settings(max_examples=200)
    def any_bytes(content):
        tried.append(1)
        found = told_in_one_line(parse_json, content, 'x')
        assert found is None or isinstance(found, dict)

    any_object()
    any_bytes()
    summary('settings: %d tried, %d of them taken' % (len(tried), len(taken)))
    assert len(tried) / 10 < len(taken) < len(tried)
