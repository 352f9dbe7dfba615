"""A head for forecasts: features of each step ahead to values of all variables, at the level of the window."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard.layers.series import Level, Window, level
from regard.models.parts import Decoded, Encoded, Loss, Widths
from regard.padded import Padded


class HorizonHead(nn.Module):
    """One value for each step and variable, or one for each of some ``quantiles``; the loss is their squared error, or
    the quantile loss (Koenker and Bassett 1978), which a quantile of the distribution makes least.

    Values are given back the mean and the deviation that their window had (Kim et al. 2022, ICLR, equation 2).
    """

    def __init__(self, widths: Widths, window: Window, quantiles: tuple[float, ...] = ()):
        super().__init__()
        self.window, self.quantiles = window, quantiles
        answered = window.variables * window.outputs
        self.projection = nn.Linear(widths.output, answered) if widths.output else nn.Identity()

    def remember(self, encoded: Encoded) -> Level:
        return level(encoded.tokens)

    def values(self, decoded: Decoded, memory: Level) -> Float[Tensor, "rows time variables outputs"]:
        """What is expected, on the scale of the source."""
        found = self.projection(decoded.features).float().unflatten(-1, (self.window.variables, self.window.outputs))
        return found * memory.deviation[..., None] + memory.mean[..., None]

    def loss(self, decoded: Decoded, targets: Padded, memory: Level) -> Loss:
        """Over all values of all real steps."""
        real = targets.mask
        errors = (targets.values[..., None] - self.values(decoded, memory))[real]
        total = (quantile_loss(errors, self.quantiles) if self.quantiles else errors.square()).sum()
        return Loss(total, errors.numel(), {})


def quantile_loss(
    errors: Float[Tensor, "*values quantiles"], quantiles: tuple[float, ...]
) -> Float[Tensor, "*values quantiles"]:
    """q e above the forecast, (q - 1) e below, where e is target less forecast: the pinball loss."""
    shares = torch.tensor(quantiles, device=errors.device)
    return torch.maximum(shares * errors, (shares - 1) * errors)
