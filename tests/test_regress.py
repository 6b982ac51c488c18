import collections
import json
import os
import shutil
import subprocess
import sys
from unittest import mock
import zipfile

import numpy as np
import pytest

import regress
from parity import compare, environment
from reference import cases, finished_rules, numpy_search, verify
from reference.numpy_model import END, NumpyModel
from command_line import UserError
from settings import with_defaults
from test_commands import ROOT, make_corpus
from storage.weights_file import array_hash
from text import subwords
from text.vocabulary import SPECIALS

PYTHONS = ['python3.13', 'python3.12', 'python3.11', 'python3.10', 'python3.9', 'python3',
           os.environ.get('PORT_PYTHON', 'python')]

OrderedDict = collections.OrderedDict


def stages(**changes):
    """A synthetic set of stages, float32, with a few of them replaced."""
    random = np.random.RandomState(0)
    arrays = OrderedDict()
    for name, shape in (('encoder_states', (2, 5, 4)), ('decoder_states', (2, 3, 4)), ('scores', (2, 3, 5)),
                        ('weights', (2, 3, 5)), ('logits', (2, 3, 7)), ('gradient/output/kernel', (4, 7))):
        arrays['padded/' + name] = random.uniform(0.5, 1., shape).astype('f')
    for name, value in changes.items():
        arrays['padded/' + name] = value
    return arrays


def compared(recorded, found, **options):
    results, ties = compare.compare_files('x.npz', recorded, found, **options)
    return compare.first_difference(results), ties, OrderedDict((result.name, result) for result in results)


def changed(arrays, name, index, by):
    found = OrderedDict((key, value.copy()) for key, value in arrays.items())
    found['padded/' + name][index] += by
    return found


# Stages

def test_equal_sets_have_no_difference():
    first, ties, results = compared(stages(), stages())
    assert first is None and ties == [] and all(result.ulp == 0 for result in results.values())


@pytest.mark.parametrize('name', ['encoder_states', 'scores', 'logits'])
def test_the_stage_that_differs_is_named_with_its_index_and_numbers(name):
    recorded = stages()
    index = (1, 2, 3)
    first, _, results = compared(recorded, changed(recorded, name, index, 0.25))
    assert (first.stage, first.index) == (name, index)
    assert abs(first.absolute - 0.25) < 1e-6 and abs(first.found - first.recorded - 0.25) < 1e-6
    assert abs(first.relative - 0.25 / recorded['padded/' + name][index]) < 1e-6
    assert [key for key, result in results.items() if result.problem] == ['padded/' + name]


def test_the_first_of_several_is_the_first_of_the_calculation_not_of_the_file():
    recorded = stages()
    found = changed(changed(recorded, 'gradient/output/kernel', (0, 0), 1), 'encoder_states', (0, 0, 0), 1)
    assert compared(OrderedDict(reversed(list(recorded.items()))), found)[0].stage == 'encoder_states'


def test_a_wrong_score_is_named_before_the_wrong_decoder_states_of_the_next_step():
    recorded = stages()
    found = changed(changed(recorded, 'scores', (0, 0, 0), 1), 'decoder_states', (0, 1, 0), 1)
    assert compared(recorded, found)[0].stage == 'scores'
    found = changed(changed(recorded, 'scores', (0, 1, 0), 1), 'decoder_states', (0, 1, 0), 1)
    assert compared(recorded, found)[0].stage == 'decoder_states'


def test_p_gen_and_the_copies_are_named_before_the_mixture_and_after_their_inputs():
    shapes = [(name, (2, 3, 4)) for name in ('attentional_states', 'vocabulary_logits', 'p_gen', 'copy_distribution',
                                             'logits', 'coverage_losses', 'token_losses')]
    recorded = OrderedDict(('padded/' + name, np.ones(shape, 'f')) for name, shape in shapes)
    for number, (name, _) in enumerate(shapes):
        found = OrderedDict((other, value + (int(later >= number))) for later, (other, value) in
                            enumerate(recorded.items()))
        assert compared(OrderedDict(reversed(list(recorded.items()))), found)[0].stage == name


def test_ulps_count_the_numbers_between_across_zero_and_types():
    for dtype in ('f4', 'f8'):
        one = np.array([1., 1., 0., -0., np.finfo(dtype).tiny], dtype)
        two = np.array([1., np.nextafter(np.array(1, dtype), np.array(2, dtype)), -0., np.nextafter(
            np.array(0, dtype), np.array(-1, dtype)), np.finfo(dtype).tiny], dtype)
        assert compare.ulps(one, two).tolist() == [0, 1, 0, 1, 0]
    below, above = [np.nextafter(np.float32(0), np.float32(sign)) for sign in (-1, 1)]
    assert compare.ulps(np.array([below]), np.array([above])).tolist() == [2]
    recorded = stages()
    found = OrderedDict(recorded)
    found['padded/logits'] = np.nextafter(np.nextafter(recorded['padded/logits'], np.float32(9)), np.float32(9))
    first, _, results = compared(recorded, found)
    assert first is None and results['padded/logits'].ulp == 2
    assert compared(recorded, found, tolerances=(0., 0.))[0].stage == 'logits'


def test_the_tolerance_is_relative_plus_absolute():
    recorded = OrderedDict(logits=np.array([[[100., 0.]]], 'f'))
    near = OrderedDict(logits=np.array([[[100.9, 0.]]], 'f'))
    assert compared(recorded, near, tolerances=(0.01, 0.))[0] is None
    assert compared(recorded, near, tolerances=(0.005, 0.))[0].index == (0, 0, 0)
    assert compared(recorded, OrderedDict(logits=np.array([[[100., 0.1]]], 'f')), tolerances=(0.01, 0.2))[0] is None
    assert compared(recorded, OrderedDict(logits=np.array([[[100., 0.1]]], 'f')), tolerances=(9., 0.))[0].index == (
        0, 0, 1)


