import csv
import math
import os
import random
import re
import subprocess
import sys

import numpy as np
import pytest

from reports import metrics
from command_line import UserError

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Empty lines on either side, blanks at the ends, entities, a tokenised full stop, hyphens, digits, other scripts.
HYPOTHESES = ['a man in a blue shirt is standing on a ladder .', '', 'Two dogs play .  ',
              'It costs 3,50 &quot;euros&quot;', '我喜欢这本书。', 'well-known words -',
              'die größe der häuser ist groß', '他昨天在北京买了3个苹果 (good)', 'x',
              'nothing here agrees']
REFERENCES = ['a man in a blue shirt stands on a ladder .', 'an empty answer', 'Two dogs are playing .',
              'It costs "3,50 euros"', '我很喜欢这本书!', 'well-known words -',
              'die große Größe der Häuser', '昨天他在北京买了三个苹果 (good)', '', 'x']


def write_lines(path, lines):
    with open(str(path), 'w', encoding='utf-8', newline='\n') as stream:
        stream.write(''.join(line + '\n' for line in lines))
    return str(path)


def sacrebleu_command(folder, hypotheses, references, *options):
    """What sacreBLEU's own command prints: a list of (signature, score)."""
    output = subprocess.check_output(
        [sys.executable, '-m', 'sacrebleu', write_lines(folder / 'reference', references),
         '-i', write_lines(folder / 'hypothesis', hypotheses), '--width', '12', '--quiet'] + list(options))
    return [(signature, float(rest.split()[0])) for signature, rest in
            (line.split(' = ', 1) for line in output.decode('utf-8').splitlines())]


def test_importing_metrics_loads_neither_the_scoring_libraries_nor_tensorflow():
    code = ('import sys; from reports import metrics; '
            'print([m for m in ("tensorflow", "keras", "sacrebleu", "rouge_score", "nltk") if m in sys.modules])')
    assert subprocess.check_output([sys.executable, '-c', code], cwd=CHECKOUT).strip() == b'[]'


# sacreBLEU

@pytest.mark.parametrize('tokenize', metrics.BLEU_TOKENIZERS)
def test_bleu_and_its_signature_are_those_of_the_sacrebleu_command(tmp_path, tokenize):
    (signature, expected), = sacrebleu_command(tmp_path, HYPOTHESES, REFERENCES, '--tokenize', tokenize)
    score = metrics.bleu(HYPOTHESES, REFERENCES, tokenize)
    assert score.score == pytest.approx(expected, abs=1e-11) and expected > 1
    assert score.signature == signature == 'BLEU+case.mixed+numrefs.1+smooth.exp+tok.{}+version.1.5.1'.format(tokenize)


def test_chrf_and_ter_and_their_signatures_are_those_of_the_sacrebleu_command(tmp_path):
    chrf, ter = sacrebleu_command(tmp_path, HYPOTHESES, REFERENCES, '--metrics', 'chrf', 'ter')
    for (signature, expected), score in ((chrf, metrics.chrf(HYPOTHESES, REFERENCES)),
                                         (ter, metrics.ter(HYPOTHESES, REFERENCES))):
        assert score.score == pytest.approx(expected, abs=1e-11) and 0.1 < expected < 1.5
        assert score.signature == signature
        assert signature.endswith('version.1.5.1')


def test_bleu_by_hand_with_and_without_brevity_penalty():
    # 1- to 4-gram precisions 4/5, 3/4, 2/3, 1/2.
    assert metrics.bleu(['a b c d e'], ['a b c d f'], 'none').score == pytest.approx(100 * 0.2 ** 0.25, abs=1e-10)
    # Over two lines counts are added before dividing: 8/9, 6/7, 4/5, 2/3; hypothesis 9 tokens, reference 11.
    expected = 100 * (8 / 9 * 6 / 7 * 4 / 5 * 2 / 3) ** 0.25 * math.exp(1 - 11 / 9)
    assert metrics.bleu(['a b c d e', 'p q r s'], ['a b c d f', 'p q r s t u'], 'none').score == pytest.approx(expected)
    # 3/4, 2/3, 1/2, and for no 4-gram half of one (smoothing `exp`).
    assert metrics.bleu(['a b c x'], ['a b c y'], 'none').score == pytest.approx(100 * 0.125 ** 0.25)
    assert metrics.bleu(['a b c d e'], ['a b c d e'], '13a').score == pytest.approx(100, abs=1e-10)


