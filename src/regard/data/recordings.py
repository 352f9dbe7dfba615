"""Recordings: sound files as samples of one channel, on their own or inside a zip archive."""

import importlib
import io
import wave
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from regard.errors import DataError, InputError

MOST_SECONDS = 300
"""Of a recording: what is longer holds many sentences, and attention over it would never end."""

MOST_BYTES = 1 << 28
RATES = range(1_000, 400_001)
"""Samples a second."""

AGAIN = "fetch it again from where it comes, or write it anew as a 16-bit wav file"


class Recording(NamedTuple):
    """Samples from -1 to 1, how many there are a second, and what people call it."""

    samples: Float32[ndarray, "samples"]
    rate: int
    name: str = "samples"

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def read_recording(path: Path) -> Recording:
    """A sound file, its channels mixed into one; ``archive.zip/name.wav`` is a file inside a zip archive.

    Wav files of whole numbers are read by the standard library, all others by soundfile.

    Raises:
        DataError: there is no such file, or it is damaged, empty or too long.
        InputError: it needs soundfile, which is not installed.
    """
    content, where = _content(path), str(path)
    try:
        samples, rate = _wav(content, where) if path.suffix.lower() == ".wav" else _other(content, where)
    except (wave.Error, EOFError) as error:
        if str(error).startswith("unknown format"):
            samples, rate = _other(content, where)
        else:
            raise DataError(f"not a wav file: {str(error) or 'it ends too early'}", where=where, hint=AGAIN) from None
    return checked(Recording(samples.mean(axis=1), rate, path.name), where)


def checked(recording: Recording, where: str | None = None) -> Recording:
    """The recording, if it can be heard.

    Raises:
        DataError: it has no samples or too many, samples that are no numbers, or an impossible rate.
    """
    samples, rate, _ = recording
    if rate not in RATES:
        message = f"{rate:,} samples a second; {RATES[0]:,} to {RATES[-1]:,} can be right"
        raise DataError(message, where=where, hint=AGAIN)
    if not len(samples):
        raise DataError("a recording without a sample", where=where, hint="leave it out, or record it again")
    _refuse_long(recording.seconds, where)
    if not np.isfinite(samples).all():
        raise DataError("samples that are no numbers (NaN or infinite)", where=where, hint=AGAIN)
    return recording


def _refuse_long(seconds: float, where: str | None) -> None:
    if seconds > MOST_SECONDS:
        hint = "cut it at pauses into parts of a sentence or a few"
        raise DataError(f"a recording of {seconds:,.0f} s, at most {MOST_SECONDS} s", where=where, hint=hint)


def _wav(content: bytes, where: str) -> tuple[Float32[ndarray, "samples channels"], int]:
    with wave.open(io.BytesIO(content)) as file:
        channels, width, rate, promised, *_ = file.getparams()
        if rate and promised * width * channels <= len(content):
            _refuse_long(promised / rate, where)
        found = file.readframes(promised)
    if len(found) < promised * width * channels:
        there = len(found) // (width * channels)
        message = f"its header promises {promised:,} samples, and {there:,} are there: it was cut off"
        raise DataError(message, where=where, hint=AGAIN)
    if width not in (1, 2, 3, 4):
        raise DataError(f"samples of {8 * width} bits; 8, 16, 24 or 32 can be read", where=where, hint=AGAIN)
    return _numbers(found, width).reshape(-1, channels), rate


def _numbers(content: bytes, width: int) -> Float32[ndarray, "numbers"]:
    """Whole numbers of so many bytes as fractions; those of one byte have no sign."""
    if width == 1:
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:  # as 32 bits, the lowest 8 of them zero
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        content, width = wide.tobytes(), 4
    return (np.frombuffer(content, f"<i{width}") / 2 ** (8 * width - 1)).astype(np.float32)


def _other(content: bytes, where: str) -> tuple[Float32[ndarray, "samples channels"], int]:
    soundfile = _soundfile(where)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            _refuse_long(file.frames / max(file.samplerate, 1), where)
            return file.read(dtype="float32", always_2d=True), file.samplerate
    except soundfile.LibsndfileError as error:
        raise DataError(f"not a sound file: {error.error_string}", where=where, hint=AGAIN) from None


def _soundfile(where: str) -> Any:
    try:
        return importlib.import_module("soundfile")
    except (ImportError, OSError):
        hint = "pip install 'regard[audio]', or write it as a 16-bit wav file"
        raise InputError("reading it needs soundfile, which is not installed", where=where, hint=hint) from None


def _content(path: Path) -> bytes:
    """All bytes of a file, or of one inside an archive, as long as the memory can hold them."""
    archive = next((one for one in path.parents if one.suffix.lower() == ".zip" and one.is_file()), None)
    try:
        if archive:
            return _member(archive, path.relative_to(archive).as_posix())
        if not path.exists():
            hint = "is the path right? in a table, paths are relative to the table"
            raise DataError("no such file", where=str(path), hint=hint)
        if not path.is_file():
            raise DataError("not a file", where=str(path), hint="give the path of one recording")
        _refuse_large(path.stat().st_size, path)
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), hint="is the path right?") from None


def _member(archive: Path, name: str) -> bytes:
    """A file of an archive, unpacked in memory alone and never beyond `MOST_BYTES`, whatever its header says."""
    status, where = archive.stat(), archive / name
    try:
        opened = _opened(archive, status.st_size, status.st_mtime_ns)
        with opened.open(name) as stream:
            content = stream.read(MOST_BYTES + 1)
    except KeyError:
        raise DataError("no such file in the archive", where=str(where), hint="is the name right?") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        message = f"the archive is damaged, encrypted or packed in an unknown way: {error}"
        raise DataError(message, where=str(where), hint="unpack it, or fetch it again from where it comes") from None
    _refuse_large(len(content), where)
    return content


@lru_cache(maxsize=4)
def _opened(archive: Path, size: int, changed: int) -> zipfile.ZipFile:
    """An archive's table of contents, read once for as long as the file stays as it is."""
    return zipfile.ZipFile(archive)


def _refuse_large(size: int, path: Path) -> None:
    if size > MOST_BYTES:
        message = f"more than {MOST_BYTES >> 20:,} MB: longer than {MOST_SECONDS} s in any form"
        raise DataError(message, where=str(path), hint="cut it at pauses into parts of a sentence or a few")
