"""Sentences of the translation sample about states, skills, qualities, places and identity.

Each function returns one random sentence made of the pieces of `clauses_translate`, or None if its random choices do
not go together.
"""
from actions_translate import insert_why
from clauses_translate import (Piece, Predicate, be, clause, linked, numeral, piece, place, plain, pronoun, question,
                               random_owner, role, sentence, somebody, statement, subject, thing, time)
from handling_translate import SMALL, SURFACES
from lexicon_translate import ADJECTIVES, CITIES, COLOURS, GOODS, MASS, NOUNS, NUMBERS, PLACES, PROFESSIONS, ROLES

BE = {'is': "isn't", 'are': "aren't", 'am': 'am not', 'was': "wasn't", 'were': "weren't"}


# ---- having, liking, needing, knowing, being able ----

STATES = {'have': ('have has had having', '有'), 'like': ('like likes liked liking', '喜欢'),
          'need': ('need needs needed needing', '需要'), 'know': ('know knows knew knowing', '认识'),
          'want': ('want wants wanted wanting', '想要')}


def state(dice):
    key = dice.choice(['have', 'have', 'like', 'like', 'need', 'know', 'want'])
    forms, zh = STATES[key]
    form = dice.choice(['', '', 'negative', 'yes', 'who', 'many', 'why'])
    doer = subject(dice, 'I' if form in ('yes', 'many', 'why') else 'you')
    goods = [noun for noun in GOODS.split() if noun in NOUNS] + ['key', 'ticket', 'song', 'film', 'photo']
    noun = dice.choice(goods)
    if key == 'know':
        if form == 'many' or form == 'why':
            return None
        what = somebody(dice, doer, pronouns=form != '')
    elif key == 'like':
        if dice.chance(0.35):
            noun = dice.choice(['tea', 'coffee', 'milk', 'noodles', 'rice', 'bread', 'fruit', 'music', 'meat',
                                'Chinese', 'English'])
            what = linked(noun, MASS[noun].zh)
        else:
            what = thing(dice, noun, dice.choice(['this', 'that', 'plural', 'this']))
            if noun in ('key', 'ticket') and what.en[0][0] == NOUNS[noun].plural:
                return None
    else:
        noun = dice.choice([noun for noun in goods if noun not in ('song', 'film', 'newspaper')])
        if key != 'have' and noun in ('photo', 'egg', 'apple', 'horse', 'bird', 'flower'):
            return None
        det = dice.choice(['a', 'a', 'number']) if not form else 'a'
        if key == 'need' and form:
            det = dice.choice(['this', 'that'])
        what = thing(dice, noun, det, adjectives=0.5 if not form or key == 'need' else 0)
        if form and key in ('have', 'want'):      # 没有车, 你有车吗: no measure word
            what.zh = what.zh[1:]
    if form == 'many':
        if key != 'have':
            return None
        row = NOUNS[noun]
        head = linked(row.plural, row.zh)
        action = Predicate(forms.split(), zh, after=plain('几' + row.measure) + head.zh)
        return sentence(clause(doer, action, 'habit', ask='wh', front=plain('how many') + head.en), '?')
    action = Predicate(forms.split(), zh, what.en, after=what.zh,
                       relations=what.relations + ([('verb and object', key, noun)] if key != 'know' else []))
    if form == 'who':
        doer = Piece(plain('who'), plain('谁'))
        return sentence(clause(doer, action, 'habit', ask='doer'), '?')
    if form == 'why':
        if key not in ('like', 'need'):
            return None
        return sentence(insert_why(clause(doer, action, 'habit', ask='wh', front=plain('why')), doer, None), '?')
    whole = clause(doer, action, 'habit', form == 'negative', 'yes' if form == 'yes' else '')
    if key == 'have':   # 有 is negated by 没
        whole.zh = [('没' if token == '不' else token, link) for token, link in whole.zh]
    return sentence(whole, '?' if form == 'yes' else '.')


ABILITIES = {'speak': ('speak speaks spoke speaking', '说', ['Chinese/中文', 'English/英语']),
             'swim': ('swim swims swam swimming', '游泳', ['']), 'cook': ('cook cooks cooked cooking', '做饭', ['']),
             'dance': ('dance dances danced dancing', '跳舞', ['']),
             'play': ('play plays played playing', '弹', ['the/ piano/钢琴'])}


