"""Whole runs: the same seed gives the same bits, whatever stops a run and wherever it is taken up again."""

import math
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from regard import runner
from regard.errors import RunError
from regard.run_folder import RunFolder
from regard.tasks.generate import Generate
from regard.training.checkpoints import Checkpoints
from regard.training.loop import Evaluated, Journal, read_journal
from regard.training.objective import Objective
from small_runs import (
    STEPS,
    Crash,
    Crashing,
    Interrupting,
    Small,
    newest,
    outcome,
    small,
    standing,
    stopped,
    tree,
    uninterrupted,
)


@pytest.fixture(scope="module", autouse=True)
def _logged_often() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "EVERY", 4)
        yield


@pytest.fixture(scope="module", params=["transformer", "rnn"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    return uninterrupted(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def rnn(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return uninterrupted(tmp_path_factory.mktemp("rnn"), "rnn")


def test_the_same_seed_gives_the_same_bits(either: Small, tmp_path: Path) -> None:
    either.train(tmp_path / "again")
    assert outcome(tmp_path / "again") == outcome(either.folder)


def test_another_seed_gives_other_weights(rnn: Small, tmp_path: Path) -> None:
    other = uninterrupted(tmp_path, "rnn", "training.seed=2")
    assert outcome(other.folder)["model.safetensors"] != outcome(rnn.folder)["model.safetensors"]


@pytest.mark.parametrize("steps", [(1,), (7, 13), (9, 10, 20), (2, 3, 18, 23, 24)])
def test_a_run_taken_up_again_ends_in_the_same_bits(either: Small, tmp_path: Path, steps: tuple[int, ...]) -> None:
    progress = Interrupting(*steps)
    for step in steps:
        error = stopped(either, tmp_path / "run", progress)
        assert (error.exit_status, error.message) == (130, "stopped by SIGINT")
        assert "repeat the same command" in str(error.hint)
        assert newest(tmp_path / "run").name == f"{step:08d}"
    either.train(tmp_path / "run", progress)
    assert progress.seen == [*range(1, STEPS + 1)]
    assert [f"going on from step {step}" for step in steps] == [one for one in progress.messages if "going on" in one]
    assert outcome(tmp_path / "run") == outcome(either.folder)


def test_stopping_in_the_middle_of_an_epoch(rnn: Small, tmp_path: Path) -> None:
    stopped(rnn, tmp_path / "run", Interrupting(13))
    stood = standing(tmp_path / "run")
    assert (stood["step"], stood["epoch"]) == (13, 1)
    assert 0 < stood["batch"] < 2 * 13


def before(function: Callable[..., Any], action: Callable[[], None]) -> Callable[..., Any]:
    """The same function, but the first call begins with an action."""
    actions = [action]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if actions:
            actions.pop()()
        return function(*arguments, **options)

    return wrapped


@pytest.mark.parametrize(
    ("where", "name", "step", "evaluated"),
    [
        (runner, "mean_loss", 9, 0),
        (runner, "predict_rows", 9, 0),
        (Checkpoints, "save", 10, 9),
        (runner, "evaluate", STEPS, STEPS),
    ],
)
def test_a_signal_while_evaluating_or_saving(
    either: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, step: int, evaluated: int
) -> None:
    terminate = Interrupting(signals=[signal.SIGTERM]).strike
    monkeypatch.setattr(where, name, before(getattr(where, name), terminate))
    error = stopped(either, tmp_path / "run")
    assert (error.exit_status, error.message) == (143, "stopped by SIGTERM")
    stood = standing(tmp_path / "run")
    assert (stood["step"], stood["evaluated"]) == (step, evaluated)
    either.train(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(either.folder)


def test_a_second_signal_does_not_wait(rnn: Small, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        rnn.train(tmp_path / "run", Interrupting(13, signals=[signal.SIGINT, signal.SIGINT]))
    assert standing(tmp_path / "run")["step"] == 10
    rnn.train(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(rnn.folder)


def test_after_a_run_signals_are_as_they_were(rnn: Small, tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stopped(rnn, tmp_path / "run", Interrupting(2, signals=[signal.SIGTERM]))
    rnn.train(tmp_path / "run")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("step", [1, 10, 19, 24])
def test_a_crash_loses_no_more_than_the_steps_since_the_last_checkpoint(rnn: Small, tmp_path: Path, step: int) -> None:
    with pytest.raises(Crash):
        rnn.train(tmp_path / "run", Crashing(step))
    progress = Interrupting()
    rnn.train(tmp_path / "run", progress)
    assert progress.seen == [*range((step - 1) // 10 * 10 + 1, STEPS + 1)]
    assert outcome(tmp_path / "run") == outcome(rnn.folder)


class Unread(Interrupting):
    def strike(self) -> None:
        raise BrokenPipeError


def test_when_nobody_reads_the_progress_any_more_it_is_saved(rnn: Small, tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError):
        rnn.train(tmp_path / "run", Unread(13))
    assert standing(tmp_path / "run")["step"] == 13
    rnn.train(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(rnn.folder)


def test_an_evaluation_that_is_repeated_is_logged_once(
    rnn: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(rnn, tmp_path / "run", Interrupting(9))
    with pytest.raises(Crash):
        rnn.train(tmp_path / "run", Crashing(10))
    assert read_journal(tmp_path / "run" / "metrics.jsonl")[-1]["step"] == 9
    rnn.train(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(rnn.folder)


def test_a_finished_run_is_not_trained_again(rnn: Small, tmp_path: Path) -> None:
    first, progress = rnn.train(tmp_path / "run"), Interrupting()
    assert rnn.train(tmp_path / "run", progress) == first
    assert (progress.seen, first.steps, first.stopped_early, first.scored_on) == ([], STEPS, False, "dev")
    assert not [text for text in progress.messages if "going on" in text]


def test_two_runs_cannot_write_one_folder(rnn: Small, tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path / "run").lock(),
        pytest.raises(RunError, match="another process is training here") as caught,
    ):
        rnn.train(tmp_path / "run")
    assert caught.value.where == str(tmp_path / "run")
    assert tree(tmp_path) == {}
    rnn.train(tmp_path / "run")


def test_changed_data_is_refused(rnn: Small, tmp_path: Path) -> None:
    stopped(rnn, tmp_path / "run", Interrupting(3))
    found = tree(tmp_path)
    changed = rnn.corpus._replace(dev=rnn.corpus.test)
    with pytest.raises(RunError, match="the data has changed since this run began"):
        Small(rnn.recipe, changed, rnn.task, rnn.folder).train(tmp_path / "run")
    assert tree(tmp_path) == found


def test_another_recipe_is_refused(rnn: Small, tmp_path: Path) -> None:
    stopped(rnn, tmp_path / "run", Interrupting(3))
    found = tree(tmp_path)
    with pytest.raises(RunError, match="the folder holds a run with other settings"):
        small(rnn.folder.parent, "rnn", "training.steps=25").train(tmp_path / "run")
    assert tree(tmp_path) == found


def test_a_folder_of_something_else_is_left_as_it_is(rnn: Small, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    found = tree(tmp_path)
    with pytest.raises(RunError, match="not empty and not a run"):
        rnn.train(tmp_path / "thesis")
    assert tree(tmp_path) == found


class Judged:
    """Stands in for the evaluation on dev rows: gives the scores it is made of, and remembers the weights it saw."""

    def __init__(self, *scores: float):
        self.scores = list(map(float, scores))
        self.weights: list[dict[str, Tensor]] = []

    def __call__(self, task: Generate, objective: Objective, *others: object) -> Evaluated:
        self.weights.append({name: weight.clone() for name, weight in objective.model.named_parameters()})
        score = self.scores[len(self.weights) - 1]
        return Evaluated({"dev_score": score}, score, [])


def assert_saved(folder: Path, weights: dict[str, Tensor]) -> None:
    torch.testing.assert_close(safetensors.torch.load_file(folder / "model.safetensors"), weights, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("scores", "best", "steps"),
    [
        ((1, 5, 2, 5, 9), 1, 12),
        ((3, 2, 1), 0, 9),
        ((1, 5, 4, 6, 5, 4), 3, 18),
        ((1, 2, 3, 4, 5, 6, 7, 8), 7, 24),
        ((math.nan, 1, math.nan, 0), 1, 12),
        ((2, math.nan, 1), 0, 9),
    ],
)
def test_patience_and_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: tuple[float, ...], best: int, steps: int
) -> None:
    judge = Judged(*scores)
    monkeypatch.setattr(runner, "_on_dev", judge)
    made = small(tmp_path, "rnn", "training.patience=2", "training.evaluate_every=3")
    trained = made.train(made.folder)
    assert (trained.steps, trained.stopped_early) == (steps, steps < STEPS)
    stood = standing(made.folder)
    assert (stood["best"], stood["best_step"]) == (scores[best], 3 * (best + 1))
    assert_saved(made.folder, judge.weights[best])
    assert len(judge.weights) == steps // 3

    again = made.train(made.folder)
    assert (again, len(judge.weights)) == (trained, steps // 3)


def test_evaluation_sees_the_averaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judged(1, 2, 3)
    monkeypatch.setattr(runner, "_on_dev", judge)
    made = uninterrupted(tmp_path, "rnn")
    saved = safetensors.torch.load_file(newest(made.folder) / "state.safetensors")
    average = {name: saved[f"average/{name}"] for name in judge.weights[-1]}
    assert_saved(made.folder, average)
    torch.testing.assert_close(judge.weights[-1], average, rtol=0, atol=0)
    assert not any(weights.equal(saved[f"weights/{name}"]) for name, weights in average.items())


def test_the_lines_of_the_log(either: Small) -> None:
    lines = read_journal(either.folder / "metrics.jsonl")
    losses = [line for line in lines if "loss" in line]
    scores = [line for line in lines if "samples" in line]
    assert [line["step"] for line in lines] == [4, 8, 9, 12, 16, 18, 20, 24, 24]
    assert [line["step"] for line in scores] == [9, 18, 24]
    assert all(set(line) == {"step", "loss", "learning_rate", "tokens"} for line in losses)
    assert {"dev_loss", "dev_nll", "dev_bleu", "dev_chrf", "dev_exact_match"} < set(scores[0])
    assert [len(line["samples"]) for line in scores] == [6, 6, 6]
    assert losses[0]["learning_rate"] == pytest.approx(2e-3)
    assert losses[-1]["learning_rate"] == pytest.approx(2e-3 * math.sqrt(4 / 23))
    assert losses[0]["loss"] > losses[-1]["loss"] > 2
    assert losses[-1]["tokens"] == standing(either.folder)["tokens"] > 24 * 128


def test_the_logged_loss_is_the_mean_over_all_tokens_since_the_last_line(rnn: Small, tmp_path: Path) -> None:
    progress = Interrupting()
    rnn.train(tmp_path / "run", progress)
    means, tokens = zip(*progress.losses, strict=True)
    counts = [now - then for then, now in pairwise((0, *tokens))]
    logged = [line["loss"] for line in read_journal(tmp_path / "run" / "metrics.jsonl") if "loss" in line]
    for number, loss in enumerate(logged):
        steps = range(4 * number, 4 * number + 4)
        assert loss == pytest.approx(
            sum(means[step] * counts[step] for step in steps) / sum(counts[step] for step in steps)
        )
    assert len(logged) == STEPS // 4
