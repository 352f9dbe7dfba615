"""Scores: how well a query and a key fit. The plain tensor code of each is its specification.

A score that *lifts* is a dot product of changed queries and changed keys, and every fast kernel takes it.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regard.settings import Settings


class Places(NamedTuple):
    """Where queries and keys stand, and which keys each query may look at (None: all)."""

    at: Int[Tensor, "#batch queries"]
    keys_at: Int[Tensor, "#batch keys"]
    keep: Bool[Tensor, "#batch #heads #queries #keys"] | None

    @property
    def distances(self) -> Int[Tensor, "#batch queries keys"]:
        """How far each key lies behind its query: ``i - j``."""
        return self.at[:, :, None] - self.keys_at[:, None, :]


class Lift(NamedTuple):
    """A score as ``scale * queries . keys + row``, where ``row`` is the same for all keys of a query."""

    queries: Float[Tensor, "batch heads queries lifted"]
    keys: Float[Tensor, "batch kv_heads keys lifted"]
    scale: float = 1.0
    row: Float[Tensor, "batch heads queries"] | None = None


class Score:
    """A similarity of every query with every key."""

    def __call__(
        self,
        queries: Float[Tensor, "batch heads queries width"],
        keys: Float[Tensor, "batch heads keys features"],
        places: Places,
    ) -> Float[Tensor, "batch heads queries keys"]:
        """The specification."""
        raise NotImplementedError

    def keys(self, keys: Tensor) -> Tensor:
        """What of the score depends on the keys alone, computed once per memory."""
        return keys

    def lift(self, queries: Tensor, keys: Tensor) -> Lift | None:
        """The same as a dot product, if it is one; ``keys`` may have fewer heads than ``queries``."""
        return None

    def gain(self, queries: Tensor, places: Places) -> Tensor | None:
        """A factor on the normalised weights, (batch, heads, queries, keys), for the few scores that have one."""
        return None


class _Plain(Settings, Score):
    """A score without weights of its own, which is its own settings."""

    def build(self, width: int, heads: int) -> Score:
        return self


class Dot(_Plain):
    """q . k (Luong et al. 2015, arXiv 1508.04025, equation 8)."""

    kind: Literal["dot"] = "dot"

    def __call__(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        return queries @ keys.mT

    def lift(self, queries: Tensor, keys: Tensor) -> Lift:
        return Lift(queries, keys)


class ScaledDot(_Plain):
    """q . k / sqrt(width) (Vaswani et al. 2017, arXiv 1706.03762, equation 1)."""

    kind: Literal["scaled_dot"] = "scaled_dot"

    def __call__(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        return (queries * queries.shape[-1] ** -0.5) @ keys.mT

    def lift(self, queries: Tensor, keys: Tensor) -> Lift:
        return Lift(queries, keys, queries.shape[-1] ** -0.5)


class Distance(_Plain):
    """-|q - k|^2 / (2 sqrt(width)): near is alike (the L2 attention of Kim et al. 2021, arXiv 2006.04710, halved)."""

    kind: Literal["distance"] = "distance"

    def __call__(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        squares = (queries[..., :, None, :] - keys[..., None, :, :]).square().sum(-1)
        return squares * (-0.5 * queries.shape[-1] ** -0.5)

    def lift(self, queries: Tensor, keys: Tensor) -> Lift:
        # -|q - k|^2 / 2 = q . k - |k|^2 / 2 - |q|^2 / 2, and the last is the same for all keys
        scale = queries.shape[-1] ** -0.5
        halves = [F.pad(queries, (0, 1), value=1.0), torch.cat([keys, keys.square().sum(-1, keepdim=True) / -2], -1)]
        return Lift(halves[0], halves[1], scale, queries.square().sum(-1) * (-0.5 * scale))


class General(nn.Module, Score):
    """q . W k, a matrix for each head (Luong et al. 2015, arXiv 1508.04025, equation 8)."""

    def __init__(self, width: int, heads: int = 1, key_width: int | None = None):
        super().__init__()
        key_width = key_width or width
        bound = (width * key_width) ** -0.25
        self.matrix = nn.Parameter(torch.empty(heads, width, key_width).uniform_(-bound, bound))

    def forward(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        return self._mapped(queries) @ keys.mT

    def lift(self, queries: Tensor, keys: Tensor) -> Lift:
        return Lift(self._mapped(queries), keys)

    def _mapped(self, queries: Tensor) -> Tensor:
        return torch.einsum("bhqw,hwk->bhqk", queries, self.matrix)  # as a product `@` copies the matrix for each row


class Cosine(nn.Module, Score):
    """g cos(q, k) with a learned temperature g for each head.

    Graves et al. 2014, arXiv 1410.5401, equation 6, where g is the key strength; as QK-norm Henry et al. 2020,
    arXiv 2010.04245, who begin with g = log2(length^2 - length).
    """

    def __init__(self, heads: int = 1, temperature: float = 10.0):
        super().__init__()
        self.temperature = nn.Parameter(torch.full((heads, 1, 1), temperature))

    def forward(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        norms = queries.norm(dim=-1).clamp(min=1e-12)[..., :, None] * keys.norm(dim=-1).clamp(min=1e-12)[..., None, :]
        return self.temperature * (queries @ keys.mT) / norms

    def lift(self, queries: Tensor, keys: Tensor) -> Lift:
        factors = self.temperature / queries.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return Lift(queries * factors.to(queries.dtype), F.normalize(keys, dim=-1))


class Additive(nn.Module, Score):
    """v . tanh(q + k) (Bahdanau et al. 2015, arXiv 1409.0473), on queries ``W s`` and keys ``U h`` projected before.

    ``normalised``: g v / |v| . tanh(q + k + b), the direction's length g learned apart (Raffel et al. 2017, arXiv
    1704.00784, equation 16, after Salimans and Kingma 2016, arXiv 1602.07868).
    """

    def __init__(self, width: int, heads: int = 1, normalised: bool = False):
        super().__init__()
        self.heads = heads
        self.direction = nn.Parameter(torch.empty(heads * width).uniform_(-1, 1).mul_(width**-0.5))
        self.length = nn.Parameter(torch.tensor(width**-0.5)) if normalised else None
        self.shift = nn.Parameter(torch.zeros(width)) if normalised else None

    def forward(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        return self.of_sum(queries[..., :, None, :] + keys[..., None, :, :])

    def of_sum(self, summed: Float[Tensor, "batch heads queries keys width"]) -> Tensor:
        """The score from what stands inside the tanh."""
        if self.shift is not None:
            summed = summed + self.shift
        direction = self.direction.unflatten(0, (self.heads, -1))
        if self.length is not None:
            direction = self.length * direction / direction.norm(dim=-1, keepdim=True)
        bent = torch.tanh(summed)
        return bent @ direction[0] if self.heads == 1 else torch.einsum("bhqkw,hw->bhqk", bent, direction)


class Concat(nn.Module, Score):
    """v . tanh(W [q; k]) (Luong et al. 2015, arXiv 1508.04025, equation 8); the half of W for keys is applied once."""

    def __init__(self, width: int, heads: int = 1, key_width: int | None = None, hidden: int | None = None):
        super().__init__()
        hidden = hidden or width
        self.query = nn.Linear(width, hidden, bias=False)
        self.key = nn.Linear(key_width or width, hidden, bias=False)
        self.additive = Additive(hidden, heads)

    def keys(self, keys: Tensor) -> Tensor:
        return self.key(keys)

    def forward(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        return self.additive(self.query(queries), keys, places)


class GeneralPart(Settings):
    """`General`, as settings."""

    kind: Literal["general"] = "general"

    def build(self, width: int, heads: int) -> Score:
        return General(width, heads)


class CosinePart(Settings):
    """`Cosine`, as settings."""

    kind: Literal["cosine"] = "cosine"
    temperature: float = Field(default=10.0, gt=0)

    def build(self, width: int, heads: int) -> Score:
        return Cosine(heads, self.temperature)


class AdditivePart(Settings):
    """`Additive`, as settings."""

    kind: Literal["additive"] = "additive"
    normalised: bool = False

    def build(self, width: int, heads: int) -> Score:
        return Additive(width, heads, self.normalised)


class ConcatPart(Settings):
    """`Concat`, as settings."""

    kind: Literal["concat"] = "concat"

    def build(self, width: int, heads: int) -> Score:
        return Concat(width, heads)
