"""Section "agree" of the GPU report: whatever runs on the GPU computes what the CPU computes in float64."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cxgrad_lite import METHODS, Conv4, Method, TrainConfig, evaluate
from cxgrad_lite.core.outer import Episode, meta_gradient
from cxgrad_lite.recipes.recipe import has_inner_rate
from cxgrad_lite.training.engines import GRAPHS, Precision, arithmetic
from cxgrad_lite.training.graph import Captured
from cxgrad_lite.training.loop import meta_steps
from cxgrad_lite.training.state import Run
from data_utils import ImageClasses, TaskSampler

Check = tuple[str, bool, float]  # what was compared, whether it agrees, the number that says so
# Distance over norm; of bf16 one minus the cosine, which with eight filters says little more than "downhill".
LIMITS: dict[Precision, float] = {"float32": 1e-3, "tf32": 2e-2, "bf16": 0.2}
WITH_CONTEXT = "MatchingNet, full context"


class Doubled(TaskSampler):
    """Images in float64."""

    def _batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = super()._batch(rows)
        return images.double(), labels


class HostTasks(TaskSampler):
    """Draws with Python's generator, and wrongly says that a graph can hold that."""

    def sample(self) -> list[Episode]:
        return random.sample(super().sample(), 2)


def images(size: int, device: str) -> ImageClasses:
    """Eight classes of noise around a pattern each."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(8, 1, 1, size, size, generator=generator)
    shown = 0.5 * patterns + 0.5 * torch.rand(8, 12, 1, size, size, generator=generator)
    labels = torch.arange(8).repeat_interleave(12)
    return ImageClasses((255 * shown.flatten(0, 1)).byte(), labels, tuple("abcdefgh")).to(device)


def make(name: str, size: int, **changes: Any) -> Method:
    torch.manual_seed(0)
    kind, _, context = name.partition(",")
    options: dict[str, Any] = {"inner_lr": 0.05, "inner_steps": 2} if has_inner_rate(kind) else {}
    options |= {"full_context": True} if context else {}
    net = Conv4(1, size, 5, width=8, poolings=2 if name == "RelationNet" else 4)
    return METHODS[kind](net, **options | changes)


def gradient(method: Method, episodes: list[Episode], device: str, dtype: torch.dtype) -> Tensor:
    """The meta-gradient of a copy of the method, moved there, as one vector in float64."""
    method = copy.deepcopy(method).to(device, dtype)
    moved = [tuple((x.to(device, dtype), y.to(device)) for x, y in episode) for episode in episodes]
    meta_gradient(method, moved)  # type: ignore[arg-type]
    return torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None]).cpu().double()


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def gradients(size: int, device: str) -> Iterator[Check]:
    """Float64 on the device against the CPU's, and how far the other arithmetics are from it."""
    episodes = Doubled(images(size, "cpu"), 5, 2, 3, tasks_per_batch=2, seed=3).sample()
    for name in (*METHODS, WITH_CONTEXT):
        method = make(name, size)
        exact = gradient(method, episodes, "cpu", torch.float64)
        far = distance(gradient(method, episodes, device, torch.float64), exact)
        yield f"{name}: float64, device against CPU", far < 1e-9, far
    for name in ("MAML", "CxGrad", "ProtoNet"):
        method = make(name, size, **({"inner_steps": 1} if has_inner_rate(name) else {}))
        exact = gradient(method, episodes, "cpu", torch.float64)
        for precision, limit in LIMITS.items():
            with arithmetic(precision, torch.device(device)):
                near = gradient(method, episodes, device, torch.float32)
            far = distance(near, exact)
            if precision == "bf16":
                far = 1 - float(torch.cosine_similarity(near, exact, dim=0))
            yield f"{name}: {precision} against float64", far < limit, far


