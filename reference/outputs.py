"""What the graph of Keras and TensorFlow gives at every stage: for the small cases, for a short training, for a run.

Each function takes settings, parameters and inputs and returns the arrays of one `.npz` file, in the order of the
calculation, under the names that docs/porting.md lists. Nothing is drawn here: the same arguments give the same arrays.
"""
from collections import OrderedDict
import contextlib
import re
from unittest import mock

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
from keras import backend as K

import attention
from text.batches import make_batch, pad
from text.corpus_builder import encode_pairs
from text.questions import Separators, separators
from text.vocabulary import END, PAD, SPECIALS, START, Vocabulary
import guided_alignment
import pointer_generator
import beam_search
import seq2seq_model
from training.trainer import Trainer, token_loss
import translator
from reference import compare, numpy_model
from reference.cases import LIMIT
from settings import with_defaults
from text.tokenizers import make_tokenizer


STEPS = 50
KEPT = (1, 2, 10, 50)


@contextlib.contextmanager
def opened_session(dtype='float32'):
    """A one-thread session of its own, with Keras in `dtype`."""
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    # Rewriting the graph costs seconds for each of these graphs, and changes no bit of what they give.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    K.set_floatx(dtype)
    session = tf.Session(graph=tf.Graph(), config=config)
    try:
        with tf_session.opened(session):
            tf_session.seed_weights(1)
            yield session
    finally:
        session.close()
        K.set_floatx('float32')


@contextlib.contextmanager
def watched():
    """Notes the tensors that a model built inside the `with` block hands out nowhere: {stage: tensor}.

    With input feeding attention is called in the decoder's loop, then once over all its states: the last call counts.
    """
    seen, layer, model = {}, attention.GlobalAttention, seq2seq_model.Seq2Seq
    pointer = pointer_generator.PointerGenerator
    originals = (layer.attend, model._logits, pointer.switch, pointer.attention_to_words)

    def attend(self, query, *arguments):
        output = originals[0](self, query, *arguments)
        seen.update(output._asdict())
        seen.setdefault('queries', []).append(query)
        return output

    def logits(self, x):
        seen['attentional_states'], seen['logits'] = x, originals[1](self, x)
        return seen['logits']

    def switch(self, *arguments):
        seen['switch'] = originals[2](self, *arguments)
        return seen['switch']

    def attention_to_words(self, *arguments):
        seen['attention_to_words'] = originals[3](self, *arguments)
        return seen['attention_to_words']

    with mock.patch.object(layer, 'attend', attend), mock.patch.object(model, '_logits', logits), \
            mock.patch.object(pointer, 'switch', switch), \
            mock.patch.object(pointer, 'attention_to_words', attention_to_words):
        yield seen


def separators_of(entry):
    """The `Separators` in a manifest's entry, or `None`."""
    return Separators(*entry['separators']) if 'separators' in entry else None


def set_parameters(model, parameters):
    """Puts `{neutral name: array}` in the place of the model's weights."""
    pairs = [(weight, parameters[numpy_model.neutral(weight.name)]) for weight in model.training_model.weights]
    K.batch_set_value([(weight, np.asarray(value, weight.dtype.base_dtype.as_numpy_dtype)) for weight, value in pairs])


def get_parameters(model):
    weights = model.training_model.weights
    return OrderedDict((numpy_model.neutral(weight.name), value)
                       for weight, value in zip(weights, K.batch_get_value(weights)))


def slot_name(name):
    """`decoder_1/kernel_m` for `training/Adam/decoder/cell_1/kernel_m_1`."""
    return numpy_model.neutral(re.sub(r'^(training/)?[A-Za-z]+/|_[0-9]+$', '', name))


def with_prefix(prefix, arrays):
    return OrderedDict((prefix + name, value) for name, value in arrays.items())


def rows_of_ids(ids, end=False):
    """Padded ids `(B, S)` to lists without padding, and without </s> where `end`."""
    return [[int(i) for i in row if i != PAD and not (end and i == END)] for row in np.asarray(ids)]


# Stages of one batch

