"""The words of the translation sample, their Chinese, and which words go together.

Notation of a phrase: items `english/chinese`, separated by spaces. An item with both sides is one alignment link (`_`
joins several English words: `look_for/找`). An item with an empty side is a function word that the other language does
not have in this place (`in/ the/ park/公园 /里`).
"""
import collections


def table(text, fields):
    """Rows `key | column | ...` -> ordered dict of named tuples; a column of several words stays a string."""
    row_type = collections.namedtuple('Row', fields)
    rows = collections.OrderedDict()
    for line in text.strip().split('\n'):
        columns = [column.strip() for column in line.split('|')]
        rows[columns[0]] = row_type(*columns)
    return rows


# subject | object form | possessive | Chinese | number: 1 I, 3 he and she, 0 the verb's base form
PRONOUNS = table('''
I    | me   | my    | 我   | 1
you  | you  | your  | 你   | 0
he   | him  | his   | 他   | 3
she  | her  | her   | 她   | 3
we   | us   | our   | 我们 | 0
they | them | their | 他们 | 0
''', 'key object possessive zh number')

NAMES = table('''
Tom     | Tom/汤姆       | his
Mary    | Mary/玛丽      | her
Anna    | Anna/安娜      | her
David   | David/大卫     | his
Peter   | Peter/彼得     | his
Lucy    | Lucy/露西      | her
Liming  | Li/李 Ming/明  | his
Fang    | Wang/王 Fang/芳 | her
''', 'key spec own')

# English | Chinese | kind: kin has no 的 after a pronoun (我爸爸) | own possessive | young
RELATIVES = table('''
father          | 爸爸 | kin    | his |
mother          | 妈妈 | kin    | her |
older brother   | 哥哥 | kin    | his |
younger brother | 弟弟 | kin    | his | young
older sister    | 姐姐 | kin    | her |
younger sister  | 妹妹 | kin    | her | young
grandmother     | 奶奶 | kin    | her |
son             | 儿子 | kin    | his | young
daughter        | 女儿 | kin    | her | young
friend          | 朋友 | friend |     |
neighbour       | 邻居 | friend |     |
''', 'key zh kind own young')

# English | plural | Chinese | young
ROLES = table('''
doctor  | doctors  | 医生 |
nurse   | nurses   | 护士 |
teacher | teachers | 老师 |
student | students | 学生 |
farmer  | farmers  | 农民 |
girl    | girls    | 女孩 | young
boy     | boys     | 男孩 | young
child   | children | 孩子 | young
woman   | women    | 女人 |
man     | men      | 男人 |
''', 'key plural zh young')
PROFESSIONS = 'doctor nurse teacher student farmer'.split()

# English | plural | Chinese | measure word | its adjectives, before it or as a predicate
NOUNS = table('''
book       | books        | 书     | 本 | new old interesting expensive cheap boring
novel      | novels       | 小说   | 本 | new interesting boring cheap
magazine   | magazines    | 杂志   | 本 | new old interesting boring cheap expensive
newspaper  | newspapers   | 报纸   | 份 | old
letter     | letters      | 信     | 封 | long interesting
map        | maps         | 地图   | 张 | new old big small
photo      | photos       | 照片   | 张 | old new beautiful interesting
ticket     | tickets      | 票     | 张 | expensive cheap
apple      | apples       | 苹果   | 个 | big small red green delicious
egg        | eggs         | 鸡蛋   | 个 | big small
cake       | cakes        | 蛋糕   | 个 | big small delicious expensive
car        | cars         | 车     | 辆 | new old red black white blue expensive cheap big small beautiful
bike       | bikes        | 自行车 | 辆 | new old red black blue green expensive cheap beautiful
shirt      | shirts       | 衬衫   | 件 | new old white blue red green expensive cheap beautiful
coat       | coats        | 大衣   | 件 | new old black red blue warm expensive cheap beautiful
sweater    | sweaters     | 毛衣   | 件 | new old red green white blue warm cheap beautiful
skirt      | skirts       | 裙子   | 条 | new red white blue black beautiful long expensive cheap
scarf      | scarves      | 围巾   | 条 | new red white green warm long beautiful cheap
hat        | hats         | 帽子   | 顶 | new old black white red green beautiful cheap
umbrella   | umbrellas    | 雨伞   | 把 | new old black red blue big small cheap
key        | keys         | 钥匙   | 把 | new old small
chair      | chairs       | 椅子   | 把 | new old red white blue cheap
table      | tables       | 桌子   | 张 | new old big small white expensive cheap
pen        | pens         | 笔     | 支 | new red black blue cheap expensive
cup        | cups         | 杯子   | 个 | new big small red white blue green beautiful
bag        | bags         | 包     | 个 | new old black red big small expensive beautiful
box        | boxes        | 盒子   | 个 | big small red black white old
computer   | computers    | 电脑   | 台 | new old black white expensive cheap
camera     | cameras      | 相机   | 台 | new old small black expensive cheap
phone      | phones       | 手机   | 部 | new old black white expensive cheap
dog        | dogs         | 狗     | 只 | big small black white
cat        | cats         | 猫     | 只 | big small black white beautiful
bird       | birds        | 鸟     | 只 | small beautiful green blue white
horse      | horses       | 马     | 匹 | black white beautiful big
flower     | flowers      | 花     | 朵 | red white blue beautiful small
tree       | trees        | 树     | 棵 | big small beautiful
song       | songs        | 歌     | 首 | new
film       | films        | 电影   | 部 | new interesting boring
house      | houses       | 房子   | 座 | new old big small white beautiful expensive cheap
door       | doors        | 门     | 扇 |
window     | windows      | 窗户   | 扇 |
''', 'key plural zh measure adjectives')

