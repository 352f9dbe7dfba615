"""Where: which keys a query may look at, said about absolute positions and never about row numbers.

So caches, chunks, packed documents and streaming need no special case. A pattern says two things: `keep`, its
specification, and `spans`, intervals of positions that hold every key a query may see, by which long rows become fast.
Patterns combine with ``&``, ``|`` and ``~``.
"""

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_, invert, or_
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from regard.randomness import shuffled
from regard.settings import Settings

BEGIN, END = -(1 << 40), 1 << 40
"""Positions before the first and after the last there can be."""

Span = tuple[Tensor, Tensor]
"""The first and the last position of an interval for each query, (#batch, queries); empty where last < first."""


class Where:
    """A pattern; the members below are the ones there are."""

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Whether in row ``b`` and head ``h`` the query at position ``i`` may look at the key at position ``j``.

        The four broadcast against each other, and the answer is of the shape of those that matter. With scalars this
        is a ``mask_mod`` of PyTorch's FlexAttention.
        """
        raise NotImplementedError

    def spans(self, i: Int[Tensor, "#batch queries"]) -> tuple[Span, ...] | None:
        """Intervals that hold every key that queries at ``i`` may see, and perhaps others; None when all may be."""
        return None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The data it is made of."""
        return ()

    @property
    def rows(self) -> tuple[int, ...]:
        """For how many rows its data is; nothing for patterns of any number of rows."""
        return ()

    @property
    def reach(self) -> int | None:
        """How far behind itself a query looks at most; None: there is no limit."""
        return None

    def __and__(self, other: "Where") -> "Where":
        return self if isinstance(other, Full) else other if isinstance(self, Full) else All((self, other))

    def __or__(self, other: "Where") -> "Where":
        return Some((self, other))

    def __invert__(self) -> "Where":
        return Not(self)


class _Plain(Settings, Where):
    """A pattern of plain numbers, which is its own settings."""

    def build(self) -> Where:
        return self


class Full(_Plain):
    """Every key."""

    kind: Literal["full"] = "full"

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.bool, device=j.device)


class Causal(_Plain):
    """Keys at or before the query."""

    kind: Literal["causal"] = "causal"

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return j <= i

    def spans(self, i: Tensor) -> tuple[Span, ...]:
        return ((torch.full_like(i, BEGIN), i),)


class Window(_Plain):
    """Keys from ``back`` before the query to ``ahead`` after it (Beltagy et al. 2020, arXiv 2004.05150)."""

    kind: Literal["window"] = "window"
    back: int = Field(default=128, ge=0)
    ahead: int = Field(default=0, ge=0)

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j >= i - self.back) & (j <= i + self.ahead)

    def spans(self, i: Tensor) -> tuple[Span, ...]:
        return ((i - self.back, i + self.ahead),)

    @property
    def reach(self) -> int:
        return self.back


class Prefix(_Plain):
    """A prefix of ``length`` positions that all may see, and what is at or before the query (UniLM, Raffel et al.)."""

    kind: Literal["prefix"] = "prefix"
    length: int = Field(ge=0)

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j < self.length) | (j <= i)

    def spans(self, i: Tensor) -> tuple[Span, ...]:
        return ((torch.full_like(i, BEGIN), i.clamp(min=self.length - 1)),)


class Dilated(_Plain):
    """A window with gaps: keys at most ``steps`` steps of ``gap`` positions away (Beltagy et al. 2020, 2004.05150)."""

    kind: Literal["dilated"] = "dilated"
    gap: int = Field(default=2, ge=1)
    steps: int = Field(default=64, ge=0)

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        distance = (i - j).abs()
        return (distance % self.gap == 0) & (distance <= self.reach)

    def spans(self, i: Tensor) -> tuple[Span, ...]:
        return ((i - self.reach, i + self.reach),)

    @property
    def reach(self) -> int:
        return self.steps * self.gap


class Strided(_Plain):
    """Every ``stride``-th position, the query's own among them (Child et al. 2019, arXiv 1904.10509)."""

    kind: Literal["strided"] = "strided"
    stride: int = Field(default=64, ge=1)

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i - j) % self.stride == 0


