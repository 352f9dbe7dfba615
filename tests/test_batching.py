"""Batches: every row once, within the budget, in an order that seed and epoch decide."""

import numpy as np
import pytest

from regard.data.batching import Batching, epoch_batches, padding, sorted_batches

LENGTHS = np.random.Generator(np.random.PCG64(1)).integers(1, 40, size=(500, 2))


def rows_of(batches: list[np.ndarray]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


@pytest.mark.parametrize("pool", [1, 7, 100, 100_000])
@pytest.mark.parametrize("tokens", [1, 40, 128, 10**6])
def test_every_row_once_and_within_the_budget(tokens, pool):
    batches = epoch_batches(LENGTHS, Batching(tokens=tokens, pool=pool), seed=1, epoch=0)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(500))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * LENGTHS[batch].max() <= tokens


def test_no_batch_could_take_the_next_row():
    lengths = np.full((10, 2), 4)
    sizes = sorted(map(len, epoch_batches(lengths, Batching(tokens=15), seed=1, epoch=0)))
    assert sizes == [1, 3, 3, 3]


def test_the_order_is_a_function_of_seed_and_epoch():
    lengths = np.array([[3, 2], [2, 3], [3, 3], [2, 3], [9, 1], [3, 2], [1, 1], [2, 3]])

    def order(seed: int, epoch: int) -> list[list[int]]:
        return rows_of(epoch_batches(lengths, Batching(tokens=8), seed, epoch))

    assert order(1, 0) == [[5, 0], [1, 3], [6], [4], [7, 2]]
    assert order(1, 1) == [[1, 3], [0, 5], [4], [6], [7, 2]]
    assert order(2, 0) == [[7, 2], [4], [5, 0], [6], [3, 1]]


def test_equal_rows_are_batched_anew_in_every_epoch():
    lengths = np.full((100, 2), 4)
    epochs = [rows_of(epoch_batches(lengths, Batching(tokens=8), 1, epoch)) for epoch in range(2)]
    together = [{frozenset(batch) for batch in batches} for batches in epochs]
    assert len(together[0] & together[1]) < 10


def test_padding_is_counted_right():
    batches = list(epoch_batches(LENGTHS, Batching(tokens=200, pool=50), seed=1, epoch=0))
    total = 0
    for batch in batches:
        for side in (0, 1):
            longest = max(LENGTHS[row, side] for row in batch)
            total += sum(longest for _ in batch)
    found = padding(LENGTHS, batches)
    assert (found.real, found.total) == (LENGTHS.sum(), total)
    assert found.share == pytest.approx(1 - LENGTHS.sum() / total)
    assert 0.01 < found.share < 0.5
    assert padding(LENGTHS, [np.array([row]) for row in range(500)]).share == 0
    assert padding(LENGTHS[:0], []).share == 0


def test_sorting_saves_padding():
    wide, narrow = (
        padding(LENGTHS, list(epoch_batches(LENGTHS, Batching(tokens=400, pool=pool), seed=1, epoch=0))).share
        for pool in (500, 5)
    )
    assert wide < narrow


def test_sorted_batches():
    lengths = np.array([[3], [1], [5], [5], [2], [9]])
    assert rows_of(sorted_batches(lengths, 10)) == [[5], [2, 3], [1, 4, 0]]


def test_no_rows_make_no_batches():
    assert not list(epoch_batches(LENGTHS[:0], Batching(), seed=1, epoch=0))
    assert sorted_batches(LENGTHS[:0], 10) == []
