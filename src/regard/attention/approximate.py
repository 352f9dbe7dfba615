"""Mixers for encoders, in linear time: every step sees all steps of its row."""

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention.forgetting import MixerPart
from regard.attention.mixers import Heads, LinearAttentionPart, NonCausal, PerformerPart
from regard.attention.norms import softmax
from regard.errors import InputError
from regard.settings import Settings


class Linformer(Heads):
    """softmax(q (E k)^T / sqrt(width)) F v: keys and values projected along time to ``rank`` of them.

    Wang et al. 2020, arXiv 2006.04768, equation 7, with E and F shared by the heads. Padding is zero before it is
    projected, so it adds nothing.

    Raises:
        InputError: more steps than ``longest``, which is how many E and F were made for.
    """

    def __init__(self, width: int, heads: int, longest: int = 512, rank: int = 128):
        super().__init__(width, heads)
        self.key_rows = nn.Parameter(torch.empty(rank, longest).normal_(std=rank**-0.5))
        self.value_rows = nn.Parameter(torch.empty(rank, longest).normal_(std=rank**-0.5))

    def forward(
        self, inputs: Float[Tensor, "rows time width"], lengths: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows time width"]:
        time, longest = inputs.shape[1], self.key_rows.shape[1]
        if time > longest:
            raise InputError(f"{time} steps, but this Linformer was made for at most {longest}")
        steps = self.project(inputs, lengths)
        keys, values = self.key_rows[:, :time] @ steps.keys, self.value_rows[:, :time] @ steps.values
        return self.join(F.scaled_dot_product_attention(steps.queries, keys, values))


class Nystrom(Heads):
    """softmax(q l_k^T) softmax(l_q l_k^T)^+ softmax(l_q k^T) v, where the landmarks l are means of segments.

    Xiong et al. 2021, arXiv 2102.03902, with their convolution of the values along time added, over ``reach`` steps to
    either side. Each row is cut into segments of its own real steps, so padding does not matter; a row of fewer steps
    than ``landmarks`` has one for each step.
    """

    def __init__(self, width: int, heads: int, landmarks: int = 64, iterations: int = 6, reach: int = 16):
        super().__init__(width, heads)
        self.landmarks, self.iterations = landmarks, iterations
        self.nearby = nn.Conv1d(heads, heads, 2 * reach + 1, padding=reach, groups=heads, bias=False)

    def forward(
        self, inputs: Float[Tensor, "rows time width"], lengths: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows time width"]:
        steps = self.project(inputs, lengths)
        queries, keys = steps.queries * self.head_width**-0.25, steps.keys * self.head_width**-0.25
        means = segment_means(lengths, inputs.shape[1], self.landmarks, keys.dtype)
        marks, seen = means.any(-1, keepdim=True), steps.real.mT.bool()
        query_marks, key_marks = means @ queries, means @ keys
        inverse = pseudo_inverse(softmax(query_marks @ key_marks.mT, marks & marks.mT), self.iterations)
        through = inverse @ (softmax(query_marks @ keys.mT, marks & seen) @ steps.values)
        found = softmax(queries @ key_marks.mT, marks.mT) @ through
        return self.join(found + self._convolved(steps.values))

    def _convolved(self, values: Tensor) -> Tensor:
        """One filter for all features of a head."""
        by_feature = values.permute(0, 3, 1, 2)
        filtered = self.nearby(by_feature.flatten(0, 1))
        return filtered.unflatten(0, by_feature.shape[:2]).permute(0, 2, 3, 1)


class BothWays(nn.Module):
    """What one mixer sees of the steps up to each, and another of those from it on, added up."""

    def __init__(self, onward: nn.Module, homeward: nn.Module):
        super().__init__()
        self.onward, self.homeward = onward, homeward

    def forward(
        self, inputs: Float[Tensor, "rows time width"], lengths: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows time width"]:
        found, _ = self.onward(inputs, lengths)
        found_back, _ = self.homeward(reversed_rows(inputs, lengths), lengths)
        return found + reversed_rows(found_back, lengths)


def reversed_rows(
    values: Float[Tensor, "rows time width"], lengths: Int[Tensor, "rows"]
) -> Float[Tensor, "rows time width"]:
    """The real steps of each row from the last to the first; padding stays behind them."""
    steps = torch.arange(values.shape[1], device=values.device)
    places = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return values.take_along_dim(places[..., None], dim=1)


def segment_means(
    lengths: Int[Tensor, "rows"], time: int, segments: int, dtype: torch.dtype
) -> Float[Tensor, "rows 1 segments time"]:
    """What each step weighs in the mean of each segment; segments are as equal as a row's length allows."""
    steps = torch.arange(time, device=lengths.device)
    segment = steps * segments // lengths.clamp(min=1)[:, None]
    inside = segment[:, None] == torch.arange(segments, device=lengths.device)[:, None]
    inside = (inside & (steps < lengths[:, None])[:, None]).to(dtype)
    return (inside / inside.sum(-1, keepdim=True).clamp(min=1))[:, None]


def pseudo_inverse(
    matrix: Float[Tensor, "rows heads size size"], iterations: int
) -> Float[Tensor, "rows heads size size"]:
    """The Moore-Penrose inverse of matrices whose rows sum to 1 or are 0, by iteration (section 3.4 of the paper)."""
    with torch.autocast(matrix.device.type, enabled=False):
        exact = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
        identity = torch.eye(exact.shape[-1], dtype=exact.dtype, device=exact.device)
        # of such rows some column sums to 1 or more, unless all are 0
        inverse = exact.mT / exact.sum(-2).amax(-1).clamp(min=1)[..., None, None]
        for _ in range(iterations):
            product = exact @ inverse
            polynomial = 15 * identity - product @ (7 * identity - product)
            inverse = inverse @ (13 * identity - product @ polynomial) / 4
        return inverse.to(matrix.dtype)


class LinformerPart(Settings):
    """`Linformer`, as settings."""

    kind: Literal["linformer"] = "linformer"
    longest: int = Field(default=512, ge=1)
    rank: int = Field(default=128, ge=1)

    def build(self, width: int, heads: int) -> Linformer:
        return Linformer(width, heads, self.longest, self.rank)


class NystromPart(Settings):
    """`Nystrom`, as settings."""

    kind: Literal["nystrom"] = "nystrom"
    landmarks: int = Field(default=64, ge=1)
    iterations: int = Field(default=6, ge=1)
    reach: int = Field(default=16, ge=0)

    def build(self, width: int, heads: int) -> Nystrom:
        return Nystrom(width, heads, self.landmarks, self.iterations, self.reach)


class NonCausalPart(Settings):
    """`NonCausal`, as settings: ``{kind: non_causal, of: {kind: linear}}``."""

    kind: Literal["non_causal"] = "non_causal"
    of: Annotated[LinearAttentionPart | PerformerPart, Field(discriminator="kind")] = LinearAttentionPart()

    def build(self, width: int, heads: int) -> NonCausal:
        return NonCausal(self.of.build(width, heads))


class BothWaysPart(Settings):
    """`BothWays`, as settings: ``{kind: both_ways, of: {kind: gated_linear}}``."""

    kind: Literal["both_ways"] = "both_ways"
    of: MixerPart = LinearAttentionPart()

    def build(self, width: int, heads: int) -> BothWays:
        return BothWays(self.of.build(width, heads), self.of.build(width, heads))
