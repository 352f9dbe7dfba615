"""What lies under the source axis of a map: the picture or the spectrogram that the steps are places of."""

import base64
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels from the upper left corner."""


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
        height, width, _ = bright.shape
        edges = np.linspace(0, width, steps + 1).tolist()
        boxes = tuple((left, 0.0, right, float(height)) for left, right in pairwise(edges))
        return cls.picture(bright.astype(np.float32), boxes)

    def view(self) -> dict[str, Any]:
        """As the attention page draws it."""
        height, width, _ = self.pixels.shape
        encoded = base64.b64encode(self.pixels.tobytes()).decode()
        return {"height": height, "width": width, "pixels": encoded, "boxes": self.boxes}
