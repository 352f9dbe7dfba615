"""Norms that read from left to right: against enumeration, the closed form and literal loops of the papers."""

import math
from itertools import product

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.autograd import gradcheck

from regard.attention.monotonic import Chunkwise, Monotonic
from regard.attention.norms import StatefulNorm
from regard.attention.parts import SteppingNormPart

SHAPE = BATCH, HEADS, QUERIES, KEYS = 2, 2, 3, 7


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1)


def draw(*shape: int, scale: float = 1.5) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64)


def run(norm: StatefulNorm, scores: Tensor, keep: Tensor | None = None) -> Tensor:
    """Weights of one step after another, (steps, batch, heads, queries, keys), from scores of that shape."""
    state, steps = norm.begin(scores[0]), []
    for one in scores:
        weights, state = norm.step(one, keep, state)
        steps.append(weights)
    return torch.stack(steps)


def reader(kind: type[Monotonic] | type[Chunkwise], **settings: float | bool) -> Monotonic | Chunkwise:
    return kind(HEADS, offset=-0.3, **settings).double().eval()


def stop(decisions: tuple[bool, ...], begin: int) -> int | None:
    """Algorithm 1 of Raffel et al. 2017: the first key from ``begin`` on at which the decision is to stop."""
    return next((j for j in range(begin, len(decisions)) if decisions[j]), None)


def test_monotonic_weights_are_the_chances_to_stop() -> None:
    norm, scores = reader(Monotonic), draw(3, 1, HEADS, 1, 5)
    chances = torch.sigmoid(scores + norm.offset)[:, 0, :, 0].tolist()
    for h in range(HEADS):
        before = [1.0, 0.0, 0.0, 0.0, 0.0]
        for i, weights in enumerate(run(norm, scores)[:, 0, h, 0]):
            after = [0.0] * 5
            for begin, decisions in product(range(5), product([False, True], repeat=5)):
                chance = math.prod(p if stops else 1 - p for p, stops in zip(chances[i][h], decisions, strict=True))
                if (end := stop(decisions, begin)) is not None:
                    after[end] += before[begin] * chance
            before = after
            torch.testing.assert_close(weights, torch.tensor(after, dtype=torch.float64), rtol=0, atol=1e-15)


def test_monotonic_recursion_is_the_closed_form() -> None:
    norm, scores = reader(Monotonic), draw(4, BATCH, HEADS, 2, 40, scale=0.5)
    before = norm.begin(scores[0])
    for one, weights in zip(scores, run(norm, scores), strict=True):
        p = torch.sigmoid(one + norm.offset)
        left = torch.cat([torch.ones_like(p[..., :1]), (1 - p).cumprod(-1)[..., :-1]], -1)
        before = p * left * (before / left).cumsum(-1)
        torch.testing.assert_close(weights, before, rtol=1e-9, atol=1e-15)


def test_monotonic_is_exact_and_learns_where_the_closed_form_underflows() -> None:
    norm = reader(Monotonic).float()
    scores = draw(3, 1, HEADS, 1, 1500, scale=20.0).float().requires_grad_()
    weights = run(norm, scores)
    torch.testing.assert_close(weights.double(), run(norm.double(), scores.double()), rtol=0, atol=1e-5)
    [gradient] = torch.autograd.grad(weights.square().sum(), scores)
    assert gradient.isfinite().all() and gradient.any()


def test_hard_readers_stop_at_the_first_key_or_see_nothing_more() -> None:
    scores = draw(6, BATCH, HEADS, QUERIES, 9)
    weights = run(reader(Monotonic, hard=True), scores)
    for b, h, i in product(range(BATCH), range(HEADS), range(QUERIES)):
        at: int | None = 0
        for z, row in zip(scores[:, b, h, i], weights[:, b, h, i], strict=True):
            at = None if at is None else stop(tuple((torch.sigmoid(z - 0.3) > 0.5).tolist()), at)
            assert row.tolist() == [float(j == at) for j in range(9)]


