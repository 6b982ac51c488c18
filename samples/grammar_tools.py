"""Random choices that are the same on every version of Python, for the three grammars."""
import random


class Dice(object):
    """Random choices made with `random.Random.random()` only, the one method whose sequence Python guarantees."""

    def __init__(self, seed):
        self._random = random.Random(seed).random

    def below(self, number):
        return int(self._random() * number)

    def chance(self, probability):
        return self._random() < probability

    def choice(self, items):
        return items[self.below(len(items))]

    def shuffled(self, items):
        """A new list in random order (Fisher and Yates)."""
        items = list(items)
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]
        return items

    def sample(self, items, number):
        return self.shuffled(items)[:number]
