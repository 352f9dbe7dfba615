"""Recurrent encoders: one direction or both, any number of layers."""

from typing import Literal

from pydantic import Field
from torch import nn

from regard.layers.recurrence import CellName, LayersAbove, Recurrence, dropout_of
from regard.models.parts import Part, Widths
from regard.padded import Padded


class RecurrentPart(Part):
    """What both sides may choose; one layer is what attention needs, so only the width grows with the text."""

    kind: Literal["rnn"] = "rnn"
    cell: CellName = "gru"
    layers: int = Field(default=1, ge=1, le=32)
    residual: bool = Field(default=False, description="each layer above the first adds its input")
    variational: bool = Field(default=False, description="dropout has one mask for all steps read at once")


class RecurrentEncoderPart(RecurrentPart):
    """A recurrent encoder of the model's width; with two directions each has half of it."""

    bidirectional: bool = True

    def build(self, widths: Widths, dropout: float) -> "RecurrentEncoder":
        return RecurrentEncoder(self, widths, dropout)

    def check(self, width: int) -> None:
        if self.bidirectional and width % 2:
            raise ValueError(f"width {width} must be even: each direction gets half")

    def describe(self) -> str:
        return f"{self.layers}-layer {'bidirectional ' if self.bidirectional else ''}{self.cell.upper()}"


class RecurrentEncoder(nn.Module):
    """Recurrent layers over the source; dropout before, between and after them."""

    def __init__(self, part: RecurrentEncoderPart, widths: Widths, dropout: float):
        super().__init__()
        each = widths.model // (2 if part.bidirectional else 1)
        inputs = [widths.embedded] + [widths.model] * (part.layers - 1)
        first, *above = (Recurrence(part.cell, entering, each, part.bidirectional) for entering in inputs)
        self.dropout = dropout_of(dropout, part.variational)
        self.first, self.above = first, LayersAbove(above, self.dropout, part.residual)

    def forward(self, embedded: Padded) -> Padded:
        found, _ = self.first(embedded._replace(values=self.dropout(embedded.values)))
        features, _ = self.above(embedded._replace(values=found))
        return embedded._replace(values=self.dropout(features))