class Blocked(_Plain):
    """Keys of the query's own block of ``size`` positions (the local pattern of Child et al. 2019, 1904.10509)."""

    kind: Literal["blocked"] = "blocked"
    size: int = Field(default=128, ge=1)

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return i // self.size == j // self.size

    def spans(self, i: Tensor) -> tuple[Span, ...]:
        first = i // self.size * self.size
        return ((first, first + self.size - 1),)

    @property
    def reach(self) -> int:
        return self.size - 1


class Global(_Plain):
    """The first ``count`` positions see all and are seen by all; alone or ``|`` a window (Beltagy et al. 2020)."""

    kind: Literal["global"] = "global"
    count: int = Field(default=1, ge=0)

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j < self.count) | (i < self.count)

    def spans(self, i: Tensor) -> tuple[Span, ...]:
        last = torch.where(i < self.count, END, self.count - 1)
        return ((torch.full_like(i, BEGIN), last),)


class Random(_Plain):
    """Each block of queries sees ``count`` random blocks of keys, drawn once for all (Zaheer et al. 2020, 2007.14062).

    Blocks have ``size`` positions and are drawn among those of the first ``length`` positions.
    """

    kind: Literal["random"] = "random"
    count: int = Field(default=3, ge=1)
    size: int = Field(default=64, ge=1)
    length: int = Field(default=4096, ge=1)
    seed: int = 1

    @cached_property
    def chosen(self) -> tuple[tuple[int, ...], ...]:
        """The key blocks that each block of queries sees; plain numbers, by which settings can be compared."""
        blocks = -(-self.length // self.size)
        some = np.arange(min(self.count, blocks))
        draws = (shuffled(some, blocks, self.seed, "random attention", block) for block in range(blocks))
        return tuple(tuple(draw.tolist()) for draw in draws)

    def _blocks(self, i: Tensor) -> Tensor:
        """The key blocks that queries at ``i`` see, (*i, count)."""
        chosen = torch.tensor(self.chosen, device=i.device)
        return chosen[(i // self.size).clamp(0, len(chosen) - 1)]

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (self._blocks(i) == (j // self.size)[..., None]).any(-1)

    def spans(self, i: Tensor) -> tuple[Span, ...]:
        return tuple((first, first + self.size - 1) for first in (self._blocks(i) * self.size).unbind(-1))


@dataclass(frozen=True)
class _Several(Where):
    of: tuple[Where, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(tensor for where in self.of for tensor in where.tensors)

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(rows for where in self.of for rows in where.rows)


class All(_Several):
    """Keys that every one of some patterns allows."""

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return reduce(and_, (where.keep(b, h, i, j) for where in self.of))

    def spans(self, i: Tensor) -> tuple[Span, ...] | None:
        known = [spans for where in self.of if (spans := where.spans(i)) is not None]
        return reduce(_intersections, known) if known else None

    @property
    def reach(self) -> int | None:
        return min((where.reach for where in self.of if where.reach is not None), default=None)


class Some(_Several):
    """Keys that at least one of some patterns allows."""

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return reduce(or_, (where.keep(b, h, i, j) for where in self.of))

    def spans(self, i: Tensor) -> tuple[Span, ...] | None:
        found = [where.spans(i) for where in self.of]
        return None if None in found else tuple(span for spans in found if spans is not None for span in spans)

    @property
    def reach(self) -> int | None:
        known = [where.reach for where in self.of if where.reach is not None]
        return max(known) if len(known) == len(self.of) else None


@dataclass(frozen=True)
class Not(Where):
    """Keys that a pattern does not allow."""

    of: Where

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.of.tensors

    @property
    def rows(self) -> tuple[int, ...]:
        return self.of.rows

    def keep(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return invert(self.of.keep(b, h, i, j))


def _intersections(ones: tuple[Span, ...], others: tuple[Span, ...]) -> tuple[Span, ...]:
    return tuple((torch.maximum(one[0], other[0]), torch.minimum(one[1], other[1])) for one in ones for other in others)
