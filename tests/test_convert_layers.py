"""`regress.py convert` on models of `old_layers`: one process converts and checks all of them."""
import argparse
import json
import os
import subprocess
from unittest import mock

import tf_session  # noqa: F401  first: it fixes the import order
from keras import backend as K
import pytest

import old_layers
from parity import capture, convert, convert_report, float64
from test_commands import ROOT
from test_convert import python  # noqa: F401

BUILDS = old_layers.__file__ + ':%s'
ALL = old_layers.CONVERTED + old_layers.TRAINED + tuple(old_layers.REFUSED)
OPTIONS = dict(model=None, weights=None, by_name=False, custom=None, trust=False, loss=None, optimizer=None,
               inputs=None, targets=None, dropout=False, float64=False, steps=convert.STEPS)
KEPT = (old_layers.tagger, old_layers.recurrent)


@pytest.fixture(scope='module')
def conversions(python, tmp_path_factory):  # noqa: F811
    """{name of the model: `Conversion`}."""
    folder = tmp_path_factory.mktemp('old')
    paths = {build.__name__: folder / build.__name__ for build in ALL}
    with mock.patch.object(float64, 'write', lambda *_: False):
        for build in ALL:
            K.clear_session()
            paths[build.__name__].mkdir()
            with mock.patch.object(capture.old_model, 'build', lambda _, build=build: old_layers.drawn(build())):
                capture.capture(argparse.Namespace(build=BUILDS % build.__name__, **OPTIONS),
                                str(paths[build.__name__] / 'bundle'), '')
    for build in KEPT:
        paths[build.__name__ + '-kept'] = kept = folder / (build.__name__ + '-kept')
        kept.mkdir()
        (kept / 'bundle').symlink_to(paths[build.__name__] / 'bundle')
    run_many(python, paths.values())
    return {name: read(name, path) for name, path in paths.items()}


def run_many(python, folders):  # noqa: F811
    """Converts and checks the bundles in some folders, in one other process."""
    environment = {key: value for key, value in os.environ.items() if key not in convert.ENVIRONMENT}
    subprocess.check_call([python, '-W', 'ignore', str(ROOT / 'tests' / 'convert_many.py')] + list(map(str, folders)),
                          env=environment)


def read(name, path):
    """The `Conversion` of what the other process wrote."""
    made = convert.Conversion(name, str(path / 'bundle'), str(path))
    made.facts = json.loads((path / 'model' / 'conversion.json').read_text(encoding='utf-8'))
    if not made.problems:
        stages = str(path / 'stages')
        made.compared = convert.compare_forward(made.bundle, stages)
        made.training = convert.compare_training(made.bundle, stages, made.facts, made.manifest['training'])
    return made


@pytest.mark.slow
@pytest.mark.parametrize('name', [build.__name__ for build in old_layers.CONVERTED + old_layers.TRAINED] + [
    build.__name__ + '-kept' for build in KEPT])
def test_every_layer_of_the_saved_file_agrees(conversions, name):
    found = conversions[name]
    assert not found.problems
    rows = convert_report.layers(found)
    assert not [row for row in rows if row['result'] == 'differs']
    assert {row['name'] for row in rows} >= {call['name'] for call in found.manifest['calls'] if not call['parent']}


@pytest.mark.slow
@pytest.mark.parametrize('build', old_layers.REFUSED, ids=lambda build: build.__name__)
def test_what_keras_3_cannot_compute_is_refused_with_a_reason(conversions, build):
    found = conversions[build.__name__]
    assert '%(call)s: %(why)s' % found.problems[0] == old_layers.REFUSED[build]


@pytest.mark.slow
@pytest.mark.parametrize('name', [build.__name__ for build in old_layers.TRAINED[:-1]] + ['tagger-kept'])
def test_the_training_goes_on_as_before(conversions, name):
    good, wrong = conversions[name].training
    assert len(good) >= 2 and not wrong


@pytest.mark.slow
def test_where_the_training_goes_another_way_the_report_says_so(conversions):
    found = conversions['tagger']
    assert found.facts['scaled'] == ['last/lstm', 'last', 'both']
    assert any('1.2 times' in note for note in found.facts['not_carried'])
