"""PyTorch's own kernels for accelerators and for compiled graphs: scaled_dot_product_attention and FlexAttention."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.kernels import softmax
from regard.attention.norms import Softcap, Softmax
from regard.attention.request import Request


def unfit_sdpa(request: Request) -> str | None:
    if not isinstance(request.norm, Softmax):
        return f"{type(request.norm).__name__} needs the lse, which it does not return"
    return softmax.unfit(request)


def sdpa(request: Request) -> Tensor:
    """No data decides what it runs, so it can be compiled and exported; queries without keys get 0."""
    lift = request.lift
    assert lift is not None
    causal = softmax.is_plain_causal(request)
    mask = None if causal else softmax.mask(request.pattern, request.values.dtype)
    out = F.scaled_dot_product_attention(
        lift.queries,
        lift.keys,
        request.values,
        attn_mask=mask,
        dropout_p=request.dropout,
        is_causal=causal,
        scale=lift.scale,
        enable_gqa=request.groups > 1,
    )
    keep = None if causal else request.pattern.keep()
    return out if keep is None else torch.where(keep.any(-1, keepdim=True), out, 0.0)


def unfit_flex(request: Request) -> str | None:
    if not request.queries.is_cuda:
        return "FlexAttention has no backward on a CPU"
    if request.dropout:
        return "FlexAttention has no dropout"
    if request.gains:
        return f"{type(request.score).__name__} multiplies the weights"
    if request.lift is None:
        return f"{type(request.score).__name__} is no dot product"
    if not request.norm.fused and not isinstance(request.norm, Softcap):
        return f"{type(request.norm).__name__} does not follow from a softmax"
    if isinstance(request.norm, Softcap) and request.lift.row is not None:
        return f"{type(request.score).__name__} has a part that is added after the cap"
    return None


def flex(request: Request) -> tuple[Tensor, Tensor]:
    """Softmax output and lse; pattern and bias are compiled into the kernel."""
    lift = request.lift
    assert lift is not None
    batch, heads, queries, _ = request.queries.shape
    mask = _compiled_mask()(
        _at_places(request, request.pattern.where.keep),
        batch,
        heads,
        queries,
        request.keys.shape[2],
        request.queries.device,
    )
    out, lse = _compiled_flex()(
        lift.queries,
        lift.keys,
        request.values,
        score_mod=_score_mod(request),
        block_mask=mask,
        scale=lift.scale,
        enable_gqa=request.groups > 1,
        return_lse=True,
    )
    return out, lse if lift.row is None else lse + lift.row


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


@cache
def _compiled_mask() -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    return torch.compile(create_block_mask, dynamic=False)


def _at_places(request: Request, function: Any) -> Any:
    """A function of positions as one of numbers of queries and keys."""
    at, keys_at = request.pattern.at, request.pattern.keys_at

    def at_indices(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        row = b if len(at) > 1 else torch.zeros_like(b)
        keys_row = b if len(keys_at) > 1 else torch.zeros_like(b)
        return function(b, h, at[row, i], keys_at[keys_row, j])

    return at_indices


def _score_mod(request: Request) -> Any:
    """The bias and the cap, as FlexAttention's ``score_mod``."""
    norm, bias = request.norm, request.pattern.bias
    if bias is None and not isinstance(norm, Softcap):
        return None
    of_bias = _at_places(request, bias) if bias is not None and not isinstance(bias, Tensor) else None

    def changed(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if of_bias is not None:
            score = score + of_bias(b, h, i, j)
        elif isinstance(bias, Tensor):
            row, head, query = (
                at if size > 1 else torch.zeros_like(at) for at, size in zip((b, h, i), bias.shape[:3], strict=True)
            )
            score = score + bias[row, head, query, j]
        return norm.cap * torch.tanh(score / norm.cap) if isinstance(norm, Softcap) else score

    return changed
