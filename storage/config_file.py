"""Settings as JSON: a run's config.json and the files of `--config`, read strictly and written."""
import collections
import difflib

from command_line import UserError, require
from storage.files import parse_json, show, to_json, user_error
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
    checked = collections.OrderedDict()
    for key, row in SETTINGS.items():
        if key in values:
            require(row.accepts(values[key]), '%s: setting %r must be %s, not %s', name, key, row.expected,
                    show(values[key]))
            checked[key] = float(values[key]) if row.kind is float else values[key]
    return checked


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
