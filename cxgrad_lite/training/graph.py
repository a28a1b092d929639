"""A whole meta-step as one CUDA graph, captured once and replayed.

The inner loop is thousands of small kernels. On a GPU most of the time goes into launching them one by one; a graph
launches them all at once. Only what runs on the device can be captured, so nothing here looks at a value: `Captured`
leaves its results on the device, and `loop.meta_steps` looks at them afterwards, once per meta-iteration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..core.method import Method
from ..core.outer import Episode, accuracy, clip
from .overflow import all_finite
from .state import Run

WARM_UP = 3  # eager meta-steps before a capture: libraries choose their kernels and allocate in them
MAX_STREAMS = 8
Results = tuple[list[Episode], Tensor, Tensor, Tensor]


class Captured:
    """A whole meta-step as one CUDA graph: sampling, inner loops, meta-gradient, clipping, Adam.

    Calling it makes one step and returns the episodes, (tasks,) query losses, (tasks,) query accuracies, and () whether
    all was finite; if not, the update was left out. All of them are overwritten by the next step.

    A graph repeats what was captured, with the numbers of that time. The learning rate is a tensor and may change; when
    a plain number of the method changes (a slider, MAML++'s loss weights), the step is captured anew.

    Args:
        run: its method, tasks and optimiser are on one CUDA device; the optimiser is a fused Adam.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rate = next(run.method.parameters()).new_zeros(())
        self.streams: list[torch.cuda.Stream] = []
        self.numbers: dict[str, Any] | None = None

    def __call__(self) -> Results:
        numbers = plain_numbers(self.run.method)
        if numbers != self.numbers:
            self.capture()
            self.numbers = numbers
        self.rate.fill_(self.run.optimiser.param_groups[0]["lr"])
        self.graph.replay()
        return self.results

    def step(self) -> Results:
        """What is captured. Nothing in it may depend on a value that only the device knows."""
        method, optimiser, config = self.run.method, self.run.optimiser, self.run.config
        optimiser.zero_grad()
        episodes = self.run.tasks.sample()
        losses, accuracies = meta_gradient_on_streams(method, episodes, self.streams)
        finite = all_finite(method) & losses.isfinite().all()
        clip(method.parameters(), config.clip_value, config.clip_norm)
        optimiser.found_inf = (~finite).float()  # type: ignore[attr-defined]  # the fused Adam leaves the step out then
        optimiser.step()
        return episodes, losses, accuracies, finite

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
            self.results = self.step()
        group |= before


def meta_gradient_on_streams(
    method: Method, episodes: Sequence[Episode], streams: Sequence[torch.cuda.Stream]
) -> tuple[Tensor, Tensor]:
    """`core.outer.meta_gradient` with tasks side by side; memory grows with their number.

    Each task's gradients are tensors of their own: two streams must not add to the same ``.grad``.
    """
    parameters = [p for p in method.parameters() if p.requires_grad]
    results, gradients = [], []  # tensors that cross streams must live until the streams have met again
    for number, (support, query) in enumerate(episodes):
        with side_stream(streams, number):
            loss, logits = method.outer(support, query)
            gradients.append(torch.autograd.grad(loss / len(episodes), parameters, allow_unused=True))
            results.append((loss.detach(), accuracy(logits.detach(), query[1])))
    for stream in streams:
        torch.cuda.current_stream().wait_stream(stream)
    for grads in gradients:
        for parameter, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                parameter.grad = grad if parameter.grad is None else parameter.grad + grad
    losses, accuracies = zip(*results)
    return torch.stack(losses), torch.stack(accuracies)


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


def plain_numbers(method: Method) -> dict[str, Any]:
    """The attributes of a method that a graph would hold as they were: rates, numbers of steps, switches, weights."""
    kinds = (bool, int, float, str, list, tuple)
    return {name: value for name, value in vars(method).items() if isinstance(value, kinds)}


@contextmanager
def undone(run: Run) -> Iterator[None]:
    """What happens to the run inside leaves no trace, except that the optimiser has its state afterwards.

    All tensors stay where they are in memory, because a graph knows them by their addresses.
    """
    before = run.state()
    yield
    run.rewind(before)
    for i, parameter in enumerate(run.optimiser.param_groups[0]["params"]):
        for key, tensor in run.optimiser.state[parameter].items():
            tensor.copy_(before["optimiser"].get(i, {}).get(key, torch.zeros_like(tensor)))
