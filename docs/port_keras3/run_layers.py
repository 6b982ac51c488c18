"""The layers of this project's model in Keras 3, for `regress.py convert RUN OUT`, which takes this file by itself.

A function gets the inputs of the old layer; `config` is its old configuration, `layers` the Keras 3 layers made so far.
Equation numbers are those of Luong, Pham and Manning (2015). Letters: B batch, S and T source and target length, D and
Dm decoder and encoder state, U width of the concat score, V vocabulary.
"""
import keras
from keras import ops

PAD, UNK, _, END = range(4)
register = keras.saving.register_keras_serializable('run_layers')


@register
def hard_sigmoid(x):
    """The gate of Keras 2: slope 0.2. Keras 3's own has the slope 1/6."""
    return ops.clip(0.2 * x + 0.5, 0., 1.)


def masked_softmax(scores, valid):
    """Softmax of (B, T, S) where `valid`, exactly 0 elsewhere, also in rows where nothing is valid."""
    if valid is None:
        return ops.softmax(scores, axis=-1)
    return ops.where(valid, ops.softmax(ops.where(valid, scores, -1e9), axis=-1), 0.)


@register
class GlobalAttention(keras.layers.Layer):
    """Encoder states (B, S, Dm) and decoder states (B, T, D) to context (B, T, Dm) and weights (B, T, S)."""

    def __init__(self, score, units=None, scale=False, normalize=False, max_source_length=None, **kwargs):
        super().__init__(**kwargs)
        self.score, self.units, self.scale, self.normalize = score, units, scale, normalize
        self.max_source_length = max_source_length

    def build(self, shapes):
        (_, length, size), queries = shapes[0], shapes[1][-1]
        units = self.units or queries
        added = {'general': {'kernel': (queries, size)},
                 'location': {'kernel': (queries, self.max_source_length or length)},
                 'concat': {'memory_kernel': (size, units), 'query_kernel': (queries, units),
                            'score_kernel': (units, 1)}}.get(self.score, {})
        if self.normalize:
            added.update(norm=(), bias=(units,))
        if self.scale:
            added.update(factor=())
        self.w = {name: self.add_weight(name=name, shape=shape) for name, shape in added.items()}
        self.build_alignment(queries)

    def build_alignment(self, queries):
        """Adds the weights of the alignment: none for global attention."""

    def scores(self, query, memory):
        """Eq. 7 and 8: (B, T, S)."""
        w, keys = self.w, ops.transpose(memory, (0, 2, 1))                          # (B, Dm, S)
        if self.score == 'concat':
            keys, v = ops.matmul(memory, w['memory_kernel']), w['score_kernel']
            if self.normalize:
                keys, v = keys + w['bias'], w['norm'] * v / ops.sqrt(ops.sum(ops.square(v)))
            pairs = ops.matmul(query, w['query_kernel'])[:, :, None] + keys[:, None]        # (B, T, S, U)
            scores = ops.matmul(ops.tanh(pairs), v)[:, :, :, 0]
        elif self.score == 'location':
            scores = ops.matmul(query, w['kernel'])[:, :, :ops.shape(memory)[1]]
        else:
            query = ops.matmul(query, w['kernel']) if self.score == 'general' else query
            scores = ops.matmul(query, keys)
            scores = scores / memory.shape[-1] ** 0.5 if self.score == 'scaled_dot' else scores
        return w['factor'] * scores if self.scale else scores

    def align(self, scores, query, valid, positions):
        return masked_softmax(scores, None if valid is None else valid[:, None])

    def attend(self, query, memory, valid, positions=None):
        """As `call`. valid: (B, S) or None. positions: target positions (B, T), or None for 0, 1, 2, ..."""
        weights = self.align(self.scores(query, memory), query, valid, positions)
        return ops.matmul(weights, memory), weights

    def call(self, inputs, mask=None):
        memory, query = inputs
        return self.attend(query, memory, mask[0] if isinstance(mask, (list, tuple)) else mask)

    def compute_mask(self, inputs, mask=None):
        return [mask[1] if isinstance(mask, (list, tuple)) else None, None]


@register
class LocalAttention(GlobalAttention):
    """The same in a window around a position p_t, section 3.2."""

    def __init__(self, score, alignment, window, **kwargs):
        super().__init__(score, **kwargs)
        self.alignment, self.window = alignment, window

    def build_alignment(self, queries):
        if self.alignment == 'predictive':
            self.position_kernel = self.add_weight(name='position_kernel', shape=(queries, queries))
            self.position_score_kernel = self.add_weight(name='position_score_kernel', shape=(queries, 1))

    def align(self, scores, query, valid, positions):
        valid = ops.ones_like(scores[:, 0], dtype='bool') if valid is None else valid
        valid_numbers = ops.cast(valid, scores.dtype)
        if self.alignment == 'predictive':                                          # eq. 9; S counts valid positions
            inner = ops.matmul(ops.tanh(ops.matmul(query, self.position_kernel)), self.position_score_kernel)
            centre = ops.sum(valid_numbers, axis=1)[:, None, None] * ops.sigmoid(inner)
        elif positions is None:
            centre = ops.cumsum(ops.ones_like(scores[:, :, :1]), axis=1) - 1.
        else:
            centre = positions[:, :, None]
        distance = (ops.cumsum(valid_numbers, axis=1) - 1.)[:, None] - centre       # (B, T, S)
        weights = masked_softmax(scores, ops.logical_and(ops.abs(distance) <= self.window, valid[:, None]))
        if self.alignment == 'predictive':                                          # eq. 10, sigma = W / 2
            weights = weights * ops.exp(-2. * ops.square(distance / self.window))
        return weights