def test_chrf_and_ter_by_hand():
    # abc / abd: n-grams of 1, 2 and 3 characters, precision = recall = 2/3, 1/2, 0.
    assert metrics.chrf(['abc'], ['abd']).score == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert metrics.ter(['b c d a'], ['a b c d']).score == pytest.approx(1 / 4)  # one shift
    assert metrics.ter(['a x c d', 'a'], ['a b c', 'a b c']).score == pytest.approx((2 + 2) / 6)
    assert metrics.ter(['我爱你'], ['我爱他']).score == 1
    asian = metrics.ter(['我爱你'], ['我爱他'], asian=True)
    assert asian.score == pytest.approx(1 / 3)
    assert asian.signature == 'TER+tok.tercom-norm-punct-asian-uncased+version.1.5.1'


@pytest.mark.parametrize('score', [lambda h, r: metrics.bleu(h, r, '13a').score,
                                   lambda h, r: metrics.chrf(h, r).score, lambda h, r: metrics.ter(h, r).score,
                                   lambda h, r: metrics.rouge(h, r)['rougeL'], metrics.exact_match,
                                   metrics.squad_exact_match, metrics.token_f1])
def test_unequal_or_no_lines_are_refused_with_both_counts(score):
    with pytest.raises(UserError, match='^2 hypotheses against 3 references'):
        score(['a', 'b'], ['a', 'b', 'c'])
    with pytest.raises(UserError, match='no line to score'):
        score([], [])


def test_an_unknown_tokenisation_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="'13b'.*none, 13a, intl, zh, char"):
        metrics.bleu(['a'], ['a'], '13b')


# ROUGE

def lcs_f1(hypothesis, reference):
    """F1 of the longest common subsequence, by trying subsequences: nothing shared with rouge-score's table."""
    def longest(i, j, known={}):
        key = tuple(hypothesis[i:]), tuple(reference[j:])
        if not key[0] or not key[1]:
            return 0
        if key not in known:
            known[key] = (1 + longest(i + 1, j + 1) if hypothesis[i] == reference[j]
                          else max(longest(i + 1, j), longest(i, j + 1)))
        return known[key]
    common = longest(0, 0)
    return 2 * common / (len(hypothesis) + len(reference))


def ngram_f1(hypothesis, reference, n):
    grams = [[tuple(side[k:k + n]) for k in range(len(side) - n + 1)] for side in (hypothesis, reference)]
    shared = sum(min(grams[0].count(gram), grams[1].count(gram)) for gram in set(grams[0]))
    return 2 * shared / (len(grams[0]) + len(grams[1]))


def test_rouge_on_english_is_that_of_rouge_scores_own_command(tmp_path):
    hypotheses = ["The Mayor's office burned down, again!", 'nothing', '', 'snake_case and well-known zq zqx words',
                  'police find 3 men in 2 trucks']
    references = ["Again the mayor's old office burned.", 'something', 'empty', 'zq zqx words, well known: snake case',
                  'police found 3 men in two truck']
    command = [sys.executable, '-m', 'rouge_score.rouge', '--aggregate=false',
               '--target_filepattern', write_lines(tmp_path / 'target', references),
               '--prediction_filepattern', write_lines(tmp_path / 'prediction', hypotheses),
               '--output_filename', str(tmp_path / 'scores.csv')]
    subprocess.check_output(command, stderr=subprocess.STDOUT)
    with open(str(tmp_path / 'scores.csv'), encoding='utf-8') as stream:
        rows = list(csv.DictReader(stream))
    scores = metrics.rouge(hypotheses, references)
    assert sorted(scores) == ['rouge1', 'rouge2', 'rougeL'] and len(rows) == 5
    for name, score in scores.items():
        expected = sum(float(row[name + '-F']) for row in rows) / len(rows)
        assert score == pytest.approx(expected, abs=1e-6) and 0.2 < score < 0.7


def test_rouge_on_chinese_treats_characters_as_words():
    pairs = [('他昨天在北京买了书', '昨天他在北京买书了'), ('我喜欢苹果', '你喜欢红苹果'), ('猫', '狗')]
    scores = metrics.rouge([h + '。' for h, _ in pairs], [',' + r for _, r in pairs])
    assert scores['rouge1'] == pytest.approx(np.mean([ngram_f1(h, r, 1) for h, r in pairs]))
    assert scores['rouge2'] == pytest.approx(np.mean([ngram_f1(h, r, 2) for h, r in pairs[:2]] + [0]))
    assert scores['rougeL'] == pytest.approx(np.mean([lcs_f1(h, r) for h, r in pairs]))
    assert scores['rouge1'] > scores['rougeL'] > 0.4


