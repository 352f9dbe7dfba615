"""From tables of text to rows by role, cleaned and split: what training and evaluation read."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy import ndarray
from pydantic import Field

from regard.data.arrays import CHUNK, FORMAT, Arrays, cache_folder, kept
from regard.data.columns import Columns, by_role, choose_columns
from regard.data.corpus import Corpus, ReadsFiles
from regard.data.rows import LONGEST_TEXT, Read, Row, Rows, TextRows, counts, row_records, rows_in
from regard.data.splitting import Hashes, hashes_of, refuse_new, source_hashes, split, usable, values_of
from regard.data.tables import Table, read_table, table_in
from regard.errors import DataError
from regard.settings import Settings

LARGE = 1 << 28
"""Bytes of training files from which on a corpus is kept on disk instead of in memory."""


class Files(Settings):
    """Pairs, or texts with their ``labels``, from files; without dev files, some rows are held out."""

    kind: Literal["files"] = "files"
    train: tuple[str, ...] = Field(min_length=1)
    dev: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    source: str | None = None
    target: str | None = None
    tag: str | None = None
    labels: bool = Field(default=False, description="the target is one of few labels")
    dev_rows: int = Field(default=1000, ge=1, description="at most so many are held out")
    max_characters: int = Field(default=2000, ge=1, le=LONGEST_TEXT, description="longer rows are dropped")

    def load(self) -> Corpus:
        """Clean rows, none to train on that is among those of dev or test.

        Raises:
            DataError: a file cannot be read, or what is left cannot be learnt from.
        """
        table = _read(self.train)
        columns = choose_columns(table, self.source, self.target, self.tag)
        with kept(self._place(columns)) as arrays:
            _fill(arrays, table, columns, self)
        dropped = Counter(arrays.noted["dropped"])
        test = self._held_out(self.test, columns, dropped)
        dev = self._held_out(self.dev, columns, dropped)
        sources = arrays["source hash"]
        kept_rows = usable(arrays["row hash"], sources, test, dev, dropped)
        train = rows_in(arrays).choose(np.flatnonzero(kept_rows))
        _refuse_hopeless(train, sources[kept_rows], table.name, dropped)
        if not dev:
            train, dev = split(train, sources[kept_rows], self.dev_rows, _label if self.labels else None)
        learnt = {"tag": "tag", "label": "target"} if self.labels else {"tag": "tag"}
        for what, role in learnt.items():
            known = values_of(role, train)
            for rows, paths in ((dev, self.dev), (test, self.test)):
                refuse_new(what, values_of(role, rows), known, " + ".join(paths))
        notes = _notes(table, columns, [train, dev, test], dropped, bool(self.dev))
        return Corpus(train, dev, test, notes, dropped)

    def _place(self, columns: Columns) -> Path | None:
        """Where large training files are kept: a name made of their content and of how it is read."""
        paths = [Path(path) for path in self.train]
        if sum(path.stat().st_size for path in paths) < LARGE:
            return None
        form = [FORMAT, columns, self.max_characters, self.labels, [path.suffixes for path in paths]]
        digest = hashlib.blake2b(str(form).encode(), digest_size=16)
        for path in paths:
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "blake2b").digest())
        return cache_folder() / digest.hexdigest()

    def _held_out(self, paths: Sequence[str], columns: Columns, dropped: Counter[str]) -> TextRows:
        """Every row with a source that is not too long."""
        if not paths:
            return TextRows.of([])
        table = _read(paths)
        rows = _with_source(table, self._columns_of(table, columns), dropped, Path(paths[0]).parent)
        fitting = [row for row in rows if max(map(len, row.values())) <= self.max_characters]
        if not fitting:
            found = f"every row is longer than {self.max_characters} characters"
            raise DataError(found, where=table.name, hint="raise data.max_characters")
        dropped[f"held-out row longer than {self.max_characters} characters"] += len(rows) - len(fitting)
        return TextRows.of(fitting)

    def found_in(self, table: Table) -> "Files":
        """With the columns of a table of training rows, so that other tables are read alike."""
        return self.model_copy(update=choose_columns(table, self.source, self.target, self.tag)._asdict())

    def read_files(self, paths: Sequence[str]) -> Read:
        """Every row in order, for scoring, from the columns that were trained on, but rows without a source.

        Raises:
            DataError: a file cannot be read, has no such columns, or no row.
        """
        table = _read(paths)
        dropped = Counter[str]()
        return Read.of(_with_source(table, self._chosen(table, self.tag), dropped, Path(paths[0]).parent), dropped)

    def _chosen(self, table: Table, tag: str | None) -> Columns:
        """Columns by the names of training, asked for or found; a table that has none of them is read by itself."""
        names = [name for name in (self.source, self.target) if name]
        if names and not any(name in table.columns or name.isdecimal() for name in names):
            return choose_columns(table, None, None, None)
        return choose_columns(table, self.source, self.target, tag if tag in table.columns else None)

    def _columns_of(self, table: Table, columns: Columns) -> Columns:
        """The training files' columns where this table has columns of those names; tags only if those had tags."""
        if {name for name in columns if name} <= set(table.columns):
            return columns
        found = self._chosen(table, self.tag if columns.tag else None)
        if columns.tag and not found.tag:
            hint = "name it with --tag, or give a file with such a column"
            raise DataError("no column with tags, and the training rows have tags", where=table.name, hint=hint)
        return found if columns.tag else found._replace(tag=None)


