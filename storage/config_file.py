"""Settings as JSON: a run's config.json and the files of `--config`, read strictly and written."""
import collections
import difflib

from storage.files import parse_json, show, to_json, user_error
from command_line import UserError
from settings import CONFIG_VERSION, SETTINGS


def check_config(values, name, complete=True):
    """The settings in `values`, checked against `settings.SETTINGS`, in the order of the table.

    # Arguments
        values: dict from JSON. `version` is needed where `complete`, and else may be there.
        name: the file's name for messages.
        complete: every setting must be there (config.json of a run), or any number of them (`--config`).

    # Returns
        OrderedDict of the settings that are there, without `version`; whole numbers made float where the table says so.

    # Raises
        UserError: unknown (with the nearest known name) or missing key, wrong type or choice, newer version.
    """
    version = values.get('version', None if complete else CONFIG_VERSION)
    if type(version) is not int or version < 1:
        raise UserError(f'{name}: "version" must be a whole number such as {CONFIG_VERSION}, not {show(version)}')
    if version > CONFIG_VERSION:
        raise UserError(f'{name}: has version {version}, and this program knows versions up to {CONFIG_VERSION}: '
                        'use the newer program that wrote it')
    for key in values:
        if key != 'version' and key not in SETTINGS:
            nearest = difflib.get_close_matches(key[:100], SETTINGS, 1)
            hint = f'did you mean {nearest[0]!r}?' if nearest else 'see --help for the settings'
            raise UserError(f'{name}: unknown setting {show(key)}: {hint}')
    missing = [key for key in SETTINGS if key not in values]
    if complete and missing:
        raise UserError(f'{name}: setting {missing[0]!r} is missing: each setting of a run must be there')
    return collections.OrderedDict(
        (key, _check_setting(row, values[key], name)) for key, row in SETTINGS.items() if key in values)


def config_bytes(config, name='config.json'):
    """The bytes of config.json: every setting, with the version of their meaning."""
    checked = check_config(dict(config, version=CONFIG_VERSION), name)
    return to_json(collections.OrderedDict([('version', CONFIG_VERSION), *checked.items()]))


def read_config_file(path):
    """The settings in a file of the user's, any number of them, such as the config.json of another run."""
    try:
        with open(path, 'rb') as stream:
            content = stream.read(2 ** 20)
    except OSError as error:
        raise user_error(path, 'cannot be read', error) from error
    return check_config(parse_json(content, path), path, complete=False)


def _check_setting(row, value, name):
    numbers = {int: (int,), float: (int, float)}
    if value is None and row.default is None:
        return None
    if row.kind in numbers:
        # No setting of the table means anything below zero.
        valid = type(value) in numbers[row.kind] and 0 <= value < (2 ** 53 if row.kind is int else float('inf'))
        needed = 'a whole number from 0' if row.kind is int else 'a number from 0'
    elif row.kind is bool:
        valid, needed = type(value) is bool, 'true or false'
    elif row.kind == 'files':
        valid = isinstance(value, list) and len(value) in (1, 2) and all(map(_is_text, value))
        needed = 'a list of one or two paths'
    else:
        valid, needed = _is_text(value), 'a text'
    if row.choices and value not in row.choices:
        valid, needed = False, 'one of ' + ', '.join(row.choices)
    if not valid:
        raise UserError(f'{name}: setting {row.name!r} must be {needed}, not {show(value)}')
    return float(value) if row.kind is float else value


def _is_text(value):
    """Text that can be a path: no NUL, and no lone surrogates but those that Python makes of a path's odd bytes."""
    try:
        return isinstance(value, str) and b'\0' not in value.encode('utf-8', 'surrogateescape')
    except UnicodeEncodeError:
        return False
