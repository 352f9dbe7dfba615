"""Rows by role: text kept as bytes in flat arrays, or whatever is made when it is asked for."""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from regard.data.arrays import CHUNK, Arrays, Ragged
from regard.errors import DataError

LONGEST_TEXT = 100_000
"""Characters; attention over more would never end."""

Row = Mapping[str, Any]
"""Raw values by role: "source", "target", and where there is one "tag", a language or locale that goes with the source.

Values are text, or what a field that reads no text takes: paths, samples, pixels, numbers.
"""


def row_with(given: Any, roles: Sequence[str], sources: tuple[type, ...], called: str) -> Row:
    """What a user gave as a row: a source of one of these types, or a mapping with one and text for all other roles.

    Raises:
        DataError: it is neither.
    """
    row = given if isinstance(given, Mapping) else {"source": given}
    if all(isinstance(row.get(role), sources if role == "source" else str) for role in roles):
        return row
    raise DataError(f"a row is {called}, or a mapping with {' and '.join(map(repr, roles))}, not {given!r:.100}")


def is_blank(row: Row) -> bool:
    """Whether its source is text, or a path, without anything in it."""
    return isinstance(row["source"], str) and not row["source"].strip()


class Read(NamedTuple):
    """Rows of files that are not trained on, and what was left out of them or mended, for people."""

    rows: list[Row]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: list[Row], dropped: Counter[str]) -> "Read":
        """With how many rows were left out for each reason."""
        return cls(rows, (f"left out: {counts(dropped)}",) if +dropped else ())


def counts(dropped: Counter[str], most: int | None = None) -> str:
    """How many were left out, and why, in words; the most frequent reasons where there are many."""
    return ", ".join(f"{count:,} {reason}" for reason, count in (+dropped).most_common(most))


class Rows(Sequence[Row]):
    """A sequence of rows of the same roles; ``folder`` is where what follows from them is kept, None: in memory."""

    folder: Path | None = None

    @property
    @abstractmethod
    def roles(self) -> Collection[str]: ...

    @abstractmethod
    def texts(self, role: str, most: int) -> Iterator[str]:
        """One column, or evenly spread rows of it where it has more than about so many."""

    @abstractmethod
    def digest(self) -> str:
        """A hash of all rows and their order."""

    @abstractmethod
    def row(self, place: int) -> Row:
        """One of them; places are not negative."""

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        places = range(len(self))[place]
        return self.row(places) if isinstance(places, int) else [self.row(one) for one in places]


class TextRows(Rows):
    """Text is decoded when it is read. With ``chosen``, those rows of the arrays in that order."""

    def __init__(self, columns: Mapping[str, Ragged], chosen: Int[ndarray, "_"], folder: Path | None = None):
        self.columns, self.chosen, self.folder = columns, chosen, folder

    @property
    def roles(self) -> Collection[str]:
        return self.columns.keys()

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "TextRows":
        """Rows in memory."""
        arrays = Arrays()
        append_rows(arrays, rows)
        return rows_in(arrays)

    def choose(self, places: Int[ndarray, "_"]) -> "TextRows":
        """The rows at these places, in this order."""
        return TextRows(self.columns, self.chosen[places], self.folder)

    def texts(self, role: str, most: int) -> Iterator[str]:
        for record in self.chosen[:: max(len(self) // most, 1)]:
            yield self.columns[role][int(record)].tobytes().decode()

    def digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for role, texts in sorted(self.columns.items()):
            digest.update(f"{role} {len(texts)} {len(texts.values)};".encode())
            digest.update(np.ascontiguousarray(texts.ends).data)
            digest.update(np.ascontiguousarray(texts.values).data)
        digest.update(np.ascontiguousarray(self.chosen).data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.chosen)

    def row(self, place: int) -> Row:
        record = int(self.chosen[place])
        return {role: texts[record].tobytes().decode() for role, texts in self.columns.items()}


class MadeRows(Rows):
    """Rows that are made when they are asked for, such as windows of a series; ``name`` tells what they depend on.

    Examples of them are made as often as they are needed, or once and ``kept`` in memory where making takes long.
    """

    def __init__(self, number: int, make: Callable[[int], Row], name: str, kept: bool = False):
        self.number, self.make, self.name, self.kept = number, make, name, kept

    @property
    def roles(self) -> Collection[str]:
        return self[0].keys() if self.number else ()

    def texts(self, role: str, most: int) -> Iterator[str]:
        return (str(self[place][role]) for place in range(0, self.number, max(self.number // most, 1)))

    def digest(self) -> str:
        return hashlib.blake2b(f"{self.number} {self.name}".encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return self.number

    def row(self, place: int) -> Row:
        return self.make(place)


def append_rows(arrays: Arrays, rows: Iterable[Row]) -> None:
    """Add rows of the same roles, a chunk at a time."""
    waiting = iter(rows)
    while chunk := list(islice(waiting, CHUNK)):
        arrays.append(row_records(arrays, chunk))


def row_records(arrays: Arrays, chunk: Sequence[Row]) -> dict[str, ndarray]:
    """A chunk of rows as it is appended."""
    records: dict[str, ndarray] = {}
    for role in chunk[0] if chunk else ():
        records |= arrays.records(role, [np.frombuffer(row[role].encode(), np.uint8) for row in chunk])
    return records


def rows_in(arrays: Arrays) -> TextRows:
    """All rows of some arrays."""
    columns = {role: arrays.ragged(role) for role in arrays.ragged_names}
    count = len(next(iter(columns.values()))) if columns else 0
    return TextRows(columns, np.arange(count), arrays.folder)
