"""Models of Keras 2.2.4 that hold the layers and options which people use, each under its own name, for `convert`."""
import tf_session  # noqa: F401  first: it fixes the import order
import keras
from keras import backend as K
from keras import layers as L
from keras.models import Model, Sequential
import numpy as np

MODES = ('sum', 'mul', 'concat', 'ave', None)
ACTIVATIONS = ('softmax', 'elu', 'selu', 'softplus', 'softsign', 'relu', 'tanh', 'sigmoid', 'hard_sigmoid',
               'exponential', 'linear')


def drawn(model):
    """The model with weights, also biases and moving averages, that no initializer gives."""
    random = np.random.RandomState(3)
    K.batch_set_value([(one, random.uniform(0.3 if 'variance' in one.name else -0.7, 1., K.int_shape(one)) *
                        (1e-5 if one.name.startswith('small_variance/moving_variance') else 1.))
                       for one in model.weights])
    return model


def convolutions_1d():
    x = L.Input((9, 3), name='x')
    return Model(x, [
        L.Conv1D(4, 3, name='valid')(x), L.Conv1D(4, 3, padding='causal', activation='relu', name='causal')(x),
        L.Conv1D(4, 3, padding='causal', dilation_rate=2, name='causal_dilated')(x),
        L.Conv1D(4, 3, padding='same', dilation_rate=2, name='dilated')(x),
        L.Conv1D(4, 3, strides=2, padding='same', use_bias=False, name='strides')(x),
        L.Conv1D(4, 3, activation='hard_sigmoid', name='gate')(x),
        L.Conv1D(4, 3, data_format='channels_first', name='first')(x),
        L.SeparableConv1D(4, 3, depth_multiplier=2, padding='same', activation='hard_sigmoid', name='separable')(x),
        L.LocallyConnected1D(2, 3, strides=2, name='local')(x),
        L.LocallyConnected1D(2, 3, use_bias=False, activation='tanh', name='local_tanh')(x),
        L.MaxPooling1D(3, strides=2, padding='same', name='max')(x), L.MaxPooling1D(2, name='max_valid')(x),
        L.MaxPooling1D(3, data_format='channels_first', name='max_first')(x),
        L.AveragePooling1D(3, padding='same', strides=1, name='mean')(x),
        L.GlobalMaxPooling1D(name='largest')(x), L.GlobalAveragePooling1D(name='average')(x),
        L.GlobalMaxPooling1D(data_format='channels_first', name='largest_first')(x),
        L.Cropping1D((1, 2), name='crop')(x), L.ZeroPadding1D((2, 1), name='pad')(x), L.UpSampling1D(2, name='up')(x),
        L.Flatten(name='flat')(x), L.Flatten(data_format='channels_first', name='flat_first')(x),
        L.Permute((2, 1), name='permute')(x), L.Reshape((3, -1), name='reshape')(x),
        L.SpatialDropout1D(0.3, name='dropout')(x), L.GaussianNoise(0.3, name='noise')(x),
        L.GaussianDropout(0.3, name='gaussian')(x), L.AlphaDropout(0.2, name='alpha')(x),
        L.ActivityRegularization(0.01, 0.02, name='regularization')(x)])


