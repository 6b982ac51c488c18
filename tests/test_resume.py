"""Resuming: a run stopped anywhere and resumed ends like one that was never stopped, in processes of train.py."""
import collections
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import h5py
import pytest

from storage.run_directory import RunDirectory
from test_commands import (ROOT, SETTINGS, SMALL, cheap, environment, no_tensorflow, number_pairs,  # noqa: F401
                           one_line, read_csv, run, shared_run, start, trained, write_pairs)
from test_run_directory import own_mounts  # noqa: F401
from storage.weights_file import array_hash

# train.py with a fault: after update COUNT of this process (or once the validation after it has begun) it gets the
# signals named; KILL comes from a thread that first waits for some seconds, and so hits whatever is done then. Where
# COUNT is 0 that thread begins with the process.
FAULT = '''
import os, runpy, signal, sys, threading, time
root, place, count, names, wait = sys.argv[1:6]
sys.path.insert(0, root)
sys.argv[:] = ['train.py'] + sys.argv[6:]
calls = []

def send():
    time.sleep(float(wait))
    for name in names.split(','):
        os.kill(os.getpid(), getattr(signal, name))

if count == '0':  # from the first moment of the process
    threading.Thread(target=send, daemon=True).start()
import tf_session
from training.trainer import Trainer
original = getattr(Trainer, place)

def cut(self, *arguments):
    calls.append(0)
    if place == 'evaluate' and len(calls) == int(count):
        send()
    result = original(self, *arguments)
    if place == 'update' and len(calls) == int(count):
        threading.Thread(target=send).start() if float(wait) else send()
    return result

setattr(Trainer, place, cut)
runpy.run_path(os.path.join(root, 'train.py'), run_name='__main__')
'''
TIMES = ('seconds', 'words_per_second')


@pytest.fixture
def cut(tmp_path):
    """Runs train.py with a fault, as `FAULT` tells."""
    script = tmp_path / 'fault.py'
    script.write_text(FAULT)

    def call(home, place, count, names, *arguments, wait=0, **options):
        return run(script, ROOT, place, count, names, wait, *arguments, cwd=home, **options)
    return call


def outcome(path):
    """What must not depend on whether a run was stopped; arrays by hash, so that pytest names differences."""
    with RunDirectory.open(str(path)) as one:
        arrays, state = one.read_checkpoint()
        files = {name: one.read_file(name) for name in ('config.json', 'vocab.source.txt', 'vocab.target.txt')}
    weights = {}
    with h5py.File(str(path / 'weights.h5'), 'r') as stream:
        stream.visititems(lambda name, item: weights.update({name: array_hash(name, item[()])})
                          if isinstance(item, h5py.Dataset) else None)
    state.pop('seconds')
    state['kept'] = [(one['step'], one['score']) for one in state['kept']]  # a file's hash is of its times too
    state['log'] = [without_times(row) for row in state['log']]
    return {'checkpoint': {name: array_hash(name, array) for name, array in arrays.items()}, 'state': state,
            'weights': weights, 'log': [without_times(row) for row in read_csv(path / 'log.csv')], 'files': files}


def without_times(row):
    return collections.OrderedDict((name, value) for name, value in row.items() if name not in TIMES)


def state_of(path):
    with RunDirectory.open(str(path)) as one:
        return one.read_checkpoint()[1]


def resume(home, path, *arguments, **options):
    result = run('train.py', '--run', path, '--resume', *arguments, cwd=home, **options)
    assert (result.code, result.stdout) == (0, b''), result.stderr
    return result.stderr


# Exact resume

@pytest.mark.slow
def test_a_run_stopped_inside_an_epoch_ends_as_one_never_stopped(cut, trained, tmp_path):  # noqa: F811
    path = tmp_path / 'run'
    stopped = cut(trained.home, 'update', 25, 'SIGINT', '--data', 'numbers', '--run', path, *SETTINGS,
                  PYTHONHASHSEED='7')
    assert (stopped.code, stopped.stdout) == (130, b''), stopped.stderr
    assert re.fullmatch('train.py: stopped by SIGINT; continue it with .*train.py --run %s --resume' % path,
                        stopped.stderr.splitlines()[-1])
    assert 'Traceback' not in stopped.stderr
    state = state_of(path)
    assert (state['epoch'], state['position'], state['update'], len(state['log'])) == (2, 10, 25, 2)
    assert 'resuming at epoch 3, batch 11\n' in resume(trained.home, path)
    assert outcome(path) == outcome(trained.path)


