"""Losses over tokens, fused with the projection to the vocabulary."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from regard.layers.precision import as_autocast

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
        inputs, outputs = as_autocast(features), as_autocast(weight)
        total, likelihood = features.new_zeros(2, dtype=torch.promote_types(features.dtype, torch.float32))
        features_gradient, weight_gradient = torch.empty_like(features), torch.zeros_like(weight)
        mean_weight = weight.to(total.dtype).mean(0)
        size = max(CHUNK // len(weight), 1)
        # Both buffers serve every chunk: memory that is fresh from the system costs more than what is done with it.
        buffers = inputs.new_empty(2, min(size, len(targets)), len(weight))
        for start in range(0, len(targets), size):
            rows, answers = inputs[start : start + size], targets[start : start + size, None]
            logits, probs = buffers[:, : len(rows)]
            torch.mm(rows, outputs.T, out=logits)
            torch.softmax(logits, -1, out=probs)
            log_sum = logits.amax(-1).to(total.dtype) - probs.amax(-1).to(total.dtype).log()
            nll = (log_sum - logits.gather(-1, answers)[:, 0]).sum()
            likelihood += nll
            total += (1 - smoothing) * nll + smoothing * (log_sum - rows.to(total.dtype) @ mean_weight).sum()
            if not any(context.needs_input_grad):
                continue
            slope = probs.sub_(smoothing / len(weight))  # the gradient by the logits: what is less what should be
            slope[torch.arange(len(rows), device=rows.device), answers[:, 0]] -= 1 - smoothing
            features_gradient[start : start + size] = slope @ outputs
            weight_gradient += slope.T @ rows
        context.save_for_backward(features_gradient, weight_gradient)
        context.mark_non_differentiable(likelihood)
        return total, likelihood

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, weight = context.saved_tensors
        return features * slope.to(features.dtype), weight * slope, None, None


def two_way_divergence(
    first: Float[Tensor, "tokens width"],
    second: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocabulary width"],
) -> Float[Tensor, ""]:
    """KL(p || q) + KL(q || p) summed over tokens, of p and q predicted from two features (Jeffreys 1946).

    With logits a and b this is the sum of (p - q)(a - b): the normalisers cancel. Chunked like the loss.
    """
    apply: Callable[..., Tensor] = _TwoWayDivergence.apply
    return apply(first, second, weight)


class _TwoWayDivergence(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        outputs = as_autocast(weight)
        total = first.new_zeros((), dtype=torch.promote_types(first.dtype, torch.float32))
        gradients = torch.empty_like(first), torch.empty_like(second)
        weight_gradient = torch.zeros_like(weight)
        size = max(CHUNK // len(weight), 1)
        for start in range(0, len(first), size):
            rows = [as_autocast(side[start : start + size]) for side in (first, second)]
            logits = [side @ outputs.T for side in rows]
            probs = [F.softmax(side, -1) for side in logits]
            apart = logits[0] - logits[1]
            total += ((probs[0] - probs[1]) * apart).sum(dtype=total.dtype)
            for place, sign in enumerate((1, -1)):
                own, other = probs[place], probs[1 - place]
                mean = (own * apart).sum(-1, keepdim=True)
                slope = own - other + sign * own * (apart - mean)
                gradients[place][start : start + size] = slope @ outputs
                weight_gradient += slope.T @ rows[place]
        context.save_for_backward(*gradients, weight_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, ...]:
        return tuple(gradient * slope.to(gradient.dtype) for gradient in context.saved_tensors)
