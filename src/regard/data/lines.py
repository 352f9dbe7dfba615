"""The lines of data files, plain or gzip, as they come; every way in which a file is not text has its own message."""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Protocol, runtime_checkable

from regard.errors import DataError

MOST_INFLATED, MOST_BYTES = 200, 2**30
"""A compressed file may become so many times its size, or so many bytes if that is more."""

LONGEST = 2**26
"""Bytes of a line."""

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@runtime_checkable
class Stream(Protocol):
    """Bytes, a line at a time."""

    def readline(self, size: int, /) -> bytes: ...


def lines(path: Path) -> Iterator[str]:
    """Only ``\\n`` ends a line, and one ``\\r`` before it is dropped; UTF-8, or UTF-16 with a byte order mark.

    Raises:
        DataError: the file is missing, empty, unreadable or not text; the line is named.
    """
    with _naming_faults(str(path)):
        _check_kind(path)
        with opened(path) as stream:
            pieces = _pieces(path, stream)
            is_utf16 = stream.peek(2)[:2] in UTF_16
            decoded = _from_utf16(path, pieces) if is_utf16 else _not_empty(path, _from_utf8(str(path), pieces))
            yield from _without_ends(str(path), decoded)


def streamed_lines(name: str, stream: Stream) -> Iterator[str]:
    """The lines of a pipe or a file, UTF-8, as they come; there may be none, or no end of them.

    Raises:
        DataError: the stream is damaged or not text, or a line is longer than `LONGEST`; the line is named.
    """
    with _naming_faults(name):
        yield from _without_ends(name, _from_utf8(name, _bounded(name, stream)))


@contextmanager
def _naming_faults(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        hint = "fetch it or compress it again"
        raise DataError(f"damaged or not gzip: {error}", where=name, hint=hint) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=name, hint="check its permissions") from None


def _without_ends(name: str, decoded: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(decoded, start=1):
        if "\0" in line:
            hint = "this is no text file, or UTF-16 or UTF-32 without its byte order mark: save it as UTF-8"
            found = f"a NUL byte after {line.index(chr(0))} characters of this line"
            raise DataError(found, where=f"{name}:{number}", hint=hint)
        yield line.removesuffix("\n").removesuffix("\r")


def _not_empty(path: Path, decoded: Iterator[str]) -> Iterator[str]:
    first = next(decoded, None)
    if first is None:
        raise DataError("the file is empty", where=str(path), hint="give a file with one pair a line")
    return chain([first], decoded)


def is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def without_gz(path: Path) -> Path:
    """The name that says what is inside."""
    return path.with_suffix("") if is_gzip(path) else path


def _check_kind(path: Path) -> None:
    if not path.exists():
        raise DataError("no such file", where=str(path), hint=f"looked in {path.parent.resolve()}")
    if not path.is_file():
        found = "a folder" if path.is_dir() else "a device or pipe"
        raise DataError(f"this is {found}, not a file", where=str(path), hint="name the data files themselves")


def opened(path: Path) -> BufferedReader | gzip.GzipFile:
    """The bytes of a file, inflated if its name says so."""
    return gzip.open(path) if is_gzip(path) else path.open("rb")


def _from_utf8(name: str, pieces: Iterable[bytes]) -> Iterator[str]:
    for number, raw in enumerate(pieces, start=1):
        text = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        try:
            line = text.decode()
        except UnicodeDecodeError as error:
            raise _not_text(f"{name}:{number}", text[: error.start].decode(), error) from None
        if line:
            yield line


def _from_utf16(path: Path, pieces: Iterable[bytes]) -> Iterator[str]:
    """Line ends cannot be found before decoding, and such files are small: read at once."""
    data = b"".join(pieces)
    try:
        text = data.decode("utf-16")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-16")
        where = f"{path}:{before.count(chr(10)) + 1}"
        raise _not_text(where, before.rpartition("\n")[2], error) from None
    yield from text.removesuffix("\n").split("\n")


def _not_text(where: str, before: str, error: UnicodeDecodeError) -> DataError:
    found = f"byte 0x{error.object[error.start]:02x} after {len(before)} characters of this line"
    encoding = error.encoding.upper().removesuffix("-LE").removesuffix("-BE")
    hint = "if it is text, save it as UTF-8, for example: iconv -f latin1 -t utf-8 OLD > NEW"
    if encoding != "UTF-8":
        hint = "the file is cut off or damaged: fetch it again"
    return DataError(f"{found} is not {encoding}", where=where, hint=hint)


def _pieces(path: Path, stream: Stream) -> Iterator[bytes]:
    """Bytes up to each newline; a file that is a bomb is left before it fills the memory."""
    most = max(MOST_BYTES, MOST_INFLATED * path.stat().st_size)
    read = 0
    for piece in _bounded(str(path), stream):
        read += len(piece)
        if read > most:
            hint = "if it is meant to be so large, decompress it first"
            raise DataError(f"inflates to more than {most:,} bytes", where=str(path), hint=hint)
        yield piece


def _bounded(name: str, stream: Stream) -> Iterator[bytes]:
    number = 0
    while piece := stream.readline(LONGEST + 1):
        number += 1
        if len(piece) > LONGEST:
            hint = "is this text, with one input a line?"
            raise DataError(f"a line of more than {LONGEST:,} bytes", where=f"{name}:{number}", hint=hint)
        yield piece
