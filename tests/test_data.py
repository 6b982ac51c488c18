"""Text, tokenisers, vocabularies and batches: nothing lost, nothing shifted, nothing wrong taken in silence."""
import gzip
import hashlib
import os
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings, strategies as st
from text.batches import make_batch, pad, plan_batches
from text.corpus import file_sha256, find_corpus, hold_out, load_pairs, prepare, read_lines, read_vectors
from text.vocabulary import END, SPECIALS, START, UNK, Vocabulary
from command_line import UserError
from text.tokenizers import make_tokenizer

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

NAMES = ('space', 'word', 'char', 'chinese')
TOKENIZERS = {name: make_tokenizer(name) for name in NAMES}

# Plain random text seldom brings together what interacts, so half of it is drawn from a few characters of each kind
# that the tokenisers treat differently.
MIXED = ('aB_1٣ .,:;!?%/#$-‐—…\'"’‘“”„‚()[]<>▁\t\r\x0b\x85\u2028\u3000\0\u0301\u093f\u200d\ufe0f\ufeff\ufffd'
         '我𠀀豈，。：「」（！１Ａ々あ가é❤😀\u302a')
texts = st.text() | st.text(alphabet=st.sampled_from(MIXED), max_size=40)


# ---- Tokenisers

@pytest.mark.parametrize('name, text, tokens', [
    ('space', ' a  b.\tc\u2028d ', ['a', 'b.', 'c', 'd']),
    ('word', 'He said: "It\'s well-known!"', ['He', 'said', ':', '"', "It's", 'well-known', '!', '"']),
    ('word', 'l’été -- (3.50, 1,000 at 10:30).',
     ['l’été', '-', '-', '(', '3.50', ',', '1,000', 'at', '10:30', ')', '.']),
    ('word', "'tis the dogs' x-", ["'", 'tis', 'the', 'dogs', "'", 'x', '-']),
    ('word', 'a.b a:b 1.b a_b', ['a', '.', 'b', 'a', ':', 'b', '1', '.', 'b', 'a_b']),
    ('word', 'e\u0301te\u0301 हिन्दी می\u200cخواهم ❤\ufe0f!',
     ['e\u0301te\u0301', 'हिन्दी', 'می\u200cخواهم', '❤\ufe0f', '!']),
    ('word', 'a\0b\ufeffc', ['a', '\0', 'b', '\ufeff', 'c']),
    ('char', 'a b\u3000▁', ['a', '▁', 'b', '\u3000', '▁▁']),
    ('chinese', '我爱Python 3.6，OK？', ['我', '爱', 'Python', '3.6', '，', 'OK', '？']),
    ('chinese', '\U00020000\U0002a700\U00030000豈㐀々〇', list('\U00020000\U0002a700\U00030000豈㐀々〇')),
    ('chinese', 'Ａ１ AI-技术 it\'s', ['Ａ', '１', 'AI', '-', '技', '术', "it's"]),
    ('chinese', '「好」\u3000——……', ['「', '好', '」', '—', '—', '…', '…']),
])
def test_text_is_cut_into_exactly_these_tokens(name, text, tokens):
    assert TOKENIZERS[name].tokenize(text) == tokens


@pytest.mark.parametrize('name, text', [
    ('space', 'a b. c'),
    ('word', 'He said: "It\'s well-known!" (Really?) Yes; 3.50, 5%, $5... no -- and/or [x].'),
    ('word', '“Quoted,” ‘single’ and „deutsch“, ¿sí?'),
    ('word', '"Hi," he said, "no."'),
    ('word', "He 'quoted' that."),
    ('word', "the dogs' bones, 5\" long"),
    ('char', '  two  blanks ▁ and \u3000 '),
    ('chinese', '他说：“你好，Hello World！”——好……吗？（对）'),
    ('chinese', '约翰·史密斯在2018年用Python 3.6。'),
    ('chinese', '\U00030000\U0003134a豈\U00020000\U0002a6d6'),
    ('chinese', 'Only English, it\'s "fine" (here).'),
])
def test_detokenised_text_reads_as_it_was_written(name, text):
    tokenizer = TOKENIZERS[name]
    assert tokenizer.detokenize(tokenizer.tokenize(text)) == text


