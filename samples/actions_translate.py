"""Sentences of the translation sample about actions: doing something, asking about it, going somewhere.

Each function returns one random sentence made of the pieces of `clauses_translate`, or None if its random choices do
not go together.
"""
from clauses_translate import (Piece, Predicate, anything, clause, linked, piece, place, plain, sentence, somebody,
                               subject, time)
from lexicon_translate import ACTIVITIES, CITIES, EVERYDAY, MASS, NOUNS, PEOPLE, PLACES, SOLD_AT, VERBS


# ---- doing something to something ----

def predicate(dice, key, doer, det='', noun='', ongoing=False):
    """The verb `key` with an object. People verbs take somebody."""
    verb = VERBS[key]
    people = verb.objects == [PEOPLE] or (PEOPLE in verb.objects and dice.chance(0.4))
    if people:
        what = somebody(dice, doer, pronouns=key != 'visit')
        if key == 'call':
            phone = Predicate(verb.forms, verb.zh, what.en, plain('给') + what.zh)
            phone.after = [('电话', phone.link)]
            return phone
        return Predicate(verb.forms, verb.zh, what.en, after=what.zh)
    noun = noun or dice.choice([noun for noun in verb.objects if noun != PEOPLE])
    what = anything(dice, doer, noun, det or dice.choice(verb.dets), 0.4, ongoing)
    return Predicate(verb.forms, verb.zh, what.en, after=what.zh,
                     relations=what.relations + [('verb and object', key, noun)])


def place_of_action(dice, key, noun, habit=False):
    """A place where the action happens, or None if the lexicon has none."""
    places = VERBS[key].places
    if places == ['sold']:
        places = [shop for shop in SOLD_AT if noun in SOLD_AT[shop].split()]
    if habit:
        places = [key for key in places if key not in CITIES]
    return place(dice.choice(places)) if places else None


def noun_of(action):
    return action.relations[-1][2] if action.relations else ''


def fitting_predicate(dice, key, tense, doer, negative=False, ask=''):
    """The predicate of a verb with an object that fits tense and polarity; None if there is none."""
    verb = VERBS[key]
    if tense == 'habit':
        if not verb.habit:
            return None
        if verb.habit == [PEOPLE]:
            return predicate(dice, key, doer)
        countable = key in ('eat', 'drink') and not negative and dice.chance(0.35)
        noun = dice.choice(verb.habit)
        if countable and noun in NOUNS or countable and MASS[noun].container:
            return predicate(dice, key, doer, dice.choice(['a', 'two']), noun)
        return predicate(dice, key, doer, 'plural', noun)
    if negative or ask:
        dets = [det for det in verb.dets if det in ('this', 'that', 'poss')]
        return predicate(dice, key, doer, dice.choice(dets)) if dets else None
    dets = [det for det in verb.dets if tense != 'prog' or det not in ('two', 'number')]
    return predicate(dice, key, doer, dice.choice(dets), ongoing=tense == 'prog')


SPAN = {'past': 'past', 'future': 'future', 'want': 'future', 'should': 'future', 'habit': 'habit'}


def time_of_action(dice, tense, span, probability, hours=False):
    if tense == 'prog':
        return piece('now/现在') if dice.chance(0.2) else None
    span = 'day' if tense in ('should',) else span
    return time(dice, SPAN[tense] + ' ' + span, hours) if dice.chance(probability) else None


WITH_HOURS = 'call wait watch'.split()
TIME_SHARE = {'past': 0.7, 'future': 0.65, 'want': 0.2, 'should': 0.25, 'habit': 1, 'prog': 1}


def span_of(key, noun):
    return 'day' if noun in EVERYDAY else VERBS[key].span


def unlikely_doers(tense, ask):
    """Pronouns that sound odd as the doer: people do not tell others what these do, or ask what they do themselves."""
    if tense == 'should':
        return 'you' if ask else 'I we'
    return 'I we' if ask else 'you'


