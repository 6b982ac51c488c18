"""The training loop in one process, on small models: decisions, checkpoints and messages for given scores."""
import collections
import os
import time

import tf_session  # noqa: F401  first: it fixes the import order
import numpy as np
import pytest
from keras import backend as K
from text.corpus_builder import encode_pairs
from text.vocabulary import Vocabulary
from storage.run_directory import RunDirectory
from training import initial_weights
from training.schedule import first_state
from command_line import UserError
from settings import defaults, with_defaults
from small_models import SMALL
from training.trainer import Trainer

WORDS = Vocabulary(['<pad>', '<unk>', '<s>', '</s>'] + list('abcdefgh'))
PAIRS = 12
VOCABULARIES = {'vocab.%s.txt' % side: WORDS.to_bytes() for side in ('source', 'target')}


def corpus():
    random = np.random.RandomState(0)
    source, target = [[random.choice(list('abcdefgh'), random.randint(1, 5)).tolist() for _ in range(PAIRS)]
                      for _ in range(2)]
    return encode_pairs(source, target, WORDS, WORDS, lines=range(10, 10 * PAIRS + 1, 10))


def start(path, perplexities, **values):
    """A run and its `Trainer`, whose validations have these perplexities in order. Three updates make an epoch."""
    run = RunDirectory.create(str(path), dict(defaults(), **SMALL), VOCABULARIES, {})
    chosen = with_defaults(dict(SMALL, cell='gru', score='dot', units=4, bidirectional=False, batch_size=4,
                                epochs=len(perplexities), **values))
    encoded = corpus()
    made = Trainer(chosen, len(WORDS), len(WORDS), encoded, encoded, run)
    finds(made, perplexities)
    return run, made


def finds(trainer, perplexities):
    given = iter(perplexities)
    trainer.evaluate = lambda _: (np.log(next(given)), .5)


def resume(run, trainer):
    """Restores the last checkpoint; the graph stays, since another one would have other names."""
    trainer._set_weights([np.zeros(K.int_shape(weight)) for weight in trainer.weights])
    trainer.state = first_state()
    trainer._restore(*run.read_checkpoint())


def weights_of(run, trainer):
    """The arrays of weights.h5, in the order of the model's trainable weights."""
    expected = [(layer.name, [(weight.name, K.int_shape(weight), np.dtype('f')) for weight in layer.weights])
                for layer in trainer.keras_model.layers if layer.weights]
    found = dict(run.read_weights(expected))
    values = {weight.name: value for layer in trainer.keras_model.layers if layer.weights
              for weight, value in zip(layer.weights, found[layer.name])}
    return [values[weight.name] for weight in trainer.weights]


def in_checkpoint(run, trainer, step, kind='model'):
    """The model's weights, or their averages, in the kept checkpoint of this step."""
    pointer, = [one for one in trainer.state.kept if one['step'] == step]
    arrays, _ = run.read_checkpoint({key: pointer[key] for key in ('file', 'sha256', 'step')})
    variables = trainer.weights if kind == 'model' else trainer.optimizer.averages
    return [arrays['%s/%s' % (kind, weight.op.name)] for weight in variables]


def files(run):
    return sorted(os.listdir(run.file('checkpoint')))


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other)) and len(one) == len(other) > 5


@pytest.mark.slow
def test_the_best_weights_and_the_best_checkpoints_are_kept(session, tmp_path, capsys):
    run, trainer = start(tmp_path / 'run', [9., 5., 7., 6., 8.], keep=2)
    trainer.fit()
    assert files(run) == ['12.h5', '15.h5', '6.h5', 'last']  # the two best and the last
    assert [one['step'] for one in trainer.state.kept] == [6, 12]
    assert same(weights_of(run, trainer), in_checkpoint(run, trainer, 6))
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith('epoch')]
    assert ['(best)' in line for line in told] == [True, True, False, False, False]


