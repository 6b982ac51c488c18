"""Tables as people have them: each form gives the same pairs, what cannot be meant is refused, nothing valid is."""
import bz2
import gzip
import itertools
import json
import lzma
import os
import random

import pytest

import command_line  # noqa: F401  first: sets what NumPy reads when it is imported
from command_line import UserError
from storage.files import file_sha256
from test_corpus_builder import settings_of
from text import columns, corpus, preparation, text_files
from text.corpus_cache import cache_key

PAIRS = [('Two males are outside, near "bushes".', 'Zwei Männer sind im Freien.'), ('A girl climbs.', 'Ein Mädchen.'),
         ('', 'leer'), ('A man; on a ladder', 'Ein "Mann"')]
QA = [('Anna went to the garden.', 'Where did Anna go?', 'garden'), ('Ben went out.', 'Where did Ben go?', 'out'),
      ('Carl went home.', 'Where did Carl go?', 'home')]
LONG = [('word %d of the source text' % i, 'Wort %d im Zieltext' % i) for i in range(200)]


@pytest.fixture
def told(monkeypatch):
    """The lines that reading tells."""
    lines = []
    columns.tell_once.cache_clear()
    monkeypatch.setattr(columns, 'tell', lines.append)
    return lines


def write(folder, name, text):
    content = text if isinstance(text, bytes) else text.encode('utf-8')
    pack = {'.gz': gzip.compress, '.bz2': bz2.compress, '.xz': lzma.compress}.get(os.path.splitext(name)[1], bytes)
    (folder / name).write_bytes(pack(content))
    return str(folder / name)


def rows(pairs, delimiter='\t'):
    return ''.join(delimiter.join(cells) + '\n' for cells in pairs)


def quoted(pairs, delimiter=','):
    return rows([['"%s"' % cell.replace('"', '""') for cell in cells] for cells in pairs], delimiter)


def lines_of(records):
    return ''.join(json.dumps(record, ensure_ascii=False) + '\n' for record in records)


def tmx(pairs, languages=('en', 'de'), head='<?xml version="1.0"?>', srclang='en'):
    def escape(text):
        return text.replace('&', '&amp;').replace('<', '&lt;')
    units = ''.join('<tu>%s</tu>\n' % ''.join('<tuv xml:lang="%s"><seg>%s</seg></tuv>' % (language, escape(text))
                                              for language, text in zip(languages, pair)) for pair in pairs)
    return '%s\n<tmx version="1.4"><header srclang="%s"/><body>\n%s</body></tmx>\n' % (head, srclang, units)


def named(pairs, names=('en', 'de')):
    return [dict(zip(names, pair)) for pair in pairs]


def refused(function, *arguments):
    with pytest.raises(UserError) as caught:
        list(function(*arguments))
    assert '\n' not in str(caught.value)
    return str(caught.value)


