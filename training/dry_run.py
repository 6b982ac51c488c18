"""What a training will take, from a few timed steps: nothing is written."""
import resource
import time

from command_line import tell
from training.trainer import duration

TIMED = 8  # updates and validation batches


def estimate(trainer):
    """Takes a few steps of a `Trainer` made for this, and tells what the whole training would need."""
    settings, train, validation = trainer.settings, trainer.train, trainer.validation

    def cells(corpus, plan):
        """Padded positions of source and target: what a step's time goes by."""
        return sum(len(batch) * sum(int(side[batch].max()) + 1 for side in corpus.lengths) for batch in plan)

    plan = train.plan(settings.batch_size, settings.seed, 0, shuffle=True)
    largest = max(plan, key=lambda batch: cells(train, [batch]))
    trainer._update([largest] * settings.accumulate)  # takes the memory, and TensorFlow's first, slow step
    chosen = spread([plan[i:i + settings.accumulate] for i in range(0, len(plan), settings.accumulate)])
    started = time.time()
    for group in chosen:
        trainer._update(group)
    epoch = (time.time() - started) / sum(cells(train, group) for group in chosen) * cells(train, plan)
    batches = validation.plan(settings.batch_size)
    trainer.evaluate(validation, batches[-1:])
    some, started = spread(batches), time.time()
    trainer.evaluate(validation, some)
    scoring = (time.time() - started) / cells(validation, some) * cells(validation, batches)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.
    validations = trainer.updates_per_epoch // settings.validate_every if settings.validate_every else 0
    validations = settings.epochs * max(1, validations)
    arrays = sum(array.size * array.itemsize for array in trainer.arrays().values())
    tell('dry run: %d updates timed; an epoch of %d updates takes about %s, a validation %s%s' % (
        len(chosen), trainer.updates_per_epoch, duration(epoch), duration(scoring),
        '' if settings.metric == 'perplexity' else ' without decoding for --metric ' + settings.metric))
    tell('dry run: %d epochs take about %s in all, %.0f MB of memory and %.0f MB for each checkpoint; nothing was '
         'written' % (settings.epochs, duration(settings.epochs * epoch + validations * scoring), memory,
                      arrays / 1e6))


def spread(items):
    """At most `TIMED` of the items, evenly spread."""
    return [items[i * len(items) // min(TIMED, len(items))] for i in range(min(TIMED, len(items)))]
