"""What notebooks need on a hub: memory, processor seconds and minutes, alone and side by side, one thread each.

Usage: python benchmarks/hub_sizes.py [--side 1 2 4 8] [notebook ...] > results/hub.md     (none named: all, alone)

Other work on the machine makes the minutes longer and hardly changes the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import psutil

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
TITLES = ("notebook", "side by side", "MB of one, peak", "MB of all, peak", "processor s each", "minutes", "failed")


def usage(process: psutil.Popen) -> tuple[float, float, float]:
    """Of the kernel below a process: megabytes that it shares with no other process, megabytes, processor seconds."""
    private = memory = seconds = 0.0
    for part in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            full, times = part.memory_full_info(), part.cpu_times()
            private, memory, seconds = private + full.uss / 1e6, memory + full.rss / 1e6, seconds + sum(times[:2])
    return private, memory, seconds


def side_by_side(notebook: Path, count: int) -> list[str]:
    """The row of the table for ``count`` kernels that run this notebook at once."""
    with tempfile.TemporaryDirectory() as folder:
        start, peak, together, seconds = time.monotonic(), 0.0, 0.0, [0.0] * count
        command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", str(notebook), "--output-dir"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": folder}
        running = [psutil.Popen([*command, f"{folder}/{i}"], **quiet) for i in range(count)]
        while any([process.poll() is None for process in running]):
            used = [usage(process) if process.poll() is None else (0.0, 0.0, 0.0) for process in running]
            shared = max(memory - private for private, memory, _ in used)  # torch's libraries: once for all kernels
            peak, together = max(peak, *[u[1] for u in used]), max(together, shared + sum(u[0] for u in used))
            seconds = [max(before, u[2]) for before, u in zip(seconds, used)]
            time.sleep(0.5)
        failed, minutes = sum(process.returncode != 0 for process in running), (time.monotonic() - start) / 60
    numbers = f"{peak:.0f}", f"{together:.0f}", f"{sum(seconds) / count:.0f}", f"{minutes:.1f}", str(failed)
    return [f"`{notebook.stem}`", str(count), *numbers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", help="names, such as 05_cxgrad")
    parser.add_argument("--side", type=int, nargs="+", default=[1], help="how many kernels at once (default: 1)")
    options = parser.parse_args()
    paths = {path.stem: path for path in [*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("assignments/source/*/*.ipynb")]}
    print(f"| {' | '.join(TITLES)} |\n{'|---' * len(TITLES)}|", flush=True)
    for name in options.notebooks or sorted(paths):
        for count in options.side:
            print(f"| {' | '.join(side_by_side(paths[name], count))} |", flush=True)
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"\n{os.cpu_count()} cores, {platform.machine()}, {date.today()}; load averages at the end: {load}.")


if __name__ == "__main__":
    main()
