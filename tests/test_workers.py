"""Several workers in real processes of horovodrun on this machine: the bits of one process, stops, kills, mistakes."""
import os
import random
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from storage.run_directory import RunDirectory
from test_commands import ROOT, environment, no_tensorflow, number_pairs, run, write_pairs  # noqa: F401
from test_resume import outcome, state_of
from text.batches import plan_batches
from training.workers import Workers, check_group
from command_line import UserError
from settings import with_defaults

KILLED = 'train.py: a worker was killed, or its machine cannot be reached any more: '
CONTINUE = 'the last checkpoint is complete; continue it with --resume'
AGAIN = 'start it again, with --resume if the run has a config.json'
HOROVODRUN = os.path.join(os.path.dirname(sys.executable), 'horovodrun')
needs_horovod = pytest.mark.skipif(not os.path.exists(HOROVODRUN), reason='no Horovod: make distributed')
# 200 pairs in batches of 8 are 25 batches: the last group of an epoch has one batch, and one worker is idle.
SMALL = ['--units', '16', '--embedding', '16', '--threads', '1', '--batch-size', '8', '--epochs', '3',
         '--dropout', '.3', '--accumulate', '2', '--source-tokenizer', 'space', '--target-tokenizer', 'space',
         '--seed', '5']
# train.py that does something to itself at its start or before an update: sys.argv has worker, 'start' or the number of
# the update, and a statement, then train.py's.
FAULT = '''
import os, runpy, signal, sys, threading, time
root, worker, count, statement = sys.argv[1:5]
sys.path.insert(0, root)
sys.argv[:] = ['train.py'] + sys.argv[5:]
rank = os.environ.get('HOROVOD_RANK', '0')
with open('pid.' + rank, 'w') as stream:
    stream.write(str(os.getpid()))

def kill(victim):
    with open('pid.%d' % victim) as stream:
        os.kill(int(stream.read()), signal.SIGKILL)

def cut(name, victim):
    """Kills a worker in the middle of the writing of the next file that has this in its path."""
    from storage import run_directory
    whole, write = run_directory.write_bytes, os.write

    def half(descriptor, data):
        write(descriptor, data[:len(data) // 2])
        kill(victim)
        time.sleep(60)  # the death of the other worker ends this one

    def write_bytes(path, data):
        os.write = half if name in path else write
        whole(path, data)

    run_directory.write_bytes = write_bytes

if rank == worker and count == 'start':
    exec(statement)
elif rank == worker:
    import tf_session
    from training.trainer import Trainer
    original = Trainer.update

    def update(self, group):
        if self.state.update == int(count):
            exec(statement)
        original(self, group)

    Trainer.update = update
runpy.run_path(os.path.join(root, 'train.py'), run_name='__main__')
'''


def horovodrun(count, home, *arguments, fault=None):
    """Runs train.py with `count` workers. Returns its exit codes by worker, and the lines of stderr by worker."""
    command = [sys.executable, str(ROOT / 'train.py')]
    if fault:
        (home / 'fault.py').write_text(FAULT)
        command = [sys.executable, str(home / 'fault.py'), str(ROOT)] + list(map(str, fault))
    command = [HOROVODRUN, '-np', str(count), '-H', 'localhost:%d' % count, '--gloo'] + command + list(
        map(str, arguments))
    done = subprocess.run(['timeout', '-k', '10', '300'] + command, cwd=str(home), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment(PYTHONWARNINGS='ignore'))
    text = (done.stdout + done.stderr).decode('utf-8', 'replace')
    codes = dict.fromkeys(range(count), 0)
    ended = re.findall(r'Process (\d+) exit with status code (\d+)', text)
    codes.update((int(rank), int(code)) for rank, code in ended)
    lines = {rank: re.findall(r'\[%d\]<std(?:err|out)>:(.*)' % rank, text) for rank in range(count)}
    assert (done.returncode == 0) == (set(codes.values()) == {0}), text
    return codes, lines


