"""Precision: bf16 where the machine has units for it, found out by measuring."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Literal, TypeVar

import torch

Precision = Literal["fp32", "bf16"]
T = TypeVar("T")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Inside, matrix products run in the given precision; weights and sums stay in fp32."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def seconds_per_call(calls: Mapping[T, Callable[[], object]], rounds: int) -> dict[T, float]:
    """The median time of each call; they take turns, so that a busy moment of the machine strikes all alike.

    The first round warms up and is not counted.
    """
    times: dict[T, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return {name: median(taken[1:]) for name, taken in times.items()}