def convolutions_2d(form='channels_last'):
    last, options = form == 'channels_last', dict(data_format=form)
    x = L.Input((7, 6, 3) if last else (3, 7, 6), name='x')
    outputs = [
        L.Conv2D(4, 3, name='valid', **options)(x),
        L.Conv2D(6, 3, padding='same', name='as_many_filters_as_columns', **options)(x),
        L.Conv2D(4, (3, 2), strides=(2, 1), padding='same', name='strides', **options)(x),
        L.Conv2D(4, 3, dilation_rate=2, padding='same', use_bias=False, name='dilated', **options)(x),
        L.SeparableConv2D(4, 3, depth_multiplier=2, name='separable', **options)(x),
        L.SeparableConv2D(4, 3, strides=2, padding='same', name='separable_strides', **options)(x),
        L.SeparableConv2D(4, 2, dilation_rate=2, name='separable_dilated', **options)(x),
        L.DepthwiseConv2D(3, depth_multiplier=2, padding='same', name='depthwise', **options)(x),
        L.DepthwiseConv2D(3, strides=2, padding='same', activation='relu', name='depthwise_strides', **options)(x),
        L.Conv2DTranspose(4, 3, strides=2, padding='same', name='transpose', **options)(x),
        L.Conv2DTranspose(4, 3, strides=2, name='transpose_valid', **options)(x),
        L.Conv2DTranspose(4, 3, padding='same', activation='hard_sigmoid', name='transpose_gate', **options)(x),
        L.Conv2DTranspose(4, 3, strides=2, padding='same', output_padding=1, name='output_padding', **options)(x),
        L.MaxPooling2D((3, 2), strides=2, padding='same', name='max', **options)(x),
        L.AveragePooling2D(3, strides=2, padding='same', name='mean', **options)(x),
        L.GlobalMaxPooling2D(name='largest', **options)(x), L.GlobalAveragePooling2D(name='average', **options)(x),
        L.Cropping2D(((1, 2), (0, 1)), name='crop', **options)(x),
        L.ZeroPadding2D(((2, 1), (0, 3)), name='pad', **options)(x), L.UpSampling2D((2, 3), name='up', **options)(x),
        L.UpSampling2D((2, 3), interpolation='bilinear', name='bilinear', **options)(x),
        L.Flatten(name='flat', **options)(x), L.SpatialDropout2D(0.3, name='dropout', **options)(x),
        L.BatchNormalization(axis=-1 if last else 1, name='normed')(x),
        L.BatchNormalization(axis=1, scale=False, name='no_scale')(x),
        L.BatchNormalization(epsilon=1e-6, name='small_variance')(x),
        L.BatchNormalization(axis=2, center=False, scale=False, epsilon=0.01, momentum=0.9, name='no_center')(x),
        L.PReLU(name='slopes')(x), L.PReLU(shared_axes=[1, 2], name='shared_slopes')(x),
        L.Softmax(axis=1, name='axis')(x)]
    return Model(x, outputs + [L.LocallyConnected2D(2, (3, 2), strides=(1, 2), name='local')(x)] * last)


def convolutions_2d_first():
    return convolutions_2d('channels_first')


def convolutions_3d(form='channels_last'):
    x, options = L.Input((5, 6, 4, 2) if form == 'channels_last' else (2, 5, 6, 4), name='x'), dict(data_format=form)
    return Model(x, [
        L.Conv3D(3, 2, name='as_many_filters_as_columns', **options)(x),
        L.Conv3D(4, (3, 2, 1), strides=(2, 1, 2), padding='same', name='strides', **options)(x),
        L.Conv3DTranspose(3, 3, strides=2, padding='same', name='transpose', **options)(x),
        L.MaxPooling3D(2, name='max', **options)(x),
        L.AveragePooling3D(2, padding='same', strides=1, name='mean', **options)(x),
        L.GlobalMaxPooling3D(name='largest', **options)(x), L.GlobalAveragePooling3D(name='average', **options)(x),
        L.Cropping3D(1, name='crop', **options)(x), L.ZeroPadding3D((1, 2, 0), name='pad', **options)(x),
        L.UpSampling3D((1, 2, 2), name='up', **options)(x), L.Flatten(name='flat', **options)(x),
        L.SpatialDropout3D(0.3, name='dropout', **options)(x)])


def convolutions_3d_first():
    return convolutions_3d('channels_first')


