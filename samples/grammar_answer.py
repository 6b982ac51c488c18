"""The question-answering sample: a question, `|`, a short story; and the answer.

A story has the one or two statements that decide the answer, in an order that may matter, and other statements about
other people and things. The question comes first, so that the encoder knows it when it reads the story. An answer first
repeats the words of the question; where two facts decide, it then names the link between them (`the lamp is with tom in
the kitchen`). So attention can find one fact at each word, and each word helps to find the next fact.
"""
import collections

from grammar_tools import Dice

TRAIN, VAL, TEST = 8000, 400, 400
SEPARATOR = '|'

Case = collections.namedtuple('Case', 'story question answer facts')   # facts: which statements decide, counted from 0

NAMES = 'anna tom mary david lucy peter'.split()
PLACES = ['the kitchen', 'the garden', 'the office', 'the cellar', 'the living room', 'the old library',
          'the tool shed']
THINGS = ['the milk', 'the lamp', 'the letter', 'the ball', 'the guitar', 'the apple', 'the red hat', 'the winter coat']
COLOURS = 'red blue green yellow black white'.split()
TIMES = ['in the morning', 'at noon', 'in the afternoon', 'in the evening', 'at night']
GO = ('went to', 'walked to', 'ran to')
TAKE = ('took', 'picked up', 'found')


def go(dice, who, place):
    return '%s %s %s' % (who, dice.choice(GO), place)


def take(dice, who, what):
    return '%s %s %s' % (who, dice.choice(TAKE), what)


def interleaved(dice, chains):
    """Statements of several chains in random order; those of one chain keep their order."""
    chains = [list(chain) for chain in chains if chain]
    story = []
    while chains:
        chain = dice.choice([chain for chain in chains for _ in chain])
        story.append(chain.pop(0))
        chains = [chain for chain in chains if chain]
    return story


def make_case(story, question, answer, *facts):
    return Case(story, question, answer, [story.index(fact) for fact in facts])


def where_person(dice):
    """One fact: the place somebody went to."""
    people, places = dice.sample(NAMES, 2 + dice.below(3)), dice.shuffled(PLACES)
    facts = [go(dice, who, places.pop()) for who in people]
    chains = [[fact] for fact in facts]
    if dice.chance(0.5):
        chains.append([take(dice, dice.choice(people), dice.choice(THINGS))])
    asked = dice.below(len(people))
    return make_case(interleaved(dice, chains), 'where is %s' % people[asked],
                     '%s is in %s' % (people[asked], place_of(facts[asked])), facts[asked])


def place_of(fact):
    return [place for place in PLACES if fact.endswith(place)][0]


def who_has(dice):
    """One fact: who took a thing."""
    people, things, places = dice.sample(NAMES, 3), dice.sample(THINGS, 3), dice.shuffled(PLACES)
    facts = [take(dice, who, what) for who, what in zip(people, things)][:2 + dice.below(2)]
    chains = [[fact] for fact in facts]
    chains += [[go(dice, who, places.pop())] for who in dice.sample(people, dice.below(3))]
    asked = dice.below(len(facts))
    return make_case(interleaved(dice, chains), 'who has %s' % things[asked],
                     '%s is with %s' % (things[asked], people[asked]), facts[asked])


def what_carried(dice):
    """One fact: what somebody took."""
    people, things, places = dice.sample(NAMES, 3), dice.sample(THINGS, 3), dice.shuffled(PLACES)
    facts = [take(dice, who, what) for who, what in zip(people, things)][:2 + dice.below(2)]
    chains = [[fact] for fact in facts]
    chains += [[go(dice, who, places.pop())] for who in dice.sample(people, dice.below(3))]
    asked = dice.below(len(facts))
    return make_case(interleaved(dice, chains), 'what does %s carry' % people[asked],
                     '%s carries %s' % (people[asked], things[asked]), facts[asked])


def when_came(dice):
    """One fact: at what time of day somebody came."""
    number = 2 + dice.below(2)
    people, times, places = dice.sample(NAMES, number), dice.shuffled(TIMES), dice.shuffled(PLACES)
    facts = ['%s came %s' % (who, times.pop()) for who in people]
    chains = [[fact] for fact in facts] + [[go(dice, who, places.pop())] for who in dice.sample(people, dice.below(3))]
    asked = dice.below(number)
    return make_case(interleaved(dice, chains), 'when did %s come' % people[asked], facts[asked], facts[asked])


def where_thing(dice):
    """Two facts: who carries the thing, and where that person went."""
    number = 2 + dice.chance(0.4)
    people, things, places = dice.sample(NAMES, number), dice.sample(THINGS, number), dice.shuffled(PLACES)
    chains = [[take(dice, who, what), go(dice, who, places.pop())] for who, what in zip(people, things)]
    asked = dice.below(number)
    taking, going = chains[asked]
    return make_case(interleaved(dice, chains), 'where is %s' % things[asked],
                     '%s is with %s in %s' % (things[asked], people[asked], place_of(going)), taking, going)


def who_is_there(dice):
    """Two facts: the two people who went to the same place, in the order of the story."""
    people, places = dice.sample(NAMES, 3 + dice.below(2)), dice.sample(PLACES, 3)
    facts = [go(dice, who, places[0]) for who in people[:2]]
    others = [[go(dice, who, place)] for who, place in zip(people[2:], places[1:])]
    if dice.chance(0.5):
        others.append([take(dice, dice.choice(people), dice.choice(THINGS))])
    answer = 'in %s are %s and %s' % (places[0], people[0], people[1])
    return make_case(interleaved(dice, [facts] + others), 'who is in %s' % places[0], answer, *facts)


def which_door(dice):
    """Two facts, in either order: whose key has which colour, and what the key of that colour opens."""
    people, colours, places = dice.sample(NAMES, 2), dice.sample(COLOURS, 2), dice.sample(PLACES, 2)
    has = ['%s has the %s key' % pair for pair in zip(people, colours)]
    opens = ['the %s key opens %s' % pair for pair in zip(colours, places)]
    story = dice.shuffled(has) + dice.shuffled(opens) if dice.chance(0.7) else dice.shuffled(has + opens)
    if dice.chance(0.5):
        story.insert(dice.below(len(story) + 1), take(dice, dice.choice(people), dice.choice(THINGS)))
    asked = dice.below(2)
    answer = '%s has the %s key to %s' % (people[asked], colours[asked], places[asked])
    return make_case(story, 'what can %s open' % people[asked], answer, has[asked], opens[asked])


# function, share of the questions in per cent, number of facts that decide the answer
KINDS = ((where_person, 13, 1), (who_has, 8, 1), (what_carried, 19, 1), (when_came, 10, 1),
         (where_thing, 21, 2), (who_is_there, 11, 2), (which_door, 18, 2))


def parts(seed=20181109):
    """{'train': [(source, answer, case)], ...}; no source twice."""
    dice = Dice(seed)
    cases = collections.OrderedDict()
    for make, share, _ in KINDS:
        wanted = len(cases) + (TRAIN + VAL + TEST) * share // 100
        while len(cases) < wanted:
            case = make(dice)
            if 2 <= len(case.story) <= 7 and len(set(case.story)) == len(case.story):
                source = '%s? %s %s.' % (case.question, SEPARATOR, '. '.join(case.story))
                cases.setdefault(source, case)
    rows = [(source, case.answer, case) for source, case in dice.shuffled(list(cases.items()))]
    return {'val': rows[:VAL], 'test': rows[VAL:VAL + TEST], 'train': rows[VAL + TEST:]}
