"""The kernels for CUDA against the specification; without a device there is nothing to run."""

import pytest
import torch

from regard.attention import (
    Alibi,
    Causal,
    Distance,
    Documents,
    Full,
    Global,
    Lengths,
    OffByOne,
    ScaledDot,
    Sink,
    Softcap,
    Softmax,
    Sparsemax,
    Window,
    attend,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

LENGTH = 256
PATTERNS = {
    "full": lambda: Full(),
    "causal": lambda: Causal(),
    "lengths": lambda: Lengths(torch.tensor([LENGTH, 70], device="cuda")),
    "window": lambda: Causal() & Window(back=40),
    "documents": lambda: Causal() & Documents((torch.arange(LENGTH, device="cuda") // 50).expand(2, -1)),
    "global": lambda: Global(count=3) | Window(back=20, ahead=20),
}
KINDS = {
    "softmax": ("sdpa", ScaledDot, lambda: Softmax(), None),
    "distance": ("sdpa", Distance, lambda: Softmax(), None),
    "sink": ("flex", ScaledDot, lambda: Sink(8).cuda(), None),
    "off by one": ("flex", ScaledDot, lambda: OffByOne(), None),
    "softcap": ("flex", ScaledDot, lambda: Softcap(cap=2.0), None),
    "alibi": ("flex", ScaledDot, lambda: OffByOne(), Alibi().on_score(8)),
    "sparsemax": ("rows", ScaledDot, lambda: Sparsemax(), None),
}


def inputs(dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(1)
    shapes = (2, 8, LENGTH, 64), (2, 2, LENGTH, 64), (2, 2, LENGTH, 64)
    return [torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_ladder_on_a_device_equals_the_specification(pattern: str, kind: str) -> None:
    kernel, score, norm, bias = KINDS[kind]
    given, where, how = inputs(torch.float32), PATTERNS[pattern](), norm()
    found = attend(*given, score=score(), where=where, norm=how, bias=bias)
    expected = attend(*given, score=score(), where=where, norm=how, bias=bias, kernel="specification")
    assert found.why.split(":")[0] == kernel
    torch.testing.assert_close(found.out, expected.out, atol=2e-3, rtol=2e-3)  # products may be in TF32
    gradients = [torch.autograd.grad(one.out.square().sum(), given) for one in (found, expected)]
    torch.testing.assert_close(*gradients, atol=2e-2, rtol=2e-2)
    if how.fused:
        torch.testing.assert_close(found.lse, expected.lse, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_half_precision(pattern: str) -> None:
    where, given = PATTERNS[pattern](), inputs(torch.bfloat16)
    expected = attend(*(one.double() for one in given), where=where, kernel="specification").out
    torch.testing.assert_close(attend(*given, where=where).out.double(), expected, atol=2e-2, rtol=2e-2)


def test_documents_by_themselves() -> None:
    found = attend(*inputs(torch.bfloat16), where=PATTERNS["documents"]())
    assert found.why == "varlen: packed documents"


def test_beams_and_one_step() -> None:
    queries, keys, values = inputs(torch.float32)
    step = queries[:, :, :1].repeat_interleave(3, 0)
    expected = attend(step, keys, values, kernel="specification").out
    torch.testing.assert_close(attend(step, keys, values).out, expected, atol=2e-3, rtol=2e-3)
