"""Patterns made of data: the lengths of rows, the documents packed in them, a graph, or any table."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from regard.attention.where import BEGIN, END, Span, Where


@dataclass(frozen=True, eq=False)
class Lengths(Where):
    """Keys that are real: positions below ``lengths[b]`` in row b (key padding)."""

    lengths: Int[Tensor, "batch"]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.lengths,)

    @property
    def rows(self) -> tuple[int, ...]:
        return (len(self.lengths),)

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return j < self.lengths[b]

    def spans(self, i: Tensor) -> tuple[Span, ...]:
        shape = len(self.lengths), i.shape[1]
        return ((torch.full(shape, BEGIN, device=i.device), (self.lengths.long()[:, None] - 1).expand(shape)),)


@dataclass(frozen=True, eq=False)
class Documents(Where):
    """Keys of the query's own document, for several documents packed in a row: ``ids[b, p]`` names that of position p.

    A position with a negative id is padding: it sees nothing and nothing sees it.
    """

    ids: Int[Tensor, "batch positions"]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.ids,)

    @property
    def rows(self) -> tuple[int, ...]:
        return (len(self.ids),)

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        ids = self.ids[b, i.clamp(min=0)]
        return (ids == self.ids[b, j]) & (ids >= 0) & (i >= 0)

    def spans(self, i: Tensor) -> tuple[Span, ...]:
        rows = torch.arange(len(self.ids), device=i.device)[:, None]
        first, last = self._ends()
        return ((first[rows, i.clamp(min=0)], last[rows, i.clamp(min=0)]),)

    def _ends(self) -> Span:
        """For each position, the first and the last position of its document."""
        batch, positions = self.ids.shape
        names, ids = self.ids.unique(return_inverse=True)
        places = torch.arange(positions, device=ids.device).expand(batch, positions)
        first = torch.full((batch, len(names)), END, device=ids.device).scatter_reduce(1, ids, places, "amin")
        last = torch.full((batch, len(names)), BEGIN, device=ids.device).scatter_reduce(1, ids, places, "amax")
        return first.gather(1, ids), last.gather(1, ids)


@dataclass(frozen=True, eq=False)
class Table(Where):
    """Any pattern at all: ``mask[b, h, i, j]``, or with an axis of size 1 where all rows or heads are the same."""

    mask: Bool[Tensor, "#batch #heads queries keys"]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.mask,)

    @property
    def rows(self) -> tuple[int, ...]:
        return (len(self.mask),) if len(self.mask) > 1 else ()

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        rows, heads = self.mask.shape[:2]
        if i.ndim == 4 and len(i) == len(j) == 1:  # whole rows of one tensor: ten times as fast as one by one
            mask = self.mask if rows == 1 else self.mask.index_select(0, b.flatten())
            mask = mask if heads == 1 else mask.index_select(1, h.flatten())
            return mask.index_select(2, i.clamp(min=0).flatten()).index_select(3, j.flatten()) & (i >= 0)
        b, h = b if rows > 1 else torch.zeros_like(b), h if heads > 1 else torch.zeros_like(h)
        return self.mask[b, h, i.clamp(min=0), j] & (i >= 0)


@dataclass(frozen=True, eq=False)
class Graph(Where):
    """Nodes that look along the edges of a graph, ``edges[0]`` at ``edges[1]`` (Velickovic et al. 2018, 1710.10903)."""

    edges: Int[Tensor, "2 edges"]
    nodes: int

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.edges,)

    @cached_property
    def table(self) -> Table:
        mask = torch.zeros(1, 1, self.nodes, self.nodes, dtype=torch.bool, device=self.edges.device)
        mask[0, 0, self.edges[0], self.edges[1]] = True
        return Table(mask)

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return self.table.keep(b, h, i, j)
