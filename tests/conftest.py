"""Shapes are checked at run time in tests, and tiny tensors need one thread."""

from jaxtyping import install_import_hook

with install_import_hook("regard", "beartype.beartype"):
    import regard  # noqa: F401

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
