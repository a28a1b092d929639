"""A job of the benchmark, the processes that do it in turn, and what passes between them.

The process gets a `Job` as JSON on its command line and prints one line of JSON: ``seconds`` per meta-iteration, the
first two ``losses``, ``start_mb`` and ``peak_mb`` of memory, or ``error``.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from contenders import CONTENDERS
from jobs import Job

from cxgrad_lite.training.machine import peak_megabytes

# glibc: freed memory stays in the process, because the large tensors of a meta-step are wanted again in the next one.
TUNED = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "4294967296"}
PACKAGES = ("higher", "torchopt")  # contenders that pip installs


def do(job: Job, tuned: bool = False) -> dict[str, Any]:
    """What a new process reports about the job; ``tuned``: with the allocator's thresholds raised."""
    command = [sys.executable, __file__, job.dumps()]
    done = subprocess.run(command, env=environment(job, tuned), capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.splitlines() or [""])[-1]
        return {"error": f"the process ended with {done.returncode}: {why}"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def environment(job: Job, tuned: bool) -> dict[str, str]:
    """The variables of a worker; the allocator reads its own when a process starts, so nothing later could set them."""
    ours = {"OMP_NUM_THREADS": str(job.threads), "MKL_NUM_THREADS": str(job.threads)}
    if job.device == "cpu":
        ours["CUDA_VISIBLE_DEVICES"] = ""  # the authors' code takes a GPU where it sees one
    others = {name: value for name, value in os.environ.items() if name not in TUNED}
    return others | ours | (TUNED if tuned else {})


@dataclass
class Row:
    """One contender with one allocator setting.

    Attributes:
        results: what its processes reported, one per repeat.
        note: why there are none.
    """

    contender: str
    allocator: str  # "default" or "tuned"
    job: Job
    results: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""

    @property
    def seconds(self) -> list[float]:
        return [result["seconds"] for result in self.results]

    @property
    def peak(self) -> float:
        return max((result["peak_mb"] for result in self.results), default=math.nan)

    def run(self) -> None:
        """Once more, in a new process."""
        result = do(self.job, self.allocator == "tuned")
        if "error" in result:
            self.note, self.results = f"failed: {result['error']}", []
        else:
            self.results.append(result)


def allocators(device: str) -> list[str]:
    """Malloc's thresholds are glibc's, and of no use on a GPU."""
    return ["default", "tuned"] if device == "cpu" and platform.libc_ver()[0] == "glibc" else ["default"]


def run_all(rows: list[Row], repeats: int) -> Iterator[int]:
    """Every row once, then every row again in the opposite order, …; yields the number of rounds that are done."""
    start = time.perf_counter()
    for done in range(1, repeats + 1):
        for row in rows if done % 2 else rows[::-1]:
            if not row.note:
                row.run()
        yield done
        if done < repeats:
            minutes = (time.perf_counter() - start) / done * (repeats - done) / 60
            print(f"{done} of {repeats} rounds; about {minutes:.1f} minutes to go", file=sys.stderr, flush=True)


def absence(job: Job) -> str:
    """Why a contender cannot take part, and what to do; empty if it can."""
    if job.contender in PACKAGES and find_spec(job.contender) is None:
        return f"not installed: pip install {job.contender}"
    if job.contender == "authors" and not job.authors:
        return "not installed: git clone https://github.com/shlee625/CxGrad, then --authors CxGrad"
    return ""


def is_mixed(row: Row) -> bool:
    return row.contender.endswith("bf16")


def titled(row: Row) -> str:
    """The contender with the version of its package."""
    packaged = row.contender in PACKAGES and find_spec(row.contender) is not None
    return f"{row.contender} {metadata.version(row.contender)}" if packaged else row.contender


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median, smallest and largest."""
    digits = 2 if unit or median(values) >= 1 else 3
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle}{unit} ({low}–{high})"


def faster(row: Row, mine: Row) -> str:
    """How many times ours is as fast: ratios within one round, their median and spread."""
    return spread([theirs / own for theirs, own in zip(row.seconds, mine.seconds)], "×")


def cpu_name() -> str:
    """Model and number of cores."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"


def measure(job: Job) -> dict[str, Any]:
    """Seconds per meta-iteration, the first two losses, and memory before and after in MB."""
    torch.set_num_threads(job.threads)
    torch.set_default_dtype(torch.float64 if job.float64 else torch.float32)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    step, start_mb = CONTENDERS[job.contender](job), peak_megabytes(job.device)
    losses = [step()]
    synchronise = torch.cuda.synchronize if job.device == "cuda" else lambda: None
    synchronise()
    start = time.perf_counter()
    losses += [step() for _ in range(job.iterations)]
    synchronise()
    seconds = (time.perf_counter() - start) / job.iterations
    return {"seconds": seconds, "losses": losses[:2], "start_mb": start_mb, "peak_mb": peak_megabytes(job.device)}


def main() -> None:
    with redirect_stdout(sys.stderr):  # contenders may print
        try:
            result = measure(Job.loads(sys.argv[1]))
        except Exception as error:  # a contender may fail in any way; the table says how
            lines = str(error).splitlines() or [""]
            result = {"error": f"{type(error).__name__}: {lines[0]}"}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