@pytest.mark.parametrize('tokens, text', [
    (['a', '/', '\u0301', 'x'], 'a/ \u0301 x'),  # glued, the accent would join the token before it
    (['_', '_'], '_ _'),  # glued, one word
    (['3', '.', '5'], '3. 5'),  # glued, one number
    (['a', '#', 'b'], 'a #b'),
    (["'", 'a', "'", "'", 'b'], "'a'' b"),
    ([], ''),
])
def test_blank_stays_where_gluing_would_change_the_tokens(tokens, text):
    assert TOKENIZERS['word'].detokenize(tokens) == text
    assert TOKENIZERS['word'].tokenize(text) == tokens


@pytest.mark.parametrize('name', NAMES)
@given(text=texts)
def test_tokens_survive_detokenising_of_any_text(name, text):
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer.tokenize(text)
    assert tokenizer.tokenize(tokenizer.detokenize(tokens)) == tokens
    assert all(tokens)


@pytest.mark.parametrize('name', NAMES)
@given(drawn=st.lists(texts, max_size=8), random=st.randoms())
def test_tokens_survive_detokenising_in_any_order(name, drawn, random):
    # A model puts tokens side by side that no text has side by side.
    tokenizer = TOKENIZERS[name]
    tokens = [token for text in drawn for token in tokenizer.tokenize(text)]
    random.shuffle(tokens)
    assert tokenizer.tokenize(tokenizer.detokenize(tokens)) == tokens


@pytest.mark.parametrize('name', ['space', 'word', 'chinese'])
@given(text=texts)
def test_no_character_but_blanks_is_lost(name, text):
    tokens = TOKENIZERS[name].tokenize(text)
    assert ''.join(tokens) == ''.join(text.split())
    assert TOKENIZERS[name].detokenize(tokens).replace(' ', '') == ''.join(tokens)


@given(text=texts)
def test_char_round_trip_is_exact(text):
    char = TOKENIZERS['char']
    assert char.detokenize(char.tokenize(text)) == text
    assert len(char.tokenize(text)) == len(text)


def test_every_han_character_is_a_token_of_its_own():
    blocks = [(0x3400, 0x4db6), (0x4e00, 0x9fd6), (0xf900, 0xfa6e), (0x20000, 0x2a6d7),
              (0x2b740, 0x2b81e), (0x30000, 0x3134b)]
    for first, end in blocks:
        text = ''.join(map(chr, range(first, end)))
        assert TOKENIZERS['chinese'].tokenize(text) == list(text)


def test_all_combining_marks_stay_with_their_letter():
    marks = [chr(point) for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point))[0] == 'M']
    assert len(marks) > 2000
    assert [mark for mark in marks if TOKENIZERS['word'].tokenize('a' + mark + 'b') != ['a' + mark + 'b']] == []


@pytest.mark.parametrize('unit', ['a-', 'a\u0301', '1.', '.', "''"])
def test_endless_word_is_cut_and_still_stable(unit):
    word = TOKENIZERS['word']
    tokens = word.tokenize(unit * 3000)
    assert ''.join(tokens) == unit * 3000
    assert word.tokenize(word.detokenize(tokens)) == tokens


def test_unknown_tokenizer_is_refused_with_the_known_names():
    with pytest.raises(UserError, match="unknown tokenizer 'bpe': known are space, word, char, chinese, jieba"):
        make_tokenizer('bpe')


# ---- Vocabulary

