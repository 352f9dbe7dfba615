"""The run folder: one place that knows where everything of a run lies, and lets one process write it at a time."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from torch import nn

from regard.errors import RunError, SettingsError
from regard.files import remove_unfinished, write_whole
from regard.models.weights import read_weights, write_weights
from regard.recipe import Recipe
from regard.settings import load as load_settings
from regard.settings import to_yaml
from regard.tasks.task import Task

MOST_TEXT = 1 << 20
"""Bytes that are read of a recipe and of what is known of its data."""


class RunFolder:
    """``recipe.yaml``, ``fields/``, ``model.safetensors``, ``metrics.jsonl``, ``checkpoints/``, ``report.html``."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.fields = self.path / "fields"
        self.data_file = self.fields / "data.json"
        self.weights_file = self.path / "model.safetensors"
        self.metrics_file = self.path / "metrics.jsonl"
        self.report_file = self.path / "report.html"

    def exists(self) -> bool:
        return self.recipe_file.exists()

    def refuse_foreign(self) -> None:
        """Raises RunError: the folder holds something else than a run."""
        if self.exists() or not self.path.is_dir():
            return
        if any(not _begun(file.name) for file in self.path.iterdir()):
            raise RunError("the folder is not empty and not a run", where=str(self.path), hint="choose another --out")

    def create(self, recipe: Recipe, learnt: Mapping[str, bytes], fingerprint: str) -> None:
        """Begin a run with what its task has ``learnt``, as files by name.

        The recipe is written last, so a folder with a recipe has everything it needs to go on.

        Raises:
            RunError: it cannot be written.
        """
        self.fields.mkdir(parents=True, exist_ok=True)
        for name, content in learnt.items():
            write_whole(self.fields / name, content)
        write_whole(self.data_file, json.dumps({"fingerprint": fingerprint}).encode())
        write_whole(self.recipe_file, to_yaml(recipe).encode())

    def recipe(self) -> Recipe:
        """The saved recipe.

        Raises:
            RunError: there is no run here; SettingsError: its recipe was changed into something invalid.
        """
        if not self.exists():
            raise RunError("no recipe.yaml: not a run folder", where=str(self.path), hint="make one with: regard train")
        try:
            return load_settings(Recipe, self._own(self.recipe_file, MOST_TEXT))
        except SettingsError as error:
            told = "it was changed, or written by another version of regard"
            hint = f"{error.hint}; {told}" if error.hint else told
            raise SettingsError(error.message, where=error.where, hint=hint) from None

    def task(self) -> Task:
        """The task with all it had learnt.

        Raises:
            RunError: a file of it is missing or damaged.
        """
        recipe = self.recipe()
        return recipe.task.restore(lambda name, most: self._own(self.fields / name, most), recipe.vocabulary)

    def fingerprint(self) -> str:
        """Of the data that the run began with.

        Raises:
            RunError: it is missing or damaged.
        """
        try:
            return str(json.loads(self._own(self.data_file, MOST_TEXT).read_text("utf-8"))["fingerprint"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            hint = "start a new run with another --out"
            raise RunError("missing or damaged", where=str(self.data_file), hint=hint) from None

    def save_weights(self, model: nn.Module) -> None:
        write_weights(self.weights_file, model)

    def load_weights(self, model: nn.Module) -> None:
        """Put the saved weights into a model.

        Raises:
            RunError: there are none yet, or they are damaged or of another model.
        """
        if not self.weights_file.exists():
            hint = "train until the first evaluation: repeat the regard train command"
            raise RunError("no trained weights yet", where=str(self.weights_file), hint=hint)
        try:
            read_weights(self._own(self.weights_file), model)
        except (OSError, ValueError) as error:
            hint = "fetch the whole folder again from where it comes, use the regard that trained it, or train again"
            raise RunError(f"not the weights of this model: {error}", where=str(self.weights_file), hint=hint) from None

    def _own(self, file: Path, most: int | None = None) -> Path:
        """A file that may be read: none where a link leads out of the folder, and none that would fill the memory.

        Raises:
            RunError: it is such a link, a folder or a device, or larger than ``most`` bytes.
        """
        where = str(file)
        if file.exists() and not (file.is_file() and file.resolve().is_relative_to(self.path.resolve())):
            hint = "put the file itself there, if you trust it"
            raise RunError("not a file of this folder: a link out of it, a folder or a device", where=where, hint=hint)
        if most is not None and file.exists() and file.stat().st_size > most:
            found = f"{file.stat().st_size:,} bytes, at most {most:,} can be right"
            raise RunError(found, where=where, hint="fetch the whole folder again from where it comes")
        return file

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Inside, no other process can write this run; the lock ends with the process, however it ends.

        Raises:
            RunError: another process is training here, the folder holds something else than a run, something cannot be
                written, or leads out of the folder.
        """
        self.refuse_foreign()
        created = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for file in self.path.rglob("*"):
                if file.is_symlink() or not file.is_dir():
                    self._own(file)
            with (self.path / ".lock").open("a") as stream:
                self._hold(stream)
                try:
                    remove_unfinished(self.path)
                    yield
                finally:
                    if not self.exists():
                        self._leave(created)
        except BrokenPipeError:
            raise  # nobody reads our output
        except OSError as error:
            hint = "make room or allow writing there and repeat the command, or choose another --out"
            where = str(error.filename or self.path)
            raise RunError(f"cannot write here: {error.strerror}", where=where, hint=hint) from error

    def _hold(self, stream: IO[str]) -> None:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "wait for the other process, or choose another --out"
            raise RunError("another process is training here", where=str(self.path), hint=hint) from None

    def _leave(self, created: bool) -> None:
        """Nothing came of it: as if nobody had been here."""
        (self.path / ".lock").unlink()
        if created and not any(self.path.iterdir()):
            self.path.rmdir()


def _begun(name: str) -> bool:
    """Whether a run that was killed before its recipe was whole may have left this behind."""
    return name in (".lock", "fields") or name.startswith(".recipe.yaml.")
