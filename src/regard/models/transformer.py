"""The Transformer (Vaswani et al. 2017, arXiv 1706.03762) and what became of it."""

from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from regard.attention import Causal, Lengths, Where
from regard.attention.positions import PositionPart, Sinusoidal
from regard.attention.settings import AttentionPart
from regard.layers.dropout import Dropout
from regard.layers.feedforward import Activation, FeedForward
from regard.layers.residual import LayerNormPart, Residual, StepNormPart
from regard.models.mixing import (
    DecoderMixingPart,
    EncoderMixingPart,
    Mixing,
    Order,
    SelfAttention,
    SelfAttentionPart,
    build_mixer,
)
from regard.models.parts import Decoded, Encoded, Part, Size, Widths
from regard.padded import Padded
from regard.trees import Nest


class TransformerPart(Part):
    """One side of a Transformer; widths come from the model."""

    kind: Literal["transformer"] = "transformer"
    layers: int = Field(default=4, ge=1, le=128)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=1024, ge=1, le=65536)
    activation: Activation = "relu"
    attention_dropout: float = Field(default=0.1, ge=0, lt=1, description="of weights, in attention and convolutions")
    positions: PositionPart = Sinusoidal()
    attention: AttentionPart = AttentionPart()
    norm: StepNormPart = LayerNormPart()
    norm_first: bool = Field(default=True, description="before each part of a layer, and after the last layer")
    norm_embedded: bool = Field(default=False, description="also before the first layer")
    bias: bool = Field(default=True, description="in attention, feed-forward networks and norms")
    shared_layers: bool = Field(default=False, description="all layers have the weights of the first")
    layer_drop: float = Field(default=0, ge=0, lt=1, description="the share of layers left out in training")
    mixers: tuple[EncoderMixingPart | DecoderMixingPart, ...] = Field(default=(SelfAttentionPart(),), min_length=1)

    def check(self, width: int) -> None:
        if width % (2 * self.heads) and not getattr(self.attention.layout, "head_width", None):
            raise ValueError(f"width {width} does not split into {self.heads} heads of even width")
        attends = any(isinstance(mixer, SelfAttentionPart) for mixer in self.mixers[: self.layers])
        if not attends and (unseen := _in_attention(self.positions)):
            raise ValueError(
                f"{unseen} positions act in self-attention, and no layer has any: "
                "set positions to {kind: sinusoidal}, or give a mixer {kind: attention}"
            )

    @model_validator(mode="after")
    def _shared_layers_are_alike(self) -> "TransformerPart":
        if self.shared_layers and len(set(self.mixers)) > 1:
            raise ValueError("shared layers are all alike: give one mixer, or leave out shared_layers")
        return self

    def sized(self, size: Size) -> "TransformerPart":
        changes = {"layers": size.layers, "heads": size.heads, "feedforward": size.feedforward}
        return self.model_copy(update=changes)

    def describe(self) -> str:
        kinds = dict.fromkeys(mixer.kind.replace("_", " ") for mixer in self.mixers)
        mixed = "" if [*kinds] == ["attention"] else f" of {' and '.join(kinds)}"
        return f"{self.layers}-layer Transformer{mixed}"


def _in_attention(positions: PositionPart) -> str | None:
    """The first of some positions that act in attention alone, if none of them acts on the input."""
    kinds = [part.kind for part in (positions.of if positions.kind == "sum" else [positions])]
    return kinds[0] if {*kinds} <= {"rotary", "alibi", "t5_bias"} else None


class TransformerEncoderPart(TransformerPart):
    """An encoder; ``mixers`` take turns from layer to layer."""

    mixers: tuple[EncoderMixingPart, ...] = Field(default=(SelfAttentionPart(),), min_length=1)

    def build(self, widths: Widths, dropout: float) -> "TransformerEncoder":
        return TransformerEncoder(self, widths, dropout)


