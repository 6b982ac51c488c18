"""The rows of a table of scores: what `evaluate.py` prints for outputs of a run, of a file, or of two systems."""
import collections
import functools
import math

from command_line import require
from reports import metrics
from reports.alignment_scores import alignment_scores
from reports.progress import Progress
from text import questions

Row = collections.namedtuple('Row', 'name value note')


def text_metrics(outputs, pairs, names, bleu_tokenize):
    """OrderedDict of the metrics `names`, which compare outputs with references: name to (`LineStatistics`, note)."""
    references = [target for _, target in pairs]
    makers = collections.OrderedDict([
        ('exact match', metrics.exact_match_lines),
        ('BLEU', lambda *texts: metrics.bleu_lines(*texts, bleu_tokenize)),
        ('chrF', metrics.chrf_lines),
        ('TER', lambda *texts: metrics.ter_lines(*texts, bleu_tokenize == 'zh'))])
    if any(name.startswith('ROUGE') for name in names):
        for kind, lines in metrics.rouge_lines(outputs, references).items():
            makers['ROUGE-' + kind[len('rouge'):]] = functools.partial(lambda lines, *texts: lines, lines)
    makers.update([('SQuAD exact match', metrics.squad_exact_match_lines), ('token F1', metrics.token_f1_lines)])
    notes = dict({'SQuAD exact match': "in SQuAD's normalisation", 'token F1': "in SQuAD's normalisation"},
                 **{name: 'F1' for name in makers if name.startswith('ROUGE')})
    statistics = collections.OrderedDict((name, make(outputs, references)) for name, make in makers.items()
                                         if name in names)
    return collections.OrderedDict((name, (lines, notes.get(name) or lines.signature or ''))
                                   for name, lines in statistics.items())


def model_rows(translator, pairs, gold, story_questions, batch_size):
    """The scores of forced decoding, which need a model. Pairs with an empty side are not scored.

    # Arguments
        gold: the `alignments.Gold` of each pair, or `None`.
        story_questions: the `questions.Question` of each pair, or `None`.

    # Returns
        List of `Row`; dict of pair index to (negative log-likelihood, tokens).
    """
    scorable = [i for i, (source, target) in enumerate(pairs) if translator.encode(source) and target.strip()]
    require(scorable, 'no pair has tokens on both sides: nothing can be scored')
    with Progress(len(scorable), 'pairs scored') as progress:
        forced = translator.score([pairs[i] for i in scorable], batch_size, progress=progress.advance)
    likelihoods = {i: (-math.fsum(hypothesis.log_probabilities), len(hypothesis.log_probabilities))
                   for i, hypothesis in zip(scorable, forced)}
    tokens = sum(count for _, count in likelihoods.values())
    correct = sum(margin > 0 for hypothesis in forced for margin in hypothesis.margins)
    rows = [Row('perplexity', metrics.perplexity(math.fsum(nll for nll, _ in likelihoods.values()), tokens),
                'of the references, </s> included'),
            Row('token accuracy', correct / float(tokens), '')]
    if gold is not None:
        found = alignment_scores([hypothesis.alignment for hypothesis in forced], [gold[i] for i in scorable])
        rows.append(Row('alignment agreement', found.agreement,
                        'of %d linked target tokens, forced decoding' % found.linked))
        rows.append(Row('alignment error rate', found.error_rate,
                        'AER of %d links, the most attended source token of each target token' % found.links))
    support = questions.attention_on_support(
        [story_questions[i] for i in scorable], [hypothesis.alignment for hypothesis in forced],
        translator.encode) if story_questions else None
    if support and support.questions:
        rows.append(Row('attention on facts', support.share, 'on the supporting statements of %d questions, forced '
                        'decoding; uniform attention: %.4f' % (support.questions, support.even)))
    return rows, likelihoods


def band_rows(lengths, bounds, bleu, likelihoods, resamplings=None):
    """BLEU and perplexity by source length: the rows, and what `plots.plot_bands` draws.

    # Arguments
        lengths: of the sources, in tokens. bounds: upper ends of the bands. bleu: `LineStatistics`. likelihoods: as
            `model_rows` returns them. resamplings: for intervals; `None` for none.
    """
    rows, drawn = [], []
    for band in metrics.length_bands(lengths, bounds):
        rows.append(Row('lines of %s' % band.label, len(band.indices), 'source tokens'))
        if len(band.indices):
            rows.append(Row('BLEU of %s' % band.label, bleu(band.indices), ''))
            drawn.append({'label': band.label, 'lines': len(band.indices), 'score': rows[-1].value})
            if resamplings:
                drawn[-1]['interval'] = metrics.bootstrap(lambda lines: bleu(band.indices[lines]), len(band.indices),
                                                          resamplings)
            sums = [likelihoods[i] for i in band.indices if i in likelihoods]
            if sums:
                rows.append(Row('perplexity of %s' % band.label, metrics.perplexity(*map(sum, zip(*sums))), ''))
                drawn[-1]['perplexity'] = rows[-1].value
    return rows, drawn


def compare_systems(metrics_of_outputs, other, count):
    """OrderedDict of metric to the score of the other system and the p-value of the difference, by resampling."""
    rows = collections.OrderedDict()
    with Progress(len(metrics_of_outputs), 'metrics compared') as progress:
        for name, (lines, _) in metrics_of_outputs.items():
            rows[name] = other[name][0](), metrics.paired_bootstrap(lines, other[name][0], len(lines), count)
            progress.advance()
    return rows


def confidence_intervals(metrics_of_outputs, count):
    """OrderedDict of metric to its 95 % interval, from `count` resamplings."""
    intervals = collections.OrderedDict()
    with Progress(len(metrics_of_outputs), 'metrics resampled') as progress:
        for name, (lines, _) in metrics_of_outputs.items():
            intervals[name] = metrics.bootstrap(lines, len(lines), count)
            progress.advance()
    return intervals
