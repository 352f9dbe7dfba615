"""Questions about passages, answered by spans of them: JSON lines, SQuAD's nested JSON, or tables."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from regard.data.corpus import Corpus
from regard.data.lines import lines, without_gz
from regard.data.rows import LONGEST_TEXT, Read, Row, TextRows, counts
from regard.data.spans import places_of
from regard.data.splitting import Hashes, hashes_of, split
from regard.data.tables import ANSWER_NAMES, PASSAGE_NAMES, QUESTION_NAMES, START_NAMES, read_table
from regard.errors import DataError
from regard.settings import Settings

NAMED = 5
"""Of questions whose answer stands nowhere, or elsewhere than it says, so many are named."""

BLANK_LINE = object()
OTHERS = "\n"
"""What stands between the other right answers of a row."""

Record = Mapping[str, Any]
Answer = tuple[str, int | None]
"""A text, and the character of the passage that it begins at, if that is known."""


class Questions(Settings):
    """Questions, passages and answers from files; without dev files, some passages are held out.

    Objects have a question, a passage or context, and answers: texts with ``starts``, objects with ``text`` and
    ``answer_start``, lists of both, or one text. ``source``, ``passage`` and ``target`` are the keys or columns of
    question, passage and answers, where they are called otherwise.
    """

    kind: Literal["questions"] = "questions"
    train: tuple[str, ...] = Field(min_length=1)
    dev: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    source: str | None = None
    passage: str | None = None
    target: str | None = None
    dev_rows: int = Field(default=1000, ge=1, description="at most so many are held out")

    def load(self) -> Corpus:
        """Questions whose answers stand in their passages; none of dev or test among those to train on.

        Raises:
            DataError: a file cannot be read, or what is left cannot be learnt from.
        """
        reading = Reading(self.source, self.passage, self.target)
        train, dev, test = (reading.rows(paths) for paths in (self.train, self.dev, self.test))
        kept = _fresh(train, [*dev, *test], reading.dropped)
        if len(kept) < 2:
            why = f"{len(kept)} usable questions: not enough to learn from; dropped: {dict(reading.dropped)}"
            raise DataError(why, where=self.train[0], hint="each needs a question, a passage and an answer in it")
        rows, held = TextRows.of(kept), TextRows.of(dev)
        if not dev:
            rows, held = split(rows, _hashes(kept), self.dev_rows)
        sides = rows, held, TextRows.of(test)
        return Corpus(*sides, (*_notes(sides, bool(dev)), *reading.notes), reading.dropped)

    def read_files(self, paths: Sequence[str]) -> Read:
        """Every usable question in order, for scoring."""
        reading = Reading(self.source, self.passage, self.target)
        return Read(reading.rows(paths), reading.notes)


def _hashes(rows: Sequence[Row]) -> Hashes:
    """Equal for equal passages, so that none straddles training and dev rows."""
    return hashes_of([row["passage"] for row in rows])


def _fresh(rows: Sequence[Row], held: Sequence[Row], dropped: Counter[str]) -> list[Row]:
    """The first of equal questions about a passage, and none that is held out."""
    seen = {(row["source"], row["passage"]): "also in dev or test" for row in held}
    kept = []
    for row in rows:
        key = row["source"], row["passage"]
        if key in seen:
            dropped[seen[key]] += 1
        else:
            seen[key] = "duplicate"
            kept.append(row)
    return kept


def _notes(sides: Sequence[TextRows], dev_given: bool) -> tuple[str, ...]:
    train, dev, test = (len(rows) for rows in sides)
    how = "as given" if dev_given else "held out by a hash of the passage, so that no passage is on both sides"
    passages = len(np.unique(_hashes(sides[0][:])))
    tested = f"{test:,} to test on" if test else "no test questions"
    return f"{train:,} questions about {passages:,} passages", f"{dev:,} questions to choose by ({how}); {tested}"


@dataclass
class Reading:
    """Rows out of files, and what was found wrong with them."""

    source: str | None = None
    passage: str | None = None
    target: str | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    reworded: int = 0
    moved: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def rows(self, paths: Sequence[str]) -> list[Row]:
        """Every usable row in order: source, passage, target with its start, and other right answers."""
        found = [row for path in paths for row in self._of_file(path)]
        if paths and not found:
            reasons = counts(self.dropped, 3)
            hint = 'write {"question": "...", "passage": "...", "answers": ["..."], "starts": [0]} on each line'
            raise DataError(f"no usable question: {reasons}", where=" + ".join(paths), hint=hint)
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found wrong, for people."""
        dropped = counts(self.dropped)
        told = {
            f"dropped: {dropped}": dropped,
            f"answers that stand nowhere in their passage: {_first_of(self.lost)}": self.lost,
            f"{len(self.moved):,} questions with an answer elsewhere than it says, found by its text: "
            f"{_first_of(self.moved)}": self.moved,
            f"{self.reworded:,} questions with answers in other words than the passage, only to score": self.reworded,
        }
        return tuple(note for note, wanted in told.items() if wanted)

    def _of_file(self, path: str) -> Iterator[Row]:
        for place, record in records(Path(path), self.dropped):
            try:
                yield self._row(record, f"{path}, {place}")
            except ValueError as reason:
                self.dropped[str(reason)] += 1

    def _row(self, record: Record, name: str) -> Row:
        """Raises ValueError with the reason why a record is no row."""
        question, passage = _text(record, self.source, QUESTION_NAMES), _text(record, self.passage, PASSAGE_NAMES)
        for role, text in (("question", question), ("passage", passage)):
            if not text.strip():
                raise ValueError(f"empty {role}")
            if len(text) > LONGEST_TEXT:
                raise ValueError(f"{role} longer than {LONGEST_TEXT:,} characters")
        given = [*_answers(record, self.target)]
        if not given:
            raise ValueError("no answer")
        placed = [_placed(*answer, passage) for answer in given]
        standing = [one for one in placed if one]
        if not standing:
            self.lost.append(f"{name} ({given[0][0][:40]!r})")
            raise ValueError("answer not in its passage")
        if any(one.moved for one in standing):
            self.moved.append(name)
        self.reworded += len(standing) < len(placed)
        return row_of(question, passage, standing[0].text, standing[0].start, [text for text, _ in given])


