"""Runs a captured model in Keras 3, on any backend, and writes the output of each layer.

    KERAS_BACKEND=torch python adapters/keras3.py BUNDLE OUT                        # the bundle's own layers
    KERAS_BACKEND=torch python adapters/keras3.py BUNDLE OUT --custom own.py        # and your ports of its own layers
    KERAS_BACKEND=jax python adapters/keras3.py BUNDLE OUT --build port.py:model    # your port of the whole model
    python regress.py compare BUNDLE OUT --files forward.npz

Without a port, each call of the bundle runs as the Keras 3 layer of the same name, with the remedies of the table of
traps; `--plain` omits them, so that `compare` shows their effect. For the model's own layers and for Lambda
layers `own.py` has, under the name of the layer or of its class, a Keras 3 layer class or a function of the inputs.
"""
import inspect
import sys

import bundles
import keras
import numpy as np
from keras import ops
from parity.trap_tests import KERAS_LAYERS

DROPPED = ('_initializer', '_regularizer', '_constraint')   # the weights come from the bundle
OLD_KEYS = ('batch_input_shape', 'implementation', 'input_length', 'dtype', 'num_constants', 'input_dtype',
            'trainable')
RECURRENT = ('LSTM', 'GRU', 'SimpleRNN', 'ConvLSTM2D')
NONE = ('Lambda', 'RNN')            # no configuration says what they compute
MASKED = RECURRENT + ('GlobalAveragePooling1D', 'Bidirectional')


@keras.saving.register_keras_serializable()     # else Bidirectional takes Keras 3's own from its configuration
def old_hard_sigmoid(x):
    """Keras 2's: slope 0.2. Keras 3's own has the slope 1/6."""
    return ops.clip(0.2 * x + 0.5, 0., 1.)


def translate(kind, config, plain):
    """The configuration of the Keras 3 layer for one of Keras 2.2.4."""
    config = {key: value for key, value in config.items() if key not in OLD_KEYS and not key.endswith(DROPPED)}
    config.pop('stateful', None)
    for key in ('activation', 'recurrent_activation'):
        if config.get(key) == 'hard_sigmoid' and not plain:
            config[key] = old_hard_sigmoid
    if kind == 'LeakyReLU':
        config['negative_slope'] = float(config.pop('alpha'))
    if kind in ('Bidirectional', 'TimeDistributed'):
        config['layer'] = make(config['layer']['class_name'], config['layer']['config'], plain)
        config.pop('name', None)
    if kind == 'BatchNormalization' and isinstance(config.get('axis'), list):
        config['axis'] = config['axis'][0]
    config.pop('name', None)
    return config


def make(kind, config, plain):
    layer = getattr(keras.layers, kind)
    known = inspect.signature(layer.__init__).parameters
    config = translate(kind, config, plain)
    if not any(one.kind == one.VAR_KEYWORD for one in known.values()):
        config = {key: value for key, value in config.items() if key in known}
    return layer(**config)


def named_parameters(function):
    return [name for name, one in inspect.signature(function).parameters.items() if one.kind != one.VAR_KEYWORD]


def classes_in(config):
    """The names of the classes of all layers inside of a configuration."""
    if isinstance(config, dict):
        if 'class_name' in config and isinstance(config.get('config'), dict) and 'name' in config['config']:
            yield config['class_name']
        for value in config.values():
            yield from classes_in(value)
    elif isinstance(config, list):
        for value in config:
            yield from classes_in(value)


def has_counterpart(call):
    """Whether Keras 3 has the layer of a call, and those inside of it, under the same names."""
    kinds = [call['class']] + list(classes_in(call['config']))
    return all(kind in KERAS_LAYERS and kind not in NONE and hasattr(keras.layers, kind) for kind in kinds)


def last_states(layer, x, options):
    """The states of a recurrent layer after its last step."""
    again = type(layer).from_config(dict(layer.get_config(), return_state=True))
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    return list(again(x, **options)[-2:])


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