def doing(dice):
    key = dice.choice(list(VERBS))
    verb = VERBS[key]
    tense = dice.choice(verb.tenses)
    negative, ask = dice.choice([(False, ''), (False, ''), (False, ''), (True, ''), (False, 'yes')])
    doer = subject(dice, unlikely_doers(tense, ask), verb.adult)
    action = fitting_predicate(dice, key, tense, doer, negative, ask)
    if action is None or noun_of(action) in ('car', 'house') and doer.young:
        return None
    where = when = None
    adverb = ''
    if not negative and tense != 'should' and dice.chance(0.45):
        where = place_of_action(dice, key, noun_of(action), tense == 'habit')
    if tense == 'habit':
        if not negative:
            if dice.chance(0.6) or key == 'help':
                adverb = 'often' if ask else dice.choice(['often', 'always', 'never', 'often'])
            else:
                when = time_of_action(dice, tense, verb.span, 1, key in WITH_HOURS)
    else:
        when = time_of_action(dice, tense, span_of(key, noun_of(action)), TIME_SHARE[tense], key in WITH_HOURS)
    first = bool(when) and not ask and tense in ('past', 'future') and dice.chance(0.15)
    return sentence(clause(doer, action, tense, negative, ask, (), when, where, adverb, first), '?' if ask else '.')


def asking_what(dice):
    """what, who(m), which, how many: the object in question comes first in English and after the verb in Chinese."""
    key = dice.choice(list(VERBS))
    verb = VERBS[key]
    tense = dice.choice([tense for tense in verb.tenses if tense != 'should'])
    doer = subject(dice, 'I we', verb.adult)
    relations = []
    if verb.objects == [PEOPLE]:
        if key in ('call', 'help'):
            return None
        front, asked = plain('who'), plain('谁')
    else:
        nouns = [noun for noun in verb.objects if noun in NOUNS]
        kind = dice.choice(['what', 'what', 'which', 'how many'])
        if kind == 'what' or tense in ('habit', 'prog') or not nouns or 'this' not in verb.dets + ['this']:
            if key in ('sing', 'watch', 'use', 'study', 'see', 'wash', 'repair') and tense != 'prog':
                return None
            front, asked = plain('what'), plain('什么')
        else:
            noun = dice.choice(nouns)
            row = NOUNS[noun]
            many = kind == 'how many' and key in ('read', 'write', 'buy', 'eat', 'draw', 'sing', 'see', 'find', 'watch')
            if not many and key in ('see', 'eat', 'draw', 'wash'):
                return None
            head = linked(row.plural if many else row.key, row.zh)
            front = plain('how many' if many else 'which') + head.en
            asked = plain(('几' if many else '哪') + row.measure) + head.zh
            relations = [('verb and object', key, noun)]
            if tense == 'want' and many:
                return None
    when = time_of_action(dice, tense, verb.span, 0.5 if tense != 'habit' else 1)
    action = Predicate(verb.forms, verb.zh, after=asked, relations=relations)
    return sentence(clause(doer, action, tense, ask='wh', front=front, when=when), '?')


def asking_who(dice):
    key = dice.choice(list(VERBS))
    tense = dice.choice([tense for tense in VERBS[key].tenses if tense != 'should'])
    doer = Piece(plain('who'), plain('谁'))
    action = fitting_predicate(dice, key, tense, doer, ask='doer' if tense != 'prog' else '')
    if action is None or tense == 'habit' and key not in ('read', 'help', 'call', 'write', 'study'):
        return None
    where = place_of_action(dice, key, noun_of(action)) if tense == 'prog' and dice.chance(0.5) else None
    when = time_of_action(dice, tense, span_of(key, noun_of(action)), 0.5) if tense in ('past', 'future') else None
    adverb = 'often' if tense == 'habit' else ''
    return sentence(clause(doer, action, tense, ask='doer', when=when, where=where, adverb=adverb), '?')


def asking_where_when(dice):
    key = dice.choice('read buy eat repair find see study visit wait wash drink write call'.split())
    verb = VERBS[key]
    asked = dice.choice(['where', 'when'])
    if key in ('visit', 'call', 'wash', 'repair') and asked == 'where':
        return None
    tense = dice.choice([tense for tense in verb.tenses if tense not in ('should', 'want', 'prog')])
    if tense == 'habit' and asked == 'when' or key == 'wait' and asked == 'when':
        return None
    doer = subject(dice, 'I we', verb.adult)
    action = fitting_predicate(dice, key, tense, doer, ask='wh')
    if action is None or key in ('see', 'drink', 'eat') and tense != 'habit':
        return None
    when = None
    if asked == 'where' and tense in ('future', 'past') and dice.chance(0.3):
        when = time_of_action(dice, tense, span_of(key, noun_of(action)), 1)
    return sentence(clause(doer, action, tense, ask='wh', front=plain(asked), when=when, asks_for=asked), '?')