FORMS = {
    'a.tsv': rows(PAIRS), 'a.tsv.gz': rows(PAIRS), 'a.tsv.bz2': rows(PAIRS), 'a.tsv.xz': rows(PAIRS),
    'header.tsv': 'english\tgerman\n' + rows(PAIRS), 'roles.tsv': 'id\ttgt\tsrc\n' + rows(
        [(str(i), b, a) for i, (a, b) in enumerate(PAIRS)]),
    'quoted.tsv': quoted(PAIRS, '\t'), 'quoted header.tsv': quoted([('source', 'target')] + PAIRS, '\t'),
    'bom.tsv': '\ufeff' + rows(PAIRS), 'bom header.csv': '\ufeff' + quoted([('source', 'target')] + PAIRS),
    'plain.csv': quoted(PAIRS), 'semicolons.csv': quoted(PAIRS, ';'), 'tabs.csv': quoted(PAIRS, '\t'),
    'crlf.csv': quoted(PAIRS).replace('\n', '\r\n'), 'packed.csv.xz': quoted(PAIRS),
    'lines.jsonl': lines_of(named(PAIRS)), 'nested.jsonl.bz2': lines_of({'translation': one} for one in named(PAIRS)),
    'more.jsonl': lines_of(dict(id=i, score=.5, source=a, target=b) for i, (a, b) in enumerate(PAIRS)),
    'lines.json': lines_of(named(PAIRS)), 'list.json': json.dumps(named(PAIRS)),
    'indented.json': json.dumps({'data': named(PAIRS)}, indent=1), 'null.jsonl': lines_of(
        {'en': a or None, 'de': b} for a, b in PAIRS),
    'a.tmx': tmx(PAIRS), 'other order.tmx': tmx([pair[::-1] for pair in PAIRS], ('de-DE', 'EN_us'), srclang='EN_us'),
    'doctype.tmx': tmx(PAIRS, head='<?xml version="1.0"?><!DOCTYPE tmx SYSTEM "tmx14.dtd">'),
    'utf16.tmx': tmx(PAIRS, head='<?xml version="1.0" encoding="UTF-16"?>').encode('utf-16')}


@pytest.mark.parametrize('name', sorted(FORMS))
def test_every_form_of_a_table_gives_the_same_pairs(tmp_path, name, told):
    assert corpus.load([write(tmp_path, name, FORMS[name])]) == PAIRS
    assert all(line.startswith(str(tmp_path / name) + ': ') and '\n' not in line for line in told) and len(told) < 3


@pytest.mark.parametrize('name, text, chosen', [
    ('a.tsv', rows([('7', a, b) for a, b in PAIRS]), '2,3'), ('a.tsv', rows([(b, a) for a, b in PAIRS]), '2,1'),
    ('a.tsv', 'x y\tforeign\n' + rows([(b, a) for a, b in PAIRS]), 'foreign,x y'),
    ('a.csv', quoted([('no', 'A', 'B')] + [('1', a, b) for a, b in PAIRS]), 'A, B'),
    ('a.jsonl', lines_of(named(PAIRS, ('q', 'p'))), 'q,p'),
    ('a.tmx', tmx([(b, a) for a, b in PAIRS], ('de', 'en')), 'en,de'),
    ('a.jsonl', lines_of({'translation': one} for one in named([(b, a) for a, b in PAIRS], ('x', 'y'))), 'y,x')])
def test_columns_are_chosen_by_number_name_and_language(tmp_path, name, text, chosen, told):
    assert corpus.load([write(tmp_path, name, text)], columns=chosen) == PAIRS


SQUAD = {'version': '2.0', 'data': [{'title': 'x', 'paragraphs': [{'context': context, 'qas': [{

       'id': '0', 'question': question, 'answers': [{'text': answer, 'answer_start': 0}]}]}
    for context, question, answer in QA]}]}


@pytest.mark.parametrize('name, text', [
    ('a.tsv', rows(QA)), ('b.tsv', 'context\tquestion\tanswer\n' + rows(QA)),
    ('c.tsv', 'id\tanswer\tquestion\tcontext\n' + rows([('7',) + row[::-1] for row in QA])), ('a.csv', quoted(QA)),
    ('squad.json', json.dumps(SQUAD)), ('squad.json.gz', json.dumps(SQUAD, indent=2)),
    ('squad.jsonl', lines_of({'context': c, 'question': q, 'answers': {'text': [a], 'answer_start': [3]}}
                             for c, q, a in QA))])
def test_every_form_of_questions_gives_the_same_questions(tmp_path, name, text, told):
    path = write(tmp_path, name, text)
    assert corpus.load([path], 'qa') == [('%s | %s' % (question, context), answer) for context, question, answer in QA]
    assert '--format qa' in refused(corpus.load, [path]) or name == 'a.csv'


