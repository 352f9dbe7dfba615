"""The Free Spoken Digit Dataset: words read off a recurrent encoder by connectionist temporal classification.

``spoken-digits`` has one digit in each row, ``spoken-digit-strings`` two to five; ``--set data.unseen_speaker=theo``
keeps one speaker for testing.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from regard.data.audio import Frames, Voices
from regard.data.batching import Batching
from regard.data.speech import SpokenDigits
from regard.decoding.search import Search
from regard.recipe import Recipe
from regard.tasks.sources import SoundSource
from regard.tasks.transcribe import TranscribeSettings
from regard.training.loop import Training
from regard.training.optimisation import Optimisation

RATE = 8000


def spoken_digits() -> dict[str, Callable[[Path], Recipe]]:
    """Every recipe of this data by name."""
    return {"spoken-digits": partial(_recipe, False), "spoken-digit-strings": partial(_recipe, True)}


def _recipe(strings: bool, data: Path) -> Recipe:
    """Two bidirectional GRU layers, width 128; six speakers are few, so that other voices say the same in training."""
    model = {"kind": "rnn", "width": 128, "dropout": 0.2, "encoder": {"layers": 2}, "decoder": {"kind": "aligned"}}
    return Recipe(
        task=TranscribeSettings(source=SoundSource(frames=Frames(rate=RATE), voices=Voices()), units="words"),
        data=SpokenDigits(folder=str(data), strings=strings),
        model=model,
        batching=Batching(tokens=1024 if strings else 512),
        training=Training(
            steps=5000,
            precision="fp32",
            evaluate_every=250,
            checkpoint_every=1000,
            dev_rows=300,
            optimisation=Optimisation(learning_rate=3e-3, warmup=200, schedule="cosine", ema_decay=0.99),
        ),
        search=Search(),
    )
