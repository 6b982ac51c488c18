"""Exports a converted model to ONNX and runs it in onnxruntime, for `regress.py convert --to onnx`.

    python adapters/keras3_onnx.py BUNDLE FOLDER STAGES [--custom3 new_layers.py]

Writes FOLDER/model.onnx, STAGES/onnx.npz with its outputs for the inputs of the bundle (`all/N`) and for the first row
alone (`first/N`), and STAGES/onnx.json.
"""
import contextlib
import os
import sys

import keras3_environment  # noqa: F401  first: Keras reads it
import bundles
import keras3_check
from parity import bundle


def export(model, path):
    """Writes the model as ONNX; returns '' or why that is not possible."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            model.export(path, format='onnx', verbose=False)
        return ''
    except Exception as error:      # what Keras, TensorFlow and tf2onnx raise for an operation that ONNX lacks
        with contextlib.suppress(OSError):
            os.unlink(path)
        return 'Keras cannot export it: %s: %s' % (type(error).__name__, bundle.one_line(error))


def run(path, arrays):
    """{`all/N` or `first/N`: output} of the file in onnxruntime."""
    import onnxruntime
    kinds = {'tensor(float)': 'float32', 'tensor(double)': 'float64', 'tensor(int32)': 'int32',
             'tensor(int64)': 'int64', 'tensor(bool)': 'bool'}
    session, made = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider']), {}
    inputs = [arrays['input/' + name] for name in arrays.manifest['inputs']]
    for name, rows in (('all', None), ('first', 1)):
        if rows and (arrays.manifest.get('input_shapes') or [[None]])[0][0]:
            continue        # the batch has a fixed size
        feed = {node.name: value[:rows].astype(kinds.get(node.type, value.dtype.name))
                for node, value in zip(session.get_inputs(), inputs)}
        made.update(('%s/%d' % (name, number), value) for number, value in enumerate(session.run(None, feed)))
    return made


def main(argv):
    options = keras3_check.arguments(__doc__, argv)
    arrays = bundles.Arrays(options.bundle)
    model, facts = keras3_check.load(options)
    path, made = os.path.join(options.folder, 'model.onnx'), {}
    keras3_check.forward(model, arrays, facts)      # export needs a model that has been called
    problem = export(model, path)
    if not problem:
        try:
            made = run(path, arrays)
        except Exception as error:      # what onnxruntime raises for a graph that it refuses
            problem = 'onnxruntime: %s' % bundle.one_line(error)
    keras3_check.write_npz(options.stages, 'onnx.npz', made)
    bundles.write_json(os.path.join(options.stages, 'onnx.json'), {'problem': problem})


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
