"""Time and peak memory of one meta-iteration, each setting in a process of its own.

    python benchmarks/meta_step.py [--repeats 10] [--threads 2]

Prints one row per setting: the median over the repeats, the fastest and the slowest, and the largest resident memory
of the process, of which the second-last column is what Python and torch hold before the first step.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

SETTINGS = {
    "MAML, 28 px, 32 filters, 2 tasks": ("MAML", 1, 28, 32, 2),
    "CxGrad, 28 px, 32 filters, 2 tasks": ("CxGrad", 1, 28, 32, 2),
    "CxGrad, 28 px, 32 filters, 8 tasks": ("CxGrad", 1, 28, 32, 8),
    "CxGrad, 84 px, 48 filters, 2 tasks (the paper's)": ("CxGrad", 3, 84, 48, 2),
}


def peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def measure(name: str, repeats: int, threads: int) -> dict[str, float]:
    """One setting in this process: 5-way 5-shot, 15 queries, 5 inner steps, second order, random images."""
    import torch

    from cxgrad_lite import METHODS, Conv4
    from cxgrad_lite.core.outer import meta_gradient

    method_name, channels, size, width, tasks = SETTINGS[name]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    method = METHODS[method_name](Conv4(channels, size, 5, width), inner_lr=0.01, inner_steps=5)
    labels = torch.arange(5)
    episode = (
        (torch.rand(25, channels, size, size), labels.repeat_interleave(5)),
        (torch.rand(75, channels, size, size), labels.repeat_interleave(15)),
    )
    before, times = peak_megabytes(), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        method.zero_grad()
        meta_gradient(method, [episode] * tasks)
        times.append(time.perf_counter() - start)
    times = times[1:]  # the first one also fills caches
    return {
        "median": statistics.median(times), "fastest": min(times), "slowest": max(times),
        "start": before, "peak": peak_megabytes(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of a meta-iteration.")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--setting", choices=SETTINGS, help="measure just this one, here, and print JSON")
    options = parser.parse_args()
    if options.setting:
        print(json.dumps(measure(options.setting, options.repeats, options.threads)))
        return
    print(f"{'5-way 5-shot, 5 steps, second order':50s} median  (fastest–slowest) s    start   peak MB")
    for name in SETTINGS:
        command = [sys.executable, __file__, "--setting", name, f"--repeats={options.repeats}"]
        command.append(f"--threads={options.threads}")
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        spread = f"({row['fastest']:.2f}–{row['slowest']:.2f})"
        print(f"{name:50s} {row['median']:6.2f}  {spread:20s} {row['start']:7.0f} {row['peak']:7.0f}", flush=True)


if __name__ == "__main__":
    main()
