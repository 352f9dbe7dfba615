"""Scores: how well a query and a key fit, as plain tensor code that is its own specification."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class Score(Protocol):
    """A similarity of every query with every key."""

    def __call__(
        self, queries: Float[Tensor, "batch heads queries width"], keys: Float[Tensor, "batch heads keys width"], /
    ) -> Float[Tensor, "batch heads queries keys"]: ...


class ScaledDot:
    """q . k / sqrt(width) (Vaswani et al. 2017, arXiv 1706.03762)."""

    def __call__(self, queries: Tensor, keys: Tensor) -> Tensor:
        return (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)


class Additive(nn.Module):
    """v . tanh(q + k) (Bahdanau et al. 2015, arXiv 1409.0473), on queries ``W s`` and keys ``U h`` projected before."""

    def __init__(self, width: int):
        super().__init__()
        self.direction = nn.Parameter(torch.empty(width).uniform_(-1, 1).mul_(width**-0.5))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        return torch.tanh(queries[..., :, None, :] + keys[..., None, :, :]) @ self.direction
