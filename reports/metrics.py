"""Scores of hypotheses against references.

sacreBLEU computes BLEU, chrF and TER; rouge-score computes ROUGE. Both are imported when first used, as rouge-score
imports nltk. Every function takes two lists of equal length, one line of text each. `NAME_lines` returns the metric
`NAME` as `LineStatistics`, which `bootstrap` and `paired_bootstrap` resample. No TensorFlow.
"""
import argparse
import collections
import math
import re
import string
import unicodedata

from command_line import UserError

import numpy as np

BLEU_TOKENIZERS = ('none', '13a', 'intl', 'zh', 'char')
# The metrics that fit a task, in the order in which they are shown.
TASK_METRICS = {
    'translate': ('exact match', 'BLEU', 'chrF', 'TER'),
    'summarise': ('exact match', 'ROUGE-1', 'ROUGE-2', 'ROUGE-L'),
    'answer': ('exact match', 'SQuAD exact match', 'token F1')}
ROUGE_TYPES = ('rouge1', 'rouge2', 'rougeL')

Score = collections.namedtuple('Score', 'score signature')
Band = collections.namedtuple('Band', 'label indices')


def bleu_tokenizer(tokenizer, references=()):
    """The BLEU tokeniser for targets of a run.

    # Arguments
        tokenizer: name of the run's target tokeniser, `None` for outputs without a run.
        references: target texts; if most of their letters are Chinese, 'zh' is chosen.
    """
    if tokenizer in ('chinese', 'jieba'):
        return 'zh'
    letters = [character for text in references for character in text if character.isalpha()]
    if 2 * sum('\u4e00' <= character <= '\u9fff' for character in letters) > len(letters):
        return 'zh'
    return {'char': 'char', 'space': 'none'}.get(tokenizer, '13a')


class LineStatistics(object):
    """A metric of any selection of lines, computed from the sums of their counts. Each line is counted once.

    # Arguments
        statistics: (N, k) numbers, one row for each line; (N,) means one column.
        from_sums: function from the k column sums (a list) to the score; by default the mean of the only column.
        signature: how the library computed the score, if it says so.

    Call it with line indices for the score of those lines (a repeated line counts again), or without for all lines.
    """

    def __init__(self, statistics, from_sums=None, signature=None):
        statistics = np.asarray(statistics)
        self.statistics = statistics.reshape(len(statistics), -1)
        self.from_sums = from_sums
        self.signature = signature

    def __len__(self):
        return len(self.statistics)

    def __call__(self, indices=None):
        rows = self.statistics if indices is None else self.statistics[indices]
        sums = rows.sum(axis=0).tolist()
        return self.from_sums(sums) if self.from_sums else sums[0] / len(rows)


def _check(hypotheses, references):
    if len(hypotheses) != len(references):
        raise UserError('%d hypotheses against %d references: give one hypothesis a line for every reference'
                        % (len(hypotheses), len(references)))
    if not len(references):
        raise UserError('no line to score: hypotheses and references are empty')


# sacreBLEU ----------------------------------------------------------------------------------------------------------

def _sacrebleu(name, **options):
    from sacrebleu.metrics import METRICS
    # The defaults of sacreBLEU's command. `force` changes no score; it silences a hint about that command.
    arguments = dict(smooth_method='exp', smooth_value=None, force=True, lc=False, tokenize='13a', short=False,
                     num_refs=1, chrf_order=6, chrf_beta=2, chrf_whitespace=False)
    arguments.update(options)
    return METRICS[name](argparse.Namespace(**arguments))


def _sacrebleu_lines(metric, hypotheses, references, count, from_counts):
    _check(hypotheses, references)
    # The library refuses an empty reference; its command does not, because a line of a file ends with a line feed.
    rows = [count(hypothesis, reference + '\n') for hypothesis, reference in zip(hypotheses, references)]
    signature = '%s+%s' % (from_counts(rows[0]).prefix, metric.signature)
    return LineStatistics(rows, lambda sums: from_counts(sums).score, signature)


def bleu_lines(hypotheses, references, tokenize):
    """`bleu` as `LineStatistics`: matches and totals of 1- to 4-grams, lengths of hypothesis and reference."""
    if tokenize not in BLEU_TOKENIZERS:
        raise UserError('unknown BLEU tokenisation %r: choose one of %s' % (tokenize, ', '.join(BLEU_TOKENIZERS)))
    metric = _sacrebleu('bleu', tokenize=tokenize)

    def count(hypothesis, reference):
        score = metric.corpus_score([hypothesis], [[reference]])
        return score.counts + score.totals + [score.sys_len, score.ref_len]
    return _sacrebleu_lines(metric, hypotheses, references, count, lambda sums: metric.compute_bleu(
        sums[:4], sums[4:8], sums[8], sums[9], smooth_method='exp'))