def test_nan_differs_at_any_position():
    recorded = stages()
    found = changed(recorded, 'weights', (0, 2, 1), np.nan)
    assert compared(recorded, found, tolerances=(1., 1.))[0].stage == 'weights'


def test_all_values_for_masked_scores_are_equal_and_a_finite_score_there_differs():
    hidden = [np.array([[[0.5, value]]], 'f') for value in (-np.inf, -1e9, np.finfo('f').min)]
    for value in hidden:
        assert compared(OrderedDict(masked_scores=hidden[0]), OrderedDict(masked_scores=value))[0] is None
    assert compared(OrderedDict(masked_scores=hidden[0]),
                    OrderedDict(masked_scores=np.array([[[0.5, 0.]]], 'f')))[0].stage == 'masked_scores'


def test_all_values_for_absent_names_are_equal_and_do_not_turn_flips_into_ties():
    absent = [np.array([[[10., value]]], 'f') for value in (-np.inf, -1e9, np.finfo('f').min)]
    for value in absent:
        assert compared(OrderedDict(logits=absent[0]), OrderedDict(logits=value))[0] is None
    small = OrderedDict(logits=np.array([[[10., -85.]]], 'f'))
    assert compared(OrderedDict(logits=absent[0]), small)[0].stage == 'logits'
    logits = np.array([[[10., -np.inf]]], 'f')
    for margin, problem in ((2.7e-5, None), (2.9e-5, 'greedy')):
        recorded = searched([5, 6, 3], logits=logits)
        recorded['padded/greedy/margins'][0, 1] = margin
        first = compared(recorded, searched([5, 8, 3], logits=logits))[0]
        assert (first and first.stage) == problem


@pytest.mark.parametrize('change, told', [
    (lambda found: found.pop('padded/scores'), 'missing'),
    (lambda found: found.update({'padded/scores': found['padded/scores'][:, :2]}), 'shape (2, 2, 5)'),
    (lambda found: found.update({'padded/scores': found['padded/scores'].astype('f8')}), 'type float64'),
    (lambda found: found.update({'padded/scores': found['padded/scores'].astype('i')}), 'type int32')])
def test_a_missing_stage_another_shape_or_another_type_is_a_difference(change, told):
    found = stages()
    change(found)
    first = compared(stages(), found)[0]
    assert first.stage == 'scores' and first.problem.startswith(told)


def test_a_stage_map_renames_and_omits():
    found = OrderedDict((name.replace('padded/', 'p/').replace('gradient', 'grads'), value)
                        for name, value in stages().items() if not name.endswith('scores'))
    stage_map = {'padded': 'p', 'padded/gradient': 'p/grads', 'padded/scores': None}
    first, _, results = compared(stages(), found, stage_map=stage_map)
    assert first is None and len(results) == 5
    assert compared(stages(), found)[0].problem == 'missing'


def compare_command(tmp_path, recorded, found, *options):
    """Exit code of `compare` for two sets {file name: arrays}."""
    for folder, files in (('ref', recorded), ('new', found)):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, arrays in files.items():
            save(tmp_path / folder / name, arrays)
    return regress.main(['compare', str(tmp_path / 'ref'), str(tmp_path / 'new')] + list(options))


def test_a_row_of_the_table_gives_the_reason_where_no_number_was_compared(tmp_path, capsys):
    found = stages(scores=stages()['padded/scores'].astype('f8'), weights=stages()['padded/weights'][:, :, :4])
    del found['padded/logits']
    assert compare_command(tmp_path, {'a.npz': stages()}, {'a.npz': found}) == 1
    rows = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if line.startswith('DIFFERS')}
    assert rows['scores'].endswith('padded/scores: type float64 in place of float32')
    assert rows['weights'].endswith('padded/weights: shape (2, 3, 4) in place of (2, 3, 5)')
    assert rows['logits'].endswith('padded/logits: missing') and ' 0 ' not in rows['logits']


def test_names_that_the_reference_does_not_have_are_listed_and_fail_with_strict(tmp_path, capsys):
    found = stages()
    found['padded/beams'] = np.zeros(3)
    sets_of_files = {'a.npz': stages()}, {'a.npz': found, 'b.npz': stages()}
    assert compare_command(tmp_path, *sets_of_files) == 0
    assert 'not in the reference: b.npz, a.npz padded/beams' in capsys.readouterr().out
    assert compare_command(tmp_path, *sets_of_files, '--strict') == 1
    assert compare_command(tmp_path, *sets_of_files, '--strict', '--files', 'c*', 'a*') == 1
    del found['padded/beams']
    assert compare_command(tmp_path, *sets_of_files, '--strict', '--files', 'a*') == 0


def test_a_subset_of_the_files_is_compared_and_missing_ones_are_listed(tmp_path, capsys):
    files = {'a.npz': stages(), 'b.npz': stages(), 'c.npz': stages()}
    assert compare_command(tmp_path, files, {'b.npz': stages(), 'c.npz': stages()}) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'no stage differs: 12 arrays' and lines[-1] == 'not compared, files missing: a.npz'
    assert compare_command(tmp_path, files, {}, '--files', '[bc]*') == 0
    (tmp_path / 'map.json').write_text('{"a.npz": null}')
    assert compare_command(tmp_path, files, {}, '--stage-map', str(tmp_path / 'map.json')) == 0


