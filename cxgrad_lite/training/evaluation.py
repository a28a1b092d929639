"""Accuracy on new tasks, with an interval that says what it is."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.method import Batch, Method, known_shots
from ..core.outer import Episode, Tasks, accuracy, check_tasks
from ..core.stateless import with_tensors
from .engines import (
    WARM_UP,
    Precision,
    arithmetic,
    capture,
    device_of,
    fused_pays,
    obstacle_to_capture,
    on_device,
    other_stream,
    warn_of_eager,
)
from .fused import fused_blocks
from .machine import fit_threads
from .parallel import TaskThreads, progress_bar, rank, share, total, world_size

ProtocolName = Literal["tasks", "paper"]
WEIGHTS = threading.Lock()  # held while a run changes its weights, and while `evaluate` copies some


@dataclass(frozen=True)
class Evaluation:
    """Accuracies are fractions between 0 and 1.

    Attributes:
        mean: mean accuracy over all query images of all tasks.
        ci95: half the width of the 95 % interval; ``protocol`` says over what.
        per_task: (episodes,) float64 accuracy of each task, on the CPU; NaN where its logits are not finite, and then
            there is neither mean nor interval.
        protocol: "tasks": one model, 1.96 · std over tasks / √episodes. "paper": logits of several checkpoints
            averaged, binomial interval over all query images, which ignores that images of a task belong together
            and is therefore narrower.
    """

    mean: float
    ci95: float
    per_task: Tensor
    protocol: ProtocolName

    @classmethod
    def over_tasks(cls, per_task: Tensor) -> Evaluation:
        """Mean and interval over tasks, from the (episodes,) accuracy of each task."""
        per_task = per_task.cpu().double()  # in this order: some devices have no float64
        return cls(per_task.mean().item(), 1.96 * per_task.std().item() / math.sqrt(len(per_task)), per_task, "tasks")

    def __str__(self) -> str:
        if lost := int(self.per_task.isnan().sum()):
            return f"no accuracy: the logits of {lost} of {len(self.per_task)} tasks are not finite"
        over = f"{len(self.per_task)} tasks" if self.protocol == "tasks" else "query images, paper's protocol"
        return f"{100 * self.mean:.1f} ± {100 * self.ci95:.1f} % (95 % interval over {over})"

    def checked(self) -> Evaluation:
        """Itself.

        Raises:
            FloatingPointError: if it has no accuracy.
        """
        if math.isnan(self.mean):
            raise FloatingPointError(str(self))
        return self


def evaluate(
    method: Method | Sequence[Method],
    tasks: Tasks,
    episodes: int = 600,
    protocol: ProtocolName = "tasks",
    progress: bool = False,
    precision: Precision = "float32",
) -> Evaluation:
    """Adapt to each of ``episodes`` tasks and count the query images that are then classified correctly.

    The tasks are the first ones after the sampler's seed, so methods that are compared see the same tasks. No
    meta-gradient is prepared; the caller may be inside ``torch.no_grad()``. Dropout and the like are off meanwhile.

    Args:
        method: one method; for the paper's protocol a sequence of checkpoints of it (the paper: the five best).
        tasks: where episodes come from.
        episodes: how many.
        protocol: which interval; see `Evaluation`.
        progress: show a bar.
        precision: see `arithmetic`.

    Raises:
        TypeError: if tasks are not a source of episodes, but a data set, for instance, or a method is none.
        ValueError: if ``episodes`` is below 2, there are fewer tasks or no method, or several methods are given without
            ``protocol="paper"``.
        RuntimeError: inside ``torch.inference_mode()``, where no inner loop can run.
    """
    check_tasks(tasks, "episodes")
    if protocol not in ("tasks", "paper"):
        raise ValueError(f"protocol must be 'tasks' or 'paper', not {protocol!r}")
    methods = list(method) if isinstance(method, Iterable) else [method]
    check_methods(methods)
    if protocol == "tasks" and len(methods) != 1:
        raise ValueError(f"{len(methods)} methods were given; averaging their logits needs protocol='paper'")
    if episodes < 2:
        raise ValueError(f"an interval over tasks needs at least 2 episodes, not {episodes}")
    fit_threads()
    bar = progress_bar(progress, islice(tasks.episodes(episodes), episodes), "evaluating", episodes)
    methods = [snapshot(method) for method in methods]
    device = device_of(methods[0])
    with arithmetic(precision, device), fused_blocks(fused_pays(device, precision)):
        logits = logits_function(methods, tasks)
        over = map if isinstance(logits, CapturedLogits) else TaskThreads(methods, precision).over
        mine = list(over(partial(accuracy_if_finite, logits), share(bar)))
    if (there := int(total(torch.tensor(len(mine))))) < episodes:
        raise ValueError(f"{episodes} tasks were asked for, and the source has {there}")
    per_task = torch.zeros(episodes, dtype=torch.float64)
    per_task[rank() :: world_size()] = torch.stack(mine).cpu().double()  # the only look at the device
    result = Evaluation.over_tasks(total(per_task))
    if protocol == "tasks":
        return result
    images = episodes * len(next(tasks.episodes(1))[1][1])
    return replace(result, ci95=1.96 * math.sqrt(result.mean * (1 - result.mean) / images), protocol="paper")


def check_methods(methods: Sequence[object]) -> None:
    """Refuse what is no method: a class, a network, nothing at all.

    Raises:
        TypeError, ValueError: saying what was given instead.
    """
    if not methods:
        raise ValueError("no method was given; at least one is needed")
    for method in methods:
        if not isinstance(method, nn.Module) or not callable(getattr(method, "adapt", None)):
            given = f"the class {method.__name__}" if isinstance(method, type) else f"{type(method).__name__}"
            raise TypeError(f"a method is needed, such as MAML(net), not {given}")


def snapshot(method: Method) -> Method:
    """The method as it is now, in evaluation mode: another thread may go on training it."""
    with WEIGHTS:
        tensors = {name: t.detach().clone() for name, t in (*method.named_parameters(), *method.named_buffers())}
    return with_tensors(method, tensors).eval()


def accuracy_if_finite(function: Callable[[Batch, Batch], Tensor], episode: Episode) -> Tensor:
    """() accuracy, NaN where a logit is not finite; minus infinity is a logit, "none of this class"."""
    support, query = episode
    logits, labels = function(support, query), query[1]
    return torch.where((logits < torch.inf).all(), accuracy(logits, labels), torch.nan)


def logits_function(methods: Sequence[Method], tasks: Tasks) -> Callable[[Batch, Batch], Tensor]:
    """`mean_logits` of these methods; on a GPU as a CUDA graph where the tasks allow it."""
    eager = partial(mean_logits, methods)
    if any(obstacle_to_capture(method, tasks) for method in methods):
        return eager
    try:
        (support, query), *_ = tasks.episodes(1)
        return CapturedLogits(eager, support, query)
    except Exception as error:  # whatever a library cannot do while its kernels are recorded
        warn_of_eager("the adaptation", error)
        return eager


@torch.no_grad()
def mean_logits(methods: Sequence[Method], support: Batch, query: Batch) -> Tensor:
    """(n, ways) logits after adaptation, averaged over methods."""
    return torch.stack([method.query_logits(method.adapt(support), query) for method in methods]).mean(0)


class CapturedLogits:
    """`mean_logits` as one CUDA graph, for tasks of one shape whose labels need no looking at.

    Its result is overwritten by the next call.
    """

    def __init__(self, logits: Callable[[Batch, Batch], Tensor], support: Batch, query: Batch) -> None:
        self.inputs = [tensor.clone() for tensor in (*support, *query)]
        device = query[0].device
        shots = known_shots.set(support[1].bincount().tolist())

        def run() -> Tensor:
            support_images, support_labels, query_images, query_labels = self.inputs
            return logits((support_images, support_labels), (query_images, query_labels))

        try:
            with on_device(device), other_stream(device):
                expected = [run() for _ in range(WARM_UP)][0]
            self.graph, self.results = capture(run, device)
        finally:
            known_shots.reset(shots)
        replayed = self(support, query)
        # Alike, not equal: an inner loop in float32 can magnify rounding; the replay of a broken graph is unrelated.
        one, other = (x - x.mean(1, keepdim=True) for x in (replayed, expected))
        alike = torch.cosine_similarity(one, other, dim=1).mean()
        if not torch.equal(replayed.isfinite(), expected.isfinite()) or alike < 0.5:
            raise RuntimeError("a replay has other logits than an eager adaptation")

    def __call__(self, support: Batch, query: Batch) -> Tensor:
        for place, tensor in zip(self.inputs, (*support, *query), strict=True):
            place.copy_(tensor)
        with on_device(query[0].device):
            self.graph.replay()
        return self.results
