"""Multi30k (Elliott et al. 2016, W16-3210): image captions in English, German and French.

``multi30k-en-de`` trains on the raw text; ``-tok`` on the same sentences normalised, lower-cased and tokenised, on
which papers score; ``-rnn`` is the recurrent model. All can be named for en-de, de-en and en-fr.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from regard.data.batching import Batching
from regard.data.pairs import Files
from regard.data.tokenisers import Vocabulary
from regard.recipe import Recipe
from regard.training.loop import Training
from regard.training.optimisation import Optimisation

DIRECTIONS = ("en-de", "de-en", "en-fr")


def multi30k() -> dict[str, Callable[[Path], Recipe]]:
    """Every recipe of this data by name."""
    models = {"": transformer, "-rnn": recurrent}
    return {
        f"multi30k-{direction}{text}{ending}": partial(model, direction, text == "-tok")
        for direction in DIRECTIONS
        for text in ("", "-tok")
        for ending, model in models.items()
    }


def transformer(direction: str, tokenised: bool, data: Path) -> Recipe:
    """A Transformer of the size that fits (Wu et al. 2021, arXiv 2105.14462): 4 + 4 layers, width 128."""
    side = {"layers": 4, "heads": 4, "feedforward": 256, "attention_dropout": 0.0}
    model = {"kind": "transformer", "width": 128, "dropout": 0.3, "encoder": side, "decoder": side}
    optimisation = Optimisation(learning_rate=5e-3, warmup=2000)
    return _recipe(_files(direction, tokenised, data), model, Batching(tokens=4096), optimisation)


def recurrent(direction: str, tokenised: bool, data: Path) -> Recipe:
    """A bidirectional GRU and a GRU with additive attention (Bahdanau et al. 2015, arXiv 1409.0473)."""
    model = {"kind": "rnn", "width": 256, "dropout": 0.3}
    optimisation = Optimisation(learning_rate=2e-3, warmup=500)
    return _recipe(_files(direction, tokenised, data), model, Batching(tokens=2048), optimisation)


def _files(direction: str, tokenised: bool, data: Path) -> Files:
    source, target = direction.split("-")
    folder, form = (data / "tok", ".lc.norm.tok") if tokenised else (data, "")

    def pair(name: str, ending: str = "") -> tuple[str, str]:
        return str(folder / f"{name}{form}.{source}{ending}"), str(folder / f"{name}{form}.{target}{ending}")

    return Files(train=pair("train", ".gz"), dev=pair("val"), test=pair("test_2016_flickr"))


def _recipe(files: Files, model: dict[str, Any], batching: Batching, optimisation: Optimisation) -> Recipe:
    return Recipe(
        data=files,
        vocabulary=Vocabulary(size=8000),
        model=model,
        batching=batching,
        training=Training(steps=8000, optimisation=optimisation),
    )
