"""Attention against hand-written loops, against torch's own, and against itself done another way."""

import importlib
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regard import trees
from regard.attention import (
    Additive,
    Attention,
    Causal,
    Full,
    KeyValues,
    Lengths,
    ScaledDot,
    attend,
    record,
    rotate,
    rotation,
    sinusoidal,
)
from regard.attention.settings import SteppingPart

KERNELS = importlib.import_module("regard.attention.kernels")


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


@pytest.fixture(params=["explicit", "fused"])
def kernel(request, monkeypatch) -> str:
    for limit in ("SHORT", "SHORT_ROWS"):
        monkeypatch.setattr(KERNELS, limit, {"explicit": 1 << 40, "fused": 0}[request.param])
    return request.param


def dot_by_hand(query: list[float], key: list[float]) -> float:
    return sum(q * k for q, k in zip(query, key, strict=True)) / math.sqrt(len(query))


def additive_by_hand(score: Additive):
    direction = score.direction.tolist()
    return lambda query, key: sum(v * math.tanh(q + k) for v, q, k in zip(direction, query, key, strict=True))


def attend_by_hand(score, queries, keys, values, keep) -> torch.Tensor:
    """The formula, one number at a time: sum_j exp(score_j) v_j / sum_j exp(score_j) over the keys that are kept."""
    out = torch.zeros(*queries.shape[:-1], values.shape[-1], dtype=queries.dtype)
    for row, head, query in torch.cartesian_prod(*(torch.arange(size) for size in queries.shape[:3])).tolist():
        seen = [key for key in range(keys.shape[2]) if keep[row, query, key]]
        powers = [math.exp(score(queries[row, head, query].tolist(), keys[row, head, key].tolist())) for key in seen]
        for power, key in zip(powers, seen, strict=True):
            out[row, head, query] += power / sum(powers) * values[row, head, key]
    return out


SEEN = {
    "full": (Full(), lambda row, query, key: True),
    "causal": (Causal(), lambda row, query, key: key <= query + 1),  # three queries are the last of four keys
    "lengths": (Lengths(torch.tensor([4, 2])), lambda row, query, key: key < [4, 2][row]),
    "nothing": (Lengths(torch.tensor([3, 0])), lambda row, query, key: key < [3, 0][row]),
    "both": (
        Causal() & Lengths(torch.tensor([4, 2])),
        lambda row, query, key: key <= query + 1 and key < [4, 2][row],
    ),
}


@pytest.mark.parametrize("scoring", ["dot", "additive"])
@pytest.mark.parametrize("seen", SEEN)
def test_attend_is_its_formula(scoring, seen, kernel):
    where, allowed = SEEN[seen]
    queries, keys, values = random(2, 2, 3, 5), random(2, 2, 4, 5), random(2, 2, 4, 6)
    keep = torch.tensor([[[allowed(row, query, key) for key in range(4)] for query in range(3)] for row in range(2)])
    score = ScaledDot() if scoring == "dot" else Additive(5).double()
    by_hand = dot_by_hand if scoring == "dot" else additive_by_hand(score)
    attended = attend(queries, keys, values, score=score, where=where)
    torch.testing.assert_close(attended.out, attend_by_hand(by_hand, queries, keys, values, keep))
    torch.testing.assert_close(attended.weights.dense() @ values, attended.out)
    long = ("fused", "spans") if scoring == "dot" else ("rows",)
    assert attended.why.split(":")[0] in (("explicit",) if kernel == "explicit" else long)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_rows_that_may_look_at_nothing(kernel, dropout):
    inputs = [random(2, 2, 3, 4).requires_grad_() for _ in range(3)]
    attended = attend(*inputs, where=Lengths(torch.tensor([0, 3])), dropout=dropout)
    attended.out.square().sum().backward()
    assert attended.out[0].eq(0).all()
    assert attended.weights.dense()[0].eq(0).all()
    assert attended.out[1].ne(0).any()
    assert all(one.grad.isfinite().all() and one.grad[0].eq(0).all() for one in inputs)


def test_gradients_of_both_kernels(monkeypatch):
    inputs = [random(2, 2, 5, 4).requires_grad_() for _ in range(3)]
    where = Causal() & Lengths(torch.tensor([5, 3]))
    gradients = []
    for short in (0, 1 << 40):
        monkeypatch.setattr(KERNELS, "SHORT", short)
        gradients.append(torch.autograd.grad(attend(*inputs, where=where).out.square().sum(), inputs))
    torch.testing.assert_close(*gradients)


def test_padding_changes_nothing(kernel):
    queries, keys, values, lengths = random(2, 2, 3, 4), random(2, 2, 5, 4), random(2, 2, 5, 4), torch.tensor([5, 2])
    expected = attend(queries, keys, values, where=Lengths(lengths)).out
    keys[1, :, 2:], values[1, :, 2:] = 1e30, -1e30
    assert attend(queries, keys, values, where=Lengths(lengths)).out.equal(expected)