def test_a_question_of_squad_without_an_answer_is_an_empty_side(tmp_path):
    one = {'data': [{'paragraphs': [{'context': 'A\nB', 'qas': [{'question': 'Who?', 'answers': []}]}]}]}
    assert corpus.load([write(tmp_path, 'a.json', json.dumps(one))], 'qa') == [('Who? | A\nB'.replace('\n', ' '), '')]


def test_a_line_feed_or_tab_within_a_cell_is_a_space(tmp_path):
    assert corpus.load([write(tmp_path, 'a.csv', '"a\nb",c\r\n"d\te",f\n')]) == [('a b', 'c'), ('d e', 'f')]
    assert corpus.load([write(tmp_path, 'a.jsonl', lines_of(named([('a\n\tb', 'c\r\nd')])))]) == [('a b', 'c d')]


CANNOT_BE_MEANT = [
    ('ids', rows([(str(i), a, b) for i, (a, b) in enumerate(LONG)]), 'pairs',
     ['column 1 numbers the rows', '--columns 2,3']),
    ('ids of Tatoeba', rows([(str(7 * i), a, str(9 * i), b) for i, (a, b) in enumerate(LONG)]), 'pairs',
     ['--columns 2,4']),
    ('named ids', rows([('train_%d' % i, a, b) for i, (a, b) in enumerate(LONG)]), 'pairs', ['--columns 2,3']),
    ('an id in the middle', rows([(a, str(i), b) for i, (a, b) in enumerate(LONG)]), 'pairs', ['--columns 1,3']),
    ('questions', rows(QA), 'pairs', ['--format qa']),
    ('questions first', rows([(q, c, a) for c, q, a in QA]), 'pairs', ['--format qa --columns 2,1,3']),
    ('questions first', rows([(q, c, a) for c, q, a in QA]), 'qa', ['--columns 2,1,3']),
    ('other names', 'english\tgerman\tfrench\n' + rows([(a, b, b) for a, b in LONG]), 'qa', ['--columns', "'french'"]),
    ('bars', 'a b ||| c d\n', 'pairs', ['line 1: no tab', "sed 's/ ||| /\\t/'"]),
    ('JSON', '{"en": "a", "de": "b"}\n', 'pairs', ['.jsonl'])]


@pytest.mark.parametrize('what, text, form, parts', CANNOT_BE_MEANT,
                         ids=[row[0] + ' ' + row[2] for row in CANNOT_BE_MEANT])
def test_what_cannot_be_meant_is_refused_and_columns_reads_it_as_it_is(tmp_path, what, text, form, parts, told):
    path = write(tmp_path, 'a.tsv', text)
    message = refused(corpus.load, [path], form)
    assert message.startswith(path + ': ') and all(part in message for part in parts), message
    if what.startswith(('ids', 'questions')):
        chosen = ','.join('123'[:2 if form == 'pairs' else 3])
        assert len(corpus.load([path], form, columns=chosen)) == text.count('\n')


def test_a_first_row_unlike_the_others_is_warned_of_and_kept(tmp_path, told):
    path = write(tmp_path, 'a.tsv', 'my_english\tmein_deutsch\n' + rows(LONG))
    assert len(corpus.load([path])) == len(LONG) + 1
    assert [line.startswith('warning: %s: line 1' % path) for line in told] == [True]
    assert told[0].endswith('--columns my_english,mein_deutsch')
    assert corpus.load([path], columns='my_english,mein_deutsch') == LONG
    csv_like = write(tmp_path, 'b.tsv', 'a\t"he said ""no"" twice"\n' + rows(LONG))
    corpus.load([csv_like])
    assert told[-1] == 'warning: %s: line 1 is quoted as in CSV: give the file a name that ends in .csv to remove ' \
        'the quotes' % csv_like


