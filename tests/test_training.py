"""Whole runs: the same seed gives the same bits, whatever stops a run and wherever it is taken up again."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import regard
from regard import planning, runner
from regard.api import propose
from regard.data.corpus import Corpus, Files, Row, read_rows
from regard.data.fields import TextField
from regard.errors import DivergedError, InputError, RunError, SettingsError, StoppedError
from regard.models.parts import Loss
from regard.planning import Request, plan, seconds
from regard.recipe import Recipe
from regard.run_folder import RunFolder
from regard.runner import Trained, learn_field, train_run
from regard.settings import is_set, override, to_yaml
from regard.tasks.generate import Generate
from regard.training.checkpoints import Checkpoints, Standing
from regard.training.loop import Evaluated, Journal, read_journal
from regard.training.objective import Objective
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
    field: TextField
    folder: Path

    def train(self, folder: Path, progress: Quiet | None = None) -> Trained:
        return train_run(self.recipe, self.corpus, self.field, RunFolder(folder), progress or Quiet(), CPU)


def small(folder: Path, kind: str, *changes: str) -> Small:
    files = Files(
        train=(str(write_pairs(folder / "train.tsv", 300, seed=1)),),
        dev=(str(write_pairs(folder / "dev.tsv", 12, seed=2)),),
    )
    recipe = override(override(Recipe(data=files), [f"model.kind={kind}"]), [*SIZES[kind], *changes])
    corpus = recipe.data.load()
    return Small(recipe, corpus, learn_field(recipe, corpus), folder / "uninterrupted")


@pytest.fixture(scope="module", autouse=True)
def _logged_often() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "EVERY", 4)
        yield


def uninterrupted(folder: Path, kind: str, *changes: str) -> Small:
    torch.set_num_threads(1)
    made = small(folder, kind, *changes)
    made.train(made.folder)
    return made


@pytest.fixture(scope="module", params=["transformer", "rnn"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    return uninterrupted(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def rnn(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return uninterrupted(tmp_path_factory.mktemp("rnn"), "rnn")


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


def stopped(made: Small, folder: Path, progress: Quiet | None = None) -> StoppedError:
    with pytest.raises(StoppedError) as caught:
        made.train(folder, progress)
    return caught.value


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


@pytest.mark.parametrize("step", [1, 9, 10, 12, 19, 24])
def test_a_crash_loses_no_more_than_the_steps_since_the_last_checkpoint(rnn: Small, tmp_path: Path, step: int) -> None:
    with pytest.raises(Crash):
        rnn.train(tmp_path / "run", Crashing(step))
    progress = Interrupting()
    rnn.train(tmp_path / "run", progress)
    assert progress.seen == [*range((step - 1) // 10 * 10 + 1, STEPS + 1)]
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


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[:-1000],
    "bit flipped": lambda content: content[:2000] + bytes([content[2000] ^ 4]) + content[2001:],
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_checkpoint_costs_steps_only(rnn: Small, tmp_path: Path, kind: str, both: bool) -> None:
    folder, progress = tmp_path / "run", Interrupting(13)
    stopped(rnn, folder, progress)
    for checkpoint in sorted((folder / "checkpoints").iterdir())[0 if both else 1 :]:
        state = checkpoint / "state.safetensors"
        state.write_bytes(DAMAGE[kind](state.read_bytes()))
    rnn.train(folder, progress)
    assert progress.seen[13] == (1 if both else 11)
    problem = "checkpoint 13 cannot be used (its content does not match its checksum); going back to the one before"
    assert problem in progress.messages
    assert outcome(folder) == outcome(rnn.folder)


def test_a_kill_while_saving_leaves_nothing_for_ever(rnn: Small, tmp_path: Path) -> None:
    stopped(rnn, tmp_path / "run", Interrupting(3))
    aside = tmp_path / "run" / "checkpoints" / ".00000007.4711"
    aside.mkdir()
    (aside / "state.safetensors").write_bytes(b"half")
    rnn.train(tmp_path / "run")
    assert sorted(path.name for path in aside.parent.iterdir()) == ["00000020", "00000024"]


def test_a_kill_before_the_recipe_is_written_does_not_spoil_the_folder(rnn: Small, tmp_path: Path) -> None:
    (tmp_path / "run" / "fields").mkdir(parents=True)
    for name in (".lock", ".recipe.yaml.4711", "fields/vocabulary.model", "fields/.data.json.4711"):
        (tmp_path / "run" / name).write_bytes(b"half")
    rnn.train(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(rnn.folder)


def test_a_finished_run_is_not_trained_again(rnn: Small, tmp_path: Path) -> None:
    first, progress = rnn.train(tmp_path / "run"), Interrupting()
    assert rnn.train(tmp_path / "run", progress) == first
    assert (progress.seen, first.steps, first.stopped_early, first.scored_on) == ([], STEPS, False, "dev")


def start(folder: Path) -> subprocess.Popen[str]:
    settings = [
        f"--set={one}" for one in (*SMALL, "model.kind=rnn", "training.steps=300", "training.evaluate_every=150")
    ]
    command = [sys.executable, "-m", "regard", "train", "train.tsv", "--dev", "dev.tsv", "--out", "run", *settings]
    environment = os.environ | {"PYTHONPATH": str(Path(regard.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def interrupt(process: subprocess.Popen[str], folder: Path, number: int) -> tuple[int, str]:
    """Send a signal as soon as there is a checkpoint that was not there before; the exit status and what was said."""
    checkpoints = Checkpoints(folder / "run" / "checkpoints", 2)
    old = checkpoints.steps()
    while process.poll() is None and checkpoints.steps() == old:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate()
    return process.returncode, said


def test_signals_to_a_real_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "train.tsv", 300, seed=1)
    write_pairs(tmp_path / "dev.tsv", 12, seed=2)
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        found, said = interrupt(start(tmp_path), tmp_path, number)
        assert found == status, said
        assert ("everything was saved; repeat the same command to go on" in said) == (number != signal.SIGKILL)
        assert "Traceback" not in said
    process = start(tmp_path)
    said = process.communicate()[1]
    assert (process.returncode, "going on from step" in said) == (0, True), said

    run, whole = RunFolder("run"), tmp_path / "whole"
    Small(run.recipe(), run.recipe().data.load(), run.field(), whole).train(whole)
    assert (whole / "model.safetensors").read_bytes() == run.weights_file.read_bytes()
    assert outcome(whole)["state"] == outcome(run.path)["state"]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


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
    changed = rnn.corpus._replace(fingerprint="another")
    with pytest.raises(RunError, match="the data has changed since this run began"):
        Small(rnn.recipe, changed, rnn.field, rnn.folder).train(tmp_path / "run")
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


def tensors(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(newest(folder) / "state.safetensors")


def test_a_learning_rate_that_is_far_too_high(tmp_path: Path) -> None:
    made = small(tmp_path, "transformer", "training.optimisation.learning_rate=1e6")
    with pytest.raises(DivergedError, match="is not finite at step 2") as caught:
        made.train(made.folder)
    assert (caught.value.exit_status, standing(made.folder)["step"]) == (1, 1)
    assert "lower training.optimisation.learning_rate" in str(caught.value.hint)
    assert all(tensor.isfinite().all() for tensor in tensors(made.folder).values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_changes_nothing(
    rnn: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    whole, calls = Generate.loss, iter(range(1000))

    def broken(*arguments: Any) -> Loss:
        loss = whole(*arguments)
        return replace(loss, total=loss.total + value) if next(calls) == 2 * 6 + 1 else loss  # in the second half

    monkeypatch.setattr(Generate, "loss", broken)
    with pytest.raises(DivergedError, match="the loss is not finite at step 7"):
        rnn.train(tmp_path / "run")
    monkeypatch.undo()
    assert standing(tmp_path / "run")["step"] == 6
    rnn.train(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(rnn.folder)


class Judged:
    """Stands in for the evaluation on dev rows: gives the scores it is made of, and remembers the weights it saw."""

    def __init__(self, *scores: float):
        self.scores = list(map(float, scores))
        self.weights: list[dict[str, Tensor]] = []

    def __call__(
        self, task: Generate, objective: Objective, rows: Sequence[Row], check: Callable[[], None]
    ) -> Evaluated:
        self.weights.append({name: weight.clone() for name, weight in objective.model.named_parameters()})
        score = self.scores[len(self.weights) - 1]
        return Evaluated({"dev_score": score}, score, [])


def assert_saved(folder: Path, weights: dict[str, Tensor]) -> None:
    torch.testing.assert_close(safetensors.torch.load_file(folder / "model.safetensors"), weights, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("scores", "best", "steps"),
    [((1, 5, 2, 5, 9), 1, 12), ((3, 2, 1), 0, 9), ((1, 5, 4, 6, 5, 4), 3, 18), ((1, 2, 3, 4, 5, 6, 7, 8), 7, 24)],
)
def test_patience_and_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: tuple[int, ...], best: int, steps: int
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
    saved = tensors(made.folder)
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


def test_a_log_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 50, "loss": 1.0},
        {"step": 50, "samples": ["ü"]},
        {"step": 100, "loss": 0.5},
        {"step": 100, "samples": []},
    ]
    whole = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(whole + '{"step": 150, "lo')
    assert read_journal(path) == lines
    Journal(path, Standing(step=100, evaluated=50))
    assert read_journal(path) == lines[:3]
    Journal(path, Standing(step=99, evaluated=50)).write(step=99, loss=0.25)
    assert read_journal(path) == [*lines[:2], {"step": 99, "loss": 0.25}]
    Journal(path, Standing())
    assert path.read_bytes() == b""


def asked(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "out": folder / "run",
        "dev": [str(folder / "dev.tsv")],
        "settings": [*SMALL, "model.kind=rnn"],
        "device": "cpu",
    } | more


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "dev.tsv", 12, seed=2)
    return write_pairs(tmp_path / "train.tsv", 300, seed=1)


def test_a_run_from_python(tmp_path: Path, files: Path) -> None:
    run = regard.train(files, **asked(tmp_path))
    made = {"recipe.yaml", "fields", "checkpoints", "metrics.jsonl", "model.safetensors", "report.html", "README.md"}
    assert {path.name for path in run.path.iterdir()} == made | {".lock"}
    assert run.scores == run.predictor.evaluate(read_rows([str(tmp_path / "dev.tsv")], None, None, None)).scores.values
    assert regard.train(files, **asked(tmp_path)).trained == run.trained


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring always finds 20 ms a step in bf16 and 50 in fp32."""
    found = {"bf16": 0.02, "fp32": 0.05}
    monkeypatch.setattr(planning, "seconds_per_call", lambda calls, rounds: {name: found[name] for name in calls})


