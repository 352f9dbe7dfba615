"""The most frequent tag of each token: what a tagger has to beat."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property

from regard.data.labels import Labels
from regard.data.learnt import LearntFile, read_learnt
from regard.data.rows import Row
from regard.data.tagged import words_of

FREQUENT_TAGS_FILE = "frequent_tags.json"
MOST_BYTES = 1 << 26
MOST_TOKENS = 500_000


class FrequentTags:
    """Of each token its most frequent tag in training, of unseen ones the most frequent of all."""

    name = "frequent tags"

    def __init__(self, labels: Labels, tags: dict[str, int]):
        self.labels, self.tags = labels, tags

    @classmethod
    def learn(cls, labels: Labels, rows: Iterable[tuple[list[str], list[str]]]) -> "FrequentTags":
        """From tokens and tags; of many tokens the most frequent are kept."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for tokens, tags in rows:
            for token, tag in zip(tokens, tags, strict=True):
                counts[token][tag] += 1
        frequent = sorted(counts, key=lambda token: (-counts[token].total(), token))[:MOST_TOKENS]
        best = {token: max(sorted(counts[token]), key=counts[token].__getitem__) for token in frequent}
        return cls(labels, {token: labels.number(tag) for token, tag in best.items()})

    @classmethod
    def load(cls, file: LearntFile, labels: Labels) -> "FrequentTags":
        """Read back what `files` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        path = file(FREQUENT_TAGS_FILE, MOST_BYTES)
        return cls(labels, read_learnt(path, "tag for each token", lambda tags: _are_places(tags, len(labels))))

    @property
    def files(self) -> dict[str, bytes]:
        return {FREQUENT_TAGS_FILE: json.dumps(self.tags, ensure_ascii=False).encode()}

    @cached_property
    def by_character(self) -> bool:
        """Whether most tokens it has seen are single characters, as in Chinese that nobody cut into words."""
        return 2 * sum(len(token) == 1 for token in self.tags) > len(self.tags)

    def answer(self, row: Row) -> str:
        names, usual = self.labels.names, self.labels.most_frequent
        return " ".join(names[self.tags[one]] if one in self.tags else usual for one in words_of(row["source"]))


def _is_place(one: object, places: int) -> bool:
    return isinstance(one, int) and 0 <= one < places


def _are_places(tags: object, labels: int) -> bool:
    return isinstance(tags, dict) and all(_is_place(one, labels) for one in tags.values())
