"""Numbers written by hand, read digit by digit: pictures as the source of Generate."""

from pathlib import Path

from regard.data.batching import Batching
from regard.data.digit_strips import HEIGHT, DigitStrips
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.recipe import Recipe
from regard.tasks.generate import GenerateSettings
from regard.tasks.sources import PictureSource
from regard.training.loop import Training
from regard.training.optimisation import Optimisation


def digit_strips(data: Path) -> Recipe:
    """Two convolutions and a small Transformer, whose attention walks over the strip; minutes on two cores.

    Batches are small, for it takes many updates to find out where to look, and few to read what is there.
    """
    side = {"layers": 2, "heads": 4, "feedforward": 256, "attention_dropout": 0.0}
    model = {"kind": "transformer", "width": 64, "dropout": 0.0, "encoder": side, "decoder": side}
    return Recipe(
        task=GenerateSettings(
            source=PictureSource(height=HEIGHT, stem=16), label_smoothing=0.0, metric="character_error_rate"
        ),
        data=DigitStrips(folder=str(data)),
        vocabulary=Vocabulary(kind="characters"),
        model=model,
        batching=Batching(tokens=1024),
        training=Training(
            steps=5000,
            precision="fp32",
            evaluate_every=500,
            checkpoint_every=500,
            dev_rows=250,
            optimisation=Optimisation(learning_rate=2e-3, warmup=200, schedule="cosine", ema_decay=0.99),
        ),
        search=Search(),
    )
