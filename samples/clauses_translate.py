"""The parts of the translation sample: words, phrases and clauses in English and Chinese, with their alignment.

A `Piece` is a part of a sentence in both languages. A clause has the same pieces in both, in the order of each
language, so the alignment is known, not estimated.
"""
import collections
import itertools
import re

from lexicon_translate import (ADJECTIVES, HOURS, MASS, NAMES, NOUNS, NUMBERS, PLACES, PRONOUNS, RELATIVES,
                               ROLES, TIMES)

Sentence = collections.namedtuple('Sentence', 'source target alignment relations words')
_links = itertools.count()


class Piece(object):
    """Lists of (token, link) for both languages; equal links mark words that translate each other, None is unlinked.

    `relations` lists word pairs that HELD_OUT may name: (kind, first word, second word). `number` and `own` belong to
    persons: the agreement of the verb (see PRONOUNS) and the possessive that refers to them.
    """

    def __init__(self, en=(), zh=(), relations=(), number=3, own='', key='', young=False):
        self.en, self.zh, self.relations = list(en), list(zh), list(relations)
        self.number, self.own, self.key, self.young = number, own, key, young

    def __add__(self, other):
        return Piece(self.en + other.en, self.zh + other.zh, self.relations + other.relations)


def piece(spec, **attributes):
    """A piece in the notation of the lexicon, such as 'in/ the/ park/公园 /里'."""
    en, zh = [], []
    for item in spec.split():
        english, chinese = item.split('/')
        link = next(_links) if english and chinese else None
        en += [(word, link) for word in english.split('_') if word]
        zh += [(chinese, link)] if chinese else []
    return Piece(en, zh, **attributes)


def linked(english, chinese):
    return piece(english.replace(' ', '_') + '/' + chinese)


def plain(text):
    """Function words of one language: a list of unlinked tokens."""
    return [(word, None) for word in text.split()]


def sentence(part, mark):
    """A complete `Sentence`: strings, links as index pairs (word i, character j), relations, English tokens."""
    en, zh = part.en + plain(mark), part.zh + plain({'.': '。', '?': '？'}[mark])
    source = re.sub(r' (?=[.?,])', '', ' '.join(word for word, _ in en))
    characters = [(character, link) for token, link in zh for character in token]
    alignment = [(i, j) for i, (_, link) in enumerate(en) if link is not None
                 for j, (_, other) in enumerate(characters) if other == link]
    return Sentence(source, ''.join(character for character, _ in characters), alignment, part.relations,
                    tuple(word for word, _ in en))


def statement(en, zh, relations=()):
    return sentence(Piece(en, zh, relations), '.')


def question(en, zh, relations=()):
    return sentence(Piece(en, zh, relations), '?')


# Chinese mentions these without a demonstrative: 医生来了, but 那个女孩来了.
KNOWN_BY_ROLE = 'doctor nurse teacher'.split()


# ---- people, things, places, times ----

def possessive(owner):
    """`Tom's` / 汤姆的: the ending becomes part of the last English word."""
    word, link = owner.en[-1]
    return Piece(owner.en[:-1] + [(word + "'s", link)], owner.zh + plain('的'))


def pronoun(key, form='key'):
    row = PRONOUNS[key]
    return Piece(plain(getattr(row, form)), plain(row.zh), number=int(row.number), own=row.possessive, key=key)


def name(dice):
    row = NAMES[dice.choice(list(NAMES))]
    return piece(row.spec, own=row.own, key=row.key)


def relative(dice):
    """A relation or friend of somebody: `my father`/我爸爸, but `my friend`/我的朋友 and `Tom's father`/汤姆的爸爸."""
    row = RELATIVES[dice.choice(list(RELATIVES))]
    if dice.chance(0.75):
        owner = pronoun(dice.choice(['I', 'you', 'he', 'she'] + (['we'] if row.kind == 'friend' else [])))
        whose = Piece(plain(owner.own), owner.zh + (plain('的') if row.kind == 'friend' else []))
    else:
        whose = possessive(name(dice))
    whole = whose + linked(row.key, row.zh)
    return Piece(whole.en, whole.zh, own=row.own, key=row.key.split()[-1], young=bool(row.young))


def role(dice, plural=True):
    row = ROLES[dice.choice(list(ROLES))]
    kinds = ['that', 'this'] + (['the'] if row.key in KNOWN_BY_ROLE else []) + (['plural'] if plural else [])
    kind = dice.choice(kinds)
    head = linked(row.plural if kind == 'plural' else row.key, row.zh)
    before = '' if kind in ('the', 'plural') else {'that': '那', 'this': '这'}[kind] + '个'
    return Piece(plain('the' if kind == 'plural' else kind) + head.en,
                 plain(before) + head.zh + (plain('们') if kind == 'plural' else []),
                 number=0 if kind == 'plural' else 3, key=row.key, young=bool(row.young))


