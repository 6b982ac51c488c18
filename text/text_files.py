"""Lines of text files: strict UTF-8, plain or packed, with limits on what a file may do to the process."""
import bz2
import codecs
import gzip
import io
import lzma
import os
import re
import shlex
import zlib

from command_line import UserError
from storage.files import open_regular, user_error

# A longer line is refused: without a limit, an endless "line" would fill the memory. In bytes, 16 MiB.
LONGEST_LINE = 2 ** 24
# Packed files by the end of their names: how they open, and what messages call them.
PACKED = {'.gz': (gzip.open, 'gzip'), '.bz2': (bz2.open, 'bzip2'), '.xz': (lzma.open, 'xz')}
# What data of other kinds begin with, as a pattern, what they are, and the remedy.
OTHER_KINDS = (
    (b'\x1f\x8b', 'gzip data', 'unpack it with zcat, or give the file a name that ends in .gz'),
    (b'BZh[1-9]1AY&SY', 'bzip2 data', 'unpack it with bzcat, or give the file a name that ends in .bz2'),
    (b'\xfd7zXZ\0', 'xz data', 'unpack it with xzcat, or give the file a name that ends in .xz'),
    (b'\\x28\xb5\x2f\xfd', 'zstd data', 'unpack it with zstd -d'),
    (b'PK\3\4', 'a zip archive', 'unpack it with unzip {file} and name the files inside; save a spreadsheet as CSV'),
    (b'PAR1[\x10-\x1f]', 'a parquet file', 'convert it where pandas and pyarrow are: python3 -c "import pandas, sys; '
     "pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], 'records', lines=True, force_ascii=False)\" "
     '{file} {base}.jsonl'))
UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_lines(stream, name, on_bad_utf8='error'):
    """Decodes the lines of a binary stream.

    # Arguments
        stream: iterable of bytes, one item for each line with its line feed.
        name: the name of the stream in messages.
        on_bad_utf8: 'error' refuses bytes that are not UTF-8; 'replace' puts U+FFFD in their place.

    # Returns
        Generator of str: lines split at line feeds only, without a trailing carriage return and without a leading BOM.

    # Raises
        UserError: bytes that are not UTF-8, with line and byte; a line of more than `LONGEST_LINE` bytes; gzip or
            UTF-16; a single line whose parts end in carriage returns.
    """
    errors = {'error': 'strict', 'replace': 'replace'}[on_bad_utf8]
    for number, raw in enumerate(stream, 1):
        if len(raw) > LONGEST_LINE:
            raise UserError('%s: line %d has more than %d bytes: is this a text file with a line feed after each line?'
                            % (name, number, LONGEST_LINE))
        if number == 1:
            _refuse_other_formats(raw, name)
        if number == 1 and raw.startswith(codecs.BOM_UTF8):
            raw = raw[len(codecs.BOM_UTF8):]
            if not raw:  # a file of a BOM only is an empty file
                return
        for ending in (b'\n', b'\r'):
            raw = raw[:-1] if raw.endswith(ending) else raw
        try:
            yield raw.decode('utf-8', errors)
        except UnicodeDecodeError as error:
            raise UserError('%s: line %d, byte %d: 0x%02X is not valid UTF-8; convert the file to UTF-8 or use '
                            '--on-bad-utf8 replace' % (name, number, error.start + 1, raw[error.start])) from None


def _refuse_other_formats(raw, name):
    """Refuses data whose first line shows another format: replacing its bytes would produce garbage."""
    for beginning, kind, remedy in OTHER_KINDS:
        if re.match(beginning, raw):
            file = shlex.quote(name)
            raise UserError('%s: is %s: %s' % (name, kind, remedy.replace('{file}', file).replace(
                '{base}', os.path.splitext(file)[0])))
    # Without a byte order mark, UTF-16 of European text has a zero in every second byte.
    if raw.startswith(UTF16_BOMS) or len(raw) >= 8 and 4 * raw.count(b'\0') >= len(raw):
        raise UserError('%s: is UTF-16 or binary: convert a text with iconv -f UTF-16 -t UTF-8' % name)
    if b'\r' in raw.rstrip(b'\r') and not raw.endswith(b'\n'):
        raise UserError('%s: its line ends are carriage returns only: convert them to line feeds, for example with '
                        "tr '\\r' '\\n'" % name)


def read_lines(path, on_bad_utf8='error'):
    """Reads the lines of a text file; a name that ends in `.gz`, `.bz2` or `.xz` is unpacked.

    # Arguments
        path, on_bad_utf8: the file, and what `decode_lines` does with bytes that are not UTF-8.

    # Returns
        Generator of str, as `decode_lines`.

    # Raises
        UserError: the file cannot be read, or its packed data are damaged; and as `decode_lines`.
    """
    number = 0
    try:
        with open_packed(path) as stream:
            # The limit keeps an endless line out of the memory.
            raw_lines = iter(lambda: stream.readline(LONGEST_LINE + 1), b'')
            for number, line in enumerate(decode_lines(raw_lines, path, on_bad_utf8), 1):
                yield line
    except READ_ERRORS as error:
        raise read_error(path, error, number) from None


READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)


def open_packed(path):
    """The bytes of a file, unpacked, as a binary stream. Opening and reading raise one of `READ_ERRORS`."""
    ending = os.path.splitext(path)[1]
    # The buffer makes `readline` a call in C for packed files too.
    return io.BufferedReader(PACKED[ending][0](path)) if ending in PACKED else open(path, 'rb')


def read_error(path, error, number):
    """The `UserError` for one of `READ_ERRORS` after `number` lines of a file."""
    if isinstance(error, OSError) and error.strerror is not None:
        return user_error(path, 'cannot be read', error)
    _, kind = PACKED[os.path.splitext(path)[1]]
    if isinstance(error, EOFError):
        return UserError('%s: %s data cut short after line %d; fetch the file again' % (path, kind, number))
    return UserError('%s: damaged or missing %s data: %s' % (path, kind, error))


def require_regular_file(path):
    """Refuses folders, pipes and devices.

    # Raises
        UserError: `path` does not exist or is not a regular file.
    """
    try:
        open_regular(path, links=True, remedy='the text is read more than once, so write it to a file first').close()
    except OSError as error:
        raise user_error(path, 'cannot be read', error) from None
