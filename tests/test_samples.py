"""The committed samples: the output of the generator, their properties, and the pairs of the test sets."""
import collections
import os
import re
import subprocess
import sys

import pytest

from text.tokenizers import make_tokenizer

SAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'samples')
sys.path.insert(0, SAMPLES)
import generate  # noqa: E402
import grammar_answer  # noqa: E402
import grammar_translate  # noqa: E402
import lexicon_translate  # noqa: E402

WORD, CHINESE = make_tokenizer('word'), make_tokenizer('chinese')
SIZES = {'translate': (7200, 400, 400), 'summarise': (4400, 300, 300), 'answer': (8000, 400, 400)}
PARTS = ('train', 'val', 'test')


def read(name):
    with open(os.path.join(SAMPLES, *name.split('/')), 'rb') as file:
        return file.read()


def lines(name):
    text = read(name).decode('utf-8')
    assert text.endswith('\n') and '\r' not in text
    return text[:-1].split('\n')


@pytest.fixture(scope='module')
def corpora():
    """{corpus: {part: [[source, target]]}}."""
    return {name: {part: [line.split('\t') for line in lines('%s/%s.tsv' % (name, part))] for part in PARTS}
            for name in SIZES}


def words(text):
    return [word[:-2] if word.endswith("'s") else word for word in WORD.tokenize(text)]


# ---- the generator ----

@pytest.mark.slow
def test_generator_writes_the_committed_bytes_whatever_the_locale_and_the_hash_seed(tmp_path):
    environment = dict(os.environ, LANG='C', LC_ALL='C', PYTHONHASHSEED='4711')
    subprocess.check_call([sys.executable, os.path.join(SAMPLES, 'generate.py'), str(tmp_path)], env=environment)
    written = sorted(os.path.relpath(os.path.join(folder, file), str(tmp_path)).replace(os.sep, '/')
                     for folder, _, files in os.walk(str(tmp_path)) for file in files)
    assert written == sorted(['sentences.txt', 'translate/test.align'] +
                             ['%s/%s.tsv' % (name, part) for name in SIZES for part in PARTS])
    for name in written:
        with open(str(tmp_path / name), 'rb') as file:
            assert file.read() == read(name), name


def test_check_accepts_equal_files_and_names_the_first_that_differs_or_is_missing(tmp_path, monkeypatch, capsys):
    made = collections.OrderedDict([('one/a.tsv', '一\n'), ('one/b.tsv', 'b\n'), ('c.txt', 'c\n')])
    monkeypatch.setattr(generate, 'files', lambda: made)
    folder = str(tmp_path)
    assert generate.main([folder]) == 0
    assert generate.main([folder, '--check']) == 0
    made['one/b.tsv'] = 'changed\n'
    os.remove(str(tmp_path / 'c.txt'))
    assert generate.main([folder, '--check']) == 1
    assert 'b.tsv' in capsys.readouterr().err
    with open(str(tmp_path / 'one' / 'b.tsv')) as file:
        assert file.read() == 'b\n'   # a check writes nothing
    made['one/b.tsv'] = 'b\n'
    assert generate.main([folder, '--check']) == 1
    assert 'c.txt' in capsys.readouterr().err


# ---- all three ----

@pytest.mark.parametrize('name', sorted(SIZES))
def test_sizes_two_filled_columns_and_no_source_twice(corpora, name):
    assert tuple(len(corpora[name][part]) for part in PARTS) == SIZES[name]
    rows = [row for part in PARTS for row in corpora[name][part]]
    assert all(len(row) == 2 and row[0].strip() and row[1].strip() for row in rows)
    sources = collections.Counter(row[0] for row in rows)
    assert not [source for source, count in sources.items() if count > 1]


@pytest.mark.parametrize('name', sorted(SIZES))
def test_tokenising_can_be_undone_so_that_exact_match_can_be_reached(corpora, name):
    target = CHINESE if name == 'translate' else WORD
    for row in corpora[name]['test'] + corpora[name]['val']:
        assert WORD.detokenize(WORD.tokenize(row[0])) == row[0]
        assert target.detokenize(target.tokenize(row[1])) == row[1]


