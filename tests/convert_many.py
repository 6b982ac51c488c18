"""Converts and checks many bundles in one process of Keras 3, as `regress.py convert` does with two for each.

    python tests/convert_many.py FOLDER...      # each holds bundle/ and may hold new_layers.py; gets model/ and stages/
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'adapters'))
import keras3_environment  # noqa: E402,F401  first: Keras reads it
import bundles  # noqa: E402
import keras  # noqa: E402
import keras3_check  # noqa: E402
import keras3_convert  # noqa: E402


def convert(folder, keep_weights):
    custom3 = os.path.join(folder, 'new_layers.py')
    options = argparse.Namespace(bundle=os.path.join(folder, 'bundle'), out=os.path.join(folder, 'model'),
                                 folder=os.path.join(folder, 'model'), stages=os.path.join(folder, 'stages'),
                                 custom3=custom3 if os.path.exists(custom3) else None, keep_weights=keep_weights)
    os.makedirs(options.out)
    made = keras3_convert.convert(options)
    bundles.write_json(os.path.join(options.out, 'conversion.json'), made)
    if not made['problems']:
        keras3_check.check(options)


if __name__ == '__main__':
    for path in sys.argv[1:]:
        keras.backend.clear_session()
        convert(path, path.endswith('-kept'))
