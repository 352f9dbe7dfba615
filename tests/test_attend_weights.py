"""Looking at weights: it changes nothing, it gives what all weights would, and it never needs many of them at once."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regard.attention import Causal, Window, attend
from regard.attention import weights as looking

EXACT = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)


def inputs(rows: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Six queries of two heads to eight keys of one, in two memories."""
    shapes = (rows, 2, 6, 4), (2, 1, 8, 4), (2, 1, 8, 3)
    queries, keys, values = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    return queries, keys, values


@pytest.mark.parametrize("kernel", ["auto", "explicit", "fused", "spans", "rows", "sdpa", "specification"])
def test_looking_changes_nothing(kernel):
    given = inputs()
    unseen, seen = (attend(*given, where=Causal(), kernel=kernel) for _ in range(2))
    assert seen.weights.dense().sum(-1).allclose(torch.ones((), dtype=torch.float64))
    assert seen.weights.entropy().shape == (2, 2, 6)
    assert seen.out.equal(unseen.out)


@pytest.mark.parametrize("at_once", [1, 1 << 20])
@pytest.mark.parametrize("rows", [2, 6], ids=["", "beams"])
def test_summaries_and_slices_are_those_of_all_weights(rows, at_once, monkeypatch):
    monkeypatch.setattr(looking, "AT_ONCE", at_once)
    weights = attend(*inputs(rows), where=Window(back=4, ahead=1)).weights
    dense = weights.dense()
    assert weights.shape == tuple(dense.shape) == (rows, 2, 6, 8)
    entropy = -torch.where(dense > 0, dense * dense.clamp(min=1e-300).log(), 0.0).sum(-1)
    torch.testing.assert_close(weights.entropy(), entropy, **EXACT)
    assert weights.argmax().equal(dense.argmax(-1))
    assert weights.alignment().equal(dense.mean(1).argmax(-1))
    torch.testing.assert_close(weights.top(3), tuple(dense.topk(3, dim=-1)), **EXACT)
    some = slice(None)
    for index in (
        1,
        (1, 0),
        (0, 1, 2),
        (0, 1, -1, 3),
        (some, some, 5),
        (some, 1, slice(1, 5, 2)),
        (-1, 0, 3, slice(2)),
    ):
        torch.testing.assert_close(weights[index], dense[index], **EXACT)


class _Largest(TorchDispatchMode):
    """The most numbers that a tensor made meanwhile has."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(one, Tensor):
                self.numbers = max(self.numbers, one.untyped_storage().nbytes() // one.element_size())
        return made


def test_looking_at_long_rows_needs_little_memory():
    length = 8192
    queries = torch.randn(1, 1, length, 2, dtype=torch.float32)
    with _Largest() as largest:
        weights = attend(queries, queries, queries, where=Causal()).weights
        row, best, spread = weights[0, 0, 5000], weights.argmax(), weights.entropy()
    assert largest.numbers < length * length / 8
    assert (row.shape, best.shape, spread.shape) == ((length,), (1, 1, length), (1, 1, length))
    assert row[5001:].eq(0).all() and best[0, 0, 5000] == row.argmax()
