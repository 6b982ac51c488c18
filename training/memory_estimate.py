"""Estimates the memory of a training before it starts: out of memory, the kernel would kill it without a message.

The factors are fitted to the peaks that `benchmarks/long_inputs.py` measures (TensorFlow 1.12 without a GPU), rounded
up.
"""
from storage.machine import available_memory
from command_line import UserError
from settings import attends_in_blocks

GIB = 2. ** 30
PROGRAM = 0.4 * GIB  # Python, TensorFlow, the graph


def step_bytes(settings, source_size, target_size, batch, source_length, target_length):
    """Bytes that training takes at its peak.

    # Arguments
        source_size, target_size: sizes of the vocabularies.
        batch: pairs in a batch.
        source_length, target_length: maximum lengths in the batch, in tokens.
    """
    width, depth = settings.encoder_units or settings.units, settings.encoder_layers + settings.decoder_layers
    weights = (source_size * settings.embedding + target_size * (settings.embedding + settings.units)
               + 8 * depth * (width + settings.units + settings.embedding) * max(width, settings.units))
    logits = batch * target_length * target_size
    if settings.encoder == 'memory':    # a word has a vector for each hop, and one more
        width *= settings.hops + 1
        weights += source_size * width
    steps = batch * depth * (source_length * (width + settings.embedding)
                             + target_length * (settings.units + settings.embedding))
    in_blocks, attended, at_a_time = attends_in_blocks(settings), source_length, target_length
    if in_blocks and settings.attention != 'global' and source_length > 2 * (2 * settings.window + 1):
        at_a_time = max(2 * settings.window, 20)     # target positions of a block of windows,
        attended = at_a_time + 2 * settings.window   # and the source positions that they see
    pairs = batch * target_length * attended if settings.score != 'none' else 0
    hidden = 0
    if settings.score in ('concat', 'additive'):
        hidden = pairs * (settings.attention_units or settings.units)
        if in_blocks:  # the additive score of one target position of a block at a time, sums of the size of the keys
            hidden *= 3. / at_a_time
    return int(PROGRAM + 4 * (6 * weights + 3 * logits + 5 * steps + 8 * pairs + 2.2 * hidden))


def check(settings, source_size, target_size, corpus, processes=1):
    """Refuses a training whose largest batch does not fit into the memory.

    # Arguments
        source_size, target_size: sizes of the vocabularies.
        corpus: `EncodedCorpus` to train on.
        processes: number of them that train on this machine.

    # Raises
        UserError: the estimate is above `settings.memory_limit` GiB, or above what is available where that is 0.
    """
    plan = corpus.plan(settings.batch_size, settings.seed, 0, shuffle=True)
    shapes = set(zip(*(sizes.tolist() for sizes in plan.shapes(corpus.lengths))))
    needed, (pairs, *longest) = max((step_bytes(settings, source_size, target_size, pairs, source + 1, target + 1),
                                     (pairs, source, target)) for pairs, source, target in shapes)
    needed = processes * (needed + corpus.memory())
    limit = settings.memory_limit * GIB or available_memory()
    if limit is not None and needed > limit:
        raise UserError(
            'training takes about %.1f GiB of memory, for %d sources of up to %d tokens and targets of up to %d, and '
            'there are %.1f GiB: lower --batch-size%s or --max-source-length, or raise --memory-limit'
            % (needed / GIB, pairs, *longest, limit / GIB,
               ', choose --score general' if settings.score in ('concat', 'additive') else ''))