@pytest.mark.slow
def test_patience_and_plateau_continue_in_a_resumed_trainer(session, tmp_path):
    scores = [9., 5., 7., 6., 5., 8., 8., 8.]
    values = dict(patience=4, decay='plateau', decay_patience=2, decay_factor=.5)
    run, trainer = start(tmp_path / 'run', scores, **values)
    trainer.fit()
    assert (trainer.state.epoch, trainer.state.since_best, trainer.state.best) == (6, 4, pytest.approx(5.))
    assert [row['learning_rate'] for row in trainer.state.log] == [2e-3] * 4 + [1e-3] * 2
    assert trainer.state.rate_scale == .25
    # Patience raised: it goes on from there, as it would have.
    resume(run, trainer)
    trainer.settings.patience = 6
    trainer.fit()
    assert (trainer.state.epoch, trainer.state.since_best) == (8, 6)
    assert [row['learning_rate'] for row in trainer.state.log[6:]] == [5e-4] * 2 and trainer.state.rate_scale == .125


@pytest.mark.slow
@pytest.mark.parametrize('averaging, kind', [(0., 'model'), (.5, 'optimizer')])
def test_the_mean_of_checkpoints_becomes_the_weights_if_it_is_better(session, tmp_path, averaging, kind):
    scores = [9., 5., 7., 6.]
    run, trainer = start(tmp_path / 'run', scores + [4.], average=3, averaging=averaging)
    trainer.settings.epochs = 4
    trainer.fit()
    parts = [in_checkpoint(run, trainer, step, kind) for step in (6, 9, 12)]
    if averaging:  # what was validated is not what training goes on from
        assert not same(in_checkpoint(run, trainer, 12, 'model'), parts[2])
    mean = weights_of(run, trainer)
    for index, found in enumerate(mean):
        assert np.max(np.abs(found - sum(part[index].astype('f8') for part in parts) / 3)) < 1e-7
    assert not same(mean, parts[0])
    assert trainer.state.best == pytest.approx(5.)  # that of one checkpoint: what more epochs would be measured by
    # Ended once more with a mean that is worse, weights.h5 is the best alone again.
    resume(run, trainer)
    finds(trainer, [5.5])
    trainer.fit()
    assert same(weights_of(run, trainer), parts[0])


@pytest.mark.slow
def test_validation_between_epochs_counts_the_training_since_the_one_before(session, tmp_path):
    run, trainer = start(tmp_path / 'run', [9., 8., 7., 6., 5., 4.], validate_every=2)
    trainer.settings.epochs = 2
    sums, validate = [], trainer._validate

    def recorded():
        sums.append(trainer.state.sums[2])
        validate()
    trainer._validate = recorded
    trainer.fit()
    assert [(row['epoch'], row['step']) for row in trainer.state.log] == [(1, 2), (1, 3), (2, 4), (2, 6)]
    tokens = int(corpus().lengths[1].sum()) + PAIRS  # each target has an end besides
    assert sum(sums[:2]) == sum(sums[2:]) == tokens
    assert (trainer.state.epoch, trainer.state.position, trainer.state.validated) == (2, 0, 6)


@pytest.mark.slow
def test_a_decoded_metric_decides_and_is_in_the_log(session, tmp_path):
    run, trainer = start(tmp_path / 'run', [9., 8., 7.], metric='bleu', keep=1)
    given = iter([10., 30., 20.])
    trainer.decoded_score = lambda: next(given)
    trainer.fit()
    assert [row['val_bleu'] for row in trainer.state.log] == [10., 30., 20.]
    assert (trainer.state.best, [one['step'] for one in trainer.state.kept]) == (30., [6])
    assert same(weights_of(run, trainer), in_checkpoint(run, trainer, 6))


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_reported_with_step_lines_and_last_good_checkpoint(session, tmp_path):
    run, trainer = start(tmp_path / 'run', [9., 8.])
    trainer.settings.epochs = 1
    trainer.fit()
    trainer.settings.epochs = 2
    plan = trainer.train.plan(4, trainer.settings.seed, 1, shuffle=True)
    update = trainer.update

    def ruin(group):
        if trainer.state.update == 4:
            trainer._set_weights([np.full(K.int_shape(weight), np.nan) for weight in trainer.weights])
        update(group)
    trainer.update = ruin
    with pytest.raises(UserError) as caught:
        trainer.fit()
    lines = ', '.join(str(line) for line in sorted(10 * (index + 1) for index in plan[1]))
    assert trainer._lines(range(12)) == 'lines 10, 20, 30, 40, 50, 60, 70, 80 and 4 more of the training text'
    assert str(caught.value) == (
        'the loss is nan at step 5 (batch 2 of epoch 2: lines %s of the training text); the last good checkpoint is '
        '%s; train again with a lower --learning-rate' % (lines, run.file('checkpoint/3.h5')))
    assert run.read_checkpoint()[1]['update'] == 3