class TransformerDecoderPart(TransformerPart):
    """A decoder; ``attention`` is to its own steps, ``mixers`` take turns from layer to layer."""

    cross_attention: AttentionPart = AttentionPart()
    mixers: tuple[DecoderMixingPart, ...] = Field(default=(SelfAttentionPart(),), min_length=1)

    def build(self, widths: Widths, dropout: float) -> "TransformerDecoder":
        return TransformerDecoder(self, widths, dropout)


class TransformerMemory(NamedTuple):
    """What every layer keeps of the encoded source, keys and values mostly, and its lengths."""

    layers: tuple[Nest, ...]
    lengths: Int[Tensor, "batch"]


class TransformerState(NamedTuple):
    """How many steps each row took, and what every layer keeps of them."""

    lengths: Int[Tensor, "rows"]
    layers: tuple[Nest, ...]


class Layer(nn.Module):
    """Steps see each other, then the memory if there is one, then a feed-forward network takes each alone."""

    def __init__(self, part: TransformerPart, mixing: Mixing, width: int, dropout: float, cross: AttentionPart | None):
        super().__init__()
        self.mixing: Any = mixing
        self.cross_attention = cross.build(width, part.heads, part.attention_dropout, part.bias) if cross else None
        self.feedforward = FeedForward(width, part.feedforward, dropout, part.activation, part.bias)
        self.around_mixing = _residual(part, width, dropout)
        self.around_cross = _residual(part, width, dropout) if cross else None
        self.around_feedforward = _residual(part, width, dropout)

    def forward(
        self, steps: Padded, order: Order, past: Nest | None, memory: Nest = None, cross_where: Where | None = None
    ) -> tuple[Float[Tensor, "rows time width"], Nest]:
        """Over some steps, and what is kept of them; ``cross_where`` says which steps of the memory to look at."""
        inputs, lengths = steps.values, steps.lengths
        found, past = self.mixing(Padded(self.around_mixing.before(inputs), lengths), order, past)
        inputs = self.around_mixing.after(inputs, found)
        if self.cross_attention and self.around_cross and cross_where:
            queries = self.cross_attention.ask(self.around_cross.before(inputs))
            found = self.cross_attention(queries, memory, cross_where, order.at)
            inputs = self.around_cross.after(inputs, found)
        found = self.feedforward(self.around_feedforward.before(inputs))
        return self.around_feedforward.after(inputs, found), past


class Stack(nn.Module):
    """Layer upon layer, with what stands before the first and after the last."""

    def __init__(
        self,
        part: TransformerEncoderPart | TransformerDecoderPart,
        where: Where,
        widths: tuple[int, int, int],
        dropout: float,
        cross: AttentionPart | None = None,
    ):
        super().__init__()
        entered, width, left = widths
        self.where, self.layer_drop, self.dropout = where, part.layer_drop, Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(part, _mixing(part, number, width, where.reach), width, dropout, cross)
            for number in range(part.layers)
        )
        for layer in self.layers[1:] if part.shared_layers else ():
            share(self.layers[0], layer)
        self.heads, self.turned = part.heads, _turned(self.layers)
        self.position = part.positions.build(width, part.heads)
        self.position.on_qk(torch.zeros(1, 1, dtype=torch.long), self.turned)  # what cannot be turned is refused now
        self.norm = part.norm.build(width, part.bias) if part.norm_first else nn.Identity()
        self.first_norm = part.norm.build(width, part.bias) if part.norm_embedded else nn.Identity()
        self.enter = nn.Identity() if entered == width else nn.Linear(entered, width, bias=False)
        self.leave = nn.Identity() if left == width else nn.Linear(width, left, bias=False)

    def begin(
        self, embedded: Float[Tensor, "rows time embedded"], at: Int[Tensor, "#rows time"]
    ) -> tuple[Float[Tensor, "rows time width"], Order]:
        """The input of the first layer for steps at positions ``at``."""
        order = Order(at, self.where, self.position.on_qk(at, self.turned), self.position.on_score(self.heads))
        inputs = self.position.on_input(self.enter(embedded), at)
        return self.dropout(self.first_norm(inputs)), order

    def leaves_out(self) -> bool:
        """Whether the next layer is left out this time, drawn in training (Fan et al. 2019, arXiv 1909.11556)."""
        return bool(self.training and self.layer_drop and torch.rand(()) < self.layer_drop)