SIGNALS = [
    ('update', 1, 'SIGTERM', 143, (0, 2)),  # before the first validation
    ('update', 30, 'SIGTERM', 143, (2, 19)),  # the last update of an epoch
    ('update', 80, 'SIGINT', 130, (7, 19)),  # the last one of all
    ('evaluate', 3, 'SIGINT', 130, (3, 2)),  # while it validates: the next update is finished first
    ('evaluate', 8, 'SIGTERM', 0, (8, 0)),  # nothing is left to be done
]


@pytest.mark.slow
@pytest.mark.parametrize('place, count, name, code, stands', SIGNALS)
def test_a_run_stopped_at_any_place_ends_as_one_never_stopped(cut, trained, tmp_path,  # noqa: F811
                                                              place, count, name, code, stands):
    path = tmp_path / 'run'
    stopped = cut(trained.home, place, count, name, '--data', 'numbers', '--run', path, *SETTINGS)
    assert stopped.code == code, stopped.stderr
    state = state_of(path)
    assert (state['epoch'], state['position']) == stands
    resume(trained.home, path)
    assert outcome(path) == outcome(trained.path)


@pytest.mark.slow
def test_a_second_signal_ends_immediately_and_keeps_the_previous_checkpoint(cut, trained, tmp_path):  # noqa: F811
    path = tmp_path / 'run'
    stopped = cut(trained.home, 'update', 25, 'SIGINT,SIGINT', '--data', 'numbers', '--run', path, *SETTINGS)
    assert stopped.code in (-signal.SIGINT, 130)
    state = state_of(path)
    assert (state['epoch'], state['position']) == (2, 0)
    resume(trained.home, path)
    assert outcome(path) == outcome(trained.path)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_one_never_stopped(cut, trained, tmp_path, summary):  # noqa: F811
    """`make soak` sets KILLS to 50."""
    kills, path, chosen, ended = int(os.environ.get('KILLS', 5)), tmp_path / 'run', random.Random(5), 0
    begin, started = ['--data', 'numbers'] + SETTINGS, time.time()
    assert run('train.py', '--dry-run', *begin, cwd=trained.home).code == 0
    seconds = time.time() - started  # a process takes so long to come to its first updates, and no longer
    for number in itertools.count():
        # Ten updates make an epoch: the kill comes inside it, at its end while files are written, or soon after.
        # Every fourth comes at any time at all, while Python starts or TensorFlow is imported too.
        at_any_time = number % 4 == 3
        place = ('update', 0 if at_any_time else chosen.randint(1, 12))
        wait = chosen.uniform(0, seconds) if at_any_time else chosen.choice([1e-4, .01, .1])
        result = cut(trained.home, *place, 'SIGKILL', '--run', path,
                     *(['--resume'] if (path / 'config.json').exists() else begin), wait=wait)
        if result.code == 0:  # came to its end before
            assert outcome(path) == outcome(trained.path)
            shutil.rmtree(str(path))
            ended += 1
            assert ended <= kills  # else the kills do not come
        else:
            assert result.code == -signal.SIGKILL, result.stderr
            if number + 1 - ended == kills:
                break
    if (path / 'config.json').exists():
        resume(trained.home, path)
    else:
        assert run('train.py', '--run', path, *begin, cwd=trained.home).code == 0
    assert outcome(path) == outcome(trained.path)
    assert not [name for name in os.listdir(str(path)) if name.endswith('.tmp')]
    summary('kill -9 at random moments: %d tried, %d survived; %d trainings came to their end, all the same'
            % (kills, kills, ended + 1))


