"""Strips of handwritten digits: numbers of several digits, pasted from pictures of single ones."""

import gzip
import hashlib
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from pydantic import Field, model_validator

from regard.data.corpus import Corpus
from regard.data.rows import MadeRows, Row
from regard.errors import DataError
from regard.randomness import seed_for
from regard.settings import Settings

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
UNSIGNED_BYTES = 8
"""The IDX format's code of the type."""

MOST_BYTES = 1 << 26
HEIGHT = 32
GAPS = (-4, 9)
"""Pixels between two digits: at least the first and less than the last; digits have margins of their own."""


Length = Callable[[np.random.Generator], int]
"""How many digits the next strip has."""


class Digits(NamedTuple):
    """Pictures of single digits, white on black, and which they are."""

    pictures: UInt8[ndarray, "digits height width"]
    labels: UInt8[ndarray, "digits"]

    def part(self, first: int, end: int) -> "Digits":
        return Digits(self.pictures[first:end], self.labels[first:end])


class DigitStrips(Settings):
    """Pictures of numbers and the numbers: made from the 10,000 test digits of MNIST (LeCun et al. 1998).

    Digits 0-7499 stand in training strips, 7500-7999 in dev strips and 8000-9999 in test strips, so no digit is on two
    sides. Counts are strips. Training strips may have fewer than ``fewest`` digits, and most have: a digit alone
    teaches what it looks like before attention can find it among others.
    """

    kind: Literal["digit_strips"] = "digit_strips"
    folder: str = Field(description=f"with {IMAGES} and {LABELS}")
    train: int = Field(default=40_000, ge=1)
    dev: int = Field(default=500, ge=1, le=10_000)
    test: int = Field(default=1_000, ge=1, le=10_000)
    fewest: int = Field(default=3, ge=1, le=30, description="digits in a strip")
    most: int = Field(default=8, ge=1, le=30, description="digits in a strip")
    seed: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "DigitStrips":
        if self.fewest > self.most:
            raise ValueError(f"fewest {self.fewest} is above most {self.most}")
        return self

    def load(self) -> Corpus:
        """The same strips every time.

        Raises:
            DataError: a file is missing or damaged.
        """
        digits = read_digits(Path(self.folder))
        train = self._rows("train", digits.part(0, 7500), self.train, self._mostly_few)
        dev = self._rows("dev", digits.part(7500, 8000), self.dev, self._any)
        test = self._rows("test", digits.part(8000, 10_000), self.test, self._any)
        return Corpus(train, dev, test, self._notes())

    def _rows(self, side: str, digits: Digits, count: int, length: Length) -> MadeRows:
        digest = hashlib.blake2b(digits.pictures.tobytes() + digits.labels.tobytes(), digest_size=16).hexdigest()

        def make(place: int) -> Row:
            draw = np.random.default_rng(seed_for(self.seed, side, place))
            return _strip(digits, length(draw), draw)

        return MadeRows(count, make, f"{side} {self.seed} {self.fewest} {self.most} {digest}")

    def _any(self, draw: np.random.Generator) -> int:
        return int(draw.integers(self.fewest, self.most + 1))

    def _mostly_few(self, draw: np.random.Generator) -> int:
        """Log-uniform from 1: about as many steps, and so batches, of each length."""
        return int(np.exp(draw.uniform(0, np.log(self.most + 1))))

    def _notes(self) -> tuple[str, ...]:
        return (
            f"Real: handwritten digits from {self.folder}; those of dev and test strips occur in no training strip.",
            f"Generated: the strips, digits side by side: {self.train:,} of 1 to {self.most} to train on, "
            f"{self.dev:,} of {self.fewest} to {self.most} to choose by, {self.test:,} to test on.",
        )


def _strip(digits: Digits, count: int, draw: np.random.Generator) -> Row:
    """Digits side by side, each a little higher or lower; where two touch, the brighter pixel shows."""
    chosen = draw.integers(len(digits.labels), size=count)
    high, wide = digits.pictures.shape[1:]
    tops, gaps = draw.integers(HEIGHT - high + 1, size=count), draw.integers(*GAPS, count)
    lefts = np.cumsum([max(gaps[0], 0), *(gaps[1:] + wide)])
    strip = np.zeros((HEIGHT, lefts[-1] + wide + draw.integers(GAPS[1])), np.uint8)
    for number, left, top in zip(chosen, lefts, tops, strict=True):
        place = strip[top : top + high, left : left + wide]
        np.maximum(place, digits.pictures[number], out=place)
    return {"source": strip, "target": "".join(map(str, digits.labels[chosen]))}


def read_digits(folder: Path) -> Digits:
    """All pictures and labels of a folder.

    Raises:
        DataError: a file is missing or damaged, or they do not fit each other.
    """
    pictures, labels = read_idx(folder / IMAGES, 3), read_idx(folder / LABELS, 1)
    if len(pictures) != len(labels) or len(labels) < 10_000 or pictures.shape[1] > HEIGHT:
        found = f"{len(pictures):,} pictures of {pictures.shape[1]} rows and {len(labels):,} labels"
        raise DataError(found, where=str(folder), hint="the test files of MNIST have 10,000 of each, 28 rows high")
    return Digits(pictures, labels)


def read_idx(path: Path, axes: int) -> UInt8[ndarray, "*shape"]:
    """Unsigned bytes of a gzipped IDX file: two zeros, the type, the number of axes, the size of each, the values.

    Raises:
        DataError: there is none, or its header does not say what it holds.
    """
    try:
        with gzip.open(path) as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        hint = "give the folder with the MNIST test files: --data DIR"
        raise DataError(f"cannot be read: {error}", where=str(path), hint=hint) from None
    start = 4 + 4 * axes
    shape = np.frombuffer(content[4:start].ljust(4 * axes, b"\0"), ">u4").tolist()
    if content[:4] != bytes([0, 0, UNSIGNED_BYTES, axes]) or len(content) != start + math.prod(shape):
        found = f"no IDX file of bytes along {axes} axes, or not all of it"
        raise DataError(found, where=str(path), hint="fetch it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
