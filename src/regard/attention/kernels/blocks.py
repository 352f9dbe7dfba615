"""Softmax over blocks of queries and the keys they need, with a backward of its own and a differentiable lse.

The CPU kernels behind it are private operators of PyTorch (a test pins what is used of them). Their backward computes
dS = P * (dP - rowsum(dO * O)). One more column, 1 in dO, -dLSE in O and 0 in V, adds P * dLSE to it, which is exactly
the gradient that reaches the scores through lse = log sum exp.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from regard.attention.kernels.dropped import Dropped
from regard.attention.request import EVERYTHING, WHOLE, Block, joined

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Plan(NamedTuple):
    """What to compute: blocks that together hold every query once, and what is added to the scores of each."""

    blocks: Sequence[Block]
    mask: Callable[[Block], Tensor | None]
    causal: bool
    scale: float
    dropped: Dropped | None


def softmax_blocks(
    plan: Plan, queries: Tensor, keys: Tensor, values: Tensor, behind_masks: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Output and lse, 0 and -inf for queries without keys. All three have one width; keys may have fewer heads.

    Masks are made once more for the gradient, so that it is refused when a tensor behind them has changed since.
    """
    return _SoftmaxBlocks.apply(plan, queries, keys, values, *behind_masks)  # type: ignore[no-untyped-call]


class _SoftmaxBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, queries: Tensor, keys: Tensor, values: Tensor, *behind_masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        if [*plan.blocks] == [WHOLE]:
            out, lse = _forward(plan, 0, queries, keys, values)
        else:
            out, lse = _nothing(queries, values)
            for number, block in enumerate(plan.blocks):
                mine = (block.rows, EVERYTHING, block.queries)
                out[mine], lse[mine] = _forward(plan, number, queries[mine], *_looked_at(block, keys, values))
        ctx.save_for_backward(queries, keys, values, out, lse, *behind_masks)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        queries, keys, values, out, lse, *behind_masks = ctx.saved_tensors
        unlearned = (None,) * len(behind_masks)
        if grad is None and grad_lse is None:
            return None, None, None, None, *unlearned
        grad = torch.zeros_like(out) if grad is None else grad
        if [*ctx.plan.blocks] == [WHOLE]:
            return None, *_backward(ctx.plan, 0, (grad, grad_lse), queries, keys, values, out, lse), *unlearned
        grads = tuple(torch.zeros_like(one) for one in (queries, keys, values))
        for number, block in enumerate(ctx.plan.blocks):
            mine = (block.rows, EVERYTHING, block.queries)
            given = grad[mine], None if grad_lse is None else grad_lse[mine]
            some_keys, some_values = _looked_at(block, keys, values)
            found = _backward(ctx.plan, number, given, queries[mine], some_keys, some_values, out[mine], lse[mine])
            grads[0][mine] = found[0]
            for whole, part in zip(grads[1:], found[1:], strict=True):
                _add(whole, block, part)
        return None, *grads, *unlearned


def _nothing(queries: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Output and lse of queries without keys; heads of a query side by side, as the output projection reads them."""
    batch, heads, count, _ = queries.shape
    out = queries.new_zeros(batch, count, heads, values.shape[-1]).transpose(1, 2)
    precision = torch.promote_types(queries.dtype, torch.float32)
    return out, queries.new_full((batch, heads, count), -math.inf, dtype=precision)


def _looked_at(block: Block, *tensors: Tensor) -> Iterator[Tensor]:
    return (joined(tensor[block.rows], block.keys, -2) for tensor in tensors)


def _add(whole: Tensor, block: Block, part: Tensor) -> None:
    """Add the gradients of a block's keys where they belong."""
    first = 0
    for keys in block.keys:
        target = whole[block.rows, :, keys]
        target += part[:, :, first : first + target.shape[2]]
        first += target.shape[2]


def _forward(plan: Plan, number: int, queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    mask = plan.mask(plan.blocks[number])
    if plan.dropped:
        return plan.dropped.forward(number, queries, keys, values, mask, plan.scale)
    out, lse = _flash(queries, keys, values, 0.0, plan.causal, attn_mask=mask, scale=plan.scale)
    if mask is None:
        return out, lse
    return out, lse.masked_fill(mask.amax(-1) == -math.inf, -math.inf)  # the kernel says 0 where nothing is seen


def _backward(
    plan: Plan,
    number: int,
    grads: tuple[Tensor, Tensor | None],
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    out: Tensor,
    lse: Tensor,
) -> tuple[Tensor, ...]:
    mask = plan.mask(plan.blocks[number])
    if plan.dropped:
        return plan.dropped.backward(number, grads, queries, keys, values, out, mask, plan.scale)
    grad, grad_lse = grads
    lse = lse.clamp(min=torch.finfo(lse.dtype).min)  # exp(-inf - -inf) would be NaN
    width = values.shape[-1]
    if grad_lse is not None:
        queries, keys, values = (F.pad(one, (0, 1)) for one in (queries, keys, values))
        grad = F.pad(grad, (0, 1), value=1.0)
        out = torch.cat([out, -grad_lse[..., None].to(out.dtype)], -1)
    found = _flash_backward(grad, queries, keys, values, out, lse, 0.0, plan.causal, attn_mask=mask, scale=plan.scale)
    return tuple(one[..., :width] for one in found)
