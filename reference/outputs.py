"""Outputs of the graph of Keras and TensorFlow at every stage: of a small case, of a short training, of a run.

Each function takes settings, parameters and inputs and returns the arrays of one `.npz` file, in the order of the
calculation, under the names that docs/bundles.md lists. Nothing here is random: equal arguments give equal arrays.
"""
from collections import OrderedDict
import re

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K

from text.batches import make_batch, pad
from text.corpus_builder import encode_pairs
from text.questions import Separators, separators
from text.vocabulary import END, PAD, SPECIALS, START, Vocabulary
import pointer_generator
import beam_search
from seq2seq_model import Seq2Seq
from training.trainer import Trainer, training_loss
import token_loss
import translator
from parity import compare
from parity.fitting import check_arrays
from reference import numpy_model
from reference.cases import LIMIT
from settings import with_defaults
from text.subwords import KINDS
from text.tokenizers import MODEL_FILE, read_tokenizers

SIDES = ('source', 'target')
STEPS = 50                  # updates of a training
KEPT = (1, 2, 10, 50)       # updates after which weights and slots are recorded


def separators_of(entry):
    """Returns the `Separators` in a manifest's entry, or `None`."""
    return Separators(*entry['separators']) if 'separators' in entry else None


def check_parameters(model, arrays):
    """Raises `UserError` if the arrays `parameter/<neutral name>` do not have the shapes of a `Seq2Seq`'s weights."""
    check_arrays('the recorded model', arrays, OrderedDict(
        ('parameter/' + numpy_model.neutral(weight.name), (K.int_shape(weight), 'f'))
        for weight in model.training_model.weights))


def set_parameters(model, arrays):
    """Sets the weights of a `Seq2Seq` to the arrays `parameter/<neutral name>`."""
    pairs = [(weight, arrays['parameter/' + numpy_model.neutral(weight.name)])
             for weight in model.training_model.weights]
    K.batch_set_value([(weight, np.asarray(value, weight.dtype.base_dtype.as_numpy_dtype)) for weight, value in pairs])


def get_parameters(model):
    """Returns the weights of a `Seq2Seq` by neutral names."""
    weights = model.training_model.weights
    return OrderedDict((numpy_model.neutral(weight.name), value)
                       for weight, value in zip(weights, K.batch_get_value(weights)))


def slot_name(name):
    """Returns `decoder_1/kernel_m` for `training/Adam/decoder/cell_1/kernel_m_1`."""
    return numpy_model.neutral(re.sub(r'^(training/)?[A-Za-z]+/|_[0-9]+$', '', name))


def with_prefix(prefix, arrays):
    return OrderedDict((prefix + name, value) for name, value in arrays.items())


def rows_of_ids(ids, end=False):
    """Converts padded ids `(B, S)` to lists without padding; `end`: without </s> too."""
    return [[int(i) for i in row if i != PAD and not (end and i == END)] for row in np.asarray(ids)]


# Stages of one batch

def forward_stages(model):
    """Tensors of the forward stages of a `Seq2Seq` by name, in the order of the calculation.

    The model has context and weights only: another call of `attend` on the same states gives the scores before and
    after the mask.
    """
    settings, (encoder_states, *initial_states) = model.settings, model.encoder_model.outputs
    stages = OrderedDict([('encoder_states', encoder_states), ('initial_states', tf.stack(initial_states, axis=1)),
                          ('decoder_states', model.decoder_states)])
    if settings.score != 'none':
        memory, query = model.memory, model.decoder_states
        if settings.encoder == 'memory':
            output = model.attention.attend(query, memory.states, memory.mask)
        else:
            for hop in range(settings.hops):
                output = model.attention.attend(query, memory.states, model.attention.keys(memory.states), memory.mask)
                if hop + 1 < settings.hops:
                    query = model.cell.combine.call(K.concatenate([output.context, query]))
        stages.update([('scores', output.scores), ('masked_scores', output.masked_scores),
                       ('weights', model.alignment_model.outputs[1]), ('context', output.context),
                       ('attentional_states', model.attentional_states)])
    if settings.copy:
        logits, weights, memory, states, embedded, copied_ids = model.pointer_inputs
        same = pointer_generator.same_words(copied_ids, K.dtype(weights))
        stages['vocabulary_logits'] = logits
        stages['p_gen'] = tf.sigmoid(model.pointer.switch(tf.matmul(weights, memory), states, embedded))
        stages['copy_distribution'] = model.pointer.attention_to_words(weights, same)       # `by_word` later
        stages['logits'] = tf.nn.log_softmax(model.training_model.outputs[0])
    else:
        stages['logits'] = model.training_model.outputs[0]
    if settings.coverage_loss:
        stages['coverage_losses'] = pointer_generator.coverage_loss(model.alignment_model.outputs[1])
    if settings.guided_alignment:
        stages['guided_losses'] = token_loss.guided_alignment_loss(
            model.alignment_model.outputs[1], model.gold, model.memory.mask)
    return stages


