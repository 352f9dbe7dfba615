"""N-grams of tokens: what a language model has to beat."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from regard.data.learnt import LearntFile, read_learnt
from regard.padded import Ids

NGRAMS_FILE = "ngrams.json"
MOST_BYTES = 1 << 26

ORDER = 5
MOST_READ = 1 << 20
"""Tokens of the training text that are counted."""

MOST_COUNTED = 500_000
"""Different n-grams, with which no higher order is begun."""

Gram = tuple[int, ...]


class NGrams:
    """Each order interpolated with the one below it, the lowest with all tokens alike.

    P(w | h) = (c(h w) + t(h) P(w | h')) / (c(h) + t(h)), where c counts, t(h) is how many different tokens follow h,
    and h' is h without its first token (Witten and Bell 1991, "The Zero-Frequency Problem", method C).
    """

    def __init__(self, vocabulary: int, counts: dict[Gram, int]):
        self.vocabulary, self.counts = vocabulary, counts
        self.order = max(map(len, counts), default=0)
        self.name = f"{self.order}-gram"
        self.totals, self.followers = Counter[Gram](), Counter[Gram]()
        for gram, count in counts.items():
            self.totals[gram[:-1]] += count
            self.followers[gram[:-1]] += 1

    @classmethod
    def learn(cls, vocabulary: int, tokens: Iterable[int]) -> "NGrams":
        """Counts in the beginning of a text, of orders up to `ORDER`, or as many as stay small."""
        read = [*islice(tokens, MOST_READ)]
        counts = Counter[Gram]()
        for order in range(1, ORDER + 1):
            if len(counts) < MOST_COUNTED:
                counts.update(zip(*(islice(read, start, None) for start in range(order)), strict=False))
        return cls(vocabulary, dict(counts))

    @classmethod
    def load(cls, file: LearntFile, vocabulary: int) -> "NGrams":
        """Read back what `files` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        path = file(NGRAMS_FILE, MOST_BYTES)
        rows = read_learnt(path, "counts of n-grams", lambda rows: _are_rows(rows, vocabulary))
        return cls(vocabulary, {tuple(gram): count for count, *gram in rows})

    @property
    def files(self) -> dict[str, bytes]:
        """Rows of a count and the tokens it is of."""
        rows = [[count, *gram] for gram, count in self.counts.items()]
        return {NGRAMS_FILE: json.dumps(rows, separators=(",", ":")).encode()}

    def log_prob(self, before: Ids, tokens: Ids) -> float:
        """Of some tokens after others, in nats."""
        text = [*map(int, before), *map(int, tokens)]
        first = len(text) - len(tokens)
        return sum(
            math.log(self._prob(tuple(text[max(place - self.order + 1, 0) : place]), text[place]))
            for place in range(first, len(text))
        )

    def _prob(self, history: Gram, token: int) -> float:
        probability = 1 / self.vocabulary
        for length in range(len(history) + 1):
            context = history[len(history) - length :]
            seen, kinds = self.totals[context], self.followers[context]
            if not seen:
                break
            probability = (self.counts.get((*context, token), 0) + kinds * probability) / (seen + kinds)
        return probability


def _is_row(row: object, vocabulary: int) -> bool:
    """A positive count, and one to `ORDER` tokens."""
    if not isinstance(row, list) or not 2 <= len(row) <= 1 + ORDER or not all(type(one) is int for one in row):
        return False
    return row[0] > 0 and all(0 <= one < vocabulary for one in row[1:])


def _are_rows(rows: object, vocabulary: int) -> bool:
    return isinstance(rows, list) and all(_is_row(row, vocabulary) for row in rows)
