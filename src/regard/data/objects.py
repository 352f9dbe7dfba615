"""JSON lines: objects of text cells."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regard.data.lines import lines

BLANK = "blank line"

_NOT_TEXT = re.compile(r"[\0\ud800-\udfff]")


def objects(path: Path, dropped: Counter[str]) -> Iterator[dict[str, str]]:
    """The text cells of each line by key; lines that are no such objects are counted by reason."""
    for line in lines(path):
        try:
            yield _cells(line)
        except ValueError as reason:
            dropped[str(reason)] += 1


def _cells(line: str) -> dict[str, str]:
    """The text cells of one JSON object; raises ValueError with the reason why a line is none."""
    if not line.strip():
        raise ValueError(BLANK)
    try:
        # Figures stay as written: "1.50" is not 1.5 to someone who reads it, and huge ones cost nothing.
        row = json.loads(
            line, parse_int=str, parse_float=str, parse_constant=_refuse_constant, object_pairs_hook=_unique
        )
    except json.JSONDecodeError:
        raise ValueError("not JSON") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    if isinstance(row.get("translation"), dict):
        row = row["translation"]  # {"translation": {"en": ..., "de": ...}} is how Hugging Face writes a pair
    cells = {key: _as_text(value) for key, value in row.items() if not isinstance(value, dict | list)}
    if any(map(_NOT_TEXT.search, cells.values())):
        raise ValueError("NUL or half a character")
    if not cells:
        raise ValueError("no text in the object")
    return cells


def _as_text(value: str | bool | None) -> str:
    return value if isinstance(value, str) else {None: "", True: "true", False: "false"}[value]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key given twice")
    return row
