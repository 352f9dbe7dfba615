"""Scores, norms and patterns as settings; those that are plain numbers are their own."""

from functools import reduce
from operator import and_, or_
from typing import Annotated, Literal

from pydantic import Field

from regard.attention.location import LocalMonotonic, LocalPredictive, Location, LocationSensitive, Mixture
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
from regard.attention.where import (
    Blocked,
    Causal,
    Dilated,
    Full,
    Global,
    Prefix,
    Random,
    Strided,
    Where,
    Window,
)
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
    | Sparsemax
    | EntmaxPart
    | TalkingHeadsPart
)
NormPart = Annotated[EachNorm, Field(discriminator="kind")]
"""Norms that settings can choose anywhere."""

TalkingHeadsPart.model_rebuild()

SteppingNormPart = Annotated[EachNorm | Exponential | MonotonicPart | ChunkwisePart, Field(discriminator="kind")]
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


class AllOf(Settings):
    """Keys that every one of some patterns allows, as settings: ``{kind: all, of: [...]}``."""

    kind: Literal["all"] = "all"
    of: tuple["WherePart", ...] = Field(min_length=1)

    def build(self) -> Where:
        return reduce(and_, (part.build() for part in self.of))


class AnyOf(Settings):
    """Keys that at least one of some patterns allows, as settings: ``{kind: any, of: [...]}``."""

    kind: Literal["any"] = "any"
    of: tuple["WherePart", ...] = Field(min_length=1)

    def build(self) -> Where:
        return reduce(or_, (part.build() for part in self.of))


WherePart = Annotated[
    Full | Causal | Window | Prefix | Dilated | Strided | Blocked | Global | Random | AllOf | AnyOf,
    Field(discriminator="kind"),
]
"""Patterns that settings can choose."""

AllOf.model_rebuild()
AnyOf.model_rebuild()
