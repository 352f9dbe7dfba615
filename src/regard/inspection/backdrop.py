"""What lies under the source axis of a map: the picture, spectrogram or curves that the steps are places of."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels from the upper left corner."""

CURVE_HEIGHT, CURVE_WIDTH = 120, 900
"""Pixels; of long series each time has one of the width."""


@dataclass(frozen=True)
class Backdrop:
    """Red, green and blue, and where each source step lies on them."""

    pixels: UInt8[ndarray, "height width 3"]
    boxes: tuple[Box, ...]

    @classmethod
    def picture(cls, pixels: Float[ndarray, "height width channels"], boxes: tuple[Box, ...]) -> "Backdrop":
        """One or three channels, from 0 to 1."""
        height, width, _ = pixels.shape
        return cls((255 * np.broadcast_to(pixels, (height, width, 3))).round().astype(np.uint8), boxes)

    @classmethod
    def spectrogram(cls, frames: Float[ndarray, "frames bins"], steps: int) -> "Backdrop":
        """Low frequencies at the bottom, loud is bright; steps share the frames evenly."""
        low, high = np.quantile(frames, (0.02, 0.995))
        bright = ((frames - low) / max(high - low, 1e-6)).clip(0, 1).T[::-1, :, None]
        edges = np.linspace(0, bright.shape[1], steps + 1).tolist()
        return cls.picture(bright.astype(np.float32), _stripes(bright, edges))

    @classmethod
    def curves(cls, values: Float[ndarray, "times variables"], begins: Sequence[int]) -> "Backdrop":
        """Every variable between its least and its greatest value, dark on white; each step lasts until the next."""
        low, high = values.min(0), values.max(0)
        heights = 1 - (values - low) / np.where(high > low, high - low, 1)
        wide = max(CURVE_WIDTH // len(values), 1)
        places = np.linspace(0, len(values) - 1, wide * len(values))
        pixels = np.arange(CURVE_HEIGHT)[:, None]
        drawn = np.ones((CURVE_HEIGHT, len(places), 1), np.float32)
        for curve in heights.T:
            row = np.interp(places, np.arange(len(values)), curve) * (CURVE_HEIGHT - 3) + 1
            before = np.r_[row[:1], row[:-1]]
            inside = (pixels >= np.minimum(row, before) - 0.6) & (pixels <= np.maximum(row, before) + 0.6)
            drawn[inside] = 0.25
        return cls.picture(drawn, _stripes(drawn, [float(wide * begin) for begin in (*begins, len(values))]))

    def view(self) -> dict[str, Any]:
        """As the attention page draws it."""
        height, width, _ = self.pixels.shape
        encoded = base64.b64encode(self.pixels.tobytes()).decode()
        return {"height": height, "width": width, "pixels": encoded, "boxes": self.boxes}


def _stripes(pixels: ndarray, edges: Sequence[float]) -> tuple[Box, ...]:
    """From the top to the bottom, side by side."""
    return tuple((left, 0.0, right, float(len(pixels))) for left, right in pairwise(edges))