def ability(dice):
    """can/会: a skill; want to/想 and like to/喜欢 with the same."""
    key = dice.choice(list(ABILITIES))
    forms, zh, objects = ABILITIES[key]
    form = dice.choice(['', '', 'negative', 'yes', 'who'])
    doer = subject(dice, 'I' if form == 'yes' else 'you')
    if form == 'who':
        doer = Piece(plain('who'), plain('谁'))
    what = dice.choice(objects)
    what = piece(what) if what else Piece()
    action = Predicate(forms.split(), zh, what.en, after=what.zh)
    if key != 'speak' and dice.chance(0.35):
        likes = Predicate('like likes liked liking'.split(), '喜欢')
        likes.english = plain('to') + action.verb('base') + action.english
        likes.after = [(action.zh, action.link)] + action.after
        action, tense = likes, 'habit'
    else:
        tense = 'can'
    whole = clause(doer, action, tense, form == 'negative', {'yes': 'yes', 'who': 'doer'}.get(form, ''))
    return sentence(whole, '?' if form in ('yes', 'who') else '.')


# ---- what things and people are like, what they are, where they are ----

MOODS = 'busy tired happy'.split()
TRAITS = 'tall young clever'.split()


def whose_thing(dice, noun, dets=('this', 'that', 'poss', 'poss', 'these')):
    if noun in ('film', 'song', 'tree'):
        dets = [det for det in dets if det != 'poss'] or ['this']
    return thing(dice, noun, dice.choice(dets), random_owner(dice, pronoun('I')), 0)


def quality_of_noun(dice, noun):
    """A random adjective of a noun, not a colour; '' if it has none."""
    adjectives = [adjective for adjective in NOUNS[noun].adjectives.split() if adjective not in COLOURS]
    return dice.choice(adjectives) if adjectives else ''


def quality(adjective, form):
    """`is very long`/非常长 and so on; form: '', 'very', 'too', 'negative', 'yes'. The verb `be` is not part of it."""
    word = linked(adjective, ADJECTIVES[adjective].zh)
    english = plain({'very': 'very', 'too': 'too'}.get(form, '')) + word.en
    chinese = plain({'': '很', 'very': '非常', 'too': '太', 'negative': '不'}.get(form, '')) + word.zh
    return english, chinese + plain({'too': '了', 'yes': '吗'}.get(form, ''))


def describing(dice):
    form = dice.choice(['', 'very', 'very', 'too', 'negative', 'yes'])
    when, relations = None, []
    person = dice.chance(0.4)
    if person:
        who = subject(dice, 'I' if form == 'yes' else 'you')
        adjective = dice.choice(MOODS + TRAITS)
        if form == 'too' and adjective in ('tall', 'clever', 'happy') or adjective == 'young' and who.young:
            return None
        if adjective in MOODS and form in ('', 'very', 'too', 'yes') and dice.chance(0.6):
            when = time(dice, 'past day') if dice.chance(0.7) else piece('today/今天')
    else:
        noun = dice.choice(list(NOUNS))
        adjective = quality_of_noun(dice, noun)
        if not adjective or form == 'too' and adjective in ('beautiful', 'delicious', 'interesting', 'warm'):
            return None
        if form == 'too' and adjective in ('cheap', 'new'):
            return None
        who = whose_thing(dice, noun)
        if form == 'yes' and who.en[0][0] == 'my':
            return None
        relations = [('adjective and noun', adjective, noun)]
    is_ = be(who.number)
    if when and when.en[0][0] != 'today':
        is_ = 'were' if is_ == 'are' else 'was'
    en_when, zh_when = (when.en, when.zh) if when else ([], [])
    english, chinese = quality(adjective, form)
    if form == 'yes':
        whole = Piece(plain(is_) + who.en + english + en_when, who.zh + zh_when + chinese, relations)
    else:
        is_ = BE[is_] if form == 'negative' else is_
        whole = Piece(who.en + plain(is_) + english + en_when, who.zh + zh_when + chinese, relations)
    return sentence(whole, '?' if form == 'yes' else '.')


