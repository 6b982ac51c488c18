"""`regress.py convert RUN OUT`: the project's own model, layer by layer, in Keras 3."""
import argparse
import os
import shutil
import subprocess
from unittest import mock

import tf_session  # noqa: F401  first: it fixes the import order
from keras import backend as K
import pytest

import regress
from command_line import UserError
from parity import capture, convert_report, float64, own_run
from test_convert import converted, python  # noqa: F401
from test_convert_layers import OPTIONS, read, run_many
from test_predict import random_run

SMALL = dict(units=4, encoder_units=6, embedding=3)
RUNS = {
    'dot': dict(SMALL, encoder_units=4, score='dot', cell='gru', recurrent_activation='sigmoid'),
    'tied': dict(SMALL, score='general', attention_scale=True, share_vocabulary=True, tie_embeddings=True,
                 encoder_layers=2, decoder_layers=2, residual=True, bidirectional=False),
    'feeding': dict(SMALL, embedding=4, score='concat', attention_normalize=True, input_feeding=True, decoder_layers=2,
                    residual=True, tie_embeddings=True),
    'local-m': dict(SMALL, attention='local-m', window=1, score='concat', attention_units=5, input_feeding=True, hops=2,
                    cell='gru'),
    'local-p': dict(SMALL, attention='local-p', window=2, score='scaled_dot', encoder_units=4, hops=2,
                    guided_alignment=1.),
    'location': dict(SMALL, score='location', max_source_length=9, input_feeding=True),
    'none': dict(SMALL, score='none', encoder_layers=2)}


@pytest.fixture(scope='module')
def conversions(python, tmp_path_factory):  # noqa: F811
    """{name of the run: `Conversion`}."""
    folder = tmp_path_factory.mktemp('runs')
    with mock.patch.object(float64, 'write', lambda *_: False):
        for name, changes in RUNS.items():
            K.clear_session()
            (folder / name).mkdir()
            random_run(folder / name / 'run', **changes)
            capture.capture(argparse.Namespace(**dict(OPTIONS, build=None, model=str(folder / name / 'run'))),
                            str(folder / name / 'bundle'), '')
            shutil.copy(own_run.LAYERS, str(folder / name / 'new_layers.py'))
    run_many(python, [folder / name for name in RUNS])
    return {name: read(name, folder / name) for name in RUNS}


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(RUNS))
def test_every_layer_of_a_run_agrees_in_the_saved_file(conversions, name):
    found = conversions[name]
    assert not found.problems
    rows = convert_report.layers(found)
    assert not [row for row in rows if row['result'] == 'differs'] and 'encoder_1' in {row['name'] for row in rows}
    assert {row['name'] for row in rows} >= {call['name'] for call in found.manifest['calls'] if not call['parent']}


@pytest.mark.slow
def test_convert_takes_a_run_and_the_ports_of_its_layers(python, tmp_path, capsys):  # noqa: F811
    random_run(tmp_path / 'run', input_feeding=True)
    out, report = converted(capsys, tmp_path / 'new', tmp_path / 'run')
    assert out.startswith('converted: ') and report['old_keras'] == ['OldBidirectional', 'OldRNN']
    assert 'class DecoderCell' in (tmp_path / 'new' / 'new_layers.py').read_text(encoding='utf-8')
    assert 'a loss and an optimiser of its own' in out
    script = ("import os, numpy\nos.environ['KERAS_BACKEND'] = 'tensorflow'\nimport keras, old_keras, new_layers\n"
              "model = keras.saving.load_model('model.keras')\n"
              "assert model.predict([numpy.ones((2, 3)), numpy.ones((2, 5))], verbose=0).shape == (2, 5, 7)\n")
    subprocess.check_call([python, '-c', script], cwd=str(tmp_path / 'new'), stderr=subprocess.DEVNULL)


@pytest.mark.parametrize('changes, told', [(dict(copy=True), '--copy'), (dict(encoder='dmn'), 'dmn'),
                                           (dict(encoder='memory', score='dot'), 'memory')])
def test_a_run_whose_layers_have_no_port_each_is_refused_with_the_other_way(tmp_path, changes, told):
    path = str(random_run(tmp_path / 'run', **changes))
    with pytest.raises(UserError, match='run: was trained with .*%s, whose layers have no port each: .*export' % told):
        regress.main(['capture', path, str(tmp_path / 'bundle')])


def test_a_run_without_weights_is_named(tmp_path):
    path = random_run(tmp_path / 'run')
    os.unlink(str(path / 'weights.h5'))
    with pytest.raises(UserError, match='run: has no weights yet: train it first'):
        regress.main(['capture', str(path), str(tmp_path / 'bundle')])
