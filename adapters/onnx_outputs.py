"""Runs an ONNX model on a bundle's inputs and writes every intermediate output that the bundle has too.

    python adapters/onnx_outputs.py BUNDLE OUT --model port.onnx --names names.json
    python regress.py compare BUNDLE OUT --files forward.npz

`names.json` maps arrays or calls of the bundle to values of the graph, such as {"dense_1": "/fc/Gemm_output_0"};
without it a value has the name of a call. The graph's inputs take the bundle's by name, or else in their order.
"""
import sys

import bundles
import onnx
import onnxruntime


def run(path, inputs):
    """{name: array} of the output of every node of the graph."""
    model = onnx.load(path)
    known = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in known:
                known.add(name)
                model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # An optimised graph no longer has the values between its nodes.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    names = [value.name for value in session.get_inputs()]
    fed = inputs if set(names) == set(inputs) else dict(zip(names, inputs.values()))
    found = [value.name for value in session.get_outputs()]
    return dict(zip(found, session.run(found, fed)))


def main(argv):
    parser = bundles.parser(__doc__)
    parser.add_argument('--model', metavar='FILE', required=True, help='the .onnx file')
    options = parser.parse_args(argv)
    arrays, names = bundles.Arrays(options.bundle), bundles.read_names(options.names)
    values, made = run(options.model, arrays.inputs()), {}
    for call in arrays.calls:
        for name in call['outputs'] + call['states']:
            value = names.get(name, names.get(call['name'], call['name']) if name == call['outputs'][0] else name)
            if value in values:
                made[name] = values[value]
    last = [value.name for value in onnx.load(options.model).graph.output]
    for name, value in zip(arrays.manifest['output_arrays'], last):
        made.setdefault(name, values[value])
    bundles.write(options.out, made)


if __name__ == '__main__':
    main(sys.argv[1:])
