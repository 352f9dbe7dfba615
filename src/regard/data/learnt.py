"""What was learnt from training rows and saved, read again."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regard.errors import RunError

LearntFile = Callable[[str, int], Path]
"""The path of a file by its name, if it is no larger than so many bytes and safe to read."""


def read_learnt(path: Path, what: str, fits: Callable[[Any], bool]) -> Any:
    """The value of a JSON file.

    Raises:
        RunError: it is missing, damaged or not ``what`` it must be.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_bytes())
        if fits(value):
            return value
    raise damaged(path, f"missing or damaged: no {what}")


def damaged(path: Path, message: str) -> RunError:
    """For a file that was learnt and cannot be read again."""
    return RunError(message, where=str(path), hint="fetch the whole folder again from where it comes, or train again")
