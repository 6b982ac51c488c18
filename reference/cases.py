"""The small cases of the reference set: settings, weights and sentences, drawn once, when recording.

Each of {dot, general, concat, scaled_dot, location, local-m, local-p} occurs with each of {LSTM, GRU}, {one-way,
bidirectional}, {with, without input feeding} at least once, and so does each pair of the latter three. Each case runs
on a padded batch and on a batch of one. Depth, tied embeddings, shared vocabulary, scale and the other settings are
spread over the cases. Two more cases copy, on sentences with names.
"""
from collections import OrderedDict

import numpy as np

from reference import numpy_search
from reference.numpy_losses import coverage_losses
from reference.numpy_memories import model_of
from reference.numpy_model import END, PAD, START, UNK

LIMIT = 9           # maximum number of tokens of an output
FIRST_WORD = END + 1
VOCABULARY = (12, 11)
BASE = dict(
    units=6, embedding=5, encoder_units=None, cell='lstm', encoder_layers=1, decoder_layers=1, bidirectional=False,
    residual=False, recurrent_activation='hard_sigmoid', init_scale=0.1, tie_embeddings=False, share_vocabulary=False,
    copy=False, score='dot', attention='global', attention_units=None, attention_scale=False,
    attention_normalize=False, window=2, input_feeding=False, max_source_length=8, source_tokenizer='space',
    target_tokenizer='space', dropout=0., word_dropout=0., label_smoothing=0., coverage_loss=0., weight_decay=0.,
    averaging=0., clip_norm=0., accumulate=1, learning_rate=2e-3, warmup=0, decay='constant', seed=1, threads=1,
    batch_size=4, optimizer='adam', epochs=10)
BEAM = dict(beam_width=3, n_best=3, length_penalty=1.)

CASES = OrderedDict([
    ('dot-lstm', dict(score='dot', bidirectional=True, attention_scale=True)),
    ('dot-gru', dict(score='dot', cell='gru', input_feeding=True, encoder_layers=2, decoder_layers=2, residual=True)),
    ('general-lstm', dict(score='general', input_feeding=True, encoder_units=4, tie_embeddings=True)),
    ('general-gru', dict(score='general', cell='gru', bidirectional=True, encoder_units=8, attention_scale=True)),
    ('concat-lstm', dict(score='concat', bidirectional=True, input_feeding=True, attention_normalize=True)),
    ('concat-gru', dict(score='concat', cell='gru', attention_units=7, tie_embeddings=True, embedding=6)),
    ('scaled_dot-lstm', dict(score='scaled_dot', encoder_layers=2, label_smoothing=0.1)),
    ('scaled_dot-gru', dict(score='scaled_dot', cell='gru', bidirectional=True, input_feeding=True,
                            recurrent_activation='sigmoid')),
    ('location-lstm', dict(score='location', bidirectional=True, input_feeding=True, share_vocabulary=True)),
    ('location-gru', dict(score='location', cell='gru')),
    ('local-m-lstm', dict(score='general', attention='local-m', share_vocabulary=True, tie_embeddings=True)),
    ('local-m-gru', dict(score='dot', attention='local-m', cell='gru', bidirectional=True, input_feeding=True)),
    ('local-p-lstm', dict(score='general', attention='local-p', input_feeding=True)),
    ('local-p-gru', dict(score='concat', attention='local-p', cell='gru', bidirectional=True)),
    ('none-lstm', dict(score='none', bidirectional=True, encoder_layers=2, decoder_layers=2, residual=True)),
    ('copy-lstm', dict(score='concat', copy=True, bidirectional=True, coverage_loss=0.5)),
    ('copy-gru', dict(score='general', copy=True, cell='gru', input_feeding=True, share_vocabulary=True)),
    ('guided-lstm', dict(score='concat', bidirectional=True, input_feeding=True, guided_alignment=0.5)),
    ('dmn-gru', dict(score='general', encoder='dmn', hops=3, cell='gru', bidirectional=True, guided_alignment=0.5)),
    ('dmn-state-gru', dict(score='dot', encoder='dmn', exact_match='state', hops=2, cell='gru', bidirectional=True)),
    ('memory-gru', dict(score='dot', encoder='memory', hops=2, cell='gru', exact_match='state')),
    # The fast kernels; all other cases record those of Keras.
    ('fast-feeding-lstm', dict(score='general', kernels='fast', bidirectional=True, input_feeding=True,
                               decoder_layers=2, residual=True, tie_embeddings=True, label_smoothing=0.1)),
    ('fast-concat-gru', dict(score='concat', cell='gru', kernels='fast', bidirectional=True, encoder_layers=2,
                             attention_normalize=True)),
    ('fast-copy-lstm', dict(score='concat', kernels='fast', copy=True, coverage_loss=0.5)),
])
SEPARATORS = (4, (5,))
SEARCHES = {
    'dot-gru': dict(BEAM, n_best=2, length_penalty='average'),  # less than the beam width: tests when the search stops
    'general-lstm': dict(BEAM, coverage_penalty=0.3),
    'concat-gru': dict(BEAM, min_length=3),
    'local-m-lstm': dict(BEAM, no_repeat_ngram=2),
    'none-lstm': dict(BEAM, beam_width=4, length_penalty=0.),
    'copy-gru': dict(BEAM, no_repeat_ngram=2),
}
# 20 pairs in batches of 4 for 10 epochs: 50 updates
TRAININGS = OrderedDict([
    ('train-adam', dict(score='general', bidirectional=True, input_feeding=True, dropout=0.2, word_dropout=0.1,
                        label_smoothing=0.1, clip_norm=1., averaging=0.9, weight_decay=0.01, decay='linear',
                        learning_rate=1e-2)),
    ('train-sgd', dict(score='concat', cell='gru', dropout=0.2, optimizer='sgd', learning_rate=0.5, clip_norm=0.5,
                       averaging=0.99)),
    # Without random masks: a port can make all of its losses.
    ('train-plain', dict(score='general', bidirectional=True, input_feeding=True, label_smoothing=0.1, clip_norm=1.,
                         averaging=0.9, weight_decay=0.05, decay='linear', learning_rate=2e-3)),
])
TRAINING_TOLERANCE = (1e-4, 1e-5)


