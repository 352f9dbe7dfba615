"""Softmax with dropout on its weights, for one block that fits in a core's cache, forward and backward by hand.

The fused kernels take no dropout on a CPU. Here the random bits are a function of where a block's draws begin, so that
nothing is kept for the backward.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from regard.attention.request import product
from regard.randomness import GOLDEN, kept


class Dropped(NamedTuple):
    """Which share of the weights is dropped, and where the random bits of the first block begin."""

    share: float
    start: int

    @classmethod
    def draw(cls, share: float) -> "Dropped | None":
        """Where to begin is drawn by torch's generator."""
        return cls(share, int(torch.empty((), dtype=torch.int64).random_(-(2**63), None))) if share else None

    def forward(
        self, number: int, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        """Output and lse of block ``number``."""
        scores, weights = _weights(queries, keys, mask, scale)
        lse = scores.amax(-1) - weights.amax(-1).log()  # of any key z - log w is the lse; of the best it is exact
        lse = lse if mask is None else lse.masked_fill(_empty(mask), -math.inf)
        return product(weights.mul_(self.kept(number, weights)), values), lse

    def backward(
        self,
        number: int,
        grads: tuple[Tensor, Tensor | None],
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        out: Tensor,
        mask: Tensor | None,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the queries, keys and values from those of output and lse."""
        grad, grad_lse = grads
        _, weights = _weights(queries, keys, mask, scale)
        kept = self.kept(number, weights)
        grad_values = summed(weights * kept, grad, keys.shape[1])
        common = (grad * out).sum(-1, keepdim=True)
        if grad_lse is not None:
            common = common - grad_lse[..., None].to(common.dtype)
        grad_scores = product(grad, values.mT).mul_(kept).sub_(common).mul_(weights).mul_(scale)
        return product(grad_scores, keys), summed(grad_scores, queries, keys.shape[1]), grad_values

    def kept(self, number: int, weights: Tensor) -> Tensor:
        begin = (self.start + number * GOLDEN * 2**40) & (2**64 - 1)  # no two blocks of a call share a draw
        return kept(weights, self.share, begin - 2**64 if begin >= 2**63 else begin)


def _weights(queries: Tensor, keys: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Scores and softmax weights; all zeros for a query without keys."""
    scores = product(queries * scale, keys.mT)
    if mask is None:
        return scores, torch.softmax(scores, -1)
    scores = scores.add_(mask)
    return scores, torch.softmax(scores, -1).masked_fill_(_empty(mask)[..., None], 0.0)


def _empty(mask: Tensor) -> Tensor:
    """Which queries see no key."""
    return mask.amax(-1) == -math.inf


def summed(left: Tensor, right: Tensor, kv_heads: int) -> Tensor:
    """leftᵀ . right, summed over the query heads that share a head of keys."""
    folded = (part.unflatten(1, (kv_heads, -1)).flatten(2, 3) for part in (left, right))
    left, right = folded
    return left.mT @ right
