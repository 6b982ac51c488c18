"""Which cells of a table are the source and the target, or the context, the question and the answer.

By default they are the first cells of each row. A row of names above them, names in JSON or TMX, and `--columns` say so
otherwise. A table that is read in a way that nobody can have meant, such as numbers of lines as sources, is refused;
`--columns` reads it as it is.
"""
import functools
import itertools
import re

from command_line import UserError, require, tell
from text import readers
from text.text_files import read_lines

HEAD = 100      # rows that decide what a table consists of
FEW = 3         # rows that tell nothing yet
LANGUAGE_CODES = frozenset(
    'af am ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fr ga gl gu he hi hr ht hu hy id is it ja ka '
    'kk km ko lt lv mk ml mn mr ms mt my nb ne nl nn no pa pl ps pt ro ru si sk sl so sq sr sv sw ta te th tl tr '
    'uk ur uz vi yue zh afr ara bul cat ces cmn dan deu ell eng epo est eus fas fin fra heb hin hrv hun ind isl '
    'ita jpn kor lat lav lit mkd mya nld nob pol por ron rus slk slv spa sqi srp swe tam tha tur ukr urd vie '
    'zho'.split())
LANGUAGES = frozenset(
    'afrikaans albanian arabic armenian basque bengali bulgarian catalan chinese croatian czech danish dutch english '
    'esperanto estonian finnish french georgian german greek hebrew hindi hungarian icelandic indonesian irish italian '
    'japanese korean latin latvian lithuanian macedonian malay mandarin norwegian persian polish portuguese romanian '
    'russian serbian slovak slovenian spanish swahili swedish tamil thai turkish ukrainian urdu vietnamese welsh '
    '英文 中文 英语 汉语 源语言 目标语言'.split())
# The part of a row that a column of this name is; of a row of `pairs` and of one of `qa`.
PARTS = {
    'pairs': [frozenset('source src source_text input article document text 原文 源文'.split()),
              frozenset('target tgt trg target_text output summary highlights abstract translation 译文 摘要'.split())],
    'qa': [frozenset('context story passage paragraph 上下文'.split()), frozenset('question query 问题'.split()),
           frozenset('answer answers 答案'.split())]}
PART_NAMES = {'pairs': ('source', 'target'), 'qa': ('context', 'question', 'answer')}
NAMES = LANGUAGES.union(*PARTS['pairs'], *PARTS['qa'])
OTHER_NAMES = frozenset(['id', 'idx', 'index', '#', ''])  # of columns without text
NAME = re.compile(r'[^\W\d]\w*([ _.-]\w+){0,3}|#|')
# A cell as CSV writes it if it has quotes: an even number of them, twice each.
QUOTED = re.compile('"(?:[^"]*""[^"]*"")+[^"]*"')
WORD = re.compile(r'[A-Za-z]\w*([_.-]\w+){0,3}')


@functools.lru_cache(maxsize=1000)
def tell_once(text):
    """A text is read several times, but what is noticed in it is reported once."""
    tell(text)


def other_format(line, form):
    """The end of a message about a line that is not in the format `form`: the format that it seems to have."""
    tabs = line.count('\t')
    if form == 'pairs' and ' ||| ' in line:
        return "; replace its bars by tabs: sed 's/ ||| /\\t/'"
    if line.startswith('{'):
        return '; is this JSON, one object a line? Give the file a name that ends in .jsonl'
    if re.match('[0-9]+ ', line):
        what, other = 'a bAbI file', 'babi'
    else:
        what, other = {1: ('a file of source and target', 'pairs'),
                       2: ('a file of context, question and answer', 'qa')}.get(tabs, ('', form))
    return '' if other == form else '; is this %s? --format %s' % (what, other)


