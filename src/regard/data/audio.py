"""Sound as a model reads it: log-mel frames, some neighbouring ones side by side in each step."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy import ndarray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from regard.data.recordings import RATES, Recording, checked, read_recording
from regard.data.rows import Row, is_blank, row_with
from regard.data.tokenisers import SPECIAL_TOKENS
from regard.padded import Record
from regard.pieces import BLANK
from regard.settings import Settings

WINDOW, HOP = 0.025, 0.010
"""Seconds."""

LEAST_ENERGY = 1e-10
ZERO_CROSSINGS, PASSED = 16, 0.95
"""Of a resampling filter: how many on each side of its centre; up to which share of what both rates can hold."""

AT_ONCE = 1 << 15
"""Samples that are resampled together: each needs as many numbers as the filter is long."""


class Frames(Settings):
    """How sound is cut and measured; a step of the model is ``stack`` frames of 10 ms."""

    rate: int = Field(default=16_000, ge=RATES[0], le=192_000, description="samples a second; others are resampled")
    mels: int = Field(default=40, ge=1, le=256, description="bands of frequency")
    stack: Literal[1, 2, 4] = 4


class SpecAugment(Settings):
    """Bands of frequency and stretches of time that training hides (Park et al. 2019, arXiv 1904.08779, section 2)."""

    bands: int = Field(default=2, ge=0, le=64)
    widest: int = Field(default=8, ge=1, le=256, description="mels that a band hides at most")
    stretches: int = Field(default=2, ge=0, le=64)
    share: float = Field(default=0.1, gt=0, le=1, description="of the frames that a stretch hides at most")

    def masked(self, frames: Float32[ndarray, "frames mels"]) -> Float32[ndarray, "frames mels"]:
        """A copy with zeros, which is the mean, where it is hidden; places are drawn from torch's generator."""
        seen, (time, mels) = frames.copy(), frames.shape
        for _ in range(self.bands):
            seen[:, _drawn(mels, self.widest)] = 0
        for _ in range(self.stretches):
            seen[_drawn(time, int(self.share * time))] = 0
        return seen


class Voices(Settings):
    """Other voices for training: faster or slower, from a longer or shorter vocal tract.

    Speed, and the frequencies that are read, are multiplied by numbers drawn from 1 - x to 1 + x (Ko et al. 2015,
    "Audio Augmentation for Speech Recognition"; Jaitly and Hinton 2013, "Vocal Tract Length Perturbation Improves
    Speech Recognition").
    """

    tempo: float = Field(default=0.15, ge=0, le=0.5)
    tract: float = Field(default=0.1, ge=0, le=0.5)

    def spoken(self, frames: Float32[ndarray, "frames mels"], rate: int) -> Float32[ndarray, "changed mels"]:
        """The same frames between which others are interpolated; numbers are drawn from torch's generator."""
        time, mels = frames.shape
        tempo, tract = (1 + most * (2 * float(torch.rand(())) - 1) for most in (self.tempo, self.tract))
        highest = _mel(rate / 2)
        centres = _hertz(np.arange(1, mels + 1) * highest / (mels + 1))
        bands = _mel(centres * tract) / highest * (mels + 1) - 1
        steps = np.linspace(0, time - 1, max(round(time / tempo), 1))
        return _interpolated(_interpolated(frames, steps).T, bands).T.astype(np.float32)


def _interpolated(values: Float[ndarray, "places width"], at: Float[ndarray, "_"]) -> Float[ndarray, "_ width"]:
    """Between neighbours in a straight line; beyond the ends as at the ends."""
    at = at.clip(0, len(values) - 1)
    before = at.astype(int)
    after = np.minimum(before + 1, len(values) - 1)
    share = (at - before)[:, None]
    return values[before] * (1 - share) + values[after] * share


def _drawn(size: int, longest: int) -> slice:
    length = int(torch.randint(min(longest, size) + 1, ()))
    start = int(torch.randint(size - length + 1, ()))
    return slice(start, start + length)


def resample(samples: Float[Tensor, "samples"], rate: int, wanted: int) -> Float[Tensor, "resampled"]:
    """The same sound at another rate: band-limited interpolation by a windowed sinc.

    y(t) = sum over samples n near t of x(n) c sinc(c (t - n)) w(t - n), with times in samples, c the cut-off as a share
    of the rate, w a Hann window over `ZERO_CROSSINGS` on each side (Smith and Gossett 1984, "A Flexible
    Sampling-Rate Conversion Method").
    """
    if rate == wanted:
        return samples
    cutoff = PASSED * min(1.0, wanted / rate)
    reach = math.ceil(ZERO_CROSSINGS / cutoff)
    padded, near = F.pad(samples, (reach, reach)), torch.arange(1 - reach, reach + 1)
    times = torch.arange(math.ceil(len(samples) * wanted / rate), dtype=torch.float64) * rate / wanted
    parts = []
    for part in times.split(AT_ONCE):
        places = part.long()[:, None] + near
        apart = (part[:, None] - places).to(samples.dtype)
        window = torch.cos(math.pi / 2 * (apart / reach).clamp(-1, 1)) ** 2
        parts.append((padded[places + reach] * cutoff * torch.sinc(cutoff * apart) * window).sum(1))
    return torch.cat(parts)


