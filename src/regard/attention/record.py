"""Watching is a visitor: ``with record(model) as maps`` collects every attention's weights while the model runs.

Nothing changes its signature or its output for it, and it is scoped to the call (a context variable), so two threads
never see each other's maps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard.attention.weights import Weights

Maps = dict[str, Float[Tensor, "rows heads queries keys"]]

_recording: ContextVar[tuple[dict[nn.Module, str], Maps] | None] = ContextVar("recording", default=None)


@contextmanager
def record(model: nn.Module) -> Iterator[Maps]:
    """The attention weights of everything ``model`` does inside, by name.

    Names follow the module's path, such as ``decoder/0/cross``. Calls one after another, as in step-by-step decoding,
    are joined along the queries; a call over longer keys widens the earlier rows with zeros.
    """
    names = {module: _name(path) for path, module in model.named_modules()}
    maps: Maps = {}
    token = _recording.set((names, maps))
    try:
        yield maps
    finally:
        _recording.reset(token)


def observe(module: nn.Module, weights: Weights) -> None:
    """Tell a recorder, if there is one, what ``module`` looked at."""
    if torch.compiler.is_compiling():  # a compiled graph has no eyes
        return
    recording = _recording.get()
    if recording is None or module not in recording[0]:
        return
    names, maps = recording
    with torch.no_grad():
        name, seen = names[module], weights.dense().float()
    maps[name] = torch.cat([_widen(maps[name], seen.shape[-1]), seen], dim=-2) if name in maps else seen


def _widen(seen: Tensor, keys: int) -> Tensor:
    return torch.nn.functional.pad(seen, (0, keys - seen.shape[-1]))


def _name(path: str) -> str:
    return "/".join(
        part.removesuffix("_attention") for part in path.split(".") if part not in ("layers", "mixing", "inner")
    )