def colour(dice):
    noun = dice.choice([noun for noun in NOUNS if set(COLOURS) & set(NOUNS[noun].adjectives.split())])
    form = dice.choice(['', 'negative', 'yes', 'what'])
    what = thing(dice, noun, dice.choice(['this', 'that', 'poss']), random_owner(dice, pronoun('I')), 0.2)
    if what.relations and what.relations[0][1] in COLOURS or form in ('yes', 'what') and what.en[0][0] == 'my':
        return None
    if form == 'what':
        word = linked('colour', '颜色')
        return question(plain('what') + word.en + plain('is') + what.en,
                        what.zh + plain('是 什么') + word.zh + plain('的'), what.relations)
    adjective = dice.choice([one for one in COLOURS if one in NOUNS[noun].adjectives.split()])
    word = linked(adjective, ADJECTIVES[adjective].zh)
    relations = what.relations + [('adjective and noun', adjective, noun)]
    chinese = what.zh + plain('不' if form == 'negative' else '') + plain('是') + word.zh + plain('的')
    if form == 'yes':
        return question(plain('is') + what.en + word.en, chinese + plain('吗'), relations)
    return statement(what.en + plain("isn't" if form == 'negative' else 'is') + word.en, chinese, relations)


def comparing(dice):
    """`Tom is taller than Mary.` 汤姆比玛丽高。 `... isn't as tall as ...` 没有……高"""
    form = dice.choice(['', '', 'much', 'not as', 'yes'])
    relations = []
    if dice.chance(0.45):
        one = subject(dice, 'I' if form == 'yes' else 'you')
        adjective = 'tall'
        other = somebody(dice, one, pronouns=False)
    else:
        noun = dice.choice(list(NOUNS))
        adjective = quality_of_noun(dice, noun)
        if not adjective or not ADJECTIVES[adjective].more:
            return None
        one, other = whose_thing(dice, noun, ['this', 'poss']), whose_thing(dice, noun, ['that', 'poss'])
        if one.en[0][0] in ('my', 'our', other.en[0][0]) and other.en[0][0] in ('my', 'our', one.en[0][0]):
            return None
        relations = [('adjective and noun', adjective, noun)]
    row = ADJECTIVES[adjective]
    is_ = be(one.number)
    if form == 'not as':
        word = linked(adjective, row.zh)
        return statement(one.en + plain(BE[is_]) + plain('as') + word.en + plain('as') + other.en,
                         one.zh + plain('没有') + other.zh + word.zh, relations)
    word = linked(row.more.replace('_', ' '), row.zh)
    chinese = one.zh + plain('比') + other.zh + word.zh + plain({'much': '得多', 'yes': '吗'}.get(form, ''))
    middle = plain('much' if form == 'much' else '') + word.en + plain('than') + other.en
    if form == 'yes':
        return question(plain(is_) + one.en + middle, chinese, relations)
    return statement(one.en + plain(is_) + middle, chinese, relations)


SPOTS = dict(SURFACES, garden=PLACES['garden'].at, park=PLACES['park'].at, kitchen=PLACES['kitchen'].at)
FOUND_IN = dict(SMALL, garden='tree flower dog cat bird chair table', park='tree flower dog bird horse',
                kitchen='table chair cup egg apple box', room='table chair computer box bag umbrella cat',
                under='box bag dog cat', bedunder='box bag cat')
CROWDS = {'library': 'student', 'hospital': 'doctor nurse', 'park': 'child boy girl man woman',
          'bus': 'student man woman child nurse', 'shop': 'man woman girl'}


def existing(dice):
    """there is/有: the place comes first in Chinese."""
    form = dice.choice(['', '', '', 'negative', 'yes', 'many', 'what'])
    crowd = dice.chance(0.2) and form != 'what'
    if crowd:
        spot = dice.choice(list(CROWDS))
        where, row = place(spot), ROLES[dice.choice(CROWDS[spot].split())]
        noun, measure = row.key, '个'
    else:
        spot = dice.choice(list(SPOTS))
        where = piece(SPOTS[spot])
        noun = dice.choice(FOUND_IN[spot].split())
        row = NOUNS[noun]
        measure = row.measure
    if form == 'what':
        return question(plain('what is') + where.en, where.zh + plain('有 什么'))
    if form:
        head = linked(row.plural, row.zh)
        if form == 'negative':
            return statement(plain("there aren't any") + head.en + where.en, where.zh + plain('没有') + head.zh)
        if form == 'yes':
            return question(plain('are there any') + head.en + where.en, where.zh + plain('有') + head.zh + plain('吗'))
        return question(plain('how many') + head.en + plain('are there') + where.en,
                        where.zh + plain('有 几' + measure) + head.zh)
    det = dice.choice(['a', 'number', 'number', 'some'])
    if crowd:
        number = dice.choice(list(NUMBERS))
        count, head = numeral(number), linked(row.plural, row.zh)
        count.zh += plain(measure)
        what = count + head
        what.number = 0
    else:
        what = thing(dice, noun, det)
    return statement(plain('there ' + be(what.number)) + what.en + where.en, where.zh + plain('有') + what.zh,
                     what.relations)


