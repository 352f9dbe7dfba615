"""Scores that ask where a key stands: by position alone, around a predicted one, or moving on from step to step."""

import math

import torch
from jaxtyping import Num
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention.scores import Additive, Places, Score
from regard.errors import InputError, SettingsError

LEAST_DEVIATION = 1e-3
"""Of a component of a mixture, in positions: below, its density would overflow."""


class Location(nn.Module, Score):
    """z_j = (W q)_j, without looking at the keys (Luong et al. 2015, arXiv 1508.04025, equation 9)."""

    def __init__(self, width: int, positions: int):
        super().__init__()
        self.weight = nn.Linear(width, positions, bias=False)

    def forward(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        everywhere = self.weight(queries)
        if places.keys_at.shape[-1] > everywhere.shape[-1]:
            known = f"{places.keys_at.shape[-1]} keys, but a location score for {everywhere.shape[-1]} positions"
            raise InputError(known, hint="raise the score's positions, or choose another score")
        at = places.keys_at[:, None, None, :].expand(*everywhere.shape[:-1], -1)
        return everywhere.gather(-1, at)


class _Local(nn.Module, Score):
    """A score within ``back`` positions of a centre p that each query has (Luong et al. 2015, arXiv 1508.04025)."""

    def __init__(self, score: Score, back: int):
        super().__init__()
        self.score, self.back = score, back

    def centre(self, queries: Tensor, places: Places) -> Num[Tensor, "batch heads queries"]:
        raise NotImplementedError

    def keys(self, keys: Tensor) -> Tensor:
        return self.score.keys(keys)

    def _offsets(self, queries: Tensor, places: Places) -> Num[Tensor, "batch heads queries keys"]:
        return places.keys_at[:, None, None, :] - self.centre(queries, places)[..., None]

    def forward(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        scores = self.score(queries, keys, places)
        # finite, so that a window without keys does not end in NaN, and above what keys that may not be seen get
        lowest = torch.finfo(scores.dtype).min / 2
        return scores.masked_fill(self._offsets(queries, places).abs() > self.back, lowest)

    def gain(self, queries: Tensor, places: Places) -> Tensor:
        return (self._offsets(queries, places).abs() <= self.back).to(queries.dtype)


class LocalMonotonic(_Local):
    """local-m: source and target run side by side, p = the query's own position."""

    def centre(self, queries: Tensor, places: Places) -> Tensor:
        return places.at[:, None, :].expand(queries.shape[:-1])


class LocalPredictive(_Local):
    """local-p: p = S sigmoid(v . tanh(W q)), and a Gaussian of deviation back / 2 around p favours what is near.

    S is how many keys a query may look at. The Gaussian multiplies the normalised weights, as in equation 10.
    """

    def __init__(self, width: int, score: Score, back: int):
        super().__init__(score, back)
        self.inner = nn.Linear(width, width, bias=False)
        self.outer = nn.Linear(width, 1, bias=False)

    def centre(self, queries: Tensor, places: Places) -> Tensor:
        share = torch.sigmoid(self.outer(torch.tanh(self.inner(queries)))).squeeze(-1)
        if places.keep is None:
            return share * places.keys_at.shape[-1]
        return share * places.keep.expand(*queries.shape[:-1], places.keys_at.shape[-1]).sum(-1)

    def gain(self, queries: Tensor, places: Places) -> Tensor:
        offsets = self._offsets(queries, places)
        return torch.exp(offsets.square() / (-2 * (self.back / 2) ** 2)) * (offsets.abs() <= self.back)


class StatefulScore(Score):
    """A score that knows what the query before looked at; queries are taken one after another.

    States have the rows and heads of the queries first. ``queries`` are those of one step: of the beams of a row.
    """

    def begin(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The state before the first step, (batch, heads, queries, ...)."""
        raise NotImplementedError

    def step(self, queries: Tensor, keys: Tensor, places: Places, state: Tensor) -> tuple[Tensor, Tensor]:
        """The scores, and what `after` needs."""
        raise NotImplementedError

    def after(self, carried: Tensor, weights: Tensor) -> Tensor:
        """The state after a step that ended in these weights."""
        raise NotImplementedError


class LocationSensitive(nn.Module, StatefulScore):
    """v . tanh(q + k + U f), where f filters the previous weights (Chorowski et al. 2015, arXiv 1506.07503).

    ``cumulative``: the sum of all previous weights instead (Shen et al. 2018, Tacotron 2, arXiv 1712.05884).
    State: those weights, (batch, heads, queries, keys).
    """

    def __init__(self, width: int, heads: int = 1, filters: int = 32, kernel: int = 31, cumulative: bool = False):
        super().__init__()
        if kernel % 2 == 0:
            raise SettingsError(f"a location filter over {kernel} keys has no middle", hint="choose an odd kernel")
        self.additive = Additive(width, heads)
        self.filters = nn.Conv1d(1, filters, kernel, padding=kernel // 2, bias=False)
        self.location = nn.Linear(filters, width, bias=False)
        self.cumulative = cumulative

    def begin(self, queries: Tensor, keys: Tensor) -> Tensor:
        return queries.new_zeros(*queries.shape[:-1], keys.shape[-2])

    def step(self, queries: Tensor, keys: Tensor, places: Places, state: Tensor) -> tuple[Tensor, Tensor]:
        filtered = self.filters(state.flatten(0, 2)[:, None]).mT.unflatten(0, state.shape[:3])
        summed = queries[..., :, None, :] + keys[..., None, :, :] + self.location(filtered)
        return self.additive.of_sum(summed), state

    def after(self, carried: Tensor, weights: Tensor) -> Tensor:
        return carried + weights if self.cumulative else weights


class Mixture(nn.Module, StatefulScore):
    """The logarithm of a mixture of Gaussians over positions whose means only move on; for `Exponential` weights.

    As in Battenberg et al. 2020, arXiv 1910.10288 (V2): shares by softmax, steps and deviations by softplus, densities
    normalised. ``original``: Graves 2013, arXiv 1308.0850, equations 48-51: all by exp, not normalised.
    State: the means, (batch, heads, queries, components).
    """

    def __init__(self, width: int, components: int = 5, original: bool = False):
        super().__init__()
        self.parameters_of = nn.Linear(width, 3 * components)
        self.components, self.original = components, original

    def begin(self, queries: Tensor, keys: Tensor) -> Tensor:
        return queries.new_zeros(*queries.shape[:-1], self.components)

    def step(self, queries: Tensor, keys: Tensor, places: Places, state: Tensor) -> tuple[Tensor, Tensor]:
        share, width, step = self.parameters_of(queries).chunk(3, -1)
        means = state + (step.exp() if self.original else F.softplus(step))
        squares = (places.keys_at[:, None, None, :, None] - means[..., None, :]).square()
        if self.original:
            return (share[..., None, :] - width.exp()[..., None, :] * squares).logsumexp(-1), means
        deviation = F.softplus(width).clamp(min=LEAST_DEVIATION)
        log_share = F.log_softmax(share, -1) - torch.log(deviation * math.sqrt(2 * math.pi))
        return (log_share[..., None, :] - squares / (2 * deviation.square()[..., None, :])).logsumexp(-1), means

    def after(self, carried: Tensor, weights: Tensor) -> Tensor:
        return carried
