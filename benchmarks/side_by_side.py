"""Contenders taking turns, so that a machine with noisy neighbours still gives fair ratios."""

import statistics
import time
from collections.abc import Callable

import torch

from regard.machine import matrix_rate

CPU = torch.device("cpu")


def compare(contenders: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Median tokens per second of each; a call returns its tokens, and the first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            tokens = run()
            rates[name].append(tokens / (time.perf_counter() - started))
    return {name: statistics.median(values[1:]) for name, values in rates.items()}


def describe_machine() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for kind in (torch.float32, torch.bfloat16):
        print(f"matrix product {kind}: {matrix_rate(kind, CPU):,.0f} GFLOP/s")
