"""Several processes, one meta-batch: each does some of its tasks, and their gradients are averaged.

Without ``torch.distributed`` (or before it is initialised) every function does what a single process needs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from tqdm.auto import tqdm

from .machine import Dispensable

Item = TypeVar("Item")


def is_parallel() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Number of this process; 0 is the one that writes."""
    return distributed.get_rank() if is_parallel() else 0


def world_size() -> int:
    return distributed.get_world_size() if is_parallel() else 1


def share(items: Iterable[Item]) -> Iterator[Item]:
    """This process's part of the items: every n-th."""
    return islice(items, rank(), None, world_size())


def progress_bar(wanted: bool, *arguments: Any, **options: Any) -> Any:
    """tqdm's bar, if it is wanted and this process is the one that writes, on a stream that may fail."""
    return tqdm(*arguments, **options, disable=not wanted or rank() > 0, file=Dispensable(sys.stderr))


def total(numbers: Tensor) -> Tensor:
    """The sum over processes, entry by entry; the same in all of them."""
    if is_parallel():
        distributed.all_reduce(numbers)
    return numbers


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process, so that all act alike."""
    return bool(total(torch.tensor(float(flag)))) if is_parallel() else flag


def average_gradients(parameters: Iterable[nn.Parameter], weight: float) -> None:
    """Replace every ``.grad`` by its sum over processes, each multiplied by the process's ``weight``."""
    if not is_parallel():
        return
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = total(weight * torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    for parameter, grad in zip(parameters, flat.split([p.numel() for p in parameters])):
        parameter.grad = grad.view_as(parameter)


def check_split(tasks: Sequence[object]) -> None:
    """Raises ValueError where a process would have nothing to do."""
    if len(tasks) < world_size():
        raise ValueError(f"a meta-batch of {len(tasks)} tasks cannot be split over {world_size()} processes")