def test_vocabulary_is_ordered_by_count_then_code_point():
    vocabulary = Vocabulary.build([['b', 'a', 'c'], ['c', 'é', 'a', 'B'], ['c']], size=10)
    assert vocabulary.tokens == ['<pad>', '<unk>', '<s>', '</s>', 'c', 'a', 'B', 'b', 'é']
    assert len(vocabulary) == 9
    assert [vocabulary.index[token] for token in vocabulary.tokens] == list(range(9))


def test_vocabulary_size_leaves_out_the_specials_and_min_count_holds():
    text = [['a'] * 3 + ['b'] * 2 + ['c'] * 2 + ['d']]
    assert Vocabulary.build(text, size=3).tokens[4:] == ['a', 'b', 'c']
    assert Vocabulary.build(text, size=1).tokens[4:] == ['a']
    assert len(Vocabulary.build([map(str, range(99))], size=10)) == 14
    assert Vocabulary.build(text, size=9, min_count=2).tokens[4:] == ['a', 'b', 'c']
    with pytest.raises(UserError, match='min-count'):
        Vocabulary.build(text, size=9, min_count=4)


def test_special_token_in_the_text_becomes_unk():
    text = [['<s>', 'a', '</s>', '<pad>', '<unk>', '<s>']]
    vocabulary = Vocabulary.build(text, size=10)
    assert vocabulary.tokens == ['<pad>', '<unk>', '<s>', '</s>', 'a']
    assert vocabulary.encode(text[0] + ['new']) == [1, 4, 1, 1, 1, 1, 1]


def test_encode_and_decode():
    vocabulary = Vocabulary(list(SPECIALS) + ['a', 'b'])
    assert vocabulary.encode(['b', 'x', 'a']) == [5, UNK, 4]
    assert vocabulary.decode([START, 5, 4, END]) == ['<s>', 'b', 'a', '</s>']
    assert vocabulary.decode(np.array([5, 1], 'int32')) == ['b', '<unk>']


tokens_of_lines = st.text(alphabet=st.characters(blacklist_categories=('Cs',), blacklist_characters='\n'), min_size=1)


@given(tokens=st.lists(tokens_of_lines | st.sampled_from(['\r', 'a\r', '\u2028', '\0', '\x85', '\x0b', '\ufeff', ' ']),
                       unique=True))
def test_vocabulary_bytes_round_trip(tokens):
    tokens = list(SPECIALS) + [token for token in tokens if token not in SPECIALS]
    vocabulary = Vocabulary(tokens)
    again = Vocabulary.from_bytes(vocabulary.to_bytes(), 'v')
    assert again.tokens == tokens and again.index == vocabulary.index
    assert vocabulary.to_bytes().count(b'\n') == len(tokens)


SPECIAL_LINES = b'<pad>\n<unk>\n<s>\n</s>\n'


@pytest.mark.parametrize('content, message', [
    (b'', 'v.txt: not a whole vocabulary'),
    (SPECIAL_LINES + b'a\nb', 'v.txt: not a whole vocabulary'),
    (b'a\n' + SPECIAL_LINES, 'v.txt: not a vocabulary: the first four tokens'),
    (b'\xef\xbb\xbf' + SPECIAL_LINES, 'the first four tokens'),
    (SPECIAL_LINES.replace(b'\n', b'\r\n'), 'the first four tokens'),
    (b'<pad>\n', 'the first four tokens'),
    (SPECIAL_LINES + b'a\nb\na\n', "line 7: 'a' stands on line 5"),
    (SPECIAL_LINES + b'<s>\n', "line 5: '<s>' stands on line 3"),
    (SPECIAL_LINES + b'a\n\nb\n', 'line 6: a token is empty'),
    (SPECIAL_LINES + b'a\xff\n', "v.txt: not a vocabulary: 'utf-8' codec can't decode byte 0xff"),
    (SPECIAL_LINES + b'\xed\xa0\x80\n', 'v.txt: not a vocabulary'),
])
def test_file_that_is_no_vocabulary_is_refused(content, message):
    with pytest.raises(UserError) as caught:
        Vocabulary.from_bytes(content, 'v.txt')
    assert message in str(caught.value) and '\n' not in str(caught.value)


