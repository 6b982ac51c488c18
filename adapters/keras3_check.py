"""The half of `regress.py convert` that proves: loads the saved file in a fresh process and records what it computes.

    python adapters/keras3_check.py BUNDLE FOLDER STAGES [--custom3 new_layers.py] [--onnx]

Reads FOLDER/model.keras as its README says, and writes under the names of the bundle STAGES/forward.npz with the
output, the mask and the states of each call, and STAGES/training.npz with the weights after the first two updates.
"""
import argparse
import json
import os
import sys

import keras3_environment  # noqa: F401  first: Keras reads it
import bundles
import keras
import numpy as np
from keras import ops
from parity import bundle

STEPS = 2
MOST_STATES = 2000      # steps of a sequence whose states are recorded one by one


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


def to_numpy(value):
    return np.asarray(ops.convert_to_numpy(value))


def mask_of(tensor):
    return getattr(tensor, '_keras_mask', None)


def mask_given(tensor, options):
    """The mask of a call: an argument of its own, else that of its input."""
    mask = options.get('mask')
    return mask_of(tensor) if mask is None else mask


class Run(object):
    """Runs a functional model operation by operation; `values` are arrays by the names of the bundle.

    # Arguments
        arrays: `bundles.Arrays`. places: as `keras3_graph.Graph` has them.
    """

    def __init__(self, arrays, places):
        self.calls, self.places, self.values = {call['name']: call for call in arrays.calls}, places, {}

    def model(self, model, inputs, path='', prefix=''):
        """The outputs of a model for a list of tensors."""
        known = {id(symbol): value for symbol, value in zip(model.inputs, inputs)}
        leaves = {}
        for name, at, tensor, leaf, number in self.places.get(path, ()):
            leaves.setdefault((name, at), []).append((tensor, leaf, number))
        own = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input or any(id(one) not in known for one in node.input_tensors):
                    continue
                arguments, options = node.arguments.fill_in(known)
                operation = node.operation
                at = [id(one) for one in operation._inbound_nodes if id(one) in own].index(id(node))
                found = leaves.get((operation.name, at), [])
                before = [value for value in as_list(arguments[0])] if arguments else []
                if found:
                    self.inside(operation, before, options, path, prefix + found[0][1])
                outputs = keras.tree.flatten(operation(*arguments, **options))
                known.update((id(symbol), value) for symbol, value in zip(node.outputs, outputs))
                for tensor, leaf, number in found:
                    self.keep(prefix + leaf, number, outputs[tensor])
        return [known[id(symbol)] for symbol in model.outputs]

    def keep(self, name, number, value):
        call = self.calls[name]
        self.values[call['outputs'][number]] = to_numpy(value)
        mask, kept = mask_of(value), call['output_masks'][number] if number < len(call['output_masks']) else None
        # The layers after a merge have its mask as an argument, and their outputs prove it.
        merges = len(call['inputs']) > 1 and any(call['input_masks'])
        if kept and kept.startswith('layer/%s/' % name) and mask is not None and not merges:
            self.values[kept] = to_numpy(mask)

    def inside(self, operation, inputs, options, path, name):
        """Records what runs inside of a call, before the call itself."""
        if getattr(operation, 'stateful', False):
            return
        path = path + '/' + operation.name if path else operation.name
        if isinstance(operation, keras.Model):
            self.model(operation, inputs, path, name + '/')
        elif isinstance(operation, keras.layers.Bidirectional):
            for part in (operation.forward_layer, operation.backward_layer):
                self.part(part, inputs, options, '%s/%s' % (name, part.name))
        elif type(operation).__name__ == 'OldTimeDistributed':
            x = ops.reshape(inputs[0], (-1,) + tuple(inputs[0].shape[2:]))
            inner = '%s/%s' % (name, operation.layer.name)
            if isinstance(operation.layer, keras.Model):
                self.model(operation.layer, [x], path + '/' + operation.layer.name, inner + '/')
            self.part(operation.layer, [x], {}, inner)
        elif isinstance(operation, keras.layers.RNN):
            self.states(operation, inputs[0], options, name)

    def part(self, layer, inputs, options, name):
        if name not in self.calls or options.get('initial_state') is not None:
            return
        mask = mask_given(inputs[0], options)
        if isinstance(layer, keras.layers.RNN):
            self.states(layer, inputs[0], options, name)
        for number, value in enumerate(as_list(layer(inputs[0], mask=mask) if mask is not None else layer(inputs[0]))):
            self.keep(name, number, value)

    def states(self, layer, x, options, name):
        """The states after each step, in the order in which the layer takes the steps."""
        names = self.calls[name]['states'] if name in self.calls else []
        if not names or x.shape[1] > MOST_STATES or isinstance(layer.cell, keras.layers.StackedRNNCells):
            return
        initial, mask = options.get('initial_state'), mask_given(x, options)
        constants = {'constants': options['constants']} if options.get('constants') else {}
        if layer.go_backwards:
            x, mask = ops.flip(x, 1), None if mask is None else ops.flip(mask, 1)
        states = as_list(initial) if initial is not None else as_list(layer.get_initial_state(x.shape[0]))
        found = []
        for t in range(x.shape[1]):
            new = as_list(layer.cell(x[:, t], states, **constants)[1])
            if mask is not None:
                new = [ops.where(mask[:, t, None], one, old) for one, old in zip(new, states)]
            states = new
            found.append([to_numpy(one) for one in states])
        self.values.update(zip(names, [np.stack(one, axis=1) for one in zip(*found)]))


