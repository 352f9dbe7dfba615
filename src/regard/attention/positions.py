"""Positions: what tells a model the order of its steps. Each kind acts in one or more of three slots, and kinds add up.

``on_input`` changes features before the first layer, ``on_qk`` turns the queries and keys of every layer, and
``on_score`` is added to every layer's scores: ``Rotary() + Alibi()`` acts in each slot where either does.
"""

import math
from collections.abc import Iterable
from functools import partial, reduce
from operator import add
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention.request import Bias
from regard.attention.rotary import Pairing, Plain, Rotation, SchedulePart, geometric
from regard.errors import InputError, SettingsError
from regard.settings import Settings


class Position:
    """One kind of positions, or a sum of several; ``at`` holds the positions of steps, (#rows, time)."""

    def on_input(
        self, inputs: Float[Tensor, "rows time width"], at: Int[Tensor, "#rows time"]
    ) -> Float[Tensor, "rows time width"]:
        """The inputs of the first layer, told where they stand."""
        return inputs

    def on_qk(self, at: Int[Tensor, "#rows time"], width: int) -> Rotation | None:
        """How to `rotate` queries and keys of ``width`` features, for all layers; None: not at all."""
        return None

    def on_score(self, heads: int) -> Bias | None:
        """What is added to scores, a function of row, head and the two positions as `Where.keep` is; None: nothing."""
        return None

    def __add__(self, other: "Position") -> "Position":
        return Sum((self, other))


class _Plain(Settings, Position):
    """A kind without weights of its own, which is its own settings."""

    def build(self, width: int, heads: int) -> Position:
        return self


class NoPosition(_Plain):
    """Nothing: the order is known from elsewhere, or from causality alone (Haviv et al. 2022, arXiv 2203.16634)."""

    kind: Literal["none"] = "none"


class Sinusoidal(_Plain):
    """Sines and cosines of each position, added to the input (Vaswani et al. 2017, arXiv 1706.03762)."""

    kind: Literal["sinusoidal"] = "sinusoidal"
    pairing: Pairing = "neighbours"
    scale: float = Field(default=1.0, gt=0)

    def on_input(self, inputs: Tensor, at: Tensor) -> Tensor:
        return inputs + (sinusoidal(at, inputs.shape[-1], self.pairing) * self.scale).to(inputs.dtype)


class Learned(nn.Module, Position):
    """A learned vector for each of ``length`` positions, added to the input (Gehring et al. 2017, arXiv 1705.03122)."""

    def __init__(self, length: int, width: int):
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, width).normal_(std=0.02))

    def on_input(self, inputs: Tensor, at: Tensor) -> Tensor:
        """The inputs with the vectors of their positions added.

        Raises:
            InputError: a position for which there is no vector.
        """
        if not torch.compiler.is_compiling():  # to ask for numbers would break the graph
            self._check(at)
        return inputs + F.embedding(at, self.table).to(inputs.dtype)

    def _check(self, at: Tensor) -> None:
        last, length = int(at.max()), len(self.table)
        if last >= length:
            hint = f"raise the length above {last}, or choose positions of another kind"
            raise InputError(f"position {last} was never learned: there are {length}, counted from 0", hint=hint)


class Rotary(_Plain):
    """Pairs of features turned by angles that grow with the position, so that products depend on distance only.

    Su et al. 2021, arXiv 2104.09864. Only the first ``share`` of the features turns.
    """

    kind: Literal["rotary"] = "rotary"
    base: float = Field(default=1e4, gt=1)
    share: float = Field(default=1.0, gt=0, le=1)
    pairing: Pairing = "neighbours"
    schedule: SchedulePart = Plain()

    def on_qk(self, at: Tensor, width: int) -> Rotation:
        """By which angles to turn.

        Raises:
            SettingsError: the features that turn cannot be paired.
        """
        turned = int(self.share * width)
        if turned == 0 or turned % 2:
            raise SettingsError(f"rotary positions turn pairs of features: {turned} of {width} cannot be paired")
        frequencies = self.schedule.frequencies(turned, self.base, at.device)
        angles = (at[..., None] * frequencies)[:, None]
        magnitude = self.schedule.magnitude
        return Rotation(angles.cos() * magnitude, angles.sin() * magnitude, self.pairing)


class Alibi(_Plain):
    """-slope |i - j|, a slope for each head (Press et al. 2021, arXiv 2108.12409); symmetric where keys lie ahead.

    Slopes are 2^(-8/n), 2^(-16/n), ... for n heads. When n is no power of two, they are those of the next lower power
    and then every other one of the next higher, as in the authors' code.
    """

    kind: Literal["alibi"] = "alibi"

    def on_score(self, heads: int) -> Bias:
        return partial(_alibi, heads)


