"""Runs an ONNX model on a bundle's inputs and writes every intermediate output that the bundle has too.

    python adapters/onnx_outputs.py BUNDLE OUT --model port.onnx --names names.json
    python regress.py compare BUNDLE OUT --files forward.npz

`names.json` maps arrays or calls of the bundle to values of the graph, such as {"dense_1": "/fc/Gemm_output_0"};
without it a value has the name of a call. The graph's inputs take the bundle's by name, or else in their order.

The graph of a stateful model has its states as further inputs after those of the bundle, and the new states as further
outputs, in the same order. They are zeros at the first call, and those of the first call at the second.
"""
import sys

import bundles
import numpy as np
import onnx
import onnxruntime

TYPES = {'tensor(float)': 'f4', 'tensor(double)': 'f8'}


class Graph(object):
    """An ONNX file in onnxruntime, with the outputs of all nodes.

    # Arguments
        path: of the file. inputs: {name: array} of the bundle. count: number of the model's outputs.
    """

    def __init__(self, path, inputs, count):
        model = onnx.load(path)
        self.outputs = [value.name for value in model.graph.output]
        known = set(self.outputs)
        for node in model.graph.node:
            for name in node.output:
                if name and name not in known:
                    known.add(name)
                    model.graph.output.append(onnx.ValueInfoProto(name=name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # An optimised graph no longer has the values between its nodes.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                                    providers=['CPUExecutionProvider'])
        given = self.session.get_inputs()
        names = [value.name for value in given]
        self.fed = dict(inputs) if set(inputs) <= set(names) else dict(zip(names, inputs.values()))
        states = [value for value in given if value.name not in self.fed]
        self.passed = list(zip([value.name for value in states], self.outputs[count:]))
        if states and len(states) != len(self.outputs[count:]):
            sys.exit('%s: has the inputs %s beside the %d of the bundle, and the outputs %s beside its %d: states are '
                     'inputs and outputs, in the same order' % (
                         path, ', '.join(value.name for value in states), len(inputs),
                         ', '.join(self.outputs[count:]) or 'none', count))
        for value in states:
            if value.type not in TYPES or not all(isinstance(size, int) for size in value.shape):
                sys.exit('%s: the state %s has the shape %s and the type %s: give it a fixed shape and a type of floats'
                         % (path, value.name, value.shape, value.type))
            self.fed[value.name] = np.zeros(value.shape, TYPES[value.type])

    def run(self):
        """{name: array} of the output of every node; the states pass to the next call."""
        found = [value.name for value in self.session.get_outputs()]
        values = dict(zip(found, self.session.run(found, self.fed)))
        self.fed.update((name, values[output]) for name, output in self.passed)
        return values


def main(argv):
    parser = bundles.parser(__doc__)
    parser.add_argument('--model', metavar='FILE', required=True, help='the .onnx file')
    options = parser.parse_args(argv)
    arrays, names = bundles.Arrays(options.bundle), bundles.read_names(options.names)
    outputs = arrays.manifest['output_arrays']
    graph, made = Graph(options.model, arrays.inputs(), len(outputs)), {}
    values = graph.run()
    for call in arrays.calls:
        for name in call['outputs'] + call['states']:
            value = names.get(name, names.get(call['name'], call['name']) if name == call['outputs'][0] else name)
            if value in values:
                made[name] = values[value]
    for name, value in zip(outputs, graph.outputs):
        made.setdefault(name, values[value])
    second = ['second_call/' + name for name in arrays.manifest['outputs']]
    if any(name in arrays for name in second):
        values = graph.run()
        made.update((name, values[made_by]) for name, made_by in zip(second, graph.outputs))
    bundles.write(options.out, made)


if __name__ == '__main__':
    main(sys.argv[1:])
