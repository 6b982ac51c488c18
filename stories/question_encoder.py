"""Reads questions about stories, for `--encoder memory` and `dmn`, and fuses sentences as dynamic memory networks do.

The source is one sequence, `question | story`. One recurrent layer reads the question; its last states are the first
states of the decoder. One recurrent layer reads each sentence of the story. Each of its inputs is the word's
embedding, the question's last state (as in the example `babi_rnn` of Keras) and the exact match: the question's state
at this word, 0 where the question does not contain it. So a sentence tells which part of the question it is about,
whatever the name is. `memory_network.py` makes memories of these states. With `dmn` the encoder's own layers then
read the sentences in order: the "input fusion layer" of Xiong et al., here with a residual connection. The decoder
attends to the sum. A sentence's state is at the position of its last token, and the mask hides all other positions,
so attention, search, alignments and pictures work on positions of the source as with any encoder.

Letters: B batch, S source length, Q length of a question, N sentences of a story, L length of a sentence, E embedding
size, D and Dm sizes of decoder and encoder states.

# References
    - [Ask Me Anything: Dynamic Memory Networks](https://arxiv.org/abs/1506.07285)
    - [Dynamic Memory Networks for Visual and Textual Question Answering](https://arxiv.org/abs/1603.01417)
    - [Reading Wikipedia to Answer Open-Domain Questions](https://arxiv.org/abs/1704.00051), exact match
"""
import collections

from keras import backend as K
from keras.engine import Layer
from keras.layers import Add
import tensorflow as tf

from text.vocabulary import END, PAD

Layout = collections.namedtuple('Layout', 'question story ends sentence offset')
Layout.__doc__ = """Where the parts of the source are; all tensors have shape (B, S).

`question`, `story` and `ends` are booleans: tokens of the question, tokens of the story, last tokens of the story's
sentences. For each token of the story, `sentence` is the index of its sentence and `offset` its place in the sentence.
"""


def find_layout(ids, separators):
    """The `Layout` of source ids `(B, S)`.

    The first question end divides question and story; a source without it is a story without a question. A sentence
    ends with the last of adjacent sentence ends, and with the source.

    # Arguments
        ids: source ids `(B, S)`.
        separators: `questions.Separators`.
    """
    valid = tf.not_equal(ids, PAD)
    divides = tf.equal(ids, separators.question_end)
    passed = tf.cumsum(tf.cast(divides, tf.int32), axis=1)
    divided = tf.logical_and(passed[:, -1:] > 0, valid)
    question = tf.logical_and(divided, tf.equal(passed, 0))
    first = tf.logical_and(divides, tf.equal(passed, 1))
    story = tf.logical_and(valid, tf.logical_not(tf.logical_or(question, first)))
    end_mark = tf.zeros_like(story)
    for end in separators.sentence_ends:
        end_mark = tf.logical_or(end_mark, tf.equal(ids, end))
    following = tf.pad(tf.logical_and(story, tf.logical_not(end_mark))[:, 1:], [[0, 0], [0, 1]])
    last = tf.logical_not(tf.pad(story[:, 1:], [[0, 0], [0, 1]]))
    ends = tf.logical_and(story, tf.logical_or(tf.logical_and(end_mark, following), last))
    sentence = tf.cumsum(tf.cast(ends, tf.int32), axis=1, exclusive=True)
    membership = tf.one_hot(sentence, tf.reduce_max(sentence) + 1, dtype=K.floatx())                    # (B, S, N)
    membership *= tf.cast(story, K.floatx())[:, :, None]
    starts = tf.cumsum(tf.reduce_sum(membership, axis=1), axis=1, exclusive=True)                       # (B, N)
    offset = tf.cumsum(tf.cast(story, tf.int32), axis=1, exclusive=True) - tf.cast(
        tf.reduce_sum(membership * starts[:, None], axis=2), tf.int32)
    return Layout(question, story, ends, sentence, offset)


def sentence_count(ends):
    """N, the maximum number of sentences of a source, at least 1, for `ends` `(B, S)`."""
    return tf.maximum(tf.reduce_max(tf.reduce_sum(tf.cast(ends, tf.int32), axis=1)), 1)