def being_somewhere(dice):
    form = dice.choice(['', 'negative', 'yes', 'where'])
    relations = []
    if dice.chance(0.5):
        what = subject(dice, 'I' if form in ('yes', 'where') else 'you')
        outside = ('bus', 'river', 'sea', 'market', 'in_river', 'in_sea')
        spot = dice.choice([key for key in PLACES if key not in outside])
        where = place(spot)
        if form != 'where' and what.key:
            relations = [('person and place', what.key, spot)]
    else:
        spot = dice.choice(list(SURFACES))
        noun = dice.choice(SMALL[spot].split())
        what = thing(dice, noun, dice.choice(['bare', 'poss', 'poss']), random_owner(dice, pronoun('I')), 0.25)
        where, relations = piece(SURFACES[spot]), what.relations
    is_ = be(what.number)
    if form == 'where':
        return question(plain('where ' + is_) + what.en, what.zh + plain('在 哪里'), relations)
    if form == 'yes':
        return question(plain(is_) + what.en + where.en, what.zh + plain('在') + where.zh + plain('吗'), relations)
    if form == 'negative':
        return statement(what.en + plain(BE[is_]) + where.en, what.zh + plain('不在') + where.zh, relations)
    return statement(what.en + plain(is_) + where.en, what.zh + plain('在') + where.zh, relations)


def living(dice):
    form = dice.choice(['', 'negative', 'yes', 'where'])
    doer = subject(dice, 'I' if form in ('yes', 'where') else 'you')
    spot = dice.choice(CITIES + ['sea', 'river'])
    action = Predicate('live lives lived living'.split(), '住', ends=True)
    where = place(spot)
    action.english, action.after = ([], plain('在 哪里')) if form == 'where' else (where.en, plain('在') + where.zh)
    if form != 'where' and doer.key:
        action.relations = [('person and place', doer.key, spot)]
    whole = clause(doer, action, 'habit', form == 'negative', {'yes': 'yes', 'where': 'wh'}.get(form, ''),
                   plain('where') if form == 'where' else ())
    return sentence(whole, '?' if form in ('yes', 'where') else '.')


def being_something(dice):
    """X is a doctor; this is my book; whose car is this; who is that girl."""
    kind = dice.choice(['profession', 'profession', 'this', 'whose', 'who'])
    form = dice.choice(['', 'negative', 'yes'])
    if kind == 'profession':
        who = subject(dice, 'I' if form == 'yes' else 'you', adult=True)
        if who.number == 0 or who.key in PROFESSIONS:
            return None
        job = dice.choice(PROFESSIONS)
        what = linked(job, ROLES[job].zh)
        what.en = plain('a') + what.en
        is_, who_is = be(who.number), who
    elif kind == 'who':
        who = role(dice, plural=False)
        return question(plain('who is') + who.en, who.zh + plain('是谁')) if who.en[0][0] != 'the' else None
    else:
        noun = dice.choice([noun for noun in NOUNS if noun not in ('tree', 'song', 'film')])
        this = dice.choice(['this', 'that'])
        word = {'this': '这', 'that': '那'}[this]
        if kind == 'whose':
            head = linked(noun, NOUNS[noun].zh)
            return question(plain('whose') + head.en + plain('is ' + this), plain(word + '是 谁的') + head.zh)
        is_, who_is = 'is', Piece(plain(this), plain(word))
        what = thing(dice, noun, 'poss', random_owner(dice, pronoun('I')), 0.3)
    chinese = who_is.zh + plain('不是' if form == 'negative' else '是') + what.zh + plain('吗' if form == 'yes' else '')
    if form == 'yes':
        return question(plain(is_) + who_is.en + what.en, chinese, what.relations)
    return statement(who_is.en + plain(BE[is_] if form == 'negative' else is_) + what.en, chinese, what.relations)