def begin(*files: Path, **request: Any) -> Recipe:
    """A run that has not got beyond its recipe."""
    folder, made = propose(*files, **request)
    with folder.lock():
        folder.create(made.recipe, made.field, made.corpus.fingerprint)
    return made.recipe


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"settings": ["training.steps=30", "model.width=32", "model.width=16"]}, "training.steps=30"),
        ({"settings": ["model.kind=transformer"]}, "model.kind=transformer"),
        ({"settings": ["data.max_characters=100"]}, "data.max_characters=100"),
        ({"seed": 2}, "training.seed=2"),
        ({"source": "target", "target": "source"}, "data"),
    ],
)
@pytest.mark.usefixtures("timed")
def test_a_command_with_other_settings_is_refused(
    tmp_path: Path, files: Path, changes: dict[str, Any], named: str
) -> None:
    begin(files, **asked(tmp_path))
    found = tree(tmp_path)
    with pytest.raises(RunError, match=rf"began with other settings: {re.escape(named)}\n") as caught:
        regard.train(files, **asked(tmp_path, **changes))
    assert caught.value.where == str(tmp_path / "run")
    assert tree(tmp_path) == found


REPEATED = ["model.width=32", "model.width=16", "model.kind=rnn", "model.encoder.layers=2", "training.seed=3"]