# What train.py is given on a disk that is too small for two checkpoints, and then larger, and then read-only.
SMALL_DISK = '''
set -e
mount -t tmpfs -o size=480k none "$1"
place=$1 python=$2 train=$3
shift 3
tell() { code=0; "$@" || code=$?; echo "exit $code" >&2; }
tell "$python" "$train" --run "$place/run" "$@"
mount -o remount,size=9m "$place"
tell "$python" "$train" --run "$place/run" --resume
cp -r "$place/run" "$place.copy"
mount -o remount,ro "$place"
tell "$python" "$train" --run "$place/run" --resume --epochs 9
tell "$python" "$train" --run "$place/new" "$@"
'''


@pytest.mark.slow
def test_a_training_on_a_full_disk_continues_when_there_is_room_and_a_read_only_disk_is_refused(
        trained, tmp_path, own_mounts):  # noqa: F811
    (tmp_path / 'disk').mkdir()
    process = subprocess.Popen(
        own_mounts + ['sh', '-c', SMALL_DISK, 'sh', str(tmp_path / 'disk'), sys.executable, str(ROOT / 'train.py'),
                      '--data', 'numbers'] + SETTINGS, cwd=str(trained.home), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    parts = re.split('exit ([0-9]+)\n', err.decode('utf-8'))
    assert (process.returncode, out, parts[1::2]) == (0, b'', ['1', '0', '1', '1']), err
    told = [part.splitlines()[-1] for part in parts[:-1:2]]
    assert re.fullmatch('train.py: .*/disk/run/.*No space left on device.*: free some space on this disk', told[0])
    for line in told[2:]:
        assert re.fullmatch('train.py: .*/disk/.*Read-only file system.*: choose a place that is not read-only', line)
    assert b'Traceback' not in err
    assert outcome(tmp_path / 'disk.copy') == outcome(trained.path)


# An epoch has 8 updates. The scores are those of a model that has learnt little: plateau has much to do.
RICH = SMALL + ['--input-feeding', '--encoder-layers', '2', '--decoder-layers', '2', '--residual', '--epochs', '3',
                '--batch-size', '8', '--warmup', '4', '--weight-decay', '0.01', '--dropout', '0.2', '--init-scale', '0',
                '--label-smoothing', '0.1', '--averaging', '0.9', '--share-vocabulary', '--target-tokenizer', 'word',
                '--optimizer', 'rmsprop', '--decay', 'plateau', '--decay-patience', '1', '--decay-factor', '0.7',
                '--validate-every', '3', '--metric', 'rouge-l', '--patience', '99', '--keep', '2', '--average', '3',
                '--average-of', 'last', '--tensorboard']


@pytest.mark.slow
def test_a_larger_model_without_accumulation_resumes_exactly_too(cut, tmp_path):
    write_pairs(tmp_path / 'train.tsv', number_pairs(60, 3))
    write_pairs(tmp_path / 'val.tsv', number_pairs(10, 4))
    whole = run('train.py', '--data', '.', '--run', 'whole', *RICH, cwd=tmp_path)
    assert whole.code == 0, whole.stderr
    for begin, count in ((['--data', '.'] + RICH, 5), (['--resume'], 9)):
        assert cut(tmp_path, 'update', count, 'SIGTERM', '--run', 'cut', *begin).code == 143
    resume(tmp_path, 'cut')
    found, expected = outcome(tmp_path / 'cut'), outcome(tmp_path / 'whole')
    assert found == expected
    assert [row['step'] for row in expected['state']['log']] == [3, 6, 8, 9, 12, 15, 16, 18, 21, 24]
    assert expected['state']['rate_scale'] < 1 and len(expected['state']['kept']) >= 3
    for folder in ('checkpoint', 'tensorboard'):
        names = [set(os.listdir(str(tmp_path / name / folder))) for name in ('cut', 'whole')]
        assert names[0] == names[1] and len(names[0]) >= 4


@pytest.mark.slow
def test_a_sampled_softmax_draws_the_words_that_a_run_never_stopped_draws(cut, tmp_path):
    write_pairs(tmp_path / 'train.tsv', number_pairs(60, 3))
    write_pairs(tmp_path / 'val.tsv', number_pairs(10, 4))
    begin = ['--data', '.', *SETTINGS, '--epochs', '2', '--sampled-softmax', '4']
    whole = run('train.py', '--run', 'whole', *begin, cwd=tmp_path)
    assert whole.code == 0, whole.stderr
    assert cut(tmp_path, 'update', 5, 'SIGTERM', '--run', 'cut', *begin).code == 143
    state = state_of(tmp_path / 'cut')
    assert state['update'] == 5 and state['position']    # inside the second epoch
    resume(tmp_path, 'cut')
    assert outcome(tmp_path / 'cut') == outcome(tmp_path / 'whole')


@pytest.mark.slow
@pytest.mark.parametrize('update', [3, 4, 5])     # the softmax begins with update 4, counted from 0
def test_a_memory_network_cut_where_its_linear_start_ends_is_one_never_stopped(cut, tmp_path, update):
    story = '1 %s went to the %s.\n2 %s took the ball.\n3 Where is %s?\t%s\t1\n'
    people, places = ['Ann', 'Bob', 'Eve'], ['hall', 'park', 'shop', 'yard']
    drawn = random.Random(0)
    for name, count in (('train', 40), ('val', 6)):
        with open(str(tmp_path / name), 'w', encoding='utf-8') as stream:
            for _ in range(count):
                (who, other), place = drawn.sample(people, 2), drawn.choice(places)
                stream.write(story % (who, place, other, who, place))
    begin = ['--task', 'answer', '--format', 'babi', '--train', 'train', '--val', 'val', '--batch-size', '10',
             '--epochs', '2', '--units', '8', '--embedding', '8', '--linear-start', '1', '--dropout', '0.1',
             '--threads', '1', '--seed', '2']
    whole = run('train.py', '--run', 'whole', *begin, cwd=tmp_path)
    assert whole.code == 0, whole.stderr
    assert cut(tmp_path, 'update', update, 'SIGTERM', '--run', 'cut', *begin).code == 143
    assert state_of(tmp_path / 'cut')['update'] == update
    resume(tmp_path, 'cut')
    assert outcome(tmp_path / 'cut') == outcome(tmp_path / 'whole')


@pytest.mark.slow
def test_more_epochs_continue_where_the_run_ended(trained, tmp_path):  # noqa: F811
    path = tmp_path / 'run'
    fewer = [{'8': '5'}.get(text, text) if before == '--epochs' else text
             for before, text in zip([''] + SETTINGS, SETTINGS)]
    first = run('train.py', '--data', 'numbers', '--run', path, *fewer, cwd=trained.home)
    assert first.code == 0, first.stderr
    assert len(read_csv(path / 'log.csv')) == 5
    assert 'resuming at epoch 6, batch 1\n' in resume(trained.home, path, '--epochs', '8')
    assert outcome(path) == outcome(trained.path)
    # Nothing is left to do, and nothing changes.
    assert 'nothing is left to train: all 8 epochs are done (--epochs)' in resume(trained.home, path)
    assert outcome(path) == outcome(trained.path)


@pytest.mark.slow
def test_a_run_that_starts_from_anothers_weights_resumes_exactly_too(cut, trained, tmp_path):  # noqa: F811
    begin = ['--data', 'numbers', '--init-from', trained.path, '--keep-vocabulary', 'joined', *SETTINGS, '--epochs',
             '2', '--dropout', '0.2']
    whole = run('train.py', '--run', tmp_path / 'whole', *begin, cwd=trained.home)
    assert whole.code == 0, whole.stderr
    assert '%s: starts from ' % trained.path in whole.stderr
    expected = outcome(tmp_path / 'whole')
    assert expected['log'][0]['val_perplexity'] < read_csv(trained.path / 'log.csv')[0]['val_perplexity']
    with RunDirectory.open(str(tmp_path / 'whole')) as one, RunDirectory.open(str(trained.path)) as other:
        assert one.manifest()['init_from'] == {'run': str(trained.path),
                                               'sha256': other.manifest()['files']['weights.h5']}
    # Inside an epoch, and killed before the first checkpoint: then the weights are read again.
    assert cut(trained.home, 'update', 13, 'SIGTERM', '--run', tmp_path / 'a', *begin).code == 143
    assert cut(trained.home, 'update', 3, 'SIGKILL', '--run', tmp_path / 'b', *begin).code == -9
    for name in 'ab':
        resume(trained.home, tmp_path / name)
        assert outcome(tmp_path / name) == expected


@pytest.mark.slow
def test_a_run_stopped_in_its_first_epoch_says_how_to_continue(cut, trained, tmp_path):  # noqa: F811
    path = tmp_path / 'run'
    assert cut(trained.home, 'update', 3, 'SIGINT', '--run', path, '--data', 'numbers', *SETTINGS).code == 130
    one_line(run('predict.py', '--run', path, '--input', '-', cwd=trained.home), 'predict.py', 'has no weights yet',
             'train.py --run %s --resume' % path)


@pytest.mark.slow
@pytest.mark.parametrize('signum, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_run_stopped_before_its_first_batch_starts_again_with_the_same_command(trained, tmp_path,  # noqa: F811
                                                                                 signum, code):
    path = tmp_path / 'run'
    begin = ['--run', path, '--data', 'numbers', *SETTINGS, '--epochs', '1']
    process = start('train.py', *begin, cwd=trained.home)
    while not (path / 'config.json').exists():
        assert process.poll() is None
        time.sleep(.01)
    process.send_signal(signum)  # while the model is built
    _, err = process.communicate()
    assert process.returncode == code
    if signum != signal.SIGKILL:
        assert err.decode().splitlines()[-1] == 'train.py: stopped by %s' % signum.name and not path.exists()
    again = run('train.py', *begin, cwd=trained.home)
    assert again.code == 0, again.stderr


@pytest.mark.slow
def test_of_two_trainings_started_at_once_in_one_directory_one_trains(trained, tmp_path):  # noqa: F811
    path = tmp_path / 'run'
    both = [start('train.py', '--run', path, '--data', 'numbers', *SETTINGS, '--epochs', '1', cwd=trained.home)
            for _ in range(2)]
    told = [process.communicate()[1].decode() for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 1], told
    assert told[codes.index(1)].splitlines()[-1].startswith('train.py: %s: ' % path)
    assert len(read_csv(path / 'log.csv')) == 1


# The seed decides everything

@pytest.mark.slow
def test_another_process_with_the_same_seed_makes_the_same_run(trained, tmp_path):  # noqa: F811
    path = tmp_path / 'run'
    again = run('train.py', '--data', 'numbers', '--run', path, *SETTINGS, cwd=trained.home, PYTHONHASHSEED='123')
    assert again.code == 0, again.stderr
    assert outcome(path) == outcome(trained.path)
    text = '\n'.join(source for source, _ in number_pairs(50, 9)).encode('utf-8')
    outputs = [run('predict.py', '--run', one, '--input', '-', cwd=trained.home, text=text, PYTHONHASHSEED=seed).stdout
               for one, seed in ((path, '1'), (trained.path, '2'))]
    assert outputs[0] == outputs[1] and outputs[0].count(b'\n') == 50
    other = run('train.py', '--data', 'numbers', '--run', path, '--overwrite', *SETTINGS, '--seed', '2',
                '--epochs', '1', cwd=trained.home)
    assert other.code == 0, other.stderr
    found, expected = outcome(path), outcome(trained.path)
    assert found['log'][0]['train_perplexity'] != expected['log'][0]['train_perplexity']


# What resuming refuses, told before TensorFlow is imported

@pytest.fixture
def home(trained, tmp_path):  # noqa: F811
    """A copy of the shared run and its corpus that a test may change."""
    shutil.copytree(str(trained.home), str(tmp_path / 'home'))
    return tmp_path / 'home'


@pytest.mark.parametrize('arguments, told', [
    (['--units', '64'], ['--units 32', '64']),
    (['--dropout', '0.2'], ['--dropout 0.1', '0.2']),
    (['--seed', '2'], ['--seed 1', '2']),
    (['--threads', '2'], ['--threads 1', '2']),
    (['--input-feeding'], ['--input-feeding']),
    (['--source-tokenizer', 'char'], ['--source-tokenizer word', 'char']),
])
def test_resume_refuses_a_changed_setting_by_name(cheap, home, arguments, told):  # noqa: F811
    before = (home / 'runs' / 'numbers' / 'config.json').read_bytes()
    result = cheap('train.py', '--resume', '--data', 'numbers', '--epochs', '9', *arguments, cwd=home)
    one_line(result, 'train.py', 'runs/numbers', *told)
    assert (home / 'runs' / 'numbers' / 'config.json').read_bytes() == before


@pytest.mark.parametrize('part', ['train', 'val', 'test'])
def test_resume_refuses_changed_data(cheap, home, part):  # noqa: F811
    with (home / 'numbers' / (part + '.tsv')).open('ab') as stream:
        stream.write(b'one\t\xe4\xb8\x80\n')
    result = cheap('train.py', '--resume', '--run', 'runs/numbers', cwd=home)
    one_line(result, 'train.py', 'runs/numbers', 'the %s text' % part, 'numbers/%s.tsv' % part)


def test_resume_refuses_missing_data(cheap, home):  # noqa: F811
    (home / 'numbers' / 'val.tsv').unlink()
    one_line(cheap('train.py', '--resume', '--run', 'runs/numbers', cwd=home), 'train.py', 'numbers/val.tsv')


def test_resume_accepts_the_same_data_at_another_path(cheap, home):  # noqa: F811
    (home / 'numbers').rename(home / 'moved')
    result = cheap('train.py', '--resume', '--run', 'runs/numbers', '--data', 'moved', cwd=home)
    assert result.code == 77, result.stderr  # so far as to import TensorFlow


def test_resume_refuses_a_vocabulary_that_is_not_that_of_the_text(cheap, home):  # noqa: F811
    path = home / 'runs' / 'numbers' / 'vocab.source.txt'
    path.write_bytes(path.read_bytes().replace(b'nine\n', b'neun\n'))
    one_line(cheap('train.py', '--resume', '--data', 'numbers', cwd=home), 'train.py', 'vocab.source.txt')


def test_resume_refuses_a_manifest_without_the_hashes_of_the_data(cheap, home):  # noqa: F811
    path = home / 'runs' / 'numbers' / 'manifest.json'
    manifest = json.loads(path.read_text(encoding='utf-8'))
    del manifest['data']
    path.write_text(json.dumps(manifest), encoding='utf-8')
    one_line(cheap('train.py', '--resume', '--data', 'numbers', cwd=home), 'train.py', 'runs/numbers', 'text')


def test_resume_without_a_run_says_so(cheap):  # noqa: F811
    one_line(cheap('train.py', '--resume', '--run', 'nothing'), 'train.py', 'nothing: no such run directory')


def test_resume_is_refused_while_another_process_trains(cheap, home):  # noqa: F811
    with RunDirectory.open(str(home / 'runs' / 'numbers'), lock=True):
        one_line(cheap('train.py', '--data', 'numbers', '--resume', cwd=home), 'train.py', 'another process')


@pytest.mark.slow
def test_overwrite_does_not_replace_a_run_that_another_process_trains(home):
    before = (home / 'runs' / 'numbers' / 'config.json').read_bytes()
    with RunDirectory.open(str(home / 'runs' / 'numbers'), lock=True):
        one_line(run('train.py', '--data', 'numbers', '--overwrite', cwd=home), 'train.py', 'another process')
    assert (home / 'runs' / 'numbers' / 'config.json').read_bytes() == before


# A loss that is no longer a number

@pytest.mark.slow
@pytest.mark.parametrize('batch_size, rate, told', [
    (8, '1e30', 'batch'),
    (1000, '1e38', 'validation'),  # the one update of an epoch ruins the weights behind its own loss
])
def test_a_loss_that_is_no_number_stops_the_run_with_its_place(trained, tmp_path, batch_size, rate, told):  # noqa: F811
    result = run('train.py', '--data', 'numbers', '--run', tmp_path / 'run', *SMALL, '--epochs', '3',
                 '--averaging', '0', '--decay', 'constant', '--batch-size', batch_size, '--learning-rate', rate,
                 cwd=trained.home)
    assert (result.code, result.stdout) == (1, b''), result.stderr
    assert 'Traceback' not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith('train.py: ') and told in last and '--learning-rate' in last and 'step ' in last
    assert 'no checkpoint was written before' in last or (tmp_path / 'run' / 'checkpoint' / 'last').exists()
