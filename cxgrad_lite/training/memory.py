"""Memory of this process: how much it took, and whether freed memory stays in it."""

from __future__ import annotations

import ctypes
import math
import re
import sys
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # numbers of glibc's mallopt
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep what is freed for the next tensors, instead of giving it back to the system and asking for it again.

    A meta-step frees and takes gigabytes of large tensors; fetching their pages anew can take longer than computing
    with them. It is a setting of the whole process, so only commands call this, no import does.

    Returns:
        whether it could be done; only glibc (Linux) has the setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_TRIM_THRESHOLD, LARGEST) and mallopt(M_MMAP_MAX, 0))


def peak_memory() -> str:
    """The most that this process has held, on the GPU if there is one, in words."""
    if torch.cuda.is_available():
        return f"{peak_megabytes('cuda') / 1e3:.1f} GB on the GPU"
    peak = peak_megabytes("cpu")
    return "unknown" if math.isnan(peak) else f"{peak / 1e3:.1f} GB"


def peak_megabytes(device: str) -> float:
    """The most that this process has held: on the GPU if it runs there, else resident in memory; NaN if unknown."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")  # Linux; there ru_maxrss would also count the process that started this one
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
