"""What settings can choose, part by part; those that are plain numbers are their own settings."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import nn

from regard.attention.layouts import DifferentialAttention, LatentAttention
from regard.attention.location import LocalMonotonic, LocalPredictive, Location, LocationSensitive, Mixture
from regard.attention.module import Attention
from regard.attention.monotonic import Chunkwise, Monotonic
from regard.attention.norms import (
    Exponential,
    Hard,
    Norm,
    OffByOne,
    Relu,
    Scalable,
    Sigmoid,
    Sink,
    Softcap,
    Softmax,
    StatefulNorm,
    TalkingHeads,
    TopK,
)
from regard.attention.relative import Shaw, TransformerXL
from regard.attention.scores import (
    AdditivePart,
    ConcatPart,
    CosinePart,
    Distance,
    Dot,
    General,
    GeneralPart,
    ScaledDot,
    Score,
)
from regard.attention.sparse import LEAST_ALPHA, Entmax, LearnedEntmax, Sparsemax
from regard.attention.stepping import SteppingAttention
from regard.attention.where import Full, WherePart
from regard.settings import Settings


class SinkPart(Settings):
    """`Sink`, as settings."""

    kind: Literal["sink"] = "sink"

    def build(self, heads: int) -> Norm:
        return Sink(heads)


class ScalablePart(Settings):
    """`Scalable`, as settings."""

    kind: Literal["scalable"] = "scalable"

    def build(self, heads: int) -> Norm:
        return Scalable(heads)


class EntmaxPart(Settings):
    """`Entmax`, or where alpha is learned `LearnedEntmax`, as settings; alpha = 2 is `Sparsemax`."""

    kind: Literal["entmax"] = "entmax"
    alpha: float = Field(default=1.5, gt=LEAST_ALPHA, lt=2)
    learned: bool = False

    def build(self, heads: int) -> Norm:
        return LearnedEntmax(heads, self.alpha) if self.learned else Entmax(self.alpha)


class TalkingHeadsPart(Settings):
    """`TalkingHeads` around another norm, as settings."""

    kind: Literal["talking_heads"] = "talking_heads"
    norm: "NormPart" = Softmax()

    def build(self, heads: int) -> Norm:
        return TalkingHeads(self.norm.build(heads), heads)


class MonotonicPart(Settings):
    """`Monotonic`, as settings."""

    kind: Literal["monotonic"] = "monotonic"
    hard: bool = False
    noise: float = Field(default=1.0, ge=0)
    offset: float = -1.0

    def build(self, heads: int) -> StatefulNorm:
        return Monotonic(heads, self.hard, self.noise, self.offset)


class ChunkwisePart(Settings):
    """`Chunkwise`, as settings."""

    kind: Literal["chunkwise"] = "chunkwise"
    width: int = Field(default=8, ge=1)
    hard: bool = False
    noise: float = Field(default=1.0, ge=0)
    offset: float = -1.0

    def build(self, heads: int) -> StatefulNorm:
        return Chunkwise(heads, self.width, self.hard, self.noise, self.offset)


EachNorm = (
    Softmax
    | OffByOne
    | SinkPart
    | Softcap
    | ScalablePart
    | Sigmoid
    | Relu
    | TopK
    | Hard
    | Exponential
    | Sparsemax
    | EntmaxPart
    | TalkingHeadsPart
)
NormPart = Annotated[EachNorm, Field(discriminator="kind")]
"""Norms that settings can choose anywhere."""

TalkingHeadsPart.model_rebuild()

SteppingNormPart = Annotated[EachNorm | MonotonicPart | ChunkwisePart, Field(discriminator="kind")]
"""Norms for models that take queries one after another, those that need the weights of the query before too."""


class ShawPart(Settings):
    """`Shaw`, as settings."""

    kind: Literal["shaw"] = "shaw"
    reach: int = Field(default=16, ge=1)

    def build(self, width: int, heads: int) -> Score:
        return Shaw(width, self.reach)


class TransformerXLPart(Settings):
    """`TransformerXL`, as settings."""

    kind: Literal["transformer_xl"] = "transformer_xl"

    def build(self, width: int, heads: int) -> Score:
        return TransformerXL(width, heads)


ScorePart = Annotated[
    Dot | ScaledDot | Distance | GeneralPart | CosinePart | AdditivePart | ConcatPart | ShawPart | TransformerXLPart,
    Field(discriminator="kind"),
]
"""Scores that settings can choose anywhere."""


class Grouped(Settings):
    """`Attention`: as many heads of keys and values as of queries, or ``kv_heads``, each shared by several."""

    kind: Literal["grouped"] = "grouped"
    kv_heads: int | None = Field(default=None, ge=1)

    def build(self, width: int, heads: int, dropout: float, part: "AttentionPart") -> Attention:
        kv_heads = self.kv_heads or heads
        score = part.score.build(width // heads, heads)
        return Attention(width, heads, dropout, kv_heads=kv_heads, score=score, norm=part.norm.build(heads))


class Latent(Settings):
    """`LatentAttention`, as settings; its score is the scaled dot product."""

    kind: Literal["latent"] = "latent"
    rank: int = Field(default=64, ge=1)
    turned: int = Field(default=16, ge=2)

    def build(self, width: int, heads: int, dropout: float, part: "AttentionPart") -> LatentAttention:
        norm = part.norm.build(heads)
        return LatentAttention(width, heads, dropout, rank=self.rank, turned=self.turned, norm=norm)


class Differential(Settings):
    """`DifferentialAttention`, as settings; its score is the scaled dot product."""

    kind: Literal["differential"] = "differential"

    def build(self, width: int, heads: int, dropout: float, part: "AttentionPart") -> DifferentialAttention:
        return DifferentialAttention(width, heads, dropout, norm=part.norm.build(heads))


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

    def build(self, width: int, heads: int, dropout: float) -> "SomeAttention":
        """The attention of a layer.

        Raises:
            SettingsError: the width does not divide as heads and layout need it.
        """
        return self.layout.build(width, heads, dropout, self)


SomeAttention = Attention | LatentAttention | DifferentialAttention


class LocationPart(Settings):
    """`Location`, as settings."""

    kind: Literal["location"] = "location"
    positions: int = Field(default=512, ge=1)

    def build(self, width: int, heads: int) -> Score:
        return Location(width, self.positions)


class LocalMonotonicPart(Settings):
    """`LocalMonotonic` around the general score, as settings."""

    kind: Literal["local_monotonic"] = "local_monotonic"
    back: int = Field(default=10, ge=1)

    def build(self, width: int, heads: int) -> Score:
        return LocalMonotonic(General(width, heads), self.back)


class LocalPredictivePart(Settings):
    """`LocalPredictive` around the general score, as settings."""

    kind: Literal["local_predictive"] = "local_predictive"
    back: int = Field(default=10, ge=1)

    def build(self, width: int, heads: int) -> Score:
        return LocalPredictive(width, General(width, heads), self.back)


class LocationSensitivePart(Settings):
    """`LocationSensitive`, as settings."""

    kind: Literal["location_sensitive"] = "location_sensitive"
    filters: int = Field(default=32, ge=1)
    kernel: int = Field(default=31, ge=1)
    cumulative: bool = False

    def build(self, width: int, heads: int) -> Score:
        return LocationSensitive(width, heads, self.filters, self.kernel, self.cumulative)


class MixturePart(Settings):
    """`Mixture`, as settings."""

    kind: Literal["mixture"] = "mixture"
    components: int = Field(default=5, ge=1)
    original: bool = False

    def build(self, width: int, heads: int) -> Score:
        return Mixture(width, self.components, self.original)


SteppingScorePart = Annotated[
    Dot
    | ScaledDot
    | Distance
    | GeneralPart
    | CosinePart
    | AdditivePart
    | ConcatPart
    | LocationPart
    | LocalMonotonicPart
    | LocalPredictivePart
    | LocationSensitivePart
    | MixturePart,
    Field(discriminator="kind"),
]
"""Scores for models that take queries one after another, those that keep a state too."""


class SteppingPart(Settings):
    """The attention of a decoder that takes a step at a time; one head."""

    score: SteppingScorePart = AdditivePart()
    where: WherePart = Full()
    norm: SteppingNormPart = Softmax()

    @model_validator(mode="after")
    def _mixture_is_exponential(self) -> "SteppingPart":
        if isinstance(self.score, MixturePart) != isinstance(self.norm, Exponential):
            raise ValueError(
                "a mixture score and the exponential norm need each other: its score is log of the weights"
            )
        return self

    def build(self, width: int) -> SteppingAttention:
        query: nn.Module = nn.Identity()
        key: nn.Module = nn.Identity()
        if isinstance(self.score, AdditivePart | LocationSensitivePart):  # their sum needs one width, learned for it
            query, key = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        return SteppingAttention(query, key, self.score.build(width, 1), self.norm.build(1))
