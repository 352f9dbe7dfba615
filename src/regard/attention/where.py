"""Where: which keys a query may look at, defined on absolute positions and never on row numbers.

So caches, chunks and ragged rows need no special case. Patterns combine with ``&``.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor


class Where:
    """A pattern: `keep` says for every query and key whether the one may look at the other."""

    def keep(
        self, at: Int[Tensor, "#rows queries"], keys_at: Int[Tensor, "keys"]
    ) -> Bool[Tensor, "#rows #queries keys"] | None:
        """True where a key may be seen; None where all may."""
        raise NotImplementedError

    def __and__(self, other: "Where") -> "Where":
        return Both(self, other)


@dataclass(frozen=True)
class Full(Where):
    """Every key."""

    def keep(self, at: Tensor, keys_at: Tensor) -> None:
        return None


@dataclass(frozen=True)
class Causal(Where):
    """Keys at or before the query."""

    def keep(self, at: Tensor, keys_at: Tensor) -> Tensor:
        return keys_at <= at[..., None]


@dataclass(frozen=True, eq=False)
class Lengths(Where):
    """Keys that are real: the first ``lengths[r]`` of row r."""

    lengths: Tensor

    def keep(self, at: Tensor, keys_at: Tensor) -> Tensor:
        return keys_at < self.lengths[:, None, None]


@dataclass(frozen=True)
class Both(Where):
    """Keys that two patterns allow."""

    one: Where
    other: Where

    def keep(self, at: Tensor, keys_at: Tensor) -> Tensor | None:
        one, other = self.one.keep(at, keys_at), self.other.keep(at, keys_at)
        return one & other if one is not None and other is not None else one if other is None else other
