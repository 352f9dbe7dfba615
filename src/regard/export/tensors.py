"""Tensors in a folder of safetensors files: described first, read when they are known to be wanted."""

from pathlib import Path
from typing import NamedTuple

import safetensors
from torch import Tensor

from regard.errors import InputError
from regard.export.configuration import read_json

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MOST_HEADER = 1 << 24
"""Bytes of a file's header, at most: room for some 100,000 tensors."""
TYPES = {"F32", "F16", "BF16"}


class Stored(NamedTuple):
    """Where a tensor lies, under which name, and what it is."""

    file: Path
    name: str
    type: str
    shape: tuple[int, ...]


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """All tensors of a folder by name; none is read.

    Raises:
        InputError: there is no safetensors file, or one is damaged.
    """
    if (folder / WHOLE).exists():
        return _described(folder / WHOLE)
    if not (folder / INDEX).exists():
        hint = "pickled weights are not read: save them again with safe_serialization=True"
        raise InputError(f"no {WHOLE}", where=str(folder), hint=hint)
    places = read_json(folder / INDEX).get("weight_map")
    files = {*places.values()} if isinstance(places, dict) else set()
    if not files or not all(isinstance(file, str) and Path(file).name == file for file in files):
        raise InputError("its weight_map does not name files of this folder", where=str(folder / INDEX))
    return {name: stored for file in sorted(files) for name, stored in _described(folder / file).items()}


def read(stored: Stored) -> Tensor:
    """A tensor in fp32.

    Raises:
        InputError: the file was damaged meanwhile.
    """
    try:
        with safetensors.safe_open(stored.file, framework="pt") as tensors:  # maps the file
            return tensors.get_tensor(stored.name).float()
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"cannot be read: {error}", where=str(stored.file)) from None


def _described(file: Path) -> dict[str, Stored]:
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
        if size > MOST_HEADER:
            raise InputError(f"a header of {size:,} bytes", where=str(file))
        with safetensors.safe_open(file, framework="pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118, it is no dict
            return {name: Stored(file, name, one.get_dtype(), (*one.get_shape(),)) for name, one in slices.items()}
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"cannot be read: {error}", where=str(file)) from None
