"""The question-answering sample: a short story, `|`, a question; and the answer.

Each kind of question makes its own story: the statements that decide the answer (one or two), in an order that
matters where it must, and others about other people and things.
"""
import collections

from grammar_tools import Dice

TRAIN, VAL, TEST = 5200, 400, 400
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


def mixed(dice, chains):
    """Statements of several chains woven together at random; each chain keeps its own order."""
    chains = [list(chain) for chain in chains if chain]
    story = []
    while chains:
        chain = dice.choice([chain for chain in chains for _ in chain])
        story.append(chain.pop(0))
        chains = [chain for chain in chains if chain]
    return story


def case(story, question, answer, *facts):
    return Case(story, question, answer, [story.index(fact) for fact in facts])


def where_person(dice):
    """One fact: the last place somebody went to."""
    people, places = dice.sample(NAMES, 2 + dice.below(2)), dice.shuffled(PLACES)
    chains = [[go(dice, who, places.pop()) for _ in range(1 + dice.below(2))] for who in people]
    asked = dice.below(len(people))
    if dice.chance(0.5):
        chains.append([take(dice, dice.choice(people), dice.choice(THINGS))])
    fact = chains[asked][-1]
    place = [place for place in PLACES if fact.endswith(place)][0]
    return case(mixed(dice, chains), 'where is %s' % people[asked], place, fact)


def who_has(dice):
    """One fact: who took a thing, or to whom it was given."""
    people, things, places = dice.sample(NAMES, 3), dice.sample(THINGS, 3), dice.shuffled(PLACES)
    facts = [take(dice, who, what) for who, what in zip(people, things)][:2 + dice.below(2)]
    chains = [[fact] for fact in facts]
    chains += [[go(dice, who, places.pop())] for who in dice.sample(people, 1 + dice.below(2))]
    asked = dice.below(len(facts))
    if dice.chance(0.4):
        other = people[asked - 1]
        facts[asked] = '%s gave %s to %s' % (people[asked], things[asked], other)
        chains[asked].append(facts[asked])
        return case(mixed(dice, chains), 'who has %s' % things[asked], other, facts[asked])
    return case(mixed(dice, chains), 'who has %s' % things[asked], people[asked], facts[asked])


def what_carried(dice):
    """One fact: what somebody took."""
    people, things, places = dice.sample(NAMES, 3), dice.sample(THINGS, 3), dice.shuffled(PLACES)
    facts = [take(dice, who, what) for who, what in zip(people, things)][:2 + dice.below(2)]
    chains = [[fact] for fact in facts]
    chains += [[go(dice, who, places.pop())] for who in dice.sample(people, 1 + dice.below(2))]
    asked = dice.below(len(facts))
    return case(mixed(dice, chains), 'what does %s carry' % people[asked], things[asked], facts[asked])


def whether_there(dice):
    """One fact, yes or no: is somebody where the question says?"""
    people, places = dice.sample(NAMES, 2 + dice.below(2)), dice.sample(PLACES, 4)
    chains = [[go(dice, who, place)] for who, place in zip(people, places)]
    if dice.chance(0.5):
        chains.append([take(dice, dice.choice(people), dice.choice(THINGS))])
    yes = dice.chance(0.5)
    place = places[0] if yes else places[1 + dice.below(len(people) - 1)]
    return case(mixed(dice, chains), 'is %s in %s' % (people[0], place), 'yes' if yes else 'no', chains[0][0])


def when_gone(dice):
    """One fact: at what time of day somebody went to a place."""
    number = 3 + dice.below(2)
    people, places = [dice.choice(NAMES) for _ in range(number)], dice.sample(PLACES, number)
    chosen = dice.sample(TIMES, number)
    times = [time for time in TIMES if time in chosen]
    story = ['%s %s' % (time, go(dice, who, place)) for time, who, place in zip(times, people, places)]
    asked = dice.below(number)
    return case(story, 'when was %s in %s' % (people[asked], places[asked]), times[asked], story[asked])


def where_thing(dice):
    """Two facts: who carries the thing, and where that person went afterwards."""
    people, things, places = dice.sample(NAMES, 2), dice.sample(THINGS, 2), dice.shuffled(PLACES)
    chains = [[take(dice, who, what), go(dice, who, places.pop())] for who, what in zip(people, things)]
    if dice.chance(0.4):
        early = dice.below(2)
        chains[early].insert(0, go(dice, people[early], places.pop()))
    asked = dice.below(2)
    taken, gone = chains[asked][-2:]
    place = [place for place in PLACES if gone.endswith(place)][0]
    return case(mixed(dice, chains), 'where is %s' % things[asked], place, taken, gone)


def who_is_there(dice):
    """Two facts: the two people who went to the same place, in the order of the story."""
    people, places = dice.sample(NAMES, 3 + dice.below(2)), dice.sample(PLACES, 3)
    facts = [go(dice, who, places[0]) for who in people[:2]]
    others = [[go(dice, who, place)] for who, place in zip(people[2:], places[1:])]
    if dice.chance(0.5):
        others.append([take(dice, dice.choice(people), dice.choice(THINGS))])
    return case(mixed(dice, [facts] + others), 'who is in %s' % places[0], '%s and %s' % tuple(people[:2]), *facts)


def which_door(dice):
    """Two facts, in either order: whose key has which colour, and what the key of that colour opens."""
    people, colours, places = dice.sample(NAMES, 2), dice.sample(COLOURS, 2), dice.sample(PLACES, 2)
    has = ['%s has the %s key' % pair for pair in zip(people, colours)]
    opens = ['the %s key opens %s' % pair for pair in zip(colours, places)]
    story = dice.shuffled(has) + dice.shuffled(opens) if dice.chance(0.7) else dice.shuffled(has + opens)
    if dice.chance(0.5):
        story.insert(dice.below(len(story) + 1), take(dice, dice.choice(people), dice.choice(THINGS)))
    asked = dice.below(2)
    return case(story, 'what can %s open' % people[asked], places[asked], has[asked], opens[asked])


# kind of question, its share in parts of a hundred, how many facts decide it
KINDS = ((where_person, 15, 1), (who_has, 12, 1), (what_carried, 11, 1), (whether_there, 8, 1), (when_gone, 10, 1),
         (where_thing, 22, 2), (who_is_there, 12, 2), (which_door, 10, 2))


def parts(seed=20181109):
    """{'train': [(source, answer, case)], ...}; no source twice."""
    dice = Dice(seed)
    known = collections.OrderedDict()
    for make, share, _ in KINDS:
        wanted = len(known) + (TRAIN + VAL + TEST) * share // 100
        while len(known) < wanted:
            made = make(dice)
            if 3 <= len(made.story) <= 7 and len(set(made.story)) == len(made.story):
                source = '%s. %s %s?' % ('. '.join(made.story), SEPARATOR, made.question)
                known.setdefault(source, made)
    known = [(source, made.answer, made) for source, made in dice.shuffled(list(known.items()))]
    return {'val': known[:VAL], 'test': known[VAL:VAL + TEST], 'train': known[VAL + TEST:]}