@pytest.mark.parametrize('name', sorted(SIZES))
def test_every_token_of_validation_and_test_is_frequent_in_training(corpora, name):
    for column, tokenizer in enumerate((WORD, CHINESE if name == 'translate' else WORD)):
        train = corpora[name]['train']
        known = collections.Counter(token for row in train for token in tokenizer.tokenize(row[column]))
        least = 20 if tokenizer is WORD else 10
        rare = {token: known[token] for row in corpora[name]['val'] + corpora[name]['test']
                for token in tokenizer.tokenize(row[column]) if known[token] < least and not token.endswith("'s")}
        assert not rare


# ---- translate ----

def test_held_out_pairs_are_nowhere_in_training_and_validation_and_in_every_test_sentence(corpora):
    pairs = list(grammar_translate.held_out_pairs().values())
    assert len(pairs) >= 35
    for part in ('train', 'val'):
        for source, _ in corpora['translate'][part]:
            found = set(words(source))
            assert not [pair for pair in pairs if found & pair[0] and found & pair[1]], source
    seen = collections.Counter()
    for source, _ in corpora['translate']['test']:
        found = set(words(source))
        held = [k for k, pair in enumerate(pairs) if found & pair[0] and found & pair[1]]
        assert held, source
        seen.update(held)
    assert len(seen) == len(pairs) and min(seen.values()) >= 3


def test_forms_of_a_held_out_word_are_those_of_the_text():
    assert grammar_translate.forms('read') == {'read', 'reads', 'reading', "read's"}
    assert grammar_translate.forms('buy') >= {'buy', 'buys', 'bought', 'buying'}
    assert grammar_translate.forms('scarf') >= {'scarf', 'scarves'}
    assert grammar_translate.forms('big') >= {'big', 'bigger'}
    assert grammar_translate.forms('lose') >= {'lose', 'lost'}
    assert grammar_translate.forms('put') >= {'put', 'puts', 'putting'}
    assert grammar_translate.forms('doctor') >= {'doctor', 'doctors'}


def test_each_english_word_has_one_spelling_and_sentences_are_short(corpora):
    capitals = set()
    for part in PARTS:
        for source, target in corpora['translate'][part]:
            tokens = WORD.tokenize(source)
            assert 3 <= len(tokens) <= 16 and source[-1] in '.?' and target[-1] == {'.': '。', '?': '？'}[source[-1]]
            capitals.update(word for word in words(source) if word != word.lower())
    assert capitals == {'I', 'Tom', 'Mary', 'Anna', 'David', 'Peter', 'Lucy', 'Li', 'Ming', 'Wang', 'Fang', 'Saturday',
                        'Sunday', 'Beijing', 'Shanghai', 'London', 'Chinese', 'English'}


def test_articles_and_third_person_agree(corpora):
    for part in PARTS:
        for source, _ in corpora['translate'][part]:
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", source), source
            assert not re.search(r"^(he|she|Tom) (are|have|do|like|want|need|know|go|don't|aren't)\b", source), source
            assert not re.search(r"^(we|they) (am|is|has|does|likes|wants|needs|goes|isn't|doesn't)\b", source), source
            assert not re.search(r"^I (are|is|has|does|likes|wants|needs|goes|isn't|doesn't)\b", source), source


MEASURED = ('a book/一本', 'a car/一辆', 'a letter/一封', 'a coat/一件', 'a hat/一顶', 'a horse/一匹', 'a flower/一朵',
            'a song/一首', 'a house/一座', 'two keys/两把', 'three dogs/三只', 'a cup of tea/一杯')


# Chinese has no measure word for what is going on (在看书), for what is not there and for what is asked about (有书吗).
UNMEASURED = r"(am|is|are|isn't|aren't) .*ing |doesn't|don't|^do |^does |^who "


@pytest.mark.parametrize('pair', MEASURED)
def test_measure_word_fits_the_noun(corpora, pair):
    english, chinese = pair.replace(' ', r' (\w+ )?', 1).split('/')
    targets = [target for part in PARTS for source, target in corpora['translate'][part]
               if re.search(r'\b%s\b' % english, source) and not re.search(UNMEASURED, source)]
    assert targets and all(chinese in target for target in targets)


