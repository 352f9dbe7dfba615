"""Task and model together: the one module that training wraps."""

import torch
from torch import nn

from regard.errors import SettingsError
from regard.memory import free_memory
from regard.models.model import Model, ModelSettings, build_model, count_weights
from regard.models.parts import Loss
from regard.randomness import seed_for
from regard.tasks.task import Batch, Informing, Task

COPIES_IN_TRAINING = 5
"""Weights, gradients, two moments and the average."""


class Objective(nn.Module):
    """A batch in, a loss out; what distributed training wraps."""

    def __init__(self, task: Task, model: Model):
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: Batch) -> Loss:
        return self.task.loss(self.model, batch)


def build_objective(task: Task, settings: ModelSettings, seed: int, copies: int = 1) -> Objective:
    """Fresh weights that are a function of the seed; memory must have room for so many ``copies`` of them.

    Raises:
        SettingsError: the memory of this machine has no room for them; none was taken.
    """
    _refuse_too_large(task, settings, copies)
    torch.manual_seed(seed_for(seed, "weights"))
    model = build_model(settings, task.vocabulary, task.head, task.source_builder)
    if isinstance(task, Informing):
        task.inform(model)
    return Objective(task, model)


def _refuse_too_large(task: Task, settings: ModelSettings, copies: int) -> None:
    needed, free = 4 * copies * count_weights(settings, task.vocabulary, task.head, task.source_builder), free_memory()
    if needed > free:
        what = f"{settings.describe()}, {task.vocabulary:,} tokens"
        kept = "weights" if copies == 1 else f"weights, {copies} times,"
        message = f"its {kept} need {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free: {what}"
        hint = "lower model.width, model.encoder.layers, model.decoder.layers or their feedforward"
        raise SettingsError(message, where="model", hint=hint)
