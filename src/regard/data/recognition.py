"""What a file is for: the verb that its columns fit."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from regard.data.lines import lines, without_gz
from regard.data.objects import BLANK
from regard.data.tables import (
    LABEL_NAMES,
    OTHER_NAMES,
    PASSAGE_NAMES,
    QUESTION_NAMES,
    SOURCE_NAMES,
    TAG_NAMES,
    TARGET_NAMES,
    Table,
    is_number,
    is_whole_table,
    read_table,
)
from regard.data.times import TIME_NAMES, form_of
from regard.errors import DataError

FEW = 0.05
MOST_LABELS = 100
LONGEST_LABEL = 40
LEAST_ROWS = 20
TOKENS_PER_TAG = 4
LONGEST_SENTENCE = 200
BEGINNING = 1 << 16
"""Characters of a file that may be one JSON object."""
MEDIA = {"sound": (".wav", ".flac", ".ogg", ".mp3"), "picture": (".png", ".jpg", ".jpeg")}
"""How paths to them end."""
PICTURE, SOUND = (b"\x89PNG", b"\xff\xd8"), (b"fLaC", b"OggS", b"ID3")
BEGINNINGS = {
    ".wav": (b"RIFF",),
    **dict.fromkeys((".flac", ".ogg"), SOUND),
    **dict.fromkeys(MEDIA["picture"], PICTURE),
}
"""Of such files, whichever of the kinds that are read alike; those of MP3 begin in many ways."""


def recognise_files(paths: Sequence[Path]) -> str:
    """The verb of some files: of the first where each is a whole table of its own.

    Raises:
        DataError: they fit two verbs, or none, or cannot be read.
    """
    if _is_nested(paths[0]):
        return "extract"
    return recognise(read_table(paths[:1] if all(map(is_whole_table, paths)) else paths))


def _is_nested(path: Path) -> bool:
    """Whether it is of SQuAD's form, all one object."""
    if without_gz(path).suffix.lower() != ".json":
        return False
    read = 0
    for line in lines(path):
        if '"paragraphs"' in line[: BEGINNING - read]:
            return True
        read += len(line)
        if read >= BEGINNING:
            break
    return False


def recognise(table: Table) -> str:
    """``generate``, ``classify``, ``transcribe``, ``tag``, ``extract``, ``continue`` or ``forecast``.

    Raises:
        DataError: the table fits two verbs, or none.
    """
    if path := path_column(table):
        return _of_medium(table, path)
    if _is_tagged(table):
        return "tag"
    if _said_to_be(table, QUESTION_NAMES) and _said_to_be(table, PASSAGE_NAMES):
        return "extract"
    if len(table.columns) == 1:
        return _one_column(table)
    times = [name for name in table.columns if _has_times(table, name)]
    numbers = [name for name in table.columns if _mostly(table, name, is_number)]
    others = [name for name in table.columns if name not in (*times, *numbers)]
    if times and numbers and (not others or (len(others) == 1 and _repeats(table, others[0]))):
        return "forecast"
    if _said_to_be(table, SOURCE_NAMES) and _said_to_be(table, tuple(set(TARGET_NAMES) - set(LABEL_NAMES))):
        return "generate"
    if len(table.columns) == 2:
        return _two_columns(table)
    return "classify" if _is_text_with_label(table) else "generate"


def _repeats(table: Table, name: str) -> bool:
    """Whether a column can tell series apart: each value stands in several rows."""
    cells = table.column(name)
    return 2 * len(set(cells)) <= len(cells)


def _has_times(table: Table, name: str) -> bool:
    """Time stamps; years and seconds since 1970 only where the column is called so, for they are numbers too."""
    if table.named and name.strip().lower() in TIME_NAMES:
        return _mostly(table, name, lambda cell: form_of(cell) is not None)
    return _mostly(table, name, lambda cell: form_of(cell) is not None and not cell.strip().isdigit())


