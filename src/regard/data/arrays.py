"""Flat arrays that grow together, in memory or in files: how a corpus is kept that may be larger than memory.

On disk an array is a file of plain numbers that any number of processes map for reading. One process at a time extends
them, chunk by chunk; what a kill interrupts is cut back to the last whole chunk and goes on from there.
"""

import contextlib
import fcntl
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from numpy import ndarray

from regard.errors import DataError
from regard.files import write_whole

CHUNK = 1 << 16
"""Records that are appended at a time."""

FORMAT = 2


@dataclass(frozen=True)
class Ragged:
    """Records of different lengths, one after the other in ``values``; record r ends before ``ends[r]``."""

    values: Shaped[ndarray, "total *features"]
    ends: Int[ndarray, "records"]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, record: int) -> Shaped[ndarray, "_ *features"]:
        start = self.ends[record - 1] if record else 0
        return np.asarray(self.values[start : self.ends[record]])

    def lengths(self, records: Int[ndarray, "chosen"]) -> Int[ndarray, "chosen"]:
        return np.asarray(self.ends[records] - np.where(records > 0, self.ends[records - 1], 0))


class Arrays:
    """Named arrays, and what was ``noted`` with the last chunk; without a folder they live in memory."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self.noted: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self._types: dict[str, str] = {}
        self._widths: dict[str, Sequence[int]] = {}
        self._chunks: dict[str, list[ndarray]] = {}
        if folder and (folder / "arrays.json").exists():
            self._resume(folder)

    @property
    def done(self) -> bool:
        """Whether nothing will be added any more."""
        return bool(self.noted.get("done"))

    def append(self, chunk: Mapping[str, Shaped[ndarray, "_ *features"]], **noted: Any) -> None:
        """Extend some arrays together; on disk this happens whole or not at all."""
        for name, values in chunk.items():
            self._write(name, values)
            self._types.setdefault(name, values.dtype.str)
            self._widths.setdefault(name, values.shape[1:])
            self._sizes[name] = self._sizes.get(name, 0) + len(values)
        self.noted |= noted
        if self.folder:
            progress = {
                "format": FORMAT,
                "sizes": self._sizes,
                "types": self._types,
                "widths": self._widths,
                "noted": self.noted,
            }
            write_whole(self.folder / "arrays.json", json.dumps(progress).encode())

    def records(self, name: str, records: Sequence[Shaped[ndarray, "_ *features"]]) -> dict[str, ndarray]:
        """A chunk of records of different lengths, to be appended and then read with `ragged`."""
        ends = np.cumsum([len(record) for record in records], dtype=np.int64) + self._sizes.get(name, 0)
        return {name: np.concatenate(records), f"{name}.ends": ends}

    def finish(self) -> None:
        self.append({}, done=True)

    def ragged(self, name: str) -> Ragged:
        return Ragged(self[name], self[f"{name}.ends"])

    @property
    def ragged_names(self) -> list[str]:
        return [name.removesuffix(".ends") for name in self._sizes if name.endswith(".ends")]

    def __getitem__(self, name: str) -> Shaped[ndarray, "_ *features"]:
        size, kind = self._sizes.get(name, 0), np.dtype(self._types.get(name, "|u1"))
        if not size:
            return np.empty(0, kind)
        if self.folder:
            return np.memmap(self.folder / name, kind, mode="r", shape=(size, *self._widths[name]))
        if len(self._chunks[name]) > 1:
            self._chunks[name] = [np.concatenate(self._chunks[name])]
        return self._chunks[name][0]

    def _write(self, name: str, values: ndarray) -> None:
        if not self.folder:
            self._chunks.setdefault(name, []).append(values)
            return
        with (self.folder / name).open("ab" if name in self._sizes else "wb") as stream:
            stream.write(values.tobytes())
            stream.flush()
            os.fsync(stream.fileno())

    def _resume(self, folder: Path) -> None:
        """Take up what is there; what is damaged or of another format is made anew."""
        with contextlib.suppress(ValueError, KeyError, TypeError, FileNotFoundError):
            progress = json.loads((folder / "arrays.json").read_text("utf-8"))
            sizes, types, widths = progress["sizes"], progress["types"], progress["widths"]
            bytes_a_step = {name: np.dtype(types[name]).itemsize * math.prod(widths[name]) for name in sizes}
            needed = {name: size * bytes_a_step[name] for name, size in sizes.items()}
            there = {name: (folder / name).stat().st_size for name in sizes}
            if progress["format"] != FORMAT or any(there[name] < size for name, size in needed.items()):
                return
            for name, size in needed.items():
                if there[name] > size:
                    os.truncate(folder / name, size)
            self._sizes, self._types, self._widths, self.noted = sizes, types, widths, progress["noted"]


@contextlib.contextmanager
def kept(folder: Path | None) -> Iterator[Arrays]:
    """The arrays of a folder, to be filled unless they are done; another process that fills them is waited for.

    Raises:
        DataError: the folder cannot be written.
    """
    if folder is None:
        yield Arrays()
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Arrays(folder)
    except OSError as error:
        hint = "free some space there, or choose another place: REGARD_CACHE=DIR"
        raise DataError(f"the encoded data cannot be kept: {error.strerror}", where=str(folder), hint=hint) from None


def cache_folder() -> Path:
    """Where large corpora are kept: ``REGARD_CACHE``, or ``regard`` in the user's cache folder."""
    if chosen := os.environ.get("REGARD_CACHE"):
        return Path(chosen)
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        home = Path(tempfile.gettempdir())
    return home / "regard"