def _mel(hertz: Any) -> Any:
    return 2595 * np.log10(1 + hertz / 700)


def _hertz(mel: Any) -> Any:
    return 700 * (10 ** (mel / 2595) - 1)


def mel_filters(bins: int, rate: int, mels: int) -> Float[Tensor, "bins mels"]:
    """Triangles, each from the centre of the one before to that of the next, the centres evenly spaced in mels.

    mel(f) = 2595 log10(1 + f / 700), f in Hz (O'Shaughnessy 1987, "Speech Communication"). ``bins`` of a spectrum lie
    from 0 to half the rate.
    """
    corners = torch.from_numpy(_hertz(np.linspace(0, _mel(rate / 2), mels + 2)))
    frequencies = torch.linspace(0, rate / 2, bins, dtype=torch.float64)[:, None]
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


_filters = lru_cache(maxsize=8)(mel_filters)


def log_mel(samples: Float[Tensor, "samples"], rate: int, mels: int) -> Float[Tensor, "frames mels"]:
    """The logarithm of the energy in each band, in Hann windows of 25 ms, one every 10 ms that lies wholly inside.

    What is shorter than a window is filled up with zeros.
    """
    window, hop = round(WINDOW * rate), round(HOP * rate)
    cut = F.pad(samples, (0, max(window - len(samples), 0))).unfold(0, window, hop)
    transform = 2 ** math.ceil(math.log2(window))
    power = torch.fft.rfft(cut * torch.hann_window(window), n=transform).abs() ** 2
    return (power @ _filters(transform // 2 + 1, rate, mels)).clamp(min=LEAST_ENERGY).log()


def normalised(frames: Float[Tensor, "frames mels"]) -> Float[Tensor, "frames mels"]:
    """Of mean 0 in each band, and of variance 1 over the whole recording: neither microphone nor loudness matter."""
    centred = frames - frames.mean(0)
    return centred / (centred.square().mean().sqrt() + 1e-5)


class SoundField:
    """Between a path to sound, or a `Recording`, and steps of log-mel frames."""

    def __init__(self, frames: Frames):
        self.frames = frames
        self.files: Mapping[str, bytes] = {}
        self.tags: Mapping[str, int] = {}
        self.vocabulary = SPECIAL_TOKENS
        self.fingerprint = frames.model_dump_json()

    @staticmethod
    def row(given: Any, roles: Sequence[str] = ("source",)) -> Row:
        return row_with(given, roles, (str, Path, Recording), "a path to sound, a Recording")

    is_blank = staticmethod(is_blank)

    @staticmethod
    def shown(row: Row) -> str:
        """A path, or what a recording is called."""
        source = row["source"]
        return source.name if isinstance(source, Recording) else str(source)

    def source(self, row: Row) -> Float32[ndarray, "steps features"]:
        """Normalised log-mel frames, ``stack`` of them in each step; the last step is filled up with zeros.

        Raises:
            DataError: there is no sound that can be read.
        """
        source, rate, mels = row["source"], self.frames.rate, self.frames.mels
        sound = checked(source) if isinstance(source, Recording) else read_recording(Path(str(source).strip()))
        samples = resample(torch.from_numpy(np.ascontiguousarray(sound.samples)), sound.rate, rate)
        return self._stacked(normalised(log_mel(samples, rate, mels)).numpy())

    def _stacked(self, frames: Float32[ndarray, "frames mels"]) -> Float32[ndarray, "steps features"]:
        missing = -len(frames) % self.frames.stack
        return np.pad(frames, ((0, missing), (0, 0))).reshape(-1, self.frames.stack * frames.shape[1])

    def varied(
        self, steps: Record, voices: Voices | None, augment: SpecAugment | None
    ) -> Float32[ndarray, "steps features"]:
        """Steps as another voice would say them, with some of their frames and mels hidden."""
        frames = np.asarray(steps).reshape(-1, self.frames.mels)
        if voices:
            frames = voices.spoken(frames, self.frames.rate)
        return self._stacked(augment.masked(frames) if augment else frames)

    def steps(self, record: Record) -> list[str]:
        """When each step begins."""
        return [f"{BLANK}{step * self.frames.stack * HOP:.2f} s" for step in range(len(record))]
