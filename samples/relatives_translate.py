"""Sentences of the translation sample with two clauses: relative clauses, reasons, conditions.

Each function returns one random sentence made of the pieces of `clauses_translate`, or None if its random choices do
not go together.
"""
from actions_translate import noun_of, fitting_predicate, span_of, place_of_action
from clauses_translate import (Piece, Predicate, clause, linked, name, piece, place, plain, possessive, pronoun,
                               question, sentence, statement, subject, time)
from handling_translate import SMALL, SURFACES
from lexicon_translate import ACTIVITIES, CITIES, NOUNS, PLACES, PRONOUNS, ROLES, VERBS
from states_translate import quality, quality_of_noun


def thing_with_clause(dice):
    """`the coat that my mother bought last week`/我妈妈上周买的大衣."""
    key = dice.choice(['buy', 'buy', 'read', 'write', 'draw', 'find', 'use', 'repair', 'wash'])
    verb = VERBS[key]
    noun = dice.choice([noun for noun in verb.objects if noun in NOUNS] + (['book', 'novel'] if key == 'write' else []))
    tense = {'buy': ['past', 'want'], 'read': ['prog', 'past'], 'write': ['past'], 'draw': ['past'], 'find': ['past'],
             'use': ['prog'], 'repair': ['prog', 'past'], 'wash': ['prog']}[key]
    tense = dice.choice(tense)
    doer = subject(dice, adult=verb.adult or noun in ('car', 'house'))
    head = linked(noun, NOUNS[noun].zh)
    inner = clause(doer, Predicate(verb.forms, verb.zh), tense, drop_le=True,
                   when=time(dice, 'past ' + span_of(key, noun)) if tense == 'past' and dice.chance(0.6) else None)
    whole = Piece(plain('the') + head.en + plain('that') + inner.en, inner.zh + plain('的') + head.zh,
                  [('verb and object', key, noun)])
    whole.key = noun
    return whole


def person_with_clause(dice):
    """`the girl who is reading a book in the park`/正在公园里看一本书的女孩."""
    key = dice.choice(['read', 'eat', 'drink', 'draw', 'wait', 'look',
                      'help', 'repair', 'wash', 'call', 'buy', 'find', 'use'])
    verb = VERBS[key]
    head_row = ROLES[dice.choice(['girl', 'boy', 'woman', 'man', 'student', 'doctor', 'teacher', 'woman', 'man'])]
    head = linked(head_row.key, head_row.zh)
    doer = Piece(plain('who'), key='who', young=bool(head_row.young))
    if key == 'repair' and doer.young:
        return None
    tense = 'past' if key in ('buy', 'find', 'help') or 'prog' not in verb.tenses else 'prog'
    action = fitting_predicate(dice, key, tense, doer)
    if action is None or noun_of(action) in ('car', 'house') and doer.young:
        return None
    where = place_of_action(dice, key, noun_of(action)) if tense == 'prog' and dice.chance(0.4) else None
    when = time(dice, 'past ' + span_of(key, noun_of(action))) if tense == 'past' and dice.chance(0.5) else None
    if where is not None:
        where.key = ''
    inner = clause(doer, action, tense, when=when, where=where, drop_le=True)
    whole = Piece(plain('the') + head.en + inner.en, inner.zh + plain('的') + head.zh, inner.relations)
    whole.key, whole.young = head_row.key, doer.young
    return whole


def relating_thing(dice):
    what = thing_with_clause(dice)
    form = dice.choice(['quality', 'quality', 'like', 'like yes', 'where', 'on'])
    if form == 'quality':
        adjective = quality_of_noun(dice, what.key)
        kind = dice.choice(['', 'very', 'too', 'negative'])
        if not adjective or kind == 'too' and adjective not in ('expensive', 'big', 'small', 'old', 'long', 'boring'):
            return None
        english, chinese = quality(adjective, kind)
        return statement(what.en + plain("isn't" if kind == 'negative' else 'is') + english, what.zh + chinese,
                         what.relations + [('adjective and noun', adjective, what.key)])
    if form in ('like', 'like yes'):
        doer = subject(dice, 'I' if form == 'like yes' else 'you')
        likes = Predicate('like likes liked liking'.split(), '喜欢', what.en, after=what.zh, relations=what.relations)
        yes = form == 'like yes'
        return sentence(clause(doer, likes, 'habit', False, 'yes' if yes else ''), '?' if yes else '.')
    if form == 'where':
        return question(plain('where is') + what.en, what.zh + plain('在 哪里'), what.relations)
    spots = [spot for spot in SURFACES if what.key in SMALL[spot].split()]
    if not spots:
        return None
    where = piece(SURFACES[dice.choice(spots)])
    return statement(what.en + plain('is') + where.en, what.zh + plain('在') + where.zh, what.relations)


