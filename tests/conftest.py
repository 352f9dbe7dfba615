"""Shapes are checked at run time in tests, and nothing prints colours or starts more threads than it needs."""

from jaxtyping import install_import_hook

with install_import_hook("regard", "beartype.beartype"):
    import regard  # noqa: F401

import pytest
import torch


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)
