"""Batches: which pairs go together, and the padded arrays of their ids."""
import command_line  # noqa: F401  first: sets what NumPy reads when it is imported
import numpy as np

from text.vocabulary import END, PAD, START

# plan_batches sorts by length within pools of this many batches, or groups: little padding, new neighbours each epoch.
POOL = 100


def seeded_random(seed, *purpose):
    """A generator of random numbers that depends on the seed and the numbers of `purpose` only."""
    # The numbers are the state's key themselves: a hash could differ between processes.
    return np.random.RandomState([seed % 2 ** 32, seed // 2 ** 32 % 2 ** 32] + list(purpose))


def plan_batches(source_lengths, target_lengths, batch_size, seed, epoch, shuffle=True, group=1):
    """Divides pairs into batches of similar lengths. A pure function of its arguments.

    # Arguments
        source_lengths, target_lengths: lengths in tokens of n pairs.
        batch_size: maximum number of pairs in a batch.
        seed, epoch: decide the random order.
        shuffle: `False` sorts the pairs from short to long, for evaluation.
        group: this many batches of similar lengths come one after another; the last ones may be fewer.

    # Returns
        A `BatchPlan` of ceil(n / batch_size) batches; each pair is in exactly one, and at most one is not full.
    """
    source_lengths, target_lengths = np.asarray(source_lengths), np.asarray(target_lengths)
    n = len(source_lengths)
    if len(target_lengths) != n or batch_size < 1:
        raise ValueError('%d sources, %d targets, batch size %d' % (n, len(target_lengths), batch_size))
    random, count = seeded_random(seed, 0, epoch), -(-n // batch_size)
    order = (random.permutation(n) if shuffle else np.arange(n)).astype('i4')
    pool = POOL * group * batch_size if shuffle else max(n, 1)
    for start in range(0, n, pool):
        indices = order[start:start + pool]
        # lexsort is stable, and its last key is the primary one; pairs of equal lengths stay in random order.
        order[start:start + pool] = indices[np.lexsort((target_lengths[indices], source_lengths[indices]))]
    turns = np.arange(count)
    if shuffle:
        whole = count - count % group
        turns[:whole] = turns[:whole].reshape(-1, group)[random.permutation(whole // group)].ravel()
    return BatchPlan(order, turns.astype('i4'), batch_size)


class BatchPlan(object):
    """A sequence of batches, each an int32 array of pair indices. A slice is a list of batches.

    # Arguments
        order: int32 (n,), the pairs; `batch_size` neighbours make a batch.
        turns: int32, the order in which the batches come.
        batch_size: maximum number of pairs in a batch.
    """

    def __init__(self, order, turns, batch_size):
        self._order, self._turns, self._batch_size = order, turns, batch_size

    def __len__(self):
        return len(self._turns)

    def __getitem__(self, key):
        if isinstance(key, slice):
            return [self[number] for number in range(*key.indices(len(self)))]
        start = self._turns[key] * self._batch_size  # IndexError after the last batch: so a sequence is iterated
        return self._order[start:start + self._batch_size]

    def shapes(self, lengths):
        """Sizes of the batches.

        # Arguments
            lengths: array (2, n) of the lengths of sources and targets.

        # Returns
            Three arrays, an item for each batch: pairs, maximum source length, maximum target length.
        """
        starts = np.arange(0, len(self._order), self._batch_size)
        longest = [np.maximum.reduceat(side[self._order], starts)[self._turns].astype('i8') for side in lengths]
        return (np.diff(np.append(starts, len(self._order)))[self._turns], *longest)


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
