"""The attentions of a model as settings: score, pattern, norm and layout of each."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import nn

from regard.attention.layouts import DifferentialAttention, LatentAttention
from regard.attention.module import Attention, Layout
from regard.attention.norms import Exponential, Softmax
from regard.attention.parts import (
    LocationPart,
    LocationSensitivePart,
    MixturePart,
    NormPart,
    ScorePart,
    SteppingNormPart,
    SteppingScorePart,
    WherePart,
)
from regard.attention.scores import AdditivePart, ScaledDot
from regard.attention.stepping import SteppingAttention
from regard.attention.where import Full
from regard.settings import Settings


class Grouped(Settings):
    """`Attention`: as many heads of keys and values as of queries, or ``kv_heads``, each shared by several."""

    kind: Literal["grouped"] = "grouped"
    kv_heads: int | None = Field(default=None, ge=1)
    head_width: int | None = Field(default=None, ge=1, description="the width divided by the heads unless given")

    def build(self, width: int, heads: int, dropout: float, part: "AttentionPart", bias: bool) -> Attention:
        return Attention(
            width,
            heads,
            dropout,
            kv_heads=self.kv_heads,
            head_width=self.head_width,
            score=part.score.build(self.head_width or width // heads, heads),
            norm=part.norm.build(heads),
            bias=bias,
        )


class Latent(Settings):
    """`LatentAttention`, as settings; its score is the scaled dot product."""

    kind: Literal["latent"] = "latent"
    rank: int = Field(default=64, ge=1)
    turned: int = Field(default=16, ge=2)

    def build(self, width: int, heads: int, dropout: float, part: "AttentionPart", bias: bool) -> LatentAttention:
        norm = part.norm.build(heads)
        return LatentAttention(width, heads, dropout, rank=self.rank, turned=self.turned, norm=norm, bias=bias)


class Differential(Settings):
    """`DifferentialAttention`, as settings; its score is the scaled dot product."""

    kind: Literal["differential"] = "differential"

    def build(self, width: int, heads: int, dropout: float, part: "AttentionPart", bias: bool) -> DifferentialAttention:
        return DifferentialAttention(width, heads, dropout, norm=part.norm.build(heads), bias=bias)


LayoutPart = Annotated[Grouped | Latent | Differential, Field(discriminator="kind")]
"""How queries, keys and values are made of features."""


class AttentionPart(Settings):
    """One attention of a model: what is looked at by which score, where, how it is normalised, and in which layout."""

    score: ScorePart = ScaledDot()
    where: WherePart = Full()
    norm: NormPart = Softmax()
    layout: LayoutPart = Grouped()

    @model_validator(mode="after")
    def _score_fits_layout(self) -> "AttentionPart":
        if not isinstance(self.layout, Grouped) and not isinstance(self.score, ScaledDot):
            raise ValueError(
                f"the {self.layout.kind} layout is made for the scaled_dot score, not for {self.score.kind}"
            )
        return self

    def build(self, width: int, heads: int, dropout: float, bias: bool = True) -> Layout:
        """The attention of a layer, with or without ``bias`` in its projections.

        Raises:
            SettingsError: the width does not divide as heads and layout need it.
        """
        return self.layout.build(width, heads, dropout, self, bias)


class SteppingPart(Settings):
    """The attention of a decoder that takes a step at a time; one head."""

    score: SteppingScorePart = AdditivePart()
    where: WherePart = Full()
    norm: SteppingNormPart = Softmax()

    @model_validator(mode="after")
    def _mixture_is_exponential(self) -> "SteppingPart":
        if isinstance(self.score, MixturePart) != isinstance(self.norm, Exponential):
            both = "{score: {kind: mixture}, norm: {kind: exponential}}"
            raise ValueError(f"a mixture score goes with its own norm and that with no other: set both at once, {both}")
        return self

    def build(self, width: int, memory: int | None = None) -> SteppingAttention:
        """For states of ``width`` features and a memory of so many, or of as many."""
        memory = memory or width
        query: nn.Module = nn.Identity()
        key: nn.Module = nn.Identity()
        if isinstance(self.score, AdditivePart | LocationSensitivePart):  # their sum needs one width, learned for it
            query, key = nn.Linear(width, width, bias=False), nn.Linear(memory, width)
        elif memory != width and not isinstance(self.score, LocationPart | MixturePart):  # these two see no keys
            key = nn.Linear(memory, width, bias=False)
        return SteppingAttention(query, key, self.score.build(width, 1), self.norm.build(1))