def read_columns(path, form, on_bad_utf8='error', columns=None):
    """Reads the rows of a table.

    # Arguments
        path: the file; `readers.layout` tells its layout.
        form: 'pairs' or 'qa'.
        on_bad_utf8: as for `text_files.read_lines`.
        columns: the setting: names of columns, numbers from 1, or languages, with commas between them. `None`: chosen
            by the names above the columns, or the first ones.

    # Returns
        Generator of (place, list of cells): source and target, or context, question and answer.

    # Raises
        UserError: a row without these cells, or a table that cannot be meant so; and as the readers.
    """
    chosen = None if columns is None else [name.strip() for name in columns.split(',')]
    require(chosen is None or len(chosen) == len(PARTS[form]) and all(name.strip('0') for name in chosen),
            '--columns takes names or numbers from 1, with commas between them, for %s, not %s',
            ','.join(PART_NAMES[form]), columns)
    if readers.layout(path) in ('json', 'tmx'):
        return _named_rows(path, form, on_bad_utf8, chosen)
    return _table_rows(path, form, on_bad_utf8, chosen)


# ---- Records: JSON and TMX ------------------------------------------------------------------------------------
def _named_rows(path, form, on_bad_utf8, chosen):
    is_tmx = readers.layout(path) == 'tmx'
    rows = readers.read_tmx(path) if is_tmx else readers.read_json(path, on_bad_utf8)
    names = None
    for place, record in rows:
        if names is None:
            if is_tmx and len(record) < 2:
                continue  # a unit of one language does not name the other
            names = _names_of(path, place, record, form, chosen)
        if is_tmx:
            yield place, [_of_language(record, name) for name in names]
        else:
            yield place, [_text(path, place, record, name, on_bad_utf8) for name in names]
    if names is None:
        raise UserError('%s: has no unit in two languages' % path if is_tmx else '%s: the file is empty' % path)


def _names_of(path, place, record, form, chosen):
    """The names of the fields, or languages, to read."""
    known = list(record)
    if chosen:
        for name in chosen:
            if name not in known and not (readers.layout(path) == 'tmx' and _of_language(record, name)):
                raise UserError('%s: %s: has no field %r of --columns: it has %s' % (path, place, name, _list(known)))
        return chosen
    names = _parts(known, form)
    if names is None and form == 'pairs' and _parts(known, 'qa'):
        raise UserError('%s: %s: has context, question and answer: give --format qa' % (path, place))
    if names is None and form == 'pairs':
        languages = [name for name in known if _is_language(name)]
        names = languages if len(languages) == 2 else known
        if len(names) == 2:
            tell_once('%s: %s is the source, %s the target; --columns %s,%s swaps them' % (path, *names, *names[::-1]))
    if names is None or len(names) != len(PARTS[form]):
        raise UserError('%s: %s: has the fields %s: choose those of %s with --columns %s' % (
            path, place, _list(known), ', '.join(PART_NAMES[form]), ','.join(PART_NAMES[form])))
    return names


def _text(path, place, record, name, on_bad_utf8):
    """A field as text: the first of a list of texts; '' for null, as of a question without an answer."""
    if name not in record:
        raise UserError('%s: %s: has no field %r' % (path, place, name))
    value = record[name]
    if isinstance(value, dict):
        value = value.get('text')
    if isinstance(value, list):
        value = value[0] if value else ''
    if value is None:
        value = ''
    if not isinstance(value, str):
        raise UserError('%s: %s: the field %r is no text' % (path, place, name))
    try:
        value.encode('utf-8')
    except UnicodeEncodeError:
        if on_bad_utf8 == 'error':
            raise UserError('%s: %s: the field %r has half of a surrogate pair: correct it or use --on-bad-utf8 replace'
                            % (path, place, name)) from None
        value = re.sub('[\ud800-\udfff]', '\ufffd', value)
    return readers.one_line(value)


def _of_language(unit, name):
    """The text of a language, '' if the unit has none; `en` names `en-US` too."""
    def normal(language):
        return language.lower().replace('_', '-')
    return next((unit[language] for language in unit if normal(language) == normal(name)), '') or next(
        (unit[language] for language in unit if normal(language).split('-')[0] == normal(name).split('-')[0]), '')