def bleu(hypotheses, references, tokenize):
    """Corpus BLEU (Papineni et al. 2002), as `sacrebleu REFERENCES -i HYPOTHESES --tokenize TOKENIZE` computes it.

    # Arguments
        tokenize: `none` for tokenised text, `zh` for Chinese, `13a` or `intl` for others, `char` for characters.

    # Returns
        `Score`: BLEU from 0 to 100, and the signature that the command prints.
    """
    lines = bleu_lines(hypotheses, references, tokenize)
    return Score(lines(), lines.signature)


def chrf_lines(hypotheses, references):
    """`chrf` as `LineStatistics`: numbers of character n-grams (n = 1 to 6) in hypothesis, reference and both."""
    metric = _sacrebleu('chrf')
    return _sacrebleu_lines(
        metric, hypotheses, references,
        lambda hypothesis, reference: metric.get_sentence_statistics(hypothesis, [reference]),
        lambda sums: metric.compute_chrf(sums, metric.order, metric.beta))


def chrf(hypotheses, references):
    """Corpus chrF2 (Popović 2015), as `sacrebleu -m chrf` computes it.

    # Returns
        `Score`: from 0 to 1 in this version of sacreBLEU, and the signature.
    """
    lines = chrf_lines(hypotheses, references)
    return Score(lines(), lines.signature)


def ter_lines(hypotheses, references, asian=False):
    """`ter` as `LineStatistics`: edits and reference words."""
    from sacrebleu.metrics import TERScore
    metric = _sacrebleu('ter', normalized=asian, asian_support=asian)

    def count(hypothesis, reference):
        score = metric.corpus_score([hypothesis], [[reference]])
        return [score.num_edits, score.ref_length]
    return _sacrebleu_lines(metric, hypotheses, references, count, lambda sums: TERScore(*sums))


def ter(hypotheses, references, asian=False):
    """Corpus translation edit rate (Snover et al. 2006), as `sacrebleu -m ter` computes it: edits per reference word.

    # Arguments
        asian: count each Chinese character as a word (Tercom `normalized`, `asian_support`). The command lacks this
            option and counts a Chinese line without spaces as one word. The signature shows which was used.

    # Returns
        `Score`: from 0 (equal texts); lower is better.
    """
    lines = ter_lines(hypotheses, references, asian)
    return Score(lines(), lines.signature)


# ROUGE --------------------------------------------------------------------------------------------------------------

# Han (with its iteration mark and zero) and kana are written without spaces: each character counts as a word.
_CHARACTER_SCRIPTS = re.compile('[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff'
                                '\U00020000-\U0003ffff]')
_ASCII_WORD = re.compile('[a-z0-9]+$')
_ESCAPE = 'zq'
_HEX_AS_LETTERS = str.maketrans('0123456789', 'ghijklmnop')


def _rouge_words(text):
    words, word = [], ''
    for character in unicodedata.normalize('NFC', text.lower()):
        if _CHARACTER_SCRIPTS.match(character):
            words += [word, character]
            word = ''
        elif character.isalnum() or word and unicodedata.category(character)[0] == 'M':
            word += character
        else:
            words.append(word)
            word = ''
    return [word for word in words + [word] if word]


def rouge_text(text):
    """Encodes every word of `text` in ASCII, because rouge-score ignores all but ASCII letters and digits.

    Case and punctuation are dropped, as in rouge-score. An ASCII word is kept. Any other word (`größe`), and each Han
    or kana character, is replaced by ASCII letters that encode its code points. Different words have different
    encodings (an ASCII word that begins like an encoding is encoded too), and ROUGE without stemming only compares
    words for equality. So ASCII text scores as in rouge-score, and other text as if rouge-score knew its letters.
    """
    return ' '.join(
        word if _ASCII_WORD.match(word) and not word.startswith(_ESCAPE)
        else _ESCAPE + ''.join('%06x' % ord(character) for character in word).translate(_HEX_AS_LETTERS)
        for word in _rouge_words(text))


def rouge_lines(hypotheses, references):
    """`rouge` as a dict of `LineStatistics`: the F1 of each line."""
    _check(hypotheses, references)
    from rouge_score.rouge_scorer import RougeScorer
    scorer = RougeScorer(list(ROUGE_TYPES), use_stemmer=False)
    scores = [scorer.score(rouge_text(reference), rouge_text(hypothesis))
              for hypothesis, reference in zip(hypotheses, references)]
    return {name: LineStatistics([float(score[name].fmeasure) for score in scores]) for name in ROUGE_TYPES}


def rouge(hypotheses, references):
    """Mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004) over the lines, by rouge-score, without stemming.

    ASCII text scores as in rouge-score; words with other letters and Chinese characters count as words (see
    `rouge_text`). A line without words scores 0, even against another such line, as in rouge-score.

    # Returns
        dict `rouge1`, `rouge2`, `rougeL`: 0 to 1.
    """
    return {name: lines() for name, lines in rouge_lines(hypotheses, references).items()}


# Answers ------------------------------------------------------------------------------------------------------------

def _line_means(measure, hypotheses, references):
    _check(hypotheses, references)
    return LineStatistics([float(measure(*pair)) for pair in zip(hypotheses, references)])