# English | Chinese | container | containers | its measure word
MASS = table('''
tea     | 茶   | cup    | cups    | 杯
coffee  | 咖啡 | cup    | cups    | 杯
water   | 水   | glass  | glasses | 杯
milk    | 牛奶 | glass  | glasses | 杯
rice    | 米饭 | bowl   | bowls   | 碗
noodles | 面条 | bowl   | bowls   | 碗
bread   | 面包 |        |         |
meat    | 肉   |        |         |
fruit   | 水果 |        |         |
music   | 音乐 |        |         |
Chinese | 中文 |        |         |
English | 英语 |        |         |
''', 'key zh container containers measure')

# English | comparative | Chinese | before a noun: with 的 or without | only predicative
ADJECTIVES = table('''
big         | bigger           | 大   |    |
small       | smaller          | 小   |    |
new         |                  | 新   |    |
old         |                  | 旧   |    |
long        |                  | 长   |    |
red         |                  | 红色 | 的 |
black       |                  | 黑色 | 的 |
white       |                  | 白色 | 的 |
blue        |                  | 蓝色 | 的 |
green       |                  | 绿色 | 的 |
expensive   | more_expensive   | 贵   | 的 | predicative
cheap       | cheaper          | 便宜 | 的 |
beautiful   | more_beautiful   | 漂亮 | 的 |
interesting | more_interesting | 有趣 | 的 |
boring      |                  | 无聊 | 的 | predicative
warm        |                  | 暖和 | 的 |
delicious   |                  | 好吃 | 的 |
tall        | taller           | 高   | 的 | predicative
young       |                  | 年轻 | 的 | predicative
clever      |                  | 聪明 | 的 |
busy        |                  | 忙   | 的 | predicative
tired       |                  | 累   | 的 | predicative
happy       |                  | 高兴 | 的 | predicative
''', 'key more zh link only')
COLOURS = 'red black white blue green'.split()

# key | where | where to (empty: not a destination)
PLACES = table('''
home       | at/ home/家                  |
school     | at/ school/学校              | to/ school/学校
station    | at/ the/ station/车站        | to/ the/ station/车站
market     | at/ the/ market/市场         | to/ the/ market/市场
library    | in/ the/ library/图书馆 /里  | to/ the/ library/图书馆
park       | in/ the/ park/公园 /里       | to/ the/ park/公园
garden     | in/ the/ garden/花园 /里     |
kitchen    | in/ the/ kitchen/厨房 /里    |
bedroom    | in/ the/ bedroom/卧室 /里    |
office     | in/ the/ office/办公室 /里   | to/ the/ office/办公室
restaurant | in/ the/ restaurant/饭馆 /里 | to/ the/ restaurant/饭馆
hospital   | in/ the/ hospital/医院 /里   | to/ the/ hospital/医院
shop       | in/ the/ shop/商店 /里       | to/ the/ shop/商店
river      | by/ the/ river/河 /边        |
sea        | by/ the/ sea/海 /边          |
in_river   | in/ the/ river/河 /里        |
in_sea     | in/ the/ sea/海 /里          |
bus        | on/ the/ bus/公交车 /上      |
Beijing    | in/ Beijing/北京             | to/ Beijing/北京
Shanghai   | in/ Shanghai/上海            | to/ Shanghai/上海
London     | in/ London/伦敦              | to/ London/伦敦
''', 'key at to')
CITIES = 'Beijing Shanghai London'.split()

