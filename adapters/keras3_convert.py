"""The half of `regress.py convert` that builds: a captured bundle to `model.keras`, in a Python with Keras 3.

    python adapters/keras3_convert.py BUNDLE OUT [--custom3 new_layers.py] [--keep-weights]

Writes OUT/model.keras, OUT/old_keras.py where the file needs it, and OUT/conversion.json: what was renamed, scaled,
lost, and which layers could not be converted (then there is no model.keras).
"""
import argparse
import ast
import os
import platform
import sys

import keras3_environment  # noqa: F401  first: Keras reads it
import bundles
import keras
import keras3_graph
import keras3_training
import numpy as np
import old_keras

EXIT_UNSUPPORTED = 3


def source_of(classes):
    """The text of old_keras.py with these classes and functions only."""
    with open(old_keras.__file__, encoding='utf-8') as stream:
        text = stream.read()
    lines, parts, start = text.splitlines(keepends=True), [], 0
    for node in ast.parse(text).body:
        first = min([node.lineno] + [one.lineno for one in getattr(node, 'decorator_list', ())]) - 1
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)) or node.name in classes:
            parts.append(''.join(lines[start:node.end_lineno]) if parts else ''.join(lines[first:node.end_lineno]))
        start = node.end_lineno
    return ''.join(parts)


def environment():
    """Versions of what converts."""
    import importlib.metadata as metadata
    found = {'python': platform.python_version(), 'keras': keras.__version__, 'numpy': np.__version__,
             'backend': keras.backend.backend()}
    for name in ('tensorflow', 'tensorflow-cpu', 'jax', 'torch', 'tf2onnx', 'onnx', 'onnxruntime'):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def convert(options):
    """Builds and saves the model; returns the content of conversion.json."""
    arrays = bundles.Arrays(options.bundle)
    settings = arrays.manifest['keras']
    keras.config.set_floatx(settings.get('floatx', 'float32'))
    keras.config.set_epsilon(settings.get('epsilon', 1e-7))
    own = bundles.own_objects(options.custom3)
    graph = keras3_graph.Graph(arrays, own, options.keep_weights)
    at = {id(variable): number for number, variable in enumerate(graph.model.variables if graph.model else ())}
    made = {'environment': environment(), 'renamed': graph.renamed, 'scaled': graph.scaled,
            'classes': sorted(graph.classes), 'used': sorted(graph.maker.used), 'places': graph.places,
            'scales': [[name, at[id(variable)], np.asarray(scale).tolist()]
                       for name, variable, scale in graph.variables if id(variable) in at],
            'problems': [dict(call=call['name'], why=why) for call, why in graph.problems],
            'compiled': False, 'not_carried': []}
    if graph.problems:
        return made
    made['compiled'], made['not_carried'] = keras3_training.compiled(graph.model, graph, arrays, own)
    made['classes'] = sorted(graph.classes)     # an optimiser may be among them
    if arrays.manifest.get('training') and any(call['class'] == 'BatchNormalization' for call in arrays.calls):
        made['not_carried'].append(
            'BatchNormalization: Keras 2.2.4 replaces the moving averages of a loaded model by those of the first '
            'batch (zero_debias), the variance with n / (n - 1); Keras 3 goes on from the stored ones')
    graph.model.save(os.path.join(options.out, 'model.keras'))
    if graph.classes:
        with open(os.path.join(options.out, 'old_keras.py'), 'w', encoding='utf-8') as stream:
            stream.write(source_of(graph.classes))
    return made


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('bundle')
    parser.add_argument('out')
    parser.add_argument('--custom3')
    parser.add_argument('--keep-weights', action='store_true')
    options = parser.parse_args(argv)
    made = convert(options)
    bundles.write_json(os.path.join(options.out, 'conversion.json'), made)
    return EXIT_UNSUPPORTED if made['problems'] else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