RELATED = {'girl': 'younger sister|daughter', 'boy': 'younger brother|son', 'woman': 'older sister|mother',
           'man': 'older brother|father'}


def relating_person(dice):
    who = person_with_clause(dice)
    if who is None:
        return None
    form = dice.choice(['kin', 'kin', 'quality', 'know', 'know yes', 'who'])
    if form == 'kin':
        key = dice.choice(RELATED[who.key].split('|')) if who.key in RELATED else dice.choice(['friend', 'neighbour'])
        zh = linked(key, {'younger sister': '妹妹', 'daughter': '女儿', 'younger brother': '弟弟', 'son': '儿子',
                          'older sister': '姐姐', 'mother': '妈妈', 'older brother': '哥哥', 'father': '爸爸',
                          'friend': '朋友', 'neighbour': '邻居'}[key])
        whose = possessive(name(dice)) if dice.chance(0.5) else pronoun(dice.choice(['I', 'he', 'she']))
        if whose.number != 3 or whose.key in ('he', 'she'):
            whose = Piece(plain(whose.own), whose.zh + plain('的' if key in ('friend', 'neighbour') else ''))
        return statement(who.en + plain('is') + whose.en + zh.en, who.zh + plain('是') + whose.zh + zh.zh, who.relations)
    if form == 'quality':
        english, chinese = quality(dice.choice(['tall', 'clever', 'happy', 'tired']), dice.choice(['', 'very']))
        return statement(who.en + plain('is') + english, who.zh + chinese, who.relations)
    if form == 'who':
        return question(plain('who is') + who.en, who.zh + plain('是谁'), who.relations)
    doer = subject(dice, 'I' if form == 'know yes' else 'you')
    knows = Predicate('know knows knew knowing'.split(), '认识', who.en, after=who.zh, relations=who.relations)
    yes = form == 'know yes'
    return sentence(clause(doer, knows, 'habit', False, 'yes' if yes else ''), '?' if yes else '.')


def reason(dice):
    """because/因为 and if/如果."""
    doer = subject(dice, 'you')
    goal = dice.choice([key for key in PLACES if PLACES[key].to and key not in CITIES + ['hospital']])
    to = piece(PLACES[goal].to)
    go = Predicate('go goes went going'.split(), '去', to.en, after=to.zh)
    if doer.key:
        go.relations = [('person and place', doer.key, goal)]
    if dice.chance(0.5):
        if not doer.own:
            return None
        when = time(dice, 'past day')
        who = [row for row in PRONOUNS.values() if row.possessive == doer.own][0]
        english, chinese = quality(dice.choice(['tired', 'busy']), dice.choice(['', 'very', 'too']))
        was = 'was' if who.number in '13' else 'were'
        main = clause(doer, go, 'past', True, when=when)
        because = Piece(plain('because ' + who.key + ' ' + was) + english, plain('，因为 ' + who.zh) + chinese)
        return sentence(main + because, '.')
    when = time(dice, 'future day')
    if dice.chance(0.5):
        main = clause(doer, go, 'future', True)
    else:
        key = dice.choice(['study', 'cook', 'piano'])
        row = ACTIVITIES[key]
        what = piece(row.object) if row.object else Piece()
        if key == 'cook' and doer.young:
            return None
        action = Predicate(row.forms.split(), row.zh, what.en, after=what.zh, ends=True)
        main = clause(doer, action, 'future', where=place('home'))
    rain = linked('rains', '下雨')
    condition = Piece(plain('if it') + rain.en + when.en + plain(','), plain('如果') + when.zh + rain.zh + plain('，'))
    return sentence(condition + main, '.')
