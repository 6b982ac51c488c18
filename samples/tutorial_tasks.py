"""Small tasks of docs/tutorial.ipynb, each a function that draws a pair of token lists from a `RandomState`.

`Text` turns pairs into arrays of ids.
"""
import datetime
import re

import numpy as np

PAD, START, END = 0, 1, 2

FORMS = ('{weekday} , {day} {month} {year}', '{month} {day} , {year}', '{day} {month} {year} , a {weekday}',
         '{year} , {month} {day}', 'the {day} of {month} in {year}')
SUBJECTS = 'council museum farmer governor school teacher'.split()
VERBS = [('opened', 'opens'), ('sold', 'sells'), ('bought', 'buys'), ('painted', 'paints'), ('closed', 'closes')]
OBJECTS = 'bridge library garden hotel theatre station'.split()
TOWNS = ['Oakham', 'Selby', 'Kelso']
ASIDES = ['it rained on Monday', 'the tea was cold', 'the train was late', 'a dog barked', 'nobody was hurt',
          'tickets are free', 'the school of Kelso sang', 'the bridge in Selby is old']
NAMES, PLACES = 'Anna Tom Lucy David Mary'.split(), 'garden kitchen office cellar library'.split()


def choose(random, items):
    return items[random.randint(len(items))]


def date_pair(random):
    """A date of the years 1920 to 2019 as people write it, and as year-month-day."""
    date = datetime.date(1920, 1, 1) + datetime.timedelta(int(random.randint(0, 36500)))
    values = dict(weekday=date.strftime('%A'), day=' '.join(str(date.day)), month=date.strftime('%B'),
                  year=' '.join(str(date.year)))
    text = FORMS[random.randint(len(FORMS))]
    for name, value in values.items():
        text = text.replace('{%s}' % name, value)
    return text.split(), list(date.isoformat())


def date_words(text):
    """The words of a date that somebody typed, as `date_pair` writes them: digits apart, names with a capital."""
    return [word if word in ('the', 'of', 'in', 'a') else word.capitalize()
            for word in re.findall('[^\\W\\d]+|\\d|[^\\w\\s]', text)]


def dates_pair(random):
    """One to three dates in a line, with `;` between them."""
    source, target = date_pair(random)
    for _ in range(random.randint(3)):
        words, characters = date_pair(random)
        source, target = source + [';'] + words, target + [';'] + characters
    return source, target


def news_pair(random):
    """Four sentences, one of which is news; the summary says who does what to what."""
    subject, (past, present), thing = choose(random, SUBJECTS), choose(random, VERBS), choose(random, OBJECTS)
    lines = [ASIDES[i] for i in random.permutation(len(ASIDES))[:3]]
    town = choose(random, TOWNS)
    lines.insert(random.randint(4), 'the %s %s the %s in %s' % (subject, past, thing, town))
    return ' . '.join(lines + ['']).split(), [subject, present, thing]


def question_pair(random):
    """A question and a story of three people and their places; the answer is a sentence."""
    names = [NAMES[i] for i in random.permutation(len(NAMES))[:3]]
    places = [PLACES[i] for i in random.permutation(len(PLACES))[:3]]
    asked = random.randint(3)
    story = ' '.join('%s %s the %s .' % (name, choose(random, ['went to', 'ran to', 'is in']), place)
                     for name, place in zip(names, places))
    question = 'where is %s ? %s' % (names[asked], story)
    return question.split(), ('%s is in the %s' % (names[asked], places[asked])).split()


class Text(object):
    """Pairs of token lists as arrays of ids, padded at the end.

    # Attributes
        source: (N, S). given: what the decoder reads, (N, T). output: what it has to write, (N, T).
        words: the source and the target vocabulary, two lists.
    """

    def __init__(self, pairs):
        self.pairs = pairs
        self.words = [['<pad>', '<s>', '</s>'] + sorted({word for line in side for word in line})
                      for side in zip(*pairs)]
        target = self.pad([[START] + self.ids(1, line) + [END] for _, line in pairs])
        self.source = self.pad([self.ids(0, source) for source, _ in pairs])
        self.given, self.output = target[:, :-1], target[:, 1:]

    def ids(self, side, words):
        """The ids of words of the source (side 0) or of the target (side 1)."""
        return [self.words[side].index(word) for word in words]

    @staticmethod
    def pad(lines):
        array = np.zeros((len(lines), max(map(len, lines))), int)
        for row, line in zip(array, lines):
            row[:len(line)] = line
        return array

    def decode(self, ids):
        """Target words of ids (T,) up to the end mark."""
        words = [self.words[1][i] for i in ids]
        return words[:words.index('</s>')] if '</s>' in words else words