class Stages(object):
    """The tensors of all stages of a model, made once and run for several batches.

    # Arguments
        model: `Seq2Seq`. seen: what `watched` noted of it. options: `search.Options` of the beam.
        gradients, searches: Booleans, make the gradient of the loss, and both searches.
    """

    def __init__(self, model, seen, options, gradients, searches=True):
        self.model, self.options = model, options
        settings, keras_model = model.settings, model.training_model
        self.forward = OrderedDict([('encoder_states', model.encoder_model.outputs[0]),
                                    ('initial_states', tf.stack(model.encoder_model.outputs[1:], axis=1))])
        if settings.score == 'none':
            seen['decoder_states'] = seen['attentional_states']
        else:  # with several hops, the other queries are attentional states, and the alignment is the mean of the hops
            seen['decoder_states'] = seen['queries'][-settings.hops]
            if settings.hops > 1:
                seen['weights'] = model.alignment_model.outputs[1]
        for name in ('decoder_states', 'scores', 'masked_scores', 'weights', 'context'):
            if name in seen:
                self.forward[name] = seen[name]
        if settings.score != 'none':
            self.forward['attentional_states'] = seen['attentional_states']
        self.forward['logits'] = seen['logits']
        if settings.copy:
            self.forward['vocabulary_logits'] = self.forward.pop('logits')
            self.forward['p_gen'] = tf.sigmoid(seen['switch'])
            self.forward['copy_distribution'] = seen['attention_to_words']      # made one of words when it has values
            self.forward['logits'] = tf.nn.log_softmax(keras_model.outputs[0])
        loss = token_loss(settings, model)
        if settings.coverage_loss:
            self.forward['coverage_losses'] = pointer_generator.coverage_loss(model.alignment_model.outputs[1])
        if settings.guided_alignment:
            self.forward['guided_losses'] = guided_alignment.guided_alignment_loss(
                model.alignment_model.outputs[1], model.gold, model.memory.mask)
        keras_model.compile('sgd', loss.loss, sample_weight_mode='temporal')
        self.forward['token_losses'] = loss.loss(keras_model.targets[0], keras_model.outputs[0])
        self.forward['loss'] = keras_model.total_loss
        self.gradients = {}
        if gradients:
            found = K.gradients(keras_model.total_loss, keras_model.trainable_weights)
            self.gradients = OrderedDict(('gradient/' + numpy_model.neutral(weight.name), tf.convert_to_tensor(one))
                                         for weight, one in zip(keras_model.trainable_weights, found))
        if not searches:
            return
        self.limits = tf.placeholder(tf.int32, [None])
        self.greedy, self.beam = [beam_search.search(model.step, model.start(), self.limits, one, model.memory.mask)
                                  for one in (beam_search.Options(), options)]

    def feed(self, source, copied):
        """What the graph takes of a batch; `copied` is `None` in a model that does not copy."""
        fed = {self.model.source: source, K.learning_phase(): 0}
        if copied is not None:
            fed[self.model.copied] = copied
        return fed

    def teacher_forced(self, source, given, output, copied, gradients, alignments=None):
        """Arrays of the stages for a batch of ids, gradients included where wanted and made."""
        fetched = OrderedDict(list(self.forward.items()) + (list(self.gradients.items()) if gradients else []))
        fed, keras_model, valid = self.feed(source, copied), self.model.training_model, output != PAD
        fed.update({self.model.target: given, keras_model.targets[0]: output[:, :, None],
                    keras_model.sample_weights[0]: valid.astype(K.floatx())})
        if alignments is not None:
            fed[self.model.gold] = alignments
        arrays = OrderedDict(zip(fetched, K.get_session().run(list(fetched.values()), fed)))
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
        """Arrays of greedy and beam search; with the runner-ups that make a flip a tie."""
        fed = self.feed(source, copied)
        greedy, beam = K.get_session().run([self.greedy, self.beam], {**fed, self.limits: limits})
        arrays = OrderedDict((name, getattr(greedy, name)[:, 0])
                             for name in ('ids', 'lengths', 'log_probabilities', 'weights', 'margins'))
        given = np.concatenate([np.full((len(source), 1), START), arrays['ids'][:, :-1]], axis=1)
        fed[self.model.target] = given
        logits = K.get_session().run(self.forward['logits'], fed)
        arrays['runner_up'] = greedy_runner_up(logits, arrays['ids'])
        found = with_prefix('greedy/', arrays)
        arrays = OrderedDict((name, getattr(beam, name))
                             for name in ('ids', 'lengths', 'log_probabilities', 'weights', 'rankings'))
        arrays['token_margins'] = beam.margins
        arrays['runner_up'], arrays['margins'] = beam_runner_up(beam.ids, beam.rankings)
        found.update(with_prefix('beam/', arrays))
        return found


