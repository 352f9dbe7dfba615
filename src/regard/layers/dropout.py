"""Dropout from bits drawn in bulk."""

from jaxtyping import Float
from torch import Tensor, nn

from regard.randomness import drop


class Dropout(nn.Module):
    """Zero each element with probability ``drop`` while training and scale the rest (Srivastava et al. 2014)."""

    def __init__(self, drop: float):
        super().__init__()
        self.drop = drop

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return drop(inputs, self.drop if self.training else 0.0)
