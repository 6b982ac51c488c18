"""Runs a port to PyTorch on a bundle's inputs and writes the output of each module, by forward hooks.

    python adapters/torch_hooks.py BUNDLE OUT --build port.py:model --names names.json
    python regress.py compare BUNDLE OUT --files forward.npz

`port.py:model` takes the bundle's weights, {name: array}, and returns a `torch.nn.Module`, which is called with
the bundle's inputs in their order. `names.json` maps calls of the bundle to the module's paths, such as
{"lstm_1": "rnn.0"}; without it the name of a module is its path, with dots for the bundle's slashes. A module that is
called several times has the names "path", "path#2", ... A module may return a tensor, or a tuple: the outputs in order,
or, for a recurrent layer, a dict {"output": ..., "state_1": ...}.
"""
import sys

import bundles
import numpy as np
import torch


def as_array(value):
    return value.detach().cpu().numpy()


class Recorder(object):
    """Keeps what each module returns, by its path and the number of its call."""

    def __init__(self, module):
        self.outputs = {}
        for path, inner in module.named_modules():
            if path:
                inner.register_forward_hook(self.hook(path))

    def hook(self, path):
        def keep(module, inputs, output):
            name, number = path, 1
            while name in self.outputs:
                number += 1
                name = '%s#%d' % (path, number)
            self.outputs[name] = output
        return keep


def parts_of(call, output):
    """{name in the bundle: array} of what one call of a module returned."""
    if isinstance(output, dict):
        return {'layer/%s/%s' % (call['name'], key): as_array(value) for key, value in output.items()}
    outputs = list(output) if isinstance(output, (list, tuple)) else [output]
    return {name: as_array(value) for name, value in zip(call['outputs'], outputs) if torch.is_tensor(value)}


def main(argv):
    parser = bundles.parser(__doc__)
    options = parser.parse_args(argv)
    if not options.build:
        parser.error('--build names the function that returns the module')
    torch.set_num_threads(1)
    arrays, names = bundles.Arrays(options.bundle), bundles.read_names(options.names)
    module = bundles.build(options.build, arrays).eval()
    recorder = Recorder(module)
    with torch.no_grad():
        # NumPy owns the file's memory and may have made it read-only.
        final = module(*[torch.from_numpy(np.array(value)) for value in arrays.inputs().values()])
    final, made = list(final) if isinstance(final, (list, tuple)) else [final], {}
    for call in arrays.calls:
        path = names.get(call['name'], call['name'].replace('/', '.'))
        if path in recorder.outputs:
            made.update(parts_of(call, recorder.outputs[path]))
    for name, value in zip(arrays.manifest['output_arrays'], final):
        made.setdefault(name, as_array(value))
    second = ['second_call/' + name for name in arrays.manifest['outputs']]
    if any(name in arrays for name in second):      # a stateful model: the module keeps its states too
        with torch.no_grad():
            final = module(*[torch.from_numpy(np.array(value)) for value in arrays.inputs().values()])
        final = list(final) if isinstance(final, (list, tuple)) else [final]
        made.update((name, as_array(value)) for name, value in zip(second, final))
    bundles.write(options.out, made)


if __name__ == '__main__':
    main(sys.argv[1:])
