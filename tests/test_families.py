"""Every family of models by name: it learns to turn short strings around, and its parts are those of its papers."""

from typing import Any, get_args

import pytest
import torch

from regard.models.copy_head import CopyHead
from regard.models.families import FAMILIES, Family
from regard.models.heads import TokenHead
from regard.models.model import Model, ModelSettings, build_model
from regard.padded import Padded, pad
from regard.settings import to_yaml
from small_models import answers, forced, learn

FORECASTING = ("linear", "patch", "inverted")
OF_TEXT = [family for family in get_args(Family) if family not in FORECASTING]
END, LETTERS, LONGEST = 3, range(4, 12), 5
SMALL = {"layers": 2, "heads": 2, "feedforward": 64}
SLOW_TO_LEARN = {"seq2seq": 500, "transformer_2017": 300, "decoder_only": 300, "hybrid": 300}
"""Updates where they are not 200: without attention the whole source goes through one vector."""


def small(family: str) -> ModelSettings:
    """The family as it is, but small."""
    settings = ModelSettings.model_validate({"kind": family, "width": 32, "dropout": 0.0}).model_dump()
    for side in ("encoder", "decoder"):
        settings[side] |= {name: size for name, size in SMALL.items() if name in settings[side]}
        settings[side] |= {name: 0.0 for name in ("attention_dropout",) if name in settings[side]}
    return ModelSettings.model_validate(settings)


def reversals() -> tuple[Padded, Padded]:
    lengths = torch.randint(2, LONGEST + 1, (64,)).tolist()
    texts = [torch.randint(LETTERS.start, LETTERS.stop, (length,)).tolist() for length in lengths]
    return pad([[*text, END] for text in texts]), pad([[*text[::-1], END] for text in texts])


@pytest.mark.parametrize("family", OF_TEXT)
def test_every_family_learns(family: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = build_model(small(family), LETTERS.stop, lambda output, widths: TokenHead(output))
    learn(model, reversals, SLOW_TO_LEARN.get(family, 200))
    source, target = reversals()
    right = answers(model, source, target) == target.values
    share = right[target.mask].float().mean()
    assert share > 0.9


@torch.no_grad()
@pytest.mark.parametrize("family", [family for family in OF_TEXT if family != "decoder_only"])
def test_every_family_copies(family: str) -> None:
    """All at once, one by one, or without the other rows: the same probabilities, which sum to one."""
    torch.manual_seed(1)
    model = build_model(small(family), LETTERS.stop, lambda output, widths: CopyHead(output, widths)).double().eval()
    source, target = pad([[4, 5, 4, 6, END], [7, END], [8, 9, END]]), pad([[2, 4, 5], [2, 7, 8], [2, 9, 9]])
    memory = model.encode(source)
    decoded, _ = model.advance(target, memory, model.start(memory, 3))
    expected = model.log_probs(decoded, memory)
    torch.testing.assert_close(expected.exp().sum(-1), torch.ones(3, 3, dtype=torch.float64))
    state, found = model.start(memory, 3), []
    for token in target.values.split(1, 1):
        decoded, state = model.advance(Padded(token, torch.ones(3, dtype=torch.long)), memory, state)
        found.append(model.log_probs(decoded, memory))
    torch.testing.assert_close(torch.cat(found, 1), expected)
    memory = model.encode(pad([[7, END]]))
    decoded, _ = model.advance(Padded(target.values[1:2], target.lengths[1:2]), memory, model.start(memory, 1))
    torch.testing.assert_close(model.log_probs(decoded, memory)[0], expected[1])


@pytest.mark.parametrize("family", OF_TEXT)
def test_half_precision_is_nearly_single(family: str) -> None:
    torch.manual_seed(1)
    model = build_model(small(family), LETTERS.stop, lambda output, widths: TokenHead(output)).eval()
    source, target = reversals()
    single = loss_of(model, source, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss_of(model, source, target)
    half.backward()
    assert half.item() == pytest.approx(single.item(), rel=0.01)
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def loss_of(model: Model, source: Padded, target: Padded) -> torch.Tensor:
    memory, decoded = forced(model, source, target)
    return model.head.loss(decoded, target, memory.head).total


@pytest.mark.parametrize("family", get_args(Family))
def test_a_saved_family_is_read_back(family: str) -> None:
    settings = ModelSettings.model_validate({"kind": family, "width": 16})
    assert ModelSettings.model_validate(settings.model_dump(mode="json")) == settings
    assert f"kind: {family}" in to_yaml(settings)


def test_every_name_is_a_family() -> None:
    assert set(get_args(Family)) == set(FAMILIES)


@pytest.mark.parametrize(
    ("given", "positions"),
    [
        ({"kind": "transformer_today", "decoder": {"layers": 2}}, "rotary"),
        ({"kind": "transformer_today", "decoder": {"kind": "transformer", "heads": 2}}, "rotary"),
        ({"kind": "rnn", "decoder": {"kind": "transformer"}}, "sinusoidal"),
        ({"kind": "transformer_today", "decoder": {"positions": {"kind": "alibi"}}}, "alibi"),
        ({"kind": "transformer_today", "decoder": {"attention": {"where": {"kind": "window", "back": 3}}}}, "rotary"),
    ],
)
def test_what_is_given_goes_before_the_family(given: dict[str, Any], positions: str) -> None:
    settings = ModelSettings.model_validate(given | {"width": 16})
    assert settings.decoder.model_dump()["positions"]["kind"] == positions


def test_a_family_is_completed_at_every_depth() -> None:
    window = {"attention": {"where": {"kind": "window", "back": 3}}}
    settings = ModelSettings.model_validate({"kind": "transformer_today", "width": 16, "encoder": window})
    assert settings.encoder.model_dump()["attention"]["score"]["kind"] == "cosine"
    other = {"attention": {"layout": {"kind": "latent"}, "score": {"kind": "scaled_dot"}}}
    settings = ModelSettings.model_validate({"kind": "transformer_today", "width": 16, "encoder": other})
    assert "kv_heads" not in settings.encoder.model_dump()["attention"]["layout"]
