"""What predict.py writes: lines, n-best lists, JSON, a page, pictures; and words in the place of `<unk>`.

Each format has `write(number, source, source_tokens, hypotheses)`, called once for each line of the input, counted from
1, and `close()`. Hypotheses are those of `translator.py`, best first.
"""
import contextlib
import json
import math
import os

import numpy as np
from text import corpus
from text.vocabulary import SPECIALS, UNK
from reports import plots
from reports.alignment_page import write_page
from reports.alignment_text import format_alignment
from command_line import UserError, tell

LARGEST_PAGE = 1000  # sentences; a browser shows more of them at leisure only
DIGITS = 6           # behind the point, in JSON: more than float32 is good for


class Format(object):
    """Does nothing; the others change what they need."""

    def write(self, number, source, source_tokens, hypotheses):
        """Takes one line's hypotheses."""

    def close(self):
        """Called at the end, after an error too."""


class Stream(Format):
    """A file or standard output, one text for each line of the input.

    # Arguments
        name: path, `-` for `standard`.
        text: function of (number, source, source tokens, hypotheses) to what is written, without its last line feed.
    """

    def __init__(self, name, standard, text):
        self.name, self.text, self.stream = name, text, standard
        if name != '-':
            try:
                self.stream = open(name, 'w', encoding='utf-8', newline='\n')
            except OSError as error:
                raise UserError('%s: cannot be written: %s' % (name, error.strerror))

    @contextlib.contextmanager
    def _told(self):
        """A `UserError` where the system refuses to write; a reader of a pipe who goes is no error."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())  # Python will flush again at exit
            raise UserError('%s: cannot be written: %s' % (self.name, error.strerror))

    def write(self, number, source, source_tokens, hypotheses):
        with self._told():
            self.stream.write(self.text(number, source, source_tokens, hypotheses) + '\n')

    def flush(self):
        with self._told():
            self.stream.flush()

    def close(self):
        if self.name != '-':
            with self._told():
                self.stream.close()


def one_line(text):
    return text.replace('\n', ' ')


def best_line(number, source, source_tokens, hypotheses):
    """The best text."""
    return one_line(hypotheses[0].text)


def scored_line(number, source, source_tokens, hypotheses):
    """score<TAB>text, the best one's."""
    return '%.4f\t%s' % (hypotheses[0].score, one_line(hypotheses[0].text))


def score_line(number, source, source_tokens, hypotheses):
    """The score alone."""
    return '%.4f' % hypotheses[0].score


def numbered_lines(number, source, source_tokens, hypotheses):
    """line<TAB>rank<TAB>text for each hypothesis."""
    return '\n'.join('%d\t%d\t%s' % (number, rank, one_line(one.text)) for rank, one in enumerate(hypotheses, 1))


def scored_numbered_lines(number, source, source_tokens, hypotheses):
    """line<TAB>rank<TAB>score<TAB>text for each hypothesis."""
    return '\n'.join('%d\t%d\t%.4f\t%s' % (number, rank, one.score, one_line(one.text))
                     for rank, one in enumerate(hypotheses, 1))


def json_line(number, source, source_tokens, hypotheses):
    """One JSON object: what JSON has no number for is null, as is the alignment of a model without attention."""
    return json.dumps({'source': source, 'source_tokens': source_tokens, 'hypotheses': [
        {'text': one.text, 'tokens': one.tokens, 'score': _number(one.score), 'ranking': _number(one.ranking),
         'log_probabilities': [_number(value) for value in one.log_probabilities],
         'alignment': None if one.alignment is None else [[_number(value) for value in row]
                                                          for row in one.alignment.tolist()]}
        for one in hypotheses]}, ensure_ascii=False, allow_nan=False)


def _number(value):
    return round(float(value), DIGITS) if math.isfinite(value) else None


class Page(Format):
    """One HTML page of alignments: the first `LARGEST_PAGE` sentences, kept in memory until the end."""

    def __init__(self, path):
        self.path, self.sentences, self.left_out = path, [], 0
        write_page(path, [])  # what cannot be written is told before the work, not after it

    def write(self, number, source, source_tokens, hypotheses):
        if len(self.sentences) == LARGEST_PAGE:
            self.left_out += 1
            return
        self.sentences.append({'source': source, 'source_tokens': source_tokens, 'hypotheses': [
            {'text': one.text, 'tokens': one.tokens, 'score': one.score, 'weights': one.alignment}
            for one in hypotheses]})

    def close(self):
        write_page(self.path, self.sentences)
        if self.left_out:
            tell('%s: has the first %d sentences, %d more are left out' % (self.path, LARGEST_PAGE, self.left_out))


class Pictures(Format):
    """A PNG for each sentence and its best hypothesis, numbered by its line."""

    def __init__(self, folder):
        self.folder = folder
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise UserError('%s: cannot make this folder for --plot-dir: %s' % (folder, error.strerror))

    def write(self, number, source, source_tokens, hypotheses):
        if source_tokens:
            plots.plot_alignment(os.path.join(self.folder, '%04d.png' % number), source_tokens, hypotheses[0].tokens,
                                 hypotheses[0].alignment)


class ShownAttention(Format):
    """The best hypothesis' alignment as text on standard error."""

    def write(self, number, source, source_tokens, hypotheses):
        if source_tokens:
            best = hypotheses[0]
            tell('%s\n%s' % (source, format_alignment(source_tokens, best.tokens, best.alignment)))


class UnknownWords(object):
    """Puts for each `<unk>` of an output what the source has at the place most attended to.

    # Arguments
        path: dictionary, lines of source word, tab, what to put for it; the first line of a word counts. `''`: none,
            the source word itself is put.

    # References
        - [Addressing the Rare Word Problem in Neural Machine Translation](https://arxiv.org/abs/1410.8206), section 3
    """

    def __init__(self, path):
        self.words = {}
        for source, target in corpus.load([path]) if path else ():
            self.words.setdefault(source, target)

    def replace(self, source_tokens, hypothesis, source_tokenizer, target_tokenizer):
        """The hypothesis with other `tokens` and `text`; one token, of several words perhaps, for each `<unk>`."""
        unknown = SPECIALS[UNK]
        if unknown not in hypothesis.tokens:
            return hypothesis
        tokens, pieces = [], []
        for token, weights in zip(hypothesis.tokens, hypothesis.alignment):
            if token == unknown:
                most = source_tokens[int(np.argmax(weights))]
                token = self.words.get(most, source_tokenizer.detokenize([most]))
                pieces += target_tokenizer.tokenize(token)
            else:
                pieces.append(token)
            tokens.append(token)
        return hypothesis._replace(tokens=tokens, text=target_tokenizer.detokenize(pieces))