def describe(name):
    """Returns the manifest's entry of a case or a training: kind, settings, sizes of the vocabularies, search."""
    settings = dict(BASE, **dict(CASES, **TRAININGS)[name])
    vocabulary = (VOCABULARY[0],) * 2 if settings['share_vocabulary'] else VOCABULARY
    entry = {'kind': 'training' if name in TRAININGS else 'case', 'model': settings, 'vocabulary': list(vocabulary)}
    if 'encoder' in settings:
        entry['separators'] = recorded_separators(settings['encoder'], *SEPARATORS, marks=SEPARATORS[1])
    if name in TRAININGS:
        entry['tolerance'] = list(TRAINING_TOLERANCE)
    else:
        entry['beam'] = SEARCHES.get(name, BEAM)
    return entry


def recorded_separators(encoder, question_end, sentence_ends, marks):
    """The `Separators` as a manifest's entry has them; only a memory network reads the marks."""
    return [question_end, list(sentence_ends)] + ([list(marks)] if encoder == 'memory' else [])


def draw_sentences(random, lengths, size):
    """Returns a list of ids of words for each length."""
    return [random.randint(FIRST_WORD, size, n).tolist() for n in lengths]


def punctuate(sources):
    """Makes a question and a story of each long source: `q | a b . c d`, and `q | a b` of a short one."""
    for source in sources:
        source[:] = [word if word not in (4, 5) else 6 for word in source]
        if len(source) > 2:
            source[1] = SEPARATORS[0]
        if len(source) > 4:
            source[4] = SEPARATORS[1][0]


def draw_names(random, sources, targets, sizes):
    """Replaces sources and targets by words of both vocabularies, and returns the ids that copying each word outputs.

    Word w has the id w in a vocabulary with more than w words; in the target vocabulary any other word is a name. Every
    second word of a target is one of its source. The first source contains words and names twice; the third, all <unk>,
    a name twice; the fourth no name.
    """
    copied = []
    for row, (source, target) in enumerate(zip(sources, targets)):
        words = random.randint(FIRST_WORD, sizes[1] + (0 if row == 3 else 3), len(source)).tolist()
        if row == 0:
            words[0], words[1] = 5, sizes[1]
            words[4:] = words[:len(words) - 4]
        elif row == 2:
            words = [sizes[0] + i for i in (0, 1, 0)]
        names = list(OrderedDict.fromkeys(word for word in words if word >= sizes[1]))
        copied.append([word if word < sizes[1] else sizes[1] + names.index(word) for word in words])
        source[:] = [word if word < sizes[0] else UNK for word in words]
        if words:
            target[::2] = [copied[-1][i % len(words)] for i in range(0, len(target), 2)]
    return copied


def pad(rows):
    """Returns an array of all rows, with <pad> after the end of each."""
    padded = np.full((len(rows), max(map(len, rows))), PAD, 'i')
    for ids, row in zip(padded, rows):
        ids[:len(row)] = row
    return padded


