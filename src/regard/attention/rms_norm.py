"""The root-mean-square norm of features, also of heads and latents."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """Steps divided by their root mean square (Zhang and Sennrich 2019, arXiv 1910.07467), in the input's precision."""

    def __init__(self, width: int, epsilon: float = 1e-6):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, inputs: Float[Tensor, "*steps width"]) -> Float[Tensor, "*steps width"]:
        if inputs.device.type == "cpu":
            apply: Callable[..., Tensor] = _RMSNormOnCPU.apply
            return apply(inputs, self.weight, self.epsilon)
        return F.rms_norm(inputs, self.weight.shape, self.weight.to(inputs.dtype), self.epsilon)


class _RMSNormOnCPU(torch.autograd.Function):
    """torch has no fused kernel of it here, and its composed one takes two to five times as long."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        exact = torch.promote_types(inputs.dtype, torch.float32)
        length = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True, dtype=exact)
        scale = (length.square() / inputs.shape[-1] + epsilon).rsqrt().to(inputs.dtype)
        unit = inputs * scale
        context.save_for_backward(unit, scale, weight)
        return unit * weight.to(inputs.dtype)

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = context.saved_tensors
        weight_gradient = (slope * unit).flatten(0, -2).sum(0, dtype=weight.dtype)
        slope = slope * weight.to(slope.dtype)
        along = torch.linalg.vecdot(slope, unit)[..., None] / unit.shape[-1]
        return torch.addcmul(slope, unit, along, value=-1) * scale, weight_gradient, None
