"""What takes minutes: ``make check-long``."""

from pathlib import Path

import pytest
import torch

import regard

pytestmark = pytest.mark.long


def test_the_demo_reaches_98_percent(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    run = regard.train(recipe="dates", out=tmp_path / "demo")
    assert run.scores["exact_match"] >= 98
    assert run.trained.baseline["exact_match"] < 5
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
