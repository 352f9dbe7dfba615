"""The optimiser: AdamW with warm-up and decay, clipping, and an average of the weights that evaluation uses."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from regard.errors import DivergedError
from regard.settings import Settings

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Optimisation(Settings):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) and its schedule, in update steps."""

    learning_rate: float = Field(default=2e-3, gt=0, description="the peak, reached after the warm-up")
    warmup: int = Field(default=400, ge=0)
    schedule: Literal["inverse_sqrt", "cosine", "constant"] = "inverse_sqrt"
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = Field(default=1e-9, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip: float = Field(default=1.0, gt=0, description="greatest norm of the gradient of the mean loss")
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="0 uses the last weights as they are")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of update number ``step`` (from 0) of ``steps``."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "inverse_sqrt":
            return self.learning_rate * math.sqrt(max(self.warmup, 1) / max(step, 1))
        if self.schedule == "cosine":
            done = (step - self.warmup) / max(steps - self.warmup, 1)
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return self.learning_rate


def diverged(what: str, step: int) -> DivergedError:
    message = f"the {what} is not finite at step {step + 1}; the weights were left as they were"
    hint = "lower training.optimisation.learning_rate or raise training.optimisation.warmup"
    return DivergedError(message, hint=hint)


class Optimiser:
    """Everything that an update changes: weights, moments, averages; all of it can be saved and restored exactly."""

    def __init__(self, model: nn.Module, settings: Optimisation, steps: int):
        self.settings, self.steps = settings, steps
        self.weights = dict(model.named_parameters())
        self.average = {name: weight.detach().clone() for name, weight in self.weights.items()}
        matrices = [weight for weight in self.weights.values() if weight.ndim > 1]
        others = [weight for weight in self.weights.values() if weight.ndim <= 1]
        self.adamw = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            betas=settings.betas,
            eps=settings.epsilon,
            fused=True,
        )

    def update(self, step: int, count: int) -> float:
        """One step along the mean gradient of ``count`` summed losses, and the norm that gradient had before clipping.

        Raises:
            DivergedError: the gradient is not finite; no weight was changed.
        """
        gradients = [weight.grad for weight in self.weights.values() if weight.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients)) / count
        if not math.isfinite(norm):
            raise diverged("gradient", step)
        torch._foreach_mul_(gradients, min(1.0, self.settings.clip / max(norm, 1e-12)) / count)
        for group in self.adamw.param_groups:
            group["lr"] = self.settings.rate(step, self.steps)
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        self._average(step)
        return norm

    def _average(self, step: int) -> None:
        """Exponential moving average, faster at first so that the fresh weights are soon forgotten."""
        decay = min(self.settings.ema_decay, (1 + step) / (10 + step)) if self.settings.ema_decay else 0.0
        torch._foreach_lerp_(
            list(self.average.values()), [weight.detach() for weight in self.weights.values()], 1 - decay
        )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has its averaged weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self.weights.items():
            weight.data, self.average[name] = self.average[name], weight.data

    def tensors(self) -> dict[str, Tensor]:
        """All of the state, by name."""
        tensors = {f"weights/{name}": weight.detach() for name, weight in self.weights.items()}
        tensors |= {f"average/{name}": weight for name, weight in self.average.items()}
        for name, weight in self.weights.items():
            tensors |= {f"{key}/{name}": value for key, value in self.adamw.state.get(weight, {}).items()}
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` gave.

        Raises:
            KeyError: a tensor is missing; ValueError: one has another shape. Nothing was changed.
        """
        for name, weight in self.weights.items():
            shapes = {"weights": weight.shape, "average": weight.shape}
            if any(f"{key}/{name}" in tensors for key in MOMENTS):
                shapes |= {"step": torch.Size(), "exp_avg": weight.shape, "exp_avg_sq": weight.shape}
            for key, shape in shapes.items():
                if tensors[f"{key}/{name}"].shape != shape:
                    found = tuple(tensors[f"{key}/{name}"].shape)
                    raise ValueError(f"'{key}/{name}' is of shape {found}, not {tuple(shape)}")
        for name, weight in self.weights.items():
            weight.copy_(tensors[f"weights/{name}"])
            self.average[name].copy_(tensors[f"average/{name}"])
            moments = {key: tensors[f"{key}/{name}"] for key in MOMENTS if f"{key}/{name}" in tensors}
            # fused AdamW wants its step counts beside the weights; before the first update there are none
            self.adamw.state[weight] = {key: value.to(weight.device, copy=True) for key, value in moments.items()}