class Stages(object):
    """The tensors of all stages of a model, built once and run for several batches.

    # Arguments
        model: `Seq2Seq`.
        options: `beam_search.Options` of the beam.
        gradients, searches: Booleans, build the gradient of the loss, and both searches.
    """

    def __init__(self, model, options, gradients, searches=True):
        self.model, keras_model = model, model.training_model
        self.forward = forward_stages(model)
        loss = training_loss(model.settings, model)
        keras_model.compile('sgd', loss.loss, sample_weight_mode='temporal')
        self.forward['token_losses'] = loss.loss(keras_model.targets[0], keras_model.outputs[0])
        self.forward['loss'] = keras_model.total_loss
        self.gradients = OrderedDict()
        if gradients:
            weights = keras_model.trainable_weights
            for weight, gradient in zip(weights, K.gradients(keras_model.total_loss, weights)):
                self.gradients['gradient/' + numpy_model.neutral(weight.name)] = tf.convert_to_tensor(gradient)
        if not searches:
            return
        self.limits = tf.placeholder(tf.int32, [None])
        self.greedy, self.beam = [
            beam_search.search(model.step, model.start(), self.limits, search_options, model.memory.mask)
            for search_options in (beam_search.Options(), options)]

    def feed(self, source, copied):
        """Returns the feed dict of a batch; `copied` is `None` for a model that does not copy."""
        feed = {self.model.source: source, K.learning_phase(): 0}
        if copied is not None:
            feed[self.model.copied] = copied
        return feed

    def teacher_forced(self, source, given, output, copied, gradients, alignments=None):
        """Returns the arrays of all stages for a batch of ids, with the gradients if `gradients`."""
        keras_model, valid = self.model.training_model, output != PAD
        tensors = OrderedDict(list(self.forward.items()) + (list(self.gradients.items()) if gradients else []))
        feed = self.feed(source, copied)
        feed.update({self.model.target: given, keras_model.targets[0]: output[:, :, None],
                     keras_model.sample_weights[0]: valid.astype(K.floatx())})
        if alignments is not None:
            feed[self.model.gold] = alignments
        arrays = OrderedDict(zip(tensors, K.get_session().run(list(tensors.values()), feed)))
        if 'masked_scores' in arrays:
            hidden = arrays['masked_scores'] < compare.HIDDEN
            arrays['masked_scores'][hidden] = -np.inf
        for name in ('coverage_losses', 'guided_losses', 'token_losses'):
            if name in arrays:
                arrays[name] = np.where(valid, arrays[name], arrays['loss'].dtype.type(0))
        inputs = [('source', source), ('given', given), ('output', output)]
        if copied is not None:
            inputs.insert(1, ('copied', copied))
            arrays['copy_distribution'] = by_word(arrays['copy_distribution'], copied, arrays['logits'])
        if alignments is not None:
            inputs.append(('alignments', alignments))
        return OrderedDict(inputs + list(arrays.items()))

    def searched(self, source, limits, copied):
        """Returns the arrays of greedy and beam search, with the runners-up that show whether two results tie."""
        feed = self.feed(source, copied)
        greedy, beam = K.get_session().run([self.greedy, self.beam], {**feed, self.limits: limits})
        arrays = OrderedDict((name, getattr(greedy, name)[:, 0])
                             for name in ('ids', 'lengths', 'log_probabilities', 'weights', 'margins'))
        feed[self.model.target] = np.concatenate([np.full((len(source), 1), START), arrays['ids'][:, :-1]], axis=1)
        logits = K.get_session().run(self.forward['logits'], feed)
        arrays['runner_up'] = greedy_runner_up(logits, arrays['ids'])
        both = with_prefix('greedy/', arrays)
        arrays = OrderedDict((name, getattr(beam, name))
                             for name in ('ids', 'lengths', 'log_probabilities', 'weights', 'rankings'))
        arrays['token_margins'] = beam.margins
        arrays['runner_up'], arrays['margins'] = beam_runner_up(beam.ids, beam.rankings)
        both.update(with_prefix('beam/', arrays))
        return both


def by_word(attention, copied, logits):
    """Arranges the attention to the word of each position `(B, T, S)` by words, in an array of the logits' shape."""
    distribution = np.zeros_like(logits)
    for row, ids in enumerate(copied):
        valid = ids != PAD
        distribution[row][:, ids[valid]] = attention[row][:, valid]
    return distribution


