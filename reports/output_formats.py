"""Output formats of predict.py: lines, n-best lists, JSON, a page, pictures; and the replacement of `<unk>`.

Each format has `write(number, source, hypotheses)`, called once for each line of the input, and `close()`. `number` is
the line's number from 1, `source` its text, `hypotheses` a list of `translator.Hypothesis`, best first.
"""
import contextlib
import os

import numpy as np
from text import corpus, json_lines
from text.vocabulary import SPECIALS, UNK
from reports import plots
from reports.alignment_page import write_page
from reports.alignment_text import format_alignment
from reports.label_fonts import check_direction
from storage.files import user_error
from storage.output_files import OutputFile
from command_line import UserError, tell

MAXIMUM_SENTENCES = 1000  # sentences; a browser is slow with more


class Format(object):
    """Base of the formats; does nothing."""

    def write(self, number, source, hypotheses):
        """Writes the hypotheses of one line."""

    def close(self):
        """Completes the output, at the end of the input or after an error in a line."""

    def discard(self):
        """Ends the output of a command that was stopped or failed, and removes incomplete files."""

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        refused = kind is not None and issubclass(kind, (UserError, BrokenPipeError))
        (self.close if kind is None or refused else self.discard)()


class Stream(Format):
    """Standard output, one text for each line of the input.

    # Arguments
        text: function of (number, source, hypotheses) that returns the text without its last line feed.
        stream: text stream.
    """

    def __init__(self, text, stream):
        self.text, self.stream = text, stream

    def write(self, number, source, hypotheses):
        with self._user_errors():
            self.stream.write(self.text(number, source, hypotheses) + '\n')

    def flush(self):
        with self._user_errors():
            self.stream.flush()

    @contextlib.contextmanager
    def _user_errors(self):
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())  # Python flushes again at exit
            raise user_error('standard output', 'cannot be written', error)


class FileStream(Format):
    """A file, one text for each line of the input.

    # Arguments
        text: as for `Stream`.
        path: file to write.
        at_once: Boolean, write each chunk to the file itself, for an input that may never end.
    """

    def __init__(self, text, path, at_once):
        self.text, self.path, self.at_once, self.lines, self.empty = text, path, at_once, [], True

    def __enter__(self):
        self.file = OutputFile(self.path, self.at_once)  # not before: only `__exit__` removes it after a signal
        return super(FileStream, self).__enter__()

    def write(self, number, source, hypotheses):
        self.lines.append(self.text(number, source, hypotheses) + '\n')

    def flush(self):
        if self.lines:
            lines, self.lines, self.empty = self.lines, [], False
            self.file.write(''.join(lines).encode('utf-8', 'surrogateescape'))

    def close(self):
        self.flush()
        self.file.close()

    def discard(self):
        self.file.discard()

    def __exit__(self, kind, *error):
        if kind is not None and self.empty and not self.lines:  # refused at the first line: an older file stays
            self.discard()
        else:
            super(FileStream, self).__exit__(kind, *error)


def one_line(text):
    return text.replace('\n', ' ')


def best_line(number, source, hypotheses):
    """The best hypothesis."""
    return one_line(hypotheses[0].text)


def scored_line(number, source, hypotheses):
    """score<TAB>text of the best hypothesis."""
    return '%.4f\t%s' % (hypotheses[0].score, one_line(hypotheses[0].text))


def score_line(number, source, hypotheses):
    """The score of the best hypothesis."""
    return '%.4f' % hypotheses[0].score


def numbered_lines(number, source, hypotheses):
    """line<TAB>rank<TAB>text for each hypothesis."""
    return '\n'.join('%d\t%d\t%s' % (number, rank, one_line(hypothesis.text))
                     for rank, hypothesis in enumerate(hypotheses, 1))


def scored_numbered_lines(number, source, hypotheses):
    """line<TAB>rank<TAB>score<TAB>text for each hypothesis."""
    return '\n'.join('%d\t%d\t%.4f\t%s' % (number, rank, hypothesis.score, one_line(hypothesis.text))
                     for rank, hypothesis in enumerate(hypotheses, 1))


def json_line(number, source, hypotheses):
    """`text.json_lines.json_line` of the hypotheses."""
    return json_lines.json_line(source, hypotheses[0].source_tokens, hypotheses)


