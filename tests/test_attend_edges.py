"""Inputs that are legal but unusual, and promises about memory."""

import gc
import math
import weakref

import pytest
import torch
from torch import nn

from regard.attention import (
    Alibi,
    Causal,
    Cosine,
    Distance,
    Documents,
    Lengths,
    LocationSensitive,
    OffByOne,
    Score,
    Table,
    Window,
    attend,
    merged,
)
from regard.attention.scores import Lift, ScaledDot
from regard.errors import AttentionError, SettingsError

KERNELS = ("explicit", "fused", "spans", "rows", "sdpa")


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.fixture
def inputs() -> list[torch.Tensor]:
    return [random(2, 4, 5, 6), random(2, 2, 7, 6), random(2, 2, 7, 6)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_inputs_of_any_strides(kernel, inputs):
    strided = [one.detach().mT.contiguous().mT for one in inputs]
    expanded = inputs[2][..., :1].expand(-1, -1, -1, 6)
    torch.testing.assert_close(attend(*strided, kernel=kernel).out, attend(*inputs, kernel="specification").out)
    expected = attend(inputs[0], inputs[1], expanded.contiguous(), kernel="specification").out
    torch.testing.assert_close(attend(inputs[0], inputs[1], expanded, kernel=kernel).out, expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("causal", [False, True])
def test_a_bias_of_minus_infinity_hides_a_key(kernel, causal, inputs):
    bias = torch.zeros(1, 1, 5, 7, dtype=torch.float64)
    bias[..., :3] = -math.inf  # of query 0, which stands at 2, that is all
    where = Causal() if causal else Window(back=9, ahead=9)
    hidden = Table((bias > -math.inf).expand(2, 1, -1, -1))
    shifted = torch.arange(5)
    found = attend(*inputs, where=where, bias=bias, at=shifted, kernel=kernel)
    expected = attend(*inputs, where=where & hidden, at=shifted, kernel="specification")
    torch.testing.assert_close(found.out, expected.out)
    assert not causal or found.out[:, :, 0].eq(0).all()


def test_a_learned_bias_may_be_any_function(inputs):
    slope = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    found = [
        torch.autograd.grad(
            attend(*inputs, bias=lambda b, h, i, j: slope * (i - j).abs(), kernel=kernel).out.square().sum(), slope
        )
        for kernel in ("auto", "explicit", "rows")
    ]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])
    with pytest.raises(AttentionError, match="the bias is learned"):
        attend(*inputs, bias=lambda b, h, i, j: slope * (i - j), kernel="fused")


def test_dropout_where_queries_see_nothing():
    given = [random(1, 2, 6, 4), random(1, 2, 4, 4), random(1, 2, 4, 4)]  # queries stand at -2 to 3
    for norm in (None, OffByOne()):
        found = attend(*given, where=Causal(), dropout=0.1, kernel="spans", **({"norm": norm} if norm else {}))
        assert found.out[:, :, :2].eq(0).all()
        assert found.lse[:, :, :2].eq(-math.inf).all()
        gradients = torch.autograd.grad(found.out.square().sum(), given)
        assert all(one.isfinite().all() for one in gradients)
        assert gradients[0][:, :, :2].eq(0).all()


def test_parts_merge(inputs):
    queries, keys, values = inputs
    whole = attend(*inputs, where=Lengths(torch.tensor([7, 2])), at=torch.arange(5))
    parts = [
        attend(queries, keys[:, :, :3], values[:, :, :3], where=Lengths(torch.tensor([7, 2])), at=torch.arange(5)),
        attend(queries, keys[:, :, 3:], values[:, :, 3:], where=Lengths(torch.tensor([7, 2])), at=torch.arange(5),
               keys_at=torch.arange(3, 7)),
    ]  # fmt: skip
    out, lse = merged(parts)
    torch.testing.assert_close(out, whole.out)
    torch.testing.assert_close(lse, whole.lse)
    expected = torch.autograd.grad(whole.out.sum() + whole.lse.sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad(out.sum() + lse.sum(), inputs), expected)
    with pytest.raises(AttentionError, match="plain softmax"):
        merged([attend(*inputs, norm=OffByOne())] * 2)