class T5Bias(nn.Module, Position):
    """A learned number for each head and bucket of offsets j - i (Raffel et al. 2019, arXiv 1910.10683).

    Half of the buckets hold one offset each, the others more and more, in a geometric series up to ``reach``, and the
    last all beyond. ``bidirectional``: half of them all are for keys ahead, which otherwise share the bucket of 0.
    """

    def __init__(self, heads: int, buckets: int = 32, reach: int = 128, bidirectional: bool = True):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(buckets, heads))
        self.one_sided = buckets // 2 if bidirectional else buckets
        self.exact, self.reach, self.bidirectional = self.one_sided // 2, reach, bidirectional
        if not 0 < self.exact < reach:
            raise SettingsError(f"{buckets} buckets hold {self.exact} single offsets; the reach, {reach}, must be more")

    def on_score(self, heads: int) -> Bias:
        return self

    def forward(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """What is added to the score in head ``h`` for a query at ``i`` and a key at ``j``."""
        return self.table[self.bucket(j - i), h]

    def bucket(self, offsets: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The number of the bucket that holds each offset."""
        distances = offsets.abs() if self.bidirectional else (-offsets).clamp(min=0)
        logarithms = torch.log(distances.clamp(min=1) / self.exact) / math.log(self.reach / self.exact)
        shared = self.exact + (logarithms * (self.one_sided - self.exact)).long()
        buckets = torch.where(distances < self.exact, distances, shared.clamp(max=self.one_sided - 1))
        return buckets + self.one_sided * (offsets > 0) if self.bidirectional else buckets


class Sum(nn.Module, Position):
    """Several kinds, each in its slots; no more than one of them may turn queries and keys."""

    def __init__(self, of: Iterable[Position]):
        super().__init__()
        self.of = tuple(of)
        self.learned = nn.ModuleList(one for one in self.of if isinstance(one, nn.Module))

    def on_input(self, inputs: Tensor, at: Tensor) -> Tensor:
        return reduce(lambda changed, one: one.on_input(changed, at), self.of, inputs)

    def on_qk(self, at: Tensor, width: int) -> Rotation | None:
        turns = [turn for one in self.of if (turn := one.on_qk(at, width)) is not None]
        if len(turns) > 1:
            raise SettingsError("of positions that are added up, only one may be rotary")
        return turns[0] if turns else None

    def on_score(self, heads: int) -> Bias | None:
        biases = [bias for one in self.of if (bias := one.on_score(heads)) is not None]
        return _SumOfBiases(biases) if len(biases) > 1 else next(iter(biases), None)


class _SumOfBiases(nn.Module):
    """A module, so that whoever uses it finds what is learned in it."""

    def __init__(self, biases: list[Bias]):
        super().__init__()
        self.biases = biases
        self.learned = nn.ModuleList(bias for bias in biases if isinstance(bias, nn.Module))

    def forward(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return reduce(add, (bias(b, h, i, j) for bias in self.biases))


def sinusoidal(
    at: Int[Tensor, "*rows time"], width: int, pairing: Pairing = "neighbours"
) -> Float[Tensor, "*rows time width"]:
    """Sines and cosines of position / 10000 ** (2i / width) (Vaswani et al. 2017, arXiv 1706.03762).

    In turn, or in halves, first all sines, as in Marian's checkpoints.
    """
    angles = at[..., None] * geometric(width, 1e4, at.device)
    if pairing == "halves":
        return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :width]
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :width]


def rotation(at: Int[Tensor, "#rows time"], width: int) -> Rotation:
    """By which angles `Rotary` turns with its default settings."""
    return Rotary().on_qk(at, width)


def _alibi(heads: int, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    power = 1 << (heads.bit_length() - 1)
    exponents = torch.where(h < power, 8 * (h + 1) / power, 4 * (2 * (h - power) + 1) / power)
    return -torch.exp2(-exponents) * (i - j).abs()


class LearnedPart(Settings):
    """`Learned`, as settings."""

    kind: Literal["learned"] = "learned"
    length: int = Field(default=512, ge=1)

    def build(self, width: int, heads: int) -> Position:
        return Learned(self.length, width)


class T5BiasPart(Settings):
    """`T5Bias`, as settings."""

    kind: Literal["t5_bias"] = "t5_bias"
    buckets: int = Field(default=32, ge=2)
    reach: int = Field(default=128, ge=2)
    bidirectional: bool = True

    def build(self, width: int, heads: int) -> Position:
        return T5Bias(heads, self.buckets, self.reach, self.bidirectional)


class SumPart(Settings):
    """`Sum`, as settings: ``{kind: sum, of: [...]}``."""

    kind: Literal["sum"] = "sum"
    of: tuple["PositionPart", ...] = Field(min_length=1)

    def build(self, width: int, heads: int) -> Position:
        return Sum(part.build(width, heads) for part in self.of)


PositionPart = Annotated[
    NoPosition | Sinusoidal | LearnedPart | Rotary | Alibi | T5BiasPart | SumPart, Field(discriminator="kind")
]
"""Positions that settings can choose; each is built for a model's width and its number of heads."""

SumPart.model_rebuild()
