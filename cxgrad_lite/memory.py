"""Memory of this process: how much it took, and whether freed memory stays in it."""

from __future__ import annotations

import ctypes
import sys

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
    """The most that this process has held, on the GPU if there is one."""
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB on the GPU"
    try:
        import resource
    except ImportError:  # Windows
        return "unknown"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, else kilobytes
    return f"{peak / (1e9 if sys.platform == 'darwin' else 1e6):.1f} GB"
