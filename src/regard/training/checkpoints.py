"""Checkpoints: everything that training needs to go on as if it had never stopped."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
from safetensors.torch import load, save
from torch import Tensor

from regard.files import whole_folder, write_whole

FORMAT = 1
TENSORS, STANDING = "state.safetensors", "standing.json"


@dataclass
class Standing:
    """Where training stands, apart from tensors. Losses are sums since the last line of the log."""

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


class Checkpoints:
    """The last few checkpoints of a run, each a folder of safetensors and JSON that is there whole or not at all."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep
        self._last: tuple[int, str] | None = None

    def save(self, standing: Standing, tensors: dict[str, Tensor]) -> None:
        """Write one and let the oldest go; at a step that was saved before, only the standing can have changed."""
        path = self.folder / f"{standing.step:08d}"
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
        outdated = [self.folder / f"{step:08d}" for step in {*self.steps()} - {*kept}]  # later ones were damaged
        for unwanted in [*outdated, *self.folder.glob(".[0-9]*")]:  # a kill while saving leaves hidden ones
            shutil.rmtree(unwanted)

    def steps(self) -> list[int]:
        """The steps of the checkpoints on disk, oldest first."""
        names = [path.name for path in self.folder.glob("[0-9]*")] if self.folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdigit())

    def latest(self) -> tuple[Standing | None, dict[str, Tensor], list[str]]:
        """The newest checkpoint that is whole, and what was wrong with the newer ones."""
        problems: list[str] = []
        for step in reversed(self.steps()):
            try:
                return *self._read(self.folder / f"{step:08d}"), problems
            except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
                problems.append(f"checkpoint {step} cannot be used ({error}); going back to the one before")
        return None, {}, problems

    def _read(self, path: Path) -> tuple[Standing, dict[str, Tensor]]:
        description = json.loads((path / STANDING).read_text("utf-8"))
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']}, this version reads {FORMAT}")
        content = (path / TENSORS).read_bytes()
        if _digest(content) != description["blake2b"]:
            raise ValueError("its content does not match its checksum")
        standing = Standing(**description["standing"])
        self._last = standing.step, description["blake2b"]
        return standing, load(content)


def _describe(standing: Standing, digest: str) -> bytes:
    return json.dumps({"format": FORMAT, "standing": asdict(standing), "blake2b": digest}, indent=1).encode()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
