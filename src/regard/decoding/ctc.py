"""Connectionist temporal classification: a unit or the blank at each step, repeats merged, then blanks taken out.

Graves et al. 2006, "Connectionist Temporal Classification", ICML. Unit 0 is the blank.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from regard.decoding.interface import NEVER, Hypothesis
from regard.padded import Ids, Padded, pad

BLANK = 0
HARDLY = -1e30
"""A log-probability that is as good as `NEVER` and has a gradient."""

Prefix = tuple[int, ...]


def steps_needed(answers: Padded) -> Int[Tensor, "batch"]:
    """The fewest steps that can write each row of units: a blank must part equal neighbours."""
    repeated = (answers.values[:, 1:] == answers.values[:, :-1]) & answers.mask[:, 1:]
    return answers.lengths + repeated.sum(1)


def log_likelihoods(
    log_probs: Float[Tensor, "batch time units"], lengths: Int[Tensor, "batch"], answers: Padded
) -> Float[Tensor, "batch"]:
    """The log-probability of each row's units, over all paths that write them; 0 where no path is long enough."""
    values = F.pad(answers.values, (0, 1))  # of empty answers alone the library can make nothing
    by_time = log_probs.transpose(0, 1)
    losses = F.ctc_loss(by_time, values, lengths, answers.lengths, BLANK, reduction="none", zero_infinity=True)
    return -losses


def transcribe(
    log_probs: Float[Tensor, "batch time units"], lengths: Int[Tensor, "batch"], beam: int, n_best: int
) -> list[list[Hypothesis]]:
    """The most likely units of each row, best first, with their log-probabilities; a beam of 1 is the best path."""
    if beam > 1:
        return [prefix_beam_search(row[:length], beam)[:n_best] for row, length in zip(log_probs, lengths, strict=True)]
    found = [best_path(row[:length]) for row, length in zip(log_probs, lengths, strict=True)]
    scores = log_likelihoods(log_probs, lengths, pad(found).to(log_probs.device))
    return [[Hypothesis(units, score)] for units, score in zip(found, scores.tolist(), strict=True)]


def best_path(log_probs: Float[Tensor, "time units"]) -> list[int]:
    """What the most likely unit of every step makes (section 3.2)."""
    return [unit for unit in log_probs.argmax(-1).unique_consecutive().tolist() if unit != BLANK]


def prefix_beam_search(log_probs: Float[Tensor, "time units"], beam: int) -> list[Hypothesis]:
    """Up to ``beam`` most likely answers, the paths of each summed up (Hannun et al. 2014, arXiv 1408.2873).

    Every prefix has two log-probabilities: of the paths that end in a blank, and of those that end in its last unit.
    Only the ``beam`` most likely units of a step go on, so with a beam that holds all prefixes the sums are exact.
    """
    found: dict[Prefix, tuple[float, float]] = {(): (0.0, NEVER)}
    for step in log_probs.double().tolist():
        likely = heapq.nlargest(beam, range(1, len(step)), key=step.__getitem__)
        after = _read(found, step, likely)
        best = heapq.nlargest(beam, after, key=lambda prefix: _log_sum(*after[prefix]))
        found = {prefix: after[prefix] for prefix in best}
    return [Hypothesis([*prefix], _log_sum(*ends)) for prefix, ends in found.items()]


def _read(
    found: dict[Prefix, tuple[float, float]], step: Sequence[float], likely: Sequence[int]
) -> dict[Prefix, tuple[float, float]]:
    """All prefixes one step later."""
    blank: dict[Prefix, float] = defaultdict(lambda: NEVER)
    unit: dict[Prefix, float] = defaultdict(lambda: NEVER)
    for prefix, (after_blank, after_unit) in found.items():
        whole, last = _log_sum(after_blank, after_unit), prefix[-1] if prefix else BLANK
        blank[prefix] = _log_sum(blank[prefix], whole + step[BLANK])
        if prefix:
            unit[prefix] = _log_sum(unit[prefix], after_unit + step[last])
        for one in likely:
            longer, before = (*prefix, one), after_blank if one == last else whole
            unit[longer] = _log_sum(unit[longer], before + step[one])
    ends = {prefix: (blank[prefix], unit[prefix]) for prefix in [*blank, *(one for one in unit if one not in blank)]}
    return {prefix: both for prefix, both in ends.items() if max(both) > NEVER}


def _log_sum(one: float, other: float) -> float:
    """log(exp(one) + exp(other))"""
    high, low = max(one, other), min(one, other)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))


def occupancy(log_probs: Float[Tensor, "time units"], answer: Ids) -> Float[Tensor, "answer time"]:
    """Where in time each unit of an answer is written: given the answer, over all its paths; rows sum to 1.

    The forward recursion over the units with blanks between them (section 4.1); how likely each of its states is
    taken at each step is the gradient of the whole with respect to its log-probability there.
    """
    states = [BLANK]
    for unit in answer:
        states += [int(unit), BLANK]
    skips = [place > 1 and state not in (BLANK, states[place - 2]) for place, state in enumerate(states)]
    with torch.inference_mode(False), torch.enable_grad():
        lattice = log_probs.detach().double()[:, states].clone().requires_grad_()
        skipping = torch.where(torch.tensor(skips, device=lattice.device), 0.0, HARDLY)
        reached = torch.full_like(lattice[0], HARDLY).index_fill(0, torch.arange(min(2, len(states))), 0.0) + lattice[0]
        for step in lattice[1:]:
            before = F.pad(reached, (2, 0), value=HARDLY)
            reached = torch.stack([reached, before[1:-1], before[:-2] + skipping]).logsumexp(0) + step
        [taken] = torch.autograd.grad(reached[-2:].logsumexp(0), lattice)
    of_units = taken[:, 1::2].T
    return (of_units / of_units.sum(1, keepdim=True)).float()
