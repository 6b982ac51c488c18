import numpy as np
import pytest

from parity import hypotheses, mistakes, numpy_layers, trap_tests, traps


def call(kind, config=(), inputs=(), weights=(), mask=None, **more):
    """A call as a manifest lists it, and its arrays."""
    arrays = {'x%d' % number: np.asarray(value) for number, value in enumerate(inputs)}
    arrays.update(('w%d' % number, np.asarray(value)) for number, value in enumerate(weights))
    if mask is not None:
        arrays['mask'] = np.asarray(mask)
    names = sorted(name for name in arrays if name[0] == 'x')
    entry = {'name': 'here', 'class': kind, 'config': dict(config), 'inputs': names, 'outputs': ['out'],
             'input_masks': ['mask' if mask is not None else None], 'output_masks': [None], 'states': [],
             'weights': sorted(name for name in arrays if name[0] == 'w')}
    return dict(entry, **more), arrays


def keys(entry, arrays, **manifest):
    found = traps.find_traps(dict({'calls': [entry], 'outputs': [], 'output_arrays': []}, **manifest), arrays)
    return {trap.key for trap, _ in found}


def test_the_tables_of_the_guide_are_those_of_the_data():
    with open(traps.PAGE, encoding='utf-8') as stream:
        text = stream.read()
    assert traps.page_with_tables(text) == text, 'run python -m parity.traps'
    assert all(text.count(traps.BEGIN % name) == 1 for name in traps.tables())


def test_every_trap_has_a_title_and_what_to_write_in_each_framework():
    assert len({trap.key for trap in traps.TRAPS}) == len(traps.TRAPS)
    assert all(trap.title and trap.keras3 and trap.pytorch and trap.onnx for trap in traps.TRAPS)
    assert {key for _, wrong in mistakes.LAYERS.values() for _, key, _ in wrong() if key} <= {
        trap.key for trap in traps.TRAPS}


@pytest.mark.parametrize('size, window, stride, uneven', [(6, 3, 2, True), (5, 3, 2, False), (7, 2, 1, True),
                                                          (6, 5, 1, False), (8, 4, 4, True)])
def test_same_padding_is_listed_only_where_it_is_not_half_of_the_window(size, window, stride, uneven):
    entry, arrays = call('Conv1D', {'padding': 'same', 'kernel_size': [window], 'strides': [stride]},
                         [np.ones((2, size, 1))], [np.ones((window, 1, 1))])
    assert ('same_padding' in keys(entry, arrays)) == uneven
    assert 'same_padding' not in keys(dict(entry, config=dict(entry['config'], padding='valid')), arrays)


@pytest.mark.parametrize('value', [None, 'x', -1, 0, 1e308, float('nan'), 10 ** 400, [], [[]], ['x'], {}, True])
def test_a_configuration_that_makes_no_sense_ends_no_search_for_traps(value):
    names = ('epsilon', 'momentum', 'kernel_size', 'strides', 'dilation_rate', 'data_format', 'mask_zero', 'clipnorm',
             'decay', 'unit_forget_bias')
    config = dict.fromkeys(names, value)
    for kind in ('BatchNormalization', 'Conv2D', 'Embedding', 'LSTM'):
        for arrays_of in (np.ones((2, 5, 4)), np.full((2, 3), 'a'), np.ones(()), np.ones((0, 2))):
            entry, arrays = call(kind, dict(config, padding='same', kernel_size=value), [arrays_of],
                                 [arrays_of] * 3, arrays_of)
            keys(entry, arrays, training={'optimizer': 'Adam', 'loss': value, 'config': config}, outputs=['out'],
                 output_arrays=['x0'], keras=None)


def test_recurrent_traps_follow_the_configuration_and_the_mask():
    config = {'recurrent_activation': 'hard_sigmoid', 'activation': 'tanh', 'reset_after': False}
    weights = [np.ones((2, 9)), np.ones((3, 9)), np.ones(9)]
    entry, arrays = call('GRU', config, [np.ones((2, 4, 2))], weights, np.ones((2, 4), bool))
    assert keys(entry, arrays) == {'hard_sigmoid', 'reset_after', 'gate_order', 'one_bias'}
    arrays['mask'][1, 2:] = False
    assert 'masked_steps' in keys(entry, arrays)
    arrays['w2'] = np.ones((2, 9))
    config.update(reset_after=True, recurrent_activation='sigmoid', stateful=True)
    assert keys(dict(entry, config=config), arrays) == {'two_biases', 'gate_order', 'masked_steps', 'stateful'}


