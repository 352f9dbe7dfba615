"""Embeddings: from the values of a field to features."""

from itertools import pairwise
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from regard.layers.precision import as_autocast
from regard.padded import Padded


class TokenEmbedding(nn.Module):
    """Ids to vectors, with a weight that an output layer can share.

    The weight is drawn with deviation 1 / sqrt(width) and, if ``scaled``, multiplied by sqrt(width) on the way in, so
    that the same weight gives vectors and logits of unit scale (Press and Wolf 2017, 1608.05859; Vaswani et al. 2017).
    Under autocast the features leave in its precision, and everything that is added to them follows: no copies between
    precisions, half the memory to move.
    """

    def __init__(self, vocabulary: int, width: int, scaled: bool = True):
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(vocabulary, width), std=width**-0.5))
        self.scale = width**0.5 if scaled else 1.0

    def forward(self, tokens: Padded) -> Padded:
        vectors = nn.functional.embedding(tokens.values, self.weight) * self.scale
        return tokens._replace(values=as_autocast(vectors))


class FrameEmbedding(nn.Module):
    """Steps of ``stack`` neighbouring frames to features, by two convolutions over three frames and a GELU after each.

    Their strides make a step of ``stack`` frames again (Radford et al. 2022, arXiv 2212.04356, section 2.2, where
    stack is 2), so that lengths stay as they are. What lies beyond a row's end is zero before each of them.
    """

    STRIDES = MappingProxyType({1: (1, 1), 2: (1, 2), 4: (2, 2)})

    def __init__(self, features: int, stack: int, width: int):
        super().__init__()
        self.stack = stack
        first, second = self.STRIDES[stack]
        self.first = nn.Conv1d(features, width, 3, first, padding=1)
        self.second = nn.Conv1d(width, width, 3, second, padding=1)

    def forward(self, steps: Padded) -> Padded:
        values, lengths = steps.values.unflatten(-1, (self.stack, -1)).flatten(1, 2), steps.lengths * self.stack
        for convolution in (self.first, self.second):
            kept = values * Padded(values, lengths).mask[..., None]
            values = nn.functional.gelu(convolution(kept.transpose(1, 2))).transpose(1, 2)
            lengths = lengths // convolution.stride[0]
        return steps._replace(values=as_autocast(values))


class PatchEmbedding(nn.Module):
    """Patches of a picture, column by column from the left, (batch, steps, height * width * channels), to vectors.

    A linear layer over each patch (Dosovitskiy et al. 2021, arXiv 2010.11929), or with ``stem`` channels 3x3
    convolutions of stride 2 over the whole picture first (Xiao et al. 2021, arXiv 2106.14881), each with twice the
    channels of the one before, until a patch is one column wide: they see beyond its edges. Where ``rows`` patches
    stand above each other, each row has a vector of its own; columns have their place from the encoder. Vectors leave
    normalised, of the scale of token embeddings.
    """

    def __init__(self, patch: tuple[int, int, int], rows: int, width: int, stem: int = 0):
        super().__init__()
        self.patch, self.rows = patch, rows
        halvings = patch[1].bit_length() - 1 if stem else 0
        channels = [patch[2], *(stem << number for number in range(halvings))]
        self.convolutions = nn.ModuleList(nn.Conv2d(*sides, 3, stride=2, padding=1) for sides in pairwise(channels))
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.get_parameter("weight"), nonlinearity="relu")
        self.scale = 2 ** len(self.convolutions)
        self.projection = nn.Linear(channels[-1] * (patch[0] // self.scale) * (patch[1] // self.scale), width)
        self.row = nn.Parameter(torch.zeros(rows, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Padded) -> Padded:
        real = patches.mask[:, :: self.rows].repeat_interleave(self.patch[1], 1)[:, None, None]
        picture = torch.where(real, self._picture(patches.values), 0)
        for convolution in self.convolutions:
            real = real[..., ::2]
            picture = torch.where(real, F.relu(convolution(picture)), 0)  # padding is as empty as what lies outside
        vectors = self.projection(self._cut(picture)).unflatten(1, (-1, self.rows)) + self.row
        return patches._replace(values=as_autocast(self.norm(vectors.flatten(1, 2))))

    def _picture(self, patches: Float[Tensor, "batch steps pixels"]) -> Float[Tensor, "batch channels height width"]:
        grid = patches.unflatten(1, (-1, self.rows)).unflatten(3, self.patch)
        return grid.permute(0, 5, 2, 3, 1, 4).flatten(4, 5).flatten(2, 3)

    def _cut(self, picture: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch steps pixels"]:
        """What has become of each patch."""
        high, wide = (side // self.scale for side in self.patch[:2])
        grid = picture.unflatten(3, (-1, wide)).unflatten(2, (self.rows, high))
        return grid.permute(0, 4, 2, 3, 5, 1).flatten(3, 5).flatten(1, 2)
