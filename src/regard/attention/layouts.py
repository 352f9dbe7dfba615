"""Other ways to make and to keep queries, keys and values, with the interface of `Attention`."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard.attention.keyvalues import KeyValues
from regard.attention.module import Attention, Layout, Look
from regard.attention.norms import Norm, Softmax
from regard.attention.rms_norm import RMSNorm
from regard.attention.rotary import Rotation, rotate
from regard.attention.scores import Dot
from regard.attention.weights import Weights
from regard.errors import SettingsError


class Latents(NamedTuple):
    """What latent attention keeps of each step: its latent, and a key that positions turn, side by side."""

    steps: Float[Tensor, "batch 1 keys kept"]


class LatentAttention(Layout):
    """Keys and values made of one small vector a step, the only thing to keep (MLA: DeepSeek-V2 2024, 2405.04434).

    Of a step are kept a latent of ``rank`` features and ``turned`` features of a key that positions turn, shared by all
    heads. Several queries look at the keys and values made of them. One alone, as in decoding, looks at what is kept:
    multi-query attention with the matrices for keys moved to the query and those for values to the output.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        *,
        rank: int,
        turned: int,
        norm: Norm | None = None,
        bias: bool = True,
    ):
        super().__init__()
        if width % heads or turned % 2:
            raise SettingsError(
                f"width {width} must split into {heads} heads, and the {turned} turned features in pairs"
            )
        self.heads, self.rank, self.turned, self.dropout = heads, rank, turned, dropout
        self.score, self.norm = Dot(), norm or Softmax()
        self.query = nn.Linear(width, width + heads * turned, bias=False)
        self.down = nn.Linear(width, rank + turned, bias=False)
        self.latent_norm = RMSNorm(rank)
        self.up_keys = nn.Parameter(torch.empty(heads, rank, width // heads))
        self.up_values = nn.Parameter(torch.empty(heads, rank, width // heads))
        self.output = nn.Linear(width, width, bias)
        if bias:
            nn.init.zeros_(self.output.bias)
        for up in (self.up_keys, self.up_values):
            nn.init.normal_(up, std=rank**-0.5)

    def project(
        self, inputs: Float[Tensor, "rows steps width"], turn: Rotation | None = None
    ) -> tuple[Float[Tensor, "rows heads steps features"], Latents]:
        """Queries, and what is kept of the same steps."""
        content, turning = self._parts(self.ask(inputs))
        return torch.cat([content, rotate(turning, turn)], -1), self.remember(inputs, turn)

    def ask(self, inputs: Float[Tensor, "rows queries width"]) -> Float[Tensor, "rows heads queries features"]:
        """Queries to a memory that comes from elsewhere."""
        return self.query(inputs).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def remember(self, memory: Float[Tensor, "batch keys width"], turn: Rotation | None = None) -> Latents:
        """What is kept of what can be looked at, once per memory."""
        latent, turning = self.down(memory)[:, None].split([self.rank, self.turned], -1)
        return Latents(torch.cat([self.latent_norm(latent), rotate(turning, turn)], -1))

    def find(self, queries: Tensor, memory: Latents, look: Look) -> tuple[Tensor, Weights]:
        alone = queries.shape[2] == 1
        asked, keys, values = (self._absorbed if alone else self._expanded)(queries, memory.steps)
        attended = look(asked * queries.shape[-1] ** -0.5, keys, values)
        return attended.out @ self.up_values if alone else attended.out, attended.weights

    def _absorbed(self, queries: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        content, turning = self._parts(queries)
        return torch.cat([content @ self.up_keys.mT, turning], -1), steps, steps[..., : self.rank]

    def _expanded(self, queries: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        latent, turning = steps.split([self.rank, self.turned], -1)
        keys = torch.cat([latent @ self.up_keys, turning.expand(-1, self.heads, -1, -1)], -1)
        return queries, keys, latent @ self.up_values

    def _parts(self, queries: Tensor) -> tuple[Tensor, ...]:
        return queries.split([queries.shape[-1] - self.turned, self.turned], -1)


class DifferentialAttention(Attention):
    """The difference of two attentions, in which noise cancels (Ye et al. 2024, arXiv 2410.05258).

    Every head has two queries and two keys of half its width and one value: (w1 - l w2) v, normalised and scaled by
    1 - 0.8, where l = exp(a . b) - exp(c . d) + 0.8. The paper begins l lower in the first layers; here all are alike.
    """

    BEGIN = 0.8

    def __init__(self, width: int, heads: int, dropout: float = 0.0, *, norm: Norm | None = None, bias: bool = True):
        if width % (2 * heads):
            raise SettingsError(f"width {width} does not split into {heads} heads of two halves")
        super().__init__(width, heads, dropout, norm=norm, bias=bias)
        self.turned = width // heads // 2
        self.balance = nn.Parameter(torch.empty(4, self.turned).normal_(std=0.1))
        self.head_norm = RMSNorm(width // heads, epsilon=1e-5)

    def find(self, queries: Tensor, memory: KeyValues, look: Look) -> tuple[Tensor, Weights]:
        one, other = (look(queries[:, half::2], memory.keys[:, half::2], memory.values) for half in range(2))
        share = self._share()
        found = self.head_norm(one.out - share * other.out) * (1 - self.BEGIN)
        both = one.weights, other.weights
        return found, Weights(lambda some: both[0][:, :, some] - share * both[1][:, :, some], both[0].shape)

    def _share(self) -> Float[Tensor, ""]:
        first, second, third, fourth = self.balance
        return (first @ second).exp() - (third @ fourth).exp() + self.BEGIN

    def _heads(self, projected: Tensor, *heads: int) -> tuple[Tensor, ...]:
        """Queries and keys as two halves of each head, side by side; values, which come last of several, whole."""
        first, *others = super()._heads(projected, *heads)
        return (_halves(first), *(_halves(part) for part in others[:-1]), *others[-1:])


def _halves(heads: Float[Tensor, "rows heads steps width"]) -> Float[Tensor, "rows halves steps half"]:
    return heads.unflatten(-1, (2, -1)).movedim(3, 2).flatten(1, 2)