def test_a_comparison_of_nothing_is_an_error(tmp_path):
    (tmp_path / 'map.json').write_text('{"padded": null}')
    for recorded, found, options in (({'a.npz': {}}, {'a.npz': stages()}, ()), ({'a.npz': {}}, {'a.npz': {}}, ()),
                                     ({'a.npz': stages()}, {'a.npz': stages()},
                                      ('--stage-map', str(tmp_path / 'map.json'))),
                                     ({'a.npz': stages()}, {'a.npz': stages()}, ('--files', 'x*'))):
        with pytest.raises(UserError, match='have no array in common'):
            compare_command(tmp_path, recorded, found, *options)


def test_the_first_updates_of_a_training_are_compared_to_a_millionth():
    weight = np.linspace(0.1, 1., 10).astype('f').reshape(2, 5)
    recorded = OrderedDict(('step_%d/parameter/x/kernel' % step, weight) for step in (1, 2, 10))
    decayed = OrderedDict((name, weight * np.float32(1. - 9e-5)) for name in recorded)
    entry = {'kind': 'training', 'tolerance': [1e-4, 1e-5]}
    results, _ = compare.compare_files('train.npz', recorded, decayed, entry=entry)
    assert [bool(result.problem) for result in results] == [True, True, False]
    recorded['losses'], decayed['losses'] = np.array([2., 1.], 'f'), np.array([2., 1.1], 'f')
    assert compared(recorded, decayed, entry=entry)[0].stage == 'step_1'    # the second loss comes after an update
    decayed['losses'] = np.array([2.1, 1.], 'f')
    assert compared(recorded, decayed, entry=entry)[0].stage == 'losses'
    del recorded['losses'], decayed['losses']
    rounded = OrderedDict((name, np.nextafter(weight, np.float32(2))) for name in recorded)
    assert compare.first_difference(compare.compare_files('train.npz', recorded, rounded, entry=entry)[0]) is None


def test_the_page_shows_the_stages_in_order_and_a_heat_map_of_each_difference(tmp_path):
    found = changed(changed(stages(), 'scores', (0, 1, 2), 0.5), 'logits', (1, 2, 3), 0.25)
    found['padded/<b>&'] = np.zeros(2)
    page = tmp_path / 'report.html'
    assert compare_command(tmp_path, {'a.npz': stages()}, {'a.npz': found}, '--html', str(page)) == 1
    text = page.read_text(encoding='utf-8')
    assert text.count('class="cells"') == 2 and text.count('#af141e') == 2      # one cell of each is the largest
    assert text.index('padded/scores</code></h3>') < text.index('padded/logits</code></h3>')
    assert '<b>' not in text and '&lt;b&gt;&amp;' in text and 'http' not in text and '<script' not in text
    rows = [text.index('<code>%s</code></td><td class="n">1' % name) for name in ('encoder_states', 'scores', 'logits')]
    assert rows == sorted(rows)


# Where

@pytest.mark.parametrize('change, told', [
    (lambda x: np.where(np.arange(4)[None, :, None] > 2, x + 1, x), 'at time step 3 only'),
    (lambda x: np.where(np.arange(4)[None, :, None] > 1, x + 1, x), 'from time step 2 on'),
    (lambda x: x * np.float32(1.5), 'a constant factor, 1.5'), (lambda x: x + 1, 'a constant offset, 1'),
    (lambda x: x[::-1], 'reversed along axis 0'), (lambda x: x[:, [2, 0, 1, 3]], 'permuted along axis 1'),
    (lambda x: x[[1, 2, 0]], 'rows permuted'), (lambda x: x[..., ::-1], 'reversed along axis 2'),
    (lambda x: x.swapaxes(1, 2), 'transposed'), (lambda x: x * 0, 'all zeros'),
    (lambda x: np.where(x > 1.5, np.nan, x), 'values are not finite'),
    (lambda x: np.where(np.arange(3)[:, None, None] == 1, x + 1, x), 'in 16 of 48 elements; in rows 1')])
def test_the_place_of_a_difference_is_described_in_words(change, told):
    recorded = np.random.RandomState(0).uniform(1., 2., (3, 4, 4)).astype('f')
    result, = compare.compare_files('x.npz', {'scores': recorded}, {'scores': change(recorded).astype('f')})[0]
    assert told in result.where, result.where


def test_a_difference_only_on_padding_is_described_so():
    recorded = stages()
    recorded['padded/source'] = np.array([[4, 5, 6, 7, 8], [4, 5, 0, 0, 0]], 'i')
    assert 'only on padding' in compared(recorded, changed(recorded, 'encoder_states', (1, 3), 1))[0].where
    assert 'only outside of padding' in compared(recorded, changed(recorded, 'encoder_states', (1, 1), 1))[0].where
    both = changed(changed(recorded, 'encoder_states', (1, 1), 1), 'encoder_states', (1, 3), 1)
    assert 'padding' not in compared(recorded, both)[0].where


# Ties

def searched(ids, **changes):
    """What greedy search found: recorded tokens [5, 6, 3], with runner-ups [7, 8, 9] and a narrow margin at 1."""
    ids = np.array([ids, [4, 4, 3]], 'i')
    arrays = OrderedDict([('logits', np.full((2, 3, 5), 10, 'f')), ('greedy/ids', ids),
                          ('greedy/lengths', np.array([ids.shape[1], 3], 'i')),
                          ('greedy/log_probabilities', -np.ones(ids.shape, 'f')),
                          ('greedy/weights', np.ones(ids.shape + (4,), 'f'))])
    if ids.shape[1] == 3:
        arrays['greedy/margins'] = np.array([[1., 1e-5, 1.], [1., 1., 1.]], 'f')
        arrays['greedy/runner_up'] = np.array([[7, 8, 9], [7, 8, 9]], 'i')
    arrays.update(changes)
    return OrderedDict(('padded/' + name, value) for name, value in arrays.items())


def flipped(ids):
    found = searched(ids)
    for name in ('log_probabilities', 'weights', 'margins'):
        found['padded/greedy/' + name] = found['padded/greedy/' + name].copy()
        found['padded/greedy/' + name][0, 1:] += 0.5
    return found