TIMES = {
    'past day': ['yesterday/昨天', 'yesterday/昨天 morning/早上', 'yesterday/昨天 evening/晚上', 'this/今天 morning/早上'],
    'past long': ['yesterday/昨天', 'last/上 week/周', 'last/上 /个 month/月', 'last/去 year/年', 'last/上 Saturday/周六',
                  'last/上 Sunday/周日'],
    'future day': ['tomorrow/明天', 'tomorrow/明天 morning/早上', 'tomorrow/明天 evening/晚上', 'this/今天 evening/晚上'],
    'future long': ['tomorrow/明天', 'next/下 week/周', 'next/下 /个 month/月', 'next/明 year/年', 'next/下 Saturday/周六',
                    'next/下 Sunday/周日'],
    'habit day': ['every/每 day/天', 'every/每天 morning/早上', 'every/每天 evening/晚上'],
    'habit long': ['every/每 week/周', 'every/每个 Saturday/周六', 'every/每个 Sunday/周日', 'every/每 day/天'],
}
HOURS = table('''
seven | 七
eight | 八
nine  | 九
''', 'key zh')
NUMBERS = {'two': '两', 'three': '三', 'four': '四', 'five': '五'}

GOODS = ('book novel magazine newspaper map car bike shirt coat sweater skirt scarf hat umbrella chair '
         'table pen cup bag computer camera phone dog cat bird horse flower ticket house apple egg cake '
         'bread meat fruit tea coffee milk')
# Bought today or yesterday, not last year.
EVERYDAY = 'apple egg cake bread meat fruit milk tea coffee newspaper flower ticket'.split()
# The places where things are sold.
SOLD_AT = {'market': 'apple egg fruit meat flower umbrella scarf hat shirt sweater cup chair bird dog '
                     'bag skirt table',
           'shop': 'book novel magazine newspaper map shirt coat sweater skirt scarf hat umbrella pen cup bag '
                   'computer camera phone bike cake bread milk tea coffee table chair',
           'station': 'ticket newspaper magazine map',
           'Beijing': 'coat bag car computer camera phone skirt house sweater tea book',
           'Shanghai': 'coat bag car computer camera phone skirt house shirt',
           'London': 'coat bag camera scarf hat umbrella novel house'}

Verb = collections.namedtuple('Verb', 'forms zh objects habit places span dets tenses adult')


def _verb(forms, zh, objects, habit='', places='', span='day', dets='a a number this that poss', adult=False,
          tenses='habit past future prog want should'):
    return Verb(forms.split(), zh, objects.split(), habit.split(),
                places.split(), span, dets.split(), tenses.split(), adult)


