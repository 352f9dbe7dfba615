"""Sequence models with attention: train on your own pairs, see what the model looks at, run it anywhere."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "train"]

if TYPE_CHECKING:
    from regard.api import train
    from regard.predictor import load


def __getattr__(name: str) -> Any:
    """Public names are imported when first used: torch takes seconds, ``import regard`` must not."""
    if name == "train":
        from regard.api import train

        return train
    if name == "load":
        from regard.predictor import load

        return load
    raise AttributeError(f"module 'regard' has no attribute '{name}'")
