"""What lets the steps of a Transformer's layer see each other: self-attention, or a mixer in its place."""

from typing import Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from regard.attention import Lengths, Where
from regard.attention.approximate import BothWaysPart, LinformerPart, NonCausalPart, NystromPart
from regard.attention.forgetting import DeltaRulePart, GatedDeltaRulePart, GatedLinearPart, RetentionPart
from regard.attention.keyvalues import Cache, extend, start
from regard.attention.mixers import LinearAttentionPart, PerformerPart
from regard.attention.module import Layout
from regard.attention.request import Bias
from regard.attention.rotary import Rotation
from regard.layers.convolution import DynamicPart, LightweightPart
from regard.padded import Padded
from regard.settings import Settings
from regard.trees import Nest


class Order(NamedTuple):
    """Where the steps of a call stand, which of them may be looked at, and what positions do to queries and scores."""

    at: Int[Tensor, "#rows time"]
    where: Where
    turn: Rotation | None
    bias: Bias | None


@runtime_checkable
class Mixing(Protocol):
    """What stands in a layer; in a decoder it has ``start(rows, room)`` too, which gives what is kept of no steps."""

    def __call__(self, steps: Padded, order: Order, past: Nest | None) -> tuple[Float[Tensor, "rows time width"], Nest]:
        """What each step sees, and what is kept after them. Without a past all steps of a row are here, and see all."""


class SelfAttention(nn.Module):
    """Attention of steps to those before them, which are kept as keys and values; in an encoder, to all."""

    def __init__(self, attention: Layout, width: int, reach: int | None):
        super().__init__()
        self.self_attention, self.width, self.reach = attention, width, reach

    def start(self, rows: int, room: int) -> Cache:
        nothing = self.self_attention.output.weight.new_zeros(rows, 0, self.width)
        empty = self.self_attention.remember(nothing)
        return start(empty, torch.zeros(rows, dtype=torch.long, device=nothing.device), room, self.reach)

    def forward(
        self, steps: Padded, order: Order, past: Cache | None
    ) -> tuple[Float[Tensor, "rows time width"], Cache | None]:
        queries, own = self.self_attention.project(steps.values, order.turn)
        if past is None:
            where = Lengths(steps.lengths) & order.where
            return self.self_attention(queries, own, where, bias=order.bias), None
        begins = past.buffers[0].shape[-2] == 0  # positions from 0 on need no saying, and have faster kernels
        past, seen = extend(past, own, steps.lengths)
        at = None if begins else order.at
        return self.self_attention(queries, type(own)(*seen.buffers), order.where, at, seen.at, order.bias), past


class StatefulMixing(nn.Module):
    """A mixer that keeps a state of fixed size, or none when it sees both ways."""

    def __init__(self, mixer: nn.Module):
        super().__init__()
        self.mixer: Any = mixer

    def start(self, rows: int, room: int) -> Nest:
        return self.mixer.start(rows)

    def forward(
        self, steps: Padded, order: Order, past: Nest | None
    ) -> tuple[Float[Tensor, "rows time width"], Nest | None]:
        mixed: tuple[Tensor, Nest | None] = self.mixer(steps.values, steps.lengths, past)
        return mixed


class WholeMixing(nn.Module):
    """A mixer for encoders only."""

    def __init__(self, mixer: nn.Module):
        super().__init__()
        self.mixer = mixer

    def forward(self, steps: Padded, order: Order, past: None) -> tuple[Float[Tensor, "rows time width"], None]:
        return self.mixer(steps.values, steps.lengths), None


class SelfAttentionPart(Settings):
    """Self-attention as the side's ``attention`` says."""

    kind: Literal["attention"] = "attention"


EncoderMixingPart = Annotated[
    SelfAttentionPart | LinformerPart | NystromPart | NonCausalPart | BothWaysPart | LightweightPart | DynamicPart,
    Field(discriminator="kind"),
]
"""What an encoder's layers can see each other by."""

DecoderMixingPart = Annotated[
    SelfAttentionPart
    | LinearAttentionPart
    | PerformerPart
    | RetentionPart
    | GatedLinearPart
    | DeltaRulePart
    | GatedDeltaRulePart
    | LightweightPart
    | DynamicPart,
    Field(discriminator="kind"),
]
"""What a decoder's layers can see the steps before by."""


def build_mixer(part: Any, width: int, heads: int, dropout: float, causal: bool) -> Mixing:
    """Anything but self-attention."""
    if isinstance(part, LightweightPart | DynamicPart):
        return StatefulMixing(part.build(width, heads, dropout, causal))
    mixer = part.build(width, heads)
    return StatefulMixing(mixer) if causal else WholeMixing(mixer)
