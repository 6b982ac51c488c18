"""The encoders of stories as nodes of an ONNX graph: what the modules of `stories` compute at inference.

Letters: B sources, S their length, Q length of a question, N sentences of a story, L length of a sentence, E embedding,
D and Dm decoder and encoder state; H hops and M = (H + 1) D of a memory network.
"""
import numpy as np
from onnx import TensorProto

END = 3
LAST = 2 ** 31 - 1


def encode(graph, settings, valid, separators, recurrent_layer, encoder_layers):
    """Adds the encoder to a graph with the input `source` (B, S).

    # Arguments
        graph: `onnx_graph.Graph`. valid: the tokens that are not padding (B, S).
        separators: `questions.Separators`.
        recurrent_layer, encoder_layers: the functions of `onnx_graph`.

    # Returns
        Encoder states (B, S, Dm), or memories (B, S, M) with `encoder` 'memory'; their mask (B, S), true at the last
        token of each sentence; the first states (B, D) of the decoder's layers; the question q (B, 1, D) of a memory
        network, else `None`.
    """
    op, table = graph.op, graph.weight('source_embedding/embeddings')
    one_way = dict(settings, bidirectional=False)
    question, in_story, ends = layout(graph, valid, separators)
    # Question
    lengths = op('ReduceSum', integer(graph, question), axes=[1], keepdims=0)                           # (B,)
    longest = op('Max', op('ReduceMax', lengths, axes=[0]), ids(graph, 1))
    questions = op('Slice', op('Mul', 'source', integer(graph, question)), ids(graph, 0), longest, ids(graph, 1))
    embedded = op('Transpose', op('Gather', table, questions), perm=[1, 0, 2])                          # (Q, B, E)
    outputs, states = recurrent_layer(graph, one_way, embedded, at_least_one(graph, lengths), 'question_encoder')
    some = op('Cast', op('Unsqueeze', op('Greater', lengths, ids(graph, 0)), axes=[1]), to=TensorProto.FLOAT)
    states = [op('Mul', state, some) for state in states]                                   # 0 without a question
    # Sentences: their words, and the positions of their ends
    number = op('CumSum', integer(graph, ends), axis(graph), exclusive=1)                               # (B, S)
    count = op('Max', op('ReduceMax', integer(graph, ends, total=True), axes=[0, 1], keepdims=0), ids(graph, 1))
    each = op('Range', scalar(graph, 0), op('Squeeze', count, axes=[0]), scalar(graph, 1))              # (N,)
    belongs = op('Equal', op('Unsqueeze', number, axes=[1]), op('Unsqueeze', each, axes=[0, 2]))        # (B, N, S)
    belongs = op('And', belongs, op('Unsqueeze', in_story, axes=[1]))
    sizes = op('ReduceSum', integer(graph, belongs), axes=[2], keepdims=0)                              # (B, N)
    starts = op('Unsqueeze', op('CumSum', sizes, axis(graph), exclusive=1), axes=[2])                   # (B, N, 1)
    offset = op('Sub', op('CumSum', integer(graph, in_story), axis(graph), exclusive=1), op(
        'ReduceSum', op('Mul', integer(graph, belongs), starts), axes=[1], keepdims=0))                 # (B, S)
    length = op('Max', op('ReduceMax', sizes, axes=[0, 1], keepdims=0), ids(graph, 1))
    places = op('Transpose', op('NonZero', in_story), perm=[1, 0])                                      # (words, 2)
    rows = op('Gather', places, ids(graph, 0), axis=1)
    index = op('Concat', rows, *[op('Unsqueeze', op('GatherND', x, places), axes=[1]) for x in (number, offset)],
               axis=1)                                                                                  # (words, 3)
    batch = op('Slice', op('Shape', 'source'), ids(graph, 0), ids(graph, 1))
    empty = op('Expand', scalar(graph, 0), op('Concat', batch, count, length, axis=0))
    words = op('ScatterND', empty, index, op('GatherND', 'source', places))                             # (B, N, L)
    # Sentence encoder: each input is [embedding; question's state; exact match]
    match = op('Equal', op('Unsqueeze', words, axes=[3]), op('Unsqueeze', questions, axes=[1, 2]))      # (B, N, L, Q)
    match = op('And', match, op('Unsqueeze', op('Greater', words, ids(graph, END)), axes=[3]))
    match, width = op('Cast', match, to=TensorProto.FLOAT), 1
    if settings['exact_match'] == 'flag':
        match = op('ReduceMax', match, axes=[3])
    else:
        width = settings['units']
        match = op('MatMul', match, op('Unsqueeze', op('Transpose', outputs, perm=[1, 0, 2]), axes=[1]))
    asked = op('Expand', op('Unsqueeze', states[0], axes=[1, 2]), op(
        'Concat', op('Shape', words), ids(graph, 1), axis=0))                                           # (B, N, L, D)
    x = op('Concat', op('Gather', table, words), asked, match, axis=3)
    x = op('Transpose', x, perm=[2, 0, 1, 3])
    x = op('Reshape', x, ids(graph, 0, -1, settings['embedding'] + settings['units'] + width))          # (L, B N, .)
    _, last = recurrent_layer(graph, one_way, x, at_least_one(graph, op('Reshape', sizes, ids(graph, -1))),
                              'sentence_encoder')
    story, asked = op('Reshape', last[0], op('Concat', batch, count, ids(graph, -1), axis=0)), None     # (B, N, Dm)
    sentences = op('ReduceSum', integer(graph, ends), axes=[1], keepdims=0)
    if settings['encoder'] == 'memory':
        asked = op('Slice', sum_of_words(graph, settings, questions, separators), ids(graph, 0),
                   ids(graph, settings['units']), ids(graph, 1))
        asked = op('Unsqueeze', asked, axes=[1])                                                        # (B, 1, D)
        ages = graph.weight('memories/ages')
        newest = op('Unsqueeze', op('Sub', sentences, ids(graph, 1)), axes=[1])                         # (B, 1)
        age = op('Min', op('Sub', newest, op('Unsqueeze', each, axes=[0])), ids(graph, len(graph.weights[ages]) - 1))
        age = op('Gather', ages, op('Max', age, ids(graph, 0)))
        fused = op('Add', op('Add', sum_of_words(graph, settings, words, separators), age),
                   op('MatMul', story, graph.weight('memory_state/kernel')))                            # (B, N, M)
    else:  # fusion, with a residual connection
        story = op('Transpose', story, perm=[1, 0, 2])
        fused = op('Add', encoder_layers(graph, settings, story, at_least_one(graph, sentences))[0], story)
        fused = op('Transpose', fused, perm=[1, 0, 2])
    # A sentence's state is at its last token.
    at_end = op('And', belongs, op('Unsqueeze', ends, axes=[1]))
    at_end = op('Transpose', op('Cast', at_end, to=TensorProto.FLOAT), perm=[0, 2, 1])                  # (B, S, N)
    return op('MatMul', at_end, fused), ends, states * settings['decoder_layers'], asked


