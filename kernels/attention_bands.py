"""Where the windows of local attention are: ranks of source positions, bands of ranks, slots of target positions.

The gradients only gather and add whole bands, which is much faster than adding rows to an array of zeros. Letters as in
`attention_windows`.
"""
import tensorflow as tf

from kernels.gradients import attach_gradient, register

# Minimum R: the products of smaller blocks are slow.
BLOCK = 20
# Maximum Q: smaller chunks read a band more often, larger ones have more empty slots.
SLOTS = 40


class Ranks(object):
    """Source positions in the order of their ranks.

    # Arguments
        source_mask: booleans `(B, S)`, or `None` if all positions are valid.
        batch, length: B and S, int32 scalars.

    # Attributes
        places: for each rank the position in the rows of `(B S, D)`, int32 `(B, S)`; masked positions come last.
        counts: the number of valid positions, int32 `(B,)`.
        ranks: the rank of each source position, int32 `(B, S)`, -1 where masked.
    """

    def __init__(self, source_mask, batch, length):
        self.batch, self.length = batch, length
        if source_mask is None:
            self.ranks = tf.tile(tf.range(length)[None], tf.stack([batch, 1]))
            order, self.counts = self.ranks, tf.fill(batch[None], length)
        else:
            valid = tf.cast(source_mask, tf.int32)
            self.counts = tf.reduce_sum(valid, 1)
            self.ranks = tf.cumsum(valid, 1) * valid - 1
            # The valid ones first, each kind in its order: the keys of a row differ.
            order = tf.nn.top_k((valid + 1) * length - tf.range(length), length).indices
        self.places = order + length * tf.range(batch)[:, None]

    def look_up(self, ranks):
        """Positions in the rows of `(B S, D)` of ranks `(B, ...)`; of any position where there is no such rank."""
        shape = tf.shape(ranks)
        ranks = tf.reshape(tf.clip_by_value(ranks, 0, self.length - 1), tf.stack([self.batch, -1]))
        flat = tf.gather(tf.reshape(self.places, [-1]), ranks + self.length * tf.range(self.batch)[:, None])
        return tf.reshape(flat, shape)

    def to_dense(self, weights, ranks):
        """Weights of windows `(B, T, n)`, 0 where there is no such rank, as weights of all positions `(B, T, S)`."""
        shape = tf.shape(weights)
        first = tf.range(shape[0] * shape[1]) * self.length
        # The rows of one sentence follow each other, B T in all, and a position counts from the row's first.
        places = self.look_up(ranks) - self.length * tf.range(self.batch)[:, None, None]
        places += tf.reshape(first, tf.stack([shape[0], shape[1], 1]))
        total = self.batch * shape[1] * self.length
        dense = tf.scatter_nd(tf.reshape(places, [-1, 1]), tf.reshape(weights, [-1]), total[None])
        return tf.reshape(dense, tf.stack([self.batch, shape[1], self.length]))


class Bands(object):
    """The source in bands of C = R + 2 W ranks: band k is what windows around kR ... kR + R - 1 see, with R >= 2 W.

    # Arguments
        ranks: `Ranks`. window: Integer W. blocks: the number of bands, an int32 scalar.

    # Attributes
        positions: the ranks of each band, int32 `(B, blocks, C)`.
        there: which of them exist, booleans `(B blocks, C)`.
        places: their positions in the rows of `(B S, D)`, int32 `(B blocks, C)`.
        readers: where the bands hold each source position, places in the rows of `(B blocks C, D)`, int32 `(2, B, S)`.
    """

    def __init__(self, ranks, window, blocks):
        size = block_size(window)
        shape = tf.stack([ranks.batch * blocks, size + 2 * window])
        positions = (size * tf.range(blocks) - window)[:, None] + tf.range(size + 2 * window)
        self.positions = tf.tile(positions[None], tf.stack([ranks.batch, 1, 1]))
        there = (self.positions >= 0) & (self.positions < ranks.counts[:, None, None])
        self.there, self.places = [tf.reshape(x, shape) for x in (there, ranks.look_up(self.positions))]
        self.readers = readers_in_blocks(ranks.ranks, blocks, size, window)

    def take(self, x, chosen=None):
        """The rows of `x` `(B, S, D)` in all bands, `(B blocks, C, D)`, or in the `chosen` ones, int32 `(m,)`."""
        places = self.places if chosen is None else tf.gather(self.places, chosen)
        rows = tf.gather(tf.reshape(x, [-1, x.shape[2].value]), places)
        others = [self.readers] if chosen is None else [self.readers, self.places, chosen]
        return attach_gradient('TakeBands', [rows], [x] + others)[0]


