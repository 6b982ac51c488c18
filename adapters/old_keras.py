"""What Keras 3 lacks of Keras 2.2.4. Import this file before you load the converted model.

Licence: Apache-2.0, as Keras.
"""
import keras
from keras import ops

register = keras.saving.register_keras_serializable('old_keras')


@register
def old_hard_sigmoid(x):
    """Keras 2's hard_sigmoid, slope 0.2; Keras 3's own has the slope 1/6."""
    return ops.clip(0.2 * x + 0.5, 0., 1.)


@register
def old_categorical_crossentropy(y, p):
    """Of clipped probabilities, as in Keras 2; on TensorFlow, Keras 3's own takes the logits."""
    return keras.losses.categorical_crossentropy(y, ops.clip(p, 1e-7, 1. - 1e-7))


@register
def old_sparse_categorical_crossentropy(y, p):
    """Of clipped probabilities, as in Keras 2; on TensorFlow, Keras 3's own takes the logits."""
    return keras.losses.sparse_categorical_crossentropy(y, ops.clip(p, 1e-7, 1. - 1e-7))


@register
def old_binary_crossentropy(y, p):
    """Of clipped probabilities, as in Keras 2; on TensorFlow, Keras 3's own takes the logits."""
    return keras.losses.binary_crossentropy(y, ops.clip(p, 1e-7, 1. - 1e-7))


@register
class OldBidirectional(keras.layers.Bidirectional):
    """A masked step repeats the output before it, as in any recurrent layer. Keras 3's own writes zeros there."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.forward_layer.zero_output_for_mask = False
        self.backward_layer.zero_output_for_mask = False


@register
class OldRNN(keras.layers.RNN):
    """Hands `constants` to the cell. A masked step puts out the first state, also before the first valid step.

    Keras 3 has no constants, and on TensorFlow it writes zeros before the first valid step.
    """

    def build(self, sequences_shape, initial_state_shape=None, constants_shape=None):
        if constants_shape and not self.cell.built:
            self.cell.build([(sequences_shape[0],) + tuple(sequences_shape[2:])] + list(constants_shape))
            self.cell.built = True
        super().build(sequences_shape, initial_state_shape)

    def call(self, sequences, initial_state=None, constants=None, mask=None, training=False):
        if mask is None:        # inside of a model, beside other arguments
            mask = getattr(sequences, '_keras_mask', None)
        return super().call(sequences, initial_state, (mask, constants), training)  # RNN hands its mask to inner_loop

    def inner_loop(self, sequences, initial_state, mask, training=False):
        mask, constants = mask
        options = {} if constants is None else {'constants': constants}
        if self.cell._call_has_training_arg:
            options['training'] = training
        if mask is not None:
            mask = ops.expand_dims(ops.cast(mask, sequences.dtype), -1)
            sequences = ops.concatenate([sequences, mask], axis=-1)

        def step(inputs, states):
            if mask is None:
                return self.cell(inputs, states, **options)
            output, new = self.cell(inputs[:, :-1], states, **options)
            valid, before = inputs[:, -1:] > 0.5, keras.tree.flatten(states)
            new = [ops.where(valid, *pair) for pair in zip(keras.tree.flatten(new), before)]
            return ops.where(valid, output, before[0]), keras.tree.pack_sequence_as(states, new)

        return keras.src.backend.rnn(step, sequences, initial_state, go_backwards=self.go_backwards,
                                     unroll=self.unroll, input_length=sequences.shape[1],
                                     return_all_outputs=self.return_sequences)


@register
class OldTimeDistributed(keras.layers.Layer):
    """Runs a layer or a model on all steps as one batch, (B T, ...), unmasked. Keras 3's own cannot hold a model."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build((None,) + tuple(input_shape[2:]))
        super().build(input_shape)

    def call(self, inputs, training=None):
        steps = ops.shape(inputs)[1]
        options = {'training': training} if self.layer._call_has_training_arg else {}
        outputs = self.layer(ops.reshape(inputs, (-1,) + tuple(inputs.shape[2:])), **options)
        return ops.reshape(outputs, (-1, steps) + tuple(outputs.shape[1:]))

    def compute_mask(self, inputs, mask=None):
        return mask

    def compute_output_shape(self, input_shape):
        inner = self.layer.compute_output_shape((None,) + tuple(input_shape[2:]))
        return tuple(input_shape[:2]) + tuple(inner[1:])

    def get_config(self):
        return dict(super().get_config(), layer=keras.saving.serialize_keras_object(self.layer))

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop('layer')), **config)


