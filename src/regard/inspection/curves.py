"""Curves of series: a line of text, and a figure of a forecast with its past."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from regard.inspection.plotting import plotting

BARS = "▁▂▃▄▅▆▇█"
LONGEST = 48
MOST_PAST = 4
"""Horizons of the past that are drawn, where no attention says how far it goes."""
SHADE = 0.4
"""Opacity of the place that was looked at most."""


def sketch(values: Float64[ndarray, "steps"]) -> str:
    """A curve as bars between its least and its greatest value, at most 48 of them: ``1.2 ▁▄█▄ 7.9``."""
    if not len(values):
        return ""
    parts = np.array([part.mean() for part in np.array_split(values, min(len(values), LONGEST))])
    low, high = parts.min(), parts.max()
    heights = (parts - low) / (high - low) if high > low else np.zeros(len(parts))
    return f"{low:.4g} {''.join(BARS[round(height * (len(BARS) - 1))] for height in heights.tolist())} {high:.4g}"


def forecast_figure(
    variables: Sequence[str],
    past: Float64[ndarray, "before variables"],
    values: Float64[ndarray, "steps variables"],
    quantiles: Mapping[str, Float64[ndarray, "steps variables"]],
    times: Sequence[str],
    looked: Mapping[int, float],
) -> Any:
    """A matplotlib figure: for each variable the end of its past, its forecast, and a band between outer quantiles.

    The past is drawn as far as was ``looked`` at it, shaded by the share from each place to the next; places are
    counted from the forecast on, below 0. Where nothing is known of that, some horizons of it are drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    steps = np.arange(len(values))
    before = past[min(looked, default=-MOST_PAST * len(values)) :]
    figure = plotting().figure.Figure(figsize=(8, 1 + 2 * len(variables)), layout="constrained")
    panels = figure.subplots(len(variables), squeeze=False, sharex=True)[:, 0]
    for place, (name, axes) in enumerate(zip(variables, panels, strict=True)):
        axes.plot(np.arange(-len(before), 0), before[:, place], color="0.4")
        axes.plot(steps, values[:, place], color="C0")
        for (begin, share), end in zip(looked.items(), [*looked, 0][1:], strict=True):
            shade = SHADE * share / max(looked.values())
            axes.axvspan(begin - 0.5, end - 0.5, color="C0", alpha=shade, linewidth=0)
        if len(quantiles) > 1:
            low, *_, high = quantiles.values()
            axes.fill_between(steps, low[:, place], high[:, place], color="C0", alpha=0.2)
        axes.set_ylabel(name)
    panels[-1].set_xticks([0, len(values) - 1], [times[0], times[-1]])
    return figure
