"""Which keys each block of queries needs: intervals of positions as slices of keys."""

from itertools import product

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from regard.attention.request import CACHED, Block, Request
from regard.attention.where import BEGIN, END

QUERIES = 128
"""Queries of a block, which share their slices of keys."""

Bounds = list[list[list[int]]]
"""For each row, or for all rows alike, for each block of queries: a bound of each interval of keys."""


def unfit(request: Request) -> str | None:
    """Why a request cannot be cut into slices of keys."""
    if request.pattern.counted or (
        len(request.pattern.keys_at) == 1 and bool((request.pattern.keys_at.diff() > 0).all())
    ):
        return None
    return "the keys are not in the order of their positions"


def plan(request: Request) -> list[Block]:
    """Blocks that hold every query that sees a key; small ones with dropout, for which their weights must exist."""
    blocks = _blocks(request)
    return [part for block in blocks for part in _cut(block, request.queries.shape[1])] if request.dropout else blocks


def share(request: Request) -> float:
    """How much of all pairs of query and key the blocks compute."""
    batch, _, queries, _ = request.queries.shape
    pairs = sum(
        _length(block.rows) * _length(block.queries) * sum(map(_length, block.keys)) for block in _blocks(request)
    )
    return pairs / (batch * queries * request.keys.shape[2])


def _blocks(request: Request) -> list[Block]:
    batch, _, queries, _ = request.queries.shape
    firsts, lasts = _bounds(request)
    rows = [slice(0, batch)] if len(firsts) == 1 else [slice(row, row + 1) for row in range(batch)]
    pieces = [slice(first, min(first + QUERIES, queries)) for first in range(0, queries, QUERIES)]
    return [
        Block(row, piece, keys)
        for row, of_row in zip(rows, zip(firsts, lasts, strict=True), strict=True)
        for piece, *bounds in zip(pieces, *of_row, strict=True)
        if (keys := _merged(*bounds))
    ]


def _bounds(request: Request) -> tuple[Bounds, Bounds]:
    """The first key and the one after the last of every interval that some query of a block looks into."""
    spans = request.pattern.where.spans(request.pattern.at) or (
        (torch.full_like(request.pattern.at, BEGIN), torch.full_like(request.pattern.at, END)),
    )
    first, last = (torch.stack(torch.broadcast_tensors(*ends)) for ends in zip(*spans, strict=True))
    empty = last < first
    starts, stops = (
        _of_blocks(first.masked_fill(empty, END), END).amin(-1),
        _of_blocks(last.masked_fill(empty, BEGIN), BEGIN).amax(-1),
    )
    keys_at = request.pattern.keys_at[0].contiguous()
    starts, stops = torch.searchsorted(keys_at, starts), torch.searchsorted(keys_at, stops, right=True)
    return starts.permute(1, 2, 0).tolist(), stops.permute(1, 2, 0).tolist()


def _of_blocks(
    positions: Int[Tensor, "intervals rows queries"], filler: int
) -> Int[Tensor, "intervals rows blocks size"]:
    return F.pad(positions, (0, -positions.shape[-1] % QUERIES), value=filler).unflatten(-1, (-1, QUERIES)).contiguous()


def _merged(starts: list[int], stops: list[int]) -> tuple[slice, ...]:
    """Intervals without overlap, in order."""
    merged: list[slice] = []
    for start, stop in sorted(zip(starts, stops, strict=True)):
        if start >= stop:
            continue
        if merged and start <= merged[-1].stop:
            merged[-1] = slice(merged[-1].start, max(stop, merged[-1].stop))
        else:
            merged.append(slice(start, stop))
    return tuple(merged)


def _cut(block: Block, heads: int) -> list[Block]:
    """Blocks of so many weights at most, or of one query."""
    of_query = heads * sum(map(_length, block.keys))
    queries = max(1, min(_length(block.queries), CACHED // of_query))
    rows = max(1, CACHED // (of_query * queries))
    parts = product(_parts(block.rows, rows), _parts(block.queries, queries))
    return [Block(some_rows, some_queries, block.keys) for some_rows, some_queries in parts]


def _parts(whole: slice, size: int) -> list[slice]:
    return [slice(first, min(first + size, whole.stop)) for first in range(whole.start, whole.stop, size)]


def _length(part: slice) -> int:
    return part.stop - part.start