def test_traps_of_arrays_are_listed_only_where_the_arrays_show_them():
    table = np.ones((4, 2))
    entry, arrays = call('Embedding', {'mask_zero': True}, [np.ones((2, 3))], [table])
    assert keys(entry, arrays) == {'embedding_row_0'}
    table[0] = 0
    assert keys(entry, arrays) == set()
    entry, arrays = call('Flatten', {}, [np.ones((2, 3, 1))])
    assert keys(entry, arrays) == set()
    arrays['x0'] = np.ones((2, 3, 2))
    assert keys(entry, arrays) == {'flatten'}


def test_traps_of_training_follow_the_optimiser_and_the_outputs():
    entry, arrays = call('Dense', {'kernel_regularizer': {'class_name': 'L1L2'}})
    arrays['out'] = np.array([[1., 0.]], 'f')
    training = {'optimizer': 'Adam', 'loss': ['categorical_crossentropy'],
                'config': {'epsilon': 1e-7, 'decay': 0.1, 'clipnorm': 1.}}
    found = keys(entry, arrays, training=training, outputs=['out'], output_arrays=['out'],
                 nested_calls_that_differ=['inner'])
    assert found == {'regularizer', 'cross_entropy', 'adam', 'clipnorm', 'decay', 'race', 'nested_masks'}
    assert trap_tests.own_classes({'calls': [dict(entry, **{'class': 'Mine'})]}, {}) == [('here', 'its class is Mine')]


# Causes

random = np.random.RandomState(0)
RECURRENT = {'recurrent_activation': 'hard_sigmoid', 'activation': 'tanh', 'return_sequences': True}
LSTM = [random.normal(size=shape) for shape in ((2, 12), (3, 12), (12,))]
GRU = [random.normal(size=shape) for shape in ((2, 9), (3, 9), (9,))]
X, MASK = random.normal(size=(4, 5, 2)), np.arange(5) < np.array([[5], [3], [1], [0]])
CONV = {'padding': 'same', 'strides': [2], 'activation': 'relu'}
CASES = [
    ('LSTM', RECURRENT, [X], LSTM, MASK), ('GRU', RECURRENT, [X], GRU, MASK),
    ('BatchNormalization', {'epsilon': 1e-3}, [X], [random.uniform(0.5, 1., 2) for _ in range(4)], None),
    ('Dense', {'activation': 'tanh'}, [X], [random.normal(size=(2, 2)), random.normal(size=2)], None),
    ('Conv1D', CONV, [random.normal(size=(3, 6, 2))], [random.normal(size=(3, 2, 2)), random.normal(size=2)], None),
    ('Conv2D', dict(CONV, strides=[2, 2]), [random.normal(size=(2, 6, 6, 2))],
     [random.normal(size=(3, 3, 2, 2)), random.normal(size=2)], None),
    ('Embedding', {}, [np.array([[1, 2, 0]])], [random.normal(size=(4, 3))], None),
    ('BatchNormalization', {'epsilon': 1e-3, 'axis': 1}, [X], [random.uniform(0.5, 1., 5) for _ in range(4)], None),
    ('GlobalAveragePooling1D', {}, [X], [], MASK[:, :5]), ('GlobalMaxPooling1D', {}, [X], [], None),
    ('ZeroPadding1D', {'padding': [0, 2]}, [X], [], None), ('Flatten', {}, [X], [], None),
    ('Concatenate', {'axis': -1}, [X, 2 * X, X + 1], [], None), ('Maximum', {}, [X, 2 * X], [], None),
    ('Dropout', {'rate': 0.5}, [X], [], None), ('LeakyReLU', {'alpha': 0.3}, [X], [], None),
    ('Activation', {'activation': 'softmax'}, [X], [], None), ('Softmax', {'axis': 1}, [X], [], None),
    ('SimpleRNN', RECURRENT, [X], [random.normal(size=shape) for shape in ((2, 3), (3, 3), (3,))], MASK),
    ('ELU', {'alpha': 0.3}, [X], [], None),
    ('ReLU', {'max_value': 1., 'negative_slope': 0.2, 'threshold': 0.1}, [X], [], None)]
PICTURES = random.normal(size=(3, 6, 6, 2))
for _kind, _shapes in (('DepthwiseConv2D', [(3, 3, 2, 2), (4,)]), ('Conv2DTranspose', [(3, 3, 2, 2), (2,)]),
                       ('SeparableConv2D', [(3, 3, 2, 2), (1, 1, 4, 2), (2,)]), ('AveragePooling2D', []),
                       ('MaxPooling2D', [])):
    CASES.append((_kind, dict(CONV, strides=[2, 2], pool_size=[3, 3]), [PICTURES],
                  [random.normal(size=shape) for shape in _shapes], None))


