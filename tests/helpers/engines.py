"""A small method of each kind, a watcher for looks at values, and a stand-in for a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cxgrad_lite import METHODS, Conv4, Method, TrainConfig
from cxgrad_lite.recipes.recipe import has_inner_rate
from cxgrad_lite.training.state import Run
from data_utils import TaskSampler


def make(name: str, device: str = "cpu", **changes: object) -> Method:
    torch.manual_seed(0)
    options = {"inner_lr": 0.05, "inner_steps": 2} if has_inner_rate(name) else {}
    net = Conv4(1, 16, 3, width=8, poolings=2 if name == "RelationNet" else 4)
    return METHODS[name](net, **options | changes).to(device)


def new_run(method: Method, tasks: TaskSampler, config: TrainConfig) -> Run:
    run = Run(method, tasks, config)
    for group in run.optimiser.param_groups:
        group["fused"] = True  # as on a GPU: this Adam can leave a step out without looking
    return run


class HostLooks(TorchDispatchMode):
    """Lists the operations that a CUDA graph cannot hold: those that bring a value to the host, or one from it."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "lift_fresh", "is_nonzero", "equal", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.__name__.split(".")[0]
        if name.startswith(self.FORBIDDEN):
            self.seen.append(name)
        return func(*args, **kwargs or {})


class FakeGraph:
    """What would be captured, run again at each replay; ``first``: with the first meta-batch, as a graph repeats it."""

    def __init__(self, function: Callable[[], tuple[Any, ...]], tasks: TaskSampler | None = None) -> None:
        self.function, self.tasks, self.results = function, tasks, list[Any]()

    def replay(self) -> None:
        if self.tasks is not None:
            first = self.__dict__.setdefault("first", self.tasks.sample())
            self.tasks.sample = lambda: first  # type: ignore[method-assign]
        self.results[:] = self.function()
        if self.tasks is not None:
            del self.tasks.sample


def fake_capture(function: Callable[[], Any], device: object, generator: object = None) -> tuple[FakeGraph, list[Any]]:
    graph = FakeGraph(function)
    return graph, graph.results