@pytest.mark.usefixtures("timed")
def test_the_same_command_is_not_refused(tmp_path: Path, files: Path) -> None:
    request = asked(tmp_path, settings=[*REPEATED, "data.max_characters=99"], seed=4, time_limit="60s")
    recipe = begin(files, **request)
    assert (recipe.training.seed, recipe.model.width, recipe.training.steps) == (4, 16, 2700)
    assert propose(files, **request)[1].recipe == recipe


def written(folder: Path, *changes: str) -> dict[str, Any]:
    """A request for a recipe in a file."""
    (folder / "mine.yaml").write_text(
        to_yaml(small(folder, "transformer", "training.precision=measure", *changes).recipe)
    )
    return {"recipe": str(folder / "mine.yaml"), "out": folder / "run", "device": "cpu"}


@pytest.mark.parametrize("more", [{}, {"settings": REPEATED, "seed": 4}, {"time_limit": "60s"}])
@pytest.mark.usefixtures("timed")
def test_the_same_command_with_a_recipe_is_not_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    request = written(tmp_path) | more
    recipe = begin(**request)
    assert recipe.training.precision == "bf16"
    assert propose(**request)[1].recipe == recipe


@pytest.mark.parametrize(
    ("change", "named"),
    [("batching.tokens=64", "batching"), ("training.steps=25", "training"), ("model.width=32", "model")],
)
@pytest.mark.usefixtures("timed")
def test_a_recipe_that_was_changed_is_refused(tmp_path: Path, change: str, named: str) -> None:
    begin(**written(tmp_path))
    with pytest.raises(RunError, match=rf"began with other settings: {named}\n"):
        propose(**written(tmp_path, change))