def test_the_recorded_runner_up_within_twice_the_tolerance_is_a_tie_and_later_steps_are_skipped():
    # Logits of 10 at 1e-6 relative and 4e-6 absolute: a tolerance of 1.4e-5, so margins to 2.8e-5 may flip.
    first, ties, _ = compared(searched([5, 6, 3]), flipped([5, 8, 10]))
    assert first is None
    assert [(tie.row, tie.step, tie.recorded, tie.found) for tie in ties] == [((0,), 1, 6, 8)]


def test_a_longer_or_shorter_output_after_a_tie_is_skipped_too():
    found = searched([5, 8, 3])
    for name in ('ids', 'log_probabilities', 'weights', 'margins', 'runner_up'):
        array = found['padded/greedy/' + name]
        more = np.concatenate([array, np.zeros_like(array[:, :2])], axis=1)
        more[0, 3:] = 9
        found['padded/greedy/' + name] = more
    found['padded/greedy/lengths'] = np.array([5, 3], 'i')
    first, ties, _ = compared(searched([5, 6, 3]), found)
    assert first is None and len(ties) == 1
    found['padded/greedy/ids'][1, 3] = 4
    assert compared(searched([5, 6, 3]), found)[0].stage == 'greedy'


@pytest.mark.parametrize('ids', [[5, 9, 3], [7, 6, 3], [5, 6, 9]],
                         ids=['not the runner-up', 'a wide margin', 'a wide margin at the end'])
def test_any_other_flip_differs(ids):
    first, ties, _ = compared(searched([5, 6, 3]), flipped(ids))
    assert first.stage == 'greedy' and ties == []


def test_a_flip_just_beyond_twice_the_tolerance_differs():
    for margin, problem in ((2.7e-5, None), (2.9e-5, 'greedy')):
        recorded = searched([5, 6, 3])
        recorded['padded/greedy/margins'][0, 1] = margin
        first = compared(recorded, searched([5, 8, 3]))[0]
        assert (first and first.stage) == problem


def test_a_port_need_not_have_runner_ups():
    found = searched([5, 6, 3])
    del found['padded/greedy/runner_up']
    assert compared(searched([5, 6, 3]), found)[0] is None


# Files

def save(path, arrays):
    np.savez(str(path), **arrays)
    return str(path)


