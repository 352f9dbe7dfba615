"""Figures: matplotlib, where it is installed."""

import importlib
from typing import Any

from regard.errors import InputError


def plotting() -> Any:
    """Matplotlib with its figures.

    Raises:
        InputError: it is not installed.
    """
    try:
        importlib.import_module("matplotlib.figure")
        return importlib.import_module("matplotlib")
    except ImportError:
        raise InputError("plots need matplotlib, which is not installed", hint="pip install 'regard[plots]'") from None