@pytest.mark.parametrize("width", [1, 3, 12])
@pytest.mark.parametrize("hard", [False, True])
def test_chunks_share_a_stop_by_softmax(width: int, hard: bool) -> None:
    norm, scores = reader(Chunkwise, width=width, hard=hard), draw(3, BATCH, HEADS, 2, KEYS)
    norm.factor.data = torch.tensor([0.5, 2.0], dtype=torch.float64)[:, None, None]
    stops, expected = run(norm.monotonic, scores), torch.zeros_like(scores)
    for row in product(*map(range, scores.shape[:-1])):
        energies = (scores[row] * norm.factor[row[2], 0, 0]).tolist()
        for k in range(KEYS):
            chunk = range(max(0, k - width + 1), k + 1)
            for j in chunk:
                part = math.exp(energies[j]) / sum(math.exp(energies[m]) for m in chunk)
                expected[row][j] += stops[row][k] * part
    torch.testing.assert_close(run(norm, scores), expected.detach(), rtol=0, atol=1e-14)


def test_chunks_of_scores_beyond_exp_stay_finite() -> None:
    norm, scores = reader(Chunkwise, width=3), draw(2, *SHAPE, scale=1000.0).requires_grad_()
    weights = run(norm, scores)
    torch.testing.assert_close(weights.sum(-1), run(norm.monotonic, scores).sum(-1))
    assert torch.autograd.grad(weights.square().sum(), scores)[0].isfinite().all()


@pytest.mark.parametrize("kind", [Monotonic, Chunkwise])
@pytest.mark.parametrize("hard", [False, True])
def test_readers_pass_over_masked_keys_as_if_absent(kind: type[Monotonic] | type[Chunkwise], hard: bool) -> None:
    norm, scores = reader(kind, hard=hard), draw(4, 1, HEADS, 2, 8)
    seen = torch.tensor([0, 1, 1, 0, 0, 1, 1, 0], dtype=torch.bool)
    weights = run(norm, scores.masked_fill(~seen, torch.nan), seen.expand(1, 1, 1, 8))
    torch.testing.assert_close(weights[..., seen], run(norm, scores[..., seen]), rtol=0, atol=1e-14)
    assert (weights[..., ~seen] == 0).all()


@pytest.mark.parametrize("kind", [Monotonic, Chunkwise])
def test_readers_gradients_are_differences_and_zero_without_keys(kind: type[Monotonic] | type[Chunkwise]) -> None:
    norm, keep = reader(kind), torch.rand(BATCH, 1, QUERIES, KEYS) < 0.6
    keep[1, :, 2] = False
    scores, state = draw(*SHAPE).requires_grad_(), draw(*SHAPE).softmax(-1).requires_grad_()
    assert gradcheck(lambda *_: norm.step(scores, keep, state), [scores, state, *norm.parameters()])
    weights, after = norm.step(scores, keep, state)
    assert not weights[1, :, 2].any() and not after[1, :, 2].any()


def test_noise_is_drawn_from_torchs_generator_while_training() -> None:
    norm, scores = reader(Monotonic), draw(1, *SHAPE)
    quiet = run(norm, scores)
    norm.train()
    noisy = [(torch.manual_seed(seed), run(norm, scores))[1] for seed in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    norm.noise = 0.0
    assert torch.equal(run(norm, scores), quiet)


def test_settings_build_readers() -> None:
    stepping = TypeAdapter[SteppingNormPart](SteppingNormPart)
    chunkwise = stepping.validate_python({"kind": "chunkwise", "width": 3, "hard": True}).build(HEADS)
    assert isinstance(chunkwise, Chunkwise) and chunkwise.width == 3 and chunkwise.monotonic.hard
    assert isinstance(stepping.validate_python({"kind": "monotonic"}).build(HEADS), Monotonic)
