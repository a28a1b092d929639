"""What the outer loop works on: episodes, where they come from, and the meta-gradient of a meta-batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from .method import Batch

Episode = tuple[Batch, Batch]  # (support, query)


class Tasks(Protocol):
    """What training and evaluation need of a source of episodes; `data_utils.TaskSampler` has it."""

    def sample(self) -> list[Episode]:
        """The next meta-batch."""
        ...

    def episodes(self, count: int) -> Iterator[Episode]:
        """Always the same ``count`` episodes."""
        ...


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """() share of the images whose largest logit is their label's."""
    return (logits.argmax(-1) == labels).float().mean()
