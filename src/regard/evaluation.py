"""Evaluation: task + model + rows -> predictions and scores, beside answers that need no model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, NoReturn, Protocol, runtime_checkable

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
    """A task that is scored by the log-probability of given targets, as by perplexity, not by answers of its own."""

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
    lengths = np.array([[len(source)] for source in sources], dtype=np.int64).reshape(-1, 1)
    found: dict[int, Prediction] = {}
    for rows in sorted_batches(lengths, max(TOKENS // search.beam, 1)):
        check()
        source = pad([sources[row] for row in rows]).to(model.device)
        prefix = pad([prefixes[row] for row in rows]).to(model.device) if prefixes else None
        found |= zip(rows.tolist(), task.predict(model, source, search, prefix), strict=True)
    return [found[row] for row in range(len(sources))]


def answer_rows(
    task: Task,
    model: Model,
    rows: Sequence[Row],
    search: Search,
    *,
    first: int = 1,
    prefixes: Sequence[Ids] | None = None,
    check: Callable[[], None] = never_mind,
) -> list[Prediction]:
    """An answer to each row, in the terms of the row, with what is looked at on the way; blank rows have blank ones.

    ``first`` is the number by which messages call the first row.

    Raises:
        DataError: a row has no source that the task can read.
    """
    asked = {place: row for place, row in enumerate(rows) if not task.is_blank(row)}
    sources = {place: source_of(task, row, first + place) for place, row in asked.items()}
    begun = [prefixes[place] for place in asked] if prefixes else None
    found = predict_rows(task, model, [*sources.values()], search, prefixes=begun, check=check)
    answers = [replace(task.blank, look=nothing_to_look_at)] * len(rows)
    for (place, source), one in zip(sources.items(), found, strict=True):
        answers[place] = replace(one.within(rows[place]), look=partial(task.look, model, source, one.ids))
    return answers


def nothing_to_look_at() -> NoReturn:
    """Raises DataError: nothing was read."""
    raise DataError("there is nothing to look at in an empty text", hint="give a text of at least one word")


@torch.inference_mode()
def judged_rows(
    task: Judging, model: Model, examples: Sequence[Example], check: Callable[[], None] = never_mind
) -> list[Prediction]:
    """What the model thinks of every target, in order."""
    found: dict[int, Prediction] = {}
    for rows in sorted_batches(lengths_of(examples), TOKENS):
        check()
        batch = collate([examples[row] for row in rows]).to(model.device)
        found |= zip(rows.tolist(), task.judge(model, batch), strict=True)
    return [found[row] for row in range(len(examples))]


@torch.no_grad()
def mean_loss(
    task: Task, model: Model, examples: Sequence[Example], check: Callable[[], None] = never_mind
) -> dict[str, float]:
    """The loss per token and its parts, over all examples."""
    sums: dict[str, float] = {}
    count = 0
    for rows in sorted_batches(lengths_of(examples), TOKENS):
        check()
        loss = task.loss(model, collate([examples[row] for row in rows]).to(model.device))
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
        predictions = answer_rows(task, model, rows, search, check=check)
    scores = task.score(predictions, rows, scoring)
    return Evaluation(scores, task.score(task.baseline(rows), rows, scoring), predictions)
