"""Too little memory for a batch: its gradient is added up in parts, and nothing else changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from regard.errors import InputError
from regard.models.parts import Loss
from regard.planning import Request, plan
from regard.tasks.encoded import encode
from regard.training.gradients import Gradients
from regard.training.objective import Objective, build_objective
from small_runs import CPU, SMALL, Interrupting, outcome, small, stopped, uninterrupted

NO_DROPOUT = "model.decoder.attention_dropout=0"
FULL = "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: {}: you tried to allocate 64000000 bytes."
OUT_OF_MEMORY = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError(FULL.format("not enough memory")),
    "linux": RuntimeError(FULL.format("can't allocate memory")),
}


def cramped(patch: pytest.MonkeyPatch, most: int, error: RuntimeError, backward: bool = False) -> None:
    """Memory for ``most`` rows at once; more of them fail forward, or backward when there are some gradients."""
    whole = Objective.forward

    def forward(objective: Objective, batch: Any) -> Loss:
        def fail(*gradient: Tensor) -> None:
            hook.remove()
            raise error

        if len(batch.target.lengths) > most:
            hook = objective.model.embedding.weight.register_hook(fail)
            if not backward:
                fail()
        return whole(objective, batch)

    patch.setattr(Objective, "forward", forward)


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
@pytest.mark.parametrize("backward", [False, True])
def test_batches_that_memory_does_not_hold_are_added_up_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, backward: bool
) -> None:
    made = small(tmp_path, "transformer", "model.dropout=0", "model.encoder.attention_dropout=0", NO_DROPOUT)
    task = made.task
    objective = build_objective(task, made.recipe.model, seed=1).double()
    told: list[str] = []
    gradients = Gradients(objective, encode(task, made.corpus.train), told.append)
    batches = [np.arange(9), np.arange(9, 20)]
    total, count = gradients.add_up(batches, "fp32", seed=1)
    whole = {name: weight.grad for name, weight in objective.named_parameters()}

    cramped(monkeypatch, 3, OUT_OF_MEMORY[kind], backward)
    assert gradients.add_up(batches, "fp32", seed=1) == (pytest.approx(total, rel=1e-12), count)
    parts = {name: weight.grad for name, weight in objective.named_parameters()}
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)
    gradients.add_up(batches, "fp32", seed=1)
    assert told == ["not enough memory for whole batches: each is added up in 4 parts from now on"]


def test_planning_needs_no_more_memory_than_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(tmp_path, "rnn")
    cramped(monkeypatch, 3, OUT_OF_MEMORY["cuda"])
    request = Request([*made.recipe.data.train], settings=["model.kind=rnn", *SMALL])
    reasons = dict(plan(request, CPU).reasons)
    assert reasons["memory"].startswith("not enough memory for whole batches")


def test_other_errors_are_not_taken_for_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(tmp_path, "rnn")
    cramped(monkeypatch, 3, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        made.train(tmp_path / "run")


def test_memory_that_does_not_hold_a_single_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rnn = uninterrupted(tmp_path, "rnn")
    stopped(rnn, tmp_path / "run", Interrupting(5))
    cramped(monkeypatch, 0, OUT_OF_MEMORY["cuda"])
    with pytest.raises(InputError, match="memory does not hold a training step of even a single row") as caught:
        rnn.train(tmp_path / "run")
    assert "model.width" in str(caught.value.hint)
    monkeypatch.undo()
    rnn.train(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(rnn.folder)
