"""The summarisation sample: a report of 40 to 80 words and its headline.

A report describes one event (who did what, where and when) in one or two sentences, among others that are not part of
the headline: earlier events of the same kind in other towns, witnesses, the weather. The headline keeps who, what and
where, in the present tense, and omits the time, most adjectives and everything else.
"""
import collections
import re

from grammar_tools import Dice

TRAIN, VAL, TEST = 4400, 300, 300
SHORTEST, LONGEST = 40, 80   # words of a report

TOWNS = ('alden brockley carnford dunmore easby farnham glenrock hartwell ironbridge kelso langley milton '
         'norwick oakham penrose quarley redcliff selby thornton wexford').split()
DAYS = 'monday tuesday wednesday thursday friday saturday sunday'.split()
PARTS_OF_DAY = 'morning afternoon evening night'.split()
NUMBERS = 'two three four five six seven'.split()
FIRST = 'clara edwin flora george helen ivan julia martin nora oscar paula simon'.split()
LAST = 'baker cole dalton frost grant hill mason price reed stone webb young'.split()
JOBS = ['a baker', 'a farmer', 'a nurse', 'a bus driver', 'a postman', 'a teacher', 'a shopkeeper', 'a waiter']

Topic = collections.namedtuple('Topic', 'lead headline slots details')

# `{name}` is a slot. Of a value `past > present` the report has the first form, `{name}`, and the headline the second,
# `{name>}`. `{where}` and `{when}` are place and time of the event.
TOPICS = [
    Topic('{a} {cause} {did} the {old} {thing} {where} {when}', '{cause} {did>} {thing} {where}',
          {'a': ['a violent', 'a sudden', 'a big', 'a strange'],
           'cause': ['storm', 'fire', 'flood', 'landslide', 'explosion'],
           'did': ['destroyed > destroys', 'damaged > damages', 'threatened > threatens'],
           'old': ['old', 'famous', 'small', 'busy'],
           'thing': ['school', 'bridge', 'hospital', 'market', 'factory', 'church', 'railway', 'theatre', 'harbour']},
          ['nobody was hurt', 'the damage is said to be great', 'firemen worked until the next day',
           'neighbours brought blankets and hot soup', 'the roof had been repaired only last spring']),
    Topic('the {team} {did} the {other} by {score} {in} {where} {when}', '{team} {did>} {other} {in} {where}',
          {'team': ['rovers', 'harriers', 'wanderers', 'lions', 'eagles', 'tigers'],
           'other': ['foxes', 'falcons', 'sharks', 'wolves', 'bears', 'dragons'],
           'did': ['beat > beat', 'defeated > defeat', 'crushed > crush'],
           'score': ['two goals to one', 'three goals to two', 'four goals to none'],
           'in': ['in the cup final', 'in the season opener', 'in the youth league']},
          ['the crowd sang long after the end', 'the goalkeeper had a cold', 'tickets had been sold out for weeks',
           'the referee showed no red card', 'both coaches shook hands']),
    Topic('the {kind} {company} {did} {a} {site} {where} {when}', '{company} {did>} {site} {where}',
          {'company': ['bellweather', 'corvane', 'dextra', 'fairmile', 'goldcrest', 'halberd'],
           'kind': ['food company', 'toy maker', 'shoe maker', 'travel company'],
           'did': ['opened > opens', 'closed > closes', 'sold > sells', 'bought > buys'],
           'a': ['a large', 'a modern', 'a costly', 'a second'],
           'site': ['factory', 'warehouse', 'hotel', 'bakery', 'garage', 'supermarket', 'laboratory']},
          ['the price was kept secret', 'hundreds of jobs depend on it', 'the shares rose a little',
           'lawyers had worked on the papers for months', 'the unions asked for a meeting']),
    Topic('the {who} {did} {a} {plan} {where} {when}', '{who} {did>} {plan} {where}',
          {'who': ['mayor', 'minister', 'council', 'governor', 'president'],
           'did': ['announced > announces', 'rejected > rejects', 'approved > approves', 'delayed > delays'],
           'a': ['the long awaited', 'the much discussed', 'the costly', 'the'],
           'plan': ['bus station', 'swimming pool', 'parking tax', 'dog tax', 'sports hall', 'night train',
                    'cycle path', 'rent law']},
          ['the vote was close', 'the opposition left the room', 'the cost has doubled since the spring',
           'a crowd waited outside with posters', 'reporters were not allowed to ask questions']),
    Topic('the police {did} {who} over {what} {where} {when}', 'police {did>} {who} over {what} {where}',
          {'did': ['arrested > arrest', 'questioned > question', 'released > release'],
           'who': ['two brothers', 'three students', 'a pilot', 'a dentist', 'a gardener', 'a jeweller'],
           'what': ['stolen paintings', 'false money', 'a missing diamond', 'stolen bicycles', 'a bank robbery',
                    'threatening letters']},
          ['a neighbour had noticed a strange van', 'the court will hear the case in the autumn',
           'the dogs found nothing', 'an officer hurt his hand', 'the lawyers refused to comment']),
    Topic('{who} from the university {did} {a} {what} {where} {when}', '{who} {did>} {what} {where}',
          {'who': ['researchers', 'scientists', 'students', 'divers'],
           'did': ['discovered > discover', 'photographed > photograph', 'studied > study', 'lost > lose'],
           'a': ['a set of', 'a number of', 'some'],
           'what': ['roman coins', 'rare butterflies', 'giant mushrooms', 'ancient bones', 'blue crystals',
                    'viking swords', 'wild orchids']},
          ['the work took several years', 'an exhibition is planned for the winter',
           'a foundation paid for the journey', 'experts abroad were surprised', 'the report has two hundred pages']),
    Topic('a {vehicle} {did} a {thing} {where} {when}', '{vehicle} {did>} {thing} {where}',
          {'vehicle': ['bus', 'lorry', 'tram', 'taxi', 'tractor', 'fire engine'],
           'did': ['hit > hits', 'crushed > crushes', 'blocked > blocks'],
           'thing': ['lamp post', 'milk van', 'garden wall', 'phone box', 'level crossing', 'traffic light',
                     'wedding car']},
          ['the driver was not hurt', 'traffic stood still for hours', 'the brakes had been checked in the summer',
           'the road was icy', 'a mechanic is looking for the cause']),
    Topic('the {place} {did} {number} {young} {animals} {where} {when}', '{place} {did>} {number} {animals} {where}',
          {'place': ['zoo', 'circus', 'animal shelter', 'safari park'],
           'did': ['welcomed > welcomes', 'showed > shows', 'freed > frees', 'moved > moves'],
           'number': ['two', 'three', 'five', 'seven'],
           'young': ['young', 'healthy', 'grey', 'lively'],
           'animals': ['elephants', 'penguins', 'zebras', 'monkeys', 'camels', 'parrots', 'tortoises', 'owls']},
          ['children may choose the names', 'the vet is content', 'they eat more than was expected',
           'visitors are asked to be quiet', 'a new fence is being built']),
]

