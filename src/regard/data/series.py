"""Series: tables with a time column as pieces of regular series, and windows of them as rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from regard.data.rows import MadeRows, Row
from regard.data.times import Clock
from regard.errors import DataError

Values = Float64[ndarray, "steps variables"]


@dataclass(frozen=True, eq=False)
class Series:
    """Some variables at regular times, in the units they came in; ``start`` is the place of the first on the clock."""

    name: str
    variables: tuple[str, ...]
    clock: Clock
    start: int
    values: Values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, steps: slice) -> "Series":
        """A piece; its steps as of a list, without a stride."""
        first, last, _ = steps.indices(len(self))
        return Series(self.name, self.variables, self.clock, self.start + first, self.values[first:last])

    @property
    def times(self) -> list[str]:
        """Of each step, as it is written."""
        return self.clock.names(self.start + np.arange(len(self)))

    def times_after(self, steps: int) -> list[str]:
        """The next so many times."""
        return self.clock.names(self.start + len(self) + np.arange(steps))


class Borders(NamedTuple):
    """Where training, choosing and testing end, in steps from the beginning of a series."""

    train: int
    dev: int
    test: int

    @classmethod
    def of(cls, steps: int, horizon: int) -> "Borders":
        """70, 10 and 20 % of the steps in the order of time, and at least one horizon to choose by and to test on."""
        dev_ends = steps - max(steps // 5, horizon)
        return cls(dev_ends - max(steps // 10, horizon), dev_ends, steps)

    def cut(self, series: Series, reach: int) -> tuple[Series, Series, Series]:
        """The three parts; windows to choose by and to test on may look back into the part before."""
        return series[: self.train], series[self.train - reach : self.dev], series[self.dev - reach : self.test]


class Windows(MadeRows):
    """Every ``reach`` steps of some series and the ``horizon`` steps after them: {"source": Series, "target": Series}.

    ``parts`` are the series themselves, from which what is learnt once is learnt, each step counting once.
    """

    def __init__(self, parts: Sequence[Series], reach: int, horizon: int):
        self.parts, self.reach, self.horizon = tuple(parts), reach, horizon
        self.ends = np.cumsum([max(len(part) - reach - horizon + 1, 0) for part in parts], dtype=np.int64)
        super().__init__(int(self.ends[-1]) if len(parts) else 0, self._window, f"{reach} {horizon} {_digest(parts)}")

    def _window(self, place: int) -> Row:
        number = int(np.searchsorted(self.ends, place, side="right"))
        first = place - (int(self.ends[number - 1]) if number else 0)
        middle, part = first + self.reach, self.parts[number]
        return {"source": part[first:middle], "target": part[middle : middle + self.horizon]}


def _digest(parts: Sequence[Series]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{part.name} {part.variables} {part.clock} {part.start} {part.values.shape};".encode())
        digest.update(np.ascontiguousarray(part.values).data)
    return digest.hexdigest()


def cut_windows(
    series: Sequence[Series], borders: Borders | None, reach: int, horizon: int
) -> tuple[tuple[Windows, Windows, Windows], list[str]]:
    """Windows for training, choosing and testing, and the names of series that are too short for any.

    Raises:
        DataError: all of them are.
    """
    parts, short = [], []
    for one in series:
        ends = borders or Borders.of(len(one), horizon)
        if ends.train < reach + horizon or ends.test > len(one):
            short.append(one.name)
        else:
            parts.append(ends.cut(one, reach))
    if not parts:
        longest = max(map(len, series))
        found = f"the longest series has {longest} steps: too few to look back {reach} and ahead {horizon}"
        raise DataError(found, hint="give a longer series, a smaller --horizon or a smaller --set task.input=N")
    train, dev, test = (Windows(side, reach, horizon) for side in zip(*parts, strict=True))
    return (train, dev, test), short
