"""What a task reads: a field, and the embedding that goes with it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from regard.data.fields import VOCABULARY_FILE, TextField
from regard.data.rows import Row, Rows
from regard.data.tokenisers import MOST_BYTES, Vocabulary
from regard.models.model import SourceBuilder
from regard.padded import Record
from regard.settings import Settings
from regard.tasks.task import LearntFile


@runtime_checkable
class SourceField(Protocol):
    """Between a row's raw source and what a model reads of it."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """All it has learnt, by name."""

    @property
    def fingerprint(self) -> str:
        """What records depend on beside their row."""

    @property
    def tags(self) -> Mapping[str, int]:
        """Of which each row needs one; none: rows have no tags."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are; those that begin every vocabulary, where sources are no tokens."""

    def row(self, given: Any, roles: Sequence[str] = ("source",)) -> Row:
        """What a user gave as a row, which must have all these roles.

        Raises:
            DataError: it cannot be one.
        """

    def is_blank(self, row: Row) -> bool:
        """Whether there is nothing to read."""

    def source(self, row: Row) -> Record:
        """Raises DataError: the row has no source that can be read."""

    def steps(self, record: Record) -> list[str]:
        """What each step is called on the axis of a map."""

    def shown(self, row: Row) -> str:
        """A row's source for people to read."""


class TextSource(Settings):
    """Text in subword pieces."""

    kind: Literal["text"] = "text"

    def learn(self, train: Rows, vocabulary: Vocabulary, roles: Sequence[str]) -> TextField:
        return TextField.learn(train, vocabulary, roles)

    def restore(self, file: LearntFile) -> TextField:
        return TextField.load(file(VOCABULARY_FILE, MOST_BYTES))

    def builder(self, field: SourceField) -> SourceBuilder | None:
        """The embedding of sources that are no tokens."""
        return None


SourcePart = TextSource
