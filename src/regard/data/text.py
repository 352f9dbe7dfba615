"""Running text, one document a file: a stream to learn from, and stretches of it with what came before to be scored."""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from regard.data.corpus import Corpus
from regard.data.lines import lines
from regard.data.rows import LONGEST_TEXT, Read, Row, TextRows
from regard.errors import DataError
from regard.settings import Settings


class Text(Settings):
    """Texts from files, each one document; without dev files the end of them all is held out."""

    kind: Literal["text"] = "text"
    train: tuple[str, ...] = Field(min_length=1)
    dev: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    held_out: float = Field(default=0.05, gt=0, lt=1, description="the share of all characters, the last, to choose by")
    stretch: int = Field(default=1024, ge=1, le=LONGEST_TEXT, description="held-out characters scored as one row")
    before: int = Field(default=256, ge=0, le=LONGEST_TEXT, description="characters before it, read but not scored")

    def load(self) -> Corpus:
        """Whole documents to train on, as rows with a "target"; held-out text as `read_files` gives it.

        Raises:
            DataError: a file cannot be read, or there is too little text.
        """
        read = _documents(self.train)
        texts, held = (read, _documents(self.dev)) if self.dev else _split(read, self.held_out)
        self._refuse_hopeless(texts, held)
        train = TextRows.of({"target": text} for text in texts)
        dev, test = (TextRows.of(self._stretches(one)) for one in (held, _documents(self.test)))
        notes = self._notes(texts, held, len(dev))
        return Corpus(train, dev, test, notes)

    def read_files(self, paths: Sequence[str]) -> Read:
        """Every character of some files once, in stretches: "target", after a "source" that is read but not scored.

        Raises:
            DataError: a file cannot be read, or is empty.
        """
        return Read(self._stretches(_documents(paths)))

    def _stretches(self, documents: Sequence[str]) -> list[Row]:
        return [
            {"source": document[max(start - self.before, 0) : start], "target": document[start : start + self.stretch]}
            for document in documents
            for start in range(0, len(document), self.stretch)
        ]

    def _refuse_hopeless(self, train: Sequence[str], held: Sequence[str]) -> None:
        characters = set().union(*train)
        if sum(map(len, train)) < 2 or not any(held):
            found = f"{_length([*train, *held])}: not enough to learn from and to hold some out"
            raise DataError(found, where=self._name, hint="a page will do to try it out; a book teaches a style")
        if len(characters) < 2:
            found = f"every character is {min(characters)!r}: there is nothing to learn"
            raise DataError(found, where=self._name, hint="is it the right file?")

    @property
    def _name(self) -> str:
        return " + ".join(self.train)

    def _notes(self, train: Sequence[str], held: Sequence[str], rows: int) -> tuple[str, ...]:
        texts = f"{len(train):,} text{'' if len(train) == 1 else 's'}"
        how = "as given" if self.dev else f"the last {self.held_out:.0%}"
        scored = f"in {rows:,} stretches, each after up to {self.before:,} that are read but not scored"
        return (
            f"{self._name}: {texts}, of {len(set().union(*train)):,} different characters",
            f"{_length(train)} to train on",
            f"{_length(held)} to choose by ({how}), {scored}; {'a test text' if self.test else 'no test text'}",
        )


def _length(documents: Sequence[str]) -> str:
    return f"{sum(map(len, documents)):,} characters"


def _documents(paths: Sequence[str]) -> list[str]:
    """Composed (NFC), every line with its end."""
    return [unicodedata.normalize("NFC", "".join(f"{line}\n" for line in lines(Path(path)))) for path in paths]


def _split(documents: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """All but the last share of all characters, and that; a document over the border is cut there."""
    border = int(sum(map(len, documents)) * (1 - share))
    return [*_within(documents, 0, border)], [*_within(documents, border, sum(map(len, documents)))]


def _within(documents: Sequence[str], first: int, end: int) -> Iterator[str]:
    """What lies between two places of documents that stand one after the other."""
    place = 0
    for document in documents:
        if found := document[max(first - place, 0) : max(end - place, 0)]:
            yield found
        place += len(document)
