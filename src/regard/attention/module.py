"""Multi-head attention with projections of its own; heads of keys and values may be shared by several of queries."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from regard.attention.attend import Attended, attend
from regard.attention.keyvalues import KeyValues
from regard.attention.norms import Norm, Softmax
from regard.attention.record import observe
from regard.attention.request import Bias
from regard.attention.rotary import Rotation, rotate
from regard.attention.scores import ScaledDot, Score
from regard.attention.weights import Weights
from regard.attention.where import Where
from regard.errors import SettingsError
from regard.trees import Nest

Look = Callable[[Tensor, Tensor, Tensor], Attended]
"""`attend` to queries, keys and values, all else said."""


class Layout(nn.Module):
    """How heads of queries, keys and values are made and kept; positions turn ``turned`` features of a head."""

    score: Score
    norm: Norm
    dropout: float
    turned: int
    output: nn.Linear

    def project(
        self, inputs: Float[Tensor, "rows steps width"], turn: Rotation | None = None
    ) -> tuple[Float[Tensor, "rows heads steps features"], Nest]:
        """Queries, and what is kept of the same steps."""
        raise NotImplementedError

    def ask(self, inputs: Float[Tensor, "rows queries width"]) -> Float[Tensor, "rows heads queries features"]:
        """Queries to a memory that comes from elsewhere."""
        raise NotImplementedError

    def remember(self, memory: Float[Tensor, "batch keys width"]) -> Nest:
        """What is kept of what can be looked at, once per memory."""
        raise NotImplementedError

    def forward(
        self,
        queries: Float[Tensor, "rows heads queries features"],
        memory: Nest,
        where: Where,
        at: Int[Tensor, "#rows queries"] | None = None,
        keys_at: Int[Tensor, "#batch keys"] | None = None,
        bias: Bias | None = None,
    ) -> Float[Tensor, "rows queries width"]:
        """What each query, at positions ``at``, finds in the memory, whose steps stand at ``keys_at``."""
        look = partial(
            attend,
            score=self.score,
            where=where,
            norm=self.norm,
            bias=bias,
            at=at,
            keys_at=keys_at,
            dropout=self.dropout if self.training else 0.0,
        )
        found, weights = self.find(queries, memory, look)
        observe(self, weights)
        return self.output(found.transpose(1, 2).flatten(2))

    def find(
        self, queries: Float[Tensor, "rows heads queries features"], memory: Nest, look: Look
    ) -> tuple[Float[Tensor, "rows out_heads queries values"], Weights]:
        """What each head finds, and the weights behind it."""
        raise NotImplementedError


class Attention(Layout):
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
        head_width: int | None = None,
        score: Score | None = None,
        norm: Norm | None = None,
        bias: bool = True,
    ):
        super().__init__()
        kv_heads = kv_heads or heads
        if (not head_width and width % heads) or heads % kv_heads:
            uneven = f"width {width}, {heads} heads and {kv_heads} of keys and values do not divide evenly"
            raise SettingsError(uneven, hint="heads must divide the width, and kv_heads the heads")
        self.heads, self.kv_heads, self.dropout = heads, kv_heads, dropout
        self.turned = head_width or width // heads
        self.score, self.norm = score or ScaledDot(), norm or Softmax()
        self.sizes = [heads * self.turned, 2 * kv_heads * self.turned]
        self.projection = nn.Linear(width, sum(self.sizes), bias)
        self.output = nn.Linear(heads * self.turned, width, bias)
        for weight in (*self.projection.weight.split(self.sizes), self.output.weight):
            nn.init.xavier_uniform_(weight, gain=2**-0.5)
        if bias:
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
        [queries] = self._heads(self._part(inputs, 0), self.heads)
        return queries

    def remember(self, memory: Float[Tensor, "batch keys width"]) -> KeyValues:
        """Keys and values of what can be looked at, once per memory."""
        return self._remembered(*self._heads(self._part(memory, 1), self.kv_heads, self.kv_heads))

    def find(self, queries: Tensor, memory: KeyValues, look: Look) -> tuple[Tensor, Weights]:
        attended = look(queries, memory.keys, memory.values)
        return attended.out, attended.weights

    def _remembered(self, keys: Tensor, values: Tensor) -> KeyValues:
        return KeyValues(self.score.keys(keys), values)

    def _part(self, inputs: Tensor, part: int) -> Tensor:
        """Only the queries (0) or only the keys and values (1)."""
        weight, bias = self.projection.weight, self.projection.bias
        return linear(inputs, weight.split(self.sizes)[part], None if bias is None else bias.split(self.sizes)[part])

    def _heads(self, projected: Tensor, *heads: int) -> tuple[Tensor, ...]:
        """Parts of so many heads each, as (rows, heads, steps, width)."""
        return projected.unflatten(-1, (sum(heads), -1)).transpose(1, 2).split(heads, dim=1)
