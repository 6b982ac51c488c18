"""Tables in the forms in which people have them: tab-separated and comma-separated text, JSON, TMX.

Each reader is a generator of the rows of a file, one at a time: (place, cells), where `place` names the row in
messages. Cells are a list, or a dict where the format gives them names. Standard library only.
"""
import csv
import itertools
import json
import os
import re
from xml.parsers import expat

from command_line import UserError
from storage.files import load_json
from text.text_files import LONGEST_LINE, PACKED, READ_ERRORS, open_packed, read_error, read_lines

# The ends of names, before those of packed files, that tell a layout; every other file is plain text.
LAYOUTS = {'.csv': 'csv', '.jsonl': 'json', '.ndjson': 'json', '.json': 'json', '.tmx': 'tmx'}
LARGEST_DOCUMENT = 2 ** 28  # bytes of a JSON document, which is read as a whole; JSON lines have no limit
DELIMITERS = ',;\t'


def layout(path):
    """The layout of a file, by the end of its name: 'text', 'csv', 'json' or 'tmx'."""
    name, ending = os.path.splitext(path)
    if ending in PACKED:
        ending = os.path.splitext(name)[1]
    return LAYOUTS.get(ending.lower(), 'text')


def one_line(text):
    """A cell as one line: a line feed or tab within it becomes a space."""
    return re.sub('[\t\r\n]+', ' ', text)


# ---- Comma-separated and quoted text --------------------------------------------------------------------------
def read_csv(path, on_bad_utf8='error', delimiter=None):
    """Rows of a CSV file, (place, list of cells); empty lines are no rows.

    # Arguments
        path, on_bad_utf8: as for `text_files.read_lines`.
        delimiter: by default the first of `,`, `;` and tab that divides the first row.

    # Raises
        UserError: quotes that are no CSV, a cell of more than `LONGEST_LINE` characters; and as `read_lines`.
    """
    csv.field_size_limit(LONGEST_LINE)
    lines = (line + '\n' for line in read_lines(path, on_bad_utf8))
    if delimiter is None:
        first = next(lines, '')
        lines = itertools.chain([first], lines)
        unquoted = re.sub('"[^"]*"?', '', first)
        delimiter = next((mark for mark in DELIMITERS if mark in unquoted), ',')
    reader, number = csv.reader(lines, delimiter=delimiter, strict=True), 1
    try:
        for cells in reader:
            if cells:
                yield 'line %d' % number, list(map(one_line, cells))
            number = reader.line_num + 1
    except csv.Error as error:
        raise UserError('%s: line %d: the row that begins here is not CSV (%s): close each quote, and write a quote '
                        'within quotes twice' % (path, number, error)) from None


# ---- JSON -----------------------------------------------------------------------------------------------------
def read_json(path, on_bad_utf8='error'):
    """Rows of a file of JSON lines, or of one JSON document: (place, dict of the fields of a record).

    A record whose field `translation` is an object is that object. A document is a list of records, alone or as the
    field `data` of an object, or the paragraphs of SQuAD, whose questions are records of context, question and answer.

    # Raises
        UserError: a line that is no JSON object, a document of another form or of more than `LARGEST_DOCUMENT` bytes;
            and as `read_lines`.
    """
    if _is_document(path):
        rows = enumerate(_records(path, _document(path, on_bad_utf8)), 1)
        word = 'record'
    else:
        rows = ((number, _parse(path, 'line %d' % number, line))
                for number, line in enumerate(read_lines(path, on_bad_utf8), 1) if line.strip())
        word = 'line'
    for number, record in rows:
        place = '%s %d' % (word, number)
        if not isinstance(record, dict):
            raise UserError('%s: %s: is not a JSON object such as {"source": "...", "target": "..."}' % (path, place))
        inner = record.get('translation')
        yield place, inner if isinstance(inner, dict) else record


def _is_document(path):
    """Whether a `.json` file is one document: its first line is no whole object, or begins the only one of SQuAD."""
    if not re.search(r'\.json(\.[^.]*)?$', path):
        return False
    try:
        with open_packed(path) as stream:
            first = stream.readline(LONGEST_LINE).decode('utf-8-sig', 'replace').strip()
    except READ_ERRORS as error:
        raise read_error(path, error, 0) from None
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return not isinstance(record, dict) or isinstance(record.get('data'), list)


