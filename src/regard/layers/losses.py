"""Losses over tokens, fused with the projection to the vocabulary."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
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
    apply: Callable[..., tuple[Tensor, Tensor]] = _SmoothedCrossEntropy.apply
    total, likelihood = apply(features, weight, targets, smoothing)
    return total, likelihood


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, features: Tensor, weight: Tensor, targets: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        vocabulary = weight.shape[0]
        kind = (
            torch.get_autocast_dtype(features.device.type) if torch.is_autocast_enabled(features.device.type) else None
        )
        inputs, outputs = features.to(kind or features.dtype), weight.to(kind or weight.dtype)
        total, likelihood = features.new_zeros(2, dtype=torch.promote_types(features.dtype, torch.float32))
        gradients = []
        weight_gradient = torch.zeros_like(weight)
        for rows, answers in zip(
            inputs.split(max(CHUNK // vocabulary, 1)), targets.split(max(CHUNK // vocabulary, 1)), strict=True
        ):
            log_probs = log_softmax(rows @ outputs.T)
            nll = -log_probs.gather(-1, answers[:, None]).sum()
            likelihood = likelihood + nll
            total = total + (1 - smoothing) * nll - smoothing * log_probs.sum() / vocabulary
            slope = log_probs.exp_().sub_(smoothing / vocabulary)
            slope.scatter_add_(-1, answers[:, None], slope.new_full((len(answers), 1), smoothing - 1))
            slope = slope.to(outputs.dtype)
            gradients.append(slope @ outputs)
            weight_gradient += slope.T @ rows
        context.save_for_backward(torch.cat(gradients).to(features.dtype), weight_gradient)
        context.mark_non_differentiable(likelihood)
        return total, likelihood

    @staticmethod
    def backward(context: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, weight = context.saved_tensors
        return features * slope, weight * slope, None, None
