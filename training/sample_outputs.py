"""Outputs for the validation text while a run trains: the score of `--metric`, and a few to be read."""
import time

import search_options
from command_line import tell

SHOWN = 4  # validation sentences whose outputs are printed after each validation, always the same


class SampleOutputs(object):
    """Decodes validation text with the weights that are in place.

    # Arguments
        settings: of the run. translator: `Translator` of the model that trains. pairs: the validation text, (source,
        target). run: `RunDirectory` for `--tensorboard`.
    """

    def __init__(self, settings, translator, pairs, run):
        self.settings, self.translator, self.pairs, self.run = settings, translator, pairs, run

    def decode(self, pairs):
        """The best hypothesis for the source of each pair of texts."""
        results = self.translator.translate([source for source, _ in pairs], self.settings.batch_size,
                                            **search_options.merge(self.settings)._asdict())
        return [hypotheses[0] for hypotheses in results]

    def score(self):
        """`settings.metric` of the outputs for all pairs."""
        from reports import metrics
        texts = [hypothesis.text for hypothesis in self.decode(self.pairs)]
        references = [target for _, target in self.pairs]
        if self.settings.metric == 'bleu':
            return metrics.bleu(texts, references, metrics.bleu_tokenizer(self.settings.target_tokenizer)).score
        if self.settings.metric == 'rouge-l':
            return metrics.rouge(texts, references)['rougeL']
        return metrics.exact_match(texts, references)

    def show(self, row):
        """Prints the outputs for the first pairs, and writes them and the scores of `row` for TensorBoard."""
        pairs = self.pairs[:SHOWN]
        hypotheses = self.decode(pairs)
        for (source, reference), best in zip(pairs, hypotheses):
            tell('    %s\n  = %s\n  > %s' % (source, reference, best.text))
        if not self.settings.tensorboard:
            return
        from reports import plots, tensorboard_events
        samples = ['| source | reference | output |', '|---|---|---|'] + [
            '| %s |' % ' | '.join(text.replace('|', '\\|') for text in (*pair, best.text))
            for pair, best in zip(pairs, hypotheses)]
        pictures = [] if self.settings.score == 'none' else [
            plots.alignment_png(self.translator.encode(source), best.tokens, best.alignment)
            for (source, _), best in zip(pairs, hypotheses)]
        self.run.write_events(row['step'], tensorboard_events.pack_events(
            row['step'], time.time(), {name: value for name, value in row.items() if name not in ('epoch', 'step')},
            {'samples': '\n'.join(samples)},
            {'alignment/%d' % number: png for number, png in enumerate(pictures, 1)}))
