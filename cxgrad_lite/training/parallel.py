"""One meta-batch, several processes or threads: each does some of its tasks, and their gradients are added.

Without ``torch.distributed`` (or before it is initialised) every function does what a single process needs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from tqdm.auto import tqdm

from ..core.method import Method
from ..core.nets import Conv4
from ..core.outer import Episode, accuracy, meta_gradient
from ..core.stateless import with_tensors
from ..zoo.registry import METHODS
from .fused import has_hooks
from .machine import Dispensable, release_pool

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Part = tuple[Sequence[Tensor | None], Tensor, Tensor]
SMALL = 2**20  # numbers in the images of a task; a larger one fills all cores by itself, and its graph takes gigabytes


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


class TaskThreads:
    """Small tasks side by side on a CPU, each in a thread with its share of torch's threads.

    An operation on a small tensor gains little from a second core, and two programs whose operations both want all
    cores wait for each other. A task in one thread does neither: at 28 pixels two of them make 1.4 times as many
    meta-iterations on two cores.

    Only the methods of this package on its own network, with no hooks: others may draw random numbers, or keep notes of
    what they see, in the order of the tasks.

    Args:
        methods: what the tasks are given to.
        precision: of the arithmetic; autocast holds in one thread only.
    """

    def __init__(self, methods: Sequence[Method], precision: str) -> None:
        known = all(type(m) in METHODS.values() and type(m.net) is Conv4 for m in methods)
        known = known and not any(has_hooks(module) for m in methods for module in m.modules())
        on_cpu = all(p.device.type == "cpu" for m in methods for p in m.parameters())
        self.most = torch.get_num_threads() if known and on_cpu and precision != "bf16" else 1
        self.pool: ThreadPoolExecutor | None = None

    def at_once(self, episodes: Sequence[Episode]) -> int:
        """How many of these tasks to compute at a time."""
        small = all(numbers(support[0]) + numbers(query[0]) <= SMALL for support, query in episodes)
        return min(self.most, torch.get_num_threads(), len(episodes)) if small else 1

    def map(self, function: Callable[[Episode], Outcome], episodes: Sequence[Episode]) -> list[Outcome]:
        """The outcome for each task, in their order."""
        workers, threads = self.at_once(episodes), torch.get_num_threads()
        if workers < 2:
            return [function(episode) for episode in episodes]
        each = threads // workers

        def job(episode: Episode) -> Outcome:
            if torch.get_num_threads() != each:
                torch.set_num_threads(each)
            return function(episode)

        release_pool()  # the caller's threads, which would wait for its next operation at the cost of these
        self.pool = self.pool or ThreadPoolExecutor(self.most, thread_name_prefix="task")
        jobs = [self.pool.submit(copy_context().run, job, episode) for episode in episodes]
        try:
            return [job.result() for job in jobs]
        finally:
            torch.set_num_threads(threads)  # a thread's number is also that of all threads that begin after it

    def over(self, function: Callable[[Episode], Outcome], episodes: Iterable[Episode]) -> Iterator[Outcome]:
        """`map` for many tasks, of which only those at work are in memory."""
        rest = iter(episodes)
        while some := list(islice(rest, self.most)):
            yield from self.map(function, some)

    def meta_gradient(self, method: Method, episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
        """As `core.outer.meta_gradient`, side by side where that is faster."""
        if self.at_once(episodes) < 2:
            return meta_gradient(method, episodes)
        return add_up(method, self.map(lambda episode: task_gradient(method, episode, len(episodes)), episodes))


def numbers(images: object) -> float:
    """How many numbers there are; of what is no tensor, infinitely many, so that it meets its error in its turn."""
    return images.numel() if isinstance(images, Tensor) else math.inf


def task_gradient(method: Method, episode: Episode, tasks: int) -> Part:
    """A task's part of `core.outer.meta_gradient`: the gradient of its loss over ``tasks``, the loss, the accuracy.

    It differentiates parameters of its own, which share the memory of the method's, so that tasks can be computed side
    by side.
    """
    support, query = episode
    own = {name: p.detach().requires_grad_() for name, p in method.named_parameters() if p.requires_grad}
    loss, logits = with_tensors(method, own).outer(support, query)
    gradient = torch.autograd.grad(loss / tasks, list(own.values()), allow_unused=True)
    return gradient, loss.detach(), accuracy(logits.detach(), query[1])


def add_up(method: Method, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """Add the gradients to the parameters' ``.grad``, in the tasks' order; (tasks,) losses and (tasks,) accuracies."""
    gradients, losses, accuracies = zip(*parts)
    parameters = [p for p in method.parameters() if p.requires_grad]
    for gradient in gradients:
        for parameter, grad in zip(parameters, gradient, strict=True):
            if grad is not None:
                parameter.grad = grad.contiguous() if parameter.grad is None else parameter.grad + grad
    return torch.stack(losses), torch.stack(accuracies)
