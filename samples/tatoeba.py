"""A small English-Chinese model of real text in one file, samples/tatoeba.npz: for the tutorial, and to play with.

    .venv/bin/python -m samples.tatoeba unpack runs/tatoeba       # an ordinary run, for predict.py, serve.py, export.py
    .venv/bin/python -m samples.tatoeba pack RUN FILE   # how the file was made of a run; see samples/README.md

Weights are stored with 8 bits and a scale for each row or column, a quarter of the size.
"""
import io
import json
import os
import sys
import tempfile

from command_line import UserError  # first: it sets the environment of NumPy
import h5py
import numpy as np

from storage.run_directory import RunDirectory
from text.vocabulary import FILES as VOCABULARIES

PACKED = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'tatoeba.npz')


def quantise(array):
    """An array as (8-bit integers, scales), the scales over its shorter axis; a vector or a scalar as it is."""
    if array.ndim < 2:
        return array, np.ones((), 'f')
    scales = np.maximum(abs(array).max(axis=int(np.argmin(array.shape)), keepdims=True), 1e-12) / 127.
    return np.round(array / scales).astype('i1'), scales.astype('f')


def pack(run, path):
    """Writes settings, vocabularies and weights of a trained run to one file."""
    run = RunDirectory.open(run)
    arrays = {name: np.frombuffer(run.read_file(name), 'u1') for name in VOCABULARIES}
    names = []
    with h5py.File(io.BytesIO(run.read_file('weights.h5')), 'r') as stored:
        for layer in stored.attrs['layer_names']:
            group = stored[layer]
            names.append((layer.decode('ascii'), [name.decode('ascii') for name in group.attrs['weight_names']]))
            for name in group.attrs['weight_names']:
                key = '%s/%s' % (layer.decode('ascii'), name.decode('ascii'))
                arrays[key], arrays[key + '/scales'] = quantise(group[name][()])
    about = json.dumps({'config': run.read_config(), 'weights': names}, ensure_ascii=False)
    np.savez_compressed(path, about=np.frombuffer(about.encode('utf-8'), 'u1'), **arrays)


def unpack(folder, path=PACKED):
    """Writes the run of a packed file to a new folder."""
    with np.load(path) as packed:
        about = json.loads(packed['about'].tobytes().decode('utf-8'))

        def array(key):
            return (packed[key] * packed[key + '/scales']).astype('f')

        layers = [(layer, [(name, array('%s/%s' % (layer, name))) for name in names])
                  for layer, names in about['weights']]
        vocabularies = {name: packed[name].tobytes() for name in VOCABULARIES}
    with RunDirectory.create(folder, about['config'], vocabularies, {}) as run:
        run.write_weights(layers)


def load(path=PACKED, threads=1):
    """The `Translator` of a packed file."""
    from translator import Translator
    with tempfile.TemporaryDirectory() as folder:
        unpack(os.path.join(folder, 'tatoeba'), path)
        return Translator.load(os.path.join(folder, 'tatoeba'), threads)


def main(argv):
    if len(argv) == 2 and argv[0] == 'unpack':
        unpack(argv[1])
    elif len(argv) == 3 and argv[0] == 'pack':
        pack(*argv[1:])
    else:
        sys.stderr.write(__doc__)
        return 2
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit('tatoeba: %s' % error)
