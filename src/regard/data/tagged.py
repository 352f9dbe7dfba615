"""Sentences with a tag for each token, line by line as at CoNLL."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from regard.data.corpus import Corpus
from regard.data.lines import lines
from regard.data.rows import Read, Row, Rows, TextRows, counts
from regard.data.splitting import hashes_of, refuse_new, source_hashes, split, usable, values_of
from regard.errors import DataError
from regard.settings import Settings

DOCUMENT = "-DOCSTART-"
"""The token of lines that only say where a document begins."""

_BLANKS = re.compile("[ \t\r\n]+")  # other blanks, such as the ideographic one, can be tokens


def words_of(text: str) -> list[str]:
    """Tokens or tags that blanks keep apart."""
    return [word for word in _BLANKS.split(text) if word]


class Tagged(Settings):
    """A token and its tag on each line, a blank line after each sentence; without dev files, some are held out."""

    kind: Literal["tagged"] = "tagged"
    train: tuple[str, ...] = Field(min_length=1)
    dev: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    dev_rows: int = Field(default=1000, ge=1, description="at most so many are held out")

    def load(self) -> Corpus:
        """Sentences to train on each once, and none that is in dev or test.

        Raises:
            DataError: a file cannot be read or is not of this form, or holds a tag that no training row has.
        """
        read = read_tagged(self.train)
        test, dev = (TextRows.of(read_tagged(paths) if paths else []) for paths in (self.test, self.dev))
        train, dropped = TextRows.of(read), Counter[str]()
        wholes = hashes_of([json.dumps([*row.values()]) for row in read])
        train = train.choose(np.flatnonzero(usable(wholes, source_hashes(train), test, dev, dropped)))
        if len(train) < 2:
            hint = "two will do to try it out; thousands teach a language"
            raise DataError(f"{len(train)} usable sentences: not enough to learn from", where=self._name, hint=hint)
        if not dev:
            train, dev = split(train, source_hashes(train), self.dev_rows, _tags)
        known = _tags_in(train)
        for rows, paths in ((dev, self.dev or self.train), (test, self.test)):
            refuse_new("tag", _tags_in(rows), known, " + ".join(paths))
        sides = [train, dev, test]
        return Corpus(train, dev, test, self._notes(sides, known, dropped), dropped)

    def read_files(self, paths: Sequence[str]) -> Read:
        """Every sentence in order, for scoring."""
        return Read(read_tagged(paths))

    @property
    def _name(self) -> str:
        return " + ".join(self.train)

    def _notes(self, sides: Sequence[Rows], known: dict[str, None], dropped: Counter[str]) -> tuple[str, ...]:
        train, dev, test = map(len, sides)
        reasons = counts(dropped)
        how = "as given" if self.dev else "held out by a hash of the tokens"
        return (
            f"{self._name}: tokens with one of {len(known):,} tags each",
            f"{train:,} sentences to train on, {dropped.total():,} dropped{f': {reasons}' if reasons else ''}",
            f"{dev:,} sentences to choose by ({how}); {f'{test:,} to test on' if test else 'no test sentences'}",
        )


def _tags(row: Row) -> list[str]:
    return words_of(row["target"])


def read_tagged(paths: Sequence[str]) -> list[Row]:
    """Every sentence in order.

    Raises:
        DataError: a file cannot be read, a line has no tag, or there is no sentence.
    """
    rows = [row for path in paths for row in _sentences(path)]
    if not rows:
        raise DataError("no sentence in it", where=" + ".join(paths), hint="write a token and its tag on each line")
    return rows


def _sentences(path: str) -> Iterator[Row]:
    """Tokens and tags of each sentence, joined by blanks."""
    sentence: list[tuple[str, str]] = []
    for number, line in enumerate(lines(Path(path)), start=1):
        if line.strip(" \t"):
            sentence += _tagged_token(line, f"{path}:{number}")
        elif sentence:
            yield _row(sentence)
            sentence = []
    if sentence:
        yield _row(sentence)


def _row(sentence: list[tuple[str, str]]) -> Row:
    tokens, tags = zip(*sentence, strict=True)
    return {"source": " ".join(tokens), "target": " ".join(tags)}


def _tagged_token(line: str, where: str) -> list[tuple[str, str]]:
    """The first and the last cell, or nothing for the beginning of a document; cells stand between tabs if any do."""
    cells = line.strip("\t ").split("\t") if "\t" in line else words_of(line)
    token, tag = cells[0].strip(" "), cells[-1].strip(" ")
    if token == DOCUMENT:
        return []
    if len(cells) < 2:
        hint = "write its tag after it, and nothing on the lines between sentences"
        raise DataError(f"no tag after {token!r}", where=where, hint=hint)
    for cell in (token, tag):
        if len(words_of(cell)) != 1:
            raise DataError(f"a blank in {cell!r}", where=where, hint=f"write {cell.replace(' ', '_')!r}")
    return [(token, tag)]


def _tags_in(rows: Rows) -> dict[str, None]:
    """Each once, in order."""
    return dict.fromkeys(tag for tags in values_of("target", rows) for tag in words_of(tags))
