"""Positions: what tells a model the order of its steps."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

Rotation = tuple[Tensor, Tensor]


def _angles(at: Tensor, width: int) -> Tensor:
    """position / 10000 ** (2i / width) for each of width / 2 frequencies."""
    frequencies = torch.exp(torch.arange(0, width, 2, device=at.device) * (-torch.log(torch.tensor(1e4)) / width))
    return at[..., None] * frequencies


def sinusoidal(at: Int[Tensor, "*rows time"], width: int) -> Float[Tensor, "*rows time width"]:
    """Sines and cosines of geometrically spaced frequencies, added to the input (Vaswani et al. 2017, 1706.03762)."""
    angles = _angles(at, width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def rotation(at: Int[Tensor, "#rows time"], width: int) -> Rotation:
    """Cosines and sines, (rows, 1, time, width / 2), by which queries and keys are turned (RoPE, Su et al. 2021)."""
    angles = _angles(at, width)[:, None]
    return angles.cos(), angles.sin()


def rotate(
    vectors: Float[Tensor, "rows heads time width"], turn: Rotation | None
) -> Float[Tensor, "rows heads time width"]:
    """Neighbouring pairs of features turned by their position's angles, so that products depend on distance only.

    Su et al. 2021, arXiv 2104.09864, equation 34.
    """
    if turn is None:
        return vectors
    cosine, sine = (part.to(vectors.dtype) for part in turn)
    even, odd = vectors[..., 0::2], vectors[..., 1::2]
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)
