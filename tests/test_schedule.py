"""Rates, stops and choices that depend on a run's history, compared with values calculated by hand."""
import json

import pytest
from hypothesis import given, strategies

from training import schedule
from training.schedule import State, after_validation, first_state
from settings import with_defaults


def rates(updates, per_epoch, **values):
    chosen = with_defaults(dict(values, learning_rate=8.))
    return [schedule.learning_rate(chosen, update, per_epoch) for update in updates]


def test_the_rate_follows_its_schedule():
    assert rates([0, 5, 99], 2, decay='constant', epochs=3) == [8., 8., 8.]
    assert rates([0, 3, 6, 7], 2, decay='linear', epochs=3) == [8., 4., 0., 0.]
    assert rates([0, 2, 3, 6], 2, decay='cosine', epochs=3) == pytest.approx([8., 6., 4., 0.])
    # Luong et al.: halved after each epoch, once 5 epochs are done.
    assert rates([0, 9, 10, 11, 12, 14], 2, decay='step', epochs=99) == [8., 8., 4., 4., 2., 1.]
    assert rates([0, 1, 2, 3, 4, 5], 1, decay='step', decay_start=1, decay_every=2, decay_factor=.25, epochs=9) == [
        8., 2., 2., .5, .5, .125]
    assert schedule.learning_rate(with_defaults(dict(learning_rate=8., decay='plateau')), 7, 2, .125) == 1.


def test_warm_up_rises_over_its_updates_and_multiplies_the_decay():
    assert rates([0, 1, 3, 4, 9], 5, decay='constant', warmup=4, epochs=9) == [2., 4., 8., 8., 8.]
    assert rates([0, 1, 2], 2, decay='linear', warmup=2, epochs=2) == [4., 6., 4.]


def history(scores, **values):
    """The states after validations with these scores."""
    states = [first_state()]
    for score in scores:
        states.append(after_validation(with_defaults(values), states[-1], score, 1))
    return states[1:]


def test_the_best_is_the_lowest_perplexity_or_the_highest_score_and_of_equals_the_first():
    assert [(state.best, state.since_best) for state in history([5., 3., 3., 4., 2.])] == [
        (5., 0), (3., 0), (3., 1), (3., 2), (2., 0)]
    for metric in ('bleu', 'rouge-l', 'exact-match'):
        assert [(state.best, state.since_best) for state in history([0., 3., 3., 2., 4.], metric=metric)] == [
            (0., 0), (3., 0), (3., 1), (3., 2), (4., 0)]


def test_a_linear_start_ends_with_its_epochs_or_at_half_of_its_first_loss_or_when_learned_or_if_it_diverges():
    def end(*perplexities):     # two validations in each of five epochs of 20 updates
        log = [dict(step=10 * number, train_perplexity=value) for number, value in enumerate(perplexities, 1)]
        return schedule.end_of_linear_start(with_defaults(dict(linear_start=2)), log, 20)

    assert end() == end(4., 3., 2.5) == end(4., 3., 2.5, 2.4, 9.) == end(4., 3., 3.) == end(4., 3., 3.2) == 40
    assert end(4., 1.99) == end(4., 1.99, 2.1, 1.5) == 20 and end(9., 4., 2.9) == 30    # half of log 9 is log 3
    assert end(1.01) == end(1.04, 1.03) == 10 and end(1.09, 1.06, 1.04) == 30
    assert end(4., 3., 3.31) == end(4., 3., 3.31, 2.) == 30 and end(3., 3.2, 3.31) == 30
    assert schedule.end_of_linear_start(with_defaults({}), [dict(step=10, train_perplexity=1.)], 20) == 0


def test_in_a_linear_start_the_last_validation_is_the_best():
    state, kept = first_state(), []
    for number, (score, perplexity) in enumerate([(5., 4.), (7., 3.), (9., 2.), (6., 1.9), (6.5, 1.8)], 1):
        row = dict(step=10 * number, train_perplexity=perplexity)
        state = after_validation(with_defaults(dict(linear_start=3)),
                                 state._replace(update=10 * number, log=state.log + [row]), score, 10)
        kept.append((state.best, state.since_best))
    assert kept == [(5., 0), (7., 0), (7., 1), (6., 0), (6., 1)]


def test_plateau_lowers_the_rate_after_so_many_validations_and_then_waits_again():
    states = history([5., 5., 5., 5., 5., 5., 4., 4., 4.], decay='plateau', decay_patience=2, decay_factor=.1)
    assert [state.rate_scale for state in states] == pytest.approx([1, 1, .1, .1, .01, .01, .01, .01, .001])
    assert [state.since_drop for state in states] == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert {state.rate_scale for state in history([5.] * 9, decay='step', decay_patience=2)} == {1.}


def test_training_stops_at_the_last_epoch_out_of_time_or_out_of_patience():
    def reason(chosen, **values):
        return schedule.reason_to_stop(with_defaults(chosen), first_state()._replace(**values))
    assert [reason(dict(epochs=3), epoch=epoch, since_best=99) for epoch in (0, 2)] == [None, None]
    assert [reason(dict(epochs=3), epoch=epoch) for epoch in (3, 4)] == ['all 3 epochs are done (--epochs)'] * 2
    assert reason(dict(max_minutes=2.), seconds=119., position=1) is None
    assert reason(dict(max_minutes=2.), seconds=120., position=1) == 'the limit of 2 minutes is reached (--max-minutes)'
    assert reason(dict(patience=3), since_best=2) is None
    assert reason(dict(patience=3), since_best=4, position=1) == 'no new best in 4 validations (--patience)'