class QuestionIds(Layer):
    """The question's ids `(B, Q)` in the source `(B, S)`; the second input, `(B, S)`, replaces their values."""

    def __init__(self, separators, **kwargs):
        super(QuestionIds, self).__init__(**kwargs)
        self.separators = separators

    def call(self, inputs):
        source, ids = inputs
        question = find_layout(source, self.separators).question
        length = tf.maximum(tf.reduce_max(tf.reduce_sum(tf.cast(question, tf.int32), axis=1)), 1)
        return tf.where(question, ids, tf.fill(tf.shape(ids), PAD))[:, :length]

    def compute_output_shape(self, input_shape):
        return input_shape[0]


class SentenceIds(QuestionIds):
    """The ids of each sentence of the story, one row a sentence `(B N, L)`; inputs as for `QuestionIds`."""

    def call(self, inputs):
        source, ids = inputs
        layout = find_layout(source, self.separators)
        count = sentence_count(layout.ends)
        length = tf.maximum(tf.reduce_max(tf.where(layout.story, layout.offset, -tf.ones_like(ids))) + 1, 1)
        places = tf.where(layout.story)                                                                 # (tokens, 2)
        rows = tf.cast(places[:, 0], tf.int32) * count + tf.gather_nd(layout.sentence, places)
        indices = tf.stack([rows, tf.gather_nd(layout.offset, places)], axis=1)
        return tf.scatter_nd(indices, tf.gather_nd(ids, places), tf.stack([tf.shape(ids)[0] * count, length]))


class SentenceEnds(Layer):
    """1 at the last token of each sentence of the story, else 0: source ids `(B, S)` to the mask of the memory."""

    def __init__(self, separators, **kwargs):
        super(SentenceEnds, self).__init__(**kwargs)
        self.separators = separators

    def call(self, source):
        return tf.cast(find_layout(source, self.separators).ends, K.floatx())


class WithQuestion(Layer):
    """Joins the question's last state and the exact match to each word of the sentences.

    # Arguments
        kind: `'state'`: the sum of the question's states at the places of the word; `'flag'`: 1 if the question
            contains the word, else 0.

    # Input shape
        Embedded sentences `(B N, L, E)`, the question's last state `(B, D)`, sentence ids `(B N, L)`, question ids
        `(B, Q)` and the question's states `(B, Q, D)`.

    # Output shape
        `(B N, L, E + D + D)`, or `(B N, L, E + D + 1)` for `'flag'`.
    """

    def __init__(self, kind='state', **kwargs):
        super(WithQuestion, self).__init__(**kwargs)
        self.kind = kind
        self.supports_masking = True

    def call(self, inputs, mask=None):
        words, state, ids, question, states = inputs
        count = tf.shape(ids)[0] // tf.shape(question)[0]
        same = tf.equal(ids[:, :, None], _repeat(question, count)[:, None])                             # (B N, L, Q)
        if self.kind == 'flag':
            match = tf.reduce_any(same, axis=2)                                                         # (B N, L)
            match = tf.cast(tf.logical_and(match, ids > END), K.floatx())[:, :, None]    # <unk> matches no other <unk>
        else:
            same = tf.cast(tf.logical_and(same, ids[:, :, None] > END), K.floatx())
            same = tf.reshape(same, tf.stack([tf.shape(question)[0], -1, tf.shape(question)[1]]))       # (B, N L, Q)
            match = tf.reshape(tf.matmul(same, states), tf.stack([-1, tf.shape(ids)[1], K.int_shape(states)[2]]))
        state = _repeat(state, count)[:, None] + tf.zeros_like(words[:, :, :1])                         # (B N, L, D)
        return tf.concat([words, state, match], axis=2)

    def compute_output_shape(self, input_shape):
        words, state = input_shape[:2]
        return words[:2] + (words[2] + state[1] + (1 if self.kind == 'flag' else state[1]),)

    def compute_mask(self, inputs, mask=None):
        return mask[0]


