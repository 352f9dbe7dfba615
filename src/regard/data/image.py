"""Pictures: read with bounds, brought to one height, and cut into patches, column by column from the left."""

import importlib
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy import ndarray
from pydantic import Field, model_validator
from torch.nn import functional as F

from regard.data.rows import Row, is_blank, row_with
from regard.data.tokenisers import SPECIAL_TOKENS
from regard.errors import DataError, InputError
from regard.padded import Record
from regard.settings import Settings

MOST_PIXELS = 1 << 26
"""Of a picture file; more are refused before any is decoded."""

FORMATS = ("PNG", "JPEG")
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
"""Of red, green and blue (ITU-R BT.601)."""

Pixels = Float[ndarray, "height width channels"]
"""From 0 to 1; one channel is grey, three are red, green and blue."""


class PictureForm(Settings):
    """What pictures are made into."""

    height: int = Field(default=32, ge=1, le=1024, description="pixels; pictures are scaled to it, keeping their form")
    patch_height: int | None = Field(default=None, ge=1, description="pixels; as high as the picture unless given")
    patch_width: int = Field(default=4, ge=1, le=1024, description="pixels")
    colour: bool = False
    most_width: int = Field(default=2048, ge=1, le=1 << 16, description="pixels after scaling; wider ones are refused")

    @model_validator(mode="after")
    def _patches_fill_the_height(self) -> "PictureForm":
        if self.height % self.high:
            raise ValueError(f"patch_height {self.high} does not divide height {self.height}")
        return self

    @property
    def high(self) -> int:
        """Pixels from the top of a patch to its bottom."""
        return self.patch_height or self.height

    @property
    def rows(self) -> int:
        """Patches above each other."""
        return self.height // self.high

    @property
    def channels(self) -> int:
        return 3 if self.colour else 1

    def patches(self, pixels: Pixels) -> Float[ndarray, "steps pixels"]:
        """A picture of the right height as patches; the last column is repeated up to a whole patch."""
        whole = np.pad(pixels, [(0, 0), (0, -pixels.shape[1] % self.patch_width), (0, 0)], mode="edge")
        grid = whole.reshape(self.rows, self.high, -1, self.patch_width, self.channels)
        return np.ascontiguousarray(grid.transpose(2, 0, 1, 3, 4)).reshape(
            -1, self.high * self.patch_width * self.channels
        )

    def picture(self, patches: Float[ndarray, "steps pixels"]) -> Pixels:
        """The picture that was cut into these patches."""
        grid = patches.reshape(-1, self.rows, self.high, self.patch_width, self.channels)
        return grid.transpose(1, 2, 0, 3, 4).reshape(self.height, -1, self.channels)

    def boxes(self, steps: int) -> tuple[tuple[float, float, float, float], ...]:
        """Left, top, right and bottom of each patch, in pixels."""
        places = (divmod(step, self.rows) for step in range(steps))
        corners = ((float(column * self.patch_width), float(row * self.high)) for column, row in places)
        return tuple((left, top, left + self.patch_width, top + self.high) for left, top in corners)


class PictureField:
    """A picture, given as a path or as an array of pixels, as patches: (steps, pixels of a patch), from 0 to 1."""

    files: Mapping[str, bytes] = {}
    tags: Mapping[str, int] = {}
    vocabulary = SPECIAL_TOKENS

    def __init__(self, form: PictureForm):
        self.form = form
        self.fingerprint = str(form)

    @staticmethod
    def row(given: Any, roles: Sequence[str] = ("source",)) -> Row:
        return row_with(given, roles, (str, Path, ndarray), "a picture's path, its pixels")

    is_blank = staticmethod(is_blank)

    @staticmethod
    def shown(row: Row) -> str:
        """The path, or the size, for people to read."""
        source = row["source"]
        return f"{source.shape[1]} x {source.shape[0]} pixels" if isinstance(source, ndarray) else str(source)

    def source(self, row: Row) -> Float[ndarray, "steps pixels"]:
        """A row's picture as patches.

        Raises:
            DataError: it cannot be read, or is too wide.
        """
        given = row["source"]
        pixels = unit(given) if isinstance(given, ndarray) else read_picture(Path(given))
        return self.form.patches(self._in_channels(self._scaled(pixels, self.shown(row))))

    def steps(self, record: Record) -> list[str]:
        """Where each patch begins, in pixels from the left, and from the top where several stand above each other."""
        several = self.form.rows > 1
        boxes = self.form.boxes(len(record))
        return [f"▁x={left:.0f}" + (f",y={top:.0f}" if several else "") for left, top, *_ in boxes]

    def _scaled(self, pixels: Pixels, name: str) -> Float[ndarray, "_ _ channels"]:
        height, width, _ = pixels.shape
        wanted = max(round(width * self.form.height / height), 1)
        if wanted > self.form.most_width:
            found = f"{width} x {height} pixels, {wanted:,} wide at height {self.form.height}"
            hint = f"cut it into parts; at most {self.form.most_width:,} fit"
            raise DataError(f"a picture of {found}", where=name, hint=hint)
        if height == self.form.height:
            return pixels
        first = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        scaled = F.interpolate(first, (self.form.height, wanted), mode="bilinear", antialias=True)
        return scaled[0].permute(1, 2, 0).numpy().clip(0, 1)

    def _in_channels(self, pixels: Pixels) -> Float[ndarray, "height width _"]:
        if pixels.shape[2] == self.form.channels:
            return pixels
        return np.repeat(pixels, 3, axis=2) if self.form.colour else (pixels @ LUMINANCE)[..., None]


