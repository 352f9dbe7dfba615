"""Contenders taking turns, so that a machine with noisy neighbours still gives fair ratios."""

import statistics
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

from regard.machine import matrix_rate
from regard.tasks.task import Batch
from regard.training.objective import Objective
from regard.training.optimisation import Optimisation, Optimiser
from regard.training.precision import autocast

CPU = torch.device("cpu")

Contender = Callable[[], int]
"""Does its work once and returns how many tokens that was."""


def compare(contenders: dict[str, Contender], rounds: int) -> dict[str, float]:
    """Median tokens per second of each; the first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            rates[name].append(_rate(run))
    return {name: statistics.median(values[1:]) for name, values in rates.items()}


def compare_apart(builders: dict[str, Callable[[], Contender]], rounds: int) -> dict[str, float]:
    """The same with each contender in a process of its own, where no other one has shaped the memory."""
    spawn = get_context("spawn")
    processes, remote = [], {}
    for name, build in builders.items():
        here, there = spawn.Pipe()
        processes.append(spawn.Process(target=_serve, args=(build, there), daemon=True))
        processes[-1].start()
        there.close()  # or a contender that dies would be waited for without end
        here.recv()  # it is built: one at a time
        remote[name] = here
    rates: dict[str, list[float]] = {name: [] for name in builders}
    for _ in range(rounds + 1):
        for name, connection in remote.items():
            connection.send("run")
            rates[name].append(connection.recv())
    for process in processes:
        process.terminate()
    return {name: statistics.median(values[1:]) for name, values in rates.items()}


def _serve(build: Callable[[], Contender], connection: Connection) -> None:
    run = build()
    connection.send("ready")
    while connection.recv():
        connection.send(_rate(run))


def _rate(run: Contender) -> float:
    started = time.perf_counter()
    tokens = run()
    return tokens / (time.perf_counter() - started)


def training_step(objective: Objective, batches: list[Batch], precision: str) -> Contender:
    """A call that trains on each batch once and returns the target tokens it saw, with all of an update."""
    optimiser = Optimiser(objective.model, Optimisation(), steps=1000)

    def step() -> int:
        objective.train()
        tokens = 0
        for batch in batches:
            with autocast(precision, CPU):
                loss = objective(batch)
            loss.total.backward()
            optimiser.update(0, loss.count)
            tokens += loss.count
        return tokens

    return step


def describe_machine() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for kind in (torch.float32, torch.bfloat16):
        print(f"matrix product {kind}: {matrix_rate(kind, CPU):,.0f} GFLOP/s")
