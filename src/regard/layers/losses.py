"""Losses over tokens."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def log_softmax(logits: Float[Tensor, "*rows vocabulary"]) -> Float[Tensor, "*rows vocabulary"]:
    """Over the last axis, in fp32 at least: in bf16 the sum over a vocabulary loses the small probabilities."""
    return F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def smoothed_cross_entropy(
    logits: Float[Tensor, "tokens vocabulary"], targets: Int[Tensor, "tokens"], smoothing: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sums over tokens, in nats: label-smoothed loss (Szegedy et al. 2016, arXiv 1512.00567) and negative log-likelihood.

    Smoothing moves the share ``smoothing`` of each target's probability to all tokens alike.
    """
    log_probs = log_softmax(logits)
    likelihood = -log_probs.gather(-1, targets[:, None]).sum()
    uniform = -log_probs.mean(dim=-1).sum()
    return (1 - smoothing) * likelihood + smoothing * uniform, likelihood.detach()
