"""Where a student's code runs: a process of its own, in a folder of its own, within limits, ended with all it started.

With bubblewrap, or with Docker or Podman and the image of docs/hub, there is no network, nothing outside the folder can
be written, and neither other students' work nor the grader can be seen.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

HERE = Path(__file__).parent
PACKAGES = HERE.parent, HERE.parent.parent / "data_utils"
IMAGE = "cxgrad-lite"  # of docs/hub/Dockerfile
READABLE = ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache", "/etc/fonts", "/etc/passwd")
NO_WALL = (
    "No bubblewrap, Docker or Podman here: code runs with limits but with your rights, so it can read and change your "
    "files and use the network. Install bubblewrap, or grade as a user who owns nothing else."
)
SUBREAPER = 36
KILLED = "the grading process was ended from inside"


@dataclass(frozen=True)
class Limits:
    """What one hand-in may use; the set-up cell's seconds are its own."""

    cell_seconds: int = 10
    seconds: int = 200
    memory: int = 3 << 30
    processes: int = 24
    disk: int = 200_000_000
    deaths: int = 3


class Walls:
    """Runs notebooks, several at a time from several threads.

    Attributes:
        kind: "bwrap", "docker", "podman", or "" where none of them works.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self._alive, self._lock = limits, set[int](), threading.Lock()
        self.kind = next((kind for kind in ("bwrap", "docker", "podman") if _works(kind)), "")
        if sys.platform == "linux":  # a detached process becomes a child of this one, not of init
            ctypes.CDLL(None).prctl(SUBREAPER, 1)

    def run(self, cells: list[dict[str, str]]) -> list[list[dict[str, Any]]]:
        """Run code cells, dicts of ``kind`` ("setup", "own", "test") and ``source``; the outputs of each.

        A cell at which the kernel dies, or ignores the interrupt, is an error; the others run again without it.
        """
        end, lost = time.monotonic() + self.limits.seconds, dict[int, str]()
        while True:
            code = [cell | ({"source": "raise SystemError"} if i in lost else {}) for i, cell in enumerate(cells)]
            outputs, reason, index = self._once(code, end)
            if index is None or len(lost) >= self.limits.deaths:
                rest = reason or "not run: the kernel died too often"
                outputs |= {i: [error(text)] for i, text in lost.items()}
                return [outputs.get(i, [error(rest)]) for i in range(len(cells))]
            lost[index] = "stopped: it ignored the interrupt" if index in outputs else "the kernel died"

    def _once(self, cells: list[dict[str, str]], end: float) -> tuple[dict[int, Any], str, int | None]:
        with _scratch() as folder:
            name = f"hand_in_{secrets.token_hex(6)}"
            job = {
                "cells": cells,
                "folder": str(folder),
                "seconds": self.limits.cell_seconds,
                "env": _environment(folder),
            }
            job["argv"] = [*_wall(self.kind, folder, name), *self._kernel(folder)]
            with self._lock:
                pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
                command = [sys.executable, str(HERE / "execute.py")]
                process = subprocess.Popen(command, **pipes, start_new_session=True, cwd=folder, text=True)
                self._alive.add(process.pid)
            try:
                return self._watch(process, json.dumps(job), folder, end)
            finally:
                self._end(process, name)

    def _watch(self, process: Any, job: str, folder: Path, end: float) -> tuple[dict[int, Any], str, int | None]:
        lines: queue.Queue[str] = queue.Queue()
        process.stdin.write(job)
        process.stdin.close()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        outputs, reason = dict[int, Any](), ""
        while True:
            try:
                line = lines.get(timeout=0.0 if reason else 0.25)
            except queue.Empty:
                if reason:
                    return outputs, reason, None
                reason = self._excess(process.pid, folder, end)
                continue
            if not line:
                return outputs, "" if process.wait() == 0 else KILLED, None
            result = json.loads(line)
            if "outputs" not in result:
                return outputs, "", result["index"]
            outputs[result["index"]] = result["outputs"]

    def _excess(self, pid: int, folder: Path, end: float) -> str:
        """Which limit is passed, "" if none."""
        limits, tree = self.limits, _tree(pid)
        memory = 0
        for process in tree:
            with contextlib.suppress(psutil.Error):
                memory += process.memory_info().rss
        if time.monotonic() > end:
            return f"stopped: {limits.seconds} seconds for the whole notebook are over"
        if len(tree) > limits.processes:
            return f"stopped: more than {limits.processes} processes"
        if memory > limits.memory + (1 << 29):
            return f"stopped: more than {limits.memory >> 20} MiB of memory"
        size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
        return f"stopped: more than {limits.disk // 10**6} MB of files" if size > limits.disk else ""

    def _end(self, process: subprocess.Popen[str], name: str) -> None:
        """End the process with everything that it started, detached or not."""
        _kill(_tree(process.pid))
        process.wait()
        with self._lock:
            if self.kind in ("docker", "podman"):
                subprocess.run([self.kind, "rm", "-f", name], capture_output=True)
            self._alive.discard(process.pid)
            while stray := [child for child in psutil.Process().children() if child.pid not in self._alive]:
                _kill([p for child in stray for p in _tree(child.pid)])

    def _kernel(self, folder: Path) -> list[str]:
        python = "python" if self.kind in ("docker", "podman") else sys.executable
        user = psutil.Process().uids().real
        threads = sum(
            p.info["num_threads"] or 0
            for p in psutil.process_iter(["num_threads", "uids"])
            if p.info["uids"].real == user
        )
        limits = {"CPU": self.limits.seconds, "FSIZE": self.limits.disk, "CORE": 0, "NPROC": threads + 200}
        limits |= {"DATA": self.limits.memory}  # not AS: torch's libraries alone map gigabytes
        return [python, str(folder / "packages" / "cxgrad_lite" / "course" / "kernel.py"), json.dumps(limits)]


def _works(kind: str) -> bool:
    if not shutil.which(kind):
        return False
    probe = ["image", "inspect", IMAGE] if kind != "bwrap" else [*_wall("bwrap", Path("/tmp"), "")[1:], "/usr/bin/env"]
    return subprocess.run([kind, *probe], capture_output=True).returncode == 0


def _wall(kind: str, folder: Path, name: str) -> list[str]:
    """The command in front of the kernel's."""
    if kind == "bwrap":
        visible = [word for path in (*READABLE, sys.base_prefix, sys.prefix) for word in ("--ro-bind-try", path, path)]
        own = ["--tmpfs", "/tmp", *visible, "--proc", "/proc", "--dev", "/dev", "--bind", str(folder), str(folder)]
        return [
            str(shutil.which(kind)),
            "--unshare-all",
            "--cap-drop",
            "ALL",
            "--die-with-parent",
            *own,
            "--chdir",
            str(folder),
        ]
    if not kind:
        return []
    own = [f"--env={key}={value}" for key, value in _environment(folder).items()]
    limits = [
        "--network=none",
        "--read-only",
        "--cap-drop=ALL",
        "--pids-limit=64",
        "--tmpfs=/tmp",
        "--user",
        f"{os.getuid()}",
    ]
    return [
        str(shutil.which(kind)),
        "run",
        "--rm",
        "--init",
        "--name",
        name,
        *limits,
        *own,
        f"--volume={folder}:{folder}",
        f"--workdir={folder}",
        IMAGE,
    ]


def _environment(folder: Path) -> dict[str, str]:
    own = {key: str(folder) for key in ("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_RUNTIME_DIR")}
    # One thread: sums do not depend on the number of cores, and small networks are not slower.
    own |= {"PATH": os.defpath, "LANG": "C.UTF-8"}  # and nothing of the grader's own: it may hold passwords
    return own | {"PYTHONPATH": str(folder / "packages"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A new folder with a copy of the packages: no checkout, and so no solution, is beside them."""
    with tempfile.TemporaryDirectory(prefix="cx_", dir="/tmp", ignore_cleanup_errors=True) as folder:
        for package in PACKAGES:
            skip = shutil.ignore_patterns("__pycache__", "_notebooks", "*.ipynb")
            shutil.copytree(package, Path(folder) / "packages" / package.name, ignore=skip)
        yield Path(folder)


def _read(stream: IO[str], lines: queue.Queue[str]) -> None:
    """The lines of a stream, and "" at its end."""
    for line in stream:
        lines.put(line)
    lines.put("")


def _tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


def error(message: str) -> dict[str, Any]:
    """An output that says why a cell has no other."""
    return {"output_type": "error", "ename": "StoppedError", "evalue": message, "traceback": [message]}