@pytest.mark.usefixtures("timed")
def test_changed_files_are_refused(tmp_path: Path, files: Path) -> None:
    begin(files, **asked(tmp_path))
    write_pairs(files, 301, seed=1)
    found = tree(tmp_path)
    with pytest.raises(RunError, match="the data has changed since this run began"):
        regard.train(files, **asked(tmp_path))
    assert tree(tmp_path) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"settings": ["training.stps=5"]},
        {"settings": ["training.steps=0"]},
        {"settings": ["model.width=15"]},
        {"time_limit": "soon"},
        {"source": "no such column"},
        {"dev": ["no such file"]},
        {"recipe": "no such recipe"},
    ],
)
def test_what_is_refused_leaves_nothing_behind(tmp_path: Path, files: Path, wrong: dict[str, Any]) -> None:
    found = tree(tmp_path)
    with pytest.raises(InputError) as caught:
        regard.train(files, **asked(tmp_path, **wrong))
    assert caught.value.exit_status == 2
    assert tree(tmp_path) == found


@pytest.mark.usefixtures("timed")
def test_a_plan_has_sizes_and_reasons(tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = tree(tmp_path)
    folder, made = propose(files, device="cpu")
    assert (folder.path, tree(tmp_path)) == (Path("runs/train"), found)
    reasons = dict(made.reasons)
    assert [*reasons] == ["data", "vocabulary", "model", "batch", "steps", "precision", "time"]
    assert all(reasons.values())
    recipe = made.recipe
    assert (recipe.vocabulary.size, recipe.model.width, recipe.batching.tokens) == (500, 128, 512)
    assert (recipe.training.steps, recipe.training.patience, recipe.training.precision) == (2000, 8, "bf16")
    assert recipe.training.optimisation.learning_rate == 0.4 / 128
    assert "2.5 x as fast" in reasons["precision"]
    assert "20 ms an update" in reasons["time"]


@pytest.mark.usefixtures("timed")
def test_what_is_set_wins_over_what_is_proposed(files: Path) -> None:
    settings = {
        "model.kind": "rnn",
        "model.width": 32,
        "vocabulary.size": 400,
        "batching.tokens": 300,
        "training.steps": 77,
        "training.precision": "fp32",
        "training.optimisation.learning_rate": 0.01,
    }
    request = Request(
        [str(files)], time_limit="1h", seed=5, settings=[f"{path}={value}" for path, value in settings.items()]
    )
    made = plan(request, CPU)
    assert all(is_set(made.recipe, one) for one in request.settings)
    assert made.recipe.model.encoder.kind == "rnn"
    assert made.recipe.training.seed == 5
    assert "precision" not in dict(made.reasons)


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("1.5m", 90), ("30m", 1800), ("2h", 7200), (" 2 h ", 7200)]
)
def test_time_limits(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "0", "0.0s", "-3m", "1d", "1h30m", "nan", "1e9"])
def test_time_limits_that_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a time") as caught:
        seconds(text)
    assert caught.value.where == "--time-limit"


@pytest.mark.parametrize(
    ("limit", "changes", "steps", "every"),
    [
        ("60s", [], 2700, 135),  # 90 % of 60 s at 20 ms
        ("1m", ["training.precision=fp32"], 1080, 54),
        ("1m", ["training.accumulate=3"], 900, 50),
        ("0.1s", [], 20, 50),
    ],
)
@pytest.mark.usefixtures("timed")
def test_steps_that_fit_a_time_limit(files: Path, limit: str, changes: list[str], steps: int, every: int) -> None:
    training = plan(Request([str(files)], time_limit=limit, settings=changes), CPU).recipe.training
    assert (training.steps, training.evaluate_every, training.checkpoint_every) == (steps, every, every)
    assert training.optimisation.warmup == max(steps // 8, 20)


OTHER_VERBS = {
    "classify": (
        "reviews.tsv",
        "".join(f"review number {row} is long\t{'good' if row % 2 else 'bad'}\n" for row in range(60)),
    ),
    "forecast": ("power.csv", "date,load\n" + "".join(f"2024-01-{day:02},{day * 1.5}\n" for day in range(1, 31))),
    "continue": ("book.txt", "".join(f"It was line {line} of the book.\n" for line in range(60))),
    "tag": ("names.tsv", "Anna\tPER\nlives\tO\nin\tO\nRome\tLOC\n\n" * 20),
}


@pytest.mark.parametrize("verb", OTHER_VERBS)
def test_data_for_another_verb_is_refused(tmp_path: Path, verb: str) -> None:
    name, text = OTHER_VERBS[verb]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"this looks like data to {verb}") as caught:
        plan(Request([str(tmp_path / name)]), CPU)
    assert (caught.value.where, "--task generate" in str(caught.value.hint)) == (str(tmp_path / name), True)


def test_no_data_is_refused() -> None:
    with pytest.raises(InputError, match="no data given"):
        plan(Request(), CPU)
