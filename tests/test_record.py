"""Recording: what a model looked at, under which name, whoever asks."""

import threading

import pytest
import torch

from regard.attention import record
from regard.models.heads import TokenHead
from regard.models.model import Model, ModelSettings, build_model
from regard.padded import Padded, pad


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(1)
    side = {"layers": 2, "heads": 2, "feedforward": 8}
    settings = ModelSettings.model_validate({"width": 8, "encoder": side, "decoder": side})
    return build_model(settings, 9, lambda output, widths: TokenHead(output)).double().eval()


SOURCE, TARGET = pad([[4, 5, 6], [7, 8]]), pad([[2, 4, 4, 5], [2, 6, 7]])


def run(model: Model, source: Padded, target: Padded, by: int) -> None:
    """Over the target in chunks of ``by`` steps."""
    memory = model.encode(source)
    state = model.start(memory, len(target.lengths))
    for step in range(0, target.values.shape[1], by):
        counts = (target.lengths - step).clamp(0, by)
        _, state = model.advance(Padded(target.values[:, step : step + by], counts), memory, state)


def test_record_names_every_attention(model):
    with record(model) as maps:
        run(model, SOURCE, TARGET, by=4)
    assert {name: tuple(weights.shape) for name, weights in maps.items()} == {
        **{f"encoder/{layer}/self": (2, 2, 3, 3) for layer in range(2)},
        **{f"decoder/{layer}/self": (2, 2, 4, 4) for layer in range(2)},
        **{f"decoder/{layer}/cross": (2, 2, 4, 3) for layer in range(2)},
    }
    assert maps["decoder/1/cross"][1, :, :, 2:].eq(0).all()
    torch.testing.assert_close(maps["decoder/1/cross"].sum(-1), torch.ones(2, 2, 4))


@pytest.mark.parametrize("by", [1, 2, 3])
def test_recording_step_by_step_is_recording_all_at_once(model, by):
    with record(model) as expected:
        run(model, SOURCE, TARGET, by=4)
    with record(model) as maps:
        run(model, SOURCE, TARGET, by=by)
    real = TARGET.mask[:, None, :, None]
    for name, weights in maps.items():
        mask = real if name.startswith("decoder") else torch.tensor(True)
        torch.testing.assert_close(weights * mask, expected[name] * mask, msg=name)


def test_nothing_is_recorded_outside(model):
    with record(model) as maps:
        pass
    run(model, SOURCE, TARGET, by=4)
    assert maps == {}
    with record(model.encoder) as maps:
        run(model, SOURCE, TARGET, by=4)
    assert list(maps) == ["0/self", "1/self"]


def test_threads_do_not_see_each_others_maps(model):
    together = threading.Barrier(2, timeout=30)
    shapes: dict[int, torch.Size] = {}

    def look(length: int) -> None:
        with record(model) as maps:
            together.wait()
            run(model, pad([[5] * length]), pad([[2, 4]]), by=2)
            together.wait()
            shapes[length] = maps["encoder/0/self"].shape

    threads = [threading.Thread(target=look, args=(length,)) for length in (3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == {length: (1, 2, length, length) for length in (3, 5)}
