"""Norms: values against hand loops of the papers' formulas and the entmax package, gradients against differences."""

import math
from collections.abc import Callable
from itertools import product

import entmax as package
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.autograd import gradcheck

from regard.attention import norms
from regard.attention.norms import Norm
from regard.attention.parts import NormPart
from regard.attention.sparse import Entmax, LearnedEntmax, Sparsemax, entmax

Row = list[float]
SINKS = [0.3, -1.2]
SHAPE = BATCH, HEADS, QUERIES, KEYS = 2, 2, 3, 7


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1)


def draw(*shape: int, scale: float = 1.5) -> Tensor:
    return scale * torch.randn(*(shape or SHAPE), dtype=torch.float64)


def table() -> Tensor:
    """Some keys for most queries, one key for one query, none for another."""
    keep = torch.rand(BATCH, 1, QUERIES, KEYS) < 0.6
    keep[0, 0, 0] = torch.arange(KEYS) == 3
    keep[1, 0, 2] = False
    return keep


def share(z: Row, sink: float = 0.0) -> Row:
    return [math.exp(x) / (sink + sum(map(math.exp, z))) for x in z]


def simplex_projection(z: Row) -> Row:
    """Algorithm 1 of Martins and Astudillo 2016."""
    ordered = sorted(z, reverse=True)
    size = max(k for k in range(1, len(z) + 1) if 1 + k * ordered[k - 1] > sum(ordered[:k]))
    threshold = (sum(ordered[:size]) - 1) / size
    return [max(x - threshold, 0.0) for x in z]


def bisected(z: Row, alpha: float) -> Row:
    """Algorithm 1 of Peters et al. 2019."""

    def weights(threshold: float) -> Row:
        return [max((alpha - 1) * x - threshold, 0.0) ** (1 / (alpha - 1)) for x in z]

    low, high = (alpha - 1) * max(z) - 1, (alpha - 1) * max(z)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(weights(middle)) > 1 else (low, middle)
    return weights(low)


def best(z: Row, k: int) -> Row:
    least = sorted(z, reverse=True)[:k][-1]
    return [math.exp(x) * (x >= least) / sum(math.exp(y) for y in z if y >= least) for x in z]


def sink() -> Norm:
    norm = norms.Sink(HEADS)
    norm.sink.data = torch.tensor(SINKS)[:, None]
    return norm


Rule = Callable[[Row, int], Row]
RULES: dict[str, tuple[Callable[[], Norm], Rule]] = {
    "softmax": (norms.Softmax, lambda z, h: share(z)),
    "off_by_one": (norms.OffByOne, lambda z, h: share(z, 1.0)),
    "sink": (sink, lambda z, h: share(z, math.exp(SINKS[h]))),
    "softcap": (lambda: norms.Softcap(cap=2.0), lambda z, h: share([2 * math.tanh(x / 2) for x in z])),
    "scalable": (lambda: norms.Scalable(HEADS), lambda z, h: share([0.43 * math.log(len(z)) * x for x in z])),
    "sigmoid": (norms.Sigmoid, lambda z, h: [1 / (1 + len(z) * math.exp(-x)) for x in z]),
    "relu": (norms.Relu, lambda z, h: [max(x, 0.0) / len(z) for x in z]),
    "top_k": (lambda: norms.TopK(k=2), lambda z, h: best(z, 2)),
    "hard": (norms.Hard, lambda z, h: [float(x == max(z)) for x in z]),
    "exponential": (norms.Exponential, lambda z, h: [math.exp(x) for x in z]),
    "sparsemax": (Sparsemax, lambda z, h: simplex_projection(z)),
    "entmax": (Entmax, lambda z, h: bisected(z, 1.5)),
    "entmax near softmax": (lambda: Entmax(1.05), lambda z, h: bisected(z, 1.05)),
    "learned entmax": (lambda: LearnedEntmax(HEADS, 1.7), lambda z, h: bisected(z, 1.7)),
}
WITH_A_SINK = ["off_by_one", "sink"]
ON_THE_SIMPLEX = [name for name in RULES if name not in [*WITH_A_SINK, "sigmoid", "relu", "exponential"]]


def made(name: str) -> Norm:
    norm = RULES[name][0]()
    return norm.double() if isinstance(norm, nn.Module) else norm


def parameters(norm: object) -> list[Tensor]:
    return list(norm.parameters()) if isinstance(norm, nn.Module) else []


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_each_row_is_the_papers_formula(name: str, masked: bool) -> None:
    scores, keep = draw(), table() if masked else None
    weights = made(name)(scores, keep)
    seen = torch.ones(SHAPE, dtype=torch.bool) if keep is None else keep.expand(SHAPE)
    expected = torch.zeros(SHAPE, dtype=torch.float64)
    for b, h, i in product(range(BATCH), range(HEADS), range(QUERIES)):
        row = scores[b, h, i, seen[b, h, i]].tolist()
        expected[b, h, i, seen[b, h, i]] = torch.tensor(RULES[name][1](row, h) if row else [], dtype=torch.float64)
    # parameters begin as single-precision numbers
    torch.testing.assert_close(weights, expected, rtol=1e-7, atol=1e-7 if parameters(made(name)) else 1e-14)
    assert (weights[~seen] == 0).all()


@pytest.mark.parametrize("name", RULES)
def test_gradients_are_differences_and_finite_without_keys(name: str) -> None:
    norm, scores, keep = made(name), draw().requires_grad_(), table()
    inputs = [scores, *parameters(norm)]
    if name != "hard":
        assert gradcheck(lambda *_: norm(scores, keep), inputs)
    for gradient in torch.autograd.grad((norm(scores, keep) * draw()).sum(), inputs):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", [*ON_THE_SIMPLEX, *WITH_A_SINK])
