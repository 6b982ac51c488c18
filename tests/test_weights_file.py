import io
import pickle
import random
import time
import tracemalloc

import h5py
import numpy as np
import pytest

from command_line import UserError
from storage.weights_file import WeightsReader, array_hash, hash_arrays, pack_weights, unpack_weights

LAYERS = [('source', []),
          ('encoder', [('encoder/kernel:0', np.arange(12, dtype='f4').reshape(3, 4)),
                       ('encoder/bias:0', np.ones(4, 'f4'))]),
          ('attention', [('attention/scale:0', np.float32(2.5))])]
EXPECTED = [(layer, [(name, np.shape(array), 'f4') for name, array in weights]) for layer, weights in LAYERS]


def make_file(fill, **options):
    """Bytes of an HDF5 file as `fill(root)` makes it over a good one."""
    stream = io.BytesIO(pack_weights(LAYERS))
    with h5py.File(stream, 'r+', **options) as root:
        fill(root)
    return stream.getvalue()


def replace(root, *args, **options):
    del root['encoder']['encoder/bias:0']
    return root['encoder'].create_dataset('encoder/bias:0', *args, **options)


def assert_loads(data, expected=EXPECTED, layers=LAYERS):
    loaded = unpack_weights(data, expected)
    assert [layer for layer, _ in loaded] == [layer for layer, _ in layers]
    for (_, arrays), (_, weights) in zip(loaded, layers):
        assert len(arrays) == len(weights)
        for array, (name, original) in zip(arrays, weights):
            assert array_hash(name, array) == array_hash(name, original)
            assert array.flags.writeable


def test_packed_weights_are_read_with_the_same_bits_types_and_shapes():
    assert_loads(pack_weights(LAYERS))
    types = [(f'{code}:0', np.arange(6).reshape(1, 6).astype(code)) for code in 'f2 f4 f8 i1 i4 i8 u1 u4 u8'.split()]
    odd = [('empty', [('none:0', np.zeros((0, 3), 'f4'))]), ('types', types),
           ('many', [(f'{i}/deep/name:0', np.full(i % 3, i, 'i8')) for i in range(300)])]
    assert_loads(pack_weights(odd), [(layer, [(name, a.shape, a.dtype) for name, a in ws]) for layer, ws in odd], odd)


def test_the_same_weights_give_the_same_bytes_at_another_time():
    first = pack_weights(LAYERS)
    time.sleep(1.1)  # HDF5's time stamps count seconds
    assert pack_weights(LAYERS) == first


def test_only_a_change_of_name_type_shape_or_bytes_changes_the_hash():
    array = np.arange(6, dtype='f4')
    first = array_hash('a', array)  # sha256 of '["a", "<f4", [6]]\n' and the bytes
    assert first == '0901128129159ac44188626331eaa1755afd1a8548406d87f6cdc8cfe658cf01'
    assert first == array_hash('a', np.arange(12, dtype='f4')[::2] / 2)  # another layout in memory
    changed = array.copy()
    changed[5] = np.nextafter(changed[5], np.float32(9))
    others = [array_hash('b', array), array_hash('a', array.astype('f8')), array_hash('a', array.reshape(2, 3)),
              array_hash('a', array.view('i4')), array_hash('a', changed), array_hash('a', -array * 0)]
    assert len({first, *others}) == 7
    assert hash_arrays({'a': array, 'b': changed}) == hash_arrays([('b', changed), ('a', array)])
    assert hash_arrays({'a': array, 'b': changed}) != hash_arrays({'b': array, 'a': changed})
    with pytest.raises(TypeError):
        array_hash('a', np.array([{}]))


def test_weights_with_nan_are_neither_written_nor_read():
    for bad in np.nan, np.inf, -np.inf:
        with pytest.raises(UserError, match='encoder/kernel:0 holds NaN or infinite'):
            pack_weights([('encoder', [('kernel:0', np.array([1, bad], 'f4'))])])
        data = make_file(lambda root: root['encoder/encoder/bias:0'].__setitem__(1, bad))
        with pytest.raises(UserError, match="weights.h5: 'encoder/encoder/bias:0' holds NaN or infinite"):
            unpack_weights(data, EXPECTED)


