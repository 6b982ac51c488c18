"""The texts of `--help`, and the commands that hints and examples name: they run as they are pasted."""
import os
import re
import shlex
import subprocess
import sys

import pytest

import command_line
import settings
from test_commands import ROOT, cheap, environment, no_tensorflow, run, trained  # noqa: F401

EXAMPLES = [('train.py', 5), ('predict.py', 5), ('evaluate.py', 7), ('export.py', 4), ('regress.py', 7),
            ('serve.py', 2)]


@pytest.fixture(scope='module')
def help_of(no_tensorflow, tmp_path_factory):  # noqa: F811
    """Function of a command and arguments, such as `--help`: the text that it shows, without TensorFlow."""
    folder = tmp_path_factory.mktemp('help')

    def call(command, *arguments):
        result = run(command, *arguments, cwd=folder, PYTHONPATH=no_tensorflow)
        assert (result.code, result.stderr) == (0, '')
        return result.stdout.decode('utf-8')
    return call


def examples_of(text):
    """The commands in the examples of a help text."""
    return [line[2:] for line in text.split('\nexamples:\n')[1].splitlines() if not line.startswith('  # ')]


@pytest.mark.parametrize('command, count', EXAMPLES)
def test_help_fits_two_screens_and_shows_the_examples_of_the_docstring(help_of, command, count):
    text = help_of(command, '--help')
    assert text.startswith('usage: ' + command) and text.count('\n') <= 100
    found = examples_of(text)
    assert len(found) == count
    subcommands = {}
    for example in found:
        before, after = re.fullmatch(r'(.*?)\S*python %s(.*)' % re.escape(str(ROOT / command)), example).groups()
        words = shlex.split(after)
        assert before == '' or before.endswith(' ') and not after.endswith(' ')
        if command == 'regress.py':
            name = words[0]
            known = subcommands[name] = help_of(command, name, '--help')
            assert example in examples_of(known) and len(examples_of(known)) == 1
        else:
            known = help_of(command, '--help-all') if command == 'train.py' else text
        assert {word for word in words if word.startswith('--')} <= set(re.findall('--[a-z0-9-]+', known)), example


def test_help_of_train_shows_the_most_used_options_and_help_all_every_one(help_of):
    short, long = help_of('train.py', '--help'), help_of('train.py', '--help-all')
    common, options = (set(re.findall('^  (?:-h, )?(--[a-z0-9-]+)(?=[ \n])', text, re.MULTILINE))
                       for text in (short, long))
    assert {row.option for row in settings.SETTINGS.values()} | {'--run', '--config', '--print-config'} <= options
    assert {settings.SETTINGS[name].option for name in settings.COMMON} | {'--resume'} <= common < options
    assert '--help-all shows %d more.' % len(options - common) in short
    assert '--preset multi30k\n    --source-tokenizer bpe' in long
    assert '--data DIR' in short and '--init-from DIR' in long and '--source-embeddings FILE' in long
    assert 'TEXT' not in long and re.search('none: no\\s+attention', short)
    assert examples_of(short) == examples_of(long)


def test_hints_name_commands_as_the_user_can_paste_them(tmp_path, monkeypatch):
    checkout, python = str(ROOT), os.path.join(str(ROOT), '.venv', 'bin', 'python')
    monkeypatch.delenv(command_line.ENTRY_POINT, raising=False)
    monkeypatch.setattr(sys, 'executable', python)
    monkeypatch.setenv('PATH', '/nowhere')
    monkeypatch.chdir(checkout)
    assert command_line.command('predict.py', '--run', 'runs/a b') == ".venv/bin/python predict.py --run 'runs/a b'"
    monkeypatch.chdir(str(tmp_path))
    assert command_line.command('train.py') == '%s %s/train.py' % (python, checkout)
    activated = tmp_path / 'python'
    activated.write_text('')
    activated.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(activated))
    monkeypatch.setenv('PATH', str(tmp_path))
    assert command_line.command('train.py') == 'python %s/train.py' % checkout
    monkeypatch.setenv(command_line.ENTRY_POINT, '1')
    assert command_line.command('predict.py', '--run', 'runs/x') == 'predict.py --run runs/x'


def test_the_entry_point_of_the_image_marks_its_commands(tmp_path):
    (tmp_path / 'python').write_text('#!/bin/sh\necho "$%s"\n' % command_line.ENTRY_POINT)
    (tmp_path / 'python').chmod(0o755)
    told = subprocess.check_output(['sh', str(ROOT / 'docker-entrypoint.sh'), 'predict.py'],
                                   env=environment(PATH='%s:%s' % (tmp_path, os.environ['PATH'])))
    assert told == b'1\n'


@pytest.mark.slow
def test_the_hint_after_a_training_runs_as_it_is_pasted(trained):  # noqa: F811
    hint = trained.result.stderr.splitlines()[-1].split('try: ')[1]
    done = subprocess.run(hint, shell=True, cwd=str(trained.home), env=environment(), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    sentences = (ROOT / 'samples' / 'sentences.txt').read_bytes()
    assert done.returncode == 0 and done.stdout.count(b'\n') == sentences.count(b'\n'), done


@pytest.mark.parametrize('command', ['train.py', 'predict.py', 'evaluate.py', 'export.py', 'regress.py', 'serve.py',
                                     'benchmarks/decode.py', 'tests/mutants.py'])
@pytest.mark.parametrize('venv', [False, True])
def test_outside_the_environment_a_command_names_in_one_line_how_to_run_it(tmp_path, monkeypatch, command, venv):
    """The command with a Python that has no packages, in a checkout before and after `make setup`."""
    for name in ('setup.sh', 'command_line.py'):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / command).parent.mkdir(exist_ok=True)
    (tmp_path / command).write_bytes((ROOT / command).read_bytes())
    for room in ('storage', 'reports', 'text', 'training', 'parity'):
        (tmp_path / room).symlink_to(ROOT / room)
    for path in ROOT.glob('*.py'):
        if not (tmp_path / path.name).exists():
            (tmp_path / path.name).symlink_to(path)
    if venv:
        (tmp_path / '.venv' / 'bin').mkdir(parents=True)
        (tmp_path / '.venv' / 'bin' / 'python').write_text('')
    done = subprocess.run([sys.executable, '-S', command, '--run', 'a b'], cwd=str(tmp_path), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment())  # -S: no site-packages
    assert (done.returncode, done.stdout) == (1, b'')
    line, = done.stderr.decode().splitlines()
    assert line.startswith('%s: this Python (%s, 3.6) lacks packages (No module named ' % (
        os.path.basename(command), sys.executable))
    setup = '' if venv else 'make setup once, then '
    assert line.endswith("): run %s.venv/bin/python %s --run 'a b'" % (setup, command))


def test_the_layer_in_somebody_elses_program_fails_as_python_does(tmp_path):
    (tmp_path / 'own.py').write_text('import attention\n')
    done = subprocess.run([sys.executable, '-S', 'own.py'], cwd=str(tmp_path), stderr=subprocess.PIPE,
                          env=environment(PYTHONPATH=str(ROOT)))
    assert done.returncode == 1 and done.stderr.startswith(b'Traceback')
    assert done.stderr.endswith(b"No module named 'keras'\n")