VALID = [
    LONG, [('it', 'es'), ('no', 'nein'), ('is', 'ist')], [('it', 'el')] * 3,  # words that are codes too
    [('"Go."', '"Geh."'), ('"No."', 'Nein.'), ('"So."', 'So.')], [('1', 'one'), ('2', 'two'), ('3', 'three')],
    [('1', 'one', 'CC-BY'), ('10', 'ten', 'CC-BY'), ('2', 'two', 'CC-BY')],
    [('Who?', 'Wer?', 'CC'), ('What?', 'Was?', 'CC')] * 2,
    [('How are you?', 'Fine.', 'small talk'), ('Who is it?', 'Me.', 'small talk'), ('Why?', 'So.', 'x')],
    [('Hello', 'Hallo'), ('Yes', 'Ja')] + LONG, [('He said: "why?"" and ', 'x'), ('a', 'b')], [('a', '')] * 3,
    [('"你为什么不去？""因为我不想去。"', 'x')] * 30]


@pytest.mark.parametrize('number', range(len(VALID)))
def test_valid_text_is_neither_refused_nor_warned_of(tmp_path, number, told):
    path = write(tmp_path, 'a.tsv', rows(VALID[number]))
    assert corpus.load([path]) == [row[:2] for row in VALID[number]]
    assert told == []


REAL = [('raw', 'tatoeba.en-zh.tsv'), ('synopsis', 'train.tsv'), ('synopsis', 'val.tsv'),
        ('3am', 'train.en', 'train.zh'),
        ('3am', 'test.zh', 'test.en'), ('multi30k', 'train.de', 'train.en'),
        ('raw', 'multi30k.en.gz', 'multi30k.de.gz')]


@pytest.mark.slow
@pytest.mark.parametrize('names', REAL, ids=['-'.join(names) for names in REAL])
def test_nothing_is_noticed_in_real_text_wherever_it_begins(tmp_path, names, told):
    shared = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), '..', 'shared', 'corpora',
                          names[0])
    paths = [os.path.join(shared, name) for name in names[1:]]
    if not all(map(os.path.exists, paths)):
        pytest.skip('%s is not here' % ' '.join(paths))
    pairs = [tuple(text.replace('\t', ' ') for text in pair) for pair in corpus.load(paths)]
    orders = [pairs, sorted(pairs), sorted(pairs, key=lambda pair: len(pair[0]))]
    for order, start in itertools.product(orders, range(0, len(pairs), 997)):
        part = order[start:start + columns.HEAD]
        assert corpus.load([write(tmp_path, 'a.tsv', rows(part))]) == part
    assert told == []


