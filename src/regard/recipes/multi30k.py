"""Multi30k (Elliott et al. 2016, W16-3210): image captions, English to German, on the raw text."""

from pathlib import Path
from typing import Any

from regard.data.batching import Batching
from regard.data.corpus import Files
from regard.data.tokenisers import Vocabulary
from regard.models.model import ModelSettings
from regard.recipe import Recipe
from regard.training.loop import Training
from regard.training.optimisation import Optimisation


def multi30k_en_de(data: Path) -> Recipe:
    """A Transformer of the size that fits (Wu et al. 2021, arXiv 2105.14462): 4 + 4 layers, width 128."""
    side = {"layers": 4, "heads": 4, "feedforward": 256}
    model = {"kind": "transformer", "width": 128, "dropout": 0.3, "encoder": side, "decoder": side}
    return _recipe(data, model, Optimisation(learning_rate=5e-3, warmup=2000))


def multi30k_en_de_rnn(data: Path) -> Recipe:
    """A bidirectional GRU and a GRU with additive attention (Bahdanau et al. 2015, arXiv 1409.0473)."""
    model = {"kind": "rnn", "width": 256, "dropout": 0.3}
    return _recipe(data, model, Optimisation(learning_rate=2e-3, warmup=500))


def _recipe(data: Path, model: dict[str, Any], optimisation: Optimisation) -> Recipe:
    def pair(name: str, ending: str = "") -> tuple[str, str]:
        return str(data / f"{name}.en{ending}"), str(data / f"{name}.de{ending}")

    return Recipe(
        data=Files(train=pair("train", ".gz"), dev=pair("val"), test=pair("test_2016_flickr")),
        vocabulary=Vocabulary(size=8000),
        model=ModelSettings.model_validate(model),
        batching=Batching(tokens=2048),
        training=Training(steps=8000, optimisation=optimisation),
    )
