"""Which columns of a table are the source, the target and the tag."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from regard.data.recognition import begins_as_named, is_label, medium_of, path_column
from regard.data.rows import Row
from regard.data.tables import MOST_LISTED, OTHER_NAMES, SOURCE_NAMES, TAG_NAMES, TARGET_NAMES, Table
from regard.errors import DataError, did_you_mean, listed


class Columns(NamedTuple):
    """Which column plays which role."""

    source: str
    target: str
    tag: str | None = None


def by_role(table: Table, columns: Columns, dropped: Counter[str], folder: Path) -> Iterator[Row]:
    """Rows by role, outer whitespace taken off; a source that is a path to sound or a picture is below a folder.

    Raises:
        DataError: there is no file at such a path, or it is not what its name says.
    """
    roles = {role: table.columns.index(name) for role, name in columns._asdict().items() if name is not None}
    paths = medium_of(table, columns.source) is not None
    for number, cells in table.numbered(dropped):
        row = {role: cells[place].strip() for role, place in roles.items()}
        if paths and row["source"]:
            row["source"] = _located(folder / row["source"], row["source"], f"{table.name}, row {number}")
        yield row


def _located(path: Path, given: str, where: str) -> str:
    if not _is_there(path):
        raise DataError(f"no file '{given}'", where=where, hint="paths in a table are relative to its folder")
    try:
        fits = not path.is_file() or begins_as_named(path)
    except OSError as error:
        hint = "check its permissions"
        raise DataError(f"'{given}' cannot be read: {error.strerror}", where=where, hint=hint) from None
    if not fits:
        hint = f"write it anew as {path.suffix}, or leave the row out"
        raise DataError(f"'{given}' is no {path.suffix} file: it does not begin like one", where=where, hint=hint)
    return str(path)


def _is_there(path: Path) -> bool:
    """Whether there is such a file, or an archive that it may be in."""
    try:
        return path.is_file() or any(one.suffix.lower() == ".zip" and one.is_file() for one in path.parents)
    except OSError:  # longer than names can be
        return False


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
    source = source or path_column(table) or _named(table, SOURCE_NAMES, target, tag)
    target = target or _named(table, TARGET_NAMES, source, tag)
    source, target = _by_place(table, source, target, _free(table, source, target, tag))
    if len({source, target, tag}) < 3:
        hint = "name different columns with --source, --target and --tag"
        raise DataError("one column cannot be two of source, target and tag", where=table.name, hint=hint)
    return Columns(source, target, tag)


def _free(table: Table, source: str | None, target: str | None, tag: str | None) -> list[str]:
    """What may be the source or the target: none that is called otherwise, if there are enough others."""
    free = [name for name in table.columns if name != tag]
    if len(free) < 3 or not table.named:
        return free
    telling = [name for name in free if name in (source, target) or name.lower() not in OTHER_NAMES]
    return telling if len(telling) > 1 else free


def _by_place(table: Table, source: str | None, target: str | None, free: Sequence[str]) -> tuple[str, str]:
    """What names leave open: of two columns the second is the target, unless the first one is a label."""
    if source and target:
        return source, target
    if len(free) < 2:
        hint = "a tab (.tsv) or a comma (.csv) must stand between source and target"
        raise DataError("one column: which is the other side?", where=table.name, hint=hint)
    if len(free) > 2:
        first, second = [name for name in free if name not in (source, target)][:2]
        hint = f"say which, for example: --source {source or first} --target {target or (first if source else second)}"
        raise DataError(f"{len(free)} columns of text: {listed(free, MOST_LISTED)}", where=table.name, hint=hint)
    first, second = free
    label_first = not (source or target) and is_label(table, first) and not is_label(table, second)
    return (second, first) if label_first or source == second or target == first else (first, second)


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