def _first_of(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def row_of(question: str, passage: str, target: str, start: int | None, right: Sequence[str]) -> Row:
    """A row as tasks read it; the target is learnt, at ``start`` or anywhere, and any right answer counts."""
    texts = dict.fromkeys(" ".join(text.split()) for text in right if text.strip() != target)
    begin = "" if start is None else str(start)
    return {
        "source": question.strip(),
        "passage": passage,
        "target": target,
        "start": begin,
        "others": OTHERS.join(texts),
    }


class Placed(NamedTuple):
    """An answer without outer blanks, where it stands, and whether that is elsewhere than it said."""

    text: str
    start: int | None
    moved: bool = False


def _placed(text: str, start: int | None, passage: str) -> Placed | None:
    """At the nearest place to where it should be, or anywhere; None: it is nowhere."""
    bare = text.strip()
    begins = [span.begin for span in places_of(bare, passage)]
    if start is None or not begins:
        return Placed(bare, None) if begins else None
    expected = start + text.index(bare)
    if expected >= 0 and passage.startswith(bare, expected):
        return Placed(bare, expected)
    return Placed(bare, min(begins, key=lambda begin: abs(begin - expected)), moved=True)


def records(path: Path, dropped: Counter[str]) -> Iterator[tuple[str, Record]]:
    """The questions of a file one by one with their places, and the passages they are about; others are counted.

    Raises:
        DataError: it is missing, empty or not text.
    """
    form = without_gz(path).suffix.lower()
    if form not in (".json", ".jsonl"):
        table = read_table([path])
        for number, cells in table.numbered(dropped):
            yield f"row {number}", dict(zip(table.columns, cells, strict=True))
        return
    text = [*lines(path)]
    whole = _parsed("\n".join(text)) if form == ".json" else None
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        yield from ((f"question {number}", one) for number, one in enumerate(_nested(whole["data"]), start=1))
        return
    named, found = ("object", whole) if isinstance(whole, list) else ("line", [*map(_parsed_line, text)])
    for number, one in enumerate(found, start=1):
        if isinstance(one, dict):
            yield f"{named} {number}", one
        elif one is not BLANK_LINE:
            dropped["not a JSON object"] += 1


def _parsed_line(line: str) -> Any:
    return _parsed(line) if line.strip() else BLANK_LINE


def _parsed(text: str) -> Any:
    """What a JSON text says; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _nested(documents: Iterable[Any]) -> Iterator[Record]:
    """The questions of SQuAD's form: documents of paragraphs, each a ``context`` with its ``qas``."""
    for document in filter(_is_object, documents):
        for paragraph in filter(_is_object, _listed(document.get("paragraphs"))):
            for question in filter(_is_object, _listed(paragraph.get("qas"))):
                yield {**question, "context": paragraph.get("context")}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _text(record: Record, name: str | None, names: Sequence[str]) -> str:
    """The text under a name, or under the most telling of some; empty where there is none."""
    keys = [name] if name else [*names]
    by_name = {str(key).lower() if not name else key: value for key, value in record.items()}
    found = next((by_name[key] for key in keys if isinstance(by_name.get(key), str)), "")
    return found.encode(errors="replace").decode()  # half a character could not be kept


def _answers(record: Record, name: str | None) -> Iterator[Answer]:
    """The answers of a record, and where they say they begin."""
    by_name = {key.lower(): value for key, value in record.items()}
    names = [name.lower()] if name else ANSWER_NAMES
    given = next((by_name[key] for key in names if key in by_name), None)
    starts = next((_listed(by_name[key]) for key in START_NAMES if key in by_name), [])
    if isinstance(given, dict) and isinstance(given.get("text"), list):
        given, starts = given["text"], _listed(given.get("answer_start"))
    for place, one in enumerate(_listed(given)):
        text = one.get("text") if isinstance(one, dict) else one
        start = one.get("answer_start") if isinstance(one, dict) else starts[place] if place < len(starts) else None
        if isinstance(text, str) and text.strip():
            yield text, _number(start)


def _number(start: Any) -> int | None:
    try:
        return None if start in (None, "") else int(start)
    except (TypeError, ValueError, OverflowError):
        return None


def question_row(given: Any) -> Any:
    """A row as tasks read it of what a user gave.

    A text is a question and a passage with a tab between them, or a JSON object with both; in a mapping they may be
    called as in files. What is neither is given back as it is.
    """
    if isinstance(given, Mapping) and not _has(given, PASSAGE_NAMES):
        given = given.get("source", given)
    if isinstance(given, str):
        question, tab, passage = given.partition("\t")
        whole = _parsed(given) if given.startswith("{") else None
        given = whole or ({"question": question, "passage": passage} if tab else given)
    if not isinstance(given, Mapping) or {"source", "passage"} <= given.keys():
        return given
    if not (_has(given, QUESTION_NAMES) and _has(given, PASSAGE_NAMES)):
        return given
    return {"source": _text(given, None, QUESTION_NAMES), "passage": _text(given, None, PASSAGE_NAMES)}


def _has(record: Record, names: Sequence[str]) -> bool:
    return not {str(key).lower() for key in record}.isdisjoint(names)
