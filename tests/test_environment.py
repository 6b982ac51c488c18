"""One set of pins everywhere; set-up, container and CI scripts, run with replacements for the programs they call."""
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import pkg_resources
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETUP_FILES = ('setup.sh', 'environment.yml', 'requirements-pip.txt', 'requirements.txt', 'requirements-dev.txt')
# What setup.sh may call besides Python, pyenv and conda.
TOOLS = ('sh', 'cat', 'chmod', 'cksum', 'cp', 'dirname', 'flock', 'mkdir', 'mktemp', 'rm', 'sed', 'sha256sum')

# Stands in for CPython 3.6: logs each call, makes an 'environment' that holds itself, and can be told how TensorFlow's
# import and pip end.
FAKE_PYTHON = r'''#!/bin/sh
echo "$*" | head -n 1 >> "$LOG"
case "$1 $2" in
    *ensurepip*) echo "${MACHINE:-x86_64} $0" ;;
    "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip") sleep ${PIP_SECONDS:-0}; exit ${PIP_STATUS:-0} ;;
    "-c import tensorflow") if [ -n "${TENSORFLOW_SIGNAL:-}" ]; then kill -s "$TENSORFLOW_SIGNAL" $$; fi ;;
esac
'''
FAKE_CONDA = r'''#!/bin/sh
echo "conda $*" >> "$LOG"
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) mkdir -p "$2/bin"; cp "$FAKE" "$2/bin/python" ;;
        --file) cat "$2" > "$SPECIFICATION" ;;
    esac
    shift
done
'''


def read(name):
    return (ROOT / name).read_text(encoding='utf-8')


def lock(name):
    """Returns {name: (version, set of hashes)} of a lock file."""
    pins = {}
    for block in re.findall(r'^[a-z](?:.*\\\n)*.*', read(name), re.MULTILINE):
        requirement, hashes = block.split()[0], re.findall(r'--hash=sha256:([0-9a-f]{64})', block)
        package, version = requirement.split('==')
        assert package not in pins, package
        pins[package] = (version, set(hashes))
    return pins


def versions(name):
    return {package: version for package, (version, _) in lock(name).items()}


def inputs(name):
    return dict(line.split('==') for line in read(name).splitlines() if re.match('[a-z]', line))


# Pins

def test_lock_files_pin_exactly_the_packages_of_their_inputs():
    assert versions('requirements-pip.txt') == inputs('requirements-pip.in')
    assert versions('requirements.txt') == inputs('requirements.in')
    assert versions('requirements-distributed.txt') == inputs('requirements-distributed.in')
    assert versions('requirements-align.txt') == inputs('requirements-align.in')
    assert versions('requirements-dev.txt') == dict(inputs('requirements.in'), **inputs('requirements-dev.in'))


def test_each_pin_has_hashes_and_the_same_ones_in_each_file():
    run, dev, pip = lock('requirements.txt'), lock('requirements-dev.txt'), lock('requirements-pip.txt')
    assert len(run) > 30
    assert all(hashes for pins in (run, dev, pip) for _, hashes in pins.values())
    assert {package: dev[package] for package in run} == run
    assert {package: run.get(package) for package in pip if package != 'pip'} == {
        package: pip[package] for package in ('setuptools', 'wheel')}


def test_lock_files_name_no_index_and_use_wheels_if_possible():
    for name in ('requirements-pip.txt', 'requirements.txt', 'requirements-dev.txt'):
        assert not re.search('://|index|find-links|trusted-host', read(name)), name
    for name in ('requirements.txt', 'requirements-dev.txt'):
        # In this order: the first would undo the second.
        assert re.findall('^--.*', read(name), re.MULTILINE) == [
            '--only-binary :all:', '--no-binary gast,jieba,termcolor']


