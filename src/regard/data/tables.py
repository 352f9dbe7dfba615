"""Data files of any supported form as one table of text.

========================  ==============================================================================================
``.tsv``                  one row a line, cells between tabs; there is no quoting, a ``"`` is a character
``.csv``                  RFC 4180
``.jsonl`` ``.json``      one object a line; numbers, true and false as they are written, null as an empty cell
any other, ``.txt`` too   line n of one file belongs to line n of the others; one file alone is one column
========================  ==============================================================================================

Each may end in ``.gz``. Files are UTF-8, with or without a byte order mark, or UTF-16 with one. Only ``\\n`` ends a
line, and one ``\\r`` before it is dropped. A bad row is dropped whole and counted, so that its neighbours never shift.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple, TypeVar

from regard.data.lines import lines, without_gz
from regard.data.objects import BLANK, objects
from regard.data.times import form_of
from regard.errors import DataError, listed

# What a column may be called, most telling name first, in lower case; these words make a first line a header.
SOURCE_NAMES = tuple(
    "source src input question sentence text review document article content 源 原文 问题 文本".split()
)
LABEL_NAMES = tuple("label class category sentiment 标签 类别".split())
TARGET_NAMES = tuple("target tgt trg output answer translation summary reference 目标 译文 答案".split()) + LABEL_NAMES
QUESTION_NAMES = tuple("question query source 问题".split())
PASSAGE_NAMES = tuple("passage context paragraph story 段落 篇章 文章".split())
ANSWER_NAMES = tuple("answers answer target 答案".split())
START_NAMES = tuple("starts start answer_start offset".split())
TAG_NAMES = tuple("tag lang language locale target_language target_lang tgt_lang 语言".split())
PATH_NAMES = tuple("path file image picture photo audio sound recording 图片 音频".split())
OTHER_NAMES = tuple("id index score split domain license attribution comment date time".split())
LANGUAGES = frozenset(
    """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el
    en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia ie ig ii ik io is it iu ja
    jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb
    nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq
    sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu ara
    ces cmn deu eng fra hin ind ita jpn kor nld pol por rus spa tur ukr vie yue zho
    """.split()
)

MOST_LISTED = 8
SEEN = 100_000
"""Rows at the beginning of a file by which its form is judged."""

SEEN_CHARACTERS = 1 << 26
"""Characters of these rows, at most."""

RETURN = "\ufdd2"
"""What the reader of CSV sees for a carriage return within a line, at which it would stop."""

_NUMBER = re.compile(r"[-+]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?%?", re.IGNORECASE)


Cells = tuple[str, ...]
Record = TypeVar("Record", Cells, list[str], dict[str, str])
Stream = Callable[[Counter[str]], Iterator[Cells]]


class Table(NamedTuple):
    """Rows of cells, all of one width, of a file that may be larger than memory.

    ``name`` is for messages. ``columns`` are named by the data if ``named``, and otherwise "1", "2", ...
    ``rows`` are the first and ``dropped`` counts the bad ones among them by reason; ``stream`` reads all rows and adds
    what it drops to a counter.
    """

    name: str
    columns: Cells
    named: bool
    rows: list[Cells]
    dropped: Counter[str]
    stream: Stream

    def column(self, name: str) -> list[str]:
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def numbered(self, dropped: Counter[str]) -> Iterator[tuple[int, Cells]]:
        """All rows, and which of the file's rows each is, from 1 on and without the header."""
        before = dropped.total()
        for number, cells in enumerate(self.stream(dropped), start=1):
            yield number + dropped.total() - before, cells


def _table(name: str, columns: Cells, named: bool, stream: Stream) -> Table:
    dropped = Counter[str]()
    rows = list(_sample(stream(dropped)))
    return Table(name, columns, named, rows, dropped, stream)


def _sample(rows: Iterator[Record]) -> Iterator[Record]:
    """The first rows, fewer where they are long."""
    room = SEEN_CHARACTERS
    for row in islice(rows, SEEN):
        yield row
        room -= sum(map(len, row.values() if isinstance(row, dict) else row))
        if room < 0:
            return


def read_table(paths: Sequence[Path]) -> Table:
    """One table from one file, or from several that are aligned line by line.

    Raises:
        DataError: a file is missing, empty, unreadable, not text or not of its form, or line counts differ.
    """
    if len(paths) == 1 and is_whole_table(paths[0]):
        return WHOLE_TABLES[without_gz(paths[0]).suffix.lower()](paths[0])
    if any(map(is_whole_table, paths)):
        raise DataError(
            f"{len(paths)} files, and at least one is a whole table of its own",
            where=_name(paths),
            hint="give one .tsv, .csv or .jsonl, or several files aligned line by line (train.en train.de)",
        )
    return _from_aligned(paths)


def is_whole_table(path: Path) -> bool:
    """Whether a file is a table of its own, by its name, and not one side of several."""
    return without_gz(path).suffix.lower() in WHOLE_TABLES


def table_in(path: str) -> str:
    """The one table of a folder, as beside the sounds or pictures that its rows name; anything else as it is.

    Raises:
        DataError: the folder has several tables.
    """
    folder = Path(path)
    try:
        tables = sorted(one.name for one in folder.iterdir() if _is_table_of_folder(one)) if folder.is_dir() else []
    except OSError:  # who reads it will say so
        return path
    if len(tables) > 1:
        hint = f"give one of them: {folder / tables[0]}"
        raise DataError(f"a folder with several tables: {listed(tables, MOST_LISTED)}", where=path, hint=hint)
    return str(folder / tables[0]) if tables else path


def _is_table_of_folder(path: Path) -> bool:
    return is_whole_table(path) and path.is_file() and not path.name.startswith(".")


def is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None


