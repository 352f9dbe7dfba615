"""The Transformer (Vaswani et al. 2017, 1706.03762) with the norm before each part (Xiong et al. 2020, 2002.04745)."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from regard.attention import Attention, Causal, KeyValues, Lengths, Rotation, Where, rotation, sinusoidal
from regard.layers.dropout import Dropout
from regard.layers.feedforward import FeedForward
from regard.models.parts import Decoded, Size
from regard.padded import Padded
from regard.settings import Settings
from regard.trees import Growing, grow


class TransformerPart(Settings):
    """One side of a Transformer; widths come from the model."""

    kind: Literal["transformer"] = "transformer"
    layers: int = Field(default=4, ge=1, le=128)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=1024, ge=1, le=65536)
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    positions: Literal["sinusoidal", "rotary"] = "sinusoidal"

    def sized(self, size: Size) -> "TransformerPart":
        changes = {"layers": size.layers, "heads": size.heads, "feedforward": size.feedforward}
        return self.model_copy(update=changes)

    def describe(self) -> str:
        return f"{self.layers}-layer Transformer"


class TransformerEncoderPart(TransformerPart):
    """An encoder."""

    def build(self, width: int, dropout: float) -> "TransformerEncoder":
        return TransformerEncoder(self, width, dropout)


class TransformerDecoderPart(TransformerPart):
    """A decoder."""

    def build(self, width: int, dropout: float) -> "TransformerDecoder":
        return TransformerDecoder(self, width, dropout)


class TransformerMemory(NamedTuple):
    """Every layer's keys and values of the encoded source, and its lengths."""

    layers: tuple[KeyValues, ...]
    lengths: Int[Tensor, "batch"]


TransformerState = tuple[Growing, ...]
"""Every layer's keys and values of the steps so far."""


class Positions(nn.Module):
    """How steps get their order: added to the input, or turned into queries and keys."""

    def __init__(self, part: TransformerPart, width: int):
        super().__init__()
        self.kind, self.width, self.head_width = part.positions, width, width // part.heads

    def forward(
        self, inputs: Float[Tensor, "rows time width"], at: Int[Tensor, "#rows time"]
    ) -> tuple[Float[Tensor, "rows time width"], Rotation | None]:
        if self.kind == "rotary":
            return inputs, rotation(at, self.head_width)
        return inputs + sinusoidal(at, self.width).to(inputs.dtype), None


class Residual(nn.Module):
    """The norm before a part, and dropout on what the part adds."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)


class EncoderLayer(nn.Module):
    def __init__(self, part: TransformerPart, width: int, dropout: float):
        super().__init__()
        self.self_attention = Attention(width, part.heads, part.attention_dropout)
        self.feedforward = FeedForward(width, part.feedforward, dropout)
        self.before_self, self.before_feedforward = Residual(width, dropout), Residual(width, dropout)

    def forward(self, inputs: Tensor, where: Where, at: Tensor, turn: Rotation | None) -> Tensor:
        normed = self.before_self.norm(inputs)
        queries, own = self.self_attention.project(normed, turn)
        inputs = inputs + self.before_self.dropout(self.self_attention(queries, own, where, at))
        return inputs + self.before_feedforward.dropout(self.feedforward(self.before_feedforward.norm(inputs)))


class TransformerEncoder(nn.Module):
    """Self-attention over the whole source, layer upon layer."""

    def __init__(self, part: TransformerPart, width: int, dropout: float):
        super().__init__()
        self.positions = Positions(part, width)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(part, width, dropout) for _ in range(part.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, embedded: Padded) -> Padded:
        at = torch.arange(embedded.values.shape[1], device=embedded.values.device)[None]
        features, turn = self.positions(embedded.values, at)
        features = self.dropout(features)
        where = Lengths(embedded.lengths)
        for layer in self.layers:
            features = layer(features, where, at, turn)
        return Padded(self.norm(features), embedded.lengths)


class DecoderLayer(nn.Module):
    def __init__(self, part: TransformerPart, width: int, dropout: float):
        super().__init__()
        self.self_attention = Attention(width, part.heads, part.attention_dropout)
        self.cross_attention = Attention(width, part.heads, part.attention_dropout)
        self.feedforward = FeedForward(width, part.feedforward, dropout)
        self.before_self, self.before_cross = Residual(width, dropout), Residual(width, dropout)
        self.before_feedforward = Residual(width, dropout)

    def forward(
        self,
        steps: Padded,
        at: Int[Tensor, "rows time"],
        turn: Rotation | None,
        memory: KeyValues,
        memory_lengths: Int[Tensor, "batch"],
        seen: Growing,
    ) -> tuple[Float[Tensor, "rows time width"], Growing]:
        inputs = steps.values
        normed = self.before_self.norm(inputs)
        queries, own = self.self_attention.project(normed, turn)
        seen = grow(seen, own, steps.lengths)
        past = KeyValues(*(buffer.narrow(-2, 0, seen.used) for buffer in seen.buffers))
        inputs = inputs + self.before_self.dropout(self.self_attention(queries, past, Causal(), at))
        queries = self.cross_attention.ask(self.before_cross.norm(inputs))
        found = self.cross_attention(queries, memory, Lengths(memory_lengths))
        inputs = inputs + self.before_cross.dropout(found)
        return inputs + self.before_feedforward.dropout(self.feedforward(self.before_feedforward.norm(inputs))), seen


class TransformerDecoder(nn.Module):
    """Causal self-attention over the target so far and cross-attention over the source."""

    def __init__(self, part: TransformerPart, width: int, dropout: float):
        super().__init__()
        self.heads, self.head_width = part.heads, width // part.heads
        self.positions = Positions(part, width)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(DecoderLayer(part, width, dropout) for _ in range(part.layers))
        self.norm = nn.LayerNorm(width)

    def remember(self, encoded: Padded) -> TransformerMemory:
        return TransformerMemory(
            tuple(layer.cross_attention.remember(encoded.values) for layer in self._layers()), encoded.lengths
        )

    def _layers(self) -> Iterator[DecoderLayer]:
        return cast(Iterator[DecoderLayer], iter(self.layers))

    def start(self, memory: TransformerMemory, rows: int, room: int) -> TransformerState:
        keys = memory.layers[0].keys
        lengths = memory.lengths.new_zeros(rows)
        return tuple(
            Growing(
                (
                    keys.new_zeros(rows, self.heads, room, self.head_width),
                    keys.new_zeros(rows, self.heads, room, self.head_width),
                ),
                lengths,
            )
            for _ in self.layers
        )

    def advance(
        self, embedded: Padded, memory: TransformerMemory, state: TransformerState
    ) -> tuple[Decoded, TransformerState]:
        values, lengths = embedded
        at = state[0].lengths[:, None] + torch.arange(values.shape[1], device=values.device)
        features, turn = self.positions(values, at)
        features = self.dropout(features)
        grown = []
        for layer, layer_memory, seen in zip(self.layers, memory.layers, state, strict=True):
            features, seen = layer(Padded(features, lengths), at, turn, layer_memory, memory.lengths, seen)
            grown.append(seen)
        return Decoded(self.norm(features)), tuple(grown)
