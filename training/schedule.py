"""What the history of a run decides: learning rate, best validation, when to stop, which checkpoints are kept.

Pure functions of the settings and of `State`, so that a resumed run decides like one that never stopped.
"""
import collections
import math

State = collections.namedtuple(
    'State', 'epoch position micro_step update validated best since_best rate_scale since_drop seconds sums kept log')
State.__doc__ = """The progress of a training. With the weights, the optimiser's slots and its iteration, which a
checkpoint holds beside it, this is all that resuming needs. Data order and dropout are pure functions of the seed and
of these numbers, so there is no random state to store.

epoch, position: epochs done, and batches done in the current one. micro_step, update: batches and updates in all.
validated: the update of the last validation. best: the best score so far, `None` before the first; since_best:
validations after it. rate_scale, since_drop: of the plateau schedule, its current factor and the validations without a
new best since it changed. seconds: of training, without validation. sums: nll, correct, tokens, words since the last
validation. kept: validated checkpoints on disk, pointers with `score`, in the order of their steps; without the
checkpoint that holds the state, since no file holds its own hash. log: rows of log.csv.
"""

# Metric -> column of the log, and whether more is better.
METRICS = collections.OrderedDict([('perplexity', ('val_perplexity', False)), ('bleu', ('val_bleu', True)),
                                   ('rouge-l', ('val_rouge_l', True)), ('exact-match', ('val_exact_match', True))])


LEARNED, DIVERGED = 1.05, 1.1   # training perplexities that end a linear start, DIVERGED times the lowest one so far


def first_state():
    """The state before the first step."""
    return State(epoch=0, position=0, micro_step=0, update=0, validated=0, best=None, since_best=0, rate_scale=1.,
                 since_drop=0, seconds=0., sums=[0.] * 4, kept=[], log=[])


def read_state(settings, values, batches):
    """The `State` in a dict from a file; `None` if it cannot be that of a run with this many batches an epoch."""
    def number(value):
        return type(value) in (int, float) and math.isfinite(value)

    if set(values) != set(State._fields):
        return None
    state = State(**values)
    counts = [state.epoch, state.position, state.micro_step, state.update, state.validated, state.since_best,
              state.since_drop]
    column = METRICS[settings.metric][0]
    fits = (all(type(count) is int and 0 <= count < 2 ** 53 for count in counts) and state.position <= batches
            and (state.best is None or number(state.best)) and number(state.rate_scale) and number(state.seconds)
            and isinstance(state.sums, list) and len(state.sums) == 4 and all(map(number, state.sums))
            and all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
                    for rows in (state.kept, state.log))
            and all(number(row.get(key)) for row in state.log
                    for key in ('seconds', 'step', 'train_perplexity', column))
            and all(number(pointer.get('score')) and number(pointer.get('step'))
                    and isinstance(pointer.get('file'), str) and 'sha256' in pointer for pointer in state.kept)
            and (state.validated == 0) == (not state.log) == (state.best is None))
    return state if fits else None


def learning_rate(settings, update, per_epoch, rate_scale=1.):
    """The rate of update number `update` (from 0): a linear warm-up times the chosen decay.

    # Arguments
        per_epoch: updates in an epoch.
        rate_scale: that of the state, for the plateau schedule.
    """
    warmup = min(1., (update + 1.) / settings.warmup) if settings.warmup else 1.
    done = min(1., update / float(settings.epochs * per_epoch))
    steps = (update // per_epoch - settings.decay_start) // settings.decay_every + 1
    decay = {'constant': 1., 'linear': 1. - done, 'cosine': 0.5 * (1. + math.cos(math.pi * done)),
             'step': settings.decay_factor ** max(0, steps), 'plateau': rate_scale}[settings.decay]
    return settings.learning_rate * warmup * decay


def end_of_linear_start(settings, log, per_epoch):
    """The update with which the softmax of a memory network begins; `per_epoch`: updates in an epoch.

    That is after `--linear-start` epochs, or with the first validation before at which the training loss is below half
    of its first value, or the linear model has learned the text, or diverges. A linear model that is trained to the end
    relies on negative weights and on sums that no softmax gives, and its scores are large, where a softmax has no slope
    to learn by. A plateau does not end it: the linear model often leaves one, and the softmax does not.
    """
    limit, lowest = settings.linear_start * per_epoch, math.inf
    for row in log:
        if row['step'] >= limit:
            break
        perplexity = row['train_perplexity']
        halved = perplexity * perplexity < log[0]['train_perplexity']   # 2 log x < log first
        if halved or perplexity < LEARNED or perplexity > DIVERGED * lowest:
            return row['step']
        lowest = min(lowest, perplexity)
    return limit


def validation_due(settings, state, batches):
    """Whether to validate now: at the end of an epoch of this many batches, or every `--validate-every` updates."""
    between = settings.validate_every and state.update % settings.validate_every == 0
    return state.update > state.validated and bool(state.position == batches or between)


def is_better(settings, score, best):
    """Whether a validation score is better than the best one so far, which is `None` before the first."""
    return best is None or (score > best if METRICS[settings.metric][1] else score < best)


def after_validation(settings, state, score, per_epoch):
    """The state after a validation with this score; `since_best` is 0 if it is the best. `per_epoch` as above.

    In a linear start the last one is: the softmax, with which it is scored, is not yet trained.
    """
    if is_better(settings, score, state.best) or state.update < end_of_linear_start(settings, state.log, per_epoch):
        return state._replace(best=score, since_best=0, since_drop=0)
    state = state._replace(since_best=state.since_best + 1, since_drop=state.since_drop + 1)
    if settings.decay == 'plateau' and state.since_drop >= settings.decay_patience:
        return state._replace(rate_scale=state.rate_scale * settings.decay_factor, since_drop=0)
    return state


def reason_to_stop(settings, state):
    """Why the training ends here, with the option that decides it; `None` if it goes on."""
    if state.epoch >= settings.epochs:
        return 'all %d epochs are done (--epochs)' % settings.epochs
    if 0 < settings.patience <= state.since_best:
        return 'no new best in %d validations (--patience)' % state.since_best
    if 0 < settings.max_minutes * 60 <= state.seconds:
        return 'the limit of %g minutes is reached (--max-minutes)' % settings.max_minutes
    return None


def best_of(settings, checkpoints, count):
    """The `count` best of these checkpoints, the best first, of equals the earlier."""
    sign = -1 if METRICS[settings.metric][1] else 1
    return sorted(checkpoints, key=lambda pointer: (sign * pointer['score'], pointer['step']))[:count]


def checkpoints_to_average(settings, checkpoints):
    """The checkpoints whose mean is taken at the end, by step."""
    if settings.average_of == 'best':
        return sorted(best_of(settings, checkpoints, settings.average), key=lambda pointer: pointer['step'])
    return checkpoints[-settings.average:] if settings.average else []


def checkpoints_to_keep(settings, checkpoints):
    """The validated checkpoints that stay on disk, by step."""
    needed = best_of(settings, checkpoints, max(settings.keep, min(settings.average, 1)))
    needed += checkpoints_to_average(settings, checkpoints)
    return [pointer for pointer in checkpoints if pointer in needed]
