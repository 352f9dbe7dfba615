"""Errors of forecasts: pure functions of predicted and true values; lower is better."""

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

Values = Float64[ndarray, "windows steps variables"]


def mse(predictions: Values, references: Values) -> float:
    """The mean squared error."""
    return float(np.mean((predictions - references) ** 2))


def mae(predictions: Values, references: Values) -> float:
    """The mean absolute error."""
    return float(np.mean(np.abs(predictions - references)))


def smape(predictions: Values, references: Values) -> float:
    """Twice the error as a share of both sides' size, in percent, from 0 to 200; two zeros are no error.

    As in the M4 competition (Makridakis et al. 2020, IJF 36).
    """
    sizes = np.abs(predictions) + np.abs(references)
    return float(200 * np.mean(np.abs(predictions - references) / np.where(sizes > 0, sizes, 1)))


def mase(predictions: Values, references: Values, naive: Float64[ndarray, "variables"]) -> float:
    """The absolute error in units of what the seasonal naive forecast has one step ahead in training, by variable.

    Mean absolute scaled error (Hyndman and Koehler 2006, IJF 22); below 1 is better than that forecast.
    """
    return float(np.mean(np.abs(predictions - references) / naive))


def quantile_loss(
    predictions: Float64[ndarray, "windows steps variables quantiles"], references: Values, quantiles: tuple[float, ...]
) -> float:
    """The mean over quantiles q of q e above the forecast and (q - 1) e below (Koenker and Bassett 1978)."""
    errors, shares = references[..., None] - predictions, np.array(quantiles)
    return float(np.mean(np.maximum(shares * errors, (shares - 1) * errors)))