def take_bands_gradient(op, d_rows, *_):
    """The sum over all chosen of each band, then over the two bands of each position."""
    (x, readers), chosen = op.inputs[1:3], op.inputs[3:]
    if chosen:
        d_rows = tf.unsorted_segment_sum(d_rows, chosen[1], tf.shape(chosen[0])[0])
    flat = tf.reshape(d_rows, [-1, x.shape[2].value])
    return [None, tf.gather(flat, readers[0]) + tf.gather(flat, readers[1]), None] + [None] * len(chosen)


register('TakeBands', take_bands_gradient)


def block_size(window):
    """R."""
    return max(2 * window, BLOCK)


def readers_in_blocks(ranks, blocks, size, window):
    """Where bands hold each source position: in one band or two, as R >= 2 W. Returns `Bands.readers`.

    A place that does not exist is the first row of the sentence, which has rank -W and so no gradient.
    """
    seen = size + 2 * window
    last, first = (ranks + window) // size, (ranks - window) // size    # // rounds down: -1 is before all blocks
    start = blocks * seen * tf.range(tf.shape(ranks)[0])[:, None]

    def place(block, there):
        there &= (ranks >= 0) & (block >= 0) & (block < blocks)
        return start + tf.where(there, block * seen + ranks - block * size + window, tf.zeros_like(ranks))
    return tf.stack([place(last, tf.ones_like(ranks, tf.bool)), place(first, first < last)])


class Slots(object):
    """Target positions in the order of the bands that they see: chunks of Q slots, each for one band.

    # Arguments
        block: the band of each target position, below `blocks`, int32 `(B, T)`.
        blocks: the number of bands, an int32 scalar.

    # Attributes
        slots: the slot of each target position, int32 `(B T,)`.
        targets: the target position of each slot, from 1, and 0 where a chunk is not full, int32 `(m, Q)`.
        bands: the band of each chunk, int32 `(m,)`, below B blocks and in order.
    """

    def __init__(self, block, blocks):
        self.batch, self.steps = tf.shape(block)[0], tf.shape(block)[1]
        size = tf.minimum(self.steps, SLOTS)                                                            # Q
        rows = tf.range(self.batch)[:, None]
        order = tf.nn.top_k(-(block * self.steps + tf.range(self.steps)), self.steps).indices
        order = tf.reshape(order + self.steps * rows, [-1])
        bands = tf.reshape(block + blocks * rows, [-1])
        in_order = tf.gather(bands, order)
        counts = tf.unsorted_segment_sum(tf.ones_like(bands), bands, self.batch * blocks)
        chunks = (counts + size - 1) // size
        # The first slot of each band, less the number of target positions before it.
        offsets = size * tf.cumsum(chunks, exclusive=True) - tf.cumsum(counts, exclusive=True)
        slots = tf.gather(offsets, in_order) + tf.range(tf.size(order))
        self.slots = tf.scatter_nd(order[:, None], slots, tf.shape(order))
        targets = tf.scatter_nd(slots[:, None], order + 1, (size * tf.reduce_sum(chunks))[None])
        self.targets = tf.reshape(targets, tf.stack([-1, size]))
        self.bands = tf.gather(bands, self.targets[:, 0] - 1)

    def fill(self, x):
        """`(B, T, D)` to `(m, Q, D)`; zeros where a chunk is not full."""
        return attach_gradient('FillSlots', [fill_slots(x, self.targets)], [x, self.slots])[0]

    def read(self, x):
        """`(m, Q, D)` to `(B, T, D)`."""
        rows = tf.reshape(read_slots(x, self.slots), tf.stack([self.batch, self.steps, tf.shape(x)[2]]))
        rows.set_shape([None, None, x.shape[2].value])
        return attach_gradient('ReadSlots', [rows], [x, self.targets])[0]


def fill_slots(x, targets):
    rows = tf.reshape(x, tf.stack([-1, tf.shape(x)[2]]))
    slots = tf.gather(tf.concat([tf.zeros_like(rows[:1]), rows], 0), targets)
    slots.set_shape([None, None, x.shape[2].value])
    return slots


def read_slots(x, slots):
    return tf.gather(tf.reshape(x, tf.stack([-1, tf.shape(x)[2]])), slots)


def fill_slots_gradient(op, gradient, *_):
    """Each target position has one slot."""
    _, x, slots = op.inputs
    return [None, tf.reshape(read_slots(gradient, slots), tf.shape(x)), None]


register('FillSlots', fill_slots_gradient)


def read_slots_gradient(op, gradient, *_):
    """Zeros where nobody reads a slot."""
    return [None, fill_slots(gradient, op.inputs[2]), None]


register('ReadSlots', read_slots_gradient)
