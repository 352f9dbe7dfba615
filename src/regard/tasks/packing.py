"""A long stream of tokens as training examples: windows without padding, cut at other places every time."""

import numpy as np
import torch
from jaxtyping import Int, Integer
from numpy import ndarray

from regard.data.tokenisers import START
from regard.padded import Padded
from regard.tasks.task import Batch


class PackedWindows:
    """As many windows of ``width`` tokens as the stream holds, each after the start token.

    Whenever a window is asked for it begins somewhere else within its share of the stream, as torch's generator says.
    """

    def __init__(self, stream: Integer[ndarray, "tokens"], width: int):
        self.stream, self.width = stream, min(width, len(stream))

    @property
    def lengths(self) -> Int[ndarray, "windows 2"]:
        """Of the start token and of the window."""
        return np.broadcast_to(np.array([1, self.width]), (len(self), 2))

    def __len__(self) -> int:
        return len(self.stream) // self.width

    def batch(self, rows: Int[ndarray, "rows"]) -> Batch:
        """Some windows side by side."""
        drawn = torch.randint(self.width, (len(rows),)).numpy()
        starts = np.minimum(rows * self.width + drawn, len(self.stream) - self.width)
        windows = self.stream[starts[:, None] + np.arange(self.width)].astype(np.int64)
        ones = torch.ones(len(rows), dtype=torch.long)
        target = Padded(torch.from_numpy(windows), ones * self.width)
        return Batch(Padded(torch.full_like(ones, START)[:, None], ones), target)
