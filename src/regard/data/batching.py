"""Batches by token budget: rows of like length together, in an order that is a function of seed and epoch."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from pydantic import Field

from regard.randomness import shuffled
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


@runtime_checkable
class Lengths(Protocol):
    """How long each side of each row is; an array of them, or something that finds them out for the rows asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Rows, /) -> Int[ndarray, "_ sides"]: ...


def epoch_batches(lengths: Lengths, settings: Batching, seed: int, epoch: int) -> Iterator[Rows]:
    """The row numbers of every batch of an epoch; every row is in exactly one.

    Rows are shuffled over the whole data, then each pool is sorted by length, cut where the budget is full, and its
    batches are shuffled. The same arguments give the same batches, on every machine; no more than a pool is held.
    """
    for start in range(0, len(lengths), settings.pool):
        places = np.arange(start, min(start + settings.pool, len(lengths)))
        rows = shuffled(places, len(lengths), seed, "rows", epoch)
        batches = _cut(rows, lengths[rows], settings.tokens)
        for place in shuffled(np.arange(len(batches)), len(batches), seed, "batches", epoch, start):
            yield batches[place]


def first_pool(lengths: Lengths, settings: Batching, seed: int) -> tuple[list[Rows], float]:
    """The batches that training begins with, and how many such parts an epoch has."""
    rows = min(settings.pool, len(lengths))
    return _first(epoch_batches(lengths, settings, seed, 0), rows), len(lengths) / max(rows, 1)


def _first(batches: Iterator[Rows], rows: int) -> list[Rows]:
    taken: list[Rows] = []
    while rows > 0:
        taken.append(next(batches))
        rows -= len(taken[-1])
    return taken


def sorted_batches(lengths: Int[ndarray, "rows sides"], budget: int) -> list[Rows]:
    """Batches for prediction, longest rows first; nothing is random."""
    return _cut(np.arange(len(lengths)), lengths, budget)[::-1]


def padding(lengths: Lengths, batches: Sequence[Rows]) -> Padding:
    """Over the rows of these batches."""
    sides = [lengths[batch] for batch in batches]
    return Padding(sum(int(one.sum()) for one in sides), sum(int(one.max(axis=0).sum()) * len(one) for one in sides))


def _cut(rows: Int[ndarray, "rows"], lengths: Int[ndarray, "rows sides"], budget: int) -> list[Rows]:
    """Rows sorted by length, then cut so that rows x longest side stays within the budget; a longer row stands alone.

    Sorted by the last side, then the one before it; equal rows stay in their (shuffled) order.
    """
    order = np.lexsort(lengths.T)
    rows, longest = rows[order], lengths[order].max(axis=1)
    batches, start, widest = [], 0, 0
    for end, length in enumerate(longest.tolist()):
        widest = max(widest, length)
        if end > start and widest * (end - start + 1) > budget:
            batches.append(rows[start:end])
            start, widest = end, length
    return [*batches, rows[start:]] if len(rows) else []
