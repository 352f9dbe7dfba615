"""From tables of text to rows by role, cleaned and split: what training and evaluation read."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from regard.data.recognition import is_label
from regard.data.tables import SOURCE_NAMES, TAG_NAMES, TARGET_NAMES, Table, read_table
from regard.errors import DataError, did_you_mean
from regard.settings import Settings

Row = Mapping[str, str]
"""Text by role: "source", "target", and where there is one "tag", a language or locale that goes with the source."""

DEV_SHARE = 0.05
MOST_LISTED = 8


class Corpus(NamedTuple):
    """Rows for training, choosing and testing; what was dropped and why, for people; a hash of all rows."""

    train: list[Row]
    dev: list[Row]
    test: list[Row]
    dropped: Counter[str]
    notes: tuple[str, ...]
    fingerprint: str


class Columns(NamedTuple):
    """Which column plays which role."""

    source: str
    target: str
    tag: str | None = None


class Files(Settings):
    """Pairs from files; without dev files, some rows are held out."""

    kind: Literal["files"] = "files"
    train: tuple[str, ...] = Field(min_length=1)
    dev: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    source: str | None = None
    target: str | None = None
    tag: str | None = None
    dev_rows: int = Field(default=1000, ge=1, description="at most so many are held out")
    max_characters: int = Field(default=2000, ge=1, description="longer rows are dropped")

    def load(self) -> Corpus:
        """Clean rows, no source on two sides.

        Raises:
            DataError: a file cannot be read, or what is left cannot be learnt from.
        """
        table = _read(self.train)
        columns = choose_columns(table, self.source, self.target, self.tag)
        dropped = Counter(table.dropped)
        rows = list(self._clean(rows_of(table, columns), dropped))
        test = self._held_out(self.test, columns, dropped)
        dev = self._held_out(self.dev, columns, dropped)
        rows = _without(_without(rows, test, "also in test", dropped), dev, "also in dev", dropped)
        _refuse_hopeless(rows, table.name, dropped)
        if not dev:
            rows, dev = split(rows, self.dev_rows)
        notes = _notes(table, columns, [rows, dev, test], dropped, bool(self.dev))
        return Corpus(rows, dev, test, dropped, notes, fingerprint([rows, dev, test]))

    def _held_out(self, paths: Sequence[str], columns: Columns, dropped: Counter[str]) -> list[Row]:
        """Every row with a source, from the training files' columns where these files have columns of those names."""
        if not paths:
            return []
        table = _read(paths)
        if not {name for name in columns if name} <= set(table.columns):
            columns = choose_columns(table, self.source, self.target, self.tag)
        rows = _with_source(table, columns)
        dropped.update(table.dropped + Counter({"empty source": len(table.rows) - len(rows)}))
        return rows

    def _clean(self, rows: Iterable[Row], dropped: Counter[str]) -> Iterator[Row]:
        seen: set[tuple[str, ...]] = set()
        for row in rows:
            reason = _fault(row, self.max_characters) or ("duplicate" if tuple(row.values()) in seen else None)
            if reason:
                dropped[reason] += 1
                continue
            seen.add(tuple(row.values()))
            yield row


def read_rows(paths: Sequence[str], source: str | None, target: str | None, tag: str | None) -> list[Row]:
    """Every row in order, for scoring; only rows without a source are left out.

    Raises:
        DataError: a file cannot be read, or there is no row.
    """
    table = _read(paths)
    return _with_source(table, choose_columns(table, source, target, tag))


def _with_source(table: Table, columns: Columns) -> list[Row]:
    rows = [row for row in rows_of(table, columns) if row["source"]]
    if not rows:
        raise DataError("no row with a source", where=table.name)
    return rows


def rows_of(table: Table, columns: Columns) -> Iterator[Row]:
    """Rows by role, outer whitespace taken off."""
    roles = {role: table.columns.index(name) for role, name in columns._asdict().items() if name is not None}
    for cells in table.rows:
        yield {role: cells[place].strip() for role, place in roles.items()}


def choose_columns(table: Table, source: str | None, target: str | None, tag: str | None) -> Columns:
    """Columns that were asked for; otherwise by name, otherwise the first and the second.

    Raises:
        DataError: a column does not exist, or names and places leave it open which are meant.
    """
    source = _find(table, source, "--source") if source else None
    target = _find(table, target, "--target") if target else None
    tag = _find(table, tag, "--tag") if tag else None
    if len(table.columns) > 2:
        tag = tag or _named(table, TAG_NAMES, source, target)
    source = source or _named(table, SOURCE_NAMES, target, tag)
    target = target or _named(table, TARGET_NAMES, source, tag)
    source, target = _by_place(table, source, target, [name for name in table.columns if name != tag])
    if len({source, target, tag}) < 3:
        raise DataError("one column cannot be two of source, target and tag", where=table.name)
    return Columns(source, target, tag)


