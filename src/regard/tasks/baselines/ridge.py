"""Ridge regression from past to future: what a model of series has to beat, in closed form."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from numpy import ndarray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from regard.data.learnt import LearntFile, damaged

RIDGE_FILE = "ridge.safetensors"
MOST_BYTES = 1 << 28
STRENGTHS = tuple(10.0**power for power in range(-2, 7))
HELD_OUT = 5
"""One of so many training windows, the last ones, chooses the strength."""

Normal = tuple[Tensor, Tensor]
"""X'X and X'Y of some windows."""


class Ridge:
    """One matrix for all variables, (reach, horizon): from a window less its mean to what follows less the same mean.

    W = (X'X + strength I)^-1 X'Y (Hoerl and Kennard 1970).
    """

    def __init__(self, weights: Float64[Tensor, "reach horizon"]):
        self.weights = weights

    @classmethod
    def learn(cls, parts: Sequence[Float64[ndarray, "_ variables"]], reach: int, horizon: int) -> "Ridge":
        """From scaled training parts; the strength is that of the least error on their last windows."""
        fitted: list[Normal] = []
        held: list[Normal] = []
        squares = 0.0
        for part in parts:
            past, future = _windows(torch.from_numpy(part), reach, horizon)
            ends = len(past) - len(past) // HELD_OUT
            fitted.append(_normal(past[:ends], future[:ends]))
            held.append(_normal(past[ends:], future[ends:]))
            squares += float(future[ends:].square().sum())
        first, last = _sum(fitted), _sum(held)
        found = {strength: _solved(first, strength) for strength in STRENGTHS}
        best = min(STRENGTHS, key=lambda strength: _error(found[strength], last, squares))
        return cls(_solved(_sum([first, last]), best))

    @classmethod
    def load(cls, file: LearntFile, reach: int, horizon: int) -> "Ridge":
        """Read back what `files` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        path = file(RIDGE_FILE, MOST_BYTES)
        try:
            weights = load(path.read_bytes())["weights"].double()
        except (OSError, KeyError, ValueError, SafetensorError):
            weights = torch.zeros(0)
        if weights.shape != (reach, horizon):
            raise damaged(path, f"missing or damaged: no {reach} x {horizon} weights")
        return cls(weights)

    @property
    def files(self) -> dict[str, bytes]:
        return {RIDGE_FILE: save({"weights": self.weights.contiguous()})}

    def answer(self, past: Float64[ndarray, "reach variables"]) -> Float64[ndarray, "horizon variables"]:
        """What follows scaled values, on their scale."""
        mean = past.mean(0)
        return self.weights.numpy().T @ (past - mean) + mean


def _windows(
    values: Float64[Tensor, "_ variables"], reach: int, horizon: int
) -> tuple[Float64[Tensor, "windows variables reach"], Float64[Tensor, "windows variables horizon"]]:
    """Past and future of every window, both less the mean of the past."""
    cut = values.unfold(0, reach + horizon, 1)
    past, future = cut[..., :reach], cut[..., reach:]
    mean = past.mean(-1, keepdim=True)
    return past - mean, future - mean


def _normal(past: Tensor, future: Tensor) -> Normal:
    rows = past.flatten(0, 1)
    return rows.T @ rows, rows.T @ future.flatten(0, 1)


def _sum(parts: Sequence[Normal]) -> Normal:
    squares, products = zip(*parts, strict=True)
    return torch.stack(squares).sum(0), torch.stack(products).sum(0)


def _solved(normal: Normal, strength: float) -> Float64[Tensor, "reach horizon"]:
    squares, products = normal
    return torch.linalg.solve(squares + strength * torch.eye(len(squares), dtype=squares.dtype), products)


def _error(weights: Tensor, normal: Normal, squares: float) -> float:
    """The sum of |XW - Y|^2 from X'X, X'Y and the sum of Y^2 alone."""
    return float((weights * (normal[0] @ weights - 2 * normal[1])).sum()) + squares
