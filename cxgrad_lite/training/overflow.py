"""Losses and meta-gradients that are not finite end a run before they destroy the parameters, and say where."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.maml import MAML
from ..core.method import Method
from ..core.outer import Episode
from .parallel import share

ADVICE = "a smaller inner_lr or meta_lr, or clip_value=10, usually helps"


def all_finite(method: Method) -> Tensor:
    """() whether every entry of the meta-gradient is finite."""
    return torch.stack([p.grad.isfinite().all() for p in method.parameters() if p.grad is not None]).all()


def check_losses(method: Method, episodes: Sequence[Episode], losses: Tensor, iteration: int) -> None:
    """Raises FloatingPointError naming the first task of this process whose loss, one of (tasks,), is not finite."""
    for (number, episode), loss in zip(share(enumerate(episodes, 1)), losses.tolist(), strict=True):
        if not math.isfinite(loss):
            where = f"meta-iteration {iteration}, task {number} of {len(episodes)}"
            raise FloatingPointError(f"{where}: {describe_overflow(method, episode)}")


def check_gradient(method: Method, finite: Tensor, iteration: int) -> None:
    """Raises FloatingPointError naming the first parameter whose meta-gradient is not ``finite``."""
    if finite:
        return
    grads = [(name, p.grad) for name, p in method.named_parameters() if p.grad is not None]
    name = next((name for name, grad in grads if not grad.isfinite().all()), "a parameter")  # a graph has clipped it
    raise FloatingPointError(f"meta-iteration {iteration}: the meta-gradient of {name} is not finite; {ADVICE}")


def describe_overflow(method: Method, episode: Episode) -> str:
    """Which loss turned non-finite first, and what to do."""
    steps = []
    if isinstance(method, MAML):
        with torch.no_grad():
            _, trace = method.adapt(episode[0], trace=True)
        steps = [k for k, step in enumerate(trace, 1) if not step.loss.isfinite()]
    where = f"the support loss is not finite in inner step {steps[0]}" if steps else "the query loss is not finite"
    return f"{where}; {ADVICE}"
