"""Rules of search: small functions from log-probabilities to log-probabilities that have not heard of a model.

A rule sees the tokens chosen so far, ``(rows, length)``, and forbids by setting log-probabilities to -inf.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard.decoding.interface import NEVER
from regard.padded import Padded

Rule = Callable[[Float[Tensor, "rows vocabulary"], Int[Tensor, "rows length"]], Float[Tensor, "rows vocabulary"]]


def apply(
    rules: Sequence[Rule], log_probs: Float[Tensor, "rows vocabulary"], chosen: Int[Tensor, "rows length"], end: int
) -> Float[Tensor, "rows vocabulary"]:
    """All rules in order, later ones overruling earlier ones; a row that they leave nothing ends."""
    allowed = log_probs
    for rule in rules:
        allowed = rule(allowed, chosen)
    return _force(allowed, allowed.amax(-1) == NEVER, chosen.new_full((len(chosen),), end), log_probs)


def forbid(*tokens: int) -> Rule:
    """Never choose these."""

    def rule(log_probs: Tensor, chosen: Tensor) -> Tensor:
        return log_probs.index_fill(1, torch.tensor(tokens, device=log_probs.device), NEVER)

    return rule


def minimum_length(length: int, end: int) -> Rule:
    """No end before ``length`` tokens, the end included."""

    def rule(log_probs: Tensor, chosen: Tensor) -> Tensor:
        return forbid(end)(log_probs, chosen) if chosen.shape[1] + 1 < length else log_probs

    return rule


def maximum_length(limits: Int[Tensor, "rows"], end: int) -> Rule:
    """The end, whatever its probability, as a row's token number ``limits[row]``."""

    def rule(log_probs: Tensor, chosen: Tensor) -> Tensor:
        return _force(log_probs, chosen.shape[1] + 1 >= limits, torch.full_like(limits, end), log_probs)

    return rule


def forced_prefix(prefix: Padded) -> Rule:
    """Each row begins with its prefix, which costs nothing."""

    def rule(log_probs: Tensor, chosen: Tensor) -> Tensor:
        step = chosen.shape[1]
        if step >= prefix.values.shape[1]:
            return log_probs
        return _force(log_probs, step < prefix.lengths, prefix.values[:, step], torch.zeros_like(log_probs))

    return rule


def no_repeat_ngram(size: int) -> Rule:
    """No n-gram of ``size`` tokens twice in an answer (Paulus et al. 2017, arXiv 1705.04304, section 2.5)."""

    def rule(log_probs: Tensor, chosen: Tensor) -> Tensor:
        if chosen.shape[1] < size:
            return log_probs
        grams = chosen.unfold(1, size, 1)
        begun = chosen[:, chosen.shape[1] - size + 1 :]
        repeats = (grams[..., :-1] == begun[:, None]).all(-1)
        rows, places = repeats.nonzero(as_tuple=True)
        return log_probs.index_put((rows, grams[rows, places, -1]), log_probs.new_tensor(NEVER))

    return rule


def _force(log_probs: Tensor, rows: Tensor, tokens: Tensor, scores: Tensor) -> Tensor:
    """In the given rows nothing but the token of that row, at its score."""
    if not bool(rows.any()):  # nearly always: saves a pass over the vocabulary
        return log_probs
    forced = torch.full_like(log_probs, NEVER).scatter(1, tokens[:, None], scores.gather(1, tokens[:, None]))
    return torch.where(rows[:, None], forced, log_probs)
