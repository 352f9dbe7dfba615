"""Attention of one head for decoders that take a step at a time: scores and norms may keep a state."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from regard.attention.attend import attend
from regard.attention.kernels.steps import Kept
from regard.attention.keyvalues import KeyValues
from regard.attention.location import StatefulScore
from regard.attention.norms import Norm, StatefulNorm
from regard.attention.record import observe
from regard.attention.scores import Score
from regard.attention.where import Where

Looked = tuple[Tensor, ...]
"""What the score and the norm keep from step to step, leaves (rows, 1, ...); empty when neither keeps anything."""


class SteppingAttention(nn.Module):
    """Looks from a decoder's state at encoder states, whose part of the score is computed once.

    ``query`` and ``key`` project them before they are scored, as W s and U h of Bahdanau et al. 2015, arXiv 1409.0473,
    or leave them as they are, as in Luong et al. 2015, arXiv 1508.04025.
    """

    def __init__(self, query: nn.Module, key: nn.Module, score: Score, norm: Norm):
        super().__init__()
        self.query, self.key, self.score, self.norm = query, key, score, norm

    def remember(self, memory: Float[Tensor, "batch keys width"]) -> KeyValues:
        """The keys, and the states themselves as values."""
        return KeyValues(self.score.keys(self.key(memory)[:, None]), memory[:, None])

    def start(self, memory: KeyValues, rows: int) -> Looked:
        """What is kept before the first of ``rows`` = batch * beams rows took a step."""
        batch, _, keys, width = memory.keys.shape
        queries = memory.keys.new_zeros(batch, 1, rows // batch, width)
        kept = []
        if isinstance(self.score, StatefulScore):
            kept.append(self.score.begin(queries, memory.keys))
        if isinstance(self.norm, StatefulNorm):
            kept.append(self.norm.begin(queries.new_zeros(*queries.shape[:3], keys)))
        return tuple(one.transpose(1, 2).flatten(0, 1) for one in kept)

    @property
    def stateful(self) -> bool:
        """Whether score or norm keep something from step to step."""
        return isinstance(self.score, StatefulScore) or isinstance(self.norm, StatefulNorm)

    def forward(
        self,
        states: Float[Tensor, "rows steps width"],
        memory: KeyValues,
        where: Where,
        at: Int[Tensor, "rows steps"],
        looked: Looked,
    ) -> tuple[Float[Tensor, "rows steps values"], Looked]:
        """What the steps at positions ``at`` find, and what is kept after the last of them."""
        attended = attend(
            self.query(states)[:, None],
            memory.keys,
            memory.values,
            score=self.score,
            where=where,
            norm=self.norm,
            at=at,
            state=self._of_score_and_norm(looked),
        )
        observe(self, attended.weights)
        return attended.out[:, 0], tuple(one for one in attended.state or () if one is not None)

    def _of_score_and_norm(self, looked: Looked) -> Kept:
        left = list(looked)
        of_score = left.pop(0) if isinstance(self.score, StatefulScore) else None
        return of_score, left.pop(0) if isinstance(self.norm, StatefulNorm) else None
