"""Naive Bayes over words and pairs of words: what a classifier of text has to beat."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from regard.data.labels import Labels
from regard.data.learnt import LearntFile, read_learnt
from regard.data.rows import Row
from regard.data.tokenisers import HAN

NAIVE_BAYES_FILE = "naive_bayes.json"
MOST_BYTES = 1 << 26
MOST_FEATURES, MOST_COUNTS = 200_000, 10_000_000
"""Of a saved one; a feature has a count for each label."""

_WORD = re.compile(rf"[{HAN}]|[^\s{HAN}]+")


class NaiveBayes:
    """Multinomial, over the words and pairs of neighbouring words that a text has (Wang and Manning 2012, P12-2018).

    Each counts once a text; probabilities are smoothed by one. Han and scripts without spaces are read by characters.
    """

    name = "naive Bayes"

    def __init__(self, labels: Labels, counts: dict[str, list[int]]):
        self.labels, self.counts = labels, counts
        rows = sum(labels.counts.values())
        self._priors = [math.log(labels.counts[name] / rows) for name in labels.names]
        totals = [sum(column) + len(counts) for column in zip(*counts.values(), strict=True)] or [1] * len(labels)
        self._totals = [math.log(total) for total in totals]

    @classmethod
    def learn(cls, labels: Labels, rows: Iterable[tuple[str, str]]) -> "NaiveBayes":
        """From texts and their labels; of many features the most frequent are kept, by name where they are as many."""
        found = {name: Counter[str]() for name in labels.names}
        for text, label in rows:
            found[label].update(_features(text))
        total = sum(found.values(), Counter[str]())
        most = min(MOST_FEATURES, MOST_COUNTS // len(labels))
        frequent = sorted(total, key=lambda feature: (-total[feature], feature))[:most]
        return cls(labels, {feature: [found[name][feature] for name in labels.names] for feature in frequent})

    @classmethod
    def load(cls, file: LearntFile, labels: Labels) -> "NaiveBayes":
        """Read back what `files` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        path = file(NAIVE_BAYES_FILE, MOST_BYTES)
        return cls(labels, read_learnt(path, "counts for each label", lambda counts: _are_counts(counts, len(labels))))

    @property
    def files(self) -> dict[str, bytes]:
        return {NAIVE_BAYES_FILE: json.dumps(self.counts, ensure_ascii=False).encode()}

    def answer(self, row: Row) -> str:
        return self.label(row["source"])

    def evidence(self, word: str) -> list[float]:
        """What a word adds to the score of each label, less the mean over labels; nothing where it was never seen."""
        seen = self.counts.get(word.casefold(), [])
        scores = [math.log(count + 1) - total for count, total in zip(seen, self._totals, strict=False)]
        return [score - sum(scores) / len(scores) for score in scores] or [0.0] * len(self.labels)

    def label(self, text: str) -> str:
        """The most likely label."""
        scores = self._scores(text)
        return self.labels.names[scores.index(max(scores))]

    def log_prob(self, row: Row) -> float:
        """Of the label that is its answer."""
        scores = self._scores(row["source"])
        return -math.log(sum(math.exp(score - max(scores)) for score in scores))

    def _scores(self, text: str) -> list[float]:
        """Of every label, not normalised."""
        seen = [self.counts[feature] for feature in _features(text) if feature in self.counts]
        return [
            prior + sum(math.log(row[number] + 1) for row in seen) - len(seen) * self._totals[number]
            for number, prior in enumerate(self._priors)
        ]


def _is_row(row: object, labels: int) -> bool:
    return isinstance(row, list) and len(row) == labels and all(isinstance(one, int) and one >= 0 for one in row)


def _features(text: str) -> list[str]:
    """Each once, in order."""
    words = [*_words(text.casefold())]
    return [*dict.fromkeys([*words, *(f"{one} {other}" for one, other in pairwise(words))])]


def _words(text: str) -> Iterator[str]:
    words = _WORD.findall(text)
    return iter(text.replace(" ", "")) if len(text) > 20 * len(words) else iter(words)


def _are_counts(counts: object, labels: int) -> bool:
    return isinstance(counts, dict) and all(_is_row(row, labels) for row in counts.values())
