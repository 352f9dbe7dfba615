"""What a recipe begins as for plain files, before planning sizes it: one function a verb."""

from collections.abc import Callable
from typing import Any

from regard.data.corpus import Files
from regard.decoding.search import Search
from regard.models.model import ModelSettings
from regard.recipe import Recipe
from regard.tasks.classify import ClassifySettings


def generate(**files: Any) -> Recipe:
    """A Transformer from one column to another."""
    return Recipe(data=Files(**files))


def classify(**files: Any) -> Recipe:
    """The bidirectional LSTM with attention pooling: one layer, which small data does not teach by heart."""
    model = {"kind": "rnn", "encoder": {"cell": "lstm"}, "decoder": {"kind": "pool"}}
    data = Files(labels=True, **files)
    return Recipe(task=ClassifySettings(), data=data, model=ModelSettings.model_validate(model), search=Search())


VERBS: dict[str, Callable[..., Recipe]] = {"generate": generate, "classify": classify}
"""Called with the files and columns that were given, as `Files` takes them."""
