"""The static path: `attend` compiled into one graph, and exported with a batch of any size."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

EXACT = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(scope="module")
def attention() -> Iterator[ModuleType]:
    """Imported once more without the run-time checks of shapes, which cannot be traced; as outside of tests."""

    def forgotten() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "regard"}

    checked, finders = forgotten(), sys.meta_path[:]
    sys.meta_path[:] = [finder for finder in finders if not type(finder).__module__.startswith("jaxtyping")]
    importlib.import_module("regard.attention.sparse")
    yield sys.modules["regard.attention"]
    sys.meta_path[:] = finders
    forgotten()
    sys.modules.update(checked)


@pytest.fixture(autouse=True)
def _double():
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    torch.compiler.reset()
    yield
    torch.set_default_dtype(torch.float32)


class Looking(nn.Module):
    """Causal attention within the lengths, four heads of queries for two of keys."""

    def __init__(self, attention: ModuleType, norm: str):
        super().__init__()
        norms = {"softmax": attention.Softmax, "sink": lambda: attention.Sink(4), "entmax": attention.sparse.Entmax}
        self.attention, self.norm = attention, norms[norm]()
        self.causal = attention.Causal()  # not while compiled: the code that validates settings cannot be traced

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        where = self.causal & self.attention.Lengths(lengths)
        return self.attention.attend(queries, keys, values, where=where, norm=self.norm).out


each_norm = pytest.mark.parametrize("norm", ["softmax", "sink", "entmax"])


def inputs(batch: int) -> tuple[Tensor, ...]:
    shapes = (batch, 4, 6, 4), (batch, 2, 6, 4), (batch, 2, 6, 3)
    return *(torch.randn(shape, requires_grad=True) for shape in shapes), torch.arange(batch) * 3


@each_norm
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch does so while it traces
def test_compiled_into_one_graph(attention, norm, backend):
    looking, given = Looking(attention, norm), inputs(3)
    found, expected = torch.compile(looking, fullgraph=True, backend=backend)(*given), looking(*given)
    torch.testing.assert_close(found, expected, **EXACT)
    slopes = [torch.autograd.grad(out.sin().sum(), given[:3]) for out in (found, expected)]
    torch.testing.assert_close(*slopes, **EXACT)


@each_norm
@torch.no_grad()
def test_exported_for_any_batch(attention, norm):
    looking, batch = Looking(attention, norm), torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(looking, inputs(3), dynamic_shapes=({0: batch},) * 4).module()
    for size in (3, 5):
        given = inputs(size)
        torch.testing.assert_close(exported(*given), looking(*given), **EXACT)
