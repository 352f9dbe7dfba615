"""A whole run: vocabulary, weights, training, final scores; repeated on the same folder it goes on where it was."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch

from regard.data.batching import first_pool, padding
from regard.data.corpus import Corpus
from regard.data.rows import Row
from regard.decoding.search import Search
from regard.errors import RunError, StoppedError
from regard.evaluation import Judging, evaluate, judged_rows, mean_loss, predict_rows, source_of
from regard.metrics.names import deciding
from regard.recipe import Recipe
from regard.run_folder import RunFolder
from regard.tasks.encoded import encode
from regard.tasks.task import Example, Task
from regard.training.loop import Evaluated, Loop, Outcome, Progress
from regard.training.objective import COPIES_IN_TRAINING, Objective, build_objective
from regard.training.signals import Signals, StopRequested

SAMPLES = 6

T = TypeVar("T")


class Trained(NamedTuple):
    """What a run ended with: scores on its test rows, or on dev rows where there are none."""

    scores: dict[str, float]
    baseline: dict[str, float]
    signatures: dict[str, str]
    reference_tokens: int
    scored_on: str
    seconds: float
    steps: int
    stopped_early: bool


def learn_task(recipe: Recipe, corpus: Corpus) -> Task:
    """The task with what it learns from the training rows alone, such as a vocabulary."""
    return recipe.task.learn(corpus.train, recipe.vocabulary)


def answered_rows(recipe: Recipe, corpus: Corpus) -> list[Row]:
    """The dev rows that are answered at each evaluation."""
    return spread(corpus.dev, recipe.training.dev_rows)


def spread(rows: Sequence[T], most: int = SAMPLES) -> list[T]:
    """Some of the rows, evenly spread, for files are often sorted by length; a few, to be shown, unless told."""
    count = min(most, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def train_run(
    recipe: Recipe, corpus: Corpus, task: Task, folder: RunFolder, progress: Progress, device: torch.device
) -> Trained:
    """Train as the recipe says, in a folder that is new or holds this very run.

    Raises:
        RunError: the folder holds another run, or this one with other data.
        DataError: a row that is scored in the end cannot be read.
        StoppedError: a signal arrived; everything was saved and the same call goes on.
        DivergedError: the loss was not finite; the state before it was saved.
    """
    if task.source_builder:  # what is no text may be unreadable; better told now than after training
        for number, row in enumerate(corpus.test or corpus.dev, start=1):
            source_of(task, row, number)
    with folder.lock():
        if folder.exists():
            _same_run(folder, recipe, corpus)
        else:
            folder.create(recipe, task.files, corpus.fingerprint)
        objective = build_objective(task, recipe.model, recipe.training.seed, COPIES_IN_TRAINING).to(device)
        try:
            outcome = _loop(recipe, corpus, task, objective, folder, progress).run()
            folder.load_weights(objective.model)
            with Signals() as signals:
                return _final(recipe, corpus, task, objective, outcome, signals.check)
        except StopRequested as stop:
            hint = "everything was saved; repeat the same command to go on"
            raise StoppedError(stop.number, f"stopped by {stop}", hint=hint) from None


def _same_run(folder: RunFolder, recipe: Recipe, corpus: Corpus) -> None:
    if folder.recipe() != recipe:
        hint = "repeat the command that made it, or choose another --out"
        raise RunError("the folder holds a run with other settings", where=str(folder.path), hint=hint)
    if folder.fingerprint() != corpus.fingerprint:
        hint = "put the data back as it was, or start a new run with another --out"
        raise RunError("the data has changed since this run began", where=str(folder.path), hint=hint)


def _loop(
    recipe: Recipe, corpus: Corpus, task: Task, objective: Objective, folder: RunFolder, progress: Progress
) -> Loop:
    examples = encode(task, corpus.train)
    batches, _ = first_pool(examples.lengths, recipe.batching, recipe.training.seed)
    share = padding(examples.lengths, batches).share
    progress.message(f"batches of at most {recipe.batching.tokens} tokens a side, {share:.1%} of them padding")
    dev = answered_rows(recipe, corpus)
    answered = [task.example(row) for row in dev]
    return Loop(
        objective=objective,
        examples=examples,
        settings=recipe.training,
        batching=recipe.batching,
        folder=folder.path,
        evaluate=lambda check: _on_dev(task, objective, dev, answered, recipe.search, check),
        save_best=lambda: folder.save_weights(objective.model),
        progress=progress,
    )


def _on_dev(
    task: Task,
    objective: Objective,
    rows: Sequence[Row],
    examples: Sequence[Example],
    search: Search,
    check: Callable[[], None],
) -> Evaluated:
    """Scores on dev rows and a few answers; a lower loss or a higher score decides, as the task says."""
    model = objective.model
    if isinstance(task, Judging):
        values = task.score(judged_rows(task, model, examples, check), rows).values
        shown = predict_rows(task, model, [one.source for one in spread(examples)], search, check=check)
    else:
        losses = mean_loss(task, model, examples, check)
        answers = predict_rows(task, model, [one.source for one in examples], Search(), check=check)
        found = [one.within(row) for one, row in zip(answers, rows, strict=True)]
        values, shown = losses | task.score(found, rows).values, spread(found)
    scores = {f"dev_{name}": value for name, value in values.items()}
    return Evaluated(scores, deciding(task.metric, values), [one.text for one in shown])


def _final(
    recipe: Recipe, corpus: Corpus, task: Task, objective: Objective, outcome: Outcome, check: Callable[[], None]
) -> Trained:
    objective.eval()
    found = evaluate(task, objective.model, corpus.test or corpus.dev, recipe.search, check=check)
    return Trained(
        scores=found.scores.values,
        baseline=found.baseline.values,
        signatures=found.scores.signatures,
        reference_tokens=found.scores.reference_tokens,
        scored_on="test" if corpus.test else "dev",
        seconds=round(outcome.standing.seconds, 1),
        steps=outcome.standing.step,
        stopped_early=outcome.stopped_early,
    )