BAD = [
    ('a.csv', 'a,"b\nc,d\n', ['line 1', 'not CSV', 'close each quote']),
    ('a.csv', 'a,b\nc\n', ['line 2', 'no column 2']),
    ('a.csv', 'a,b\n"c"d,e\n', ['line 2', 'not CSV']), ('a.csv', 'a,b\nc\0,d\n', ['line 2', 'not CSV']),
    ('a.csv', '', ['empty']),
    ('a.csv', b'a,b\nc\xff,d\n', ['line 2, byte 2: 0xFF']), ('a.csv', 'a b\n', ['line 1: has no column 2']),
    ('a.jsonl', '{"en": "a", "de": "b"}\n{"en": "a"}\n', ["line 2: has no field 'de'"]), ('a.jsonl', '', ['empty']),
    ('a.jsonl', '{"en": "a", "de": "b"}\n[1]\n', ['line 2: is not a JSON object']),
    ('a.jsonl', '{"en": "a"\n', ['line 1', 'JSON']),
    ('a.jsonl', '{"en": "a", "de": 3}\n', ["field 'de' is no text"]),
    ('a.jsonl', '[' * 99999, ['line 1: not valid JSON']),
    ('a.jsonl', '{"a": "x", "b": "y", "c": "z"}\n', ["'a', 'b', 'c'", '--columns source,target']),
    ('a.jsonl', '{"en": "\\ud800", "de": "b"}\n', ['surrogate', 'replace']),
    ('a.jsonl', b'{"en": "\xff"}\n', ['line 1, byte 9']),
    ('a.jsonl', '{"en": "a", "en": "b"}\n', ["'en' occurs twice"]),
    ('a.jsonl', '{"translation": {}}\n', ['has the fields']),
    ('a.json', '3\n', ['neither a list']), ('a.json', '{"data": 3}\n3', ['has the fields']),
    ('a.json', '[3]', ['record 1: is not a JSON']),
    ('a.json', '{"data": [{"paragraphs": 3}]}', ['is not SQuAD']), ('a.json', '{"a": [\n', ['not valid JSON']),
    ('a.json', '{"data": [{"paragraphs": [{"context": "x", "qas": [{"question": "y"}]}]}]}', ['is not SQuAD']),
    ('a.json', b'[{"en": "\xff"}]', ['byte 10: 0xFF']), ('a.json', '[]', ['empty']), ('a.tmx', '', ['not valid XML']),
    ('a.tmx', 'a\tb\n', ['not valid XML']), ('a.tmx', tmx(PAIRS)[:-9], ['not valid XML']),
    ('a.tmx', tmx([]), ['no unit']),
    ('a.tmx', tmx([('a',)]), ['no unit in two languages']),
    ('a.tmx', tmx(PAIRS, ('', 'de')), ['line 3: a <tuv> without']),
    ('a.tmx', tmx([('a', 'b', 'c')], ('en', 'de', 'fr')), ["'en', 'de', 'fr'", '--columns']),
    ('a.tmx', tmx(PAIRS, head='<!DOCTYPE x [<!ENTITY a "b">]>'), ['line 1: the entity a']),
    ('a.tmx', tmx(PAIRS, head='<!DOCTYPE x [<!ENTITY a SYSTEM "/etc/passwd">]>'), ['the entity a']),
    ('a.tmx', tmx([('a', 'b')], head='<!DOCTYPE tmx SYSTEM "x.dtd">').replace('>a<', '>&nbsp;<'), ['the entity nbsp']),
    ('a.tmx', b'<?xml version="1.0" encoding="nonsense"?><tmx/>', ['not valid XML']),
    ('a.tsv', b'PK\3\4\x14\0\0\0', ['is a zip archive: unpack it with unzip']),
    ('a.csv', b'PAR1\x15\4', ['parquet', 'to_json', 'a.jsonl']),
    ('a', bz2.compress(b'a\tb\n'), ['is bzip2 data', '.bz2']), ('a', lzma.compress(b'a\tb\n'), ['is xz data', '.xz']),
    ('a', b'\x28\xb5\x2f\xfd\0', ['zstd'])]


@pytest.mark.parametrize('name, text, parts', BAD, ids=['%d %s' % (i, row[0]) for i, row in enumerate(BAD)])
def test_a_bad_file_is_refused_in_one_line_that_names_the_place(tmp_path, name, text, parts):
    path = write(tmp_path, name, text)
    message = refused(corpus.load, [path])
    assert message.startswith(path + ': ') and all(part in message for part in parts), message


def test_an_entity_bomb_is_refused_before_it_grows(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a0 "ha">%s]>' % ''.join(
        '<!ENTITY a%d "%s">' % (i, '&a%d;' % (i - 1) * 10) for i in range(1, 12))
    assert 'the entity a0' in refused(corpus.load, [write(tmp_path, 'a.tmx', tmx([('&a11;', 'b')], head=bomb))])


def test_wrong_columns_are_refused_by_the_option(tmp_path):
    path = write(tmp_path, 'a.tsv', rows(LONG))
    for chosen, form, part in (('1', 'pairs', 'source,target'), ('0,1', 'pairs', 'from 1'), ('', 'pairs', '--columns'),
                               ('1,2', 'qa', 'context,question,answer'), ('en,de', 'pairs', "name 'en'"),
                               ('1,9', 'pairs', 'line 1: has no column 9, only 2'), ('1,2', 'babi', 'bAbI')):
        assert part in refused(corpus.load, [path], form, 'error', chosen)
    assert 'not of 2 files' in refused(corpus.load, [path, path], 'pairs', 'error', '1,2')
    assert 'give it alone' in refused(corpus.load, [path, write(tmp_path, 'a.csv', 'a,b\n')])


