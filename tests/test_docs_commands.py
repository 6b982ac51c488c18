"""The command blocks of all pages in docs/ run in the order of the page, in a copy of the checkout, on small data.

Commands run as they are written. `.venv/bin/python` of the copy is a script that appends the options in `SMALLER`, and
the files that the pages name (`my.de`, `qa1_train.txt`, ...) are made here. What cannot run is in `CANNOT`, with the
reason. A block that is neither commands nor in `NO_COMMANDS` is an error, so that no command is passed over.
"""
import gzip
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from test_commands import ROOT
from test_docs import copy_checkout

PAGES = sorted(path.name for path in (ROOT / 'docs').glob('*.md'))
SMALLER = {
    'train.py': '--epochs 1 --units 8 --embedding 8 --encoder-units 8 --batch-size 128 --threads 1',
    'serve.py': '--port $PORT --threads 1',
    'benchmarks/train_step.py': '--units 8 --embedding 8 --batch-size 4 --steps 1 --rounds 1 --threads 1',
    'benchmarks/long_inputs.py': '--units 8 --batch-size 2 --source-length 20 40 --threads 1',
    'benchmarks/decode.py': '--lines 4 --one-by-one 1 --repeats 1',
    'benchmarks/generate_corpus.py': '--pairs 400',
    'benchmarks/serve_load.py': '--seconds 1 --clients 2 --turns 1',
}
# Runs that a page uses, and that another page, `make demo` or a command that cannot run here trains.
NEEDED = {'alignments.md': ['translate', 'translate-guided'], 'README.md': ['translate'], 'porting.md': ['my'],
          'results.md': ['translate', 'de-en', 'en-zh'], 'serving.md': ['translate', 'my']}
CANNOT = [
    (r'make (demo|tutorial|reference-check|distributed|site)\b', 'test_docs.py, test_tutorial.py and .ci/run run it'),
    (r'make (onnx|serve-setup)\b', 'installs packages from the network'),
    (r'make align\b', 'installs packages from the network; .ci/run runs it'),
    (r'--alignments auto|benchmarks/link_entropy', 'needs eflomal: tests/test_alignments.py'),
    (r'pip install ', 'installs packages from the network'),
    (r'python3\.11 -m venv', 'installs packages from the network'),
    (r'(^|[ =])port/bin/python', 'needs Keras 3 or PyTorch in another Python: tests/test_adapters.py'),
    (r'regress\.py convert', 'needs Keras 3 in another Python'),
    (r'compare (bundle|reference) ported', 'compares what Keras 3 or PyTorch made in another Python'),
    (r'horovodrun', 'needs Horovod: tests/test_workers.py'),
    (r'benchmarks/workers\.py --rounds 3', 'needs Horovod: tests/test_workers.py'),
    (r'^parallel ', 'needs GNU parallel; tests/test_predict.py tests --shard'),
    (r'^sbatch |out\.\$i', 'needs Slurm; tests/test_predict.py tests --shard'),
    (r'python3 -m http\.server', 'runs until it is stopped: tests/test_web_page.py opens such a page'),
    (r'compare old\.npz new\.npz', 'compares what two environments made'),
    (r'make version-map', 'takes hours and gigabytes'),
    (r'benchmarks/(translation_)?peers\.py', 'needs a checkout of tensorflow/nmt, or JoeyNMT'),
    (r'--hypotheses nmt\.out', 'needs the output of tensorflow/nmt'),
    (r'benchmarks/variants\.py', 'trains 24 models, hours'),
    (r'docs/old_models/build\.py', 'needs the weights of two packages of PyPI'),
    (r'^\S*python regress\.py check$', 'takes minutes: `make reference-check`, a step of .ci/run'),
]
# The first lines of blocks that show text, output or formulas.
NO_COMMANDS = [
    r' ', r'[^\t]+\t', r'大卫', r'live = \[', r'no stage differs', r'1 thread ', r'from keras import ops', r'import sys$',
    r'with Translator', r'first stage that differs', r'class Attention',
]
COMMANDS = re.compile(r'(?:[A-Z_]+=\S+ )*'
                      r'(?:[.\w/]*python[\d.]*|make|cut|paste|curl|pip|parallel|sbatch|for|\$L|[.]venv/\S+) |[A-Z]+=')


