"""Sentences of the translation sample about moving, changing and giving things, and about favours.

Each function returns one random sentence made of the pieces of `clauses_translate`, or None if its random choices do
not go together.
"""
from actions_translate import predicate, time_of_action
from clauses_translate import (Piece, Predicate, clause, random_owner, piece, place, plain, pronoun, sentence, somebody,
                               subject, thing)
from lexicon_translate import EVERYDAY, MASS, PEOPLE, PRONOUNS, VERBS


# ---- moving and changing things: 把 ----

SURFACES = {'table': 'on/ the/ table/桌子 /上', 'chair': 'on/ the/ chair/椅子 /上', 'bed': 'on/ the/ bed/床 /上',
            'box': 'in/ the/ box/盒子 /里', 'bag': 'in/ the/ bag/包 /里', 'room': 'in/ the/ room/房间 /里',
            'under': 'under/ the/ table/桌子 /下面', 'bedunder': 'under/ the/ bed/床 /下面'}
SMALL = {'table': 'book novel magazine newspaper letter map photo ticket apple cake hat key pen cup bag box '
                  'computer camera phone',
         'chair': 'book newspaper coat shirt sweater scarf hat bag skirt',
         'bed': 'book shirt coat sweater skirt scarf phone bag',
         'box': 'letter photo map ticket key pen egg apple scarf hat cup', 'under': 'box bag', 'bedunder': 'box bag',
         'bag': 'book letter map photo ticket key pen camera phone umbrella apple',
         'room': 'chair table computer bag box umbrella'}
CHANGES = {'open': ('open opens opened opening', '打开', 'door window box bag letter'),
           'close': ('close closes closed closing', '关上', 'door window box'),
           'sell': ('sell sells sold selling', '卖掉', 'car bike house computer camera horse table'),
           'lose': ('lose loses lost losing', '弄丢', 'key phone umbrella ticket bag map scarf camera book'),
           'break': ('break breaks broke breaking', '打破', 'cup window')}


def handling(dice):
    """put, open, close, sell, lose, break: in Chinese 把 moves the object before the verb."""
    form = dice.choice(['', '', '', 'negative', 'yes', 'please', 'please', 'please not'])
    tense = dice.choice(['past', 'past', 'future'])
    doer = subject(dice, 'I' if form == 'yes' else 'you')
    if dice.chance(0.55):
        target = dice.choice(list(SURFACES))
        noun = dice.choice(SMALL[target].split())
        where = piece(SURFACES[target])
        forms, zh, after, key = 'put puts put putting', '放', plain('在') + where.zh, 'put'
        extra = where.en
    else:
        key = dice.choice(list(CHANGES))
        forms, zh, nouns = CHANGES[key]
        noun = dice.choice(nouns.split())
        after, extra = [], []
        if form.startswith('please') and key in ('lose', 'break', 'sell'):
            return None
        if key in ('lose', 'break'):
            tense = 'past'
        if key == 'sell' and doer.young:
            return None
    det = dice.choice(['bare', 'bare', 'poss', 'that', 'this']) if noun not in ('door', 'window') else 'bare'
    if key == 'sell':
        det = 'poss'
    what = thing(dice, noun, det, random_owner(dice, doer), 0.3 if det != 'bare' else 0.15)
    if key == 'sell':
        if not doer.own:
            return None
        own = [row for row in PRONOUNS.values() if row.possessive == doer.own][0]
        what = thing(dice, noun, 'poss', Piece(plain(own.possessive), plain(own.zh) + plain('的')), 0.3)
    action = Predicate(forms.split(), zh, what.en + extra, plain('把') + what.zh, after, ends=True,
                       relations=what.relations + [('verb and object', key, noun)])
    if form.startswith('please'):
        ask = Piece(plain('please' if form == 'please' else "please don't"), plain('请' if form == 'please' else '请不要'))
        body = Piece(action.verb('base') + action.english, action.before + [(action.zh, action.link)] + action.after,
                     action.relations)
        return sentence(ask + body, '.')
    when = time_of_action(dice, tense, 'day', 0.5)
    whole = clause(doer, action, tense, form == 'negative', 'yes' if form == 'yes' else '', (), when)
    return sentence(whole, '?' if form == 'yes' else '.')


