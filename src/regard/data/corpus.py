"""From tables of text to rows by role, cleaned and split: what training and evaluation read."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from regard.data.tables import SOURCE_NAMES, TAG_NAMES, TARGET_NAMES, Table, read_table
from regard.errors import DataError, did_you_mean
from regard.settings import Settings

Row = Mapping[str, str]
"""Text by role: "source", "target", and where there is one "tag", a language or locale that goes with the source."""

DEV_SHARE = 0.05


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
        _refuse_hopeless(rows, table.name, dropped)
        test = self._held_out(self.test, columns)
        dev = self._held_out(self.dev, columns)
        rows = _without(_without(rows, test, "also in test", dropped), dev, "also in dev", dropped)
        if not dev:
            rows, dev = split(rows, self.dev_rows)
        _refuse_hopeless(rows, table.name, dropped)
        notes = _notes(table, columns, [rows, dev, test], dropped, bool(self.dev))
        return Corpus(rows, dev, test, dropped, notes, fingerprint([rows, dev, test]))

    def _held_out(self, paths: Sequence[str], columns: Columns) -> list[Row]:
        return read_rows(paths, columns.source, columns.target, columns.tag) if paths else []

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
    rows = [row for row in rows_of(table, choose_columns(table, source, target, tag)) if row["source"]]
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
    tag = _find(table, tag, "--tag") if tag else _named(table, TAG_NAMES) if len(table.columns) > 2 else None
    free = [name for name in table.columns if name != tag]
    if len(free) < 2:
        hint = "a tab (.tsv) or a comma (.csv) must stand between source and target"
        raise DataError("one column: which is the other side?", where=table.name, hint=hint)
    chosen_target = _find(table, target, "--target") if target else None
    chosen_source = _find(table, source, "--source") if source else _named(table, SOURCE_NAMES, chosen_target)
    chosen_target = chosen_target or _named(table, TARGET_NAMES, chosen_source)
    if len(free) > 2 and not (chosen_source and chosen_target):
        hint = "say which: --source COLUMN --target COLUMN"
        raise DataError(f"{len(free)} columns of text: {', '.join(free)}", where=table.name, hint=hint)
    chosen_source = chosen_source or next(name for name in free if name != chosen_target)
    chosen_target = chosen_target or next(name for name in free if name != chosen_source)
    if chosen_source == chosen_target:
        raise DataError(f"'{chosen_source}' cannot be both source and target", where=table.name)
    return Columns(chosen_source, chosen_target, tag)


def split(rows: Sequence[Row], most: int) -> tuple[list[Row], list[Row]]:
    """Training and dev rows by a hash of the source, so that equal sources never straddle and order does not matter."""
    share = min(DEV_SHARE, most / len(rows))
    hashes = [_source_hash(row) for row in rows]
    least, greatest = min(hashes), max(hashes)
    bound = min(max(int(share * 2**64), least + 1), greatest)
    held = [number < bound for number in hashes]
    return (
        [row for row, is_dev in zip(rows, held, strict=True) if not is_dev],
        [row for row, is_dev in zip(rows, held, strict=True) if is_dev],
    )


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


def _named(table: Table, names: Sequence[str], taken: str | None = None) -> str | None:
    """The column with the most telling of some names."""
    by_name = {name.lower(): name for name in table.columns if table.named and name != taken}
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
    for side in ("source", "target"):
        if len({row[side] for row in rows}) == 1:
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
