"""Settings as JSON: a run's config.json and the files of `--config`, read strictly and written."""
import collections
import difflib

from command_line import UserError, require
from settings import ADDED, CONFIG_VERSION, SETTINGS
from storage.files import parse_json, show, to_json, user_error


def check_config(values, name, complete=True):
    """The settings in `values`, checked against `settings.SETTINGS`, in the order of the table.

    # Arguments
        values: dict from JSON. It must have `version` where `complete`, and may have it elsewhere.
        name: the file's name for messages.
        complete: every setting must be present but those of `settings.ADDED` (config.json of a run), or any number of
            them may be (`--config`).

    # Returns
        OrderedDict of the settings, without `version`; whole numbers are made float where the table says so.

    # Raises
        UserError: unknown (with the nearest known name) or missing key, wrong type, range or choice, newer version.
    """
    version = values.get('version', None if complete else CONFIG_VERSION)
    require(type(version) is int and version >= 1, '%s: "version" must be a whole number such as %d, not %s', name,
            CONFIG_VERSION, show(version))
    require(version <= CONFIG_VERSION, '%s: has version %d, and this program knows versions up to %d: use the newer '
            'program that wrote it', name, version, CONFIG_VERSION)
    for key in values:
        if key != 'version' and key not in SETTINGS:
            nearest = difflib.get_close_matches(key[:100], SETTINGS, 1)
            hint = 'did you mean %r?' % nearest[0] if nearest else 'see train.py --help-all for the settings'
            raise UserError('%s: unknown setting %s: %s' % (name, show(key), hint))
    if complete:
        values = dict(ADDED, **values)
    missing = [key for key in SETTINGS if key not in values]
    require(not (complete and missing), '%s: setting %r is missing: a run records every setting', name,
            missing[0] if missing else '')
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
    """The settings in a file of the user, any number of them, such as the config.json of another run."""
    try:
        with open(path, 'rb') as stream:
            content = stream.read(2 ** 20)
    except OSError as error:
        raise user_error(path, 'cannot be read', error) from error
    return check_config(parse_json(content, path), path, complete=False)