def activations():
    x = L.Input((5, 4), name='x')
    outputs = [layer(x) for name in ACTIVATIONS for layer in (
        L.Activation(name, name='alone_' + name), L.Dense(3, activation=name, name='dense_' + name))]
    constraints, regularizers = keras.constraints, keras.regularizers
    return Model(x, outputs + [
        L.LeakyReLU(name='leaky')(x), L.ELU(0.5, name='elu')(x), L.ThresholdedReLU(0.3, name='threshold')(x),
        L.Softmax(axis=1, name='axis')(x), L.ReLU(max_value=0.8, name='largest')(x), L.PReLU(name='slopes')(x),
        L.ReLU(negative_slope=0.1, threshold=0.2, max_value=1., name='three')(x),
        L.Dense(3, kernel_regularizer='l2', bias_regularizer=regularizers.l1(0.1), name='regularizer',
                activity_regularizer=regularizers.l1_l2(.1, .2))(x),
        L.Dense(3, kernel_constraint=constraints.max_norm(2.), bias_constraint='non_neg', name='constraint')(x),
        L.Dense(3, kernel_constraint=constraints.MinMaxNorm(0.1, 1., .5, axis=1), use_bias=False, name='norms')(x),
        L.Dropout(0.2, noise_shape=(None, 1, 4), name='dropout')(x), L.BatchNormalization(axis=1, name='steps')(x),
        L.RepeatVector(3, name='repeat')(L.GlobalMaxPooling1D(name='largest_step')(x))])


def merges():
    x, y = L.Input((4, 3), name='x'), L.Input((4, 3), name='y')
    a, b = L.Flatten(name='a')(x), L.Flatten(name='b')(y)
    return Model([x, y], [
        L.Add(name='add')([x, y, x]), L.Subtract(name='subtract')([x, y]), L.Multiply(name='multiply')([x, y]),
        L.Average(name='average')([x, y, y]), L.Maximum(name='maximum')([x, y]), L.Minimum(name='minimum')([x, y]),
        L.Concatenate(name='join')([x, y]), L.Concatenate(axis=1, name='join_steps')([x, y]),
        L.Dot(2, name='dot')([x, y]), L.Dot((1, 1), name='dot_steps')([x, y]), L.Dot(1, name='dot_vectors')([a, b]),
        L.Dot(-1, normalize=True, name='cosine')([x, y]), L.Dot(1, normalize=True, name='cosine_vectors')([a, b])])


def recurrent():
    x, outputs = L.Input((None, 3), name='x'), []
    for cls in (L.SimpleRNN, L.LSTM, L.GRU):
        name = cls.__name__
        outputs += [
            cls(4, name=name)(x), cls(4, return_sequences=True, go_backwards=True, name=name + '_back')(x),
            cls(4, activation='relu', use_bias=False, name=name + '_relu')(x),
            cls(4, dropout=.2, recurrent_dropout=.3, implementation=2, kernel_regularizer='l2',
                bias_constraint='non_neg', name=name + '_options')(x)]
        outputs += cls(4, return_state=True, return_sequences=True, name=name + '_state')(x)
        outputs += L.Bidirectional(cls(3, return_state=True), name=name + '_both_states')(x)
        for mode in MODES:
            both = L.Bidirectional(cls(3, return_sequences=True), merge_mode=mode, name='%s_%s' % (name, mode))(x)
            outputs += both if isinstance(both, list) else [both]
    outputs += L.RNN([L.GRUCell(4), L.GRUCell(3)], return_state=True, name='cells_states')(x)
    return Model(x, outputs + [
        L.LSTM(4, unit_forget_bias=False, name='bias')(x), L.LSTM(4, activation='hard_sigmoid', name='lstm_gate')(x),
        L.GRU(4, activation='hard_sigmoid', name='gru_gate')(x), L.GRU(4, reset_after=True, name='after')(x),
        L.RNN(L.LSTMCell(4, recurrent_activation='sigmoid'), return_sequences=True, name='cell')(x),
        L.RNN([L.LSTMCell(4), L.LSTMCell(3)], return_sequences=True, name='cells')(x),
        L.RNN(L.StackedRNNCells([L.GRUCell(4), L.SimpleRNNCell(3)]), name='stacked')(x),
        L.TimeDistributed(L.Activation('softmax'), name='each')(x)])


