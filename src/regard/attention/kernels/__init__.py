"""The kernels, and which of them a request gets: the fastest that fits it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from regard.attention.kernels import cuda, planning, softmax
from regard.attention.kernels.explicit import explicit, is_short, rows, specification
from regard.attention.request import Request
from regard.errors import AttentionError, did_you_mean

PAYS = 0.7
"""Blocks are worth their own calls when they compute less than this share of all pairs."""


class Kernel(NamedTuple):
    """A way to compute a request: why it cannot (None: it can), and how; the softmax kernels give lse too."""

    unfit: Callable[[Request], str | None]
    run: Callable[[Request], Tensor | tuple[Tensor, Tensor]]


KERNELS = {
    "explicit": Kernel(lambda request: None, explicit),
    "fused": Kernel(softmax.unfit_fused, softmax.fused),
    "spans": Kernel(lambda request: softmax.unfit(request) or planning.unfit(request), softmax.spans),
    "rows": Kernel(lambda request: None, rows),
    "sdpa": Kernel(cuda.unfit_sdpa, cuda.sdpa),
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
    if request.queries.is_cuda:
        return _best_on_cuda(request)
    if is_short(request):
        return "explicit", "short rows"
    if no_softmax := softmax.unfit(request):
        return "rows", no_softmax
    if softmax.is_plain_causal(request) and not request.dropout:
        return "fused", "causal"
    if no_slices := planning.unfit(request):
        return ("rows", f"dropout, and {no_slices}") if request.dropout else ("fused", no_slices)
    if request.dropout:
        return "spans", "dropout in blocks"
    if (share := planning.share(request)) < PAYS:
        return "spans", f"{share:.0%} of all pairs are looked at"
    return "fused", "most pairs are looked at"


def _best_on_cuda(request: Request) -> tuple[str, str]:
    if not (no_sdpa := cuda.unfit_sdpa(request)):
        return "sdpa", "a softmax of dot products"
    if not (no_flex := cuda.unfit_flex(request)):
        return "flex", f"not sdpa: {no_sdpa}"
    return "rows", f"not sdpa: {no_sdpa}; not flex: {no_flex}"
