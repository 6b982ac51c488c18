"""Estimates the time and memory of a training from a few timed steps, and writes nothing."""
import time

from command_line import tell
from reports.progress import duration
from storage.machine import peak_memory

TIMED = 8  # updates and validation batches, at most


def estimate(trainer):
    """Times a few steps of a `Trainer` without a run, and prints the estimate for the whole training."""
    settings, train, validation = trainer.settings, trainer.train, trainer.validation

    def cells(corpus, plan):
        """Padded positions of source and target: the time of a step is proportional to them."""
        return sum(len(batch) * sum(int(side[batch].max()) + 1 for side in corpus.lengths) for batch in plan)

    plan = train.plan(settings.batch_size, settings.seed, 0, shuffle=True)
    largest = max(plan, key=lambda batch: cells(train, [batch]))
    # Allocates the memory; TensorFlow's first step is slow.
    trainer.update([largest] * min(settings.accumulate, len(plan)))
    groups = evenly_spread([plan[i:i + settings.accumulate] for i in range(0, len(plan), settings.accumulate)])
    started = time.monotonic()
    for group in groups:
        trainer.update(group)
    epoch = (time.monotonic() - started) / sum(cells(train, group) for group in groups) * cells(train, plan)
    plan = validation.plan(settings.batch_size)
    trainer.evaluate(validation, plan[-1:])
    batches, started = evenly_spread(plan), time.monotonic()
    trainer.evaluate(validation, batches)
    scoring = (time.monotonic() - started) / cells(validation, batches) * cells(validation, plan)
    memory = peak_memory() / 2. ** 20
    validations = trainer.updates_per_epoch // settings.validate_every if settings.validate_every else 0
    validations = settings.epochs * max(1, validations)
    size = sum(array.size * array.itemsize for array in trainer.arrays().values())
    tell('dry run: %d updates timed; an epoch of %d updates takes about %s, a validation %s%s' % (
        len(groups), trainer.updates_per_epoch, duration(epoch), duration(scoring),
        '' if settings.metric == 'perplexity' else ' without decoding for --metric ' + settings.metric))
    tell('dry run: %d epochs take about %s in all, %.0f MB of memory and %.0f MB for each checkpoint; nothing was '
         'written' % (settings.epochs, duration(settings.epochs * epoch + validations * scoring), memory, size / 1e6))


def evenly_spread(items):
    """At most `TIMED` of the items, evenly spread."""
    return [items[i * len(items) // min(TIMED, len(items))] for i in range(min(TIMED, len(items)))]
