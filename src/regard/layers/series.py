"""What a window of a series goes through first: its own level and scale taken out, and cut into patches."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard.layers.precision import as_autocast
from regard.padded import Padded

LEAST_VARIANCE = 1e-5


class Window(NamedTuple):
    """What all windows have alike: steps back, variables, steps ahead, and values for each of these."""

    steps: int
    variables: int
    horizon: int
    outputs: int


class Level(NamedTuple):
    """The mean and the deviation of each variable over the steps of a window."""

    mean: Float[Tensor, "batch 1 variables"]
    deviation: Float[Tensor, "batch 1 variables"]


def level(source: Padded) -> Level:
    """Of windows that are full; one that does not change has a small deviation and not none."""
    variance, mean = torch.var_mean(source.values, 1, correction=0, keepdim=True)
    return Level(mean, (variance + LEAST_VARIANCE).sqrt())


class SeriesEmbedding(nn.Module):
    """Windows without their level: reversible instance normalisation (Kim et al. 2022, ICLR), whose way back is the
    head's, without the affine map that later models leave out (Nie et al. 2023, arXiv 2211.14730). The features of a
    step are the variables, whatever the width of the model."""

    def __init__(self, window: Window):
        super().__init__()
        self.window = window

    def forward(self, source: Padded) -> Padded:
        mean, deviation = level(source)
        return source._replace(values=as_autocast((source.values - mean) / deviation))


class Patches(nn.Module):
    """Each ``length`` steps as a vector, every ``stride`` steps, the last value repeated for one stride more.

    Patches of PatchTST (Nie et al. 2023, arXiv 2211.14730, section 3.1); windows shorter than a patch are one.
    """

    def __init__(self, steps: int, length: int, stride: int, width: int):
        super().__init__()
        self.length, self.stride = min(length, steps), stride
        self.number = (steps + stride - self.length) // stride + 1
        self.begins = [min(patch * stride, steps - 1) for patch in range(self.number)]
        self.projection = nn.Linear(self.length, width)

    def forward(self, steps: Float[Tensor, "rows steps"]) -> Float[Tensor, "rows patches width"]:
        padded = torch.cat([steps, steps[:, -1:].expand(-1, self.stride)], 1)
        return self.projection(padded.unfold(1, self.length, self.stride))
