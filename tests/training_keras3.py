"""The port of `old_models_here.trained` to Keras 3, with its training, as a reader of `docs/traps.md` would type it.

    python tests/training_keras3.py BUNDLE PORT.keras           # saves the compiled model with the bundle's weights
    python tests/training_keras3.py BUNDLE PORT.keras OUT       # loads it and trains it; and ports that lack a remedy
    python tests/training_keras3.py BUNDLE float64 OUT          # computes the outputs in float64
"""
import os
import sys

os.environ['JAX_ENABLE_X64'] = '1'
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'adapters'))
import bundles  # noqa: E402
import keras  # noqa: E402
from keras import layers, ops  # noqa: E402
from keras.optimizers import Adam  # noqa: E402
from keras.optimizers.schedules import InverseTimeDecay  # noqa: E402
import numpy as np  # noqa: E402


@keras.saving.register_keras_serializable()
def clipped(y, p):
    return keras.losses.categorical_crossentropy(y, ops.clip(p, 1e-7, 1 - 1e-7))


def unclipped(y, p):
    return -ops.sum(y * ops.log(p + 1e-30), axis=-1)


def model(weights, rate=0.1, epsilon=1e-7, clip='global_clipnorm', decay=0.5, loss=clipped):
    x = layers.Input((4,), name='x')
    y = layers.Dense(5, activation='tanh', name='first')(layers.BatchNormalization(momentum=0.9, name='normed')(x))
    y = layers.Dense(3, activation='softmax', kernel_regularizer=keras.regularizers.L2(rate), name='last')(y)
    made, lr = keras.Model(x, y), 0.01
    made.compile(Adam(InverseTimeDecay(lr, 1, decay), epsilon=epsilon, **{clip: 0.5}), loss)
    for layer in made.layers[1:]:
        layer.set_weights([weights[name] for name in weights if name.startswith(layer.name + '/')])
    return made


WITHOUT = {'regularizer': {'rate': 0.05}, 'cross_entropy': {'loss': unclipped}, 'adam': {'epsilon': 1e-3},
           'clipnorm': {'clip': 'clipnorm'}, 'decay': {'decay': 0.}}


def trained(made, arrays, folder):
    """Writes the losses and the weights after each recorded update."""
    found, losses = {}, []
    for step in range(1, arrays.manifest['training']['steps'] + 1):
        losses.append(made.train_on_batch(arrays['input/x'], arrays['target/last']))
        for layer in made.layers[1:]:
            for one in layer.weights:
                found['step_%d/parameter/%s/%s' % (step, layer.name, one.name)] = keras.ops.convert_to_numpy(one)
    found = {name: value for name, value in found.items() if name in arrays and '/moving_' not in name}
    bundles.write(folder, dict(found, losses=np.array(losses, 'float32')), 'training.npz')


def main(bundle, path, folder=None):
    arrays = bundles.Arrays(bundle)
    if folder is None:
        bundles.build(__file__ + ':model', arrays).save(path)
        return
    weights = {name[len('parameter/'):]: arrays[name] for name in arrays.files['weights.npz']}
    if path == 'float64':
        keras.config.set_floatx("float64")
        made = model(weights).predict_on_batch(arrays['input/x'].astype('f8'))
        bundles.write(folder, {'float64/layer/last/output': made}, 'float64.npz')
        return
    trained(keras.saving.load_model(path), arrays, os.path.join(folder, 'remedies'))
    for name, options in WITHOUT.items():
        trained(model(weights, **options), arrays, os.path.join(folder, name))


if __name__ == '__main__':
    main(*sys.argv[1:])
