"""Every score and every norm with its formula written once more, dense, of whole tensors: references for tests.

Of what is tested, the formulas use nothing but the learned parameters.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention.location import LocalMonotonic, LocalPredictive, Location
from regard.attention.norms import (
    Exponential,
    Hard,
    OffByOne,
    Relu,
    Scalable,
    Sigmoid,
    Sink,
    Softcap,
    Softmax,
    TopK,
)
from regard.attention.relative import Shaw, TransformerXL
from regard.attention.scores import Additive, Concat, Cosine, Distance, Dot, General, ScaledDot
from regard.attention.sparse import Entmax, LearnedEntmax, Sparsemax

HEADS, WIDTH, SPAN = 2, 4, 24
"""Query heads, width of queries and keys, and how many positions there are."""


class Member(NamedTuple):
    """A score, norm, pattern or bias: what makes it, and its formula."""

    name: str
    build: Callable[..., Any]
    formula: Callable[..., Any]

    def __str__(self) -> str:
        return self.name


class Places(NamedTuple):
    """Positions (rows, queries) and (rows, keys), and what may be seen, (rows, heads, queries, keys)."""

    at: Tensor
    keys_at: Tensor
    keep: Tensor

    @property
    def ahead(self) -> Tensor:
        """j - i, (rows, 1, queries, keys)."""
        return (self.keys_at[:, None, :] - self.at[:, :, None])[:, None]


# --- scores: formula(score, queries, keys, places), all with the rows and heads of the queries


def dots(queries: Tensor, keys: Tensor) -> Tensor:
    return torch.einsum("bhix,bhjx->bhij", queries, keys)


def by_distance(score: Distance, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
    return -torch.cdist(queries, keys, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * math.sqrt(WIDTH))


def by_cosine(score: Cosine, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
    return score.temperature * F.cosine_similarity(queries[..., :, None, :], keys[..., None, :, :], dim=-1)


def by_tanh(score: Additive, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
    inner = queries[..., :, None, :] + keys[..., None, :, :]
    directions = score.direction.view(score.heads, 1, 1, WIDTH)
    if score.length is not None:
        inner = inner + score.shift
        directions = directions * (score.length / directions.square().sum(-1, keepdim=True).sqrt())
    return (torch.tanh(inner) * directions).sum(-1)


def by_concatenation(score: Concat, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
    inner = queries[..., :, None, :] @ score.query.weight.mT + keys[..., None, :, :] @ score.key.weight.mT
    return (torch.tanh(inner) * score.additive.direction.view(HEADS, 1, 1, WIDTH)).sum(-1)


def by_place(score: Location, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
    return dots(queries, score.weight.weight[places.keys_at][:, None].expand(-1, HEADS, -1, -1))


def nearby(score: nn.Module, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
    away = centred(score, queries, places).abs()
    return torch.where(away <= score.back, dots(queries, keys) / math.sqrt(WIDTH), torch.finfo(queries.dtype).min)


def centred(score: nn.Module, queries: Tensor, places: Places) -> Tensor:
    """j - p, (rows, heads, queries, keys)."""
    if isinstance(score, LocalMonotonic):
        return places.ahead
    bent = torch.tanh(queries @ score.inner.weight.mT) @ score.outer.weight.mT
    return places.keys_at[:, None, None, :] - places.keep.sum(-1, keepdim=True) / (1 + torch.exp(-bent))


def factor(score: nn.Module, queries: Tensor, places: Places) -> Tensor | float:
    """What the weights are multiplied by."""
    if not isinstance(score, LocalPredictive):
        return 1.0
    away = centred(score, queries, places)
    return torch.exp(-2 * away**2 / score.back**2) * (away.abs() <= score.back)


def by_offset(score: Shaw, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
    vectors = score.offsets[places.ahead.clamp(-score.reach, score.reach) + score.reach]
    return (queries[..., :, None, :] * (keys[..., None, :, :] + vectors)).sum(-1) / math.sqrt(WIDTH)


def by_sinusoid(score: TransformerXL, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
    pairs = torch.arange(0, WIDTH * HEADS, 2)
    angles = -places.ahead[:, 0, ..., None] / 10000 ** (pairs / (WIDTH * HEADS))
    waves = torch.stack([angles.sin(), angles.cos()], -1).flatten(-2) @ score.distance.weight.mT
    distances = waves.unflatten(-1, (HEADS, WIDTH)).movedim(3, 1)
    content = dots(queries + score.content_bias, keys)
    return (content + ((queries + score.position_bias)[..., None, :] * distances).sum(-1)) / math.sqrt(WIDTH)


SCORES = [
    Member("dot", Dot, lambda score, queries, keys, places: dots(queries, keys)),
    Member("scaled_dot", ScaledDot, lambda score, queries, keys, places: dots(queries, keys) / math.sqrt(WIDTH)),
    Member("distance", Distance, by_distance),
    Member(
        "general",
        lambda: General(WIDTH, HEADS),
        lambda score, queries, keys, places: torch.einsum("bhix,hxy,bhjy->bhij", queries, score.matrix, keys),
    ),
    Member("cosine", lambda: Cosine(HEADS), by_cosine),
    Member("additive", lambda: Additive(WIDTH, HEADS), by_tanh),
    Member("normalised", lambda: Additive(WIDTH, 1, normalised=True), by_tanh),
    Member("concat", lambda: Concat(WIDTH, HEADS), by_concatenation),
    Member("location", lambda: Location(WIDTH, SPAN), by_place),
    Member("local_m", lambda: LocalMonotonic(ScaledDot(), 2), nearby),
    Member("local_p", lambda: LocalPredictive(WIDTH, ScaledDot(), 2), nearby),
    Member("shaw", lambda: Shaw(WIDTH, 3), by_offset),
    Member("transformer_xl", lambda: TransformerXL(WIDTH, HEADS), by_sinusoid),
]
DOT_PRODUCTS = {"dot", "scaled_dot", "distance", "general", "cosine"}
WINDOWS = {"local_m", "local_p"}
"""Scores that give what is too far away the lowest number there is."""


# --- norms: formula(norm, scores, keep)


def shares(powers: Tensor, extra: Tensor | float = 0.0) -> Tensor:
    """Each key's part of the sum; nothing of nothing."""
    total = powers.sum(-1, keepdim=True) + extra
    return powers / torch.where(total == 0, 1.0, total)


