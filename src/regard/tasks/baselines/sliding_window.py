"""The sliding window: what a reader of passages has to beat."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import median_low

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from regard.data.learnt import LearntFile, read_learnt
from regard.data.rows import Row
from regard.data.tokenisers import HAN

WINDOW_FILE = "sliding_window.json"
MOST_BYTES = 1 << 10

_WORD = re.compile(f"[{HAN}]|[^\\W{HAN}]+")


class SlidingWindow:
    """The span of the usual length whose words, with those of the question, some window of the passage is fullest of.

    A window has as many words as question and span together and counts those that are in either, the rarer in the
    passage the more: log(1 + 1 / count) (Richardson et al. 2013, D13-1020, algorithm 1, there for given answers). Spans
    with a word of the question are answers only where there are no others. Every Han character is a word.
    """

    name = "sliding window"

    def __init__(self, words: int):
        self.words = words

    @classmethod
    def learn(cls, answers: Iterable[str]) -> "SlidingWindow":
        """The usual length, in words, of the answers of training rows: the median."""
        return cls(max(median_low(len(_WORD.findall(answer)) for answer in answers), 1))

    @classmethod
    def load(cls, file: LearntFile) -> "SlidingWindow":
        """Read back what `files` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        path = file(WINDOW_FILE, MOST_BYTES)
        return cls(read_learnt(path, "length of answers", lambda words: isinstance(words, int) and 0 < words < 1 << 20))

    @property
    def files(self) -> Mapping[str, bytes]:
        return {WINDOW_FILE: json.dumps(self.words).encode()}

    def answer(self, row: Row) -> str:
        passage = [*_WORD.finditer(row["passage"])]
        if not passage:
            return ""
        length = min(self.words, len(passage))
        asked = set(_WORD.findall(row["source"].casefold()))
        scores = _scores([match[0].casefold() for match in passage], asked, length)
        first = int(scores.round(9).argmax())  # of equal ones the first, in whatever order sums were rounded
        return str(row["passage"][passage[first].start() : passage[first + length - 1].end()])


def _scores(passage: list[str], asked: set[str], length: int) -> Float[ndarray, "spans"]:
    """What the fullest window around each span of so many words holds."""
    counts = Counter(passage)
    rarity = np.array([math.log1p(1 / counts[word]) for word in passage])
    in_question = np.array([word in asked for word in passage])
    own = _sums(np.where(in_question, 0.0, rarity), length)
    window = min(length + len(asked), len(passage))
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(_sums(np.where(in_question, rarity, 0.0), window), window - length, constant_values=-1.0),
        window - length + 1,
    ).max(axis=1)
    mixed = _sums(in_question.astype(float), length) > 0
    return own + around - np.where(mixed, rarity.sum() * 2, 0.0)


def _sums(values: Float[ndarray, "words"], window: int) -> Float[ndarray, "windows"]:
    """Over every run of so many words."""
    totals = np.concatenate([[0.0], values.cumsum()])
    return np.asarray(totals[window:] - totals[:-window])
