"""What search and what it searches agree on."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard.padded import Padded
from regard.trees import Nest

NEVER = float("-inf")
"""The log-probability of what cannot be."""


@runtime_checkable
class Decodable(Protocol):
    """What search needs of a model, an ensemble, or anything else."""

    def start(self, memory: Nest, rows: int, room: int = 0) -> Nest: ...

    def advance(self, tokens: Padded, memory: Nest, state: Nest) -> tuple[Any, Nest]: ...

    def log_probs(self, decoded: Any, memory: Nest) -> Float[Tensor, "rows time vocabulary"]: ...


class Hypothesis(NamedTuple):
    """Token ids without the end token, and the sum of their log-probabilities, normalised by length."""

    tokens: list[int]
    score: float


class Tokens(NamedTuple):
    """The ids that begin and end every answer."""

    start: int
    end: int


def advance_by_one(
    model: Decodable, tokens: Int[Tensor, "rows"], memory: Nest, state: Nest
) -> tuple[Float[Tensor, "rows vocabulary"], Nest]:
    """Log-probabilities of what follows one more token in every row."""
    decoded, state = model.advance(Padded(tokens[:, None], torch.ones_like(tokens)), memory, state)
    return model.log_probs(decoded, memory)[:, -1], state


def length_penalty(length: Tensor | int, alpha: float) -> Any:
    """((5 + length) / 6) ** alpha, which divides sums of log-probabilities (Wu et al. 2016, 1609.08144, eq. 14)."""
    return ((5 + length) / 6) ** alpha
