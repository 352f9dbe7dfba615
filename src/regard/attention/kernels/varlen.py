"""PyTorch's kernel for sequences of different lengths side by side: packed documents on CUDA, in half precision."""

import torch
from jaxtyping import Int32
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from regard.attention.norms import Softmax
from regard.attention.request import Request
from regard.attention.tables import Documents
from regard.attention.where import All, Causal, Where, Window

UNLIMITED = -1


def unfit(request: Request) -> str | None:
    """Why this is no softmax over packed documents that the kernel takes; None if it is."""
    lift, pattern = request.lift, request.pattern
    if not request.queries.is_cuda or request.queries.dtype.itemsize != 2:
        return "varlen is for half precision on CUDA"
    if lift is None or request.gains or not isinstance(request.norm, Softmax):
        return "it is no plain softmax of dot products"
    if pattern.bias is not None or request.dropout:
        return "varlen has neither bias nor dropout"
    if not pattern.counted or request.queries.shape[2] != request.keys.shape[2]:
        return "queries and keys are not the same steps"
    if not lift.queries.shape[-1] == lift.keys.shape[-1] == request.values.shape[-1]:
        return "varlen takes queries, keys and values of one width"
    documents, _ = documents_and_window(pattern.where)
    if documents is None:
        return "the pattern is no packed documents, whole, causal or with a window"
    return None if _in_one_piece(documents) else "a document is in several pieces"


def varlen(request: Request) -> Tensor:
    """Each document by itself, without a mask; padding gets 0."""
    lift = request.lift
    documents, window = documents_and_window(request.pattern.where)
    assert lift is not None and documents is not None
    bounds = bounds_of(documents)
    longest = int(bounds.diff().max())
    queries, keys, values = (one.transpose(1, 2).flatten(0, 1) for one in (lift.queries, lift.keys, request.values))
    out = varlen_attn(
        queries,
        keys,
        values,
        bounds,
        bounds,
        longest,
        longest,
        scale=lift.scale,
        window_size=window,
        enable_gqa=request.groups > 1,
    )
    assert isinstance(out, Tensor)
    padding = (documents.ids < 0)[:, None, :, None]
    return out.unflatten(0, documents.ids.shape).transpose(1, 2).masked_fill(padding, 0.0)


def documents_and_window(where: Where) -> tuple[Documents | None, tuple[int, int]]:
    """The documents of a pattern, and how far back and ahead in them a query looks; None for any other pattern."""
    back, ahead, documents = UNLIMITED, UNLIMITED, None
    for part in _parts(where):
        if isinstance(part, Causal):
            ahead = 0
        elif isinstance(part, Window):
            back = part.back if back == UNLIMITED else min(back, part.back)
            ahead = part.ahead if ahead == UNLIMITED else min(ahead, part.ahead)
        elif isinstance(part, Documents) and documents is None:
            documents = part
        else:
            return None, (back, ahead)
    return documents, (back, ahead)


def _parts(where: Where) -> list[Where]:
    return [part for one in where.of for part in _parts(one)] if isinstance(where, All) else [where]


def bounds_of(documents: Documents) -> Int32[Tensor, "bounds"]:
    """Where runs of one id begin when all rows are one behind the other, and the end of the last."""
    begins = torch.ones_like(documents.ids, dtype=torch.bool)
    begins[:, 1:] = documents.ids[:, 1:] != documents.ids[:, :-1]
    starts = begins.flatten().nonzero()[:, 0]
    return torch.cat([starts, starts.new_tensor([documents.ids.numel()])]).int()


def _in_one_piece(documents: Documents) -> bool:
    """Whether no id comes back in a row after another; padding may."""
    starts = bounds_of(documents)[:-1].long()
    rows, ids = starts // documents.ids.shape[1], documents.ids.flatten()[starts]
    named = torch.stack([rows, ids])[:, ids >= 0]
    return named.unique(dim=1).shape[1] == named.shape[1]