def subject(dice, without='', adult=False, pronouns=True):
    """The doer; `without` lists pronouns that would sound odd here."""
    while True:
        kind = dice.below(10 if pronouns else 7)
        if kind >= 7:
            person = pronoun(dice.choice([key for key in PRONOUNS if key not in without.split()]))
        else:
            person = name(dice) if kind < 3 else relative(dice) if kind < 5 else role(dice)
        if not (adult and person.young):
            return person


def somebody(dice, doer, pronouns=True):
    """A person as an object, other than the doer: `me`, `Tom`, `his mother`, `that nurse`."""
    while True:
        kind = dice.below(8 if pronouns else 6)
        if kind >= 6:
            person = pronoun(dice.choice(list(PRONOUNS)), 'object')
            same_person = {'I': 'we', 'we': 'I'}.get(person.key)
            if doer.key in (person.key, same_person):
                continue
            return person
        person = name(dice) if kind < 3 else relative(dice) if kind < 5 else role(dice, plural=False)
        if person.key != doer.key and person.en[0] not in doer.en:
            return person


def numeral(key):
    return linked(key, NUMBERS[key])


def modified(adjective, noun):
    """(English, Chinese) of an adjective before a noun, and the relation between them."""
    if not adjective:
        return Piece()
    row = ADJECTIVES[adjective]
    word = linked(adjective, row.zh)
    return Piece(word.en, word.zh + plain(row.link), [('adjective and noun', adjective, noun)])


def article(tokens):
    return plain('an' if tokens[0][0][0] in 'aeiou' else 'a')


def thing(dice, noun, det, owner=None, adjectives=0.4, ongoing=False):
    """A noun with determiner, adjective and the noun's measure word: `two red cars`/两辆红色的车.

    The object of an ongoing action has no 一 in Chinese: `is reading a book`/在看书 (`ongoing`).
    """
    row = NOUNS[noun]
    possible = [adjective for adjective in row.adjectives.split() if not ADJECTIVES[adjective].only]
    if det not in ('a', 'number') and det not in NUMBERS:   # `cheap` goes with `a` and numbers only
        possible = [adjective for adjective in possible if adjective != 'cheap']
    if det == 'poss':   # no second 的: 我的新车
        possible = [adjective for adjective in possible if not ADJECTIVES[adjective].link]
    adjective = dice.choice(possible) if possible and det not in ('bare', 'plural') and dice.chance(adjectives) else ''
    number = dice.choice(list(NUMBERS)) if det == 'number' else det if det in NUMBERS else ''
    head = linked(row.plural if number or det in ('plural', 'some', 'these') else row.key, row.zh)
    inner = modified(adjective, noun) + head
    if number:
        before = numeral(number)
        before.zh += plain(row.measure)
    elif det == 'poss':
        before = owner
    else:
        english = {'a': article(inner.en), 'bare': plain('the'), 'plural': []}.get(det, plain(det))
        chinese = {'a': '一' + row.measure, 'this': '这' + row.measure, 'that': '那' + row.measure, 'some': '一些',
                   'these': '这些', 'bare': '', 'plural': ''}[det]
        before = Piece(english, plain('' if ongoing and det == 'a' and not adjective else chinese))
    whole = before + inner
    whole.number, whole.key = (0 if number or det in ('plural', 'some', 'these') else 3), noun
    return whole


def portion(dice, noun):
    """`a cup of tea`/一杯茶, `two bowls of rice`/两碗米饭."""
    row = MASS[noun]
    if dice.chance(0.6):
        before = Piece(plain('a'), plain('一'))
        measure = linked(row.container, row.measure)
    else:
        before, measure = numeral(dice.choice(['two', 'three'])), linked(row.containers, row.measure)
    return before + measure + Piece(plain('of')) + linked(noun, row.zh)


def random_owner(dice, doer):
    """The owner of a thing: the doer or somebody else."""
    if doer.own and dice.chance(0.5):
        key = [key for key, row in PRONOUNS.items() if row.possessive == doer.own][0]
    elif dice.chance(0.6):
        key = dice.choice(list(PRONOUNS))
    else:
        return possessive(name(dice))
    owner = pronoun(key)
    return Piece(plain(owner.own), owner.zh + plain('的'))


def anything(dice, doer, noun, det, adjectives=0.4, ongoing=False):
    """Any noun of the lexicon, countable or not."""
    if noun in MASS:
        row = MASS[noun]
        can_count = row.container and det in ('a', 'two', 'number') and not ongoing
        whole = portion(dice, noun) if can_count and dice.chance(0.7) else linked(noun, row.zh)
        whole.key = noun
        return whole
    return thing(dice, noun, det, random_owner(dice, doer), adjectives, ongoing)


def place(key):
    where = piece(PLACES[key].at)
    where.key = key.replace('in_', '')
    return where


