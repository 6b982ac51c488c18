"""Other versions of Python, TensorFlow and Keras: writes their lock files and makes an environment of each.

    benchmarks/stacks.py lock NAME ...      # stacks/NAME.txt from stacks/NAME.in, with the hash of every archive
    benchmarks/stacks.py make NAME ...      # the environments, in the folder that STACKS names (default: .venv/stacks)

The first line of a `.in` file names the Python, which is looked for on PATH and in pyenv. A line `# no-deps` names
releases that pip refuses together: an old Keras asks for one exact release of what TensorFlow asks a later one of.
"""
import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from command_line import UserError, run_command, tell  # noqa: E402  the checkout is on the path now

FOLDER = os.path.join(ROOT, 'benchmarks', 'stacks')
HEAD = '# Written by benchmarks/stacks.py lock from %s.in: one archive a package, for Linux on x86-64.\n'
INSTALLER = 'requirements-pip.txt'      # CPython 3.6 only: its own pip ignores which Pythons a release supports


def names():
    """The names of all stacks."""
    return sorted(name[:-len('.in')] for name in os.listdir(FOLDER) if name.startswith(('tf', 'keras'))
                  and name.endswith('.in'))


def path_of(name, ending):
    return os.path.join(FOLDER, name + ending)


def environments():
    return os.environ.get('STACKS') or os.path.join(ROOT, '.venv', 'stacks')


def python_version(name):
    """The version of Python of a stack, such as '3.6'."""
    with open(path_of(name, '.in'), encoding='utf-8') as stream:
        return stream.readline().split()[-1]


def find_python(version):
    """The path of a CPython of this version, or None."""
    pyenv = os.environ.get('PYENV_ROOT') or os.path.expanduser('~/.pyenv')
    folder = os.path.join(pyenv, 'versions')
    found = [os.path.join(folder, name, 'bin', 'python' + version) for name in sorted(
        os.listdir(folder) if os.path.isdir(folder) else ()) if name.startswith(version + '.')]
    for candidate in found + [shutil.which('python' + version)]:
        if candidate and subprocess.call([candidate, '-c', 'import venv, ensurepip'], stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL) == 0:
            return candidate
    return None


def pip(python, *arguments):
    """Runs pip without the user's indexes. UserError: it fails."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('PIP_FIND_LINKS', 'PIP_EXTRA_INDEX_URL', 'PYTHONPATH', 'PYTHONHOME')}
    done = subprocess.run([python, '-m', 'pip'] + list(arguments), env=dict(environment, PIP_CONFIG_FILE=os.devnull),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = done.stdout.decode('utf-8', 'replace').strip().splitlines()
        raise UserError('pip %s: %s' % (' '.join(arguments[:1]), next(
            (line for line in lines if line.startswith('ERROR')), ''.join(lines[-1:]))))


def new_environment(name, folder):
    """Makes an environment without packages; returns its Python. UserError: this Python is missing."""
    version = python_version(name)
    base = find_python(version)
    if base is None:
        raise UserError('%s: no CPython %s with the modules venv and ensurepip on PATH or in pyenv' % (name, version))
    subprocess.check_call([base, '-m', 'venv', folder])
    python = os.path.join(folder, 'bin', 'python')
    if version == '3.6':
        pip(python, 'install', '--require-hashes', '-r', os.path.join(ROOT, INSTALLER))
    return python


def lock(name):
    """Writes the lock file of a stack: what pip chooses for its `.in` file, with the hash of each archive."""
    with tempfile.TemporaryDirectory() as folder:
        python = new_environment(name, os.path.join(folder, 'environment'))
        archives = os.path.join(folder, 'archives')
        pip(python, 'download', '--prefer-binary', '--dest', archives, '-r', path_of(name, '.in'))
        chosen = pins(archives)
        with open(path_of(name, '.in'), encoding='utf-8') as stream:
            for line in stream:
                if line.startswith('# no-deps '):
                    exact = os.path.join(folder, 'exact')
                    pip(python, 'download', '--no-deps', '--dest', exact, *line.split()[2:])
                    chosen.update(pins(exact))
    with open(path_of(name, '.txt'), 'w', encoding='utf-8') as stream:
        stream.write(HEAD % name + ''.join(line for _, line in sorted(chosen.items())))


def pins(folder):
    """{package: its line in a lock file} of the archives in a folder."""
    found = {}
    for archive in os.listdir(folder):
        package, version = archive.split('-')[:2]
        if not archive.endswith('.whl'):
            package, version = archive[:-len('.tar.gz')].rsplit('-', 1)
        with open(os.path.join(folder, archive), 'rb') as stream:
            digest = hashlib.sha256(stream.read()).hexdigest()
        package = package.replace('_', '-').lower()
        found[package] = '%s==%s --hash=sha256:%s\n' % (package, version, digest)
    return found


def make(name):
    """The Python of a stack's environment, which is made if it is missing or its lock file has changed.

    # Raises
        UserError: the Python that the stack needs is missing, or a package cannot be installed.
    """
    folder = os.path.join(environments(), name)
    python, complete = os.path.join(folder, 'bin', 'python'), os.path.join(folder, 'complete')
    if not os.path.isfile(path_of(name, '.txt')):
        raise UserError('%s: has no lock file: write it with benchmarks/stacks.py lock %s' % (name, name))
    with open(path_of(name, '.txt'), encoding='utf-8') as stream:
        wanted = stream.read()
    try:
        with open(complete, encoding='utf-8') as stream:
            if stream.read() == wanted:
                return python
    except OSError:
        pass
    shutil.rmtree(folder, ignore_errors=True)
    tell('%s: installing into %s' % (name, folder))
    new_environment(name, folder)
    pip(python, 'install', '--no-deps', '--no-compile', '--require-hashes', '-r', path_of(name, '.txt'))
    with open(complete, 'w', encoding='utf-8') as stream:
        stream.write(wanted)
    return python


def main(argv):
    parser = argparse.ArgumentParser(prog='stacks.py', description=__doc__.split('\n')[0])
    parser.add_argument('action', choices=['lock', 'make'])
    parser.add_argument('names', metavar='NAME', nargs='+', choices=names(), help='name of a file in stacks/')
    options = parser.parse_args(argv)
    for name in options.names:
        tell('%s: %s' % (options.action, name))
        {'lock': lock, 'make': make}[options.action](name)


if __name__ == '__main__':
    run_command(main, 'stacks.py')
