"""Shapes are checked at run time in tests, and tiny tensors need one thread."""

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("regard", "beartype.beartype")  # stays on: modules are checked as they are first used


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