@pytest.mark.slow
def test_a_forged_checkpoint_of_another_state_or_shape_is_refused(session, tmp_path):
    run, trainer = start(tmp_path / 'run', [9.])
    trainer.fit()
    arrays, state = run.read_checkpoint()
    name = 'model/' + trainer.weights[0].op.name
    for changed_arrays, changed_state in (
            (arrays, dict(state, position=99)), (arrays, dict(state, log=[{}])), (arrays, dict(state, sums='x')),
            (dict(arrays, more=np.zeros(1)), state), (dict(arrays, **{name: np.zeros((2, 2), 'f')}), state)):
        with pytest.raises(UserError) as caught:
            trainer._restore(changed_arrays, changed_state)
        assert '--overwrite' in str(caught.value)
    trainer._restore(arrays, state)


def half_a_minute_each(trainer):
    """Makes every update of a trainer take half a minute by its clock."""
    update = trainer.update

    def slow(group):
        update(group)
        trainer.state = trainer.state._replace(seconds=trainer.state.seconds + 30)
    trainer.update = slow


@pytest.mark.slow
def test_the_limit_of_time_ends_at_the_next_update_with_a_validation_and_more_time_continues_from_there(
        session, tmp_path):
    run, trainer = start(tmp_path / 'run', [9., 8., 7.], max_minutes=1.)
    trainer.settings.epochs = 2
    half_a_minute_each(trainer)
    trainer.fit()
    assert (trainer.state.update, trainer.state.validated, trainer.state.best) == (2, 2, pytest.approx(9.))
    assert trainer._left() == 0
    assert same(weights_of(run, trainer), K.batch_get_value(trainer.weights))  # for predict.py
    with open(run.file('log.csv')) as stream:
        assert [line.split(',')[1] for line in stream] == ['step', '2']
    # The checkpoint is that of a training that goes on: it has had no validation.
    state = run.read_checkpoint()[1]
    assert (state['update'], state['position'], state['validated'], state['log'], state['best']) == (2, 2, 0, [], None)
    resume(run, trainer)
    trainer.settings.max_minutes = 2.
    assert 0 < trainer._left() <= 60
    trainer.fit()
    assert [row['step'] for row in trainer.state.log] == [3, 4] and trainer.state.best == pytest.approx(7.)
    assert run.read_checkpoint()[1]['update'] == 4 and [row['step'] for row in run.read_checkpoint()[1]['log']] == [3]


@pytest.mark.slow
def test_weights_at_the_limit_of_time_that_are_worse_than_the_best_are_not_kept(session, tmp_path):
    run, trainer = start(tmp_path / 'run', [5., 8.], max_minutes=2., keep=1)
    half_a_minute_each(trainer)
    trainer.fit()
    assert [row['step'] for row in trainer.state.log] == [3, 4] and trainer.state.best == pytest.approx(5.)
    assert same(weights_of(run, trainer), in_checkpoint(run, trainer, 3))