def test_environment_yml_has_the_pins_of_requirements_txt():
    conda, pip = read('environment.yml').split('  - pip:\n')
    assert dict(line.strip(' -').split('==') for line in pip.splitlines()) == versions('requirements.txt')
    assert re.findall(r'  - (\S+=\S+)', conda) == [
        'python=' + base_version(), 'pip=' + versions('requirements-pip.txt')['pip']]


def test_installed_packages_are_the_pinned_ones():
    assert {package: pkg_resources.get_distribution(package).version for package in versions('requirements.txt')} \
        == versions('requirements.txt')
    assert '.'.join(map(str, sys.version_info[:2])) == base_version().rsplit('.', 1)[0]


# Container

def base_version():
    return re.search(r'^ARG BASE=python:([0-9.]+)-slim-bullseye$', read('Dockerfile'), re.MULTILINE).group(1)


def instructions():
    """Returns the Dockerfile's instructions as (word, rest) in order, without comments."""
    lines = re.sub(r'\\\n', ' ', re.sub(r'(?m)^#.*\n', '', read('Dockerfile'))).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def test_dockerfile_installs_every_lock_file_by_hash_before_it_copies_the_code():
    steps = instructions()
    code = steps.index(('COPY', '. .'))
    run = steps[:steps.index(('FROM', '${COMPILER_BASE} AS compiler'))]
    installed = ' '.join(rest for word, rest in steps[:code] if word == 'RUN')
    assert re.findall(r'--require-hashes -r (\S+)', installed) == [
        'requirements-pip.txt', 'requirements.txt', 'requirements-serve.txt', 'requirements-dev.txt']
    assert '==' not in read('Dockerfile')
    assert 'apt' not in ' '.join(rest for word, rest in steps if word == 'RUN')
    assert not [rest for _, rest in run if 'distributed' in rest]
    assert steps[-1] == ('FROM', 'run')  # the default target has no Horovod


def test_dockerfile_runs_as_a_user_with_an_exec_form_entry_point():
    steps = instructions()
    assert dict(steps)['USER'] not in ('root', '0')
    assert json.loads(dict(steps)['ENTRYPOINT']) == ['sh', '/app/docker-entrypoint.sh']
    assert json.loads(dict(steps)['VOLUME']) == ['/data', '/runs']
    assert ('WORKDIR', '/app') in steps and 'LANG=C.UTF-8' in dict(steps)['ENV']
    assert [word for word, _ in steps[:2]] == ['ARG', 'ARG'] and steps[2] == ('FROM', '${BASE} AS run')


def test_dockerignore_keeps_environment_runs_and_history_out_of_the_image():
    ignored = read('.dockerignore').splitlines()
    assert {'.git', '.venv', 'runs', '**/__pycache__'} <= set(ignored)
    for name in ('requirements*', 'tests', 'samples', 'setup.sh', 'docker-entrypoint.sh'):
        assert name not in ignored


def entry_point(*arguments, **options):
    return subprocess.run(['sh', str(ROOT / 'docker-entrypoint.sh')] + list(arguments), stdout=subprocess.PIPE,
                          universal_newlines=True, **options)


@pytest.fixture
def echoing_python(tmp_path):
    """A `python` on PATH that prints its arguments, one a line."""
    program(tmp_path / 'python', '#!/bin/sh\nprintf "%s\\n" "$@"\n')
    return dict(os.environ, PATH='{}:{}'.format(tmp_path, os.environ['PATH']))


