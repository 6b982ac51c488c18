"""Reads a bundle and writes the outputs of a port in the same form, for all adapters. NumPy only."""
import argparse
import importlib.util
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from parity import bundle  # noqa: E402  the folder above must be on the path first


class Arrays(object):
    """The arrays of all files of a bundle by name, each loaded on access."""

    def __init__(self, folder):
        self.files, self.manifest = bundle.open_set(folder)
        if self.manifest.get('kind') != 'capture':
            sys.exit('%s: is no captured model: make one with regress.py capture' % folder)
        self.calls = self.manifest['calls']

    def __getitem__(self, name):
        for file in self.files.values():
            if name in file:
                return file[name]
        raise KeyError(name)

    def __contains__(self, name):
        return any(name in file for file in self.files.values())

    def inputs(self):
        """{name of the input: array}."""
        return {name: self['input/' + name] for name in self.manifest['inputs']}

    def weights(self, call):
        """The weights of a call's layer, in the layer's order."""
        return [self[name] for name in call['weights']]


def parser(text):
    """The arguments that every adapter has."""
    made = argparse.ArgumentParser(description=text.split('\n')[0])
    made.add_argument('bundle', help='folder that regress.py capture wrote')
    made.add_argument('out', help='folder for the arrays of the port')
    made.add_argument('--names', metavar='FILE', help='JSON: {call in the bundle: layer of the port, or null}')
    made.add_argument('--build', metavar='FILE.py:FUNCTION', help='function of the weights {name: array} that returns '
                      'the ported model')
    return made


def run_file(path):
    """The module of a Python file, which is run."""
    spec = importlib.util.spec_from_file_location(os.path.splitext(os.path.basename(path))[0], path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec.loader.exec_module(module)
    return module


def own_objects(path):
    """{name: class or function} that a file defines under a public name; none for None."""
    if path is None:
        return {}
    module = run_file(path)
    return {name: value for name, value in vars(module).items() if not name.startswith('_') and callable(value) and (
        getattr(value, '__module__', None) == module.__name__)}


def write_json(path, value):
    with open(path, 'w', encoding='utf-8') as stream:
        json.dump(value, stream, indent=1)


def build(path_and_function, arrays):
    """The value that `file.py:function` returns for the bundle's weights `{name: array}`."""
    path, _, name = path_and_function.rpartition(':')
    module = run_file(path)
    weights = arrays.files['weights.npz']
    return getattr(module, name)({key[len('parameter/'):]: weights[key] for key in weights})


def read_names(path):
    """{call in the bundle: layer of the port, or None}."""
    if path is None:
        return {}
    with open(path, encoding='utf-8') as stream:
        return json.load(stream)


def write(folder, arrays, name='forward.npz'):
    """Writes `{name: array}` as the file that `regress.py compare` pairs with the bundle's file of this name."""
    os.makedirs(folder, exist_ok=True)
    with bundle.NpzWriter(os.path.join(folder, name)) as writer:
        for name, value in arrays.items():
            writer.write(name, np.asarray(value))
