"""A model's weights as a safetensors file. Whoever wrote it: nothing is allocated before its header fits the model."""

import json
import reprlib
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import nn

from regard.files import write_whole

HEADER_PER_WEIGHT = 512
"""More bytes than the name, type, shape and place of a weight ever take."""


def write_weights(path: Path, model: nn.Module) -> None:
    """All weights, those with two names under the first.

    Raises:
        OSError: it names ``path``; the old file is as it was.
    """
    write_whole(path, save({name: weight.detach().contiguous() for name, weight in model.named_parameters()}))


@torch.no_grad()
def read_weights(path: Path, model: nn.Module) -> None:
    """Put what `write_weights` wrote into a model of the same shape.

    Raises:
        ValueError: the file is damaged, or does not hold exactly the weights of this model, all of them finite.
    """
    weights = dict(model.named_parameters())
    found, wanted = _header(path, len(weights)), {name: ("F32", [*one.shape]) for name, one in weights.items()}
    if found != wanted:
        raise ValueError(_difference(found, wanted))
    try:
        with safetensors.safe_open(path, framework="pt") as tensors:  # maps the file
            for name, weight in weights.items():
                weight.copy_(tensors.get_tensor(name))
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None
    spoilt = [name for name, weight in weights.items() if not weight.isfinite().all()]
    if spoilt:
        raise ValueError(f"numbers that are not finite in {', '.join(spoilt[:4])}")


def _header(path: Path, weights: int) -> dict[str, tuple[Any, Any]]:
    """Type and shape of each weight, as the file says, unless it says too much for so many weights."""
    most = HEADER_PER_WEIGHT * (weights + 1)
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > most:
            raise ValueError(f"a header of {size:,} bytes, when {weights} weights need less than {most:,}")
        header = stream.read(size)
    try:
        described = json.loads(header)
        return {name: (one["dtype"], one["shape"]) for name, one in described.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("its header is not that of a safetensors file") from None


def _difference(found: dict[str, tuple[Any, Any]], wanted: dict[str, tuple[Any, Any]]) -> str:
    missing, foreign = [*wanted.keys() - found.keys()], [*found.keys() - wanted.keys()]
    if missing or foreign:
        lacks = f"{len(missing)} of its {len(wanted)} weights are missing{_such_as(missing)}"
        return f"{lacks}, {len(foreign)} are of another model{_such_as(foreign)}"
    name = next(name for name in wanted if found[name] != wanted[name])
    return f"size mismatch for {name}: {reprlib.repr(found[name])} in the file, {wanted[name]} in the recipe's model"


def _such_as(names: list[str]) -> str:
    return f", such as {reprlib.repr(min(names))}" if names else ""
