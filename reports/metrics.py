"""Scores of hypotheses against references, over the field's own libraries where there is one.

BLEU, chrF and TER are sacreBLEU's and ROUGE is rouge-score's; both are imported when first used, since rouge-score
brings nltk. Every function takes two lists of equal length, one line of text each. A metric's name with `_lines` gives
the same score as `LineStatistics`, which `bootstrap` and `paired_bootstrap` resample. No TensorFlow.
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
ROUGE_TYPES = ('rouge1', 'rouge2', 'rougeL')

Score = collections.namedtuple('Score', 'score signature')
Agreement = collections.namedtuple('Agreement', 'share agreed tokens sentences skipped')
Band = collections.namedtuple('Band', 'label indices')


class LineStatistics:
    """A metric over any choice of lines, computed from sums of what was counted once in each line.

    # Arguments
        statistics: (N, k) numbers, one row a line; (N,) stands for one column.
        from_sums: function from the k column sums (a list) to the score; by default the mean of a single column.
        signature: how the score was made, if its library says so.
    Calling it with indices of lines (repeats count again) gives the score of those lines; without, of all.
    """

    def __init__(self, statistics, from_sums=None, signature=None):
        statistics = np.asarray(statistics)
        self.statistics = statistics.reshape(len(statistics), -1)
        self.from_sums = from_sums
        self.signature = signature

    def __len__(self):
        return len(self.statistics)

    def __call__(self, indices=None):
        chosen = self.statistics if indices is None else self.statistics[indices]
        sums = chosen.sum(axis=0).tolist()
        return self.from_sums(sums) if self.from_sums else sums[0] / len(chosen)


def _check(hypotheses, references):
    if len(hypotheses) != len(references):
        raise UserError('{} hypotheses against {} references: give one hypothesis a line for every reference'.format(
            len(hypotheses), len(references)))
    if not len(references):
        raise UserError('no line to score: hypotheses and references are empty')


# sacreBLEU ----------------------------------------------------------------------------------------------------------

def _sacrebleu(name, **options):
    from sacrebleu.metrics import METRICS
    # The defaults of sacreBLEU's own command; `force` changes no score, it silences a hint about that command's use.
    arguments = dict(smooth_method='exp', smooth_value=None, force=True, lc=False, tokenize='13a', short=False,
                     num_refs=1, chrf_order=6, chrf_beta=2, chrf_whitespace=False)
    arguments.update(options)
    return METRICS[name](argparse.Namespace(**arguments))


def _sacrebleu_lines(metric, hypotheses, references, count, from_counts):
    _check(hypotheses, references)
    # The library refuses an empty reference where its command does not: in a file it still has its line feed.
    rows = [count(hypothesis, reference + '\n') for hypothesis, reference in zip(hypotheses, references)]
    signature = '{}+{}'.format(from_counts(rows[0]).prefix, metric.signature)
    return LineStatistics(rows, lambda sums: from_counts(sums).score, signature)


def bleu_lines(hypotheses, references, tokenize):
    """`bleu` as `LineStatistics`: matches and totals of 1- to 4-grams, length of hypothesis and reference."""
    if tokenize not in BLEU_TOKENIZERS:
        raise UserError('unknown BLEU tokenisation {!r}: take one of {}'.format(tokenize, ', '.join(BLEU_TOKENIZERS)))
    metric = _sacrebleu('bleu', tokenize=tokenize)

    def count(hypothesis, reference):
        score = metric.corpus_score([hypothesis], [[reference]])
        return score.counts + score.totals + [score.sys_len, score.ref_len]
    return _sacrebleu_lines(metric, hypotheses, references, count, lambda sums: metric.compute_bleu(
        sums[:4], sums[4:8], sums[8], sums[9], smooth_method='exp'))


def bleu(hypotheses, references, tokenize):
    """Corpus BLEU (Papineni et al. 2002), as `sacrebleu REFERENCES -i HYPOTHESES --tokenize TOKENIZE` has it.

    # Arguments
        tokenize: `none` for text that is tokenised already, `zh` for Chinese, `13a` or `intl` for others, `char`.
    # Returns
        `Score`: BLEU from 0 to 100, and the signature as that command prints it.
    """
    lines = bleu_lines(hypotheses, references, tokenize)
    return Score(lines(), lines.signature)


def chrf_lines(hypotheses, references):
    """`chrf` as `LineStatistics`: for n = 1 to 6 the character n-grams of hypothesis, reference and both."""
    metric = _sacrebleu('chrf')
    return _sacrebleu_lines(
        metric, hypotheses, references,
        lambda hypothesis, reference: metric.get_sentence_statistics(hypothesis, [reference]),
        lambda sums: metric.compute_chrf(sums, metric.order, metric.beta))


def chrf(hypotheses, references):
    """Corpus chrF2 (Popović 2015), as `sacrebleu -m chrf` has it: `Score`, from 0 to 1 in this sacreBLEU."""
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
    """Corpus translation edit rate (Snover et al. 2006), as `sacrebleu -m ter` has it: edits a reference word.

    # Arguments
        asian: split Chinese characters (Tercom's `normalized` and `asian_support`). The library's command has no option
            for it, and takes a Chinese line without blanks for one single word. The signature tells the two apart.
    # Returns
        `Score`: from 0 (equal) upwards, lower is better.
    """
    lines = ter_lines(hypotheses, references, asian)
    return Score(lines(), lines.signature)


# ROUGE --------------------------------------------------------------------------------------------------------------

# Han (with its iteration mark and zero) and kana are written without blanks: each character is taken for a word.
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
    """Spell `text` in ASCII words: rouge-score drops all but ASCII letters and digits, and so counts every word.

    Case and punctuation go, as in rouge-score itself. A word in ASCII stays as it is; any other word (`größe`), and
    each single Han or kana character, becomes a word of ASCII letters made of its code points. No two words share a
    spelling (an ASCII word that begins like such a spelling is spelt out too), and ROUGE without stemming only asks
    whether words are equal: ASCII text scores as before, other text as it would if rouge-score knew its letters.
    """
    return ' '.join(
        word if _ASCII_WORD.match(word) and not word.startswith(_ESCAPE)
        else _ESCAPE + ''.join('{:06x}'.format(ord(character)) for character in word).translate(_HEX_AS_LETTERS)
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

    ASCII text scores as rouge-score scores it; words with other letters, and Chinese characters, count as words (see
    `rouge_text`). A line without any word scores 0, even against another such line: so rouge-score has it.
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
    """Share of lines equal to their reference, blanks at both ends aside: 0 to 1."""
    return exact_match_lines(hypotheses, references)()


_PUNCTUATION = str.maketrans('', '', string.punctuation)
_ARTICLE = re.compile(r'\b(?:a|an|the)\b')


def squad_words(text):
    """Words of an answer as SQuAD compares them (Rajpurkar et al. 2016, section 6.1).

    Lower case, no ASCII punctuation, no English articles, split at white space: Chinese has to come with blanks between
    its words or characters for `token_f1` to see more than one.
    """
    return _ARTICLE.sub(' ', text.lower().translate(_PUNCTUATION)).split()


def _f1(hypothesis, reference):
    found, wanted = squad_words(hypothesis), squad_words(reference)
    if not found or not wanted:
        return found == wanted
    shared = sum((collections.Counter(found) & collections.Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))


def squad_exact_match_lines(hypotheses, references):
    """`squad_exact_match` as `LineStatistics`."""
    return _line_means(lambda hypothesis, reference: squad_words(hypothesis) == squad_words(reference),
                       hypotheses, references)


def squad_exact_match(hypotheses, references):
    """Share of answers equal to their reference in SQuAD's normalisation (see `squad_words`): 0 to 1."""
    return squad_exact_match_lines(hypotheses, references)()


def token_f1_lines(hypotheses, references):
    """`token_f1` as `LineStatistics`."""
    return _line_means(_f1, hypotheses, references)


def token_f1(hypotheses, references):
    """Mean F1 of the words (as a bag) of answer and reference in SQuAD's normalisation: 0 to 1.

    Where nothing is left of one of the two, the line counts 1 if nothing is left of both and else 0 (as in SQuAD 2.0).
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


# Alignments ---------------------------------------------------------------------------------------------------------

_LINK = re.compile('([0-9]+)-([0-9]+)$')


def read_alignments(path):
    """Read gold alignments in the Pharaoh format: one line a sentence, links `i-j` of source and target token from 0.

    # Returns
        list with a list of (i, j) for every line; an empty line has no link.
    # Raises
        UserError: an item that is not a link, with file and line; what `data.read_lines` refuses.
    """
    from text.corpus import read_lines
    alignments = []
    for number, line in enumerate(read_lines(path), 1):
        matches = [(item, _LINK.match(item)) for item in line.split()]
        for item, match in matches:
            if not match:
                raise UserError('{}, line {}: {!r} is not a link: write source and target token, counted from 0, as 3-5'
                                .format(path, number, item))
        alignments.append([(int(match.group(1)), int(match.group(2))) for _, match in matches])
    return alignments


def alignment_agreement(weights, gold, hypotheses=None, references=None, source_lengths=None):
    """Share of linked target tokens whose most attended source token is one of their gold links.

    Only target tokens with a link count (content words, where the gold alignment links no others). A gold link speaks
    of the reference's tokens, so a sentence whose hypothesis differs from its reference cannot be compared position by
    position: it is skipped and counted as such. After forced decoding (the reference fed to the decoder) leave out
    `hypotheses` and `references`: every sentence is compared.

    # Arguments
        weights: for each sentence (T, S); row j belongs to the step that emits target token j. An end mark or padding
            may follow on both axes.
        gold: for each sentence its links (i, j).
        hypotheses, references: for each sentence its target tokens.
        source_lengths: for each sentence the number of source positions that may be looked at, where padding follows.
    # Returns
        `Agreement`: share (0 to 1, NaN without a token), tokens that agree, tokens and sentences compared, sentences
        skipped.
    # Raises
        UserError: unequal numbers of sentences; a link outside its sentence.
    """
    if (hypotheses is None) != (references is None):
        raise ValueError('hypotheses and references go together')
    for name, given in (('alignments', gold), ('hypotheses', hypotheses), ('references', references),
                        ('source lengths', source_lengths)):
        if given is not None and len(given) != len(weights):
            raise UserError('{} sentences with attention, but {} {}: they must be of the same text'.format(
                len(weights), len(given), name))
    agreed = tokens = skipped = 0
    for k, (matrix, links) in enumerate(zip(weights, gold)):
        if hypotheses is not None and list(hypotheses[k]) != list(references[k]):
            skipped += 1
            continue
        matrix = np.asarray(matrix)
        if source_lengths is not None:
            matrix = matrix[:, :source_lengths[k]]
        linked = collections.defaultdict(set)
        for i, j in links:
            if i >= matrix.shape[1] or j >= matrix.shape[0]:
                raise UserError('alignment of sentence {}: link {}-{} lies outside its {} source and {} target tokens: '
                                'tokenise as the alignment counts'.format(k + 1, i, j, *matrix.shape[::-1]))
            linked[j].add(i)
        tokens += len(linked)
        agreed += sum(int(matrix[j].argmax()) in sources for j, sources in linked.items())
    return Agreement(agreed / tokens if tokens else math.nan, agreed, tokens, len(weights) - skipped, skipped)


# Resampling ---------------------------------------------------------------------------------------------------------

def _resamples(n, samples, seed):
    random = np.random.RandomState(seed)
    return (random.randint(0, n, n) for _ in range(samples))


def bootstrap(metric, n, samples=1000, seed=1, confidence=0.95):
    """Percentile bootstrap interval of a score (Efron 1979; for BLEU Koehn 2004).

    # Arguments
        metric: function of an array of line indices, such as a `LineStatistics`.
        n: number of lines; each of the `samples` draws as many, with replacement.
    # Returns
        (low, high), between which the middle `confidence` share of the resampled scores lies.
    """
    scores = [metric(indices) for indices in _resamples(n, samples, seed)]
    low, high = np.percentile(scores, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def paired_bootstrap(metric_a, metric_b, n, samples=1000, seed=1):
    """Two-sided p-value of the difference between two systems on the same lines, by the paired bootstrap.

    Both systems are scored on the same resampled lines (Koehn 2004). The differences, moved so that their centre is 0,
    show what chance does to two equal systems; p is the share of them at least as far from 0 as the difference seen on
    all lines, the latter counted too, so that p is never 0 and is 1 for equal outputs.

    # Arguments
        metric_a, metric_b: functions of an array of line indices, such as two `LineStatistics`.
        n: number of lines.
    """
    everything = np.arange(n)
    seen = metric_b(everything) - metric_a(everything)
    differences = np.array([metric_b(indices) - metric_a(indices) for indices in _resamples(n, samples, seed)])
    # A difference that ties with the one seen must not be lost to rounding.
    as_far = np.abs(differences - differences.mean()) >= abs(seen) * (1 - 1e-9)
    return (int(as_far.sum()) + 1) / (samples + 1)


def length_bands(source_lengths, edges):
    """Group sentences by source length: up to edges[0], then up to edges[1] and so on, then beyond the last.

    # Returns
        list of `Band` (label, indices), an empty one included.
    # Raises
        UserError: edges that are not positive and ascending.
    """
    edges = [int(edge) for edge in edges]
    if not edges or edges[0] < 1 or any(low >= high for low, high in zip(edges, edges[1:])):
        raise UserError('length bands {}: give ascending lengths from 1, such as 10 20 30'.format(edges))
    labels = (['up to {}'.format(edges[0])] + ['{}-{}'.format(low + 1, high) for low, high in zip(edges, edges[1:])] +
              ['over {}'.format(edges[-1])])
    band_of = np.searchsorted(edges, source_lengths, side='left')
    return [Band(label, np.flatnonzero(band_of == k)) for k, label in enumerate(labels)]
