"""Encoders that give one state for each variable of a series, and the decoder that reads a forecast off them."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from regard.attention.positions import LearnedPart, NoPosition
from regard.errors import SettingsError
from regard.layers.dropout import Dropout
from regard.layers.series import Patches, Window
from regard.models.encoder_only import AlignedMemory, Beside
from regard.models.parts import Encoded, Part, Widths
from regard.models.recurrent_encoder import RecurrentEncoderPart
from regard.models.transformer import TransformerEncoderPart
from regard.padded import Padded


def _window(widths: Widths) -> Window:
    """Raises SettingsError: sources are no windows of a series."""
    if widths.window is None:
        raise SettingsError("this part reads windows of a series", hint="choose another kind, or task.kind=forecast")
    return widths.window


class VariablesPart(Part):
    """Settings of an encoder with one state for each variable, (batch, variables, ...), or of a decoder of them."""

    by_variable: ClassVar[bool] = True


class LinearEncoderPart(VariablesPart):
    """A variable's steps are its state: with `flatten` one linear layer from past to future for all variables.

    The linear model of Zeng et al. 2023 (arXiv 2205.13504), its instances normalised.
    """

    kind: Literal["linear"] = "linear"

    def memory(self, widths: Widths) -> int:
        return _window(widths).steps

    def build(self, widths: Widths, dropout: float) -> "LinearEncoder":
        _window(widths)
        return LinearEncoder()

    def describe(self) -> str:
        return "linear"


class PatchEncoderPart(VariablesPart):
    """Patches of each variable by itself, and an ``inner`` encoder over them (Nie et al. 2023, arXiv 2211.14730)."""

    kind: Literal["patch"] = "patch"
    length: int = Field(default=16, ge=1, description="steps of a patch")
    stride: int = Field(default=8, ge=1, description="steps from one patch to the next")
    inner: Annotated[TransformerEncoderPart | RecurrentEncoderPart, Field(discriminator="kind")] = (
        TransformerEncoderPart(layers=3, heads=4, feedforward=128, positions=LearnedPart(length=512))
    )

    def check(self, width: int) -> None:
        self.inner.check(width)

    def memory(self, widths: Widths) -> int:
        return self._patches(widths).number * widths.model

    def _patches(self, widths: Widths) -> Patches:
        return Patches(_window(widths).steps, self.length, self.stride, widths.model)

    def build(self, widths: Widths, dropout: float) -> "PatchEncoder":
        inner = self.inner.build(widths._replace(embedded=widths.model), dropout)
        return PatchEncoder(self._patches(widths), inner)

    def describe(self) -> str:
        return f"{self.inner.describe()} over patches"


class InvertedEncoderPart(VariablesPart):
    """Variables as the steps of an ``inner`` Transformer: iTransformer (Liu et al. 2024, arXiv 2310.06625)."""

    kind: Literal["inverted"] = "inverted"
    inner: TransformerEncoderPart = TransformerEncoderPart(
        layers=2, heads=4, feedforward=256, positions=NoPosition(), norm_first=False
    )

    def check(self, width: int) -> None:
        self.inner.check(width)

    def build(self, widths: Widths, dropout: float) -> "InvertedEncoder":
        inner = self.inner.build(widths._replace(embedded=widths.model), dropout)
        return InvertedEncoder(_window(widths).steps, widths.model, inner)

    def describe(self) -> str:
        return f"{self.inner.describe()} over variables"


class FlattenDecoderPart(VariablesPart):
    """All of the forecast at once by one linear layer over the state of each variable."""

    kind: Literal["flatten"] = "flatten"

    def build(self, widths: Widths, dropout: float) -> "FlattenDecoder":
        return FlattenDecoder(widths, dropout)

    def describe(self) -> str:
        return "flattening"


def _by_variable(steps: Padded) -> Float[Tensor, "batch variables steps"]:
    return steps.values.transpose(1, 2)


def _states(values: Float[Tensor, "batch variables features"]) -> Padded:
    """Every row has all variables."""
    return Padded(values, torch.full((len(values),), values.shape[1], device=values.device))


class LinearEncoder(nn.Module):
    """States are the windows themselves, (batch, variables, steps)."""

    def forward(self, steps: Padded) -> Padded:
        return _states(_by_variable(steps))


@runtime_checkable
class Regrouping(Protocol):
    """An encoder whose attention is between groups of steps, by the first of each, or between variables: None."""

    begins: Sequence[int] | None


class PatchEncoder(nn.Module):
    """Variables are rows of their own, with the same weights; the states of all their patches are one,
    (batch, variables, patches * width)."""

    def __init__(self, patches: Patches, inner: nn.Module):
        super().__init__()
        self.patches, self.inner, self.begins = patches, inner, patches.begins

    def forward(self, steps: Padded) -> Padded:
        variables = _by_variable(steps)
        cut = self.patches(variables.flatten(0, 1))
        lengths = torch.full((len(cut),), cut.shape[1], device=cut.device)
        found = self.inner(Padded(cut, lengths)).values.flatten(1)
        return _states(found.unflatten(0, variables.shape[:2]))


class InvertedEncoder(nn.Module):
    """All steps of a variable as one vector, which sees those of the others, (batch, variables, width)."""

    def __init__(self, steps: int, width: int, inner: nn.Module):
        super().__init__()
        self.projection, self.inner, self.begins = nn.Linear(steps, width), inner, None

    def forward(self, steps: Padded) -> Padded:
        return self.inner(_states(self.projection(_by_variable(steps))))


class FlattenDecoder(Beside):
    """Step t has the values of all variables t steps ahead, variable by variable, whatever the tokens before.

    One linear layer takes the state of a variable to its whole horizon. The values are what the head would make of
    features, so it has no weights of its own.
    """

    def __init__(self, widths: Widths, dropout: float):
        super().__init__()
        window = _window(widths)
        self.shape = window.horizon, window.outputs
        self.dropout = Dropout(dropout)
        self.projection = nn.Linear(widths.memory, window.horizon * window.outputs)

    def remember(self, encoded: Encoded) -> AlignedMemory:
        ahead = self.projection(self.dropout(encoded.states.values)).unflatten(-1, self.shape)
        features = ahead.transpose(1, 2).flatten(2)
        return AlignedMemory(features, torch.full_like(encoded.states.lengths, self.shape[0]))
