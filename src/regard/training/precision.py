"""Precision: bf16 where the machine has units for it, found out by measuring."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Inside, matrix products run in the given precision; weights and sums stay in fp32."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def seconds_per_step(step: Callable[[], object], repeats: int = 3) -> float:
    """The median time of a training step, one call to warm up not counted."""
    step()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return median(times)
