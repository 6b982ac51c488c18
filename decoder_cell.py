"""One decoder step, in the notation of Luong et al. (2015): recurrent cells, attention, attentional state.

Letters: B batch, S source length, Dm and D sizes of encoder and decoder states, E embedding size, K hypotheses of a
sentence, N = B K rows of a step.
"""
import collections

from keras import backend as K
from keras.engine import Layer
from keras.layers import RNN, serialize
import tensorflow as tf

from model_layers import mean_of_hops

Memory = collections.namedtuple('Memory', 'states mask keys')
Memory.__doc__ = 'What every decoder step reads: encoder states (B, S, Dm), their mask (B, S), keys of the attention.'


class DecoderCell(Layer):
    """One decoder step as a cell of Keras' `RNN`.

    The first state is [attentional state; top state] `(N, 2D)`; then come the states of the cells and the position t
    `(N, 1)`. Keras' RNN outputs `states[0]` at masked steps and returns one output, so both parts of the output are in
    `states[0]`. The K hypotheses of a sentence are adjacent rows and share its memory, which is never repeated.
    Constants of the RNN: encoder states `(B, S, Dm)` and source mask `(B, S)`.

    # Arguments
        cells: Keras cells, the lowest first.
        attention: a `GlobalAttention`, `LocalAttention` or `MemoryNetwork`; `None` for the baseline without attention.
        combine: the `Dense` layer of eq. 5; `None` with `attention=None` and with a `MemoryNetwork`.
        input_feeding: Boolean, concatenate the previous attentional state to the input (section 3.3).
        residual: Boolean, add the input of each cell after the first to its output.
        dropout, noise, sites: rate, `Noise`, and one site for each cell.
        hops: Integer, attention steps; the attentional state of each is the query of the next.
    """

    def __init__(self, cells, attention, combine, input_feeding, residual, dropout=0., noise=None, sites=(), hops=1,
                 **kwargs):
        super(DecoderCell, self).__init__(**kwargs)
        self.cells, self.attention, self.combine = cells, attention, combine
        self.input_feeding, self.residual = input_feeding, residual
        self.dropout, self.noise, self.sites = dropout, noise, sites
        self.units, self.hops = cells[0].units, hops
        self.keys = None

    @property
    def state_size(self):
        sizes = [2 * self.units]
        for cell in self.cells:
            sizes += cell.state_size if isinstance(cell.state_size, (list, tuple)) else [cell.state_size]
        return tuple(sizes + [1])

    def build(self, input_shape):
        step, memory = input_shape[0], input_shape[1]
        width = step[-1] + (self.units if self.input_feeding else 0)
        for number, cell in enumerate(self.cells, 1):
            with K.name_scope('cell_%d' % number):
                cell.build((None, width))
            width = self.units
        with K.name_scope('attention'):
            self.attention.build([memory, (None, None, self.units)])
        with K.name_scope('attentional_state'):
            self.combine.build((None, memory[-1] + self.units))
        super(DecoderCell, self).build(input_shape)

    @property
    def trainable_weights(self):
        layers = self.cells + [layer for layer in (self.attention, self.combine) if layer is not None]
        return [weight for layer in layers for weight in layer.trainable_weights]

    def call(self, inputs, states, constants, training=None):
        memory, mask = constants
        output, states, _ = self.step(inputs, states, Memory(memory, mask > 0.5, self.keys), training)
        return output, states

    def step(self, inputs, states, memory, training=None):
        """Runs one step.

        # Arguments
            inputs: embedded tokens `(N, E)`.
            states: list of tensors in the order of the class docstring.
            memory: `Memory`.
            training: `False` leaves dropout out of the graph.

        # Returns
            [attentional state; top state] `(N, 2D)`, new states, weights `(N, S)` (`None` without attention).
        """
        units, last_output, position = self.units, states[0], states[-1]
        dropout = self.dropout and training is not False
        if self.input_feeding:
            inputs = K.concatenate([inputs, last_output[:, :units]])                                    # (N, E + D)
        # The recurrent cells, the lowest first.
        new_states, cell_states = [], list(states[1:-1])
        states_per_cell = len(cell_states) // len(self.cells)
        for number, cell in enumerate(self.cells):
            below = inputs
            if dropout:
                inputs = self.noise.dropout(inputs, self.dropout, self.sites[number], K.max(position))
            first = number * states_per_cell
            inputs, changed = cell.call(inputs, cell_states[first:first + states_per_cell])             # (N, D)
            new_states += list(changed)
            if self.residual and number:
                inputs = inputs + below
        # Attention: all hypotheses of a sentence read its one memory.
        attentional, weights = inputs, None
        sentences, source_length = tf.shape(memory.mask)[0], tf.shape(memory.mask)[1]
        if self.attention is not None and self.combine is None:
            query = tf.reshape(inputs, tf.stack([sentences, -1, units]))                                # (B, K, D)
            attended = self.attention.attend(query, memory.states, memory.mask)
            attentional = tf.reshape(attended.state, [-1, units])                                       # (N, D)
            weights = tf.reshape(attended.weights, tf.stack([-1, source_length]))                       # (N, S)
        elif self.attention is not None:
            positions = tf.reshape(position, tf.stack([sentences, -1]))                                 # (B, K)
            weights = []
            for _ in range(self.hops):
                query = tf.reshape(attentional, tf.stack([sentences, -1, units]))                       # (B, K, D)
                attended = self.attention.attend(query, memory.states, memory.keys, memory.mask, positions)
                context = tf.reshape(attended.context, [-1, self.attention.memory_size])                # (N, Dm)
                weights.append(tf.reshape(attended.weights, tf.stack([tf.shape(inputs)[0], source_length])))
                attentional = self.combine.call(K.concatenate([context, attentional]))                  # (N, D)
            weights = mean_of_hops(weights)                                                             # (N, S)
        output = K.concatenate([attentional, inputs])                                                   # (N, 2D)
        if dropout:
            output._uses_learning_phase = True
        return output, [output] + new_states + [position + 1], weights

    def get_config(self):
        return dict(super(DecoderCell, self).get_config(), cells=[serialize(cell) for cell in self.cells],
                    attention=serialize(self.attention), combine=serialize(self.combine),
                    input_feeding=self.input_feeding, residual=self.residual, hops=self.hops)


class InputFeedingRNN(RNN):
    """The decoder's loop with input feeding: computes the attention keys once, then runs its `DecoderCell`."""

    def call(self, inputs, mask=None, training=None, initial_state=None, constants=None):
        # Keras hands its constants to the cell and nothing else, so the keys are an attribute while its loop is built.
        self.cell.keys = self.cell.attention.step_keys(inputs[-self._num_constants])
        outputs = super(InputFeedingRNN, self).call(inputs, mask, training, initial_state, constants)
        self.cell.keys = None
        return outputs
