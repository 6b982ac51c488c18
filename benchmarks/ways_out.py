"""Lines per second of each way to put a trained run to work (docs/serving.md): medians, all measured in one run.

    benchmarks/ways_out.py runs/multi30k test_2016_flickr.de --python port/bin/python

Each way is a process with one thread. The ways take turns, so that other work on the machine affects all of them, and
affects processor seconds less; loading is not counted. `--python` names Pythons with a current onnxruntime, Keras 3 or
PyTorch. The Keras 3 port works sentence by sentence, and is measured on the first `--few` lines. The table also has the
size of what each way needs on disk, without its libraries, and the number of lines whose output differs from that of
predict.py.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from command_line import UserError, positive_int, run_command, tell  # noqa: E402
from settings import with_defaults  # noqa: E402
from storage.run_directory import RunDirectory  # noqa: E402
from text.text_files import read_lines  # noqa: E402
from text.tokenizers import read_tokenizers  # noqa: E402

WORKER = os.path.join(ROOT, 'benchmarks', 'one_way_out.py')


def parse(argv):
    parser = argparse.ArgumentParser(prog='ways_out.py', description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('run', metavar='RUN', help='run directory')
    parser.add_argument('sentences', metavar='SENTENCES', help='source text, a sentence a line')
    parser.add_argument('--lines', type=positive_int, metavar='N', help='the first N sentences (default: all)')
    parser.add_argument('--few', type=positive_int, default=20, metavar='N', help='(default: %(default)s)')
    parser.add_argument('--beam-width', type=positive_int, default=1, metavar='N', help='(default: %(default)s)')
    parser.add_argument('--repeats', type=positive_int, default=3, metavar='N', help='(default: %(default)s)')
    parser.add_argument('--python', action='append', default=[], metavar='PATH', help='a newer Python')
    parser.add_argument('--only', nargs='+', metavar='KIND', help='only ways whose names begin with one of these')
    return parser.parse_args(argv)


def command(*arguments):
    done = subprocess.run([sys.executable] + list(arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise UserError('%s: %s' % (arguments[0], done.stderr.decode('utf-8').strip().split('\n')[-1]))


def size_of(folder, names=None):
    """Megabytes of a file or of all files of a folder."""
    paths = [os.path.join(parent, name) for parent, _, found in os.walk(folder) for name in found
             if not names or name in names]
    return sum(map(os.path.getsize, paths)) / 1e6


def has(python, module):
    return subprocess.call([python, '-c', 'import %s' % module], stderr=subprocess.DEVNULL,
                           env=dict(os.environ, KERAS_BACKEND='torch')) == 0


def ways(options, made):
    """(name, Python, kind, folder, KERAS_BACKEND) of each way."""
    yield 'predict.py', sys.executable, 'predict', options.run, ''
    yield 'saved_model', sys.executable, 'saved_model', made['saved_model'], ''
    for python in [sys.executable] + options.python:
        if has(python, 'onnxruntime'):
            version = subprocess.check_output([python, '-c', 'import onnxruntime; print(onnxruntime.__version__)'])
            yield 'onnx, onnxruntime %s' % version.decode().strip(), python, 'onnx', made['onnx'], ''
    yield 'serve.py', sys.executable, 'serve', options.run, ''
    for python in options.python:
        for backend in ('jax', 'torch'):
            if has(python, backend) and has(python, 'keras'):
                yield 'keras3 on %s' % backend, python, 'keras3', made['bundle'], backend
        if has(python, 'torch') and options.beam_width == 1:
            yield 'pytorch', python, 'pytorch', made['bundle'], ''


def main(argv):
    options = parse(argv)
    texts = list(read_lines(options.sentences))[:options.lines]
    options.run = os.path.abspath(options.run)
    run = RunDirectory.open(options.run)
    tokenizer = read_tokenizers(run, with_defaults(run.read_config()))[0]
    with tempfile.TemporaryDirectory() as folder:
        made = {name: os.path.join(folder, name) for name in ('saved_model', 'onnx', 'bundle')}
        width = str(options.beam_width)
        command('export.py', '--beam-width', width, options.run, made['saved_model'])
        command('export.py', '--format', 'onnx', '--beam-width', width, options.run, made['onnx'])
        first = os.path.join(folder, 'first')
        with open(first, 'w', encoding='utf-8') as stream:
            stream.write(texts[0] + '\n')
        command('regress.py', 'export', options.run, made['bundle'], '--input', first)
        lines = os.path.join(folder, 'lines.json')
        with open(lines, 'w', encoding='utf-8') as stream:
            json.dump([texts, [tokenizer.tokenize(text) for text in texts]], stream)
        processes, seconds = [], {}
        for name, python, kind, place, backend in ways(options, made):
            if options.only and not name.startswith(tuple(options.only)):
                continue
            environment = dict(os.environ, OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1', PYTHONIOENCODING='utf-8')
            environment.update({'KERAS_BACKEND': backend} if backend else {})
            process = subprocess.Popen([python, WORKER, kind, place, lines, width], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
            if process.stdout.readline() != b'ready\n':
                tell('%s: does not run with %s' % (name, python))
                continue
            count = min(len(texts), options.few if kind == 'keras3' else len(texts))
            processes.append((name, kind, place, count, process))
            seconds[name] = []
        for _ in range(options.repeats):
            for name, _, _, count, process in processes:
                process.stdin.write(b'%d\n' % count)
                process.stdin.flush()
                seconds[name].append([float(number) for number in process.stdout.readline().split()])
        print('%-26s %5s %8s %9s %19s %5s %s' % ('way', 'lines', 'seconds', 'processor', 'lines/processor s', 'MB',
                                                 'lines that differ'))
        expected = None
        for name, kind, place, count, process in processes:
            process.stdin.write(b'\n')
            process.stdin.flush()
            outputs = json.loads(process.stdout.readline().decode('utf-8'))
            process.wait()
            expected = expected or outputs
            differ = sum(one != other for one, other in zip(outputs, expected))
            files = {'keras3': ('run.npz',), 'pytorch': ('run.npz',), 'predict': (), 'serve': ()}.get(kind)
            if files == ():     # what a run directory needs for translating
                files = ('config.json', 'manifest.json', 'weights.h5', 'vocab.source.txt', 'vocab.target.txt',
                         'tokenizer.source.model', 'tokenizer.target.model')
            whole, busy = map(statistics.median, zip(*seconds[name]))
            print('%-26s %5d %8.2f %9.2f %19.1f %5.1f %d' % (name, count, whole, busy, count / busy,
                                                             size_of(place, files), differ))


if __name__ == '__main__':
    run_command(main, 'ways_out.py')