def draw(name, shapes):
    """Returns weights of the shapes `{name: shape}` and sentences, as the arrays of a case's or a training's file.

    It is the first draw whose searches end at several lengths, some at the limit and some by </s>, with margins far
    above rounding.
    """
    for seed in range(1000):
        arrays = draw_once(name, shapes, np.random.RandomState([sum(map(ord, name)), seed]))
        if name in TRAININGS or has_varied_outputs(name, arrays):
            return arrays
    raise ValueError('%s: no draw gives searches that end at several lengths' % name)


def draw_once(name, shapes, random):
    """Draws the arrays of a file.

    The padded batch contains a full row, a sentence of length 1, one of <unk> only, a short one with a long target, and
    an empty one, whose row is masked completely.
    """
    arrays, copy = OrderedDict(), describe(name)['model']['copy']
    for parameter, shape in shapes.items():
        value = random.uniform(-1., 1., shape)
        if parameter in ('output/kernel', 'target_embedding/embeddings'):
            value = 2. * value      # different outputs with small rounding errors
        if copy and parameter.startswith('attention/'):
            value = 3. * value      # attention that differs from step to step
        if parameter.endswith(('/factor', '/norm')):
            value = value + 1.5
        arrays['parameter/' + parameter] = np.asarray(value * (0.5 if name in TRAININGS else 1.), 'f')
    sizes = describe(name)['vocabulary']
    if name in TRAININGS:
        lengths = random.randint(1, 7, (20, 2))
        arrays['input/source'], arrays['input/target'] = [
            pad(draw_sentences(random, lengths[:, side], sizes[side])) for side in (0, 1)]
        return arrays
    for batch, source, target in (('padded', [7, 1, 3, 2, 0], [4, 2, 3, 5, 1]), ('single', [5], [3])):
        sources, targets = [draw_sentences(random, lengths, size)
                            for lengths, size in zip((source, target), sizes)]
        if batch == 'padded':
            sources[2] = [UNK] * 3
        if 'separators' in describe(name):
            punctuate(sources)
        copied = draw_names(random, sources, targets, sizes) if copy else None
        arrays[batch + '/source'] = pad(sources)
        if copied:
            arrays[batch + '/copied'] = pad(copied)
        arrays[batch + '/given'] = pad([[START] + row for row in targets])
        arrays[batch + '/output'] = pad([row + [END] for row in targets])
        if describe(name)['model'].get('guided_alignment'):
            shape = arrays[batch + '/output'].shape + arrays[batch + '/source'].shape[1:]
            arrays[batch + '/alignments'] = np.asarray(random.uniform(size=shape) < .3, 'f')
    return arrays


def has_varied_outputs(name, arrays):
    """Whether the searches end at several lengths, with clear margins, and all their options have an effect."""
    entry = describe(name)
    model = model_of(entry['model'], {key[10:]: value for key, value in arrays.items() if key[:10] == 'parameter/'},
                     entry.get('separators'))
    source, copied = arrays['padded/source'], arrays.get('padded/copied')
    limits = np.full(len(source), LIMIT)
    greedy = numpy_search.greedy(model, source, limits, copied)
    if len(set(greedy.lengths)) < 3 or max(greedy.lengths) < LIMIT or min(greedy.lengths) < 2 or np.min(
            greedy.margins[greedy.ids != PAD]) < 1e-2:
        return False
    if copied is not None and np.max(greedy.ids) < entry['vocabulary'][1]:
        return False    # no output contains a name
    if entry['model']['coverage_loss']:
        weights = model.forward(source, arrays['padded/given'], copied)['weights']
        losses = coverage_losses(weights, arrays['padded/output'])
        if np.sum((losses > 0.05) & (losses < 0.95)) < 2:
            return False
    results = numpy_search.beam(model, source, limits, copied=copied, **entry['beam'])
    rankings = [[hypothesis.ranking for hypothesis in best] for best in results]
    lengths = {len(hypothesis.ids) for best in results for hypothesis in best}
    # If the order of the outputs did not change, a missing penalty would not be noticed.
    plain = numpy_search.beam(model, source, limits, entry['beam']['beam_width'], entry['beam']['n_best'],
                              copied=copied)
    reordered = ids_of(results) != ids_of(plain)
    return len(lengths) > 2 and min(-np.diff(row).max() for row in rankings if len(row) > 1) > 1e-3 and (
        reordered or entry['beam'].get('length_penalty') == 0.)


def ids_of(results):
    return [[hypothesis.ids for hypothesis in best] for best in results]
