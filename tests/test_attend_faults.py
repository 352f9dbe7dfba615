"""What `attend` refuses and what it says about it; and calls of nothing: no queries, no keys, rows that see none."""

import re

import pytest
import torch
from torch import Tensor

from regard.attention import Additive, Causal, Cosine, Full, Lengths, OffByOne, Relu, ScaledDot, Sigmoid, Sink, attend
from regard.attention.kernels import KERNELS
from regard.attention.location import LocationSensitive
from regard.attention.norms import Softmax
from regard.attention.sparse import Entmax
from regard.errors import AttentionError


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def inputs(rows=4, batch=2, heads=4, kv_heads=2, queries=3, keys=5) -> dict[str, Tensor]:
    shapes = {
        "queries": (rows, heads, queries, 4),
        "keys": (batch, kv_heads, keys, 4),
        "values": (batch, kv_heads, keys, 6),
    }
    return {name: torch.randn(shape) for name, shape in shapes.items()}


MISFITS = [
    ("queries", torch.zeros(4, 3, 4), "four axes"),
    ("keys", torch.zeros(2, 2, 2, 5, 4), "four axes"),
    ("values", torch.zeros(2, 5), "four axes"),
    ("queries", torch.zeros(3, 4, 3, 4), "a multiple of the keys' 2 rows and 2 heads"),
    ("queries", torch.zeros(4, 3, 3, 4), "a multiple of the keys' 2 rows and 2 heads"),
    ("queries", torch.zeros(1, 4, 3, 4), "a multiple of the keys' 2 rows and 2 heads"),
    ("values", torch.zeros(1, 2, 5, 6), "rows, heads and time of the keys, (2, 2, 5)"),
    ("values", torch.zeros(2, 1, 5, 6), "rows, heads and time of the keys, (2, 2, 5)"),
    ("values", torch.zeros(2, 2, 4, 6), "rows, heads and time of the keys, (2, 2, 5)"),
    ("bias", torch.zeros(3, 5), "axes of 1 or of (4, 4, 3, 5)"),
    ("bias", torch.zeros(2, 1, 3, 5), "axes of 1 or of (4, 4, 3, 5)"),
    ("bias", torch.zeros(1, 1, 5, 3), "axes of 1 or of (4, 4, 3, 5)"),
    ("at", torch.arange(5), "one position for each of 3, for all rows or for each of 4"),
    ("at", torch.zeros(2, 3).long(), "one position for each of 3, for all rows or for each of 4"),
    ("at", torch.tensor(3), "one position for each of 3, for all rows or for each of 4"),
    ("keys_at", torch.arange(3), "one position for each of 5, for all rows or for each of 2"),
    ("keys_at", torch.zeros(4, 5).long(), "one position for each of 5, for all rows or for each of 2"),
]


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize(("name", "tensor", "wanted"), MISFITS)
def test_a_tensor_that_does_not_fit_is_named(name, tensor, wanted):
    with pytest.raises(AttentionError) as refused:
        attend(**inputs() | {name: tensor})
    assert refused.value.message == f"{name} of shape {tuple(tensor.shape)}"
    assert wanted in refused.value.hint


@pytest.mark.usefixtures("shapes_unchecked")
def test_queries_and_keys_of_different_width():
    given = inputs() | {"queries": torch.zeros(4, 4, 3, 5)}
    with pytest.raises(AttentionError, match=re.escape("queries of shape (2, 4, 6, 5) and keys of shape (2, 2, 5, 4)")):
        attend(**given)


REFUSED = [
    ("fused", {"score": Additive(4)}, "Additive is no dot product"),
    ("spans", {"norm": Sigmoid()}, "Sigmoid does not follow from a softmax"),
    ("fused", {"dropout": 0.5}, "dropout"),
    ("fused", {"bias": torch.zeros(1, 1, 1, 5, requires_grad=True)}, "the bias is learned"),
    ("spans", {"keys_at": torch.tensor([3, 4, 0, 1, 2])}, "the keys are not in the order of their positions"),
    ("sdpa", {"norm": OffByOne()}, "OffByOne needs the lse"),
    ("flex", {}, "no backward on a CPU"),
    ("rows", {"score": LocationSensitive(4)}, "a state passes from one query to the next"),
]


@pytest.mark.parametrize(("kernel", "asked", "reason"), REFUSED)
def test_a_kernel_that_cannot_says_why(kernel, asked, reason):
    with pytest.raises(AttentionError, match=f"kernel '{kernel}' cannot do this: .*{reason}"):
        attend(**inputs(), **asked, kernel=kernel)


def test_a_kernel_that_is_not_there():
    with pytest.raises(AttentionError, match=r"no kernel 'fusd'\n.*did you mean 'fused'"):
        attend(**inputs(), kernel="fusd")


ASKED = [{}, {"score": Additive(4)}, {"norm": Relu()}, {"where": Causal()}, {"dropout": 0.5}, {"score": Cosine()}]


@pytest.mark.parametrize("queries", [1, 3, 150])
@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_why_begins_with_a_kernel(queries, asked):
    why = attend(**inputs(queries=queries, keys=150), **asked).why
    name, reason = why.split(": ")
    assert name in KERNELS and reason


def test_states_are_looked_at_one_by_one():
    assert attend(**inputs(), score=LocationSensitive(4)).why.startswith("steps: ")


ALL_NORMS = {"softmax": Softmax(), "sink": Sink(4), "sigmoid": Sigmoid(), "entmax": Entmax()}
ABLE = [("auto", norm) for norm in ALL_NORMS] + [("rows", norm) for norm in ALL_NORMS]
ABLE += [(kernel, norm) for kernel in ("fused", "spans") for norm in ("softmax", "sink")]
each_able = pytest.mark.parametrize(("kernel", "norm"), ABLE)


@each_able
def test_rows_that_see_nothing_are_zeros_without_gradients(kernel, norm):
    given = {name: tensor.requires_grad_() for name, tensor in inputs().items()}
    where = Lengths(torch.tensor([0, 3]))
    attended = attend(**given, where=where, norm=ALL_NORMS[norm], kernel=kernel)
    attended.out.sin().sum().backward()
    assert attended.out[:2].eq(0).all() and attended.out[2:].ne(0).any()
    assert attended.weights.dense()[:2].eq(0).all()
    assert given["queries"].grad[:2].eq(0).all() and given["queries"].grad.isfinite().all()
    assert all(given[name].grad[0].eq(0).all() and given[name].grad.isfinite().all() for name in ("keys", "values"))


@each_able
@pytest.mark.parametrize("where", [Full(), Causal()], ids=["full", "causal"])
@pytest.mark.parametrize(("queries", "keys"), [(0, 5), (3, 0), (0, 0)])
def test_nothing_to_ask_or_to_look_at(queries, keys, where, kernel, norm):
    given = {name: tensor.requires_grad_() for name, tensor in inputs(queries=queries, keys=keys).items()}
    attended = attend(**given, where=where, norm=ALL_NORMS[norm], kernel=kernel)
    attended.out.sum().backward()
    assert attended.out.equal(torch.zeros(4, 4, queries, 6))
    assert attended.weights.dense().shape == (4, 4, queries, keys)
    assert all(tensor.grad is None or tensor.grad.eq(0).all() for tensor in given.values())


@pytest.mark.parametrize("score", [ScaledDot(), Additive(4), Cosine()], ids=["dot", "additive", "cosine"])
def test_no_rows(score):
    given = {name: tensor[:0] for name, tensor in inputs().items()}
    with pytest.raises(AttentionError, match="queries of shape"):
        attend(**given, score=score)