@pytest.mark.parametrize('kind, config, inputs, weights, mask', CASES, ids=[case[0] for case in CASES])
def test_each_mistake_that_changes_a_layer_is_named(kind, config, inputs, weights, mask):
    layer, changed = mistakes.LAYERS[kind]
    entry, arrays = call(kind, config, inputs, weights, mask)
    arguments = (config, inputs, mask, weights)
    arrays['out'] = layer(*arguments)
    assert hypotheses.mistakes_that_fit(entry, arrays, arrays['out']) == []
    tried = 0
    for text, key, wrong in changed():
        found = hypotheses.attempt(wrong, arguments)
        kept = np.isfinite(arrays['out'])
        if found is None or found.shape != kept.shape or not np.isfinite(found[kept]).all() or (
                np.abs((found - arrays['out'])[kept]).max() <= 1e-5 * np.abs(found[kept]).max()):
            continue
        assert (text, key) in hypotheses.mistakes_that_fit(entry, arrays, found)
        tried += 1
    assert tried


def test_the_layers_in_numpy_give_a_known_value():
    x = np.array([[[1.], [2.]]])
    weights = [np.full((1, 3), 0.5), np.full((1, 3), 0.25), np.array([0.1, -0.2, 0.3])]
    h = 0.
    for value in (1., 2.):      # a GRU that resets before the product, by hand
        z, r = 0.2 * (0.5 * value + 0.25 * h + 0.1) + 0.5, 0.2 * (0.5 * value + 0.25 * h - 0.2) + 0.5
        h = z * h + (1. - z) * np.tanh(0.5 * value + 0.3 + 0.25 * r * h)
    found = numpy_layers.recurrent(RECURRENT, [x], None, weights, kind='GRU')
    assert abs(found[0, 1, 0] - h) < 1e-12
    kernel = np.array([[[1.]], [[10.]], [[100.]]])
    x = np.arange(1., 5.).reshape(1, 4, 1)
    found = numpy_layers.convolution(dict(CONV, activation='linear'), [x], None, [kernel])
    assert found.ravel().tolist() == [321., 43.]      # 'same' with strides of 2: nothing before, one zero after


def test_a_small_mistake_is_found_from_the_inputs_of_the_port_not_the_recorded_ones():
    kernel, bias = random.normal(size=(2, 3)), np.full(3, 1e-3)
    entry, arrays = call('Dense', {'activation': 'linear'}, [X], [kernel, bias])
    arrays['out'] = X @ kernel + bias
    port = X + 1e-3 * random.normal(size=X.shape)       # what the layers before it have left
    missing = port @ kernel
    assert np.abs(missing - port @ kernel - bias).max() < 1e-3 * np.abs(missing).max()
    assert hypotheses.mistakes_that_fit(entry, arrays, missing, {'x0': port}) == [('the bias is missing', None)]
    assert hypotheses.mistakes_that_fit(entry, arrays, missing) == []
    assert hypotheses.mistakes_that_fit(entry, arrays, port @ kernel + bias, {'x0': port}) == []


@pytest.mark.parametrize('kind, weights', [('LSTM', LSTM), ('GRU', GRU)])
def test_the_mistakes_of_both_directions_are_named(kind, weights):
    config = {'merge_mode': 'concat', 'layer': {'class_name': kind, 'config': RECURRENT}}
    entry, arrays = call('Bidirectional', config, [X], weights + [one + 0.1 for one in weights], MASK)
    layer, changed = mistakes.layer_of(entry)
    arguments = (config, [X], MASK, weights + [one + 0.1 for one in weights])
    arrays['out'] = layer(*arguments)
    for wanted in ('masked steps output zeros', 'recurrent_activation is hard_sigmoid with slope 1/6',
                   'the directions are exchanged', 'the backward output is in the order in which it read'):
        wrong, = [wrong for text, _, wrong in changed() if text == wanted]
        assert wanted in [text for text, _ in hypotheses.mistakes_that_fit(entry, arrays, wrong(*arguments))]
    back = mistakes.with_config(mistakes.options(numpy_layers.recurrent, kind=kind), go_backwards=True)
    assert np.allclose(arrays['out'][..., 3:], back(RECURRENT, [X], MASK, arguments[3][3:])[:, ::-1])
