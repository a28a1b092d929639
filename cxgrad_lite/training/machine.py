"""The machine: memory that freed tensors leave behind, threads that compute, streams that fail, memory taken."""

from __future__ import annotations

import contextvars
import ctypes
import io
import math
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # options of glibc's mallopt
LARGEST = 2**31 - 1
PAUSE_SOFT = 1  # of OpenMP's omp_pause_resource_t
CLOSE_SECONDS = 10.0  # how long `Worker.stop` waits for its job


def keep_freed_memory() -> bool:
    """Stop glibc from returning freed memory to the system.

    A meta-step frees and allocates gigabytes of large tensors; mapping their pages again can take longer than
    computing with them. The setting holds for the whole process, so commands call this and no import does.

    Returns:
        whether it worked; only glibc (Linux) has the setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_TRIM_THRESHOLD, LARGEST) and mallopt(M_MMAP_MAX, 0))


def cores() -> int:
    """How many cores this process may use: by affinity, the container's quota (cgroups), and a hub's ``CPU_LIMIT``."""
    limit = os.environ.get("CPU_LIMIT", "")
    by_hub = math.ceil(float(limit)) if re.fullmatch(r"\d+(\.\d+)?", limit) and float(limit) else LARGEST
    return min(joblib.cpu_count(), by_hub)


def fit_threads() -> int:
    """Take no more threads than there are cores, and say so if that changes anything; the number of threads.

    Torch counts the cores of the host. In a container with a share of them, sixteen threads on two cores compute ten
    times more slowly than two do. Whatever trains or evaluates calls this; no import does.
    """
    threads, allowed = torch.get_num_threads(), cores()
    if threads > allowed:
        text = f"cxgrad_lite: {threads} threads would share {allowed} core(s); from now on torch uses {allowed}"
        print(text, file=Dispensable(sys.stdout))  # type: ignore[call-overload]
        torch.set_num_threads(allowed)
    return min(threads, allowed)


def peak_memory() -> str:
    """The largest amount of memory this process has held, in words; on the GPU if there is one."""
    if torch.cuda.is_available():
        return f"{peak_megabytes('cuda') / 1e3:.1f} GB on the GPU"
    peak = peak_megabytes("cpu")
    return "unknown" if math.isnan(peak) else f"{peak / 1e3:.1f} GB"


def peak_megabytes(device: str) -> float:
    """The largest amount of memory this process has held, on the GPU or resident on the host; NaN if unknown."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")  # Linux; there ru_maxrss would also count the process that started this one
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if peak:
        return int(peak[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


@cache
def pause_function() -> Callable[[int], int] | None:
    """``omp_pause_resource_all`` of the GNU OpenMP in torch's Linux wheels; None with any other OpenMP.

    Other implementations would stop all threads, busy ones included. The library in the wheels of torch 2.3 is too old.
    """
    libraries = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    return getattr(ctypes.CDLL(str(libraries[0])), "omp_pause_resource_all", None) if libraries else None


def release_pool() -> bool:
    """End the idle OpenMP threads of the calling thread; its next large operation starts new ones.

    Every thread that runs torch's operations has a pool of its own. When two pools together have more threads than
    there are cores, GNU's OpenMP puts each of them to sleep between two operations, even if one pool is idle, and
    training in a second thread takes up to twice as long.

    Returns:
        whether it worked.
    """
    pause = pause_function()
    return pause is not None and pause(PAUSE_SOFT) == 0


class Dispensable:
    """A stream that a run can do without: once it fails (no reader, a full disk), what is written to it is lost.

    Args:
        stream: what is written to; None, as Python has it for a stream that the shell has closed, is nowhere.

    Attributes:
        error: what the stream failed with.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream or io.TextIOBase(), name)

    def write(self, text: str) -> int:
        self._attempt("write", text)
        return len(text)

    def flush(self) -> None:
        self._attempt("flush")

    def _attempt(self, name: str, *text: str) -> None:
        try:
            if self._stream:
                getattr(self._stream, name)(*text)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            with suppress(OSError, ValueError):  # what it still holds would fail again when the interpreter ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._stream, self.error = None, error


class Worker:
    """One thread, which lives while there is something to do.

    Args:
        failed: called, in the thread, with an exception that a job raised.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self.closing = threading.Event()
        self._failed, self._lock = failed, threading.Lock()
        self._next: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], None]) -> None:
        """Run ``job`` after the one that is running; it replaces one that has not begun."""
        with self._lock:
            if self.closing.is_set():
                return
            self._next = job
            if threading.current_thread() is not self._thread:
                release_pool()  # the caller's, which would slow the thread
            if self._thread is None:
                # Without a copy of the context, ipykernel 7.0 does not know in the thread which cell is running.
                run = contextvars.copy_context().run
                self._thread = threading.Thread(target=run, args=(self._work,), daemon=True, name="panel")
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                job, self._next = self._next, None
                if job is None or self.closing.is_set():
                    self._thread = None
                    return
            try:
                job()
            except BaseException as error:  # SystemExit too: a student's method may raise it, and the panel goes on
                self._failed(error)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do; False if that took longer than ``timeout`` seconds."""
        with self._lock:
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def stop(self) -> None:
        """Begin no further job, tell the running one to end, and wait for it."""
        self.closing.set()
        self.wait(CLOSE_SECONDS)