def said(lines):
    """The lines of train.py itself that report an end."""
    return [line for rank in sorted(lines) for line in lines[rank] if line.startswith('train.py: ')]


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A directory with a small corpus, and the run `one` of one process."""
    home = tmp_path_factory.mktemp('workers')
    (home / 'numbers').mkdir()
    write_pairs(home / 'numbers' / 'train.tsv', [(source, ' '.join(target)) for source, target in number_pairs(200, 1)])
    write_pairs(home / 'numbers' / 'val.tsv', [(source, ' '.join(target)) for source, target in number_pairs(30, 2)])
    result = run('train.py', '--data', 'numbers', '--run', 'one', *SMALL, cwd=home)
    assert result.code == 0, result.stderr
    return home


# Without Horovod

def test_training_does_not_import_horovod(tmp_path):
    (tmp_path / 'horovod.py').write_text('import os\nos._exit(99)\n')
    program = 'import sys; sys.path[:0] = [%r, %r]; import train, training.trainer; print("horovod" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', program % (str(tmp_path), str(ROOT))], stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, b'False\n')


def test_workers_without_horovod_name_the_remedy(tmp_path):
    (tmp_path / 'horovod').mkdir()
    (tmp_path / 'horovod' / '__init__.py').write_text('raise ImportError("none")\n')
    result = run('train.py', cwd=tmp_path, PYTHONPATH=str(tmp_path), HOROVOD_SIZE='2', HOROVOD_RANK='1')
    assert result.code == 1
    assert result.stderr.splitlines() == [
        'train.py: several workers need Horovod: install it with make distributed (none)']


def test_one_process_is_all_workers_in_one():
    workers = Workers()
    assert (workers.rank, workers.size, workers.is_first, list(workers.own(3))) == (0, 1, True, [0, 1, 2])
    assert workers.sum([1, 2.5]).tolist() == [1, 2.5] and workers.share({'a': 1}) == {'a': 1}
    with pytest.raises(KeyError):
        with workers.agreeing(), workers.joined():
            raise KeyError


def test_each_batch_of_a_group_has_one_worker_and_other_numbers_are_refused():
    workers = Workers()
    workers.size, taken = 4, []
    for workers.rank in range(4):
        taken += workers.own(6)
    assert sorted(taken) == list(range(6))
    check_group(with_defaults({'accumulate': 8}), workers)
    with pytest.raises(UserError) as error:
        check_group(with_defaults({'accumulate': 6}), workers)
    assert '--accumulate 6' in str(error.value) and 'multiple of 4' in str(error.value)


@pytest.mark.parametrize('told, checkpoint, ending, line', [
    (False, True, 'kill', KILLED + AGAIN), (True, False, 'kill', KILLED + AGAIN),
    (True, True, 'kill', KILLED + CONTINUE),
    (True, True, 'end', None), (False, False, 'end', None)])
def test_the_report_of_a_death_claims_a_checkpoint_only_where_the_run_has_one(tmp_path, told, checkpoint, ending, line):
    path = tmp_path / 'run \xfc'
    (path / 'checkpoint').mkdir(parents=True)
    if checkpoint:
        (path / 'checkpoint' / 'last').write_text('')
    program = '''
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from training import workers
one = workers.HorovodWorkers.__new__(workers.HorovodWorkers)
one._watch = workers._watch()
if %r:
    one.watch_run(sys.argv[2])
with one.joined():
    if %r == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
''' % (told, ending)
    done = subprocess.run([sys.executable, '-c', program, str(ROOT), str(path)], stderr=subprocess.PIPE)
    assert done.returncode == (-signal.SIGKILL if ending == 'kill' else 0)
    assert done.stderr.decode('utf-8').splitlines() == ([line] if line else [])


@pytest.mark.parametrize('group', [1, 2, 3, 8, 150])
def test_a_plan_by_groups_has_every_pair_once_and_neighbours_in_length_together(group):
    lengths = np.random.RandomState(3).randint(1, 40, (2, 1003))
    plan = plan_batches(*lengths, batch_size=4, seed=2, epoch=1, group=group)
    assert sorted(i for batch in plan for i in batch) == list(range(1003))
    assert len(plan) == 251 and [len(batch) for batch in plan].count(4) == 250
    if group == 1:
        assert [b.tolist() for b in plan] == [b.tolist() for b in plan_batches(*lengths, 4, 2, 1)]
    # With neighbours together the longest batch of a group is little longer than the mean.
    sizes = [max(lengths[0][batch]) for batch in plan]
    groups = [sizes[i:i + group] for i in range(0, len(sizes), group)]
    spread = np.mean([max(sizes) / np.mean(sizes) for sizes in groups if len(sizes) == group])
    ungrouped = [max(lengths[0][batch]) for batch in plan_batches(*lengths, batch_size=4, seed=2, epoch=1)]
    mixed = np.mean([max(ungrouped[i:i + group]) / np.mean(ungrouped[i:i + group]) for i in range(0, 248, group)])
    assert group in (1, 150) or spread < 1.15 < mixed


# With Horovod

@needs_horovod
@pytest.mark.slow
@pytest.mark.parametrize('kernels', ['fast', 'keras'])
def test_two_workers_give_the_bits_of_one_process_that_accumulates_two(home, kernels):
    if kernels == 'keras':
        result = run('train.py', '--data', 'numbers', '--run', 'one-keras', *SMALL, '--kernels', 'keras', cwd=home)
        assert result.code == 0, result.stderr
    name = 'one' if kernels == 'fast' else 'one-keras'
    codes, lines = horovodrun(2, home, '--data', 'numbers', '--run', 'two-' + kernels, *SMALL, '--kernels', kernels)
    assert codes == {0: 0, 1: 0} and lines[1] == [], lines
    assert outcome(home / ('two-' + kernels)) == outcome(home / name)
    with RunDirectory.open(str(home / name)) as one:
        assert not [array for array in one.read_checkpoint()[0] if array.endswith('_sum')]


@needs_horovod
@pytest.mark.slow
def test_two_workers_agree_with_one_process_that_accumulates_four(home, summary):
    # In another order of additions: docs/scaling.md. 25 batches: the last group has one, and the second worker none.
    four, arrays = SMALL + ['--accumulate', '4'], []
    result = run('train.py', '--data', 'numbers', '--run', 'one-4', *four, cwd=home)
    assert result.code == 0, result.stderr
    codes, lines = horovodrun(2, home, '--data', 'numbers', '--run', 'two-4', *four)
    assert codes == {0: 0, 1: 0}, lines
    for name in ('one-4', 'two-4'):
        with RunDirectory.open(str(home / name)) as opened:
            arrays.append(opened.read_checkpoint()[0])
    assert list(arrays[0]) == list(arrays[1])
    worst = max(np.abs(arrays[0][name] - arrays[1][name]).max() for name in arrays[0] if name.startswith('model/'))
    assert worst < 1e-6
    summary('two workers, --accumulate 4, %d updates: weights differ from those of one process by at most %.1e'
            % (state_of(home / 'two-4')['update'], worst))


@needs_horovod
@pytest.mark.slow
def test_a_run_is_stopped_by_either_worker_and_resumed_by_other_numbers_of_workers(home):
    codes, lines = horovodrun(2, home, '--data', 'numbers', '--run', 'turns', *SMALL,
                              fault=(1, 15, 'os.kill(os.getpid(), signal.SIGTERM)'))
    assert codes == {0: 128 + signal.SIGTERM, 1: 128 + signal.SIGTERM}
    assert said(lines) == ['train.py: stopped by SIGTERM; continue it with --resume']
    (home / 'fault.py').write_text(FAULT)
    stopped = run(home / 'fault.py', ROOT, 0, 24, 'os.kill(os.getpid(), signal.SIGINT)', '--run', 'turns', '--resume',
                  cwd=home)
    assert stopped.code == 130 and 'resuming at epoch 2, batch 7\n' in stopped.stderr, stopped.stderr
    codes, lines = horovodrun(2, home, '--run', 'turns', '--resume')
    assert codes == {0: 0, 1: 0} and 'resuming at epoch 2, batch 25' in lines[0], lines
    assert outcome(home / 'turns') == outcome(home / 'one')


@needs_horovod
@pytest.mark.slow
def test_a_run_whose_workers_are_killed_at_random_moments_ends_as_one_never_stopped(home, summary):
    path, chosen = home / 'killed', random.Random(9)
    # Who is killed, by which process, before which of the 13 updates of an epoch, and how.
    (inside, end), files = chosen.sample([0, 1], 2), chosen.sample(['checkpoint/', 'checkpoint/last'], 2)
    kills = [
        (0, 0, 'start', 'threading.Timer(%.3f, kill, (0,)).start()' % chosen.uniform(0, 2.5)),
        (1, 1, 'start', 'threading.Timer(%.3f, kill, (1,)).start()' % chosen.uniform(0, 2.5)),
        (inside, inside, chosen.randint(0, 11),
         'threading.Timer(%.3f, kill, (%d,)).start()' % (chosen.uniform(0, .05), inside)),
        # After the validation of an epoch, before its checkpoint; and while worker 0 writes that.
        (end, end, 12, 'self.evaluate = lambda *a, f=self.evaluate: (f(*a), kill(%d))' % end),
        (0, 0, 12, 'cut(%r, 0)' % files[0]),
        (1, 0, 12, 'cut(%r, 1)' % files[1])]
    chosen.shuffle(kills)
    for worker, actor, update, how in kills:
        begun = (path / 'config.json').exists()    # as the report says
        if update != 'start':
            update += state_of(path)['update'] if (path / 'checkpoint' / 'last').exists() else 0
        codes, lines = horovodrun(2, home, '--run', path, *(['--resume'] if begun else ['--data', 'numbers'] + SMALL),
                                  fault=(actor, update, how))
        assert codes[worker] == 128 + signal.SIGKILL, (how, lines)
        remedies = [KILLED + (CONTINUE if (path / 'checkpoint' / 'last').exists() else AGAIN)]
        if update == 'start':   # before the run is begun or continued, nothing is known of its checkpoints
            remedies += ['', KILLED + AGAIN]
        assert ''.join(said(lines)) in remedies, (how, lines)
    codes, _ = horovodrun(2, home, '--run', path, '--resume')
    assert codes == {0: 0, 1: 0}
    assert outcome(path) == outcome(home / 'one')
    assert not [name for name in os.listdir(str(path)) if name.endswith('.tmp')]
    summary('kill -9 of either of two workers at random moments: %d tried and resumed, the same weights' % len(kills))


@needs_horovod
@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_worker_ends_all_with_one_line(home):
    codes, lines = horovodrun(2, home, '--data', 'numbers', '--run', 'bad', *SMALL, fault=(
        1, 15, 'self.keras_model.train_on_batch = lambda *a, step=self.keras_model.train_on_batch, **k: '
        '[float("nan")] + step(*a, **k)[1:]'))
    assert codes == {0: 1, 1: 1}
    line, = said(lines)
    assert 'the loss is nan at step 16 (batch 6 of epoch 2: lines ' in line and 'last good checkpoint' in line


@needs_horovod
@pytest.mark.slow
def test_a_mistake_of_one_worker_ends_all_with_one_line_before_a_run_is_made(home):
    # The second worker sees another text at the path, as on a second machine.
    shutil.copytree(str(home / 'numbers'), str(home / 'other'))
    with open(str(home / 'other' / 'train.tsv'), 'a') as stream:
        stream.write('one\t1\n')
    (home / 'elsewhere.py').write_text(
        'import os, runpy, sys\nsys.argv[:] = sys.argv[1:]\nsys.path.insert(0, os.path.dirname(sys.argv[0]))\n'
        'from text import corpus\nfind = corpus.corpus_paths\n'
        'def paths(settings):\n'
        '    if os.environ["HOROVOD_RANK"] == "1":\n        settings.data = "other"\n    return find(settings)\n'
        'corpus.corpus_paths = paths\nrunpy.run_path(sys.argv[0], run_name="__main__")\n')
    command = [HOROVODRUN, '-np', '2', '-H', 'localhost:2', '--gloo', sys.executable, 'elsewhere.py',
               str(ROOT / 'train.py'), '--data', 'numbers', '--run', 'unequal'] + SMALL
    done = subprocess.run(['timeout', '-k', '10', '300'] + command, cwd=str(home), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=environment(PYTHONWARNINGS='ignore'))
    lines = re.findall(r'\[(\d)\]<std(?:err|out)>:(train\.py: .*)', done.stdout.decode('utf-8'))
    assert done.returncode == 1 and len(lines) == 1, done.stdout.decode('utf-8')
    assert lines[0][0] == '1' and 'other/train.tsv: the train text on ' in lines[0][1]
    assert not (home / 'unequal').exists()
    codes, lines = horovodrun(2, home, '--data', 'numbers', '--run', 'unequal', *SMALL, '--accumulate', '3')
    assert set(codes.values()) == {1}
    assert said(lines) == ['train.py: --accumulate 3 cannot be divided among 2 workers: give a multiple of 2']
