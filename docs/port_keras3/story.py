"""The encoders of sources of the form `question | story`: `--encoder dmn`, after dynamic memory networks, and
`--encoder memory`, an end-to-end memory network, with its hops.

Letters: B batch, S source length, Q length of a question, N sentences of a story, L length of a sentence, H hops,
D and Dm decoder and sentence state, M = (H + 1) D.
"""
from keras import layers, ops
import numpy as np

END = 3         # the last of the special ids; the first is padding


def split(ids, question_end, sentence_ends):
    """The question's ids, and (position of its last token, ids) of each sentence, of one source without padding."""
    first = ids.index(question_end) + 1 if question_end in ids else 0
    sentences, words = [], []
    for position in range(first, len(ids)):
        words.append(ids[position])
        is_last = position + 1 == len(ids)
        if is_last or words[-1] in sentence_ends and ids[position + 1] not in sentence_ends:
            sentences.append((position, words))
            words = []
    return ids[:max(first - 1, 0)], sentences


def pad(rows, length=1):
    """Lists of ids to an array with 0 after the end of each, of at least `length` columns."""
    length = max([length] + [len(row) for row in rows])
    return np.array([row + [0] * (length - len(row)) for row in rows], 'int32')


def read_parts(model, source):
    """Reads the question and each sentence of ids (B, S).

    One cell reads the question, and its last states are the decoder's first. One reads each sentence: each input is
    the word's embedding, the question's last state, and the sum of the question's states at this word (in older runs 1
    if the question contains it).

    Returns ids of the questions (B, Q) and of the sentences (B N, L), the places of the sentences' last tokens
    (B, N, S), the question's last states, and the sentences' (B, N, Dm).
    """
    stories = [split([int(i) for i in row if i], *model.separators[:2]) for row in source]
    questions = pad([question for question, _ in stories])                                          # (B, Q)
    count = max([1] + [len(sentences) for _, sentences in stories])                                 # N
    words = pad([sentences[n][1] if n < len(sentences) else [] for _, sentences in stories for n in range(count)])
    places = np.zeros((len(source), count, source.shape[1]), bool)                                  # (B, N, S)
    for row, (_, sentences) in enumerate(stories):
        for n, (position, _) in enumerate(sentences):
            places[row, n, position] = True
    outputs, *states = model.read('question_encoder', model.source_embedding(questions), questions != 0)
    match = (words[:, :, None] == np.repeat(questions, count, axis=0)[:, None]) & (words > END)[:, :, None]
    match = ops.cast(match, outputs.dtype)                                                          # (B N, L, Q)
    if model.settings.get('exact_match', 'flag') == 'flag':
        match = ops.max(match, axis=2, keepdims=True)
    else:
        match = match @ ops.repeat(outputs, count, axis=0)                                          # (B N, L, D)
    embedded = model.source_embedding(words)                                                        # (B N, L, E)
    question = ops.repeat(ops.repeat(states[0], count, axis=0)[:, None], words.shape[1], axis=1)
    joined = ops.concatenate([embedded, question, match], axis=-1)
    _, *last = model.read('sentence_encoder', joined, words != 0)
    return questions, words, places, states, ops.reshape(last[0], (len(source), count, -1))


def encode_story(model, source):
    """Ids (B, S) to encoder states (B, S, Dm), their mask (B, S), true at the last token of each sentence, and the
    last states of one layer, the question's. The encoder's layers read the sentences in order, with a residual
    connection."""
    _, _, places, states, story = read_parts(model, source)
    fused = model.encode(story, places.any(axis=2))[0] + story
    memory = ops.einsum('bns,bnd->bsd', ops.cast(places, fused.dtype), fused)
    return memory, ops.convert_to_tensor(places.any(axis=1)), [states]


class Ages(layers.Layer):
    """A vector (M,) for each number of later sentences; the last one for more."""

    def __init__(self, count, width):
        super().__init__()
        self.ages = self.add_weight(shape=(count, width), name='ages')

    def call(self, numbers):
        return ops.take(self.ages, np.clip(numbers, 0, self.ages.shape[0] - 1), axis=0)


def encode_memories(model, source):
    """The same with memories (B, 1 + N, M): row 0 is the question, then come the sentences. Each is the sum of its
    words, weighted by their places; a sentence has its age and its state, too."""
    questions, words, places, states, story = read_parts(model, source)
    width, exists = model.settings['units'], places.any(axis=2)                                     # (B, N)

    def sum_of_words(ids):
        counts = ((ids != 0) & ~np.isin(ids, model.separators[2])).astype('float64')                # (n, L)
        j = (np.cumsum(counts, axis=1) / np.maximum(counts.sum(axis=1, keepdims=True), 1.))[..., None]
        k = np.tile(np.arange(1, width + 1) / width, model.settings['hops'] + 1)                    # (M,)
        factors = ops.cast(counts[..., None] * (1. - j - k * (1. - 2. * j)), story.dtype)
        return ops.sum(factors * model.layers['memory_embedding'](ids), axis=1)                     # (n, M)
    sums = ops.reshape(sum_of_words(words), (len(source), story.shape[1], -1))
    memories = sums + model.layers['memory_state'](story) + model.layers['memories'](
        exists.sum(axis=1, keepdims=True) - 1 - np.arange(story.shape[1]))
    memories = memories * ops.cast(exists[..., None], story.dtype)
    memories = ops.concatenate([sum_of_words(questions)[:, None], memories], axis=1)
    return memories, ops.convert_to_tensor(places.any(axis=1)), [states]


def hops(x, memories, valid, count):
    """Stages of the hops from decoder states x (B, D): u_0 = q + x, and each hop adds what it reads to u."""
    each, each_hop = ops.split(memories, count + 1, axis=-1), []
    number = ops.cast(ops.cumsum(ops.cast(valid, 'int32'), axis=1), 'int32')                        # (B, S), from 1
    exists = ops.arange(1, memories.shape[1], dtype='int32') <= number[:, -1:]                      # (B, N)
    u = x + each[0][:, 0]                                                                           # (B, D)
    for keys, values in zip(each, each[1:]):
        scores = ops.einsum('bd,bnd->bn', u, keys[:, 1:])
        masked = ops.where(exists, scores, -1e9)
        each_hop.append(ops.where(exists, ops.softmax(masked, axis=-1), 0.))
        context = ops.einsum('bn,bnd->bd', each_hop[-1], values[:, 1:])
        u = u + context
    weights = ops.take_along_axis(sum(each_hop) / count, ops.maximum(number - 1, 0), axis=1)
    return {'scores': scores, 'masked_scores': masked, 'weights': ops.where(valid, weights, 0.), 'context': context,
            'attentional_states': u}
