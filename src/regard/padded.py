"""Sequences of different lengths in one tensor, and the legend of axis names used everywhere.

Axes, in whole words, as they appear in shapes such as ``Float[Tensor, "batch time width"]``:

* ``batch``: source rows; ``beams``: hypotheses per source row; ``rows``: batch * beams, row r is of source r // beams
* ``time``: steps of a sequence; ``source`` and ``target``: the time axes of either side when both occur
* ``queries`` and ``keys``: the two sides of an attention; ``heads``: attention heads
* ``width``: features of a step; ``vocabulary``: scores over tokens
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from numpy import ndarray
from torch import Tensor

Ids = Sequence[int] | Integer[ndarray, "_"]
"""Token ids of one row."""

Record = Ids | Float[ndarray, "_ features"]
"""One row as a model takes it: ids, or features of each step."""


class Padded(NamedTuple):
    """Values and lengths travel together; masks are derived, never passed.

    ``values`` holds ids or feature vectors; steps at and beyond a row's length are padding and must not matter.
    ``segments`` names the sentence, document or source of each step where a row has several.
    """

    values: Shaped[Tensor, "batch time *features"]
    lengths: Int[Tensor, "batch"]
    segments: Int[Tensor, "batch time"] | None = None

    @property
    def mask(self) -> Bool[Tensor, "batch time"]:
        """True where a step is real."""
        steps = torch.arange(self.values.shape[1], device=self.values.device)
        return steps < self.lengths[:, None]

    def rows(self) -> list[list[int]]:
        """The ids of every row, without padding."""
        return [ids[:length] for ids, length in zip(self.values.tolist(), self.lengths.tolist(), strict=True)]

    def to(self, device: torch.device | str) -> "Padded":
        segments = None if self.segments is None else self.segments.to(device)
        return Padded(self.values.to(device), self.lengths.to(device), segments)


def pad(records: Sequence[Record], padding: int = 0) -> Padded:
    """Rows of ids as one right-padded tensor of shape (batch, longest), or of features with their width."""
    lengths = np.array([len(record) for record in records], np.int64)
    real = np.arange(lengths.max(initial=0)) < lengths[:, None]
    width = np.shape(records[0])[1:] if len(records) else ()
    values = np.full((*real.shape, *width), padding, np.float32 if width else np.int64)
    if lengths.any():
        values[real] = np.concatenate([record for record in records if len(record)])
    return Padded(torch.from_numpy(values), torch.from_numpy(lengths))
