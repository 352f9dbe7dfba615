"""The Transformer (Vaswani et al. 2017, 1706.03762) with the norm before each part (Xiong et al. 2020, 2002.04745)."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from regard.attention import Causal, Lengths, Where
from regard.attention.keyvalues import Cache, extend, start
from regard.attention.positions import PositionPart, Sinusoidal
from regard.attention.request import Bias
from regard.attention.rotary import Rotation
from regard.attention.settings import AttentionPart
from regard.layers.dropout import Dropout
from regard.layers.feedforward import FeedForward
from regard.models.parts import Decoded, Size
from regard.padded import Padded
from regard.settings import Settings
from regard.trees import Nest


class TransformerPart(Settings):
    """One side of a Transformer; widths come from the model."""

    kind: Literal["transformer"] = "transformer"
    layers: int = Field(default=4, ge=1, le=128)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=1024, ge=1, le=65536)
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    positions: PositionPart = Sinusoidal()
    attention: AttentionPart = AttentionPart()

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
    """A decoder; ``attention`` is to its own steps."""

    cross_attention: AttentionPart = AttentionPart()

    def build(self, width: int, dropout: float) -> "TransformerDecoder":
        return TransformerDecoder(self, width, dropout)


class TransformerMemory(NamedTuple):
    """What every layer keeps of the encoded source, keys and values mostly, and its lengths."""

    layers: tuple[Nest, ...]
    lengths: Int[Tensor, "batch"]


TransformerState = tuple[Cache, ...]
"""What every layer keeps of the steps so far."""


class Order(NamedTuple):
    """Where the steps of a call stand, and what that does to queries, keys and scores."""

    at: Int[Tensor, "#rows time"]
    turn: Rotation | None
    bias: Bias | None


class Positions(nn.Module):
    """How steps get their order: in the input, in queries and keys, or in the scores."""

    def __init__(self, part: TransformerPart, width: int, turned: int):
        super().__init__()
        self.position, self.heads, self.turned = part.positions.build(width, part.heads), part.heads, turned
        self.position.on_qk(torch.zeros(1, 1, dtype=torch.long), turned)  # what cannot be turned is refused now

    def forward(
        self, inputs: Float[Tensor, "rows time width"], at: Int[Tensor, "#rows time"]
    ) -> tuple[Float[Tensor, "rows time width"], Order]:
        position = self.position
        order = Order(at, position.on_qk(at, self.turned), position.on_score(self.heads))
        return position.on_input(inputs, at), order


class Residual(nn.Module):
    """The norm before a part, and dropout on what the part adds."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)


class EncoderLayer(nn.Module):
    def __init__(self, part: TransformerPart, width: int, dropout: float):
        super().__init__()
        self.self_attention = part.attention.build(width, part.heads, part.attention_dropout)
        self.feedforward = FeedForward(width, part.feedforward, dropout)
        self.before_self, self.before_feedforward = Residual(width, dropout), Residual(width, dropout)

    def forward(self, inputs: Tensor, where: Where, order: Order) -> Tensor:
        queries, own = self.self_attention.project(self.before_self.norm(inputs), order.turn)
        inputs = inputs + self.before_self.dropout(self.self_attention(queries, own, where, bias=order.bias))
        return inputs + self.before_feedforward.dropout(self.feedforward(self.before_feedforward.norm(inputs)))


class TransformerEncoder(nn.Module):
    """Self-attention over the whole source, layer upon layer."""

    def __init__(self, part: TransformerPart, width: int, dropout: float):
        super().__init__()
        self.where = part.attention.where.build()
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(part, width, dropout) for _ in range(part.layers))
        self.positions = Positions(part, width, cast(EncoderLayer, self.layers[0]).self_attention.turned)
        self.norm = nn.LayerNorm(width)

    def forward(self, embedded: Padded) -> Padded:
        at = torch.arange(embedded.values.shape[1], device=embedded.values.device)[None]
        features, order = self.positions(embedded.values, at)
        features = self.dropout(features)
        where = Lengths(embedded.lengths) & self.where
        for layer in self.layers:
            features = layer(features, where, order)
        return Padded(self.norm(features), embedded.lengths)


class DecoderLayer(nn.Module):
    def __init__(self, part: TransformerDecoderPart, width: int, dropout: float):
        super().__init__()
        self.self_attention = part.attention.build(width, part.heads, part.attention_dropout)
        self.cross_attention = part.cross_attention.build(width, part.heads, part.attention_dropout)
        self.feedforward = FeedForward(width, part.feedforward, dropout)
        self.before_self, self.before_cross = Residual(width, dropout), Residual(width, dropout)
        self.before_feedforward = Residual(width, dropout)

    def forward(
        self, steps: Padded, order: Order, where: tuple[Where, Where], memory: Nest, past: Cache
    ) -> tuple[Float[Tensor, "rows time width"], Cache]:
        """Over some steps, which may look at their own past and at the memory ``where`` says."""
        inputs, (own_where, cross_where) = steps.values, where
        queries, own = self.self_attention.project(self.before_self.norm(inputs), order.turn)
        begins = past.buffers[0].shape[-2] == 0  # positions from 0 on need no saying, and have faster kernels
        past, seen = extend(past, own, steps.lengths)
        found = self.self_attention(
            queries, type(own)(*seen.buffers), own_where, None if begins else order.at, seen.at, order.bias
        )
        inputs = inputs + self.before_self.dropout(found)
        queries = self.cross_attention.ask(self.before_cross.norm(inputs))
        inputs = inputs + self.before_cross.dropout(self.cross_attention(queries, memory, cross_where, order.at))
        return inputs + self.before_feedforward.dropout(self.feedforward(self.before_feedforward.norm(inputs))), past


class TransformerDecoder(nn.Module):
    """Causal self-attention over the target so far and cross-attention over the source."""

    def __init__(self, part: TransformerDecoderPart, width: int, dropout: float):
        super().__init__()
        self.width = width
        self.where, self.cross_where = Causal() & part.attention.where.build(), part.cross_attention.where.build()
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(DecoderLayer(part, width, dropout) for _ in range(part.layers))
        self.positions = Positions(part, width, next(self._layers()).self_attention.turned)
        self.norm = nn.LayerNorm(width)

    def remember(self, encoded: Padded) -> TransformerMemory:
        return TransformerMemory(
            tuple(layer.cross_attention.remember(encoded.values) for layer in self._layers()), encoded.lengths
        )

    def _layers(self) -> Iterator[DecoderLayer]:
        return cast(Iterator[DecoderLayer], iter(self.layers))

    def start(self, memory: TransformerMemory, rows: int, room: int) -> TransformerState:
        lengths = memory.lengths.new_zeros(rows)
        nothing = self.norm.weight.new_zeros(rows, 0, self.width)
        empty = (layer.self_attention.remember(nothing) for layer in self._layers())
        return tuple(start(buffers, lengths, room, self.where.reach) for buffers in empty)

    def advance(
        self, embedded: Padded, memory: TransformerMemory, state: TransformerState
    ) -> tuple[Decoded, TransformerState]:
        values, lengths = embedded
        at = state[0].lengths[:, None] + torch.arange(values.shape[1], device=values.device)
        features, order = self.positions(values, at)
        features = self.dropout(features)
        where = self.where, Lengths(memory.lengths) & self.cross_where
        grown = []
        for layer, layer_memory, past in zip(self.layers, memory.layers, state, strict=True):
            features, past = layer(Padded(features, lengths), order, where, layer_memory, past)
            grown.append(past)
        return Decoded(self.norm(features)), tuple(grown)