def in_time():
    x, images = L.Input((5, 3), name='x'), L.Input((4, 6, 6, 2), name='images')
    first = L.Permute((1, 4, 2, 3), name='first')(images)
    words = L.TimeDistributed(L.Reshape((12, 6)), name='words')(images)
    return Model([x, images], L.ConvLSTM2D(3, 3, return_state=True, name='states')(images) + [
        L.LSTM(4, unroll=True, name='unrolled')(x),
        L.GRU(4, unroll=True, return_sequences=True, name='unrolled_all')(x),
        L.ConvLSTM2D(3, 3, padding='same', return_sequences=True, name='same')(images),
        L.ConvLSTM2D(3, (3, 2), strides=2, go_backwards=True, name='back')(images),
        L.ConvLSTM2D(3, 3, padding='same', dilation_rate=2, recurrent_activation='sigmoid', name='dilated')(images),
        L.ConvLSTM2D(6, 3, padding='same', data_format='channels_first', name='channels_first')(first),
        L.Bidirectional(L.ConvLSTM2D(2, 3, return_sequences=True), name='both')(images),
        L.TimeDistributed(L.Conv2D(3, 3), name='conv')(images),
        L.TimeDistributed(L.MaxPooling2D(2), name='max')(images),
        L.TimeDistributed(L.BatchNormalization(), name='normed')(images),
        L.TimeDistributed(L.Flatten(), name='flat')(images),
        L.TimeDistributed(L.TimeDistributed(L.Dense(2)), name='twice')(images),
        L.TimeDistributed(L.LSTM(3), name='lstm')(words),
        L.TimeDistributed(L.Bidirectional(L.GRU(3)), name='gru')(words)])


def masked():
    ids, x = L.Input((None,), name='ids'), L.Input((6, 3), name='x')
    table, valid = L.Embedding(11, 4, mask_zero=True, name='table')(ids), L.Masking(name='valid')(x)
    both = L.Bidirectional(L.LSTM(3, return_sequences=True, return_state=True), merge_mode=None, name='parts')(table)
    return Model([ids, x], both + [
        L.LSTM(3, name='lstm')(table), L.GRU(3, return_sequences=True, name='gru')(table),
        L.SimpleRNN(3, return_sequences=True, go_backwards=True, name='back')(table),
        L.Bidirectional(L.LSTM(3), name='both')(table), L.GlobalAveragePooling1D(name='average')(valid),
        L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode='sum', name='sum')(table),
        L.TimeDistributed(L.Dense(3), name='each')(L.LSTM(4, return_sequences=True, name='after')(
            L.Dropout(.2, name='dropout')(table))),
        L.LSTM(3, name='after_dense')(L.Dense(4, name='dense')(valid)), L.BatchNormalization(name='normed')(valid),
        L.LSTM(2, name='after_leaky')(L.LeakyReLU(name='leaky')(L.Activation('tanh', name='tanh')(valid))),
        L.LSTM(3, name='after_add')(L.Add(name='add')([table, L.Dense(4, name='other')(table)])),
        L.LSTM(3, name='after_join')(L.Concatenate(name='join')([table, table])),
        L.RNN(L.LSTMCell(3), return_sequences=True, name='cell')(valid)])


def unequal_masks():
    a, b = L.Input((5,), name='a'), L.Input((5,), name='b')
    table = L.Embedding(9, 4, mask_zero=True, name='table')
    x, y, whole = table(a), table(b), L.Embedding(9, 4, name='whole')(b)
    outputs = [L.LSTM(3, name='after_' + name)(cls(name=name)([x, y])) for name, cls in (
        ('add', L.Add), ('multiply', L.Multiply), ('average', L.Average), ('maximum', L.Maximum),
        ('minimum', L.Minimum), ('subtract', L.Subtract), ('join', L.Concatenate))]
    return Model([a, b], outputs + [
        L.LSTM(3, name='after_steps')(L.Concatenate(axis=1, name='steps')([x, y])), L.Dot(2, name='dot')([x, y]),
        L.LSTM(2, name='after_half')(L.Multiply(name='half')([x, whole]))])


