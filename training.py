"""The training loop: batches, learning rate, validation, progress, and all state that resuming needs."""
import collections
import math
import signal
import sys
import time

import session  # first: it fixes the import order
import numpy as np
from keras import backend as K
from tqdm import tqdm

import data
from optimizer import OPTIMIZERS
from seq2seq_model import Seq2Seq, TokenLoss
from settings import Stopped, UserError

# Where the training stands; with the weights and the optimiser's slots this is all that resuming needs. Data order
# and dropout are pure functions of the seed and of these numbers, so there is no random state to keep.
State = collections.namedtuple('State', 'epoch position micro_step update best_perplexity seconds sums log')


def first_state():
    """The state before the first step; `sums` are those of the epoch under way: nll, correct, tokens, words."""
    return State(epoch=0, position=0, micro_step=0, update=0, best_perplexity=None, seconds=0., sums=[0.] * 4, log=[])


class Signals(object):
    """Inside the `with` block SIGINT and SIGTERM are remembered in `.received`; the second one ends the process."""

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


def learning_rate(settings, update, updates):
    """The rate of update number `update` (from 0) of `updates`: a linear warm-up times the chosen decay to zero."""
    warmup = min(1., (update + 1.) / settings.warmup) if settings.warmup else 1.
    done = min(1., update / float(updates))
    decay = {'constant': 1., 'linear': 1. - done, 'cosine': 0.5 * (1. + math.cos(math.pi * done))}[settings.decay]
    return settings.learning_rate * warmup * decay


class Encoded(object):
    """A corpus as ids: `source` and `target` are lists of id lists, without `<s>` and `</s>`."""

    def __init__(self, corpus, source_vocabulary, target_vocabulary):
        self.source = [source_vocabulary.encode(tokens) for tokens in corpus.source]
        self.target = [target_vocabulary.encode(tokens) for tokens in corpus.target]
        self.lengths = np.array([[len(ids) for ids in side] for side in (self.source, self.target)])

    def __len__(self):
        return len(self.source)

    def plan(self, batch_size, seed=0, epoch=0, shuffle=False):
        return data.plan_batches(self.lengths[0], self.lengths[1], batch_size, seed, epoch, shuffle)

    def batch(self, indices):
        """Source `(B, S)`, decoder input `(B, T)`, decoder output `(B, T)`."""
        return data.make_batch(self.source, self.target, indices)


