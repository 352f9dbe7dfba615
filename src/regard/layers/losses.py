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


def at_once(weight: Float[Tensor, "vocabulary width"]) -> int:
    """How many tokens have their logits held at a time."""
    return max(CHUNK // len(weight), 1)


def log_softmax(logits: Float[Tensor, "*rows vocabulary"]) -> Float[Tensor, "*rows vocabulary"]:
    """Over the last axis, in fp32 at least: in bf16 the sum over a vocabulary loses the small probabilities."""
    return F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def smoothed_cross_entropy(
    features: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocabulary width"],
    targets: Int[Tensor, "tokens"],
    smoothing: float,
    bias: Float[Tensor, "vocabulary"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sums over tokens, in nats: label-smoothed loss (Szegedy et al. 2016, 1512.00567) and negative log-likelihood.

    Smoothing moves the share ``smoothing`` of each target's probability to all tokens alike. Logits are ``features @
    weight.T + bias``, made and used up in chunks of rows: all of them never exist, and all gradients are ready with the
    loss. Only the first result has a gradient.
    """
    if not torch.is_grad_enabled():
        features, weight = features.detach(), weight.detach()  # nothing is prepared for a backward pass
        bias = None if bias is None else bias.detach()
    apply: Callable[..., tuple[Tensor, Tensor]] = _SmoothedCrossEntropy.apply
    total, likelihood = apply(features, weight, targets, smoothing, bias)
    return total, likelihood


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, features: Tensor, weight: Tensor, targets: Tensor, smoothing: float, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        inputs, outputs = as_autocast(features), as_autocast(weight)
        total, likelihood = features.new_zeros(2, dtype=torch.promote_types(features.dtype, torch.float32))
        features_gradient, weight_gradient = torch.empty_like(features), torch.zeros_like(weight)
        bias_gradient = None if bias is None else torch.zeros_like(bias)
        mean_weight, mean_bias = weight.to(total.dtype).mean(0), 0 if bias is None else bias.to(total.dtype).mean()
        size, buffers = _chunks(inputs, outputs)
        for start in range(0, len(targets), size):
            rows, answers = inputs[start : start + size], targets[start : start + size, None]
            logits, probs = _softmax(rows, outputs, bias, buffers)
            log_sum = _log_sum(logits, probs, total.dtype)
            nll = (log_sum - logits.gather(-1, answers)[:, 0]).sum()
            likelihood += nll
            total += (1 - smoothing) * nll + smoothing * (
                log_sum - rows.to(total.dtype) @ mean_weight - mean_bias
            ).sum()
            if not any(context.needs_input_grad):
                continue
            slope = probs.sub_(smoothing / len(weight))  # the gradient by the logits: what is less what should be
            slope[torch.arange(len(rows), device=rows.device), answers[:, 0]] -= 1 - smoothing
            features_gradient[start : start + size] = slope @ outputs
            weight_gradient += slope.T @ rows
            if bias_gradient is not None:
                bias_gradient += slope.sum(0)
        context.save_for_backward(features_gradient, weight_gradient, bias_gradient)
        context.mark_non_differentiable(likelihood)
        return total, likelihood

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, Tensor | None]:
        features, weight, bias = context.saved_tensors
        return features * slope.to(features.dtype), weight * slope, None, None, None if bias is None else bias * slope


def two_way_divergence(
    first: Float[Tensor, "tokens width"],
    second: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocabulary width"],
    bias: Float[Tensor, "vocabulary"] | None = None,
) -> Float[Tensor, ""]:
    """KL(p || q) + KL(q || p) summed over tokens, of p and q predicted from two features (Jeffreys 1946).

    With logits a and b this is the sum of (p - q)(a - b): the normalisers cancel. Chunked like the loss.
    """
    apply: Callable[..., Tensor] = _TwoWayDivergence.apply
    return apply(first, second, weight, bias)


class _TwoWayDivergence(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, first: Tensor, second: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        outputs = as_autocast(weight)
        total = first.new_zeros((), dtype=torch.promote_types(first.dtype, torch.float32))
        gradients = torch.empty_like(first), torch.empty_like(second)
        weight_gradient, bias_gradient = torch.zeros_like(weight), None if bias is None else torch.zeros_like(bias)
        size = at_once(weight)
        for start in range(0, len(first), size):
            rows = [as_autocast(side[start : start + size]) for side in (first, second)]
            logits = [_logits(side, outputs, bias) for side in rows]
            probs = [F.softmax(side, -1) for side in logits]
            apart = logits[0] - logits[1]
            total += ((probs[0] - probs[1]) * apart).sum(dtype=total.dtype)
            for place, sign in enumerate((1, -1)):
                own, other = probs[place], probs[1 - place]
                mean = (own * apart).sum(-1, keepdim=True)
                slope = own - other + sign * own * (apart - mean)
                gradients[place][start : start + size] = slope @ outputs
                weight_gradient += slope.T @ rows[place]
                if bias_gradient is not None:
                    bias_gradient += slope.sum(0)
        context.save_for_backward(*gradients, weight_gradient, bias_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(None if one is None else one * slope.to(one.dtype) for one in context.saved_tensors)


def log_partition(
    features: Float[Tensor, "tokens width"], weight: Float[Tensor, "vocabulary width"]
) -> Float[Tensor, "tokens"]:
    """Log of the sum of all exponentiated logits of each token, what a logit is less its log-probability.

    Chunked like the loss; the gradient makes the logits once more instead of keeping them.
    """
    apply: Callable[..., Tensor] = _LogPartition.apply
    return apply(features, weight)


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: Tensor, weight: Tensor) -> Tensor:
        inputs, outputs = as_autocast(features), as_autocast(weight)
        context.save_for_backward(inputs, outputs)
        context.dtypes = features.dtype, weight.dtype
        log_sum = features.new_empty(len(features), dtype=torch.promote_types(features.dtype, torch.float32))
        size, buffers = _chunks(inputs, outputs)
        for start in range(0, len(inputs), size):
            logits, probs = _softmax(inputs[start : start + size], outputs, None, buffers)
            log_sum[start : start + size] = _log_sum(logits, probs, log_sum.dtype)
        return log_sum

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, Tensor]:
        inputs, outputs = context.saved_tensors
        features_dtype, weight_dtype = context.dtypes
        slope = slope[:, None].to(inputs.dtype)
        features_gradient = torch.empty_like(inputs, dtype=features_dtype)
        weight_gradient = torch.zeros_like(outputs, dtype=weight_dtype)
        size, buffers = _chunks(inputs, outputs)
        for start in range(0, len(inputs), size):
            rows, slopes = inputs[start : start + size], slope[start : start + size]
            _, probs = _softmax(rows, outputs, None, buffers)
            features_gradient[start : start + size] = slopes * (probs @ outputs)
            weight_gradient += probs.T @ (slopes * rows)
        return features_gradient, weight_gradient


def _chunks(rows: Tensor, weight: Tensor) -> tuple[int, Tensor]:
    """How many rows at a time, and room for their logits and probabilities.

    Both buffers serve every chunk: memory that is fresh from the system costs more than what is done with it.
    """
    size = at_once(weight)
    return size, rows.new_empty(2, min(size, len(rows)), len(weight))


def _softmax(rows: Tensor, weight: Tensor, bias: Tensor | None, buffers: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and probabilities, in the buffers."""
    logits, probs = buffers[:, : len(rows)]
    _logits(rows, weight, bias, out=logits)
    torch.softmax(logits, -1, out=probs)
    return logits, probs


def _log_sum(logits: Tensor, probs: Tensor, dtype: torch.dtype) -> Tensor:
    """Of the exponentiated logits, from the greatest and its probability."""
    return logits.amax(-1).to(dtype) - probs.amax(-1).to(dtype).log()


def _logits(rows: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    if bias is None:
        return torch.mm(rows, weight.T, out=out)
    return torch.addmm(bias.to(rows.dtype), rows, weight.T, out=out)
