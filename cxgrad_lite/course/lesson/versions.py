"""The code that readers write in notebooks 01 and 02, as the course would write it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from data_utils import ImageClasses

from ...core.method import Batch, Theta
from ...core.outer import Episode


def draw_task(data: ImageClasses, ways: int, shots: int, queries: int, generator: torch.Generator) -> Episode:
    classes = torch.randperm(len(data.names), generator=generator)[:ways]
    support, query = [], []
    for c in classes:
        images = data.of_class(data.names[c]).float() / 255
        order = torch.randperm(len(images), generator=generator)
        support.append(images[order[:shots]])
        query.append(images[order[shots : shots + queries]])
    labels = torch.arange(ways)
    return (
        (torch.cat(support), labels.repeat_interleave(shots)),
        (torch.cat(query), labels.repeat_interleave(queries)),
    )


def block(inputs: int, filters: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, filters, kernel_size=3, padding=1, bias=False),
            norm=nn.BatchNorm2d(filters, track_running_stats=False),
            pool=nn.MaxPool2d(2),
            activation=nn.LeakyReLU(0.01),
        )
    )


class Conv4(nn.Module):
    def __init__(self, channels: int, size: int, ways: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(block(channels, width), *[block(width, width) for _ in range(3)])
        self.head = nn.Linear(width * (size // 16) ** 2, ways)
        for weight in [w for w in self.parameters() if w.ndim > 1]:
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(images).flatten(1))


def inner_loop(net: nn.Module, support: Batch, alpha: float, steps: int, second_order: bool = True) -> Theta:
    theta: Theta = dict(net.named_parameters())
    for _ in range(steps):
        loss = F.cross_entropy(functional_call(net, theta, (support[0],)), support[1])
        grads = torch.autograd.grad(loss, list(theta.values()), create_graph=second_order)
        theta = {name: w - alpha * g for (name, w), g in zip(theta.items(), grads)}
    return theta


def query_loss(
    net: nn.Module, support: Batch, query: Batch, alpha: float, steps: int, second_order: bool = True
) -> tuple[Tensor, Tensor]:
    theta = inner_loop(net, support, alpha, steps, second_order)
    logits = functional_call(net, theta, (query[0],))
    return F.cross_entropy(logits, query[1]), logits


def meta_step(
    net: nn.Module, optimiser: torch.optim.Optimizer, episodes: Sequence[Episode], alpha: float = 0.1, steps: int = 5
) -> tuple[float, float]:
    optimiser.zero_grad()
    losses, right = [], []
    for support, query in episodes:
        loss, logits = query_loss(net, support, query, alpha, steps)
        (loss / len(episodes)).backward()
        losses.append(loss.item())
        right.append((logits.argmax(1) == query[1]).float().mean().item())
    optimiser.step()
    return sum(losses) / len(losses), sum(right) / len(right)
