"""Questions about stories: the bAbI format, and a table of context, question and answer, as pairs of text.

The encoder reads `question | story`. The question comes first, so that the encoder knows it when it reads the story.
The decoder writes the answer.
"""
import collections

from command_line import UserError, require
from text.columns import other_format, read_columns
from text.text_files import read_lines

Question = collections.namedtuple('Question', 'source answer sentences supporting')
Question.__doc__ = """One question about a story.

`source` is the text that the encoder reads, `sentences` are the statements of the story, and `supporting` the indices
of those that decide the answer, empty if the file does not have them.
"""


def read_questions(paths, form, on_bad_utf8='error', columns=None):
    """Reads the questions of files, one at a time.

    # Arguments
        paths: list of paths, read in order.
        form: 'babi': lines "number statement" and "number question<TAB>answer<TAB>numbers of supporting statements";
            the last column is optional, number 1 begins a story, commas separate the items of an answer.
            'qa': tables of context, question and answer.
        on_bad_utf8: as in `text_files.decode_lines`.
        columns: as for `columns.read_columns`.

    # Returns
        Generator of `Question`.

    # Raises
        UserError: a malformed line, with file and line; no question; and as `text_files.read_lines`.
    """
    require(form == 'qa' or columns is None, '--columns belongs to tables, and bAbI is none: omit it')
    for path in paths:
        question = None
        for question in _babi(path, on_bad_utf8) if form == 'babi' else _table(path, on_bad_utf8, columns):
            yield question
        if question is None:
            raise UserError('%s: has no question' % path)


def _question(question, sentences, answer, supporting):
    return Question('%s | %s' % (question, ' '.join(sentences)), answer, sentences, supporting)


def _table(path, on_bad_utf8, columns):
    for place, cells in read_columns(path, 'qa', on_bad_utf8, columns):
        context, question, answer = map(str.strip, cells)
        require(context and question, '%s: %s: the context or the question is empty', path, place)
        yield _question(question, [context], answer, [])


def _babi(path, on_bad_utf8):
    reader = _BabiStories(path)
    for number, line in enumerate(read_lines(path, on_bad_utf8), 1):
        question = reader.read(number, line)
        if question:
            yield question


class _BabiStories(object):
    """Reads bAbI line by line: `read` keeps statements and returns questions. Without `answers` a line that ends with
    a question mark is a question too."""

    def __init__(self, path, answers=True):
        self.path, self.answers = path, answers
        self.story, self.last = collections.OrderedDict(), 0  # statements by their numbers

    def read(self, number, line):
        """The `Question` in a line of the file, or `None`."""
        def require(condition, problem):
            if not condition:
                raise UserError('%s: line %d: %s' % (self.path, number, problem))

        if not line.strip():
            return None
        count, _, rest = line.partition(' ')
        fields = [field.strip() for field in rest.split('\t')]
        hint = other_format(line, 'babi') if self.answers else \
            '; for sources as they are give --format pairs, for context and question --format qa'
        require(count.isdecimal() and len(count) < 10,
                'does not begin with a number and a space, as bAbI stories do' + hint)
        require(int(count) in (1, self.last + 1), 'has number %s after %d: the lines of a story are numbered from 1 '
                'without gaps' % (count, self.last))
        if count == '1':
            self.story = collections.OrderedDict()
        self.last = int(count)
        require(fields[0], 'has no text')
        if len(fields) == 1 and (self.answers or not fields[0].endswith(('?', '\uff1f'))):
            self.story[self.last] = fields[0]
            return None
        require(self.story, 'a question before any statement')
        if not self.answers:
            return _question(fields[0], list(self.story.values()), '', [])
        require(len(fields) <= 3 and fields[1],
                'not question, answer and optional supporting facts, with tabs between them')
        facts = fields[2].split() if len(fields) == 3 else []
        indices = {str(key): index for index, key in enumerate(self.story)}
        for fact in facts:
            require(fact in indices, 'supporting fact %s is not a statement of this story before the question'
                    % fact[:20])
        # A space after each comma: the tokenisers write a list so, and exact match compares strings.
        answer = ', '.join(item.strip() for item in fields[1].split(','))
        return _question(fields[0], list(self.story.values()), answer, sorted({indices[fact] for fact in facts}))