def exact_match_lines(hypotheses, references):
    """`exact_match` as `LineStatistics`."""
    return _line_means(lambda hypothesis, reference: hypothesis.strip() == reference.strip(), hypotheses, references)


def exact_match(hypotheses, references):
    """Share of lines equal to their reference, ignoring white space at both ends: 0 to 1."""
    return exact_match_lines(hypotheses, references)()


_PUNCTUATION = str.maketrans('', '', string.punctuation)
_ARTICLE = re.compile(r'\b(?:a|an|the)\b')


def squad_words(text):
    """Words of an answer as SQuAD compares them (Rajpurkar et al. 2016, section 6.1).

    Lower case, no ASCII punctuation, no English articles, split at white space. Chinese text needs spaces between its
    words or characters, or `token_f1` counts it as one word.
    """
    return _ARTICLE.sub(' ', text.lower().translate(_PUNCTUATION)).split()


def _f1(hypothesis, reference):
    words, reference_words = squad_words(hypothesis), squad_words(reference)
    if not words or not reference_words:
        return words == reference_words
    shared = sum((collections.Counter(words) & collections.Counter(reference_words)).values())
    return 2 * shared / (len(words) + len(reference_words))


def squad_exact_match_lines(hypotheses, references):
    """`squad_exact_match` as `LineStatistics`."""
    return _line_means(lambda hypothesis, reference: squad_words(hypothesis) == squad_words(reference),
                       hypotheses, references)


def squad_exact_match(hypotheses, references):
    """Share of answers equal to their reference after SQuAD's normalisation (see `squad_words`): 0 to 1."""
    return squad_exact_match_lines(hypotheses, references)()


def token_f1_lines(hypotheses, references):
    """`token_f1` as `LineStatistics`."""
    return _line_means(_f1, hypotheses, references)


def token_f1(hypotheses, references):
    """Mean F1 of the bags of words of answer and reference after SQuAD's normalisation: 0 to 1.

    If one of the two has no words, the line scores 1 if neither has and 0 otherwise, as in SQuAD 2.0.
    """
    return token_f1_lines(hypotheses, references)()


def perplexity(nll_sum, tokens):
    """exp of the mean negative log-likelihood: `nll_sum` in nats over `tokens` target tokens."""
    if tokens <= 0:
        raise ValueError('perplexity needs at least one token')
    try:
        return math.exp(nll_sum / tokens)
    except OverflowError:
        return math.inf


# Resampling ---------------------------------------------------------------------------------------------------------

def _resamples(n, samples, seed):
    random = np.random.RandomState(seed)
    return (random.randint(0, n, n) for _ in range(samples))


def bootstrap(metric, n, samples=1000, seed=1, confidence=0.95):
    """Percentile bootstrap interval of a score (Efron 1979; for BLEU Koehn 2004).

    # Arguments
        metric: function of an array of line indices, such as a `LineStatistics`.
        n: number of lines; each of the `samples` resamples draws n lines with replacement.

    # Returns
        (low, high): the interval that holds the middle `confidence` share of the resampled scores.
    """
    scores = [metric(indices) for indices in _resamples(n, samples, seed)]
    low, high = np.percentile(scores, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def paired_bootstrap(metric_a, metric_b, n, samples=1000, seed=1):
    """Two-sided p-value of the difference between two systems on the same lines, by the paired bootstrap.

    Both systems are scored on the same resampled lines (Koehn 2004). The differences, shifted to a mean of 0, show the
    effect of chance on two equal systems. p is the share of them at least as far from 0 as the difference on all lines,
    which is counted too, so that p is never 0. It is 1 for equal outputs.

    # Arguments
        metric_a, metric_b: functions of an array of line indices, such as two `LineStatistics`.
        n: number of lines.

    # Returns
        p, above 0 and at most 1.
    """
    all_lines = np.arange(n)
    observed = metric_b(all_lines) - metric_a(all_lines)
    differences = np.array([metric_b(indices) - metric_a(indices) for indices in _resamples(n, samples, seed)])
    # Rounding must not lose a difference that equals the observed one.
    as_far = np.abs(differences - differences.mean()) >= abs(observed) * (1 - 1e-9)
    return (int(as_far.sum()) + 1) / (samples + 1)


def length_bands(source_lengths, edges):
    """Groups sentences by source length: up to edges[0], then up to edges[1] and so on, then above the last.

    # Returns
        A list of `Band` (label, indices); a band may be empty.

    # Raises
        UserError: the edges are not positive and ascending.
    """
    edges = [int(edge) for edge in edges]
    if not edges or edges[0] < 1 or any(low >= high for low, high in zip(edges, edges[1:])):
        raise UserError('length bands %s: give ascending lengths from 1, such as 10 20 30' % edges)
    labels = (['up to %d' % edges[0]] + ['%d-%d' % (low + 1, high) for low, high in zip(edges, edges[1:])] +
              ['over %d' % edges[-1]])
    band_of = np.searchsorted(edges, source_lengths, side='left')
    return [Band(label, np.flatnonzero(band_of == k)) for k, label in enumerate(labels)]
