"""The encoder of questions about stories as an end-to-end memory network: `--encoder memory`.

Each sentence of a story is a memory of H + 1 vectors for H hops: `m_k = S_k + A_k + W_k s`, k from 0. S_k is the sum
of the sentence's words, weighted by their places (`EncodedSum`), A_k a vector of its age, the number of sentences after
it, and s its state in the recurrent layer that `--encoder dmn` has too, which knows what the question has of it.
The question is the sum q of its words in the first of these embeddings. At each decoder step

    u_0 = q + h_t,    p_k = softmax_i(u_k . m_k(i)),    u_{k+1} = u_k + sum_i p_k(i) m_{k+1}(i)

so the values of a hop are the keys of the next one ("adjacent weight sharing"), and u_H takes the place of the
attentional state of eq. 5. During the linear start of a training the softmax is absent: p_k(i) = u_k . m_k(i). A model
that begins with the softmax attends evenly and finds no chain of facts.

Letters: B batch, S source length, T target length, Q length of a question, N sentences of a story, L length of a
sentence, D and Dm sizes of decoder states and of states of sentences, H hops, M = (H + 1) D.

# References
    - [End-To-End Memory Networks](https://arxiv.org/abs/1503.08895): position encoding of section 4.1, temporal
      encoding of 4.1, linear start of 4.2
"""
import collections

from keras import backend as K
from keras.engine import Layer
from keras.initializers import RandomNormal
from keras.layers import Add, Dense, Embedding
import tensorflow as tf

from attention import masked_softmax
from model_layers import mean_of_hops
from stories.question_encoder import SentencesOfStory
from text.vocabulary import PAD

AGES = 64   # sentences that are older share one vector
STDDEV = .1     # of the first embeddings and ages: with ages of 0 a linear start does not learn the order of sentences

Hops = collections.namedtuple('Hops', 'state weights context scores masked_scores')
Hops.__doc__ = """What the hops compute: u_H (B, T, D), weights at the ends of the sentences (B, T, S), and of the last
hop its context (B, T, D), scores (B, T, N) and masked scores, which the softmax takes."""