def blocks(page):
    """[[line]] of the indented blocks of a page, without comment lines; a table's commands are a block each."""
    text = (ROOT / 'docs' / page).read_text(encoding='utf-8')
    text = re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)
    found = [[line[4:] for line in block.split('\n') if line.strip() and not line.startswith('    #')]
             for block in re.findall(r'(?:(?<=\n\n)|\A)(?:    .*(?:\n\n(?=    ))?\n?)+', text)]
    table = re.findall(r'^\| [^|]+ \| `([^`]+)`.* \|$', text, re.MULTILINE) if page == 'README.md' else []
    return found + [[command] for command in table if COMMANDS.match(command)]


def commands(page):
    """The commands of a page, in order."""
    for block in blocks(page):
        if block and not any(re.match(text, block[0]) for text in NO_COMMANDS):
            for command in re.sub(r'\\\n', '', '\n'.join(block)).split('\n'):
                assert COMMANDS.match(command), 'docs/%s: neither a command nor in NO_COMMANDS: %s' % (page, command)
                yield re.sub(r'\s+# .*', '', command)


def reason(command):
    """Why a command cannot run here, or `None`."""
    return next((why for pattern, why in CANNOT if re.search(pattern, command)), None)


def test_every_block_of_every_page_is_known_and_each_exception_is_used():
    found = [command for page in PAGES for command in commands(page)]
    assert len(found) > 80
    assert [pattern for pattern, _ in CANNOT if not any(re.search(pattern, command) for command in found)] == []
    firsts = [block[0] for page in PAGES for block in blocks(page) if block]
    assert [text for text in NO_COMMANDS if not any(re.match(text, first) for first in firsts)] == []
    for command in found:
        assert not re.match(r'(train|predict|evaluate|export|regress|serve)\.py', command), command


# Small data

BUILD = '''
from keras import backend as K, layers, models
import numpy as np

def build():
    ids = layers.Input((None,), name='ids')
    x = layers.GRU(4, name='gru')(layers.Embedding(9, 3, mask_zero=True)(ids))
    model = models.Model(ids, layers.Dense(2, activation='softmax', name='out')(x))
    model.compile('adam', 'categorical_crossentropy')
    return model

if __name__ == '__main__':
    model = build()
    model.save('old.h5')
    model.save_weights('weights.h5')
    np.savez('inputs.npz', ids=np.array([[3, 1, 4], [1, 5, 0]], 'float32'))
    np.savez('targets.npz', out=np.eye(2, dtype='float32'))
'''


def story(number):
    places = ['garden', 'kitchen', 'office']
    return ''.join('%d %s' % line for line in enumerate((
        'Mary went to the %s.\n' % places[number % 3], 'John went to the %s.\n' % places[(number + 1) % 3],
        'Where is Mary?\t%s\t1\n' % places[number % 3]), 1))


