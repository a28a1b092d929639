"""Meta-iterations per second of one training process, and of each of two that share the machine.

    python benchmarks/two_at_once.py [--seconds 10] [--repeats 5]

CxGrad on glyphs, 5-way 5-shot, 32 filters, 2 tasks, as `meta_train` runs it. The settings take turns; every repeat is
a new process or two. A row gives the median over the repeats, the slowest and the fastest; of two at once the slower.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

CORES = os.cpu_count() or 1
ALL, ONE = {"OMP_NUM_THREADS": str(CORES)}, {"OMP_NUM_THREADS": "1"}
SETTINGS: dict[str, tuple[int, dict[str, str]]] = {
    f"one, {CORES} threads": (1, ALL),
    "one, 1 thread": (1, ONE),
    f"two at once, {CORES} threads each": (2, ALL),
    f"two at once, {CORES} threads each, OMP_WAIT_POLICY=passive": (2, ALL | {"OMP_WAIT_POLICY": "passive"}),
    "two at once, 1 thread each (OMP_NUM_THREADS=1)": (2, ONE),
}


def count(seconds: float) -> None:
    """In a process of its own: says that it is ready, waits for a line, trains, and prints how often per second."""
    from cxgrad_lite import Conv4, CxGrad, TrainConfig, meta_train
    from data_utils import TaskSampler, load

    tasks = TaskSampler(load("glyphs", "train"), ways=5, shots=5, queries=15, tasks_per_batch=2, seed=0)
    method = CxGrad(Conv4(in_channels=1, image_size=28, ways=5, width=32), inner_lr=0.01)
    times: list[float] = []

    def is_over(_: object) -> bool:
        if not times:  # the first meta-iteration warms up
            print("ready", flush=True)
            sys.stdin.readline()
        times.append(time.monotonic())
        return times[-1] - times[0] > seconds

    meta_train(method, tasks, TrainConfig(iterations=10**6, progress=False), callback=is_over)
    print((len(times) - 1) / (times[-1] - times[0]))


def slowest(processes: int, environment: dict[str, str], seconds: float) -> float:
    """Meta-iterations per second of the slower of the processes, which begin together."""
    command = [sys.executable, __file__, "--count", str(seconds)]
    pipe, variables = subprocess.PIPE, os.environ | environment
    running = [subprocess.Popen(command, env=variables, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)]
    for process in running:
        assert process.stdout and process.stdout.readline() == "ready\n", "a process did not begin"
    for process in running:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    return min(float(process.communicate()[0]) for process in running)


def main() -> None:
    parser = argparse.ArgumentParser(description="Training beside another training.")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (default: 10)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--count", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count is not None:
        count(options.count)
        return
    found: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for _ in range(options.repeats):
        for name, (processes, environment) in SETTINGS.items():
            found[name].append(slowest(processes, environment, options.seconds))
    print("meta-iterations per second of each process")
    for name, values in found.items():
        print(f"{name:60s} {statistics.median(values):5.2f}  ({min(values):.2f}–{max(values):.2f})")


if __name__ == "__main__":
    main()
