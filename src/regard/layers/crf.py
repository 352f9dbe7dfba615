"""A linear-chain conditional random field (Lafferty et al. 2001): labels of a sequence, judged together."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regard.padded import Padded

Emissions = Float[Tensor, "batch time labels"]
Paths = Int[Tensor, "batch time"]


class Chain(nn.Module):
    """Scores of neighbouring labels, and of the first and the last one.

    The score of a path y is first[y_1] + sum of emissions[t, y_t] + sum of transitions[y_t-1, y_t] + last[y_n], and its
    probability the exponential of that over the sum of those of all paths. What is beyond a row's length does not
    matter; rows have at least one step.
    """

    def __init__(self, labels: int):
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(labels, labels))
        self.first, self.last = (nn.Parameter(torch.zeros(labels)) for _ in range(2))

    def log_likelihood(self, emissions: Padded, paths: Paths) -> Float[Tensor, "batch"]:
        """Of one path of each row."""
        return self.score(emissions, paths) - self.log_partition(emissions)

    def score(self, emissions: Padded, paths: Paths) -> Float[Tensor, "batch"]:
        values, lengths = emissions.values, emissions.lengths
        own = values.gather(2, paths[..., None])[..., 0]
        own = own + torch.cat([self.first[paths[:, :1]], self.transitions[paths[:, :-1], paths[:, 1:]]], dim=1)
        return own.masked_fill(~emissions.mask, 0).sum(1) + self.last[_at_ends(paths, lengths)]

    def log_partition(self, emissions: Padded) -> Float[Tensor, "batch"]:
        """The logarithm of the sum over all paths, by the forward algorithm."""
        ends = _at_ends(self._forward(emissions.values), emissions.lengths)
        return (ends + self.last).logsumexp(-1)

    def _forward(self, values: Emissions) -> Emissions:
        """Log of the sum over all beginnings of paths up to each label at each step, its emission included."""
        sums = [self.first + values[:, 0]]
        for emitted in values.unbind(1)[1:]:
            sums.append((sums[-1][:, :, None] + self.transitions).logsumexp(1) + emitted)
        return torch.stack(sums, dim=1)

    def best(self, emissions: Padded) -> tuple[Paths, Float[Tensor, "batch"]]:
        """The path with the highest score, and that score (Viterbi 1967)."""
        values, lengths = emissions.values, emissions.lengths
        reached, pointers = self.first + values[:, 0], []
        for step, emitted in enumerate(values.unbind(1)[1:], start=1):
            longer, pointer = (reached[:, :, None] + self.transitions).max(1)
            inside = (step < lengths)[:, None]
            reached = torch.where(inside, longer + emitted, reached)
            pointers.append(torch.where(inside, pointer, torch.arange(values.shape[2], device=values.device)))
        scores, label = (reached + self.last).max(-1)
        labels = [label]
        for pointer in reversed(pointers):
            labels.append(pointer.gather(1, labels[-1][:, None])[:, 0])
        return torch.stack(labels[::-1], dim=1), scores


def _at_ends(values: Tensor, lengths: Int[Tensor, "batch"]) -> Tensor:
    """What rows have at their last step."""
    return values[torch.arange(len(values), device=values.device), lengths - 1]