class Page(Format):
    """One HTML page of the alignments of the first `MAXIMUM_SENTENCES` sentences, kept in memory until the end.

    # Arguments
        path: file to write.
        candidates: function such as `Translator.candidates`, for the most probable tokens of each step; `None` omits
            them.
    """

    def __init__(self, path, candidates=None):
        self.path, self.candidates, self.sentences, self.left_out = path, candidates, [], 0
        self.outputs = []   # the hypotheses of all sentences, one after the other

    def write(self, number, source, hypotheses, reference=None):
        if len(self.sentences) == MAXIMUM_SENTENCES:
            self.left_out += 1
            return
        self.outputs += hypotheses
        self.sentences.append({'source': source, 'source_tokens': hypotheses[0].source_tokens, 'reference': reference,
                               'unknown': hypotheses[0].unknown, 'hypotheses': [
            {'text': hypothesis.text, 'tokens': hypothesis.tokens, 'score': hypothesis.score,
             'weights': hypothesis.alignment, 'copied': hypothesis.copied,
             'log_probabilities': hypothesis.log_probabilities} for hypothesis in hypotheses]})

    def close(self):
        if self.candidates and self.outputs:
            steps = iter(self.candidates(self.outputs))
            for sentence in self.sentences:
                for hypothesis in sentence['hypotheses']:
                    hypothesis['candidates'] = next(steps)
        write_page(self.path, self.sentences)
        if self.left_out:
            tell('%s: has the first %d sentences and omits the other %d'
                 % (self.path, MAXIMUM_SENTENCES, self.left_out))


class Pictures(Format):
    """A picture for each sentence and its best hypothesis, numbered by its line.

    # Arguments
        kind: 'png', 'svg' or 'pdf'.
    """

    def __init__(self, folder, kind='png'):
        self.folder, self.kind = folder, kind

    def write(self, number, source, hypotheses):
        best = hypotheses[0]
        if best.source_tokens and self._can_draw(number, best.source_tokens + best.tokens):
            plots.plot_alignment(os.path.join(self.folder, '%04d.%s' % (number, self.kind)), best.source_tokens,
                                 best.tokens, best.alignment, 'line %d, score %.3f' % (number, best.score),
                                 best.unknown, best.copied)

    @staticmethod
    def _can_draw(number, tokens):
        try:
            check_direction(tokens)
        except UserError as error:
            tell('line %d has no picture: %s' % (number, error))
            return False
        return True


class AlignmentPrinter(Format):
    """The alignment of the best hypothesis as text on standard error."""

    def write(self, number, source, hypotheses):
        best = hypotheses[0]
        if best.source_tokens:
            tell('%s\n%s' % (source, format_alignment(
                best.source_tokens, best.tokens, best.alignment, best.unknown, best.copied)))


def line_count(count):
    """A number of lines, for messages: '1 line'."""
    return '%d line%s' % (count, '' if count == 1 else 's')


def line_rate(count, seconds):
    """The speed of translation, for messages, with at least two digits: '0.30 lines/s'."""
    rate = count / max(seconds, 1e-9)
    return '%.*f lines/s' % (0 if rate >= 10 or not count else 1 if rate >= 1 else 2, rate)


class UnknownWords(object):
    """Replaces each `<unk>` of an output by the source word with the largest attention weight, or its translation.

    # Arguments
        path: dictionary with lines "source word<TAB>replacement"; the first line of a word counts. With `''` the source
            word itself replaces `<unk>`.

    # References
        - [Addressing the Rare Word Problem in Neural Machine Translation](https://arxiv.org/abs/1410.8206), section 3
    """

    def __init__(self, path):
        self.words = {}
        for source, target in corpus.load([path]) if path else ():
            self.words.setdefault(source, target)

    def replace(self, hypothesis, source_tokenizer, target_tokenizer):
        """Returns the hypothesis with new `tokens` and `text`; a replacement of several words is one token."""
        unknown = SPECIALS[UNK]
        if unknown not in hypothesis.tokens:
            return hypothesis
        tokens, pieces = [], []
        copied = list(hypothesis.copied) + [t for t, token in enumerate(hypothesis.tokens) if token == unknown]
        for token, weights in zip(hypothesis.tokens, hypothesis.alignment):
            if token == unknown:
                source_token = hypothesis.source_tokens[int(np.argmax(weights))]
                token = self.words.get(source_token, source_tokenizer.detokenize([source_token]))
                pieces += target_tokenizer.tokenize(token)
            else:
                pieces.append(token)
            tokens.append(token)
        return hypothesis._replace(tokens=tokens, text=target_tokenizer.detokenize(pieces), copied=sorted(copied))
