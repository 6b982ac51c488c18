"""The training loop: batches, validation, checkpoints. `schedule` decides what follows from the history of a run."""
import collections
import math
import signal
import time

import tf_session  # first: it fixes the import order
import numpy as np
from keras import backend as K

from command_line import Stopped, UserError, command
from pointer_generator import coverage_loss
from seq2seq_model import Seq2Seq
from settings import with_defaults
from text.vocabulary import PAD
from token_loss import guided_alignment_loss
from training import schedule
from training.optimizer import OPTIMIZERS
from reports.progress import Progress, duration, report, shown
from training.schedule import METRICS
from training.workers import WorkerEnded, Workers

LINES_NAMED = 8  # of a batch whose loss is not a number


class Signals(object):
    """Inside the `with` block `.received` holds the first SIGINT or SIGTERM; the second one ends the process."""

    def __enter__(self):
        self.received = None
        self.previous = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _receive(self, signum, frame):
        self.received = signum
        for number in self.previous:
            signal.signal(number, signal.SIG_DFL)

    def __exit__(self, *_):
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def training_loss(settings, model):
    """The loss and metrics of a `Seq2Seq`: a `TokenLoss`, or what has its methods."""
    losses = []
    if settings.coverage_loss:  # eq. 13 of See et al. (2017)
        losses.append(settings.coverage_loss * coverage_loss(model.alignment_model.outputs[1]))
    if settings.guided_alignment:  # eq. 5 of Chen et al. (2016)
        losses.append(settings.guided_alignment * guided_alignment_loss(
            model.alignment_model.outputs[1], model.gold, model.memory.mask))
    return model.kit.token_loss(model, settings.label_smoothing, sum(losses) if losses else None)


