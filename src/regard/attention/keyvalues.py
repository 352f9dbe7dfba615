"""What is remembered between calls: the keys and values so far, or only those that a window can still see."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard.attention.where import END
from regard.trees import Growing, grow


class KeyValues(NamedTuple):
    """What is looked up and what is found there, one head axis after the rows."""

    keys: Float[Tensor, "batch kv_heads keys features"]
    values: Float[Tensor, "batch value_heads keys values"]


class Ring(NamedTuple):
    """The last steps of each row: position p is in slot p % room of every buffer, (rows, heads, room, width)."""

    buffers: tuple[Tensor, ...]
    at: Int[Tensor, "rows room"]
    lengths: Int[Tensor, "rows"]


Cache = Growing | Ring
"""A nest of tensors, consumed by `extend`."""


class Seen(NamedTuple):
    """What queries of a chunk can look at, and at which positions it stands (None: at 0 and on)."""

    buffers: tuple[Tensor, ...]
    at: Int[Tensor, "rows keys"] | None


def start(empty: tuple[Tensor, ...], lengths: Int[Tensor, "rows"], room: int, reach: int | None) -> Cache:
    """Nothing seen yet. ``empty`` are buffers of no steps; a ring when no query looks further back than ``reach``.

    With no ``room`` the first chunk is adopted without copying, as in training.
    """
    ring = reach is not None and reach + 1 < room
    steps = reach + 1 if ring and reach is not None else room
    buffers = tuple(one.new_zeros(*one.shape[:-2], steps, one.shape[-1]) for one in empty)
    return Ring(buffers, lengths.new_full((len(lengths), steps), END), lengths) if ring else Growing(buffers, lengths)


def extend(cache: Cache, new: tuple[Tensor, ...], counts: Int[Tensor, "rows"]) -> tuple[Cache, Seen]:
    """A chunk of steps more, ``counts[r]`` of them real in row r, and all that its queries can look at."""
    if isinstance(cache, Ring):
        return _turn(cache, new, counts)
    grown = grow(cache, new, counts)
    if grown.buffers is new:
        return grown, Seen(new, None)
    return grown, Seen(tuple(buffer.narrow(-2, 0, grown.used) for buffer in grown.buffers), None)


def _turn(ring: Ring, new: tuple[Tensor, ...], counts: Tensor) -> tuple[Ring, Seen]:
    steps, room = new[0].shape[-2], ring.at.shape[1]
    offsets = torch.arange(steps, device=counts.device)
    at = ring.lengths[:, None] + offsets
    lengths = ring.lengths + counts
    seen = Seen(
        tuple(torch.cat(both, -2) for both in zip(ring.buffers, new, strict=True)),
        torch.cat([ring.at, at.masked_fill(offsets >= counts[:, None], END)], 1),
    )
    rows, steps_kept = ((offsets < counts[:, None]) & (at >= lengths[:, None] - room)).nonzero(as_tuple=True)
    slots = at[rows, steps_kept] % room
    ring.at[rows, slots] = at[rows, steps_kept]
    for buffer, chunk in zip(ring.buffers, new, strict=True):
        buffer.movedim(-2, 1)[rows, slots] = chunk.movedim(-2, 1)[rows, steps_kept]
    turned = Ring(ring.buffers, ring.at, lengths)
    # after one step what it replaced is out of reach, so that its query needs no copy of the ring
    return turned, Seen(ring.buffers, ring.at) if steps == 1 else seen