BEAMS = {
    "full": lambda lengths: (Full(), None),
    "lengths": lambda lengths: (Lengths(lengths), None),
    "causal": lambda lengths: (Causal(), None),
    "both": lambda lengths: (Causal() & Lengths(lengths), None),
    "per_row": lambda lengths: (Causal(), torch.arange(12)[:, None] % 5),
}


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("seen", BEAMS)
def test_beams_that_share_a_memory_equal_a_repeated_memory(seen, length, kernel):
    queries, keys, values, lengths = (
        random(12, 2, length, 4),
        random(4, 2, 5, 4),
        random(4, 2, 5, 6),
        torch.arange(2, 6),
    )
    where, at = BEAMS[seen](lengths)
    repeated, _ = BEAMS[seen](trees.repeat(lengths, 3))
    at = at if at is None else at + torch.arange(length)
    shared = attend(queries, keys, values, where=where, at=at)
    copied = attend(queries, *trees.repeat((keys, values), 3), where=repeated, at=at)
    torch.testing.assert_close(shared.out, copied.out)
    torch.testing.assert_close(shared.weights.dense(), copied.weights.dense())


@pytest.mark.parametrize("causal", [False, True])
def test_torch_agrees(causal, kernel):
    queries, keys, values = random(2, 3, 6, 4), random(2, 3, 6, 4), random(2, 3, 6, 4)
    expected = F.scaled_dot_product_attention(queries, keys, values, is_causal=causal)
    torch.testing.assert_close(attend(queries, keys, values, where=Causal() if causal else Full()).out, expected)


def test_torch_multihead_attention_agrees(kernel):
    theirs = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    ours = Attention(8, 2).double()
    nn.init.normal_(theirs.in_proj_bias)
    ours.projection.load_state_dict({"weight": theirs.in_proj_weight, "bias": theirs.in_proj_bias})
    ours.output.load_state_dict(theirs.out_proj.state_dict())
    inputs, memory, lengths = random(2, 3, 8), random(2, 5, 8), torch.tensor([5, 2])
    padding = torch.arange(5) >= lengths[:, None]
    expected, weights = theirs(inputs, memory, memory, key_padding_mask=padding, average_attn_weights=False)
    with record(nn.ModuleDict({"cross_attention": ours})) as maps:
        out = ours(ours.ask(inputs), ours.remember(memory), Lengths(lengths))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(ours(*ours.project(inputs), Full()), theirs(inputs, inputs, inputs)[0])
    torch.testing.assert_close(maps, {"cross": weights.float()})


def test_additive_attention_is_bahdanau():
    module = SteppingPart().build(4).double()
    states, memory = random(2, 3, 4), random(2, 6, 4)
    scores = torch.tanh(module.query(states)[:, :, None] + module.key(memory)[:, None]) @ module.score.direction
    found, looked = module(states, module.remember(memory), Full(), torch.arange(3).expand(2, 3), ())
    torch.testing.assert_close(found, torch.einsum("bsk,bkw->bsw", F.softmax(scores, dim=-1), memory))
    assert looked == ()


def test_dropout_is_on_the_weights_and_only_while_training():
    module = Attention(8, 2, dropout=0.5).double()
    inputs = random(2, 3, 8)

    def out() -> torch.Tensor:
        return module(*module.project(inputs), Full())

    assert not out().equal(out())
    module.eval()
    assert out().equal(out())


def test_asking_for_weights_changes_nothing(kernel):
    inputs = random(2, 2, 3, 4), random(2, 2, 5, 4), random(2, 2, 5, 4)
    unasked, asked = attend(*inputs, where=Causal()), attend(*inputs, where=Causal())
    weights = asked.weights.dense()
    assert asked.out.equal(unasked.out)
    assert asked.weights.dense().equal(weights)


def test_sinusoids():
    expected = [
        [function(position / 10000 ** (2 * pair / 6)) for pair in range(3) for function in (math.sin, math.cos)]
        for position in range(50)
    ]
    torch.testing.assert_close(sinusoidal(torch.arange(50)[None], 6)[0], torch.tensor(expected), atol=1e-5, rtol=0)


def test_rotation_turns_pairs_of_features_by_their_position():
    vectors, at = random(2, 1, 5, 6), torch.tensor([[0, 1, 2, 3, 4], [7, 9, 11, 13, 15]])
    turned = rotate(vectors, rotation(at, 6))
    pairs = torch.view_as_complex(vectors.unflatten(-1, (3, 2)))
    angles = at[:, None, :, None] / 10000 ** (torch.arange(3, dtype=torch.float64) * 2 / 6)
    expected = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=0)
    assert rotate(vectors, None) is vectors


def test_rotated_products_depend_on_distance_only():
    query, key = random(1, 1, 1, 8), random(1, 1, 1, 8)

    def product(query_at: int, key_at: int) -> float:
        turned = [rotate(one, rotation(torch.tensor([[at]]), 8)) for one, at in ((query, query_at), (key, key_at))]
        return float((turned[0] * turned[1]).sum())

    assert product(5, 2) == pytest.approx(product(103, 100), abs=1e-5)
    assert product(5, 2) != pytest.approx(product(5, 3), abs=1e-3)


def test_keys_and_values_are_a_nest():
    module = Attention(8, 2)
    memory = module.remember(torch.rand(2, 5, 8))
    assert isinstance(memory, KeyValues)
    assert {path: tuple(leaf.shape) for path, leaf in trees.leaves(memory).items()} == {
        "keys": (2, 2, 5, 4),
        "values": (2, 2, 5, 4),
    }
