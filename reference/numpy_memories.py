"""The memory network of `--encoder memory` in plain NumPy; the rest of the model is in `numpy_model.py`.

Equations of Sukhbaatar et al. (2015), https://arxiv.org/abs/1503.08895, with H hops, decoder states of width D and
vectors of width M = (H + 1) D. Weights, in addition to those of `numpy_model.py`; none of attention and attentional
state, and no bridge:

    memory_embedding/embeddings (V, M)      question and sentences as sums
    memory_state/kernel (Dm, M)             the states of the sentences
    memories/ages (A, M)                    number of later sentences; A - 1 and more share the last row
"""
import numpy as np

from reference.numpy_model import PAD, Memory, NumpyModel, States, masked_softmax


def model_of(settings, weights, separators=None):
    """The NumPy model of a run's settings; arguments as for `NumpyModel`."""
    kind = NumpyMemoryNetwork if settings.get('encoder') == 'memory' else NumpyModel
    return kind(settings, weights, separators)


class NumpyMemoryNetwork(NumpyModel):
    """A `NumpyModel` whose memory is one row for the question and one for each sentence, `(B, 1 + N, M)`.

    The third separator is a list of ids that end a sentence and are no words.
    """

    def start(self, source, copied=None):
        stories, ages = self.read_stories(source), self.weights['memories/ages']
        most = max(1, max(len(story.ends) for story in stories))
        memories = np.zeros((len(source), 1 + most, ages.shape[1]))
        mask = np.zeros(source.shape, bool)
        for row, story in enumerate(stories):
            memories[row, 0] = self.sum_of_words(story.question)
            for n, words in enumerate(story.sentences):
                age = min(len(story.ends) - 1 - n, len(ages) - 1)
                memories[row, 1 + n] = (self.sum_of_words(words) + ages[age]
                                        + story.states[n] @ self.weights['memory_state/kernel'])
            mask[row, story.ends] = True
        attentional = np.zeros((len(source), self.settings['units']))
        return Memory(memories, mask, copied), States(attentional, self.first_states(stories), 0)

    def sum_of_words(self, ids):
        """Section 4.1: the sum over words j of J of l_j times their vectors, l_kj = 1 - j/J - (k/D)(1 - 2j/J): (M,)."""
        words = [i for i in ids if i != PAD and i not in self.separators[2]]
        j = np.arange(1, len(words) + 1)[:, None] / max(len(words), 1)
        size, hops = self.settings['units'], self.settings['hops']
        k = np.tile(np.arange(1, size + 1) / size, hops + 1)
        return np.sum((1. - j - k * (1. - 2. * j)) * self.weights['memory_embedding/embeddings'][words], axis=0)

    def attend(self, stages, memory, position):
        """u_0 = q + h_t; each hop adds the mean of its values, weighted by the softmax of u with its keys."""
        each_hop, blocks = [], np.split(memory.states, self.settings['hops'] + 1, axis=-1)
        u = stages['decoder_states'] + blocks[0][:, 0]
        number = np.cumsum(memory.mask, axis=1) - 1                 # of a position's sentence, where one ends
        exists = np.arange(memory.states.shape[1] - 1) < memory.mask.sum(axis=1)[:, None]               # (N, sentences)
        for keys, values in zip(blocks, blocks[1:]):
            stages['scores'] = np.einsum('nd,nsd->ns', u, keys[:, 1:])
            stages['masked_scores'] = np.where(exists, stages['scores'], -np.inf)
            each_hop.append(masked_softmax(stages['scores'], exists))
            stages['context'] = np.einsum('ns,nsd->nd', each_hop[-1], values[:, 1:])                    # (N, D)
            u = u + stages['context']
        weights = np.mean(each_hop, axis=0)
        at_ends = weights[np.arange(len(weights))[:, None], np.maximum(number, 0)]
        stages['weights'] = np.where(memory.mask, at_ends, 0.)                                          # (N, S)
        stages['attentional_states'] = u
        return u
