"""Batches by token budget: rows of like length together, in an order that is a function of seed and epoch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from pydantic import Field

from regard.randomness import seed_for
from regard.settings import Settings

Rows = Int[ndarray, "_"]
"""The numbers of some rows, as many as fit."""


class Batching(Settings):
    """How rows are grouped: at most ``tokens`` steps in the longer side of a batch, padding included."""

    tokens: int = Field(default=2048, ge=1)
    pool: int = Field(default=100_000, ge=1, description="rows that are shuffled, sorted and cut into batches together")


class Padding(NamedTuple):
    """How many steps of an epoch are real, and how many there are."""

    real: int
    total: int

    @property
    def share(self) -> float:
        return (self.total - self.real) / max(self.total, 1)


def epoch_batches(lengths: Int[ndarray, "rows sides"], settings: Batching, seed: int, epoch: int) -> list[Rows]:
    """The row numbers of every batch of an epoch; every row is in exactly one.

    Rows are shuffled, then each pool is sorted by length and cut where the budget is full, then the batches are
    shuffled. The same arguments give the same batches, on every machine.
    """
    random = np.random.Generator(np.random.PCG64(seed_for(seed, "order", epoch)))
    order = random.permutation(len(lengths))
    batches = [
        batch
        for start in range(0, len(order), settings.pool)
        for batch in _cut(_by_length(order[start : start + settings.pool], lengths), lengths, settings.tokens)
    ]
    return [batches[index] for index in random.permutation(len(batches))]


def sorted_batches(lengths: Int[ndarray, "rows sides"], budget: int) -> list[Rows]:
    """Batches for prediction, longest rows first; nothing is random."""
    return _cut(_by_length(np.arange(len(lengths)), lengths), lengths, budget)[::-1]


def padding(lengths: Int[ndarray, "rows sides"], batches: Sequence[Rows]) -> Padding:
    total = sum(int(lengths[batch].max(axis=0).sum()) * len(batch) for batch in batches)
    return Padding(int(lengths.sum()), total)


def _by_length(rows: ndarray, lengths: ndarray) -> ndarray:
    """Sorted by the last side's length, then the one before it; equal rows stay in their (shuffled) order."""
    return rows[np.lexsort(lengths[rows].T)]


def _cut(rows: ndarray, lengths: ndarray, budget: int) -> list[ndarray]:
    """Cut sorted rows so that rows x longest side stays within the budget; a row longer than it stands alone."""
    longest = lengths[rows].max(axis=1)
    batches, start, widest = [], 0, 0
    for end, length in enumerate(longest.tolist()):
        widest = max(widest, length)
        if end > start and widest * (end - start + 1) > budget:
            batches.append(rows[start:end])
            start, widest = end, length
    return [*batches, rows[start:]] if len(rows) else []
