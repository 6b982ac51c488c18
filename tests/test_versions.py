"""Other versions: the traps they bring, in one line where our code does not run, the page, and one other stack."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import regress
from command_line import UserError
from parity import version_traps
from test_commands import ROOT, run

sys.path.insert(0, str(ROOT / 'benchmarks'))
import stacks  # noqa: E402  benchmarks is on the path now
import version_page  # noqa: E402

HIDES, ALL_VALID = np.array([[True, True], [True, False]]), np.ones((2, 2), bool)


def keys(manifest, **arrays):
    return [trap.key for trap in version_traps.VERSION_TRAPS if trap.applies(manifest, arrays)]


def manifest(call, **training):
    entry = dict({'name': 'here', 'class': 'Dense', 'config': {}, 'inputs': ['x'], 'outputs': ['out'], 'parent': '',
                  'input_masks': [None], 'output_masks': [None], 'weights': []}, **call)
    return {'calls': [entry], 'output_arrays': ['out'], 'training': training}


def test_a_masked_loss_is_listed_where_the_mask_of_a_trained_output_hides_a_step():
    entry = manifest({'output_masks': ['mask']}, optimizer='SGD', config={})
    assert keys(entry, mask=HIDES) == ['masked_loss'] and keys(entry, mask=ALL_VALID) == []
    assert keys(dict(entry, training={}), mask=HIDES) == [] and keys(dict(entry, output_arrays=[]), mask=HIDES) == []


def test_both_directions_are_listed_where_a_step_is_hidden_and_steps_are_returned():
    def entry(steps):
        return manifest({'class': 'Bidirectional', 'input_masks': ['mask'], 'config': {
            'layer': {'class_name': 'LSTM', 'config': {'return_sequences': steps}}}})
    assert keys(entry(True), mask=HIDES) == ['bidirectional_zeros']
    assert keys(entry(True), mask=ALL_VALID) == [] and keys(entry(False), mask=HIDES) == []


def test_clipping_is_listed_where_the_norm_of_all_gradients_exceeds_the_limit():
    def entry(limit):
        return manifest({'weights': ['parameter/w', 'parameter/b']}, optimizer='SGD', config={'clipnorm': limit})
    arrays = {'gradient/w': np.array([3., 0.]), 'gradient/b': np.array([4.])}
    assert keys(entry(4.9), **arrays) == ['clipnorm_each'] and keys(entry(5.1), **arrays) == []
    assert keys(entry(4.9), **{'gradient/w': np.array([9.])}) == []     # of one gradient both are the same


def test_a_frozen_norm_a_counted_rate_and_a_nested_model_with_a_mask_are_listed():
    frozen = {'class': 'BatchNormalization', 'config': {'trainable': False}}
    assert keys(manifest(frozen, optimizer='SGD', config={})) == ['frozen_norm'] and keys(manifest(frozen)) == []
    assert keys(manifest(dict(frozen, config={'trainable': True}), optimizer='SGD', config={})) == []
    assert keys(manifest({}, optimizer='SGD', config={'decay': 0.1})) == ['early_count']
    assert keys(manifest({}, optimizer='Adam', config={})) == ['early_count']
    assert keys(manifest({}, optimizer='SGD', config={'decay': 0.})) == []
    nested = manifest({'class': 'Model', 'input_masks': ['mask']})
    nested['calls'].append(dict(nested['calls'][0], **{'name': 'here/inner', 'class': 'Dense', 'parent': 'here'}))
    assert keys(nested, mask=HIDES) == ['masked_model'] and keys(nested, mask=ALL_VALID) == []


def test_a_fixed_phase_is_listed_where_the_averages_of_a_norm_are_not_the_means_of_its_batch():
    def entry(phase, more=(), **training):
        call = {'class': 'BatchNormalization', 'config': dict({'axis': 1}, **dict(more)),
                'weights': ['gamma', 'mean', 'variance']}
        return dict(manifest(call, **training), keras={'learning_phase': phase})
    x, mean = np.arange(24.).reshape(2, 3, 4), np.array([7.5, 11.5, 15.5])
    assert keys(entry(1), x=x, mean=mean + 1) == ['fixed_phase'] and keys(entry(1), x=x, mean=mean) == []
    assert keys(entry(0), x=x, mean=mean + 1) == keys(entry(None), x=x, mean=mean + 1) == []
    trained, frozen = dict(optimizer='SGD', config={}), {'trainable': False}
    assert keys(entry(0, **trained), x=x, mean=mean + 1) == ['fixed_phase']
    assert keys(entry(0, frozen, **trained), x=x, mean=mean + 1) == []      # its averages, either way
    assert keys(entry(None, frozen, **trained), x=x, mean=mean + 1) == ['frozen_norm']
    assert keys(entry(1, {'axis': 9}), x=x, mean=mean + 1) == keys(entry(1), x=x, mean=mean[:2]) == []


def test_averages_are_listed_where_the_first_update_changes_them():
    entry = manifest({'class': 'BatchNormalization', 'weights': ['mean', 'variance']})
    changed = {'mean': np.zeros(2), 'step_1/mean': np.array([0., 0.1])}
    assert keys(entry, **changed) == ['first_averages'] and keys(entry, mean=np.zeros(2)) == []
    assert keys(entry, **dict(changed, mean=changed['step_1/mean'])) == []
    assert keys(manifest({'class': 'Dense', 'weights': ['mean', 'variance']}), **changed) == []


@pytest.mark.parametrize('config, mask, applies', [
    ({'return_sequences': True}, [[False, True], [True, True]], True),      # a first step that is hidden
    ({'return_sequences': True}, [[True, False], [True, True]], False),
    ({}, [[False, True], [True, True]], False),         # the last output is that of a valid step
    ({}, [[False, False], [True, True]], True),
    ({'go_backwards': True, 'return_sequences': True}, [[True, False], [True, True]], True),
    ({'go_backwards': True, 'return_sequences': True}, [[False, True], [True, True]], False)])
def test_a_first_state_is_listed_where_the_mask_hides_the_steps_whose_output_it_is(config, mask, applies):
    entry = manifest({'class': 'GRU', 'inputs': ['x', 'state'], 'input_masks': ['mask', None], 'config': config})
    state = np.ones((2, 3))
    assert keys(entry, mask=np.array(mask), state=state) == ['masked_start'] * applies
    assert keys(entry, mask=np.array(mask), state=0 * state) == []      # zeros either way
    assert keys(manifest(dict(entry['calls'][0], inputs=['x'])), mask=np.array(mask), state=state) == []


def test_a_second_call_and_old_defaults_are_listed():
    assert keys(dict(manifest({}), nested_calls_that_differ=['inner#2'])) == ['own_masks']
    gru = {'class': 'GRU', 'config': {'recurrent_activation': 'hard_sigmoid', 'reset_after': False}}
    both = {'class': 'Bidirectional', 'config': {'layer': {'class_name': 'LSTM', 'config': {
        'recurrent_activation': 'hard_sigmoid'}}}}
    assert keys(manifest(gru)) == keys(manifest(both)) == ['other_defaults']
    new = {'recurrent_activation': 'sigmoid', 'reset_after': True}
    assert keys(manifest({'class': 'GRU', 'config': new})) == []
    for name, rate, listed in (('Adagrad', 0.01, True), ('Adagrad', 0.001, False), ('SGD', 0.01, False)):
        assert keys(manifest({}, optimizer=name, config={'lr': rate})) == ['other_defaults'] * listed


def test_rows_that_differ_in_one_version_are_one_in_words():
    rows = ['tf1.14.0-keras2.2.4', 'tf1.15.5-keras2.2.4', 'tf2.6.2-tf.keras', 'tf2.16.2-tf_keras2.16.0',
            'keras3.15.1-jax', 'keras3.15.1-torch', 'keras3.15.1-plain']
    assert version_page.together(rows) == (
        'Keras 2.2.4 on TensorFlow 1.14.0 and 1.15.5; `tf.keras` of TensorFlow 2.6.2; `tf_keras` 2.16.0; '
        'Keras 3.15.1 with the [remedies](traps.md), on jax and torch; Keras 3.15.1')


def test_the_tests_of_a_row_are_counted():
    assert version_page.passed('26 failed, 505 passed, 203 deselected, 9 warnings') == '505 of 531'
    assert version_page.passed('2 passed, 1 error') == '2 of 3' and version_page.passed('no module') == 'no module'


@pytest.mark.parametrize('stages, beyond, told', [
    ([], None, 'none'), (['gradient', 'p_gen'], None, '`p_gen`'), (['loss'], 'loss', '**loss**'),
    (['step_1', 'logits', 'loss'], 'loss', '`logits`, **loss**')])
def test_the_first_difference_is_that_of_the_calculation_and_the_one_beyond_rounding(stages, beyond, told):
    check = {'stages': {stage: ['1e-7', '1e-6', 9] for stage in stages}, 'first': beyond}
    assert version_page.first_difference(check) == told


def test_an_answer_names_what_changes():
    same = {'stages': {}, 'first': None}
    row = {'stack': 'tf1.15.5-keras2.2.4', 'module': '', 'check': dict(same, arrays=1), 'bundles': {'clipped': same}}
    assert version_page.answer(row, {}) == (version_page.SAFE, 'nothing')
    close = dict(same, stages={'logits': ['1e-7', '1e-6', 9]})
    assert version_page.answer(dict(row, bundles={'masked': close}), {}) == (version_page.ROUNDING, 'the last bits')
    said, what = version_page.answer(dict(row, check=close), {})
    assert said == version_page.ROUNDING and "this project's model, not of" in what
    other = {'clipped': dict(same, first='step_1'), 'new': dict(same, first='out'), 'odd': {'error': 'TypeError'},
             'nested': {'error': 'GRU does not support masking'}}
    assert version_page.answer(dict(row, bundles=other), {}) == (
        version_page.CHANGES, 'nested models with a mask are refused; `clipnorm`; `new` at `out`; `odd` is refused')
    assert version_page.answer(dict(row, check={'error': 'regress.py: no keras: install it'}), {}) == (
        version_page.STOPS, 'no keras')
    half = {'tf1.15.5-keras2.2.4': row, 'tf1.14.0-keras2.2.4': {'stack': 'x', 'module': '', 'bundles': {'adam': same}}}
    half['tf1.13.1-keras2.2.4'] = {'stack': 'x', 'module': '', 'check': close}
    assert len(version_page.answers(half)) == 3     # without our own check, or without models, a row has no answer yet
    rows = {'LSTM': {'recurrent_activation': 'sigmoid', 'implementation': 2}}, {'LSTM': {
        'recurrent_activation': 'hard_sigmoid', 'implementation': 1}}
    assert version_page.other_defaults({'defaults': rows[0]}, rows[1]) == {
        ('LSTM', 'recurrent_activation'): ('"hard_sigmoid"', '"sigmoid"')}


def test_the_tables_of_the_page_are_those_of_the_measured_rows_and_of_the_traps():
    with open(version_page.PAGE, encoding='utf-8') as stream:
        text = stream.read()
    assert version_page.page_with_tables(text, version_page.read_rows()) == text, 'run benchmarks/version_map.py page'
    assert text.count('written by benchmarks/version_map.py page') == len(version_page.TABLES)


def test_every_measured_row_has_a_lock_file_with_one_hash_a_package():
    for name, row in version_page.read_rows().items():
        with open(stacks.path_of(row['stack'], '.txt'), encoding='utf-8') as stream:
            lines = [line for line in stream.read().splitlines() if not line.startswith('#')]
        assert lines and all(line.count('--hash=sha256:') == 1 for line in lines), name


@pytest.mark.parametrize('command, name, text, told', [
    ('check', 'tensorflow', '__version__ = "2.6.2"', 'tensorflow 2.6.2 is installed, and this program needs'),
    ('check', 'tensorflow', 'raise ImportError("no such\\n  library")', 'cannot be imported here (no such library): '),
    ('capture', 'keras', '__version__ = "3.15.1"', 'keras 3.15.1 is installed, and this program needs 2.2 or 2.3'),
    ('check', 'keras', 'import os; os.no_such_name', "keras cannot be imported here (module 'os' has no attribute")])
def test_check_and_capture_end_in_one_line_on_other_versions(tmp_path, command, name, text, told):
    (tmp_path / (name + '.py')).write_text(text)
    arguments = [command] + (['old.h5', str(tmp_path / 'bundle')] if command == 'capture' else [])
    result = run('regress.py', *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    lines = [line for line in result.stderr.splitlines() if line.startswith('regress.py: ')]
    assert result.code == 1 and told in lines[0] and result.stderr.splitlines()[-1] == lines[0]


# One other stack

NAME = 'tf1.15.5-keras2.2.4'


@pytest.fixture(scope='session')
def other_stack():
    """The Python of TensorFlow 1.15.5, installed from its lock file."""
    if stacks.find_python('3.6') is None:
        pytest.skip('no CPython 3.6 on PATH or in pyenv, which another stack needs')
    try:
        return stacks.make(NAME)
    except UserError as error:
        pytest.skip('the other stack cannot be installed: %s' % error)


@pytest.mark.slow
def test_tensorflow_1_15_gives_the_figures_of_its_row(other_stack):
    """The same arithmetic on any processor with FMA; on another one the figures are smaller."""
    files = ['dot-lstm.float32.npz', 'dot-lstm.float64.npz', 'train-plain.float32.npz']
    done = subprocess.run([other_stack, 'regress.py', 'check', '--json', '--files'] + files, cwd=str(ROOT),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=''))
    report = json.loads(done.stdout.decode('utf-8'))
    assert done.returncode == 0 and report['equal'] and 'version tensorflow' in done.stderr.decode('utf-8')
    row = version_page.read_rows()[NAME]
    measured, found = row['check']['stages'], {}
    assert version_page.answer(row, {})[0] == version_page.ROUNDING and row['check']['first'] is None
    for one in report['arrays']:
        found[one['stage']] = max(found.get(one['stage'], 0), one['ulp'])
    assert found['parameter'] == 0 and found['loss'] <= measured['loss'][2]
    for stage in ('encoder_states', 'decoder_states', 'logits'):
        assert 0 <= found[stage] <= measured[stage][2], stage
    # Other products than in 1.12, on this processor too, if the one of the row has what this one has.
    assert found['logits'] == 922 or 'fma' not in open('/proc/cpuinfo', encoding='utf-8').read()


@pytest.mark.slow
def test_tf_keras_of_1_15_changes_what_its_row_says(other_stack, tmp_path, capsys):
    expected = {'phased': None, 'frozen': None, 'masked': 'both', 'masked_loss': 'losses', 'started': 'gru',
                'twice': 'inner#2', 'clipped': 'step_1', 'normed': 'step_1'}    # all in one process, phased first
    row = version_page.read_rows()['tf1.15.5-tf.keras']['bundles']
    assert {model: row[model]['first'] for model in expected} == expected
    jobs = {model: [str(tmp_path / model), str(tmp_path / (model + '-there'))] for model in expected}
    for model, (bundle, _) in jobs.items():
        build = str(ROOT / 'benchmarks' / 'version_models.py') + ':' + model
        assert regress.main(['capture', '--build', build, bundle]) == 0
    done = subprocess.run([other_stack, str(ROOT / 'benchmarks' / 'adapt_all.py'), 'tf_keras',
                           json.dumps(list(jobs.values()))],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=''))
    assert json.loads(done.stdout.decode('utf-8').splitlines()[-1]) == {}
    capsys.readouterr()
    for model, (bundle, out) in jobs.items():
        files = [] if os.path.isfile(os.path.join(out, 'training.npz')) else ['--files', 'forward.npz']
        regress.main(['compare', bundle, out, '--json', '--stage-map', os.path.join(out, 'stage_map.json')] + files)
        first = json.loads(capsys.readouterr().out)['first']
        assert (first and first['stage']) == expected[model], model
