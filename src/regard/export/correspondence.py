"""Which tensors of theirs hold each weight of ours, and how one becomes the other."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.errors import InputError
from regard.export.architecture import SAME, Architecture, Change
from regard.export.configuration import explicit
from regard.export.tensors import TYPES, Stored, read
from regard.models.model import ModelSettings

MOST_NAMED = 4


class Counterpart(NamedTuple):
    """Tensors of theirs that lie one after the other in a weight of ours, and in which proportion."""

    names: tuple[str, ...]
    shares: tuple[int, ...]
    change: Change


def counterparts(weights: Iterable[str], architecture: Architecture, settings: ModelSettings) -> dict[str, Counterpart]:
    """Of each of our weights.

    Raises:
        InputError: the architecture has nothing for one of them.
    """
    ours = explicit(settings)
    return {name: _counterpart(name, architecture, ours) for name in weights}


def in_their_form(weights: Mapping[str, Tensor], found: Mapping[str, Counterpart]) -> dict[str, Tensor]:
    """Our weights under their names."""
    written: dict[str, Tensor] = {}
    for name, (names, shares, change) in found.items():
        whole = change.write(weights[name])
        sizes = [len(whole) * share // sum(shares) for share in shares]
        written |= dict(zip(names, whole.split(sizes), strict=True))
    return written


@torch.no_grad()
def fill(
    weights: Mapping[str, Tensor],
    found: Mapping[str, Counterpart],
    stored: Mapping[str, Stored],
    architecture: Architecture,
) -> None:
    """Our weights from their tensors, which are known to fit.

    Raises:
        InputError: two copies of a tensor differ.
    """
    wanted = {name for counterpart in found.values() for name in counterpart.names}
    for name, (names, _, change) in found.items():
        pieces = [_same(present_copies(one, wanted, stored, architecture), stored) for one in names]
        weights[name].copy_(change.read(torch.cat(pieces)))


def refuse_misfits(wanted: Mapping[str, Tensor], stored: Mapping[str, Stored], architecture: Architecture) -> None:
    """Nothing is missing, foreign, or of another type or shape.

    Raises:
        InputError: something is; up to four are named.
    """
    present = {name: present_copies(name, {*wanted}, stored, architecture) for name in wanted}
    used = {copy for copies in present.values() for copy in copies}
    buffers = {name for name in stored if re.sub(r"\.\d+\.", ".#.", name, count=1) in architecture.buffers}
    problems = {
        "missing": [name for name, copies in present.items() if not copies],
        "of another model": [*stored.keys() - used - buffers],
        f"not of the types {', '.join(sorted(TYPES))}": [name for name in used if stored[name].type not in TYPES],
        "of another shape than config.json says": [
            f"{copy} {[*stored[copy].shape]} for {[*wanted[name].shape]}"
            for name, copies in present.items()
            for copy in copies
            if stored[copy].shape != (*wanted[name].shape,)
        ],
    }
    told = [
        f"{len(names)} {what}: {', '.join(sorted(names)[:MOST_NAMED])}" for what, names in problems.items() if names
    ]
    if told:
        raise InputError("; ".join(told), where="model.safetensors")


def present_copies(name: str, wanted: set[str], stored: Mapping[str, Stored], architecture: Architecture) -> list[str]:
    """The names under which a tensor is stored, without those that are wanted for another weight."""
    copies = (copy for copy in architecture.copies.get(name, ()) if copy not in wanted)
    return [one for one in (name, *copies) if one in stored]


def _counterpart(name: str, architecture: Architecture, ours: dict[str, Any]) -> Counterpart:
    number = re.search(r"\.(\d+)\.", name)
    key = re.sub(r"\.\d+\.", ".#.", name)
    module, _, leaf = key.rpartition(".")
    theirs = architecture.weights.get(key, "").split()
    theirs = theirs or [f"{one}.{leaf}" for one in architecture.weights.get(module, "").split()]
    if not theirs:
        raise InputError(f"{architecture.model} has nothing like the model's {name}", where="model")
    names = tuple(one.replace("#", number[1]) if number else one for one in theirs)
    return Counterpart(names, _shares(name, len(names), ours), architecture.changes.get(key, SAME))


def _shares(name: str, parts: int, ours: dict[str, Any]) -> tuple[int, ...]:
    """Heads of queries, keys and values where three lie together; others are of one size."""
    if parts < 3:
        return (1,) * parts
    side = ours[name.split(".")[0]]
    kv_heads = side["cross_attention" if "cross_attention" in name else "attention"]["layout"]["kv_heads"]
    return side["heads"], kv_heads, kv_heads


def _same(names: list[str], stored: Mapping[str, Stored]) -> Tensor:
    first, *others = (read(stored[name]) for name in names)
    if not all(torch.equal(first, other) for other in others):
        raise InputError(f"{' and '.join(names)} differ, and config.json has them as one", where="model.safetensors")
    return first
