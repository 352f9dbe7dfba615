"""Is a difference between two systems more than chance? Answered by drawing rows again."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

SAMPLES = 1000


class Comparison(NamedTuple):
    """Two systems' scores on the same rows, and how often chance alone would make a difference this large."""

    one: float
    other: float
    p_value: float
    signature: str


Score = Callable[[Sequence[int]], Mapping[str, float]]
"""A system's scores by name on some rows, by their places; a place may come several times."""


def paired_bootstrap(
    one: Score, other: Score, rows: int, signatures: Mapping[str, str], samples: int = SAMPLES, seed: int = 12345
) -> dict[str, Comparison]:
    """Every score under paired bootstrap resampling of whole rows (Koehn 2004, W04-3250).

    The p-value is how often a sample's difference lies as far from the samples' mean as the real one lies from none, as
    sacreBLEU counts it. Rows must not depend on each other, as windows do that overlap.
    """
    generator = np.random.default_rng(seed)
    draws = (generator.integers(rows, size=rows).tolist() for _ in range(samples))
    real = one(range(rows)), other(range(rows))
    drawn = [(one(places), other(places)) for places in draws]
    found = {}
    for name in real[0]:
        first, second = (scores[name] for scores in real)
        differences = np.array([of_one[name] - of_other[name] for of_one, of_other in drawn])
        as_far = np.abs(differences - differences.mean()) >= abs(first - second)
        p_value = (1 + int(np.count_nonzero(as_far))) / (1 + samples)
        found[name] = Comparison(first, second, p_value, f"{signatures[name]}|bs:{samples}|seed:{seed}")
    return found
