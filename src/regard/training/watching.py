"""Watching training: a live bar on a terminal, plain lines otherwise, nothing when quiet."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from regard.metrics.names import shown
from regard.training.checkpoints import Standing
from regard.training.loop import Evaluated

EVERY_SECONDS = 10.0

Shown = tuple[str, str]
"""A row's source and target for people to read."""


class Quiet:
    """Sees nothing, says nothing."""

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, rows: Sequence[Shown]) -> None:
        pass

    def stepped(self, standing: Standing, steps: int, loss: float, tokens_per_second: float) -> None:
        pass

    def evaluated(self, standing: Standing, evaluated: Evaluated, best: bool) -> None:
        pass

    def message(self, text: str) -> None:
        pass


class Watcher:
    """Tells of training on ``stream``, or standard error; loss and speed forget with a half-life of about 14 steps."""

    def __init__(self, stream: TextIO | None = None):
        self.console = Console(file=stream, stderr=True, highlight=False, emoji=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.samples: Sequence[Shown] = ()
        self._task = self.bar.add_task("starting", total=None)
        self._loss: float | None = None
        self._speed = 0.0
        self._told = time.monotonic()

    def __enter__(self) -> "Watcher":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def show(self, rows: Sequence[Shown]) -> None:
        """The dev rows whose answers every evaluation brings."""
        self.samples = rows

    def stepped(self, standing: Standing, steps: int, loss: float, tokens_per_second: float) -> None:
        self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        self._speed = 0.95 * (self._speed or tokens_per_second) + 0.05 * tokens_per_second
        told = f"loss {self._loss:.3f}  {self._speed:,.0f} tokens/s"
        self.bar.update(self._task, total=steps, completed=standing.step, description=told)
        if not self.console.is_terminal and time.monotonic() - self._told > EVERY_SECONDS:
            self.message(f"step {standing.step}/{steps}  {told}")
            self._told = time.monotonic()

    def evaluated(self, standing: Standing, evaluated: Evaluated, best: bool) -> None:
        named = {name.removeprefix("dev_"): value for name, value in evaluated.scores.items()}
        scores = "  ".join(f"{name} {shown(name, value)}" for name, value in named.items())
        self.message(f"step {standing.step}  dev: {scores}{'  (best so far)' if best else ''}")
        for (source, target), answer in zip(self.samples, evaluated.samples, strict=False):
            right = "right" if answer == target else f"should be {target}"
            self.message(f"    {source}  ->  {answer}  ({right})")

    def message(self, text: str) -> None:
        self.console.print(text, markup=False)