class TransformerEncoder(Stack):
    """Self-attention over the whole source, layer upon layer."""

    def __init__(self, part: TransformerEncoderPart, widths: Widths, dropout: float):
        sizes = widths.embedded, widths.model, widths.model
        super().__init__(part, part.attention.where.build(), sizes, dropout)

    def forward(self, embedded: Padded) -> Padded:
        at = torch.arange(embedded.values.shape[1], device=embedded.values.device)[None]
        features, order = self.begin(embedded.values, at)
        for layer in self.layers:
            if not self.leaves_out():
                features, _ = layer(Padded(features, embedded.lengths), order, None)
        return Padded(self.leave(self.norm(features)), embedded.lengths)


class TransformerDecoder(Stack):
    """Causal self-attention over the target so far and cross-attention over the source, if there is one."""

    def __init__(self, part: TransformerDecoderPart, widths: Widths, dropout: float):
        sizes = widths.embedded, widths.model, widths.output
        cross = part.cross_attention if widths.memory else None
        super().__init__(part, Causal() & part.attention.where.build(), sizes, dropout, cross)
        self.cross_where = part.cross_attention.where.build()

    def remember(self, encoded: Encoded) -> TransformerMemory:
        kept = (cast(Layer, layer).cross_attention for layer in self.layers)
        states = encoded.states
        return TransformerMemory(tuple(one.remember(states.values) for one in kept if one is not None), states.lengths)

    def start(self, memory: TransformerMemory | None, rows: int, room: int) -> TransformerState:
        states = tuple(cast(Layer, layer).mixing.start(rows, room) for layer in self.layers)
        device = memory.lengths.device if memory else next(self.parameters()).device
        return TransformerState(torch.zeros(rows, dtype=torch.long, device=device), states)

    def advance(
        self, embedded: Padded, memory: TransformerMemory | None, state: TransformerState
    ) -> tuple[Decoded, TransformerState]:
        values, lengths = embedded.values, embedded.lengths
        after = (state.lengths + lengths)[:, None]
        at = state.lengths[:, None] + torch.arange(values.shape[1], device=values.device)
        at = torch.minimum(at, (after - 1).clamp(min=0))  # padding stands nowhere that learned positions do not know
        features, order = self.begin(values, at)
        where = Lengths(memory.lengths) & self.cross_where if memory else None
        grown = list(state.layers)
        for number, layer in enumerate(self.layers):
            left_out = self.leaves_out()
            if left_out and memory:
                continue
            seen = memory.layers[number] if memory else None
            found, grown[number] = layer(Padded(features, lengths), order, grown[number], seen, where)
            # where the source was read by these layers, one that is left out now may be looked back at later
            features = features if left_out else found
        return Decoded(self.leave(self.norm(features))), TransformerState(after[:, 0], tuple(grown))


def share(first: nn.Module, other: nn.Module) -> None:
    """Give one module the weights of another of the same shape (Lan et al. 2019, arXiv 1909.11942)."""
    for path, module in first.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(other.get_submodule(path), name, weight)


def _residual(part: TransformerPart, width: int, dropout: float) -> Residual:
    return Residual(part.norm.build(width, part.bias), dropout, part.norm_first)


def _mixing(
    part: TransformerEncoderPart | TransformerDecoderPart, number: int, width: int, reach: int | None
) -> Mixing:
    chosen = part.mixers[number % len(part.mixers)]
    if isinstance(chosen, SelfAttentionPart):
        attention = part.attention.build(width, part.heads, part.attention_dropout, part.bias)
        return SelfAttention(attention, width, reach)
    causal = isinstance(part, TransformerDecoderPart)
    return build_mixer(chosen, width, part.heads, part.attention_dropout, causal)


def _turned(layers: nn.ModuleList) -> int:
    """How many features of queries and keys positions turn; none where no layer has any."""
    mixings = (cast(Layer, layer).mixing for layer in layers)
    return next((one.self_attention.turned for one in mixings if isinstance(one, SelfAttention)), 2)
