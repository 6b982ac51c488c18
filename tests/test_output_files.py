"""Output files that a user names: every kind of node, every way to end; no incomplete file, nothing lost."""
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from storage.output_files import OutputFile, check_output_directory, check_outputs, write_output
from command_line import UserError
from test_commands import ROOT, cheap, environment, no_tensorflow, one_line, run, start, trained  # noqa: F401
from test_predict import untrained
from test_run_directory import own_mounts  # noqa: F401

DOT = str(ROOT / 'reference' / 'dot-gru.float64.npz')


@pytest.fixture
def fifo(tmp_path):
    """The path of a FIFO, and a list that gets what arrives in it."""
    path, arrived = str(tmp_path / 'fifo'), []
    os.mkfifo(path)

    def read():
        with open(path, 'rb') as stream:
            arrived.append(stream.read())
    reader = threading.Thread(target=read)
    reader.daemon = True
    reader.start()
    yield path, arrived, reader


def write_pieces(path, **options):
    output = OutputFile(path, **options)
    output.write(b'one\n')
    output.write(b'two\n')
    output.close()


@pytest.mark.parametrize('write', [lambda path: write_output(path, b'one\ntwo\n'), write_pieces,
                                   lambda path: write_pieces(path, at_once=True)], ids=['whole', 'pieces', 'at once'])
def test_regular_files_links_and_new_files_get_the_whole_output_and_keep_their_mode(tmp_path, write):
    old, new = tmp_path / 'old', tmp_path / 'new'
    old.write_bytes(b'older and longer text\n')
    old.chmod(0o640)
    (tmp_path / 'link').symlink_to(old)
    (tmp_path / 'dangling').symlink_to(new)
    for name in ('old', 'link', 'dangling', 'other'):
        write(str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == b'one\ntwo\n', name
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'dangling').is_symlink()
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert sorted(os.listdir(str(tmp_path))) == ['dangling', 'link', 'new', 'old', 'other']


@pytest.mark.parametrize('write', [lambda path: write_output(path, b'one\ntwo\n'), write_pieces])
def test_devices_and_fifos_are_written_to_and_stay(tmp_path, fifo, write):
    path, arrived, reader = fifo
    write(path)
    reader.join(10)
    assert arrived == [b'one\ntwo\n'] and stat.S_ISFIFO(os.stat(path).st_mode)
    write('/dev/null')
    assert stat.S_ISCHR(os.stat('/dev/null').st_mode)
    (tmp_path / 'null').symlink_to('/dev/null')
    write(str(tmp_path / 'null'))
    assert stat.S_ISCHR(os.stat('/dev/null').st_mode) and (tmp_path / 'null').is_symlink()
    with pytest.raises(UserError, match='/dev/full: cannot be written .*free some space on this disk'):
        write('/dev/full')


def test_discarded_or_failed_output_leaves_only_the_old_file(tmp_path, monkeypatch):
    (tmp_path / 'f').write_bytes(b'old')
    output = OutputFile(str(tmp_path / 'f'))
    output.write(b'new')
    output.discard()
    output.discard()
    output.close()
    monkeypatch.setattr(os, 'write', lambda *_: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    output = OutputFile(str(tmp_path / 'f'))
    for data in (b'x', b'y'):
        with pytest.raises(UserError, match='f: cannot be written'):
            output.write(data)
    output.close()
    monkeypatch.undo()
    assert (tmp_path / 'f').read_bytes() == b'old' and os.listdir(str(tmp_path)) == ['f']


def test_an_output_that_cannot_be_written_or_would_destroy_an_input_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('in', 'dictionary', 'free'):
        (tmp_path / name).write_bytes(b'text')
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'checkpoint').mkdir()
    for name in ('weights.h5', 'checkpoint/1.h5'):
        (tmp_path / 'run' / name).write_bytes(b'weights')
    (tmp_path / 'link').symlink_to('in')
    os.link('in', 'hard')
    (tmp_path / 'loop').symlink_to('loop')
    listener = socket.socket(socket.AF_UNIX)
    listener.bind('socket')
    descriptor = os.open('in', os.O_RDONLY)
    for path, told in (('in', 'in: is the input too: name another file for --output'), ('./in', 'the input'),
                       ('link', 'the input'), ('hard', 'the input'), ('dictionary', 'the input'),
                       ('run/weights.h5', 'run/weights.h5: is a file of run too'),
                       ('run/checkpoint/1.h5', 'is a file of run too'), ('run', 'is a directory'),
                       ('socket', 'is a socket'), ('none/f', 'none/f: its directory does not exist'),
                       ('in/f', 'cannot be written|does not exist'), ('loop', 'cannot be written'),
                       ('x' * 300, 'cannot be written')):
        for inputs in (['in', 'dictionary'], [descriptor, 'dictionary', None, '-']):
            with pytest.raises(UserError, match=told):
                check_outputs([('--output', path)], inputs, ['run', 'missing'])
    with pytest.raises(UserError, match='./free: is the file of --output too: name another file for --html'):
        check_outputs([('--output', 'free'), ('--html', './free')])
    with pytest.raises(UserError, match='./new: is the file of --output too'):
        check_outputs([('--output', 'new'), ('--html', './new')])
    check_outputs([('--output', 'free'), ('--html', 'new'), ('--plot', None)], ['in', '/dev/null', 'missing'])
    check_outputs([('--output', '/dev/null'), ('--html', '/dev/null')], ['/dev/null'])
    assert (tmp_path / 'in').read_bytes() == b'text' and not (tmp_path / 'new').exists()
    with pytest.raises(UserError, match='in: cannot be created for --plot-dir'):
        check_output_directory('--plot-dir', 'in')
    os.close(descriptor)
    listener.close()


