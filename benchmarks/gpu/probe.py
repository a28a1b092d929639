"""Section "probe" of the GPU report: what the device can do, with nothing of ours."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from cxgrad_lite.training.engines import arithmetic

Row = dict[str, Any]  # what was measured or checked, its number, "pass" where it can fail


def seconds(action: Callable[[], object], device: str, repeats: int, rounds: int = 3) -> float:
    """Median over rounds of the seconds that one of ``repeats`` actions takes."""
    wait: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else lambda: None
    action()
    times = []
    for _ in range(rounds):
        wait()
        start = time.perf_counter()
        for _ in range(repeats):
            action()
        wait()
        times.append((time.perf_counter() - start) / repeats)
    return statistics.median(times)


def probe(size: int, device: str) -> Iterator[Row]:
    """What the device can do, with nothing of ours: bytes, products, convolutions, small kernels in a graph."""
    big = 2**28 if device == "cuda" else 2**20
    source = torch.rand(big, device=device)
    target = torch.empty_like(source)
    yield {"what": "copy, TB/s", "number": 8 * big / seconds(lambda: target.copy_(source), device, 10) / 1e12}
    n = 8192 if device == "cuda" else 256
    a, b = torch.rand(n, n, device=device), torch.rand(n, n, device=device)
    x, kernel = torch.rand(75, 48, size, size, device=device), torch.rand(48, 48, 3, 3, device=device)
    flop = 2 * 75 * 48 * 48 * 9 * size**2
    for precision in ("float32", "tf32", "bf16"):
        with arithmetic(precision, torch.device(device)):  # type: ignore[arg-type]
            rate = 2 * n**3 / seconds(lambda: a @ b, device, 5) / 1e12
            yield {"what": f"matrix product, {precision}, TFLOP/s", "number": rate}
            for layout in (torch.contiguous_format, torch.channels_last):
                y, k = x.to(memory_format=layout), kernel.to(memory_format=layout)
                taken = seconds(lambda y=y, k=k: torch.nn.functional.conv2d(y, k, padding=1), device, 20)  # type: ignore[misc]
                name = "channels last" if layout == torch.channels_last else "channels first"
                yield {"what": f"convolution {size} px, {precision}, {name}, TFLOP/s", "number": flop / taken / 1e12}
    if device == "cuda":
        for streams in (1, 2):
            graph = small_kernels(2000, streams)
            yield {
                "what": f"graph of 2000 small kernels, {streams} stream(s), ms",
                "number": 1e3 * seconds(graph.replay, device, 5),
            }


def small_kernels(count: int, streams: int) -> torch.cuda.CUDAGraph:
    """A graph of as many tiny additions, spread over streams."""
    numbers = [torch.zeros(1000, device="cuda") for _ in range(streams)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        sides = [torch.cuda.Stream() for _ in range(streams)]
        for side, x in zip(sides, numbers):
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(count // streams):
                    x.add_(1)
        for side in sides:
            torch.cuda.current_stream().wait_stream(side)
    return graph