ORDERS = (   # time and place before the verb, 吗, wh in place, relative clause first, 把, 比, benefactive 给
    (r'^(he|she|we|they|I|Tom|Mary) .* in the (park|garden) (yesterday|this morning)', '(昨天|今天早上).*在(公园|花园)里.*了'),
    (r'^does \w+ .*\?$', '吗？$'),
    (r'^what is \w+ \w+ing\?$', '在.什么？$'),
    (r'^where did .* buy .*\?$', '是在哪里买.*的？$'),
    (r' that \w+ bought is ', '买的'),
    (r' put .* on the table', '把.*放在桌子上'),
    (r' is taller than ', '比.*高'),
    (r' bought .* for him', '给他买了'),
    (r"o'clock (yesterday|tomorrow|every) ", '早上.点|晚上.点'),
    (r' by train', '坐火车'),
    (r"^if it rains", '^如果.*下雨，'),
    (r" doesn't have ", '没有'),
)


@pytest.mark.parametrize('english, chinese', ORDERS)
def test_word_order_and_particles_of_the_chinese_side(corpora, english, chinese):
    targets = [target for part in PARTS for source, target in corpora['translate'][part] if re.search(english, source)]
    assert targets and all(re.search(chinese, target) for target in targets)


FUNCTION = set('的了在吗是不没会应该可以请要给把跟一起比得多很非常太有谁什么哪里几为怎时候因所如果上下边面正经总从来我你他她们这那些'
               '个本份封张辆件条顶把支台部只匹朵棵首座扇杯碗，。？')


@pytest.mark.slow
def test_training_alignments_have_a_line_for_each_pair_with_links_inside_it(corpora, tmp_path):
    subprocess.check_call([sys.executable, os.path.join(SAMPLES, 'generate.py'), '--train-alignments',
                           str(tmp_path / 'train.align')])
    found = (tmp_path / 'train.align').read_text().splitlines()
    pairs = corpora['translate']['train']
    assert len(found) == len(pairs)
    assert sum(not line for line in found) == 4     # such as "where are we?", without a content word
    for (source, target), line in zip(pairs, found):
        links = [tuple(map(int, link.split('-'))) for link in line.split()]
        assert all(i < len(WORD.tokenize(source)) and j < len(CHINESE.tokenize(target)) for i, j in links)


@pytest.fixture(scope='module')
def aligned(corpora):
    """[(English tokens, Chinese tokens, {Chinese index: set of English indices}, links)] of the test part."""
    rows = []
    for (source, target), line in zip(corpora['translate']['test'], lines('translate/test.align')):
        links = [tuple(int(index) for index in link.split('-')) for link in line.split()]
        of = collections.defaultdict(set)
        for i, j in links:
            of[j].add(i)
        rows.append((WORD.tokenize(source), CHINESE.tokenize(target), of, links))
    return rows


def test_alignment_has_a_line_for_each_test_pair_with_links_inside_it(corpora, aligned):
    assert len(lines('translate/test.align')) == len(corpora['translate']['test'])
    for english, chinese, _, links in aligned:
        assert links and links == sorted(set(links))
        assert all(0 <= i < len(english) and 0 <= j < len(chinese) for i, j in links)


def test_alignment_covers_every_content_character_and_links_no_function_word(aligned):
    for english, chinese, of, links in aligned:
        unlinked = [token for j, token in enumerate(chinese) if j not in of]
        assert set(unlinked) <= FUNCTION, (english, unlinked)
        linked = {english[i] for i, _ in links}
        assert not linked & set('a an the is are was were do does did will who what of than . , ?'.split()), english


def test_alignment_links_each_noun_adjective_and_name_with_its_own_chinese(aligned):
    meaning = {'Tom': '汤姆', 'Mary': '玛丽', 'Anna': '安娜', 'Li': '李', 'Ming': '明', 'Wang': '王', 'Fang': '芳',
               'Beijing': '北京', 'yesterday': '昨天', 'tomorrow': '明天', 'kitchen': '厨房', 'library': '图书馆'}
    for row in lexicon_translate.NOUNS.values():
        meaning.update({row.key: row.zh, row.plural: row.zh})
    meaning.update({row.key: row.zh for row in lexicon_translate.ADJECTIVES.values()})
    checked = 0
    for english, chinese, _, links in aligned:
        for i, token in enumerate(english):
            token = token[:-2] if token.endswith("'s") else token
            text = ''.join(chinese[j] for k, j in links if k == i)
            if token in meaning and english[i:i + 2] != ['cups', 'of']:
                assert text == meaning[token] or token == 'cup' and text == '杯', (english, token, text)
                checked += 1
    assert checked > 600


