"""The manifest of an exported folder: the SHA-256 of each of its files, which the reader of the folder checks.

    python3 exporting/manifest.py served/translate/1        # has the folder been damaged or changed?

Standard library only, for any Python 3: the check runs without this project, and an ONNX folder has a copy.
"""
import hashlib
import json
import os
import sys

NAME = 'manifest.json'
FORMAT = 'global-attention export'


def write_manifest(path, kind, **about):
    """Writes the manifest of the files in a folder, which are complete.

    # Arguments
        path: the folder.
        kind: what it is, such as `onnx`.
        about: more values for JSON.
    """
    files = {}
    for folder, _, names in os.walk(path):
        for name in names:
            with open(os.path.join(folder, name), 'rb') as stream:
                relative = os.path.relpath(os.path.join(folder, name), path).replace(os.sep, '/')
                files[relative] = hashlib.sha256(stream.read()).hexdigest()
    with open(os.path.join(path, NAME), 'w', encoding='ascii', newline='\n') as stream:
        json.dump(dict(about, format=FORMAT, kind=kind, files=files), stream, indent=1, sort_keys=True)
        stream.write('\n')


class Folder(object):
    """An exported folder: reads its files only as they were exported.

    # Arguments
        path: the folder.
        error: class of the exception for a damaged folder, such as `UserError`; its message is one line.

    `files` has the names of the files, with `/` between folders, and their SHA-256.
    """

    def __init__(self, path, error):
        self.path, self._error = path, error
        try:
            # Nothing here uses a number, and one of a million digits would take minutes to read.
            manifest = json.loads(self._bytes(NAME).decode('utf-8'), parse_int=str, parse_float=str)
            self.files = manifest['files']
            fits = manifest['format'] == FORMAT and isinstance(self.files, dict)
        except (ValueError, LookupError, TypeError, RecursionError):
            fits = False
        if not fits:
            self._refuse(NAME, 'is not the manifest of an exported folder')

    def file(self, name):
        """The path of a file."""
        return os.path.join(self.path, *name.split('/'))

    def read_file(self, name):
        """The bytes of a file, which have the hash of the manifest."""
        if name not in self.files:
            self._refuse(name, 'is not in ' + NAME)
        data = self._bytes(name)
        if hashlib.sha256(data).hexdigest() != self.files[name]:
            self._refuse(name, 'is not as it was exported (its SHA-256 is not that in %s)' % NAME)
        return data

    def check(self, ending=''):
        """Checks all files whose names have this ending. Returns their number."""
        names = [name for name in sorted(self.files) if name.endswith(ending)]
        for name in names:
            self.read_file(name)
        return len(names)

    def _bytes(self, name):
        try:
            if os.path.exists(self.file(name)) and not os.path.isfile(self.file(name)):
                self._refuse(name, 'is not a regular file')
            with open(self.file(name), 'rb') as stream:
                return stream.read()
        except OSError as error:
            return self._refuse(name, 'cannot be read (%s)' % error.strerror)

    def _refuse(self, name, what):
        raise self._error('%s: %s: copy the exported folder again, or export the run again' % (self.file(name), what))


if __name__ == '__main__':
    if len(sys.argv) != 2:
        print('usage: manifest.py FOLDER', file=sys.stderr)
        sys.exit(2)
    print('%s: %d files are as they were exported' % (sys.argv[1], Folder(sys.argv[1], SystemExit).check()))
