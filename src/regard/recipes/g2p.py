"""Words to phones: SIGMORPHON 2021, task 1 (Ashby et al. 2021, 2021.sigmorphon-1.13), with the official splits."""

from pathlib import Path

from regard.data.batching import Batching
from regard.data.pronunciations import Pronunciations
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.recipe import Recipe
from regard.tasks.generate import GenerateSettings
from regard.training.loop import Training
from regard.training.optimisation import Optimisation


def g2p(data: Path) -> Recipe:
    """A bidirectional GRU and a GRU with attention, by character, for any language: ``--set data.language=fre``.

    Of English there are four times as many words, from which a larger one learns more: ``--set model.width=256 --set
    model.dropout=0.2 --set training.steps=9500``.
    """
    model = {"kind": "rnn", "width": 192, "dropout": 0.3}
    return Recipe(
        task=GenerateSettings(label_smoothing=0.1, metric="word_error_rate"),
        data=Pronunciations(folder=str(data)),
        vocabulary=Vocabulary(kind="characters", split_hangul=True),
        model=model,
        batching=Batching(tokens=2048),
        training=Training(
            steps=3000,
            evaluate_every=250,
            optimisation=Optimisation(learning_rate=3e-3, warmup=200, schedule="cosine", ema_decay=0.99),
        ),
        search=Search(beam=5),
    )