def run(*arguments, python=sys.executable, cwd=ROOT):
    done = subprocess.run([python] + list(map(str, arguments)), cwd=cwd, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    return done.returncode, done.stdout.decode('utf-8'), done.stderr.decode('utf-8')


def test_compare_reports_differences_by_exit_code_and_json_without_tensorflow(tmp_path):
    one = save(tmp_path / 'one.npz', stages())
    two = save(tmp_path / 'two.npz', changed(stages(), 'weights', (1, 0, 2), 0.5))
    # Neither TensorFlow nor Keras, nor the packages of this environment besides NumPy
    blocked = 'import sys; sys.modules.update(tensorflow=None, keras=None, h5py=None); ' \
              'sys.argv[1:] = %r; import runpy; runpy.run_path("regress.py", run_name="__main__")'
    code, out, err = run('-c', blocked % ['compare', one, one])
    assert (code, err) == (0, '') and out.startswith('no stage differs')
    code, out, err = run('-c', blocked % ['compare', one, two, '--json'])
    told = json.loads(out)
    assert (code, err, told['equal'], told['first']['stage'], told['first']['index']) == (
        1, '', False, 'weights', [1, 0, 2])
    assert regress.main(['compare', one, two, '--atol', '0.6']) == 0


def test_the_report_names_the_first_stage_on_top_and_has_a_line_for_each(capsys, tmp_path):
    one = save(tmp_path / 'one.npz', stages())
    two = save(tmp_path / 'two.npz', changed(stages(), 'weights', (1, 0, 2), 0.5))
    assert regress.main(['compare', one, two]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('first stage that differs: weights, at one.npz padded/weights[1, 0, 2]')
    table = lines[next(number for number, line in enumerate(lines) if line.split()[:2] == ['stage', 'arrays']) + 1:]
    assert [line.split()[1] for line in table] == [
        'encoder_states', 'decoder_states', 'scores', 'weights', 'logits', 'gradient']
    assert [line.split()[0] for line in table] == ['same'] * 3 + ['DIFFERS'] + ['same'] * 2
    assert lines[1] == '  where: in 1 of 30 elements; in rows 1; at time step 0 only'
    assert all(line.startswith('  usual cause: ') for line in lines[2:-len(table) - 1]) and len(lines) > 10


def pickled(path):
    np.savez(str(path), evil=np.array([OSError], object))


def renamed_member(path):
    with zipfile.ZipFile(str(path), 'w') as archive:
        archive.writestr('notes.txt', 'no array')


@pytest.mark.parametrize('make', [
    lambda path: path.write_bytes(b''), lambda path: path.write_bytes(b'PK\x03\x04' + b'x' * 50),
    lambda path: path.write_bytes(b'\x80\x03]q\x00.'), pickled, renamed_member,
    lambda path: np.save(path.open('wb'), np.zeros(3)), lambda path: None],
    ids=['empty', 'cut', 'pickle', 'pickled array', 'no array', 'npy', 'missing'])
def test_a_malformed_or_pickled_file_is_refused_in_one_line(tmp_path, make):
    make(tmp_path / 'bad.npz')
    good = save(tmp_path / 'good.npz', stages())
    with pytest.raises(UserError) as refused:
        regress.main(['compare', good, str(tmp_path / 'bad.npz')])
    assert 'bad.npz' in str(refused.value) and '\n' not in str(refused.value)


@pytest.mark.parametrize('text', ['', '[]', '{"files": []}', '{"files": {"x.npz": {}}}', '{"files": {"x.npz": 1}}',
                                  '{"files": {"x.npz": {"arrays": {"step_\\u00b2/a": ""}}}}'])
def test_an_invalid_manifest_is_refused_in_one_line(tmp_path, text):
    good = save(tmp_path / 'good.npz', stages())
    (tmp_path / 'MANIFEST.json').write_text(text)
    with pytest.raises(UserError, match='MANIFEST.json: cannot be read as the manifest of a set'):
        regress.main(['compare', good, good])


@pytest.mark.parametrize('value', [3, 'ab', [1, 2, 3], None, [1, -1], [True, 0], [1, None]])
def test_an_invalid_tolerance_is_refused_in_one_line(tmp_path, value):
    good = save(tmp_path / 'good.npz', stages())
    (tmp_path / 'MANIFEST.json').write_text(json.dumps({'files': {'good.npz': {'arrays': {}, 'tolerance': value}}}))
    with pytest.raises(UserError, match='the tolerance of good.npz is not two numbers'):
        regress.main(['compare', good, good])


def test_json_of_any_depth_long_numbers_and_a_pipe_are_refused_in_one_line(tmp_path):
    good = save(tmp_path / 'good.npz', stages())
    for text, reason in (('[' * 100000, 'recursion'), ('{"a": %s}' % ('9' * 10 ** 6), 'a number of 1000000 digits')):
        (tmp_path / 'map.json').write_text(text)
        with pytest.raises(UserError, match='map.json: cannot be read as a stage map: .*' + reason):
            regress.main(['compare', good, good, '--stage-map', str(tmp_path / 'map.json')])
    os.mkfifo(str(tmp_path / 'pipe.npz'))
    with pytest.raises(UserError, match='pipe.npz: cannot be read .* not a regular file'):
        regress.main(['compare', good, str(tmp_path / 'pipe.npz')])
    (tmp_path / 'MANIFEST.json').write_text('{"files":' * 100000)
    with pytest.raises(UserError, match='MANIFEST.json: cannot be read'):
        regress.main(['compare', good, good])


@pytest.mark.parametrize('changes', [
    dict(logits=np.full((1, 2), -np.inf, 'f')), dict(logits=np.zeros((0, 2), 'f')), dict(logits=np.array(['a', 'b'])),
    {'greedy/margins': None}, {'greedy/ids': np.array(3)}, {'greedy/runner_up': np.zeros((2, 1), 'i')},
    {'greedy/ids': np.array(['a'])}, {'greedy/runner_up': None}, {'greedy/margins': np.array(1.)}],
    ids=['hidden', 'empty', 'text', 'no margins', '0-d', 'short', 'text ids', 'no runner-up', '0-d margins'])
def test_odd_sets_are_compared_without_a_traceback(changes):
    odd = searched([5, 6, 3])
    for name, value in changes.items():
        odd['padded/' + name] = value
    odd = OrderedDict((name, value) for name, value in odd.items() if value is not None)
    for recorded, found in ((odd, searched([5, 8, 3])), (searched([5, 6, 3]), odd), (odd, odd)):
        compare.compare_files('x.npz', recorded, found)


@pytest.mark.parametrize('dtype', ['longdouble', 'complex64'])
def test_numbers_of_more_than_64_bits_are_refused(tmp_path, dtype):
    path = save(tmp_path / 'x.npz', {'scores': np.ones(3, dtype)})
    with pytest.raises(UserError, match='x.npz: cannot be read'):
        regress.main(['compare', path, path])


def test_a_small_file_of_a_large_array_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    bomb = tmp_path / 'bomb.npz'
    with zipfile.ZipFile(str(bomb), 'w', zipfile.ZIP_DEFLATED) as archive:
        header = str({'descr': '<f4', 'fortran_order': False, 'shape': (2 ** 29,)}).ljust(117).encode() + b'\n'
        archive.writestr('scores.npy', b'\x93NUMPY\x01\x00v\x00' + header)
    monkeypatch.setattr(np.lib.format, 'read_array', lambda *_, **__: pytest.fail('is loaded'))
    with pytest.raises(UserError, match='MANIFEST.json declares no such size'):
        regress.main(['compare', str(bomb), str(bomb)])
    good = tmp_path / 'good.npz'
    np.savez(str(good), scores=np.ones(3, 'f'))
    monkeypatch.undo()
    assert regress.main(['compare', str(good), str(bomb)]) == 1      # another shape, told by the header


def test_names_with_control_characters_are_printed_escaped(tmp_path, capsys):
    one = save(tmp_path / 'one.npz', {'a\x1b[31m\nb': np.ones(2)})
    two = save(tmp_path / 'two.npz', {'a\x1b[31m\nb': np.zeros(2), 'c\x07': np.ones(1)})
    assert regress.main(['compare', one, two]) == 1
    out = capsys.readouterr().out
    assert '\x1b' not in out and '\x07' not in out and r'a\x1b[31m\nb' in out and r'c\x07' in out


def test_a_truncated_file_is_refused_at_any_length(tmp_path):
    data = open(save(tmp_path / 'good.npz', stages()), 'rb').read()
    path = tmp_path / 'bad.npz'
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(compare.SetError):
            compare.read_arrays(str(path))


# Recording, on a set that is made by NumPy here and read back

NAME = 'dot-lstm'


@pytest.fixture(scope='module')
def recorded():
    """A file of the committed set and its entry in the manifest."""
    files, manifest = compare.read_set(os.path.join(ROOT, 'reference'))
    return manifest, files


@pytest.mark.parametrize('name', ['local-p-gru.float64', 'general-lstm.float32', 'train-adam.float32',
                                  'train-sgd.float32', 'train-plain.float32', 'copy-lstm.float64', 'copy-gru.float32',
                                  'sample'])
def test_the_numpy_model_agrees_with_what_is_committed(recorded, name):
    manifest, files = recorded
    assert verify.disagreements(name, manifest['files'][name + '.npz'], files[name + '.npz']) == []


def test_the_manifest_lists_every_file_and_array_with_its_hash(recorded):
    manifest, files = recorded
    assert {name: list(arrays) for name, arrays in files.items()} == {
        name: list(entry['arrays']) for name, entry in manifest['files'].items()}
    for name, arrays in files.items():
        for key, value in arrays.items():
            assert manifest['files'][name]['arrays'][key] == array_hash(key, value)


@pytest.mark.parametrize('case, name', [(NAME, name) for name in (
    'padded/encoder_states', 'padded/weights', 'padded/logits', 'padded/loss',
    'padded/gradient/encoder_1/forward/kernel', 'padded/greedy/margins', 'padded/beam/rankings', 'single/context')] + [
        ('copy-lstm', name) for name in ('padded/vocabulary_logits', 'padded/p_gen', 'padded/copy_distribution',
                                         'padded/logits', 'padded/coverage_losses', 'padded/token_losses',
                                         'padded/gradient/pointer_generator/kernel')])
def test_recording_is_refused_where_one_number_is_not_that_of_the_numpy_model(recorded, case, name):
    manifest, files = recorded
    arrays = OrderedDict(files[case + '.float64.npz'])
    moved = arrays[name] = arrays[name].copy()
    moved[np.unravel_index(np.argmax(np.where(np.isfinite(moved), np.abs(moved), 0)), moved.shape)] *= 1.01
    first = compare.first_difference(verify.disagreements(case, manifest['files'][case + '.float64.npz'], arrays))
    assert first.name == name


def test_the_committed_set_is_small_and_its_searches_can_show_a_fault(recorded):
    folder = os.path.join(ROOT, 'reference')
    assert sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)) < 5 * 2 ** 20
    for name in cases.CASES:
        arrays = recorded[1][name + '.float32.npz']
        ids, lengths = arrays['padded/greedy/ids'], arrays['padded/greedy/lengths']
        assert len(set(lengths)) >= 3 and (ids == END).any() and max(lengths) == cases.LIMIT
        assert not arrays['padded/source'].any(axis=1).all()        # a wholly masked row
        if 'padded/copied' in arrays:
            assert ids.max() >= arrays['padded/vocabulary_logits'].shape[2]         # a name is written


