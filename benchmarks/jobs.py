"""What is timed: the task and the network of a benchmark, and the job of one of its processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import torch

from cxgrad_lite import MAML, Conv4, CxGrad
from cxgrad_lite.core import Episode


@dataclass(frozen=True)
class Case:
    """What is computed."""

    channels: int = 1
    size: int = 28  # pixels
    width: int = 32  # filters
    ways: int = 5
    shots: int = 5
    queries: int = 15
    steps: int = 5
    tasks: int = 2
    method: str = "MAML"  # or "CxGrad"
    inner_lr: float = 0.01

    def meta_batch(self, device: str) -> list[Episode]:
        """The same episodes in every process: each class is a pattern, its images differ by noise."""
        generator = torch.Generator().manual_seed(0)

        def images(patterns: torch.Tensor, count: int) -> torch.Tensor:
            shown = patterns.repeat_interleave(count, 0)  # (ways · count, channels, size, size)
            return (0.5 * shown + 0.5 * torch.rand(shown.shape, generator=generator)).to(device)

        episodes: list[Episode] = []
        for _ in range(self.tasks):
            patterns = torch.rand(self.ways, self.channels, self.size, self.size, generator=generator)
            support, query = images(patterns, self.shots), images(patterns, self.queries)
            labels = torch.arange(self.ways, device=device)
            first, second = labels.repeat_interleave(self.shots), labels.repeat_interleave(self.queries)
            episodes.append(((support, first), (query, second)))
        return episodes

    def build(self, device: str) -> MAML:
        """The method with the same initial weights in every process."""
        torch.manual_seed(0)
        net = Conv4(self.channels, self.size, self.ways, self.width)
        method = (CxGrad if self.method == "CxGrad" else MAML)(net, self.inner_lr, self.steps)
        return method.to(device)


@dataclass(frozen=True)
class Job:
    """What one process does."""

    case: Case
    contender: str
    iterations: int = 1  # timed, after one that warms up
    threads: int = 1
    device: str = "cpu"
    float64: bool = False
    authors: str = ""  # folder of their checkout, for the contender of that name

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Job:
        fields = json.loads(text)
        return cls(**fields | {"case": Case(**fields["case"])})
