"""Captures each model of `keras.applications` with random weights, one process each: calls, time, memory, size.

    .venv/bin/python benchmarks/capture_applications.py            # all; prints the table of docs/capture.md
    .venv/bin/python benchmarks/capture_applications.py VGG16      # some
"""
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
from parity import bundle  # noqa: E402  the folder above must be on the path first

BUILD = 'import keras\n\n\ndef model():\n    return keras.applications.%s(weights=None)\n'
NAMES = ('MobileNet', 'MobileNetV2', 'NASNetMobile', 'DenseNet121', 'DenseNet169', 'DenseNet201', 'ResNet50',
         'InceptionV3', 'Xception', 'InceptionResNetV2', 'NASNetLarge', 'VGG16', 'VGG19')


def measure(name, folder):
    """Captures one model in a process of its own; returns a row of the table."""
    build, made = os.path.join(folder, name + '.py'), os.path.join(folder, name)
    with open(build, 'w') as stream:
        stream.write(BUILD % name)
    done = subprocess.run(['/usr/bin/time', '-f', '%e %M', sys.executable, os.path.join(ROOT, 'regress.py'), 'capture',
                           '--build', build + ':model', made], stderr=subprocess.PIPE)
    lines = done.stderr.decode('utf-8').strip().split('\n')
    if done.returncode:
        return '| %s | exit %d: %s |' % (name, done.returncode, lines[0])
    seconds, memory = map(float, lines[-1].split())
    size = sum(os.path.getsize(os.path.join(made, file)) for file in os.listdir(made))
    calls = len(bundle.read_manifest(made)['calls'])
    shutil.rmtree(made)
    return '| `%s` | %d | %.0f | %.0f MB | %.0f MB |' % (name, calls, seconds, memory / 1024, size / 2 ** 20)


def main(names):
    print('| model | calls | seconds | largest memory | bundle |\n|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        for name in names or NAMES:
            print(measure(name, folder), flush=True)


if __name__ == '__main__':
    main(sys.argv[1:])