def test_rouge_keeps_letters_beyond_ascii_within_their_words():
    # größe is one word: rouge-score alone reads gr and e, and would call größe and gräße half equal.
    assert metrics.rouge(['Größe der Häuser'], ['größe DER hauser'])['rouge1'] == pytest.approx(2 / 3)
    assert metrics.rouge(['gräße'], ['größe'])['rouge1'] == 0
    assert metrics.rouge(['Москва 3D打印'], ['москва 3d 打 印'])['rouge2'] == 1
    assert metrics.rouge(['u\u0308ber'], ['\u00fcber'])['rouge1'] == 1
    # A Hindi vowel sign is a mark, not a letter; it must not cut its word.
    assert len(metrics.rouge_text('हिन्दी भाषा').split()) == 2


def test_different_words_have_different_encodings_for_rouge_and_ascii_words_are_unchanged():
    assert metrics.rouge_text("Don't stop: 2 x_y") == 'don t stop 2 x y'
    characters = ['a', 'z', 'zq', 'zqa', 'ä', 'ö', 'é', '中', '国', '\U00020000', '1', '10', 'ä1', '1ä', 'ää', '々', 'あ',
                  'aß', '\u61df']  # the last two: a is 61 and ß is df
    spelt = [metrics.rouge_text(word) for word in characters]
    # The spelling of a word, met as a word, has to come out as yet another one.
    spelt += [metrics.rouge_text(word) for word in spelt if word not in characters]
    assert len(set(spelt)) == len(spelt)
    assert all(re.match('[a-z0-9]+$', word) for word in spelt)
    assert metrics.rouge_text('中国').split() == [metrics.rouge_text('中'), metrics.rouge_text('国')]


# Answers and perplexity

def test_exact_match_ignores_spaces_at_the_ends_only():
    assert metrics.exact_match(['a b ', '\tc', 'A', 'a  b', ''], ['a b', 'c', 'a', 'a b', '']) == 3 / 5


def test_squad_exact_match_ignores_case_punctuation_articles_and_spaces():
    hypotheses = ['The  Eiffel tower.', 'an apple', 'theatre', 'U.S.A.', 'the', 'kitchen']
    references = ['eiffel Tower', 'the apple!', 'atre', 'usa', 'a', 'garden']
    assert metrics.squad_exact_match(hypotheses, references) == 4 / 6
    assert metrics.squad_words('A cat, the "cat" and another_1') == ['cat', 'cat', 'and', 'another1']


def test_token_f1_by_hand():
    # cat cat dog / cat dog dog bird: cat and dog once each, so 2 * 2 / (3 + 4).
    assert metrics.token_f1(['the cat, cat dog'], ['cat dog a dog bird']) == pytest.approx(4 / 7)
    assert metrics.token_f1(['cat cat dog'], ['cat cat bird fish']) == pytest.approx(2 * 2 / (3 + 4))
    assert metrics.token_f1(['x'], ['y']) == 0
    assert metrics.token_f1(['the', 'the', 'x'], ['a', 'x', 'the']) == pytest.approx(1 / 3)


def test_perplexity_is_per_token_in_nats():
    assert metrics.perplexity(12 * math.log(7), 12) == pytest.approx(7)
    assert metrics.perplexity(1e6, 1) == math.inf
    with pytest.raises(ValueError):
        metrics.perplexity(0.0, 0)


# Resampling

def test_statistics_of_chosen_lines_score_as_those_lines_written_out():
    indices = np.array([0, 0, 2, 3, 6, 6, 7, 4])
    hypotheses, references = [[side[k] for k in indices] for side in (HYPOTHESES, REFERENCES)]
    assert metrics.bleu_lines(HYPOTHESES, REFERENCES, 'zh')(indices) == metrics.bleu(hypotheses, references, 'zh').score
    assert metrics.chrf_lines(HYPOTHESES, REFERENCES)(indices) == metrics.chrf(hypotheses, references).score
    assert metrics.ter_lines(HYPOTHESES, REFERENCES)(indices) == metrics.ter(hypotheses, references).score
    for name, lines in metrics.rouge_lines(HYPOTHESES, REFERENCES).items():
        assert lines(indices) == pytest.approx(metrics.rouge(hypotheses, references)[name])
    for lines, score in ((metrics.exact_match_lines, metrics.exact_match), (metrics.token_f1_lines, metrics.token_f1),
                         (metrics.squad_exact_match_lines, metrics.squad_exact_match)):
        assert lines(HYPOTHESES, REFERENCES)(indices) == pytest.approx(score(hypotheses, references))
    tokens = metrics.LineStatistics([[1.0, 1], [9.0, 4]], lambda sums: metrics.perplexity(*sums))
    assert tokens() == pytest.approx(math.exp(2)) and tokens([0, 0]) == pytest.approx(math.e) and len(tokens) == 2


