"""What data gives: rows for training, choosing and testing, and the rows of other files read alike."""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

from regard.data.rows import Read, Rows


class Corpus(NamedTuple):
    """Rows for training, choosing and testing; what there is to say of them to people; what was dropped and why."""

    train: Rows
    dev: Rows
    test: Rows
    notes: tuple[str, ...]
    dropped: Mapping[str, int] = MappingProxyType({})

    @property
    def fingerprint(self) -> str:
        """A hash of all rows, by which a run knows its data again."""
        digests = " ".join(rows.digest() for rows in (self.train, self.dev, self.test))
        return hashlib.blake2b(digests.encode(), digest_size=16).hexdigest()


@runtime_checkable
class ReadsFiles(Protocol):
    """Data of which other files than its own can be read in the same way."""

    def read_files(self, paths: Sequence[str]) -> Read:
        """Every row in order, for scoring."""


@runtime_checkable
class FromFiles(ReadsFiles, Protocol):
    """Data that names its own files."""

    train: tuple[str, ...]
