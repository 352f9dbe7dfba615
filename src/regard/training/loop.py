"""The training loop, readable top to bottom."""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from pydantic import Field

from regard.data.batching import Batching, Rows, epoch_batches
from regard.errors import RegardError
from regard.files import write_whole
from regard.randomness import seed_for
from regard.settings import Settings
from regard.tasks.encoded import Examples
from regard.training.checkpoints import Checkpoints, Standing
from regard.training.gradients import Gradients
from regard.training.objective import Objective
from regard.training.optimisation import Optimisation, Optimiser, diverged
from regard.training.precision import Precision
from regard.training.signals import Signals, StopRequested


class Training(Settings):
    """How long, how often, how exactly."""

    seed: int = Field(default=1, ge=0)
    steps: int = Field(default=8000, ge=1)
    accumulate: int = Field(default=1, ge=1, description="batches per update")
    evaluate_every: int = Field(default=500, ge=1)
    checkpoint_every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1, description="checkpoints on disk, beside the best weights")
    patience: int = Field(default=0, ge=0, description="evaluations without a better score before stopping; 0: never")
    dev_rows: int = Field(default=500, ge=1, description="dev rows that are translated at each evaluation")
    precision: Precision | Literal["measure"] = Field(default="measure", description="measure: planning decides")
    optimisation: Optimisation = Optimisation()


class Evaluated(NamedTuple):
    """What an evaluation found: scores by name, the one that decides (higher is better), and a few answers."""

    scores: dict[str, float]
    deciding: float
    samples: list[str]


@runtime_checkable
class Progress(Protocol):
    """Who watches."""

    def stepped(self, standing: Standing, steps: int, loss: float, tokens_per_second: float) -> None: ...

    def evaluated(self, standing: Standing, evaluated: Evaluated, best: bool) -> None: ...

    def message(self, text: str) -> None: ...


class Outcome(NamedTuple):
    """How training ended: where it stood, and why it stopped if before the last step."""

    standing: Standing
    stopped_early: bool


class Journal:
    """metrics.jsonl: one line per interval and evaluation; lines beyond where training stands are taken back."""

    EVERY = 50

    def __init__(self, path: Path, standing: Standing):
        self.path = path
        kept = [
            line
            for line in read_journal(path)
            if line["step"] <= (standing.evaluated if "samples" in line else standing.step)
        ]
        write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept).encode())

    def write(self, **values: Any) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl up to the first that a crash has cut off or damaged."""
    lines: list[dict[str, Any]] = []
    with contextlib.suppress(ValueError):
        for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
            lines.append(json.loads(line))
    return lines


@dataclass
class Loop:
    """One run: what is trained, on what, and where its state is kept."""

    objective: Objective
    examples: Examples
    settings: Training
    batching: Batching
    folder: Path
    evaluate: Callable[[Callable[[], None]], Evaluated]
    save_best: Callable[[], None]
    progress: Progress

    def __post_init__(self) -> None:
        self.gradients = Gradients(self.objective, self.examples, self.progress.message)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.settings.keep)
        self.optimiser = Optimiser(self.objective.model, self.settings.optimisation, self.settings.steps)
        self.standing = self._restore()
        self.gradients.parts = self.standing.parts
        if self.standing.step and not self._ended():
            self.progress.message(f"going on from step {self.standing.step}")
        self.journal = Journal(self.folder / "metrics.jsonl", self.standing)

    def run(self) -> Outcome:
        """Train until the last step or until patience ends.

        Raises:
            StopRequested: a signal arrived; the state was saved first.
            DivergedError: a loss or its gradient was not finite; the state before it was saved.
            InputError: memory does not hold a single row; the state before it was saved.
        """
        standing, settings = self.standing, self.settings
        batches = self._batches()
        started = time.perf_counter() - standing.seconds
        with Signals() as signals:
            try:
                while True:
                    if standing.step > standing.evaluated and self._due(settings.evaluate_every):
                        self._evaluate(signals)
                    ended = self._ended()
                    if ended or (standing.step and self._due(settings.checkpoint_every)):
                        self._save()
                    signals.check()
                    if ended:
                        return Outcome(standing, standing.step < settings.steps)
                    self._step(batches)
                    standing.seconds = time.perf_counter() - started
            except (StopRequested, RegardError, BrokenPipeError):  # the last: nobody reads our progress any more
                self._save()
                raise

    def _step(self, batches: Iterator[Rows]) -> None:
        """One update. Its randomness is a function of seed and step."""
        standing, settings = self.standing, self.settings
        position = standing.epoch, standing.batch
        self.objective.train()
        began = time.perf_counter()
        try:
            taken = [*islice(batches, settings.accumulate)]
            seed = seed_for(settings.seed, "step", standing.step)
            total, count = self.gradients.add_up(taken, settings.precision, seed)
            if not math.isfinite(total):
                raise diverged("loss", standing.step)
            self.optimiser.update(standing.step, count)
        except RegardError:
            standing.epoch, standing.batch = position
            raise
        standing.step, standing.parts = standing.step + 1, self.gradients.parts
        standing.tokens += count
        standing.loss_sum, standing.loss_count = standing.loss_sum + total, standing.loss_count + count
        if standing.step % Journal.EVERY == 0:
            self._log()
        self.progress.stepped(standing, settings.steps, total / count, count / (time.perf_counter() - began))

    def _log(self) -> None:
        standing, optimisation = self.standing, self.settings.optimisation
        self.journal.write(
            step=standing.step,
            loss=standing.loss_sum / standing.loss_count,
            learning_rate=optimisation.rate(standing.step - 1, self.settings.steps),
            tokens=standing.tokens,
        )
        standing.loss_sum, standing.loss_count = 0.0, 0

    def _evaluate(self, signals: Signals) -> None:
        standing = self.standing
        self.objective.eval()
        with self.optimiser.averaged(), torch.no_grad():
            found = self.evaluate(signals.check)
            best = standing.best is None or found.deciding > standing.best
            if best:
                self.save_best()
            if best and math.isfinite(found.deciding):  # nothing would ever be better than NaN
                standing.best, standing.best_step = found.deciding, standing.step
        standing.evaluated = standing.step
        self.journal.write(step=standing.step, **found.scores, samples=found.samples)
        self.progress.evaluated(standing, found, best)

    def _due(self, every: int) -> bool:
        return self.standing.step % every == 0 or self.standing.step >= self.settings.steps

    def _ended(self) -> bool:
        standing = self.standing
        done = self._out_of_patience() or standing.step >= self.settings.steps
        return done and standing.evaluated == standing.step

    def _out_of_patience(self) -> bool:
        waited = self.standing.evaluated - self.standing.best_step
        return bool(self.settings.patience) and waited >= self.settings.patience * self.settings.evaluate_every

    def _batches(self) -> Iterator[Rows]:
        """The rows of all batches from where training stands, epoch after epoch; the standing follows."""
        standing = self.standing
        while True:
            batches = epoch_batches(self.examples.lengths, self.batching, self.settings.seed, standing.epoch)
            for rows in islice(batches, standing.batch, None):
                standing.batch += 1
                yield rows
            standing.epoch, standing.batch = standing.epoch + 1, 0

    def _save(self) -> None:
        self.checkpoints.save(self.standing, self.optimiser.tensors())

    def _restore(self) -> Standing:
        standing, problems = self.checkpoints.restore(self.optimiser.restore)
        for problem in problems:
            self.progress.message(problem)
        if problems and not standing:
            self.progress.message("no other checkpoint is left: beginning again from step 0")
        return standing or Standing()
