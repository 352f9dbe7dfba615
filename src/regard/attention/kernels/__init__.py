"""The kernels, and which of them a request gets: the fastest that fits it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from regard.attention.kernels import cuda, planning, softmax, varlen
from regard.attention.kernels.explicit import explicit, rows, specification
from regard.attention.request import Request
from regard.errors import AttentionError, did_you_mean

SHORT, SHORT_ROWS, SHORT_HALF = 96 * 96, 192 * 192, 512 * 512
"""Queries x keys up to which the explicit product beats, on a CPU, the fused kernel in full precision, what is computed
once more in the backward, and the fused kernel in half precision (7 to 15 times at length 16, 2.5 times at 512)."""

PAYS, PAYS_HALF = 0.7, 0.35
"""Blocks are worth their calls below this share of all pairs, beside the fused kernel and the explicit product."""


class Kernel(NamedTuple):
    """A way to compute a request: why it cannot (None: it can), and how; the softmax kernels give lse too."""

    unfit: Callable[[Request], str | None]
    run: Callable[[Request], Tensor | tuple[Tensor, Tensor]]


KERNELS = {
    "explicit": Kernel(lambda request: None, explicit),
    "fused": Kernel(softmax.unfit_fused, softmax.fused),
    "spans": Kernel(softmax.unfit_spans, softmax.spans),
    "rows": Kernel(lambda request: None, rows),
    "sdpa": Kernel(cuda.unfit_sdpa, cuda.sdpa),
    "varlen": Kernel(varlen.unfit, varlen.varlen),
    "flex": Kernel(cuda.unfit_flex, cuda.flex),
    "specification": Kernel(lambda request: None, specification),
}


def chosen(request: Request, name: str) -> tuple[Kernel, str]:
    """The kernel of that name, or for "auto" the one that fits best, and why.

    Raises:
        AttentionError: there is no such kernel, or the request does not fit it.
    """
    if name == "auto":
        name, reason = _best(request)
        return KERNELS[name], f"{name}: {reason}"
    if name not in KERNELS:
        raise AttentionError(f"no kernel '{name}'", hint=did_you_mean(name, [*KERNELS, "auto"]))
    if refusal := KERNELS[name].unfit(request):
        raise AttentionError(f"kernel '{name}' cannot do this: {refusal}", hint="kernel='auto' chooses one that can")
    return KERNELS[name], f"{name}: asked for"


def _best(request: Request) -> tuple[str, str]:
    if torch.compiler.is_compiling():
        if no_sdpa := cuda.unfit_sdpa(request):
            return "explicit", f"compiled, and not sdpa: {no_sdpa}"
        return "sdpa", "compiled"
    if request.queries.device.type != "cpu":
        return _best_elsewhere(request)
    queries, keys = request.queries.shape[2], request.keys.shape[2]
    if queries == 1 or queries * keys <= SHORT:
        return "explicit", "short rows"
    if no_softmax := softmax.unfit(request):
        return "explicit" if queries * keys <= SHORT_ROWS else "rows", no_softmax
    half = request.queries.dtype.itemsize < 4 and queries * keys <= SHORT_HALF
    if not (no_slices := planning.unfit(request)) and not softmax.is_plain_causal(request):
        share = planning.share(request)
        if share < (PAYS_HALF if half else PAYS):
            return "spans", f"{share:.0%} of all pairs are looked at"
    if half or (request.dropout and queries * keys <= SHORT_ROWS):
        return "explicit", "short rows"
    if request.dropout:
        return ("rows", f"dropout, and {no_slices}") if no_slices else ("spans", "dropout in blocks")
    return "fused", no_slices or "most pairs are looked at"


def _best_elsewhere(request: Request) -> tuple[str, str]:
    if not varlen.unfit(request):
        return "varlen", "packed documents"
    if not (no_sdpa := cuda.unfit_sdpa(request)):
        return "sdpa", "a softmax of dot products"
    if not (no_flex := cuda.unfit_flex(request)):
        return "flex", f"not sdpa: {no_sdpa}"
    return "rows", f"not sdpa: {no_sdpa}; not flex: {no_flex}"
