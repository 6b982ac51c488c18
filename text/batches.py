"""Batches: which pairs go together, and the padded arrays of their ids."""
import command_line  # noqa: F401  first: sets what NumPy reads when it is imported
import numpy as np

from text.vocabulary import END, PAD, START

# plan_batches sorts by length within pools of so many batches: little padding, and new neighbours each epoch.
POOL = 100


def seeded_random(seed, *purpose):
    # The numbers seed the generator as they are: a hash could differ between processes.
    return np.random.RandomState([seed % 2 ** 32, seed // 2 ** 32 % 2 ** 32] + list(purpose))


def plan_batches(source_lengths, target_lengths, batch_size, seed, epoch, shuffle=True):
    """Lists of pair indices, each a batch of similar lengths; together every pair exactly once.

    A pure function of its arguments. Always ceil(n / batch_size) batches, of which one at most is not full.
    `shuffle=False`: sorted from short to long, for evaluation (`seed` and `epoch` do not matter).
    """
    source_lengths, target_lengths = np.asarray(source_lengths), np.asarray(target_lengths)
    n = len(source_lengths)
    if len(target_lengths) != n or batch_size < 1:
        raise ValueError('{} sources, {} targets, batch size {}'.format(n, len(target_lengths), batch_size))
    random = seeded_random(seed, 0, epoch)
    order = random.permutation(n) if shuffle else np.arange(n)
    pool = POOL * batch_size if shuffle else max(n, 1)
    batches = []
    for start in range(0, n, pool):
        chosen = order[start:start + pool]
        # lexsort is stable, its last key weighs most; pairs of equal lengths stay in random order.
        chosen = chosen[np.lexsort((target_lengths[chosen], source_lengths[chosen]))].tolist()
        batches += [chosen[i:i + batch_size] for i in range(0, len(chosen), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))] if shuffle else batches


def pad(sequences):
    """Sequences of ids -> int32 (B, S), each row filled up with PAD at its end."""
    batch = np.full((len(sequences), max(map(len, sequences), default=0)), PAD, dtype='int32')
    for row, sequence in zip(batch, sequences):
        row[:len(sequence)] = sequence
    return batch


def make_batch(source_ids, target_ids, indices):
    """Pairs `indices` -> source (B, S), decoder input (B, T) after START, decoder output (B, T) before END; int32.

    The ids come from `Vocabulary.encode`, without START and END; T is the longest target plus one.
    """
    targets = [target_ids[i] for i in indices]
    return (pad([source_ids[i] for i in indices]),
            pad([[START] + target for target in targets]),
            pad([target + [END] for target in targets]))


class Encoded(object):
    """A corpus as ids: `source` and `target` are lists of id lists, without `<s>` and `</s>`; `lines` as there.

    With `copy` targets have ids for names of their sources too, and `copied` is what copies of the source write.
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
        """The model's inputs, source `(B, S)`, decoder input `(B, T)` and, with `copy`, what copies write `(B, S)`; and
        the decoder's output `(B, T)`."""
        source, given, output = make_batch(self.source, self.target, indices)
        return [source, given] + ([pad([self.copied[i] for i in indices])] if self.copied else []), output