LATER = ['it happened {where} {when}', 'all this took place {where} {when}', '{when}, all this was seen {where}']
BEFORE = ['it was the talk of the whole region', 'people have been speaking of little else',
          'it came as a surprise to most', 'the news spread quickly', 'this is the story of the week']
WITNESSES = ['{first} {last}, {job} from {other}, saw everything from a window',
             '{first} {last}, {job} from {other}, made a film of it',
             'according to {first} {last}, {job} from {other}, it was over in {number} minutes',
             '{first} {last}, {job} of {other}, called the newspaper at once']
WEATHER = ['the weather was cold and wet', 'it had rained for {number} days', 'the sun was shining over {other}',
           'a light wind blew from the sea', 'fog lay over the road to {other}']
REST = ['more will be known in {number} weeks', 'a similar story is told in {other}',
        'the trains to {other} ran as usual',
        'radio {other} reported it first', 'a picture of it hangs in a pub in {other}',
        'about {number} hundred people came to look', 'the {number} people in charge did not want to speak']
DECOYS = ['{number} years ago, {lead}', '{number} months earlier, {lead}']


def fill(template, values):
    return re.sub(r'\{(\w+>?)\}', lambda match: values[match.group(1)], template)


def event(dice, topic, towns):
    """Values for the slots of one event; its place is removed from `towns`."""
    values = {}
    for name in sorted(topic.slots):
        past, _, present = dice.choice(topic.slots[name]).partition(' > ')
        values[name], values[name + '>'] = past, present
    values['where'] = dice.choice(['in', 'near']) + ' ' + towns.pop()
    values['when'] = 'on %s %s' % (dice.choice(DAYS), dice.choice(PARTS_OF_DAY))
    return values


def report(dice):
    """One (report, headline)."""
    topic = dice.choice(TOPICS)
    towns = dice.shuffled(TOWNS)
    values = event(dice, topic, towns)
    if dice.chance(0.65):
        main = [fill(topic.lead, values)]
    else:   # place and time come in a sentence of their own
        main = [fill(topic.lead, dict(values, where='', when='')), fill(dice.choice(LATER), values)]

    def aside(template):
        return fill(template, {'first': dice.choice(FIRST), 'last': dice.choice(LAST), 'job': dice.choice(JOBS),
                               'other': towns.pop(), 'number': dice.choice(NUMBERS)})

    details = [aside(dice.choice(WITNESSES)), aside(dice.choice(WEATHER))]
    details += dice.sample(topic.details, 1 + dice.below(2))
    details += [aside(template) for template in dice.sample(REST, 1 + dice.below(2))]
    if dice.chance(0.35):
        older = event(dice, topic, towns)
        older['when'] = ''
        details.append(fill(dice.choice(DECOYS), {'number': dice.choice(NUMBERS), 'lead': fill(topic.lead, older)}))
    details = dice.shuffled(details)
    start = 0 if dice.chance(0.55) else 1
    first = [dice.choice(BEFORE)] if start and dice.chance(0.5) else details[:start]
    details = details[len(first):] if first and first[0] in details else details
    text = '. '.join(first + main + details) + '.'
    text = re.sub(r' +(?=[.,])', '', re.sub(' +', ' ', text))
    headline = re.sub(r'(?<= )(a|the) |^(a|the) ', '', fill(topic.headline, values))
    return text, headline


def parts(seed=20181110):
    """{'train': [(report, headline)], ...}; no headline of validation or test is in training."""
    dice = Dice(seed)
    reports = collections.OrderedDict()
    while len(reports) < TRAIN + VAL + TEST:
        text, headline = report(dice)
        if SHORTEST <= len(re.findall(r'\w+', text)) <= LONGEST and 5 <= len(headline.split()) <= 10:
            reports.setdefault(headline, (text, headline))
    pairs = dice.shuffled(list(reports.values()))
    return {'val': pairs[:VAL], 'test': pairs[VAL:VAL + TEST], 'train': pairs[VAL + TEST:]}