class EncodedSum(Layer):
    """Sums the words of a text, each weighted by its place.

    The weight of word j of J, both from 1, in dimension k of D is 1 - j/J - (k/D)(1 - 2j/J). Marks that end a sentence
    are no words: one vector in all sums would hide their differences from a model without softmax.

    # Arguments
        marks: ids that do not count.
        width: D.

    # Input shape
        Ids `(n, L)` and their embeddings `(n, L, M)`.

    # Output shape
        `(n, M)`
    """

    def __init__(self, marks, width, **kwargs):
        super(EncodedSum, self).__init__(**kwargs)
        self.marks, self.width = marks, width
        self.supports_masking = True

    def call(self, inputs, mask=None):
        ids, words = inputs
        counts = tf.not_equal(ids, PAD)
        for mark in self.marks:
            counts = tf.logical_and(counts, tf.not_equal(ids, mark))
        counts = tf.cast(counts, K.floatx())                                                                # (n, L)
        place = tf.cumsum(counts, axis=1) / tf.maximum(tf.reduce_sum(counts, axis=1, keepdims=True), 1.)    # j/J
        # The weight is (1 - k/D) - (1 - 2k/D) j/J: two sums serve all dimensions.
        sums = tf.matmul(tf.stack([counts, counts * place], axis=1), words)                                 # (n, 2, M)
        k = tf.tile(tf.range(1, self.width + 1, dtype=K.floatx()) / self.width, [K.int_shape(words)[2] // self.width])
        return sums[:, 0] * (1. - k) - sums[:, 1] * (1. - 2. * k)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return input_shape[1][0], input_shape[1][2]


class Memories(Layer):
    """The question and the sentences of its story as one tensor: row 0 is the question, then come the sentences.

    # Input shape
        Question `(B, M)`, sentences `(B, N, M)`, the mask of their ends `(B, S)` from `SentenceEnds`.

    # Output shape
        `(B, 1 + N, M)`; the first D columns of the question are q. Rows of missing sentences are 0.
    """

    def __init__(self, **kwargs):
        super(Memories, self).__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        self.ages = self.add_weight('ages', (AGES, input_shape[1][2]), initializer=RandomNormal(stddev=STDDEV))
        super(Memories, self).build(input_shape)

    def call(self, inputs, mask=None):
        question, sentences, ends = inputs
        counts = tf.cast(tf.reduce_sum(ends, axis=1), tf.int32)[:, None]                                    # (B, 1)
        ages = counts - 1 - tf.range(tf.shape(sentences)[1])[None]                                          # (B, N)
        aged = sentences + tf.gather(self.ages, tf.clip_by_value(ages, 0, AGES - 1))
        aged *= tf.cast(ages >= 0, K.floatx())[:, :, None]
        return tf.concat([question[:, None], aged], axis=1)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return input_shape[1][0], None, input_shape[1][2]


class MemoryNetwork(Layer):
    """The hops: memories and decoder states to u_H and the alignment, the mean of the weights of all hops.

    # Arguments
        hops: H.
        linear: Boolean tensor, whether weights are scores without a softmax in `call`; `None`: never.

    # Input shape
        `Memories` `(B, 1 + N, M)`, decoder states `(B, T, D)`, the mask of the sentences' ends `(B, S)`.

    # Output shape
        `(B, T, D)`, and weights at the ends of the sentences `(B, T, S)`.
    """

    def __init__(self, hops, linear=None, **kwargs):
        super(MemoryNetwork, self).__init__(**kwargs)
        self.hops, self.linear = hops, linear

    def call(self, inputs):
        memories, query, ends = inputs
        outputs = self.attend(query, memories, ends > .5, self.linear)[:2]
        for output in outputs:
            output._uses_learning_phase = self.linear is not None
        return list(outputs)

    def step_keys(self, memories):
        """No step repeats a part of the work that depends on the memories alone."""

    def attend(self, query, memories, mask, linear=None):
        """The `Hops` of decoder states; `mask` is the Boolean mask of the sentences' ends `(B, S)`."""
        size, count = K.int_shape(memories)[2] // (self.hops + 1), tf.shape(memories)[1] - 1
        exists = tf.sequence_mask(tf.reduce_sum(tf.cast(mask, tf.int32), axis=1), count)[:, None]           # (B, 1, N)
        u, each_hop = query + memories[:, :1, :size], []
        for hop in range(self.hops):
            keys = memories[:, 1:, hop * size:(hop + 1) * size]                                             # (B, N, D)
            values = memories[:, 1:, (hop + 1) * size:(hop + 2) * size]
            scores = tf.matmul(u, keys, transpose_b=True)                                                   # (B, T, N)
            weights, masked_scores = masked_softmax(scores, exists)
            if linear is not None:  # the memories of missing sentences are 0, and so are their scores
                weights = tf.cond(linear, lambda: scores, lambda: weights)
            each_hop.append(weights)
            context = tf.matmul(weights, values)                                                            # (B, T, D)
            u += context
        # To the positions of the source: the index of a sentence is the number of ends before its own.
        ends = tf.cast(mask, K.floatx())
        index = tf.cast(tf.cumsum(ends, axis=1, exclusive=True), tf.int32)
        places = tf.one_hot(index, count, dtype=K.floatx()) * ends[:, :, None]                              # (B, S, N)
        weights = tf.matmul(mean_of_hops(each_hop), places, transpose_b=True)                               # (B, T, S)
        return Hops(u, weights, context, scores, masked_scores)

    def compute_output_shape(self, input_shape):
        memories, query, ends = input_shape
        return [query, query[:2] + ends[1:]]


def encode_memories(parts, ends, separators, vocabulary_size, units, hops, initializer):
    """Builds the output of `Memories`.

    # Arguments
        parts: `question_encoder.Parts`.
        ends: output of `SentenceEnds` for the source.
        separators: `questions.Separators`.
        vocabulary_size, units, hops, initializer: V, D, H, and the initialiser of the product W_k s.
    """
    embed = Embedding(vocabulary_size, (hops + 1) * units, name='memory_embedding',
                      embeddings_initializer=RandomNormal(stddev=STDDEV))
    add_up = EncodedSum(separators.marks, units)
    state = Dense((hops + 1) * units, use_bias=False, name='memory_state', kernel_initializer=initializer)
    question, sentences = [add_up([ids, embed(ids)]) for ids in (parts.question, parts.sentences)]
    memories = SentencesOfStory()([Add()([sentences, state(parts.sentence_state)]), ends])                  # (B, N, M)
    return Memories(name='memories')([question, memories, ends])