def _by_place(table: Table, source: str | None, target: str | None, free: Sequence[str]) -> tuple[str, str]:
    """What names leave open: of two columns the second is the target, unless the first one is a label."""
    if source and target:
        return source, target
    if len(free) < 2:
        hint = "a tab (.tsv) or a comma (.csv) must stand between source and target"
        raise DataError("one column: which is the other side?", where=table.name, hint=hint)
    if len(free) > 2:
        some = ", ".join(free[:MOST_LISTED]) + (", ..." if len(free) > MOST_LISTED else "")
        hint = f"say which, for example: --source {free[0]} --target {free[1]}"
        raise DataError(f"{len(free)} columns of text: {some}", where=table.name, hint=hint)
    first, second = free
    label_first = not (source or target) and is_label(table, first) and not is_label(table, second)
    return (second, first) if label_first or source == second or target == first else (first, second)


def split(rows: Sequence[Row], most: int) -> tuple[list[Row], list[Row]]:
    """Training and dev rows by a hash of the source, so that equal sources never straddle and order does not matter.

    Up to `DEV_SHARE` of the rows and at most so many are held out, but always one source and never the last one.
    """
    hashes = [_source_hash(row) for row in rows]
    last = _last_held_out(hashes, most)
    return (
        [row for row, number in zip(rows, hashes, strict=True) if number > last],
        [row for row, number in zip(rows, hashes, strict=True) if number <= last],
    )


def _last_held_out(hashes: Sequence[int], most: int) -> int:
    sizes = sorted(Counter(hashes).items())
    last, held = sizes[0][0], 0
    for number, size in sizes[:-1]:
        held += size
        if number >= DEV_SHARE * 2**64 or held > most:
            break
        last = number
    return last


def fingerprint(sides: Sequence[Sequence[Row]]) -> str:
    """A hash of all rows, by which a run knows its data again."""
    digest = hashlib.blake2b(digest_size=16)
    for rows in sides:
        digest.update(f"{len(rows)} rows\n".encode())
        for row in rows:
            digest.update("\t".join(f"{role}={text}" for role, text in row.items()).encode() + b"\n")
    return digest.hexdigest()


def _read(paths: Sequence[str]) -> Table:
    return read_table([Path(path) for path in paths])


def _find(table: Table, name: str, flag: str) -> str:
    if name in table.columns:
        return name
    if name.isdecimal() and 0 < int(name) <= len(table.columns):
        return table.columns[int(name) - 1]
    raise DataError(f"{flag}: no column '{name}'", where=table.name, hint=did_you_mean(name, table.columns))


def _named(table: Table, names: Sequence[str], *taken: str | None) -> str | None:
    """The column with the most telling of some names."""
    by_name = {name.lower(): name for name in table.columns if table.named and name not in taken}
    return next((by_name[name] for name in names if name in by_name), None)


def _fault(row: Row, longest: int) -> str | None:
    for side in ("source", "target"):
        text = row[side]
        if not text:
            return f"empty {side}"
        if len(text) > longest:
            return f"{side} longer than {longest} characters"
        if not any(map(str.isalnum, text)):
            return f"no word in {side}"
    return None


def _refuse_hopeless(rows: Sequence[Row], name: str, dropped: Counter[str]) -> None:
    why = f"; dropped: {_counts(dropped)}" if dropped else ""
    if len(rows) < 2:
        raise DataError(
            f"{len(rows)} usable pair{'' if len(rows) == 1 else 's'}: not enough to learn from{why}", where=name
        )
    sources, targets = {_normal(row["source"]) for row in rows}, {row["target"] for row in rows}
    for side, texts in (("source", sources), ("target", targets)):
        if len(texts) == 1:
            raise DataError(f"every {side} is {rows[0][side]!r}: there is nothing to learn", where=name)


def _without(rows: list[Row], held: Sequence[Row], reason: str, dropped: Counter[str]) -> list[Row]:
    """Rows whose source is not among the held-out ones."""
    sources = {_normal(row["source"]) for row in held}
    kept = [row for row in rows if _normal(row["source"]) not in sources]
    if len(kept) < len(rows):
        dropped[reason] += len(rows) - len(kept)
    return kept


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _source_hash(row: Row) -> int:
    return int.from_bytes(hashlib.blake2b(_normal(row["source"]).encode(), digest_size=8).digest(), "big")


def _counts(dropped: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in dropped.most_common())


def _notes(
    table: Table, columns: Columns, sides: Sequence[Sequence[Row]], dropped: Counter[str], dev_given: bool
) -> tuple[str, ...]:
    train, dev, test = (len(rows) for rows in sides)
    names = "named by the data" if table.named else "by position: no header"
    tag = f", tagged by '{columns.tag}'" if columns.tag else ""
    how = "as given" if dev_given else "held out by a hash of the source, so that equal sources stay together"
    return (
        f"{table.name}: '{columns.source}' -> '{columns.target}'{tag} ({names})",
        f"{train:,} pairs to train on, {sum(dropped.values()):,} dropped{': ' + _counts(dropped) if dropped else ''}",
        f"{dev:,} pairs to choose by ({how}); {f'{test:,} to test on' if test else 'no test pairs'}",
    )
