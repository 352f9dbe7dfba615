"""Convolutional models: ConvS2S (Gehring et al. 2017, 1705.03122) and the TCN (Bai et al. 2018, 1803.01271)."""

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from regard.attention import Lengths
from regard.attention.positions import LearnedPart, NoPosition, Sinusoidal
from regard.layers.convolution import Convolution, after, centred
from regard.layers.dropout import Dropout
from regard.models.convolutional_blocks import BLOCKS, Block, MultiStepPart, Shape, Sight, together
from regard.models.parts import Decoded, Encoded, Part, Size, Widths
from regard.padded import Padded
from regard.settings import Settings

FURTHEST = 4096
"""Steps that a convolution can reach back; its state holds so many, however few there are."""


class Stage(Settings):
    """Layers of one width, the model's unless given, and one kernel."""

    layers: int = Field(ge=1, le=128)
    kernel: int = Field(default=3, ge=1, le=1024)
    width: int | None = Field(default=None, ge=1, le=16384)


class ConvolutionalPart(Part):
    """One side of a convolutional model: ``layers`` of one ``kernel``, or ``stages`` instead of both.

    Gated blocks are those of ConvS2S, one convolution and a gated linear unit. Temporal ones are those of the TCN, two
    convolutions and ReLU; their dilation doubles from layer to layer.
    """

    kind: Literal["convolutional"] = "convolutional"
    block: Literal["gated", "temporal"] = "gated"
    layers: int = Field(default=4, ge=1, le=128)
    kernel: int = Field(default=3, ge=1, le=1024)
    stages: tuple[Stage, ...] = ()
    positions: Annotated[NoPosition | Sinusoidal | LearnedPart, Field(discriminator="kind")] = Sinusoidal()

    def shapes(self, width: int) -> list[Shape]:
        """The convolutions of every layer."""
        stages = self.stages or (Stage(layers=self.layers, kernel=self.kernel),)
        sizes = [(stage.width or width, stage.kernel) for stage in stages for _ in range(stage.layers)]
        before = [sizes[0][0], *(out for out, _ in sizes)]
        doubles = self.block == "temporal"
        return [Shape(before[at], *size, 2**at if doubles else 1) for at, size in enumerate(sizes)]

    def check(self, width: int) -> None:
        shapes = self.shapes(width)
        reach = max((shape.kernel - 1) * shape.dilation for shape in shapes)
        if reach > FURTHEST:
            raise ValueError(f"a convolution would reach back {reach:,} steps and keep them all: at most {FURTHEST:,}")
        if self.block == "temporal" and any(shape.kernel == 1 for shape in shapes):
            raise ValueError("a temporal block of kernel 1 would see no step but its own: set the kernel to 2 or more")

    def sized(self, size: Size) -> "ConvolutionalPart":
        return self if self.stages else self.model_copy(update={"layers": size.layers})

    def describe(self) -> str:
        return f"{len(self.shapes(1))}-layer {self.block} convolutional"


class ConvolutionalEncoderPart(ConvolutionalPart):
    """An encoder; every convolution looks to both sides."""

    def build(self, widths: Widths, dropout: float) -> "ConvolutionalEncoder":
        return ConvolutionalEncoder(self, widths, dropout)


class ConvolutionalDecoderPart(ConvolutionalPart):
    """A decoder; every convolution looks back, and every layer has an attention of its own to the source."""

    cross_attention: MultiStepPart = MultiStepPart()

    def build(self, widths: Widths, dropout: float) -> "ConvolutionalDecoder":
        return ConvolutionalDecoder(self, widths, dropout)


class ConvolutionalMemory(NamedTuple):
    """The keys of every layer's score, and the values and lengths that all share."""

    keys: tuple[Float[Tensor, "batch 1 keys features"], ...]
    values: Float[Tensor, "batch 1 keys width"]
    lengths: Int[Tensor, "batch"]


class ConvolutionalState(NamedTuple):
    """What each convolution can still see of the steps before, (rows, reach, width), and how many there were."""

    past: tuple[Tensor, ...]
    lengths: Int[Tensor, "rows"]


class Around:
    """Windows around each step; what is not in the row is zero."""

    def __init__(self, inputs: Padded):
        self.padding = ~inputs.mask[..., None]

    def __call__(self, convolution: Convolution, inputs: Tensor) -> Tensor:
        return convolution(centred(inputs.masked_fill(self.padding, 0.0), convolution.reach))


class Behind:
    """Windows that end at each step, for convolutions in the order of their past; ``left`` is what they leave."""

    def __init__(self, past: tuple[Tensor, ...], lengths: Int[Tensor, "rows"]):
        self.past, self.lengths = iter(past), lengths
        self.left: list[Tensor] = []

    def __call__(self, convolution: Convolution, inputs: Tensor) -> Tensor:
        joined, left = after(next(self.past), inputs, self.lengths)
        self.left.append(left)
        return convolution(joined)