def make_files(folder):
    """The files that the pages name, some dozens of lines each."""
    pairs = [line.split('\t') for line in (ROOT / 'samples' / 'translate' / 'test.tsv').read_text(
        encoding='utf-8').split('\n')[:60]]

    def write(name, lines):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = ''.join(line + '\n' for line in lines).encode('utf-8')
        path.write_bytes(gzip.compress(data) if name.endswith('.gz') else data)

    english = [pair[0] for pair in pairs]
    for name in ('my', 'dev', 'test', 'train', 'multi30k/train', 'multi30k/val', 'multi30k/test_2016_flickr',
                 'test_2016_flickr'):
        write(name + '.de', [line.upper() for line in english])
        write(name + '.en', english)
    for name in ('part-1', 'part-2'):
        write(name + '.de.gz', english)
        write(name + '.en.gz', english)
    for name in ('moses.out', 'mine.out', 'other.out', 'in.txt', 'my.txt'):
        write(name, english)
    for part in ('train', 'test'):
        first = 5 if part == 'train' else 0
        write('3am/%s.en' % part, english[first:])
        write('3am/%s.zh' % part, [pair[1] for pair in pairs[first:]])
    write('my.zh', [' '.join(pair[1]) for pair in pairs])
    write('my.align', ['0-0'] * len(pairs))
    tabs = ['%s . %s\t%s' % (line, line, line) for line in english]
    for name in ('docs.tsv', 'synopsis/train.tsv', 'synopsis/val.tsv'):
        write(name, tabs)
    for name in ('tatoeba/train.tsv', 'tatoeba/val.tsv', 'tatoeba/test.tsv', 'captions.tsv', 'captions.val.tsv'):
        write(name, map('\t'.join, pairs))
    write('export.tsv', ['%d\t%s\t%s' % (number, line, line) for number, line in enumerate(english)])
    unit = '<tu><tuv xml:lang="de"><seg>%s</seg></tuv><tuv xml:lang="en"><seg>%s</seg></tuv></tu>'
    write('corpus.tmx', ['<tmx version="1.4"><header srclang="en"/><body>'] + [unit % (line, line) for line in english]
          + ['</body></tmx>'])
    write('squad.tsv', ['%s\twhat ?\t%s' % (line, line.split()[0]) for line in english])
    for name in ('qa1', 'qa2'):
        for part in ('train', 'test'):
            (folder / ('%s_%s.txt' % (name, part))).write_text(''.join(map(story, range(40))))
    (folder / 'my_model.py').write_text(BUILD)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """A checkout with the files, an old model, and `trained`, a run."""
    checkout = tmp_path_factory.mktemp('docs') / 'checkout'
    copy_checkout(checkout)
    cases = ''.join('    %s) set -- "$@" %s;;\n' % case for case in sorted(SMALLER.items()))
    interpreter = checkout / '.venv' / 'bin' / 'python'
    # The last checkpoint is not among the kept ones, so a run with --keep needs two epochs.
    kept = 'case " $* " in *" --keep "*) set -- "$@" --epochs 2;; esac\n'
    interpreter.write_text('#!/bin/sh\ncase ${1:-} in\n%sesac\n%sexec %s "$@"\n' % (cases, kept, sys.executable))
    make_files(checkout)
    run('.venv/bin/python my_model.py', checkout, {})
    run('.venv/bin/python train.py --run trained', checkout, {})
    return checkout


def run(command, folder, environment):
    """Runs one command as a shell does."""
    done = subprocess.run(['bash', '-e', '-o', 'pipefail', '-c', command], cwd=str(folder), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, **environment))
    assert done.returncode == 0, (command, done.returncode, done.stderr.decode()[-2000:], done.stdout.decode()[-500:])


class Server(object):
    """`serve.py` in the background, until the next one starts or the page ends."""

    def __init__(self, port):
        self._port, self._process = port, None

    def start(self, command, folder, environment):
        self.stop()
        self._process = subprocess.Popen(['bash', '-c', 'exec ' + command], cwd=str(folder),
                                         env=dict(os.environ, **environment), stderr=subprocess.PIPE)
        first = self._process.stderr.readline().decode()
        assert ' at http://127.0.0.1:%d/' % self._port in first, first + self._process.stderr.read().decode()

    def stop(self):
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self._process.communicate()
            self._process = None


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES)
def test_the_commands_of_a_page_run_in_order(prepared, tmp_path, page):
    todo = [command for command in commands(page) if not reason(command)]
    if not todo:
        pytest.skip('no command of this page can run here')
    folder = tmp_path / 'checkout'
    shutil.copytree(str(prepared), str(folder), symlinks=True)
    for name in NEEDED.get(page, ()):
        shutil.copytree(str(folder / 'trained'), str(folder / 'runs' / name))
    (tmp_path / 'python').symlink_to(folder / '.venv' / 'bin' / 'python')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = {'PATH': '%s:%s' % (tmp_path, os.environ['PATH']), 'PORT': str(port)}
    server, variables = Server(port), ''
    try:
        for command in todo:
            command = command.replace('127.0.0.1:8000', '127.0.0.1:%d' % port)
            if re.match('[A-Z]+=[^ ]+$|[A-Z]+="', command):
                variables += command + '\n'
            elif command.startswith('make serve') or ' serve.py' in command:
                if all(importlib.util.find_spec(name) for name in ('flask', 'waitress', 'prometheus_client')):
                    started = command.replace('make serve', '.venv/bin/python serve.py --run runs/translate')
                    server.start(started, folder, environment)
            else:
                run(variables + command, folder, environment)
    finally:
        server.stop()
