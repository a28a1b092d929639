"""Threads that compute: the pool that each thread of the program has, and how a thread gives its own up."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

PAUSE_SOFT = 1  # of OpenMP's omp_pause_resource_t


@cache
def pause_function() -> Callable[[int], int] | None:
    """OpenMP's ``omp_pause_resource_all`` of the GNU library in torch's Linux wheels; None if torch has another.

    Another system's would stop all threads, the busy ones too. The library in the wheels of torch 2.3 is too old.
    """
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    return getattr(ctypes.CDLL(str(found[0])), "omp_pause_resource_all", None) if found else None


def release_pool() -> bool:
    """End the idle threads that compute for the calling thread; its next large operation starts new ones.

    Every thread that runs torch's operations gets a pool of its own. If two pools together have more threads than
    there are cores, GNU's OpenMP puts each of them to sleep between two operations, even if one pool has nothing to
    do. Training in a second thread takes up to twice as long then.

    Returns:
        whether it could be done.
    """
    pause = pause_function()
    return pause is not None and pause(PAUSE_SOFT) == 0