def test_the_sentences_with_names_cover_the_usual_mistakes_with_names():
    random, sizes = np.random.RandomState(0), (12, 11)
    sources, targets = [[list(range(4, 4 + n)) for n in lengths] for lengths in ([7, 1, 3, 2, 0], [4, 2, 3, 5, 1])]
    copied = cases.draw_names(random, sources, targets, sizes)
    assert [len(row) for row in copied] == [len(row) for row in sources] == [7, 1, 3, 2, 0]
    assert copied[0][:2] == copied[0][4:6] == [5, 11] and sources[0][:2] == [5, 11]     # the same id, one a name
    assert copied[2] == [11, 12, 11] and sources[2] == [1, 1, 1] and max(copied[3]) < 11
    for source, ids, target in zip(sources, copied, targets):
        for word, copy in zip(source, ids):
            assert copy >= 11 if word in (1, 11) else copy == word
        assert set(target[::2]) <= set(ids or target)


def test_every_pair_of_settings_occurs_in_a_case():
    def kind(settings):
        return settings['attention'] if settings['attention'] != 'global' else settings['score']

    rows = [[kind(one), one['cell'], one['bidirectional'], one['input_feeding']]
            for one in (cases.describe(name)['model'] for name in cases.CASES) if one['score'] != 'none']
    known = [['dot', 'general', 'concat', 'scaled_dot', 'location', 'local-m', 'local-p'], ['lstm', 'gru'],
             [False, True], [False, True]]
    for one in range(4):
        for other in range(one):
            found = {(row[one], row[other]) for row in rows}
            assert len(found) == len(known[one]) * len(known[other])


def test_beam_search_of_the_numpy_model_finds_the_best_of_all_sequences():
    shapes = [(name[10:], array.shape) for name, array in compare.read_arrays(
        os.path.join(ROOT, 'reference', 'dot-gru.float32.npz')).items() if name.startswith('parameter/')]
    arrays = cases.draw_once('dot-gru', OrderedDict(shapes), np.random.RandomState(3))
    model = NumpyModel(cases.describe('dot-gru')['model'], verify.parameters_of(arrays))
    source, best = arrays['padded/source'][:1], {}

    def follow(ids, states, memory, score):
        step, states = model.step(np.array(ids[-1:] or [2]), states, memory)
        logits = step['logits'][0] - np.log(np.sum(np.exp(step['logits'][0])))
        for token in [1] + list(range(3, 11)):
            if token == END or len(ids) == 2:
                best[tuple(ids + [token])] = (score + logits[token]) / ((5. + len(ids) + 1) / 6.) ** 0.7
            else:
                follow(ids + [token], states, memory, score + logits[token])

    memory, states = model.start(source)
    follow([], states, memory, 0.)
    found, = numpy_search.beam(model, source, [3], beam_width=100, n_best=5, length_penalty=0.7)
    wanted = sorted(best.items(), key=lambda pair: -pair[1])[:5]
    assert [tuple(one.ids) for one in found] == [ids for ids, _ in wanted]
    assert np.allclose([one.ranking for one in found], [value for _, value in wanted], atol=1e-12)


