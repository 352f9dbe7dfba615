"""Mixers: layers that let steps see the steps before them through a state of fixed size instead of all their keys.

One call takes a whole target, a chunk or a single step and gives the state to go on from; however a sequence is split,
outputs and state are the same up to rounding. Padding may hold anything and never enters a state.
"""

from typing import Literal, NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention.linear import linear_attention
from regard.errors import SettingsError
from regard.padded import Padded
from regard.randomness import generator_for
from regard.settings import Settings
from regard.trees import Nest


class Mixer(Protocol):
    """What the kinds below have in common; each is made by its part's ``build(width, heads)``."""

    def start(self, rows: int) -> Nest:
        """The state before the first step: a nest of tensors, rows first."""
        ...

    def __call__(
        self, inputs: Float[Tensor, "rows time width"], lengths: Int[Tensor, "rows"], state: Nest | None = None
    ) -> tuple[Float[Tensor, "rows time width"], Nest]:
        """What each step sees of the steps up to it, and the state after each row's last real one.

        ``lengths`` are those of this chunk; a row of length 0 keeps its state. Without a state it is `start`'s.
        """
        ...


class Steps(NamedTuple):
    """A chunk of steps as heads see it: padding is zero in all of them; ``real`` is 1 elsewhere."""

    inputs: Float[Tensor, "rows time width"]
    queries: Float[Tensor, "rows heads time features"]
    keys: Float[Tensor, "rows heads time features"]
    values: Float[Tensor, "rows heads time features"]
    real: Float[Tensor, "rows 1 time 1"]
    lengths: Int[Tensor, "rows"]


class Heads(nn.Module):
    """Queries, keys and values of several heads from one projection, and another of what all heads have found.

    The projection has no bias: where the input is zero, as padding is made here, nothing is added to any state.

    Raises:
        SettingsError: the width does not split into the heads.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise SettingsError(f"width {width} does not split into {heads} heads")
        self.heads, self.head_width = heads, width // heads
        self.projection = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        for weight in (*self.projection.weight.split(width), self.output.weight):
            nn.init.xavier_uniform_(weight, gain=2**-0.5)

    def project(self, inputs: Float[Tensor, "rows time width"], lengths: Int[Tensor, "rows"]) -> Steps:
        """The steps in heads, padding made zero whatever it was."""
        real = Padded(inputs, lengths).mask[:, :, None]
        inputs = inputs.masked_fill(~real, 0.0)
        queries, keys, values = map(self.split, self.projection(inputs).chunk(3, -1))
        return Steps(inputs, queries, keys, values, real[:, None].to(queries.dtype), lengths)

    def split(self, features: Float[Tensor, "rows time features"]) -> Float[Tensor, "rows heads time head_features"]:
        """An equal share of the features for each head."""
        return features.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def join(self, found: Float[Tensor, "rows heads time head_width"]) -> Float[Tensor, "rows time width"]:
        return self.output(found.to(self.output.weight.dtype).transpose(1, 2).flatten(2))


class Recurrent(Heads):
    """A mixer but for `mix`."""

    def start(self, rows: int) -> Nest:
        return self._sums(rows, self.head_width)

    def _sums(self, rows: int, values: int, features: int | None = None) -> Tensor:
        weight = self.output.weight
        shape = rows, self.heads, features or self.head_width, values
        # sums over a whole sequence: never in half precision
        return torch.zeros(shape, dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device)

    def forward(
        self, inputs: Float[Tensor, "rows time width"], lengths: Int[Tensor, "rows"], state: Nest | None = None
    ) -> tuple[Float[Tensor, "rows time width"], Nest]:
        found, state = self.mix(self.project(inputs, lengths), self.start(len(inputs)) if state is None else state)
        return self.join(found), state

    def mix(self, steps: Steps, state: Nest) -> tuple[Tensor, Nest]:
        """What each step finds, (rows, heads, time, head width), and the state after."""
        raise NotImplementedError


class LinearAttention(Recurrent):
    """phi(q_t) . sum_j phi(k_j) v_j / phi(q_t) . sum_j phi(k_j) with phi(x) = elu(x) + 1.

    Katharopoulos et al. 2020, arXiv 2006.16236. State: both sums, (rows, heads, features, head width + 1).
    """

    def start(self, rows: int) -> Tensor:
        return self._sums(rows, self.head_width + 1)

    def of_queries(self, queries: Tensor) -> Tensor:
        """phi, up to a factor for each query: that divides out."""
        return self.of_keys(queries)

    def of_keys(self, keys: Tensor) -> Tensor:
        return F.relu(keys) + keys.clamp(max=0).exp()  # elu(x) + 1 without the rounding to 0 from x = -17 on

    def mapped(self, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, and values with a last feature that counts the real steps."""
        values = torch.cat([steps.values, steps.real.expand(-1, self.heads, -1, -1)], -1)
        return self.of_queries(steps.queries), self.of_keys(steps.keys), values

    def mix(self, steps: Steps, state: Tensor) -> tuple[Tensor, Tensor]:
        sums, state = linear_attention(*self.mapped(steps), no_decay(steps), state)
        return normalised(sums), state


