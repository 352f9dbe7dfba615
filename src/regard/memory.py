"""The memory of this machine and of this process."""

import ctypes
import os
import re
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's allocator, as its malloc.h numbers them."""

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""How torch's allocators say it."""


def free_memory() -> int:
    """Bytes that a process may still take: what the machine has free, and at most what its container still allows."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    free = int(found[1]) * 1024 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = _read("/sys/fs/cgroup/memory.max").strip()
    held = re.search(r"^anon (\d+)", _read("/sys/fs/cgroup/memory.stat"), re.MULTILINE)
    return min(free, int(allowed) - (int(held[1]) if held else 0)) if allowed.isdecimal() else free


def _read(file: str) -> str:
    """What the system says there; nothing on systems without it."""
    return Path(file).read_text() if Path(file).exists() else ""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, on whatever device."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def keep_freed_memory() -> None:
    """What tensors free stays with this process for the next ones, instead of going back to the system.

    A training step frees and takes the same hundreds of megabytes, and fresh pages cost more than many an operation on
    them. Only glibc can be told so; elsewhere nothing changes.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        set_option(M_MMAP_THRESHOLD, 1 << 30)
        set_option(M_TRIM_THRESHOLD, (1 << 31) - 1)
        set_option(M_TOP_PAD, 1 << 26)
