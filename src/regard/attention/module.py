"""Attention with projections of its own: multi-head and additive."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from regard.attention.attend import attend
from regard.attention.record import observe
from regard.attention.rotary import Rotation, rotate
from regard.attention.scores import Additive
from regard.attention.where import Where


class KeyValues(NamedTuple):
    """What is looked up and what is found there, one head axis after the rows."""

    keys: Float[Tensor, "batch heads keys width"]
    values: Float[Tensor, "batch heads keys values"]


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762): `project` for self, `ask` and `remember` for cross.

    One weight projects to queries, keys and values, in this order, so that self-attention makes all three at once.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.width, self.heads, self.dropout = width, heads, dropout
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        for weight in (*self.projection.weight.split([width, 2 * width]), self.output.weight):
            nn.init.xavier_uniform_(weight, gain=2**-0.5)
        nn.init.zeros_(self.projection.bias)
        nn.init.zeros_(self.output.bias)

    def project(
        self, inputs: Float[Tensor, "rows steps width"], turn: Rotation | None = None
    ) -> tuple[Float[Tensor, "rows heads steps features"], KeyValues]:
        """Queries, and the keys and values of the same steps."""
        queries, keys, values = self._heads(self.projection(inputs), 3)
        return rotate(queries, turn), KeyValues(rotate(keys, turn), values)

    def ask(self, inputs: Float[Tensor, "rows queries width"]) -> Float[Tensor, "rows heads queries features"]:
        """Queries to a memory that comes from elsewhere."""
        weight, bias = self.projection.weight[: self.width], self.projection.bias[: self.width]
        [queries] = self._heads(linear(inputs, weight, bias), 1)
        return queries

    def remember(self, memory: Float[Tensor, "batch keys width"]) -> KeyValues:
        """Keys and values of what can be looked at, once per memory."""
        weight, bias = self.projection.weight[self.width :], self.projection.bias[self.width :]
        return KeyValues(*self._heads(linear(memory, weight, bias), 2))

    def forward(
        self,
        queries: Float[Tensor, "rows heads queries features"],
        memory: KeyValues,
        where: Where,
        at: Int[Tensor, "#rows queries"] | None = None,
    ) -> Float[Tensor, "rows queries width"]:
        """What each query, at positions ``at``, finds in the memory."""
        dropout = self.dropout if self.training else 0.0
        attended = attend(queries, memory.keys, memory.values, where=where, at=at, dropout=dropout)
        observe(self, attended.weights)
        return self.output(attended.out.transpose(1, 2).flatten(2))

    def _heads(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Each part as (rows, heads, steps, width)."""
        return projected.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()


class AdditiveAttention(nn.Module):
    """One head scored by v . tanh(W s + U h), the keys U h computed once (Bahdanau et al. 2015, arXiv 1409.0473)."""

    def __init__(self, query_width: int, memory_width: int, width: int):
        super().__init__()
        self.query = nn.Linear(query_width, width, bias=False)
        self.key = nn.Linear(memory_width, width)
        self.score = Additive(width)

    def remember(self, memory: Float[Tensor, "batch keys width"]) -> KeyValues:
        return KeyValues(self.key(memory)[:, None], memory[:, None])

    def forward(
        self, state: Float[Tensor, "rows queries width"], memory: KeyValues, where: Where
    ) -> Float[Tensor, "rows queries values"]:
        attended = attend(self.query(state)[:, None], memory.keys, memory.values, score=self.score, where=where)
        observe(self, attended.weights)
        return attended.out[:, 0]
