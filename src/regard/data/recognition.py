"""What a file is for: the verb that its columns fit."""

from collections.abc import Callable

from regard.data.tables import LABEL_NAMES, SOURCE_NAMES, TARGET_NAMES, Table, is_number, is_time
from regard.errors import DataError

FEW = 0.05
MOST_LABELS = 100
LONGEST_LABEL = 40
LEAST_ROWS = 20
MEDIA = (".wav", ".flac", ".mp3", ".png", ".jpg", ".jpeg")


def recognise(table: Table) -> str:
    """``generate``, ``classify``, ``tag``, ``continue`` or ``forecast``.

    Raises:
        DataError: the table fits two verbs, or none.
    """
    if any(_mostly(table, name, lambda cell: cell.lower().endswith(MEDIA)) for name in table.columns):
        raise DataError("a column of paths to sound or pictures: reading those comes later", where=table.name)
    if len(table.columns) == 1:
        return _one_column(table)
    times = [name for name in table.columns if _mostly(table, name, is_time)]
    numbers = [name for name in table.columns if _mostly(table, name, is_number)]
    if times and numbers and len(times) + len(numbers) >= len(table.columns) - 1:
        return "forecast"
    if _said_to_be(table, SOURCE_NAMES) and _said_to_be(table, tuple(set(TARGET_NAMES) - set(LABEL_NAMES))):
        return "generate"
    if len(table.columns) == 2 and (_is_label(table, 0) or _is_label(table, 1)):
        return "classify"
    return "generate"


def _one_column(table: Table) -> str:
    if table.name.removesuffix(".gz").endswith((".tsv", ".csv", ".json", ".jsonl")):
        hint = "put source and target side by side, or give two line-aligned files"
        raise DataError("one column: which is the other side?", where=table.name, hint=hint)
    cells = [cell for (cell,) in table.rows]
    words = [cell.split() for cell in cells if cell.strip()]
    is_conll = any(not cell.strip() for cell in cells) and len({len(one) for one in words}) == 1 and len(words[0]) > 1
    return "tag" if is_conll else "continue"


def _is_label(table: Table, place: int) -> bool:
    """Few distinct short values over many rows."""
    cells = [row[place] for row in table.rows]
    distinct = set(cells)
    few = max(2, min(MOST_LABELS, FEW * len(cells)))
    return len(cells) >= LEAST_ROWS and len(distinct) <= few and max(map(len, distinct)) <= LONGEST_LABEL


def _mostly(table: Table, name: str, fits: Callable[[str], bool]) -> bool:
    cells = table.column(name)[:1000]
    return sum(map(fits, cells)) > 0.9 * len(cells)


def _said_to_be(table: Table, names: tuple[str, ...]) -> bool:
    return table.named and any(name.lower() in names for name in table.columns)