class Runner(object):
    """Runs the calls of a bundle one after another; `values` are the port's arrays by name.

    `own` holds ports of the model's own layers by the name of the layer or of its class.
    """

    def __init__(self, arrays, plain, own=None):
        self.arrays, self.plain, self.own, self.layers = arrays, plain, own or {}, {}
        self.values, self.kept = {}, {}     # `kept`: states of stateful layers after the last call

    def value(self, name):
        """An array of the port, or of the bundle if the port has none."""
        return self.values[name] if name in self.values else self.arrays[name]

    def run(self):
        """The arrays of a call of the model, and of a second one if it is stateful."""
        made = self.run_once()
        second = {'second_call/' + name: array for name, array in zip(
            self.arrays.manifest['outputs'], self.arrays.manifest['output_arrays'])}
        if any(name in self.arrays for name in second):
            self.run_once(told=True)
            made.update((name, self.values[array]) for name, array in second.items() if array in self.values)
        return made

    def run_once(self, told=False):
        """Runs all calls; `told`: which of them have no counterpart."""
        self.values = {'input/' + name: value for name, value in self.arrays.inputs().items()}
        for call in self.arrays.calls:
            outputs = self.outputs_of(call)
            if outputs is None:
                if told:
                    continue
                print('%s: %s has no counterpart here; its recorded output is used' % (call['name'], call['class']),
                      file=sys.stderr)
                continue
            self.values.update(zip(call['outputs'], [np.asarray(ops.convert_to_numpy(one)) for one in outputs]))
        return {name: value for name, value in self.values.items() if name.startswith('layer/')}

    def outputs_of(self, call):
        kind = call['class']
        if call.get('inner_outputs'):       # a nested model: its layers are calls of their own
            return [self.value(name) for name in call['inner_outputs']]
        own = self.own.get(call['layer'], self.own.get(kind))
        if own is not None:
            return self.run_own(call, own)
        inside = [one for one in self.arrays.calls if one['parent'] == call['name']]
        if kind == 'TimeDistributed' and inside:    # a model or a recurrent layer, called on (B T, ...)
            value = self.value(inside[-1]['outputs'][0])
            return [value.reshape(self.arrays[call['outputs'][0]].shape[:2] + value.shape[1:])]
        if not has_counterpart(call):
            return None
        inputs = [self.value(name) for name in call['inputs']]
        mask = next((self.value(name) for name in call['input_masks'] if name), None)
        if kind == 'Bidirectional' and not self.plain:
            return self.both_directions(call)
        layer = self.layer(call, inputs)
        for name in call['output_masks'][:1]:
            if name and name not in self.values and name.startswith('layer/%s/' % call['name']):
                made = layer.compute_mask(ops.convert_to_tensor(inputs[0]), mask)
                self.values[name] = np.asarray(ops.convert_to_numpy(made)) if made is not None else self.arrays[name]
        x = [ops.convert_to_tensor(one) for one in inputs]
        if kind in MASKED:
            options = {'mask': None if mask is None else ops.convert_to_tensor(mask)}
            if kind in RECURRENT + ('Bidirectional',):
                options['initial_state'] = x[1:] or self.kept.get(call['name'])
            if kind in RECURRENT[:3]:
                self.states(call, layer, x, mask)
            elif self.stateful(call):       # ConvLSTM2D
                self.kept[call['name']] = last_states(layer, x[0], options)
            return as_list(layer(x[0], **options))
        return as_list(layer(x if len(x) > 1 else x[0]))

    def run_own(self, call, own):
        """Calls the user's port of a layer: a function of the inputs, or a layer class with the recorded weights."""
        inputs = [self.value(name) for name in call['inputs']]
        x = [ops.convert_to_tensor(one) for one in inputs]
        if not inspect.isclass(own):
            return as_list(own(*x))
        key = (tuple(call['weights']), call['layer'])
        if key not in self.layers:
            known = named_parameters(own.__init__)
            layer = self.layers[key] = own(**{name: value for name, value in call['config'].items() if name in known})
            layer.build([one.shape for one in inputs] if len(inputs) > 1 else inputs[0].shape)
            layer.set_weights(self.arrays.weights(call))
        options = {}
        if 'mask' in named_parameters(own.call):
            masks = [None if name is None else ops.convert_to_tensor(self.value(name)) for name in call['input_masks']]
            options['mask'] = masks if len(inputs) > 1 else masks[0]
        return as_list(self.layers[key](x if len(x) > 1 else x[0], **options))

    def layer(self, call, inputs):
        """The Keras 3 layer of a call, with its weights; one for all calls of a shared layer."""
        key = (tuple(call['weights']), call['layer'], call['parent'].split('#')[0])
        if key not in self.layers:
            layer = self.layers[key] = make(call['class'], call['config'], self.plain)
            shapes = [one.shape for one in inputs]
            single = len(shapes) == 1 or call['class'] in RECURRENT + ('Bidirectional',)
            layer.build(shapes[0] if single else shapes)
            weights = self.arrays.weights(call)
            if weights:
                layer.set_weights(weights)
        return self.layers[key]

    def stateful(self, call):
        """Whether a recurrent layer keeps its states. In `Bidirectional` of Keras 2.2.4 it does not."""
        outer = next((one['class'] for one in self.arrays.calls if one['name'] == call['parent']), '')
        return bool(call['config'].get('stateful')) and outer != 'Bidirectional'

    def both_directions(self, call):
        """`Bidirectional` from its layers: Keras 3's own writes zeros on masked steps, and refuses `go_backwards`."""
        parts = [one for one in self.arrays.calls if one['parent'] == call['name']]
        forward, backward = [self.value(part['outputs'][0]) for part in parts]
        states = [self.value(name) for part in parts for name in part['outputs'][1:]]
        if parts[0]['config'].get('return_sequences'):
            backward = backward[:, ::-1]
        mode = call['config']['merge_mode']
        if mode is None:
            return [forward, backward] + states
        merged = {'concat': lambda: np.concatenate([forward, backward], axis=-1), 'sum': lambda: forward + backward,
                  'ave': lambda: (forward + backward) / 2., 'mul': lambda: forward * backward}[mode]()
        return [merged] + states

    def states(self, call, layer, x, mask):
        """The states after each step, in the order in which the layer takes the steps."""
        steps, valid = x[0], mask
        if call['config'].get('go_backwards'):
            steps = ops.flip(steps, 1)
            valid = None if mask is None else mask[:, ::-1]
        states = x[1:] or self.kept.get(call['name']) or as_list(layer.get_initial_state(steps.shape[0]))
        found = []
        for t in range(steps.shape[1]):
            _, new = layer.cell(steps[:, t], states)
            if valid is not None:
                at = ops.convert_to_tensor(valid[:, t, None])
                new = [ops.where(at, one, old) for one, old in zip(as_list(new), states)]
            states = as_list(new)
            found.append([np.asarray(ops.convert_to_numpy(one)) for one in states])
        self.values.update(zip(call['states'], [np.stack(one, axis=1) for one in zip(*found)]))
        if self.stateful(call):
            self.kept[call['name']] = states