@pytest.mark.parametrize('arguments, called', [
    (['settings.py', '--a b', ''], [str(ROOT / 'settings.py'), '--a b', '']),
    (['test', '-x'],
     ['-m', 'pytest', '-p', 'no:cacheprovider', '-n', '2', '--dist', 'loadfile', '-m', 'not slow', '-x']),
    (['/data/own.py', 'x'], ['/data/own.py', 'x']),
    (['-c', 'pass'], ['-c', 'pass']),
    (['python', 'x'], ['x']),
])
def test_entry_point_passes_each_argument_to_the_right_program(echoing_python, tmp_path, arguments, called):
    done = entry_point(*arguments, env=echoing_python, cwd=str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.split('\n')[:-1] == called


def test_entry_point_without_arguments_prints_the_usage():
    done = entry_point()
    assert done.returncode == 0
    assert done.stdout.startswith('usage:')


@pytest.mark.parametrize('arguments', [['-c'], ['python', '-c'], ['own.py']])
def test_entry_point_replaces_itself_by_python_so_that_signals_reach_it(tmp_path, arguments):
    code = 'import os; print(os.getpid(), flush=True)'
    if arguments[-1] == '-c':
        arguments = arguments + [code]
    (tmp_path / 'own.py').write_text(code)
    (tmp_path / 'python').symlink_to(sys.executable)
    process = subprocess.Popen(['sh', str(ROOT / 'docker-entrypoint.sh')] + arguments, stdout=subprocess.PIPE,
                               cwd=str(tmp_path), env=dict(os.environ, PATH='{}:/usr/bin:/bin'.format(tmp_path)))
    assert int(process.communicate()[0]) == process.pid


# Set-up

def program(path, text):
    path.write_text(text)
    path.chmod(0o755)


class Machine:
    """A checkout with the files of set-up, and a PATH with few programs."""

    def __init__(self, folder):
        self.checkout, self.path, self.home = folder / 'check out', folder / 'bin', folder / 'home'
        self.log_file, self.specification = folder / 'log', folder / 'specification'
        for made in (self.checkout, self.path, self.home):
            made.mkdir()
        for name in SETUP_FILES:
            shutil.copy(str(ROOT / name), str(self.checkout))
        for tool in TOOLS + ('head', 'sleep'):
            if shutil.which(tool):
                (self.path / tool).symlink_to(shutil.which(tool))
        self.tell_machine('x86_64')
        program(folder / 'fake', FAKE_PYTHON)
        self.fake = folder / 'fake'

    def tell_machine(self, name):
        if (self.path / 'uname').exists():
            (self.path / 'uname').unlink()
        program(self.path / 'uname', '#!/bin/sh\n[ "$1" = -s ] && echo Linux || echo {}\n'.format(name))

    def add_python(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(self.fake), str(path))

    def start(self, **environment):
        environment = dict({'PATH': str(self.path), 'HOME': str(self.home), 'LOG': str(self.log_file),
                            'FAKE': str(self.fake), 'SPECIFICATION': str(self.specification)}, **environment)
        return subprocess.Popen([shutil.which('sh'), str(self.checkout / 'setup.sh')], env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)

    def set_up(self, **environment):
        process = self.start(**environment)
        stdout, stderr = process.communicate()
        assert stdout == ''
        return process.returncode, stderr

    def log(self):
        """Returns the calls of Python and conda since the last time."""
        lines = self.log_file.read_text().splitlines() if self.log_file.exists() else []
        if lines:
            self.log_file.unlink()
        return [line for line in lines if line not in ('-c', '-c ')]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def pip_install(name):
    return '-m pip install -qq --disable-pip-version-check --require-hashes -r ' + name


INSTALL = [pip_install('requirements-pip.txt'), pip_install('requirements-dev.txt'), '-c import tensorflow']


def test_set_up_installs_once(machine):
    machine.add_python(machine.path / 'python3.6')
    status, messages = machine.set_up()
    assert (status, messages.splitlines()[-1]) == (0, 'setup: .venv is complete')
    assert machine.log() == ['-m venv .venv'] + INSTALL
    assert machine.set_up() == (0, '')
    assert machine.log() == []


@pytest.mark.skipif(shutil.which('flock') is None, reason='no flock here')
def test_two_simultaneous_set_ups_install_once(machine):
    machine.add_python(machine.path / 'python3.6')
    processes = [machine.start(PIP_SECONDS='0.2') for _ in range(2)]
    messages = sorted(process.communicate()[1] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert messages[0] == '' and messages[1] != ''
    assert machine.log() == ['-m venv .venv'] + INSTALL


@pytest.mark.parametrize('name', ['requirements-pip.txt', 'requirements-dev.txt'])
def test_set_up_installs_again_when_a_pin_changes(machine, name):
    machine.add_python(machine.path / 'python3.6')
    machine.set_up()
    machine.log()
    with (machine.checkout / name).open('a') as stream:
        stream.write('six==1.0.0\n')
    assert machine.set_up()[0] == 0
    assert machine.log() == ['-m venv .venv'] + INSTALL


def test_set_up_starts_again_after_a_failed_install_or_without_the_interpreter(machine):
    machine.add_python(machine.path / 'python3.6')
    status, messages = machine.set_up(PIP_STATUS='1')
    assert status == 1 and 'could not install requirements-pip.txt' in messages.splitlines()[-1]
    machine.log()
    assert machine.set_up()[0] == 0
    assert machine.log() == ['-m venv .venv'] + INSTALL
    (machine.checkout / '.venv/bin/python').unlink()
    assert machine.set_up()[0] == 0
    assert machine.log() == ['-m venv .venv'] + INSTALL


def test_set_up_without_cpython_36_says_what_to_do(machine):
    # Of the wrong version: says so, as the probe does.
    program(machine.path / 'python3', '#!/bin/sh\nexit 1\n')
    status, messages = machine.set_up()
    assert status == 1
    assert messages.startswith('setup: ')
    for word in ('CPython 3.6', 'Docker', 'pyenv install ' + base_version(), 'conda', 'PYTHON36='):
        assert word in messages
    lines = re.sub(r'\\\n +', '', messages).splitlines()  # what to paste stands on lines of its own
    assert {'    make demo BOOTSTRAP=1', '    make image'} <= set(lines)
    assert any(re.fullmatch('    sudo apt-get install .*libssl-dev.*', line) for line in lines)
    assert not (machine.checkout / '.venv').exists()


def test_the_probe_refuses_other_versions_and_finds_the_base_of_a_virtual_environment(machine):
    probe = re.search("probe='(.*?)'", read('setup.sh'), re.DOTALL).group(1)
    done = subprocess.run([sys.executable, '-c', probe], stdout=subprocess.PIPE, universal_newlines=True)
    assert done.returncode == 0
    assert pathlib.Path(done.stdout.split(' ', 1)[1].strip()).parent.parent == pathlib.Path(sys.base_prefix)
    other = subprocess.run([sys.executable, '-c', 'import sys; sys.version_info = (3, 7)\n' + probe],
                           stdout=subprocess.PIPE)
    assert (other.returncode, other.stdout) == (1, b'')


@pytest.mark.parametrize('signal, number', [('ABRT', 6), ('ILL', 4)])
def test_set_up_reports_in_one_line_that_tensorflow_crashes_without_avx(machine, signal, number):
    machine.add_python(machine.path / 'python3.6')
    status, messages = machine.set_up(TENSORFLOW_SIGNAL=signal)
    assert status == 1
    installing, told = messages.splitlines()
    assert 'TensorFlow 1.12 crashes at import (signal {})'.format(number) in told and 'AVX' in told
    assert machine.set_up(TENSORFLOW_SIGNAL=signal)[0] == 1


def test_set_up_on_arm_names_the_alternative_in_one_line(machine):
    machine.add_python(machine.path / 'python3.6')
    status, messages = machine.set_up(MACHINE='aarch64')
    assert (status, len(messages.splitlines())) == (1, 1)
    assert 'no wheel for aarch64' in messages and '--platform linux/amd64' in messages
    (machine.path / 'python3.6').unlink()
    machine.tell_machine('arm64')
    status, messages = machine.set_up()
    assert (status, len(messages.splitlines())) == (1, 1)
    assert 'no wheel for arm64' in messages


def test_set_up_finds_pyenv_and_prefers_path(machine):
    machine.add_python(machine.home / '.pyenv/versions/3.6.15/bin/python3.6')
    assert machine.set_up()[0] == 0
    machine.log()
    elsewhere = machine.home / 'elsewhere'
    shutil.move(str(machine.home / '.pyenv'), str(elsewhere))
    shutil.rmtree(str(machine.checkout / '.venv'))
    assert machine.set_up()[0] == 1
    program(machine.path / 'pyenv', '#!/bin/sh\n[ "$1" = root ] && echo "{}"\n'.format(elsewhere))
    assert machine.set_up()[0] == 0


def test_set_up_uses_the_named_interpreter_or_none(machine):
    machine.add_python(machine.path / 'python3.6')
    status, messages = machine.set_up(PYTHON36='/nowhere/python3.6')
    assert (status, len(messages.splitlines())) == (1, 1)
    assert messages.startswith('setup: PYTHON36=/nowhere/python3.6 is not')
    (machine.path / 'python3.6').unlink()
    assert machine.set_up(PYTHON36=str(machine.fake))[0] == 0


@pytest.mark.parametrize('tool, command', [('conda', 'conda env create'), ('mamba', 'conda env create'),
                                           ('micromamba', 'conda create --yes')])
def test_set_up_creates_the_environment_with_conda_and_installs_by_hash(machine, tool, command):
    program(machine.path / tool, FAKE_CONDA)
    status, messages = machine.set_up()
    assert status == 0
    called = machine.log()
    assert called[0].startswith('{} --prefix {}/.venv --file '.format(command, machine.checkout))
    assert called[1:] == INSTALL
    assert machine.specification.read_text() == read('environment.yml').split('  - pip:\n')[0]
    assert machine.set_up() == (0, '')


class Releases(http.server.BaseHTTPRequestHandler):
    """Stands in for the server of micromamba's releases: one file, behind a redirection as on GitHub."""
    content = FAKE_CONDA.encode('ascii')

    def do_GET(self):
        if self.path == '/release':
            self.send_response(302)
            self.send_header('Location', '/file')
            self.end_headers()
        elif self.path == '/file':
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.content)
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture
def releases():
    """The address of a local server of releases."""
    with http.server.HTTPServer(('127.0.0.1', 0), Releases) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield 'http://127.0.0.1:%d' % server.server_address[1]
        server.shutdown()


def downloads(tool):
    return pytest.param(tool, marks=pytest.mark.skipif(shutil.which(tool) is None, reason='no %s here' % tool))


@pytest.mark.parametrize('tool', [downloads('curl'), downloads('wget')])
def test_bootstrap_downloads_micromamba_checks_it_and_leaves_nothing_else(machine, releases, tool):
    (machine.path / tool).symlink_to(shutil.which(tool))
    sha256 = hashlib.sha256(Releases.content).hexdigest()
    chosen = dict(MICROMAMBA_URL=releases + '/release', MICROMAMBA_SHA256=sha256)
    assert machine.set_up(**chosen)[0] == 1 and machine.log() == []  # only if asked for
    status, messages = machine.set_up(BOOTSTRAP='1', **chosen)
    assert status == 0 and 'setup: downloading %s/release' % releases in messages.splitlines()
    called = machine.log()
    assert called[0].startswith('conda create --yes --prefix %s/.venv --file ' % machine.checkout)
    assert called[1:] == INSTALL
    assert sorted(os.listdir(str(machine.home))) == [] and not (machine.checkout / '.bootstrap').exists()


@pytest.mark.skipif(shutil.which('curl') is None, reason='no curl here')
@pytest.mark.parametrize('change, told', [
    ({'MICROMAMBA_SHA256': '0' * 64}, 'nothing was run'), ({'MICROMAMBA_URL': '/absent'}, 'the download failed')])
def test_bootstrap_runs_no_other_file(machine, releases, change, told):
    (machine.path / 'curl').symlink_to(shutil.which('curl'))
    sha256 = hashlib.sha256(Releases.content).hexdigest()
    chosen = dict({'MICROMAMBA_URL': '/file', 'MICROMAMBA_SHA256': sha256}, **change)
    chosen['MICROMAMBA_URL'] = releases + chosen['MICROMAMBA_URL']
    status, messages = machine.set_up(BOOTSTRAP='1', **chosen)
    assert status == 1 and told in messages.splitlines()[-1]
    assert machine.log() == [] and not (machine.checkout / '.venv').exists()
    assert not (machine.checkout / '.bootstrap').exists()


def test_bootstrap_prefers_what_is_there_and_pins_a_release(machine):
    program(machine.path / 'conda', FAKE_CONDA)
    assert machine.set_up(BOOTSTRAP='1')[0] == 0
    assert machine.log()[0].startswith('conda env create')
    assert re.search('MICROMAMBA_URL:=https://github.com/mamba-org/[^ ]+/download/[0-9.]+-[0-9]+/micromamba-linux-64}',
                     read('setup.sh'))
    assert re.search('MICROMAMBA_SHA256:=[0-9a-f]{64}}', read('setup.sh'))


# Makefile and CI

needs_make = pytest.mark.skipif(shutil.which('make') is None, reason='no make here (as in the image)')


def run_make(*arguments, cwd=ROOT):
    # Not the options of a make that runs this test: below one, make prints the folder it enters and leaves.
    environment = {key: value for key, value in os.environ.items() if not key.startswith('MAKE') and key != 'MFLAGS'}
    return subprocess.run(['make', '--no-print-directory'] + list(arguments), cwd=str(cwd), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, env=environment)


def make(*arguments):
    ended = run_make(*arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@needs_make
def test_make_help_lists_every_target_and_is_the_default():
    listed = re.findall(r'^make (\S+) +\S', make('help'), re.MULTILINE)
    assert listed == re.search('^[.]PHONY: (.*)', read('Makefile'), re.MULTILINE).group(1).split()
    assert {'demo', 'test', 'test-all', 'setup'} <= set(listed)
    assert set(re.findall('^([a-z0-9-]+):', read('Makefile'), re.MULTILINE)) == set(listed)
    assert make() == make('help')


@needs_make
def test_make_sets_up_before_demo_and_tests():
    pytest = '.venv/bin/python -m pytest -n 2 --dist loadfile'
    assert make('-n', 'test').splitlines() == ['sh setup.sh', pytest + ' -m "not slow"']
    assert make('-n', 'test-all').splitlines() == ['sh setup.sh', pytest]
    assert make('-n', 'demo').splitlines()[0] == 'sh setup.sh'


@needs_make
def test_make_serve_starts_the_server_on_the_run_of_the_demo_or_names_what_is_missing(tmp_path):
    assert make('-n', 'serve').splitlines()[-1] == '.venv/bin/python serve.py --run runs/translate'
    assert make('-n', 'serve', 'RUN=runs/my').splitlines()[-1] == '.venv/bin/python serve.py --run runs/my'
    assert make('-n', 'serve-setup').splitlines()[-1].endswith('--require-hashes -r requirements-serve.txt')
    (tmp_path / 'Makefile').write_text(read('Makefile'))
    (tmp_path / '.venv' / 'bin').mkdir(parents=True)
    program(tmp_path / '.venv' / 'bin' / 'python', '#!/bin/sh\necho "$*"\n')
    program(tmp_path / 'setup.sh', '#!/bin/sh\n')
    ended = run_make('serve', cwd=tmp_path)
    assert ended.returncode == 2 and 'runs/translate: is no trained run: make demo trains one' in ended.stderr
    (tmp_path / 'runs' / 'translate').mkdir(parents=True)
    (tmp_path / 'runs' / 'translate' / 'weights.h5').write_text('')
    ended = run_make('serve', cwd=tmp_path)
    assert ended.returncode == 0 and ended.stdout.splitlines()[-1] == 'serve.py --run runs/translate'


@needs_make
def test_make_align_builds_once_and_names_the_compiler_that_is_missing(tmp_path):
    assert make('-n', 'align').splitlines()[-1] == 'sh align.sh .venv/bin/python'
    for name in ('align.sh', 'requirements-align.txt', 'requirements-pip.txt'):
        (tmp_path / name).write_text(read(name))
    (tmp_path / 'bin').mkdir()
    for name in ('sh', 'dirname', 'cksum', 'cat', 'rm', 'sed'):
        (tmp_path / 'bin' / name).symlink_to(shutil.which(name))
    # A Python that makes an environment whose pip notes what it installs.
    program(tmp_path / 'python', '#!/bin/sh\nset -e\n/bin/mkdir -p "$3/bin"\n'
            'printf \'#!/bin/sh\\necho "$*" >> %s/log\\n\' > "$3/bin/python"\n'
            'printf \'#!/bin/sh\\n\' > "$3/bin/eflomal-align"\n/bin/chmod 700 "$3"/bin/*\n' % tmp_path)

    def align():
        done = subprocess.run(['sh', 'align.sh', str(tmp_path / 'python')], cwd=str(tmp_path), stderr=subprocess.PIPE,
                              env={'PATH': str(tmp_path / 'bin')}, universal_newlines=True)
        return done.returncode, done.stderr

    assert align() == (1, 'align: building eflomal needs gcc: install it (Debian: apt-get install gcc make)\n')
    for name in ('gcc', 'make'):
        program(tmp_path / 'bin' / name, '#!/bin/sh\n')
    assert align()[0] == 0 and align() == (0, '')
    installed = [line.split('--require-hashes ')[1] for line in (tmp_path / 'log').read_text().splitlines()]
    assert installed == ['-r requirements-pip.txt', '--only-binary :all: -r .venv-align/build.txt',
                         '--no-build-isolation -r requirements-align.txt']
    build = (tmp_path / '.venv-align' / 'build.txt').read_text()
    assert 'cython==' in build and 'numpy==' in build and 'eflomal==' not in build
    (tmp_path / 'requirements-align.txt').write_text(read('requirements-align.txt') + '# new\n')
    assert align()[0] == 0 and len((tmp_path / 'log').read_text().splitlines()) == 6


CI_STEPS = ('test', 'lint', 'reference-check', 'web', 'keras3', 'align', 'serve-setup', 'distributed', 'tutorial-setup',
            'site', 'browser', 'test-all')


@pytest.mark.skipif(shutil.which('bash') is None, reason='no bash here')
@pytest.mark.parametrize('failing', CI_STEPS + ('none',))
def test_ci_fails_when_tests_fail(tmp_path, failing):
    calls = list(CI_STEPS[:CI_STEPS.index(failing) + 1] if failing in CI_STEPS else CI_STEPS)
    program(tmp_path / 'make', '#!/bin/sh\necho "$1"\n[ "$1" != {} ]\n'.format(failing))
    done = subprocess.run(['bash', str(ROOT / '.ci/run')], stdout=subprocess.PIPE, universal_newlines=True,
                          env=dict(os.environ, PATH='{}:{}'.format(tmp_path, os.environ['PATH'])), cwd=str(tmp_path))
    assert done.stdout.split() == calls
    assert (done.returncode == 0) == (failing == 'none')


def test_the_image_is_labelled_with_the_version():
    from command_line import VERSION
    assert 'org.opencontainers.image.version="%s"' % VERSION in read('Dockerfile')
    assert '## %s' % VERSION in read('CHANGELOG.md')


def test_licence_is_apache_2():
    assert 'Apache License\n                           Version 2.0, January 2004' in read('LICENSE')
