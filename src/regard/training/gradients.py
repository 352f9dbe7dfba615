"""Gradients of batches, added up in as many parts as memory asks for."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from regard.data.batching import Rows
from regard.errors import InputError
from regard.memory import is_out_of_memory
from regard.tasks.encoded import Examples
from regard.training.objective import Objective
from regard.training.precision import autocast


class Gradients:
    """Leaves the gradient of the summed loss of some batches in the weights.

    When memory runs out, all is done again with every batch in twice as many ``parts``, now and from then on: the sum
    is the same up to rounding, and up to what is drawn at random, dropout and pieces, which each part draws anew.
    """

    def __init__(self, objective: Objective, examples: Examples, message: Callable[[str], None]):
        self.objective, self.examples, self.message = objective, examples, message
        self.device = next(objective.parameters()).device
        self.parts = 1

    def add_up(self, batches: Sequence[Rows], precision: str, seed: int) -> tuple[float, int]:
        """The summed loss of all rows, and what to divide it by. Its randomness is a function of the seed.

        Raises:
            InputError: memory does not hold a single row.
        """
        before = self.parts
        while (found := self._attempt(batches, precision, seed)) is None:
            self._cut(max(map(len, batches)))
        if self.parts > before:
            self.message(f"not enough memory for whole batches: each is added up in {self.parts} parts from now on")
        return found

    def _attempt(self, batches: Sequence[Rows], precision: str, seed: int) -> tuple[float, int] | None:
        """None when memory ran out."""
        torch.manual_seed(seed)
        self.objective.zero_grad(set_to_none=True)  # a failed attempt leaves a part of the sum
        total, count = 0.0, 0
        try:
            for rows in batches:
                for part in np.array_split(rows, min(self.parts, len(rows))):
                    with autocast(precision, self.device):
                        loss = self.objective(self.examples.batch(part).to(self.device))
                    loss.total.backward()
                    total, count = total + float(loss.total.detach()), count + loss.count
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        return total, count

    def _cut(self, rows: int) -> None:
        if self.parts >= rows:
            hint = "lower data.max_characters, which keeps long rows out, or model.width"
            raise InputError("memory does not hold a training step of even a single row", hint=hint)
        self.parts *= 2
