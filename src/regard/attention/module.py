"""Attention with projections of its own: multi-head and additive."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from regard.attention.attend import attend
from regard.attention.positions import Rotation, rotate
from regard.attention.record import observe
from regard.attention.scores import Additive
from regard.attention.where import Where


class KeysValues(NamedTuple):
    """What is looked up and what is found there, one head axis after the rows."""

    keys: Float[Tensor, "batch heads keys width"]
    values: Float[Tensor, "batch heads keys values"]


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762), self or cross: `remember` says over what."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        for projection in (self.query, self.key_value, self.output):
            nn.init.xavier_uniform_(projection.weight, gain=2**-0.5)
            nn.init.zeros_(projection.bias)

    def remember(self, memory: Float[Tensor, "batch keys width"], turn: Rotation | None = None) -> KeysValues:
        """Keys and values of what can be looked at: once per memory, or once per new step."""
        keys, values = self.key_value(memory).chunk(2, dim=-1)
        return KeysValues(rotate(self._split(keys), turn), self._split(values))

    def forward(
        self,
        inputs: Float[Tensor, "rows queries width"],
        memory: KeysValues,
        where: Where,
        at: Int[Tensor, "#rows queries"] | None = None,
        turn: Rotation | None = None,
    ) -> Float[Tensor, "rows queries width"]:
        """What each step of the inputs, at positions ``at``, finds in the memory."""
        queries = rotate(self._split(self.query(inputs)), turn)
        dropout = self.dropout if self.training else 0.0
        attended = attend(queries, memory.keys, memory.values, where=where, at=at, dropout=dropout)
        observe(self, attended.weights)
        return self.output(attended.out.transpose(1, 2).flatten(2))

    def _split(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class AdditiveAttention(nn.Module):
    """One head scored by v . tanh(W s + U h), the keys U h computed once (Bahdanau et al. 2015, arXiv 1409.0473)."""

    def __init__(self, query_width: int, memory_width: int, width: int):
        super().__init__()
        self.query = nn.Linear(query_width, width, bias=False)
        self.key = nn.Linear(memory_width, width)
        self.score = Additive(width)

    def remember(self, memory: Float[Tensor, "batch keys width"]) -> KeysValues:
        return KeysValues(self.key(memory)[:, None], memory[:, None])

    def forward(
        self, state: Float[Tensor, "rows queries width"], memory: KeysValues, where: Where
    ) -> Float[Tensor, "rows queries values"]:
        attended = attend(self.query(state)[:, None], memory.keys, memory.values, score=self.score, where=where)
        observe(self, attended.weights)
        return attended.out[:, 0]
