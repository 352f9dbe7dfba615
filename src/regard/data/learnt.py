"""What was learnt from training rows and saved as JSON, read again."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regard.errors import RunError


def read_learnt(path: Path, what: str, fits: Callable[[Any], bool]) -> Any:
    """The value of a file.

    Raises:
        RunError: it is missing, damaged or not ``what`` it must be.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_bytes())
        if fits(value):
            return value
    hint = "fetch the whole folder again from where it comes, or train again"
    raise RunError(f"missing or damaged: no {what}", where=str(path), hint=hint)