def first_states():
    x, y = L.Input((None, 3), name='x'), L.Input((None, 2), name='y')
    h0, c0 = L.Input((4,), name='h'), L.Input((4,), name='c')
    _, h, c = L.LSTM(4, return_state=True, name='encoder')(x)
    both = L.Bidirectional(L.LSTM(2, return_state=True), name='both')(x)
    joined = [L.Concatenate(name='h_both')(both[1::2]), L.Concatenate(name='c_both')(both[2::2])]
    return Model([x, y, h0, c0], L.GRU(4, return_sequences=True, return_state=True, name='gru')(y, initial_state=h) + [
        L.LSTM(4, return_sequences=True, name='decoder')(y, initial_state=[h, c]),
        L.LSTM(4, name='joined')(y, initial_state=joined), L.LSTM(4, name='given')(y, initial_state=[h0, c0]),
        L.Bidirectional(L.LSTM(2, return_sequences=True), name='both_again')(y, initial_state=both[1:])])


def nested():
    dense = L.Dense(4, activation='relu', input_shape=(3,), name='dense')
    inner = Sequential([dense, L.BatchNormalization(name='normed')], name='inner')
    outer = Sequential([inner, L.Dense(2, name='last')], name='outer')
    a, b = L.Input((3,), name='a'), L.Input((3,), name='b')
    total = L.Add(name='sum')([L.Dense(2, name='p')(a), L.Dense(2, name='q')(b)])
    two = Model([a, b], [total, L.Dense(1, name='r')(a)], name='two')
    x, y = L.Input((3,), name='x/1'), L.Input((3,), name='y')
    return Model([x, y], [outer(x), outer(y), inner(x)] + two([x, y]) + two([y, x]))


def stateful():
    x = L.Input(batch_shape=(2, 5, 3), name='x')
    y = L.LSTM(4, stateful=True, return_sequences=True, name='lstm')(x)
    return Model(x, [
        L.GRU(3, stateful=True, name='gru')(y), L.SimpleRNN(3, stateful=True, return_sequences=True, name='simple')(y),
        L.RNN([L.LSTMCell(3), L.LSTMCell(2)], stateful=True, name='cells')(x),
        L.Bidirectional(L.LSTM(3, stateful=True), name='both')(x),
        L.LSTM(3, stateful=True, name='masked')(L.Masking(name='valid')(x))])


def tagger():
    """Words and characters, as of named entities."""
    words, letters = L.Input((5,), name='words'), L.Input((5, 4), name='letters')
    table = L.Embedding(9, 4, mask_zero=True, name='table')(words)
    drawn_letters = L.TimeDistributed(L.Embedding(8, 3), name='letter')(letters)
    last = L.TimeDistributed(L.LSTM(3, name='lstm'), name='last')(drawn_letters)
    largest = L.TimeDistributed(L.GlobalMaxPooling1D(), name='largest')(
        L.TimeDistributed(L.Conv1D(3, 3, padding='same'), name='conv')(drawn_letters))
    both = L.Bidirectional(L.LSTM(4, return_sequences=True, recurrent_dropout=.1), name='both')(
        L.Concatenate(name='join')([L.SpatialDropout1D(.1, name='dropout')(table), last, largest]))
    model = Model([words, letters], L.TimeDistributed(L.Dense(3, activation='softmax'), name='tags')(both))
    model.compile('adam', 'sparse_categorical_crossentropy')
    return model


def documents():
    """Sentences inside of documents: a model in `TimeDistributed` that begins with an `Embedding`."""
    words, document = L.Input((6,), dtype='int32'), L.Input((4, 6), dtype='int32', name='document')
    both = L.Bidirectional(L.LSTM(3, return_sequences=True), name='words')(L.Embedding(12, 4, name='table')(words))
    sentence = Model(words, L.GlobalMaxPooling1D(name='largest')(both), name='sentence')
    return Model(document, L.GRU(3, name='sentences')(L.TimeDistributed(sentence, name='each')(document)))