@pytest.mark.parametrize('rule', ['is replaced', 'competes'])
def test_the_shipped_run_shows_another_rule_for_finished_hypotheses(recorded, rule):
    manifest, files = recorded
    arrays, entry = files['sample-finished.npz'], manifest['files']['sample-finished.npz']
    limits = 2 * np.count_nonzero(arrays['source'], axis=1) + 10
    found = finished_rules.results_by_rule(entry, verify.parameters_of(arrays), arrays['source'], limits)
    best = [[one.ids for one in row] for row in found[rule]]
    ours = [[ids[:length].tolist() for ids, length in zip(*row)]
            for row in zip(arrays['beam/ids'], arrays['beam/lengths'])]
    assert [[one.ids for one in row] for row in found['keeps its place']] == ours != best
    assert best != [[one.ids for one in row] for name in found if name not in ('keeps its place', rule)
                    for row in found[name]]


def test_rules_for_finished_hypotheses_do_as_they_say():
    def hypotheses(*pairs):
        return [numpy_search.Hypothesis(list(ids), [value], [], [], -value if ids[-1] == END else None, None)
                for ids, value in pairs]

    finished = hypotheses(((END,), -3.))
    candidates = hypotheses(((4, END), -1.), ((5, 6), -2.), ((7, 8), -4.), ((9, 9), -5.))
    for rule, live, ended in (('keeps its place', [(5, 6)], [(END,), (4, END)]),
                              ('is replaced', [(5, 6), (7, 8), (9, 9)], [(END,), (4, END)]),
                              ('competes', [(5, 6)], [(4, END), (END,)])):
        found = finished_rules.RULES[rule](candidates, finished, 3)
        assert [[tuple(one.ids) for one in group] for group in found] == [live, ended], rule
    pushed_out = finished_rules.compete(candidates[:3], finished, 2)
    assert [[tuple(one.ids) for one in group] for group in pushed_out] == [[(5, 6)], [(4, END)]]


# The commands that record and export

@pytest.fixture
def sets(recorded, monkeypatch):
    """`reference.sets` for one file, whose graph's outputs are canned: `sets.canned` may be changed."""
    from reference import sets
    manifest, files = recorded
    name = NAME + '.float32.npz'
    canned = OrderedDict((key, value.copy()) for key, value in files[name].items())
    entry = OrderedDict((key, value) for key, value in manifest['files'][name].items() if key != 'arrays')
    monkeypatch.setattr(sets, 'canned', canned, raising=False)
    monkeypatch.setattr(sets, 'file_jobs', lambda: [(name, entry, canned)])
    monkeypatch.setattr(sets, 'run_job', lambda job: (manifest['files']['sample.npz'], files['sample.npz']))
    monkeypatch.setattr(sets, 'finished_file', lambda sample: sample)
    monkeypatch.setattr(sets, 'make', lambda job: (job[0], sets.canned))
    monkeypatch.setattr(environment, 'arithmetic', lambda _: 'this processor')
    monkeypatch.setattr(environment, 'in_processes', lambda function, jobs, *_: [function(job) for job in jobs])
    return sets


def content(folder):
    return {name: (folder / name).read_bytes() for name in os.listdir(str(folder))}


@pytest.mark.slow
def test_recording_over_a_set_fails_prints_the_differences_and_changes_nothing(sets, tmp_path, capsys):
    assert regress.main(['record', str(tmp_path / 'set')]) == 0
    before = content(tmp_path / 'set')
    assert sorted(before) == ['MANIFEST.json', NAME + '.float32.npz', 'sample-finished.npz', 'sample.npz']
    sets.canned['padded/loss'] = np.nextafter(sets.canned['padded/loss'], np.float32(9))
    with pytest.raises(UserError, match='exists already'):
        regress.main(['record', str(tmp_path / 'set')])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('first stage that differs: loss, at %s.float32.npz padded/loss' % NAME)
    assert content(tmp_path / 'set') == before


def test_recording_writes_nothing_where_the_numpy_model_does_not_agree(sets, tmp_path):
    sets.canned['padded/context'][0, 0, 0] += 1e-3
    with pytest.raises(UserError, match=r'nothing is written.*padded/context\[0, 0, 0\]'):
        regress.main(['record', str(tmp_path / 'set')])
    assert not os.path.exists(str(tmp_path / 'set'))


def test_check_is_byte_for_byte_here_and_within_tolerances_elsewhere(sets, tmp_path, capsys):
    folder = str(tmp_path / 'set')
    regress.main(['record', folder])
    check = ['check', folder, '--files', NAME + '*']
    assert regress.main(check) == 0
    sets.canned['padded/loss'] = np.nextafter(sets.canned['padded/loss'], np.float32(9))
    assert regress.main(check) == 1
    environment.arithmetic = lambda _: 'another processor'
    assert regress.main(check) == 0
    assert 'arithmetic of the processor' in capsys.readouterr().err
    sets.canned['padded/loss'] = sets.canned['padded/loss'] * np.float32(1.001)
    assert regress.main(check) == 1


@pytest.mark.slow
def test_check_refuses_a_set_that_was_changed_after_recording(sets, tmp_path):
    folder = tmp_path / 'set'
    regress.main(['record', str(folder)])
    path = folder / (NAME + '.float32.npz')
    arrays = compare.read_arrays(str(path))
    arrays['padded/loss'] = arrays['padded/loss'] + 1
    path.write_bytes(sets.npz_bytes(arrays))
    with pytest.raises(UserError, match='padded/loss differs from its hash in the manifest'):
        regress.main(['check', str(folder)])


@pytest.mark.slow
def test_check_computes_some_of_the_committed_files_again():
    code, out, err = run('regress.py', 'check', '--files', 'general-lstm.float64*', 'local-p-gru.float32*', 'sample*')
    assert code == 0 and out.startswith('no stage differs'), out + err


