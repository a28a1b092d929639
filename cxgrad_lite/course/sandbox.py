"""Where a student's code runs: a process of its own, in a folder of its own, within limits, ended with all it started.

With bubblewrap, or with Docker or Podman and the image of docs/hub, there is no network, nothing outside the folder can
be written, and neither other students' work nor the grader can be seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from .restore import GradingError

HERE = Path(__file__).parent
PACKAGES = HERE.parent, HERE.parent.parent / "data_utils"
CONTAINERS, IMAGE = ("docker", "podman"), "cxgrad-lite"  # of docs/hub/Dockerfile
READABLE = ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache", "/etc/fonts", "/etc/passwd")
NO_WALL = (
    "No bubblewrap, Docker or Podman that works here: code runs with limits but with your rights, so it can read and "
    "change your files and use the network. Install bubblewrap, or grade as a user who owns nothing else."
)
KILLED = "the grading process was ended from inside"


@dataclass(frozen=True)
class Limits:
    """What one hand-in may use; the set-up cell's seconds are its own.

    Attributes:
        seconds: processor time of the whole notebook, ``cell_seconds`` that of a cell.
        patience: by how much waiting may be longer.
        deaths: after so many kernels no further one is started.
    """

    cell_seconds: int = 10
    seconds: int = 200
    patience: int = 4
    memory: int = 3 << 30
    processes: int = 24
    disk: int = 200_000_000
    deaths: int = 3


def strongest_wall() -> str:
    """ "bwrap", "docker" or "podman", "" where none of them works."""
    return next((kind for kind in ("bwrap", *CONTAINERS) if works(kind)), "")


def run(cells: list[dict[str, str]], wall: str, limits: Limits) -> list[list[dict[str, Any]]]:
    """Run code cells behind a wall.

    A cell at which the kernel dies, or ignores the interrupt, is an error; the others run again without it.

    Args:
        cells: dicts of ``kind`` ("setup", "own" or "test") and ``source``.

    Returns:
        the outputs of each cell.
    """
    lost: dict[int, str] = {}
    while True:
        code = [cell | ({"source": "raise SystemError"} if i in lost else {}) for i, cell in enumerate(cells)]
        outputs, end = _once(code, wall, limits)
        if "lost" not in end or len(lost) >= limits.deaths:
            break
        lost[len(outputs)] = end["lost"]
    rest = end.get("over", "not run: the kernel died too often" if "lost" in end else KILLED)
    outputs += [[error(rest)]] * (len(cells) - len(outputs))
    return [[error(lost[i])] if i in lost else output for i, output in enumerate(outputs)]


def _once(cells: list[dict[str, str]], wall: str, limits: Limits) -> tuple[list[Any], dict[str, str]]:
    """The outputs of the cells that ran, and why no others did."""
    with _scratch() as folder:
        job = {"cells": cells, "limits": asdict(limits), "argv": [*_wall(wall, folder), *_kernel(wall, folder, limits)]}
        job["env"] = dict(os.environ) if wall in CONTAINERS else _environment(folder)  # their clients have settings
        try:
            done = subprocess.run(
                [sys.executable, str(HERE / "execute.py")], input=json.dumps(job), capture_output=True, text=True,
                cwd=folder, start_new_session=True, timeout=2 * limits.patience * limits.seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired:  # it keeps the limits itself, unless it is stopped
            return [], {}
        finally:
            _end(wall, folder.name)
        if done.returncode == 1 and not done.stdout:
            raise GradingError(f"no kernel started ({wall or 'no wall'}): {done.stderr[-300:]}")
        lines = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
        end = lines.pop() if lines and isinstance(lines[-1], dict) else {}
        return lines[1:], end


def _end(wall: str, name: str) -> None:
    """End what has left its parents: the folder's name stays in its environment."""
    if wall in CONTAINERS:
        subprocess.run([wall, "rm", "-f", name], capture_output=True)
    for _ in range(50):
        strays = [p for p in psutil.process_iter(["environ"]) if name in str(p.info["environ"])]
        for process in strays:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not strays:
            return
        psutil.wait_procs(strays, timeout=0.1)


def _kernel(wall: str, folder: Path, limits: Limits) -> list[str]:
    processes = psutil.process_iter(["num_threads", "uids"])
    threads = sum(
        p.info["num_threads"] or 0 for p in processes if p.info["uids"] and p.info["uids"].real == os.getuid()
    )
    # DATA, not AS: torch's libraries alone map gigabytes.
    most = {"CPU": limits.seconds, "FSIZE": limits.disk, "DATA": limits.memory, "CORE": 0, "NPROC": threads + 200}
    return [str(folder / "packages" / "cxgrad_lite" / "course" / "sandbox_kernel.py"), wall, json.dumps(most)]


def works(wall: str) -> bool:
    """Whether a kernel could start behind this wall ("" is none)."""
    with tempfile.TemporaryDirectory(prefix="cx_", dir="/tmp") as folder:
        probe = [*_wall(wall, Path(folder)), "-c", "import ipykernel"]
        return not wall or bool(shutil.which(wall)) and subprocess.run(probe, capture_output=True).returncode == 0


def _wall(kind: str, folder: Path) -> list[str]:
    """The command that starts Python."""
    if kind == "bwrap":
        seen = [word for path in (*READABLE, sys.base_prefix, sys.prefix) for word in ("--ro-bind-try", path, path)]
        own = ["--bind", str(folder), str(folder), "--chdir", str(folder), *"--remount-ro / --remount-ro /dev".split()]
        alone = "--unshare-all --cap-drop ALL --die-with-parent --proc /proc --dev /dev".split()
        return [str(shutil.which(kind)), *alone, *seen, *own, sys.executable]
    if not kind:
        return [sys.executable]
    alone = "--rm --network=none --read-only --cap-drop=ALL --memory=4g --pids-limit=64 --tmpfs=/tmp:size=64m".split()
    own = [f"--user={os.getuid()}", f"--volume={folder}:{folder}", f"--workdir={folder}", f"--name={folder.name}"]
    own += [f"--env={key}={value}" for key, value in _environment(folder).items()]
    return [str(shutil.which(kind)), "run", *alone, *own, IMAGE, "python"]


def _environment(folder: Path) -> dict[str, str]:
    own = {key: str(folder) for key in ("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_RUNTIME_DIR")}
    # One thread: sums do not depend on the number of cores, and small networks are not slower.
    # And nothing of the grader's own: it may hold passwords.
    own |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    return own | {"PYTHONPATH": str(folder / "packages"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A new folder with a copy of the packages: no checkout, and so no solution, is beside them."""
    with tempfile.TemporaryDirectory(prefix="cx_", dir="/tmp", ignore_cleanup_errors=True) as folder:
        for package in PACKAGES:
            skip = shutil.ignore_patterns("_notebooks", "*.ipynb")
            shutil.copytree(package, Path(folder) / "packages" / package.name, ignore=skip)
        yield Path(folder)


def error(message: str) -> dict[str, Any]:
    """An output that says why a cell has no other."""
    return {"output_type": "error", "ename": "StoppedError", "evalue": message, "traceback": [message]}