def time(dice, kind, hours=False):
    """A time phrase; the hour comes first in English and last in Chinese: `at eight o'clock every morning`/每天早上八点."""
    day = piece(dice.choice(TIMES[kind]))
    parts = [word for word, _ in day.en]
    if parts[-1] in ('morning', 'evening') and parts[0] != 'this' and hours and dice.chance(0.35):
        row = HOURS[dice.choice(list(HOURS))]
        hour = piece("at/ %s/%s o'clock/点" % (row.key, row.zh))
        return Piece(hour.en + day.en, day.zh + hour.zh)
    return day


# ---- clauses ----

class Predicate(object):
    """A verb with its objects. Chinese: `before` + verb + `after`; English: verb + `english`.

    `ends`: 了 comes at the end of the clause (游泳了, 把门打开了), not after the verb (买了一本书).
    """

    def __init__(self, forms, zh, english=(), before=(), after=(), ends=False, relations=()):
        self.forms = dict(zip(('base', 'third', 'past', 'ing'), forms))
        self.zh, self.english, self.before, self.after = zh, list(english), list(before), list(after)
        self.ends, self.relations, self.link = ends, list(relations), next(_links)
        self.zh_link = self.link

    def verb(self, form):
        return [(word, self.link) for word in self.forms[form].split('_')]


NEGATED = {'do': "don't", 'does': "doesn't", 'did': "didn't", 'will': "won't", 'is': "isn't", 'are': "aren't",
           'should': "shouldn't", 'can': "can't", 'am': 'am not'}
MODES = {'future': '会', 'prog': '在', 'should': '应该', 'can': '会', 'may': '可以'}


def be(number):
    return {0: 'are', 1: 'am', 3: 'is'}[number]


def auxiliary(tense, number, support, want):
    """(auxiliary or '', tokens before the verb, form of the verb); `support`: the clause needs do-support."""
    if tense == 'prog':
        return be(number), [], 'ing'
    if tense in ('future', 'should', 'can', 'may'):
        return 'will' if tense == 'future' else tense, [], 'base'
    if tense == 'past':
        return ('did', [], 'base') if support else ('', [], 'past')
    do = 'does' if number == 3 else 'do'
    if tense == 'want':
        return do if support else '', [('wants' if number == 3 and not support else 'want', want)] + plain('to'), 'base'
    return (do, [], 'base') if support else ('', [], 'third' if number == 3 else 'base')


def clause(doer, predicate, tense, negative=False, ask='', front=(), when=None, where=None, adverb='', time_first=False,
           asks_for='', drop_le=False):
    """A clause. English order: doer, verb, objects, place, time. Chinese order: doer, time, place, verb, objects.

    # Arguments
        ask: '' for a statement; 'yes' for a yes-no question (吗); 'wh' for a question whose English phrase `front` comes
            first; 'doer' for a question about the doer.
        asks_for: 'where' or 'when'; the Chinese word stays in place, and the past tense becomes 是…的.
        drop_le: omit 了, as relative clauses do.
    """
    want = next(_links)
    support = negative or ask in ('yes', 'wh')
    helper, extra, form = auxiliary(tense, doer.number, support, want)
    helper = NEGATED[helper] if negative else helper
    verb = plain('') + extra + predicate.verb(form) + predicate.english
    en_where, zh_where = (where.en, plain('在') + where.zh) if where else ([], [])
    en_when, zh_when = (when.en, when.zh) if when else ([], [])
    adverb_en, adverb_zh = plain(adverb), plain({'often': '经常', 'always': '总是', 'never': '从来不'}.get(adverb, ''))
    if ask in ('yes', 'wh'):
        en = list(front) + plain(helper) + doer.en + adverb_en + verb + en_where + en_when
    else:
        en = doer.en + plain(helper) + adverb_en + verb + en_where + en_when
        if time_first:
            en = en_when + doer.en + plain(helper) + adverb_en + verb + en_where

    frame = tense == 'past' and asks_for in ('where', 'when')
    if asks_for == 'where':
        zh_where = plain('在 哪里')
    no = '没' if tense in ('past', 'prog') else '不'
    mode = [('想', want)] if tense == 'want' else plain(MODES.get(tense, ''))
    if tense == 'prog' and zh_where:
        mode = [] if negative or asks_for else plain('正')
    if asks_for == 'when':
        mode = plain('什么时候') if tense in ('habit', 'future', 'past') else mode
    if frame:
        mode = plain('是') + mode
    le = tense == 'past' and not negative and not frame and not drop_le
    verb = [(predicate.zh, predicate.zh_link)] + (plain('了') if le and not predicate.ends else [])
    object_ = predicate.after + (plain('了') if le and predicate.ends else [])
    zh = adverb_zh + plain(no if negative else '') + mode + zh_where + predicate.before + verb + object_
    zh = zh_when + doer.zh + zh if time_first else doer.zh + zh_when + zh
    zh += plain('的') if frame else plain('吗') if ask == 'yes' else []
    relations = predicate.relations + doer.relations
    if where is not None and doer.key and where.key:
        relations = relations + [('person and place', doer.key, where.key)]
    return Piece(en, zh, relations)