def test_types_that_could_not_be_read_again_are_not_written():
    for array in np.array([True]), np.array(['a']), np.array([None]), np.arange(3, dtype='>f4'):
        with pytest.raises(TypeError):
            pack_weights([('encoder', [('kernel:0', array)])])


def external_link(root):
    del root['encoder']['encoder/bias:0']
    root['encoder']['encoder/bias:0'] = h5py.ExternalLink('/etc/other.h5', '/bias')


def soft_link(root):
    del root['encoder']['encoder/bias:0']
    root['encoder']['encoder/bias:0'] = h5py.SoftLink('/encoder/encoder/kernel:0')


def twice(root):
    del root['encoder']['encoder/bias:0']
    root['encoder']['encoder/bias:0'] = root['encoder/encoder/kernel:0']


def loop(root):
    root['encoder']['encoder/again'] = root['encoder']


def virtual(root):
    layout = h5py.VirtualLayout((4,), 'f4')
    layout[:] = h5py.VirtualSource('/etc/other.h5', 'bias', (4,))
    del root['encoder']['encoder/bias:0']
    root['encoder'].create_virtual_dataset('encoder/bias:0', layout)


def external_data(root):
    del root['encoder']['encoder/bias:0']
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_external(b'/etc/passwd', 0, 16)
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(root['encoder']['encoder'].id, b'bias:0', h5py.h5t.NATIVE_FLOAT, space, plist)


HOSTILE = {
    'external_link': (external_link, "'encoder/encoder' is neither a group nor an array"),
    'soft_link': (soft_link, "link in place of 'bias:0'"),
    'one_array_twice': (twice, 'found in two places'),
    'group_in_itself': (loop, 'found in two places'),
    'virtual_data': (virtual, 'not stored as one plain block'),
    'data_in_another_file': (external_data, 'has no data of its own'),
    'wrong_shape': (lambda root: replace(root, data=np.ones(5, 'f4')), r'has shape \(5,\), the model needs \(4,\)'),
    'wrong_rank': (lambda root: replace(root, data=np.ones((4, 1), 'f4')), r'has shape \(4, 1\), the model needs'),
    'wrong_type': (lambda root: replace(root, data=np.ones(4, 'f8')), 'has type float64, the model needs float32'),
    'other_byte_order': (lambda root: replace(root, data=np.ones(4, '>f4')), 'does not hold plain numbers'),
    'text': (lambda root: replace(root, data=np.array([b'abcd'] * 4)), 'does not hold plain numbers'),
    'objects': (lambda root: replace(root, (4,), dtype=h5py.special_dtype(vlen=bytes)), 'does not hold plain numbers'),
    'references': (lambda root: replace(root, (4,), dtype=h5py.special_dtype(ref=h5py.Reference)), 'not hold plain'),
    'compressed': (lambda root: replace(root, data=np.ones(4, 'f4'), compression='gzip'), 'not stored as one plain'),
    'in_chunks': (lambda root: replace(root, data=np.ones(4, 'f4'), chunks=(2,)), 'not stored as one plain block'),
    'never_written': (lambda root: replace(root, (4,), dtype='f4'), 'has no data of its own'),
    'group_for_array': (lambda root: [root['encoder'].__delitem__('encoder/bias:0'),
                                      root.create_group('encoder/encoder/bias:0')], "has no 'encoder/encoder/bias"),
    'array_for_group': (lambda root: [root.__delitem__('encoder'), root.__setitem__('encoder', [1.])], "holds 'enc"),
    'weight_missing': (lambda root: root['encoder'].__delitem__('encoder/bias:0'), "has no 'encoder/encoder/bias:0'"),
    'layer_missing': (lambda root: root.__delitem__('attention'), "has no 'attention/attention/scale:0'"),
    'weight_too_many': (lambda root: root['encoder'].create_dataset('more', data=[1.]), "holds 'encoder/more'"),
    'layer_too_many': (lambda root: root.create_dataset('more/kernel:0', data=[1.]), "holds 'more/kernel:0'"),
}