def test_validation_is_due_once_at_the_end_of_an_epoch_and_after_so_many_updates():
    def due(every, **values):
        return schedule.validation_due(with_defaults(dict(validate_every=every)), first_state()._replace(**values), 10)
    assert not due(0) and not due(3)
    assert due(0, update=5, position=10) and due(3, update=5, position=10)
    assert not due(0, update=6, position=9) and due(3, update=6, position=9)
    assert not due(3, update=6, position=9, validated=6) and not due(0, update=5, position=10, validated=5)


def test_the_best_and_those_to_be_averaged_stay_on_disk():
    made = [dict(step=step, score=score) for step, score in enumerate([7., 3., 5., 3., 9., 4.])]

    def stay(**values):
        return [one['step'] for one in schedule.checkpoints_to_keep(with_defaults(values), made)]

    def averaged(**values):
        return [one['step'] for one in schedule.checkpoints_to_average(with_defaults(values), made)]
    assert stay() == []
    assert stay(keep=1) == [1] and stay(keep=3) == [1, 3, 5] and stay(keep=9) == [0, 1, 2, 3, 4, 5]
    assert stay(keep=1, metric='bleu') == [4]
    assert stay(average=3) == [1, 3, 5] and stay(average=2, keep=4) == [1, 2, 3, 5]
    assert stay(average=2, average_of='last') == [1, 4, 5]  # and the best, in case that no mean is better
    assert averaged(average=2, average_of='last') == [4, 5]
    assert averaged(average=3) == [1, 3, 5]


def test_keeping_checkpoints_step_by_step_equals_choosing_at_the_end():
    scores = [7., 3., 5., 3., 9., 4., 4., 2., 8., 1., 6.]
    made = [dict(step=step, score=score) for step, score in enumerate(scores)]
    for values in (dict(keep=3), dict(average=4), dict(keep=2, average=3, average_of='last'), dict(average=1)):
        chosen, kept = with_defaults(values), []
        for one in made:
            kept = schedule.checkpoints_to_keep(chosen, kept + [one])
        assert kept == schedule.checkpoints_to_keep(chosen, made)


GOOD = first_state()._replace(
    epoch=2, position=3, micro_step=23, update=12, validated=10, best=4.5, sums=[1., 2., 3., 4.],
    kept=[{'file': '20.h5', 'sha256': '0' * 64, 'step': 20, 'score': 4.5}],
    log=[{'epoch': 2, 'step': 10, 'seconds': 3.5, 'train_perplexity': 5., 'val_perplexity': 4.5}])


def test_a_state_is_restored_from_json():
    for state in (GOOD, first_state()._replace(update=3, position=3)):
        assert schedule.read_state(with_defaults({}), json.loads(json.dumps(state._asdict())), 10) == state


KEYS = strategies.sampled_from(
    ['step', 'score', 'file', 'sha256', 'seconds', 'train_perplexity', 'val_perplexity', 'x'])
SCALARS = (strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats()
           | strategies.text(max_size=3))
VALUES = strategies.recursive(SCALARS, lambda inner: strategies.lists(inner, max_size=4)
                              | strategies.dictionaries(KEYS, inner, max_size=6), max_leaves=8)


@given(strategies.sampled_from(State._fields), VALUES)
def test_a_state_with_any_value_in_one_field_is_none_or_usable(field, value):
    values = dict(GOOD._asdict(), **{field: value})
    state = schedule.read_state(with_defaults({}), values, 10)
    if state is not None:
        chosen = with_defaults(dict(keep=2, average=2, validate_every=3))
        kept = schedule.checkpoints_to_keep(chosen, state.kept + [dict(file='a', sha256='b', step=1, score=2.)])
        assert all(isinstance(one['file'], str) for one in kept)
        schedule.validation_due(chosen, state, 10), schedule.reason_to_stop(chosen, state)
        after_validation(chosen, state, 3., 1)
        schedule.learning_rate(chosen, state.update, 5, state.rate_scale)
        assert sum(state.sums) is not None and 0 <= state.position <= 10


@pytest.mark.parametrize('changes', [
    dict(position=11), dict(position=-1), dict(epoch=1.), dict(update=True), dict(best=None), dict(best='x'),
    dict(sums=[1., 2., 3.]), dict(sums=[1., 2., 3., None]), dict(seconds=float('nan')), dict(log=[]), dict(log=[3]),
    dict(log=[{'seconds': 1.}]), dict(kept=[{}]), dict(kept=[['20.h5']]), dict(validated=0), dict(micro_step='3')])
def test_a_state_that_no_run_can_be_in_is_refused(changes):
    assert schedule.read_state(with_defaults({}), dict(GOOD._asdict(), **changes), 10) is None
    assert schedule.read_state(with_defaults({}), dict(GOOD._asdict(), more=1), 10) is None
