"""Checkpoints: everything that training needs to go on as if it had never stopped."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load, save
from torch import Tensor

from regard.files import whole_folder, write_whole

FORMAT = 1
TENSORS, STANDING = "state.safetensors", "standing.json"
UNUSABLE = (OSError, ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError)


@dataclass
class Standing:
    """Where training stands, apart from tensors. Losses are sums since the last line of the log.

    ``parts`` is how many each batch is cut into, as memory asked for.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    tokens: int = 0
    seconds: float = 0.0
    evaluated: int = 0
    best: float | None = None
    best_step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    parts: int = 1


class Checkpoints:
    """The last few checkpoints of a run, each a folder of safetensors and JSON that is there whole or not at all."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep
        self._last: tuple[int, str] | None = None

    def save(self, standing: Standing, tensors: dict[str, Tensor]) -> None:
        """Write one and let the oldest go; at a step that was saved before, only the standing can have changed."""
        path = self._path(standing.step)
        if self._last and self._last[0] == standing.step:
            write_whole(path / STANDING, _describe(standing, self._last[1]))
            return
        content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        digest = _digest(content)
        with whole_folder(path) as aside:
            (aside / TENSORS).write_bytes(content)
            (aside / STANDING).write_bytes(_describe(standing, digest))
        self._last = standing.step, digest
        kept = [step for step in self.steps() if step <= standing.step][-self.keep :]
        for outdated in {*self.steps()} - {*kept}:  # later ones could not be used
            shutil.rmtree(self._path(outdated))

    def steps(self) -> list[int]:
        """The steps of the checkpoints on disk, oldest first."""
        names = [path.name for path in self.folder.glob("[0-9]*")] if self.folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def restore(self, use: Callable[[dict[str, Tensor]], None]) -> tuple[Standing | None, list[str]]:
        """Hand ``use`` the newest checkpoint that is whole; where it stood, and what was wrong with newer ones.

        ``use`` may refuse tensors with KeyError or ValueError if it has changed nothing; then it gets the ones before.
        """
        problems: list[str] = []
        for step in reversed(self.steps()):
            try:
                standing, tensors, digest = self._read(step)
                use(tensors)
            except UNUSABLE as error:
                reason = f"no {error}" if isinstance(error, KeyError) else error
                problems.append(f"checkpoint {step} cannot be used: {reason}")
            else:
                self._last = step, digest
                return standing, problems
        return None, problems

    def _read(self, step: int) -> tuple[Standing, dict[str, Tensor], str]:
        description = json.loads((self._path(step) / STANDING).read_text("utf-8"))
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']}, this version reads {FORMAT}")
        content = (self._path(step) / TENSORS).read_bytes()
        digest = _digest(content)
        if _checksum(description["standing"], digest) != description["blake2b"]:
            raise ValueError("its content does not match its checksum")
        return Standing(**description["standing"]), load(content), digest

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:08d}"


def _describe(standing: Standing, tensors: str) -> bytes:
    stood = asdict(standing)
    return json.dumps({"format": FORMAT, "standing": stood, "blake2b": _checksum(stood, tensors)}, indent=1).encode()


def _checksum(standing: dict[str, Any], tensors: str) -> str:
    return _digest(json.dumps([standing, tensors]).encode())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
