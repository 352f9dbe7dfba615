"""Scores and norms that know what the query before looked at: one query after another."""

from dataclasses import replace

import torch
from torch import Tensor

from regard.attention.location import StatefulScore
from regard.attention.norms import StatefulNorm
from regard.attention.request import Request, product
from regard.attention.weights import fold, unfold
from regard.randomness import drop

Kept = tuple[Tensor | None, Tensor | None]
"""The states of score and norm, (rows, heads, ...); None for what keeps none."""


def needed(request: Request) -> bool:
    return isinstance(request.score, StatefulScore) or isinstance(request.norm, StatefulNorm)


def steps(request: Request, state: Kept | None, beams: int) -> tuple[Tensor, Tensor, Kept]:
    """Output and weights, beams folded into the queries, and the state after the last query."""
    kept = tuple(None if one is None else fold(one[:, :, None], beams) for one in state or (None, None))
    outs, weights = [], []
    length = request.queries.shape[2] // beams
    for step in range(length):
        of_beams = slice(step, None, length)
        bias = request.pattern.bias
        if isinstance(bias, Tensor) and bias.shape[2] > 1:
            bias = bias[:, :, of_beams]
        pattern = replace(request.pattern, at=request.pattern.at[:, of_beams], bias=bias)
        one = replace(request, queries=request.queries[:, :, of_beams], pattern=pattern)
        looked, kept = _step(one, *kept)
        outs.append(product(drop(looked, request.dropout), request.values))
        weights.append(looked)
    after = tuple(None if one is None else unfold(one, beams)[:, :, 0] for one in kept)
    if not length:
        nothing = request.queries.new_zeros(*request.queries.shape[:3], request.keys.shape[2])
        return product(nothing, request.values), nothing, (after[0], after[1])
    return _in_order(outs), _in_order(weights), (after[0], after[1])


def _step(request: Request, of_score: Tensor | None, of_norm: Tensor | None) -> tuple[Tensor, Kept]:
    """The weights of one query of each beam, and the states after it."""
    score = request.score
    if not isinstance(score, StatefulScore):
        weights, of_norm = _normalised(request, request.scores(), of_norm)
        return weights, (None, of_norm)
    keys = request.keys if request.groups == 1 else request.keys.repeat_interleave(request.groups, dim=1)
    before = score.begin(request.queries, keys) if of_score is None else of_score
    scores, carried = score.step(request.queries, keys, request.pattern.places(), before)
    weights, of_norm = _normalised(request, request.biased(scores), of_norm)
    return weights, (score.after(carried, weights), of_norm)


def _normalised(request: Request, scores: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    norm, keep = request.norm, request.pattern.keep()
    if isinstance(norm, StatefulNorm):
        weights, state = norm.step(scores, keep, norm.begin(scores) if state is None else state)
        return request.gained(weights), state
    return request.gained(norm(scores, keep)), None


def _in_order(of_steps: list[Tensor]) -> Tensor:
    """(batch, heads, beams, ...) of each step as (batch, heads, beams * steps, ...)."""
    return torch.stack(of_steps, 3).flatten(2, 3)
