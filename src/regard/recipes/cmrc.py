"""CMRC 2018 (Cui et al. 2019, D19-1600): Chinese questions about paragraphs of Wikipedia.

The large training file is not needed: what is learnt from are the questions of ``dev``, what is tested on those of
``trial``. That is no standard use; figures of papers are of models that learnt from three times as many.
"""

from pathlib import Path

from regard.data.batching import Batching
from regard.data.questions import Questions
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.recipe import Recipe
from regard.tasks.extract import ExtractSettings
from regard.training.loop import Training
from regard.training.optimisation import Optimisation


def cmrc(data: Path) -> Recipe:
    """Characters as tokens, read in both directions; small, for little is there to learn from."""
    encoder = {"cell": "gru", "layers": 1}
    model = {"kind": "rnn", "width": 128, "dropout": 0.4, "encoder": encoder, "decoder": {"kind": "pool"}}
    return Recipe(
        task=ExtractSettings(longest=40, window=400),
        data=Questions(train=(str(data / "dev.jsonl.gz"),), test=(str(data / "trial.jsonl.gz"),), dev_rows=200),
        vocabulary=Vocabulary(size=6000, split_han=True),
        model=model,
        batching=Batching(tokens=8192),
        training=Training(
            steps=1000, precision="fp32", evaluate_every=100, optimisation=Optimisation(learning_rate=3e-3, warmup=100)
        ),
        search=Search(),
    )