# ---- activities and going somewhere ----

def together(dice, doer):
    """`with Tom`/跟汤姆一起."""
    whom = somebody(dice, doer)
    return Piece(plain('with') + whom.en, plain('跟') + whom.zh + plain('一起'))


def activity(dice):
    key = dice.choice(list(ACTIVITIES))
    row = ACTIVITIES[key]
    tense = dice.choice(row.tenses.split())
    form = dice.choice(['', '', '', 'negative', 'yes', 'where', 'why'])
    doer = subject(dice, unlikely_doers(tense, form in ('yes', 'where', 'why')))
    if key == 'work' and (doer.young or doer.key == 'student') or key == 'cook' and doer.young:
        return None
    with_whom = Piece()
    if not form and key in ('swim', 'dance', 'walk', 'football', 'study') and dice.chance(0.3):
        with_whom = together(dice, doer)
    what = piece(row.object) if row.object else Piece()
    ends = Predicate(row.forms.split(), row.zh, what.en + with_whom.en, with_whom.zh, what.zh, ends=True)
    where = when = None
    adverb = ''
    if form in ('', 'yes') and tense != 'should' and dice.chance(0.6):
        where = place(dice.choice(row.places.split()))
    if tense == 'habit' and form != 'negative':
        if dice.chance(0.5):
            when = time(dice, 'habit day', True)
        else:
            adverb = 'often' if form else dice.choice(['often', 'always', 'never'])
    elif tense != 'habit' and not (form == 'negative' and tense == 'prog'):
        when = time_of_action(dice, tense, 'day', 0.6 if form != 'why' else 0.3, True)
    if where and where.key in CITIES and (when or tense != 'habit'):
        when = None if tense == 'habit' else time_of_action(dice, tense, 'long', 0.6)
    if form == 'where':
        if tense in ('should', 'want') or key in ('sleep', 'cry', 'piano', 'cook'):
            return None
        when = None if tense in ('prog', 'past') else when
        whole = clause(doer, ends, tense, ask='wh', front=plain('where'), when=when, asks_for='where')
    elif form == 'why':
        if tense not in ('prog', 'want') and not (tense == 'past' and key == 'cry'):
            return None
        ends.before = []
        whole = clause(doer, ends, tense, ask='wh', front=plain('why'), when=when)
        whole = insert_why(whole, doer, when)
    else:
        if tense == 'habit' and form == 'negative':
            where = place(dice.choice(row.places.split()))
        whole = clause(doer, ends, tense, form == 'negative', 'yes' if form == 'yes' else '', (), when, where, adverb,
                       bool(when) and not form and tense in ('past', 'future') and dice.chance(0.15))
    return sentence(whole, '?' if form in ('yes', 'where', 'why') else '.')


def insert_why(whole, doer, when):
    """Inserts 为什么 after doer and time of a Chinese clause."""
    start = len(doer.zh) + (len(when.zh) if when else 0)
    return Piece(whole.en, whole.zh[:start] + plain('为什么') + whole.zh[start:], whole.relations)


MEANS = {'bus': 'by/坐 bus/公交车', 'bike': 'by/骑 bike/自行车', 'train': 'by/坐 train/火车', 'plane': 'by/坐 plane/飞机',
         'car': 'by/开 car/车'}
GO = 'go goes went going'.split()


