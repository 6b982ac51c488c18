"""The question encoder, `--encoder dmn`: sources of the form `question | story`, after dynamic memory networks.

Letters: B batch, S source length, Q length of a question, N sentences of a story, L length of a sentence.
"""
from keras import ops
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


def encode_story(model, source):
    """Ids (B, S) to encoder states (B, S, Dm), their mask (B, S), true at the last token of each sentence, and the
    last states of one layer, the question's.

    One cell reads the question, and its last states are the decoder's first. One reads each sentence: each input is
    the word's embedding, the question's last state, and the sum of the question's states at this word (in older runs 1
    if the question contains it). The encoder's layers read the sentences in order, with a residual connection.
    """
    stories = [split([int(i) for i in row if i], *model.separators) for row in source]
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
    story = ops.reshape(last[0], (len(source), count, -1))                                          # (B, N, Dm)
    fused = model.encode(story, places.any(axis=2))[0] + story
    memory = ops.einsum('bns,bnd->bsd', ops.cast(places, fused.dtype), fused)
    return memory, ops.convert_to_tensor(places.any(axis=1)), [states]