def by_word(attention, copied, logits):
    """What each position has of its word `(B, T, S)`, as a distribution over words, of the shape of the logits."""
    found = np.zeros_like(logits)
    for row, ids in enumerate(copied):
        valid = ids != PAD
        found[row][:, ids[valid]] = attention[row][:, valid]
    return found


def greedy_runner_up(logits, ids):
    """The best other token that was allowed at each step, ids `(B, T)`; 0 behind the end."""
    logits = logits.copy()
    logits[:, :, [PAD, START]] = -np.inf
    np.put_along_axis(logits, ids[:, :, None].astype(np.int64), -np.inf, axis=-1)
    return np.where(ids != PAD, np.argmax(logits, axis=-1), PAD).astype('i')


def beam_runner_up(ids, rankings):
    """For each token of each hypothesis the token of the hypothesis nearest in rank that parts from it there.

    # Returns
        ids `(B, N, T)`, -1 where no other hypothesis parts, and the difference of the two rankings, infinity there.
    """
    runner_up, margins = np.full(ids.shape, -1, 'i'), np.full(ids.shape, np.inf, rankings.dtype)
    for row in range(len(ids)):
        for one in range(ids.shape[1]):
            for other in range(ids.shape[1]):
                apart = np.flatnonzero(ids[row, one] != ids[row, other])
                if not len(apart) or not np.isfinite(rankings[row, [one, other]]).all():
                    continue
                difference = abs(rankings[row, one] - rankings[row, other])
                if difference < margins[row, one, apart[0]]:
                    runner_up[row, one, apart[0]], margins[row, one, apart[0]] = ids[row, other, apart[0]], difference
    return runner_up, margins


# The three kinds of files

def case_outputs(settings, recorded, dtype, gradients=True, searches=True):
    """All stages of a small case.

    # Arguments
        settings: dict. recorded: arrays with `parameter/...`, and `source` and `output` of both batches.
        gradients, searches: Booleans, make them too: half and a quarter of the time.
    """
    arrays = OrderedDict()
    with opened_session(dtype):
        with watched() as seen:
            model = seq2seq_model.Seq2Seq(with_defaults(settings['model']), *settings['vocabulary'],
                                          separators=separators_of(settings))
        for name, value in get_parameters(model).items():
            if value.ndim < 2:  # biases and scalars start from constants; matrices from random numbers
                arrays['initial/' + name] = value
        set_parameters(model, {name[10:]: value for name, value in recorded.items() if name.startswith('parameter/')})
        arrays.update(with_prefix('parameter/', get_parameters(model)))
        stages = Stages(model, seen, beam_search.Options(**settings['beam']), gradients, searches)
        for batch in compare.BATCHES:
            source, target = (rows_of_ids(recorded['%s/source' % batch]),
                              rows_of_ids(recorded['%s/output' % batch], end=True))
            ids, copied = make_batch(source, target, range(len(source))), None
            if model.copied is not None:
                copied = pad(rows_of_ids(recorded['%s/copied' % batch]))
            made = stages.teacher_forced(*ids, copied=copied, gradients=batch == 'padded',
                                         alignments=recorded.get('%s/alignments' % batch))
            if searches:
                made.update(stages.searched(ids[0], np.full(len(source), LIMIT, 'i'), copied))
            arrays.update(with_prefix(batch + '/', made))
    return arrays