class Trainer(object):
    """Trains a `Seq2Seq` in the current session.

    # Arguments
        settings: object with the attributes of `settings.SETTINGS`.
        source_size, target_size: sizes of the vocabularies.
        train, validation: `EncodedCorpus`.
        run: `run_directory.RunDirectory`, locked; `None` to save nothing.
        show: function of the log's row, called after each validation, while the validated weights are in place.
        decoded_score: function without arguments that returns the score of `settings.metric`, if it needs decoding.
        checkpoint: (arrays, state) to resume from, the last of `run`; `None` for a new training.
        separators: `questions.Separators` of the source vocabulary, for the encoders of stories.
        workers: `Workers` that share the training; worker 0 has a run, the others have none.
    """

    def __init__(self, settings, source_size, target_size, train, validation, run, show=None, decoded_score=None,
                 checkpoint=None, separators=None, workers=None):
        self.settings, self.train, self.validation, self.run = settings, train, validation, run
        self.show, self.decoded_score = show, decoded_score
        self.workers = workers = workers or Workers()
        tf_session.seed_weights(settings.seed)
        # Keras' orthogonal initialiser needs memory while the graph is built; a checkpoint replaces what it draws.
        shape = with_defaults(dict(vars(settings), init_scale=1.)) if checkpoint else settings
        self.model = Seq2Seq(shape, source_size, target_size, separators)
        self.optimizer = OPTIMIZERS[settings.optimizer](
            settings.learning_rate, clip_norm=settings.clip_norm, averaging=settings.averaging,
            weight_decay=settings.weight_decay, accumulate=settings.accumulate > workers.size,
            sum_gradients=workers.sum_gradients if workers.size > 1 else None)
        loss = training_loss(settings, self.model)
        self.keras_model = self.model.training_model
        self.keras_model.compile(self.optimizer, loss.loss, sample_weight_mode='temporal',
                                 weighted_metrics=[loss.negative_log_likelihood, loss.token_accuracy])
        self.keras_model._make_train_function()  # creates the optimiser's slots, which a checkpoint fills
        self.weights = self.keras_model.trainable_weights
        self.batches = int(math.ceil(len(train) / float(settings.batch_size)))
        self.updates_per_epoch = int(math.ceil(self.batches / float(settings.accumulate)))
        self.state = schedule.first_state()
        if checkpoint:
            self._restore(*checkpoint)
        self._begun = time.monotonic(), self.state.update
        self._saved = time.monotonic()
        self._signals, self._agreed_signal = None, None

    def synchronise(self):
        """Gives all workers the weights and the state of worker 0. Call it once, before the first update."""
        if self.workers.size == 1:
            return
        self.state = schedule.State(**self.workers.share(self.state._asdict()))
        variables = self._variables()[1]
        K.batch_set_value(list(zip(variables, map(self.workers.broadcast, K.batch_get_value(variables)))))
        self._begun = time.monotonic(), self.state.update

    def start_from(self, values):
        """Sets weights before the first step; `values` maps their names to arrays."""
        K.batch_set_value([(weight, values[weight.name]) for weight in self.keras_model.weights
                           if weight.name in values])

    def start_from_vectors(self, side, ids, vectors):
        """Puts pretrained vectors `(n, E)` into the rows `ids` of the embedding of `side`, source or target."""
        layer = self.model.target_embedding if side == 'target' else self.model.source_embedding
        table = K.get_value(layer.embeddings)
        table[ids] = vectors
        K.set_value(layer.embeddings, table)

    # State

    def _variables(self):
        """Names and variables of the state: the model's weights, the optimiser's slots, iteration and averages."""
        variables = [('model', weight) for weight in self.weights]
        variables += [('optimizer', weight) for weight in self.optimizer.weights]
        names = ['%s/%s' % (kind, weight.op.name) for kind, weight in variables]
        return names, [weight for _, weight in variables]

    def arrays(self):
        """OrderedDict of every array that a checkpoint holds, by name."""
        names, variables = self._variables()
        return collections.OrderedDict(zip(names, K.batch_get_value(variables)))

    def save(self):
        """Writes a checkpoint of the current state, if there is a run."""
        if self.run is None:
            return
        self.run.write_log(self.state.log)
        pointer = self.run.write_checkpoint(self.state.micro_step, self.arrays(), dict(self.state._asdict()),
                                            [kept['file'] for kept in self.state.kept])
        self._keep(pointer)
        self.run.prune_checkpoints([kept['file'] for kept in self.state.kept])
        self._saved = time.monotonic()

    def _keep(self, pointer):
        """Adds the last checkpoint to the kept ones, if it was validated and is good enough."""
        if self.state.log and self.state.validated == self.state.update:
            validated = dict(pointer, score=self.state.log[-1][METRICS[self.settings.metric][0]])
            self.state = self.state._replace(
                kept=schedule.checkpoints_to_keep(self.settings, self.state.kept + [validated]))

    def _restore(self, arrays, state):
        names, variables = self._variables()
        self.state = schedule.read_state(self.settings, state, self.batches)
        arrays = {name: array for name, array in arrays.items()
                  if not (name.startswith('optimizer/') and name.endswith('_sum'))}  # zeros, in older checkpoints
        if sorted(names) != sorted(arrays) or self.state is None:
            raise UserError('%s: the last checkpoint belongs to another model: train again with --overwrite'
                            % self.run.path)
        for name, variable in zip(names, variables):
            if arrays[name].shape != K.int_shape(variable):
                raise UserError('%s: %s of the last checkpoint has shape %s, not %s: train again with --overwrite'
                                % (self.run.path, name, arrays[name].shape, K.int_shape(variable)))
        K.batch_set_value([(variable, arrays[name]) for name, variable in zip(names, variables)])
        self._keep(self.run.last_checkpoint())
        if self.state.best is not None:
            self.run.read_file('weights.h5')  # report damage now, not at the end
        self.run.write_log(self.state.log)

    # The loop

    def fit(self):
        """Trains until `schedule.reason_to_stop`; the last state is in a checkpoint afterwards.

        # Raises
            Stopped: after SIGINT or SIGTERM. UserError: the loss is not a finite number.
        """
        with Signals() as self._signals:
            while not schedule.reason_to_stop(self.settings, self.state):
                self._epoch()
            stopped = self.state.update > max(self.state.validated, self._begun[1])  # by --max-minutes
            if stopped:
                # The checkpoint is the one before: a resumed run has the validations of one that was not stopped.
                self.save()
                self._validate(checkpoint=False)
            if self.settings.average and self.state.kept and self.run:
                self.workers = Workers()  # the others end here
                self._average_checkpoints(stopped and self.state.since_best == 0)

    def _epoch(self):
        settings, epoch = self.settings, self.state.epoch
        plan = self.train.plan(settings.batch_size, settings.seed, epoch, shuffle=True, group=group_size(settings))
        with Progress(len(plan), 'batches', 'epoch %d/%d' % (epoch + 1, settings.epochs),
                      self.state.position) as progress:
            while True:
                if schedule.validation_due(settings, self.state, self.batches):
                    self._validate()
                if self.state.epoch > epoch or schedule.reason_to_stop(settings, self.state):
                    return
                group = plan[self.state.position:self.state.position + settings.accumulate]
                self.update(group)
                progress.advance(len(group), self._progress())
                received = self._agreed_signal if self.workers.size > 1 else self._signals.received
                if received:
                    self.save()
                    self.workers.barrier()  # the first worker to end would end the job before worker 0 has written
                    alone = self.run and self.workers.size == 1   # only worker 0 has a run
                    again = [command('train.py', '--run', self.run.path, '--resume')] if alone else []
                    raise Stopped(received, *again)
                if 0 < settings.checkpoint_minutes * 60 <= time.monotonic() - self._saved:
                    self.save()

    def learning_rate(self, update):
        """The rate of update number `update`, counted from 0."""
        return schedule.learning_rate(self.settings, update, self.updates_per_epoch, self.state.rate_scale)

    def update(self, group):
        """One update of the weights, from one batch of indices or from several whose gradients add up.

        Each worker takes some of the batches. Data, noise and sums depend on the number of a batch, not on the worker.
        """
        state, workers, started = self.state, self.workers, time.monotonic()
        counts, source_counts = zip(*map(self._token_counts, group))
        own, results = workers.own(len(group)), np.zeros((len(group), 3))
        if self.settings.linear_start:
            end = schedule.end_of_linear_start(self.settings, state.log, self.updates_per_epoch)
            K.set_value(self.model.linear, int(state.update < end))
            if state.update == end:
                self.optimizer.restart()    # its slots are those of another model
        K.set_value(self.optimizer.learning_rate, self.learning_rate(state.update))
        if workers.size > 1:
            K.set_value(self.optimizer.idle, int(not own))
        for number in own or [0]:  # without a batch of its own a worker takes the first one, and adds zeros
            inputs, output = self.train.batch(group[number])
            K.set_value(self.model.noise.step, state.micro_step + number)
            if self.optimizer.accumulate:
                K.set_value(self.optimizer.apply, int(not own or number == own[-1]))
            # Keras takes the mean over the tokens of this batch; the weight makes it a share of the group's mean.
            share = counts[number] / float(sum(counts))
            loss, nll, correct = self.keras_model.train_on_batch(inputs, output[:, :, None],
                                                                 sample_weight=share * (output != PAD))
            if own:
                results[number] = loss, float(nll) / share * counts[number], float(correct) / share * counts[number]
        # One sum an update for all that the workers must agree on; seconds are those of worker 0.
        received = self._signals and self._signals.received
        shared = workers.sum(np.concatenate([results.ravel(), [
            workers.is_first * (time.monotonic() - started), received == signal.SIGINT, received == signal.SIGTERM]]))
        *results, seconds, interrupted, terminated = shared.tolist()
        self._agreed_signal = signal.SIGTERM if terminated else signal.SIGINT if interrupted else None
        nll, correct, tokens, words = state.sums
        for number, loss in enumerate(results[::3]):
            if not math.isfinite(loss):
                self._refuse('the loss is %s at step %d (batch %d of epoch %d: %s)' % (
                    loss, state.update + 1, state.position + number + 1, state.epoch + 1,
                    self._lines(group[number])))
            nll, correct = nll + results[3 * number + 1], correct + results[3 * number + 2]
            words += counts[number] + source_counts[number]
        self.state = state._replace(position=state.position + len(group), micro_step=state.micro_step + len(group),
                                    update=state.update + 1, seconds=state.seconds + seconds,
                                    sums=[nll, correct, tokens + sum(counts), float(words)])
        self.speed = (words - state.sums[3]) / max(time.monotonic() - started, 1e-9)

    def _token_counts(self, indices):
        """Numbers of target tokens, the end included, and of source tokens of a batch."""
        source, target = self.train.lengths[:, indices].sum(1)
        return int(target) + len(indices), int(source)

    def _lines(self, indices):
        lines = sorted(self.train.lines[index] for index in indices)
        more = ' and %d more' % (len(lines) - LINES_NAMED) if len(lines) > LINES_NAMED else ''
        return 'lines %s%s of the training text' % (', '.join(map(str, lines[:LINES_NAMED])), more)

    def _refuse(self, what):
        """Ends the training, on all workers: they find the same mistake."""
        if not self.workers.is_first:
            self.workers.wait_for_first()
            raise WorkerEnded
        last = self.run and self.run.last_checkpoint()
        last = 'the last good checkpoint is %s' % self.run.file('checkpoint/' + last['file']) if last else (
            'no checkpoint was written before')
        raise UserError('%s; %s; train again with a lower --learning-rate' % (what, last))

    def _progress(self):
        nll, correct, tokens, _ = self.state.sums
        return ['perplexity %s' % shown(perplexity(nll / tokens)), '%s left' % duration(self._left()),
                '%.0f words/s' % self.speed, 'accuracy %.1f %%' % (100. * correct / tokens)]

    def _left(self):
        """Seconds to the end of the last epoch or to the time limit, by the mean pace of this process."""
        begun, updates = self._begun
        left = self.settings.epochs * self.updates_per_epoch - self.state.update
        left *= (time.monotonic() - begun) / max(1, self.state.update - updates)
        limit = self.settings.max_minutes * 60
        return min(left, max(0., limit - self.state.seconds)) if limit else left

    # Validation

    def _validate(self, checkpoint=True):
        """Scores the weights, or their running average; writes them if they are the best, and then a checkpoint."""
        settings, state = self.settings, self.state
        column, _ = METRICS[settings.metric]
        nll, correct, tokens, words = state.sums
        raw = K.batch_get_value(self.weights) if self.optimizer.averages else None
        if raw is not None:
            self._set_weights(K.batch_get_value(self.optimizer.averages))
        val_nll, val_accuracy = self.evaluate(self.validation)
        if not math.isfinite(val_nll):
            self._refuse('the validation loss is %s after step %d, in epoch %d'
                         % (val_nll, state.update, state.epoch + 1))
        row = collections.OrderedDict([
            ('epoch', state.epoch + 1), ('step', state.update), ('learning_rate', self.learning_rate(state.update - 1)),
            ('train_perplexity', perplexity(nll / tokens)), ('train_accuracy', correct / tokens),
            ('val_perplexity', perplexity(val_nll)), ('val_accuracy', val_accuracy)])
        if column not in row:
            score = self.decoded_score() if self.workers.is_first else 0.
            row[column] = float(self.workers.sum([score])[0])
        before = state.log[-1]['seconds'] if state.log else 0.
        row.update([('words_per_second', words / max(state.seconds - before, 1e-9)), ('seconds', state.seconds)])
        ended = state.position == self.batches
        self.state = schedule.after_validation(settings, state._replace(
            epoch=state.epoch + ended, position=0 if ended else state.position, validated=state.update, sums=[0.] * 4,
            log=state.log + [row]), row[column], self.updates_per_epoch)
        report('epoch %d%s: train perplexity %s, accuracy %.1f %%; validation perplexity %s, accuracy %.1f %%%s%s; '
               '%.0f words/s, %s in all, %s left' % (
                   row['epoch'], '' if ended else ', step %d' % state.update, shown(row['train_perplexity']),
                   100 * row['train_accuracy'], shown(row['val_perplexity']), 100 * row['val_accuracy'],
                   ', %s %.4g' % (settings.metric, row[column]) if settings.metric != 'perplexity' else '',
                   ' (best)' if self.state.since_best == 0 else '', row['words_per_second'],
                   duration(row['seconds']), duration(self._left())))
        if self.show:
            self.show(row)
        if self.state.since_best == 0 and self.run:
            self.run.write_weights(self.layers())
        if raw is not None:
            self._set_weights(raw)
        if checkpoint:
            self.save()
        elif self.run:
            self.run.write_log(self.state.log)

    def _set_weights(self, values):
        K.batch_set_value(list(zip(self.weights, values)))

    def evaluate(self, corpus, batches=None):
        """Mean negative log-likelihood (nats, without smoothing) and accuracy over the target tokens of a corpus.

        # Arguments
            batches: some batches of the corpus' plan; all by default.
        """
        batches = batches or corpus.plan(self.settings.batch_size)
        results = np.zeros((len(batches), 3))
        for number in self.workers.own(len(batches)):
            inputs, output = corpus.batch(batches[number])
            count = np.count_nonzero(output)
            _, nll, correct = self.keras_model.test_on_batch(
                inputs, output[:, :, None], sample_weight=(output != PAD).astype('f'))
            results[number] = float(nll) * count, float(correct) * count, count
        # Added in the order of the batches: equal for any number of workers.
        nll, correct, tokens = map(sum, zip(*self.workers.sum(results).tolist()))
        return nll / tokens, correct / tokens

    def _average_checkpoints(self, last_is_best):
        """Writes the mean of checkpoints to weights.h5 if it is better than the best checkpoint, else the latter.

        # Arguments
            last_is_best: Boolean, weights.h5 has better weights than every checkpoint.
        """
        settings, pointers = self.settings, schedule.checkpoints_to_average(self.settings, self.state.kept)
        sums = [0.] * len(self.weights)
        for pointer in pointers:
            sums = [total + value.astype('f8') for total, value in zip(sums, self._validated_weights(pointer))]
        self._set_weights([total / len(pointers) for total in sums])
        if settings.metric == 'perplexity':
            score = perplexity(self.evaluate(self.validation)[0])
        else:
            score = self.decoded_score()
        better = schedule.is_better(settings, score, self.state.best)
        report('mean of the checkpoints of steps %s: validation %s %.4g, best checkpoint %.4g: weights.h5 is the %s'
               % (', '.join(str(pointer['step']) for pointer in pointers), settings.metric, score, self.state.best,
                  'mean' if better else 'last state' if last_is_best else 'best checkpoint'))
        if not better and last_is_best:
            return
        if not better:
            self._set_weights(self._validated_weights(schedule.best_of(settings, self.state.kept, 1)[0]))
        self.run.write_weights(self.layers())

    def _validated_weights(self, pointer):
        """The weights of a kept checkpoint that were validated, in the order of `self.weights`."""
        arrays, _ = self.run.read_checkpoint({key: pointer[key] for key in ('file', 'sha256', 'step')})
        averages = self.optimizer.averages
        kind, variables = ('optimizer', averages) if averages else ('model', self.weights)
        return [arrays['%s/%s' % (kind, variable.op.name)] for variable in variables]

    def layers(self):
        """The model's weights as `RunDirectory.write_weights` takes them: [(layer, [(weight, array), ...]), ...]."""
        return [(layer.name, [(weight.name, value) for weight, value in
                              zip(layer.weights, K.batch_get_value(layer.weights))])
                for layer in self.keras_model.layers if layer.weights]


def group_size(settings):
    """Number of neighbours in length that come together in the order of batches."""
    return settings.accumulate if settings.group_by_length else 1


def perplexity(nll):
    """e to the power of the mean negative log-likelihood, limited: JSON has no infinity."""
    return math.exp(min(nll, 700.))
