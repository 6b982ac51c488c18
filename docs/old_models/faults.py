"""Puts each fault of `port.py` into its port and prints what `regress.py compare` names: layer, step and cause.

    TORCH_PYTHON=port/bin/python .venv/bin/python docs/old_models/faults.py CHARS2VEC_BUNDLE DEEPCUT_BUNDLE
"""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# port, fault, the layer, a part of where, a part of the cause
FAULTS = (
    ('chars2vec', '', '', '', ''),
    ('chars2vec', 'sigmoid', 'lstm_1', 'elements', 'recurrent_activation is sigmoid'),
    ('chars2vec', 'slope', 'lstm_2', 'elements', 'hard_sigmoid with slope 1/6'),
    ('chars2vec', 'gate order', 'lstm_1', 'elements', 'the gates are in the order i, o, f, c'),
    ('chars2vec', 'forget bias', 'lstm_2', 'from time step 1 on', '1 is added to the forget bias'),
    ('chars2vec', 'lost states', 'lstm_1', 'from time step 5 on', 'the states are lost before step 5'),
    ('deepcut', '', '', '', ''),
    ('deepcut', 'epsilon', 'batch_normalization_1', 'elements', 'epsilon is 1e-05'),
    ('deepcut', 'flipped kernel', 'conv1d_4', 'elements', 'the kernel is flipped'),
    ('deepcut', 'padding in front', 'zero_padding1d_3', 'elements', 'the padding is on the other side'),
    ('deepcut', 'mean for maximum', 'maximum_1', 'elements', 'it is Average'),
    ('deepcut', 'order of concatenation', 'concatenate_1', 'permuted along axis 2', 'in the order 0, 2, 1'),
    ('deepcut', 'channels first', 'flatten_1', 'permuted along axis 1', 'it reads the channels first'))


def try_fault(port, fault, bundle, python, folder):
    """The report of `compare` as a dict for a port with a fault."""
    subprocess.check_call([python, os.path.join(ROOT, 'adapters', 'torch_hooks.py'), bundle, folder, '--build',
                           '%s:%s' % (os.path.join(HERE, 'port.py'), port)], env=dict(os.environ, FAULT=fault))
    done = subprocess.run([sys.executable, os.path.join(ROOT, 'regress.py'), 'compare', bundle, folder, '--files',
                           'forward.npz', '--json'], stdout=subprocess.PIPE)
    return json.loads(done.stdout.decode('utf-8'))


def main(chars2vec, deepcut):
    python, wrong = os.environ.get('TORCH_PYTHON', 'python3'), 0
    for port, fault, layer, where, cause in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            told = try_fault(port, fault, {'chars2vec': chars2vec, 'deepcut': deepcut}[port], python, folder)
        first, causes = told['first'] or {'stage': '', 'where': ''}, told['causes'] or ['']
        right = first['stage'] == layer and where in first['where'] and cause in causes[0]
        wrong += not right
        cause = causes[0].split(';')[0].replace('likely cause: ', '')
        print('| %s |' % ' | '.join((port, fault or 'none', first['stage'] or 'no stage differs', first['where'], cause,
                                     'yes' if right else 'NO')), flush=True)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
