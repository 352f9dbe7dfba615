"""Evaluation: task + model + rows -> predictions and scores, beside answers that need no model."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from regard.data.batching import sorted_batches
from regard.data.rows import Row
from regard.decoding.search import Search
from regard.errors import DataError
from regard.models.model import Model
from regard.padded import Ids, Record, pad
from regard.tasks.task import Batch, Example, Prediction, Scores, Scoring, Task, collate, lengths_of

TOKENS = 4096
"""Source tokens decoded together, times beams."""


class Evaluation(NamedTuple):
    """Scores of a model and of the trivial baseline on the same rows, and the answers."""

    scores: Scores
    baseline: Scores
    predictions: list[Prediction]

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.predictions]


@runtime_checkable
class Judging(Protocol):
    """A task that is scored by what its model thinks of given targets, not by answers of its own."""

    def judge(self, model: Model, batch: Batch) -> list[Prediction]:
        """The targets as answers."""


def never_mind() -> None:
    """The check of an evaluation that nothing can interrupt."""


def source_of(task: Task, row: Row, number: int) -> Record:
    """A row's source as the model takes it.

    Raises:
        DataError: it has none that the task can read; the row is named by its number.
    """
    try:
        return task.source(row)
    except DataError as error:
        where = f"row {number}, {error.where}" if error.where else f"row {number}"
        raise DataError(error.message, where=where, hint=error.hint) from None


@torch.inference_mode()
def predict_rows(
    task: Task,
    model: Model,
    sources: Sequence[Record],
    search: Search,
    *,
    prefixes: Sequence[Ids] | None = None,
    check: Callable[[], None] = never_mind,
) -> list[Prediction]:
    """An answer for every source, in order. ``check`` is called between batches and may raise to stop."""
    device = next(model.parameters()).device
    lengths = np.array([[len(source)] for source in sources], dtype=np.int64).reshape(-1, 1)
    found: dict[int, Prediction] = {}
    for rows in sorted_batches(lengths, max(TOKENS // search.beam, 1)):
        check()
        source = pad([sources[row] for row in rows]).to(device)
        prefix = pad([prefixes[row] for row in rows]).to(device) if prefixes else None
        found |= zip(rows.tolist(), task.predict(model, source, search, prefix), strict=True)
    return [found[row] for row in range(len(sources))]


@torch.inference_mode()
def judged_rows(
    task: Judging, model: Model, examples: Sequence[Example], check: Callable[[], None] = never_mind
) -> list[Prediction]:
    """What the model thinks of every target, in order."""
    device = next(model.parameters()).device
    found: dict[int, Prediction] = {}
    for rows in sorted_batches(lengths_of(examples), TOKENS):
        check()
        batch = collate([examples[row] for row in rows]).to(device)
        found |= zip(rows.tolist(), task.judge(model, batch), strict=True)
    return [found[row] for row in range(len(examples))]


@torch.no_grad()
def mean_loss(
    task: Task, model: Model, examples: Sequence[Example], check: Callable[[], None] = never_mind
) -> dict[str, float]:
    """The loss per token and its parts, over all examples."""
    device = next(model.parameters()).device
    sums: dict[str, float] = {}
    count = 0
    for rows in sorted_batches(lengths_of(examples), TOKENS):
        check()
        loss = task.loss(model, collate([examples[row] for row in rows]).to(device))
        count += loss.count
        for name, part in {"loss": loss.total, **loss.parts}.items():
            sums[name] = sums.get(name, 0.0) + float(part)
    return {name: total / count for name, total in sums.items()}


def evaluate(
    task: Task,
    model: Model,
    rows: Sequence[Row],
    search: Search,
    scoring: Scoring = Scoring(),
    check: Callable[[], None] = never_mind,
) -> Evaluation:
    """Predictions for all rows and their scores against the targets."""
    if isinstance(task, Judging):
        predictions = judged_rows(task, model, [task.example(row) for row in rows], check)
    else:
        asked = {place: row for place, row in enumerate(rows) if not task.is_blank(row)}
        sources = [source_of(task, row, place + 1) for place, row in asked.items()]
        answers = dict(zip(asked, predict_rows(task, model, sources, search, check=check), strict=True))
        predictions = [answers.get(place, task.blank) for place in range(len(rows))]
    found = [one.within(row) for one, row in zip(predictions, rows, strict=True)]
    return Evaluation(task.score(found, rows, scoring), task.score(task.baseline(rows), rows, scoring), found)