def test_readme_sentences_are_of_the_sample_and_not_of_its_training_text(corpora):
    shown = lines('sentences.txt')
    assert 8 <= len(shown) <= 12
    trained = {row[0] for part in ('train', 'val') for row in corpora['translate'][part]}
    known = {word for source in trained for word in words(source)}
    assert not set(shown) & trained
    assert all(set(words(line)) <= known for line in shown)


# ---- summarise ----

def test_reports_and_headlines_have_the_promised_lengths_and_share_their_words(corpora):
    known = {headline for _, headline in corpora['summarise']['train']}
    for part in PARTS:
        for report, headline in corpora['summarise'][part]:
            assert 40 <= len(re.findall(r'\w+', report)) <= 80
            assert 5 <= len(headline.split()) <= 10
            assert report == report.lower() and headline == headline.lower()
            # all but the verb, which changes its tense, stands in the report
            assert len(set(headline.split()) - set(WORD.tokenize(report))) <= 1, headline
            assert part == 'train' or headline not in known


def test_headline_describes_the_new_event_and_not_an_earlier_one(corpora):
    older = 0
    for report, headline in corpora['summarise']['test'] + corpora['summarise']['val']:
        where = ' '.join(headline.split()[-2:])
        for statement in re.findall(r'[^.]+', report):
            if re.search(r'\b(ago|earlier), ', statement):
                older += 1
                assert where not in statement
        assert where in report
    assert older > 100


# ---- answer ----

def solve(story, question):
    """The answer, derived from the text only."""
    where, holder, opens, key, times, went = {}, {}, {}, {}, {}, []
    for statement in story:
        gone = re.match(r'(\w+) (?:went|walked|ran) to (.*)', statement)
        taken = re.match(r'(\w+) (?:took|picked up|found) (.*)', statement)
        came = re.match(r'(\w+) came ((?:in|at) .*)', statement)
        if gone:
            where[gone.group(1)] = gone.group(2)
            went.append(gone.group(1))
        elif taken:
            holder[taken.group(2)] = taken.group(1)
        elif came:
            times[came.group(1)] = came.group(2)
        elif ' has the ' in statement:
            person, colour = re.match(r'(\w+) has the (\w+) key', statement).groups()
            key[person] = colour
        else:
            colour, place = re.match(r'the (\w+) key opens (.*)', statement).groups()
            opens[colour] = place
    kinds = (
        (r'where is (the .*)', lambda thing: '%s is with %s in %s' % (thing, holder[thing], where[holder[thing]])),
        (r'where is (\w+)', lambda person: '%s is in %s' % (person, where[person])),
        (r'who has (.*)', lambda thing: '%s is with %s' % (thing, holder[thing])),
        (r'what does (\w+) carry', lambda person: '%s carries %s' % (
            person, [thing for thing, one in holder.items() if one == person][0])),
        (r'who is in (.*)', lambda place: 'in %s are %s' % (
            place, ' and '.join(one for one in went if where[one] == place))),
        (r'when did (\w+) come', lambda person: '%s came %s' % (person, times[person])),
        (r'what can (\w+) open', lambda person: '%s has the %s key to %s' % (person, key[person], opens[key[person]])),
    )
    for pattern, answer in kinds:
        asked = re.match(pattern + '$', question)
        if asked:
            return answer(*asked.groups())


def test_answers_follow_from_their_stories(corpora):
    for part in PARTS:
        for source, answer in corpora['answer'][part]:
            question, separator, story = source.partition('? | ')
            assert separator and source.count('|') == 1 and story.endswith('.')
            story = story[:-1].split('. ')
            assert 2 <= len(story) <= 7
            assert solve(story, question) == answer, source


def test_stories_mark_the_facts_that_decide():
    """Without one of its facts, a story gives another answer or none."""
    cases = grammar_answer.parts()['test']
    two = 0
    for source, answer, case in cases:
        assert len(case.facts) in (1, 2)
        two += len(case.facts) == 2
        for fact in case.facts:
            try:
                other = solve([one for k, one in enumerate(case.story) if k != fact], case.question)
            except (KeyError, IndexError, AssertionError):
                continue
            assert other != answer, (source, case.story[fact])
    assert 0.4 <= two / len(cases) <= 0.55


def test_no_answer_is_frequent_and_some_have_several_words(corpora):
    answers = collections.Counter(answer for _, answer in corpora['answer']['test'])
    assert answers.most_common(1)[0][1] <= 0.1 * 400
    assert sum(count for answer, count in answers.items() if len(answer.split()) >= 6) >= 0.25 * 400