def training_outputs(settings, recorded, dtype):
    """A short training by the training loop itself, dropout on: each loss, weights and slots after some steps."""
    sides = [Vocabulary(list(SPECIALS) + ['w%d' % i for i in range(size - 4)])
             for size in settings['vocabulary']]
    texts = [[sides[0].decode(row) for row in rows_of_ids(recorded['input/source'])],
             [sides[1].decode(row) for row in rows_of_ids(recorded['input/target'])]]
    corpus = encode_pairs(*texts, *sides)
    chosen = with_defaults(settings['model'])
    arrays, losses = OrderedDict((name, recorded[name]) for name in ('input/source', 'input/target')), []
    with opened_session(dtype):
        trainer = Trainer(chosen, *settings['vocabulary'], train=corpus, validation=corpus, run=None)
        set_parameters(trainer.model, {name[10:]: value for name, value in recorded.items()
                                       if name.startswith('parameter/')})
        arrays.update(with_prefix('parameter/', get_parameters(trainer.model)))
        train_on_batch = trainer.keras_model.train_on_batch

        def noted(*batch, **options):
            losses.append(train_on_batch(*batch, **options)[0])
            return [losses[-1], 0., 0.]

        trainer.keras_model.train_on_batch = noted
        kept = OrderedDict()
        while trainer.state.update < STEPS:
            for indices in corpus.plan(chosen.batch_size, chosen.seed, trainer.state.epoch, shuffle=True):
                trainer.update([indices])
                if trainer.state.update in KEPT:
                    step = 'step_%d/' % trainer.state.update
                    kept.update(with_prefix(step + 'parameter/', get_parameters(trainer.model)))
                    slots = trainer.optimizer.weights
                    kept.update((step + 'slot/' + slot_name(slot.op.name), value)
                                for slot, value in zip(slots, K.batch_get_value(slots)))
            trainer.state = trainer.state._replace(epoch=trainer.state.epoch + 1, position=0)
        arrays['losses'] = np.array(losses, dtype)
        arrays.update(kept)
        arrays['step_50/evaluated'] = np.array(trainer.evaluate(corpus))
    return arrays


def run_outputs(settings, recorded, sides=None):
    """The stages for a trained run and sentences: teacher-forced on what greedy search found, and both searches.

    # Arguments
        recorded: arrays with `parameter/...`, `vocabulary/source`, `vocabulary/target` and `text/source`.
        sides: pairs of a tokeniser and a vocabulary, as `Translator` takes them; by default from settings and arrays.
    """
    chosen, texts = with_defaults(settings['model']), recorded['text/source'].tolist()
    sides = sides or [(make_tokenizer(getattr(chosen, side + '_tokenizer')),
                       Vocabulary(recorded['vocabulary/' + side].tolist())) for side in ('source', 'target')]
    arrays = OrderedDict((name, recorded[name]) for name in ('vocabulary/source', 'vocabulary/target', 'text/source'))
    with opened_session() as session:
        with watched() as seen:
            model = seq2seq_model.Seq2Seq(chosen, *[len(vocabulary) for _, vocabulary in sides],
                                          separators=separators(chosen, sides[0][1]))
        set_parameters(model, {name[10:]: value for name, value in recorded.items() if name.startswith('parameter/')})
        arrays.update(with_prefix('parameter/', get_parameters(model)))
        working, options = translator.Translator(model, session, *sides), beam_search.Options(**settings['beam'])
        made = OrderedDict(('text/' + name, np.array([one[0].text for one in working.translate(texts, **how)]))
                           for name, how in (('greedy', {}), ('beam', settings['beam'])))
        tokens, copied = [working.encode(text) for text in texts], None
        source = pad(list(map(sides[0][1].encode, tokens)))
        if chosen.copy:
            names = list(map(sides[1][1].names, tokens))
            copied = pad(list(map(sides[1][1].encode, tokens, names)))
            most = max(map(len, names))
            arrays['vocabulary/names'] = np.array([row + [''] * (most - len(row)) for row in names], 'U')
        stages = Stages(model, seen, options, gradients=False)
        found = stages.searched(source, beam_search.max_lengths(np.sum(source != PAD, axis=1), options), copied)
        ids = make_batch(rows_of_ids(source), rows_of_ids(found['greedy/ids'], end=True), range(len(source)))
        arrays.update(stages.teacher_forced(*ids, copied=copied, gradients=False))
        arrays.update(found)
        arrays.update(made)
    return arrays