@register
class OldUpSampling2D(keras.layers.Layer):
    """Bilinear, from the corners of the pixels; Keras 3's own takes their centres."""

    def __init__(self, size, data_format, **kwargs):
        super().__init__(**kwargs)
        self.size, self.data_format = tuple(size), data_format

    def call(self, inputs):
        for axis, factor in self.axes():
            before = (slice(None),) * axis
            after = ops.concatenate([inputs[before + (slice(first, None),)] for first in (1, -1)], axis=axis)
            shape = list(ops.shape(inputs))
            shape[axis] = shape[axis] * factor
            parts = [inputs + (after - inputs) * (part / factor) for part in range(factor)]
            inputs = ops.reshape(ops.stack(parts, axis=axis + 1), shape)
        return inputs

    def axes(self):
        return zip((2, 3) if self.data_format == 'channels_first' else (1, 2), self.size)

    def compute_output_shape(self, input_shape):
        shape = list(input_shape)
        for axis, factor in self.axes():
            shape[axis] = shape[axis] and shape[axis] * factor
        return tuple(shape)

    def get_config(self):
        return dict(super().get_config(), size=self.size, data_format=self.data_format)


@register
class OldEmbedding(keras.layers.Embedding):
    """An update moves every row of the table. On TensorFlow, Keras 3's own moves the rows that the batch holds."""

    def call(self, inputs):
        return ops.take(self.embeddings * 1., ops.cast(inputs, 'int32'), axis=0)


@register
class OldRMSprop(keras.optimizers.RMSprop):
    """Keras 2's: epsilon is added to the root. Keras 3 adds it inside of the root."""

    def update_step(self, gradient, variable, learning_rate):
        velocity = self._velocities[self._get_variable_index(variable)]
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        self.assign(velocity, self.rho * velocity + (1. - self.rho) * ops.square(gradient))
        self.assign_sub(variable, rate * gradient / (ops.sqrt(velocity) + self.epsilon))


@register
class OldAdagrad(keras.optimizers.Adagrad):
    """Keras 2's: epsilon is added to the root. Keras 3 adds it inside of the root."""

    def update_step(self, gradient, variable, learning_rate):
        accumulator = self._accumulators[self._get_variable_index(variable)]
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        self.assign_add(accumulator, ops.square(gradient))
        self.assign_sub(variable, rate * gradient / (ops.sqrt(accumulator) + self.epsilon))


@register
class LocallyConnected(keras.layers.Layer):
    """A convolution whose kernel differs at each place, `LocallyConnected1D` and `2D`; channels last, padding valid."""

    def __init__(self, filters, kernel_size, strides, activation=None, use_bias=True, kernel_regularizer=None,
                 **kwargs):
        super().__init__(**kwargs)
        self.filters, self.use_bias = filters, use_bias
        self.kernel_size, self.strides = tuple(kernel_size), tuple(strides)
        self.activation = keras.activations.get(activation)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def output_sizes(self, input_shape):
        return tuple((size - window) // stride + 1 for size, window, stride in
                     zip(input_shape[1:-1], self.kernel_size, self.strides))

    def build(self, input_shape):
        sizes, window = self.output_sizes(input_shape), input_shape[-1]
        places = 1
        for size in self.kernel_size:
            window *= size
        for size in sizes:
            places *= size
        self.kernel = self.add_weight(shape=(places, window, self.filters), name='kernel',
                                      regularizer=self.kernel_regularizer)
        if self.use_bias:
            self.bias = self.add_weight(shape=sizes + (self.filters,), name='bias')

    def call(self, inputs):
        sizes, channels = self.output_sizes(inputs.shape), inputs.shape[-1]
        parts = []                                              # each place's window, rows before columns
        if len(sizes) == 1:
            for i in range(sizes[0]):
                start = i * self.strides[0]
                parts.append(ops.reshape(inputs[:, start:start + self.kernel_size[0]],
                                         (-1, self.kernel_size[0] * channels)))
        else:
            for i in range(sizes[0]):
                for j in range(sizes[1]):
                    row, column = i * self.strides[0], j * self.strides[1]
                    part = inputs[:, row:row + self.kernel_size[0], column:column + self.kernel_size[1]]
                    parts.append(ops.reshape(part, (-1, self.kernel_size[0] * self.kernel_size[1] * channels)))
        windows = ops.stack(parts)                              # (places, B, window)
        outputs = ops.transpose(ops.matmul(windows, self.kernel), (1, 0, 2))
        outputs = ops.reshape(outputs, (-1,) + sizes + (self.filters,))
        return self.activation(outputs + self.bias if self.use_bias else outputs)

    def compute_output_shape(self, input_shape):
        return (input_shape[0],) + self.output_sizes(input_shape) + (self.filters,)

    def get_config(self):
        return dict(super().get_config(), filters=self.filters, kernel_size=self.kernel_size, strides=self.strides,
                    activation=keras.activations.serialize(self.activation), use_bias=self.use_bias,
                    kernel_regularizer=keras.regularizers.serialize(self.kernel_regularizer))
