"""How a meta-step runs: as it is written, with fused blocks, or captured once as a CUDA graph and replayed.

The inner loop is thousands of small kernels. On a GPU most of the time goes into launching them one by one; a graph
launches them all at once. Only what runs on the device can be captured, so nothing here looks at a value: `Captured`
leaves its findings on the device, and `training.meta_step` looks at them afterwards, once per meta-iteration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.method import Method
from ..core.outer import Episode, Tasks, accuracy
from .parallel import share, world_size
from .state import Run

Engine = Literal["auto", "eager", "fused", "graph"]
Precision = Literal["float32", "tf32", "bf16"]
WARM_UP = 3  # eager meta-steps before a capture: libraries choose their kernels and allocate in them
MAX_STREAMS = 8


def add_gradients(method: Method, episodes: Sequence[Episode], streams: Sequence[torch.cuda.Stream] = ()) -> Tensor:
    """Add the gradient of the mean query loss to the parameters' ``.grad``; with several processes, this one's part.

    Without streams one task follows the other, and the graph of a task is freed before the next begins: memory does
    not grow with their number. With streams tasks run side by side, and it does.

    Returns:
        (tasks of this process, 2) query loss and accuracy of each task, on the device of the images.
    """
    parameters = [p for p in method.parameters() if p.requires_grad]
    found, everything = [], []  # tensors that cross streams must live until the streams have met again
    for number, (support, query) in share(enumerate(episodes)):
        with side_stream(streams, number):
            loss, logits = method.outer(support, query)
            everything.append(torch.autograd.grad(loss / len(episodes), parameters, allow_unused=True))
            found.append(torch.stack([loss.detach(), accuracy(logits.detach(), query[1]).to(loss.dtype)]))
    for stream in streams:
        torch.cuda.current_stream().wait_stream(stream)
    for grads in everything:
        for parameter, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                parameter.grad = grad if parameter.grad is None else parameter.grad + grad
    return torch.stack(found)


@contextmanager
def side_stream(streams: Sequence[torch.cuda.Stream], number: int) -> Iterator[None]:
    """Inside, work goes to one of the streams, after all that was begun before."""
    if not streams:
        yield
        return
    stream = streams[number % len(streams)]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield


def all_finite(method: Method) -> Tensor:
    """() whether every entry of the meta-gradient is finite."""
    return torch.stack([p.grad.isfinite().all() for p in method.parameters() if p.grad is not None]).all()


def clip(method: Method, value: float | None, norm: float | None) -> None:
    """Clamp each entry of the meta-gradient to ± ``value``, then scale all of it to a norm of at most ``norm``."""
    if value is not None:
        nn.utils.clip_grad_value_(method.parameters(), value)
    if norm is not None:
        nn.utils.clip_grad_norm_(method.parameters(), norm)


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
    """The device of a method's parameters."""
    return next(method.parameters()).device


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
    if getattr(tasks, "ways", None) != method.net.ways:
        return f"the tasks must say that they have the network's number of ways, {method.net.ways}"
    return None


class Captured:
    """A whole meta-step as one CUDA graph: sampling, inner loops, meta-gradient, clipping, Adam.

    Calling it makes one step and returns the episodes, (tasks, 2) losses and accuracies, and () whether the update was
    left out because something was not finite; all of them are overwritten by the next step.

    A graph repeats what was captured, with the numbers of that time. The learning rate is a tensor and may change; when
    a plain number of the method changes (a slider, MAML++'s loss weights), the step is captured anew.

    Args:
        run: its method, tasks and optimiser are on one CUDA device; the optimiser is a fused Adam.
        clip_value, clip_norm: see `clip`.
    """

    def __init__(self, run: Run, clip_value: float | None, clip_norm: float | None) -> None:
        self.run, self.clipping = run, (clip_value, clip_norm)
        self.rate = next(run.method.parameters()).new_zeros(())
        self.streams: list[torch.cuda.Stream] = []
        self.numbers: dict[str, Any] | None = None

    def __call__(self) -> tuple[list[Episode], Tensor, Tensor]:
        numbers = plain_numbers(self.run.method)
        if numbers != self.numbers:
            self.capture()
            self.numbers = numbers
        self.rate.fill_(self.run.optimiser.param_groups[0]["lr"])
        self.graph.replay()
        return self.found

    def step(self) -> tuple[list[Episode], Tensor, Tensor]:
        """What is captured. Nothing in it may depend on a value that only the device knows."""
        method, optimiser = self.run.method, self.run.optimiser
        optimiser.zero_grad()
        episodes = self.run.tasks.sample()
        found = add_gradients(method, episodes, self.streams)
        skipped = ~(all_finite(method) & found.isfinite().all())
        clip(method, *self.clipping)
        optimiser.found_inf = skipped.float()  # type: ignore[attr-defined]  # the fused Adam leaves the step out then
        optimiser.step()
        return episodes, found, skipped

    def capture(self) -> None:
        """Rehearse a few steps, undo them, and capture one."""
        self.graph, group = torch.cuda.CUDAGraph(), self.run.optimiser.param_groups[0]
        if hasattr(self.run.tasks, "generator"):
            self.graph.register_generator_state(self.run.tasks.generator)
        before = {key: group[key] for key in ("lr", "capturable")}
        group["lr"] = self.rate
        rehearsal = torch.cuda.Stream()
        rehearsal.wait_stream(torch.cuda.current_stream())
        with undone(self.run), torch.cuda.stream(rehearsal):
            self.streams = [torch.cuda.Stream() for _ in self.run.tasks.sample()[:MAX_STREAMS]]
            for _ in range(WARM_UP):
                self.step()
            rehearsal.synchronize()
        torch.cuda.current_stream().wait_stream(rehearsal)
        group["capturable"] = True  # only now: Adam warns of it in a step that is not captured
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.found = self.step()
        group |= before


def plain_numbers(method: Method) -> dict[str, Any]:
    """The attributes of a method that a graph would hold as they were: rates, numbers of steps, switches, weights."""
    kinds = (bool, int, float, str, list, tuple)
    return {name: value for name, value in vars(method).items() if isinstance(value, kinds)}


@contextmanager
def undone(run: Run) -> Iterator[None]:
    """What happens to the run inside leaves no trace, except that the optimiser has its state afterwards.

    All tensors stay where they are in memory, because a graph knows them by their addresses.
    """
    before = run.tensors()
    yield
    run.put_back(before)
    for i, parameter in enumerate(run.optimiser.param_groups[0]["params"]):
        for key, state in run.optimiser.state[parameter].items():
            state.copy_(before.get(f"optimiser/{i}/{key}", torch.zeros_like(state)))
