"""Time stamps of any usual form, read a column at a time, and clocks: what is regular about them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int64
from numpy import ndarray
from pydantic import Field

from regard.errors import DataError
from regard.settings import Settings

Seconds = Int64[ndarray, "_"]
"""Since 1970 began; of stamps without a zone as if they were of UTC."""

DAY = 86_400
TIME_NAMES = "date time datetime timestamp ds day week month quarter year 日期 时间".split()
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()

_TIME = (
    r"(?:(?:T|,? )(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d+)?)? ?(?P<half>[AaPp][Mm])?"
    r" ?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?"
)
_FORMS = {
    "year first": rf"(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})(?:[-/.](?P<day>\d{{1,2}}))?{_TIME}",
    "year last": rf"(?P<one>\d{{1,2}})(?P<mark>[-/.])(?P<other>\d{{1,2}})[-/.](?P<year>\d{{4}}){_TIME}",
    "Chinese": rf"(?P<year>\d{{4}})年(?P<month>\d{{1,2}})月(?:(?P<day>\d{{1,2}})日)?{_TIME}",
    "Chinese hours": r"(?P<year>\d{4})年(?P<month>\d{1,2})月(?P<day>\d{1,2})日 ?(?P<hour>\d{1,2})[时時点點]"
    r"(?:(?P<minute>\d{1,2})分(?:(?P<second>\d{1,2})秒)?)?",
    "quarter": r"(?P<year>\d{4})[ -]?Q(?P<quarter>[1-4])",
    "quarter first": r"Q(?P<quarter>[1-4])[ -/]?(?P<year>\d{4})",
    "week": r"(?P<year>\d{4})-?W(?P<week>\d\d)(?:-?(?P<weekday>[1-7]))?",
    "day and name": r"(?:[A-Za-z]{3}, )?(?P<day>\d{1,2})[ -](?P<name>[A-Za-z]{3,9})\.?[ -](?P<year>\d{4})" + _TIME,
    "name and day": rf"(?P<name>[A-Za-z]{{3,9}})\.?[ -](?:(?P<day>\d{{1,2}}),? )?(?P<year>\d{{4}}){_TIME}",
    "digits": r"(?P<year>(?:1[5-9]|20)\d\d)(?:(?P<month>0[1-9]|1[0-2])(?P<day>[0-3]\d)?)?",
    "digits and T": r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)T(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)?"
    r"(?P<zone>Z)?",
    "epoch": r"(?P<epoch>\d{9,10})(?:\.\d+)?",
    "milliseconds": r"(?P<epoch>\d{9,10})\d{3}",
}
_PATTERNS = {name: re.compile(form) for name, form in _FORMS.items()}


class Stamps(NamedTuple):
    """Times, and whether they came with a zone and are of UTC now."""

    seconds: Seconds
    zoned: bool

    def names(self, seconds: Seconds) -> list[str]:
        """Some of them as they are written."""
        return _written(seconds.astype("M8[s]"), 1 if (seconds % 60).any() else 60, self.zoned)


def form_of(cell: str) -> str | None:
    """What a time stamp looks like; None: it is none."""
    return next((name for name, pattern in _PATTERNS.items() if pattern.fullmatch(cell.strip())), None)


def read_times(cells: Sequence[str], where: str, row_numbers: Sequence[int]) -> Stamps:
    """A column of time stamps; fractions of seconds are left out, and ``row_numbers`` are those of the file.

    Raises:
        DataError: not all are of one form, one is no date, or days and months could be either.
    """
    form = form_of(cells[0])
    found = [_PATTERNS[form].fullmatch(cell.strip()) if form else None for cell in cells]
    if None in found:
        row = found.index(None)
        hint = "write all of them alike, best 2024-01-31 23:00"
        raise DataError(f"row {row_numbers[row]}: '{cells[row]}' is no time like '{cells[0]}'", where=where, hint=hint)
    parts = [match.groupdict() for match in found if match]
    zoned = {part.get("zone") is not None for part in parts}
    if len(zoned) > 1:
        hint = "give all of them a zone, or none"
        raise DataError("some time stamps have a time zone and some have none", where=where, hint=hint)
    day_first = _day_first(parts, where) if form == "year last" else True
    seconds = np.empty(len(parts), np.int64)
    for row, part in enumerate(parts):
        try:
            seconds[row] = _seconds(part, day_first)
        except ValueError as error:
            hint = "is the file right there?"
            raise DataError(f"row {row_numbers[row]}: '{cells[row]}': {error}", where=where, hint=hint) from None
    return Stamps(seconds, zoned.pop())


def _day_first(parts: Sequence[dict[str, str | None]], where: str) -> bool:
    """Whether 05/06 is the fifth of June, as some day of the column or its dots say."""
    first, second = (any(int(part[name] or 0) > 12 for part in parts) for name in ("one", "other"))
    dotted = parts[0]["mark"] == "."
    if (first and second) or not (first or second or dotted):
        found = "days and months change places" if first else "days and months cannot be told apart"
        raise DataError(found, where=where, hint="write the dates with the year first: 2024-01-31")
    return first or (dotted and not second)


def _seconds(part: dict[str, str | None], day_first: bool) -> int:
    """Raises ValueError: there is no such day or hour."""

    def number(name: str, default: int) -> int:
        return int(part.get(name) or default)

    if part.get("epoch"):
        return number("epoch", 0)
    if week := part.get("week"):
        monday = datetime.fromisocalendar(number("year", 1970), int(week), number("weekday", 1)).replace(tzinfo=UTC)
        return int(monday.timestamp())
    month, day = number("month", 1), number("day", 1)
    if part.get("one"):
        day, month = (number(name, 1) for name in (("one", "other") if day_first else ("other", "one")))
    if name := part.get("name"):
        month = _month(name)
    if part.get("quarter"):
        month = 3 * number("quarter", 1) - 2
    hour = number("hour", 0)
    if half := part.get("half"):
        hour = hour % 12 + (12 if half.lower() == "pm" else 0)
    minute, second = number("minute", 0), number("second", 0)
    midnight = (hour, minute, second) == (24, 0, 0)  # ISO 8601: of the day that ends
    time = datetime(number("year", 1970), month, day, 0 if midnight else hour, minute, second, tzinfo=UTC)
    return int(time.timestamp()) + midnight * DAY - _offset(part.get("zone"))


def _month(name: str) -> int:
    if name[:3].lower() not in MONTHS:
        raise ValueError(f"no month is called '{name}'")
    return MONTHS.index(name[:3].lower()) + 1


def _offset(zone: str | None) -> int:
    """Seconds that a zone is ahead of UTC."""
    if zone in (None, "Z", "UTC", "GMT"):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[3:].removeprefix(":") or 0)
    return (3600 * hours + 60 * minutes) * (-1 if zone[0] == "-" else 1)


class Clock(Settings):
    """Regular times, each with its place: ``phase + place * step`` seconds, months or working days since 1970 began."""

    unit: Literal["second", "month", "weekday"]
    step: int = Field(ge=1)
    phase: int = Field(description="of working days: seconds after midnight")
    zoned: bool = False

    @classmethod
    def of(cls, stamps: Stamps) -> "Clock":
        """What most of the times follow; they are in order, and none is there twice.

        Raises:
            DataError: there are fewer than three.
        """
        seconds = stamps.seconds
        if len(seconds) < 3:
            raise DataError(f"{len(seconds)} times: too few to see a step", hint="a forecast needs many")
        months = seconds.astype("M8[s]").astype("M8[M]").astype(np.int64)
        gaps = np.diff(seconds)
        if gaps.min() >= 28 * DAY and _same_day_of_month(seconds, months):
            step = _most_frequent(np.diff(months))
            return cls(unit="month", step=step, phase=int(months[0]) % step, zoned=stamps.zoned)
        step = _most_frequent(gaps)
        if step == DAY and _only_weekdays(seconds):
            return cls(unit="weekday", step=1, phase=int(seconds[0]) % DAY, zoned=stamps.zoned)
        return cls(unit="second", step=step, phase=int(seconds[0]) % step, zoned=stamps.zoned)

    def places(self, seconds: Seconds) -> tuple[Seconds, Seconds]:
        """The place of each time, and how far beside it the time lies: 0 where it is regular."""
        if self.unit == "weekday":
            days = (seconds - self.phase) // DAY
            beside = (seconds - self.phase) % DAY + ((days + 3) % 7 > 4)
            return np.busday_count("1970-01-01", days.astype("M8[D]"), holidays=[]), beside
        numbers = seconds
        if self.unit == "month":
            numbers = seconds.astype("M8[s]").astype("M8[M]").astype(np.int64)
        return (numbers - self.phase) // self.step, (numbers - self.phase) % self.step

    def names(self, places: Seconds) -> list[str]:
        """As they are written: ``2024-01``, ``2024-01-31``, ``2024-01-31 23:00``; with a Z where they have a zone."""
        if self.unit == "month":
            return (self.phase + places * self.step).astype("M8[M]").astype(str).tolist()
        if self.unit == "weekday":
            days = np.busday_offset("1970-01-01", places, roll="forward").astype("M8[s]")
            return _written(days + np.timedelta64(self.phase, "s"), DAY if self.phase == 0 else 60, self.zoned)
        times = (self.phase + places * self.step).astype("M8[s]")
        whole = next((size for size in (DAY, 60) if self.step % size == 0 and self.phase % size == 0), 1)
        return _written(times, whole, self.zoned)

    def describe(self) -> str:
        """Its step in words."""
        if self.unit == "weekday":
            return "working day"
        sizes = {"month": 1} if self.unit == "month" else {"day": DAY, "hour": 3600, "minute": 60, "second": 1}
        name, size = next((name, size) for name, size in sizes.items() if self.step % size == 0)
        number = self.step // size
        return name if number == 1 else f"{number} {name}s"


def _written(times: ndarray, whole: int, zoned: bool) -> list[str]:
    if whole == DAY:
        return times.astype("M8[D]").astype(str).tolist()
    written = times.astype("M8[m]" if whole == 60 else "M8[s]").astype(str)
    return [one.replace("T", " ") + ("Z" if zoned else "") for one in written.tolist()]


def _same_day_of_month(seconds: Seconds, months: Seconds) -> bool:
    after = seconds - months.astype("M8[M]").astype("M8[s]").astype(np.int64)
    before = (months + 1).astype("M8[M]").astype("M8[s]").astype(np.int64) - seconds
    return bool((after == after[0]).all() or (before == before[0]).all())


def _only_weekdays(seconds: Seconds) -> bool:
    """Monday to Friday, and more than one week of them."""
    weekdays = (seconds // DAY + 3) % 7
    return bool((weekdays < 5).all() and (np.diff(seconds) == 3 * DAY).any())


def _most_frequent(numbers: Seconds) -> int:
    values, counts = np.unique(numbers, return_counts=True)
    return int(values[counts.argmax()])