def port_outputs(model, arrays, names):
    """{name in the bundle: array} of the layers of your port that have the names of the bundle's calls."""
    tensors = {}
    for layer in model.layers:
        for number, node in enumerate(layer._inbound_nodes, 1):
            tensors[layer.name + ('#%d' % number if number > 1 else '')] = as_list(node.output_tensors)
    wanted = {call['name']: tensors[names.get(call['name'], call['name'])] for call in arrays.calls
              if names.get(call['name'], call['name']) in tensors}
    inside = keras.Model(model.inputs, [one for group in wanted.values() for one in group])
    inputs = [ops.convert_to_tensor(arrays['input/' + name]) for name in arrays.manifest['inputs']]
    for layer in inside._flatten_layers():      # a file keeps the states that it was saved with
        if getattr(layer, 'stateful', False) and hasattr(layer, 'reset_state'):
            layer.reset_state()
    found = iter(as_list(inside(inputs, training=False)))
    made = {}
    for call in arrays.calls:
        if call['name'] in wanted:
            values = [np.asarray(ops.convert_to_numpy(next(found))) for _ in wanted[call['name']]]
            made.update(zip(call['outputs'], values))
    second = ['second_call/' + name for name in arrays.manifest['outputs']]
    if any(name in arrays for name in second):
        outputs = as_list(model(inputs if len(inputs) > 1 else inputs[0], training=False))
        made.update(zip(second, [np.asarray(ops.convert_to_numpy(value)) for value in outputs]))
    return made


def main(argv):
    parser = bundles.parser(__doc__)
    parser.add_argument('--model', metavar='FILE', help='your port as a .keras file')
    parser.add_argument('--custom', metavar='FILE.py',
                        help="Keras 3 layers or functions for the model's own layers, or for --model")
    parser.add_argument('--plain', action='store_true', help='without the remedies of the table of traps')
    options = parser.parse_args(argv)
    arrays = bundles.Arrays(options.bundle)
    own = vars(bundles.run_file(options.custom)) if options.custom else {}
    if options.model or options.build:
        model = keras.saving.load_model(options.model) if options.model else bundles.build(options.build, arrays)
        made = port_outputs(model, arrays, bundles.read_names(options.names))
    else:
        made = Runner(arrays, options.plain, own).run()
    bundles.write(options.out, made)


if __name__ == '__main__':
    main(sys.argv[1:])