# ---- Tables: rows of cells ------------------------------------------------------------------------------------
def _table_rows(path, form, on_bad_utf8, chosen):
    is_csv = readers.layout(path) == 'csv'
    rows = readers.read_csv(path, on_bad_utf8) if is_csv else _text_rows(path, on_bad_utf8)
    head = list(itertools.islice(rows, HEAD))
    if not is_csv and are_quoted([cells for _, cells in head]):
        tell_once('%s: each of its cells is in quotes, as in CSV: they are removed' % path)
        rows, is_csv = readers.read_csv(path, on_bad_utf8, '\t'), True
        head = list(itertools.islice(rows, HEAD))
    indices, has_names = _choose(path, form, [cells for _, cells in head], chosen)
    exact, last = form == 'qa' and not chosen and not has_names, max(indices)
    for place, cells in itertools.chain(head[has_names:], rows):
        if len(cells) <= last or exact and (len(cells) != 3 or not all(map(str.strip, cells))):
            raise UserError(_no_cells(path, form, place, cells, indices, chosen or has_names or is_csv))
        yield place, [cells[index] for index in indices]
    if not head:
        raise UserError('%s: the file is empty' % path)


def _text_rows(path, on_bad_utf8):
    for number, line in enumerate(read_lines(path, on_bad_utf8), 1):
        yield 'line %d' % number, line.split('\t')


def _no_cells(path, form, place, cells, indices, is_chosen):
    if is_chosen:
        return '%s: %s: has no column %d, only %d' % (path, place, max(indices) + 1, len(cells))
    problem = {'pairs': 'no tab between source and target',
               'qa': 'not context, question and answer with a tab between them'}[form]
    return '%s: %s: %s%s' % (path, place, problem, other_format('\t'.join(cells), form))


def _choose(path, form, rows, chosen):
    """The indices of the columns to read, and whether the first row names the columns."""
    has_names = are_names(rows)
    first = [cell.strip() for cell in rows[0]] if rows else []
    if chosen:
        if not all(map(str.isdecimal, chosen)):
            for name in chosen:
                if name not in first:
                    raise UserError('%s: line 1: no column has the name %r of --columns: the cells are %s'
                                    % (path, name, _list(first)))
            return [first.index(name) for name in chosen], True
        indices = [int(number) - 1 for number in chosen]
    elif has_names:
        indices = _by_names(path, form, first)
    else:
        _refuse_what_cannot_be_meant(path, form, rows)
        indices = list(range(len(PARTS[form])))
        _warn_of_doubtful(path, rows, indices)
    if has_names:
        tell_once('%s: line 1 names the columns: %s' % (path, ', '.join(
            'the %s is column %d%s' % (part, index + 1, ', %r' % first[index] if index < len(first) else '')
            for part, index in zip(PART_NAMES[form], indices))))
    return indices, has_names


def _by_names(path, form, first):
    names = [cell.lower() for cell in first]
    found = _parts(names, form)
    if found:
        return [names.index(name) for name in found]
    if form == 'pairs' and _parts(names, 'qa'):
        raise UserError('%s: line 1 names context, question and answer: give --format qa, or choose two columns with '
                        '--columns' % path)
    texts = [index for index, name in enumerate(names) if name not in OTHER_NAMES]
    languages = [index for index in texts if _is_language(names[index])]
    indices = languages if len(languages) == 2 else texts
    require(form == 'pairs' and len(indices) > 1, '%s: line 1: the columns are %s: choose those of %s with --columns',
            path, _list(first), ', '.join(PART_NAMES[form]))
    return indices[:2]


def _parts(names, form):
    """The name of each part among `names`; `None` if one is missing."""
    found = [next((name for name in names if name.lower() in part), None) for part in PARTS[form]]
    return None if None in found else found


def _is_language(name):
    name = name.lower()
    return name in LANGUAGES or re.split('[-_]', name)[0] in LANGUAGE_CODES and len(name) < 8


def _list(names):
    text = ', '.join(map(repr, names))
    return text if len(text) < 200 else text[:200] + '...'


