"""The fast forms of what is a softmax of dot products: one fused call, or spans of keys for each block of queries."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.kernels import planning
from regard.attention.kernels.blocks import Plan, softmax_blocks
from regard.attention.kernels.dropped import Dropped
from regard.attention.request import WHOLE, Block, Pattern, Request
from regard.attention.where import Causal


def unfit(request: Request) -> str | None:
    """Why this request is no softmax of dot products with a constant mask; None if it is."""
    if request.lift is None:
        return f"{type(request.score).__name__} is no dot product"
    if request.gains:
        return f"{type(request.score).__name__} multiplies the weights"
    if not request.norm.fused:
        return f"{type(request.norm).__name__} does not follow from a softmax"
    return "the bias is learned" if request.pattern.bias_is_learned else None


def unfit_fused(request: Request) -> str | None:
    return unfit_elsewhere(request) or unfit(request) or ("dropout" if request.dropout else None)


def unfit_spans(request: Request) -> str | None:
    return unfit_elsewhere(request) or unfit(request) or planning.unfit(request)


def unfit_elsewhere(request: Request) -> str | None:
    return None if request.queries.device.type == "cpu" else "the kernel is one for CPUs"


def fused(request: Request) -> tuple[Tensor, Tensor]:
    """Softmax output and lse by one call of the fused kernel, with a mask where there is a pattern."""
    some = request.queries.shape[2] and request.keys.shape[2]  # without, the kernel divides by 0 and the process dies
    return _run(request, [WHOLE] if some else [], causal=is_plain_causal(request))


def is_plain_causal(request: Request) -> bool:
    """Whether the kernel's own causal form, which needs no mask, is what is asked for."""
    square = request.queries.shape[2] == request.keys.shape[2]
    return (
        isinstance(request.pattern.where, Causal)
        and request.pattern.counted
        and square
        and request.pattern.bias is None
    )


def spans(request: Request) -> tuple[Tensor, Tensor]:
    """Softmax output and lse, each block of queries with the slices of keys that it needs; dropout too."""
    return _run(request, planning.plan(request), causal=False)


def _run(request: Request, blocks: list[Block], causal: bool) -> tuple[Tensor, Tensor]:
    lift, values, pattern = request.lift, request.values, request.pattern
    assert lift is not None
    width = max(lift.queries.shape[-1], values.shape[-1])
    copied = bool(request.dropout)  # plain products, which would copy the same keys for every block
    queries, keys, found = (_for_kernel(one, width, values.dtype, copied) for one in (lift.queries, lift.keys, values))
    plan = Plan(
        blocks,
        (lambda block: None) if causal else partial(mask, pattern, values.dtype),
        causal,
        lift.scale,
        Dropped.draw(request.dropout),
    )
    out, lse = softmax_blocks(plan, queries, keys, found, pattern.tensors)
    return out[..., : values.shape[-1]], lse if lift.row is None else lse + lift.row


def _for_kernel(tensor: Tensor, width: int, dtype: torch.dtype, copied: bool) -> Tensor:
    """The kernel takes one width and one type of all three, and reads rows of neighbouring numbers without asking."""
    padded = F.pad(tensor, (0, width - tensor.shape[-1])) if tensor.shape[-1] < width else tensor
    return padded.to(dtype).contiguous() if copied or padded.stride(-1) != 1 else padded.to(dtype)


def mask(pattern: Pattern, dtype: torch.dtype, block: Block = WHOLE) -> Tensor | None:
    """What to add to a block's scores, four axes: the bias, and -inf where a key may not be seen."""
    keep, bias = pattern.keep(block), pattern.bias_of(block)
    if bias is not None:
        bias = bias.detach().to(dtype)
    if keep is None:
        return bias
    allowed = torch.zeros((), dtype=dtype, device=keep.device) if bias is None else bias
    return torch.where(keep, allowed, -math.inf)
