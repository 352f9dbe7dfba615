"""Mixers whose state forgets: by decay, or by writing a new value over what a key held."""

import math
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention.linear import delta_rule, linear_attention
from regard.attention.mixers import LinearAttentionPart, PerformerPart, Recurrent, Steps, no_decay
from regard.attention.positions import rotation
from regard.attention.rms_norm import RMSNorm
from regard.attention.rotary import rotate
from regard.settings import Settings


class RetentionState(NamedTuple):
    """The decayed sums, and how many steps there were."""

    sums: Float[Tensor, "rows heads features values"]
    at: Int[Tensor, "rows"]


class Gated(Recurrent):
    """A recurrence whose heads are normalised one by one and gated: W_o (swish(W_g x) * norm(o))."""

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        self.gate = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(self.head_width)

    def gated(self, found: Tensor, steps: Steps) -> Tensor:
        return self.norm(found.to(self.output.weight.dtype)) * F.silu(self.split(self.gate(steps.inputs)))


class Retention(Gated):
    """Decay 1 - 2^(-5 - h) in head h, and queries and keys turned by their positions (Sun et al. 2023, 2307.08621).

    The head width must be even. What the paper divides scores by is left out: the norm of each head undoes it.
    """

    def start(self, rows: int) -> RetentionState:
        sums = self._sums(rows, self.head_width)
        return RetentionState(sums, torch.zeros(rows, dtype=torch.long, device=sums.device))

    def mix(self, steps: Steps, state: RetentionState) -> tuple[Tensor, RetentionState]:
        at = state.at[:, None] + torch.arange(steps.inputs.shape[1], device=state.at.device)
        turn = rotation(at, self.head_width)
        queries, keys = rotate(steps.queries, turn), rotate(steps.keys, turn)
        log_decay = torch.log1p(-(2.0 ** (-5 - torch.arange(self.heads, device=at.device, dtype=state.sums.dtype))))
        log_decay = log_decay[:, None, None] * steps.real
        found, sums = linear_attention(queries, keys, steps.values, log_decay, state.sums)
        return self.gated(found, steps), RetentionState(sums, state.at + steps.lengths)


class GatedLinear(Gated):
    """Decay sigmoid(W_2 W_1 x + b)^(1/16) for each feature of the keys (GLA, Yang et al. 2023, arXiv 2312.06635)."""

    def __init__(self, width: int, heads: int, rank: int = 16):
        super().__init__(width, heads)
        self.decay = nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))

    def mix(self, steps: Steps, state: Tensor) -> tuple[Tensor, Tensor]:
        log_decay = F.logsigmoid(self.split(self.decay(steps.inputs))) / 16
        found, state = linear_attention(steps.queries, steps.keys, steps.values, log_decay * steps.real, state)
        return self.gated(found, steps), state


class DeltaRule(Recurrent):
    """A step moves what the state holds for its key towards its value, by a share that it chooses itself.

    Schlag et al. 2021, arXiv 2102.11174; queries and keys are swish(x) made unit length, and heads normalised, as in
    Yang et al. 2024, arXiv 2406.06484, section 3.3, but without its short convolutions before.
    """

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        self.strength = nn.Linear(width, heads, bias=False)
        self.norm = RMSNorm(self.head_width)

    def log_decay(self, steps: Steps) -> Tensor:
        return no_decay(steps)

    def mix(self, steps: Steps, state: Tensor) -> tuple[Tensor, Tensor]:
        queries, keys = (F.normalize(F.silu(part), dim=-1) for part in (steps.queries, steps.keys))
        strength = torch.sigmoid(self.split(self.strength(steps.inputs)))
        found, state = delta_rule(queries, keys, steps.values, strength, self.log_decay(steps), state)
        return self.norm(found.to(self.norm.weight.dtype)), state


class GatedDeltaRule(DeltaRule):
    """The delta rule with a decay exp(-exp(a) softplus(W x + b)) for each head, and a gate.

    Yang et al. 2024, arXiv 2412.06464. Decay and its first values are those of Mamba-2 (Dao and Gu 2024, arXiv
    2405.21060): exp(a) between 1 and 16, the softplus between 0.001 and 0.1.
    """

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        self.forget = nn.Linear(width, heads)
        self.rate = nn.Parameter(torch.empty(heads, 1, 1).uniform_(1, 16).log())
        self.gate = nn.Linear(width, width, bias=False)
        softplus = torch.empty(heads).uniform_(math.log(0.001), math.log(0.1)).exp()
        with torch.no_grad():
            self.forget.bias.copy_(softplus.expm1().log())

    def log_decay(self, steps: Steps) -> Tensor:
        return -self.rate.exp() * F.softplus(self.split(self.forget(steps.inputs))) * steps.real

    def mix(self, steps: Steps, state: Tensor) -> tuple[Tensor, Tensor]:
        found, state = super().mix(steps, state)
        return found * F.silu(self.split(self.gate(steps.inputs))), state


class RetentionPart(Settings):
    """`Retention`, as settings."""

    kind: Literal["retention"] = "retention"

    def build(self, width: int, heads: int) -> Retention:
        return Retention(width, heads)


class GatedLinearPart(Settings):
    """`GatedLinear`, as settings."""

    kind: Literal["gated_linear"] = "gated_linear"
    rank: int = Field(default=16, ge=1)

    def build(self, width: int, heads: int) -> GatedLinear:
        return GatedLinear(width, heads, self.rank)


class DeltaRulePart(Settings):
    """`DeltaRule`, as settings."""

    kind: Literal["delta_rule"] = "delta_rule"

    def build(self, width: int, heads: int) -> DeltaRule:
        return DeltaRule(width, heads)


class GatedDeltaRulePart(Settings):
    """`GatedDeltaRule`, as settings."""

    kind: Literal["gated_delta_rule"] = "gated_delta_rule"

    def build(self, width: int, heads: int) -> GatedDeltaRule:
        return GatedDeltaRule(width, heads)


MixerPart = Annotated[
    LinearAttentionPart | PerformerPart | RetentionPart | GatedLinearPart | DeltaRulePart | GatedDeltaRulePart,
    Field(discriminator="kind"),
]
"""Mixers as settings."""
