"""Nests of tensors, batch first: the only thing search and decoders agree on.

A nest is a tensor, None, which stands for no tensor, or a tuple, named tuple, list or dict of nests. `Growing` is the
one node with a meaning of its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

Nest = Any


class Growing(NamedTuple):
    """What grows with every step, such as keys and values: row r has used the first ``lengths[r]`` steps of the room.

    Time is the second to last axis of every buffer: ``(rows, ..., room, width)``.
    """

    buffers: tuple[Tensor, ...]
    lengths: Int[Tensor, "rows"]

    @property
    def used(self) -> int:
        return int(self.lengths.max()) if len(self.lengths) else 0


def rebuild(node: Nest, children: list[Nest]) -> Nest:
    """A container of the same kind as ``node`` around other children."""
    if node is None:
        return None
    if isinstance(node, dict):
        return dict(zip(node, children, strict=True))
    return type(node)(*children) if hasattr(node, "_fields") else type(node)(children)


def children_of(node: Nest) -> dict[str, Nest]:
    """The named children of a container; nothing for a tensor or None."""
    if node is None or isinstance(node, Tensor):
        return {}
    if isinstance(node, dict):
        return {str(key): child for key, child in node.items()}
    if isinstance(node, tuple | list):
        names = getattr(node, "_fields", range(len(node)))
        return {str(name): child for name, child in zip(names, node, strict=True)}
    raise TypeError(f"a nest holds tensors, tuples, lists and dicts, not {type(node).__name__}")


def map(function: Callable[[Tensor], Tensor], nest: Nest) -> Nest:
    """The same nest with ``function`` applied to every tensor."""
    if isinstance(nest, Tensor):
        return function(nest)
    return rebuild(nest, [map(function, child) for child in children_of(nest).values()])


def leaves(nest: Nest, path: str = "") -> dict[str, Tensor]:
    """Every tensor by its path, such as ``layers/0/lengths``."""
    if isinstance(nest, Tensor):
        return {path: nest}
    found: dict[str, Tensor] = {}
    for name, child in children_of(nest).items():
        found |= leaves(child, f"{path}/{name}" if path else name)
    return found


def repeat(nest: Nest, times: int) -> Nest:
    """Every row ``times`` times, neighbours together: row r of the result is row r // times of the nest."""
    return nest if times == 1 else map(lambda leaf: leaf.repeat_interleave(times, dim=0), nest)


def select(nest: Nest, rows: Int[Tensor, "chosen"]) -> Nest:
    """The nest with the given rows in the given order; of what grows, only the used steps are copied."""
    if torch.equal(rows, torch.arange(rows_of(nest), device=rows.device)):
        return nest
    return _select(nest, rows)


def rows_of(nest: Nest) -> int:
    """How many rows the tensors of a nest have."""
    return len(next(iter(leaves(nest).values())))


def _select(nest: Nest, rows: Tensor) -> Nest:
    if isinstance(nest, Tensor):
        return nest.index_select(0, rows)
    if isinstance(nest, Growing):
        return Growing(
            tuple(_select_used(buffer, nest.used, rows) for buffer in nest.buffers), _select(nest.lengths, rows)
        )
    return rebuild(nest, [_select(child, rows) for child in children_of(nest).values()])


def _select_used(buffer: Tensor, used: int, rows: Tensor) -> Tensor:
    selected = buffer.new_empty(len(rows), *buffer.shape[1:])
    torch.index_select(buffer.narrow(-2, 0, used), 0, rows, out=selected.narrow(-2, 0, used))
    return selected


def grow(growing: Growing, new: tuple[Tensor, ...], counts: Int[Tensor, "rows"]) -> Growing:
    """Append a chunk of steps, ``counts[r]`` of them real in row r.

    The first chunk is adopted without copying. Later ones are written into the room in place, so the nest given is
    consumed; a room that is too small is doubled.
    """
    lengths = growing.lengths + counts
    steps = new[0].shape[-2]
    used, room = growing.used, growing.buffers[0].shape[-2]
    if room == 0:
        return Growing(new, lengths)
    roomy = (
        growing.buffers
        if used + steps <= room
        else tuple(_enlarge(buffer, used, max(2 * room, used + steps)) for buffer in growing.buffers)
    )
    for buffer, chunk in zip(roomy, new, strict=True):
        _write(buffer, chunk, growing.lengths, used)
    return Growing(roomy, lengths)


def _enlarge(buffer: Tensor, used: int, room: int) -> Tensor:
    enlarged = buffer.new_empty(*buffer.shape[:-2], room, buffer.shape[-1])
    enlarged.narrow(-2, 0, used).copy_(buffer.narrow(-2, 0, used))
    return enlarged


def _write(buffer: Tensor, chunk: Tensor, starts: Tensor, used: int) -> None:
    steps = chunk.shape[-2]
    if bool((starts == used).all()):
        buffer.narrow(-2, used, steps).copy_(chunk)
        return
    buffer.narrow(-2, used, steps).zero_()  # rows that are behind must not find NaN there: 0 x NaN is NaN
    rows = torch.arange(len(starts), device=starts.device)[:, None]
    positions = starts[:, None] + torch.arange(steps, device=starts.device)
    buffer.movedim(-2, 1)[rows, positions] = chunk.movedim(-2, 1)
