"""The translation sample: its kinds of sentences and their shares, and the word pairs of its test set."""
import collections

from actions_translate import activity, asking_what, asking_where_when, asking_who, doing, errand, going
from grammar_tools import Dice
from handling_translate import CHANGES, GIVING, asking_a_favour, giving, handling
from lexicon_translate import ADJECTIVES, HELD_OUT, NAMES, NOUNS, RELATIVES, ROLES, VERBS
from relatives_translate import reason, relating_person, relating_thing
from states_translate import (STATES, ability, being_something, being_somewhere, colour, comparing, describing,
                              existing, living, state)

TRAIN, VAL, TEST = 7200, 400, 400
TEST_DRAWS = 40000   # random sentences from which those of the test set are chosen
ENOUGH = 26    # occurrences of each word in training and validation to aim at
LONGEST = 16   # tokens of an English sentence

# function, share of training and validation in parts per thousand
KINDS = ((doing, 180), (asking_what, 40), (asking_who, 35), (asking_where_when, 65), (activity, 105), (going, 80),
         (errand, 25), (handling, 80), (asking_a_favour, 20), (giving, 45), (state, 65), (ability, 20),
         (describing, 60), (colour, 30), (comparing, 35), (existing, 35), (being_somewhere, 50), (living, 10),
         (being_something, 20), (relating_thing, 50), (relating_person, 45), (reason, 25))

# The sentences of the README: they are not in the training or validation text.
README_SENTENCES = ('we like the coat that your grandmother bought last Saturday.',
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
    words = {word, word + "'s"}
    if word in NOUNS:
        words.add(NOUNS[word].plural)
    if word in ADJECTIVES:
        words.add(ADJECTIVES[word].more)
    if word in ROLES:
        words.add(ROLES[word].plural)
    verbs = [VERBS[word].forms] if word in VERBS else []
    verbs += [table[word][0].split() for table in (CHANGES, GIVING, STATES) if word in table]
    for verb in verbs:
        words.update(form.split('_')[0] for form in verb)
    if word == 'put':
        words.update(('puts', 'putting'))
    return frozenset(words)


def held_out_pairs():
    """{(kind, word, word): (forms of the first, forms of the second)} in the order of the lexicon."""
    return collections.OrderedDict(((kind,) + pair, (forms(pair[0]), forms(pair[1])))
                                   for kind in ('verb and object', 'adjective and noun', 'person and place')
                                   for pair in HELD_OUT[kind])


PEOPLE = frozenset([row.key.split()[-1] for row in RELATIVES.values()] + list(ROLES) + list(NAMES) + ['Ming'])


def repeats_a_person(words):
    """Whether a person is named twice (`Peter knows the boy who helped Peter`)."""
    named = [word for word in (word[:-2] if word.endswith("'s") else word for word in words) if word in PEOPLE]
    return len(set(named)) < len(named)


class Source(object):
    """Random sentences. Every source has one translation only."""

    def __init__(self, dice):
        self.dice, self.targets, self.seen = dice, {}, collections.Counter()

    def draw(self, make):
        """A random sentence, or None if this one cannot be used."""
        sentence = make(self.dice)
        if sentence is None or len(sentence.words) > LONGEST:
            return None
        if 'that that' in sentence.source or repeats_a_person(sentence.words):
            return None
        if self.targets.setdefault(sentence.source, sentence.target) != sentence.target:
            raise ValueError('%r: %s and %s' % (sentence.source, sentence.target, self.targets[sentence.source]))
        return sentence

    def balanced(self, make, fits, draws=10):
        """Draws some sentences and returns the fitting one with the rarest word, so that no word stays rare."""
        sentences = []
        while not sentences:
            drawn = [self.draw(make) for _ in range(draws)]
            sentences = [sentence for sentence in drawn if sentence is not None and fits(sentence)]
        best = min(sentences, key=lambda sentence: min(min(self.seen[word], ENOUGH) for word in sentence.words))
        self.seen.update(best.words)
        return best


def training_sentences(source, pairs):
    """Sentences of training and validation: none has both words of a held-out pair."""
    partners = collections.defaultdict(list)
    for first_forms, second_forms in pairs.values():
        for form in first_forms:
            partners[form].append(second_forms)
    sentences = collections.OrderedDict()

    def fits(sentence):
        words = frozenset(sentence.words)
        return sentence.source not in sentences and sentence.source not in README_SENTENCES and not any(
            words & forms for word in words for forms in partners.get(word, ()))

    total = sum(share for _, share in KINDS)
    makers = [make for make, share in KINDS for _ in range((TRAIN + VAL) * share // total)]
    makers += [doing] * (TRAIN + VAL - len(makers))
    for make in source.dice.shuffled(makers):
        sentence = source.balanced(make, fits)
        sentences[sentence.source] = sentence
    return source.dice.shuffled(list(sentences.values()))


def test_sentences(source, pairs):
    """Sentences with a held-out pair, one for each pair in turn: the pairs are equally frequent."""
    of_pair = collections.OrderedDict((pair, []) for pair in pairs)
    makers = [make for make, share in KINDS for _ in range(share)]
    for _ in range(TEST_DRAWS):
        sentence = source.draw(source.dice.choice(makers))
        for relation in sentence.relations if sentence else ():
            if relation in pairs:
                of_pair[relation].append(sentence)
    if len({sentence.source for sentences in of_pair.values() for sentence in sentences}) < TEST:
        raise ValueError('too few sentences for the test set: raise TEST_DRAWS')
    chosen = collections.OrderedDict()
    while len(chosen) < TEST:
        for sentences in of_pair.values():
            if sentences and len(chosen) < TEST:
                sentence = sentences.pop(0)
                chosen[sentence.source] = sentence
    return source.dice.shuffled(list(chosen.values()))


def parts(seed=20181108):
    """{'train': [Sentence], 'val': ..., 'test': ...}; no source twice."""
    source, pairs = Source(Dice(seed)), held_out_pairs()
    training, test = training_sentences(source, pairs), test_sentences(source, pairs)
    return {'train': training[VAL:], 'val': training[:VAL], 'test': test}