def asking_a_favour(dice):
    """may I …? / please wait, help, call, give."""
    kind = dice.choice(['may', 'may', 'please', 'please', 'please not'])
    speaker = pronoun('I')
    key = dice.choice({'may': 'use use read eat drink call', 'please': 'wait wait help call wash read',
                       'please not': 'use eat call read drink buy'}[kind].split())
    doer = speaker if kind == 'may' else pronoun('you')
    dets = [det for det in VERBS[key].dets if det in ('this', 'that', 'poss')]
    nouns = [noun for noun in VERBS[key].objects if noun not in MASS or kind != 'please']
    action = predicate(dice, key, doer, dice.choice(dets), dice.choice(nouns) if nouns != [PEOPLE] else '')
    if kind == 'may' and action.english[0][0] == 'my':
        return None
    if kind == 'may':
        return sentence(clause(doer, action, 'may', ask='yes'), '?')
    where = place(dice.choice(VERBS[key].places)) if key == 'wait' else Piece()
    ask = Piece(plain('please' if kind == 'please' else "please don't"), plain('请' if kind == 'please' else '请不要'))
    zh = (plain('在') + where.zh if where.zh else []) + action.before + [(action.zh, action.link)] + action.after
    return sentence(ask + Piece(action.verb('base') + action.english + where.en, zh, action.relations), '.')


# ---- giving ----

GIVING = {'give': ('give gives gave giving', '给', 'book novel magazine ticket map apple cake photo key pen cup bag '
                   'camera phone umbrella flower', ''),
          'buy': (' '.join(VERBS['buy'].forms), '买', 'book novel car bike shirt coat sweater skirt scarf hat umbrella '
                  'computer camera phone cake ticket flower dog bag', 'for'),
          'send': ('send sends sent sending', '寄', 'letter book photo map', 'to'),
          'write': (' '.join(VERBS['write'].forms), '写', 'letter song', 'to'),
          'draw': (' '.join(VERBS['draw'].forms), '画', 'horse dog cat bird flower tree', 'for'),
          'sing': (' '.join(VERBS['sing'].forms), '唱', 'song', 'for')}


def giving(dice):
    """`gave Mary a book`/给了玛丽一本书, `bought a coat for her`/给她买了一件大衣."""
    key = dice.choice(list(GIVING))
    forms, zh, nouns, preposition = GIVING[key]
    form = dice.choice(['', '', '', '', 'yes', 'negative'])
    tense = dice.choice(['past', 'past', 'future', 'want'])
    doer = subject(dice, 'I' if form == 'yes' else 'you')
    whom = somebody(dice, doer)
    noun = dice.choice(nouns.split())
    det = dice.choice(['a', 'a', 'number'])
    if key == 'give':
        det = dice.choice(['a', 'a', 'number', 'this', 'that'])
    if form:
        det = dice.choice(['this', 'that'])
        if key in ('draw', 'sing', 'write', 'buy'):
            return None
    if noun == 'car' and doer.young:
        return None
    what = thing(dice, noun, det)
    late = preposition and dice.chance(0.4)
    english = what.en + plain(preposition) + whom.en if late else whom.en + what.en
    before, after = ([], whom.zh + what.zh) if key == 'give' else (plain('给') + whom.zh, what.zh)
    action = Predicate(forms.split(), zh, english, before, after,
                       relations=what.relations + [('verb and object', key, noun)])
    when = time_of_action(dice, tense, 'day' if key in ('give', 'sing', 'draw') or noun in EVERYDAY else 'long', 0.6)
    first = bool(when) and not form and tense != 'want' and dice.chance(0.15)
    whole = clause(doer, action, tense, form == 'negative', 'yes' if form == 'yes' else '', (), when, time_first=first)
    return sentence(whole, '?' if form == 'yes' else '.')