def test_bootstrap_of_a_mean_gives_the_normal_interval():
    right = np.arange(1000) % 5 == 0
    low, high = metrics.bootstrap(metrics.LineStatistics(right), len(right), seed=3)
    error = math.sqrt(0.2 * 0.8 / 1000)
    assert low == pytest.approx(0.2 - 1.96 * error, abs=0.003)
    assert high == pytest.approx(0.2 + 1.96 * error, abs=0.003)
    narrow = metrics.bootstrap(metrics.LineStatistics(right), len(right), seed=3, confidence=0.5)
    assert narrow[0] == pytest.approx(0.2 - 0.674 * error, abs=0.003)


def test_bootstrap_repeats_with_its_seed_and_changes_with_another():
    lines = metrics.LineStatistics(np.arange(50.))
    assert metrics.bootstrap(lines, 50, 100, seed=1) == metrics.bootstrap(lines, 50, 100, seed=1)
    assert metrics.bootstrap(lines, 50, 100, seed=1) != metrics.bootstrap(lines, 50, 100, seed=2)


def test_paired_bootstrap_of_a_mean_gives_the_two_sided_normal_p_value():
    # The pairs differ by d on average, far less than the lines do among themselves: only pairing sees it.
    rng = np.random.RandomState(0)
    level, change = rng.normal(size=400) * 10, rng.normal(size=400)
    change += 0.1 - change.mean()
    a, b = metrics.LineStatistics(level), metrics.LineStatistics(level + change)
    z = 0.1 / (change.std() / math.sqrt(400))
    expected = math.erfc(z / math.sqrt(2))
    p = metrics.paired_bootstrap(a, b, 400, samples=4000)
    assert p == pytest.approx(expected, abs=0.015) and 0.02 < expected < 0.08
    assert metrics.paired_bootstrap(b, a, 400, samples=4000) == pytest.approx(p, abs=1e-3)


def test_paired_bootstrap_never_calls_equal_outputs_different_or_reports_zero():
    lines = metrics.bleu_lines(HYPOTHESES, REFERENCES, '13a')
    assert metrics.paired_bootstrap(lines, lines, len(lines), 100) == 1
    wrong, right = metrics.LineStatistics(np.zeros(50)), metrics.LineStatistics(np.ones(50) - (np.arange(50) == 0))
    assert metrics.paired_bootstrap(wrong, right, 50, 99) == 1 / 100
    # One line of fifty is no evidence.
    assert metrics.paired_bootstrap(wrong, metrics.LineStatistics(np.arange(50) == 0), 50, 1000) > 0.2


def test_a_thousand_resamples_of_bleu_over_a_thousand_lines_enclose_it():
    rng = random.Random(5)
    references = [' '.join(rng.choice('abcdefgh') for _ in range(12)) for _ in range(1000)]
    hypotheses = [line.replace(rng.choice('abcdefgh'), 'x') for line in references]
    lines = metrics.bleu_lines(hypotheses, references, '13a')
    low, high = metrics.bootstrap(lines, 1000)
    assert low < lines() < high and high - low < 4


def test_length_bands_hold_every_sentence_once():
    bands = metrics.length_bands([1, 10, 11, 20, 25, 31, 400, 0], [10, 20, 30, 35])
    assert [(label, indices.tolist()) for label, indices in bands] == [
        ('up to 10', [0, 1, 7]), ('11-20', [2, 3]), ('21-30', [4]), ('31-35', [5]), ('over 35', [6])]
    assert [band.indices.tolist() for band in metrics.length_bands([3], [5, 6])] == [[0], [], []]
    for edges in ([], [0, 3], [5, 5], [9, 3]):
        with pytest.raises(UserError, match='ascending'):
            metrics.length_bands([1], edges)


@pytest.mark.parametrize('tokenizer, references, expected', [
    ('chinese', (), 'zh'), ('jieba', ['a'], 'zh'), ('word', ['这是书', 'a'], 'zh'), (None, ['这是书。'], 'zh'),
    ('space', ['a book'], 'none'), ('char', ['a'], 'char'), ('word', ['a 书'], '13a'), (None, ['a'], '13a'),
    ('bpe', [], '13a')])
def test_bleu_tokenizer_follows_the_targets(tokenizer, references, expected):
    assert metrics.bleu_tokenizer(tokenizer, references) == expected
