"""Attention: out = softmax(score(q, k), where) . v, and why it was computed the way it was."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from regard.attention.scores import ScaledDot, Score
from regard.attention.where import Full, Where
from regard.randomness import drop

SHORT = 128 * 128
"""Queries x keys up to which the explicit product beats the fused kernel on a CPU (bf16, 4 heads: 3x at length 16)."""


class Attended(NamedTuple):
    """The result, the weights behind it (computed only when called for), and the kernel that ran."""

    out: Float[Tensor, "rows heads queries values"]
    weights: Callable[[], Float[Tensor, "rows heads queries keys"]]
    why: str


def attend(
    queries: Float[Tensor, "rows heads queries width"],
    keys: Float[Tensor, "batch heads keys width"],
    values: Float[Tensor, "batch heads keys values"],
    *,
    score: Score | None = None,
    where: Where | None = None,
    at: Int[Tensor, "#rows queries"] | None = None,
    dropout: float = 0.0,
) -> Attended:
    """Weighted sums of the values, weighted by how well each query fits each key.

    ``rows`` may be a multiple of ``batch``: row r then looks at memory r // (rows / batch), and the rows that share a
    memory are folded into the query length, so that beams never copy it. ``at`` holds the queries' positions, by
    default those of the last keys. A query that may look at nothing gets exactly 0. Asking for the weights does not
    change ``out``.
    """
    score, where = score or ScaledDot(), where or Full()
    beams = queries.shape[0] // keys.shape[0]
    keep = _mask(where, at, queries, keys.shape[-2], beams)
    folded = _fold(queries, beams)
    plain = isinstance(score, ScaledDot) and not dropout
    if plain and folded.shape[-2] > 1 and folded.shape[-2] * keys.shape[-2] > SHORT:
        out, why = _fused(folded, keys, values, keep), "fused: scaled dot product, long rows, no dropout"
    else:
        weights = _weights(score, folded, keys, keep)
        out, why = drop(weights, dropout) @ values, "explicit: short rows, dropout or a score that does not lift"
    return Attended(_unfold(out, beams), lambda: _unfold(_weights(score, folded, keys, keep), beams), why)


def _weights(score: Score, queries: Tensor, keys: Tensor, keep: Tensor | None) -> Tensor:
    scores = score(queries, keys)
    if keep is None:
        return F.softmax(scores, dim=-1)
    # the lowest finite number, not -inf: a row without keys must become 0, not NaN
    weights = F.softmax(scores.masked_fill(~keep, torch.finfo(scores.dtype).min), dim=-1)
    return weights if bool(keep.any(-1).all()) else weights * keep


def _fused(queries: Tensor, keys: Tensor, values: Tensor, keep: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=keep)


def _mask(
    where: Where, at: Tensor | None, queries: Tensor, keys: int, beams: int
) -> Bool[Tensor, "#batch 1 #queries keys"] | None:
    """What `where` allows, with a head axis, folded as the queries are."""
    rows, _, length, _ = queries.shape
    if at is None:
        at = torch.arange(keys - length, keys, device=queries.device)[None]
    keep = where.keep(at, torch.arange(keys, device=queries.device))
    return None if keep is None else _fold_mask(keep, rows, length, beams)[:, None]


def _fold_mask(keep: Tensor, rows: int, length: int, beams: int) -> Tensor:
    """What each row may see, side by side for the rows that share a memory; or what all rows of a memory may see."""
    if beams > 1 and len(keep) == rows:
        return keep.expand(-1, length, -1).unflatten(0, (-1, beams)).flatten(1, 2)
    return keep if beams == 1 or keep.shape[1] == 1 else keep.repeat(1, beams, 1)


def _fold(queries: Tensor, beams: int) -> Tensor:
    """(batch * beams, heads, queries, width) as (batch, heads, beams * queries, width)."""
    if beams == 1:
        return queries
    return queries.unflatten(0, (-1, beams)).transpose(1, 2).flatten(2, 3)


def _unfold(folded: Tensor, beams: int) -> Tensor:
    if beams == 1:
        return folded
    return folded.unflatten(2, (beams, -1)).transpose(1, 2).flatten(0, 1)
