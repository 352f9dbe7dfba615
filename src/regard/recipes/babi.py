"""bAbI (Weston et al. 2015, arXiv 1502.05698): one model of all tasks whose answers stand in their stories."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from regard.data.babi import SPAN_TASKS, Babi
from regard.data.batching import Batching
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.recipe import Recipe
from regard.tasks.extract import ExtractSettings
from regard.training.loop import Training
from regard.training.optimisation import Optimisation


def babi() -> dict[str, Callable[[Path], Recipe]]:
    """Every recipe of this data by name."""
    return {"babi-1k": partial(_recipe, "1k"), "babi-10k": partial(_recipe, "10k")}


def _recipe(size: Literal["1k", "10k"], data: Path) -> Recipe:
    """A small Transformer with words as tokens, to which what stands near counts more (ALiBi)."""
    side = {"layers": 3, "heads": 4, "feedforward": 128, "attention_dropout": 0.0}
    encoder = side | {"positions": {"kind": "sum", "of": [{"kind": "rotary"}, {"kind": "alibi"}]}}
    decoder = side | {"layers": 1}
    model = {"kind": "transformer_today", "width": 64, "dropout": 0.1, "encoder": encoder, "decoder": decoder}
    return Recipe(
        task=ExtractSettings(longest=2, window=1600, metric="exact_match"),
        data=Babi(folder=str(data), size=size, tasks=SPAN_TASKS),
        vocabulary=Vocabulary(size=500),
        model=model,
        batching=Batching(tokens=4096),
        training=Training(
            steps=3000 if size == "1k" else 8000,
            precision="fp32",
            evaluate_every=500,
            checkpoint_every=1000,
            dev_rows=300,
            optimisation=Optimisation(learning_rate=3e-3, warmup=300, schedule="cosine"),
        ),
        search=Search(),
    )
