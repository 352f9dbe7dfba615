"""Norms that move over the keys from left to right, from where the query before stopped, and never back."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention.norms import Keep, StatefulNorm, mask


class Monotonic(nn.Module, StatefulNorm):
    """Where a reader is expected to stop who begins at the last stop and stops at key j with p_j = sigmoid(z_j + r).

    Raffel et al. 2017, arXiv 1704.00784, equations 13 and 14: w_j = p_j q_j for q_j = (1 - p_(j-1)) q_(j-1) + v_j,
    where v are the weights of the query before. They sum to at most 1: who passes the last key sees nothing more.

    While training, Gaussian noise of deviation ``noise`` is added before the sigmoid, so that p learns to be 0 or 1.
    ``hard``: in evaluation p is rounded, and this is the paper's algorithm 1: stop at the first key where p > 0.5.
    ``offset``: where the learned r of each head begins; negative, for readers should go far at first.
    State: the weights, (batch, heads, queries, keys), at first all on the first key. Keys that may not be seen are
    passed over as if absent.
    """

    def __init__(self, heads: int = 1, hard: bool = False, noise: float = 1.0, offset: float = -1.0):
        super().__init__()
        self.hard, self.noise = hard, noise
        self.offset = nn.Parameter(torch.full((heads, 1, 1), offset))

    def begin(self, scores: Tensor) -> Tensor:
        first = torch.zeros_like(scores)
        first[..., 0] = 1
        return first

    def step(self, scores: Tensor, keep: Keep, state: Tensor) -> tuple[Tensor, Tensor]:
        stops = self._stops(mask(scores, keep) + self.offset)
        weights = stops * _reached(1 - stops, state)
        return weights, weights

    def _stops(self, energies: Tensor) -> Tensor:
        if self.training:
            return torch.sigmoid(energies + self.noise * torch.randn_like(energies))
        return (energies > 0).to(energies.dtype) if self.hard else torch.sigmoid(energies)


class Chunkwise(nn.Module, StatefulNorm):
    """Softmax over the ``width`` keys that end where a `Monotonic` reader stops (MoChA).

    Chiu and Raffel 2018, arXiv 1712.05382. One score serves both: plus a learned offset for where to stop,
    times a learned factor within a chunk, where an offset would cancel. State: where the reader stopped.
    """

    def __init__(self, heads: int = 1, width: int = 8, hard: bool = False, noise: float = 1.0, offset: float = -1.0):
        super().__init__()
        self.monotonic = Monotonic(heads, hard, noise, offset)
        self.factor = nn.Parameter(torch.ones(heads, 1, 1))
        self.width = width

    def begin(self, scores: Tensor) -> Tensor:
        return self.monotonic.begin(scores)

    def step(self, scores: Tensor, keep: Keep, state: Tensor) -> tuple[Tensor, Tensor]:
        stopped, state = self.monotonic.step(scores, keep, state)
        energies = self.factor * mask(scores, keep, 0.0)
        if keep is None:
            return _spread(energies, stopped, self.width), state
        # keys that may be seen first, in their order, so that chunks have none of the others
        order = (~keep).expand_as(scores).argsort(dim=-1, stable=True)
        weights = _spread(energies.gather(-1, order), stopped.gather(-1, order), self.width)
        return torch.zeros_like(weights).scatter(-1, order, weights), state


def _reached(
    passing: Float[Tensor, "batch heads queries keys"], begun: Float[Tensor, "batch heads queries keys"]
) -> Float[Tensor, "batch heads queries keys"]:
    """q_j = passing_(j-1) q_(j-1) + begun_j: how likely each key is reached.

    By doubling (Hillis and Steele 1986), log2(keys) steps of sums and products of probabilities: nothing is divided by
    a product that may vanish, as in the closed form.
    """
    factors = F.pad(passing, (1, -1))
    distance = 1
    while distance < passing.shape[-1]:
        begun = begun + factors * F.pad(begun, (distance, -distance))
        factors = factors * F.pad(factors, (distance, -distance))
        distance *= 2
    return begun


def _spread(
    energies: Float[Tensor, "batch heads queries keys"], stopped: Float[Tensor, "batch heads queries keys"], width: int
) -> Float[Tensor, "batch heads queries keys"]:
    """w_j = sum of stopped_k exp(u_j) / sum exp u over chunk k, for the chunks k of ``width`` keys that hold key j."""
    chunks = F.pad(energies, (width - 1, 0), value=torch.finfo(energies.dtype).min).unfold(-1, width, 1)
    totals = F.pad(chunks.logsumexp(-1), (0, width - 1), value=torch.inf).unfold(-1, width, 1)
    stops = F.pad(stopped, (0, width - 1)).unfold(-1, width, 1)
    return (stops * torch.exp(energies[..., None] - totals)).sum(-1)
