"""Files that are there whole or not at all: written aside, flushed to disk, renamed."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file in one step; a crash leaves the old one or the new one.

    Raises:
        OSError: it names ``path``; the old file is as it was.
    """
    with _aside(path) as aside:
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes the name ``path`` when all of it is on disk, replacing one that is there.

    Raises:
        OSError: it names ``path``.
    """
    with _aside(path) as aside:
        aside.mkdir(parents=True)
        yield aside
        for file in aside.iterdir():
            _sync(file)
        sync_folder(aside)
        _remove(path)
        aside.rename(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Flush a folder's list of names, so that a rename survives a power cut; systems without it are left alone."""
    with contextlib.suppress(OSError):
        _sync(path)


def remove_unfinished(folder: Path) -> None:
    """Remove what was being written under ``folder`` by processes that were killed."""
    for aside in [*folder.rglob(".*.part")]:
        writer = re.fullmatch(r"\..+\.(\d+)\.part", aside.name)
        if writer and not _is_another(int(writer[1])):
            _remove(aside)


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A name to write under until it can be renamed to ``path``; whatever goes wrong, nothing stays under it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove(aside)
    try:
        yield aside
    except OSError as error:  # a write that fails does not know its file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        _remove(aside)


def _is_another(process: int) -> bool:
    """Whether this is a running process other than ours; in containers, all that were killed had our number."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
