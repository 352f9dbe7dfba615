"""One call of attention as every kernel sees it: the beams of a row folded into its queries, and cut into blocks."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard.attention.norms import Keep, Norm
from regard.attention.scores import Lift, Places, Score
from regard.attention.where import Full, Where
from regard.errors import AttentionError

Bias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""What is added to the score in row b and head h for a query at position i and a key at j; see `Where.keep`."""

EVERYTHING = slice(None)

CACHED = 1 << 20
"""Numbers that the blocks hold which make their weights: what stays in the cache, and pays for its calls."""


class Block(NamedTuple):
    """Some rows, some of their queries, and the keys these need: one slice, or several to be joined."""

    rows: slice = EVERYTHING
    queries: slice = EVERYTHING
    keys: tuple[slice, ...] = (EVERYTHING,)


WHOLE = Block()


def joined(tensor: Tensor, slices: tuple[slice, ...], axis: int) -> Tensor:
    """The slices of an axis side by side; a view when there is but one."""
    if slices is WHOLE.keys:
        return tensor
    index = (EVERYTHING,) * (axis % tensor.ndim)
    parts = [tensor[*index, one] for one in slices]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)


@dataclass(eq=False)
class Pattern:
    """All of a request but its tensors: which keys each query may look at, and what is added to their scores.

    A gradient that makes a block's mask once more keeps this, and none of the queries, keys and values.
    """

    where: Where
    bias: Float[Tensor, "#batch #heads #queries keys"] | Bias | None
    at: Int[Tensor, "#batch queries"]
    keys_at: Int[Tensor, "#batch keys"]
    counted: bool
    """Whether queries are the last positions, in order, and keys all from 0 on: nobody said otherwise."""
    batch: int
    heads: int

    @property
    def bias_is_learned(self) -> bool:
        if self.bias is None or not torch.is_grad_enabled():
            return False
        if isinstance(self.bias, Tensor):
            return self.bias.requires_grad
        return self.bias(*(torch.zeros(1, dtype=torch.long, device=self.at.device),) * 4).requires_grad

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What must not change before a gradient is made."""
        bias = (self.bias,) if isinstance(self.bias, Tensor) else ()
        return *self.where.tensors, *bias, self.at, self.keys_at

    def places(self, block: Block = WHOLE) -> Places:
        return Places(*self._positions(block), self.keep(block))

    def keep(self, block: Block = WHOLE) -> Keep:
        """Which keys may be seen, four axes of which any may be 1; None: all. A bias of -inf hides a key too."""
        kept = None if isinstance(self.where, Full) else _four_axes(self.where.keep(*self._indices(block)))
        if not isinstance(self.bias, Tensor):
            return kept
        finite = self._given_bias(self.bias, block) > -math.inf
        return finite if kept is None else kept & finite

    def bias_of(self, block: Block = WHOLE) -> Float[Tensor, "#rows #heads #some #keys"] | None:
        if self.bias is None:
            return None
        if isinstance(self.bias, Tensor):
            return self._given_bias(self.bias, block)
        return _four_axes(self.bias(*self._indices(block)))

    def _given_bias(self, bias: Tensor, block: Block) -> Tensor:
        rows, _, queries, _ = bias.shape
        some = bias[block.rows if rows > 1 else EVERYTHING, :, block.queries if queries > 1 else EVERYTHING]
        return joined(some, block.keys, -1)

    def _positions(self, block: Block) -> tuple[Tensor, Tensor]:
        if block is WHOLE:
            return self.at, self.keys_at
        at, keys_at = self.at[:, block.queries], joined(self.keys_at, block.keys, -1)
        return at[block.rows] if len(at) > 1 else at, keys_at[block.rows] if len(keys_at) > 1 else keys_at

    def _indices(self, block: Block) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        at, keys_at = self._positions(block)
        rows = torch.arange(self.batch, device=at.device)[block.rows].view(-1, 1, 1, 1)
        heads = torch.arange(self.heads, device=at.device).view(-1, 1, 1)
        return rows, heads, at[:, None, :, None], keys_at[:, None, None]


def _four_axes(tensor: Tensor) -> Tensor:
    return tensor[(None,) * (4 - tensor.ndim)] if tensor.ndim < 4 else tensor


@dataclass(eq=False)
class Request:
    """What was asked for. ``heads`` is a multiple of ``kv_heads``: neighbouring query heads share keys and values."""

    queries: Float[Tensor, "batch heads queries width"]
    keys: Float[Tensor, "batch kv_heads keys features"]
    values: Float[Tensor, "batch kv_heads keys values"]
    score: Score
    norm: Norm
    pattern: Pattern
    dropout: float = 0.0
    lift: Lift | None = field(init=False)

    def __post_init__(self) -> None:
        self.lift = self.score.lift(self.queries, self.keys)
        if self.lift is not None and self.lift.queries.shape[-1] != self.lift.keys.shape[-1]:
            shapes = f"queries of shape {tuple(self.queries.shape)} and keys of shape {tuple(self.keys.shape)}"
            raise AttentionError(shapes, hint=f"{type(self.score).__name__} compares vectors of one width")

    @property
    def groups(self) -> int:
        """Query heads that share a head of keys and values."""
        return self.queries.shape[1] // self.keys.shape[1]

    @property
    def gains(self) -> bool:
        """Whether the score multiplies the weights after they were normalised."""
        return type(self.score).gain is not Score.gain

    def scores(self, block: Block = WHOLE) -> Float[Tensor, "rows heads queries keys"]:
        """By the lift, where there is one; with the bias, without the mask."""
        lift = self.lift
        if lift is None:
            return self.specified(block)
        queries, keys = of_queries(lift.queries, block), of_keys(lift.keys, block)
        if keys.shape[2] < keys.shape[3]:  # the scale goes where there are fewer numbers
            scores = product(queries, keys.mT).mul_(lift.scale)
        else:
            scores = product(queries * lift.scale, keys.mT)
        if lift.row is not None:
            scores = scores + of_queries(lift.row, block)[..., None]
        return self.biased(scores, block)

    def specified(self, block: Block = WHOLE) -> Float[Tensor, "rows heads queries keys"]:
        """The scores by their specification; with the bias, without the mask."""
        keys = of_keys(self.keys, block)
        keys = keys if self.groups == 1 else keys.repeat_interleave(self.groups, dim=1)
        return self.biased(self.score(of_queries(self.queries, block), keys, self.pattern.places(block)), block)

    def gained(self, weights: Tensor, block: Block = WHOLE) -> Tensor:
        """The weights times the factor of scores that have one."""
        gain = self.score.gain(of_queries(self.queries, block), self.pattern.places(block)) if self.gains else None
        return weights if gain is None else weights * gain

    def biased(self, scores: Tensor, block: Block = WHOLE) -> Tensor:
        bias = self.pattern.bias_of(block)
        return scores if bias is None else scores + bias.to(scores.dtype)


def of_queries(tensor: Float[Tensor, "batch heads queries *_"], block: Block) -> Float[Tensor, "rows heads some *_"]:
    """The part of a block's queries; calls on the whole are frequent and short, so that even a view costs."""
    return tensor if block is WHOLE else tensor[block.rows, :, block.queries]


def of_keys(tensor: Float[Tensor, "batch heads keys width"], block: Block) -> Float[Tensor, "rows heads some width"]:
    """The part of a block's keys."""
    return tensor if block is WHOLE else joined(tensor[block.rows], block.keys, -2)


def product(
    left: Float[Tensor, "batch heads queries inner"], right: Float[Tensor, "batch kv_heads inner outer"]
) -> Float[Tensor, "batch heads queries outer"]:
    """The matrix product of each head, heads that share a right side folded into its rows instead of copying it."""
    kv_heads = right.shape[1]
    if left.shape[1] == kv_heads:
        return left @ right
    folded = left.unflatten(1, (kv_heads, -1))
    return (folded.flatten(2, 3) @ right).unflatten(2, folded.shape[2:4]).flatten(1, 2)
