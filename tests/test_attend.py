"""`attend` by every kernel, for members in every combination of two, against dense plain code of their formulas."""

import importlib

import pytest
import torch

from attention_cases import Call, Case, cases, made
from attention_members import DOT_PRODUCTS, SCORES, SOFTMAXES
from attention_places import UNORDERED
from regard.attention import kernels
from regard.attention.kernels import planning
from regard.errors import AttentionError

EXPLICIT = importlib.import_module("regard.attention.kernels.explicit")  # a function there has the same name
EXACT = {"rtol": 1e-9, "atol": 1e-9}


pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Several blocks at the sizes of these tests, and the last one of them smaller."""
    monkeypatch.setattr(planning, "QUERIES", 4)
    monkeypatch.setattr(planning, "CACHED", 40)
    monkeypatch.setattr(EXPLICIT, "CACHED", 80)


def admitted(case: Case) -> set[str]:
    """The kernels that a case should be able to choose."""
    able = {"auto", "explicit", "rows", "specification"}
    if case.score.name not in DOT_PRODUCTS or case.norm.name not in SOFTMAXES or case.bias.name in ("learned", "t5"):
        return able
    spans = set() if case.standing.name in UNORDERED else {"spans"}
    sdpa = {"sdpa"} if case.norm.name == "softmax" else set()
    return able | {"fused"} | spans | sdpa


def gradients(call: Call, found: list[torch.Tensor]) -> list[torch.Tensor]:
    """Those of a random linear function of all that is found, without the infinite lse of queries without keys."""
    generator = torch.Generator().manual_seed(2)
    total = sum(
        (torch.where(one.isfinite(), one, 0.0) * torch.randn(one.shape, generator=generator)).sum() for one in found
    )
    return list(torch.autograd.grad(total, call.leaves(), allow_unused=True, materialize_grads=True))


def compare(case: Case) -> None:
    call = made(case)
    expected = call.specified(lse=case.norm.name in SOFTMAXES)
    slopes = gradients(call, expected)
    for kernel in ["auto", *kernels.KERNELS]:
        if kernel not in admitted(case):
            with pytest.raises(AttentionError, match=f"'{kernel}' cannot do this"):
                call.found(kernel)
            continue
        found = call.found(kernel)
        torch.testing.assert_close(found, expected, **EXACT, msg=lambda text, by=kernel: f"{case} by {by}: {text}")
        torch.testing.assert_close(
            gradients(call, found), slopes, **EXACT, msg=lambda text, by=kernel: f"{case}, gradients by {by}: {text}"
        )


@pytest.mark.parametrize("case", cases(strength=2), ids=str)
def test_every_kernel_computes_the_formula(case):
    compare(case)


@pytest.mark.long
@pytest.mark.parametrize("score", SCORES, ids=str)
def test_every_three_members_together(score):
    for case in cases(strength=3):
        if case.score is score:
            compare(case)
