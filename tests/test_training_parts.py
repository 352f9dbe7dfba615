"""The parts of training: the optimiser against a plain loop, and checkpoints that survive damage."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regard.errors import DivergedError
from regard.training.checkpoints import Checkpoints, Standing
from regard.training.optimisation import Optimisation, Optimiser


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("inverse_sqrt", {0: 0.25, 1: 0.5, 3: 1.0, 4: 1.0, 16: 0.5, 64: 0.25}),
        ("cosine", {0: 0.25, 3: 1.0, 4: 1.0, 36: 0.75, 52: 0.5, 68: 0.25, 100: 0.0, 500: 0.0}),
        ("constant", {0: 0.25, 2: 0.75, 4: 1.0, 99: 1.0}),
    ],
)
def test_learning_rates(schedule, rates):
    settings = Optimisation(learning_rate=1.0, warmup=4, schedule=schedule)
    assert {step: settings.rate(step, 100) for step in rates} == pytest.approx(rates)


@pytest.mark.parametrize("schedule", ["inverse_sqrt", "cosine", "constant"])
def test_learning_rates_without_warmup(schedule):
    settings = Optimisation(learning_rate=1.0, warmup=0, schedule=schedule)
    assert [settings.rate(step, 10**9) for step in (0, 1)] == pytest.approx([1.0, 1.0])


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def batch(step: int, rows: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return tuple(torch.randn(rows, width, generator=generator, dtype=torch.float64) for width in (3, 2))


def summed_loss(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 30 * F.mse_loss(model(inputs), targets, reduction="sum")


def train(model: nn.Module, optimiser: Optimiser, steps: range) -> list[float]:
    norms = []
    for step in steps:
        summed_loss(model, *batch(step)).backward()
        norms.append(optimiser.update(step, 5))
    return norms


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_update_is_adamw_on_the_clipped_mean(clip):
    settings = Optimisation(learning_rate=0.05, warmup=3, weight_decay=0.1, clip=clip, betas=(0.8, 0.9), epsilon=1e-6)
    ours, theirs = network(), network()
    found = train(ours, Optimiser(ours, settings, 10), range(10))
    plain = torch.optim.AdamW(
        [
            {"params": [theirs[0].weight, theirs[2].weight], "weight_decay": 0.1},
            {"params": [theirs[0].bias, theirs[2].bias], "weight_decay": 0.0},
        ],
        betas=(0.8, 0.9),
        eps=1e-6,
    )
    norms = []
    for step in range(10):
        plain.zero_grad()
        (summed_loss(theirs, *batch(step)) / 5).backward()
        norms.append(float(nn.utils.clip_grad_norm_(theirs.parameters(), clip)))
        for group in plain.param_groups:
            group["lr"] = settings.rate(step, 10)
        plain.step()
    assert found == pytest.approx(norms, rel=1e-5)
    assert (min(norms) > clip) == (clip == 0.5)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-5, atol=1e-7)  # torch clips to norm + 1e-6


def test_two_micro_batches_are_one_batch():
    whole, parts = network(), network()
    inputs, targets = batch(0, rows=7)
    settings = Optimisation(clip=0.5)
    summed_loss(whole, inputs, targets).backward()
    norm = Optimiser(whole, settings, 1).update(0, 7)
    for rows in (slice(0, 2), slice(2, 7)):
        summed_loss(parts, inputs[rows], targets[rows]).backward()
    assert Optimiser(parts, settings, 1).update(0, 7) == pytest.approx(norm)
    torch.testing.assert_close(weights(parts), weights(whole))
    assert all(weight.grad is None for weight in parts.parameters())


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average_of_the_weights(decay):
    model = network()
    optimiser, expected = Optimiser(model, Optimisation(warmup=0, ema_decay=decay), 20), weights(model)
    for step in range(20):
        train(model, optimiser, range(step, step + 1))
        share = min(decay, (1 + step) / (10 + step))
        expected = {name: share * expected[name] + (1 - share) * now for name, now in weights(model).items()}
    torch.testing.assert_close(optimiser.average, expected)
    assert (decay == 0) == all(optimiser.average[name].equal(now) for name, now in weights(model).items())


def test_averaged_swaps_and_swaps_back():
    model = network()
    optimiser = Optimiser(model, Optimisation(warmup=0), 3)
    train(model, optimiser, range(3))
    trained, average = weights(model), copy.deepcopy(optimiser.average)
    for failure in (None, KeyError):
        try:
            with optimiser.averaged():
                assert_equal(weights(model), average)
                if failure:
                    raise failure
        except KeyError:
            assert failure
        assert_equal(weights(model), trained)
        assert_equal(optimiser.average, average)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(value):
    model = network()
    optimiser = Optimiser(model, Optimisation(), 10)
    train(model, optimiser, range(2))
    before = copy.deepcopy(optimiser.tensors())
    summed_loss(model, *batch(2)).backward()
    model[0].bias.grad[1] = value
    with pytest.raises(DivergedError, match="not finite at step 3") as caught:
        optimiser.update(2, 5)
    assert "learning_rate" in caught.value.hint
    assert_equal(optimiser.tensors(), before)


def test_a_restored_optimiser_goes_on_bit_for_bit():
    model, other = network(), network()
    optimiser, again = (Optimiser(one, Optimisation(warmup=4), 10) for one in (model, other))
    train(model, optimiser, range(4))
    again.restore(copy.deepcopy(optimiser.tensors()))
    assert_equal(again.tensors(), optimiser.tensors())
    train(model, optimiser, range(4, 8))
    train(other, again, range(4, 8))
    assert_equal(again.tensors(), optimiser.tensors())


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda tensors: tensors.pop("average/2.bias"), KeyError),
        (lambda tensors: tensors["weights/2.bias"].resize_(1), ValueError),
        (lambda tensors: tensors["exp_avg_sq/2.bias"].resize_(1), ValueError),
        (lambda tensors: tensors["step/2.bias"].resize_(1), ValueError),
        (lambda tensors: tensors.pop("exp_avg/2.bias"), KeyError),
    ],
)
def test_tensors_that_do_not_fit_change_nothing(damage, error):
    model = network()
    optimiser = Optimiser(model, Optimisation(), 1)
    train(model, optimiser, range(1))
    before, given = weights(model), {name: tensor + 1 for name, tensor in optimiser.tensors().items()}
    damage(given)
    with pytest.raises(error, match=r"2\.bias"):
        optimiser.restore(given)
    assert_equal(weights(model), before)


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"weights/a": torch.full((3,), float(step)), "step/a": torch.tensor(float(step))}


def saved(folder: Path, *steps: int, keep: int = 3) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(Standing(step=step, epoch=1, best=0.5), tensors(step))
    return checkpoints


def restored(folder: Path) -> tuple[Standing | None, dict[str, torch.Tensor], list[str]]:
    found: dict[str, torch.Tensor] = {}
    standing, problems = Checkpoints(folder, 3).restore(found.update)
    return standing, found, problems


def test_a_checkpoint_comes_back_whole(tmp_path):
    saved(tmp_path / "checkpoints", 100, 200)
    standing, found, problems = restored(tmp_path / "checkpoints")
    assert standing == Standing(step=200, epoch=1, best=0.5)
    assert_equal(found, tensors(200))
    assert problems == []


def test_the_last_few_are_kept(tmp_path):
    checkpoints = saved(tmp_path, 5, 100, 999, 10**8, keep=2)
    assert checkpoints.steps() == [999, 10**8]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000999", "100000000"]


def test_no_checkpoint(tmp_path):
    assert restored(tmp_path / "none") == (None, {}, [])


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def without(key: str) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        return json.dumps({name: value for name, value in json.loads(content).items() if name != key}).encode()

    return damage


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "truncated": ("state.safetensors", lambda content: content[:-7]),
    "bit flipped": ("state.safetensors", flip),
    "empty": ("state.safetensors", lambda content: b""),
    "standing empty": ("standing.json", lambda content: b""),
    "standing truncated": ("standing.json", lambda content: content[:-7]),
    "standing not text": ("standing.json", lambda content: b"\xff"),
    "standing a list": ("standing.json", lambda content: b"[1]"),
    "no checksum": ("standing.json", without("blake2b")),
    "no standing": ("standing.json", without("standing")),
    "newer format": ("standing.json", lambda content: content.replace(b'"format": 1', b'"format": 2')),
    "unknown key": ("standing.json", lambda content: content.replace(b'"epoch"', b'"era"')),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, kind):
    saved(tmp_path, 100, 200)
    name, damage = DAMAGE[kind]
    path = tmp_path / "00000200" / name
    path.write_bytes(damage(path.read_bytes()))
    standing, found, [problem] = restored(tmp_path)
    assert standing.step == 100
    assert_equal(found, tensors(100))
    assert problem.startswith("checkpoint 200 cannot be used: ")


@pytest.mark.parametrize("name", ["state.safetensors", "standing.json"])
def test_no_cut_and_no_flipped_bit_goes_unnoticed(tmp_path, name):
    saved(tmp_path, 100, 200)
    path = tmp_path / "00000200" / name
    whole = path.read_bytes()
    flipped = [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(len(whole))]
    for damaged in (*flipped, *(whole[:end] for end in range(0, len(whole), 16))):
        path.write_bytes(damaged)
        assert restored(tmp_path)[0].step == 100
    path.write_bytes(whole)
    assert restored(tmp_path)[0].step == 200


def test_a_checkpoint_that_is_refused_is_passed_over_and_written_anew(tmp_path):
    saved(tmp_path, 100, 200)
    given, checkpoints = [], Checkpoints(tmp_path, 3)

    def use(found: dict[str, torch.Tensor]) -> None:
        given.append(float(found["step/a"]))
        if given == [200]:
            raise KeyError("step/b")

    standing, problems = checkpoints.restore(use)
    assert (given, standing.step) == ([200, 100], 100)
    assert problems == ["checkpoint 200 cannot be used: no 'step/b'"]
    checkpoints.save(Standing(step=200), tensors(7))
    assert_equal(restored(tmp_path)[1], tensors(7))


@pytest.mark.parametrize("name", ["state.safetensors", "standing.json"])
def test_a_missing_file_falls_back_too(tmp_path, name):
    saved(tmp_path, 100, 200)
    (tmp_path / "00000200" / name).unlink()
    standing, _, [problem] = restored(tmp_path)
    assert standing.step == 100
    assert name in problem


def test_saving_a_step_twice_updates_the_standing_only(tmp_path):
    checkpoints = saved(tmp_path, 100)
    checkpoints.save(Standing(step=100, best=0.9), tensors(-1))
    standing, found, problems = restored(tmp_path)
    assert (standing.best, problems) == (0.9, [])
    assert_equal(found, tensors(100))


def test_a_failed_save_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, 100)
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(Standing(step=200), tensors(200))
    assert [path.name for path in tmp_path.iterdir()] == ["00000100"]
