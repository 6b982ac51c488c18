"""What determines the numbers: versions, wheels, processor, threads. A set records them, and `check` compares them."""
from collections import OrderedDict
import hashlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import types
from unittest import mock

import tf_session  # first: it fixes the import order
import numpy as np
import tensorflow as tf
import pkg_resources
from reports.progress import Progress

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = ('tensorflow', 'keras', 'numpy', 'h5py')


def describe():
    """Returns versions, wheels, processor and threads; if all are equal, results are compared byte for byte."""
    versions = OrderedDict([('python', platform.python_version())])
    wheels = OrderedDict()
    for name in PACKAGES:
        package = pkg_resources.get_distribution(name)
        versions[name] = package.version
        # The wheel's list of files with their hashes, without the lines that the installer adds.
        lines = sorted(line for line in package.get_metadata_lines('RECORD')
                       if 'sha256=' in line and not line.endswith('.pyc') and '.dist-info/' not in line
                       and not line.startswith('..'))
        wheels[name] = hashlib.sha256('\n'.join(lines).encode('utf-8')).hexdigest()
    processor = OrderedDict()
    with open('/proc/cpuinfo', encoding='utf-8') as stream:
        for line in stream:
            key, _, value = line.partition(':')
            if key.strip() in ('model name', 'flags'):
                processor.setdefault(key.strip(), ' '.join(sorted(value.split())) if key.startswith('flags')
                                     else value.strip())
    return OrderedDict([('versions', versions), ('wheels', wheels), ('processor', processor), ('threads', 1)])


def arithmetic(_):
    """Returns the sha256 of results that differ between processors: square roots, matrix products of some inner sizes.

    /proc/cpuinfo of an emulator shows the processor of its host, so it cannot distinguish the two.
    """
    random = np.random.RandomState(0)
    pairs = [(random.rand(4, size).astype('f'), random.rand(size, 4).astype('f')) for size in (500, 512, 1024, 2000)]
    x = np.linspace(1e-3, 1e3, 4096).astype('f')
    with tf_session.repeatable() as session:
        tensors = [tf.sqrt(tf.constant(x)), tf.rsqrt(tf.constant(x))]
        tensors += [tf.matmul(tf.constant(left), tf.constant(right)) for left, right in pairs]
        values = session.run(tensors)
    return hashlib.sha256(b''.join(value.tobytes() for value in values)).hexdigest()


def differences(manifest):
    """Returns the parts of this environment that differ from the recorded one; without any, results must be equal."""
    here, different = json.loads(json.dumps(describe())), []
    for part, recorded in manifest['environment'].items():
        mine = here.get(part)
        if part == 'processor':
            continue    # 'arithmetic' shows what matters, also on an emulator
        if isinstance(recorded, dict) and isinstance(mine, dict):
            different += ['%s %s' % (part[:-1], name) for name in recorded if mine.get(name) != recorded[name]]
        elif mine != recorded:
            different.append(part)
    if in_processes(arithmetic, [()])[0] != manifest['arithmetic']:
        different.append('arithmetic of the processor')
    return different


def in_processes(function, jobs, unit='jobs'):
    """Returns `function(job)` of all jobs in their order, computed by as many processes as there are cores.

    They are forks of a server that has imported the function and run nothing: a fork of a process in which TensorFlow
    has run would wait for ever for threads that it does not have.

    # Arguments
        unit: name of the jobs in the progress, in the plural.
    """
    context, processes = multiprocessing.get_context('forkserver'), min(len(jobs), tf_session.available_cores())
    context.set_forkserver_preload([function.__module__])
    # The server, and a fork of it, would also import the program that runs here.
    nothing = mock.patch.dict(sys.modules, __main__=types.ModuleType('__main__'))
    path = os.pathsep.join(filter(None, (ROOT, os.environ.get('PYTHONPATH'))))
    with nothing, mock.patch.dict(os.environ, PYTHONPATH=path), context.Pool(
            processes, maxtasksperchild=8) as pool, Progress(len(jobs), unit, on_terminal=len(jobs) > 1) as progress:
        results = []
        for result in pool.imap(function, jobs, chunksize=1):
            results.append(result)
            progress.advance()
        return results


def commit():
    """Returns the commit of this checkout, or '' without git."""
    try:
        completed = subprocess.run(['git', '-C', ROOT, 'describe', '--always', '--dirty', '--abbrev=40'],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ''
    return completed.stdout.decode('ascii', 'replace').strip()