def greedy_runner_up(logits, ids):
    """Returns the best other allowed token of each step, ids `(B, T)`; 0 after the end."""
    logits = logits.copy()
    logits[:, :, [PAD, START]] = -np.inf
    np.put_along_axis(logits, ids[:, :, None].astype(np.int64), -np.inf, axis=-1)
    return np.where(ids != PAD, np.argmax(logits, axis=-1), PAD).astype('i')


def beam_runner_up(ids, rankings):
    """Returns for each token the one at which the hypothesis of the nearest rank differs from its hypothesis.

    # Arguments
        ids: `(B, N, T)`. rankings: `(B, N)`.

    # Returns
        ids `(B, N, T)`, -1 where no other hypothesis differs first, and the difference of the rankings, infinity there.
    """
    runner_up, margins = np.full(ids.shape, -1, 'i'), np.full(ids.shape, np.inf, rankings.dtype)
    for row, n, other in np.ndindex(ids.shape[:2] + ids.shape[1:2]):
        differ = np.flatnonzero(ids[row, n] != ids[row, other])
        if not len(differ) or not np.isfinite(rankings[row, [n, other]]).all():
            continue
        t, difference = differ[0], abs(rankings[row, n] - rankings[row, other])
        if difference < margins[row, n, t]:
            runner_up[row, n, t], margins[row, n, t] = ids[row, other, t], difference
    return runner_up, margins


# The three kinds of files

def case_outputs(entry, recorded, dtype, gradients=True, searches=True):
    """Returns all stages of a small case.

    # Arguments
        entry: dict, the entry of the manifest.
        recorded: arrays with `parameter/...`, and `source` and `output` of both batches.
        dtype: `'float32'` or `'float64'`.
        gradients, searches: Booleans, include them: half and a quarter of the time.
    """
    arrays = OrderedDict()
    with tf_session.repeatable(dtype):
        model = Seq2Seq(with_defaults(entry['model']), *entry['vocabulary'], separators=separators_of(entry))
        check_parameters(model, recorded)    # before the first run of the graph, which makes its weights
        for name, value in get_parameters(model).items():
            if value.ndim < 2:  # biases and scalars start from constants; matrices from random numbers
                arrays['initial/' + name] = value
        set_parameters(model, recorded)
        arrays.update(with_prefix('parameter/', get_parameters(model)))
        stages = Stages(model, beam_search.Options(**entry['beam']), gradients, searches)
        for batch in compare.BATCHES:
            source = rows_of_ids(recorded['%s/source' % batch])
            target = rows_of_ids(recorded['%s/output' % batch], end=True)
            ids, copied = make_batch(source, target, range(len(source))), None
            if model.copied is not None:
                copied = pad(rows_of_ids(recorded['%s/copied' % batch]))
            of_batch = stages.teacher_forced(*ids, copied=copied, gradients=batch == 'padded',
                                             alignments=recorded.get('%s/alignments' % batch))
            if searches:
                of_batch.update(stages.searched(ids[0], np.full(len(source), LIMIT, 'i'), copied))
            arrays.update(with_prefix(batch + '/', of_batch))
    return arrays


def training_outputs(entry, recorded, dtype):
    """Trains by the training loop itself; returns each loss, and weights and slots after some updates.

    Without dropout a port can make the same updates, so that the rows of each batch are there too.

    # Arguments
        entry: dict, the entry of the manifest.
        recorded: arrays with `parameter/...`, `input/source` and `input/target`.
        dtype: `'float32'` or `'float64'`.
    """
    vocabularies = [Vocabulary(list(SPECIALS) + ['w%d' % i for i in range(size - len(SPECIALS))])
                    for size in entry['vocabulary']]
    texts = [[vocabularies[0].decode(row) for row in rows_of_ids(recorded['input/source'])],
             [vocabularies[1].decode(row) for row in rows_of_ids(recorded['input/target'])]]
    corpus = encode_pairs(*texts, *vocabularies)
    train_settings, batches = with_defaults(entry['model']), []
    arrays, losses = OrderedDict((name, recorded[name]) for name in ('input/source', 'input/target')), []
    with tf_session.repeatable(dtype):
        trainer = Trainer(train_settings, *entry['vocabulary'], train=corpus, validation=corpus, run=None)
        check_parameters(trainer.model, recorded)
        set_parameters(trainer.model, recorded)
        arrays.update(with_prefix('parameter/', get_parameters(trainer.model)))
        train_on_batch = trainer.keras_model.train_on_batch

        def record_loss(*batch, **options):
            losses.append(train_on_batch(*batch, **options)[0])
            return [losses[-1], 0., 0.]

        trainer.keras_model.train_on_batch = record_loss
        after_updates = OrderedDict()
        while trainer.state.update < STEPS:
            for indices in corpus.plan(train_settings.batch_size, train_settings.seed, trainer.state.epoch,
                                       shuffle=True):
                trainer.update([indices])
                batches.append(indices)
                if trainer.state.update in KEPT:
                    step = 'step_%d/' % trainer.state.update
                    after_updates.update(with_prefix(step + 'parameter/', get_parameters(trainer.model)))
                    slots = trainer.optimizer.weights
                    after_updates.update((step + 'slot/' + slot_name(slot.op.name), value)
                                         for slot, value in zip(slots, K.batch_get_value(slots)))
            trainer.state = trainer.state._replace(epoch=trainer.state.epoch + 1, position=0)
        if not train_settings.dropout and not train_settings.word_dropout:
            arrays['input/batches'] = np.array(batches, 'i')
        arrays['losses'] = np.array(losses, dtype)
        arrays.update(after_updates)
        arrays['step_50/evaluated'] = np.array(trainer.evaluate(corpus))
    return arrays


