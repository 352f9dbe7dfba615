"""Labels: the classes of a column, each a number."""

import json
from collections import Counter
from collections.abc import Iterable

from regard.data.learnt import LearntFile, read_learnt
from regard.errors import DataError, did_you_mean

LABELS_FILE = "labels.json"
MOST_BYTES = 1 << 22
"""Of saved labels."""


class Labels:
    """Classes by number, with how often each was seen in training; in the order of their names."""

    def __init__(self, counts: dict[str, int]):
        self.counts = counts
        self.names = tuple(counts)
        self._numbers = {name: number for number, name in enumerate(self.names)}

    @classmethod
    def learn(cls, seen: Iterable[str]) -> "Labels":
        """From the labels of all training rows."""
        return cls(dict(sorted(Counter(seen).items())))

    @classmethod
    def load(cls, file: LearntFile) -> "Labels":
        """Read back what `files` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        return cls(read_learnt(file(LABELS_FILE, MOST_BYTES), "labels with their counts", _are_counts))

    @property
    def files(self) -> dict[str, bytes]:
        """All it has learnt, by name."""
        return {LABELS_FILE: json.dumps(self.counts, ensure_ascii=False).encode()}

    @property
    def most_frequent(self) -> str:
        return max(self.names, key=self.counts.__getitem__)

    def __len__(self) -> int:
        return len(self.names)

    def number(self, label: str) -> int:
        """Raises DataError: the label was not seen in training."""
        if label not in self._numbers:
            hint = did_you_mean(label, self.names)
            raise DataError(f"label '{label}' was not seen in training", hint=hint)
        return self._numbers[label]


def _are_counts(counts: object) -> bool:
    return isinstance(counts, dict) and bool(counts) and all(isinstance(one, int) for one in counts.values())
