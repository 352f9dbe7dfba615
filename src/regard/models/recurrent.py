"""Recurrent models: a bidirectional encoder and the decoder of Bahdanau et al. 2015 (arXiv 1409.0473)."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from regard import trees
from regard.attention import KeyValues, Lengths
from regard.attention.settings import SteppingPart
from regard.attention.stepping import Looked, unless_padding
from regard.layers.dropout import Dropout
from regard.layers.recurrence import CELLS, Bidirectional, CellState
from regard.models.parts import Decoded, Encoded, Size, Widths
from regard.padded import Padded
from regard.settings import Settings


class RecurrentEncoderPart(Settings):
    """A bidirectional encoder; widths come from the model."""

    kind: Literal["rnn"] = "rnn"
    cell: Literal["gru", "lstm"] = "gru"
    layers: int = Field(default=1, ge=1, le=32)

    def build(self, widths: Widths, dropout: float) -> "RecurrentEncoder":
        return RecurrentEncoder(self, widths.model, dropout)

    def check(self, width: int) -> None:
        if width % 2:
            raise ValueError(f"width {width} must be even: each direction gets half")

    def sized(self, size: Size) -> "RecurrentEncoderPart":
        return self  # one layer is what attention needs; the width grows with the model

    def describe(self) -> str:
        return f"{self.layers}-layer bidirectional {self.cell.upper()}"


class RecurrentDecoderPart(Settings):
    """A decoder of one cell with attention, additive unless said otherwise; widths come from the model."""

    kind: Literal["rnn"] = "rnn"
    cell: Literal["gru", "lstm"] = "gru"
    attention: SteppingPart = SteppingPart()

    def build(self, widths: Widths, dropout: float) -> "RecurrentDecoder":
        return RecurrentDecoder(self, widths.model, dropout)

    def check(self, width: int) -> None: ...

    def sized(self, size: Size) -> "RecurrentDecoderPart":
        return self

    def describe(self) -> str:
        return f"{self.cell.upper()} with {self.attention.score.kind.replace('_', ' ')} attention"


class RecurrentMemory(NamedTuple):
    """Keys of the score, the encoder states themselves, their lengths and the decoder's first state."""

    source: KeyValues
    lengths: Int[Tensor, "batch"]
    first: Float[Tensor, "batch width"]


class RecurrentState(NamedTuple):
    """The cell's, what attention keeps, and how many steps each row took."""

    cell: CellState
    looked: Looked
    lengths: Int[Tensor, "rows"]


class RecurrentEncoder(nn.Module):
    """Both directions over the source, half of the width each."""

    def __init__(self, part: RecurrentEncoderPart, width: int, dropout: float):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.recurrence = Bidirectional(part.cell, width, part.layers, dropout)

    def forward(self, embedded: Padded) -> Padded:
        encoded = self.recurrence(Padded(self.dropout(embedded.values), embedded.lengths))
        return Padded(self.dropout(encoded.values), encoded.lengths)


class RecurrentDecoder(nn.Module):
    """Attend with the previous state, then step: c = attention(s', h), s = cell([y, c], s'), features of s, c and y.

    What depends on the embedded target alone is computed for all steps before the loop, what only features need, after.
    The first state is a projection of the mean encoder state, which any encoder has (Sennrich et al. 2017, 1703.04357).
    """

    def __init__(self, part: RecurrentDecoderPart, width: int, dropout: float):
        super().__init__()
        self.cell = CELLS[part.cell](width)
        self.input = nn.Linear(width, self.cell.gates * width)
        self.context = nn.Linear(width, self.cell.gates * width, bias=False)
        self.where = part.attention.where.build()
        self.cross_attention = part.attention.build(width)
        self.first = nn.Linear(width, width)
        self.readout = nn.Linear(3 * width, width)
        self.dropout = Dropout(dropout)

    def remember(self, encoded: Encoded) -> RecurrentMemory:
        states = encoded.states
        real = states.mask[..., None].to(states.values.dtype)
        mean = (states.values * real).sum(1) / states.lengths.clamp(min=1)[:, None]
        return RecurrentMemory(
            self.cross_attention.remember(states.values), states.lengths, torch.tanh(self.first(mean))
        )

    def start(self, memory: RecurrentMemory, rows: int, room: int) -> RecurrentState:
        first: Tensor = trees.repeat(memory.first, rows // len(memory.first))
        cell = (first, *(torch.zeros_like(first) for _ in range(self.cell.states - 1)))
        return RecurrentState(cell, self.cross_attention.start(memory.source, rows), memory.lengths.new_zeros(rows))

    def advance(
        self, embedded: Padded, memory: RecurrentMemory, state: RecurrentState
    ) -> tuple[Decoded, RecurrentState]:
        inputs = self.dropout(embedded.values)
        gates, real, where = self.input(inputs), embedded.mask, Lengths(memory.lengths) & self.where
        cell, looked, lengths = state
        states, contexts = [], []
        for step in range(inputs.shape[1]):
            context, looking = self.cross_attention(cell[0], memory.source, where, lengths + step, looked)
            stepped = self.cell(gates[:, step] + self.context(context), cell)
            kept = real[:, step]
            cell = tuple(torch.where(kept[:, None], new, old) for new, old in zip(stepped, cell, strict=True))
            looked = unless_padding(kept, looking, looked)
            states.append(cell[0])
            contexts.append(context)
        features = torch.cat([torch.stack(states, 1), torch.stack(contexts, 1), inputs], dim=-1)
        decoded = Decoded(self.dropout(torch.tanh(self.readout(features))))
        return decoded, RecurrentState(cell, looked, lengths + embedded.lengths)
