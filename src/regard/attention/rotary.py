"""Rotations: pairs of features turned by angles that grow with the position.

Schedules say how fast: as in the training, or slower, for contexts longer than those of the training.
"""

import math
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from regard.settings import Settings

Pairing = Literal["neighbours", "halves"]
"""Which features turn together: 2i and 2i + 1, as in the paper, or i and i + width / 2, as in Llama's checkpoints."""


class Rotation(NamedTuple):
    """By which angles the pairs of features are turned; features beyond the pairs stay as they are."""

    cosine: Float[Tensor, "#rows 1 time pairs"]
    sine: Float[Tensor, "#rows 1 time pairs"]
    pairing: Pairing


def rotate(
    vectors: Float[Tensor, "rows heads time width"], turn: Rotation | None
) -> Float[Tensor, "rows heads time width"]:
    """Queries or keys with their pairs of features turned (Su et al. 2021, arXiv 2104.09864, equation 34)."""
    if turn is None:
        return vectors
    cosine, sine = turn.cosine.to(vectors.dtype), turn.sine.to(vectors.dtype)
    turned = 2 * cosine.shape[-1]
    if turned < vectors.shape[-1]:
        return torch.cat([rotate(vectors[..., :turned], turn), vectors[..., turned:]], dim=-1)
    if turn.pairing == "halves":
        first, second = vectors.chunk(2, dim=-1)
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
    even, odd = vectors[..., 0::2], vectors[..., 1::2]
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)


def geometric(width: int, base: float, device: torch.device) -> Float[Tensor, "pairs"]:
    """base ** (-2i / width) for each of width / 2 frequencies, in radians per position."""
    return torch.exp(torch.arange(0, width, 2, device=device) * (-torch.log(torch.tensor(base)) / width))


class Schedule(Settings):
    """How fast each pair of features turns, and by how much what was turned is scaled."""

    def frequencies(self, width: int, base: float, device: torch.device) -> Float[Tensor, "pairs"]:
        """Radians per position for each pair of ``width`` features."""
        raise NotImplementedError

    @property
    def magnitude(self) -> float:
        """A factor on the turned features of queries and of keys: scores get its square."""
        return 1.0


class Plain(Schedule):
    """base ** (-2i / width) (Su et al. 2021, arXiv 2104.09864, section 3.2.2)."""

    kind: Literal["plain"] = "plain"

    def frequencies(self, width: int, base: float, device: torch.device) -> Tensor:
        return geometric(width, base, device)


class Interpolated(Schedule):
    """Positions divided by ``factor``, into the range of the training (Chen et al. 2023, arXiv 2306.15595)."""

    kind: Literal["interpolated"] = "interpolated"
    factor: float = Field(default=2.0, ge=1)

    def frequencies(self, width: int, base: float, device: torch.device) -> Tensor:
        return geometric(width, base, device) / self.factor


class Ntk(Schedule):
    """A greater base, by which the slowest pair is slowed by ``factor`` and the fastest stays as it was.

    "NTK-aware" interpolation, by bloc97 2023; in Peng et al. 2023, arXiv 2309.00071, definition 1.
    """

    kind: Literal["ntk"] = "ntk"
    factor: float = Field(default=2.0, ge=1)

    def frequencies(self, width: int, base: float, device: torch.device) -> Tensor:
        slowest = max(width - 2, 1)  # of a single pair, the frequency is 1 whatever the base
        return geometric(width, base * self.factor ** (width / slowest), device)


class Yarn(Schedule):
    """Fast pairs stay, slow pairs are interpolated by ``factor``, and scores grow (Peng et al. 2023, arXiv 2309.00071).

    A pair is fast that turns ``fast`` times or more within the ``length`` of the training, and slow that turns
    ``slow`` times or fewer. Between these the change is linear in the number of the pair, as in the authors' code and
    so in every checkpoint; the paper's definition 2 has it linear in the turns.
    """

    kind: Literal["yarn"] = "yarn"
    factor: float = Field(default=2.0, ge=1)
    length: int = Field(ge=1)
    fast: float = Field(default=32.0, gt=0)
    slow: float = Field(default=1.0, gt=0)

    @property
    def magnitude(self) -> float:
        """sqrt(1 / t) = 0.1 log(factor) + 1, for a temperature of t."""
        return 0.1 * math.log(self.factor) + 1

    def frequencies(self, width: int, base: float, device: torch.device) -> Tensor:
        first = max(math.floor(self._pair(self.fast, width, base)), 0)
        last = min(math.ceil(self._pair(self.slow, width, base)), width - 1)
        pairs = torch.arange(width // 2, device=device)
        interpolated = ((pairs - first) / max(last - first, 1e-3)).clamp(0, 1)
        return geometric(width, base, device) * (1 - interpolated + interpolated / self.factor)

    def _pair(self, turns: float, width: int, base: float) -> float:
        """The number of the pair that turns so many times within the length, with a fraction."""
        return width * math.log(self.length / (turns * 2 * math.pi)) / (2 * math.log(base))


SchedulePart = Annotated[Plain | Interpolated | Ntk | Yarn, Field(discriminator="kind")]
"""Schedules that settings can choose."""