def test_weights_sum_to_one_or_beside_a_sink_to_less(name: str) -> None:
    totals = made(name)(draw(scale=2.0).float(), None).sum(-1)
    if name in ON_THE_SIMPLEX:
        torch.testing.assert_close(totals, torch.ones_like(totals))
    else:
        assert (totals < 1 + 1e-6).all() and (totals < 0.9).any()


@pytest.mark.parametrize("name", ["softmax", *WITH_A_SINK])
def test_finishing_a_softmax_is_the_same_as_the_call(name: str) -> None:
    norm, scores, values = made(name), draw(), draw(BATCH, HEADS, KEYS, 4)
    finished = norm.finish(scores.softmax(-1) @ values, scores.logsumexp(-1))
    torch.testing.assert_close(finished, norm(scores, None) @ values)


def test_only_norms_that_finish_a_softmax_are_fused() -> None:
    assert [name for name in RULES if made(name).fused] == ["softmax", *WITH_A_SINK]


def test_hard_weights_are_exact_and_learn_as_softmax() -> None:
    scores, pull = draw(2, 1, 500, KEYS).float().requires_grad_(), draw(2, 1, 500, KEYS).float()
    keep = torch.rand(2, 1, 500, KEYS) < 0.6
    weights = norms.Hard()(scores, keep)
    assert ((weights == 0) | (weights == 1)).all()
    [hard] = torch.autograd.grad((weights * pull).sum(), scores)
    [soft] = torch.autograd.grad((norms.softmax(scores, keep) * pull).sum(), scores)
    assert torch.equal(hard, soft)


def test_keys_that_tie_with_the_kth_stay() -> None:
    weights = norms.TopK(k=2)(torch.tensor([[[[1.0, 3.0, 1.0, 0.0]]]]), None)
    assert (weights > 0).tolist() == [[[[True, True, True, False]]]]


@pytest.mark.parametrize("keys", [1, 2, 40, 300])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0])
def test_entmax_and_its_gradients_are_the_packages(keys: int, scale: float, alpha: float) -> None:
    scores, pull = draw(2, 2, 3, keys, scale=scale).requires_grad_(), draw(2, 2, 3, keys)
    theirs = {1.5: package.entmax15, 2.0: package.sparsemax}.get(alpha, _bisect(alpha))
    ours, expected = entmax(scores, None, alpha), theirs(scores, dim=-1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad((weights * pull).sum(), scores)[0] for weights in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-9)


def _bisect(alpha: float | Tensor) -> Callable[..., Tensor]:
    return lambda scores, dim: package.entmax_bisect(scores, alpha, dim=dim, n_iter=80)


def test_alphas_gradient_is_the_packages() -> None:
    alpha = torch.tensor([1.2, 1.8], dtype=torch.float64)[:, None, None].requires_grad_()
    scores, pull = draw(2, 2, 5, 30), draw(2, 2, 5, 30)
    ours, theirs = entmax(scores, None, alpha), _bisect(alpha.expand(2, 2, 5, 1))(scores, dim=-1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad((weights * pull).sum(), alpha)[0] for weights in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=0)


HALVINGS = -(0.5 ** torch.arange(60, dtype=torch.float64))


@pytest.mark.parametrize("row", [torch.zeros(4000), torch.arange(30.0) / 40 + 1e4, HALVINGS, -HALVINGS.abs().sqrt()])
@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_entmax_of_awkward_rows(row: Tensor, alpha: float) -> None:
    theirs = package.sparsemax if alpha == 2 else package.entmax15
    exact = theirs(row.double(), dim=-1)
    ours = entmax(row[None, None, None], None, alpha)[0, 0, 0].double()
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-14 if row.dtype == torch.float64 else 2e-6)
    assert abs(float(ours.sum()) - 1) < 1e-5


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_entmax_without_early_stop_is_the_same(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, keep = draw(), table()
    expected = entmax(scores, keep, alpha)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(entmax(scores, keep, alpha), expected, rtol=0, atol=1e-14)


def test_entmax_of_half_precision_is_computed_in_single() -> None:
    scores = draw(1, 1, 8, 200).bfloat16()
    weights = entmax(scores, None, 1.5)
    assert torch.equal(weights, entmax(scores.float(), None, 1.5).bfloat16())


KINDS = "softmax off_by_one sink softcap scalable sigmoid relu top_k hard sparsemax entmax".split()


@pytest.mark.parametrize("kind", KINDS)
def test_settings_build_each_norm(kind: str) -> None:
    norm = TypeAdapter[NormPart](NormPart).validate_python({"kind": kind}).build(HEADS)
    assert norm(draw().float(), table()).shape == SHAPE


def test_what_is_no_distribution_is_not_for_every_score() -> None:
    with pytest.raises(ValidationError, match="exponential"):
        TypeAdapter[NormPart](NormPart).validate_python({"kind": "exponential"})


def test_settings_build_a_learned_alpha_short_of_two() -> None:
    part = TypeAdapter[NormPart](NormPart)
    learned = part.validate_python({"kind": "entmax", "alpha": 1.25, "learned": True}).build(3)
    torch.testing.assert_close(learned.alpha, torch.full((3, 1, 1), 1.25))
    with pytest.raises(ValidationError, match="less than 2"):
        part.validate_python({"kind": "entmax", "alpha": 2.0})
