"""Sparse norms: weights that are exactly 0 for keys that fit badly, though they may be seen.

Alpha-entmax is ``w_j = u_j^q`` with ``u_j = max((alpha - 1) z_j - t, 0)`` and ``q = 1 / (alpha - 1)``, where the
threshold t makes the weights sum to 1. The q-norm of u is convex and falls in t, so that Newton's iteration for
``|u|_q = 1`` rises from any t below the threshold and never passes it: no sorting, no bisection, about six passes.
"""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from regard.attention.norms import Keep, Norm, mask
from regard.errors import SettingsError
from regard.settings import Settings

LEAST_ALPHA = 1.01
"""Nearer to softmax than this, single precision no longer tells the powers apart."""

STEPS = 50
"""Newton steps at most. Each divides (|u|_q - 1) times its slope by four or more: enough for 2^20 keys in double."""


class Sparsemax(Settings, Norm):
    """The point of the simplex nearest to z: entmax with alpha = 2 (Martins and Astudillo 2016, arXiv 1602.02068)."""

    kind: Literal["sparsemax"] = "sparsemax"

    def __call__(self, scores: Tensor, keep: Keep) -> Tensor:
        return entmax(scores, keep, 2.0)

    def build(self, heads: int) -> Norm:
        return self


class Entmax(nn.Module, Norm):
    """Between softmax (alpha = 1) and sparsemax (alpha = 2) (Peters et al. 2019, arXiv 1905.05702)."""

    def __init__(self, alpha: float = 1.5):
        super().__init__()
        if not LEAST_ALPHA < alpha <= 2:
            raise SettingsError(
                f"entmax with alpha {alpha}", hint=f"wanted: above {LEAST_ALPHA}, at most 2; 1 is Softmax"
            )
        self.alpha = alpha

    def forward(self, scores: Tensor, keep: Keep) -> Tensor:
        return entmax(scores, keep, self.alpha)


class LearnedEntmax(nn.Module, Norm):
    """Entmax with an alpha between 1.01 and 2 learned for each head (Correia et al. 2019, arXiv 1909.00015)."""

    def __init__(self, heads: int, alpha: float = 1.5):
        super().__init__()
        share = (alpha - LEAST_ALPHA) / (2 - LEAST_ALPHA)
        self.logit = nn.Parameter(torch.full((heads, 1, 1), math.log(share / (1 - share))))

    @property
    def alpha(self) -> Float[Tensor, "heads 1 1"]:
        return LEAST_ALPHA + (2 - LEAST_ALPHA) * torch.sigmoid(self.logit)

    def forward(self, scores: Tensor, keep: Keep) -> Tensor:
        return entmax(scores, keep, self.alpha)


def entmax(
    scores: Float[Tensor, "batch heads queries keys"], keep: Keep, alpha: float | Float[Tensor, "#heads 1 1"]
) -> Float[Tensor, "batch heads queries keys"]:
    """Alpha-entmax over the keys that may be seen, ``1.01 <= alpha <= 2``; a query that may see none gets zeros.

    Differentiable once, in the scores and in an alpha that is a tensor. Half precisions are computed in single. Passes
    over the scores many times, so that on CPUs blocks of rows that fit in cache are fastest: 2^20 numbers or fewer.
    """
    return _Entmax.apply(scores, keep, alpha)  # type: ignore[no-untyped-call]


class _Entmax(torch.autograd.Function):
    """Entmax that keeps nothing for its gradient but the weights."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, keep: Keep, alpha: float | Tensor) -> Tensor:
        ctx.constant, learned = (None, alpha) if isinstance(alpha, Tensor) else (alpha, None)
        scores, dtype = _widened(scores), scores.dtype
        weights = _normalised(mask(scores, keep), alpha).to(dtype)
        ctx.save_for_backward(weights, learned)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None]:
        weights, learned = ctx.saved_tensors
        alpha = ctx.constant if learned is None else learned
        weights, grad, dtype = _widened(weights), _widened(grad), grad.dtype
        slopes = _slopes(weights, alpha)
        total = slopes.sum(-1, keepdim=True).clamp_(min=0.5)
        by_alpha = _alpha_gradient(weights, slopes / total, grad, learned) if ctx.needs_input_grad[2] else None
        by_score = slopes * grad
        by_score -= slopes.mul_(by_score.sum(-1, keepdim=True) / total)
        return by_score.to(dtype), None, by_alpha


def _widened(numbers: Tensor) -> Tensor:
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def _normalised(scores: Tensor, alpha: float | Tensor) -> Tensor:
    """The weights by Newton's iteration, from the threshold at which the best key alone would weigh 1."""
    # the lowest finite number, not -inf: a row without keys must become 0, not NaN
    best = scores.amax(-1, keepdim=True).clamp_(min=torch.finfo(scores.dtype).min)
    scores = (scores - best).mul_(alpha - 1)
    threshold = torch.full_like(best, -1.0)
    excess = torch.empty_like(scores)
    for _ in range(STEPS):
        torch.sub(scores, threshold, out=excess).clamp_(min=0)
        total, slope = _sums(excess, alpha)
        step = (total - total ** (2 - alpha)) / slope.clamp(min=0.5)
        if not torch.compiler.is_compiling() and not bool((step > 4 * torch.finfo(step.dtype).eps).any()):
            break
        threshold += step
    return excess.pow_(1 / (alpha - 1)).div_(total.clamp(min=0.5))  # of a row without keys the total is 0


def _sums(excess: Tensor, alpha: float | Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the last axis of u^q, the weights, and of u^(q - 1), where 0 to the 0th is 0."""
    if _is(alpha, 2.0):
        return excess.sum(-1, keepdim=True), excess.sign().sum(-1, keepdim=True)
    if _is(alpha, 1.5):
        return torch.linalg.vector_norm(excess, dim=-1, keepdim=True).square_(), excess.sum(-1, keepdim=True)
    powers = excess.pow(1 / (alpha - 1) - 1)
    slope = powers.sum(-1, keepdim=True)
    return powers.mul_(excess).sum(-1, keepdim=True), slope


def _slopes(weights: Tensor, alpha: float | Tensor) -> Tensor:
    """How fast each weight grows with its own score, the threshold held: w^(2 - alpha), and 0 where w is 0."""
    return weights.sign() if _is(alpha, 2.0) else weights.pow(2 - alpha)


def _is(alpha: float | Tensor, number: float) -> bool:
    return not isinstance(alpha, Tensor) and alpha == number


def _alpha_gradient(weights: Tensor, shares: Tensor, grad: Tensor, alpha: Tensor) -> Tensor:
    """Proposition 1 of Correia et al. 2019, applied to the gradient of the weights; ``shares`` are s / sum s."""
    surprise = -torch.xlogy(weights, weights)
    tangent = (weights - shares) / (alpha - 1) ** 2
    tangent += (surprise - shares * surprise.sum(-1, keepdim=True)) / (alpha - 1)
    return (grad * tangent).sum_to_size(alpha.shape)
