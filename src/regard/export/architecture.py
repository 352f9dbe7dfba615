"""What is said of an architecture of another package, so that its models can be read and written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

Config = dict[str, Any]


class Value(NamedTuple):
    """How a value of their config.json becomes a setting of ours, and back; KeyError: there is no such."""

    read: Callable[[Any], Any]
    write: Callable[[Any], Any]


def one_of(table: dict[Any, Any]) -> Value:
    """Their words for ours; of several for the same the first is written."""
    back = {ours: theirs for theirs, ours in reversed(table.items())}
    return Value(table.__getitem__, back.__getitem__)


AS_IT_IS = Value(lambda theirs: theirs, lambda ours: ours)


class Change(NamedTuple):
    """How a tensor of theirs becomes ours, and back."""

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


SAME = Change(lambda theirs: theirs, lambda ours: ours)
TRANSPOSED = Change(lambda theirs: theirs.T, lambda ours: ours.T)
ROW = Change(lambda theirs: theirs[0], lambda ours: ours[None])
AFTER_TWO = Change(lambda theirs: theirs[2:], lambda ours: torch.cat([torch.zeros_like(ours[:2]), ours]))
BY_ROOT_OF_WIDTH = Change(
    lambda theirs: theirs / theirs.shape[-1] ** 0.5, lambda ours: ours * ours.shape[-1] ** 0.5
)  # tied outputs are scaled by it, which our embedding undoes on the way in


@dataclass(frozen=True)
class Architecture:
    """What their model of one kind is in our terms."""

    kind: str
    """Their ``model_type``."""
    model: str
    """Their class, for their ``architectures``."""
    settings: Mapping[str, Any]
    """Of ours, what is so in all of these models."""
    keys: Mapping[str, str]
    """Their keys of config.json, with the paths of our settings that they give."""
    weights: Mapping[str, str]
    """Our modules or weights, with theirs; several of theirs lie one after the other in one of ours."""
    values: Mapping[str, Value] = field(default_factory=dict)
    """Of their keys, those whose values are not ours as they are."""
    defaults: Config = field(default_factory=dict)
    """Of their keys."""
    completed: Callable[[Config], Config] = dict
    """A config.json with what follows from its other values."""
    required: Config = field(default_factory=dict)
    """Their keys that must have this value, or be left out."""
    written: Config = field(default_factory=dict)
    """What config.json says beside ``keys``."""
    changes: Mapping[str, Change] = field(default_factory=dict)
    """Of our weights that are not theirs as they are."""
    copies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Their tensors, with the other names under which a file may hold the same."""
    buffers: frozenset[str] = frozenset()
    """What their files may hold beside weights."""
    prefix: str = ""
    """Left out of all names in files of models without a head."""


def under(ours: str, theirs: str, table: Mapping[str, str]) -> dict[str, str]:
    """A table of names with what stands before them on either side."""
    return {f"{ours}{mine}": " ".join(theirs + one for one in its.split()) for mine, its in table.items()}


def both(path: str) -> str:
    """The same setting of either side."""
    return f"encoder.{path} decoder.{path}"
