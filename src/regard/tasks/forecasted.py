"""What a forecast is as an answer: numbers at times, a table, a figure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

from regard.data.rows import Row
from regard.data.series import Series
from regard.errors import DataError
from regard.inspection.alignment import AVERAGE, AttentionMaps
from regard.inspection.curves import forecast_figure
from regard.pieces import BLANK
from regard.tasks.task import Prediction

AGO = f"{BLANK}-"
"""What the name of a step begins with that is so many steps before the forecast."""


def _none() -> Float64[ndarray, "steps variables"]:
    return np.zeros((0, 0))


@dataclass(frozen=True, eq=False)
class Forecasted(Prediction):
    """The next steps of a series, (horizon, variables) in its own units; by quantile too where those were learnt."""

    values: Float64[ndarray, "steps variables"] = field(default_factory=_none)
    quantiles: Mapping[str, Float64[ndarray, "steps variables"]] = field(default_factory=dict)
    past: Series | None = None

    def within(self, row: Row) -> "Forecasted":
        return replace(self, past=row["source"])

    @property
    def times(self) -> list[str]:
        return self.past.times_after(len(self.values)) if self.past else []

    def to_json(self) -> dict[str, Any]:
        named = {"series": self.past.name, "variables": list(self.past.variables)} if self.past else {}
        quantiles = {name: values.tolist() for name, values in self.quantiles.items()}
        return {"values": self.values.tolist(), "times": self.times, "quantiles": quantiles} | named

    @property
    def header(self) -> tuple[str, ...]:
        variables = self.past.variables if self.past else ()
        return ("series", "time", *variables, *(f"{name} {one}" for one in self.quantiles for name in variables))

    def cells(self) -> list[tuple[str, ...]]:
        """A row for each step."""
        name, rows = self.past.name if self.past else "", [self.values, *self.quantiles.values()]
        numbers = np.concatenate(rows, axis=1).tolist()
        return [(name, time, *(f"{one:.6g}" for one in row)) for time, row in zip(self.times, numbers, strict=True)]

    @cached_property
    def _seen(self) -> AttentionMaps:
        return self.look()

    @cached_property
    def attention(self) -> AttentionMaps:
        """What was looked at, steps called by their times."""
        maps, past = self._seen, self.past
        if past is None:
            return maps
        times = past.times
        source = [BLANK + times[int(name[1:])] if name.startswith(AGO) else name for name in maps.source]
        return replace(maps, source=tuple(source), target=tuple(BLANK + time for time in self.times))

    def plot(self) -> Any:
        """A matplotlib figure of every variable with the past that was read, shaded where it was looked at.

        Raises:
            DataError: the forecast is of no series; InputError: matplotlib is not installed.
        """
        if self.past is None:
            raise DataError("a forecast of no series has no figure", hint="plot what predict answers")
        series, looked = self.past, self._looked_at()
        return forecast_figure(series.variables, series.values, self.values, self.quantiles, self.times, looked)

    def _looked_at(self) -> dict[int, float]:
        """The share of all attention by how many steps before the forecast a part of the past begins.

        That of the forecast's steps, or else of the past to itself, the mean over all heads and, where each variable is
        read by itself, over all of these; none where there is no attention over time. A patch counts until the next.
        """
        maps = self._seen
        seen = [maps.maps[AVERAGE]] if AVERAGE in maps.maps else [*maps.maps.values()]
        if not seen or not all(name.startswith(AGO) for name in maps.source):
            return {}
        shares = torch.cat([weights.mean((0, 1), keepdim=True) for weights in seen]).mean((0, 1)).tolist()
        return {-int(name.removeprefix(AGO)): share for name, share in zip(maps.source, shares, strict=True)}