def adversarial():
    """A generator before a frozen discriminator."""
    generator = Sequential([
        L.Dense(16, input_dim=4, name='dense'), L.LeakyReLU(.2), L.BatchNormalization(momentum=.8, name='normed'),
        L.Reshape((4, 4, 1)), L.UpSampling2D(), L.Conv2D(2, 3, padding='same', activation='tanh', name='conv')])
    discriminator = Sequential([
        L.Conv2D(4, 3, strides=2, padding='same', input_shape=(8, 8, 2), name='conv'),
        L.ZeroPadding2D(((0, 1), (0, 1))), L.LeakyReLU(.2), L.Dropout(.25), L.Flatten(),
        L.Dense(1, activation='sigmoid', name='dense')])
    discriminator.trainable = False
    noise = L.Input((4,), name='noise')
    model = Model(noise, discriminator(generator(noise)))
    model.compile(keras.optimizers.Adam(.0002, .5), 'binary_crossentropy')
    return model


def branches():
    x = L.Input((8, 8, 3), name='x')
    a = L.Conv2D(4, 1, padding='same', activation='relu')(x)
    c = L.Conv2D(2, 1, padding='same')(L.MaxPooling2D(3, strides=1, padding='same')(x))
    y = L.BatchNormalization(scale=False)(L.concatenate([a, L.Conv2D(4, (1, 3), padding='same')(a), c], axis=3))
    y = L.GlobalAveragePooling2D()(L.add([y, L.Conv2D(10, 1)(x)]))
    model = Model(x, L.Dense(3, activation='softmax', kernel_regularizer='l2')(y))
    model.compile(keras.optimizers.SGD(.01, momentum=.9, nesterov=True, decay=1e-2, clipvalue=.5),
                  'categorical_crossentropy', ['accuracy'])
    return model


def several_losses():
    x = L.Input((6,), name='x')
    hidden = L.Dense(5, activation='relu', name='hidden')(x)
    outputs = [L.Dense(3, activation='softmax', name='a')(hidden), L.Dense(1, activation='sigmoid', name='b')(hidden)]
    model = Model(x, outputs)
    model.compile(keras.optimizers.Adam(lr=.01, clipnorm=1., decay=.1), {'a': 'categorical_crossentropy', 'b': 'mse'},
                  loss_weights={'a': 1., 'b': .5}, metrics={'a': 'acc'})
    return model


def recommender():
    users, items = L.Input((1,), name='users'), L.Input((1,), name='items')
    a = L.Flatten()(L.Embedding(5, 3, embeddings_regularizer='l2', name='user')(users))
    b = L.Flatten()(L.Embedding(6, 3, embeddings_constraint='unit_norm', name='item')(items))
    both = L.concatenate([L.multiply([a, b]), L.Dot(1)([a, b])])
    model = Model([users, items], L.Dense(1, activation='sigmoid')(both))
    model.compile('adamax', 'binary_crossentropy')
    return model


def translator():
    """An encoder and a decoder whose tables mask, the decoder's states from the encoder."""
    source, target = L.Input((5,), name='source'), L.Input((6,), name='target')
    encoded = L.LSTM(4, return_state=True, recurrent_activation='sigmoid', name='encoder')(
        L.Embedding(9, 3, mask_zero=True, name='words')(source))
    decoded = L.LSTM(4, return_sequences=True, recurrent_activation='sigmoid', name='decoder')(
        L.Dense(3, name='dense')(L.Masking(name='valid')(L.Embedding(8, 3, name='table')(target))),
        initial_state=encoded[1:])
    model = Model([source, target], L.Dense(8, activation='softmax', name='out')(decoded))
    model.compile('sgd', 'mse')
    return model