def sum_of_words(graph, settings, words, separators):
    """Ids (..., L) to the sums of their vectors (..., M), each weighted by its place, without the marks."""
    op, table, size = graph.op, graph.weights['memory_embedding/embeddings'], settings['units']
    is_word = [float(i and i not in separators.marks) for i in range(len(table))]
    counts = op('Gather', graph.constant(is_word), words)                                               # (..., L)
    total = op('Max', op('ReduceSum', counts, axes=[-1]), graph.constant(1.))
    place = op('Div', op('CumSum', counts, graph.constant(-1, 'int32')), total)
    k = np.tile(np.arange(1, size + 1) / float(size), settings['hops'] + 1)
    words = op('Gather', graph.weight('memory_embedding/embeddings'), words)                            # (..., L, M)

    def total_of(factors):
        return op('ReduceSum', op('Mul', words, op('Unsqueeze', factors, axes=[-1])), axes=[-2], keepdims=0)
    return op('Sub', op('Mul', total_of(counts), graph.constant(1. - k)),
              op('Mul', total_of(op('Mul', counts, place)), graph.constant(1. - 2. * k)))


def layout(graph, valid, separators):
    """Tokens of the question, tokens of the story, last tokens of its sentences: three masks (B, S)."""
    op = graph.op
    divides = op('Equal', 'source', ids(graph, separators.question_end))
    passed = op('CumSum', integer(graph, divides), axis(graph))
    divided = op('Greater', op('ReduceMax', passed, axes=[1]), ids(graph, 0))                           # (B, 1)
    question = op('And', op('And', divided, valid), op('Equal', passed, ids(graph, 0)))
    first = op('And', divides, op('Equal', passed, ids(graph, 1)))
    in_story = op('And', valid, op('Not', op('Or', question, first)))
    is_end = [int(i in separators.sentence_ends) for i in range(len(graph.weights['source_embedding/embeddings']))]
    end_mark = op('Cast', op('Gather', ids(graph, *is_end), 'source'), to=TensorProto.BOOL)
    following = shifted(graph, op('And', in_story, op('Not', end_mark)))
    last = op('Not', shifted(graph, in_story))
    return question, in_story, op('And', in_story, op('Or', op('And', end_mark, following), last))


def ids(graph, *values):
    return graph.constant(values, 'int64')


def scalar(graph, value):
    return graph.constant(value, 'int64')


def axis(graph):
    """The axis 1, as `CumSum` takes it."""
    return graph.constant(1, 'int32')


def integer(graph, mask, total=False):
    """A mask as 0 and 1, or with `total` the sums of its rows (B, 1)."""
    mask = graph.op('Cast', mask, to=TensorProto.INT64)
    return graph.op('ReduceSum', mask, axes=[1]) if total else mask


def at_least_one(graph, lengths):
    """Lengths for a recurrent layer. A row of length 0 gets one step, and what it computes is not used."""
    return graph.op('Cast', graph.op('Max', lengths, ids(graph, 1)), to=TensorProto.INT32)


def shifted(graph, mask):
    """A mask (B, S) one place to the left, false at the end."""
    padded = graph.op('Pad', integer(graph, mask), ids(graph, 0, 0, 0, 1))
    return graph.op('Cast', graph.op('Slice', padded, ids(graph, 1), ids(graph, LAST), ids(graph, 1)),
                    to=TensorProto.BOOL)
