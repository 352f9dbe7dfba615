"""bAbI (Weston et al. 2015, arXiv 1502.05698): stories of a few made sentences, and questions about what happened."""

import lzma
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from regard.data.corpus import Corpus
from regard.data.questions import row_of
from regard.data.rows import Read, Row, TextRows, counts
from regard.errors import DataError
from regard.settings import Settings

SPAN_TASKS = (1, 2, 3, 4, 5, 11, 12, 13, 14, 16)
"""Tasks of which every answer stands in its story."""

DEV_SHARE = 0.05

_LINE = re.compile(r"(\d+) (.*)")


class Babi(Settings):
    """Some tasks together, each question with its story so far; every tag is a task, which models are not told.

    The last stories of the training files are held out. Which sentences lead to the answer is not learnt from: any
    place where the answer stands is right.
    """

    kind: Literal["babi"] = "babi"
    folder: str
    size: Literal["1k", "10k"] = Field(default="1k", description="training questions of each task")
    tasks: tuple[int, ...] = Field(default=SPAN_TASKS, min_length=1)

    def load(self) -> Corpus:
        """All questions whose answer stands in its story; those of the official test files to test on.

        Raises:
            DataError: a file is missing or not of this form.
        """
        dropped = Counter[str]()
        train, dev, test = list[Row](), list[Row](), list[Row]()
        for task in self.tasks:
            stories = [*_stories(self._file(task, "train"), dropped)]
            kept = len(stories) - max(round(len(stories) * DEV_SHARE), 1)
            train += [row for story in stories[:kept] for row in story]
            dev += [row for story in stories[kept:] for row in story]
            test += [row for story in _stories(self._file(task, "test"), dropped) for row in story]
        sides = TextRows.of(train), TextRows.of(dev), TextRows.of(test)
        return Corpus(*sides, self._notes(sides, dropped), dropped)

    def read_files(self, paths: Sequence[str]) -> Read:
        """The questions of other files of this form, for scoring."""
        dropped = Counter[str]()
        return Read.of([row for path in paths for story in _stories(Path(path), dropped) for row in story], dropped)

    def _notes(self, sides: Sequence[TextRows], dropped: Counter[str]) -> tuple[str, ...]:
        train, dev, test = (len(rows) for rows in sides)
        named = ", ".join(map(str, self.tasks))
        return (
            f"bAbI tasks {named}, {self.size} training questions each; dropped: {counts(dropped) or 'none'}",
            f"{train:,} questions to train on, {dev:,} to choose by (the last stories), {test:,} to test on",
        )

    def _file(self, task: int, part: str) -> Path:
        large = self.size == "10k" and part == "train"
        names = ("en-10k", "en-10k-train") if large else ("en",)
        found = [path for name in names for path in (Path(self.folder) / name).glob(f"qa{task}_*_{part}.txt*")]
        if not found:
            wanted = f"{names[0]}/qa{task}_*_{part}.txt"
            hint = "give the folder that the archive of bAbI unpacks to, or leave the task out of data.tasks"
            raise DataError(f"no file {wanted}, plain or .xz", where=self.folder, hint=hint)
        return min(found)


def _stories(path: Path, dropped: Counter[str]) -> Iterator[list[Row]]:
    """The questions of one story after another."""
    sentences, rows, task = list[str](), list[Row](), path.name.partition("_")[0]
    for line in _lines(path):
        number, text = _numbered(line, path)
        if number == 1 and sentences:
            yield rows
            sentences, rows = [], []
        question, *answer = text.split("\t")
        if not answer:
            sentences.append(text.strip())
        elif re.search(rf"\b{re.escape(answer[0])}\b", story := " ".join(sentences)):
            rows.append({**row_of(question, story, answer[0], None, answer[:1]), "tag": task})
        else:
            dropped[f"answer of {task} not in its story"] += 1
    yield rows


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
        return (lzma.decompress(content) if path.suffix == ".xz" else content).decode().splitlines()
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path), hint="fetch it again") from None


def _numbered(line: str, path: Path) -> tuple[int, str]:
    match = _LINE.fullmatch(line)
    if not match:
        hint = "each line is a number and a sentence, or a question, its answer and what supports it between tabs"
        raise DataError(f"not a line of bAbI: {line[:80]!r}", where=str(path), hint=hint)
    return int(match[1]), match[2]