@pytest.mark.parametrize('ending', ['.bz2', '.xz'])
def test_packed_files_are_read_counted_and_refused_where_they_are_damaged(tmp_path, ending):
    text = ''.join('line %d\n' % (i * i) for i in range(9000))
    path = write(tmp_path, 'a' + ending, text)
    assert ''.join(line + '\n' for line in text_files.read_lines(path)) == text
    content = (tmp_path / ('a' + ending)).read_bytes()
    for damaged in (content[:len(content) // 2], content[:5], b'text\n', content[:40] + b'\xff\0' + content[42:]):
        (tmp_path / ('a' + ending)).write_bytes(damaged)
        message = refused(text_files.read_lines, path)
        assert message.startswith(path + ': ') and 'data' in message


def test_a_huge_table_is_read_row_by_row(tmp_path):
    for name, text in (('a.csv', quoted(LONG)), ('a.jsonl', lines_of(named(LONG))), ('a.tmx', tmx(LONG * 20))):
        path = write(tmp_path, name, text)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])  # its end is damaged
        assert next(corpus.read_pairs([path])) == LONG[0]


def test_the_cache_tells_the_forms_of_equal_bytes_apart(tmp_path):
    for name in ('a.tsv', 'a.csv'):
        write(tmp_path, name, 'a,b\tc\n' * 9)
    keys = []
    for name, chosen in (('a.tsv', None), ('a.csv', None), ('a.csv', '2,1')):
        paths = {'train': [str(tmp_path / name)]}
        hashes = {'train': [file_sha256(paths['train'][0])]}
        keys.append(preparation._key(settings_of(columns=chosen), paths, hashes, ()))
    assert len(set(keys)) == 3 and cache_key([]) not in keys


def test_a_folder_may_hold_its_parts_in_any_form(tmp_path):
    write(tmp_path, 'train.jsonl.xz', lines_of(named(LONG)))
    write(tmp_path, 'val.csv', quoted(PAIRS))
    assert corpus.find_corpus(str(tmp_path)) == {'train': [str(tmp_path / 'train.jsonl.xz')],
                                                 'val': [str(tmp_path / 'val.csv')]}


def test_random_damage_ends_in_pairs_or_in_one_line(tmp_path, summary, told):
    drawn, ends = random.Random(0), {'read': 0, 'refused': 0}
    for name, text in sorted(FORMS.items()):
        content = bytearray((tmp_path / os.path.basename(write(tmp_path, name, text))).read_bytes())
        for _ in range(25):
            made = bytearray(content)
            for _ in range(drawn.choice((1, 1, 3, 20))):
                made[drawn.randrange(len(made))] = drawn.choice(b'"\'<>&{}[],;:\t\n\r\0\xff\x80\\/ a7')
            made = made[:drawn.randrange(len(made))] if drawn.random() < .3 else made
            (tmp_path / name).write_bytes(bytes(made))
            for form in ('pairs', 'qa'):
                try:
                    found = corpus.load([str(tmp_path / name)], form, drawn.choice(('error', 'replace')))
                    assert all(isinstance(cell, str) and '\n' not in cell for pair in found for cell in pair)
                    ''.join(itertools.chain(*found)).encode('utf-8')
                    ends['read'] += 1
                except UserError as error:
                    assert '\n' not in str(error) and len(str(error)) < 900 + len(str(tmp_path))
                    ends['refused'] += 1
    summary('damaged tables: %d read, %d refused in one line, no other end' % (ends['read'], ends['refused']))
    assert min(ends.values()) > 100
