"""Scores that know how far a key is from its query."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regard.attention.positions import sinusoidal
from regard.attention.scores import Places, Score
from regard.attention.where import END


class Shaw(nn.Module, Score):
    """q . (k + a[j - i]) / sqrt(width), distances clipped to ``reach`` (Shaw et al. 2018, arXiv 1803.02155).

    Only the keys' half: the paper found nothing lost without the half for values (its table 3).
    """

    def __init__(self, width: int, reach: int = 16):
        super().__init__()
        self.reach = reach
        self.offsets = nn.Parameter(torch.empty(2 * reach + 1, width).normal_(std=width**-0.5))

    def forward(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        queries = queries * queries.shape[-1] ** -0.5
        offsets = (-places.distances).clamp(-self.reach, self.reach) + self.reach
        return queries @ keys.mT + _looked_up(queries @ self.offsets.mT, offsets)


class TransformerXL(nn.Module, Score):
    """((q + u) . k + (q + v) . W r[i - j]) / sqrt(width), r a sinusoid (Dai et al. 2019, arXiv 1901.02860)."""

    def __init__(self, width: int, heads: int, model_width: int | None = None):
        super().__init__()
        self.model_width = model_width or width * heads
        self.distance = nn.Linear(self.model_width, heads * width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, width))
        self.position_bias = nn.Parameter(torch.zeros(heads, 1, width))

    def forward(self, queries: Tensor, keys: Tensor, places: Places) -> Tensor:
        content = (queries + self.content_bias) @ keys.mT
        if not content.numel():
            return content
        # one feature for each distance there may be, not for each pair; per row, since a row may lie far from others
        keys_at = torch.where(places.keys_at < END, places.keys_at, places.at.min())  # slots of a ring may be empty
        nearest = int((places.at.amin(1) - keys_at.amax(1)).min())
        farthest = int((places.at.amax(1) - keys_at.amin(1)).max())
        known = torch.arange(nearest, farthest + 1, device=queries.device)
        by_distance = (queries + self.position_bias) @ self._features(known, queries.dtype).mT
        distances = places.at[:, :, None] - keys_at[:, None, :]
        return (content + _looked_up(by_distance, distances - nearest)) * queries.shape[-1] ** -0.5

    def _features(
        self, distances: Int[Tensor, "distances"], dtype: torch.dtype
    ) -> Float[Tensor, "heads distances width"]:
        features = self.distance(sinusoidal(distances, self.model_width).to(dtype))
        return features.unflatten(-1, (len(self.content_bias), -1)).transpose(0, 1)


def _looked_up(
    table: Float[Tensor, "batch heads queries entries"], entries: Int[Tensor, "#batch queries keys"]
) -> Float[Tensor, "batch heads queries keys"]:
    """For each query and key, one entry of what the query says of all entries."""
    return table.gather(-1, entries[:, None].expand(*table.shape[:-1], -1))