def lambdas():
    x, y = L.Input((5, 3), name='x'), L.Input((5, 3), name='y')
    flat = L.Reshape((15,), name='flat')(y)
    functions = {
        'sum': lambda z: K.sum(z, axis=1), 'mean': lambda z: K.mean(z, axis=-1, keepdims=True),
        'max': lambda z: K.max(z, axis=1),
        'normal': lambda z: K.l2_normalize(z, axis=-1), 'first': lambda z: z[:, 0], 'last': lambda z: z[:, -1, :2],
        'part': lambda z: z[:, 1:4, ::2], 'back': lambda z: K.reverse(z, 1), 'pixel': lambda z: z / 127.5 - 1.,
        'one_minus': lambda z: 1. - z, 'expand': lambda z: K.expand_dims(z, 2),
        'turn': lambda z: K.permute_dimensions(z, (0, 2, 1)),
        'reshape': lambda z: K.reshape(z, (-1, 15)), 'softmax': lambda z: K.softmax(z),
        'clip': lambda z: K.clip(z, -0.5, 0.5),
        'clamp': lambda z: K.relu(z, max_value=0.7), 'std': lambda z: K.std(z, axis=1), 'same': lambda z: z,
        'root': lambda z: K.sqrt(K.abs(z) + K.epsilon()), 'swish': lambda z: z * K.sigmoid(1.5 * z),
        'squeezed': lambda z: K.squeeze(K.expand_dims(z, 1), 1), 'repeated': lambda z: K.tile(z, (1, 2, 1)),
        'any': lambda z: K.cast(K.any(K.not_equal(z, 0.), axis=-1), 'float32')}
    pairs = {
        'difference': lambda z: K.abs(z[0] - z[1]), 'product': lambda z: K.batch_dot(z[0], z[1], axes=(2, 2)),
        'distance': lambda z: K.sqrt(K.maximum(K.sum(K.square(z[0] - z[1]), axis=1, keepdims=True), K.epsilon())),
        'stack': lambda z: K.stack(z, axis=1), 'joined': lambda z: K.concatenate(z, axis=-1)}
    return Model([x, y], [L.Lambda(function, name=name)(x) for name, function in sorted(functions.items())] + [
        L.Lambda(function, name=name)([x, y]) for name, function in sorted(pairs.items())] + [
            L.Lambda(lambda z: K.repeat(z, 3), name='repeat')(flat)])


def masked_starts():
    """Recurrent layers with a mask and first states, as of a translator whose two tables mask, and cells in a row."""
    source, target = L.Input((None,), name='source'), L.Input((None,), name='target')
    encoded = L.LSTM(4, return_state=True, name='encoder')(L.Embedding(9, 3, mask_zero=True, name='words')(source))
    table = L.Embedding(8, 3, mask_zero=True, name='table')(target)
    state = L.Dense(4, name='dense')(encoded[0])
    cells = [L.LSTMCell(3), L.GRUCell(3)]
    return Model([source, target], L.LSTM(4, return_sequences=True, return_state=True, name='lstm')(
        table, initial_state=encoded[1:]) + [
            L.GRU(4, return_sequences=True, reset_after=True, name='gru')(table, initial_state=state),
            L.SimpleRNN(4, return_sequences=True, go_backwards=True, name='back')(table, initial_state=state),
            L.RNN(L.LSTMCell(4), return_sequences=True, name='cell')(table, initial_state=encoded[1:]),
            L.RNN(L.StackedRNNCells(cells), return_sequences=True, name='cells')(table),
            L.RNN([L.LSTMCell(4), L.GRUCell(4)], name='started')(table, initial_state=encoded[1:] + [state])])


# Not to be converted

def noise():
    x = L.Input((3,), name='x')
    return Model(x, L.Lambda(lambda z: z + K.random_normal(K.shape(z)), name='drawn')(x))


def shared_in_time():
    inner = Sequential([L.Dense(4, input_shape=(3,), name='dense')], name='inner')
    x, steps = L.Input((3,), name='x'), L.Input((5, 3), name='steps')
    return Model([x, steps], [inner(x), L.TimeDistributed(inner, name='each')(steps)])


CONVERTED = (
    convolutions_1d, convolutions_2d, convolutions_2d_first, convolutions_3d, convolutions_3d_first, activations,
    merges, recurrent, in_time, masked, unequal_masks, first_states, nested, stateful, documents, lambdas,
    masked_starts)
TRAINED = (adversarial, branches, several_losses, recommender, translator, tagger)
REFUSED = {
    shared_in_time: 'inner: it runs in TimeDistributed and elsewhere, which no file of Keras 3 can hold',
    noise: 'drawn: nothing says how to compute RandomStandardNormal'}