def _document(path, on_bad_utf8):
    try:
        with open_packed(path) as stream:
            data = stream.read(LARGEST_DOCUMENT + 1)
    except READ_ERRORS as error:
        raise read_error(path, error, 0) from None
    if len(data) > LARGEST_DOCUMENT:
        raise UserError('%s: is a JSON document of more than %d bytes: write it as JSON lines, one object a line, in a '
                        'file whose name ends in .jsonl' % (path, LARGEST_DOCUMENT))
    try:
        text = data.decode('utf-8-sig', {'error': 'strict', 'replace': 'replace'}[on_bad_utf8])
    except UnicodeDecodeError as error:
        raise UserError('%s: byte %d: 0x%02X is not valid UTF-8; convert the file to UTF-8 or use --on-bad-utf8 replace'
                        % (path, error.start + 1, data[error.start])) from None
    return _parse(path, 'the document', text)


def _parse(path, place, text):
    try:
        return load_json(text, finite=False)
    except (ValueError, RecursionError) as error:
        raise UserError('%s: %s: not valid JSON: %s' % (path, place, ' '.join(str(error).split())[:200])) from None


def _records(path, value):
    """The records of a document."""
    if isinstance(value, dict):
        value = value.get('data')
    if not isinstance(value, list):
        raise UserError('%s: this JSON document is neither a list of records nor SQuAD: write one object a line, in a '
                        'file whose name ends in .jsonl' % path)
    for item in value:
        if isinstance(item, dict) and 'paragraphs' in item:
            try:
                yield from _squad(item['paragraphs'])
            except (KeyError, TypeError, IndexError, AttributeError):
                raise UserError('%s: is not SQuAD: each of its paragraphs needs "context" and "qas", and those '
                                '"question" and "answers" with "text"' % path) from None
        else:
            yield item


def _squad(paragraphs):
    for paragraph in paragraphs:
        for question in paragraph['qas']:
            yield {'context': paragraph['context'], 'question': question['question'],
                   'answers': [answer['text'] for answer in question['answers']]}


# ---- TMX ------------------------------------------------------------------------------------------------------
def read_tmx(path):
    """Units of a translation memory, (place, {language: text}); the language of the sources comes first.

    # Raises
        UserError: the file is no XML, or declares entities, which could fill the memory or name other files.
    """
    reader = _Tmx(path)
    try:
        with open_packed(path) as stream:
            for block in iter(lambda: stream.read(2 ** 16), b''):
                yield from reader.feed(block)
        yield from reader.feed(b'', True)
    except READ_ERRORS as error:
        raise read_error(path, error, reader.parser.CurrentLineNumber) from None


class _Tmx(object):
    """Parses TMX as it comes. Expat neither opens nor fetches anything; a declaration of an entity is refused."""

    CODES = ('bpt', 'ept', 'it', 'ph', 'ut')  # elements that hold mark-up, not text

    def __init__(self, path):
        self.path, self.source, self.units, self.open = path, None, [], []
        self.unit, self.language, self.pieces, self.size = None, None, None, 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self.parser.SkippedEntityHandler = self._entity

    def feed(self, data, last=False):
        """The units that end in these bytes."""
        try:
            self.parser.Parse(data, last)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise UserError('%s: is not valid XML: %s' % (self.path, error)) from None
        units, self.units = self.units, []
        return units

    def _fail(self, problem):
        raise UserError('%s: line %d: %s' % (self.path, self.parser.CurrentLineNumber, problem))

    def _entity(self, name, *_):
        self._fail('the entity %s: write its text instead' % name[:40])

    def _start(self, name, attributes):
        self.open.append(name)
        if name == 'header':
            language = attributes.get('srclang', '*all*')
            self.source = None if language == '*all*' else language
        elif name == 'tu':
            self.unit, self.place = {}, 'line %d' % self.parser.CurrentLineNumber
        elif name == 'tuv' and self.unit is not None:
            self.language = attributes.get('xml:lang', attributes.get('lang'))
            if not self.language:
                self._fail('a <tuv> without xml:lang')
        elif name == 'seg' and self.unit is not None and self.language:
            self.pieces, self.size = [], 0

    def _text(self, text):
        if self.pieces is not None and not any(code in self.open for code in self.CODES):
            self.pieces.append(text)
            self.size += len(text)
            if self.size > LONGEST_LINE:
                self._fail('a <seg> of more than %d characters' % LONGEST_LINE)

    def _end(self, name):
        self.open.pop()
        if name == 'seg' and self.pieces is not None:
            self.unit.setdefault(self.language, one_line(''.join(self.pieces)).strip())
            self.pieces = None
        elif name == 'tuv':
            self.language = None
        elif name == 'tu' and self.unit is not None:
            names = sorted(self.unit, key=lambda language: language != self.source)
            self.units.append((self.place, {language: self.unit[language] for language in names}))
            self.unit = None
