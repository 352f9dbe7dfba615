"""The embedded default: dates as people write them in many languages, to ISO 8601."""

from regard.data.batching import Batching
from regard.data.dates import Dates
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.recipe import Recipe
from regard.tasks.generate import GenerateSettings
from regard.training.loop import Training
from regard.training.optimisation import Optimisation


def dates() -> Recipe:
    """Small enough for a minute on two cores; the number of steps is fixed, so every machine gets the same model."""
    side = {"layers": 2, "heads": 4, "feedforward": 256, "attention_dropout": 0.0}
    model = {"kind": "transformer", "width": 64, "dropout": 0.0, "encoder": side, "decoder": side}
    return Recipe(
        task=GenerateSettings(label_smoothing=0.0, metric="exact_match"),
        data=Dates(),
        vocabulary=Vocabulary(size=3000, split_digits=True),
        model=model,
        batching=Batching(tokens=1024),
        training=Training(
            steps=2000,
            precision="fp32",
            evaluate_every=250,
            checkpoint_every=1000,
            dev_rows=250,
            optimisation=Optimisation(learning_rate=4e-3, warmup=200, schedule="cosine", ema_decay=0.99),
        ),
        search=Search(),
    )
