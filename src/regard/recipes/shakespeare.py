"""Tiny Shakespeare (Karpathy 2015, "The Unreasonable Effectiveness of Recurrent Neural Networks").

The usual split: the first nine tenths to learn from, the last to validate.
"""

from pathlib import Path

from regard.data.batching import Batching
from regard.data.text import Text
from regard.data.tokenisers import Vocabulary
from regard.decoding.sampling import Sampling
from regard.decoding.search import Search
from regard.recipe import Recipe
from regard.tasks.language import ContinueSettings
from regard.training.loop import Training
from regard.training.optimisation import Optimisation

CONTEXT = 128
"""Tokens of a training window, and how many each token can look back to in text of any length."""


def shakespeare(data: Path) -> Recipe:
    """A small Transformer as today's language models are, for a few minutes on two cores.

    A few hundred subwords: each step goes two to three characters further than ``--set vocabulary.kind=characters``.
    For longer there is ``--set training.steps=4000 --set model.dropout=0.1``.
    """
    decoder = {
        "layers": 4,
        "heads": 4,
        "feedforward": 344,
        "attention_dropout": 0.0,
        "attention": {"where": {"kind": "window", "back": CONTEXT - 1}},
    }
    model = {"kind": "decoder_only", "width": 128, "dropout": 0.0, "embedding": {"tied": "sides"}, "decoder": decoder}
    optimisation = Optimisation(
        learning_rate=4e-3, warmup=100, schedule="cosine", betas=(0.9, 0.99), weight_decay=0.1, ema_decay=0.99
    )
    return Recipe(
        task=ContinueSettings(context=CONTEXT),
        data=Text(train=(str(data / "input.txt"),), held_out=0.1, stretch=512),
        vocabulary=Vocabulary(size=800),
        model=model,
        batching=Batching(tokens=1024),
        training=Training(steps=1500, evaluate_every=500, optimisation=optimisation),
        search=Search(max_length=300, sampling=Sampling(temperature=0.8)),
    )