def _label(row: Row) -> Sequence[str]:
    return (row["target"],)


def read_as(data: object, paths: Sequence[str], source: str | None, target: str | None, tag: str | None) -> Read:
    """Every row in order, for scoring, as some data reads its own files, or from columns that are named here."""
    if isinstance(data, Files) and (source or target or tag):
        return read_rows(paths, source, target, tag)
    return data.read_files(paths) if isinstance(data, ReadsFiles) else read_rows(paths, source, target, tag)


def read_rows(paths: Sequence[str], source: str | None, target: str | None, tag: str | None) -> Read:
    """Every row in order, for scoring, but those without a source.

    Raises:
        DataError: a file cannot be read, or there is no row.
    """
    paths = [table_in(path) for path in paths]
    table = _read(paths)
    dropped, columns = Counter[str](), choose_columns(table, source, target, tag)
    return Read.of(_with_source(table, columns, dropped, Path(paths[0]).parent), dropped)


def _read(paths: Sequence[str]) -> Table:
    return read_table([Path(path) for path in paths])


def _with_source(table: Table, columns: Columns, dropped: Counter[str], folder: Path) -> list[Row]:
    rows = list(by_role(table, columns, dropped, folder))
    found = [row for row in rows if row["source"]]
    if not found:
        raise DataError("no row with a source", where=table.name, hint="is it the right column? name it with --source")
    dropped.update(Counter({"empty source": len(rows) - len(found)}))
    return found


def _fill(arrays: Arrays, table: Table, columns: Columns, files: Files) -> None:
    """Add all rows that have something on both sides, with hashes by which equal ones are found.

    What was added before an interruption is not added again.
    """
    if arrays.done:
        return
    done = arrays.noted.get("read", 0)
    dropped = Counter(arrays.noted.get("dropped", {}))
    bad_cells = Counter[str]()
    folder = Path(files.train[0]).parent
    rows = islice(by_role(table, columns, bad_cells, folder), done, None)
    while chunk := list(islice(rows, CHUNK)):
        done += len(chunk)
        whole = list(_without_faults(chunk, files, dropped))
        arrays.append(_with_hashes(arrays, whole), read=done, dropped=dropped)
    arrays.append(_with_hashes(arrays, []), dropped=+(dropped + bad_cells), done=True)


def _without_faults(rows: Sequence[Row], files: Files, dropped: Counter[str]) -> Iterator[Row]:
    for row in rows:
        if reason := _fault(row, files):
            dropped[reason] += 1
        else:
            yield row


def _fault(row: Row, files: Files) -> str | None:
    names = ("tag", "target") if files.labels else ("tag",)
    for side, text in row.items():
        if not text:
            return f"empty {side}"
        if len(text) > files.max_characters:
            return f"{side} longer than {files.max_characters} characters"
        if side not in names and not any(map(str.isalnum, text)):
            return f"no word in {side}"
    return None


def _with_hashes(arrays: Arrays, rows: Sequence[Row]) -> dict[str, ndarray]:
    whole = [json.dumps([*row.values()]) for row in rows]
    hashes = {"row hash": hashes_of(whole), "source hash": source_hashes(rows)}
    return row_records(arrays, rows) | hashes


def _refuse_hopeless(rows: Rows, sources: Hashes, name: str, dropped: Counter[str]) -> None:
    why = f"; dropped: {counts(dropped)}" if dropped else ""
    if len(rows) < 2:
        found = f"{len(rows)} usable pair{'' if len(rows) == 1 else 's'}: not enough to learn from{why}"
        raise DataError(found, where=name, hint="two will do to try it out; thousands teach a language")
    first = rows[0]
    same_source = bool((sources == sources[0]).all())
    if same_source or all(row["target"] == first["target"] for row in rows):
        side = "source" if same_source else "target"
        hint = f"is it the right column? name another with --{side}"
        raise DataError(f"every {side} is {first[side]!r}: there is nothing to learn", where=name, hint=hint)


def _notes(
    table: Table, columns: Columns, sides: Sequence[Sequence[Row]], dropped: Counter[str], dev_given: bool
) -> tuple[str, ...]:
    train, dev, test = (len(rows) for rows in sides)
    names = "named by the data" if table.named else "by position: no header"
    tag = f", tagged by '{columns.tag}'" if columns.tag else ""
    how = "as given" if dev_given else "held out by a hash of the source, so that equal sources stay together"
    return (
        f"{table.name}: '{columns.source}' -> '{columns.target}'{tag} ({names})",
        f"{train:,} pairs to train on, {sum(dropped.values()):,} dropped{': ' + counts(dropped) if dropped else ''}",
        f"{dev:,} pairs to choose by ({how}); {f'{test:,} to test on' if test else 'no test pairs'}",
    )