# ---- What is noticed ------------------------------------------------------------------------------------------
def are_quoted(rows):
    """Whether each cell of a text is in quotes, as a spreadsheet writes it."""
    return len(rows) >= FEW and all(len(cells) > 1 and all(
        len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells) for cells in rows)


def are_names(rows):
    """Whether the first row names the columns: at least two names that are no text, such as `source` or `German`.

    The codes of languages are words too ("it", "no"): they count only above rows of several words.
    """
    if len(rows) < 2 or len(rows[0]) < 2:
        return False
    names = [cell.strip().lower() for cell in rows[0]]
    if len(set(names)) < len(names) or not all(NAME.fullmatch(name) and len(name) < 40 for name in names):
        return False
    known = [name in NAMES for name in names]
    if sum(known) > 1:
        return True
    columns = [index for index, name in enumerate(names) if known[index] or _is_language(name)]
    return len(columns) > 1 and _is_unlike(rows, columns)


def _is_unlike(rows, columns):
    """Whether no row after the first has a single word in each of these columns."""
    return not any(all(index < len(cells) and WORD.fullmatch(cells[index].strip()) for index in columns)
                   for cells in rows[1:])


def _refuse_what_cannot_be_meant(path, form, rows):
    if len(rows) < FEW or len({len(cells) for cells in rows}) > 1:
        return
    columns, count = list(zip(*rows)), len(PARTS[form])
    asks = [all(cell.rstrip().endswith(('?', '\uff1f')) for cell in column) for column in columns]
    never = [not any(cell.rstrip().endswith(('?', '\uff1f')) for cell in column) for column in columns]
    if len(columns) > count:
        texts = [index for index, column in enumerate(columns) if not _number_rows(column)]
        others = sorted(set(range(count)) - set(texts))
        if others and len(texts) >= count:
            raise UserError('%s: line 1: column %d numbers the rows: choose the columns of text with --columns %s, or '
                            'with --columns %s read it as it is'
                            % (path, others[0] + 1, _numbers(texts[:count]), _numbers(range(count))))
    if form == 'pairs' and len(columns) == 3:
        if asks[1] and never[0]:
            raise UserError('%s: has context, question and answer: give --format qa, or with --columns 1,2 read the '
                            'first two columns as they are' % path)
        if asks[0] and never[1] and all(answer.strip() in context for _, context, answer in rows):
            raise UserError('%s: has question, context and answer: give --format qa --columns 2,1,3, or with --columns '
                            '1,2 read the first two columns as they are' % path)
    if form == 'qa' and len(columns) == 3 and asks[0] and never[1]:
        raise UserError('%s: the question comes before the context: give --columns 2,1,3, or with --columns 1,2,3 read '
                        'them as they are' % path)


def _numbers(indices):
    return ','.join(str(index + 1) for index in indices)


def _number_rows(column):
    """Whether the cells are ascending numbers, alone or after one name, as in train_17."""
    parts = [re.fullmatch(r'([\w./:-]*?)([0-9]{1,18})', cell.strip()) for cell in column]
    if not all(parts) or len({part.group(1) for part in parts}) > 1:
        return False
    numbers = [int(part.group(2)) for part in parts]
    return all(one < other for one, other in zip(numbers, numbers[1:]))


def _warn_of_doubtful(path, rows, indices):
    columns = [index for index in indices if rows and index < len(rows[0])]
    if len(rows) > 20 and len(columns) > 1 and _is_unlike(rows, columns) and all(
            WORD.fullmatch(rows[0][index].strip()) for index in columns):
        tell_once('warning: %s: line 1 (%s) is unlike the others: if it names the columns, give --columns %s' % (
            path, _list(rows[0]), ','.join(rows[0][index].strip() for index in columns)))
    for number, cells in enumerate(rows, 1):
        if any(QUOTED.fullmatch(cell) for cell in cells):
            tell_once('warning: %s: line %d is quoted as in CSV: give the file a name that ends in .csv to remove the '
                      'quotes' % (path, number))
            return
