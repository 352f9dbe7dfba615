"""Real processes that signals end wherever they are: the same command goes on, and nothing shows in the end."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from forks import Forks
from regard.run_folder import RunFolder
from small_runs import Small, command, outcome, small

INT, TERM, KILL = int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGKILL)
CHANGES = ["training.checkpoint_every=4", "training.evaluate_every=6"]
LEFT = {
    "recipe.yaml",
    "fields",
    "model.safetensors",
    "metrics.jsonl",
    "checkpoints",
    "report.html",
    "README.md",
    ".lock",
}
STEP = "regard.training.loop:Loop._step"


class Place(NamedTuple):
    """A process that forks, a run to make, how long it takes, and what it leaves when nothing interrupts it."""

    forks: Forks
    made: Small
    seconds: float
    left: dict[str, Any]

    def words(self, out: str) -> list[str]:
        return command(self.made, out, *CHANGES)

    def folder(self, out: str) -> Path:
        return self.made.folder.parent / out

    def assert_whole(self, out: str) -> None:
        """The same command, once more, ends as if nothing had ever happened."""
        ended = self.forks.run(self.words(out))
        assert ended.status == 0, ended.said
        assert outcome(self.folder(out)) == self.left
        assert {path.name for path in self.folder(out).iterdir()} == LEFT
        assert not [*self.folder(out).rglob("*.part")]


@pytest.fixture(scope="module", params=["transformer"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made, forks = small(tmp_path_factory.mktemp("place"), request.param), Forks()
    words = command(made, "uninterrupted", *CHANGES)
    assert forks.run(["--version"]).status == 0
    began = time.perf_counter()
    assert forks.run(words).status == 0
    yield Place(forks, made, time.perf_counter() - began, outcome(made.folder))
    forks.close()


def five_kills(place: Place, seed: int) -> None:
    """Four at random instants, one at a random moment of writing something whole."""
    draw, out = random.Random(seed), f"five-{seed}"
    for number in range(5):
        when: dict[str, Any] = {"after": draw.uniform(0, place.seconds)}
        if number == 2:
            when = {"at": "os:fsync", "call": draw.randint(3, 12), "signals": [KILL]}
        ended = place.forks.run(place.words(out), **when)
        assert ended.status in (-KILL, 0), ended.said
    place.assert_whole(out)


def test_five_kills_leave_no_trace(place: Place) -> None:
    five_kills(place, seed=0)


@pytest.mark.long
@pytest.mark.parametrize("place", ["transformer", "rnn"], indirect=True)
def test_fifty_kills_leave_no_trace(place: Place) -> None:
    for seed in range(1, 6):
        five_kills(place, seed)


@pytest.mark.parametrize(
    ("at", "call"), [("os:fsync", 5), ("pathlib:Path.rename", 2), ("pathlib:Path.rename", 3), ("shutil:rmtree", 1)]
)
def test_a_kill_while_something_is_saved(place: Place, at: str, call: int) -> None:
    out = f"{at.replace(':', '.')}-{call}"
    assert place.forks.run(place.words(out), at=STEP, call=9, signals=[TERM]).status == 143
    assert place.forks.run(place.words(out), at=at, call=call, signals=[KILL]).status == -KILL
    place.assert_whole(out)


STOPPED = "regard: stopped by {}\n  everything was saved; repeat the same command to go on"
STRIKES = [
    ("regard.planning:learn_task", 1, [TERM], 143, "regard: terminated"),
    ("regard.runner:build_objective", 1, [TERM], 143, "regard: terminated"),
    (STEP, 1, [TERM], 143, STOPPED.format("SIGTERM")),
    (STEP, 3, [INT], 130, STOPPED.format("SIGINT")),
    (STEP, 3, [INT, INT], 130, "regard: interrupted"),
    (STEP, 3, [TERM, TERM], 143, "regard: terminated"),
    ("regard.runner:mean_loss", 1, [TERM], 143, STOPPED.format("SIGTERM")),
    ("regard.training.checkpoints:Checkpoints.save", 1, [INT], 130, STOPPED.format("SIGINT")),
    ("regard.runner:evaluate", 1, [TERM], 143, STOPPED.format("SIGTERM")),
    ("regard.api:write_report", 1, [TERM], 143, "regard: terminated"),
]


def test_signals_at_every_stage_of_a_run_end_it_with_a_message(place: Place) -> None:
    for at, call, signals, status, said in STRIKES:
        ended = place.forks.run(place.words("signals"), at=at, call=call, signals=signals)
        assert ended.status == status and ended.said.rstrip("\n").endswith(said), (at, ended)
        assert "Traceback" not in ended.said
    place.assert_whole("signals")


def test_two_processes_cannot_train_in_one_folder(place: Place) -> None:
    with RunFolder(place.folder("busy")).lock():
        ended = place.forks.run(place.words("busy"))
    assert ended.status == 2 and "another process is training here\n  wait for the other process" in ended.said
    assert "Traceback" not in ended.said
    place.assert_whole("busy")