def trained(name: str, size: int, device: str, engine: str, iterations: int = 4, **changes: Any) -> Tensor:
    """Losses and final parameters of a short training in float64."""
    tasks = Doubled(images(size, device), 5, 2, 3, tasks_per_batch=2, seed=7)
    method = make(name, size, **changes).to(device, torch.float64)
    rate = 2**-10  # a graph has the rate in float32: one that it holds exactly
    run = Run(method, tasks, TrainConfig(iterations, rate, clip_value=10, engine=engine, progress=False))  # type: ignore[arg-type]
    steps = meta_steps(run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a graph that falls back to eager would agree with it
        losses = [history.loss[-1] for history in steps]
    return torch.cat([torch.tensor(losses), *(p.detach().flatten().cpu() for p in method.parameters())])


def engines(size: int, device: str) -> Iterator[Check]:
    """Every engine against eager, in float64, over a few meta-iterations."""
    for name in (*METHODS, WITH_CONTEXT):
        eager = trained(name, size, device, "eager")
        for engine in ("fused", *GRAPHS):
            far = distance(trained(name, size, device, engine), eager)
            yield f"{name}: {engine} against eager", far < (1e-9 if "fused" in engine else 1e-11), far
    stages = {"annealing": 15, "iterations": 12}
    far = distance(*(trained("MAMLPlusPlus", size, device, engine, **stages) for engine in ("graph", "eager")))
    yield "MAML++ across its stages: graph against eager", far < 1e-11, far


def graphs(size: int, device: str) -> Iterator[Check]:
    """What a graph must not do: repeat tasks, hide an error, keep an old number, be disturbed by what is alive."""
    data = images(size, device)
    method, tasks = make("CxGrad", size).to(device), TaskSampler(data, 5, 2, 3, 2, seed=7)
    run = Run(method, tasks, TrainConfig(10**6, engine="graph", progress=False))
    alive = method(*tasks.sample()[0])  # a loss somebody keeps: its graph holds nodes of the default stream
    tasks.load_state_dict(TaskSampler(data, 5, 2, 3, 2, seed=7).state_dict())
    captured = Captured(run)
    yield "captured while a loss is alive", captured.ready() is captured, float(alive.detach())
    other, same, finite = TaskSampler(data, 5, 2, 3, 2, seed=7), 0, True
    for _ in range(50):
        for tensor in captured.results[1:3]:
            tensor.fill_(torch.nan)  # a replay must write every result
        episodes, losses, accuracies, _ = captured()
        finite &= bool(torch.stack([losses, accuracies]).isfinite().all())
        drawn = [part[0][0] for part in (episodes[0], other.sample()[0])]
        same += torch.equal(*drawn)
    yield "50 replays draw what 50 eager samples draw", same == 50, same
    yield "replays write their results", finite, float(finite)
    key, graph = captured.key, captured.graph
    method.inner_lr = 0.02
    captured.ready()
    yield "a moved slider captures anew", captured.key != key and captured.graph is not graph, method.inner_lr
    method.inner_lr = float("inf")
    yield "an infinite loss is named", raises(lambda: next(meta_steps(run)), "not finite"), 1.0
    yield "tasks drawn on the host fall back", falls_back(data, size, device), 1.0
    method = make("CxGrad", size).to(device)
    accuracies = [evaluate(method, tasks, 20).per_task, evaluate(method, Eager(data, 5, 2, 3, 2, seed=7), 20).per_task]
    far = float((accuracies[0] - accuracies[1]).abs().max())
    yield "evaluation: graph against eager", far < 0.1, far


class Eager(TaskSampler):
    """Tasks for which no graph is captured."""

    capturable = False  # type: ignore[assignment]


def raises(action: Callable[[], object], words: str) -> bool:
    try:
        action()
    except FloatingPointError as error:
        return words in str(error)
    return False


def falls_back(data: ImageClasses, size: int, device: str) -> bool:
    """Whether a training with such tasks is eager, with a warning."""
    tasks = HostTasks(data, 5, 2, 3, tasks_per_batch=3, seed=7)
    run = Run(make("MAML", size).to(device), tasks, TrainConfig(2, progress=False, engine="eager"))
    run.config = replace(run.config, engine="graph")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        losses = [history.loss[-1] for history in meta_steps(run)]
    return len(losses) == 2 and any("runs eagerly" in str(warning.message) for warning in seen)


def agree(size: int, device: str) -> Iterator[Check]:
    yield from gradients(size, device)
    yield from engines(size, device)
    yield from graphs(size, device)