class SourceReader(object):
    """Makes sources for prediction of the lines of a text, chunk by chunk; answers and facts are not needed.

    # Arguments
        form: 'pairs': each line is a source. 'babi': each question about the statements above it is a source, a line
            with a tab or a question mark at its end. 'qa': each line is context, question and optionally an answer.
        place: name of the text in messages.
        as_it_is: Boolean, with 'pairs': lines that all have a tab are sources too. Otherwise they are refused, as they
            are the columns of a table.
    """

    def __init__(self, form, place, as_it_is=False):
        self.form, self.place, self.count, self.as_it_is = form, place, 0, as_it_is
        self._babi = _BabiStories(place, answers=False)

    def refuse_table(self, lines):
        """UserError: the first lines are those of a table."""
        cells = [line.split('\t') for line in lines if line.strip()]
        is_table = cells and all(len(row) > 1 and row[0].strip() and row[1].strip() for row in cells)
        require(self.form != 'pairs' or self.as_it_is or not is_table, '%s: each line has a tab, as a table has: give '
                'the column of the sources (cut -f1), score the second column with --score-pairs, or with --format '
                'pairs translate the lines as they are', self.place)

    def sources(self, lines):
        """Generator of the sources in the next lines, str. UserError: a malformed line, with its number."""
        if not self.count:
            self.refuse_table(lines)
        for line in lines:
            self.count += 1
            if self.form == 'babi':
                question = self._babi.read(self.count, line)
                if question:
                    yield question.source
            elif self.form == 'qa' and line.strip():
                fields = [field.strip() for field in line.split('\t')]
                if len(fields) not in (2, 3) or not all(fields[:2]):
                    raise UserError('%s: line %d: not context and question with a tab between them; for sources as '
                                    'they are give --format pairs, for bAbI stories --format babi'
                                    % (self.place, self.count))
                yield _question(fields[1], [fields[0]], '', []).source
            else:
                yield line


Support = collections.namedtuple('Support', 'share even questions')
Support.__doc__ = """Mean attention on the supporting statements.

`share` is the part of the attention, from 0 to 1, that falls on them; `even` is the part if attention were uniform over
the source; `questions` is the number of questions that count.
"""


Separators = collections.namedtuple('Separators', 'question_end sentence_ends marks')
Separators.__doc__ = """Source ids that divide `question | story`: the id of `|`, a tuple of those that end a sentence,
and a tuple of those among them that are no words."""
Separators.__new__.__defaults__ = (),

SENTENCE_ENDS = ('.', '!', '?', '\u3002', '\uff01', '\uff1f')


def separators(settings, vocabulary):
    """The `Separators` of a source vocabulary; `None` if the encoder of these settings needs none.

    # Raises
        UserError: the vocabulary has no `|`.
    """
    if settings.encoder == 'recurrent':
        return None
    ends = tuple(id_ for id_, token in enumerate(vocabulary.tokens) if token.endswith(SENTENCE_ENDS))
    marks = tuple(id_ for id_ in ends if vocabulary.tokens[id_].strip('\u2581') in SENTENCE_ENDS)
    question_ends = [id_ for id_, token in enumerate(vocabulary.tokens) if token.strip('\u2581') == '|']
    if not question_ends:
        raise UserError('--encoder %s needs sources of the form "question | story": no training source has a | that '
                        'is a token; choose --format babi or qa, or --encoder recurrent' % settings.encoder)
    return Separators(question_ends[0], ends, marks)


def supporting_positions(question, tokenize, lengths):
    """Positions in the source of all tokens of the supporting statements.

    # Arguments
        question: `Question`.
        tokenize: function that returns the tokens of a source.
        lengths: dict that keeps the number of tokens of each statement from one call to the next.

    # Returns
        List of int, counted from 0.
    """
    # No tokeniser joins tokens across the space between sentences, so their numbers of tokens can be added.
    head = question.source[:len(question.source) - len(' '.join(question.sentences))].rstrip()
    positions, end = [], len(tokenize(head))
    for index, sentence in enumerate(question.sentences):
        if sentence not in lengths:
            lengths[sentence] = len(tokenize(' ' + sentence))
        start, end = end, end + lengths[sentence]
        if index in question.supporting:
            positions += range(start, end)
    return positions


def attention_on_support(questions, alignments, tokenize):
    """Measures how much attention falls on the statements that decide the answer.

    # Arguments
        questions: list of `Question`; those without supporting statements or answer tokens do not count.
        alignments: for each a `(T, S)` array of attention weights.
        tokenize: function that returns the tokens of a source.

    # Returns
        A `Support`: the mean over target tokens, then over questions; NaN if no question counts.
    """
    shares, even, lengths = [], [], {}
    for question, alignment in zip(questions, alignments):
        if not question.supporting or not len(alignment):
            continue
        positions = supporting_positions(question, tokenize, lengths)
        shares.append(float(alignment[:, positions].sum(axis=1).mean()))
        even.append(len(positions) / float(alignment.shape[1]))
    count = len(shares)
    return Support(sum(shares) / count, sum(even) / count, count) if count else Support(float('nan'), float('nan'), 0)