def test_a_run_is_computed_again_with_its_own_subwords_and_spacing_marks():
    from reference import outputs
    model = subwords.train(['low lower lowest new newer newest'] * 9, 'bpe', 280)
    settings = dict(source_tokenizer='bpe', target_tokenizer='word', spacing_marks=True)
    recorded = outputs.subword_models(mock.Mock(read_file=lambda name: model), with_defaults(settings))
    assert list(recorded) == ['tokenizer/source'] and recorded['tokenizer/source'].dtype.kind == 'U'
    recorded.update(('vocabulary/' + side, np.array(SPECIALS)) for side in ('source', 'target'))
    (source, _), (target, _) = outputs.sides_of({'model': settings}, recorded)
    text = 'lowest newest'
    assert source.tokenize(text) == subwords.SubwordTokenizer.from_bytes(model, '').tokenize(text) != text.split()
    assert target.detokenize(['9', 'p', '.\u203f', 'm', '.']) == '9 p.m.'


@pytest.mark.slow
@pytest.mark.parametrize('more', [
    ['--input-feeding'],
    ['--source-tokenizer', 'bpe', '--source-vocabulary', '300', '--target-tokenizer', 'unigram', '--target-vocabulary',
     '300'],
    # Large weights: after so little training two names of a source would else be as good as one another.
    ['--copy', '--coverage-loss', '0.5', '--init-scale', '1']], ids=['input feeding', 'subwords', 'copying'])
def test_an_exported_run_is_a_bundle_that_the_numpy_model_and_check_agree_with(tmp_path, more):
    home = tmp_path / 'home'
    home.mkdir()
    make_corpus(home / 'numbers')
    (home / 'text.txt').write_text('one two\n\nnine nine nine\nunheard of\n')
    training = ['--units', '12', '--embedding', '10', '--epochs', '1', '--threads', '1', '--target-tokenizer', 'word']
    for command in (['train.py', '--data', 'numbers', '--run', 'run'] + training + more,
                    ['regress.py', 'export', 'run', 'bundle', '--input', 'text.txt', '--beam-width', '2'],
                    ['regress.py', 'check', 'bundle']):
        code, out, err = run(os.path.join(str(ROOT), command[0]), *command[1:], cwd=str(home))
        assert code == 0, out + err
    files, manifest = compare.read_set(str(home / 'bundle'))
    arrays = files['run.npz']
    given, added = manifest['files']['run.npz']['sentences']
    assert arrays['text/source'].tolist()[:given] == ['one two', 'nine nine nine', 'unheard of']
    assert added or '--copy' in more
    assert len(arrays['source']) == len(arrays['beam/ids']) == given + added and arrays['beam/ids'].shape[1] == 2
    assert manifest['files']['run.npz']['model']['units'] == 12
    weights = verify.parameters_of(arrays)
    expected = NumpyModel(manifest['files']['run.npz']['model'], weights).forward(arrays['source'], arrays['given'],
                                                                                  arrays.get('copied'))
    assert np.allclose(arrays['logits'], expected['logits'], atol=1e-5)
    assert {name for name in arrays if name.startswith('gradient/')} == {'gradient/' + name for name in weights}
    assert np.abs(arrays['gradient/output/kernel']).max() > 1e-4
    if '--copy' in more:
        size = len(arrays['vocabulary/target'])
        names = [[name for name in row if name] for row in arrays['vocabulary/names'].tolist()]
        assert names[2] == ['unheard', 'of'] and arrays['copied'][2].tolist() == [size, size + 1, 0]


# The worked port

@pytest.mark.slow
def test_the_port_to_pytorch_passes_compare(tmp_path):
    python = next((python for python in sorted(filter(None, map(shutil.which, PYTHONS))) if subprocess.call(
        [python, '-c', 'import torch'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0), None)
    if python is None:
        pytest.skip('no %s with torch: PORT_PYTHON can name one' % ', '.join(PYTHONS[:-1]))
    folder = os.path.join(str(ROOT), 'docs', 'port_example')
    code, out, err = run(os.path.join(folder, 'port.py'), 'reference', str(tmp_path / 'ported'), python=python)
    assert code == 0, err
    arguments = ['compare', 'reference', tmp_path / 'ported', '--stage-map', os.path.join(folder, 'stage_map.json')]
    code, out, err = run('regress.py', *arguments, python=python)
    assert code == 0, out + err
    # The same port with the gates of another framework fails, at the right stage.
    with open(os.path.join(folder, 'port.py'), encoding='utf-8') as stream:
        text = stream.read()
    wrong = tmp_path / 'port.py'
    wrong.write_text(text.replace('0.2 * x + 0.5', 'x / 6. + 0.5'), encoding='utf-8')
    assert run(wrong, 'reference', str(tmp_path / 'wrong'), python=python)[0] == 0
    code, out, err = run('regress.py', *arguments[:2], tmp_path / 'wrong', *arguments[3:], python=python)
    assert code == 1 and out.startswith('first stage that differs: encoder_states')


# Wrong changes to the code

@pytest.mark.slow
def test_faults_in_the_code_are_detected_at_their_stage():
    code, out, err = run('tests/mutants.py', '--only', 'mask multiplied', 'Gaussian without', 'forget bias',
                         'per batch', 'p_gen and', 'not summed')
    assert code == 0, out + err
    assert [line.split()[0] for line in out.splitlines()] == ['caught'] * 6 + ['6']


def test_every_named_change_still_fits_the_code():
    import mutants
    for mutant in mutants.NAMED:
        source, path = mutants.mutated(mutant)
        compile(source, path, 'exec')
        assert set(mutant.stages) <= set(compare.STAGES) | {mutants.TEST}
        for path, test in (file.split('::') for file in mutant.files if '::' in file):
            assert 'def %s(' % test in (ROOT / path).read_text(encoding='utf-8')
