"""The fast forms of what is a softmax of dot products: one fused call, or spans of keys for each block of queries."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.kernels import planning
from regard.attention.kernels.blocks import Plan, softmax_blocks
from regard.attention.kernels.dropped import Dropped
from regard.attention.request import WHOLE, Block, Request
from regard.attention.where import Causal


def unfit(request: Request) -> str | None:
    """Why this request is no softmax of dot products with a constant mask; None if it is."""
    if request.lift is None:
        return f"{type(request.score).__name__} is no dot product"
    if not request.norm.fused:
        return f"{type(request.norm).__name__} does not follow from a softmax"
    return "the bias is learned" if request.bias_is_learned else None


def unfit_fused(request: Request) -> str | None:
    return unfit(request) or ("dropout" if request.dropout else None)


def fused(request: Request) -> tuple[Tensor, Tensor]:
    """Softmax output and lse by one call of the fused kernel, with a mask where there is a pattern."""
    some = request.queries.shape[2] and request.keys.shape[2]  # without, the kernel divides by 0 and the process dies
    return _run(request, [WHOLE] if some else [], causal=is_plain_causal(request))


def is_plain_causal(request: Request) -> bool:
    """Whether the kernel's own causal form, which needs no mask, is what is asked for."""
    square = request.queries.shape[2] == request.keys.shape[2]
    return isinstance(request.where, Causal) and request.counted and square and request.bias is None


def spans(request: Request) -> tuple[Tensor, Tensor]:
    """Softmax output and lse, each block of queries with the slices of keys that it needs; dropout too."""
    return _run(request, planning.plan(request), causal=False)


def _run(request: Request, blocks: list[Block], causal: bool) -> tuple[Tensor, Tensor]:
    lift, values = request.lift, request.values
    assert lift is not None
    width = max(lift.queries.shape[-1], values.shape[-1])  # the kernel wants one width of all three
    padded = (F.pad(one, (0, width - one.shape[-1])) if one.shape[-1] < width else one
              for one in (lift.queries, lift.keys, values))  # fmt: skip
    if request.dropout:  # plain products, which would copy the same keys for every block
        padded = (one.contiguous() for one in padded)
    plan = Plan(
        blocks,
        (lambda block: None) if causal else (lambda block: mask(request, block)),
        causal,
        lift.scale,
        Dropped.draw(request.dropout),
    )
    out, lse = softmax_blocks(plan, *padded)
    return out[..., : values.shape[-1]], lse if lift.row is None else lse + lift.row


def mask(request: Request, block: Block = WHOLE) -> Tensor | None:
    """What to add to a block's scores, four axes: the bias, and -inf where a key may not be seen."""
    keep, bias = request.keep(block), request.bias_of(block)
    if bias is not None:
        bias = bias.detach().to(request.queries.dtype)
        bias = bias[(None,) * (4 - bias.ndim)]
    if keep is None:
        return bias
    allowed = torch.zeros((), dtype=request.queries.dtype, device=keep.device) if bias is None else bias
    return torch.where(keep, allowed, -math.inf)
