"""What all thirteen methods have in common: adapt to a support set, then classify query images.

``theta`` is a dict of the tensors that belong to one task; everything else in the network is shared by all tasks.
Nothing is kept on ``self`` during adaptation: theta goes in, theta comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .nets import Conv4

Theta = dict[str, Tensor]  # what belongs to one task, by name
Batch = tuple[Tensor, Tensor]  # (images, labels): (n, C, H, W), (n,)


class Method(nn.Module):
    """A way to learn from a support set; the base of gradient-based and of metric methods.

    A method says what `adapt` finds in the support set and how `logits` uses it. The rest follows.
    """

    def __init__(self, net: Conv4) -> None:
        super().__init__()
        self.net = net

    def adapt(self, support: Batch) -> Theta:
        """What is learned from the support set of one task."""
        raise NotImplementedError(f"{type(self).__name__} must say how it adapts")

    def logits(self, theta: Theta, images: Tensor) -> Tensor:
        """(n, C, H, W) images to (n, ways) scores; the largest is the answer."""
        raise NotImplementedError(f"{type(self).__name__} must say how it classifies")

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """() loss of logits (n, ways) for labels (n,)."""
        return F.cross_entropy(logits, labels)

    def loss(self, theta: Theta, batch: Batch) -> Tensor:
        """() loss on a batch."""
        images, labels = batch
        return self.criterion(self.logits(theta, images), labels)

    def outer(self, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
        """() loss that the outer loop descends, and (n, ways) query logits after adaptation."""
        logits = self.logits(self.adapt(support), query[0])
        return self.criterion(logits, query[1]), logits

    def forward(self, support: Batch, query: Batch) -> Tensor:
        """() loss that the outer loop descends, differentiable to every meta-parameter."""
        return self.outer(support, query)[0]

    def begin_iteration(self, iteration: int) -> None:
        """The training loop says which meta-iteration follows, counted from 0. Only schedules need it."""


def fast(theta: Theta) -> Theta:
    """The same tensors, in a form that a gradient can be taken of."""
    return {name: t if t.requires_grad else t.detach().requires_grad_() for name, t in theta.items()}


def detached(theta: Theta) -> Theta:
    return {name: t.detach() for name, t in theta.items()}


def norms(theta: Theta) -> dict[str, float]:
    """Euclidean (for matrices and kernels: Frobenius) norm of each tensor."""
    return {name: t.norm().item() for name, t in theta.items()}


def is_capturing(tensor: Tensor) -> bool:
    """Whether a CUDA graph is being captured, in which nobody may look at values."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


@dataclass(frozen=True)
class StepTrace:
    """What was seen in one inner step. All tensors are detached; norms are computed when asked for.

    Attributes:
        loss: () support loss at the fast tensors ``before``.
        before: fast tensors at which the gradient was taken (for CxGrad: after scaling).
        grads: gradient of the loss with respect to each of them.
        after: fast tensors after the step.
        scaling: (blocks,) CxGrad's γ of this step, else None.
        context: (context_dim,) context after this step's update (CAVIA, ModGrad, CxGrad), else None.
    """

    loss: Tensor
    before: Theta
    grads: Theta
    after: Theta
    scaling: Tensor | None = None
    context: Tensor | None = None

    @property
    def weight_norms(self) -> dict[str, float]:
        return norms(self.before)

    @property
    def grad_norms(self) -> dict[str, float]:
        return norms(self.grads)

    @property
    def update_norms(self) -> dict[str, float]:
        return norms({name: self.after[name] - t for name, t in self.before.items()})
