"""The norm and the dropout around each part of a layer that adds to its input."""

from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from regard.attention.rms_norm import RMSNorm
from regard.layers.dropout import Dropout
from regard.settings import Settings


class LayerNormPart(Settings):
    """Every step less its mean, divided by its deviation (Ba et al. 2016, arXiv 1607.06450)."""

    kind: Literal["layer"] = "layer"
    epsilon: float = Field(default=1e-5, gt=0)

    def build(self, width: int, bias: bool) -> nn.LayerNorm:
        return nn.LayerNorm(width, self.epsilon, bias=bias)


class RMSNormPart(Settings):
    """Every step divided by its root mean square (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    kind: Literal["rms"] = "rms"
    epsilon: float = Field(default=1e-6, gt=0)

    def build(self, width: int, bias: bool) -> RMSNorm:
        return RMSNorm(width, self.epsilon)


StepNormPart = Annotated[LayerNormPart | RMSNormPart, Field(discriminator="kind")]
"""How the features of a step are normalised."""


class Residual(nn.Module):
    """x + dropout(f(norm(x))) when the norm is ``first`` (Xiong et al. 2020, 2002.04745), else norm(x + dropout(f(x))).

    The part f stands between `before` and `after`.
    """

    def __init__(self, norm: nn.Module, dropout: float, first: bool):
        super().__init__()
        self.norm, self.dropout, self.first = norm, Dropout(dropout), first

    def before(self, inputs: Float[Tensor, "rows time width"]) -> Float[Tensor, "rows time width"]:
        return self.norm(inputs) if self.first else inputs

    def after(
        self, inputs: Float[Tensor, "rows time width"], found: Float[Tensor, "rows time width"]
    ) -> Float[Tensor, "rows time width"]:
        total = inputs + self.dropout(found)
        return total if self.first else self.norm(total)
