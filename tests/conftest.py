"""Shapes are checked at run time in tests, and tiny tensors need one thread."""

import signal

import pytest
import torch
from jaxtyping import config, install_import_hook

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored by what they start in the background
install_import_hook("regard", "beartype.beartype")  # stays on: modules are checked as they are first used


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def shapes_unchecked():
    """As outside of tests, where nothing looks at the annotations."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def double_precision():
    """All that is made without saying how precise, from a seed."""
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
