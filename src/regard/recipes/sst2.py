"""Sentiment, from the training rows alone, without vectors of words from elsewhere.

``sst2`` is the Stanford Sentiment Treebank's whole sentences, positive or negative (Socher et al. 2013, D13-1170);
``chnsenticorp`` is Chinese reviews of hotels, books and computers (Tan and Zhang 2008). ``-transformer`` reads either
with a Transformer in place of the LSTM. Test rows that stand in training are left out of it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from regard.data.batching import Batching
from regard.data.pairs import Files
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.recipe import Recipe
from regard.tasks.classify import ClassifySettings
from regard.training.loop import Training
from regard.training.optimisation import Optimisation

DATA = {"sst2": ("train.tsv", False), "chnsenticorp": ("train.tsv.gz", True)}
"""The file to train on, and whether it is Chinese."""

LSTM = {"kind": "rnn", "cell": "lstm"}
TRANSFORMER = {"kind": "transformer", "layers": 1, "heads": 4, "feedforward": 64, "positions": {"kind": "none"}}


def sentiment() -> dict[str, Callable[[Path], Recipe]]:
    """Every recipe of these data by name."""
    return {
        f"{name}{ending}": partial(_recipe, name, encoder)
        for name in DATA
        for ending, encoder in (("", LSTM), ("-transformer", TRANSFORMER))
    }


def _recipe(name: str, encoder: dict[str, Any], data: Path) -> Recipe:
    """One layer and attention pooling (Lin et al. 2017, arXiv 1703.03130)."""
    train, chinese = DATA[name]
    files = {"train": (str(data / train),), "dev": (str(data / "dev.tsv"),), "test": (str(data / "test.tsv"),)}
    model = {
        "kind": "rnn",
        "width": 32,
        "dropout": 0.5,
        "embedding": {"scaled": False},
        "encoder": encoder,
        "decoder": {"kind": "pool"},
    }
    return Recipe(
        task=ClassifySettings(word_dropout=0.5),
        data=Files(labels=True, max_characters=6000, **files),
        vocabulary=Vocabulary(kind="merges", size=12_000, split_han=chinese),
        model=model,
        batching=Batching(tokens=2048),
        training=Training(
            steps=2000,
            evaluate_every=100,
            dev_rows=1200,
            optimisation=Optimisation(learning_rate=3e-3, warmup=100, schedule="cosine"),
        ),
        search=Search(),
    )
