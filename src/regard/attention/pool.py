"""Pooling: a sequence as one vector, or a few, by attention of learned queries."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard.attention.attend import attend
from regard.attention.record import observe
from regard.attention.scores import Dot
from regard.attention.tables import Lengths
from regard.padded import Padded


class Pool(nn.Module):
    """``queries`` learned queries over a sequence; each finds a weighted mean of the steps.

    With one query: a linear layer that scores every step, softmax over time, weighted sum. With a ``hidden`` width
    steps are bent before they are scored, u . tanh(W h + b), as in hierarchical attention (Yang et al. 2016, NAACL,
    equations 5 to 7); with several queries too it is structured self-attention (Lin et al. 2017, arXiv 1703.03130).
    """

    def __init__(self, width: int, queries: int = 1, hidden: int | None = None):
        super().__init__()
        self.bend = nn.Sequential(nn.Linear(width, hidden), nn.Tanh()) if hidden else nn.Identity()
        self.queries = nn.Parameter(torch.empty(queries, hidden or width))
        nn.init.xavier_uniform_(self.queries)

    def forward(self, steps: Padded) -> Float[Tensor, "batch queries width"]:
        """The pooled steps of each row; zeros for a row without any."""
        queries = self.queries.expand(len(steps.values), 1, -1, -1)
        keys, values = self.bend(steps.values)[:, None], steps.values[:, None]
        attended = attend(queries, keys, values, score=Dot(), where=Lengths(steps.lengths))
        observe(self, attended.weights)
        return attended.out[:, 0]