def test_a_directory_without_write_permission_is_refused_by_name(tmp_path):
    if os.geteuid() == 0:
        pytest.skip('root may write everywhere')
    (tmp_path / 'd').mkdir(0o500)
    for check in (lambda path: check_outputs([('--output', path + '/f')]),
                  lambda path: check_output_directory('--plot-dir', path)):
        with pytest.raises(UserError, match='check (its|the) permissions'):
            check(str(tmp_path / 'd'))


# The commands

def test_predict_refuses_before_it_reads_or_writes_anything(cheap, trained, tmp_path):  # noqa: F811
    for name in ('in', 'd.tsv'):
        (tmp_path / name).write_bytes('nine\t九\n'.encode('utf-8'))
    before = {name: (tmp_path / name).read_bytes() for name in ('in', 'd.tsv')}
    path = str(trained.path)
    with open(str(tmp_path / 'in'), 'rb') as stream:
        process = start('predict.py', '--run', path, '--input', '-', '--output', 'in', cwd=tmp_path, stdin=stream)
    assert 'in: is the input too' in process.communicate()[1].decode('utf-8') and process.returncode == 1
    one_line(cheap('predict.py', '--run', path, '--input', 'in', '--replace-unk', 'd.tsv', '--output', 'd.tsv'),
             'predict.py', 'd.tsv', 'is the input too', '--output')
    one_line(cheap('predict.py', '--run', path, '--input', 'in', '--html', path + '/weights.h5'), 'predict.py',
             'is a file of')
    home = trained.home
    for output in (path + '/checkpoint/152.h5', 'numbers/test.tsv', 'numbers/train.tsv'):
        kept = (home / output).read_bytes()
        for options in (['--by-length', '2', '--plot'], ['--output']):
            one_line(cheap('evaluate.py', '--run', path, *options, output, cwd=home), 'evaluate.py', 'name another',
                     options[-1])
        assert (home / output).read_bytes() == kept
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def wait_for(process, condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(.05)


@pytest.mark.slow
@pytest.mark.parametrize('number, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_predict_leaves_no_incomplete_file(trained, tmp_path, number, code):  # noqa: F811
    (tmp_path / 'in').write_bytes(b'nine five two\n' * 300000)
    (tmp_path / 'out').write_bytes(b'old')
    options = ['predict.py', '--run', trained.path, '--input', 'in', '--output', 'out', '--html', 'page']
    for grown in (0, 10000):  # while TensorFlow loads, or the first batches are decoded; and amid the lines
        process = start(*options, cwd=tmp_path)
        wait_for(process, lambda: [name for name in os.listdir(str(tmp_path)) if name.startswith('.out')
                                   and (tmp_path / name).stat().st_size >= grown])
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (code, b'')
        assert err.decode('utf-8') == 'predict.py: stopped by %s\n' % number.name
        assert sorted(os.listdir(str(tmp_path))) == ['in', 'out'] and (tmp_path / 'out').read_bytes() == b'old'


@pytest.mark.slow
def test_a_stopped_pipe_keeps_the_lines_answered_and_a_pause_changes_nothing(trained, tmp_path):  # noqa: F811
    os.mkfifo(str(tmp_path / 'pipe'))
    process = start('predict.py', '--run', trained.path, '--input', 'pipe', '--output', 'out', cwd=tmp_path)
    with open(str(tmp_path / 'pipe'), 'wb', 0) as stream:
        stream.write(b'nine\n')
        wait_for(process, (tmp_path / 'out').exists)
        process.send_signal(signal.SIGSTOP)
        stream.write(b'five\n')
        time.sleep(.5)
        process.send_signal(signal.SIGCONT)
        wait_for(process, lambda: (tmp_path / 'out').read_bytes().count(b'\n') == 2)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert (tmp_path / 'out').read_bytes() == run('predict.py', '--run', trained.path, '--input', '-', cwd=tmp_path,
                                                  text=b'nine\nfive\n').stdout


@pytest.mark.slow
@pytest.mark.parametrize('number, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_export_leaves_nothing(trained, tmp_path, number, code):  # noqa: F811
    process = start('export.py', trained.path, 'model', cwd=tmp_path)
    wait_for(process, lambda: os.listdir(str(tmp_path)))
    process.send_signal(number)
    assert process.communicate(timeout=120)[1].decode('utf-8') == 'export.py: stopped by %s\n' % number.name
    assert process.returncode == code and os.listdir(str(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize('node', ['null', 'fifo', 'link', 'file', 'full'])
def test_every_output_option_on_every_kind_of_node(trained, tmp_path, node, summary):  # noqa: F811
    before = os.stat('/dev/null')
    predict = ['predict.py', '--run', trained.path, '--input', 'in']
    evaluate = ['evaluate.py', '--source', 'in', '--target', 'in', '--hypotheses', 'in', '--by-length', '2']
    commands = [(predict, '--output', '五九\n'.encode('utf-8')), (predict, '--html', b'<!'),
                (evaluate, '--plot', b'\x89PNG'), (evaluate, '--output', b'nine five\n'),
                (['regress.py', 'compare', DOT, DOT], '--html', b'<!')]
    (tmp_path / 'in').write_bytes(b'nine five\n')
    for command, option, beginning in commands:
        path, arrived = tmp_path / (node + command[0] + option), []
        if node in ('null', 'full'):
            path.symlink_to('/dev/' + node)
        elif node == 'fifo':
            os.mkfifo(str(path))
            reader = threading.Thread(target=lambda: arrived.append(path.read_bytes()))
            reader.daemon = True
            reader.start()
        elif node == 'link':
            path.symlink_to(tmp_path / ('target of ' + path.name))
        else:
            path.write_bytes(b'old')
        result = run(*command, option, path, cwd=tmp_path)
        if node == 'full':
            assert result.code == 1 and 'free some space' in result.stderr.splitlines()[-1], result.stderr
            continue
        assert result.code == 0, result.stderr
        if node == 'null':
            assert path.is_symlink() and stat.S_ISCHR(os.stat('/dev/null').st_mode)
            assert os.stat('/dev/null').st_rdev == before.st_rdev
            continue
        if node == 'fifo':
            reader.join(10)
            assert stat.S_ISFIFO(path.stat().st_mode)
        content = arrived[0] if node == 'fifo' else path.read_bytes()
        assert path.is_symlink() == (node == 'link')
        assert content.startswith(beginning)
    summary('outputs on a %s: %d options tried' % (node, len(commands)))


DIRECTORIES = [  # a command and its option, without the name of the directory that it makes
    ['train.py', '--data', 'numbers', '--run'],
    ['export.py', 'run'],
    ['predict.py', '--run', 'run', '--input', 'in', '--plot-dir'],
    ['regress.py', 'export', 'run', '--input', 'in'],
    ['regress.py', 'capture', '--build', 'in:f'],
    ['regress.py', 'record']]


@pytest.mark.slow
@pytest.mark.parametrize('command', DIRECTORIES, ids=lambda command: command[0] + command[1])
def test_what_is_no_directory_is_refused_before_work(cheap, trained, tmp_path, command, summary):  # noqa: F811
    """A file, a device, a FIFO, a socket and a link to nothing in the place of a directory, and a path below a file."""
    (tmp_path / 'run').symlink_to(trained.path)
    (tmp_path / 'numbers').symlink_to(trained.data)
    for name in ('in', 'file'):
        (tmp_path / name).write_bytes(b'nine\n')
    (tmp_path / 'device').symlink_to('/dev/null')
    os.mkfifo(str(tmp_path / 'fifo'))
    socket.socket(socket.AF_UNIX).bind(str(tmp_path / 'socket'))
    (tmp_path / 'dangling').symlink_to('nothing')

    def nodes():
        found = {name: os.lstat(str(tmp_path / name)) for name in os.listdir(str(tmp_path))}
        return {name: (status.st_ino, status.st_mode, status.st_size) for name, status in found.items()}
    before = nodes()
    for name in ('file', 'device', 'fifo', 'socket', 'dangling', 'file/below'):
        one_line(cheap(*command, name), command[0], name)
    assert nodes() == before
    assert (tmp_path / 'file').read_bytes() == b'nine\n'
    summary('%s %s: 6 kinds of node refused' % tuple(command[:2]))


def test_compare_does_not_write_over_what_it_compares(cheap, tmp_path):  # noqa: F811
    (tmp_path / 'set').mkdir()
    content = (ROOT / 'reference' / 'dot-gru.float64.npz').read_bytes()
    for name in ('a.npz', 'set/a.npz'):
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'map').write_text('{}')
    for output in ('a.npz', 'set/a.npz', 'map'):
        one_line(cheap('regress.py', 'compare', 'a.npz', 'set', '--stage-map', 'map', '--html', output), 'regress.py',
                 output, 'too: name another file for --html')
    assert [(tmp_path / name).read_bytes() for name in ('a.npz', 'set/a.npz', 'map')] == [content, content, b'{}']


def test_evaluate_reads_a_text_outside_the_current_directory_only_for_a_trusted_run(cheap, tmp_path):  # noqa: F811
    (tmp_path / 'outside').write_bytes(b'nine\n')
    (tmp_path / 'here').mkdir()
    for name in ('named', 'linked'):
        path = str(tmp_path / 'outside') if name == 'named' else 'link'
        untrained(tmp_path / 'here' / name, train=[path], test=[path])
    (tmp_path / 'here' / 'link').symlink_to(tmp_path / 'outside')
    untrained(tmp_path / 'here' / 'folder', data='data')
    (tmp_path / 'here' / 'data').mkdir()
    for part in ('train', 'val', 'test'):
        (tmp_path / 'here' / 'data' / (part + '.tsv')).symlink_to(tmp_path / 'outside')
    for name in ('named', 'linked', 'folder'):
        one_line(cheap('evaluate.py', '--run', name, cwd=tmp_path / 'here'), 'evaluate.py',
                 'which is outside the current directory and is not the text that the run recorded: add --trust-run')
        one_line(cheap('evaluate.py', '--run', name, '--trust-run', cwd=tmp_path / 'here'), 'evaluate.py',
                 'no tab between source and target')


# A disk that fills

FULL_DISK = '''
place=$1; copy=$2; size=$3; shift 3
mount -t tmpfs -o size=$size none "$place" || exit 99
printf old > "$place/out"
"$@"
code=$?
cp -a "$place" "$copy"
exit $code
'''


@pytest.mark.slow
@pytest.mark.parametrize('command, option', [
    (['predict.py', '--run', 'run', '--input', 'in'], '--output'),
    (['predict.py', '--run', 'run', '--input', '-'], '--output'),
    (['predict.py', '--run', 'run', '--input', 'in', '--json'], '--html'),
    (['predict.py', '--run', 'run', '--input', 'in'], '--plot-dir'),
    (['evaluate.py', '--hypotheses', 'in', '--target', 'in'], '--output'),
    (['evaluate.py', '--hypotheses', 'in', '--target', 'in', '--source', 'in', '--by-length', '1,2,3,4,5'], '--plot')],
    ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_disk_that_fills_leaves_the_old_output_and_no_piece(trained, tmp_path, own_mounts, command, option):  # noqa: F811,E501
    (tmp_path / 'run').symlink_to(trained.path)
    (tmp_path / 'disk').mkdir()
    lines = b'nine five two one\n' * 6000
    (tmp_path / 'in').write_bytes(lines)
    name = 'pictures' if option == '--plot-dir' else 'out'
    size = '8k' if option == '--plot' else '48k'
    with open(str(tmp_path / 'in'), 'rb') as stream:
        done = subprocess.run(
            own_mounts + ['sh', '-c', FULL_DISK, 'sh', 'disk', 'copy', size, sys.executable, str(ROOT / command[0])]
            + command[1:] + [option, 'disk/' + name], cwd=str(tmp_path), env=environment(), stdin=stream,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    told = done.stderr.decode('utf-8').splitlines()
    assert done.returncode == 1 and len(told) == 1, told
    assert told[0].startswith('%s: disk/%s' % (command[0], name)) and told[0].endswith('free some space on this disk')
    left = sorted(str(path.relative_to(tmp_path / 'copy')) for path in (tmp_path / 'copy').rglob('*'))
    if option == '--plot-dir':
        pictures = [(tmp_path / 'copy' / path).read_bytes() for path in left if path.endswith('.png')]
        assert pictures and all(one.endswith(b'IEND\xaeB`\x82') for one in pictures)  # the end of a PNG file
        assert left == ['out', 'pictures'] + ['pictures/%04d.png' % n for n in range(1, len(pictures) + 1)]
    else:
        assert left == ['out']
    kept = (tmp_path / 'copy' / 'out').read_bytes()
    if '-' in command:  # of a pipe, whose end is unknown: what arrived was written at once
        assert len(kept) > 8192 and len(set(kept.split(b'\n')[:-1])) == 1
    else:
        assert kept == b'old'
