"""Runs that take a moment: how tests make, interrupt and compare them."""

import json
import os
import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from regard.data.corpus import Corpus
from regard.data.pairs import Files
from regard.errors import StoppedError
from regard.recipe import Recipe
from regard.run_folder import RunFolder
from regard.runner import Trained, learn_task, train_run
from regard.settings import override
from regard.tasks.task import Task
from regard.training.checkpoints import Standing
from regard.training.watching import Quiet

CPU = torch.device("cpu")
STEPS = 24
SMALL = [
    "vocabulary.size=300",
    "vocabulary.split_digits=true",
    "model.width=16",
    "model.dropout=0.1",
    "batching.tokens=128",
    f"training.steps={STEPS}",
    "training.accumulate=2",
    "training.evaluate_every=9",
    "training.checkpoint_every=10",
    "training.precision=fp32",
    "training.optimisation.warmup=4",
    "search.beam=1",
]
SIDES = [
    f"model.{side}.{setting}"
    for side in ("encoder", "decoder")
    for setting in ("layers=1", "heads=2", "feedforward=32", "attention_dropout=0.1")
]
SIZES = {"transformer": SMALL + SIDES, "rnn": SMALL}


def write_pairs(path: Path, rows: int, seed: int) -> Path:
    """Digits and the same digits backwards."""
    draw = random.Random(seed)
    texts = ["".join(draw.choices("0123456789", k=draw.randint(3, 8))) for _ in range(rows)]
    path.write_text(
        "".join(f"{one}\t{other}\n" for one, other in [("source", "target"), *((t, t[::-1]) for t in texts)])
    )
    return path


class Interrupting(Quiet):
    """Sends signals to this process when it is told of certain steps, once each, and remembers what it was told."""

    def __init__(self, *steps: int, signals: Sequence[int] = (signal.SIGINT,)):
        self.steps, self.signals = {*steps}, signals
        self.messages: list[str] = []
        self.seen: list[int] = []
        self.losses: list[tuple[float, int]] = []

    def stepped(self, standing: Standing, steps: int, loss: float, tokens_per_second: float) -> None:
        self.seen.append(standing.step)
        self.losses.append((loss, standing.tokens))
        if standing.step in self.steps:
            self.steps.remove(standing.step)
            self.strike()

    def strike(self) -> None:
        for number in self.signals:
            os.kill(os.getpid(), number)

    def message(self, text: str) -> None:
        self.messages.append(text)


class Crash(BaseException):
    """As sudden as a power cut: nothing in the package catches it."""


class Crashing(Interrupting):
    def strike(self) -> None:
        raise Crash


@dataclass(frozen=True)
class Small:
    """A run that takes a moment, and the folder of one that nothing interrupted."""

    recipe: Recipe
    corpus: Corpus
    task: Task
    folder: Path

    def train(self, folder: Path, progress: Quiet | None = None) -> Trained:
        return train_run(self.recipe, self.corpus, self.task, RunFolder(folder), progress or Quiet(), CPU)


def small(folder: Path, kind: str, *changes: str) -> Small:
    files = Files(
        train=(str(write_pairs(folder / "train.tsv", 300, seed=1)),),
        dev=(str(write_pairs(folder / "dev.tsv", 12, seed=2)),),
    )
    recipe = override(override(Recipe(data=files), [f"model.kind={kind}"]), [*SIZES[kind], *changes])
    corpus = recipe.data.load()
    return Small(recipe, corpus, learn_task(recipe, corpus), folder / "uninterrupted")


def command(made: Small, out: str, *changes: str) -> list[str]:
    """The words that make this run in a folder beside its data; what is changed last counts."""
    data, [dev] = made.folder.parent, made.recipe.data.model_dump()["dev"]
    kind = made.recipe.model.encoder.kind
    settings = [f"--set={one}" for one in (f"model.kind={kind}", *SIZES[kind], *changes)]
    return ["train", str(data / "train.tsv"), "--dev", dev, "--out", str(data / out), "--device", "cpu", *settings]


def uninterrupted(folder: Path, kind: str, *changes: str) -> Small:
    torch.set_num_threads(1)
    made = small(folder, kind, *changes)
    made.train(made.folder)
    return made


def stopped(made: Small, folder: Path, progress: Quiet | None = None) -> StoppedError:
    with pytest.raises(StoppedError) as caught:
        made.train(folder, progress)
    return caught.value


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").iterdir())


def standing(folder: Path) -> dict[str, Any]:
    return json.loads((newest(folder) / "standing.json").read_text())["standing"]


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run leaves behind, bit for bit, apart from how long it took."""
    names = ["model.safetensors", "metrics.jsonl", "recipe.yaml"]
    state = (newest(folder) / "state.safetensors").read_bytes()
    stood = standing(folder) | {"seconds": 0}
    return {name: (folder / name).read_bytes() for name in names} | {"state": state, "standing": stood}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}
