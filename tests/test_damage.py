"""Every array of a set with each type, shape and damage: `compare` names it or refuses the file in one line."""
import numpy as np
import pytest

from reference import compare
from test_commands import ROOT

FILES = ['dot-gru.float64'] + [pytest.param(name, marks=pytest.mark.slow) for name in (
    'copy-lstm.float32', 'train-adam.float32')]
TYPES = ['f2', 'f4', 'f8', 'i1', 'i4', 'i8', 'u1', 'u8', '?', 'U3']
REFUSED = ['O', 'c8', 'c16', 'g', 'S3', 'M8[s]', 'm8[s]', 'V4', 'i4,f4']


def is_same_kind(one, other):
    """Whether `compare` may take one type for the other: integers of any width are compared by value."""
    return one == other or one.kind == other.kind != 'f'


def changed_shapes(array):
    """Yields (description, array) of the same numbers in other shapes."""
    yield 'one axis more', array[None]
    yield 'no axis', array.ravel()[:1].reshape(())
    yield 'flat and one longer', np.append(array.ravel(), array.ravel()[:1])
    yield 'no element', array.ravel()[:0]
    if array.ndim > 1:
        yield 'reversed axes', array.reshape(array.shape[::-1] if array.shape != array.shape[::-1] else (-1,))
        yield 'one row less', array[:-1]


def damages(array):
    """Yields (description, array) of the same shape with other numbers."""
    if not array.size:
        return
    at = np.unravel_index(array.size - 1, array.shape)
    if array.dtype.kind == 'f':
        for value in (np.nan, np.inf, array[at] + 1 if abs(array[at]) < 1e6 else 0.):
            made = array.copy()
            made[at] = value
            if array[at] != made[at]:  # a margin without a runner-up is infinite already
                yield repr(value), made
    elif array.dtype.kind in 'iu':
        made = array.copy()
        made[at] += 1
        yield 'another number', made
    elif array.dtype.kind == 'U':
        made = array.copy()
        made[at] = '' if made[at] else 'x'
        yield 'another text', made


@pytest.mark.parametrize('name', FILES)
def test_every_array_with_another_type_shape_or_number_is_named(name, summary):
    path = str(ROOT / 'reference' / (name + '.npz'))
    recorded, tried, differing = compare.read_arrays(path), 0, 0
    order, entry = compare.Order(), compare.read_manifest(str(ROOT / 'reference'))['files'][name + '.npz']
    for array_name, array in recorded.items():
        with np.errstate(all='ignore'):  # a large number has no half precision
            cases = [(kind, array.astype(kind), is_same_kind(array.dtype, np.dtype(kind))) for kind in TYPES
                     if array.dtype.kind != 'U' or kind == 'U3']
        cases += [(text, made, False) for text, made in changed_shapes(array) if made.shape != array.shape]
        cases += [(text, made, False) for text, made in damages(array)]
        for text, made, may_be_equal in cases:
            results, _ = compare.compare_files(name, {array_name: array}, {array_name: made}, None, None, entry, order)
            tried += 1
            wrong = compare.first_difference(results)
            assert wrong or may_be_equal, (array_name, array.shape, array.dtype, text)
            if wrong:
                differing += 1
                assert wrong.name == array_name and '\n' not in compare.place(wrong)
    summary('%s: %d arrays, %d changes tried, %d differ by name, the others are equal numbers of another width' % (
        name, len(recorded), tried, differing))


@pytest.mark.parametrize('name', FILES)
def test_every_array_of_a_type_that_has_no_place_in_a_set_is_refused(tmp_path, name, summary):
    recorded, tried = compare.read_arrays(str(ROOT / 'reference' / (name + '.npz'))), 0
    for array_name, array in recorded.items():
        for kind in REFUSED:
            np.savez(str(tmp_path / 'x.npz'), **{array_name: np.zeros(array.shape, kind)})
            with pytest.raises(compare.SetError) as error:
                compare.open_set(str(tmp_path / 'x.npz'))
            assert '\n' not in str(error.value)
            tried += 1
    summary('%s: %d arrays of types without a place in a set, all refused' % (name, tried))