@pytest.mark.parametrize('name', sorted(HOSTILE))
def test_a_file_that_does_not_fit_or_leads_elsewhere_is_refused_in_one_line(name):
    fill, message = HOSTILE[name]
    with pytest.raises(UserError, match=message) as caught:
        unpack_weights(make_file(fill), EXPECTED, 'runs/x/weights.h5')
    assert str(caught.value).startswith('runs/x/weights.h5: ')
    assert len(str(caught.value).splitlines()) == 1


def test_attributes_of_any_kind_are_never_looked_at():
    def fill(root):
        root.attrs['layer_names'] = 3.5
        root['encoder'].attrs['weight_names'] = [b'../../x', b'y']
        root.attrs['model_config'] = b'{"class_name": "Lambda"}'
    assert_loads(make_file(fill))


@pytest.mark.parametrize('rows', [10 ** 9, 2 ** 31, 2 ** 60])
@pytest.mark.parametrize('options', [{}, {'chunks': (2 ** 20, 1)}, {'chunks': (2 ** 20, 1), 'fillvalue': 1}])
def test_endless_rows_are_refused_before_memory_is_taken(rows, options):
    data = make_file(lambda root: replace(root, (rows, 1), dtype='f4', **options))
    expected = [(layer, [(name, (rows, 1) if 'bias' in name else shape, dtype) for name, shape, dtype in weights])
                for layer, weights in EXPECTED]
    tracemalloc.start()
    try:
        for needs in EXPECTED, expected:  # even where the model asks for as many
            with pytest.raises(UserError):
                unpack_weights(data, needs)
        with pytest.raises(UserError):
            WeightsReader(data, 'x').read('encoder/encoder/bias:0')
        assert tracemalloc.get_traced_memory()[1] < 10 ** 6
    finally:
        tracemalloc.stop()


def test_a_shape_that_numpy_cannot_have_is_refused_even_without_data():
    data = make_file(lambda root: replace(root, (0, 2 ** 60), dtype='f8'))
    with pytest.raises(UserError, match='no shape that Keras would write'):
        WeightsReader(data, 'x').read('encoder/encoder/bias:0')


def test_no_more_memory_is_taken_than_the_file_has_bytes():
    data = pack_weights([('a', [('b', np.zeros(5000))]), ('c', [('d', np.ones(5000))])])
    reader = WeightsReader(data, 'x')
    with pytest.raises(UserError, match='no data of its own'):
        for _ in range(3):  # as if three names stood for one block
            reader.read('a/b')


def test_other_kinds_of_files_are_refused():
    stream = io.BytesIO()
    np.save(stream, np.array([{}]), allow_pickle=True)
    newer = io.BytesIO()
    with h5py.File(newer, 'w', libver='latest') as root:
        root.create_dataset('encoder/encoder/bias:0', data=np.ones(4, 'f4'))
    for data in (b'', b'\x89HDF\r\n\x1a\n', stream.getvalue(), pickle.dumps({}), newer.getvalue(),
                 b'!!python/object/apply:os.system ["touch sentinel"]\n' * 9, bytes(1000)):
        with pytest.raises(UserError):
            unpack_weights(data, EXPECTED)


def test_a_file_truncated_anywhere_is_refused():
    data = pack_weights(LAYERS)
    for length in range(0, len(data), 97):
        with pytest.raises(UserError):
            unpack_weights(data[:length], EXPECTED)


def mutate(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(data))
        data[place] = rng.choice((0, 255, rng.randrange(256), data[place] ^ 1 << rng.randrange(8)))
    return bytes(data)


