"""Scores of labels: pure functions of predictions and references."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray


def accuracy(predictions: Sequence[str], references: Sequence[str]) -> float:
    """The share of labels that are right, from 0 to 100."""
    return 100 * float(np.mean([one == other for one, other in zip(predictions, references, strict=True)]))


def macro_f1(predictions: Sequence[str], references: Sequence[str]) -> float:
    """The mean over all labels seen or predicted of the harmonic mean of precision and recall, from 0 to 100."""
    pairs = [*zip(predictions, references, strict=True)]
    return 100 * float(np.mean([_f1(pairs, label) for label in {*predictions, *references}]))


def _f1(pairs: Sequence[tuple[str, str]], label: str) -> float:
    right = sum(one == other == label for one, other in pairs)
    return 2 * right / sum((one == label) + (other == label) for one, other in pairs)


def calibration_error(confidences: Float[ndarray, "rows"], right: Bool[ndarray, "rows"], bins: int = 15) -> float:
    """How far confidence and accuracy lie apart, from 0 to 100: the mean over bins of equal width, by their rows.

    Expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3).
    """
    inside = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    sums = np.bincount(inside, confidences - right, minlength=bins)
    return 100 * float(np.abs(sums).sum() / len(confidences))
