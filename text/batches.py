"""Batches: which pairs go together, and the padded arrays of their ids."""
import command_line  # noqa: F401  first: sets what NumPy reads when it is imported
import numpy as np

from text.vocabulary import END, PAD, START

# plan_batches sorts by length within pools of this many batches: little padding, and new neighbours each epoch.
POOL = 100


def seeded_random(seed, *purpose):
    """A generator of random numbers that depends on the seed and the numbers of `purpose` only."""
    # The numbers are the state's key themselves: a hash could differ between processes.
    return np.random.RandomState([seed % 2 ** 32, seed // 2 ** 32 % 2 ** 32] + list(purpose))


def plan_batches(source_lengths, target_lengths, batch_size, seed, epoch, shuffle=True):
    """Divides pairs into batches of similar lengths. A pure function of its arguments.

    # Arguments
        source_lengths, target_lengths: lengths in tokens of n pairs.
        batch_size: maximum number of pairs in a batch.
        seed, epoch: decide the random order.
        shuffle: `False` sorts the pairs from short to long, for evaluation.

    # Returns
        List of ceil(n / batch_size) lists of indices; each pair is in exactly one, and at most one is not full.
    """
    source_lengths, target_lengths = np.asarray(source_lengths), np.asarray(target_lengths)
    n = len(source_lengths)
    if len(target_lengths) != n or batch_size < 1:
        raise ValueError('%d sources, %d targets, batch size %d' % (n, len(target_lengths), batch_size))
    random = seeded_random(seed, 0, epoch)
    order = random.permutation(n) if shuffle else np.arange(n)
    pool = POOL * batch_size if shuffle else max(n, 1)
    batches = []
    for start in range(0, n, pool):
        indices = order[start:start + pool]
        # lexsort is stable, and its last key is the primary one; pairs of equal lengths stay in random order.
        indices = indices[np.lexsort((target_lengths[indices], source_lengths[indices]))].tolist()
        batches += [indices[i:i + batch_size] for i in range(0, len(indices), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))] if shuffle else batches


def pad(sequences):
    """An int32 array (B, S) of B sequences of ids, with PAD after the end of each."""
    batch = np.full((len(sequences), max(map(len, sequences), default=0)), PAD, dtype='int32')
    for row, sequence in zip(batch, sequences):
        row[:len(sequence)] = sequence
    return batch


def make_batch(source_ids, target_ids, indices):
    """The padded arrays of a batch.

    # Arguments
        source_ids, target_ids: lists of id lists, without START and END.
        indices: the pairs of the batch.

    # Returns
        Source (B, S), decoder input (B, T) that begins with START, decoder output (B, T) that ends with END; int32. T
        is the length of the longest target plus one.
    """
    targets = [target_ids[i] for i in indices]
    return (pad([source_ids[i] for i in indices]),
            pad([[START] + target for target in targets]),
            pad([target + [END] for target in targets]))


class Encoded:
    """A corpus of ids.

    # Arguments
        corpus: `corpus.Corpus`.
        source_vocabulary, target_vocabulary: `Vocabulary`.
        copy: give ids to tokens of a source that the target vocabulary lacks. Then `copied` has the ids that an output
            writes when it copies the source's tokens.
    """

    def __init__(self, corpus, source_vocabulary, target_vocabulary, copy=False):
        names = [target_vocabulary.names(tokens) if copy else () for tokens in corpus.source]
        self.source = [source_vocabulary.encode(tokens) for tokens in corpus.source]
        self.target = list(map(target_vocabulary.encode, corpus.target, names))
        self.copied = list(map(target_vocabulary.encode, corpus.source, names)) if copy else None
        self.lines = corpus.lines
        self.lengths = np.array([[len(ids) for ids in side] for side in (self.source, self.target)])

    def __len__(self):
        return len(self.source)

    def plan(self, batch_size, seed=0, epoch=0, shuffle=False):
        return plan_batches(self.lengths[0], self.lengths[1], batch_size, seed, epoch, shuffle)

    def batch(self, indices):
        """The arrays of a batch.

        # Returns
            The model's inputs: source `(B, S)`, decoder input `(B, T)` and, with `copy`, the ids that copying writes
            `(B, S)`; and the decoder output `(B, T)`.
        """
        source, decoder_input, decoder_output = make_batch(self.source, self.target, indices)
        copied = [pad([self.copied[i] for i in indices])] if self.copied else []
        return [source, decoder_input] + copied, decoder_output
