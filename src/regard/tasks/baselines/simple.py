"""Answers that need no model: what a trained one has to beat."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable

from regard.data.learnt import LearntFile, read_learnt
from regard.data.rows import Row

MOST_FREQUENT_FILE = "most_frequent.json"
MOST_BYTES = 1 << 20
"""Of a saved answer."""


@runtime_checkable
class Baseline(Protocol):
    """Something that answers a row without a model."""

    @property
    def name(self) -> str:
        """What it does, in two or three words."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """All it has learnt, by name."""

    def answer(self, row: Row) -> str: ...


class CopySource:
    """The source, copied."""

    name = "copy source"
    files: Mapping[str, bytes] = {}

    def answer(self, row: Row) -> str:
        return str(row["source"])


COPY_SOURCE = CopySource()


class MostFrequent:
    """The same to every row: what most training rows answer."""

    def __init__(self, chosen: str, kind: str = "answer"):
        self.chosen, self.name = chosen, f"most frequent {kind}"

    @classmethod
    def learn(cls, answers: Iterable[str], kind: str = "answer") -> "MostFrequent":
        """From the answers of training rows; of equally frequent ones the first in the order of code points."""
        counts = Counter(answers)
        return cls(min(counts, key=lambda answer: (-counts[answer], answer)), kind)

    @classmethod
    def load(cls, file: LearntFile, kind: str = "answer") -> "MostFrequent":
        """Read back what `files` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        path = file(MOST_FREQUENT_FILE, MOST_BYTES)
        return cls(read_learnt(path, "answer in it", lambda chosen: isinstance(chosen, str)), kind)

    @property
    def files(self) -> dict[str, bytes]:
        return {MOST_FREQUENT_FILE: json.dumps(self.chosen, ensure_ascii=False).encode()}

    def answer(self, row: Row) -> str:
        return self.chosen