def going(dice):
    """Going somewhere: Chinese puts the means and the company before the verb, English after the destination."""
    form = dice.choice(['', '', '', 'negative', 'yes', 'when', 'how', 'why'])
    tense = dice.choice(['habit', 'past', 'past', 'future', 'future', 'want', 'should'])
    doer = subject(dice, unlikely_doers(tense, form in ('yes', 'when', 'how', 'why')))
    goal = dice.choice([key for key in PLACES if PLACES[key].to])
    if tense == 'habit' and goal in CITIES + ['hospital']:
        return None
    to = piece(PLACES[goal].to)
    english, before, after = to.en, [], to.zh
    if form == '' or form == 'yes' and dice.chance(0.4):
        extra = dice.choice(['means', 'means', 'with', 'none'])
        if extra == 'means':
            means = dice.choice(['train', 'plane', 'car'] if goal in CITIES else ['bus', 'bike', 'car'])
            if means == 'car' and doer.young:
                return None
            by = piece(MEANS[means])
            english, before = english + by.en, by.zh
        elif extra == 'with':
            company = together(dice, doer)
            english, before = english + company.en, company.zh
    action = Predicate(GO, '去', english, before, after)
    action.relations = []
    when, adverb = None, ''
    span = 'long' if goal in CITIES else 'day'
    if tense == 'habit':
        if form == 'negative' or form == 'why':
            adverb = ''
        elif dice.chance(0.6):
            when = time(dice, 'habit ' + dice.choice(['day', 'day', 'long']), True)
        elif form != 'how':
            adverb = dice.choice(['often', 'always', 'never']) if not form else 'often'
    else:
        when = time_of_action(dice, tense, span, 0.65, form != 'how')
    if when and goal in ('office', 'school', 'shop') and when.en[-1][0] == 'evening':
        return None
    if form in ('when', 'how'):
        if tense in ('want', 'should') or form == 'when' and tense == 'habit':
            return None
        if form == 'when':
            whole = clause(doer, action, tense, ask='wh', front=plain('when'), asks_for='when')
        else:
            asked = Predicate(GO, '去', english, plain('怎么'), after)
            when = when if tense != 'past' else None
            if tense == 'past':   # questions about the past have 是…的, as with 'when'
                asked = Predicate(GO, '去', english, plain('是怎么'), after + plain('的'))
                whole = clause(doer, asked, 'past', ask='wh', front=plain('how'), drop_le=True)
            else:
                whole = clause(doer, asked, tense, ask='wh', front=plain('how'), when=when)
    elif form == 'why':
        if tense == 'want':
            whole = clause(doer, action, tense, ask='wh', front=plain('why'), when=when)
        elif tense == 'past':
            whole = clause(doer, action, tense, True, 'wh', plain('why'), when)
        else:
            return None
        whole = insert_why(whole, doer, when)
    else:
        whole = clause(doer, action, tense, form == 'negative', 'yes' if form == 'yes' else '', (), when, None, adverb,
                       bool(when) and not form and tense in ('past', 'future') and dice.chance(0.15))
    if doer.key:
        whole.relations.append(('person and place', doer.key, goal))
    return sentence(whole, '?' if form in ('yes', 'when', 'how', 'why') else '.')


def errand(dice):
    """`Tom went to the market to buy a coat.` 汤姆去市场买了一件大衣。"""
    doer = subject(dice, 'you')
    tense = dice.choice(['past', 'future', 'want'])
    shop = dice.choice(['market', 'shop', 'shop', 'market', 'station', 'library', 'park', 'restaurant'])
    if shop in ('market', 'shop', 'station'):
        key, nouns = 'buy', SOLD_AT[shop]
    else:
        key, nouns = {'library': ('read', 'newspaper magazine book'), 'park': ('draw', 'tree flower bird horse'),
                      'restaurant': ('eat', 'noodles rice cake meat')}[shop]
    noun = dice.choice(nouns.split())
    action = predicate(dice, key, doer, dice.choice(['a', 'two'] if key in ('eat', 'read') else ['a', 'number']), noun)
    to = piece(PLACES[shop].to)
    english = to.en + plain('to') + action.verb('base') + action.english
    go = Predicate(GO, action.zh, english, after=action.after, relations=action.relations)
    go.before, go.zh_link = [('去', go.link)] + to.zh, action.link
    whole = clause(doer, go, tense, when=time_of_action(dice, tense, 'day', 0.8))
    whole.relations += [('person and place', doer.key, shop)] if doer.key else []
    return sentence(whole, '.')
