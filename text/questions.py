"""Questions about stories: the bAbI format and a table of context, question and answer, as pairs of text.

The encoder reads `question | story`, the question first, so that it knows what is asked when it comes to the story; the
decoder writes the answer.
"""
import collections

from text.corpus import load_pairs, read_lines
from command_line import UserError

Question = collections.namedtuple('Question', 'source answer sentences supporting')
Question.__doc__ = """`source` the text that the encoder reads; `sentences` those of the story, and `supporting` the
places from 0 of those that decide the answer, empty where the file does not tell."""


def load(paths, form='pairs', on_bad_utf8='error'):
    """[(source text, target text)] of files in one of the formats of `--format`; `pairs` as in `data.load_pairs`."""
    if form == 'pairs':
        return load_pairs(paths, on_bad_utf8)
    return [(one.source, one.answer) for one in load_questions(paths, form, on_bad_utf8)]


def load_questions(paths, form, on_bad_utf8='error'):
    """List of `Question` of one file.

    # Arguments
        form: 'babi': lines "number statement" and "number question<TAB>answer<TAB>numbers of supporting statements"
            (the last may be left out), number 1 beginning a story, items of an answer parted by commas; or 'qa':
            lines "context<TAB>question<TAB>answer".

    # Raises
        UserError: a line that is neither, with file and line; and as `data.read_lines`.
    """
    if len(paths) != 1:
        raise UserError('--format %s takes one file, not %s' % (form, ' and '.join(paths)))
    read = {'babi': _babi, 'qa': _table}[form]
    questions = list(read(paths[0], enumerate(read_lines(paths[0], on_bad_utf8), 1)))
    if not questions:
        raise UserError('%s: has no question' % paths[0])
    return questions


def _question(question, sentences, answer, supporting):
    return Question('%s | %s' % (question, ' '.join(sentences)), answer, sentences, supporting)


def _table(path, lines):
    for number, line in lines:
        fields = [field.strip() for field in line.split('\t')]
        if len(fields) != 3 or not all(fields):
            raise UserError('%s: line %d: not context, question and answer with a tab between them' % (path, number))
        yield _question(fields[1], [fields[0]], fields[2], [])


def _babi(path, lines):
    story, last = collections.OrderedDict(), 0  # statements by their numbers

    def refuse(unless, what):
        if not unless:
            raise UserError('%s: line %d: %s' % (path, number, what))

    for number, line in lines:
        if not line.strip():
            continue
        count, _, rest = line.partition(' ')
        fields = [field.strip() for field in rest.split('\t')]
        refuse(count.isdigit() and len(count) < 10, 'does not begin with a number and a blank')
        refuse(int(count) in (1, last + 1), 'has number %s after %d: a story counts on by one, or begins again with 1'
               % (count, last))
        story, last = (story, int(count)) if count != '1' else (collections.OrderedDict(), 1)
        refuse(fields[0], 'has no text')
        if len(fields) == 1:
            story[last] = fields[0]
            continue
        refuse(len(fields) <= 3 and fields[1], 'not question, answer and perhaps supporting facts, with tabs between')
        facts = fields[2].split() if len(fields) == 3 else []
        refuse(story, 'a question before any statement')
        places = {str(key): place for place, key in enumerate(story)}
        for fact in facts:
            refuse(fact in places, 'supporting fact %s is no statement of this story before the question' % fact[:20])
        # A blank behind each comma: so the tokenisers write a list, and an answer can be equal.
        answer = ', '.join(item.strip() for item in fields[1].split(','))
        yield _question(fields[0], list(story.values()), answer, sorted({places[fact] for fact in facts}))


Support = collections.namedtuple('Support', 'share even questions')
Support.__doc__ = """Shares of attention on the supporting statements, of 1: as it was, and as it would be if it were
even over the source; over how many questions."""


def attention_on_support(questions, alignments, tokenize):
    """How much attention falls on the statements that decide the answer, in the mean over tokens and then questions.

    # Arguments
        questions: list of `Question`; only those with supporting statements and an answer count.
        alignments: for each a `(T, S)` array of attention weights.
        tokenize: function that gives a source's tokens.
    """
    shares, even = [], []
    for one, alignment in zip(questions, alignments):
        if not one.supporting or not len(alignment):
            continue
        # Where each sentence ends: no tokeniser joins across the blank before the next one.
        head = one.source[:len(one.source) - len(' '.join(one.sentences))]
        ends = [len(tokenize((head + ' '.join(one.sentences[:i])).rstrip())) for i in range(len(one.sentences) + 1)]
        inside = [position for place in one.supporting for position in range(ends[place], ends[place + 1])]
        shares.append(float(alignment[:, inside].sum(axis=1).mean()))
        even.append(len(inside) / float(alignment.shape[1]))
    count = len(shares)
    return Support(sum(shares) / count, sum(even) / count, count) if count else Support(float('nan'), float('nan'), 0)
