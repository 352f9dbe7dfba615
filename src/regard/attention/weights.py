"""The weights behind an output, computed only when looked at, and never more of them at once than asked for."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Of = TypeVar("Of")
Index = int | slice

AT_ONCE = 1 << 20
"""Weights that are computed together when only something about them is asked."""


class Weights:
    """Weights (rows, heads, queries, keys) as a function: ``weights[row, head, query]``, and summaries of all of them.

    Beams of one memory are ``beams`` neighbouring rows; the function has them side by side as queries of one row.
    """

    def __init__(self, of_queries: Callable[[slice], Tensor], folded: tuple[int, int, int, int], beams: int = 1):
        self._of_queries, self._folded, self._beams = of_queries, folded, beams

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, queries, keys = self._folded
        return batch * self._beams, heads, queries // self._beams, keys

    def __getitem__(self, index: Index | tuple[Index, ...]) -> Shaped[Tensor, "..."]:
        """As of the dense tensor, by whole numbers and slices of up to four axes; only these queries are computed."""
        given = index if isinstance(index, tuple) else (index,)
        rows, heads, queries, keys = given + (slice(None),) * (4 - len(given))
        if self._beams > 1:
            return self.dense()[rows, heads, queries, keys]
        if isinstance(queries, slice):
            return self._of_queries(queries)[rows, heads, :, keys]
        queries = range(self.shape[2])[queries]
        return self._of_queries(slice(queries, queries + 1))[rows, heads, 0, keys]

    def dense(self) -> Float[Tensor, "rows heads queries keys"]:
        """All of them, rows x heads x queries x keys numbers."""
        return unfold(self._of_queries(slice(None)), self._beams)

    def argmax(self) -> Int[Tensor, "rows heads queries"]:
        """The key that each query looks at most."""
        return self._summary(lambda weights: weights.argmax(-1))

    def top(self, count: int) -> tuple[Float[Tensor, "rows heads queries top"], Int[Tensor, "rows heads queries top"]]:
        """The greatest weights of each query and their keys."""
        values, keys = zip(*self._each(lambda weights: tuple(weights.topk(count, dim=-1))), strict=True)
        return self._joined(values), self._joined(keys)

    def entropy(self) -> Float[Tensor, "rows heads queries"]:
        """How spread each query's weights are, in nats: 0 on one key, log n on n alike; NaN for weights below 0."""
        return self._summary(lambda weights: -torch.xlogy(weights, weights).sum(-1))

    def alignment(self) -> Int[Tensor, "rows queries"]:
        """The key that each query looks at most on average over the heads."""
        return self._summary(lambda weights: weights.mean(1, keepdim=True).argmax(-1))[:, 0]

    def _summary(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        return self._joined(self._each(function))

    def _each(self, function: Callable[[Tensor], Of]) -> list[Of]:
        batch, heads, queries, keys = self._folded
        step = max(1, AT_ONCE // max(1, batch * heads * keys))
        return [function(self._of_queries(slice(first, first + step))) for first in range(0, max(1, queries), step)]

    def _joined(self, blocks: Sequence[Tensor]) -> Tensor:
        return unfold(torch.cat(tuple(blocks), 2), self._beams)


def fold(tensor: Shaped[Tensor, "rows heads queries *_"], beams: int) -> Shaped[Tensor, "batch heads folded *_"]:
    """(batch * beams, heads, queries, ...) as (batch, heads, beams * queries, ...)."""
    return tensor if beams == 1 else tensor.unflatten(0, (-1, beams)).transpose(1, 2).flatten(2, 3)


def unfold(tensor: Shaped[Tensor, "batch heads folded *_"], beams: int) -> Shaped[Tensor, "rows heads queries *_"]:
    """The opposite of `fold`."""
    if beams == 1:
        return tensor
    return tensor.unflatten(2, (beams, tensor.shape[2] // beams)).transpose(1, 2).flatten(0, 1)
