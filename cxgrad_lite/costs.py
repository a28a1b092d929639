"""What a meta-step costs: operations and time by kind, and what is kept in memory for the meta-gradient."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .core.method import Method
from .core.outer import Episode, meta_gradient
from .training.engines import device_of

KINDS = {"convolution": ("conv",), "batch norm": ("batch_norm",), "pooling": ("pool",)}
REST = "all the rest"


class Cost(NamedTuple):
    """``calls`` of operations and the ``seconds`` spent in them, not counting what they call in turn."""

    calls: int
    seconds: float


def operations(method: Method, episodes: Sequence[Episode]) -> dict[str, Cost]:
    """Calls and seconds of each kind of operation in one meta-gradient, on the device of the method.

    Batch norm's second derivative is made of elementary operations; they are among "all the rest".
    """
    on_gpu = device_of(method).type == "cuda"
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silence Kineto's log, which would appear in notebooks
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    meta_gradient(method, list(episodes))  # the first one is slower
    with profile(activities=activities) as profiler:
        meta_gradient(method, list(episodes))
    method.zero_grad()
    costs = dict.fromkeys([*KINDS, REST], Cost(0, 0.0))
    for event in profiler.key_averages():
        if event.key.startswith("aten::"):
            kind = next((kind for kind, parts in KINDS.items() if any(p in event.key for p in parts)), REST)
            old = costs[kind]
            costs[kind] = Cost(old.calls + event.count, old.seconds + own_seconds(event, on_gpu))
    return costs


def own_seconds(event: Any, on_gpu: bool) -> float:
    """Time of an operation without what it calls; the profiler's name for the GPU's time has changed."""
    names = ("self_device_time_total", "self_cuda_time_total") if on_gpu else ("self_cpu_time_total",)
    microseconds: float = next(getattr(event, name) for name in names if hasattr(event, name))
    return microseconds / 1e6


class Kept:
    """A tensor that autograd holds on to; it lives as long as the graph does."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # or it would hold its own graph alive


def kept_bytes(method: Method, episode: Episode) -> int:
    """Bytes that one task keeps from its inner loop and query loss until the meta-gradient is taken.

    Counted are the different blocks of memory that autograd holds on to, without parameters and images.
    """
    support, query = episode
    given = {t.untyped_storage().data_ptr() for t in (*method.parameters(), support[0], query[0])}
    held: weakref.WeakSet[Kept] = weakref.WeakSet()

    def hold(tensor: Tensor) -> Kept:
        kept = Kept(tensor)
        held.add(kept)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda kept: kept.tensor):
        loss = method(support, query)
        blocks = {kept.tensor.untyped_storage().data_ptr(): kept.tensor.untyped_storage().nbytes() for kept in held}
        del loss
    return sum(size for pointer, size in blocks.items() if pointer not in given)