def medium_of(table: Table, name: str) -> str | None:
    """``sound`` or ``picture`` where a column has paths to them."""
    for medium, ends in MEDIA.items():
        if _mostly(table, name, partial(_ends, ends)):
            return medium
    return None


def _ends(ends: tuple[str, ...], cell: str) -> bool:
    return cell.lower().endswith(ends)


def begins_as_named(path: Path) -> bool:
    """Whether a file of sound or a picture begins as those of its name do.

    Raises:
        OSError: it cannot be read.
    """
    wanted = BEGINNINGS.get(path.suffix.lower(), (b"",))
    with path.open("rb") as file:
        return file.read(4).startswith(wanted)


def path_column(table: Table) -> str | None:
    """The first column of paths to sound or pictures."""
    return next((name for name in table.columns if medium_of(table, name)), None)


def medium_in(table: Table) -> str:
    """What its sources are: ``text``, or paths to ``sound`` or to a ``picture``."""
    path = path_column(table)
    return (medium_of(table, path) if path else None) or "text"


def _of_medium(table: Table, path: str) -> str:
    others = [name for name in table.columns if name != path]
    if _said_to_be(table, LABEL_NAMES) or (len(others) == 1 and is_label(table, others[0])):
        return "classify"
    return "transcribe" if medium_of(table, path) == "sound" else "generate"


def _one_column(table: Table) -> str:
    if not table.name.lower().removesuffix(".gz").endswith(".txt"):
        hint = "put source and target side by side in a .tsv, or give two line-aligned files: train.en train.de"
        raise DataError("one column: which is the other side?", where=table.name, hint=hint)
    if _mostly(table, table.columns[0], lambda line: "\t" in line):
        hint = "name the file .tsv if they are pairs, or say --task continue"
        raise DataError("a .txt file with a tab in its lines: pairs or one text?", where=table.name, hint=hint)
    return "continue"


def _two_columns(table: Table) -> str:
    labels = [is_label(table, name) for name in table.columns]
    if all(labels) and not _said_to_be(table, LABEL_NAMES):
        hint = "say which: --task classify or --task generate"
        raise DataError("both columns repeat a few values: labels or pairs?", where=table.name, hint=hint)
    return "classify" if any(labels) else "generate"


def _is_text_with_label(table: Table) -> bool:
    """By their names: a label, and one column that is neither a tag nor beside the point."""
    if not _said_to_be(table, LABEL_NAMES):
        return False
    return sum(name.lower() not in (*LABEL_NAMES, *TAG_NAMES, *OTHER_NAMES) for name in table.columns) == 1


def _is_tagged(table: Table) -> bool:
    """Tokens without blanks and one of few tags on each line, and blank lines between sentences."""
    if len(table.columns) == 1:
        lines = [cell.split() for (cell,) in table.rows]
    else:
        lines = [[*row] for row in table.rows] + [[]] * table.dropped[BLANK]
    tokens = [line for line in lines if line]
    blanks = len(lines) - len(tokens)
    widths = {len(line) for line in tokens}
    if blanks < 2 or blanks * LONGEST_SENTENCE < len(tokens) or len(widths) != 1 or widths == {1}:
        return False
    few_tags = len({line[-1] for line in tokens}) * TOKENS_PER_TAG <= len(tokens)
    return few_tags and all(cell.split() == [cell] for line in tokens for cell in line)


def is_label(table: Table, name: str) -> bool:
    """A column of few distinct short values over many rows."""
    cells = table.column(name)
    distinct = set(cells)
    few = max(2, min(MOST_LABELS, FEW * len(cells)))
    return len(cells) >= LEAST_ROWS and 2 <= len(distinct) <= few and max(map(len, distinct)) <= LONGEST_LABEL


def _mostly(table: Table, name: str, fits: Callable[[str], bool]) -> bool:
    cells = table.column(name)[:1000]
    return sum(map(fits, cells)) > 0.9 * len(cells)


def _said_to_be(table: Table, names: tuple[str, ...]) -> bool:
    return table.named and any(name.lower() in names for name in table.columns)