@register
class DecoderCell(keras.layers.Layer):
    """One decoder step with input feeding. States: [attentional state; top state], those of the cells, position t.

    Constants: encoder states (B, S, Dm) and the source mask (B, S), 1 for a token.
    """

    def __init__(self, cells, attention, combine, input_feeding, residual, hops=1, **kwargs):
        super().__init__(**kwargs)
        self.given = dict(cells=cells, attention=attention, combine=combine)
        self.input_feeding, self.residual, self.hops = input_feeding, residual, hops
        self.cells = [made(entry) for entry in cells]
        self.attention, self.combine = [entry and made(entry) for entry in (attention, combine)]
        self.units = self.cells[0].units

    @property
    def state_size(self):
        return [2 * self.units] + [size for cell in self.cells for size in as_list(cell.state_size)] + [1]

    def build(self, shapes):
        step, memory = shapes[:2]
        width = step[-1] + (self.units if self.input_feeding else 0)
        for cell in self.cells:
            cell.build((None, width))
            width = self.units
        self.attention.build([memory, (None, None, self.units)])
        self.combine.build((None, memory[-1] + self.units))

    def call(self, inputs, states, constants):
        memory, valid = constants
        units, (last, *cell_states, position) = self.units, states
        x = ops.concatenate([inputs, last[:, :units]], axis=-1) if self.input_feeding else inputs   # section 3.3
        new, each = [], len(cell_states) // len(self.cells)
        for number, cell in enumerate(self.cells):
            below = x
            x, changed = cell(x, cell_states[number * each:(number + 1) * each])
            x = x + below if self.residual and number else x
            new += as_list(changed)
        attentional = x
        for _ in range(self.hops):
            context, _ = self.attention.attend(attentional[:, None], memory, valid > 0.5, position)
            attentional = self.combine(ops.concatenate([context[:, 0], attentional], axis=-1))      # eq. 5
        output = ops.concatenate([attentional, x], axis=-1)
        return output, [output] + new + [position + 1.]

    def get_config(self):
        return dict(super().get_config(), input_feeding=self.input_feeding, residual=self.residual, hops=self.hops,
                    **self.given)


@register
class WordDropout(keras.layers.Layer):
    """Replaces a share `rate` of the words in the ids (B, T) by `<unk>` in training."""

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.generator = rate, keras.random.SeedGenerator()

    def call(self, ids, training=False):
        if not training:
            return ids
        drawn = keras.random.uniform(ops.shape(ids), seed=self.generator) < self.rate
        return ops.where(ops.logical_and(drawn, ids > END), UNK, ids)


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


def made(entry):
    """The Keras 3 layer or cell of an old configuration {class_name, config}."""
    kind, config = entry['class_name'], entry['config']
    if kind in ('GlobalAttention', 'LocalAttention'):
        keys = ('score', 'units', 'scale', 'normalize') + (
            ('alignment', 'window') if kind == 'LocalAttention' else ('max_source_length',))
        return globals()[kind](**{key: config[key] for key in keys})
    options = {} if kind == 'Dense' else dict(recurrent_activation={'hard_sigmoid': hard_sigmoid}.get(
        config['recurrent_activation'], config['recurrent_activation']))
    if kind == 'GRUCell':
        options['reset_after'] = config['reset_after']
    return getattr(keras.layers, kind)(config['units'], activation=config['activation'], use_bias=config['use_bias'],
                                       **options)


# Layers that become operations of the file

def Dropout(x, config):
    return keras.layers.Dropout(config['rate'])(x)


def KnownIds(ids, config):
    return ops.where(ids < config['size'], ids, UNK)


def SourceMask(ids):
    return ops.cast(ops.not_equal(ids, PAD), keras.config.floatx())


def ZeroState(ids, config):
    return ops.repeat(ops.zeros_like(ids[:, :1], dtype=keras.config.floatx()), config['width'], axis=1)


def Slice(x, config):
    return x[:, :, config['start']:config['stop']]


def Unmasked(x):
    return ops.copy(x)      # an operation hands on no mask


def TiedOutput(x, config, layers):
    """x . E^T: the embedding looks up all its ids, so that both keep sharing one table in training."""
    table = layers[config['embedding']]
    ids = ops.cast(ops.zeros_like(x[:1, 0, :1]), 'int32') + ops.arange(table.input_dim)             # (1, V)
    return ops.matmul(x, ops.transpose(table(ids)[0]))