def unit(pixels: Shaped[ndarray, "*shape"]) -> Pixels:
    """Pixels from 0 to 1: whole numbers by the largest of their type, others as they are.

    Raises:
        DataError: they are no grey or colour picture, or not finite and from 0 to 1.
    """
    whole = pixels[..., None] if pixels.ndim == 2 else pixels
    if whole.ndim != 3 or whole.shape[2] not in (1, 3) or not whole.size or whole.dtype.kind not in "buf":
        found = f"an array of shape {pixels.shape} and type {pixels.dtype}"
        raise DataError(found, hint="a picture is (height, width) or (height, width, 3), of uint8 or float32")
    most = np.iinfo(whole.dtype).max if whole.dtype.kind == "u" else 1
    scaled = whole.astype(np.float32) / np.float32(most)
    if not (scaled.min() >= 0 and scaled.max() <= 1):
        raise DataError("pixels that are not from 0 to 1", hint="divide them by the largest there can be")
    return scaled


def read_picture(path: Path) -> Pixels:
    """A PNG or JPEG file, upright as its camera says; what is transparent lies on white.

    Raises:
        DataError: there is none, or it is damaged, or has more than `MOST_PIXELS`.
        InputError: Pillow is not installed.
    """
    where, image = str(path), _pillow("Image")
    if not path.is_file():
        found = "a folder, not a picture" if path.is_dir() else "no such picture"
        raise DataError(found, where=where, hint="is the path right? those in a table are relative to its folder")
    try:
        with warnings.catch_warnings(), image.open(path, formats=FORMATS) as opened:
            warnings.simplefilter("ignore")
            if opened.width * opened.height > MOST_PIXELS:
                raise _too_large(f"{opened.width:,} x {opened.height:,} pixels", where)
            return _decoded(opened)
    except (image.DecompressionBombError, image.DecompressionBombWarning):
        raise _too_large("more pixels than any picture", where) from None
    except image.UnidentifiedImageError:
        hint = "open it to see what it is, and save it as PNG or JPEG"
        raise DataError(f"no picture in {' or '.join(FORMATS)}, whatever its name", where=where, hint=hint) from None
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"damaged: {error}", where=where, hint="fetch it again, or leave the row out") from None


def _too_large(found: str, where: str) -> DataError:
    return DataError(f"{found}, at most {MOST_PIXELS:,} are read", where=where, hint="scale it down, or leave it out")


def _decoded(opened: Any) -> Pixels:
    """16 bits of grey keep their depth; all else becomes 8 bits a channel."""
    upright = _pillow("ImageOps").exif_transpose(opened)
    if upright.mode.startswith(("I", "F")):
        return unit(np.asarray(upright).astype(np.uint16))
    if upright.mode in ("LA", "PA", "RGBA") or "transparency" in upright.info:
        above = upright.convert("RGBA")
        upright = _pillow("Image").alpha_composite(_pillow("Image").new("RGBA", above.size, "white"), above)
    grey = upright.mode in ("1", "L")
    return unit(np.asarray(upright.convert("L" if grey else "RGB")))


def _pillow(part: str) -> ModuleType:
    try:
        return importlib.import_module(f"PIL.{part}")
    except ImportError:
        raise InputError("pictures need Pillow, which is not installed", hint="pip install 'regard[image]'") from None