class Trainer(object):
    """Trains a `Seq2Seq` in the current session.

    # Arguments
        settings: object with the attributes of `settings.SETTINGS`.
        source_size, target_size: sizes of the vocabularies.
        train, validation: `Encoded` corpora.
        run: `run_directory.RunDirectory`, locked.
        show: function called with no argument after each validation, on the weights that were validated.
    """

    def __init__(self, settings, source_size, target_size, train, validation, run, show=None):
        self.settings, self.train, self.validation, self.run, self.show = settings, train, validation, run, show
        session.seed_weights(settings.seed)
        self.model = Seq2Seq(settings, source_size, target_size)
        self.optimizer = OPTIMIZERS[settings.optimizer](
            settings.learning_rate, clip_norm=settings.clip_norm, averaging=settings.averaging,
            weight_decay=settings.weight_decay, accumulate=settings.accumulate > 1)
        loss = TokenLoss(settings.label_smoothing)
        self.keras_model = self.model.training_model
        self.keras_model.compile(self.optimizer, loss.loss, sample_weight_mode='temporal',
                                 weighted_metrics=[loss.negative_log_likelihood, loss.token_accuracy])
        self.keras_model._make_train_function()  # makes the optimiser's slots, which a checkpoint fills
        self.weights = self.keras_model.trainable_weights
        self.state = first_state()

    def start_from_vectors(self, side, ids, vectors):
        """Puts pretrained vectors `(n, E)` in the place of rows `ids` of the embedding of `side`, source or target."""
        layer = self.model.target_embedding if side == 'target' else self.model.source_embedding
        table = K.get_value(layer.embeddings)
        table[ids] = vectors
        K.set_value(layer.embeddings, table)

    # State

    def _arrays(self):
        """Every array of the state: the model's weights, the optimiser's slots with its iteration and averages."""
        variables = [('model', weight) for weight in self.weights]
        variables += [('optimizer', weight) for weight in self.optimizer.weights]
        names = ['%s/%s' % (kind, weight.op.name) for kind, weight in variables]
        return names, [weight for _, weight in variables]

    def save(self):
        """Writes a checkpoint of the state as it is now."""
        names, variables = self._arrays()
        arrays = collections.OrderedDict(zip(names, K.batch_get_value(variables)))
        self.run.write_log(self.state.log)
        self.run.write_checkpoint(self.state.micro_step, arrays, dict(self.state._asdict()))

    def restore(self):
        """Reads the last checkpoint; before the first there is nothing to do."""
        found = self.run.read_checkpoint()
        if found is None:
            return
        arrays, state = found
        names, variables = self._arrays()
        if sorted(names) != sorted(arrays) or set(state) != set(State._fields):
            raise UserError('%s: the last checkpoint belongs to another model: train again with --overwrite'
                            % self.run.path)
        for name, variable in zip(names, variables):
            if arrays[name].shape != K.int_shape(variable):
                raise UserError('%s: %s of the last checkpoint has shape %s, not %s: train again with --overwrite'
                                % (self.run.path, name, arrays[name].shape, K.int_shape(variable)))
        K.batch_set_value([(variable, arrays[name]) for name, variable in zip(names, variables)])
        self.state = State(**state)
        if self.state.best_perplexity is not None:
            self.run.read_file('weights.h5')  # a damaged one should show now, not at the end
        self.run.write_log(self.state.log)

    # The loop

    def fit(self):
        """Trains to the last epoch, or to the first that ends past the time limit; a checkpoint is on disk afterwards.

        # Raises
            Stopped: after SIGINT or SIGTERM. UserError: the loss is no longer a number.
        """
        settings = self.settings
        self.updates = settings.epochs * int(math.ceil(self._batches() / float(settings.accumulate)))
        with Signals() as signals:
            while self.state.epoch < settings.epochs and not self._out_of_time():
                self._epoch(signals)

    def _batches(self):
        return int(math.ceil(len(self.train) / float(self.settings.batch_size)))

    def _out_of_time(self):
        return 0 < self.settings.max_minutes * 60 <= self.state.seconds

    def _epoch(self, signals):
        settings = self.settings
        plan = self.train.plan(settings.batch_size, settings.seed, self.state.epoch, shuffle=True)
        bar = tqdm(total=len(plan), initial=self.state.position, unit='batch', leave=False, file=sys.stderr,
                   disable=not sys.stderr.isatty(), dynamic_ncols=True,
                   desc='epoch %d/%d' % (self.state.epoch + 1, settings.epochs))
        with bar:
            while self.state.position < len(plan):
                group = plan[self.state.position:self.state.position + settings.accumulate]
                self._update(group)
                bar.update(len(group))
                bar.set_postfix_str(self._progress(), refresh=False)
                if signals.received:
                    self.save()
                    raise Stopped(signals.received)
        self._end_epoch()

    def _update(self, group):
        """One update of the weights, from one batch or from several whose gradients add up."""
        settings, state, started = self.settings, self.state, time.time()
        batches = [self.train.batch(indices) for indices in group]
        counts = [np.count_nonzero(output) for _, _, output in batches]
        nll, correct, _, words = state.sums
        K.set_value(self.optimizer.lr, learning_rate(settings, state.update, self.updates))
        for number, ((source, given, output), count) in enumerate(zip(batches, counts)):
            K.set_value(self.model.noise.step, state.micro_step + number)
            if settings.accumulate > 1:
                K.set_value(self.optimizer.apply, int(number == len(group) - 1))
            # Keras takes the mean over this batch's tokens; the weight makes it a share of the whole group's mean.
            share = count / float(sum(counts))
            weights = share * (output != data.PAD)
            loss, batch_nll, batch_correct = self.keras_model.train_on_batch([source, given], output[:, :, None],
                                                                             sample_weight=weights)
            if not math.isfinite(loss):
                raise UserError('the loss is %s at batch %d of epoch %d: the last good checkpoint is in %s; train '
                                'again with a lower --learning-rate'
                                % (loss, state.position + number + 1, state.epoch + 1, self.run.path))
            nll += float(batch_nll) / share * count
            correct += float(batch_correct) / share * count
            words += count + np.count_nonzero(source)
        self.state = state._replace(position=state.position + len(group), micro_step=state.micro_step + len(group),
                                    update=state.update + 1, seconds=state.seconds + time.time() - started,
                                    sums=[nll, correct, state.sums[2] + sum(counts), float(words)])
        self.speed = (words - state.sums[3]) / (time.time() - started)

    def _progress(self):
        nll, correct, tokens, _ = self.state.sums
        return 'loss %.3f, perplexity %.2f, accuracy %.1f %%, %.0f words/s' % (
            nll / tokens, math.exp(min(nll / tokens, 100)), 100. * correct / tokens, self.speed)

    def _end_epoch(self):
        nll, correct, tokens, words = self.state.sums
        kept = self._average()
        val_nll, val_accuracy = self.evaluate(self.validation)
        if not math.isfinite(val_nll):
            raise UserError('the validation loss is %s after epoch %d: the last good checkpoint is in %s; train again '
                            'with a lower --learning-rate' % (val_nll, self.state.epoch + 1, self.run.path))
        row = collections.OrderedDict([
            ('epoch', self.state.epoch + 1), ('step', self.state.update),
            ('learning_rate', learning_rate(self.settings, self.state.update - 1, self.updates)),
            ('train_perplexity', perplexity(nll / tokens)), ('train_accuracy', correct / tokens),
            ('val_perplexity', perplexity(val_nll)), ('val_accuracy', val_accuracy),
            ('words_per_second', words / max(self.state.seconds - self._seconds_before(), 1e-9)),
            ('seconds', self.state.seconds)])
        best = self.state.best_perplexity
        better = best is None or row['val_perplexity'] < best
        self.state = self.state._replace(
            epoch=self.state.epoch + 1, position=0, sums=[0.] * 4, log=self.state.log + [row],
            best_perplexity=row['val_perplexity'] if better else best)
        report('epoch %d: train perplexity %.2f, accuracy %.1f %%; validation perplexity %.2f, accuracy %.1f %%%s; '
               '%.0f words/s, %s in all' % (
                   row['epoch'], row['train_perplexity'], 100 * row['train_accuracy'], row['val_perplexity'],
                   100 * row['val_accuracy'], ' (best)' if better else '', row['words_per_second'],
                   duration(row['seconds'])))
        if self.show:
            self.show()
        if better:
            self.run.write_weights(self.layers())
        if kept is not None:
            K.batch_set_value(list(zip(self.weights, kept)))
        self.save()

    def _seconds_before(self):
        return self.state.log[-1]['seconds'] if self.state.log else 0.

    def _average(self):
        """Puts the averaged weights in place, where the settings ask for them; returns the ones they replace."""
        if not self.optimizer.averages:
            return None
        kept = K.batch_get_value(self.weights)
        K.batch_set_value(list(zip(self.weights, K.batch_get_value(self.optimizer.averages))))
        return kept

    def evaluate(self, corpus):
        """Mean negative log-likelihood (nats, without smoothing) and accuracy over the target tokens of a corpus."""
        nll = correct = tokens = 0.
        for indices in corpus.plan(self.settings.batch_size):
            source, given, output = corpus.batch(indices)
            count = np.count_nonzero(output)
            _, batch_nll, batch_correct = self.keras_model.test_on_batch(
                [source, given], output[:, :, None], sample_weight=(output != data.PAD).astype('f'))
            nll, correct = nll + float(batch_nll) * count, correct + float(batch_correct) * count
            tokens += count
        return nll / tokens, correct / tokens

    def layers(self):
        """The model's weights as the run directory takes them: [(layer name, [(weight name, array), ...]), ...]."""
        return [(layer.name, [(weight.name, value) for weight, value in
                              zip(layer.weights, K.batch_get_value(layer.weights))])
                for layer in self.keras_model.layers if layer.weights]


def perplexity(nll):
    """e to the mean negative log-likelihood; infinity in place of an overflow would not fit JSON, so it is cut."""
    return math.exp(min(nll, 700.))


def duration(seconds):
    """`83` as `1:23`, `3683` as `1:01:23`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return '%d:%02d:%02d' % (hours, minutes, seconds) if hours else '%d:%02d' % (minutes, seconds)


def report(text):
    """A line on stderr, above the progress bar where one stands."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()
