"""Which engine runs a meta-step, and with which arithmetic.

"eager" runs the methods as they are written, "fused" with blocks whose second derivatives are cheap (`fused`),
"graph" as one CUDA graph (`graph`), "fused graph" as both. All of them compute the same, up to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeVar

import torch

from ..core.method import Method
from ..core.outer import Tasks
from .parallel import world_size

Engine = Literal["auto", "eager", "fused", "graph", "fused graph"]
GRAPHS = ("graph", "fused graph")
Precision = Literal["float32", "tf32", "bf16"]
Outcome = TypeVar("Outcome")
WARM_UP = 3  # eager runs before a capture: libraries choose their kernels and allocate in them


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """How convolutions and matrix products are computed inside.

    "float32": as written, on a GPU without TF32. "tf32": products of 19-bit numbers, added in float32 (Ampere GPUs and
    newer; nothing changes elsewhere). "bf16": autocast to bfloat16: convolutions, products and batch norm; weights,
    losses and updates stay float32.
    """
    half = torch.autocast(device.type, torch.bfloat16, cache_enabled=False) if precision == "bf16" else nullcontext()
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(cudnn, "conv"):  # torch 2.9 and later; there the older switches raise once these have been used
        switches: list[tuple[Any, str]] = [(part, "fp32_precision") for part in (matmul, cudnn.conv, cudnn.rnn)]
        wanted: Any = "ieee" if precision == "float32" else "tf32"
    else:
        switches, wanted = [(matmul, "allow_tf32"), (cudnn, "allow_tf32")], precision != "float32"
    before = [getattr(*switch) for switch in switches]
    try:
        for switch in switches:
            setattr(*switch, wanted)
        with half:
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(*switch, value)


def device_of(method: Method) -> torch.device:
    """The device of a method's parameters; the CPU if it has none (`NearestPixels`)."""
    return next((p.device for p in method.parameters()), torch.device("cpu"))


def fused_pays(device: torch.device, precision: Precision) -> bool:
    """Whether fused blocks are faster without a graph; in bf16 they are slower."""
    return device.type == "cpu" and precision != "bf16"


def choose_engine(engine: Engine, precision: Precision, method: Method, tasks: Tasks) -> Engine:
    """What "auto" means for this training: fused blocks, on a GPU as a graph, where they work.

    Raises:
        ValueError: if a graph is asked for where none can be captured.
    """
    obstacle = obstacle_to_capture(method, tasks)
    if engine in GRAPHS and obstacle:
        raise ValueError(f"engine={engine!r} does not work: {obstacle}; engine='auto' or 'eager' does")
    if engine != "auto":
        return engine
    fused: Engine = "fused" if fused_pays(device_of(method), precision) else "eager"
    return fused if obstacle else "fused graph"


def obstacle_to_capture(method: Method, tasks: Tasks) -> str | None:
    """Why a meta-step cannot be one CUDA graph; None if it can."""
    device, generator = device_of(method), getattr(tasks, "generator", None)
    if device.type != "cuda":
        return f"the method is on {device.type}, and only CUDA devices have graphs"
    if not hasattr(torch.cuda.CUDAGraph, "register_generator_state"):
        return f"torch {torch.__version__} cannot capture the sampler's random numbers; 2.4 and later can"
    if world_size() > 1:
        return "several processes add up their gradients between two parts of the step"
    if not getattr(tasks, "capturable", False):
        return (
            "the tasks may draw or decide on the host, and a graph would repeat its first choice; "
            "tasks that do not, and transforms without chance, say so by an attribute, capturable = True"
        )
    if generator is not None and generator.device != device:
        return f"the tasks draw on {generator.device}, and the method is on {device}"
    return None


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Inside, streams and graphs are made on this GPU; they are the current one's otherwise."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def capture(
    function: Callable[[], Outcome], device: torch.device, generator: torch.Generator | None = None
) -> tuple[torch.cuda.CUDAGraph, Outcome]:
    """The function's work as a graph, and what it returned: tensors that each replay fills."""
    graph = torch.cuda.CUDAGraph()
    if generator is not None:
        graph.register_generator_state(generator)
    with on_device(device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        return graph, function()


@contextmanager
def other_stream(device: torch.device) -> Iterator[None]:
    """Work inside goes to a stream of its own, as libraries ask of what is to be captured; it is done at the end."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)
    stream.synchronize()


def warn_of_eager(what: str, error: Exception) -> None:
    """Say that something goes on without a graph, and why."""
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    warnings.warn(f"{what} cannot be one CUDA graph, so it runs eagerly: {why}", stacklevel=3)
