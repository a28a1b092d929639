"""What the live panels cost: training with and without one, and the time from a slider to the new drawing.

    python benchmarks/panel_speed.py [--iterations 60] [--repeats 5] [--threads 2]

First: meta-iterations per second by `meta_train` alone and inside `watch_training`, taking turns; the median of the
repeats' ratios, and the range. CxGrad and MAML, 28-pixel glyphs, 32 filters, 5-way 5-shot, 2 tasks per meta-batch.

Second: seconds from a new value of the slider of `scale_explorer` until the drawing has been handed to the browser,
for both backends; the browser's own time comes on top. Processor time tells what a machine that is busy would add.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from cxgrad_lite import METHODS, Conv4, TrainConfig, meta_train
from cxgrad_lite.core.method import Method
from cxgrad_lite.live import scale_explorer, watch_training
from cxgrad_lite.live.charts import Backend, choose_backend
from data_utils import TaskSampler, load


def fresh(name: str) -> tuple[Method, TaskSampler]:
    torch.manual_seed(0)
    tasks = TaskSampler(load("glyphs", "train"), ways=5, shots=5, queries=15, tasks_per_batch=2, seed=0)
    return METHODS[name](Conv4(1, 28, 5, width=32)), tasks


def alone(name: str, iterations: int) -> float:
    """Meta-iterations per second without a panel."""
    history = meta_train(*fresh(name), TrainConfig(iterations, progress=False))
    return iterations / history.seconds


def watched(name: str, iterations: int, backend: Backend) -> float:
    """Meta-iterations per second in a panel."""
    panel = watch_training(*fresh(name), TrainConfig(iterations), backend=backend)
    panel.start()
    panel.wait()
    speed = iterations / panel.history.seconds
    panel.close()
    return speed


def compare(name: str, backend: Backend, iterations: int, repeats: int) -> str:
    ratios, speeds = [], []
    for repeat in range(repeats):
        # The order changes, so that a machine that slows down favours neither.
        if repeat % 2:
            with_panel = watched(name, iterations, backend)
            without = alone(name, iterations)
        else:
            without = alone(name, iterations)
            with_panel = watched(name, iterations, backend)
        ratios.append(with_panel / without)
        speeds.append(without)
    middle, spread = statistics.median(ratios), f"({min(ratios):.3f}–{max(ratios):.3f})"
    return f"{name:7s} {backend:7s} {statistics.median(speeds):8.2f} per s alone   ratio {middle:.3f} {spread}"


def redraws(backend: Backend, moves: int = 50) -> str:
    explorer = scale_explorer(backend=backend)
    explorer.a.value, times, work = 0.1, [], []
    for i in range(moves):
        start, worked = time.perf_counter(), time.process_time()
        explorer.a.value = 10 ** (-1 + 2 * (i + 1) / moves)
        times.append(1000 * (time.perf_counter() - start))
        work.append(1000 * (time.process_time() - worked))
    explorer.close()
    found = f"median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms of {moves}"
    return f"scale_explorer {backend:7s} slider to redraw: {found} (processor: {statistics.median(work):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the live panels.")
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backends: tuple[Backend, ...] = ("plotly", "png") if choose_backend() == "plotly" else ("png",)
    for backend in backends:
        print(redraws(backend), flush=True)
    alone("MAML", 3)  # the first iterations also fill caches
    for backend in backends:
        for name in ("MAML", "CxGrad"):
            print(compare(name, backend, options.iterations, options.repeats), flush=True)


if __name__ == "__main__":
    main()
