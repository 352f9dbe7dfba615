"""Losses over tokens, fused with the projection to the vocabulary."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHUNK = 1 << 22
"""Logits held at a time."""


def log_softmax(logits: Float[Tensor, "*rows vocabulary"]) -> Float[Tensor, "*rows vocabulary"]:
    """Over the last axis, in fp32 at least: in bf16 the sum over a vocabulary loses the small probabilities."""
    return F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def smoothed_cross_entropy(
    features: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocabulary width"],
    targets: Int[Tensor, "tokens"],
    smoothing: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sums over tokens, in nats: label-smoothed loss (Szegedy et al. 2016, 1512.00567) and negative log-likelihood.

    Smoothing moves the share ``smoothing`` of each target's probability to all tokens alike. Logits are ``features @
    weight.T``, made and used up in chunks of rows: all of them never exist, and both gradients are ready with the loss.
    Only the first result has a gradient.
    """
    if not torch.is_grad_enabled():
        features, weight = features.detach(), weight.detach()  # nothing is prepared for a backward pass
    apply: Callable[..., tuple[Tensor, Tensor]] = _SmoothedCrossEntropy.apply
    total, likelihood = apply(features, weight, targets, smoothing)
    return total, likelihood


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, features: Tensor, weight: Tensor, targets: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        inputs, outputs = _as_autocast(features), _as_autocast(weight)
        total, likelihood = features.new_zeros(2, dtype=torch.promote_types(features.dtype, torch.float32))
        features_gradient, weight_gradient = torch.empty_like(features), torch.zeros_like(weight)
        size = max(CHUNK // len(weight), 1)
        for start in range(0, len(targets), size):
            rows, answers = inputs[start : start + size], targets[start : start + size]
            log_probs = log_softmax(rows @ outputs.T)
            nll = -log_probs.gather(-1, answers[:, None]).sum()
            likelihood = likelihood + nll
            total = total + (1 - smoothing) * nll - smoothing * log_probs.sum() / len(weight)
            if not any(context.needs_input_grad):
                continue
            slope = _slope(log_probs, answers, smoothing).to(outputs.dtype)
            features_gradient[start : start + size] = slope @ outputs
            weight_gradient += slope.T @ rows
        context.save_for_backward(features_gradient, weight_gradient)
        context.mark_non_differentiable(likelihood)
        return total, likelihood

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, weight = context.saved_tensors
        return features * slope, weight * slope, None, None


def _slope(log_probs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """The gradient of the loss by the logits: probabilities less what they should have been. Uses up its argument."""
    slope = log_probs.exp_().sub_(smoothing / log_probs.shape[-1])
    return slope.scatter_add_(-1, targets[:, None], slope.new_full((len(targets), 1), smoothing - 1))


def _as_autocast(tensor: Tensor) -> Tensor:
    """In the precision that autocast would give a matrix product; inside an autograd function it does not."""
    device = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor
