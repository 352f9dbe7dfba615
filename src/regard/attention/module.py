"""Multi-head attention with projections of its own; heads of keys and values may be shared by several of queries."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from regard.attention.attend import attend
from regard.attention.keyvalues import KeyValues
from regard.attention.norms import Norm, Softmax
from regard.attention.record import observe
from regard.attention.request import Bias
from regard.attention.rotary import Rotation, rotate
from regard.attention.scores import ScaledDot, Score
from regard.attention.where import Where
from regard.errors import SettingsError


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762): `project` for self, `ask` and `remember` for cross.

    With one of ``kv_heads`` it is multi-query attention (Shazeer 2019, 1911.02150), with some grouped-query attention
    (Ainslie et al. 2023, 2305.13245). One weight projects to queries, keys and values, in this order, so that
    self-attention makes all three at once.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        *,
        kv_heads: int | None = None,
        score: Score | None = None,
        norm: Norm | None = None,
    ):
        super().__init__()
        kv_heads = kv_heads or heads
        if width % heads or heads % kv_heads:
            uneven = f"width {width}, {heads} heads and {kv_heads} of keys and values do not divide evenly"
            raise SettingsError(uneven, hint="heads must divide the width, and kv_heads the heads")
        self.width, self.heads, self.kv_heads, self.dropout = width, heads, kv_heads, dropout
        self.turned = width // heads
        self.score, self.norm = score or ScaledDot(), norm or Softmax()
        kv_width = 2 * kv_heads * self.turned
        self.projection = nn.Linear(width, width + kv_width)
        self.output = nn.Linear(width, width)
        for weight in (*self.projection.weight.split([width, kv_width]), self.output.weight):
            nn.init.xavier_uniform_(weight, gain=2**-0.5)
        nn.init.zeros_(self.projection.bias)
        nn.init.zeros_(self.output.bias)

    def project(
        self, inputs: Float[Tensor, "rows steps width"], turn: Rotation | None = None
    ) -> tuple[Float[Tensor, "rows heads steps features"], KeyValues]:
        """Queries, and the keys and values of the same steps; positions turn `turned` features of both."""
        queries, keys, values = self._heads(self.projection(inputs), self.heads, self.kv_heads, self.kv_heads)
        return rotate(queries, turn), self._remembered(rotate(keys, turn), values)

    def ask(self, inputs: Float[Tensor, "rows queries width"]) -> Float[Tensor, "rows heads queries features"]:
        """Queries to a memory that comes from elsewhere."""
        weight, bias = self.projection.weight[: self.width], self.projection.bias[: self.width]
        [queries] = self._heads(linear(inputs, weight, bias), self.heads)
        return queries

    def remember(self, memory: Float[Tensor, "batch keys width"]) -> KeyValues:
        """Keys and values of what can be looked at, once per memory."""
        weight, bias = self.projection.weight[self.width :], self.projection.bias[self.width :]
        return self._remembered(*self._heads(linear(memory, weight, bias), self.kv_heads, self.kv_heads))

    def forward(
        self,
        queries: Float[Tensor, "rows heads queries features"],
        memory: KeyValues,
        where: Where,
        at: Int[Tensor, "#rows queries"] | None = None,
        keys_at: Int[Tensor, "#batch keys"] | None = None,
        bias: Bias | None = None,
    ) -> Float[Tensor, "rows queries width"]:
        """What each query, at positions ``at``, finds in the memory, whose steps stand at ``keys_at``."""
        attended = attend(
            queries,
            memory.keys,
            memory.values,
            score=self.score,
            where=where,
            norm=self.norm,
            bias=bias,
            at=at,
            keys_at=keys_at,
            dropout=self.dropout if self.training else 0.0,
        )
        observe(self, attended.weights)
        return self.output(attended.out.transpose(1, 2).flatten(2))

    def _remembered(self, keys: Tensor, values: Tensor) -> KeyValues:
        return KeyValues(self.score.keys(keys), values)

    def _heads(self, projected: Tensor, *heads: int) -> tuple[Tensor, ...]:
        """Parts of so many heads each, as (rows, heads, steps, width)."""
        return projected.unflatten(-1, (sum(heads), -1)).transpose(1, 2).split(heads, dim=1)
