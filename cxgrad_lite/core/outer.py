"""The outer loop. Stripped of everything that a long run needs besides, all of meta-training is

    optimiser = torch.optim.Adam(method.parameters(), lr=1e-3)
    for iteration in range(iterations):
        method.begin_iteration(iteration)
        optimiser.zero_grad()
        meta_gradient(method, tasks.sample())
        clip(method.parameters(), norm=10)
        optimiser.step()

`training.loop.meta_steps` is this loop with engines, several processes and a history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from .method import Batch, Method

Episode = tuple[Batch, Batch]  # (support, query)


class Tasks(Protocol):
    """What training and evaluation need of a source of episodes; `data_utils.TaskSampler` has it."""

    def sample(self) -> list[Episode]:
        """The next meta-batch."""
        ...

    def episodes(self, count: int) -> Iterator[Episode]:
        """Always the same ``count`` episodes."""
        ...


def check_tasks(tasks: object, needs: str) -> None:
    """Raises TypeError where a data set, or anything else without the method ``needs``, is given as tasks."""
    if not callable(getattr(tasks, needs, None)):
        raise TypeError(
            f"tasks must have {needs}(), as a TaskSampler has, but {type(tasks).__name__} has none; of a torch Dataset "
            "make TaskSampler(data_utils.from_dataset(dataset), ways=5, shots=1)"
        )


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """() share of the images whose largest logit is their label's."""
    return (logits.argmax(-1) == labels).float().mean()


def meta_gradient(method: Method, episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
    """Add the gradient of the mean query loss to the parameters' ``.grad``.

    One task follows the other, and the graph of a task is freed before the next begins: memory does not grow with
    their number.

    Returns:
        (tasks,) query loss and (tasks,) query accuracy after adaptation.
    """
    losses, accuracies = [], []
    for support, query in episodes:
        loss, logits = method.outer(support, query)  # adapt to the support set, then the loss of the query set
        (loss / len(episodes)).backward()
        losses.append(loss.detach())
        accuracies.append(accuracy(logits.detach(), query[1]))
    return torch.stack(losses), torch.stack(accuracies)


def clip(parameters: Iterable[nn.Parameter], value: float | None = None, norm: float | None = None) -> None:
    """Clamp each entry of the meta-gradient to ± ``value``, then scale all of it to a norm of at most ``norm``."""
    parameters = list(parameters)
    if value is not None:
        nn.utils.clip_grad_value_(parameters, value)
    if norm is not None:
        nn.utils.clip_grad_norm_(parameters, norm)