class Performer(LinearAttention):
    """Softmax attention in expectation, by random positive features (FAVOR+, Choromanski et al. 2020, 2009.14794).

    phi(x)_i = exp(w_i . x - |x|^2 / 2) for q and k divided by the fourth root of the width; the w_i are Gaussian, but
    orthogonal in blocks of as many as the head is wide, and drawn from ``seed`` each time it is built. No maximum over
    all keys is subtracted, so no key need wait for later ones: exponents are at most |w_i|^2 / 2, about 64 in a head
    of width 128, where fp32 holds 88.
    """

    directions: Tensor

    def __init__(self, width: int, heads: int, features: int = 256, seed: int = 1):
        super().__init__(width, heads)
        self.register_buffer("directions", orthogonal_gaussian(features, self.head_width, seed))

    def start(self, rows: int) -> Tensor:
        return self._sums(rows, self.head_width + 1, len(self.directions))

    def of_queries(self, queries: Tensor) -> Tensor:
        return self._along(queries)[0].softmax(-1)

    def of_keys(self, keys: Tensor) -> Tensor:
        along, scaled = self._along(keys)
        return (along - scaled.square().sum(-1, keepdim=True) / 2).exp()

    def _along(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The exponents w . x, and x."""
        with torch.autocast(vectors.device.type, enabled=False):
            scaled = vectors.to(self.directions.dtype) * self.head_width**-0.25
            return scaled @ self.directions.mT, scaled


class NonCausal(nn.Module):
    """The same sums over all steps of a row, before and after: for encoders."""

    def __init__(self, mixer: LinearAttention):
        super().__init__()
        self.mixer = mixer

    def forward(
        self, inputs: Float[Tensor, "rows time width"], lengths: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows time width"]:
        queries, keys, values = self.mixer.mapped(self.mixer.project(inputs, lengths))
        return self.mixer.join(normalised(queries @ (keys.mT @ values.to(keys.dtype))))


def no_decay(steps: Steps) -> Float[Tensor, "1 1 time 1"]:
    return steps.values.new_zeros(1, 1, steps.values.shape[-2], 1)


def normalised(sums: Float[Tensor, "rows heads time counted"]) -> Float[Tensor, "rows heads time head_width"]:
    """Weighted sums of values divided by the sum of the weights, their last feature; 0 where nothing was seen."""
    total = sums[..., -1:]
    return sums[..., :-1] / total.masked_fill(total == 0, 1.0)


def orthogonal_gaussian(features: int, width: int, seed: int) -> Float[Tensor, "features width"]:
    """Gaussian vectors, each block of ``width`` of them orthogonal (section 3.2 of the Performer's paper)."""
    generator = generator_for(seed, "performer")
    blocks = -(-features // width)
    directions = [nn.init.orthogonal_(torch.empty(width, width), generator=generator) for _ in range(blocks)]
    lengths = torch.randn(features, width, generator=generator).norm(dim=-1, keepdim=True)
    return torch.cat(directions)[:features] * lengths


class LinearAttentionPart(Settings):
    """`LinearAttention`, as settings."""

    kind: Literal["linear"] = "linear"

    def build(self, width: int, heads: int) -> LinearAttention:
        return LinearAttention(width, heads)


class PerformerPart(Settings):
    """`Performer`, as settings."""

    kind: Literal["performer"] = "performer"
    features: int = Field(default=256, ge=1)
    seed: int = 1

    def build(self, width: int, heads: int) -> Performer:
        return Performer(width, heads, self.features, self.seed)