def test_changed_bytes_load_or_raise_user_error(summary):
    data, rng, refused, tried = pack_weights(LAYERS), random.Random(1), 0, 3000
    for _ in range(tried):
        try:
            loaded = unpack_weights(mutate(data, rng), EXPECTED)
            assert [[(a.shape, a.dtype) for a in arrays] for _, arrays in loaded] == [
                [(shape, np.dtype(dtype)) for _, shape, dtype in weights] for _, weights in EXPECTED]
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
    summary(f'mutated weight files: {tried} tried, {refused} refused, {tried - refused} loaded')
    assert 0 < refused < tried


@pytest.fixture(scope='module')
def models():
    """Two Keras models with the same layers and names, each in a graph of its own."""
    keras = pytest.importorskip('keras')
    tensorflow = pytest.importorskip('tensorflow')
    made = []
    for _ in range(2):
        graph = tensorflow.Graph()
        session = tensorflow.Session(graph=graph)
        with graph.as_default(), session.as_default():
            keras.backend.set_session(session)
            source = keras.layers.Input((None,), dtype='int32', name='source')
            x = keras.layers.Embedding(7, 3, name='embedding')(source)
            x = keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True), name='encoder')(x)
            x = keras.layers.GRU(3, name='decoder')(x)
            model = keras.models.Model(source, keras.layers.Dense(2, name='output')(x))
            model.get_weights()  # initialises them
        made.append((graph, session, model))
    yield made
    keras.backend.clear_session()


def use(made):
    import keras
    graph, session, model = made
    keras.backend.set_session(session)
    return graph.as_default(), session.as_default(), model


def test_keras_load_weights_reads_what_pack_weights_wrote_and_the_other_way_round(models, tmp_path):
    import keras
    graph, session, model = use(models[0])
    with graph, session:
        layers = [(layer.name, list(zip([w.name for w in layer.weights], layer.get_weights())))
                  for layer in model.layers]
        model.save_weights(str(tmp_path / 'keras.h5'))
    (tmp_path / 'ours.h5').write_bytes(pack_weights(layers))
    graph, session, model = use(models[1])
    with graph, session:
        model.load_weights(str(tmp_path / 'ours.h5'))
        loaded = [(w.name, array) for layer in model.layers for w, array in zip(layer.weights, layer.get_weights())]
    flat = [(name, array) for _, weights in layers for name, array in weights]
    assert len(flat) == 12
    assert hash_arrays(flat) == hash_arrays(loaded)
    expected = [(layer, [(name, array.shape, array.dtype) for name, array in weights]) for layer, weights in layers]
    assert_loads((tmp_path / 'keras.h5').read_bytes(), expected, layers)
    trees = []
    for name in 'keras.h5', 'ours.h5':
        with h5py.File(str(tmp_path / name), 'r') as root:
            tree = []
            root.visititems(lambda path, item: tree.append((path, repr(item))))
            root.visititems(lambda path, item: tree.append((path, [(k, repr(v)) for k, v in item.attrs.items()])))
            trees.append((tree, [(key, repr(value)) for key, value in root.attrs.items()]))
    assert trees[0] == trees[1]
    assert keras.__version__ == '2.2.4'


def test_a_whole_model_with_a_lambda_is_refused_and_its_code_never_runs(models, tmp_path):
    import keras
    graph, session, _ = use(models[0])
    sentinel = tmp_path / 'sentinel'
    with graph, session:
        source = keras.layers.Input((2,))
        path = str(sentinel)
        model = keras.models.Model(source, keras.layers.Lambda(lambda x, path=path: [open(path, 'w'), x][1])(source))
        model.save(str(tmp_path / 'model.h5'))
    sentinel.unlink()
    with pytest.raises(UserError):
        unpack_weights((tmp_path / 'model.h5').read_bytes(), EXPECTED)
    assert not sentinel.exists()
