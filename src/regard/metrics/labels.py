"""Scores of labels: pure functions of predictions and references."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray


def accuracy(predictions: Sequence[str], references: Sequence[str]) -> float:
    """The share of labels that are right, from 0 to 100."""
    return 100 * float(np.mean([one == other for one, other in zip(predictions, references, strict=True)]))


def macro_f1(predictions: Sequence[str], references: Sequence[str]) -> float:
    """The mean over all labels seen or predicted of the harmonic mean of precision and recall, from 0 to 100."""
    right = Counter(one for one, other in zip(predictions, references, strict=True) if one == other)
    there = Counter(predictions) + Counter(references)
    return 100 * float(np.mean([2 * right[label] / there[label] for label in sorted(there)]))


def calibration_error(confidences: Float[ndarray, "rows"], right: Bool[ndarray, "rows"], bins: int = 15) -> float:
    """How far confidence and accuracy lie apart, from 0 to 100: the mean over bins of equal width, by their rows.

    Expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3).
    """
    inside = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    sums = np.bincount(inside, confidences - right, minlength=bins)
    return 100 * float(np.abs(sums).sum() / len(confidences))
