"""What must hold of `attend` whatever it computes: causality, chunks, merged parts, padding, dropout and states."""

import math

import hypothesis
import pytest
import torch
from hypothesis import strategies
from torch import Tensor
from torch.autograd import gradcheck

from regard.attention import Attended, Causal, Distance, Full, Lengths, OffByOne, Sink, Window, attend
from regard.attention.kernels import KERNELS, planning
from regard.attention.location import LocationSensitive, Mixture
from regard.attention.monotonic import Chunkwise, Monotonic
from regard.attention.norms import Exponential, Softmax
from regard.attention.scores import ScaledDot

EXACT = {"rtol": 1e-10, "atol": 1e-10}
ON_CPU = [name for name in KERNELS if name not in ("flex", "varlen")]
each_kernel = pytest.mark.parametrize("kernel", ["auto", *ON_CPU])


@pytest.fixture(autouse=True)
def _double(monkeypatch):
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(planning, "QUERIES", 4)
    yield
    torch.set_default_dtype(torch.float32)


def inputs(rows=2, batch=2, queries=6, keys=6, heads=2, kv_heads=1) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.randn(rows, heads, queries, 4),
        torch.randn(batch, kv_heads, keys, 4),
        torch.randn(batch, kv_heads, keys, 3),
    )


def softmax_by_hand(queries: Tensor, keys: Tensor, values: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Output and weights with rows and heads of keys repeated; ``keep`` is (rows, queries, keys)."""
    for axis in (0, 1):
        times = queries.shape[axis] // keys.shape[axis]
        keys, values = keys.repeat_interleave(times, axis), values.repeat_interleave(times, axis)
    powers = torch.exp(queries @ keys.mT / math.sqrt(queries.shape[-1])) * keep[:, None]
    total = powers.sum(-1, keepdim=True)
    weights = powers / torch.where(total > 0, total, 1.0)
    return weights @ values, weights


@strategies.composite
def shapes(draw: strategies.DrawFn) -> dict[str, int]:
    most = {"batch": 3, "beams": 3, "kv_heads": 2, "groups": 3, "queries": 7, "keys": 9, "width": 5, "values": 5}
    return {name: draw(strategies.integers(1, largest)) for name, largest in most.items()}


@hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=100,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(size=shapes(), causal=strategies.booleans(), data=strategies.data())
def test_any_shapes(size, causal, data):
    rows, heads = size["batch"] * size["beams"], size["kv_heads"] * size["groups"]
    queries = torch.randn(rows, heads, size["queries"], size["width"])
    keys = torch.randn(size["batch"], size["kv_heads"], size["keys"], size["width"])
    values = torch.randn(size["batch"], size["kv_heads"], size["keys"], size["values"])
    lengths = data.draw(strategies.lists(strategies.integers(0, size["keys"]), min_size=len(keys), max_size=len(keys)))
    kernel = data.draw(strategies.sampled_from(["auto", *ON_CPU]))
    where = Lengths(torch.tensor(lengths)) & (Causal() if causal else Full())
    attended = attend(queries, keys, values, where=where, kernel=kernel)
    offset = size["keys"] - size["queries"]
    keep = torch.tensor(
        [
            [
                [j < lengths[row // size["beams"]] and (not causal or j <= i + offset) for j in range(size["keys"])]
                for i in range(size["queries"])
            ]
            for row in range(rows)
        ]
    )
    out, weights = softmax_by_hand(queries, keys, values, keep)
    torch.testing.assert_close(attended.out, out, **EXACT)
    torch.testing.assert_close(attended.weights.dense(), weights, **EXACT)
    assert attended.lse.isneginf().equal(~keep.any(-1)[:, None].expand(-1, heads, -1))


@each_kernel
def test_the_future_changes_nothing(kernel):
    queries, keys, values = inputs()
    before = attend(queries, keys, values, where=Causal(), kernel=kernel).out
    for changed in (queries, keys, values):
        changed[:, :, 4:] += 1
    after = attend(queries, keys, values, where=Causal(), kernel=kernel).out
    torch.testing.assert_close(after[:, :, :4], before[:, :, :4], **EXACT)
    assert (after[:, :, 4:] - before[:, :, 4:]).abs().min() > 1e-6


@each_kernel
def test_other_rows_change_nothing(kernel):
    queries, keys, values = inputs(3, 3)
    lengths = torch.tensor([6, 2, 4])
    together = attend(queries, keys, values, where=Lengths(lengths), kernel=kernel).out
    for row in range(3):
        one = slice(row, row + 1)
        alone = attend(queries[one], keys[one], values[one], where=Lengths(lengths[one]), kernel=kernel).out
        torch.testing.assert_close(alone, together[one], **EXACT)


@each_kernel
@pytest.mark.parametrize("score", [ScaledDot(), Distance()], ids=lambda score: score.kind)
def test_what_is_in_the_padding_changes_nothing(kernel, score):
    queries, keys, values = inputs()
    where = Lengths(torch.tensor([6, 2]))
    expected = attend(queries, keys, values, score=score, where=where, kernel=kernel).out
    keys[1, :, 2:], values[1, :, 2:] = 1e30, -1e30
    assert attend(queries, keys, values, score=score, where=where, kernel=kernel).out.equal(expected)


@each_kernel
@pytest.mark.parametrize("where", [Causal(), Window(back=2)], ids=["causal", "window"])
def test_steps_and_chunks_are_the_whole(kernel, where):
    queries, keys, values = inputs()
    whole = attend(queries, keys, values, where=where, kernel=kernel).out
    for size in (1, 2, 3):
        ends = range(size, 7, size)
        parts = [
            attend(
                queries[:, :, end - size : end], keys[:, :, :end], values[:, :, :end], where=where, kernel=kernel
            ).out
            for end in ends
        ]
        torch.testing.assert_close(torch.cat(parts, 2), whole, **EXACT)


@each_kernel
def test_parts_of_the_keys_merge_by_their_lse(kernel):
    queries, keys, values = inputs()
    at = torch.arange(6)
    whole = attend(queries, keys, values, where=Causal(), kernel=kernel)
    parts = [
        attend(queries, keys[:, :, some], values[:, :, some], where=Causal(), at=at, keys_at=at[some], kernel=kernel)
        for some in (slice(0, 4), slice(4, 6))
    ]
    lse = torch.logaddexp(parts[0].lse, parts[1].lse)
    out = sum(part.out * torch.exp(part.lse - lse)[..., None] for part in parts)
    torch.testing.assert_close((out, lse), (whole.out, whole.lse), **EXACT)


NORMS = {"softmax": Softmax, "off_by_one": OffByOne, "sink": lambda: Sink(2)}


@pytest.mark.parametrize("kernel", ["fused", "spans", "rows"])
@pytest.mark.parametrize("norm", NORMS)
def test_gradients_of_output_and_lse(kernel, norm):
    given = [one.requires_grad_() for one in inputs(queries=5, keys=5)]
    made = NORMS[norm]()

    def found(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        where = Causal() & Lengths(torch.tensor([0, 3]))
        attended = attend(*tensors, where=where, norm=made, kernel=kernel)
        return attended.out, torch.where(attended.lse.isfinite(), attended.lse, 0.0)

    assert gradcheck(found, given)


@pytest.mark.parametrize("kernel", ["explicit", "rows", "spans"])
def test_dropout_keeps_the_mean_and_the_seed_decides(kernel, monkeypatch):
    monkeypatch.setattr(planning, "QUERIES", 1 << 14)
    queries, keys, values = inputs(1, 1)
    many = queries.expand(3000, -1, -1, -1)
    undropped = attend(queries, keys, values, where=Causal(), kernel="explicit").out

    def dropped(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return attend(many, keys, values, where=Causal(), dropout=0.3, kernel=kernel).out

    out = dropped(1)
    torch.testing.assert_close(out.mean(0), undropped[0], rtol=0, atol=0.1)
    assert out[0].ne(out[1]).any()
    assert out.equal(dropped(1)) and not out.equal(dropped(2))


@pytest.mark.parametrize("cached", [20, 1 << 18], ids=["small blocks", "one block"])
def test_gradients_through_dropped_weights(cached, monkeypatch):
    """What was dropped shows in the output where values are the rows of the identity."""
    monkeypatch.setattr(planning, "CACHED", cached)
    queries, keys, values = (one.requires_grad_() for one in inputs())
    where = Causal() & Lengths(torch.tensor([6, 4]))

    def dropped(values: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(7)
        attended = attend(queries, keys, values, where=where, dropout=0.4, kernel="spans")
        return attended.out, attended.lse

    weights = attend(queries, keys, values, where=where, kernel="specification").weights.dense()
    kept = dropped(torch.eye(6).expand(2, 1, -1, -1))[0].detach() / torch.where(weights > 0, weights, 1.0).detach()
    assert {round(number, 9) for number in kept.flatten().tolist()} == {0.0, round(1 / 0.6, 9)}
    found, expected = dropped(values), ((weights * kept) @ values, attend(queries, keys, values, where=where).lse)
    torch.testing.assert_close(found, expected, **EXACT)
    slopes = [torch.randn_like(one) for one in expected]
    torch.testing.assert_close(
        torch.autograd.grad(found, [queries, keys, values], slopes),
        torch.autograd.grad(expected, [queries, keys, values], slopes),
        **EXACT,
    )


STATEFUL = {
    "location": (lambda: LocationSensitive(4, heads=2, filters=3, kernel=3), Softmax),
    "cumulative": (lambda: LocationSensitive(4, heads=2, filters=3, kernel=3, cumulative=True), Softmax),
    "mixture": (lambda: Mixture(4, components=3), Exponential),
    "original": (lambda: Mixture(4, components=3, original=True), Exponential),
    "monotonic": (ScaledDot, lambda: Monotonic(2).eval()),
    "chunkwise": (ScaledDot, lambda: Chunkwise(2, width=3).eval()),
    "both": (lambda: LocationSensitive(4, heads=2, filters=3, kernel=3), lambda: Monotonic(2).eval()),
}


@pytest.mark.parametrize("rows", [2, 6], ids=["", "beams"])
@pytest.mark.parametrize("biases", [1, 6])
@pytest.mark.parametrize("name", STATEFUL)
def test_states_passed_on_are_one_call(name, biases, rows):
    queries, keys, values = inputs(rows, keys=7)
    score, norm = (make() for make in STATEFUL[name])
    where, bias = Lengths(torch.tensor([7, 4])), torch.randn(rows, 1, biases, 7)

    def found(some: slice, state: object) -> Attended:
        biased = bias[:, :, some] if biases > 1 else bias
        return attend(queries[:, :, some], keys, values, score=score, norm=norm, where=where, bias=biased, state=state)

    whole = found(slice(None), None)
    assert whole.weights.dense()[rows // 2 :, :, :, 4:].eq(0).all() and whole.lse is None
    for size in (1, 2, 3):
        state, parts = None, []
        for first in range(0, 6, size):
            parts.append(found(slice(first, first + size), state))
            state = parts[-1].state
        torch.testing.assert_close(torch.cat([part.out for part in parts], 2), whole.out, **EXACT)
        weights = torch.cat([part.weights.dense() for part in parts], 2)
        torch.testing.assert_close(weights, whole.weights.dense(), **EXACT)
        torch.testing.assert_close(state, whole.state, **EXACT)
