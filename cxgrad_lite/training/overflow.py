"""Losses and meta-gradients that are not finite end a run before they destroy the parameters, and say where."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..core.maml import MAML
from ..core.method import Method
from ..core.outer import Episode
from .parallel import share

ADVICE = "a smaller inner_lr or meta_lr, or clip_value=10, usually helps"


@contextmanager
def in_iteration(number: int) -> Iterator[None]:
    """Say in which meta-iteration it was that something was not finite."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"meta-iteration {number}, {error}") from None


def finite_gradients(method: Method) -> Tensor:
    """(parameters with a gradient,) whether all entries of their meta-gradients are finite; before any clipping."""
    return torch.stack([p.grad.isfinite().all() for p in method.parameters() if p.grad is not None])


def look(*tensors: Tensor) -> list[list[float]]:
    """Their numbers, from one look at the device; each look waits until it has computed all that was asked of it."""
    numbers = torch.cat([tensor.double() for tensor in tensors]).tolist()
    return [[numbers.pop(0) for _ in tensor] for tensor in tensors]


def check_losses(method: Method, episodes: Sequence[Episode], losses: Sequence[float]) -> None:
    """Raises FloatingPointError naming the first task of this process whose loss is not finite."""
    for (number, episode), loss in zip(share(enumerate(episodes, 1)), losses, strict=True):
        if not math.isfinite(loss):
            raise FloatingPointError(f"task {number} of {len(episodes)}: {describe_overflow(method, episode)}")


def check_gradients(method: Method, finite: Sequence[float]) -> None:
    """Raises FloatingPointError naming the first parameter whose meta-gradient is not ``finite``."""
    names = [name for name, p in method.named_parameters() if p.grad is not None]
    for name, good in zip(names, finite, strict=True):
        if not good:
            raise FloatingPointError(f"the meta-gradient of {name} is not finite; {ADVICE}")


def describe_overflow(method: Method, episode: Episode) -> str:
    """Which loss turned non-finite first, and what to do."""
    steps = []
    if isinstance(method, MAML):
        with torch.no_grad():
            _, trace = method.adapt(episode[0], trace=True)
        steps = [k for k, step in enumerate(trace, 1) if not step.loss.isfinite()]
    where = f"the support loss is not finite in inner step {steps[0]}" if steps else "the query loss is not finite"
    return f"{where}; {ADVICE}"
