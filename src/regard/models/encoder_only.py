"""Decoders for models whose answer is read off the encoder: a class for the whole source, or a tag for each step."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from regard import trees
from regard.attention import Full, Lengths, Pool
from regard.attention.settings import AttentionPart
from regard.errors import SettingsError
from regard.layers.dropout import Dropout
from regard.models.parts import Decoded, Encoded, Part, Widths
from regard.padded import Padded


class PoolDecoderPart(Part):
    """Features of the whole source, by attention pooling; ``hidden`` as in `Pool`."""

    kind: Literal["pool"] = "pool"
    queries: int = Field(default=1, ge=1, le=1024)
    hidden: int | None = Field(default=None, ge=1, le=65536)

    def build(self, widths: Widths, dropout: float) -> "PoolDecoder":
        return PoolDecoder(self, widths, dropout)

    def describe(self) -> str:
        return "attention pooling"


class AlignedDecoderPart(Part):
    """Features of each source step for the target step beside it; with ``attention``, also of what it looks at."""

    kind: Literal["aligned"] = "aligned"
    attention: AttentionPart | None = None
    heads: int = Field(default=4, ge=1)

    def build(self, widths: Widths, dropout: float) -> "AlignedDecoder":
        return AlignedDecoder(self, widths, dropout)

    def describe(self) -> str:
        return "aligned with attention" if self.attention else "aligned"


class Readout(nn.Module):
    """Dropout and a projection to what the head takes.

    Raises:
        SettingsError: there is no encoder to read from.
    """

    def __init__(self, width: int, output: int, dropout: float):
        super().__init__()
        if not width:
            raise SettingsError(
                "this decoder reads encoder states, and there is no encoder",
                where="model.decoder.kind",
                hint="choose an encoder, or another decoder",
            )
        self.dropout = Dropout(dropout)
        self.projection = nn.Linear(width, output)

    def forward(self, states: Float[Tensor, "*steps width"]) -> Float[Tensor, "*steps output"]:
        return self.projection(self.dropout(states))


class PoolDecoder(nn.Module):
    """Every step has the same features: what learned queries find in the source, whatever the tokens before.

    With one query it is the classifier with attention pooling, with several self-attentive sentence embedding (Lin et
    al. 2017, arXiv 1703.03130, without its penalty ``||A A^T - I||^2``), with a hidden width over a `hierarchical`
    encoder the hierarchical attention network (Yang et al. 2016, NAACL). Memory: the features, (batch, output).
    State: the steps each row took.
    """

    def __init__(self, part: PoolDecoderPart, widths: Widths, dropout: float):
        super().__init__()
        self.readout = Readout(part.queries * widths.memory, widths.output, dropout)
        self.pool = Pool(widths.memory, part.queries, part.hidden)

    def remember(self, encoded: Encoded) -> Float[Tensor, "batch output"]:
        return self.readout(self.pool(encoded.states).flatten(1))

    def start(self, memory: Float[Tensor, "batch output"], rows: int, room: int) -> Int[Tensor, "rows"]:
        return torch.zeros(rows, dtype=torch.long, device=memory.device)

    def advance(
        self, embedded: Padded, memory: Float[Tensor, "batch output"], state: Int[Tensor, "rows"]
    ) -> tuple[Decoded, Int[Tensor, "rows"]]:
        of_rows = trees.repeat(memory, len(state) // len(memory))
        features = of_rows[:, None].expand(-1, embedded.values.shape[1], -1)
        return Decoded(features), state + embedded.lengths


class AlignedMemory(NamedTuple):
    """Features of every source step, zeros where there is none, and how many there are."""

    features: Float[Tensor, "batch source output"]
    lengths: Int[Tensor, "batch"]


class Beside(nn.Module):
    """Step t has the features at place t of the memory, and the last ones beyond, whatever the tokens before.

    State: the steps each row took.
    """

    def start(self, memory: AlignedMemory, rows: int, room: int) -> Int[Tensor, "rows"]:
        return memory.lengths.new_zeros(rows)

    def advance(
        self, embedded: Padded, memory: AlignedMemory, state: Int[Tensor, "rows"]
    ) -> tuple[Decoded, Int[Tensor, "rows"]]:
        rows = torch.arange(len(state), device=state.device)
        source = rows // (len(state) // len(memory.lengths))
        at = state[:, None] + torch.arange(embedded.values.shape[1], device=state.device)
        last = (memory.lengths - 1).clamp(min=0)[source, None]
        return Decoded(memory.features[source[:, None], torch.minimum(at, last)]), state + embedded.lengths


class AlignedDecoder(Beside):
    """Step t has the features of source step t, to which attention adds what it finds in the whole source."""

    def __init__(self, part: AlignedDecoderPart, widths: Widths, dropout: float):
        super().__init__()
        self.readout = Readout(widths.memory, widths.output, dropout)
        self.cross_attention = part.attention.build(widths.memory, part.heads, 0.0) if part.attention else None
        self.where = part.attention.where.build() if part.attention else Full()
        self.dropout = Dropout(dropout)

    def remember(self, encoded: Encoded) -> AlignedMemory:
        states, lengths, _ = encoded.states
        if self.cross_attention:
            queries, memory = self.cross_attention.ask(states), self.cross_attention.remember(states)
            states = states + self.dropout(self.cross_attention(queries, memory, self.where & Lengths(lengths)))
        return AlignedMemory(self.readout(states) * encoded.states.mask[..., None], lengths)
