"""What a notebook needs on a hub: peak memory, processor seconds and minutes, alone and side by side.

Usage: python docs/hub/measure.py [--side 1 2 4 8] [notebook ...]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def usage(process: psutil.Popen) -> tuple[float, float]:
    """Megabytes and processor seconds of a process with its kernel."""
    memory = seconds = 0.0
    for part in [process, *process.children(recursive=True)]:
        try:
            memory, times = memory + part.memory_info().rss / 1e6, part.cpu_times()
        except psutil.Error:
            continue
        seconds += times.user + times.system
    return memory, seconds


def side_by_side(notebook: Path, count: int) -> None:
    """Print one row for ``count`` kernels that run this notebook at once, one thread each."""
    with tempfile.TemporaryDirectory() as folder:
        start, peaks, seconds = time.monotonic(), [0.0] * count, [0.0] * count
        command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", str(notebook), "--output-dir"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": folder}
        running = [psutil.Popen([*command, f"{folder}/{i}"], **quiet) for i in range(count)]
        while any(process.poll() is None for process in running):
            for i, process in enumerate(running):
                if process.poll() is None:
                    memory, used = usage(process)
                    peaks[i], seconds[i] = max(peaks[i], memory), max(seconds[i], used)
            time.sleep(0.5)
        failed = sum(process.returncode != 0 for process in running)
    minutes = (time.monotonic() - start) / 60
    row = [notebook.stem, count, f"{max(peaks):.0f}", f"{sum(seconds) / count:.0f}", f"{minutes:.1f}", failed]
    print("|", *(f"{entry} |" for entry in row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", default=["02_maml", "05_cxgrad"])
    parser.add_argument("--side", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores\n")
    print("| notebook | side by side | peak MB each | processor s each | minutes | failed |\n" + "|---" * 6 + "|")
    for name in options.notebooks:
        for number in options.side:
            side_by_side(NOTEBOOKS / f"{name}.ipynb", number)
