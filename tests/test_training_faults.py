"""Training when the world is against it: damaged checkpoints, full disks, losses that diverge."""

import errno
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from torch import Tensor

from regard.cli.main import main
from regard.errors import DivergedError, RunError
from regard.files import remove_unfinished
from regard.models.parts import Loss
from regard.tasks.generate import Generate
from regard.training.checkpoints import Checkpoints, Standing
from regard.training.loop import Journal, read_journal
from small_runs import Interrupting, Small, command, newest, outcome, small, standing, stopped, uninterrupted

NO_PROCESS = 99_999_999


@pytest.fixture(scope="module")
def rnn(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return uninterrupted(tmp_path_factory.mktemp("rnn"), "rnn")


def tensors(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(newest(folder) / "state.safetensors")


def resaved(checkpoint: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """A checkpoint that is whole, of other tensors."""
    found = safetensors.torch.load_file(checkpoint / "state.safetensors")
    change(found)
    stood = Standing(**json.loads((checkpoint / "standing.json").read_text())["standing"])
    Checkpoints(checkpoint.parent, 2).save(stood, found)


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        (checkpoint / name).write_bytes(change((checkpoint / name).read_bytes()))

    return damage


NOT_ITS_CONTENT = "its content does not match its checksum"
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (changed("state.safetensors", lambda content: content[:-1000]), NOT_ITS_CONTENT),
    "empty": (changed("state.safetensors", lambda content: b""), NOT_ITS_CONTENT),
    "another step": (
        changed("standing.json", lambda text: text.replace(b'"step": 13', b'"step": 12')),
        NOT_ITS_CONTENT,
    ),
    "newer": (changed("standing.json", lambda text: text.replace(b'"format": 1', b'"format": 2')), "its format is 2"),
    "another shape": (
        lambda path: resaved(path, lambda found: found["weights/embedding.weight"].resize_(3)),
        "of shape (3,)",
    ),
    "no average": (
        lambda path: resaved(path, lambda found: found.pop("average/embedding.weight")),
        "no 'average/embedding.weight'",
    ),
    "no moment": (
        lambda path: resaved(path, lambda found: found.pop("exp_avg/embedding.weight")),
        "no 'exp_avg/embedding.weight'",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_costs_steps_only(rnn: Small, tmp_path: Path, kind: str) -> None:
    damage, reason = DAMAGE[kind]
    folder, progress = tmp_path / "run", Interrupting(13)
    stopped(rnn, folder, progress)
    damage(newest(folder))
    rnn.train(folder, progress)
    [problem, next_] = progress.messages[-2:]
    assert problem.startswith("checkpoint 13 cannot be used: ") and reason in problem
    assert (next_, progress.seen[13]) == ("going on from step 10", 11)
    assert outcome(folder) == outcome(rnn.folder)


def test_without_any_usable_checkpoint_training_begins_again(rnn: Small, tmp_path: Path) -> None:
    folder, progress = tmp_path / "run", Interrupting(13)
    stopped(rnn, folder, progress)
    for checkpoint in (folder / "checkpoints").iterdir():
        DAMAGE["truncated"][0](checkpoint)
    rnn.train(folder, progress)
    assert [text.partition(":")[0] for text in progress.messages[-3:]] == [
        "checkpoint 13 cannot be used",
        "checkpoint 10 cannot be used",
        "no other checkpoint is left",
    ]
    assert progress.seen[13:] == [*range(1, 25)]
    assert outcome(folder) == outcome(rnn.folder)


def test_what_a_killed_process_was_writing_goes_when_the_run_goes_on(rnn: Small, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    stopped(rnn, folder, Interrupting(3))
    for name in (".model.safetensors", ".metrics.jsonl", "fields/.data.json", "checkpoints/.00000007"):
        aside = folder / f"{name}.{NO_PROCESS}.part"
        aside.write_bytes(b"half")
    aside.unlink()
    aside.mkdir()
    (aside / "state.safetensors").write_bytes(b"half")
    rnn.train(folder)
    assert not [*folder.rglob("*.part")]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["00000020", "00000024"]


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    names = [f".report.html.{process}.part" for process in (os.getppid(), os.getpid(), NO_PROCESS)]
    for name in [*names, ".notes.part", "thesis.4711.part"]:
        (tmp_path / name).write_bytes(b"half")
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {names[0], ".notes.part", "thesis.4711.part"}


def test_a_kill_before_the_recipe_is_written_does_not_spoil_the_folder(rnn: Small, tmp_path: Path) -> None:
    (tmp_path / "run" / "fields").mkdir(parents=True)
    aside = [f".recipe.yaml.{NO_PROCESS}.part", f"fields/.data.json.{NO_PROCESS}.part"]
    for name in (".lock", "fields/vocabulary.model", *aside):
        (tmp_path / "run" / name).write_bytes(b"half")
    rnn.train(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(rnn.folder)
    assert not [*tmp_path.rglob("*.part")]


def unwritable(patch: pytest.MonkeyPatch, name: str, after: int = 0, reason: int = errno.ENOSPC) -> None:
    """From now on files with ``name`` in theirs cannot be written, except for the first ``after`` times."""
    whole, left = Path.open, iter(range(after))

    def open_(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if name in path.name and mode[0] != "r" and next(left, None) is None:
            raise OSError(reason, os.strerror(reason))
        return whole(path, mode, *rest, **more)

    patch.setattr(Path, "open", open_)


@pytest.mark.parametrize(
    ("name", "after", "saved", "where"),
    [
        ("vocabulary.model", 0, [], "fields/vocabulary.model"),
        ("recipe.yaml", 0, [], "recipe.yaml"),
        ("model.safetensors", 0, [], "model.safetensors"),
        ("metrics.jsonl", 2, [10], ""),  # begun, at the first evaluation, at the second
        ("state.safetensors", 1, [10], "checkpoints/00000020"),
        ("standing.json", 1, [10], "checkpoints/00000020"),
    ],
)
def test_a_full_disk_loses_nothing_that_was_saved(
    rnn: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, after: int, saved: list[int], where: str
) -> None:
    folder = tmp_path / "run"
    unwritable(monkeypatch, name, after)
    with pytest.raises(RunError, match="cannot write here: No space left on device") as caught:
        rnn.train(folder)
    monkeypatch.undo()
    assert (caught.value.exit_status, caught.value.where) == (2, str(folder / where))
    assert str(caught.value.hint).startswith("make room")
    assert Checkpoints(folder / "checkpoints", 2).steps() == saved
    assert not [*folder.rglob("*.part")]
    rnn.train(folder)
    assert outcome(folder) == outcome(rnn.folder)


def test_a_folder_that_is_read_only(rnn: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unwritable(monkeypatch, ".lock", reason=errno.EROFS)
    with pytest.raises(RunError, match="cannot write here: Read-only file system") as caught:
        rnn.train(tmp_path / "run")
    assert (caught.value.exit_status, caught.value.where) == (2, str(tmp_path / "run"))
    assert "choose another --out" in str(caught.value.hint)


def test_without_the_fingerprint_of_its_data_a_run_says_what_is_missing(rnn: Small, tmp_path: Path) -> None:
    stopped(rnn, tmp_path / "run", Interrupting(3))
    (tmp_path / "run" / "fields" / "data.json").write_text("[1]")
    with pytest.raises(RunError, match=r"data\.json: missing or damaged"):
        rnn.train(tmp_path / "run")


def test_a_learning_rate_that_is_far_too_high(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(small(tmp_path, "transformer"), "run", "training.optimisation.learning_rate=1e6")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert re.search(r"\nregard: the \w+ is not finite at step [2-4]; the weights were left as they were\n", said)
    assert "\n  lower training.optimisation.learning_rate or raise training.optimisation.warmup\n" in said
    assert "Traceback" not in said
    assert 1 <= standing(tmp_path / "run")["step"] <= 3
    assert all(tensor.isfinite().all() for tensor in tensors(tmp_path / "run").values())


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


def test_a_log_that_was_cut_off_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 50, "loss": 1.0},
        {"step": 50, "samples": ["ü"]},
        {"step": 100, "loss": 0.5},
        {"step": 100, "samples": []},
    ]
    whole = "".join(json.dumps(line) + "\n" for line in lines).encode()
    for end in (b'{"step": 150, "lo', b'{"samples": ["\xc3', b"\0" * 20 + b"\n", b'{"step"\n{"step": 200}\n'):
        path.write_bytes(whole + end)
        assert read_journal(path) == lines
    Journal(path, Standing(step=100, evaluated=50))
    assert read_journal(path) == lines[:3]
    Journal(path, Standing(step=99, evaluated=50)).write(step=99, loss=0.25)
    assert read_journal(path) == [*lines[:2], {"step": 99, "loss": 0.25}]
    Journal(path, Standing())
    assert path.read_bytes() == b""