def _repeat(x, count):
    """`(B, n)` to `(B count, n)`: each row `count` times in succession."""
    return tf.reshape(tf.tile(x[:, None], tf.stack([1, count, 1])), tf.stack([-1, tf.shape(x)[1]]))


class SentencesOfStory(Layer):
    """One row a sentence `(B N, Dm)` to one row a story `(B, N, Dm)`, masked where a story has fewer sentences.

    The second input is the mask of the memory `(B, S)`, from `SentenceEnds`.
    """

    def __init__(self, **kwargs):
        super(SentencesOfStory, self).__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        sentences, ends = inputs
        return tf.reshape(sentences, tf.stack([tf.shape(ends)[0], -1, K.int_shape(sentences)[1]]))

    def compute_mask(self, inputs, mask=None):
        ends = inputs[1] > .5
        return tf.sequence_mask(tf.reduce_sum(tf.cast(ends, tf.int32), axis=1), sentence_count(ends))

    def compute_output_shape(self, input_shape):
        return input_shape[1][0], None, input_shape[0][1]


class MemoryAtEnds(Layer):
    """Puts the states of the sentences `(B, N, Dm)` at the positions of their last tokens: `(B, S, Dm)`.

    The second input is the mask of the memory `(B, S)`, from `SentenceEnds`; the output has this mask.
    """

    def __init__(self, **kwargs):
        super(MemoryAtEnds, self).__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        states, ends = inputs
        places = tf.where(ends > .5)                                                                # (sentences, 2)
        index = tf.cumsum(tf.cast(ends, tf.int32), axis=1, exclusive=True)
        indices = tf.stack([tf.cast(places[:, 0], tf.int32), tf.gather_nd(index, places)], axis=1)
        memory = tf.scatter_nd(places, tf.gather_nd(states, indices), tf.cast(
            tf.stack([tf.shape(ends)[0], tf.shape(ends)[1], K.int_shape(states)[2]]), tf.int64))
        memory.set_shape([None, None, K.int_shape(states)[2]])  # the attention reads its width
        return memory

    def compute_mask(self, inputs, mask=None):
        return inputs[1] > .5

    def compute_output_shape(self, input_shape):
        return input_shape[1][0], input_shape[1][1], input_shape[0][2]


Parts = collections.namedtuple('Parts', 'question sentences question_states sentence_state')
Parts.__doc__ = """A source read in parts: ids of the question `(B, Q)` and of the sentences `(B N, L)`, the last states
of the question, a list of `(B, D)`, and of the sentences `(B N, Dm)`."""


def read_parts(source, ids, separators, embed, drop, recurrent, sizes, match):
    """Builds the layers that read the question and each sentence.

    # Arguments
        source, ids: source ids `(B, S)`, and the same after word dropout.
        separators: `questions.Separators`.
        embed, drop: functions of ids and of a tensor: the source embedding, and dropout.
        recurrent: function of a size and Keras arguments to a recurrent layer of the model's cell.
        sizes: Dm and D.
        match: kind of exact match of `WithQuestion`.

    # Returns
        `Parts`.
    """
    question, sentences = QuestionIds(separators)([source, ids]), SentenceIds(separators)([source, ids])
    options = dict(return_sequences=True, return_state=True)
    outputs, *question_states = recurrent(sizes[1], name='question_encoder', **options)(drop(embed(question)))
    words = WithQuestion(match)([drop(embed(sentences)), question_states[0], sentences, question, outputs])
    sentence_state = recurrent(sizes[0], name='sentence_encoder', **options)(words)[1]                 # (B N, Dm)
    return Parts(question, sentences, question_states, sentence_state)


def fuse_sentences(sentence_state, ends, encode):
    """Builds the encoder states `(B, S, Dm)` of `--encoder dmn`, masked except at the ends of sentences.

    # Arguments
        sentence_state: of `Parts`.
        ends: output of `SentenceEnds` for the source.
        encode: function of sentence vectors `(B, N, Dm)` to the encoder's states `(B, N, Dm)`.
    """
    story = SentencesOfStory()([sentence_state, ends])                                                  # (B, N, Dm)
    return MemoryAtEnds()([Add()([encode(story), story]), ends])
