"""A whole meta-step as one CUDA graph, captured once and replayed.

The inner loop is thousands of small kernels. On a GPU most of the time goes into launching them one by one; a graph
launches them all at once. Only what runs on the device can be captured, so nothing in a step looks at a value: its
results stay on the device, and `loop.meta_steps` looks at them afterwards, once per meta-iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..core.method import Method, known_shots
from ..core.outer import Episode, clip
from .engines import WARM_UP, capture, on_device, other_stream, warn_of_eager
from .overflow import finite_gradients
from .parallel import add_up, task_gradient
from .state import Run

MAX_STREAMS = 8
Results = tuple[list[Episode], Tensor, Tensor, Tensor]


class Captured:
    """A whole meta-step as one CUDA graph: sampling, inner loops, meta-gradient, clipping, Adam.

    Calling it makes one step and returns the episodes, (tasks,) query losses, (tasks,) query accuracies, and for each
    parameter with a gradient whether it was finite; if one was not, this update and all after it were left out. All
    of them are overwritten by the next step.

    A graph repeats what was captured, with the numbers of that time. The learning rate is a tensor and may change;
    when anything else that the step reads has changed (a slider, MAML++'s loss weights), `ready` captures it anew.

    Args:
        run: its method, tasks and optimiser are on one CUDA device; the optimiser is a fused Adam.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        parameter = next(run.method.parameters())
        self.device = parameter.device
        self.rate = torch.zeros((), device=self.device)  # float32 whatever the parameters are: so the kernel reads it
        self.failed = torch.zeros((), device=self.device)
        self.streams: list[torch.cuda.Stream] = []
        self.key: object = None

    def ready(self) -> Captured | None:
        """Itself, captured anew where anything has changed; None if that did not work, with a warning.

        A capture is tried against two eager steps from the same state before it is believed.
        """
        key = fingerprint(self.run)
        if key != self.key:
            try:
                self.capture()
                self.compare_with_eager()
                self.failed.zero_()
            except Exception as error:  # whatever a library cannot do while its kernels are recorded
                vars(self.run.optimiser).pop("found_inf", None)
                warn_of_eager("the meta-step", error)
                return None
            self.key = key
        return self

    def __call__(self) -> Results:
        self.rate.fill_(self.run.optimiser.param_groups[0]["lr"])
        self.replay()
        return self.results

    def replay(self) -> None:
        with on_device(self.device):
            self.graph.replay()

    def step(self) -> Results:
        """What is captured. Nothing in it may depend on a value that only the device knows."""
        method, optimiser, config = self.run.method, self.run.optimiser, self.run.config
        optimiser.zero_grad()
        episodes = self.run.tasks.sample()
        losses, accuracies = meta_gradient_side_by_side(method, episodes, self.streams)
        finite = finite_gradients(method)
        self.failed.logical_or_(~(finite.all() & losses.isfinite().all()))
        clip(method.parameters(), config.clip_value, config.clip_norm)
        optimiser.found_inf = self.failed  # type: ignore[attr-defined]  # the fused Adam then leaves the step out
        optimiser.step()
        return episodes, losses, accuracies, finite

    def capture(self) -> None:
        """Rehearse a few steps, undo them, and capture one."""
        group = self.run.optimiser.param_groups[0]
        before = {key: group[key] for key in ("lr", "capturable")}
        with undone(self.run):
            episodes = self.run.tasks.sample()
            shots = [self.run.method.check(support) for support, _ in episodes]
        if any(counts != shots[0] for counts in shots):
            raise ValueError("the tasks of a meta-batch differ in their shots")
        token = known_shots.set(shots[0])
        try:
            group["lr"] = self.rate
            with on_device(self.device), undone(self.run), other_stream(self.device):
                self.streams = self.streams or new_streams(len(episodes))
                for _ in range(WARM_UP):
                    self.step()
            group["capturable"] = True  # only now: Adam warns of it in a step that is not captured
            generator = getattr(self.run.tasks, "generator", None)
            self.graph, self.results = capture(self.step, self.device, generator)
        finally:
            known_shots.reset(token)
            group |= before

    def compare_with_eager(self) -> None:
        """Raises RuntimeError unless two replays draw the episodes of two eager steps, with losses like theirs.

        Like, not equal: an inner loop in float32 can magnify rounding to tens of per cent (CxGrad's, on noise).
        """

        def two(step: Callable[[], Results]) -> tuple[Tensor, Tensor]:
            images, losses = [], []
            with undone(self.run):
                for _ in range(2):
                    episodes, loss, _, _ = step()
                    # Copies: the next replay writes over its results.
                    images += [x.flatten().clone() for episode in episodes for x, _ in episode]
                    losses.append(loss.clone())
                return torch.cat(images), torch.stack(losses)

        group = self.run.optimiser.param_groups[0]
        rate = group["lr"]
        images, losses = two(self)
        group["lr"] = self.rate
        try:
            with on_device(self.device), other_stream(self.device):
                eager_images, eager_losses = two(self.step)
        finally:
            group["lr"] = rate
        if not torch.equal(images, eager_images):
            raise RuntimeError("a replay does not draw new tasks as an eager step does")
        alike = torch.allclose(losses[0], eager_losses[0], rtol=0.5, atol=0.1, equal_nan=True)
        if not alike or not torch.equal(losses.isfinite(), eager_losses.isfinite()):
            raise RuntimeError(f"replays have the losses {losses.tolist()}, eager steps {eager_losses.tolist()}")


def meta_gradient_side_by_side(
    method: Method, episodes: Sequence[Episode], streams: Sequence[torch.cuda.Stream]
) -> tuple[Tensor, Tensor]:
    """`core.outer.meta_gradient` with tasks side by side; memory grows with their number.

    With common parameters every task would wait for the first: autograd sends a gradient to the stream that first used
    the parameter.
    """
    parts = []  # tensors that cross streams must live until the streams have met again
    for number, episode in enumerate(episodes):
        with side_stream(streams, number):
            parts.append(task_gradient(method, episode, len(episodes)))
    for stream in streams:
        torch.cuda.current_stream().wait_stream(stream)
    return add_up(method, parts)


def new_streams(tasks: int) -> list[torch.cuda.Stream]:
    """One for each task, up to a number at which a GPU is full anyway."""
    return [torch.cuda.Stream() for _ in range(min(tasks, MAX_STREAMS))]


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


def fingerprint(run: Run) -> object:
    """What a captured step has read and would go on using: numbers of all modules, addresses, what is frozen."""

    def plain(value: Any) -> Any:
        if isinstance(value, (bool, int, float, str, type(None))):
            return value
        if isinstance(value, dict):
            return tuple((key, plain(part)) for key, part in value.items())
        if isinstance(value, (list, tuple, set)):
            return tuple(map(plain, value))
        return (value.data_ptr(), value.requires_grad, value.shape) if isinstance(value, Tensor) else id(value)

    tasks = {name: part for name, part in vars(run.tasks).items() if not name.startswith("_")}
    return plain([vars(module) for module in run.method.modules()]), plain(tasks)


@contextmanager
def undone(run: Run) -> Iterator[None]:
    """What happens to the run inside leaves no trace, except that the optimiser has its state afterwards.

    All tensors stay where they are in memory, because a graph knows them by their addresses.
    """
    before = run.state()
    try:
        yield
    finally:
        run.rewind(before)
        for i, parameter in enumerate(run.optimiser.param_groups[0]["params"]):
            for key, tensor in run.optimiser.state[parameter].items():
                tensor.copy_(before["optimiser"].get(i, {}).get(key, torch.zeros_like(tensor)))
