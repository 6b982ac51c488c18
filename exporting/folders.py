"""An exported folder appears whole: it is written beside its place, gets its manifest, and is renamed."""
import contextlib
import os
import shutil
import tempfile

from command_line import VERSION, require
from exporting.manifest import write_manifest
from storage.files import user_error


@contextlib.contextmanager
def new_folder(path, kind, run):
    """A hidden directory beside `path`; at the end it gets its manifest and this name: what is at `path` is complete.

    # Arguments
        path: a new directory.
        kind: value of `--format`.
        run: `RunDirectory` that is exported.
    """
    parent = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(parent, exist_ok=True)
        hidden = tempfile.mkdtemp(prefix='.export.', dir=parent)
    except OSError as error:
        raise user_error(path, 'cannot be created', error)
    try:
        model = os.path.join(hidden, 'model')
        yield model
        write_manifest(model, kind, version=VERSION, weights=run.manifest()['files']['weights.h5'])
        try:
            os.rename(model, path)
        except OSError:
            require(not os.path.lexists(path), '%s: another process has made it: name another directory', path)
            raise
    except OSError as error:
        raise user_error(path, 'cannot be written', error)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def write_files(path, kind, run, files):
    """Writes the folder of {name: bytes}. Arguments as for `new_folder`."""
    with new_folder(path, kind, run) as hidden:
        for name, data in files.items():
            os.makedirs(os.path.dirname(os.path.join(hidden, name)), exist_ok=True)
            with open(os.path.join(hidden, name), 'wb') as stream:
                stream.write(data)