def reset(model):
    """Sets the states of stateful layers to zeros."""
    for layer in model._flatten_layers():
        if getattr(layer, 'stateful', False):
            for state in keras.tree.flatten(getattr(layer, 'states', None)):    # `reset_state` fails for stacked cells
                if state is not None:
                    state.assign(ops.zeros_like(state))


def without_dropout(model):
    """Turns the random layers off, as they were in the capture."""
    for layer in model._flatten_layers():
        for name in ('rate', 'dropout', 'recurrent_dropout', 'stddev'):
            has_setter = not isinstance(getattr(type(layer), name, None), property)     # else the cell's is set
            if has_setter and isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.)


def forward(model, arrays, facts):
    """{name in the bundle: array} of all calls, and of the second call of a stateful model."""
    run = Run(arrays, facts['places'])
    inputs = [ops.convert_to_tensor(arrays['input/' + name]) for name in arrays.manifest['inputs']]
    reset(model)
    run.model(model, inputs)
    made = run.values
    reset(model)
    outputs = as_list(model(inputs if len(inputs) > 1 else inputs[0], training=False))
    for name, value in zip(arrays.manifest['output_arrays'], outputs):
        made[name] = to_numpy(value)        # of the model as one
    second = ['second_call/' + name for name in arrays.manifest['outputs']]
    if all(any(name in file for file in arrays.files.values()) for name in second):
        outputs = as_list(model(inputs if len(inputs) > 1 else inputs[0], training=False))
        made.update(zip(second, map(to_numpy, outputs)))
    return made


def training(model, arrays, facts):
    """{name in the bundle: array}: losses, and weights after the first updates."""
    inputs = [arrays['input/' + name] for name in arrays.manifest['inputs']]
    targets = [arrays['target/' + name] for name in arrays.manifest['outputs']]
    model.run_eagerly, model.jit_compile = True, False
    made, losses = {}, []
    for step in range(1, min(STEPS, arrays.manifest['training']['steps']) + 1):
        reset(model)
        found = model.train_on_batch(inputs if len(inputs) > 1 else inputs[0],
                                     targets if len(targets) > 1 else targets[0])
        losses.append(as_list(found)[0])
        for name, at, scale in facts['scales']:
            value = to_numpy(model.variables[at])
            made['step_%d/%s' % (step, name)] = value / np.asarray(scale, value.dtype)
    made['losses'] = np.array(losses, keras.config.floatx())
    return made


def write_npz(folder, name, arrays):
    os.makedirs(folder, exist_ok=True)
    with bundle.NpzWriter(os.path.join(folder, name)) as writer:
        for key, value in arrays.items():
            writer.write(key, value)


def arguments(text, argv):
    """The options of this program and of the one that exports."""
    parser = argparse.ArgumentParser(description=text.split('\n')[0])
    parser.add_argument('bundle')
    parser.add_argument('folder')
    parser.add_argument('stages')
    parser.add_argument('--custom3')
    return parser.parse_args(argv)


def load(options):
    """The model of the saved file, loaded as its README says, and the content of conversion.json."""
    with open(os.path.join(options.folder, 'conversion.json'), encoding='utf-8') as stream:
        facts = json.load(stream)
    if facts['classes']:
        bundles.run_file(os.path.join(options.folder, 'old_keras.py'))
    own = bundles.own_objects(options.custom3)
    model = keras.saving.load_model(os.path.join(options.folder, 'model.keras'),
                                    custom_objects={name: own[name] for name in facts['used'] if name in own})
    return model, facts


def check(options):
    """Writes what the saved file computes into `options.stages`."""
    arrays = bundles.Arrays(options.bundle)
    model, facts = load(options)
    without_dropout(model)
    bundles.write(options.stages, forward(model, arrays, facts))
    checked = {'training': ''}
    if facts['compiled']:
        try:
            write_npz(options.stages, 'training.npz', training(model, arrays, facts))
        except Exception as error:      # what Keras 3 raises for targets of a stranger's model
            checked['training'] = bundle.one_line(error)
    bundles.write_json(os.path.join(options.stages, 'check.json'), checked)


if __name__ == '__main__':
    check(arguments(__doc__, sys.argv[1:]))
