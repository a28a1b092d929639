"""Which engine runs a meta-step, and with which arithmetic.

"eager" runs the methods as they are written, "fused" with blocks whose second derivatives are cheap (`fused`), and
"graph" as one CUDA graph (`graph`). All of them compute the same, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch

from ..core.method import Method
from ..core.outer import Tasks
from .parallel import world_size

Engine = Literal["auto", "eager", "fused", "graph"]
Precision = Literal["float32", "tf32", "bf16"]


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """How convolutions and matrix products are computed inside.

    "float32": as written, on a GPU without TF32. "tf32": products of 19-bit numbers, added in float32 (Ampere GPUs and
    newer; nothing changes elsewhere). "bf16": autocast to bfloat16; weights, normalisation, losses and updates stay
    float32.
    """
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    half = torch.autocast(device.type, torch.bfloat16, cache_enabled=False) if precision == "bf16" else nullcontext()
    try:
        for backend in backends:
            backend.allow_tf32 = precision != "float32"
        with half:
            yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def device_of(method: Method) -> torch.device:
    """The device of a method's parameters; the CPU if it has none (`NearestPixels`)."""
    return next((p.device for p in method.parameters()), torch.device("cpu"))


def choose_engine(engine: Engine, precision: Precision, method: Method, tasks: Tasks) -> Engine:
    """What "auto" means for this training: a graph on a GPU, fused blocks on a CPU, where they work.

    Raises:
        ValueError: if a graph is asked for where none can be captured.
    """
    obstacle = obstacle_to_capture(method, tasks)
    if engine == "graph" and obstacle:
        raise ValueError(f"engine='graph' does not work: {obstacle}; engine='auto' or 'eager' does")
    if engine != "auto":
        return engine
    fused: Engine = "fused" if device_of(method).type == "cpu" and precision != "bf16" else "eager"  # slower in bf16
    return fused if obstacle else "graph"


def obstacle_to_capture(method: Method, tasks: Tasks) -> str | None:
    """Why a meta-step cannot be one CUDA graph; None if it can."""
    device, transform = device_of(method), getattr(tasks, "transform", None)
    if device.type != "cuda":
        return f"the method is on {device.type}, and only CUDA devices have graphs"
    if not hasattr(torch.cuda.CUDAGraph, "register_generator_state"):
        return f"torch {torch.__version__} cannot capture the sampler's random numbers; 2.4 and later can"
    if world_size() > 1:
        return "several processes add up their gradients between two parts of the step"
    if transform is not None and getattr(transform, "is_random", True):
        return "the tasks' transform may draw or decide on the host, and a graph would repeat its first choice"
    if getattr(tasks, "ways", None) != method.ways:
        return f"the tasks must say that they have the network's number of ways, {method.ways}"
    return None