PEOPLE = 'people'
VERBS = collections.OrderedDict([
    ('read', _verb('read reads read reading', '看', 'book novel magazine newspaper letter',
                   'book novel magazine newspaper', 'home library park garden bedroom bus')),
    ('write', _verb('write writes wrote writing', '写', 'letter song', 'letter song',
                    'home library office bedroom', 'long', 'a a number')),
    ('buy', _verb('buy buys bought buying', '买', GOODS, 'newspaper apple egg fruit meat bread milk flower',
                  'sold', 'long', 'a a a number this that', tenses='habit past future want should')),
    ('eat', _verb('eat eats ate eating', '吃', 'apple egg cake bread rice noodles meat',
                  'apple egg cake bread rice noodles meat fruit', 'home restaurant kitchen park office',
                  dets='a a two this that')),
    ('drink', _verb('drink drinks drank drinking', '喝', 'tea coffee water milk',
                    'tea coffee water milk', 'home restaurant office kitchen garden')),
    ('wash', _verb('wash washes washed washing', '洗', 'car bike shirt sweater cup scarf apple', '',
                   'home', dets='this that poss number', tenses='past future prog want should')),
    ('repair', _verb('repair repairs repaired repairing', '修', 'car bike computer camera phone chair table umbrella',
                     'car bike computer phone camera', 'home', 'long', 'this that poss', adult=True)),
    ('draw', _verb('draw draws drew drawing', '画', 'flower tree horse bird cat dog map',
                   'flower tree horse bird cat dog', 'park garden home school', dets='a a number')),
    ('sing', _verb('sing sings sang singing', '唱', 'song', 'song', 'park school home garden',
                   dets='a a number this that')),
    ('listen', _verb('listen_to listens_to listened_to listening_to', '听', 'music song', 'music song',
                     'home bedroom garden bus', dets='this that number')),
    ('watch', _verb('watch watches watched watching', '看', 'film', 'film', 'home bedroom', dets='a a this that')),
    ('use', _verb('use uses used using', '用', 'computer camera phone umbrella map bike', '',
                  dets='this that poss', tenses='past future prog want should')),
    ('find', _verb('find finds found finding', '找到',
                   'key phone bag umbrella ticket dog cat hat scarf photo map letter book',
                   places='park garden kitchen bedroom bus office library', dets='this that poss a number',
                   tenses='past')),
    ('look', _verb('look_for looks_for looked_for looking_for', '找',
                   'key phone bag umbrella ticket dog cat hat scarf photo map letter pen',
                   places='park garden kitchen bedroom office', dets='that poss', tenses='prog')),
    ('see', _verb('see sees saw seeing', '看见', 'dog cat bird horse house car flower tree people',
                  places='park station river sea garden', dets='a a number this that', tenses='past')),
    ('study', _verb('study studies studied studying', '学', 'Chinese English', 'Chinese English',
                    'school library home Beijing Shanghai London', 'long')),
    ('help', _verb('help helps helped helping', '帮助', PEOPLE, PEOPLE, tenses='habit past future want should')),
    ('visit', _verb('visit visits visited visiting', '去看', PEOPLE, PEOPLE, span='long',
                    tenses='habit past future want should')),
    ('wait', _verb('wait_for waits_for waited_for waiting_for', '等', PEOPLE, '', 'station park office library shop',
                   tenses='prog future')),
    ('call', _verb('call calls called calling', '打', PEOPLE, PEOPLE)),
])

# key | forms | Chinese | what follows | tenses | places
ACTIVITIES = table('''
swim     | swim swims swam swimming       | 游泳 |                 | habit past future prog want | in_river in_sea
dance    | dance dances danced dancing    | 跳舞 |                 | habit past future prog want | park home school
sleep    | sleep sleeps slept sleeping    | 睡觉 |                 | prog want should | home bedroom bus
work     | work works worked working      | 工作 |                 | habit future prog want | WORKPLACES
study    | study studies studied studying | 学习 |                 | habit future prog want should | STUDIES
walk     | walk walks walked walking      | 散步 |                 | habit past future prog want | park garden river sea
cook     | cook cooks cooked cooking      | 做饭 |                 | habit past future prog want should | home kitchen
cry      | cry cries cried crying         | 哭   |                 | past prog | bedroom garden park bus
football | play plays played playing      | 踢   | football/足球   | habit past future prog want | park school
piano    | play plays played playing      | 弹   | the/ piano/钢琴 | habit past future prog want | home school
'''.replace('WORKPLACES', 'office hospital restaurant shop market Beijing Shanghai London school')
   .replace('STUDIES', 'library home school bedroom Beijing London'), 'key forms zh object tenses places')

# Word pairs of the test set. No sentence of training or validation has a form of both words of a pair.
HELD_OUT = {
    'verb and object': '''
        buy umbrella, buy coat, buy egg, wash cup, wash shirt, repair computer, draw bird, draw flower, use camera,
        find scarf, find photo, see horse, lose ticket''',
    'adjective and noun': '''
        red car, white cat, blue shirt, green hat, new computer, old bike, small dog, big box, cheap chair, old map,
        red flower, small key, beautiful cup''',
    'person and place': '''
        father market, mother office, sister station, brother library, doctor park, teacher market, Mary station,
        Anna kitchen, David library, Peter Beijing, Lucy park, Fang office''',
}
HELD_OUT = {kind: [tuple(pair.split()) for pair in pairs.split(',')] for kind, pairs in HELD_OUT.items()}