def exponentials(scores: Tensor, keep: Tensor) -> Tensor:
    return torch.where(keep, scores, -math.inf).exp()


def softmax(scores: Tensor, keep: Tensor) -> Tensor:
    return shares(exponentials(scores, keep))


def counts(keep: Tensor) -> Tensor:
    return keep.sum(-1, keepdim=True).clamp(min=1).double()


def by_rank(norm: TopK, scores: Tensor, keep: Tensor) -> Tensor:
    better = (scores[..., None, :] > scores[..., :, None]) & keep[..., None, :]
    return softmax(scores, keep & (better.sum(-1) < norm.k))


def by_best(norm: Hard, scores: Tensor, keep: Tensor) -> Tensor:
    soft = softmax(scores, keep)
    best = (soft == soft.amax(-1, keepdim=True)) & (soft > 0)
    return soft + (best.double() - soft).detach()


def by_threshold(alpha: Tensor, scores: Tensor, keep: Tensor) -> Tensor:
    """Bisection for the threshold, and one more step of Newton's, through which the gradients flow."""
    scores = torch.where(keep, (alpha - 1) * scores, -math.inf)
    power = 1 / (alpha - 1)
    with torch.no_grad():
        high = torch.where(keep.any(-1, keepdim=True), scores.amax(-1, keepdim=True), 0.0)
        low = high - 1
        for _ in range(60):
            middle = low + (high - low) / 2
            enough = F.relu(scores - middle).pow(power).sum(-1, keepdim=True) >= 1
            low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
        support = scores > low
        slope = torch.where(support, power * (scores - low).pow(power - 1), 0.0).sum(-1, keepdim=True)
    excess = torch.where(support, scores - low, 1.0)  # no power of 0, whose logarithm would spoil alpha's gradient
    surplus = torch.where(support, excess.pow(power), 0.0).sum(-1, keepdim=True) - 1
    shift = torch.where(slope > 0, surplus / slope.clamp(min=1e-9), 0.0)
    return torch.where(support, (excess - shift).pow(power), 0.0)


NORMS = [
    Member("softmax", Softmax, lambda norm, scores, keep: softmax(scores, keep)),
    Member("off_by_one", OffByOne, lambda norm, scores, keep: shares(exponentials(scores, keep), 1.0)),
    Member(
        "sink",
        lambda: Sink(HEADS),
        lambda norm, scores, keep: shares(exponentials(scores, keep), norm.sink.exp()[:, :, None]),
    ),
    Member("softcap", lambda: Softcap(cap=2.0), lambda norm, scores, keep: softmax(2 * torch.tanh(scores / 2), keep)),
    Member(
        "scalable",
        lambda: Scalable(HEADS),
        lambda norm, scores, keep: softmax(norm.slope * counts(keep).log() * scores, keep),
    ),
    Member("sigmoid", Sigmoid, lambda norm, scores, keep: keep * torch.sigmoid(scores - counts(keep).log())),
    Member("relu", Relu, lambda norm, scores, keep: torch.where(keep, scores.clamp(min=0), 0.0) / counts(keep)),
    Member("top_k", lambda: TopK(k=3), by_rank),
    Member("hard", Hard, by_best),
    Member("exponential", Exponential, lambda norm, scores, keep: exponentials(scores, keep)),
    Member("sparsemax", Sparsemax, lambda norm, scores, keep: by_threshold(torch.tensor(2.0), scores, keep)),
    Member("entmax", Entmax, lambda norm, scores, keep: by_threshold(torch.tensor(1.5), scores, keep)),
    Member("learned", lambda: LearnedEntmax(HEADS), lambda norm, scores, keep: by_threshold(norm.alpha, scores, keep)),
]
SOFTMAXES = {"softmax", "off_by_one", "sink"}
BENDING = {"softcap", "scalable"}
"""Norms that change scores before they compare them, so that the lowest number no longer is."""
