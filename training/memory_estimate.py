"""How much memory a training will take, told before it takes any: the kernel would end it without a word.

The factors are fitted to peaks measured by `benchmarks/long_inputs.py` (TensorFlow 1.12 without a GPU), rounded up.
"""
from storage.machine import available_memory
from command_line import UserError

GIB = 2. ** 30
PROGRAM = 0.4 * GIB  # Python, TensorFlow, the graph


def step_bytes(settings, source_size, target_size, batch, source_length, target_length):
    """Bytes that training takes at its peak, with batches of `batch` pairs of these lengths in tokens.

    source_size, target_size: of the vocabularies.
    """
    width, depth = settings.encoder_units or settings.units, settings.encoder_layers + settings.decoder_layers
    weights = (source_size * settings.embedding + target_size * (settings.embedding + settings.units)
               + 8 * depth * (width + settings.units + settings.embedding) * max(width, settings.units))
    logits = batch * target_length * target_size
    steps = batch * depth * (source_length * (width + settings.embedding)
                             + target_length * (settings.units + settings.embedding))
    fast, seen = settings.kernels == 'fast', source_length
    if fast and settings.attention != 'global' and source_length > 2 * (2 * settings.window + 1):
        seen = 4 * settings.window  # the positions of a block of windows
    pairs = batch * target_length * seen if settings.score != 'none' else 0
    wide = 0
    if settings.score in ('concat', 'additive'):
        wide = pairs * (settings.attention_units or settings.units)
        if fast:  # the additive score of one target position at a time, and sums of the size of the keys
            wide *= 3. / target_length
    return int(PROGRAM + 4 * (6 * weights + 3 * logits + 5 * steps + 8 * pairs + 2.2 * wide))


def check(settings, source_size, target_size, corpus):
    """Refuses a training whose largest batch does not fit.

    # Arguments
        source_size, target_size: of the vocabularies.
        corpus: `EncodedCorpus` to train on.

    # Raises
        UserError: the estimate is above `settings.memory_limit` GiB, or above what is available where that is 0.
    """
    plan = corpus.plan(settings.batch_size, settings.seed, 0, shuffle=True)
    shapes = set(zip(*(sizes.tolist() for sizes in plan.shapes(corpus.lengths))))
    needed, (pairs, *longest) = max((step_bytes(settings, source_size, target_size, pairs, source + 1, target + 1),
                                     (pairs, source, target)) for pairs, source, target in shapes)
    needed += corpus.memory()
    limit = settings.memory_limit * GIB or available_memory()
    if limit is not None and needed > limit:
        raise UserError(
            'training takes about %.1f GiB of memory, for %d sources of up to %d tokens and targets of up to %d, and '
            'there are %.1f GiB: lower --batch-size%s or --max-source-length, or raise --memory-limit'
            % (needed / GIB, pairs, *longest, limit / GIB,
               ', choose --score general' if settings.score in ('concat', 'additive') else ''))