def test_what_a_mask_was_made_of_must_not_change():
    given, lengths = [random(2, 2, 300, 4) for _ in range(3)], torch.tensor([300, 40])
    out = attend(*given, where=Lengths(lengths), kernel="spans").out
    lengths.fill_(300)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("kernel", ["fused", "spans"])
def test_a_gradient_keeps_no_more_than_it_needs(kernel):
    layer, inputs = nn.Linear(4, 4).double(), torch.randn(1, 2, 300, 4, dtype=torch.float64)
    queries = layer(inputs)
    kept = weakref.ref(queries)
    loss = attend(queries, queries, queries, where=Causal(), kernel=kernel).out.sum()
    del queries
    loss.backward()
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("length", [1, 4, 200, 600])
def test_bias_in_half_precision(length):
    given = [torch.randn(1, 2, length, 8, dtype=torch.bfloat16) for _ in range(3)]
    bias = Alibi().on_score(2)
    expected = attend(*(one.double() for one in given), where=Causal(), bias=bias, kernel="specification").out
    torch.testing.assert_close(attend(*given, where=Causal(), bias=bias).out.double(), expected, atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize("length", [8, 600])
@pytest.mark.parametrize("score", [Cosine(2), Distance(), ScaledDot()])
def test_autocast(score, length):
    given = [torch.randn(1, 2, length, 8, requires_grad=True) for _ in range(3)]
    expected = attend(*given, score=score, where=Causal(), kernel="specification").out
    with torch.autocast("cpu", torch.bfloat16):
        half = [one.to(torch.bfloat16) for one in given]
        out = attend(*half, score=score, where=Causal()).out
    torch.testing.assert_close(out.float(), expected, atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize("length", [5, 300])
def test_whole_numbers_of_any_size(length):
    given, lengths = [random(2, 2, length, 4) for _ in range(3)], torch.tensor([length, 3])
    places = torch.arange(length)
    small = attend(*given, where=Lengths(lengths.int()) & Causal(), at=places.int(), keys_at=places.int())
    assert small.out.equal(attend(*given, where=Lengths(lengths) & Causal(), at=places, keys_at=places).out)


@pytest.mark.parametrize("kernel", KERNELS)
def test_positions_before_the_first_see_no_document(kernel):
    given = [random(1, 2, 5, 4), random(1, 2, 3, 4), random(1, 2, 3, 4)]  # queries stand at -2 to 2
    for where in (Documents(torch.tensor([[0, 0, 1]])), Table(torch.ones(1, 1, 3, 3, dtype=torch.bool))):
        out = attend(*given, where=where, kernel=kernel).out
        assert out[:, :, :2].eq(0).all()
        assert out[:, :, 2:].ne(0).all()


class Halving(ScaledDot):
    """A score that lifts and halves the weights."""

    def gain(self, queries, places):
        return torch.full((1, 1, 1, 1), 0.5, dtype=queries.dtype)


def test_a_gain_is_not_forgotten():
    given = [random(1, 2, 300, 4) for _ in range(3)]
    assert isinstance(Halving().lift(given[0], given[1]), Lift)
    torch.testing.assert_close(attend(*given, score=Halving()).out, attend(*given).out / 2)
    assert issubclass(Halving, Score)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": torch.zeros(1, 1, 5, 7, dtype=torch.bool)}, "bias of type torch.bool"),
        ({"bias": torch.zeros(1, 1, 5, 1, dtype=torch.float64)}, "bias of shape"),
        ({"where": Lengths(torch.tensor([1, 2, 3]))}, "a pattern for"),
        ({"dropout": 1.0}, "dropout 1.0"),
    ],
)
def test_arguments_that_do_not_fit(options, message, inputs, shapes_unchecked):
    with pytest.raises(AttentionError, match=message):
        attend(*inputs, **options)


def test_a_filter_without_a_middle():
    with pytest.raises(SettingsError, match="no middle"):
        LocationSensitive(4, kernel=4)
