"""Rows of text by role, kept as bytes in flat arrays."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from regard.data.arrays import CHUNK, Arrays, Ragged

LONGEST_TEXT = 100_000
"""Characters; attention over more would never end."""

Row = Mapping[str, str]
"""Text by role: "source", "target", and where there is one "tag", a language or locale that goes with the source."""


class Rows(Sequence[Row]):
    """Rows as a sequence; text is decoded when it is read. With ``chosen``, those rows of the arrays in that order."""

    def __init__(self, columns: Mapping[str, Ragged], chosen: Int[ndarray, "_"], folder: Path | None = None):
        self.columns, self.chosen, self.folder = columns, chosen, folder

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Rows":
        """Rows in memory."""
        arrays = Arrays()
        append_rows(arrays, rows)
        return rows_in(arrays)

    def choose(self, places: Int[ndarray, "_"]) -> "Rows":
        """The rows at these places, in this order."""
        return Rows(self.columns, self.chosen[places], self.folder)

    def texts(self, role: str, most: int) -> Iterator[str]:
        """One column, or evenly spread rows of it where it has more than about so many."""
        for record in self.chosen[:: max(len(self) // most, 1)]:
            yield self.columns[role][int(record)].tobytes().decode()

    def digest(self) -> str:
        """A hash of all rows and their order."""
        digest = hashlib.blake2b(digest_size=16)
        for role, texts in sorted(self.columns.items()):
            digest.update(f"{role} {len(texts)} {len(texts.values)};".encode())
            digest.update(np.ascontiguousarray(texts.ends).data)
            digest.update(np.ascontiguousarray(texts.values).data)
        digest.update(np.ascontiguousarray(self.chosen).data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        record = int(self.chosen[place])
        return {role: texts[record].tobytes().decode() for role, texts in self.columns.items()}


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


def rows_in(arrays: Arrays) -> Rows:
    """All rows of some arrays."""
    columns = {role: arrays.ragged(role) for role in arrays.ragged_names}
    count = len(next(iter(columns.values()))) if columns else 0
    return Rows(columns, np.arange(count), arrays.folder)