def subword_models(run, run_settings):
    """The lines of the subword models of a run as arrays `tokenizer/source` and `tokenizer/target`."""
    texts = [(side, run.read_file(MODEL_FILE % side).decode('utf-8')) for side in SIDES
             if getattr(run_settings, side + '_tokenizer') in KINDS]
    return OrderedDict(('tokenizer/' + side, np.array(text.split('\n')[:-1])) for side, text in texts)


class RecordedModels(object):
    """The arrays of `subword_models`, with the methods of `RunDirectory` that tokenisers need."""

    file = staticmethod(str)

    def __init__(self, recorded):
        self.files = {MODEL_FILE % side: recorded.get('tokenizer/' + side, ()) for side in SIDES}

    def read_file(self, name):
        return ''.join(line + '\n' for line in self.files[name]).encode('utf-8')


def sides_of(entry, recorded):
    """Returns the pairs of a tokeniser and a vocabulary of source and target, from settings and arrays."""
    vocabularies = [Vocabulary(recorded['vocabulary/' + side].tolist()) for side in SIDES]
    return list(zip(read_tokenizers(RecordedModels(recorded), with_defaults(entry['model'])), vocabularies))


def run_outputs(entry, recorded, sides=None):
    """Returns the stages of a trained run for some sentences: both searches, and teacher forcing on the greedy ids.

    # Arguments
        entry: dict, the entry of the manifest.
        recorded: arrays with `parameter/...`, `vocabulary/source`, `vocabulary/target` and `text/source`, and
            `tokenizer/...` of subwords.
        sides: pairs of a tokeniser and a vocabulary, as `Translator` takes them; by default those of `sides_of`.
    """
    run_settings, texts = with_defaults(entry['model']), recorded['text/source'].tolist()
    sides, gradients = sides or sides_of(entry, recorded), entry.get('gradients', False)
    (_, source_vocabulary), (_, target_vocabulary) = sides
    arrays = OrderedDict((name, value) for name, value in recorded.items()
                         if name in ('vocabulary/source', 'vocabulary/target', 'text/source')
                         or name.startswith('tokenizer/'))
    with tf_session.repeatable() as session:
        model = Seq2Seq(run_settings, len(source_vocabulary), len(target_vocabulary),
                        separators=separators(run_settings, source_vocabulary))
        check_parameters(model, recorded)
        set_parameters(model, recorded)
        arrays.update(with_prefix('parameter/', get_parameters(model)))
        run, options = translator.Translator(model, session, *sides), beam_search.Options(**entry['beam'])
        outputs = OrderedDict()
        for name, search_options in (('greedy', {}), ('beam', entry['beam'])):
            outputs['text/' + name] = np.array([best[0].text for best in run.translate(texts, **search_options)])
        tokens, copied = [run.encode(text) for text in texts], None
        source = pad(list(map(source_vocabulary.encode, tokens)))
        if run_settings.copy:
            names = list(map(target_vocabulary.names, tokens))
            copied = pad(list(map(target_vocabulary.encode, tokens, names)))
            most = max(map(len, names))
            arrays['vocabulary/names'] = np.array([row + [''] * (most - len(row)) for row in names], 'U')
        stages = Stages(model, options, gradients)
        searches = stages.searched(source, beam_search.max_lengths(np.sum(source != PAD, axis=1), options), copied)
        ids = make_batch(rows_of_ids(source), rows_of_ids(searches['greedy/ids'], end=True), range(len(source)))
        arrays.update(stages.teacher_forced(*ids, copied=copied, gradients=gradients))
        arrays.update(searches)
        arrays.update(outputs)
    return arrays
