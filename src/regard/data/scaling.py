"""What is learnt of series in training: which variables and clock, their scale, their season."""

from typing import Annotated

import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray
from pydantic import Field, model_validator

from regard.data.learnt import LearntFile, damaged
from regard.data.series import Series, Windows
from regard.data.times import DAY, Clock
from regard.errors import DataError, did_you_mean
from regard.settings import Settings

SCALE_FILE = "series.json"
MOST_BYTES = 1 << 24
LEAST_CORRELATION = 0.2
"""Of the changes from step to step with those a season before, for a season to be one."""

NEARLY = 0.8
"""Of the greatest correlation: the shortest season that has it is taken, for a week is seven days again."""

Positive = Annotated[float, Field(gt=0)]


class Scale(Settings):
    """The mean and deviation of each variable, in its own units, and how far off the seasonal naive forecast is."""

    variables: tuple[str, ...] = Field(min_length=1)
    clock: Clock
    reach: int = Field(ge=1)
    horizon: int = Field(ge=1)
    season: int = Field(ge=1, description="steps")
    mean: tuple[float, ...]
    deviation: tuple[Positive, ...]
    naive: tuple[Positive, ...]

    @model_validator(mode="after")
    def _one_each(self) -> "Scale":
        if not len(self.variables) == len(self.mean) == len(self.deviation) == len(self.naive):
            raise ValueError("not one number for each variable")
        return self

    @classmethod
    def learn(cls, train: Windows) -> "Scale":
        """From the training part, each step counting once.

        Raises:
            DataError: a variable never changes.
        """
        first, values = train.parts[0], np.concatenate([part.values for part in train.parts])
        mean = values[0] + (values - values[0]).mean(0)  # sums of 1e12 would round
        deviation = values.std(0)
        for name, number in zip(first.variables, deviation.tolist(), strict=True):
            if not number > 0:
                hint = "leave it out: name the column to forecast with --target, or delete it"
                raise DataError(f"column '{name}' never changes in the training part", hint=hint)
        season = season_of([(part.values - mean) / deviation for part in train.parts], first.clock, train.reach)
        errors = np.concatenate([np.abs(part.values[season:] - part.values[:-season]) for part in train.parts])
        return cls(
            variables=first.variables,
            clock=first.clock,
            reach=train.reach,
            horizon=train.horizon,
            season=season,
            mean=tuple(mean.tolist()),
            deviation=tuple(deviation.tolist()),
            naive=tuple(np.maximum(errors.mean(0), 1e-12 * deviation).tolist()),
        )

    @classmethod
    def load(cls, file: LearntFile) -> "Scale":
        """Read back what `files` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        path = file(SCALE_FILE, MOST_BYTES)
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            raise damaged(path, "missing or damaged: no scale of series") from None

    @property
    def files(self) -> dict[str, bytes]:
        return {SCALE_FILE: self.model_dump_json().encode()}

    def apply(self, values: Float64[ndarray, "*steps variables"]) -> Float64[ndarray, "*steps variables"]:
        """In deviations from the mean; in double precision, so that 1e12 and 1e-12 are scales like others."""
        return (values - np.array(self.mean)) / np.array(self.deviation)

    def undo(self, scaled: Float64[ndarray, "*steps variables"]) -> Float64[ndarray, "*steps variables"]:
        """In the units they came in."""
        return scaled * np.array(self.deviation) + np.array(self.mean)

    def read(self, series: Series) -> Series:
        """With the variables of the training part, in their order, whatever else there is.

        Raises:
            DataError: one is missing, or the steps are others.
        """
        for name in self.variables:
            if name not in series.variables:
                hint = did_you_mean(name, series.variables)
                raise DataError(f"series '{series.name}' has no column '{name}', which the model reads", hint=hint)
        if (series.clock.unit, series.clock.step) != (self.clock.unit, self.clock.step):
            found = f"series '{series.name}' has a step every {series.clock.describe()}, and the model every "
            raise DataError(found + self.clock.describe(), hint="take means over steps of that length first")
        if series.variables == self.variables:
            return series
        places = [series.variables.index(name) for name in self.variables]
        return Series(series.name, self.variables, series.clock, series.start, series.values[:, places])

    def last(self, series: Series) -> Float32[ndarray, "steps variables"]:
        """The steps that the model reads, scaled.

        Raises:
            DataError: there are too few.
        """
        if len(series) < self.reach:
            found = f"series '{series.name}' has {len(series)} steps, and the model looks back {self.reach}"
            raise DataError(found, hint="give more of its past")
        return self.apply(series.values[len(series) - self.reach :]).astype(np.float32)


def season_of(parts: list[Float64[ndarray, "_ variables"]], clock: Clock, longest: int) -> int:
    """Steps after which changes come again, of a day, a week or a year but no more than ``longest``; 1 where none do.

    The changes and not the values are correlated, for what wanders without a season is like itself at every lag.
    """
    changes = [np.diff(part, axis=0) for part in parts]
    most = min(longest, max(map(len, changes)) - 1)
    found = {lag: _correlation(changes, lag) for lag in natural_seasons(clock) if lag <= most}
    best = max(found.values(), default=0.0)
    if best < LEAST_CORRELATION:
        return 1
    return next(lag for lag, correlation in found.items() if correlation >= NEARLY * best)


def natural_seasons(clock: Clock) -> list[int]:
    """How many steps a day, a week and a year have, where they have several."""
    if clock.unit == "weekday":
        return [5, 261]
    periods = [12.0] if clock.unit == "month" else [DAY, 7 * DAY, 365.25 * DAY]
    return [round(period / clock.step) for period in periods if period / clock.step >= 2]


def _correlation(parts: list[Float64[ndarray, "_ variables"]], lag: int) -> float:
    products = sum(float((part[lag:] * part[:-lag]).sum()) for part in parts if len(part) > lag)
    squares = sum(float((part[lag:] ** 2 + part[:-lag] ** 2).sum()) / 2 for part in parts if len(part) > lag)
    return products / squares if squares else 0.0
