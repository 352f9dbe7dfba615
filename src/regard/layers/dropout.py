"""Dropout from bits drawn in bulk."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard.randomness import keep_mask


class Dropout(nn.Module):
    """Zero each element with probability ``drop`` while training and scale the rest (Srivastava et al. 2014)."""

    def __init__(self, drop: float):
        super().__init__()
        self.drop = drop

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or not self.drop:
            return inputs
        return torch.where(keep_mask(inputs.shape, self.drop, inputs.device), inputs / (1 - self.drop), 0)
