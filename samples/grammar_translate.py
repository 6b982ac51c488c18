"""The translation sample: which kinds of sentence it has, how often, and what only its test part shows."""
import collections

from actions_translate import activity, asking_what, asking_where_when, asking_who, doing, errand, going
from grammar_tools import Dice
from handling_translate import CHANGES, GIVING, asking_a_favour, giving, handling
from lexicon_translate import ADJECTIVES, HELD_OUT, NAMES, NOUNS, RELATIVES, ROLES, VERBS
from relatives_translate import reason, relating_person, relating_thing
from states_translate import (STATES, ability, being_something, being_somewhere, colour, comparing, describing,
                              existing, living, state)

TRAIN, VAL, TEST = 7200, 400, 400
TEST_DRAWS = 40000   # random sentences among which those of the test part are found
ENOUGH = 26    # times that every word is to be seen in training and validation
LONGEST = 16   # tokens of an English sentence

# function, share of training and validation in parts of a thousand
KINDS = ((doing, 180), (asking_what, 40), (asking_who, 35), (asking_where_when, 65), (activity, 105), (going, 80),
         (errand, 25), (handling, 80), (asking_a_favour, 20), (giving, 45), (state, 65), (ability, 20),
         (describing, 60), (colour, 30), (comparing, 35), (existing, 35), (being_somewhere, 50), (living, 10),
         (being_something, 20), (relating_thing, 50), (relating_person, 45), (reason, 25))

# The sentences that the README shows: never part of the training or validation text.
SHOWN = ('we like the coat that your grandmother bought last Saturday.',
         'does Anna know the woman who is drinking coffee in the restaurant?',
         "my mother went to the office by bike at nine o'clock yesterday morning.",
         'Anna will drink three cups of coffee in the kitchen tomorrow evening.',
         'there are four long skirts on the bed.',
         'did that child open that red box this morning?',
         'where did Anna find this green hat?',
         'this novel is more interesting than that novel.',
         "if it rains tomorrow, this farmer won't go to the library.",
         "his older sister didn't go to the station yesterday because she was too busy.")


def forms(word):
    """Every English form of a word of HELD_OUT."""
    known = {word, word + "'s"}
    if word in NOUNS:
        known.add(NOUNS[word].plural)
    if word in ADJECTIVES:
        known.add(ADJECTIVES[word].more)
    if word in ROLES:
        known.add(ROLES[word].plural)
    verbs = [VERBS[word].forms] if word in VERBS else []
    verbs += [table[word][0].split() for table in (CHANGES, GIVING, STATES) if word in table]
    for verb in verbs:
        known.update(form.split('_')[0] for form in verb)
    if word == 'put':
        known.update(('puts', 'putting'))
    return frozenset(known)


def held_out():
    """{(kind, word, word): (forms of the first, forms of the second)} in the lexicon's order."""
    return collections.OrderedDict(((kind,) + pair, (forms(pair[0]), forms(pair[1])))
                                   for kind in ('verb and object', 'adjective and noun', 'person and place')
                                   for pair in HELD_OUT[kind])


PEOPLE = frozenset([row.key.split()[-1] for row in RELATIVES.values()] + list(ROLES) + list(NAMES) + ['Ming'])


def repeats(words):
    """True where a person is named twice (`Peter knows the boy who helped Peter`)."""
    named = [word for word in (word[:-2] if word.endswith("'s") else word for word in words) if word in PEOPLE]
    return len(set(named)) < len(named)


class Source(object):
    """Random sentences, fit to be used, that translate every source in one way only."""

    def __init__(self, dice):
        self.dice, self.targets, self.seen = dice, {}, collections.Counter()

    def draw(self, make):
        """A sentence, or None where this draw is of no use."""
        made = make(self.dice)
        if made is None or len(made.words) > LONGEST or 'that that' in made.source or repeats(made.words):
            return None
        if self.targets.setdefault(made.source, made.target) != made.target:
            raise ValueError('%r: %s and %s' % (made.source, made.target, self.targets[made.source]))
        return made

    def balanced(self, make, fits, draws=10):
        """The first draw that fits, or a later one that holds a word not yet seen ENOUGH times: no word stays rare."""
        made = []
        while not made:
            made = [one for one in (self.draw(make) for _ in range(draws)) if one is not None and fits(one)]
        best = min(made, key=lambda one: min(min(self.seen[word], ENOUGH) for word in one.words))
        self.seen.update(best.words)
        return best


def trained(source, pairs):
    """Training and validation: sentences without both words of any pair that is held out."""
    partners = collections.defaultdict(list)
    for one, other in pairs.values():
        for form in one:
            partners[form].append(other)
    known = collections.OrderedDict()

    def fits(made):
        words = frozenset(made.words)
        return made.source not in known and made.source not in SHOWN and not any(
            words & forms for word in words for forms in partners.get(word, ()))

    total = sum(share for _, share in KINDS)
    makers = [make for make, share in KINDS for _ in range((TRAIN + VAL) * share // total)]
    makers += [doing] * (TRAIN + VAL - len(makers))
    for make in source.dice.shuffled(makers):
        made = source.balanced(make, fits)
        known[made.source] = made
    return source.dice.shuffled(list(known.values()))


def tested(source, pairs):
    """The test part: sentences with a relation that is held out, one of each in turn, so that all are tested alike."""
    found = collections.OrderedDict((pair, []) for pair in pairs)
    makers = [make for make, share in KINDS for _ in range(share)]
    for _ in range(TEST_DRAWS):
        made = source.draw(source.dice.choice(makers))
        for relation in made.relations if made else ():
            if relation in pairs:
                found[relation].append(made)
    if len({made.source for sentences in found.values() for made in sentences}) < TEST:
        raise ValueError('too few sentences for the test part: raise TEST_DRAWS')
    unseen = collections.OrderedDict()
    while len(unseen) < TEST:
        for sentences in found.values():
            if sentences and len(unseen) < TEST:
                made = sentences.pop(0)
                unseen[made.source] = made
    return source.dice.shuffled(list(unseen.values()))


def parts(seed=20181108):
    """{'train': [Sentence], 'val': ..., 'test': ...}; no source twice."""
    source, pairs = Source(Dice(seed)), held_out()
    known, test = trained(source, pairs), tested(source, pairs)
    made = {'train': known[VAL:], 'val': known[:VAL], 'test': test}
    return made
