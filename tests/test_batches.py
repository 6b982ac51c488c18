"""Batches: each pair once, the same order every time, padding and special tokens in their places."""
import pytest
from hypothesis import given, strategies as st

from text import batches
from text.batches import make_batch, pad

import numpy as np


def plan_batches(*arguments, **options):
    return [batch.tolist() for batch in batches.plan_batches(*arguments, **options)]


lengths = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=300)


@given(lengths=lengths, batch_size=st.integers(1, 20), seed=st.integers(-5, 2 ** 70), epoch=st.integers(0, 10 ** 6),
       shuffle=st.booleans())
def test_every_pair_is_in_exactly_one_batch(lengths, batch_size, seed, epoch, shuffle):
    source, target = [s for s, _ in lengths], [t for _, t in lengths]
    plan = plan_batches(source, target, batch_size, seed, epoch, shuffle)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    assert len(plan) == -(-len(lengths) // batch_size)
    assert sum(len(batch) < batch_size for batch in plan) <= 1 and all(len(batch) <= batch_size for batch in plan)
    assert plan == plan_batches(source, target, batch_size, seed, epoch, shuffle)
    assert all(type(i) is int for batch in plan for i in batch)


def some_lengths(n):
    random = np.random.RandomState(0)
    source = random.randint(1, 40, n)
    return source, np.maximum(1, source + random.randint(-5, 6, n))


def test_plan_changes_with_seed_and_epoch_and_mixes_neighbours():
    source, target = some_lengths(2000)
    plans = [plan_batches(source, target, 8, seed, epoch) for seed, epoch in
             [(1, 0), (1, 1), (2, 0), (2 ** 32 + 1, 0), (0, 1)]]
    members = [set(map(frozenset, plan)) for plan in plans]
    for i in range(len(plans)):
        for j in range(i):
            assert len(members[i] & members[j]) < 5  # other batches, not the same ones in another order


def test_plan_does_not_change_between_versions():
    plan = plan_batches([3, 1, 2, 3, 1, 2, 9], [1, 2, 3, 1, 1, 3, 9], 2, seed=5, epoch=2)
    assert plan == [[6], [3, 0], [4, 1], [5, 2]]
    assert plan_batches([1] * 6, [1] * 6, 2, seed=2 ** 40 + 5, epoch=0) == [[0, 2], [3, 4], [5, 1]]


def test_batches_are_of_similar_length_in_shuffled_order():
    source, target = some_lengths(20000)
    plan = plan_batches(source, target, 32, 1, 0)
    for lengths, most in ((source, 0.03), (target, 0.16)):  # in random order 0.9
        padded = sum(lengths[batch].max() * len(batch) for batch in plan)
        assert padded < (1 + most) * lengths.sum()
    firsts = np.array([source[batch[0]] for batch in plan])
    assert abs(np.corrcoef(firsts[1:], firsts[:-1])[0, 1]) < 0.15


def test_plan_without_shuffling_is_sorted_and_stable():
    assert plan_batches([3, 1, 2, 1, 2], [1, 5, 2, 4, 2], 2, 1, 0, shuffle=False) == [[3, 1], [2, 4], [0]]
    source, target = some_lengths(5000)
    order = sum(plan_batches(source, target, 7, 1, 0, shuffle=False), [])
    assert order == sorted(range(5000), key=lambda i: (source[i], target[i], i))


def test_plan_of_unequal_lists_or_empty_batches_is_a_value_error():
    with pytest.raises(ValueError, match='2 sources, 1 targets'):
        plan_batches([1, 2], [1], 2, 1, 0)
    with pytest.raises(ValueError, match='batch size 0'):
        plan_batches([1], [1], 0, 1, 0)


def test_plan_is_a_sequence_with_the_shapes_of_its_batches():
    source, target = some_lengths(1003)
    plan = batches.plan_batches(source, target, 10, 1, 0)
    assert len(plan) == 101 and [batch.tolist() for batch in plan[2:4]] == [plan[2].tolist(), plan[3].tolist()]
    assert plan[-1].tolist() == list(plan)[100].tolist()
    pairs, longest_source, longest_target = plan.shapes(np.array([source, target]))
    assert [len(batch) for batch in plan] == pairs.tolist() and sorted(pairs)[0] == 3
    assert [source[batch].max() for batch in plan] == longest_source.tolist()
    assert [target[batch].max() for batch in plan] == longest_target.tolist()


def test_padding_is_at_the_end():
    batch = pad([[5, 6], [], [7]])
    assert batch.dtype == np.int32 and batch.tolist() == [[5, 6], [0, 0], [7, 0]]
    assert pad([]).shape == (0, 0) and pad([[], []]).shape == (2, 0)


def test_decoder_input_begins_with_start_and_output_ends_with_end():
    source, decoder_input, decoder_output = make_batch([[4], [5, 6, 7], [8, 9]], [[14, 15], [16], [17]], [2, 0])
    assert source.tolist() == [[8, 9], [4, 0]]
    assert decoder_input.tolist() == [[2, 17, 0], [2, 14, 15]]
    assert decoder_output.tolist() == [[17, 3, 0], [14, 15, 3]]
    assert {source.dtype, decoder_input.dtype, decoder_output.dtype} == {np.dtype('int32')}