@pytest.mark.slow
@pytest.mark.parametrize('mean, kept', [(3., 'mean'), (7., 'last')])
def test_a_mean_of_checkpoints_is_compared_with_the_weights_at_the_limit_of_time(session, tmp_path, mean, kept,
                                                                                 capsys):
    run, trainer = start(tmp_path / 'run', [9., 8., 5., mean], max_minutes=3.5, average=2)
    half_a_minute_each(trainer)
    trainer.fit()
    arrays, _ = run.read_checkpoint()
    last = [arrays['model/' + weight.op.name] for weight in trainer.weights]
    assert same(weights_of(run, trainer), last) == (kept == 'last')
    assert 'weights.h5 is the %s' % {'mean': 'mean', 'last': 'last state'}[kept] in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_is_written_inside_an_epoch_after_so_many_minutes(session, tmp_path, monkeypatch):
    run, trainer = start(tmp_path / 'run', [9.], checkpoint_minutes=1.)
    clock, written, write, update = [time.monotonic()], [], run.write_checkpoint, trainer.update
    monkeypatch.setattr(time, 'monotonic', lambda: clock[0])

    def slow(group):
        update(group)
        clock[0] += 45
    trainer.update = slow
    run.write_checkpoint = lambda step, *arguments: written.append(step) or write(step, *arguments)
    trainer.fit()
    assert written == [2, 3]  # after 90 seconds, and the validation at the end


@pytest.mark.slow
def test_a_training_that_diverges_is_told_in_lines_of_readable_length(session, tmp_path, capsys):
    run, trainer = start(tmp_path / 'run', [1e300], learning_rate=1e9)
    trainer.fit()
    line, = [line for line in capsys.readouterr().err.splitlines() if line.startswith('epoch')]
    assert len(line) < 160 and 'validation perplexity 1.00e+300' in line


@pytest.mark.slow
def test_a_run_starts_from_the_weights_of_another(session, tmp_path):
    run, trainer = start(tmp_path / 'run', [9.])
    trainer.fit()
    old = {weight.name: value for weight, value in zip(trainer.weights, weights_of(run, trainer))}
    # The same vocabularies: all weights.
    previous = initial_weights.read_run(run.path)
    vocabularies = collections.OrderedDict((name, WORDS) for name in VOCABULARIES)
    start_values = [(layer, [(name, np.zeros_like(value)) for name, value in weights])
                    for layer, weights in trainer.layers()]
    values, told = initial_weights.matching(previous, start_values, vocabularies)
    assert set(values) == set(old) and all(np.array_equal(values[name], old[name]) for name in old)
    assert told == ('%s: starts from %d of %d weights; its vocabularies have 12 of 12 source tokens and 12 of 12 '
                    'target tokens' % (run.path, len(old), len(old)))
    trainer._set_weights([np.zeros(K.int_shape(weight)) for weight in trainer.weights])
    trainer.start_from(values)
    assert same(K.batch_get_value(trainer.weights), [old[weight.name] for weight in trainer.weights])
    # Other vocabularies: the rows and columns of shared tokens, by token.
    other = Vocabulary(['<pad>', '<unk>', '<s>', '</s>', 'new', 'b', 'a'])

    def of_other(layer, value):
        if layer in initial_weights.TOKEN_AXES:
            axis = initial_weights.TOKEN_AXES[layer][1]
            return np.full([7 if n == len(WORDS) and k == axis % value.ndim else n
                            for k, n in enumerate(value.shape)], 5, 'f')
        return value
    changed = [(layer, [(name, of_other(layer, value)) for name, value in weights]) for layer, weights in start_values]
    values, told = initial_weights.matching(previous, changed, {name: other for name in VOCABULARIES})
    assert '6 of 7 source tokens and 6 of 7 target tokens' in told
    for name, layer in (('source_embedding/embeddings:0', 'source_embedding'), ('output/kernel:0', 'output')):
        found, before = (array.swapaxes(0, initial_weights.TOKEN_AXES[layer][1]) for array in (values[name], old[name]))
        assert len(found) == 7 and (found[4] == 5).all()
        assert np.array_equal(found[[0, 1, 2, 3, 6, 5]], before[[0, 1, 2, 3, 4, 5]])
    # Nothing that fits.
    with pytest.raises(UserError, match='no weight has the name and shape'):
        initial_weights.matching(previous, [('x', [('y:0', np.zeros(1, 'f'))])], vocabularies)
