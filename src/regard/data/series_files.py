"""Tables with a time column, one variable a column, several series by a key: read, put in order, filled, cut."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy import ndarray
from pydantic import Field

from regard.data.corpus import Corpus
from regard.data.objects import BLANK
from regard.data.rows import Read
from regard.data.series import Borders, Series, cut_windows
from regard.data.tables import MOST_LISTED, Cells, Table, read_table
from regard.data.times import TIME_NAMES, Clock, Stamps, form_of, read_times
from regard.errors import DataError, did_you_mean, listed
from regard.settings import Settings

MISSING = ("", "nan", "na", "n/a", "null", "none", "-", "?")
MOST_MISSING, MOST_REPEATED = 0.5, 0.1
"""Of the steps of a series; of the rows of a table without a key, at times that were there before."""

JUDGED = 1000

_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_DECIMAL_COMMA = re.compile(r"[-+]?[\d.]*\d,\d+")


REPEATED = "rows at a time that was there before (summer time ends so): their mean was taken"


class Columns(NamedTuple):
    """Which columns are what."""

    time: str
    key: str | None
    variables: tuple[str, ...]


class Mended:
    """What was mended: how often, and when first in which series."""

    def __init__(self) -> None:
        self.counts, self._first = Counter[str](), dict[str, str]()

    def add(self, what: str, series: str, found: ndarray, names: Callable[[ndarray], list[str]]) -> None:
        """Some times of a series, and how they are written."""
        if len(found):
            self.counts[what] += len(found)
            self._first.setdefault(what, f"the first at {names(found[:1])[0]} of '{series}'")

    def told(self) -> list[str]:
        return [f"{count:,} {what}, {self._first[what]}" for what, count in self.counts.items()]


class SeriesFiles(Settings):
    """One series a file, or several by a key column; parts in the order of time for training, choosing and testing."""

    kind: Literal["series"] = "series"
    train: tuple[str, ...] = Field(min_length=1)
    time: str | None = Field(default=None, description="the column with time stamps")
    key: str | None = Field(default=None, description="the column that tells series apart")
    target: str | None = Field(default=None, description="the one column to forecast; all number columns unless given")
    borders: tuple[int, int, int] | None = Field(
        default=None, description="where the parts end, in steps; 70, 80 and 100 % unless given"
    )

    def read(self) -> tuple[list[Series], list[str]]:
        """All series, and what was found and mended, for people.

        Raises:
            DataError: a file cannot be read, or holds no regular series of numbers.
        """
        return read_series(self.train, self.time, self.key, self.target)

    def read_files(self, paths: Sequence[str]) -> Read:
        """Each series of other tables as one row, with all of its steps."""
        series, notes = read_series(paths, self.time, self.key, self.target)
        return Read([{"source": one} for one in series], tuple(notes))

    def load(self, reach: int, horizon: int) -> Corpus:
        """All windows that look back ``reach`` steps and ahead ``horizon``.

        Raises:
            DataError: as `read`; or no series is long enough, or a column never changes.
        """
        series, notes = self.read()
        borders = Borders(*self.borders) if self.borders else None
        (train, dev, test), short = cut_windows(series, borders, reach, horizon)
        for place, name in enumerate(train.parts[0].variables):
            if all(np.ptp(part.values[:, place]) == 0 for part in train.parts):
                hint = "leave it out: name the column to forecast with --target, or delete it"
                raise DataError(f"column '{name}' never changes where we train", where=self.train[0], hint=hint)
        if short:
            notes.append(f"too short and left out: {_some(short)}")
        notes.append(
            f"{len(train):,} windows to train on, {len(dev):,} to choose by, {len(test):,} to test on, in the order of "
            f"time; each looks back {reach} steps and ahead {horizon}"
        )
        return Corpus(train, dev, test, tuple(notes))


def read_series(
    paths: Sequence[str], time: str | None = None, key: str | None = None, target: str | None = None
) -> tuple[list[Series], list[str]]:
    """The series of some files, regular and without gaps, and notes on what was mended.

    Raises:
        DataError: a file cannot be read, or holds no regular series of numbers.
    """
    series: list[Series] = []
    notes: list[str] = []
    for path in paths:
        found, told = _read_file(path, time, key, target)
        series, notes = series + found, notes + told
    if len({one.variables for one in series}) > 1 or len({(one.clock.unit, one.clock.step) for one in series}) > 1:
        raise DataError("the files differ in their columns or their steps", where=" + ".join(paths))
    return series, notes


def _read_file(path: str, time: str | None, key: str | None, target: str | None) -> tuple[list[Series], list[str]]:
    table, dropped, mended = read_table([Path(path)]), Counter[str](), Mended()
    numbered = list(table.numbered(dropped))
    if not numbered:
        raise DataError("no row of numbers", where=path, hint="below the names of the columns stands one row a step")
    row_numbers, rows = [number for number, _ in numbered], [cells for _, cells in numbered]
    columns = _columns(table, time, key, target)
    stamps = read_times(_cells(table, rows, columns.time), f"{path}, column '{columns.time}'", row_numbers)
    columned = (_numbers(path, name, _cells(table, rows, name), row_numbers) for name in columns.variables)
    values = np.stack([*columned], axis=1)
    names = _cells(table, rows, columns.key) if columns.key else [Path(path).name.split(".")[0]] * len(rows)
    members: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        members[name].append(place)
    ordered = {name: _ordered(name, stamps, values, np.array(places), mended) for name, places in members.items()}
    if not columns.key:
        _refuse_several(path, len(rows), mended.counts[REPEATED])
    clock = Clock.of(max((one for one, _ in ordered.values()), key=lambda one: len(one.seconds)))
    series = [_regular(path, name, columns, clock, *one, mended) for name, one in ordered.items()]
    by = f", {len(series)} of them by '{columns.key}'" if columns.key else ""
    note = f"{path}: series of {len(columns.variables)} variables ({_some(columns.variables)}){by}, a step every "
    left_out = [f"{count:,} rows left out: {reason}" for reason, count in dropped.items() if reason != BLANK]
    return series, [note + clock.describe(), *left_out, *mended.told()]


def _refuse_several(path: str, rows: int, repeated: int) -> None:
    """Raises DataError: the times of a table without a key come again and again."""
    if repeated > MOST_REPEATED * rows:
        found = f"{repeated:,} of {rows:,} rows are at a time that was there before: several series below each other?"
        raise DataError(found, where=path, hint="name the column that tells them apart with --tag")


def _some(names: Sequence[str]) -> str:
    return listed([f"'{name}'" for name in names], MOST_LISTED)


def _cells(table: Table, rows: Sequence[Cells], name: str) -> list[str]:
    place = table.columns.index(name)
    return [row[place] for row in rows]


def _columns(table: Table, time: str | None, key: str | None, target: str | None) -> Columns:
    """What each column is, as it was named or by what is in it.

    Raises:
        DataError: there is no such column, no times or no numbers, or several columns could be the key.
    """
    for name in (time, key, target):
        if name is not None and name not in table.columns:
            raise DataError(f"no column '{name}'", where=table.name, hint=did_you_mean(name, table.columns))
    time = time or _time_column(table)
    others = [name for name in table.columns if name not in (time, key)]
    numbers = [name for name in others if _is_numeric(table, name) and not _is_count(table, name)]
    texts = [name for name in others if name not in numbers and not _is_numeric(table, name)]
    if key is None and texts and not _is_increasing(table, time):
        if len(texts) > 1:
            hint = "name the column that tells series apart with --tag, and delete the others"
            raise DataError(f"{_some(texts)} are no numbers", where=table.name, hint=hint)
        key = texts[0]
    if target is not None:
        numbers = [target]
    if not numbers:
        raise DataError("no column of numbers", where=table.name, hint="forecasts are of numbers that change with time")
    return Columns(time, key, tuple(numbers))


def _time_column(table: Table) -> str:
    fitting = [name for name in table.columns if all(form_of(cell) for cell in table.column(name)[:JUDGED])]
    named = [name for name in fitting if any(word in name.lower() for word in TIME_NAMES)]
    if not fitting:
        raise DataError("no column of times", where=table.name, hint="name it with --source")
    return (named or fitting)[0]


def _is_numeric(table: Table, name: str) -> bool:
    """Whether most cells are numbers; one that is none is then a fault to be told."""
    cells = [cell for cell in table.column(name)[:JUDGED] if cell.strip().lower() not in MISSING]
    meant = sum(_number(cell) is not None or _DECIMAL_COMMA.fullmatch(cell.strip()) is not None for cell in cells)
    return meant > 0.9 * len(cells) or not cells


def _is_count(table: Table, name: str) -> bool:
    """Row numbers: no variable."""
    found = [_number(cell) for cell in table.column(name)[:JUDGED]]
    return len(found) > 2 and found in ([*range(len(found))], [*range(1, len(found) + 1)])


def _is_increasing(table: Table, time: str) -> bool:
    """Whether no time is there twice, so that the table can be one series."""
    cells = table.column(time)
    return len(set(cells)) == len(cells)


def _number(cell: str) -> float | None:
    """Commas stand between thousands, or it is none."""
    try:
        return float(cell.replace(",", "") if _THOUSANDS.fullmatch(cell.strip()) else cell)
    except ValueError:
        return None


def _numbers(path: str, name: str, cells: Sequence[str], row_numbers: Sequence[int]) -> ndarray:
    """A column of numbers, NaN where there is none; ``row_numbers`` are those of the file.

    Raises:
        DataError: a cell is neither a number nor empty, a number is infinite, or all are missing.
    """
    values = np.full(len(cells), math.nan)
    for row, cell in enumerate(cells):
        if cell.strip().lower() in MISSING:
            continue
        number = _number(cell)
        if number is None or math.isinf(number):
            hint = "correct it, or leave the cell empty, and it is filled from its neighbours"
            if _DECIMAL_COMMA.fullmatch(cell.strip()):
                hint = "write a point and not a comma before the decimals"
            raise DataError(
                f"column '{name}', row {row_numbers[row]}: '{cell}' is no finite number", where=path, hint=hint
            )
        values[row] = number
    if np.isnan(values).all():
        raise DataError(f"column '{name}' has no number", where=path, hint="delete it, or choose others with --target")
    return values


def _ordered(name: str, stamps: Stamps, values: ndarray, places: ndarray, mended: Mended) -> tuple[Stamps, ndarray]:
    """One series in the order of time, the mean where a time is there twice, as when summer time ends."""
    seconds, rows = stamps.seconds[places], values[places]
    unsorted = seconds[1:][np.diff(seconds) < 0]
    mended.add("rows that were not in the order of time: sorted", name, unsorted, stamps.names)
    distinct, inverse, times = np.unique(seconds, return_inverse=True, return_counts=True)
    mended.add(REPEATED, name, np.repeat(distinct, times - 1), stamps.names)
    if len(distinct) == len(seconds):
        return Stamps(distinct, stamps.zoned), rows[np.argsort(seconds, kind="stable")]
    known = ~np.isnan(rows)
    sums, numbers = (np.zeros((len(distinct), rows.shape[1])) for _ in range(2))
    np.add.at(sums, inverse, np.where(known, rows, 0.0))
    np.add.at(numbers, inverse, known)
    means = np.divide(sums, numbers, out=np.full_like(sums, math.nan), where=numbers > 0)
    return Stamps(distinct, stamps.zoned), means


def _regular(
    path: str, name: str, columns: Columns, clock: Clock, stamps: Stamps, values: ndarray, mended: Mended
) -> Series:
    """One series on the clock, with steps and values that were missing filled in between their neighbours.

    Raises:
        DataError: times lie beside the clock, most are missing, or a variable has no value at all.
    """
    places, beside = clock.places(stamps.seconds)
    beside = (beside > 0) | (np.diff(places, prepend=places[0] - 1) == 0)
    if beside.any():
        times = stamps.seconds[beside]
        found = f"series '{name}' has a step every {clock.describe()}, but {len(times):,} times lie between"
        [first] = stamps.names(times[:1])
        hint = "take means over equal steps first, or give files of one frequency"
        raise DataError(f"{found}, the first at {first}", where=path, hint=hint)
    steps = int(places[-1] - places[0]) + 1
    if len(places) < (1 - MOST_MISSING) * steps:
        found = f"series '{name}' has {len(places):,} of {steps:,} steps, one every {clock.describe()}"
        raise DataError(found, where=path, hint="take means over longer steps first")
    missing = np.setdiff1d(np.arange(places[0], places[-1] + 1), places)
    what = "steps that were missing (summer time begins so): filled in a straight line"
    mended.add(what, name, missing, clock.names)
    full = np.full((steps, values.shape[1]), math.nan)
    full[places - places[0]] = values
    what = "single values that were missing: filled in a straight line"
    mended.add(what, name, places[np.nonzero(np.isnan(values))[0]], clock.names)
    filled = np.stack([*_filled(path, name, columns, full)], axis=1)
    return Series(name, columns.variables, clock, int(places[0]), filled)


def _filled(path: str, name: str, columns: Columns, values: ndarray) -> Iterator[ndarray]:
    steps = np.arange(len(values))
    for variable, column in zip(columns.variables, values.T, strict=True):
        known = np.flatnonzero(~np.isnan(column))
        if not len(known):
            hint = "delete the column or the series"
            raise DataError(f"series '{name}' has no number in column '{variable}'", where=path, hint=hint)
        yield np.interp(steps, known, column[known])