def is_language(name: str) -> bool:
    """A language code, alone or with a script or region: ``en``, ``zh-Hans``, ``pt_BR``."""
    return re.split("[-_]", name.strip().lower())[0] in LANGUAGES


def _name(paths: Iterable[Path]) -> str:
    return " + ".join(str(path) for path in paths)


def _from_tsv(path: Path) -> Table:
    return _from_cells(path, lambda: (line.split("\t") for line in lines(path)))


def _from_csv(path: Path) -> Table:
    csv.field_size_limit(2**31 - 1)  # a cell may be long: what is too long is for the caller to say
    return _from_cells(path, lambda: _csv_rows(path))


def _csv_rows(path: Path) -> Iterator[list[str]]:
    reader = csv.reader((line.replace("\r", RETURN) + "\n" for line in lines(path)), strict=True)
    begun = 1
    try:
        for row in reader:
            yield [cell.replace(RETURN, "\r") for cell in row]
            begun = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"the row that begins here is not CSV: {error}",
            where=f"{path}:{begun}",
            hint='close every quote and write "" for a quote inside, or save as .tsv, where quotes are characters',
        ) from None


def _from_cells(path: Path, read: Callable[[], Iterator[list[str]]]) -> Table:
    width, columns, named = _judge(path, [tuple(row) for row in _sample(read()) if not _is_blank(row)])

    def stream(dropped: Counter[str]) -> Iterator[Cells]:
        rows = _of_width(width, read(), dropped)
        return islice(rows, 1, None) if named else rows

    return _table(str(path), columns, named, stream)


def _judge(path: Path, full: list[Cells]) -> tuple[int, Cells, bool]:
    """How wide the rows of a file are, what their columns are called, and whether its first row says so."""
    width = Counter(map(len, full)).most_common(1)[0][0] if full else 0
    if width < 2:
        found = "one column: which is the other side?" if full else "nothing but blank lines"
        hint = "the columns of a .tsv are parted by tabs, those of a .csv by commas"
        raise DataError(found, where=str(path), hint=hint)
    first, *others = (row for row in full if len(row) == width)
    named = _is_header(first, others)
    return width, tuple(cell.strip() for cell in first) if named else _numbers(width), named


def _is_blank(row: list[str]) -> bool:
    return len(row) < 2 and not "".join(row).strip()


def _of_width(width: int, rows: Iterator[list[str]], dropped: Counter[str]) -> Iterator[Cells]:
    for row in rows:
        if len(row) == width:
            yield tuple(row)
        else:
            dropped[BLANK if _is_blank(row) else "wrong number of columns"] += 1


def _is_header(first: Cells, others: list[Cells]) -> bool:
    """Two known names that never recur below them, or a name above nothing but numbers or times."""
    names = [cell.strip().lower() for cell in first]
    if len(set(names)) < len(names):
        return False
    by_name = sum(map(_is_known, names)) >= 2 and not any(
        name == cell.strip().lower() for row in others for name, cell in zip(names, row, strict=True)
    )
    return by_name or any(_names_figures(name, others, place) for place, name in enumerate(names))


def _is_known(name: str) -> bool:
    known = SOURCE_NAMES + TARGET_NAMES + TAG_NAMES + PASSAGE_NAMES + PATH_NAMES + OTHER_NAMES
    return name in known or is_language(name)


def _names_figures(name: str, others: list[Cells], place: int) -> bool:
    """A column of numbers or times with a name above them that is neither; some may be missing."""
    if not name or _is_figure(name):
        return False
    cells = [row[place] for row in others if row[place].strip()]
    return len(cells) >= 3 and all(map(_is_figure, cells))


def _is_figure(cell: str) -> bool:
    return is_number(cell) or form_of(cell) is not None


def _numbers(width: int) -> Cells:
    return tuple(str(number) for number in range(1, width + 1))


def _from_json(path: Path) -> Table:
    """Its columns are the keys that most of the first objects have; what a row does not have is empty."""
    dropped, seen, found = Counter[str](), Counter[str](), 0
    for cells in _sample(objects(path, dropped)):
        seen.update(cells.keys())
        found += 1
    if not found:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.most_common(3))
        hint = 'each line is one object with the same keys: {"source": "...", "target": "..."}'
        raise DataError(f"no line can be used: {reasons}", where=str(path), hint=hint)
    columns = tuple(name for name, count in seen.items() if 2 * count >= found)

    def stream(dropped: Counter[str]) -> Iterator[Cells]:
        return (tuple(cells.get(column, "") for column in columns) for cells in objects(path, dropped))

    return _table(str(path), columns, True, stream)


def _from_aligned(paths: Sequence[Path]) -> Table:
    def stream(_: Counter[str]) -> Iterator[Cells]:
        for row in zip_longest(*(lines(path) for path in paths)):
            if None in row:
                raise _unequal(paths)
            yield row

    columns = _names_of_files(paths)
    return _table(_name(paths), columns or _numbers(len(paths)), bool(columns), stream)


WHOLE_TABLES = {".tsv": _from_tsv, ".csv": _from_csv, ".json": _from_json, ".jsonl": _from_json}


def _unequal(paths: Sequence[Path]) -> DataError:
    counts = ", ".join(f"{path} has {sum(1 for _ in lines(path)):,}" for path in paths)
    hint = "line n of one file must belong to line n of the others; nothing was paired"
    return DataError(f"line counts differ: {counts}", where=_name(paths), hint=hint)


def _names_of_files(paths: Sequence[Path]) -> Cells:
    """What tells the files' names apart, seen from the end: en and de of train.en.txt and train.de.txt."""
    parts = [without_gz(path).name.split(".") for path in paths]
    while len(paths) > 1 and all(parts) and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    names = tuple(part[-1] for part in parts if part)
    return names if len(set(names)) == len(paths) else ()
