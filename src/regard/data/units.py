"""Units: what a transcript is written in, characters or words, each a number."""

import json
from collections.abc import Iterable, Sequence
from typing import Literal

from regard.data.learnt import LearntFile, read_learnt
from regard.errors import DataError
from regard.padded import Ids
from regard.pieces import BLANK

UNITS_FILE = "units.json"
MOST_UNITS = 20_000
MOST_BYTES = 1 << 22
"""Of saved units."""

UnitName = Literal["characters", "words"]


class Units:
    """Units by number, from 1: nothing is 0, which is kept for silence."""

    def __init__(self, name: UnitName, units: Sequence[str]):
        self.name, self.units = name, tuple(units)
        self._numbers = {unit: number for number, unit in enumerate(self.units, start=1)}

    @classmethod
    def learn(cls, name: UnitName, texts: Iterable[str]) -> "Units":
        """All units that some texts have, in the order of code points.

        Raises:
            DataError: there are too many for a model to tell apart.
        """
        seen = {unit for text in texts for unit in _cut(name, text)}
        if len(seen) > MOST_UNITS:
            hint = "set task.units=characters" if name == "words" else "is it the right column?"
            raise DataError(f"{len(seen):,} different {name}, at most {MOST_UNITS:,}", hint=hint)
        return cls(name, sorted(seen))

    @classmethod
    def load(cls, file: LearntFile, name: UnitName) -> "Units":
        """Read back what `files` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        return cls(name, read_learnt(file(UNITS_FILE, MOST_BYTES), "list of units", _are_units))

    @property
    def files(self) -> dict[str, bytes]:
        """All that was learnt, by name."""
        return {UNITS_FILE: json.dumps(self.units, ensure_ascii=False).encode()}

    def __len__(self) -> int:
        return len(self.units)

    def encode(self, text: str) -> list[int]:
        """Numbers of a text; units that training has not seen are left out, for no model can write them."""
        return [self._numbers[unit] for unit in _cut(self.name, text) if unit in self._numbers]

    def decode(self, numbers: Ids) -> str:
        """The text again, blanks at its ends taken off."""
        between = " " if self.name == "words" else ""
        return between.join(self.units[int(number) - 1] for number in numbers).strip()

    def pieces(self, numbers: Ids) -> list[str]:
        """Units as pages show them, with a sign where a word begins."""
        before = BLANK if self.name == "words" else ""
        return [before + self.units[int(number) - 1].replace(" ", BLANK) for number in numbers]


def _cut(name: UnitName, text: str) -> Sequence[str]:
    words = text.split()
    return words if name == "words" else " ".join(words)


def _are_units(units: object) -> bool:
    if not isinstance(units, list) or not units:
        return False
    return all(isinstance(one, str) and one for one in units) and len(set(units)) == len(units)