class Stack(nn.Module):
    """What both sides have in common: positions, a projection in, layers, a projection out."""

    def __init__(self, part: ConvolutionalPart, ends: tuple[int, int], width: int, dropout: float):
        super().__init__()
        shapes, (entering, leaving) = part.shapes(width), ends
        self.dropout = Dropout(dropout)
        self.position = part.positions.build(entering, 1)
        self.enter = Convolution(entering, shapes[0].before, variance=1 - dropout)
        self.layers = nn.ModuleList(BLOCKS[part.block](shape, dropout) for shape in shapes)
        self.leave = Convolution(shapes[-1].width, leaving)

    def blocks(self) -> Iterator[Block]:
        return cast(Iterator[Block], iter(self.layers))


class ConvolutionalEncoder(Stack):
    """Each layer sees further to both sides."""

    def __init__(self, part: ConvolutionalPart, widths: Widths, dropout: float):
        super().__init__(part, (widths.embedded, widths.model), widths.model, dropout)

    def forward(self, embedded: Padded) -> Padded:
        at = torch.arange(embedded.values.shape[1], device=embedded.values.device)[None]
        features = self.enter(self.dropout(self.position.on_input(embedded.values, at)))
        windows = Around(embedded)
        for layer in self.blocks():
            features = layer(features, windows)
        return embedded._replace(values=self.leave(features))


class ConvolutionalDecoder(Stack):
    """Each layer sees further back, and looks at the source for itself (multi-step attention, section 3.3).

    What is found there is encoder state plus source embedding, here without its position. The encoder's gradient is
    divided by the number of attentions that it comes from (section 3.4).
    """

    def __init__(self, part: ConvolutionalDecoderPart, widths: Widths, dropout: float):
        super().__init__(part, (widths.embedded, widths.output), widths.model, dropout)
        self.where = part.cross_attention.where.build()
        if not widths.memory:
            return
        self.source, self.target = (fitted(widths.embedded, widths.memory) for _ in range(2))
        for layer, shape in zip(self.blocks(), part.shapes(widths.model), strict=True):
            layer.cross_attention = part.cross_attention.build(shape.width, widths.memory)

    def remember(self, encoded: Encoded) -> ConvolutionalMemory:
        lengths, states = encoded.states.lengths, encoded.states.values
        states = torch.lerp(states.detach(), states, 1 / len(self.layers))  # the same, with so much of the gradient
        keys = tuple(layer.cross_attention.remember(states) for layer in self.blocks() if layer.cross_attention)
        values = together(states, self.source(encoded.embedded.values)) if encoded.stepwise else states
        # a mean of m values has 1 / m of their variance; weights are as those of a mean at first (section 3.4)
        values = values * lengths.to(values.dtype).sqrt()[:, None, None]
        return ConvolutionalMemory(keys, values[:, None], lengths)

    def start(self, memory: ConvolutionalMemory | None, rows: int, room: int) -> ConvolutionalState:
        convolutions = (one for layer in self.blocks() for one in layer.convolutions)
        past = tuple(one.bias.new_zeros(rows, one.reach, one.width) for one in convolutions)
        return ConvolutionalState(past, torch.zeros(rows, dtype=torch.long, device=past[0].device))

    def advance(
        self, embedded: Padded, memory: ConvolutionalMemory | None, state: ConvolutionalState
    ) -> tuple[Decoded, ConvolutionalState]:
        at = state.lengths[:, None] + torch.arange(embedded.values.shape[1], device=state.lengths.device)
        inputs = self.dropout(self.position.on_input(embedded.values, at))
        features, windows = self.enter(inputs), Behind(state.past, embedded.lengths)
        for layer, sight in zip(self.blocks(), self._sights(inputs, at, memory), strict=True):
            features = layer(features, windows, sight)
        decoded = Decoded(self.dropout(self.leave(features)))
        return decoded, ConvolutionalState(tuple(windows.left), state.lengths + embedded.lengths)

    def _sights(self, inputs: Tensor, at: Tensor, memory: ConvolutionalMemory | None) -> list[Sight | None]:
        """What each layer looks with and at."""
        if memory is None:
            return [None] * len(self.layers)
        target, where = self.target(inputs), Lengths(memory.lengths) & self.where
        return [Sight(target, at, keys, memory.values, where) for keys in memory.keys]


def fitted(width: int, wanted: int) -> nn.Module:
    """Features as they are, or projected to the width that is wanted."""
    return nn.Identity() if width == wanted else Convolution(width, wanted)
