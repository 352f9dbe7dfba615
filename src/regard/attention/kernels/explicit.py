"""The specification itself, and the kernels that compute it as it stands: at once, or in blocks of rows."""

from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from regard.attention.request import CACHED, WHOLE, Block, Request, of_keys, product
from regard.randomness import drop


def specification(request: Request) -> Tensor:
    """norm(score(q, k) + bias, where) . v, word for word."""
    weights = request.norm(request.specified(), request.pattern.keep())
    dropped = drop(request.gained(weights), request.dropout)
    values = request.values
    return dropped @ (values if request.groups == 1 else values.repeat_interleave(request.groups, dim=1))


def weights_of(request: Request, block: Block = WHOLE) -> Tensor:
    """The weights of a block, before dropout."""
    scores = request.scores(block)
    if not scores.shape[-1]:  # several norms look for the best key
        return scores
    return request.gained(request.norm(scores, request.pattern.keep(block)), block)


def explicit(request: Request) -> Tensor:
    """The same by one product for all heads that share keys."""
    return _block(request, WHOLE)


def rows(request: Request) -> Tensor:
    """The same in blocks of rows that stay in the cache; backward they are computed once more instead of kept."""
    blocks = row_blocks(request)
    if not torch.is_grad_enabled():
        return torch.cat([_block(request, block) for block in blocks], dim=2)
    again = [cast(Tensor, checkpoint(_block, request, block, use_reentrant=False)) for block in blocks]
    return torch.cat(again, dim=2)


def row_blocks(request: Request) -> list[Block]:
    """All queries in blocks whose weights, or what makes them, stay in the cache."""
    queries = request.queries.shape[2]
    step = max(1, CACHED // max(1, _row_size(request)))
    return [Block(queries=slice(first, first + step)) for first in range(0, max(1, queries), step)]


def _row_size(request: Request) -> int:
    """Numbers that one query of every head and row makes; a score that is no product has a vector for each key."""
    batch, heads, _, width = request.queries.shape
    return batch * heads * request.keys.shape[2] * (1 if request.lift else width)


def _block(request: Request, block: Block) -> Tensor:
    weights = drop(weights_of(request, block), request.dropout)
    return product(weights, of_keys(request.values, block))