@settings(max_examples=200)
@given(place=st.integers(0, 40), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_vocabulary_loads_whole_or_is_refused(place, byte, cut):
    content = SPECIAL_LINES + '我\nbc\n\u2028\n'.encode('utf-8')
    place %= len(content)
    damaged = content[:place] if cut else content[:place] + bytes([byte]) + content[place + 1:]
    try:
        assert Vocabulary.from_bytes(damaged, 'v').to_bytes() == damaged
    except UserError:
        pass


def test_vocabulary_that_could_not_be_saved_is_never_made():
    with pytest.raises(ValueError, match='line feed'):
        Vocabulary(list(SPECIALS) + ['a\nb'])


# ---- Files

def write(tmpdir, name, content):
    path = str(tmpdir.join(name))
    with open(path, 'wb') as stream:
        stream.write(content)
    return path


def message_of(function, *arguments):
    with pytest.raises(UserError) as caught:
        list(function(*arguments))
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('content, lines', [
    (b'a\nb\n', ['a', 'b']),
    (b'a\nb', ['a', 'b']),
    (b'a\r\nb\r\n\r\n', ['a', 'b', '']),
    (b'a\rb\r\r\n', ['a\rb\r']),
    (b'\xef\xbb\xbfa\n\xef\xbb\xbfb\n', ['a', '\ufeffb']),
    ('a\u2028b\0c\x0bd\x85e\x0cf\x1cg\u2029h\ni\n'.encode('utf-8'), ['a\u2028b\0c\x0bd\x85e\x0cf\x1cg\u2029h', 'i']),
    (b'\n\n', ['', '']),
    (b'', []),
    (b'\xef\xbb\xbf', []),
    (b'\xef\xbb\xbf\n', ['']),
    ('我\n'.encode('utf-8'), ['我']),
])
def test_lines_end_at_line_feeds_alone(tmpdir, content, lines):
    assert list(read_lines(write(tmpdir, 'plain', content))) == lines
    assert list(read_lines(write(tmpdir, 'packed.gz', gzip.compress(content)))) == lines


@pytest.mark.parametrize('content, place, byte', [
    (b'good\nb\xe9d\n', 'line 2, byte 2', '0xE9'),
    (b'\xed\xa0\x80\n', 'line 1, byte 1', '0xED'),       # a lone surrogate
    (b'a\nbc\xe6\x88\nd\n', 'line 2, byte 3', '0xE6'),   # a character cut by the line's end
    (b'\xc0\xaf\n', 'line 1, byte 1', '0xC0'),           # an over-long form of '/'
    (b'\xff\xfea\0\n\0', 'line 1, byte 1', '0xFF'),      # UTF-16
    (b'\xef\xbb\xbfab\xff', 'line 1, byte 3', '0xFF'),
])
def test_bad_byte_is_refused_by_file_line_and_byte_or_replaced(tmpdir, content, place, byte):
    path = write(tmpdir, 'bad.txt', content)
    message = message_of(read_lines, path)
    assert message.startswith('{}: {}: {} is not valid UTF-8'.format(path, place, byte))
    assert '--on-bad-utf8 replace' in message
    replaced = list(read_lines(path, 'replace'))
    assert len(replaced) == len(content.rstrip(b'\n').split(b'\n')) and any('\ufffd' in line for line in replaced)


def test_lines_before_a_bad_one_are_delivered(tmpdir):
    lines = read_lines(write(tmpdir, 'bad.txt', b'good\n\xff\n'))
    assert next(lines) == 'good'
    with pytest.raises(UserError):
        next(lines)


def test_unknown_treatment_of_bad_bytes_is_a_mistake_in_the_code(tmpdir):
    with pytest.raises(KeyError):
        list(read_lines(write(tmpdir, 'x', b'a\n'), 'ignore'))


def test_file_that_cannot_be_read_is_refused(tmpdir):
    missing = str(tmpdir.join('missing.txt'))
    assert message_of(read_lines, missing) == missing + ': No such file or directory'
    assert message_of(read_lines, missing + '.gz') == missing + '.gz: No such file or directory'
    assert message_of(read_lines, str(tmpdir)) == str(tmpdir) + ': Is a directory'


def test_damaged_gzip_data_is_refused(tmpdir):
    packed = gzip.compress(''.join('line {}\n'.format(i * i) for i in range(20000)).encode())
    message = message_of(read_lines, write(tmpdir, 'cut.gz', packed[:len(packed) // 2]))
    assert message.startswith(str(tmpdir.join('cut.gz')) + ': gzip data cut short after line ')
    assert int(message.split('line ')[1].split(';')[0]) > 5000
    for name, content in [('end.gz', packed[:-3]), ('head.gz', packed[:5]), ('one.gz', packed[:1]),
                          ('text.gz', b'text\n'),
                          ('type.gz', packed[:10] + b'\xff' + packed[11:]),
                          ('flip.gz', packed[:3000] + bytes([packed[3000] ^ 255]) + packed[3001:]),
                          ('sum.gz', packed[:-8] + b'\0' * 8)]:
        message = message_of(read_lines, write(tmpdir, name, content))
        assert name + ': ' in message and 'gzip data' in message


def test_sha256_is_that_of_the_bytes(tmpdir):
    content = os.urandom(3 << 20)
    assert file_sha256(write(tmpdir, 'x', content)) == hashlib.sha256(content).hexdigest()
    with pytest.raises(UserError, match='Is a directory'):
        file_sha256(str(tmpdir))


# ---- Pairs

def test_pairs_from_two_files(tmpdir):
    paths = [write(tmpdir, 'a', b'a\t1\n\nb'), write(tmpdir, 'b.gz', gzip.compress(b'x\ny\nz\n'))]
    assert load_pairs(paths) == [('a\t1', 'x'), ('', 'y'), ('b', 'z')]


def test_pairs_from_a_tab_separated_file_ignore_further_columns(tmpdir):
    path = write(tmpdir, 'a.tsv', '\ufeffGo.\t走。\tCC-BY\t#1\r\n\tx\na \t b'.encode('utf-8'))
    assert load_pairs([path]) == [('Go.', '走。'), ('', 'x'), ('a ', ' b')]


def test_unequal_line_counts_are_counted_to_the_end(tmpdir):
    short, long = write(tmpdir, 's', b'a\n' * 3), write(tmpdir, 'l', b'b\n' * 5000)
    assert message_of(load_pairs, [short, long]).startswith('{} has 3 lines but {} has 5000'.format(short, long))
    assert message_of(load_pairs, [long, short]).startswith('{} has 5000 lines but {} has 3'.format(long, short))


def test_bad_byte_after_the_shorter_file_ends_is_still_found(tmpdir):
    assert 'line 3' in message_of(load_pairs, [write(tmpdir, 'a', b'a\n'), write(tmpdir, 'b', b'a\nb\n\xff\n')])
    assert 'line 2' in message_of(load_pairs, [write(tmpdir, 't', b'a\tb\n\xff\tc\n')])
    assert load_pairs([write(tmpdir, 't', b'a\tb\n\xff\tc\n')], 'replace') == [('a', 'b'), ('\ufffd', 'c')]


def test_line_without_a_tab_is_refused(tmpdir):
    for content in (b'a\tb\nc d\n', b'a\tb\n\nc\td\n'):
        path = write(tmpdir, 'a.tsv', content)
        assert message_of(load_pairs, [path]) == path + ': line 2: no tab between source and target'


def test_empty_file_is_refused(tmpdir):
    empty, full = write(tmpdir, 'empty', b''), write(tmpdir, 'full', b'a\n')
    for paths in ([empty], [empty, full], [full, empty], [empty, empty],
                  [write(tmpdir, 'empty.gz', gzip.compress(b'')), full]):
        assert message_of(load_pairs, paths).endswith('the file is empty')
        assert 'empty' in message_of(load_pairs, paths).split(':')[0]


def test_one_or_two_files_are_wanted():
    for paths in ([], ['a', 'b', 'c']):
        assert 'not {} files'.format(len(paths)) in message_of(load_pairs, paths)


def test_corpus_folder_is_found_plain_or_packed(tmpdir):
    train, val = write(tmpdir, 'train.tsv', b'a\tb\n'), write(tmpdir, 'val.tsv.gz', gzip.compress(b'a\tb\n'))
    assert find_corpus(str(tmpdir)) == {'train': [train], 'val': [val]}
    test = write(tmpdir, 'test.tsv', b'a\tb\n')
    assert find_corpus(str(tmpdir)) == {'train': [train], 'val': [val], 'test': [test]}
    write(tmpdir, 'train.tsv.gz', gzip.compress(b'a\tb\n'))
    assert message_of(find_corpus, str(tmpdir)) == '{0}: there is {0}.gz too; remove one of them'.format(train)


def test_corpus_folder_without_its_files_is_refused(tmpdir):
    assert 'train.tsv: no such file' in message_of(find_corpus, str(tmpdir.join('nowhere')))
    write(tmpdir, 'train.tsv', b'a\tb\n')
    assert 'val.tsv: no such file' in message_of(find_corpus, str(tmpdir))


# ---- Corpus

def prepared(pairs, source='word', target='chinese', most_source=3, most_target=2):
    return prepare(pairs, TOKENIZERS[source], TOKENIZERS[target], most_source, most_target, 'x.tsv')


def test_pair_with_an_empty_or_over_long_side_is_dropped_as_a_pair():
    corpus = prepared([('a b c', '我们'), ('', '我'), ('a', '\u3000 '), ('a b c d', '我'), ('a', '我们的'), ('e', 'f'),
                       ('', '我们的')])
    assert corpus.source == [['a', 'b', 'c'], ['e']]
    assert corpus.target == [['我', '们'], ['f']]
    assert corpus.lines == [1, 6]
    assert corpus.counts == {'read': 7, 'kept': 2, 'empty': 3, 'over_long': 2}
    assert len(corpus) == 2


def test_blank_side_counts_as_empty_for_characters_too():
    assert prepared([('  ', 'x'), ('a', 'b')], 'char', 'char').counts['empty'] == 1


def test_huge_line_is_dropped_without_being_tokenised():
    class Word:
        def tokenize(self, text):
            assert len(text) < 1000, 'tokenised a line that is too long anyway'
            return text.split()

    huge = [('a ' * 5000000, 'b'), ('a', 'b' * 10000000), ('a', 'b')]
    corpus = prepare(huge, Word(), Word(), 5, 5, 'x')
    assert corpus.counts == {'read': 3, 'kept': 1, 'empty': 0, 'over_long': 2} and corpus.lines == [3]


def test_nothing_kept_is_refused_with_the_counts():
    with pytest.raises(UserError) as caught:
        prepared([('a b c d', '我'), ('', 'x')])
    assert str(caught.value) == ('x.tsv: none of 2 pairs can be used: 1 have an empty side, 1 are longer than '
                                 '--max-source-length 3 or --max-target-length 2')


def test_equal_tokens_are_one_object():
    # What a million pairs in memory depends on.
    corpus = prepared([('wörd', 'wörd'), ('wörd x', 'y')])
    assert corpus.source[0][0] is corpus.source[1][0] is corpus.target[0][0]


def test_part_of_a_corpus_keeps_its_lines():
    part = prepared([('', 'x'), ('a', 'A'), ('b', 'B'), ('c', 'C')]).take([2, 0])
    assert (part.source, part.target, part.lines) == ([['c'], ['a']], [['C'], ['A']], [4, 2])
    assert part.counts == {'read': 4, 'kept': 2, 'empty': 1, 'over_long': 0}


@given(n=st.integers(2, 3000), seed=st.integers(0, 2 ** 32))
def test_held_out_part_and_rest_are_everything_once(n, seed):
    train, val = hold_out(n, seed)
    assert sorted(train + val) == list(range(n)) and train == sorted(train) and val == sorted(val)
    assert len(val) == max(1, n // 20)
    assert hold_out(n, seed) == (train, val)


def test_held_out_part_is_limited_and_seeded():
    assert len(hold_out(10 ** 6, 1)[1]) == 1000
    assert hold_out(1000, 1) != hold_out(1000, 2)
    assert hold_out(60, 1)[1] == [36, 53, 59]  # a stored run's validation text must stay what it was
    with pytest.raises(UserError, match='too little text'):
        hold_out(1, 1)


# ---- Batches

lengths = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=300)


@given(lengths=lengths, batch_size=st.integers(1, 20), seed=st.integers(-5, 2 ** 70), epoch=st.integers(0, 10 ** 6),
       shuffle=st.booleans())
def test_every_pair_is_in_exactly_one_batch(lengths, batch_size, seed, epoch, shuffle):
    source, target = [s for s, _ in lengths], [t for _, t in lengths]
    plan = plan_batches(source, target, batch_size, seed, epoch, shuffle)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    assert len(plan) == -(-len(lengths) // batch_size)
    assert sum(len(batch) < batch_size for batch in plan) <= 1 and all(len(batch) <= batch_size for batch in plan)
    assert plan == plan_batches(source, target, batch_size, seed, epoch, shuffle)
    assert all(type(i) is int for batch in plan for i in batch)


def some_lengths(n):
    random = np.random.RandomState(0)
    source = random.randint(1, 40, n)
    return source, np.maximum(1, source + random.randint(-5, 6, n))


def test_plan_changes_with_seed_and_epoch_and_mixes_neighbours():
    source, target = some_lengths(2000)
    plans = [plan_batches(source, target, 8, seed, epoch) for seed, epoch in
             [(1, 0), (1, 1), (2, 0), (2 ** 32 + 1, 0), (0, 1)]]
    members = [set(map(frozenset, plan)) for plan in plans]
    for i in range(len(plans)):
        for j in range(i):
            assert len(members[i] & members[j]) < 5  # other batches, not the same ones in another order


def test_plan_is_the_one_that_a_stopped_run_began():
    plan = plan_batches([3, 1, 2, 3, 1, 2, 9], [1, 2, 3, 1, 1, 3, 9], 2, seed=5, epoch=2)
    assert plan == [[6], [3, 0], [4, 1], [5, 2]]
    assert plan_batches([1] * 6, [1] * 6, 2, seed=2 ** 40 + 5, epoch=0) == [[0, 2], [3, 4], [5, 1]]


def test_batches_are_of_similar_length_in_shuffled_order():
    source, target = some_lengths(20000)
    plan = plan_batches(source, target, 32, 1, 0)
    for lengths, most in ((source, 0.03), (target, 0.16)):  # in random order 0.9
        padded = sum(lengths[batch].max() * len(batch) for batch in plan)
        assert padded < (1 + most) * lengths.sum()
    firsts = np.array([source[batch[0]] for batch in plan])
    assert abs(np.corrcoef(firsts[1:], firsts[:-1])[0, 1]) < 0.15


def test_plan_without_shuffling_is_sorted_and_stable():
    assert plan_batches([3, 1, 2, 1, 2], [1, 5, 2, 4, 2], 2, 1, 0, shuffle=False) == [[3, 1], [2, 4], [0]]
    source, target = some_lengths(5000)
    order = sum(plan_batches(source, target, 7, 1, 0, shuffle=False), [])
    assert order == sorted(range(5000), key=lambda i: (source[i], target[i], i))


def test_plan_of_unequal_lists_or_empty_batches_is_a_mistake_in_the_code():
    with pytest.raises(ValueError, match='2 sources, 1 targets'):
        plan_batches([1, 2], [1], 2, 1, 0)
    with pytest.raises(ValueError, match='batch size 0'):
        plan_batches([1], [1], 0, 1, 0)


def test_padding_stands_at_the_end():
    batch = pad([[5, 6], [], [7]])
    assert batch.dtype == np.int32 and batch.tolist() == [[5, 6], [0, 0], [7, 0]]
    assert pad([]).shape == (0, 0) and pad([[], []]).shape == (2, 0)


def test_decoder_input_begins_with_start_and_output_ends_with_end():
    source, decoder_input, decoder_output = make_batch([[4], [5, 6, 7], [8, 9]], [[14, 15], [16], [17]], [2, 0])
    assert source.tolist() == [[8, 9], [4, 0]]
    assert decoder_input.tolist() == [[2, 17, 0], [2, 14, 15]]
    assert decoder_output.tolist() == [[17, 3, 0], [14, 15, 3]]
    assert {source.dtype, decoder_input.dtype, decoder_output.dtype} == {np.dtype('int32')}


def test_data_needs_neither_tensorflow_nor_a_utf8_locale(tmpdir):
    path = write(tmpdir, 'a.tsv', '我\tü\n'.encode('utf-8'))
    code = ('import sys; from text import corpus as data\n'
            'assert data.load_pairs(sys.argv[1:]) == [(chr(0x6211), chr(0xfc))]\n'
            'assert not {"tensorflow", "keras"} & set(sys.modules)\n')
    subprocess.check_call([sys.executable, '-c', code, path], cwd=ROOT, env=dict(os.environ, LC_ALL='C'))


# ---- Pretrained vectors

VOCABULARY = Vocabulary(['<pad>', '<unk>', '<s>', '</s>', 'cat', 'New York', '3', '猫'])


@pytest.mark.parametrize('text', ['5 2\ncat 1 -2\n<unk> 7 7\ndog 3 4\n猫 .5 1e1\nNew York 0 1\n',  # word2vec
                                  'cat 1 -2\n<unk> 7 7\ndog 3 4\n猫 .5 1e1 \r\nNew York 0 1'])      # GloVe
def test_vectors_of_both_formats_go_to_the_rows_of_their_tokens_and_never_to_a_special(tmp_path, text):
    path = tmp_path / 'vectors.txt'
    path.write_bytes(text.encode('utf-8'))
    ids, rows = read_vectors(str(path), VOCABULARY, 2)
    assert ids == [4, 7, 5] and rows.dtype == np.float32
    assert rows.tolist() == [[1, -2], [.5, 10], [0, 1]]


def test_a_glove_file_that_begins_with_a_number_loses_no_line(tmp_path):
    path = tmp_path / 'vectors.txt'
    path.write_bytes(b'3 1 2\ncat 3 4\n')
    ids, rows = read_vectors(str(path), VOCABULARY, 2)
    assert ids == [6, 4] and rows.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize('text, parts', [('4 3\ncat 1 2 3\n', ('numbers, not 2', '--embedding 3')),
                                         ('cat 1 2\ndog 1\n', ('line 2', '--embedding')),
                                         ('cat 1 2\ndog 1 two\n', ('line 2',)),
                                         ('cat 1 nan\n', ('line 1',)),
                                         ('cat 1 1e99\n', ('line 1',))])
def test_vectors_that_do_not_fit_are_refused_with_their_line(tmp_path, text, parts):
    path = tmp_path / 'vectors.txt'
    path.write_bytes(text.encode('utf-8'))
    with pytest.raises(UserError) as refused:
        read_vectors(str(path), VOCABULARY, 2)
    for part in ('vectors.txt',) + parts:
        assert part in str(refused.value)
